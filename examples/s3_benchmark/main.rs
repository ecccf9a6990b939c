//! Measures reading many Parquet files from S3 and from a local folder, download and decoding separately, in Gb/s, and compares it
//! with the bare client. By default it starts an S3 server in a process of its own and generates the files:
//!
//! ```text
//! cargo run --release --example s3_benchmark -- --files 64 --file-mb 16 --workers 32
//! cargo run --release --example s3_benchmark -- --url s3://bucket/prefix        # reads existing files; nothing is written
//! cargo run --release --example s3_benchmark -- --cache                         # queries, first and again, with a disk cache
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures durations")]

#[path = "../../tests/it/s3_server.rs"]
mod s3_server;
mod scans;

use std::{
    error::Error,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::Instant,
};

use asof::storage::{BulkReader, DiskCache, Location, Locations, ObjectMeta, ReadSettings};
use bytes::Bytes;
use clap::Parser;
use datafusion::{
    arrow::array::{ArrayRef, Float64Array, RecordBatch, TimestampMicrosecondArray},
    parquet::{
        arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
        basic::Compression,
        file::properties::WriterProperties,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectStore, ObjectStoreExt, aws::AmazonS3Builder};
use rand::{Rng, SeedableRng, rngs::StdRng};
use s3_server::S3Server;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const BUCKET: &str = "bench";
const PREFIX: &str = "trips";
/// The least ratio of a bulk read to a bare loop of parallel GETs, and the most overhead of a call besides its request.
const LEAST_RATIO: f64 = 0.8;
const MOST_FIXED_MS: f64 = 5.0;
const SMALL_CALLS: usize = 40;

#[derive(Parser)]
#[command(about = "Measures bulk reads from S3 and from a local folder")]
struct Options {
    /// The number of Parquet files to generate.
    #[arg(long, default_value_t = 12)]
    files: usize,
    /// The size of each file, in 10^6 bytes.
    #[arg(long, default_value_t = 2.0)]
    file_mb: f64,
    /// Requests in flight, and files decoded at once.
    #[arg(long, default_value_t = 16)]
    workers: usize,
    /// The size of the ranges in which large files are read, in 2^20 bytes.
    #[arg(long, default_value_t = 8)]
    range_mib: u64,
    /// How often each way is measured; the best run counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The seed of the files.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// A prefix on S3 with Parquet files, instead of a server of its own. Credentials come from the environment.
    #[arg(long)]
    url: Option<String>,
    /// Measure queries over the files as a registered table too: without a disk cache, with an empty one, and again.
    #[arg(long)]
    cache: bool,
    /// The time column of the files, for the queries.
    #[arg(long, default_value = "pickup_at")]
    event_time: String,
    /// Fail when the bulk read is below the least ratio, or a call has more than the most overhead.
    #[arg(long)]
    check: bool,
    /// Run as the server. The program starts itself with this flag.
    #[arg(long, hide = true)]
    serve: bool,
}

/// The measurements of one way to read.
struct Measured {
    what: String,
    seconds: f64,
    bytes: u64,
}

impl Measured {
    fn gigabits(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e9 / self.seconds
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let options = Options::parse();
    if options.serve {
        return serve().await;
    }
    let work = tempfile::tempdir()?;
    let server = match &options.url {
        None => Some(Server::start()?),
        Some(_) => None,
    };
    let locations = server.as_ref().map(Server::locations).unwrap_or_default();
    let url = options.url.clone().unwrap_or_else(|| format!("s3://{BUCKET}/{PREFIX}"));
    let place = locations.open(&url)?;
    let bare = match &server {
        Some(server) => {
            make(&options, &place, work.path()).await?;
            server.bare()?
        }
        None => {
            let bucket = url.trim_start_matches("s3://").split('/').next().unwrap_or_default();
            Arc::new(AmazonS3Builder::from_env().with_bucket_name(bucket).with_allow_http(true).build()?)
        }
    };
    measure(&options, &place, bare, work.path()).await?;
    if options.cache {
        println!();
        show(&scans::scans(&locations, &url, &options.event_time, options.rounds, work.path()).await?);
    }
    Ok(())
}

fn show(ways: &[Measured]) {
    println!("{:<36} {:>10} {:>14} {:>9}", "", "seconds", "bytes", "Gb/s");
    for way in ways {
        println!("{:<36} {:>10.4} {:>14} {:>9.3}", way.what, way.seconds, way.bytes, way.gigabits());
    }
}

async fn measure(options: &Options, place: &Location, bare: Arc<dyn ObjectStore>, work: &Path) -> Result<()> {
    let settings =
        ReadSettings { requests_in_flight: options.workers, range_bytes: options.range_mib << 20, ..ReadSettings::default() };
    let objects: Vec<ObjectMeta> =
        place.list().await?.into_iter().filter(|object| object.location.as_ref().ends_with(".parquet")).collect();
    let smallest = objects.iter().min_by_key(|object| object.size).ok_or("there are no Parquet files")?.clone();
    let total: u64 = objects.iter().map(|object| object.size).sum();
    println!(
        "{} files, {:.1} MB, {} workers, best of {} rounds\n",
        objects.len(),
        total as f64 / 1e6,
        options.workers,
        options.rounds
    );

    let reader = BulkReader::new(place).settings(settings.clone());
    let (mut ways, mut rows) = (Vec::new(), Vec::new());
    let local = work.join("local");
    let cache = DiskCache::open(work.join("cache"), 2 * total + (64 << 20))?;
    let mut keep = |measured: Measured| match ways.iter_mut().find(|known: &&mut Measured| known.what == measured.what) {
        Some(known) if known.seconds > measured.seconds => *known = measured,
        Some(_) => {}
        None => ways.push(measured),
    };
    for round in 0..options.rounds.max(1) {
        // The two that are compared run in alternating order, so that neither is always first.
        for turn in 0..2 {
            match (round + turn) % 2 {
                0 => keep(timed("S3: bare loop of GETs", bare_loop(bare.clone(), &objects, options.workers)).await?),
                _ => keep(timed("S3: bulk read", read(&reader, &objects)).await?),
            }
        }
        keep(timed("S3: read by way of the disk cache", read(&reader.clone().cache(cache.clone()), &objects)).await?);
        let folder = work.join(format!("download-{round}"));
        keep(
            timed("S3: download to a folder", async { Ok(reader.download_to(objects.clone(), folder).await?.statistics.bytes) })
                .await?,
        );
        keep(timed("S3: read and decode", decode(&reader, &objects, options.workers, &mut rows)).await?);
        reader.download_to(objects.clone(), &local).await?;
        let here = Locations::default().open(&local.to_string_lossy())?;
        let files: Vec<ObjectMeta> =
            here.list().await?.into_iter().filter(|object| object.location.as_ref().ends_with(".parquet")).collect();
        let from_disk = BulkReader::new(&here).settings(settings.clone());
        keep(timed("folder: bulk read", read(&from_disk, &files)).await?);
        keep(timed("folder: read and decode", decode(&from_disk, &files, options.workers, &mut rows)).await?);
    }
    if rows.iter().any(|count| *count != rows[0]) {
        return Err(format!("the sides do not hold the same rows: {rows:?}").into());
    }
    show(&ways);
    let rate = |what: &str| ways.iter().find(|way| way.what == what).map_or(f64::NAN, Measured::gigabits);
    let ratio = rate("S3: bulk read") / rate("S3: bare loop of GETs");
    let fixed_ms = fixed_cost_ms(&reader, &*bare, &smallest, place).await?;
    println!("\nbulk read to bare loop: {:.0} % (at least {:.0} %)", ratio * 100.0, LEAST_RATIO * 100.0);
    println!("fixed cost of a call:   {fixed_ms:.3} ms (at most {MOST_FIXED_MS} ms)");
    if options.check && (ratio < LEAST_RATIO || fixed_ms > MOST_FIXED_MS) {
        return Err("the bulk read is slower than it may be".into());
    }
    Ok(())
}

async fn timed(what: &str, work: impl Future<Output = Result<u64>>) -> Result<Measured> {
    let start = Instant::now();
    let bytes = work.await?;
    Ok(Measured { what: what.to_owned(), seconds: start.elapsed().as_secs_f64(), bytes })
}

async fn read(reader: &BulkReader, objects: &[ObjectMeta]) -> Result<u64> {
    let mut read = reader.get_many(objects.iter().cloned());
    let mut bytes = 0;
    while let Some((_, content)) = read.try_next().await? {
        bytes += content.len() as u64;
    }
    Ok(bytes)
}

/// The bare client: whole objects, as many at once as there are workers.
async fn bare_loop(store: Arc<dyn ObjectStore>, objects: &[ObjectMeta], workers: usize) -> Result<u64> {
    let gets = stream::iter(objects.iter().cloned()).map(|object| {
        let store = store.clone();
        async move { Ok::<_, object_store::Error>(store.get(&object.location).await?.bytes().await?.len() as u64) }
    });
    Ok(gets.buffer_unordered(workers.max(1)).try_fold(0, |sum, bytes| async move { Ok(sum + bytes) }).await?)
}

/// Reads and decodes all columns of all rows, as they arrive.
async fn decode(reader: &BulkReader, objects: &[ObjectMeta], workers: usize, rows: &mut Vec<usize>) -> Result<u64> {
    let read = reader.get_many_unordered(objects.iter().cloned());
    let decoded = read.map_err(Into::into).map_ok(|(object, bytes)| async move {
        let count = tokio::task::spawn_blocking(move || row_count(bytes)).await??;
        Result::Ok((object.size, count))
    });
    let decoded: Vec<(u64, usize)> = decoded.try_buffer_unordered(workers.max(1)).try_collect().await?;
    rows.push(decoded.iter().map(|(_, rows)| rows).sum());
    Ok(decoded.iter().map(|(bytes, _)| bytes).sum())
}

fn row_count(bytes: Bytes) -> Result<usize> {
    let mut rows = 0;
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
        rows += batch?.num_rows();
    }
    Ok(rows)
}

/// The median time of a bulk read of one small object, minus that of a bare GET.
async fn fixed_cost_ms(reader: &BulkReader, bare: &dyn ObjectStore, smallest: &ObjectMeta, place: &Location) -> Result<f64> {
    let tiny = place.list().await?.into_iter().min_by_key(|object| object.size).unwrap_or_else(|| smallest.clone());
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..SMALL_CALLS {
        let start = Instant::now();
        read(reader, std::slice::from_ref(&tiny)).await?;
        with.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        bare.get(&tiny.location).await?.bytes().await?;
        without.push(start.elapsed().as_secs_f64());
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    Ok((median(&mut with) - median(&mut without)) * 1e3)
}

/// Generates files that compress as little as real trips, and one tiny object.
async fn make(options: &Options, place: &Location, work: &Path) -> Result<()> {
    let mut chance = StdRng::seed_from_u64(options.seed);
    // Four columns of eight bytes that hardly compress.
    let row_count = (options.file_mb * 1e6 / 32.0) as usize;
    for number in 0..options.files {
        let mut column = |_| Arc::new((0..row_count).map(|_| chance.random::<f64>()).collect::<Float64Array>()) as ArrayRef;
        let mut columns: Vec<(&str, ArrayRef)> = ["distance", "fare", "tip"].map(|name| (name, column(name))).into();
        let pickups = (0..row_count).map(|_| chance.random_range(0..2_678_400_000_000_i64));
        columns.push(("pickup_at", Arc::new(TimestampMicrosecondArray::from_iter_values(pickups).with_timezone("UTC"))));
        let rows = RecordBatch::try_from_iter(columns)?;
        let path: PathBuf = work.join("made.parquet");
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).set_dictionary_enabled(false).build();
        let mut writer = ArrowWriter::try_new(std::fs::File::create(&path)?, rows.schema(), Some(properties))?;
        writer.write(&rows)?;
        writer.close()?;
        place.upload(&format!("part-{number:05}.parquet"), std::fs::File::open(&path)?).await?;
    }
    let _ = place.put_if_absent("_tiny", "x".repeat(100)).await?;
    Ok(())
}

/// Starts this program again as a server, which ends with this process.
struct Server {
    process: Child,
    endpoint: String,
    key: String,
    secret: String,
}

impl Server {
    fn start() -> Result<Self> {
        let process =
            Command::new(std::env::current_exe()?).arg("--serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut server = Self { process, endpoint: String::new(), key: String::new(), secret: String::new() };
        let mut said = BufReader::new(server.process.stdout.take().ok_or("the server has no output")?).lines();
        let mut next = || said.next().ok_or("the server ended before it began")?.map_err(Box::<dyn Error + Send + Sync>::from);
        (server.endpoint, server.key, server.secret) = (next()?, next()?, next()?);
        Ok(server)
    }

    fn locations(&self) -> Locations {
        Locations::default()
            .option("aws_endpoint", &self.endpoint)
            .option("aws_access_key_id", &self.key)
            .option("aws_secret_access_key", &self.secret)
    }

    fn bare(&self) -> Result<Arc<dyn ObjectStore>> {
        let builder = AmazonS3Builder::new().with_endpoint(&self.endpoint).with_allow_http(true).with_bucket_name(BUCKET);
        Ok(Arc::new(builder.with_access_key_id(&self.key).with_secret_access_key(&self.secret).build()?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server ends when its input does, and then removes its files.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

async fn serve() -> Result<()> {
    let server = S3Server::start(BUCKET).await.map_err(|e| e.to_string())?;
    println!("{}\n{}\n{}", server.endpoint(), server.access_key(), server.secret_key());
    std::io::stdout().flush()?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}
