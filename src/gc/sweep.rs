//! The collection itself: lists files, reads what is published, and removes the rest, publishing files first.
//! A dry run lists exactly what a deletion at the same moment removes.
//!
//! Files are listed before references are read, so nothing that is published in between is missed. Before a file is removed it
//! is checked again, and kept if its modification time has changed: a writer that finds a file of a crash under the name it is
//! about to write writes the file again first. What lies behind a link belongs to somebody else and is never removed.

use super::{
    Garbage, Gc, GcMode, GcReport, Reason,
    path_kind::{PathKind, path_kind},
    references::{References, references},
};
use crate::{
    error::Result,
    layout::{is_in_cache, staged_for},
    storage::{ListedKind, sweep_scratch},
    time::Clock,
    workspace::Workspace,
};

/// Collects garbage.
pub(crate) async fn run(workspace: &Workspace, clock: &dyn Clock, gc: &Gc) -> Result<GcReport> {
    let now = clock.now();
    let listed = workspace.root.list_own().await?;
    let references = references(workspace, gc, now).await?;

    let is_old = |modified_us: i64| modified_us.saturating_add(gc.grace_us) <= now.micros();
    let mut report = GcReport { mode: gc.mode, removed: Vec::new(), young_count: 0, unknown: Vec::new() };
    let (mut publishing, mut files, mut staged) = (Vec::new(), Vec::new(), Vec::new());
    for file in &listed {
        let path = file.name.clone();
        // The cache can be rebuilt, and is not reported.
        if is_in_cache(&path) {
            continue;
        }
        let kind = match file.kind {
            // What a link leads to belongs to whoever made the link.
            ListedKind::Link => PathKind::Unknown,
            ListedKind::Object => path_kind(&path),
            // A staging file has the kind of the name that it was to get. Others may have staging files of their own.
            ListedKind::Staged => match path_kind(staged_for(&path).unwrap_or(&path)) {
                PathKind::Unknown => continue,
                kind => kind,
            },
        };
        let reason = match (file.kind, decide(&references, &kind, &path)) {
            (ListedKind::Staged, _) if references.keeps(&path) => continue,
            (ListedKind::Staged, _) => Reason::Staged,
            (_, Decision::Kept) => continue,
            (_, Decision::Unknown) => {
                report.unknown.push(path);
                continue;
            }
            (_, Decision::Garbage(reason)) => reason,
        };
        if !is_old(file.modified_us) {
            report.young_count += 1;
            continue;
        }
        let garbage = Garbage { path, reason, bytes: file.bytes };
        match kind {
            _ if reason == Reason::Staged => staged.push((garbage, file)),
            PathKind::Version(..) | PathKind::ExtractRecord(_) => publishing.push((garbage, file)),
            _ => files.push((garbage, file)),
        }
    }
    for (garbage, file) in publishing.into_iter().chain(files).chain(staged) {
        if gc.mode == GcMode::DryRun || workspace.root.delete_listed(file).await? {
            report.removed.push(garbage);
        }
    }
    if gc.mode == GcMode::Delete {
        sweep_scratch();
    }
    Ok(report)
}

enum Decision {
    Kept,
    Garbage(Reason),
    Unknown,
}

fn decide(references: &References, kind: &PathKind, path: &str) -> Decision {
    if references.keeps(path) {
        return Decision::Kept;
    }
    let expired = || references.expired.contains(path).then_some(Decision::Garbage(Reason::Expired));
    let unreferenced = Decision::Garbage(Reason::Unreferenced);
    match kind {
        PathKind::Kept | PathKind::Manifest | PathKind::TrainingManifest | PathKind::ModelRecord => Decision::Kept,
        PathKind::Unknown => Decision::Unknown,
        PathKind::Version(..) if references.old_versions.contains(path) => Decision::Garbage(Reason::OldVersion),
        PathKind::Version(..) => Decision::Kept,
        PathKind::Fact if references.of_old_versions.contains(path) => Decision::Garbage(Reason::OldVersion),
        PathKind::Fact | PathKind::Part | PathKind::TrainingPart | PathKind::ModelArtifact => unreferenced,
        PathKind::Tile(table, file) if references.tiled_files.contains(&(table.clone(), file.clone())) => Decision::Kept,
        PathKind::Tile(..) => unreferenced,
        PathKind::OfLoad(load) if references.loads.contains(load) => Decision::Kept,
        PathKind::OfLoad(_) => unreferenced,
        PathKind::ExtractRecord(_) => expired().unwrap_or(Decision::Kept),
        PathKind::ExtractPart(_) => expired().unwrap_or(unreferenced),
    }
}
