//! The bits of floats: significand and exponent, the total order, and one form for equal floats.
//! Nothing here rounds.

const SIGN: u64 = 1 << 63;

/// `x` as a signed significand and the *position* of its lowest bit: a bit at a position weighs `2^(position - 1074)`. A zero is
/// `(0, 0)`; a value that is not finite has position 2046, where no finite one is, and a significand without meaning.
#[inline]
pub(super) fn decode(x: f64) -> (i64, u32) {
    let bits = x.to_bits();
    let exponent = (bits >> 52) & 0x7ff;
    // Subnormals share the position of the smallest normal numbers, and lack the implicit bit.
    let implicit = u64::from(exponent != 0);
    let significand = ((bits & ((1 << 52) - 1)) | (implicit << 52)) as i64;
    // Conditional negation without a branch, as signs are often not predictable.
    let sign = (bits as i64) >> 63;
    ((significand ^ sign) - sign, (exponent - implicit) as u32)
}

/// `2^(position - 1074)`, exactly, for a position of at most 2097.
pub(super) fn weight(position: u32) -> f64 {
    if position < 52 { f64::from_bits(1 << position) } else { f64::from_bits(u64::from(position - 51) << 52) }
}

/// The key of a float: the total order of IEEE 754 as an unsigned integer, -0.0 before 0.0. All NaN have the same key, the
/// largest.
#[inline]
pub(crate) fn float_key(x: f64) -> u64 {
    let bits = if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() };
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

/// The float of a key.
#[inline]
pub(crate) fn key_float(key: u64) -> f64 {
    f64::from_bits(if key & SIGN == 0 { !key } else { key & !SIGN })
}

/// The same float with one zero and one NaN, so that equal floats have equal bits.
#[inline]
pub(crate) fn canonical(x: f64) -> f64 {
    if x.is_nan() { f64::NAN } else { x + 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_the_order_and_the_bits_of_floats() {
        let ordered = [f64::NEG_INFINITY, -1e300, -1.0, -f64::MIN_POSITIVE, -0.0, 0.0, 1e-300, 2.5, f64::INFINITY, f64::NAN];
        for pair in ordered.windows(2) {
            assert!(float_key(pair[0]) < float_key(pair[1]), "{pair:?}");
        }
        for x in ordered {
            assert_eq!(key_float(float_key(x)).to_bits(), x.to_bits());
        }
        assert_eq!(float_key(-f64::NAN), float_key(f64::NAN));
    }

    #[test]
    fn a_float_is_its_significand_times_the_weight_of_its_position() {
        for x in [0.0, -0.0, 5e-324, -5e-324, f64::MIN_POSITIVE, 1.0, -0.1, 2f64.powi(1023), -3e200] {
            let (significand, position) = decode(x);
            assert_eq!(significand as f64 * weight(position), x + 0.0, "{x}");
        }
        assert_eq!(decode(f64::MAX), ((1 << 53) - 1, 2045));
        assert_eq!((decode(f64::NAN).1, decode(f64::NEG_INFINITY).1), (2046, 2046));
    }

    #[test]
    fn equal_floats_have_one_form() {
        for (x, expected) in [(-0.0, 0.0), (0.0, 0.0), (-f64::NAN, f64::NAN), (-2.5, -2.5), (f64::INFINITY, f64::INFINITY)] {
            assert_eq!(canonical(x).to_bits(), expected.to_bits(), "{x}");
        }
    }
}
