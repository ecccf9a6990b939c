//! The facts of a part of a file on their way into the file's tile. Another thread adds them while a core is idle, so that the task that
//! reads the file goes on.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::utils::memory::RecordBatchMemoryCounter;
use tokio::task::JoinHandle;

use super::{
    budget::Budget,
    file_tile::{FileReader, Piece, PieceTasks},
    tasks::{blocking, joined},
};
use crate::error::{Error, Result};

/// At most so many batches are given to the other thread at once.
const MOST_AT_ONCE: usize = 3;

/// A part of a file whose facts are being added to the file's tile.
pub(super) struct PieceInWork {
    tasks: Place,
    waiting: Waiting,
    budget: Arc<Budget>,
}

/// Where facts are added at the moment.
enum Place {
    Here(PieceTasks),
    OtherThread(JoinHandle<Result<PieceTasks>>),
    /// Adding some has failed.
    Nowhere,
}

impl PieceInWork {
    pub(super) fn new(readers: &[Arc<FileReader>], budget: &Arc<Budget>) -> Self {
        Self { tasks: Place::Here(PieceTasks::new(readers)), waiting: Waiting::new(budget), budget: budget.clone() }
    }

    /// Adds the facts of a batch: on another thread if a core is idle, and otherwise before this returns. While the other thread is at
    /// work, batches wait for it. Facts are added in the order in which they come.
    ///
    /// # Errors
    /// Those of this batch, or of one before it.
    pub(super) async fn add(&mut self, batch: RecordBatch, has_idle_core: bool) -> Result<()> {
        let is_at_work = matches!(&self.tasks, Place::OtherThread(work) if !work.is_finished());
        if is_at_work && self.waiting.batches.len() + 1 < MOST_AT_ONCE && self.waiting.has_taken(&batch) {
            return Ok(());
        }
        let tasks = self.tasks().await?;
        let mut waited = std::mem::replace(&mut self.waiting, Waiting::new(&self.budget));
        if has_idle_core && waited.has_taken(&batch) {
            self.tasks = Place::OtherThread(tokio::task::spawn_blocking(move || waited.added_to(tasks)));
        } else {
            let mut tasks = waited.added_to(tasks)?;
            tasks.add(&batch)?;
            self.tasks = Place::Here(tasks);
        }
        Ok(())
    }

    /// What has been found, when no more facts come.
    ///
    /// # Errors
    /// As [`PieceInWork::add`].
    pub(super) async fn finished(mut self) -> Result<Piece> {
        let (tasks, waited) = (self.tasks().await?, self.waiting);
        blocking(move || waited.added_to(tasks)?.finish()).await
    }

    /// Waits until the other thread has ended, after an error. It holds no memory any more then.
    pub(super) async fn ended(self) {
        if let Place::OtherThread(work) = self.tasks {
            drop(work.await);
        }
    }

    /// Takes the tasks, when the other thread is done with them.
    async fn tasks(&mut self) -> Result<PieceTasks> {
        match std::mem::replace(&mut self.tasks, Place::Nowhere) {
            Place::Here(tasks) => Ok(tasks),
            Place::OtherThread(work) => joined(work.await),
            Place::Nowhere => {
                Err(Error::Internal { subject: "a tile".into(), reason: "facts follow some that could not be added".into() })
            }
        }
    }
}

/// Batches that wait for the other thread, or that it is adding. They count as held memory.
struct Waiting {
    batches: Vec<RecordBatch>,
    /// Batches may share memory.
    counter: RecordBatchMemoryCounter,
    held: Budget,
    /// Was there no memory for a batch?
    is_full: bool,
}

impl Waiting {
    fn new(budget: &Budget) -> Self {
        Self { batches: Vec::new(), counter: RecordBatchMemoryCounter::new(), held: budget.another(), is_full: false }
    }

    /// Takes a batch if there is memory for it.
    fn has_taken(&mut self, batch: &RecordBatch) -> bool {
        // A batch is counted once, so one that was refused cannot be offered again.
        self.is_full = self.is_full || self.held.grow("tiles", self.counter.count_batch(batch)).is_err();
        if !self.is_full {
            self.batches.push(batch.clone());
        }
        !self.is_full
    }

    fn added_to(self, mut tasks: PieceTasks) -> Result<PieceTasks> {
        self.batches.iter().try_for_each(|batch| tasks.add(batch))?;
        Ok(tasks)
    }
}
