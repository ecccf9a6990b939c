//! Lookups and windows for every entity of some fact tables at one instant or several, in one pass over each table.
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
    entity_tiles::TiledTable,
    keys::{GrowingKeys, Keys, NO_KEY},
    operator::{OperatorOutput, TemporalOperator},
    spine_index::SpineIndex,
    tasks::blocking,
    tile_store::UnfinishedTiles,
};
use crate::{
    error::{Error, Result},
    time::{AsOf, Cutoff},
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

/// All entities of some tables, numbered from zero, with their results at each instant.
pub(crate) struct Entities {
    keys: Keys,
    /// The entities in the order of their keys.
    order: Vec<u32>,
    /// By entity, the number of the first instant at which it has a visible fact.
    seen_from: Vec<u32>,
    instants: usize,
    key_columns: Vec<ArrayRef>,
    outputs: Vec<Arc<dyn OperatorOutput>>,
    /// The reservation for the outputs.
    _budget: Arc<Budget>,
}

impl Entities {
    /// The entities that have a visible fact at an instant, in the order of their keys. Instants are numbered from zero.
    pub(crate) fn at(&self, instant: usize) -> Vec<u32> {
        let is_seen = |&&entity: &&u32| self.seen_from.get(entity as usize).is_some_and(|&first| first as usize <= instant);
        self.order.iter().filter(is_seen).copied().collect()
    }

    /// The keys of some entities.
    pub(crate) fn keys(&self, entities: &[u32]) -> Result<Vec<ArrayRef>> {
        let numbers = UInt32Array::from(entities.to_vec());
        self.key_columns.iter().map(|column| Ok(take(column, &numbers, None)?)).collect()
    }

    /// The results of some entities at an instant: source by source, lookups before windows.
    pub(crate) fn results(&self, entities: &[u32], instant: usize) -> Result<Vec<ArrayRef>> {
        self.columns(entities.iter().map(|&entity| self.slot(entity, instant)).collect())
    }

    /// The results for these keys at an instant, row by row. A key without a visible fact gets what an empty window gives: 0 or NULL.
    pub(crate) fn results_for(&self, keys: &[ArrayRef], instant: usize) -> Result<Vec<ArrayRef>> {
        let nothing = self.slot(self.keys.count() as u32, 0);
        let slot = |entity: u32| if entity == NO_KEY { nothing } else { self.slot(entity, instant) };
        self.columns(self.keys.find(keys)?.into_iter().map(slot).collect())
    }

    fn slot(&self, entity: u32, instant: usize) -> u32 {
        entity * self.instants as u32 + instant as u32
    }

    fn columns(&self, slots: Vec<u32>) -> Result<Vec<ArrayRef>> {
        let mut columns = Vec::new();
        for output in &self.outputs {
            columns.extend(output.columns(&slots)?);
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

/// Finds all entities of each group, and computes their lookups and windows at these instants, which are different and in order. There is
/// at least one, and only one if facts of a table are replaced. `tiled` has the tables some of whose files are read from tiles, by number;
/// with several instants it is not used. New tiles may still be unfinished when this returns; after an error none is.
///
/// # Errors
/// As [`Spine::lookup`] and [`Spine::window`]; [`Error::ColumnType`] for a key that does not fit into the type in which
/// keys are compared, [`Error::Memory`] if the results do not fit.
pub(crate) async fn entities(
    groups: Vec<EntityGroup>,
    tiled: BTreeMap<usize, TiledTable>,
    instants: &[AsOf],
    cutoff: Cutoff,
) -> Result<(Vec<Entities>, UnfinishedTiles)> {
    let mut unfinished = UnfinishedTiles::default();
    match found(groups, tiled, (instants, cutoff), &mut unfinished).await {
        Ok(found) => Ok((found, unfinished)),
        Err(error) => {
            // They hold memory, and the caller may try again without tiles.
            unfinished.finish().await;
            Err(error)
        }
    }
}

async fn found(
    groups: Vec<EntityGroup>,
    mut tiled: BTreeMap<usize, TiledTable>,
    (instants, cutoff): (&[AsOf], Cutoff),
    unfinished: &mut UnfinishedTiles,
) -> Result<Vec<Entities>> {
    let mut open = Vec::with_capacity(groups.len());
    let mut tables: BTreeMap<usize, Vec<(SourcePosition, SourceRequirements)>> = BTreeMap::new();
    for (group, EntityGroup { keys, sources }) in groups.into_iter().enumerate() {
        let context = sources.first().map(|source| Arc::new(source.window.facts().rows().task_ctx()));
        let context = context.unwrap_or_else(|| SessionContext::new().task_ctx());
        let mut opened = OpenGroup::new(&keys, &context, instants)?;
        for (source, EntitySource { table, lookup, window }) in sources.into_iter().enumerate() {
            let lookup = lookup.map(|lookup| lookup.cutoff(cutoff).requirements(&opened.spine)).transpose()?;
            let window = window.cutoff(cutoff).requirements(&opened.spine)?;
            let (spine, shared) = (opened.spine.clone(), opened.shared.clone());
            tables.entry(table).or_default().push(((group, source), SourceRequirements { spine, shared, lookup, window }));
            opened.operators.push(Vec::new());
        }
        open.push(opened);
    }
    for (table, required) in tables {
        let (positions, requirements): (Vec<_>, Vec<_>) = required.into_iter().unzip();
        let operators = EntityTable::plan(requirements).await?.operators(tiled.remove(&table), unfinished).await?;
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
    fn new(keys: &[EntityKey], context: &TaskContext, instants: &[AsOf]) -> Result<Self> {
        let types: Vec<DataType> = keys.iter().map(|key| key.compared.clone()).collect();
        let peak = MetricBuilder::new(&ExecutionPlanMetricsSet::new()).gauge("peak_mem_used", 0);
        let instants: Vec<i64> = instants.iter().map(|instant| instant.micros()).collect();
        let shared = GroupState {
            numbers: GrowingKeys::new(&types)?,
            types,
            index: Arc::new(SpineIndex::of_entities_at(&instants)),
            instants,
            seen_from: Mutex::default(),
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
            let Some(GroupState { numbers, seen_from, instants, budget, .. }) = Arc::into_inner(shared) else {
                let reason = "a task that reads its facts still runs after the query has ended".into();
                return Err(Error::Internal { subject: "the set of entities".into(), reason });
            };
            let (keys, seen_from) = (numbers.into_keys(), seen_from.into_inner().unwrap_or_else(PoisonError::into_inner));
            budget.grow("the entities", keys.bytes() + keys.count() * 16)?;
            let columns = keys.columns()?;
            let columns = columns.iter().zip(&declared).map(|(c, t)| Ok(cast(c, t)?)).collect::<Result<Vec<_>>>()?;
            let (order, instants) = (in_order(&columns)?, instants.len());
            Ok(Entities { keys, order, seen_from, instants, key_columns: columns, outputs, _budget: budget })
        })
        .await
    }
}

/// The entities in the order of their keys.
fn in_order(keys: &[ArrayRef]) -> Result<Vec<u32>> {
    let options = Some(SortOptions { descending: false, nulls_first: true });
    let columns: Vec<SortColumn> = keys.iter().map(|values| SortColumn { values: values.clone(), options }).collect();
    Ok(lexsort_to_indices(&columns, None)?.values().to_vec())
}

/// A spine without rows, with the columns that a spine of all entities would have. Lookups and windows are checked against it.
fn spine(keys: &[EntityKey]) -> Result<Spine> {
    let mut fields: Vec<Field> = keys.iter().map(|key| Field::new(&key.name, key.declared.clone(), true)).collect();
    fields.push(Field::new(AT, TimestampMicrosecondArray::new_null(0).with_timezone("UTC").data_type().clone(), false));
    let no_rows = RecordBatch::new_empty(Arc::new(Schema::new(fields)));
    Ok(Spine::new(SessionContext::new().read_batch(no_rows)?, AT))
}
