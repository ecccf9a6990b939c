//! `ASOF JOIN`, against rows worked out by hand and against the same lookups asked from Rust.

#![allow(unreachable_pub)]

use std::{path::Path, sync::Arc};

use asof::{
    AsOf, Error, FeatureSet, FeatureStore, Resources, StoreOptions,
    catalog::{FactTable, KnownAt, TimeColumn},
    encoder::Number,
    temporal::Spine,
    time::TimeUnit,
};
use chrono::TimeDelta;
use datafusion::arrow::{
    array::{ArrayRef, Float64Array, Int64Array, TimestampSecondArray},
    util::pretty::pretty_format_batches,
};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::{
    support::{answer, bits, cells, instant, store_of, store_with, temp_dir, trip, write_parquet},
    times::utc_micros,
};

pub const END: &str = "2015-01-01";

pub fn end() -> AsOf {
    instant(END)
}

/// Each query is refused by an error of this kind that says this.
pub async fn are_refused<'a>(store: &FeatureStore, cases: impl IntoIterator<Item = (String, &'a str, &'a str)>) {
    for (sql, kind, says) in cases {
        let refused = store.sql(&sql, end()).await.map(|_| ()).unwrap_err();
        let found = match &refused {
            Error::Definition { .. } => "definition",
            Error::ColumnType { .. } => "type",
            Error::UnknownColumn { .. } => "column",
            Error::UnknownTable { .. } => "table",
            Error::Volatile { .. } => "volatile",
            Error::Query(_) => "query",
            _ => "other",
        };
        assert!(found == kind && refused.to_string().contains(says), "{sql}: {refused:?}");
    }
}

/// Left rows and right rows of entity 1 at the same and at neighbouring seconds, and what has no match.
const SIDES: &str = "WITH a(id, k, ts) AS (VALUES
        (1, 1, TIMESTAMP '2014-01-01 00:00:10'), (2, 1, TIMESTAMP '2014-01-01 00:00:20'), (3, 1, TIMESTAMP '2014-01-01 00:00:30'),
        (4, NULL, TIMESTAMP '2014-01-01 00:00:20'), (5, 2, TIMESTAMP '2014-01-01 00:00:20'), (6, 1, NULL)),
    b(k, ts, v) AS (VALUES
        (1, TIMESTAMP '2014-01-01 00:00:09', 'nine'), (1, TIMESTAMP '2014-01-01 00:00:10', 'ten'),
        (1, TIMESTAMP '2014-01-01 00:00:21', 'twenty-one'), (1, TIMESTAMP '2014-01-01 00:00:30', 'thirty'),
        (NULL, TIMESTAMP '2014-01-01 00:00:15', 'nobody'), (1, NULL, 'never'), (3, TIMESTAMP '2014-01-01 00:00:15', 'other'))";

pub async fn memory() -> FeatureStore {
    let root = temp_dir();
    store_with(root.path(), StoreOptions::default().cache_in_memory()).await
}

/// A table of the catalog with these columns.
pub async fn table(store: &FeatureStore, dir: &Path, name: &str, declared: FactTable, columns: &[(&str, ArrayRef)]) {
    write_parquet(&dir.join(name).join("facts.parquet"), columns, None);
    store.register_table(name, dir.join(name).to_str().unwrap(), declared).await.unwrap();
}

pub fn ints(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

pub fn floats(values: impl IntoIterator<Item = f64>) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(values))
}

pub fn at_once(event: impl Into<TimeColumn>) -> FactTable {
    FactTable::new(event, KnownAt::after(TimeDelta::zero()))
}

const MINUTE: i64 = 60_000_000;

pub fn minute(minutes: i64) -> i64 {
    instant("2014-06-01").micros() + minutes * MINUTE
}

/// `rides` (a spine: zone and instant) and `fares` (event, known ten minutes later, zone, amount).
pub async fn rides_and_fares() -> (TempDir, FeatureStore) {
    let (dir, store) = (temp_dir(), memory().await);
    let rides = [(1, 5), (1, 10), (1, 11), (1, 20), (2, 20), (3, 20)];
    let columns: [(&str, ArrayRef); 3] =
        [("id", ints(1..=6)), ("zone", ints(rides.map(|(zone, _)| zone))), ("at", utc_micros(rides.map(|(_, at)| minute(at))))];
    table(&store, dir.path(), "rides", at_once("at"), &columns).await;
    let fares = [(1, 0, 10.0), (1, 10, 20.0), (1, 19, 30.0), (2, 1, 40.0), (2, 1, 41.0)];
    let columns: [(&str, ArrayRef); 5] = [
        ("pickup_zone", ints(fares.map(|f| f.0))),
        ("began", utc_micros(fares.map(|f| minute(f.1)))),
        ("ended", utc_micros(fares.map(|f| minute(f.1 + 10)))),
        ("amount", floats(fares.map(|f| f.2))),
        ("unused", ints([0; 5])),
    ];
    table(&store, dir.path(), "fares", FactTable::new("began", KnownAt::column("ended")), &columns).await;
    (dir, store)
}

