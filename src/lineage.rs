//! Lineage: what a table was made of, down to the files that were loaded.
//! It is read from records and table versions; where one has been removed, the lineage says so.

use std::{fmt, sync::Arc};

use crate::{
    catalog::{LoadRecord, LoadedSource, TableLocation},
    error::{Error, Result},
    extract::{ExtractRecord, find},
    name::{ContentId, TableName},
    workspace::Workspace,
};

/// What a table was made of. It prints as an indented tree.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Lineage {
    /// The table.
    pub table: TableName,
    /// Its version; `None` for an extract, which has only one.
    pub version: Option<u64>,
    /// How it was made.
    pub origin: Origin,
    /// The tables that it was made of.
    pub inputs: Vec<Lineage>,
}

/// How a table was made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Origin {
    /// By a query that was kept as an extract.
    Extract(Box<ExtractRecord>),
    /// By loads of source files into this store.
    Loaded(Vec<LoadRecord>),
    /// Registered in place, at this path or URL.
    Registered(String),
    /// The version or extract has been removed. The records of what was made of it list the files that were read.
    Removed,
}

/// What a table was made of, at its newest version.
pub(crate) async fn lineage(workspace: &Arc<Workspace>, table: &TableName) -> Result<Lineage> {
    let version = match find(workspace, table).await? {
        Some(_) => None,
        None => Some(workspace.catalog.latest(table).await?.version()),
    };
    of(workspace, table.clone(), version).await
}

/// A table, and the version of a fact table.
type Node = (TableName, Option<u64>);

/// A table whose inputs are not complete yet.
struct Pending {
    node: Node,
    lineage: Lineage,
    left: Vec<Node>,
}

/// Walks the inputs without recursion, since a chain of extracts may be long. Extracts can only be made of older extracts;
/// records that say otherwise are damaged.
async fn of(workspace: &Arc<Workspace>, table: TableName, version: Option<u64>) -> Result<Lineage> {
    let mut done = None;
    let mut open: Vec<Pending> = vec![origin_of(workspace, (table, version)).await?];
    while let Some(mut top) = open.pop() {
        top.lineage.inputs.extend(done.take());
        let Some(next) = top.left.pop() else {
            done = Some(top.lineage);
            continue;
        };
        open.push(top);
        if open.iter().any(|above| above.node == next) {
            return Err(Error::Corrupt {
                path: format!("the record of table `{}`", next.0),
                reason: "by its records the table was made of itself; restore the records from a copy of the root".into(),
            });
        }
        open.push(origin_of(workspace, next).await?);
    }
    done.ok_or_else(|| Error::Corrupt { path: "lineage".into(), reason: "it has no table".into() })
}

/// A table without its inputs, and the list of these, last one first.
async fn origin_of(workspace: &Arc<Workspace>, node: Node) -> Result<Pending> {
    let (table, version) = node.clone();
    let mut left = Vec::new();
    let origin = match version {
        Some(number) => match workspace.catalog.version(&table, number).await? {
            None => Origin::Removed,
            Some(found) => match found.location() {
                TableLocation::External(place) => Origin::Registered(place.clone()),
                TableLocation::Managed => Origin::Loaded(found.loads().to_vec()),
            },
        },
        None => match find(workspace, &table).await? {
            None => Origin::Removed,
            Some(run) => {
                left = run.record().inputs.iter().rev().map(|input| (input.table.clone(), input.version)).collect();
                Origin::Extract(Box::new(run.record().clone()))
            }
        },
    };
    Ok(Pending { node, lineage: Lineage { table, version, origin, inputs: Vec::new() }, left })
}

impl Lineage {
    fn write(&self, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indent = "  ".repeat(depth);
        let version = self.version.map_or(String::new(), |version| format!(" version {version}"));
        write!(f, "{indent}{}{version}: ", self.table)?;
        match &self.origin {
            Origin::Extract(record) => {
                let as_of = record.as_of.map_or("without an as-of".into(), |as_of| format!("as of {as_of}"));
                writeln!(f, "{} rows {as_of}, made {} by", record.rows, record.ended)?;
                for line in record.sql.trim().lines() {
                    writeln!(f, "{indent}  | {line}")?;
                }
                for parameter in &record.parameters {
                    writeln!(f, "{indent}  ${} = {:?}", parameter.name, parameter.value)?;
                }
            }
            Origin::Loaded(loads) => {
                // A hash is shortened to its first digits; an entity tag is shown whole.
                let content = |content: &str| content.parse::<ContentId>().map_or_else(|_| content.to_owned(), |id| id.short());
                let told = |source: &LoadedSource| {
                    let bytes = source.bytes.map(|bytes| format!("{bytes} bytes"));
                    let modified = source.modified.map(|modified| format!("changed {modified}"));
                    let all = bytes.into_iter().chain(modified).chain([content(&source.content)]);
                    format!("{} ({})", source.name, all.collect::<Vec<_>>().join(", "))
                };
                let sources: Vec<_> = loads.iter().flat_map(|load| &load.sources).map(told).collect();
                writeln!(f, "loaded from {}", sources.join(", "))?;
            }
            Origin::Registered(place) => writeln!(f, "registered at {place}")?,
            Origin::Removed => writeln!(f, "removed")?,
        }
        self.inputs.iter().try_for_each(|input| input.write(depth + 1, f))
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(0, f)
    }
}
