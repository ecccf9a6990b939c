//! Options that a process cannot run with: the error says which, and what to do.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use asof_distributed::{Cluster, ClusterError};
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};

use crate::support::{alone, assert_same, cluster_error, on, plan, quick, run, session, shown, temp, write_table};

/// What a process says that does not start.
async fn refused(program: &'static str, arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let ended = tokio::task::spawn_blocking(move || {
        let mut command = Command::new("timeout");
        command.args(["20", program]).args(arguments).stdin(Stdio::null());
        command.output().unwrap()
    });
    let ended = ended.await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && ended.status.code() != Some(124), "{said}");
    said
}

const SCHEDULER: &str = env!("CARGO_BIN_EXE_asof-scheduler");
const EXECUTOR: &str = env!("CARGO_BIN_EXE_asof-executor");

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_named_with_its_flag() {
    let cluster = Cluster::local_with(quick(0)).await.unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, port) = (taken.local_addr().unwrap(), taken.local_addr().unwrap().port());
    let said = refused(SCHEDULER, &["--bind-host=127.0.0.1", &format!("--port={port}")]).await;
    assert!(said.contains(&format!("cannot listen at {address} (`--port`)")), "{said}");
    for flag in ["--port", "--task-port", "--health-port"] {
        let url = format!("--scheduler={}", cluster.url());
        let arguments = ["--bind-host=127.0.0.1", "--port=0", "--task-port=0", &url, &format!("{flag}={port}")];
        let said = refused(EXECUTOR, &arguments).await;
        assert!(said.contains(&format!("cannot listen at {address} (`{flag}`)")), "{said}");
    }
}

/// Each flag, with a value that cannot be used, and what the error says besides the flag.
const UNUSABLE: [(&str, &str, &str, &str); 18] = [
    (SCHEDULER, "--executor-timeout", "0", "1..=1000000"),
    (SCHEDULER, "--executor-timeout", "18446744073709551615", "1..=1000000"),
    (SCHEDULER, "--drain", "18446744073709551615", "0..=1000000"),
    (SCHEDULER, "--attempts", "0", "1..=1000"),
    (SCHEDULER, "--max-message", "0", "65536..=4294967295"),
    (SCHEDULER, "--external-host", "http://h:1", "without a scheme"),
    (SCHEDULER, "--bind-host", "", "is no host"),
    (EXECUTOR, "--heartbeat", "0", "1..=1000000"),
    (EXECUTOR, "--connect-timeout", "0", "1..=1000000"),
    (EXECUTOR, "--max-message", "4095", "65536..=4294967295"),
    (EXECUTOR, "--vcores", "1000000000", "0..=4096"),
    (EXECUTOR, "--memory", "1KiB", "partitions at a time"),
    (EXECUTOR, "--name", "", "is no name"),
    (EXECUTOR, "--name", "a (b)", "is no name"),
    (EXECUTOR, "--bind-host", "localhost", "is no IP address"),
    (EXECUTOR, "--external-host", "h:1", "without a port"),
    (EXECUTOR, "--health-port", "0", "1..=65535"),
    (EXECUTOR, "--task-port", "50051", "is also the `--port`"),
];

#[tokio::test(flavor = "multi_thread")]
async fn unusable_values_are_refused_at_once() {
    let started = Instant::now();
    for (program, flag, value, says) in UNUSABLE {
        let said = refused(program, &[&format!("{flag}={value}")]).await;
        assert!(said.contains(flag) && said.contains(says), "{flag}={value}: {said}");
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_would_be_lost_between_its_signs_of_life_does_not_start() {
    let cluster = Cluster::local_with(quick(0)).await.unwrap();
    let url = format!("--scheduler={}", cluster.url());
    let said = refused(EXECUTOR, &["--bind-host=127.0.0.1", "--port=0", "--task-port=0", &url, "--heartbeat=6"]).await;
    assert!(said.contains("--heartbeat") && said.contains("every 6 s") && said.contains("--executor-timeout"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smaller_limit_of_a_scheduler_holds_before_anything_is_sent() {
    let data = temp();
    write_table(data.path());
    let mut options = quick(1);
    options.scheduler_arguments.push("--max-message=1048576".into());
    let cluster = Cluster::local_with(options).await.unwrap();
    let context = session(data.path().to_str().unwrap(), 2).await;
    let text: ArrayRef = std::sync::Arc::new(StringArray::from_iter_values((0..2_000).map(|n| format!("{n:01000}"))));
    context.register_batch("carried", RecordBatch::try_from_iter([("text", text)]).unwrap()).unwrap();
    let planned = plan(&context, "SELECT max(text) FROM carried").await;
    let error = run(&cluster, planned, context.task_ctx()).await.unwrap_err();
    let ClusterError::TooLarge { limit: 1_048_576, whose, .. } = cluster_error(&error) else { panic!("{error}") };
    assert!(whose.starts_with("the scheduler at 127.0.0.1:"), "{whose}");
    let error = error.to_string();
    assert!(error.contains("does not fit into a message of 1048576 bytes"), "{error}");
    let sql = "SELECT count(*) n FROM t";
    assert_same(&on(&cluster, &context, sql).await.unwrap(), &shown(&alone(&context, sql).await), sql);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_with_a_smaller_limit_than_its_scheduler_does_not_start() {
    let cluster = Cluster::local_with(quick(0)).await.unwrap();
    let url = format!("--scheduler={}", cluster.url());
    let said = refused(EXECUTOR, &["--bind-host=127.0.0.1", "--port=0", "--task-port=0", &url, "--max-message=1048576"]).await;
    assert!(said.contains("--max-message") && said.contains("1048576") && said.contains("1073741824"), "{said}");
}
