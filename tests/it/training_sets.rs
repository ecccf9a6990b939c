//! Training sets of both kinds: what they hold, their splits, summaries and exports, and kept sets after their facts are gone.

use std::{collections::BTreeSet, fs};

use asof::{
    Aggregate, AsOf, Error, FeatureSet, FeatureStore, Materialization, Resources, StoreOptions,
    encoder::{HourOfDay, Number, OutlierFilter, Sample, Standardize},
    gc::Gc,
    temporal::Spine,
    time::FixedClock,
    training::{ColumnRole, Split, SplitSide, TrainingSet},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
        compute::concat_batches,
        datatypes::{Float64Type, Int64Type, TimestampMicrosecondType},
    },
    prelude::SessionContext,
};
use futures::TryStreamExt;
use tempfile::TempDir;

use crate::{
    parity::bit_rows,
    support::{Trip, files_below, instant, made_load, rows, store_of, store_with, temp_dir},
};

const AS_OF: &str = "2014-03-01T00:00:00Z";
const MIDDLE: &str = "2014-01-20T00:00:00Z";

/// Two trips every three hours from the beginning of 2014; some of them equal in all columns.
fn trips() -> Vec<Trip> {
    let start = instant("2014-01-01T00:00:00Z").micros();
    let trip = |i: i64| {
        let pickup_us = start + i / 2 * 10_800_000_000;
        // Every tenth pair is one trip twice.
        let n = if i % 20 == 19 { i - 1 } else { i };
        Trip {
            pickup_us,
            dropoff_us: pickup_us + 600_000_000,
            passengers: n % 4 + 1,
            miles: ((n * 7_919) % 101) as f64 / 7.0,
            zone: (n * 31) % 23,
            fare: ((n * 104_729) % 997) as f64 / 13.0,
        }
    };
    (0..600).map(trip).collect()
}

const COLUMNS: &str = "SELECT pickup_at, pickup_zone, passenger_count, trip_distance, total_amount FROM nyc_taxi";

/// A set of all rows, with every kind of step if asked.
fn rides(name: &str, sql: &str, has_selections: bool) -> FeatureSet {
    let set = FeatureSet::rows(name, sql).table("nyc_taxi").event_time("pickup_at");
    let set = match has_selections {
        true => set
            .keep(OutlierFilter::between_percentiles(5.0, 90.0).of(["trip_distance"]))
            .keep(Sample::fraction(0.5, 3).of_instants(["pickup_at"]).of_numbers(["trip_distance"])),
        false => set,
    };
    let set = set.encode(Number::of("trip_distance")).encode_fitted(Standardize::of("trip_distance"));
    set.encode(HourOfDay::of("pickup_at", "America/New_York".parse().unwrap())).label("total_amount").build().unwrap()
}

fn zones() -> FeatureSet {
    FeatureSet::entities("zones_v1", "nyc_taxi")
        .key("pickup_zone")
        .lookup("fare_amount", "last_fare")
        .window(TimeDelta::days(3), [Aggregate::count().named("trips_3d"), Aggregate::mean("fare_amount").named("fare_3d")])
        .build()
        .unwrap()
}

fn register(store: &FeatureStore) {
    for set in [rides("plain_v1", COLUMNS, false), rides("rides_v1", COLUMNS, true), zones()] {
        store.register(set).unwrap();
    }
}

async fn store() -> (TempDir, FeatureStore) {
    let (root, store) = store_of(&trips()).await;
    register(&store);
    (root, store)
}

async fn of_rows(store: &FeatureStore, set: &str) -> TrainingSet {
    store.training_set(set, instant(AS_OF)).await.unwrap()
}

/// A spine in no order, with keys and instants that are NULL, an equal row, and a label.
fn spine() -> RecordBatch {
    let start = instant("2014-01-05T00:00:00Z").micros();
    let at = |i: i64| (i % 17 != 3).then_some(start + (i * 7_919) % 1_009 * 2_000_000_000);
    let zone = |i: i64| (i % 19 != 4).then_some((i * 13) % 29);
    let n = |i: i64| if i % 10 == 9 { i - 1 } else { i };
    let all = 0..300;
    RecordBatch::try_from_iter_with_nullable([
        ("pickup_zone", Int64Array::from_iter(all.clone().map(|i| zone(n(i)))).into_array(), true),
        ("at", TimestampMicrosecondArray::from_iter(all.clone().map(|i| at(n(i)))).with_timezone("UTC").into_array(), true),
        ("kind", StringArray::from_iter_values(all.map(|i| ["a", "b", "c"][n(i) as usize % 3])).into_array(), true),
    ])
    .unwrap()
}

