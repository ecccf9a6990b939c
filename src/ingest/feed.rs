//! The sources of a load, read one after the other: each row past the inspector and into the sort.
//! It holds one batch, and knows no format beyond which reader to call.

use std::sync::Arc;

use arrow::array::ArrayRef;
use futures::StreamExt;

use super::{
    Ingest,
    columns::Target,
    csv_source::{csv_reader, read_csv},
    inspect::Inspector,
    parquet_source::{conform, parquet_batches},
    rejects::Rejects,
    sort::Sink,
    sources::{Source, SourceFormat},
};
use crate::error::{Error, Result};

/// What reads a load.
pub(crate) struct Feed {
    pub(crate) ingest: Ingest,
    pub(crate) sources: Vec<Source>,
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
                SourceFormat::Parquet => this.read_parquet(index, source, &sink).await?,
                SourceFormat::Csv => {
                    let bytes = csv_reader(source).await?;
                    let (task, sink) = (this.clone(), sink.clone());
                    let done = tokio::task::spawn_blocking(move || task.read_csv(index, bytes, &sink)).await;
                    done.map_err(|e| Error::Io { path: source.shown().into(), source: e.into() })??;
                }
            }
        }
        Ok(())
    }

    fn read_csv(&self, index: usize, bytes: Box<dyn std::io::Read + Send>, sink: &Sink) -> Result<()> {
        let emit = |lines: &[u64], columns: Vec<ArrayRef>| {
            Ok(sink.send_blocking(self.inspector.pass(&self.target, index, lines.to_vec(), columns)?))
        };
        read_csv(&self.ingest, &self.sources[index], bytes, &self.target, &self.rejects, self.batch_rows, emit)
    }

    async fn read_parquet(&self, index: usize, source: &Source, sink: &Sink) -> Result<()> {
        let mut batches = parquet_batches(source, self.batch_rows).await?;
        let mut row = 0;
        while let Some(batch) = batches.next().await.transpose()? {
            let (rows, columns) = conform(&self.ingest, source, &self.target, &self.rejects, row, &batch)?;
            row += batch.num_rows() as u64;
            if !sink.send(self.inspector.pass(&self.target, index, rows, columns)?).await {
                break;
            }
        }
        Ok(())
    }
}
