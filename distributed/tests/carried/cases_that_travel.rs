//! The conformance cases and random cases, asked of plans that have travelled.

use std::sync::atomic::Ordering;

use crate::{
    loopback::Loopback,
    questions::{ask_all_cases, ask_random_cases, seeds},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_case_is_answered_after_the_way() {
    let runner = Loopback::new(3);
    let count = ask_all_cases(&runner, 1).await;
    // Tables without a file stay here.
    let travelled = runner.plans.load(Ordering::Relaxed);
    assert!(travelled + 20 >= count, "{travelled} plans of {count} cases travelled");
}

/// `ASOF_RANDOM_CASES` asks for more.
const RANDOM_CASES: u64 = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn random_cases_are_answered_as_the_oracle_answers_them() {
    ask_random_cases(seeds("ASOF_RANDOM_CASES", RANDOM_CASES), 1, Loopback::new).await;
}
