//! Which declarations hold in an `ASOF JOIN` and in `trailing` when a query does not name the table itself: through common table
//! expressions, subqueries, aliases and joins.

#![allow(unreachable_pub)]

use std::{path::Path, sync::Arc};

use asof::{
    AsOf, Error, FeatureStore,
    catalog::{FactTable, KnownAt, TimeColumn},
    time::TimeUnit,
};
use chrono::TimeDelta;
use datafusion::arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray};
use tempfile::TempDir;

use crate::{
    sql::{at_once, end, ints, memory, minute, rides_and_fares, table},
    support::{answer, cells, instant, temp_dir},
    times::utc_micros,
};

async fn trimmed(store: &FeatureStore, sql: &str) -> Vec<String> {
    cells(store, sql, end()).await.iter().map(|row| row.trim().to_owned()).collect()
}

async fn refusal(store: &FeatureStore, sql: &str) -> Error {
    store.sql(sql, end()).await.map(|_| ()).unwrap_err()
}

/// Local times, as a clock shows them.
fn local(texts: &[&str]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(texts.iter().map(|text| instant(&format!("{text}Z")).micros())))
}

/// Every way to write the facts of `fares` without naming the table: each has the columns `zone`, `t` and `v`.
const FARES: [&str; 8] = [
    "(SELECT pickup_zone AS zone, began AS t, amount AS v FROM fares)",
    "(SELECT zone, t, v FROM (SELECT amount AS v, began AS t, pickup_zone AS zone, unused FROM fares) WHERE unused = 0)",
    "(WITH c AS (SELECT pickup_zone AS zone, began AS t, ended AS u, amount AS v FROM fares) SELECT zone, t, v FROM c)",
    "(SELECT pickup_zone AS zone, began AS t, began, amount AS v FROM fares ORDER BY amount)",
    "(SELECT pickup_zone AS zone, began AS t, amount AS v FROM fares WHERE pickup_zone IN (SELECT zone FROM rides))",
    "(SELECT f.pickup_zone AS zone, f.began AS t, amount AS v, began AS ended FROM fares AS f WHERE amount > 0)",
    "(SELECT zone, t, v FROM fares AS f(zone, t, known, v, rest))",
    "(SELECT pickup_zone + 0 AS zone, began AS t, amount * 1.0 AS v FROM fares)",
];

#[tokio::test]
async fn what_was_not_known_stays_hidden_however_the_facts_are_written() {
    let (_dir, store) = rides_and_fares().await;
    let by = |right: &str, operator: &str| {
        format!(
            "SELECT r.id, f.v FROM rides AS r ASOF JOIN {right} AS f MATCH_CONDITION (r.at {operator} f.t) ON r.zone = f.zone ORDER BY r.id"
        )
    };
    // Fares of minute 0, 10 and 19 are known at 10, 20 and 29; zone 2 has one of minute 1.
    for right in FARES {
        assert_eq!(trimmed(&store, &by(right, ">")).await, ["1", "2", "3 10.0", "4 10.0", "5 41.0", "6"], "{right}");
        assert_eq!(trimmed(&store, &by(right, ">=")).await, ["1", "2 10.0", "3 10.0", "4 20.0", "5 41.0", "6"], "{right}");
        assert_eq!(trimmed(&store, &by(right, "<")).await, ["1 20.0", "2 30.0", "3 30.0", "4", "5", "6"], "{right}");
    }
    let renamed = "SELECT r.id, f.v FROM rides AS r ASOF JOIN fares AS f(zone, t, u, v, w) MATCH_CONDITION (r.at > f.t) \
                   ON r.zone = f.zone ORDER BY r.id";
    assert_eq!(trimmed(&store, renamed).await, ["1", "2", "3 10.0", "4 10.0", "5 41.0", "6"]);
    let cte = "WITH f AS (SELECT pickup_zone, began, amount FROM fares), g AS (SELECT * FROM f) \
               SELECT id, amount FROM rides ASOF JOIN g MATCH_CONDITION (at > began) ON zone = pickup_zone ORDER BY id";
    assert_eq!(trimmed(&store, cte).await, ["1", "2", "3 10.0", "4 10.0", "5 41.0", "6"]);
    // The plan says so, and the columns of the result are those that are written.
    let plan = answer(&store, &format!("EXPLAIN {cte}"), end()).await.unwrap();
    assert!(plan.contains("began < ") && plan.contains("ended < ") && !plan.contains("unused"), "{plan}");
    let all = store.sql(&cte.replace("id, amount", "*"), end()).await.unwrap();
    let names: Vec<_> = all.schema().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["id", "zone", "at", "pickup_zone", "began", "amount"]);
}

