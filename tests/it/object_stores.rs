//! What every object store must do for this library: one suite over the local disk, memory and a real S3 server.

use std::{io::Write, time::Duration};

use asof::{
    Error, ErrorKind,
    storage::{Location, Locations, Published, RequestSettings},
};
use futures::future::join_all;
use tempfile::TempDir;

use crate::{s3_server::S3Server, support::temp_dir};

/// A place in one of the stores, empty at first.
pub(crate) struct Place {
    pub(crate) kind: &'static str,
    pub(crate) at: Location,
    _server: Option<S3Server>,
    _folder: Option<TempDir>,
}

/// How to reach the server with good credentials; all else is as it comes.
pub(crate) fn reaching(server: &S3Server) -> Locations {
    Locations::default()
        .option("aws_endpoint", server.endpoint())
        .option("aws_access_key_id", server.access_key())
        .option("aws_secret_access_key", server.secret_key())
}

/// A place in each kind of store.
pub(crate) async fn places() -> Vec<Place> {
    let (server, folder) = (S3Server::start("lab").await.unwrap(), temp_dir());
    let remote = reaching(&server).open("s3://lab/some/place").unwrap();
    let local = Locations::default().open(&format!("file://{}", folder.path().display())).unwrap();
    let memory = Locations::default().open("memory://lab/some/place").unwrap();
    vec![
        Place { kind: "local", at: local, _server: None, _folder: Some(folder) },
        Place { kind: "memory", at: memory, _server: None, _folder: None },
        Place { kind: "s3", at: remote, _server: Some(server), _folder: None },
    ]
}

pub(crate) async fn put(at: &Location, name: &str, bytes: impl Into<bytes::Bytes>) {
    assert_eq!(at.put_if_absent(name, bytes).await.unwrap(), Published::New, "{name}");
}

