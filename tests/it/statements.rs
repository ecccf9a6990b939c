//! What a statement may hold: nothing that answers differently tomorrow, nothing that the planner would ignore, nothing so
//! deep that planning would not come back.

use asof::{
    AsOf, Error, FeatureSet, FeatureStore, StoreOptions,
    encoder::Number,
    temporal::{Spine, Window},
};

use crate::{
    sql::{end, rides_and_fares},
    support::{answer, cells},
};

async fn refusal(store: &FeatureStore, sql: &str) -> Error {
    match store.sql(sql, end()).await {
        Ok(rows) => match rows.collect().await {
            Ok(rows) => panic!("{sql}: {rows:?}"),
            Err(error) => error.into(),
        },
        Err(error) => error,
    }
}

/// Queries with the name of what makes them change from run to run.
const UNSTEADY: [(&str, &str); 16] = [
    ("SELECT * FROM generate_series(now() - INTERVAL '2 seconds', now(), INTERVAL '1 second')", "now"),
    ("SELECT * FROM range(0, CAST(date_part('second', now()) AS BIGINT) + 1)", "now"),
    ("SELECT * FROM GENERATE_SERIES(0, CAST(random() * 10 AS BIGINT))", "random"),
    ("SELECT * FROM (VALUES (current_date), (DATE '2014-01-01')) AS t(d)", "current_date"),
    ("SELECT * FROM rides LIMIT CAST(date_part('second', NOW()) AS BIGINT)", "now"),
    ("SELECT * FROM rides OFFSET CAST(random() AS BIGINT)", "random"),
    ("SELECT CURRENT_TIMESTAMP", "now"),
    ("SELECT current_time", "current_time"),
    ("SELECT today()", "current_date"),
    ("SELECT uuid()", "uuid"),
    ("SELECT \"now\"()", "now"),
    ("SELECT count(*) FILTER (WHERE at < now()) FROM rides", "now"),
    ("SELECT row_number() OVER (ORDER BY random()) FROM rides", "random"),
    ("SELECT id FROM rides ORDER BY random()", "random"),
    (
        "SELECT * FROM trailing((SELECT id, zone, now() AS at FROM rides), 'at', 'fares', 'zone = pickup_zone', 'all', 'count(*) AS n')",
        "now",
    ),
    ("WITH t AS (SELECT 1 WHERE EXISTS (SELECT 1 FROM rides r WHERE r.at < now())) SELECT * FROM t", "now"),
];

#[tokio::test]
async fn what_changes_from_run_to_run_is_refused_before_it_is_planned() {
    let (_dir, store) = rides_and_fares().await;
    for (i, (sql, name)) in UNSTEADY.into_iter().enumerate() {
        for sql in [sql.to_owned(), format!("EXPLAIN {sql}"), format!("EXPLAIN ANALYZE {sql}")] {
            let refused = refusal(&store, &sql).await;
            assert!(matches!(&refused, Error::Volatile { function, .. } if function == name), "{sql}: {refused}");
        }
        let refused = store.ctas("kept", sql).await.unwrap_err();
        assert!(matches!(&refused, Error::Volatile { .. }), "{sql}: {refused}");
        let set = FeatureSet::rows(&format!("unsteady_{i}_v1"), sql).table("rides").table("fares").event_time("at");
        if let Ok(set) = set.encode(Number::of("value")).build() {
            store.register(set).unwrap();
            let refused = store.materialize(&format!("unsteady_{i}_v1"), end()).await.unwrap_err();
            assert!(matches!(&refused, Error::Volatile { .. }), "{sql}: {refused}");
        }
    }
    let spine = Spine::new(store.sql("SELECT * FROM rides", end()).await.unwrap(), "at");
    for filter in ["began < now()", "began < current_date", "random() < 0.5"] {
        let window = Window::of(store.facts("fares", end()).await.unwrap()).on_columns("zone", "pickup_zone");
        let window = window.all_before([asof::Aggregate::count().filter(filter)]);
        assert!(matches!(spine.clone().window([window]), Err(Error::Volatile { .. })), "{filter}");
    }
}

