//! Presto's functions: every line of their documentation is asked, and what it does not show.

use asof::{
    Error, FeatureStore,
    catalog::{FactTable, KnownAt, TimeColumn},
    time::TimeUnit,
};
use chrono::TimeDelta;
use datafusion::arrow::array::{
    ArrayRef, Float64Array, Int64Array, Int64Builder, MapBuilder, StringBuilder, TimestampNanosecondArray,
};
use std::sync::Arc;

use crate::support::{answer, cells, instant, store, temp_dir, write_parquet};

async fn memory() -> FeatureStore {
    FeatureStore::open("memory://presto").await.unwrap()
}

/// The only cell of `SELECT <query>`.
async fn one(store: &FeatureStore, query: &str) -> String {
    let rows = cells(store, &format!("SELECT {query}"), instant("2015-01-01")).await;
    assert_eq!(rows.len(), 1, "{query}: {rows:?}");
    rows[0].clone()
}

#[tokio::test]
async fn every_line_of_the_documentation_holds() {
    let (store, mut asked) = (memory().await, 0);
    for line in include_str!("../../src/sql/functions/mod.rs").lines().filter_map(|line| line.strip_prefix("//! |")) {
        let columns: Vec<&str> = line.trim_end_matches(" |").split(" | ").collect();
        let [_, query, result] = columns[..] else { continue };
        let Some(query) = query.strip_prefix('`').and_then(|query| query.strip_suffix('`')) else { continue };
        assert_eq!(format!("`{}`", one(&store, query).await), result, "{query}");
        asked += 1;
    }
    assert!(asked >= 36, "{asked} lines were found");
}

#[tokio::test]
async fn a_query_as_athena_users_write_it_runs_on_milliseconds() {
    let (root, data) = (temp_dir(), temp_dir());
    let hours = [8, 9, 12, 17, 18];
    // A fraction of a second before the hour's end still belongs to it.
    let at = |hour: i64| 1_414_800_000_000 + hour * 3_600_000 + 3_599_999;
    let times: ArrayRef = Arc::new(Int64Array::from_iter_values(hours.map(at).into_iter().chain([-3_600_001 * 8])));
    let fares: ArrayRef = Arc::new(Float64Array::from_iter_values((0..6).map(f64::from)));
    write_parquet(&data.path().join("month=11/a.parquet"), &[("pickup_at", times), ("fare", fares)], None);
    let store = store(root.path()).await;
    let declared = FactTable::new(TimeColumn::epoch("pickup_at", TimeUnit::Millisecond), KnownAt::after(TimeDelta::zero()));
    store.register_table("nyc_taxi", data.path().to_str().unwrap(), declared).await.unwrap();

    let sql = "SELECT * FROM nyc_taxi WHERE hour(from_unixtime(pickup_at / 1000)) BETWEEN 9 AND 17";
    assert_eq!(store.sql(sql, instant("2015-01-01")).await.unwrap().count().await.unwrap(), 4);
    let kept = store.ctas("business", sql).await.unwrap();
    assert_eq!(kept.rows(), 4);
    let sql = "SELECT fare FROM nyc_taxi WHERE hour(from_unixtime(pickup_at / 1000)) BETWEEN 9 AND 17 ORDER BY fare";
    assert_eq!(cells(&store, sql, instant("2015-01-01")).await, ["1.0", "2.0", "3.0", "5.0"]);
}

