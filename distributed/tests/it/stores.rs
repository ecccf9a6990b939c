//! Whole stores on clusters of processes: what they make is what one process makes, bit for bit.

use std::fs;

use asof::{AsOf, Error, FeatureStore, StoreOptions};

use crate::{
    support::{cluster, temp, walk},
    worlds,
};

pub(crate) async fn open(root: &str) -> FeatureStore {
    FeatureStore::open_with(root, StoreOptions::default().cache_in_memory()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_a_cluster_makes_what_one_process_makes() {
    let dir = temp();
    let here = open(dir.path().join("root").to_str().unwrap()).await;
    worlds::fill(&here, dir.path(), 300).await;
    worlds::register(&here);
    for executors in [1, 2, 4] {
        let cluster = cluster(executors).await;
        worlds::compare(&here, &here.on(&cluster)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fact_file_that_changes_is_an_error_that_names_it() {
    let dir = temp();
    let here = open(dir.path().join("root").to_str().unwrap()).await;
    worlds::fill(&here, dir.path(), 50).await;
    let cluster = cluster(1).await;
    let rows = here.on(&cluster).sql("SELECT max(amount) FROM orders", AsOf::END_OF_TIME).await.unwrap();
    // The file changes after the plan was made, and before an executor reads it.
    let files = walk(&dir.path().join("root/facts"));
    let file = files.iter().find(|path| path.to_str().unwrap().contains("orders")).unwrap();
    let mut bytes = fs::read(file).unwrap();
    bytes.extend_from_slice(b"more");
    fs::write(file, bytes).unwrap();
    let error = Error::from(rows.collect().await.unwrap_err());
    assert!(matches!(&error, Error::FileChanged { table, .. } if table == "orders"), "{error}");
}
