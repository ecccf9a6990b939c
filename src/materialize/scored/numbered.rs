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

#[cfg(test)]
mod tests {
    use arrow::{
        array::TimestampMicrosecondArray,
        datatypes::{Schema, TimeUnit},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::{catalog::KnownAt, time::AsOf};

    fn at(us: i64) -> AsOf {
        AsOf::from_micros(us)
    }

    fn span(start: i64, end: i64, known_at: i64) -> ScoredSpan {
        ScoredSpan { span: Span::new(at(start), at(end)), known_at: at(known_at), served: None }
    }

    fn field(name: &str, unit: TimeUnit) -> Field {
        Field::new(name, DataType::Timestamp(unit, Some("UTC".into())), true)
    }

    /// Event times in thousands of microseconds, by unit; and the smallest number of the unit that is not before an instant.
    const UNITS: [(TimeUnit, i64); 3] =
        [(TimeUnit::Millisecond, 1), (TimeUnit::Microsecond, 1_000), (TimeUnit::Nanosecond, 1_000_000)];

    proptest! {
        #[test]
        fn a_row_is_of_the_spans_that_hold_it_and_see_its_fact(
            spans in prop::collection::vec((0..40_i64, -3..20_i64, 0..10_i64), 0..12),
            rows in prop::collection::vec((prop::option::of(-5..60_i64), prop::option::of(-5..70_i64)), 0..30),
            unit in 0..3_usize,
            inclusive: bool,
        ) {
            let spans: Vec<ScoredSpan> =
                spans.iter().map(|&(start, length, later)| span(start * 500, (start + length) * 500, (start + length + later) * 500)).collect();
            let cutoff = if inclusive { Cutoff::Inclusive } else { Cutoff::Exclusive };
            let (unit, per_ms) = UNITS[unit];
            let schema = Schema::new(vec![field("event", unit), field("asof: known", TimeUnit::Microsecond)]);
            let times = FactTable::new("asof: known", KnownAt::DelayMicros(300));
            let numbered = NumberedSpans::new(&spans, cutoff);
            let visibility = |horizon| Visibility::of("rows", &times, &schema, horizon);
            let finder = SpanFinder::new(&numbered, schema.field(0), &visibility).unwrap();
            let event: ArrayRef = Arc::new(rows.iter().map(|row| row.0.map(|ms| ms * per_ms)).collect::<Int64Array>());
            let event = arrow::compute::cast(&event, schema.field(0).data_type()).unwrap();
            let known = rows.iter().map(|row| row.1.map(|half_ms| half_ms * 500)).collect::<TimestampMicrosecondArray>();
            let lists = finder.lists(&[event, Arc::new(known.with_timezone("UTC"))]).unwrap();
            for (row, (event, known)) in rows.iter().enumerate() {
                let found = lists.value(row);
                let mut found = found.as_primitive::<UInt32Type>().values().to_vec();
                found.sort_unstable();
                let is_in = |scored: &ScoredSpan| {
                    let (Some(event), Some(known)) = (event, known) else { return false };
                    let known_us = known * 500 + 300;
                    let seen = if inclusive { known_us <= scored.known_at.micros() } else { known_us < scored.known_at.micros() };
                    scored.span.start <= at(event * 1_000) && at(event * 1_000) < scored.span.end && seen
                };
                let expected: Vec<u32> = (0..).zip(&spans).filter(|(_, scored)| is_in(scored)).map(|(i, _)| i).collect();
                prop_assert_eq!(found, expected, "row {}", row);
            }
        }

        #[test]
        fn a_scan_is_given_few_conditions_that_hold_all_spans(starts in prop::collection::btree_set(0..10_000_i64, 33..200)) {
            let spans: Vec<Span> = starts.iter().map(|&start| Span::new(at(start * 10), at(start * 10 + 5))).collect();
            let few = without_small_gaps(&spans);
            prop_assert_eq!(few.len(), CONDITIONS_AT_MOST);
            prop_assert!(few.windows(2).all(|pair| pair[0].end < pair[1].start));
            for span in &spans {
                prop_assert!(few.iter().any(|wide| wide.start <= span.start && span.end <= wide.end));
            }
            // No gap that was closed is larger than one that is open.
            let gaps = |spans: &[Span]| -> Vec<i64> { spans.windows(2).map(|pair| pair[1].start.micros() - pair[0].end.micros()).collect() };
            let (all, open) = (gaps(&spans), gaps(&few));
            let mut largest = all;
            largest.sort_unstable_by(|a, b| b.cmp(a));
            prop_assert_eq!(open.iter().sum::<i64>(), largest.iter().take(CONDITIONS_AT_MOST - 1).sum::<i64>());
        }
    }
}
