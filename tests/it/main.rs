//! The integration tests, one binary; a file per theme.
#![allow(clippy::disallowed_methods, reason = "tests wait for processes by the clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod anomalies;
mod any_key;
mod bad_input;
mod bad_question;
mod bindings;
mod bulk_reads;
mod case_arrow;
mod cases;
mod catalog;
mod compaction;
mod conformance;
mod crash;
mod damaged_parquet;
mod ddl;
mod differential;
mod differential_queries;
mod differential_world;
mod drift;
mod equal_tags;
mod exactness;
mod extracts;
mod failing_store;
mod fits;
mod flights;
#[path = "../../examples/data/flights.rs"]
#[allow(unreachable_pub)]
mod flights_data;
mod floats;
mod garbage;
mod goldens;
mod hive;
mod identity;
mod ids;
mod ingest;
mod layers;
mod leakage;
mod load_outcomes;
mod main_job;
mod moving_sources;
mod mutation;
mod object_stores;
mod oracle;
mod parity;
mod presto;
mod promises;
mod quality;
mod random_cases;
mod reach;
mod real_data;
mod replacing;
mod roots;
mod s3;
mod s3_server;
mod same_pid;
mod sealed_files;
mod secrets;
mod served_cases;
mod serving;
mod shards;
mod slt;
mod source_random;
mod source_times;
mod sources;
mod sql;
mod sql_origin;
mod statements;
mod support;
#[path = "../../examples/data/taxi.rs"]
#[allow(dead_code, unreachable_pub)]
mod taxi;
mod text_limits;
mod times;
mod training;
mod values;
