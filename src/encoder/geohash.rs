//! The geohash of a point: a text that names a cell of the globe, and whose beginnings name the larger cells around it.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, StringArray},
    datatypes::{DataType, Float64Type},
};

use super::{Encoder, Spec, geo::is_point, unusable};
use crate::error::Result;

/// The digits of G. Niemeyer's base 32: no a, i, l and o.
const DIGITS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
const BITS_PER_DIGIT: u32 = 5;
const LONGEST: u8 = 12;

/// The geohash of a point given in degrees, as text of 1 to 12 characters (G. Niemeyer, geohash.org, 2008).
///
/// The globe is halved again and again, by longitude and latitude in turn, longitude first. Each half gives a bit: 1 for the
/// eastern or northern half, which holds the line between the two. Five bits make a character of
/// `0123456789bcdefghjkmnpqrstuvwxyz`. Longitude 180 and latitude 90 belong to the easternmost and northernmost cell. A cell of 5
/// characters is about 5 km wide, one of 7 about 150 m.
///
/// NULL stays NULL, and a point beyond the globe is NULL: a latitude beyond ±90, a longitude beyond ±180, NaN. A precision that
/// is not from 1 to 12 is refused when a set is built.
///
/// ```
/// use asof::encoder::Geohash;
/// let cell = Geohash::of(["pickup_latitude", "pickup_longitude"], 6, "pickup_geohash");
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Geohash {
    columns: [String; 2],
    precision: u8,
    output: String,
}

impl Geohash {
    /// The feature `output`, from the columns `[latitude, longitude]`, of `precision` characters.
    pub fn of(point: [&str; 2], precision: u8, output: impl Into<String>) -> Self {
        Self { columns: point.map(str::to_owned), precision, output: output.into() }
    }
}

impl Encoder for Geohash {
    fn spec(&self) -> Spec {
        let spec = self.columns.iter().fold(Spec::new("geohash", 1), Spec::number);
        spec.parameter("precision", self.precision).output(&self.output, DataType::Utf8)
    }

    /// It is called on fixed inputs when a set is built, so an unusable precision is refused there.
    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        if !(1..=LONGEST).contains(&self.precision) {
            let reason = format!("its geohash has {} characters; write a number from 1 to {LONGEST}", self.precision);
            return Err(unusable(&self.output, reason));
        }
        let [latitudes, longitudes] = [0, 1].map(|i| input.column(i).as_primitive::<Float64Type>().iter());
        let hashes: StringArray = latitudes.zip(longitudes).map(|(lat, lon)| geohash([lat?, lon?], self.precision)).collect();
        Ok(vec![Arc::new(hashes)])
    }
}

/// Halving is exact in floats: the lines lie at multiples of 45 / 2^28 degrees.
fn geohash(point: [f64; 2], precision: u8) -> Option<String> {
    if !is_point(point) {
        return None;
    }
    let [latitude, longitude] = point;
    let mut axes = [(longitude, -180.0, 180.0), (latitude, -90.0, 90.0)];
    let mut text = String::with_capacity(precision.into());
    for _ in 0..precision {
        let mut digit = 0_usize;
        for _ in 0..BITS_PER_DIGIT {
            let (value, low, high) = axes[0];
            let middle = (low + high) / 2.0;
            let is_above = value >= middle;
            digit = digit << 1 | usize::from(is_above);
            axes[0] = if is_above { (value, middle, high) } else { (value, low, middle) };
            axes.swap(0, 1);
        }
        text.push(char::from(DIGITS[digit]));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;

    use super::*;
    use crate::{encoder::input_schema, error::Error};

    /// The first four are examples that are often printed, `ezs42` and `u4pruydqqvj` in Wikipedia's article "Geohash",
    /// `6gkzwgjzn820` at geohash.org. The others are computed in Python with exact fractions: `floor((Fraction(longitude) + 180)
    /// / 360 * 2**30)`, the same for the latitude, and the bits of both in turn.
    #[test]
    fn geohashes_are_the_known_ones() {
        for (point, expected) in [
            ([42.6, -5.6], "ezs42"),
            ([57.64911, 10.40744], "u4pruydqqvj"),
            ([48.669, -4.329], "gbsuv"),
            ([-25.382708, -49.265506], "6gkzwgjzn820"),
            ([40.6413, -73.7781], "dr5x1ns2txmm"),
            ([0.0, 0.0], "s00000000000"),
            ([-0.0, -0.0], "s00000000000"),
            ([-5e-324, -5e-324], "7zzzzzzzzzzz"),
            ([90.0, 180.0], "zzzzzzzzzzzz"),
            ([-90.0, -180.0], "000000000000"),
            ([90.0, -180.0], "bpb"),
        ] {
            let precision = expected.len() as u8;
            assert_eq!(geohash(point, precision).as_deref(), Some(expected));
            assert_eq!(geohash(point, 1).as_deref(), Some(&expected[..1]), "a shorter one is its beginning");
        }
    }

    #[test]
    fn beyond_the_globe_is_null_and_so_is_null() {
        let inf = f64::INFINITY;
        for point in
            [[90.1, 0.0], [-90.1, 0.0], [0.0, 180.1], [0.0, -180.1], [f64::NAN, 0.0], [0.0, f64::NAN], [inf, 0.0], [0.0, -inf]]
        {
            assert_eq!(geohash(point, 3), None, "{point:?}");
        }
        let [lat, lon]: [ArrayRef; 2] = [
            Arc::new(Float64Array::from(vec![None, Some(0.0), Some(42.6)])),
            Arc::new(Float64Array::from(vec![Some(0.0), None, Some(-5.6)])),
        ];
        let input = RecordBatch::try_from_iter([("lat", lat), ("lon", lon)]).unwrap();
        let hashes = Geohash::of(["lat", "lon"], 2, "h").encode(&input).unwrap();
        assert_eq!(hashes[0].as_ref(), &StringArray::from(vec![None, None, Some("ez")]) as &dyn arrow::array::Array);
    }

    #[test]
    fn an_unusable_precision_is_refused() {
        let of = |precision| Geohash::of(["lat", "lon"], precision, "h");
        let input = RecordBatch::new_empty(input_schema(&of(1).spec()));
        for precision in [0, 13, u8::MAX] {
            let refused = of(precision).encode(&input).unwrap_err();
            assert!(matches!(&refused, Error::Definition { subject, .. } if subject == "`h`"), "{refused}");
            assert!(refused.to_string().contains(&format!("{precision} characters")), "{refused}");
        }
        assert!(of(1).encode(&input).is_ok() && of(12).encode(&input).is_ok());
    }
}
