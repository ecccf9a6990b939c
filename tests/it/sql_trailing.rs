//! `trailing`: the windows that Rust asks for, wherever a table may stand.

use std::sync::Arc;

use asof::{
    Aggregate, Expression, FeatureStore, WindowLength,
    catalog::{FactTable, KnownAt},
    temporal::{Spine, Window},
};
use chrono::TimeDelta;
use datafusion::arrow::{
    array::{ArrayRef, Int64Array, StringArray, TimestampSecondArray},
    util::pretty::pretty_format_batches,
};

use crate::{
    sql::{are_refused, at_once, end, ints, memory, rides_and_fares, table},
    support::{answer, cells, instant, temp_dir},
    times::utc_micros,
};

/// The rows of a query as text, in their order.
async fn shown(store: &FeatureStore, sql: &str) -> String {
    answer(store, sql, end()).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
}

#[tokio::test]
async fn trailing_is_the_window_that_rust_asks() {
    let (_dir, store) = rides_and_fares().await;
    let aggregates = [
        ("count(*)", Aggregate::count()),
        ("count(amount)", Aggregate::count_of("amount")),
        ("count(DISTINCT amount)", Aggregate::count_distinct("amount")),
        ("approx_count_distinct(amount)", Aggregate::approx_count_distinct("amount")),
        ("approx_distinct(unused) AS d2", Aggregate::approx_count_distinct("unused").named("d2")),
        ("sum(amount)", Aggregate::sum("amount")),
        ("AVG(amount)", Aggregate::mean("amount")),
        ("mean(amount) AS \"Mean\"", Aggregate::mean("amount").named("Mean")),
        ("variance(amount)", Aggregate::variance("amount")),
        ("var_samp(amount) AS v2", Aggregate::variance("amount").named("v2")),
        ("stddev(amount)", Aggregate::stddev("amount")),
        ("stddev_samp(amount) s2", Aggregate::stddev("amount").named("s2")),
        ("slope(amount)", Aggregate::slope("amount")),
        ("min(amount)", Aggregate::min("amount")),
        ("max(amount)", Aggregate::max("amount")),
        ("first(amount)", Aggregate::first("amount")),
        ("first_value(amount) AS f2", Aggregate::first("amount").named("f2")),
        ("last(amount)", Aggregate::last("amount")),
        ("last_value(amount) AS l2", Aggregate::last("amount").named("l2")),
        ("max_by(amount, unused)", Aggregate::max_by("amount", "unused")),
        ("arg_max(unused, amount) AS a1", Aggregate::max_by("unused", "amount").named("a1")),
        ("min_by(amount, ended)", Aggregate::min_by("amount", "ended")),
        ("arg_min(ended, amount) AS a2", Aggregate::min_by("ended", "amount").named("a2")),
        ("first_k(amount, 2)", Aggregate::first_k("amount", 2)),
        ("last_k(amount, 2)", Aggregate::last_k("amount", 2)),
        ("median(amount)", Aggregate::median("amount")),
        ("quantile(amount, 0.9)", Aggregate::quantile("amount", 0.9)),
        ("mode(amount)", Aggregate::mode("amount")),
        ("top_k(amount, 2)", Aggregate::top_k("amount", 2)),
        ("top_share(amount)", Aggregate::top_share("amount")),
        ("entropy(amount)", Aggregate::entropy("amount")),
        (
            "count(*) FILTER (WHERE amount > 15 AND unused = 0) AS dear",
            Aggregate::count().filter("amount > 15 AND unused = 0").named("dear"),
        ),
        ("sum(amount * 2)", Aggregate::sum(Expression::sql("amount * 2"))),
        ("count(DISTINCT amount % 20) AS odd", Aggregate::count_distinct(Expression::sql("amount % 20")).named("odd")),
        ("last_k(amount + pickup_zone, 2) AS more", Aggregate::last_k(Expression::sql("amount + pickup_zone"), 2).named("more")),
        (
            "first_k(amount + pickup_zone, 2) AS oldest",
            Aggregate::first_k(Expression::sql("amount + pickup_zone"), 2).named("oldest"),
        ),
        ("top_k(amount % 20, 2) AS frequent", Aggregate::top_k(Expression::sql("amount % 20"), 2).named("frequent")),
        ("top_share(amount % 20) AS share", Aggregate::top_share(Expression::sql("amount % 20")).named("share")),
        ("entropy(amount % 20) AS bits", Aggregate::entropy(Expression::sql("amount % 20")).named("bits")),
        (
            "max_by(amount * 2, unused - amount) AS m3",
            Aggregate::max_by(Expression::sql("amount * 2"), Expression::sql("unused - amount")).named("m3"),
        ),
        ("min_by(ended, 1 / amount) AS m4", Aggregate::min_by("ended", Expression::sql("1 / amount")).named("m4")),
        (
            "quantile(1 / unused, 0.5) FILTER (WHERE unused <> 0) AS ratio",
            Aggregate::quantile(Expression::sql("1 / unused"), 0.5).filter("unused <> 0").named("ratio"),
        ),
    ];
    let text = aggregates.iter().map(|(text, _)| *text).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT * FROM trailing('rides', 'at', 'fares', 'zone = pickup_zone', '10 minutes', '{text}', 'ALL', 'count(*) AS n')"
    );
    let spine = store.sql("SELECT * FROM rides", end()).await.unwrap();
    let window = Window::of(store.facts("fares", end()).await.unwrap())
        .on_columns("zone", "pickup_zone")
        .trailing(TimeDelta::minutes(10), aggregates.map(|(_, aggregate)| aggregate))
        .all_before([Aggregate::count().named("n")]);
    let rows = Spine::new(spine, "at").window([window]).unwrap().into_rows();
    let names: Vec<_> = rows.schema().fields().iter().map(|f| f.name().clone()).collect();
    let by_sql = store.sql(&sql, end()).await.unwrap();
    assert_eq!(by_sql.schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>(), names);
    assert_eq!(names[..4], ["id", "zone", "at", "count"]);
    let expected = pretty_format_batches(&rows.collect().await.unwrap()).unwrap().to_string();
    assert_eq!(pretty_format_batches(&by_sql.collect().await.unwrap()).unwrap().to_string(), expected);
    // Only what was known: the fare of minute 0 from minute 10 on, which is outside of the window by then.
    let n = "SELECT id, dear, n FROM TRAILING('rides', 'at', 'fares', 'zone = pickup_zone', '15 minutes', \
             'count(*) FILTER (WHERE amount > 15) AS dear', 'all', 'count(*) AS n') AS t WHERE t.zone < 3 ORDER BY id";
    assert_eq!(cells(&store, n, end()).await, ["1 0 0", "2 0 0", "3 0 1", "4 0 1", "5 0 2"]);
}

