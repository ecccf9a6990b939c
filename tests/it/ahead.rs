//! Labels that lie ahead, against a naive oracle: boundaries, delays, corrections, windows that are still open.

use std::{collections::BTreeMap, fmt::Write as _};

use asof::{
    Aggregate, AsOf, Error, FeatureSet, FeatureStore,
    backtest::{Backtest, Folds, MeanOnly},
    catalog::{FactTable, KnownAt},
    encoder::Number,
    feature_set::Ahead,
    ingest::Ingest,
    time::Span,
};
use chrono::TimeDelta;
use datafusion::arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Float64Type, TimestampMicrosecondType},
    util::display::array_value_to_string,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    parity::whole,
    support::{store, temp_dir, write_text},
};

const MINUTE_US: i64 = 60_000_000;
/// 2014-01-01.
const START_US: i64 = 1_388_534_400_000_000;

fn at(minute: i64) -> AsOf {
    AsOf::from_micros(START_US + minute * MINUTE_US)
}

/// A version of an event: minutes of event and known-at, the event's name, key and value.
#[derive(Debug, Clone, Copy)]
struct Version {
    event: i64,
    known: i64,
    id: i64,
    key: i64,
    value: i64,
}

/// What a table declares of its events.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Known {
    Column,
    Delay(i64),
}

async fn load(store: &FeatureStore, dir: &std::path::Path, table: &str, declared: FactTable, csv: &str) {
    let path = write_text(dir, &format!("{table}.csv"), csv);
    store.ingest(&Ingest::new(table, declared).unwrap().from(path)).await.unwrap();
}

/// The rows of `visits_v1` as of a minute, by the definition: begin, key, count, sum, and the next value.
fn expected(visits: &[(i64, i64)], events: &[Version], known: Known, has_identity: bool, asked: Asked) -> Vec<String> {
    let Asked { as_of, length, settle } = asked;
    let known_at = |version: &Version| match known {
        Known::Column => version.known,
        Known::Delay(delay) => version.event + delay,
    };
    let mut visible: Vec<Version> = events.iter().copied().filter(|v| v.event < as_of && known_at(v) < as_of).collect();
    if has_identity {
        let mut latest: BTreeMap<i64, Version> = BTreeMap::new();
        for version in visible {
            let rank = |v: &Version| (known_at(v), v.event, v.key, v.value);
            latest
                .entry(version.id)
                .and_modify(|v| {
                    if rank(&version) > rank(v) {
                        *v = version
                    }
                })
                .or_insert(version);
        }
        visible = latest.into_values().collect();
    }
    let wait = match known {
        Known::Column => settle,
        Known::Delay(delay) => settle.max(delay),
    };
    let mut rows: Vec<(i64, i64, String)> = Vec::new();
    for &(begin, key) in visits.iter().filter(|(begin, _)| *begin < as_of && begin + length + wait <= as_of) {
        let of_key = || visible.iter().filter(move |v| v.key == key);
        let inside: Vec<i64> = of_key().filter(|v| v.event >= begin && v.event < begin + length).map(|v| v.value).collect();
        let next = of_key().filter(|v| v.event > begin).min_by_key(|v| match known {
            Known::Column => (v.event, -v.known, -v.id, -v.value),
            Known::Delay(_) => (v.event, -v.id, -v.known, -v.value),
        });
        let Some(next) = next else { continue };
        let sum = if inside.is_empty() { "NULL".into() } else { inside.iter().sum::<i64>().to_string() };
        rows.push((begin, key, format!("{begin} {key} {} {sum} {}", inside.len(), next.value)));
    }
    rows.sort();
    rows.into_iter().map(|(.., text)| text).collect()
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    as_of: i64,
    length: i64,
    settle: i64,
}

