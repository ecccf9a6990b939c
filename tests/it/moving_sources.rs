//! Sources that somebody writes while they are loaded: a load is of one content, the one whose hash it records, or it is none.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use asof::{
    Error, FeatureStore, StoreOptions,
    catalog::{FactTable, KnownAt},
    ingest::Ingest,
    storage::Locations,
};
use chrono::TimeDelta;
use datafusion::arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray};
use futures::{StreamExt, stream::BoxStream};
use object_store::{GetOptions, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, memory::InMemory, path::Path as Key};

use crate::{
    intercepted_store::{Intercept, Intercepted},
    support::{cells, instant, temp_dir, write_parquet},
};

/// A store without entity tags, in which an object gets another content right before its k-th read.
struct Moving {
    inner: InMemory,
    key: Key,
    next: Vec<u8>,
    at: usize,
    reads: AtomicUsize,
}

#[async_trait::async_trait]
impl Intercept for Moving {
    fn inner(&self) -> &InMemory {
        &self.inner
    }

    async fn get(&self, key: &Key, options: GetOptions) -> object_store::Result<GetResult> {
        if *key == self.key && !options.head && self.reads.fetch_add(1, Ordering::SeqCst) == self.at {
            self.inner.put(key, self.next.clone().into()).await?;
        }
        let mut found = self.inner.get_opts(key, options).await?;
        found.meta.e_tag = None;
        Ok(found)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let untagged = |found: object_store::Result<ObjectMeta>| found.map(|meta| ObjectMeta { e_tag: None, ..meta });
        self.inner.list(prefix).map(untagged).boxed()
    }
}

fn csv(rows: usize, value: i64) -> Vec<u8> {
    let rows = (0..rows).map(|i| format!("2014-11-01T00:{:02}:{:02}Z,{value}\n", i / 60 % 60, i % 60));
    format!("at,x\n{}", rows.collect::<String>()).into_bytes()
}

fn json(rows: usize, value: i64) -> Vec<u8> {
    let rows = (0..rows).map(|i| format!("{{\"at\":\"2014-11-01T00:{:02}:{:02}Z\",\"x\":{value}}}\n", i / 60 % 60, i % 60));
    rows.collect::<String>().into_bytes()
}

fn parquet(dir: &Path, rows: usize, value: i64) -> Vec<u8> {
    let at = (0..rows as i64).map(|i| instant("2014-11-01").micros() + i * 1_000_000);
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(at).with_timezone("UTC"));
    let x: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows as i64).map(|i| value + i % 2)));
    write_parquet(&dir.join("made.parquet"), &[("at", at), ("x", x)], None);
    std::fs::read(dir.join("made.parquet")).unwrap()
}

/// The rows that a load brings when the file becomes another one right before its `at`-th read, and how often it was read.
async fn load(name: &str, before: &[u8], after: &[u8], at: usize) -> (asof::Result<u64>, usize, String) {
    let key = Key::from(format!("in/{name}"));
    let moving = Moving { inner: InMemory::new(), key: key.clone(), next: after.into(), at, reads: AtomicUsize::new(0) };
    moving.inner.put(&key, before.to_vec().into()).await.unwrap();
    let moving = Arc::new(Intercepted(moving));
    let locations = Locations::default().mount("memory://moving", moving.clone()).unwrap();
    let options = StoreOptions::default().cache_in_memory().locations(locations);
    let root = temp_dir();
    let store = FeatureStore::open_with(root.path().to_str().unwrap(), options).await.unwrap();
    let table = FactTable::new("at", KnownAt::after(TimeDelta::zero()));
    let ingest = Ingest::new("t", table).unwrap().from(format!("memory://moving/in/{name}"));
    let outcome = store.ingest(&ingest).await.map(|report| report.rows);
    let held = match store.tables().await.unwrap().is_empty() {
        true => "no table".into(),
        false => cells(&store, "SELECT count(*), sum(x) FROM t", instant("2015-01-01")).await.join("; "),
    };
    (outcome, moving.reads.load(Ordering::SeqCst), held)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_is_of_one_content_or_none() {
    let dir = temp_dir();
    let d = dir.path();
    let cases = [
        ("grown.csv", csv(300, 1), csv(301, 1)),
        ("rewritten.csv", csv(300, 1), csv(300, 2)),
        ("cut.csv", csv(300, 1), csv(200, 1)),
        ("rewritten.jsonl", json(300, 1), json(300, 2)),
        ("grown.jsonl", json(300, 1), json(301, 1)),
        ("rewritten.parquet", parquet(d, 300, 1), parquet(d, 300, 2)),
        ("grown.parquet", parquet(d, 300, 1), parquet(d, 900, 1)),
    ];
    for (name, before, after) in &cases {
        let (whole, reads, old) = load(name, before, after, usize::MAX).await;
        assert_eq!(whole.unwrap(), 300);
        assert!(reads >= 2, "{name}: {reads}");
        let (mut stopped, new) = (0, load(name, after, after, usize::MAX).await.2);
        for at in 0..=reads {
            let (outcome, _, held) = load(name, before, after, at).await;
            match outcome {
                // Before anybody has looked, or after everybody has.
                Ok(_) => assert!(held == old || held == new, "{name}, read {at}: {held}"),
                Err(Error::SourceChanged { path, .. }) => {
                    assert!(path.ends_with(name), "{path}");
                    assert_eq!(held, "no table", "{name}, read {at}");
                    stopped += 1;
                }
                // What is not even listed as it is was never begun.
                Err(Error::ObjectChanged { .. }) => assert_eq!((at, held.as_str()), (0, "no table"), "{name}"),
                Err(other) => panic!("{name}, read {at}: {other}"),
            }
        }
        assert!(stopped > 0, "{name}");
    }
}
