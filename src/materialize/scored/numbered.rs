//! Which of several spans a row is scored in: a row for each, with the number of the span in a hidden column.
//! A row is of a span if its event time lies in it and its fact is visible at the span's own instant.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, ListArray, ListBuilder, UInt32Builder},
    datatypes::{DataType, Field, UInt32Type},
};
use datafusion::{
    common::{Column, Result as DfResult, UnnestOptions},
    error::DataFusionError,
    logical_expr::{ColumnarValue, Expr, LogicalPlanBuilder, ScalarUDF, Volatility, create_udf},
    prelude::{DataFrame, ident},
};

use super::{ScoredSpan, merged};
use crate::{
    catalog::FactTable,
    error::{Error, Result},
    materialize::drawn::{Served, instant},
    scan::Visibility,
    time::{Cutoff, Horizon, Span, TimeScale, Zone, stored_integers},
};

/// The hidden column with the number of a row's span.
pub(super) const SPAN: &str = "asof: span";

/// So many conditions on the event time are given to the scan. It then skips the files and row groups between spans.
const CONDITIONS_AT_MOST: usize = 32;

/// Spans, numbered from zero.
pub(in crate::materialize) struct NumberedSpans<'a> {
    spans: &'a [ScoredSpan],
    cutoff: Cutoff,
}

impl<'a> NumberedSpans<'a> {
    pub(super) fn new(spans: &'a [ScoredSpan], cutoff: Cutoff) -> Self {
        Self { spans, cutoff }
    }

    /// These rows once for each of their spans. `times` declares the columns with the times of each row's fact, which are left out
    /// of the result.
    pub(in crate::materialize) fn number(&self, rows: DataFrame, event_time: &str, times: &FactTable) -> Result<DataFrame> {
        let rows = rows.filter(self.condition(event_time))?;
        let schema = rows.schema().as_arrow().clone();
        let hidden: Vec<&str> = times.time_columns().map(|time| time.name()).collect();
        let find = SpanFinder::new(self, &schema.field_with_name(event_time)?.clone(), &|horizon| {
            Visibility::of("the set's query", times, &schema, horizon)
        })?;
        let mut arguments = vec![event_time];
        arguments.extend(&hidden);
        let types = arguments.iter().map(|name| Ok(schema.field_with_name(name)?.data_type().clone()));
        let function = find.function(types.collect::<Result<_>>()?);
        let (state, plan) = rows.into_parts();
        let kept = plan.schema().columns().into_iter().filter(|column| !hidden.contains(&column.name.as_str()));
        let mut columns: Vec<Expr> = kept.map(Expr::Column).collect();
        columns.push(function.call(arguments.into_iter().map(ident).collect()).alias(SPAN));
        let plan = LogicalPlanBuilder::from(plan).project(columns)?;
        // A row of no span has an empty list, and is dropped.
        let options = UnnestOptions::new().with_preserve_nulls(false);
        let plan = plan.unnest_column_with_options(Column::new_unqualified(SPAN), options)?.build()?;
        Ok(DataFrame::new(state, plan))
    }

    /// What holds for the event time of every row of a span, and for few others.
    fn condition(&self, event_time: &str) -> Expr {
        let mut covered = merged(self.spans.iter().map(|scored| scored.span));
        if covered.len() > CONDITIONS_AT_MOST {
            covered = without_small_gaps(&covered);
        }
        let within = |span: &Span| ident(event_time).gt_eq(instant(span.start)).and(ident(event_time).lt(instant(span.end)));
        let any = covered.iter().map(within).reduce(Expr::or);
        any.unwrap_or_else(|| datafusion::logical_expr::lit(false))
    }

    /// When the values that each row sees were computed; `None` for those of each row's own instant.
    pub(in crate::materialize) fn served(&self) -> Option<Served> {
        let every_us = self.spans.iter().find_map(|scored| scored.served)?.every_us;
        let first: Vec<i64> =
            self.spans.iter().map(|scored| scored.served.map_or(0, |refreshes| refreshes.first.micros())).collect();
        let convert = move |arguments: &[ColumnarValue]| -> DfResult<ColumnarValue> {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            let numbers = arrays.first().ok_or_else(no_arguments)?.as_primitive::<UInt32Type>();
            let of_row = |number: Option<u32>| first.get(number? as usize).copied();
            Ok(ColumnarValue::Array(Arc::new(numbers.iter().map(of_row).collect::<Int64Array>())))
        };
        let function =
            create_udf("asof: first refresh", vec![DataType::UInt32], DataType::Int64, Volatility::Immutable, Arc::new(convert));
        Some(Served { first: function.call(vec![ident(SPAN)]), every_us })
    }
}

fn no_arguments() -> DataFusionError {
    DataFusionError::Internal("a function of the spans needs its arguments".into())
}

