//! Clusters of real processes on the loopback interface, against one process without a cluster.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::unwrap_used, missing_docs)]

#[path = "../../../tests/it/asking.rs"]
mod asking;
#[path = "../../../tests/it/case_arrow.rs"]
mod case_arrow;
#[path = "../../../tests/it/cases.rs"]
mod cases;
mod cases_on_clusters;
mod damaged_scratch;
mod ended_programs;
mod failures;
mod frames;
mod full;
mod heavy_key;
mod joins;
mod killed_schedulers;
mod losses;
mod losses_of_stores;
mod memory;
mod options;
#[path = "../../../tests/it/oracle.rs"]
mod oracle;
mod plans;
#[path = "../questions/mod.rs"]
mod questions;
#[path = "../../../tests/it/random_cases.rs"]
mod random_cases;
mod s3;
#[path = "../../../tests/it/s3_server.rs"]
mod s3_server;
mod secrets;
mod stores;
mod stores_s3;
mod support;
mod vanishing;
mod versions;

#[path = "../../../examples/data/flights.rs"]
#[allow(unreachable_pub)]
mod flights;
#[path = "../../../examples/data/taxi.rs"]
#[allow(dead_code, unreachable_pub)]
mod taxi;
#[path = "../worlds/mod.rs"]
#[allow(dead_code)]
mod worlds;
