//! The bin of a number, by edges that are given.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch},
    datatypes::{DataType, Float64Type},
};

use super::{Encoder, Spec, unusable};
use crate::error::Result;

/// The bin of a number by edges `e1 < e2 < ... < en`, as `Int64`; the numbering is that of `numpy.digitize`.
///
/// | number | bin |
/// |---|---|
/// | `x < e1` | 0, or NULL with [`Bins::null_beyond`] |
/// | `e1 <= x < e2` | 1 |
/// | ... | ... |
/// | `e(n-1) <= x < en` | n - 1 |
/// | `en <= x` | n, or NULL with [`Bins::null_beyond`] |
///
/// Bins are half-open: an edge belongs to the bin above it. Infinities lie below and above all edges. NULL stays NULL, and NaN is
/// NULL. Edges that are not finite and strictly increasing are refused when a set is built, and so are too few of them: one is
/// needed, two with [`Bins::null_beyond`].
///
/// ```
/// use asof::encoder::Bins;
/// let distance = Bins::of("trip_distance", [1.0, 3.0, 10.0]); // named `trip_distance_bin`, 0 to 3
/// let age = Bins::of("age", [18.0, 40.0, 65.0, 120.0]).null_beyond().named("age_group"); // 1 to 3
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Bins {
    column: String,
    edges: Vec<f64>,
    is_null_beyond: bool,
    output: String,
}

impl Bins {
    /// The feature `<column>_bin`, by these edges.
    pub fn of(column: impl Into<String>, edges: impl IntoIterator<Item = f64>) -> Self {
        let column = column.into();
        Self { output: format!("{column}_bin"), column, edges: edges.into_iter().collect(), is_null_beyond: false }
    }

    /// Makes numbers below the first edge, and at or above the last one, NULL. The other bins keep their numbers.
    pub fn null_beyond(mut self) -> Self {
        self.is_null_beyond = true;
        self
    }

    /// The feature's name.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }

    fn check(&self) -> Result<()> {
        let needed = if self.is_null_beyond { 2 } else { 1 };
        if self.edges.len() < needed {
            let reason = format!("it has {} edges; at least {needed} are needed for a bin", self.edges.len());
            return Err(unusable(&self.output, reason));
        }
        if let Some(odd) = self.edges.iter().find(|edge| !edge.is_finite()) {
            let reason =
                format!("one of its edges is {odd:?}; what is beyond the finite edges has bins of its own, so leave it out");
            return Err(unusable(&self.output, reason));
        }
        match self.edges.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => {
                let reason =
                    format!("its edge {:?} is followed by {:?}; write each edge once, the smallest first", pair[0], pair[1]);
                Err(unusable(&self.output, reason))
            }
            None => Ok(()),
        }
    }

    /// The bin by usable edges.
    fn bin(&self, x: f64) -> Option<i64> {
        if x.is_nan() {
            return None;
        }
        let bin = self.edges.partition_point(|edge| *edge <= x);
        let is_beyond = bin == 0 || bin == self.edges.len();
        i64::try_from(bin).ok().filter(|_| !(is_beyond && self.is_null_beyond))
    }
}

impl Encoder for Bins {
    fn spec(&self) -> Spec {
        let spec = Spec::new("bins", 1).number(&self.column).output(&self.output, DataType::Int64);
        spec.parameter("edges", self.edges.clone()).parameter("beyond", if self.is_null_beyond { "null" } else { "bins" })
    }

    /// It is called on fixed inputs when a set is built, so unusable edges are refused there.
    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.check()?;
        let numbers = input.column(0).as_primitive::<Float64Type>();
        let bins: Int64Array = numbers.iter().map(|x| self.bin(x?)).collect();
        Ok(vec![Arc::new(bins)])
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, Float64Array};

    use super::*;
    use crate::{encoder::input_schema, error::Error};

    const INF: f64 = f64::INFINITY;

    fn bins(bins: &Bins, numbers: Vec<Option<f64>>) -> Vec<Option<i64>> {
        let column: ArrayRef = Arc::new(Float64Array::from(numbers));
        let encoded = bins.encode(&RecordBatch::try_from_iter([("x", column)]).unwrap()).unwrap();
        encoded[0].as_primitive::<arrow::datatypes::Int64Type>().iter().collect()
    }

    /// The bins are those of `np.digitize(x, [-1.5, 0.0, 2.0, 10.0])`, which puts NaN above all edges.
    #[test]
    fn bins_are_those_of_digitize() {
        let of = Bins::of("x", [-1.5, 0.0, 2.0, 10.0]);
        let below_2 = 1.9999999999999998;
        let numbers = [-INF, -1e300, -1.6, -1.5, -1.4, -0.0, 0.0, 5e-324, below_2, 2.0, 9.999, 10.0, 1e9, INF];
        let expected = [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4, 4];
        assert_eq!(bins(&of, numbers.map(Some).to_vec()), expected.map(Some));
        let inner = expected.map(|bin| Some(bin).filter(|bin| (1..4).contains(bin)));
        assert_eq!(bins(&of.clone().null_beyond(), numbers.map(Some).to_vec()), inner);
        for of in [of.clone(), of.null_beyond()] {
            assert_eq!(bins(&of, vec![None, Some(f64::NAN), Some(1.0)]), [None, None, Some(2)]);
        }
        assert_eq!(bins(&Bins::of("x", [0.0]), vec![Some(-1.0), Some(0.0)]), [Some(0), Some(1)]);
    }

    #[test]
    fn unusable_edges_are_refused() {
        let input = RecordBatch::new_empty(input_schema(&Bins::of("x", [0.0]).spec()));
        for (edges, said) in [
            (vec![], "0 edges; at least 1"),
            (vec![1.0, 1.0], "edge 1.0 is followed by 1.0"),
            (vec![-0.0, 0.0], "edge -0.0 is followed by 0.0"),
            (vec![0.0, 2.0, 1.0], "edge 2.0 is followed by 1.0"),
            (vec![0.0, f64::NAN], "edges is NaN"),
            (vec![f64::NAN], "edges is NaN"),
            (vec![-INF, 0.0], "edges is -inf"),
            (vec![0.0, INF], "edges is inf"),
        ] {
            let refused = Bins::of("x", edges).encode(&input).unwrap_err();
            assert!(matches!(&refused, Error::Definition { subject, .. } if subject == "`x_bin`"), "{refused}");
            assert!(refused.to_string().contains(said), "{refused}");
        }
        let refused = Bins::of("x", [0.0]).null_beyond().encode(&input).unwrap_err();
        assert!(refused.to_string().contains("1 edges; at least 2"), "{refused}");
        assert!(Bins::of("x", [f64::MIN, f64::MAX]).encode(&input).unwrap()[0].is_empty());
    }

    #[test]
    fn edges_and_what_is_beyond_are_part_of_the_declaration() {
        let of = |edges: [f64; 2]| Bins::of("x", edges);
        assert_ne!(of([0.0, 1.0]).spec(), of([0.0, 2.0]).spec());
        assert_ne!(of([0.0, 1.0]).spec(), of([0.0, 1.0]).null_beyond().spec());
        assert_eq!(of([0.0, 1.0]).named("y").spec().outputs[0].name(), "y");
    }
}
