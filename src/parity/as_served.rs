//! The features of keys as training computes them for a service: as of one instant, and aged until the instant of the request.
//! The operators are those of training sets and materializations; no published row is read.

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch},
    compute::nullif,
    datatypes::{SchemaRef, TimestampMicrosecondType},
};
use datafusion::prelude::DataFrame;

use crate::{
    engine::Engine,
    error::{Error, Result},
    feature_set::{EntitySet, Source, event_time_column, lookups_and_windows},
    materialize::SetFacts,
    scan::VisibleTable,
    temporal::Spine,
    time::{Cutoff, TimeScale, stored_integers},
};

/// Columns of a spine that no key and no feature is called by: the instant of the request, and the instant as of which it is
/// answered.
pub(super) const AT: &str = "asof: asked at";
pub(super) const AS_OF: &str = "asof: answered as of";

/// Makes looked-up values NULL that are too old at the instant of the request.
pub(super) struct Aging {
    /// The column of the fact's event time, how it is stored, the age, and the features.
    sources: Vec<(String, TimeScale, i64, Vec<String>)>,
}

/// The spine, which has the set's keys and the columns [`AT`] and [`AS_OF`], with the features as of [`AS_OF`]; and what ages them
/// until [`AT`]. `tables` are those of the set with all their facts.
pub(super) async fn as_served(
    engine: &Engine,
    set: &EntitySet,
    tables: &[VisibleTable],
    cutoff: Cutoff,
    spine: DataFrame,
) -> Result<(DataFrame, Aging)> {
    let opened = SetFacts::open(engine, "the sources of the set", &set.views, &set.facts_of_source, tables).await?;
    let (mut inputs, mut sources) = (Vec::with_capacity(set.sources.len()), Vec::new());
    for (number, (source, &of)) in set.sources.iter().zip(&set.facts_of_source).enumerate() {
        let facts = opened.of(of)?;
        let age = max_age(source);
        inputs.push((source, facts.clone(), cutoff, age.map(|_| number)));
        if let Some(age) = age {
            let features = source.lookups.iter().map(|(_, output)| output.clone()).collect();
            sources.push((event_time_column(number), facts.event_scale()?, age, features));
        }
    }
    Ok((lookups_and_windows(Spine::new(spine, AS_OF), &inputs)?.into_rows(), Aging { sources }))
}

/// The max age of a source's lookups, in microseconds.
pub(super) fn max_age(source: &Source) -> Option<i64> {
    source.max_age_us.filter(|_| !source.lookups.is_empty())
}

impl Aging {
    /// The rows with values that are too old made NULL.
    pub(super) fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let schema: SchemaRef = rows.schema();
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        let at = column(rows, AT)?;
        let at = at.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| misread(AT))?;
        for (event_time, scale, age, features) in &self.sources {
            let event_times = stored_integers(column(rows, event_time)?)?;
            let is_old: BooleanArray = (0..rows.num_rows())
                .map(|row| {
                    let oldest = at.value(row).saturating_sub(*age);
                    Some(event_times.is_null(row) || scale.instant_us(event_times.value(row)) < oldest)
                })
                .collect();
            for feature in features {
                let position = schema.index_of(feature)?;
                columns[position] = nullif(&columns[position], &is_old)?;
            }
        }
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    rows.column_by_name(name).ok_or_else(|| misread(name))
}

fn misread(name: &str) -> Error {
    Error::Internal {
        subject: "computing features as they are served".into(),
        reason: format!("the rows lack the instants `{name}`"),
    }
}
