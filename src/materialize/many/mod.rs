//! Materializations of one set at several instants, over one state of the facts. Each is the one that a single call makes: same id, same
//! bytes. What they share is the work: facts are read once, and not once for each instant.
//!
//! | the set | what is shared |
//! |---|---|
//! | of entities | one pass over the facts, in which every entity has a slot for every instant |
//! | of rows that each come from one fact | the query with what it draws, and its sort; each instant takes the rows that were visible |
//! | any other | nothing: tables with an identity, labels ahead, queries that join or aggregate |

mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use self::rows::ManyRows;
use super::{
    Materialization,
    compute::{Computed, compute_entities},
    definition::Definition,
    entities::entities,
    run::{Inputs, check, find, location_of, materialize_pinned, publish},
};
use crate::{
    error::{Error, Result},
    feature_set::{EntitySet, FeatureSet, RowSet, SetBody},
    manifest::Manifest,
    name::ContentId,
    scan::VisibleTable,
    storage::Location,
    time::AsOf,
    workspace::{PinnedTable, Workspace},
};

/// The materializations of a set at these instants over the newest versions of its tables, in the order of the instants.
///
/// # Errors
/// [`Error::Definition`] for no instants, and when no fact was visible at any of them and they are not published.
pub(crate) async fn materialize_many(
    workspace: &Arc<Workspace>,
    set: &FeatureSet,
    instants: &[AsOf],
) -> Result<Vec<Materialization>> {
    let refused = |reason: String| Error::Definition { subject: format!("the instants of `{}`", set.name), reason };
    let Some(last) = instants.iter().max() else {
        return Err(refused("there are none; give at least one".into()));
    };
    let pinned = workspace.pin_all(&set.tables).await?;
    let tables = VisibleTable::all(&pinned, set.horizon(*last))?;
    // A timeless table is visible at every instant, whichever were meant.
    let facts: Vec<(&VisibleTable, &str)> =
        tables.iter().filter_map(|table| Some((table, table.pinned().version.declared().event_column()?))).collect();
    let sees_none = !facts.is_empty() && facts.iter().all(|(table, _)| table.files().next().is_none());
    if sees_none && !are_published(workspace, set, instants, &pinned).await? {
        let names: Vec<String> =
            facts.iter().map(|(table, event)| format!("`{}` ({event})", table.pinned().version.table())).collect();
        return Err(refused(format!(
            "all of them, up to {last}, lie before every fact of {}: no fact was visible at any; was another year meant?",
            names.join(", ")
        )));
    }
    materialize_many_pinned(workspace, set, instants, &pinned).await
}

