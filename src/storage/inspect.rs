//! Identities and footers of many Parquet files, in one pass and several at a time.
//! No rows are read. A small local file is read once, for both its hash and its footer.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectMeta;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use super::{FileIdentity, Location, local_file, location::blocking, parquet_io::footer_of, read_footer};
use crate::error::Result;

/// Local files up to this size are read whole.
const SMALL_BYTES: u64 = 4 << 20;
/// How many small local files one background task reads, one after the other.
const FILES_A_TASK: usize = 64;
const LOCAL_TASKS: usize = 8;
const REMOTE_REQUESTS: usize = 32;

/// A Parquet file as it is now.
#[derive(Debug)]
pub(crate) struct Inspected {
    pub(crate) footer: ArrowReaderMetadata,
    pub(crate) identity: FileIdentity,
}

/// Footers and identities of these Parquet files, in their order.
///
/// # Errors
/// [`Error::UnreadableFile`] for the first file without a footer, and the store's error when it does not answer.
pub(crate) async fn inspect(place: &Location, objects: Vec<ObjectMeta>) -> Result<Vec<Inspected>> {
    let is_small = |object: &ObjectMeta| place.is_local() && object.size <= SMALL_BYTES;
    let mut chunks: Vec<Vec<ObjectMeta>> = Vec::new();
    for object in objects {
        match chunks.last_mut().filter(|chunk| chunk.len() < FILES_A_TASK) {
            // Large and remote files are read in parallel.
            Some(chunk) if chunk.iter().chain([&object]).all(is_small) => chunk.push(object),
            _ => chunks.push(vec![object]),
        }
    }
    let at_once = if place.is_local() { LOCAL_TASKS } else { REMOTE_REQUESTS };
    let read = stream::iter(chunks.into_iter().map(|chunk| inspect_chunk(place.clone(), chunk)));
    let found: Vec<Vec<Inspected>> = read.buffered(at_once).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn inspect_chunk(place: Location, objects: Vec<ObjectMeta>) -> Result<Vec<Inspected>> {
    if place.is_local() && objects.iter().all(|object| object.size <= SMALL_BYTES) {
        return blocking(move || objects.iter().map(|object| inspect_small(&place, object)).collect()).await;
    }
    let mut found = Vec::with_capacity(objects.len());
    for object in &objects {
        let identity = place.identify(object).await?;
        found.push(Inspected { footer: read_footer(&place, object).await?, identity });
    }
    Ok(found)
}

/// Size, hash and footer by one read.
fn inspect_small(place: &Location, object: &ObjectMeta) -> Result<Inspected> {
    place.check_regular(&object.location)?;
    let mut bytes = Vec::new();
    let path = place.local_path(&object.location);
    let identity = local_file::identify(&path, object.size, |block| bytes.extend_from_slice(block))?;
    let footer = footer_of(place, object, Bytes::from(bytes))?;
    Ok(Inspected { footer, identity })
}
