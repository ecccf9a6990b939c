//! The conformance cases through the operators and the online side, and random cases against the naive oracle.
//! It knows how to put a case to the library; what the answer should be is the business of the cases and the oracle.

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
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::{
    case_arrow::{batch, json_of},
    cases::{self, Case, Columns, Op, Theme},
    oracle, random_cases,
};

pub(crate) fn themes() -> Vec<Theme> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
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

/// The columns that a question adds, one row per spine row.
async fn ask(case: &Case, layout: Layout) -> asof::Result<RecordBatch> {
    let config = SessionConfig::new().with_target_partitions(layout.tasks).with_batch_size(layout.batch_rows);
    let session = SessionContext::new_with_config(config);
    let spine_rows = batch(&case.spine.columns, &case.spine.rows);
    let spine = session.read_table(table(spine_rows, layout))?;
    let facts = session.read_table(table(batch(&case.facts.columns, &case.facts.rows), layout))?;
    let facts = Facts::new("facts", facts, declared(case));
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

#[tokio::test(flavor = "multi_thread")]
async fn every_case_is_answered_by_the_operators() {
    let (mut count, mut failed) = (0, Vec::new());
    for theme in themes() {
        for case in &theme.cases {
            count += 1;
            for layout in [PLAIN, Layout { batch_rows: 1, partitions: 3, tasks: 2 }] {
                let told = match ask(case, layout).await {
                    Ok(answer) => difference(case, &case.expected, &rows_of(&answer)),
                    Err(error) => Some(error.to_string()),
                };
                if let Some(told) = told {
                    failed.push(format!("{}: {}: {told}", theme.theme, case.name));
                    break;
                }
            }
        }
    }
    assert!(count >= 150, "{count} cases");
    assert!(failed.is_empty(), "{} of {count} cases:\n{}", failed.len(), failed.join("\n"));
}

/// The cases and the oracle were written apart from each other.
#[test]
fn the_oracle_agrees_with_every_case() {
    let mut failed = Vec::new();
    for theme in themes() {
        for case in &theme.cases {
            if let Some(told) = difference(case, &case.expected, &oracle::answer(case)) {
                failed.push(format!("{}: {}: {told}", theme.theme, case.name));
            }
        }
    }
    assert!(failed.is_empty(), "{} cases:\n{}", failed.len(), failed.join("\n"));
}

/// `ASOF_RANDOM_CASES` asks for more.
const RANDOM_CASES: u64 = 4_000;

#[tokio::test(flavor = "multi_thread")]
async fn random_cases_are_answered_as_the_oracle_answers_them() {
    let wanted = std::env::var("ASOF_RANDOM_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(RANDOM_CASES);
    let tasks = (0..8u64).map(|part| {
        tokio::spawn(async move {
            for seed in (part..wanted).step_by(8) {
                let mut rng = StdRng::seed_from_u64(seed);
                let case = random_cases::random_case(&mut rng);
                let layout = Layout {
                    batch_rows: [1, 2, 7, 64, 1_000][rng.random_range(0..5)],
                    partitions: rng.random_range(1..4),
                    tasks: rng.random_range(1..4),
                };
                let told = match ask(&case, layout).await {
                    Ok(answer) => difference(&case, &oracle::answer(&case), &rows_of(&answer)),
                    Err(error) => Some(error.to_string()),
                };
                if let Some(told) = told {
                    panic!("seed {seed}, {layout:?}: {told}\n{}", serde_json::to_string(&case).unwrap());
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// The fixtures of pandas' own tests of `merge_asof`, when they are there: expected rows made by somebody else.
///
/// pandas counts an exact match, and its tests drop duplicate quotes and keep the last: the line number as tie-break says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_fixtures_of_pandas_are_answered_as_pandas_answers_them() {
    let Some(dir) = crate::real_data::shared("merge_asof") else { return };
    let read = |name: &str| -> Vec<Vec<Value>> {
        let text = fs::read_to_string(dir.join(name)).unwrap();
        let cell = |(i, text): (usize, &str)| match i {
            0 => json!(format!("{}-{}-{}T{}", &text[..4], &text[4..6], &text[6..8], &text[9..])),
            1 | 4 if text.parse::<f64>().is_err() => json!(text),
            _ if text.is_empty() => Value::Null,
            _ => json!(text.parse::<f64>().unwrap()),
        };
        text.lines().skip(1).map(|line| line.split(',').enumerate().map(cell).collect()).collect()
    };
    let columns = |names: &[(&str, &str)]| Columns(names.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect());
    for (trades, quotes, expected, max_age) in [
        ("trades.csv", "quotes.csv", "asof.csv", None),
        ("trades.csv", "quotes.csv", "tolerance.csv", Some("1d".to_owned())),
        ("trades2.csv", "quotes2.csv", "asof2.csv", None),
    ] {
        let quotes = read(quotes).into_iter().enumerate().map(|(line, mut row)| {
            row.push(json!(line));
            row
        });
        let spine = read(trades).into_iter().map(|row| row[..3].to_vec());
        let case = Case {
            name: expected.into(),
            why: "pandas says so".into(),
            facts: cases::Facts {
                event_time: "time".into(),
                known_at: None,
                delay: Some("0s".into()),
                zone: None,
                tie_break: vec!["line".into()],
                identity: Vec::new(),
                columns: columns(&[
                    ("time", "timestamp[ms, UTC]"),
                    ("ticker", "string"),
                    ("bid", "float64"),
                    ("ask", "float64"),
                    ("line", "int64"),
                ]),
                rows: quotes.collect(),
            },
            spine: cases::Spine {
                at: "time".into(),
                zone: None,
                columns: columns(&[("time", "timestamp[ms, UTC]"), ("ticker", "string"), ("price", "float64")]),
                rows: spine.collect(),
            },
            lookup: Some(cases::Lookup {
                on: vec![("ticker".into(), "ticker".into())],
                columns: vec!["bid".into(), "ask".into()],
                cutoff: cases::Cutoff::Inclusive,
                max_age,
            }),
            window: None,
            expected: read(expected).into_iter().map(|row| row[5..7].to_vec()).collect(),
        };
        for layout in [PLAIN, Layout { batch_rows: 3, partitions: 3, tasks: 2 }] {
            let answer = rows_of(&ask(&case, layout).await.unwrap());
            assert_eq!(difference(&case, &case.expected, &answer), None, "{expected}");
        }
    }
}
