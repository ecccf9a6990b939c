//! The slices of one file's facts as bytes, and such slices added to those of a window operator.
//! Which files have such bytes, and where they lie, is not known here.
//!
//! All facts of the file lie in one ring (see `assignment`), so there is a slice for each entity.

use std::sync::Arc;

use super::{Window, assignment::AgeRings, locked, plan::PlannedState, slices::Slices, taken};
use crate::{
    error::Result,
    numeric::{NumberReader, NumberWriter},
    temporal::{
        aggregate::{
            FactOrder, KeyReader, KeyWriter, MergeContext, SliceStates, StateColumns, StateReader, StateWriter, TieBreaks,
        },
        sort_keys::{Encoding, ValueDictionary},
    },
};

/// The slices of one file's facts: one for each of its entities.
pub(in crate::temporal) struct WindowTile {
    /// By state of the plan; `None` for one that was not accumulated.
    states: Vec<Option<SliceStates>>,
    ties: TieBreaks,
}

/// The dictionaries of the columns and of the tie-breaks.
struct Dictionaries<'a> {
    columns: Vec<&'a ValueDictionary>,
    ties: Vec<(Encoding, &'a ValueDictionary)>,
}

impl Window {
    /// The encodings of the columns, and then of the tie-breaks.
    fn encodings(&self) -> impl Iterator<Item = Encoding> {
        self.plan.columns.iter().chain(&self.plan.ties).map(|column| column.encoding)
    }

    fn columns_of(&self, state: &PlannedState) -> StateColumns {
        let input = state.input.map(|input| &self.plan.inputs[input]);
        StateColumns {
            value: input.map_or(0, |input| input.column),
            by: input.and_then(|input| input.by).unwrap_or(0),
            first_tie: self.plan.columns.len(),
        }
    }

    fn order_of<'a>(&self, state: &PlannedState, dictionaries: &'a Dictionaries<'a>, none: &'a ValueDictionary) -> FactOrder<'a> {
        let column = state.input.map(|input| self.plan.inputs[input].column);
        let by = state.input.and_then(|input| self.plan.by(input));
        FactOrder {
            encoding: state.input.map_or(Encoding::Presence, |input| self.plan.encoding(input)),
            dictionary: column.map_or(none, |column| dictionaries.columns[column]),
            by: by.map(|(column, encoding)| (encoding, dictionaries.columns[column])),
            ties: &dictionaries.ties,
        }
    }

    /// The slices of these entities as bytes, once all accumulators have finished. All facts were taken as one slice of their entity.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) for a state that cannot be stored.
    pub(in crate::temporal) fn stored(&self, entities: &[u32], to: &mut NumberWriter) -> Result<()> {
        let (columns, ties) = (taken(&self.dictionaries), taken(&self.tie_dictionaries));
        let slices = self.joined(&columns, &ties)?;
        let mut keys: Vec<KeyWriter> = self.encodings().map(KeyWriter::new).collect();
        let is_stored = |state: usize| self.plan.outputs.iter().any(|o| o.state == state && self.is_held(o.length));
        let mut states = NumberWriter::default();
        to.slice(self.signature.as_bytes());
        for (number, planned) in self.plan.states.iter().enumerate() {
            to.unsigned(u64::from(is_stored(number)));
            if is_stored(number) {
                let columns = self.columns_of(planned);
                let mut writer = StateWriter { numbers: &mut states, keys: &mut keys, columns };
                slices.states[number].as_state().store(entities, &slices.ties, &mut writer)?;
            }
        }
        for (keys, dictionary) in keys.iter().zip(columns.iter().chain(&ties)) {
            to.unsigned(keys.used().len() as u64);
            keys.used().iter().for_each(|&number| to.slice(dictionary.value(number).unwrap_or_default()));
        }
        to.slice(&states.bytes);
        Ok(())
    }

    /// Do windows of this length hold the facts?
    fn is_held(&self, length: usize) -> bool {
        self.level.is_none_or(|level| self.plan.holds(level)[length])
    }

    /// The slices of all accumulators as those of one, a slice for each entity.
    fn joined(&self, columns: &[ValueDictionary], ties: &[ValueDictionary]) -> Result<Slices> {
        let mut finished = std::mem::take(&mut *locked(&self.finished));
        let mut all = finished.pop().unwrap_or_else(|| Slices::new(&self.plan));
        let dictionaries = Dictionaries {
            columns: columns.iter().collect(),
            ties: self.plan.ties.iter().zip(ties).map(|(tie, dictionary)| (tie.encoding, dictionary)).collect(),
        };
        let none = ValueDictionary::default();
        let entities = self.index.entities();
        for others in &finished {
            let numbers: Vec<u32> = (0..others.len() as u32).collect();
            let Slices { states, ties, .. } = &mut all;
            for ((states, others_of), planned) in states.iter_mut().zip(&others.states).zip(&self.plan.states) {
                if planned.kind.is_stored() {
                    let order = self.order_of(planned, &dictionaries, &none);
                    let mut with = MergeContext { order, ties: &mut *ties, other_ties: &others.ties };
                    states.as_state_mut().merge(&numbers, entities, others_of, &mut with)?;
                }
            }
        }
        for (states, planned) in all.states.iter_mut().zip(&self.plan.states) {
            if planned.kind.is_stored() {
                states.as_state_mut().finish(entities);
            }
        }
        Ok(all)
    }

    /// Reads the slices of so many entities; `None` if the bytes are not those of such a window.
    pub(in crate::temporal) fn loaded(&self, entities: usize, from: &mut NumberReader<'_>) -> Option<WindowTile> {
        if from.slice()? != self.signature.as_bytes() {
            return None;
        }
        let is_stored: Vec<bool> = self.plan.states.iter().map(|_| Some(from.unsigned()? == 1)).collect::<Option<_>>()?;
        let mut keys = Vec::new();
        for (encoding, dictionary) in self.encodings().zip(self.dictionaries.iter().chain(&self.tie_dictionaries)) {
            let count = from.unsigned()?;
            let mut dictionary = locked(dictionary);
            let numbers = (0..count).map(|_| Some(dictionary.number(from.slice()?))).collect::<Option<Vec<u64>>>()?;
            keys.push(KeyReader((encoding == Encoding::Dictionary).then_some(numbers)));
        }
        let mut reader = StateReader {
            numbers: NumberReader::new(from.slice()?),
            keys: &keys,
            columns: StateColumns::default(),
            ties: TieBreaks::new(self.plan.ties.len()),
        };
        let mut states = Vec::with_capacity(is_stored.len());
        for (planned, is_stored) in self.plan.states.iter().zip(is_stored) {
            reader.columns = self.columns_of(planned);
            states.push(if is_stored { Some(SliceStates::load(planned.kind, entities, &mut reader)?) } else { None });
        }
        reader.numbers.is_at_end().then_some(WindowTile { states, ties: reader.ties })
    }
}

