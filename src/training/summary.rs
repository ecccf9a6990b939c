//! What the rows of a training set look like: counts, NULL rates, ranges, classes and the range of instants.
//! All numbers are exact, whatever the order and the batches of the rows; means are rounded once.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float64Type, Schema},
};
use futures::{Stream, TryStreamExt};

use crate::{
    error::{Error, Result},
    manifest::{SplitRule, SplitSide, TrainingOrigin},
    name::SetName,
    numeric::{ExactSum, float_key},
    time::{AsOf, TimeScale, stored_integers},
    value::Value,
};

/// Columns with more distinct values than this have no classes.
const MOST_CLASSES: usize = 20;

/// What the rows of a training set look like. It prints as a table.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// The feature set.
    pub set: SetName,
    /// The splits, the first one first, and which part of each the rows are.
    pub splits: Vec<(SplitRule, SplitSide)>,
    /// How many rows there are.
    pub rows: u64,
    /// The first and the last instant of a row, both inclusive, rounded down to microseconds; `None` if no row has one.
    pub instants: Option<(AsOf, AsOf)>,
    /// The columns, in their order.
    pub columns: Vec<ColumnSummary>,
}

impl Summary {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&ColumnSummary> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// What a column of a training set is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ColumnRole {
    /// The instant of each row.
    Instant,
    /// A feature.
    Feature,
    /// A label that the set declares.
    Label,
    /// A column of the spine: a key, or a label that no set knows of.
    Spine,
}

/// What a column of a training set holds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ColumnSummary {
    /// The column's name.
    pub name: String,
    /// What it is for.
    pub role: ColumnRole,
    /// Its Arrow type.
    pub data_type: DataType,
    /// Rows of the training set.
    pub rows: u64,
    /// Rows in which it is NULL.
    pub nulls: u64,
    /// Rows in which it is NaN.
    pub nans: u64,
    /// The range and mean of a column of numbers; `None` for other types, and if all rows are NULL or NaN.
    pub numbers: Option<NumberSummary>,
    /// Each value with the number of its rows, smallest value first, for texts, integers, truth values and labels of floats; NULL
    /// and NaN are not among them. `None` for other types, and for more than 20 distinct values.
    pub classes: Option<Vec<(Value, u64)>>,
}

impl ColumnSummary {
    /// The share of rows in which it is NULL, 0 to 1; 0 if there are no rows.
    pub fn null_rate(&self) -> f64 {
        if self.rows == 0 { 0.0 } else { self.nulls as f64 / self.rows as f64 }
    }
}

/// The numbers of a column, without NULL and NaN. Integers and decimals are read as the nearest float.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct NumberSummary {
    /// The smallest.
    pub min: f64,
    /// The arithmetic mean: the exact sum over the count, rounded once. NaN if there are infinities of both signs.
    pub mean: f64,
    /// The largest.
    pub max: f64,
}

/// Reads all rows.
pub(super) async fn summarize(
    origin: &TrainingOrigin,
    schema: &Schema,
    rows: impl Stream<Item = Result<RecordBatch>>,
) -> Result<Summary> {
    let mut columns: Vec<Column> =
        schema.fields().iter().map(|field| Column::new(origin, field.name(), field.data_type())).collect();
    let mut instants = Instants { scale: origin.scale, range: None };
    let (mut count, at) = (0, schema.index_of(&origin.instant).ok());
    let mut rows = std::pin::pin!(rows);
    while let Some(batch) = rows.try_next().await? {
        count += batch.num_rows() as u64;
        for (column, values) in columns.iter_mut().zip(batch.columns()) {
            column.add(values)?;
        }
        if let Some(at) = at {
            instants.add(batch.column(at))?;
        }
    }
    Ok(Summary {
        set: origin.set.clone(),
        splits: origin.splits.clone(),
        rows: count,
        instants: instants.range.map(|(first, last)| (micros(first), micros(last))),
        columns: columns.into_iter().map(|column| column.finish(count)).collect(),
    })
}

fn micros(ns: i128) -> AsOf {
    let us = ns.div_euclid(1_000);
    AsOf::from_micros(i64::try_from(us).unwrap_or(if us < 0 { i64::MIN } else { i64::MAX }))
}

/// The range of instants so far, in nanoseconds.
struct Instants {
    scale: TimeScale,
    range: Option<(i128, i128)>,
}

impl Instants {
    fn add(&mut self, times: &ArrayRef) -> Result<()> {
        for time in stored_integers(times)?.iter().flatten() {
            let time = self.scale.earliest_ns(time);
            let (first, last) = self.range.unwrap_or((time, time));
            self.range = Some((first.min(time), last.max(time)));
        }
        Ok(())
    }
}

/// What a column holds so far.
struct Column {
    name: String,
    role: ColumnRole,
    data_type: DataType,
    nulls: u64,
    nans: u64,
    /// The numbers that are neither NULL nor NaN.
    count: u64,
    sum: ExactSum,
    range: (f64, f64),
    /// `None` once there are too many, and for columns without classes.
    classes: Option<BTreeMap<ClassKey, u64>>,
}

