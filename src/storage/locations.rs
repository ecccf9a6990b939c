//! Object stores by path or URL: which store a text means, and one client for each while it is in use.
//! It sends no request: a place that does not exist is found out when it is used.

use std::{
    collections::HashMap,
    fmt,
    path::{Component, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use object_store::{ObjectStore, local::LocalFileSystem, memory::InMemory, path::Path};
use url::Url;

use super::{
    Location,
    clients::{self, RequestSettings},
    failure::{Secrets, Teller},
    guard::Guard,
};
use crate::error::{Error, Result};

/// How locations are opened: request settings, options of the object stores, shared stores.
///
/// Options are named as in the `object_store` crate (`aws_access_key_id`, `aws_endpoint`, `aws_region`, ...;
/// `google_...` and `azure_...` with the flags `gcp` and `azure`). They win over the settings, and those over the
/// environment, where the same names are read in capitals. Buckets of a custom endpoint are asked for in path style, and
/// an endpoint that begins with `http://` is taken at its word.
///
/// Clones share their clients: the limit on requests in flight holds for all of them together.
///
/// ```
/// # fn main() -> asof::Result<()> {
/// use asof::storage::Locations;
///
/// let minio = Locations::default()
///     .option("aws_endpoint", "http://127.0.0.1:9000")
///     .option("aws_access_key_id", "...")
///     .option("aws_secret_access_key", "...");
/// let place = minio.open("s3://bucket/facts")?;
/// assert_eq!(place.to_string(), "s3://bucket/facts");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Locations {
    options: Vec<(String, String)>,
    requests: RequestSettings,
    mounted: Vec<(Url, Arc<dyn ObjectStore>)>,
    /// The stores in use, by scheme and bucket. A client that nobody uses is closed: its connections belong to a runtime
    /// that may be gone.
    opened: Arc<Mutex<HashMap<Url, Opened>>>,
}

struct Opened {
    store: Weak<Guard>,
    origin: Arc<str>,
}

impl Locations {
    /// Sets an option of the stores' clients; the last one of a name counts.
    pub fn option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((key.into(), value.into()));
        self.opened = Arc::default();
        self
    }

    /// Sets time-outs, retries and the number of requests in flight.
    pub fn requests(mut self, settings: RequestSettings) -> Self {
        self.requests = settings;
        self.opened = Arc::default();
        self
    }

    /// Uses this object store for all URLs of this scheme and bucket, for example `memory://shared`.
    ///
    /// # Errors
    /// [`Error::InvalidLocation`] when `base` is not a URL.
    pub fn mount(mut self, base: &str, store: Arc<dyn ObjectStore>) -> Result<Self> {
        let base = Url::parse(base).map_err(|e| invalid(&without_credentials(base), e))?;
        self.mounted.push((bucket_of(&base)?, store));
        self.opened = Arc::default();
        Ok(self)
    }

    /// Opens a path of this machine or a URL with the scheme `file`, `s3` or `memory`, or with their flags `gs` or `az`.
    ///
    /// A `memory` URL that is not mounted is a new, empty store. User, password and query of a URL are passed over: give
    /// credentials as options or in the environment.
    ///
    /// # Errors
    /// [`Error::InvalidLocation`] when it is neither, or its options do not fit.
    pub fn open(&self, text: &str) -> Result<Location> {
        let Some(url) = as_url(text)? else { return local_place(text) };
        if url.scheme() == "file" {
            let path = url.to_file_path().map_err(|()| invalid(&shown(&url), "it is not a path of this machine"))?;
            return local_place(&path.to_string_lossy());
        }
        let base = bucket_of(&url)?;
        let prefix = Path::from_url_path(url.path()).map_err(|e| invalid(&shown(&url), e))?;
        let mounted = self.mounted.iter().find(|(mounted, _)| *mounted == base).map(|(_, store)| store.clone());
        if mounted.is_none() && base.scheme() == "memory" {
            let store = self.guard(&base, Arc::new(InMemory::new()), Secrets::default());
            return Ok(Location::remote(store, base.clone(), prefix, base.as_str().into()));
        }
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((store, origin)) = opened.get(&base).and_then(|known| Some((known.store.upgrade()?, known.origin.clone()))) {
            return Ok(Location::remote(store, base, prefix, origin));
        }
        let (store, secrets, endpoint) = match mounted {
            Some(store) => (store, Secrets::default(), None),
            None => {
                let client = clients::open(&base, &self.options, &self.requests).map_err(|e| invalid(&shown(&url), e))?;
                (client.store, client.secrets, client.endpoint)
            }
        };
        let store = self.guard(&base, store, secrets);
        let origin: Arc<str> = endpoint.map_or_else(|| base.to_string(), |endpoint| format!("{base} at {endpoint}")).into();
        opened.insert(base.clone(), Opened { store: Arc::downgrade(&store), origin: origin.clone() });
        Ok(Location::remote(store, base, prefix, origin))
    }

    fn guard(&self, base: &Url, store: Arc<dyn ObjectStore>, secrets: Secrets) -> Arc<Guard> {
        Arc::new(Guard::new(store, self.requests.concurrency, Teller::new(base.as_str(), secrets)))
    }
}

impl fmt::Debug for Locations {
    /// Shows the names of the options, never their values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.options.iter().map(|(key, _)| key).collect();
        let mounted: Vec<_> = self.mounted.iter().map(|(url, _)| url.as_str()).collect();
        let mut shown = f.debug_struct("Locations");
        shown.field("options", &keys).field("requests", &self.requests).field("mounted", &mounted).finish()
    }
}

/// The scheme of a text that is written as a URL. A Windows drive letter or a plain path is none.
fn scheme_of(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    (scheme.len() > 1 && scheme.bytes().all(fits)).then_some(scheme)
}

fn as_url(text: &str) -> Result<Option<Url>> {
    if scheme_of(text).is_none() {
        return Ok(None);
    }
    Url::parse(text).map(Some).map_err(|e| invalid(&without_credentials(text), format!("it is no URL: {e}")))
}

fn bucket_of(url: &Url) -> Result<Url> {
    let text = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
    Url::parse(&text).map_err(|e| invalid(&shown(url), e))
}

/// A path or URL as it may be shown. Of what looks like a URL and is none, the scheme.
pub(crate) fn without_credentials(text: &str) -> String {
    match scheme_of(text) {
        None => text.to_owned(),
        Some(scheme) => Url::parse(text).map_or_else(|_| format!("{scheme}://..."), |url| shown(&url)),
    }
}

/// The URL without user, password and query, where credentials hide.
pub(super) fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

fn invalid(location: &str, reason: impl fmt::Display) -> Error {
    Error::InvalidLocation { location: location.into(), reason: reason.to_string() }
}

fn local_place(text: &str) -> Result<Location> {
    let absolute = std::path::absolute(text).map_err(|e| invalid(text, e))?;
    let prefix = Path::from_absolute_path(normalized(&absolute)).map_err(|e| invalid(text, e))?;
    let base = Url::parse("file:///").map_err(|e| invalid(text, e))?;
    Ok(Location::local(Arc::new(LocalFileSystem::new()), base, prefix))
}

/// Resolves `.` and `..` by their names: an object store's path holds neither.
fn normalized(path: &std::path::Path) -> PathBuf {
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
