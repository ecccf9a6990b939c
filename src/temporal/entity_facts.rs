//! Reads the facts of a set of entities: one pass over a table, for all sources that are over it.
//! What is kept of the facts is up to the operators, `lookup` and `window`.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::DataType,
};
use datafusion::{
    common::{Column, DFSchema, utils::memory::RecordBatchMemoryCounter},
    dataframe::DataFrame,
    execution::{SendableRecordBatchStream, SessionState, TaskContext},
    physical_plan::{ExecutionPlan, ExecutionPlanProperties},
};
use futures::TryStreamExt;
use tokio::task::JoinSet;

use super::{
    Spine,
    budget::Budget,
    builders::Requirements,
    entity_keys::check_keys,
    entity_tiles::{TableTiles, TiledTable},
    execution::facts_context,
    fact_chunk::FactChunk,
    fact_expression::FactExpressions,
    fact_input::{PhysicalFactInput, SpineTime},
    full_rows::{AllColumns, FullRows, version_order},
    keys::{GrowingKeys, NO_KEY},
    operator::{CreateOperator, FactAccumulator, OperatorContext, TemporalOperator},
    spec::{LookupSpec, WindowSpec, fact_position},
    spine_index::SpineIndex,
    tasks::{blocking, joined},
    tile_store::UnfinishedTiles,
    versions,
    window::Window,
};
use crate::error::{Error, Result};

/// The column of the instant in the empty spine that stands for all entities.
pub(super) const AT: &str = "__at";

/// What the tasks of a group share while facts are read.
pub(super) struct GroupState {
    pub(super) numbers: GrowingKeys,
    /// The types in which keys are compared.
    pub(super) types: Vec<DataType>,
    pub(super) index: Arc<SpineIndex>,
    /// The instants of all entities, in ticks and in order. There is at least one, and only one if facts are replaced.
    pub(super) instants: Vec<i64>,
    /// By entity, the number of the first instant at which it has a visible fact; the number of all instants if there is none.
    pub(super) seen_from: Mutex<Vec<u32>>,
    pub(super) budget: Arc<Budget>,
    pub(super) tasks: usize,
}

/// What a source needs of its table.
pub(super) struct SourceRequirements {
    /// The empty spine of its group.
    pub(super) spine: Arc<Spine>,
    pub(super) shared: Arc<GroupState>,
    pub(super) lookup: Option<Requirements<LookupSpec>>,
    pub(super) window: Requirements<WindowSpec>,
}

/// One fact table, planned, with those who read it.
pub(super) struct EntityTable {
    /// All facts that the readers need, with the columns that they need.
    rows: DataFrame,
    facts: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    readers: Arc<Vec<Reader>>,
}

/// The operators of one source, over the facts of its table.
pub(super) struct Reader {
    pub(super) shared: Arc<GroupState>,
    pub(super) input: Arc<PhysicalFactInput<()>>,
    pub(super) operators: Vec<Arc<dyn TemporalOperator>>,
    pub(super) lookup: Option<ReaderLookup>,
    pub(super) window: Option<ReaderWindow>,
    /// Facts that wait until all have been read, since the versions of a fact can be compared only then.
    waiting: Mutex<Vec<FactChunk>>,
}

/// The lookup among the operators of a reader, and the columns that it reads: positions in the facts, ascending.
pub(super) struct ReaderLookup {
    pub(super) operator: Arc<dyn TemporalOperator>,
    pub(super) columns: Vec<usize>,
}

/// The window among the operators of a reader.
pub(super) struct ReaderWindow {
    pub(super) operator: Arc<Window>,
    pub(super) spec: WindowSpec,
}

