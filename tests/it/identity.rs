//! I3: same id, same rows, same order, same bits; and what is not the same has another id or is refused.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use asof::{
    AsOf, AsOfView, Error, FeatureSet, Resources, StoreOptions,
    encoder::{FnEncoder, Number, OutlierFilter, Purpose, RowSelection, Sample, Spec, Standardize, encoder_fn},
    ingest::Ingest,
    name::ContentId,
};
use datafusion::arrow::{
    array::{ArrayRef, AsArray, BooleanArray, RecordBatch},
    datatypes::{DataType, Float64Type},
};

use crate::support::{
    bits, copy_dir, count, files_below, instant, load_trips, made_load, store, store_of, store_with, temp_dir, trip, trips_table,
    write_trips,
};

const AS_OF: &str = "2014-09-15T12:00:00Z";

fn with(partitions: usize, batch_rows: usize) -> StoreOptions {
    StoreOptions::default().cache_in_memory().resources(Resources { partitions, batch_rows, ..Default::default() })
}

/// A set of what a query yields as `pickup_at` and `x`.
fn extracted(name: &str, sql: &str) -> FeatureSet {
    let set = FeatureSet::rows(name, sql).table("nyc_taxi").event_time("pickup_at");
    set.encode(Number::of("x")).encode_fitted(Standardize::of("x")).build().unwrap()
}

/// Queries whose floats would round differently in another order.
fn rounding_sets() -> Vec<FeatureSet> {
    let sets = [
        ("plain_v1", "SELECT pickup_at, total_amount / trip_distance AS x FROM nyc_taxi WHERE trip_distance > 0"),
        ("grouped_v1", "SELECT max(pickup_at) AS pickup_at, avg(total_amount * 1.1) AS x FROM nyc_taxi GROUP BY pickup_zone"),
        (
            "running_v1",
            "SELECT pickup_at, sum(tip_amount * 1.1) OVER (ORDER BY pickup_at, dropoff_at, total_amount) AS x FROM nyc_taxi",
        ),
        (
            "joined_v1",
            "SELECT a.pickup_at, a.total_amount / b.mean AS x FROM nyc_taxi AS a JOIN \
             (SELECT pickup_zone, avg(total_amount * 1.1) AS mean FROM nyc_taxi GROUP BY pickup_zone) AS b \
             ON a.pickup_zone = b.pickup_zone",
        ),
        ("united_v1", "SELECT pickup_at, fare_amount AS x FROM nyc_taxi UNION ALL SELECT dropoff_at, -tip_amount FROM nyc_taxi"),
    ];
    sets.into_iter().map(|(name, sql)| extracted(name, sql)).collect()
}

/// A root with a year of trips, to be copied.
async fn root_of_a_year(trips_per_month: u32) -> tempfile::TempDir {
    let (data, root) = (temp_dir(), temp_dir());
    write_trips(data.path(), trips_per_month);
    load_trips(&store(root.path()).await, data.path()).await;
    root
}

/// Ids and bits of these sets in a copy of the root, opened with these options.
async fn made(root: &Path, options: StoreOptions, sets: &[FeatureSet]) -> Vec<(String, ContentId, Vec<u8>)> {
    let copy = temp_dir();
    copy_dir(root, copy.path());
    let store = store_with(copy.path(), options).await;
    let mut found = Vec::new();
    for set in sets {
        store.register(set.clone()).unwrap();
        let made = store.materialize(set.name().as_str(), instant(AS_OF)).await.unwrap();
        assert!(made.rows() > 0);
        found.push((set.name().to_string(), made.id(), bits(&made).await));
    }
    found
}

async fn assert_the_same_everywhere(sets: &[FeatureSet]) {
    let root = root_of_a_year(60).await;
    let expected = made(root.path(), with(1, 8_192), sets).await;
    for (partitions, batch_rows) in [(1, 7), (2, 1_000), (8, 8_192), (8, 7)] {
        for (a, b) in expected.iter().zip(made(root.path(), with(partitions, batch_rows), sets).await) {
            let shown = format!("{} with {partitions} partitions and {batch_rows} rows a batch", a.0);
            assert_eq!(a.1, b.1, "{shown} has another id");
            assert!(a.2 == b.2, "{shown} has other bits");
        }
    }
}

#[tokio::test]
async fn tasks_and_batches_change_no_bit() {
    let mut sets = vec![asof_features::taxi_v1().unwrap(), asof_features::zone_demand_v1().unwrap()];
    sets.extend(rounding_sets());
    assert_the_same_everywhere(&sets).await;
}

#[tokio::test]
async fn batches_change_no_bit_of_an_aggregate_without_groups() {
    let sql = "SELECT max(pickup_at) AS pickup_at, avg(total_amount * 1.1) AS x FROM nyc_taxi";
    assert_the_same_everywhere(&[extracted("ungrouped_v1", sql)]).await;
}

