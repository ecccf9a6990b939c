//! Plans with operators that run in other processes: what is divided there, and what is put together here.
//!
//! If the rows of a spine are those of this process, they do not leave it as a whole. Only keys and instants are sent, with the number of
//! each row; and what comes back, sorted by number, is put beside the row. Projections, filters and limits over such an operator run here.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::{
    common::{DFSchema, Result as DfResult},
    datasource::sink::DataSinkExec,
    physical_plan::{
        ExecutionPlan,
        analyze::AnalyzeExec,
        coalesce_partitions::CoalescePartitionsExec,
        filter::FilterExec,
        limit::{GlobalLimitExec, LocalLimitExec},
        projection::ProjectionExec,
        replace_children_if_necessary,
        sorts::sort::SortExec,
    },
};

use super::{
    exec::{AsOfExec, Asked, Mode},
    fact_input::PhysicalFactInput,
    number_rows::NumberRowsExec,
    operator::CreateOperator,
    partitioned::{Order, Steps, partitioned, projected},
    prune_facts::before_it_leaves,
    restore_order::{RestoreOrderExec, by_number},
    spec::{LookupSpec, WindowSpec},
};
use crate::{
    engine::{Departure, Gather, Runner, hand_over, run_elsewhere, travels},
    error::{Error, Result},
};

/// Rows are numbered there, so that no numbers need to be sent.
const DEPARTURE: Departure = Departure { is_left: |node| node.is::<NumberRowsExec>(), before: before_it_leaves };

/// The plan, whose operators are divided and run elsewhere.
pub(super) fn elsewhere(plan: Arc<dyn ExecutionPlan>, runner: &Arc<dyn Runner>) -> DfResult<Arc<dyn ExecutionPlan>> {
    if let Some(plan) = beside_own_spine(&plan, runner)? {
        return Ok(plan);
    }
    put_in_order_here(partitioned(plan, runner.partitions())?, runner)
}

/// An operator over a spine of this process, perhaps below nodes that may run here; `None` for other plans.
fn beside_own_spine(plan: &Arc<dyn ExecutionPlan>, runner: &Arc<dyn Runner>) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
    let runs_here = plan.is::<ProjectionExec>()
        || plan.is::<FilterExec>()
        || plan.is::<GlobalLimitExec>()
        || plan.is::<LocalLimitExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<AnalyzeExec>()
        || plan.is::<DataSinkExec>();
    if runs_here && let [child] = plan.children()[..] {
        let Some(child) = beside_own_spine(child, runner)? else { return Ok(None) };
        return Ok(Some(replace_children_if_necessary(plan.clone(), vec![child])?));
    }
    let Some(spine) = OwnSpine::of(plan) else { return Ok(None) };
    let narrow = spine.narrowed(plan)?;
    let Some(steps) = Steps::of(&narrow, runner.partitions(), Order::Kept)? else { return Ok(None) };
    let columns = spine.kept.len()..steps.plan.schema().fields().len();
    let found = projected(steps.plan, columns)?;
    let unnumbered = || Error::Internal { subject: "numbered rows".into(), reason: "they have no number".into() };
    let order = by_number(&found.schema()).ok_or_else(unnumbered)?;
    let sorted = Arc::new(SortExec::new(order.clone(), found).with_preserve_partitioning(true));
    Ok(Some(run_elsewhere(sorted, Gather::Beside(order, spine.rows), runner, DEPARTURE)))
}

/// Hands a plan over whose rows get back the order of a spine: here, at the end.
fn put_in_order_here(plan: Arc<dyn ExecutionPlan>, runner: &Arc<dyn Runner>) -> DfResult<Arc<dyn ExecutionPlan>> {
    fn ends_in_order(plan: &Arc<dyn ExecutionPlan>) -> bool {
        plan.is::<RestoreOrderExec>() || plan.is::<ProjectionExec>() && plan.children().into_iter().all(ends_in_order)
    }
    if !ends_in_order(&plan) || !travels(&plan) {
        return hand_over(plan, runner, DEPARTURE);
    }
    let children = plan.children().into_iter().map(|child| put_in_order_here(child.clone(), runner));
    let children = children.collect::<DfResult<Vec<_>>>()?;
    replace_children_if_necessary(plan, children)
}

