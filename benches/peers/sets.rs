//! Tasks that materialize sets of entities, and one that shows what the start of a window prunes.
//! Each prints one line. Input that `peers.py` has not written is generated.

use std::{fs, path::Path, sync::Arc, time::Instant};

use asof::{
    Aggregate, AsOf, FeatureSet, FeatureStore, StoreOptions,
    ingest::Ingest,
    temporal::{Lookup, Spine, Window},
    time::Zone,
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray},
        compute::{cast, sum},
        datatypes::{DataType, Float64Type, Int64Type},
    },
    config::TableParquetOptions,
    dataframe::DataFrameWriteOptions,
    parquet::arrow::ArrowWriter,
    prelude::SessionContext,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Anyhow, at, peak_mb};

pub(super) const DAY_US: i64 = 86_400_000_000;

pub(super) fn rounded(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}

pub(super) fn first_us() -> Anyhow<i64> {
    Ok("2014-01-01".parse::<AsOf>()?.micros())
}

/// Materializes a set of all entities at 24 instants, one after the other, below the root.
/// 24 materializations, in one call or in one call each.
pub(super) async fn cutoffs(store: &FeatureStore, dir: &str, in_one_call: bool) -> Anyhow<()> {
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
    let instants: Vec<AsOf> = (1..=24).map(|i| AsOf::from_micros(first + i * 15 * DAY_US)).collect();
    let (start, mut made, mut each) = (Instant::now(), Vec::new(), Vec::new());
    if in_one_call {
        made = store.materialize_many("entities_v1", &instants).await?;
    } else {
        for instant in instants {
            let one = Instant::now();
            made.push(store.materialize("entities_v1", instant).await?);
            each.push(rounded(one.elapsed().as_secs_f64()));
        }
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
        "task": if in_one_call { "cutoffs" } else { "cutoffs_each" }, "engine": "asof", "seconds": rounded(seconds), "peak_mb": peak_mb, "rows": rows,
        "checksum": { "c": count, "s30": (sum_30d * 100.0).round() / 100.0 }, "each": each,
        "register_seconds": rounded(register_seconds),
    });
    println!("{line}");
    Ok(())
}

/// The facts of a month of 30 days, 20 million in 24 months, about 8,000 entities.
fn write_month(folder: &Path, file: i64) -> Anyhow<()> {
    const FACTS: i64 = 20_000_000;
    let (path, first) = (folder.join(format!("part-{file}.parquet")), first_us()?);
    if path.exists() {
        return Ok(());
    }
    let mut rng = StdRng::seed_from_u64(file as u64);
    let rows = FACTS / 24;
    let at = |i: i64| first + (file * rows + i) * (720 * DAY_US / FACTS);
    let keys: Int64Array = (0..rows).map(|_| rng.random_range(0..8_000)).collect();
    let mut columns: Vec<(String, ArrayRef)> =
        vec![("at".into(), times((0..rows).map(at).collect())), ("id".into(), Arc::new(keys))];
    for i in 0..3 {
        let values: Float64Array = (0..rows).map(|_| Some((rng.random_range(0..10_000) as f64) / 100.0)).collect();
        columns.push((format!("f{i}"), Arc::new(values)));
    }
    write(&path, columns)
}

fn months_set() -> Anyhow<FeatureSet> {
    let month = [Aggregate::count().named("c30"), Aggregate::sum("f0").named("s30"), Aggregate::max("f1").named("x30")];
    let set = FeatureSet::entities("months_v1", "facts").key("id").lookup("f0", "f0").lookup("f1", "f1");
    let set =
        set.window(TimeDelta::days(30), month).all_before([Aggregate::count().named("c"), Aggregate::mean("f2").named("m")]);
    Ok(set.build()?)
}

