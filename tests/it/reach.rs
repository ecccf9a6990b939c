//! What no row of a spine can see is not read: files and row groups before the longest window and behind the last instant.
//! Nothing of it may show in an answer.

use std::{path::Path, sync::Arc};

use asof::{
    Aggregate, FeatureStore, WindowLength,
    catalog::{FactTable, KnownAt},
    temporal::{Facts, Lookup, Spine, Window},
    time::Cutoff,
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch},
        compute::cast,
        datatypes::{DataType, TimeUnit},
    },
    parquet::file::properties::WriterProperties,
    physical_plan::{self, ExecutionPlan, metrics::MetricValue},
    prelude::{DataFrame, SessionContext},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    parity::bit_rows,
    support::{instant, store, temp_dir, write_parquet},
    training::{batch, collected, instants, integers},
};

const DAY_US: i64 = 86_400_000_000;
const START: &str = "2023-01-01";
const MONTHS: i64 = 25;

/// Facts of 25 months of 30 days, one every six hours, in a file a month with row groups of 20 facts.
fn facts(data_type: &DataType) -> Vec<RecordBatch> {
    let start = instant(START).micros();
    let month = |month: i64| {
        let at: Vec<i64> = (0..120).map(|i| start + month * 30 * DAY_US + i * DAY_US / 4).collect();
        let times =
            |later: i64| cast(&instants(at.iter().map(|at| Some(at + later))), &DataType::Timestamp(TimeUnit::Microsecond, None));
        let of_type = |array: ArrayRef| cast(&array, data_type).unwrap();
        batch(vec![
            ("k", integers((0..120).map(|i| Some(i % 3)))),
            ("at", of_type(times(0).unwrap())),
            ("known", of_type(times(DAY_US / 2).unwrap())),
            ("v", integers((0..120).map(|i| Some(month * 1_000 + i)))),
        ])
    };
    (0..MONTHS).map(month).collect()
}

async fn table(store: &FeatureStore, dir: &Path, name: &str, declared: FactTable, months: &[RecordBatch]) {
    let row_groups = WriterProperties::builder().set_max_row_group_row_count(Some(20)).build();
    for (i, rows) in months.iter().enumerate() {
        let columns: Vec<(&str, ArrayRef)> =
            rows.schema_ref().fields().iter().zip(rows.columns()).map(|(f, c)| (f.name().as_str(), c.clone())).collect();
        write_parquet(&dir.join(name).join(format!("month={i}/facts.parquet")), &columns, Some(row_groups.clone()));
    }
    store.register_table(name, dir.join(name).to_str().unwrap(), declared).await.unwrap();
}

/// How many files and row groups the scans of a plan that has run did not read, and how many rows they yielded.
fn left_out(plan: &Arc<dyn ExecutionPlan>) -> (usize, usize, usize) {
    let mut found = (0, 0, 0);
    for metric in plan.metrics().iter().flat_map(|metrics| metrics.iter()) {
        if let MetricValue::PruningMetrics { name, pruning_metrics } = metric.value() {
            match name.as_ref() {
                "files_ranges_pruned_statistics" => found.0 += pruning_metrics.pruned(),
                "row_groups_pruned_statistics" => found.1 += pruning_metrics.pruned(),
                _ => {}
            }
        }
    }
    if plan.name() == "AsOfScan" {
        found.2 += plan.metrics().and_then(|metrics| metrics.output_rows()).unwrap_or(0);
    }
    plan.children().into_iter().map(left_out).fold(found, |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2))
}

fn spine(rows: &[(i64, i64)]) -> Spine {
    let columns = batch(vec![
        ("id", integers((0..rows.len() as i64).map(Some))),
        ("k", integers(rows.iter().map(|row| Some(row.0)))),
        ("at", instants(rows.iter().map(|row| Some(row.1)))),
    ]);
    Spine::new(SessionContext::new().read_batch(columns).unwrap(), "at")
}

