//! I7: an online value is the offline value at the same as-of, bit for bit; I9: a deleted cache loses nothing.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use asof::{
    Aggregate, AsOf, Error, FeatureSet, FeatureStore, Materialization, StoreOptions, Value,
    encoder::{
        Arithmetic, Bearing, Bins, Calendar, Clip, Coalesce, Cyclic, DayOfWeek, Frequency, Geohash, GridCell, HashBucket,
        Haversine, Holidays, HourOfDay, Impute, ImputeCategory, KMeans, Log, MinMax, Number, OneHot, Ordinal, Pca,
        PercentileClip, QuantileBins, Ratio, RobustScale, Spec, Standardize, Unseen, encoder_fn,
    },
};
use chrono::{NaiveDate, NaiveDateTime, TimeDelta, TimeZone};
use chrono_tz::America::New_York;
use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray},
    compute::concat_batches,
    datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType},
    util::display::array_value_to_string,
};

use crate::support::{
    Trip, instant, load_trips, register, rows, store, store_of, store_with, temp_dir, trip, write_parquet, write_trips,
};

const AS_OF: &str = "2014-07-01T04:00:00Z";

pub(crate) async fn store_of_a_year(root: &Path, data: &Path, trips_per_month: u32) -> FeatureStore {
    write_trips(data, trips_per_month);
    let store = store(root).await;
    load_trips(&store, data).await;
    store
}

/// Every row as text; floats as their bits.
pub(crate) fn bit_rows(batch: &RecordBatch) -> Vec<String> {
    let cell = |column: &ArrayRef, row: usize| match column.data_type() {
        _ if column.is_null(row) => "NULL".to_owned(),
        DataType::Float64 => format!("{:016x}", column.as_primitive::<Float64Type>().value(row).to_bits()),
        _ => array_value_to_string(column, row).unwrap(),
    };
    (0..batch.num_rows()).map(|row| batch.columns().iter().map(|c| cell(c, row)).collect::<Vec<_>>().join(" ")).collect()
}

pub(crate) async fn whole(made: &Materialization) -> RecordBatch {
    concat_batches(&made.schema().unwrap(), &rows(made).await).unwrap()
}

pub(crate) fn columns(batch: &RecordBatch, names: &[String]) -> RecordBatch {
    let positions: Vec<usize> = names.iter().map(|name| batch.schema().index_of(name).unwrap()).collect();
    batch.project(&positions).unwrap()
}

/// A value of a row, as a service would pass it.
fn value(column: &ArrayRef, row: usize) -> Value {
    match column.data_type() {
        _ if column.is_null(row) => Value::Null,
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Timestamp(..) => AsOf::from_micros(column.as_primitive::<TimestampMicrosecondType>().value(row)).into(),
        _ => array_value_to_string(column, row).unwrap().into(),
    }
}