trait IntoArray {
    fn into_array(self) -> ArrayRef;
}

impl<A: Array + 'static> IntoArray for A {
    fn into_array(self) -> ArrayRef {
        std::sync::Arc::new(self)
    }
}

async fn of_spine(store: &FeatureStore) -> TrainingSet {
    let rows = SessionContext::new().read_batch(spine()).unwrap();
    store.training_set("zones_v1", Spine::new(rows, "at")).await.unwrap()
}

/// All rows, by way of the batches, which must be those of the data frame.
async fn all(set: &TrainingSet) -> RecordBatch {
    let batches: Vec<RecordBatch> = set.batches().await.unwrap().try_collect().await.unwrap();
    let whole = concat_batches(&set.schema().await.unwrap(), &batches).unwrap();
    let frame = set.dataframe().await.unwrap();
    let names = |schema: &datafusion::arrow::datatypes::Schema| {
        schema.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect::<Vec<_>>()
    };
    assert_eq!(names(frame.schema().as_arrow()), names(&whole.schema()));
    let found: Vec<RecordBatch> = frame.collect().await.unwrap();
    assert_eq!(found.iter().flat_map(bit_rows).collect::<Vec<_>>(), bit_rows(&whole));
    whole
}

async fn bits(set: &TrainingSet) -> Vec<String> {
    bit_rows(&all(set).await)
}

async fn made_bits(made: &Materialization) -> Vec<String> {
    rows(made).await.iter().flat_map(bit_rows).collect()
}

fn instants(batch: &RecordBatch, name: &str) -> Vec<Option<i64>> {
    batch.column_by_name(name).unwrap().as_primitive::<TimestampMicrosecondType>().iter().collect()
}

fn floats(batch: &RecordBatch, name: &str) -> Vec<f64> {
    batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().iter().map(Option::unwrap).collect()
}

/// The rows of `of` for which `is_wanted` holds, in their order.
fn chosen(of: &RecordBatch, is_wanted: impl Fn(usize) -> bool) -> Vec<String> {
    let rows = bit_rows(of).into_iter().enumerate();
    rows.filter(|(row, _)| is_wanted(*row)).map(|(_, text)| text).collect()
}

