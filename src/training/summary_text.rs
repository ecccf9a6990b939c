//! A summary as a table for people.

use std::fmt;

use super::summary::{ColumnRole, ColumnSummary, NumberSummary, Summary};
use crate::value::Value;

impl fmt::Display for ColumnRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ColumnRole::Instant => "instant",
            ColumnRole::Feature => "feature",
            ColumnRole::Label => "label",
            ColumnRole::Spine => "spine",
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} rows", self.set, self.rows)?;
        if let Some((first, last)) = self.instants {
            write!(f, " from {first} to {last}")?;
        }
        for (rule, side) in &self.splits {
            write!(f, "; the {side} part of a split {rule}")?;
        }
        writeln!(f)?;
        let mut table = vec![["column", "role", "NULL", "NaN", "min", "mean", "max", "classes"].map(str::to_owned)];
        table.extend(self.columns.iter().map(cells));
        let width = |i: usize| table.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
        let widths: [usize; 8] = std::array::from_fn(width);
        for row in &table {
            let mut line = format!("{:2$}  {:3$}", row[0], row[1], widths[0], widths[1]);
            for (cell, width) in row.iter().zip(widths).take(7).skip(2) {
                line += &format!("  {cell:>width$}");
            }
            line += &format!("  {}", row[7]);
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A column as a row of the table.
fn cells(column: &ColumnSummary) -> [String; 8] {
    let number = |pick: fn(&NumberSummary) -> f64| column.numbers.as_ref().map_or_else(|| "-".to_owned(), |n| short(pick(n)));
    let nans = if column.data_type.is_floating() { column.nans.to_string() } else { "-".into() };
    let class = |(value, count): &(Value, u64)| format!("{}: {count}", shown(value));
    let classes = column.classes.as_ref().map(|classes| classes.iter().map(class).collect::<Vec<_>>().join(", "));
    [
        column.name.clone(),
        column.role.to_string(),
        format!("{:.2}%", 100.0 * column.null_rate()),
        nans,
        number(|n| n.min),
        number(|n| n.mean),
        number(|n| n.max),
        classes.unwrap_or_default(),
    ]
}

/// A number with about six digits.
fn short(x: f64) -> String {
    if x == 0.0 || (1e-4..1e9).contains(&x.abs()) {
        let text = format!("{x:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{x:.4e}")
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Bool(x) => x.to_string(),
        Value::Int(x) => x.to_string(),
        Value::Unsigned(x) => x.to_string(),
        Value::Float(x) => x.to_string(),
        Value::Text(x) => format!("{x:?}"),
        other => format!("{other:?}"),
    }
}
