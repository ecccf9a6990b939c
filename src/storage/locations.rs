//! Opens object stores by path or URL, with one client per store while it is in use.
//! Opening sends no request: a location that does not exist is found when it is used.

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
    failure::{Redactor, Secrets},
    guard::Guard,
};
use crate::error::{Error, Result};

/// How locations are opened: request settings, options of the object stores, shared stores.
///
/// Options are named as in the `object_store` crate: `aws_access_key_id`, `aws_endpoint`, `aws_region`, ... with the flag `aws`,
/// `google_...` with `gcp`, `azure_...` with `azure`. They take precedence over the settings, and those over the environment,
/// where the same names are read in capitals. Requests to a custom endpoint use path style, and an endpoint that begins with
/// `http://` needs no further option.
///
/// Clones share their clients, and so the limit on requests in flight.
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
#[must_use]
pub struct Locations {
    options: Vec<(String, String)>,
    requests: RequestSettings,
    mounted: Vec<(Url, Arc<dyn ObjectStore>)>,
    /// The stores in use, by scheme and bucket. An unused client is closed, because its connections belong to a runtime that
    /// may have ended.
    opened: Arc<Mutex<HashMap<Url, Opened>>>,
}

struct Opened {
    store: Weak<Guard>,
    origin: Arc<str>,
}

impl Locations {
    /// Sets an option of the stores' clients. Of several with one name the last counts.
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

    /// Opens a path of this machine or a URL with the scheme `file` or `memory`, or with their flags `s3`, `gs` or `az`.
    ///
    /// A `memory` URL that is not mounted is a new, empty store. User, password and query of a URL are ignored: give
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
        Arc::new(Guard::new(store, self.requests.concurrency, Redactor::new(base.as_str(), secrets)))
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

/// The scheme of a text that is written as a URL; `None` for a plain path or a Windows drive letter.
fn scheme_of(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    (scheme.len() > 1 && scheme.bytes().all(fits)).then_some(scheme)
}

fn as_url(text: &str) -> Result<Option<Url>> {
    if scheme_of(text).is_none() {
        return Ok(None);
    }
    let url = Url::parse(text).map_err(|e| invalid(&without_credentials(text), format!("it is not a URL: {e}")))?;
    // What follows these is not part of the path, so another folder than the intended one would be opened.
    if url.fragment().is_some() {
        return Err(invalid(&shown(&url), "a URL's path ends at `#`; write `%23` for a `#` in a name"));
    }
    if url.query().is_some_and(|query| !query.contains('=')) {
        return Err(invalid(&shown(&url), "a URL's path ends at `?`; write `%3F` for a `?` in a name"));
    }
    Ok(Some(url))
}

fn bucket_of(url: &Url) -> Result<Url> {
    let text = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
    Url::parse(&text).map_err(|e| invalid(&shown(url), e))
}

/// A path or URL as it may be shown. Of text that looks like a URL and is not one, only the scheme.
pub(crate) fn without_credentials(text: &str) -> String {
    match scheme_of(text) {
        None => text.to_owned(),
        Some(scheme) => Url::parse(text).map_or_else(|_| format!("{scheme}://..."), |url| shown(&url)),
    }
}

/// Text with every URL as it may be shown. A URL that follows a quote ends at the next quote of the same kind.
pub(crate) fn redacted(text: &str) -> String {
    let (mut shown, mut rest) = (String::new(), text);
    while let Some(colon) = rest.find("://") {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let start = rest[..colon].trim_end_matches(fits).len();
        let quote = rest[..start].chars().next_back().filter(|c| matches!(c, '\'' | '"' | '`'));
        let end = colon + quote.map_or_else(|| end_of_word(&rest[colon..]), |quote| end_of_quote(&rest[colon..], quote));
        shown.push_str(&rest[..start]);
        match scheme_of(&rest[start..end]) {
            Some(_) => shown.push_str(&without_credentials(&rest[start..end])),
            None => shown.push_str("..."),
        }
        rest = &rest[end..];
    }
    shown + rest
}

fn end_of_word(text: &str) -> usize {
    text.find(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`' | ')' | ';')).unwrap_or(text.len())
}

/// A quote inside is doubled or follows a backslash.
fn end_of_quote(text: &str, quote: char) -> usize {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' || (c == quote && chars.peek().is_some_and(|(_, next)| *next == quote)) {
            chars.next();
        } else if c == quote {
            return at;
        }
    }
    text.len()
}

/// The URL without user, password and query, which may hold credentials.
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

/// Resolves `.` and `..` in a path without looking at the disk: paths of object stores have neither.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_a_text_are_left_out_and_the_rest_is_kept() {
        for (text, expected) in [
            ("no URL: a b//c", "no URL: a b//c"),
            ("LOCATION 's3://u:pw@b/a b?sig=x' TBL", "LOCATION 's3://b/a%20b' TBL"),
            ("LOCATION \"s3://u:pw@la b/a?sig=x\" TBL", "LOCATION \"s3://...\" TBL"),
            ("LOCATION 's3://u:pw@b/a", "LOCATION 's3://b/a"),
            ("LOCATION 's3://u:p\\'pw@b/a' x", "LOCATION 's3://b/a' x"),
            ("LOCATION 's3://u:p''pw@b/a' x", "LOCATION 's3://b/a' x"),
            ("at s3://u:pw@b/a?sig=x, and `https://u:pw@c/d`", "at s3://b/a and `https://c/d`"),
            ("ä://u:pw@x and é's3://b/c'", "ä... and é's3://b/c'"),
            ("://", "..."),
        ] {
            assert_eq!(redacted(text), expected);
        }
    }

    #[test]
    fn names_that_mean_something_in_urls_come_back_as_they_were() {
        let memory = Locations::default().mount("memory://m", Arc::new(InMemory::new())).unwrap();
        let names =
            ["a#b", "a?b", "a%41b", "a%2Fb", "a\\b", "a b", "ä€", "a*b", "a[b]", "a|b", "a:b", "a&b=c", "a+b", "~a^{}`\"<>"];
        for name in names {
            for text in [format!("/top/{name}/below"), "memory://m/top".into()] {
                let mut place = memory.open(&text).unwrap();
                if !place.is_local() {
                    place = place.child(name);
                }
                let again = memory.open(&place.to_text()).unwrap();
                assert_eq!(place.path("x"), again.path("x"), "{name}: {} {}", place.to_text(), again.to_text());
                let url = memory.open(&place.url()).unwrap();
                assert_eq!(place.path("x"), url.path("x"), "{name}: {}", place.url());
                assert!(place.path("x").as_ref().contains(name), "{name}: {}", place.path("x"));
            }
        }
    }

    #[test]
    fn a_url_that_ends_before_its_name_does_is_refused() {
        for (text, word) in [("s3://b/a#1", "%23"), ("file:///a#b", "%23"), ("memory://m/a?b", "%3F")] {
            let error = Locations::default().open(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(Locations::default().open("memory://m/a?sig=x").is_ok());
    }
}
