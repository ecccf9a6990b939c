//! The operators as logical nodes: a spine, and fact tables with what is computed over each of them.
//! A node knows names and types. Positions of columns are found by `planner`.

use std::{cmp::Ordering, fmt, sync::Arc};

use arrow::datatypes::FieldRef;
use datafusion::{
    common::{DFSchema, DFSchemaRef, Result as DfResult, TableReference},
    logical_expr::{Extension, LogicalPlan, UserDefinedLogicalNodeCore},
    prelude::Expr,
};

use super::{
    fact_input::{FactInput, SpineTime, of_spine, spine_field},
    spec::OperatorSpec,
};
use crate::error::{Error, Result};

/// Lookups or windows over several fact tables, at each row of one spine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AsOfNode<S> {
    pub(crate) spine: LogicalPlan,
    pub(crate) at: SpineTime,
    pub(crate) fact_inputs: Vec<(LogicalPlan, FactInput<S>)>,
    schema: DFSchemaRef,
}

impl<S: OperatorSpec> AsOfNode<S> {
    /// Checks types and names, and derives the schema.
    pub(crate) fn try_new(spine: LogicalPlan, at: SpineTime, fact_inputs: Vec<(LogicalPlan, FactInput<S>)>) -> Result<Self> {
        let mut fields: Vec<(Option<TableReference>, FieldRef)> =
            spine.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), field.clone())).collect();
        for (facts, input) in &fact_inputs {
            input.key_types(spine.schema(), facts.schema())?;
            input.time_decoders(at.scale(spine_field(spine.schema(), &at.column)?)?, facts.schema().as_arrow())?;
            for (qualifier, field) in input.spec.outputs(facts.schema().as_arrow())? {
                if qualifier.is_none() && fields.iter().any(|(_, known)| known.name() == field.name()) {
                    let reason =
                        format!("it would add a column `{}`, and there is one already; give it another name", field.name());
                    return Err(Error::Definition { subject: format!("the lookup or window over {}", input.subject), reason });
                }
                fields.push((qualifier, field));
            }
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, spine.schema().as_arrow().metadata().clone())?);
        Ok(Self { spine, at, fact_inputs, schema })
    }

    pub(crate) fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }
}

/// A filter above the operator must not remove facts. DataFusion pushes a filter without columns into every input. Above the
/// spine it has the same effect; above the facts it is removed again.
fn without_filter_from_above(facts: LogicalPlan, before: &LogicalPlan) -> LogicalPlan {
    match facts {
        LogicalPlan::Filter(filter) if filter.input.as_ref() == before => Arc::unwrap_or_clone(filter.input),
        other => other,
    }
}

impl<S: OperatorSpec> PartialOrd for AsOfNode<S> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl<S: OperatorSpec> UserDefinedLogicalNodeCore for AsOfNode<S> {
    fn name(&self) -> &str {
        S::NAME
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        std::iter::once(&self.spine).chain(self.fact_inputs.iter().map(|(facts, _)| facts)).collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: at={}", S::NAME, of_spine(&self.at.column))?;
        for (_, input) in &self.fact_inputs {
            f.write_str(", ")?;
            input.show(&self.at.column, f)?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let mut inputs = inputs.into_iter();
        let spine = inputs.next().unwrap_or_else(|| self.spine.clone());
        let fact_inputs = inputs.zip(&self.fact_inputs).map(|(facts, (before, input))| {
            let facts = without_filter_from_above(facts, before);
            let spec = input.spec.pruned(facts.schema().as_arrow());
            (facts, FactInput { spec, ..input.clone() })
        });
        Ok(Self::try_new(spine, self.at.clone(), fact_inputs.collect())?)
    }

    /// The columns of each input that the wanted outputs need: always keys, times and tie-breaks; values only if wanted.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let spine = self.spine.schema();
        let mut of_spine: Vec<usize> = output_columns.iter().copied().filter(|&i| i < spine.fields().len()).collect();
        let keys = self.fact_inputs.iter().flat_map(|(_, input)| input.on.iter().map(|(column, _)| column));
        for column in keys.chain([&self.at.column]) {
            of_spine.push(spine.maybe_index_of_column(column)?);
        }
        of_spine.sort_unstable();
        of_spine.dedup();
        let mut needed = vec![of_spine];
        let mut first = spine.fields().len();
        for (facts, input) in &self.fact_inputs {
            let schema = facts.schema().as_arrow();
            let inputs = input.spec.columns_read();
            let outputs = first..first + inputs.len();
            first = outputs.end;
            if !input.declared.identity.is_empty() || input.spec.needs_whole_rows() {
                needed.push((0..schema.fields().len()).collect());
                continue;
            }
            let mut names: Vec<&str> = input.required_columns().collect();
            let wanted = outputs.zip(&inputs).filter(|(output, _)| output_columns.contains(output));
            names.extend(wanted.flat_map(|(_, inputs)| inputs));
            let mut positions = names.iter().map(|name| schema.index_of(name).ok()).collect::<Option<Vec<_>>>()?;
            positions.sort_unstable();
            positions.dedup();
            needed.push(positions);
        }
        Some(needed)
    }
}
