//! Directories of caches, each marked by a file. One that a user names and that holds files of somebody else is never taken.

use std::{
    fs::{self, File, TryLockError},
    io::{Error, ErrorKind, Result, Write},
    path::Path,
};

/// The file that marks a directory of the online cache.
pub(crate) const ONLINE: &str = "asof-online-cache";
/// The file that marks a directory of the disk cache.
pub(crate) const DISK: &str = "asof-disk-cache";
/// What a mark says.
const NOTICE: &str = "A cache of asof. All that it holds can be rebuilt.\n";

/// Whose a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The library's, by its name or because it was claimed before: whatever it holds is a cache.
    Store,
    /// A user named it: it may hold other files, and these must stay.
    User,
}

/// Makes the directory and marks it with a file of this name, which tells one kind of cache from another. Several processes may do
/// so at once.
///
/// # Errors
/// For an empty path, for a user's directory that holds files and no mark, and for one that cannot be made, listed or written.
pub(crate) fn claim(dir: &Path, mark: &str, owner: Owner) -> Result<()> {
    if dir.as_os_str().is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, "its path is empty"));
    }
    if is_marked(dir, mark) {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(|cause| match cause.kind() {
        ErrorKind::AlreadyExists => Error::new(ErrorKind::NotADirectory, "something that is no directory is there"),
        _ => cause,
    })?;
    // Whoever claims a user's directory marks it before anything else is in it.
    let holds_files = fs::read_dir(dir).map_err(|cause| named(dir, &cause))?.next().is_some();
    if owner == Owner::User && holds_files && !is_marked(dir, mark) {
        let reason = format!("it holds files, but no `{mark}`, which marks a directory of this kind of cache");
        return Err(Error::new(ErrorKind::AlreadyExists, reason));
    }
    let path = dir.join(mark);
    match File::create_new(&path) {
        Ok(mut file) => file.write_all(NOTICE.as_bytes())?,
        Err(_) if is_marked(dir, mark) => return Ok(()),
        Err(cause) => return Err(named(&path, &cause)),
    }
    // Two kinds may have found it empty at once. Each sees the mark of the other, and at most one of them stays.
    if owner == Owner::User && [ONLINE, DISK].iter().any(|other| *other != mark && is_marked(dir, other)) {
        fs::remove_file(path)?;
        return Err(Error::new(ErrorKind::AlreadyExists, "another kind of cache was opened there at the same time"));
    }
    Ok(())
}

/// Whether the directory has this mark: a regular file, no longer than what it says. Its bytes may be damaged like any of a cache,
/// or another process may still be writing them.
pub(crate) fn is_marked(dir: &Path, mark: &str) -> bool {
    fs::symlink_metadata(dir.join(mark)).is_ok_and(|found| found.is_file() && found.len() <= NOTICE.len() as u64)
}

/// Locks a claimed directory for this process, until the file is dropped. `None` if another has it.
///
/// The lock is on the mark, so it goes where the directory is renamed to, and a new directory under the old name has a lock of its
/// own.
///
/// # Errors
/// For a mark that cannot be opened or locked.
pub(crate) fn lock(dir: &Path, mark: &str) -> Result<Option<File>> {
    let path = dir.join(mark);
    let file = match File::open(&path) {
        Ok(file) => file,
        // Whoever renames the directory has it.
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(named(&path, &cause)),
    };
    match file.try_lock() {
        // It may have been renamed before it was locked.
        Ok(()) => Ok(is_at(&file, &path).then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(cause)) => Err(cause),
    }
}

/// The error with the path that it is about.
fn named(path: &Path, cause: &Error) -> Error {
    Error::new(cause.kind(), format!("`{}`: {cause}", path.display()))
}

/// Whether the file is the one under this path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |found: fs::Metadata| (found.dev(), found.ino());
    file.metadata().ok().map(place) == fs::metadata(path).ok().map(place)
}

/// Elsewhere a directory with an open file is not renamed.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}
