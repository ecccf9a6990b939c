//! What makes a stored file the same file: size, entity tag, and a content hash where the tag is no proof.
//! It never decides what to do about a change; it only tells.

use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStoreExt, path::Path};
use serde::{Deserialize, Serialize};

use super::Location;
use crate::{
    error::{Error, Result},
    name::ContentId,
};

/// What a file was when it was registered.
///
/// A remote store's entity tag stands for the content. A local file's tag is made of its inode and time, and tags in memory are
/// counted, so their content is hashed as well: a copied root is the same root, and a file rewritten in place is another file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Size in bytes.
    pub size: u64,
    /// The store's entity tag, if it gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_tag: Option<String>,
    /// The content hash, for files of this machine, files in memory and files that this library wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<ContentId>,
}

impl FileIdentity {
    /// The part of the identity that two copies of a file share: the hash, else the entity tag.
    pub(crate) fn content(&self) -> String {
        match (&self.hash, &self.e_tag) {
            (Some(hash), _) => hash.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => format!("size {}", self.size),
        }
    }
}

impl Location {
    /// Refuses what a read of could wait for ever: named pipes, sockets and devices of this machine.
    pub(crate) fn check_regular(&self, path: &Path) -> Result<()> {
        if !self.is_local() {
            return Ok(());
        }
        match std::fs::metadata(self.local_path(path)) {
            Ok(found) if !found.is_file() && !found.is_dir() => Err(Error::UnreadableFile {
                path: self.child(&self.name_of(path)).to_string(),
                reason: "it is not a regular file but a pipe, a socket or a device; write its content to a file".into(),
            }),
            // Whoever opens it tells what is wrong with it.
            _ => Ok(()),
        }
    }

    /// The identity of a listed object; reads the object only when its tag does not stand for its content, as on this machine
    /// and in memory.
    pub(crate) async fn identify(&self, meta: &ObjectMeta) -> Result<FileIdentity> {
        self.check_regular(&meta.location)?;
        let is_content = self.origin().is_some() && meta.e_tag.is_some();
        let hash = if is_content { None } else { Some(self.hash(meta).await?) };
        Ok(FileIdentity { size: meta.size, e_tag: meta.e_tag.clone(), hash })
    }

    /// Is the object still what it was? One metadata request; the content is hashed only when the tag of a file whose
    /// hash is known has moved.
    pub(crate) async fn is_unchanged(&self, meta: &ObjectMeta, was: &FileIdentity) -> Result<bool> {
        if meta.size != was.size {
            return Ok(false);
        }
        if meta.e_tag.is_some() && meta.e_tag == was.e_tag {
            return Ok(true);
        }
        match was.hash {
            Some(hash) => Ok(self.hash(meta).await? == hash),
            None => Ok(false),
        }
    }

    /// The content hash of an object, by reading it.
    pub(crate) async fn hash(&self, meta: &ObjectMeta) -> Result<ContentId> {
        let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
        let mut chunks = self.store().get(&meta.location).await?.into_stream();
        while let Some(chunk) = chunks.try_next().await? {
            hasher.update(&chunk);
            bytes += chunk.len() as u64;
        }
        // A store may send less than it has, and say nothing.
        if bytes != meta.size {
            let path = self.child(&self.name_of(&meta.location)).to_string();
            return Err(Error::ObjectChanged { path, change: "has another length" });
        }
        Ok(hasher.finalize().into())
    }
}
