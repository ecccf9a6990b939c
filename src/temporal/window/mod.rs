//! The window operator: aggregates over trailing windows, by stream slicing.
//!
//! Facts are cut into slices that windows share: all facts of a slice enter the same windows and leave them at the same slots,
//! so they are accumulated before any window is looked at. Then each entity's windows slide over its slices. Memory follows
//! the spine and not the number of facts, unless an aggregate needs every value.
//!
//! Slicing is described in P. Carbone et al., *Cutty: Aggregate Sharing for User-Defined Windows*, CIKM 2016, and in J. Traub
//! et al., *Scotty: General and Efficient Open-Source Window Aggregation for Stream Processing Systems*, ACM TODS 46(1), 2021.
//! Here the edges of slices are known before the first fact is read, because they follow from the spine; so facts may come in
//! any order.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow::array::{ArrayRef, UInt32Array};

use super::{
    aggregate::{EntitySlices, FactOrder, OutputStates, ResultColumn, SliceLocation, Slider, SlotColumn},
    budget::Budget,
    fact_expression::FactExpressions,
    operator::{CreateOperator, FactAccumulator, OperatorContext, OperatorOutput, OutputMemory, TemporalOperator},
    sort_keys::{Encoding, ValueDictionary},
    spec::{OperatorSpec, WindowColumn, WindowSpec},
    spine_index::SpineIndex,
};
use crate::{
    error::{Error, Result},
    time::{ClockStep, Zone},
};

mod accumulator;
mod assignment;
mod edges;
mod held;
mod newest;
mod parts;
mod plan;
mod seen;
mod slices;
mod tile;

use accumulator::WindowAccumulator;
use edges::WindowEdges;
use held::HeldWindow;
use parts::Parts;
use plan::WindowPlan;
use slices::Slices;
pub(super) use tile::{TileMerger, WindowTile};

/// The least number of slots for which results are made at once.
const MIN_SLOTS_AT_ONCE: usize = 16_384;

impl CreateOperator for WindowSpec {
    fn operator(&self, context: &OperatorContext) -> Result<Arc<dyn TemporalOperator>> {
        // Facts are held where newer facts decide what a window holds. All windows of an operator end at the same boundaries.
        let kind = |column: &WindowColumn| (column.length.depends_on_newer_facts(), column.length.boundaries());
        let mut kinds = Vec::new();
        for column in &self.columns {
            if !kinds.contains(&kind(column)) {
                kinds.push(kind(column));
            }
        }
        let part = |wanted: &(bool, Option<(ClockStep, Zone)>)| -> Result<Arc<dyn TemporalOperator>> {
            let columns = self.columns.iter().filter(|column| kind(column) == *wanted).cloned().collect();
            let spec = WindowSpec { columns };
            let planned = &context.expressions;
            let expressions = FactExpressions {
                conditions: own_of(&spec.conditions(), &self.conditions(), &planned.conditions),
                values: own_of(&spec.values(), &self.values(), &planned.values),
            };
            let context = OperatorContext { expressions, ..context.clone() };
            let window = Window::new(&spec, &context, None)?;
            Ok(if wanted.0 { Arc::new(HeldWindow::new(window, &context)) } else { Arc::new(window) })
        };
        let part_of = self.columns.iter().filter_map(|column| kinds.iter().position(|known| *known == kind(column))).collect();
        let mut parts = kinds.iter().map(part).collect::<Result<Vec<_>>>()?;
        match parts.len() {
            // Nothing is asked.
            0 => Ok(Arc::new(Window::new(self, context, None)?)),
            1 => Ok(parts.swap_remove(0)),
            _ => Ok(Arc::new(Parts { parts, part_of })),
        }
    }
}

/// What was planned for these parts of a specification, of what was planned for all of its parts.
fn own_of<E: PartialEq, P: Clone>(own: &[E], all: &[E], planned: &[P]) -> Vec<P> {
    let position = |own: &E| all.iter().position(|known| known == own);
    own.iter().filter_map(|own| planned.get(position(own)?).cloned()).collect()
}

impl Window {
    /// With a level, all facts are taken as one slice of their entity, which lies beyond so many of the lengths of windows, the shortest
    /// first.
    pub(super) fn new(spec: &WindowSpec, context: &OperatorContext, level: Option<usize>) -> Result<Self> {
        let plan = WindowPlan::new(spec, context)?;
        let starts = plan.lengths.iter().map(|length| WindowEdges::starts(length.reach, context)).collect::<Result<_>>()?;
        let ends = plan.lengths.first().map(|length| WindowEdges::ends(length.reach, context)).transpose()?.flatten();
        Ok(Self {
            subject: context.subject.clone(),
            index: context.index.clone(),
            constant_delay: context.constant_delay,
            per_second: 1_000_000_000 / context.order_ns.unsigned_abs(),
            tasks: context.tasks,
            budget: context.budget.clone(),
            dictionaries: plan.columns.iter().map(|_| Mutex::default()).collect(),
            tie_dictionaries: plan.ties.iter().map(|_| Mutex::default()).collect(),
            signature: plan.signature(&context.facts_schema),
            plan,
            starts,
            ends,
            level,
            finished: Mutex::default(),
        })
    }
}

