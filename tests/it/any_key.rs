//! Whoever is asked about gets online what training gives at the same instant, seen or not; and who is an entity follows the
//! facts that are seen.

use std::sync::Arc;

use asof::{
    Aggregate, AsOf, Error, FeatureSet, FeatureStore, Value,
    catalog::{FactTable, KnownAt},
    feature_set::Source,
    temporal::Spine,
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, Decimal128Array, RecordBatch, StringArray, UInt64Array},
        compute::cast,
        datatypes::{DataType, Field, Int64Type, Schema},
    },
    prelude::SessionContext,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use crate::{
    parity::{bit_rows, columns, whole},
    support::{store, temp_dir, write_parquet},
    training::{collected, floats, instants, integers, known_at_once},
};

pub(crate) const SECOND_US: i64 = 1_000_000;

pub(crate) fn second(s: i64) -> AsOf {
    AsOf::from_micros(s * SECOND_US)
}

fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    let fields: Vec<Field> = columns.iter().map(|(name, c)| Field::new(*name, c.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.iter().map(|(_, c)| c.clone()).collect()).unwrap()
}

pub(crate) async fn table(dir: &TempDir, store: &FeatureStore, name: &str, columns: &[(&str, ArrayRef)], declared: FactTable) {
    let place = dir.path().join(name);
    write_parquet(&place.join("all.parquet"), columns, None);
    store.register_table(name, place.to_str().unwrap(), declared).await.unwrap();
}

