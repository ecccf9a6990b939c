//! The same rows in the same order as from one process.

use std::time::{Duration, Instant};

use asof::cluster::Runner;
use asof_distributed::{Cluster, LocalOptions, Options};

use crate::support::{
    QUERIES, alone, assert_same, cluster, on, plan, quick, run, runs, session, shown, temp, until, write_table,
};

#[tokio::test(flavor = "multi_thread")]
async fn plans_have_the_rows_of_one_process_on_any_number_of_executors() {
    let data = temp();
    write_table(data.path());
    let place = data.path().to_str().unwrap();
    let expected = session(place, 1).await;
    for executors in [1, 2, 4] {
        let cluster = cluster(executors).await;
        assert_eq!(cluster.status().await.unwrap().executors.len(), executors);
        assert_eq!(cluster.partitions(), executors * 2);
        let context = session(place, cluster.partitions()).await;
        for sql in QUERIES {
            let rows = on(&cluster, &context, sql).await.unwrap();
            assert_same(&rows, &shown(&alone(&expected, sql).await), &format!("{executors} executors: {sql}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_partition_after_partition() {
    let data = temp();
    write_table(data.path());
    let cluster = cluster(2).await;
    // Without an order of its own, the plan has that of its file groups.
    let context = session(data.path().to_str().unwrap(), 5).await;
    let sql = "SELECT id, name FROM t WHERE v % 3 = 1";
    let planned = plan(&context, sql).await;
    assert!(planned.properties().output_partitioning().partition_count() > 3);
    let partitions = datafusion::physical_plan::collect_partitioned(planned.clone(), context.task_ctx()).await.unwrap();
    let expected = shown(&partitions.concat());
    for _ in 0..5 {
        assert_same(&run(&cluster, planned.clone(), context.task_ctx()).await.unwrap(), &expected, sql);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_results_go_through_files() {
    let data = temp();
    write_table(data.path());
    let options = LocalOptions { cluster: Options { memory_bytes: 10_000, ..Options::default() }, ..quick(1) };
    let cluster = Cluster::local_with(options).await.unwrap();
    let context = session(data.path().to_str().unwrap(), 2).await;
    let sql = "SELECT * FROM t ORDER BY v, id";
    assert_same(&on(&cluster, &context, sql).await.unwrap(), &shown(&alone(&context, sql).await), sql);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_query_is_answered_soon() {
    let data = temp();
    write_table(data.path());
    let cluster = cluster(1).await;
    let context = session(data.path().to_str().unwrap(), 2).await;
    let planned = plan(&context, QUERIES[0]).await;
    run(&cluster, planned.clone(), context.task_ctx()).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        run(&cluster, planned.clone(), context.task_ctx()).await.unwrap();
        times.push(started.elapsed());
    }
    times.sort();
    println!("a small query: median {:?}, slowest {:?}", times[10], times[19]);
    // The processes are not optimized, and other tests run beside this one.
    assert!(times[10] < Duration::from_millis(1_500), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_carries_rows_up_to_the_limit() {
    let data = temp();
    write_table(data.path());
    let cluster = cluster(1).await;
    let context = session(data.path().to_str().unwrap(), 2).await;
    // 24 MiB of rows: more than gRPC and Ballista allow by default.
    let sql = "SELECT id, name || repeat('x', 1000) name FROM t WHERE id < 24000";
    let rows = alone(&context, sql).await;
    let schema = rows[0].schema();
    let table = datafusion::datasource::MemTable::try_new(schema, vec![rows.clone()]).unwrap();
    context.register_table("carried", std::sync::Arc::new(table)).unwrap();
    let sql = "SELECT count(*) n, sum(length(name)) s FROM carried";
    let planned = plan(&context, sql).await;
    let bytes = cluster.encode(&planned).unwrap().len();
    assert!(bytes > 20 << 20, "{bytes}");
    assert_same(&on(&cluster, &context, sql).await.unwrap(), &shown(&alone(&context, sql).await), sql);

    let small = Options { max_message_bytes: 1 << 20, ..Options::default() };
    let small = Cluster::connect_with(&cluster.url(), small).await.unwrap();
    let error = run(&small, planned, context.task_ctx()).await.unwrap_err().to_string();
    assert!(error.contains("does not fit into a message of 1048576 bytes"), "{error}");
    assert!(error.contains("--max-message"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_processes_end_with_the_last_clone() {
    let cluster = cluster(2).await;
    let processes = cluster.processes().unwrap();
    let ids: Vec<u32> = processes.executors().into_iter().chain([processes.scheduler()]).collect();
    let logs = processes.logs().to_owned();
    let clone = cluster.clone();
    drop(cluster);
    assert!(ids.iter().all(|id| runs(*id)));
    drop(clone);
    until("the processes end", Duration::from_secs(5), async || !ids.iter().any(|id| runs(*id))).await;
    assert!(!logs.exists());
}