#[tokio::test]
async fn delays_identities_and_tie_breaks_come_along() {
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
    let after = FactTable::new("t", KnownAt::after(TimeDelta::minutes(5)));
    table(&store, dir.path(), "later", after.tie_break("rank"), &columns).await;
    let moved = [
        columns[0].clone(),
        ("t", utc_micros([0, 10, 11, 1].map(minute))),
        columns[2].clone(),
        columns[3].clone(),
        ("rank", ints([0, 1, 2, 2])),
    ];
    table(&store, dir.path(), "corrected", FactTable::new("t", KnownAt::column("known")).identity("rank"), &moved).await;
    let sql = |facts: &str| {
        format!("SELECT b.v FROM spine AS a ASOF JOIN {facts} AS b MATCH_CONDITION (a.at > b.x) ON a.k = b.k ORDER BY a.at")
    };
    // Neither the delay, nor what breaks ties, nor what tells versions of a fact is among the columns that are selected.
    // Of the first instant's two facts, which tie in all of that, all columns of the table decide: `known` does.
    assert_eq!(trimmed(&store, &sql("(SELECT k, t AS x, v FROM later)")).await, ["", "1", "7", "7"]);
    assert_eq!(trimmed(&store, &sql("(SELECT k, t AS x, v FROM corrected)")).await, ["5", "5", "7", "9"]);
    assert_eq!(trimmed(&store, &sql("(SELECT k, t AS x, v FROM corrected WHERE rank < 9)")).await, ["5", "5", "7", "9"]);
    // A filter that a correction may change would keep what is replaced.
    let refused = refusal(&store, &sql("(SELECT k, t AS x, v FROM corrected WHERE v > 5)")).await.to_string();
    assert!(refused.contains("correction") && refused.contains("known_at(x, "), "{refused}");
    // Another column than the event time takes its place only where it is known when the fact was known.
    let refused = refusal(&store, &sql("(SELECT k, known AS x, v FROM later)")).await.to_string();
    assert!(refused.contains("table `b`") && refused.contains("`x`") && refused.contains("known_at(x, "), "{refused}");
    let said = sql("(SELECT k, known AS x, v FROM later)").replace("b.x", "known_at(b.x, INTERVAL '5 minutes')");
    assert_eq!(trimmed(&store, &said).await, ["", "5", "7", "1"]);
}

#[tokio::test]
async fn another_column_than_the_event_time_does_not_make_a_fact_known() {
    let (dir, store) = (temp_dir(), memory().await);
    table(&store, dir.path(), "asks", at_once("at"), &[("id", ints(0..4)), ("at", utc_micros([5, 15, 25, 35].map(minute)))])
        .await;
    // Booked at minute 0, begun at 10, ended and known at 20.
    let columns: [(&str, ArrayRef); 4] = [
        ("booked", utc_micros([minute(0)])),
        ("began", utc_micros([minute(10)])),
        ("ended", utc_micros([minute(20)])),
        ("fare", ints([9])),
    ];
    table(&store, dir.path(), "known_late", FactTable::new("began", KnownAt::column("ended")), &columns).await;
    table(&store, dir.path(), "known_at_once", at_once("began"), &columns).await;
    let by =
        |right: &str| format!("SELECT id, fare FROM asks ASOF JOIN {right} AS f MATCH_CONDITION (at > f.booked) ORDER BY id");
    assert_eq!(trimmed(&store, &by("known_late")).await, ["0", "1", "2 9", "3 9"]);
    assert_eq!(trimmed(&store, &by("(SELECT booked, fare FROM known_late)")).await, ["0", "1", "2 9", "3 9"]);
    assert_eq!(trimmed(&store, &by("known_at_once")).await, ["0", "1 9", "2 9", "3 9"]);
    let computed = by("(SELECT booked - INTERVAL '1 hour' AS booked, fare FROM known_late)");
    assert_eq!(trimmed(&store, &computed).await, ["0", "1", "2 9", "3 9"]);
}