#[tokio::test]
async fn lengths_by_a_calendar_and_of_facts_are_those_that_rust_asks() {
    let (_dir, store) = rides_and_fares().await;
    let zone = "America/New_York".parse().unwrap();
    let lengths = [
        ("this month in America/New_York", WindowLength::this_month(zone)),
        (" THIS  week IN America/New_York ", WindowLength::this_week(zone)),
        ("this day in America/New_York", WindowLength::this_day(zone)),
        ("1 month in America/New_York", WindowLength::months(1, zone)),
        ("2 facts", WindowLength::facts(2)),
        ("1 FACT within 15 minutes", WindowLength::facts_within(1, TimeDelta::minutes(15))),
        ("3 facts within this day in America/New_York", WindowLength::facts_within(3, WindowLength::this_day(zone))),
        ("12 Months in UTC", WindowLength::months(12, "UTC".parse().unwrap())),
        ("tumbling 10 minutes in America/New_York", WindowLength::tumbling(TimeDelta::minutes(10), zone)),
        (" Hopping 1 hour 30 minutes EVERY 15min in UTC", {
            WindowLength::hopping(TimeDelta::minutes(90), TimeDelta::minutes(15), "UTC".parse().unwrap())
        }),
        ("tumbling 1 month in UTC", WindowLength::tumbling_months(1, "UTC".parse().unwrap())),
        ("hopping 3 months every 1 month in America/New_York", WindowLength::hopping_months(3, 1, zone)),
        (
            "2 facts within tumbling 15 minutes in America/New_York",
            WindowLength::facts_within(2, WindowLength::tumbling(TimeDelta::minutes(15), zone)),
        ),
        ("since amount > 15", WindowLength::since("amount > 15")),
        ("Everything SINCE  amount > 15", WindowLength::since("amount > 15")),
        ("at most 20 minutes since amount > 15", WindowLength::since_within("amount > 15", TimeDelta::minutes(20))),
        (
            "AT MOST 2 facts within this day in America/New_York since amount < 15",
            WindowLength::since_within("amount < 15", WindowLength::facts_within(2, WindowLength::this_day(zone))),
        ),
    ];
    for (text, length) in lengths {
        let sql =
            format!("SELECT * FROM trailing('rides', 'at', 'fares', 'zone = pickup_zone', '{text}', 'count(*), sum(amount)')");
        let spine = store.sql("SELECT * FROM rides", end()).await.unwrap();
        let window = Window::of(store.facts("fares", end()).await.unwrap())
            .on_columns("zone", "pickup_zone")
            .trailing(length.clone(), [Aggregate::count(), Aggregate::sum("amount")]);
        let rows = Spine::new(spine, "at").window([window]).unwrap().into_rows().collect().await.unwrap();
        assert_eq!(shown(&store, &sql).await, pretty_format_batches(&rows).unwrap().to_string(), "{text}");
        let plan = shown(&store, &format!("EXPLAIN {sql}")).await;
        assert!(plan.contains(&format!("over {length}]")), "{plan}");
    }
}

