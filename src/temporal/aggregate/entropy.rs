//! The entropy of the frequencies of values.
//! It does not compute logarithms: that is what `numeric` does.

use std::ops::Range;

use arrow::datatypes::DataType;

use super::{
    Aggregate, AggregateFunction, AggregateKind, Expression,
    count_distinct::distinct,
    entity_slices::{EntitySlices, Step},
    require_order,
    result_columns::{Nullable, ResultColumn},
    slider::{OutputStates, Slider},
    state::StateKind,
    value_log::ValueLogs,
};
use crate::{error::Result, numeric::Entropy, temporal::sort_keys::Encoding};

impl Aggregate {
    /// How evenly the values are spread over the different ones: Shannon's entropy in bits, `-Σ p log2 p`, where `p` is the share of
    /// each different value (*A Mathematical Theory of Communication*, 1948). It is 0 where all values are equal, and 1 for two
    /// values that are equally frequent.
    ///
    /// It depends on the frequencies alone, and is computed with 100 bits behind the point and rounded once, with the same bits on
    /// every platform. All NaN are one value, and so are both zeros.
    pub fn entropy(over: impl Into<Expression>) -> Self {
        Self::of(AggregateKind::Entropy, "entropy", over.into())
    }
}

pub(super) struct EntropyFunction;

impl AggregateFunction for EntropyFunction {
    fn result_type(&self, input: &DataType) -> Result<DataType, &'static str> {
        require_order(input)?;
        Ok(DataType::Float64)
    }

    fn state(&self, _: Encoding) -> StateKind {
        StateKind::Values
    }

    fn slider<'a>(&self, states: OutputStates<'a>, slots: usize) -> Result<Box<dyn Slider + 'a>> {
        let (logs, results) = (ValueLogs::new(&states)?, Nullable::with_capacity(slots));
        Ok(Box::new(EntropySlider { logs, entropy: Entropy::new(), results }))
    }
}

struct EntropySlider<'a> {
    logs: ValueLogs<'a>,
    entropy: Entropy,
    results: Nullable<f64>,
}

impl Slider for EntropySlider<'_> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { logs, entropy, results } = self;
        let (ranks, values) = logs.rank(slices, distinct);
        entropy.clear();
        let mut frequencies = Frequencies { all: vec![Frequency::default(); values.len()], changed: Vec::new() };
        slices.slide(slots, |step| match step {
            Step::Enter(i) => frequencies.change(ranks.of_slice(i), |count| count + 1),
            Step::Leave(i) => frequencies.change(ranks.of_slice(i), |count| count - 1),
            Step::Slot(_) => {
                frequencies.hand_over(entropy);
                results.push(entropy.bits());
            }
        });
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Floats(self.results)
    }
}

/// How often the value of a rank occurs in the window, and how often as far as the entropy knows.
#[derive(Clone, Copy, Default)]
struct Frequency {
    now: u32,
    known: u32,
}

/// The frequencies of all ranks. The entropy learns of them when it is asked for: one change of a rank then stands for many, and
/// logarithms are needed for it alone.
struct Frequencies {
    all: Vec<Frequency>,
    /// The ranks whose frequencies may differ from those that the entropy knows.
    changed: Vec<u32>,
}

impl Frequencies {
    fn change(&mut self, ranks: &[u32], change: impl Fn(u32) -> u32) {
        for &rank in ranks {
            let frequency = &mut self.all[rank as usize];
            if frequency.now == frequency.known {
                self.changed.push(rank);
            }
            frequency.now = change(frequency.now);
        }
    }

    fn hand_over(&mut self, entropy: &mut Entropy) {
        for rank in self.changed.drain(..) {
            let frequency = &mut self.all[rank as usize];
            entropy.change(frequency.known, frequency.now);
            frequency.known = frequency.now;
        }
    }
}
