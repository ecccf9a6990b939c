//! Joins of all kinds, of rows of a store and rows in memory: which of them are without a partner is known to one task only.

use std::sync::Arc;

use asof::FeatureStore;
use datafusion::{
    arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    common::JoinType,
    functions_aggregate::expr_fn::max,
    prelude::{DataFrame, SessionContext, col, ident, lit},
};

use crate::frames::{Both, TRIPS, frame, session, sorted};

const KINDS: [JoinType; 8] = [
    JoinType::Inner,
    JoinType::Left,
    JoinType::Right,
    JoinType::Full,
    JoinType::LeftSemi,
    JoinType::RightSemi,
    JoinType::LeftAnti,
    JoinType::RightAnti,
];

/// Names of some zones, two of them twice.
fn zones() -> RecordBatch {
    let zones: ArrayRef = Arc::new(Int64Array::from_iter_values((0..40).chain(10..12)));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..42).map(|number| format!("zone {number}"))));
    RecordBatch::try_from_iter([("zone", zones), ("name", names)]).unwrap()
}

/// Rows in memory, in the session of a store: they can be on the left of a join.
async fn in_memory(store: &FeatureStore) -> DataFrame {
    session(store, TRIPS).await.read_batch(zones()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_by_keys_lose_no_rows_and_find_none_twice() {
    for partitions in [None, Some(1)] {
        joins_by_keys(&Both::with_partitions(partitions).await).await;
    }
}

async fn joins_by_keys(both: &Both) {
    for kind in KINDS {
        both.compare(&format!("{kind}: rows in memory on the right"), async |store| {
            let zones = SessionContext::new().read_batch(zones()).unwrap();
            sorted(frame(store, TRIPS).await.join(zones, kind, &["pickup_zone"], &["zone"], None).unwrap())
        })
        .await;
        both.compare(&format!("{kind}: rows in memory on the left"), async |store| {
            let trips = frame(store, TRIPS).await;
            sorted(in_memory(store).await.join(trips, kind, &["zone"], &["pickup_zone"], None).unwrap())
        })
        .await;
        both.compare(&format!("{kind}: two frames"), async |store| {
            let orders = frame(store, "SELECT id, shop FROM orders WHERE shop < 20").await;
            let trips = frame(store, "SELECT pickup_zone, fare_amount FROM nyc_taxi").await;
            sorted(trips.join(orders, kind, &["pickup_zone"], &["shop"], None).unwrap())
        })
        .await;
        // Few rows of the store, which are collected, on either side.
        both.compare(&format!("{kind}: few and many"), async |store| {
            let few = frame(store, "SELECT place, name FROM places WHERE place < 77").await;
            sorted(frame(store, TRIPS).await.join(few, kind, &["pickup_zone"], &["place"], None).unwrap())
        })
        .await;
    }
}

/// Groups of rows that only the program has, on a side of a join: they are divided where the other side is.
#[tokio::test(flavor = "multi_thread")]
async fn groups_of_rows_of_the_program_meet_groups_of_facts() {
    for partitions in [None, Some(5)] {
        let both = Both::with_partitions(partitions).await;
        for kind in KINDS {
            for are_zones_left in [false, true] {
                both.compare(&format!("{kind}: groups, zones left: {are_zones_left}"), async |store| {
                    let zones = in_memory(store).await.aggregate(vec![col("zone")], vec![max(col("name"))]).unwrap();
                    let trips =
                        frame(store, "SELECT pickup_zone, count(*) AS n, min(fare_amount) AS low FROM nyc_taxi GROUP BY 1").await;
                    sorted(match are_zones_left {
                        true => zones.join(trips, kind, &["zone"], &["pickup_zone"], None).unwrap(),
                        false => trips.join(zones, kind, &["pickup_zone"], &["zone"], None).unwrap(),
                    })
                })
                .await;
            }
        }
        for join in ["FULL", "LEFT"] {
            let sql = format!(
                "SELECT a.shop, a.n, b.shop AS other, b.n AS m FROM (SELECT shop, count(*) AS n FROM orders GROUP BY shop) AS a {join} JOIN \
                 (SELECT shop, count(*) AS n FROM orders WHERE at < '1999-01-01T00:00:00Z' GROUP BY shop) AS b ON a.shop = b.shop ORDER BY 1, 2, 3, 4"
            );
            both.compare(&sql, async |store| frame(store, &sql).await).await;
        }
        // No file of the second table is read.
        let sql = "SELECT a.shop, a.n, b.place, b.n AS m FROM (SELECT shop, count(*) AS n FROM orders GROUP BY shop) AS a FULL JOIN \
                   (SELECT k AS place, count(*) AS n FROM (VALUES (3), (3), (57)) AS v (k) GROUP BY k) AS b ON a.shop = b.place ORDER BY 1, 2, 3, 4";
        both.compare(sql, async |store| frame(store, sql).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_without_keys_lose_no_rows_and_find_none_twice() {
    let both = Both::new().await;
    for kind in KINDS {
        both.compare(&format!("{kind}: a frame and rows in memory"), async |store| {
            let zones = SessionContext::new().read_batch(zones()).unwrap();
            let trips = frame(store, "SELECT pickup_at, pickup_zone, fare_amount FROM nyc_taxi").await;
            let apart = (col("pickup_zone") + lit(20)).lt(col("zone"));
            sorted(trips.join_on(zones, kind, [apart]).unwrap())
        })
        .await;
        both.compare(&format!("{kind}: two frames"), async |store| {
            let orders = frame(store, "SELECT id, shop, amount FROM orders WHERE shop IN (3, 5, 57)").await;
            let places = frame(store, "SELECT place, name FROM places").await;
            sorted(
                places.join_on(orders, kind, [(ident("amount") / lit(30) + lit(70)).lt(ident("place") - ident("shop"))]).unwrap(),
            )
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subqueries_have_the_rows_of_one_process() {
    let both = Both::new().await;
    let queries = [
        "SELECT id, version FROM orders WHERE shop NOT IN (SELECT pickup_zone FROM nyc_taxi WHERE fare_amount > 12) ORDER BY 1, 2",
        "SELECT place FROM places WHERE place NOT IN (SELECT shop FROM orders WHERE shop IS NOT NULL AND kind = 'ink') ORDER BY 1",
        "SELECT place FROM places WHERE place IN (SELECT shop FROM orders WHERE kind = 'ink') ORDER BY 1",
        "SELECT pickup_at, pickup_zone FROM nyc_taxi AS t WHERE EXISTS (SELECT 1 FROM orders AS o WHERE o.shop = t.pickup_zone \
         AND o.amount > 2500) ORDER BY 1, 2",
        "SELECT place FROM places AS p WHERE NOT EXISTS (SELECT 1 FROM nyc_taxi AS t WHERE t.pickup_zone = p.place) ORDER BY 1",
        "SELECT p.name, (SELECT max(o.amount) FROM orders AS o WHERE o.shop = p.place) AS most FROM places AS p ORDER BY 1",
        "SELECT p.place, q.place AS other FROM places AS p CROSS JOIN places AS q WHERE p.place + q.place > 150 ORDER BY 1, 2",
    ];
    for sql in queries {
        both.compare(sql, async |store| frame(store, sql).await).await;
    }
}
