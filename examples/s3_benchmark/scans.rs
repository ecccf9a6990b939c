//! Queries over the files as a registered table: without the disk cache, with an empty one, and again.

use std::path::Path;

use asof::{
    AsOf, FeatureStore, StoreOptions,
    catalog::{FactTable, KnownAt},
    storage::Locations,
};
use futures::TryStreamExt;

use crate::{Measured, Result, timed};

const TABLE: &str = "facts";

/// Measures reading all columns of all rows, the best of some rounds.
pub(crate) async fn scans(
    locations: &Locations,
    url: &str,
    event_time: &str,
    rounds: usize,
    work: &Path,
) -> Result<Vec<Measured>> {
    let root = work.join("root").to_string_lossy().into_owned();
    let options = StoreOptions::default().cache_in_memory().locations(locations.clone());
    let plain = FeatureStore::open_with(&root, options.clone()).await?;
    let declared = FactTable::new(event_time, KnownAt::column(event_time));
    let table = plain.register_table(TABLE, url, declared).await?;
    let total: u64 = table.files().iter().map(|file| file.identity.size).sum();
    let mut best: Vec<Measured> = Vec::new();
    for round in 0..rounds.max(1) {
        let kept = work.join(format!("scans-{round}"));
        let cached = FeatureStore::open_with(&root, options.clone().disk_cache(kept, 2 * total + (64 << 20))).await?;
        let ways =
            [("scan: no disk cache", &plain), ("scan: empty disk cache", &cached), ("scan: again, from the disk cache", &cached)];
        for (i, (what, store)) in ways.into_iter().enumerate() {
            let measured = timed(what, async {
                let read = rows(store).await?;
                if read != table.rows() {
                    return Err(format!("{what}: {read} rows of {}", table.rows()).into());
                }
                Ok(total)
            });
            let measured = measured.await?;
            match best.get_mut(i) {
                Some(known) if known.seconds > measured.seconds => *known = measured,
                Some(_) => {}
                None => best.push(measured),
            }
        }
    }
    Ok(best)
}

async fn rows(store: &FeatureStore) -> Result<u64> {
    let rows = store.sql(&format!("SELECT * FROM {TABLE}"), AsOf::END_OF_TIME).await?;
    let batches = rows.execute_stream().await?;
    Ok(batches.try_fold(0, |sum, batch| async move { Ok(sum + batch.num_rows() as u64) }).await?)
}
