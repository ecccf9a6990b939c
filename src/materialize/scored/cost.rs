//! Whether one query for several spans costs less than one query for each of them. It is estimated from the catalog: sizes and time
//! bounds of files, and how far the drawn features reach back. No file is opened.

use super::{ScoredSpan, merged};
use crate::{
    catalog::FileEntry,
    feature_set::{FactsOf, RowSet, Source, View},
    scan::VisibleTable,
    time::{AsOf, Span, TimeScale},
};

/// One query for all spans is made if the queries for each would cost so many times as much. The rows of one query go through a temporary
/// file, and its sort is larger.
const WORTH: f64 = 1.5;

/// What it costs to plan and open one read of a table, as bytes of facts: in the time of about three milliseconds so many are read. With
/// less than this for each span, one query is faster even if it reads no less (docs/performance.md, "Backtests").
const OPENING: f64 = 1e6;

/// About so many rows of one query go through its temporary file: some gigabytes. A row that lies in several spans counts for each.
const ROWS_AT_MOST: f64 = 32e6;

/// What a query reads of a table.
struct Reads<'a> {
    table: &'a VisibleTable,
    reach: Reach,
}

/// Which facts a query reads for the rows of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Those in the span, and so many microseconds before it.
    Back(i64),
    /// All before its end.
    Before,
    /// All rows.
    All,
}

/// Would a query for each span cost much more than one query for all of them? `tables` are those of the set as of the last instant, and
/// `is_skipping` says whether a scan of the rows skips files by the event time.
pub(super) fn is_worth_sharing(set: &RowSet, tables: &[VisibleTable], is_skipping: bool, spans: &[ScoredSpan]) -> bool {
    let reads = reads(set, tables, is_skipping);
    let each: Vec<f64> = spans.iter().map(|scored| bytes(&reads, &[scored.span])).collect();
    let all: Vec<Span> = spans.iter().map(|scored| scored.span).collect();
    costs_more(reads.len(), &each, bytes(&reads, &all))
}

/// How many of these spans, from the first on, one query has at most, so that its temporary file stays small. `tables` are those of the
/// set as of the last instant.
pub(super) fn spans_at_once(set: &RowSet, tables: &[VisibleTable], spans: &[ScoredSpan]) -> usize {
    let rows_of = |scored: &ScoredSpan| -> f64 {
        let of_file =
            |table: &VisibleTable, file: &FileEntry| file.rows as f64 * share_of(file, table.event_scale(), &[scored.span]);
        let tables = tables.iter().take(set.query_tables);
        tables.map(|table| table.files().map(|file| of_file(table, file)).sum::<f64>()).sum()
    };
    count_within(ROWS_AT_MOST, spans.iter().map(rows_of))
}

/// How many of these numbers, from the first on, do not add up to more than this. At least one.
fn count_within(most: f64, numbers: impl Iterator<Item = f64>) -> usize {
    let sums = numbers.scan(0.0, |sum, number| {
        *sum += number;
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= most).count().max(1)
}

/// Do queries that read so many bytes each cost much more than one that reads `together`? Each reads so many tables.
fn costs_more(tables: usize, each: &[f64], together: f64) -> bool {
    let opening = OPENING * tables as f64;
    let one_by_one: f64 = each.iter().map(|bytes| opening + bytes).sum();
    one_by_one > WORTH * (opening + together)
}

fn reads<'a>(set: &RowSet, tables: &'a [VisibleTable], is_skipping: bool) -> Vec<Reads<'a>> {
    let rows = tables.iter().take(set.query_tables);
    let rows = rows.map(|table| Reads { table, reach: if is_skipping { Reach::Back(0) } else { Reach::Before } });
    let drawn = set.drawn.iter().flat_map(|drawn| {
        drawn.sources().into_iter().filter_map(|(source, drawn_source)| {
            let reaches = of_source(&drawn_source);
            let read = of_facts(*drawn.facts_of_source.get(source)?, set, tables);
            Some(read.into_iter().flat_map(|table| reads_of(table, &reaches)).collect::<Vec<_>>())
        })
    });
    rows.chain(drawn.flatten()).collect()
}

/// The tables that a source reads, by itself or through a view.
fn of_facts<'a>(of: FactsOf, set: &RowSet, tables: &'a [VisibleTable]) -> Vec<&'a VisibleTable> {
    match of {
        FactsOf::Table(position) => tables.get(position).into_iter().collect(),
        FactsOf::View(position) => {
            let of_view = set.views.get(position).map_or(&[][..], View::tables);
            tables.iter().filter(|table| of_view.contains(table.pinned().version.table())).collect()
        }
    }
}

/// What is read of one table. A timeless one is read as a whole.
fn reads_of<'a>(table: &'a VisibleTable, reaches: &[Reach]) -> Vec<Reads<'a>> {
    match table.pinned().version.declared().is_timeless() {
        true => vec![Reads { table, reach: Reach::All }],
        false => reaches.iter().map(|reach| Reads { table, reach: *reach }).collect(),
    }
}

