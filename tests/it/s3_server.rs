//! A real S3 protocol server (s3s over a directory) for the integration tests.
//!
//! The server runs on its own thread and runtime, so it keeps answering while a test blocks its
//! runtime and when the runtime of the test has one thread.

// Each test uses its part of this helper.
#![allow(dead_code, unreachable_pub)]

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::TryStreamExt;
use hyper::body::Incoming;
use hyper::http::Extensions;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use s3s::auth::SimpleAuth;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CopyObjectInput, CopyObjectOutput, CopySource, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput,
    DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, ETagCondition, GetObjectInput,
    GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input,
    ListObjectsV2Output, PutObjectInput, PutObjectOutput, StreamingBlob, Timestamp, TimestampFormat, UploadPartCopyInput,
    UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{RwLock, oneshot};

/// The access key that the server knows.
const ACCESS_KEY: &str = "AKIATESTR7Q2M5X9VD3K";
/// The secret that belongs to [`ACCESS_KEY`].
const SECRET_KEY: &str = "t3stOnly/9fXbW2kq+VzH7mLr0NcYd5uEaPjGs1w";
/// How long a shutdown waits for requests in flight.
const GRACE: Duration = Duration::from_secs(1);
/// Parts of keys that are longer than this are stored under their first characters and a hash.
const LONGEST_PART: usize = 48;
const KEPT_PART: usize = 32;
/// The longest file name that the usual file systems take.
const MAX_FILE_NAME: usize = 255;

/// An S3 server on 127.0.0.1 with one bucket in a temporary directory; it stops when dropped.
///
/// It takes path-style requests that are signed with its own key, and speaks plain HTTP/1.1.
#[derive(Debug)]
pub struct S3Server {
    root: TempDir,
    bucket: String,
    address: SocketAddr,
    traffic: Arc<Traffic>,
    names: Arc<Names>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl S3Server {
    /// Starts a server with an empty bucket on an ephemeral port.
    pub async fn start(bucket: &str) -> Result<Self, Box<dyn Error>> {
        if !s3s::path::check_bucket_name(bucket) {
            return Err(format!("{bucket:?} is no S3 bucket name").into());
        }
        let root = tempfile::tempdir()?;
        std::fs::create_dir(root.path().join(bucket))?;
        let traffic = Arc::new(Traffic::default());
        let names = Arc::new(Names::default());
        let service = {
            let mut builder = S3ServiceBuilder::new(ConditionalFs {
                fs: FileSystem::new(root.path()).map_err(|e| format!("{e:?}"))?,
                root: root.path().to_owned(),
                order: RwLock::new(()),
                traffic: Arc::clone(&traffic),
                names: Arc::clone(&names),
            });
            builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
            builder.build()
        };
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = oneshot::channel();
        let counted = Arc::clone(&traffic);
        let thread =
            std::thread::Builder::new().name("s3-server".to_owned()).spawn(move || run(service, counted, ready, stopped))?;
        let address = started.await??;
        Ok(Self { root, bucket: bucket.to_owned(), address, traffic, names, stop: Some(stop), thread: Some(thread) })
    }

    /// The base URL, as `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The name of the bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The access key to sign requests with.
    pub fn access_key(&self) -> &str {
        ACCESS_KEY
    }

    /// The secret to sign requests with.
    pub fn secret_key(&self) -> &str {
        SECRET_KEY
    }

    /// The directory that holds the bucket (as a directory) and the server's own hidden files.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The file that holds the object `key`.
    ///
    /// The server keeps ETags beside the objects: bytes changed in this file are served under the
    /// old ETag, as after a fault of the disk. A file put here by hand gets the MD5 of its bytes.
    pub fn object_file(&self, key: &str) -> PathBuf {
        self.root.path().join(&self.bucket).join(self.names.stored(key))
    }

    /// The number of HTTP requests so far, those refused included.
    pub fn requests(&self) -> usize {
        self.traffic.requests.load(Ordering::SeqCst)
    }

    /// The keys of the GET object requests so far, in order, one entry a request.
    pub fn gets(&self) -> Vec<String> {
        self.traffic.lock_gets().clone()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the server thread has shown in the test already, as failed requests.
            let _ = thread.join();
        }
    }
}

/// Long parts of keys under shorter names, since [`FileSystem`] cannot hold keys as long as those of S3.
///
/// The first characters stay, so the order of keys stays unless two of them differ only beyond those.
#[derive(Debug, Default)]
struct Names(Mutex<HashMap<String, String>>);

