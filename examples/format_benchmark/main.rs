//! Compares reading a month of trips as CSV and as Parquet: seconds, peak memory and bytes read, for all columns, one column and a
//! filter.
//!
//! ```text
//! cargo run --release --example format_benchmark -- --trips 2000000
//! ```
//!
//! Each way of reading runs in a process of its own, so that its memory can be measured. Bytes are those that the process read from
//! the system. Without `/proc` both columns stay empty.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures durations")]

pub mod ways;

#[path = "../data/taxi.rs"]
#[allow(dead_code, reason = "shared with programs that need more of it")]
pub mod taxi;

use std::{
    error::Error,
    path::Path,
    process::{Command, ExitCode},
};

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use ways::{Question, Way};

/// Compares formats and ways of reading them.
#[derive(Parser)]
struct Args {
    /// Trips in the month.
    #[arg(long, default_value_t = 200_000)]
    trips: u32,
    /// Run one measurement in the folder of the data. The program starts itself with this flag.
    #[arg(long, hide = true, num_args = 3, value_names = ["DIR", "WAY", "QUESTION"])]
    measure: Option<Vec<String>>,
}

/// The measurements of one process.
#[derive(Serialize, Deserialize)]
struct Measured {
    seconds: f64,
    peak_mb: Option<f64>,
    read_mb: Option<f64>,
    rows: u64,
    mean_dollars: f64,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    if let Some([dir, way, question]) = args.measure.as_deref() {
        let measured = measure(Path::new(dir), parsed(way)?, parsed(question)?)?;
        println!("{}", serde_json::to_string(&measured)?);
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let config = taxi::Config { trips_per_month: args.trips, ..Default::default() };
    let csv = taxi::write_month(&config, ways::MONTH, &dir.path().join("csv"))?;
    println!("{} trips of {}-{:02}; {:.1} MB as CSV", args.trips, config.year, ways::MONTH, megabytes(csv.metadata()?.len()));

    // The load writes Parquet once, sorted by time, with the statistics that let later reads skip row groups.
    let load = in_a_process(dir.path(), Way::Load, Question::AllColumns)?;
    println!("{:.1} MB as Parquet", megabytes(ways::parquet_files(dir.path())?.iter().map(|(_, bytes)| bytes).sum()));
    println!("\n{:<14} {:<34} {:>9} {:>9} {:>9}", "question", "way", "seconds", "peak MB", "MB read");
    show("(once)", Way::Load, &load);
    for question in [Question::AllColumns, Question::OneColumn, Question::Filter] {
        let mut expected: Option<Measured> = None;
        for way in [Way::CsvRows, Way::ParquetWhole, Way::Asof] {
            let measured = in_a_process(dir.path(), way, question)?;
            show(question.shown(), way, &measured);
            if let Some(first) = &expected {
                let apart = (first.mean_dollars - measured.mean_dollars).abs() / first.mean_dollars.abs();
                if first.rows != measured.rows || apart > 1e-9 {
                    return Err(format!("{} says otherwise than the first way", way.shown()).into());
                }
            }
            expected.get_or_insert(measured);
        }
    }
    println!("\n{EXPLANATION}");
    Ok(())
}

const EXPLANATION: &str = "\
CSV is text in rows: any question reads and parses all of it, and a row held as text takes more memory than its file.
Parquet keeps columns apart: a question about one column reads that column. Sorted by time and with the bounds of each
row group in its footer, a question about a day skips the groups of other days without reading them; and what is read
batch by batch is never held, so that memory does not grow with the file. The load pays for that once.";

fn parsed<T: ValueEnum>(text: &str) -> Result<T, Box<dyn Error>> {
    Ok(T::from_str(text, false)?)
}

fn name_of<T: ValueEnum>(value: T) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn in_a_process(dir: &Path, way: Way, question: Question) -> Result<Measured, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    let done = command.arg("--measure").arg(dir).args([name_of(way), name_of(question)]).output()?;
    if !done.status.success() {
        return Err(format!("{}: {}", way.shown(), String::from_utf8_lossy(&done.stderr)).into());
    }
    Ok(serde_json::from_slice(&done.stdout)?)
}

fn measure(dir: &Path, way: Way, question: Question) -> Result<Measured, Box<dyn Error>> {
    let before = of_proc("/proc/self/io", "rchar");
    let start = std::time::Instant::now();
    let answer = way.answer(dir, question)?;
    let seconds = start.elapsed().as_secs_f64();
    let read = of_proc("/proc/self/io", "rchar").zip(before).map(|(after, before)| after - before);
    Ok(Measured {
        seconds,
        peak_mb: of_proc("/proc/self/status", "VmHWM").map(|kib| megabytes(kib * 1024)),
        read_mb: read.map(megabytes),
        rows: answer.rows,
        mean_dollars: answer.mean_dollars,
    })
}

/// A number from a file of this process in `/proc`.
fn of_proc(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn show(question: &str, way: Way, measured: &Measured) {
    let shown = |mb: Option<f64>| mb.map_or_else(String::new, |mb| format!("{mb:.1}"));
    let Measured { seconds, peak_mb, read_mb, .. } = measured;
    println!("{question:<14} {:<34} {seconds:>9.3} {:>9} {:>9}", way.shown(), shown(*peak_mb), shown(*read_mb));
}
