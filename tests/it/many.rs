//! Several instants at once: each materialization is the one that a single call makes, in every byte.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use asof::{
    Aggregate, AsOf, Error, Expression, FeatureSet, FeatureStore, Materialization, Resources, StoreOptions,
    catalog::{FactTable, KnownAt},
    encoder::{Cyclic, Number, OneHot, OutlierFilter, Sample, Standardize},
    feature_set::{Ahead, Source},
    time::{Every, Zone},
};
use chrono::TimeDelta;
use datafusion::arrow::array::{ArrayRef, Decimal128Array, StringArray, TimestampMicrosecondArray};
use object_store::memory::InMemory;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tempfile::TempDir;

use crate::{
    crash::{self, load_of, rides},
    failing_store::{BREAKS, Calls, Failing},
    opened_once::store_of_watched_files,
    support::{instant, temp_dir, write_parquet},
    training::{floats, instants, integers},
};

const SECOND_US: i64 = 1_000_000;

fn second(s: i64) -> AsOf {
    AsOf::from_micros(s * SECOND_US)
}

/// `facts` with two keys and a known-at; `places` by the first key with local times; `rides` with corrections; the timeless `kinds`. Months
/// lie in folders of their own, so that an early instant reads fewer files.
pub(crate) fn write_tables(dir: &Path, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    for file in 0..3_i64 {
        let rows = 160;
        let mut optional = |of: &mut dyn FnMut(&mut StdRng) -> i64| -> Vec<Option<i64>> {
            (0..rows).map(|_| if rng.random_bool(0.08) { None } else { Some(of(&mut rng)) }).collect()
        };
        let k1 = optional(&mut |rng| rng.random_range(0..6));
        let k2 = optional(&mut |rng| rng.random_range(0..4));
        let v = optional(&mut |rng| rng.random_range(-50..50));
        let text = optional(&mut |rng| rng.random_range(0..5));
        let at = optional(&mut |rng| (file * 300 + rng.random_range(0..300)) * SECOND_US);
        let delay = optional(&mut |rng| *[0, 0, 5, 400].choose(rng).unwrap() * SECOND_US);
        let known = at.iter().zip(&delay).map(|(at, delay)| Some((*at)? + (*delay)?)).collect::<Vec<_>>();
        let amounts = v.iter().map(|v| v.map(|v| i128::from(v) * 7)).collect::<Decimal128Array>();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("k1", integers(k1.iter().copied())),
            ("k2", Arc::new(k2.iter().map(|k| k.map(|k| format!("p{k}"))).collect::<StringArray>())),
            ("at", instants(at.iter().copied())),
            ("known", instants(known.iter().copied())),
            ("v", floats(v.iter().map(|v| v.map(|v| if v == 49 { f64::NAN } else { v as f64 / 3.0 })))),
            ("n", integers(v.iter().copied())),
            (
                "text",
                Arc::new(text.iter().map(|t| t.map(|t| ["", "a", "b", "Zürich", "b"][t as usize])).collect::<StringArray>()),
            ),
            ("amount", Arc::new(amounts.with_precision_and_scale(12, 2).unwrap())),
        ];
        write_parquet(&dir.join(format!("facts/part={file}/rows.parquet")), &columns, None);
        let local: TimestampMicrosecondArray = at.iter().copied().collect();
        let places: Vec<(&str, ArrayRef)> = vec![
            ("k1", integers(k1.iter().map(|k| k.map(|k| k + 2)))),
            ("at", Arc::new(local)),
            ("heat", floats(v.iter().map(|v| v.map(|v| v as f64)))),
        ];
        write_parquet(&dir.join(format!("places/part={file}/rows.parquet")), &places, None);
        let rides: Vec<(&str, ArrayRef)> = vec![
            ("ride", integers((0..rows).map(|_| Some(rng.random_range(0..60))))),
            ("k1", integers(k1.iter().copied())),
            ("at", instants(at.iter().copied())),
            ("known", instants(known.iter().copied())),
            ("v", floats(v.iter().map(|v| v.map(|v| v as f64)))),
        ];
        write_parquet(&dir.join(format!("rides/part={file}/rows.parquet")), &rides, None);
    }
    // One of the keys has no fact.
    let kinds: Vec<(&str, ArrayRef)> =
        vec![("k1", integers((1..9).map(Some))), ("kind", integers((1..9).map(|k| (k != 3).then_some(k % 4))))];
    write_parquet(&dir.join("kinds/rows.parquet"), &kinds, None);
}