#[tokio::test]
async fn null_makes_null() {
    let store = memory().await;
    for query in [
        "year(NULL)",
        "hour(CAST(NULL AS TIMESTAMP))",
        "dow(CAST(NULL AS DATE))",
        "from_unixtime(NULL)",
        "from_unixtime(CAST(NULL AS BIGINT))",
        "to_unixtime(NULL)",
        "date_diff('day', NULL, DATE '2014-01-01')",
        "date_diff(NULL, DATE '2014-01-01', DATE '2014-01-01')",
        "date_add('day', NULL, DATE '2014-01-01')",
        "date_add('day', 1, NULL)",
        "from_iso8601_timestamp(NULL)",
        "date_parse(NULL, '%Y')",
        "date_parse('2014', NULL)",
        "date_format(NULL, '%Y')",
        "date_format(DATE '2014-01-01', NULL)",
        "if(false, 1)",
        "if(true, NULL, 1)",
        "regexp_like(NULL, 'a')",
        "strpos(NULL, 'a')",
        "max_by(x, y) FROM (VALUES (1, CAST(NULL AS BIGINT))) AS t(x, y)",
        "max_by(x, y) FROM (VALUES (CAST(NULL AS BIGINT), 2), (1, 1)) AS t(x, y)",
        "min_by(x, y) FROM (VALUES (1, 1)) AS t(x, y) WHERE x > 1",
        "element_at(array_agg(x), 3) FROM (VALUES (1)) AS t(x)",
        "element_at(array_agg(x), -2) FROM (VALUES (1)) AS t(x)",
        "element_at(array_agg(x), NULL) FROM (VALUES (1)) AS t(x)",
        "width_bucket(NULL, 0, 4, 3)",
        "width_bucket(1, NULL, 4, 3)",
        "width_bucket(1, 0, CAST(NULL AS DOUBLE), 3)",
        "width_bucket(1, 0, 4, NULL)",
        // NULL even where another argument would be an error.
        "width_bucket(NULL, 4, 4, 0)",
        "approx_percentile(x, 0.5) FROM (VALUES (1)) AS t(x) WHERE x > 1",
    ] {
        assert_eq!(one(&store, query).await, "", "{query}");
    }
    assert_eq!(one(&store, "count_if(x > 1) FROM (VALUES (1)) AS t(x) WHERE x > 1").await, "0");
    assert_eq!(one(&store, "count_if(x > 1) FILTER (WHERE x < 3) FROM (VALUES (1), (2), (3)) AS t(x)").await, "1");
    assert_eq!(one(&store, "max_by(x, y) FILTER (WHERE y < 3) FROM (VALUES (1, 1), (2, 2), (3, 3)) AS t(x, y)").await, "2");
}

#[tokio::test]
async fn what_cannot_be_computed_is_an_error_that_shows_it() {
    let store = memory().await;
    for (query, part) in [
        ("hour('2014-01-01')", "needs a timestamp"),
        ("hour(12)", "from_unixtime"),
        ("from_unixtime(9223372036854775807)", "9223372036854775807"),
        ("from_unixtime(CAST('NaN' AS DOUBLE))", "NaN"),
        ("date_diff('fortnight', DATE '2014-01-01', DATE '2014-01-01')", "fortnight"),
        ("date_add('hour', 1, DATE '2014-01-01')", "timestamp"),
        ("date_add('year', 9000000000000000000, DATE '2014-01-01')", "calendar"),
        ("from_iso8601_timestamp('yesterday')", "yesterday"),
        ("from_iso8601_timestamp('2014-02-30')", "2014-02-30"),
        ("date_parse('2014-02-30', '%Y-%m-%d')", "2014-02-30"),
        ("date_parse('2014-01-01x', '%Y-%m-%d')", "2014-01-01x"),
        ("date_parse('13 PM', '%h %p')", "13 PM"),
        ("date_format(DATE '2014-01-01', '%U')", "%U"),
        ("if(1, 2, 3)", "boolean"),
        ("element_at(array_agg(x), 0) FROM (VALUES (1)) AS t(x)", "number 1"),
        ("cardinality(1)", "list"),
        ("width_bucket(1, 0, 4, 0)", "0 buckets"),
        ("width_bucket(1, 0, 4, -3)", "-3 buckets"),
        ("width_bucket(1, 0, 4, 2.5)", "whole number of buckets"),
        ("width_bucket(1, 0, 4)", "two bounds"),
        ("width_bucket('one', 0, 4, 3)", "needs a number"),
        ("width_bucket(1, -1.5, -1.5, 3)", "both bounds are -1.5"),
        ("width_bucket(CAST('NaN' AS DOUBLE), 0, 4, 3)", "NaN"),
        ("width_bucket(1, CAST('NaN' AS DOUBLE), 4, 3)", "NaN"),
        ("width_bucket(1, 0, CAST('NaN' AS DOUBLE), 3)", "NaN"),
        ("width_bucket(1, CAST('-Infinity' AS DOUBLE), 4, 3)", "-inf"),
        ("width_bucket(1, 0, CAST('Infinity' AS DOUBLE), 3)", "inf"),
        ("width_bucket(1, -1.7e308, 1.7e308, 3)", "too far apart"),
        ("width_bucket(5, 0, 4, 9223372036854775807)", "9223372036854775807"),
        ("width_bucket(-1, 4, 0, 9223372036854775807)", "9223372036854775807"),
        ("count_if(x > 1) OVER () FROM (VALUES (1)) AS t(x)", "OVER"),
    ] {
        let error = answer(&store, &format!("SELECT {query}"), instant("2015-01-01")).await.expect_err(query);
        assert!(error.to_string().contains(part), "{query}: {error}");
        assert!(matches!(error, Error::Query(_)), "{query}: {error:?}");
    }
}