/// The bytes that this process has read from files so far; zero where the system does not tell.
pub(super) fn read_bytes() -> u64 {
    let told = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = told.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// The facts of `months`: 24 months with tiles of all files, and then one month more; the same without tiles.
pub(super) async fn month_more(dir: &str) -> Anyhow<()> {
    let (folder, more) = (Path::new(dir).join("months"), Path::new(dir).join("month_more"));
    fs::create_dir_all(&more)?;
    for file in 0..25 {
        write_month(if file < 24 { &folder } else { &more }, file)?;
        let name = format!("part-{file}.parquet");
        if !more.join(&name).exists() {
            fs::hard_link(folder.join(&name), more.join(&name))?;
        }
    }
    let instant = |months: i64| Ok::<_, Box<dyn std::error::Error>>(AsOf::from_micros(first_us()? + months * 30 * DAY_US));
    let mut measured = serde_json::Map::new();
    let mut hashes = Vec::new();
    for (kind, options) in
        [("whole", StoreOptions::default().not_incremental()), ("tiles", StoreOptions::default().incremental_from(50_000))]
    {
        let root = tempfile::tempdir()?;
        let store = FeatureStore::open_with(&root.path().to_string_lossy(), options.cache_in_memory()).await?;
        store.register_table("facts", more.to_str().unwrap(), at("at").key("id")).await?;
        store.register(months_set()?)?;
        for months in [24, 25] {
            let (start, before) = (Instant::now(), read_bytes());
            let made = store.materialize("months_v1", instant(months)?).await?;
            let seconds = rounded(start.elapsed().as_secs_f64());
            measured
                .insert(format!("{kind}_{months}"), serde_json::json!({ "seconds": seconds, "bytes": read_bytes() - before }));
            hashes.push(made.manifest().parts.iter().map(|part| part.hash.to_string()).collect::<Vec<_>>());
        }
    }
    assert_eq!(hashes[..2], hashes[2..], "the same bytes with and without tiles");
    let of = |run: &str, what: &str| measured[run][what].as_f64().unwrap_or(0.0);
    let ratio = |what: &str| rounded(of("tiles_25", what) / of("whole_25", what));
    let line = serde_json::json!({
        "task": "month_more", "engine": "asof", "runs": measured, "first_ratio": rounded(of("tiles_24", "seconds") / of("whole_24", "seconds")),
        "seconds_ratio": ratio("seconds"), "bytes_ratio": ratio("bytes"), "peak_mb": peak_mb(),
    });
    println!("{line}");
    Ok(())
}

/// 20 million facts about 8,000 entities in two years: the last of 24 months alone, and then all of them at once.
pub(super) async fn months(store: &FeatureStore, dir: &str) -> Anyhow<()> {
    let (folder, first) = (Path::new(dir).join("months"), first_us()?);
    for file in 0..24 {
        write_month(&folder, file)?;
    }
    store.register_table("facts", folder.to_str().unwrap(), at("at").key("id")).await?;
    store.register(months_set()?)?;
    let instants: Vec<AsOf> = (1..=24).map(|i| AsOf::from_micros(first + i * 30 * DAY_US)).collect();
    let start = Instant::now();
    store.materialize("months_v1", AsOf::from_micros(first + 24 * 30 * DAY_US - 1)).await?;
    let one = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let made = store.materialize_many("months_v1", &instants).await?;
    let all = start.elapsed().as_secs_f64();
    let line = serde_json::json!({
        "task": "months", "engine": "asof", "one_seconds": rounded(one), "many_seconds": rounded(all), "ratio": rounded(all / one),
        "instants": made.len(), "rows": made.iter().map(asof::Materialization::rows).sum::<u64>(), "peak_mb": peak_mb(),
    });
    println!("{line}");
    Ok(())
}

pub(super) fn write(path: &Path, columns: Vec<(String, ArrayRef)>) -> Anyhow<()> {
    fs::create_dir_all(path.parent().unwrap())?;
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut writer = ArrowWriter::try_new(fs::File::create(path)?, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

pub(super) fn times(values: Vec<i64>) -> ArrayRef {
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
        let rows = Spine::new(spine, "t").zone(Zone::UTC).window([window])?.into_rows().collect().await?;
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
        seconds.push(rounded(start.elapsed().as_secs_f64()));
    }
    seconds.sort_by(f64::total_cmp);
    println!("{}", serde_json::json!({ "task": "start", "engine": "asof", "seconds": seconds[0], "median": seconds[4] }));
    Ok(())
}

/// Ten million trips that draw on three sets: materialized, or, `alone`, the same operators over the same rows, written to one file.
pub(super) async fn drawn(store: &FeatureStore, dir: &str, alone: bool) -> Anyhow<()> {
    let start = Instant::now();
    for (table, time, key) in [("trips", "pickup_ts", "pu"), ("pickups", "ts", "k"), ("dropoffs", "ts", "k")] {
        let folder = Path::new(dir).join("drawn").join(table);
        fs::create_dir_all(&folder)?;
        let file = folder.join("part-0.parquet");
        if !file.exists() {
            fs::hard_link(format!("{dir}/{table}.parquet"), file)?;
        }
        store.register_table(table, folder.to_str().unwrap(), at(time).key(key)).await?;
    }
    let register_seconds = start.elapsed().as_secs_f64();
    let as_of = "2030-01-01".parse::<AsOf>()?;
    // The files' times have no zone. As numbers they are UTC already, so the casts compute nothing.
    let query = "SELECT arrow_cast(arrow_cast(pickup_ts, 'Int64'), 'Timestamp(Microsecond, Some(\"UTC\"))') AS pickup_ts, \
                   pu, \"do\", fare FROM trips";
    let hour = [Aggregate::count().named("trips_1h"), Aggregate::mean("fare").named("mean_1h")];
    let day = [Aggregate::count().named("trips_24h"), Aggregate::max("fare").named("max_24h")];
    let (start, rows) = if alone {
        let facts = async |table: &str| store.facts(table, as_of).await;
        let start = Instant::now();
        let lookups = [
            Lookup::of(facts("pickups").await?).on_columns("pu", "k").columns(["mean_fare", "n"]),
            Lookup::of(facts("dropoffs").await?).on_columns("do", "k").column("n2"),
        ];
        let window = Window::of(facts("trips").await?).on("pu");
        let window = window.trailing(TimeDelta::hours(1), hour).trailing(TimeDelta::days(1), day);
        let spine = Spine::new(store.sql(query, as_of).await?, "pickup_ts");
        let rows = spine.lookup(lookups)?.window([window])?.into_rows();
        let mut options = TableParquetOptions::default();
        options.global.compression = Some("zstd(1)".into());
        let path = format!("{dir}/out_asof_drawn.parquet");
        let single = DataFrameWriteOptions::new().with_single_file_output(true);
        rows.write_parquet(&path, single, Some(options)).await?;
        (start, store.read_parquet(&path).await?)
    } else {
        let pickups = FeatureSet::entities("pickups_v1", "pickups").key("k").lookup("mean_fare", "mean_fare").lookup("n", "n");
        let dropoffs = FeatureSet::entities("dropoffs_v1", "dropoffs").key("k").lookup("n2", "n2");
        let zones = FeatureSet::entities("zones_v1", "trips").key("pu").window(TimeDelta::hours(1), hour);
        let zones = zones.window(TimeDelta::days(1), day);
        let set = FeatureSet::rows("drawn_v1", query)
            .table("trips")
            .event_time("pickup_ts")
            .features_of(pickups.build()?.by(["pu"]))
            .features_of(dropoffs.build()?.by(["do"]))
            .features_of(zones.build()?.by(["pu"]))
            .pass(["mean_fare", "n", "n2", "trips_1h", "mean_1h", "trips_24h", "max_24h"])
            .label("fare");
        store.register(set.build()?)?;
        let start = Instant::now();
        (start, store.materialize("drawn_v1", as_of).await?.dataframe().await?)
    };
    let (seconds, peak_mb) = (start.elapsed().as_secs_f64(), peak_mb());
    let columns = ["mean_fare", "n", "n2", "trips_1h", "mean_1h", "trips_24h", "max_24h"];
    let batches = rows.select_columns(&columns)?.collect().await?;
    let total = |name: &&str| -> f64 {
        let arrays = batches.iter().map(|batch| cast(batch.column_by_name(name).unwrap(), &DataType::Float64).unwrap());
        arrays.filter_map(|array| sum(array.as_primitive::<Float64Type>())).sum()
    };
    let totals: Vec<f64> = columns.iter().map(|name| (total(name) * 10.0).round() / 10.0).collect();
    let line = serde_json::json!({
        "task": if alone { "operators" } else { "drawn" }, "engine": "asof", "seconds": rounded(seconds), "peak_mb": peak_mb,
        "rows": batches.iter().map(RecordBatch::num_rows).sum::<usize>(), "checksum": totals,
        "register_seconds": rounded(register_seconds),
    });
    println!("{line}");
    Ok(())
}
