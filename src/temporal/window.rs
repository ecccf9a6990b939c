//! Windows: facts are gathered into cells, a cell being the facts of an entity that the same slots see.
//! It keeps cells, not facts: what is held follows the spine, unless an aggregate needs every value.
//!
//! Between two edges (an instant of the entity, or an instant plus the length of a window) all facts are alike: they enter
//! and leave the same windows at the same slots. So they can be added up before any window is looked at.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow::{
    array::{ArrayRef, UInt32Array},
    buffer::NullBuffer,
    datatypes::{DataType, Field},
};

use super::{
    aggregate::AggregateKind,
    aggregate_filter::AggregateFilter,
    budget::Budget,
    entity_slices::Entity,
    fact_input::{FactAccumulator, FactChunk, OperatorContext, OperatorOutput, OutputMemory, TemporalOperator},
    node::{WindowSpec, fact_position},
    result_columns::{Answer, Column, Output},
    slices::{Cells, CellsOf, Gather, NO_CELL, Sums},
    sort_keys::{Encoding, ValueDictionary, Values, patterns, read, scale_of},
    spine_index::SpineIndex,
    value_log::Logs,
};
use crate::error::{Error, Result};

/// Entities that one step of answering takes, at least.
const ENTITIES_AT_ONCE: usize = 256;

/// What is asked, resolved: which columns are read, what is gathered of them in each cell, what each output makes of that.
pub(super) struct Plan {
    pub(super) columns: Vec<FactColumn>,
    pub(super) inputs: Vec<Input>,
    conditions: Vec<AggregateFilter>,
    pub(super) ties: Vec<FactColumn>,
    pub(super) gathers: Vec<Gather>,
    /// The lengths of the windows in ticks; `None` is everything before.
    pub(super) spans: Vec<Option<i64>>,
    pub(super) outputs: Vec<Output>,
}

/// A column of the facts; without a position it is the fact itself.
#[derive(PartialEq)]
pub(super) struct FactColumn {
    position: Option<usize>,
    pub(super) lane: Encoding,
}

/// What an aggregate is over: a column's values, of all facts or of those that meet a condition.
#[derive(PartialEq)]
pub(super) struct Input {
    pub(super) column: usize,
    condition: Option<usize>,
}

impl Plan {
    /// How the values of an input are held.
    pub(super) fn lane(&self, input: usize) -> Encoding {
        self.columns[self.inputs[input].column].lane
    }
}