#[tokio::test]
async fn more_of_the_calendar() {
    let store = memory().await;
    for (query, result) in [
        ("week(DATE '2012-01-01')", "52"),
        ("week(DATE '1968-12-30')", "1"),
        ("yow(DATE '1968-12-30')", "1969"),
        ("dow(DATE '1969-12-29')", "1"),
        ("doy(DATE '1900-12-31')", "365"),
        ("date_diff('year', DATE '2012-02-29', DATE '2013-02-28')", "1"),
        ("date_diff('year', DATE '2012-02-28', DATE '2013-02-27')", "0"),
        ("date_diff('month', DATE '2014-03-31', DATE '2014-02-28')", "-1"),
        ("date_diff('quarter', DATE '2014-01-01', DATE '2014-12-31')", "3"),
        ("date_diff('week', DATE '2014-01-01', DATE '2014-01-14')", "1"),
        ("date_diff('millisecond', TIMESTAMP '1969-12-31 23:59:59.999', TIMESTAMP '1970-01-01')", "1"),
        ("date_add('year', 1, DATE '2012-02-29')", "2013-02-28"),
        ("date_add('quarter', -1, TIMESTAMP '1970-01-31 12:00:00')", "1969-10-31T12:00:00"),
        ("date_add('week', 2, DATE '1969-12-25')", "1970-01-08"),
        ("date_add('day', 1, from_unixtime(0))", "1970-01-02T00:00:00Z"),
        // The night in which New York's clocks went back has 25 hours.
        (
            "date_diff('hour', from_iso8601_timestamp('2014-11-02T00:00:00-04:00'), from_iso8601_timestamp('2014-11-03T00:00:00-05:00'))",
            "25",
        ),
        ("hour(from_iso8601_timestamp('2014-11-02T06:30:00Z') AT TIME ZONE 'America/New_York')", "1"),
        ("date_format(from_iso8601_timestamp('2014-11-02T05:30:00Z') AT TIME ZONE 'America/New_York', '%H:%i')", "01:30"),
        (
            "date_format(TIMESTAMP '2014-01-02 15:04:05.000006', '%a %b %c %d %e %f %h %I %j %k %l %m %p %r %S %T %v %x %y %%')",
            "Thu Jan 1 02 2 000006 03 03 002 15 3 01 PM 03:04:05 PM 05 15:04:05 01 2014 14 %",
        ),
        ("date_format(TIMESTAMP '1969-12-31 00:00:00', '%h %p')", "12 AM"),
        ("date_parse('2014-11-03 12:00:00 AM', '%Y-%m-%d %r')", "2014-11-03T00:00:00"),
        ("date_parse('3 nov 2014 09:05:06.25', '%e %b %Y %H:%i:%s.%f')", "2014-11-03T09:05:06.250"),
        ("date_parse('2012-366', '%Y-%j')", "2012-12-31T00:00:00"),
        ("from_iso8601_timestamp('2014-11-01T09Z')", "2014-11-01T09:00:00Z"),
        ("from_unixtime(1414800000.000001)", "2014-11-01T00:00:00.000001Z"),
        ("to_unixtime(from_unixtime(-1.5))", "-1.5"),
        ("if(true, 1, 2.5)", "1.0"),
    ] {
        assert_eq!(one(&store, query).await, result, "{query}");
    }
}