/// Puts an object in place of another.
pub(crate) async fn replace(at: &Location, name: &str, bytes: &[u8]) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    at.upload(name, file).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_are_whole_and_in_order_beyond_a_page() {
    for Place { kind, at, .. } in &places().await {
        assert!(at.list().await.unwrap().is_empty(), "{kind}: what does not exist is empty");
        // More than the 1,000 of a page, in folders, put in an order of its own.
        let mut names: Vec<String> = (0..1_005).map(|i| format!("a{}/{:04}", i % 3, (i * 7) % 1_005)).collect();
        join_all(names.iter().map(|name| put(at, name, name.clone()))).await;
        put(at, "a0b", "beside_").await;
        names.push("a0b".into());
        names.sort();
        let listed = at.child("a0").list().await.unwrap();
        assert_eq!(listed.len(), 335, "{kind}: a prefix ends at a slash");
        let listed = at.list().await.unwrap();
        let found: Vec<String> = listed.iter().map(|o| at.name_of(&o.location)).collect();
        assert_eq!(found, names, "{kind}");
        assert!(listed.iter().all(|o| o.e_tag.is_some()), "{kind}: entity tags");
        assert!(listed.iter().all(|o| o.size == 7), "{kind}: sizes");

        put(at, "kept", "").await;
        at.delete_many(found.iter().map(String::as_str).chain(["a0/none", "nowhere/none"])).await.unwrap();
        assert_eq!(at.list().await.unwrap().len(), 1, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_does_not_exist_is_none() {
    for Place { kind, at, .. } in &places().await {
        put(at, "there", "x").await;
        for name in ["none", "no/where", "therein"] {
            assert_eq!(at.head(name).await.unwrap(), None, "{kind} {name}");
            assert_eq!(at.get(name).await.unwrap(), None, "{kind} {name}");
            assert_eq!(at.get_range(name, 0..1).await.unwrap(), None, "{kind} {name}");
            at.delete(name).await.unwrap();
        }
        at.delete("there").await.unwrap();
        assert_eq!(at.head("there").await.unwrap(), None, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_begin_inclusive_and_end_exclusive() {
    for Place { kind, at, .. } in &places().await {
        put(at, "digits", "0123456789").await;
        for (range, expected) in [(0..10, "0123456789"), (0..1, "0"), (3..7, "3456"), (9..10, "9"), (5..99, "56789")] {
            let bytes = at.get_range("digits", range.clone()).await.unwrap().unwrap();
            assert_eq!(bytes, expected, "{kind} {range:?}");
        }
        for range in [10..11, 4..4] {
            let error = at.get_range("digits", range.clone()).await.unwrap_err();
            assert!(matches!(error, Error::Storage(_)), "{kind} {range:?} {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_small_and_in_parts_appear_whole_and_replace() {
    for Place { kind, at, .. } in &places().await {
        // The last takes more than one part.
        for size in [0, 1, 5 << 20, (12 << 20) + 7] {
            let bytes: Vec<u8> = (0..size).map(|i: usize| (i * 31 % 251) as u8).collect();
            replace(at, "file", &bytes).await;
            assert_eq!(at.head("file").await.unwrap().unwrap().size, size as u64, "{kind}");
            assert!(at.get("file").await.unwrap().unwrap() == bytes, "{kind} {size}");
        }
        assert_eq!(at.list().await.unwrap().len(), 1, "{kind}: nothing else is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_racing_writers_exactly_one_wins() {
    for Place { kind, at, .. } in &places().await {
        for round in 0..10 {
            let name = format!("versions/{round}");
            let race = (0..8).map(|writer| {
                let (at, name) = (at.clone(), name.clone());
                tokio::spawn(async move { at.put_if_absent(&name, format!("by {writer}").repeat(500)).await.unwrap() })
            });
            let ends: Vec<Published> = join_all(race).await.into_iter().map(Result::unwrap).collect();
            let winners: Vec<usize> = (0..8).filter(|writer| ends[*writer] == Published::New).collect();
            assert_eq!(winners.len(), 1, "{kind} {ends:?}");
            assert_eq!(at.get(&name).await.unwrap().unwrap(), format!("by {}", winners[0]).repeat(500), "{kind}");
        }
        assert_eq!(at.list().await.unwrap().len(), 10, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_kept_to_the_letter() {
    let names =
        ["a b", "month=1", "100%", "%20", "a%2Fb", "#x", "a+b", "Zürich/東京 🚕", "q?x&y", "~t'(1)!*", "back\\slash", "x:y"];
    for Place { kind, at, .. } in &places().await {
        for name in names {
            put(at, name, name).await;
            assert_eq!(at.put_if_absent(name, "other").await.unwrap(), Published::Existed, "{kind} {name}");
        }
        let mut expected = names.map(str::to_owned);
        expected.sort();
        let mut listed: Vec<String> = at.list().await.unwrap().iter().map(|o| at.name_of(&o.location)).collect();
        listed.sort();
        assert_eq!(listed, expected, "{kind}");
        for name in names {
            assert_eq!(at.get(name).await.unwrap().unwrap(), name, "{kind}");
            assert_eq!(at.head(name).await.unwrap().unwrap().size, name.len() as u64, "{kind}");
        }
        at.delete_many(names).await.unwrap();
        assert!(at.list().await.unwrap().is_empty(), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_name_the_place_and_say_what_to_do() {
    let server = S3Server::start("lab").await.unwrap();
    let quick = RequestSettings { retry_count: 0, ..Default::default() };
    let says = |error: Error, kind: ErrorKind, words: &[&str]| {
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
        assert_eq!(error.kind(), kind, "{text}");
        error.is_retryable()
    };
    use ErrorKind::{NotFound, Unavailable};
    let other = reaching(&server).open("s3://other/place").unwrap();
    let missing = ["NoSuchBucket", "check its name", "s3://other/place"];
    assert!(!says(other.get("x").await.unwrap_err(), NotFound, &[&missing[..], &["s3://other/place/x"]].concat()));
    assert!(!says(other.list().await.unwrap_err(), NotFound, &missing));
    assert!(!says(other.put_if_absent("x", "y").await.unwrap_err(), NotFound, &missing));

    let denied = reaching(&server).option("aws_secret_access_key", "wrong").open("s3://lab/place").unwrap();
    let refused = denied.get("x").await.unwrap_err();
    assert!(!says(refused, Unavailable, &["s3://lab/place/x", "SignatureDoesNotMatch", "check the credentials"]));
    assert!(!says(denied.list().await.unwrap_err(), Unavailable, &["s3://lab/place", "check the credentials"]));

    // A server that takes connections and never answers, and an address where nobody listens.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let impatient = RequestSettings { request_timeout: Duration::from_millis(200), ..quick.clone() };
    let reach = |settings| reaching(&server).requests(settings).option("aws_endpoint", format!("http://{address}"));
    let (place, start) = (reach(impatient).open("s3://lab/place").unwrap(), std::time::Instant::now());
    let late = place.get("x").await.unwrap_err();
    assert!(says(late, Unavailable, &["s3://lab/place/x", "did not answer in time", "request_timeout"]));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(silent);
    let unreachable = reach(quick).open("s3://lab/place").unwrap().get("x").await.unwrap_err();
    assert!(says(unreachable, Unavailable, &["s3://lab/place/x", "cannot be reached"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn locations_that_cannot_be_opened_say_why() {
    let open = |text: &str| Locations::default().open(text).unwrap_err().to_string();
    // The tests are built without these two flags.
    assert!(open("gs://lab/x").contains("turn on the flag `gcp`"), "{}", open("gs://lab/x"));
    assert!(open("az://lab/x").contains("turn on the flag `azure`"), "{}", open("az://lab/x"));
    assert!(open("hdfs://lab/x").contains("`hdfs` is not supported"), "{}", open("hdfs://lab/x"));
    assert!(open("s3://user:p4ssw0rd@la b/x").starts_with("location `s3://...`"), "{}", open("s3://user:p4ssw0rd@la b/x"));
    let option = |key: &str| Locations::default().option(key, "v4lue").open("s3://lab/x").unwrap_err().to_string();
    assert!(option("aws_no_such_option").contains("no option `aws_no_such_option`"));
    // Options of other stores, and of this one in any case.
    let mixed =
        Locations::default().option("google_service_account", "/x").option("azure_client_id", "y").option("AWS_REGION", "z");
    mixed.open("s3://lab/x").unwrap();
}
