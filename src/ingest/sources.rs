//! Source files: finds the files of a path, glob or folder, and identifies them by their content.

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;

use super::{load::Ingest, options::Format};
use crate::{
    catalog::{LoadedSource, is_hidden},
    error::{Error, Result},
    name::ContentId,
    storage::{FileIdentity, Location, Locations, without_credentials},
    time::AsOf,
};

/// A file to load.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    /// The folder that its name is relative to.
    pub(crate) location: Location,
    pub(crate) object: ObjectMeta,
    /// The name relative to the folder that was given.
    pub(crate) name: String,
    pub(crate) format: Format,
    pub(crate) compression: Compression,
    pub(crate) identity: FileIdentity,
}

/// How the bytes of a text file are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    /// Its first bytes show it.
    ByContent,
}

impl SourceFile {
    /// The source as a load records it.
    pub(crate) fn record(&self, rejected: u64) -> LoadedSource {
        LoadedSource {
            name: self.name.clone(),
            content: self.content(),
            rejected,
            bytes: Some(self.object.size),
            modified: Some(AsOf::from_micros(self.object.last_modified.timestamp_micros())),
        }
    }

    /// Checks that the file is still what it was when it was found. `read` is the hash of what was read of it, if all of it was.
    ///
    /// # Errors
    /// [`Error::SourceChanged`] if it is not.
    pub(crate) async fn check_unchanged(&self, read: Option<ContentId>) -> Result<()> {
        let changed = |change| Err(Error::SourceChanged { path: self.shown(), change });
        if let (Some(was), Some(read)) = (self.identity.hash, read) {
            return if was == read { Ok(()) } else { changed("has changed") };
        }
        let Some(now) = self.location.head(&self.location.name_of(&self.object.location)).await? else {
            return changed("has vanished");
        };
        let is_same = match self.identity.hash {
            _ if now.size != self.identity.size => false,
            // The modification time of a local file proves nothing: two writes may have the same one.
            Some(was) => self.location.hash(&now).await.is_ok_and(|hash| hash == was),
            None => now.e_tag == self.identity.e_tag,
        };
        if is_same { Ok(()) } else { changed("has changed") }
    }

    /// Identifies the content: different for every other content.
    pub(crate) fn content(&self) -> String {
        self.identity.content_at(&self.location, &self.location.name_of(&self.object.location))
    }

    /// The name that messages show.
    pub(crate) fn shown(&self) -> String {
        self.location.child(&self.location.name_of(&self.object.location)).to_string()
    }
}

/// The format and compression that a file's name gives.
fn format_of(ingest: &Ingest, name: &str) -> Option<(Format, Compression)> {
    if let Some(format) = ingest.format {
        return Some((format, Compression::ByContent));
    }
    let name = name.to_ascii_lowercase();
    let (name, compression) = match (name.strip_suffix(".gz"), name.strip_suffix(".zst")) {
        (Some(inner), _) => (inner, Compression::Gzip),
        (_, Some(inner)) => (inner, Compression::Zstd),
        _ => (name.as_str(), Compression::None),
    };
    let ends_with = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    match compression {
        _ if ends_with(&[".csv"]) => Some((Format::Csv, compression)),
        _ if ends_with(&[".jsonl", ".ndjson", ".json"]) => Some((Format::JsonLines, compression)),
        Compression::None if ends_with(&[".parquet"]) => Some((Format::Parquet, compression)),
        _ => None,
    }
}

/// The files that a load was given.
#[derive(Debug, Clone, Default)]
pub(crate) struct FoundSources {
    /// Files of different contents, in the order of their names.
    pub(crate) sources: Vec<SourceFile>,
    /// Copies of these files: the name of the copy and of the original.
    pub(crate) copies: Vec<(String, String)>,
}

/// Finds the source files of a load.
pub(crate) async fn find(locations: &Locations, ingest: &Ingest) -> Result<FoundSources> {
    let (mut sources, mut copies) = (Vec::<SourceFile>::new(), Vec::new());
    for text in &ingest.sources {
        let (folder, pattern) = if is_name(locations, text).await? { (text.as_str(), None) } else { split_glob(text) };
        let location = locations.open(folder)?;
        let shown = pattern.map_or(location.to_string(), |pattern| format!("{location}/{pattern}"));
        let pattern = pattern
            .map(|p| {
                glob::Pattern::new(p)
                    .map_err(|e| Error::InvalidLocation { location: without_credentials(text), reason: e.to_string() })
            })
            .transpose()?;
        let single = match (&pattern, location.split_file()) {
            (None, Some((parent, name))) => parent.head(&name).await?.map(|object| (parent, object)),
            _ => None,
        };
        let found: Vec<_> = match single {
            Some(file) => vec![file],
            None => location.list().await?.into_iter().map(|object| (location.clone(), object)).collect(),
        };
        let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
        let wanted = found.into_iter().filter_map(|(location, object)| {
            let name = location.name_of(&object.location);
            let is_wanted = pattern.as_ref().is_none_or(|p| p.matches_with(&name, options)) && !is_hidden(&name);
            let (format, compression) = format_of(ingest, &name).filter(|_| is_wanted)?;
            Some(async move {
                let identity = location.identify(&object).await?;
                Ok::<_, Error>(SourceFile { location, object, name, format, compression, identity })
            })
        });
        // Collected first, so that nothing is borrowed while they are identified.
        let wanted: Vec<_> = wanted.collect();
        let found_any = !wanted.is_empty();
        let mut found = futures::stream::iter(wanted).buffered(IDENTIFIED_AT_ONCE);
        while let Some(source) = found.try_next().await? {
            // A file that is named twice, or a copy whose hash is known, is one source.
            let content = source.content();
            match sources.iter().find(|known| known.content() == content) {
                None => sources.push(source),
                // The same file, named twice, is not a copy.
                Some(known)
                    if known.location.base() == source.location.base() && known.object.location == source.object.location => {}
                Some(known) => copies.push((source.name, known.name.clone())),
            }
        }
        if !found_any {
            return Err(Error::NoFiles { what: "CSV, JSON or Parquet files", location: shown.clone() });
        }
    }
    if sources.is_empty() {
        return Err(Error::NoFiles { what: "CSV, JSON or Parquet files", location: "(no source was given)".into() });
    }
    Ok(FoundSources { sources, copies })
}

/// The number of files that are identified at once. Local files are hashed.
const IDENTIFIED_AT_ONCE: usize = 8;

/// Is a text with wildcards the name of an existing file or folder?
async fn is_name(locations: &Locations, text: &str) -> Result<bool> {
    if !text.contains(['*', '?', '[']) {
        return Ok(true);
    }
    if !text.contains("://") {
        return Ok(locations.open(text)?.local_dir().is_some_and(|path| path.exists()));
    }
    match text.contains(['*', '?']) {
        true => Ok(false),
        false => match locations.open(text)?.split_file() {
            Some((folder, name)) => Ok(folder.head(&name).await?.is_some()),
            None => Ok(false),
        },
    }
}

/// The folder before the first part with a wildcard, and the pattern below it.
fn split_glob(text: &str) -> (&str, Option<&str>) {
    let Some(wildcard) = text.find(['*', '?', '[']) else { return (text, None) };
    match text[..wildcard].rfind('/') {
        Some(slash) => (&text[..=slash], Some(&text[slash + 1..])),
        None => (".", Some(text)),
    }
}