#[tokio::test]
async fn trailing_stands_wherever_a_table_may() {
    let (_dir, store) = rides_and_fares().await;
    let call = "trailing('rides', 'at', 'fares', 'zone = pickup_zone', 'all', 'count(*) AS n')";
    let queries = [
        format!("WITH t AS (SELECT * FROM {call}) SELECT id, n FROM t WHERE n > 0 ORDER BY id"),
        format!(
            "SELECT id, n FROM {call} WHERE id <= 3 AND n > 0 UNION ALL SELECT id, n FROM {call} WHERE id > 3 AND n > 0 ORDER BY id"
        ),
        format!("SELECT t.id, t.n FROM {call} AS t JOIN rides USING (id) WHERE n > 0 ORDER BY id"),
        format!(
            "SELECT t.id, t.n FROM {call} AS t ASOF JOIN fares AS f MATCH_CONDITION (t.at > f.began) ON t.zone = f.pickup_zone WHERE f.amount > 0 ORDER BY id"
        ),
        format!("SELECT id, n FROM {} WHERE n > 0 ORDER BY id", call.replace("'rides'", "'default.rides'")),
    ];
    for sql in queries {
        assert_eq!(cells(&store, &sql, end()).await, ["3 1", "4 1", "5 2"], "{sql}");
    }
    let plan = shown(&store, &format!("EXPLAIN SELECT id, n FROM {call}")).await;
    assert!(
        plan.contains("AsOfWindow")
            && plan.contains("fares.began < ")
            && plan.contains(" and fares.ended < ")
            && !plan.contains("unused"),
        "{plan}"
    );
}

#[tokio::test]
async fn trailing_reads_a_local_spine_by_its_declared_zone() {
    let (dir, store) = (temp_dir(), memory().await);
    let noon = instant("2014-01-15T12:00:00Z").micros() / 1_000_000;
    let local: ArrayRef = Arc::new(TimestampSecondArray::from(vec![noon, noon + 1]));
    let zone = "America/New_York".parse().unwrap();
    table(&store, dir.path(), "spine", at_once("t").zone(zone), &[("K", ints([1, 1])), ("t", local)]).await;
    let fact = utc_micros([instant("2014-01-15T17:00:00Z").micros()]);
    let facts: [(&str, ArrayRef); 3] = [("k", ints([1])), ("t", fact), ("Name", Arc::new(StringArray::from(vec!["x"])))];
    table(&store, dir.path(), "facts", at_once("t"), &facts).await;
    let sql = "SELECT n, last FROM trailing('spine', 't', 'facts', '\"K\" = k', '1 hour 30 minutes', 'count(*) AS n, last(\"Name\") AS last') ORDER BY t";
    assert_eq!(cells(&store, sql, end()).await, ["0 ", "1 x"]);
}

