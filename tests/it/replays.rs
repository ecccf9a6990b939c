//! A replay computes a materialization again of its own inputs, says what differs, refuses what is no longer what it was, and leaves
//! nothing behind.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use asof::{
    AsOfView, Error, FeatureSet, FeatureStore, Materialization, Resources, Result, StoreOptions,
    encoder::{FittedEncoder, Number, Purpose, RowSelection, Spec, encoder_fn},
    feature_set::RowSetBuilder,
    materialize::{Replay, ReplayDifference},
};
use datafusion::arrow::{
    array::{ArrayRef, AsArray, BooleanArray, RecordBatch},
    datatypes::{DataType, Float64Type},
};
use tempfile::TempDir;

use crate::{
    bad_input::says,
    materializations::handle,
    support::{Trip, bits, files_below, instant, store_of, temp_dir, trip},
    training_sets::{self, COLUMNS, zones},
};

const AS_OF: &str = "2014-03-01T00:00:00Z";

/// 600 trips, and a store with a set of rows that learns (`rides_v1`) and a set of entities (`zones_v1`).
async fn store() -> (TempDir, FeatureStore) {
    training_sets::store().await
}

/// Replays, and looks whether the root is as it was.
async fn replay(root: &Path, store: &FeatureStore, made: &Materialization) -> Result<Replay> {
    let before = files_below(root);
    let outcome = store.replay(made).await;
    assert_eq!(files_below(root), before);
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_facts_that_is_not_what_it_was_is_refused_by_name() {
    let (root, store) = store().await;
    let facts: Vec<String> = files_below(root.path()).into_iter().filter(|name| name.starts_with("facts/")).collect();
    assert!(facts.len() > 1);
    for set in ["rides_v1", "zones_v1"] {
        let made = store.materialize(set, instant(AS_OF)).await.unwrap();
        assert!(replay(root.path(), &store, &made).await.unwrap().has_same_files());
        let inputs = &made.manifest().inputs[0].files;
        for name in facts.iter().filter(|name| inputs.iter().any(|input| name.ends_with(&input.path))) {
            let file = root.path().join(name);
            let whole = fs::read(&file).unwrap();
            let mut flipped = whole.clone();
            flipped[whole.len() / 2] ^= 1;
            for (bad, change) in [(flipped, "has changed"), (whole[..whole.len() - 1].to_vec(), "has changed")] {
                fs::write(&file, bad).unwrap();
                says!(replay(root.path(), &store, &made).await.unwrap_err(), Error::FileChanged { .. }, name, "nyc_taxi", change);
            }
            // Moved away, as it was.
            let moved = root.path().join("elsewhere.parquet");
            fs::write(&file, &whole).unwrap();
            fs::rename(&file, &moved).unwrap();
            says!(replay(root.path(), &store, &made).await.unwrap_err(), Error::FileChanged { .. }, name, "has vanished");
            fs::rename(&moved, &file).unwrap();
            assert!(replay(root.path(), &store, &made).await.unwrap().is_equal());
        }
        // The published rows do not depend on any of this.
        made.verify().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_needs_no_catalog_version_and_takes_no_other_one_for_it() {
    let (root, store) = store().await;
    let made = store.materialize("zones_v1", instant(AS_OF)).await.unwrap();
    let version = root.path().join("catalog/default/nyc_taxi/v0000000001.json");
    let text = fs::read(&version).unwrap();
    // Without it the files of the manifest are found all the same.
    fs::remove_file(&version).unwrap();
    let told = replay(root.path(), &store, &made).await.unwrap();
    assert!(told.is_equal() && told.has_same_files(), "{told}");
    // A version that names other files is not what the materialization was made of.
    fs::write(&version, text).unwrap();
    let gone = made.manifest().inputs[0].files[0].path.clone();
    crate::support::reseal(&version, |version| {
        version["files"].as_array_mut().unwrap().retain(|file| file["path"] != gone.as_str());
    });
    let error = replay(root.path(), &store, &made).await.unwrap_err();
    says!(error, Error::MadeOtherwise { .. }, made.id().to_string(), "`nyc_taxi`", "are gone from it", gone, "can be read");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_rows_in_files_of_other_bytes_are_the_same() {
    // The encodings of a file follow from its first batch, so smaller batches make other bytes.
    let trips: Vec<Trip> = (0..1_500)
        .map(|i| Trip { pickup_us: 1_388_600_000_000_000 + i * 60_000_000, ..trip("2014-01-01", i as f64 / 7.0) })
        .collect();
    let trips: Vec<Trip> = trips.into_iter().map(|trip| Trip { dropoff_us: trip.pickup_us + 1_000_000, ..trip }).collect();
    let (root, store) = store_of(&trips).await;
    let numbers = || {
        let set = FeatureSet::rows("numbers_v1", COLUMNS).table("nyc_taxi").event_time("pickup_at");
        set.encode(Number::of("total_amount")).build().unwrap()
    };
    store.register(numbers()).unwrap();
    let made = store.materialize("numbers_v1", instant(AS_OF)).await.unwrap();
    assert_eq!(made.rows(), 1_500);
    let resources = Resources { batch_rows: 100, ..Resources::default() };
    let options = StoreOptions::default().cache_in_memory().resources(resources);
    let other = FeatureStore::open_with(root.path().to_str().unwrap(), options).await.unwrap();
    other.register(numbers()).unwrap();
    let opened = other.open_materialization(made.id()).await.unwrap();
    let told = replay(root.path(), &other, &opened).await.unwrap();
    assert!(told.is_equal() && !told.has_same_files(), "{told}");
    assert!(told.to_string().contains(": the same rows, in files of other bytes\n"), "{told}");
    // These rows are read, so a damaged file is found.
    let part = files_below(root.path()).into_iter().find(|name| name.contains("/part-00000-")).unwrap();
    let whole = fs::read(root.path().join(&part)).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(root.path().join(&part), flipped).unwrap();
    says!(replay(root.path(), &other, &opened).await.unwrap_err(), Error::Corrupt { .. }, "/part-00000-");
}

// --- steps that depend on something else than their rows -------------------------------------------------------------

/// What a step does otherwise once it is set. Nothing of it shows on the fixed rows of a fingerprint, of which there are 64.
#[derive(Clone, Default)]
struct Switch(Arc<AtomicBool>);

impl Switch {
    fn is_on(&self, rows: usize) -> bool {
        rows != 64 && self.0.load(Ordering::SeqCst)
    }
}

/// Drops short trips, of which it knows more when it is switched.
struct Moody(Switch);

impl RowSelection for Moody {
    type State = ();

    fn spec(&self) -> Spec {
        Spec::new("moody", 1).number("trip_distance")
    }

    fn purpose(&self) -> Purpose {
        Purpose::Population
    }

    fn fit(&self, _: &AsOfView<'_>) -> Result<()> {
        Ok(())
    }

    fn keep(&self, (): &(), input: &RecordBatch) -> Result<BooleanArray> {
        let least = if self.0.is_on(input.num_rows()) { 2.0 } else { 1.0 };
        Ok(input.column(0).as_primitive::<Float64Type>().iter().map(|x| Some(x? >= least)).collect())
    }
}

/// Learns the largest number, or something else when it is switched. It passes its column on.
struct Forgetful(Switch);

impl FittedEncoder for Forgetful {
    type State = f64;

    fn spec(&self) -> Spec {
        Spec::new("forgetful", 1).number("trip_distance").output("miles", DataType::Float64)
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<f64> {
        let (mut largest, mut rows) = (f64::MIN, 0);
        view.for_each_number("trip_distance", |x| {
            (largest, rows) = (if x.is_finite() { largest.max(x) } else { largest }, rows + 1)
        })?;
        // Of the fixed rows less than 64 are numbers.
        Ok(if rows > 64 && self.0.is_on(rows) { largest + 0.5 } else { largest })
    }

    fn encode(&self, _: &f64, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        Ok(vec![input.column(0).clone()])
    }
}

fn set(name: &str) -> RowSetBuilder {
    FeatureSet::rows(name, COLUMNS).table("nyc_taxi").event_time("pickup_at").encode(Number::of("trip_distance"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_depends_on_something_else_is_found_out() {
    let (root, store) = store().await;
    let switch = Switch::default();
    let shifted = {
        let switch = switch.clone();
        // Half a mile more from the 100th row of a batch on.
        encoder_fn(Spec::new("shifted", 1).number("trip_distance").output("miles", DataType::Float64), move |rows| {
            let shift = |row: usize| if row >= 99 && switch.is_on(rows.num_rows()) { 0.5 } else { 0.0 };
            let miles = rows.column(0).as_primitive::<Float64Type>();
            let miles = miles.iter().enumerate().map(|(row, x)| x.map(|x| x + shift(row)));
            Ok(vec![Arc::new(miles.collect::<datafusion::arrow::array::Float64Array>()) as ArrayRef])
        })
    };
    store.register(set("values_v1").encode(shifted).build().unwrap()).unwrap();
    store.register(set("kept_v1").keep(Moody(switch.clone())).build().unwrap()).unwrap();
    store.register(set("states_v1").encode_fitted(Forgetful(switch.clone())).build().unwrap()).unwrap();
    let mut found = Vec::new();
    for name in ["values_v1", "kept_v1", "states_v1"] {
        let made = store.materialize(name, instant(AS_OF)).await.unwrap();
        let expected = bits(&made).await;
        assert!(replay(root.path(), &store, &made).await.unwrap().is_equal(), "{name}");
        switch.0.store(true, Ordering::SeqCst);
        let told = replay(root.path(), &store, &made).await.unwrap();
        assert!(!told.is_equal() && told.to_string().contains(": NOT the same\n"), "{told}");
        switch.0.store(false, Ordering::SeqCst);
        assert!(bits(&made).await == expected);
        found.push((told, made));
    }
    let [(values, made), (kept, kept_made), (states, _)] = &found[..] else { panic!() };
    let [ReplayDifference::Value { by, row, column, published, computed, .. }] = &values.differences[..] else {
        panic!("{values}")
    };
    assert_eq!((by.len(), *row, column.as_str()), (0, 99, "miles"));
    let whole = crate::parity::whole(made).await;
    let x = whole.column_by_name("miles").unwrap().as_primitive::<Float64Type>().value(99);
    let shown = |x: f64| format!("{x:?} ({:016x})", x.to_bits());
    assert_eq!((published, computed), (&shown(x), &shown(x + 0.5)));
    assert!(
        values.to_string().contains(&format!("  differs   `miles` in row 99 of the rows: {} published", shown(x))),
        "{values}"
    );

    let [ReplayDifference::Learned { step, .. }, ReplayDifference::Rows { published, computed, .. }, ..] = &kept.differences[..]
    else {
        panic!("{kept}")
    };
    assert_eq!((step.as_str(), *published), ("moody", kept_made.rows()));
    assert!(computed < published && *computed == kept.rows, "{kept}");

    let [ReplayDifference::Learned { step, .. }] = &states.differences[..] else { panic!("{states}") };
    assert!(step == "forgetful" && states.has_same_files(), "{states}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_root_replays_what_another_root_published() {
    let (root, store) = store().await;
    let made = store.materialize("zones_v1", instant(AS_OF)).await.unwrap();
    let copy = temp_dir();
    crate::support::copy_dir(root.path(), copy.path());
    let other = handle(copy.path()).await;
    let opened = other.open_materialization(made.id()).await.unwrap();
    // It was registered after the materialization was opened.
    other.register(zones()).unwrap();
    let told = replay(copy.path(), &other, &opened).await.unwrap();
    assert!(told.is_equal() && told.has_same_files(), "{told}");
    let lines: Vec<String> = told.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines[0], "zones_v1 as of 2014-03-01T00:00:00Z: the same files");
    assert_eq!(lines[1..], [format!("  id        {}", made.id()), format!("  computed  {} rows", made.rows())]);
}
