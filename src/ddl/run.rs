//! Executes statements on the catalog, each in one commit or none.
//! The files of a table are read by the catalog, not here.

use super::{
    Answer,
    parse::{beginning_of, parse},
    properties::declaration,
    show,
    statement::{ColumnDef, CreateTable, Statement, Strictness},
};
use crate::{
    catalog::{
        Catalog, Change, Column, DeclaredColumn, Details, HiveType, OnConflict, TIMESTAMPS, add_partitions, drop_partitions,
        partitions_like, register, repair,
    },
    error::{Error, Result},
    storage::{Location, Locations, redacted},
};

/// Executes one statement.
pub(crate) async fn execute(catalog: &Catalog, root: &Location, locations: &Locations, sql: &str) -> Result<Answer> {
    match parse(sql)? {
        Statement::CreateDatabase { name, strictness, comment } => {
            let done = catalog.create_database(&name, comment).await?;
            let (subject, reason) = (format!("database `{name}`"), "exists already; write IF NOT EXISTS".into());
            outcome(done, strictness, ["created", "exists already"], || Error::AlreadyExists { subject, reason })
        }
        Statement::DropDatabase { name, strictness } => {
            let done = catalog.drop_database(&name).await?;
            let (subject, reason) =
                (format!("database `{name}`"), "does not exist; write IF EXISTS, or see SHOW DATABASES".into());
            outcome(done, strictness, ["dropped", "was not there"], || Error::NotFound { subject, reason })
        }
        Statement::ShowDatabases { like } => {
            let names = catalog.databases().await?.into_iter().filter(|name| is_like(name, like.as_deref()));
            Answer::texts(["database_name"], names.map(|name| [name]).collect())
        }
        Statement::CreateTable(create) => create_table(catalog, locations, sql, *create).await,
        Statement::DropTable { table, strictness } => match (catalog.drop_table(&table).await?, strictness) {
            (Change::Done, _) => message("dropped"),
            (Change::Nothing, Strictness::Lenient) => message("was not there"),
            (Change::Nothing, Strictness::Strict) => Err(match catalog.latest(&table).await {
                Err(error) => error,
                // It was made again since the drop.
                Ok(_) => Error::Contention { subject: format!("table `{table}`"), attempts: 1 },
            }),
        },
        Statement::Repair { table } => {
            let report = repair(catalog, locations, &table).await?;
            let (partitions, files) = (&report.partitions, &report.files);
            Answer::numbers(&[
                ("partitions_added", partitions.added.len()),
                ("partitions_removed", partitions.removed.len()),
                ("partitions_changed", partitions.changed.len()),
                ("partitions_unchanged", partitions.unchanged),
                ("files_added", files.added.len()),
                ("files_removed", files.removed.len()),
                ("files_changed", files.changed.len()),
                ("files_unchanged", files.unchanged),
            ])
        }
        Statement::AddPartitions { table, strictness, partitions } => {
            let (_, change) = add_partitions(catalog, locations, &table, &partitions, on_conflict(strictness)).await?;
            message(if change == Change::Done { "added" } else { "exists already" })
        }
        Statement::DropPartitions { table, strictness, specs } => {
            let (_, change) = drop_partitions(catalog, &table, &specs, strictness == Strictness::Lenient).await?;
            message(if change == Change::Done { "dropped" } else { "was not there" })
        }
        Statement::ShowPartitions { table, spec } => {
            let version = catalog.latest(&table).await?;
            if version.partition_columns().is_empty() {
                return Err(Error::Definition { subject: format!("table `{table}`"), reason: "it is not partitioned".into() });
            }
            let wanted: std::collections::BTreeSet<String> =
                partitions_like(&version, &spec)?.map(|values| version.partition_name(values)).collect();
            let names = version.partitions().into_iter().map(|partition| partition.path);
            Answer::texts(["partition"], names.filter(|name| wanted.contains(name)).map(|name| [name]).collect())
        }
        Statement::ShowTables { database, like } => {
            check_database(catalog, &database).await?;
            let tables = catalog.tables().await?.into_iter();
            let names = tables.filter(|table| table.database() == database && is_like(table.table(), like.as_deref()));
            Answer::texts(["tab_name"], names.map(|table| [table.table().to_owned()]).collect())
        }
        Statement::Describe { table, detail } => {
            let version = catalog.latest(&table).await?;
            Answer::texts(["col_name", "data_type", "comment"], show::describe(&version, root, detail)?)
        }
        Statement::ShowCreate { table } => {
            let version = catalog.latest(&table).await?;
            Answer::texts(["createtab_stmt"], vec![[show::create_statement(&version, root)?]])
        }
    }
}

