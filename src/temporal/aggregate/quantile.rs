//! Quantiles and the median. Values of a window are counted by rank in a Fenwick tree.

use std::ops::Range;

use arrow::datatypes::DataType;

use super::{
    Aggregate, AggregateFunction, AggregateKind, Expression, Fraction,
    entity_slices::{EntitySlices, Step},
    fenwick::Fenwick,
    require_number,
    result_columns::{Nullable, ResultColumn},
    slider::{OutputStates, Slider},
    state::StateKind,
    value_log::ValueLogs,
};
use crate::{
    error::Result,
    numeric::{OrderStatistic, key_float, quantile},
    temporal::sort_keys::Encoding,
};

impl Aggregate {
    /// The median: the 0.5 [quantile](Aggregate::quantile).
    pub fn median(over: impl Into<Expression>) -> Self {
        Self::of(AggregateKind::Quantile(Fraction(0.5)), "median", over.into())
    }

    /// The value below which the fraction `q` of the values lies, between 0 and 1; exact, and linear between neighbours as
    /// in Hyndman and Fan's definition 7 (*Sample Quantiles in Statistical Packages*, 1996), NumPy's default.
    pub fn quantile(over: impl Into<Expression>, q: f64) -> Self {
        Self::of(AggregateKind::Quantile(Fraction(q)), &format!("q{q}"), over.into())
    }
}

pub(super) struct QuantileFunction(pub(super) f64);

impl AggregateFunction for QuantileFunction {
    fn encoding(&self, input: &DataType) -> Encoding {
        Encoding::for_quantile(input)
    }

    fn result_type(&self, input: &DataType) -> Result<DataType, &'static str> {
        require_number(input)?;
        Ok(DataType::Float64)
    }

    fn state(&self, _: Encoding) -> StateKind {
        StateKind::Values
    }

    fn flaw(&self) -> Option<String> {
        let q = self.0;
        (!(0.0..=1.0).contains(&q)).then(|| format!("asks for the quantile {q}; a quantile is between 0 and 1"))
    }

    fn slider<'a>(&self, states: OutputStates<'a>, slots: usize) -> Result<Box<dyn Slider + 'a>> {
        // Short decimals are in units of their last digit, longer ones are floats.
        let scale = if states.order.encoding == Encoding::Decimal64 { states.scale } else { 0 };
        let (logs, results) = (ValueLogs::new(&states)?, Nullable::with_capacity(slots));
        Ok(Box::new(QuantileSlider { logs, q: self.0, scale, results }))
    }
}

struct QuantileSlider<'a> {
    logs: ValueLogs<'a>,
    q: f64,
    scale: i8,
    results: Nullable<f64>,
}

impl Slider for QuantileSlider<'_> {
    fn slide(&mut self, slices: &EntitySlices, slots: Range<u32>) {
        let Self { logs, q, scale, results } = self;
        let (ranks, values) = logs.rank(slices, |_, value| value);
        let (encoding, scale) = (logs.encoding, *scale);
        let value_of = |key: u64| match encoding {
            Encoding::Float => OrderStatistic::Float(key_float(key)),
            _ => OrderStatistic::Decimal { units: encoding.integer(key), scale },
        };
        let mut counts = Fenwick::new(values.len());
        slices.slide(slots, |step| match step {
            Step::Enter(i) => ranks.of_slice(i).iter().for_each(|&rank| counts.add(rank as usize, 1)),
            Step::Leave(i) => ranks.of_slice(i).iter().for_each(|&rank| counts.add(rank as usize, -1)),
            Step::Slot(_) => {
                results.push(quantile(*q, counts.total(), |position| value_of(values[counts.rank_at(position)])));
            }
        });
    }

    fn finish(self: Box<Self>) -> ResultColumn {
        ResultColumn::Floats(self.results)
    }
}
