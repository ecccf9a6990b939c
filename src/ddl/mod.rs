//! SQL statements about the catalog, as Hive and Athena know them.
//! They change and show what is registered; they read no rows and write, move or delete no file of a table.
//!
//! [`FeatureStore::execute`](crate::FeatureStore::execute) takes one statement:
//!
//! ```sql
//! CREATE DATABASE [IF NOT EXISTS] sales [COMMENT '...']          -- or SCHEMA
//! DROP DATABASE [IF EXISTS] sales                                -- only when it is empty
//! SHOW DATABASES [LIKE 'sa*']
//!
//! CREATE EXTERNAL TABLE [IF NOT EXISTS] sales.trips (pickup_at timestamp COMMENT '...', fare double, ...)
//!   [COMMENT '...'] [PARTITIONED BY (year int, month int)]
//!   STORED AS PARQUET LOCATION 's3://bucket/trips' TBLPROPERTIES ('asof.event_time' = 'pickup_at', ...)
//! DROP TABLE [IF EXISTS] sales.trips                             -- the files stay
//! MSCK REPAIR TABLE sales.trips                                  -- adds and removes partitions and files
//! ALTER TABLE sales.trips ADD [IF NOT EXISTS] PARTITION (year = 2014, month = 11) [LOCATION '...'] ...
//! ALTER TABLE sales.trips DROP [IF EXISTS] PARTITION (year = 2014) [, PARTITION (...)]
//!
//! SHOW TABLES [IN sales] [LIKE 'tr*|fl*']
//! SHOW PARTITIONS sales.trips [PARTITION (year = 2014)]
//! DESCRIBE [EXTENDED | FORMATTED] sales.trips
//! SHOW CREATE TABLE sales.trips
//! ```
//!
//! `DROP PARTITION` of a table that this store loaded takes the rows out; a source of whose rows nothing is left can be loaded
//! again, one that has rows in other partitions counts as loaded.
//!
//! Names of databases and tables are in lower case, however they are written; names of columns are those of the files, and
//! are found in any case. Names may stand in backquotes or double quotes; texts in single quotes, where a quote is `\'` or
//! `''` and a backslash `\\`.
//!
//! # What a table declares in `TBLPROPERTIES`
//!
//! A fact table is one whose times are declared, so `asof.event_time` and one of `asof.known_at` and `asof.delay` must be
//! there. Hive and Athena keep these properties and do not mind them.
//!
//! | property | value | means |
//! |---|---|---|
//! | `asof.event_time` | a column | when a fact happened |
//! | `asof.event_time.unit` | `second`, `millisecond`, `microsecond`, `nanosecond` | what a `bigint` event time counts since 1970 |
//! | `asof.known_at` | a column | when a fact could be known |
//! | `asof.known_at.unit` | as above | what a `bigint` known-at counts |
//! | `asof.delay` | `1 hour`, `0 seconds`, ... | how long after its event a fact could be known |
//! | `asof.zone` | `America/New_York`, ... | whose clocks wrote the times that carry no zone |
//! | `asof.keys` | columns, by commas | the entity |
//! | `asof.tie_break` | columns, by commas | which of two facts with the same times is the newer one |
//! | `asof.identity` | columns, by commas | rows that agree in them are versions of one fact |
//! | `asof.timestamps` | `bigint` | timestamps are declared, and shown by `SHOW CREATE TABLE`, as `bigint`: for Athena engines that read microsecond timestamps wrongly |
//!
//! Other properties (`parquet.compression`, `classification`, ...) are kept and shown.
//!
//! # Columns
//!
//! The declared columns are held against every file: one that holds another type is an error, one that a file lacks is NULL
//! there, and columns of the files that are not declared are left out. Without a list of columns a table has those of its
//! files. Types are those of [`HiveType`](crate::catalog::HiveType).

mod parse;
mod properties;
mod run;
mod show;

use std::fmt;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::util::pretty::pretty_format_batches;

pub(crate) use run::execute;

use crate::error::Result;

/// What a statement answers: rows of texts and numbers.
///
/// It prints as a table.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> asof::Result<()> {
/// let store = asof::FeatureStore::open("memory://ddl").await?;
/// store.execute("CREATE DATABASE sales").await?;
/// assert_eq!(store.execute("SHOW DATABASES").await?.lines(), ["default", "sales"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    rows: RecordBatch,
}

impl Answer {
    /// The rows, with a column of texts or 64-bit integers for each heading.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// The rows as text, the cells of each with tabs between them.
    pub fn lines(&self) -> Vec<String> {
        use arrow::array::AsArray;
        let cell = |column: &ArrayRef, row: usize| match column.as_string_opt::<i32>() {
            Some(texts) => texts.value(row).to_owned(),
            None => column.as_primitive_opt::<arrow::datatypes::Int64Type>().map_or(String::new(), |n| n.value(row).to_string()),
        };
        let line = |row| self.rows.columns().iter().map(|column| cell(column, row)).collect::<Vec<_>>().join("\t");
        (0..self.rows.num_rows()).map(line).collect()
    }

    /// Columns of texts.
    fn texts<const N: usize>(headings: [&str; N], rows: Vec<[String; N]>) -> Result<Self> {
        let column =
            |i: usize| -> ArrayRef { std::sync::Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row[i].as_str()))) };
        let columns = headings.iter().enumerate().map(|(i, heading)| (*heading, column(i)));
        Ok(Self { rows: RecordBatch::try_from_iter(columns)? })
    }

    /// One row of numbers.
    fn numbers(cells: &[(&str, usize)]) -> Result<Self> {
        let number =
            |n: usize| -> ArrayRef { std::sync::Arc::new(Int64Array::from_iter_values([i64::try_from(n).unwrap_or(i64::MAX)])) };
        Ok(Self { rows: RecordBatch::try_from_iter(cells.iter().map(|(heading, n)| (*heading, number(*n))))? })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = pretty_format_batches(std::slice::from_ref(&self.rows)).map_err(|_| fmt::Error)?;
        table.fmt(f)
    }
}
