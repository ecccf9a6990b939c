//! Hive's DDL: each statement as text, with the rows it answers or the words of its error.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use asof::{
    AsOf, Error, FeatureStore,
    catalog::{Change, FactTable, KnownAt, TableVersion},
    ingest::{LoadMode, LoadOutcome},
};
use datafusion::arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array,
        Int32Array, Int64Array, ListArray, MapBuilder, StringArray, StringBuilder, StructArray, TimestampMicrosecondArray,
        UInt64Array,
    },
    array::{Int32Builder, Int64Builder, ListBuilder},
    datatypes::{DataType, Field},
};
use tempfile::TempDir;

use crate::support::{cells, instant, store, temp_dir, write_parquet};

pub(crate) const AS_OF: &str = "2030-01-01T00:00:00Z";

pub(crate) fn as_of() -> AsOf {
    instant(AS_OF)
}

/// A file with an event time in January 2014 and a number for each row.
pub(crate) fn write_facts(file: &Path, numbers: &[i64]) {
    let at = TimestampMicrosecondArray::from_iter_values(numbers.iter().map(|n| 1_388_534_400_000_000 + n * 1_000_000));
    let n = Int64Array::from(numbers.to_vec());
    write_parquet(file, &[("at", Arc::new(at.with_timezone("UTC")) as ArrayRef), ("n", Arc::new(n) as ArrayRef)], None);
}

pub(crate) const TIMES: &str = "TBLPROPERTIES ('asof.event_time' = 'at', 'asof.delay' = '0 seconds')";