/// A class, in the order of its values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum ClassKey {
    Bool(bool),
    Int(i128),
    /// The place of a float among all floats, and its bits.
    Float(u64, u64),
    Text(String),
}

impl ClassKey {
    fn value(self) -> Value {
        match self {
            ClassKey::Bool(x) => x.into(),
            ClassKey::Int(x) => {
                i64::try_from(x).map_or_else(|_| Value::Unsigned(u64::try_from(x).unwrap_or(u64::MAX)), Value::Int)
            }
            ClassKey::Float(_, bits) => f64::from_bits(bits).into(),
            ClassKey::Text(x) => x.into(),
        }
    }
}

impl Column {
    fn new(origin: &TrainingOrigin, name: &str, data_type: &DataType) -> Self {
        let is_in = |names: &[String]| names.iter().any(|known| known == name);
        let role = match name {
            // A label may be a feature, too; an instant may be a key.
            _ if is_in(&origin.labels) => ColumnRole::Label,
            _ if is_in(&origin.features) => ColumnRole::Feature,
            name if name == origin.instant => ColumnRole::Instant,
            _ => ColumnRole::Spine,
        };
        let is_discrete = data_type.is_string() || data_type.is_integer() || *data_type == DataType::Boolean;
        let has_classes = role != ColumnRole::Instant && (is_discrete || role == ColumnRole::Label && data_type.is_floating());
        Self {
            name: name.into(),
            role,
            data_type: data_type.clone(),
            nulls: 0,
            nans: 0,
            count: 0,
            sum: ExactSum::default(),
            range: (f64::INFINITY, f64::NEG_INFINITY),
            classes: has_classes.then(BTreeMap::new),
        }
    }

    fn add(&mut self, values: &ArrayRef) -> Result<()> {
        self.nulls += values.logical_null_count() as u64;
        if self.data_type.is_numeric() && self.role != ColumnRole::Instant {
            let floats = cast(values, &DataType::Float64)?;
            for number in floats.as_primitive::<Float64Type>().iter().flatten() {
                if number.is_nan() {
                    self.nans += 1;
                    continue;
                }
                self.count += 1;
                self.sum.add(number);
                self.range = (self.range.0.min(number), self.range.1.max(number));
            }
        }
        self.count_classes(values)
    }

    fn count_classes(&mut self, values: &ArrayRef) -> Result<()> {
        let Some(classes) = &mut self.classes else { return Ok(()) };
        let keys = class_keys(&self.name, values)?;
        for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
            let Some(key) = keys(row) else { continue };
            *classes.entry(key).or_insert(0) += 1;
            if classes.len() > MOST_CLASSES {
                self.classes = None;
                return Ok(());
            }
        }
        Ok(())
    }

    fn finish(self, rows: u64) -> ColumnSummary {
        let (min, max) = self.range;
        let numbers = (self.count > 0).then(|| NumberSummary { min, mean: self.sum.mean(self.count), max });
        let classes = self.classes.map(|classes| classes.into_iter().map(|(key, count)| (key.value(), count)).collect());
        let Self { name, role, data_type, nulls, nans, .. } = self;
        ColumnSummary { name, role, data_type, rows, nulls, nans, numbers, classes }
    }
}

