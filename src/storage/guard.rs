//! A wrapper around object stores: it limits the requests in flight and redacts errors. Each request goes to the inner store
//! once, and its answer is returned unchanged. When several ranges are read by one request, a short answer is an error.

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, OBJECT_STORE_COALESCE_DEFAULT,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
    UploadPart, coalesce_ranges, path::Path,
};
use tokio::sync::Semaphore;

use super::failure::Redactor;

/// The wrapper around every store but this machine's file system.
///
/// A request counts from its start until its answer, and for a streamed body until the stream is read or dropped. A
/// listing counts only while it waits for a page, so that its reader can send requests of its own. Reading several ranges sends
/// several requests; neighbouring ranges are joined as `object_store` does by default.
pub(super) struct Guard {
    inner: Arc<dyn ObjectStore>,
    permits: Arc<Semaphore>,
    redactor: Redactor,
}

impl Guard {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, concurrency: usize, redactor: Redactor) -> Self {
        let permits = Arc::new(Semaphore::new(concurrency.clamp(1, Semaphore::MAX_PERMITS)));
        Self { inner, permits, redactor }
    }

    /// A stream that has a permit while it waits for its next item.
    fn limited<T: Send + 'static>(
        &self,
        place: Option<Path>,
        inner: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let state = (inner, self.permits.clone(), self.redactor.clone(), place);
        stream::unfold(state, |(mut inner, permits, redactor, place)| async move {
            let item = {
                // The semaphore is never closed; if it were, the call would go on without a permit.
                let _permit = permits.acquire().await;
                inner.next().await?
            };
            let item = item.map_err(|error| redactor.redact(place.as_ref(), error));
            Some((item, (inner, permits, redactor, place)))
        })
        .boxed()
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard({})", self.redactor.base())
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.redactor.base())
    }
}

#[async_trait]
impl ObjectStore for Guard {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let _permit = self.permits.acquire().await;
        self.redactor.redact_result(path, self.inner.put_opts(path, payload, options).await)
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let _permit = self.permits.acquire().await;
        let inner = self.redactor.redact_result(path, self.inner.put_multipart_opts(path, options).await)?;
        let (permits, redactor) = (self.permits.clone(), self.redactor.clone());
        Ok(Box::new(GuardedUpload { inner, permits, redactor, path: path.clone() }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let permit = self.permits.clone().acquire_owned().await;
        let result = self.redactor.redact_result(path, self.inner.get_opts(path, options).await)?;
        let payload = match result.payload {
            GetResultPayload::Stream(chunks) => {
                let (redactor, path) = (self.redactor.clone(), path.clone());
                let redacted = move |chunk: Result<Bytes>| {
                    let _held = &permit;
                    redactor.redact_result(&path, chunk)
                };
                GetResultPayload::Stream(chunks.map(redacted).boxed())
            }
            file => file,
        };
        Ok(GetResult { payload, ..result })
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let fetch = |range: Range<u64>| async move {
            let bytes = self.get_range(path, range.clone()).await?;
            // Slicing an answer that is too short would panic.
            match range.end - range.start == bytes.len() as u64 {
                true => Ok(bytes),
                false => {
                    let reason = format!("{} bytes of {range:?} arrived", bytes.len());
                    Err(self.redactor.redact(Some(path), Error::Generic { store: "object store", source: reason.into() }))
                }
            }
        };
        coalesce_ranges(ranges, fetch, OBJECT_STORE_COALESCE_DEFAULT).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.limited(None, self.inner.delete_stream(paths))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.limited(prefix.cloned(), self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.limited(prefix.cloned(), self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let _permit = self.permits.acquire().await;
        self.inner.list_with_delimiter(prefix).await.map_err(|error| self.redactor.redact(prefix, error))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let _permit = self.permits.acquire().await;
        self.redactor.redact_result(to, self.inner.copy_opts(from, to, options).await)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let _permit = self.permits.acquire().await;
        self.redactor.redact_result(to, self.inner.rename_opts(from, to, options).await)
    }
}

struct GuardedUpload {
    inner: Box<dyn MultipartUpload>,
    permits: Arc<Semaphore>,
    redactor: Redactor,
    path: Path,
}

impl fmt::Debug for GuardedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuardedUpload({}/{})", self.redactor.base(), self.path)
    }
}

#[async_trait]
impl MultipartUpload for GuardedUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let part = self.inner.put_part(payload);
        let (permits, redactor, path) = (self.permits.clone(), self.redactor.clone(), self.path.clone());
        async move {
            let _permit = permits.acquire().await;
            redactor.redact_result(&path, part.await)
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let _permit = self.permits.acquire().await;
        self.redactor.redact_result(&self.path, self.inner.complete().await)
    }

    async fn abort(&mut self) -> Result<()> {
        let _permit = self.permits.acquire().await;
        self.redactor.redact_result(&self.path, self.inner.abort().await)
    }
}
