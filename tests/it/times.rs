//! How times are read: zones, forms, units, and the edges where a microsecond decides.

use std::{fs, sync::Arc};

use asof::{
    Aggregate, AsOf, FeatureSet, FeatureStore,
    catalog::{FactTable, KnownAt, TimeColumn},
    ingest::Ingest,
    time::TimeUnit,
};
use chrono::TimeDelta;
use datafusion::arrow::array::{
    ArrayRef, Date32Array, Int64Array, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray,
};
use tempfile::TempDir;

use crate::{
    real_data::shared,
    support::{cells, files_below, instant, store, temp_dir, write_parquet},
};

/// Instants as the column that ingest writes.
pub(crate) fn utc_micros(us: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(us).with_timezone("UTC"))
}

/// Facts that happen at `at`, known at once, told by New York's clocks.
fn facts(at: impl Into<TimeColumn>) -> FactTable {
    FactTable::new(at, KnownAt::after(TimeDelta::zero())).zone("America/New_York".parse().unwrap())
}

async fn seen(store: &FeatureStore, as_of: AsOf) -> usize {
    cells(store, "SELECT count(*) FROM facts", as_of).await[0].parse().unwrap()
}

fn later(as_of: AsOf, us: i64) -> AsOf {
    AsOf::from_micros(as_of.micros() + us)
}

/// Two stores with the facts of one Parquet file: one has loaded it, the other registered it where it lies.
async fn loaded_and_registered(at: ArrayRef, declared: &FactTable) -> [(Vec<TempDir>, FeatureStore); 2] {
    let data = temp_dir();
    write_parquet(&data.path().join("month=1/facts.parquet"), &[("at", at)], None);
    let place = data.path().to_str().unwrap();
    let (a, b) = (temp_dir(), temp_dir());
    let (loaded, registered) = (store(a.path()).await, store(b.path()).await);
    loaded.ingest(&Ingest::new("facts", declared.clone()).unwrap().from(place)).await.unwrap();
    registered.register_table("facts", place, declared.clone()).await.unwrap();
    [(vec![a], loaded), (vec![b, data], registered)]
}

#[tokio::test]
async fn texts_become_instants_and_a_repeated_hour_the_later_one() {
    let forms = [
        ("2014-11-02 00:59:59", "2014-11-02T04:59:59Z"),
        ("2014-11-02 01:00:00", "2014-11-02T06:00:00Z"),
        ("2014-11-02 01:30:00", "2014-11-02T06:30:00Z"),
        ("2014-11-02 02:00:00", "2014-11-02T07:00:00Z"),
        ("2014-11-02 01:30:00-04:00", "2014-11-02T05:30:00Z"),
        ("2014-03-09 01:59:59", "2014-03-09T06:59:59Z"),
        ("2014-03-09 02:30:00", "2014-03-09T07:00:00Z"),
        ("2014-03-09 03:00:00", "2014-03-09T07:00:00Z"),
        ("2013-03-27 03:35:00 UTC", "2013-03-27T03:35:00Z"),
        ("2009-07-16 17:41:00+00:00", "2009-07-16T17:41:00Z"),
        ("2014/4/1 0:11:00", "2014-04-01T04:11:00Z"),
        ("2014-07-01", "2014-07-01T04:00:00Z"),
        ("2014-07-01T12:00:00.000001Z", "2014-07-01T12:00:00.000001Z"),
    ];
    let (data, root) = (temp_dir(), temp_dir());
    let rows: String = forms.iter().enumerate().map(|(i, (text, _))| format!("{i},{text}\n")).collect();
    fs::write(data.path().join("facts.csv"), format!("id,at\n{rows}")).unwrap();
    let store = store(root.path()).await;
    store.ingest(&Ingest::new("facts", facts("at")).unwrap().from(data.path().to_str().unwrap())).await.unwrap();
    let found = cells(&store, "SELECT at FROM facts ORDER BY id", instant("2030-01-01")).await;
    assert_eq!(found, forms.map(|(_, instant)| instant));
    // Half past one may have been half past five UTC; before half past six nobody can be sure.
    let fell_back = "SELECT count(*) FROM facts WHERE id = 2";
    let half_past_six = instant("2014-11-02T06:30:00Z");
    assert_eq!(cells(&store, fell_back, half_past_six).await, ["0"]);
    assert_eq!(cells(&store, fell_back, later(half_past_six, 1)).await, ["1"]);
}

#[test]
fn a_date_alone_may_be_followed_by_its_zone() {
    for text in ["2014-04-01Z", "2014-04-01 Z", "2014-04-01 UTC", "2014-04-01+00:00", "2014-04-01 +00:00", "2014-04-01 -0000"] {
        assert_eq!(asof::time::parse_time(text, None), Ok(instant("2014-04-01").micros()), "{text}");
    }
    assert!(asof::time::parse_time("2014-04-01T", None).is_err());
}