/// Rows that are made of several facts, and what the refusal names as the reason.
const MADE: [(&str, &str); 7] = [
    (
        "(SELECT pickup_zone AS zone, began AS t, max(ended) AS u, sum(amount) AS v FROM fares GROUP BY pickup_zone, began)",
        "aggregates",
    ),
    (
        "(SELECT f.pickup_zone AS zone, f.began AS t, f.ended AS u, f.amount AS v FROM fares f JOIN rides r ON r.zone = f.pickup_zone)",
        "joins",
    ),
    ("(SELECT DISTINCT pickup_zone AS zone, began AS t, ended AS u, amount AS v FROM fares)", "DISTINCT"),
    (
        "(SELECT pickup_zone AS zone, began AS t, ended AS u, sum(amount) OVER (ORDER BY began) AS v FROM fares)",
        "window functions",
    ),
    ("(SELECT pickup_zone AS zone, began AS t, ended AS u, amount AS v FROM fares ORDER BY began DESC LIMIT 2)", "LIMIT"),
    (
        "(SELECT pickup_zone AS zone, began AS t, ended AS u, amount AS v FROM fares UNION ALL SELECT pickup_zone, began, ended, amount FROM fares)",
        "several queries",
    ),
    (
        "(SELECT zone, at AS t, at AS u, n AS v FROM trailing(rides, at, fares, 'zone = pickup_zone', 'all', 'count(*) AS n'))",
        "`trailing`",
    ),
];

#[tokio::test]
async fn rows_that_are_made_of_others_must_say_when_they_are_known() {
    let (_dir, store) = rides_and_fares().await;
    let by = |right: &str, time: &str| {
        format!(
            "SELECT r.id, f.v FROM rides AS r ASOF JOIN {right} AS f MATCH_CONDITION (r.at > {time}) ON r.zone = f.zone ORDER BY r.id"
        )
    };
    for (right, why) in MADE {
        let refused = refusal(&store, &by(right, "f.t")).await.to_string();
        assert!(
            refused.contains("table `f`") && refused.contains(why) && refused.contains("known_at(t, t)"),
            "{right}: {refused}"
        );
        // A look forward is about no known-at.
        store.sql(&by(right, "f.t").replace(" > ", " < "), end()).await.unwrap();
    }
    let (grouped, joined) = (MADE[0].0, MADE[1].0);
    for right in [grouped, joined] {
        let at_its_end = trimmed(&store, &by(right, "known_at(f.t, f.u)")).await;
        assert_eq!(at_its_end[..4], ["1", "2", "3 10.0", "4 10.0"], "{right}");
        let so_long_after = trimmed(&store, &by(right, "known_at(f.t, INTERVAL '10 minutes')")).await;
        assert_eq!(so_long_after, at_its_end, "{right}");
        let at_once = trimmed(&store, &by(right, "known_at(f.t, f.t)")).await;
        assert_eq!(at_once[..4], ["1 10.0", "2 10.0", "3 20.0", "4 30.0"], "{right}");
    }
    let cases = [
        (
            by("fares", "known_at(f.began, f.began)").replace("f.zone", "f.pickup_zone").replace("f.v", "f.amount"),
            "leave `known_at` out",
        ),
        (by(grouped, "known_at(f.t)"), "known_at(t, INTERVAL '1 hour')"),
        (by(grouped, "known_at(f.t, INTERVAL '-1 hour')"), "before they happen"),
        (by(grouped, "known_at(f.t, INTERVAL '1 month')"), "months"),
        (by(grouped, "known_at(f.t, r.at)"), "a column of table `f`"),
        (by(grouped, "known_at(f.t, f.u)").replace(" > ", " < "), "looks forward"),
    ];
    for (sql, says) in cases {
        let refused = refusal(&store, &sql).await.to_string();
        assert!(refused.contains(says), "{sql}: {refused}");
    }
    // What an extract holds are rows whose facts it does not know.
    let made =
        store.ctas("fares_again", "SELECT pickup_zone AS zone, began AS t, ended AS u, amount AS v FROM fares").await.unwrap();
    let name = made.table().to_string();
    let refused = store.sql(&by(&name, "f.t"), AsOf::END_OF_TIME).await.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("no facts of the catalog") && refused.contains("known_at(t, t)"), "{refused}");
}