pub(crate) async fn open(dir: &Path, root: &Path, resources: Resources) -> FeatureStore {
    let options = StoreOptions::default().cache_in_memory().resources(resources);
    let store = FeatureStore::open_with(root.to_str().unwrap(), options).await.unwrap();
    let at = |name: &str| dir.join(name).to_string_lossy().into_owned();
    store.register_table("facts", &at("facts"), FactTable::new("at", KnownAt::column("known"))).await.unwrap();
    let berlin: Zone = "Europe/Berlin".parse().unwrap();
    let places = FactTable::new("at", KnownAt::after(TimeDelta::seconds(20))).zone(berlin);
    store.register_table("places", &at("places"), places).await.unwrap();
    let rides = FactTable::new("at", KnownAt::column("known")).identity("ride");
    store.register_table("rides", &at("rides"), rides).await.unwrap();
    store.register_table("kinds", &at("kinds"), FactTable::timeless(["k1"])).await.unwrap();
    for set in sets() {
        store.register(set).unwrap();
    }
    store
}

/// Sets that share work, and sets that do not.
fn sets() -> Vec<FeatureSet> {
    let every = |prefix: &str| {
        let named = |aggregate: Aggregate, name: &str| aggregate.named(format!("{prefix}_{name}"));
        vec![
            named(Aggregate::count(), "count"),
            named(Aggregate::sum("v"), "sum"),
            named(Aggregate::sum("amount"), "amounts"),
            named(Aggregate::mean("n").filter("n > -20"), "mean"),
            named(Aggregate::stddev("v"), "stddev"),
            named(Aggregate::median("v"), "median"),
            named(Aggregate::max("text"), "max"),
            named(Aggregate::first("v"), "first"),
            named(Aggregate::mode("text"), "mode"),
            named(Aggregate::last_k("text", 2), "last_2"),
            named(Aggregate::count_distinct("text"), "distinct"),
        ]
    };
    let pairs = |name: &str| {
        let places = Source::of("places").on("k1").lookup("heat", "heat").max_age(TimeDelta::seconds(90));
        let places = places.window(TimeDelta::seconds(200), [Aggregate::mean("heat").named("mean_heat")]);
        let old = Source::of("facts").on("k2").lookup("text", "text_of_k2").max_age(TimeDelta::seconds(30));
        FeatureSet::entities(name, "facts")
            .key("k1")
            .key("k2")
            .lookup("v", "last_v")
            .lookup("text", "last_text")
            .window(TimeDelta::seconds(60), every("minute"))
            .window(TimeDelta::seconds(250), [Aggregate::count().named("count_250")])
            .all_before(every("all"))
            .also(places)
            .also(old.window(TimeDelta::seconds(100), [Aggregate::sum("v").named("sum_of_k2")]))
    };
    let zones = FeatureSet::entities("zones_v1", "facts").key("k1").window(TimeDelta::seconds(60), [Aggregate::count()]);
    let zones = zones.lookup("v", "zone_v").build().unwrap();
    let rows = |name: &str, query: &str| FeatureSet::rows(name, query).table("facts").event_time("at");
    let all = "SELECT at, k1, v, n, text, 2 * n AS twice FROM facts WHERE n > -45";
    let fitted = |name: &str| {
        rows(name, all)
            .encode(Number::of("n"))
            .encode(Cyclic::hour_of_day("at", Zone::UTC))
            .encode_fitted(Standardize::of("n").named("standard"))
            .encode_fitted(OneHot::of("text", ["a", "b"]).named("text_is"))
            .label("twice")
    };
    vec![
        pairs("pairs_v1").build().unwrap(),
        pairs("inclusive_v1").inclusive().build().unwrap(),
        FeatureSet::entities("aging_v1", "facts").key("k1").lookup("v", "v").max_age(TimeDelta::seconds(40)).build().unwrap(),
        FeatureSet::entities("counts_v1", "facts").key("k2").all_before([Aggregate::count()]).build().unwrap(),
        FeatureSet::entities("corrected_v1", "rides")
            .key("k1")
            .lookup("v", "v")
            .all_before([Aggregate::sum("v")])
            .build()
            .unwrap(),
        FeatureSet::entities("computed_v1", "facts")
            .key("k1")
            .window(
                TimeDelta::seconds(60),
                [
                    Aggregate::sum(Expression::sql("100 / n")).filter("n > 0").named("shares"),
                    Aggregate::max_by("text", Expression::sql("v * n")).named("text_of_most"),
                    Aggregate::top_k(Expression::sql("n % 5"), 2).named("top"),
                ],
            )
            .also(Source::timeless("kinds").on("k1").lookup("kind", "kind"))
            .build()
            .unwrap(),
        rows("plain_v1", all).encode(Number::of("n")).label("v").build().unwrap(),
        fitted("fitted_v1").build().unwrap(),
        fitted("filtered_v1").keep(OutlierFilter::between_percentiles(5.0, 95.0).of(["n"])).build().unwrap(),
        fitted("sampled_v1").keep(Sample::fraction(0.5, 3).of_numbers(["n"])).build().unwrap(),
        rows("drawn_v1", "SELECT at, k1, n, v FROM facts WHERE k1 IS NOT NULL AND known = at")
            .features_of(zones.clone().by(["k1"]))
            .pass(["zone_v", "count"])
            .encode_fitted(Standardize::of("n").named("standard"))
            .label("v")
            .build()
            .unwrap(),
        zones,
        // Nothing is shared by these.
        rows("grouped_v1", "SELECT at, count(*) AS c, max(n) AS n FROM facts GROUP BY at")
            .encode(Number::of("n"))
            .label("c")
            .build()
            .unwrap(),
        rows("ahead_v1", "SELECT at, k1, n FROM facts")
            .label_ahead(
                Ahead::of("facts")
                    .on("k1")
                    .settle(TimeDelta::seconds(10))
                    .window(TimeDelta::seconds(30), [Aggregate::count().named("next")]),
            )
            .encode(Number::of("n"))
            .build()
            .unwrap(),
    ]
}