#[tokio::test]
async fn the_four_comparisons_and_their_boundaries() {
    let store = memory().await;
    let expected = [
        (">", "<", ["1 nine", "2 ten", "3 twenty-one"]),
        (">=", "<=", ["1 ten", "2 ten", "3 thirty"]),
        ("<", ">", ["1 twenty-one", "2 twenty-one", "3"]),
        ("<=", ">=", ["1 ten", "2 twenty-one", "3 thirty"]),
    ];
    for (operator, mirrored, rows) in expected {
        for condition in [format!("a.ts {operator} b.ts"), format!("((b.ts {mirrored} a.ts))")] {
            for on in ["ON a.k = b.k", "ON b.k = a.k", "ON (a.k = b.k)", "USING (k)"] {
                let sql = format!("{SIDES} SELECT id, v FROM a ASOF JOIN b MATCH_CONDITION ({condition}) {on} ORDER BY id");
                let rows = rows.iter().map(ToString::to_string).chain(["4", "5", "6"].map(str::to_owned));
                let found = cells(&store, &sql, end()).await;
                assert_eq!(found.iter().map(|row| row.trim()).collect::<Vec<_>>(), rows.collect::<Vec<_>>(), "{condition} {on}");
            }
        }
    }
}

#[tokio::test]
async fn the_columns_are_those_of_the_left_join() {
    let store = memory().await;
    for on in ["ON a.k = b.k", "USING (k)", ""] {
        let sql = format!("{SIDES} SELECT * FROM a ASOF JOIN b MATCH_CONDITION (a.ts > b.ts) {on}");
        let rows = store.sql(&sql, end()).await.unwrap();
        let join = format!("{SIDES} SELECT * FROM a LEFT JOIN b ON a.k = b.k");
        let join = store.sql(&join, end()).await.unwrap();
        assert_eq!(rows.schema().columns(), join.schema().columns(), "{on}");
        assert_eq!(rows.schema().as_arrow(), join.schema().as_arrow(), "{on}");
        assert_eq!(rows.count().await.unwrap(), 6);
    }
}

#[tokio::test]
async fn without_a_key_all_rows_are_compared() {
    let store = memory().await;
    let sql = format!("{SIDES} SELECT a.id, b.v FROM a ASOF JOIN b MATCH_CONDITION (a.ts >= b.ts) ORDER BY a.id");
    let found = cells(&store, &sql, end()).await;
    assert_eq!(found[..5], ["1 ten", "2 other", "3 thirty", "4 other", "5 other"]);
    assert_eq!(found[5].trim(), "6");
}

#[tokio::test]
async fn several_keys_with_other_names_are_compared_column_by_column() {
    let store = memory().await;
    let sql = "WITH a(x, y, ts) AS (VALUES ('a', 'bc', DATE '2014-01-02'), ('ab', 'c', DATE '2014-01-02'), ('ab', NULL, DATE '2014-01-02')),
        b(u, v, ts, n) AS (VALUES ('ab', 'c', TIMESTAMP '2014-01-01 23:59:59', 1), ('a', 'bc', TIMESTAMP '2014-01-02 00:00:00', 2))
        SELECT x, y, n FROM a ASOF JOIN b MATCH_CONDITION (a.ts > b.ts) ON v = y AND a.x = b.u ORDER BY x, y";
    assert_eq!(cells(&store, sql, end()).await, ["a bc ", "ab c 1", "ab  "]);
}