/// What the lookup and the windows of a source read.
fn of_source(source: &Source) -> Vec<Reach> {
    let back = |us: Option<i64>| us.map_or(Reach::Before, Reach::Back);
    let mut reads = Vec::new();
    if !source.lookups.is_empty() {
        reads.push(if source.timeless { Reach::All } else { back(source.max_age_us) });
    }
    if !source.windows.is_empty() {
        let lengths = source.windows.iter().map(|(length, _)| length.at_most_us());
        let longest = lengths.into_iter().try_fold(0, |longest: i64, length| Some(longest.max(length?)));
        reads.push(back(longest));
    }
    reads
}

/// About how many bytes are read for the rows of these spans.
fn bytes(reads: &[Reads<'_>], spans: &[Span]) -> f64 {
    let of_reads = |Reads { table, reach }: &Reads<'_>| {
        let needed = match reach {
            Reach::All => None,
            Reach::Back(us) => Some(merged(spans.iter().map(|span| Span::new(back(span.start, *us), span.end)))),
            Reach::Before => Some(merged(spans.iter().map(|span| Span::new(AsOf::from_micros(i64::MIN), span.end)))),
        };
        let share = |file: &FileEntry| needed.as_deref().map_or(1.0, |needed| share_of(file, table.event_scale(), needed));
        table.files().map(|file| file.identity.size as f64 * share(file)).sum::<f64>()
    };
    reads.iter().map(of_reads).sum()
}

/// The instant so many microseconds earlier, or the first one.
fn back(instant: AsOf, us: i64) -> AsOf {
    AsOf::from_micros(instant.micros().saturating_sub(us))
}

/// The share of a file's facts that lie in these spans, if its facts are spread evenly over its time.
fn share_of(file: &FileEntry, scale: TimeScale, spans: &[Span]) -> f64 {
    let Some(bounds) = file.event else { return 1.0 };
    if bounds.is_empty() {
        return 0.0;
    }
    let (first, last) = (scale.instant_us(bounds.min), scale.instant_us(bounds.max).saturating_add(1));
    share_of_time((first, last), spans)
}

/// The share of the time from `first` to before `last` that these spans cover. They do not overlap.
fn share_of_time((first, last): (i64, i64), spans: &[Span]) -> f64 {
    let covered = |span: &Span| {
        let (start, end) = (span.start.micros().max(first), span.end.micros().min(last));
        (i128::from(end) - i128::from(start)).max(0) as f64
    };
    spans.iter().map(covered).sum::<f64>() / (i128::from(last) - i128::from(first)).max(1) as f64
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::temporal::{Aggregate, WindowLength};

    fn span(start: i64, end: i64) -> Span {
        Span::new(AsOf::from_micros(start), AsOf::from_micros(end))
    }

    #[test]
    fn a_file_is_read_as_far_as_its_time_is_covered() {
        assert_eq!(share_of_time((0, 100), &[span(-50, 25), span(90, 1_000)]), 0.35);
        assert_eq!(share_of_time((0, 100), &[span(i64::MIN, i64::MAX)]), 1.0);
        assert_eq!(share_of_time((0, 100), &[span(100, 200)]), 0.0);
        assert_eq!(share_of_time((i64::MIN, i64::MAX), &[span(i64::MIN, 0)]), 0.5);
        assert_eq!(share_of_time((7, 8), &[span(7, 8)]), 1.0);
    }

    #[test]
    fn one_query_is_worth_it_if_spans_overlap_or_are_small() {
        // Months of files of their own, large and small.
        assert!(!costs_more(1, &[30e6; 12], 360e6));
        assert!(costs_more(1, &[0.3e6; 12], 3.6e6));
        // Half years that overlap, and lookups in everything before a month.
        assert!(costs_more(1, &[180e6; 12], 510e6));
        let before: Vec<f64> = (1..13).map(|month| f64::from(month) * 30e6 + 30e6).collect();
        assert!(costs_more(2, &before, 720e6));
        assert!(!costs_more(1, &[0.0], 0.0) && !costs_more(3, &[1e9], 1e9), "there is nothing to share");
    }

    #[test]
    fn a_query_has_as_many_spans_as_its_file_can_hold() {
        assert_eq!(count_within(10.0, [4.0, 4.0, 2.0, 0.0, 1.0].into_iter()), 4);
        assert_eq!(count_within(10.0, [40.0, 1.0].into_iter()), 1);
        assert_eq!(count_within(10.0, [1.0, 1.0].into_iter()), 2);
    }

    #[test]
    fn lookups_reach_as_far_as_their_max_age_and_windows_as_far_as_the_longest() {
        let day = 86_400_000_000;
        let source = || Source::of("trips").on("zone");
        let count = || [Aggregate::count()];
        assert_eq!(of_source(&source().lookup("a", "a")), [Reach::Before]);
        assert_eq!(of_source(&source().lookup("a", "a").max_age(TimeDelta::days(2))), [Reach::Back(2 * day)]);
        assert_eq!(of_source(&Source::timeless("zones").on("zone").lookup("a", "a")), [Reach::All]);
        let windows = source().window(TimeDelta::days(1), count()).window(TimeDelta::days(7), count());
        assert_eq!(of_source(&windows), [Reach::Back(7 * day)]);
        let both = windows.window(WindowLength::facts(3), count()).lookup("a", "a").max_age(TimeDelta::days(1));
        assert_eq!(of_source(&both), [Reach::Back(day), Reach::Before]);
        assert_eq!(of_source(&source()), []);
    }
}