/// A spine of this process below one or more operators.
struct OwnSpine {
    rows: Arc<dyn ExecutionPlan>,
    width: usize,
    /// The columns that the operators read, in order.
    kept: Vec<usize>,
}

impl OwnSpine {
    fn of(plan: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        let (mut rows, mut read) = (plan, Vec::new());
        while let Some((spine, columns)) = spine_of::<LookupSpec>(rows).or_else(|| spine_of::<WindowSpec>(rows)) {
            rows = spine;
            read.extend(columns);
        }
        if Arc::ptr_eq(rows, plan) || travels(rows) {
            return None;
        }
        let width = rows.schema().fields().len();
        read.retain(|&column| column < width);
        read.sort_unstable();
        read.dedup();
        Some(Self { rows: rows.clone(), width, kept: read })
    }

    /// The operators over the columns of the spine that they read.
    fn narrowed(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(operator) = plan.downcast_ref::<AsOfExec<LookupSpec>>() {
            return self.operator(operator);
        }
        if let Some(operator) = plan.downcast_ref::<AsOfExec<WindowSpec>>() {
            return self.operator(operator);
        }
        projected(self.rows.clone(), self.kept.iter().copied())
    }

    fn operator<S: CreateOperator>(&self, operator: &AsOfExec<S>) -> Result<Arc<dyn ExecutionPlan>> {
        let spine = self.narrowed(&operator.spine)?;
        let old_width = operator.spine.schema().fields().len();
        let inputs = operator.fact_inputs.iter().map(|input| {
            let spine_keys = input.spine_keys.iter().map(|&p| self.position(p)).collect::<Result<_>>()?;
            Ok(Arc::new(PhysicalFactInput { spine_keys, ..input.as_ref().clone() }))
        });
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let named = &operator.asked.spine;
        let columns = self.kept.iter().copied().chain(self.width..named.fields().len()).map(|p| {
            let (qualifier, field) = named.qualified_field(p);
            (qualifier.cloned(), field.clone())
        });
        let named = DFSchema::new_with_metadata(columns.collect(), named.metadata().clone())?;
        let asked = Asked { spine: Arc::new(named), ..operator.asked.as_ref().clone() };
        let schema = operator.schema();
        let fields: Vec<_> = spine.schema().fields().iter().chain(schema.fields().iter().skip(old_width)).cloned().collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        let (at, facts) = (self.position(operator.at_position)?, operator.facts.clone());
        let mut narrow = AsOfExec::new(spine, at, facts, inputs, Mode::Whole(None), schema, Arc::new(asked))?;
        narrow.event_time_filters.clone_from(&operator.event_time_filters);
        Ok(Arc::new(narrow))
    }

    /// Where a column of an operator's spine is now.
    fn position(&self, column: usize) -> Result<usize> {
        if column >= self.width {
            return Ok(column - self.width + self.kept.len());
        }
        let missing = || Error::Internal { subject: "the spine".into(), reason: format!("column {column} was left out") };
        self.kept.binary_search(&column).map_err(|_| missing())
    }
}

/// The spine of an operator, and the columns of it that it reads.
fn spine_of<S: CreateOperator>(plan: &Arc<dyn ExecutionPlan>) -> Option<(&Arc<dyn ExecutionPlan>, Vec<usize>)> {
    let operator = plan.downcast_ref::<AsOfExec<S>>()?;
    let keys = operator.fact_inputs.iter().flat_map(|input| input.spine_keys.iter().copied());
    Some((&operator.spine, keys.chain([operator.at_position]).collect()))
}
