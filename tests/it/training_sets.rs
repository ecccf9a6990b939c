//! Training sets of both kinds: what they hold, what summaries say, and exports that are read back.

use asof::{
    Aggregate, AsOf, Error, FeatureSet, FeatureStore, Materialization,
    encoder::{HourOfDay, Number, OutlierFilter, Sample, Standardize},
    temporal::Spine,
    training::{ColumnRole, Split, TrainingSet},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
        compute::concat_batches,
        datatypes::{Float64Type, TimestampMicrosecondType},
    },
    prelude::SessionContext,
};
use futures::TryStreamExt;
use tempfile::TempDir;

use crate::{
    parity::bit_rows,
    support::{Trip, instant, rows, store_of, temp_dir},
};

pub(crate) const AS_OF: &str = "2014-03-01T00:00:00Z";
pub(crate) const MIDDLE: &str = "2014-01-20T00:00:00Z";

/// Two trips every three hours from the beginning of 2014; some of them equal in all columns.
pub(crate) fn trips() -> Vec<Trip> {
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

pub(crate) const COLUMNS: &str = "SELECT pickup_at, pickup_zone, passenger_count, trip_distance, total_amount FROM nyc_taxi";

/// A set of all rows, with every kind of step if asked.
pub(crate) fn rides(name: &str, sql: &str, has_selections: bool) -> FeatureSet {
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

pub(crate) fn zones() -> FeatureSet {
    FeatureSet::entities("zones_v1", "nyc_taxi")
        .key("pickup_zone")
        .lookup("fare_amount", "last_fare")
        .window(TimeDelta::days(3), [Aggregate::count().named("trips_3d"), Aggregate::mean("fare_amount").named("fare_3d")])
        .build()
        .unwrap()
}

pub(crate) fn register(store: &FeatureStore) {
    for set in [rides("plain_v1", COLUMNS, false), rides("rides_v1", COLUMNS, true), zones()] {
        store.register(set).unwrap();
    }
}

pub(crate) async fn store() -> (TempDir, FeatureStore) {
    let (root, store) = store_of(&trips()).await;
    register(&store);
    (root, store)
}

pub(crate) async fn of_rows(store: &FeatureStore, set: &str) -> TrainingSet {
    store.training_set(set, instant(AS_OF)).await.unwrap()
}

/// A spine in no order, with keys and instants that are NULL, an equal row, and a label.
pub(crate) fn spine() -> RecordBatch {
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

pub(crate) trait IntoArray {
    fn into_array(self) -> ArrayRef;
}

impl<A: Array + 'static> IntoArray for A {
    fn into_array(self) -> ArrayRef {
        std::sync::Arc::new(self)
    }
}

pub(crate) async fn of_spine(store: &FeatureStore) -> TrainingSet {
    let rows = SessionContext::new().read_batch(spine()).unwrap();
    store.training_set("zones_v1", Spine::new(rows, "at")).await.unwrap()
}

/// All rows, by way of the batches, which must be those of the data frame.
pub(crate) async fn all(set: &TrainingSet) -> RecordBatch {
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

pub(crate) async fn bits(set: &TrainingSet) -> Vec<String> {
    bit_rows(&all(set).await)
}

pub(crate) async fn made_bits(made: &Materialization) -> Vec<String> {
    rows(made).await.iter().flat_map(bit_rows).collect()
}

pub(crate) fn instants(batch: &RecordBatch, name: &str) -> Vec<Option<i64>> {
    batch.column_by_name(name).unwrap().as_primitive::<TimestampMicrosecondType>().iter().collect()
}

pub(crate) fn floats(batch: &RecordBatch, name: &str) -> Vec<f64> {
    batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().iter().map(Option::unwrap).collect()
}

/// The rows of `of` for which `is_wanted` holds, in their order.
pub(crate) fn chosen(of: &RecordBatch, is_wanted: impl Fn(usize) -> bool) -> Vec<String> {
    let rows = bit_rows(of).into_iter().enumerate();
    rows.filter(|(row, _)| is_wanted(*row)).map(|(_, text)| text).collect()
}

pub(crate) fn says(error: &Error, parts: &[&str]) {
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
