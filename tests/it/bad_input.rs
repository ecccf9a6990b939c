//! Bad input of every kind: a typed error that says what is wrong, where, and what to do; and nothing is lost by it.

use std::{fs, panic::AssertUnwindSafe, path::Path, sync::Arc};

use asof::{
    Aggregate, AsOf, Error, FeatureSet, FeatureStore, StoreOptions, Value,
    backtest::{Backtest, Folds},
    catalog::{FactTable, KnownAt, TimeColumn},
    encoder::Number,
    feature_set::{EntitySetBuilder, RowSetBuilder},
    ingest::{Ingest, LoadOutcome, OnReject},
    time::{Span, TimeUnit},
};
use chrono::TimeDelta;
use datafusion::arrow::{
    array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::DataType,
};
use futures::{FutureExt, TryStreamExt};
use tempfile::TempDir;

use crate::support::{bits, files_below, temp_dir, version_text, write_batch, write_text};

/// Is this error of this kind, and does its text hold all these words?
macro_rules! says {
    ($error:expr, $kind:pat, $($word:expr),+ $(,)?) => {{
        let error: Error = $error;
        let text = error.to_string();
        assert!(matches!(&error, $kind), "another kind of error: {error:?}");
        $(assert!(text.contains(&*$word), "`{}` is not in: {text}", $word);)+
    }};
}
pub(crate) use says;

pub(crate) const RIDES: &str = "at,ended,zone,fare,note\n\
    2014-01-05 10:00:00,2014-01-05 10:20:00,1,11.5,a\n\
    2014-01-06 11:00:00,2014-01-06 11:05:00,2,7.25,b\n\
    2014-02-01 09:00:00,2014-02-01 09:30:00,1,14,c\n\
    2014-02-02 09:00:00,2014-02-02 09:10:00,3,6.5,d\n";

pub(crate) fn march() -> AsOf {
    "2014-03-01T00:00:00Z".parse().unwrap()
}

pub(crate) fn rides_table() -> FactTable {
    FactTable::new("at", KnownAt::column("ended")).zone("UTC".parse().unwrap())
}

pub(crate) fn fares(name: &str) -> RowSetBuilder {
    FeatureSet::rows(name, "SELECT at, zone, fare, note FROM rides").table("rides").event_time("at")
}

pub(crate) fn zones(name: &str) -> EntitySetBuilder {
    FeatureSet::entities(name, "rides").key("zone").lookup("fare", "last_fare")
}

/// A store with four rides and two sets over them.
pub(crate) struct Bench {
    pub(crate) data: TempDir,
    pub(crate) root: TempDir,
    pub(crate) store: FeatureStore,
}

pub(crate) async fn open(root: &Path, options: StoreOptions) -> asof::Result<FeatureStore> {
    let store = FeatureStore::open_with(root.to_str().unwrap(), options).await?;
    store.register(fares("fares_v1").encode(Number::of("zone")).label("fare").build()?)?;
    store.register(zones("zones_v1").window(TimeDelta::days(40), [Aggregate::count().named("rides")]).build()?)?;
    Ok(store)
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let (data, root) = (temp_dir(), temp_dir());
        let store = open(root.path(), StoreOptions::default().cache_in_memory()).await.unwrap();
        let bench = Self { data, root, store };
        bench.store.ingest(&bench.load("rides", "rides.csv", RIDES)).await.unwrap();
        bench
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        write_text(self.data.path(), name, content)
    }

    /// A load of one file with this content, declared as rides are.
    pub(crate) fn load(&self, table: &str, name: &str, content: impl AsRef<[u8]>) -> Ingest {
        Ingest::new(table, rides_table()).unwrap().from(self.file(name, content))
    }

    /// All that the store publishes, lists of rejects apart.
    pub(crate) async fn holds(&self) -> String {
        let files = files_below(self.root.path()).into_iter().filter(|name| !name.starts_with("rejects/"));
        let version = version_text(&self.store.describe("rides").await.unwrap());
        format!("{:?} {version} {:?}", self.store.tables().await.unwrap(), files.collect::<Vec<_>>())
    }

    /// The error of a load, which must have changed nothing.
    pub(crate) async fn refuses(&self, load: &Ingest) -> Error {
        let before = self.holds().await;
        let error = self.store.ingest(load).await.unwrap_err();
        assert_eq!(self.holds().await, before, "after {error}");
        self.works().await;
        error
    }

    pub(crate) async fn refuses_table(&self, folder: &str, declared: FactTable) -> Error {
        let before = self.holds().await;
        let folder = self.data.path().join(folder);
        let error = self.store.register_table("found", folder.to_str().unwrap(), declared).await.unwrap_err();
        assert_eq!(self.holds().await, before, "after {error}");
        error
    }

    pub(crate) async fn refuses_set(&self, set: asof::Result<FeatureSet>) -> Error {
        let set = set.unwrap();
        self.store.register(set.clone()).unwrap();
        let error = self.store.materialize(set.name().as_str(), march()).await.unwrap_err();
        // Nothing of it is published.
        let online = self.store.online(set.name().as_str()).await;
        assert!(matches!(online, Err(Error::NotFound { .. })), "{online:?}");
        self.works().await;
        error
    }

    pub(crate) async fn works(&self) {
        let rows = self.store.sql("SELECT * FROM rides", march()).await.unwrap();
        assert_eq!(rows.count().await.unwrap(), 4);
        assert_eq!(self.store.materialize("fares_v1", march()).await.unwrap().rows(), 4);
        assert_eq!(self.store.materialize("zones_v1", march()).await.unwrap().rows(), 3);
    }
}

