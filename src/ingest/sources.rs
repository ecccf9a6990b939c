//! Source files: which ones a path, glob or folder means, and what makes a load the same load.
//! It opens nothing but what it has to hash.

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
pub(crate) struct Source {
    pub(crate) place: Location,
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
    /// As its first bytes say: its name does not tell.
    ByContent,
}

impl Source {
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

    /// Is the file still what it was when it was found? `read` is the hash of what was read of it, if that was all.
    ///
    /// # Errors
    /// [`Error::SourceChanged`] when it is not.
    pub(crate) async fn check_unchanged(&self, read: Option<ContentId>) -> Result<()> {
        let changed = |change| Err(Error::SourceChanged { path: self.shown(), change });
        if let (Some(was), Some(read)) = (self.identity.hash, read) {
            return if was == read { Ok(()) } else { changed("has changed") };
        }
        let Some(now) = self.place.head(&self.place.name_of(&self.object.location)).await? else {
            return changed("has vanished");
        };
        let is_same = match self.identity.hash {
            _ if now.size != self.identity.size => false,
            // The times of a local file prove nothing: two writes may share one.
            Some(was) => self.place.hash(&now).await.is_ok_and(|hash| hash == was),
            None => now.e_tag == self.identity.e_tag,
        };
        if is_same { Ok(()) } else { changed("has changed") }
    }

    /// What tells it from every source with another content.
    pub(crate) fn content(&self) -> String {
        self.identity.content_at(&self.place, &self.place.name_of(&self.object.location))
    }

    /// The name for messages.
    pub(crate) fn shown(&self) -> String {
        self.place.child(&self.place.name_of(&self.object.location)).to_string()
    }
}

/// What a file's name tells about it.
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
pub(crate) struct Found {
    /// Those of different contents, in the order of their names.
    pub(crate) sources: Vec<Source>,
    /// Those that are copies of others: their names, and those of the others.
    pub(crate) copies: Vec<(String, String)>,
}

/// The files that a load reads.
pub(crate) async fn find(locations: &Locations, ingest: &Ingest) -> Result<Found> {
    let (mut sources, mut copies) = (Vec::<Source>::new(), Vec::new());
    for text in &ingest.sources {
        let (folder, pattern) = if is_name(locations, text).await? { (text.as_str(), None) } else { split_glob(text) };
        let place = locations.open(folder)?;
        let shown = pattern.map_or(place.to_string(), |pattern| format!("{place}/{pattern}"));
        let pattern = pattern
            .map(|p| {
                glob::Pattern::new(p)
                    .map_err(|e| Error::InvalidLocation { location: without_credentials(text), reason: e.to_string() })
            })
            .transpose()?;
        let single = match (&pattern, place.split_file()) {
            (None, Some((parent, name))) => parent.head(&name).await?.map(|object| (parent, object)),
            _ => None,
        };
        let found: Vec<_> = match single {
            Some(file) => vec![file],
            None => place.list().await?.into_iter().map(|object| (place.clone(), object)).collect(),
        };
        let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
        let wanted = found.into_iter().filter_map(|(place, object)| {
            let name = place.name_of(&object.location);
            let is_wanted = pattern.as_ref().is_none_or(|p| p.matches_with(&name, options)) && !is_hidden(&name);
            let (format, compression) = format_of(ingest, &name).filter(|_| is_wanted)?;
            Some(async move {
                let identity = place.identify(&object).await?;
                Ok::<_, Error>(Source { place, object, name, format, compression, identity })
            })
        });
        // Collected, so that nothing is borrowed while they are identified; several at once, in their order.
        let wanted: Vec<_> = wanted.collect();
        let found_any = !wanted.is_empty();
        let mut found = futures::stream::iter(wanted).buffered(IDENTIFIED_AT_ONCE);
        while let Some(source) = found.try_next().await? {
            // A file that two of the sources name, or a copy of one whose content is known by its hash, is one source.
            let content = source.content();
            match sources.iter().find(|known| known.content() == content) {
                None => sources.push(source),
                // Named twice it is no copy.
                Some(known) if known.place.base() == source.place.base() && known.object.location == source.object.location => {}
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
    Ok(Found { sources, copies })
}

/// Files that are identified at once: those of this machine are hashed.
const IDENTIFIED_AT_ONCE: usize = 8;

/// Is a text with wildcards the name of something that is there?
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
