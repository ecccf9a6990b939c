//! Reads the files of a pinned table version as they were when the query began.
//! A file that changes or vanishes while a query runs is an error that names it.
//!
//! Each request carries the entity tag that the file had when it was checked against the catalog, and the store refuses to read
//! a file with another tag (`If-Match`). A store without entity tags is trusted. With a disk cache, ranges of that version that were
//! read before come from it; the check against the catalog always asks the store.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use datafusion::{
    common::Result as DfResult,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory},
    },
    physical_plan::metrics::ExecutionPlanMetricsSet,
};
use futures::{FutureExt, future::BoxFuture};
use parquet::{
    arrow::{arrow_reader::ArrowReaderOptions, async_reader::AsyncFileReader},
    errors::{ParquetError, Result as ParquetResult},
    file::metadata::ParquetMetaData,
};

use crate::{
    error::Error,
    storage::{DiskCache, Location, ObjectReader},
};

/// Makes readers of one table's files.
#[derive(Debug)]
pub(super) struct PinnedReaders {
    pub(super) table: String,
    pub(super) location: Location,
    pub(super) disk_cache: Option<DiskCache>,
}

impl ParquetFileReaderFactory for PinnedReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        _: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> DfResult<Box<dyn AsyncFileReader + Send>> {
        let object = file.object_meta;
        let metrics = ParquetFileMetrics::new(partition, object.location.as_ref(), metrics);
        let name: Arc<str> = self.location.child(&self.location.name_of(&object.location)).to_string().into();
        let inner = ObjectReader::new(&self.location, object).cached(&self.location, self.disk_cache.as_ref());
        Ok(Box::new(PinnedReader { inner, metrics, file: FileContext { table: self.table.as_str().into(), path: name } }))
    }
}

struct PinnedReader {
    inner: ObjectReader,
    metrics: ParquetFileMetrics,
    file: FileContext,
}

/// The file as errors name it.
#[derive(Clone)]
struct FileContext {
    table: Arc<str>,
    path: Arc<str>,
}

impl FileContext {
    /// Turns "not found" and "precondition failed" into [`Error::FileChanged`].
    fn check<T>(&self, outcome: ParquetResult<T>) -> ParquetResult<T> {
        let Err(ParquetError::External(cause)) = outcome else { return outcome };
        let change = match cause.downcast_ref::<object_store::Error>() {
            Some(object_store::Error::NotFound { .. }) => "has vanished",
            Some(object_store::Error::Precondition { .. }) => "has changed",
            _ => return Err(ParquetError::External(cause)),
        };
        let (table, path) = (self.table.to_string(), self.path.to_string());
        Err(ParquetError::External(Box::new(Error::FileChanged { table, path, change: change.into() })))
    }
}

impl AsyncFileReader for PinnedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.metrics.bytes_scanned.add(usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
        let file = self.file.clone();
        self.inner.get_bytes(range).map(move |read| file.check(read)).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        let total: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        self.metrics.bytes_scanned.add(usize::try_from(total).unwrap_or(usize::MAX));
        let file = self.file.clone();
        self.inner.get_byte_ranges(ranges).map(move |read| file.check(read)).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let file = self.file.clone();
        self.inner.get_metadata(options).map(move |read| file.check(read)).boxed()
    }
}
