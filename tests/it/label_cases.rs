//! The conformance cases of labels ahead (`tests/conformance/labels`): each is loaded, materialized as of its instant, and compared
//! row by row. A row that is not in the materialization is expected as `null`.

use std::{fs, path::Path};

use asof::{
    FeatureSet, FeatureStore, StoreOptions,
    catalog::{FactTable, KnownAt},
    encoder::Number,
    feature_set::Ahead,
};
use chrono::TimeDelta;
use datafusion::arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Float64Type,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    asking::{aggregate, declared, difference, rows_of},
    case_arrow::{batch, nanos},
    cases::{self, Case, Columns, Facts, Spine, Window},
    parity::{columns, whole},
    support::{temp_dir, write_batch},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelTheme {
    theme: String,
    cases: Vec<LabelCase>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelCase {
    name: String,
    why: String,
    facts: Facts,
    rows: Spine,
    label: Label,
    as_of: String,
    expected: Vec<Option<Vec<Value>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Label {
    /// Pairs (column of the rows, column of the facts).
    on: Vec<(String, String)>,
    #[serde(default)]
    windows: Vec<LabelWindow>,
    #[serde(default)]
    next: Vec<String>,
    settle: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelWindow {
    length: String,
    aggregates: Vec<cases::Aggregate>,
}

fn span(duration: &str) -> TimeDelta {
    TimeDelta::microseconds(cases::micros(duration))
}

/// The set of a case, and the names of its labels in their order.
fn label_set(case: &LabelCase, name: &str, rows: &str, facts: &str) -> (FeatureSet, Vec<String>) {
    let mut labels = Vec::new();
    let mut named = |prefix: &str| {
        labels.push(format!("{prefix}_{}", labels.len()));
        labels.last().unwrap().clone()
    };
    let mut ahead = case.label.on.iter().fold(Ahead::of(facts), |ahead, (of_rows, of_table)| ahead.on_columns(of_rows, of_table));
    for column in &case.label.next {
        ahead = ahead.next(column, &named("next"));
    }
    for window in &case.label.windows {
        let aggregates = window.aggregates.iter().map(|asked| aggregate(asked).named(named("label"))).collect::<Vec<_>>();
        ahead = ahead.window(span(&window.length), aggregates);
    }
    if let Some(settle) = &case.label.settle {
        ahead = ahead.settle(span(settle));
    }
    let columns: Vec<String> = case.rows.columns.0.iter().map(|(column, _)| format!("\"{column}\"")).collect();
    let set = FeatureSet::rows(name, &format!("SELECT row_number, {} FROM {rows}", columns.join(", ")))
        .table(rows)
        .event_time(&case.rows.at)
        .encode(Number::of("row_number"))
        .label_ahead(ahead)
        .build()
        .unwrap_or_else(|e| panic!("{}: {e}", case.name));
    (set, labels)
}

/// Writes a table's file and registers the table.
async fn register(store: &FeatureStore, dir: &Path, table: &str, rows: RecordBatch, declared: FactTable) {
    let folder = dir.join(table);
    fs::create_dir_all(&folder).unwrap();
    write_batch(&folder, "rows.parquet", &rows);
    store.register_table(table, folder.to_str().unwrap(), declared).await.unwrap();
}

/// The rows of a case with their number in a column of their own, by which they are found again.
fn numbered(case: &LabelCase) -> RecordBatch {
    let mut names = vec![("row_number".to_owned(), "int64".to_owned())];
    names.extend(case.rows.columns.0.iter().cloned());
    let rows: Vec<Vec<Value>> =
        case.rows.rows.iter().enumerate().map(|(i, row)| [json!(i)].into_iter().chain(row.iter().cloned()).collect()).collect();
    batch(&Columns(names), &rows)
}

/// The labels of each row as of the case's instant.
async fn labels(case: &LabelCase, number: usize, store: &FeatureStore, dir: &Path) -> asof::Result<Vec<Option<Vec<Value>>>> {
    let (rows, facts) = (format!("rows_{number}"), format!("facts_{number}"));
    register(store, dir, &rows, numbered(case), FactTable::new(case.rows.at.as_str(), KnownAt::after(TimeDelta::zero()))).await;
    let as_case = as_case(case);
    register(store, dir, &facts, batch(&case.facts.columns, &case.facts.rows), declared(&as_case)).await;
    let (set, names) = label_set(case, &format!("case_{number}_v1"), &rows, &facts);
    store.register(set)?;
    let as_of = asof::AsOf::from_micros(i64::try_from(nanos(&case.as_of) / 1_000).unwrap());
    let made = whole(&store.materialize(&format!("case_{number}_v1"), as_of).await?).await;
    let mut found = vec![None; case.rows.rows.len()];
    let numbers = made.column_by_name("row_number").unwrap().as_primitive::<Float64Type>();
    for (number, labels) in numbers.values().iter().zip(rows_of(&columns(&made, &names))) {
        let row = found.get_mut(*number as usize).unwrap();
        assert!(row.replace(labels).is_none(), "{}: row {number} is there twice", case.name);
    }
    Ok(found)
}

/// The facts and the aggregates as a case of the other suite, which knows how exact each of them is.
fn as_case(case: &LabelCase) -> Case {
    let spans = case.label.windows.iter().map(|window| {
        let LabelWindow { length, aggregates } = window;
        cases::Span {
            length: Some(length.clone()),
            this: None,
            months: None,
            hop: None,
            hop_months: None,
            zone: None,
            facts: None,
            since: None,
            aggregates: aggregates.clone(),
        }
    });
    Case {
        name: case.name.clone(),
        why: case.why.clone(),
        facts: case.facts.clone(),
        spine: case.rows.clone(),
        lookup: None,
        window: Some(Window { on: case.label.on.clone(), cutoff: cases::Cutoff::Exclusive, spans: spans.collect() }),
        expected: Vec::new(),
    }
}

/// The first difference, as a sentence.
fn told(case: &LabelCase, found: &[Option<Vec<Value>>]) -> Option<String> {
    assert_eq!(found.len(), case.expected.len(), "{}", case.name);
    let comparable = as_case(case);
    for (row, (expected, found)) in case.expected.iter().zip(found).enumerate() {
        let is_same = match (expected, found) {
            (Some(expected), Some(found)) => {
                let next = case.label.next.len();
                let (expected_next, expected) = expected.split_at(next);
                let (found_next, found) = found.split_at(next);
                let next_is_same = expected_next.iter().zip(found_next).all(|(e, f)| crate::oracle::same(e, f, 0.0));
                next_is_same && difference(&comparable, &[expected.to_vec()], &[found.to_vec()]).is_none()
            }
            (expected, found) => expected.is_none() && found.is_none(),
        };
        if !is_same {
            return Some(format!("row {row}: expected {}, got {}", json!(expected), json!(found)));
        }
    }
    None
}

async fn failed(theme: LabelTheme) -> (usize, Vec<String>) {
    let dir = temp_dir();
    let options = StoreOptions::default().cache_in_memory();
    let store = FeatureStore::open_with(dir.path().join("store").to_str().unwrap(), options).await.unwrap();
    let mut failed = Vec::new();
    for (number, case) in theme.cases.iter().enumerate() {
        let told = match labels(case, number, &store, dir.path()).await {
            Ok(found) => told(case, &found),
            Err(error) => Some(error.to_string()),
        };
        failed.extend(told.map(|told| format!("{}: {} ({}): {told}", theme.theme, case.name, case.why)));
    }
    (theme.cases.len(), failed)
}

fn read(path: &Path) -> LabelTheme {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_of_labels_ahead_is_answered() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/labels");
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    // More cases that somebody has generated: a file in the same format.
    files.extend(std::env::var_os("ASOF_LABEL_CASES").map(Into::into));
    let themes = files.iter().map(|path| tokio::spawn(failed(read(path)))).collect::<Vec<_>>();
    let (mut count, mut all) = (0, Vec::new());
    for theme in themes {
        let (cases, failed) = theme.await.unwrap();
        count += cases;
        all.extend(failed);
    }
    assert!(all.is_empty(), "{} of {count} cases:\n{}", all.len(), all.join("\n"));
    assert!(count >= 60, "{count} cases");
}