async fn run(rows: DataFrame) -> (usize, usize, usize) {
    let context = Arc::new(rows.task_ctx());
    let plan = rows.create_physical_plan().await.unwrap();
    physical_plan::collect(plan.clone(), context).await.unwrap();
    left_out(&plan)
}

fn count_and_sum() -> [Aggregate; 2] {
    [Aggregate::count(), Aggregate::sum("v")]
}

fn utc_micros() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_windows_start_keeps_files_and_row_groups_from_being_read() {
    let dir = temp_dir();
    let store = store(&dir.path().join("root")).await;
    let declared = || FactTable::new("at", KnownAt::after(TimeDelta::hours(1)));
    let months = facts(&utc_micros());
    table(&store, dir.path(), "f", declared(), &months).await;
    table(&store, dir.path(), "versions", declared().identity("k"), &months).await;
    let end = instant("2100-01-01");
    let in_store = async |name: &str| store.facts(name, end).await.unwrap();
    // In the middle of the 13th month, at noon of its 16th day.
    let at = instant(START).micros() + 12 * 30 * DAY_US + 15 * DAY_US + DAY_US / 2;
    let days = |count: i64, facts: Facts| {
        Window::of(facts)
            .on("k")
            .trailing(TimeDelta::days(1), [Aggregate::count().named("day")])
            .trailing(TimeDelta::days(count), count_and_sum())
    };

    let (files, row_groups, rows) = run(spine(&[(1, at)]).window([days(7, in_store("f").await)]).unwrap().into_rows()).await;
    assert_eq!((files, row_groups), (24, 3), "of 25 files with six row groups of five days each, three hold the seven days");
    assert!((1..=60).contains(&rows), "{rows} rows");
    let two = spine(&[(1, at), (2, at + 60 * DAY_US)]);
    assert_eq!(run(two.window([days(7, in_store("f").await)]).unwrap().into_rows()).await.0, 22, "three months are in reach");
    // A row without an instant or a key asks for nothing.
    assert_eq!(run(spine(&[]).window([days(7, in_store("f").await)]).unwrap().into_rows()).await.0, 25);

    let lookup = |facts: Facts| Lookup::of(facts).on("k").column("v");
    let with_age = lookup(in_store("f").await).max_age(TimeDelta::days(2));
    assert_eq!(run(spine(&[(1, at)]).lookup([with_age]).unwrap().into_rows()).await.0, 24);
    // Without an age the newest may be as old as it likes; what comes later is out of reach.
    assert_eq!(run(spine(&[(1, at)]).lookup([lookup(in_store("f").await)]).unwrap().into_rows()).await.0, 12);
    let all =
        Window::of(in_store("f").await).on("k").trailing(TimeDelta::days(1), count_and_sum()).all_before([Aggregate::max("v")]);
    assert_eq!(run(spine(&[(1, at)]).window([all]).unwrap().into_rows()).await.0, 12);
    // A version of another time may replace a fact within reach.
    assert_eq!(run(spine(&[(1, at)]).window([days(7, in_store("versions").await)]).unwrap().into_rows()).await.0, 0);

    let sql = "SELECT r.v, x.v FROM (SELECT * FROM f WHERE v = 12007) r ASOF JOIN (SELECT k, at, v FROM f) x \
               MATCH_CONDITION (r.at < x.at) ON r.k = x.k";
    let forward = store.sql(sql, end).await.unwrap();
    assert!(run(forward).await.0 >= 12, "looking forward, what is before the first instant is out of reach");
}

