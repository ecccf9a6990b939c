//! Lists the files below a location for garbage collection, including staging files, and with links as links.
//! Files behind a link are never removed. They are listed only on request.

use std::{
    collections::HashSet,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use object_store::ObjectMeta;

use super::{Location, location::blocking};
use crate::{
    error::{Error, Result},
    layout::staged_for,
};

/// A file below a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Relative to the location, with `/` between the parts.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// Microseconds since 1970, by the store's clock.
    pub(crate) modified_us: i64,
    pub(crate) kind: ListedKind,
}

/// What a listed file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListedKind {
    /// An object.
    Object,
    /// A file on this machine's disk that was begun and not published. Other stores have none.
    Staged,
    /// A link on this machine's disk, whatever its target.
    Link,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    /// Links are listed as links.
    Listed,
    /// Links are followed, except into a folder that is on the path already.
    Followed,
}

impl Location {
    /// All files below this location, in the order of their names; links are listed and not followed.
    pub(crate) async fn list_own(&self) -> Result<Vec<Listed>> {
        self.list_with(Links::Listed).await
    }

    /// All files that readers can reach below this location, also through links, in the order of their names.
    pub(crate) async fn list_reachable(&self) -> Result<Vec<Listed>> {
        self.list_with(Links::Followed).await
    }

    async fn list_with(&self, links: Links) -> Result<Vec<Listed>> {
        if let Some(dir) = self.local_dir() {
            return blocking(move || walk(&dir, links)).await;
        }
        let listed = self.list().await?.into_iter().map(|object| Listed {
            name: self.name_of(&object.location),
            bytes: object.size,
            modified_us: object.last_modified.timestamp_micros(),
            kind: ListedKind::Object,
        });
        Ok(listed.collect())
    }

    /// Adds the objects that the client for the local disk skips: it treats files that it cannot look at as missing.
    ///
    /// # Errors
    /// [`Error::Io`], with its path, for a file or a folder that cannot be read.
    pub(super) async fn add_passed_over(&self, found: &mut Vec<ObjectMeta>) -> Result<()> {
        let Some(dir) = self.local_dir() else { return Ok(()) };
        let there = blocking(move || walk(&dir, Links::Followed)).await?;
        if let Some(file) = there.iter().find(|file| is_odd(&file.name) && could_hold_rows(&file.name)) {
            return Err(Error::InvalidLocation {
                location: self.to_string(),
                reason: format!("it holds a file whose name no object can have ({:?}); rename that file", file.name),
            });
        }
        let known: HashSet<&object_store::path::Path> = found.iter().map(|object| &object.location).collect();
        let is_missing =
            |file: &Listed| file.kind == ListedKind::Object && !is_odd(&file.name) && !known.contains(&self.path(&file.name));
        let missing: Vec<Listed> = there.into_iter().filter(is_missing).collect();
        let tags: HashSet<Option<String>> = found.iter().map(|object| object.e_tag.clone()).collect();
        for file in missing {
            // A pipe is not an object; an object under another spelling of its name was listed already.
            let is_regular = self.local_path(&self.path(&file.name)).is_file();
            let Some(object) = (if is_regular { self.head(&file.name).await? } else { None }) else { continue };
            if !tags.contains(&object.e_tag) {
                found.push(object);
            }
        }
        Ok(())
    }

