//! One task's part of a window operator: finds the slice of each fact and adds the fact to the states of its slice.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard},
};

use arrow::{array::ArrayRef, buffer::NullBuffer};

use super::{
    Window,
    assignment::{Assignment, SliceFinder},
    locked,
    plan::{AggregateInput, PlannedColumn, ValueSource},
    slices::Slices,
};
use crate::{
    error::Result,
    temporal::{
        aggregate::{FactOrder, FactUpdate, TieBreaks},
        fact_chunk::FactChunk,
        operator::FactAccumulator,
        sort_keys::{EncodedValues, Encoding, ValueDictionary, encode, encode_keys},
    },
};

pub(super) struct WindowAccumulator {
    window: Arc<Window>,
    finder: SliceFinder,
    slices: Slices,
    /// Bytes reserved.
    bytes: usize,
}

impl WindowAccumulator {
    pub(super) fn new(window: Arc<Window>) -> Self {
        Self { finder: SliceFinder::new(&window), slices: Slices::new(&window.plan), bytes: 0, window }
    }
}

impl FactAccumulator for WindowAccumulator {
    fn update(&mut self, chunk: &FactChunk) -> Result<()> {
        let assignment = self.finder.assign(&self.window, &mut self.slices, chunk)?;
        self.add(chunk, &assignment)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        match self.finder {
            SliceFinder::Previous(_) | SliceFinder::Known => self.slices.sort_by_entity(self.window.index.entities()),
            // The slices of an entity are next to each other already.
            SliceFinder::Ages(_) => {}
        }
        self.slices.finish();
        locked(&self.window.finished).push(self.slices);
        Ok(())
    }
}

impl WindowAccumulator {
    /// An accumulator of facts whose slices the caller opens.
    pub(super) fn of_known_slices(window: Arc<Window>) -> Self {
        Self { finder: SliceFinder::Known, slices: Slices::new(&window.plan), bytes: 0, window }
    }

