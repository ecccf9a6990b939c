//! The first value of several columns.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray},
    datatypes::{DataType, Float64Type},
};

use super::{Encoder, Spec, unusable};
use crate::error::Result;

/// The first of several columns that is not NULL in a row, as `coalesce` in SQL; NULL where all are.
///
/// NaN, infinities and the empty text are values: a column that holds one hides the columns after it.
///
/// ```
/// use asof::encoder::Coalesce;
/// let price = Coalesce::of_numbers(["agreed_price", "list_price"], "price");
/// let name = Coalesce::of_texts(["nickname", "name"], "shown_name");
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Coalesce {
    columns: Vec<String>,
    data_type: DataType,
    output: String,
}

impl Coalesce {
    /// The feature `output`, from columns of numbers, as `Float64`.
    pub fn of_numbers<S: Into<String>>(columns: impl IntoIterator<Item = S>, output: impl Into<String>) -> Self {
        Self::of(columns, DataType::Float64, output.into())
    }

    /// The feature `output`, from columns of categories ([`Spec::category`]), as text.
    pub fn of_texts<S: Into<String>>(columns: impl IntoIterator<Item = S>, output: impl Into<String>) -> Self {
        Self::of(columns, DataType::Utf8, output.into())
    }

    fn of<S: Into<String>>(columns: impl IntoIterator<Item = S>, data_type: DataType, output: String) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), data_type, output }
    }
}

impl Encoder for Coalesce {
    fn spec(&self) -> Spec {
        let spec = self.columns.iter().fold(Spec::new("coalesce", 1), |spec, column| spec.input(column, self.data_type.clone()));
        spec.output(&self.output, self.data_type.clone())
    }

    /// It is called on fixed inputs when a set is built, so a list without columns is refused there.
    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        if self.columns.is_empty() {
            return Err(unusable(&self.output, "it names no columns, so it would always be NULL"));
        }
        let rows = 0..input.num_rows();
        Ok(vec![if self.data_type == DataType::Float64 {
            let columns: Vec<_> = input.columns().iter().map(|c| c.as_primitive::<Float64Type>()).collect();
            let first = |row| columns.iter().find(|c| c.is_valid(row)).map(|c| c.value(row));
            Arc::new(rows.map(first).collect::<Float64Array>())
        } else {
            let columns: Vec<_> = input.columns().iter().map(|c| c.as_string::<i32>()).collect();
            let first = |row| columns.iter().find(|c| c.is_valid(row)).map(|c| c.value(row));
            Arc::new(rows.map(first).collect::<StringArray>())
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn the_first_value_is_taken_bit_for_bit_and_nan_is_one() {
        let odd_nan = f64::from_bits(0x7ff8_0000_0000_0007);
        let columns: [ArrayRef; 3] = [
            Arc::new(Float64Array::from(vec![None, Some(odd_nan), None, Some(-0.0), None])),
            Arc::new(Float64Array::from(vec![Some(2.0), Some(2.0), None, Some(1.0), None])),
            Arc::new(Float64Array::from(vec![Some(3.0), None, Some(f64::NEG_INFINITY), None, None])),
        ];
        let names = ["a", "b", "c"];
        let input = RecordBatch::try_from_iter(names.into_iter().zip(columns)).unwrap();
        let found = Coalesce::of_numbers(names, "x").encode(&input).unwrap();
        let found: Vec<_> = found[0].as_primitive::<Float64Type>().iter().map(|x| x.map(f64::to_bits)).collect();
        let expected = [Some(2.0), Some(odd_nan), Some(f64::NEG_INFINITY), Some(-0.0), None];
        assert_eq!(found, expected.map(|x: Option<f64>| x.map(f64::to_bits)));
    }

    #[test]
    fn texts_are_taken_like_numbers_and_the_empty_text_is_one() {
        let columns: [ArrayRef; 2] = [
            Arc::new(StringArray::from(vec![None, Some(""), None])),
            Arc::new(StringArray::from(vec![Some("b"), Some("c"), None])),
        ];
        let input = RecordBatch::try_from_iter(["a", "b"].into_iter().zip(columns)).unwrap();
        let found = Coalesce::of_texts(["a", "b"], "x").encode(&input).unwrap();
        assert_eq!(found[0].as_ref(), &StringArray::from(vec![Some("b"), Some(""), None]) as &dyn Array);
    }

    #[test]
    fn a_list_without_columns_is_refused() {
        let none = Vec::<String>::new();
        let input = RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()));
        for of in [Coalesce::of_numbers(none.clone(), "x"), Coalesce::of_texts(none, "x")] {
            let refused = of.encode(&input).unwrap_err();
            assert!(matches!(&refused, Error::Definition { subject, .. } if subject == "`x`"), "{refused}");
        }
    }
}