/// The set with every built-in encoder and a closure over all trips; no row is dropped.
pub(crate) fn every_encoder(query: &str) -> FeatureSet {
    let zone = || "America/New_York".parse().unwrap();
    let (pickup, jfk) = (["pickup_latitude", "pickup_longitude"], ["jfk_latitude", "jfk_longitude"]);
    let spec = Spec::new("meter", 1).input("vendor_id", DataType::Int64).number("tip_amount");
    let meter = encoder_fn(spec.output("meter", DataType::Utf8).output("tipped", DataType::Int64), |input| {
        let (vendors, tips) = (input.column(0).as_primitive::<Int64Type>(), input.column(1).as_primitive::<Float64Type>());
        let meter: StringArray = vendors.iter().map(|v| Some(format!("maker {}", v?))).collect();
        let tipped: Int64Array = tips.iter().map(|tip| tip.map(|tip| i64::from(tip > 0.0))).collect();
        Ok(vec![Arc::new(meter), Arc::new(tipped)])
    });
    FeatureSet::rows("every_encoder_v1", query)
        .table("nyc_taxi")
        .event_time("pickup_at")
        .encode(Number::of("trip_distance"))
        .encode(Number::of("passenger_count").named("passengers"))
        .encode(Log::of("total_amount"))
        .encode(Clip::of("tip_amount", 0.5, 2.0))
        .encode(Clip::of("fare_amount", f64::NEG_INFINITY, 10.0).named("fare_up_to_10"))
        .encode(Ratio::of("fare_amount", "trip_distance", "fare_per_mile"))
        .encode(HourOfDay::of("pickup_at", zone()))
        .encode(DayOfWeek::of("pickup_at", zone()))
        .encode(Calendar::month("pickup_at", zone()))
        .encode(Calendar::day_of_month("pickup_at", zone()))
        .encode(Calendar::day_of_year("pickup_at", zone()))
        .encode(Calendar::iso_week("pickup_at", zone()))
        .encode(Calendar::minute_of_day("pickup_at", zone()))
        .encode(Calendar::hour_of_week("pickup_at", zone()))
        .encode(Calendar::is_weekend("pickup_at", zone()))
        .encode(Cyclic::hour_of_day("pickup_at", zone()))
        .encode(Cyclic::hour_of_week("pickup_at", zone()))
        .encode(Cyclic::day_of_month("pickup_at", zone()))
        .encode(Cyclic::day_of_year("pickup_at", zone()))
        .encode(Cyclic::of_number("trip_distance", 2.5))
        .encode(Holidays::from_csv("pickup_at", zone(), "date\n2014-02-17\n2014-05-26\n").with_days_since().with_days_until())
        .encode(Haversine::between(pickup, jfk, "km_to_jfk"))
        .encode(Bearing::between(pickup, jfk, "bearing_of_jfk"))
        .encode(GridCell::of(pickup, 0.01, "cell"))
        .encode(Geohash::of(pickup, 6, "geohash"))
        .encode(HashBucket::of("payment_type", 3))
        .encode(HashBucket::of("passenger_count", 8))
        .encode(Bins::of("trip_distance", [0.5, 1.0, 4.0]).null_beyond())
        .encode(Bins::of("total_amount", [5.0, 20.0]))
        .encode(Arithmetic::plus("fare_amount", "tip_amount", "fare_and_tip"))
        .encode(Arithmetic::minus("total_amount", "fare_amount", "beyond_fare"))
        .encode(Arithmetic::times("trip_distance", "passenger_count", "passenger_miles"))
        .encode(Arithmetic::divided_by("tip_amount", "fare_amount", "tip_rate"))
        .encode(Coalesce::of_numbers(["tip_if_any", "fare_amount"], "tip_or_fare"))
        .encode(Coalesce::of_texts(["payment_type", "vendor_id"], "paid_by"))
        .encode_fitted(Standardize::of("trip_distance"))
        .encode_fitted(Standardize::of("fare_amount"))
        .encode_fitted(MinMax::of("trip_distance"))
        .encode_fitted(MinMax::of("fare_amount").clipped().named("fare_0_to_1"))
        .encode_fitted(RobustScale::of("fare_amount"))
        .encode_fitted(PercentileClip::of("total_amount", 2.0, 98.0))
        .encode_fitted(QuantileBins::of("trip_distance", 5).named("distance_quintile"))
        .encode_fitted(OneHot::top("payment_type", 2).unseen(Unseen::Other))
        .encode_fitted(OneHot::of("vendor_id", ["1", "2"]))
        .encode_fitted(OneHot::top("pickup_zone", 3).unseen(Unseen::Null))
        // A number and a category at once.
        .encode_fitted(Ordinal::of("passenger_count").unseen(Unseen::Zero))
        .encode_fitted(Ordinal::in_order("vendor_id", ["2", "1"]).unseen(Unseen::Other))
        .encode_fitted(Frequency::of("pickup_zone"))
        .encode_fitted(Impute::mean("tip_amount").flagged())
        .encode_fitted(Impute::median("fare_amount"))
        .encode_fitted(Impute::most_frequent("passenger_count"))
        .encode_fitted(Impute::constant("trip_distance", -1.0))
        .encode_fitted(ImputeCategory::most_frequent("payment_type").named("payer"))
        .encode_fitted(ImputeCategory::constant("pickup_zone", "nowhere").named("zone").flagged())
        // Of columns, and of what encoders before them have made.
        .encode_fitted(Pca::of(["fare_amount", "tip_if_any", "trip_distance"], 2))
        .encode_fitted(KMeans::of(pickup, 4).named("place"))
        .encode_fitted(KMeans::of(["fare_amount_std", "trip_distance_std"], 3).seed(7).with_distance().named("kind"))
        // A later encoder reads it, and it is no feature.
        .intermediate(["trip_distance_std"])
        .encode(meter)
        .label("toll")
        .build()
        .unwrap()
}

