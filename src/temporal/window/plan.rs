//! What a window operator computes, with columns found: which columns are read, which states are kept of each slice, and which
//! output is made of which state.

use std::{fmt, iter};

use arrow::datatypes::{DataType, Schema};
use datafusion::prelude::Expr;

use super::{edges::TickLength, seen::SeenExpression};
use crate::{
    error::{Error, Result},
    temporal::{
        aggregate::{AggregateKind, StateKind},
        operator::OperatorContext,
        sort_keys::{Encoding, scale_of},
        spec::{OperatorSpec, WindowInput, WindowSpec, fact_position},
    },
};

/// The plan of a window operator. Entries refer to each other by position.
pub(super) struct WindowPlan {
    pub(super) columns: Vec<PlannedColumn>,
    pub(super) inputs: Vec<AggregateInput>,
    pub(super) filters: Vec<SeenExpression>,
    /// The conditions of lengths.
    pub(super) marks: Vec<SeenExpression>,
    pub(super) values: Vec<PlannedValue>,
    pub(super) ties: Vec<PlannedColumn>,
    pub(super) states: Vec<PlannedState>,
    /// The different lengths of windows.
    pub(super) lengths: Vec<PlannedLength>,
    pub(super) outputs: Vec<PlannedOutput>,
}

/// A length of windows: how far they reach back, after which marking facts they begin, and how many of the newest facts they hold if
/// not all.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct PlannedLength {
    pub(super) reach: TickLength,
    /// The condition among the plan's marks.
    pub(super) since: Option<usize>,
    pub(super) newest: Option<u32>,
}

/// Part of [`WindowPlan::signature`], by which stored tiles are found.
impl fmt::Debug for PlannedLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("PlannedLength");
        shown.field("reach", &self.reach).field("newest", &self.newest);
        if let Some(since) = self.since {
            shown.field("since", &since);
        }
        shown.finish()
    }
}

/// A column of values, one per fact.
#[derive(PartialEq)]
pub(super) struct PlannedColumn {
    pub(super) source: ValueSource,
    pub(super) encoding: Encoding,
}

/// Where values come from.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum ValueSource {
    /// The facts themselves, which are counted.
    Facts,
    /// The column at this position.
    Column(usize),
    /// The planned value of this number.
    Value(usize),
}

/// An expression that aggregates are over. It is evaluated for each filter apart, on the facts that pass.
pub(super) struct PlannedValue {
    pub(super) expression: SeenExpression,
    pub(super) filter: Option<usize>,
    /// Its SQL and its type.
    text: String,
    data_type: DataType,
    /// The expression among those of the specification.
    number: usize,
}

/// The values that an aggregate is over: those of all facts or of those that pass a filter. With a column that decides which value
/// counts, facts without a value there are left out.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct AggregateInput {
    pub(super) column: usize,
    pub(super) by: Option<usize>,
    pub(super) filter: Option<usize>,
}

/// A state that is kept of each slice. Without an input it is over all facts.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct PlannedState {
    pub(super) kind: StateKind,
    pub(super) input: Option<usize>,
}

/// An output: an aggregate over windows of one length.
pub(super) struct PlannedOutput {
    pub(super) kind: AggregateKind,
    pub(super) length: usize,
    pub(super) state: usize,
    pub(super) input: Option<usize>,
    /// The digits after the point of the input, if it is a decimal; else zero.
    pub(super) scale: i8,
    pub(super) data_type: DataType,
    /// The name of the input, for messages.
    pub(super) column: String,
}

