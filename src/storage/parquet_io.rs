//! Reads Parquet from an object store by ranges. Writing is in `parquet_write`.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use object_store::{GetOptions, OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta, ObjectStore, ObjectStoreExt, coalesce_ranges};
use parquet::{
    arrow::{
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
        async_reader::AsyncFileReader,
    },
    errors::{ParquetError, Result as ParquetResult},
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};

use super::{
    DiskCache, Location,
    cached_ranges::CachedRanges,
    contain::{contained, contradiction},
    schema_depth::{MAX_LEVELS, footer_bytes, is_too_deep},
};
use crate::error::{Error, Result};

/// How much of a file's end is read first: enough for the footers of most tables, so that one request suffices.
const FOOTER_BYTES: usize = 64 << 10;

/// Reads ranges of one object for the Parquet decoder.
#[derive(Debug, Clone)]
pub(crate) struct ObjectReader {
    store: Arc<dyn ObjectStore>,
    object: ObjectMeta,
    /// The entity tag that the object must still have.
    if_match: Option<String>,
    cached: Option<CachedRanges>,
}

impl ObjectReader {
    pub(crate) fn new(place: &Location, object: ObjectMeta) -> Self {
        Self { store: place.store().clone(), object, if_match: None, cached: None }
    }

    /// Makes reads fail with [`object_store::Error::Precondition`] when the object's entity tag is no longer the one that was
    /// listed.
    pub(crate) fn only_unchanged(mut self) -> Self {
        // By HTTP a weak tag never matches `If-Match`.
        self.if_match = self.object.e_tag.clone().filter(|tag| !tag.starts_with("W/"));
        self
    }

    /// As [`ObjectReader::only_unchanged`], and looks in this cache before each request. An object whose version no request can
    /// name is read from its store.
    pub(crate) fn cached(self, place: &Location, cache: Option<&DiskCache>) -> Self {
        let mut reader = self.only_unchanged();
        let cache = cache.filter(|_| reader.if_match.is_some());
        reader.cached = cache.and_then(|cache| CachedRanges::of(cache, place, &reader.object));
        reader
    }

    /// The bytes of ranges that are not empty.
    async fn read(&self, ranges: &[Range<u64>]) -> ParquetResult<Vec<Bytes>> {
        let Some(cached) = &self.cached else { return self.request(ranges).await };
        let found = cached.look_up(ranges).await;
        let is_missing = |(range, found): (&Range<u64>, &Option<Bytes>)| found.is_none().then(|| range.clone());
        let missing: Vec<Range<u64>> = ranges.iter().zip(&found).filter_map(is_missing).collect();
        if missing.is_empty() {
            return Ok(found.into_iter().flatten().collect());
        }
        let read = self.request(&missing).await?;
        cached.add(missing.into_iter().zip(read.iter().cloned()).collect()).await;
        let mut read = read.into_iter();
        Ok(found.into_iter().filter_map(|found| found.or_else(|| read.next())).collect())
    }

    /// The bytes of ranges, from the store. Neighbouring ranges are read by one request.
    async fn request(&self, ranges: &[Range<u64>]) -> ParquetResult<Vec<Bytes>> {
        let parts = match self.if_match {
            Some(_) => coalesce_ranges(ranges, |range| self.fetch(range), OBJECT_STORE_COALESCE_DEFAULT).await?,
            None => self.store.get_ranges(&self.object.location, ranges).await.map_err(external)?,
        };
        ranges.iter().zip(&parts).try_for_each(|(range, bytes)| whole(range, bytes))?;
        Ok(parts)
    }

    async fn fetch(&self, range: Range<u64>) -> ParquetResult<Bytes> {
        let options = GetOptions { range: Some(range.clone().into()), if_match: self.if_match.clone(), ..Default::default() };
        let found = self.store.get_opts(&self.object.location, options).await.map_err(external)?;
        // A store may not know the condition, and answer with another version.
        let is_other = found.meta.e_tag.is_some() && found.meta.e_tag != self.object.e_tag;
        if is_other || found.meta.size != self.object.size {
            let source = "the store sent another version of the object than the one that was asked for".into();
            return Err(external(object_store::Error::Precondition { path: self.object.location.to_string(), source }));
        }
        let bytes = found.bytes().await.map_err(external)?;
        // Before the answer is sliced.
        whole(&range, &bytes)?;
        Ok(bytes)
    }
}

fn external(cause: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(cause))
}

