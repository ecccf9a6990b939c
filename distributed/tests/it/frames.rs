//! What DataFusion lets a program do with the rows of a store, on a cluster: the same as in one process.

use std::time::Duration;

use asof::FeatureStore;
use asof_distributed::Cluster;
use datafusion::{
    arrow::datatypes::DataType,
    common::JoinType,
    dataframe::DataFrameWriteOptions,
    prelude::{DataFrame, ParquetReadOptions, SessionContext, col, lit},
};
use futures::{StreamExt, future::join_all};
use tempfile::TempDir;

use crate::{
    stores::open,
    support::{assert_same, quick, shown, temp, until},
    worlds::{self, QUERIES, instant},
};

/// Trips with an order of their zone: an operator of asof over two tables.
pub(crate) const TRIPS: &str = "SELECT t.pickup_at, t.dropoff_at, t.pickup_zone, t.fare_amount, o.id, o.amount, o.kind FROM nyc_taxi AS t \
                     ASOF JOIN orders AS o MATCH_CONDITION (t.pickup_at > o.at) ON t.pickup_zone = o.shop";
const ORDERS: &str = "SELECT id, version, shop, amount, kind FROM orders";

pub(crate) struct Both {
    dir: TempDir,
    pub(crate) here: FeatureStore,
    pub(crate) elsewhere: FeatureStore,
    cluster: Cluster,
}

impl Both {
    pub(crate) async fn new() -> Self {
        Self::with_partitions(None).await
    }

    /// Steps have so many tasks; by default as many as executors work on at a time.
    pub(crate) async fn with_partitions(partitions: Option<usize>) -> Self {
        let dir = temp();
        let here = open(dir.path().join("root").to_str().unwrap()).await;
        worlds::fill(&here, dir.path(), 300).await;
        let mut options = quick(2);
        options.cluster.partitions = partitions;
        let cluster = Cluster::local_with(options).await.unwrap();
        let elsewhere = here.on(&cluster);
        Self { dir, here, elsewhere, cluster }
    }

    /// Compares what is made of a store by one process and by the cluster.
    pub(crate) async fn compare(&self, what: &str, make: impl AsyncFn(&FeatureStore) -> DataFrame) {
        let expected = make(&self.here).await.collect().await.unwrap();
        assert!(expected.iter().any(|batch| batch.num_rows() > 0), "{what}: no rows prove nothing");
        let rows = make(&self.elsewhere).await.collect().await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_same(&rows, &shown(&expected), what);
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }
}

pub(crate) async fn frame(store: &FeatureStore, sql: &str) -> DataFrame {
    store.sql(sql, instant(worlds::AS_OFS[1])).await.unwrap()
}

/// In an order in which no two rows are the same.
pub(crate) fn sorted(frame: DataFrame) -> DataFrame {
    let columns: Vec<_> =
        frame.schema().fields().iter().map(|field| col(format!("\"{}\"", field.name())).sort(true, true)).collect();
    frame.sort(columns).unwrap()
}