impl WindowPlan {
    pub(super) fn new(spec: &WindowSpec, context: &OperatorContext) -> Result<Self> {
        let mut plan = Self {
            columns: Vec::new(),
            inputs: Vec::new(),
            filters: context.expressions.conditions.iter().cloned().map(SeenExpression::filter).collect(),
            marks: Vec::new(),
            values: Vec::new(),
            ties: context.tie_break.iter().map(|&position| tie_column(context, position)).collect(),
            states: Vec::new(),
            lengths: Vec::new(),
            outputs: Vec::new(),
        };
        let inputs = plan.add_inputs(spec, context)?;
        let needed: Vec<PlannedState> =
            spec.columns.iter().zip(&inputs).map(|(column, input)| plan.state_of(column.kind, *input)).collect();
        let mut marks: Vec<&Expr> = Vec::new();
        for ((column, input), own) in spec.columns.iter().zip(inputs).zip(needed.iter()) {
            let since = match &column.since {
                Some(condition) => Some(plan.mark(&mut marks, condition, spec, context)?),
                None => None,
            };
            let reach = TickLength::new(&column.length, context.unit);
            let length = position_of(&mut plan.lengths, PlannedLength { reach, since, newest: column.length.newest });
            if let Some(mark) = since {
                plan.marks[mark].add_length(length);
            }
            if let Some(AggregateInput { column, by, filter }) = input.map(|input| plan.inputs[input]) {
                if let Some(filter) = filter {
                    plan.filters[filter].add_length(length);
                }
                for column in iter::once(column).chain(by) {
                    if let ValueSource::Value(value) = plan.columns[column].source {
                        plan.values[value].expression.add_length(length);
                    }
                }
            }
            // A count is read from another state of its input, if one counts too.
            let is_count = own.kind == StateKind::Count && own.input.is_some();
            let counts_too = |other: &&PlannedState| {
                is_count && other.kind != StateKind::Count && other.kind.counts_values() && other.input == own.input
            };
            let state = position_of(&mut plan.states, *needed.iter().find(counts_too).unwrap_or(own));
            let of_input = column.input.as_ref().map(|input| input.data_type(&context.subject, &context.facts_schema));
            let input_type = of_input.transpose()?;
            plan.outputs.push(PlannedOutput {
                kind: column.kind,
                length,
                state,
                input,
                scale: input_type.and_then(scale_of).unwrap_or(0),
                data_type: column.kind.result_type(input_type).unwrap_or(DataType::Null),
                column: column.input.as_ref().map_or_else(String::new, |input| input.text().to_owned()),
            });
        }
        Ok(plan)
    }

    /// Which lengths of windows hold a fact that lies beyond so many of them, the shortest first.
    pub(super) fn holds(&self, level: usize) -> Vec<bool> {
        let key = |length: &PlannedLength| match length.reach {
            TickLength::Fixed(ticks) => (false, ticks),
            // Facts of other windows have no level.
            TickLength::Everything | TickLength::Calendar(..) | TickLength::Hopping(..) => (true, 0),
        };
        let shorter = |length: &PlannedLength| self.lengths.iter().filter(|other| key(other) < key(length)).count();
        self.lengths.iter().map(|length| shorter(length) >= level).collect()
    }

    /// What its states are made of, as a text: states of the same text can be added up.
    pub(super) fn signature(&self, facts: &Schema) -> String {
        let filter = |filter: &usize| self.filters[*filter].to_string();
        let name = |column: &PlannedColumn| {
            let source = match column.source {
                ValueSource::Facts => "the facts".to_owned(),
                ValueSource::Column(position) => {
                    let field = facts.field(position);
                    format!("column {:?}: {:?}", field.name(), field.data_type())
                }
                ValueSource::Value(value) => {
                    let PlannedValue { expression, filter: passed, text, data_type, .. } = &self.values[value];
                    let passed = passed.as_ref().map(filter);
                    format!("{text:?}, which is {:?} where {passed:?}: {data_type:?}", expression.to_string())
                }
            };
            format!("{source} as {:?}", column.encoding)
        };
        let state = |state: &PlannedState| {
            let input = state.input.map(|input| {
                let AggregateInput { column, by, filter: passed } = &self.inputs[input];
                let (column, by) = (name(&self.columns[*column]), by.map(|by| name(&self.columns[by])));
                format!("{column} by {by:?} where {:?}", passed.as_ref().map(filter))
            });
            format!("{:?} of {input:?}", state.kind)
        };
        let states = self.states.iter().map(state).collect::<Vec<_>>();
        format!("{states:?}; ties {:?}; lengths {:?}", self.ties.iter().map(name).collect::<Vec<_>>(), self.lengths)
    }

    /// The encoding of an input's values.
    pub(super) fn encoding(&self, input: usize) -> Encoding {
        self.columns[self.inputs[input].column].encoding
    }

    /// Of an input, the column that decides which value counts, and its encoding.
    pub(super) fn by(&self, input: usize) -> Option<(usize, Encoding)> {
        self.inputs[input].by.map(|column| (column, self.columns[column].encoding))
    }

