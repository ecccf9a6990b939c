//! The time to register, repair and query a table of many partitions on a local disk, in seconds.
//!
//! ```text
//! cargo bench --bench catalog                  # 10,000 partitions
//! cargo bench --bench catalog -- 1000
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]
#![allow(clippy::disallowed_methods, reason = "durations are what is measured")]

use std::{error::Error, fs, path::Path, process::ExitCode, sync::Arc, time::Instant};

use asof::{
    AsOf, FeatureStore, StoreOptions,
    catalog::{FactTable, KnownAt},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray},
    parquet::arrow::ArrowWriter,
};

const ROWS_A_FILE: i64 = 20;
const HOUR_US: i64 = 3_600_000_000;

/// A file of facts of one hour.
fn write_partition(table: &Path, hour: i64) -> Result<(), Box<dyn Error>> {
    let seconds = || (0..ROWS_A_FILE).map(move |i| hour * HOUR_US + i * 1_000_000);
    let at = TimestampMicrosecondArray::from_iter_values(seconds()).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 4] = [
        ("at", Arc::new(at)),
        ("zone", Arc::new(Int64Array::from_iter_values(0..ROWS_A_FILE))),
        ("fare", Arc::new(Float64Array::from_iter_values(seconds().map(|s| (s % 97) as f64)))),
        ("tip", Arc::new(Float64Array::from_iter_values(seconds().map(|s| (s % 13) as f64)))),
    ];
    let batch = RecordBatch::try_from_iter(columns)?;
    let folder = table.join(format!("day={}/hour={}", hour / 24, hour % 24));
    fs::create_dir_all(&folder)?;
    let file = fs::File::create(folder.join("part-0.parquet"))?;
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

async fn timed<T>(what: &str, work: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let done = work.await;
    println!("{what:<40} {:>8.3} s", start.elapsed().as_secs_f64());
    done
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let partitions: i64 = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10_000);
    let dir = tempfile::tempdir()?;
    let table = dir.path().join("facts");
    for hour in 0..partitions {
        write_partition(&table, hour)?;
    }
    let root = dir.path().join("root");
    let options = StoreOptions::default().cache_in_memory();
    let store = FeatureStore::open_with(&root.to_string_lossy(), options).await?;
    println!("{partitions} partitions of a file each, on a local disk");
    let declared = FactTable::new("at", KnownAt::after(TimeDelta::zero())).key("zone");
    let location = table.to_string_lossy();
    let version = timed("register", store.register_table("facts", &location, declared)).await?;
    assert_eq!(version.files().len() as i64, partitions);
    let report = timed("repair, nothing to do", store.repair("facts")).await?;
    assert!(report.is_noop());
    for hour in partitions..partitions + 10 {
        write_partition(&table, hour)?;
    }
    let report = timed("repair, ten partitions more", store.repair("facts")).await?;
    assert_eq!(report.partitions.added.len(), 10);
    timed("describe", store.describe("facts")).await?;
    let as_of = AsOf::from_micros(24 * HOUR_US);
    let count = timed("count the facts of the first day", async { store.sql("SELECT * FROM facts", as_of).await?.count().await });
    assert_eq!(count.await? as i64, 24 * ROWS_A_FILE);
    timed("SHOW PARTITIONS", store.execute("SHOW PARTITIONS facts")).await?;
    Ok(())
}