    /// Opens a slice for each fact of a chunk that [`SliceFinder::Known`] leaves to the caller, and adds the facts. `edges` are the first
    /// slot that sees the fact, and for each length of windows the first slot that sees it no longer.
    pub(super) fn add_with_edges<'a>(&mut self, chunk: &FactChunk, edges: impl Iterator<Item = (u32, &'a [u32])>) -> Result<()> {
        let mut slice_of: Vec<u32> = Vec::with_capacity(chunk.rows.len());
        for (&entity, (enter, leaves)) in chunk.entities.iter().zip(edges) {
            let same =
                |&slice: &u32| self.slices.entities[slice as usize] == entity && self.slices.has_edges(slice, enter, leaves);
            let slice = match slice_of.last().copied().filter(same) {
                Some(slice) => slice,
                None => self.slices.open(entity, enter, leaves),
            };
            slice_of.push(slice);
        }
        self.add(chunk, &Assignment::uniform(slice_of))
    }

    /// Adds facts to the states of their slices.
    fn add(&mut self, chunk: &FactChunk, assignment: &Assignment) -> Result<()> {
        let window = self.window.clone();
        if assignment.is_empty() {
            return Ok(());
        }
        let (batch, plan) = (&chunk.batch, &window.plan);
        let is_seen = |i: usize, length: usize| self.slices.is_seen(assignment.slice(i), length);
        let masks = plan.filters.iter().map(|filter| filter.mask(chunk, is_seen)).collect::<Result<Vec<NullBuffer>>>()?;
        let values = plan.values.iter().map(|value| {
            let passed = value.filter.map(|filter| &masks[filter]);
            value.expression.values(chunk, passed, is_seen)
        });
        let values = values.collect::<Result<Vec<ArrayRef>>>()?;
        // Tasks share the dictionaries, and wait for each other only where there are any.
        let mut dictionaries: Vec<ColumnDictionary<'_>> =
            plan.columns.iter().zip(&window.dictionaries).map(ColumnDictionary::of).collect();
        let mut tie_dictionaries: Vec<ColumnDictionary<'_>> =
            plan.ties.iter().zip(&window.tie_dictionaries).map(ColumnDictionary::of).collect();
        let mut columns = Vec::with_capacity(plan.columns.len());
        for (column, dictionary) in plan.columns.iter().zip(&mut dictionaries) {
            columns.push(match column.source {
                ValueSource::Column(position) => encode(column.encoding, batch.column(position), dictionary)?,
                ValueSource::Value(number) => encode(column.encoding, &values[number], dictionary)?,
                ValueSource::Facts => (EncodedValues::Keys(Vec::new().into()), None),
            });
        }
        let nulls_of = |input: &AggregateInput| {
            let mask = input.filter.map(|filter| &masks[filter]);
            let nulls = NullBuffer::union(columns[input.column].1.as_ref(), mask);
            NullBuffer::union(nulls.as_ref(), input.by.and_then(|by| columns[by].1.as_ref()))
        };
        let nulls: Vec<Option<NullBuffer>> = plan.inputs.iter().map(nulls_of).collect();
        let mut tie_columns = Vec::with_capacity(plan.ties.len());
        for (tie, dictionary) in plan.ties.iter().zip(&mut tie_dictionaries) {
            if let ValueSource::Column(position) = tie.source {
                tie_columns.push(encode_keys(tie.encoding, batch.column(position), dictionary)?);
            }
        }
        let needs_ties = plan.states.iter().any(|state| state.kind.needs_fact_order());
        let first_tie = if needs_ties { self.slices.ties.add(chunk, &tie_columns) } else { 0 };

        let ties: Vec<(Encoding, &ValueDictionary)> =
            plan.ties.iter().zip(&tie_dictionaries).map(|(tie, dictionary)| (tie.encoding, &**dictionary)).collect();
        let no_dictionary = ValueDictionary::default();
        let slices = self.slices.len();
        let Slices { states, ties: tie_breaks, .. } = &mut self.slices;
        let tie_breaks: &TieBreaks = tie_breaks;
        for (number, (state, planned)) in states.iter_mut().zip(&plan.states).enumerate() {
            let column = planned.input.map(|input| plan.inputs[input].column);
            let dictionary = column.map_or(&no_dictionary, |column| &*dictionaries[column]);
            let encoding = planned.input.map_or(Encoding::Presence, |input| plan.encoding(input));
            let by = planned.input.and_then(|input| plan.by(input));
            state.as_state_mut().update(&FactUpdate {
                chunk,
                slice_of: assignment.of_state(number),
                slices,
                values: column.map(|column| &columns[column].0),
                by: by.map(|(column, _)| &columns[column].0),
                nulls: planned.input.and_then(|input| nulls[input].as_ref()),
                order: FactOrder {
                    encoding,
                    dictionary,
                    by: by.map(|(column, encoding)| (encoding, &*dictionaries[column])),
                    ties: &ties,
                },
                first_tie,
                ties: tie_breaks,
            })?;
        }
        let of_dictionaries = dictionaries.iter().chain(&tie_dictionaries).map(|dictionary| dictionary.bytes);
        let bytes = self.slices.bytes() + of_dictionaries.sum::<usize>();
        drop((dictionaries, tie_dictionaries));
        window.budget.grow(&window.subject, bytes.saturating_sub(self.bytes))?;
        self.bytes = self.bytes.max(bytes);
        Ok(())
    }
}

/// The dictionary of a column: the operator's if the column is encoded by it, else an empty one.
enum ColumnDictionary<'a> {
    Shared(MutexGuard<'a, ValueDictionary>),
    Unused(ValueDictionary),
}

impl<'a> ColumnDictionary<'a> {
    fn of((column, shared): (&PlannedColumn, &'a Mutex<ValueDictionary>)) -> Self {
        match column.encoding == Encoding::Dictionary {
            true => ColumnDictionary::Shared(locked(shared)),
            false => ColumnDictionary::Unused(ValueDictionary::default()),
        }
    }
}

impl Deref for ColumnDictionary<'_> {
    type Target = ValueDictionary;

    fn deref(&self) -> &ValueDictionary {
        match self {
            ColumnDictionary::Shared(dictionary) => dictionary,
            ColumnDictionary::Unused(dictionary) => dictionary,
        }
    }
}

impl DerefMut for ColumnDictionary<'_> {
    fn deref_mut(&mut self) -> &mut ValueDictionary {
        match self {
            ColumnDictionary::Shared(dictionary) => dictionary,
            ColumnDictionary::Unused(dictionary) => dictionary,
        }
    }
}
