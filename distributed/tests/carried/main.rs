//! Plans of a store that are encoded, decoded and run: what a cluster does with them, in one process. The answers are those of the
//! conformance cases and of the naive oracle.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, missing_docs)]

#[path = "../../../tests/it/asking.rs"]
mod asking;
#[path = "../../../tests/it/case_arrow.rs"]
mod case_arrow;
#[path = "../../../tests/it/cases.rs"]
mod cases;
#[path = "../../../tests/it/oracle.rs"]
mod oracle;
#[path = "../../../tests/it/random_cases.rs"]
mod random_cases;

mod cases_that_travel;
mod functions;
mod loopback;
#[path = "../questions/mod.rs"]
mod questions;
mod sets;

#[path = "../../../examples/data/flights.rs"]
#[allow(unreachable_pub)]
mod flights;
mod stages;
#[path = "../../../examples/data/taxi.rs"]
#[allow(dead_code, unreachable_pub)]
mod taxi;
#[path = "../worlds/mod.rs"]
#[allow(dead_code)]
mod worlds;
