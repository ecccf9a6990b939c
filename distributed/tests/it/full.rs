//! Executors whose scratch folder has no room for the files of a job.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use asof::ErrorKind;
use asof_distributed::{Cluster, ClusterError};

use crate::support::{alone, assert_same, class, cluster_error, on, quick, session, shown, temp, until, write_table};

/// Writes far more than 64 KiB in each task.
const WIDE: &str = "SELECT id, k, v, name FROM t ORDER BY id";

/// An executor whose files cannot become longer than 64 KiB. It ends with the test.
struct Small(Child);

impl Small {
    /// Starts it, and waits until the scheduler knows it.
    async fn start(cluster: &Cluster, scratch: &Path) -> Self {
        // The signal would end the process; without it, writing fails as on a full disk.
        let script = "trap '' XFSZ; ulimit -f 128; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_asof-executor")]);
        command.args(["--bind-host=127.0.0.1", "--port=0", "--task-port=0", "--vcores=2", "--memory=256MiB", "--heartbeat=1"]);
        command.args(["--name=small", "--end-with-input", &format!("--scheduler={}", cluster.url())]);
        command.arg("--scratch").arg(scratch);
        let small = Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("the small executor is there", Duration::from_secs(20), async || {
            cluster.status().await.unwrap().executors.iter().any(|executor| executor.id == "small")
        })
        .await;
        small
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_without_room_costs_no_rows_while_others_have_room() {
    let (data, scratch) = (temp(), temp());
    write_table(data.path());
    let local = Cluster::local_with(quick(1)).await.unwrap();
    let _small = Small::start(&local, scratch.path()).await;
    let cluster = Cluster::connect(&local.url()).await.unwrap();
    let context = session(data.path().to_str().unwrap(), 4).await;
    let expected = shown(&alone(&context, WIDE).await);
    for round in 0..5 {
        assert_same(&on(&cluster, &context, WIDE).await.unwrap(), &expected, &format!("round {round}"));
    }
    let full: Vec<String> = cluster.status().await.unwrap().executors.into_iter().filter(|e| e.is_full).map(|e| e.id).collect();
    assert_eq!(full, ["small"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_anywhere_the_error_names_executor_and_folder() {
    let (data, scratch) = (temp(), temp());
    write_table(data.path());
    let cluster = Cluster::local_with(quick(0)).await.unwrap();
    let _small = Small::start(&cluster, scratch.path()).await;
    let context = session(data.path().to_str().unwrap(), 2).await;
    let started = Instant::now();
    let error = on(&cluster, &context, WIDE).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let ClusterError::Job { executor: Some(executor), message } = cluster_error(&error) else { panic!("{error}") };
    assert!(executor.starts_with("small ("), "{executor}");
    assert!(message.contains("is full: ") && message.contains("`--scratch`"), "{message}");
    assert!(message.contains(scratch.path().to_str().unwrap()), "{message}");
    assert_eq!(class(error), (ErrorKind::ResourceLimit, false));
}