async fn are_published(workspace: &Workspace, set: &FeatureSet, instants: &[AsOf], pinned: &[PinnedTable]) -> Result<bool> {
    for at in instants {
        let id = Inputs::of(set, set.horizon(*at), pinned)?.id;
        if find(workspace, &location_of(workspace, &set.name, *at, id), id).await?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// As [`materialize_many`], over these versions of the set's tables, and for any instants.
///
/// Of equal calls at the same time in this process one computes, and the others wait for it. An id that a call for other instants makes at
/// the same time is computed twice; the first to publish wins.
pub(crate) async fn materialize_many_pinned(
    workspace: &Arc<Workspace>,
    set: &FeatureSet,
    instants: &[AsOf],
    pinned: &[PinnedTable],
) -> Result<Vec<Materialization>> {
    let mut wanted = Vec::new();
    for at in instants.iter().collect::<BTreeSet<_>>() {
        wanted.push((*at, Arc::new(Inputs::of(set, set.horizon(*at), pinned)?)));
    }
    let ids = ContentId::of_json(&serde_json::json!({ "many": wanted.iter().map(|(_, inputs)| inputs.id).collect::<Vec<_>>() }));
    let work = || {
        let (workspace, set, wanted, pinned) = (workspace.clone(), set.clone(), wanted.clone(), pinned.to_vec());
        async move { find_or_make(&workspace, &set, &wanted, &pinned).await.map(Arc::new) }
    };
    let made = workspace.in_flight.once(ids, work).await?;
    let mut all = Vec::with_capacity(instants.len());
    for at in instants {
        all.push(match made.get(at) {
            Some(manifest) => {
                let location = location_of(workspace, &set.name, *at, manifest.id);
                Materialization::new(workspace.clone(), Definition::of(set), location, manifest.clone())
            }
            None => materialize_pinned(workspace, set, *at, pinned).await?,
        });
    }
    Ok(all)
}

/// Published materializations by as-of.
type Made = BTreeMap<AsOf, Arc<Manifest>>;

/// Finds what is published of these instants, which are in the order of time, and makes the others as far as they share work.
async fn find_or_make(
    workspace: &Workspace,
    set: &FeatureSet,
    wanted: &[(AsOf, Arc<Inputs>)],
    pinned: &[PinnedTable],
) -> Result<Made> {
    let mut made = Made::new();
    let mut missing = Vec::new();
    for (at, inputs) in wanted {
        let location = location_of(workspace, &set.name, *at, inputs.id);
        match find(workspace, &location, inputs.id).await? {
            Some(found) => drop(made.insert(*at, Arc::new(found))),
            None => missing.push(Missing {
                location,
                manifest: inputs.manifest(set, set.horizon(*at)),
                tables: inputs.tables.clone(),
            }),
        }
    }
    if missing.len() > 1 {
        check(workspace, set, pinned).await?;
        let work = Work { workspace, set, made: &mut made };
        match &set.body {
            SetBody::Entities(entities) => work.entities(entities, pinned, missing).await?,
            SetBody::Rows(rows) => work.rows(rows, missing).await?,
        }
    }
    Ok(made)
}

/// A materialization that is not published.
struct Missing {
    /// The tables of the set, as of its horizon.
    tables: Vec<VisibleTable>,
    location: Location,
    /// All that is known before the rows are computed.
    manifest: Manifest,
}

/// What several materializations of a set share. What it does not make is left to single calls.
struct Work<'a> {
    workspace: &'a Workspace,
    set: &'a FeatureSet,
    made: &'a mut Made,
}

impl Work<'_> {
    /// `missing` is in the order of time.
    async fn entities(mut self, set: &EntitySet, pinned: &[PinnedTable], mut missing: Vec<Missing>) -> Result<()> {
        if pinned.iter().any(|table| !table.version.declared().identity.is_empty()) {
            return Ok(());
        }
        let engine = &self.workspace.engine;
        // Elsewhere each instant is a query of its own.
        if engine.runs_elsewhere() {
            return Ok(());
        }
        let mut most = missing.len();
        while missing.len() > 1 && most > 1 {
            let count = most.min(missing.len());
            let instants: Vec<AsOf> = missing[..count].iter().map(|missing| missing.manifest.as_of).collect();
            let (last, name) = (&missing[count - 1], &self.set.name);
            let at = (instants.as_slice(), last.manifest.cutoff);
            let found = match entities(engine, name, set, &last.tables, Vec::new(), at).await {
                // Fewer instants at once take less.
                Err(Error::Memory { .. } | Error::Limit { .. }) => {
                    most = count / 2;
                    continue;
                }
                found => found?,
            };
            for (instant, Missing { location, manifest, .. }) in missing.drain(..count).enumerate() {
                let computed = compute_entities(engine, set, found.at(instant)?, manifest).await?;
                self.publish(&location, computed).await?;
            }
        }
        Ok(())
    }

    /// `missing` is in the order of time.
    async fn rows(mut self, set: &RowSet, missing: Vec<Missing>) -> Result<()> {
        let engine = &self.workspace.engine;
        let Some(last) = missing.last() else { return Ok(()) };
        let queried = ManyRows::query(engine, &self.set.name, set, &last.tables, last.manifest.as_of).await?;
        let Some(queried) = queried else { return Ok(()) };
        for Missing { location, manifest, .. } in missing {
            self.publish(&location, queried.compute(engine, manifest).await?).await?;
        }
        Ok(())
    }

    async fn publish(&mut self, location: &Location, computed: Computed) -> Result<()> {
        let published = publish(self.workspace, self.set, location, computed).await?;
        self.made.insert(published.as_of, Arc::new(published));
        Ok(())
    }
}
