//! The commit of a load: one put-if-absent of the next version of its table.
//!
//! The plan was made on an older version. If it would be another plan on the newest version, the load begins again.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arrow::datatypes::Schema;

use super::{
    load::Ingest,
    names::merged,
    outcome::{LoadOutcome, ReplacedRows, replaced_rows},
    plan::{
        LoadPlan,
        replace::{changed_sources, find_load, has_loaded, is_in_place},
        table::check_same_table,
    },
    sources::SourceFile,
};
use crate::{
    catalog::{
        Catalog, Column, FileEntry, LoadRecord, TableLocation, TableVersion,
        expectation::{Expect, joined},
    },
    error::{Error, Result},
    time::month::Month,
};

/// What a load commits.
pub(crate) struct TableChanges<'a> {
    pub(crate) plan: &'a LoadPlan,
    /// All sources that were found, whether they are read or not.
    pub(crate) found: &'a [SourceFile],
    /// The months that are replaced.
    pub(crate) months: &'a [Month],
    /// The files of the planned version that stay; keys were compared with their rows.
    pub(crate) kept_files: &'a [FileEntry],
    pub(crate) new_files: &'a [FileEntry],
    pub(crate) record: &'a LoadRecord,
}

/// A commit.
pub(crate) struct Committed {
    pub(crate) version: TableVersion,
    pub(crate) outcome: LoadOutcome,
    pub(crate) replaced: Vec<ReplacedRows>,
}

/// What the load means for the newest version of its table.
enum Next {
    /// It makes this version of it.
    Version(Box<TableVersion>, Vec<ReplacedRows>),
    /// Another writer has committed the same load.
    Loaded,
    /// The plan no longer holds.
    Replan,
}

impl TableChanges<'_> {
    /// Commits the load; `None` if the table has changed so that the load must begin again.
    pub(crate) async fn commit(&self, catalog: &Catalog) -> Result<Option<Committed>> {
        let (must_replan, is_loaded) = (AtomicBool::new(false), AtomicBool::new(false));
        let replaced = Mutex::default();
        let update = catalog.update(&self.plan.ingest.table, |newest| match self.next(newest)? {
            Next::Version(next, rows) => {
                *replaced.lock().unwrap_or_else(PoisonError::into_inner) = rows;
                Ok(Some(*next))
            }
            Next::Loaded => {
                is_loaded.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Next::Replan => {
                must_replan.store(true, Ordering::Relaxed);
                Err(Error::Contention { subject: format!("table `{}`", self.plan.table()), attempts: 1 })
            }
        });
        let version = match update.await {
            Err(Error::Contention { .. }) if must_replan.into_inner() => return Ok(None),
            done => done?,
        };
        let outcome = if is_loaded.into_inner() { LoadOutcome::AlreadyLoaded } else { LoadOutcome::Loaded };
        let replaced = replaced.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(Committed { version, outcome, replaced }))
    }

    fn next(&self, newest: Option<TableVersion>) -> Result<Next> {
        let LoadPlan { id, ingest, current, expectations, removal, target, .. } = self.plan;
        let mut next = match newest {
            // The table was dropped. Sources that were left out as loaded are gone with it.
            None if current.is_some() => return Ok(Next::Replan),
            None => empty_version(ingest, &target.schema),
            Some(newest) => {
                check_same_table(ingest, &newest)?;
                let was_loaded = match ingest.mode.replaces_months() {
                    true => is_in_place(&newest, *id, &ingest.mode),
                    false => find_load(&newest, *id).is_some(),
                };
                if was_loaded {
                    return Ok(Next::Loaded);
                }
                if !self.plan_holds(&newest)? {
                    return Ok(Next::Replan);
                }
                newest
            }
        };
        let replaced = replaced_rows(&next, self.months);
        removal.apply(&mut next, self.months);
        next.loads.retain(|known| known.id != *id);
        add_columns(&mut next, &target.schema, ingest)?;
        let is_new = |path: &str| next.files.iter().all(|known| known.path != path);
        let added: Vec<_> = self.new_files.iter().filter(|file| is_new(&file.path)).cloned().collect();
        next.files.extend(added);
        next.loads.push(self.record.clone());
        next.expectations.clone_from(expectations);
        next.renames.clone_from(&ingest.renames);
        next.newest_source.clone_from(&self.plan.newest_source);
        Ok(Next::Version(Box::new(next), replaced))
    }

    /// Would the plan on the newest version be the same?
    fn plan_holds(&self, newest: &TableVersion) -> Result<bool> {
        let LoadPlan { ingest, expectations, sources, removal, .. } = self.plan;
        let has_unique = expectations.iter().any(Expect::is_unique);
        let is_planned = joined(&self.plan.table(), &newest.expectations, &ingest.expectations)? == *expectations
            && merged(ingest, Some(newest))? == ingest.renames
            && changed_sources(ingest, self.found, newest)? == *removal
            && (!has_unique || removal.files_kept(newest, self.months) == self.kept_files);
        let is_loaded = |source| !ingest.mode.replaces_months() && has_loaded(newest, removal, source);
        Ok(is_planned && !sources.iter().any(is_loaded))
    }
}

fn add_columns(next: &mut TableVersion, schema: &Schema, ingest: &Ingest) -> Result<()> {
    let positions: HashMap<String, usize> =
        next.columns.iter().enumerate().map(|(position, known)| (known.name.clone(), position)).collect();
    for field in schema.fields() {
        match positions.get(field.name()).and_then(|position| next.columns.get(*position)) {
            None => next.columns.push(Column::from_field(field)),
            Some(known) if *known.data_type == field.data_type().to_string() => {}
            Some(known) => {
                return Err(Error::ColumnType {
                    subject: format!("the load into `{}`", ingest.table),
                    column: known.name.clone(),
                    found: field.data_type().to_string(),
                    needed: format!("another writer has just added it as {}; run the load again", known.data_type),
                });
            }
        }
    }
    Ok(())
}

fn empty_version(ingest: &Ingest, schema: &Schema) -> TableVersion {
    let integer = |name: &String| Column { name: name.clone(), data_type: "Int32".into(), nullable: true };
    let partitions = ingest.partition_columns.iter().map(integer).collect();
    TableVersion {
        columns: schema.fields().iter().map(|f| Column::from_field(f)).collect(),
        ..TableVersion::empty(ingest.table.clone(), TableLocation::Managed, ingest.declared.clone(), partitions)
    }
}