impl EntityTable {
    /// Plans one pass over a table, with the columns that all of its sources need.
    pub(super) async fn plan(requirements: Vec<SourceRequirements>) -> Result<Self> {
        let (mut values, mut computed) = (Vec::new(), Vec::new());
        for SourceRequirements { lookup, window, .. } in &requirements {
            values.extend(window.input.on.iter().map(|(_, column)| column.clone()));
            values.extend_from_slice(&window.values);
            values.extend(lookup.iter().flat_map(|lookup| lookup.values.iter().cloned()));
            for expression in &window.computed {
                if !computed.contains(expression) {
                    computed.push(expression.clone());
                }
            }
        }
        let Some(first) = requirements.first() else {
            return Err(Error::Internal { subject: "the set of entities".into(), reason: "it has no source".into() });
        };
        let rows = first.window.join.rows(&values, computed)?;
        let logical = rows.schema().clone();
        let context = facts_context(&rows.task_ctx(), logical.fields().len());
        let state = rows.clone().into_parts().0;
        let facts = rows.clone().create_physical_plan().await?;
        let readers = requirements.into_iter().map(|required| Reader::plan(required, &logical, &facts, &state));
        let readers = Arc::new(readers.collect::<Result<_>>()?);
        Ok(Self { rows, facts, context, readers })
    }

    /// Reads all facts, or their tiles, and gives the operators of each source, in their order. What is left to be done for new tiles goes
    /// to `unfinished`.
    pub(super) async fn operators(
        self,
        tiled: Option<TiledTable>,
        unfinished: &mut UnfinishedTiles,
    ) -> Result<Vec<Vec<Arc<dyn TemporalOperator>>>> {
        match tiled.and_then(|tiled| TableTiles::new(&self.readers, tiled)) {
            None => read(&self.facts, &self.context, &self.readers).await?,
            Some(tiles) => {
                if let Some(facts) = tiles.read(&self.rows, unfinished).await? {
                    read(&facts, &self.context, &self.readers).await?;
                }
            }
        }
        for reader in self.readers.iter() {
            reader.resolve_ties(&self.context).await?;
        }
        Ok(self.readers.iter().map(|reader| reader.operators.clone()).collect())
    }
}

/// Reads all facts of a plan.
async fn read(facts: &Arc<dyn ExecutionPlan>, context: &Arc<TaskContext>, readers: &Arc<Vec<Reader>>) -> Result<()> {
    let mut running = JoinSet::new();
    for partition in 0..facts.output_partitioning().partition_count() {
        let stream = facts.execute(partition, context.clone())?;
        running.spawn(read_partition(readers.clone(), stream));
    }
    while let Some(done) = running.join_next().await {
        joined(done)?;
    }
    let readers = readers.clone();
    blocking(move || readers.iter().try_for_each(Reader::resolve_versions)).await
}

impl Reader {
    fn plan(
        required: SourceRequirements,
        logical: &DFSchema,
        facts: &Arc<dyn ExecutionPlan>,
        state: &SessionState,
    ) -> Result<Self> {
        let SourceRequirements { spine, shared, lookup, window } = required;
        let expressions = FactExpressions::plan(&window.input.spec, state, logical)?;
        let at = SpineTime { column: Column::from_name(AT), unit: None, zone: None };
        let (input, spec) = (window.input.of_spec(()), window.input.spec);
        let full_rows = match lookup.as_ref().and_then(|lookup| lookup.input.full_rows.as_ref()) {
            Some(plan) => {
                let rows = AllColumns::Query(Box::new((plan.as_ref().clone(), state.clone())));
                Some(Arc::new(FullRows::new(spine.schema(), &at, &input, plan.schema(), rows)?))
            }
            None => None,
        };
        let input = PhysicalFactInput {
            full_rows,
            expressions,
            ..PhysicalFactInput::plan(spine.schema(), &at, logical, &input, facts.schema())?
        };
        let context = OperatorContext::new(&input, &shared.index, &shared.budget, shared.tasks)?;
        let mut reader = Self::new(shared, Arc::new(input), Vec::new());
        if let Some(lookup) = lookup {
            let operator = lookup.input.spec.operator(&context)?;
            reader.operators.push(operator.clone());
            reader.lookup = Some(ReaderLookup { operator, columns: reader.columns_of(&lookup.input.spec)? });
        }
        if !spec.holds_all_to_the_instant() {
            // What a file contributes does not follow from the age of its facts, so there are no tiles.
            reader.operators.push(spec.operator(&context)?);
        } else if !spec.columns.is_empty() {
            let operator = Arc::new(Window::new(&spec, &context, None)?);
            reader.operators.push(operator.clone());
            reader.window = Some(ReaderWindow { operator, spec });
        }
        Ok(reader)
    }

