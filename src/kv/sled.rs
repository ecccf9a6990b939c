//! The cache on disk, in a sled database. Only this file uses sled.
//! A database that cannot be read is renamed and replaced by an empty one: its content can be rebuilt.

use std::{
    ffi::OsStr,
    fs::{self, File, TryLockError},
    io::{self, ErrorKind},
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
};

use super::KeyValue;
use crate::{
    claimed_dir::{self, ONLINE, Owner, claim, is_marked},
    error::{Error, Result},
};

const MEMORY_BYTES: u64 = 64 << 20;
/// A mark in the directory of a database that failed in use: it may open again, and fail again.
const FAILED: &str = "asof-failed";
/// The file in the directory that sled locks.
const LOCKED: &str = "db";

/// How often, and after what time, sled's lock is tried again.
const RELEASED_AFTER: u32 = 100;
const WAIT: std::time::Duration = std::time::Duration::from_millis(20);

/// A [`KeyValue`] on disk.
#[derive(Debug)]
pub(super) struct SledKv {
    dir: PathBuf,
    db: sled::Db,
    /// Dropped after the database.
    _lock: File,
}

/// Why a directory could not be opened or used.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another process has it open.
    Locked,
    /// Its disk is full.
    Full(String),
    /// The path cannot be used: no permission, or not a directory.
    Unusable(String),
    /// Its files are not what sled wrote.
    Damaged(String),
}

impl Failure {
    pub(super) fn at(self, dir: &Path) -> Error {
        match self {
            Failure::Locked => Error::CacheLocked { path: dir.into() },
            Failure::Full(reason) | Failure::Unusable(reason) | Failure::Damaged(reason) => {
                Error::Cache { path: dir.into(), reason }
            }
        }
    }
}

impl SledKv {
    pub(super) fn open(dir: &Path, owner: Owner) -> Result<Self, Failure> {
        let lock = locked(dir, owner)?;
        let outcome = match failed_before(dir) {
            Ok(false) => opened(dir),
            Ok(true) => Err(Failure::Damaged("it failed when it was last used".into())),
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok(db) => return Ok(Self { dir: dir.into(), db, _lock: lock }),
            // The lock is held: no other process has it open.
            Err(Failure::Damaged(reason)) => set_aside(dir, &reason)?,
            Err(Failure::Full(_)) => remove_aside(dir),
            Err(other) => return Err(other),
        }
        drop(lock);
        let again = || {
            let lock = locked(dir, Owner::Store)?;
            Ok(Self { dir: dir.into(), db: opened(dir)?, _lock: lock })
        };
        match again() {
            Err(Failure::Full(_)) => {
                // Make room by removing the damaged directories that were kept.
                remove_aside(dir);
                again()
            }
            outcome => outcome,
        }
    }

    fn run<T>(&self, work: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T> {
        let failure = match caught(|| work(&self.db)) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(cause)) => classified(cause),
            Err(panicked) => panicked,
        };
        // A full disk may have no room for the mark either; opening then finds the failure again.
        let _ = File::create(self.dir.join(FAILED));
        Err(failure.at(&self.dir))
    }
}

/// Claims the directory and locks it. What cannot be claimed is not damaged, and so is never set aside.
fn locked(dir: &Path, owner: Owner) -> Result<File, Failure> {
    let lock = claim(dir, ONLINE, owner).and_then(|()| claimed_dir::lock(dir, ONLINE));
    let lock = lock.map_err(|cause| match of_io(&cause) {
        Failure::Damaged(reason) => Failure::Unusable(reason),
        other => other,
    })?;
    lock.ok_or(Failure::Locked)
}

/// Opens the database of a directory whose mark this process has locked.
///
/// Nobody else may have it open then. sled's own lock can still be held for a moment: by a thread of a database that was just dropped,
/// or by a child process that has not executed its program yet.
fn opened(dir: &Path) -> Result<sled::Db, Failure> {
    let open = || caught(|| sled::Config::new().path(dir).cache_capacity(MEMORY_BYTES).open())?.map_err(classified);
    for _ in 0..RELEASED_AFTER {
        match open() {
            Err(Failure::Locked) => std::thread::sleep(WAIT),
            outcome => return outcome,
        }
    }
    open()
}

/// sled panics on some damaged files; here such a panic is an error like any other.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Failure> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|_| Failure::Damaged("its files are damaged".into()))
}

fn classified(cause: sled::Error) -> Failure {
    match cause {
        // sled says "could not acquire lock" as an i/o error of the kind `Other`.
        sled::Error::Io(cause) if cause.to_string().contains("acquire lock") => Failure::Locked,
        sled::Error::Io(cause) => of_io(&cause),
        other => Failure::Damaged(other.to_string()),
    }
}

fn of_io(cause: &io::Error) -> Failure {
    let reason = cause.to_string();
    match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Failure::Full(reason),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            Failure::Unusable(reason)
        }
        _ => Failure::Damaged(reason),
    }
}

/// Did the database in this directory fail before, and does no process have it open?
fn failed_before(dir: &Path) -> Result<bool, Failure> {
    if !dir.join(FAILED).exists() {
        return Ok(false);
    }
    // The process that made the mark may still be running. The lock is released with this handle.
    let Ok(file) = File::open(dir.join(LOCKED)) else { return Ok(true) };
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Err(Failure::Locked),
        Err(TryLockError::Error(cause)) => Err(of_io(&cause)),
    }
}

/// The directories beside this one that have the name of a damaged one that was kept, with their numbers.
fn aside(dir: &Path) -> Vec<(u64, PathBuf)> {
    let prefix = format!("{}.damaged-", dir.file_name().unwrap_or_default().to_string_lossy());
    let number_of = |name: &OsStr| name.to_str()?.strip_prefix(&prefix)?.parse().ok();
    let entries = fs::read_dir(folder_of(dir)).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((number_of(&entry.file_name())?, entry.path()))).collect()
}

fn folder_of(dir: &Path) -> &Path {
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes the damaged directories that were kept. One without the mark is somebody else's.
fn remove_aside(dir: &Path) {
    for (_, older) in aside(dir).into_iter().filter(|(_, older)| is_marked(older, ONLINE)) {
        let _ = fs::remove_dir_all(older);
    }
}

/// Renames the directory to `<directory>.damaged-<n>`, and removes the earlier damaged ones.
fn set_aside(dir: &Path, reason: &str) -> Result<(), Failure> {
    let number = aside(dir).iter().map(|(number, _)| *number).max().unwrap_or(0).saturating_add(1);
    remove_aside(dir);
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let aside = folder_of(dir).join(format!("{name}.damaged-{number}"));
    fs::rename(dir, &aside)
        .map_err(|cause| Failure::Unusable(format!("it is damaged ({reason}) and cannot be renamed ({cause}); delete it")))?;
    tracing::warn!(
        cache = %dir.display(), aside = %aside.display(), reason,
        "the cache is damaged: it was renamed and is rebuilt; nothing is lost"
    );
    Ok(())
}

impl KeyValue for SledKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.run(|db| Ok(db.get(key)?.map(|value| value.to_vec())))
    }

    fn put_all(&self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut batch = sled::Batch::default();
        for (key, value) in entries {
            batch.insert(key.as_slice(), value.as_slice());
        }
        self.run(|db| db.apply_batch(batch))
    }

    fn remove_prefix(&self, prefix: &[u8]) -> Result<()> {
        self.run(|db| {
            let mut batch = sled::Batch::default();
            for key in db.scan_prefix(prefix).keys() {
                batch.remove(key?);
            }
            db.apply_batch(batch)
        })
    }
}
