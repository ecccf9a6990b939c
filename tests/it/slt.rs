//! SQL with its answers in sqllogictest's format, `tests/slt/*.slt`: what a query yields, which plan it has, and how one is refused.
//! Every file has a store of its own with the tables that [`Asked::new`] makes. With `ASOF_SLT_UPDATE=1` the answers in the files
//! are written anew; read the difference.

use std::path::PathBuf;

use asof::{AsOf, Error, FeatureStore};
use async_trait::async_trait;
use datafusion::arrow::{
    array::RecordBatch,
    util::display::{ArrayFormatter, FormatOptions},
};
use sqllogictest::{
    AsyncDB, DBOutput, DefaultColumnType, Runner, default_column_validator, default_normalizer, default_validator,
};
use tempfile::TempDir;

use crate::{sql::rides_and_fares, sql_origin::tokyo_tables};

/// A store that is asked about the end of time.
struct Asked {
    store: FeatureStore,
    _dir: TempDir,
}

impl Asked {
    /// `rides` (id, zone, at), `fares` (pickup_zone, began, ended, amount, unused; known when they end), and by Tokyo's clock
    /// `requests` (k, at, id), which are asked about with `readings` (k, t, v) in UTC.
    async fn new() -> Self {
        let (dir, store) = rides_and_fares().await;
        tokyo_tables(dir.path(), &store).await;
        Self { store, _dir: dir }
    }
}

#[async_trait]
impl AsyncDB for Asked {
    type Error = Error;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Error> {
        let batches = self.store.sql(sql, AsOf::END_OF_TIME).await?.collect().await?;
        let mut rows = texts(&batches);
        if sql.trim_start().to_ascii_uppercase().starts_with("EXPLAIN") {
            rows = rows.into_iter().flat_map(|row| shape(&row[0], &row[1])).collect();
        }
        let columns = rows.first().map_or(0, Vec::len);
        Ok(DBOutput::Rows { types: vec![DefaultColumnType::Any; columns], rows })
    }

    async fn shutdown(&mut self) {}
}

fn texts(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()));
    }
    rows
}

/// The operators of a plan, a row for each; how deep one lies is shown by points.
fn shape(kind: &str, plan: &str) -> Vec<Vec<String>> {
    let line = |line: &str| {
        let depth = (line.len() - line.trim_start().len()) / 2;
        let operator = line.trim().split([':', ' ']).next().unwrap_or_default();
        vec![kind.to_owned(), format!("{}{operator}", ".".repeat(depth))]
    };
    plan.lines().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answers_are_those_of_the_files() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("slt");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "slt"));
    files.sort();
    assert!(files.len() >= 4, "{folder:?}");
    let mut wrong = Vec::new();
    for file in files {
        let mut runner = Runner::new(async || Ok(Asked::new().await));
        if std::env::var_os("ASOF_SLT_UPDATE").is_some() {
            runner.update_test_file(&file, " ", default_validator, default_normalizer, default_column_validator).await.unwrap();
        } else if let Err(error) = runner.run_file_async(&file).await {
            wrong.push(error.display(false).to_string());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