#[tokio::test]
async fn a_join_stands_wherever_a_table_may() {
    let store = memory().await;
    let join = "SELECT a.id, b.v FROM a ASOF JOIN b MATCH_CONDITION (a.ts > b.ts) ON a.k = b.k";
    let rows = ["1 nine", "2 ten", "3 twenty-one"];
    let queries = [
        format!("{SIDES}, j AS ({join}) SELECT * FROM j WHERE v IS NOT NULL ORDER BY id"),
        format!("{SIDES} SELECT * FROM ({join}) AS j WHERE v IS NOT NULL ORDER BY id"),
        format!("{SIDES} SELECT * FROM ({join} WHERE id < 2 UNION ALL {join} WHERE id IN (2, 3)) ORDER BY id"),
        format!("{SIDES} SELECT id, (SELECT max(v) FROM ({join}) AS j WHERE j.id = a.id) AS v FROM a WHERE id < 4 ORDER BY id"),
        format!(
            "{SIDES} SELECT a.id, b.v FROM a JOIN (a AS c ASOF JOIN b MATCH_CONDITION (c.ts > b.ts) ON c.k = b.k) ON a.id = c.id \
             WHERE a.id < 4 ORDER BY a.id"
        ),
        format!(
            "{SIDES} SELECT id, n.v FROM a LEFT ANTI JOIN b ON a.k > b.k \
             ASOF JOIN b AS n MATCH_CONDITION (a.ts > n.ts) ON a.k = n.k WHERE v IS NOT NULL ORDER BY id"
        ),
        format!(
            "{SIDES} SELECT id, v FROM (SELECT id, k AS own, ts AS at FROM a) asof join (SELECT k, ts, v FROM b) \
             match_condition (at > ts) ON own = k WHERE v IS NOT NULL ORDER BY id"
        ),
    ];
    for sql in queries {
        assert_eq!(cells(&store, &sql, end()).await, rows, "{sql}");
    }
    let exists = format!("{SIDES} SELECT id FROM a WHERE id IN (SELECT j.id FROM ({join}) AS j WHERE j.v = 'ten')");
    assert_eq!(cells(&store, &exists, end()).await, ["2"]);
}

#[tokio::test]
async fn joins_follow_each_other_and_join_both_names_of_one_table() {
    let store = memory().await;
    let sql = format!(
        "{SIDES} SELECT id, x.v, y.v, z.v FROM a \
         ASOF JOIN b AS x MATCH_CONDITION (a.ts > x.ts) ON a.k = x.k \
         ASOF JOIN b AS y MATCH_CONDITION (x.ts > y.ts) USING (k) \
         ASOF JOIN b AS z MATCH_CONDITION (a.ts < z.ts) \
         WHERE id <= 3 ORDER BY id"
    );
    // `USING (k)` after two tables with a `k` does not say which.
    let refused = store.sql(&sql, end()).await.unwrap_err().to_string();
    assert!(refused.contains("`k`") && refused.contains("several"), "{refused}");
    let sql = sql.replace("USING (k)", "ON y.k = x.k");
    let rows = ["1 nine  other", "2 ten nine twenty-one", "3 twenty-one ten"];
    assert_eq!(cells(&store, &sql, end()).await.iter().map(|row| row.trim()).collect::<Vec<_>>(), rows);
}

#[tokio::test]
async fn a_right_side_may_itself_be_joined() {
    let store = memory().await;
    let sql = format!(
        "{SIDES} SELECT id, b.v, c.k FROM a ASOF JOIN (b JOIN (SELECT k, v FROM b) AS c ON b.v = c.v) \
         MATCH_CONDITION (a.ts > b.ts) ON a.k = c.k WHERE id <= 2 ORDER BY id"
    );
    assert_eq!(cells(&store, &sql, end()).await, ["1 nine 1", "2 ten 1"]);
}

#[tokio::test]
async fn of_equal_instants_the_values_decide_and_not_the_order_of_rows() {
    let store = memory().await;
    for rows in ["(1, 10, 3), (1, 10, 7), (1, 10, 5)", "(1, 10, 7), (1, 10, 5), (1, 10, 3)"] {
        let sql = format!(
            "SELECT b.v FROM (VALUES (1, 11)) AS a(k, t) ASOF JOIN (VALUES {rows}) AS b(k, t, v) MATCH_CONDITION (t1 > t2) ON a.k = b.k"
        );
        assert_eq!(cells(&store, &sql.replace("t1", "a.t").replace("t2", "b.t"), end()).await, ["7"]);
    }
}

