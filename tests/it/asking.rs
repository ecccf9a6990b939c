//! Puts a case to the library: the facts as a table, the question as a lookup or window, the answer as rows.
//! What the answer should be is the business of the cases and the oracle. The tests of the cluster use this file, too.

use std::{fs, path::Path, sync::Arc};

use asof::{
    Aggregate, WindowLength,
    catalog::{FactTable, KnownAt, TimeColumn},
    temporal::{Facts, Lookup, Spine, Window},
    time::Cutoff,
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{array::RecordBatch, compute::concat_batches, datatypes::SchemaRef},
    datasource::MemTable,
    prelude::{SessionConfig, SessionContext},
};
use serde_json::{Value, json};

use crate::{
    case_arrow::{batch, json_of},
    cases::{self, Case, Op, Theme},
    oracle,
};

pub(crate) fn themes() -> Vec<Theme> {
    let dirs = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("tests/conformance"));
    let dir = dirs.into_iter().find(|dir| dir.is_dir()).unwrap();
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "json"));
    files.sort();
    let read = |path: &std::path::PathBuf| {
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    files.iter().map(read).collect()
}

pub(crate) fn declared(case: &Case) -> FactTable {
    let facts = &case.facts;
    let known = match (&facts.known_at, &facts.delay) {
        (Some(column), _) => KnownAt::Column(TimeColumn::from(column.as_str())),
        (None, Some(delay)) => KnownAt::after(TimeDelta::microseconds(cases::micros(delay))),
        (None, None) => panic!("`{}` declares neither known_at nor delay", case.name),
    };
    let mut declared = FactTable::new(facts.event_time.as_str(), known);
    if let Some(zone) = &facts.zone {
        declared = declared.zone(zone.parse().unwrap());
    }
    declared = facts.tie_break.iter().fold(declared, FactTable::tie_break);
    facts.identity.iter().fold(declared, FactTable::identity)
}

fn cutoff(cutoff: cases::Cutoff) -> Cutoff {
    match cutoff {
        cases::Cutoff::Exclusive => Cutoff::Exclusive,
        cases::Cutoff::Inclusive => Cutoff::Inclusive,
    }
}

/// The length of a window; `None` is everything before the instant.
pub(crate) fn window_length(span: &cases::Span) -> Option<WindowLength> {
    let zone = || span.zone.as_ref().unwrap().parse().unwrap();
    let duration = |text: &str| TimeDelta::microseconds(cases::micros(text));
    let reach = match (&span.length, span.this.as_deref(), span.months) {
        (Some(length), None, None) if span.hop.is_some() => {
            Some(WindowLength::hopping(duration(length), duration(span.hop.as_ref().unwrap()), zone()))
        }
        (None, None, Some(count)) if span.hop_months.is_some() => {
            Some(WindowLength::hopping_months(count, span.hop_months.unwrap(), zone()))
        }
        (Some(length), None, None) => Some(duration(length).into()),
        (None, Some("month"), None) => Some(WindowLength::this_month(zone())),
        (None, Some("week"), None) => Some(WindowLength::this_week(zone())),
        (None, Some("day"), None) => Some(WindowLength::this_day(zone())),
        (None, None, Some(count)) => Some(WindowLength::months(count, zone())),
        (None, None, None) => None,
        _ => panic!("{span:?} has several lengths"),
    };
    let since = match (&span.since, reach) {
        (None, reach) => reach,
        (Some(condition), None) => Some(WindowLength::since(condition)),
        (Some(condition), Some(reach)) => Some(WindowLength::since_within(condition, reach)),
    };
    match (span.facts, since) {
        (None, since) => since,
        (Some(count), None) => Some(WindowLength::facts(count)),
        (Some(count), Some(since)) => Some(WindowLength::facts_within(count, since)),
    }
}

pub(crate) fn aggregate(asked: &cases::Aggregate) -> Aggregate {
    let column = asked.column.clone().unwrap_or_default();
    let by = || asked.by.clone().unwrap();
    let aggregate = match asked.op {
        Op::Count if asked.column.is_none() => Aggregate::count(),
        Op::Count => Aggregate::count_of(column),
        Op::CountDistinct => Aggregate::count_distinct(column),
        Op::ApproxCountDistinct => Aggregate::approx_count_distinct(column),
        Op::Sum => Aggregate::sum(column),
        Op::Mean => Aggregate::mean(column),
        Op::Variance => Aggregate::variance(column),
        Op::Stddev => Aggregate::stddev(column),
        Op::Slope => Aggregate::slope(column),
        Op::Min => Aggregate::min(column),
        Op::Max => Aggregate::max(column),
        Op::First => Aggregate::first(column),
        Op::Last => Aggregate::last(column),
        Op::MaxBy => Aggregate::max_by(column, by()),
        Op::MinBy => Aggregate::min_by(column, by()),
        Op::FirstK => Aggregate::first_k(column, asked.k.unwrap()),
        Op::LastK => Aggregate::last_k(column, asked.k.unwrap()),
        Op::Median => Aggregate::median(column),
        Op::Quantile => Aggregate::quantile(column, asked.q.unwrap()),
        Op::Mode => Aggregate::mode(column),
        Op::TopK => Aggregate::top_k(column, asked.k.unwrap()),
        Op::TopShare => Aggregate::top_share(column),
        Op::Entropy => Aggregate::entropy(column),
    };
    match &asked.filter {
        Some(filter) => aggregate.filter(filter),
        None => aggregate,
    }
}

/// How rows are cut and spread: nothing of it may matter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) batch_rows: usize,
    pub(crate) partitions: usize,
    pub(crate) tasks: usize,
}

pub(crate) const PLAIN: Layout = Layout { batch_rows: 1_000, partitions: 1, tasks: 1 };

