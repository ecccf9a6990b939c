//! Clients of object stores: built from settings, options and the environment.
//! Secrets go into the client and into the list of texts that are never shown, and nowhere else.

use std::{sync::Arc, time::Duration};

use object_store::ObjectStore;
#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
use object_store::{BackoffConfig, ClientConfigKey, RetryConfig};
use url::Url;

use super::failure::Secrets;

/// How requests to an object store are sent: time-outs, retries, and how many at once.
///
/// They take precedence over the environment (`AWS_TIMEOUT`, `AWS_CONNECT_TIMEOUT`, ...), and options
/// ([`Locations::option`](super::Locations::option)) take precedence over them.
///
/// ```
/// use std::time::Duration;
/// use asof::storage::{Locations, RequestSettings};
///
/// let patient = RequestSettings { request_timeout: Duration::from_secs(120), ..Default::default() };
/// let locations = Locations::default().requests(patient);
/// # let _ = locations;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestSettings {
    /// How often a request is sent again after the first attempt: after server errors, throttling, broken connections, and
    /// time-outs of requests that change nothing. With 0 each request is sent once.
    pub retry_count: usize,
    /// No retry starts later than this after the first attempt.
    pub retry_timeout: Duration,
    /// The pause before the first retry. Each later pause is longer by a random factor of up to two.
    pub first_backoff: Duration,
    /// The longest pause.
    pub longest_backoff: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long one attempt may take, from its start to the last byte of the answer.
    pub request_timeout: Duration,
    /// The most requests in flight for each store (scheme and bucket) that these locations open; at least 1.
    ///
    /// A streamed body counts until it is read or dropped, so this must not be less than the number of bodies that a query
    /// reads at the same time.
    pub concurrency: usize,
}

impl Default for RequestSettings {
    /// 10 retries within 3 minutes, pauses of 0.1 to 15 s; 5 s to connect, 30 s for an attempt; 64 requests at once.
    fn default() -> Self {
        Self {
            retry_count: 10,
            retry_timeout: Duration::from_secs(180),
            first_backoff: Duration::from_millis(100),
            longest_backoff: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            concurrency: 64,
        }
    }
}

#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
impl RequestSettings {
    fn retries(&self) -> RetryConfig {
        let (init_backoff, max_backoff) = (self.first_backoff, self.longest_backoff.max(self.first_backoff));
        RetryConfig {
            backoff: BackoffConfig { init_backoff, max_backoff, base: 2.0 },
            max_retries: self.retry_count,
            retry_timeout: self.retry_timeout,
        }
    }

    fn timeouts(&self) -> [(ClientConfigKey, String); 2] {
        let text = |duration: Duration| format!("{}ms", duration.as_millis().max(1));
        [(ClientConfigKey::ConnectTimeout, text(self.connect_timeout)), (ClientConfigKey::Timeout, text(self.request_timeout))]
    }
}

/// The schemes that have clients, and the prefixes of their options.
const FAMILIES: [(&str, &str); 3] = [("s3", "aws_"), ("gs", "google_"), ("az", "azure_")];

/// A client, and its secrets, which must not be shown.
pub(super) struct Client {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) secrets: Secrets,
    /// The endpoint, if it is not the provider's own; without credentials.
    pub(super) endpoint: Option<String>,
}

/// Opens the client of a scheme and bucket.
///
/// # Errors
/// What is wrong with the scheme or the options, without credentials.
pub(super) fn open(base: &Url, options: &[(String, String)], requests: &RequestSettings) -> Result<Client, String> {
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?.to_ascii_lowercase(), value.into_string().ok()?)))
        .filter(|(name, _)| FAMILIES.iter().any(|(_, prefix)| name.starts_with(prefix)))
        .collect();
    let given = || environment.iter().chain(options).map(|(name, value)| (name.as_str(), value.as_str()));
    let secrets = Secrets::among(given());
    // Options of another family are for other stores that these locations open.
    let is_foreign = |name: &str| FAMILIES.iter().any(|(scheme, prefix)| *scheme != base.scheme() && name.starts_with(prefix));
    let own: Vec<(&str, &str)> =
        options.iter().map(|(n, v)| (n.as_str(), v.as_str())).filter(|(name, _)| !is_foreign(name)).collect();
    let built = match base.scheme() {
        "s3" => s3(base, &own, given(), requests),
        "gs" => gcs(base, &own, requests),
        "az" => azure(base, &own, requests),
        other => {
            Err(format!("the scheme `{other}` is not supported; use s3, gs, az, file or memory (s3, gs and az need their flags)"))
        }
    };
    // The error of a client that cannot be built may repeat any value, and a secret may have been given for any option.
    let (store, endpoint) = built.map_err(|reason| match own.is_empty() {
        true => secrets.scrub(&reason),
        false => {
            let names: Vec<&str> = own.iter().map(|(name, _)| *name).collect();
            let reason = Secrets::of(given().map(|(_, value)| value)).scrub(&reason);
            format!("{reason} (options given: {})", names.join(", "))
        }
    })?;
    Ok(Client { store, secrets, endpoint })
}

