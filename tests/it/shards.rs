//! Map-reduce over shards: every visible row once, in order, cut at the as-of; errors say where.

use std::{
    fs,
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
};

use asof::{AsOf, Error, FeatureStore, Resources, StoreOptions, ingest::Ingest};
use datafusion::{
    arrow::{
        array::AsArray,
        datatypes::{Float64Type, Int64Type},
    },
    functions_aggregate::expr_fn::sum,
    prelude::{col, lit},
};

use crate::support::{cells, instant, store_with, temp_dir, trips_table, write_trips};

/// Trips in many files and many row groups, and how to read them again.
async fn trips(partitions: usize) -> (tempfile::TempDir, FeatureStore) {
    let (data, root) = (temp_dir(), temp_dir());
    write_trips(data.path(), 500);
    let resources = Resources { partitions, ..Default::default() };
    let store = store_with(root.path(), StoreOptions::default().cache_in_memory().resources(resources)).await;
    let load = Ingest::new("nyc_taxi", trips_table()).unwrap().from(data.path().to_str().unwrap()).file_bytes(20_000);
    store.ingest(&load).await.unwrap();
    (root, store)
}

async fn distances(store: &FeatureStore, count: usize, as_of: AsOf) -> Vec<f64> {
    let shards = store.shards("nyc_taxi", count, as_of).await.unwrap();
    assert_eq!(shards.count(), count.max(1));
    let parts = shards.plan(|rows| Ok(rows.select_columns(&["trip_distance"])?)).map(|rows| {
        let mut found = Vec::new();
        for batch in rows {
            found.extend(batch?.column(0).as_primitive::<Float64Type>().values());
        }
        Ok(found)
    });
    parts
        .reduce(|mut a, b: Vec<f64>| {
            a.extend(b);
            Ok(a)
        })
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_hold_every_visible_row_once_whatever_their_number_and_order_of_work() {
    let (_root, store) = trips(3).await;
    let all = distances(&store, 1, AsOf::END_OF_TIME).await;
    assert_eq!(all.len(), 6_000);
    for count in [0, 2, 5, 40] {
        assert_eq!(distances(&store, count, AsOf::END_OF_TIME).await, all, "{count} shards");
    }
    let as_of = instant("2014-05-10");
    let visible = cells(&store, "SELECT count(*) FROM nyc_taxi", as_of).await[0].parse::<usize>().unwrap();
    let cut = distances(&store, 7, as_of).await;
    assert!(0 < visible && visible < all.len());
    assert_eq!(cut.len(), visible);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_runs_in_each_shard_and_results_come_in_order() {
    let (_root, store) = trips(2).await;
    let as_of = instant("2014-07-01");
    let shards = store.shards("nyc_taxi", 6, as_of).await.unwrap();
    let numbers = shards.clone().map(|rows| Ok(rows.shard())).collect().await.unwrap();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    let sums = shards
        .plan(|rows| Ok(rows.filter(col("passenger_count").gt(lit(1)))?.aggregate(vec![], vec![sum(col("passenger_count"))])?));
    let batches = sums.collect().await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 6);
    let whole: i64 = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().iter().flatten()).sum();
    let asked = cells(&store, "SELECT sum(passenger_count) FROM nyc_taxi WHERE passenger_count > 1", as_of).await;
    assert_eq!(asked, [whole.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_shards_run_at_once_than_there_are_partitions_and_a_function_may_stop_early() {
    let (_root, store) = trips(2).await;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (running.clone(), most.clone());
    let mapped = store.shards("nyc_taxi", 12, AsOf::END_OF_TIME).await.unwrap().map(move |_| {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(std::time::Duration::from_millis(5));
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    });
    assert_eq!(mapped.collect().await.unwrap().len(), 12);
    assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_shard_and_its_files() {
    let (root, store) = trips(2).await;
    let shards = store.shards("nyc_taxi", 4, AsOf::END_OF_TIME).await.unwrap();
    let refused = shards.clone().map(|rows| match rows.shard() {
        2 => Err(Error::NoFiles { what: "wisdom", location: "here".into() }),
        _ => Ok(()),
    });
    let error = refused.collect().await.unwrap_err();
    let Error::Shard { shard: 2, count: 4, files, cause, .. } = &error else { panic!("{error:?}") };
    assert!(!files.is_empty() && files.iter().all(|file| file.ends_with(".parquet")), "{files:?}");
    assert!(matches!(**cause, Error::NoFiles { .. }));
    assert!(error.to_string().contains(&files[0]), "{error}");

    let panicking = shards.clone().map(|rows| if rows.shard() == 1 { panic!("on purpose") } else { Ok(()) });
    assert!(matches!(panicking.collect().await.unwrap_err(), Error::Shard { shard: 1, .. }));
    let unplanned = shards.clone().plan(|rows| Ok(rows.select_columns(&["nothing"])?)).collect().await.unwrap_err();
    assert!(matches!(unplanned, Error::Shard { shard: 0, .. }), "{unplanned}");

    // A file that breaks while it is read.
    let last = store.describe("nyc_taxi").await.unwrap().files().last().unwrap().path.clone();
    fs::write(root.path().join("facts/default/nyc_taxi").join(&last), "no Parquet").unwrap();
    let error =
        shards.map(|rows| rows.map(|batch| Ok(batch?.num_rows())).sum::<Result<usize, Error>>()).collect().await.unwrap_err();
    let Error::Shard { shard: 3, files, .. } = &error else { panic!("{error:?}") };
    assert!(files.contains(&last), "{files:?}");
    assert!(matches!(store.shards("nothing", 2, AsOf::END_OF_TIME).await, Err(Error::UnknownTable { .. })));
}