#[tokio::test]
async fn every_encoder_gives_a_request_the_bits_of_training() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store_of_a_year(root.path(), data.path(), 120).await;
    let query = "SELECT pickup_at, vendor_id, passenger_count, trip_distance, fare_amount, tip_amount, total_amount, \
                   pickup_latitude, pickup_longitude, 40.6413 AS jfk_latitude, -73.7781 AS jfk_longitude, \
                   CASE WHEN payment_type > 1 THEN payment_type END AS payment_type, nullif(tip_amount, 0) AS tip_if_any, \
                   pickup_zone, tolls_amount AS toll FROM nyc_taxi";
    let unselected = FeatureSet::rows("taxi_all_v1", query).table("nyc_taxi").event_time("pickup_at");
    let unselected = unselected.encode(Number::of("trip_distance")).label("total_amount").build().unwrap();
    let as_of = instant(AS_OF);
    // The order of a materialization: event time, then the other columns as they come, NULL first.
    let order: Vec<String> = (1..=15).map(|i| format!("{i} NULLS FIRST")).collect();
    let requests = store.sql(&format!("{query} ORDER BY {}", order.join(", ")), as_of).await.unwrap().collect().await.unwrap();
    let requests = concat_batches(&requests[0].schema(), &requests).unwrap();
    for set in [every_encoder(query), unselected] {
        store.register(set.clone()).unwrap();
        let made = store.materialize(set.name().as_str(), as_of).await.unwrap();
        assert_eq!(made.rows() as usize, requests.num_rows());
        let expected = bit_rows(&columns(&whole(&made).await, &set.features()));
        let online = store.online(set.name().as_str()).await.unwrap();
        assert_eq!(bit_rows(&online.encode(&requests).unwrap()), expected);
        let needed = online.request_schema().unwrap();
        for row in (0..requests.num_rows()).step_by(37) {
            let values =
                needed.fields().iter().map(|f| (f.name().as_str(), value(requests.column_by_name(f.name()).unwrap(), row)));
            let answer = online.encode_row(&values.collect::<Vec<_>>()).unwrap();
            assert_eq!(bit_rows(&answer.batch().unwrap()), [expected[row].clone()]);
        }
    }
    // Every cell shows a value somewhere, and NULL somewhere where it may: the comparison is not of empty columns.
    let all = whole(&store.materialize("every_encoder_v1", as_of).await.unwrap()).await;
    assert!(all.columns().iter().all(|c| c.null_count() < c.len()) && all.columns().iter().any(|c| c.null_count() > 0));
}

/// Encoders whose training rows are encoded unlike requests, or that are used under another name.
const NOT_LISTED: [(&str, &str); 2] =
    [("TargetMean", "`drawn` compares it with an oracle"), ("FnEncoder", "made by `encoder_fn`, which is listed")];

/// The list of encoders in this file and the page about them hold every encoder of the library.
#[test]
fn no_encoder_is_left_out() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let (own, page) = (read("tests/it/parity.rs"), read("docs/encoders.md"));
    let listed = own.split("fn every_encoder(").nth(1).and_then(|rest| rest.split("\n}\n").next()).unwrap();
    let mut found = 0;
    for entry in fs::read_dir(root.join("src/encoder")).unwrap() {
        let source = fs::read_to_string(entry.unwrap().path()).unwrap();
        let own_code = source.split("#[cfg(test)]").next().unwrap();
        for line in own_code.lines().filter(|line| line.contains("Encoder for ") && line.starts_with("impl")) {
            let name = line.split("Encoder for ").nth(1).unwrap();
            let name: String = name.chars().take_while(|c| c.is_alphanumeric()).collect();
            if ["Pure", "Fitted"].contains(&name.as_str()) {
                continue;
            }
            found += 1;
            let is_excused = NOT_LISTED.iter().any(|(excused, _)| *excused == name);
            assert!(is_excused || listed.contains(&format!("{name}::")), "`{name}` is not in `every_encoder`");
            assert!(name == "FnEncoder" || page.contains(&format!("`{name}")), "`{name}` is not in docs/encoders.md");
        }
    }
    assert!(found > 25, "{found}");
}

