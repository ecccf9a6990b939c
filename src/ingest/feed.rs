//! The sources of a load, read one after the other: each row past the inspector and into the sort.
//! It holds one batch, and knows no format beyond which reader to call.

use std::sync::Arc;

use arrow::array::ArrayRef;
use futures::StreamExt;

use super::{
    Format, Ingest,
    columns::{Reading, Target},
    csv_source::read_csv,
    infer::Plan,
    inspect::Inspector,
    json_source::read_json,
    open::{raw_bytes, text_of},
    parquet_source::{conform, parquet_batches},
    rejects::Rejects,
    sort::Sink,
    sources::Source,
};
use crate::error::{Error, Result};

/// What reads a load.
pub(crate) struct Feed {
    pub(crate) ingest: Ingest,
    pub(crate) sources: Vec<Source>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) target: Target,
    pub(crate) rejects: Arc<Rejects>,
    pub(crate) inspector: Arc<Inspector>,
    pub(crate) batch_rows: usize,
}

impl Feed {
    /// Reads all sources in their order.
    pub(crate) async fn read_all(self, sink: Sink) -> Result<()> {
        let this = Arc::new(self);
        for index in 0..this.sources.len() {
            let source = &this.sources[index];
            match source.format {
                Format::Parquet => this.read_parquet(index, source, &sink).await?,
                Format::Csv | Format::JsonLines => {
                    let bytes = raw_bytes(source).await?;
                    let (task, sink) = (this.clone(), sink.clone());
                    let done = tokio::task::spawn_blocking(move || task.read_text(index, bytes, &sink)).await;
                    done.map_err(|e| Error::Io { path: source.shown().into(), source: e.into() })??;
                }
            }
        }
        Ok(())
    }

    fn read_text(&self, index: usize, bytes: Box<dyn std::io::Read + Send>, sink: &Sink) -> Result<()> {
        let emit = |lines: &[u64], columns: Vec<ArrayRef>| {
            Ok(sink.send_blocking(self.inspector.pass(&self.target, index, lines.to_vec(), columns)?))
        };
        let source = &self.sources[index];
        let reading = self.reading(source);
        let text = text_of(source, bytes)?;
        match source.format {
            Format::JsonLines => read_json(&reading, &self.plan.names, text, emit),
            _ => read_csv(&reading, &self.plan.columns[index], text, emit),
        }
    }

    fn reading<'a>(&'a self, source: &'a Source) -> Reading<'a> {
        let Self { ingest, target, rejects, batch_rows, .. } = self;
        Reading { ingest, source, target, rejects, batch_rows: *batch_rows }
    }

    async fn read_parquet(&self, index: usize, source: &Source, sink: &Sink) -> Result<()> {
        let columns = &self.plan.columns[index];
        let mut batches = parquet_batches(source, columns, self.batch_rows).await?;
        let mut row = 0;
        while let Some(rows) = batches.next().await.transpose()? {
            let (numbers, conformed) = conform(&self.reading(source), columns, row, &rows)?;
            row += rows.len() as u64;
            if !sink.send(self.inspector.pass(&self.target, index, numbers, conformed)?).await {
                break;
            }
        }
        Ok(())
    }
}
