//! The rows of a finished job, fetched from the executors that hold them.

use ballista_core::{client::BallistaClient, error::BallistaError, serde::protobuf::PartitionLocation};
use datafusion::{
    arrow::datatypes::SchemaRef,
    error::{DataFusionError, Result},
    execution::SendableRecordBatchStream,
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout;

use crate::{
    Options,
    checked_rows::counted,
    held::{Budget, Held},
};

/// How many partitions are fetched at a time.
const AT_ONCE: usize = 4;

/// Rows that their executor no longer gives.
pub(crate) struct Lost {
    pub(crate) executor: String,
    pub(crate) reason: String,
}

/// All rows, partition after partition.
pub(crate) async fn fetched(
    locations: Vec<PartitionLocation>,
    schema: &SchemaRef,
    options: &Options,
) -> Result<std::result::Result<Vec<Held>, Lost>> {
    let budget = Budget::new(options.memory_bytes);
    let partitions = stream::iter(locations).map(|location| partition(location, schema, options, &budget)).buffered(AT_ONCE);
    let held: Vec<std::result::Result<Held, Lost>> = partitions.try_collect().await?;
    Ok(held.into_iter().collect())
}

async fn partition(
    location: PartitionLocation,
    schema: &SchemaRef,
    options: &Options,
    budget: &Budget,
) -> Result<std::result::Result<Held, Lost>> {
    let executor = location.executor_meta.as_ref().map_or_else(String::new, |e| format!("{} ({}:{})", e.id, e.host, e.port));
    let lost = |error: DataFusionError| Lost { executor: executor.clone(), reason: error.to_string() };
    match opened(&location, options).await {
        Err(error) => Ok(Err(lost(error))),
        Ok(rows) => {
            let written = location.partition_stats.as_ref().and_then(|stats| usize::try_from(stats.num_rows).ok());
            let place = location.partition_id.clone().unwrap_or_default();
            let rows = match written {
                Some(written) => counted(rows, written, place.stage_id as usize, place.partition_id as usize),
                None => rows.boxed(),
            };
            Ok(Held::all(rows, schema, budget, options.request_timeout).await?.map_err(lost))
        }
    }
}

async fn opened(location: &PartitionLocation, options: &Options) -> Result<SendableRecordBatchStream> {
    let missing = || DataFusionError::Internal("a location of rows without executor or partition".into());
    let executor = location.executor_meta.as_ref().ok_or_else(missing)?;
    let partition = location.partition_id.clone().ok_or_else(missing)?.into();
    let port = u16::try_from(executor.port).map_err(|_| missing())?;
    let attempts = 1;
    let connected = BallistaClient::try_new(&executor.host, port, options.max_message_bytes, false, None, attempts, 0, 0, 0);
    let slow = |_| DataFusionError::Execution(format!("no answer within {} s", options.connect_timeout.as_secs_f64()));
    let mut client = timeout(options.connect_timeout, connected).await.map_err(slow)?.map_err(BallistaError::into_datafusion)?;
    let opened = client.fetch_partition(&executor.id, &partition, location.file_id, location.layout(), false);
    let slow = |_| DataFusionError::Execution(format!("no rows within {} s", options.request_timeout.as_secs_f64()));
    timeout(options.request_timeout, opened).await.map_err(slow)?.map_err(BallistaError::into_datafusion)
}
