//! Reading tied facts again with all their columns. If facts of one entity have the same times and tie-breaks, all columns
//! decide which of them is newer, whichever columns a query selects.

use std::sync::Arc;

use arrow::{
    array::new_empty_array,
    datatypes::{DataType, Schema},
};
use datafusion::{
    common::{Column, DFSchema, config::ConfigOptions},
    dataframe::DataFrame,
    execution::SessionState,
    logical_expr::{LogicalPlan, Operator},
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, Column as PhysicalColumn, lit as literal},
    },
    physical_optimizer::{PhysicalOptimizerRule, filter_pushdown::FilterPushdown},
    physical_plan::{ExecutionPlan, execution_plan::reset_plan_states, filter::FilterExec},
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
    pub(super) rows: AllColumns,
    pub(crate) input: Arc<PhysicalFactInput<()>>,
    /// The columns that decide between facts of one entity with the same times and tie-breaks, in the order in which they are
    /// compared: by name, and last the times, since different local times can be the same instant.
    pub(crate) columns: Vec<String>,
}

/// All facts with all columns.
#[derive(Debug)]
pub(super) enum AllColumns {
    /// Planned when they are read, with the range of times that is read then.
    Query(Box<(LogicalPlan, SessionState)>),
    /// Planned already, for another process.
    Planned(Arc<dyn ExecutionPlan>),
}

impl FullRows {
    /// These facts, joined to the spine as `input` is.
    pub(super) fn new<S>(
        spine: &DFSchema,
        at: &SpineTime,
        input: &FactInput<S>,
        facts: &DFSchema,
        rows: AllColumns,
    ) -> Result<Self> {
        let input = input.of_spec(());
        let schema = Arc::new(facts.as_arrow().clone());
        let input = PhysicalFactInput::plan(spine, at, facts, &input, schema.clone())?;
        Ok(Self { rows, columns: columns(&input, &schema)?, input: Arc::new(input) })
    }

    /// Plans a scan of the facts whose event times, as order numbers, are in this range, both ends included.
    pub(super) async fn read(&self, orders: (i64, i64)) -> Result<Arc<dyn ExecutionPlan>> {
        let (position, decoder) = &self.input.time_decoders[0];
        let (first, last) = match self.input.logical.direction {
            Direction::Backward => orders,
            Direction::Forward => (!orders.1, !orders.0),
        };
        let ns = |order: i64| i128::from(order) * i128::from(decoder.order_ns());
        let data_type = self.input.facts_schema.field(*position).data_type().clone();
        let bound = |value: Option<i64>| value.map(|value| scan::time_literal(&data_type, value)).transpose();
        // The ends also stand for times beyond them, of which all are read.
        let first = if first > FIRST_TICK { bound(decoder.scale.first_at_or_after(ns(first)))? } else { None };
        let end = if last < LAST_TICK { bound(decoder.scale.first_at_or_after(ns(last + 1)))? } else { None };
        match &self.rows {
            AllColumns::Query(query) => {
                let (plan, state) = query.as_ref();
                let mut facts = DataFrame::new(state.clone(), plan.clone());
                let column = || Expr::Column(Column::new_unqualified(decoder.column.clone()));
                if let Some(first) = first {
                    facts = facts.filter(column().gt_eq(lit(first)))?;
                }
                if let Some(end) = end {
                    facts = facts.filter(column().lt(lit(end)))?;
                }
                Ok(facts.create_physical_plan().await?)
            }
            AllColumns::Planned(plan) => {
                let column: Arc<dyn PhysicalExpr> = Arc::new(PhysicalColumn::new(&decoder.column, *position));
                let compared = |operator, value| Arc::new(BinaryExpr::new(column.clone(), operator, literal(value))) as _;
                let bounds = [first.map(|first| compared(Operator::GtEq, first)), end.map(|end| compared(Operator::Lt, end))];
                // Several partitions may read again at once, and what a plan knows of its execution is shared by all who run it.
                let mut facts = reset_plan_states(plan.clone())?;
                for bound in bounds.into_iter().flatten() {
                    facts = Arc::new(FilterExec::try_new(bound, facts)?);
                }
                let mut options = ConfigOptions::default();
                options.execution.parquet.pushdown_filters = true;
                Ok(FilterPushdown::new().optimize(facts, &options)?)
            }
        }
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
