//! Sets, training sets and queries of plans that have travelled, against those of one process.

use std::sync::atomic::Ordering;

use asof::{FeatureStore, StoreOptions};

use crate::{loopback::Loopback, worlds};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_elsewhere_is_what_one_process_makes() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let here = FeatureStore::open_with(root.to_str().unwrap(), StoreOptions::default().cache_in_memory()).await.unwrap();
    worlds::fill(&here, dir.path(), 300).await;
    worlds::register(&here);
    for partitions in [1, 3] {
        let runner = Loopback::new(partitions);
        worlds::compare(&here, &here.on(&runner)).await;
        // Nothing was answered by this process in secret.
        let travelled = runner.plans.load(Ordering::Relaxed);
        assert!(travelled >= worlds::QUERIES.len() + 4 + worlds::SETS.len() * worlds::AS_OFS.len(), "{travelled} plans");
    }
}