/// Adds the slices of files to those of a window operator. It is an accumulator that is given slices instead of facts.
pub(in crate::temporal) struct TileMerger {
    window: Arc<Window>,
    rings: AgeRings,
    slices: Slices,
    /// Bytes reserved.
    bytes: usize,
}

impl TileMerger {
    /// `None` if entities have several instants.
    pub(in crate::temporal) fn new(window: Arc<Window>) -> Option<Self> {
        let instant = window.index.single_instant()?;
        let (rings, slices) = (AgeRings::new(&window, instant), Slices::new(&window.plan));
        Some(Self { window, rings, slices, bytes: 0 })
    }

    /// Can the slices of these facts be added: do they all lie in one ring, and is every state there that is read in it? `events` are
    /// the first and the last event time, in ticks.
    pub(in crate::temporal) fn admits(&self, tile: &WindowTile, events: (i64, i64)) -> bool {
        let (first, last) = (self.rings.ring(events.0), self.rings.ring(events.1));
        let is_there = |ring: usize| (0..tile.states.len()).all(|s| tile.states[s].is_some() || !self.rings.is_needed(s, ring));
        first == last && first.is_none_or(is_there)
    }

    /// Adds the slices of a file's entities, given their numbers here. Call it only if [`TileMerger::admits`] them.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) and [`Error::Limit`](crate::Error::Limit) as for any accumulator.
    pub(in crate::temporal) fn merge(&mut self, tile: &WindowTile, entities: &[u32], events: (i64, i64)) -> Result<()> {
        let Some(ring) = self.rings.ring(events.0) else { return Ok(()) };
        let window = &self.window;
        self.rings.open(window, &mut self.slices)?;
        let numbers: Vec<u32> = entities.iter().map(|&entity| self.rings.slice(entity, ring)).collect();
        let columns: Vec<_> = window.dictionaries.iter().map(locked).collect();
        let ties: Vec<_> = window.tie_dictionaries.iter().map(locked).collect();
        let dictionaries = Dictionaries {
            columns: columns.iter().map(|dictionary| &**dictionary).collect(),
            ties: window.plan.ties.iter().zip(&ties).map(|(tie, dictionary)| (tie.encoding, &**dictionary)).collect(),
        };
        let none = ValueDictionary::default();
        let count = self.slices.len();
        let Slices { states, ties: own_ties, .. } = &mut self.slices;
        for (number, (states, planned)) in states.iter_mut().zip(&window.plan.states).enumerate() {
            if let Some(others) = tile.states[number].as_ref().filter(|_| self.rings.is_needed(number, ring)) {
                let order = window.order_of(planned, &dictionaries, &none);
                let mut with = MergeContext { order, ties: &mut *own_ties, other_ties: &tile.ties };
                states.as_state_mut().merge(&numbers, count, others, &mut with)?;
            }
        }
        let of_dictionaries: usize = columns.iter().chain(&ties).map(|dictionary| dictionary.bytes).sum();
        let bytes = self.slices.bytes() + of_dictionaries;
        window.budget.grow(&window.subject, bytes.saturating_sub(self.bytes))?;
        self.bytes = self.bytes.max(bytes);
        Ok(())
    }

    /// Hands the slices over to the operator.
    pub(in crate::temporal) fn finish(mut self) {
        self.slices.finish();
        if self.slices.len() > 0 {
            locked(&self.window.finished).push(self.slices);
        }
    }
}