pub(crate) fn operator(spec: &WindowSpec, context: &OperatorContext) -> Result<Arc<dyn TemporalOperator>> {
    let fact_column = |position: usize, lane: fn(&DataType) -> Encoding| FactColumn {
        position: Some(position),
        lane: lane(context.facts_schema.field(position).data_type()),
    };
    let mut plan = Plan {
        columns: Vec::new(),
        inputs: Vec::new(),
        conditions: context.conditions.iter().cloned().map(AggregateFilter::new).collect(),
        ties: context.tie_break.iter().map(|&position| fact_column(position, Encoding::for_order)).collect(),
        gathers: Vec::new(),
        spans: Vec::new(),
        outputs: Vec::new(),
    };
    // What is only counted may be of any type and takes the values as others need them, if they do.
    let mut inputs: Vec<Option<usize>> = vec![None; spec.columns.len()];
    for counts in [false, true] {
        for (asked, input) in
            spec.columns.iter().zip(&mut inputs).filter(|(asked, _)| (asked.kind == AggregateKind::Count) == counts)
        {
            let condition = asked.filter.as_ref().and_then(|filter| spec.conditions().iter().position(|known| *known == filter));
            let column = match &asked.input {
                None if condition.is_none() => continue,
                None => FactColumn { position: None, lane: Encoding::Presence },
                Some(name) => {
                    let position = fact_position(&context.subject, &context.facts_schema, name)?;
                    let known = plan.columns.iter().find(|known| counts && known.position == Some(position));
                    let lane = known.map(|known| known.lane);
                    let mut column = fact_column(position, asked.kind.lane());
                    column.lane = lane.unwrap_or(column.lane);
                    column
                }
            };
            let column = place_of(&mut plan.columns, column);
            *input = Some(place_of(&mut plan.inputs, Input { column, condition }));
        }
    }
    let needed: Vec<Gather> = spec.columns.iter().zip(&inputs).map(|(asked, input)| Gather::needed(asked.kind, *input)).collect();
    for (asked, input) in spec.columns.iter().zip(inputs) {
        let span = asked.length_us.and_then(|length| context.unit.length(length));
        let span = place_of(&mut plan.spans, span);
        if let Some(condition) = input.and_then(|input| plan.inputs[input].condition) {
            plan.conditions[condition].is_for(span);
        }
        let wanted = Gather::needed(asked.kind, input);
        // A sum counts its values, too.
        let counted = needed.iter().find(|other| wanted.is_counted_by(other)).copied();
        let gather = place_of(&mut plan.gathers, counted.unwrap_or(wanted));
        let input_type = match &asked.input {
            Some(name) => {
                Some(context.facts_schema.field(fact_position(&context.subject, &context.facts_schema, name)?).data_type())
            }
            None => None,
        };
        plan.outputs.push(Output {
            kind: asked.kind,
            span,
            gather,
            input,
            scale: input_type.and_then(scale_of).unwrap_or(0),
            data_type: asked.kind.yields(input_type).unwrap_or(DataType::Null),
            of: asked.input.clone().unwrap_or_default(),
        });
    }
    let texts = (0..plan.columns.len()).map(|_| Mutex::default()).collect();
    let tie_texts = (0..plan.ties.len()).map(|_| Mutex::default()).collect();
    Ok(Arc::new(Window {
        subject: context.subject.clone(),
        index: context.index.clone(),
        plan,
        constant_delay: context.constant_delay,
        tasks: context.tasks,
        budget: context.budget.clone(),
        texts,
        tie_texts,
        done: Mutex::default(),
    }))
}

fn place_of<T: PartialEq>(known: &mut Vec<T>, wanted: T) -> usize {
    known.iter().position(|k| *k == wanted).unwrap_or_else(|| {
        known.push(wanted);
        known.len() - 1
    })
}

struct Window {
    subject: String,
    index: Arc<SpineIndex>,
    plan: Plan,
    /// After how many ticks a fact is visible, and for good, if that is the same for all.
    constant_delay: Option<i64>,
    tasks: usize,
    budget: Arc<Budget>,
    texts: Vec<Mutex<ValueDictionary>>,
    tie_texts: Vec<Mutex<ValueDictionary>>,
    done: Mutex<Vec<Cells>>,
}

impl TemporalOperator for Window {
    fn accumulator(self: Arc<Self>) -> Box<dyn FactAccumulator> {
        let places = match self.index.single_instant() {
            None => Places::Remembered(vec![Remembered::default(); self.index.hint_table_len()]),
            Some(instant) => Places::Rings(Rings::new(&self.plan, instant)),
        };
        Box::new(Task { places, cells: Cells::new(&self.plan), bytes: 0, window: self })
    }

    /// Nothing is left open here: an aggregate looks at one column.
    fn tie_resolver(self: Arc<Self>, _: &OperatorContext) -> Result<Arc<dyn TemporalOperator>> {
        Ok(self)
    }