pub(crate) fn table(rows: RecordBatch, layout: Layout) -> Arc<MemTable> {
    let pieces: Vec<RecordBatch> = (0..rows.num_rows())
        .step_by(layout.batch_rows)
        .map(|i| rows.slice(i, layout.batch_rows.min(rows.num_rows() - i)))
        .collect();
    let per_partition = pieces.len().div_ceil(layout.partitions).max(1);
    let mut partitions: Vec<Vec<RecordBatch>> = pieces.chunks(per_partition).map(<[_]>::to_vec).collect();
    if partitions.is_empty() {
        partitions.push(Vec::new());
    }
    Arc::new(MemTable::try_new(rows.schema(), partitions).unwrap())
}

/// The columns that a question adds, one row per spine row, over facts in memory.
#[allow(dead_code)] // The tests of the cluster have facts of their own.
pub(crate) async fn ask(case: &Case, layout: Layout) -> asof::Result<RecordBatch> {
    let facts = session(layout).read_table(table(batch(&case.facts.columns, &case.facts.rows), layout))?;
    ask_over(case, layout, Facts::new("facts", facts, declared(case))).await
}

fn session(layout: Layout) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(layout.tasks).with_batch_size(layout.batch_rows);
    SessionContext::new_with_config(config)
}

/// As [`ask`], over these facts, which are those of the case.
pub(crate) async fn ask_over(case: &Case, layout: Layout, facts: Facts) -> asof::Result<RecordBatch> {
    let spine_rows = batch(&case.spine.columns, &case.spine.rows);
    let spine = session(layout).read_table(table(spine_rows, layout))?;
    let mut spine = Spine::new(spine, case.spine.at.as_str());
    if let Some(zone) = &case.spine.zone {
        spine = spine.zone(zone.parse()?);
    }
    let (asked, outputs) = match (&case.lookup, &case.window) {
        (Some(lookup), _) => {
            let mut question = Lookup::of(facts).cutoff(cutoff(lookup.cutoff));
            question = lookup.on.iter().fold(question, |q, (left, right)| q.on_columns(left, right));
            for (i, column) in lookup.columns.iter().enumerate() {
                question = question.column_as(column, format!("out_{i}"));
            }
            if let Some(age) = &lookup.max_age {
                question = question.max_age(TimeDelta::microseconds(cases::micros(age)));
            }
            (spine.lookup([question])?, lookup.columns.len())
        }
        (None, Some(window)) => {
            let mut question = Window::of(facts).cutoff(cutoff(window.cutoff));
            question = window.on.iter().fold(question, |q, (left, right)| q.on_columns(left, right));
            let mut outputs = 0;
            for span in &window.spans {
                let aggregates: Vec<Aggregate> = span
                    .aggregates
                    .iter()
                    .map(|asked| {
                        outputs += 1;
                        aggregate(asked).named(format!("out_{}", outputs - 1))
                    })
                    .collect();
                question = match window_length(span) {
                    Some(length) => question.trailing(length, aggregates),
                    None => question.all_before(aggregates),
                };
            }
            (spine.window([question])?, outputs)
        }
        (None, None) => panic!("`{}` asks nothing", case.name),
    };
    let rows = asked.into_rows();
    let all: SchemaRef = Arc::new(rows.schema().as_arrow().clone());
    let batches = rows.collect().await?;
    let whole = concat_batches(&all, &batches)?;
    // The spine comes back as it was, row by row; rows that cannot be told apart prove nothing of their order.
    let spine_columns = case.spine.columns.0.len();
    let before = whole.project(&(0..spine_columns).collect::<Vec<_>>())?;
    assert_eq!(before.columns(), batch(&case.spine.columns, &case.spine.rows).columns(), "{}: the spine changed", case.name);
    Ok(whole.project(&(spine_columns..spine_columns + outputs).collect::<Vec<_>>())?)
}

pub(crate) fn rows_of(answer: &RecordBatch) -> Vec<Vec<Value>> {
    (0..answer.num_rows()).map(|row| answer.columns().iter().map(|column| json_of(column, row)).collect()).collect()
}

/// How far an output may be from the expected one, relative to it: only variances are not the last bit's matter.
fn tolerances(case: &Case) -> Vec<f64> {
    let Some(window) = &case.window else { return vec![0.0; case.lookup.as_ref().map_or(0, |l| l.columns.len())] };
    let asked = window.spans.iter().flat_map(|span| &span.aggregates);
    let is_float = |name: &Option<String>| {
        let mut columns = case.facts.columns.0.iter();
        columns.any(|(column, data_type)| Some(column) == name.as_ref() && data_type.starts_with("float"))
    };
    asked
        .map(|aggregate| match aggregate.op {
            Op::Variance | Op::Stddev if !is_float(&aggregate.column) => 0.0,
            Op::Variance | Op::Stddev => 1e-9,
            Op::Median | Op::Quantile | Op::Entropy => 1e-12,
            _ => 0.0,
        })
        .collect()
}

/// The first difference, as a sentence.
pub(crate) fn difference(case: &Case, expected: &[Vec<Value>], got: &[Vec<Value>]) -> Option<String> {
    if expected.len() != got.len() {
        return Some(format!("{} rows instead of {}", got.len(), expected.len()));
    }
    let tolerances = tolerances(case);
    for (row, (expected, got)) in expected.iter().zip(got).enumerate() {
        let same = expected.len() == got.len()
            && expected.iter().zip(got).zip(&tolerances).all(|((e, g), tolerance)| oracle::same(e, g, *tolerance));
        if !same {
            return Some(format!("row {row}: expected {}, got {}", json!(expected), json!(got)));
        }
    }
    None
}
