//! A load from its sources to its commit.
//! Everything before the commit is invisible: a load that is cut off leaves files that no version names, and a rerun
//! writes the same files again.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;

use super::{
    check::{
        anomaly::{Anomaly, find_anomalies},
        drift::measure_drift,
        duplicates::Duplicates,
        history::{FileSummary, History},
        inspect::{FileStats, Inspector},
        profile::ColumnProfile,
        quality::{ColumnQuality, ExpectationQuality, FileQuality, QualityReport, Read},
        row_filter::RowFilter,
    },
    fact_files::facts_of,
    load::{Ingest, OnReject},
    mode::{LoadMode, OnAnomaly, OnOutsideMonth},
    names::merged,
    outcome::{LoadOutcome, LoadReport, replaced_rows, reports},
    plan::{
        identity::{load_id, reading_id},
        infer::{Plan, plan},
        replace::{Outgoing, changed, has_loaded, is_in_place, take_out},
    },
    read::{
        column_parser::{DECLARABLE, is_declarable},
        reader::Reader,
    },
    rejects::Rejects,
    sources::{Found, Source, find},
    target::Target,
    write::{
        month_writer::{Destination, MonthWriter},
        sort::sorted,
    },
};
use crate::{
    catalog::{
        Catalog, Column, FORMAT, LoadRecord, TableLocation, TableVersion,
        expectation::{Expect, OnViolation, joined},
    },
    engine::Engine,
    error::{Error, Result},
    name::{ContentId, TableName},
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
    check_types(ingest)?;
    let found = find(locations, ingest).await?;
    for _ in 0..ATTEMPTS {
        if let Some(report) = attempt(root, catalog, engine, ingest, &found).await? {
            return Ok(report);
        }
    }
    Err(Error::Contention { what: format!("table `{}`", ingest.table), attempts: ATTEMPTS })
}

/// Changes what is expected of the rows that are loaded from now on.
pub(crate) async fn set_expectations(catalog: &Catalog, table: &TableName, expectations: &[Expect]) -> Result<TableVersion> {
    let expectations = joined(&table.to_string(), &[], expectations)?;
    // Names the tables that there are, should this not be one.
    catalog.latest(table).await?;
    catalog
        .update(table, |current| {
            let Some(mut next) = current else {
                return Err(Error::UnknownTable { table: table.to_string(), known: Vec::new() });
            };
            refuse_external(table, &next)?;
            let schema = next.file_schema()?;
            expectations.iter().try_for_each(|expect| expect.check(&format!("table `{table}`"), &schema))?;
            let is_new = next.expectations != expectations;
            next.expectations.clone_from(&expectations);
            Ok(is_new.then_some(next))
        })
        .await
}