#[tokio::test]
async fn what_is_the_same_tomorrow_is_answered() {
    let (_dir, store) = rides_and_fares().await;
    assert_eq!(cells(&store, "SELECT * FROM generate_series(1, 3)", end()).await, ["1", "2", "3"]);
    assert_eq!(cells(&store, "SELECT value FROM RANGE(1, 3) AS r", end()).await, ["1", "2"]);
    let days = "SELECT count(*) FROM generate_series(TIMESTAMP '2014-01-01', TIMESTAMP '2014-01-03', INTERVAL '1 day')";
    assert_eq!(cells(&store, days, end()).await, ["3"]);
    let joined = "SELECT s.value, r.id FROM generate_series(1, 2) AS s JOIN rides r ON r.id = s.value ORDER BY 1";
    assert_eq!(cells(&store, joined, end()).await, ["1 1", "2 2"]);
    assert_eq!(cells(&store, "SELECT date_trunc('day', at) = at FROM rides LIMIT 1", end()).await, ["false"]);
}

/// Clauses that DataFusion's planner ignores, and some that it refuses in words of its own; each with what the
/// refusal names.
const DROPPED: [(&str, &str); 26] = [
    ("SELECT * FROM rides TABLESAMPLE (10 PERCENT)", "TABLESAMPLE"),
    ("SELECT * FROM rides TABLESAMPLE BERNOULLI (10) REPEATABLE (1)", "TABLESAMPLE"),
    ("SELECT * FROM (SELECT * FROM rides) TABLESAMPLE (10 PERCENT)", "TABLESAMPLE"),
    ("SELECT id FROM rides WHERE id IN (SELECT id FROM rides TABLESAMPLE (3 ROWS))", "TABLESAMPLE"),
    ("SELECT * FROM rides FOR UPDATE", "FOR UPDATE"),
    ("SELECT * FROM rides FOR SHARE", "FOR UPDATE or FOR SHARE"),
    ("SELECT * FROM rides FOR SYSTEM_TIME AS OF '2014-01-01'", "a version of `rides`"),
    ("SELECT * FROM rides WITH (NOLOCK)", "hints for `rides`"),
    ("SELECT * FROM rides PARTITION (p0)", "PARTITION of `rides`"),
    ("SELECT * FROM generate_series(1, 3) WITH ORDINALITY", "WITH ORDINALITY"),
    ("SELECT * FROM rides PREWHERE id = 1", "PREWHERE"),
    ("SELECT * FROM rides SETTINGS max_threads = 1", "SETTINGS"),
    ("SELECT * FROM rides FORMAT JSON", "FORMAT"),
    ("SELECT TOP 2 * FROM rides", "TOP"),
    ("SELECT * FROM rides FETCH FIRST 2 ROWS WITH TIES", "FETCH"),
    ("SELECT * FROM rides LATERAL VIEW explode(id) t AS x", "LATERAL VIEW"),
    ("SELECT id FROM rides CONNECT BY id = PRIOR zone", "CONNECT BY"),
    ("SELECT zone, count(*) FROM rides GROUP BY zone WITH ROLLUP", "WITH ROLLUP"),
    ("SELECT zone, count(*) FROM rides GROUP BY zone WITH TOTALS", "WITH ROLLUP, CUBE or TOTALS"),
    ("SELECT id FROM rides SORT BY id", "SORT BY"),
    ("SELECT sum(id) OVER (w ORDER BY id) FROM rides WINDOW w AS (PARTITION BY zone)", "based on `w`"),
    ("SELECT abs(DISTINCT id) FROM rides", "`abs` works on one row"),
    ("SELECT abs(id) FILTER (WHERE id > 1) FROM rides", "`abs` works on one row"),
    ("SELECT abs(id) OVER (ORDER BY id) FROM rides", "`abs` works on one row"),
    ("SELECT * FROM rides AS r(a INT, b INT, c INT)", "types of columns in the alias"),
    ("SELECT AS STRUCT id FROM rides", "AS STRUCT"),
];

#[tokio::test]
async fn what_the_planner_would_ignore_is_refused() {
    let (_dir, store) = rides_and_fares().await;
    for (sql, says) in DROPPED {
        let refused = refusal(&store, sql).await;
        // Some of these are no SQL for the parser of today: then they are refused too.
        let is_ours =
            matches!(&refused, Error::Statement { .. } | Error::Definition { .. }) && refused.to_string().contains(says);
        let is_the_parsers = matches!(&refused, Error::Query(_)) && refused.to_string().contains(" at Line: ");
        assert!(is_ours || is_the_parsers, "{sql}: {refused:?}");
    }
    // These are refused by us: should the parser stop to read one, the list above would prove nothing of it.
    for (sql, says) in
        [DROPPED[0], DROPPED[2], DROPPED[4], DROPPED[10], DROPPED[13], DROPPED[14], DROPPED[17], DROPPED[20], DROPPED[21]]
    {
        assert!(refusal(&store, sql).await.to_string().contains(says), "{sql}");
    }
    for sql in [
        "SELECT zone, count(*) FROM rides GROUP BY ROLLUP (zone)",
        "SELECT id FROM rides QUALIFY row_number() OVER (ORDER BY id) = 1",
        "SELECT DISTINCT ON (zone) id FROM rides ORDER BY zone, id",
        "SELECT * EXCLUDE (id) FROM rides",
    ] {
        assert!(answer(&store, sql, end()).await.is_ok(), "{sql}");
    }
}

