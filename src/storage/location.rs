//! A location in an object store: the store, and a prefix in it.
//! Credentials go into the store's client and nowhere else: a location shows only scheme, bucket and path.

use std::{
    fmt,
    fs::File,
    io::{ErrorKind, Read, Seek, SeekFrom},
    ops::Range,
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use datafusion::datasource::object_store::ObjectStoreUrl;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    buffered::BufWriter,
    path::{Path, PathPart},
};
use tokio::io::AsyncWriteExt;
use url::Url;

use super::{local, locations::shown};

use crate::error::{Error, Result};

/// A folder in an object store, or on this machine's disk.
///
/// Objects are named relative to it, with `/` between the parts.
#[derive(Clone)]
pub struct Location {
    store: Arc<dyn ObjectStore>,
    /// Scheme and bucket; the key under which DataFusion knows the store.
    base: Url,
    prefix: Path,
    is_local: bool,
    /// Identifies the store: scheme and bucket, and the endpoint if it is a custom one.
    origin: Arc<str>,
}

impl Location {
    pub(super) fn remote(store: Arc<dyn ObjectStore>, base: Url, prefix: Path, origin: Arc<str>) -> Self {
        Self { store, base, prefix, is_local: false, origin }
    }

    pub(super) fn local(store: Arc<dyn ObjectStore>, base: Url, prefix: Path) -> Self {
        let origin = base.as_str().into();
        Self { store, base, prefix, is_local: true, origin }
    }

    /// The identity of the store; `None` when its entity tags mean nothing outside this machine or process.
    pub(super) fn origin(&self) -> Option<&str> {
        (!self.is_local && self.base.scheme() != "memory").then_some(&*self.origin)
    }

    /// The location `name` below this one; `name` may have several parts, written as the store lists them.
    ///
    /// A name that begins with `/` starts at the top of the store: another location in the same bucket or on the same disk.
    pub fn child(&self, name: &str) -> Location {
        let from = if name.starts_with('/') { Path::default() } else { self.prefix.clone() };
        let prefix = name.split('/').filter(|part| !part.is_empty()).fold(from, |path, part| {
            // A part from a listing is used unchanged: escaping it again would name another object.
            PathPart::parse(part).map_or_else(|_| path.clone().join(part), |raw| path.clone().join(raw))
        });
        Location { prefix, ..self.clone() }
    }

    /// The folder and the name of this location, if it is the location of one object.
    pub(crate) fn split_file(&self) -> Option<(Location, String)> {
        let name = self.prefix.filename()?.to_owned();
        let prefix = self.prefix.parent().unwrap_or_default();
        Some((Location { prefix, ..self.clone() }, name))
    }

    /// The path of an object below this location, in the terms of the object store.
    pub(crate) fn path(&self, name: &str) -> Path {
        self.child(name).prefix
    }

    /// The name of a listed object relative to this location. The name of an object outside it begins with `/`.
    pub fn name_of(&self, path: &Path) -> String {
        let parts = path.prefix_match(&self.prefix).map(|parts| parts.map(|p| p.as_ref().to_owned()).collect::<Vec<_>>());
        parts.map_or_else(|| format!("/{path}"), |parts| parts.join("/"))
    }

    /// This location as text from which [`Locations::open`] opens the same location again.
    pub(crate) fn to_text(&self) -> String {
        if self.is_local { self.to_string() } else { self.url() }
    }

    /// The name for [`Location::child`] that leads from this location to another one; `None` when that is in another store.
    pub(crate) fn name_of_place(&self, other: &Location) -> Option<String> {
        (self.base == other.base && self.is_local == other.is_local).then(|| self.name_of(&other.prefix))
    }

    /// The client.
    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The directory on this machine, if it is one.
    pub fn local_dir(&self) -> Option<PathBuf> {
        self.is_local.then(|| PathBuf::from("/").join(self.prefix.as_ref()))
    }

    /// The file of an object of a local location.
    pub(super) fn local_path(&self, path: &Path) -> PathBuf {
        PathBuf::from("/").join(path.as_ref())
    }

