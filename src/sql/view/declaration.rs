//! The times of a view: which of its columns are the event time, the known-at and the tie-breaks of the tables that its facts
//! come from. All of these must be passed on unchanged, and all tables must declare the same about them.

use arrow::datatypes::DataType;

use super::rows::{Branch, MadeOf};
use crate::{
    catalog::{FactTable, FactTimes, KnownAt, TimeColumn},
    time::shown_span,
};

/// The declaration of a view with these columns; or why it has none, as a sentence about the view. There is at least one branch.
pub(super) fn declared(names: &[String], branches: &[Branch]) -> Result<FactTable, String> {
    let mut times = Vec::with_capacity(branches.len());
    for branch in branches {
        if !branch.declared.identity.is_empty() {
            return Err(format!(
                "it reads `{}`, whose facts are replaced by later versions (its identity is {}), and a view could drop what \
                 tells which version is the latest: use the table itself as the source, with filters and expressions of aggregates",
                branch.table,
                listed(&branch.declared.identity)
            ));
        }
        let of_table = branch.declared.fact_times(&format!("table `{}`", branch.table)).map_err(|e| e.to_string())?;
        times.push((branch, of_table));
    }
    let Some((first, first_times)) = times.first().copied() else { return Err("it reads no table of facts".into()) };
    let columns = View { names, branches };
    let event = columns.passed_by_all("event time", |branch| branch.declared.event_column())?;
    let is_column = |times: &FactTimes| matches!(times.known_at, KnownAt::Column(_));
    for (branch, times) in times.iter().skip(1) {
        differ(first, branch, "event times", &of_time(first, &first_times.event), &of_time(branch, &times.event))?;
        if is_column(first_times) != is_column(times) || !is_column(times) {
            differ(first, branch, "known-at", &shown_known(&first_times.known_at), &shown_known(&times.known_at))?;
        }
        differ(first, branch, "zones", &shown_zone(&first.declared), &shown_zone(&branch.declared))?;
    }
    let known_at = match &first_times.known_at {
        KnownAt::DelayMicros(delay) => KnownAt::DelayMicros(*delay),
        KnownAt::Column(known) => {
            let name = columns.passed_by_all("known-at", |branch| branch.declared.known_column())?;
            for (branch, times) in times.iter().skip(1) {
                if let KnownAt::Column(other) = &times.known_at {
                    differ(first, branch, "known-at times", &of_time(first, known), &of_time(branch, other))?;
                }
            }
            KnownAt::Column(TimeColumn { name, unit: known.unit })
        }
    };
    for (branch, _) in times.iter().skip(1) {
        let (one, other) = (&first.declared.tie_break, &branch.declared.tie_break);
        if one.len() != other.len() {
            differ(first, branch, "tie-breaks", &listed(one), &listed(other))?;
        }
    }
    let tie_break = (0..first.declared.tie_break.len())
        .map(|i| columns.passed_by_all("tie-break", |branch| branch.declared.tie_break.get(i).map(String::as_str)))
        .collect::<Result<_, _>>()?;
    let event = TimeColumn { name: event, unit: first_times.event.unit };
    let times = Some(FactTimes { event, known_at });
    Ok(FactTable { times, zone: first.declared.zone, keys: Vec::new(), tie_break, identity: Vec::new() })
}

struct View<'a> {
    names: &'a [String],
    branches: &'a [Branch],
}

impl View<'_> {
    /// The column of the view that is the same declared column of its table in every branch; `what` names it in messages.
    fn passed_by_all<'b>(&'b self, what: &str, declared: impl Fn(&'b Branch) -> Option<&'b str>) -> Result<String, String> {
        let mut found: Vec<(&Branch, &str, Vec<usize>)> = Vec::with_capacity(self.branches.len());
        for branch in self.branches {
            let Some(column) = declared(branch) else { continue };
            let is_it = |position: &usize| branch.columns.get(*position) == Some(&MadeOf::Column(column.to_owned()));
            let positions: Vec<usize> = (0..self.names.len()).filter(is_it).collect();
            if positions.is_empty() {
                return Err(self.not_passed(what, branch, column));
            }
            found.push((branch, column, positions));
        }
        let in_all = |position: &usize| found.iter().all(|(_, _, positions)| positions.contains(position));
        if let Some(name) = (0..self.names.len()).find(in_all).and_then(|position| self.names.get(position)) {
            return Ok(name.clone());
        }
        let each = found.iter().map(|(branch, column, positions)| {
            let names = positions.iter().filter_map(|&position| self.names.get(position)).map(|name| format!("`{name}`"));
            format!("{} for `{}` (`{column}`)", names.collect::<Vec<_>>().join(" and "), branch.table)
        });
        Err(format!(
            "the {what} is another of its columns in each input of the UNION ALL: {}; select it at the same place in each",
            each.collect::<Vec<_>>().join(", ")
        ))
    }

    fn not_passed(&self, what: &str, branch: &Branch, column: &str) -> String {
        let is_made = |made: &MadeOf| matches!(made, MadeOf::Computed(read) if read.contains(column));
        let computed = branch.columns.iter().position(is_made).and_then(|position| self.names.get(position));
        let table = &branch.table;
        match computed {
            Some(name) => format!(
                "its column `{name}` is computed from `{column}`, the {what} of `{table}`, which it does not pass on: select \
                 `{column}` as it is, too"
            ),
            None => format!("it does not pass on `{column}`, the {what} of `{table}`: select it as it is, under any name"),
        }
    }
}

fn differ(first: &Branch, other: &Branch, what: &str, one: &str, another: &str) -> Result<(), String> {
    if one == another {
        return Ok(());
    }
    Err(format!(
        "its UNION ALL is of tables with different {what}: {one} in `{}`, and {another} in `{}`; facts of one view are known by \
         one rule, so make a view and a source of each",
        first.table, other.table
    ))
}

/// The type and unit of a time column.
fn of_time(branch: &Branch, time: &TimeColumn) -> String {
    let data_type = branch.schema.field_with_name(time.name()).map_or(DataType::Null, |field| field.data_type().clone());
    let unit = time.unit.map_or_else(String::new, |unit| format!(" in units of a {unit:?}").to_lowercase());
    format!("{data_type}{unit}")
}

fn shown_known(known_at: &KnownAt) -> String {
    match known_at {
        KnownAt::Column(column) => format!("the column `{}`", column.name()),
        KnownAt::DelayMicros(delay) => format!("{} after the event time", shown_span(*delay)),
    }
}

fn shown_zone(declared: &FactTable) -> String {
    declared.zone.map_or_else(|| "no zone".to_owned(), |zone| zone.to_string())
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}