#[tokio::test]
async fn buckets_are_numbered_as_in_trino() {
    let store = memory().await;
    for (query, result) in [
        ("width_bucket(2, 0, 4, 3)", "2"),
        ("width_bucket(-1, 0, 3.2, 4)", "0"),
        ("width_bucket(CAST('Infinity' AS DOUBLE), 0, 4, 3)", "4"),
        ("width_bucket(CAST('-Infinity' AS DOUBLE), 0, 4, 3)", "0"),
        ("width_bucket(2, 4, 0, 3)", "2"),
        ("width_bucket(CAST('Infinity' AS DOUBLE), 4, 0, 3)", "0"),
        ("width_bucket(-1, 3.2, 0, 4)", "5"),
        ("width_bucket(0, 4, 0, 3)", "3"),
        ("width_bucket(CAST('3.14' AS DECIMAL(10, 2)), CAST(0 AS REAL), CAST(4 AS TINYINT), CAST(3 AS SMALLINT))", "3"),
        ("sum(width_bucket(x, 0, n, n)), count(*) FROM (VALUES (0.5, 2), (7.5, 8), (9, 3), (NULL, 0)) AS t(x, n)", "13 4"),
    ] {
        assert_eq!(one(&store, query).await, result, "{query}");
    }
}

/// `date_diff` and `date_add` of instants of UTC, read by the clock of a zone.
#[tokio::test]
async fn sums_and_differences_are_those_of_the_values_zone() {
    let store = memory().await;
    let (york, berlin, apia) = ("America/New_York", "Europe/Berlin", "Pacific/Apia");
    for (unit, count, start, zone, sum) in [
        ("day", 1, "2014-11-01T16:00:00Z", york, "2014-11-02T12:00:00-05:00"),
        ("day", -1, "2014-11-02T17:00:00Z", york, "2014-11-01T12:00:00-04:00"),
        ("day", 0, "2014-11-02T06:30:00Z", york, "2014-11-02T01:30:00-05:00"),
        ("week", 1, "2014-03-08T17:00:00Z", york, "2014-03-15T12:00:00-04:00"),
        ("month", 1, "2014-02-28T04:59:59Z", york, "2014-03-27T23:59:59-04:00"),
        // It is still January there.
        ("month", 1, "2014-02-01T04:00:00Z", york, "2014-02-28T23:00:00-05:00"),
        ("quarter", -1, "2014-05-31T04:00:00Z", york, "2014-02-28T00:00:00-05:00"),
        ("year", 1, "2012-02-29T12:00:00.000001Z", york, "2013-02-28T07:00:00.000001-05:00"),
        // Spans of time know no clock.
        ("hour", 24, "2014-11-01T16:00:00Z", york, "2014-11-02T11:00:00-05:00"),
        ("minute", 60, "2014-11-02T05:30:00Z", york, "2014-11-02T01:30:00-05:00"),
        // Skipped times, west and east of Greenwich, and a whole day of them.
        ("day", 1, "2014-03-08T07:00:00Z", york, "2014-03-09T03:00:00-04:00"),
        ("day", -1, "2014-03-10T06:59:59Z", york, "2014-03-09T03:59:59-04:00"),
        ("month", 1, "2014-02-28T01:30:00Z", berlin, "2014-03-28T02:30:00+01:00"),
        ("day", 2, "2014-03-28T01:30:00Z", berlin, "2014-03-30T03:30:00+02:00"),
        ("day", 1, "2011-12-29T22:00:00Z", apia, "2011-12-31T12:00:00+14:00"),
        // Times that occur twice.
        ("day", 1, "2014-11-01T05:00:00Z", york, "2014-11-02T01:00:00-04:00"),
        ("month", -1, "2014-12-02T06:30:00Z", york, "2014-11-02T01:30:00-05:00"),
        ("day", 1, "2014-10-25T00:30:00Z", berlin, "2014-10-26T02:30:00+02:00"),
        ("day", -1, "2014-10-27T01:30:00Z", berlin, "2014-10-26T02:30:00+01:00"),
        // Neither has the offset of the sun over New York, which its clocks showed until 1883.
        ("year", 36, "1882-10-27T06:26:02Z", york, "1918-10-27T01:30:00-04:00"),
        ("day", 1, "2014-01-31T22:30:00Z", "+02:00", "2014-02-02T00:30:00+02:00"),
        ("month", 1, "2014-01-30T22:30:00Z", "+02:00", "2014-02-28T00:30:00+02:00"),
        ("month", 1, "2014-02-01T04:00:00Z", "-05:30", "2014-02-28T22:30:00-05:30"),
        ("month", 1, "2014-02-01T04:00:00Z", "UTC", "2014-03-01T04:00:00Z"),
    ] {
        let query = format!("date_add('{unit}', {count}, from_iso8601_timestamp('{start}') AT TIME ZONE '{zone}')");
        assert_eq!(one(&store, &query).await, sum, "{query}");
    }
    for (unit, a, zone, b, between) in [
        ("day", "2014-11-01T16:00:00Z", york, "2014-11-02T16:59:59Z", 0),
        ("day", "2014-11-01T16:00:00Z", york, "2014-11-02T17:00:00Z", 1),
        ("day", "2014-11-02T17:00:00Z", york, "2014-11-01T16:00:00Z", -1),
        ("day", "2014-11-02T16:59:59Z", york, "2014-11-01T16:00:00Z", 0),
        ("day", "2014-03-09T05:00:00Z", york, "2014-03-10T04:00:00Z", 1),
        ("week", "2014-03-08T17:00:00Z", york, "2014-03-15T16:00:00Z", 1),
        ("week", "2014-03-08T17:00:00Z", "UTC", "2014-03-15T16:00:00Z", 0),
        ("month", "2014-02-01T04:00:00Z", york, "2014-03-01T03:00:00Z", 0),
        ("month", "2014-02-01T04:00:00Z", york, "2014-03-01T04:00:00Z", 1),
        ("month", "2014-10-02T04:00:00Z", york, "2014-11-02T04:00:00Z", 1),
        ("month", "2014-10-15T04:00:00Z", york, "2014-11-15T04:00:00Z", 0),
        ("quarter", "2014-01-01T05:00:00Z", york, "2014-04-01T04:00:00Z", 1),
        ("quarter", "2014-01-01T05:00:00Z", "UTC", "2014-04-01T04:00:00Z", 0),
        ("year", "2014-01-01T04:59:59Z", york, "2015-01-01T04:59:58Z", 0),
        ("year", "2014-07-01T04:00:00Z", york, "2013-07-01T04:00:00Z", -1),
        ("hour", "2014-11-02T04:00:00Z", york, "2014-11-03T05:00:00Z", 25),
        ("minute", "2014-11-02T05:30:00Z", york, "2014-11-02T06:30:00Z", 60),
        // Later, though the clock shows less.
        ("day", "2014-11-02T05:30:00Z", york, "2014-11-02T06:00:00Z", 0),
        ("month", "2014-11-02T05:30:00Z", york, "2014-11-02T06:00:00Z", 0),
        ("month", "2014-01-31T22:00:00Z", "+02:00", "2014-02-28T22:00:00Z", 1),
        ("month", "2014-01-31T22:00:00Z", "UTC", "2014-02-28T21:59:59Z", 0),
    ] {
        let query =
            format!("date_diff('{unit}', from_iso8601_timestamp('{a}') AT TIME ZONE '{zone}', from_iso8601_timestamp('{b}'))");
        assert_eq!(one(&store, &query).await, between.to_string(), "{query}");
        // Only the first argument's zone has a say.
        let query = query.strip_suffix(')').unwrap();
        assert_eq!(one(&store, &format!("{query} AT TIME ZONE 'Asia/Tokyo')")).await, between.to_string(), "{query}");
    }
    // Without a zone the clock is UTC's, whatever the second argument's is.
    let night = "date_diff('day', TIMESTAMP '2014-11-01 16:00:00', from_iso8601_timestamp('2014-11-02T16:00:00Z')";
    assert_eq!(one(&store, &format!("{night} AT TIME ZONE 'America/New_York')")).await, "1");
}

