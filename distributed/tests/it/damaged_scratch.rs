//! Shuffle files that vanish or are cut off while a job runs: its rows are those of one process, or it fails.

use std::{
    fs::{self, OpenOptions},
    time::Duration,
};

use asof_distributed::Cluster;

use crate::support::{QUERIES, alone, assert_same, cluster, on, quick, session, shown, temp, walk, write_table};

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_shuffle_file_takes_no_rows_from_an_answer() {
    let data = temp();
    write_table(data.path());
    let cluster = cluster(2).await;
    let context = session(data.path().to_str().unwrap(), 4).await;
    let logs = cluster.processes().unwrap().logs().to_owned();
    let scratch = logs.parent().unwrap().to_owned();
    let (mut damaged, mut failed) = (0, 0);
    for round in 0..24_u64 {
        let sql = QUERIES[[1, 3][round as usize % 2]];
        let expected = shown(&alone(&context, sql).await);
        let (scratch, logs) = (scratch.clone(), logs.clone());
        let damage = tokio::task::spawn_blocking(move || {
            let mut damaged = 0;
            for _ in 0..40 {
                std::thread::sleep(Duration::from_millis(2 + round));
                for file in walk(&scratch).iter().filter(|file| !file.starts_with(&logs)) {
                    let cut = || -> std::io::Result<()> {
                        let file = OpenOptions::new().write(true).open(file)?;
                        file.set_len(file.metadata()?.len() / 2)
                    };
                    let done = if round % 3 == 0 { fs::remove_file(file) } else { cut() };
                    damaged += usize::from(done.is_ok());
                }
            }
            damaged
        });
        match on(&cluster, &context, sql).await {
            Ok(rows) => assert_same(&rows, &expected, sql),
            Err(_) => failed += 1,
        }
        damaged += damage.await.unwrap();
    }
    assert!(damaged > 0, "nothing was damaged");
    println!("{damaged} files damaged, {failed} of 24 queries failed");
    for sql in QUERIES {
        let expected = shown(&alone(&context, sql).await);
        assert_same(&on(&cluster, &context, sql).await.unwrap(), &expected, sql);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_whose_scratch_folder_is_removed_goes_on() {
    let (data, scratch) = (temp(), temp());
    write_table(data.path());
    let folder = scratch.path().join("of/executors");
    let mut options = quick(1);
    options.executor_arguments.push(format!("--scratch={}", folder.display()));
    let cluster = Cluster::local_with(options).await.unwrap();
    let context = session(data.path().to_str().unwrap(), 2).await;
    for sql in QUERIES {
        let expected = shown(&alone(&context, sql).await);
        assert_same(&on(&cluster, &context, sql).await.unwrap(), &expected, sql);
        fs::remove_dir_all(scratch.path().join("of")).unwrap();
    }
}