    fn output(&self) -> Result<Arc<dyn OperatorOutput>> {
        let cells = std::mem::take(&mut *locked(&self.done));
        let texts: Vec<ValueDictionary> = self.texts.iter().map(|t| std::mem::take(&mut *locked(t))).collect();
        let tie_texts: Vec<ValueDictionary> = self.tie_texts.iter().map(|t| std::mem::take(&mut *locked(t))).collect();
        let by_entity = ByEntity::new(&cells, self.index.entities());
        let logs = Logs::new(&self.plan, &cells);
        let per_slot: usize = self.plan.outputs.iter().map(Column::bytes_per_slot).sum();
        self.budget.grow(&self.subject, by_entity.cells.len() * 8 + self.index.len() * per_slot)?;

        // Entities in runs, which tasks take one by one.
        let entities = self.index.entities();
        let at_once = entities.div_ceil(self.tasks * 8).max(ENTITIES_AT_ONCE);
        let runs: Vec<Range<usize>> =
            (0..entities).step_by(at_once).map(|first| first..(first + at_once).min(entities)).collect();
        let next = AtomicUsize::new(0);
        let whole = Mutex::new(InOrder::new(&self.plan, self.index.len()));
        let work = || -> Result<()> {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(run) = runs.get(i) else { return Ok(()) };
                let slots = self.index.slots_of(run.start as u32).start..self.index.slots_of(run.end as u32 - 1).end;
                let mut columns: Vec<Column> = self.plan.outputs.iter().map(|output| Column::new(output, slots.len())).collect();
                let mut entity = Entity::new(&self.plan, &cells, &logs, &texts, &tie_texts);
                for number in run.clone() {
                    let slots = self.index.slots_of(number as u32);
                    if !slots.is_empty() {
                        entity.answer(slots, by_entity.of(number), &mut columns);
                    }
                }
                self.budget.grow(&self.subject, columns.iter().map(Column::item_bytes).sum())?;
                locked(&whole).put(i, columns);
            }
        };
        std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..self.tasks.min(runs.len())).map(|_| scope.spawn(work)).collect();
            let own = work();
            helpers.into_iter().try_for_each(|helper| match helper.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })?;
            own
        })?;
        drop(by_entity);
        drop(cells);

        let whole = whole.into_inner().unwrap_or_else(PoisonError::into_inner).columns;
        let texts: Vec<Arc<ValueDictionary>> = texts.into_iter().map(Arc::new).collect();
        let answers = whole.into_iter().zip(&self.plan.outputs).map(|(mut column, output)| {
            // What rows without a slot get: nothing was found.
            column.push_nothing();
            let lane = output.input.map_or(Encoding::Signed, |input| self.plan.lane(input));
            let texts = output.input.map(|input| texts[self.plan.inputs[input].column].clone());
            column.into_answer(&self.subject, output, lane, texts.unwrap_or_default())
        });
        let answers = answers.collect::<Result<Vec<Answer>>>()?;
        let held = OutputMemory::of(self.index.len() * per_slot, self.plan.outputs.iter().map(|output| &output.data_type));
        Ok(Arc::new(BySlot { answers, held }))
    }
}

/// The results of all entities, put together as the runs are done: few of them wait for their turn.
struct InOrder {
    columns: Vec<Column>,
    waiting: BTreeMap<usize, Vec<Column>>,
    next: usize,
}

impl InOrder {
    fn new(plan: &Plan, slots: usize) -> Self {
        // One more for rows without a slot.
        let columns = plan.outputs.iter().map(|output| Column::new(output, slots + 1)).collect();
        Self { columns, waiting: BTreeMap::new(), next: 0 }
    }

    fn put(&mut self, run: usize, columns: Vec<Column>) {
        self.waiting.insert(run, columns);
        while let Some(parts) = self.waiting.remove(&self.next) {
            self.columns.iter_mut().zip(parts).for_each(|(column, part)| column.append(part));
            self.next += 1;
        }
    }
}

/// The texts of a column: shared if it holds any, else none.
pub(super) enum Numbered<'a> {
    Shared(MutexGuard<'a, ValueDictionary>),
    None(ValueDictionary),
}

impl std::ops::Deref for Numbered<'_> {
    type Target = ValueDictionary;

    fn deref(&self) -> &ValueDictionary {
        match self {
            Numbered::Shared(texts) => texts,
            Numbered::None(texts) => texts,
        }
    }
}

