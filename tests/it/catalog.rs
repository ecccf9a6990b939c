//! The catalog over time: versions, dropped tables, repair, two writers, files that change under a query, providers.

use std::{fs, path::Path, sync::Arc};

use asof::{
    Error, FeatureSet, FeatureStore, StoreOptions,
    catalog::{Change, FactTable, KnownAt, VersionState},
    encoder::Number,
    storage::Locations,
    temporal::{Lookup, Spine},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray},
    datasource::MemTable,
};
use object_store::{ObjectStoreExt, PutPayload, path::Path as Key};

use crate::{
    ddl::{Bench, TIMES, as_of, write_facts},
    s3_server::S3Server,
    support::{child, instant, store_with},
};

fn at_once() -> FactTable {
    FactTable::new("at", KnownAt::after(TimeDelta::zero()))
}

async fn register(bench: &Bench) {
    bench.store.register_table("t", bench.path("t").to_str().unwrap(), at_once()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_tells_what_it_found_and_finds_nothing_twice() {
    let bench = Bench::new().await;
    for month in 1..=4 {
        bench.facts(&format!("t/month={month}/a.parquet"), &[month]);
    }
    bench.facts("t/month=4/b.parquet", &[40]);
    register(&bench).await;
    let report = bench.store.repair("t").await.unwrap();
    assert!(report.is_noop());
    assert_eq!((report.version.version(), report.files.unchanged, report.partitions.unchanged), (1, 5, 4));

    fs::remove_dir_all(bench.path("t/month=1")).unwrap();
    bench.facts("t/month=2/a.parquet", &[2, 22]);
    fs::remove_file(bench.path("t/month=4/b.parquet")).unwrap();
    bench.facts("t/month=5/a.parquet", &[5]);
    let report = bench.store.repair("t").await.unwrap();
    println!("{report}");
    assert_eq!(
        (&report.partitions.added[..], &report.partitions.removed[..]),
        (&["month=5".into()][..], &["month=1".into()][..])
    );
    assert_eq!((&report.partitions.changed[..], report.partitions.unchanged), (&["month=2".to_owned(), "month=4".into()][..], 1));
    assert_eq!((&report.files.added[..], report.files.unchanged), (&["month=5/a.parquet".to_owned()][..], 2));
    assert_eq!(report.files.removed, ["month=1/a.parquet", "month=4/b.parquet"]);
    assert_eq!(report.files.changed, ["month=2/a.parquet"]);
    assert_eq!(bench.rows("SELECT n FROM t ORDER BY n").await, ["2", "3", "4", "5", "22"]);
    let again = bench.store.repair("t").await.unwrap();
    assert!(again.is_noop() && again.version == report.version);
    assert_eq!(bench.store.versions("t").await.unwrap().len(), 2);
    // A copy of the files, with other inodes and times, is the same table.
    let bytes = fs::read(bench.path("t/month=3/a.parquet")).unwrap();
    fs::remove_file(bench.path("t/month=3/a.parquet")).unwrap();
    fs::write(bench.path("t/month=3/a.parquet"), bytes).unwrap();
    assert!(bench.store.repair("t").await.unwrap().is_noop());
    assert_eq!(bench.store.versions("t").await.unwrap().len(), 2);
    // Nothing left is a table without rows, not an error.
    fs::remove_dir_all(bench.path("t")).unwrap();
    assert_eq!(bench.store.repair("t").await.unwrap().files.removed.len(), 4);
    assert!(bench.rows("SELECT n FROM t").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_come_later_are_null_before() {
    let bench = Bench::new().await;
    bench.facts("t/month=1/a.parquet", &[1]);
    register(&bench).await;
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_388_534_400_000_000]).with_timezone("UTC"));
    let more = [("at", at), ("tip", Arc::new(Int64Array::from(vec![7])) as ArrayRef)];
    crate::support::write_parquet(&bench.path("t/month=2/b.parquet"), &more, None);
    bench.store.repair("t").await.unwrap();
    assert_eq!(bench.rows("SELECT coalesce(n, -1), coalesce(tip, -1) FROM t ORDER BY month").await, ["1 -1", "-1 7"]);
    let version = bench.store.describe("t").await.unwrap();
    assert!(version.columns().iter().all(|column| column.nullable || column.name == "at"), "{version}");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_readable_for_good() {
    let bench = Bench::new().await;
    bench.facts("t/month=1/a.parquet", &[1]);
    register(&bench).await;
    bench.facts("t/month=2/a.parquet", &[2]);
    bench.store.repair("t").await.unwrap();
    assert_eq!(bench.store.drop_table("t").await.unwrap(), Change::Done);
    assert_eq!(bench.store.drop_table("t").await.unwrap(), Change::Nothing);
    assert!(matches!(bench.store.describe("t").await, Err(Error::UnknownTable { .. })));
    assert!(matches!(bench.store.sql("SELECT * FROM t", as_of()).await, Err(Error::UnknownTable { .. })));
    assert!(bench.store.tables().await.unwrap().is_empty());
    // The name is free for any other table, whose versions go on counting.
    bench.facts("other/a.parquet", &[9]);
    let place = bench.path("other");
    let again = bench.store.register_table("t", place.to_str().unwrap(), at_once()).await.unwrap();
    assert_eq!((again.version(), again.partition_columns().len()), (4, 0));
    let states: Vec<_> = bench.store.versions("t").await.unwrap().iter().map(|v| (v.version, v.state)).collect();
    use VersionState::{Dropped, Table};
    assert_eq!(states, [(1, Table), (2, Table), (3, Dropped), (4, Table)]);
    assert!(bench.store.versions("nothing").await.unwrap().is_empty());

    let read = async |version: u64| {
        let rows = bench.store.sql_at("SELECT n FROM t ORDER BY n", as_of(), &[("t", version)]).await?.collect().await?;
        let numbers = rows.iter().flat_map(|batch| {
            let column = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
            column.values().to_vec()
        });
        Ok::<Vec<i64>, Error>(numbers.collect())
    };
    assert_eq!((read(1).await.unwrap(), read(2).await.unwrap(), read(4).await.unwrap()), (vec![1], vec![1, 2], vec![9]));
    for (version, word) in [(3, "dropped"), (5, "1 to 4"), (0, "1 to 4")] {
        let told = read(version).await.unwrap_err().to_string();
        assert!(told.contains(word), "{told}");
        assert_eq!(bench.store.describe_at("t", version).await.unwrap_err().to_string(), told);
    }
    let unused = bench.store.sql_at("SELECT 1", as_of(), &[("t", 1)]).await.unwrap_err().to_string();
    assert!(unused.contains("`t`"), "{unused}");
    assert_eq!(bench.store.describe_at("t", 2).await.unwrap().rows(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_a_query_runs_is_named() {
    let bench = Bench::new().await;
    for (month, numbers) in [(1, vec![1]), (2, vec![2])] {
        bench.facts(&format!("t/month={month}/a.parquet"), &numbers);
    }
    register(&bench).await;
    let path = bench.path("t/month=2/a.parquet");
    let good = fs::read(&path).unwrap();
    // The same size, other content: what a reader that trusts names and sizes would take for the file.
    write_facts(&bench.path("spare.parquet"), &[3]);
    let other = fs::read(bench.path("spare.parquet")).unwrap();
    assert_eq!(other.len(), good.len());
    for (content, word) in [(Some(other.as_slice()), "has changed"), (None, "has vanished")] {
        let query = bench.store.sql("SELECT sum(n) FROM t", as_of()).await.unwrap();
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let error = Error::from(query.collect().await.unwrap_err());
        assert!(
            matches!(&error, Error::FileChanged { table, path, change } if table == "t" && path.ends_with("month=2/a.parquet") && change == word),
            "{error:?}"
        );
        fs::write(&path, &good).unwrap();
        assert_eq!(bench.rows("SELECT sum(n) FROM t").await, ["3"]);
    }
}

fn on(server: &S3Server) -> StoreOptions {
    let locations = Locations::default()
        .option("aws_endpoint", server.endpoint())
        .option("aws_allow_http", "true")
        .option("aws_region", "us-east-1")
        .option("aws_access_key_id", server.access_key())
        .option("aws_secret_access_key", server.secret_key())
        .option("aws_virtual_hosted_style_request", "false");
    StoreOptions::default().locations(locations)
}

#[tokio::test(flavor = "multi_thread")]
async fn on_s3_repair_reads_what_is_new_and_nothing_else() {
    let (server, bench) = (S3Server::start("lab").await.unwrap(), Bench::new().await);
    let client = crate::s3::client(&server);
    let put = async |key: &str, numbers: &[i64]| {
        bench.facts("spare.parquet", numbers);
        let bytes = fs::read(bench.path("spare.parquet")).unwrap();
        client.put(&Key::parse(key).unwrap(), PutPayload::from(bytes)).await.unwrap();
    };
    for month in 1..=20 {
        put(&format!("facts/zone=a%20b/month={month}/a.parquet"), &[month]).await;
    }
    put("elsewhere/x.parquet", &[100]).await;
    let store = FeatureStore::open_with("s3://lab/root", on(&server)).await.unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE t PARTITIONED BY (zone string, month int) STORED AS PARQUET LOCATION 's3://lab/facts' {TIMES}"
    );
    store.execute(&create).await.unwrap();
    let reads = |from: usize| -> Vec<String> {
        server.gets().split_off(from).into_iter().filter(|key| key.ends_with(".parquet")).collect()
    };
    let seen = server.gets().len();
    assert!(store.repair("t").await.unwrap().is_noop());
    assert_eq!(reads(seen), Vec::<String>::new());
    put("facts/zone=a%20b/month=3/a.parquet", &[3, 33]).await;
    put("facts/zone=c/month=1/b.parquet", &[50]).await;
    let seen = server.gets().len();
    let report = store.repair("t").await.unwrap();
    assert_eq!((report.files.added.len(), report.files.changed.len(), report.files.unchanged), (1, 1, 19));
    let mut read = reads(seen);
    read.dedup();
    assert_eq!(read.len(), 2, "{read:?}");
    store.execute("ALTER TABLE t ADD PARTITION (zone = 'd', month = 1) LOCATION 's3://lab/elsewhere'").await.unwrap();
    let rows = store.sql("SELECT sum(n), count(DISTINCT zone) FROM t WHERE month < 21", as_of()).await.unwrap();
    let rows = rows.collect().await.unwrap();
    assert_eq!(
        format!("{:?}", rows[0].column(0)),
        format!("{:?}", Int64Array::from(vec![Some((1..=20).sum::<i64>() + 33 + 150)]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_add_partitions_to_one_table_and_both_are_there() {
    let bench = Bench::new().await;
    for part in 0..16 {
        bench.facts(&format!("t/part={part}/a.parquet"), &[part]);
    }
    bench.facts("first/a.parquet", &[100]);
    let create = format!("CREATE EXTERNAL TABLE t PARTITIONED BY (part int) STORED AS PARQUET LOCATION 'DIR/t' {TIMES}");
    bench.ok(&create).await;
    bench.ok("ALTER TABLE t DROP PARTITION (part = 0)").await;
    for part in 1..16 {
        bench.ok(&format!("ALTER TABLE t DROP PARTITION (part = {part})")).await;
    }
    let children = ["add_even_partitions", "add_odd_partitions"].map(|job| child(job, bench.root.path(), Path::new("-")));
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let version = store_with(bench.root.path(), StoreOptions::default().cache_in_memory()).await.describe("t").await.unwrap();
    assert_eq!((version.files().len(), version.rows(), version.version()), (16, 16, 33));
    assert_eq!(bench.rows("SELECT count(DISTINCT part) FROM t").await, ["16"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_repairs_and_two_creates_at_once_are_one() {
    let bench = Bench::new().await;
    for month in 1..=3 {
        bench.facts(&format!("t/month={month}/a.parquet"), &[month]);
    }
    let other = store_with(bench.root.path(), StoreOptions::default().cache_in_memory()).await;
    let dir = bench.data.path().to_str().unwrap();
    let create =
        format!("CREATE EXTERNAL TABLE IF NOT EXISTS t PARTITIONED BY (month int) STORED AS PARQUET LOCATION '{dir}/t' {TIMES}");
    let (a, b) = tokio::join!(bench.store.execute(&create), other.execute(&create));
    let mut said = [a.unwrap().lines(), b.unwrap().lines()].concat();
    said.sort();
    assert!(said == ["created", "exists already"], "{said:?}");
    for month in 4..=8 {
        bench.facts(&format!("t/month={month}/a.parquet"), &[month]);
        let (a, b) = tokio::join!(bench.store.repair("t"), other.repair("t"));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!(a.version, b.version);
        assert!(!a.is_noop() || !b.is_noop());
    }
    assert_eq!(bench.store.versions("t").await.unwrap().len(), 6);
}

fn numbers(seconds: &[i64]) -> RecordBatch {
    let at = TimestampMicrosecondArray::from_iter_values(seconds.iter().map(|s| 1_388_534_400_000_000 + s * 1_000_000));
    let columns: [(&str, ArrayRef); 3] = [
        ("at", Arc::new(at.with_timezone("UTC"))),
        ("n", Arc::new(Int64Array::from(seconds.to_vec()))),
        ("k", Arc::new(Int64Array::from(vec![1; seconds.len()]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_a_fact_table_of_this_process() {
    let bench = Bench::new().await;
    bench.facts("t/a.parquet", &[1, 2, 3, 4]);
    register(&bench).await;
    let rows = numbers(&[1, 2, 3, 4, 5]);
    let memory = Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).unwrap());
    let hour = FactTable::new("at", KnownAt::after(TimeDelta::seconds(2))).key("k");
    bench.store.register_provider("clicks", memory.clone(), hour.clone()).await.unwrap();
    // Strictly before the instant, the delay included: known at 3, 4, 5, 6, 7.
    let five = instant("2014-01-01T00:00:05Z");
    for (as_of, expected) in [(five, "1 2"), (instant("2014-01-01T00:00:05.000001Z"), "1 2 3")] {
        let rows = crate::support::cells(&bench.store, "SELECT n FROM clicks ORDER BY n", as_of).await;
        assert_eq!(rows.join(" "), expected);
    }
    // A filter that fails on what is not visible is not asked about it, and wildcards, aliases and joins are as ever.
    let sql = "SELECT c.* FROM clicks AS c WHERE 10 / (c.n - 3) < 0 ORDER BY n DESC LIMIT 1";
    assert_eq!(crate::support::cells(&bench.store, sql, five).await, ["2014-01-01T00:00:02Z 2 1"]);
    let sql = "SELECT c.n, t.n FROM clicks AS c JOIN t ON t.n = c.n ORDER BY 1";
    assert_eq!(crate::support::cells(&bench.store, sql, five).await, ["1 1", "2 2"]);
    let explained = crate::support::answer(&bench.store, "EXPLAIN SELECT n FROM clicks", five).await.unwrap();
    assert!(explained.contains("AsOfScan: table=clicks, as_of=2014-01-01T00:00:05Z"), "{explained}");
    // ASOF JOIN applies what it declares: at 4 the click of 1 is known, that of 2 is not.
    let sql = "SELECT t.n, c.n FROM t ASOF JOIN clicks AS c MATCH_CONDITION (t.at > c.at) ORDER BY 1";
    let joined = crate::support::cells(&bench.store, sql, as_of()).await;
    assert_eq!(joined, ["1 ", "2 ", "3 ", "4 1"]);
    let sql = "SELECT n, c FROM trailing('clicks', 'at', 'clicks', 'k', '1 hour', 'count(*) AS c') ORDER BY n";
    assert_eq!(crate::support::cells(&bench.store, sql, as_of()).await, ["1 0", "2 0", "3 0", "4 1", "5 2"]);
    let facts = bench.store.facts("clicks", as_of()).await.unwrap();
    let spine = bench.store.sql("SELECT at, n, 1 AS k FROM t", as_of()).await.unwrap();
    let looked_up = Spine::new(spine, "at").lookup([Lookup::of(facts).on("k").column_as("n", "last")]).unwrap().into_rows();
    assert_eq!(looked_up.filter(datafusion::prelude::col("last").is_not_null()).unwrap().count().await.unwrap(), 1);
    let listed = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'default' ORDER BY 1";
    assert_eq!(bench.rows(listed).await, ["clicks", "t"]);

    // What has no identity is not materialized.
    let set = FeatureSet::rows("clicks_v1", "SELECT at, n FROM clicks").table("clicks").event_time("at");
    bench.store.register(set.encode(Number::of("n")).build().unwrap()).unwrap();
    let told = bench.store.materialize("clicks_v1", as_of()).await.unwrap_err().to_string();
    assert!(told.contains("`clicks`") && told.contains("provider"), "{told}");
    // A declaration must fit, a name must be free.
    let unfit = bench.store.register_provider("x", memory.clone(), FactTable::new("when", KnownAt::after(TimeDelta::zero())));
    assert!(matches!(unfit.await, Err(Error::UnknownColumn { .. })));
    let taken = bench.store.register_provider("t", memory, hour).await;
    assert!(matches!(taken, Err(Error::AlreadyExists { .. })), "{taken:?}");
    assert!(bench.store.tables().await.unwrap().iter().all(|table| table.table() != "clicks"));
}

#[tokio::test]
async fn a_single_file_is_no_table_and_the_error_says_what_is() {
    let bench = Bench::new().await;
    bench.facts("t/month=1/a.parquet", &[1]);
    let file = bench.path("t/month=1/a.parquet");
    let (shown, folder) = (file.to_str().unwrap(), file.parent().unwrap().to_str().unwrap());
    let error = bench.store.register_table("t", shown, at_once()).await.unwrap_err();
    assert!(matches!(&error, Error::InvalidLocation { .. }) && error.to_string().contains(folder), "{error}");
    let ddl = format!(
        "CREATE EXTERNAL TABLE t (at timestamp) STORED AS PARQUET LOCATION '{shown}' \
         TBLPROPERTIES ('asof.event_time' = 'at', 'asof.delay' = '0 seconds')"
    );
    assert!(matches!(bench.store.execute(&ddl).await, Err(Error::InvalidLocation { .. })));
    bench.store.register_table("t", folder, at_once()).await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_registered_file_that_is_rewritten_in_equal_size_and_time_is_another_file() {
    let bench = Bench::new().await;
    let (file, other) = (bench.path("t/month=1/a.parquet"), bench.path("aside/b.parquet"));
    bench.facts("t/month=1/a.parquet", &[1]);
    bench.facts("aside/b.parquet", &[2]);
    register(&bench).await;
    let query = async || bench.store.sql("SELECT n FROM t", as_of()).await;
    assert_eq!(query().await.unwrap().count().await.unwrap(), 1);
    let (modified, bytes) = (fs::metadata(&file).unwrap().modified().unwrap(), fs::read(&other).unwrap());
    assert_eq!(bytes.len() as u64, fs::metadata(&file).unwrap().len());
    // In place: not even the inode is another one.
    let mut rewritten = fs::File::options().write(true).open(&file).unwrap();
    std::io::Write::write_all(&mut rewritten, &bytes).unwrap();
    rewritten.set_modified(modified).unwrap();
    drop(rewritten);
    assert!(matches!(query().await, Err(Error::FileChanged { .. })));
    assert_eq!(bench.store.repair("t").await.unwrap().files.changed, ["month=1/a.parquet"]);
    assert_eq!(bench.rows("SELECT n FROM t").await, ["2"]);
}
