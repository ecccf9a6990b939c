//! Backtests with features as a service had them, at the edges: instants before the as-of, corrected rows, folds with few rows.

use std::sync::Arc;

use asof::{
    Aggregate, AsOf, Error, FeatureSet, FeatureStore,
    backtest::{Backtest, Folds, MeanOnly},
    catalog::{FactTable, KnownAt},
    encoder::Number,
    ingest::Ingest,
    time::Span,
};
use chrono::TimeDelta;
use datafusion::arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray};
use tempfile::TempDir;

use crate::{
    drawn::Recorder,
    support::{store, temp_dir, write_parquet, write_text},
};

fn at(hour: i64) -> AsOf {
    AsOf::from_micros(1_704_067_200_000_000 + hour * 3_600_000_000)
}

async fn load(store: &FeatureStore, dir: &TempDir, table: &str, declared: FactTable, csv: &str) {
    let path = write_text(dir.path(), &format!("{table}.csv"), csv);
    store.ingest(&Ingest::new(table, declared).unwrap().from(path)).await.unwrap();
}

/// Orders with the instant at which they were placed, and events by key.
async fn orders(data: &TempDir, root: &TempDir) -> FeatureStore {
    let store = store(root.path()).await;
    let mut csv = "ev,known,placed,id,k,y\n".to_owned();
    for (id, (event, known, placed)) in
        [(2, 3, 1), (5, 6, 4), (7, 8, 6), (13, 14, 3), (15, 16, 14), (40, 41, 39)].iter().enumerate()
    {
        csv += &format!("{},{},{},{id},1,{id}.5\n", at(*event), at(*known), at(*placed));
    }
    // The order of hour 15 is corrected later.
    csv += &format!("{},{},{},4,1,9.5\n", at(15), at(18), at(14));
    let declared = FactTable::new("ev", KnownAt::column("known")).identity("id");
    load(&store, data, "orders", declared, &csv).await;
    let mut csv = "at,k,v\n".to_owned();
    for hour in [2, 8, 10, 11, 13] {
        csv += &format!("{},1,{hour}\n", at(hour));
    }
    load(&store, data, "events", FactTable::new("at", KnownAt::after(TimeDelta::zero())), &csv).await;
    let events = FeatureSet::entities("events_v1", "events")
        .key("k")
        .lookup("v", "last_v")
        .window(TimeDelta::hours(24), [Aggregate::count().named("n")])
        .build()
        .unwrap();
    let query = "SELECT ev, arrow_cast(placed, 'Timestamp(Microsecond, Some(\"UTC\"))') AS placed, id, k, y FROM orders";
    let set = FeatureSet::rows("orders_v1", query)
        .table("orders")
        .event_time("ev")
        .at("placed")
        .features_of(events.by(["k"]))
        .encode(Number::of("last_v"))
        .encode(Number::of("n"))
        .label("y");
    store.register(set.build().unwrap()).unwrap();
    store
}

#[tokio::test]
async fn an_instant_before_the_as_of_sees_the_refresh_before_it() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = orders(&data, &root).await;
    let folds = || Folds::new([(at(12), Span::new(at(12), at(48)))]).unwrap();
    // The orders of hours 13, 15 (a row for each version) and 40, placed at 3, 14, 14 and 39.
    for (every, expected) in [
        (None, [[2.0, 1.0], [13.0, 5.0], [13.0, 5.0], [13.0, 0.0]]),
        (Some(24), [[f64::NAN, 0.0], [11.0, 4.0], [11.0, 4.0], [13.0, 1.0]]),
        (Some(3), [[2.0, 1.0], [11.0, 4.0], [11.0, 4.0], [13.0, 0.0]]),
        (Some(1_000_000), [[f64::NAN, 0.0], [11.0, 4.0], [11.0, 4.0], [11.0, 4.0]]),
    ] {
        let recorder = Recorder::default();
        let backtest = Backtest::with_learner("orders_v1", "y", folds(), recorder.clone());
        let backtest = match every {
            Some(hours) => backtest.refreshed(TimeDelta::hours(hours)),
            None => backtest,
        };
        // Features may be missing, which the recorder does not mind.
        let report = store.backtest(&backtest).await;
        let scored = recorder.recorded().into_iter().next().unwrap_or_else(|| panic!("{report:?}"));
        let found: Vec<[u64; 2]> = scored.rows().into_iter().map(|row| [row[0].to_bits(), row[1].to_bits()]).collect();
        assert_eq!(found, expected.map(|row| row.map(f64::to_bits)), "{every:?}: {scored}");
    }
}