const SETS: [&str; 14] = [
    "pairs_v1",
    "inclusive_v1",
    "aging_v1",
    "counts_v1",
    "corrected_v1",
    "computed_v1",
    "plain_v1",
    "fitted_v1",
    "filtered_v1",
    "sampled_v1",
    "drawn_v1",
    "zones_v1",
    "grouped_v1",
    "ahead_v1",
];

/// The same materializations: ids, inputs, states, counts, and files with their hashes.
async fn assert_same(set: &str, found: &[Materialization], expected: &[Materialization]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.manifest(), expected.manifest(), "{set} as of {}", expected.as_of());
        found.verify().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_instants_give_what_single_calls_give_byte_for_byte() {
    for seed in 0..3 {
        let data = temp_dir();
        write_tables(data.path(), seed);
        let mut rng = StdRng::seed_from_u64(seed + 100);
        // Unsorted, some equal, some before the first fact and after the last.
        let mut instants: Vec<AsOf> = (0..8).map(|_| second(rng.random_range(-40..1_400))).collect();
        instants.extend([instants[3], second(-10), second(0), second(10_000)]);
        let (one, other) = (temp_dir(), temp_dir());
        let single = open(data.path(), one.path(), Resources { partitions: 1, ..Resources::default() }).await;
        // The last seed has memory for a few instants at a time, but not for the sorts of sets of rows.
        let (held_bytes, sets) = if seed == 2 { (400_000, &SETS[..4]) } else { (4 << 30, &SETS[..]) };
        let many = open(data.path(), other.path(), Resources { partitions: 4, held_bytes, ..Resources::default() }).await;
        for &set in sets {
            let mut expected = Vec::new();
            for at in &instants {
                expected.push(single.materialize(set, *at).await.unwrap());
            }
            // Some are there already.
            many.materialize(set, instants[1]).await.unwrap();
            let found = many.materialize_many(set, &instants).await.unwrap();
            assert_same(set, &found, &expected).await;
            // And now all of them.
            assert_same(set, &many.materialize_many(set, &instants).await.unwrap(), &expected).await;
        }
    }
}