    /// Scheme, bucket and prefix, without the endpoint, which may change.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.base.as_str().trim_end_matches('/'), self.prefix)
    }

    /// Is this the file system of this machine, whose files may change in place?
    pub(crate) fn is_local(&self) -> bool {
        self.is_local
    }

    /// The location as a URL for DataFusion and [`Locations::open`](super::Locations::open), with special characters escaped.
    pub(crate) fn url(&self) -> String {
        let mut url = self.base.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.clear().extend(self.prefix.parts().map(|part| part.as_ref().to_owned()));
        }
        url.into()
    }

    /// The key under which a DataFusion runtime finds this store.
    pub(crate) fn datafusion_url(&self) -> Result<ObjectStoreUrl> {
        Ok(ObjectStoreUrl::parse(self.base.as_str())?)
    }

    /// The scheme and bucket.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// All objects below this location, in the order of their paths.
    ///
    /// # Errors
    /// [`Error::Storage`] when the store cannot be listed. A directory that does not exist is empty.
    ///
    /// ```no_run
    /// # async fn list() -> asof::Result<()> {
    /// let place = asof::storage::Locations::default().open("s3://bucket/facts")?;
    /// for object in place.list().await? {
    ///     println!("{} {}", place.name_of(&object.location), object.size);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list(&self) -> Result<Vec<ObjectMeta>> {
        let listed: object_store::Result<Vec<ObjectMeta>> = self.store.list(Some(&self.prefix)).try_collect().await;
        let mut found = match listed {
            // The local disk has a file whose name no object can have; the other files are still found.
            Err(object_store::Error::InvalidPath { .. }) if self.is_local => Vec::new(),
            listed => listed?,
        };
        self.add_passed_over(&mut found).await?;
        found.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    /// The metadata of one object, or `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Storage`] when the store does not answer or denies it.
    pub async fn head(&self, name: &str) -> Result<Option<ObjectMeta>> {
        // Opening a pipe would wait for its writer.
        self.check_regular(&self.path(name))?;
        match self.store.head(&self.path(name)).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    /// The bytes of a small object, or `None` if there is none. Use a [`BulkReader`](super::BulkReader) for many or large
    /// objects.
    ///
    /// # Errors
    /// [`Error::Storage`] when the store does not answer or denies it, or has no such bucket; [`Error::UnreadableFile`] when it
    /// sends fewer bytes than the object has.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.check_regular(&self.path(name))?;
        match self.store.get(&self.path(name)).await {
            Ok(found) => {
                let size = found.meta.size;
                let bytes = found.bytes().await?;
                // A store may send fewer bytes than the object has, without an error. That must not be taken for a damaged
                // file.
                match bytes.len() as u64 == size {
                    true => Ok(Some(bytes)),
                    false => Err(Error::UnreadableFile {
                        path: self.child(name).to_string(),
                        reason: format!("its store sent {} bytes of {size}; read it again", bytes.len()),
                    }),
                }
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    /// The bytes of an object from `start` (inclusive) to `end` (exclusive), or `None` if there is no such object. The range
    /// may end beyond the object's end.
    ///
    /// # Errors
    /// [`Error::Storage`] when the range is empty or begins beyond the object's end, and as [`Location::get`].
    pub async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        match self.store.get_range(&self.path(name), range).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    /// Removes an object. It is not an error if there is none. Readers no longer see it when this returns.
    ///
    /// # Errors
    /// [`Error::Storage`] when the store does not answer or denies it; the object may then still be there.
    pub async fn delete(&self, name: &str) -> Result<()> {
        match self.store.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(other) => Err(self.write_failure(other.into())),
        }
    }

    /// Removes objects, in requests of up to 1,000 where the store supports it. It is not an error if some do not exist.
    ///
    /// Not atomic: after an error any of the objects may be left, and another call removes the rest.
    ///
    /// # Errors
    /// [`Error::Storage`] with the first failure, after all others have been tried.
    pub async fn delete_many(&self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Result<()> {
        let paths: Vec<Path> = names.into_iter().map(|name| self.path(name.as_ref())).collect();
        let mut failure = None;
        for paths in paths.chunks(DELETES_IN_REQUEST) {
            let paths: Vec<_> = paths.iter().cloned().map(Ok).collect();
            let mut deleted = self.store.delete_stream(stream::iter(paths).boxed());
            while let Some(one) = deleted.next().await {
                match one {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(other) => failure = failure.or(Some(other)),
                }
            }
        }
        failure.map_or(Ok(()), |error| Err(self.write_failure(error.into())))
    }

    /// Uploads the content of a file under a name, in parts when it is large. The object appears whole, replaces one of that
    /// name, and is durable when this returns.
    ///
    /// # Errors
    /// [`Error::System`] when the file cannot be read, [`Error::Storage`] or [`Error::Io`] when the upload fails; the object under
    /// the name is then unchanged, or the new one if only the answer was lost.
    pub async fn upload(&self, name: &str, mut file: File) -> Result<()> {
        if let Some(path) = self.child(name).local_dir() {
            return blocking(move || {
                file.rewind().map_err(|cause| Error::System { subject: "the file to upload".into(), cause })?;
                local::put(&path, &mut file)
            })
            .await
            .map_err(|e| self.write_failure(e));
        }
        let mut sink = BufWriter::new(self.store.clone(), self.path(name));
        let file = Arc::new(file);
        let mut offset = 0;
        loop {
            let source = file.clone();
            let chunk = blocking(move || read_at(&source, offset)).await?;
            if chunk.is_empty() {
                break;
            }
            offset += chunk.len() as u64;
            sink.put(chunk).await.map_err(|e| self.write_failure(e.into()))?;
        }
        sink.shutdown().await.map_err(|e| match e.downcast::<object_store::Error>() {
            Ok(own) => self.write_failure(Error::Storage(own)),
            Err(cause) => Error::System { subject: format!("the upload of `{}`", self.child(name)), cause },
        })?;
        Ok(())
    }

    /// Puts an object under a name, atomically and durably. It replaces one of that name, and gets a new time of modification
    /// even if the content is the same.
    ///
    /// # Errors
    /// As [`Location::put_if_absent`].
    pub(crate) async fn put(&self, name: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let bytes: Bytes = bytes.into();
        match self.child(name).local_dir() {
            Some(path) => blocking(move || local::put(&path, &mut bytes.as_ref())).await.map_err(|e| self.write_failure(e)),
            None => Ok(self.store.put(&self.path(name), PutPayload::from(bytes)).await.map(drop)?),
        }
    }

    /// Publishes an object under a name that does not exist yet: atomic, durable, and the first writer wins.
    ///
    /// # Errors
    /// [`Error::Storage`] or [`Error::Io`] when it cannot be written. When only the answer was lost, the object may be there.
    pub async fn put_if_absent(&self, name: &str, bytes: impl Into<Bytes>) -> Result<Published> {
        let bytes: Bytes = bytes.into();
        if let Some(path) = self.child(name).local_dir() {
            return blocking(move || local::put_if_absent(&path, &bytes)).await.map_err(|e| self.write_failure(e));
        }
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(&self.path(name), PutPayload::from(bytes), options).await {
            Ok(_) => Ok(Published::New),
            // S3 answers a lost race with 412 (precondition) or, while the winner still writes, 409.
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(Published::Existed),
            Err(other) => Err(other.into()),
        }
    }

    /// A failed write: [`Error::ReadOnly`] when the operating system says that this process may not write there.
    fn write_failure(&self, error: Error) -> Error {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = match &error {
            Error::Io { cause, .. } => Some(cause),
            Error::Storage(cause) => Some(cause),
            _ => None,
        };
        while let Some(here) = cause.filter(|_| self.is_local) {
            if let Some(io) = here.downcast_ref::<std::io::Error>() {
                let is_refused = matches!(io.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied);
                return if is_refused { Error::ReadOnly { path: self.to_string(), reason: io.to_string() } } else { error };
            }
            cause = here.source();
        }
        error
    }
}

/// The most objects that S3 removes by one request.
const DELETES_IN_REQUEST: usize = 1_000;
const CHUNK_BYTES: u64 = 4 << 20;

fn read_at(mut file: &File, offset: u64) -> Result<Bytes> {
    let mut chunk = Vec::new();
    let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.take(CHUNK_BYTES).read_to_end(&mut chunk));
    read.map_err(|cause| Error::System { subject: "the file to upload".into(), cause })?;
    Ok(chunk.into())
}

/// Runs blocking work on the disk away from the threads that drive the network.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::lost_task("a background task", e))?
}

/// The outcome of a put-if-absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Published {
    /// This call created the object.
    New,
    /// The object existed already, and is unchanged.
    Existed,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_local {
            write!(f, "/{}", self.prefix)
        } else {
            write!(f, "{}/{}", shown(&self.base).trim_end_matches('/'), self.prefix)
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}
