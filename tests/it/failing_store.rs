//! An object store whose k-th call fails: refused, done without an answer, late, or answered with half of the bytes.
//! It chooses nothing: the call and the fault are the test's.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{
    FutureExt, StreamExt,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, UploadPart, memory::InMemory, path::Path as Key,
};

/// What happens to the call that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails and does nothing.
    Refused,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// It is done, and late.
    Delayed,
    /// If it reads, half of the bytes arrive, and nothing tells that there are more.
    Truncated,
}

pub(crate) const BREAKS: &[Fault] = &[Fault::Refused, Fault::AnswerLost];
pub(crate) const ALL_FAULTS: &[Fault] = &[Fault::Refused, Fault::AnswerLost, Fault::Delayed, Fault::Truncated];

/// An object store whose `k`-th call fails, counting from 0; every call to the store counts, parts of uploads too.
pub(crate) struct Failing {
    pub(crate) inner: InMemory,
    pub(crate) calls: Arc<Calls>,
}

pub(crate) struct Calls {
    pub(crate) k: usize,
    pub(crate) fault: Fault,
    pub(crate) count: AtomicUsize,
    pub(crate) log: Mutex<Vec<String>>,
}

impl Calls {
    fn is_next_bad(&self, what: &str, key: impl fmt::Display) -> bool {
        self.log.lock().unwrap().push(format!("{what} {key}"));
        self.count.fetch_add(1, Ordering::SeqCst) == self.k
    }

    fn error() -> object_store::Error {
        object_store::Error::Generic { store: "test", source: "this call was chosen to fail".into() }
    }

    async fn judge<T>(
        &self,
        what: &str,
        key: &Key,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        self.judge_cut(what, key, call, Ok).await
    }

    /// As [`Calls::judge`], for a call whose answer can be cut.
    async fn judge_cut<T>(
        &self,
        what: &str,
        key: &Key,
        call: impl Future<Output = object_store::Result<T>>,
        cut: impl FnOnce(T) -> object_store::Result<T>,
    ) -> object_store::Result<T> {
        match (self.is_next_bad(what, key), self.fault) {
            (false, _) => call.await,
            (true, Fault::Refused) => Err(Self::error()),
            (true, Fault::AnswerLost) => call.await.and(Err(Self::error())),
            (true, Fault::Delayed) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                call.await
            }
            (true, Fault::Truncated) => call.await.and_then(cut),
        }
    }
}

impl fmt::Debug for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Failing")
    }
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Failing")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Failing {
    async fn put_opts(&self, key: &Key, bytes: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.calls.judge("put", key, self.inner.put_opts(key, bytes, options)).await
    }

    async fn put_multipart_opts(
        &self,
        key: &Key,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        let inner = self.calls.judge("begin", key, self.inner.put_multipart_opts(key, options)).await?;
        Ok(Box::new(FailingUpload { inner, key: key.clone(), calls: self.calls.clone() }))
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> object_store::Result<GetResult> {
        // What a memory store answers is there at once.
        let cut = |found: GetResult| {
            let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
            let whole = found.bytes().now_or_never().expect("bytes in memory")?;
            let half = stream::once(async move { Ok(whole.slice(..whole.len() / 2)) }).boxed();
            Ok(GetResult { payload: GetResultPayload::Stream(half), meta, range, attributes })
        };
        self.calls.judge_cut("get", key, self.inner.get_opts(key, options), cut).await
    }

    async fn get_ranges(&self, key: &Key, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        let cut = |parts: Vec<Bytes>| Ok(parts.into_iter().map(|part| part.slice(..part.len() / 2)).collect());
        self.calls.judge_cut("get ranges", key, self.inner.get_ranges(key, ranges), cut).await
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, object_store::Result<Key>>,
    ) -> BoxStream<'static, object_store::Result<Key>> {
        match self.calls.is_next_bad("delete", "") {
            true => stream::once(async { Err(Calls::error()) }).boxed(),
            false => self.inner.delete_stream(keys),
        }
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let failed = stream::once(async { Err(Calls::error()) });
        match (self.calls.is_next_bad("list", prefix.cloned().unwrap_or_default()), self.calls.fault) {
            (false, _) | (true, Fault::Delayed | Fault::Truncated) => self.inner.list(prefix),
            (true, Fault::Refused) => failed.boxed(),
            // A listing has no answer but its entries: it breaks off after them.
            (true, Fault::AnswerLost) => self.inner.list(prefix).chain(failed).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> object_store::Result<ListResult> {
        self.calls.judge("list one level", &Key::default(), self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> object_store::Result<()> {
        self.calls.judge("copy", to, self.inner.copy_opts(from, to, options)).await
    }
}

struct FailingUpload {
    inner: Box<dyn MultipartUpload>,
    key: Key,
    calls: Arc<Calls>,
}

impl fmt::Debug for FailingUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FailingUpload({})", self.key)
    }
}

#[async_trait::async_trait]
impl MultipartUpload for FailingUpload {
    fn put_part(&mut self, bytes: PutPayload) -> UploadPart {
        let (calls, key, part) = (self.calls.clone(), self.key.clone(), self.inner.put_part(bytes));
        async move { calls.judge("part", &key, part).await }.boxed()
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        self.calls.judge("complete", &self.key, self.inner.complete()).await
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        self.calls.judge("abort", &self.key, self.inner.abort()).await
    }
}
