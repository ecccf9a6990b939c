//! What a load says of itself: why rows could not be read, which file brought what, and how rows that were left out come in.

use std::{fs, path::Path};

use asof::{
    Error, FeatureStore,
    catalog::{FactTable, KnownAt, TimeColumn},
    ingest::{CsvOptions, Ingest, LoadOutcome, OnAnomaly, OnChangedSource, OnReject, SourceOutcome},
    time::TimeUnit,
};
use chrono::TimeDelta;
use datafusion::arrow::{array::Array, datatypes::DataType};

use crate::support::{cells, instant, store, temp_dir, write_text};

fn table() -> FactTable {
    FactTable::new("at", KnownAt::after(TimeDelta::zero()))
}

fn load(from: impl AsRef<Path>) -> Ingest {
    Ingest::new("t", table()).unwrap().from(from.as_ref().to_str().unwrap())
}

fn file(dir: &Path, name: &str, header: &str, rows: usize, row: impl Fn(usize) -> String) -> String {
    let rows: String = (0..rows).map(|i| row(i) + "\n").collect();
    write_text(dir, name, format!("{header}\n{rows}"))
}

async fn sum(store: &FeatureStore, sql: &str) -> String {
    cells(store, sql, instant("2100-01-01")).await.join("; ")
}

/// With few rows and with many the reason is the same, in the same words, and no advice loads a table of nothing.
#[tokio::test]
async fn the_commonest_reason_is_told_however_many_rows_there_are() {
    type Case = (&'static str, &'static str, fn(usize) -> String, [&'static str; 3]);
    let cases: [Case; 5] = [
        ("a forgotten zone", "at,x", |i| format!("2014-11-{:02} 00:00:00,{i}", 1 + i % 28), ["line 2", "`at`", "zone"]),
        ("dates without a zone", "at,x", |i| format!("2023-11-{:02},{i}", 1 + i % 28), ["line 2", "`2023-11-01`", "zone"]),
        ("another form", "at,x", |i| format!("11/{:02}/2014 00:11,{i}", 1 + i % 28), ["line 2", "`at`", "`11/01/2014 00:11`"]),
        (
            "no drop-offs",
            "at,x",
            |i| if i == 0 { "2014-11-01T00:00:00Z,0".into() } else { format!(",{i}") },
            ["line 3", "`at`", "empty"],
        ),
        ("extra fields", "at,x", |i| format!("2014-11-01T00:00:00Z,{i},,"), ["line 2", "4 fields", "header 2"]),
    ];
    for (what, header, row, words) in cases {
        for (rows, on_reject) in [(5, OnReject::Stop), (20, OnReject::Skip), (100, OnReject::Stop), (3_000, OnReject::Skip)] {
            let (data, root) = (temp_dir(), temp_dir());
            let path = file(data.path(), "bad.csv", header, rows, row);
            let store = store(root.path()).await;
            match store.ingest(&load(&path).on_reject(on_reject)).await {
                // The one row that is right, among few.
                Ok(report) if what == "no drop-offs" && rows == 20 => assert_eq!(report.rows, 1),
                Ok(report) => panic!("{what}, {rows}: {report:?}"),
                Err(error @ Error::RejectedRows { .. }) => {
                    let told = error.to_string();
                    for word in words {
                        assert!(told.contains(word), "{what}, {rows}: {word} in {told}");
                    }
                    assert!(told.contains("bad.csv") && !told.contains("``"), "{what}, {rows}: {told}");
                    assert!(!told.contains("Accept") && !told.contains("Skip"), "{what}, {rows}: {told}");
                }
                Err(other) => panic!("{what}, {rows}: {other}"),
            }
        }
    }
}

#[tokio::test]
async fn of_several_reasons_the_commonest_is_told_and_a_load_of_nothing_is_never_ok() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let path = file(data.path(), "mixed.csv", "at,x", 60, |i| match i {
        0 => "yesterday,1".into(),
        1..=20 => format!("2014-11-01T00:00:00Z,{i},"),
        _ => format!("2014-11-01T00:00:00Z,{i}"),
    });
    let error = store.ingest(&load(&path)).await.unwrap_err();
    let Error::RejectedRows { count: 21, rows: 39, common: 20, .. } = &error else { panic!("{error}") };
    let told = error.to_string();
    assert!(told.contains("21 of 60 rows") && told.contains("20 of them") && told.contains("line 3: the row has 3"), "{told}");
    assert!(told.contains("OnReject::Skip"), "{told}");
    // Accepting anomalies does not make a load of no rows succeed.
    let path = file(data.path(), "nothing.csv", "at,x", 60, |i| format!("{i} o'clock,1"));
    let accepted = load(&path).on_reject(OnReject::Skip).on_anomaly(OnAnomaly::Accept);
    assert!(matches!(store.ingest(&accepted).await, Err(Error::RejectedRows { count: 60, rows: 0, .. })));
    assert!(store.tables().await.unwrap().is_empty());
    // A file of the load that brings nothing is accepted with the others, when that is said, and told of.
    file(data.path(), "good.csv", "at,x", 60, |i| format!("2014-11-01T00:00:00Z,{i}"));
    let both = load(data.path().join("*o*.csv")).on_reject(OnReject::Skip);
    assert!(matches!(store.ingest(&both).await, Err(Error::RejectedRows { .. })));
    let report = store.ingest(&both.on_anomaly(OnAnomaly::Accept)).await.unwrap();
    assert_eq!(report.rows, 60);
    let told: Vec<String> = report.sources.iter().map(ToString::to_string).collect();
    assert_eq!(told[0], "good.csv: 60 rows");
    assert!(told[1].starts_with("nothing.csv: 0 rows, 60 rejected (not a time"), "{told:?}");
}

/// Rows that were left out come in once the load is told how to read them.
#[tokio::test]
async fn rows_that_were_left_out_can_be_loaded_later() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let path = file(data.path(), "half.csv", "at,x", 40, |i| match i % 4 {
        0 => format!("2014-11-01T00:00:00Z,n/a{}", i % 8),
        _ => format!("2014-11-01T00:00:00Z,{i}"),
    });
    let first = load(&path).column_type("x", DataType::Int64).on_reject(OnReject::Skip);
    let report = store.ingest(&first).await.unwrap();
    assert_eq!((report.rows, report.rejected), (30, 10));
    // The same again is the same load.
    assert_eq!(store.ingest(&first).await.unwrap().outcome, LoadOutcome::AlreadyLoaded);
    let nulls = first.clone().csv(CsvOptions::default().null_texts(["", "n/a0", "n/a4"]));
    let error = store.ingest(&nulls).await.unwrap_err();
    assert!(matches!(&error, Error::ReadOtherwise { rejected: 10, source_name, .. } if source_name == "half.csv"), "{error}");
    assert!(error.to_string().contains("OnChangedSource::Replace"), "{error}");
    let again = nulls.clone().on_changed_source(OnChangedSource::Replace);
    let report = store.ingest(&again).await.unwrap();
    assert_eq!((report.outcome, report.rows, report.rejected), (LoadOutcome::Loaded, 40, 0));
    assert_eq!(sum(&store, "SELECT count(*), count(x) FROM t").await, "40 30");
    for load in [&again, &nulls, &first] {
        assert_eq!(store.ingest(load).await.unwrap().outcome, LoadOutcome::AlreadyLoaded);
    }
}