#[tokio::test]
async fn every_stored_unit_is_the_same_instant() {
    // Half past eleven on the last evening of October by New York's clocks is November by UTC's.
    let event = instant("2014-11-01T03:30:00Z");
    let (utc_s, local_s) = (event.micros() / 1_000_000, event.micros() / 1_000_000 - 4 * 3_600);
    let utc = "UTC";
    let columns: Vec<(ArrayRef, TimeColumn)> = vec![
        (Arc::new(TimestampSecondArray::from(vec![utc_s]).with_timezone(utc)), "at".into()),
        (Arc::new(TimestampMillisecondArray::from(vec![utc_s * 1_000]).with_timezone(utc)), "at".into()),
        (Arc::new(TimestampMicrosecondArray::from(vec![utc_s * 1_000_000]).with_timezone("+00:00")), "at".into()),
        (Arc::new(TimestampNanosecondArray::from(vec![utc_s * 1_000_000_000]).with_timezone("Asia/Tokyo")), "at".into()),
        (Arc::new(TimestampSecondArray::from(vec![local_s])), "at".into()),
        (Arc::new(TimestampMillisecondArray::from(vec![local_s * 1_000])), "at".into()),
        (Arc::new(TimestampMicrosecondArray::from(vec![local_s * 1_000_000])), "at".into()),
        (Arc::new(TimestampNanosecondArray::from(vec![local_s * 1_000_000_000])), "at".into()),
        (Arc::new(Int64Array::from(vec![utc_s])), TimeColumn::epoch("at", TimeUnit::Second)),
        (Arc::new(Int64Array::from(vec![utc_s * 1_000])), TimeColumn::epoch("at", TimeUnit::Millisecond)),
        (Arc::new(Int64Array::from(vec![utc_s * 1_000_000])), TimeColumn::epoch("at", TimeUnit::Microsecond)),
        (Arc::new(Int64Array::from(vec![utc_s * 1_000_000_000])), TimeColumn::epoch("at", TimeUnit::Nanosecond)),
    ];
    for (array, column) in columns {
        let shown = array.data_type().to_string();
        let stores = loaded_and_registered(array, &facts(column)).await;
        for (_dir, store) in &stores {
            assert_eq!(seen(store, event).await, 0, "{shown}");
            assert_eq!(seen(store, later(event, 1)).await, 1, "{shown}");
            let (first, last) = store.partitions("facts").await.unwrap()[0].event_times.unwrap();
            assert_eq!((first, last), (event, event), "{shown}");
        }
        let (root, loaded) = &stores[0];
        assert_eq!(cells(loaded, "SELECT at FROM facts", later(event, 1)).await, ["2014-11-01T03:30:00Z"], "{shown}");
        assert!(files_below(&root[0].path().join("facts"))[0].starts_with("default/facts/year=2014/month=10/"), "{shown}");
    }
}

#[tokio::test]
async fn a_date_is_its_first_instant_by_the_declared_clocks() {
    let day = instant("2014-10-31").micros() / 86_400_000_000;
    let stores = loaded_and_registered(Arc::new(Date32Array::from(vec![day as i32])), &facts("at")).await;
    let midnight = instant("2014-10-31T04:00:00Z");
    for (_dir, store) in &stores {
        assert_eq!((seen(store, midnight).await, seen(store, later(midnight, 1)).await), (0, 1));
    }
}

#[tokio::test]
async fn two_days_are_never_one_time() {
    // The first days of the epoch by clocks east of Greenwich, the newer one with the smaller value.
    let (data, root) = (temp_dir(), temp_dir());
    let columns: [(&str, ArrayRef); 3] = [
        ("at", Arc::new(Date32Array::from(vec![0, 1]))),
        ("id", Arc::new(Int64Array::from(vec![1, 1]))),
        ("x", Arc::new(Int64Array::from(vec![2, 1]))),
    ];
    write_parquet(&data.path().join("facts.parquet"), &columns, None);
    let store = store(root.path()).await;
    let declared = FactTable::new("at", KnownAt::after(TimeDelta::zero())).zone("Asia/Tokyo".parse().unwrap());
    store.register_table("facts", data.path().to_str().unwrap(), declared).await.unwrap();
    store.register(FeatureSet::entities("newest_v1", "facts").key("id").lookup("x", "x").build().unwrap()).unwrap();
    store.materialize("newest_v1", instant("2014-01-01")).await.unwrap();
    let row = store.online("newest_v1").await.unwrap().get(&[1.into()]).unwrap();
    assert_eq!(row.number("x").unwrap(), Some(1.0));
}

