//! A load from its sources to its commit.
//! Everything before the commit is invisible: a load that is cut off leaves files that no version names, and a rerun
//! writes the same files again.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use arrow::{array::ArrayRef, datatypes::SchemaRef};
use datafusion::{
    catalog::streaming::StreamingTable,
    error::DataFusionError,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{stream::RecordBatchStreamAdapter, streaming::PartitionStream},
    prelude::col,
};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use super::{
    Format, Ingest, LoadOutcome, LoadReport, OnReject,
    cell::{DECLARABLE, is_declarable},
    columns::{MONTH, ROW, Reading, Target, YEAR},
    csv_source::read_csv,
    infer::{Plan, plan},
    json_source::read_json,
    names::merged,
    open::{raw_bytes, text_of},
    parquet_source::{conform, parquet_batches},
    rejects::Rejects,
    sources::{Source, find, load_id},
    write::MonthWriter,
};
use crate::{
    catalog::{Catalog, Column, LoadRecord, TableLocation, TableVersion},
    engine::{Engine, Parallelism},
    error::{Error, Result},
    storage::{Location, Locations},
};

/// Batches between the reader and the sort.
const QUEUE: usize = 2;

/// Loads the sources and commits a version of the table that holds them.
pub(crate) async fn run(
    root: &Location,
    catalog: &Catalog,
    engine: &Engine,
    locations: &Locations,
    ingest: &Ingest,
) -> Result<LoadReport> {
    check_types(ingest)?;
    let mut sources = find(locations, ingest).await?;
    let current = catalog.find(&ingest.table).await?;
    if let Some(current) = &current {
        check_same_table(ingest, current)?;
        // A folder that has grown is loaded by what is new in it.
        sources.retain(|source| !has_loaded(current, source));
        if let (true, Some(last)) = (sources.is_empty(), current.loads.last()) {
            let (rows, rejected, reject_file) = (last.rows, last.rejected, last.reject_file.clone());
            return Ok(LoadReport {
                outcome: LoadOutcome::AlreadyLoaded,
                version: current.clone(),
                rows,
                rejected,
                reject_file,
                schema_changes: Vec::new(),
            });
        }
    }
    // What earlier loads renamed is renamed here too.
    let ingest = &Ingest { renames: merged(ingest, current.as_ref())?, ..ingest.clone() };
    let load = load_id(ingest, &sources)?;

    let plan = Arc::new(plan(ingest, &sources, current.as_ref()).await?);
    let target = Target::new(&ingest.declared, plan.schema.clone())?;
    let rejects = Arc::new(Rejects::new()?);
    let mut sorted = sorted_rows(engine, ingest, &sources, &plan, &target, &rejects).await?;

    // The sort yields its first row after it has read the last one: from here on the list of rejects is complete.
    let first = sorted.try_next().await?;
    let reject_file = match rejects.count() {
        0 => None,
        count => {
            let (list, hash) = rejects.to_csv()?;
            let folder = format!("rejects/{}/{}", ingest.table.database(), ingest.table.table());
            let name = format!("{folder}/{}-{}.csv", load.short(), hash.short());
            root.upload(&name, list).await?;
            if ingest.on_reject == OnReject::Stop {
                let reject_file = root.child(&name).to_string();
                return Err(Error::RejectedRows { table: ingest.table.to_string(), count, first: rejects.first(), reject_file });
            }
            Some(name)
        }
    };

    let place = root.child("facts").child(ingest.table.database()).child(ingest.table.table());
    let mut writer = MonthWriter::new(ingest, &target, place, load);
    let mut next = first;
    while let Some(batch) = next {
        writer.write(&batch).await?;
        next = sorted.try_next().await?;
    }
    let files = writer.finish().await?;

    let record = LoadRecord {
        id: load,
        sources: sources.iter().map(Source::record).collect(),
        rows: files.iter().map(|f| f.rows).sum(),
        rejected: rejects.count(),
        reject_file: reject_file.clone(),
    };
    let overtaken = AtomicBool::new(false);
    let version = catalog
        .update(&ingest.table, |current| {
            let has_source = |c: &TableVersion| sources.iter().any(|source| has_loaded(c, source));
            let is_there = current.as_ref().is_some_and(|c| c.loads.iter().any(|l| l.id == load));
            if !is_there && current.as_ref().is_some_and(has_source) {
                return Err(Error::Contention { what: format!("table `{}`", ingest.table), attempts: 1 });
            }
            overtaken.store(is_there, Ordering::Relaxed);
            let mut next = match current {
                Some(_) if is_there => return Ok(None),
                Some(current) => {
                    check_same_table(ingest, &current)?;
                    current
                }
                None => empty_version(ingest, &target.schema),
            };
            for field in target.schema.fields() {
                match next.columns.iter().find(|known| known.name == *field.name()) {
                    None => next.columns.push(Column::from_field(field)),
                    Some(known) if *known.data_type == field.data_type().to_string() => {}
                    Some(known) => {
                        return Err(Error::ColumnType {
                            place: format!("the load into `{}`", ingest.table),
                            column: known.name.clone(),
                            found: field.data_type().to_string(),
                            needed: format!("another writer has just added it as {}; run the load again", known.data_type),
                        });
                    }
                }
            }
            next.renames = merged(ingest, Some(&next))?;
            next.newest_source.clone_from(&plan.newest);
            next.files.extend(files.iter().cloned());
            next.loads.push(record.clone());
            Ok(Some(next))
        })
        .await?;
    let outcome = if overtaken.into_inner() { LoadOutcome::AlreadyLoaded } else { LoadOutcome::Loaded };
    let schema_changes = plan.changes.clone();
    Ok(LoadReport { outcome, version, rows: record.rows, rejected: record.rejected, reject_file, schema_changes })
}