/// A load against the table as it is now; `None` when it has changed meanwhile so that the load has to begin again.
async fn attempt(
    root: &Location,
    catalog: &Catalog,
    engine: &Engine,
    ingest: &Ingest,
    found: &Found,
) -> Result<Option<LoadReport>> {
    let table = ingest.table.to_string();
    let current = catalog.find(&ingest.table).await?;
    let known: &[Expect] = current.as_ref().map_or(&[], |current| &current.expectations);
    let expectations = joined(&table, known, &ingest.expectations)?;
    let mut sources = found.sources.clone();
    let mut outgoing = Outgoing::default();
    if let Some(current) = &current {
        check_same_table(ingest, current)?;
    }
    // What earlier loads renamed is renamed here too.
    let ingest = &Ingest { renames: merged(ingest, current.as_ref())?, ..ingest.clone() };
    if let Some(current) = &current {
        outgoing = changed(ingest, &sources, current)?;
        if ingest.mode.replaces_months() {
            let load = load_id(ingest, &expectations, &sources)?;
            if let (true, Some(record)) = (is_in_place(current, load, &ingest.mode), find_load(current, load)) {
                return already(root, found, current, record).await.map(Some);
            }
        } else {
            // A folder that has grown is loaded by what is new in it.
            sources.retain(|source| !has_loaded(current, &outgoing, source));
            if let (true, Some(last)) = (sources.is_empty(), current.loads.last()) {
                return already(root, found, current, last).await.map(Some);
            }
        }
    }
    let load = load_id(ingest, &expectations, &sources)?;
    let (history, notes) = history(root, current.as_ref()).await?;

    let Plan { schema, columns, names, changes, newest } = plan(ingest, &sources, current.as_ref()).await?;
    let target = Target::new(&ingest.declared, schema)?;
    expectations.iter().try_for_each(|expect| expect.check(&format!("table `{table}`"), &target.schema))?;
    let rejects = Arc::new(Rejects::new()?);
    let inspector = Arc::new(Inspector::new(&sources, &target, &ingest.declared, &expectations)?);
    let feed = Reader {
        ingest: ingest.clone(),
        sources: sources.clone(),
        columns,
        names,
        target: target.clone(),
        rejects: rejects.clone(),
        check: inspector.clone(),
        batch_rows: engine.batch_rows(),
        tasks: engine.partitions(),
    };
    let event_column = ingest.declared.event_column();
    let mut rows = sorted(engine, &target, event_column, |sink| feed.read_all(sink)).await?;

    // The sort yields its first row after it has read the last one: from here on all rows were seen.
    let first = rows.try_next().await?;
    let reject_file = publish_rejects(root, ingest, &rejects, load).await?;
    let seen: Vec<FileStats> = inspector.seen(|seen| seen.files.clone());
    let files = examined(&sources, &rejects, &seen);
    let anomalies = find_anomalies(&target.schema, &history, &files);
    let rows_read: u64 = seen.iter().map(|file| file.rows).sum();
    if let (Some(name), Some(common)) = (&reject_file, rejects.commonest()) {
        let stops = match ingest.on_anomaly {
            // That most rows of a file cannot be read says more than what the rest of them looks like.
            OnAnomaly::Stop if files.iter().any(|file| file.mostly_rejected().is_some()) => true,
            OnAnomaly::Stop if !anomalies.is_empty() => false,
            _ => ingest.on_reject == OnReject::Stop,
        };
        if stops || rows_read == 0 {
            return Err(Error::RejectedRows {
                table,
                count: rejects.count(),
                rows: rows_read,
                common: common.rows,
                first: common.first,
                reject_file: root.child(name).to_string(),
            });
        }
    }
    if let (OnAnomaly::Stop, Some(first)) = (ingest.on_anomaly, anomalies.first()) {
        let list_file = publish_anomalies(root, ingest, &anomalies, load).await?;
        return Err(Error::Anomalies { table, count: anomalies.len(), first: first.to_string(), list_file });
    }
    refuse_many_months(ingest, &files)?;
    stop_if_unexpected(root, ingest, &inspector, &expectations, load).await?;
    let months = months_of(&ingest.mode, &files);
    if ingest.mode.replaces_months() && ingest.on_outside_month == OnOutsideMonth::Stop {
        refuse_strays(ingest, &files, &months)?;
    }

    let place = facts_of(root, &ingest.table);
    let stays = |version: &TableVersion| {
        let mut version = version.clone();
        take_out(&mut version, &outgoing, &months);
        version.files
    };
    let kept_files = current.as_ref().map(stays).unwrap_or_default();
    let filter = RowFilter {
        engine,
        inspector: &inspector,
        target: &target,
        expectations: &expectations,
        months: (ingest.mode.replaces_months() && ingest.on_outside_month == OnOutsideMonth::Quarantine).then_some(&months[..]),
        table: &table,
        files: &kept_files,
        place: &place,
    };
    let mut rows = filter.rows(first, rows).await?;
    stop_if_unexpected(root, ingest, &inspector, &expectations, load).await?;
    let to = Destination {
        place: place.clone(),
        partition_columns: ingest.partition_columns.clone(),
        file_bytes: ingest.file_bytes,
        name: load,
        loads: vec![load],
        threads: engine.partitions(),
    };
    let mut writer = MonthWriter::new(&ingest.declared, &target, to);
    let mut duplicates = Duplicates::new(&target, &ingest.declared)?;
    while let Some(batch) = filter.next(&mut rows).await? {
        duplicates.add(&batch)?;
        writer.write(&batch).await?;
    }
    let new_files = writer.finish().await?;

    let quarantine = inspector.seen(|seen| std::mem::take(&mut seen.quarantine));
    let quarantined = quarantine.rows;
    let quarantine_file = quarantine.publish(root, &ingest.table, load).await?;
    let seen: Vec<FileStats> = inspector.seen(|seen| seen.files.clone());
    let files = examined(&sources, &rejects, &seen);
    let (drift, history) = measure_drift(&target.schema, history, &files);
    let report = QualityReport {
        format: FORMAT,
        table: ingest.table.clone(),
        load,
        rows: new_files.iter().map(|f| f.rows).sum(),
        rejects: rejects.by_reason(),
        quarantined,
        outside_month: files.iter().map(FileSummary::rows_outside_month).sum(),
        known_before_event: ingest.declared.known_column().map(|_| seen.iter().map(|file| file.reversed).sum()),
        never_known: never_known(ingest, &target.schema, &seen),
        duplicates: duplicates.count(),
        duplicates_are_exact: duplicates.is_exact(),
        ties: duplicates.ties(),
        columns: column_quality(&target.schema, &seen),
        files: files.iter().map(file_quality).collect(),
        expectations: expectation_quality(&expectations, &inspector),
        anomalies,
        drift,
        notes,
        history,
    };
    let record = LoadRecord {
        id: load,
        sources: sources.iter().zip(&files).map(|(source, file)| source.record(file.rows_rejected())).collect(),
        reading: Some(reading_id(ingest)),
        rows: report.rows,
        rejected: rejects.count(),
        reject_file: reject_file.clone(),
        quality_file: Some(report.publish(root).await?),
        quarantine_file: quarantine_file.clone(),
        replaced_months: Vec::new(),
    };

    let has_unique = expectations.iter().any(Expect::is_unique);
    let (again, is_there) = (AtomicBool::new(false), AtomicBool::new(false));
    let replaced = Mutex::default();
    let update = catalog.update(&ingest.table, |newest| {
        let begin_again = || {
            again.store(true, Ordering::Relaxed);
            Err(Error::Contention { what: format!("table `{table}`"), attempts: 1 })
        };
        let mut next = match newest {
            // Dropped since it was planned: what was left out as loaded is gone too.
            None if current.is_some() => return begin_again(),
            None => empty_version(ingest, &target.schema),
            Some(newest) => {
                check_same_table(ingest, &newest)?;
                let was_loaded = match ingest.mode.replaces_months() {
                    true => is_in_place(&newest, load, &ingest.mode),
                    false => find_load(&newest, load).is_some(),
                };
                if was_loaded {
                    is_there.store(true, Ordering::Relaxed);
                    return Ok(None);
                }
                // What was planned on the table as it was must be the plan for the table as it is.
                let is_planned = joined(&table, &newest.expectations, &ingest.expectations)? == expectations
                    && merged(ingest, Some(&newest))? == ingest.renames
                    && changed(ingest, &found.sources, &newest)? == outgoing
                    && (!has_unique || stays(&newest) == kept_files);
                let is_loaded = |source| !ingest.mode.replaces_months() && has_loaded(&newest, &outgoing, source);
                if !is_planned || sources.iter().any(is_loaded) {
                    return begin_again();
                }
                newest
            }
        };
        *replaced.lock().unwrap_or_else(PoisonError::into_inner) = replaced_rows(&next, &months);
        take_out(&mut next, &outgoing, &months);
        next.loads.retain(|known| known.id != load);
        add_columns(&mut next, &target.schema, ingest)?;
        let is_new = |path: &str| next.files.iter().all(|known| known.path != path);
        let added: Vec<_> = new_files.iter().filter(|file| is_new(&file.path)).cloned().collect();
        next.files.extend(added);
        next.loads.push(record.clone());
        next.expectations.clone_from(&expectations);
        next.renames.clone_from(&ingest.renames);
        next.newest_source.clone_from(&newest);
        Ok(Some(next))
    });
    let version = match update.await {
        Err(Error::Contention { .. }) if again.into_inner() => return Ok(None),
        done => done?,
    };
    let outcome = if is_there.into_inner() { LoadOutcome::AlreadyLoaded } else { LoadOutcome::Loaded };
    let sources = reports(found, &sources, &files, &version.loads);
    Ok(Some(LoadReport {
        outcome,
        version,
        rows: record.rows,
        rejected: record.rejected,
        reject_file,
        quarantined,
        quarantine_file,
        quality: Some(report),
        sources,
        replaced: replaced.into_inner().unwrap_or_else(PoisonError::into_inner),
        schema_changes: changes,
    }))
}

