//! SQL statements on the catalog, as in Hive and Athena.
//! They change and show what is registered. They read no rows, and they write, move or delete no file of a table.
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
//! `DROP PARTITION` of a table that this store loaded removes its rows. A source with no rows left can then be loaded again;
//! one with rows in other partitions still counts as loaded.
//!
//! Names of databases and tables are converted to lower case. Names of columns are those of the files, and match in any case.
//! Names may be quoted with backquotes or double quotes. Texts are in single quotes; in them `\'` or `''` is a quote and `\\` a
//! backslash.
//!
//! # What a table declares in `TBLPROPERTIES`
//!
//! A table must declare its times: `asof.event_time`, and one of `asof.known_at` and `asof.delay`; or that it is timeless. Hive
//! and Athena store these properties and ignore them.
//!
//! | property | value | means |
//! |---|---|---|
//! | `asof.timeless` | `true` | the table has no times: one row for each value of `asof.keys`, the same at every instant |
//! | `asof.event_time` | a column | when a fact happened |
//! | `asof.event_time.unit` | `second`, `millisecond`, `microsecond`, `nanosecond` | the unit of a `bigint` event time, counted from 1970 |
//! | `asof.known_at` | a column | when a fact could be known |
//! | `asof.known_at.unit` | as above | the unit of a `bigint` known-at |
//! | `asof.delay` | `1 hour`, `0 seconds`, ... | how long after its event a fact could be known |
//! | `asof.zone` | `America/New_York`, ... | the zone of times that have none |
//! | `asof.keys` | columns, separated by commas | the entity |
//! | `asof.tie_break` | columns, separated by commas | which of two facts with the same times is the newer one |
//! | `asof.identity` | columns, separated by commas | rows with the same values in them are versions of one fact |
//! | `asof.timestamps` | `bigint` | timestamps are declared, and shown by `SHOW CREATE TABLE`, as `bigint`: for Athena engines that read microsecond timestamps wrongly |
//!
//! Other properties (`parquet.compression`, `classification`, ...) are kept and shown.
//!
//! # Columns
//!
//! The declared columns are checked against every file: a column of another type is an error, a column that a file lacks is
//! NULL in its rows, and columns that are not declared are left out. Without a list of columns a table has those of its files.
//!
//! | type | Arrow |
//! |---|---|
//! | `boolean` | `Boolean` |
//! | `tinyint`, `smallint`, `int`, `bigint` | `Int8`, `Int16`, `Int32`, `Int64` |
//! | `float`, `double` | `Float32`, `Float64` |
//! | `decimal(p, s)` | `Decimal128(p, s)`; also `Decimal32` and `Decimal64` of files |
//! | `string`, `varchar(n)`, `char(n)` | `Utf8`; also `LargeUtf8`, `Utf8View` and dictionaries of files |
//! | `binary` | `Binary`; also `LargeBinary`, `BinaryView` and `FixedSizeBinary` of files |
//! | `date` | `Date32` |
//! | `timestamp` | `Timestamp(µs)`; of files any unit, with or without zone |
//! | `array<t>`, `map<k,v>`, `struct<name:t,...>` | `List`, `Map`, `Struct` |

mod lists;
mod parse;
mod properties;
mod run;
mod show;
mod statement;
mod tokens;

use std::fmt;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::util::pretty::pretty_format_batches;

pub(crate) use run::execute;

use crate::error::Result;

/// The answer to a statement: rows of texts and numbers.
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
    /// The rows, with one column of texts or 64-bit integers per heading.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// The rows as text, with tabs between the cells.
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