#[tokio::test]
async fn taxi_v1_serves_what_it_was_trained_with() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store_of_a_year(root.path(), data.path(), 300).await;
    let made = store.materialize("taxi_v1", instant(AS_OF)).await.unwrap();
    let trained = whole(&made).await;
    let feature = columns(&trained, &["trip_distance".to_owned()]);
    assert!(trained.num_rows() > 20);
    let online = store.online_for(&made).await.unwrap();
    assert_eq!(bit_rows(&online.encode(&trained).unwrap()), bit_rows(&feature));
    // Row selections never drop a request, and odd ones are answered with their own bits.
    for odd in [0.0, -0.0, 1e9, f64::NAN, f64::INFINITY, 5e-324] {
        let row = online.encode_row(&[("trip_distance", odd.into()), ("unused", Value::Null)]).unwrap();
        assert_eq!(row.number("trip_distance").unwrap().unwrap().to_bits(), odd.to_bits());
    }
    assert_eq!(online.encode_row(&[("trip_distance", Value::Null)]).unwrap().number("trip_distance").unwrap(), None);
    assert!(matches!(online.encode_row(&[]), Err(Error::UnknownColumn { .. })));
    assert!(matches!(online.encode_row(&[("trip_distance", "two".into())]), Err(Error::ColumnType { .. })));
    assert!(matches!(online.get(&[1.into()]), Err(Error::Definition { .. })));
}

#[tokio::test]
async fn a_column_that_two_encoders_read_as_two_types_is_served() {
    let (_root, store) = store_of(&[trip("2014-01-05T15:00:00Z", 1.0)]).await;
    let parity = || {
        let spec = Spec::new("is_odd", 1).input("passenger_count", DataType::Int64).output("is_odd", DataType::Int64);
        encoder_fn(spec, |input| {
            let odd = input.column(0).as_primitive::<Int64Type>().unary::<_, Int64Type>(|n| n & 1);
            Ok(vec![Arc::new(odd) as ArrayRef])
        })
    };
    let number = || Number::of("passenger_count");
    let set = |name| FeatureSet::rows(name, "SELECT * FROM nyc_taxi").table("nyc_taxi").event_time("pickup_at");
    store.register(set("int_first_v1").encode(parity()).encode(number()).build().unwrap()).unwrap();
    store.register(set("float_first_v1").encode(number()).encode(parity()).build().unwrap()).unwrap();
    for name in ["int_first_v1", "float_first_v1"] {
        store.materialize(name, instant(AS_OF)).await.unwrap();
        let row = store.online(name).await.unwrap().encode_row(&[("passenger_count", 3.into())]);
        let row = row.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((row.number("is_odd").unwrap(), row.number("passenger_count").unwrap()), (Some(1.0), Some(3.0)));
    }
}

#[tokio::test]
async fn a_category_is_served_from_values_of_its_column_and_from_text() {
    let (_root, store) = store_of(&[trip("2014-01-05T15:00:00Z", 1.0), trip("2014-01-06T15:00:00Z", 2.0)]).await;
    let (bucket, number) = (|| HashBucket::of("kind", 1_000), || Number::of("kind"));
    let of = |name: &str, column: &str| {
        let query = format!("SELECT pickup_at, {column} AS kind FROM nyc_taxi");
        FeatureSet::rows(name, &query).table("nyc_taxi").event_time("pickup_at")
    };
    let day = NaiveDate::from_ymd_opt(2014, 1, 7).unwrap();
    let sets: [(_, Vec<(Value, bool)>); 5] = [
        (of("integers_v1", "passenger_count").encode(bucket()), vec![(1.into(), true), ("1".into(), true), (2.into(), false)]),
        (of("both_v1", "passenger_count").encode(bucket()).encode(number()), vec![(1.into(), true), (2.into(), false)]),
        (of("both_v2", "passenger_count").encode(number()).encode(bucket()), vec![(1.into(), true), (2.into(), false)]),
        (of("flags_v1", "passenger_count > 0").encode(bucket()), vec![(true.into(), true), (false.into(), false)]),
        (of("days_v1", "DATE '2014-01-07'").encode(bucket()), vec![(day.into(), true), ("2014-01-07".into(), true)]),
    ];
    for (set, values) in sets {
        let set = set.build().unwrap();
        let name = set.name().to_string();
        store.register(set).unwrap();
        let made = store.materialize(&name, instant(AS_OF)).await.unwrap();
        let trained = bit_rows(&columns(&whole(&made).await, &["kind_bucket".to_owned()]));
        assert!(trained.len() == 2 && trained[0] == trained[1] && trained[0] != "NULL", "{name}: {trained:?}");
        let online = store.online(&name).await.unwrap();
        for (value, is_trained) in values {
            let row = online.encode_row(&[("kind", value.clone())]).unwrap_or_else(|e| panic!("{name} {value:?}: {e}"));
            let served = bit_rows(&columns(&row.batch().unwrap(), &["kind_bucket".to_owned()]));
            assert_eq!(served[0] == trained[0], is_trained, "{name} {value:?}");
        }
        assert!(matches!(online.encode_row(&[("kind", 1.0.into())]), Err(Error::ColumnType { .. })), "{name}");
    }
}

