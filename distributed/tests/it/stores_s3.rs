//! Whole stores whose root is on S3: executors read the facts by the credentials of their environment, and the program alone writes.

use asof::{FeatureStore, StoreOptions};
use asof_distributed::{Cluster, ClusterError, LocalOptions};

use crate::{
    s3::{credentials, locations, strangers},
    s3_server::S3Server,
    support::{hashes_below, quick, store_error, temp},
    worlds,
};

async fn store(server: &S3Server) -> FeatureStore {
    let options = StoreOptions::default().cache_in_memory().locations(locations(server));
    FeatureStore::open_with("s3://lab/root", options).await.unwrap()
}

async fn cluster(server: &S3Server, executors: usize) -> Cluster {
    let options = LocalOptions { executor_environment: credentials(server), ..quick(executors) };
    Cluster::local_with(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_s3_makes_on_a_cluster_what_one_process_makes() {
    let (server, work) = (S3Server::start("lab").await.unwrap(), temp());
    let here = store(&server).await;
    worlds::fill(&here, work.path(), 200).await;
    worlds::register(&here);
    worlds::compare(&here, &here.on(&cluster(&server, 2).await)).await;
    // What was compared was published by one process. This is published by the cluster.
    for (executors, as_of) in [(1, "2014-03-10T00:00:00Z"), (4, "2014-03-11T00:00:00Z")] {
        let elsewhere = here.on(&cluster(&server, executors).await);
        for set in ["zone_demand_v1", "per_key_v1", "fares_v1"] {
            let made = elsewhere.materialize(set, worlds::instant(as_of)).await.unwrap();
            made.verify().await.unwrap();
            let replayed = here.replay(&made).await.unwrap();
            assert!(replayed.is_equal() && replayed.has_same_files(), "{replayed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn executors_that_s3_refuses_publish_nothing() {
    let (server, work) = (S3Server::start("lab").await.unwrap(), temp());
    let here = store(&server).await;
    worlds::fill(&here, work.path(), 20).await;
    worlds::register(&here);
    let options = LocalOptions { executor_environment: strangers(&server), ..quick(1) };
    let elsewhere = here.on(&Cluster::local_with(options).await.unwrap());
    let before = hashes_below(&server.root().join("lab"));
    for set in ["zone_demand_v1", "fares_v1"] {
        let error = elsewhere.materialize(set, worlds::instant(worlds::AS_OFS[0])).await.unwrap_err();
        let ClusterError::Job { executor: Some(executor), message } = store_error(&error) else { panic!("{error}") };
        assert!(executor.starts_with("executor-1 (127.0.0.1:"), "{executor}");
        assert!(message.contains("s3://lab/root/facts/default/nyc_taxi/"), "{message}");
        assert!(!message.contains(server.secret_key()) && !message.contains("no-secret"), "{message}");
        assert_eq!(here.materializations(set).await.unwrap().published.len(), 0);
    }
    assert_eq!(hashes_below(&server.root().join("lab")), before);
}
