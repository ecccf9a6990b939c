//! Reads the sources of a load, one after the other, into the sort.
//! Rows keep their order, even though a source is parsed in parallel.

use std::{io::Read, ops::Range, sync::Arc};

use futures::StreamExt;

use super::{
    csv_source::{CsvFile, CsvReader},
    in_order::in_order,
    json_source::{JsonFile, JsonReader, Lines},
    last_byte::LastByte,
    open::{raw_bytes, text_of},
    parquet_source::{ParquetReading, conform, parquet_batches},
    parsed_rows::ParsedRows,
    source_columns::SourceColumns,
    tokens::Block,
};
use crate::{
    error::{Error, Result},
    ingest::{
        load::Ingest, names::ColumnNameMap, options::Format, queue::BatchSink, rejects::Rejects, row_check::RowCheck,
        sources::SourceFile, target::Target,
    },
};

/// Reads the sources of a load.
pub(crate) struct Reader<C> {
    pub(crate) ingest: Ingest,
    pub(crate) sources: Vec<SourceFile>,
    /// The columns of each source.
    pub(crate) columns: Arc<Vec<SourceColumns>>,
    pub(crate) names: ColumnNameMap,
    pub(crate) target: Target,
    pub(crate) rejects: Arc<Rejects>,
    pub(crate) checker: Arc<C>,
    pub(crate) batch_rows: usize,
    /// The number of threads that parse one source.
    pub(crate) tasks: usize,
}

/// The approximate bytes of a batch's values, without texts.
const BATCH_BYTES: usize = 16 << 20;
/// The approximate bytes of a value.
const VALUE_BYTES: usize = 8;

impl<C: RowCheck> Reader<C> {
    /// Reads all sources in their order.
    pub(crate) async fn read_all(self, sink: BatchSink) -> Result<()> {
        let this = Arc::new(self);
        for index in 0..this.sources.len() {
            let source = &this.sources[index];
            let (done, read) = match source.format {
                Format::Parquet => (this.read_parquet(index, source, &sink).await, None),
                Format::Csv | Format::JsonLines => {
                    let (bytes, digest) = raw_bytes(source).await?;
                    let (task, sink) = (this.clone(), sink.clone());
                    let done = tokio::task::spawn_blocking(move || task.read_text(index, bytes, &sink)).await;
                    (done.map_err(|e| Error::lost_task(&format!("reading `{}`", source.shown()), e))?, digest.of_all())
                }
            };
            // A file that is being written can fail in any way. If it has changed, that is the error.
            source.check_unchanged(read).await?;
            done?;
        }
        Ok(())
    }

    /// The rows of a batch. Batches of wide tables have fewer rows, so that they are not larger.
    fn rows_at_once(&self) -> usize {
        (BATCH_BYTES / (VALUE_BYTES * self.target.sorted.fields().len())).max(1)
    }

    fn weight(&self, rows: usize) -> usize {
        rows * VALUE_BYTES * self.target.sorted.fields().len()
    }

    fn read_text(&self, index: usize, bytes: Box<dyn Read + Send>, sink: &BatchSink) -> Result<()> {
        let source = &self.sources[index];
        let shown = source.shown();
        let last_byte = LastByte::default();
        let text = last_byte.watch(text_of(source, bytes)?);
        let ended = |done: Result<()>| {
            done?;
            self.checker.text_ended(index, last_byte.lacks_newline());
            Ok(())
        };
        let check = |rows: ParsedRows| {
            let ParsedRows { lines, columns, rejects } = rows;
            Ok((rejects, self.checker.check(index, lines, columns)?))
        };
        let take = |(rejects, checked): (Vec<_>, _)| {
            for reject in rejects {
                self.rejects.add(&shown, &reject)?;
            }
            let rows = self.checker.count(checked)?;
            Ok(rows.num_rows() == 0 || sink.send_blocking(rows))
        };
        let at_once = self.rows_at_once();
        if source.format == Format::JsonLines {
            let mut file = JsonFile::open(source, text, self.ingest.limits);
            let reader = JsonReader::new(&self.ingest, &self.names, &self.target);
            let weighed = |lines: Lines| {
                let weight = self.weight(lines.len()) + lines.size();
                (lines, weight)
            };
            let next = || Ok(file.next(at_once)?.map(weighed));
            return ended(in_order(self.tasks, next, |lines| check(reader.read(&lines)?), take));
        }
        let mut file = CsvFile::open(&self.ingest, source, text)?;
        let columns = &self.columns[index];
        if file.found != columns.found {
            let reason = "its header has changed since the load began; load it again once it is complete".into();
            return Err(Error::UnreadableFile { path: shown, reason });
        }
        let reader = CsvReader::new(&self.ingest, columns, &self.target);
        // A small block may have many rows. It is parsed in parts.
        let mut block = Arc::default();
        let mut parts = 0..0;
        let next = || {
            let part = match parts.next() {
                Some(part) => part,
                None => {
                    let Some(read) = file.next(usize::MAX)? else { return Ok(None) };
                    parts = 0..read.rows.len().div_ceil(at_once);
                    block = Arc::new(read);
                    parts.next().unwrap_or_default()
                }
            };
            let rows = part * at_once..block.rows.len().min((part + 1) * at_once);
            let weight = self.weight(rows.len()) + block.size() / parts.len().max(1);
            Ok(Some(((block.clone(), rows), weight)))
        };
        let parse =
            |(block, rows): (Arc<Block>, Range<usize>)| check(reader.read(&block, block.rows.get(rows).unwrap_or_default())?);
        ended(in_order(self.tasks, next, parse, take))
    }

    fn reading<'a>(&'a self, source: &'a SourceFile) -> ParquetReading<'a> {
        let Self { ingest, target, rejects, .. } = self;
        ParquetReading { ingest, source, target, rejects }
    }

    async fn read_parquet(&self, index: usize, source: &SourceFile, sink: &BatchSink) -> Result<()> {
        let columns = &self.columns[index];
        let mut batches = parquet_batches(source, columns, self.batch_rows.min(self.rows_at_once())).await?;
        let mut row = 0;
        while let Some(rows) = batches.next().await.transpose()? {
            let (numbers, conformed) = conform(&self.reading(source), columns, row, &rows)?;
            row += rows.len() as u64;
            let checked = self.checker.check(index, numbers, conformed)?;
            if !sink.send(self.checker.count(checked)?).await {
                break;
            }
        }
        Ok(())
    }
}