/// A sum of days or months on a clock leads to where the difference finds as many.
#[tokio::test]
async fn sums_and_differences_agree_on_a_clock() {
    let store = memory().await;
    // Every hour from the half-hour after midnight in New York, 29 October 2014, to 5 November.
    let hours: Vec<String> = (0..200).map(|hour| format!("({})", 1_414_557_000 + hour * 3_600)).collect();
    let hours = format!("(VALUES {}) AS s(value)", hours.join(", "));
    for (unit, count) in [("day", 1), ("day", -3), ("week", 2), ("month", 1), ("month", -4), ("quarter", 2), ("year", -1)] {
        let at = "from_unixtime(value) AT TIME ZONE 'America/New_York'";
        let query =
            format!("count(*), count_if(date_diff('{unit}', {at}, date_add('{unit}', {count}, {at})) = {count}) FROM {hours}");
        let counts = one(&store, &query).await;
        let (all, agree) = counts.split_once(' ').unwrap();
        assert!(all == agree && all != "0", "{unit} {count}: {counts}");
    }
}

/// The first and the last microsecond of the calendar, by UTC.
const FIRST_US: i64 = -8_334_601_228_800_000_000;
const LAST_US: i64 = 8_210_266_876_799_999_999;

/// Whatever the instant, the zone, the unit and the count: an answer or an error.
#[tokio::test]
async fn no_instant_panics() {
    let store = memory().await;
    let parts = "year quarter month week yow day dow doy hour minute second to_unixtime";
    let mut calls: Vec<String> = parts.split(' ').map(|name| format!("{name}(t)")).collect();
    calls.extend(["%Y-%m-%d %T.%f", "%x %v %j %W %y %r"].map(|format| format!("date_format(t, '{format}')")));
    for unit in ["millisecond", "day", "month"] {
        let counts = [-1, 1, 4_000_000_000, i64::MAX];
        calls.extend(counts.map(|count| format!("date_add('{unit}', {count}, t)")));
        for other in ["from_unixtime(9200000000000)", "from_unixtime(-9200000000000)"] {
            calls.extend([format!("date_diff('{unit}', t, {other})"), format!("date_diff('{unit}', {other}, t)")]);
        }
    }
    let mut times = [i32::MIN, i32::MAX].map(|day| format!("arrow_cast(CAST({day} AS INT), 'Date32')")).to_vec();
    for zone in ["None", "Some(\"America/New_York\")", "Some(\"+14:00\")"] {
        let micros = [i64::MIN, FIRST_US - 1, FIRST_US, -1, LAST_US, LAST_US + 1, i64::MAX].map(|value| ("Microsecond", value));
        let others = ["Second", "Nanosecond"].into_iter().flat_map(|unit| [(unit, i64::MIN), (unit, i64::MAX)]);
        let at = |(unit, value)| format!("arrow_cast(CAST('{value}' AS BIGINT), 'Timestamp({unit}, {zone})')");
        times.extend(micros.into_iter().chain(others).map(at));
    }
    let (mut answers, mut errors) = (0, 0);
    for (time, call) in times.iter().flat_map(|time| calls.iter().map(move |call| (time, call))) {
        match answer(&store, &format!("SELECT {call} FROM (SELECT {time} AS t)"), instant("2015-01-01")).await {
            Ok(_) => answers += 1,
            Err(_) => errors += 1,
        }
    }
    assert!(answers > 100 && errors > 100, "{answers} answers, {errors} errors");
}

