//! Shows tables as Hive does: `DESCRIBE` and `SHOW CREATE TABLE`.
//! Only the catalog is read, no file.

use super::{properties::properties_of, statement::Detail};
use crate::{
    catalog::{Column, DeclaredColumn, HiveType, TableLocation, TableVersion},
    error::{Error, Result},
    layout::facts_folder,
    storage::Location,
};

/// A column as DDL declares it.
struct Shown {
    name: String,
    hive_type: String,
    comment: Option<String>,
}

/// The statement that makes this table in this library, in Hive and in Athena.
///
/// # Errors
/// [`Error::ColumnType`] for a column whose type Hive does not have.
pub(super) fn create_statement(version: &TableVersion, root: &Location) -> Result<String> {
    let (columns, partition_columns) = (columns(version)?, partition_columns(version)?);
    let table = version.table();
    let mut text = format!("CREATE EXTERNAL TABLE {}.{} (\n", quoted(table.database()), quoted(table.table()));
    text += &listed(&columns);
    text += ")\n";
    if let Some(comment) = &version.details.comment {
        text += &format!("COMMENT {}\n", literal(comment));
    }
    if !partition_columns.is_empty() {
        text += &format!("PARTITIONED BY (\n{})\n", listed(&partition_columns));
    }
    text += &format!("STORED AS PARQUET\nLOCATION {}\n", literal(&location(version, root)));
    let own = version.details.properties.iter().map(|(key, value)| (key.clone(), value.clone()));
    let properties: Vec<String> = properties_of(version.declared())
        .into_iter()
        .chain(own)
        .map(|(key, value)| format!("  {} = {}", literal(&key), literal(&value)))
        .collect();
    text += &format!("TBLPROPERTIES (\n{})", properties.join(",\n"));
    Ok(text)
}

/// Name, type and comment of each column, as Hive lists them.
pub(super) fn describe(version: &TableVersion, root: &Location, detail: Detail) -> Result<Vec<[String; 3]>> {
    let row = |shown: Shown| [shown.name, shown.hive_type, shown.comment.unwrap_or_default()];
    let heading = |text: &str| [text.to_owned(), String::new(), String::new()];
    let pair = |key: &str, value: String| [key.to_owned(), value, String::new()];
    let names = |columns: &[Column], declared: &[DeclaredColumn]| -> Vec<[String; 3]> {
        let shown = columns.iter().enumerate().map(|(i, column)| {
            // A type that Hive lacks is shown by its Arrow name: it can be read, but not declared.
            let own = shown_column(version, column, declared.get(i));
            row(own.unwrap_or_else(|_| Shown { name: column.name.clone(), hive_type: column.data_type.clone(), comment: None }))
        });
        shown.collect()
    };
    let partitioned = names(version.partition_columns(), &version.details.partition_columns);
    let mut rows = names(version.columns(), &version.details.columns);
    rows.extend(partitioned.clone());
    if !partitioned.is_empty() {
        rows.extend([heading(""), heading("# Partition Information"), ["# col_name", "data_type", "comment"].map(str::to_owned)]);
        rows.extend(partitioned);
    }
    if detail == Detail::Extended {
        let size: u64 = version.files().iter().map(|file| file.identity.size).sum();
        rows.extend([
            heading(""),
            heading("# Detailed Table Information"),
            pair("Database:", version.table().database().into()),
            pair("Table:", version.table().table().into()),
            pair("Version:", version.version().to_string()),
            pair("Location:", location(version, root)),
            pair("Comment:", version.details.comment.clone().unwrap_or_default()),
            pair("Partitions:", version.partitions().iter().filter(|p| !p.path.is_empty()).count().to_string()),
            pair("Files:", version.files().len().to_string()),
            pair("Rows:", version.rows().to_string()),
            pair("Bytes:", size.to_string()),
            heading("Table Parameters:"),
        ]);
        let own = version.details.properties.iter().map(|(key, value)| (key.clone(), value.clone()));
        rows.extend(
            properties_of(version.declared()).into_iter().chain(own).map(|(key, value)| pair(&format!("  {key}"), value)),
        );
    }
    Ok(rows)
}

fn columns(version: &TableVersion) -> Result<Vec<Shown>> {
    let declared = &version.details.columns;
    version.columns().iter().enumerate().map(|(i, column)| shown_column(version, column, declared.get(i))).collect()
}

fn partition_columns(version: &TableVersion) -> Result<Vec<Shown>> {
    let declared = &version.details.partition_columns;
    version.partition_columns().iter().enumerate().map(|(i, column)| shown_column(version, column, declared.get(i))).collect()
}

/// A column as it was declared, or by its Arrow type if it was not.
fn shown_column(version: &TableVersion, column: &Column, declared: Option<&DeclaredColumn>) -> Result<Shown> {
    let hive_type = match declared {
        Some(declared) => declared.hive_type()?,
        None => {
            let field = column.to_field()?;
            HiveType::of(field.data_type()).ok_or_else(|| Error::ColumnType {
                subject: format!("table `{}`", version.table()),
                column: column.name.clone(),
                found: column.data_type.clone(),
                needed: "Hive and Athena have no such type; write the files with one they have, or declare the table without it"
                    .into(),
            })?
        }
    };
    let hive_type = match hive_type {
        HiveType::Timestamp if version.details.timestamps_as_bigint() => HiveType::BigInt,
        other => other,
    };
    let comment = declared.and_then(|declared| declared.comment.clone());
    Ok(Shown { name: column.name.clone(), hive_type: hive_type.to_string(), comment })
}

fn location(version: &TableVersion, root: &Location) -> String {
    match version.location() {
        TableLocation::External(location) => location.clone(),
        TableLocation::Managed => root.child(&facts_folder(version.table())).to_text(),
    }
}

fn listed(columns: &[Shown]) -> String {
    let one = |column: &Shown| {
        let comment = column.comment.as_ref().map_or(String::new(), |comment| format!(" COMMENT {}", literal(comment)));
        format!("  {} {}{comment}", quoted(&column.name), column.hive_type)
    };
    columns.iter().map(one).collect::<Vec<_>>().join(",\n")
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n").replace('\t', "\\t"))
}
