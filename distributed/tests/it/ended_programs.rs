//! A program that a signal ends leaves nothing of its local cluster behind.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    failures::LONG,
    support::{cluster, on, session, signal, temp, until, write_table},
};

/// Says that this process is the program of the test below.
const PROGRAM: &str = "ASOF_TEST_PROGRAM";

/// The program of the test below, in a process of its own: a job runs on a local cluster until a signal ends all.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_with_a_local_cluster() {
    if std::env::var_os(PROGRAM).is_none() {
        return;
    }
    let data = temp();
    write_table(data.path());
    let cluster = cluster(2).await;
    let context = session(data.path().to_str().unwrap(), 4).await;
    while on(&cluster, &context, LONG).await.is_ok() {}
}

/// The folders of clusters within another one.
fn folders(within: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(within).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("asof-cluster-"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_a_signal_ends_leaves_no_folder_of_its_cluster() {
    for name in ["TERM", "KILL"] {
        let folder = temp();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "ended_programs::a_program_with_a_local_cluster"]);
        command.env(PROGRAM, "1").env("TMPDIR", folder.path());
        let mut program = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // A job has made a folder in that of an executor.
        let works = |cluster: &PathBuf| {
            let executors = std::fs::read_dir(cluster).into_iter().flatten().flatten().map(|entry| entry.path());
            executors
                .filter(|path| path.to_string_lossy().contains("asof-executor-"))
                .any(|path| std::fs::read_dir(path).into_iter().flatten().next().is_some())
        };
        until("a job runs", Duration::from_secs(60), async || folders(folder.path()).iter().any(works)).await;
        signal(program.id(), name);
        let _ = program.wait();
        until("the folder is removed", Duration::from_secs(10), async || folders(folder.path()).is_empty()).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(folders(folder.path()), [] as [PathBuf; 0], "SIG{name}");
    }
}
