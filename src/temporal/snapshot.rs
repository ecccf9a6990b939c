//! All entities of a table at one instant: the newest visible fact and trailing windows of each, in one pass.
//! It holds one state per entity, whatever the length of history, and asks nothing of the order of the facts.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch},
    compute::cast,
    datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef},
    row::{OwnedRow, RowConverter, SortField},
};
use futures::{Stream, StreamExt};

use super::{Aggregate, Measure, MeasureKind};
use crate::{
    error::{Error, Result},
    time::TimeScale,
};

/// What to compute for each entity.
pub(crate) struct Question {
    /// Where the facts come from, for messages.
    pub(crate) place: String,
    pub(crate) keys: Vec<String>,
    /// The event time, then the known-at column if there is one.
    pub(crate) times: Vec<(String, TimeScale)>,
    pub(crate) tie_break: Vec<String>,
    /// Column and feature name of the values of the newest fact.
    pub(crate) lookups: Vec<(String, String)>,
    /// The first stored event time inside (`None`: none is), and what to aggregate from there on.
    pub(crate) windows: Vec<(Option<i64>, Vec<Aggregate>)>,
}

/// One row per entity that has a visible fact, in the order of the keys: keys, lookups, windows.
///
/// `facts` are visible at the instant, all of them. An entity with a NULL in its key is none.
pub(crate) async fn snapshot(
    question: &Question,
    facts: impl Stream<Item = Result<RecordBatch>>,
    facts_schema: SchemaRef,
) -> Result<RecordBatch> {
    let mut entities = Entities::new(question, &facts_schema)?;
    let mut facts = std::pin::pin!(facts);
    while let Some(batch) = facts.next().await {
        entities.take_in(&batch?)?;
    }
    entities.finish()
}

struct Entities<'a> {
    question: &'a Question,
    keys: Columns,
    /// The tie-breaks, then the looked-up values: what decides between facts of the same times.
    values: Columns,
    times: Vec<(usize, TimeScale)>,
    windows: Vec<Window>,
    known: HashMap<OwnedRow, Entity>,
}

/// The first stored event time inside a window, and the column and kind of each of its aggregates.
type Window = (Option<i64>, Vec<(Option<usize>, MeasureKind)>);

struct Entity {
    newest: Option<(Vec<i64>, OwnedRow)>,
    measures: Vec<Measure>,
}

/// Some columns of the facts as comparable rows.
struct Columns {
    positions: Vec<usize>,
    fields: Vec<Field>,
    converter: RowConverter,
}

impl Columns {
    fn new<'n>(place: &str, names: impl Iterator<Item = &'n String>, schema: &Schema) -> Result<Self> {
        let mut positions = Vec::new();
        for name in names {
            positions.push(position(place, name, schema)?);
        }
        let fields: Vec<Field> = positions.iter().map(|&p| schema.field(p).clone()).collect();
        let sort_fields = fields.iter().map(|f| SortField::new(f.data_type().clone())).collect();
        Ok(Self { positions, fields, converter: RowConverter::new(sort_fields)? })
    }

    fn rows(&self, batch: &RecordBatch) -> Result<arrow::row::Rows> {
        let columns: Vec<ArrayRef> = self.positions.iter().map(|&p| batch.column(p).clone()).collect();
        Ok(self.converter.convert_columns(&columns)?)
    }
}

fn position(place: &str, name: &str, schema: &Schema) -> Result<usize> {
    schema.index_of(name).map_err(|_| Error::unknown_column(place, name, schema))
}

impl<'a> Entities<'a> {
    fn new(question: &'a Question, schema: &Schema) -> Result<Self> {
        let place = &question.place;
        let window = |(start, aggregates): &(Option<i64>, Vec<Aggregate>)| {
            let measures = aggregates.iter().map(|aggregate| {
                let column = aggregate.column().map(|name| position(place, name, schema)).transpose()?;
                Ok((column, aggregate.kind()))
            });
            Ok((*start, measures.collect::<Result<Vec<_>>>()?))
        };
        Ok(Self {
            keys: Columns::new(place, question.keys.iter(), schema)?,
            values: Columns::new(
                place,
                question.tie_break.iter().chain(question.lookups.iter().map(|(column, _)| column)),
                schema,
            )?,
            times: question
                .times
                .iter()
                .map(|(name, scale)| Ok((position(place, name, schema)?, *scale)))
                .collect::<Result<_>>()?,
            windows: question.windows.iter().map(window).collect::<Result<_>>()?,
            known: HashMap::new(),
            question,
        })
    }

