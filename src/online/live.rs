//! Sets that move to newer materializations while they are served. Readers take an immutable snapshot and never wait.
//! Which materialization is the newest is decided in `materialize`; rows are read in `serve`.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use chrono::TimeDelta;

use super::{
    live_status::{DrawnStatus, LiveStatus, Moved, Refresh},
    read_counts::ReadCounts,
    serve::Online,
    snapshot::{ServedSet, Snapshot, not_of_group},
    watch::Watch,
};
use crate::{
    error::{Error, Result},
    feature_set::FeatureSet,
    materialize::{BuildThreads, Materialization, Rank, SeenManifests, find_by_id, never_materialized},
    name::{ContentId, SetName},
    time::{AsOf, Clock},
    workspace::Workspace,
};

/// Several feature sets that are served together and move to newer materializations in one step.
///
/// [`LiveGroup::current`] is what is served now: an immutable [`Snapshot`], taken without a lock. [`LiveGroup::refresh`] opens newer
/// materializations beside it and then replaces it as a whole, so a reader never waits and never sees one set before a refresh and
/// another one after it. Clones are handles to the same group. See
/// [`FeatureStore::live_group`](crate::FeatureStore::live_group).
///
/// Sets that a set of rows draws on are followed, too. Within a group there is one materialization of each set, whether it is asked
/// for, drawn on, or both.
///
/// ```no_run
/// # async fn run(store: asof::FeatureStore) -> asof::Result<()> {
/// use asof::Value;
/// use std::time::Duration;
///
/// let group = store.live_group(["zone_v1", "rider_v1"]).await?;
/// let _watch = group.watch(Duration::from_secs(30))?; // as long as it lives
/// // For each request:
/// let now = group.current();
/// let zone = now.set("zone_v1")?.get(&[Value::Int(161)])?;
/// let rider = now.set("rider_v1")?.get(&[Value::from("ann")])?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LiveGroup(Arc<Inner>);

struct Inner {
    workspace: Arc<Workspace>,
    clock: Arc<dyn Clock>,
    /// Every set of which one materialization is in use, once: those that were asked for and those that they draw on.
    followed: Vec<FeatureSet>,
    /// The sets that were asked for, of which there is at least one.
    first: Member,
    others: Vec<Member>,
    current: ArcSwap<Snapshot>,
    /// What has been seen of the root, for each followed set. Locked by the one refresh or pin at work.
    seen: tokio::sync::Mutex<Vec<SeenManifests>>,
    /// Locked for moments only.
    state: Mutex<State>,
}

struct Member {
    name: SetName,
    /// Its position among the followed sets.
    own: usize,
    /// The positions of the sets that it draws on, in the order of its definition.
    drawn: Vec<usize>,
    /// Shared by all materializations that it moves to.
    reads: Arc<ReadCounts>,
}

struct State {
    /// The followed sets that stay where they are.
    pinned: BTreeSet<usize>,
    /// For each followed set.
    unreadable: Vec<usize>,
    last_refresh: AsOf,
    failure: Option<Failure>,
}

struct Failure {
    since: AsOf,
    error: String,
}

