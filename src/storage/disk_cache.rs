//! A cache of object bytes on this machine's disk: entries are written atomically and checked when read, and the least recently
//! used are removed first. It never makes a read fail: what is missing, damaged or cannot be written is read from the store.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::BytesMut;

use super::staging::create_new;
use crate::{
    claimed_dir::{DISK, Owner, claim},
    error::{Error, Result},
    time::{Clock, SystemClock},
};

/// Marks the layout of an entry: magic, hash of everything after it, length of the key, length of the bytes, key, bytes.
/// Lengths are 64-bit little-endian.
const MAGIC: &[u8; 8] = b"asofbyt1";
const HASH_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + HASH_BYTES + 8 + 8;
const ENTRIES: &str = "entries";
const LEDGER: &str = "ledger";
/// The decimal digits of the largest number, and a newline.
const LEDGER_BYTES: usize = 21;
/// Space is freed for more than one entry at a time, since that lists the whole folder.
const KEPT_TENTHS: u64 = 9;

/// A cache of what was read from object stores, in a folder of this machine, up to a limit.
///
/// The key of an entry is store, path, entity tag and range, so the bytes of another version of an object are never returned.
/// An entry is written under another name and renamed, and has a checksum, so that what a crash or a power failure damages is not
/// taken for an entry; damaged entries are removed. All files in the folder, including half-written ones, take no more than the
/// limit; the least recently used are removed first. Several processes may use one folder if each opens it with the same limit.
/// The folder can be deleted at any time.
///
/// ```
/// # fn main() -> asof::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// let cache = asof::storage::DiskCache::open(folder, 1 << 30)?;
/// assert_eq!(cache.used_bytes()?, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DiskCache {
    shared: Arc<CacheFolder>,
}

struct CacheFolder {
    folder: PathBuf,
    limit_bytes: u64,
    /// The bytes in use, as decimal text in a file that is locked against other processes; the mutex locks it against other
    /// threads. The number may be too high after a crash, and is counted again when the limit is reached.
    ledger: Mutex<File>,
    /// Dates the uses of entries, which decides what is removed first. Processes that share a folder compare these dates.
    clock: Arc<dyn Clock>,
    /// An entry could not be written. Only the first failure is a warning, since a full disk fails many writes.
    has_failed: AtomicBool,
}

/// Whether a cache has the bytes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CacheLookup {
    Whole,
    Nothing,
}

impl DiskCache {
    /// Opens the cache in this folder, or makes it, and removes entries until it is within the limit. The folder is empty, does not
    /// exist yet, or was made by this library: one that holds anything else is refused, and stays as it is.
    ///
    /// # Errors
    /// [`Error::Cache`] when the path is empty, and when the folder holds other files or cannot be made, listed or locked.
    pub fn open(folder: impl Into<PathBuf>, limit_bytes: u64) -> Result<Self> {
        Self::open_with(folder.into(), limit_bytes, Arc::new(SystemClock))
    }

    fn open_with(folder: PathBuf, limit_bytes: u64, clock: Arc<dyn Clock>) -> Result<Self> {
        let open = || {
            claim(&folder, DISK, Owner::User)?;
            fs::create_dir_all(folder.join(ENTRIES))?;
            let ledger = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(folder.join(LEDGER))?;
            Ok(Self {
                shared: Arc::new(CacheFolder {
                    folder: folder.clone(),
                    limit_bytes,
                    ledger: Mutex::new(ledger),
                    clock,
                    has_failed: AtomicBool::new(false),
                }),
            })
        };
        let failed = |e: std::io::Error| Error::Cache { path: folder.clone(), reason: e.to_string() };
        let cache: Self = open().map_err(failed)?;
        cache.locked(|_| Ok((cache.make_room(0)?, ()))).map_err(failed)?;
        Ok(cache)
    }

    /// The bytes of all files in the folder, counted now.
    ///
    /// # Errors
    /// [`Error::Cache`] when the folder cannot be listed.
    pub fn used_bytes(&self) -> Result<u64> {
        let files = files_below(&self.entries());
        let files = files.map_err(|e| Error::Cache { path: self.shared.folder.clone(), reason: e.to_string() })?;
        Ok(files.iter().map(|file| file.bytes).sum())
    }