/// The class of each valid row; `None` for NaN.
fn class_keys<'a>(name: &str, values: &'a ArrayRef) -> Result<Box<dyn Fn(usize) -> Option<ClassKey> + 'a>> {
    Ok(match values.data_type() {
        DataType::Boolean => {
            let values = values.as_boolean();
            Box::new(|row| Some(ClassKey::Bool(values.value(row))))
        }
        t if t.is_floating() => {
            let values = cast(values, &DataType::Float64)?.as_primitive::<Float64Type>().clone();
            Box::new(move |row| {
                // Both zeros are one class.
                let x = values.value(row) + 0.0;
                (!x.is_nan()).then(|| ClassKey::Float(float_key(x), x.to_bits()))
            })
        }
        t if t.is_integer() => {
            let values = cast(values, &DataType::Decimal128(38, 0))?;
            let values = values.as_primitive::<arrow::datatypes::Decimal128Type>().clone();
            Box::new(move |row| Some(ClassKey::Int(values.value(row))))
        }
        t if t.is_string() => {
            let values = cast(values, &DataType::LargeUtf8)?.as_string::<i64>().clone();
            Box::new(move |row| Some(ClassKey::Text(values.value(row).into())))
        }
        other => {
            let reason = format!("column `{name}` is {other}, which has no classes");
            return Err(Error::Internal { subject: "the summary of a training set".into(), reason });
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt64Array};

    use super::*;
    use crate::{
        feature_set::Fingerprint,
        manifest::EngineVersions,
        name::ContentId,
        time::{Cutoff, TimeUnit},
    };

    fn origin() -> TrainingOrigin {
        let hash = ContentId::of(b"x");
        TrainingOrigin {
            set: "rides_v1".parse().unwrap(),
            fingerprint: Fingerprint { id: hash, declared: hash, behaviour: hash },
            definition: Arc::default(),
            as_of: None,
            cutoff: Cutoff::Exclusive,
            engine: EngineVersions::current(),
            inputs: Vec::new(),
            instant: "at".into(),
            scale: TimeScale::UTC_MICROS,
            features: vec!["x".into()],
            labels: vec!["late".into()],
            splits: Vec::new(),
        }
    }

    async fn summary(origin: &TrainingOrigin, columns: &[(&str, ArrayRef)], batch_rows: usize) -> Summary {
        let all = RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(n, c)| (*n, c.clone(), true))).unwrap();
        let starts = (0..all.num_rows()).step_by(batch_rows);
        let batches = starts.map(|at| Ok(all.slice(at, batch_rows.min(all.num_rows() - at)))).collect::<Vec<_>>();
        summarize(origin, all.schema_ref(), futures::stream::iter(batches)).await.unwrap()
    }

    fn columns() -> Vec<(&'static str, ArrayRef)> {
        vec![
            (
                "at",
                Arc::new(TimestampMicrosecondArray::from(vec![Some(3), None, Some(-1), Some(2), Some(0)]).with_timezone("UTC")),
            ),
            ("x", Arc::new(Float64Array::from(vec![Some(1e16), Some(1.0), Some(-1e16), None, Some(f64::NAN)]))),
            ("late", Arc::new(Float64Array::from(vec![Some(1.0), Some(0.0), Some(-0.0), Some(1.0), None]))),
            ("zone", Arc::new(StringArray::from(vec![Some("b"), Some("a"), Some("b"), None, Some("")]))),
            ("big", Arc::new(UInt64Array::from(vec![u64::MAX, 1, 1, 1, 1]))),
            ("is_new", Arc::new(BooleanArray::from(vec![true, true, false, true, true]))),
        ]
    }

    #[tokio::test]
    async fn a_summary_counts_what_is_there() {
        let found = summary(&origin(), &columns(), 5).await;
        assert_eq!((found.rows, found.instants), (5, Some((AsOf::from_micros(-1), AsOf::from_micros(3)))));
        let x = found.column("x").unwrap();
        assert_eq!((x.role, x.nulls, x.nans, x.null_rate()), (ColumnRole::Feature, 1, 1, 0.2));
        // A sum in floats would lose the one.
        assert_eq!(x.numbers, Some(NumberSummary { min: -1e16, mean: 1.0 / 3.0, max: 1e16 }));
        assert_eq!(x.classes, None);
        let classes = |name: &str| found.column(name).unwrap().classes.clone().unwrap();
        assert_eq!(classes("late"), [(0.0.into(), 2), (1.0.into(), 2)]);
        assert_eq!(classes("zone"), [("".into(), 1), ("a".into(), 1), ("b".into(), 2)]);
        assert_eq!(classes("big"), [(1.into(), 4), (u64::MAX.into(), 1)]);
        assert_eq!(classes("is_new"), [(false.into(), 1), (true.into(), 4)]);
        let at = found.column("at").unwrap();
        assert_eq!((at.role, at.nulls, at.numbers, at.classes.is_none()), (ColumnRole::Instant, 1, None, true));
        for batch_rows in 1..5 {
            assert_eq!(summary(&origin(), &columns(), batch_rows).await, found);
        }
    }

    #[tokio::test]
    async fn classes_end_where_there_are_too_many() {
        let of = |count: i64| vec![("n", Arc::new(Int64Array::from_iter_values((0..count).chain(0..count))) as ArrayRef)];
        let few = summary(&origin(), &of(20), 7).await;
        assert_eq!(few.columns[0].classes.as_ref().map(Vec::len), Some(20));
        let many = summary(&origin(), &of(21), 7).await;
        assert_eq!(many.columns[0].classes, None);
    }

    #[tokio::test]
    async fn instants_are_read_by_their_own_scale() {
        let mut origin = origin();
        origin.scale = TimeScale { unit: TimeUnit::Second, zone: "America/New_York".parse().unwrap() };
        let at: ArrayRef = Arc::new(arrow::array::TimestampSecondArray::from(vec![0]));
        let found = summary(&origin, &[("at", at)], 1).await;
        let five = AsOf::from_micros(5 * 3_600_000_000);
        assert_eq!(found.instants, Some((five, five)));
    }

    #[tokio::test]
    async fn it_prints_as_a_table() {
        let text = summary(&origin(), &columns(), 2).await.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("rides_v1: 5 rows from 1969-12-31T23:59:59.999999Z to "), "{text}");
        assert_eq!(lines.len(), 8, "{text}");
        assert!(lines[3].starts_with("x       feature  20.00%    1"), "{text}");
        assert!(lines[5].ends_with(r#""": 1, "a": 1, "b": 2"#), "{text}");
    }

    #[tokio::test]
    async fn no_rows_have_no_ranges() {
        let empty = [("at", Arc::new(TimestampMicrosecondArray::from(Vec::<i64>::new()).with_timezone("UTC")) as ArrayRef)];
        let found = summary(&origin(), &empty, 1).await;
        assert_eq!((found.rows, found.instants, found.columns[0].null_rate()), (0, None, 0.0));
    }
}
