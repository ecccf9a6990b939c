//! Hive's layouts as other writers leave them: odd names, odd values, odd files; each is read rightly or refused by name.

use std::fs;

use asof::catalog::{FactTable, KnownAt, TableVersion};
use chrono::TimeDelta;

use crate::{
    ddl::{Bench, TIMES},
    support::instant,
};

fn at_once() -> FactTable {
    FactTable::new("at", KnownAt::after(TimeDelta::zero()))
}

async fn register(bench: &Bench, folder: &str) -> asof::Result<TableVersion> {
    bench.store.register_table("t", bench.path(folder).to_str().unwrap(), at_once()).await
}

/// The table cannot be registered, and the message has these words; afterwards `mend` makes it possible.
async fn refuses(folder: &str, files: &[(&str, Option<&[i64]>)], words: &[&str], mend: impl FnOnce(&Bench)) {
    let bench = Bench::new().await;
    bench.facts(&format!("{folder}/month=1/good.parquet"), &[1]);
    register(&bench, folder).await.unwrap();
    for (name, numbers) in files {
        let path = bench.path(&format!("{folder}/{name}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match numbers {
            Some(numbers) => bench.facts(&format!("{folder}/{name}"), numbers),
            None => fs::write(&path, "this is no Parquet file, but long enough").unwrap(),
        }
    }
    bench.store.register_table("other", bench.path(folder).to_str().unwrap(), at_once()).await.unwrap_err();
    let told = bench.store.repair("t").await.unwrap_err().to_string();
    for word in words {
        assert!(told.contains(word), "{told}\n  has no {word}");
    }
    // What was registered is what can be read.
    assert_eq!(bench.rows("SELECT n FROM t").await, ["1"]);
    assert_eq!(bench.store.describe("t").await.unwrap().version(), 1);
    mend(&bench);
    bench.store.repair("t").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn types_of_partitions_are_inferred_and_their_values_found() {
    let bench = Bench::new().await;
    for (i, folder) in [
        "month=01/day=2014-01-31/zone=1",
        "month=2/day=2014-02-01/zone=x",
        "month=__HIVE_DEFAULT_PARTITION__/day=2014-02-02/zone=2",
    ]
    .iter()
    .enumerate()
    {
        bench.facts(&format!("t/{folder}/a.parquet"), &[i64::try_from(i).unwrap()]);
    }
    let version = register(&bench, "t").await.unwrap();
    let types: Vec<_> = version.partition_columns().iter().map(|c| format!("{} {}", c.name, c.data_type)).collect();
    assert_eq!(types, ["month Int32", "day Date32", "zone Utf8"]);
    for (filter, expected) in [
        ("month = 1", vec!["0"]),
        ("month = '01'", vec!["0"]),
        ("month > 1", vec!["1"]),
        ("month IS NULL", vec!["2"]),
        ("day = DATE '2014-01-31'", vec!["0"]),
        ("day >= '2014-02-01'", vec!["1", "2"]),
        ("zone = '1'", vec!["0"]),
        ("zone IN ('x', '2')", vec!["1", "2"]),
    ] {
        assert_eq!(bench.rows(&format!("SELECT n FROM t WHERE {filter} ORDER BY n")).await, expected, "{filter}");
    }
    assert_eq!(bench.ok("SHOW PARTITIONS t PARTITION (month = 1)").await, ["month=01/day=2014-01-31/zone=1"]);
    assert_eq!(bench.ok("SHOW PARTITIONS t PARTITION (month = NULL)").await.len(), 1);
    assert_eq!(bench.ok("ALTER TABLE t DROP PARTITION (month = 1)").await, ["dropped"]);
    assert_eq!(bench.rows("SELECT n FROM t ORDER BY n").await, ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_hold_spaces_signs_and_letters_of_any_script() {
    let bench = Bench::new().await;
    let values = ["a b", "a=b", "100%", "a%20b", "Zürich", "東京", "a/b", "it's", "#1", "x+y", "a:b?", "[z]"];
    let table = "a folder=%41 ü #x";
    bench.facts(&format!("{table}/zone=none/a.parquet"), &[-1]);
    let place = bench.path(table);
    bench
        .run(&format!(
            "CREATE EXTERNAL TABLE t PARTITIONED BY (zone string) STORED AS PARQUET LOCATION '{}' {TIMES}",
            place.to_str().unwrap()
        ))
        .await
        .unwrap();
    for (i, value) in values.iter().enumerate() {
        // As Hive writes the folder, and a file with a name that is as odd.
        let sql = value.replace('\\', "\\\\").replace('\'', "\\'");
        bench.ok(&format!("ALTER TABLE t ADD PARTITION (zone = '{sql}')")).await;
        let partitions = bench.ok("SHOW PARTITIONS t").await;
        let folder = partitions.iter().find(|name| !name.ends_with("none") && !place.join(name).exists()).unwrap();
        bench.facts(&format!("{table}/{folder}/{} =%41.parquet", value.replace('/', "_")), &[i64::try_from(i).unwrap()]);
    }
    let report = bench.store.repair("t").await.unwrap();
    assert_eq!((report.files.added.len(), report.partitions.unchanged), (values.len(), 1), "{report}");
    assert!(bench.store.repair("t").await.unwrap().is_noop());
    for (i, value) in values.iter().enumerate() {
        let text = value.replace('\'', "''");
        assert_eq!(bench.rows(&format!("SELECT n FROM t WHERE zone = '{text}'")).await, [i.to_string()], "{value}");
    }
    assert_eq!(bench.rows("SELECT count(*), count(DISTINCT zone) FROM t").await, ["13 13"]);
    // Spark leaves spaces as they are, others escape them: both are the same value.
    bench.facts(&format!("{table}/zone=a%20b/b.parquet"), &[100]);
    bench.ok("MSCK REPAIR TABLE t").await;
    assert_eq!(bench.rows("SELECT n FROM t WHERE zone = 'a b' ORDER BY n").await, ["0", "100"]);
    assert_eq!(bench.ok("SHOW PARTITIONS t PARTITION (zone = 'a b')").await, ["zone=a b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_facts_are_left_out() {
    let bench = Bench::new().await;
    bench.facts("t/month=1/a.parquet", &[1]);
    bench.facts("t/month=1/000000_0", &[2]);
    bench.facts("t/month=1/deeper/b.PARQUET", &[3]);
    for name in
        ["_SUCCESS", "month=1/.a.parquet.crc", "month=1/_tmp.parquet", "_temporary/month=1/x.parquet", "month=1/readme.txt"]
    {
        bench.facts(&format!("t/{name}"), &[9]);
    }
    // Markers of folders, as tools of object stores leave them.
    for name in ["month=2", "t_$folder$", "month=1/empty"] {
        fs::write(bench.path(&format!("t/{name}")), "").unwrap();
    }
    assert_eq!(register(&bench, "t").await.unwrap().files().len(), 3);
    assert_eq!(bench.rows("SELECT n FROM t ORDER BY n").await, ["1", "2", "3"]);
    assert_eq!(bench.rows("SELECT DISTINCT month FROM t").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_facts_are_named() {
    refuses("t", &[("month=2/text.parquet", None)], &["month=2/text.parquet", "not a Parquet file"], |bench| {
        fs::remove_file(bench.path("t/month=2/text.parquet")).unwrap();
    })
    .await;
    refuses("t", &[("month=2/part-0", None)], &["month=2/part-0", "not a Parquet file"], |bench| {
        fs::remove_file(bench.path("t/month=2/part-0")).unwrap();
    })
    .await;
    refuses("t", &[("month=2", None)], &["`month=2` is a file", "a partition is a folder"], |bench| {
        fs::remove_file(bench.path("t/month=2")).unwrap();
    })
    .await;
    refuses("t", &[("b.parquet", Some(&[2]))], &["b.parquet", "not partitioned by (month)"], |bench| {
        fs::remove_file(bench.path("t/b.parquet")).unwrap();
    })
    .await;
    refuses("t", &[("month=2/day=1/b.parquet", Some(&[2]))], &["month=2/day=1/b.parquet", "by (month, day)"], |bench| {
        fs::remove_file(bench.path("t/month=2/day=1/b.parquet")).unwrap();
    })
    .await;
    refuses("t", &[("year=2/b.parquet", Some(&[2]))], &["year=2/b.parquet", "by (year)"], |bench| {
        fs::remove_dir_all(bench.path("t/year=2")).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_and_empty_files_are_named() {
    let bench = Bench::new().await;
    bench.facts("t/month=1/a.parquet", &[1]);
    register(&bench, "t").await.unwrap();
    bench.facts("t/month=2/b.parquet", &[2]);
    let whole = fs::read(bench.path("t/month=2/b.parquet")).unwrap();
    for length in [0, 3, 12, whole.len() / 2, whole.len() - 1] {
        fs::write(bench.path("t/month=2/b.parquet"), &whole[..length]).unwrap();
        let told = bench.store.repair("t").await.unwrap_err().to_string();
        assert!(told.contains("month=2/b.parquet") && told.contains("truncated"), "{length}: {told}");
        assert_eq!(bench.rows("SELECT n FROM t").await, ["1"]);
    }
    fs::write(bench.path("t/month=2/b.parquet"), &whole).unwrap();
    assert_eq!(bench.store.repair("t").await.unwrap().partitions.added, ["month=2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_none_of_its_columns_type_is_named() {
    let bench = Bench::new().await;
    bench.facts("t/month=1/a.parquet", &[1]);
    register(&bench, "t").await.unwrap();
    bench.facts("t/month=late/b.parquet", &[2]);
    let told = bench.store.repair("t").await.unwrap_err().to_string();
    for word in ["`month`", "month=late/b.parquet", "`late`", "Int32"] {
        assert!(told.contains(word), "{told}");
    }
    assert_eq!(bench.rows("SELECT n FROM t WHERE month = 1").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_contradict_the_times_of_their_facts_prune_nothing() {
    let bench = Bench::new().await;
    // Facts of January 2014, filed under 2031.
    bench.facts("t/year=2031/month=12/a.parquet", &[1, 2]);
    bench.facts("t/year=2001/month=1/b.parquet", &[3]);
    register(&bench, "t").await.unwrap();
    assert_eq!(bench.rows("SELECT n, year FROM t ORDER BY n").await, ["1 2031", "2 2031", "3 2001"]);
    let before = bench.store.sql("SELECT n FROM t", instant("2014-01-01T00:00:02Z")).await.unwrap();
    assert_eq!(before.count().await.unwrap(), 1);
    assert_eq!(bench.rows("SELECT n FROM t WHERE year = 2031 AND month = 12 ORDER BY n").await, ["1", "2"]);
}
