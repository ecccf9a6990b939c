//! Parquet with flipped bits: every way into the library answers with rows or with an error that names the file, and never
//! with a panic.

use std::{fs, ops::Range, path::Path, sync::Arc};

use asof::{
    Error, FeatureStore, StoreOptions,
    catalog::{FactTable, KnownAt},
    ingest::{Ingest, OnReject, OnSuspicion},
    storage::Locations,
};
use chrono::TimeDelta;
use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path as Key};

use crate::support::{instant, temp_dir, write_parquet};

/// A file of four rows with a zone, texts and NULLs, and where its footer lies.
fn small_file(dir: &Path) -> (Vec<u8>, Range<usize>) {
    let at = [1, 2, 3, 4].map(|i| instant("2014-11-01").micros() + i);
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(at.to_vec()).with_timezone("UTC"));
    let x: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)]));
    let name: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "a", "c"]));
    write_parquet(&dir.join("small.parquet"), &[("at", at), ("x", x), ("name", name)], None);
    let bytes = fs::read(dir.join("small.parquet")).unwrap();
    let footer = u32::from_le_bytes(bytes[bytes.len() - 8..][..4].try_into().unwrap()) as usize;
    let start = bytes.len() - 8 - footer;
    (bytes.clone(), start..bytes.len())
}

fn table() -> FactTable {
    FactTable::new("at", KnownAt::after(TimeDelta::zero()))
}

async fn over(memory: &Arc<InMemory>) -> FeatureStore {
    let locations = Locations::default().mount("memory://here", memory.clone() as Arc<dyn ObjectStore>).unwrap();
    let options = StoreOptions::default().cache_in_memory().locations(locations);
    FeatureStore::open_with("memory://here/root", options).await.unwrap()
}

/// Errors that tell of bytes which are not what they should be.
fn tells_of_the_file(error: &Error) -> bool {
    !error.to_string().is_empty() && !matches!(error, Error::Leak { .. } | Error::Contention { .. })
}

/// All ways in, or only the shortest one; those that gave an answer.
async fn ask(memory: &Arc<InMemory>, store: &FeatureStore, bytes: Vec<u8>, told: &str, ways: Ways) -> Vec<&'static str> {
    let key = Key::from("in/t.parquet");
    memory.put(&key, bytes.into()).await.unwrap();
    let mut answered = Vec::new();
    let mut judge = |way, outcome: asof::Result<()>| match outcome {
        Ok(()) => answered.push(way),
        Err(error) => assert!(tells_of_the_file(&error), "{told}, {way}: {error}"),
    };
    let read = async {
        store.read_parquet("memory://here/in").await?.collect().await?;
        asof::Result::Ok(())
    };
    judge("read", read.await);
    if ways == Ways::Read {
        return answered;
    }
    let register = async {
        store.register_table("t", "memory://here/in", table()).await?;
        store.sql("SELECT sum(x), min(name) FROM t WHERE x > 0", instant("2015-01-01")).await?.collect().await?;
        asof::Result::Ok(())
    };
    judge("register", register.await);
    let load = Ingest::new("loaded", table()).unwrap().from("memory://here/in");
    let load = load.on_reject(OnReject::Skip).on_suspicion(OnSuspicion::Accept);
    judge("load", store.ingest(&load).await.map(drop));
    for name in ["t", "loaded"] {
        drop(store.drop_table(name).await);
    }
    answered
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ways {
    All,
    Read,
}

/// Every bit is read once; every sixteenth one takes all ways.
#[tokio::test(flavor = "multi_thread")]
async fn no_bit_of_a_footer_makes_a_panic() {
    let dir = temp_dir();
    let (bytes, footer) = small_file(dir.path());
    let memory = Arc::new(InMemory::new());
    let store = over(&memory).await;
    assert_eq!(ask(&memory, &store, bytes.clone(), "unchanged", Ways::All).await, ["read", "register", "load"]);
    for bit in footer.start * 8..footer.end * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let ways = if bit % 16 == 5 { Ways::All } else { Ways::Read };
        ask(&memory, &store, bytes, &format!("bit {} of byte {}", bit % 8, bit / 8), ways).await;
    }
}

/// The pages too: what is before the footer.
#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_a_page_makes_a_panic() {
    let dir = temp_dir();
    let (bytes, footer) = small_file(dir.path());
    let memory = Arc::new(InMemory::new());
    let store = over(&memory).await;
    for at in 0..footer.start {
        let mut bytes = bytes.clone();
        bytes[at] ^= [0x80, 0x01, 0x7f, 0xff, 0x10][at % 5];
        let ways = if at % 8 == 0 { Ways::All } else { Ways::Read };
        ask(&memory, &store, bytes, &format!("byte {at}"), ways).await;
    }
}
