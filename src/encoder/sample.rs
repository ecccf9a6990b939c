//! A seeded sample by hashing: it depends on the rows alone, not on their order, their files or the number of tasks.

use arrow::{
    array::{Array, AsArray, BooleanArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Field, Float64Type, Int64Type},
};

use super::{AsOfView, Purpose, RowSelection, Spec};
use crate::{
    error::{Error, Result},
    numeric::canonical,
};

/// Keeps a fraction of the rows, chosen by a hash of some of their columns and a seed.
///
/// The hash starts with `h = mix(seed)` and takes in each column's 64-bit word `w` by `h = mix(h ^ w)`, where `mix` is the
/// step of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014). A row is kept
/// when the upper 53 bits of `h`, read as a number in `[0, 1)`, are below the fraction. The word of an integer or instant
/// is its two's complement, of a float its bits with one zero and one NaN, of a text the words of its bytes and its
/// length; NULL is a word of its own. Rows that are equal in these columns are kept or dropped together.
///
/// ```
/// use asof::encoder::Sample;
/// let tenth = Sample::fraction(0.1, 7).of_instants(["pickup_at"]).of_numbers(["trip_distance", "total_amount"]);
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Sample {
    fraction: f64,
    seed: u64,
    inputs: Vec<Field>,
}

impl Sample {
    /// A fraction from 0 to 1, and the seed. A set with another fraction is refused when it is built. Name the columns to be hashed
    /// with the methods below.
    pub fn fraction(fraction: f64, seed: u64) -> Self {
        Self { fraction, seed, inputs: Vec::new() }
    }

    /// Adds columns of numbers, hashed as floats.
    pub fn of_numbers<S: Into<String>>(self, columns: impl IntoIterator<Item = S>) -> Self {
        self.of(columns, DataType::Float64)
    }

    /// Adds columns of instants, hashed as microseconds UTC.
    pub fn of_instants<S: Into<String>>(self, columns: impl IntoIterator<Item = S>) -> Self {
        let spec = columns.into_iter().fold(Spec::new("", 0), Spec::instant);
        Self { inputs: self.inputs.into_iter().chain(spec.inputs).collect(), ..self }
    }

    /// Adds columns of texts.
    pub fn of_texts<S: Into<String>>(self, columns: impl IntoIterator<Item = S>) -> Self {
        self.of(columns, DataType::Utf8)
    }

    /// Adds columns of integers.
    pub fn of_integers<S: Into<String>>(self, columns: impl IntoIterator<Item = S>) -> Self {
        self.of(columns, DataType::Int64)
    }

    fn of<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>, data_type: DataType) -> Self {
        self.inputs.extend(columns.into_iter().map(|c| Field::new(c, data_type.clone(), true)));
        self
    }
}

impl RowSelection for Sample {
    type State = ();

    fn spec(&self) -> Spec {
        let spec = self.inputs.iter().fold(Spec::new("sample", 1), |spec, f| spec.input(f.name(), f.data_type().clone()));
        // As text, because JSON numbers beyond 2^53 are not exact.
        spec.parameter("fraction", self.fraction).parameter("seed", self.seed.to_string())
    }

    fn purpose(&self) -> Purpose {
        Purpose::Thinning
    }

    /// Learns nothing. It is called when a set is built, so an unusable sample is refused there.
    fn fit(&self, _: &AsOfView<'_>) -> Result<()> {
        let refused = |reason: &str| Err(Error::Definition { subject: "`sample`".into(), reason: reason.into() });
        if self.inputs.is_empty() {
            return refused("it names no columns to hash, so it would keep all rows or none");
        }
        if !(0.0..=1.0).contains(&self.fraction) {
            return refused(&format!("its fraction is {:?}; write one from 0 to 1", self.fraction));
        }
        Ok(())
    }

    fn learns_in_any_order(&self) -> bool {
        true
    }

    fn keep(&self, (): &(), input: &RecordBatch) -> Result<BooleanArray> {
        let mut hashes = vec![mix(self.seed); input.num_rows()];
        for column in input.columns() {
            take_in(column, &mut hashes)?;
        }
        let kept = hashes.into_iter().map(|h| ((h >> 11) as f64) * (-53_f64).exp2() < self.fraction);
        Ok(kept.collect::<Vec<_>>().into())
    }
}

const NULL_WORD: u64 = 0x6e75_6c6c_6e75_6c6c;

fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn take_in(column: &dyn Array, hashes: &mut [u64]) -> Result<()> {
    let mut words = |word: &dyn Fn(usize) -> u64| {
        for (row, hash) in hashes.iter_mut().enumerate() {
            *hash = mix(*hash ^ if column.is_null(row) { NULL_WORD } else { word(row) });
        }
    };
    match column.data_type() {
        DataType::Float64 => {
            let numbers = column.as_primitive::<Float64Type>().values();
            words(&|row| canonical(numbers[row]).to_bits());
        }
        DataType::Int64 | DataType::Timestamp(..) => {
            let integers = cast(column, &DataType::Int64)?;
            let integers = integers.as_primitive::<Int64Type>().values();
            words(&|row| integers[row] as u64);
        }
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            for (row, hash) in hashes.iter_mut().enumerate() {
                if column.is_null(row) {
                    *hash = mix(*hash ^ NULL_WORD);
                    continue;
                }
                let bytes = texts.value(row).as_bytes();
                for chunk in bytes.chunks(8) {
                    let word = chunk.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
                    *hash = mix(*hash ^ word);
                }
                *hash = mix(*hash ^ bytes.len() as u64);
            }
        }
        other => {
            let reason = format!("it cannot hash {other}");
            return Err(Error::Definition { subject: "`sample`".into(), reason });
        }
    }
    Ok(())
}
