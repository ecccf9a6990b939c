//! Lookups and windows for every entity of some fact tables at one instant, in one pass over the facts.
//! There is no spine: entities are found in the facts. The operators are those of `lookup` and `window`.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array},
    compute::{SortColumn, SortOptions, cast, lexsort_to_indices, max, take},
    datatypes::{DataType, Field, Schema, UInt64Type},
};
use datafusion::{
    common::{Column, utils::memory::RecordBatchMemoryCounter},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties,
        metrics::{ExecutionPlanMetricsSet, MetricBuilder},
    },
    prelude::SessionContext,
};
use futures::TryStreamExt;
use tokio::task::JoinSet;

use super::{
    Facts, Lookup, Spine, Window,
    budget::Budget,
    execution::facts_context,
    fact_chunk::FactChunk,
    fact_input::{FactInput, PhysicalFactInput, SpineTime},
    full_rows::{FullRows, version_order},
    keys::{GrowingKeys, Keys, NO_KEY, comparable},
    operator::{CreateOperator, FactAccumulator, OperatorContext, OperatorOutput, TemporalOperator},
    planner::conditions,
    spine_index::SpineIndex,
    tasks::{blocking, joined},
    versions,
};
use crate::{
    error::{Error, Result},
    time::AsOf,
};

const OPERATOR: &str = "AsOfEntities";
/// The column of the instant in the empty spine that stands for all entities.
const AT: &str = "__at";

/// The lookup and the windows over one fact table. Both have the same facts and cutoff, and the keys in the order of the set. A
/// window without aggregates only finds the entities.
pub(crate) struct EntitySpec {
    pub(crate) facts: Facts,
    /// The columns of the facts that hold the keys.
    pub(crate) on: Vec<String>,
    pub(crate) lookup: Option<Lookup>,
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