fn check_types(ingest: &Ingest) -> Result<()> {
    let of_schema = ingest.schema.iter().map(|field| (field.name(), field.data_type()));
    let mut types = ingest.types.iter().map(|(column, data_type)| (column, data_type)).chain(of_schema);
    match types.find(|(_, data_type)| !is_declarable(data_type)) {
        None => Ok(()),
        Some((column, data_type)) => Err(Error::ColumnType {
            place: format!("the load into `{}`", ingest.table),
            column: column.clone(),
            found: data_type.to_string(),
            needed: format!("a declared type is one of {DECLARABLE}"),
        }),
    }
}

/// Does the table hold this content already, from whatever load?
fn has_loaded(version: &TableVersion, source: &Source) -> bool {
    let content = source.identity.content();
    version.loads.iter().flat_map(|load| &load.sources).any(|known| known.content == content)
}

fn empty_version(ingest: &Ingest, schema: &SchemaRef) -> TableVersion {
    let integer = |name: &String| Column { name: name.clone(), data_type: "Int32".into(), nullable: true };
    let partitions = ingest.partition_columns.iter().map(integer).collect();
    TableVersion {
        columns: schema.fields().iter().map(|f| Column::from_field(f)).collect(),
        ..TableVersion::empty(ingest.table.clone(), TableLocation::Managed, ingest.declared.clone(), partitions)
    }
}

fn check_same_table(ingest: &Ingest, current: &TableVersion) -> Result<()> {
    let differs = |what: &str| {
        Err(Error::Definition {
            subject: format!("the load into `{}`", ingest.table),
            reason: format!("its {what} differ from those the table was made with; load into a table of another name"),
        })
    };
    if current.location != TableLocation::Managed {
        return Err(Error::Definition {
            subject: format!("the load into `{}`", ingest.table),
            reason: "the table was registered where its files lie, and is not this store's to write".into(),
        });
    }
    if current.declared != ingest.declared {
        return differs("times, zone, keys or tie-breaks");
    }
    merged(ingest, Some(current))?;
    for known in &current.columns {
        let Some(data_type) = ingest.declared_type(&known.name) else { continue };
        let is_time = ingest.declared.time_columns().any(|time| time.name == known.name);
        // The table's times are instants, whatever the sources hold; only their unit is declared.
        let is_nanos = |data_type: &str| data_type.starts_with("Timestamp(ns");
        let shown = data_type.to_string();
        let differs = if is_time { is_nanos(&shown) && !is_nanos(&known.data_type) } else { shown != known.data_type };
        if differs {
            return Err(Error::ColumnType {
                place: format!("table `{}`", ingest.table),
                column: known.name.clone(),
                found: known.data_type.clone(),
                needed: format!("the load declares {data_type}; a table's column keeps its type"),
            });
        }
    }
    if current.partition_columns.iter().map(|c| &c.name).ne(&ingest.partition_columns) {
        return differs("partition columns");
    }
    Ok(())
}

