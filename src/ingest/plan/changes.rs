//! Compares the columns of each source file with those of the file before it: names, types and order.
//! Changes are reported, not refused. Whether values fit is decided value by value.

use std::collections::{HashMap, HashSet};

use crate::{
    catalog::{SourceColumn, SourceSchema, TableVersion},
    ingest::options::Format,
};

/// A difference between the columns of a source file and those of the file before it: the previous file of the same load, or
/// the last file of the table's newest load.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaChange {
    /// The file's name relative to the folder that was given.
    pub file: String,
    /// The column's name in the table.
    pub column: String,
    /// What changed.
    pub change: ColumnChange,
}

/// What changed about a column. Types are Arrow types, as stored in the file or as inferred. A column without a value has the
/// type `Null`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ColumnChange {
    /// The file before did not have the column. It is NULL in older rows.
    Added {
        /// Its type.
        data_type: String,
    },
    /// The file before had the column. It is NULL in the rows of this file.
    Missing {
        /// The type it had.
        data_type: String,
    },
    /// The column has another name in the file than in the file before.
    Renamed {
        /// Its name in the file before.
        from: String,
        /// Its name in this file.
        to: String,
    },
    /// The values have another type.
    Type {
        /// The type before.
        from: String,
        /// The type now.
        to: String,
    },
    /// The column has moved past other columns. Positions count from 1. JSON lines have no order.
    Order {
        /// Its position in the file before.
        from: usize,
        /// Its position in this file.
        to: usize,
    },
}

/// The columns of the file before a load's first file, as the table recorded them.
pub(crate) fn before(table: &TableVersion) -> SourceSchema {
    table.newest_source.clone().unwrap_or_else(|| SourceSchema {
        columns: table
            .columns()
            .iter()
            .map(|c| SourceColumn { found: c.name.clone(), name: c.name.clone(), data_type: c.data_type.clone() })
            .collect(),
        is_ordered: false,
    })
}

/// The columns of a file as the catalog keeps them.
pub(crate) fn recorded(format: Format, columns: Vec<SourceColumn>) -> SourceSchema {
    SourceSchema { columns, is_ordered: format != Format::JsonLines }
}

/// What changed from one file to the next.
pub(crate) fn between(before: &SourceSchema, after: &SourceSchema, file: &str) -> Vec<SchemaChange> {
    let mut changes = Vec::new();
    let mut add = |column: &SourceColumn, change: ColumnChange| {
        changes.push(SchemaChange { file: file.to_owned(), column: column.name.clone(), change });
    };
    let (before_as, after_as) = (by_name(before), by_name(after));
    let mut places = Vec::new();
    for (to, column) in after.columns.iter().enumerate() {
        let Some(&from) = before_as.get(column.name.as_str()) else {
            add(column, ColumnChange::Added { data_type: column.data_type.clone() });
            continue;
        };
        let known = &before.columns[from];
        if known.found != column.found {
            add(column, ColumnChange::Renamed { from: known.found.clone(), to: column.found.clone() });
        }
        if known.data_type != column.data_type {
            add(column, ColumnChange::Type { from: known.data_type.clone(), to: column.data_type.clone() });
        }
        places.push((from, to));
    }
    if before.is_ordered && after.is_ordered {
        let stay: HashSet<_> = longest_increasing(&places).into_iter().collect();
        for (from, to) in places.iter().filter(|place| !stay.contains(place)) {
            add(&after.columns[*to], ColumnChange::Order { from: from + 1, to: to + 1 });
        }
    }
    for column in before.columns.iter().filter(|column| !after_as.contains_key(column.name.as_str())) {
        add(column, ColumnChange::Missing { data_type: column.data_type.clone() });
    }
    changes
}

/// The positions of the columns by name.
fn by_name(schema: &SourceSchema) -> HashMap<&str, usize> {
    schema.columns.iter().enumerate().map(|(place, column)| (column.name.as_str(), place)).collect()
}

/// The longest increasing subsequence by the first number: the columns that kept their order. Of several of the same length, the
/// earliest one, compared from the end.
fn longest_increasing(places: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // For each length, the ends of the subsequences of that length, in the order of `places`. Their first numbers decrease.
    let mut ends: Vec<Vec<usize>> = Vec::new();
    let mut previous = Vec::with_capacity(places.len());
    for (i, (from, _)) in places.iter().enumerate() {
        let is_behind = |end: &usize| places[*end].0 < *from;
        // If no subsequence of a length ends below this number, no longer one does.
        let length = ends.partition_point(|ends| ends.last().is_some_and(is_behind));
        let before = length.checked_sub(1).and_then(|shorter| {
            let ends = &ends[shorter];
            ends.get(ends.partition_point(|end| !is_behind(end))).copied()
        });
        previous.push(before);
        match ends.get_mut(length) {
            Some(ends) => ends.push(i),
            None => ends.push(vec![i]),
        }
    }
    let mut at = ends.last().and_then(|ends| ends.first()).copied();
    let mut run = Vec::new();
    while let Some(i) = at {
        run.push(places[i]);
        at = previous[i];
    }
    run
}