    fn take_in(&mut self, batch: &RecordBatch) -> Result<()> {
        let keys = self.keys.rows(batch)?;
        let decides = !self.values.positions.is_empty();
        let values = if decides { Some(self.values.rows(batch)?) } else { None };
        let stored = self.times.iter().map(|(p, _)| stored_times(batch.column(*p))).collect::<Result<Vec<_>>>()?;
        let numbers = self.numbers(batch)?;
        let fresh =
            || self.windows.iter().flat_map(|(_, measures)| measures.iter().map(|(_, kind)| Measure::new(*kind))).collect();
        for row in 0..batch.num_rows() {
            if self.keys.positions.iter().any(|&p| batch.column(p).is_null(row)) {
                continue;
            }
            let entity = self.known.entry(keys.row(row).owned()).or_insert_with(|| Entity { newest: None, measures: fresh() });
            let mut measures = entity.measures.iter_mut();
            let event = stored[0].value(row);
            for ((start, kinds), arrays) in self.windows.iter().zip(&numbers) {
                let is_inside = start.is_some_and(|start| event >= start);
                for ((_, measure), number) in kinds.iter().zip(measures.by_ref()).zip(arrays) {
                    match number {
                        _ if !is_inside => {}
                        None => measure.add(0.0),
                        Some(number) if number.is_valid(row) => measure.add(number.value(row)),
                        Some(_) => {}
                    }
                }
            }
            let Some(values) = &values else { continue };
            let instants: Vec<i64> =
                self.times.iter().zip(&stored).map(|((_, scale), t)| instant(*scale, t.value(row))).collect();
            let is_newer = entity
                .newest
                .as_ref()
                .is_none_or(|(times, kept)| instants.cmp(times).then_with(|| values.row(row).cmp(&kept.row())).is_gt());
            if is_newer {
                entity.newest = Some((instants, values.row(row).owned()));
            }
        }
        Ok(())
    }

    /// The values that aggregates need, window by window; `None` for those that need none.
    fn numbers(&self, batch: &RecordBatch) -> Result<Vec<Vec<Option<Float64Array>>>> {
        let number = |(column, kind): &(Option<usize>, MeasureKind)| {
            let Some(column) = column else { return Ok(None) };
            let array = batch.column(*column);
            if *kind == MeasureKind::Count {
                // Only NULL matters to a count; its column may be of any type.
                let nulls = array.logical_nulls();
                return Ok(Some(Float64Array::new(vec![0.0; array.len()].into(), nulls)));
            }
            let refused = || Error::ColumnType {
                place: self.question.place.clone(),
                column: batch.schema().field(*column).name().clone(),
                found: array.data_type().to_string(),
                needed: "only numbers can be aggregated".into(),
            };
            if !array.data_type().is_numeric() {
                return Err(refused());
            }
            Ok(Some(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone()))
        };
        self.windows.iter().map(|(_, kinds)| kinds.iter().map(number).collect()).collect()
    }

    fn finish(self) -> Result<RecordBatch> {
        let mut entities: Vec<(OwnedRow, Entity)> = self.known.into_iter().collect();
        entities.sort_by(|a, b| a.0.cmp(&b.0));
        let mut columns = self.keys.converter.convert_rows(entities.iter().map(|(key, _)| key.row()))?;
        let mut fields: Vec<Field> = self.keys.fields.iter().map(|f| f.clone().with_nullable(false)).collect();

        let newest = entities.iter().filter_map(|(_, entity)| entity.newest.as_ref().map(|(_, values)| values.row()));
        let values = if self.values.positions.is_empty() { Vec::new() } else { self.values.converter.convert_rows(newest)? };
        let ties = self.question.tie_break.len();
        for (i, (_, output)) in self.question.lookups.iter().enumerate() {
            columns.push(values[ties + i].clone());
            fields.push(Field::new(output, self.values.fields[ties + i].data_type().clone(), true));
        }
        let aggregates = self.question.windows.iter().flat_map(|(_, aggregates)| aggregates);
        for (i, aggregate) in aggregates.enumerate() {
            let measures = entities.iter().map(|(_, entity)| &entity.measures[i]);
            if aggregate.kind() == MeasureKind::Count {
                columns.push(Arc::new(Int64Array::from_iter_values(measures.map(Measure::count))));
                fields.push(Field::new(aggregate.output(), DataType::Int64, true));
            } else {
                columns.push(Arc::new(measures.map(Measure::number).collect::<Float64Array>()));
                fields.push(Field::new(aggregate.output(), DataType::Float64, true));
            }
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}

/// The stored integers of a time column.
fn stored_times(array: &ArrayRef) -> Result<Int64Array> {
    let integers = match array.data_type() {
        DataType::Date32 => cast(&cast(array, &DataType::Int32)?, &DataType::Int64)?,
        _ => cast(array, &DataType::Int64)?,
    };
    Ok(integers.as_primitive::<Int64Type>().clone())
}

/// The instant of a stored time in the column's own unit, so that two local times of one instant are one time.
fn instant(scale: TimeScale, stored: i64) -> i64 {
    if scale.zone == crate::time::Zone::UTC {
        return stored;
    }
    i64::try_from(scale.instant_ns(stored).div_euclid(i128::from(scale.unit.nanos()))).unwrap_or(stored)
}
