//! Lookups and windows of 20 M facts at 2 M spine rows: in one process, and on executors of this machine. Prints a JSON line for each run.
//!
//! ```text
//! cargo bench --manifest-path distributed/Cargo.toml --bench cluster -- DIR [EXECUTORS ...]
//! ```
//!
//! `DIR` holds what `peers.py gen lookup` wrote: the folder `facts`, and `spine.parquet`. Without executors it runs 1 and 2. Each task runs in
//! turns, so that both see the same machine; the first run of each warms the page cache.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

use std::{process::ExitCode, time::Instant};

use asof::{
    Aggregate, AsOf, FeatureStore, StoreOptions,
    catalog::{FactTable, KnownAt},
    temporal::{Lookup, Spine, Window},
    time::Zone,
};
use asof_distributed::{Cluster, LocalOptions};
use chrono::TimeDelta;
use datafusion::dataframe::DataFrame;
use futures::TryStreamExt;

type Anyhow<T> = Result<T, Box<dyn std::error::Error>>;

const RUNS: usize = 4;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [dir, executors @ ..] = args.as_slice() else {
        println!("usage: cargo bench --bench cluster -- DIR [EXECUTORS ...]");
        return ExitCode::SUCCESS;
    };
    let executors: Vec<usize> = executors.iter().filter_map(|count| count.parse().ok()).collect();
    let executors = if executors.is_empty() { vec![1, 2] } else { executors };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match runtime.block_on(run(dir, &executors)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(dir: &str, executors: &[usize]) -> Anyhow<()> {
    let root = tempfile::tempdir()?;
    let here = FeatureStore::open_with(&root.path().to_string_lossy(), StoreOptions::default().cache_in_memory()).await?;
    let declared = FactTable::new("event_ts", KnownAt::after(TimeDelta::zero())).zone(Zone::UTC).key("entity_id");
    here.register_table("facts", &format!("{dir}/facts"), declared).await?;
    for &count in executors {
        let options = LocalOptions { executors: count, executor_memory_bytes: 8 << 30, ..LocalOptions::default() };
        let cluster = Cluster::local_with(options).await?;
        let elsewhere = here.on(&cluster);
        for task in ["lookup", "windows", "entities"] {
            for run in 0..RUNS {
                for (name, store) in [("one process", &here), ("cluster", &elsewhere)] {
                    let start = Instant::now();
                    let rows = question(store, task, dir).await?;
                    let seconds = start.elapsed().as_secs_f64();
                    let peaks: Vec<u64> = cluster.processes().unwrap().executors().into_iter().map(peak_mb).collect();
                    println!(
                        "{}",
                        serde_json::json!({
                            "task": task, "run": run, "on": name, "executors": count, "rows": rows, "seconds": (seconds * 1000.0).round() / 1000.0,
                            "peak_mb": peak_mb(std::process::id()), "executor_peaks_mb": peaks,
                            "scheduler_peak_mb": peak_mb(cluster.processes().unwrap().scheduler()),
                        })
                    );
                }
            }
        }
    }
    Ok(())
}

/// Asks and counts the rows of the answer, batch by batch.
async fn question(store: &FeatureStore, task: &str, dir: &str) -> Anyhow<usize> {
    let facts = store.facts("facts", "2030-01-01".parse::<AsOf>()?).await?;
    let spine = Spine::new(store.read_parquet(&format!("{dir}/spine.parquet")).await?, "ts").zone(Zone::UTC);
    let window = |facts| {
        let day = [Aggregate::count_of("f0").named("c1"), Aggregate::sum("f0").named("s1"), Aggregate::mean("f1").named("m1")];
        let week = [Aggregate::count_of("f0").named("c7"), Aggregate::sum("f0").named("s7"), Aggregate::max("f1").named("x7")];
        Window::of(facts).on("entity_id").trailing(TimeDelta::days(1), day).trailing(TimeDelta::days(7), week)
    };
    let rows: DataFrame = match task {
        "lookup" => spine.lookup([Lookup::of(facts).on("entity_id").columns(["f0", "f1", "f2", "f3", "f4", "f5"])])?.into_rows(),
        "windows" => spine.window([window(facts)])?.into_rows(),
        // Every entity at one instant, as a query: little is sent back.
        _ => {
            let sql = "SELECT entity_id, count(*) AS n, max(f0) AS most FROM facts GROUP BY entity_id";
            store.sql(sql, "2030-01-01".parse()?).await?
        }
    };
    let mut rows = rows.execute_stream().await?;
    let mut count = 0;
    while let Some(batch) = rows.try_next().await? {
        count += batch.num_rows();
    }
    Ok(count)
}

fn peak_mb(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}
