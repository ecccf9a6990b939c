//! Sorts rows into the order of a table's files: month, event time, position. `sorter` does the work in a thread of its own.

use datafusion::execution::SendableRecordBatchStream;

use super::{runs::SortColumns, sorter::Sorter};
use crate::{
    engine::Engine,
    error::{Error, Result},
    ingest::{
        queue::{BatchSink, filled_by, queue, stream},
        target::Target,
    },
};

/// The approximate bytes that wait between the sort and the consumer of its rows.
const SORTED_BYTES: usize = 4 << 20;

/// The rows that `read` sends, sorted by year, month, event time and position. The position makes the order unique, so that a rerun
/// writes the same bytes.
///
/// The first row is returned only after the last one was read.
pub(crate) async fn sorted<F>(
    engine: &Engine,
    target: &Target,
    event_column: &str,
    read: impl FnOnce(BatchSink) -> F,
) -> Result<SendableRecordBatchStream>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let sort_columns = SortColumns::new(target, event_column, engine.batch_rows())?;
    let mut sorter = Sorter::new(sort_columns, engine.spilling("the sort of a load"));
    let mut unsorted = filled_by(read);
    let (sink, rows) = queue(SORTED_BYTES);
    let sort = move || {
        let sort = || {
            while let Some(batch) = unsorted.next_blocking()? {
                sorter.add(batch)?;
                if sink.is_closed() {
                    return Ok(());
                }
            }
            sorter.finish(|rows| Ok(sink.send_blocking(rows)))
        };
        sink.end(sort());
    };
    let thread = std::thread::Builder::new().name("asof-sort".into()).spawn(sort);
    thread.map_err(|cause| Error::System { subject: "a thread for the sort".into(), cause })?;
    Ok(stream(target.sorted.clone(), Some(rows)))
}