pub(super) struct Window {
    /// The table, for messages.
    subject: String,
    index: Arc<SpineIndex>,
    plan: WindowPlan,
    /// Where the windows of each of the plan's lengths begin.
    starts: Vec<WindowEdges>,
    /// Where the windows end, if that is before their instants. It is the same for all lengths.
    ends: Option<WindowEdges>,
    /// See [`WindowPlan::signature`].
    signature: String,
    /// See [`Window::new`].
    level: Option<usize>,
    /// After how many ticks each fact becomes visible, if that is the same for all and facts are never replaced.
    constant_delay: Option<i64>,
    /// The units of the facts' event times in a second.
    per_second: u64,
    tasks: usize,
    budget: Arc<Budget>,
    /// The dictionaries of the plan's columns, and of the tie-breaks.
    dictionaries: Vec<Mutex<ValueDictionary>>,
    tie_dictionaries: Vec<Mutex<ValueDictionary>>,
    /// The slices of the accumulators that have finished.
    finished: Mutex<Vec<Slices>>,
}

impl TemporalOperator for Window {
    fn accumulator(self: Arc<Self>) -> Box<dyn FactAccumulator> {
        Box::new(WindowAccumulator::new(self))
    }

    /// There are no undecided ties: where all else is equal, the value that is returned decides.
    fn tie_resolver(self: Arc<Self>, _: &OperatorContext) -> Result<Arc<dyn TemporalOperator>> {
        Ok(self)
    }

    fn output(&self) -> Result<Arc<dyn OperatorOutput>> {
        let tasks = std::mem::take(&mut *locked(&self.finished));
        let dictionaries = taken(&self.dictionaries);
        let tie_dictionaries = taken(&self.tie_dictionaries);
        let no_dictionary = ValueDictionary::default();
        let ties: Vec<(Encoding, &ValueDictionary)> =
            self.plan.ties.iter().zip(&tie_dictionaries).map(|(tie, dictionary)| (tie.encoding, dictionary)).collect();
        let slider = |output: usize, slots: usize| {
            let output = &self.plan.outputs[output];
            let dictionary = output.input.map_or(&no_dictionary, |input| &dictionaries[self.plan.inputs[input].column]);
            let encoding = output.input.map_or(Encoding::Presence, |input| self.plan.encoding(input));
            let by = output.input.and_then(|input| self.plan.by(input));
            let by = by.map(|(column, encoding)| (encoding, &dictionaries[column]));
            let states = OutputStates {
                tasks: tasks.iter().map(|slices| &slices.states[output.state]).collect(),
                ties: tasks.iter().map(|slices| &slices.ties).collect(),
                order: FactOrder { encoding, dictionary, by, ties: &ties },
                scale: output.scale,
                per_second: self.per_second,
                result_type: &output.data_type,
            };
            output.kind.function().slider(states, slots)
        };
        let sliders = |slots: usize| (0..self.plan.outputs.len()).map(|output| slider(output, slots)).collect::<Result<Vec<_>>>();

        let by_entity = EntityLocations::new(&tasks, self.index.entities());
        let per_slot: usize = finished(sliders(0)?).iter().map(ResultColumn::bytes_per_slot).sum();
        self.budget.grow(&self.subject, by_entity.locations.len() * 8 + self.index.len() * per_slot)?;

        // Tasks take them one by one.
        let runs = entity_runs(&self.index, self.tasks * 8);
        let next = AtomicUsize::new(0);
        // One slot more, for rows without a slot.
        let results = Mutex::new(RunResults::new(finished(sliders(self.index.len() + 1)?)));
        let work = || -> Result<()> {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(run) = runs.get(i) else { return Ok(()) };
                let slots = self.index.slots_of(run.start as u32).start..self.index.slots_of(run.end as u32 - 1).end;
                let mut sliders = sliders(slots.len())?;
                let mut slices = EntitySlices::default();
                for entity in run.clone() {
                    let slots = self.index.slots_of(entity as u32);
                    if slots.is_empty() {
                        continue;
                    }
                    for length in 0..self.plan.lengths.len() {
                        let locations = by_entity.of(entity).iter();
                        slices.set(locations.map(|&location| tasks[location.task as usize].visible(location, length)));
                        let outputs = self.plan.outputs.iter().zip(&mut sliders);
                        for (_, slider) in outputs.filter(|(output, _)| output.length == length) {
                            slider.slide(&slices, slots.clone());
                        }
                    }
                }
                let columns = finished(sliders);
                self.budget.grow(&self.subject, columns.iter().map(ResultColumn::item_bytes).sum())?;
                locked(&results).put(i, columns)?;
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
        drop(tasks);

        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner).columns;
        let dictionaries: Vec<Arc<ValueDictionary>> = dictionaries.into_iter().map(Arc::new).collect();
        let columns = results.into_iter().zip(&self.plan.outputs).map(|(mut column, output)| {
            column.push_empty();
            let encoding = output.input.map_or(Encoding::Signed, |input| self.plan.encoding(input));
            let dictionary = output.input.map(|input| dictionaries[self.plan.inputs[input].column].clone());
            column.into_slot_column(&output.data_type, encoding, dictionary.unwrap_or_default(), || Error::Overflow {
                subject: self.subject.clone(),
                column: output.column.clone(),
                result: output.data_type.to_string(),
            })
        });
        let columns = columns.collect::<Result<Vec<SlotColumn>>>()?;
        let types = self.plan.outputs.iter().map(|output| &output.data_type);
        Ok(Arc::new(WindowOutput { columns, memory: OutputMemory::of(self.index.len() * per_slot, types) }))
    }
}

