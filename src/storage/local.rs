//! Durable writes on this machine's disk, where the object store's client stops at the page cache.
//! It adds no semantics: what is published here is published just as on any other store, and survives a power cut too.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::Published;
use crate::error::{Error, Result};

static ATTEMPTS: AtomicU64 = AtomicU64::new(0);

/// Writes a file under a name that does not exist yet: written and synced under another name first, then linked.
pub(super) fn put_if_absent(path: &Path, bytes: &[u8]) -> Result<Published> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let failed = |source| Error::Io { path: path.into(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    // Listings pass over names that end in `#` and digits: a file that was never published is no file.
    let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    let staged = PathBuf::from(format!("{}#{}{attempt:06}", path.display(), std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&staged)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    let published = write().and_then(|()| match fs::hard_link(&staged, path) {
        Ok(()) => Ok(Published::New),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(Published::Existed),
        Err(e) => Err(e),
    });
    let _ = fs::remove_file(&staged);
    let published = published.map_err(failed)?;
    sync_folder(folder).map_err(failed)?;
    Ok(published)
}

/// A file that was begun and never published.
#[derive(Debug, Clone)]
pub(crate) struct StagedFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// Microseconds since 1970.
    pub(crate) modified_us: i64,
}

impl StagedFile {
    /// Removes it; one that is gone already, since it has got its name, is no error.
    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(Error::Io { path: self.path.clone(), source }),
            _ => Ok(()),
        }
    }
}

/// The staged files below a directory: names that end in `#` and digits, which listings pass over. Links are not followed.
pub(super) fn staged(dir: &Path) -> Result<Vec<StagedFile>> {
    let (mut found, mut left) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(dir) = left.pop() {
        let failed = |source| Error::Io { path: dir.clone(), source };
        let entries = match fs::read_dir(&dir) {
            Err(source) if source.kind() == ErrorKind::NotFound => continue,
            other => other.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                left.push(entry.path());
                continue;
            }
            let name = entry.file_name();
            let digits = name.to_str().and_then(|name| name.rsplit_once('#')).map_or("", |(_, digits)| digits);
            if !kind.is_file() || digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                continue;
            }
            // It may have got its name since the folder was read.
            let Ok(meta) = entry.metadata() else { continue };
            let modified = meta.modified().map_err(failed)?;
            let modified_us = chrono::DateTime::<chrono::Utc>::from(modified).timestamp_micros();
            found.push(StagedFile { path: entry.path(), bytes: meta.len(), modified_us });
        }
    }
    Ok(found)
}

/// Waits until a file and its name are on the disk.
pub(super) fn sync(path: &Path) -> Result<()> {
    let failed = |source| Error::Io { path: path.into(), source };
    File::open(path).and_then(|file| file.sync_all()).map_err(failed)?;
    sync_folder(path.parent().unwrap_or(Path::new("/"))).map_err(failed)
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    // Only Unix opens folders as files; elsewhere the file system sees to it.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