type Built = Result<(Arc<dyn ObjectStore>, Option<String>), String>;

/// Sets settings and options on a builder. The three builders have the same methods, but no common trait.
#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
macro_rules! configured {
    ($builder:expr, $client:path, $options:expr, $requests:expr) => {{
        let mut builder = $builder.with_retry($requests.retries());
        for (key, value) in $requests.timeouts() {
            builder = builder.with_config($client(key), value);
        }
        for (name, value) in $options {
            let key = name.to_ascii_lowercase().parse().map_err(|_| format!("there is no option `{name}` of this store"))?;
            builder = builder.with_config(key, *value);
        }
        builder
    }};
}

#[cfg(feature = "aws")]
fn s3<'a>(
    base: &Url,
    options: &[(&str, &str)],
    given: impl Iterator<Item = (&'a str, &'a str)>,
    requests: &RequestSettings,
) -> Built {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
    let builder = AmazonS3Builder::from_env().with_url(base.as_str()).with_conditional_put(S3ConditionalPut::ETagMatch);
    let mut builder = configured!(builder, AmazonS3ConfigKey::Client, options, requests);
    let value = |key| builder.get_config_value(&key);
    let endpoint = value(AmazonS3ConfigKey::S3Endpoint).or_else(|| value(AmazonS3ConfigKey::Endpoint));
    let endpoint = endpoint.map(|endpoint| checked(&endpoint)).transpose()?;
    // An endpoint with `http://` needs no further option.
    let is_told = given.into_iter().any(|(name, _)| matches!(name, "aws_allow_http" | "allow_http"));
    if !is_told && endpoint.as_ref().is_some_and(|url| url.scheme() == "http") {
        builder = builder.with_config(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp), "true");
    }
    let store = builder.build().map_err(|e| e.to_string())?;
    Ok((Arc::new(store), endpoint.map(|url| url.to_string())))
}

#[cfg(not(feature = "aws"))]
fn s3<'a>(_: &Url, _: &[(&str, &str)], _: impl Iterator<Item = (&'a str, &'a str)>, _: &RequestSettings) -> Built {
    Err("Amazon S3 is not built in; turn on the flag `aws` of asof".into())
}

/// An endpoint without credentials: endpoints are shown in messages and logs.
#[cfg(any(feature = "aws", feature = "azure"))]
fn checked(endpoint: &str) -> Result<Url, String> {
    let url = Url::parse(endpoint).map_err(|e| format!("its endpoint is not a URL: {e}"))?;
    if url.username().is_empty() && url.password().is_none() && url.query().is_none() {
        return Ok(url);
    }
    Err("its endpoint holds a user, a password or a query; give credentials as options of their own".into())
}

#[cfg(feature = "gcp")]
fn gcs(base: &Url, options: &[(&str, &str)], requests: &RequestSettings) -> Built {
    use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
    let builder = GoogleCloudStorageBuilder::from_env().with_url(base.as_str());
    let store = configured!(builder, GoogleConfigKey::Client, options, requests).build().map_err(|e| e.to_string())?;
    Ok((Arc::new(store), None))
}

#[cfg(not(feature = "gcp"))]
fn gcs(_: &Url, _: &[(&str, &str)], _: &RequestSettings) -> Built {
    Err("Google Cloud Storage is not built in; turn on the flag `gcp` of asof".into())
}

#[cfg(feature = "azure")]
fn azure(base: &Url, options: &[(&str, &str)], requests: &RequestSettings) -> Built {
    use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
    let builder = MicrosoftAzureBuilder::from_env().with_url(base.as_str());
    let builder = configured!(builder, AzureConfigKey::Client, options, requests);
    // The name of a container is unique within its account only.
    let value = |key| builder.get_config_value(&key);
    let endpoint = value(AzureConfigKey::Endpoint).map(|endpoint| checked(&endpoint)).transpose()?.map(|url| url.to_string());
    let account = endpoint.or_else(|| value(AzureConfigKey::AccountName));
    Ok((Arc::new(builder.build().map_err(|e| e.to_string())?), account))
}

#[cfg(not(feature = "azure"))]
fn azure(_: &Url, _: &[(&str, &str)], _: &RequestSettings) -> Built {
    Err("Azure Blob Storage is not built in; turn on the flag `azure` of asof".into())
}
