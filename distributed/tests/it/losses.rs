//! Executors that are killed: the job completes with the same rows.

use std::time::{Duration, Instant};

use asof_distributed::{Cluster, LocalOptions, Options};

use crate::support::{alone, assert_same, plan, quick, run, session, shown, signal, temp, until, write_table};

/// A join with a shuffle and an order, which takes about a second.
const SHUFFLED: &str = "SELECT a.k, count(*) n, sum(a.v * b.v) s FROM t a JOIN t b ON a.v % 5003 = b.v % 5003 AND a.id < b.id \
                        GROUP BY a.k ORDER BY a.k";

async fn survives(kill_after: &[u64], connect_again: bool) {
    let data = temp();
    write_table(data.path());
    let context = session(data.path().to_str().unwrap(), 4).await;
    let expected = shown(&alone(&context, SHUFFLED).await);
    for millis in kill_after {
        let local = Cluster::local_with(quick(2)).await.unwrap();
        // A program that did not start the processes hears of their end by the scheduler only.
        let cluster = if connect_again { Cluster::connect(&local.url()).await.unwrap() } else { local.clone() };
        let (planned, task) = (plan(&context, SHUFFLED).await, context.task_ctx());
        let started = Instant::now();
        let running = tokio::spawn(async move { run(&cluster, planned, task).await });
        tokio::time::sleep(Duration::from_millis(*millis)).await;
        let was_running = !running.is_finished();
        signal(local.processes().unwrap().executors()[0], "KILL");
        let rows = tokio::time::timeout(Duration::from_secs(60), running).await.expect("no hang").unwrap().unwrap();
        assert_same(&rows, &expected, &format!("killed after {millis} ms"));
        println!("killed after {millis} ms (running: {was_running}): {:?}", started.elapsed());
        until("the scheduler knows", Duration::from_secs(15), async || local.status().await.unwrap().executors.len() == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_executor_of_this_program_costs_no_rows() {
    survives(&[2, 20, 40, 60, 80, 90, 100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200, 220, 250, 300], false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_executor_of_others_costs_no_rows() {
    survives(&[40, 120, 400], true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_hangs_costs_no_rows() {
    let data = temp();
    write_table(data.path());
    let context = session(data.path().to_str().unwrap(), 4).await;
    let expected = shown(&alone(&context, SHUFFLED).await);
    let cluster = Cluster::local_with(quick(2)).await.unwrap();
    let (planned, task, runner) = (plan(&context, SHUFFLED).await, context.task_ctx(), cluster.clone());
    let running = tokio::spawn(async move { run(&runner, planned, task).await });
    tokio::time::sleep(Duration::from_millis(60)).await;
    let hanging = cluster.processes().unwrap().executors()[0];
    signal(hanging, "STOP");
    let rows = tokio::time::timeout(Duration::from_secs(60), running).await.expect("no hang").unwrap().unwrap();
    assert_same(&rows, &expected, "one hangs");
    // It goes on: it is there again, and works.
    signal(hanging, "CONT");
    until("it is back", Duration::from_secs(15), async || cluster.status().await.unwrap().executors.len() == 2).await;
    assert_same(&run(&cluster, plan(&context, SHUFFLED).await, context.task_ctx()).await.unwrap(), &expected, "both again");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_lost_after_the_job_has_ended_are_made_again() {
    let data = temp();
    write_table(data.path());
    let context = session(data.path().to_str().unwrap(), 4).await;
    let sql = "SELECT id, name FROM t WHERE v % 3 = 1";
    let planned = plan(&context, sql).await;
    let partitions = datafusion::physical_plan::collect_partitioned(planned.clone(), context.task_ctx()).await.unwrap();
    let expected = shown(&partitions.concat());
    let options = LocalOptions { cluster: Options::default(), ..quick(3) };
    let cluster = Cluster::local_with(options).await.unwrap();
    // Both executors die one after the other while jobs run one after the other: some have ended, and their rows are not read yet.
    let killed = {
        let ids = cluster.processes().unwrap().executors();
        tokio::spawn(async move {
            for id in &ids[..2] {
                tokio::time::sleep(Duration::from_millis(700)).await;
                signal(*id, "KILL");
            }
        })
    };
    while !killed.is_finished() {
        assert_same(&run(&cluster, planned.clone(), context.task_ctx()).await.unwrap(), &expected, sql);
    }
    killed.await.unwrap();
    assert_same(&run(&cluster, planned, context.task_ctx()).await.unwrap(), &expected, sql);
}