pub(crate) fn micros(zone: Option<&str>) -> ArrayRef {
    let at: Vec<i64> = [5, 6].map(|day| (16_071 + day) * 86_400_000_000).into();
    Arc::new(TimestampMicrosecondArray::from(at).with_timezone_opt(zone))
}

/// Two rides with these times.
pub(crate) fn rides_at(times: ArrayRef) -> RecordBatch {
    let fare: ArrayRef = Arc::new(Float64Array::from(vec![1.5, 2.5]));
    RecordBatch::try_from_iter([("at", times), ("fare", fare)]).unwrap()
}

fn at_once() -> FactTable {
    FactTable::new("at", KnownAt::after(TimeDelta::zero()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_column_is_named_with_those_that_are_there() {
    let bench = Bench::new().await;
    bench.works().await;
    let load = bench.load("rides", "late.csv", "time,ended,zone\n2014-01-05 10:00:00,2014-01-05 10:00:00,1\n");
    says!(bench.refuses(&load).await, Error::UnknownColumn { .. }, "late.csv", "`at`", "time, ended, zone");
    let load = bench.load("rides", "open.csv", "at,zone\n2014-01-05 10:00:00,1\n");
    says!(bench.refuses(&load).await, Error::UnknownColumn { .. }, "open.csv", "`ended`", "at, zone");
    let keyed = Ingest::new("other", rides_table().key("driver")).unwrap().from(bench.file("rides.csv", RIDES));
    says!(bench.refuses(&keyed).await, Error::UnknownColumn { .. }, "table `other`", "`driver`", "at, ended, zone, fare, note");
    let tied = Ingest::new("other", rides_table().tie_break("seq")).unwrap().from(bench.file("rides.csv", RIDES));
    says!(bench.refuses(&tied).await, Error::UnknownColumn { .. }, "table `other`", "`seq`");
    let typed = bench.load("rides", "rides2.csv", format!("{RIDES}\n")).column_type("tip", DataType::Float64);
    says!(bench.refuses(&typed).await, Error::UnknownColumn { .. }, "`rides`", "`tip`");
    bench.file("plain/keep.txt", "");
    write_batch(bench.data.path(), "plain/a.parquet", &rides_at(micros(Some("UTC"))));
    let declared = FactTable::new("at", KnownAt::column("ended"));
    says!(bench.refuses_table("plain", declared).await, Error::UnknownColumn { .. }, "a.parquet", "`ended`", "at, fare");
    says!(
        bench.refuses_table("plain", at_once().key("zone")).await,
        Error::UnknownColumn { .. },
        "`found`",
        "`zone`",
        "at, fare"
    );

    let rows = |sql: &str| FeatureSet::rows("bad_v1", sql).table("rides").event_time("at").encode(Number::of("zone"));
    let set = rows("SELECT at, zone, tip FROM rides").build();
    says!(bench.refuses_set(set).await, Error::UnknownColumn { .. }, "the query of `bad_v1`", "`tip`", "fare");
    let set = fares("bad_v2").encode(Number::of("tip")).build();
    says!(bench.refuses_set(set).await, Error::UnknownColumn { .. }, "the query of `bad_v2`", "`tip`", "at, zone, fare, note");
    let set = fares("bad_v3").encode(Number::of("zone")).label("tip").build();
    says!(bench.refuses_set(set).await, Error::UnknownColumn { .. }, "the query of `bad_v3`", "`tip`", "at, zone, fare, note");
    let set = fares("bad_v4").event_time("started").encode(Number::of("zone")).build();
    says!(bench.refuses_set(set).await, Error::UnknownColumn { .. }, "the query of `bad_v4`", "`started`");
    for set in [zones("bad_v5").key("driver"), zones("bad_v6").lookup("driver", "driver_of")] {
        says!(bench.refuses_set(set.build()).await, Error::UnknownColumn { .. }, "table `rides`", "`driver`", "fare");
    }
    let set = zones("bad_v7").window(TimeDelta::days(1), [Aggregate::sum("tip")]).build();
    says!(bench.refuses_set(set).await, Error::UnknownColumn { .. }, "table `rides`", "`tip`");
    let made = bench.store.materialize("fares_v1", march()).await.unwrap();
    says!(made.dataset("tip").await.unwrap_err(), Error::UnknownColumn { .. }, "`fares_v1`", "`tip`", "fare");
    let online = bench.store.online("fares_v1").await.unwrap();
    says!(online.encode_row(&[("fare", 1.0.into())]).unwrap_err(), Error::UnknownColumn { .. }, "the request", "`zone`");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_does_not_fit_is_named_with_the_way_out() {
    let bench = Bench::new().await;
    // Text where a number should be: declared so, or because the table holds numbers.
    let dear = "at,ended,zone,fare,note\n2014-01-05 10:00:00,2014-01-05 10:20:00,1,12.5,\n2014-01-05 10:00:00,2014-01-05 10:20:00,1,dear,\n";
    for load in
        [bench.load("rides", "dear.csv", dear), bench.load("rides", "dear.csv", dear).column_type("fare", DataType::Float64)]
    {
        says!(bench.refuses(&load).await, Error::RejectedRows { .. }, "dear.csv", "line 3", "`fare`", "`dear`", "OnReject::Skip");
    }
    let load = bench.load("rides", "whole.csv", RIDES.replace("11.5", "11")).column_type("fare", DataType::Int64);
    says!(bench.refuses(&load).await, Error::ColumnType { .. }, "table `rides`", "`fare`", "Float64", "Int64");
    let load = bench.load("rides", "day.csv", RIDES).column_type("fare", DataType::Binary);
    says!(bench.refuses(&load).await, Error::ColumnType { .. }, "`fare`", "Int64, Float64, Boolean, Utf8");
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1", "2"]));
    let columns = [("at", micros(Some("UTC"))), ("ended", micros(Some("UTC"))), ("fare", text.clone())];
    write_batch(bench.data.path(), "text.parquet", &RecordBatch::try_from_iter(columns).unwrap());
    let load = Ingest::new("rides", rides_table()).unwrap().from(bench.data.path().join("text.parquet").to_str().unwrap());
    says!(bench.refuses(&load).await, Error::ColumnType { .. }, "text.parquet", "`fare`", "Utf8", "Float64", "cast");

    // Times of every wrong kind, registered and loaded.
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1_388_916_000, 1_388_916_001]));
    for (name, times, words) in [
        ("utf8", text, ["`at`", "Utf8", "must be a timestamp"]),
        ("int64", numbers.clone(), ["`at`", "Int64", "TimeColumn::epoch"]),
        ("local", micros(None), ["`at`", "Timestamp", "FactTable::zone"]),
    ] {
        let file = write_batch(bench.data.path(), &format!("{name}/a.parquet"), &rides_at(times));
        let error = bench.refuses_table(name, at_once()).await;
        says!(error, Error::ColumnType { .. }, format!("{name}/a.parquet"), words[0], words[1], words[2]);
        if name != "utf8" {
            let load = Ingest::new("other", at_once()).unwrap().from(file);
            says!(bench.refuses(&load).await, Error::ColumnType { .. }, format!("{name}/a.parquet"), words[0], words[2]);
        }
    }
    // With what the message asks for, they are taken.
    let epoch = FactTable::new(TimeColumn::epoch("at", TimeUnit::Second), KnownAt::after(TimeDelta::zero()));
    let folder = bench.data.path().join("int64");
    assert_eq!(bench.store.register_table("epochs", folder.to_str().unwrap(), epoch).await.unwrap().rows(), 2);
    let load = Ingest::new("other", at_once()).unwrap().from(bench.file("zoneless.csv", "at,fare\n2014-01-05 10:00:00,1\n"));
    says!(bench.refuses(&load).await, Error::RejectedRows { .. }, "zoneless.csv", "line 2", "`at`", "declares no zone");

    // Two files of one table that disagree.
    write_batch(bench.data.path(), "two/a.parquet", &rides_at(micros(Some("UTC"))));
    let other = RecordBatch::try_from_iter([("at", micros(Some("UTC"))), ("fare", numbers)]).unwrap();
    write_batch(bench.data.path(), "two/b.parquet", &other);
    says!(bench.refuses_table("two", at_once()).await, Error::ColumnType { .. }, "b.parquet", "`fare`", "Int64", "Float64");

    // In sets.
    let set = fares("bad_v1").encode(Number::of("note")).build();
    says!(bench.refuses_set(set).await, Error::ColumnType { .. }, "`bad_v1`", "`note`", "Utf8", "a number", "query");
    let set = zones("bad_v2").window(TimeDelta::days(1), [Aggregate::mean("note")]).build();
    says!(bench.refuses_set(set).await, Error::ColumnType { .. }, "`rides`", "`note`", "Utf8", "numbers");
    let set = FeatureSet::rows("bad_v3", "SELECT note AS at, zone FROM rides").table("rides").event_time("at");
    says!(
        bench.refuses_set(set.encode(Number::of("zone")).build()).await,
        Error::ColumnType { .. },
        "`bad_v3`",
        "`at`",
        "timestamp"
    );
    bench.store.register(fares("noted_v1").encode(Number::of("zone")).label("note").build().unwrap()).unwrap();
    let made = bench.store.materialize("noted_v1", march()).await.unwrap();
    says!(made.dataset("note").await.unwrap_err(), Error::ColumnType { .. }, "`noted_v1`", "`note`", "Utf8", "numbers");
    let online = bench.store.online("zones_v1").await.unwrap();
    says!(online.get(&["one".into()]).unwrap_err(), Error::ColumnType { .. }, "the key", "`zone`", "Int64");
    says!(online.get(&[]).unwrap_err(), Error::Definition { .. }, "`zones_v1`", "(zone)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_parquet_is_named() {
    let bench = Bench::new().await;
    let good = fs::read(write_batch(bench.data.path(), "good.parquet", &rides_at(micros(Some("UTC"))))).unwrap();
    let cases: [(&str, &[u8]); 5] = [
        ("empty", b""),
        ("text", b"at,fare\n2014-01-05 10:00:00,1\n"),
        ("magic", b"PAR1PAR1"),
        ("half", &good[..good.len() / 2]),
        ("tailless", &good[..good.len() - 5]),
    ];
    for (name, content) in cases {
        let file = format!("{name}/a.parquet");
        let load = bench.load("other", &file, content);
        says!(bench.refuses(&load).await, Error::UnreadableFile { .. }, file, "replace or remove it");
        says!(bench.refuses_table(name, at_once()).await, Error::UnreadableFile { .. }, file, "replace or remove it");
    }
    // Good files beside it are not taken alone.
    let load = Ingest::new("other", at_once()).unwrap().from(bench.data.path().join("good.parquet").to_str().unwrap());
    let load = load.from(bench.data.path().join("half").to_str().unwrap());
    says!(bench.refuses(&load).await, Error::UnreadableFile { .. }, "half/a.parquet");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_file_that_changes_behind_our_back_is_noticed() {
    let bench = Bench::new().await;
    let path = write_batch(bench.data.path(), "found/month=1/a.parquet", &rides_at(micros(Some("UTC"))));
    write_batch(bench.data.path(), "found/month=2/b.parquet", &rides_at(micros(Some("UTC"))));
    let folder = bench.data.path().join("found");
    bench.store.register_table("found", folder.to_str().unwrap(), at_once()).await.unwrap();
    let set = |name: &str| {
        let set = FeatureSet::rows(name, "SELECT at, fare FROM found").table("found").event_time("at");
        bench.store.register(set.encode(Number::of("fare")).build().unwrap()).unwrap();
    };
    set("found_v1");
    let made = bench.store.materialize("found_v1", march()).await.unwrap();
    let (good, expected) = (fs::read(&path).unwrap(), bits(&made).await);
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for (i, (content, word)) in
        [(Some(&good[..good.len() / 2]), "has changed"), (Some(&flipped), "has changed"), (None, "has vanished")]
            .into_iter()
            .enumerate()
    {
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let error = bench.store.sql("SELECT count(*) FROM found", march()).await.unwrap_err();
        says!(error, Error::FileChanged { .. }, "`found`", "month=1/a.parquet", word, "repair");
        let name = format!("found_v{}", i + 2);
        set(&name);
        let error = bench.store.materialize(&name, march()).await.unwrap_err();
        says!(error, Error::FileChanged { .. }, "`found`", "month=1/a.parquet", word);
        // What was published before stays what it was, and other tables are not touched.
        assert_eq!(bits(&bench.store.materialize("found_v1", march()).await.unwrap()).await, expected);
        bench.works().await;
    }
    // The same bytes again are the same file.
    fs::write(&path, &good).unwrap();
    assert_eq!(bits(&bench.store.materialize("found_v4", march()).await.unwrap()).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_without_files_is_named() {
    let bench = Bench::new().await;
    fs::create_dir(bench.data.path().join("empty")).unwrap();
    bench.file("other/readme.txt", "no facts");
    for name in ["empty", "other", "nowhere", "*.parquet", "other/**/*.csv", "nowhere/*.csv", "rides.csv.bak"] {
        let load = Ingest::new("other", rides_table()).unwrap().from(bench.data.path().join(name).to_str().unwrap());
        says!(bench.refuses(&load).await, Error::NoFiles { .. }, name, "check the path or the glob");
    }
    for name in ["empty", "other", "nowhere"] {
        says!(bench.refuses_table(name, at_once()).await, Error::NoFiles { .. }, name, "Parquet files");
    }
    says!(bench.refuses(&Ingest::new("other", rides_table()).unwrap()).await, Error::NoFiles { .. }, "no source was given");
    let load = Ingest::new("other", rides_table()).unwrap().from(bench.data.path().join("[").to_str().unwrap());
    says!(bench.refuses(&load).await, Error::InvalidLocation { .. }, "[");
    says!(FeatureStore::open("ftp://x/y").await.unwrap_err(), Error::InvalidLocation { .. }, "ftp", "s3, gs, az, file or memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_known_is_answered_with_those_that_are() {
    let bench = Bench::new().await;
    let sql = async |sql: &str| bench.store.sql(sql, march()).await.err().unwrap();
    says!(sql("SELECT * FROM tides").await, Error::UnknownTable { .. }, "`tides`", "rides");
    says!(sql("SELECT * FROM rides JOIN sea.tides USING (at)").await, Error::UnknownTable { .. }, "sea.tides", "rides");
    says!(sql("SELECT tip FROM rides").await, Error::UnknownColumn { .. }, "tip", "fare");
    says!(sql("SELECT at FROM").await, Error::Query(_), "query");
    says!(sql("SELECT 1; SELECT 2").await, Error::Statement { .. }, "SELECT 1; SELECT 2", "one query at a time");
    says!(sql("SELECT now() FROM rides").await, Error::Volatile { .. }, "now", "as-of");
    for statement in ["DROP TABLE rides", "CREATE TABLE x AS SELECT * FROM rides", "INSERT INTO rides SELECT * FROM rides"] {
        says!(sql(statement).await, Error::Statement { .. }, statement, "is not a query");
    }
    let store = &bench.store;
    says!(store.describe("tides").await.unwrap_err(), Error::UnknownTable { .. }, "`tides`", "rides");
    says!(store.describe("No Table!").await.unwrap_err(), Error::InvalidName { .. }, "No Table!");
    for error in [store.materialize("tides_v1", march()).await.err().unwrap(), store.online("tides_v1").await.err().unwrap()] {
        says!(error, Error::UnknownFeatureSet { .. }, "`tides_v1`", "fares_v1, zones_v1");
    }
    says!(store.online("zones_v1").await.unwrap_err(), Error::NotFound { .. }, "`zones_v1`", "materialize it first");
    let set = FeatureSet::rows("bad_v1", "SELECT at, fare FROM tides").table("rides").event_time("at");
    let error = bench.refuses_set(set.encode(Number::of("fare")).build()).await;
    says!(error, Error::Query(_) | Error::UnknownTable { .. } | Error::Definition { .. }, "tides");
    let set = FeatureSet::entities("bad_v2", "tides").key("zone").lookup("fare", "f").build();
    says!(bench.refuses_set(set).await, Error::UnknownTable { .. }, "`tides`", "rides");
    let set = FeatureSet::rows("bad_v3", "SELEKT at FROM rides").table("rides").event_time("at").encode(Number::of("zone"));
    says!(bench.refuses_set(set.build()).await, Error::Definition { .. }, "`bad_v3`", "SELEKT");
    let set = FeatureSet::rows("bad_v4", "SELECT at, random() AS zone FROM rides").table("rides").event_time("at");
    says!(bench.refuses_set(set.encode(Number::of("zone")).build()).await, Error::Volatile { .. }, "bad_v4", "random");
    bench.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_fact_everything_is_empty_and_well_formed() {
    let bench = Bench::new().await;
    let (early, store) = ("2013-01-01T00:00:00Z".parse::<AsOf>().unwrap(), &bench.store);
    for set in ["fares_v1", "zones_v1"] {
        let (empty, full) = (store.materialize(set, early).await.unwrap(), store.materialize(set, march()).await.unwrap());
        assert_eq!((empty.rows(), empty.schema().unwrap()), (0, full.schema().unwrap()));
        empty.verify().await.unwrap();
        let batches: Vec<RecordBatch> = empty.batches().await.unwrap().try_collect().await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
        let frame = empty.dataframe().await.unwrap();
        assert_eq!(frame.schema().as_arrow().fields().len(), full.schema().unwrap().fields().len());
        assert_eq!(frame.count().await.unwrap(), 0);
        let again = store.materialize(set, early).await.unwrap();
        assert_eq!((again.id(), again.manifest()), (empty.id(), empty.manifest()));
        assert_ne!(empty.id(), full.id());
    }
    let empty = store.materialize("fares_v1", early).await.unwrap();
    let data = empty.dataset("fare").await.unwrap();
    assert_eq!((data.records.dim(), data.targets.len()), ((0, 1), 0));
    let row = store.online_for(&empty).await.unwrap().encode_row(&[("zone", 7.into())]).unwrap();
    assert_eq!(row.number("zone").unwrap(), Some(7.0));
    let online = store.online_for(&store.materialize("zones_v1", early).await.unwrap()).await.unwrap();
    assert!(!online.contains(&[Value::Int(1)]).unwrap());
    assert_eq!(store.sql("SELECT * FROM rides", early).await.unwrap().count().await.unwrap(), 0);

    let folds = Folds::new([(early, Span::new(early, "2013-02-01T00:00:00Z".parse().unwrap()))]).unwrap();
    let report = store.backtest(&Backtest::new("fares_v1", "fare", folds)).await.unwrap();
    let fold = &report.folds[0];
    assert_eq!((fold.rows_seen, fold.rows_kept, fold.rows_scored), (0, 0, 0));
    assert!(fold.linear.is_none() && fold.metrics.is_none() && fold.label_shift.is_none());
    let text = report.to_string();
    assert_eq!(text.lines().nth(1).unwrap().split_whitespace().filter(|cell| *cell == "-").count(), 6, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_files_of_odd_shapes_are_read_or_refused_whole() {
    let bench = Bench::new().await;
    let bad = |name: &str, content: &[u8]| bench.load("other", name, content);
    says!(bench.refuses(&bad("void.csv", b"")).await, Error::UnreadableFile { .. }, "void.csv", "header");
    says!(bench.refuses(&bad("blank.csv", b"\n\n")).await, Error::UnreadableFile { .. }, "blank.csv", "header");
    // Without a header the first row is taken for one, and the message shows it.
    let headless = b"2014-01-05 10:00:00,2014-01-05 10:20:00,1\n2014-01-06 10:00:00,2014-01-06 10:20:00,1\n";
    let error = bench.refuses(&bad("headless.csv", headless)).await;
    says!(error, Error::UnknownColumn { .. }, "headless.csv", "`at`", "2014-01-05 10:00:00");
    let twice = b"at,ended,fare,fare\n2014-01-05 10:00:00,2014-01-05 10:20:00,1,2\n";
    says!(bench.refuses(&bad("twice.csv", twice)).await, Error::Definition { .. }, "twice.csv", "`fare`", "Ingest::rename");
    says!(bench.refuses(&bad("name.csv", b"at,ended,f\xff\n")).await, Error::UnreadableFile { .. }, "name.csv", "UTF-8");

    let row = "2014-01-05 10:00:00,2014-01-05 10:20:00";
    for (name, content, line, reason) in [
        ("short.csv", format!("at,ended,fare\n{row},1\n{row}\n"), "line 3", "2 fields, the header 3"),
        ("long.csv", format!("at,ended,fare\n{row},1,2\n"), "line 2", "4 fields, the header 3"),
        (
            "quoted.csv",
            format!("at,ended,note\n{row},\"two\nlines\"\n{row},\"three\n\nlines\"\nnever,{row}\n"),
            "line 7",
            "`never`",
        ),
        ("late.csv", format!("at,ended,note\n{row},\"two\nlines\"\nnever,2014-01-05,x\n"), "line 4", "`never`"),
        ("year.csv", format!("at,ended,note\n{row},a\n2014-02-30 00:00:00,2014-03-01,x\n"), "line 3", "no such date"),
    ] {
        says!(bench.refuses(&bad(name, content.as_bytes())).await, Error::RejectedRows { .. }, name, line, reason, "`other`");
    }
    let mut latin = format!("at,ended,note\n{row},a\n{row},caf").into_bytes();
    latin.extend(b"\xe9\n");
    let error = bench.refuses(&bad("latin.csv", &latin)).await;
    let list = match &error {
        Error::RejectedRows { reject_file, count: 1, .. } => fs::read_to_string(reject_file).unwrap(),
        other => panic!("{other:?}"),
    };
    says!(error, Error::RejectedRows { .. }, "latin.csv", "line 3", "`note`", "UTF-8");
    assert!(list.starts_with("file,line,column,value,reason\n") && list.contains("latin.csv,3,note,"), "{list}");
    let report = bench.store.ingest(&bad("latin.csv", &latin).on_reject(OnReject::Skip)).await.unwrap();
    assert_eq!((report.outcome, report.rows, report.rejected), (LoadOutcome::Loaded, 1, 1));

    // These are fine: a byte-order mark, CRLF, quoted newlines, no newline at the end, blank lines.
    for (table, content, rows) in [
        ("bom", format!("\u{feff}at,ended,note\n{row},a\n"), 1),
        ("bom_quoted", format!("\u{feff}\"at\",\"ended\",note\n{row},a\n"), 1),
        ("crlf", format!("at,ended,note\r\n{row},a\r\n{row},b\r\n"), 2),
        ("quoted", format!("at,ended,note\n{row},\"a\n\"\"b\"\"\"\n{row},b"), 2),
        ("spaced", format!("at , ended,note\n{row},a\n\n{row},b\n\n"), 2),
    ] {
        let report = bench.store.ingest(&bench.load(table, &format!("{table}.csv"), content)).await.unwrap();
        assert_eq!((report.rows, report.rejected), (rows, 0), "{table}");
        let found = bench.store.sql(&format!("SELECT note FROM {table} WHERE note IS NOT NULL"), march()).await.unwrap();
        assert_eq!(found.count().await.unwrap() as u64, rows, "{table}");
    }
    let note =
        bench.store.sql("SELECT note FROM quoted WHERE note LIKE '%\"%'", march()).await.unwrap().to_string().await.unwrap();
    assert!(note.contains("\"b\""), "{note}");
    bench.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reject_has_the_line_that_an_editor_shows_whatever_ends_the_lines() {
    let bench = Bench::new().await;
    let row = "2014-01-05 10:00:00,2014-01-05 10:20:00";
    let mut wrong = Vec::new();
    for (name, content, line) in [
        ("lf.csv", format!("at,ended,note\n{row},a\n{row},b\nnever,2014-01-05,x\n"), 4),
        ("open.csv", format!("at,ended,note\n{row},a\nnever,2014-01-05,x"), 3),
        ("crlf.csv", format!("at,ended,note\r\n{row},a\r\n{row},b\r\nnever,2014-01-05,x\r\n"), 4),
        ("crlf_quoted.csv", format!("at,ended,note\r\n{row},\"a\r\nb\"\r\nnever,2014-01-05,x\r\n"), 4),
        ("blank.csv", format!("at,ended,note\n{row},a\n\n\nnever,2014-01-05,x\n"), 5),
    ] {
        let error = bench.refuses(&bench.load("other", name, content)).await.to_string();
        if !error.contains(&format!("{name}` line {line},")) {
            wrong.push(format!("not line {line}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_rejects_is_that_of_the_run_that_names_it() {
    let bench = Bench::new().await;
    let row = "2014-01-05 10:00:00,2014-01-05 10:20:00";
    let load = bench.load("flags", "flags.csv", format!("at,ended,flag\n{row},1\nnever,{row}\n{row},2\n"));
    let listed = async || match bench.refuses(&load).await {
        Error::RejectedRows { reject_file, count, .. } => {
            (count, fs::read_to_string(reject_file).unwrap().lines().count() as u64 - 1)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(listed().await, (1, 1));
    // Meanwhile the table is made by a file of truth values, which numbers are not.
    bench.store.ingest(&bench.load("flags", "true.csv", format!("at,ended,flag\n{row},true\n"))).await.unwrap();
    assert_eq!(listed().await, (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parquet_file_with_a_flipped_bit_is_named_or_read_never_a_panic() {
    let bench = Bench::new().await;
    let rows: Vec<f64> = (0..500).map(f64::from).collect();
    let at = TimestampMicrosecondArray::from_iter_values((0..500).map(|i| 1_388_916_000_000_000 + i * 60_000_000));
    let columns: [(&str, ArrayRef); 2] =
        [("at", Arc::new(at.with_timezone("UTC"))), ("fare", Arc::new(Float64Array::from(rows)))];
    let file = write_batch(bench.data.path(), "good.parquet", &RecordBatch::try_from_iter(columns).unwrap());
    let good = fs::read(file).unwrap();
    let (mut refused, mut wrong) = (0, Vec::new());
    for (i, at) in (0..good.len()).step_by(good.len() / 60).enumerate() {
        let (mut flipped, name) = (good.clone(), format!("flipped_{i}/a.parquet"));
        flipped[at] ^= 0x40;
        let file = bench.file(&name, flipped);
        let load = Ingest::new(&format!("loaded_{i}"), at_once()).unwrap().from(file.clone());
        let loading = AssertUnwindSafe(bench.store.ingest(&load)).catch_unwind().await.map(|done| done.map(drop));
        let folder = Path::new(&file).parent().unwrap().to_str().unwrap().to_owned();
        let found = format!("found_{i}");
        let registering = AssertUnwindSafe(async {
            bench.store.register_table(&found, &folder, at_once()).await?;
            bench.store.sql(&format!("SELECT * FROM {found}"), march()).await?.collect().await?;
            Ok(())
        });
        for (way, outcome) in [("loading", loading), ("registering", registering.catch_unwind().await)] {
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) if way == "registering" || error.to_string().contains(&name) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
                Ok(Err(error)) => wrong.push(format!("{way}, byte {at}: {error:?}")),
                Err(panic) => wrong.push(format!("{way}, byte {at}: panic: {:?}", panic.downcast_ref::<String>())),
            }
        }
    }
    bench.works().await;
    println!("{refused} refused");
    assert!(wrong.is_empty() && refused > 0, "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_file_with_a_header_alone_is_a_load_of_no_rows() {
    let bench = Bench::new().await;
    let header = "at,ended,zone,fare,note\n";
    let report = bench.store.ingest(&bench.load("rides", "header.csv", header)).await.unwrap();
    assert_eq!((report.outcome, report.rows, report.rejected, report.version.rows()), (LoadOutcome::Loaded, 0, 0, 4));
    bench.works().await;
    // As the first load of a table it makes an empty table, which answers.
    let report = bench.store.ingest(&bench.load("quiet", "quiet.csv", header)).await.unwrap();
    assert_eq!((report.rows, report.version.files().len()), (0, 0));
    assert!(bench.store.partitions("quiet").await.unwrap().is_empty());
    assert_eq!(bench.store.sql("SELECT * FROM quiet", march()).await.unwrap().count().await.unwrap(), 0);
    // Its columns have no type before they have a value: a set that names one is told so, until they do.
    let set = || FeatureSet::entities("quiet_v1", "quiet").key("zone").lookup("fare", "last").build();
    bench.store.register(set().unwrap()).unwrap();
    let error = bench.store.materialize("quiet_v1", march()).await.unwrap_err();
    says!(error, Error::Mistakes { .. }, "table `quiet` has no column `zone`", "table `quiet` has no column `fare`");
    bench.store.ingest(&bench.load("quiet", "loud.csv", RIDES)).await.unwrap();
    assert!(bench.store.materialize("quiet_v1", march()).await.unwrap().rows() > 0);
}

// --- the store's own files -------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_another_format_is_left_alone_and_named() {
    let bench = Bench::new().await;
    bench.works().await;
    bench.store.ingest(&bench.load("other", "rides.csv", RIDES)).await.unwrap();
    let root = bench.root.path();
    let fresh = || open(root, StoreOptions::default().cache_in_memory());
    let in_format = |path: &str, format: &str| {
        let text = fs::read_to_string(root.join(path)).unwrap();
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value["format"] = serde_json::from_str(format).unwrap();
        fs::write(root.join(path), value.to_string()).unwrap();
        text
    };
    let manifest = files_below(root).into_iter().find(|p| p.contains("zones_v1") && p.ends_with("manifest.json")).unwrap();
    let catalog = "catalog/default/other/v0000000001.json";

    let good = in_format(&manifest, "999");
    let store = fresh().await.unwrap();
    for error in [store.materialize("zones_v1", march()).await.err().unwrap(), store.online("zones_v1").await.err().unwrap()] {
        says!(error, Error::Format { .. }, manifest, "999", "format 2", "another root");
    }
    assert_eq!(store.materialize("fares_v1", march()).await.unwrap().rows(), 4);
    fs::write(root.join(&manifest), "{\"format\": 2, \"id\"").unwrap();
    let store = fresh().await.unwrap();
    says!(store.materialize("zones_v1", march()).await.unwrap_err(), Error::Corrupt { .. }, manifest, "materialize again");
    fs::write(root.join(&manifest), good).unwrap();

    let good = in_format(catalog, "999");
    let store = fresh().await.unwrap();
    for error in [store.describe("other").await.unwrap_err(), store.sql("SELECT * FROM other", march()).await.err().unwrap()] {
        says!(error, Error::Format { .. }, catalog, "999", "format 2");
    }
    let load = bench.load("other", "more.csv", RIDES);
    says!(store.ingest(&load).await.unwrap_err(), Error::Format { .. }, catalog);
    for damage in ["", "{", "[]", "{\"format\": 2}", "\u{0}\u{0}\u{0}"] {
        fs::write(root.join(catalog), damage).unwrap();
        let error = store.describe("other").await.unwrap_err();
        says!(error, Error::Corrupt { .. } | Error::Format { .. }, catalog);
        assert!(matches!(store.ingest(&load).await, Err(Error::Corrupt { .. } | Error::Format { .. })));
    }
    bench.works().await;
    fs::write(root.join(catalog), good).unwrap();
    assert_eq!(fresh().await.unwrap().describe("other").await.unwrap().rows(), 4);

    let good = in_format("asof.json", "999");
    says!(fresh().await.unwrap_err(), Error::Format { .. }, "asof.json", "999", "format 2");
    fs::write(root.join("asof.json"), "{").unwrap();
    says!(fresh().await.unwrap_err(), Error::Corrupt { .. }, "asof.json", "format");
    fs::write(root.join("asof.json"), good).unwrap();
    fresh().await.unwrap();
    bench.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_part_of_a_materialization_is_found_and_never_read_as_rows() {
    let bench = Bench::new().await;
    let made = bench.store.materialize("fares_v1", march()).await.unwrap();
    let part = files_below(bench.root.path()).into_iter().find(|p| p.contains("fares_v1") && p.ends_with(".parquet")).unwrap();
    let path = bench.root.path().join(&part);
    let (good, expected) = (fs::read(&path).unwrap(), bits(&made).await);
    let read = async || -> asof::Result<Vec<RecordBatch>> { made.batches().await?.try_collect().await };
    for cut in [0, 4, good.len() / 2, good.len() - 1] {
        fs::write(&path, &good[..cut]).unwrap();
        for error in [made.verify().await.unwrap_err(), read().await.unwrap_err(), made.dataframe().await.err().unwrap()] {
            says!(error, Error::Corrupt { .. }, part, "materialize again");
        }
    }
    for at in (0..good.len()).step_by(good.len() / 40) {
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        fs::write(&path, &flipped).unwrap();
        says!(made.verify().await.unwrap_err(), Error::Corrupt { .. }, part, "not what was published");
        for error in [read().await.unwrap_err(), made.dataframe().await.err().unwrap()] {
            says!(error, Error::Corrupt { .. }, part, "not what was published", "materialize again");
        }
    }
    fs::remove_file(&path).unwrap();
    says!(made.verify().await.unwrap_err(), Error::Corrupt { .. }, part, "vanished");
    says!(read().await.unwrap_err(), Error::Corrupt { .. }, part, "vanished");
    fs::write(&path, &good).unwrap();
    assert_eq!(bits(&made).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_materialization_that_is_deleted_as_told_is_made_again() {
    let bench = Bench::new().await;
    for set in ["fares_v1", "zones_v1"] {
        let made = bench.store.materialize(set, march()).await.unwrap();
        let expected = bits(&made).await;
        fs::remove_dir_all(bench.root.path().join("materialized").join(set)).unwrap();
        let again = bench.store.materialize(set, march()).await.unwrap();
        again.verify().await.unwrap();
        assert_eq!((again.id(), bits(&again).await), (made.id(), expected));
    }
}