#[tokio::test]
async fn each_file_of_a_load_has_an_outcome() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let row = |i: usize| format!("2014-11-01T00:00:{:02}Z,{i}", i % 60);
    file(data.path(), "a.csv", "at,x", 3, row);
    store.ingest(&load(data.path())).await.unwrap();
    file(data.path(), "b.csv", "at,x", 4, row);
    fs::copy(data.path().join("b.csv"), data.path().join("c.csv")).unwrap();
    file(data.path(), "d.csv", "at,x", 5, |i| if i == 1 { "noon,1".into() } else { row(i) });
    // Without a newline behind its last line, which may have been cut off.
    write_text(data.path(), "e.csv", "at,x\n2014-11-01T00:00:00Z,12");
    let report = store.ingest(&load(data.path()).on_reject(OnReject::Skip)).await.unwrap();
    let told: Vec<String> = report.sources.iter().map(ToString::to_string).collect();
    assert_eq!(told[0], "a.csv: loaded before");
    assert_eq!(told[1], "b.csv: 4 rows");
    assert!(told[2].starts_with("d.csv: 4 rows, 1 rejected (not a time"), "{told:?}");
    assert_eq!(told[3..], ["e.csv: 1 rows", "c.csv: a copy of b.csv, not loaded again"]);
    assert_eq!(report.sources[4].outcome, SourceOutcome::CopyOf("b.csv".into()));
    let quality = report.quality.unwrap();
    let cut: Vec<_> = quality.files.iter().filter(|file| file.lacks_newline).map(|file| file.name.as_str()).collect();
    assert_eq!(cut, ["e.csv"]);
    assert!(quality.to_string().contains("`e.csv` ends without a newline"), "{quality}");
    // Named twice is no copy.
    let twice = load(data.path().join("a.csv")).from(data.path().to_str().unwrap());
    assert_eq!(store.ingest(&twice).await.unwrap().sources.len(), 5);
}