#[tokio::test]
async fn the_age_of_a_fact_can_be_bounded() {
    let (dir, store) = (temp_dir(), memory().await);
    table(&store, dir.path(), "asks", at_once("at"), &[("id", ints(0..4)), ("at", utc_micros([10, 15, 16, 30].map(minute)))])
        .await;
    table(&store, dir.path(), "facts", at_once("t"), &[("t", utc_micros([5, 20].map(minute))), ("v", ints([5, 20]))]).await;
    let by =
        |condition: &str| format!("SELECT id, v FROM asks AS a ASOF JOIN facts AS b MATCH_CONDITION ({condition}) ORDER BY id");
    // One that is exactly as old counts.
    for bound in [
        "b.t >= a.at - INTERVAL '10 minutes'",
        "a.at - INTERVAL '10' MINUTE <= b.t",
        "a.at <= b.t + INTERVAL '10 minutes'",
        "(a.at - b.t <= INTERVAL '600 seconds')",
        "INTERVAL '10 minutes' >= (a.at - b.t)",
        "a.at - INTERVAL '5 minutes' <= b.t + INTERVAL '5 minutes'",
    ] {
        for condition in [format!("a.at > b.t AND {bound}"), format!("{bound} AND (a.at >= b.t)")] {
            assert_eq!(trimmed(&store, &by(&condition)).await, ["0 5", "1 5", "2", "3 20"], "{condition}");
        }
    }
    // Forward: not further away than that.
    let next = by("a.at < b.t AND b.t <= a.at + INTERVAL '5 minutes'");
    assert_eq!(trimmed(&store, &next).await, ["0", "1 20", "2 20", "3"]);
    let plan =
        answer(&store, &format!("EXPLAIN {}", by("a.at > b.t AND b.t >= a.at - INTERVAL '10 minutes'")), end()).await.unwrap();
    assert!(plan.contains("max_age"), "{plan}");
    for (condition, says) in [
        ("a.at > b.t AND b.t > a.at - INTERVAL '10 minutes'", "write >="),
        ("a.at > b.t AND b.t <= a.at - INTERVAL '10 minutes'", "at least"),
        ("a.at > b.t AND b.t >= a.at - INTERVAL '1 month'", "months"),
        ("a.at > b.t AND b.v >= a.id - INTERVAL '1 day'", "the two columns"),
        ("a.at > b.t AND b.t <= a.at + INTERVAL '1 day'", "a look forward"),
        ("a.at > b.t AND a.at > b.t", "once"),
        ("b.t >= a.at - INTERVAL '10 minutes'", "once"),
    ] {
        let refused = refusal(&store, &by(condition)).await.to_string();
        assert!(refused.contains(says), "{condition}: {refused}");
    }
}

/// Tokyo's mornings and what was known then: `requests` (zone-less, by Tokyo's clock) and `readings` in UTC.
pub async fn tokyo_tables(dir: &Path, store: &FeatureStore) {
    let zone = || "Asia/Tokyo".parse().unwrap();
    // Noon in Tokyo is three o'clock UTC.
    let requests: [(&str, ArrayRef); 3] =
        [("k", ints([1, 1])), ("at", local(&["2014-06-01T12:00:00", "2014-06-01T12:00:01"])), ("id", ints([0, 1]))];
    table(store, dir, "requests", at_once("at").zone(zone()), &requests).await;
    let facts = ["2014-06-01T02:00:00Z", "2014-06-01T03:00:00Z", "2014-06-01T11:00:00Z"].map(|text| instant(text).micros());
    table(store, dir, "readings", at_once("t"), &[("k", ints([1; 3])), ("t", utc_micros(facts)), ("v", ints([2, 3, 11]))]).await;
}

async fn tokyo() -> (TempDir, FeatureStore) {
    let (dir, store) = (temp_dir(), memory().await);
    tokyo_tables(dir.path(), &store).await;
    (dir, store)
}