impl Inner {
    fn members(&self) -> impl Iterator<Item = &Member> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl LiveGroup {
    /// Opens the newest materializations of these sets.
    pub(crate) async fn open(workspace: &Arc<Workspace>, clock: &Arc<dyn Clock>, sets: Vec<FeatureSet>) -> Result<Self> {
        let (mut followed, mut members) = (Vec::new(), Vec::<Member>::new());
        // The sets that draw on each followed set; none for one that was asked for first.
        let mut drawn_by = Vec::new();
        for set in &sets {
            if members.iter().any(|member| member.name == set.name) {
                continue;
            }
            let own = position(&mut followed, set);
            drawn_by.resize(followed.len(), None);
            let drawn: Vec<usize> = set.drawn_on().map(|drawn| position(&mut followed, drawn)).collect();
            drawn_by.resize(followed.len(), Some(&set.name));
            members.push(Member { name: set.name.clone(), own, drawn, reads: Arc::default() });
        }
        let (mut seen, mut made) = (Vec::new(), Vec::new());
        for (set, by) in followed.iter().zip(&drawn_by) {
            let mut of_set = SeenManifests::default();
            let found = of_set.newest(workspace, set).await?;
            made.push(found.ok_or_else(|| match (never_materialized(set), by) {
                (Error::NotFound { subject, reason }, Some(by)) => {
                    Error::NotFound { subject: format!("{subject}, on which `{by}` draws,"), reason }
                }
                (error, _) => error,
            })?);
            seen.push(of_set);
        }
        let mut members = members.into_iter();
        let first = members.next().ok_or_else(|| Error::Definition {
            subject: "a live group".into(),
            reason: "it has no feature set; name at least one".into(),
        })?;
        let others: Vec<Member> = members.collect();
        let snapshot = snapshot(&first, &others, made, None).await?;
        let state = State {
            pinned: BTreeSet::new(),
            unreadable: seen.iter().map(SeenManifests::unreadable).collect(),
            last_refresh: clock.now(),
            failure: None,
        };
        Ok(Self(Arc::new(Inner {
            workspace: workspace.clone(),
            clock: clock.clone(),
            followed,
            first,
            others,
            current: ArcSwap::from_pointee(snapshot),
            seen: tokio::sync::Mutex::new(seen),
            state: Mutex::new(state),
        })))
    }

    /// What is served now. It takes no lock and waits for nothing.
    ///
    /// A request takes one snapshot and reads everything from it; then all of its features are of the same refresh.
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.current.load_full()
    }

    /// Moves to the newest published materialization of every set, and of every set that these draw on.
    ///
    /// All that is newer is opened first, on one thread, while the old ones serve. Then one step replaces all of them. Everything runs
    /// in the Tokio runtime in which it is called, also if that is not the one of the service.
    /// Nothing moves back: when the newest materialization was removed from the root, or is damaged, the one that is served stays.
    /// Pinned sets are not looked for. When nothing is newer, it costs one listing for each set.
    ///
    /// One refresh runs at a time; others wait for it and look again. A call that is dropped before it ends changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`] when a set has no published materialization any more, as when the root was moved away;
    /// [`Error::Corrupt`] when no manifest of it can be read, or the files of the newer materialization are not what was published;
    /// [`Error::Cache`] when they cannot be cached; and what the root's store fails with. After an error all sets are served as
    /// before, and [`LiveGroup::status`] says since when refreshes have failed.
    pub async fn refresh(&self) -> Result<Refresh> {
        let mut seen = self.0.seen.lock().await;
        let outcome = self.moved_to_newest(&mut seen).await;
        let now = self.0.clock.now();
        let mut state = self.state();
        state.unreadable = seen.iter().map(SeenManifests::unreadable).collect();
        match &outcome {
            Ok(_) => (state.last_refresh, state.failure) = (now, None),
            Err(error) => {
                let since = state.failure.as_ref().map_or(now, |failure| failure.since);
                state.failure = Some(Failure { since, error: error.to_string() });
            }
        }
        outcome
    }

    async fn moved_to_newest(&self, seen: &mut [SeenManifests]) -> Result<Refresh> {
        let (old, pinned) = (self.current(), self.state().pinned.clone());
        let mut made = old.made.clone();
        for (i, (set, seen)) in self.0.followed.iter().zip(seen).enumerate() {
            if pinned.contains(&i) {
                continue;
            }
            let newest = seen.newest(&self.0.workspace, set).await?.ok_or_else(|| vanished(set))?;
            if let Some(served) = made.get_mut(i)
                && Rank::of(newest.manifest()) > Rank::of(served.manifest())
            {
                *served = newest;
            }
        }
        self.flip(&old, made).await
    }

    /// Serves these materializations of the followed sets.
    async fn flip(&self, old: &Arc<Snapshot>, made: Vec<Materialization>) -> Result<Refresh> {
        let changed = old.made.iter().zip(&made).filter(|(from, to)| from.id() != to.id());
        let moved: Vec<Moved> = changed
            .map(|(from, to)| Moved {
                set: to.manifest().set.clone(),
                from: from.id(),
                from_as_of: from.as_of(),
                to: to.id(),
                to_as_of: to.as_of(),
            })
            .collect();
        if !moved.is_empty() {
            let new = snapshot(&self.0.first, &self.0.others, made, Some(old)).await?;
            self.0.current.store(Arc::new(new));
        }
        Ok(Refresh { moved })
    }

