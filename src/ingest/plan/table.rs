//! Checks that a load fits the table it goes into: managed by this store, with the same declaration, types and partitions.

use crate::{
    catalog::{TableLocation, TableVersion},
    error::{Error, Result},
    ingest::{
        load::Ingest,
        names::merged,
        read::column_parser::{DECLARABLE, is_declarable},
    },
    name::TableName,
};

/// Refuses declared types that a load cannot have.
pub(crate) fn check_declared_types(ingest: &Ingest) -> Result<()> {
    let of_schema = ingest.schema.iter().map(|field| (field.name(), field.data_type()));
    let mut types = ingest.types.iter().map(|(column, data_type)| (column, data_type)).chain(of_schema);
    match types.find(|(_, data_type)| !is_declarable(data_type)) {
        None => Ok(()),
        Some((column, data_type)) => Err(Error::ColumnType {
            subject: format!("the load into `{}`", ingest.table),
            column: column.clone(),
            found: data_type.to_string(),
            needed: format!("a declared type is one of {DECLARABLE}"),
        }),
    }
}

/// Refuses tables whose files another program writes.
pub(crate) fn refuse_external(table: &TableName, current: &TableVersion) -> Result<()> {
    if current.location == TableLocation::Managed {
        return Ok(());
    }
    Err(Error::Definition {
        subject: format!("the change of `{table}`"),
        reason: "the table was registered at the location of its files, and this store does not write there".into(),
    })
}

/// Refuses a load that differs from its table in declaration, column types or partition columns.
pub(crate) fn check_same_table(ingest: &Ingest, current: &TableVersion) -> Result<()> {
    let differs = |what: &str| {
        Err(Error::Definition {
            subject: format!("the load into `{}`", ingest.table),
            reason: format!("its {what} differ from those of the table; load into a table of another name"),
        })
    };
    refuse_external(&ingest.table, current)?;
    if current.declared != ingest.declared {
        return differs("times, zone, keys or tie-breaks");
    }
    merged(ingest, Some(current))?;
    let declared = ingest.declared_types();
    for known in &current.columns {
        let Some(data_type) = declared.get(known.name.as_str()).copied() else { continue };
        let is_time = ingest.declared.time_columns().any(|time| time.name == known.name);
        // The table's times are always instants. A load declares only their unit.
        let is_nanos = |data_type: &str| data_type.starts_with("Timestamp(ns");
        let shown = data_type.to_string();
        let differs = if is_time { is_nanos(&shown) && !is_nanos(&known.data_type) } else { shown != known.data_type };
        if differs {
            return Err(Error::ColumnType {
                subject: format!("table `{}`", ingest.table),
                column: known.name.clone(),
                found: known.data_type.clone(),
                needed: format!("the load declares {data_type}; a table's column keeps its type"),
            });
        }
    }
    if current.partition_columns.iter().map(|c| &c.name).ne(&ingest.partition_columns) {
        return differs("partition columns");
    }
    Ok(())
}
