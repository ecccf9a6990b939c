//! The conformance cases and random cases over tables of a store, asked of plans that run elsewhere.

use std::{fs, ops::Range, path::Path};

use asof::{AsOf, FeatureStore, cluster::Runner};
use datafusion::{arrow::record_batch::RecordBatch, parquet::arrow::ArrowWriter};
use futures::{StreamExt, stream};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use crate::{
    asking::{Layout, PLAIN, ask_over, declared, difference, rows_of, themes},
    case_arrow::batch,
    cases::Case,
    oracle, random_cases,
};

/// A store that holds the facts of cases, each in a table of its own.
struct Asked {
    dir: TempDir,
    store: FeatureStore,
}

impl Asked {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = FeatureStore::open(dir.path().join("root").to_str().unwrap()).await.unwrap();
        Self { dir, store }
    }

    /// What is wrong with the answer of a plan that runs elsewhere.
    async fn told<R: Runner + Clone>(&self, name: &str, case: &Case, layout: Layout, runner: &R) -> Option<String> {
        let folder = self.dir.path().join(name);
        write(&folder, &batch(&case.facts.columns, &case.facts.rows), layout.partitions);
        let answer = async {
            self.store.register_table(name, folder.to_str().unwrap(), declared(case)).await?;
            ask_over(case, layout, self.store.on(runner).facts(name, AsOf::END_OF_TIME).await?).await
        };
        let told = match answer.await {
            Ok(answer) => difference(case, &case.expected, &rows_of(&answer)),
            Err(e) => Some(e.to_string()),
        };
        fs::remove_dir_all(folder).unwrap();
        told
    }
}

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

/// Asks all conformance cases, so many at a time, and says how many there are.
pub(crate) async fn ask_all_cases<R: Runner + Clone>(runner: &R, at_a_time: usize) -> usize {
    let asked = Asked::new().await;
    let themes = themes();
    let cases = themes.iter().flat_map(|theme| theme.cases.iter().map(|case| (theme.theme.as_str(), case)));
    let told = stream::iter(cases.enumerate()).map(async |(number, (theme, case))| {
        let told = asked.told(&format!("facts_{number}"), case, Layout { partitions: 2, ..PLAIN }, runner).await;
        told.map(|told| format!("{theme}: {}: {told}", case.name))
    });
    let told: Vec<Option<String>> = told.buffer_unordered(at_a_time).collect().await;
    let (count, failed) = (told.len(), told.into_iter().flatten().collect::<Vec<_>>());
    assert!(count >= 500, "{count} cases");
    assert!(failed.is_empty(), "{} of {count} cases:\n{}", failed.len(), failed.join("\n"));
    count
}

/// Asks the random cases of these seeds, so many at a time, of the runners that `on` gives for 1, 2, 3 and 4 partitions.
pub(crate) async fn ask_random_cases<R: Runner + Clone>(seeds: Range<u64>, at_a_time: usize, on: impl Fn(usize) -> R) {
    let (asked, on) = (&Asked::new().await, &on);
    let told = stream::iter(seeds).map(async |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut case = random_cases::random_case(&mut rng);
        case.expected = oracle::answer(&case);
        let layout = Layout {
            batch_rows: [1, 2, 7, 64, 1_000][rng.random_range(0..5)],
            partitions: rng.random_range(1..4),
            tasks: rng.random_range(1..4),
        };
        let runner = on(rng.random_range(1..5));
        let told = asked.told(&format!("facts_{seed}"), &case, layout, &runner).await;
        told.map(|told| format!("seed {seed}, {layout:?}, {runner:?}: {told}\n{}", serde_json::to_string(&case).unwrap()))
    });
    let mut told = Box::pin(told.buffer_unordered(at_a_time));
    while let Some(told) = told.next().await {
        assert!(told.is_none(), "{}", told.unwrap_or_default());
    }
}

/// The seeds that are asked: `ASOF_SEED` asks for one, this variable for so many.
pub(crate) fn seeds(variable: &str, otherwise: u64) -> Range<u64> {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|n| n.parse().ok());
    number("ASOF_SEED").map_or(0..number(variable).unwrap_or(otherwise), |seed: u64| seed..seed + 1)
}