#[tokio::test]
async fn only_the_needed_columns_of_the_right_table_are_read() {
    let (_dir, store) = rides_and_fares().await;
    let sql =
        "EXPLAIN SELECT r.id, f.amount FROM rides r ASOF JOIN fares f MATCH_CONDITION (r.at > f.began) ON r.zone = f.pickup_zone";
    let plan = answer(&store, sql, end()).await.unwrap();
    assert!(
        plan.contains("AsOfLookup: at=r.at, table `fares` on [r.zone = fares.pickup_zone], visible=[fares.began < r.at and fares.ended < r.at]"),
        "{plan}"
    );
    assert!(plan.contains("amount") && !plan.contains("unused"), "{plan}");
    for explain in ["EXPLAIN VERBOSE", "EXPLAIN ANALYZE"] {
        let plan = answer(&store, &sql.replace("EXPLAIN", explain), end()).await.unwrap();
        assert!(plan.contains("AsOfLookup"), "{plan}");
    }
    let without = answer(&store, "EXPLAIN SELECT r.id FROM rides r JOIN fares f ON r.zone = f.pickup_zone", end()).await.unwrap();
    assert!(!without.contains("AsOfLookup"), "{without}");
}

#[tokio::test]
async fn a_table_of_the_catalog_hides_what_was_not_known() {
    let (_dir, store) = rides_and_fares().await;
    let asof = |right: &str, operator: &str| {
        format!(
            "SELECT r.id, f.amount FROM rides AS r ASOF JOIN {right} AS f MATCH_CONDITION (r.at {operator} f.began) \
             ON r.zone = f.pickup_zone ORDER BY r.id"
        )
    };
    let trimmed = |rows: Vec<String>| rows.iter().map(|row| row.trim().to_owned()).collect::<Vec<_>>();
    // Fares of minute 0, 10 and 19 are known at 10, 20 and 29.
    let known = trimmed(cells(&store, &asof("fares", ">"), end()).await);
    assert_eq!(known, ["1", "2", "3 10.0", "4 10.0", "5 41.0", "6"]);
    let at_last = trimmed(cells(&store, &asof("fares", ">="), end()).await);
    assert_eq!(at_last, ["1", "2 10.0", "3 10.0", "4 20.0", "5 41.0", "6"]);
    let bare = "SELECT id, amount FROM rides ASOF JOIN fares MATCH_CONDITION (at > began) ON zone = pickup_zone ORDER BY id";
    assert_eq!(trimmed(cells(&store, bare, end()).await), known);
    // A subquery that leaves out when a fact was known does not make it known earlier.
    let subquery = trimmed(cells(&store, &asof("(SELECT pickup_zone, began, amount FROM fares)", ">"), end()).await);
    assert_eq!(subquery, known);
    // Another column than the event time takes its place; a look forward asks about no known-at.
    let by_end = asof("fares", ">").replace("f.began", "f.ended");
    assert_eq!(trimmed(cells(&store, &by_end, end()).await), ["1", "2", "3 10.0", "4 10.0", "5 41.0", "6"]);
    let next = trimmed(cells(&store, &asof("fares", "<"), end()).await);
    assert_eq!(next, ["1 20.0", "2 30.0", "3 30.0", "4", "5", "6"]);
    // The same as from Rust.
    let spine = store.sql("SELECT * FROM rides", end()).await.unwrap();
    let fares = store.facts("fares", end()).await.unwrap();
    let lookup = asof::temporal::Lookup::of(fares).on_columns("zone", "pickup_zone").column("amount");
    let rows = Spine::new(spine, "at").lookup([lookup]).unwrap().into_rows();
    let rows = rows.select_columns(&["id", "amount"]).unwrap().collect().await.unwrap();
    let sql = store.sql(&asof("fares", ">"), end()).await.unwrap().collect().await.unwrap();
    assert_eq!(pretty_format_batches(&rows).unwrap().to_string(), pretty_format_batches(&sql).unwrap().to_string());
}

