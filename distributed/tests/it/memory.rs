//! What a scheduler keeps of the jobs that it has run.

use std::sync::Arc;

use asof_distributed::Cluster;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};

use crate::support::{alone, assert_same, cluster, on, plan, run, session, shown, temp, write_table};

/// The memory that the scheduler holds, in KiB.
fn held(cluster: &Cluster) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.processes().unwrap().scheduler())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_keeps_no_rows_of_jobs_that_have_ended() {
    let data = temp();
    write_table(data.path());
    let cluster = cluster(1).await;
    let context = session(data.path().to_str().unwrap(), 2).await;
    let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..4_000).map(|n| format!("{n:01000}"))));
    context.register_batch("carried", RecordBatch::try_from_iter([("text", text)]).unwrap()).unwrap();
    let sql = "SELECT count(*) n, max(text) m FROM carried";
    let (planned, expected) = (plan(&context, sql).await, shown(&alone(&context, sql).await));
    let mut after_some = 0;
    for job in 0..70 {
        assert_same(&run(&cluster, planned.clone(), context.task_ctx()).await.unwrap(), &expected, sql);
        if job == 19 {
            after_some = held(&cluster);
        }
    }
    // 50 more plans have 200 MB.
    let grown = held(&cluster).saturating_sub(after_some);
    println!("{after_some} KiB after 20 jobs, {grown} KiB more after 70");
    assert!(grown < 80_000, "{grown} KiB");
}

/// For figures: how much the scheduler grows with so many small jobs.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn memory_after_thousands_of_jobs() {
    let data = temp();
    write_table(data.path());
    let cluster = cluster(1).await;
    let context = session(data.path().to_str().unwrap(), 2).await;
    let jobs: usize = std::env::var("ASOF_TEST_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(3_000);
    for job in 0..=jobs {
        on(&cluster, &context, "SELECT k, count(*) n FROM t WHERE id < 100 GROUP BY k").await.unwrap();
        if job % (jobs / 10).max(1) == 0 {
            println!("{job} jobs: {} KiB", held(&cluster));
        }
    }
}
