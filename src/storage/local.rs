//! Durable writes to this machine's disk: the object store's own client for it does not sync.
//! Publishing has the same semantics as on any other store, and survives a power failure.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    path::Path,
};

use super::{Published, staging::stage};
use crate::error::{Error, Result};

/// Writes a file under a name that does not exist yet: it is written and synced under another name, and then linked.
pub(super) fn put_if_absent(path: &Path, bytes: &[u8]) -> Result<Published> {
    write(path, &mut &*bytes, |staged| match fs::hard_link(staged, path) {
        Ok(()) => Ok(Published::New),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(Published::Existed),
        Err(e) => Err(e),
    })
}

/// Writes a file that replaces one of its name: it is written and synced under another name, and then renamed.
pub(super) fn put(path: &Path, content: &mut impl Read) -> Result<()> {
    write(path, content, |staged| fs::rename(staged, path))
}

fn write<T>(path: &Path, content: &mut impl Read, publish: impl FnOnce(&Path) -> std::io::Result<T>) -> Result<T> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let written = make_folder(folder).and_then(|()| {
        let (mut file, staged) = stage(path)?;
        let written = std::io::copy(content, &mut file).and_then(|_| {
            file.flush()?;
            file.sync_all()
        });
        let published = written.and_then(|()| publish(&staged));
        // After a rename there is nothing to remove; after a link the first name is no longer needed.
        let _ = fs::remove_file(&staged);
        published.and_then(|published| sync_folder(folder).map(|()| published))
    });
    written.map_err(|cause| Error::Io { path: path.into(), cause })
}

/// Makes a folder and its parents, and syncs each to its parent.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => folder.parent().map_or(Ok(()), sync_folder),
        Err(_) if folder.is_dir() => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => match folder.parent() {
            Some(parent) => {
                make_folder(parent)?;
                match fs::create_dir(folder) {
                    // Another writer was faster.
                    Err(e) if e.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
                    made => made.and_then(|()| sync_folder(parent)),
                }
            }
            None => Err(e),
        },
        Err(e) => Err(e),
    }
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    // Only Unix can open folders as files; elsewhere this is left to the file system.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staging_name_that_a_crash_left_as_a_second_link_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/folder/v1.json");
        assert_eq!(put_if_absent(&path, b"first").unwrap(), Published::New);
        // Killed between the link and the removal: every staging name of a number is a link to what was published.
        for number in 0..2_000 {
            let name = format!("{}#{}{number:06}", path.display(), std::process::id());
            fs::hard_link(&path, name).unwrap();
        }
        assert_eq!(put_if_absent(&path, b"other").unwrap(), Published::Existed);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        put(&path, &mut &b"second"[..]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
    }

    #[test]
    fn a_write_that_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("taken")).unwrap();
        assert!(put(&dir.path().join("taken"), &mut &b"x"[..]).is_err());
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["taken"]);
        fs::write(dir.path().join("file"), "x").unwrap();
        assert!(put_if_absent(&dir.path().join("file/below"), b"x").is_err());
    }
}