#[tokio::test]
async fn delays_tie_breaks_and_corrections_are_applied_too() {
    let (dir, store) = (temp_dir(), memory().await);
    let spine: [(&str, ArrayRef); 2] = [("k", ints([1; 4])), ("at", utc_micros([4, 6, 16, 30].map(minute)))];
    table(&store, dir.path(), "spine", at_once("at"), &spine).await;
    let columns: [(&str, ArrayRef); 5] = [
        ("k", ints([1; 4])),
        ("t", utc_micros([0, 10, 10, 0].map(minute))),
        ("known", utc_micros([0, 10, 10, 20].map(minute))),
        ("v", ints([5, 9, 7, 1])),
        ("rank", ints([0, 1, 2, 0])),
    ];
    let sql = |facts: &str| {
        format!("SELECT a.at, b.v FROM spine AS a ASOF JOIN {facts} AS b MATCH_CONDITION (a.at > b.t) ON a.k = b.k ORDER BY a.at")
    };
    let values = async |facts: &str| {
        let rows = cells(&store, &sql(facts), end()).await;
        rows.iter().map(|row| row.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    let after = FactTable::new("t", KnownAt::after(TimeDelta::minutes(5)));
    table(&store, dir.path(), "later", after.tie_break("rank"), &columns).await;
    // Where the tie-break is equal too, all columns decide in the order of their names: here `known`, which is not declared.
    assert_eq!(values("later").await, ["", "1", "7", "7"]);
    table(&store, dir.path(), "tied", at_once("t"), &columns).await;
    assert_eq!(values("tied").await, ["1", "1", "7", "7"]);
    // From minute 20 on the second version of fact 2 replaces the first, and moves it to before the others.
    let columns = [
        columns[0].clone(),
        ("t", utc_micros([0, 10, 11, 1].map(minute))),
        columns[2].clone(),
        columns[3].clone(),
        ("rank", ints([0, 1, 2, 2])),
    ];
    table(&store, dir.path(), "corrected", FactTable::new("t", KnownAt::column("known")).identity("rank"), &columns).await;
    let rows = values("corrected").await;
    assert_eq!(rows, ["5", "5", "7", "9"]);
}

#[tokio::test]
async fn the_as_of_of_the_query_cuts_both_sides() {
    let trips = ["2014-03-01T08:00:00Z", "2014-03-01T09:00:00Z", "2014-03-01T10:00:00Z"].map(|at| trip(at, 1.0));
    let trips: Vec<_> = trips.into_iter().enumerate().map(|(i, t)| crate::support::Trip { fare: i as f64, ..t }).collect();
    let (_root, store) = store_of(&trips).await;
    let sql = |operator: &str| {
        format!(
            "SELECT a.fare_amount, b.fare_amount FROM nyc_taxi AS a \
             ASOF JOIN nyc_taxi AS b MATCH_CONDITION (a.pickup_at {operator} b.pickup_at) ON a.pickup_zone = b.pickup_zone ORDER BY 1"
        )
    };
    for (as_of, back, forth) in [
        ("2014-04-01", vec!["0.0 ", "1.0 0.0", "2.0 1.0"], vec!["0.0 1.0", "1.0 2.0", "2.0 "]),
        ("2014-03-01T10:10:00Z", vec!["0.0 ", "1.0 0.0"], vec!["0.0 1.0", "1.0 "]),
        ("2014-03-01T08:10:00Z", vec![], vec![]),
    ] {
        assert_eq!(cells(&store, &sql(">"), instant(as_of)).await, back, "{as_of}");
        assert_eq!(cells(&store, &sql("<"), instant(as_of)).await, forth, "{as_of}");
    }
}

#[tokio::test]
async fn times_without_a_zone_are_read_by_the_clock_of_the_table() {
    let (dir, store) = (temp_dir(), memory().await);
    // Noon of a winter's day in New York is 17:00 UTC.
    let noon = instant("2014-01-15T12:00:00Z").micros() / 1_000_000;
    let local = |seconds: Vec<i64>| Arc::new(TimestampSecondArray::from(seconds)) as ArrayRef;
    let new_york = || at_once("t").zone("America/New_York".parse().unwrap());
    table(&store, dir.path(), "local", new_york(), &[("k", ints([1])), ("t", local(vec![noon])), ("v", ints([7]))]).await;
    table(
        &store,
        dir.path(),
        "berlin",
        at_once("t").zone("Europe/Berlin".parse().unwrap()),
        &[("k", ints([1, 1])), ("t", local(vec![noon + 6 * 3600, noon + 6 * 3600 + 1]))],
    )
    .await;
    let utc = "SELECT * FROM (VALUES (1, arrow_cast('2014-01-15T17:00:00Z', 'Timestamp(Second, Some(\"UTC\"))')), \
               (1, arrow_cast('2014-01-15T17:00:01Z', 'Timestamp(Second, Some(\"UTC\"))')))";
    let by = |left: &str, right: &str| {
        format!(
            "SELECT b.v FROM ({left}) AS a(k, t) ASOF JOIN {right} AS b MATCH_CONDITION (a.t > b.t) ON a.k = b.k ORDER BY a.t"
        )
    };
    assert_eq!(cells(&store, &by(utc, "local"), end()).await, ["", "7"]);
    assert_eq!(cells(&store, &by(utc, "(SELECT * FROM local)"), end()).await, ["", "7"]);
    // Each by its own clock, where both are of the catalog.
    let both = "SELECT b.v FROM berlin AS a ASOF JOIN local AS b MATCH_CONDITION (a.t > b.t) ON a.k = b.k ORDER BY a.t";
    assert_eq!(cells(&store, both, end()).await, ["", "7"]);
    // Times that nobody's clock is known of are no instants, until the query says whose they are.
    let bare = "SELECT * FROM (VALUES (1, TIMESTAMP '2014-01-15 12:00:00'), (1, TIMESTAMP '2014-01-15 12:00:01'))";
    let refused = store.sql(&by(bare, "local"), end()).await.unwrap_err();
    assert!(
        matches!(&refused, Error::ColumnType { column, needed, .. } if column == "t" && needed.contains("AT TIME ZONE")),
        "{refused}"
    );
    let said = format!("SELECT k, t AT TIME ZONE 'America/New_York' AS t FROM ({bare}) AS bare(k, t)");
    assert_eq!(cells(&store, &by(&said, "local"), end()).await, ["", "7"]);
}

#[tokio::test]
async fn epochs_are_compared_as_numbers_or_by_their_declared_unit() {
    let (dir, store) = (temp_dir(), memory().await);
    let millis = FactTable::new(TimeColumn::epoch("t", TimeUnit::Millisecond), KnownAt::after(TimeDelta::seconds(1)));
    let columns: [(&str, ArrayRef); 3] = [("k", ints([1, 1])), ("t", ints([10_000, 11_000])), ("v", ints([7, 8]))];
    table(&store, dir.path(), "epochs", millis, &columns).await;
    let by = |left: &str, right: &str| {
        format!(
            "SELECT b.v FROM (VALUES {left}) AS a(k, t) ASOF JOIN {right} AS b MATCH_CONDITION (a.t > b.t) ON a.k = b.k ORDER BY a.t"
        )
    };
    let numbers = "(1, 11000), (1, 11001), (1, 12001)";
    assert_eq!(cells(&store, &by(numbers, "epochs"), end()).await, ["", "7", "8"]);
    assert_eq!(cells(&store, &by(numbers, "(SELECT * FROM epochs)"), end()).await, ["", "7", "8"]);
    let instant = |text: &str| format!("(1, from_iso8601_timestamp('1970-01-01T00:00:{text}Z'))");
    let times = [instant("11.001"), instant("12.001")].join(", ");
    assert_eq!(cells(&store, &by(&times, "epochs"), end()).await, ["7", "8"]);
    assert_eq!(cells(&store, &by(&times, "(SELECT v, k, t FROM epochs)"), end()).await, ["7", "8"]);
    let refused = store.sql(&by(&times, "(SELECT k, t + 0 AS t, v FROM epochs)"), end()).await.unwrap_err();
    assert!(
        matches!(&refused, Error::ColumnType { column, subject, .. } if column == "t" && subject == "table `b`"),
        "{refused}"
    );
}

#[tokio::test]
async fn what_a_join_cannot_mean_is_refused_with_a_reason() {
    let (_dir, store) = rides_and_fares().await;
    let join = |rest: &str| format!("SELECT * FROM rides AS r ASOF JOIN fares AS f {rest}");
    let key = "ON r.zone = f.pickup_zone";
    let cases = [
        (join("MATCH_CONDITION (r.at > f.began) ON r.zone = f.pickup_zone AND f.amount > 3"), "definition", "subquery"),
        (join("MATCH_CONDITION (r.at > f.began) ON r.zone = f.pickup_zone OR r.zone = 1"), "definition", "subquery"),
        (join("MATCH_CONDITION (r.at > f.began) ON r.zone = 1"), "definition", "`r.zone = Int64(1)`"),
        (join("MATCH_CONDITION (r.at > f.began) ON r.zone = r.id"), "definition", "one of each side"),
        (join("MATCH_CONDITION (r.at > f.began) ON r.zone < f.pickup_zone"), "definition", "one of each side"),
        (join(&format!("MATCH_CONDITION (r.at = f.began) {key}")), "definition", ">, >=, < or <="),
        (join(&format!("MATCH_CONDITION (r.at > f.began AND r.id > 1) {key}")), "definition", ">, >=, < or <="),
        (join(&format!("MATCH_CONDITION (r.at > r.at) {key}")), "definition", "compare a column of the left side"),
        (join(&format!("MATCH_CONDITION (r.at - INTERVAL '1 day' > f.began) {key}")), "definition", "a bound"),
        (join(&format!("MATCH_CONDITION (r.at > f.amount) {key}")), "type", "column `amount` of table `fares` is Float64"),
        (join(&format!("MATCH_CONDITION (r.zone > f.began) {key}")), "type", "column `zone` of table `r` is Int64"),
        (join("MATCH_CONDITION (r.at > f.began) ON r.zone = f.amount"), "type", "floats do not identify"),
        (join("MATCH_CONDITION (r.at > f.began) USING (zone)"), "column", "no column `zone`"),
        (join("MATCH_CONDITION (r.at > f.began) USING (began)"), "column", "no column `began`"),
        (join("MATCH_CONDITION (r.at > f.nothing) ON r.zone = f.pickup_zone"), "column", "nothing"),
        (join("MATCH_CONDITION (r.at > f.began) ON r.zone = f.nothing"), "column", "nothing"),
        (join("ON r.zone = f.pickup_zone"), "query", "MATCH_CONDITION"),
        (
            "SELECT * FROM rides r ASOF JOIN LATERAL (SELECT * FROM fares) f MATCH_CONDITION (r.at > f.began)".into(),
            "definition",
            "LATERAL",
        ),
        ("SELECT asof_match('>', at, at) FROM rides".into(), "query", "asof_match"),
        (
            format!(
                "SELECT asof_match('>', at, at) FROM (SELECT r.at FROM rides AS r ASOF JOIN fares AS f MATCH_CONDITION (r.at > f.began) {key})"
            ),
            "definition",
            "asof_match",
        ),
    ];
    are_refused(&store, cases).await;
}

#[tokio::test]
async fn extracts_of_feature_sets_ask_in_time_and_are_made_alike_every_time() {
    let sqls = [
        "SELECT r.id, r.at, f.amount FROM rides AS r ASOF JOIN fares AS f MATCH_CONDITION (r.at > f.began) ON r.zone = f.pickup_zone",
        "SELECT id, at, amount FROM trailing('rides', 'at', 'fares', 'zone = pickup_zone', '1 day', 'avg(amount) AS amount')",
    ];
    for (i, sql) in sqls.into_iter().enumerate() {
        let mut made = Vec::new();
        for (partitions, batch_rows) in [(1, 8_192), (4, 1)] {
            let (dir, _) = rides_and_fares().await;
            let root = temp_dir();
            let resources = Resources { partitions, batch_rows, ..Default::default() };
            let store = store_with(root.path(), StoreOptions::default().cache_in_memory().resources(resources)).await;
            let tables = [("rides", at_once("at")), ("fares", FactTable::new("began", KnownAt::column("ended")))];
            for (name, declared) in tables {
                store.register_table(name, dir.path().join(name).to_str().unwrap(), declared).await.unwrap();
            }
            let set = FeatureSet::rows(&format!("joined_{i}_v1"), sql).table("rides").table("fares").event_time("at");
            store.register(set.encode(Number::of("amount")).build().unwrap()).unwrap();
            let rows = store.materialize(&format!("joined_{i}_v1"), AsOf::from_micros(minute(20) + 1)).await.unwrap();
            assert_eq!(rows.rows(), 6);
            made.push(bits(&rows).await);
        }
        assert!(made[0] == made[1], "{sql}");
    }
    // A table that the set does not declare is not there.
    let (_dir, store) = rides_and_fares().await;
    let set = FeatureSet::rows("undeclared_v1", sqls[1]).table("rides").event_time("at").encode(Number::of("amount"));
    store.register(set.build().unwrap()).unwrap();
    let refused = store.materialize("undeclared_v1", end()).await.unwrap_err();
    assert!(matches!(&refused, Error::UnknownTable { table, .. } if table == "fares"), "{refused}");
}

type Row = (Option<i64>, Option<i64>);

/// A row of numbers as SQL writes it; `t` in nanoseconds or microseconds as its type says.
fn values<'a>(rows: impl Iterator<Item = (usize, &'a Row)>, time: &str) -> String {
    let text = |value: Option<i64>| value.map_or("CAST(NULL AS BIGINT)".to_owned(), |v| v.to_string());
    let rows = rows.map(|(i, (k, t))| format!("({i}, {}, arrow_cast({}, '{time}'))", text(*k), text(*t)));
    rows.collect::<Vec<_>>().join(", ")
}

