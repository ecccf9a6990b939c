//! Categories put into a fixed number of buckets by a hash.
//! Nothing is learned, so a value that training never saw has its bucket, too.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch},
    datatypes::DataType,
};

use super::{Encoder, Spec, unusable};
use crate::error::Result;

/// The bucket of a category, from 0 to below the number of buckets, as `Int64`.
///
/// The column is a category ([`Spec::category`]): text, or an integer, boolean or date read as text. The bucket is the remainder
/// of a hash divided by the number of buckets. The hash is the first eight bytes, least significant first, of the BLAKE3 hash of
/// the text's UTF-8 bytes. It is the same on every machine and in every version. Different categories may share a bucket; the
/// more buckets, the fewer do.
///
/// NULL stays NULL; the empty text has a bucket like others. No buckets at all are refused when a set is built.
///
/// ```
/// use asof::encoder::HashBucket;
/// let zone = HashBucket::of("pickup_zone", 64); // named `pickup_zone_bucket`
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct HashBucket {
    column: String,
    buckets: u32,
    output: String,
}

impl HashBucket {
    /// The feature `<column>_bucket`, of so many buckets.
    pub fn of(column: impl Into<String>, buckets: u32) -> Self {
        let column = column.into();
        Self { output: format!("{column}_bucket"), column, buckets }
    }

    /// The feature's name.
    pub fn named(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }
}

impl Encoder for HashBucket {
    fn spec(&self) -> Spec {
        let spec = Spec::new("hash_bucket", 1).category(&self.column).parameter("buckets", self.buckets);
        spec.output(&self.output, DataType::Int64)
    }

    /// It is called on fixed inputs when a set is built, so a number of zero buckets is refused there.
    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        if self.buckets == 0 {
            return Err(unusable(&self.output, "it has 0 buckets; write at least 1"));
        }
        let texts = input.column(0).as_string::<i32>();
        let buckets: Int64Array = texts.iter().map(|text| text.map(|text| bucket(text, self.buckets))).collect();
        Ok(vec![Arc::new(buckets)])
    }
}

/// The bucket of a text; there is at least one.
fn bucket(text: &str, buckets: u32) -> i64 {
    let hash = blake3::hash(text.as_bytes());
    let word = hash.as_bytes().iter().take(8).rev().fold(0_u64, |word, &byte| word << 8 | u64::from(byte));
    // Below 2^32.
    (word % u64::from(buckets)) as i64
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, StringArray};

    use super::*;
    use crate::{encoder::input_schema, error::Error};

    /// BLAKE3's published hashes begin `af1349b9f5f9a1a6` for the empty text and `6437b3ac38465133` for `abc`; the remainders are
    /// those of Python's `int.from_bytes(bytes.fromhex(..), "little") % buckets`.
    #[test]
    fn buckets_are_remainders_of_the_first_bytes() {
        assert_eq!((bucket("", 1_000), bucket("abc", 1_000)), (863, 44));
        assert_eq!((bucket("", 1), bucket("abc", 1)), (0, 0));
        assert!((0..i64::from(u32::MAX)).contains(&bucket("Zürich", u32::MAX)));
    }

    #[test]
    fn categories_fill_all_buckets_about_equally() {
        let mut counts = [0; 16];
        (0..16_000).for_each(|i| counts[bucket(&i.to_string(), 16) as usize] += 1);
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }

    #[test]
    fn null_stays_null_and_the_empty_text_has_a_bucket() {
        let column: ArrayRef = Arc::new(StringArray::from(vec![Some(""), None, Some("abc")]));
        let input = RecordBatch::try_from_iter([("x", column)]).unwrap();
        let encoded = HashBucket::of("x", 1_000).encode(&input).unwrap();
        assert_eq!(encoded[0].as_ref(), &Int64Array::from(vec![Some(863), None, Some(44)]) as &dyn Array);
    }

    #[test]
    fn no_buckets_are_refused() {
        let input = RecordBatch::new_empty(input_schema(&HashBucket::of("x", 0).spec()));
        let refused = HashBucket::of("x", 0).encode(&input).unwrap_err();
        assert!(matches!(&refused, Error::Definition { subject, .. } if subject == "`x_bucket`"), "{refused}");
        assert!(HashBucket::of("x", 1).named("b").encode(&input).is_ok());
    }
}
