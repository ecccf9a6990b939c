//! Parquet over an object store: reading by ranges, writing by way of a local file that is hashed as it grows.
//! It decides nothing about schemas, rows or names.

use std::{
    fs::File,
    io::{BufWriter, Write},
    ops::Range,
    sync::Arc,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use object_store::{GetOptions, OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta, ObjectStore, ObjectStoreExt, coalesce_ranges};
use parquet::{
    arrow::{
        ArrowWriter,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
        async_reader::AsyncFileReader,
    },
    errors::{ParquetError, Result as ParquetResult},
    file::{
        metadata::{ParquetMetaData, ParquetMetaDataReader},
        properties::WriterProperties,
    },
};
use tempfile::NamedTempFile;

use super::{FileIdentity, Location};
use crate::{
    error::{Error, Result},
    name::ContentId,
    time::{AsOf, Clock, SystemClock},
};

/// What is read of a file's end at first: footers of tables of usual width fit, and one request is enough.
const FOOTER_BYTES: usize = 64 << 10;

/// Reads ranges of one object for the Parquet decoder.
#[derive(Debug, Clone)]
pub(crate) struct ObjectReader {
    store: Arc<dyn ObjectStore>,
    object: ObjectMeta,
    /// The entity tag that the object must have.
    if_match: Option<String>,
}

impl ObjectReader {
    pub(crate) fn new(place: &Location, object: ObjectMeta) -> Self {
        Self { store: place.store().clone(), object, if_match: None }
    }

    /// Reads the object only while its entity tag is the one that it was found with; another one is
    /// [`object_store::Error::Precondition`].
    pub(crate) fn only_unchanged(mut self) -> Self {
        // A weak tag matches nothing by the rules of HTTP.
        self.if_match = self.object.e_tag.clone().filter(|tag| !tag.starts_with("W/"));
        self
    }

    async fn fetch(&self, range: Range<u64>) -> ParquetResult<Bytes> {
        let options = GetOptions { range: Some(range.clone().into()), if_match: self.if_match.clone(), ..Default::default() };
        let found = self.store.get_opts(&self.object.location, options).await.map_err(external)?;
        let bytes = found.bytes().await.map_err(external)?;
        // Before parts are cut out of it.
        whole(&range, &bytes)?;
        Ok(bytes)
    }
}

fn external(cause: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(cause))
}

/// A store may answer with less than it was asked for: the decoder trusts lengths, and must not see it.
fn whole(range: &Range<u64>, bytes: &Bytes) -> ParquetResult<()> {
    match range.end - range.start == bytes.len() as u64 {
        true => Ok(()),
        false => Err(ParquetError::EOF(format!("{} bytes of {range:?} arrived", bytes.len()))),
    }
}

impl AsyncFileReader for ObjectReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move {
            let bytes = match self.if_match {
                Some(_) => self.fetch(range.clone()).await?,
                None => self.store.get_range(&self.object.location, range.clone()).await.map_err(external)?,
            };
            whole(&range, &bytes)?;
            Ok(bytes)
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move {
            let parts = match self.if_match {
                Some(_) => coalesce_ranges(&ranges, |range| self.fetch(range), OBJECT_STORE_COALESCE_DEFAULT).await?,
                None => self.store.get_ranges(&self.object.location, &ranges).await.map_err(external)?,
            };
            ranges.iter().zip(&parts).try_for_each(|(range, bytes)| whole(range, bytes))?;
            Ok(parts)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let size = self.object.size;
            let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_BYTES)).with_arrow_reader_options(options);
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
    let footer = ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::default()).await;
    footer.map_err(|cause| unreadable(place, object, cause))
}

/// Why a footer could not be read: the store's error when it did not answer, else the file's fault.
pub(super) fn unreadable(place: &Location, object: &ObjectMeta, cause: ParquetError) -> Error {
    match cause {
        ParquetError::External(inner) if inner.is::<object_store::Error>() => {
            inner.downcast().map_or_else(|other| Error::from(ParquetError::External(other)), |own| Error::Storage(*own))
        }
        cause => Error::UnreadableFile {
            path: place.child(&place.name_of(&object.location)).to_string(),
            reason: format!("{cause}; it is truncated or no Parquet file: replace or remove it"),
        },
    }
}

/// A Parquet file being written, on this machine's disk first.
///
/// Its name in the store can then hold its hash: a name never means two contents, whoever writes it, and a file that is
/// there already need not be written again.
pub(crate) struct ParquetFile {
    file: NamedTempFile,
    writer: ArrowWriter<Hashing>,
}

/// A Parquet file that is written and not yet published.
pub(crate) struct FinishedParquet {
    file: NamedTempFile,
    pub(crate) hash: ContentId,
    pub(crate) footer: ArrowReaderMetadata,
}

fn disk(source: std::io::Error) -> Error {
    Error::Io { path: "a temporary file".into(), source }
}

impl ParquetFile {
    pub(crate) fn create(schema: SchemaRef, properties: WriterProperties) -> Result<Self> {
        let file = NamedTempFile::with_prefix("asof-write-").map_err(disk)?;
        let sink = BufWriter::with_capacity(1 << 20, file.reopen().map_err(disk)?);
        let writer = ArrowWriter::try_new(Hashing { sink, hasher: blake3::Hasher::new() }, schema, Some(properties))?;
        Ok(Self { file, writer })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        Ok(self.writer.write(batch)?)
    }

    /// Bytes so far: those written, and an estimate for those still in memory.
    pub(crate) fn size(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    pub(crate) fn finish(mut self) -> Result<FinishedParquet> {
        let footer = self.writer.finish()?;
        let written = self.writer.inner_mut();
        written.sink.flush().map_err(disk)?;
        let hash = written.hasher.finalize().into();
        let footer = ArrowReaderMetadata::try_new(Arc::new(footer), ArrowReaderOptions::default())?;
        Ok(FinishedParquet { file: self.file, hash, footer })
    }
}

impl FinishedParquet {
    /// Where it lies on this machine until it is dropped.
    pub(crate) fn path(&self) -> &std::path::Path {
        self.file.path()
    }

    pub(crate) fn rows(&self) -> u64 {
        u64::try_from(self.footer.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Puts the file under this name, which must hold its hash; it appears whole, and is durable when this returns.
    pub(crate) async fn publish(self, place: &Location, name: &str) -> Result<FileIdentity> {
        let file = self.file.reopen().map_err(disk)?;
        let size = file.metadata().map_err(disk)?.len();
        // A file that is there already is written again when it is not of this hour: it may be what a crash left, which the
        // garbage collector knows by its age, and must not go away under the version that is about to name it.
        if place.head(name).await?.is_none_or(|there| there.size != size || !is_recent(&there)) {
            place.upload(name, file).await?;
        }
        let meta = place.head(name).await?.ok_or_else(|| Error::Corrupt {
            path: place.child(name).to_string(),
            reason: "it vanished right after it was written; is another process cleaning the root?".into(),
        })?;
        Ok(FileIdentity { size: meta.size, e_tag: meta.e_tag, hash: Some(self.hash) })
    }
}

/// The age of a stored file is a matter between the store and the wall clock, whatever instant a question is about.
fn is_recent(there: &ObjectMeta) -> bool {
    AsOf::from(there.last_modified).plus(chrono::TimeDelta::hours(1)) > SystemClock.now()
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