#[tokio::test]
async fn what_lies_beyond_the_calendar_is_an_error() {
    let store = memory().await;
    let at = |us: i64, zone: &str| format!("arrow_cast(CAST('{us}' AS BIGINT), 'Timestamp(Microsecond, Some(\"{zone}\"))')");
    let (first, last) = (FIRST_US, LAST_US);
    assert_eq!(one(&store, &format!("date_format({}, '%Y-%m-%d %T')", at(last, "UTC"))).await, "262142-12-31 23:59:59");
    assert_eq!(one(&store, &format!("date_format({}, '%Y-%m-%d %T')", at(first, "UTC"))).await, "-262143-01-01 00:00:00");
    assert_eq!(one(&store, &format!("date_format({}, '%m-%d %T')", at(last, "-05:00"))).await, "12-31 18:59:59");
    for call in [
        format!("date_format({}, '%Y')", at(last, "+01:00")),
        format!("date_format({}, '%Y')", at(first, "America/New_York")),
        format!("date_add('day', 1, {})", at(last, "Asia/Tokyo")),
        format!("date_add('day', 1, {})", at(last, "-05:00")),
        format!("date_add('hour', 0, {})", at(last, "Asia/Tokyo")),
        format!("date_add('month', -1, {})", at(first, "-05:00")),
        format!("date_diff('month', {}, from_unixtime(0))", at(last, "Asia/Tokyo")),
        format!("hour({})", at(i64::MAX, "UTC")),
        format!("year({})", at(i64::MIN, "America/New_York")),
        "day(arrow_cast(2147483647, 'Date32'))".to_owned(),
        "date_add('day', 1, arrow_cast(2147483647, 'Date32'))".to_owned(),
    ] {
        let error = answer(&store, &format!("SELECT {call}"), instant("2015-01-01")).await.expect_err(&call);
        assert!(error.to_string().contains("calendar"), "{call}: {error}");
    }
}

#[tokio::test]
async fn columns_of_nanoseconds_and_maps_are_read_too() {
    let (root, data) = (temp_dir(), temp_dir());
    let at: ArrayRef =
        Arc::new(TimestampNanosecondArray::from(vec![Some(-1), Some(1_414_800_000_000_000_001)]).with_timezone("UTC"));
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    maps.keys().append_value("a");
    maps.values().append_value(1);
    maps.keys().append_value("b");
    maps.values().append_value(2);
    maps.append(true).unwrap();
    maps.append(false).unwrap();
    let maps: ArrayRef = Arc::new(maps.finish());
    write_parquet(&data.path().join("month=11/a.parquet"), &[("at", at), ("tags", maps)], None);
    let store = store(root.path()).await;
    let declared = FactTable::new("at", KnownAt::after(TimeDelta::zero()));
    store.register_table("facts", data.path().to_str().unwrap(), declared).await.unwrap();
    let sql =
        "SELECT year(at), second(at), cardinality(tags), element_at(tags, 'b'), element_at(tags, 'c') FROM facts ORDER BY at";
    assert_eq!(cells(&store, sql, instant("2015-01-01")).await, ["1969 59 2 2 ", "2014 0   "]);
}
