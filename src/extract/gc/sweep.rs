//! The collection itself: list, read what is needed, remove the rest, the publishing files first.
//! It decides nothing twice: a dry run lists exactly what a deletion at the same moment removes.
//!
//! Files are listed before references are read, so whatever was published while it looked is seen. Each file is looked at
//! once more before it goes: a writer that comes upon a file of its own name that a crash left writes it again first, and a
//! file of another time than the one listed is left alone.

use std::sync::Arc;

use object_store::ObjectMeta;

use super::{
    Garbage, Gc, GcMode, GcReport, Why,
    layout::{Kind, kind_of},
    references::{References, references},
};
use crate::{
    error::Result,
    materialize::Materializer,
    time::{AsOf, Clock},
};

/// The default place of the cache, which holds no truth and is not in any listing of what does.
const CACHE: &str = ".asof-cache/";

/// Collects garbage.
pub(crate) async fn run(m: &Arc<Materializer>, clock: &dyn Clock, gc: &Gc) -> Result<GcReport> {
    let now = clock.now();
    let listed = m.root.list().await?;
    let staged = m.root.staged().await?;
    let references = references(m, gc, now).await?;

    let is_old = |modified_us: i64| modified_us.saturating_add(gc.grace_us) <= now.micros();
    let mut report = GcReport { mode: gc.mode, removed: Vec::new(), young_count: 0, unknown: Vec::new() };
    let (mut publishing, mut files) = (Vec::new(), Vec::new());
    for object in &listed {
        let path = m.root.name_of(&object.location);
        if path.starts_with(CACHE) {
            continue;
        }
        let kind = kind_of(&path);
        let why = match judge(&references, &kind, &path) {
            Fate::Kept => continue,
            Fate::Unknown => {
                report.unknown.push(path);
                continue;
            }
            Fate::Garbage(why) => why,
        };
        if !is_old(AsOf::from(object.last_modified).micros()) {
            report.young_count += 1;
            continue;
        }
        let garbage = Garbage { path, why, bytes: object.size };
        match kind {
            Kind::Version(..) | Kind::Record(_) => publishing.push((garbage, object)),
            _ => files.push((garbage, object)),
        }
    }
    for (garbage, object) in publishing.into_iter().chain(files) {
        if gc.mode == GcMode::DryRun || remove(m, &garbage, object).await? {
            report.removed.push(garbage);
        }
    }
    let root = m.root.local_dir().unwrap_or_default();
    for file in staged {
        let path = file.path.strip_prefix(&root).unwrap_or(&file.path).to_string_lossy().replace('\\', "/");
        // What this library would have written under the name it was to get; others may have staging files of their own.
        let name = path.rsplit_once('#').map_or(path.as_str(), |(name, _)| name);
        if path.starts_with(CACHE) || references.keeps(&path) || kind_of(name) == Kind::Unknown {
            continue;
        }
        if !is_old(file.modified_us) {
            report.young_count += 1;
            continue;
        }
        if gc.mode == GcMode::Delete {
            file.remove()?;
        }
        report.removed.push(Garbage { path, why: Why::Staged, bytes: file.bytes });
    }
    Ok(report)
}

enum Fate {
    Kept,
    Garbage(Why),
    Unknown,
}

fn judge(references: &References, kind: &Kind, path: &str) -> Fate {
    if references.keeps(path) {
        return Fate::Kept;
    }
    let expired = || references.expired.contains(path).then_some(Fate::Garbage(Why::Expired));
    let unreferenced = Fate::Garbage(Why::Unreferenced);
    match kind {
        Kind::Kept | Kind::Manifest => Fate::Kept,
        Kind::Unknown => Fate::Unknown,
        Kind::Version(..) if references.old_versions.contains(path) => Fate::Garbage(Why::OldVersion),
        Kind::Version(..) => Fate::Kept,
        Kind::Fact if references.of_old_versions.contains(path) => Fate::Garbage(Why::OldVersion),
        Kind::Fact | Kind::Part => unreferenced,
        Kind::OfLoad(load) if references.loads.contains(load) => Fate::Kept,
        Kind::OfLoad(_) => unreferenced,
        Kind::Record(_) => expired().unwrap_or(Fate::Kept),
        Kind::Rows(_) => expired().unwrap_or(unreferenced),
    }
}

/// Removes a file that is still the one that was listed; was it?
async fn remove(m: &Materializer, garbage: &Garbage, listed: &ObjectMeta) -> Result<bool> {
    match m.root.head(&garbage.path).await? {
        Some(now) if now.last_modified == listed.last_modified && now.size == listed.size => {
            m.root.delete(&garbage.path).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}
