//! What the fuzz targets share: a store in memory, and each target's question.
//! It judges no answer: only panics that reach the caller, memory and time count.

use std::sync::{Arc, LazyLock};

use asof::{
    AsOf, FeatureStore, StoreOptions,
    catalog::{FactTable, KnownAt},
    ingest::{Ingest, OnAnomaly, OnReject},
    storage::Locations,
};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("threads"));
/// A root that holds one table of two rows.
static BASE: LazyLock<InMemory> = LazyLock::new(|| {
    let memory = InMemory::new();
    RUNTIME.block_on(async {
        put(&memory, "in/t.csv", b"at,x,y\n2014-11-01T00:00:00Z,1,a\n2014-11-02T00:00:00Z,2,b\n").await;
        let load = Ingest::new("t", declared()).expect("a name").from("memory://here/in/t.csv");
        open(&memory).await.expect("a store").ingest(&load).await.expect("a load");
    });
    memory
});

fn declared() -> FactTable {
    FactTable::new("at", KnownAt::after(chrono::TimeDelta::zero()))
}

fn late() -> AsOf {
    AsOf::from_micros(4_000_000_000_000_000)
}

async fn put(memory: &InMemory, name: &str, bytes: &[u8]) {
    memory.put(&Path::from(name), bytes.to_vec().into()).await.expect("memory");
}

async fn open(memory: &InMemory) -> asof::Result<FeatureStore> {
    let locations = Locations::default().mount("memory://here", Arc::new(memory.clone()) as Arc<dyn ObjectStore>)?;
    FeatureStore::open_with("memory://here/root", StoreOptions::default().cache_in_memory().locations(locations)).await
}

async fn load(memory: &InMemory, name: &str, bytes: &[u8]) -> asof::Result<()> {
    put(memory, &format!("in/{name}"), bytes).await;
    let load = Ingest::new("loaded", declared())?.from(format!("memory://here/in/{name}"));
    open(memory).await?.ingest(&load.on_reject(OnReject::Skip).on_anomaly(OnAnomaly::Accept)).await?;
    Ok(())
}

/// The bytes of a CSV file.
pub fn csv(bytes: &[u8]) {
    drop(RUNTIME.block_on(load(&InMemory::new(), "f.csv", bytes)));
}

/// The bytes of a file of JSON lines.
pub fn json_lines(bytes: &[u8]) {
    drop(RUNTIME.block_on(load(&InMemory::new(), "f.jsonl", bytes)));
}

/// The bytes of a Parquet file.
pub fn parquet(bytes: &[u8]) {
    // The hook that ends the process at each panic would end it at those that are contained, too. One that gets out still
    // ends the run: the fuzzer catches it.
    static QUIET: LazyLock<()> = LazyLock::new(|| std::panic::set_hook(Box::new(|_| {})));
    LazyLock::force(&QUIET);
    RUNTIME.block_on(async {
        let memory = InMemory::new();
        drop(load(&memory, "f.parquet", bytes).await);
        let Ok(store) = open(&memory).await else { return };
        if let Ok(rows) = store.read_parquet("memory://here/in/f.parquet").await {
            drop(rows.collect().await);
        }
        if store.register_table("r", "memory://here/in", declared()).await.is_ok()
            && let Ok(rows) = store.sql("SELECT * FROM r", late()).await
        {
            drop(rows.collect().await);
        }
    });
}

/// A JSON object, as the content of a table's version: the checksum that it lacks is added.
pub fn catalog_json(bytes: &[u8]) {
    let Some(text) = bytes.trim_ascii_end().strip_suffix(b"}").map(<[u8]>::trim_ascii_end) else { return };
    let seal = format!(",\n  \"checksum\": \"{}\"\n}}\n", blake3::hash(text).to_hex());
    let sealed = [text, seal.as_bytes()].concat();
    RUNTIME.block_on(async {
        let memory = BASE.fork();
        let below = Path::from("root/catalog/default/t");
        let versions: Vec<_> = memory.list(Some(&below)).try_collect().await.expect("memory");
        let version = versions.first().expect("a version");
        memory.put(&version.location, sealed.into()).await.expect("memory");
        let Ok(store) = open(&memory).await else { return };
        drop(store.describe("t").await);
        drop(store.partitions("t").await);
        drop(store.versions("t").await);
        drop(store.quality("t").await);
        if let Ok(rows) = store.sql("SELECT * FROM t", late()).await {
            drop(rows.collect().await);
        }
    });
}

/// A query; it is planned and not run, since a short one may ask for more rows than there is time for.
pub fn sql(text: &str) {
    RUNTIME.block_on(async {
        let store = open(&BASE.fork()).await.expect("a store");
        if let Ok(rows) = store.sql(text, late()).await {
            drop(rows.create_physical_plan().await);
        }
    });
}

/// A statement of DDL.
pub fn ddl(text: &str) {
    RUNTIME.block_on(async {
        let store = open(&BASE.fork()).await.expect("a store");
        drop(store.execute(text).await);
    });
}