/// A machine of many cores has many sorts at once, and they share one budget.
#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_share_the_memory_of_a_store() {
    let (data, root) = (temp_dir(), temp_dir());
    let days: Vec<_> = (0..64).map(|i| trip(&format!("2014-{:02}-{:02}T15:00:00Z", 1 + i / 28, 1 + i % 28), 1.0)).collect();
    let loader = store_with(root.path(), with(1, 1)).await;
    let loaded = loader.ingest(&made_load(&data.path().join("trips.csv"), &days).file_bytes(1)).await.unwrap();
    assert_eq!(loaded.version.files().len(), 64);
    let store = store_with(root.path(), with(64, 8_192)).await;
    let one = "SELECT pickup_at, trip_distance AS x FROM nyc_taxi";
    store.register(extracted("all_v1", &[one; 6].join(" UNION ALL "))).unwrap();
    // How many of them hold memory at the same time is a matter of luck: try it a few times.
    for day in 10..20 {
        assert_eq!(store.materialize("all_v1", instant(&format!("2014-09-{day}"))).await.unwrap().rows(), 6 * 64);
    }
}

#[tokio::test]
async fn the_same_sources_loaded_by_another_machine_have_the_same_id() {
    let data = temp_dir();
    write_trips(data.path(), 40);
    let mut ids = BTreeSet::new();
    for options in [with(1, 8_192), with(8, 7)] {
        let root = temp_dir();
        let store = store_with(root.path(), options).await;
        load_trips(&store, data.path()).await;
        ids.insert(store.materialize("taxi_v1", instant(AS_OF)).await.unwrap().id());
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[tokio::test]
async fn the_order_of_files_and_rows_changes_no_bit() {
    let root = root_of_a_year(40).await;
    let told = store(root.path()).await;
    // The same files in other folders, so that they are read in another order.
    let (from, other) = (root.path().join("facts/default/nyc_taxi"), temp_dir());
    for (i, name) in files_below(&from).iter().enumerate() {
        let folder = other.path().join(format!("month={}", 97 - i));
        fs::create_dir(&folder).unwrap();
        fs::copy(from.join(name), folder.join("facts.parquet")).unwrap();
    }
    let other_root = temp_dir();
    let retold = store(other_root.path()).await;
    retold.register_table("nyc_taxi", other.path().to_str().unwrap(), trips_table()).await.unwrap();
    for set in ["taxi_v1", "zone_demand_v1"] {
        let (a, b) =
            (told.materialize(set, instant(AS_OF)).await.unwrap(), retold.materialize(set, instant(AS_OF)).await.unwrap());
        assert!(bits(&a).await == bits(&b).await, "{set}");
    }
}

#[tokio::test]
async fn a_copied_root_is_the_same_root() {
    let (root, store) = store_of(&[trip("2014-01-05", 1.0), trip("2014-02-05T15:00:00Z", 2.0)]).await;
    let sets = ["taxi_v1", "zone_demand_v1"];
    let mut expected = Vec::new();
    for set in sets {
        let made = store.materialize(set, instant(AS_OF)).await.unwrap();
        expected.push((made.id(), bits(&made).await));
    }
    let copy = temp_dir();
    copy_dir(root.path(), copy.path());
    // Nothing can be computed there: the facts are gone.
    fs::remove_dir_all(copy.path().join("facts")).unwrap();
    let before = files_below(copy.path());
    let copied = crate::support::store(copy.path()).await;
    for (set, (id, expected)) in sets.into_iter().zip(expected) {
        let found = copied.materialize(set, instant(AS_OF)).await.unwrap();
        found.verify().await.unwrap();
        assert_eq!(found.id(), id);
        assert!(bits(&found).await == expected);
    }
    assert_eq!(files_below(copy.path()), before);
}

#[tokio::test]
async fn a_second_call_reads_no_fact() {
    let (root, store) = store_of(&[trip("2014-01-05T15:00:00Z", 1.0)]).await;
    let first = store.materialize("zone_demand_v1", instant(AS_OF)).await.unwrap();
    let rows = bits(&first).await;
    fs::rename(root.path().join("facts"), root.path().join("lost")).unwrap();
    let before = files_below(root.path());
    let second = store.materialize("zone_demand_v1", instant(AS_OF)).await.unwrap();
    assert_eq!(second.id(), first.id());
    assert!(bits(&second).await == rows);
    assert_eq!(files_below(root.path()), before);
    let vanished = store.materialize("zone_demand_v1", instant("2014-09-16")).await.unwrap_err();
    assert!(matches!(vanished, Error::FileChanged { .. }), "{vanished}");
}

#[tokio::test]
async fn another_instant_or_visible_file_is_another_materialization_a_hidden_one_is_not() {
    let (_root, store) = store_of(&[trip("2014-01-05T15:00:00Z", 1.0)]).await;
    let (early, late) = (instant("2014-02-01"), instant("2014-04-01"));
    let ids = async || {
        let mut ids = Vec::new();
        for set in ["taxi_v1", "zone_demand_v1"] {
            for as_of in [early, late] {
                ids.push(store.materialize(set, as_of).await.unwrap().id());
            }
        }
        ids
    };
    let before = ids().await;
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 4);
    let data = temp_dir();
    store.ingest(&made_load(&data.path().join("march.csv"), &[trip("2014-03-05", 9.0)])).await.unwrap();
    let after = ids().await;
    assert_eq!((before[0], before[2]), (after[0], after[2]), "the early ones cannot see March");
    assert!(before[1] != after[1] && before[3] != after[3], "the late ones can");
    let made = store.materialize("zone_demand_v1", late).await.unwrap();
    assert_eq!(made.manifest().inputs[0].files.len(), 2);
}

fn scaled(revision: u32, factor: f64) -> FnEncoder<impl Fn(&RecordBatch) -> asof::Result<Vec<ArrayRef>> + Send + Sync + 'static> {
    let spec = Spec::new("scaled", revision).number("trip_distance").output("scaled", DataType::Float64);
    encoder_fn(spec, move |input| {
        let scaled = input.column(0).as_primitive::<Float64Type>().unary::<_, Float64Type>(|x| x * factor);
        Ok(vec![Arc::new(scaled) as ArrayRef])
    })
}