async fn create_table(catalog: &Catalog, locations: &Locations, sql: &str, create: CreateTable) -> Result<Answer> {
    let refused = |reason: String| Error::Statement { statement: beginning_of(sql), reason: redacted(&reason) };
    let CreateTable { table, strictness, columns, partition_columns, comment, location, properties } = create;
    check_database(catalog, table.database()).await?;
    let (declared, properties) = declaration(&properties).map_err(refused)?;
    for time in declared.time_columns() {
        let is_number = columns.iter().any(|c| c.name == time.name() && c.hive_type == HiveType::BigInt);
        if is_number && time.unit.is_none() && properties.get(TIMESTAMPS).is_none_or(|value| value != "bigint") {
            return Err(refused(format!(
                "declares the time `{0}` as bigint: say what it counts with 'asof.event_time.unit' or 'asof.known_at.unit' = \
                 'millisecond', or with '{TIMESTAMPS}' = 'bigint' that the files hold timestamps",
                time.name()
            )));
        }
    }
    let mut partitioned = Vec::with_capacity(partition_columns.len());
    for column in &partition_columns {
        if matches!(column.hive_type, HiveType::Array(_) | HiveType::Map(..) | HiveType::Struct(_) | HiveType::Binary) {
            return Err(refused(format!(
                "partitions by `{}`, a {}, which no folder's name can hold",
                column.name, column.hive_type
            )));
        }
        // The names of folders are compared in lower case.
        let (name, data_type) = (column.name.to_lowercase(), column.hive_type.to_arrow());
        if columns.iter().any(|own| own.name.to_lowercase() == name) {
            return Err(refused(format!("declares `{name}` among the columns and PARTITIONED BY; a column is one or the other")));
        }
        partitioned.push(Column { name, data_type: data_type.to_string(), nullable: true });
    }
    let details = Details {
        comment,
        columns: columns.into_iter().map(declared_column).collect(),
        partition_columns: partition_columns.into_iter().map(declared_column).collect(),
        properties,
        partitions: Vec::new(),
    };
    let place = locations.open(&location)?;
    let (_, change) = register(catalog, &place, &table, declared, (partitioned, details), on_conflict(strictness)).await?;
    message(if change == Change::Done { "created" } else { "exists already" })
}

fn declared_column(column: ColumnDef) -> DeclaredColumn {
    let ColumnDef { name, hive_type, comment } = column;
    DeclaredColumn { name, hive_type: hive_type.to_string(), comment, is_found: false }
}

async fn check_database(catalog: &Catalog, name: &str) -> Result<()> {
    let known = catalog.databases().await?;
    if known.iter().any(|known| known == name) {
        return Ok(());
    }
    let reason = format!("does not exist; there are {}: make it with CREATE DATABASE", known.join(", "));
    Err(Error::NotFound { subject: format!("database `{name}`"), reason })
}

fn on_conflict(strictness: Strictness) -> OnConflict {
    match strictness {
        Strictness::Strict => OnConflict::Refuse,
        Strictness::Lenient => OnConflict::Keep,
    }
}

fn outcome(
    change: Change,
    strictness: Strictness,
    [done, nothing]: [&str; 2],
    refused: impl FnOnce() -> Error,
) -> Result<Answer> {
    match (change, strictness) {
        (Change::Done, _) => message(done),
        (Change::Nothing, Strictness::Lenient) => message(nothing),
        (Change::Nothing, Strictness::Strict) => Err(refused()),
    }
}

fn message(text: &str) -> Result<Answer> {
    Answer::texts(["result"], vec![[text.into()]])
}

/// Hive's patterns: `*` (and SQL's `%`) matches any text, `|` separates alternatives, and case is ignored.
fn is_like(name: &str, pattern: Option<&str>) -> bool {
    let Some(pattern) = pattern else { return true };
    pattern.to_lowercase().split('|').any(|alternative| {
        let parts: Vec<&str> = alternative.split(['*', '%']).collect();
        let [first, middle @ .., last] = parts.as_slice() else { return name == alternative };
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        for part in middle {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    })
}

#[cfg(test)]
mod tests {
    use super::is_like;

    #[test]
    fn patterns_are_those_of_hive() {
        for (name, pattern, expected) in [
            ("trips", "trips", true),
            ("trips", "TR*", true),
            ("trips", "*ip*", true),
            ("trips", "tr*ps", true),
            ("trips", "tri%s", true),
            ("trips", "a*|t*", true),
            ("trips", "trip", false),
            ("trips", "*x*", false),
            ("aba", "ab*ba", false),
            ("trips", "", false),
            ("trips", "*", true),
        ] {
            assert_eq!(is_like(name, Some(pattern)), expected, "{name} LIKE {pattern}");
        }
    }
}
