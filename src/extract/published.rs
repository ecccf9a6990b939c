//! The published extracts of a store: one by its table, all runs of a name, all tables with their columns.
//! Nothing is written here; `ctas` publishes runs, and a garbage collection removes them.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::{ExtractRecord, ExtractRun, RunName};
use crate::{
    catalog::Column,
    error::Result,
    layout::{EXTRACT_RECORD, EXTRACTS, runs_folder},
    name::{TableName, check_identifier},
    workspace::Workspace,
};

/// The run with this table, if there is one. A fact table in the catalog takes precedence over a run of the same name.
pub(crate) async fn find(workspace: &Arc<Workspace>, table: &TableName) -> Result<Option<ExtractRun>> {
    let Some(name) = RunName::of_table(table) else { return Ok(None) };
    if workspace.catalog.find(table).await?.is_some() {
        return Ok(None);
    }
    read(workspace, &name.folder()).await
}

async fn read(workspace: &Arc<Workspace>, folder: &str) -> Result<Option<ExtractRun>> {
    let location = workspace.root.child(folder);
    let Some(bytes) = location.get(EXTRACT_RECORD).await? else { return Ok(None) };
    let record = ExtractRecord::parse(&format!("{location}/{EXTRACT_RECORD}"), &bytes)?;
    Ok(Some(ExtractRun::new(workspace.clone(), location, record)))
}

/// The published runs of a name, in the order in which they started.
pub(crate) async fn runs(workspace: &Arc<Workspace>, name: &str) -> Result<Vec<ExtractRecord>> {
    check_identifier("extract", name, name)?;
    let mut found = Vec::new();
    for run in folders(workspace, &runs_folder(name)).await? {
        // A collection may have removed the run since the folder was listed.
        found.extend(read(workspace, &run).await?.map(|run| run.record().clone()));
    }
    found.sort_by(|a, b| (a.started, &a.run).cmp(&(b.started, &b.run)));
    Ok(found)
}

/// The tables of all published runs.
pub(crate) async fn tables(workspace: &Arc<Workspace>) -> Result<Vec<TableName>> {
    let mut names = Vec::new();
    for folder in folders(workspace, EXTRACTS).await? {
        if let [_, name, run] = folder.split('/').collect::<Vec<_>>()[..] {
            names.extend(RunName { name: name.into(), run: run.into() }.table().ok());
        }
    }
    Ok(names)
}

/// The columns of all published runs.
pub(crate) async fn schemas(workspace: &Arc<Workspace>) -> Result<Vec<(TableName, SchemaRef)>> {
    let mut schemas = Vec::new();
    for table in tables(workspace).await? {
        // A collection may have removed the run since it was listed.
        if let Some(run) = find(workspace, &table).await? {
            schemas.push((table, Column::schema(&run.record().columns)?));
        }
    }
    Ok(schemas)
}

/// The folders with a record, beneath this folder of the root.
async fn folders(workspace: &Arc<Workspace>, beneath: &str) -> Result<Vec<String>> {
    let listed = workspace.root.child(beneath).list().await?;
    let names = listed.into_iter().map(|object| workspace.root.name_of(&object.location));
    Ok(names.filter_map(|name| Some(name.strip_suffix(EXTRACT_RECORD)?.trim_end_matches('/').to_owned())).collect())
}