/// A folder of facts, a root, and a store over it.
pub(crate) struct Bench {
    pub(crate) data: TempDir,
    pub(crate) root: TempDir,
    pub(crate) store: FeatureStore,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let (data, root) = (temp_dir(), temp_dir());
        let store = store(root.path()).await;
        Self { data, root, store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    pub(crate) fn facts(&self, name: &str, numbers: &[i64]) {
        write_facts(&self.path(name), numbers);
    }

    /// `DIR` in a statement is the folder of the facts.
    pub(crate) async fn run(&self, sql: &str) -> asof::Result<Vec<String>> {
        let dir = self.data.path().to_str().unwrap();
        Ok(self.store.execute(&sql.replace("DIR", dir)).await?.lines())
    }

    pub(crate) async fn ok(&self, sql: &str) -> Vec<String> {
        self.run(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// The statement fails, with these words in its message, and changes nothing.
    pub(crate) async fn refuses(&self, sql: &str, words: &[&str]) {
        let before = self.store.tables().await.unwrap();
        let told = self.run(sql).await.expect_err(sql).to_string();
        for word in words {
            assert!(told.contains(word), "{sql}\n  says: {told}\n  and not: {word}");
        }
        assert_eq!(self.store.tables().await.unwrap(), before);
    }

    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        cells(&self.store, sql, as_of()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_answers_what_hive_users_expect() {
    let bench = Bench::new().await;
    for (month, numbers) in [(1, vec![1, 2]), (2, vec![3]), (10, vec![4, 5, 6])] {
        bench.facts(&format!("trips/year=2014/month={month}/a.parquet"), &numbers);
    }
    bench.facts("elsewhere/march/x.parquet", &[7]);
    let create = format!(
        "CREATE EXTERNAL TABLE sales.Trips (`at` timestamp COMMENT 'it''s when', n bigint, extra map<string,array<int>>) COMMENT 'all \
         trips' PARTITIONED BY (year int, month INT COMMENT 'of the year') STORED AS PARQUET LOCATION 'DIR/trips' {TIMES};"
    );
    for (sql, expected) in [
        ("SHOW DATABASES", vec!["default"]),
        ("CREATE DATABASE sales COMMENT 'of ours'", vec!["created"]),
        ("create schema if not exists SALES", vec!["exists already"]),
        ("CREATE DATABASE empty", vec!["created"]),
        ("SHOW SCHEMAS", vec!["default", "empty", "sales"]),
        ("SHOW DATABASES LIKE 's*|d*'", vec!["default", "sales"]),
        ("DROP DATABASE empty", vec!["dropped"]),
        ("DROP DATABASE IF EXISTS empty", vec!["was not there"]),
        ("CREATE DATABASE empty", vec!["created"]),
        ("DROP SCHEMA empty RESTRICT", vec!["dropped"]),
        ("SHOW TABLES", vec![]),
        ("SHOW TABLES IN sales", vec![]),
        (create.as_str(), vec!["created"]),
        ("SHOW TABLES FROM `sales`", vec!["trips"]),
        ("SHOW TABLES IN sales LIKE 'x*'", vec![]),
        ("SHOW TABLES IN sales 'tr*|x'", vec!["trips"]),
        ("SHOW PARTITIONS sales.trips", vec!["year=2014/month=1", "year=2014/month=2", "year=2014/month=10"]),
        ("SHOW PARTITIONS sales.trips PARTITION (MONTH = 2)", vec!["year=2014/month=2"]),
        (
            "DESCRIBE sales.trips",
            vec![
                "at\ttimestamp\tit's when",
                "n\tbigint\t",
                "extra\tmap<string,array<int>>\t",
                "year\tint\t",
                "month\tint\tof the year",
                "\t\t",
                "# Partition Information\t\t",
                "# col_name\tdata_type\tcomment",
                "year\tint\t",
                "month\tint\tof the year",
            ],
        ),
        ("MSCK REPAIR TABLE sales.trips", vec!["0\t0\t0\t3\t0\t0\t0\t3"]),
        ("ALTER TABLE sales.trips DROP PARTITION (month = 1)", vec!["dropped"]),
        ("ALTER TABLE sales.trips DROP IF EXISTS PARTITION (month = 1), PARTITION (month = 7)", vec!["was not there"]),
        ("SHOW PARTITIONS sales.trips", vec!["year=2014/month=2", "year=2014/month=10"]),
        ("ALTER TABLE sales.trips ADD PARTITION (month = '1', year = 2014)", vec!["added"]),
        ("ALTER TABLE sales.trips ADD IF NOT EXISTS PARTITION (year = 2014, month = 1)", vec!["exists already"]),
        (
            "ALTER TABLE sales.trips ADD IF NOT EXISTS PARTITION (year=2014, month=2) PARTITION (year=2014, month=3) LOCATION \
             'DIR/elsewhere/march' PARTITION (year=2014, month=4)",
            vec!["added"],
        ),
        (
            "SHOW PARTITIONS sales.trips",
            vec!["year=2014/month=1", "year=2014/month=2", "year=2014/month=10", "year=2014/month=3", "year=2014/month=4"],
        ),
        // What was placed by hand stays, what has no files goes.
        ("MSCK REPAIR TABLE sales.trips SYNC PARTITIONS", vec!["0\t1\t0\t4\t0\t0\t0\t4"]),
        ("MSCK REPAIR TABLE sales.trips", vec!["0\t0\t0\t4\t0\t0\t0\t4"]),
    ] {
        let mut found = bench.ok(sql).await;
        if sql.contains("SHOW PARTITIONS") {
            // Facts of one instant in several partitions are in no order of time.
            let number = |name: &String| name.rsplit('=').next().unwrap().parse::<u32>().unwrap();
            found.sort_by_key(number);
            let mut expected: Vec<_> = expected.iter().map(|s| (*s).to_owned()).collect();
            expected.sort_by_key(number);
            assert_eq!(found, expected, "{sql}");
            continue;
        }
        assert_eq!(found, expected, "{sql}");
    }
    let rows = bench.rows("SELECT month, count(*), sum(n), count(extra) FROM sales.trips GROUP BY month ORDER BY month").await;
    assert_eq!(rows, ["1 2 3 0", "2 1 3 0", "3 1 7 0", "10 3 15 0"]);
    let extended = bench.ok("DESCRIBE EXTENDED sales.trips").await.join("\n");
    for line in ["Rows:\t7\t", "Files:\t4\t", "Partitions:\t4\t", "Comment:\tall trips\t", "  asof.delay\t0 seconds\t"] {
        assert!(extended.contains(line), "{extended}");
    }
    // Dropping is about the catalog alone.
    assert_eq!(bench.ok("DROP TABLE sales.trips").await, ["dropped"]);
    assert_eq!(bench.ok("DROP TABLE IF EXISTS sales.trips").await, ["was not there"]);
    assert!(bench.path("trips/year=2014/month=1/a.parquet").exists());
    assert_eq!(bench.ok(&create).await, ["created"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_statement_is_said() {
    let bench = Bench::new().await;
    bench.facts("t/month=1/a.parquet", &[1]);
    let create = |rest: &str| format!("CREATE EXTERNAL TABLE u (at timestamp, n bigint) {rest}");
    bench.ok(&format!("CREATE EXTERNAL TABLE t PARTITIONED BY (month int) STORED AS PARQUET LOCATION 'DIR/t' {TIMES}")).await;
    let place = "PARTITIONED BY (month int) STORED AS PARQUET LOCATION 'DIR/t'";
    let with = |properties: &str| create(&format!("{place} TBLPROPERTIES ({properties})"));
    for (sql, words) in [
        ("SELECT 1".into(), vec!["store.sql(sql, as_of)"]),
        ("with x as (select 1) select * from x".into(), vec!["store.sql(sql, as_of)"]),
        ("INSERT INTO t VALUES (1)".into(), vec!["store.ingest"]),
        ("CREATE TABLE t2 (a int)".into(), vec!["EXTERNAL", "store.ingest"]),
        ("".into(), vec!["ends where", "CREATE"]),
        ("GRANT ALL".into(), vec!["`GRANT` at line 1, column 1"]),
        ("SHOW DATABASES x".into(), vec!["`x`", "its end"]),
        ("SHOW".into(), vec!["DATABASES, TABLES"]),
        ("CREATE DATABASE 'x'".into(), vec!["the name of a database"]),
        ("CREATE DATABASE default".into(), vec!["exists already", "IF NOT EXISTS"]),
        ("CREATE DATABASE `a b`".into(), vec!["a b", "lower-case"]),
        ("CREATE DATABASE information_schema".into(), vec!["reserved for the catalog"]),
        ("DROP DATABASE default".into(), vec!["cannot be dropped"]),
        ("DROP DATABASE nowhere".into(), vec!["does not exist", "IF EXISTS"]),
        ("DROP DATABASE x CASCADE".into(), vec!["drop them first"]),
        ("SHOW TABLES IN nowhere".into(), vec!["nowhere", "CREATE DATABASE"]),
        (
            "CREATE EXTERNAL TABLE nowhere.t (a int) STORED AS PARQUET LOCATION 'DIR/t' TBLPROPERTIES ('asof.event_time' = 'a')"
                .into(),
            vec!["database `nowhere`"],
        ),
        ("DROP TABLE nothing".into(), vec!["nothing", "it holds: t"]),
        ("DESCRIBE nothing".into(), vec!["it holds: t"]),
        ("SHOW CREATE TABLE nothing".into(), vec!["it holds: t"]),
        ("SHOW PARTITIONS nothing".into(), vec!["it holds: t"]),
        ("MSCK REPAIR TABLE nothing".into(), vec!["it holds: t"]),
        ("MSCK REPAIR TABLE t DROP PARTITIONS".into(), vec!["adds and removes"]),
        ("ALTER TABLE nothing ADD PARTITION (month=1)".into(), vec!["it holds: t"]),
        ("ALTER TABLE t ADD PARTITION (month=1)".into(), vec!["partition `month=1` already", "IF NOT EXISTS"]),
        ("ALTER TABLE t ADD PARTITION (month='01')".into(), vec!["already", "IF NOT EXISTS"]),
        ("ALTER TABLE t ADD PARTITION (day=1)".into(), vec!["no column `day`", "month"]),
        ("ALTER TABLE t ADD PARTITION (month='x')".into(), vec!["`month`", "Int32", "`x`"]),
        ("ALTER TABLE t ADD PARTITION (month=3) LOCATION 'memory://x/y'".into(), vec!["memory://x/y", "a table of its own"]),
        ("ALTER TABLE t ADD PARTITION (month=3) LOCATION 'DIR/t/month=1'".into(), vec!["another partition"]),
        ("ALTER TABLE t ADD COLUMNS (x int)".into(), vec!["PARTITION"]),
        ("ALTER TABLE t DROP PARTITION (month=7)".into(), vec!["no partition `month=7`", "IF EXISTS"]),
        ("ALTER TABLE t DROP PARTITION (month=1) PURGE".into(), vec!["PURGE"]),
        ("ALTER TABLE t RENAME TO u".into(), vec!["ADD PARTITION or DROP PARTITION"]),
        (create("LOCATION 'DIR/t'"), vec!["STORED AS PARQUET"]),
        (create("STORED AS ORC LOCATION 'DIR/t'"), vec!["`ORC`", "PARQUET"]),
        (create("STORED AS PARQUET"), vec!["LOCATION"]),
        (create(place), vec!["asof.event_time", "asof.known_at", "asof.delay"]),
        (with("'asof.event_time' = 'at'"), vec!["could be known", "asof.known_at", "asof.delay", "zero must be written"]),
        (with("'asof.event_time' = 'at', 'asof.known_at' = 'at', 'asof.delay' = '1 hour'"), vec!["both"]),
        (with("'asof.event_time' = 'at', 'asof.delay' = '1 month'"), vec!["no fixed length"]),
        (with("'asof.event_time' = 'at', 'asof.delay' = '0.5 months'"), vec!["asof.delay", "no fixed length"]),
        (with("'asof.event_time' = 'at', 'asof.delay' = 'soon'"), vec!["soon", "1 hour"]),
        (with("'asof.event_time' = 'at', 'asof.delay' = '-1 hour'"), vec!["before they happen"]),
        (with("'asof.event_time' = 'when', 'asof.delay' = '1 hour'"), vec!["`when`", "at, n"]),
        (with("'asof.event_time' = 'at', 'asof.delay' = '1 hour', 'asof.keys' = 'zone'"), vec!["`zone`"]),
        (with("'asof.event_time' = 'at', 'asof.delay' = '1 hour', 'asof.keys' = 'n,'"), vec!["asof.keys", "commas"]),
        (with("'asof.event_time' = 'at', 'asof.delay' = '1 hour', 'asof.zone' = 'Mars'"), vec!["asof.zone", "Mars"]),
        (with("'asof.event_time' = 'at', 'asof.delai' = '1 hour'"), vec!["asof.delai", "asof.delay"]),
        (with("'asof.event_time' = 'n', 'asof.delay' = '1 hour'"), vec!["`n`", "asof.event_time.unit"]),
        (
            with("'asof.event_time' = 'n', 'asof.event_time.unit' = 'weeks', 'asof.delay' = '1 hour'"),
            vec!["weeks", "millisecond"],
        ),
        (with("'asof.event_time' = 'at', 'asof.event_time' = 'at'"), vec!["twice"]),
        (with("'asof.event_time' = 'at', 'asof.delay' = '0 seconds', 'asof.timestamps' = 'text'"), vec!["bigint"]),
        (format!("CREATE EXTERNAL TABLE t {place} {TIMES}"), vec!["`t`", "exists already", "IF NOT EXISTS"]),
        (
            create(&format!("STORED AS PARQUET LOCATION 'DIR/t' {TIMES}")),
            vec!["month=1/a.parquet", "not partitioned by ()", "(month)"],
        ),
        (create(&format!("PARTITIONED BY (n int) STORED AS PARQUET LOCATION 'DIR/t' {TIMES}")), vec!["`n`", "one or the other"]),
        (create(&format!("PARTITIONED BY (month array<int>) STORED AS PARQUET LOCATION 'DIR/t' {TIMES}")), vec!["array<int>"]),
        (
            create(&format!("PARTITIONED BY (month int) CLUSTERED BY (n) STORED AS PARQUET LOCATION 'DIR/t' {TIMES}")),
            vec!["bucketing"],
        ),
        (
            format!("CREATE EXTERNAL TABLE u (at timestamp, n int) {place} {TIMES}"),
            vec!["`n`", "month=1/a.parquet", "Int64", "declared as int"],
        ),
        (format!("CREATE EXTERNAL TABLE u (at timestamp, n text) {place} {TIMES}"), vec!["`n`", "text", "not a type", "varchar"]),
        (format!("CREATE EXTERNAL TABLE u (at timestamp, At int) {place} {TIMES}"), vec!["`At`", "twice"]),
        (format!("CREATE EXTERNAL TABLE u (at timestamp, n) {place} {TIMES}"), vec!["type of the column `n`"]),
        (format!("CREATE EXTERNAL TABLE u STORED AS PARQUET LOCATION 'DIR/nothing' {TIMES}"), vec!["DIR/nothing"]),
        (format!("CREATE EXTERNAL TABLE u (at timestamp) STORED AS PARQUET LOCATION 'ftp://x/y' {TIMES}"), vec!["ftp"]),
        ("CREATE EXTERNAL TABLE u ('".into(), vec!["nterminated"]),
    ] {
        let words: Vec<String> = words.iter().map(|word| word.replace("DIR", bench.data.path().to_str().unwrap())).collect();
        bench.refuses(&sql, &words.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    assert_eq!(bench.store.describe("t").await.unwrap().version(), 1);
    // A table that this store loaded is its own to change, but its partitions can be dropped.
    let csv = bench.path("own.csv");
    fs::write(&csv, "at,n\n2014-01-01T00:00:00Z,1\n2014-02-01T00:00:00Z,2\n").unwrap();
    let own = FactTable::new("at", KnownAt::after(chrono::TimeDelta::zero()));
    let load = asof::ingest::Ingest::new("own", own).unwrap().from(csv.to_str().unwrap());
    bench.store.ingest(&load).await.unwrap();
    bench.refuses("MSCK REPAIR TABLE own", &["this store wrote its files"]).await;
    bench.refuses("ALTER TABLE own ADD PARTITION (year=2014, month=3)", &["this store wrote its files", "load"]).await;
    assert_eq!(bench.ok("ALTER TABLE own DROP PARTITION (year=2014, month=1)").await, ["dropped"]);
    assert_eq!(bench.rows("SELECT n FROM own").await, ["2"]);
    // The source has other rows in the table, so it counts as loaded.
    assert_eq!(bench.store.ingest(&load).await.unwrap().outcome, LoadOutcome::AlreadyLoaded);
    // A source of which nothing is left is loaded again.
    let march = bench.path("march.csv");
    fs::write(&march, "at,n\n2014-03-01T00:00:00Z,3\n").unwrap();
    let declared = FactTable::new("at", KnownAt::after(chrono::TimeDelta::zero()));
    let load = asof::ingest::Ingest::new("own", declared).unwrap().from(march.to_str().unwrap());
    for mode in [LoadMode::Append, LoadMode::ReplacePartitions] {
        let load = load.clone().mode(mode);
        assert_eq!(bench.store.ingest(&load).await.unwrap().outcome, LoadOutcome::Loaded);
        assert_eq!(bench.rows("SELECT n FROM own WHERE month = 3").await, ["3"]);
        assert_eq!(bench.ok("ALTER TABLE own DROP PARTITION (year=2014, month=3)").await, ["dropped"]);
    }
}

/// What makes a table the same table, under whatever name and version.
fn essence(version: &TableVersion) -> String {
    let mut value = serde_json::to_value(version).unwrap();
    let map = value.as_object_mut().unwrap();
    map.remove("table");
    map.remove("version");
    map.remove("details");
    serde_json::to_string_pretty(&value).unwrap()
}

/// A file with a column of each type that Hive has.
fn write_every_type(file: &Path) {
    let at = TimestampMicrosecondArray::from(vec![1_388_534_400_000_000, 1_388_534_401_000_000]);
    let mut lists = ListBuilder::new(Int32Builder::new());
    lists.append_value([Some(1), None]);
    lists.append_null();
    let lists: ListArray = lists.finish();
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    maps.keys().append_value("a");
    maps.values().append_value(1);
    maps.append(true).unwrap();
    maps.append(true).unwrap();
    let fields = vec![
        (Arc::new(Field::new("x", DataType::Int32, true)), Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef),
        (Arc::new(Field::new("Y z", DataType::Utf8, true)), Arc::new(StringArray::from(vec!["p", "q"])) as ArrayRef),
    ];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("at", Arc::new(at.clone().with_timezone("UTC"))),
        ("local", Arc::new(at)),
        ("flag", Arc::new(BooleanArray::from(vec![true, false]))),
        ("tiny", Arc::new(Int8Array::from(vec![1, 2]))),
        ("small", Arc::new(Int16Array::from(vec![1, 2]))),
        ("four", Arc::new(Int32Array::from(vec![1, 2]))),
        ("eight", Arc::new(Int64Array::from(vec![1, 2]))),
        ("f", Arc::new(Float32Array::from(vec![1.0, 2.0]))),
        ("d", Arc::new(Float64Array::from(vec![1.0, 2.0]))),
        ("money", Arc::new(Decimal128Array::from(vec![100, 250]).with_precision_and_scale(10, 2).unwrap())),
        ("Some Text", Arc::new(StringArray::from(vec!["a", "b"]))),
        ("bytes", Arc::new(BinaryArray::from_vec(vec![b"a", b"b"]))),
        ("day", Arc::new(Date32Array::from(vec![1, 2]))),
        ("list", Arc::new(lists)),
        ("map", Arc::new(maps.finish())),
        ("both", Arc::new(StructArray::from(fields))),
    ];
    write_parquet(file, &columns, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn show_create_table_makes_the_same_table_again() {
    let bench = Bench::new().await;
    write_every_type(&bench.path("it's %41/zone=a%2Fb/part=2014-01-01/a.parquet"));
    write_every_type(&bench.path("it's %41/zone=__HIVE_DEFAULT_PARTITION__/part=2014-01-02/b.parquet"));
    let declared = FactTable::new("at", KnownAt::after(chrono::TimeDelta::minutes(90)))
        .zone("America/New_York".parse().unwrap())
        .key("eight")
        .key("Some Text")
        .tie_break("four")
        .identity("small");
    let place = bench.path("it's %41");
    let first = bench.store.register_table("first", place.to_str().unwrap(), declared).await.unwrap();
    assert_eq!((first.files().len(), first.rows()), (2, 4));
    let text = bench.ok("SHOW CREATE TABLE first").await.join("\n");
    println!("{text}");
    for part in
        ["`default`.`first`", "`money` decimal(10,2)", "`map` map<string,bigint>", "struct<x:int,`Y z`:string>", "`part` date"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(bench.ok(&text.replace("`first`", "`second`")).await, ["created"]);
    let second = bench.store.describe("second").await.unwrap();
    assert_eq!(essence(&second), essence(&first));
    // And once more, from what was declared.
    let text = bench.ok("SHOW CREATE TABLE second").await.join("\n");
    assert_eq!(bench.ok(&text.replace("`second`", "`third`")).await, ["created"]);
    assert_eq!(essence(&bench.store.describe("third").await.unwrap()), essence(&first));
    assert_eq!(bench.ok("SHOW CREATE TABLE third").await.join("\n"), text.replace("`second`", "`third`"));
    let (a, b) =
        (bench.rows("SELECT * FROM first ORDER BY part, at").await, bench.rows("SELECT * FROM third ORDER BY part, at").await);
    assert_eq!((a.len(), a), (4, b));
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamps_can_be_bigint_to_athena() {
    let bench = Bench::new().await;
    bench.facts("t/month=1/a.parquet", &[1, 2]);
    let with = "TBLPROPERTIES ('asof.event_time' = 'at', 'asof.delay' = '0 seconds', 'asof.timestamps' = 'bigint', 'classification' = 'x')";
    let create = format!(
        "CREATE EXTERNAL TABLE t (at bigint, n bigint) PARTITIONED BY (month int) STORED AS PARQUET LOCATION 'DIR/t' {with}"
    );
    bench.ok(&create).await;
    let text = bench.ok("SHOW CREATE TABLE t").await.join("\n");
    assert!(
        text.contains("`at` bigint") && text.contains("'asof.timestamps' = 'bigint'") && text.contains("'classification'"),
        "{text}"
    );
    bench.ok(&text.replace("`t`", "`u`")).await;
    assert_eq!(
        bench.rows("SELECT arrow_typeof(at), n FROM u WHERE at > '2014-01-01T00:00:01Z'").await,
        ["Timestamp(µs, \"UTC\") 2"]
    );
    // Declared as timestamps, they are shown as numbers all the same.
    bench.ok(&create.replace("TABLE t (at bigint", "TABLE v (at timestamp")).await;
    assert!(bench.ok("SHOW CREATE TABLE v").await.join("\n").contains("`at` bigint"));
    // Without the option a number is a number.
    bench
        .refuses(&create.replace("TABLE t", "TABLE w").replace("'asof.timestamps' = 'bigint', ", ""), &["asof.timestamps"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_hive_lacks_is_named() {
    let bench = Bench::new().await;
    let at = TimestampMicrosecondArray::from(vec![1_388_534_400_000_000]).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 2] = [("at", Arc::new(at)), ("count", Arc::new(UInt64Array::from(vec![1])))];
    write_parquet(&bench.path("t/a.parquet"), &columns, None);
    let declared = FactTable::new("at", KnownAt::after(chrono::TimeDelta::zero()));
    bench.store.register_table("t", bench.path("t").to_str().unwrap(), declared).await.unwrap();
    bench.refuses("SHOW CREATE TABLE t", &["`count`", "`t`", "UInt64", "no such type"]).await;
    assert_eq!(bench.ok("DESCRIBE t").await, ["at\ttimestamp\t", "count\tUInt64\t"]);
    bench.refuses("SHOW PARTITIONS t", &["not partitioned"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_an_empty_place_is_filled_by_repair() {
    let bench = Bench::new().await;
    fs::create_dir(bench.path("t")).unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE t (AT timestamp, n bigint, note string) PARTITIONED BY (zone string) STORED AS PARQUET LOCATION 'DIR/t' {TIMES}"
    );
    // The declared name is the one that counts until a file spells it.
    bench.refuses(&create, &["`at`", "AT"]).await;
    bench.ok(&create.replace("AT timestamp", "at timestamp").replace("n bigint", "N bigint")).await;
    assert!(bench.rows("SELECT * FROM t").await.is_empty());
    assert!(bench.ok("SHOW PARTITIONS t").await.is_empty());
    assert_eq!(bench.ok("MSCK REPAIR TABLE t").await, ["0\t0\t0\t0\t0\t0\t0\t0"]);
    bench.facts("t/zone=01/a.parquet", &[1]);
    assert_eq!(bench.ok("MSCK REPAIR TABLE t").await, ["1\t0\t0\t0\t1\t0\t0\t0"]);
    assert_eq!(bench.rows("SELECT n, note, zone FROM t WHERE zone = '01'").await, ["1  01"]);
    let version = bench.store.describe("t").await.unwrap();
    assert_eq!((version.version(), version.columns()[1].name.as_str()), (2, "n"));
    // A file that has the text is of the table; one that has a number there is not.
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_388_534_400_000_000]).with_timezone("UTC"));
    let note = |values: ArrayRef| [("at", at.clone()), ("n", Arc::new(Int64Array::from(vec![9])) as ArrayRef), ("note", values)];
    write_parquet(&bench.path("t/zone=x/b.parquet"), &note(Arc::new(StringArray::from(vec!["hi"]))), None);
    bench.ok("MSCK REPAIR TABLE t").await;
    assert_eq!(bench.rows("SELECT n, note FROM t ORDER BY n").await, ["1 ", "9 hi"]);
    write_parquet(&bench.path("t/zone=x/c.parquet"), &note(Arc::new(Int64Array::from(vec![1]))), None);
    bench.refuses("MSCK REPAIR TABLE t", &["`note`", "zone=x/c.parquet", "Int64", "declared as string"]).await;
    assert_eq!(bench.store.describe("t").await.unwrap().version(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn information_schema_lists_the_whole_catalog() {
    let bench = Bench::new().await;
    bench.facts("t/month=1/a.parquet", &[1]);
    bench.ok("CREATE DATABASE quiet").await;
    bench.ok("CREATE DATABASE sales").await;
    for name in ["t", "sales.u", "sales.gone"] {
        bench
            .ok(&format!("CREATE EXTERNAL TABLE {name} PARTITIONED BY (month int) STORED AS PARQUET LOCATION 'DIR/t' {TIMES}"))
            .await;
    }
    bench.ok("DROP TABLE sales.gone").await;
    let tables =
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema <> 'information_schema' ORDER BY 1, 2";
    assert_eq!(bench.rows(tables).await, ["default t", "sales u"]);
    let columns =
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'u' ORDER BY ordinal_position";
    assert_eq!(bench.rows(columns).await, ["at Timestamp(µs, \"UTC\")", "n Int64", "month Int32"]);
    let schemata = "SELECT schema_name FROM information_schema.schemata WHERE schema_name <> 'information_schema' ORDER BY 1";
    assert_eq!(bench.rows(schemata).await, ["default", "quiet", "sales"]);
    // Together with rows of a table.
    let both = "SELECT count(*), (SELECT count(*) FROM Information_Schema.columns WHERE table_name = 't') AS m FROM t";
    assert_eq!(bench.rows(both).await, ["1 3"]);
    assert_eq!(bench.store.drop_database("quiet").await.unwrap(), Change::Done);
    let error = bench.store.drop_database("sales").await.unwrap_err();
    assert!(matches!(&error, Error::InUse { reason, .. } if reason.contains("sales.u")), "{error}");
    assert_eq!(bench.store.databases().await.unwrap(), ["default", "sales"]);
}