#[tokio::test]
async fn trailing_refuses_what_it_cannot_mean() {
    let (_dir, store) = rides_and_fares().await;
    let call = |arguments: &str| format!("SELECT * FROM trailing({arguments})");
    let with = |length: &str, text: &str| call(&format!("'rides', 'at', 'fares', 'zone = pickup_zone', '{length}', '{text}'"));
    let cases = [
        (call("'rides', 'at'"), "definition", "write trailing("),
        (call("'rides', 'at', 'fares', 'zone = pickup_zone', '1 day'"), "definition", "each length needs its aggregates"),
        (call("rides + 1, 'at', 'fares', 'zone', '1 day', 'count(*)'"), "definition", "no name of a table"),
        (call("rides, at + 1, 'fares', 'zone', '1 day', 'count(*)'"), "definition", "its instant"),
        (call("rides, 'at', fares + 1, 'zone', '1 day', 'count(*)'"), "definition", "no name of a table"),
        (call("rides, at, fares, 'zone', '1 day', 'count(*)', cutoff => 'late'"), "definition", "cutoff => 'inclusive'"),
        (call("rides, at, fares, 'zone', '1 day', 'count(*)', edge => 'inclusive'"), "definition", "cutoff => 'inclusive'"),
        (call("'rides', 'at', 'fares', 3, '1 day', 'count(*)'"), "definition", "aggregates are texts"),
        (call("'nothing', 'at', 'fares', 'zone = pickup_zone', '1 day', 'count(*)'"), "table", "no table `nothing`"),
        (call("'rides', 'at', 'nothing', 'zone', '1 day', 'count(*)'"), "table", "no table `nothing`"),
        (call("'Rides!', 'at', 'fares', 'zone', '1 day', 'count(*)'"), "other", "Rides!"),
        (call("'rides', 'nothing', 'fares', 'zone = pickup_zone', '1 day', 'count(*)'"), "column", "`nothing`"),
        (call("'rides', 'zone', 'fares', 'zone = pickup_zone', '1 day', 'count(*)'"), "type", "`zone`"),
        (call("'rides', 'at', 'fares', 'zone', '1 day', 'count(*)'"), "column", "table `fares` has no column `zone`"),
        (call("'rides', 'at', 'fares', 'zone > pickup_zone', '1 day', 'count(*)'"), "definition", "zone > pickup_zone"),
        (call("'rides', 'at', 'fares', '', '1 day', 'count(*)'"), "definition", "keys"),
        (with("0 days", "count(*)"), "definition", "longer than zero"),
        (with("-1 day", "count(*)"), "definition", "longer than zero"),
        (with("1 month", "count(*)"), "definition", "months"),
        (with("0.5 months", "count(*)"), "definition", "no fixed length"),
        (with("7", "count(*)"), "definition", "without a unit"),
        (with("1 month", "count(*)"), "definition", "`3 months in Europe/Berlin`"),
        (with("0 months in UTC", "count(*)"), "definition", "a window of 0 months in UTC is empty"),
        (with("7 days in UTC", "count(*)"), "definition", "`7 days in UTC` is no span of a calendar"),
        (with("this year in UTC", "count(*)"), "definition", "`this week in UTC`"),
        (with("this 3 months in UTC", "count(*)"), "definition", "no span of a calendar"),
        (with("-1 months in UTC", "count(*)"), "definition", "no span of a calendar"),
        (with("in UTC", "count(*)"), "definition", "no span of a calendar"),
        (with("in", "count(*)"), "definition", "`in` where a number is expected"),
        (with("1 month in New York", "count(*)"), "definition", "no fixed length"),
        (with("0 facts", "count(*)"), "definition", "a window of 0 facts is empty"),
        (with("2 facts within 0 days", "count(*)"), "definition", "a window of 2 facts within 0 seconds is empty"),
        (with("-1 facts", "count(*)"), "definition", "as in `10 facts`"),
        (with("some facts", "count(*)"), "definition", "as in `10 facts`"),
        (with("2 facts in", "count(*)"), "definition", "as in `10 facts`"),
        (with("2 facts within", "count(*)"), "definition", "as in `10 facts`"),
        (with("2 facts within a while", "count(*)"), "definition", "where a number is expected"),
        (with("4294967296 facts", "count(*)"), "definition", "as in `10 facts`"),
        (with("since", "count(*)"), "definition", "must be a condition"),
        (with("2 facts since amount > 1", "count(*)"), "definition", "must be a condition"),
        (with("at most since amount > 1", "count(*)"), "definition", "must be a condition"),
        (
            with("at most 0 facts since amount > 1", "count(*)"),
            "definition",
            "a window of at most 0 facts since amount > 1 is empty",
        ),
        (with("at most a while since amount > 1", "count(*)"), "definition", "where a number is expected"),
        (with("since nothing > 1", "count(*)"), "column", "nothing"),
        (with("since amount", "count(*)"), "definition", "a condition is Boolean"),
        (with("since sum(amount) > 1", "count(*)"), "definition", "more than one fact"),
        (with("since began < now()", "count(*)"), "volatile", "now"),
        (with("1 month in Mars", "count(*)"), "other", "IANA"),
        (with("tumbling 1 day", "count(*)"), "definition", "`tumbling` where a number is expected"),
        (with("tumbling 1 day every 1 hour in UTC", "count(*)"), "definition", "`hopping 7 days every 1 day in UTC`"),
        (with("hopping 1 day in UTC", "count(*)"), "definition", "no span of a calendar"),
        (with("hopping 1 day every 1 month in UTC", "count(*)"), "definition", "no span of a calendar"),
        (with("hopping every 1 day in UTC", "count(*)"), "definition", "no span of a calendar"),
        (with("tumbling 0 days in UTC", "count(*)"), "definition", "is empty"),
        (with("hopping 1 day every 0 days in UTC", "count(*)"), "definition", "is empty"),
        (with("tumbling 7 hours in Europe/Berlin", "count(*)"), "definition", "count it in UTC"),
        (with("soon", "count(*)"), "definition", "`soon`"),
        (with("1 day", ""), "definition", "aggregates"),
        (with("1 day", "count(*"), "definition", "cannot be read"),
        (with("1 day", "count(*) FROM fares"), "definition", "cannot be read"),
        (with("1 day", "amount"), "definition", "no aggregate"),
        (with("1 day", "*"), "definition", "no aggregate"),
        (with("1 day", "sum(amount) + 1"), "definition", "no aggregate"),
        (with("1 day", "skewness(amount)"), "definition", "is none of"),
        (with("1 day", "mode(DISTINCT amount)"), "definition", "only `count`"),
        (with("1 day", "sum(amount, amount)"), "definition", "is none of"),
        (with("1 day", "sum(DISTINCT amount)"), "definition", "only `count`"),
        (with("1 day", "sum(amount.*)"), "definition", "over a column of the facts or an expression"),
        (with("1 day", "sum(nothing * 2)"), "column", "no column `nothing`"),
        (with("1 day", "sum(amount + random())"), "volatile", "random"),
        (with("1 day", "sum(count(*))"), "definition", "more than one fact"),
        (with("1 day", "sum(CAST(amount AS VARCHAR))"), "definition", "only numbers"),
        (with("1 day", &format!("sum({})", vec!["amount"; 200].join(" + "))), "other", "nested too deeply"),
        (with("1 day", "sum(amount) OVER ()"), "definition", "leave the rest out"),
        (with("1 day", "sum(nothing)"), "column", "table `fares` has no column `nothing`"),
        (with("1 day", "sum(began)"), "type", "only numbers"),
        (with("1 day", "last_k(amount, 0)"), "definition", "1 or more"),
        (with("1 day", "last_k(amount, amount)"), "definition", "how many"),
        (with("1 day", "max_by(amount)"), "definition", "is none of"),
        (with("1 day", "min_by(amount, nothing)"), "column", "table `fares` has no column `nothing`"),
        (with("1 day", "first_k(amount, 0)"), "definition", "the first 0 values"),
        (with("1 day", "top_k(amount, 0)"), "definition", "1 or more"),
        (with("1 day", "top_k(amount, -1)"), "definition", "as in `top_k(x, 3)`"),
        (with("1 day", "top_k(amount)"), "definition", "is none of"),
        (with("1 day", "quantile(amount, 1.5)"), "definition", "between 0 and 1"),
        (with("1 day", "count(*) FILTER (WHERE nothing > 1)"), "column", "nothing"),
        (with("1 day", "count(*) AS zone"), "definition", "`zone`"),
        (with("1 day", "count(*), count(*)"), "definition", "`count`"),
        (with("1 day", "count(*) FILTER (WHERE began < now())"), "volatile", "now"),
        ("SELECT * FROM sideways('rides')".into(), "definition", "no table function `sideways`"),
    ];
    are_refused(&store, cases).await;
}

