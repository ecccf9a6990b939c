//! What a window operator computes, with columns found: which columns are read, which states are kept of each slice, and which
//! output is made of which state.

use arrow::datatypes::DataType;

use super::filter::AggregateFilter;
use crate::{
    error::Result,
    temporal::{
        aggregate::{AggregateKind, StateKind},
        operator::OperatorContext,
        sort_keys::{Encoding, scale_of},
        spec::{OperatorSpec, WindowSpec, fact_position},
    },
};

/// The plan of a window operator. Entries refer to each other by position.
pub(super) struct WindowPlan {
    pub(super) columns: Vec<PlannedColumn>,
    pub(super) inputs: Vec<AggregateInput>,
    pub(super) filters: Vec<AggregateFilter>,
    pub(super) ties: Vec<PlannedColumn>,
    pub(super) states: Vec<PlannedState>,
    /// The different lengths of windows, in ticks; `None` is everything before the instant.
    pub(super) lengths: Vec<Option<i64>>,
    pub(super) outputs: Vec<PlannedOutput>,
}

/// A column of the facts. Without a position it stands for the fact itself.
#[derive(PartialEq)]
pub(super) struct PlannedColumn {
    pub(super) position: Option<usize>,
    pub(super) encoding: Encoding,
}

/// The values that an aggregate is over: those of a column, of all facts or of those that pass a filter. With a column that decides
/// which value counts, facts without a value there are left out.
#[derive(PartialEq)]
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
            filters: context.conditions.iter().cloned().map(AggregateFilter::new).collect(),
            ties: context.tie_break.iter().map(|&position| order_column(context, position)).collect(),
            states: Vec::new(),
            lengths: Vec::new(),
            outputs: Vec::new(),
        };
        let inputs = plan.add_inputs(spec, context)?;
        let needed: Vec<PlannedState> =
            spec.columns.iter().zip(&inputs).map(|(column, input)| plan.state_of(column.kind, *input)).collect();
        for ((column, input), own) in spec.columns.iter().zip(inputs).zip(needed.iter()) {
            let length = column.length_us.and_then(|length| context.unit.length(length));
            let length = position_of(&mut plan.lengths, length);
            if let Some(filter) = input.and_then(|input| plan.inputs[input].filter) {
                plan.filters[filter].add_length(length);
            }
            // A count is read from another state of its input, if one counts too.
            let is_count = own.kind == StateKind::Count && own.input.is_some();
            let counts_too = |other: &&PlannedState| {
                is_count && other.kind != StateKind::Count && other.kind.counts_values() && other.input == own.input
            };
            let state = position_of(&mut plan.states, *needed.iter().find(counts_too).unwrap_or(own));
            let input_type = match &column.input {
                Some(name) => {
                    Some(context.facts_schema.field(fact_position(&context.subject, &context.facts_schema, name)?).data_type())
                }
                None => None,
            };
            plan.outputs.push(PlannedOutput {
                kind: column.kind,
                length,
                state,
                input,
                scale: input_type.and_then(scale_of).unwrap_or(0),
                data_type: column.kind.result_type(input_type).unwrap_or(DataType::Null),
                column: column.input.clone().unwrap_or_default(),
            });
        }
        Ok(plan)
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
                let planned = match &column.input {
                    None if filter.is_none() => continue,
                    None => PlannedColumn { position: None, encoding: Encoding::Presence },
                    Some(name) => {
                        let position = fact_position(&context.subject, &context.facts_schema, name)?;
                        let known = self.columns.iter().find(|known| counts && known.position == Some(position));
                        let own = || column.kind.function().encoding(context.facts_schema.field(position).data_type());
                        PlannedColumn { position: Some(position), encoding: known.map_or_else(own, |known| known.encoding) }
                    }
                };
                let planned = position_of(&mut self.columns, planned);
                let by = match &column.by {
                    Some(name) => {
                        let by = order_column(context, fact_position(&context.subject, &context.facts_schema, name)?);
                        Some(position_of(&mut self.columns, by))
                    }
                    None => None,
                };
                *input = Some(position_of(&mut self.inputs, AggregateInput { column: planned, by, filter }));
            }
        }
        Ok(inputs)
    }

    /// The state that an aggregate over an input needs.
    fn state_of(&self, kind: AggregateKind, input: Option<usize>) -> PlannedState {
        let encoding = input.map_or(Encoding::Presence, |input| self.encoding(input));
        PlannedState { kind: kind.function().state(encoding), input }
    }
}

/// A column whose values are compared.
fn order_column(context: &OperatorContext, position: usize) -> PlannedColumn {
    let encoding = Encoding::for_order(context.facts_schema.field(position).data_type());
    PlannedColumn { position: Some(position), encoding }
}

/// The position of an entry, which is added if it is new.
fn position_of<T: PartialEq>(known: &mut Vec<T>, wanted: T) -> usize {
    known.iter().position(|k| *k == wanted).unwrap_or_else(|| {
        known.push(wanted);
        known.len() - 1
    })
}
