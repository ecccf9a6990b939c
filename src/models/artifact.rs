//! The bytes of a model on their way into the root: copied to a temporary file and hashed, before their folder is known.
//! Where they are put is decided by the caller.

use std::io::{BufWriter, Write};

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use tempfile::NamedTempFile;

use super::new::ArtifactSource;
use crate::{
    error::{Error, Result},
    layout::MODEL_ARTIFACT,
    manifest::ArtifactRecord,
    name::ContentId,
    storage::{Location, Locations, scratch_file, without_credentials},
};

/// The longest location of an artifact, in bytes.
const LOCATION_BYTES_AT_MOST: usize = 4 << 10;

/// An artifact whose hash is known.
pub(super) struct Prepared {
    pub(super) record: ArtifactRecord,
    /// The bytes; `None` when they lie elsewhere.
    copy: Option<NamedTempFile>,
}

impl Prepared {
    /// Reads the bytes, unless they lie elsewhere.
    pub(super) async fn of(locations: &Locations, subject: &str, source: ArtifactSource) -> Result<Self> {
        match source {
            ArtifactSource::Bytes(bytes) => {
                let mut copy = Copy::create()?;
                copy.write(&bytes)?;
                copy.finish()
            }
            ArtifactSource::File(location) => copied(locations, &location).await,
            ArtifactSource::Elsewhere { location, hash, size } => {
                let location = Some(location_elsewhere(subject, &location)?);
                Ok(Self { record: ArtifactRecord { hash, size, location }, copy: None })
            }
        }
    }

    /// Puts the bytes into the folder of their model. Bytes that lie there from a crash are written again, so that they are as
    /// young as a garbage collection needs them to be.
    pub(super) async fn put(&self, folder: &Location) -> Result<()> {
        match &self.copy {
            Some(copy) => folder.upload(MODEL_ARTIFACT, copy.reopen().map_err(Error::temporary_file)?).await,
            None => Ok(()),
        }
    }

    /// Puts the bytes into the folder of a model that is recorded, if what lies there is not what was recorded.
    pub(super) async fn mend(&self, folder: &Location) -> Result<()> {
        if self.copy.is_none() {
            return Ok(());
        }
        let is_whole = match folder.head(MODEL_ARTIFACT).await? {
            Some(object) if object.size == self.record.size => folder.hash(&object).await? == self.record.hash,
            _ => false,
        };
        if is_whole { Ok(()) } else { self.put(folder).await }
    }
}

/// Where bytes lie that stay there, as it is recorded.
fn location_elsewhere(subject: &str, text: &str) -> Result<String> {
    let refused = |location: String, reason: &str| Err(Error::InvalidLocation { location, reason: reason.into() });
    let shown = without_credentials(text);
    if text.trim().is_empty() {
        return refused(shown, &format!("say where the artifact of {subject} lies, as a path or a URL"));
    }
    if text.len() > LOCATION_BYTES_AT_MOST {
        return refused(format!("of {} bytes", text.len()), &format!("it may have at most {LOCATION_BYTES_AT_MOST} bytes"));
    }
    if text.contains(char::is_control) {
        return refused(shown.escape_debug().to_string(), "it has control characters; write them as `%` and two digits");
    }
    if text.contains("://") {
        return Ok(shown);
    }
    match std::path::absolute(text) {
        Ok(path) => Ok(path.to_string_lossy().into_owned()),
        Err(cause) => refused(shown, &cause.to_string()),
    }
}

async fn copied(locations: &Locations, text: &str) -> Result<Prepared> {
    let place = locations.open(text)?;
    let missing = || Error::NoFiles { what: "file with a model", location: place.to_string() };
    let (folder, name) = place.split_file().ok_or_else(missing)?;
    let object = folder.head(&name).await?.ok_or_else(missing)?;
    let mut copy = Copy::create()?;
    let mut chunks = folder.store().get(&object.location).await?.into_stream();
    while let Some(chunk) = chunks.try_next().await? {
        copy.write(&chunk)?;
    }
    let copy = copy.finish()?;
    let is_same = folder
        .head(&name)
        .await?
        .is_some_and(|now| (now.size, now.last_modified, &now.e_tag) == (object.size, object.last_modified, &object.e_tag));
    match is_same && copy.record.size == object.size {
        true => Ok(copy),
        false => Err(Error::UnreadableFile {
            path: place.to_string(),
            reason: "it has changed while it was copied, or did not arrive whole; record the model again when nobody writes it"
                .into(),
        }),
    }
}

/// A temporary file that is hashed while it is written.
struct Copy {
    file: NamedTempFile,
    sink: BufWriter<std::fs::File>,
    hasher: blake3::Hasher,
    size: u64,
}

impl Copy {
    fn create() -> Result<Self> {
        let file = scratch_file("asof-model-").map_err(Error::temporary_file)?;
        let sink = BufWriter::with_capacity(1 << 20, file.reopen().map_err(Error::temporary_file)?);
        Ok(Self { file, sink, hasher: blake3::Hasher::new(), size: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.sink.write_all(bytes).map_err(Error::temporary_file)
    }

    fn finish(mut self) -> Result<Prepared> {
        self.sink.flush().map_err(Error::temporary_file)?;
        let record = ArtifactRecord { hash: ContentId::from_hash(self.hasher.finalize()), size: self.size, location: None };
        Ok(Prepared { record, copy: Some(self.file) })
    }
}
