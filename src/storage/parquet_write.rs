//! Writes Parquet files: to this machine's disk first, hashed while they are written, with columns encoded in parallel.

use std::{
    fs::File,
    io::{BufWriter, Write},
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use parquet::{
    arrow::{
        ArrowWriter,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
        arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowLeafColumn, ArrowRowGroupWriterFactory, compute_leaves},
    },
    errors::Result as ParquetResult,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
};
use tempfile::NamedTempFile;

use super::{FileIdentity, Location, scratch_file};
use crate::{
    error::{Error, Result},
    name::ContentId,
};

/// A Parquet file that is being written to this machine's disk.
///
/// Its hash is known before it is uploaded, so its name in the store can contain the hash: one name never has two contents.
pub(crate) struct ParquetFile {
    file: NamedTempFile,
    schema: SchemaRef,
    writer: SerializedFileWriter<Hashing>,
    columns: ArrowRowGroupWriterFactory,
    /// The row group that is being written, and how many rows it has.
    group: Option<(Vec<ArrowColumnWriter>, usize)>,
    group_rows: usize,
    threads: usize,
}

/// A complete Parquet file that is not published yet.
pub(crate) struct FinishedParquet {
    file: NamedTempFile,
    pub(crate) hash: ContentId,
    pub(crate) footer: ArrowReaderMetadata,
}

/// With fewer values, starting threads takes longer than it saves.
const PARALLEL_VALUES: usize = 1 << 14;

impl ParquetFile {
    pub(crate) fn create(schema: SchemaRef, properties: WriterProperties) -> Result<Self> {
        let file = scratch_file("asof-write-").map_err(Error::temporary_file)?;
        let sink = BufWriter::with_capacity(1 << 20, file.reopen().map_err(Error::temporary_file)?);
        let group_rows = properties.max_row_group_row_count().unwrap_or(usize::MAX).max(1);
        // This adds the Arrow schema to the file's metadata.
        let writer = ArrowWriter::try_new(Hashing { sink, hasher: blake3::Hasher::new() }, schema.clone(), Some(properties))?;
        let (writer, columns) = writer.into_serialized_writer()?;
        Ok(Self { file, schema, writer, columns, group: None, group_rows, threads: 1 })
    }

    /// Encodes columns in this many threads. The file is the same for any number.
    pub(crate) fn threads(mut self, count: usize) -> Self {
        self.threads = count.max(1);
        self
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut start = 0;
        while start < batch.num_rows() {
            let (mut writers, rows) = match self.group.take() {
                Some(group) => group,
                None => (self.columns.create_column_writers(self.writer.flushed_row_groups().len())?, 0),
            };
            let count = (self.group_rows - rows).min(batch.num_rows() - start);
            self.encode(&mut writers, &batch.slice(start, count))?;
            self.group = Some((writers, rows + count));
            if rows + count == self.group_rows {
                self.close_group()?;
            }
            start += count;
        }
        Ok(())
    }

    fn encode(&self, writers: &mut [ArrowColumnWriter], rows: &RecordBatch) -> Result<()> {
        let mut leaves: Vec<ArrowLeafColumn> = Vec::with_capacity(writers.len());
        for (field, column) in self.schema.fields().iter().zip(rows.columns()) {
            leaves.extend(compute_leaves(field, column)?);
        }
        let jobs = writers.iter_mut().zip(&leaves);
        let threads = if leaves.len() * rows.num_rows() < PARALLEL_VALUES { 1 } else { self.threads };
        in_parallel(threads, jobs, |(writer, leaf)| writer.write(leaf))?;
        Ok(())
    }

    fn close_group(&mut self) -> Result<()> {
        let Some((writers, rows)) = self.group.take() else { return Ok(()) };
        let threads = if writers.len() * rows < PARALLEL_VALUES { 1 } else { self.threads };
        let chunks: Vec<ArrowColumnChunk> = in_parallel(threads, writers.into_iter(), ArrowColumnWriter::close)?;
        let mut group = self.writer.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
    }

    /// The bytes so far: those written, and an estimate for those in memory.
    pub(crate) fn size(&self) -> usize {
        let of_group = |(writers, _): &(Vec<ArrowColumnWriter>, usize)| {
            writers.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum::<usize>()
        };
        self.writer.bytes_written() + self.group.as_ref().map_or(0, of_group)
    }