/// The rows of all sources by year, month, event time and, so that a rerun writes the same bytes, their place.
async fn sorted_rows(
    engine: &Engine,
    ingest: &Ingest,
    sources: &[Source],
    plan: &Arc<Plan>,
    target: &Target,
    rejects: &Arc<Rejects>,
) -> Result<SendableRecordBatchStream> {
    let session = engine.session(Parallelism::One, [])?;
    let batch_rows = session.copied_config().batch_size();
    let (sender, receiver) = mpsc::channel(QUEUE);
    let reader = Reader {
        ingest: ingest.clone(),
        sources: sources.to_vec(),
        plan: plan.clone(),
        target: target.clone(),
        rejects: rejects.clone(),
        batch_rows,
        sender: sender.clone(),
    };
    tokio::spawn(async move {
        let end = reader.read_all().await.map(|()| None);
        // The receiver is gone only when the load has ended already.
        let _ = sender.send(end).await;
    });
    let rows = Rows { schema: target.sorted.clone(), receiver: Mutex::new(Some(receiver)) };
    let table = StreamingTable::try_new(target.sorted.clone(), vec![Arc::new(rows)])?;
    let by = [YEAR, MONTH, ingest.declared.event_column(), ROW];
    let sort = by.map(|name| col(format!("\"{name}\"")).sort(true, false)).to_vec();
    Ok(session.read_table(Arc::new(table))?.sort(sort)?.execute_stream().await?)
}

/// A batch; `None` after the last one of the last source. A queue that ends without it was cut off.
type Batch = Result<Option<arrow::array::RecordBatch>>;

/// Reads all sources, one after the other, into a queue.
struct Reader {
    ingest: Ingest,
    sources: Vec<Source>,
    plan: Arc<Plan>,
    target: Target,
    rejects: Arc<Rejects>,
    batch_rows: usize,
    sender: mpsc::Sender<Batch>,
}

impl Reader {
    async fn read_all(self) -> Result<()> {
        let this = Arc::new(self);
        for index in 0..this.sources.len() {
            let source = &this.sources[index];
            match source.format {
                Format::Parquet => this.read_parquet(index, source).await?,
                Format::Csv | Format::JsonLines => {
                    let bytes = raw_bytes(source).await?;
                    let task = this.clone();
                    let done = tokio::task::spawn_blocking(move || task.read_text(index, bytes)).await;
                    done.map_err(|e| Error::Io { path: source.shown().into(), source: e.into() })??;
                }
            }
        }
        Ok(())
    }

    fn read_text(&self, index: usize, bytes: Box<dyn std::io::Read + Send>) -> Result<()> {
        let emit = |end_row: u64, columns: Vec<ArrayRef>| {
            let batch = self.target.batch(index, end_row, columns)?;
            Ok(self.sender.blocking_send(Ok(Some(batch))).is_ok())
        };
        let source = &self.sources[index];
        let reading = self.reading(source);
        let text = text_of(source, bytes)?;
        match source.format {
            Format::JsonLines => read_json(&reading, &self.plan.names, text, emit),
            _ => read_csv(&reading, &self.plan.columns[index], text, emit),
        }
    }

    fn reading<'a>(&'a self, source: &'a Source) -> Reading<'a> {
        let Self { ingest, target, rejects, batch_rows, .. } = self;
        Reading { ingest, source, target, rejects, batch_rows: *batch_rows }
    }

    async fn read_parquet(&self, index: usize, source: &Source) -> Result<()> {
        let columns = &self.plan.columns[index];
        let mut batches = parquet_batches(source, columns, self.batch_rows).await?;
        let mut row = 0;
        while let Some(rows) = batches.next().await.transpose()? {
            let conformed = conform(&self.reading(source), columns, row, &rows)?;
            row += rows.len() as u64;
            if self.sender.send(Ok(Some(self.target.batch(index, row, conformed)?))).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// The queue as a table that can be read once.
#[derive(Debug)]
struct Rows {
    schema: SchemaRef,
    receiver: Mutex<Option<mpsc::Receiver<Batch>>>,
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        let batches = futures::stream::unfold(receiver, |receiver| async move {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Some(Ok(Some(batch))) => Some((Ok(batch), Some(receiver))),
                Some(Ok(None)) => None,
                Some(Err(error)) => Some((Err(DataFusionError::from(error)), None)),
                None => {
                    let reason = "a source's decoder panicked; the load is incomplete and was not committed".to_owned();
                    Some((Err(Error::Definition { subject: "the load".into(), reason }.into()), None))
                }
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}