/// Served values age by the instants of their facts, which a table may store as local times.
#[tokio::test]
async fn served_values_of_local_times_age_by_their_instants() {
    let (data, root, facts) = (temp_dir(), temp_dir(), temp_dir());
    let store = store(root.path()).await;
    // In January New York is five hours behind.
    let local = [8, 11].map(|hour: i64| at(hour - 5).micros());
    let columns: [(&str, ArrayRef); 3] = [
        ("at", Arc::new(TimestampMicrosecondArray::from(local.to_vec()))),
        ("k", Arc::new(Int64Array::from(vec![1, 2]))),
        ("v", Arc::new(Int64Array::from(vec![8, 11]))),
    ];
    write_parquet(&facts.path().join("facts.parquet"), &columns, None);
    let declared = FactTable::new("at", KnownAt::after(TimeDelta::zero())).zone("America/New_York".parse().unwrap());
    store.register_table("events", facts.path().to_str().unwrap(), declared).await.unwrap();
    let csv: String =
        [9, 10, 13, 14, 15].iter().flat_map(|hour| (1..3).map(move |k| format!("{},{k},0.5\n", at(*hour)))).collect();
    let asked = FactTable::new("ev", KnownAt::after(TimeDelta::zero()));
    load(&store, &data, "asked", asked, &format!("ev,k,y\n{csv}")).await;
    let events =
        FeatureSet::entities("events_v1", "events").key("k").lookup("v", "v").max_age(TimeDelta::hours(3)).build().unwrap();
    let set = FeatureSet::rows("asked_v1", "SELECT * FROM asked").table("asked").event_time("ev");
    let set = set.features_of(events.by(["k"])).encode(Number::of("v")).label("y");
    store.register(set.build().unwrap()).unwrap();
    let recorder = Recorder::default();
    let folds = Folds::new([(at(12), Span::new(at(12), at(48)))]).unwrap();
    let backtest = Backtest::with_learner("asked_v1", "y", folds, recorder.clone()).refreshed(TimeDelta::hours(100));
    let report = store.backtest(&backtest).await;
    let scored = recorder.recorded().into_iter().next().unwrap_or_else(|| panic!("{report:?}"));
    // The fact of hour 8 was too old at hour 12 already; that of hour 11 is too old after hour 14.
    let found: Vec<u64> = scored.rows().into_iter().map(|row| row[0].to_bits()).collect();
    let nothing = f64::NAN;
    assert_eq!(found, [nothing, 11.0, nothing, 11.0, nothing, nothing].map(f64::to_bits), "{scored}");
}

#[tokio::test]
async fn labels_that_settle_before_the_end_are_refused() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = orders(&data, &root).await;
    let folds = Folds::new([(at(12), Span::new(at(12), at(48)))]).unwrap();
    let backtest = Backtest::with_learner("orders_v1", "y", folds, MeanOnly).settle(TimeDelta::minutes(-45));
    let told = store.backtest(&backtest).await.unwrap_err();
    assert!(
        matches!(told, Error::Definition { .. }) && told.to_string().contains("`orders_v1`: its labels settle after"),
        "{told}"
    );
}

/// A fold with as many rows as features is fitted when one of them is left out. It does not count as the feature's gain.
#[tokio::test]
async fn a_gain_compares_the_same_folds() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let mut csv = "ev,id,k,y\n".to_owned();
    for (hour, y) in [(0, 0.5), (1, 10.5), (5, 100.5), (6, -100.5), (11, 5.5), (12, 7.5)] {
        csv += &format!("{},{hour},1,{y}\n", at(hour));
    }
    load(&store, &data, "o", FactTable::new("ev", KnownAt::after(TimeDelta::zero())), &csv).await;
    let set = FeatureSet::rows("o_v1", "SELECT ev, id, k, y FROM o").table("o").event_time("ev").pass(["id", "k"]).label("y");
    store.register(set.build().unwrap()).unwrap();
    let folds = Folds::new([(at(4), Span::new(at(4), at(10))), (at(10), Span::new(at(10), at(20)))]).unwrap();
    let gains = store.feature_gains(&Backtest::with_learner("o_v1", "y", folds, MeanOnly)).await.unwrap();
    assert_eq!(gains.all.folds.iter().filter(|fold| fold.metrics.is_some()).count(), 1);
    for feature in ["id", "k"] {
        let gain = gains.gain(feature).unwrap();
        assert_eq!((gain.r2, gain.mae, gain.rmse), (0.0, 0.0, 0.0), "{gains}");
    }
}