#[test]
fn random_rows_are_joined_as_a_search_through_all_of_them_finds() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let row = |longest: i64| (prop::option::weighted(0.9, 0..3i64), prop::option::weighted(0.9, -longest..longest));
    let sides = (prop::collection::vec(row(6), 1..12), prop::collection::vec(row(6_000), 1..16), any::<bool>());
    let config = ProptestConfig { cases: 24, max_shrink_iters: 60, failure_persistence: None, ..Default::default() };
    proptest!(config, |((left, right, is_fine) in sides)| {
        // Facts in nanoseconds between instants in microseconds, or both in numbers of one kind.
        let (left_type, right_type, unit) = match is_fine {
            true => ("Timestamp(Microsecond, Some(\"UTC\"))", "Timestamp(Nanosecond, Some(\"UTC\"))", 1_000),
            false => ("Int64", "Int64", 1),
        };
        let right: Vec<Row> = right.into_iter().map(|(k, t)| (k, t.map(|t| if is_fine { t / 250 * 250 } else { t / 1_000 }))).collect();
        for operator in [">", ">=", "<", "<="] {
            let sql = format!(
                "SELECT b.i FROM (VALUES {}) AS a(i, k, t) ASOF JOIN (VALUES {}) AS b(i, k, t) \
                 MATCH_CONDITION (a.t {operator} b.t) ON a.k = b.k ORDER BY a.i",
                values(left.iter().enumerate(), left_type),
                values(right.iter().enumerate(), right_type),
            );
            let expected = left.iter().map(|&(k, at)| {
                let (k, at) = (k?, at? * unit);
                let fits = |t: i64| match operator {
                    ">" => t < at,
                    ">=" => t <= at,
                    "<" => t > at,
                    _ => t >= at,
                };
                let matching = right.iter().enumerate().filter_map(|(i, row)| (row.0? == k && fits(row.1?)).then_some((row.1?, i)));
                // Of one instant the larger value, which here is the later row.
                let best = matching.max_by_key(|&(t, i)| (if operator.starts_with('>') { t } else { -t }, i));
                best.map(|(_, i)| i)
            });
            let expected: Vec<String> = expected.map(|i| i.map_or(String::new(), |i| i.to_string())).collect();
            let found = runtime.block_on(async { cells(&memory().await, &sql, end()).await });
            prop_assert_eq!(found, expected, "{}", sql);
        }
    });
}

