//! The tasks of the comparison with other libraries, run by this one on the files that `peers.py gen` wrote. Prints one JSON line in
//! the form of `peers.py run`. It measures one run; for ratios, run both programs in turns.
//!
//! ```text
//! cargo bench --bench peers -- TASK DIR              lookup, windows, taxi, taxi_out, views, zipf, cutoffs, fit
//! cargo bench --bench peers -- ingest DIR            monthly CSV files into a table of a fresh store
//! cargo bench --bench peers -- wide DIR              a million entities with 50 floats each: generated, loaded, materialized
//! cargo bench --bench peers -- start DIR             one spine row with windows of a day and a week over 25 months (generated)
//! cargo bench --bench peers -- drawn DIR             a set of rows over the trips of `taxi` that draws on three sets, materialized
//! cargo bench --bench peers -- operators DIR         what `drawn` computes by the operators alone, written to one file
//! cargo bench --bench peers -- cutoffs DIR           24 materializations in one call; cutoffs_each in one call each
//! cargo bench --bench peers -- months DIR            24 months of 8,000 entities (20 M generated facts) at once, and the last one alone
//! cargo bench --bench peers -- month_more DIR        24 months with tiles, then one more; the same without tiles; seconds and bytes
//! cargo bench --bench peers -- backtest DIR          backtests of monthly CSV files of taxi trips, which are generated where DIR is missing
//! cargo bench --bench peers -- instants DIR [N [MIB]]   a set of a million generated entities at N days (1,000) that may hold so many MiB (4,096)
//! cargo bench --bench peers -- TASK DIR --explain    the plan with its metrics instead (results stay in memory)
//!
//! cargo bench --bench peers -- history DIR --generate [even|skewed]   100 M facts in 24 months, 10 M spine rows
//! cargo bench --bench peers -- history DIR                            the newest fact for each of them, to Parquet
//! cargo bench --bench peers -- history_windows DIR                    counts and sums over a day and a week
//! ```

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "a bench measures by the clock")]

use std::{path::Path, process::ExitCode, sync::Arc, time::Instant};

use asof::{
    Aggregate, AsOf, FeatureSet, FeatureStore, StoreOptions,
    backtest::{Learner, LinearRegression},
    catalog::{FactTable, KnownAt},
    encoder::{Number, OutlierFilter, Sample},
    ingest::Ingest,
    temporal::{Facts, Lookup, Spine, Window},
    time::{Cutoff, Zone},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray},
        compute::{cast, sum},
        datatypes::{DataType, Float64Type, Int64Type},
    },
    config::TableParquetOptions,
    dataframe::{DataFrame, DataFrameWriteOptions},
    parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties},
    physical_plan::display::DisplayableExecutionPlan,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

#[path = "peers/backtests.rs"]
mod backtests;
#[path = "peers/instants.rs"]
mod instants;
#[path = "peers/sets.rs"]
mod sets;

type Anyhow<T> = Result<T, Box<dyn std::error::Error>>;