    pub(super) fn new(
        shared: Arc<GroupState>,
        input: Arc<PhysicalFactInput<()>>,
        operators: Vec<Arc<dyn TemporalOperator>>,
    ) -> Self {
        Self { shared, input, operators, lookup: None, window: None, waiting: Mutex::default() }
    }

    /// The positions of the columns that a lookup reads: keys, times, tie-breaks and those that are looked up.
    fn columns_of(&self, spec: &LookupSpec) -> Result<Vec<usize>> {
        let input = &self.input;
        let mut columns: Vec<usize> = input.fact_keys.clone();
        columns.extend(input.time_decoders.iter().map(|(position, _)| *position));
        columns.extend(input.tie_columns()?);
        for column in &spec.columns {
            columns.push(fact_position(&input.logical.subject, &input.facts_schema, &column.fact)?);
        }
        columns.sort_unstable();
        columns.dedup();
        Ok(columns)
    }

    /// The numbers of the entities of these keys. New ones get slots.
    pub(super) fn number(&self, keys: &[ArrayRef]) -> Result<Vec<u32>> {
        let Self { shared, input, .. } = self;
        let found = shared.numbers.number(keys)?;
        let last = found.iter().filter(|&&number| number != NO_KEY).max();
        if !shared.index.ensure_entities(last.map_or(0, |last| last + 1)) {
            let reason = format!(
                "has more than {} combinations of an entity and an instant; ask for fewer instants at once",
                u32::MAX - 1
            );
            return Err(Error::Limit { subject: format!("the entities of {}", input.logical.subject), reason });
        }
        Ok(found)
    }

    /// The facts of a batch that have an entity (all facts if `keep_all`).
    pub(super) fn chunk(&self, batch: RecordBatch, keep_all: bool) -> Result<FactChunk> {
        let keys = self.input.key_columns(&batch);
        check_keys(&self.input, &keys, &self.shared.types)?;
        let found = self.number(&keys)?;
        self.input.facts_of(&found, batch, keep_all)
    }

    fn accumulators(&self) -> Vec<Box<dyn FactAccumulator>> {
        self.operators.iter().map(|operator| operator.clone().accumulator()).collect()
    }

    /// If facts are replaced by later versions: finds which versions are visible, and accumulates these.
    fn resolve_versions(&self) -> Result<()> {
        let chunks = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if chunks.is_empty() {
            return Ok(());
        }
        let Self { input, shared, .. } = self;
        let (subject, schema, order) = (&input.logical.subject, &input.facts_schema, version_order(input)?);
        let chunks = versions::resolve(subject, schema, (&input.identity, &order), None, chunks, &shared.budget)?;
        let (mut accumulators, mut seen) = (self.accumulators(), Seen::default());
        for chunk in &chunks {
            seen.add(chunk, shared);
            accumulators.iter_mut().try_for_each(|accumulator| accumulator.update(chunk))?;
        }
        seen.hand_over(shared);
        accumulators.into_iter().try_for_each(FactAccumulator::finish)
    }

    /// If facts tie on the columns that were read, they are read again with all columns.
    async fn resolve_ties(&self, context: &Arc<TaskContext>) -> Result<()> {
        for operator in &self.operators {
            let (Some(full_rows), Some(orders)) = (&self.input.full_rows, operator.undecided_ties()) else { continue };
            let GroupState { index, budget, tasks, .. } = &*self.shared;
            let resolver = operator.clone().tie_resolver(&OperatorContext::new(&full_rows.input, index, budget, *tasks)?)?;
            let facts = full_rows.read(orders).await?;
            let reader = Self::new(self.shared.clone(), full_rows.input.clone(), vec![resolver]);
            read(&facts, context, &Arc::new(vec![reader])).await?;
        }
        Ok(())
    }
}