/// In nanoseconds a window of a thousand years is longer than the scale, and holds everything that is visible.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_longer_than_the_scale_has_no_start() {
    let dir = temp_dir();
    let store = store(&dir.path().join("root")).await;
    let of_year = |day: &str| {
        let at = instants([Some(instant(day).micros())]);
        batch(vec![("k", integers([Some(1)])), ("at", at), ("v", integers([Some(1)]))])
    };
    let months = ["1700-01-01", "1800-01-01", "2010-01-01"].map(of_year);
    table(&store, dir.path(), "old", FactTable::new("at", KnownAt::after(TimeDelta::zero())), &months).await;
    let at = instants([Some(instant("2014-01-01").micros())]);
    let nanos = cast(&at, &DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))).unwrap();
    let spine = SessionContext::new().read_batch(batch(vec![("k", integers([Some(1)])), ("at", nanos)])).unwrap();
    let window = Window::of(store.facts("old", instant("2100-01-01")).await.unwrap()).on("k");
    let window = window.trailing(TimeDelta::days(365_000), [Aggregate::count().named("n")]);
    let rows = collected(Spine::new(spine, "at").window([window]).unwrap().into_rows()).await;
    assert_eq!(rows.column_by_name("n").unwrap().as_ref(), integers([Some(3)]).as_ref());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_read_changes_no_answer() {
    let dir = temp_dir();
    let store = store(&dir.path().join("root")).await;
    let end = instant("2100-01-01");
    let zone = || "America/New_York".parse().unwrap();
    let plain = |unit: TimeUnit| DataType::Timestamp(unit, None);
    let known = || KnownAt::column("known");
    let late = || KnownAt::after(TimeDelta::hours(7));
    let tables = [
        ("micros", utc_micros(), FactTable::new("at", late())),
        ("nanos", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), FactTable::new("at", known())),
        ("local_s", plain(TimeUnit::Second), FactTable::new("at", known()).zone(zone())),
        ("local_ms", plain(TimeUnit::Millisecond), FactTable::new("at", late()).zone(zone())),
        ("days", DataType::Date32, FactTable::new("at", late()).zone(zone()).tie_break("v")),
    ];
    let mut rng = StdRng::seed_from_u64(5);
    let start = instant(START).micros();
    let mut left_out_at_all = 0;
    for (name, data_type, declared) in tables {
        let months = facts(&data_type);
        table(&store, dir.path(), name, declared.clone(), &months).await;
        let session = SessionContext::new();
        let in_memory = Facts::new(name, session.read_batches(months).unwrap(), declared);
        for round in 0..24 {
            // Instants at facts and edges of windows, to the microsecond, close together or far apart.
            let middle = rng.random_range(0..MONTHS * 120);
            let rows: Vec<(i64, i64)> = (0..rng.random_range(1..12))
                .map(|_| {
                    let near = (middle + rng.random_range(-9..10)) * DAY_US / 4;
                    let edge =
                        rng.random_range(0..3) * 7 * DAY_US + rng.random_range(-1..2) + rng.random_range(0..2) * 3_600_000_000;
                    (rng.random_range(0..4), start + near + edge)
                })
                .collect();
            let cutoff = if rng.random_bool(0.5) { Cutoff::Inclusive } else { Cutoff::Exclusive };
            let age = TimeDelta::hours(rng.random_range(0..60));
            let length = match round % 8 {
                0 => WindowLength::this_month(zone()),
                1 => WindowLength::this_week(zone()),
                2 => WindowLength::this_day(zone()),
                3 => WindowLength::months(1, zone()),
                5 => WindowLength::hopping(TimeDelta::days(7), TimeDelta::days(1), zone()),
                6 => WindowLength::tumbling_months(1, zone()),
                4 => WindowLength::since_within("v > 2", TimeDelta::days(7)),
                _ => TimeDelta::days(7).into(),
            };
            let ask = |facts: &Facts| {
                let lookup = Lookup::of(facts.clone()).on("k").column("v").cutoff(cutoff).max_age(age);
                let window = Window::of(facts.clone()).on("k").trailing(length.clone(), count_and_sum()).cutoff(cutoff);
                spine(&rows).lookup([lookup]).unwrap().window([window]).unwrap().into_rows()
            };
            let in_store = store.facts(name, end).await.unwrap();
            let (pruned, whole) = (collected(ask(&in_store)).await, collected(ask(&in_memory)).await);
            assert_eq!(bit_rows(&pruned), bit_rows(&whole), "`{name}`, round {round}: {rows:?}, {cutoff:?}, {age}");
            left_out_at_all += run(ask(&in_store)).await.0;
        }
    }
    assert!(left_out_at_all > 1_000, "{left_out_at_all} files were left out");
}