/// Functions that DataFusion only rewrites, and never runs, work in the filter of an aggregate as anywhere.
#[tokio::test]
async fn a_filter_of_an_aggregate_may_call_what_is_rewritten_while_planning() {
    let (dir, store) = (temp_dir(), memory().await);
    let at_once = FactTable::new("at", KnownAt::after(TimeDelta::zero())).zone("UTC".parse().unwrap());
    let v: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(-3)]));
    let at: ArrayRef = Arc::new(TimestampSecondArray::from(vec![1, 2, 3]));
    table(&store, dir.path(), "f", at_once, &[("k", ints([1, 1, 1])), ("v", v), ("at", at)]).await;
    let spine = "(SELECT 1 AS k, TIMESTAMP '2014-01-01T00:00:00' AT TIME ZONE 'UTC' AS at)";
    for (filter, count) in [
        ("coalesce(v, 5) > 0", "2"),
        ("nvl(v, 1) > 0", "2"),
        ("arrow_cast(v, 'Int32') > 0", "1"),
        ("at > arrow_cast('1970-01-01T00:00:01', 'Timestamp(Second, None)')", "2"),
    ] {
        let sql = format!(
            "SELECT n FROM trailing({spine}, at, f, 'k', 'all', 'count(*) FILTER (WHERE {}) AS n')",
            filter.replace('\'', "\'\'")
        );
        assert_eq!(cells(&store, &sql, end()).await, [count], "{filter}");
    }
}
