//! An executor of two is killed while a store materializes: what is published is what one process makes, bit for bit.

use std::time::{Duration, Instant};

use asof::AsOf;

use crate::{
    stores::open,
    support::{cluster, signal, temp},
    worlds::{self, instant},
};

const RUNS: u32 = 20;

/// Materializes these sets in turns, each time on a new cluster, and kills an executor at moments from the start to the end.
async fn survives(sets: [&'static str; 2]) {
    let dir = temp();
    let here = open(dir.path().join("root").to_str().unwrap()).await;
    worlds::fill(&here, dir.path(), 100).await;
    worlds::register(&here);
    let first = instant(worlds::AS_OFS[0]);
    let mut undisturbed = Vec::new();
    for set in sets {
        let cluster = cluster(2).await;
        let started = Instant::now();
        here.on(&cluster).materialize(set, first).await.unwrap();
        undisturbed.push(started.elapsed());
    }
    let mut were_running = 0;
    for run in 0..RUNS / 2 {
        let (set, undisturbed) = (sets[run as usize % 2], undisturbed[run as usize % 2]);
        let cluster = cluster(2).await;
        let as_of = AsOf::from_micros(first.micros() + i64::from(run + 1) * 86_400_000_000);
        let elsewhere = here.on(&cluster);
        let started = Instant::now();
        let running = tokio::spawn(async move { elsewhere.materialize(set, as_of).await });
        tokio::time::sleep(undisturbed * run / (RUNS / 2)).await;
        let was_running = !running.is_finished();
        were_running += u32::from(was_running);
        signal(cluster.processes().unwrap().executors()[run as usize / 2 % 2], "KILL");
        let made = tokio::time::timeout(Duration::from_secs(20), running).await.expect("no hang").unwrap().unwrap();
        let took = started.elapsed();
        let replayed = here.replay(&made).await.unwrap();
        assert!(replayed.is_equal() && replayed.has_same_files(), "{set} as of {as_of}: {replayed}");
        made.verify().await.unwrap();
        println!("{set}: run {run} (running: {was_running}): {took:?} instead of {undisturbed:?}");
    }
    assert!(were_running >= RUNS / 4, "{were_running}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_executor_changes_nothing_of_sets_of_entities() {
    survives(["zone_demand_v1", "per_key_v1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_executor_changes_nothing_of_sets_of_rows() {
    survives(["fares_v1", "ahead_v1"]).await;
}