fn shown(rows: &RecordBatch) -> Vec<String> {
    let integer = |name: &str, row: usize| {
        let column = rows.column_by_name(name).unwrap();
        if column.is_null(row) {
            "NULL".to_owned()
        } else {
            array_value_to_string(column, row).unwrap().trim_end_matches(".0").to_owned()
        }
    };
    (0..rows.num_rows())
        .map(|row| {
            let begin = rows.column_by_name("at").unwrap().as_primitive::<TimestampMicrosecondType>().value(row);
            let key = rows.column_by_name("key").unwrap().as_primitive::<Float64Type>().value(row);
            let begin = (begin - START_US) / MINUTE_US;
            format!("{begin} {key} {} {} {}", integer("n", row), integer("sum", row), integer("next", row))
        })
        .collect()
}

fn visits_set(name: &str, length: i64, settle: Option<i64>) -> FeatureSet {
    let mut ahead = Ahead::of("events")
        .on("k")
        .window(TimeDelta::minutes(length), [Aggregate::count().named("n"), Aggregate::sum("v").named("sum")]);
    ahead = ahead.next("v", "next");
    if let Some(settle) = settle {
        ahead = ahead.settle(TimeDelta::minutes(settle));
    }
    FeatureSet::rows(name, "SELECT at, k FROM visits")
        .table("visits")
        .event_time("at")
        .encode(Number::of("k").named("key"))
        .label_ahead(ahead)
        .build()
        .unwrap()
}

/// The values of facts with the same identity and times differ, so no rank is left open.
#[tokio::test(flavor = "multi_thread")]
async fn labels_are_those_of_the_definition() {
    let mut rng = StdRng::seed_from_u64(5);
    let (mut labelled, mut empty) = (0, 0);
    for (round, (known, has_identity)) in [
        (Known::Column, false),
        (Known::Column, true),
        (Known::Delay(0), false),
        (Known::Delay(7), false),
        (Known::Delay(7), true),
    ]
    .into_iter()
    .enumerate()
    {
        let (data, root) = (temp_dir(), temp_dir());
        let store = store(root.path()).await;
        let visits: Vec<(i64, i64)> = (0..60).map(|_| (rng.random_range(0..120), rng.random_range(0..3))).collect();
        let events: Vec<Version> = (0..80)
            .map(|value| {
                let event = rng.random_range(0..120);
                let known = event + [0, 0, 1, 5, 30][rng.random_range(0..5)];
                Version { event, known, id: rng.random_range(0..40), key: rng.random_range(0..3), value }
            })
            .collect();
        let mut csv = "at,k\n".to_owned();
        visits.iter().for_each(|(minute, key)| writeln!(csv, "{},{key}", at(*minute)).unwrap());
        load(&store, data.path(), "visits", FactTable::new("at", KnownAt::after(TimeDelta::zero())), &csv).await;
        let mut csv = "at,known,id,k,v\n".to_owned();
        for Version { event, known, id, key, value } in &events {
            writeln!(csv, "{},{},{id},{key},{value}", at(*event), at(*known)).unwrap();
        }
        let known_at = match known {
            Known::Column => KnownAt::column("known"),
            Known::Delay(delay) => KnownAt::after(TimeDelta::minutes(delay)),
        };
        let declared = FactTable::new("at", known_at);
        let declared = if has_identity { declared.identity("id") } else { declared };
        load(&store, data.path(), "events", declared, &csv).await;

        for (i, (length, settle)) in [(10, Some(0)), (1, Some(3)), (45, Some(30)), (10, None)].into_iter().enumerate() {
            if settle.is_none() && known == Known::Column {
                continue;
            }
            let set = visits_set(&format!("visits_{round}_v{}", i + 1), length, settle);
            store.register(set.clone()).unwrap();
            for as_of in [0, 1, 11, 20, 57, 80, 121, 130, 200] {
                let made = store.materialize(set.name().as_str(), at(as_of)).await.unwrap();
                let asked = Asked { as_of, length, settle: settle.unwrap_or(0) };
                // Equal visits are equal rows, so the visits may hold duplicates, which a load keeps.
                let wanted = expected(&visits, &events, known, has_identity, asked);
                assert_eq!(shown(&whole(&made).await), wanted, "{known:?} {has_identity} {asked:?}");
                labelled += wanted.len();
                empty += usize::from(wanted.is_empty());
            }
        }
    }
    assert!(labelled > 1_000 && empty > 10, "{labelled} {empty}");
}

