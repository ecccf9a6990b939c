//! Parity as an operation: a report finds nothing where serving is right, and names feature, encoder and inputs where it is not.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use asof::{
    Aggregate, AsOf, Error, FeatureSet, FeatureStore, Resources, StoreOptions, Value,
    encoder::{HourOfDay, Number, OutlierFilter, Sample, Spec, Standardize, TargetMean, encoder_fn},
    feature_set::Source,
    parity::{ParityReport, ParitySample, Recorded, ServedLog, ServedLogOptions},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{
            Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, RecordBatch,
            StringArray, UInt64Array,
        },
        datatypes::{DataType, Float64Type},
    },
    parquet::{
        arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
        file::metadata::KeyValue,
    },
};

use crate::{
    drawn,
    parity::{every_encoder, store_of_a_year},
    s3::remote,
    s3_server::S3Server,
    support::{instant, load_trips, made_load, store, store_of, store_with, temp_dir, trip, write_parquet, write_trips},
    training::{collected, instants, integers, known_at_once},
};

pub(crate) const AS_OF: &str = "2014-07-01T04:00:00Z";
/// The query of `every_encoder`, as in `parity`.
pub(crate) const EVERY_COLUMN: &str = "SELECT pickup_at, vendor_id, passenger_count, trip_distance, fare_amount, tip_amount, total_amount, \
     pickup_latitude, pickup_longitude, 40.6413 AS jfk_latitude, -73.7781 AS jfk_longitude, \
     CASE WHEN payment_type > 1 THEN payment_type END AS payment_type, nullif(tip_amount, 0) AS tip_if_any, pickup_zone, \
     tolls_amount AS toll FROM nyc_taxi";
const SECOND_US: i64 = 1_000_000;

fn second(s: i64) -> AsOf {
    AsOf::from_micros(s * SECOND_US)
}

#[track_caller]
fn assert_equal(report: &ParityReport) {
    assert!(report.is_equal(), "{report}");
    assert!(report.rows > 0 && report.first.is_none() && report.differing_rows == 0, "{report}");
}

/// Facts with values of many types at these seconds, in an order of shops and kinds that meets each pair several times.
fn sales(seconds: std::ops::Range<i64>) -> Vec<(&'static str, ArrayRef)> {
    let at = || seconds.clone();
    let odd = [1.5, f64::NAN, f64::from_bits(f64::NAN.to_bits() | 5), -0.0, 0.0, f64::INFINITY, 5e-324];
    let prices = at().map(|i| (i % 6 != 0).then_some(i128::from(i) * 1_001)).collect::<Decimal128Array>();
    vec![
        ("at", instants(at().map(|i| Some(i * SECOND_US)))),
        ("shop", Arc::new(at().map(|i| (i % 17 != 3).then_some((i * 7 % 23) as i32)).collect::<Int32Array>())),
        ("kind", Arc::new(at().map(|i| (i % 13 != 5).then(|| format!("kind {}", i % 5))).collect::<StringArray>())),
        ("float", Arc::new(at().map(|i| (i % 11 != 0).then(|| odd[(i % 7) as usize])).collect::<Float64Array>())),
        ("integer", integers(at().map(|i| (i % 7 != 0).then_some(i64::MAX - i)))),
        ("unsigned", Arc::new(at().map(|i| Some(u64::MAX - i as u64)).collect::<UInt64Array>())),
        ("flag", Arc::new(at().map(|i| (i % 3 != 0).then_some(i % 2 == 0)).collect::<BooleanArray>())),
        ("text", Arc::new(at().map(|i| (i % 4 != 0).then(|| format!("é{i}"))).collect::<StringArray>())),
        ("day", Arc::new(at().map(|i| (i % 5 != 0).then_some(i as i32 - 50)).collect::<Date32Array>())),
        ("price", Arc::new(prices.with_precision_and_scale(20, 2).unwrap())),
        ("seen", instants(at().map(|i| (i % 9 != 0).then_some(i * 77)))),
    ]
}

/// A store of four minutes of sales, in a file in a folder beside the root.
async fn typed_store(dir: &Path) -> FeatureStore {
    let store = store(&dir.join("store")).await;
    write_parquet(&dir.join("facts/all.parquet"), &sales(0..240), None);
    store.register_table("sales", dir.join("facts").to_str().unwrap(), known_at_once()).await.unwrap();
    store
}