    /// Serves this materialization of a set, also an older one, and stays there: refreshes leave the set alone until
    /// [`LiveGroup::unpin`]. Other sets go on moving, also those that it draws on; these can be pinned in the same way.
    ///
    /// If the set is drawn on, the sets that draw on it move with it, in the same step. Pinning what is served already reads nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the group does not follow the set, and when no readable materialization of it has this id; and as [`LiveGroup::refresh`]. After an error nothing has changed.
    pub async fn pin(&self, set: &str, id: ContentId) -> Result<()> {
        let position = self.position_of(set)?;
        let _one_at_a_time = self.0.seen.lock().await;
        let old = self.current();
        let mut made = old.made.clone();
        let (Some(set), Some(served)) = (self.0.followed.get(position), made.get_mut(position)) else {
            return Err(self.unknown(set));
        };
        if served.id() != id {
            let found = find_by_id(&self.0.workspace, set, id).await?;
            *served = found.ok_or_else(|| Error::NotFound {
                subject: format!("the materialization {id} of feature set `{}`", set.name),
                reason:
                    "is not published in the root, or its manifest cannot be read; the names of the folders there end in the ids"
                        .into(),
            })?;
            self.flip(&old, made).await?;
        }
        self.state().pinned.insert(position);
        Ok(())
    }

    /// Lets a set move again. It stays where it is until the next refresh, which moves it to the newest materialization if that is
    /// newer than the one that was pinned. Nothing happens when it is not pinned.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the group does not follow the set.
    pub fn unpin(&self, set: &str) -> Result<()> {
        let position = self.position_of(set)?;
        self.state().pinned.remove(&position);
        Ok(())
    }

    /// As [`LiveGroup::unpin`], of the first set.
    pub(super) fn unpin_first(&self) {
        self.state().pinned.remove(&self.0.first.own);
    }

    /// Refreshes every so often, in a task of the Tokio runtime in which it is called, until the guard is dropped. It follows what
    /// any process publishes below the root.
    ///
    /// The first refresh begins after `every`, and each following one so long after the end of the one before it. A refresh that
    /// fails is tried again in the same way. The first failure is logged as a warning, and so is the first success after failures;
    /// [`LiveGroup::status`] tells about all of them.
    ///
    /// # Errors
    /// [`Error::Definition`] when `every` is zero; [`Error::System`] outside of a Tokio runtime, and inside of one without timers.
    pub fn watch(&self, every: Duration) -> Result<Watch> {
        Watch::start(self.clone(), every)
    }

    /// What is served of each set that the group was opened with, in their order, and whether refreshes succeed.
    pub fn status(&self) -> Vec<LiveStatus> {
        let (now, snapshot) = (self.0.clock.now(), self.current());
        let members = self.0.members().zip(snapshot.served());
        members.map(|(member, served)| self.status_of(member, &served.online, &snapshot, now)).collect()
    }

    /// The status of the first set.
    pub(super) fn first_status(&self) -> LiveStatus {
        let (now, snapshot) = (self.0.clock.now(), self.current());
        self.status_of(&self.0.first, &snapshot.first.online, &snapshot, now)
    }

    fn status_of(&self, member: &Member, online: &Online, snapshot: &Snapshot, now: AsOf) -> LiveStatus {
        let (made, state) = (online.materialization(), self.state());
        let drawn: BTreeSet<usize> = member.drawn.iter().copied().collect();
        let with_id = drawn.iter().filter_map(|&i| Some((i, snapshot.made.get(i)?)));
        let drawn_on = with_id.map(|(i, made)| DrawnStatus {
            set: made.manifest().set.clone(),
            id: made.id(),
            as_of: made.as_of(),
            is_pinned: state.pinned.contains(&i),
        });
        LiveStatus {
            set: member.name.clone(),
            id: made.id(),
            as_of: made.as_of(),
            age: TimeDelta::microseconds(now.micros().saturating_sub(made.as_of().micros())),
            rows: made.rows(),
            bytes: made.bytes(),
            reads: online.reads(),
            is_pinned: state.pinned.contains(&member.own),
            drawn_on: drawn_on.collect(),
            unreadable: drawn.iter().chain([&member.own]).filter_map(|&i| state.unreadable.get(i)).sum(),
            last_refresh: state.last_refresh,
            failing_since: state.failure.as_ref().map(|failure| failure.since),
            last_error: state.failure.as_ref().map(|failure| failure.error.clone()),
        }
    }

