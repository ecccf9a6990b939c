//! Directories of caches, each marked by a file. One that a user names and that holds files of somebody else is never taken.

use std::{
    fs::{self, File},
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
    fs::create_dir_all(dir)?;
    // Whoever claims a user's directory marks it before anything else is in it.
    let holds_files = fs::read_dir(dir)?.next().is_some();
    if owner == Owner::User && holds_files && !is_marked(dir, mark) {
        let reason = format!("it holds files, but no `{mark}`, which marks a directory of this kind of cache");
        return Err(Error::new(ErrorKind::AlreadyExists, reason));
    }
    let path = dir.join(mark);
    match File::create_new(&path) {
        Ok(mut file) => file.write_all(NOTICE.as_bytes())?,
        Err(_) if is_marked(dir, mark) => return Ok(()),
        Err(cause) => return Err(cause),
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