/// Every way to write the requests: each has the columns `id`, `k` and `at`.
const REQUESTS: [&str; 8] = [
    "requests",
    "(SELECT id, k, at FROM requests)",
    "(SELECT id, k, x AS at FROM (SELECT at AS x, k, id FROM requests WHERE id >= 0) ORDER BY x)",
    "(SELECT DISTINCT id, k, at FROM requests)",
    "(SELECT id, k, max(at) AS at FROM requests GROUP BY id, k)",
    "(SELECT r.id, r.k, r.at FROM requests r JOIN (SELECT DISTINCT k FROM readings) x ON r.k = x.k)",
    "(SELECT id, k, at FROM requests WHERE id = 0 UNION ALL SELECT id, k, at FROM requests WHERE id = 1)",
    "(SELECT id, k, at - INTERVAL '1 hour' + INTERVAL '1 hour' AS at FROM requests)",
];

#[tokio::test]
async fn local_times_of_the_left_are_read_by_the_clock_of_their_table() {
    let (_dir, store) = tokyo().await;
    for left in REQUESTS {
        let sql = format!(
            "SELECT a.id, b.v FROM {left} AS a ASOF JOIN readings AS b MATCH_CONDITION (a.at > b.t) ON a.k = b.k ORDER BY id"
        );
        assert_eq!(trimmed(&store, &sql).await, ["0 2", "1 3"], "{left}");
        let window = format!(
            "SELECT id, n, v FROM trailing({left}, at, readings, 'k', '1 day', 'count(*) AS n, max(v) AS v') ORDER BY id"
        );
        let window = window.replace("trailing(requests", "trailing('requests'");
        assert_eq!(trimmed(&store, &window).await, ["0 1 2", "1 2 3"], "{left}");
    }
    let cte = "WITH a AS (SELECT * FROM requests) SELECT a.id, b.v FROM a ASOF JOIN readings b MATCH_CONDITION (a.at > b.t) USING (k) ORDER BY id";
    assert_eq!(trimmed(&store, cte).await, ["0 2", "1 3"]);
    // A join of joins: the times of the first come through the second.
    let twice = "SELECT a.id, c.v FROM requests a ASOF JOIN readings b MATCH_CONDITION (a.at > b.t) ON a.k = b.k \
                 ASOF JOIN readings c MATCH_CONDITION (a.at > c.t) ON a.k = c.k ORDER BY id";
    assert_eq!(trimmed(&store, twice).await, ["0 2", "1 3"]);
    let looked_up = "SELECT x.id, y.v FROM (SELECT a.id, b.at FROM requests a ASOF JOIN requests b MATCH_CONDITION (a.at >= b.at) ON a.k = b.k) x \
                     ASOF JOIN readings y MATCH_CONDITION (x.at > y.t) ORDER BY id";
    assert_eq!(trimmed(&store, looked_up).await, ["0 2", "1 3"]);
    // The other way round: facts by Tokyo's clock, asked about in UTC.
    let back = "SELECT a.v, b.id FROM readings a ASOF JOIN (SELECT id, k, at AS s FROM requests) b MATCH_CONDITION (a.t >= b.s) ON a.k = b.k ORDER BY a.v";
    assert_eq!(trimmed(&store, back).await, ["2", "3 0", "11 1"]);
}

#[tokio::test]
async fn local_times_of_nobodys_clock_are_refused() {
    let (_dir, store) = tokyo().await;
    let bare = "(SELECT id, k, date_bin(INTERVAL '1 hour', at) AS at FROM requests)";
    let join = |left: &str| {
        format!("SELECT b.v FROM {left} AS a ASOF JOIN readings AS b MATCH_CONDITION (a.at > b.t) ON a.k = b.k ORDER BY b.v")
    };
    let window = |left: &str| format!("SELECT n FROM trailing({left}, at, readings, 'k', 'all', 'count(*) AS n') ORDER BY n");
    for sql in [
        join(bare),
        window(bare),
        join("(VALUES (1, TIMESTAMP '2014-06-01 12:00:00')) AS a(k, at)").replace("AS a(k, at) AS a", "AS a(k, at)"),
    ] {
        let refused = refusal(&store, &sql).await;
        assert!(
            matches!(&refused, Error::ColumnType { column, needed, .. } if column == "at" && needed.contains("AT TIME ZONE")),
            "{sql}: {refused}"
        );
    }
    let said = "(SELECT id, k, date_bin(INTERVAL '1 second', at) AT TIME ZONE 'Asia/Tokyo' AS at FROM requests)";
    assert_eq!(trimmed(&store, &join(said)).await, ["2", "3"]);
    assert_eq!(trimmed(&store, &window(said)).await, ["1", "2"]);
}

