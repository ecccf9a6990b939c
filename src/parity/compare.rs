//! Compares columns bit for bit: NaNs by their payload, zeros by their sign. It counts, and keeps the first difference.

use std::collections::BTreeSet;

use arrow::{
    array::{ArrayRef, RecordBatch},
    compute::cast,
    datatypes::DataType,
};

use super::report::{ComparedValue, Difference, ParityReport};
use crate::{
    error::{Error, Result},
    time::AsOf,
    value::{bits, differing_rows, has_same_bits, shown},
};

/// What a report says about a row and a feature, if they are the first to differ.
pub(super) struct Told {
    pub(super) row: Vec<(String, String)>,
    pub(super) at: Option<AsOf>,
    pub(super) made_by: String,
    pub(super) inputs: Vec<(String, String)>,
}

/// Features of the same rows, from both sides.
pub(super) struct Sides<'a> {
    /// The numbers of the rows in the order in which a report counts them.
    pub(super) numbers: &'a [u64],
    pub(super) training: &'a RecordBatch,
    pub(super) served: &'a RecordBatch,
    /// Rows that were also asked alone: their positions, and the answers of one row.
    pub(super) alone: &'a [(usize, RecordBatch)],
}

/// Counts what was compared.
#[derive(Default)]
pub(super) struct Comparison {
    rows: u64,
    values: u64,
    differing_rows: u64,
    differing_values: u64,
    first: Option<(u64, Difference)>,
}

impl Comparison {
    /// Compares these features of some rows. `tell` is asked about a row and a feature that differ first.
    pub(super) fn add(
        &mut self,
        features: &[String],
        sides: &Sides<'_>,
        tell: impl Fn(usize, &str) -> Result<Told>,
    ) -> Result<()> {
        let Sides { numbers, training, served, alone } = sides;
        let rows = training.num_rows();
        if served.num_rows() != rows || numbers.len() != rows {
            return Err(Error::Internal {
                subject: "comparing served rows with those of training".into(),
                reason: format!(
                    "{} rows were served, training has {rows}, and {} were numbered",
                    served.num_rows(),
                    numbers.len()
                ),
            });
        }
        self.rows += rows as u64;
        self.values += (rows * features.len()) as u64;
        let mut differing = vec![false; rows];
        let mut first: Option<(usize, usize, ArrayRef, ArrayRef, usize)> = None;
        for (order, feature) in features.iter().enumerate() {
            let trained = column(training, feature)?;
            let answered = like(column(served, feature)?, trained.data_type())?;
            let mut found: Vec<(usize, ArrayRef, usize)> =
                differing_rows(&trained, &answered).into_iter().map(|row| (row, answered.clone(), row)).collect();
            let known: BTreeSet<usize> = found.iter().map(|(row, ..)| *row).collect();
            for (row, answer) in alone.iter().filter(|(row, _)| !known.contains(row)) {
                let answer = like(column(answer, feature)?, trained.data_type())?;
                if !has_same_bits(&trained.slice(*row, 1), &answer) {
                    found.push((*row, answer, 0));
                }
            }
            self.differing_values += found.len() as u64;
            for (row, answer, at) in found {
                differing[row] = true;
                let is_before =
                    |(known, of, ..): &(usize, usize, ArrayRef, ArrayRef, usize)| (numbers[row], order) < (numbers[*known], *of);
                if first.as_ref().is_none_or(is_before) {
                    first = Some((row, order, trained.clone(), answer, at));
                }
            }
        }
        self.differing_rows += differing.iter().filter(|is_differing| **is_differing).count() as u64;
        let Some((row, order, trained, answer, at)) = first else { return Ok(()) };
        if self.first.as_ref().is_none_or(|(known, _)| numbers[row] < *known) {
            let feature = features[order].clone();
            let Told { row: shown, at: asked, made_by, inputs } = tell(row, &feature)?;
            let (training, served) = (compared(&trained, row)?, compared(&answer, at)?);
            let difference = Difference { row: shown, at: asked, feature, made_by, inputs, training, served };
            self.first = Some((numbers[row], difference));
        }
        Ok(())
    }