#[tokio::test]
async fn a_label_is_scored_only_when_it_is_known() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let declared = || FactTable::new("at", KnownAt::after(TimeDelta::zero()));
    let mut csv = "at,k\n".to_owned();
    (0..100).for_each(|minute| writeln!(csv, "{},{}", at(minute), minute % 2).unwrap());
    load(&store, data.path(), "visits", declared(), &csv).await;
    let mut csv = "at,k,v\n".to_owned();
    (0..200).for_each(|minute| writeln!(csv, "{},{},{minute}", at(minute), minute % 2).unwrap());
    load(&store, data.path(), "events", declared(), &csv).await;
    let set = FeatureSet::rows("visits_v1", "SELECT at, k FROM visits").table("visits").event_time("at");
    let ahead = Ahead::of("events").on("k").window(TimeDelta::minutes(10), [Aggregate::count().named("n")]);
    store.register(set.encode(Number::of("k")).label_ahead(ahead).build().unwrap()).unwrap();
    let folds = || Folds::new([(at(40), Span::new(at(40), at(60)))]).unwrap();
    let scored = async |settle: i64| {
        let backtest = Backtest::with_learner("visits_v1", "n", folds(), MeanOnly).settle(TimeDelta::minutes(settle));
        let fold = store.backtest(&backtest).await.unwrap().folds.remove(0);
        (fold.rows_seen, fold.rows_scored)
    };
    // At minute 40 the labels of the visits up to minute 30 are known; at minute 60 those up to minute 50.
    assert_eq!(scored(0).await, (31, 11));
    assert_eq!(scored(9).await, (31, 20));
    assert_eq!(scored(10).await, (31, 20));
}

#[tokio::test]
async fn mistakes_of_labels_ahead_are_named() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let visits = || FeatureSet::rows("visits_v1", "SELECT at, k FROM visits").table("visits").event_time("at");
    let refused = |ahead: Ahead| visits().encode(Number::of("k")).label_ahead(ahead).build().unwrap_err().to_string();
    let count = || [Aggregate::count().named("n")];
    for (ahead, told) in [
        (Ahead::of("events").on("k").window(TimeDelta::zero(), count()), "the window of the label `n` is 0"),
        (Ahead::of("events").on("k").window(TimeDelta::days(-1), count()), "must be longer than zero"),
        (Ahead::of("events").window(TimeDelta::days(1), count()), "found by no key"),
        (Ahead::of("events").on("k"), "makes no label"),
        (Ahead::of("events").on("k").next("v", "n").settle(TimeDelta::seconds(-1)), "settle after"),
    ] {
        let text = refused(ahead);
        assert!(text.contains("`visits_v1`") && text.contains(told), "{text}");
    }
    // An encoder that reads a label, of whichever kind.
    let ahead = || Ahead::of("events").on("k").window(TimeDelta::days(1), count());
    let told = visits().encode(Number::of("n").named("x")).label_ahead(ahead()).build().unwrap_err().to_string();
    assert!(told.contains("encoder `number` reads the label `n`"), "{told}");
    let told = visits().encode(Number::of("k").named("x")).label("k").build().unwrap_err().to_string();
    assert!(told.contains("reads the label `k`"), "{told}");

    load(
        &store,
        data.path(),
        "visits",
        FactTable::new("at", KnownAt::after(TimeDelta::zero())),
        "at,k\n2014-01-01T00:00:00Z,1\n",
    )
    .await;
    let events = "at,known,k,v\n2014-01-01T00:00:00Z,2014-01-01T00:00:00Z,1,1\n";
    load(&store, data.path(), "events", FactTable::new("at", KnownAt::column("known")), events).await;
    store.register(visits().encode(Number::of("k").named("x")).label_ahead(ahead()).build().unwrap()).unwrap();
    let told = store.materialize("visits_v1", at(99)).await.unwrap_err();
    assert!(matches!(told, Error::Definition { .. }), "{told}");
    assert!(told.to_string().contains("Ahead::settle") && told.to_string().contains("`known`"), "{told}");
}
