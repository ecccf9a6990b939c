//! The conformance cases and random cases over tables of a store, asked of plans that have travelled.

use std::{fs, path::Path, sync::atomic::Ordering};

use asof::{AsOf, FeatureStore};
use datafusion::{arrow::record_batch::RecordBatch, parquet::arrow::ArrowWriter};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    asking::{Layout, PLAIN, ask_over, declared, difference, rows_of, themes},
    case_arrow::batch,
    cases::Case,
    loopback::Loopback,
    oracle, random_cases,
};

fn write(dir: &Path, rows: &RecordBatch, files: usize) {
    fs::create_dir_all(dir).unwrap();
    let per_file = rows.num_rows().div_ceil(files).max(1);
    for (i, first) in (0..rows.num_rows().max(1)).step_by(per_file).enumerate() {
        let part = rows.slice(first, per_file.min(rows.num_rows() - first));
        let file = fs::File::create(dir.join(format!("facts-{i}.parquet"))).unwrap();
        let mut writer = ArrowWriter::try_new(file, rows.schema(), None).unwrap();
        writer.write(&part).unwrap();
        writer.close().unwrap();
    }
}

/// What is wrong with the answer of a plan that has travelled.
async fn told(store: &FeatureStore, dir: &Path, name: &str, case: &Case, layout: Layout, runner: &Loopback) -> Option<String> {
    let folder = dir.join(name);
    write(&folder, &batch(&case.facts.columns, &case.facts.rows), layout.partitions);
    if let Err(e) = store.register_table(name, folder.to_str().unwrap(), declared(case)).await {
        return Some(e.to_string());
    }
    let facts = match store.on(runner).facts(name, AsOf::END_OF_TIME).await {
        Ok(facts) => facts,
        Err(e) => return Some(e.to_string()),
    };
    match ask_over(case, layout, facts).await {
        Ok(answer) => difference(case, &case.expected, &rows_of(&answer)),
        Err(e) => Some(e.to_string()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_is_answered_after_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let store = FeatureStore::open(dir.path().join("root").to_str().unwrap()).await.unwrap();
    let (mut count, mut failed) = (0, Vec::new());
    let runner = Loopback::new(3);
    for theme in themes() {
        for case in &theme.cases {
            count += 1;
            let name = format!("facts_{count}");
            if let Some(told) = told(&store, dir.path(), &name, case, Layout { partitions: 2, ..PLAIN }, &runner).await {
                failed.push(format!("{}: {}: {told}", theme.theme, case.name));
            }
        }
    }
    assert!(count >= 500, "{count} cases");
    assert!(failed.is_empty(), "{} of {count} cases:\n{}", failed.len(), failed.join("\n"));
    // Tables without a file stay here.
    let travelled = runner.plans.load(Ordering::Relaxed);
    assert!(travelled + 20 >= count, "{travelled} plans of {count} cases travelled");
}

/// `ASOF_RANDOM_CASES` asks for more.
const RANDOM_CASES: u64 = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn random_cases_are_answered_as_the_oracle_answers_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = FeatureStore::open(dir.path().join("root").to_str().unwrap()).await.unwrap();
    let wanted = std::env::var("ASOF_RANDOM_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(RANDOM_CASES);
    // `ASOF_SEED` asks for one.
    let first = std::env::var("ASOF_SEED").ok().and_then(|n| n.parse().ok());
    for seed in first.map_or(0..wanted, |seed| seed..seed + 1) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut case = random_cases::random_case(&mut rng);
        case.expected = oracle::answer(&case);
        let layout = Layout {
            batch_rows: [1, 2, 7, 64, 1_000][rng.random_range(0..5)],
            partitions: rng.random_range(1..4),
            tasks: rng.random_range(1..4),
        };
        let runner = Loopback::new(rng.random_range(1..5));
        let name = format!("facts_{seed}");
        if let Some(told) = told(&store, dir.path(), &name, &case, layout, &runner).await {
            panic!("seed {seed}, {layout:?}, {runner:?}: {told}\n{}", serde_json::to_string(&case).unwrap());
        }
        fs::remove_dir_all(dir.path().join(name)).unwrap();
    }
}