/// Reads one partition of a table for all readers.
async fn read_partition(readers: Arc<Vec<Reader>>, mut stream: SendableRecordBatchStream) -> Result<()> {
    let mut tasks: Vec<ReaderTask<'_>> = readers.iter().map(ReaderTask::new).collect();
    let subject = readers.first().map_or("the facts", |reader| reader.input.logical.subject.as_str());
    while let Some(batch) = stream.try_next().await.map_err(|e| Error::reading(subject, e))? {
        tasks.iter_mut().try_for_each(|task| task.add(batch.clone()))?;
    }
    tasks.into_iter().try_for_each(ReaderTask::finish)
}

/// What one task does for a reader.
pub(super) struct ReaderTask<'a> {
    reader: &'a Reader,
    /// None if facts wait until all have been read.
    accumulators: Option<Vec<Box<dyn FactAccumulator>>>,
    seen: Seen,
    counter: RecordBatchMemoryCounter,
}

impl<'a> ReaderTask<'a> {
    pub(super) fn new(reader: &'a Reader) -> Self {
        let accumulators = reader.input.identity.is_empty().then(|| reader.accumulators());
        Self { reader, accumulators, seen: Seen::default(), counter: RecordBatchMemoryCounter::new() }
    }

    pub(super) fn add(&mut self, batch: RecordBatch) -> Result<()> {
        let Reader { shared, input, waiting, .. } = self.reader;
        // Keep facts without a key if they wait: such a version may replace one that had a key.
        let mut chunk = self.reader.chunk(batch, self.accumulators.is_none())?;
        if shared.instants.len() > 1 && self.accumulators.is_some() {
            chunk.sort_by_entity(shared.index.entities());
        }
        match &mut self.accumulators {
            Some(accumulators) => {
                self.seen.add(&chunk, shared);
                accumulators.iter_mut().try_for_each(|accumulator| accumulator.update(&chunk))
            }
            None => {
                let bytes = self.counter.count_batch(&chunk.batch) + chunk.rows.len() * 40;
                shared.budget.grow(&input.logical.subject, bytes)?;
                waiting.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
                Ok(())
            }
        }
    }

    pub(super) fn finish(self) -> Result<()> {
        self.seen.hand_over(&self.reader.shared);
        self.accumulators.into_iter().flatten().try_for_each(FactAccumulator::finish)
    }
}

/// By entity, the number of the first instant at which a task has seen a visible fact.
#[derive(Default)]
pub(super) struct Seen(Vec<u32>);

impl Seen {
    /// These entities have been seen from the first instant on. `entities` is how many there are.
    pub(super) fn add_entities(&mut self, numbers: &[u32], entities: usize) {
        self.0.resize(entities.max(self.0.len()), 1);
        numbers.iter().for_each(|&number| self.0[number as usize] = 0);
    }

    pub(super) fn add(&mut self, chunk: &FactChunk, shared: &GroupState) {
        let instants = &shared.instants;
        self.0.resize(shared.index.entities().max(self.0.len()), instants.len() as u32);
        for (i, (&entity, &from)) in chunk.entities.iter().zip(&chunk.visible_from).enumerate() {
            let first = &mut self.0[entity as usize];
            // The last instant at which the entity was not seen so far.
            let is_earlier = (*first as usize).checked_sub(1).is_some_and(|before| from <= instants[before]);
            if !is_earlier || chunk.visible_until.as_ref().is_some_and(|until| until[i] < instants[0]) {
                continue;
            }
            *first = instants.partition_point(|&instant| instant < from) as u32;
        }
    }

    pub(super) fn hand_over(self, shared: &GroupState) {
        let mut all = shared.seen_from.lock().unwrap_or_else(PoisonError::into_inner);
        let longer = self.0.len().max(all.len());
        all.resize(longer, shared.instants.len() as u32);
        all.iter_mut().zip(self.0).for_each(|(all, own)| *all = own.min(*all));
    }
}
