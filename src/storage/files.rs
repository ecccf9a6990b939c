//! The identity of a stored file: size, entity tag, and a content hash where the tag does not prove the content.
//! Callers decide what a change means.

use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStoreExt, path::Path};
use serde::{Deserialize, Serialize};

use super::{Location, local_file, location::blocking};
use crate::{
    error::{Error, Result},
    name::ContentId,
};

/// What a file was when it was registered.
///
/// A remote store's entity tag identifies the content of one path in one store; tags of different paths cannot be compared. The
/// tag of a local file consists of inode, size, and the times of the last change of content and inode; tags in memory are
/// counters. Local files and files in memory are hashed as well: a copied root has the same identities, and a file rewritten in
/// place has another identity even if its size and modification time are the same. This needs a file system that stores the
/// time of a file's last change (Unix) to 10 ms or finer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
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
    /// The part of the identity that copies of a file share: the hash if there is one, else the entity tag.
    pub(crate) fn content(&self) -> String {
        match (&self.hash, &self.e_tag) {
            (Some(hash), _) => hash.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => format!("size {}", self.size),
        }
    }

    /// Identifies the content among all objects of all paths: the hash if there is one, else the tag and the object's name.
    pub(crate) fn content_at(&self, place: &Location, name: &str) -> String {
        match self.hash {
            Some(_) => self.content(),
            None => format!("{} of {}", self.content(), place.child(name).full_name()),
        }
    }
}

impl Location {
    /// Refuses files of this machine whose read could block for ever: named pipes, sockets and devices.
    pub(crate) fn check_regular(&self, path: &Path) -> Result<()> {
        if !self.is_local() {
            return Ok(());
        }
        match std::fs::metadata(self.local_path(path)) {
            Ok(found) if !found.is_file() && !found.is_dir() => Err(Error::UnreadableFile {
                path: self.child(&self.name_of(path)).to_string(),
                reason: "it is not a regular file but a pipe, a socket or a device; write its content to a file".into(),
            }),
            // Opening the file reports what is wrong with it.
            _ => Ok(()),
        }
    }

    /// The identity of a listed object. The object is read only when its tag does not prove its content: on this machine and in
    /// memory.
    ///
    /// # Errors
    /// [`Error::ObjectChanged`] when it is not what was listed, or changes while it is read.
    pub(crate) async fn identify(&self, meta: &ObjectMeta) -> Result<FileIdentity> {
        self.check_regular(&meta.location)?;
        if self.is_local() {
            let (path, size) = (self.local_path(&meta.location), meta.size);
            return blocking(move || local_file::identify(&path, size, |_| {})).await;
        }
        let is_content = self.origin().is_some() && meta.e_tag.is_some();
        let hash = if is_content { None } else { Some(self.hash(meta).await?) };
        Ok(FileIdentity { size: meta.size, e_tag: meta.e_tag.clone(), hash })
    }

    /// Is the object still the same? This takes one metadata request. The content is hashed only when the tag of a file with a
    /// known hash has changed, and then once per process.
    pub(crate) async fn is_unchanged(&self, meta: &ObjectMeta, was: &FileIdentity) -> Result<bool> {
        if meta.size != was.size {
            return Ok(false);
        }
        // For a local file this is cheap: its metadata was read a moment ago.
        let tag = if self.is_local() { local_file::tag(&self.local_path(&meta.location)) } else { meta.e_tag.clone() };
        if tag.is_some() && tag == was.e_tag {
            return Ok(true);
        }
        let Some(hash) = was.hash else { return Ok(false) };
        if self.is_local() {
            let (path, size) = (self.local_path(&meta.location), meta.size);
            return blocking(move || Ok(local_file::hash_once(&path, size)? == hash)).await;
        }
        Ok(self.hash(meta).await? == hash)
    }

    /// The entity tag of a listed object as identities hold it.
    pub(crate) async fn tag(&self, meta: &ObjectMeta) -> Result<Option<String>> {
        Ok(self.tags(std::slice::from_ref(meta)).await?.into_iter().next().flatten())
    }

    /// The entity tags of listed objects; `None` for one that is gone.
    pub(crate) async fn tags(&self, metas: &[ObjectMeta]) -> Result<Vec<Option<String>>> {
        if !self.is_local() {
            return Ok(metas.iter().map(|meta| meta.e_tag.clone()).collect());
        }
        let paths: Vec<_> = metas.iter().map(|meta| self.local_path(&meta.location)).collect();
        blocking(move || Ok(paths.iter().map(|path| local_file::tag(path)).collect())).await
    }

    /// The content hash of an object, by reading it.
    pub(crate) async fn hash(&self, meta: &ObjectMeta) -> Result<ContentId> {
        if self.is_local() {
            let (path, size) = (self.local_path(&meta.location), meta.size);
            return blocking(move || local_file::hash(&path, size, |_| {})).await;
        }
        let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
        let mut chunks = self.store().get(&meta.location).await?.into_stream();
        while let Some(chunk) = chunks.try_next().await? {
            hasher.update(&chunk);
            bytes += chunk.len() as u64;
        }
        // A store may send fewer bytes than the object has, without an error.
        if bytes != meta.size {
            let path = self.child(&self.name_of(&meta.location)).to_string();
            return Err(Error::ObjectChanged { path, change: "has another length" });
        }
        Ok(ContentId::from_hash(hasher.finalize()))
    }
}
