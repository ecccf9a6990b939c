//! Lookups and windows for every entity of some fact tables at one instant, in one pass over each table.
//! There is no spine: entities are found in the facts. The operators are those of `lookup` and `window`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray, UInt32Array},
    compute::{SortColumn, SortOptions, cast, lexsort_to_indices, take},
    datatypes::{DataType, Field, Schema},
};
use datafusion::{
    execution::TaskContext,
    physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder},
    prelude::SessionContext,
};

use super::{
    Lookup, Spine, Window,
    budget::Budget,
    entity_facts::{AT, EntityTable, GroupState, SourceRequirements},
    entity_keys::EntityKey,
    keys::{GrowingKeys, Keys, NO_KEY},
    operator::{OperatorOutput, TemporalOperator},
    spine_index::SpineIndex,
    tasks::blocking,
};
use crate::{
    error::{Error, Result},
    time::Horizon,
};

const OPERATOR: &str = "AsOfEntities";

/// Sources that find their facts by the same keys. There is at least one.
pub(crate) struct EntityGroup {
    pub(crate) keys: Vec<EntityKey>,
    pub(crate) sources: Vec<EntitySource>,
}

/// The lookup and the windows of one source. Both have the same facts, and the keys in the order of the group.
pub(crate) struct EntitySource {
    /// The number of the table. Sources of the same number have the same facts, which are read once for all of them.
    pub(crate) table: usize,
    pub(crate) lookup: Option<Lookup>,
    /// Without aggregates it only finds the entities.
    pub(crate) window: Window,
}

/// All entities of some tables at an instant, numbered from zero, with their results.
pub(crate) struct Entities {
    keys: Keys,
    /// The entities with a visible fact, in the order of their keys.
    order: Vec<u32>,
    key_columns: Vec<ArrayRef>,
    outputs: Vec<Arc<dyn OperatorOutput>>,
    /// The reservation for the outputs.
    _budget: Arc<Budget>,
}

impl Entities {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// The keys of some entities, by their positions in the order of the keys.
    pub(crate) fn keys(&self, positions: std::ops::Range<usize>) -> Result<Vec<ArrayRef>> {
        let numbers = UInt32Array::from(self.order[positions].to_vec());
        self.key_columns.iter().map(|column| Ok(take(column, &numbers, None)?)).collect()
    }

    /// The results of some entities, by their positions in the order of the keys: source by source, lookups before windows.
    pub(crate) fn results(&self, positions: std::ops::Range<usize>) -> Result<Vec<ArrayRef>> {
        self.columns(&self.order[positions])
    }

    /// The results for these keys, row by row. A key without a visible fact gets what an empty window gives: 0 or NULL.
    pub(crate) fn results_for(&self, keys: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        let nothing = self.keys.count() as u32;
        let mut numbers = self.keys.find(keys)?;
        numbers.iter_mut().filter(|number| **number == NO_KEY).for_each(|number| *number = nothing);
        self.columns(&numbers)
    }

    fn columns(&self, numbers: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut columns = Vec::new();
        for output in &self.outputs {
            columns.extend(output.columns(numbers)?);
        }
        Ok(columns)
    }
}

/// The entities of a group while their facts are read.
struct OpenGroup {
    spine: Arc<Spine>,
    /// The types of the key columns in the result.
    declared: Vec<DataType>,
    shared: Arc<GroupState>,
    /// By source.
    operators: Vec<Vec<Arc<dyn TemporalOperator>>>,
}

/// The position of a group, and of a source in it.
type SourcePosition = (usize, usize);