/// As many spans as conditions are given to a scan at most: the smallest gaps between these are closed.
fn without_small_gaps(spans: &[Span]) -> Vec<Span> {
    let gap = |pair: &[Span]| pair[1].start.micros().saturating_sub(pair[0].end.micros());
    let mut gaps: Vec<(i64, usize)> = spans.windows(2).enumerate().map(|(i, pair)| (gap(pair), i)).collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    let mut open: Vec<usize> = gaps.into_iter().take(CONDITIONS_AT_MOST - 1).map(|(_, i)| i).collect();
    open.sort_unstable();
    let mut starts = vec![0];
    starts.extend(open.iter().map(|i| i + 1));
    let ends = open.iter().copied().chain([spans.len() - 1]);
    starts.into_iter().zip(ends).map(|(first, last)| Span::new(spans[first].start, spans[last].end)).collect()
}

/// Finds the spans of rows by their stored times.
struct SpanFinder {
    /// In the order of their starts.
    spans: Vec<StoredSpan>,
    /// For each span the last end of it and of those before it.
    last_end: Vec<i128>,
}

/// A span in the numbers of the rows' columns.
struct StoredSpan {
    number: u32,
    /// The first event time in it.
    start: i64,
    /// The first event time behind it. It may be larger than any number of a column.
    end: i128,
    /// By time of the fact, the first number that is not visible at the instant of the span; without one all are.
    first_hidden: Vec<Option<i64>>,
}

impl SpanFinder {
    fn new(of: &NumberedSpans<'_>, event: &Field, visibility: &dyn Fn(Horizon) -> Result<Visibility>) -> Result<Self> {
        let scale = TimeScale::of_type(event.data_type(), Zone::UTC).ok_or_else(|| Error::ColumnType {
            subject: "the set's query".into(),
            column: event.name().clone(),
            found: event.data_type().to_string(),
            needed: "the event time must be a timestamp with a zone".into(),
        })?;
        let mut spans = Vec::with_capacity(of.spans.len());
        for (number, ScoredSpan { span, known_at, .. }) in (0..).zip(of.spans) {
            // No time of the column lies at or after a start that it cannot hold.
            let Some(start) = scale.first_not_before(span.start) else { continue };
            let end = scale.first_not_before(span.end).map_or(i128::from(i64::MAX) + 1, i128::from);
            if end <= i128::from(start) {
                continue;
            }
            let limits = visibility(Horizon { as_of: *known_at, cutoff: of.cutoff })?.limits;
            spans.push(StoredSpan { number, start, end, first_hidden: limits.iter().map(|limit| limit.first_hidden).collect() });
        }
        spans.sort_by_key(|span| span.start);
        let last_end = spans.iter().scan(i128::MIN, |last, span| {
            *last = span.end.max(*last);
            Some(*last)
        });
        let last_end = last_end.collect();
        Ok(Self { spans, last_end })
    }

    /// The numbers of the spans that an event time lies in and whose instants see the fact.
    fn each(&self, event: i64, times: impl Fn(usize) -> Option<i64>, mut found: impl FnMut(u32)) {
        let begun = self.spans.partition_point(|span| span.start <= event);
        for (span, last_end) in self.spans[..begun].iter().zip(&self.last_end[..begun]).rev() {
            if *last_end <= i128::from(event) {
                break;
            }
            let sees = |(column, hidden): (usize, &Option<i64>)| {
                times(column).is_some_and(|time| hidden.is_none_or(|hidden| time < hidden))
            };
            if i128::from(event) < span.end && span.first_hidden.iter().enumerate().all(sees) {
                found(span.number);
            }
        }
    }

    /// The spans of each row: lists without order. `columns` are the event time and the times of the fact.
    fn lists(&self, columns: &[ArrayRef]) -> Result<ListArray> {
        let columns = columns.iter().map(|column| stored_integers(column)).collect::<Result<Vec<_>>>()?;
        let mut lists = ListBuilder::new(UInt32Builder::new());
        if let [event, times @ ..] = columns.as_slice() {
            for (row, event) in event.iter().enumerate() {
                if let Some(event) = event {
                    let time =
                        |column: usize| times.get(column).filter(|times| times.is_valid(row)).map(|times| times.value(row));
                    self.each(event, time, |number| lists.values().append_value(number));
                }
                lists.append(true);
            }
        }
        Ok(lists.finish())
    }

    /// As a function of the event time and the times of the fact.
    fn function(self, types: Vec<DataType>) -> ScalarUDF {
        let returned = DataType::List(Arc::new(Field::new_list_field(DataType::UInt32, true)));
        let convert = move |arguments: &[ColumnarValue]| -> DfResult<ColumnarValue> {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            Ok(ColumnarValue::Array(Arc::new(self.lists(&arrays).map_err(|e| DataFusionError::External(Box::new(e)))?)))
        };
        create_udf("asof: spans", types, returned, Volatility::Immutable, Arc::new(convert))
    }
}
