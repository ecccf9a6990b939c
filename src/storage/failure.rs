//! What an object store said went wrong, as it may be shown: place, cause, and what to do.
//! It keeps nothing that could hold a credential: bodies are cut to code and message, URLs to scheme, host and path.

use std::error::Error as StdError;

use object_store::{
    Error, Result,
    client::{HttpError, HttpErrorKind},
    path::Path,
};

/// Longer answers say nothing more to a person.
const LONGEST_TEXT: usize = 600;
/// Options whose names hold one of these have values that are never shown.
const SECRET_WORDS: [&str; 6] = ["key", "secret", "token", "sas", "password", "credential"];

/// Values that must not be shown.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// The values of these options that are secrets by their names.
    pub(super) fn among<'a>(options: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let is_secret = |name: &str| {
            let name = name.to_ascii_lowercase();
            SECRET_WORDS.iter().any(|word| name.contains(word))
        };
        Self::of(options.into_iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| value))
    }

    /// These values.
    pub(super) fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let values = values.into_iter().filter(|value| !matches!(*value, "" | "true" | "false"));
        let mut values: Vec<String> = values.map(str::to_owned).collect();
        // The longest first: one secret may be a part of another.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self(values)
    }

    /// The text without secrets, and its URLs without users, passwords and queries.
    pub(super) fn scrub(&self, text: &str) -> String {
        let text = self.0.iter().fold(bare_urls(text), |text, secret| text.replace(secret.as_str(), "***"));
        match text.char_indices().nth(LONGEST_TEXT) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        }
    }
}

/// Cuts user, password, query and fragment out of every URL in a text.
fn bare_urls(text: &str) -> String {
    let ends_url = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | ')' | '`');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let (url, tail) = after.split_at(after.find(ends_url).unwrap_or(after.len()));
        let url = &url[..url.find(['?', '#']).unwrap_or(url.len())];
        // A password may hold a slash that was not escaped, and a path an `@` that is none of its.
        let host = url.split('/').next().unwrap_or_default();
        let user = host.rfind('@').or_else(|| url.rfind('@').filter(|_| host.contains(':') && !is_port(host)));
        out.push_str(&url[user.map_or(0, |at| at + 1)..]);
        rest = tail;
    }
    out + rest
}

fn is_port(host: &str) -> bool {
    host.rsplit(':').next().is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

/// The content of the first XML element of this name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let start = text.find(&format!("<{name}>"))? + name.len() + 2;
    let end = text[start..].find(&format!("</{name}>"))?;
    Some(&text[start..start + end])
}

/// A text with its XML, if any, cut to code and message: services repeat the key and what was signed in the rest.
fn without_body(text: &str) -> String {
    let (Some(start), Some(end)) = (text.find('<'), text.rfind('>')) else { return text.to_owned() };
    if end < start {
        return text.to_owned();
    }
    let said: Vec<&str> = ["Code", "Message"].iter().filter_map(|name| element(&text[start..=end], name)).collect();
    format!("{}{}{}", &text[..start], said.join(": "), &text[end + 1..])
}

/// The cause of a failed request, told for people.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {said}; {advice}")]
struct StoreFailure {
    place: String,
    said: String,
    advice: &'static str,
}

const DENIED: &str = "access was denied: check the credentials (options win over the environment), the region, and what the \
                      bucket's policy allows";
const NO_BUCKET: &str = "there is no such bucket: check its name, the region and the endpoint";
const TIMED_OUT: &str = "the store did not answer in time: check the endpoint and the network, or raise \
                         `RequestSettings::request_timeout`";
const UNREACHABLE: &str = "the store cannot be reached: check the endpoint, the proxy and the network";
const GONE: &str = "check the path";
const CONDITION: &str = "another writer was there first, or the object has changed: read it again";
const OTHER: &str = "try again, and check region and endpoint if it fails again";

/// Which store's errors are told, and what must not be told with them.
#[derive(Clone)]
pub(super) struct Teller {
    base: String,
    secrets: Secrets,
}

