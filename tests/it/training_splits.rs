//! Splits of training sets: by time with an embargo, by entity and at random, and states that learn from the train part alone.

use std::collections::BTreeSet;

use asof::{
    Error, FeatureSet, FeatureStore, Resources, StoreOptions,
    encoder::Number,
    temporal::Spine,
    training::{Split, SplitSide, TrainingSet},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{Array, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray},
        datatypes::Int64Type,
    },
    prelude::SessionContext,
};

use crate::{
    parity::bit_rows,
    support::{Trip, instant, made_load, store_with},
};

use crate::training_sets::{
    AS_OF, COLUMNS, IntoArray, MIDDLE, all, bits, chosen, floats, instants, made_bits, of_rows, of_spine, register, rides, says,
    spine, store, trips,
};

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
