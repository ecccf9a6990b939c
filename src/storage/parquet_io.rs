//! Parquet over an object store: reading by ranges, writing as a stream that is hashed on its way.
//! It decides nothing about schemas, rows or names.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, buffered::BufWriter};
use parquet::{
    arrow::{
        AsyncArrowWriter,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
        async_reader::AsyncFileReader,
        async_writer::AsyncFileWriter,
    },
    errors::{ParquetError, Result as ParquetResult},
    file::{
        metadata::{ParquetMetaData, ParquetMetaDataReader},
        properties::WriterProperties,
    },
};
use tokio::io::AsyncWriteExt;

use super::{FileIdentity, Location};
use crate::error::{Error, Result};

/// Reads ranges of one object for the Parquet decoder.
#[derive(Debug, Clone)]
pub(crate) struct ObjectReader {
    store: Arc<dyn ObjectStore>,
    object: ObjectMeta,
}

impl ObjectReader {
    pub(crate) fn new(place: &Location, object: ObjectMeta) -> Self {
        Self { store: place.store().clone(), object }
    }
}

fn external(cause: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(cause))
}

impl AsyncFileReader for ObjectReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { self.store.get_range(&self.object.location, range).await.map_err(external) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move { self.store.get_ranges(&self.object.location, &ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let size = self.object.size;
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}

/// The footer of a Parquet file.
///
/// # Errors
/// [`Error::UnreadableFile`] when there is none, and the store's error when it does not answer.
pub(crate) async fn read_footer(place: &Location, object: &ObjectMeta) -> Result<ArrowReaderMetadata> {
    let mut reader = ObjectReader::new(place, object.clone());
    ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::default()).await.map_err(|cause| match cause {
        ParquetError::External(inner) if inner.is::<object_store::Error>() => {
            inner.downcast().map_or_else(|other| Error::from(ParquetError::External(other)), |own| Error::Storage(*own))
        }
        cause => Error::UnreadableFile {
            path: place.child(&place.name_of(&object.location)).to_string(),
            reason: format!("{cause}; it is truncated or no Parquet file: replace or remove it"),
        },
    })
}

/// A Parquet file on its way into an object store. Nothing is there before [`ParquetFile::finish`].
pub(crate) struct ParquetFile {
    place: Location,
    name: String,
    writer: AsyncArrowWriter<Hashing>,
}

impl ParquetFile {
    pub(crate) fn create(
        place: &Location,
        name: String,
        schema: arrow::datatypes::SchemaRef,
        properties: WriterProperties,
    ) -> Result<Self> {
        let sink = BufWriter::new(place.store().clone(), place.path(&name));
        let sink = Hashing { sink, hasher: blake3::Hasher::new() };
        Ok(Self { place: place.clone(), name, writer: AsyncArrowWriter::try_new(sink, schema, Some(properties))? })
    }

    pub(crate) async fn write(&mut self, batch: &arrow::array::RecordBatch) -> Result<()> {
        Ok(self.writer.write(batch).await?)
    }

    /// Bytes so far: those written, and an estimate for those still in memory.
    pub(crate) fn size(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// Completes the upload; the file appears whole.
    pub(crate) async fn finish(mut self) -> Result<Written> {
        let footer = self.writer.finish().await?;
        let hash = self.writer.into_inner().hasher.finalize();
        let meta = self.place.head(&self.name).await?.ok_or_else(|| Error::Corrupt {
            path: self.place.child(&self.name).to_string(),
            reason: "it vanished right after it was written; is another process cleaning the root?".into(),
        })?;
        let identity = FileIdentity { size: meta.size, e_tag: meta.e_tag, hash: Some(hash.into()) };
        let footer = ArrowReaderMetadata::try_new(Arc::new(footer), ArrowReaderOptions::default())?;
        Ok(Written { name: self.name, identity, footer })
    }
}

/// A file that was written.
pub(crate) struct Written {
    pub(crate) name: String,
    pub(crate) identity: FileIdentity,
    pub(crate) footer: ArrowReaderMetadata,
}

struct Hashing {
    sink: BufWriter,
    hasher: blake3::Hasher,
}

impl AsyncFileWriter for Hashing {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, ParquetResult<()>> {
        self.hasher.update(&bytes);
        async move { self.sink.put(bytes).await.map_err(|e| ParquetError::External(Box::new(e))) }.boxed()
    }

    fn complete(&mut self) -> BoxFuture<'_, ParquetResult<()>> {
        async move { self.sink.shutdown().await.map_err(|e| ParquetError::External(Box::new(e))) }.boxed()
    }
}

impl fmt::Debug for ParquetFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParquetFile({})", self.place.child(&self.name))
    }
}
