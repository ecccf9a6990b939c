//! Rows of a finished job that have arrived: in memory within a budget, beyond it in files.
//! All are held before the first is given out, so that a lost executor costs another run and never rows.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Seek},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::SchemaRef,
        ipc::{reader::StreamReader, writer::StreamWriter},
    },
    error::{DataFusionError, Result},
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::time::timeout;

/// The memory that the rows of one job may take.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: Arc<AtomicUsize>,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: Arc::default() }
    }

    fn takes(&self, bytes: usize) -> bool {
        let take = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// The rows of one partition.
pub(crate) enum Held {
    Memory(Vec<RecordBatch>),
    File(Reader),
}

type Writer = StreamWriter<BufWriter<File>>;
type Reader = StreamReader<BufReader<File>>;

impl Held {
    /// Takes all rows of a stream, which may be silent for this long. `Err` in the outer result is an error of this machine; in the inner one, of the stream.
    pub(crate) async fn all(
        mut rows: impl Stream<Item = Result<RecordBatch>> + Unpin,
        schema: &SchemaRef,
        budget: &Budget,
        wait: Duration,
    ) -> Result<std::result::Result<Self, DataFusionError>> {
        let (mut batches, mut file): (Vec<RecordBatch>, Option<Writer>) = (Vec::new(), None);
        loop {
            let Ok(next) = timeout(wait, rows.next()).await else {
                return Ok(Err(DataFusionError::Execution(format!("no rows for {} s", wait.as_secs_f64()))));
            };
            let Some(batch) = next else { break };
            let batch = match batch {
                Ok(batch) => as_planned(&batch, schema)?,
                Err(error) => return Ok(Err(error)),
            };
            let writer = match file.take() {
                Some(writer) => writer,
                None if budget.takes(batch.get_array_memory_size()) => {
                    batches.push(batch);
                    continue;
                }
                None => StreamWriter::try_new(BufWriter::new(tempfile::tempfile()?), schema)?,
            };
            file = Some(written(writer, std::mem::take(&mut batches), batch).await?);
        }
        match file {
            None => Ok(Ok(Self::Memory(batches))),
            Some(writer) => Ok(Ok(Self::File(blocking(|| read_back(writer)).await?))),
        }
    }

    /// The rows, in their order.
    pub(crate) fn rows(self) -> stream::BoxStream<'static, Result<RecordBatch>> {
        match self {
            Self::Memory(batches) => stream::iter(batches.into_iter().map(Ok)).boxed(),
            Self::File(reader) => stream::try_unfold(reader, |mut reader| async move {
                let (batch, reader) = blocking(|| Ok((reader.next().transpose()?, reader))).await?;
                Ok(batch.map(|batch| (batch, reader)))
            })
            .into_stream()
            .boxed(),
        }
    }
}

/// The file begins with the rows that were in memory. Their share of the budget stays taken: it is small, and others are on the disk then.
async fn written(mut writer: Writer, held: Vec<RecordBatch>, batch: RecordBatch) -> Result<Writer> {
    blocking(move || {
        for batch in held.iter().chain([&batch]) {
            writer.write(batch)?;
        }
        Ok(writer)
    })
    .await
}

fn read_back(mut writer: Writer) -> Result<Reader> {
    writer.finish()?;
    let mut file = writer.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(StreamReader::try_new(BufReader::new(file), None)?)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| DataFusionError::External(Box::new(error)))?
}

/// The batch with the schema of the plan, whose metadata do not travel.
fn as_planned(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)?)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::{
        array::{ArrayRef, Int64Array},
        datatypes::{DataType, Field, Schema},
    };

    use super::*;

    #[tokio::test]
    async fn rows_beyond_the_budget_come_back_from_a_file_in_their_order() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let batch = |from: i64| {
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + 100));
            RecordBatch::try_new(schema.clone(), vec![numbers])
        };
        let all: std::result::Result<Vec<_>, _> = (0..10).map(|n| batch(n * 100)).collect();
        let Ok(all) = all else { unreachable!() };
        for limit in [0, 2_000, 1 << 20] {
            let rows = stream::iter(all.clone().into_iter().map(Ok));
            let held = Held::all(rows, &schema, &Budget::new(limit), Duration::from_secs(5))
                .await
                .ok()
                .and_then(std::result::Result::ok);
            let Some(held) = held else { unreachable!("{limit}") };
            assert_eq!(matches!(held, Held::Memory(_)), limit == 1 << 20);
            assert_eq!(held.rows().try_collect::<Vec<_>>().await.ok().as_ref(), Some(&all), "{limit}");
        }
    }
}
