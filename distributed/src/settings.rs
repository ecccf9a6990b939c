//! The settings that go with a job: what changes how it runs, and nothing else.

use std::collections::BTreeMap;

use ballista_core::{
    config::{
        BALLISTA_ADAPTIVE_PLANNER_ENABLED, BALLISTA_CLIENT_GRPC_MAX_MESSAGE_SIZE, BALLISTA_CLIENT_GRPC_TIMEOUT_SECONDS,
        BALLISTA_CLIENT_IO_RETRIES_TIMES, BALLISTA_CLIENT_IO_RETRY_WAIT_TIME_MS, BALLISTA_JOB_NAME,
        BALLISTA_SHUFFLE_COMPRESSION_CODEC,
    },
    serde::protobuf::KeyValuePair,
};
use datafusion::{config::ConfigOptions, prelude::SessionConfig};

/// Options of DataFusion itself, which hold no secrets. Extensions of a session, which may, stay here.
const CARRIED: [&str; 2] = ["datafusion.execution.", "datafusion.optimizer."];

/// A shuffle file is asked for again this often, after [`RETRY_WAIT_MS`]: a process that has ended does not come back, and the job has
/// other ways to get its rows.
const RETRIES: usize = 2;
const RETRY_WAIT_MS: usize = 200;

/// The settings of a job: those of the session that differ from DataFusion's own, and those of the cluster. The rows between the steps of a local
/// one cross no network, and are not compressed.
pub(crate) fn of_job(
    session: &SessionConfig,
    partitions: usize,
    max_message_bytes: usize,
    timeout_s: u64,
    is_local: bool,
) -> Vec<KeyValuePair> {
    let usual: BTreeMap<String, Option<String>> = entries(&ConfigOptions::new());
    let mut settings = entries(session.options());
    settings.retain(|key, value| CARRIED.iter().any(|prefix| key.starts_with(prefix)) && usual.get(key) != Some(value));
    let fixed = [
        ("datafusion.execution.target_partitions", partitions.to_string()),
        // Neither filters that fill while a plan runs nor subqueries of this process can travel.
        ("datafusion.optimizer.enable_dynamic_filter_pushdown", false.to_string()),
        ("datafusion.optimizer.enable_physical_uncorrelated_scalar_subquery", false.to_string()),
        // A partition has its own files: which task reads them decides where their rows come, and a task must not wait for others.
        ("datafusion.execution.enable_file_stream_work_stealing", false.to_string()),
        // The scheduler must run the plan that it is given.
        (BALLISTA_ADAPTIVE_PLANNER_ENABLED, false.to_string()),
        (BALLISTA_CLIENT_GRPC_MAX_MESSAGE_SIZE, max_message_bytes.to_string()),
        (BALLISTA_CLIENT_GRPC_TIMEOUT_SECONDS, timeout_s.to_string()),
        (BALLISTA_CLIENT_IO_RETRIES_TIMES, RETRIES.to_string()),
        (BALLISTA_CLIENT_IO_RETRY_WAIT_TIME_MS, RETRY_WAIT_MS.to_string()),
        (BALLISTA_SHUFFLE_COMPRESSION_CODEC, if is_local { "none" } else { "lz4" }.to_owned()),
        (BALLISTA_JOB_NAME, "asof".to_owned()),
    ];
    settings.extend(fixed.map(|(key, value)| (key.to_owned(), Some(value))));
    settings.into_iter().map(|(key, value)| KeyValuePair { key, value }).collect()
}

fn entries(options: &ConfigOptions) -> BTreeMap<String, Option<String>> {
    options.entries().into_iter().map(|entry| (entry.key, entry.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_travels() {
        let session = SessionConfig::new().with_batch_size(77).with_information_schema(true);
        let settings = of_job(&session, 3, 5, 6, true);
        let value = |key: &str| settings.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
        assert_eq!(value("datafusion.execution.batch_size").as_deref(), Some("77"));
        assert_eq!(value("datafusion.execution.target_partitions").as_deref(), Some("3"));
        assert_eq!(value("datafusion.catalog.information_schema"), None);
        assert_eq!(settings.len(), 12);
    }
}
