//! What changed in the columns of source files from one to the next: names, types, order.
//! It reports and refuses nothing; whether the values fit is decided value by value.

use super::options::Format;
use crate::catalog::{SourceColumn, SourceSchema, TableVersion};

/// A difference between the columns of a source file and those of the file before it: the one that was read before it in
/// the same load, or the last one of the table's newest load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChange {
    /// The file, by its name relative to the folder it was read from.
    pub file: String,
    /// The column, as it is called in the table.
    pub column: String,
    /// What changed.
    pub change: ColumnChange,
}

/// What changed about a column. Types are Arrow's, as the file holds them or as they were inferred; `Null` is that of a
/// column without a value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ColumnChange {
    /// The file before did not have it; it is NULL in older rows.
    Added {
        /// Its type.
        data_type: String,
    },
    /// The file before had it; it is NULL in the rows of this one.
    Missing {
        /// The type it had.
        data_type: String,
    },
    /// The file calls it something else than the file before.
    Renamed {
        /// What the file before called it.
        from: String,
        /// What this one calls it.
        to: String,
    },
    /// Its values are of another type.
    Type {
        /// The type before.
        from: String,
        /// The type now.
        to: String,
    },
    /// It has moved past other columns. Both are counted from 1. Files of JSON lines have no order.
    Order {
        /// Its place in the file before.
        from: usize,
        /// Its place in this one.
        to: usize,
    },
}

/// The columns of the file before a load's first one, as far as the table tells.
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
    let find = |schema: &SourceSchema, name: &str| schema.columns.iter().position(|column| column.name == name);
    let mut places = Vec::new();
    for (to, column) in after.columns.iter().enumerate() {
        let Some(from) = find(before, &column.name) else {
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
        let stay = longest_rise(&places);
        for (from, to) in places.iter().filter(|place| !stay.contains(place)) {
            add(&after.columns[*to], ColumnChange::Order { from: from + 1, to: to + 1 });
        }
    }
    for column in before.columns.iter().filter(|column| find(after, &column.name).is_none()) {
        add(column, ColumnChange::Missing { data_type: column.data_type.clone() });
    }
    changes
}

/// The longest run of places, with gaps, whose first numbers rise: the columns that have kept their order.
fn longest_rise(places: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut best: Vec<(usize, Option<usize>)> = Vec::with_capacity(places.len());
    for (i, (from, _)) in places.iter().enumerate() {
        let previous = (0..i).filter(|&j| places[j].0 < *from).max_by_key(|&j| (best[j].0, std::cmp::Reverse(j)));
        best.push((previous.map_or(1, |j| best[j].0 + 1), previous));
    }
    let mut at = (0..places.len()).max_by_key(|&i| (best[i].0, std::cmp::Reverse(i)));
    let mut run = Vec::new();
    while let Some(i) = at {
        run.push(places[i]);
        at = best[i].1;
    }
    run
}
