//! `information_schema`: all databases and tables, not only those that a query names.
//! Only schemas are registered; no rows can be read through it.

use std::{ops::ControlFlow, sync::Arc};

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::{
    catalog::MemorySchemaProvider,
    common::TableReference,
    datasource::empty::EmptyTable,
    prelude::SessionContext,
    sql::{
        parser::Statement,
        sqlparser::ast::{ObjectName, Visit, Visitor},
    },
};

use super::statement::parse;
use crate::{
    catalog::{Catalog, Column, TableVersion},
    engine::CATALOG,
    error::Result,
    name::TableName,
    scan::{Providers, Sources},
};

const NAME: &str = "information_schema";

/// Databases and tables with their columns.
#[derive(Debug, Clone)]
pub(crate) struct InformationSchema {
    databases: Vec<String>,
    tables: Vec<(TableName, SchemaRef)>,
}

impl InformationSchema {
    /// The tables of the catalog and of this process; `None` if the query does not read `information_schema`.
    pub(crate) async fn read_by(sql: &str, catalog: &Catalog, providers: &Providers) -> Result<Option<Self>> {
        if !names_it(sql)? {
            return Ok(None);
        }
        let mut tables = Vec::new();
        for name in catalog.tables().await? {
            // The table may have been dropped since it was listed.
            if let Some(version) = catalog.find(&name).await? {
                tables.push((name, schema_of(&version)?));
            }
        }
        for (name, schema) in providers.schemas() {
            tables.retain(|(known, _)| *known != name);
            tables.push((name, schema));
        }
        Ok(Some(Self { databases: catalog.databases().await?, tables }))
    }

    /// Adds tables.
    pub(crate) fn add(&mut self, tables: Vec<(TableName, SchemaRef)>) {
        self.tables.extend(tables);
    }

    /// Registers `information_schema` in a session in which the tables of `sources` are registered.
    pub(super) fn register(self, session: &SessionContext, sources: &Sources) -> Result<()> {
        session.state_ref().write().config_mut().options_mut().catalog.information_schema = true;
        let Some(catalog) = session.catalog(CATALOG) else { return Ok(()) };
        for database in self.databases.iter().map(String::as_str).chain(self.tables.iter().map(|(name, _)| name.database())) {
            if catalog.schema(database).is_none() {
                catalog.register_schema(database, Arc::new(MemorySchemaProvider::new()))?;
            }
        }
        for (name, schema) in self.tables {
            if !sources.iter().any(|(known, _)| *known == name) {
                let reference = TableReference::full(CATALOG, name.database(), name.table());
                session.register_table(reference, Arc::new(EmptyTable::new(schema)))?;
            }
        }
        Ok(())
    }
}

/// The columns of the files, then the partition columns.
fn schema_of(version: &TableVersion) -> Result<SchemaRef> {
    let (files, folders) = (version.file_schema()?, Column::schema(version.partition_columns())?);
    Ok(Arc::new(Schema::new(files.fields().iter().chain(folders.fields()).cloned().collect::<Vec<_>>())))
}

/// Whether a query reads from `information_schema`.
fn names_it(sql: &str) -> Result<bool> {
    struct Named;
    impl Visitor for Named {
        type Break = ();

        fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
            let is_named = relation.0.iter().rev().nth(1).and_then(|part| part.as_ident());
            match is_named.is_some_and(|ident| ident.value.eq_ignore_ascii_case(NAME)) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
    }
    let mut statement = parse(sql)?.statement;
    while let Statement::Explain(explain) = statement {
        statement = *explain.statement;
    }
    match statement {
        Statement::Statement(statement) => Ok(statement.visit(&mut Named).is_break()),
        _ => Ok(false),
    }
}