    /// The results of some entities, by their positions in the order of the keys: table by table, lookups before windows.
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

/// One fact table, planned, with its operators.
struct Source {
    facts: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    input: Arc<PhysicalFactInput<()>>,
    operators: Vec<Arc<dyn TemporalOperator>>,
}

/// The state that all tables share.
struct Shared {
    numbers: GrowingKeys,
    /// The types in which keys are compared.
    types: Arc<Vec<DataType>>,
    index: Arc<SpineIndex>,
    /// By entity, whether it has a visible fact.
    seen: Mutex<Vec<bool>>,
    budget: Arc<Budget>,
    tasks: usize,
}

/// Finds all entities of these tables at an instant, and computes their lookups and windows. `keys` are the key columns. There
/// is at least one table.
///
/// # Errors
/// As [`Spine::lookup`] and [`Spine::window`]; [`Error::ColumnType`] for a key that does not fit into the type in which
/// keys are compared, [`Error::Memory`] if the results do not fit.
pub(crate) async fn entities(keys: &[EntityKey], specs: Vec<EntitySpec>, as_of: AsOf) -> Result<Entities> {
    let spine = spine(keys)?;
    let types: Arc<Vec<DataType>> = Arc::new(keys.iter().map(|key| key.compared.clone()).collect());
    let declared: Vec<DataType> = keys.iter().map(|key| key.declared.clone()).collect();
    let context = specs.first().map(|spec| Arc::new(spec.facts.rows().task_ctx()));
    let context = context.unwrap_or_else(|| SessionContext::new().task_ctx());
    let peak = MetricBuilder::new(&ExecutionPlanMetricsSet::new()).gauge("peak_mem_used", 0);
    let shared = Arc::new(Shared {
        numbers: GrowingKeys::new(&types)?,
        types,
        index: Arc::new(SpineIndex::of_entities_at(as_of.micros())),
        seen: Mutex::default(),
        budget: Arc::new(Budget::new(OPERATOR, &context, peak)),
        tasks: context.session_config().target_partitions().max(1),
    });
    let mut operators = Vec::new();
    for spec in specs {
        let source = Source::plan(&spine, spec, &shared).await?;
        source.read_facts(&shared).await?;
        source.resolve_ties(&shared).await?;
        operators.extend(source.operators);
    }
    let mut outputs = Vec::with_capacity(operators.len());
    for operator in operators {
        outputs.push(blocking(move || operator.output()).await?);
    }
    blocking(move || {
        let Some(Shared { numbers, seen, budget, .. }) = Arc::into_inner(shared) else {
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

/// The entities with a visible fact, in the order of their keys.
fn in_order(keys: &[ArrayRef], seen: &[bool]) -> Result<Vec<u32>> {
    let options = Some(SortOptions { descending: false, nulls_first: true });
    let columns: Vec<SortColumn> = keys.iter().map(|values| SortColumn { values: values.clone(), options }).collect();
    let order = lexsort_to_indices(&columns, None)?;
    Ok(order.values().iter().copied().filter(|&number| seen.get(number as usize).is_some_and(|seen| *seen)).collect())
}

/// A key column of a set of entities: its name, the type in which it is compared, and the type of the result.
pub(crate) struct EntityKey {
    name: String,
    compared: DataType,
    declared: DataType,
}

impl EntityKey {
    /// Keys of different tables are compared in a type that holds all of them. The result has the type of the tables if it is
    /// the same in all. `columns` are the columns of all tables that have the key.
    ///
    /// # Errors
    /// [`Error::ColumnType`] for columns that cannot be compared, [`Error::UnknownColumn`] for one that is not there.
    pub(crate) fn new<'a>(name: &str, columns: impl Iterator<Item = (&'a Facts, &'a str)>) -> Result<Self> {
        let mut both: Option<(DataType, DataType)> = None;
        for (facts, column) in columns {
            let (schema, subject) = (facts.rows().schema().as_arrow(), facts.subject());
            let found = schema.field_with_name(column).map_err(|_| Error::unknown_column(subject, column, schema))?;
            let refused = |needed: String| Error::ColumnType {
                subject: subject.to_owned(),
                column: column.to_owned(),
                found: found.data_type().to_string(),
                needed: format!("it is the entity's key `{name}`: {needed}"),
            };
            let own = plain(found.data_type());
            both = Some(match both {
                None => (comparable(&own, &own).map_err(refused)?, own),
                Some((compared, declared)) => {
                    let compared = comparable(&compared, &own).map_err(refused)?;
                    let declared = if declared == own { declared } else { compared.clone() };
                    (compared, declared)
                }
            });
        }
        let (compared, declared) = both.unwrap_or((DataType::Null, DataType::Null));
        Ok(Self { name: name.to_owned(), compared, declared })
    }
}

/// Refuses keys that do not fit into the type in which they are compared. No entity may be lost.
fn check_keys(input: &PhysicalFactInput<()>, columns: &[ArrayRef], types: &[DataType]) -> Result<()> {
    for (i, (column, compared)) in columns.iter().zip(types).enumerate() {
        let own = plain(column.data_type());
        if own != DataType::UInt64 || *compared != DataType::Int64 {
            continue;
        }
        let values = cast(column, &DataType::UInt64)?;
        let largest = max(values.as_primitive::<UInt64Type>());
        if let Some(largest) = largest.filter(|largest| i64::try_from(*largest).is_err()) {
            let column = input.logical.on.get(i).map(|(_, column)| column.clone()).unwrap_or_default();
            return Err(Error::ColumnType {
                subject: input.logical.subject.clone(),
                column,
                found: format!("{own}, with a key of {largest}"),
                needed:
                    "other tables of the set have this key as a signed integer, so it is compared as Int64, which does not hold \
                         this value; write the key as UInt64, or as a text, in all of them"
                        .into(),
            });
        }
    }
    Ok(())
}

/// The type without its encoding.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, values) => plain(values),
        other => other.clone(),
    }
}

/// A spine without rows, with the columns that a spine of all entities would have. Lookups and windows are checked against it.
fn spine(keys: &[EntityKey]) -> Result<Spine> {
    let mut fields: Vec<Field> = keys.iter().map(|key| Field::new(&key.name, key.declared.clone(), true)).collect();
    fields.push(Field::new(AT, TimestampMicrosecondArray::new_null(0).with_timezone("UTC").data_type().clone(), false));
    let no_rows = RecordBatch::new_empty(Arc::new(Schema::new(fields)));
    Ok(Spine::new(SessionContext::new().read_batch(no_rows)?, AT))
}

impl Source {
    /// Plans one pass over a table for its lookup and windows.
    async fn plan(spine: &Spine, spec: EntitySpec, shared: &Shared) -> Result<Self> {
        let lookup = spec.lookup.map(|lookup| lookup.requirements(spine)).transpose()?;
        let window = spec.window.requirements(spine)?;
        let mut values = window.values;
        if let Some(lookup) = &lookup {
            values.extend_from_slice(&lookup.values);
        }
        let rows = window.join.rows(&values, window.computed)?;
        let logical = rows.schema().clone();
        let task_context = facts_context(&rows.task_ctx(), logical.fields().len());
        let state = rows.clone().into_parts().0;
        let conditions = conditions(&window.input.spec, &state, &logical)?;
        let facts = rows.create_physical_plan().await?;
        let at = SpineTime { column: Column::from_name(AT), unit: None, zone: None };
        let FactInput { subject, on, declared, cutoff, direction, spec, .. } = window.input;
        let input = FactInput { subject, on, declared, cutoff, direction, full_rows: None, spec: () };
        let full_rows = match lookup.as_ref().and_then(|lookup| lookup.input.full_rows.as_ref()) {
            Some(plan) => Some(Arc::new(FullRows::new(spine.schema(), &at, &input, plan, &state)?)),
            None => None,
        };
        let input = PhysicalFactInput {
            full_rows,
            conditions,
            ..PhysicalFactInput::plan(spine.schema(), &at, &logical, &input, facts.schema())?
        };
        let context = OperatorContext::new(&input, &shared.index, &shared.budget, shared.tasks)?;
        let mut operators = Vec::new();
        if let Some(lookup) = lookup {
            operators.push(lookup.input.spec.operator(&context)?);
        }
        if !spec.columns.is_empty() {
            operators.push(spec.operator(&context)?);
        }
        Ok(Self { facts, context: task_context, input: Arc::new(input), operators })
    }

    /// If facts tie on the columns that were read, they are read again with all columns.
    async fn resolve_ties(&self, shared: &Arc<Shared>) -> Result<()> {
        for operator in &self.operators {
            let (Some(full_rows), Some(orders)) = (&self.input.full_rows, operator.undecided_ties()) else { continue };
            let resolver = operator.clone().tie_resolver(&OperatorContext::new(
                &full_rows.input,
                &shared.index,
                &shared.budget,
                shared.tasks,
            )?)?;
            let facts = full_rows.read(orders).await?;
            let source =
                Source { facts, context: self.context.clone(), input: full_rows.input.clone(), operators: vec![resolver] };
            source.read_facts(shared).await?;
        }
        Ok(())
    }

    /// Reads all facts.
    async fn read_facts(&self, shared: &Arc<Shared>) -> Result<()> {
        let collected: Arc<Mutex<Vec<FactChunk>>> = Arc::default();
        let mut running = JoinSet::new();
        for partition in 0..self.facts.output_partitioning().partition_count() {
            let stream = self.facts.execute(partition, self.context.clone())?;
            let (input, shared) = (self.input.clone(), shared.clone());
            // The versions of a fact can be compared only once all facts have been read.
            let sink = match input.identity.is_empty() {
                true => Sink::Accumulate(self.operators.iter().map(|operator| operator.clone().accumulator()).collect()),
                false => Sink::Collect(collected.clone()),
            };
            running.spawn(read_partition(input, shared, stream, sink));
        }
        while let Some(done) = running.join_next().await {
            joined(done)?;
        }
        let chunks = std::mem::take(&mut *collected.lock().unwrap_or_else(PoisonError::into_inner));
        if chunks.is_empty() {
            return Ok(());
        }
        let (input, shared, operators) = (self.input.clone(), shared.clone(), self.operators.clone());
        blocking(move || {
            let (subject, schema, order) = (&input.logical.subject, &input.facts_schema, version_order(&input)?);
            let chunks = versions::resolve(subject, schema, &input.identity, &order, chunks, &shared.budget)?;
            let mut accumulators: Vec<_> = operators.iter().map(|operator| operator.clone().accumulator()).collect();
            let mut seen = Seen::default();
            for chunk in &chunks {
                seen.add(chunk, &shared.index);
                accumulators.iter_mut().try_for_each(|accumulator| accumulator.update(chunk))?;
            }
            seen.hand_over(&shared);
            accumulators.into_iter().try_for_each(FactAccumulator::finish)
        })
        .await
    }
}

/// Where the facts of a partition go: into accumulators at once, or into a buffer until all are read.
enum Sink {
    Accumulate(Vec<Box<dyn FactAccumulator>>),
    Collect(Arc<Mutex<Vec<FactChunk>>>),
}

async fn read_partition(
    input: Arc<PhysicalFactInput<()>>,
    shared: Arc<Shared>,
    mut stream: SendableRecordBatchStream,
    mut sink: Sink,
) -> Result<()> {
    let mut counter = RecordBatchMemoryCounter::new();
    let mut seen = Seen::default();
    while let Some(batch) = stream.try_next().await? {
        let keys = input.key_columns(&batch);
        check_keys(&input, &keys, &shared.types)?;
        let found = shared.numbers.number(&keys)?;
        let last = found.iter().filter(|&&number| number != NO_KEY).max();
        shared.index.ensure_entities(last.map_or(0, |last| last + 1));
        // Keep facts without a key: such a version may replace one that had a key.
        let keep_all = matches!(sink, Sink::Collect(_));
        let chunk = input.facts_of(&found, batch, keep_all)?;
        match &mut sink {
            Sink::Accumulate(accumulators) => {
                seen.add(&chunk, &shared.index);
                accumulators.iter_mut().try_for_each(|accumulator| accumulator.update(&chunk))?;
            }
            Sink::Collect(chunks) => {
                shared.budget.grow(&input.logical.subject, counter.count_batch(&chunk.batch) + chunk.rows.len() * 40)?;
                chunks.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
            }
        }
    }
    seen.hand_over(&shared);
    match sink {
        Sink::Accumulate(accumulators) => accumulators.into_iter().try_for_each(FactAccumulator::finish),
        Sink::Collect(_) => Ok(()),
    }
}

/// By entity, whether a task has seen a visible fact.
#[derive(Default)]
struct Seen(Vec<bool>);

impl Seen {
    fn add(&mut self, chunk: &FactChunk, index: &SpineIndex) {
        self.0.resize(index.len().max(self.0.len()), false);
        let at = index.single_instant().unwrap_or(i64::MAX);
        for (i, &entity) in chunk.entities.iter().enumerate() {
            let is_there = chunk.visible_from[i] <= at && chunk.visible_until.as_ref().is_none_or(|until| until[i] >= at);
            self.0[entity as usize] |= is_there;
        }
    }

    fn hand_over(self, shared: &Shared) {
        let mut all = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let longer = self.0.len().max(all.len());
        all.resize(longer, false);
        all.iter_mut().zip(self.0).for_each(|(all, own)| *all |= own);
    }
}
