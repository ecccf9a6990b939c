//! A scheduler that is killed while a store materializes: a clear error, nothing published, and the same bytes when it is run again.

use std::time::{Duration, Instant};

use asof::{AsOf, FeatureStore};
use asof_distributed::ClusterError;

use crate::{
    stores::open,
    support::{cluster, copy_folder, hashes_below, signal, store_error, temp},
    worlds::{self, instant},
};

/// A set of entities and a set of rows.
const SETS: [&str; 2] = ["per_key_v1", "fares_v1"];
const KILLS: u32 = 8;

async fn listed(store: &FeatureStore) -> String {
    let mut all = String::new();
    for set in SETS {
        all += &store.materializations(set).await.unwrap().to_string();
    }
    all
}

/// An instant that nothing was made for yet.
fn as_of(round: u32) -> AsOf {
    instant(&format!("2014-03-{:02}T00:00:00Z", 2 + round))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_is_killed_leaves_nothing_of_a_materialization() {
    let dir = temp();
    let (root, copy) = (dir.path().join("root"), dir.path().join("copy"));
    let here = open(root.to_str().unwrap()).await;
    worlds::fill(&here, dir.path(), 200).await;
    worlds::register(&here);
    copy_folder(&root, &copy);
    let alone = open(copy.to_str().unwrap()).await;
    worlds::register(&alone);

    let mut cluster = cluster(2).await;
    let mut killed = 0;
    for (number, set) in SETS.into_iter().enumerate() {
        let first = KILLS.div_ceil(2) * number as u32;
        let started = Instant::now();
        here.on(&cluster).materialize(set, instant("2014-03-01T00:00:00Z")).await.unwrap();
        let undisturbed = started.elapsed();
        for round in 0..KILLS / 2 {
            let (before, listed_before) = (hashes_below(&root), listed(&here).await);
            let (elsewhere, as_of) = (here.on(&cluster), as_of(first + round));
            let running = tokio::spawn(async move { elsewhere.materialize(set, as_of).await });
            tokio::time::sleep(undisturbed * (1 + 2 * round) / KILLS).await;
            signal(cluster.processes().unwrap().scheduler(), "KILL");
            let dead = Instant::now();
            match running.await.unwrap() {
                Ok(_) => println!("{set}: made before the scheduler was killed"),
                Err(error) => {
                    killed += 1;
                    assert!(dead.elapsed() < Duration::from_secs(5), "{:?}", dead.elapsed());
                    let ClusterError::Unreachable { process, .. } = store_error(&error) else { panic!("{error}") };
                    assert_eq!(*process, format!("the scheduler at {}", cluster.url().trim_start_matches("df://")));
                    assert!(error.to_string().contains(process.as_str()), "{error}");
                    assert_eq!(hashes_below(&root), before, "{set}: {round}");
                    assert_eq!(listed(&here).await, listed_before);
                }
            }
            cluster = crate::support::cluster(2).await;
            let made = here.on(&cluster).materialize(set, as_of).await.unwrap();
            let expected = alone.materialize(set, as_of).await.unwrap();
            assert_eq!(made.id(), expected.id());
            assert_eq!(made.manifest(), expected.manifest());
            let folder = |root: &std::path::Path| {
                let mut files = hashes_below(&root.join("materialized").join(set));
                files.retain(|path, _| path.to_str().unwrap().contains(&made.id().to_string()));
                files
            };
            assert!(folder(&root).len() > 1, "a manifest and rows: {:?}", folder(&root));
            assert_eq!(folder(&root), folder(&copy));
        }
    }
    println!("{killed} of {KILLS} were killed while they ran");
    assert!(killed >= KILLS / 2, "{killed}");
}