    /// Puts the counts into a report.
    pub(super) fn into_report(self, report: &mut ParityReport) {
        report.rows += self.rows;
        report.values += self.values;
        report.differing_rows += self.differing_rows;
        report.differing_values += self.differing_values;
        report.first = report.first.take().or(self.first.map(|(_, difference)| difference));
    }
}

/// A column of one side.
pub(super) fn column(rows: &RecordBatch, name: &str) -> Result<ArrayRef> {
    let found = rows.column_by_name(name).cloned();
    found.ok_or_else(|| Error::unknown_column("what is compared", name, rows.schema_ref()))
}

/// The column with this type: a text is the same in every type of texts.
fn like(column: ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if column.data_type() == data_type { Ok(column) } else { Ok(cast(&column, data_type)?) }
}

/// These columns of a row with their values.
pub(super) fn shown_row<'a>(
    rows: &RecordBatch,
    row: usize,
    names: impl Iterator<Item = &'a str>,
) -> Result<Vec<(String, String)>> {
    let present = names.filter_map(|name| Some((name, rows.column_by_name(name)?)));
    present.map(|(name, column)| Ok((name.to_owned(), shown(column, row)?))).collect()
}

fn compared(column: &ArrayRef, row: usize) -> Result<ComparedValue> {
    Ok(ComparedValue { value: shown(column, row)?, bits: bits(column, row)? })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, StringArray};

    use super::*;

    fn batch(columns: [(&str, ArrayRef); 2]) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    fn floats(values: [Option<f64>; 5]) -> ArrayRef {
        Arc::new(Float64Array::from(values.to_vec()))
    }

    #[test]
    fn a_nan_of_other_bits_and_the_sign_of_a_zero_differ() {
        let other_nan = f64::from_bits(f64::NAN.to_bits() | 1);
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some(""), Some("b"), Some("c")]));
        let training = batch([("x", floats([Some(f64::NAN), Some(0.0), None, Some(1.5), Some(f64::NAN)])), ("t", texts.clone())]);
        let served = batch([("x", floats([Some(f64::NAN), Some(-0.0), None, Some(1.5), Some(other_nan)])), ("t", texts)]);
        let features = ["t".to_owned(), "x".to_owned()];
        let mut comparison = Comparison::default();
        let told = |row: usize, _: &str| {
            Ok(Told { row: vec![("n".into(), row.to_string())], at: None, made_by: String::new(), inputs: vec![] })
        };
        let again = |x: f64| {
            let columns: [(&str, ArrayRef); 2] =
                [("x", Arc::new(Float64Array::from(vec![x]))), ("t", Arc::new(StringArray::from(vec!["b"])))];
            batch(columns)
        };
        // The numbers of rows decide which difference is the first, not the order in which they are compared.
        let sides = Sides { numbers: &[9, 8, 7, 6, 5], training: &training, served: &served, alone: &[(3, again(1.5))] };
        comparison.add(&features, &sides, told).unwrap();
        assert_eq!((comparison.rows, comparison.values), (5, 10));
        assert_eq!((comparison.differing_rows, comparison.differing_values), (2, 2));
        let (number, first) = comparison.first.as_ref().unwrap();
        assert_eq!((*number, first.row[0].1.as_str(), first.feature.as_str()), (5, "4", "x"));
        assert_eq!((first.training.bits.as_str(), first.served.bits.as_str()), ("7ff8000000000000", "7ff8000000000001"));
        // A row that is answered otherwise when it is asked alone.
        let sides = Sides { numbers: &[0, 1, 2, 3, 4], training: &training, served: &training, alone: &[(3, again(1.25))] };
        comparison.add(&features, &sides, told).unwrap();
        assert_eq!((comparison.differing_rows, comparison.differing_values), (3, 3));
        assert_eq!(comparison.first.as_ref().unwrap().1.served.value, "1.25");
    }
}