fn scaled_set(revision: u32, factor: f64) -> FeatureSet {
    let set = FeatureSet::rows("scaled_v1", "SELECT pickup_at, trip_distance FROM nyc_taxi").table("nyc_taxi");
    set.event_time("pickup_at").encode(scaled(revision, factor)).build().unwrap()
}

#[tokio::test]
async fn changed_code_is_refused_with_and_without_a_new_revision() {
    let (root, first) = store_of(&[trip("2014-01-05T15:00:00Z", 1.0)]).await;
    first.register(scaled_set(1, 2.0)).unwrap();
    let made = first.materialize("scaled_v1", instant(AS_OF)).await.unwrap();

    // The same process: the name is taken. The same definition may be registered again.
    first.register(scaled_set(1, 2.0)).unwrap();
    for other in [scaled_set(1, 3.0), scaled_set(2, 2.0)] {
        let refused = first.register(other).unwrap_err();
        assert!(matches!(&refused, Error::AlreadyExists { reason, .. } if reason.contains("next version")), "{refused}");
    }

    let changed = store(root.path()).await;
    changed.register(scaled_set(1, 3.0)).unwrap();
    for as_of in [AS_OF, "2014-10-01"] {
        let refused = changed.materialize("scaled_v1", instant(as_of)).await.unwrap_err();
        assert!(matches!(&refused, Error::AlreadyExists { reason, .. } if reason.contains("revision")), "{refused}");
    }
    assert!(matches!(changed.online("scaled_v1").await, Err(Error::AlreadyExists { .. })));

    // A revision says that the code has changed, and a published version does not change: it takes another name.
    let revised = store(root.path()).await;
    revised.register(scaled_set(2, 3.0)).unwrap();
    let refused = revised.materialize("scaled_v1", instant(AS_OF)).await.unwrap_err();
    let told = refused.to_string();
    assert!(told.contains("`encoders.0.revision` is 1 there and 2 here") && told.contains("`scaled_v2`"), "{told}");

    let again = store(root.path()).await;
    again.register(scaled_set(1, 2.0)).unwrap();
    assert_eq!(again.materialize("scaled_v1", instant(AS_OF)).await.unwrap().id(), made.id());
}

#[tokio::test]
async fn a_damaged_materialization_is_named_and_made_again_as_the_error_says() {
    let (root, store) = store_of(&[trip("2014-01-05T15:00:00Z", 1.0)]).await;
    let first = store.materialize("zone_demand_v1", instant(AS_OF)).await.unwrap();
    let expected = bits(&first).await;
    let part = files_below(root.path()).into_iter().find(|name| name.contains("/part-00000-")).unwrap();
    let part = root.path().join(part);
    let mut bytes = fs::read(&part).unwrap();
    bytes[4] ^= 1;
    fs::write(&part, bytes).unwrap();
    let damaged = first.verify().await.unwrap_err();
    assert!(damaged.to_string().contains("delete the folder it lies in and materialize again"), "{damaged}");
    fs::remove_dir_all(part.parent().unwrap()).unwrap();
    let second = store.materialize("zone_demand_v1", instant(AS_OF)).await.unwrap();
    second.verify().await.unwrap();
    assert!(second.id() == first.id() && bits(&second).await == expected);
}

