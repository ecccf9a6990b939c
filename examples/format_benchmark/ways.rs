//! Ways of reading a month of trips, and the queries. Every way gives the same answer.

use std::{
    error::Error,
    fs::File,
    path::{Path, PathBuf},
};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Float64Type, TimestampMicrosecondType},
};
use asof::{
    AsOf, FeatureStore, StoreOptions,
    catalog::{FactTable, KnownAt},
    ingest::Ingest,
};
use clap::ValueEnum;
use futures::TryStreamExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// The month that is read.
pub const MONTH: u32 = 3;
/// One of its days, in New York local time and as instants.
const DAY: &str = "2014-03-15";
const DAY_BEGAN: &str = "2014-03-15T04:00:00Z";
const DAY_ENDED: &str = "2014-03-16T04:00:00Z";

/// The queries. All compute the mean of the amounts paid, so that answers can be compared.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Question {
    /// Every column of every trip.
    AllColumns,
    /// The amount paid, of every trip.
    OneColumn,
    /// The amount paid, of the trips of one day.
    Filter,
}

impl Question {
    /// As the output table shows it.
    pub fn shown(self) -> &'static str {
        match self {
            Question::AllColumns => "all columns",
            Question::OneColumn => "one column",
            Question::Filter => "one day",
        }
    }
}

/// The ways of reading.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// The library's load from CSV to a table.
    Load,
    /// All rows of the CSV file held as text, then queried.
    CsvRows,
    /// All columns of the Parquet file decoded and held, then queried.
    ParquetWhole,
    /// The library's SQL, in batches.
    Asof,
}

/// The answer.
pub struct Answer {
    /// The number of trips.
    pub rows: u64,
    /// The mean amount paid.
    pub mean_dollars: f64,
}

#[derive(Default)]
struct Mean {
    rows: u64,
    dollars: f64,
}

impl Mean {
    fn add(&mut self, dollars: f64) {
        self.rows += 1;
        self.dollars += dollars;
    }

    fn answer(self) -> Answer {
        Answer { rows: self.rows, mean_dollars: self.dollars / self.rows as f64 }
    }
}

impl Way {
    /// As the output table shows it.
    pub fn shown(self) -> &'static str {
        match self {
            Way::Load => "asof: CSV loaded into a table",
            Way::CsvRows => "CSV, rows held in memory",
            Way::ParquetWhole => "Parquet, decoded whole and held",
            Way::Asof => "Parquet through asof",
        }
    }

    /// Reads the data in `dir` and answers.
    pub fn answer(self, dir: &Path, question: Question) -> Result<Answer, Box<dyn Error>> {
        match self {
            Way::CsvRows => csv_rows(dir, question),
            Way::ParquetWhole => parquet_whole(dir, question),
            Way::Load => tokio::runtime::Runtime::new()?.block_on(load(dir)),
            Way::Asof => tokio::runtime::Runtime::new()?.block_on(asked(dir, question)),
        }
    }
}

fn csv_rows(dir: &Path, question: Question) -> Result<Answer, Box<dyn Error>> {
    let mut reader = csv::Reader::from_path(dir.join("csv").join(format!("taxi_2014-{MONTH:02}.csv")))?;
    let place = |name: &str, header: &csv::StringRecord| header.iter().position(|column| column == name);
    let header = reader.headers()?.clone();
    let (paid, pickup) = place("total_amount", &header).zip(place("pickup_at", &header)).ok_or("columns are missing")?;
    let rows = reader.records().collect::<Result<Vec<_>, _>>()?;
    let mut mean = Mean::default();
    for row in rows.iter().filter(|row| question != Question::Filter || row[pickup].starts_with(DAY)) {
        mean.add(row[paid].parse()?);
    }
    Ok(mean.answer())
}

fn parquet_whole(dir: &Path, question: Question) -> Result<Answer, Box<dyn Error>> {
    let mut batches: Vec<RecordBatch> = Vec::new();
    for (path, _) in parquet_files(dir)? {
        for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()? {
            batches.push(batch?);
        }
    }
    let day = DAY_BEGAN.parse::<AsOf>()?.micros()..DAY_ENDED.parse::<AsOf>()?.micros();
    let mut mean = Mean::default();
    for batch in &batches {
        let paid = column(batch, "total_amount")?.as_primitive::<Float64Type>();
        let pickup = column(batch, "pickup_at")?.as_primitive::<TimestampMicrosecondType>();
        for (paid, pickup) in paid.values().iter().zip(pickup.values()) {
            if question != Question::Filter || day.contains(pickup) {
                mean.add(*paid);
            }
        }
    }
    Ok(mean.answer())
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a arrow::array::ArrayRef, Box<dyn Error>> {
    batch.column_by_name(name).ok_or_else(|| format!("there is no column `{name}`").into())
}

async fn open(dir: &Path) -> asof::Result<FeatureStore> {
    let options = StoreOptions::default().cache_in_memory();
    FeatureStore::open_with(&dir.join("store").to_string_lossy(), options).await
}

async fn load(dir: &Path) -> Result<Answer, Box<dyn Error>> {
    let table = FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone("America/New_York".parse()?);
    let load = Ingest::new("trips", table)?.from(dir.join("csv").to_string_lossy());
    let report = open(dir).await?.ingest(&load).await?;
    Ok(Answer { rows: report.rows, mean_dollars: 0.0 })
}

async fn asked(dir: &Path, question: Question) -> Result<Answer, Box<dyn Error>> {
    let store = open(dir).await?;
    let sql = match question {
        Question::AllColumns => "SELECT * FROM trips".to_owned(),
        Question::OneColumn => "SELECT total_amount FROM trips".to_owned(),
        Question::Filter => {
            format!("SELECT total_amount FROM trips WHERE pickup_at >= '{DAY_BEGAN}' AND pickup_at < '{DAY_ENDED}'")
        }
    };
    let mut batches = store.sql(&sql, "2015-01-01".parse()?).await?.execute_stream().await?;
    let mut mean = Mean::default();
    while let Some(batch) = batches.try_next().await? {
        let paid = column(&batch, "total_amount")?.as_primitive::<Float64Type>();
        paid.values().iter().for_each(|paid| mean.add(*paid));
    }
    Ok(mean.answer())
}

/// The table's files and their sizes in bytes.
pub fn parquet_files(dir: &Path) -> Result<Vec<(PathBuf, u64)>, Box<dyn Error>> {
    let mut found = Vec::new();
    let mut folders = vec![dir.join("store/facts")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => found.push((path, entry.metadata()?.len())),
            }
        }
    }
    Ok(found)
}
