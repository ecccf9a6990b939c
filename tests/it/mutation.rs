//! Every format that is read, with bytes changed: 20,000 inputs from fixed seeds, and none makes a panic or a wrong success.
//! `ASOF_MUTATIONS=10` runs ten times as many; `fuzz/` holds targets for runs without an end.
//!
//! What counts as a wrong success depends on what the bytes can tell:
//!
//! | format | a success must be |
//! |---|---|
//! | JSON of the root | the answer of the unchanged root: each file holds a checksum of itself |
//! | sled's files | the answer of the unchanged cache: it can be rebuilt, and is checked |
//! | files of a managed table | the answer of the unchanged table: the catalog knows their hashes |
//! | files of a materialization | whatever its bytes say, unless [`Materialization::verify`] is asked: that must find it |
//! | foreign Parquet | the same when read again: no second reader of the format is at hand |
//! | CSV, JSON lines | of lines that are surely rows all, and of all lines none twice: a simple reader counts them |
//! | gzip, zstd | that of the text that another decoder makes of them, and an error where that finds one |

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    path::Path,
    sync::Arc,
};

use asof::{
    AsOf, Error, FeatureStore, Materialization, StoreOptions, Value,
    catalog::{FactTable, KnownAt},
    ingest::{Ingest, OnAnomaly, OnReject},
    storage::Locations,
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
        util::pretty::pretty_format_batches,
    },
    parquet::{basic::Compression, file::properties::WriterProperties},
};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path as Key};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    crash::{RIDES_SEEN, load_of, rides},
    sealed_files::{root_of_all, testimony},
    support::{bits_of, copy_dir, files_below, instant, temp_dir, write_parquet},
};

/// So many inputs of a format, times what the environment asks for.
fn inputs(count: usize) -> usize {
    count * std::env::var("ASOF_MUTATIONS").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Changes bytes in one of the ways in which files go bad, or are written by somebody who wishes harm.
fn mutate(bytes: &[u8], chance: &mut StdRng) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..[1, 1, 1, 2, 5][chance.random_range(0..5)] {
        if out.is_empty() {
            break;
        }
        let at = chance.random_range(0..out.len());
        let end = (at + chance.random_range(1..24)).min(out.len());
        match chance.random_range(0..9) {
            0..=2 => out[at] ^= 1 << chance.random_range(0..8),
            3 => out[at] = *b"\x00\xff\x7f\x80\"\n,0-{}[\\"[..].get(chance.random_range(0..13)).unwrap_or(&0),
            4 => out[at] = chance.random(),
            5 => drop(out.drain(at..end)),
            6 => {
                let part = out[at..end].to_vec();
                let to = chance.random_range(0..=out.len());
                drop(out.splice(to..to, part));
            }
            7 => out.truncate(at),
            _ => {
                let other = chance.random_range(0..out.len());
                out.swap(at, other);
            }
        }
    }
    out
}

fn at_once() -> FactTable {
    FactTable::new("at", KnownAt::after(TimeDelta::zero()))
}

fn late() -> AsOf {
    // Of a year that four digits can still tell.
    instant("9999-12-31T23:59:59Z")
}

/// A store in memory, and where its sources lie.
async fn in_memory() -> (Arc<InMemory>, FeatureStore) {
    let memory = Arc::new(InMemory::new());
    let locations = Locations::default().mount("memory://here", memory.clone() as Arc<dyn ObjectStore>).unwrap();
    let options = StoreOptions::default().cache_in_memory().locations(locations);
    (memory, FeatureStore::open_with("memory://here/root", options).await.unwrap())
}

async fn put(memory: &InMemory, name: &str, bytes: &[u8]) {
    memory.put(&Key::from(name), bytes.to_vec().into()).await.unwrap();
}

/// Rows as text, sorted.
fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let text = pretty_format_batches(batches).unwrap().to_string();
    let mut lines: Vec<String> = text.lines().skip(3).map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Loads a source into a table of its own: the texts of column `x` with how often each occurs, and the rows that were left out.
