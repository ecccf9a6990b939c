//! A load from its sources to its commit: plan, read, check, write, commit. Each step returns a value for the next one.
//!
//! Nothing is visible before the commit. A load that is cut off leaves files that no version names; a rerun writes the same files
//! again.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;

use super::{
    check::{
        anomaly::{Anomaly, find_anomalies},
        duplicates::Duplicates,
        history::FileSummary,
        inspect::Inspector,
        quality::{QualityReport, Read},
        row_filter::{FilteredRows, RowFilter},
        stop::{
            publish_rejects, stop_on_anomalies, stop_on_many_months, stop_on_outside_months, stop_on_rejects, stop_on_violations,
        },
        summary::Counts,
    },
    commit::TableChanges,
    load::Ingest,
    mode::{LoadMode, OnOutsideMonth},
    outcome::{LoadOutcome, LoadReport, reports},
    plan::{LoadPlan, Planned, identity::reading_id, plan, table::check_declared_types},
    read::reader::Reader,
    rejects::Rejects,
    sources::{FoundSources, find},
    write::{
        month_writer::{Destination, MonthWriter},
        sort::sorted,
    },
};
use crate::{
    catalog::{Catalog, FileEntry, LoadRecord, TableVersion},
    engine::Engine,
    error::{Error, Result},
    layout::facts_folder,
    storage::{Location, Locations},
    time::month::Month,
};

/// How often a load begins again because another writer has changed what it was planned on.
const ATTEMPTS: u32 = 10;

/// Loads the sources and commits a version of the table that holds them.
pub(crate) async fn run(
    root: &Location,
    catalog: &Catalog,
    engine: &Engine,
    locations: &Locations,
    ingest: &Ingest,
) -> Result<LoadReport> {
    check_declared_types(ingest)?;
    let found = find(locations, ingest).await?;
    for _ in 0..ATTEMPTS {
        if let Some(report) = attempt(root, catalog, engine, ingest, &found).await? {
            return Ok(report);
        }
    }
    Err(Error::Contention { subject: format!("table `{}`", ingest.table), attempts: ATTEMPTS })
}

/// Loads into the table as it is now; `None` if the table has changed meanwhile so that the load must begin again.
async fn attempt(
    root: &Location,
    catalog: &Catalog,
    engine: &Engine,
    ingest: &Ingest,
    found: &FoundSources,
) -> Result<Option<LoadReport>> {
    let plan = match plan(root, catalog, ingest, &found.sources).await? {
        Planned::Load(plan) => plan,
        Planned::AlreadyLoaded(known) => return already_loaded(root, found, &known.0, &known.1).await.map(Some),
    };
    let (rows, counters) = read(engine, &plan).await?;
    let checked = check(root, engine, &plan, rows, &counters).await?;
    let CheckedLoad { rows, reject_file, anomalies, months, kept_files } = checked;
    let (new_files, duplicates) = write(root, engine, &plan, rows).await?;
    let Recorded { record, quality, files } =
        record(root, &plan, &counters, &duplicates, &new_files, reject_file, anomalies).await?;
    let changes = TableChanges {
        plan: &plan,
        found: &found.sources,
        months: &months,
        kept_files: &kept_files,
        new_files: &new_files,
        record: &record,
    };
    let Some(committed) = changes.commit(catalog).await? else { return Ok(None) };
    Ok(Some(LoadReport {
        outcome: committed.outcome,
        rows: record.rows,
        rejected: record.rejected,
        reject_file: record.reject_file,
        quarantined: quality.quarantined,
        quarantine_file: record.quarantine_file,
        quality: Some(quality),
        sources: reports(found, &plan.sources, &files, &committed.version.loads),
        replaced: committed.replaced,
        schema_changes: plan.schema_changes,
        version: committed.version,
    }))
}

/// The report of a load whose sources the table holds already.
async fn already_loaded(
    root: &Location,
    found: &FoundSources,
    version: &TableVersion,
    record: &LoadRecord,
) -> Result<LoadReport> {
    let quality = match QualityReport::read(root, record).await? {
        Read::Report(report) => Some(*report),
        Read::Lost(_) | Read::Never => None,
    };
    Ok(LoadReport {
        outcome: LoadOutcome::AlreadyLoaded,
        version: version.clone(),
        rows: record.rows,
        rejected: record.rejected,
        reject_file: record.reject_file.clone(),
        quarantined: quality.as_ref().map_or(0, |quality| quality.quarantined),
        quarantine_file: record.quarantine_file.clone(),
        quality,
        sources: reports(found, &[], &[], &version.loads),
        replaced: Vec::new(),
        schema_changes: Vec::new(),
    })
}

/// The rows of a load in the order of the table's files.
struct SortedRows {
    first: Option<RecordBatch>,
    rest: SendableRecordBatchStream,
}

/// What counts the rows of a load while they pass.
struct LoadCounters {
    rejects: Arc<Rejects>,
    inspector: Arc<Inspector>,
}

/// Reads and sorts the sources. When this returns, all rows were read and counted.
async fn read(engine: &Engine, plan: &LoadPlan) -> Result<(SortedRows, LoadCounters)> {
    let rejects = Arc::new(Rejects::new()?);
    let inspector = Arc::new(Inspector::new(&plan.sources, &plan.target, &plan.ingest.declared, &plan.expectations)?);
    let reader = Reader {
        ingest: plan.ingest.clone(),
        sources: plan.sources.clone(),
        columns: plan.columns.clone(),
        names: plan.names.clone(),
        target: plan.target.clone(),
        rejects: rejects.clone(),
        checker: inspector.clone(),
        batch_rows: engine.batch_rows(),
        tasks: engine.partitions(),
    };
    let event_column = &plan.ingest.declared.fact_times("the table of a load")?.event.name;
    let mut rest = sorted(engine, &plan.target, event_column, |sink| reader.read_all(sink)).await?;
    // The sort yields its first row after it has read the last one.
    let first = rest.try_next().await?;
    Ok((SortedRows { first, rest }, LoadCounters { rejects, inspector }))
}