#[tokio::test]
async fn every_zone_is_served_with_the_bits_of_its_row_and_odd_keys_are_told_apart() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store_of_a_year(root.path(), data.path(), 200).await;
    let set = store.feature_set("zone_demand_v1").unwrap();
    let made = store.materialize("zone_demand_v1", instant(AS_OF)).await.unwrap();
    let offline = whole(&made).await;
    let expected = bit_rows(&columns(&offline, &set.features()));
    let online = store.online("zone_demand_v1").await.unwrap();
    let zones = offline.column_by_name("pickup_zone").unwrap();
    for (row, expected) in expected.iter().enumerate() {
        let found = online.get(&[value(zones, row)]).unwrap();
        assert_eq!(bit_rows(&found.batch().unwrap()), std::slice::from_ref(expected));
    }
    assert!(expected.len() > 30);
    for nobody in [9_999.into(), Value::Null] {
        assert!(!online.contains(std::slice::from_ref(&nobody)).unwrap());
        assert_eq!(bit_rows(&online.get(&[nobody]).unwrap().batch().unwrap()).concat(), "NULL 0 NULL 0 NULL 0 NULL");
    }
    for wrong in [Value::from("161"), Value::from(161.0), Value::from(true), Value::from(instant(AS_OF))] {
        assert!(matches!(online.get(&[wrong]), Err(Error::ColumnType { .. })));
    }
    for key in [vec![], vec![Value::Int(161), Value::Int(1)]] {
        assert!(matches!(online.get(&key), Err(Error::Definition { .. })));
    }
    assert!(matches!(online.encode(&offline), Err(Error::Definition { .. })));
}

/// The instant of New York's clock, written independently of the library.
fn new_york_us(local: &str) -> i64 {
    let local = NaiveDateTime::parse_from_str(local, "%Y-%m-%d %H:%M:%S").unwrap();
    let spring = || New_York.with_ymd_and_hms(2014, 3, 9, 3, 0, 0).unwrap();
    New_York.from_local_datetime(&local).latest().unwrap_or_else(spring).timestamp_micros()
}

