//! Loading: what becomes of rows, columns and files on their way into month folders, and what stops a load.

use std::{fs, io::Write, path::Path, sync::Arc};

use asof::{
    Error, FeatureStore, Resources, StoreOptions,
    catalog::{FactTable, KnownAt},
    ingest::{Ingest, LoadOutcome, OnReject},
};
use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray},
        datatypes::{DataType, TimestampMicrosecondType},
    },
    parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
};

use crate::{
    support::{
        cells, count, files_below, instant, load_trips, made_load, store, store_with, temp_dir, trip, trips_table, write_parquet,
        write_trips,
    },
    times::utc_micros,
};

/// A table of things that happen at `at` and are known at once, by New York's clocks.
fn things() -> FactTable {
    FactTable::new("at", KnownAt::after(chrono::TimeDelta::zero())).zone("America/New_York".parse().unwrap())
}

fn load(from: &Path) -> Ingest {
    Ingest::new("things", things()).unwrap().from(from.to_str().unwrap())
}

async fn query(store: &FeatureStore, sql: &str) -> Vec<String> {
    cells(store, sql, instant("2100-01-01")).await
}

/// Folders and rows of the table's partitions, in the order of time.
async fn folders(store: &FeatureStore) -> Vec<(String, u64)> {
    store.partitions("things").await.unwrap().into_iter().map(|p| (p.path, p.rows)).collect()
}

/// The event times in a file, in its order.
fn times_in(file: &Path, column: &str) -> Vec<i64> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(file).unwrap()).unwrap().build().unwrap();
    let times = reader.map(|batch| {
        let batch = batch.unwrap();
        batch.column_by_name(column).unwrap().as_primitive::<TimestampMicrosecondType>().values().to_vec()
    });
    times.collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn facts_go_where_their_local_clock_says_whatever_their_file_is_called() {
    let (data, root) = (temp_dir(), temp_dir());
    let october = "at,id\n2014-10-31 23:30:00,1\n2014-11-01T03:59:59Z,2\n2014-11-01T04:00:00Z,3\n2008-02-29 12:00:00,4\n";
    fs::write(data.path().join("2014-11.csv"), october).unwrap();
    fs::write(data.path().join("2014-12.csv"), "at,id\n2014-11-30 23:59:59.999999,5\n2015-01-01 00:00:00,6\n").unwrap();
    let store = store(root.path()).await;
    store.ingest(&load(data.path())).await.unwrap();
    let expected = [("year=2008/month=2", 1), ("year=2014/month=10", 2), ("year=2014/month=11", 2), ("year=2015/month=1", 1)];
    assert_eq!(folders(&store).await, expected.map(|(path, rows)| (path.to_owned(), rows)));
    let by_folder = "SELECT year, month, id FROM things ORDER BY id";
    let expected = ["2014 10 1", "2014 10 2", "2014 11 3", "2008 2 4", "2014 11 5", "2015 1 6"];
    assert_eq!(query(&store, by_folder).await, expected);
    for name in files_below(&root.path().join("facts")) {
        assert!(name.starts_with("default/things/year=") && name.ends_with(".parquet"), "{name}");
    }
}

#[tokio::test]
async fn a_single_year_may_be_laid_out_by_month_alone() {
    let (data, root) = (temp_dir(), temp_dir());
    fs::write(data.path().join("a.csv"), "at,id\n2014-03-01,1\n2014-12-31,2\n2014-03-31,3\n").unwrap();
    let store = store(root.path()).await;
    let report = store.ingest(&load(data.path()).by_month_of_one_year()).await.unwrap();
    assert_eq!(report.version.partition_columns().iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["month"]);
    assert_eq!(folders(&store).await, [("month=3".to_owned(), 2), ("month=12".to_owned(), 1)]);
    assert_eq!(query(&store, "SELECT id FROM things WHERE month = 3 ORDER BY id").await, ["1", "3"]);
    // Another layout is another table.
    fs::write(data.path().join("b.csv"), "at,id\n2014-04-01,4\n").unwrap();
    assert!(matches!(store.ingest(&load(data.path())).await, Err(Error::Definition { .. })));
}

