//! Directories that a user names for a cache. One that holds files of somebody else is never taken.
//! What a cache keeps in its directory is the cache's.

use std::{
    fs,
    io::{Error, ErrorKind, Result},
    path::Path,
};

/// The file that marks a directory as one of this library's caches, and what it says.
const MARK: &str = "asof-cache";
const NOTICE: &str = "A cache of asof. What it holds can be rebuilt. Delete the directory only while no process uses it.\n";

/// Whose a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Its name is this library's: whatever it holds is a cache.
    Store,
    /// A user named it: it may hold other files, and these must stay.
    User,
}

/// Makes the directory and marks it. Several processes may do so at once.
///
/// # Errors
/// For an empty path, for a user's directory that holds files and no mark, and for one that cannot be made, listed or written.
pub(crate) fn claim(dir: &Path, owner: Owner) -> Result<()> {
    if dir.as_os_str().is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, "its path is empty"));
    }
    let mark = dir.join(MARK);
    if mark.exists() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    // Whoever marks the directory does so before anything else is in it.
    let holds_files = fs::read_dir(dir)?.next().is_some();
    if owner == Owner::User && holds_files && !mark.exists() {
        let reason = format!("it holds files, but no `{MARK}`, which marks a directory of a cache");
        return Err(Error::new(ErrorKind::AlreadyExists, reason));
    }
    fs::write(mark, NOTICE)
}