/// Found by both keys, by each of them alone, with two max ages, and aggregated.
fn typed_set(name: &str) -> FeatureSet {
    FeatureSet::entities(name, "sales")
        .key("shop")
        .key("kind")
        .window(
            TimeDelta::seconds(90),
            [Aggregate::count(), Aggregate::sum("price").named("price_sum"), Aggregate::mean("float").named("float_mean")],
        )
        .all_before([Aggregate::max("integer").named("integer_max"), Aggregate::last_k("text", 2).named("texts")])
        .also(
            Source::of("sales")
                .on("shop")
                .on("kind")
                .lookup("float", "float")
                .lookup("integer", "integer")
                .lookup("flag", "flag")
                .lookup("text", "text")
                .max_age(TimeDelta::seconds(60)),
        )
        .also(Source::of("sales").on("shop").lookup("unsigned", "unsigned").lookup("day", "day").max_age(TimeDelta::seconds(20)))
        .also(Source::of("sales").on("kind").lookup("price", "price").lookup("seen", "seen"))
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_of_all_types_are_served_as_they_were_trained() {
    let dir = temp_dir();
    let store = typed_store(dir.path()).await;
    store.register(typed_set("typed_v1")).unwrap();
    for at in [1, 100, 241] {
        let report = store.verify_parity("typed_v1", second(at), ParitySample::all()).await.unwrap();
        assert_equal(&report);
        let made = store.materialize("typed_v1", second(at)).await.unwrap();
        assert_eq!(report.ids, [made.id()]);
        // Published keys and others, each at the as-of and once later.
        assert!(report.rows > 2 * made.rows(), "{report}");
        assert_eq!(report.values, report.rows * made.manifest().features.len() as u64, "{report}");
        assert!(report.to_string().contains("equal in all bits"), "{report}");
    }
    // A sample is of the size that was asked for, but for keys that are made.
    let few = store.verify_parity("typed_v1", second(241), ParitySample::rows(10).seed(3)).await.unwrap();
    assert_equal(&few);
    assert!((20..40).contains(&few.rows), "{few}");
    // Without a published key, and without a sample, nothing is compared.
    for (at, sample) in [(-5, ParitySample::all()), (241, ParitySample::rows(0))] {
        let report = store.verify_parity("typed_v1", second(at), sample).await.unwrap();
        assert!(!report.is_equal() && report.rows == 0 && report.to_string().contains("nothing was compared"), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_every_encoder_are_served_as_they_were_trained() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store_of_a_year(root.path(), data.path(), 60).await;
    store.register(every_encoder(EVERY_COLUMN)).unwrap();
    let all = store.verify_parity("every_encoder_v1", instant(AS_OF), ParitySample::all()).await.unwrap();
    assert_equal(&all);
    let made = store.materialize("every_encoder_v1", instant(AS_OF)).await.unwrap();
    assert_eq!((all.rows, all.values), (made.rows(), made.rows() * made.manifest().features.len() as u64), "{all}");
    let some = store.verify_parity("every_encoder_v1", instant(AS_OF), ParitySample::rows(50).seed(7)).await.unwrap();
    assert_equal(&some);
    assert_eq!(some.rows, 50);

    // Published sets of the repository: selections drop rows, which are compared too.
    let taxi = store.verify_parity("taxi_v1", instant(AS_OF), ParitySample::all()).await.unwrap();
    assert_equal(&taxi);
    let made = store.materialize("taxi_v1", instant(AS_OF)).await.unwrap();
    assert_eq!(taxi.rows, made.manifest().rows_seen);
    assert!(made.rows() < taxi.rows && taxi.notes.iter().any(|note| note.contains("row selections")), "{taxi}");
    assert_equal(&store.verify_parity("zone_demand_v1", instant(AS_OF), ParitySample::all()).await.unwrap());
    let unknown = store.verify_parity("nobody_v1", instant(AS_OF), ParitySample::all()).await.unwrap_err();
    assert!(matches!(unknown, Error::UnknownFeatureSet { .. }), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_training_encodes_out_of_fold_is_compared_with_scoring_and_told() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store_of_a_year(root.path(), data.path(), 40).await;
    let query = "SELECT pickup_at, pickup_zone, trip_distance, total_amount FROM nyc_taxi";
    let set = FeatureSet::rows("folds_v1", query)
        .table("nyc_taxi")
        .event_time("pickup_at")
        .keep(OutlierFilter::between_percentiles(5.0, 95.0).of(["trip_distance"]))
        .keep(Sample::fraction(0.5, 9).of_numbers(["total_amount"]))
        .encode_fitted(TargetMean::of("total_amount").by("pickup_zone").prior(3.0))
        .encode_fitted(Standardize::of("total_amount_by_pickup_zone"))
        .encode_fitted(Standardize::of("trip_distance"))
        .label("total_amount");
    store.register(set.build().unwrap()).unwrap();
    let report = store.verify_parity("folds_v1", instant(AS_OF), ParitySample::all()).await.unwrap();
    assert_equal(&report);
    let told = report.notes.iter().find(|note| note.contains("by design")).unwrap();
    // The encoder, and the one that reads it; not the third.
    assert!(told.contains("`total_amount_by_pickup_zone`") && told.contains("`total_amount_by_pickup_zone_std`"), "{told}");
    assert!(!told.contains("`trip_distance_std`"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_that_draw_on_others_are_asked_after_the_as_of() {
    for max_age in [None, Some(TimeDelta::hours(20))] {
        let (data, root) = (temp_dir(), temp_dir());
        let store = store_of_a_year(root.path(), data.path(), 40).await;
        drawn::register(&store, max_age);
        let zone = "America/New_York".parse().unwrap();
        store.register(drawn::drawing("drawing_v1", max_age).encode(HourOfDay::of("pickup_at", zone)).build().unwrap()).unwrap();
        for sample in [ParitySample::all(), ParitySample::rows(30).seed(1)] {
            let report = store.verify_parity("drawing_v1", instant(AS_OF), sample).await.unwrap();
            assert_equal(&report);
            // The set, the set that is drawn on twice, and the other one.
            assert_eq!(report.ids.len(), 3, "{report}");
            assert!(report.not_compared.iter().any(|what| what.contains("own instant")), "{report}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_cache_and_another_handle_change_nothing() {
    let (data, root, other) = (temp_dir(), temp_dir(), temp_dir());
    write_trips(data.path(), 30);
    let first = store_with(root.path(), StoreOptions::default()).await;
    load_trips(&first, data.path()).await;
    let verify = async |store: &FeatureStore| {
        let mut found = Vec::new();
        for set in ["taxi_v1", "zone_demand_v1"] {
            let report = store.verify_parity(set, instant(AS_OF), ParitySample::rows(100)).await.unwrap();
            assert_equal(&report);
            found.push(report);
        }
        found
    };
    let expected = verify(&first).await;
    let second = store_with(root.path(), StoreOptions::default().cache_dir(other.path().join("cache"))).await;
    assert_eq!(verify(&second).await, expected);
    drop(first);
    fs::remove_dir_all(root.path().join(".asof-cache")).unwrap();
    assert_eq!(verify(&store_with(root.path(), StoreOptions::default()).await).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_s3_is_verified_with_its_log() {
    let (server, data, folder) = (S3Server::start("lab").await.unwrap(), temp_dir(), temp_dir());
    write_trips(data.path(), 20);
    let store = remote(&server).await;
    load_trips(&store, data.path()).await;
    for set in ["taxi_v1", "zone_demand_v1"] {
        assert_equal(&store.verify_parity(set, instant(AS_OF), ParitySample::rows(200)).await.unwrap());
    }
    let online = store.online("zone_demand_v1").await.unwrap();
    let log = ServedLog::create(folder.path(), &online).unwrap();
    for zone in 1..=40 {
        let key = [Value::Int(zone)];
        assert_eq!(log.record_key(&key, instant(AS_OF), &online.get(&key).unwrap()).unwrap(), Recorded::Queued);
    }
    assert_eq!(log.finish().unwrap().rows, 40);
    let report = store.verify_served_log(folder.path().to_str().unwrap()).await.unwrap();
    assert_equal(&report);
    assert_eq!((report.rows, report.ids), (40, vec![online.materialization().id()]));
}

/// While it is set, `drifting` answers otherwise than it did in training.
static DRIFTS: AtomicBool = AtomicBool::new(false);

fn drifting(name: &str) -> FeatureSet {
    let spec = Spec::new("drifting", 1).number("trip_distance").number("passenger_count").output("miles", DataType::Float64);
    let encoder = encoder_fn(spec, |input| {
        let miles = input.column(0).as_primitive::<Float64Type>();
        let next = |x: f64| if DRIFTS.load(Ordering::SeqCst) && x > 2.5 { f64::from_bits(x.to_bits() + 1) } else { x };
        Ok(vec![Arc::new(miles.unary::<_, Float64Type>(next)) as ArrayRef])
    });
    FeatureSet::rows(name, "SELECT pickup_at, trip_distance, passenger_count, fare_amount, total_amount FROM nyc_taxi")
        .table("nyc_taxi")
        .event_time("pickup_at")
        .encode(Number::of("fare_amount"))
        .encode(encoder)
        .encode_fitted(Standardize::of("miles"))
        .label("total_amount")
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_served_wrongly_is_named_whatever_the_batches() {
    let trips: Vec<_> = (0..200)
        .map(|i| {
            let mut trip = trip("2014-01-05T15:00:00Z", f64::from(i));
            trip.pickup_us += i64::from(i) * SECOND_US;
            trip.dropoff_us += i64::from(i) * SECOND_US;
            trip.miles = if i < 150 { 2.0 } else { 3.0 };
            trip.passengers = 4;
            trip
        })
        .collect();
    let (root, store) = store_of(&trips).await;
    store.register(drifting("drifting_v1")).unwrap();
    let as_of = instant(AS_OF);
    assert_equal(&store.verify_parity("drifting_v1", as_of, ParitySample::all()).await.unwrap());

    DRIFTS.store(true, Ordering::SeqCst);
    let mut found = Vec::new();
    for (partitions, batch_rows) in [(1, 8_192), (2, 7), (3, 64)] {
        let resources = Resources { partitions, batch_rows, ..Resources::default() };
        let store = store_with(root.path(), StoreOptions::default().cache_in_memory().resources(resources)).await;
        store.register(drifting_as_trained("drifting_v1")).unwrap();
        for sample in [ParitySample::all(), ParitySample::rows(60).seed(5), ParitySample::rows(60).seed(6)] {
            found.push(store.verify_parity("drifting_v1", as_of, sample).await.unwrap());
        }
    }
    assert!(found.chunks(3).all(|reports| reports == &found[..3]), "{found:?}");
    let report = &found[0];
    assert!(!report.is_equal());
    // Each of the longer trips, in the feature and in the one that reads it.
    assert_eq!((report.rows, report.differing_rows), (200, 50), "{report}");
    assert!((50..=100).contains(&report.differing_values), "{report}");
    let first = report.first.as_ref().unwrap();
    assert_eq!((first.feature.as_str(), first.made_by.as_str()), ("miles", "the encoder `drifting`"), "{report}");
    let inputs = [("trip_distance", "3.0"), ("passenger_count", "4")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(first.inputs, inputs, "{report}");
    assert!(first.row.contains(&("fare_amount".to_owned(), "150.0".to_owned())), "{report}");
    assert_eq!(first.training.bits, "4008000000000000", "{report}");
    assert_eq!(first.served.bits, "4008000000000001", "{report}");
    let text = report.to_string();
    for part in ["NOT equal", "`miles`", "drifting", "trip_distance = 3.0", "4008000000000001"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    DRIFTS.store(false, Ordering::SeqCst);
}

/// The set as it is built where the code has not drifted yet.
fn drifting_as_trained(name: &str) -> FeatureSet {
    DRIFTS.store(false, Ordering::SeqCst);
    let set = drifting(name);
    DRIFTS.store(true, Ordering::SeqCst);
    set
}

/// A log of `typed_v1`, asked at several instants after the as-of.
async fn typed_log(store: &FeatureStore, folder: &Path, as_of: AsOf, options: ServedLogOptions) -> Vec<PathBuf> {
    store.materialize("typed_v1", as_of).await.unwrap();
    let online = store.online("typed_v1").await.unwrap();
    assert_eq!(online.materialization().as_of(), as_of);
    let log = ServedLog::create_with(folder, &online, options).unwrap();
    for i in 0..35_i64 {
        let kind = if i % 6 == 5 { Value::Null } else { format!("kind {}", i % 5).into() };
        let (key, at) = ([Value::Int(i % 25), kind], AsOf::from_micros(as_of.micros() + i * 3 * SECOND_US));
        assert_eq!(log.record_key(&key, at, &online.get_at(&key, at).unwrap()).unwrap(), Recorded::Queued);
    }
    let written = log.finish().unwrap();
    assert_eq!((written.rows, written.dropped), (35, 0));
    written.files
}

fn rotated(rows_per_file: u64) -> ServedLogOptions {
    ServedLogOptions { rows_per_file, ..ServedLogOptions::default() }
}

/// Changes the rows of a file of a log and gives it a name without a hash, which it returns; what its footer says stays.
fn rewrite(file: &Path, change: impl Fn(RecordBatch) -> RecordBatch) -> PathBuf {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(file).unwrap()).unwrap();
    let entries: Vec<KeyValue> = reader.metadata().file_metadata().key_value_metadata().unwrap().clone();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(|batch| change(batch.unwrap())).collect();
    fs::remove_file(file).unwrap();
    let changed = file.with_file_name("changed.parquet");
    let mut writer = ArrowWriter::try_new(fs::File::create(&changed).unwrap(), batches[0].schema(), None).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    entries.into_iter().filter(|entry| entry.key != "ARROW:schema").for_each(|entry| writer.append_key_value_metadata(entry));
    writer.close().unwrap();
    changed
}

/// Flips the last bit of the first value of a column of floats that is there.
fn flip_a_bit(batch: &RecordBatch, column: &str) -> RecordBatch {
    let position = batch.schema().index_of(column).unwrap();
    let values = batch.column(position).as_primitive::<Float64Type>();
    let flipped = values.iter().position(|value| value.is_some());
    let values: Float64Array = values
        .iter()
        .enumerate()
        .map(|(row, value)| value.map(|value| if Some(row) == flipped { f64::from_bits(value.to_bits() ^ 1) } else { value }))
        .collect();
    let mut columns = batch.columns().to_vec();
    columns[position] = Arc::new(values);
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_entities_is_compared_with_training_and_a_flipped_bit_is_named() {
    let (dir, folder) = (temp_dir(), temp_dir());
    let store = typed_store(dir.path()).await;
    store.register(typed_set("typed_v1")).unwrap();
    let location = folder.path().to_str().unwrap();
    let files = typed_log(&store, folder.path(), second(150), rotated(10)).await;
    let rows: BTreeSet<&PathBuf> = files.iter().collect();
    assert_eq!((files.len(), rows.len()), (4, 4));
    let report = store.verify_served_log(location).await.unwrap();
    assert_equal(&report);
    assert_eq!((report.rows, report.not_compared.len()), (35, 0), "{report}");
    assert!(report.notes.iter().any(|note| note.contains("35 rows were compared with training")), "{report}");
    // One file is a log, too, and another log may lie in the same folder.
    assert_eq!(store.verify_served_log(files[3].to_str().unwrap()).await.unwrap().rows, 5);
    typed_log(&store, folder.path(), second(200), ServedLogOptions::default()).await;
    let report = store.verify_served_log(location).await.unwrap();
    assert_equal(&report);
    assert_eq!((report.rows, report.ids.len()), (70, 2), "{report}");

    let good = fs::read(&files[0]).unwrap();
    let changed = rewrite(&files[0], |batch| flip_a_bit(&batch, "feature.float_mean"));
    let report = store.verify_served_log(location).await.unwrap();
    assert_eq!((report.rows, report.differing_rows, report.differing_values), (70, 1, 1), "{report}");
    let first = report.first.as_ref().unwrap();
    assert_eq!(first.feature, "float_mean", "{report}");
    assert!(first.made_by.contains("mean(float) of sales"), "{report}");
    assert!(first.inputs[0].0 == "shop" && first.inputs[1].0 == "kind" && first.at.is_some(), "{report}");
    let bits = [&first.training.bits, &first.served.bits].map(|bits| u64::from_str_radix(bits, 16).unwrap());
    assert_eq!(bits[0] ^ bits[1], 1, "{report}");
    fs::remove_file(changed).unwrap();
    // A file under its own name is what was written, or an error that names it.
    for at in (0..good.len()).step_by(good.len() / 40) {
        let mut flipped = good.clone();
        flipped[at] ^= 4;
        fs::write(&files[0], &flipped).unwrap();
        let error = store.verify_served_log(location).await.unwrap_err();
        let path = files[0].to_str().unwrap();
        assert!(
            matches!(&error, Error::UnreadableFile { .. } | Error::Format { .. }) && error.to_string().contains(path),
            "{at}: {error}"
        );
    }
    fs::write(&files[0], &good).unwrap();

    // Of later facts: what was published is what can be compared with. A flipped bit is still found.
    write_parquet(&dir.path().join("facts/late.parquet"), &sales(1..3), None);
    store.repair("sales").await.unwrap();
    let report = store.verify_served_log(location).await.unwrap();
    assert_equal(&report);
    assert!(report.notes.iter().any(|note| note.contains("what is published")), "{report}");
    let changed = rewrite(&files[0], |batch| flip_a_bit(&batch, "feature.float_mean"));
    assert_eq!(store.verify_served_log(location).await.unwrap().differing_values, 1);
    fs::remove_file(changed).unwrap();
    fs::write(&files[0], &good).unwrap();

    // A materialization that is gone.
    let materialized = dir.path().join("store/materialized/typed_v1");
    let oldest = fs::read_dir(&materialized).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    fs::remove_dir_all(oldest).unwrap();
    let report = store.verify_served_log(location).await.unwrap();
    assert_equal(&report);
    assert_eq!(report.rows, 35, "{report}");
    assert!(report.not_compared.iter().any(|what| what.starts_with("35 rows of materialization")), "{report}");
    fs::remove_dir_all(&materialized).unwrap();
    let report = store.verify_served_log(location).await.unwrap();
    assert!(!report.is_equal() && report.rows == 0 && report.to_string().contains("nothing was compared"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loses_the_open_file_and_damage_is_a_typed_error() {
    let (dir, folder, empty) = (temp_dir(), temp_dir(), temp_dir());
    let store = typed_store(dir.path()).await;
    store.register(typed_set("typed_v1")).unwrap();
    let location = folder.path().to_str().unwrap();
    let files = typed_log(&store, folder.path(), second(150), rotated(12)).await;
    assert_eq!(files.len(), 3);
    // As a process that was killed leaves it: no footer, and not its name.
    let good = fs::read(&files[2]).unwrap();
    let open = PathBuf::from(format!("{}.open", files[2].display()));
    fs::remove_file(&files[2]).unwrap();
    fs::write(&open, &good[..good.len() / 2]).unwrap();
    let report = store.verify_served_log(location).await.unwrap();
    assert_equal(&report);
    assert_eq!(report.rows, 24, "{report}");
    assert!(report.not_compared.iter().any(|what| what.contains(".open") && what.contains("not completed")), "{report}");
    fs::remove_file(&open).unwrap();
    // A file that was cut off later, at any length.
    for length in [0, 3, 8, good.len() / 3, good.len() / 2, good.len() - 9, good.len() - 1] {
        fs::write(&files[2], &good[..length]).unwrap();
        let error = store.verify_served_log(location).await.unwrap_err();
        assert!(matches!(&error, Error::UnreadableFile { path, .. } if path.ends_with(".parquet")), "{length}: {error}");
    }
    // A Parquet file that is no log, a folder without one, and a set that nobody knows.
    write_parquet(&files[2], &[("x", integers([Some(1)]))], None);
    let error = store.verify_served_log(location).await.unwrap_err();
    assert!(error.to_string().contains("no log of served rows"), "{error}");
    fs::write(&files[2], &good).unwrap();
    let error = store.verify_served_log(empty.path().to_str().unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::NoFiles { .. }), "{error}");
    let root = dir.path().join("store");
    let stranger = FeatureStore::open_with(root.to_str().unwrap(), StoreOptions::default().cache_in_memory()).await.unwrap();
    let error = stranger.verify_served_log(location).await.unwrap_err();
    assert!(matches!(error, Error::UnknownFeatureSet { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_requests_is_encoded_again() {
    let (data, root, folder) = (temp_dir(), temp_dir(), temp_dir());
    let max_age = Some(TimeDelta::hours(20));
    let store = store_of_a_year(root.path(), data.path(), 40).await;
    drawn::register(&store, max_age);
    store.register(drawn::drawing("drawing_v1", max_age).build().unwrap()).unwrap();
    for set in ["drawing_v1", "demand_v1", "pairs_v1"] {
        store.materialize(set, instant(AS_OF)).await.unwrap();
    }
    let online = store.online("drawing_v1").await.unwrap();
    let sql = format!("SELECT * FROM nyc_taxi WHERE pickup_at >= '{AS_OF}' AND pickup_at < '2014-08-01T04:00:00Z'");
    let requests = collected(store.sql(&sql, instant("2015-01-01")).await.unwrap()).await;
    assert!(requests.num_rows() > 10);
    let answers = online.encode(&requests).unwrap();
    let log = ServedLog::create(folder.path(), &online).unwrap();
    for row in 0..requests.num_rows() {
        assert_eq!(log.record_request(&requests.slice(row, 1), &answers.slice(row, 1)).unwrap(), Recorded::Queued);
    }
    // What does not fit is refused and not logged.
    let error = log.record_request(&requests, &answers.slice(0, 1)).unwrap_err();
    assert!(matches!(error, Error::Definition { .. }), "{error}");
    let error = log.record_request(&requests, &requests).unwrap_err();
    assert!(matches!(error, Error::UnknownColumn { .. } | Error::ColumnType { .. }), "{error}");
    let row = online.encode_row(&[
        ("pickup_zone", 1.into()),
        ("dropoff_zone", Value::Null),
        ("pickup_at", instant("2014-07-02T00:00:00Z").into()),
    ]);
    let error = log.record_key(&[1.into()], instant(AS_OF), &row.unwrap()).unwrap_err();
    assert!(matches!(error, Error::Definition { .. }), "{error}");
    let written = log.finish().unwrap();
    assert_eq!((written.rows as usize, written.files.len()), (requests.num_rows(), 1));

    let location = folder.path().to_str().unwrap();
    let report = store.verify_served_log(location).await.unwrap();
    assert_equal(&report);
    assert_eq!((report.rows as usize, report.ids.len()), (requests.num_rows(), 3), "{report}");
    let column = answers.schema().fields().iter().map(|field| field.name().clone()).find(|name| {
        let column = answers.column_by_name(name).unwrap();
        *column.data_type() == DataType::Float64 && column.null_count() < column.len()
    });
    let column = column.unwrap();
    rewrite(&written.files[0], |batch| flip_a_bit(&batch, &format!("feature.{column}")));
    let report = store.verify_served_log(location).await.unwrap();
    assert_eq!(report.differing_values, 1, "{report}");
    let first = report.first.as_ref().unwrap();
    assert_eq!(first.feature, column, "{report}");
    assert!(first.made_by.contains("number") && first.row.iter().any(|(name, _)| name == "pickup_zone"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_drops_rows_and_says_how_many() {
    let (root, data, folder) = (temp_dir(), temp_dir(), temp_dir());
    let store = store(root.path()).await;
    store.ingest(&made_load(&data.path().join("trips.csv"), &[trip("2014-01-05T15:00:00Z", 1.0)])).await.unwrap();
    store.materialize("zone_demand_v1", instant(AS_OF)).await.unwrap();
    let online = store.online("zone_demand_v1").await.unwrap();
    let options = ServedLogOptions { rows_per_file: 1, queue: 1, ..ServedLogOptions::default() };
    let log = ServedLog::create_with(folder.path(), &online, options).unwrap();
    let (key, mut recorded) = ([Value::Int(1)], 0_u64);
    let row = online.get(&key).unwrap();
    // Each row is a file that is synced, which takes longer than recording it.
    for _ in 0..5_000 {
        recorded += 1;
        if log.record_key(&key, instant(AS_OF), &row).unwrap() == Recorded::Dropped {
            break;
        }
    }
    assert_eq!(log.dropped(), 1);
    // Shared between threads.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    log.record_key(&key, instant(AS_OF), &row).unwrap();
                }
            });
        }
    });
    recorded += 100;
    let written = log.finish().unwrap();
    assert_eq!(written.rows + written.dropped, recorded, "{written:?}");
    let report = store.verify_served_log(folder.path().to_str().unwrap()).await.unwrap();
    assert_equal(&report);
    assert_eq!(report.rows, written.rows);
    let zero = ServedLogOptions { queue: 0, ..ServedLogOptions::default() };
    let error = ServedLog::create_with(folder.path(), &online, zero).unwrap_err();
    assert!(matches!(error, Error::Definition { .. }), "{error}");
}
