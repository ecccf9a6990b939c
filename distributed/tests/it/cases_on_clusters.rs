//! The conformance cases and random cases, asked of executors that are processes of their own.

use asof_distributed::{Cluster, Options};

use crate::{
    questions::{ask_all_cases, ask_random_cases, seeds},
    support::cluster,
};

/// Most of the time of a small question is waiting.
const AT_A_TIME: usize = 4;
/// `ASOF_CLUSTER_CASES` asks for more.
const RANDOM_CASES: u64 = 200;

#[tokio::test(flavor = "multi_thread")]
async fn every_case_is_answered_by_executors() {
    ask_all_cases(&cluster(2).await, AT_A_TIME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_cases_are_answered_as_the_oracle_answers_them() {
    let cluster = cluster(2).await;
    let mut of_partitions = Vec::new();
    for partitions in 1..=4 {
        let options = Options { partitions: Some(partitions), ..Options::default() };
        of_partitions.push(Cluster::connect_with(&cluster.url(), options).await.unwrap());
    }
    let on = |partitions: usize| of_partitions[partitions - 1].clone();
    ask_random_cases(seeds("ASOF_CLUSTER_CASES", RANDOM_CASES), AT_A_TIME, on).await;
}
