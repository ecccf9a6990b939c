//! The main job, end to end: ingest, register, materialize, train, serve, backtest.

use asof::{
    AsOf, Value,
    backtest::{Backtest, Folds},
    ingest::LoadOutcome,
};
use chrono::NaiveDate;

use crate::support::{load_trips, store, temp_dir, write_trips};

#[tokio::test(flavor = "multi_thread")]
async fn from_files_to_a_served_model() {
    let (data, root) = (temp_dir(), temp_dir());
    write_trips(data.path(), 600);
    let store = store(root.path()).await;
    let report = load_trips(&store, data.path()).await;
    assert_eq!(report.outcome, LoadOutcome::Loaded);
    assert_eq!((report.rows, report.rejected), (7_200, 0));
    println!("{}", report.version);
    for p in store.partitions("nyc_taxi").await.unwrap() {
        println!("{p:?}");
    }

    let as_of: AsOf = "2014-07-01T04:00:00Z".parse().unwrap();
    let made = store.materialize("taxi_v1", as_of).await.unwrap();
    println!("{made:?} {:#?}", made.manifest().selections);
    let data = made.dataset("total_amount").await.unwrap();
    assert_eq!(data.records.dim(), (made.rows() as usize, 1));
    let frame = made.dataframe().await.unwrap();
    assert_eq!(frame.count().await.unwrap() as u64, made.rows());
    store.sql("EXPLAIN SELECT count(*) FROM nyc_taxi WHERE trip_distance > 3", as_of).await.unwrap().show().await.unwrap();

    let zones = store.materialize("zone_demand_v1", as_of).await.unwrap();
    println!("{zones:?}");
    let online = store.online("zone_demand_v1").await.unwrap();
    println!("{:?}", online.get(&[Value::Int(161)]).unwrap());
    let online = store.online("taxi_v1").await.unwrap();
    let row = online.encode_row(&[("trip_distance", 2.5.into())]).unwrap();
    assert_eq!(row.number("trip_distance").unwrap(), Some(2.5));

    let day = |m| NaiveDate::from_ymd_opt(2014, m, 1).unwrap();
    let folds = Folds::monthly(day(1), day(12), "America/New_York".parse().unwrap()).unwrap();
    let report = store.backtest(&Backtest::new("taxi_v1", "total_amount", folds)).await.unwrap();
    println!("{report}");
}