#[tokio::test]
async fn all_anomalies_are_listed_and_few_rows_tell_nothing_of_a_name() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let path = file(data.path(), "places.csv", "at,lat,lon,trip_id", 60, |i| {
        format!("2014-11-01T00:00:{i:02}Z,{}.5,-{}.5,{i}.5", 100 + i, 200 + i)
    });
    let error = store.ingest(&load(&path)).await.unwrap_err();
    let Error::Anomalies { count: 3, list_file, .. } = &error else { panic!("{error}") };
    let list = fs::read_to_string(list_file).unwrap();
    let columns: Vec<&str> = list.lines().skip(1).filter_map(|line| line.split(',').nth(1)).collect();
    assert_eq!((list.lines().next(), columns), (Some("file,column,expected,found"), vec!["lat", "lon", "trip_id"]));
    assert!(error.to_string().contains(list_file.as_str()), "{error}");
    // Eight rows, five of them of another month than the name tells.
    let few =
        file(data.path(), "trips_2014-10.csv", "at,x", 8, |i| format!("2014-{}-01T00:00:00Z,{i}", if i < 3 { 10 } else { 11 }));
    let report = store.ingest(&load(&few)).await.unwrap();
    assert_eq!((report.rows, report.quality.unwrap().outside_month), (8, 3));
    // A file whose name tells no month has no rows outside of it.
    let plain = file(data.path(), "plain.csv", "at,x", 8, |i| format!("2014-{}-01T00:00:00Z,{i}", 1 + i));
    let quality = store.ingest(&load(&plain)).await.unwrap().quality.unwrap();
    assert_eq!((quality.outside_month, quality.files[0].outside_month), (0, 0));
}