impl std::ops::DerefMut for Numbered<'_> {
    fn deref_mut(&mut self) -> &mut ValueDictionary {
        match self {
            Numbered::Shared(texts) => texts,
            Numbered::None(texts) => texts,
        }
    }
}

fn numbered<'a>((column, texts): (&FactColumn, &'a Mutex<ValueDictionary>)) -> Numbered<'a> {
    if column.lane == Encoding::Dictionary { Numbered::Shared(locked(texts)) } else { Numbered::None(ValueDictionary::default()) }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The cells of each entity: which task's, and which of them.
struct ByEntity {
    starts: Vec<usize>,
    cells: Vec<(u32, u32)>,
}

impl ByEntity {
    fn new(tasks: &[Cells], entities: usize) -> Self {
        let mut starts = vec![0usize; entities + 1];
        for cells in tasks {
            for &entity in &cells.entity {
                starts[entity as usize + 1] += 1;
            }
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut next = starts.clone();
        let mut placed = vec![(0, 0); starts.last().copied().unwrap_or(0)];
        for (task, cells) in tasks.iter().enumerate() {
            for (cell, &entity) in cells.entity.iter().enumerate() {
                placed[next[entity as usize]] = (task as u32, cell as u32);
                next[entity as usize] += 1;
            }
        }
        Self { starts, cells: placed }
    }

    fn of(&self, entity: usize) -> &[(u32, u32)] {
        &self.cells[self.starts[entity]..self.starts[entity + 1]]
    }
}

/// The cell that an entity's last fact fell into.
#[derive(Clone)]
struct Remembered {
    entity: u32,
    cell: u32,
    /// Where facts are steady: event times from here (inclusive) to there (exclusive) fall into the same cell.
    from: i64,
    to: i64,
}

impl Default for Remembered {
    fn default() -> Self {
        Self { entity: u32::MAX, cell: NO_CELL, from: 0, to: 0 }
    }
}

/// How a task finds the cell of a fact.
enum Places {
    /// Near that of the entity's last fact.
    Remembered(Vec<Remembered>),
    /// By its age, where every entity has one slot.
    Rings(Rings),
}

struct Task {
    window: Arc<Window>,
    places: Places,
    cells: Cells,
    bytes: usize,
}

impl FactAccumulator for Task {
    fn update(&mut self, chunk: &FactChunk) -> Result<()> {
        let window = self.window.clone();
        let cells_of = match &mut self.places {
            Places::Remembered(remembered) => CellsOf::all(place(&window, remembered, &mut self.cells, chunk)),
            Places::Rings(rings) => CellsOf::some(rings.place(&window, &mut self.cells, chunk)?, &rings.is_needed),
        };
        if cells_of.is_empty() {
            return Ok(());
        }
        let (batch, plan) = (&chunk.batch, &window.plan);
        let masks =
            plan.conditions.iter().map(|condition| condition.met(chunk, |i, span| self.cells.sees(cells_of.cell(i), span)));
        let masks = masks.collect::<Result<Vec<NullBuffer>>>()?;
        // Tasks share the numbers of texts, and wait for each other only where there are texts.
        let mut texts: Vec<Numbered<'_>> = plan.columns.iter().zip(&window.texts).map(numbered).collect();
        let mut tie_texts: Vec<Numbered<'_>> = plan.ties.iter().zip(&window.tie_texts).map(numbered).collect();
        let (mut columns, mut column_nulls) = (Vec::new(), Vec::new());
        for (column, texts) in plan.columns.iter().zip(&mut texts) {
            let (values, nulls) = match column.position {
                Some(position) => read(column.lane, batch.column(position), texts)?,
                None => (EncodedValues::Keys(Vec::new().into()), None),
            };
            columns.push(values);
            column_nulls.push(nulls);
        }
        let of_input = |input: &Input| {
            let mask = input.condition.map(|condition| &masks[condition]);
            NullBuffer::union(column_nulls[input.column].as_ref(), mask)
        };
        let nulls: Vec<Option<NullBuffer>> = plan.inputs.iter().map(of_input).collect();
        let mut ties = Vec::with_capacity(plan.ties.len());
        for (tie, texts) in plan.ties.iter().zip(&mut tie_texts) {
            if let Some(position) = tie.position {
                ties.push(patterns(tie.lane, batch.column(position), texts)?);
            }
        }
        let sums = Sums { plan, columns: &columns, nulls: &nulls, ties: &ties, texts: &texts, tie_texts: &tie_texts };
        self.cells.add(chunk, &cells_of, &sums);
        let bytes = self.cells.bytes() + texts.iter().chain(&tie_texts).map(|t| t.bytes).sum::<usize>();
        drop((texts, tie_texts));
        window.budget.grow(&window.subject, bytes.saturating_sub(self.bytes))?;
        self.bytes = self.bytes.max(bytes);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        match self.places {
            Places::Remembered(_) => self.cells.gather_entities(self.window.index.entities()),
            Places::Rings(_) => self.cells.fill(),
        }
        locked(&self.window.done).push(self.cells);
        Ok(())
    }
}

/// The cell of each fact; [`NO_CELL`] for one that no slot sees.
fn place(window: &Window, remembered: &mut [Remembered], cells: &mut Cells, chunk: &FactChunk) -> Vec<u32> {
    let mask = remembered.len() - 1;
    let mut leaves = vec![0u32; window.plan.spans.len()];
    let mut cell_of = Vec::with_capacity(chunk.rows.len());
    for i in 0..chunk.rows.len() {
        let (entity, event, visible_from) = (chunk.entities[i], chunk.event[i], chunk.visible_from[i]);
        let last = &mut remembered[entity as usize & mask];
        if last.entity == entity && event >= last.from && event < last.to {
            cell_of.push(last.cell);
            continue;
        }
        let run = window.index.slots_of(entity);
        // An entity's next fact is as a rule near its last.
        let near = (last.entity == entity && last.cell != NO_CELL).then_some(last.cell);
        let hint = near.map_or(run.start, |cell| cells.enter(cell));
        let enter = window.index.first_from(&run, visible_from, hint);
        let gone = chunk.visible_until.as_ref().map_or(run.end, |until| window.index.first_after(&run, until[i], run.end));
        // An empty stretch remembers no times: then the next fact is looked up again.
        let (mut from, mut to) =
            window.constant_delay.map_or((0, 0), |after| stretch(&window.index, &run, enter, after.saturating_sub(1)));
        let mut is_seen = false;
        for (i, (span, leave)) in window.plan.spans.iter().zip(&mut leaves).enumerate() {
            *leave = gone;
            if let Some(length) = span {
                let hint = near.map_or(enter, |cell| cells.leaves(cell)[i]);
                let end = window.index.first_after(&run, event.saturating_add(*length), hint);
                let (first, last) = stretch(&window.index, &run, end, *length);
                (from, to) = (from.max(first), to.min(last));
                *leave = end.min(gone);
            }
            is_seen |= enter < *leave;
        }
        let cell = match near {
            _ if !is_seen => NO_CELL,
            Some(cell) if cells.is(cell, enter, &leaves) => cell,
            _ => cells.open(entity, enter, &leaves),
        };
        *last = Remembered { entity, cell, from, to };
        cell_of.push(cell);
    }
    cell_of
}

/// The cells of entities that all ask at one instant: each has a ring for every span, of the facts that are in the window of
/// that span and in no shorter one. All cells of an entity are opened at once, so a cell is found by arithmetic.
struct Rings {
    instant: i64,
    /// For each ring from the youngest on, the earliest event time in it; then for each, which spans hold it.
    from: Vec<i64>,
    is_in: Vec<Vec<bool>>,
    /// For each gather, the rings that an output asks for.
    is_needed: Vec<Vec<bool>>,
    opened: u32,
}

impl Rings {
    fn new(plan: &Plan, instant: i64) -> Self {
        // A window of length w at T holds the events of [T - w, T).
        let start = |span: &Option<i64>| span.map_or(i64::MIN, |length| instant.saturating_sub(length));
        let mut from: Vec<i64> = plan.spans.iter().map(start).collect();
        from.sort_unstable_by(|a, b| b.cmp(a));
        from.dedup();
        let is_in: Vec<Vec<bool>> =
            from.iter().map(|&first| plan.spans.iter().map(|span| start(span) <= first).collect()).collect();
        let of_gather = |gather: usize| {
            let spans = || plan.outputs.iter().filter(move |output| output.gather == gather).map(|output| output.span);
            is_in.iter().map(|is_in| spans().any(|span| is_in[span])).collect()
        };
        let is_needed = (0..plan.gathers.len()).map(of_gather).collect();
        Self { instant, from, is_in, is_needed, opened: 0 }
    }

