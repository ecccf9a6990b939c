//! The tables that a query names, and how each name is resolved: a provider, an extract, or a version in the catalog.
//! Nothing is planned here.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{catalog::TableProvider, sql::resolve::resolve_table_references};

use super::{
    statement::{ParsedStatement, parse},
    trailing,
};
use crate::{
    error::{Error, Result},
    extract::{self, ExtractFile, ExtractInput},
    name::TableName,
    scan::{AsOfTable, Providers, Sources, VisibleTable},
    storage::{FileIdentity, Location},
    time::Horizon,
    workspace::{Part, Workspace},
};

/// The tables that a query names, also in the arguments of `trailing`. Its own common table expressions and the tables of
/// `information_schema` are left out.
///
/// # Errors
/// [`Error::Query`] when the text is not one SQL statement, [`Error::Statement`] for one that is refused,
/// [`Error::InvalidName`] for a name that no table can have.
pub(crate) fn tables_in(sql: &str) -> Result<Vec<TableName>> {
    let ParsedStatement { mut statement, shown_table } = parse(sql)?;
    let mut names = trailing::take_tables(&mut statement)?;
    names.extend(shown_table);
    let (references, _) = resolve_table_references(&statement, true)?;
    for reference in references {
        let schema = reference.schema();
        if schema == Some("information_schema") {
            continue;
        }
        let name = match schema {
            Some(schema) => format!("{schema}.{}", reference.table()).parse()?,
            None => reference.table().parse()?,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// The rows of an extract, which were cut at an as-of when it was made. [`open_tables`] has checked that the query may read
/// them.
#[derive(Clone)]
pub(crate) struct ExtractTable {
    pub(crate) name: TableName,
    pub(crate) location: Location,
    pub(crate) rows: Arc<dyn TableProvider>,
}

/// The opened tables of a query.
pub(crate) struct QueryTables {
    pub(crate) facts: Sources,
    pub(crate) extracts: Vec<ExtractTable>,
    /// The tables with the files to be read; providers have none and are not among them.
    pub(crate) inputs: Vec<ExtractInput>,
}

/// Opens the tables that a query names. Fact tables are opened at their newest versions, or at those in `pins`, and cut at
/// the horizon. An extract is opened only if what it holds lies before the horizon. Queries reach the rows of extracts in no
/// other way.
///
/// # Errors
/// [`Error::UnknownTable`] for a name that no table has, and [`Error::Definition`] for an extract that the query may not read
/// and for a pinned table that the query does not name.
pub(crate) async fn open_tables(
    workspace: &Arc<Workspace>,
    subject: &str,
    sql: &str,
    horizon: Horizon,
    mut pins: BTreeMap<TableName, u64>,
    providers: &Providers,
) -> Result<QueryTables> {
    let mut opened = QueryTables { facts: Vec::new(), extracts: Vec::new(), inputs: Vec::new() };
    for name in tables_in(sql)? {
        let pin = pins.remove(&name);
        if pin.is_none()
            && let Some(table) = providers.open(&name, horizon)?
        {
            opened.facts.push((name, table));
            continue;
        }
        if pin.is_none()
            && let Some(found) = extract::find(workspace, &name).await?
        {
            found.record().check_visible(subject, horizon)?;
            let files = found.record().parts.iter().map(|part| ExtractFile { path: part.name.clone(), identity: identity(part) });
            opened.inputs.push(ExtractInput {
                table: name.clone(),
                version: None,
                location: found.location().to_string(),
                files: files.collect(),
            });
            let rows = found.dataframe().await?.into_view();
            opened.extracts.push(ExtractTable { name, location: found.location().clone(), rows });
            continue;
        }
        let version = match pin {
            Some(number) => workspace.catalog.at(&name, number).await?,
            None => workspace.catalog.latest(&name).await?,
        };
        let pinned = workspace.pin(version)?;
        let table = AsOfTable::open(&VisibleTable::new(&pinned, horizon)?).await?;
        opened.inputs.push(ExtractInput {
            table: name.clone(),
            version: Some(pinned.version.version()),
            location: pinned.location.to_string(),
            files: table.files().map(|file| ExtractFile { path: file.path.clone(), identity: file.identity.clone() }).collect(),
        });
        opened.facts.push((name, table));
    }
    if let Some(name) = pins.keys().next() {
        let reason = format!("it names no table `{name}`, of which a version is given");
        return Err(Error::Definition { subject: subject.into(), reason });
    }
    Ok(opened)
}

fn identity(part: &Part) -> FileIdentity {
    FileIdentity { size: part.size, e_tag: None, hash: Some(part.hash) }
}