/// Runs of entities with about as many slots each, in order. There are at most `most` of them, and one more.
fn entity_runs(index: &SpineIndex, most: usize) -> Vec<Range<usize>> {
    let slots_at_once = index.len().div_ceil(most.max(1)).max(MIN_SLOTS_AT_ONCE);
    let (mut runs, mut first, mut from) = (Vec::new(), 0, 0);
    for entity in 0..index.entities() {
        let end = index.slots_of(entity as u32).end as usize;
        if end - from >= slots_at_once || entity + 1 == index.entities() {
            runs.push(first..entity + 1);
            (first, from) = (entity + 1, end);
        }
    }
    runs
}

fn finished<'a>(sliders: Vec<Box<dyn Slider + 'a>>) -> Vec<ResultColumn> {
    sliders.into_iter().map(Slider::finish).collect()
}

fn taken(dictionaries: &[Mutex<ValueDictionary>]) -> Vec<ValueDictionary> {
    dictionaries.iter().map(|dictionary| std::mem::take(&mut *locked(dictionary))).collect()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The results of all runs of entities, appended in order as the runs are done. Few of them wait for their turn.
struct RunResults {
    columns: Vec<ResultColumn>,
    waiting: BTreeMap<usize, Vec<ResultColumn>>,
    next: usize,
}

impl RunResults {
    /// `columns` are empty.
    fn new(columns: Vec<ResultColumn>) -> Self {
        Self { columns, waiting: BTreeMap::new(), next: 0 }
    }

    fn put(&mut self, run: usize, columns: Vec<ResultColumn>) -> Result<()> {
        self.waiting.insert(run, columns);
        while let Some(parts) = self.waiting.remove(&self.next) {
            self.columns.iter_mut().zip(parts).try_for_each(|(column, part)| column.append(part))?;
            self.next += 1;
        }
        Ok(())
    }
}

/// Where the slices of each entity are.
struct EntityLocations {
    starts: Vec<usize>,
    locations: Vec<SliceLocation>,
}

impl EntityLocations {
    fn new(tasks: &[Slices], entities: usize) -> Self {
        let mut starts = vec![0usize; entities + 1];
        for slices in tasks {
            for &entity in &slices.entities {
                starts[entity as usize + 1] += 1;
            }
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut next = starts.clone();
        let mut locations = vec![SliceLocation::default(); starts.last().copied().unwrap_or(0)];
        for (task, slices) in (0u32..).zip(tasks) {
            for (slice, &entity) in (0u32..).zip(&slices.entities) {
                locations[next[entity as usize]] = SliceLocation { task, slice };
                next[entity as usize] += 1;
            }
        }
        Self { starts, locations }
    }

    fn of(&self, entity: usize) -> &[SliceLocation] {
        &self.locations[self.starts[entity]..self.starts[entity + 1]]
    }
}

/// The aggregates of each slot, and last those of a row without a slot.
struct WindowOutput {
    columns: Vec<SlotColumn>,
    memory: Option<OutputMemory>,
}

impl OperatorOutput for WindowOutput {
    fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let slots = UInt32Array::from(slots.to_vec());
        self.columns.iter().map(|column| column.read(&slots)).collect()
    }

    fn memory(&self) -> Option<OutputMemory> {
        self.memory
    }
}