impl Names {
    /// The key, or a prefix that ends at a `/`, as it is stored.
    fn stored(&self, key: &str) -> String {
        let part = |part: &str| {
            let Some(kept) = part.get(..KEPT_PART).filter(|_| part.len() > LONGEST_PART) else { return part.to_owned() };
            let short = format!("{kept}~{}", &blake3::hash(part.as_bytes()).to_hex()[..8]);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(short.clone(), part.to_owned());
            short
        };
        key.split('/').map(part).collect::<Vec<_>>().join("/")
    }

    /// The key of a stored one.
    fn given(&self, stored: &str) -> String {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let part = |part: &str| names.get(part).cloned().unwrap_or_else(|| part.to_owned());
        stored.split('/').map(part).collect::<Vec<_>>().join("/")
    }
}

/// What has been asked of the server.
#[derive(Debug, Default)]
struct Traffic {
    requests: AtomicUsize,
    gets: Mutex<Vec<String>>,
}

impl Traffic {
    /// The log of GETs, also after a panic elsewhere.
    fn lock_gets(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.gets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of the server thread.
fn run(
    service: S3Service,
    traffic: Arc<Traffic>,
    ready: oneshot::Sender<io::Result<SocketAddr>>,
    stopped: oneshot::Receiver<()>,
) {
    let bind = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        Ok((runtime, listener, address))
    };
    match bind() {
        Ok((runtime, listener, address)) => {
            if ready.send(Ok(address)).is_ok() {
                runtime.block_on(serve(listener, service, traffic, stopped));
            }
            runtime.shutdown_timeout(GRACE);
        }
        Err(error) => {
            // Nobody waits any more when this fails.
            let _ = ready.send(Err(error));
        }
    }
}

/// Accepts connections until `stopped` resolves, then lets the open requests finish.
async fn serve(listener: TcpListener, service: S3Service, traffic: Arc<Traffic>, mut stopped: oneshot::Receiver<()>) {
    let graceful = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            _ = &mut stopped => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors, or the peer has gone.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
        };
        // Only latency is at stake.
        let _ = stream.set_nodelay(true);
        let service = service.clone();
        let traffic = Arc::clone(&traffic);
        let count_and_serve = service_fn(move |request: Request<Incoming>| {
            traffic.requests.fetch_add(1, Ordering::SeqCst);
            let service = service.clone();
            async move { service.call(request.map(Body::from)).await }
        });
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), count_and_serve);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // The client sees a broken connection itself.
            let _ = connection.await;
        });
    }
    drop(listener);
    // What is not done by then is cut off.
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}

/// [`FileSystem`] made to behave as S3 does where it does not.
///
/// - A write and its conditions (`If-None-Match: *`, `If-Match`) are one step, and no reader sees
///   the bytes of one write with the ETag of another.
/// - GET and HEAD heed their conditions.
/// - LIST gives ETags, and times in whole seconds as HEAD does.
/// - A directory is no object: it is not found, and it goes with its last object.
/// - What the file system cannot hold is refused with 400, which clients do not retry.
#[derive(Debug)]
struct ConditionalFs {
    fs: FileSystem,
    root: PathBuf,
    /// Held shared to read, exclusively to change an object.
    order: RwLock<()>,
    traffic: Arc<Traffic>,
    names: Arc<Names>,
}

impl ConditionalFs {
    /// The directory of `bucket`, which must exist.
    fn bucket_dir(&self, bucket: &str) -> S3Result<PathBuf> {
        let dir = self.root.join(bucket);
        if dir.is_dir() { Ok(dir) } else { Err(s3_error!(NoSuchBucket)) }
    }

    /// Fails unless the object exists.
    fn check_exists(&self, bucket: &str, key: &str) -> S3Result {
        if self.bucket_dir(bucket)?.join(key).is_file() { Ok(()) } else { Err(s3_error!(NoSuchKey)) }
    }

    /// Fails when the file system cannot hold an object of this key.
    fn check_placeable(&self, bucket: &str, key: &str) -> S3Result {
        let dir = self.bucket_dir(bucket)?;
        let file = dir.join(key);
        let mut parents = file.ancestors().skip(1).take_while(|p| *p != dir);
        if file.is_dir() || parents.any(Path::is_file) {
            return Err(s3_error!(InvalidRequest, "this server cannot hold one key that is a directory of another"));
        }
        Ok(())
    }

