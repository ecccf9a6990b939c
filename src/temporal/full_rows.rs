//! Reading tied facts again with all their columns. If facts of one entity have the same times and tie-breaks, all columns
//! decide which of them is newer, whichever columns a query selects.

use std::sync::Arc;

use arrow::{
    array::new_empty_array,
    datatypes::{DataType, Schema},
};
use datafusion::{
    common::{Column, DFSchema},
    dataframe::DataFrame,
    execution::SessionState,
    logical_expr::LogicalPlan,
    physical_plan::ExecutionPlan,
    prelude::{Expr, lit},
};

use super::{
    fact_input::{FactInput, PhysicalFactInput, SpineTime},
    lookup::column_comparators,
    spec::COMPUTED_PREFIX,
    time_decoder::{Direction, FIRST_TICK, LAST_TICK},
};
use crate::{error::Result, scan, time::Zone};

/// The facts of a table with all columns. They are planned and read only when facts tie.
#[derive(Debug)]
pub(crate) struct FullRows {
    plan: LogicalPlan,
    state: SessionState,
    pub(crate) input: Arc<PhysicalFactInput<()>>,
    /// The columns that decide between facts of one entity with the same times and tie-breaks, in the order in which they are
    /// compared: by name, and last the times, since different local times can be the same instant.
    pub(crate) columns: Vec<String>,
}

impl FullRows {
    /// The facts of this plan, joined to the spine as `input` is.
    pub(super) fn new<S: Clone>(
        spine: &DFSchema,
        at: &SpineTime,
        input: &FactInput<S>,
        plan: &LogicalPlan,
        state: &SessionState,
    ) -> Result<Self> {
        let FactInput { subject, on, declared, cutoff, direction, .. } = input.clone();
        let input = FactInput { subject, on, declared, cutoff, direction, full_rows: None, spec: () };
        let schema = Arc::new(plan.schema().as_arrow().clone());
        let input = PhysicalFactInput::plan(spine, at, plan.schema(), &input, schema.clone())?;
        Ok(Self { plan: plan.clone(), state: state.clone(), columns: columns(&input, &schema)?, input: Arc::new(input) })
    }

    /// Plans a scan of the facts whose event times, as order numbers, are in this range, both ends included.
    pub(super) async fn read(&self, orders: (i64, i64)) -> Result<Arc<dyn ExecutionPlan>> {
        let mut facts = DataFrame::new(self.state.clone(), self.plan.clone());
        let (_, decoder) = &self.input.time_decoders[0];
        let (first, last) = match self.input.logical.direction {
            Direction::Backward => orders,
            Direction::Forward => (!orders.1, !orders.0),
        };
        let ns = |order: i64| i128::from(order) * i128::from(decoder.order_ns());
        let column = || Expr::Column(Column::new_unqualified(decoder.column.clone()));
        let data_type = self.input.facts_schema.field(self.input.time_decoders[0].0).data_type().clone();
        let bound = |value: Option<i64>| value.map(|value| scan::time_literal(&data_type, value).map(lit)).transpose();
        // The ends also stand for times beyond them, of which all are read.
        if first > FIRST_TICK
            && let Some(first) = bound(decoder.scale.first_at_or_after(ns(first)))?
        {
            facts = facts.filter(column().gt_eq(first))?;
        }
        if last < LAST_TICK
            && let Some(end) = bound(decoder.scale.first_at_or_after(ns(last + 1)))?
        {
            facts = facts.filter(column().lt(end))?;
        }
        Ok(facts.create_physical_plan().await?)
    }
}

/// See [`FullRows::columns`].
fn columns(input: &PhysicalFactInput<()>, schema: &Schema) -> Result<Vec<String>> {
    let ties = input.tie_columns()?;
    let times: Vec<usize> = input.time_decoders.iter().map(|(position, _)| *position).collect();
    let is_settled = |position: &usize| {
        ties.contains(position)
            || input.fact_keys.contains(position)
            || schema.field(*position).name().starts_with(COMPUTED_PREFIX)
    };
    let mut all: Vec<usize> =
        (0..schema.fields().len()).filter(|position| !is_settled(position) && !times.contains(position)).collect();
    all.sort_by_key(|&position| schema.field(position).name());
    let local = input.time_decoders.iter().filter(|(position, decoder)| decoder.scale.zone != Zone::UTC && !is_settled(position));
    all.extend(local.map(|(position, _)| *position));
    all.dedup();
    let fields = all.into_iter().map(|position| schema.field(position));
    Ok(fields.filter(|field| is_comparable(field.data_type())).map(|field| field.name().clone()).collect())
}

/// The columns that decide between versions of a fact with the same times, in the order in which they are compared.
pub(super) fn version_order<S>(input: &PhysicalFactInput<S>) -> Result<Vec<usize>> {
    let schema = &input.facts_schema;
    let mut order = input.tie_columns()?;
    let times: Vec<usize> = input.time_decoders.iter().map(|(position, _)| *position).collect();
    let mut others: Vec<usize> =
        (0..schema.fields().len()).filter(|position| !order.contains(position) && !times.contains(position)).collect();
    others.retain(|&position| !schema.field(position).name().starts_with(COMPUTED_PREFIX));
    others.sort_by_key(|&position| schema.field(position).name());
    others.extend(times.into_iter().filter(|time| !order.contains(time)));
    order.extend(others);
    Ok(order)
}

/// Columns of a type without an order do not decide.
fn is_comparable(data_type: &DataType) -> bool {
    let none = [new_empty_array(data_type)];
    column_comparators(&none, &none).is_ok()
}