/// The requests for files of facts that some instants take.
async fn requests(instants: &[AsOf]) -> (usize, u64) {
    let (_dir, store, seen) = store_of_watched_files(2).await;
    let by_k = Source::of("f").on("k").lookup("v", "last_of_k");
    let pairs = FeatureSet::entities("pairs_v1", "f").key("k").key("k2").lookup("v", "last").also(by_k);
    store.register(pairs.window(TimeDelta::days(1), [Aggregate::sum("v")]).build().unwrap()).unwrap();
    let rows = FeatureSet::rows("rows_v1", "SELECT at, k, v FROM f").table("f").event_time("at");
    store.register(rows.encode_fitted(Standardize::of("v").named("standard")).label("k").build().unwrap()).unwrap();
    let before = seen.requests.load(Ordering::SeqCst);
    let mut rows = 0;
    for set in ["pairs_v1", "rows_v1"] {
        rows += store.materialize_many(set, instants).await.unwrap().iter().map(Materialization::rows).sum::<u64>();
    }
    (seen.requests.load(Ordering::SeqCst) - before, rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_instants_take_hardly_more_requests_than_two() {
    let at = |count: i64| (0..count).map(|i| AsOf::from_micros(1_000 + i)).collect::<Vec<_>>();
    let ((two, rows_of_two), (twenty, rows_of_twenty)) = (requests(&at(2)).await, requests(&at(20)).await);
    assert_eq!(rows_of_twenty, rows_of_two * 10);
    assert_eq!(two, twenty);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_has_the_months_of_its_zone() {
    let data = temp_dir();
    let store = crate::support::store(&data.path().join("root")).await;
    let [january, february] = rides(data.path());
    for file in [january, february] {
        store.ingest(&load_of(&file)).await.unwrap();
    }
    crash::register(&store).unwrap();
    let (from, to) = (instant("2014-01-01T05:00:00Z"), instant("2014-05-01T04:00:00Z"));
    let new_york: Zone = "America/New_York".parse().unwrap();
    let made = store.materialize_range("zones_v1", from, to, Every::Month, new_york).await.unwrap();
    let found: Vec<(String, u64)> = made.iter().map(|made| (made.as_of().to_string(), made.rows())).collect();
    let expected = [("01-01T05", 0), ("02-01T05", 2), ("03-01T05", 3), ("04-01T04", 3)];
    assert_eq!(found, expected.map(|(at, rows)| (format!("2014-{at}:00:00Z"), rows)));

    let error = store.materialize_range("zones_v1", to, from, Every::Day, new_york).await.unwrap_err();
    assert!(error.to_string().contains("the range from 2014-05-01T04:00:00Z to 2014-01-01T05:00:00Z: it is empty"), "{error}");
    let error = store.materialize_many("zones_v1", &[]).await.unwrap_err();
    assert!(error.to_string().contains("the instants of `zones_v1`: there are none"), "{error}");
    let error = store.materialize_many("fares_v1", &[instant("1914-01-01"), instant("1914-02-01")]).await.unwrap_err();
    assert!(matches!(error, Error::Definition { .. }), "{error}");
    assert!(error.to_string().contains("up to 1914-02-01T00:00:00Z, lie before every fact of `rides` (at)"), "{error}");
    // What is published is found.
    let early = store.materialize("fares_v1", instant("1914-01-01")).await.unwrap();
    let found = store.materialize_many("fares_v1", &[instant("1914-01-01")]).await.unwrap();
    assert_eq!((found[0].id(), found[0].rows()), (early.id(), 0));
    let error = store.materialize_many("unknown_v1", &[from]).await.unwrap_err();
    assert!(matches!(error, Error::UnknownFeatureSet { .. }), "{error}");
}

/// A root in memory with two loads.
async fn loaded() -> (TempDir, InMemory, PathBuf) {
    let data = temp_dir();
    let [january, february] = rides(data.path());
    let base = InMemory::new();
    let store = crash::open(Arc::new(base.clone())).await.unwrap();
    for file in [&january, &february] {
        store.ingest(&load_of(file)).await.unwrap();
    }
    (data, base, january)
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_fails_what_is_published_is_whole_and_a_rerun_makes_the_rest() {
    let (_data, base, january) = loaded().await;
    assert!(fs::exists(january).unwrap());
    let instants = ["2014-02-01T00:00:00Z", "2014-02-02T11:30:00Z", crash::RIDES_SEEN].map(instant);
    for set in ["zones_v1", "fares_v1"] {
        let whole = crash::open(Arc::new(base.fork())).await.unwrap();
        let expected = whole.materialize_many(set, &instants).await.unwrap();
        let calls = |k, fault| Arc::new(Calls { k, fault, count: AtomicUsize::new(0), log: Mutex::default() });
        let mut partly = 0;
        for k in 0.. {
            let mut was_made = false;
            for fault in BREAKS {
                let (memory, calls) = (base.fork(), calls(k, *fault));
                let failing = Failing { inner: memory.clone(), calls: calls.clone() };
                let outcome = match crash::open(Arc::new(failing)).await {
                    Ok(store) => store.materialize_many(set, &instants).await.map(drop),
                    Err(error) => Err(error),
                };
                was_made |= calls.count.load(Ordering::SeqCst) > k;
                let left = crash::open(Arc::new(memory.clone())).await.unwrap();
                let mut there = 0;
                for expected in &expected {
                    let plan = left.plan(set, expected.as_of()).await.unwrap();
                    if plan.published.is_some() {
                        there += 1;
                        let found = left.materialize(set, expected.as_of()).await.unwrap();
                        assert_same(set, &[found], std::slice::from_ref(expected)).await;
                    }
                }
                partly += usize::from(there > 0 && there < expected.len());
                assert!(outcome.is_err() || there == expected.len(), "call {k}, {fault:?}");
                assert_same(set, &left.materialize_many(set, &instants).await.unwrap(), &expected).await;
            }
            if !was_made {
                break;
            }
        }
        assert!(partly > 3, "{set}: only {partly} faults came between two publications");
    }
}