/// The result of a run: rows in memory, or the file that was written.
enum Yield {
    Rows(Vec<RecordBatch>),
    File(String),
}

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Anyhow<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [task, dir, flags @ ..] = args.as_slice() else {
        println!("usage: cargo bench --bench peers -- TASK DIR [--explain]");
        return Ok(());
    };
    if flags.first().is_some_and(|flag| flag == "--generate") {
        return generate(Path::new(dir), flags.get(1).is_some_and(|keys| keys == "even"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if task == "ingest" {
        return runtime.block_on(ingest(dir));
    }
    if task == "backtest" {
        return runtime.block_on(backtests::backtests(dir));
    }
    if task == "instants" {
        let number = |i: usize| flags.get(i).and_then(|flag| flag.parse().ok());
        return runtime.block_on(instants::instants(dir, number(0).unwrap_or(1_000), number(1).unwrap_or(4_096)));
    }
    runtime.block_on(run(task, dir, flags.iter().any(|flag| flag == "--explain")))
}

async fn run(task: &str, dir: &str, explain: bool) -> Anyhow<()> {
    let root = tempfile::tempdir()?;
    let store = FeatureStore::open_with(&root.path().to_string_lossy(), StoreOptions::default().cache_in_memory()).await?;
    // Tables are registered before the measurement: that hashes their files, which the other libraries do not do.
    let start = Instant::now();
    if matches!(task, "lookup" | "windows" | "history" | "history_windows") {
        store.register_table("facts", &format!("{dir}/facts"), at("event_ts").key("entity_id")).await?;
    }
    match task {
        "cutoffs" => return sets::cutoffs(&store, dir, true).await,
        "cutoffs_each" => return sets::cutoffs(&store, dir, false).await,
        "months" => return sets::months(&store, dir).await,
        "month_more" => return sets::month_more(dir).await,
        "wide" => return sets::wide(&store, dir).await,
        "start" => return sets::start(&store, dir).await,
        "drawn" => return sets::drawn(&store, dir, false).await,
        "operators" => return sets::drawn(&store, dir, true).await,
        _ => {}
    }
    if task == "fit" {
        let trips = FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone(Zone::UTC);
        store.register_table("trips", &format!("{dir}/trips"), trips).await?;
        return fit(&store, start.elapsed().as_secs_f64()).await;
    }
    let register_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let rows = question(&store, task, dir).await?;
    if explain {
        return show(rows, start).await;
    }
    let is_file = matches!(task, "lookup" | "windows" | "taxi_out" | "history" | "history_windows");
    let result = match is_file {
        true => {
            let path = format!("{dir}/out_asof_{task}.parquet");
            let mut options = TableParquetOptions::default();
            options.global.compression = Some(if task == "taxi_out" { "snappy" } else { "zstd(1)" }.into());
            let single = DataFrameWriteOptions::new().with_single_file_output(true);
            rows.write_parquet(&path, single, Some(options)).await?;
            Yield::File(path)
        }
        false => Yield::Rows(rows.collect().await?),
    };
    let seconds = start.elapsed().as_secs_f64();
    let peak_mb = peak_mb();
    let batches = match result {
        Yield::Rows(batches) => batches,
        Yield::File(path) => {
            assert!(Path::new(&path).is_file());
            store.read_parquet(&path).await?.collect().await?
        }
    };
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let rounded = |seconds: f64| (seconds * 1e3).round() / 1e3;
    let line = serde_json::json!({
        "task": task, "engine": "asof", "seconds": rounded(seconds), "peak_mb": peak_mb, "rows": rows,
        "checksum": checksum(task, &batches), "register_seconds": rounded(register_seconds),
    });
    println!("{line}");
    Ok(())
}

/// Materializes the steps of `taxi_v1` over all hours of the day, and fits amounts on distances.
async fn fit(store: &FeatureStore, register_seconds: f64) -> Anyhow<()> {
    // The files' times have no zone. As numbers they are UTC already, so the casts compute nothing.
    let query = "SELECT arrow_cast(arrow_cast(pickup_at, 'Int64'), 'Timestamp(Microsecond, Some(\"UTC\"))') AS pickup_at, \
                   trip_distance, total_amount FROM trips";
    let set = FeatureSet::rows("fit_v1", query)
        .table("trips")
        .event_time("pickup_at")
        .keep(OutlierFilter::between_percentiles(2.0, 98.0).of(["trip_distance", "total_amount"]))
        .keep(Sample::fraction(0.1, 7).of_instants(["pickup_at"]).of_numbers(["trip_distance", "total_amount"]))
        .encode(Number::of("trip_distance"))
        .label("total_amount");
    store.register(set.build()?)?;
    let start = Instant::now();
    let made = store.materialize("fit_v1", "2030-01-01".parse()?).await?;
    let materialize_seconds = start.elapsed().as_secs_f64();
    let data = made.dataset("total_amount").await?;
    let linear = LinearRegression::new().fit(&data)?.linear().ok_or("a linear regression is linear")?;
    let (seconds, peak_mb) = (start.elapsed().as_secs_f64(), peak_mb());
    let rounded = |seconds: f64| (seconds * 1e3).round() / 1e3;
    let line = serde_json::json!({
        "task": "fit", "engine": "asof", "seconds": rounded(seconds), "peak_mb": peak_mb, "rows": made.rows(),
        "checksum": { "slope": linear.slopes[0], "intercept": linear.intercept },
        "materialize_seconds": rounded(materialize_seconds), "register_seconds": rounded(register_seconds),
    });
    println!("{line}");
    Ok(())
}

/// Loads the CSV files of a folder. The table stays in `DIR/out_asof` for inspection.
async fn ingest(dir: &str) -> Anyhow<()> {
    let root = format!("{dir}/out_asof");
    match std::fs::remove_dir_all(&root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let store = FeatureStore::open_with(&root, StoreOptions::default().cache_in_memory()).await?;
    let start = Instant::now();
    let table = FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone(Zone::UTC);
    let load = Ingest::new("trips", table)?.from(format!("{dir}/trips-*.csv")).by_month_of_one_year();
    let report = store.ingest(&load).await?;
    let seconds = start.elapsed().as_secs_f64();
    let peak_mb = peak_mb();
    let sums = store.sql("SELECT sum(total_amount) AS total FROM trips", "2100-01-01".parse::<AsOf>()?).await?.collect().await?;
    let total = sums.first().map_or(0.0, |batch| batch.column(0).as_primitive::<Float64Type>().value(0));
    let bytes: u64 = report.version.files().iter().map(|file| file.identity.size).sum();
    let line = serde_json::json!({
        "task": "ingest", "engine": "asof", "seconds": (seconds * 1e3).round() / 1e3, "peak_mb": peak_mb, "rows": report.rows,
        "checksum": { "total": (total * 100.0).round() / 100.0 }, "files_mb": bytes / 1_000_000,
    });
    println!("{line}");
    Ok(())
}

/// The declaration of a table with zone-less times in UTC that are known when they happen.
fn at(column: &str) -> FactTable {
    FactTable::new(column, KnownAt::after(TimeDelta::zero())).zone(Zone::UTC)
}

async fn question(store: &FeatureStore, task: &str, dir: &str) -> Anyhow<DataFrame> {
    let spine =
        async |file: &str, at: &str| Ok::<_, asof::Error>(Spine::new(store.read_parquet(file).await?, at).zone(Zone::UTC));
    let file = async |name: &str, at_column: &str| {
        let rows = store.read_parquet(&format!("{dir}/{name}.parquet")).await?;
        Ok::<_, asof::Error>(Facts::new(name, rows, at(at_column)))
    };
    let inclusive = |lookup: Lookup| lookup.cutoff(Cutoff::Inclusive);
    Ok(match task {
        "lookup" | "windows" => {
            let facts = store.facts("facts", "2030-01-01".parse::<AsOf>()?).await?;
            let spine = spine(&format!("{dir}/spine.parquet"), "ts").await?;
            if task == "lookup" {
                let values = ["f0", "f1", "f2", "f3", "f4", "f5"];
                let rows = spine.lookup([Lookup::of(facts).on("entity_id").columns(values)])?.into_rows();
                rows.select_columns(&["row_id", "entity_id", "ts", "f0", "f1", "f2", "f3", "f4", "f5"])?
            } else {
                let day =
                    [Aggregate::count_of("f0").named("c1"), Aggregate::sum("f0").named("s1"), Aggregate::mean("f1").named("m1")];
                let week =
                    [Aggregate::count_of("f0").named("c7"), Aggregate::sum("f0").named("s7"), Aggregate::max("f1").named("x7")];
                let window =
                    Window::of(facts).on("entity_id").trailing(TimeDelta::days(1), day).trailing(TimeDelta::days(7), week);
                let rows = spine.window([window])?.into_rows();
                rows.select_columns(&["row_id", "entity_id", "ts", "c1", "s1", "m1", "c7", "s7", "x7"])?
            }
        }
        "history" | "history_windows" => {
            let facts = store.facts("facts", "2030-01-01".parse::<AsOf>()?).await?;
            let spine = spine(&format!("{dir}/spine.parquet"), "ts").await?;
            if task == "history" {
                spine.lookup([Lookup::of(facts).on("entity_id").columns(["f0", "f1", "f2", "f3"])])?.into_rows()
            } else {
                let sums =
                    |name: &str| [Aggregate::count().named(format!("c{name}")), Aggregate::sum("f0").named(format!("s{name}"))];
                let window = Window::of(facts).on("entity_id");
                let window = window.trailing(TimeDelta::days(1), sums("1")).trailing(TimeDelta::days(7), sums("7"));
                spine.window([window])?.into_rows()
            }
        }
        "taxi" | "taxi_out" => {
            let pickups = Lookup::of(file("pickups", "ts").await?).on_columns("pu", "k").columns(["mean_fare", "n"]);
            let dropoffs = Lookup::of(file("dropoffs", "ts").await?).on_columns("do", "k").column("n2");
            let spine = spine(&format!("{dir}/trips.parquet"), "pickup_ts").await?;
            spine.lookup([inclusive(pickups), inclusive(dropoffs)])?.into_rows()
        }
        "views" => {
            let mut lookups = Vec::new();
            for i in 0..10 {
                let columns = (0..3).map(|j| format!("v{i}_{j}"));
                lookups.push(inclusive(Lookup::of(file(&format!("view{i}"), "t").await?).on("k").columns(columns)));
            }
            spine(&format!("{dir}/spine.parquet"), "t").await?.lookup(lookups)?.into_rows()
        }
        "zipf" => {
            let lookup = Lookup::of(file("facts", "ts").await?).on("entity").column_as("val", "val_right");
            spine(&format!("{dir}/spine.parquet"), "ts").await?.lookup([inclusive(lookup)])?.into_rows()
        }
        other => return Err(format!("no task `{other}`").into()),
    })
}

fn checksum(task: &str, batches: &[RecordBatch]) -> serde_json::Value {
    let column = |name: &str| -> Vec<ArrayRef> { batches.iter().map(|b| b.column_by_name(name).unwrap().clone()).collect() };
    let total = |name: &str| -> serde_json::Value {
        let arrays = column(name);
        if arrays.first().is_some_and(|a| a.data_type().is_integer()) {
            let parts = arrays.iter().map(|a| sum(cast(a, &DataType::Int64).unwrap().as_primitive::<Int64Type>()).unwrap_or(0));
            return parts.sum::<i64>().into();
        }
        arrays.iter().filter_map(|a| sum(a.as_primitive::<Float64Type>())).sum::<f64>().into()
    };
    let named = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), total(n))).collect::<serde_json::Map<_, _>>().into();
    match task {
        "lookup" => named(&["f0", "f5"]),
        "windows" => named(&["c1", "s1", "c7", "s7", "x7"]),
        "taxi" | "taxi_out" => named(&["mean_fare", "n2"]),
        "history" => named(&["f0", "f3"]),
        "history_windows" => named(&["c1", "s1", "c7", "s7"]),
        "views" => named(&["v0_0", "v9_2"]),
        _ => {
            let found: usize = column("val_right").iter().map(|a| a.len() - a.null_count()).sum();
            serde_json::json!({ "matched": found })
        }
    }
}