impl Teller {
    pub(super) fn new(base: &str, secrets: Secrets) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), secrets }
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// The error as it may be shown; its kind stays, but a bucket that does not exist is no missing object.
    pub(super) fn tell(&self, path: Option<&Path>, error: Error) -> Error {
        let place = path.map_or_else(|| self.base.clone(), |path| format!("{}/{path}", self.base));
        let told = |source: &(dyn StdError + 'static), advice: &'static str| -> Box<dyn StdError + Send + Sync> {
            let said = self.secrets.scrub(&without_body(&source.to_string()));
            Box::new(StoreFailure { place: self.secrets.scrub(&place), said, advice })
        };
        let shown = |path: &str| self.secrets.scrub(path);
        match error {
            Error::NotFound { source, .. } if is_missing_bucket(&source.to_string()) => {
                Error::Generic { store: "bucket", source: told(&*source, NO_BUCKET) }
            }
            Error::NotFound { path, source } => Error::NotFound { path: shown(&path), source: told(&*source, GONE) },
            Error::AlreadyExists { path, source } => {
                Error::AlreadyExists { path: shown(&path), source: told(&*source, CONDITION) }
            }
            Error::Precondition { path, source } => Error::Precondition { path: shown(&path), source: told(&*source, CONDITION) },
            Error::NotModified { path, source } => Error::NotModified { path: shown(&path), source: told(&*source, CONDITION) },
            Error::PermissionDenied { path, source } => {
                Error::PermissionDenied { path: shown(&path), source: told(&*source, DENIED) }
            }
            Error::Unauthenticated { path, source } => {
                Error::Unauthenticated { path: shown(&path), source: told(&*source, DENIED) }
            }
            Error::Generic { store, source } => {
                let advice = advice_on(&*source);
                Error::Generic { store, source: told(&*source, advice) }
            }
            Error::NotSupported { source } => Error::NotSupported { source: told(&*source, "use another store") },
            Error::InvalidPath { source } => {
                Error::Generic { store: "path", source: told(&source, "rename the object, or leave its folder out") }
            }
            // These hold names of this program alone.
            other => other,
        }
    }

    pub(super) fn tell_result<T>(&self, path: &Path, result: Result<T>) -> Result<T> {
        result.map_err(|error| self.tell(Some(path), error))
    }
}

fn is_missing_bucket(text: &str) -> bool {
    ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"].iter().any(|code| text.contains(code))
}

fn advice_on(error: &(dyn StdError + 'static)) -> &'static str {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<HttpError>().map(HttpError::kind) {
            Some(HttpErrorKind::Timeout) => return TIMED_OUT,
            Some(HttpErrorKind::Connect) => return UNREACHABLE,
            _ => cause = error.source(),
        }
    }
    let text = error.to_string();
    match () {
        () if is_missing_bucket(&text) => NO_BUCKET,
        () if ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "401 ", "403 "]
            .iter()
            .any(|c| text.contains(c)) =>
        {
            DENIED
        }
        () => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_what_may_be_secret_and_keep_their_place() {
        let cases = [
            ("GET http://h:9000/b/k?X-Amz-Signature=abc in 3ms", "GET http://h:9000/b/k in 3ms"),
            ("(s3://user:pa55@lab/x) and s3://lab/y", "(s3://lab/x) and s3://lab/y"),
            ("s3://user:pa/55@lab/x", "s3://lab/x"),
            ("https://h:80/a@b/c#t=1", "https://h:80/a@b/c"),
            ("no url at all? yes", "no url at all? yes"),
        ];
        for (text, expected) in cases {
            assert_eq!(bare_urls(text), expected);
        }
    }

    #[test]
    fn what_a_service_repeats_of_the_request_is_not_told() {
        let body = "403 Forbidden: <?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>The signature does \
                    not match.</Message><AWSAccessKeyId>AKIA123</AWSAccessKeyId><StringToSign>AWS4</StringToSign></Error>";
        let source = Box::<dyn StdError + Send + Sync>::from(body);
        let teller = Teller::new("s3://lab", Secrets::default());
        let told = teller.tell(Some(&"a/b".into()), Error::PermissionDenied { path: "a/b".into(), source });
        for text in [told.to_string(), format!("{told:?}")] {
            assert!(text.contains("SignatureDoesNotMatch: The signature does not match."), "{text}");
            assert!(text.contains("s3://lab/a/b") && text.contains("check the credentials"), "{text}");
            assert!(!text.contains("AKIA123") && !text.contains("AWS4"), "{text}");
        }
    }

    #[test]
    fn known_values_are_hidden_wherever_they_stand() {
        let options = [("aws_access_key_id", "AKIA"), ("aws_secret_access_key", "AKIA-and-more"), ("aws_region", "eu-1")];
        let text = Secrets::among(options).scrub("AKIA-and-more of AKIA in eu-1");
        assert_eq!(text, "*** of *** in eu-1");
    }
}