    /// As [`LiveGroup::current`], for the moment of a read.
    pub(super) fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.0.current.load()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The position of a followed set.
    fn position_of(&self, set: &str) -> Result<usize> {
        self.0.followed.iter().position(|followed| followed.name.as_str() == set).ok_or_else(|| self.unknown(set))
    }

    fn unknown(&self, set: &str) -> Error {
        not_of_group(set, self.0.followed.iter().map(|set| &set.name))
    }
}

/// The position of a set among the followed ones, to which it is added if it is not there.
fn position(followed: &mut Vec<FeatureSet>, set: &FeatureSet) -> usize {
    // Sets of one name and two definitions are kept apart; the root holds the materializations of only one of them.
    let known = followed.iter().position(|known| known.name == set.name && known.fingerprint() == set.fingerprint());
    known.unwrap_or_else(|| {
        followed.push(set.clone());
        followed.len() - 1
    })
}

/// Serves these materializations of the followed sets. What has not moved is taken over from the old snapshot.
async fn snapshot(
    first: &Member,
    others: &[Member],
    made: Vec<Materialization>,
    old: Option<&Arc<Snapshot>>,
) -> Result<Snapshot> {
    let first = served(first, &made, old).await?;
    let mut rest = Vec::with_capacity(others.len());
    for member in others {
        rest.push(served(member, &made, old).await?);
    }
    Ok(Snapshot { first, others: rest, made })
}

/// A set as the old snapshot serves it, or opened if it has moved, or a set that it draws on.
async fn served(member: &Member, made: &[Materialization], old: Option<&Arc<Snapshot>>) -> Result<ServedSet> {
    let stays = |old: &Snapshot| {
        let id = |made: &[Materialization], i: usize| made.get(i).map(Materialization::id);
        std::iter::once(&member.own).chain(&member.drawn).all(|&i| id(&old.made, i) == id(made, i))
    };
    let known = old.filter(|old| stays(old)).and_then(|old| old.served().find(|served| served.name == member.name));
    let online = match known {
        Some(known) => known.online.clone(),
        // Requests are served while a group moves, and not before it is open.
        None => Arc::new(opened(member, made, old.map_or(BuildThreads::Two, |_| BuildThreads::One)).await?),
    };
    Ok(ServedSet { name: member.name.clone(), online })
}

/// Opens a set away from the threads that serve requests: its rows may have to be read and encoded.
async fn opened(member: &Member, made: &[Materialization], threads: BuildThreads) -> Result<Online> {
    let missing =
        || Error::Internal { subject: format!("serving feature set `{}`", member.name), reason: "it is not followed".into() };
    let own = made.get(member.own).cloned().ok_or_else(missing)?;
    let drawn = member.drawn.iter().map(|&i| made.get(i).cloned().ok_or_else(missing)).collect::<Result<Vec<_>>>()?;
    let (reads, runtime) = (member.reads.clone(), tokio::runtime::Handle::current());
    let work = tokio::task::spawn_blocking(move || runtime.block_on(Online::new(own, drawn, reads, threads)));
    work.await.map_err(|e| Error::lost_task(&format!("opening feature set `{}`", member.name), e))?
}

fn vanished(set: &FeatureSet) -> Error {
    Error::NotFound {
        subject: format!("feature set `{}`", set.name),
        reason: "has no published materialization any more, and the one that was opened is served on; is the root where it was?"
            .into(),
    }
}

/// The names of its sets.
impl fmt::Debug for LiveGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.members().map(|member| member.name.as_str()).collect();
        write!(f, "LiveGroup({})", names.join(", "))
    }
}