    fn now(&self) -> SystemTime {
        let since_1970 = Duration::from_micros(u64::try_from(self.shared.clock.now().micros()).unwrap_or(0));
        SystemTime::UNIX_EPOCH.checked_add(since_1970).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    fn entries(&self) -> PathBuf {
        self.shared.folder.join(ENTRIES)
    }

    fn entry(&self, key: &str) -> PathBuf {
        let name = blake3::hash(key.as_bytes()).to_hex();
        self.entries().join(&name[..2]).join(name.as_str())
    }

    /// Appends the bytes of this key to an empty buffer, which stays empty if there is no such entry.
    pub(super) fn read(&self, key: &str, length: u64, into: &mut BytesMut) -> CacheLookup {
        let path = self.entry(key);
        // To open a pipe would wait for a writer, and nothing can be renamed over a directory.
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => {}
            Ok(meta) => {
                let _ = if meta.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                return CacheLookup::Nothing;
            }
            Err(_) => return CacheLookup::Nothing,
        }
        let Ok(mut file) = File::open(&path) else { return CacheLookup::Nothing };
        match read_entry(&mut file, key, length, into) {
            Ok(()) => {
                // The time of the last use. If it cannot be set, the entry is removed earlier than it should be.
                let _ = file.set_modified(self.now());
                CacheLookup::Whole
            }
            Err(reason) => {
                into.clear();
                tracing::debug!(entry = %path.display(), %reason, "removing a damaged entry of the disk cache");
                let _ = fs::remove_file(&path);
                CacheLookup::Nothing
            }
        }
    }

    /// Adds these bytes, if there is room for them.
    pub(super) fn write(&self, key: &str, bytes: &[u8]) {
        if let Err(reason) = self.try_write(key, bytes) {
            let folder = self.shared.folder.display();
            match self.shared.has_failed.swap(true, Ordering::Relaxed) {
                false => tracing::warn!(%folder, %reason, "the disk cache cannot write; what it lacks is read from the store"),
                true => tracing::debug!(%folder, %reason, "the disk cache cannot write an entry"),
            }
        }
    }

    fn try_write(&self, key: &str, bytes: &[u8]) -> std::io::Result<()> {
        let length = (HEADER_BYTES + key.len() + bytes.len()) as u64;
        if length > self.shared.limit_bytes {
            return Ok(());
        }
        let path = self.entry(key);
        // The file gets its full length while the ledger is locked, so that a count of the folder includes it.
        let (mut file, staged) = self.locked(|used| {
            // Somebody may have deleted the folder since, and put another in its place.
            claim(&self.shared.folder, DISK, Owner::User)?;
            let used = match used {
                Some(used) if used.saturating_add(length) <= self.shared.limit_bytes => used,
                _ => self.make_room(length)?,
            };
            fs::create_dir_all(path.parent().unwrap_or(&self.shared.folder))?;
            let (file, staged) = create_new(|digits| path.with_extension(digits))?;
            file.set_len(length)?;
            Ok((used + length, (file, staged)))
        })?;
        let written = write_entry(&mut file, key, bytes, self.now()).and_then(|()| fs::rename(&staged, &path));
        if written.is_err() {
            let _ = fs::remove_file(&staged);
        }
        written
    }

    /// Runs `work` with the ledger locked against threads and processes. It is given the bytes in use, if they are known, and
    /// returns the bytes in use afterwards.
    fn locked<T>(&self, work: impl FnOnce(Option<u64>) -> std::io::Result<(u64, T)>) -> std::io::Result<T> {
        let mut ledger = self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.lock()?;
        let done = read_ledger(&mut ledger).and_then(|used| {
            // A process that ends or fails from here on leaves an unknown number, and the next one counts.
            write_ledger(&mut ledger, None)?;
            let (used, done) = work(used)?;
            write_ledger(&mut ledger, Some(used))?;
            Ok(done)
        });
        ledger.unlock()?;
        done
    }

    /// Removes the least recently used files until this many more bytes fit, and returns the bytes left. The ledger is locked.
    fn make_room(&self, needed: u64) -> std::io::Result<u64> {
        let mut files = files_below(&self.entries())?;
        let mut used: u64 = files.iter().map(|file| file.bytes).sum();
        let limit = self.shared.limit_bytes;
        if used.saturating_add(needed) <= limit {
            return Ok(used);
        }
        let kept = (limit / 10 * KEPT_TENTHS).saturating_sub(needed);
        files.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        for file in files {
            if used <= kept {
                break;
            }
            match fs::remove_file(&file.path) {
                Ok(()) => used = used.saturating_sub(file.bytes),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => used = used.saturating_sub(file.bytes),
                Err(_) => {}
            }
        }
        if used.saturating_add(needed) > limit {
            return Err(std::io::Error::other("its files cannot be removed"));
        }
        Ok(used)
    }
}