/// Finds all entities of each group as of a horizon, and computes their lookups and windows.
///
/// # Errors
/// As [`Spine::lookup`] and [`Spine::window`]; [`Error::ColumnType`] for a key that does not fit into the type in which
/// keys are compared, [`Error::Memory`] if the results do not fit.
pub(crate) async fn entities(groups: Vec<EntityGroup>, horizon: Horizon) -> Result<Vec<Entities>> {
    let mut open = Vec::with_capacity(groups.len());
    let mut tables: BTreeMap<usize, Vec<(SourcePosition, SourceRequirements)>> = BTreeMap::new();
    for (group, EntityGroup { keys, sources }) in groups.into_iter().enumerate() {
        let context = sources.first().map(|source| Arc::new(source.window.facts().rows().task_ctx()));
        let context = context.unwrap_or_else(|| SessionContext::new().task_ctx());
        let mut opened = OpenGroup::new(&keys, &context, horizon)?;
        for (source, EntitySource { table, lookup, window }) in sources.into_iter().enumerate() {
            let lookup = lookup.map(|lookup| lookup.cutoff(horizon.cutoff).requirements(&opened.spine)).transpose()?;
            let window = window.cutoff(horizon.cutoff).requirements(&opened.spine)?;
            let (spine, shared) = (opened.spine.clone(), opened.shared.clone());
            tables.entry(table).or_default().push(((group, source), SourceRequirements { spine, shared, lookup, window }));
            opened.operators.push(Vec::new());
        }
        open.push(opened);
    }
    for required in tables.into_values() {
        let (positions, requirements): (Vec<_>, Vec<_>) = required.into_iter().unzip();
        let operators = EntityTable::plan(requirements).await?.operators().await?;
        for ((group, source), operators) in positions.into_iter().zip(operators) {
            open[group].operators[source] = operators;
        }
    }
    let mut all = Vec::with_capacity(open.len());
    for group in open {
        all.push(group.finish().await?);
    }
    Ok(all)
}

impl OpenGroup {
    fn new(keys: &[EntityKey], context: &TaskContext, horizon: Horizon) -> Result<Self> {
        let types: Vec<DataType> = keys.iter().map(|key| key.compared.clone()).collect();
        let peak = MetricBuilder::new(&ExecutionPlanMetricsSet::new()).gauge("peak_mem_used", 0);
        let at = horizon.as_of.micros();
        let shared = GroupState {
            numbers: GrowingKeys::new(&types)?,
            types,
            index: Arc::new(SpineIndex::of_entities_at(at)),
            at,
            seen: Mutex::default(),
            budget: Arc::new(Budget::new(OPERATOR, context, peak)),
            tasks: context.session_config().target_partitions().max(1),
        };
        let declared = keys.iter().map(|key| key.declared.clone()).collect();
        Ok(Self { spine: Arc::new(spine(keys)?), declared, shared: Arc::new(shared), operators: Vec::new() })
    }

    /// The entities, when all facts have been read.
    async fn finish(self) -> Result<Entities> {
        let Self { declared, shared, operators, .. } = self;
        let mut outputs = Vec::with_capacity(operators.len());
        for operator in operators.into_iter().flatten() {
            outputs.push(blocking(move || operator.output()).await?);
        }
        blocking(move || {
            let Some(GroupState { numbers, seen, budget, .. }) = Arc::into_inner(shared) else {
                let reason = "a task that reads its facts still runs after the query has ended".into();
                return Err(Error::Internal { subject: "the set of entities".into(), reason });
            };
            let (keys, seen) = (numbers.into_keys(), seen.into_inner().unwrap_or_else(PoisonError::into_inner));
            budget.grow("the entities", keys.bytes() + keys.count() * 16)?;
            let columns = keys.columns()?;
            let columns = columns.iter().zip(&declared).map(|(c, t)| Ok(cast(c, t)?)).collect::<Result<Vec<_>>>()?;
            let order = in_order(&columns, &seen)?;
            Ok(Entities { keys, order, key_columns: columns, outputs, _budget: budget })
        })
        .await
    }
}

/// The entities with a visible fact, in the order of their keys.
fn in_order(keys: &[ArrayRef], seen: &[bool]) -> Result<Vec<u32>> {
    let options = Some(SortOptions { descending: false, nulls_first: true });
    let columns: Vec<SortColumn> = keys.iter().map(|values| SortColumn { values: values.clone(), options }).collect();
    let order = lexsort_to_indices(&columns, None)?;
    Ok(order.values().iter().copied().filter(|&number| seen.get(number as usize).is_some_and(|seen| *seen)).collect())
}

/// A spine without rows, with the columns that a spine of all entities would have. Lookups and windows are checked against it.
fn spine(keys: &[EntityKey]) -> Result<Spine> {
    let mut fields: Vec<Field> = keys.iter().map(|key| Field::new(&key.name, key.declared.clone(), true)).collect();
    fields.push(Field::new(AT, TimestampMicrosecondArray::new_null(0).with_timezone("UTC").data_type().clone(), false));
    let no_rows = RecordBatch::new_empty(Arc::new(Schema::new(fields)));
    Ok(Spine::new(SessionContext::new().read_batch(no_rows)?, AT))
}