async fn loaded(memory: &InMemory, store: &FeatureStore, name: &str, bytes: &[u8]) -> asof::Result<(BTreeMap<String, u64>, u64)> {
    let (stem, _) = name.split_once('.').unwrap();
    let path = format!("in/{name}");
    put(memory, &path, bytes).await;
    let load = Ingest::new(stem, at_once())?.from(format!("memory://here/{path}"));
    let load = load.column_type("x", datafusion::arrow::datatypes::DataType::Utf8);
    let outcome = store.ingest(&load.on_reject(OnReject::Skip).on_anomaly(OnAnomaly::Accept).months_at_most(100_000)).await;
    memory.delete(&Key::from(path.as_str())).await.unwrap();
    let report = outcome?;
    let rows = store.sql(&format!("SELECT x FROM {stem}"), late()).await?.collect().await?;
    let mut found = BTreeMap::new();
    for batch in &rows {
        let texts = datafusion::arrow::compute::cast(batch.column(0), &datafusion::arrow::datatypes::DataType::Utf8)?;
        for text in datafusion::arrow::array::AsArray::as_string::<i32>(&texts) {
            *found.entry(text.unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    store.drop_table(stem).await?;
    Ok((found, report.rejected))
}

const ROWS: usize = 12;

fn csv() -> Vec<u8> {
    let rows = (0..ROWS).map(|i| format!("2014-11-{:02}T10:00:00Z,v{i},{i}.5,true\n", i + 1));
    format!("at,x,y,z\n{}", rows.collect::<String>()).into_bytes()
}

fn json() -> Vec<u8> {
    let rows = (0..ROWS)
        .map(|i| format!("{{\"at\": \"2014-11-{:02}T10:00:00Z\", \"x\": \"v{i}\", \"y\": {i}.5, \"z\": true}}\n", i + 1));
    rows.collect::<String>().into_bytes()
}

/// Is it a time that every reader takes, in the days that the rows above have?
fn is_time(text: &str) -> bool {
    let day = text.strip_prefix("2014-11-").and_then(|rest| rest.strip_suffix("T10:00:00Z"));
    day.is_some_and(|day| {
        day.len() == 2 && day.parse::<u8>().is_ok_and(|day| (1..=30).contains(&day)) && day.bytes().all(|b| b.is_ascii_digit())
    })
}

/// What a simple reader says: rows that surely are some, by their `x`, and how many lines may be some.
struct Simple {
    sure: BTreeMap<String, u64>,
    most: u64,
}

/// Of CSV; `None` where only a whole reader knows: quotes, carriage returns, other headers.
fn simple_csv(bytes: &[u8]) -> Option<Simple> {
    if bytes.iter().any(|b| matches!(b, b'"' | b'\r')) {
        return None;
    }
    let mut lines = bytes.split(|b| *b == b'\n');
    if lines.next()? != b"at,x,y,z" {
        return None;
    }
    let (mut sure, mut most) = (BTreeMap::new(), 0);
    for line in lines.filter(|line| !line.is_empty()) {
        most += 1;
        let Ok(text) = std::str::from_utf8(line) else { continue };
        let cells: Vec<&str> = text.split(',').collect();
        let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        let is_number = |text: &str| {
            let (whole, part) = text.split_once('.').unwrap_or((text, "5"));
            // A code, `007`, is none.
            let digits = |text: &str| !text.is_empty() && text.len() < 6 && text.bytes().all(|b| b.is_ascii_digit());
            digits(whole) && digits(part) && (whole.len() == 1 || !whole.starts_with('0'))
        };
        if let [at, x, y, "true"] = cells[..]
            && is_time(at)
            && is_plain(x)
            && is_number(y)
        {
            *sure.entry(x.to_owned()).or_default() += 1;
        }
    }
    Some(Simple { sure, most })
}

/// Of JSON lines.
fn simple_json(bytes: &[u8]) -> Simple {
    let (mut sure, mut most) = (BTreeMap::new(), 0);
    for line in bytes.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        most += 1;
        let Ok(serde_json::Value::Object(fields)) = serde_json::from_slice(line) else { continue };
        let text = |name: &str| fields.get(name).and_then(|value| value.as_str());
        let names = line.windows(3).filter(|w| w.starts_with(b"\"") && w.ends_with(b"\"")).count();
        if let (Some(at), Some(x), 4, 3) = (text("at"), text("x"), fields.len(), names)
            && is_time(at)
            && fields.get("y").is_some_and(serde_json::Value::is_f64)
            && fields.get("z").is_some_and(|z| *z == serde_json::Value::Bool(true))
            && x.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            *sure.entry(x.to_owned()).or_default() += 1;
        }
    }
    Simple { sure, most }
}

/// Holds a load against what a simple reader says.
fn hold(simple: &Simple, outcome: &asof::Result<(BTreeMap<String, u64>, u64)>, bytes: &[u8]) {
    let told = || format!("{outcome:?} of\n{}", String::from_utf8_lossy(bytes));
    match outcome {
        Ok((rows, rejected)) => {
            let all: u64 = rows.values().sum::<u64>() + rejected;
            // A type that was inferred from all rows may leave sure ones out, and then they are counted.
            let lost: u64 = simple.sure.iter().map(|(x, count)| count.saturating_sub(rows.get(x).copied().unwrap_or(0))).sum();
            assert!(all <= simple.most && lost <= *rejected, "{all} of {} rows, {lost} lost: {}", simple.most, told());
            assert!(all == simple.most, "{all} of {} rows: {}", simple.most, told());
        }
        Err(
            Error::UnreadableFile { .. } | Error::RejectedRows { .. } | Error::UnknownColumn { .. } | Error::ColumnType { .. },
        ) => {}
        Err(Error::Definition { .. } | Error::InvalidName { .. }) => {}
        Err(other) => panic!("{other:?}: {}", told()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_csv_says_what_its_bytes_say() {
    let (memory, store) = in_memory().await;
    let (whole, mut chance) = (csv(), StdRng::seed_from_u64(1));
    hold(&simple_csv(&whole).unwrap(), &loaded(&memory, &store, "t.csv", &whole).await, &whole);
    let mut checked = 0;
    for i in 0..inputs(1_750) {
        let bytes = mutate(&whole, &mut chance);
        let outcome = loaded(&memory, &store, &format!("t{i}.csv"), &bytes).await;
        if let Some(simple) = simple_csv(&bytes) {
            hold(&simple, &outcome, &bytes);
            checked += 1;
        }
    }
    assert!(checked * 2 > inputs(1_750), "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_json_lines_say_what_their_bytes_say() {
    let (memory, store) = in_memory().await;
    let (whole, mut chance) = (json(), StdRng::seed_from_u64(2));
    hold(&simple_json(&whole), &loaded(&memory, &store, "t.jsonl", &whole).await, &whole);
    for i in 0..inputs(1_750) {
        let bytes = mutate(&whole, &mut chance);
        hold(&simple_json(&bytes), &loaded(&memory, &store, &format!("t{i}.jsonl"), &bytes).await, &bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_compressed_text_is_what_another_decoder_makes_of_it() {
    let (memory, store) = in_memory().await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&csv()).unwrap();
    let packed = [("gz", gzip.finish().unwrap()), ("zst", zstd::stream::encode_all(&csv()[..], 3).unwrap())];
    let mut chance = StdRng::seed_from_u64(3);
    for i in 0..inputs(1_000) {
        let (ending, whole) = &packed[i % 2];
        let bytes = mutate(whole, &mut chance);
        let mut text = Vec::new();
        let decoded = match *ending {
            "gz" => flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut text).is_ok(),
            _ => zstd::stream::read::Decoder::new(&bytes[..]).and_then(|mut d| d.read_to_end(&mut text)).is_ok(),
        };
        let outcome = loaded(&memory, &store, &format!("t{i}.csv.{ending}"), &bytes).await;
        match (decoded, &outcome) {
            (false, Ok(rows)) => panic!("{ending} {i}: it cannot be unpacked, and {rows:?} were loaded"),
            (true, Ok(_)) if !text.is_empty() => {
                let plain = loaded(&memory, &store, &format!("p{i}.csv"), &text).await.unwrap();
                assert_eq!(*outcome.as_ref().unwrap(), plain, "{ending} {i}");
            }
            _ => {}
        }
    }
}

/// A Parquet file with columns of most kinds, in pages of the given compression.
fn parquet(dir: &Path, compression: Compression) -> Vec<u8> {
    let at = (0..40).map(|i| instant("2014-11-01").micros() + i * 1_000_000);
    let columns: [(&str, ArrayRef); 5] = [
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(at).with_timezone("UTC"))),
        ("x", Arc::new(Int64Array::from_iter((0..40).map(|i| (i % 7 != 0).then_some(i))))),
        ("y", Arc::new(Float64Array::from_iter_values((0..40).map(f64::from)))),
        ("z", Arc::new(BooleanArray::from_iter((0..40).map(|i| Some(i % 3 == 0))))),
        ("name", Arc::new(StringArray::from_iter_values((0..40).map(|i| format!("name {}", i % 5))))),
    ];
    let properties = WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(16)).build();
    write_parquet(&dir.join("whole.parquet"), &columns, Some(properties));
    fs::read(dir.join("whole.parquet")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_foreign_parquet_is_an_error_or_the_same_twice() {
    let dir = temp_dir();
    let wholes = [parquet(dir.path(), Compression::UNCOMPRESSED), parquet(dir.path(), Compression::SNAPPY)];
    let (memory, store) = in_memory().await;
    let mut chance = StdRng::seed_from_u64(4);
    // As bytes: a zone that nobody knows cannot be printed.
    let read = async || -> asof::Result<Vec<u8>> {
        Ok(bits_of(&store.read_parquet("memory://here/in/t.parquet").await?.collect().await?))
    };
    let mut answered = 0;
    for i in 0..inputs(2_000) {
        let whole = &wholes[i % 2];
        let bytes = match i % 3 {
            // The footer is small, and most of what is trusted stands in it.
            0 => {
                let (pages, footer) = whole
                    .split_at(whole.len() - 8 - u32::from_le_bytes(whole[whole.len() - 8..][..4].try_into().unwrap()) as usize);
                [pages, &mutate(footer, &mut chance)].concat()
            }
            _ => mutate(whole, &mut chance),
        };
        put(&memory, "in/t.parquet", &bytes).await;
        match (read().await, i % 10) {
            (Ok(first), 0) => assert_eq!(first, read().await.unwrap(), "input {i}"),
            (Ok(_), _) => answered += 1,
            (Err(error), _) => assert!(!error.to_string().is_empty()),
        }
        if i % 5 == 0 {
            let register = async {
                store.register_table(&format!("t{i}"), "memory://here/in", at_once()).await?;
                store.sql(&format!("SELECT sum(x), max(name) FROM t{i} WHERE y > 3"), late()).await?.collect().await?;
                asof::Result::Ok(())
            };
            let registered: asof::Result<()> = register.await;
            drop(registered);
            let load = Ingest::new(&format!("l{i}"), at_once()).unwrap().from("memory://here/in");
            drop(store.ingest(&load.on_reject(OnReject::Skip).on_anomaly(OnAnomaly::Accept)).await);
        }
    }
    assert!(answered > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_files_of_a_managed_table_are_noticed() {
    let (data, root) = (temp_dir(), temp_dir());
    let open = async || {
        let options = StoreOptions::default().cache_in_memory();
        FeatureStore::open_with(root.path().to_str().unwrap(), options).await.unwrap()
    };
    let store = open().await;
    for file in rides(data.path()) {
        store.ingest(&load_of(&file)).await.unwrap();
    }
    let ask = async |store: &FeatureStore| -> asof::Result<Vec<String>> {
        Ok(lines(&store.sql("SELECT * FROM rides", late()).await?.collect().await?))
    };
    let expected = ask(&store).await.unwrap();
    let files: Vec<String> = files_below(root.path()).into_iter().filter(|name| name.starts_with("facts/")).collect();
    let mut chance = StdRng::seed_from_u64(5);
    for i in 0..inputs(750) {
        let name = &files[i % files.len()];
        let path = root.path().join(name);
        let whole = fs::read(&path).unwrap();
        let bytes = mutate(&whole, &mut chance);
        fs::write(&path, &bytes).unwrap();
        match ask(&store).await {
            Ok(rows) => assert!(bytes == whole && rows == expected, "input {i} of {name}"),
            Err(Error::FileChanged { path, .. } | Error::UnreadableFile { path, .. }) => assert!(path.ends_with(name), "{path}"),
            Err(other) => panic!("input {i} of {name}: {other:?}"),
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(ask(&open().await).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_files_of_a_materialization_are_found_when_they_are_verified() {
    let root = temp_dir();
    let store = root_of_all(root.path()).await;
    let made: Materialization = store.materialize("fares_v1", RIDES_SEEN.parse().unwrap()).await.unwrap();
    let names: Vec<String> =
        files_below(root.path()).into_iter().filter(|name| name.contains("fares_v1") && name.ends_with(".parquet")).collect();
    let mut chance = StdRng::seed_from_u64(6);
    for i in 0..inputs(750) {
        let path = root.path().join(&names[i % names.len()]);
        let whole = fs::read(&path).unwrap();
        let bytes = mutate(&whole, &mut chance);
        fs::write(&path, &bytes).unwrap();
        let read = async { made.batches().await?.try_collect::<Vec<_>>().await };
        if let Err(error) = read.await {
            assert!(matches!(error, Error::Corrupt { .. }), "input {i}: {error:?}");
        }
        if i % 5 == 0 {
            let frame = async { asof::Result::Ok(made.dataframe().await?.collect().await?) };
            let rows: asof::Result<Vec<RecordBatch>> = frame.await;
            drop(rows);
        }
        assert_eq!(made.verify().await.is_ok(), bytes == whole, "input {i}");
        fs::write(&path, &whole).unwrap();
    }
    made.verify().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_json_of_the_root_is_an_error_or_changes_no_answer() {
    let root = temp_dir();
    root_of_all(root.path()).await;
    let expected: Vec<String> = testimony(root.path()).await.into_iter().map(|said| said.unwrap()).collect();
    let names: Vec<String> = files_below(root.path()).into_iter().filter(|name| name.ends_with(".json")).collect();
    let mut chance = StdRng::seed_from_u64(7);
    for i in 0..inputs(1_750) {
        let name = &names[i % names.len()];
        let path = root.path().join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, mutate(&whole, &mut chance)).unwrap();
        for (said, expected) in testimony(root.path()).await.into_iter().zip(&expected) {
            match said {
                Ok(said) => assert_eq!(said, *expected, "{name}, input {i}"),
                Err(Error::Corrupt { .. } | Error::Format { .. }) => {}
                Err(other) => panic!("{name}, input {i}: {other:?}"),
            }
        }
        fs::write(&path, &whole).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_files_of_the_cache_change_no_answer() {
    let (root, cache) = (temp_dir(), temp_dir());
    root_of_all(root.path()).await;
    let ask = async |dir: &Path| -> asof::Result<String> {
        let options = StoreOptions::default().cache_dir(dir);
        let store = FeatureStore::open_with(root.path().to_str().unwrap(), options).await?;
        crate::crash::register(&store)?;
        let online = store.online("zones_v1").await?;
        let rows: Vec<_> = (0..5).map(|zone| online.get(&[Value::Int(zone)])).collect::<asof::Result<_>>()?;
        Ok(format!("{} {rows:?}", online.materialization().id()))
    };
    let expected = ask(cache.path()).await.unwrap();
    let names = files_below(cache.path());
    let mut chance = StdRng::seed_from_u64(8);
    for i in 0..inputs(250) {
        let name = &names[i % names.len()];
        let dir = temp_dir();
        copy_dir(cache.path(), dir.path());
        let whole = fs::read(dir.path().join(name)).unwrap();
        // Most of a log's bytes are zeros behind its end.
        let used = whole.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        let bytes = [&mutate(&whole[..used], &mut chance)[..], &whole[used..]].concat();
        fs::write(dir.path().join(name), bytes).unwrap();
        match ask(dir.path()).await {
            Ok(said) => assert_eq!(said, expected, "{name}, input {i}"),
            Err(Error::Cache { .. } | Error::Corrupt { .. }) => {}
            Err(other) => panic!("{name}, input {i}: {other:?}"),
        }
    }
}