/// A session of the store, in which the rows of a query are the view `rows`.
pub(crate) async fn session(store: &FeatureStore, sql: &str) -> SessionContext {
    let rows = frame(store, sql).await;
    let session = SessionContext::new_with_state(rows.clone().into_parts().0);
    session.register_table("rows", rows.into_view()).unwrap();
    session
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_combined_as_in_one_process() {
    let both = Both::new().await;
    both.compare("limit", async |store| sorted(frame(store, TRIPS).await).limit(17, Some(40)).unwrap()).await;
    both.compare("union", async |store| {
        let high = frame(store, ORDERS).await.filter(col("amount").gt(lit(2_000.0))).unwrap();
        sorted(frame(store, ORDERS).await.filter(col("shop").lt(lit(9))).unwrap().union(high).unwrap())
    })
    .await;
    both.compare("except", async |store| {
        let low = frame(store, TRIPS).await.filter(col("amount").lt(lit(1_500.0))).unwrap();
        sorted(frame(store, TRIPS).await.except(low).unwrap())
    })
    .await;
    both.compare("intersect", async |store| {
        let some = frame(store, TRIPS).await.filter(col("kind").eq(lit("pen"))).unwrap();
        sorted(frame(store, TRIPS).await.intersect(some).unwrap())
    })
    .await;
    both.compare("a join of two frames", async |store| {
        let orders = frame(store, "SELECT id AS order_id, version, shop FROM orders").await;
        sorted(frame(store, TRIPS).await.join(orders, JoinType::Left, &["id"], &["order_id"], None).unwrap())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_kept_and_named_as_in_one_process() {
    let both = Both::new().await;
    both.compare("cache", async |store| {
        let kept = frame(store, TRIPS).await.cache().await.unwrap();
        sorted(kept.filter(col("fare_amount").gt(lit(5.0))).unwrap())
    })
    .await;
    let views = [
        "SELECT * FROM rows WHERE amount > 700 ORDER BY pickup_at, dropoff_at, pickup_zone, id",
        "SELECT kind, count(*) AS n, max(amount) AS most, count(DISTINCT pickup_zone) AS zones FROM rows GROUP BY kind ORDER BY kind",
        "SELECT a.id, count(*) AS n FROM rows AS a JOIN rows AS b ON a.id = b.id AND a.pickup_at < b.pickup_at GROUP BY a.id ORDER BY a.id",
    ];
    for sql in views {
        both.compare(sql, async |store| session(store, TRIPS).await.sql(sql).await.unwrap()).await;
        // A session that knows of no cluster reads what was kept.
        both.compare(sql, async |store| {
            let strange = SessionContext::new();
            strange.register_table("rows", frame(store, TRIPS).await.cache().await.unwrap().into_view()).unwrap();
            strange.sql(sql).await.unwrap()
        })
        .await;
    }
}

/// All rows of a Parquet file or folder.
async fn read(place: &str) -> DataFrame {
    SessionContext::new().read_parquet(place, ParquetReadOptions::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_written_as_in_one_process() {
    let both = Both::new().await;
    let side = |store: &FeatureStore| if std::ptr::eq(store, &both.here) { "here" } else { "elsewhere" };
    both.compare("write_parquet of a file", async |store| {
        let place = both.path(&format!("{}.parquet", side(store)));
        let single = DataFrameWriteOptions::new().with_single_file_output(true);
        sorted(frame(store, TRIPS).await).write_parquet(&place, single, None).await.unwrap();
        read(&place).await
    })
    .await;
    assert!(std::fs::read(both.path("here.parquet")).unwrap() == std::fs::read(both.path("elsewhere.parquet")).unwrap());
    both.compare("write_parquet of a folder by kinds", async |store| {
        let place = both.path(&format!("{}_folder/", side(store)));
        let by_kind = DataFrameWriteOptions::new().with_partition_by(vec!["kind".into()]);
        frame(store, ORDERS).await.write_parquet(&place, by_kind, None).await.unwrap();
        let session = SessionContext::new();
        let options = ParquetReadOptions::default().table_partition_cols(vec![("kind".into(), DataType::Utf8)]);
        sorted(session.read_parquet(place, options).await.unwrap())
    })
    .await;
    both.compare("COPY", async |store| {
        let place = both.path(&format!("{}_copied.parquet", side(store)));
        let sql = format!("COPY (SELECT * FROM rows WHERE amount > 100) TO '{place}' STORED AS PARQUET");
        let counted = session(store, TRIPS).await.sql(&sql).await.unwrap().collect().await.unwrap();
        let written = read(&place).await;
        assert!(shown(&counted).contains(&format!("| {} ", written.clone().count().await.unwrap())), "{}", shown(&counted));
        sorted(written)
    })
    .await;
    let failing = frame(&both.elsewhere, "SELECT 1 / (version - version) AS x FROM orders").await;
    let place = both.path("failing.parquet");
    let single = DataFrameWriteOptions::new().with_single_file_output(true);
    let error = failing.write_parquet(&place, single, None).await.unwrap_err().to_string();
    assert!(error.contains("executor executor-") && error.contains("Divide by zero"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_are_shown_and_measured() {
    let both = Both::new().await;
    let explained = async |store: &FeatureStore, begin: &str| {
        let rows = frame(store, &format!("{begin} {TRIPS} ORDER BY t.pickup_at")).await;
        shown(&rows.collect().await.unwrap_or_else(|error| panic!("{begin}: {error}")))
    };
    // What is only shown is the plan before it is handed over.
    for begin in ["EXPLAIN", "EXPLAIN VERBOSE"] {
        assert!(explained(&both.elsewhere, begin).await.contains("AsOfLookup: at=t.pickup_at, table `orders`"), "{begin}");
    }
    for begin in ["EXPLAIN ANALYZE", "EXPLAIN ANALYZE VERBOSE"] {
        let elsewhere = explained(&both.elsewhere, begin).await;
        assert!(elsewhere.contains("RunElsewhere: partitions=4"), "{begin}: {elsewhere}");
    }
    // The rows of the answer are counted.
    let count = frame(&both.here, TRIPS).await.count().await.unwrap();
    let analyzed = explained(&both.elsewhere, "EXPLAIN ANALYZE").await;
    let root = analyzed.lines().find(|line| line.contains("RunElsewhere")).unwrap();
    let counts = [format!("output_rows={count},"), format!("output_rows={:.2} K,", count as f64 / 1_000.0)];
    assert!(counts.iter().any(|counted| root.contains(counted)), "{count}: {root}");
    let of_frame = frame(&both.elsewhere, TRIPS).await.explain(false, true).unwrap().collect().await.unwrap();
    assert!(shown(&of_frame).contains("RunElsewhere"), "{}", shown(&of_frame));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_dropped_half_way_leave_nothing_behind() {
    let both = Both::new().await;
    let sql = "SELECT a.id, b.version, a.amount + b.amount AS both FROM orders AS a JOIN orders AS b ON a.kind = b.kind AND a.shop = b.shop";
    let expected = frame(&both.here, sql).await.count().await.unwrap();
    let mut batches = 0;
    for round in 0..6_u64 {
        let mut rows = frame(&both.elsewhere, sql).await.execute_stream().await.unwrap();
        if round % 2 == 0 {
            let first = rows.next().await.unwrap().unwrap();
            assert!(first.num_rows() < expected, "one batch holds all rows");
            batches += 1;
        } else {
            let _ = tokio::time::timeout(Duration::from_millis(40 * round), rows.next()).await;
        }
        drop(rows);
    }
    assert_eq!(batches, 3);
    until("all jobs end", Duration::from_secs(20), async || both.cluster.status().await.unwrap().jobs == 0).await;
    assert_eq!(frame(&both.elsewhere, sql).await.count().await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_queries_at_a_time_have_their_own_answers() {
    let both = Both::new().await;
    let queries = || QUERIES.into_iter().cycle().take(16);
    let mut expected = Vec::new();
    for sql in queries() {
        expected.push(worlds::answer(&both.here, sql).await);
    }
    let answers = join_all(queries().map(|sql| worlds::answer(&both.elsewhere, sql))).await;
    for ((answer, expected), sql) in answers.iter().zip(&expected).zip(queries()) {
        assert!(answer == expected, "{sql}");
    }
    until("all jobs end", Duration::from_secs(20), async || both.cluster.status().await.unwrap().jobs == 0).await;
}