#[tokio::test]
async fn csv_gzip_and_parquet_are_one_table_with_the_wider_types() {
    let (data, root) = (temp_dir(), temp_dir());
    fs::write(data.path().join("1.csv"), "at,amount,note,flag,code,late\n2014-01-01,3,a,true,007,\n").unwrap();
    let mut gzip = flate2::write::GzEncoder::new(fs::File::create(data.path().join("2.csv.gz")).unwrap(), Default::default());
    gzip.write_all(b"\xef\xbb\xbfat,amount,note,code\n2014-01-02,2.5,\"b, \"\"c\"\"\",12\n").unwrap();
    gzip.finish().unwrap();
    let columns: [(&str, ArrayRef); 4] = [
        ("flag", Arc::new(BooleanArray::from(vec![Some(false), None]))),
        ("at", utc_micros([1_388_750_400_000_000, 1_388_836_800_000_000])),
        ("amount", Arc::new(Int32Array::from(vec![Some(-4), None]))),
        ("late", Arc::new(StringArray::from(vec!["x", "y"]))),
    ];
    write_parquet(&data.path().join("deep/er/3.parquet"), &columns, None);
    fs::write(data.path().join("README.md"), "not a source").unwrap();
    let store = store(root.path()).await;
    let report = store.ingest(&load(data.path())).await.unwrap();
    assert_eq!((report.rows, report.rejected, report.reject_file), (4, 0, None));
    let types: Vec<_> = report.version.columns().iter().map(|c| format!("{} {}", c.name, c.data_type)).collect();
    assert_eq!(types[1..], ["amount Float64", "note Utf8", "flag Boolean", "code Utf8", "late Utf8"]);
    let found = query(&store, "SELECT amount, note, flag, code, late FROM things ORDER BY at").await;
    assert_eq!(found, ["3.0 a true 007 ", "2.5 b, \"c\"  12 ", "-4.0  false  x", "    y"]);
}

#[tokio::test]
async fn integers_that_a_float_cannot_hold_are_refused_not_rounded() {
    let (data, root) = (temp_dir(), temp_dir());
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![(1 << 53) + 1]));
    write_parquet(&data.path().join("1.parquet"), &[("at", utc_micros([0])), ("id", ids)], None);
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
    write_parquet(&data.path().join("2.parquet"), &[("at", utc_micros([0])), ("id", floats)], None);
    let store = store(root.path()).await;
    let refused = store.ingest(&load(data.path())).await.unwrap_err();
    assert!(matches!(&refused, Error::RejectedRows { count: 1, .. }), "{refused}");
    assert!(
        refused.to_string().contains("1.parquet` line 1, column `id`: `9007199254740993`: the value is not exact"),
        "{refused}"
    );
    assert!(store.tables().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_same_load_twice_is_one_load_and_a_further_month_is_appended() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    write_trips(data.path(), 30);
    let all = load_trips(&store, data.path()).await;
    assert_eq!((all.outcome, all.rows, all.version.version()), (LoadOutcome::Loaded, 360, 1));
    let again = load_trips(&store, data.path()).await;
    assert_eq!((again.outcome, again.rows, again.version.version()), (LoadOutcome::AlreadyLoaded, 360, 1));
    assert_eq!(again.version, all.version);
    // Even from a copy at another place.
    let copy = temp_dir();
    crate::support::copy_dir(data.path(), copy.path());
    assert_eq!(load_trips(&store, copy.path()).await.outcome, LoadOutcome::AlreadyLoaded);

    let further = temp_dir();
    fs::write(
        further.path().join("2015-01.csv"),
        "pickup_at,dropoff_at,trip_distance,fare_amount,surge\n2015-01-01 00:00:00,2015-01-01 00:10:00,2,9.5,1.5\n",
    )
    .unwrap();
    let appended = load_trips(&store, further.path()).await;
    assert_eq!((appended.outcome, appended.rows, appended.version.version()), (LoadOutcome::Loaded, 1, 2));
    assert_eq!((appended.version.rows(), appended.version.loads().len()), (361, 2));
    assert_eq!(count(&store, instant("2016-01-01")).await, 361);
    // What either file lacks is NULL there.
    let newest = "SELECT trip_distance, surge, passenger_count, total_amount FROM nyc_taxi WHERE surge IS NOT NULL";
    assert_eq!(query(&store, newest).await, ["2.0 1.5  "]);
    assert_eq!(load_trips(&store, data.path()).await.outcome, LoadOutcome::AlreadyLoaded);
    let other =
        Ingest::new("nyc_taxi", trips_table().key("pickup_zone")).unwrap().from(further.path().join("*.csv").to_str().unwrap());
    assert!(matches!(store.ingest(&other).await, Err(Error::Definition { .. })));
}

