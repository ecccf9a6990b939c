//! Files whose columns hold something other than their names say: altered real files stop a load, unaltered ones do not.

use std::{
    fs,
    path::{Path, PathBuf},
};

use asof::{
    Error, FeatureStore,
    catalog::{FactTable, KnownAt},
    ingest::{Ingest, LoadReport, OnAnomaly, OnReject},
};
use chrono::TimeDelta;

use crate::{
    real_data::shared,
    support::{store, temp_dir, trips_table, write_text},
};

fn yellow(from: impl AsRef<Path>) -> Ingest {
    Ingest::new("nyc_taxi", trips_table())
        .unwrap()
        .from(from.as_ref().to_str().unwrap())
        .rename("pickup_datetime", "pickup_at")
        .rename("dropoff_datetime", "dropoff_at")
}

fn at_once(zone: &str, event: &str) -> FactTable {
    FactTable::new(event, KnownAt::after(TimeDelta::zero())).zone(zone.parse().unwrap())
}

fn uber(from: impl AsRef<Path>) -> Ingest {
    let table = at_once("America/New_York", "at");
    Ingest::new("uber", table).unwrap().from(from.as_ref().to_str().unwrap()).rename("Date/Time", "at")
}

/// The first rows of a CSV file without quotes, each record changed, in `dir` under the same name.
fn altered(file: &Path, rows: usize, dir: &Path, change: impl Fn(usize, &mut Vec<String>)) -> PathBuf {
    let text = fs::read_to_string(file).unwrap();
    let mut lines = text.lines();
    let mut out = lines.next().unwrap().to_owned() + "\n";
    for (i, line) in lines.take(rows).enumerate() {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        change(i, &mut cells);
        out += &(cells.join(",") + "\n");
    }
    write_text(dir, file.file_name().unwrap().to_str().unwrap(), out).into()
}

fn anomalies(outcome: asof::Result<LoadReport>) -> String {
    match outcome.unwrap_err() {
        error @ Error::Anomalies { .. } => error.to_string(),
        other => panic!("{other}"),
    }
}

