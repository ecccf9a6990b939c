//! What the operators are asked to compute over one fact table: columns to look up, or aggregates over windows.
//! A specification knows names and types. Where a column is and how a result is computed is not its concern.

use std::{
    fmt::{self, Debug},
    hash::Hash,
    sync::Arc,
};

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::{common::TableReference, prelude::Expr};

use super::{aggregate::AggregateKind, window_length::WindowLength};
use crate::{
    error::{Error, Result},
    time::shown_span,
};

/// The prefix of columns that a query has computed from others or selected twice. The columns that they are made of are read
/// too, so computed columns take no part in deciding which of two facts is newer.
pub(crate) const COMPUTED_PREFIX: &str = "asof computed: ";

/// The specification of an operator over one fact table. There are two, [`LookupSpec`] and [`WindowSpec`].
pub(crate) trait OperatorSpec: Debug + Clone + PartialEq + Eq + Hash + Send + Sync + 'static {
    /// The operator's name in `EXPLAIN`.
    const NAME: &'static str;

    /// The columns that the operator adds to the spine.
    fn outputs(&self, facts: &Schema) -> Result<Vec<(Option<TableReference>, FieldRef)>>;

    /// The specification without the outputs whose fact columns were pruned.
    fn pruned(&self, facts: &Schema) -> Self;

    /// A fact that lies longer than this before an instant does not matter to it; `None` if every fact may.
    fn look_back_us(&self) -> Option<i64>;

    /// Does an instant need the newest fact alone that it sees?
    fn needs_newest_alone(&self) -> bool;

    /// The fact columns that each output reads.
    fn columns_read(&self) -> Vec<Vec<&str>>;

    /// Do all columns of the facts decide between facts of the same times?
    fn needs_whole_rows(&self) -> bool {
        false
    }

    /// The filters of aggregates and the conditions of windows, each of them once.
    fn conditions(&self) -> Vec<&Expr> {
        Vec::new()
    }

    /// The expressions that aggregates are over, each of them once, with their types.
    fn values(&self) -> Vec<(&Expr, &DataType)> {
        Vec::new()
    }

    /// Writes it as `EXPLAIN` shows it.
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// Columns of the newest visible fact.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LookupSpec {
    pub(crate) columns: Vec<LookupColumn>,
    pub(crate) max_age_us: Option<i64>,
}

/// A looked-up column: its name in the facts, and its qualifier and name in the result.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LookupColumn {
    pub(crate) fact: String,
    pub(crate) qualifier: Option<TableReference>,
    pub(crate) name: String,
}

/// Aggregates over trailing windows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WindowSpec {
    pub(crate) columns: Vec<WindowColumn>,
}

/// One aggregate over windows of one length.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WindowColumn {
    pub(crate) length: WindowLength,
    /// The condition of the length, over the facts' columns, which are named without their table.
    pub(crate) since: Option<Expr>,
    pub(crate) kind: AggregateKind,
    /// What it is over; `None` if it counts facts.
    pub(crate) input: Option<WindowInput>,
    /// What decides which value of the input counts.
    pub(crate) by: Option<WindowInput>,
    /// A condition over the facts' columns, which are named without their table.
    pub(crate) filter: Option<Expr>,
    pub(crate) name: String,
}

/// What an aggregate is over.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum WindowInput {
    /// A column of the facts.
    Column(String),
    /// An expression over the facts' columns, which are named without their table; with its SQL and its type.
    Expression { text: String, value: Expr, data_type: DataType },
}

impl WindowInput {
    /// The type of its values.
    pub(crate) fn data_type<'a>(&'a self, subject: &str, facts: &'a Schema) -> Result<&'a DataType> {
        match self {
            WindowInput::Column(name) => Ok(fact_field(subject, facts, name)?.data_type()),
            WindowInput::Expression { data_type, .. } => Ok(data_type),
        }
    }

    /// The column or the SQL, for messages.
    pub(crate) fn text(&self) -> &str {
        match self {
            WindowInput::Column(text) | WindowInput::Expression { text, .. } => text,
        }
    }

    fn columns_read(&self) -> Vec<&str> {
        match self {
            WindowInput::Column(name) => vec![name],
            WindowInput::Expression { value, .. } => names_in(value).collect(),
        }
    }
}

impl WindowColumn {
    /// The fact columns that it reads.
    fn columns_read(&self) -> Vec<&str> {
        let of_conditions = self.filter.iter().chain(&self.since).flat_map(names_in);
        self.arguments().flat_map(WindowInput::columns_read).chain(of_conditions).collect()
    }

    /// What its aggregate is over, in the order of its arguments.
    fn arguments(&self) -> impl Iterator<Item = &WindowInput> {
        self.input.iter().chain(&self.by)
    }
}

/// The columns that an expression reads.
fn names_in(expression: &Expr) -> impl Iterator<Item = &str> {
    expression.column_refs().into_iter().map(|column| column.name.as_str())
}

