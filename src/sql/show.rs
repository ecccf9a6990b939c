//! `SHOW TABLES` and `SHOW COLUMNS` as queries of `information_schema`.
//! Hive's other statements are handled by `ddl`.

use datafusion::sql::{
    parser::{DFParserBuilder, Statement},
    sqlparser::ast::{
        ObjectName, ShowStatementFilter, ShowStatementFilterPosition, ShowStatementOptions, Statement as SqlStatement,
    },
};

use crate::name::TableName;

/// The statement to be planned, and the table of a `SHOW COLUMNS`. An error ends a sentence that begins with the statement.
pub(super) fn rewritten(statement: Statement) -> Result<(Statement, Option<TableName>), String> {
    let Statement::Statement(inner) = &statement else { return Ok((statement, None)) };
    match inner.as_ref() {
        SqlStatement::ShowTables {
            terse: false,
            history: false,
            extended: false,
            full: false,
            external: false,
            show_options,
        } => {
            let mut sql = "SELECT table_schema, table_name FROM information_schema.tables \
                           WHERE table_schema <> 'information_schema'"
                .to_owned();
            if let Some(database) = parent(show_options)? {
                sql += &format!(" AND table_schema = {}", quoted(&name_of(database)?));
            }
            sql += &filter(show_options, "table_name")?;
            sql += " ORDER BY table_schema, table_name";
            Ok((query(&sql)?, None))
        }
        SqlStatement::ShowColumns { extended: false, full: false, show_options } => {
            let Some(table) = parent(show_options)? else { return Err("names no table; write SHOW COLUMNS FROM trips".into()) };
            let table: TableName = name_of(table)?.parse().map_err(|e| format!("names no table: {e}"))?;
            let sql = format!(
                "SELECT column_name, data_type, is_nullable FROM information_schema.columns \
                 WHERE table_schema = {} AND table_name = {}{} ORDER BY ordinal_position",
                quoted(table.database()),
                quoted(table.table()),
                filter(show_options, "column_name")?
            );
            Ok((query(&sql)?, Some(table)))
        }
        _ => Ok((statement, None)),
    }
}

fn query(sql: &str) -> Result<Statement, String> {
    let mut statements =
        DFParserBuilder::new(sql).build().and_then(|mut parser| parser.parse_statements()).map_err(|e| e.to_string())?;
    statements.pop_front().ok_or_else(|| "is empty".into())
}

/// A table or database as written, in lower case unless it is quoted.
fn name_of(name: &ObjectName) -> Result<String, String> {
    let parts = name.0.iter().map(|part| match part.as_ident() {
        Some(ident) if ident.quote_style.is_some() => Ok(ident.value.clone()),
        Some(ident) => Ok(ident.value.to_ascii_lowercase()),
        None => Err(format!("names `{name}`, which is not a name")),
    });
    Ok(parts.collect::<Result<Vec<_>, _>>()?.join("."))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn parent(options: &ShowStatementOptions) -> Result<Option<&ObjectName>, String> {
    if options.starts_with.is_some() || options.limit.is_some() || options.limit_from.is_some() {
        return Err("has STARTS WITH or LIMIT; write LIKE, or query information_schema".into());
    }
    Ok(options.show_in.as_ref().and_then(|place| place.parent_name.as_ref()))
}

fn filter(options: &ShowStatementOptions, column: &str) -> Result<String, String> {
    use ShowStatementFilterPosition::{Infix, Suffix};
    match &options.filter_position {
        None => Ok(String::new()),
        Some(Infix(filter) | Suffix(filter)) => match filter {
            ShowStatementFilter::Like(pattern) | ShowStatementFilter::NoKeyword(pattern) => {
                Ok(format!(" AND {column} LIKE {}", quoted(pattern)))
            }
            ShowStatementFilter::ILike(pattern) => Ok(format!(" AND {column} ILIKE {}", quoted(pattern))),
            ShowStatementFilter::Where(_) => Err("has a WHERE; write LIKE, or query information_schema".into()),
        },
    }
}