/// DataFusion finds the column of a filter below a join by its name: where both sides have the name it must not look.
#[tokio::test]
async fn a_filter_above_an_outer_join_is_about_the_column_that_it_names() {
    let (dir, store) = (temp_dir(), memory().await);
    let at_once = || FactTable::new("at", KnownAt::after(TimeDelta::zero())).zone("UTC".parse().unwrap());
    let seconds = |seconds: Vec<i64>| Arc::new(TimestampSecondArray::from(seconds)) as ArrayRef;
    let v: ArrayRef = Arc::new((0..12).map(|i| (i % 6 != 0).then_some(i)).collect::<Int64Array>());
    table(&store, dir.path(), "r", at_once(), &[("k", ints(0..12)), ("v", v), ("at", seconds((0..12).collect()))]).await;
    let narrow: ArrayRef = Arc::new(datafusion::arrow::array::Int32Array::from(vec![1, 2]));
    let late = seconds(vec![9_000_000_000, 9_000_000_001]);
    table(&store, dir.path(), "d", at_once(), &[("k", narrow), ("v", ints([5, 6])), ("at", late)]).await;
    for (condition, rows) in
        [("a.v IS NULL", "12"), ("coalesce(a.v, 0) = 0", "12"), ("b.v IS NULL", "2"), ("a.v IS NOT NULL", "0")]
    {
        for join in ["d a RIGHT JOIN r b ON a.k = b.k", "r b LEFT JOIN d a ON a.k = b.k", "d a FULL JOIN r b ON a.k = b.k"] {
            let sql = format!("SELECT a.k, a.v, b.k, b.v FROM {join} WHERE {condition}");
            let found = store.sql(&sql, end()).await.unwrap().collect().await.unwrap();
            assert_eq!(found.iter().map(|batch| batch.num_rows()).sum::<usize>().to_string(), rows, "{sql}");
            let sorted = store.sql(&format!("{sql} ORDER BY b.v DESC NULLS FIRST LIMIT 3"), end()).await.unwrap();
            let found = sorted.collect().await.unwrap();
            let expected = rows.parse::<usize>().unwrap().min(3);
            assert_eq!(found.iter().map(|batch| batch.num_rows()).sum::<usize>(), expected, "{sql}");
        }
    }
}