#[tokio::test]
async fn a_set_of_nothing_is_a_materialization_too() {
    let (_root, store) = store_of(&[trip("2014-01-05", 1.0)]).await;
    let before: AsOf = instant("2013-01-01");
    assert_eq!(count(&store, before).await, 0);
    for set in ["taxi_v1", "zone_demand_v1"] {
        let made = store.materialize(set, before).await.unwrap();
        assert_eq!((made.rows(), made.manifest().inputs[0].files.len()), (0, 0));
        made.verify().await.unwrap();
    }
    assert!(!store.online("zone_demand_v1").await.unwrap().contains(&[1.into()]).unwrap());
    let nothing = Ingest::new("none", trips_table()).unwrap().from(temp_dir().path().to_str().unwrap());
    assert!(matches!(store.ingest(&nothing).await, Err(Error::NoFiles { .. })));
}

/// Selects like another one, and learns from sorted rows.
struct InOrder<S>(S);

impl<S: RowSelection> RowSelection for InOrder<S> {
    type State = S::State;

    fn spec(&self) -> Spec {
        self.0.spec()
    }

    fn purpose(&self) -> Purpose {
        self.0.purpose()
    }

    fn fit(&self, view: &AsOfView<'_>) -> asof::Result<S::State> {
        self.0.fit(view)
    }

    fn keep(&self, state: &S::State, input: &RecordBatch) -> asof::Result<BooleanArray> {
        self.0.keep(state, input)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_the_same_whether_they_are_sorted_before_or_after_they_are_selected() {
    let root = root_of_a_year(300).await;
    let outliers = || OutlierFilter::between_percentiles(2.0, 98.0).of(["trip_distance", "total_amount"]);
    // Few columns and coarse ones: many rows share their instant, and rows beside them decide their order.
    let hours = "SELECT date_trunc('hour', pickup_at) AS at, passenger_count, trip_distance, total_amount FROM nyc_taxi";
    let set = || FeatureSet::rows("hours_v1", hours).table("nyc_taxi").event_time("at");
    let sample = || Sample::fraction(0.4, 7).of_instants(["at"]).of_numbers(["trip_distance", "total_amount"]);
    let encoded = |set: asof::feature_set::RowSetBuilder| {
        let set = set.encode(Number::of("trip_distance")).encode_fitted(Standardize::of("total_amount")).label("passenger_count");
        set.build().unwrap()
    };
    let late = encoded(set().keep(outliers()).keep(sample()));
    let early = encoded(set().keep(InOrder(outliers())).keep(sample()));
    assert_eq!(late.fingerprint(), early.fingerprint(), "how rows are sorted is no part of a definition");
    let expected = made(root.path(), with(1, 8_192), &[early]).await;
    for options in [with(1, 8_192), with(8, 7), with(2, 1_000)] {
        let found = made(root.path(), options, std::slice::from_ref(&late)).await;
        assert!(found == expected);
    }
    let little = StoreOptions::default().cache_in_memory();
    let little = little.resources(Resources { memory_bytes: 1 << 20, partitions: 2, ..Default::default() });
    assert!(made(root.path(), little, &[late]).await == expected);
}

/// Learns the first number that it sees.
struct First(bool);

impl RowSelection for First {
    type State = f64;

    fn spec(&self) -> Spec {
        Spec::new("first", 1).number("trip_distance")
    }

    fn purpose(&self) -> Purpose {
        Purpose::Population
    }

    fn fit(&self, view: &AsOfView<'_>) -> asof::Result<f64> {
        let mut first = None;
        view.for_each_number("trip_distance", |x| first = first.or(Some(x)).filter(|x| x.is_finite()))?;
        Ok(first.unwrap_or(0.0))
    }

    fn learns_in_any_order(&self) -> bool {
        self.0
    }

    fn keep(&self, first: &f64, input: &RecordBatch) -> asof::Result<BooleanArray> {
        Ok(input.column(0).as_primitive::<Float64Type>().iter().map(|x| Some(x? >= *first)).collect())
    }
}

#[test]
fn a_promise_to_learn_in_any_order_is_held_against_fixed_rows() {
    let set = |step: First| {
        let set = FeatureSet::rows("first_v1", "SELECT pickup_at, trip_distance FROM nyc_taxi").table("nyc_taxi");
        set.event_time("pickup_at").keep(step).encode(Number::of("trip_distance")).build()
    };
    set(First(false)).unwrap();
    let told = set(First(true)).unwrap_err().to_string();
    assert!(told.contains("first of first_v1") && told.contains("in any order"), "{told}");
}