/// Training and serving of these keys at an instant: the features as bits, and the keys that have a row.
pub(crate) async fn both(
    store: &FeatureStore,
    set: &str,
    keys: &[&str],
    asked: &[Vec<Value>],
    at: AsOf,
) -> (Vec<String>, Vec<String>, Vec<bool>) {
    let mut rows: Vec<(&str, ArrayRef)> = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        let is_text = asked.iter().any(|key| matches!(key[i], Value::Text(_)));
        let column: ArrayRef = match is_text {
            true => Arc::new(
                asked
                    .iter()
                    .map(|key| match &key[i] {
                        Value::Text(text) => Some(text.clone()),
                        _ => None,
                    })
                    .collect::<StringArray>(),
            ),
            false => integers(asked.iter().map(|key| match key[i] {
                Value::Int(key) => Some(key),
                _ => None,
            })),
        };
        rows.push((key, column));
    }
    rows.push(("asked_at", instants(asked.iter().map(|_| Some(at.micros())))));
    let spine = SessionContext::new().read_batch(batch(&rows)).unwrap();
    let made = store.materialize(set, at).await.unwrap();
    let features = made.manifest().features.clone();
    let trained =
        collected(store.training_set(set, Spine::new(spine, "asked_at")).await.unwrap().dataframe().await.unwrap()).await;
    let online = store.online_for(&made).await.unwrap();
    let served = asked.iter().map(|key| {
        let row = online.get_at(key, at).unwrap();
        bit_rows(&columns(&row.batch().unwrap(), &features)).concat()
    });
    let known = asked.iter().map(|key| online.contains(key).unwrap());
    (bit_rows(&columns(&trained, &features)), served.collect(), known.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_second_table_alone_is_an_entity() {
    let dir = temp_dir();
    let store = store(&dir.path().join("store")).await;
    let trips = [("zone", integers([Some(1)])), ("at", instants([Some(0)])), ("fare", floats([Some(9.0)]))];
    let tips =
        [("zone", integers([Some(1), Some(777)])), ("at", instants([Some(0), Some(1)])), ("tip", floats([Some(1.0), Some(1.5)]))];
    table(&dir, &store, "trips", &trips, known_at_once()).await;
    table(&dir, &store, "tips", &tips, known_at_once()).await;
    let tips =
        Source::of("tips").on("zone").all_before([Aggregate::count().named("tips"), Aggregate::sum("tip").named("tip_sum")]);
    let set = FeatureSet::entities("zones_v1", "trips").key("zone").all_before([Aggregate::count().named("trips")]).also(tips);
    store.register(set.build().unwrap()).unwrap();
    let made = store.materialize("zones_v1", second(10)).await.unwrap();
    assert_eq!(whole(&made).await.column(0).as_primitive::<Int64Type>().values(), &[1, 777]);
    let row = store.online_for(&made).await.unwrap().get(&[777.into()]).unwrap();
    assert_eq!(["trips", "tips", "tip_sum"].map(|name| row.number(name).unwrap()), [Some(0.0), Some(1.0), Some(1.5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_never_occurred_is_told_what_one_of_its_keys_tells() {
    let dir = temp_dir();
    let store = store(&dir.path().join("store")).await;
    let columns = [
        ("vendor", integers((0..70).map(|_| Some(1)))),
        ("passengers", integers((0..70).map(|i| Some(i % 3)))),
        ("at", instants((0..70).map(Some))),
    ];
    table(&dir, &store, "trips", &columns, known_at_once()).await;
    let by_vendor = Source::of("trips").on("vendor").all_before([Aggregate::count().named("vendor_cnt")]);
    let set = FeatureSet::entities("pairs_v1", "trips").key("vendor").key("passengers");
    store.register(set.all_before([Aggregate::count().named("cnt")]).also(by_vendor).build().unwrap()).unwrap();
    let asked = vec![vec![1.into(), 9.into()], vec![1.into(), 0.into()], vec![2.into(), 0.into()], vec![1.into(), Value::Null]];
    let (trained, served, known) = both(&store, "pairs_v1", &["vendor", "passengers"], &asked, second(1)).await;
    assert_eq!(served, ["0 70", "24 70", "0 0", "0 70"]);
    assert_eq!(trained, served);
    assert_eq!(known, [false, true, false, false]);
}

/// T18 of the findings: existence follows what is seen, not raw facts.
#[tokio::test(flavor = "multi_thread")]
async fn an_entity_whose_only_fact_was_corrected_away_is_none() {
    let dir = temp_dir();
    let store = store(&dir.path().join("store")).await;
    // Ride 1 was filed under zone 5; the correction moves it to zone 6.
    let columns = [
        ("ride", integers([Some(1), Some(1)])),
        ("zone", integers([Some(5), Some(6)])),
        ("at", instants([Some(0), Some(0)])),
        ("known", instants([Some(SECOND_US), Some(5 * SECOND_US)])),
    ];
    table(&dir, &store, "rides", &columns, FactTable::new("at", KnownAt::column("known")).identity("ride")).await;
    let set = FeatureSet::entities("zones_v1", "rides").key("zone").all_before([Aggregate::count().named("rides")]);
    store.register(set.build().unwrap()).unwrap();
    for (at, zones) in [(1, vec![]), (2, vec![5]), (5, vec![5]), (6, vec![6])] {
        let made = store.materialize("zones_v1", second(at)).await.unwrap();
        assert_eq!(whole(&made).await.column(0).as_primitive::<Int64Type>().values().to_vec(), zones, "at {at} s");
        assert_eq!(made.rows(), zones.len() as u64);
    }
}

/// Any key, with NULLs and such as no fact has, over tables that know both keys, one of them, or correct what they said.
#[tokio::test(flavor = "multi_thread")]
async fn serving_gives_any_key_what_training_gives_it() {
    for seed in 0..12 {
        let mut rng = StdRng::seed_from_u64(seed);
        let dir = temp_dir();
        let store = store(&dir.path().join("store")).await;
        let rows = rng.random_range(0..60usize);
        let mut key = |limit: i64| -> Vec<Option<i64>> {
            (0..rows).map(|_| (!rng.random_bool(0.1)).then(|| rng.random_range(0..limit))).collect()
        };
        let (a, b, c) = (key(5), key(4), key(4));
        let mut times = |span: i64| -> Vec<Option<i64>> {
            (0..rows).map(|_| (!rng.random_bool(0.05)).then(|| rng.random_range(0..span) * SECOND_US)).collect()
        };
        let (at, known, other_at) = (times(20), times(25), times(20));
        let values: Vec<Option<f64>> = (0..rows).map(|_| (!rng.random_bool(0.2)).then(|| rng.random_range(-5.0..5.0))).collect();
        let text = |values: &[Option<i64>]| -> ArrayRef {
            Arc::new(values.iter().map(|v| v.map(|v| format!("b{v}"))).collect::<StringArray>())
        };
        let trips = [("a", integers(a.clone())), ("b", text(&b)), ("at", instants(at.clone())), ("x", floats(values.clone()))];
        table(&dir, &store, "trips", &trips, FactTable::new("at", KnownAt::after(TimeDelta::seconds(2))).tie_break("x")).await;
        let tips =
            [("ka", integers(c.clone())), ("kb", text(&b)), ("at", instants(other_at.clone())), ("x", floats(values.clone()))];
        table(&dir, &store, "tips", &tips, known_at_once().tie_break("x")).await;
        let fixes = [
            ("ride", integers((0..rows as i64).map(|i| (i % 7 != 0).then_some(i % 11)))),
            ("a", integers(c)),
            ("b", text(&b)),
            ("at", instants(at)),
            ("known", instants(known)),
            ("x", floats(values)),
        ];
        table(&dir, &store, "fixes", &fixes, FactTable::new("at", KnownAt::column("known")).identity("ride")).await;
        let aggregates = |name: &str| {
            [
                Aggregate::count().named(format!("{name}_count")),
                Aggregate::sum("x").named(format!("{name}_sum")),
                Aggregate::count_distinct("x").named(format!("{name}_distinct")),
                Aggregate::median("x").named(format!("{name}_median")),
                Aggregate::last("x").named(format!("{name}_last")),
                Aggregate::min("x").named(format!("{name}_min")),
            ]
        };
        let set = FeatureSet::entities("pairs_v1", "trips")
            .key("a")
            .key("b")
            .lookup("x", "newest")
            .window(TimeDelta::seconds(6), aggregates("short"))
            .all_before(aggregates("all"))
            .also(
                Source::of("tips").on_columns("a", "ka").on_columns("b", "kb").lookup("x", "tip").max_age(TimeDelta::seconds(5)),
            )
            .also(Source::of("tips").on_columns("b", "kb").window(TimeDelta::seconds(9), aggregates("by_b")).lookup("x", "b_tip"))
            .also(Source::of("fixes").on("a").lookup("x", "a_fix").max_age(TimeDelta::seconds(8)).all_before(aggregates("by_a")))
            .also(Source::of("fixes").on("b").on("a").all_before(aggregates("fixed")));
        store.register(set.build().unwrap()).unwrap();
        let part = |i: i64, limit: i64| (i <= limit).then_some(i);
        let asked: Vec<Vec<Value>> = (0..7)
            .flat_map(|a| (0..6).map(move |b| (part(a, 5), part(b, 4))))
            .map(|(a, b)| vec![a.map_or(Value::Null, Value::Int), b.map_or(Value::Null, |b| format!("b{b}").as_str().into())])
            .collect();
        for at in [0, 3, 9, 10, 21, 40] {
            let (trained, served, known) = both(&store, "pairs_v1", &["a", "b"], &asked, second(at)).await;
            for ((key, trained), served) in asked.iter().zip(&trained).zip(&served) {
                assert_eq!(served, trained, "seed {seed}, {key:?} at {at} s");
            }
            let made = store.materialize("pairs_v1", second(at)).await.unwrap();
            assert_eq!(made.rows(), known.iter().filter(|known| **known).count() as u64, "seed {seed} at {at} s");
        }
    }
}

/// A table of one source knows a key in another width than that of the other: both are one type, in rows and in answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_one_type_whichever_tables_hold_it() {
    let dir = temp_dir();
    let store = store(&dir.path().join("store")).await;
    let pairs = [
        ("k", integers([Some(1), Some(2)])),
        ("k2", integers([Some(1), Some(1)])),
        ("at", instants([Some(0), Some(0)])),
        ("v", floats([Some(7.0), Some(8.0)])),
    ];
    let narrow = cast(&integers([Some(1), Some(3)]), &DataType::Int32).unwrap();
    let singles = [("k", narrow), ("at", instants([Some(0), Some(0)])), ("w", floats([Some(5.0), Some(6.0)]))];
    table(&dir, &store, "pairs", &pairs, known_at_once()).await;
    table(&dir, &store, "singles", &singles, known_at_once()).await;
    let by_one = Source::of("singles").on("k").lookup("w", "w").all_before([Aggregate::count().named("n")]);
    let set = FeatureSet::entities("pairs_v1", "pairs").key("k").key("k2").lookup("v", "v").also(by_one);
    store.register(set.build().unwrap()).unwrap();
    let asked: Vec<Vec<Value>> =
        [[1, 1], [1, 9], [3, 1], [3_000_000_000, 1], [4, 4]].map(|key| key.map(Value::Int).to_vec()).to_vec();
    let (trained, served, known) = both(&store, "pairs_v1", &["k", "k2"], &asked, second(1)).await;
    assert_eq!(served, trained);
    assert_eq!(known, [true, false, false, false, false]);
}

/// A key that the common type of two tables does not hold must not be lost in silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_beyond_the_type_in_which_tables_are_compared_is_an_error_that_names_it() {
    let dir = temp_dir();
    let store = store(&dir.path().join("store")).await;
    let times = || ("at", instants([Some(0), Some(0)]));
    let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 1]));
    table(&dir, &store, "unsigned", &[("k", large), times()], known_at_once()).await;
    table(&dir, &store, "signed", &[("k", integers([Some(2), Some(1)])), times()], known_at_once()).await;
    let count = |name: &str| [Aggregate::count().named(name)];
    for (name, main, other) in [("one_v1", "unsigned", "signed"), ("two_v1", "signed", "unsigned")] {
        let set = FeatureSet::entities(name, main).key("k").all_before(count("n"));
        let set = set.also(Source::of(other).on("k").all_before(count("m")));
        store.register(set.build().unwrap()).unwrap();
        let error = store.materialize(name, second(1)).await.unwrap_err();
        assert!(matches!(error, Error::ColumnType { .. }), "{error}");
        let told = error.to_string();
        assert!(["18446744073709551615", "unsigned", "`k`", "Int64"].iter().all(|word| told.contains(word)), "{told}");
    }
    // Alone they are entities like others.
    let set = FeatureSet::entities("alone_v1", "unsigned").key("k").all_before(count("n"));
    store.register(set.build().unwrap()).unwrap();
    assert_eq!(store.materialize("alone_v1", second(1)).await.unwrap().rows(), 2);
}

/// Whether keys can be compared is asked of every table of a set before anything is published.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_training_cannot_compare_are_refused_when_a_set_is_materialized() {
    let dir = temp_dir();
    let store = store(&dir.path().join("store")).await;
    let decimals = |precision: u8| {
        let units = Decimal128Array::from(vec![Some(100)]).with_precision_and_scale(precision, 2).unwrap();
        Arc::new(units) as ArrayRef
    };
    let pairs = [("k", decimals(5)), ("k2", integers([Some(1)])), ("at", instants([Some(0)]))];
    table(&dir, &store, "pairs", &pairs, known_at_once()).await;
    table(&dir, &store, "singles", &[("k", decimals(9)), ("at", instants([Some(0)]))], known_at_once()).await;
    let by_one = Source::of("singles").on("k").all_before([Aggregate::count().named("n")]);
    let set = FeatureSet::entities("pairs_v1", "pairs").key("k").key("k2").also(by_one);
    store.register(set.build().unwrap()).unwrap();
    let error = store.materialize("pairs_v1", second(1)).await.unwrap_err();
    assert!(error.to_string().contains("cannot be compared"), "{error}");
    assert!(!dir.path().join("store/definitions/pairs_v1").exists());
}