/// The position of a fact column.
pub(crate) fn fact_position(subject: &str, facts: &Schema, name: &str) -> Result<usize> {
    facts.index_of(name).map_err(|_| Error::unknown_column(subject, name, facts))
}

/// The field of a fact column.
pub(crate) fn fact_field<'a>(subject: &str, facts: &'a Schema, name: &str) -> Result<&'a Field> {
    facts.field_with_name(name).map_err(|_| Error::unknown_column(subject, name, facts))
}

impl OperatorSpec for LookupSpec {
    const NAME: &'static str = "AsOfLookup";

    fn outputs(&self, facts: &Schema) -> Result<Vec<(Option<TableReference>, FieldRef)>> {
        let output = |column: &LookupColumn| {
            let field = fact_field("the facts", facts, &column.fact)?;
            Ok((column.qualifier.clone(), Arc::new(field.clone().with_name(&column.name).with_nullable(true))))
        };
        self.columns.iter().map(output).collect()
    }

    fn pruned(&self, facts: &Schema) -> Self {
        let mut spec = self.clone();
        spec.columns.retain(|column| facts.column_with_name(&column.fact).is_some());
        spec
    }

    fn look_back_us(&self) -> Option<i64> {
        self.max_age_us
    }

    fn needs_newest_alone(&self) -> bool {
        true
    }

    fn columns_read(&self) -> Vec<Vec<&str>> {
        self.columns.iter().map(|column| vec![column.fact.as_str()]).collect()
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |column: &'_ LookupColumn| match column.fact.starts_with(COMPUTED_PREFIX) {
            true => column.name.clone(),
            false => column.fact.clone(),
        };
        let names: Vec<String> = self.columns.iter().map(shown).collect();
        write!(f, "newest({})", names.join(", "))?;
        match self.max_age_us {
            Some(age) => write!(f, ", max_age={}", shown_span(age)),
            None => Ok(()),
        }
    }
}

impl WindowSpec {
    /// Does it depend on newer facts whether some window holds a fact?
    fn depends_on_newer_facts(&self) -> bool {
        self.columns.iter().any(|column| column.length.depends_on_newer_facts())
    }

    /// Do all windows hold all facts from their start to the instant?
    pub(super) fn holds_all_to_the_instant(&self) -> bool {
        !self.depends_on_newer_facts() && self.columns.iter().all(|column| column.length.boundaries().is_none())
    }
}

impl OperatorSpec for WindowSpec {
    const NAME: &'static str = "AsOfWindow";

    fn outputs(&self, facts: &Schema) -> Result<Vec<(Option<TableReference>, FieldRef)>> {
        let output = |column: &WindowColumn| {
            let input = column.input.as_ref().map(|input| input.data_type("the facts", facts)).transpose()?;
            let data_type = column.kind.result_type(input).map_err(|needed| Error::ColumnType {
                subject: "the facts".into(),
                column: column.input.as_ref().map_or_else(String::new, |input| input.text().to_owned()),
                found: input.map_or_else(String::new, ToString::to_string),
                needed: needed.into(),
            })?;
            Ok((None, Arc::new(Field::new(&column.name, data_type, true))))
        };
        self.columns.iter().map(output).collect()
    }

    fn pruned(&self, facts: &Schema) -> Self {
        let mut spec = self.clone();
        spec.columns.retain(|column| column.columns_read().iter().all(|name| facts.column_with_name(name).is_some()));
        spec
    }

    fn look_back_us(&self) -> Option<i64> {
        self.columns.iter().map(|column| column.length.at_most_us()).try_fold(0, |longest, length| Some(longest.max(length?)))
    }

    fn needs_newest_alone(&self) -> bool {
        false
    }

    fn columns_read(&self) -> Vec<Vec<&str>> {
        self.columns.iter().map(WindowColumn::columns_read).collect()
    }

    fn needs_whole_rows(&self) -> bool {
        self.depends_on_newer_facts()
    }

    fn conditions(&self) -> Vec<&Expr> {
        let mut conditions = Vec::new();
        let filters = self.columns.iter().filter_map(|column| column.filter.as_ref());
        for condition in filters.chain(self.columns.iter().filter_map(|column| column.since.as_ref())) {
            if !conditions.contains(&condition) {
                conditions.push(condition);
            }
        }
        conditions
    }

    fn values(&self) -> Vec<(&Expr, &DataType)> {
        let mut values = Vec::new();
        for input in self.columns.iter().flat_map(WindowColumn::arguments) {
            if let WindowInput::Expression { value, data_type, .. } = input
                && !values.contains(&(value, data_type))
            {
                values.push((value, data_type));
            }
        }
        values
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.columns.iter().map(|column| {
            let filter = column.filter.as_ref().map_or_else(String::new, |filter| format!(" where {filter}"));
            let arguments = column.arguments().map(WindowInput::text).collect::<Vec<_>>().join(", ");
            format!("{}=[{:?}({arguments}{filter}) over {}]", column.name, column.kind, column.length)
        });
        f.write_str(&parts.collect::<Vec<_>>().join(", "))
    }
}
