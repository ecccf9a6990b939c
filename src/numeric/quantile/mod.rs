//! Quantiles of values in ascending order: linear between the two around a position, and rounded once.
//! How the values at these positions are found is the caller's business.

use super::{
    float::{canonical, decode},
    integer::Integer,
    ratio::{Magnitude, powers_of_ten},
};

/// A value that quantiles lie on or between. Those of one quantile are all floats, or all decimals of one scale.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OrderStatistic {
    /// A float. Floats are in their total order: -0.0 before 0.0, NaN last.
    Float(f64),
    /// Units of `10^-scale`.
    Decimal { units: i128, scale: i8 },
}

/// The quantile at `q` of `count` values: the float nearest to the exact number. `None` if there is no value.
///
/// It is the number at position `q (count - 1)` of the values in ascending order, counted from zero, linear between neighbours:
/// definition 7 of Hyndman and Fan, *Sample Quantiles in Statistical Packages*, 1996. A `q` below 0 counts as 0, and one above 1
/// as 1. `value` returns the value at a position; it is asked for those of [`neighbours`] alone.
///
/// A quantile that falls on a float, or between equal ones, is that float, also -0.0. Next to an infinity it is that infinity,
/// and NaN next to NaN or between infinities of both signs.
pub(crate) fn quantile(q: f64, count: u64, value: impl Fn(u64) -> OrderStatistic) -> Option<f64> {
    let position = Position::of(q, count)?;
    let [below, above] = position.neighbours();
    let low = value(below);
    let high = if above == below { low } else { value(above) };
    Some(position.between(low, high))
}

/// The positions between which the quantile at `q` of `count` values lies. They are equal if it falls on a value.
pub(crate) fn neighbours(q: f64, count: u64) -> Option<[u64; 2]> {
    Position::of(q, count).map(Position::neighbours)
}

/// A position among values in ascending order: `below`, and `part` times two to `-part_bits` of the way to the next one.
#[derive(Clone, Copy)]
struct Position {
    below: u64,
    part: u128,
    part_bits: u32,
}

impl Position {
    fn of(q: f64, count: u64) -> Option<Self> {
        let last = count.checked_sub(1)?;
        let (significand, lowest) = decode(if q > 0.0 { q.min(1.0) } else { 0.0 });
        let (product, bits) = (u128::from(significand.unsigned_abs()) * u128::from(last), 1074 - lowest);
        let below = product.checked_shr(bits).unwrap_or(0);
        let part = product - below.checked_shl(bits).unwrap_or(0);
        let zeros = if part == 0 { bits } else { part.trailing_zeros() };
        Some(Self { below: below as u64, part: part.checked_shr(zeros).unwrap_or(0), part_bits: bits - zeros })
    }

    fn neighbours(self) -> [u64; 2] {
        [self.below, self.below + u64::from(self.part != 0)]
    }

    fn between(self, low: OrderStatistic, high: OrderStatistic) -> f64 {
        if let (OrderStatistic::Float(low), OrderStatistic::Float(high)) = (low, high) {
            if !low.is_finite() || !high.is_finite() {
                return canonical(low + high);
            }
            if low.to_bits() == high.to_bits() {
                return low;
            }
        }
        let (low, high) = (Units::of(low), Units::of(high));
        let exponent = low.exponent.min(high.exponent);
        let needed = low.bits(exponent).max(high.bits(exponent)) + self.part_bits + 2 + low.bits_of_tens();
        match needed <= 64 * SHORT as u32 {
            true => self.interpolated::<SHORT>(low, high, exponent),
            false => self.interpolated::<LONG>(low, high, exponent),
        }
    }

    /// The number between two numbers, in `N` limbs.
    fn interpolated<const N: usize>(self, low: Units, high: Units, exponent: i32) -> f64 {
        let (mut sum, mut way) = (low.integer::<N>(exponent), high.integer::<N>(exponent));
        way.subtract(&sum);
        way.multiply(self.part);
        sum.shift_left(self.part_bits);
        sum.add(&way);
        let (is_negative, magnitude) = sum.magnitude();
        let exact = Magnitude::<N>::of(&magnitude).decimal(exponent - self.part_bits as i32, low.scale.into(), &[]);
        if is_negative { -exact.value() } else { exact.value() }
    }
}

/// Limbs that most quantiles fit into: numbers whose sizes do not differ by hundreds of digits. It is also the room that the
/// division by any power of ten needs.
const SHORT: usize = 10;
/// Limbs that every quantile fits into: 2098 bits reach from the smallest float to the largest, and 1074 bits are below the point
/// of a position.
const LONG: usize = 50;

/// A finite number: units of two to `exponent` and ten to `-scale`.
#[derive(Clone, Copy)]
struct Units {
    units: i128,
    exponent: i32,
    scale: i8,
}

impl Units {
    fn of(value: OrderStatistic) -> Self {
        match value {
            // A zero has no lowest bit, so its exponent is one that asks nothing of the other number.
            OrderStatistic::Float(0.0) => Self { units: 0, exponent: i32::MAX, scale: 0 },
            OrderStatistic::Float(x) => {
                let (significand, lowest) = decode(x);
                Self { units: significand.into(), exponent: lowest as i32 - 1074, scale: 0 }
            }
            OrderStatistic::Decimal { units, scale } => Self { units, exponent: 0, scale },
        }
    }

    /// The distance to an exponent that is not above its own. A zero needs none.
    fn shift(self, exponent: i32) -> u32 {
        if self.units == 0 { 0 } else { (self.exponent - exponent) as u32 }
    }

    /// The number of bits above an exponent.
    fn bits(self, exponent: i32) -> u32 {
        i128::BITS - self.units.unsigned_abs().leading_zeros() + self.shift(exponent)
    }

    /// The number of bits that a multiplication by ten to `-scale` adds at most.
    fn bits_of_tens(self) -> u32 {
        64 * powers_of_ten(self.scale.unsigned_abs().into()).count() as u32
    }

    /// The number in units of two to `exponent`.
    fn integer<const N: usize>(self, exponent: i32) -> Integer<N> {
        let mut integer = Integer::from(self.units);
        integer.shift_left(self.shift(exponent));
        integer
    }
}

#[cfg(test)]
mod tests;
