//! Where served files are kept: in a folder of the cache directory, or in memory.
//! They are found by their materialization. A file that is missing, cut off or of another layout is built again.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Cursor, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use arc_swap::ArcSwap;
use tempfile::NamedTempFile;

use super::{
    file::{ServedFile, Source},
    layout::RowLayout,
    writer::{WriteError, Writer},
};
use crate::{
    error::Result,
    layout::{SERVED, served_file, served_file_of},
    name::{ContentId, SetName},
};

/// What the name of a file begins with that is being built.
const BUILDING: &str = ".building-";

/// The served files of one store.
#[derive(Debug)]
pub(crate) struct ServedFiles {
    place: Place,
    /// Whether files are read into memory as a whole.
    resident: bool,
    open: Mutex<BTreeMap<ContentId, Arc<Opening>>>,
    /// In memory, the last one of each set stays although nobody holds it.
    last: Mutex<BTreeMap<SetName, Arc<SharedFile>>>,
}

#[derive(Debug)]
enum Place {
    Dir(PathBuf),
    Memory,
}

/// A materialization's file in this process. Locked while it is being opened, so that it is built once.
pub(crate) type Opening = tokio::sync::Mutex<Weak<SharedFile>>;

/// A served file, which all handles of its materialization share. A damaged one is replaced.
#[derive(Debug)]
pub(crate) struct SharedFile {
    pub(crate) file: ArcSwap<ServedFile>,
    /// Locked while it is built again.
    pub(crate) rebuilding: Mutex<()>,
}

impl SharedFile {
    pub(crate) fn new(file: ServedFile) -> Self {
        Self { file: ArcSwap::from_pointee(file), rebuilding: Mutex::default() }
    }
}

/// A file that is being built.
pub(crate) enum Building {
    File(Writer<NamedTempFile>),
    Memory(Writer<Cursor<Vec<u8>>>),
}

impl ServedFiles {
    /// Files in a folder of this cache directory; in memory if it cannot be made, or without a directory. With `resident` files are
    /// read into memory when they are opened.
    pub(crate) fn new(cache: Option<&Path>, resident: bool) -> Self {
        let dir = cache.map(|cache| cache.join(SERVED)).and_then(|dir| match fs::create_dir_all(&dir) {
            Ok(()) => Some(dir),
            Err(cause) => {
                tracing::warn!(dir = %dir.display(), %cause, "rows are served from memory");
                None
            }
        });
        let place = dir.map_or(Place::Memory, |dir| {
            // What a killed process has left. Who is building there just now builds in memory instead.
            files(&dir).filter(|(name, _)| name.starts_with(BUILDING)).for_each(|(_, path)| drop(fs::remove_file(path)));
            Place::Dir(dir)
        });
        Self { place, resident, open: Mutex::default(), last: Mutex::default() }
    }

    /// The file of a materialization in this process, open or not.
    pub(crate) fn opening(&self, id: ContentId) -> Arc<Opening> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, opening| Arc::strong_count(opening) > 1 || is_held(opening));
        open.entry(id).or_default().clone()
    }

    /// Whether the file of a materialization is there. It may turn out to be damaged.
    pub(crate) fn has(&self, set: &SetName, id: ContentId) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&id).is_some_and(|opening| is_held(opening)) || self.path(set, id).is_some_and(|path| path.is_file())
    }

    /// Opens the file that is there.
    pub(crate) fn existing(&self, set: &SetName, id: ContentId, layouts: &[RowLayout]) -> Option<ServedFile> {
        let path = self.path(set, id)?;
        let file = File::open(&path).ok()?;
        let opened = self.source(file).and_then(|source| ServedFile::open(source, id, layouts));
        if opened.is_none() {
            tracing::warn!(path = %path.display(), "a served file is damaged or of another layout; it is built again");
        }
        opened
    }

    fn source(&self, file: File) -> Option<Source> {
        if self.resident {
            return Some(Source::Memory(fs_read(file).ok()?));
        }
        let length = file.metadata().ok()?.len();
        Some(Source::File(file, length))
    }

    /// Begins to build a file, in memory if there is no folder or `in_memory` is asked for.
    pub(crate) fn build(&self, id: ContentId, in_memory: bool) -> Result<Building, WriteError> {
        Ok(match &self.place {
            Place::Dir(dir) if !in_memory => {
                Building::File(Writer::new(tempfile::Builder::new().prefix(BUILDING).tempfile_in(dir)?, id))
            }
            _ => Building::Memory(Writer::new(Cursor::new(Vec::new()), id)),
        })
    }

    /// Puts a file that was built into its place, and opens it.
    pub(crate) fn publish(
        &self,
        set: &SetName,
        id: ContentId,
        layouts: &[RowLayout],
        built: Building,
    ) -> Result<ServedFile, WriteError> {
        let source = match (built, self.path(set, id)) {
            (Building::Memory(writer), _) => Source::Memory(writer.finish()?.into_inner()),
            (Building::File(writer), Some(path)) => {
                let file = writer.finish()?.persist(path).map_err(|e| e.error)?;
                self.source(file).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::UnexpectedEof))?
            }
            (Building::File(_), None) => return Err(std::io::Error::from(std::io::ErrorKind::NotFound).into()),
        };
        let opened = ServedFile::open(source, id, layouts);
        opened.ok_or_else(|| std::io::Error::other("it is not what was written").into())
    }

    /// Keeps a file in memory although nobody holds it, until the next one of its set.
    pub(crate) fn keep_last(&self, set: &SetName, file: &Arc<SharedFile>) {
        if matches!(self.place, Place::Memory) {
            self.last.lock().unwrap_or_else(PoisonError::into_inner).insert(set.clone(), file.clone());
        }
    }

    /// The materializations whose files are in the folder and are not open.
    pub(crate) fn closed(&self) -> Vec<(SetName, ContentId)> {
        let Place::Dir(dir) = &self.place else { return Vec::new() };
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let found = files(dir).filter_map(|(name, _)| served_file_of(&name));
        found.filter(|(_, id)| !open.get(id).is_some_and(|opening| is_held(opening))).collect()
    }

    /// Removes a file.
    pub(crate) fn remove(&self, set: &SetName, id: ContentId) {
        if let Some(Err(cause)) = self.path(set, id).map(fs::remove_file) {
            tracing::warn!(%set, %id, %cause, "a served file that is no longer needed was not removed");
        }
    }

    fn path(&self, set: &SetName, id: ContentId) -> Option<PathBuf> {
        match &self.place {
            Place::Dir(dir) => Some(dir.join(served_file(set, id))),
            Place::Memory => None,
        }
    }
}

/// Whether a handle has the file, or somebody is opening it.
fn is_held(opening: &Opening) -> bool {
    opening.try_lock().map_or(true, |file| file.strong_count() > 0)
}

fn files(dir: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
}

fn fs_read(mut file: File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
