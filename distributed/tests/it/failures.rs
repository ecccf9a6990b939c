//! What fails, how it is told, and what ends when nobody waits for it.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use asof::ErrorKind;
use asof_distributed::{Cluster, ClusterError, LocalOptions, Options, status_of};
use futures::StreamExt;

use crate::support::{
    QUERIES, alone, assert_same, class, cluster, cluster_error, on, plan, quick, run, session, shown, signal, streamed, temp,
    until, write_table,
};

/// A query that runs for a long time: 30,000 rows of `t` against each other.
pub(crate) const LONG: &str = "SELECT count(*) n FROM t a JOIN t b ON a.v + b.v > a.id + b.id + 1000000";

#[tokio::test(flavor = "multi_thread")]
async fn the_message_of_a_failed_task_is_the_one_of_one_process() {
    let data = temp();
    write_table(data.path());
    let cluster = cluster(2).await;
    let context = session(data.path().to_str().unwrap(), 4).await;
    let error = on(&cluster, &context, "SELECT 1 / (v - v) x FROM t").await.unwrap_err();
    let ClusterError::Job { executor: Some(executor), message } = cluster_error(&error) else { panic!("{error}") };
    assert!(executor.starts_with("executor-"), "{executor}");
    assert!(executor.contains("127.0.0.1:"), "{executor}");
    assert_eq!(message, "Arrow error: Divide by zero error");
    assert_eq!(class(error), (ErrorKind::InvalidInput, false));
    // A file that has gone: an error that is tried again, and named all the same.
    let planned = plan(&context, QUERIES[0]).await;
    std::fs::remove_file(data.path().join("part-2.parquet")).unwrap();
    let error = run(&cluster, planned, context.task_ctx()).await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains("executor executor-") && message.contains("part-2.parquet"), "{message}");
    // Executors cache footers, and DataFusion's cache says as text alone that it found no file. Files of a store are read without it.
    assert_eq!(class(error), (ErrorKind::Corrupt, false), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_cancels_its_job() {
    let data = temp();
    write_table(data.path());
    let cluster = cluster(1).await;
    let context = session(data.path().to_str().unwrap(), 2).await;
    let planned = plan(&context, LONG).await;
    let stream = streamed(&cluster, planned.clone(), context.task_ctx());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(cluster.status().await.unwrap().jobs, 0, "nothing runs before the stream is polled");
    drop(stream);

    let mut stream = streamed(&cluster, planned, context.task_ctx());
    let polled = tokio::spawn(async move { stream.next().await.map(drop) });
    until("the job runs", Duration::from_secs(60), async || cluster.status().await.unwrap().jobs == 1).await;
    polled.abort();
    until("the job ends", Duration::from_secs(60), async || cluster.status().await.unwrap().jobs == 0).await;
    // The executor is free again.
    let started = Instant::now();
    assert_same(&on(&cluster, &context, QUERIES[0]).await.unwrap(), &shown(&alone(&context, QUERIES[0]).await), QUERIES[0]);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_job_that_was_read_are_removed() {
    let (data, scratch) = (temp(), temp());
    write_table(data.path());
    let mut options = quick(1);
    options.executor_arguments.push(format!("--scratch={}", scratch.path().display()));
    let cluster = Cluster::local_with(options).await.unwrap();
    let context = session(data.path().to_str().unwrap(), 2).await;
    on(&cluster, &context, QUERIES[1]).await.unwrap();
    // An executor's folder has one for each job, and those for spilled rows.
    let jobs = || -> usize {
        let executors = std::fs::read_dir(scratch.path()).unwrap().map(|folder| folder.unwrap().path());
        let names = executors.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()));
        names.filter(|name| !name.to_string_lossy().starts_with("datafusion-")).count()
    };
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
    until("the files are removed", Duration::from_secs(10), async || jobs() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_executors_a_job_ends_with_an_error() {
    let data = temp();
    write_table(data.path());
    let options = LocalOptions { cluster: Options { executor_wait: Duration::from_secs(3), ..Options::default() }, ..quick(0) };
    let cluster = Cluster::local_with(options).await.unwrap();
    let context = session(data.path().to_str().unwrap(), 2).await;
    let started = Instant::now();
    let error = on(&cluster, &context, QUERIES[0]).await.unwrap_err();
    assert!(matches!(cluster_error(&error), ClusterError::NoExecutors { .. }), "{error}");
    assert_eq!(class(error), (ErrorKind::Unavailable, true));
    assert!(started.elapsed() < Duration::from_secs(15));
    until("the job is cancelled", Duration::from_secs(5), async || cluster.status().await.unwrap().jobs == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_scheduler_is_a_clear_error_soon() {
    let data = temp();
    write_table(data.path());
    let cluster = cluster(1).await;
    let context = session(data.path().to_str().unwrap(), 2).await;
    let planned = plan(&context, LONG).await;
    let mut stream = streamed(&cluster, planned.clone(), context.task_ctx());
    let polled = tokio::spawn(async move { stream.next().await });
    until("the job runs", Duration::from_secs(60), async || cluster.status().await.unwrap().jobs == 1).await;
    signal(cluster.processes().unwrap().scheduler(), "KILL");
    let started = Instant::now();
    let error = polled.await.unwrap().unwrap().unwrap_err();
    assert!(matches!(cluster_error(&error), ClusterError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("the scheduler at 127.0.0.1:"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let again = run(&cluster, planned, context.task_ctx()).await.unwrap_err();
    assert!(matches!(cluster_error(&again), ClusterError::Unreachable { .. }), "{again}");
    assert_eq!(class(again), (ErrorKind::Unavailable, true));
}

/// A process that a test starts by hand, as an operator does. It is ended with the test.
struct Process(Child);

impl Process {
    fn start(program: &str, arguments: &[String]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).arg("--end-with-input");
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    async fn ended(&mut self, wait: Duration) -> bool {
        let started = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.success();
            }
            assert!(started.elapsed() < wait, "the process has not ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn get(port: u16, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Ok(mut connection) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else { return String::new() };
    let _ = connection.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await;
    let mut answer = String::new();
    let _ = connection.read_to_string(&mut answer).await;
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_tell_their_health_and_stop_after_their_work() {
    let (data, folder) = (temp(), temp());
    write_table(data.path());
    let (file, scratch) = (folder.path().join("address"), folder.path().join("scratch"));
    let address = format!("--address-file={}", file.display());
    let arguments = ["--bind-host=127.0.0.1", "--external-host=127.0.0.1", "--port=0", "--drain=30", &address].map(str::to_owned);
    let mut scheduler = Process::start(env!("CARGO_BIN_EXE_asof-scheduler"), &arguments);
    until("the scheduler listens", Duration::from_secs(20), async || file.exists()).await;
    let address = std::fs::read_to_string(&file).unwrap();
    let (url, port) = (format!("df://{address}"), address.rsplit_once(':').unwrap().1.parse::<u16>().unwrap());
    assert!(get(port, "/health").await.starts_with("HTTP/1.0 200"));
    assert!(get(port, "/ready").await.contains("no executor is registered"));

    let health = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let executor = |name: &str, health: Option<u16>| {
        let mut arguments =
            vec!["--bind-host=127.0.0.1".to_owned(), "--port=0".into(), "--task-port=0".into(), "--vcores=2".into()];
        arguments.extend([format!("--scheduler={url}"), format!("--name={name}"), format!("--scratch={}", scratch.display())]);
        arguments.extend(health.map(|port| format!("--health-port={port}")));
        arguments.extend(["--memory=256MiB".into(), "--heartbeat=1".into()]);
        Process::start(env!("CARGO_BIN_EXE_asof-executor"), &arguments)
    };
    let mut first = executor("first", Some(health));
    until("the executor is ready", Duration::from_secs(20), async || get(health, "/ready").await.contains("200 OK")).await;
    assert!(get(health, "/health").await.contains("200 OK") && get(port, "/ready").await.contains("200 OK"));

    let cluster = Cluster::connect(&url).await.unwrap();
    let context = session(data.path().to_str().unwrap(), 2).await;
    let expected = shown(&alone(&context, QUERIES[1]).await);
    assert_same(&on(&cluster, &context, QUERIES[1]).await.unwrap(), &expected, "on the first");

    // The first executor stops while the second one is there: jobs go on.
    let _second = executor("second", None);
    let executors = async || status_of(&url, Duration::from_secs(5)).await.unwrap().executors.len();
    until("the second executor", Duration::from_secs(20), async || executors().await == 2).await;
    signal(first.0.id(), "TERM");
    assert_same(&on(&cluster, &context, QUERIES[1]).await.unwrap(), &expected, "while one stops");
    assert!(first.ended(Duration::from_secs(20)).await);
    assert_same(&on(&cluster, &context, QUERIES[1]).await.unwrap(), &expected, "after one has stopped");
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 1, "it has removed its scratch folder");

    // The scheduler stops: the job that runs ends well, a new one is refused.
    let job = "SELECT count(*) n FROM t a JOIN u b ON a.v + b.v > a.id + 100";
    let expected = shown(&alone(&context, job).await);
    let (planned, task) = (plan(&context, job).await, context.task_ctx());
    let running = {
        let cluster = cluster.clone();
        tokio::spawn(async move { run(&cluster, planned, task).await })
    };
    until("the job runs", Duration::from_secs(60), async || cluster.status().await.unwrap().jobs == 1).await;
    signal(scheduler.0.id(), "TERM");
    until("the scheduler stops", Duration::from_secs(5), async || cluster.status().await.is_ok_and(|status| status.is_stopping))
        .await;
    let refused = on(&cluster, &context, QUERIES[0]).await.unwrap_err();
    assert!(refused.to_string().contains("takes no new jobs"), "{refused}");
    assert_eq!(class(refused), (ErrorKind::Unavailable, true));
    assert_same(&running.await.unwrap().unwrap(), &expected, "the job that ran");
    assert!(scheduler.ended(Duration::from_secs(20)).await);
}
