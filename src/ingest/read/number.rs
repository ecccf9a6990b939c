//! Parses numbers from text into a column's type, exactly or not at all.
//! Only a decimal fraction is rounded, to the nearest float.

/// A decimal number: `mantissa * 10^exponent`. The mantissa has no trailing zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WrittenDecimal {
    mantissa: i128,
    exponent: i32,
}

const NO_INTEGER: &str = "not an integer";
const NO_NUMBER: &str = "not a number";

impl WrittenDecimal {
    /// `None` for a text that is not a decimal number or has more digits than 128 bits hold.
    fn parse(text: &str) -> Option<Self> {
        let (number, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (is_negative, number) = match number.as_bytes().first()? {
            b'-' => (true, &number[1..]),
            b'+' => (false, &number[1..]),
            _ => (false, number),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = whole.bytes().chain(fraction.bytes());
        if whole.len() + fraction.len() == 0 || !digits.clone().all(|b| b.is_ascii_digit()) {
            return None;
        }
        // Trailing zeros are counted, and applied once another digit follows.
        let (mut mantissa, mut zeros, mut used) = (0_i128, 0_u32, 0_usize);
        for (at, digit) in digits.enumerate() {
            if digit == b'0' {
                zeros += u32::from(mantissa != 0);
                continue;
            }
            mantissa = mantissa.checked_mul(10_i128.checked_pow(zeros + 1)?)?.checked_add(i128::from(digit - b'0'))?;
            (zeros, used) = (0, at + 1);
        }
        let places = i32::try_from(whole.len()).ok()?.checked_sub(i32::try_from(used).ok()?)?;
        let exponent = if mantissa == 0 { 0 } else { exponent.checked_add(places)? };
        Some(Self { mantissa: if is_negative { -mantissa } else { mantissa }, exponent })
    }

    /// The number in units of `10^-scale`, if it is a whole number of them.
    fn scaled(self, scale: i32) -> Option<i128> {
        if self.mantissa == 0 {
            return Some(0);
        }
        let power = u32::try_from(self.exponent.checked_add(scale)?).ok()?;
        self.mantissa.checked_mul(10_i128.checked_pow(power)?)
    }
}

/// An integer within these bounds, both inclusive. `3.0` and `3e2` are integers too.
pub(crate) fn integer(text: &str, low: i128, high: i128) -> Result<i128, &'static str> {
    let value = match text.parse::<i64>() {
        Ok(value) => i128::from(value),
        Err(_) => WrittenDecimal::parse(text).and_then(|decimal| decimal.scaled(0)).ok_or(NO_INTEGER)?,
    };
    if (low..=high).contains(&value) { Ok(value) } else { Err("an integer beyond the range of the column's type") }
}

/// The nearest float. An integer must be exact as a float, because its digits matter.
pub(crate) fn float(text: &str) -> Result<f64, &'static str> {
    let value: f64 = text.parse().map_err(|_| NO_NUMBER)?;
    let is_written = || text.bytes().any(|b| b.is_ascii_digit());
    if value.is_infinite() && is_written() {
        return Err("a number beyond the range of a float");
    }
    let is_integer = || text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+'));
    if text.len() > 15 && is_integer() && !keeps_digits(text, value, &format!("{value:e}")) {
        return Err("an integer that a float cannot hold; declare the column Int64, Decimal128 or Utf8");
    }
    Ok(value)
}

/// As [`float`], for 32 bits.
pub(crate) fn float32(text: &str) -> Result<f32, &'static str> {
    let value: f32 = text.parse().map_err(|_| NO_NUMBER)?;
    let is_written = || text.bytes().any(|b| b.is_ascii_digit());
    if value.is_infinite() && is_written() {
        return Err("a number beyond the range of a float of 32 bits");
    }
    let is_integer = || text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+'));
    if text.len() > 6 && is_integer() && !keeps_digits(text, f64::from(value), &format!("{value:e}")) {
        return Err("an integer that a float of 32 bits cannot hold; declare the column Int64 or Float64");
    }
    Ok(value)
}

/// Does the float equal this integer, or is this integer the shortest text of the float?
fn keeps_digits(text: &str, value: f64, shortest: &str) -> bool {
    let Some(written) = WrittenDecimal::parse(text) else { return false };
    // Every whole float below 2^127 is exact as an i128.
    let is_exact = value.abs() < 1.7e38 && written.scaled(0) == Some(value as i128);
    is_exact || WrittenDecimal::parse(shortest) == Some(written)
}

/// A decimal number of this precision and scale, as its unscaled integer.
pub(crate) fn decimal128(text: &str, precision: u8, scale: i8) -> Result<i128, &'static str> {
    let decimal = WrittenDecimal::parse(text).ok_or("not a decimal number of at most 38 digits")?;
    let value = decimal.scaled(i32::from(scale)).ok_or("a number with more digits after the point than the column keeps")?;
    match 10_i128.checked_pow(u32::from(precision)) {
        Some(limit) if value.unsigned_abs() >= limit.unsigned_abs() => Err("a number with more digits than the column keeps"),
        _ => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_taken_in_every_notation() {
        let int64 = |text| integer(text, i64::MIN.into(), i64::MAX.into());
        for (text, value) in
            [("7", 7), ("+7", 7), ("7.0", 7), ("-7.000", -7), ("7e2", 700), ("7.25e2", 725), ("0.0", 0), ("1000e-3", 1)]
        {
            assert_eq!(int64(text), Ok(value), "{text}");
        }
        assert_eq!(int64("9223372036854775807.0"), Ok(i64::MAX.into()));
        for text in ["7.5", "7e-1", "", ".", "e3", "-", "7 ", "0x7", "7.0.0", "1e99999999999", "NaN", "--7", "1_000"] {
            assert_eq!(int64(text), Err(NO_INTEGER), "{text}");
        }
        assert!(int64("9223372036854775808").unwrap_err().contains("beyond the range"));
        assert_eq!(integer("18446744073709551615", 0, u64::MAX.into()), Ok(u64::MAX.into()));
        assert!(integer("-1", 0, 255).is_err() && integer("256", 0, 255).is_err());
    }

    #[test]
    fn an_integer_is_a_float_only_when_no_digit_is_lost() {
        for text in
            ["9007199254740992", "1e300", "0.1", "-0", "12345678901234567000", "1152921504606846976", "100000000000000000000"]
        {
            assert!(float(text).is_ok(), "{text}");
        }
        for text in ["9007199254740993", "12345678901234567891", "1e999", "-1e999", "", "x", "1,5", "1 "] {
            assert!(float(text).is_err(), "{text}");
        }
        assert!(float("inf").unwrap().is_infinite() && float("NaN").unwrap().is_nan());
        assert!(float("-0").unwrap().is_sign_negative());
        assert_eq!(float32("16777216"), Ok(16_777_216.0));
        assert!(float32("16777217").is_err() && float32("1e39").is_err());
    }

    #[test]
    fn decimals_keep_every_digit_or_are_refused() {
        assert_eq!(decimal128("12.5", 5, 2), Ok(1_250));
        assert_eq!(decimal128("12.500", 5, 2), Ok(1_250));
        assert_eq!(decimal128("-999.99", 5, 2), Ok(-99_999));
        assert_eq!(decimal128("99999999999999999999999999999999999999", 38, 0), Ok(10_i128.pow(38) - 1));
        assert_eq!(decimal128("1200", 2, -2), Ok(12));
        for text in ["12.505", "1000", "1e5", "x", "", "0.001"] {
            assert!(decimal128(text, 5, 2).is_err(), "{text}");
        }
    }
}