#[tokio::test]
async fn counts_of_a_coarser_unit_than_declared_are_questioned() {
    let data = temp_dir();
    let units = [
        (TimeUnit::Day, 86_400_000_000),
        (TimeUnit::Second, 1_000_000),
        (TimeUnit::Millisecond, 1_000),
        (TimeUnit::Microsecond, 1),
        (TimeUnit::Nanosecond, 0),
    ];
    for (unit, unit_us) in &units[..4] {
        // The last time is missing, and somebody wrote 0.
        let at = |i| if i == 60 { 0 } else { (1_700_000_000 + 3_600 * i) * 1_000_000 / unit_us };
        let path = file(data.path(), "t.csv", "at,x", 61, |i| format!("{},{i}", at(i)));
        for (declared, _) in units {
            let root = temp_dir();
            let store = store(root.path()).await;
            let table = FactTable::new(TimeColumn::epoch("at", declared), KnownAt::after(TimeDelta::zero()));
            let load = Ingest::new("t", table).unwrap().from(&path);
            let outcome = store.ingest(&load).await;
            let is_right = *unit == declared;
            match outcome {
                Ok(report) => assert!(is_right && report.rows == 61, "{unit:?} as {declared:?}"),
                // Times of the far future are rejects, times right after 1970 an anomaly.
                Err(Error::RejectedRows { .. }) => assert!(!is_right, "{unit:?} as {declared:?}"),
                Err(error) => {
                    let told = error.to_string();
                    assert!(!is_right && matches!(error, Error::Anomalies { .. }), "{unit:?} as {declared:?}: {told}");
                    let remedy = format!("declare `TimeUnit::{unit:?}`");
                    assert!(told.contains("60 of 61 times right after 1970") && told.contains(&remedy), "{told}");
                    assert_eq!(store.ingest(&load.on_anomaly(OnAnomaly::Accept)).await.unwrap().rows, 61);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_clock_that_begins_at_zero_is_no_wrong_unit() {
    let data = temp_dir();
    for (unit, step) in [(TimeUnit::Second, 100), (TimeUnit::Millisecond, 10_000_000), (TimeUnit::Microsecond, 9_000_000)] {
        let root = temp_dir();
        let path = file(data.path(), "t.csv", "at,x", 400, |i| format!("{},{i}", i * step));
        let table = FactTable::new(TimeColumn::epoch("at", unit), KnownAt::after(TimeDelta::zero()));
        let load = Ingest::new("t", table).unwrap().from(&path);
        assert_eq!(store(root.path()).await.ingest(&load).await.unwrap().rows, 400, "{unit:?}");
    }
}

#[tokio::test]
async fn rows_strewn_over_more_months_than_a_century_has_are_questioned() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let path =
        file(data.path(), "strewn.csv", "at,x", 1_300, |i| format!("{}-{:02}-01T00:00:00Z,{i}", 1900 + i / 12, 1 + i % 12));
    let told = store.ingest(&load(&path)).await.unwrap_err().to_string();
    for word in ["1300 months", "1900-01", "2008-04", "months_at_most"] {
        assert!(told.contains(word), "{word} in {told}");
    }
    assert!(store.tables().await.unwrap().is_empty());
    let report = store.ingest(&load(&path).months_at_most(1_300)).await.unwrap();
    assert_eq!(report.version.files().len(), 1_300);
}

#[tokio::test]
async fn a_column_with_quotes_in_its_name_can_be_the_event_time() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let header = "\"a\"\"b\",\"k\"\"\",x";
    let path = file(data.path(), "quoted.csv", header, 3, |i| format!("2014-11-0{}T00:00:00Z,{i},{i}", 3 - i));
    let table = FactTable::new("a\"b", KnownAt::after(TimeDelta::zero())).key("k\"").tie_break("x");
    let load = Ingest::new("t", table).unwrap().from(path);
    assert_eq!(store.ingest(&load).await.unwrap().rows, 3);
    assert_eq!(sum(&store, "SELECT x FROM t ORDER BY \"a\"\"b\"").await, "2; 1; 0");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_named_pipe_is_no_source_and_never_waited_for() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    for name in ["pipe.csv", "pipe.parquet"] {
        let pipe = data.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let wait = std::time::Duration::from_secs(20);
        let pipe = pipe.to_str().unwrap();
        let loaded = tokio::time::timeout(wait, store.ingest(&load(pipe))).await.unwrap().unwrap_err().to_string();
        assert!(loaded.contains(name) && loaded.contains("not a regular file"), "{loaded}");
        // Below a folder it is no file.
        let below = tokio::time::timeout(wait, store.ingest(&load(data.path()))).await.unwrap();
        assert!(matches!(below, Err(Error::NoFiles { .. })), "{below:?}");
        if name.ends_with("parquet") {
            let read = tokio::time::timeout(wait, store.read_parquet(pipe)).await.unwrap().unwrap_err().to_string();
            assert!(read.contains("not a regular file"), "{read}");
        }
    }
}

/// Object stores have no such names, so that nobody can say what to read; the folder's other files wait until it is renamed.
#[cfg(unix)]
#[tokio::test]
async fn a_file_whose_name_no_object_can_have_is_told_of() {
    use std::os::unix::ffi::OsStrExt;
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    file(data.path(), "fine.csv", "at,x", 3, |i| format!("2014-11-01T00:00:00Z,{i}"));
    let odd: [&[u8]; 6] =
        [b"two\nlines.csv", b"bell\x07.csv", b"\x1besc.jsonl", b"del\x7f.parquet", b"tab\t.csv.gz", b"latin\xe9.csv"];
    for name in odd {
        let path = data.path().join(std::ffi::OsStr::from_bytes(name));
        fs::copy(data.path().join("fine.csv"), &path).unwrap();
        let error = store.ingest(&load(data.path())).await.unwrap_err();
        assert!(matches!(error, Error::InvalidLocation { .. }), "{error:?}");
        let told = error.to_string();
        assert!(told.contains("rename that file") && !told.contains(char::is_control), "{told:?}");
        fs::remove_file(path).unwrap();
    }
    // What nobody can have meant as rows stands in nobody's way.
    fs::write(data.path().join("notes\n.txt"), "x").unwrap();
    assert_eq!(store.ingest(&load(data.path())).await.unwrap().rows, 3);
}

/// Rows between which only undeclared columns decide are counted; exact duplicates among them do no harm.
#[tokio::test]
async fn ties_are_counted_where_a_key_is_declared() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let rows = ["00,a,1,1", "00,a,1,2", "00,a,1,2", "00,b,1,3", "01,a,1,4", "01,a,2,5", "02,b,1,6"];
    let path = file(data.path(), "ties.csv", "at,k,rank,x", rows.len(), |i| {
        format!("2014-11-01T00:00:{}", rows[i].replacen(',', "Z,", 1))
    });
    for (name, table, ties) in [
        ("keyless", table(), None),
        ("keyed", table().key("k"), Some(2)),
        ("ranked", table().key("k").tie_break("rank"), Some(1)),
        ("whole", table().key("k").tie_break("rank").tie_break("x"), Some(0)),
    ] {
        let load = Ingest::new(name, table).unwrap().from(&path);
        let quality = store.ingest(&load).await.unwrap().quality.unwrap();
        assert_eq!((quality.duplicates, quality.ties), (1, ties), "{name}");
        assert_eq!(quality.to_string().contains("tied with an earlier one"), ties.is_some(), "{quality}");
    }
}

/// A fact that was never known is loaded, counted and never visible, as in a registered table; who wants none says so.
#[tokio::test]
async fn facts_that_were_never_known_have_one_rule() {
    use asof::ingest::{Expect, OnViolation};
    use datafusion::arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray};
    let table = || FactTable::new("at", KnownAt::column("known"));
    let us = |text: &str| instant(text).micros();
    let at: ArrayRef = std::sync::Arc::new(TimestampMicrosecondArray::from(vec![us("2014-11-01"); 3]).with_timezone("UTC"));
    let known = TimestampMicrosecondArray::from(vec![Some(us("2014-11-02")), None, Some(us("2014-11-03"))]).with_timezone("UTC");
    let x: ArrayRef = std::sync::Arc::new(Int64Array::from(vec![1, 2, 3]));
    let data = temp_dir();
    let d = data.path();
    crate::support::write_parquet(&d.join("p/f.parquet"), &[("at", at), ("known", std::sync::Arc::new(known)), ("x", x)], None);
    let sources = [
        write_text(
            d,
            "f.csv",
            "at,known,x\n2014-11-01T00:00:00Z,2014-11-02T00:00:00Z,1\n2014-11-01T00:00:00Z,,2\n2014-11-01T00:00:00Z,2014-11-03T00:00:00Z,3\n",
        ),
        write_text(
            d,
            "f.jsonl",
            "{\"at\":\"2014-11-01T00:00:00Z\",\"known\":\"2014-11-02T00:00:00Z\",\"x\":1}\n{\"at\":\"2014-11-01T00:00:00Z\",\"known\":null,\"x\":2}\n\
             {\"at\":\"2014-11-01T00:00:00Z\",\"known\":\"2014-11-03T00:00:00Z\",\"x\":3}\n",
        ),
        d.join("p/f.parquet").to_str().unwrap().to_owned(),
    ];
    for source in sources {
        let root = temp_dir();
        let store = store(root.path()).await;
        let load = |name: &str| Ingest::new(name, table()).unwrap().from(&source);
        let report = store.ingest(&load("t")).await.unwrap();
        let quality = report.quality.unwrap();
        assert_eq!((report.rows, report.rejected, quality.never_known), (3, 0, Some(1)), "{source}");
        assert_eq!(sum(&store, "SELECT count(*), sum(x) FROM t").await, "2 4", "{source}");
        store.compact("t", &Default::default()).await.unwrap();
        assert_eq!(sum(&store, "SELECT count(*), sum(x) FROM t").await, "2 4", "{source}");
        let known = Expect::not_null("known");
        let stopped = store.ingest(&load("stopped").expect(known.clone())).await;
        assert!(matches!(stopped, Err(Error::Unexpected { count: 1, .. })), "{source}");
        let apart = load("apart").expect(known.on_violation(OnViolation::Quarantine));
        assert_eq!(store.ingest(&apart).await.unwrap().quarantined, 1, "{source}");
        if source.ends_with("parquet") {
            store.register_table("r", d.join("p").to_str().unwrap(), table()).await.unwrap();
            assert_eq!(sum(&store, "SELECT count(*), sum(x) FROM r").await, "2 4");
        }
    }
}

/// A spine from CSV: its times stay what they are, instants or a clock's readings, in every form that loads take.
#[tokio::test]
async fn a_spine_can_come_from_csv() {
    use asof::temporal::Spine;
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let (d, days) = (data.path(), ["01", "02", "03"]);
    let facts = file(d, "facts.csv", "at,k,x", 3, |i| format!("2014-11-{}T12:00:00Z,{},{i}", days[i], i % 2));
    let declared = table().key("k");
    store.ingest(&Ingest::new("t", declared).unwrap().from(facts)).await.unwrap();
    let set = asof::FeatureSet::entities("set_v1", "t").key("k").lookup("x", "newest").build().unwrap();
    store.register(set).unwrap();
    // The same instants: in UTC, with an offset, and by the clocks of New York.
    let spines = [
        ("utc.csv", ["2014-11-02T13:00:00Z", "2014-11-03 12:00:00 UTC", "2014-11-04T00:00:00+00:00"]),
        ("offset.csv", ["2014-11-02T08:00:00-05:00", "2014-11-03 07:00:00-05", "2014-11-03T19:00:00.000-0500"]),
        ("local.csv", ["2014-11-02 08:00:00", "2014/11/3 07:00", "2014-11-03 19:00:00.0"]),
    ];
    for (name, times) in spines {
        let path = file(d, name, "k,at,label", 3, |i| format!("{},{},{i}.5", [1, 0, 0][i], times[i]));
        let rows = store.read_csv(&path, &["at"]).await.unwrap();
        let spine = Spine::new(rows, "at").zone("America/New_York".parse().unwrap());
        let found = store.training_set("set_v1", spine).await.unwrap().dataframe().await.unwrap().collect().await.unwrap();
        let text = datafusion::arrow::util::pretty::pretty_format_batches(&found).unwrap().to_string();
        let rows: Vec<Vec<&str>> =
            text.lines().filter(|l| l.starts_with('|')).skip(1).map(|l| l.split('|').map(str::trim).collect()).collect();
        let newest: Vec<&str> = rows.iter().map(|row| row[row.len() - 2]).collect();
        // At the instant of a fact it is not visible yet.
        assert_eq!(newest, ["1", "0", "2"], "{name}\n{text}");
    }
    let mixed = file(d, "mixed.csv", "k,at", 2, |i| format!("1,2014-11-02T08:00:00{}", ["", "Z"][i]));
    let told = store.read_csv(&mixed, &["at"]).await.unwrap_err().to_string();
    assert!(told.contains("row 2") && told.contains("some have none"), "{told}");
    let told = store.read_csv(&file(d, "bad.csv", "k,at", 1, |_| "1,noon".into()), &["at"]).await.unwrap_err().to_string();
    assert!(told.contains("row 1") && told.contains("`noon`") && told.contains("parse_time"), "{told}");
    assert!(matches!(store.read_csv(&mixed, &["when"]).await, Err(Error::UnknownColumn { .. })));
}

/// A spine of CSV loses no value and no row: what a load would refuse is no number here, or an error.
#[tokio::test]
async fn a_spine_of_csv_is_read_as_exactly_as_facts_are() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let d = data.path();
    let types = async |name: &str, text: String| {
        let rows = store.read_csv(&write_text(d, name, text), &["at"]).await?;
        let types: Vec<String> = rows.schema().fields().iter().map(|field| field.data_type().to_string()).collect();
        asof::Result::Ok((types.join(" "), rows.collect().await?))
    };
    // What comes after ten thousand rows that say otherwise counts as well.
    let empty: String = (0..10_000).map(|_| "2014-01-01T00:00:00Z,1,\n").collect();
    let late = format!("at,k,label\n{empty}2014-01-02T00:00:00Z,1,77\n2014-01-02T00:00:01Z,1,abc\n");
    let (found, rows) = types("late.csv", late).await.unwrap();
    assert_eq!(found, "Timestamp(µs, \"UTC\") Int64 Utf8");
    let labels: usize = rows.iter().map(|batch| batch.num_rows() - batch.column(2).null_count()).sum();
    assert_eq!((rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), labels), (10_002, 2));
    for (values, data_type) in [
        (["9007199254740993", "0.5"], "Utf8"),
        (["1e400", "1"], "Utf8"),
        (["007", "7"], "Utf8"),
        (["9007199254740993", "1"], "Int64"),
        (["0.5", "1"], "Float64"),
        (["true", "False"], "Boolean"),
        (["", ""], "Null"),
    ] {
        let text = format!("at,k\n2014-01-01T00:00:00Z,{}\n2014-01-01T00:00:00Z,{}\n", values[0], values[1]);
        assert_eq!(types("typed.csv", text).await.unwrap().0, format!("Timestamp(µs, \"UTC\") {data_type}"), "{values:?}");
    }
    for (text, words) in [
        ("at,k\n2014-01-01T00:00:00Z,\"x\n2014-01-02T00:00:00Z,1\n", "a quote is opened in line 2 and never closed"),
        ("at,k\n2014-01-01T00:00:00Z\n", "line 2 has 1 fields, the header 2"),
        ("at,k,at\n2014-01-01T00:00:00Z,1,2\n", "is called `at` again"),
    ] {
        let error = types("bad.csv", text.into()).await.unwrap_err();
        assert!(matches!(error, Error::UnreadableFile { .. }) && error.to_string().contains(words), "{error}");
    }
    // A folder's files are one spine, compressed or not; another header is no part of it.
    let folder = d.join("folder");
    write_text(&folder, "a.csv", "at,k\n2014-01-01T00:00:00Z,1\n");
    write_text(&folder, "b.csv", "at,k\n2014-01-02T00:00:00Z,x\n");
    let rows = store.read_csv(folder.to_str().unwrap(), &["at"]).await.unwrap();
    assert_eq!(rows.schema().field(1).data_type(), &DataType::Utf8);
    assert_eq!(rows.count().await.unwrap(), 2);
    write_text(&folder, "c.csv", "at,other\n2014-01-02T00:00:00Z,x\n");
    let error = store.read_csv(folder.to_str().unwrap(), &["at"]).await.unwrap_err();
    assert!(error.to_string().contains("c.csv") && error.to_string().contains("header"), "{error}");
}

