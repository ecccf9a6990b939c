//! The operators in a plan that runs in several processes: their rows are divided by entity.
//!
//! A whole operator meets all rows of its spine with all facts, which one process has to do. Here each becomes steps that meet them
//! partition by partition. It stands in the plan as before: the same columns, and one partition in the order of the spine. So this is
//! done after the optimizer, whose decisions stay valid.
//!
//! ```text
//! RestoreOrder: without the numbers
//!   SortPreservingMerge: by number
//!     Sort: by number
//!       AsOfLookup, by partition          for each combination of keys
//!         Repartition: by the keys of the spine, in the types in which keys are compared
//!           NumberRows                    one partition
//!             spine
//!         Repartition: by the keys of the facts
//!           PruneFacts                  if this process has the rows of the spine
//!             Coalesce: keys and instants of the spine
//!             facts
//! ```
//!
//! The spine is shuffled again for tables with other keys, and not for an operator over it with the same keys. An entity is never divided:
//! all of its facts meet in one task. Nor is a fact with several versions: those of a table with an identity are divided by it first, and
//! [`ResolveVersionsExec`] finds from when on each is replaced.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::{
    common::{
        DFSchema, Result as DfResult,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    physical_expr::{
        PhysicalExpr,
        expressions::{Column, try_cast},
    },
    physical_plan::{
        ExecutionPlan, Partitioning,
        coalesce_partitions::CoalescePartitionsExec,
        filter::FilterExec,
        projection::ProjectionExec,
        repartition::RepartitionExec,
        replace_children_if_necessary,
        sorts::{sort::SortExec, sort_preserving_merge::SortPreservingMergeExec},
    },
};

use super::{
    exec::{AsOfExec, Mode},
    fact_input::PhysicalFactInput,
    full_rows::AllColumns,
    number_rows::NumberRowsExec,
    operator::CreateOperator,
    prune_facts::PruneFactsExec,
    pruner::Needed,
    resolve_versions::{AskedFacts, REPLACED_FROM, ResolveVersionsExec},
    restore_order::{RestoreOrderExec, by_number},
    spec::{LookupSpec, WindowSpec},
};
use crate::{
    engine::travels,
    error::{Error, Result},
};

/// The plan with its operators divided among so many partitions.
pub(super) fn partitioned(plan: Arc<dyn ExecutionPlan>, partitions: usize) -> DfResult<Arc<dyn ExecutionPlan>> {
    // What runs here is not divided: sorts that share one budget starve each other.
    if !travels(&plan) {
        return Ok(plan);
    }
    if let Some(sorted) = sorted_in_parts(&plan, partitions)? {
        return Ok(sorted);
    }
    match Steps::of(&plan, partitions, Order::Kept)? {
        Some(steps) => Ok(steps.in_order()?),
        None => {
            let children = plan.children().into_iter().map(|child| partitioned(child.clone(), partitions));
            let children = children.collect::<DfResult<Vec<_>>>()?;
            replace_children_if_necessary(plan, children)
        }
    }
}

/// A sort of an operator's rows, each partition for itself and then merged; `None` for other nodes. The order of the spine does not
/// outlive the sort, so its rows are not numbered.
fn sorted_in_parts(plan: &Arc<dyn ExecutionPlan>, partitions: usize) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
    let Some(sort) = plan.downcast_ref::<SortExec>().filter(|sort| !sort.preserve_partitioning()) else { return Ok(None) };
    let Some(rows) = in_any_order(sort.input(), partitions)? else { return Ok(None) };
    let in_parts = SortExec::new(sort.expr().clone(), rows).with_fetch(sort.fetch()).with_preserve_partitioning(true);
    let merged = SortPreservingMergeExec::new(sort.expr().clone(), Arc::new(in_parts)).with_fetch(sort.fetch());
    Ok(Some(Arc::new(merged)))
}