/// A file with four good rows and four bad ones, in lines 3 to 6.
const DIRTY: &str = "at,n,x\n2014-01-01,1,a\nN/A,2,b\n2014-02-30 00:00:00,3,c\n2014-01-03,4\n2014-01-04,five,e\n\
                     2014-01-05,,f\n2014-01-06,7,\n2014-01-07,8,h\n";

#[tokio::test]
async fn rejects_stop_a_load_and_are_listed_with_file_line_and_reason() {
    let (data, root) = (temp_dir(), temp_dir());
    fs::write(data.path().join("dirty.csv"), DIRTY).unwrap();
    let store = store(root.path()).await;
    let load = load(data.path()).column_type("n", DataType::Int64);
    let Err(Error::RejectedRows { table, count, first, reject_file, .. }) = store.ingest(&load).await else {
        panic!("it loaded")
    };
    assert_eq!((table.as_str(), count), ("things", 4));
    assert!(first.contains("dirty.csv` line 3, column `at`: `N/A`: not a time"), "{first}");
    let listed = fs::read_to_string(&reject_file).unwrap();
    let lines: Vec<String> =
        listed.lines().map(|line| line.rsplit_once("dirty.csv").map_or(line, |(_, rest)| rest).into()).collect();
    assert_eq!(
        lines,
        [
            "file,line,column,value,reason",
            ",3,at,N/A,not a time",
            ",4,at,2014-02-30 00:00:00,no such date",
            ",5,,,\"the row has 2 fields, the header 3\"",
            ",6,n,five,not an integer",
        ]
    );
    assert!(store.tables().await.unwrap().is_empty());
    assert!(files_below(root.path()).iter().all(|name| !name.starts_with("facts")));
}

#[tokio::test]
async fn rejects_may_be_skipped_and_are_counted_each_time_they_are_asked_for() {
    let (data, root) = (temp_dir(), temp_dir());
    fs::write(data.path().join("dirty.csv"), DIRTY).unwrap();
    let store = store(root.path()).await;
    let load = load(data.path()).column_type("n", DataType::Int64).on_reject(OnReject::Skip);
    let report = store.ingest(&load).await.unwrap();
    assert_eq!((report.rows, report.rejected), (4, 4));
    assert_eq!(report.version.loads()[0].rejected, 4);
    let listed = fs::read_to_string(root.path().join(report.reject_file.as_ref().unwrap())).unwrap();
    assert_eq!(listed.lines().count(), 5);
    assert_eq!(query(&store, "SELECT n, x FROM things ORDER BY at").await, ["1 a", " f", "7 ", "8 h"]);
    // The second call loads nothing, and still tells where the rejects of this load are listed.
    let again = store.ingest(&load).await.unwrap();
    assert_eq!((again.outcome, again.rows, again.rejected), (LoadOutcome::AlreadyLoaded, 4, 4));
    assert_eq!(again.reject_file, report.reject_file);
}

#[tokio::test]
async fn a_blank_line_does_not_shift_the_line_of_a_reject() {
    let (data, root) = (temp_dir(), temp_dir());
    fs::write(data.path().join("gaps.csv"), "at,note\n2014-01-01,\"two\nlines\"\n\n\nN/A,b\n").unwrap();
    let store = store(root.path()).await;
    let refused = store.ingest(&load(data.path())).await.unwrap_err();
    assert!(refused.to_string().contains("line 6,"), "{refused}");
}

#[tokio::test]
async fn the_line_ends_of_other_systems_are_no_part_of_a_value() {
    for end in ["", "\r\n"] {
        let (data, root) = (temp_dir(), temp_dir());
        let text = format!("at,n,note\r\n2014-01-01,1,\"two\r\nlines\"\r\n2014-01-02,2,b\r\n2014-01-03,3,\r\nN/A,4,d{end}");
        fs::write(data.path().join("dos.csv"), text).unwrap();
        let store = store(root.path()).await;
        let report = store.ingest(&load(data.path()).on_reject(OnReject::Skip)).await.unwrap();
        assert_eq!((report.rows, report.rejected), (3, 1));
        let expected = ["1 10 false", "2 1 false", "3  true"];
        assert_eq!(query(&store, "SELECT n, length(note), note IS NULL FROM things ORDER BY n").await, expected);
        let listed = fs::read_to_string(root.path().join(report.reject_file.unwrap())).unwrap();
        assert!(listed.contains(",6,at,N/A,"), "{listed}");
    }
}