    /// The cell of each fact; [`NO_CELL`] for one that is in no window, or is replaced.
    fn place(&mut self, window: &Window, cells: &mut Cells, chunk: &FactChunk) -> Result<Vec<u32>> {
        // Read once: other tasks go on adding entities.
        let entities = window.index.len() as u32;
        if entities as usize * self.from.len() >= NO_CELL as usize {
            let reason = format!("has more than {NO_CELL} entities and lengths of windows together; ask in several sets");
            return Err(Error::Limit { subject: format!("the window over {}", window.subject), reason });
        }
        let rings = self.from.len() as u32;
        let mut leaves = vec![0; window.plan.spans.len()];
        for entity in self.opened..entities {
            for is_in in &self.is_in {
                // The entity's slot has its number: whoever leaves there is not seen in it.
                leaves.iter_mut().zip(is_in).for_each(|(leave, &is_in)| *leave = entity + u32::from(is_in));
                cells.open(entity, entity, &leaves);
            }
        }
        self.opened = self.opened.max(entities);
        let cell = |i: usize| {
            let is_gone = chunk.visible_until.as_ref().is_some_and(|until| until[i] < self.instant);
            if is_gone || chunk.visible_from[i] > self.instant {
                return NO_CELL;
            }
            let ring = self.from.iter().position(|&from| chunk.event[i] >= from);
            ring.map_or(NO_CELL, |ring| chunk.entities[i] * rings + ring as u32)
        };
        Ok((0..chunk.rows.len()).map(cell).collect())
    }
}

/// The event times for which a slot is the first after them plus a shift: from the first (inclusive) to the second (exclusive).
///
/// Never those at the ends of the scale, which stand for times beyond it too: such a fact is looked up on its own.
fn stretch(index: &SpineIndex, run: &Range<u32>, slot: u32, shift: i64) -> (i64, i64) {
    let (from, to) = index.preceding_ticks(run, slot);
    let from = if slot > run.start { from.saturating_sub(shift) } else { i64::MIN };
    let to = if slot < run.end { to.saturating_sub(shift) } else { i64::MAX };
    (from.max(i64::MIN + 1), to)
}

/// The aggregates of each slot, and last those of a row that has none.
struct BySlot {
    answers: Vec<Answer>,
    held: Option<OutputMemory>,
}

impl OperatorOutput for BySlot {
    fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let slots = UInt32Array::from(slots.to_vec());
        self.answers.iter().map(|answer| answer.read(&slots)).collect()
    }

    fn memory(&self) -> Option<OutputMemory> {
        self.held
    }
}

/// The item field of a list column.
pub(super) fn item_of(data_type: &DataType) -> Arc<Field> {
    match data_type {
        DataType::List(item) => item.clone(),
        other => Field::new_list_field(other.clone(), true).into(),
    }
}

/// Is the aggregate a list?
pub(super) fn is_list(kind: AggregateKind) -> bool {
    matches!(kind, AggregateKind::LastK(_))
}
