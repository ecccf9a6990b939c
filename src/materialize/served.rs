//! The rows of a materialization by key. Their file is built from the published rows when they are first served, and again when it
//! is lost or damaged. A key is reported missing only if the published rows do not have it.

use std::{
    io::{Seek, Write},
    sync::{Arc, PoisonError},
};

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use tokio::sync::mpsc;

use super::Materialization;
use crate::{
    catalog::Column,
    error::{Error, Result},
    served::{Building, Found, Row, RowLayout, ServedFile, SharedFile, WriteError, Writer},
};

/// Batches that wait to be written.
const QUEUE: usize = 2;

/// On how many threads a served file is built. The file is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BuildThreads {
    /// Rows are read and written by turns, on the thread that waits for the file: requests are served meanwhile.
    One,
    /// Rows are read while others are written: nobody is served before the file is there.
    Two,
}

/// The rows of a materialization of entities by key. Group 0 has all keys of the set; the other groups are the partial rows.
pub(crate) struct ServedRows {
    made: Materialization,
    layouts: Arc<Vec<RowLayout>>,
    shared: Arc<SharedFile>,
}

impl ServedRows {
    /// Opens the rows. Their file is built unless it is there. With [`BuildThreads::One`] the caller is on a thread that may block.
    pub(crate) async fn open(made: &Materialization, threads: BuildThreads) -> Result<Self> {
        let layouts = Arc::new(layouts(made)?);
        let (set, id, cache) = (&made.manifest().set, made.id(), &made.workspace().cache);
        let opening = cache.served().opening(id);
        let mut slot = opening.lock().await;
        let shared = match slot.upgrade() {
            Some(shared) => shared,
            None => {
                let file = match existing(made, &layouts).await? {
                    Some(file) => file,
                    None => build(made, &layouts, threads).await?,
                };
                let shared = Arc::new(SharedFile::new(file));
                *slot = Arc::downgrade(&shared);
                shared
            }
        };
        drop(slot);
        cache.note_opened(set, id, &shared)?;
        Ok(Self { made: made.clone(), layouts, shared })
    }

    pub(crate) fn made(&self) -> &Materialization {
        &self.made
    }

    /// The layouts of all groups.
    pub(crate) fn layouts(&self) -> &Arc<Vec<RowLayout>> {
        &self.layouts
    }

    /// The layout of a group's rows.
    pub(crate) fn layout(&self, group: usize) -> &RowLayout {
        &self.layouts[group]
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.file.load().len()
    }

    /// Reads the row with this key into `row`; `false` if there is none. Without `heap`, texts and lists are not read.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the row is lost and cannot be read from the published files.
    pub(crate) fn find(&self, group: usize, key: &[u8], heap: bool, row: &mut Row) -> Result<bool> {
        match self.shared.file.load().find(group, self.layout(group), key, heap, row) {
            Found::Row => Ok(true),
            Found::Nothing => Ok(false),
            Found::Damaged => self.find_again(group, key, heap, row),
        }
    }

    #[cold]
    fn find_again(&self, group: usize, key: &[u8], heap: bool, row: &mut Row) -> Result<bool> {
        let mut find = || self.shared.file.load().find(group, self.layout(group), key, heap, row);
        {
            let _one_at_a_time = self.shared.rebuilding.lock().unwrap_or_else(PoisonError::into_inner);
            // A disk that damages what it was just given is not asked a third time.
            for in_memory in [false, true] {
                if find() == Found::Damaged {
                    self.rebuild(in_memory)?;
                }
            }
        }
        match find() {
            Found::Row => Ok(true),
            Found::Nothing => Ok(false),
            Found::Damaged => Err(Error::Corrupt {
                path: format!("the served file of {:?}", self.made),
                reason: "it does not hold what was just written to memory; please report this as a bug in asof".into(),
            }),
        }
    }

    /// Builds the file again, on a thread with a runtime of its own: the caller may be on a thread that must not block on its own
    /// runtime.
    fn rebuild(&self, in_memory: bool) -> Result<()> {
        let failed = |cause| Error::System { subject: "a thread that reads published rows again".into(), cause };
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
            tracing::warn!(materialization = ?self.made, "the served file is damaged; it is built again from the published files");
            let built = match in_memory {
                false => runtime.block_on(build(&self.made, &self.layouts, BuildThreads::Two))?,
                true => runtime.block_on(build_in_memory(&self.made, &self.layouts, BuildThreads::Two))?,
            };
            self.shared.file.store(Arc::new(built));
            Ok(())
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, work).map_err(failed)?;
            thread.join().unwrap_or_else(|_| {
                let subject = "reading the published rows again".into();
                Err(Error::Internal { subject, reason: "its thread panicked".into() })
            })
        })
    }
}

/// The layouts of all groups.
fn layouts(made: &Materialization) -> Result<Vec<RowLayout>> {
    let manifest = made.manifest();
    let groups = std::iter::once((&manifest.keys, &manifest.columns))
        .chain(manifest.partial.iter().map(|part| (&part.keys, &part.columns)));
    groups.map(|(keys, columns)| RowLayout::new(keys, Column::schema(columns)?.as_ref())).collect()
}