    /// Finds the input of each aggregate; `None` if it counts all facts.
    ///
    /// A count takes values of any type, in the encoding that another aggregate of the same column needs, if there is one. So
    /// counts come last.
    fn add_inputs(&mut self, spec: &WindowSpec, context: &OperatorContext) -> Result<Vec<Option<usize>>> {
        let conditions = spec.conditions();
        let mut inputs: Vec<Option<usize>> = vec![None; spec.columns.len()];
        for counts in [false, true] {
            let wanted = |kind: AggregateKind| (kind == AggregateKind::Count) == counts;
            for (column, input) in spec.columns.iter().zip(&mut inputs).filter(|(column, _)| wanted(column.kind)) {
                let filter = column.filter.as_ref().and_then(|filter| conditions.iter().position(|known| *known == filter));
                let source = match &column.input {
                    None if filter.is_none() => continue,
                    None => ValueSource::Facts,
                    Some(input) => self.source(spec, input, filter, context)?,
                };
                let encoding = match &column.input {
                    None => Encoding::Presence,
                    Some(input) => {
                        let known = self.columns.iter().find(|known| counts && known.source == source);
                        let data_type = input.data_type(&context.subject, &context.facts_schema)?;
                        known.map_or_else(|| column.kind.function().encoding(data_type), |known| known.encoding)
                    }
                };
                let planned = PlannedColumn { source, encoding };
                let planned = position_of(&mut self.columns, planned);
                let by = match &column.by {
                    Some(by) => {
                        let source = self.source(spec, by, filter, context)?;
                        let encoding = Encoding::for_order(by.data_type(&context.subject, &context.facts_schema)?);
                        Some(position_of(&mut self.columns, PlannedColumn { source, encoding }))
                    }
                    None => None,
                };
                *input = Some(position_of(&mut self.inputs, AggregateInput { column: planned, by, filter }));
            }
        }
        Ok(inputs)
    }

    /// Where the values of an input come from. An expression behind a filter is added if it is new.
    fn source(
        &mut self,
        spec: &WindowSpec,
        input: &WindowInput,
        filter: Option<usize>,
        context: &OperatorContext,
    ) -> Result<ValueSource> {
        let (text, value, data_type) = match input {
            WindowInput::Column(name) => {
                return Ok(ValueSource::Column(fact_position(&context.subject, &context.facts_schema, name)?));
            }
            WindowInput::Expression { text, value, data_type } => (text, value, data_type),
        };
        let number = spec.values().iter().position(|known| *known == (value, data_type));
        let number = number.ok_or_else(|| unplanned(input.text(), context))?;
        if let Some(known) = self.values.iter().position(|known| known.number == number && known.filter == filter) {
            return Ok(ValueSource::Value(known));
        }
        let physical = context.expressions.values.get(number).ok_or_else(|| unplanned(input.text(), context))?;
        let expression = SeenExpression::value(physical.clone(), text, &context.subject);
        self.values.push(PlannedValue { expression, filter, text: text.clone(), data_type: data_type.clone(), number });
        Ok(ValueSource::Value(self.values.len() - 1))
    }

    /// The condition of a length among the plan's marks. It is added if it is new. `known` are the marks' own conditions.
    fn mark<'a>(
        &mut self,
        known: &mut Vec<&'a Expr>,
        condition: &'a Expr,
        spec: &WindowSpec,
        context: &OperatorContext,
    ) -> Result<usize> {
        if let Some(mark) = known.iter().position(|known| *known == condition) {
            return Ok(mark);
        }
        let number = spec.conditions().iter().position(|known| *known == condition);
        let physical = number.and_then(|number| context.expressions.conditions.get(number));
        let physical = physical.ok_or_else(|| unplanned(&condition.to_string(), context))?;
        self.marks.push(SeenExpression::mark(physical.clone(), condition, &context.subject));
        known.push(condition);
        Ok(self.marks.len() - 1)
    }

    /// The state that an aggregate over an input needs.
    fn state_of(&self, kind: AggregateKind, input: Option<usize>) -> PlannedState {
        let encoding = input.map_or(Encoding::Presence, |input| self.encoding(input));
        PlannedState { kind: kind.function().state(encoding), input }
    }
}

fn tie_column(context: &OperatorContext, position: usize) -> PlannedColumn {
    let encoding = Encoding::for_order(context.facts_schema.field(position).data_type());
    PlannedColumn { source: ValueSource::Column(position), encoding }
}

fn unplanned(sql: &str, context: &OperatorContext) -> Error {
    let reason = format!("`{sql}` has no physical expression");
    Error::Internal { subject: format!("the window over {}", context.subject), reason }
}

/// The position of an entry, which is added if it is new.
fn position_of<T: PartialEq>(known: &mut Vec<T>, wanted: T) -> usize {
    known.iter().position(|k| *k == wanted).unwrap_or_else(|| {
        known.push(wanted);
        known.len() - 1
    })
}