/// Refuses an answer with fewer bytes than requested: the decoder relies on the length.
fn whole(range: &Range<u64>, bytes: &Bytes) -> ParquetResult<()> {
    match range.end - range.start == bytes.len() as u64 {
        true => Ok(()),
        false => Err(ParquetError::EOF(format!("{} bytes of {range:?} arrived", bytes.len()))),
    }
}

impl AsyncFileReader for ObjectReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move {
            // A column of a row group without rows may have no bytes; no request is sent for it.
            if range.is_empty() {
                return Ok(Bytes::new());
            }
            let bytes = match self.if_match {
                Some(_) => self.read(std::slice::from_ref(&range)).await?.pop().unwrap_or_default(),
                None => self.store.get_range(&self.object.location, range.clone()).await.map_err(external)?,
            };
            whole(&range, &bytes)?;
            Ok(bytes)
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move {
            let asked: Vec<Range<u64>> = ranges.iter().filter(|range| !range.is_empty()).cloned().collect();
            let parts = if asked.is_empty() { Vec::new() } else { self.read(&asked).await? };
            let mut parts = parts.into_iter();
            let part = |range: &Range<u64>| if range.is_empty() { Bytes::new() } else { parts.next().unwrap_or_default() };
            Ok(ranges.iter().map(part).collect())
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
    read_footer_with(place, object, ObjectReader::new(place, object.clone())).await
}

/// As [`read_footer`], and fails when the object's entity tag is no longer the one that was listed.
pub(crate) async fn read_unchanged_footer(place: &Location, object: &ObjectMeta) -> Result<ArrowReaderMetadata> {
    read_footer_with(place, object, ObjectReader::new(place, object.clone()).only_unchanged()).await
}

async fn read_footer_with(place: &Location, object: &ObjectMeta, mut reader: ObjectReader) -> Result<ArrowReaderMetadata> {
    place.check_regular(&object.location)?;
    if object.size == 0 {
        return footer_of(place, object, Bytes::new());
    }
    let mut wanted = FOOTER_BYTES as u64;
    loop {
        let start = object.size.saturating_sub(wanted);
        let end = match reader.get_bytes(start..object.size).await {
            Ok(end) => end,
            Err(cause) => return Err(unreadable(place, object, cause)),
        };
        match footer_bytes(&end) {
            // The footer is longer; read all of it.
            Err(Some(needed)) if start > 0 && needed as u64 > wanted => wanted = needed as u64,
            _ => return footer_of(place, object, end),
        }
    }
}

/// The footer of a Parquet file, from its last bytes or all of them.
pub(super) fn footer_of(place: &Location, object: &ObjectMeta, end: Bytes) -> Result<ArrowReaderMetadata> {
    let shown = place.child(&place.name_of(&object.location)).to_string();
    if footer_bytes(&end).is_ok_and(is_too_deep) {
        let reason = format!("its columns are nested deeper than {MAX_LEVELS} levels, the most that can be read");
        return Err(Error::UnreadableFile { path: shown, reason });
    }
    let load = || {
        let mut reader = ParquetMetaDataReader::new();
        let footer = reader.try_parse_sized(&end, object.size).and_then(|()| reader.finish());
        Ok(footer.and_then(|footer| ArrowReaderMetadata::try_new(Arc::new(footer), ArrowReaderOptions::default())))
    };
    checked(place, object, contained::<_, Error>(&shown, load)?)
}

fn checked(place: &Location, object: &ObjectMeta, footer: ParquetResult<ArrowReaderMetadata>) -> Result<ArrowReaderMetadata> {
    let footer = footer.map_err(|cause| unreadable(place, object, cause))?;
    match contradiction(footer.metadata(), object.size) {
        None => Ok(footer),
        Some(reason) => Err(unreadable(place, object, ParquetError::General(format!("its footer is damaged: {reason}")))),
    }
}

/// Why a footer could not be read: the store's error if it did not answer, else an unreadable file.
fn unreadable(place: &Location, object: &ObjectMeta, cause: ParquetError) -> Error {
    match cause {
        ParquetError::External(inner) if inner.is::<object_store::Error>() => {
            inner.downcast().map_or_else(|other| Error::from(ParquetError::External(other)), |own| Error::Storage(*own))
        }
        cause => Error::UnreadableFile {
            path: place.child(&place.name_of(&object.location)).to_string(),
            reason: format!("{cause}; it is truncated or not a Parquet file: replace or remove it"),
        },
    }
}
