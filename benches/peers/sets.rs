//! Tasks that materialize sets of entities, and one that shows what the start of a window prunes.
//! Each prints one line. Input that `peers.py` has not written is generated.

use std::{fs, path::Path, sync::Arc, time::Instant};

use asof::{
    Aggregate, AsOf, FeatureSet, FeatureStore,
    ingest::Ingest,
    temporal::{Spine, Window},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray},
        compute::sum,
        datatypes::{Float64Type, Int64Type},
    },
    parquet::arrow::ArrowWriter,
    prelude::SessionContext,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Anyhow, at, peak_mb};

const DAY_US: i64 = 86_400_000_000;

fn rounded(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}

fn first_us() -> Anyhow<i64> {
    Ok("2014-01-01".parse::<AsOf>()?.micros())
}

/// Materializes a set of all entities at 24 instants, one after the other, below the root.
pub(super) async fn cutoffs(store: &FeatureStore, dir: &str) -> Anyhow<()> {
    let start = Instant::now();
    store.register_table("facts", &format!("{dir}/facts"), at("event_ts").key("entity_id")).await?;
    let register_seconds = start.elapsed().as_secs_f64();
    let mut set = FeatureSet::entities("entities_v1", "facts").key("entity_id");
    for column in ["f0", "f1", "f2", "f3", "f4", "f5"] {
        set = set.lookup(column, column);
    }
    let month = [Aggregate::count().named("c30"), Aggregate::sum("f0").named("s30"), Aggregate::max("f1").named("x30")];
    let set = set.window(TimeDelta::days(30), month).all_before([Aggregate::count().named("c"), Aggregate::sum("f0").named("s")]);
    store.register(set.build()?)?;
    let first = first_us()?;
    let instants = (1..=24).map(|i| AsOf::from_micros(first + i * 15 * DAY_US));
    let (start, mut made, mut each) = (Instant::now(), Vec::new(), Vec::new());
    for instant in instants {
        let one = Instant::now();
        made.push(store.materialize("entities_v1", instant).await?);
        each.push(rounded(one.elapsed().as_secs_f64()));
    }
    let seconds = start.elapsed().as_secs_f64();
    let peak_mb = peak_mb();
    let (mut rows, mut count, mut sum_30d) = (0, 0, 0.0);
    for materialization in &made {
        let batches = materialization.dataframe().await?.collect().await?;
        rows += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        for batch in &batches {
            count += sum(batch.column_by_name("c").unwrap().as_primitive::<Int64Type>()).unwrap_or(0);
            sum_30d += sum(batch.column_by_name("s30").unwrap().as_primitive::<Float64Type>()).unwrap_or(0.0);
        }
    }
    let line = serde_json::json!({
        "task": "cutoffs", "engine": "asof", "seconds": rounded(seconds), "peak_mb": peak_mb, "rows": rows,
        "checksum": { "c": count, "s30": (sum_30d * 100.0).round() / 100.0 }, "each": each,
        "register_seconds": rounded(register_seconds),
    });
    println!("{line}");
    Ok(())
}

fn write(path: &Path, columns: Vec<(String, ArrayRef)>) -> Anyhow<()> {
    fs::create_dir_all(path.parent().unwrap())?;
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut writer = ArrowWriter::try_new(fs::File::create(path)?, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

fn times(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values))
}

/// A million entities, a fact of 50 floats each.
pub(super) async fn wide(store: &FeatureStore, dir: &str) -> Anyhow<()> {
    const ENTITIES: i64 = 1_000_000;
    let (path, first) = (Path::new(dir).join("wide.parquet"), first_us()?);
    if !path.exists() {
        let mut rng = StdRng::seed_from_u64(9);
        let mut columns: Vec<(String, ArrayRef)> = vec![
            ("id".into(), Arc::new((0..ENTITIES).collect::<Int64Array>())),
            ("at".into(), times((0..ENTITIES).map(|_| first + rng.random_range(0..30 * DAY_US)).collect())),
        ];
        for i in 0..50 {
            let values: Float64Array = (0..ENTITIES).map(|_| Some(rng.random::<f64>())).collect();
            columns.push((format!("f{i}"), Arc::new(values)));
        }
        write(&path, columns)?;
    }
    let start = Instant::now();
    store.ingest(&Ingest::new("wide", at("at").key("id"))?.from(path.to_str().unwrap())).await?;
    let (ingest_seconds, ingest_peak_mb) = (start.elapsed().as_secs_f64(), peak_mb());
    let mut set = FeatureSet::entities("wide_v1", "wide").key("id");
    for i in 0..50 {
        set = set.lookup(&format!("f{i}"), &format!("f{i}"));
    }
    store.register(set.build()?)?;
    let start = Instant::now();
    let made = store.materialize("wide_v1", "2014-03-01".parse()?).await?;
    let line = serde_json::json!({
        "task": "wide", "engine": "asof", "seconds": rounded(start.elapsed().as_secs_f64()), "peak_mb": peak_mb(),
        "rows": made.rows(), "ingest_seconds": rounded(ingest_seconds), "ingest_peak_mb": ingest_peak_mb,
    });
    println!("{line}");
    Ok(())
}

/// One row of a spine, at the end of 25 months of facts.
pub(super) async fn start(store: &FeatureStore, dir: &str) -> Anyhow<()> {
    const MONTHS: i64 = 25;
    const FACTS: usize = 250_000;
    let (facts, first) = (Path::new(dir).join("start"), first_us()?);
    if !facts.exists() {
        let mut rng = StdRng::seed_from_u64(10);
        for month in 0..MONTHS {
            let mut at: Vec<i64> = (0..FACTS).map(|_| first + (month * 30 + rng.random_range(0..30)) * DAY_US).collect();
            at.sort_unstable();
            let keys: Int64Array = (0..FACTS).map(|_| Some(rng.random_range(0..1_000))).collect();
            let values: Float64Array = (0..FACTS).map(|_| Some(rng.random::<f64>())).collect();
            let columns =
                vec![("k".into(), Arc::new(keys) as ArrayRef), ("at".into(), times(at)), ("x".into(), Arc::new(values))];
            write(&facts.join(format!("month={}/part-0.parquet", month + 1)), columns)?;
        }
    }
    store.register_table("facts", facts.to_str().unwrap(), at("at").key("k")).await?;
    let instant = AsOf::from_micros(first + MONTHS * 30 * DAY_US);
    let mut seconds = Vec::new();
    for _ in 0..9 {
        let start = Instant::now();
        let spine: Vec<(String, ArrayRef)> =
            vec![("k".into(), Arc::new(Int64Array::from(vec![7]))), ("t".into(), times(vec![instant.micros()]))];
        let spine = SessionContext::new().read_batch(RecordBatch::try_from_iter(spine)?)?;
        let asked = |name: &str| [Aggregate::count().named(format!("c{name}")), Aggregate::sum("x").named(format!("s{name}"))];
        let window = Window::of(store.facts("facts", instant).await?).on("k");
        let window = window.trailing(TimeDelta::days(1), asked("1")).trailing(TimeDelta::days(7), asked("7"));
        let rows = Spine::new(spine, "t").zone(asof::time::Zone::UTC).window([window])?.into_rows().collect().await?;
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
        seconds.push(rounded(start.elapsed().as_secs_f64()));
    }
    seconds.sort_by(f64::total_cmp);
    println!("{}", serde_json::json!({ "task": "start", "engine": "asof", "seconds": seconds[0], "median": seconds[4] }));
    Ok(())
}
