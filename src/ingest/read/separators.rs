//! Finds the bytes that end CSV fields, delimiters and line ends, eight bytes at a time.
//! Quotes are not known here: the caller skips quoted fields.

const ONES: u64 = 0x0101_0101_0101_0101;
const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const WORD: usize = 8;

/// Sets the high bit of each byte of a word that equals the needle, which is repeated in all bytes of its word. It is exact.
const fn matches(word: u64, needle: u64) -> u64 {
    let differs = word ^ needle;
    !(((differs & LOW) + LOW) | differs | LOW)
}

/// Up to eight bytes as a little-endian word, and their number.
fn word_at(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let rest = bytes.get(at..)?;
    if let Some(word) = rest.first_chunk::<WORD>() {
        return Some((u64::from_le_bytes(*word), WORD));
    }
    let mut last = [0; WORD];
    last[..rest.len()].copy_from_slice(rest);
    (!rest.is_empty()).then(|| (u64::from_le_bytes(last), rest.len()))
}

/// Delimiters, `\n` and `\r` of a text, from left to right.
pub(crate) struct Separators<'a> {
    bytes: &'a [u8],
    delimiters: u64,
    /// The position of the word of `left`.
    base: usize,
    /// The high bits of the separators in that word that were not returned yet.
    left: u64,
}

impl<'a> Separators<'a> {
    pub(crate) fn new(bytes: &'a [u8], delimiter: u8) -> Self {
        let mut this = Self { bytes, delimiters: u64::from(delimiter) * ONES, base: 0, left: 0 };
        this.load(0);
        this
    }

    fn load(&mut self, base: usize) -> bool {
        self.base = base;
        let Some((word, length)) = word_at(self.bytes, base) else {
            self.left = 0;
            return false;
        };
        let found = matches(word, self.delimiters) | matches(word, b'\n' as u64 * ONES) | matches(word, b'\r' as u64 * ONES);
        self.left = if length == WORD { found } else { found & ((1 << (8 * length)) - 1) };
        true
    }

    /// The first separator at or after this position. Positions must not decrease from call to call.
    #[inline]
    pub(crate) fn at_or_after(&mut self, position: usize) -> Option<usize> {
        if position >= self.base + WORD {
            self.load(position);
        } else if position > self.base {
            self.left &= u64::MAX << (8 * (position - self.base));
        }
        while self.left == 0 {
            if !self.load(self.base + WORD) {
                return None;
            }
        }
        Some(self.base + self.left.trailing_zeros() as usize / 8)
    }
}

/// The first such byte at or after this position.
pub(crate) fn find(bytes: &[u8], from: usize, needle: u8) -> Option<usize> {
    let needles = u64::from(needle) * ONES;
    let mut base = from;
    while let Some((word, length)) = word_at(bytes, base) {
        let found = matches(word, needles);
        let at = found.trailing_zeros() as usize / 8;
        if found != 0 && at < length {
            return Some(base + at);
        }
        base += WORD;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_separator_is_found_and_no_other_byte() {
        let bytes: Vec<u8> = (0..4_096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for (delimiter, length) in [(b',', 4_096), (0, 4_095), (0xff, 4_089), (1, 7), (b',', 0)] {
            let bytes = &bytes[..length];
            let is_separator = |b: &u8| *b == delimiter || *b == b'\n' || *b == b'\r';
            let expected: Vec<usize> = (0..length).filter(|&i| is_separator(&bytes[i])).collect();
            let mut separators = Separators::new(bytes, delimiter);
            let (mut found, mut at) = (Vec::new(), 0);
            while let Some(next) = separators.at_or_after(at) {
                found.push(next);
                at = next + 1;
            }
            assert_eq!(found, expected);
            for start in 0..length.min(40) {
                let expected = bytes[start..].iter().position(|b| *b == delimiter).map(|at| at + start);
                assert_eq!(find(bytes, start, delimiter), expected);
            }
        }
    }

    #[test]
    fn positions_may_be_skipped() {
        let text = b"a,b,\"x,y,z,x,y,z,x,y,z\",c\n";
        let mut separators = Separators::new(text, b',');
        assert_eq!(separators.at_or_after(0), Some(1));
        assert_eq!(separators.at_or_after(2), Some(3));
        assert_eq!(separators.at_or_after(23), Some(23));
        assert_eq!(separators.at_or_after(24), Some(25));
        assert_eq!(separators.at_or_after(26), None);
    }
}
