//! Keeps the tiles of a table, and the work on tiles that goes on while the result of a materialization is put together.
//! Nothing waits for a tile but the end of the call that made it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use tokio::task::{JoinError, JoinSet};

use super::{budget::Budget, file_tile::TiledFile};
use crate::{error::Result, storage::Location};

/// Where the tiles of a table lie.
pub(super) struct TileStore {
    folder: Location,
    /// The facts of files that were read apart and got no tile.
    wasted_facts: AtomicU64,
    /// Has every tile so far been written?
    is_writable: AtomicBool,
}

impl TileStore {
    pub(super) fn new(folder: Location) -> Self {
        Self { folder, wasted_facts: AtomicU64::new(0), is_writable: AtomicBool::new(true) }
    }

    /// The bytes of a tile; `None` if there is none.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.folder.get(name).await
    }

    /// What is left to be done when the tile of a file has been made, or when it got none. `made` says whether the tile is worth being
    /// stored; `held` has no memory yet.
    pub(super) fn rest(
        self: Arc<Self>,
        file: TiledFile,
        made: Option<(Vec<u8>, bool)>,
        held: Budget,
    ) -> Option<BoxFuture<'static, ()>> {
        match made {
            Some((bytes, true)) if held.grow("tiles", bytes.len()).is_ok() => {
                let rest = async move {
                    self.keep(&file, bytes).await;
                    drop(held);
                };
                Some(rest.boxed())
            }
            _ => {
                self.wasted_facts.fetch_add(file.rows, Ordering::Relaxed);
                None
            }
        }
    }

    /// Stores a tile. One that cannot be stored costs time later, and nothing else.
    async fn keep(&self, file: &TiledFile, bytes: Vec<u8>) {
        if !self.is_writable.load(Ordering::Relaxed) {
            return;
        }
        let written = match file.has_own_stored() {
            true => self.folder.put(&file.own.name, bytes).await,
            false => self.folder.put_if_absent(&file.own.name, bytes).await.map(drop),
        };
        if let Err(error) = written {
            self.is_writable.store(false, Ordering::Relaxed);
            tracing::warn!(%error, "tiles are not kept: the next materialization reads the same files again");
        }
    }

    /// The facts of files that were read apart and got no tile so far.
    pub(super) fn wasted_facts(&self) -> u64 {
        self.wasted_facts.load(Ordering::Relaxed)
    }
}

/// Tiles that are still being made or stored. The result does not depend on them.
///
/// Whoever has this ends it with [`UnfinishedTiles::finish`] before the call returns: then each tile is stored as a whole or not at all,
/// and holds no memory. If it is dropped, as when a call is cancelled, a tile may not be stored; a tile is never stored in part.
#[derive(Default)]
pub(crate) struct UnfinishedTiles(JoinSet<()>);

impl UnfinishedTiles {
    /// Begins some work.
    pub(super) fn start(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(work);
    }

    /// How many are being made or stored.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Waits until one of them is done. Returns whether there was one.
    pub(super) async fn next(&mut self) -> bool {
        self.0.join_next().await.map(ended).is_some()
    }

    /// Waits until all of them are done.
    pub(crate) async fn finish(&mut self) {
        while self.next().await {}
    }
}

/// A panic goes on in the task that waits.
fn ended(done: std::result::Result<(), JoinError>) {
    if let Err(error) = done
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn all_work_is_done_when_it_is_finished() {
        let (mut tiles, done) = (UnfinishedTiles::default(), Arc::new(AtomicUsize::new(0)));
        for turns in 0..20 {
            let done = done.clone();
            tiles.start(async move {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        assert_eq!((tiles.count(), done.load(Ordering::SeqCst)), (20, 0));
        assert!(tiles.next().await);
        tiles.finish().await;
        assert_eq!((tiles.count(), done.load(Ordering::SeqCst)), (0, 20));
        assert!(!tiles.next().await);
    }

    #[tokio::test(flavor = "current_thread")]
    #[should_panic(expected = "in a tile")]
    async fn a_panic_goes_on_in_the_call() {
        let mut tiles = UnfinishedTiles::default();
        tiles.start(async { panic!("in a tile") });
        tiles.finish().await;
    }
}