/// The largest resident set of this process so far, in MiB.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

const HISTORY_MONTHS: i64 = 24;
const HISTORY_FACTS: usize = 100_000_000;
const HISTORY_SPINE: usize = 10_000_000;
const HISTORY_KEYS: f64 = 100_000.0;
const MONTH_US: i64 = 2_629_746_000_000;

/// Facts and a spine from a seed: about 1,000 facts per key, or, if skewed, a third of the facts in the first hundredth of the keys.
fn generate(dir: &Path, is_even: bool) -> Anyhow<()> {
    let mut rng = StdRng::seed_from_u64(5);
    let key = move |rng: &mut StdRng| {
        let x: f64 = rng.random();
        (HISTORY_KEYS * if is_even { x } else { x.powi(4) }) as i64
    };
    let start_us = 1_356_998_400_000_000;
    let times = |values: Vec<i64>| Arc::new(TimestampMicrosecondArray::from(values)) as ArrayRef;
    let mut values = StdRng::seed_from_u64(6);
    let mut write = |path: String, first_us: i64, span_us: i64, rows: usize, columns: usize| -> Anyhow<()> {
        let mut at: Vec<i64> = (0..rows).map(|_| first_us + rng.random_range(0..span_us)).collect();
        if columns > 0 {
            at.sort_unstable();
        }
        let keys: Int64Array = (0..rows).map(|_| key(&mut rng)).collect::<Vec<i64>>().into();
        let mut named: Vec<(String, ArrayRef)> =
            vec![("entity_id".into(), Arc::new(keys)), (if columns > 0 { "event_ts" } else { "ts" }.into(), times(at))];
        for column in 0..columns {
            let floats: Float64Array =
                (0..rows).map(|_| f64::from(values.random_range(0..10_000)) / 100.0).collect::<Vec<_>>().into();
            named.push((format!("f{column}"), Arc::new(floats)));
        }
        let batch = RecordBatch::try_from_iter(named)?;
        std::fs::create_dir_all(Path::new(&path).parent().unwrap())?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut writer = ArrowWriter::try_new(std::fs::File::create(path)?, batch.schema(), Some(properties))?;
        writer.write(&batch)?;
        writer.close()?;
        Ok(())
    };
    for month in 0..HISTORY_MONTHS {
        let path = dir.join(format!("facts/month={}/part-0.parquet", month + 1));
        let rows = HISTORY_FACTS / HISTORY_MONTHS as usize;
        write(path.to_string_lossy().into(), start_us + month * MONTH_US, MONTH_US, rows, 4)?;
    }
    let path = dir.join("spine.parquet").to_string_lossy().into();
    write(path, start_us + MONTH_US, (HISTORY_MONTHS - 1) * MONTH_US, HISTORY_SPINE, 0)
}

async fn show(rows: DataFrame, start: Instant) -> Anyhow<()> {
    let context = Arc::new(rows.task_ctx());
    let plan = rows.create_physical_plan().await?;
    let batches = datafusion::physical_plan::collect(plan.clone(), context).await?;
    println!("{}", DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(true));
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    println!("{rows} rows in {:.3} s, peak {} MiB", start.elapsed().as_secs_f64(), peak_mb());
    Ok(())
}