#[tokio::test]
async fn zone_demand_is_what_the_files_say() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store_of_a_year(root.path(), data.path(), 200).await;
    // (zone, pick-up, drop-off, fare) of every trip.
    let mut trips: Vec<(i64, i64, i64, f64)> = Vec::new();
    for file in fs::read_dir(data.path()).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let header: Vec<&str> = text.lines().next().unwrap().split(',').collect();
        let at = |name: &str| header.iter().position(|h| *h == name).unwrap();
        let [zone, pickup, dropoff, fare] = ["pickup_zone", "pickup_at", "dropoff_at", "fare_amount"].map(at);
        for line in text.lines().skip(1) {
            let cells: Vec<&str> = line.split(',').collect();
            let (pickup, dropoff) = (new_york_us(cells[pickup]), new_york_us(cells[dropoff]));
            trips.push((cells[zone].parse().unwrap(), pickup, dropoff, cells[fare].parse().unwrap()));
        }
    }
    // Summer, the hour after the clocks fell back, and an instant at which a trip begins.
    let begins = AsOf::from_micros(trips[trips.len() / 2].1);
    for as_of in [instant(AS_OF), instant("2014-11-02T06:45:00Z"), begins] {
        let t = as_of.micros();
        let mut zones: BTreeMap<i64, Vec<(i64, i64, f64)>> = BTreeMap::new();
        for &(zone, pickup, dropoff, fare) in trips.iter().filter(|&&(_, pickup, dropoff, _)| pickup < t && dropoff < t) {
            zones.entry(zone).or_default().push((pickup, dropoff, fare));
        }
        let made = store.materialize("zone_demand_v1", as_of).await.unwrap();
        assert_eq!(made.rows() as usize, zones.len());
        let online = store.online_for(&made).await.unwrap();
        for (zone, mut facts) in zones {
            let row = online.get(&[zone.into()]).unwrap();
            let found = |name: &str| row.number(name).unwrap();
            facts.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)));
            assert_eq!(found("last_fare"), facts.last().map(|fact| fact.2), "zone {zone} as of {as_of}");
            for (name, hours) in [("1h", 1), ("24h", 24), ("7d", 168)] {
                let inside: Vec<f64> =
                    facts.iter().filter(|fact| fact.0 >= t - hours * 3_600_000_000).map(|fact| fact.2).collect();
                assert_eq!(found(&format!("trips_{name}")), Some(inside.len() as f64), "zone {zone} as of {as_of}");
                let mean = inside.iter().sum::<f64>() / inside.len() as f64;
                match found(&format!("mean_fare_{name}")) {
                    None => assert!(inside.is_empty()),
                    Some(found) => assert!((found - mean).abs() <= 1e-12 * mean.abs(), "zone {zone} as of {as_of}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn ties_are_resolved_by_knowledge_then_by_value_whatever_the_order() {
    let at = trip("2014-01-05T15:00:00Z", 0.0);
    let known = |minutes: i64, fare| Trip { dropoff_us: at.pickup_us + minutes * 60_000_000, fare, ..at.clone() };
    let mut trips = vec![known(5, 99.0), known(9, 1.5), known(9, 7.5), known(9, 3.5), trip("2014-01-05T14:00:00Z", 500.0)];
    for _ in 0..trips.len() {
        trips.rotate_left(1);
        let (_root, store) = store_of(&trips).await;
        let corrected = instant("2014-01-05T15:09:00Z");
        for (as_of, fare) in [(AsOf::from_micros(corrected.micros() + 1), 7.5), (corrected, 99.0)] {
            let made = store.materialize("zone_demand_v1", as_of).await.unwrap();
            let row = store.online_for(&made).await.unwrap().get(&[1.into()]).unwrap();
            assert_eq!(row.number("last_fare").unwrap(), Some(fare));
        }
    }
}

#[tokio::test]
async fn a_set_without_a_lookup_counts_all_the_same() {
    let (_root, store) = store_of(&[trip("2014-01-05T15:00:00Z", 1.0), trip("2014-01-05T16:00:00Z", 2.0)]).await;
    let set = FeatureSet::entities("counted_v1", "nyc_taxi").key("pickup_zone").window(TimeDelta::days(2), [Aggregate::count()]);
    store.register(set.build().unwrap()).unwrap();
    store.materialize("counted_v1", instant("2014-01-06")).await.unwrap();
    let row = store.online("counted_v1").await.unwrap().get(&[1.into()]).unwrap();
    assert_eq!(row.number("count").unwrap(), Some(2.0));
}

#[tokio::test]
async fn composite_keys_are_compared_column_by_column_and_null_matches_nothing() {
    let (data, root) = (temp_dir(), temp_dir());
    let texts = |texts: [Option<&str>; 4]| Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
    let at = crate::times::utc_micros([1, 2, 3, 4]);
    let amounts: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, 4.0, 8.0]));
    let keys = [texts([Some("ab"), Some("a"), Some("a"), None]), texts([Some("c"), Some("bc"), None, Some("c")])];
    let [a, b] = keys;
    write_parquet(&data.path().join("facts.parquet"), &[("at", at), ("a", a), ("b", b), ("amount", amounts)], None);
    let store = store(root.path()).await;
    let declared = asof::catalog::FactTable::new("at", asof::catalog::KnownAt::after(TimeDelta::zero()));
    store.register_table("facts", data.path().to_str().unwrap(), declared).await.unwrap();
    let set = FeatureSet::entities("pairs_v1", "facts").key("a").key("b").lookup("amount", "amount").build().unwrap();
    store.register(set).unwrap();
    assert_eq!(store.materialize("pairs_v1", instant(AS_OF)).await.unwrap().rows(), 2);
    let online = store.online("pairs_v1").await.unwrap();
    let amount = |a: Value, b: Value| online.get(&[a, b]).unwrap().number("amount").unwrap();
    assert_eq!(amount("ab".into(), "c".into()), Some(1.0));
    assert_eq!(amount("a".into(), "bc".into()), Some(2.0));
    assert_eq!(amount("abc".into(), "".into()), None);
    assert_eq!(amount("a".into(), Value::Null), None);
}