#[tokio::test]
async fn declared_units_come_along() {
    let (dir, store) = (temp_dir(), memory().await);
    let millis = |column: &str| TimeColumn::epoch(column, TimeUnit::Millisecond);
    let declared = FactTable::new(millis("t"), KnownAt::column(millis("known")));
    let columns: [(&str, ArrayRef); 3] = [("t", ints([1_000, 2_000])), ("known", ints([5_000, 2_500])), ("v", ints([1, 2]))];
    table(&store, dir.path(), "epochs", declared, &columns).await;
    let seconds = at_once(TimeColumn::epoch("at", TimeUnit::Second));
    let at: ArrayRef = Arc::new(Int64Array::from(vec![2, 3, 6]));
    table(&store, dir.path(), "asks", seconds, &[("id", ints(0..3)), ("at", at)]).await;
    let sql = "SELECT a.id, b.v FROM (SELECT id, at AS s FROM asks) a ASOF JOIN (SELECT t AS ms, v FROM epochs) b MATCH_CONDITION (a.s > b.ms) ORDER BY id";
    assert_eq!(trimmed(&store, sql).await, ["0", "1 2", "2 2"]);
    let windows =
        "SELECT id, n FROM trailing((SELECT id, at AS s, 1 AS k FROM asks), s, keyed, 'k', 'all', 'count(*) AS n') ORDER BY id";
    let keyed: [(&str, ArrayRef); 3] = [("k", ints([1, 1])), columns[0].clone(), columns[1].clone()];
    table(&store, dir.path(), "keyed", FactTable::new(millis("t"), KnownAt::column(millis("known"))), &keyed).await;
    assert_eq!(trimmed(&store, windows).await, ["0 0", "1 1", "2 2"]);
}

#[tokio::test]
async fn trailing_takes_queries_and_an_edge() {
    let (_dir, store) = rides_and_fares().await;
    let call = |spine: &str| format!("trailing({spine}, at, fares, 'zone = pickup_zone', 'all', 'count(*) AS n')");
    let rows = ["3 1", "4 1", "5 2"];
    for sql in [
        format!("SELECT id, n FROM {} WHERE n > 0 ORDER BY id", call("rides")),
        format!("SELECT id, n FROM {} WHERE n > 0 ORDER BY id", call("default.rides")),
        format!("SELECT id, n FROM {} WHERE n > 0 ORDER BY id", call("(SELECT * FROM rides WHERE id > 0)")),
        format!(
            "WITH mine AS (SELECT id, zone, at FROM rides) SELECT id, n FROM {} AS t WHERE t.n > 0 ORDER BY id",
            call("mine")
        ),
        format!("WITH mine AS (SELECT id, zone, at FROM rides) SELECT id, n FROM {} WHERE n > 0 ORDER BY id", call("'mine'")),
        format!(
            "SELECT id, n FROM {} WHERE trailing.n > 0 ORDER BY id",
            call("(SELECT id, zone, at + INTERVAL '1 day' - INTERVAL '1 day' AS at FROM rides)")
        ),
        format!(
            "SELECT id, max(n) FROM {} WHERE n > 0 GROUP BY id ORDER BY id",
            call(&format!("(SELECT id, zone, at FROM {})", call("rides")))
        ),
    ] {
        assert_eq!(cells(&store, &sql, end()).await, rows, "{sql}");
    }
    // The fare of minute 0 is known at minute 10: at that instant to an inclusive window only.
    let edge = |cutoff: &str| {
        format!(
            "SELECT id, n FROM trailing(rides, at, fares, 'zone = pickup_zone', '20 minutes', 'count(*) AS n', cutoff => '{cutoff}') WHERE n > 0 ORDER BY id"
        )
    };
    assert_eq!(cells(&store, &edge("exclusive"), end()).await, ["3 1", "4 1", "5 2"]);
    assert_eq!(cells(&store, &edge("inclusive"), end()).await, ["2 1", "3 1", "4 2", "5 2"]);
    assert!(answer(&store, &format!("EXPLAIN {}", edge("inclusive")), end()).await.unwrap().contains("<="));
}
