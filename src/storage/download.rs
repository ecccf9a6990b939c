//! Objects of a bulk read as files of a local folder: each file appears whole, and is downloaded once.
//! Files are never removed: a file whose object is gone stays.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::UNIX_EPOCH,
};

use bytes::BytesMut;
use datafusion::common::runtime::SpawnedTask;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::{
    BulkReader, Location, ReadStatistics,
    bulk::lost,
    fetch::{Fetch, Held},
    location::blocking,
    statistics::ReadCounters,
};
use crate::error::{Error, Result};

/// The folder of the download's own files: a list of what was downloaded, one line each, and files that are not complete.
const BOOK_FOLDER: &str = ".asof-download";
const BOOK: &str = "files.jsonl";
const PARTS: &str = "parts";

/// What a download has done.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Download {
    /// The files, in the order given, including those that were there already.
    pub files: Vec<PathBuf>,
    /// Objects, bytes, seconds.
    pub statistics: ReadStatistics,
}

impl BulkReader {
    /// Downloads objects into a folder of this machine, under their names below this reader's location.
    ///
    /// No file is written outside the folder, whatever an object is called. A file is written and synced under another name and
    /// then renamed, so that it appears whole and replaces one of its name. A file that an earlier download made of the same
    /// object with the same entity tag, and that has not changed since, is skipped; objects without a tag are read again. One
    /// download at a time works in a folder; others wait for it. Memory holds ranges, not objects: as many as the settings
    /// allow.
    ///
    /// ```no_run
    /// # async fn bring() -> asof::Result<()> {
    /// use asof::storage::{BulkReader, Locations};
    ///
    /// let place = Locations::default().open("s3://bucket/facts")?;
    /// let brought = BulkReader::new(&place).download_to(place.list().await?, "facts").await?;
    /// println!("{} files, {}", brought.files.len(), brought.statistics);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidName`], before anything is written, for objects that are not below this reader's location or whose names
    /// cannot be names of files below the folder. [`Error::ObjectChanged`] when an object is not what was listed,
    /// [`Error::Storage`] when its store fails, [`Error::Io`] when a file cannot be written. The first error ends the download;
    /// completed files stay, and the next download continues from there.
    pub async fn download_to(
        &self,
        objects: impl IntoIterator<Item = ObjectMeta>,
        folder: impl Into<PathBuf>,
    ) -> Result<Download> {
        let objects: Vec<ObjectMeta> = objects.into_iter().collect();
        let folder = folder.into();
        let folder = std::path::absolute(&folder).map_err(|cause| Error::Io { path: folder, cause })?;
        let fetch = Arc::new(Fetch::new(self, ReadCounters::of(objects.iter().map(|object| object.size))));
        fetch.counters.begin();
        let files = names_of(&self.place, objects)?;
        let book = Arc::new(blocking(move || Book::open(&folder)).await?);
        let count = self.settings.objects_in_flight.max(1);
        let parallel = self.settings.requests_in_flight.max(1);
        let files = stream::iter(files).map(|(object, name)| {
            let (fetch, book) = (fetch.clone(), book.clone());
            async move {
                let task = SpawnedTask::spawn(async move { one(&fetch, &book, &object, &name, parallel).await });
                task.join().await.map_err(lost)?
            }
        });
        let files = files.buffered(count).try_collect().await?;
        fetch.counters.end();
        Ok(Download { files, statistics: fetch.counters.so_far() })
    }
}

/// The objects with the names of their files below the folder. No name leads out of it, and none is that of a folder of
/// another.
fn names_of(place: &Location, objects: Vec<ObjectMeta>) -> Result<Vec<(ObjectMeta, String)>> {
    let mut named = Vec::with_capacity(objects.len());
    for object in objects {
        let name = place.name_of(&object.location);
        let name = if name.is_empty() { object.location.filename().unwrap_or_default().to_owned() } else { name };
        let refused = |reason: &str| {
            let value = place.child(&place.name_of(&object.location)).to_string();
            Err(Error::InvalidName { what: "object to download", value, reason: reason.into() })
        };
        if name.starts_with('/') {
            return refused("it is not below the location that is read; read it with a `BulkReader` of its own location");
        }
        if name.split('/').any(|part| matches!(part, "" | "." | "..") || part.contains(['\\', '\0'])) {
            return refused("a part of its name is empty, `.` or `..`, or holds a backslash, and could name a file elsewhere");
        }
        if name.split('/').next().is_some_and(|first| first.eq_ignore_ascii_case(BOOK_FOLDER)) {
            return refused("downloads use a folder of that name for their own files");
        }
        named.push((object, name));
    }
    let files: HashSet<&str> = named.iter().map(|(_, name)| name.as_str()).collect();
    let folders = |name: &str| name.match_indices('/').map(|(at, _)| at).collect::<Vec<_>>();
    for (_, name) in &named {
        if let Some(at) = folders(name).into_iter().find(|at| files.contains(&name[..*at])) {
            let reason =
                format!("`{}` is an object too, and a file cannot be a folder; download one of them elsewhere", &name[..at]);
            return Err(Error::InvalidName { what: "object to download", value: name.clone(), reason });
        }
    }
    Ok(named)
}

