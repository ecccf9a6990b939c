//! A place in an object store: the store, and the prefix in it.
//! Credentials go into the store's client and nowhere else: a location shows only scheme, bucket and path.

use std::{
    fmt,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use datafusion::datasource::object_store::ObjectStoreUrl;
use futures::TryStreamExt;
use object_store::{
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    aws::AmazonS3Builder,
    aws::S3ConditionalPut,
    buffered::BufWriter,
    local::LocalFileSystem,
    memory::InMemory,
    path::{Path, PathPart},
};
use tokio::io::AsyncWriteExt;
use url::Url;

use super::local::{self, StagedFile};

use crate::error::{Error, Result};

/// A place in an object store.
///
/// Objects are named relative to it, with `/` between the parts.
#[derive(Clone)]
pub struct Location {
    store: Arc<dyn ObjectStore>,
    /// Scheme and bucket; the key under which DataFusion knows the store.
    base: Url,
    prefix: Path,
    is_local: bool,
}

/// How locations are opened: options of the object stores, shared memory stores.
///
/// Options are named as in the `object_store` crate (`aws_access_key_id`, `aws_endpoint`, `aws_region`,
/// `aws_allow_http`, ...); what they leave open comes from the environment.
#[derive(Clone, Default)]
pub struct Locations {
    options: Vec<(String, String)>,
    mounted: Vec<(Url, Arc<dyn ObjectStore>)>,
}

impl Locations {
    /// Sets an option of the S3 client.
    pub fn option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((key.into(), value.into()));
        self
    }

    /// Uses this object store for all URLs of this scheme and bucket, for example `memory://shared`.
    ///
    /// # Errors
    /// [`Error::InvalidLocation`] when `base` is not a URL.
    pub fn mount(mut self, base: &str, store: Arc<dyn ObjectStore>) -> Result<Self> {
        let base = Url::parse(base).map_err(|e| invalid(&without_credentials(base), e))?;
        self.mounted.push((bucket_of(&base)?, store));
        Ok(self)
    }

    /// Opens a path of this machine or a URL with the scheme `file`, `s3` or `memory`.
    ///
    /// A `memory` URL that is not mounted is a new, empty store.
    ///
    /// # Errors
    /// [`Error::InvalidLocation`] when it is neither, or its options do not fit.
    pub fn open(&self, text: &str) -> Result<Location> {
        let Some(url) = as_url(text) else { return local_place(text) };
        let base = bucket_of(&url)?;
        let prefix = Path::from_url_path(url.path()).map_err(|e| invalid(&shown(&url), e))?;
        if let Some((_, store)) = self.mounted.iter().find(|(mounted, _)| *mounted == base) {
            return Ok(Location { store: store.clone(), base, prefix, is_local: false });
        }
        match url.scheme() {
            "file" => {
                let path = url.to_file_path().map_err(|()| invalid(&shown(&url), "it is not a path of this machine"))?;
                local_place(&path.to_string_lossy())
            }
            "memory" => Ok(Location { store: Arc::new(InMemory::new()), base, prefix, is_local: false }),
            "s3" => {
                let mut builder =
                    AmazonS3Builder::from_env().with_url(base.as_str()).with_conditional_put(S3ConditionalPut::ETagMatch);
                for (key, value) in &self.options {
                    let key = key.parse().map_err(|e: object_store::Error| invalid(&shown(&url), e))?;
                    builder = builder.with_config(key, value);
                }
                let store = builder.build().map_err(|e| invalid(&shown(&url), e))?;
                Ok(Location { store: Arc::new(store), base, prefix, is_local: false })
            }
            other => Err(invalid(&shown(&url), format!("the scheme `{other}` is not supported; use s3, file or memory"))),
        }
    }
}

impl fmt::Debug for Locations {
    /// Shows the names of the options, never their values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.options.iter().map(|(key, _)| key).collect();
        let mounted: Vec<_> = self.mounted.iter().map(|(url, _)| url.as_str()).collect();
        f.debug_struct("Locations").field("options", &keys).field("mounted", &mounted).finish()
    }
}

/// A Windows drive letter or a plain path is not a URL.
fn as_url(text: &str) -> Option<Url> {
    text.contains("://").then(|| Url::parse(text).ok()).flatten()
}

fn bucket_of(url: &Url) -> Result<Url> {
    let text = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
    Url::parse(&text).map_err(|e| invalid(&shown(url), e))
}

/// A path or URL as it may be shown.
pub(crate) fn without_credentials(text: &str) -> String {
    as_url(text).map_or_else(|| text.to_owned(), |url| shown(&url))
}

/// The URL without user, password and query, where credentials hide.
fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

fn invalid(location: &str, reason: impl fmt::Display) -> Error {
    Error::InvalidLocation { location: location.into(), reason: reason.to_string() }
}

