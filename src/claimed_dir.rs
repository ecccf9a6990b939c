//! Directories of caches, each marked by a file. One that a user names and that holds files of somebody else is never taken.

use std::{
    fs,
    io::{Error, ErrorKind, Result},
    path::Path,
};

/// What the file says that marks a directory.
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
    let path = dir.join(mark);
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    // Whoever claims a user's directory marks it before anything else is in it.
    let holds_files = fs::read_dir(dir)?.next().is_some();
    if owner == Owner::User && holds_files && !path.exists() {
        let reason = format!("it holds files, but no `{mark}`, which marks a directory of this kind of cache");
        return Err(Error::new(ErrorKind::AlreadyExists, reason));
    }
    fs::write(path, NOTICE)
}
