//! Numbers and exact sums as bytes, and back.
//! What the bytes are part of, and whether they are undamaged, is up to the caller. Reading never panics: it returns `None` for bytes
//! that are no such number.

/// Writes numbers one after the other.
#[derive(Default)]
pub(crate) struct NumberWriter {
    pub(crate) bytes: Vec<u8>,
}

impl NumberWriter {
    /// 64 bits as they are.
    #[inline]
    pub(crate) fn word(&mut self, word: u64) {
        self.bytes.extend_from_slice(&word.to_le_bytes());
    }

    /// An unsigned number in groups of seven bits (LEB128): a small one takes a byte.
    #[inline]
    pub(crate) fn unsigned(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// A signed number, which takes few bytes if it is near zero.
    #[inline]
    pub(crate) fn signed(&mut self, number: i64) {
        self.unsigned(((number << 1) ^ (number >> 63)) as u64);
    }

    /// Bytes, with their length before them.
    pub(crate) fn slice(&mut self, bytes: &[u8]) {
        self.unsigned(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    /// An integer in two's complement, lowest limb first, without the bytes that only repeat its sign.
    pub(super) fn limbs(&mut self, limbs: &[u64]) {
        let at = |i: usize| (limbs[i / 8] >> (8 * (i % 8))) as u8;
        let sign = if limbs.last().is_some_and(|limb| limb >> 63 == 1) { 0xff } else { 0 };
        let mut length = limbs.len() * 8;
        // The highest byte that is kept has the sign in its highest bit. No byte is a zero.
        let repeats = |i: usize| at(i) == sign && if i == 0 { sign == 0 } else { (at(i - 1) ^ sign) & 0x80 == 0 };
        while length > 0 && repeats(length - 1) {
            length -= 1;
        }
        self.unsigned(length as u64);
        (0..length).for_each(|i| self.bytes.push(at(i)));
    }
}

/// Reads what a [`NumberWriter`] has written.
pub(crate) struct NumberReader<'a> {
    rest: &'a [u8],
}

impl<'a> NumberReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Has everything been read?
    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(crate) fn word(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(crate) fn unsigned(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        let number = self.unsigned()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    pub(crate) fn slice(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.unsigned()?).ok()?;
        self.take(length)
    }

    pub(super) fn limbs<const N: usize>(&mut self) -> Option<[u64; N]> {
        let length = usize::try_from(self.unsigned()?).ok().filter(|length| *length <= N * 8)?;
        let bytes = self.take(length)?;
        let sign = if bytes.last().is_some_and(|byte| byte >> 7 == 1) { u64::MAX } else { 0 };
        let mut limbs = [sign; N];
        for (i, &byte) in bytes.iter().enumerate() {
            let shift = 8 * (i % 8);
            limbs[i / 8] = (limbs[i / 8] & !(0xff << shift)) | (u64::from(byte) << shift);
        }
        Some(limbs)
    }
}

/// A number that can be stored, and comes back as the same number.
pub(crate) trait Stored: Sized {
    /// Appends its bytes.
    fn store(&self, to: &mut NumberWriter);

    /// Reads the bytes of one; `None` if they are none.
    fn load(from: &mut NumberReader<'_>) -> Option<Self>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::{
        ExactSum, ExactSums, FloatMoments, FloatSlope, Integer, IntegerMoments, IntegerSlope, Moments, SlopeSums,
    };

    fn again<T: Stored>(value: &T) -> T {
        let mut to = NumberWriter::default();
        value.store(&mut to);
        for cut in 0..to.bytes.len() {
            let mut cut = NumberReader::new(&to.bytes[..cut]);
            let _ = T::load(&mut cut);
        }
        let mut from = NumberReader::new(&to.bytes);
        let loaded = T::load(&mut from).unwrap();
        assert!(from.is_at_end());
        loaded
    }

    #[test]
    fn numbers_come_back() {
        let mut to = NumberWriter::default();
        let signed = [0, -1, 1, 63, -64, 64, i64::MIN, i64::MAX];
        signed.iter().for_each(|&n| to.signed(n));
        let unsigned = [0, 127, 128, u64::MAX];
        unsigned.iter().for_each(|&n| to.unsigned(n));
        to.slice(b"abc");
        to.word(7);
        let mut from = NumberReader::new(&to.bytes);
        assert!(signed.iter().all(|&n| from.signed() == Some(n)));
        assert!(unsigned.iter().all(|&n| from.unsigned() == Some(n)));
        assert_eq!((from.slice(), from.word(), from.byte()), (Some(b"abc".as_slice()), Some(7), None));
        assert_eq!(NumberReader::new(&[0xff; 12]).unsigned(), None);
        assert_eq!(NumberReader::new(&[200, 1]).slice(), None);
    }

    #[test]
    fn integers_of_any_size_and_sign_come_back() {
        let mut numbers = vec![0i128, 1, -1, 127, 128, -128, -129, 255, 256, -256, i128::MIN, i128::MAX];
        numbers.extend((0..127).flat_map(|bit| [1i128 << bit, -(1i128 << bit), (1i128 << bit) - 1]));
        for number in numbers {
            let (three, five) = (Integer::<3>::from(number), Integer::<5>::from(number));
            assert_eq!((again(&three), again(&five)), (three, five), "{number}");
        }
    }

    #[test]
    fn sums_and_moments_come_back_with_all_their_bits_and_go_on() {
        let values = [0.1, -0.0, 1e300, -1e-300, 5e-324, f64::MAX, 3.5, -7.25, 1e15, f64::INFINITY, f64::NAN];
        for length in 0..values.len() {
            let (mut sum, mut moments) = (ExactSum::default(), FloatMoments::default());
            for &value in &values[..=length] {
                sum.add(value);
                moments.add(value);
                let (mut stored, mut stored_moments) = (again(&sum), again(&moments));
                assert_eq!(stored.value().to_bits(), sum.value().to_bits());
                // What is added later counts as it would have counted without the way through the bytes.
                let mut plain = sum.clone();
                for more in [0.3, -1e300, 1e-320] {
                    stored.add(more);
                    plain.add(more);
                    assert_eq!(stored.value().to_bits(), plain.value().to_bits());
                }
                let mut plain = moments.clone();
                plain.add(0.7);
                stored_moments.add(0.7);
                let bits = |moments: &FloatMoments| moments.variance(3, 0).map(|v| v.value().to_bits());
                assert_eq!(bits(&stored_moments), bits(&plain));
            }
        }
        let mut integers = IntegerMoments::<3, 3>::default();
        [i128::from(i64::MIN), 5, i128::from(u64::MAX)].into_iter().for_each(|n| integers.add(n));
        let bits = |moments: &IntegerMoments<3, 3>| moments.variance(3, 0).map(|v| v.value().to_bits());
        assert_eq!(bits(&again(&integers)), bits(&integers));
    }

    #[test]
    fn slopes_come_back_with_all_their_bits_and_go_on() {
        let times = [0, -1, i64::MIN, i64::MAX, 1_388_534_400_000_000, 5];
        let values = [0.1, 1e300, -5e-324, f64::MAX, -0.0, f64::NAN];
        let bits = |slope: Option<f64>| slope.map(f64::to_bits);
        let (mut floats, mut integers) = (FloatSlope::default(), IntegerSlope::<2, 3>::default());
        let mut decimals = IntegerSlope::<5, 6>::default();
        for (count, (&time, &value)) in (1..).zip(times.iter().zip(&values)) {
            floats.add(time, value);
            integers.add(time, i128::from(time) - 7);
            decimals.add(time, i128::MIN + i128::from(time.unsigned_abs()));
            let (mut stored, mut plain) = (again(&floats), floats.clone());
            assert_eq!(bits(stored.slope(count, 1_000_000, 0)), bits(plain.slope(count, 1_000_000, 0)));
            stored.add(17, 3.25);
            plain.add(17, 3.25);
            assert_eq!(bits(stored.slope(count + 1, 1_000_000, 0)), bits(plain.slope(count + 1, 1_000_000, 0)));
            assert_eq!(bits(again(&integers).slope(count, 1_000, 0)), bits(integers.slope(count, 1_000, 0)));
            assert_eq!(bits(again(&decimals).slope(count, 1, 2)), bits(decimals.slope(count, 1, 2)));
            // What is merged with a stored one is what is merged with the one that was stored.
            let mut merged = FloatSlope::default();
            merged.merge(&again(&floats));
            merged.merge(&again(&floats));
            let mut expected = floats.clone();
            expected.merge(&floats);
            assert_eq!(bits(merged.slope(2 * count, 1_000_000, 0)), bits(expected.slope(2 * count, 1_000_000, 0)));
        }
    }
}
