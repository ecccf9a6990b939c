//! The content hash of a local file, and a tag that changes whenever its content does.
//! A hash is remembered only together with a tag, so that a changed file is hashed again.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io::Read,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use super::FileIdentity;
use crate::{
    error::{Error, Result},
    name::ContentId,
    time::{AsOf, Clock, SystemClock},
};

/// Bytes read at a time: enough that hashing takes most of the time.
const BLOCK_BYTES: usize = 1 << 20;
/// The clock of a file system ticks every 4 to 10 ms, so two changes within a tick have the same time.
const TICK: Duration = Duration::from_millis(20);
const TICKS_AT_MOST: usize = 5;
/// The most hashes that are remembered.
const REMEMBERED: usize = 100_000;

/// The identity of a file that must have this size; `each` is given its bytes in order.
pub(super) fn identify(path: &Path, size: u64, each: impl FnMut(&[u8])) -> Result<FileIdentity> {
    let tag = settled_tag(path);
    let hash = hash(path, size, each)?;
    // A file that keeps changing gets no tag; its hash is compared each time.
    let e_tag = tag.filter(|before| self::tag(path).as_ref() == Some(before));
    Ok(FileIdentity { size, e_tag, hash: Some(hash) })
}

/// The content hash of a file that must have this size; `each` is given its bytes in order.
pub(super) fn hash(path: &Path, size: u64, mut each: impl FnMut(&[u8])) -> Result<ContentId> {
    let failed = |cause| Error::Io { path: path.into(), cause };
    let changed = |change| Error::ObjectChanged { path: path.display().to_string(), change };
    let mut file = File::open(path).map_err(failed)?;
    let before = tag_of(&file.metadata().map_err(failed)?);
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
    let mut block = vec![0; usize::try_from(size).unwrap_or(BLOCK_BYTES).clamp(1, BLOCK_BYTES)];
    loop {
        let read = match file.read(&mut block) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.map_err(failed)?,
        };
        if read == 0 {
            break;
        }
        bytes += read as u64;
        if bytes > size {
            return Err(changed("has another length"));
        }
        hasher.update(&block[..read]);
        each(&block[..read]);
    }
    if bytes != size {
        return Err(changed("has another length"));
    }
    if tag_of(&file.metadata().map_err(failed)?) != before {
        return Err(changed("has changed"));
    }
    Ok(ContentId::from_hash(hasher.finalize()))
}

/// The content hash of a file; one that was hashed before in this process and has not changed since is not read again.
pub(super) fn hash_once(path: &Path, size: u64) -> Result<ContentId> {
    static KNOWN: LazyLock<Mutex<HashMap<PathBuf, (String, ContentId)>>> = LazyLock::new(Mutex::default);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let tag = tag(path);
    if let Some((before, hash)) = known().get(path)
        && Some(before) == tag.as_ref()
    {
        return Ok(*hash);
    }
    let found = identify(path, size, |_| {})?;
    let hash = found.hash.unwrap_or_else(|| ContentId::of(b""));
    if let Some(tag) = found.e_tag {
        let mut known = known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(path.into(), (tag, hash));
    }
    Ok(hash)
}

/// The tag of a file, which changes whenever its content does; `None` when the file is gone.
pub(super) fn tag(path: &Path) -> Option<String> {
    std::fs::metadata(path).ok().map(|meta| tag_of(&meta))
}

/// The tag of a file, taken after the tick of its last change, so that a later change gives another tag.
fn settled_tag(path: &Path) -> Option<String> {
    for _ in 0..TICKS_AT_MOST {
        let meta = std::fs::metadata(path).ok()?;
        if !is_of_this_tick(&meta) {
            return Some(tag_of(&meta));
        }
        std::thread::sleep(TICK);
    }
    None
}

#[cfg(unix)]
fn tag_of(meta: &Metadata) -> String {
    use std::os::unix::fs::MetadataExt;
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let (modified, changed) = (nanos(meta.mtime(), meta.mtime_nsec()), nanos(meta.ctime(), meta.ctime_nsec()));
    format!("{:x}-{:x}-{modified:x}-{changed:x}", meta.ino(), meta.size())
}

#[cfg(not(unix))]
fn tag_of(meta: &Metadata) -> String {
    format!("{:x}-{:?}", meta.len(), meta.modified().ok())
}

/// Can the file change once more within the tick of its last change?
///
/// The file system dates changes by the system's clock, so a file's age is known by that clock alone: by the clock of a store,
/// which may be fixed, every file would be old or none.
fn is_of_this_tick(meta: &Metadata) -> bool {
    let Some(changed) = changed_at(meta) else { return false };
    let age_us = SystemClock.now().micros().saturating_sub(changed.micros());
    // A time in the future was written by another machine.
    (0..TICK.as_micros() as i64).contains(&age_us)
}

/// When the file or its metadata last changed.
fn changed_at(meta: &Metadata) -> Option<AsOf> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        meta.ctime().checked_mul(1_000_000)?.checked_add(meta.ctime_nsec() / 1_000).map(AsOf::from_micros)
    }
    #[cfg(not(unix))]
    {
        meta.modified().ok().map(|modified| AsOf::from(chrono::DateTime::<chrono::Utc>::from(modified)))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{Seek, Write},
    };

    use super::*;

    #[test]
    fn a_hash_is_that_of_the_whole_file_and_of_no_other_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for size in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 7] {
            let content: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            fs::write(&path, &content).unwrap();
            let mut seen = Vec::new();
            let found = identify(&path, size as u64, |bytes| seen.extend_from_slice(bytes)).unwrap();
            assert_eq!((found.hash, found.size), (Some(ContentId::of(&content)), size as u64));
            assert_eq!((seen, found.e_tag), (content, tag(&path)));
            assert!(matches!(hash(&path, size as u64 + 1, |_| {}), Err(Error::ObjectChanged { .. })));
            assert!(size == 0 || matches!(hash(&path, size as u64 - 1, |_| {}), Err(Error::ObjectChanged { .. })));
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_file_that_is_rewritten_in_place_has_another_tag_whatever_its_size_and_time_say() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "first").unwrap();
        for _ in 0..20 {
            let (before, modified) = (identify(&path, 5, |_| {}).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
            assert_eq!(hash_once(&path, 5).unwrap(), before.hash.unwrap());
            let other = if fs::read(&path).unwrap() == b"first" { "other" } else { "first" };
            let mut file = File::options().write(true).open(&path).unwrap();
            file.rewind().unwrap();
            file.write_all(other.as_bytes()).unwrap();
            file.set_modified(modified).unwrap();
            assert!(before.e_tag.is_some() && before.e_tag != tag(&path));
            assert_eq!(hash_once(&path, 5).unwrap(), ContentId::of(other.as_bytes()));
        }
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, vec![1; 3 * BLOCK_BYTES]).unwrap();
        std::thread::sleep(TICK);
        let error = hash(&path, 3 * BLOCK_BYTES as u64, |_| fs::write(&path, vec![2; 3 * BLOCK_BYTES]).unwrap());
        assert!(matches!(error, Err(Error::ObjectChanged { .. })));
    }
}