    pub(crate) fn finish(mut self) -> Result<FinishedParquet> {
        self.close_group()?;
        let footer = self.writer.finish()?;
        let written = self.writer.inner_mut();
        written.sink.flush().map_err(Error::temporary_file)?;
        let hash = ContentId::from_hash(written.hasher.finalize());
        let footer = ArrowReaderMetadata::try_new(Arc::new(footer), ArrowReaderOptions::default())?;
        Ok(FinishedParquet { file: self.file, hash, footer })
    }
}

/// The results of `work` for each job, in the order of the jobs.
fn in_parallel<J: Send, D: Send>(
    threads: usize,
    jobs: impl Iterator<Item = J> + Send,
    work: impl Fn(J) -> ParquetResult<D> + Sync,
) -> ParquetResult<Vec<D>> {
    if threads <= 1 {
        return jobs.map(work).collect();
    }
    let jobs = Mutex::new(jobs.enumerate());
    let done = Mutex::new(Vec::new());
    let worker = || {
        loop {
            let Some((at, job)) = jobs.lock().unwrap_or_else(PoisonError::into_inner).next() else { break };
            let result = work(job);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(worker);
        }
        worker();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

impl FinishedParquet {
    /// Its path on this machine, until it is dropped.
    pub(crate) fn path(&self) -> &std::path::Path {
        self.file.path()
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> Result<u64> {
        Ok(self.file.as_file().metadata().map_err(Error::temporary_file)?.len())
    }

    /// Its rows, as they are read back from this machine's disk.
    pub(crate) fn batches(&self) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        let file = self.file.reopen().map_err(Error::temporary_file)?;
        let rows = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.footer.clone()).build()?;
        Ok(rows.map(|batch| Ok(batch?)))
    }

    pub(crate) fn rows(&self) -> u64 {
        u64::try_from(self.footer.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Publishes the file under this name, which must contain its hash. It appears whole, and is durable when this returns.
    pub(crate) async fn publish(self, place: &Location, name: &str) -> Result<FileIdentity> {
        let file = self.file.reopen().map_err(Error::temporary_file)?;
        // A file that is there already is written again: it may be left from a crash, and the garbage collector would remove it
        // by its age before the version that refers to it is published.
        place.upload(name, file).await?;
        let meta = place.head(name).await?.ok_or_else(|| Error::Corrupt {
            path: place.child(name).to_string(),
            reason: "it vanished right after it was written; is another process cleaning the root?".into(),
        })?;
        let e_tag = place.tag(&meta).await?;
        Ok(FileIdentity { size: meta.size, e_tag, hash: Some(self.hash) })
    }
}

struct Hashing {
    sink: BufWriter<File>,
    hasher: blake3::Hasher,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.sink.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{ArrayRef, Int64Array, ListArray, StringArray},
        datatypes::Int64Type,
    };

    use super::*;

    #[test]
    fn threads_change_no_byte() {
        let numbers = |rows: i64| Int64Array::from_iter_values((0..rows).map(|row| row * 7_919 % 1_000));
        let texts = |rows: i64| StringArray::from_iter_values((0..rows).map(|row| format!("text {}", row % 77)));
        let list = |row: i64| Some((0..row % 3).map(Some).collect::<Vec<_>>());
        let lists = |rows: i64| ListArray::from_iter_primitive::<Int64Type, _, _>((0..rows).map(list));
        let batch = |rows: i64| {
            let columns: [(&str, ArrayRef); 3] =
                [("n", Arc::new(numbers(rows))), ("text", Arc::new(texts(rows))), ("list", Arc::new(lists(rows)))];
            RecordBatch::try_from_iter(columns).unwrap()
        };
        let written = |threads: usize| {
            let properties = WriterProperties::builder().set_max_row_group_row_count(Some(10_000)).build();
            let mut file = ParquetFile::create(batch(1).schema(), properties).unwrap().threads(threads);
            for rows in [9_000, 1, 25_000, 30] {
                file.write(&batch(rows)).unwrap();
            }
            assert!(file.size() > 0);
            file.finish().unwrap()
        };
        let one = written(1);
        assert_eq!((one.rows(), one.footer.metadata().num_row_groups()), (34_031, 4));
        for threads in [2, 5] {
            assert_eq!(written(threads).hash, one.hash);
        }
    }
}