/// Downloads one object, unless its file is there.
async fn one(fetch: &Arc<Fetch>, book: &Arc<Book>, object: &ObjectMeta, name: &str, parallel: usize) -> Result<PathBuf> {
    let target = book.folder.join(name);
    let shown = fetch.shown(object);
    let (asked, tag) = (book.clone(), object.e_tag.clone());
    let (place, size, file) = (shown.clone(), object.size, target.clone());
    if blocking(move || Ok(asked.has(&file, &place, tag.as_deref(), size))).await? {
        fetch.counters.skipped();
        fetch.report();
        return Ok(target);
    }
    let part = book.part();
    let (path, size) = (part.0.clone(), object.size);
    blocking(move || {
        let failed = |cause| Error::Io { path: path.clone(), cause };
        File::create(&path).and_then(|file| file.set_len(size)).map_err(failed)
    })
    .await?;
    let pieces = stream::iter(fetch.ranges(object.size)).map(|range| piece(fetch, object, range, &part.0));
    pieces.buffer_unordered(parallel).try_for_each(|()| async { Ok(()) }).await?;
    let (book, tag, file) = (book.clone(), object.e_tag.clone(), target.clone());
    blocking(move || book.publish(&part, &file, shown, tag)).await?;
    fetch.counters.finished();
    fetch.report();
    Ok(target)
}

/// Reads a range and writes it where it belongs.
async fn piece(fetch: &Fetch, object: &ObjectMeta, range: Range<u64>, part: &Path) -> Result<()> {
    let (start, length) = (range.start, range.end - range.start);
    let held: Held = fetch.reserve(length).await;
    let room = usize::try_from(length).map_err(|e| Error::Io { path: part.into(), cause: std::io::Error::other(e) })?;
    let bytes = fetch.fill(object, range, BytesMut::with_capacity(room)).await?;
    let path = part.to_owned();
    blocking(move || {
        let write = || {
            // A handle for each range, so that they do not share a position.
            let mut file = OpenOptions::new().write(true).open(&path)?;
            file.seek(SeekFrom::Start(start))?;
            file.write_all(&bytes)
        };
        let written = write().map_err(|cause| Error::Io { path: path.clone(), cause });
        drop(held);
        written
    })
    .await
}

/// A file that is not complete; removed when dropped, unless it was published.
struct PartialFile(PathBuf);

impl Drop for PartialFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A file as it was when it was published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct BookEntry {
    file: PathBuf,
    object: String,
    e_tag: Option<String>,
    size: u64,
    modified_ns: u128,
}

/// The list of what was downloaded into a folder. It locks the folder against other downloads until it is dropped.
struct Book {
    folder: PathBuf,
    known: HashMap<PathBuf, BookEntry>,
    file: Mutex<File>,
    parts: AtomicU64,
}

impl Book {
    fn open(folder: &Path) -> Result<Self> {
        let own = folder.join(BOOK_FOLDER);
        let failed = |cause| Error::Io { path: own.clone(), cause };
        let open = || {
            fs::create_dir_all(own.join(PARTS))?;
            let mut file = OpenOptions::new().read(true).append(true).create(true).open(own.join(BOOK))?;
            file.lock()?;
            // Files of a killed download; no other download works here.
            for part in fs::read_dir(own.join(PARTS))? {
                fs::remove_file(part?.path())?;
            }
            let mut known = HashMap::new();
            for line in BufReader::new(&file).split(b'\n') {
                // A crash may have cut off the last line; its file is downloaded again.
                if let Ok(entry) = serde_json::from_slice::<BookEntry>(&line?) {
                    known.insert(entry.file.clone(), entry);
                }
            }
            file.write_all(b"\n")?;
            Ok(Self { folder: folder.into(), known, file: Mutex::new(file), parts: AtomicU64::new(0) })
        };
        open().map_err(failed)
    }

    /// Is this file the one that an earlier download made of the object with this tag?
    fn has(&self, file: &Path, object: &str, e_tag: Option<&str>, size: u64) -> bool {
        let Ok(inside) = file.strip_prefix(&self.folder) else { return false };
        let Some(known) = self.known.get(inside) else { return false };
        e_tag.is_some()
            && known.e_tag.as_deref() == e_tag
            && known.object == object
            && known.size == size
            && look(file).is_ok_and(|found| found == (known.size, known.modified_ns))
    }

    fn part(&self) -> PartialFile {
        let number = self.parts.fetch_add(1, Ordering::Relaxed);
        PartialFile(self.folder.join(BOOK_FOLDER).join(PARTS).join(number.to_string()))
    }

    /// Refuses a folder that is reached by a link below the download's own: it may be anywhere.
    fn refuse_links(&self, folder: &Path) -> std::io::Result<()> {
        let inside = folder.strip_prefix(&self.folder).map_err(std::io::Error::other)?;
        let mut path = self.folder.clone();
        for part in inside {
            path.push(part);
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_symlink() => {
                    return Err(std::io::Error::other(format!("`{}` is a link, which downloads do not follow", path.display())));
                }
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Renames a complete part to its file.
    fn publish(&self, part: &PartialFile, target: &Path, object: String, e_tag: Option<String>) -> Result<()> {
        let parent = target.parent().unwrap_or(&self.folder);
        let publish = || {
            self.refuse_links(parent)?;
            fs::create_dir_all(parent)?;
            File::open(&part.0)?.sync_all()?;
            fs::rename(&part.0, target)?;
            let (size, modified_ns) = look(target)?;
            let file = target.strip_prefix(&self.folder).unwrap_or(target).to_owned();
            let mut line = serde_json::to_vec(&BookEntry { file, object, e_tag, size, modified_ns })?;
            line.push(b'\n');
            self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
        };
        publish().map_err(|cause| Error::Io { path: target.into(), cause })
    }
}

/// The size and the time of the last change.
fn look(file: &Path) -> std::io::Result<(u64, u128)> {
    let meta = fs::metadata(file)?;
    let since = meta.modified()?.duration_since(UNIX_EPOCH).map_err(std::io::Error::other)?;
    Ok((meta.len(), since.as_nanos()))
}
