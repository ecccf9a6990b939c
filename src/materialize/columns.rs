//! Checks the columns that a set of entities names against those of its tables, and reports all mistakes before anything is planned.
//! Filters of aggregates are SQL, and are checked when they are planned.

use arrow::datatypes::{Field, Schema};

use crate::{
    catalog::Column,
    error::{Error, Result},
    feature_set::{EntitySet, FeatureSet, Source},
    name::TableName,
    workspace::PinnedTable,
};

/// Refuses a set that names columns which its tables do not have, or that aggregates a column of an unsuitable type.
///
/// # Errors
/// [`Error::UnknownColumn`], [`Error::ColumnType`], or [`Error::Mistakes`] with several of them.
pub(crate) fn check_columns(set: &FeatureSet, entities: &EntitySet, tables: &[PinnedTable]) -> Result<()> {
    let mut mistakes: Vec<Error> = Vec::new();
    for source in &entities.sources {
        let name: TableName = source.table.parse()?;
        let Some(pinned) = tables.iter().find(|pinned| *pinned.version.table() == name) else { continue };
        let (version, subject) = (&pinned.version, format!("table `{}`", pinned.version.table()));
        let columns: Vec<Column> = version.columns().iter().chain(version.partition_columns()).cloned().collect();
        source_mistakes(&subject, source, Column::schema(&columns)?.as_ref(), &mut mistakes);
    }
    // The same mistake may be made by several sources of one table.
    let mut reported: Vec<String> = Vec::new();
    mistakes.retain(|mistake| {
        let text = mistake.to_string();
        let is_new = !reported.contains(&text);
        reported.push(text);
        is_new
    });
    Error::all(&format!("feature set `{}`", set.name), mistakes)
}

fn source_mistakes(subject: &str, source: &Source, schema: &Schema, mistakes: &mut Vec<Error>) {
    let mut find = |column: &str| -> Option<Field> {
        let found = schema.field_with_name(column).ok().cloned();
        if found.is_none() {
            mistakes.push(Error::unknown_column(subject, column, schema));
        }
        found
    };
    for (_, column) in &source.on {
        find(column);
    }
    for (column, _) in &source.lookups {
        find(column);
    }
    let mut refused = Vec::new();
    for aggregate in source.windows.iter().flat_map(|(_, aggregates)| aggregates) {
        let Some(field) = aggregate.column().and_then(&mut find) else { continue };
        if let Err(needed) = aggregate.kind().result_type(Some(field.data_type())) {
            let (column, found) = (field.name().clone(), field.data_type().to_string());
            refused.push(Error::ColumnType { subject: subject.into(), column, found, needed: needed.into() });
        }
    }
    mistakes.extend(refused);
}
