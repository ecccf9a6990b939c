//! A decimal number, exactly, to and from text.
//! There is no arithmetic.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    numeric::decimal_value,
};

/// A decimal number: an integer, divided by ten to the power of its scale. Numbers are compared by value: 0.30 equals 0.3.
///
/// ```
/// use asof::value::Decimal;
/// let price: Decimal = "12.50".parse()?;
/// assert_eq!((price.unscaled(), price.scale()), (1250, 2));
/// assert_eq!(price, Decimal::new(125, 1));
/// assert_eq!(price.to_string(), "12.50");
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Decimal {
    unscaled: i128,
    scale: i8,
}

impl Decimal {
    /// `unscaled / 10^scale`.
    #[must_use]
    pub fn new(unscaled: i128, scale: i8) -> Self {
        Self { unscaled, scale }
    }

    /// The number without its point.
    pub fn unscaled(self) -> i128 {
        self.unscaled
    }

    /// The number of digits after the point; if negative, the number of zeros that follow the integer.
    pub fn scale(self) -> i8 {
        self.scale
    }

    /// The float that is nearest to it.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        decimal_value(self.unscaled, self.scale)
    }

    /// Without zeros at its end.
    fn shortest(self) -> (i128, i16) {
        let (mut unscaled, mut scale) = (self.unscaled, i16::from(self.scale));
        if unscaled == 0 {
            return (0, 0);
        }
        while unscaled % 10 == 0 {
            unscaled /= 10;
            scale -= 1;
        }
        (unscaled, scale)
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.shortest() == other.shortest()
    }
}

impl Eq for Decimal {}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.unscaled < 0 { "-" } else { "" };
        let digits = self.unscaled.unsigned_abs().to_string();
        let Ok(behind) = usize::try_from(self.scale) else {
            let zeros = if self.unscaled == 0 { 0 } else { usize::from(self.scale.unsigned_abs()) };
            return write!(f, "{sign}{digits}{}", "0".repeat(zeros));
        };
        let digits = format!("{digits:0>width$}", width = behind + 1);
        let (whole, fraction) = digits.split_at(digits.len() - behind);
        let point = if behind == 0 { "" } else { "." };
        write!(f, "{sign}{whole}{point}{fraction}")
    }
}

impl FromStr for Decimal {
    type Err = Error;

    /// Digits, optionally with a sign before them and a point among them: `-12.50`.
    fn from_str(text: &str) -> Result<Self> {
        let refused = |reason: &str| Error::InvalidName { what: "decimal", value: text.into(), reason: reason.into() };
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let digits = [whole, fraction].concat();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refused("it must be digits with at most one point, and optionally a sign before them: `-12.50`"));
        }
        let scale =
            i8::try_from(fraction.len()).map_err(|_| refused("it has more digits after the point than any column can hold"))?;
        let sign = if text.starts_with('-') { "-" } else { "" };
        let unscaled = format!("{sign}{digits}").parse().map_err(|_| refused("it has more digits than any column can hold"))?;
        Ok(Self { unscaled, scale })
    }
}

impl TryFrom<String> for Decimal {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Decimal> for String {
    fn from(decimal: Decimal) -> Self {
        decimal.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_its_text() {
        for (unscaled, scale, text) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (30, 2, "0.30"),
            (-5, 3, "-0.005"),
            (1250, 2, "12.50"),
            (-7, 0, "-7"),
            (i128::MAX, 38, "1.70141183460469231731687303715884105727"),
            (i128::MIN, 0, "-170141183460469231731687303715884105728"),
        ] {
            let decimal = Decimal::new(unscaled, scale);
            assert_eq!(decimal.to_string(), text);
            let read: Decimal = text.parse().unwrap();
            assert_eq!((read.unscaled(), read.scale()), (unscaled, scale));
        }
        assert_eq!(Decimal::new(12, -3).to_string(), "12000");
        assert_eq!(Decimal::new(12, -3), Decimal::new(12_000_000, 3));
        assert_eq!((Decimal::new(0, 5), Decimal::new(1, 1)), (Decimal::new(0, -5), Decimal::new(10, 2)));
        assert_ne!(Decimal::new(1, 1), Decimal::new(1, 2));
        assert_eq!(Decimal::new(30, 2).to_f64().to_bits(), 0.3_f64.to_bits());
        for unscaled in [0, 1, -3, 9_007_199_254_740_993, i128::MAX, i128::MIN] {
            for scale in [i8::MIN, -38, -1, 0, 2, 38, i8::MAX] {
                // The text of a number is read with one rounding.
                let expected: f64 = format!("{unscaled}e{}", -i16::from(scale)).parse().unwrap();
                assert_eq!(Decimal::new(unscaled, scale).to_f64().to_bits(), expected.to_bits(), "{unscaled} {scale}");
            }
        }
        for wrong in ["", "-", ".", "1.2.3", "1e5", " 1", "0x1", "1,5", "170141183460469231731687303715884105728"] {
            assert!(matches!(wrong.parse::<Decimal>(), Err(Error::InvalidName { .. })), "{wrong}");
        }
    }
}