#[tokio::test]
async fn texts_that_a_file_keeps_in_a_dictionary_are_keys_and_values_like_others() {
    let (data, root) = (temp_dir(), temp_dir());
    let zones: DictionaryArray<Int32Type> = vec![Some("JFK"), Some("LGA"), Some("JFK"), None].into_iter().collect();
    let colours: DictionaryArray<Int32Type> = vec![Some("red"), None, Some("blue"), None].into_iter().collect();
    let columns: [(&str, ArrayRef); 3] =
        [("at", crate::times::utc_micros([1, 2, 3, 4])), ("zone", Arc::new(zones)), ("colour", Arc::new(colours))];
    write_parquet(&data.path().join("facts.parquet"), &columns, None);
    let store = store(root.path()).await;
    let declared = asof::catalog::FactTable::new("at", asof::catalog::KnownAt::after(TimeDelta::zero()));
    store.register_table("facts", data.path().to_str().unwrap(), declared).await.unwrap();
    let set = FeatureSet::entities("colours_v1", "facts").key("zone").lookup("colour", "colour").build().unwrap();
    store.register(set).unwrap();
    assert_eq!(store.materialize("colours_v1", instant(AS_OF)).await.unwrap().rows(), 2);
    let online = store.online("colours_v1").await.unwrap();
    let colour = |zone: &str| online.get(&[zone.into()]).unwrap().value("colour").unwrap();
    assert_eq!((colour("JFK"), colour("LGA")), ("blue".into(), Value::Null));
}

#[tokio::test]
async fn a_table_declared_twice_is_one_table() {
    let (_root, store) = store_of(&[trip("2014-01-05T15:00:00Z", 1.0)]).await;
    let set = FeatureSet::rows("twice_v1", "SELECT pickup_at, trip_distance FROM nyc_taxi").table("nyc_taxi").table("nyc_taxi");
    store.register(set.event_time("pickup_at").encode(Number::of("trip_distance")).build().unwrap()).unwrap();
    assert_eq!(store.materialize("twice_v1", instant(AS_OF)).await.unwrap().rows(), 1);
}

/// All that a store answers: offline rows and online values of both sets.
async fn answers(store: &FeatureStore) -> Vec<String> {
    let mut found = Vec::new();
    for set in ["taxi_v1", "zone_demand_v1"] {
        found.extend(bit_rows(&whole(&store.materialize(set, instant(AS_OF)).await.unwrap()).await));
    }
    let (taxi, zones) = (store.online("taxi_v1").await.unwrap(), store.online("zone_demand_v1").await.unwrap());
    found.extend(bit_rows(&taxi.encode_row(&[("trip_distance", 2.5.into())]).unwrap().batch().unwrap()));
    for zone in 1..=263 {
        found.push(bit_rows(&zones.get(&[zone.into()]).unwrap().batch().unwrap()).concat());
    }
    found
}

#[tokio::test]
async fn a_deleted_cache_loses_nothing_and_a_second_process_has_its_own() {
    let (data, root, other_cache) = (temp_dir(), temp_dir(), temp_dir());
    write_trips(data.path(), 60);
    let first = store_with(root.path(), StoreOptions::default()).await;
    load_trips(&first, data.path()).await;
    let expected = answers(&first).await;
    assert!(root.path().join(".asof-cache").is_dir());

    // Another process on the same root: not in the same cache, but in one of its own.
    let locked = FeatureStore::open(root.path().to_str().unwrap()).await.map(|_| ()).unwrap_err();
    assert!(matches!(locked, Error::CacheLocked { .. }), "{locked}");
    let second = store_with(root.path(), StoreOptions::default().cache_dir(other_cache.path().join("cache"))).await;
    assert_eq!(answers(&second).await, expected);
    // From here on nothing can be computed again: the facts are gone.
    fs::remove_dir_all(root.path().join("facts")).unwrap();
    drop(first);
    for _ in 0..2 {
        let reopened = store_with(root.path(), StoreOptions::default()).await;
        assert_eq!(answers(&reopened).await, expected);
        drop(reopened);
        fs::remove_dir_all(root.path().join(".asof-cache")).unwrap();
    }
    assert_eq!(answers(&second).await, expected);
    register(&second);
}
