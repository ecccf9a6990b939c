//! From the states of slices to results: a slider moves the windows of one output over the slices of each entity.
//! Each aggregate has its own; a call is for one entity and output, and the loop over slices is inside.

use std::ops::Range;

use arrow::datatypes::DataType;

use super::{
    entity_slices::{EntitySlices, SliceLocation},
    fact_order::{FactOrder, TieBreaks},
    result_columns::ResultColumn,
    state::{PerSlice, SliceStates, StatesOf},
};
use crate::error::{Error, Result};

/// Makes the results of one output, entity by entity.
pub(in crate::temporal) trait Slider {
    /// Appends the results of an entity's slots.
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>);

    /// The results.
    fn finish(self: Box<Self>) -> ResultColumn;
}

/// What the results of one output are made of.
pub(in crate::temporal) struct OutputStates<'a> {
    /// The states of the output's input, by task.
    pub(in crate::temporal) tasks: Vec<&'a SliceStates>,
    /// The tie-breaks, by task.
    pub(in crate::temporal) ties: Vec<&'a TieBreaks>,
    pub(in crate::temporal) order: FactOrder<'a>,
    /// The digits after the point of the input, if it is a decimal; else zero.
    pub(in crate::temporal) scale: i8,
    /// The units of the facts' event times in a second.
    pub(in crate::temporal) per_second: u64,
    pub(in crate::temporal) result_type: &'a DataType,
}

impl<'a> OutputStates<'a> {
    /// The states of all tasks, as those of one kind.
    ///
    /// # Errors
    /// [`Error::Internal`] if they are of another kind: the plan keeps other states than the aggregate reads.
    pub(super) fn typed<T: StatesOf>(&self) -> Result<Vec<&'a T>> {
        let states: Option<Vec<&'a T>> = self.tasks.iter().copied().map(T::of).collect();
        states.ok_or_else(|| {
            let reason = "an aggregate finds states that it cannot read".into();
            Error::Internal { subject: "a window".into(), reason }
        })
    }

    /// As [`OutputStates::typed`], of states of one size.
    pub(super) fn per_slice<T>(&self) -> Result<TaskStates<'a, T>>
    where
        PerSlice<T>: StatesOf,
    {
        Ok(TaskStates(self.typed()?))
    }
}

/// The states of all tasks.
pub(super) struct TaskStates<'a, T>(Vec<&'a PerSlice<T>>);

impl<'a, T> TaskStates<'a, T> {
    /// The state of a slice.
    #[inline]
    pub(super) fn at(&self, location: SliceLocation) -> &'a T {
        self.0[location.task as usize].at(location)
    }
}
