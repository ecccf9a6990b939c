//! Computes a materialization: its rows as files on this machine's disk, its counts, and what its steps have learned.
//! Nothing is written to the store here. `run` publishes the result, and `replay` compares it with what was published.

use super::{
    entities::{EntityTable, EntityTables, entities},
    entities_elsewhere::entities_elsewhere,
    incremental::table_files,
    row_set::{QueriedRows, compute_queried, compute_rows},
};
use crate::{
    catalog::Column,
    engine::Engine,
    error::{Error, Result},
    feature_set::{EntitySet, FeatureSet, RowSet, SetBody},
    layout::PartOf,
    manifest::{Manifest, PartialRows},
    scan::VisibleTable,
    storage::Location,
    temporal::UnfinishedTiles,
    workspace::{FinishedParts, Part, PartsWriter, Workspace},
};

/// A materialization whose files lie on this machine's disk.
pub(super) struct Computed {
    /// The manifest without files.
    manifest: Manifest,
    whole: FinishedParts,
    /// In the order of the manifest's partial rows.
    partial: Vec<FinishedParts>,
    /// Tiles that the rows did not wait for.
    unfinished: UnfinishedTiles,
}

/// What a set of entities is computed from. The rows are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FactsFrom {
    /// The facts themselves. No tile is loaded or made.
    Files,
    /// Tiles where there are any, and the facts of the other files, whose tiles are made.
    Tiles,
}

/// Computes the materialization of a set over these tables, which are those of the set as of the manifest's horizon. `manifest` has
/// what was known before.
pub(super) async fn compute(
    workspace: &Workspace,
    set: &FeatureSet,
    tables: &[VisibleTable],
    mut manifest: Manifest,
    facts: FactsFrom,
) -> Result<Computed> {
    let engine = &workspace.engine;
    match &set.body {
        SetBody::Rows(rows) => {
            let whole = compute_rows(engine, rows, tables, &mut manifest).await?;
            Ok(Computed::new(manifest, whole, Vec::new()))
        }
        SetBody::Entities(set) => {
            let (name, instants, cutoff) = (&manifest.set, [manifest.as_of], manifest.cutoff);
            if engine.runs_elsewhere() {
                let found = entities_elsewhere(engine, name, set, tables, (manifest.as_of, cutoff)).await?;
                let mut found = found.into_iter().map(|(keys, rows)| EntityTable { keys, rows });
                let Some(whole) = found.next() else {
                    let reason = "it has no rows by all keys".into();
                    return Err(Error::Internal { subject: format!("feature set `{name}`"), reason });
                };
                return compute_entities(engine, set, EntityTables { whole, partial: found.collect() }, manifest).await;
            }
            let files = match facts {
                FactsFrom::Files => Vec::new(),
                FactsFrom::Tiles => table_files(workspace, set, tables, (manifest.as_of, cutoff)).await?,
            };
            let may_read_apart = !files.is_empty() && workspace.incremental_from.is_some();
            let mut found = match entities(engine, name, set, tables, files, (&instants, cutoff)).await {
                // Files that are read one by one take memory of their own.
                Err(Error::Memory { .. } | Error::Limit { .. }) if may_read_apart => {
                    entities(engine, name, set, tables, Vec::new(), (&instants, cutoff)).await?
                }
                made => made?,
            };
            let mut unfinished = found.take_unfinished();
            let rows = async { compute_entities(engine, set, found.at(0)?, manifest).await };
            match rows.await {
                Ok(computed) => Ok(Computed { unfinished, ..computed }),
                Err(error) => {
                    unfinished.finish().await;
                    Err(error)
                }
            }
        }
    }
}

/// As [`compute`], of rows that a query has made.
pub(super) async fn compute_of_queried(
    engine: &Engine,
    set: &RowSet,
    queried: QueriedRows,
    mut manifest: Manifest,
) -> Result<Computed> {
    let whole = compute_queried(engine, set, queried, &mut manifest).await?;
    Ok(Computed::new(manifest, whole, Vec::new()))
}

/// As [`compute`], of entities whose features are there.
pub(super) async fn compute_entities(
    engine: &Engine,
    set: &EntitySet,
    EntityTables { whole, partial: groups }: EntityTables,
    mut manifest: Manifest,
) -> Result<Computed> {
    manifest.keys = set.keys.clone();
    manifest.columns = columns_of(&whole);
    manifest.rows_seen = whole.rows.len();
    let whole = written(whole, PartOf::Whole, engine.partitions()).await?;
    let mut partial = Vec::with_capacity(groups.len());
    for (i, rows) in groups.into_iter().enumerate() {
        let (keys, columns) = (rows.keys.clone(), columns_of(&rows));
        manifest.partial.push(PartialRows { keys, columns, rows: 0, parts: Vec::new() });
        partial.push(written(rows, PartOf::PartialRows(i), engine.partitions()).await?);
    }
    Ok(Computed::new(manifest, whole, partial))
}

fn columns_of(rows: &EntityTable) -> Vec<Column> {
    rows.rows.schema().fields().iter().map(|field| Column::from_field(field)).collect()
}

/// Rows in files on this machine's disk.
async fn written(rows: EntityTable, of: PartOf, threads: usize) -> Result<FinishedParts> {
    let work = tokio::task::spawn_blocking(move || {
        let mut parts = PartsWriter::new(rows.rows.schema().clone()).threads(threads).of(of);
        rows.rows.each_batch(|batch| parts.write(&batch))?;
        parts.finish()
    });
    work.await.map_err(|e| Error::lost_task("writing the rows of a set of entities", e))?
}

impl Computed {
    fn new(manifest: Manifest, whole: FinishedParts, partial: Vec<FinishedParts>) -> Self {
        Self { manifest, whole, partial, unfinished: UnfinishedTiles::default() }
    }

    /// Takes the tiles that are still being made or stored. The caller finishes them before it returns.
    pub(super) fn take_unfinished(&mut self) -> UnfinishedTiles {
        std::mem::take(&mut self.unfinished)
    }

    /// The manifest that would be published.
    pub(super) fn manifest(&self) -> Result<Manifest> {
        let partial = self.partial.iter().map(FinishedParts::parts).collect::<Result<_>>()?;
        Ok(with_files(self.manifest.clone(), self.whole.parts()?, partial))
    }

    /// The files of the rows, then those of the partial rows in their order.
    pub(super) fn into_files(self) -> impl Iterator<Item = FinishedParts> {
        std::iter::once(self.whole).chain(self.partial)
    }

    /// Puts the files into the store and returns the manifest that names them. To publish it is left to the caller.
    pub(super) async fn publish(self, location: &Location) -> Result<Manifest> {
        let whole = self.whole.publish(location).await?;
        let mut partial = Vec::with_capacity(self.partial.len());
        for files in self.partial {
            partial.push(files.publish(location).await?);
        }
        Ok(with_files(self.manifest, whole, partial))
    }
}

fn with_files(mut manifest: Manifest, whole: Vec<Part>, partial: Vec<Vec<Part>>) -> Manifest {
    let rows = |parts: &[Part]| parts.iter().map(|part| part.rows).sum();
    for (group, parts) in manifest.partial.iter_mut().zip(partial) {
        (group.rows, group.parts) = (rows(&parts), parts);
    }
    (manifest.rows, manifest.parts) = (rows(&whole), whole);
    manifest
}