/// Opens the file that is there, on a thread that may block: an index, and perhaps all rows, are read.
async fn existing(made: &Materialization, layouts: &Arc<Vec<RowLayout>>) -> Result<Option<ServedFile>> {
    let (made, layouts) = (made.clone(), layouts.clone());
    let open = move || made.workspace().cache.served().existing(&made.manifest().set, made.id(), &layouts);
    tokio::task::spawn_blocking(open).await.map_err(|e| Error::lost_task("opening a served file", e))
}

/// Builds the file from the published rows and opens it; in memory, with a warning, if the disk refuses it.
async fn build(made: &Materialization, layouts: &Arc<Vec<RowLayout>>, threads: BuildThreads) -> Result<ServedFile> {
    let failed = match build_in(made, layouts, threads, false).await {
        Ok(file) => return Ok(file),
        Err(WriteError::Rows(error)) => return Err(error),
        Err(WriteError::Disk(cause)) => cause,
    };
    tracing::warn!(materialization = ?made, cause = %failed, "the served file cannot be written; its rows are served from memory");
    build_in_memory(made, layouts, threads).await
}

async fn build_in_memory(made: &Materialization, layouts: &Arc<Vec<RowLayout>>, threads: BuildThreads) -> Result<ServedFile> {
    build_in(made, layouts, threads, true).await.map_err(|error| match error {
        WriteError::Rows(error) => error,
        WriteError::Disk(cause) => Error::System { subject: format!("building the served rows of {made:?}"), cause },
    })
}

async fn build_in(
    made: &Materialization,
    layouts: &Arc<Vec<RowLayout>>,
    threads: BuildThreads,
    in_memory: bool,
) -> Result<ServedFile, WriteError> {
    match threads {
        BuildThreads::One => build_by_turns(made, layouts, in_memory).await,
        BuildThreads::Two => build_at_once(made, layouts, in_memory).await,
    }
}

/// How many rows each group has.
fn row_counts(made: &Materialization) -> Vec<u64> {
    let manifest = made.manifest();
    let groups = std::iter::once(&manifest.parts).chain(manifest.partial.iter().map(|part| &part.parts));
    groups.map(|parts| parts.iter().map(|part| part.rows).sum()).collect()
}

async fn build_by_turns(made: &Materialization, layouts: &[RowLayout], in_memory: bool) -> Result<ServedFile, WriteError> {
    async fn write(
        writer: &mut Writer<impl Write + Seek + Send>,
        made: &Materialization,
        layouts: &[RowLayout],
    ) -> Result<(), WriteError> {
        for (number, (layout, rows)) in layouts.iter().zip(row_counts(made)).enumerate() {
            let mut batches = made.group_batches(number).await?;
            let mut group = writer.group(layout, rows)?;
            while let Some(batch) = batches.try_next().await? {
                group.write(&batch)?;
            }
            group.finish()?;
        }
        Ok(())
    }
    let (set, id, files) = (&made.manifest().set, made.id(), made.workspace().cache.served());
    let mut building = files.build(id, in_memory)?;
    match &mut building {
        Building::File(writer) => write(writer, made, layouts).await?,
        Building::Memory(writer) => write(writer, made, layouts).await?,
    }
    files.publish(set, id, layouts, building)
}

/// What the thread that writes is sent.
enum Sent {
    Rows(RecordBatch),
    EndOfGroup,
}

async fn build_at_once(made: &Materialization, layouts: &Arc<Vec<RowLayout>>, in_memory: bool) -> Result<ServedFile, WriteError> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let write = {
        let (made, layouts) = (made.clone(), layouts.clone());
        tokio::task::spawn_blocking(move || write_sent(&made, &layouts, receiver, in_memory))
    };
    let read = async {
        let sender = sender;
        for group in 0..layouts.len() {
            let mut batches = made.group_batches(group).await?;
            loop {
                let next = batches.try_next().await?;
                let is_over = next.is_none();
                // The receiver is gone if writing failed; its error is the one to report.
                if sender.send(next.map_or(Sent::EndOfGroup, Sent::Rows)).await.is_err() {
                    return Ok(());
                }
                if is_over {
                    break;
                }
            }
        }
        Ok::<_, Error>(())
    };
    let (written, read) = futures::join!(write, read);
    // Rows that cannot be read end the file too early, which is not what is wrong with it.
    read?;
    written.map_err(|e| Error::lost_task("building a served file", e))?
}

fn write_sent(
    made: &Materialization,
    layouts: &[RowLayout],
    mut sent: mpsc::Receiver<Sent>,
    in_memory: bool,
) -> Result<ServedFile, WriteError> {
    fn write(
        writer: &mut Writer<impl Write + Seek>,
        made: &Materialization,
        layouts: &[RowLayout],
        sent: &mut mpsc::Receiver<Sent>,
    ) -> Result<(), WriteError> {
        for (layout, rows) in layouts.iter().zip(row_counts(made)) {
            let mut group = writer.group(layout, rows)?;
            while let Some(Sent::Rows(batch)) = sent.blocking_recv() {
                group.write(&batch)?;
            }
            group.finish()?;
        }
        Ok(())
    }
    let (set, id, files) = (&made.manifest().set, made.id(), made.workspace().cache.served());
    let mut building = files.build(id, in_memory)?;
    match &mut building {
        Building::File(writer) => write(writer, made, layouts, &mut sent)?,
        Building::Memory(writer) => write(writer, made, layouts, &mut sent)?,
    }
    files.publish(set, id, layouts, building)
}
