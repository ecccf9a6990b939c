//! Errors of object stores as they may be shown: the URL, the cause, and what to do.
//! Nothing that could hold a credential is kept: bodies are cut to code and message, URLs to scheme, host and path.

use std::error::Error as StdError;

use object_store::{Error, Result, path::Path};

use crate::error::{Class, ErrorKind, HttpFault, StoreFailure, of_http};

/// Longer answers are cut off.
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

const DENIED: &str = "access was denied: check the credentials (options win over the environment), the region, and what the \
                      bucket's policy allows";
const NO_BUCKET: &str = "there is no such bucket: check its name, the region and the endpoint";
const TIMED_OUT: &str = "the store did not answer in time: check the endpoint and the network, or raise \
                         `RequestSettings::request_timeout`";
const UNREACHABLE: &str = "the store cannot be reached: check the endpoint, the proxy and the network";
const GONE: &str = "check the path";
const CONDITION: &str = "another writer was there first, or the object has changed: read it again";
const OTHER: &str = "try again, and check region and endpoint if it fails again";

/// Rewrites the errors of one store so that they can be shown: with full URLs and advice, and without its secrets.
#[derive(Clone)]
pub(super) struct Redactor {
    base: String,
    secrets: Secrets,
}

impl Redactor {
    pub(super) fn new(base: &str, secrets: Secrets) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), secrets }
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// The error as it may be shown. Its variant stays, except that a bucket that does not exist is not a missing object.
    pub(super) fn redact(&self, path: Option<&Path>, error: Error) -> Error {
        let url = path.map_or_else(|| self.base.clone(), |path| format!("{}/{path}", self.base));
        let failure =
            |source: &(dyn StdError + 'static), advice: &'static str, class: Class| -> Box<dyn StdError + Send + Sync> {
                let said = self.secrets.scrub(&without_body(&source.to_string()));
                Box::new(StoreFailure { url: self.secrets.scrub(&url), said, advice, class })
            };
        let shown = |path: &str| self.secrets.scrub(path);
        // These variants say themselves what kind of error they are.
        let plain = |source: &(dyn StdError + 'static), advice| failure(source, advice, Class::lasting(ErrorKind::Unavailable));
        match error {
            Error::NotFound { source, .. } if is_missing_bucket(&source.to_string()) => {
                let class = Class::lasting(ErrorKind::NotFound);
                Error::Generic { store: "bucket", source: failure(&*source, NO_BUCKET, class) }
            }
            Error::NotFound { path, source } => Error::NotFound { path: shown(&path), source: plain(&*source, GONE) },
            Error::AlreadyExists { path, source } => {
                Error::AlreadyExists { path: shown(&path), source: plain(&*source, CONDITION) }
            }
            Error::Precondition { path, source } => {
                Error::Precondition { path: shown(&path), source: plain(&*source, CONDITION) }
            }
            Error::NotModified { path, source } => Error::NotModified { path: shown(&path), source: plain(&*source, CONDITION) },
            Error::PermissionDenied { path, source } => {
                Error::PermissionDenied { path: shown(&path), source: plain(&*source, DENIED) }
            }
            Error::Unauthenticated { path, source } => {
                Error::Unauthenticated { path: shown(&path), source: plain(&*source, DENIED) }
            }
            Error::Generic { store, source } => {
                let (advice, class) = judged(&*source);
                Error::Generic { store, source: failure(&*source, advice, class) }
            }
            Error::NotSupported { source } => Error::NotSupported { source: plain(&*source, "use another store") },
            Error::InvalidPath { source } => {
                let (advice, class) = ("rename the object, or leave its folder out", Class::lasting(ErrorKind::InvalidInput));
                Error::Generic { store: "path", source: failure(&source, advice, class) }
            }
            // These have names of this program only.
            other => other,
        }
    }

    pub(super) fn redact_result<T>(&self, path: &Path, result: Result<T>) -> Result<T> {
        result.map_err(|error| self.redact(Some(path), error))
    }
}

fn is_missing_bucket(text: &str) -> bool {
    ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"].iter().any(|code| text.contains(code))
}

/// What to do about an error that the client has no variant for, and what kind of error it is.
fn judged(error: &(dyn StdError + 'static)) -> (&'static str, Class) {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some((fault, class)) = of_http(error) {
            match fault {
                HttpFault::TimedOut => return (TIMED_OUT, class),
                HttpFault::Unreachable => return (UNREACHABLE, class),
                HttpFault::Other if class.is_retryable => return (OTHER, class),
                HttpFault::Other => {}
            }
        }
        cause = error.source();
    }
    let text = error.to_string();
    match () {
        () if is_missing_bucket(&text) => (NO_BUCKET, Class::lasting(ErrorKind::NotFound)),
        () if ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "401 ", "403 "]
            .iter()
            .any(|c| text.contains(c)) =>
        {
            (DENIED, Class::lasting(ErrorKind::Unavailable))
        }
        () if is_overloaded(&text) => (OTHER, Class::passing(ErrorKind::Unavailable)),
        () => (OTHER, Class::lasting(ErrorKind::Unavailable)),
    }
}

/// Did the service answer with a status that passes, after the client's own retries? The client's type for it is private, so
/// that the status can only be read from its text.
fn is_overloaded(text: &str) -> bool {
    let status = text.split("status code: ").nth(1).and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
    // An answer of status 200 with an error as its body, as S3 sends when it fails late.
    let is_late = text.contains("Server returned error response");
    is_late || status.is_some_and(|status| matches!(status, 408 | 429 | 500..=599))
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
    fn a_status_that_passes_is_worth_another_try() {
        let answers = [
            (
                "Error performing GET http://h/b/k in 3ms, after 2 retries - Server returned non-2xx status code: 503 Service Unavailable: ",
                true,
            ),
            ("Error performing PUT http://h/b/k in 3ms - Server returned non-2xx status code: 429 Too Many Requests: ", true),
            ("Server returned error response: <Error><Code>InternalError</Code></Error>", true),
            ("Server returned non-2xx status code: 403 Forbidden: ", false),
            ("Server returned non-2xx status code: 400 Bad Request: 503", false),
            ("no status code: x", false),
        ];
        let redactor = Redactor::new("s3://lab", Secrets::default());
        for (text, is_retryable) in answers {
            let error = redactor.redact(Some(&"a".into()), Error::Generic { store: "S3", source: text.into() });
            assert_eq!(crate::error::Error::from(error).is_retryable(), is_retryable, "{text}");
        }
    }

    #[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
    #[test]
    fn a_time_out_is_worth_another_try() {
        use object_store::client::{HttpError, HttpErrorKind};

        let redactor = Redactor::new("s3://lab", Secrets::default());
        let source = Box::new(HttpError::new(HttpErrorKind::Timeout, std::io::Error::other("late")));
        let error = crate::error::Error::from(redactor.redact(None, Error::Generic { store: "S3", source }));
        assert!(error.is_retryable() && error.to_string().contains("did not answer in time"), "{error}");
    }

    #[test]
    fn what_a_service_repeats_of_the_request_is_not_told() {
        let body = "403 Forbidden: <?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>The signature does \
                    not match.</Message><AWSAccessKeyId>AKIA123</AWSAccessKeyId><StringToSign>AWS4</StringToSign></Error>";
        let source = Box::<dyn StdError + Send + Sync>::from(body);
        let redactor = Redactor::new("s3://lab", Secrets::default());
        let shown = redactor.redact(Some(&"a/b".into()), Error::PermissionDenied { path: "a/b".into(), source });
        for text in [shown.to_string(), format!("{shown:?}")] {
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