#[tokio::test]
async fn a_nanosecond_decides() {
    let t = instant("2014-06-01T12:00:00.000001Z");
    let ns = t.micros() * 1_000;
    let at = TimestampNanosecondArray::from(vec![ns - 1, ns, ns + 1, ns + 999]).with_timezone("UTC");
    for (_dir, store) in &loaded_and_registered(Arc::new(at), &facts("at")).await {
        assert_eq!(seen(store, later(t, -1)).await, 0);
        assert_eq!(seen(store, t).await, 1);
        assert_eq!(seen(store, later(t, 1)).await, 4);
    }
    // A set that includes the cutoff sees the fact at T, and not the one a nanosecond after.
    let (data, root) = (temp_dir(), temp_dir());
    let at: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![ns - 1_000, ns, ns + 1]).with_timezone("UTC"));
    let columns = [("at", at), ("id", Arc::new(Int64Array::from(vec![1, 1, 1])) as ArrayRef)];
    write_parquet(&data.path().join("facts.parquet"), &columns, None);
    let store = store(root.path()).await;
    store.register_table("facts", data.path().to_str().unwrap(), facts("at")).await.unwrap();
    let set = FeatureSet::entities("counted_v1", "facts").key("id").inclusive();
    let set = set.lookup("at", "last").window(TimeDelta::microseconds(1), [Aggregate::count()]).build().unwrap();
    store.register(set).unwrap();
    store.materialize("counted_v1", t).await.unwrap();
    let row = store.online("counted_v1").await.unwrap().get(&[1.into()]).unwrap();
    assert_eq!(row.number("count").unwrap(), Some(2.0));
}

#[tokio::test]
async fn a_delay_holds_facts_back() {
    let event = instant("2014-06-01T12:00:00Z");
    let declared = FactTable::new("at", KnownAt::after(TimeDelta::hours(1)));
    for (_dir, store) in &loaded_and_registered(utc_micros([event.micros()]), &declared).await {
        let known = later(event, 3_600_000_000);
        assert_eq!((seen(store, later(event, 1)).await, seen(store, known).await, seen(store, later(known, 1)).await), (0, 0, 1));
    }
    // A delay between two microseconds makes no fact known early.
    for (nanos, micros) in [(-1_001, -2), (-1, -1), (0, 0), (1, 1), (1_000, 1), (1_001, 2)] {
        assert_eq!(KnownAt::after(TimeDelta::nanoseconds(nanos)), KnownAt::after(TimeDelta::microseconds(micros)), "{nanos}");
    }
    let before_it_happens = FactTable::new("at", KnownAt::after(TimeDelta::hours(-1)));
    let data = temp_dir();
    write_parquet(&data.path().join("facts.parquet"), &[("at", utc_micros([0]))], None);
    let refused = store(temp_dir().path()).await;
    let refused = refused.register_table("facts", data.path().to_str().unwrap(), before_it_happens).await.unwrap_err();
    assert!(refused.to_string().contains("before they happen"), "{refused}");
}

#[tokio::test]
async fn a_fact_without_a_time_is_never_visible_and_counted() {
    let (data, root) = (temp_dir(), temp_dir());
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None, None]).with_timezone("UTC"));
    let columns = [("at", at), ("id", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef)];
    write_parquet(&data.path().join("month=1/facts.parquet"), &columns, None);
    let store = store(root.path()).await;
    let version = store.register_table("facts", data.path().to_str().unwrap(), facts("at")).await.unwrap();
    assert_eq!(version.null_event_times(), 2);
    assert_eq!(seen(&store, AsOf::from_micros(i64::MAX)).await, 1);
    let set = FeatureSet::entities("ids_v1", "facts").key("id").lookup("id", "last").build().unwrap();
    store.register(set).unwrap();
    let made = store.materialize("ids_v1", instant("2014-01-01")).await.unwrap();
    assert_eq!((made.rows(), made.manifest().inputs[0].null_event_times), (1, 2));
}

#[tokio::test]
async fn times_without_a_zone_need_a_declared_one() {
    let data = temp_dir();
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0]));
    write_parquet(&data.path().join("facts.parquet"), &[("at", at)], None);
    fs::write(data.path().join("facts.csv"), "at\n2014-01-01 00:00:00\n").unwrap();
    let (root, undeclared) = (temp_dir(), FactTable::new("at", KnownAt::after(TimeDelta::zero())));
    let store = store(root.path()).await;
    let place = data.path().to_str().unwrap();
    let refused = store.register_table("facts", place, undeclared.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("FactTable::zone"), "{refused}");
    for file in ["facts.parquet", "facts.csv"] {
        let load = Ingest::new("facts", undeclared.clone()).unwrap().from(format!("{place}/{file}"));
        let refused = store.ingest(&load).await.unwrap_err();
        assert!(refused.to_string().contains("zone"), "{file}: {refused}");
    }
}

#[tokio::test]
async fn real_fares_in_three_forms_of_time_are_all_read() {
    let Some(dir) = shared("taxifare") else { return };
    let root = temp_dir();
    let store = store(root.path()).await;
    let load = Ingest::new("facts", facts("pickup_datetime")).unwrap().from(format!("{}/*.csv", dir.display()));
    let report = store.ingest(&load).await.unwrap();
    assert_eq!((report.rows, report.rejected), (13_611, 0));
    assert_eq!(seen(&store, instant("2030-01-01")).await, 13_611);
}