/// Why a load was stopped: for anomalies, or because most of its rows cannot be read.
fn stopped(outcome: asof::Result<LoadReport>) -> String {
    match outcome.unwrap_err() {
        error @ (Error::Anomalies { .. } | Error::RejectedRows { .. }) => error.to_string(),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_files_as_they_are_raise_no_alarm() {
    if let Some(dir) = shared("yellow_10k") {
        let root = temp_dir();
        let trips = store(root.path()).await;
        let report = trips.ingest(&yellow(&dir)).await.unwrap();
        let quality = report.quality.unwrap();
        assert_eq!((report.rows, quality.anomalies.len()), (360_000, 0));
        // As a plain count over the texts of the files finds them.
        assert_eq!((quality.outside_month, quality.known_before_event), (9, Some(3)), "{quality}");
        assert_eq!(quality.files.iter().filter(|file| file.outside_month > 0).count(), 6);
        println!("{quality}");
        // One after the other, against what the table has seen, two years apart too.
        let root = temp_dir();
        let trips = store(root.path()).await;
        for month in ["2017-01", "2017-07", "2018-02", "2019-02", "2019-07", "2019-12"] {
            trips.ingest(&yellow(dir.join(format!("yellow_tripdata_sample_{month}.csv")))).await.unwrap();
        }
        assert_eq!(trips.quality("nyc_taxi").await.unwrap().reports.len(), 6);
    }
    if let Some(dir) = shared("uber_2014") {
        let root = temp_dir();
        let store = store(root.path()).await;
        for month in ["apr", "may", "jun", "jul"] {
            let report = store.ingest(&uber(dir.join(format!("uber-raw-data-{month}14.csv")))).await.unwrap();
            let quality = report.quality.unwrap();
            assert_eq!((quality.outside_month, quality.duplicates_are_exact), (0, true));
            assert!((800..=1_700).contains(&quality.duplicates), "{quality}");
        }
    }
    if let Some(dir) = shared("green_2020_04") {
        let root = temp_dir();
        let table = FactTable::new("lpep_pickup_datetime", KnownAt::column("lpep_dropoff_datetime"));
        let table = table.zone("America/New_York".parse().unwrap());
        let load = Ingest::new("green", table).unwrap().from(dir.to_str().unwrap());
        let quality = store(root.path()).await.ingest(&load).await.unwrap().quality.unwrap();
        assert_eq!((quality.rows, quality.outside_month, quality.duplicates), (35_612, 6, 0), "{quality}");
    }
    if let Some(dir) = shared("flights_2013") {
        let root = temp_dir();
        let store = store(root.path()).await;
        for name in ["flights", "weather"] {
            let load = Ingest::new(name, at_once("UTC", "time_hour")).unwrap();
            let load = load.from(format!("{}/{name}*", dir.display())).partition_columns(["y", "m"]).unwrap();
            assert!(store.ingest(&load).await.unwrap().rows > 19_000);
        }
    }
}

/// Alters one of four months in all ways; it is stopped in one load with the others, and in a load after them.
#[tokio::test(flavor = "multi_thread")]
async fn real_trips_whose_columns_were_altered_are_stopped() {
    let Some(dir) = shared("yellow_10k") else { return };
    let header = "vendor_id,pickup_datetime,dropoff_datetime,passenger_count,trip_distance,rate_code_id,store_and_fwd_flag,\
                  pickup_location_id,dropoff_location_id,payment_type,fare_amount,extra,mta_tax,tip_amount";
    let column = |name: &str| header.split(',').position(|column| column == name).unwrap();
    let (distance, zone, fare, tip) =
        (column("trip_distance"), column("pickup_location_id"), column("fare_amount"), column("tip_amount"));
    type Change = Box<dyn Fn(usize, &mut Vec<String>)>;
    let changes: [(&str, &str, Change); 5] = [
        ("an id column swapped", "pickup_location_id", Box::new(move |_, c| c.swap(distance, zone))),
        ("two amounts swapped", "fare_amount", Box::new(move |_, c| c.swap(fare, tip))),
        ("all shifted by one", "", Box::new(|_, c| c.rotate_right(1))),
        ("shifted from the distance on", "", Box::new(move |_, c| c[distance..].rotate_right(1))),
        (
            "longitudes in an id column",
            "dropoff_location_id",
            Box::new(move |i, c| c[zone + 1] = format!("-73.{:04}", 9_000 + i * 7 % 900)),
        ),
    ];
    let file = |month: &str| dir.join(format!("yellow_tripdata_sample_{month}.csv"));
    for (what, expected, change) in &changes {
        let (data, root) = (temp_dir(), temp_dir());
        for month in ["2018-01", "2018-02", "2018-03"] {
            altered(&file(month), 2_000, data.path(), |_, _| {});
        }
        let later = store(root.path()).await;
        later.ingest(&yellow(data.path())).await.unwrap();
        let before = later.describe("nyc_taxi").await.unwrap();
        let bad = altered(&file("2018-04"), 2_000, data.path(), change);
        // With rows skipped that cannot be read, too: a file must not vanish in a list of rejects.
        let told = stopped(later.ingest(&yellow(&bad).on_reject(OnReject::Skip)).await);
        println!("{what}: {told}");
        assert!(told.contains("2018-04.csv"), "{what}: {told}");
        assert_eq!(later.describe("nyc_taxi").await.unwrap(), before);
        // In one load with the others, into an empty table.
        let root = temp_dir();
        let fresh = store(root.path()).await;
        let told = stopped(fresh.ingest(&yellow(data.path()).on_reject(OnReject::Skip)).await);
        println!("{what}: {told}");
        assert!(told.contains("2018-04.csv") && told.contains(expected), "{what}: {told}");
        assert!(fresh.tables().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_coordinates_are_stopped_and_can_be_accepted() {
    let Some(dir) = shared("uber_2014") else { return };
    let (data, root) = (temp_dir(), temp_dir());
    let april = altered(&dir.join("uber-raw-data-apr14.csv"), 3_000, data.path(), |_, _| {});
    let may = altered(&dir.join("uber-raw-data-may14.csv"), 3_000, data.path(), |_, cells| cells.swap(1, 2));
    let store = store(root.path()).await;
    store.ingest(&uber(&april)).await.unwrap();
    let told = anomalies(store.ingest(&uber(&may)).await);
    assert!(told.contains("column `Lat`") && told.contains("may14.csv") && told.contains("-7"), "{told}");
    let report = store.ingest(&uber(&may).on_anomaly(OnAnomaly::Accept)).await.unwrap();
    let quality = report.quality.unwrap();
    let columns: Vec<&str> = quality.anomalies.iter().map(|anomaly| anomaly.column.as_str()).collect();
    assert_eq!((report.rows, columns), (3_000, vec!["Lat", "Lon"]));
    assert!(quality.to_string().contains("anomaly: file "), "{quality}");
}

// --- made-up files: what names and ranges tell without any history ------------------------------------------------------

fn things(file: &str) -> Ingest {
    Ingest::new("things", at_once("UTC", "at")).unwrap().from(file)
}

/// A file of 60 rows on the days of a month; `cells` is written behind the time.
fn month_of(dir: &Path, name: &str, month: &str, header: &str, cells: impl Fn(usize) -> String) -> String {
    let rows = (0..60).map(|i| format!("{month}-{:02} {:02}:00:00,{}\n", 1 + i % 28, i % 24, cells(i)));
    write_text(dir, name, format!("at,{header}\n{}", rows.collect::<String>()))
}

async fn first_load(
    header: &str,
    cells: impl Fn(usize) -> String,
) -> (asof::Result<LoadReport>, FeatureStore, tempfile::TempDir) {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let file = month_of(data.path(), "first.csv", "2014-11", header, cells);
    (store.ingest(&things(&file)).await, store, root)
}

#[tokio::test]
async fn names_and_ranges_tell_without_history() {
    for (header, stopped) in
        [("stationID", true), ("trip_id", true), ("id", true), ("paid", false), ("x", false), ("PAID", false)]
    {
        let (outcome, ..) = first_load(header, |i| format!("-73.9{i}")).await;
        match stopped {
            true => assert!(anomalies(outcome).contains(&format!("column `{header}`: expected ids")), "{header}"),
            false => assert_eq!(outcome.unwrap().rows, 60, "{header}"),
        }
    }
    for (header, value, stopped) in [
        ("pickup_latitude", "-173.97", true),
        ("Lat", "90.5", true),
        ("Lat", "90", false),
        ("lng", "-181.5", true),
        ("Longitude", "-179.5", false),
        ("flat_fee", "250.5", false),
        ("long_haul_miles", "2500.5", false),
    ] {
        let (outcome, ..) = first_load(header, |_| value.into()).await;
        assert_eq!(outcome.is_err(), stopped, "{header} {value}: {outcome:?}");
    }
    // A wild value in a column of good ones is dirt, not another column.
    let (outcome, ..) = first_load("lat", |i| if i == 7 { "400.0".into() } else { format!("40.{i}") }).await;
    assert_eq!(outcome.unwrap().rows, 60);
}

#[tokio::test]
async fn whole_numbers_that_count_upwards_are_no_alarm_and_measures_far_off_are() {
    let (outcome, store, _root) = first_load("trip_id,price,season", |i| format!("{i},{}.5,2014", 10 + i)).await;
    outcome.unwrap();
    let data = temp_dir();
    let next =
        month_of(data.path(), "a.csv", "2014-12", "trip_id,price,season", |i| format!("{},{}.5,2015", 100_000 + i, 12 + i));
    assert_eq!(store.ingest(&things(&next)).await.unwrap().rows, 60);
    let far =
        month_of(data.path(), "b.csv", "2015-01", "trip_id,price,season", |i| format!("{i},{}.5,2015", 4_000_000 + i * 1_000));
    let told = anomalies(store.ingest(&things(&far)).await);
    assert!(told.contains("column `price`") && told.contains("4000000.5 to 4059000.5"), "{told}");
    // Too few values tell nothing.
    let few = write_text(data.path(), "few.csv", "at,trip_id,price,season\n2015-01-01,1,9000000.5,2015\n");
    assert_eq!(store.ingest(&things(&few)).await.unwrap().rows, 1);
}

#[tokio::test]
async fn texts_where_there_were_numbers_are_stopped() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    for (i, name) in ["a.csv", "b.csv", "c.csv"].into_iter().enumerate() {
        month_of(data.path(), name, "2014-11", "speed", |row| if i == 1 { format!("zone {row}") } else { format!("{row}.{i}5") });
    }
    // Among the three the column becomes a text, as the widest type of them.
    let told = anomalies(store.ingest(&things(data.path().to_str().unwrap())).await);
    assert!(told.contains("b.csv`, column `speed`: expected numbers"), "{told}");
}

#[tokio::test]
async fn a_name_that_tells_another_month_than_the_rows_is_stopped_where_names_tell() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    // A month before all of the rows cannot be the day of an export; one after them can.
    let early = month_of(data.path(), "trips_2014-10.csv", "2014-11", "x", |i| i.to_string());
    assert!(anomalies(store.ingest(&things(&early)).await).contains("times of 2014-10, as its name says"));
    let export = month_of(data.path(), "export_2020-01-31.csv", "2014-11", "x", |i| (i + 1).to_string());
    assert_eq!(store.ingest(&things(&export)).await.unwrap().rows, 60);
    let right = [("t_2014-12.csv", "2014-12"), ("t_2015-01.csv", "2015-01")];
    for (name, month) in right {
        let file = month_of(data.path(), name, month, "x", |i| i.to_string());
        store.ingest(&things(&file)).await.unwrap();
    }
    let late = month_of(data.path(), "t_2015-03.csv", "2015-02", "x", |i| i.to_string());
    assert!(anomalies(store.ingest(&things(&late)).await).contains("mostly times of 2015-02"));
}

#[tokio::test]
async fn times_that_were_swapped_are_stopped_where_they_were_in_order() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let load = |file: &str| Ingest::new("rides", FactTable::new("at", KnownAt::column("ended"))).unwrap().from(file);
    let zoned = |day: usize, hour: usize| format!("2014-11-{:02}T{hour:02}:00:00Z", 1 + day % 28);
    let write = |name: &str, start: usize, end: usize| {
        let rows: String = (0..60).map(|i| format!("{},{},{i}\n", zoned(i, start), zoned(i, end))).collect();
        write_text(data.path(), name, format!("at,ended,x\n{rows}"))
    };
    // Forecasts are known before they happen: by itself that is no alarm.
    store.ingest(&load(&write("right.csv", 8, 9))).await.unwrap();
    let told = anomalies(store.ingest(&load(&write("wrong.csv", 9, 8))).await);
    assert!(told.contains("60 of 60 rows that are known before they happen"), "{told}");
    let root = temp_dir();
    let forecasts = crate::support::store(root.path()).await;
    forecasts.ingest(&load(&write("forecast.csv", 9, 8))).await.unwrap();
}
