//! A set of a million entities at many instants: how much memory it takes beside what it may hold.

use std::{path::Path, sync::Arc, time::Instant};

use asof::{Aggregate, AsOf, FeatureSet, FeatureStore, Materialization, Resources, StoreOptions};
use chrono::TimeDelta;
use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    Anyhow, at, peak_mb,
    sets::{DAY_US, first_us, read_bytes, rounded, times, write},
};

const ENTITIES: i64 = 1_000_000;
const FACTS: i64 = 5_000_000;
const DAYS: i64 = 1_000;

/// `count` days in one call, of facts about a million entities: the newest value, and count and sum of a week.
pub(super) async fn instants(dir: &str, count: usize, held_mib: usize) -> Anyhow<()> {
    let (folder, first) = (Path::new(dir).join("instants"), first_us()?);
    let path = folder.join("part-0.parquet");
    if !path.exists() {
        let mut rng = StdRng::seed_from_u64(11);
        // Each entity has a fact on the first days.
        let key = |i: i64, rng: &mut StdRng| if i < ENTITIES { i } else { rng.random_range(0..ENTITIES) };
        let keys: Int64Array = (0..FACTS).map(|i| key(i, &mut rng)).collect();
        let values: Float64Array = (0..FACTS).map(|_| Some(f64::from(rng.random_range(0..10_000_u32)) / 100.0)).collect();
        let at = |i: i64| first + i * (DAYS * DAY_US / FACTS);
        let columns: Vec<(String, ArrayRef)> = vec![
            ("id".into(), Arc::new(keys)),
            ("at".into(), times((0..FACTS).map(at).collect())),
            ("v".into(), Arc::new(values)),
        ];
        write(&path, columns)?;
    }
    let root = tempfile::tempdir_in(dir)?;
    let resources = Resources { held_bytes: held_mib << 20, ..Resources::default() };
    let options = StoreOptions::default().cache_in_memory().resources(resources);
    let store = FeatureStore::open_with(&root.path().to_string_lossy(), options).await?;
    store.register_table("facts", folder.to_str().ok_or("a path of text")?, at("at").key("id")).await?;
    let week = [Aggregate::count().named("c7"), Aggregate::sum("v").named("s7")];
    let set = FeatureSet::entities("days_v1", "facts").key("id").lookup("v", "v").window(TimeDelta::days(7), week);
    store.register(set.build()?)?;
    let last = DAYS - i64::try_from(count)? + 1;
    let days: Vec<AsOf> = (last.max(1)..=DAYS).map(|day| AsOf::from_micros(first + day * DAY_US)).collect();
    let before_mb = peak_mb();
    let (start, before) = (Instant::now(), read_bytes());
    let made = store.materialize_many("days_v1", &days).await?;
    let line = serde_json::json!({
        "task": "instants", "engine": "asof", "instants": made.len(), "held_mib": held_mib,
        "rows": made.iter().map(Materialization::rows).sum::<u64>(), "seconds": rounded(start.elapsed().as_secs_f64()),
        "read_mb": (read_bytes() - before) / 1_000_000, "facts_mb": std::fs::metadata(&path)?.len() / 1_000_000,
        "peak_mb_before": before_mb, "peak_mb": peak_mb(),
    });
    println!("{line}");
    Ok(())
}