    /// Removes a file that [`Location::list_own`] listed, if it has not changed since. Returns whether it was removed.
    pub(crate) async fn delete_listed(&self, listed: &Listed) -> Result<bool> {
        if let Some(dir) = self.local_dir() {
            let listed = listed.clone();
            return blocking(move || delete(&dir, &listed)).await;
        }
        match self.head(&listed.name).await? {
            Some(now) if now.last_modified.timestamp_micros() == listed.modified_us && now.size == listed.bytes => {
                self.delete(&listed.name).await?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// A name that no object can have: with a control character, or not in UTF-8.
fn is_odd(name: &str) -> bool {
    name.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER)
}

/// May this file be meant as data, by the end of its name? Such a file must not be skipped.
fn could_hold_rows(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    [".csv", ".json", ".jsonl", ".ndjson", ".parquet", ".parq", ".pq"].iter().any(|end| name.ends_with(end))
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    |cause| Error::Io { path: path.into(), cause }
}

fn walk(root: &Path, links: Links) -> Result<Vec<Listed>> {
    let mut found = Vec::new();
    // Each folder with the canonical paths of the folders that lead to it.
    let real = |dir: &Path| fs::canonicalize(dir).unwrap_or_else(|_| dir.into());
    let mut left: Vec<(PathBuf, Vec<PathBuf>)> = vec![(root.to_path_buf(), vec![real(root)])];
    while let Some((dir, way)) = left.pop() {
        let failed = failed(&dir);
        let entries = match fs::read_dir(&dir) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            entries => entries.map_err(&failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(&failed)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(&failed)?);
            let is_link = kind.is_symlink();
            let meta = match is_link && links == Links::Followed {
                true => fs::metadata(&path),
                false => fs::symlink_metadata(&path),
            };
            let meta = match meta {
                // The file may have been removed since the folder was read; a link may be dangling.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                // To skip a file that cannot be looked at would mean that it is not there.
                meta => meta.map_err(self::failed(&path))?,
            };
            if meta.is_dir() {
                let real = if links == Links::Followed { real(&path) } else { path.clone() };
                if !way.contains(&real) {
                    let way = if links == Links::Followed { [way.as_slice(), &[real]].concat() } else { Vec::new() };
                    left.push((path, way));
                }
                continue;
            }
            let kind = match entry.file_name().to_str() {
                _ if is_link && links == Links::Listed => ListedKind::Link,
                Some(name) if staged_for(name).is_some() => ListedKind::Staged,
                _ => ListedKind::Object,
            };
            let parts = path.strip_prefix(root).unwrap_or(&path).iter().map(|part| part.to_string_lossy());
            let name = parts.collect::<Vec<_>>().join("/");
            let modified_us = modified_us(&meta).map_err(&failed)?;
            found.push(Listed { name, bytes: meta.len(), modified_us, kind });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn modified_us(meta: &fs::Metadata) -> std::io::Result<i64> {
    Ok(chrono::DateTime::<chrono::Utc>::from(meta.modified()?).timestamp_micros())
}

fn delete(root: &Path, listed: &Listed) -> Result<bool> {
    let mut path = root.to_path_buf();
    for part in listed.name.split('/') {
        path.push(part);
        // A folder may have become a link since it was listed.
        let meta = match fs::symlink_metadata(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            meta => meta.map_err(failed(&path))?,
        };
        if meta.is_symlink() {
            return Ok(false);
        }
        if !meta.is_dir() && (modified_us(&meta).map_err(failed(&path))?, meta.len()) != (listed.modified_us, listed.bytes) {
            return Ok(false);
        }
    }
    match fs::remove_file(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true).map_err(failed(&path)),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_listed_or_followed_and_never_round_in_circles() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("kept"), "outside").unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        for name in ["a/x", "a/b/y#12", "z"] {
            fs::write(root.path().join(name), "inside").unwrap();
        }
        symlink(outside.path(), root.path().join("a/out")).unwrap();
        symlink(root.path(), root.path().join("a/b/up")).unwrap();
        symlink("nowhere", root.path().join("a/b/dead")).unwrap();
        symlink(root.path().join("z"), root.path().join("link")).unwrap();
        let names = |links| walk(root.path(), links).unwrap().into_iter().map(|file| (file.name, file.kind)).collect::<Vec<_>>();
        use ListedKind::{Link, Object, Staged};
        let expected =
            [("a/b/dead", Link), ("a/b/up", Link), ("a/b/y#12", Staged), ("a/out", Link), ("a/x", Object), ("link", Link)];
        let expected = expected.into_iter().chain([("z", Object)]).map(|(name, kind)| (name.to_owned(), kind));
        assert_eq!(names(Links::Listed), expected.collect::<Vec<_>>());
        let expected = [("a/b/y#12", Staged), ("a/out/kept", Object), ("a/x", Object), ("link", Object), ("z", Object)];
        assert_eq!(names(Links::Followed), expected.map(|(name, kind)| (name.to_owned(), kind)));

        // A file behind a link is not removed, whatever a listing says.
        let behind = Listed { name: "a/out/kept".into(), ..walk(outside.path(), Links::Listed).unwrap().remove(0) };
        assert!(!delete(root.path(), &behind).unwrap());
        let own = walk(root.path(), Links::Listed).unwrap().into_iter().find(|file| file.name == "z").unwrap();
        assert!(!delete(root.path(), &Listed { bytes: 1, ..own.clone() }).unwrap());
        assert!(delete(root.path(), &own).unwrap() && !delete(root.path(), &own).unwrap());
        assert!(outside.path().join("kept").exists() && !root.path().join("z").exists());
    }
}
