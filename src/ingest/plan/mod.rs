//! Planning: decides what a load reads, writes and removes, before any row is read.
//! A plan holds for one version of the table. The commit makes the parts of it that depend on the version again.

pub(super) mod changes;
pub(super) mod identity;
mod infer;
pub(super) mod replace;
pub(super) mod table;

use std::sync::Arc;

use changes::SchemaChange;
use identity::load_id;
use infer::{ColumnPlan, plan_columns};
use replace::{Removal, changed_sources, find_load, has_loaded, is_in_place};
use table::check_same_table;

use super::{
    check::{history::History, quality::history_of},
    load::Ingest,
    names::{ColumnNameMap, merged},
    read::source_columns::SourceColumns,
    sources::SourceFile,
    target::Target,
};
use crate::{
    catalog::{
        Catalog, LoadRecord, SourceSchema, TableVersion,
        expectation::{Expect, joined},
    },
    error::Result,
    name::ContentId,
    storage::Location,
};

/// What a load has to do.
pub(crate) enum Planned {
    /// Nothing: the table holds all sources already. The record is that of the load that brought them, or of the last load.
    AlreadyLoaded(Box<(TableVersion, LoadRecord)>),
    Load(Box<LoadPlan>),
}

/// A load on one version of its table.
pub(crate) struct LoadPlan {
    pub(crate) id: ContentId,
    /// The load as it was declared, with the renamings of earlier loads.
    pub(crate) ingest: Ingest,
    /// The table's version; `None` for a new table.
    pub(crate) current: Option<TableVersion>,
    /// The table's expectations and those of the load.
    pub(crate) expectations: Vec<Expect>,
    /// The sources that are read.
    pub(crate) sources: Vec<SourceFile>,
    /// Earlier loads that the load removes.
    pub(crate) removal: Removal,
    pub(crate) target: Target,
    /// The columns of each source.
    pub(crate) columns: Arc<Vec<SourceColumns>>,
    pub(crate) names: ColumnNameMap,
    pub(crate) schema_changes: Vec<SchemaChange>,
    /// The columns of the last source, which the table keeps for the next load.
    pub(crate) newest_source: Option<SourceSchema>,
    /// What the table has seen, and which reports are missing from that.
    pub(crate) history: History,
    pub(crate) notes: Vec<String>,
}

impl LoadPlan {
    /// The table's name.
    pub(crate) fn table(&self) -> String {
        self.ingest.table.to_string()
    }
}

/// Plans a load of these sources on the table's newest version.
pub(crate) async fn plan(root: &Location, catalog: &Catalog, ingest: &Ingest, found: &[SourceFile]) -> Result<Planned> {
    let table = ingest.table.to_string();
    let current = catalog.find(&ingest.table).await?;
    let known: &[Expect] = current.as_ref().map_or(&[], |current| &current.expectations);
    let expectations = joined(&table, known, &ingest.expectations)?;
    let mut sources = found.to_vec();
    let mut removal = Removal::default();
    if let Some(current) = &current {
        check_same_table(ingest, current)?;
    }
    let ingest = Ingest { renames: merged(ingest, current.as_ref())?, ..ingest.clone() };
    if let Some(current) = &current {
        let already_loaded = |record: &LoadRecord| Ok(Planned::AlreadyLoaded(Box::new((current.clone(), record.clone()))));
        removal = changed_sources(&ingest, &sources, current)?;
        if ingest.mode.replaces_months() {
            let id = load_id(&ingest, &expectations, &sources)?;
            if let (true, Some(record)) = (is_in_place(current, id, &ingest.mode), find_load(current, id)) {
                return already_loaded(record);
            }
        } else {
            // Of a folder that has grown only the new sources are loaded.
            sources.retain(|source| !has_loaded(current, &removal, source));
            if let (true, Some(last)) = (sources.is_empty(), current.loads.last()) {
                return already_loaded(last);
            }
        }
    }
    let id = load_id(&ingest, &expectations, &sources)?;
    let (history, notes) = history_of(root, current.as_ref()).await?;
    let ColumnPlan { schema, columns, names, changes, newest } = plan_columns(&ingest, &sources, current.as_ref()).await?;
    let target = Target::new(&ingest.declared, schema)?;
    expectations.iter().try_for_each(|expect| expect.check(&format!("table `{table}`"), &target.schema))?;
    Ok(Planned::Load(Box::new(LoadPlan {
        id,
        ingest,
        current,
        expectations,
        sources,
        removal,
        target,
        columns: Arc::new(columns),
        names,
        schema_changes: changes,
        newest_source: newest,
        history,
        notes,
    })))
}
