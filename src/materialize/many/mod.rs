//! Materializations of one set at several instants, over one state of the facts. Each is the one that a single call makes: same id, same
//! bytes. What they share is the work: facts are read once, and not once for each instant.
//!
//! | the set | what is shared |
//! |---|---|
//! | of entities | one pass over the facts, in which every entity has a slot for every instant |
//! | of rows that each come from one fact | the query with what it draws, and its sort; each instant takes the rows that were visible |
//! | any other | nothing: tables with an identity, labels ahead, queries that join or aggregate |

mod rows;

use std::{collections::BTreeMap, sync::Arc};

use self::rows::ManyRows;
use super::{
    Materialization,
    entities::entities,
    run::{Found, Missing, check, find_or_begin, materialize_pinned, publish, write_entity_tables},
};
use crate::{
    error::{Error, Result},
    feature_set::{EntitySet, FeatureSet, RowSet, SetBody},
    scan::VisibleTable,
    time::AsOf,
    workspace::{PinnedTable, Workspace},
};

/// The materializations of a set at these instants over the newest versions of its tables, in the order of the instants.
///
/// # Errors
/// [`Error::Definition`] for no instants, and when no fact was visible at any of them.
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
    if tables.iter().all(|table| table.files().next().is_none()) {
        let names: Vec<String> = pinned
            .iter()
            .map(|table| format!("`{}` ({})", table.version.table(), table.version.declared().event_column()))
            .collect();
        return Err(refused(format!(
            "all of them, up to {last}, lie before every fact of {}: no fact was visible at any; was another year meant?",
            names.join(", ")
        )));
    }
    materialize_many_pinned(workspace, set, instants, &pinned).await
}

/// As [`materialize_many`], over these versions of the set's tables, and for any instants.
pub(crate) async fn materialize_many_pinned(
    workspace: &Arc<Workspace>,
    set: &FeatureSet,
    instants: &[AsOf],
    pinned: &[PinnedTable],
) -> Result<Vec<Materialization>> {
    let mut made: BTreeMap<AsOf, Option<Materialization>> = instants.iter().map(|at| (*at, None)).collect();
    let mut missing = Vec::new();
    for (at, made) in &mut made {
        match find_or_begin(workspace, set, *at, pinned).await? {
            Found::Published(found) => *made = Some(found),
            Found::Missing(begun) => missing.push(begun),
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
    let mut all = Vec::with_capacity(instants.len());
    for at in instants {
        let found = match made.get(at).cloned().flatten() {
            Some(found) => found,
            None => materialize_pinned(workspace, set, *at, pinned).await?,
        };
        made.insert(*at, Some(found.clone()));
        all.push(found);
    }
    Ok(all)
}

/// What several materializations of a set share. What it does not make is left to single calls.
struct Work<'a> {
    workspace: &'a Arc<Workspace>,
    set: &'a FeatureSet,
    made: &'a mut BTreeMap<AsOf, Option<Materialization>>,
}

impl Work<'_> {
    /// `missing` is in the order of time.
    async fn entities(mut self, set: &EntitySet, pinned: &[PinnedTable], mut missing: Vec<Box<Missing>>) -> Result<()> {
        if pinned.iter().any(|table| !table.version.declared().identity.is_empty()) {
            return Ok(());
        }
        let mut most = missing.len();
        while missing.len() > 1 && most > 1 {
            let count = most.min(missing.len());
            let instants: Vec<AsOf> = missing[..count].iter().map(|missing| missing.manifest.as_of).collect();
            let (tables, cutoff) = (missing[count - 1].tables.clone(), missing[count - 1].manifest.cutoff);
            let found = match entities(&self.workspace.engine, set, &tables, &instants, cutoff).await {
                // Fewer instants at once take less.
                Err(Error::Memory { .. } | Error::Limit { .. }) => {
                    most = count / 2;
                    continue;
                }
                found => found?,
            };
            for (instant, mut begun) in missing.drain(..count).enumerate() {
                let Missing { location, manifest, .. } = &mut *begun;
                write_entity_tables(self.workspace, set, found.at(instant)?, location, manifest).await?;
                self.publish(*begun).await?;
            }
        }
        Ok(())
    }

    /// `missing` is in the order of time.
    async fn rows(mut self, set: &RowSet, missing: Vec<Box<Missing>>) -> Result<()> {
        let engine = &self.workspace.engine;
        let Some(last) = missing.last() else { return Ok(()) };
        let queried = ManyRows::query(engine, &self.set.name, set, &last.tables, last.manifest.as_of).await?;
        let Some(queried) = queried else { return Ok(()) };
        for mut begun in missing {
            let horizon = begun.manifest.horizon();
            queried.write(engine, horizon, &mut begun).await?;
            self.publish(*begun).await?;
        }
        Ok(())
    }

    async fn publish(&mut self, made: Missing) -> Result<()> {
        let as_of = made.manifest.as_of;
        let published = publish(self.workspace, self.set, made).await?;
        self.made.insert(as_of, Some(published));
        Ok(())
    }
}