fn says(error: &Error, parts: &[&str]) {
    let text = error.to_string();
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_rows_trains_on_its_materialization_bit_for_bit() {
    let (_root, store) = store().await;
    for set in ["plain_v1", "rides_v1", "taxi_v1"] {
        let made = store.materialize(set, instant(AS_OF)).await.unwrap();
        let trained = of_rows(&store, set).await;
        assert_eq!(trained.schema().await.unwrap(), made.schema().unwrap(), "{set}");
        assert_eq!(bits(&trained).await, made_bits(&made).await, "{set}");
        let states = (trained.selections().await.unwrap(), trained.encoders().await.unwrap());
        assert_eq!(states, (made.manifest().selections.clone(), made.manifest().encoders.clone()), "{set}");
        assert_eq!(trained.dataset("total_amount").await.unwrap(), made.dataset("total_amount").await.unwrap(), "{set}");
    }
    let trained = of_rows(&store, "rides_v1").await;
    assert_eq!((trained.origin().as_of, trained.origin().instant.as_str()), (Some(instant(AS_OF)), "pickup_at"));
    assert!(trained.id().is_none() && trained.manifest().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spine_stays_in_its_order() {
    let (_root, store) = store().await;
    let trained = all(&of_spine(&store).await).await;
    assert_eq!(trained.columns()[..3], spine().columns()[..]);
    let names: Vec<String> = trained.schema().fields().iter().skip(3).map(|f| f.name().clone()).collect();
    assert_eq!(names, zones().features());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_fit_the_kind_of_a_set_are_refused() {
    let (_root, store) = store().await;
    let rows = SessionContext::new().read_batch(spine()).unwrap();
    let error = store.training_set("rides_v1", Spine::new(rows, "at")).await.unwrap_err();
    assert!(matches!(error, Error::Definition { .. }));
    says(&error, &["`rides_v1`", "set of rows", "give the as-of"]);
    let error = store.training_set("zones_v1", instant(AS_OF)).await.unwrap_err();
    assert!(matches!(error, Error::Definition { .. }));
    says(&error, &["`zones_v1`", "set of entities", "`Spine`"]);
    let error = store.training_set("nothing_v1", instant(AS_OF)).await.unwrap_err();
    assert!(matches!(error, Error::UnknownFeatureSet { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_by_time_is_a_filter_by_instants() {
    let (_root, store) = store().await;
    let t = instant(MIDDLE);
    let sets = [(of_rows(&store, "plain_v1").await, "pickup_at"), (of_spine(&store).await, "at")];
    for (set, at) in &sets {
        // A spine's columns and features do not depend on the split; the standardized column of the set of rows does.
        let whole = all(set).await;
        let times = instants(&whole, at);
        for (embargo, gap) in [(TimeDelta::zero(), 0), (TimeDelta::days(2), 172_800_000_000), (TimeDelta::nanoseconds(1), 1)] {
            let (train, test) = set.split(Split::by_time(t).embargo(embargo)).await.unwrap();
            let (train, test) = (all(&train).await, all(&test).await);
            let expected = |is_wanted: &dyn Fn(i64) -> bool| {
                times.iter().flatten().copied().filter(|time| is_wanted(*time)).map(Some).collect::<Vec<_>>()
            };
            assert_eq!(instants(&train, at), expected(&|time| time < t.micros()), "{at}");
            assert_eq!(instants(&test, at), expected(&|time| time >= t.micros() + gap), "{at}");
            assert!(train.num_rows() > 50 && test.num_rows() > 50);
            if *at == "at" {
                let in_part = |is: &dyn Fn(i64) -> bool| chosen(&whole, |row| times[row].is_some_and(is));
                assert_eq!(bit_rows(&train), in_part(&|time| time < t.micros()));
                assert_eq!(bit_rows(&test), in_part(&|time| time >= t.micros() + gap));
            }
        }
    }
    // A trip begins at exactly this instant: it is tested, and with an embargo of a microsecond it is in neither part.
    let whole = instants(&all(&sets[0].0).await, "pickup_at");
    assert!(whole.contains(&Some(t.micros())));
}

#[tokio::test(flavor = "multi_thread")]
async fn local_times_of_a_spine_are_split_by_the_instants_of_its_features() {
    let (_root, store) = store().await;
    let local = |text: &str| instant(text).micros();
    // 01:30 occurs twice on this day; it means the first of the two, 05:30 UTC.
    let at = ["2014-11-02T01:29:00Z", "2014-11-02T01:30:00Z", "2014-11-02T02:00:00Z"].map(local);
    let rows = RecordBatch::try_from_iter([
        ("pickup_zone", Int64Array::from(vec![1, 2, 3]).into_array()),
        ("at", TimestampMicrosecondArray::from(at.to_vec()).into_array()),
    ])
    .unwrap();
    let rows = SessionContext::new().read_batch(rows).unwrap();
    let spine = Spine::new(rows, "at").zone("America/New_York".parse().unwrap());
    let set = store.training_set("zones_v1", spine).await.unwrap();
    let zones = async |set: &TrainingSet| all(set).await.column(0).as_primitive::<Int64Type>().values().to_vec();
    let (train, test) = set.split(Split::by_time(instant("2014-11-02T05:30:00Z"))).await.unwrap();
    assert_eq!((zones(&train).await, zones(&test).await), (vec![1], vec![2, 3]));
    let found = set.summary().await.unwrap().instants.unwrap();
    assert_eq!(found, (instant("2014-11-02T05:29:00Z"), instant("2014-11-02T07:00:00Z")));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_entity_is_on_both_sides() {
    let (_root, store) = store().await;
    for (set, column, entities) in
        [(of_rows(&store, "plain_v1").await, "pickup_zone", 23), (of_spine(&store).await, "pickup_zone", 30)]
    {
        let whole = all(&set).await;
        let (train, test) = set.split(Split::by_entity([column], 0.6, 11)).await.unwrap();
        assert_eq!(train.origin().splits.len(), 1);
        assert_eq!((train.origin().splits[0].1, test.origin().splits[0].1), (SplitSide::Train, SplitSide::Test));
        let (train, test) = (all(&train).await, all(&test).await);
        assert_eq!(train.num_rows() + test.num_rows(), whole.num_rows());
        if whole.column_by_name(column).is_none() {
            // The zone is no feature of the set of rows: its trips tell it by their times and distances.
            assert!(train.num_rows() > 100 && test.num_rows() > 100);
            continue;
        }
        let keys = |batch: &RecordBatch| -> BTreeSet<Option<i64>> {
            batch.column_by_name(column).unwrap().as_primitive::<Int64Type>().iter().collect()
        };
        let (trained, tested) = (keys(&train), keys(&test));
        assert!(trained.is_disjoint(&tested), "{trained:?} {tested:?}");
        assert_eq!(trained.len() + tested.len(), entities);
        assert!(trained.len() > 8 && tested.len() > 4, "{trained:?} {tested:?}");
        // The rows keep their order.
        let zone = whole.column_by_name(column).unwrap().as_primitive::<Int64Type>().clone();
        let zone = |row: usize| zone.is_valid(row).then(|| zone.value(row));
        assert_eq!(bit_rows(&train), chosen(&whole, |row| trained.contains(&zone(row))));
    }
}

/// The entities of a set of rows are told by a feature, which holds them here.
#[tokio::test(flavor = "multi_thread")]
async fn no_entity_of_a_set_of_rows_is_on_both_sides() {
    let (_root, store) = store().await;
    let set = FeatureSet::rows("keyed_v1", COLUMNS).table("nyc_taxi").event_time("pickup_at");
    let set = set.encode(Number::of("pickup_zone")).encode(Number::of("passenger_count")).label("total_amount");
    store.register(set.build().unwrap()).unwrap();
    let set = of_rows(&store, "keyed_v1").await;
    let (train, test) = set.split(Split::by_entity(["pickup_zone", "passenger_count"], 0.5, 1)).await.unwrap();
    let keys = async |set: &TrainingSet| -> BTreeSet<(i64, i64)> {
        let rows = all(set).await;
        let (zones, passengers) = (floats(&rows, "pickup_zone"), floats(&rows, "passenger_count"));
        zones.iter().zip(&passengers).map(|(zone, count)| (*zone as i64, *count as i64)).collect()
    };
    let (train, test) = (keys(&train).await, keys(&test).await);
    assert!(train.is_disjoint(&test) && train.len() > 20 && test.len() > 20, "{} {}", train.len(), test.len());
    let zones = |keys: &BTreeSet<(i64, i64)>| keys.iter().map(|key| key.0).collect::<BTreeSet<_>>();
    assert!(!zones(&train).is_disjoint(&zones(&test)), "the key has two columns");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seeded_split_depends_on_rows_and_seed_alone() {
    let (root, store) = store().await;
    let splits = |seed| [Split::random(0.7, seed), Split::by_entity(["pickup_zone"], 0.7, seed)];
    let parts = async |store: &FeatureStore, seed| {
        let mut found = Vec::new();
        for split in splits(seed) {
            for set in [of_rows(store, "plain_v1").await, of_spine(store).await] {
                let (train, test) = set.split(split.clone()).await.unwrap();
                found.push((bits(&train).await, bits(&test).await));
            }
        }
        found
    };
    let expected = parts(&store, 5).await;
    for (partitions, batch_rows) in [(1, 7), (3, 100), (8, 8_192)] {
        let resources = Resources { partitions, batch_rows, ..Resources::default() };
        let other = store_with(root.path(), StoreOptions::default().cache_in_memory().resources(resources)).await;
        register(&other);
        assert_eq!(parts(&other, 5).await, expected, "{partitions} partitions, batches of {batch_rows}");
    }
    assert!(parts(&store, 6).await.iter().zip(&expected).all(|(other, known)| other.0 != known.0));

    // Rows that are equal in all columns fall on one side, and more facts move no row to the other one.
    let (train, test) = &expected[1];
    let own = |rows: &[String]| {
        rows.iter().map(|row| row.splitn(4, ' ').take(3).collect::<Vec<_>>().join(" ")).collect::<BTreeSet<_>>()
    };
    assert!(own(train).is_disjoint(&own(test)));
    assert!(own(train).len() < train.len());
    let more: Vec<Trip> = (0..40).map(|i| Trip { fare: 60.0, zone: i % 23, ..trips()[i as usize * 7].clone() }).collect();
    store.ingest(&made_load(&root.path().join("more.csv"), &more)).await.unwrap();
    let again = parts(&store, 5).await;
    assert_ne!(again[1], expected[1], "the features have changed");
    assert_eq!((own(&again[1].0), own(&again[1].1)), (own(train), own(test)));
}

#[tokio::test(flavor = "multi_thread")]
async fn states_are_fitted_on_the_train_part_alone() {
    let (_root, store) = store().await;
    let t = instant(MIDDLE);
    let (train, test) = of_rows(&store, "rides_v1").await.split(Split::by_time(t)).await.unwrap();

    // The train part is what a set over its rows alone would make.
    let before = rides("before_v1", &format!("{COLUMNS} WHERE pickup_at < '{MIDDLE}'"), true);
    store.register(before).unwrap();
    let made = store.materialize("before_v1", instant(AS_OF)).await.unwrap();
    assert_eq!(bits(&train).await, made_bits(&made).await);
    assert_eq!(train.encoders().await.unwrap(), made.manifest().encoders);
    assert_eq!(train.selections().await.unwrap(), made.manifest().selections);
    let whole = of_rows(&store, "rides_v1").await;
    assert_ne!(whole.encoders().await.unwrap(), train.encoders().await.unwrap());

    // The test part has the states of the train part; no row of it is thinned out.
    assert_eq!(test.encoders().await.unwrap(), train.encoders().await.unwrap());
    let bounds = &train.selections().await.unwrap()[0].state["trip_distance"];
    let (low, high) = (bounds["low"].as_f64().unwrap(), bounds["high"].as_f64().unwrap());
    let mut expected: Vec<(i64, f64)> = trips()
        .iter()
        .filter(|trip| trip.pickup_us >= t.micros() && trip.miles > low && trip.miles < high)
        .map(|trip| (trip.pickup_us, trip.miles))
        .collect();
    expected.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let rows = all(&test).await;
    let miles = floats(&rows, "trip_distance");
    let mut found: Vec<_> = instants(&rows, "pickup_at").into_iter().flatten().zip(miles.clone()).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    assert_eq!(found, expected);

    // One line goes through the standardized distances of both parts.
    let trained = all(&train).await;
    let (x, y) = (floats(&trained, "trip_distance"), floats(&trained, "trip_distance_std"));
    let other = x.iter().position(|miles| (miles - x[0]).abs() > 1.0).unwrap();
    let slope = (y[other] - y[0]) / (x[other] - x[0]);
    for (miles, standardized) in miles.iter().zip(floats(&rows, "trip_distance_std")) {
        let expected = y[0] + slope * (miles - x[0]);
        assert!((standardized - expected).abs() < 1e-9, "{miles}: {standardized} and {expected}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_split_again() {
    let (_root, store) = store().await;
    let whole = of_rows(&store, "plain_v1").await;
    let (rest, test) = whole.split(Split::by_time(instant("2014-02-01T00:00:00Z"))).await.unwrap();
    let (train, valid) = rest.split(Split::by_time(instant(MIDDLE))).await.unwrap();
    let (direct, _) = whole.split(Split::by_time(instant(MIDDLE))).await.unwrap();
    assert_eq!(bits(&train).await, bits(&direct).await);
    // Each test part has the states of its own train part.
    assert_eq!(valid.encoders().await.unwrap(), direct.encoders().await.unwrap());
    assert_eq!(test.encoders().await.unwrap(), rest.encoders().await.unwrap());
    assert_ne!(rest.encoders().await.unwrap(), direct.encoders().await.unwrap());
    // A test part in two has the rows that it had.
    let (early, late) = test.split(Split::by_time(instant("2014-02-15T00:00:00Z"))).await.unwrap();
    assert_eq!([bits(&early).await, bits(&late).await].concat(), bits(&test).await);
    assert_eq!(late.origin().splits.len(), 2);
    assert!(format!("{late:?}").contains("the test part of a split at 2014-02-15T00:00:00Z"), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn splits_by_what_is_not_there_are_refused() {
    let (_root, store) = store().await;
    for set in [of_rows(&store, "plain_v1").await, of_spine(&store).await] {
        let error = set.split(Split::by_entity(["planet"], 0.5, 1)).await.unwrap_err();
        assert!(matches!(error, Error::UnknownColumn { .. }));
        says(&error, &["`planet`", "pickup_zone"]);
        let error = set.split(Split::random(1.5, 1)).await.unwrap_err();
        assert!(matches!(error, Error::Definition { .. }), "{error}");
    }
    let session = SessionContext::new();
    session.register_batch("a", spine()).unwrap();
    session.register_batch("b", spine().slice(0, 1)).unwrap();
    let both = session.sql("SELECT a.pickup_zone, a.at, a.kind, b.kind FROM a CROSS JOIN b").await.unwrap();
    let set = store.training_set("zones_v1", Spine::new(both, "at")).await.unwrap();
    for error in [set.split(Split::random(0.5, 1)).await.unwrap_err(), set.keep("both").await.unwrap_err()] {
        assert!(matches!(error, Error::Definition { .. }));
        says(&error, &["two columns", "`kind`"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_set_is_read_when_facts_and_definition_are_gone() {
    let (root, store) = store().await;
    let (train, test) = of_rows(&store, "rides_v1").await.split(Split::by_time(instant(MIDDLE))).await.unwrap();
    let spine = of_spine(&store).await;
    let mut expected = Vec::new();
    for (name, set) in [("rides_train", &train), ("rides_test", &test), ("zones", &spine)] {
        let kept = set.keep(name).await.unwrap();
        assert_eq!(bits(&kept).await, bits(set).await, "{name}");
        assert_eq!(kept.schema().await.unwrap(), set.schema().await.unwrap(), "{name}");
        assert_eq!(kept.summary().await.unwrap(), set.summary().await.unwrap(), "{name}");
        let manifest = kept.manifest().unwrap();
        assert_eq!((manifest.encoders.clone(), manifest.rows), (set.encoders().await.unwrap(), bits(set).await.len() as u64));
        expected.push((name, kept.id().unwrap(), bits(set).await, format!("{:?}", kept.dataset_or_none().await)));
    }
    drop((train, test, spine, store));
    for folder in ["facts", "catalog", "definitions", "materialized", "quality"] {
        let _ = fs::remove_dir_all(root.path().join(folder));
    }

    let later = FixedClock(instant("2040-01-01T00:00:00Z"));
    let store = FeatureStore::open_with(root.path().to_str().unwrap(), StoreOptions::default().cache_in_memory().clock(later));
    let store = store.await.unwrap();
    let report = store.gc(&Gc::delete().grace(TimeDelta::zero())).await.unwrap();
    assert!(report.removed.iter().all(|garbage| !garbage.path.starts_with("training/")), "{report}");
    assert!(report.unknown.iter().all(|path| !path.starts_with("training/")), "{report}");
    for (name, id, rows, dataset) in &expected {
        let kept = store.kept_training_set(name).await.unwrap();
        assert_eq!((kept.id(), &bits(&kept).await), (Some(*id), rows), "{name}");
        assert_eq!(&format!("{:?}", kept.dataset_or_none().await), dataset, "{name}");
        kept.verify().await.unwrap();
        assert!(format!("{kept:?}").contains(&format!("{name}/{id}")), "{kept:?}");
    }

    // What a set of rows has learned cannot be taken back; nothing was learned for a spine.
    let error = store.kept_training_set("rides_train").await.unwrap().split(Split::random(0.5, 1)).await.unwrap_err();
    says(&error, &["learned from all of its rows", "keep the parts"]);
    let (half, other) = store.kept_training_set("zones").await.unwrap().split(Split::random(0.5, 1)).await.unwrap();
    assert_eq!(bits(&half).await.len() + bits(&other).await.len(), 300);

    let error = store.kept_training_set("nothing").await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(store.kept_training_sets("nothing").await.unwrap().is_empty());
    for name in ["", "Rides", "a/b", "../facts"] {
        assert!(matches!(store.kept_training_set(name).await.unwrap_err(), Error::InvalidName { .. }), "{name}");
        assert!(matches!(half.keep(name).await.unwrap_err(), Error::InvalidName { .. }), "{name}");
    }
}

trait DatasetOrNone {
    async fn dataset_or_none(&self) -> Option<asof::training::Dataset>;
}

impl DatasetOrNone for TrainingSet {
    /// The matrices of a set of rows.
    async fn dataset_or_none(&self) -> Option<asof::training::Dataset> {
        match self.origin().labels.is_empty() {
            true => None,
            false => Some(self.dataset("total_amount").await.unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_rows_are_kept_once() {
    let (root, _store) = store().await;
    let at = async |day: u32, partitions, batch_rows| {
        let clock = FixedClock(instant(&format!("2030-01-{day:02}")));
        let resources = Resources { partitions, batch_rows, ..Resources::default() };
        let options = StoreOptions::default().cache_in_memory().clock(clock).resources(resources);
        let store = store_with(root.path(), options).await;
        register(&store);
        store
    };
    let (one, two) = (at(1, 1, 7).await, at(2, 4, 8_192).await);
    let first = of_spine(&one).await.keep("zones").await.unwrap();
    let files = files_below(root.path());
    let again = of_spine(&two).await.keep("zones").await.unwrap();
    assert_eq!(again.id(), first.id());
    assert_eq!(again.manifest(), first.manifest());
    assert_eq!(files_below(root.path()), files);
    // A part of a split is another set, and is the newest.
    let (half, other) = of_spine(&two).await.split(Split::random(0.5, 1)).await.unwrap();
    let (half, other) = (half.keep("zones").await.unwrap(), other.keep("others").await.unwrap());
    assert!(half.id() != first.id() && half.id() != other.id());
    assert_eq!(one.kept_training_set("zones").await.unwrap().id(), half.id());
    let ids: Vec<_> = one.kept_training_sets("zones").await.unwrap().iter().map(TrainingSet::id).collect();
    assert_eq!(ids, [first.id(), half.id()]);
    // The same rows of other facts are another set.
    let rides = of_rows(&one, "plain_v1").await.keep("plain").await.unwrap();
    two.ingest(&made_load(
        &root.path().join("more.csv"),
        &[Trip { pickup_us: instant("2015-01-01").micros(), ..trips()[0].clone() }],
    ))
    .await
    .unwrap();
    assert_eq!(of_rows(&one, "plain_v1").await.keep("plain").await.unwrap().id(), rides.id(), "a later fact is not visible");
    assert_ne!(of_spine(&two).await.keep("zones").await.unwrap().id(), first.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_set_that_was_changed_is_an_error() {
    let (root, store) = store().await;
    let kept = of_rows(&store, "rides_v1").await.keep("rides").await.unwrap();
    let folder = root.path().join(format!("training/rides/{}", kept.id().unwrap()));
    let part = folder.join(&kept.manifest().unwrap().parts[0].name);
    let good = fs::read(&part).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    fs::write(&part, &bad).unwrap();
    let open = async || store.kept_training_set("rides").await;
    let read = async || open().await.unwrap().batches().await.unwrap().try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(read().await, Error::Corrupt { .. }));
    assert!(matches!(open().await.unwrap().dataframe().await.unwrap_err(), Error::Corrupt { .. }));
    says(&open().await.unwrap().verify().await.unwrap_err(), &["parquet", "keep the training set again"]);
    fs::remove_file(&part).unwrap();
    says(&open().await.unwrap().summary().await.unwrap_err(), &["vanished"]);
    fs::write(&part, &good).unwrap();
    open().await.unwrap().verify().await.unwrap();

    let manifest = folder.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("total_amount", "total_amounts")).unwrap();
    assert!(matches!(open().await.unwrap_err(), Error::Corrupt { .. }));
    // Copied to another name by hand.
    fs::write(&manifest, &text).unwrap();
    let copy = root.path().join(format!("training/others/{}", kept.id().unwrap()));
    fs::create_dir_all(&copy).unwrap();
    fs::write(copy.join("manifest.json"), &text).unwrap();
    says(&store.kept_training_set("others").await.unwrap_err(), &["does not belong to its folder"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_writer_left_behind_is_garbage_and_the_facts_of_a_kept_set_may_go() {
    let (root, store) = store().await;
    let kept = of_rows(&store, "rides_v1").await.keep("rides").await.unwrap();
    let stray = format!("training/rides/{}/part-00000-0123456789abcdef.parquet", "ab".repeat(32));
    fs::create_dir_all(root.path().join(&stray).parent().unwrap()).unwrap();
    fs::write(root.path().join(&stray), "x").unwrap();
    fs::write(root.path().join("training/rides/notes.txt"), "mine").unwrap();
    let _ = store.drop_table("nyc_taxi").await.unwrap();
    let report = store.gc(&Gc::delete().grace(TimeDelta::zero()).keep_versions(1)).await.unwrap();
    let removed: BTreeSet<_> = report.removed.iter().map(|garbage| garbage.path.as_str()).collect();
    assert!(removed.contains(stray.as_str()), "{report}");
    assert!(removed.iter().any(|path| path.starts_with("facts/")), "{report}");
    assert_eq!(report.unknown, ["training/rides/notes.txt"]);
    kept.verify().await.unwrap();
    assert_eq!(store.kept_training_set("rides").await.unwrap().id(), kept.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_export_is_read_back() {
    let (_root, store) = store().await;
    let dir = temp_dir();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for (name, set) in [("rides", of_rows(&store, "rides_v1").await), ("zones", of_spine(&store).await)] {
        let expected = all(&set).await;

        let parquet = path(&format!("{name}/out.parquet"));
        set.write_parquet(&parquet).await.unwrap();
        let read = store.read_parquet(&parquet).await.unwrap().collect().await.unwrap();
        assert_eq!(read.iter().flat_map(bit_rows).collect::<Vec<_>>(), bit_rows(&expected), "{name}");
        set.write_parquet(&parquet).await.unwrap();

        let csv = path(&format!("{name}.csv"));
        set.write_csv(&csv).await.unwrap();
        let at = set.origin().instant.clone();
        let read = store.read_csv(&csv, &[&at]).await.unwrap();
        let schema = expected.schema();
        let types = schema.fields().iter().map(|f| {
            let column = datafusion::prelude::ident(f.name());
            datafusion::logical_expr::cast(column, f.data_type().clone()).alias(f.name())
        });
        let read = read.select(types.collect::<Vec<_>>()).unwrap().collect().await.unwrap();
        assert_eq!(read.iter().flat_map(bit_rows).collect::<Vec<_>>(), bit_rows(&expected), "{name}");

        // Matrices hold the same numbers; NULL is NaN there.
        let label = if name == "rides" { "total_amount" } else { "pickup_zone" };
        let data = set.dataset(label).await.unwrap();
        assert_eq!(data.features, set.origin().features);
        for (feature, column) in data.features.iter().zip(data.records.columns()) {
            let numbers = datafusion::arrow::compute::cast(
                expected.column_by_name(feature).unwrap(),
                &datafusion::arrow::datatypes::DataType::Float64,
            )
            .unwrap();
            let numbers: Float64Array = numbers.as_primitive::<Float64Type>().clone();
            let bits = |x: Option<f64>| x.unwrap_or(f64::NAN).to_bits();
            assert!(numbers.iter().map(bits).eq(column.iter().map(|x| bits(Some(*x)))), "{feature}");
        }
        assert_eq!(data.targets.len(), expected.num_rows());
    }
    let set = of_spine(&store).await;
    for folder in [path("."), path("new/")] {
        for error in [set.write_csv(&folder).await.unwrap_err(), set.write_parquet(&folder).await.unwrap_err()] {
            assert!(matches!(error, Error::InvalidLocation { .. }), "{error}");
        }
    }
    let lists = FeatureSet::entities("lists_v1", "nyc_taxi").key("pickup_zone");
    let lists = lists.window(TimeDelta::days(3), [Aggregate::last_k("fare_amount", 2).named("last_two")]).build().unwrap();
    store.register(lists).unwrap();
    let rows = SessionContext::new().read_batch(spine()).unwrap();
    let set = store.training_set("lists_v1", Spine::new(rows, "at")).await.unwrap();
    let error = set.write_csv(&path("lists.csv")).await.unwrap_err();
    assert!(matches!(&error, Error::ColumnType { column, .. } if column == "last_two"), "{error}");
    assert!(!dir.path().join("lists.csv").exists());
    let kept = set.keep("lists").await.unwrap();
    assert_eq!(bits(&kept).await, bits(&set).await);
    // Lists are features, and a random split is by the other columns.
    let (train, test) = kept.split(Split::random(0.5, 1)).await.unwrap();
    assert_eq!(bits(&train).await.len() + bits(&test).await.len(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_says_what_a_query_would() {
    let (_root, store) = store().await;
    let (train, test) = of_rows(&store, "plain_v1").await.split(Split::by_time(instant(MIDDLE))).await.unwrap();
    let (first, second) = (train.summary().await.unwrap(), test.summary().await.unwrap());
    let last = |t: &str, delta: i64| AsOf::from_micros(instant(t).micros() - delta);
    assert_eq!(first.instants, Some((instant("2014-01-01"), last(MIDDLE, 10_800_000_000))));
    assert_eq!(second.instants.map(|range| range.0), Some(instant(MIDDLE)));
    assert_eq!((first.rows, second.rows), (304, 296));
    let miles = floats(&all(&train).await, "trip_distance");
    let numbers = first.column("trip_distance").unwrap().numbers.unwrap();
    let (low, high) = miles.iter().fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(*x), high.max(*x)));
    assert_eq!((numbers.min, numbers.max), (low, high));
    assert!((numbers.mean - miles.iter().sum::<f64>() / miles.len() as f64).abs() < 1e-9);
    let label = first.column("total_amount").unwrap();
    assert_eq!((label.role, label.classes.is_none()), (ColumnRole::Label, true), "it has more than 20 values");
    assert!(first.to_string().contains("the train part of a split at 2014-01-20T00:00:00Z"), "{first}");

    let found = of_spine(&store).await.summary().await.unwrap();
    let rows = spine();
    let nulls = rows.column(0).null_count() as u64;
    let zone = found.column("pickup_zone").unwrap();
    assert_eq!((zone.role, zone.nulls, zone.null_rate()), (ColumnRole::Spine, nulls, nulls as f64 / 300.0));
    let kinds = rows.column(2).as_string::<i32>().clone();
    let count = |kind: &str| kinds.iter().filter(|k| *k == Some(kind)).count() as u64;
    let expected: Vec<_> = ["a", "b", "c"].map(|kind| (kind.into(), count(kind))).into();
    assert_eq!(found.column("kind").unwrap().classes.as_ref(), Some(&expected));
    assert_eq!(found.column("trips_3d").unwrap().role, ColumnRole::Feature);
}
