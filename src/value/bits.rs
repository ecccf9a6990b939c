//! The bits of values in columns: whether they are the same, and how they are shown.
//! A NaN equals a NaN of the same bits, and -0.0 is not 0.0.

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::DataType,
    util::display::array_value_to_string,
};

use crate::error::Result;

/// Do two columns of one type have the same values, bit for bit? The buffers are compared, not the numbers.
pub(crate) fn has_same_bits(one: &ArrayRef, other: &ArrayRef) -> bool {
    one.to_data() == other.to_data()
}

/// The rows in which two columns of one type differ, in their order.
pub(crate) fn differing_rows(one: &ArrayRef, other: &ArrayRef) -> Vec<usize> {
    if has_same_bits(one, other) {
        return Vec::new();
    }
    (0..one.len()).filter(|&row| !has_same_bits(&one.slice(row, 1), &other.slice(row, 1))).collect()
}

/// A value as text. Texts have quotes, which tell them from NULL and show what else cannot be seen.
pub(crate) fn shown(column: &ArrayRef, row: usize) -> Result<String> {
    if column.is_null(row) {
        return Ok("NULL".into());
    }
    let text = array_value_to_string(column, row)?;
    Ok(if column.data_type().is_string() { format!("{text:?}") } else { text })
}

/// The bits of a value in hexadecimal digits, the most significant ones first; those of a text or of bytes in their order.
pub(crate) fn bits(column: &ArrayRef, row: usize) -> Result<String> {
    if column.is_null(row) {
        return Ok("NULL".into());
    }
    let one = column.slice(row, 1);
    let items = |items: ArrayRef| -> Result<String> {
        let items = (0..items.len()).map(|item| bits(&items, item)).collect::<Result<Vec<_>>>()?;
        Ok(format!("[{}]", items.join(" ")))
    };
    Ok(match one.data_type() {
        DataType::Boolean => u8::from(one.as_boolean().value(0)).to_string(),
        DataType::Utf8 => hex(one.as_string::<i32>().value(0).bytes()),
        DataType::LargeUtf8 => hex(one.as_string::<i64>().value(0).bytes()),
        DataType::Binary => hex(one.as_binary::<i32>().value(0).iter().copied()),
        DataType::LargeBinary => hex(one.as_binary::<i64>().value(0).iter().copied()),
        DataType::List(_) => items(one.as_list::<i32>().value(0))?,
        DataType::LargeList(_) => items(one.as_list::<i64>().value(0))?,
        other => {
            let (data, width) = (one.to_data(), other.primitive_width());
            let bytes = width.and_then(|width| {
                let first = data.offset() * width;
                data.buffers().first()?.as_slice().get(first..first + width).map(<[u8]>::to_vec)
            });
            match bytes {
                Some(bytes) => hex(bytes.into_iter().rev()),
                None => shown(column, row)?,
            }
        }
    })
}

fn hex(bytes: impl Iterator<Item = u8>) -> String {
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn bits_are_written_with_the_most_significant_first() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), Some(258), None]));
        assert_eq!(bits(&column, 1).unwrap(), "0000000000000102");
        assert_eq!(bits(&column, 2).unwrap(), "NULL");
        let text: ArrayRef = Arc::new(StringArray::from(vec!["ab"]));
        assert_eq!(bits(&text, 0).unwrap(), "6162");
    }

    #[test]
    fn rows_differ_by_their_bits() {
        let other_nan = f64::from_bits(f64::NAN.to_bits() | 1);
        let one: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(0.0), None, Some(1.5), Some(f64::NAN)]));
        let other: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(-0.0), None, Some(1.5), Some(other_nan)]));
        assert_eq!(differing_rows(&one, &other), [1, 4]);
        assert!(has_same_bits(&one, &one.slice(0, 5)) && !has_same_bits(&one, &other));
        assert_eq!(shown(&one, 2).unwrap(), "NULL");
    }
}