/// Rows that passed the checks, and what the checks found.
struct CheckedLoad {
    rows: FilteredRows,
    reject_file: Option<String>,
    anomalies: Vec<Anomaly>,
    /// The months that the load replaces.
    months: Vec<Month>,
    /// The table's files that stay.
    kept_files: Vec<FileEntry>,
}

/// Checks what was read, and stops the load where that was declared.
async fn check(
    root: &Location,
    engine: &Engine,
    plan: &LoadPlan,
    rows: SortedRows,
    counters: &LoadCounters,
) -> Result<CheckedLoad> {
    let (LoadCounters { rejects, inspector }, LoadPlan { ingest, expectations, .. }) = (counters, plan);
    let reject_file = publish_rejects(root, ingest, rejects, plan.id).await?;
    let files = inspector.summaries(&plan.sources, rejects);
    let anomalies = find_anomalies(&plan.target.schema, ingest.declared.time_columns(), &plan.history, &files);
    stop_on_rejects(root, ingest, rejects, reject_file.as_deref(), &files, &anomalies)?;
    stop_on_anomalies(root, ingest, &anomalies, plan.id).await?;
    stop_on_many_months(ingest, &files)?;
    stop_on_violations(root, ingest, inspector, expectations, plan.id).await?;
    let months = replaced_months(&ingest.mode, &files);
    let outside = ingest.mode.replaces_months().then_some(ingest.on_outside_month);
    if outside == Some(OnOutsideMonth::Stop) {
        stop_on_outside_months(ingest, &files, &months)?;
    }
    let kept_files = plan.current.as_ref().map(|current| plan.removal.files_kept(current, &months)).unwrap_or_default();
    let filter = RowFilter {
        engine,
        inspector,
        target: &plan.target,
        expectations,
        months: (outside == Some(OnOutsideMonth::Quarantine)).then(|| months.clone()),
        table: &plan.table(),
        files: &kept_files,
        location: &root.child(&facts_folder(&ingest.table)),
    };
    let rows = filter.apply(rows.first, rows.rest).await?;
    stop_on_violations(root, ingest, inspector, expectations, plan.id).await?;
    Ok(CheckedLoad { rows, reject_file, anomalies, months, kept_files })
}

/// The months that a load replaces, in the order of time.
fn replaced_months(mode: &LoadMode, files: &[FileSummary]) -> Vec<Month> {
    let mut months: Vec<Month> = match mode {
        LoadMode::Append => Vec::new(),
        LoadMode::ReplacePartitions => files.iter().filter_map(FileSummary::month).collect(),
        LoadMode::ReplaceMonths(months) => months.clone(),
    };
    months.sort_unstable();
    months.dedup();
    months
}

/// Writes the rows into month files.
async fn write(
    root: &Location,
    engine: &Engine,
    plan: &LoadPlan,
    mut rows: FilteredRows,
) -> Result<(Vec<FileEntry>, Duplicates)> {
    let to = Destination {
        location: root.child(&facts_folder(&plan.ingest.table)),
        partition_columns: plan.ingest.partition_columns.clone(),
        file_bytes: plan.ingest.file_bytes,
        name: plan.id,
        loads: vec![plan.id],
        threads: engine.partitions(),
    };
    let mut writer = MonthWriter::new(&plan.ingest.declared, &plan.target, to);
    let mut duplicates = Duplicates::new(&plan.target, &plan.ingest.declared)?;
    while let Some(batch) = rows.next().await? {
        duplicates.add(&batch)?;
        writer.write(&batch).await?;
    }
    Ok((writer.finish().await?, duplicates))
}

/// What a load leaves beside its files.
struct Recorded {
    record: LoadRecord,
    quality: QualityReport,
    files: Vec<FileSummary>,
}

/// Publishes the quarantine and the quality report, and makes the record that the table keeps of the load.
async fn record(
    root: &Location,
    plan: &LoadPlan,
    counters: &LoadCounters,
    duplicates: &Duplicates,
    new_files: &[FileEntry],
    reject_file: Option<String>,
    anomalies: Vec<Anomaly>,
) -> Result<Recorded> {
    let LoadCounters { rejects, inspector } = counters;
    let quarantine = inspector.stats(|stats| std::mem::take(&mut stats.quarantine));
    let quarantined = quarantine.rows;
    let quarantine_file = quarantine.publish(root, &plan.ingest.table, plan.id).await?;
    let files = inspector.summaries(&plan.sources, rejects);
    let counts = Counts {
        ingest: &plan.ingest,
        load: plan.id,
        schema: &plan.target.schema,
        expectations: &plan.expectations,
        rejects,
        inspector,
        duplicates,
        files: &files,
        rows: new_files.iter().map(|file| file.rows).sum(),
        quarantined,
    };
    let quality = counts.report(anomalies, plan.history.clone(), plan.notes.clone());
    let record = LoadRecord {
        id: plan.id,
        sources: plan.sources.iter().zip(&files).map(|(source, file)| source.record(file.rows_rejected())).collect(),
        reading: Some(reading_id(&plan.ingest)),
        rows: quality.rows,
        rejected: rejects.count(),
        reject_file,
        quality_file: Some(quality.publish(root).await?),
        quarantine_file,
        replaced_months: Vec::new(),
    };
    Ok(Recorded { record, quality, files })
}