impl fmt::Debug for DiskCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskCache({}, {} bytes)", self.shared.folder.display(), self.shared.limit_bytes)
    }
}

/// The bytes in use; `None` if the ledger has no number.
fn read_ledger(ledger: &mut File) -> std::io::Result<Option<u64>> {
    let mut text = [0; LEDGER_BYTES];
    ledger.rewind()?;
    match ledger.read_exact(&mut text) {
        Ok(()) => Ok(std::str::from_utf8(&text).ok().and_then(|text| text.trim_end().parse().ok())),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

fn write_ledger(ledger: &mut File, used: Option<u64>) -> std::io::Result<()> {
    let text = used.map_or_else(|| "unknown".to_owned(), |used| used.to_string());
    ledger.rewind()?;
    ledger.write_all(format!("{text:<width$}\n", width = LEDGER_BYTES - 1).as_bytes())
}

struct CachedFile {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

/// All files below a folder; files that vanish meanwhile are skipped.
fn files_below(folder: &Path) -> std::io::Result<Vec<CachedFile>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            // Of a link the link itself, not its target: that is not part of the cache.
            let Ok(meta) = entry.metadata() else { continue };
            match meta.is_dir() {
                true => folders.push(entry.path()),
                false => found.push(CachedFile { path: entry.path(), bytes: meta.len(), modified: meta.modified()? }),
            }
        }
    }
    Ok(found)
}

fn hash_of(rest: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut hasher = blake3::Hasher::new();
    for part in rest {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

fn write_entry(file: &mut File, key: &str, bytes: &[u8], now: SystemTime) -> std::io::Result<()> {
    let lengths = [(key.len() as u64).to_le_bytes(), (bytes.len() as u64).to_le_bytes()].concat();
    let mut head = Vec::with_capacity(HEADER_BYTES + key.len());
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&hash_of(&[&lengths, key.as_bytes(), bytes]));
    head.extend_from_slice(&lengths);
    head.extend_from_slice(key.as_bytes());
    file.write_all(&head)?;
    file.write_all(bytes)?;
    file.set_modified(now)
}

/// Reads an entry of this key and length, or says why it is damaged.
fn read_entry(file: &mut File, key: &str, length: u64, into: &mut BytesMut) -> Result<(), String> {
    let whole = (HEADER_BYTES + key.len()) as u64 + length;
    let found = file.metadata().map_err(|e| e.to_string())?.len();
    if found != whole {
        return Err(format!("it has {found} bytes instead of {whole}"));
    }
    let mut head = vec![0; HEADER_BYTES + key.len()];
    file.read_exact(&mut head).map_err(|e| e.to_string())?;
    let lengths = [(key.len() as u64).to_le_bytes(), length.to_le_bytes()].concat();
    let (magic, rest) = head.split_at(MAGIC.len());
    let (hash, rest) = rest.split_at(HASH_BYTES);
    if magic != MAGIC || rest[..lengths.len()] != lengths || rest[lengths.len()..] != *key.as_bytes() {
        return Err("it is not an entry of this key".into());
    }
    into.resize(usize::try_from(length).map_err(|e| e.to_string())?, 0);
    file.read_exact(into).map_err(|e| e.to_string())?;
    match hash == hash_of(&[&lengths, key.as_bytes(), into]) {
        true => Ok(()),
        false => Err("its checksum is wrong".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::time::AsOf;

    /// One second later each time it is asked.
    #[derive(Debug, Default)]
    struct Ticking(AtomicI64);

    impl Clock for Ticking {
        fn now(&self) -> AsOf {
            AsOf::from_micros(self.0.fetch_add(1_000_000, Ordering::Relaxed))
        }
    }

    #[test]
    fn the_clock_says_which_entry_was_used_least_recently() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::open_with(dir.path().into(), 500, Arc::new(Ticking::default())).unwrap();
        let bytes = [7; 100];
        let has = |key: &str| cache.read(key, 100, &mut BytesMut::new()) == CacheLookup::Whole;
        for key in ["a", "b", "c"] {
            cache.write(key, &bytes);
        }
        assert!(has("a"));
        // The fourth one does not fit beside the other three, and `b` was used before `c` and `a`.
        cache.write("d", &bytes);
        assert!(!has("b") && has("a") && has("d"));
    }
}
