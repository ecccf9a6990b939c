//! Parquet with flipped bits: every way into the library answers with rows or with an error that names the file, and never
//! with a panic.

use std::{fs, ops::Range, path::Path, sync::Arc};

use asof::{
    Error, FeatureStore, StoreOptions,
    catalog::{FactTable, KnownAt},
    ingest::{Ingest, OnAnomaly, OnReject},
    storage::Locations,
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray},
        datatypes::Field,
    },
    parquet::{
        file::{properties::WriterProperties, writer::SerializedFileWriter},
        schema::parser::parse_message_type,
    },
};
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path as Key};

use crate::support::{instant, store_with, temp_dir, write_parquet};

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
    let load = load.on_reject(OnReject::Skip).on_anomaly(OnAnomaly::Accept);
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

/// A Parquet file without rows whose schema has so many groups within each other, by hand: writers would follow it by recursion.
fn deep_file(levels: usize) -> Vec<u8> {
    let mut footer = vec![0x15, 0x02, 0x19, 0xfc];
    let mut count = levels + 2;
    while count > 0x7f {
        footer.push((count & 0x7f) as u8 | 0x80);
        count >>= 7;
    }
    footer.push(count as u8);
    footer.extend([0x48, 1, b'm', 0x15, 0x02, 0]);
    for _ in 0..levels {
        footer.extend([0x35, 0x02, 0x18, 1, b'x', 0x15, 0x02, 0]);
    }
    footer.extend([0x15, 0x04, 0x25, 0x02, 0x18, 1, b'x', 0]);
    footer.extend([0x16, 0, 0x19, 0x0c, 0]);
    let mut file = b"PAR1".to_vec();
    file.extend(&footer);
    file.extend((footer.len() as u32).to_le_bytes());
    file.extend(b"PAR1");
    file
}

/// A stack that overflows ends the process, and no wall holds it: a schema that is nested too deep is refused before it is decoded.
#[tokio::test(flavor = "multi_thread")]
async fn a_deep_schema_is_an_error_and_no_overflow() {
    let dir = temp_dir();
    let store = store_with(&dir.path().join("root"), StoreOptions::default().cache_in_memory()).await;
    for levels in [51, 600, 1_500, 100_000] {
        let place = dir.path().join(format!("deep-{levels}"));
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("d.parquet"), deep_file(levels)).unwrap();
        let place = place.to_str().unwrap();
        let load = Ingest::new("t", table()).unwrap().from(place);
        for error in [
            store.ingest(&load).await.map(|_| ()).unwrap_err(),
            store.register_table("deep", place, table()).await.map(|_| ()).unwrap_err(),
            store.read_parquet(place).await.map(|_| ()).unwrap_err(),
        ] {
            let told = error.to_string();
            assert!(told.contains("d.parquet") && told.contains("nested deeper than 50 levels"), "{levels}: {told}");
        }
    }
    // As deep as may be, the same ways are gone to their end.
    let place = dir.path().join("nested");
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![instant("2014-11-01").micros()]).with_timezone("UTC"));
    // A writer follows a schema by recursion, and needs more of a stack than a test has.
    let to = place.join("n.parquet");
    let write = move || {
        let mut nested: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        for _ in 0..48 {
            let field = Arc::new(Field::new("x", nested.data_type().clone(), true));
            nested = Arc::new(StructArray::new(vec![field].into(), vec![nested], None));
        }
        write_parquet(&to, &[("at", at), ("nested", nested)], None);
    };
    std::thread::Builder::new().stack_size(64 << 20).spawn(write).unwrap().join().unwrap();
    let place = place.to_str().unwrap();
    store.register_table("nested", place, table()).await.unwrap();
    let rows = store.sql("SELECT * FROM nested", instant("2015-01-01")).await.unwrap().collect().await.unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    assert_eq!(store.read_parquet(place).await.unwrap().count().await.unwrap(), 1);
}

/// Writers that partition leave files without rows, whose columns may have no bytes at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_rows_and_bytes_hides_no_other_file() {
    let dir = temp_dir();
    let place = dir.path().join("t");
    let (bytes, _) = small_file(&dir.path().join("t/month=1"));
    assert!(!bytes.is_empty());
    // One row group of no rows, whose chunks have neither pages nor a dictionary.
    let schema = "message m { optional int64 at (TIMESTAMP(MICROS,true)); optional int64 x; optional binary name (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_dictionary_enabled(false).build();
    let file = fs::File::create(place.join("month=1/empty.parquet")).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    while let Some(column) = group.next_column().unwrap() {
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    let store = store_with(&dir.path().join("root"), StoreOptions::default().cache_in_memory()).await;
    let place = place.to_str().unwrap();
    store.register_table("t", place, table()).await.unwrap();
    let count = store.sql("SELECT * FROM t", instant("2100-01-01")).await.unwrap().count().await.unwrap();
    assert_eq!(count, 4);
    assert_eq!(store.read_parquet(&format!("{place}/month=1")).await.unwrap().count().await.unwrap(), 4);
    let load = Ingest::new("loaded", table()).unwrap().from(place);
    assert_eq!(store.ingest(&load).await.unwrap().rows, 4);
}

/// Rows would be passed over by such statistics, and no answer would tell.
#[tokio::test(flavor = "multi_thread")]
async fn statistics_whose_minimum_is_beyond_their_maximum_are_refused() {
    let dir = temp_dir();
    let place = dir.path().join("t");
    let (mut bytes, footer) = small_file(&place);
    let (first, last) = (instant("2014-11-01").micros() + 1, instant("2014-11-01").micros() + 4);
    let mut swapped = 0;
    for at in footer.start..footer.end - 8 {
        let value = i64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        if value == first || value == last {
            bytes[at..at + 8].copy_from_slice(&(first + last - value).to_le_bytes());
            swapped += 1;
        }
    }
    assert!(swapped >= 2, "{swapped}");
    fs::write(place.join("small.parquet"), bytes).unwrap();
    let store = store_with(&dir.path().join("root"), StoreOptions::default().cache_in_memory()).await;
    let place = place.to_str().unwrap();
    for error in [
        store.ingest(&Ingest::new("loaded", table()).unwrap().from(place)).await.map(drop).unwrap_err(),
        store.register_table("t", place, table()).await.map(drop).unwrap_err(),
        store.read_parquet(place).await.map(drop).unwrap_err(),
    ] {
        let told = error.to_string();
        assert!(
            told.contains("small.parquet") && told.contains("minimum beyond their maximum") && told.contains("`at`"),
            "{told}"
        );
    }
}