#[tokio::test]
async fn times_that_are_missing_in_parquet_are_rejected_by_row() {
    let (data, root) = (temp_dir(), temp_dir());
    let at: ArrayRef =
        Arc::new(StringArray::from(vec![Some("2014-01-01"), None, Some("yesterday"), Some("2014-01-02 12:00:00 UTC")]));
    let id: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    write_parquet(&data.path().join("a.parquet"), &[("at", at), ("id", id)], None);
    let store = store(root.path()).await;
    let report = store.ingest(&load(data.path()).on_reject(OnReject::Skip)).await.unwrap();
    assert_eq!((report.rows, report.rejected), (2, 2));
    let listed = fs::read_to_string(root.path().join(report.reject_file.unwrap())).unwrap();
    let rows: Vec<&str> = listed.lines().skip(1).map(|line| line.split(".parquet,").last().unwrap()).collect();
    assert!(rows[0].starts_with("2,at,,") && rows[1].starts_with("3,at,yesterday,"), "{listed}");
    assert_eq!(query(&store, "SELECT id FROM things ORDER BY id").await, ["1", "4"]);
}

#[tokio::test]
async fn a_load_may_leave_no_row_and_the_table_is_there() {
    let (data, root) = (temp_dir(), temp_dir());
    fs::write(data.path().join("empty.csv"), "at,id\n").unwrap();
    let store = store(root.path()).await;
    let report = store.ingest(&load(data.path())).await.unwrap();
    assert_eq!((report.rows, report.version.files().len()), (0, 0));
    assert_eq!(query(&store, "SELECT count(*) FROM things").await, ["0"]);
}

#[tokio::test]
async fn files_are_sorted_by_event_time_and_split_by_size() {
    let (data, root) = (temp_dir(), temp_dir());
    let days = (0..90).map(|i| trip(&format!("2014-01-{:02}T1{}:00:00Z", 1 + i * 37 % 28, i % 10), f64::from(i)));
    let resources = Resources { batch_rows: 10, ..Default::default() };
    let store = store_with(root.path(), StoreOptions::default().cache_in_memory().resources(resources)).await;
    let load = made_load(&data.path().join("trips.csv"), &days.collect::<Vec<_>>()).file_bytes(1);
    let report = store.ingest(&load).await.unwrap();
    assert_eq!(report.version.files().len(), 9);
    let place = root.path().join("facts/default/nyc_taxi");
    let all: Vec<i64> = files_below(&place).iter().flat_map(|name| times_in(&place.join(name), "pickup_at")).collect();
    assert_eq!(all.len(), 90);
    assert!(all.is_sorted(), "within a file, and from file to file of a month");
    for file in report.version.files() {
        let times = times_in(&place.join(&file.path), "pickup_at");
        let bounds = file.event.unwrap();
        assert_eq!((times[0], times[times.len() - 1], file.rows), (bounds.min, bounds.max, times.len() as u64));
    }
    assert_eq!(query(&store, "SELECT count(*), count(DISTINCT fare_amount) FROM nyc_taxi").await, ["90 90"]);
}

#[tokio::test]
async fn columns_are_renamed_on_the_way_in_and_never_onto_each_other() {
    let (data, root) = (temp_dir(), temp_dir());
    fs::write(data.path().join("a.csv"), "tpep_pickup,Other Name,id\n2014-01-01,x,1\n").unwrap();
    let store = store(root.path()).await;
    let from = || load(data.path()).rename("tpep_pickup", "at");
    let clash = store.ingest(&from().rename("Other Name", "id")).await.unwrap_err();
    assert!(matches!(&clash, Error::Definition { reason, .. } if reason.contains("`id`")), "{clash}");
    let missing = store.ingest(&load(data.path())).await.unwrap_err();
    assert!(matches!(&missing, Error::UnknownColumn { column, .. } if column == "at"), "{missing}");
    store.ingest(&from().rename("Other Name", "other")).await.unwrap();
    assert_eq!(query(&store, "SELECT at, other, id FROM things").await, ["2014-01-01T05:00:00Z x 1"]);
}