#[tokio::test]
async fn only_what_asks_is_a_query() {
    let (_dir, store) = rides_and_fares().await;
    for sql in [
        "SET datafusion.execution.batch_size = 1",
        "RESET datafusion.execution.batch_size",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "CREATE FUNCTION f(BIGINT) RETURNS BIGINT RETURN 1",
        "CREATE VIEW v AS SELECT 1",
        "COPY rides TO 'x.parquet'",
        "EXPLAIN COPY rides TO 'x.parquet'",
        "BEGIN",
        "SHOW ALL",
        "SHOW FUNCTIONS",
        "DELETE FROM rides",
        "TRUNCATE TABLE rides",
    ] {
        let refused = store.sql(sql, end()).await.map(|_| ()).unwrap_err();
        assert!(matches!(&refused, Error::Statement { .. } | Error::Query(_)), "{sql}: {refused:?}");
    }
    let refused = store.sql("SELECT * INTO copied FROM rides", end()).await.map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("not supported"), "{refused}");
    for sql in [
        "SELECT * FROM 'rides.parquet'",
        "SELECT * FROM read_parquet('rides.parquet')",
        "SELECT * FROM information_schema.nothing",
    ] {
        assert!(store.sql(sql, end()).await.is_err(), "{sql}");
    }
}

#[tokio::test]
async fn tables_and_columns_are_shown() {
    let (_dir, store) = rides_and_fares().await;
    assert_eq!(cells(&store, "SHOW TABLES", end()).await, ["default fares", "default rides"]);
    assert_eq!(cells(&store, "show tables in default like 'r%'", end()).await, ["default rides"]);
    assert_eq!(cells(&store, "SHOW TABLES FROM nothing", end()).await, Vec::<String>::new());
    let columns = cells(&store, "SHOW COLUMNS FROM rides", end()).await;
    assert_eq!(
        columns[..2],
        ["id Int64 NO", "zone Int64 NO"].map(|line| line.replace("NO", columns[0].rsplit(' ').next().unwrap()))
    );
    assert!(columns[2].starts_with("at Timestamp"), "{columns:?}");
    assert_eq!(cells(&store, "SHOW COLUMNS IN default.rides", end()).await, columns);
    let refused = store.sql("SHOW COLUMNS FROM nothing", end()).await.map(|_| ()).unwrap_err();
    assert!(matches!(&refused, Error::UnknownTable { table, .. } if table.contains("nothing")), "{refused}");
    assert!(answer(&store, "DESCRIBE rides", end()).await.unwrap().contains("zone"));
}

fn nested(open: &str, inner: &str, close: &str, times: usize) -> String {
    format!("{}{inner}{}", open.repeat(times), close.repeat(times))
}

/// Statements as deep as their number says.
fn deep(levels: usize) -> Vec<(&'static str, String)> {
    let chain = |term: &str, operator: &str| vec![term; levels].join(operator);
    vec![
        ("a sum", format!("SELECT {}", chain("1", " + "))),
        ("a sum of columns", format!("SELECT {} FROM rides", chain("id", " - "))),
        ("a filter", format!("SELECT id FROM rides WHERE {}", chain("id = 3", " OR "))),
        ("a filter over cases", format!("SELECT {}", chain("CASE WHEN true THEN 1 ELSE 2 END", " + "))),
        ("texts", format!("SELECT {}", chain("'x'", " || "))),
        ("distinct", format!("SELECT {}", chain("true", " IS DISTINCT FROM "))),
        ("casts", format!("SELECT 1{}", "::BIGINT".repeat(levels))),
        ("unions", chain("SELECT 1", " UNION ALL ")),
        (
            "joins",
            format!("SELECT 1 FROM rides r0{}", (1..levels).map(|i| format!(" CROSS JOIN (SELECT 1) r{i}")).collect::<String>()),
        ),
        ("parentheses", format!("SELECT {}", nested("(", "1", ")", levels))),
        ("negations", format!("SELECT {}", nested("NOT ", "true", "", levels))),
        ("signs", format!("SELECT {}", nested("- ", "1", "", levels))),
        ("functions", format!("SELECT {}", nested("abs(", "1", ")", levels))),
        ("subqueries", format!("SELECT * FROM {}", nested("(SELECT * FROM ", "rides", ")", levels))),
        ("scalar subqueries", format!("SELECT {}", nested("(SELECT ", "1", ")", levels))),
        ("cases", format!("SELECT {}", nested("CASE WHEN true THEN ", "1", " END", levels))),
    ]
}