fn local_place(text: &str) -> Result<Location> {
    let absolute = std::path::absolute(text).map_err(|e| invalid(text, e))?;
    let prefix = Path::from_absolute_path(normalized(&absolute)).map_err(|e| invalid(text, e))?;
    let base = Url::parse("file:///").map_err(|e| invalid(text, e))?;
    Ok(Location { store: Arc::new(LocalFileSystem::new()), base, prefix, is_local: true })
}

/// Resolves `.` and `..` by their names: an object store's path holds neither.
fn normalized(path: &std::path::Path) -> PathBuf {
    use std::path::Component;
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                parts.pop();
            }
            Component::CurDir => {}
            other => parts.push(other),
        }
    }
    parts
}

impl Location {
    /// The place `name` below this one; `name` may have several parts, written as the store lists them.
    pub fn child(&self, name: &str) -> Location {
        let prefix = name.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |path, part| {
            // A part that came from a listing is used as it is: escaping it again would name another object.
            PathPart::parse(part).map_or_else(|_| path.clone().join(part), |raw| path.clone().join(raw))
        });
        Location { prefix, ..self.clone() }
    }

    /// The folder and the name of the object that this location would be, if it is one.
    pub(crate) fn split_file(&self) -> Option<(Location, String)> {
        let name = self.prefix.filename()?.to_owned();
        let prefix = self.prefix.parent().unwrap_or_default();
        Some((Location { prefix, ..self.clone() }, name))
    }

    /// The path of an object below this location, as the object store knows it.
    pub(crate) fn path(&self, name: &str) -> Path {
        self.child(name).prefix
    }

    /// The name, relative to this location, of an object that its store listed.
    pub(crate) fn name_of(&self, path: &Path) -> String {
        let parts = path.prefix_match(&self.prefix).map(|parts| parts.map(|p| p.as_ref().to_owned()).collect::<Vec<_>>());
        parts.map_or_else(|| path.to_string(), |parts| parts.join("/"))
    }

    /// The client.
    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The directory on this machine, if it is one.
    pub fn local_dir(&self) -> Option<PathBuf> {
        self.is_local.then(|| PathBuf::from("/").join(self.prefix.as_ref()))
    }

    /// Is this the file system of this machine, whose files may change in place?
    pub(crate) fn is_local(&self) -> bool {
        self.is_local
    }

    /// The location as a URL, as DataFusion reads it.
    pub(crate) fn url(&self) -> String {
        format!("{}/{}", self.base.as_str().trim_end_matches('/'), self.prefix)
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
    pub(crate) async fn list(&self) -> Result<Vec<ObjectMeta>> {
        let mut found: Vec<ObjectMeta> = self.store.list(Some(&self.prefix)).try_collect().await?;
        found.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    /// The metadata of one object, or `None` if there is none.
    pub(crate) async fn head(&self, name: &str) -> Result<Option<ObjectMeta>> {
        match self.store.head(&self.path(name)).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    /// A small object whole, or `None` if there is none.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        match self.store.get(&self.path(name)).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    /// Puts the content of a file under a name; the object appears whole, and is durable when this returns.
    pub(crate) async fn upload(&self, name: &str, file: File) -> Result<()> {
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
            sink.put(chunk).await?;
        }
        sink.shutdown().await.map_err(|e| match e.downcast::<object_store::Error>() {
            Ok(own) => Error::Storage(own),
            Err(source) => Error::Io { path: self.child(name).to_string().into(), source },
        })?;
        match self.child(name).local_dir() {
            Some(path) => blocking(move || local::sync(&path)).await,
            None => Ok(()),
        }
    }

    /// Publishes an object under a name that does not exist yet: atomic, and the first writer wins.
    pub(crate) async fn put_if_absent(&self, name: &str, bytes: Vec<u8>) -> Result<Published> {
        if let Some(path) = self.child(name).local_dir() {
            return blocking(move || local::put_if_absent(&path, &bytes)).await;
        }
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(&self.path(name), PutPayload::from(bytes), options).await {
            Ok(_) => Ok(Published::New),
            // S3 answers a lost race with 412 (precondition) or, while the winner still writes, 409.
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(Published::Existed),
            Err(other) => Err(other.into()),
        }
    }

    /// Removes an object; one that is gone already is no error.
    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        match self.store.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }

    /// Files on this machine's disk that were begun and never published; other stores show none.
    pub(crate) async fn staged(&self) -> Result<Vec<StagedFile>> {
        match self.local_dir() {
            Some(dir) => blocking(move || local::staged(&dir)).await,
            None => Ok(Vec::new()),
        }
    }
}

const CHUNK_BYTES: u64 = 4 << 20;

fn read_at(mut file: &File, offset: u64) -> Result<Bytes> {
    let mut chunk = Vec::new();
    let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.take(CHUNK_BYTES).read_to_end(&mut chunk));
    read.map_err(|source| Error::Io { path: "a temporary file".into(), source })?;
    Ok(chunk.into())
}

/// Runs what waits for the disk off the threads that wait for the network.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Io { path: "a background task".into(), source: e.into() })?
}

/// What became of a put-if-absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Published {
    /// This call made the object.
    New,
    /// Somebody else had made it before; it is unchanged.
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
