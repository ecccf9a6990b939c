//! The conformance cases through the operators, and random cases against the naive oracle.

use std::fs;

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::{
    asking::{Layout, PLAIN, ask, difference, rows_of, themes},
    cases::{self, Case, Columns},
    oracle, random_cases,
};

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