#[test]
fn a_statement_that_is_too_deep_is_refused_and_one_below_is_answered() {
    // As threads of a service have it.
    let small = std::thread::Builder::new().stack_size(2 << 20).spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_dir, store) = rides_and_fares().await;
            for (what, sql) in deep(8_000).into_iter().chain(deep(100_000).into_iter().take(8)) {
                let refused = store.sql(&sql, end()).await.map(|_| ()).unwrap_err();
                assert!(matches!(&refused, Error::Statement { reason, .. } if reason.contains("too deep")), "{what}: {refused}");
                assert!(refused.to_string().len() < 600, "{what}: {refused}");
                assert!(matches!(store.ctas("deep", &sql).await, Err(Error::Statement { .. })), "{what}");
            }
            for (what, sql) in deep(20).into_iter().take(8) {
                let rows = store.sql(&sql, end()).await.unwrap_or_else(|e| panic!("{what}: {e}"));
                assert!(rows.collect().await.is_ok(), "{what}");
            }
        });
    });
    small.unwrap().join().unwrap();
}

#[tokio::test]
async fn an_error_of_the_planner_is_one_line_that_says_what_to_write() {
    let (dir, store) = rides_and_fares().await;
    let columns = [("requestId", crate::sql::ints([1])), ("eventTime", crate::times::utc_micros([0]))];
    crate::sql::table(&store, dir.path(), "clicks", crate::sql::at_once("eventTime"), &columns).await;
    let refused = refusal(&store, "SELECT requestId FROM clicks").await;
    assert!(matches!(&refused, Error::UnknownColumn { column, .. } if column == "requestid"), "{refused:?}");
    let told = refused.to_string();
    assert!(told.contains("\"requestId\"") && told.contains("quote it") && told.contains("eventTime"), "{told}");
    let refused = refusal(&store, "SELECT c.eventtime FROM clicks AS c").await.to_string();
    assert!(refused.contains("`c.eventtime`") && refused.contains("\"eventTime\""), "{refused}");
    for sql in [
        "SELECT id FROM rides GROUP BY zone",
        "SELECT (id + FROM rides",
        "SELECT sum(at) FROM rides",
        "SELECT nothing(id) FROM rides",
    ] {
        let refused = refusal(&store, sql).await;
        assert!(matches!(refused, Error::Query(_)), "{sql}: {refused}");
        let told = refused.to_string();
        assert!(!told.contains('\n') && told.len() < 500, "{sql}: {told}");
        // The plan is in the variant, not in a second message.
        assert!(std::error::Error::source(&refused).is_none());
    }
}

#[tokio::test]
async fn all_facts_are_those_as_of_the_end_of_time() {
    let (root, store) =
        crate::support::store_of(&[crate::support::trip("2014-01-05", 1.0), crate::support::trip("2114-01-05", 2.0)]).await;
    let all = AsOf::END_OF_TIME;
    assert_eq!(cells(&store, "SELECT count(*) FROM nyc_taxi", all).await, ["2"]);
    assert_eq!(store.facts("nyc_taxi", all).await.map(|_| ()).map_err(|e| e.to_string()), Ok(()));
    let sharded = store.shards("nyc_taxi", 2, all).await.unwrap().collect().await.unwrap();
    assert_eq!(sharded.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
    // An extract of all facts can be asked about then, and at no earlier instant.
    let made = store.ctas("everything", "SELECT * FROM nyc_taxi").await.unwrap();
    let count = format!("SELECT count(*) FROM {}", made.table());
    assert_eq!(cells(&store, &count, all).await, ["2"]);
    assert!(store.sql(&count, "2200-01-01".parse().unwrap()).await.is_err());
    assert_eq!(all.to_string(), "the end of time");
    drop(root);
    let _ = StoreOptions::default();
}