#[tokio::test]
async fn a_column_called_month_needs_partition_columns_of_other_names() {
    let (data, root) = (temp_dir(), temp_dir());
    fs::write(data.path().join("a.csv"), "at,month\n2014-12-01,tuna\n").unwrap();
    let store = store(root.path()).await;
    let clash = store.ingest(&load(data.path())).await.unwrap_err();
    assert!(
        matches!(&clash, Error::Definition { reason, .. } if reason.contains("`month`") && reason.contains("partition")),
        "{clash}"
    );
    assert!(store.tables().await.unwrap().is_empty());
    store.ingest(&load(data.path()).partition_columns(["y", "m"]).unwrap()).await.unwrap();
    assert_eq!(folders(&store).await, [("y=2014/m=12".to_owned(), 1)]);
    assert_eq!(query(&store, "SELECT y, m, month FROM things").await, ["2014 12 tuna"]);
    assert!(matches!(load(data.path()).partition_columns(["a", "b", "c"]), Err(Error::Definition { .. })));
}

#[tokio::test]
async fn a_value_that_the_table_cannot_hold_leaves_the_table_as_it_was() {
    let (data, root) = (temp_dir(), temp_dir());
    fs::write(data.path().join("1.csv"), "at,n\n2014-01-01,1\n").unwrap();
    let store = store(root.path()).await;
    store.ingest(&load(&data.path().join("1.csv"))).await.unwrap();
    fs::write(data.path().join("2.csv"), "at,n\n2014-01-02,2\n2014-01-03,2.5\n").unwrap();
    fs::write(data.path().join("3.parquet"), "no parquet at all").unwrap();
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
    write_parquet(&data.path().join("4.parquet"), &[("at", utc_micros([0])), ("n", floats)], None);
    for (file, is_expected) in [
        ("2.csv", (|e| matches!(e, Error::RejectedRows { count: 1, .. })) as fn(&Error) -> bool),
        ("3.parquet", |e| matches!(e, Error::UnreadableFile { .. })),
        (
            "4.parquet",
            |e| matches!(e, Error::RejectedRows { first, .. } if first.contains("column_type(\"n\", DataType::Float64)")),
        ),
        ("5.csv", |e| matches!(e, Error::NoFiles { .. })),
    ] {
        let refused = store.ingest(&load(&data.path().join(file))).await.unwrap_err();
        assert!(is_expected(&refused), "{file}: {refused}");
    }
    assert_eq!(store.describe("things").await.unwrap().version(), 1);
    assert_eq!(query(&store, "SELECT n FROM things").await, ["1"]);
}

#[tokio::test]
async fn a_file_that_two_sources_name_is_loaded_once() {
    let (data, root) = (temp_dir(), temp_dir());
    fs::write(data.path().join("a.csv"), "at,n\n2014-01-01,1\n").unwrap();
    let store = store(root.path()).await;
    let load = load(data.path()).from(data.path().join("*.csv").to_str().unwrap());
    assert_eq!(store.ingest(&load).await.unwrap().rows, 1);
}

#[tokio::test]
async fn a_name_with_brackets_is_a_file_when_there_is_one() {
    let (data, root) = (temp_dir(), temp_dir());
    for (name, id) in [("trips [1].csv", 1), ("trips 1.csv", 2)] {
        fs::write(data.path().join(name), format!("at,id\n2014-11-01 0{id}:00:00,{id}\n")).unwrap();
    }
    let store = store(root.path()).await;
    assert_eq!(store.ingest(&load(&data.path().join("trips [1].csv"))).await.unwrap().rows, 1);
    assert_eq!(query(&store, "SELECT id FROM things").await, ["1"]);
    // As a pattern it means another file, when it is the name of none.
    assert_eq!(store.ingest(&load(&data.path().join("trips [1-2].csv"))).await.unwrap().rows, 1);
    assert_eq!(query(&store, "SELECT id FROM things ORDER BY id").await, ["1", "2"]);
}

#[tokio::test]
async fn files_of_two_stores_in_memory_are_two_whatever_their_tags() {
    use object_store::{ObjectStoreExt, memory::InMemory};
    let root = temp_dir();
    let mut locations = asof::storage::Locations::default();
    for (base, id) in [("memory://a", 1), ("memory://b", 2)] {
        let memory = InMemory::new();
        memory.put(&"x.csv".into(), format!("at,id\n2014-11-01 0{id}:00:00,{id}\n").into()).await.unwrap();
        locations = locations.mount(base, Arc::new(memory)).unwrap();
    }
    let store = store_with(root.path(), StoreOptions::default().cache_in_memory().locations(locations)).await;
    let both = Ingest::new("things", things()).unwrap().from("memory://a").from("memory://b");
    assert_eq!(store.ingest(&both).await.unwrap().rows, 2);
}
