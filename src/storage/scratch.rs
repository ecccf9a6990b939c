//! This process's folder for temporary files: `asof-scratch-<digits>` in the system's folder for them. The folder of a process
//! that has ended, by a crash or not, is removed by the next process that makes one, and by every garbage collection. A lock
//! file shows whether a process still runs; age and process id are not used.

use std::{
    fs::{self, DirBuilder, File},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tempfile::NamedTempFile;

use super::staging::create_new;
use crate::layout::SCRATCH_PREFIX;

/// The extension of the lock file beside each folder, which its process keeps locked while it runs.
const LOCK: &str = "lock";

struct Scratch {
    dir: PathBuf,
    /// Unlocked by the system when the process ends.
    _lock: File,
}

static OWN: Mutex<Option<Scratch>> = Mutex::new(None);

/// This process's folder. It is made by the first call, and again if it was removed.
pub(crate) fn dir() -> std::io::Result<PathBuf> {
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(own) = own.as_ref().filter(|own| own.dir.is_dir()) {
        return Ok(own.dir.clone());
    }
    let all = std::env::temp_dir();
    sweep_below(&all);
    let made = open(&all)?;
    let dir = made.dir.clone();
    *own = Some(made);
    Ok(dir)
}

/// A temporary file, removed when it is dropped.
pub(crate) fn file(prefix: &str) -> std::io::Result<NamedTempFile> {
    NamedTempFile::with_prefix_in(prefix, dir()?)
}

/// Removes the folders of processes that have ended.
pub(crate) fn sweep() {
    sweep_below(&std::env::temp_dir());
}

fn open(all: &Path) -> std::io::Result<Scratch> {
    // Locked before it gets the name that other processes look for.
    let (lock, new) = create_new(|digits| all.join(format!("{SCRATCH_PREFIX}{digits}.new")))?;
    lock.lock()?;
    let dir = new.with_extension("");
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&dir)?;
    fs::rename(&new, new.with_extension(LOCK))?;
    Ok(Scratch { dir, _lock: lock })
}

/// Folders that cannot be removed, because they are another user's, stay.
fn sweep_below(all: &Path) {
    let Ok(entries) = fs::read_dir(all) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.starts_with(SCRATCH_PREFIX) || path.extension().is_none_or(|extension| extension != LOCK) {
            continue;
        }
        let Ok(lock) = File::open(&path) else { continue };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(path.with_extension(""));
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_dead_have_left_goes_and_what_the_living_hold_stays() {
        let all = tempfile::tempdir().unwrap();
        let (living, dead) = (open(all.path()).unwrap(), open(all.path()).unwrap());
        for scratch in [&living, &dead] {
            fs::create_dir(scratch.dir.join("spill")).unwrap();
            fs::write(scratch.dir.join("spill/1"), "rows").unwrap();
        }
        let gone = dead.dir.clone();
        drop(dead);
        sweep_below(all.path());
        assert!(!gone.exists() && !gone.with_extension(LOCK).exists());
        assert_eq!(fs::read(living.dir.join("spill/1")).unwrap(), b"rows");
    }

    #[test]
    fn a_folder_that_was_removed_is_made_again() {
        let first = dir().unwrap();
        assert_eq!(first, dir().unwrap());
        let file = file("asof-test-").unwrap();
        assert!(file.path().starts_with(&first));
    }
}