    /// The `HEAD` of an object as [`FileSystem`] gives it, without conditions.
    async fn stat(&self, bucket: &str, key: &str) -> S3Result<HeadObjectOutput> {
        let input = HeadObjectInput { bucket: bucket.to_owned(), key: key.to_owned(), ..Default::default() };
        let head = self.fs.head_object(S3Request {
            input,
            method: Method::HEAD,
            uri: Uri::default(),
            headers: HeaderMap::new(),
            extensions: Extensions::new(),
            credentials: None,
            region: None,
            service: None,
            trailing_headers: None,
        });
        Ok(head.await?.output)
    }

    /// Fails unless the object exists and the conditions of a read hold.
    async fn check_read(&self, bucket: &str, key: &str, conditions: Conditions) -> S3Result {
        self.check_exists(bucket, key)?;
        if conditions == Conditions::default() {
            return Ok(());
        }
        let head = self.stat(bucket, key).await?;
        conditions.check(head.e_tag.as_ref(), head.last_modified.as_ref())
    }

    /// Removes an object if it exists, and the directories that this leaves empty.
    fn remove(&self, bucket: &str, key: &str) -> S3Result {
        let dir = self.bucket_dir(bucket)?;
        let file = dir.join(key);
        if file.is_file() {
            std::fs::remove_file(&file).map_err(S3Error::internal_error)?;
            for parent in file.ancestors().skip(1).take_while(|p| *p != dir) {
                if std::fs::remove_dir(parent).is_err() {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Fails when the names of the hidden files that [`FileSystem`] derives from a stored key get too long.
fn check_key_length(bucket: &str, key: &str, extra: &str) -> S3Result {
    let base64 = |s: &str| (s.len() * 4).div_ceil(3);
    let fixed = ".bucket-.object-.metadata.json".len() + extra.len();
    if fixed + base64(bucket) + base64(key) > MAX_FILE_NAME {
        return Err(s3_error!(KeyTooLongError, "this server takes shorter keys than S3"));
    }
    Ok(())
}

/// The time in whole seconds, as HTTP headers give it.
fn whole_seconds(time: &Timestamp) -> S3Result<Timestamp> {
    let mut text = Vec::new();
    time.format(TimestampFormat::HttpDate, &mut text).map_err(S3Error::internal_error)?;
    Timestamp::parse(TimestampFormat::HttpDate, &String::from_utf8_lossy(&text)).map_err(S3Error::internal_error)
}

/// The conditions of a GET or HEAD.
#[derive(Debug, Default, PartialEq)]
struct Conditions {
    if_match: Option<ETagCondition>,
    if_unmodified_since: Option<Timestamp>,
    if_none_match: Option<ETagCondition>,
    if_modified_since: Option<Timestamp>,
}

impl Conditions {
    /// Holds them against an object, in the order of RFC 9110, section 13.2.2.
    fn check(&self, e_tag: Option<&ETag>, modified: Option<&Timestamp>) -> S3Result {
        let matches = |condition: &ETagCondition| {
            condition.is_any() || matches!((condition.as_etag(), e_tag), (Some(a), Some(b)) if a.weak_cmp(b))
        };
        let modified = modified.map(whole_seconds).transpose()?;
        let later = |since: &Timestamp| modified.as_ref().is_some_and(|m| m > since);
        if match (&self.if_match, &self.if_unmodified_since) {
            (Some(condition), _) => !matches(condition),
            (None, Some(since)) => later(since),
            (None, None) => false,
        } {
            return Err(s3_error!(PreconditionFailed));
        }
        if match (&self.if_none_match, &self.if_modified_since) {
            (Some(condition), _) => matches(condition),
            (None, Some(since)) => !later(since),
            (None, None) => false,
        } {
            return Err(s3_error!(NotModified));
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl S3 for ConditionalFs {
    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.fs.head_bucket(req).await
    }

    async fn get_object(&self, mut req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.traffic.lock_gets().push(req.input.key.clone());
        req.input.key = self.names.stored(&req.input.key);
        let input = &req.input;
        let conditions = Conditions {
            if_match: input.if_match.clone(),
            if_unmodified_since: input.if_unmodified_since.clone(),
            if_none_match: input.if_none_match.clone(),
            if_modified_since: input.if_modified_since.clone(),
        };
        // The file is open when this returns; a write replaces it and leaves the open one alone.
        let _shared = self.order.read().await;
        self.check_read(&input.bucket, &input.key, conditions).await?;
        self.fs.get_object(req).await
    }

    async fn head_object(&self, mut req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        req.input.key = self.names.stored(&req.input.key);
        let input = &req.input;
        let conditions = Conditions {
            if_match: input.if_match.clone(),
            if_unmodified_since: input.if_unmodified_since.clone(),
            if_none_match: input.if_none_match.clone(),
            if_modified_since: input.if_modified_since.clone(),
        };
        let _shared = self.order.read().await;
        self.check_read(&input.bucket, &input.key, conditions).await?;
        self.fs.head_object(req).await
    }

    async fn list_objects_v2(&self, mut req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let bucket = req.input.bucket.clone();
        for name in [&mut req.input.prefix, &mut req.input.start_after].into_iter().flatten() {
            *name = self.names.stored(name);
        }
        let _shared = self.order.read().await;
        let mut response = self.fs.list_objects_v2(req).await?;
        for object in response.output.contents.iter_mut().flatten() {
            if let Some(key) = &object.key {
                object.e_tag = self.stat(&bucket, key).await?.e_tag;
                object.key = Some(self.names.given(key));
            }
            if let Some(time) = &mut object.last_modified {
                *time = whole_seconds(time)?;
            }
        }
        for prefix in response.output.common_prefixes.iter_mut().flatten().filter_map(|p| p.prefix.as_mut()) {
            *prefix = self.names.given(prefix);
        }
        Ok(response)
    }

    async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        req.input.key = self.names.stored(&req.input.key);
        check_key_length(&req.input.bucket, &req.input.key, "")?;
        // The body is taken in before the lock: a slow client must not hold up the others.
        if let Some(mut body) = req.input.body.take() {
            let mut bytes = Vec::new();
            while let Some(chunk) = body.try_next().await.map_err(|e| S3Error::with_source(S3ErrorCode::IncompleteBody, e))? {
                bytes.extend_from_slice(&chunk);
            }
            req.input.body = Some(StreamingBlob::from(Body::from(bytes)));
        }
        let _alone = self.order.write().await;
        self.check_placeable(&req.input.bucket, &req.input.key)?;
        self.fs.put_object(req).await
    }

    async fn copy_object(&self, mut req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        req.input.key = self.names.stored(&req.input.key);
        if let CopySource::Bucket { key, .. } = &mut req.input.copy_source {
            *key = self.names.stored(key).into();
        }
        check_key_length(&req.input.bucket, &req.input.key, "")?;
        let _alone = self.order.write().await;
        self.check_placeable(&req.input.bucket, &req.input.key)?;
        self.fs.copy_object(req).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let _alone = self.order.write().await;
        self.remove(&req.input.bucket, &self.names.stored(&req.input.key))?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let _alone = self.order.write().await;
        let mut deleted = Vec::new();
        for object in req.input.delete.objects {
            self.remove(&req.input.bucket, &self.names.stored(&object.key))?;
            deleted.push(DeletedObject { key: Some(object.key), ..Default::default() });
        }
        Ok(S3Response::new(DeleteObjectsOutput { deleted: Some(deleted), ..Default::default() }))
    }

    async fn create_multipart_upload(
        &self,
        mut req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        req.input.key = self.names.stored(&req.input.key);
        const UPLOAD: &str = ".upload-00000000-0000-0000-0000-000000000000";
        check_key_length(&req.input.bucket, &req.input.key, UPLOAD)?;
        self.bucket_dir(&req.input.bucket)?;
        self.fs.create_multipart_upload(req).await
    }

    async fn upload_part(&self, mut req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        req.input.key = self.names.stored(&req.input.key);
        self.fs.upload_part(req).await
    }

    async fn upload_part_copy(&self, mut req: S3Request<UploadPartCopyInput>) -> S3Result<S3Response<UploadPartCopyOutput>> {
        req.input.key = self.names.stored(&req.input.key);
        if let CopySource::Bucket { key, .. } = &mut req.input.copy_source {
            *key = self.names.stored(key).into();
        }
        let _shared = self.order.read().await;
        self.fs.upload_part_copy(req).await
    }

    async fn complete_multipart_upload(
        &self,
        mut req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        req.input.key = self.names.stored(&req.input.key);
        let _alone = self.order.write().await;
        self.check_placeable(&req.input.bucket, &req.input.key)?;
        self.fs.complete_multipart_upload(req).await
    }

    async fn abort_multipart_upload(
        &self,
        mut req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        req.input.key = self.names.stored(&req.input.key);
        self.fs.abort_multipart_upload(req).await
    }
}