/// The rows of an operator below projections and filters, divided and in any order; `None` for other nodes.
fn in_any_order(plan: &Arc<dyn ExecutionPlan>, partitions: usize) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
    // A number of rows would be taken from each partition.
    if plan.fetch().is_some() {
        return Ok(None);
    }
    if plan.is::<ProjectionExec>() || plan.is::<FilterExec>() {
        let [input] = plan.children()[..] else { return Ok(None) };
        let Some(input) = in_any_order(input, partitions)? else { return Ok(None) };
        return Ok(Some(replace_children_if_necessary(plan.clone(), vec![input])?));
    }
    Ok(Steps::of(plan, partitions, Order::Free)?.map(|steps| steps.plan))
}

/// Can every operator of a plan be planned in another process? One that has to read tied facts again needs facts that lie in files.
pub(super) fn can_travel(plan: &Arc<dyn ExecutionPlan>) -> DfResult<bool> {
    fn reads_files<S: CreateOperator>(node: &dyn ExecutionPlan) -> bool {
        let Some(operator) = node.downcast_ref::<AsOfExec<S>>() else { return true };
        operator.fact_inputs.iter().filter_map(|input| input.full_rows.as_ref()).all(|full_rows| match &full_rows.rows {
            AllColumns::Planned(rows) => travels(rows),
            AllColumns::Query(_) => false,
        })
    }
    let mut can = true;
    plan.apply(|node| {
        can &= reads_files::<LookupSpec>(node.as_ref()) && reads_files::<WindowSpec>(node.as_ref());
        Ok(if can { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(can)
}

/// The columns of a spine by which its rows are divided, and the types in which they are compared.
type Keys = Vec<(usize, DataType)>;

/// An operator as steps: its columns, and if its order is kept, last the number of the row.
pub(super) struct Steps {
    pub(super) plan: Arc<dyn ExecutionPlan>,
    divided_by: Option<Keys>,
    /// The spine below all operators, if this process has its rows.
    own_spine: Option<Arc<dyn ExecutionPlan>>,
}

/// Is the order of the spine that of the result?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Kept,
    Free,
}

impl Steps {
    /// The steps of an operator; `None` for other nodes.
    pub(super) fn of(node: &Arc<dyn ExecutionPlan>, partitions: usize, order: Order) -> Result<Option<Self>> {
        if let Some(operator) = node.downcast_ref::<AsOfExec<LookupSpec>>() {
            return Self::of_operator(operator, partitions, order).map(Some);
        }
        if let Some(operator) = node.downcast_ref::<AsOfExec<WindowSpec>>() {
            return Self::of_operator(operator, partitions, order).map(Some);
        }
        Ok(None)
    }

    fn of_operator<S: CreateOperator>(operator: &AsOfExec<S>, partitions: usize, order: Order) -> Result<Self> {
        let width = operator.spine.schema().fields().len();
        let mut steps = match Self::of(&operator.spine, partitions, order)? {
            Some(steps) => steps,
            None => {
                let spine = partitioned(operator.spine.clone(), partitions)?;
                // The same part of the plan, since rows that are read twice can be others.
                let own_spine = (!travels(&spine)).then(|| spine.clone());
                let plan = if order == Order::Kept { Arc::new(NumberRowsExec::new(spine)) } else { spine };
                Self { plan, divided_by: None, own_spine }
            }
        };
        // By number of the input, where its columns are in the result of the steps so far.
        let mut outputs: Vec<Vec<usize>> = vec![Vec::new(); operator.fact_inputs.len()];
        let mut done = vec![false; operator.fact_inputs.len()];
        while let Some(first) = done.iter().position(|done| !done) {
            let keys = keys_of(operator, first);
            let together: Vec<usize> = (first..done.len()).filter(|&i| !done[i] && keys_of(operator, i) == keys).collect();
            let spine = steps.divided(&keys, partitions)?;
            let (mut facts, mut inputs) = (Vec::with_capacity(together.len()), Vec::with_capacity(together.len()));
            for &i in &together {
                let of_table = partitioned(operator.facts[i].clone(), partitions)?;
                let (of_table, input) = if operator.fact_inputs[i].identity.is_empty() {
                    (of_table, operator.fact_inputs[i].clone())
                } else {
                    let resolved = with_versions(operator, i, of_table, partitions)?;
                    let input = PhysicalFactInput {
                        replaced_from: resolved.schema().index_of(REPLACED_FROM).ok(),
                        facts_schema: resolved.schema(),
                        ..operator.fact_inputs[i].as_ref().clone()
                    };
                    (resolved, Arc::new(input))
                };
                let of_table = match &steps.own_spine {
                    Some(spine) => pruned(operator, i, spine, of_table)?,
                    None => of_table,
                };
                let keys: Keys = input.fact_keys.iter().copied().zip(input.key_types.iter().cloned()).collect();
                facts.push(divided(of_table, &keys, partitions)?);
                inputs.push(input);
            }
            let mut fields = spine.schema().fields().to_vec();
            for &i in &together {
                let added = operator.added(i)?;
                outputs[i] = (fields.len()..fields.len() + added.len()).collect();
                fields.extend(added);
                done[i] = true;
            }
            let mut asked = operator.asked.as_ref().clone();
            asked.facts = together.iter().filter_map(|&i| asked.facts.get(i).cloned()).collect();
            let schema = Arc::new(Schema::new_with_metadata(fields, spine.schema().metadata().clone()));
            let step = AsOfExec::new(spine, operator.at_position, facts, inputs, Mode::ByPartition, schema, Arc::new(asked))?;
            steps = Self { plan: Arc::new(step), divided_by: Some(keys), own_spine: steps.own_spine };
        }
        // The columns of the operator in their order, and the number, which comes right after those of the spine.
        let number = (order == Order::Kept).then_some(width);
        let columns = (0..width).chain(outputs.into_iter().flatten()).chain(number);
        Ok(Self { plan: projected(steps.plan, columns)?, ..steps })
    }

    /// The rows so far, divided by these keys.
    fn divided(&self, keys: &Keys, partitions: usize) -> Result<Arc<dyn ExecutionPlan>> {
        if self.divided_by.as_ref() == Some(keys) {
            return Ok(self.plan.clone());
        }
        Ok(divided(self.plan.clone(), keys, partitions)?)
    }

    /// One partition in the order of the spine, without the number.
    fn in_order(self) -> Result<Arc<dyn ExecutionPlan>> {
        let unnumbered = || Error::Internal { subject: "numbered rows".into(), reason: "they have no number".into() };
        let order = by_number(&self.plan.schema()).ok_or_else(unnumbered)?;
        let sorted = SortExec::new(order.clone(), self.plan).with_preserve_partitioning(true);
        Ok(Arc::new(RestoreOrderExec::new(Arc::new(SortPreservingMergeExec::new(order, Arc::new(sorted))))))
    }
}

impl<S: CreateOperator> AsOfExec<S> {
    /// The columns that an input adds.
    fn added(&self, input: usize) -> Result<Vec<arrow::datatypes::FieldRef>> {
        let count = |i: usize| -> Result<usize> {
            Ok(self.fact_inputs[i].logical.spec.outputs(&self.fact_inputs[i].facts_schema)?.len())
        };
        let before = (0..input).map(count).sum::<Result<usize>>()?;
        let first = self.spine.schema().fields().len() + before;
        Ok(self.schema().fields().iter().skip(first).take(count(input)?).cloned().collect())
    }
}

/// The keys of the spine by which the facts of an input are found.
fn keys_of<S: CreateOperator>(operator: &AsOfExec<S>, input: usize) -> Keys {
    let input = &operator.fact_inputs[input];
    input.spine_keys.iter().copied().zip(input.key_types.iter().cloned()).collect()
}

/// The facts of a table with an identity, and from when on each is replaced. All versions of a fact meet in one task.
fn with_versions<S: CreateOperator>(
    operator: &AsOfExec<S>,
    i: usize,
    facts: Arc<dyn ExecutionPlan>,
    partitions: usize,
) -> Result<Arc<dyn ExecutionPlan>> {
    let (input, schema) = (&operator.fact_inputs[i], facts.schema());
    let identity: Keys = input.identity.iter().map(|&p| (p, schema.field(p).data_type().clone())).collect();
    let facts = divided(facts, &identity, partitions)?;
    let asked =
        AskedFacts { spine: operator.asked.spine.clone(), at: operator.asked.at.clone(), facts: operator.asked.facts[i].clone() };
    let logical = input.logical.of_spec(());
    let planned = PhysicalFactInput::plan(&asked.spine, &asked.at, &asked.facts, &logical, schema)?;
    Ok(Arc::new(ResolveVersionsExec::new(facts, Arc::new(planned), Arc::new(asked))))
}

/// The facts without those that no row of the spine can be given. Only the keys and instants of the spine are sent to the tasks that read
/// facts.
fn pruned<S: CreateOperator>(
    operator: &AsOfExec<S>,
    i: usize,
    spine: &Arc<dyn ExecutionPlan>,
    facts: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let input = &operator.fact_inputs[i];
    let mut positions = input.spine_keys.clone();
    positions.push(operator.at_position);
    positions.sort_unstable();
    positions.dedup();
    // Keys that an operator below has found are not there yet.
    if positions.last().is_some_and(|&last| last >= spine.schema().fields().len()) {
        return Ok(facts);
    }
    let of_spine = &operator.asked.spine;
    let fields = positions.iter().map(|&p| {
        let (qualifier, field) = of_spine.qualified_field(p);
        (qualifier.cloned(), field.clone())
    });
    let of_spine = DFSchema::new_with_metadata(fields.collect(), of_spine.metadata().clone())?;
    let asked = AskedFacts { spine: Arc::new(of_spine), at: operator.asked.at.clone(), facts: operator.asked.facts[i].clone() };
    let logical = input.logical.of_spec(());
    let planned = PhysicalFactInput::plan(&asked.spine, &asked.at, &asked.facts, &logical, facts.schema())?;
    let spec = &input.logical.spec;
    let needed = Needed { newest: spec.needs_newest_alone(), look_back_us: spec.look_back_us() };
    let spine = Arc::new(CoalescePartitionsExec::new(projected(spine.clone(), positions)?));
    let event_times = operator.event_time_filters[i].clone();
    Ok(Arc::new(PruneFactsExec::new(spine, facts, Arc::new(planned), Arc::new(asked), needed)?.with_event_times(event_times)))
}

/// The rows divided by a hash of these columns, in these types. A key that its type cannot hold is found nowhere.
fn divided(plan: Arc<dyn ExecutionPlan>, keys: &Keys, partitions: usize) -> DfResult<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let key = |(position, data_type): &(usize, DataType)| -> DfResult<Arc<dyn PhysicalExpr>> {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(schema.field(*position).name(), *position));
        if schema.field(*position).data_type() == data_type { Ok(column) } else { try_cast(column, &schema, data_type.clone()) }
    };
    let keys = keys.iter().map(key).collect::<DfResult<Vec<_>>>()?;
    Ok(Arc::new(RepartitionExec::try_new(plan, Partitioning::Hash(keys, partitions))?))
}

pub(super) fn projected(
    plan: Arc<dyn ExecutionPlan>,
    columns: impl IntoIterator<Item = usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let columns = columns.into_iter().map(|position| {
        let name = schema.field(position).name();
        (Arc::new(Column::new(name, position)) as Arc<dyn PhysicalExpr>, name.clone())
    });
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), plan)?))
}