#[tokio::test]
async fn names_can_be_in_lower_case() {
    let row = "2014-11-01T00:00:00Z,1,2,3";
    for (name, text) in [
        ("f.csv", format!("At,Passenger_Count,VendorID,Fare\n{row}\n")),
        ("f.jsonl", "{\"At\":\"2014-11-01T00:00:00Z\",\"Passenger_Count\":1,\"VendorID\":2,\"Fare\":3}\n".to_owned()),
    ] {
        let (data, root) = (temp_dir(), temp_dir());
        let store = store(root.path()).await;
        let load = |name: &str, text: &str| load(write_text(data.path(), name, text)).rename("Fare", "Amount");
        let lower = load(name, &text).lower_case_names();
        let report = store.ingest(&lower).await.unwrap();
        let names: Vec<&str> = report.version.columns().iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["at", "passenger_count", "vendorid", "Amount"], "{name}");
        // Later loads find them, whatever they say themselves.
        let other = text.replace("Passenger_Count", "PASSENGER_COUNT").replace("2014-11", "2014-12");
        let report = store.ingest(&load(&format!("g{name}"), &other)).await.unwrap();
        assert_eq!(report.version.columns().len(), 4, "{name}");
        assert_eq!(sum(&store, "SELECT sum(passenger_count), sum(vendorid) FROM t").await, "2 4", "{name}");
    }
}