fn find_load(version: &TableVersion, load: ContentId) -> Option<&LoadRecord> {
    version.loads.iter().find(|known| known.id == load)
}

/// The report of a load that is there.
async fn already(root: &Location, found: &Found, version: &TableVersion, record: &LoadRecord) -> Result<LoadReport> {
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

/// What the table has seen, as the newest report that can be read tells it, and what is missing from it.
///
/// A report that is lost takes what was seen with it, and nothing else: the load goes on.
async fn history(root: &Location, version: Option<&TableVersion>) -> Result<(History, Vec<String>)> {
    let mut notes = Vec::new();
    for load in version.iter().flat_map(|version| version.loads.iter().rev()) {
        match QualityReport::read(root, load).await? {
            Read::Report(report) => return Ok((report.history, notes)),
            Read::Lost(lost) => {
                let short = lost.load.short();
                tracing::warn!(load = %short, reason = %lost.reason, "a quality report is lost");
                notes
                    .push(format!("files were judged without what load {short} had seen, whose report is lost: {}", lost.reason));
            }
            Read::Never => {}
        }
    }
    Ok((History::default(), notes))
}

async fn publish_rejects(root: &Location, ingest: &Ingest, rejects: &Rejects, load: ContentId) -> Result<Option<String>> {
    if rejects.count() == 0 {
        return Ok(None);
    }
    let (list, hash) = rejects.to_csv()?;
    let folder = format!("rejects/{}/{}", ingest.table.database(), ingest.table.table());
    let name = format!("{folder}/{}-{}.csv", load.short(), hash.short());
    root.upload(&name, list).await?;
    Ok(Some(name))
}

async fn publish_anomalies(root: &Location, ingest: &Ingest, anomalies: &[Anomaly], load: ContentId) -> Result<String> {
    let failed = |e: csv::Error| Error::Io { path: "the list of anomalies".into(), source: e.into() };
    let mut list = csv::Writer::from_writer(Vec::new());
    list.write_record(["file", "column", "expected", "found"]).map_err(failed)?;
    for Anomaly { file, column, expected, found } in anomalies {
        list.write_record([file, column, expected, found]).map_err(failed)?;
    }
    let bytes = list.into_inner().map_err(|e| failed(e.into_error().into()))?;
    let folder = format!("rejects/{}/{}", ingest.table.database(), ingest.table.table());
    let name = format!("{folder}/{}-suspicions-{}.csv", load.short(), ContentId::of(&bytes).short());
    // The name holds the content's hash: whoever was there first wrote the same.
    let _ = root.put_if_absent(&name, bytes).await?;
    Ok(root.child(&name).to_string())
}

fn examined<'a>(sources: &'a [Source], rejects: &Rejects, seen: &'a [FileStats]) -> Vec<FileSummary<'a>> {
    let file = |(source, seen): (&'a Source, &'a FileStats)| {
        let shown = source.shown();
        FileSummary { name: &source.name, rejected: rejects.of_file(&shown), shown, seen }
    };
    sources.iter().zip(seen).map(file).collect()
}

/// Ends the load when an expectation that stops it does not hold; what was kept out so far is published.
async fn stop_if_unexpected(
    root: &Location,
    ingest: &Ingest,
    inspector: &Inspector,
    expectations: &[Expect],
    load: ContentId,
) -> Result<()> {
    let violations = inspector.seen(|seen| seen.violations.clone());
    let broken = |(expect, found): &(&Expect, _)| {
        let found: &super::check::row_rules::Violations = found;
        expect.on_violation == OnViolation::Stop && found.count > 0
    };
    let Some((expect, found)) = expectations.iter().zip(violations).find(broken) else { return Ok(()) };
    let quarantine = inspector.seen(|seen| std::mem::take(&mut seen.quarantine));
    let name = quarantine.publish(root, &ingest.table, load).await?.unwrap_or_default();
    Err(Error::Unexpected {
        table: ingest.table.to_string(),
        expectation: expect.to_string(),
        count: found.count,
        first: found.first.unwrap_or_default(),
        quarantine_file: root.child(&name).to_string(),
    })
}

/// The months that a load replaces, in the order of time.
fn months_of(mode: &LoadMode, files: &[FileSummary<'_>]) -> Vec<Month> {
    let mut months: Vec<Month> = match mode {
        LoadMode::Append => Vec::new(),
        LoadMode::ReplacePartitions => files.iter().filter_map(FileSummary::month).collect(),
        LoadMode::ReplaceMonths(months) => months.clone(),
    };
    months.sort_unstable();
    months.dedup();
    months
}

fn refuse_strays(ingest: &Ingest, files: &[FileSummary<'_>], months: &[Month]) -> Result<()> {
    let all = files.iter().flat_map(|file| file.seen.months.iter().map(move |(month, rows)| (file, *month, *rows)));
    let strays: Vec<_> = all.filter(|(_, month, _)| !months.contains(month)).collect();
    let Some((file, month, rows)) = strays.first() else { return Ok(()) };
    let listed = |months: &mut dyn Iterator<Item = Month>| {
        let months: std::collections::BTreeSet<_> = months.collect();
        months.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    Err(Error::Definition {
        subject: format!("the load into `{}`", ingest.table),
        reason: format!(
            "it replaces {}, and {} of its rows lie in other months ({}), which would not be theirs alone to replace; the first \
             is in {month}, `{}` line {}: name these months in `LoadMode::ReplaceMonths`, or keep the rows out or add them with \
             `Ingest::on_outside_month`",
            listed(&mut months.iter().copied()),
            strays.iter().map(|(_, _, rows)| rows.rows).sum::<u64>(),
            listed(&mut strays.iter().map(|(_, month, _)| *month)),
            file.shown,
            rows.first_line,
        ),
    })
}

/// Rows that are strewn over many months are times that were misread, most often.
fn refuse_many_months(ingest: &Ingest, files: &[FileSummary<'_>]) -> Result<()> {
    let months: std::collections::BTreeSet<Month> = files.iter().flat_map(|file| file.seen.months.keys().copied()).collect();
    let (Some(first), Some(last)) = (months.first(), months.last()) else { return Ok(()) };
    if months.len() <= ingest.months_at_most {
        return Ok(());
    }
    let rows: u64 = files.iter().map(|file| file.seen.rows).sum();
    Err(Error::Definition {
        subject: format!("the load into `{}`", ingest.table),
        reason: format!(
            "its {rows} rows fall into {} months, from {first} to {last}, of which each would be a file, and a load may write {}: \
             are the event times read in the right unit and form? If so, allow more with `Ingest::months_at_most`",
            months.len(),
            ingest.months_at_most
        ),
    })
}

/// Rows without a known-at, where it is a column.
fn never_known(ingest: &Ingest, schema: &SchemaRef, seen: &[FileStats]) -> Option<u64> {
    let column = schema.index_of(ingest.declared.known_column()?).ok()?;
    Some(seen.iter().filter_map(|file| file.columns.get(column)).map(|profile| profile.nulls).sum())
}

fn column_quality(schema: &SchemaRef, seen: &[FileStats]) -> Vec<ColumnQuality> {
    let merged = |column: usize| {
        let mut all = ColumnProfile::default();
        seen.iter().for_each(|file| all.merge(&file.columns[column]));
        all
    };
    let columns = schema.fields().iter().enumerate();
    columns.map(|(i, field)| ColumnQuality::new(field.name(), field.data_type().to_string(), merged(i))).collect()
}

fn file_quality(file: &FileSummary<'_>) -> FileQuality {
    FileQuality {
        name: file.name.into(),
        rows: file.seen.rows,
        rejected: file.rows_rejected(),
        quarantined: file.seen.quarantined,
        month: file.month(),
        outside_month: file.rows_outside_month(),
        lacks_newline: file.seen.lacks_newline,
    }
}

fn expectation_quality(expectations: &[Expect], inspector: &Inspector) -> Vec<ExpectationQuality> {
    let violations = inspector.seen(|seen| seen.violations.clone());
    let told = |(expect, found): (&Expect, super::check::row_rules::Violations)| ExpectationQuality {
        expect: expect.clone(),
        violations: found.count,
        first: found.first,
    };
    expectations.iter().zip(violations).map(told).collect()
}

fn add_columns(next: &mut TableVersion, schema: &SchemaRef, ingest: &Ingest) -> Result<()> {
    let places: HashMap<String, usize> =
        next.columns.iter().enumerate().map(|(place, known)| (known.name.clone(), place)).collect();
    for field in schema.fields() {
        match places.get(field.name()).and_then(|place| next.columns.get(*place)) {
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
    Ok(())
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

fn empty_version(ingest: &Ingest, schema: &SchemaRef) -> TableVersion {
    let integer = |name: &String| Column { name: name.clone(), data_type: "Int32".into(), nullable: true };
    let partitions = ingest.partition_columns.iter().map(integer).collect();
    TableVersion {
        columns: schema.fields().iter().map(|f| Column::from_field(f)).collect(),
        ..TableVersion::empty(ingest.table.clone(), TableLocation::Managed, ingest.declared.clone(), partitions)
    }
}

/// Refuses tables whose files are another writer's.
pub(crate) fn refuse_external(table: &TableName, current: &TableVersion) -> Result<()> {
    if current.location == TableLocation::Managed {
        return Ok(());
    }
    Err(Error::Definition {
        subject: format!("the change of `{table}`"),
        reason: "the table was registered where its files lie, and is not this store's to write".into(),
    })
}

fn check_same_table(ingest: &Ingest, current: &TableVersion) -> Result<()> {
    let differs = |what: &str| {
        Err(Error::Definition {
            subject: format!("the load into `{}`", ingest.table),
            reason: format!("its {what} differ from those the table was made with; load into a table of another name"),
        })
    };
    refuse_external(&ingest.table, current)?;
    if current.declared != ingest.declared {
        return differs("times, zone, keys or tie-breaks");
    }
    merged(ingest, Some(current))?;
    let declared = ingest.declared_types();
    for known in &current.columns {
        let Some(data_type) = declared.get(known.name.as_str()).copied() else { continue };
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
