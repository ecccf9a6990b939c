//! What stops a load: rejects, anomalies, violated expectations, too many months, and rows outside the replaced months.
//! Lists of rejects, anomalies and quarantined rows are published before the load stops.

use std::collections::BTreeSet;

use super::{anomaly::Anomaly, history::FileSummary, inspect::Inspector, row_rules::Violations};
use crate::{
    catalog::expectation::{Expect, OnViolation},
    error::{Error, Result},
    ingest::{
        load::{Ingest, OnReject},
        mode::OnAnomaly,
        rejects::Rejects,
    },
    layout::{anomaly_list, reject_list},
    name::ContentId,
    storage::Location,
    time::month::Month,
};

/// Publishes the list of rejects, if there are any. Returns its name relative to the root.
pub(crate) async fn publish_rejects(
    root: &Location,
    ingest: &Ingest,
    rejects: &Rejects,
    load: ContentId,
) -> Result<Option<String>> {
    if rejects.count() == 0 {
        return Ok(None);
    }
    let (list, hash) = rejects.to_csv()?;
    let name = reject_list(&ingest.table, load, hash);
    root.upload(&name, list).await?;
    Ok(Some(name))
}

/// Stops the load if rejects stop it, if most rows of a file are rejects, or if no row could be read.
pub(crate) fn stop_on_rejects(
    root: &Location,
    ingest: &Ingest,
    rejects: &Rejects,
    reject_file: Option<&str>,
    files: &[FileSummary],
    anomalies: &[Anomaly],
) -> Result<()> {
    let (Some(name), Some(common)) = (reject_file, rejects.commonest()) else { return Ok(()) };
    let rows: u64 = files.iter().map(|file| file.stats.rows).sum();
    let stops = match ingest.on_anomaly {
        // That most rows of a file cannot be read says more than any other anomaly of the file.
        OnAnomaly::Stop if files.iter().any(|file| file.mostly_rejected().is_some()) => true,
        OnAnomaly::Stop if !anomalies.is_empty() => false,
        _ => ingest.on_reject == OnReject::Stop,
    };
    if !stops && rows > 0 {
        return Ok(());
    }
    Err(Error::RejectedRows {
        table: ingest.table.to_string(),
        count: rejects.count(),
        rows,
        common: common.rows,
        first: common.first,
        reject_file: root.child(name).to_string(),
    })
}

/// Stops the load if there are anomalies and the load does not accept them.
pub(crate) async fn stop_on_anomalies(root: &Location, ingest: &Ingest, anomalies: &[Anomaly], load: ContentId) -> Result<()> {
    let (OnAnomaly::Stop, Some(first)) = (ingest.on_anomaly, anomalies.first()) else { return Ok(()) };
    let list_file = publish_anomalies(root, ingest, anomalies, load).await?;
    Err(Error::Anomalies { table: ingest.table.to_string(), count: anomalies.len(), first: first.to_string(), list_file })
}

async fn publish_anomalies(root: &Location, ingest: &Ingest, anomalies: &[Anomaly], load: ContentId) -> Result<String> {
    let failed = |e: csv::Error| Error::System { subject: "the list of anomalies".into(), cause: e.into() };
    let mut list = csv::Writer::from_writer(Vec::new());
    list.write_record(["file", "column", "expected", "found"]).map_err(failed)?;
    for Anomaly { file, column, expected, found } in anomalies {
        list.write_record([file, column, expected, found]).map_err(failed)?;
    }
    let bytes = list.into_inner().map_err(|e| failed(e.into_error().into()))?;
    let name = anomaly_list(&ingest.table, load, ContentId::of(&bytes));
    // The name holds the content's hash: if the file exists, it has this content.
    let _ = root.put_if_absent(&name, bytes).await?;
    Ok(root.child(&name).to_string())
}

/// Stops the load if an expectation that stops loads is violated. The rows that were quarantined so far are published.
pub(crate) async fn stop_on_violations(
    root: &Location,
    ingest: &Ingest,
    inspector: &Inspector,
    expectations: &[Expect],
    load: ContentId,
) -> Result<()> {
    let violations = inspector.stats(|stats| stats.violations.clone());
    let stops = |(expect, found): &(&Expect, Violations)| expect.on_violation == OnViolation::Stop && found.count > 0;
    let Some((expect, found)) = expectations.iter().zip(violations).find(stops) else { return Ok(()) };
    let quarantine = inspector.stats(|stats| std::mem::take(&mut stats.quarantine));
    let name = quarantine.publish(root, &ingest.table, load).await?.unwrap_or_default();
    Err(Error::Unexpected {
        table: ingest.table.to_string(),
        expectation: expect.to_string(),
        count: found.count,
        first: found.first.unwrap_or_default(),
        quarantine_file: root.child(&name).to_string(),
    })
}

/// Stops the load if its rows fall into more months than it allows: most often their times were misread.
pub(crate) fn stop_on_many_months(ingest: &Ingest, files: &[FileSummary]) -> Result<()> {
    let months: BTreeSet<Month> = files.iter().flat_map(|file| file.stats.months.keys().copied()).collect();
    let (Some(first), Some(last)) = (months.first(), months.last()) else { return Ok(()) };
    if months.len() <= ingest.months_at_most {
        return Ok(());
    }
    let rows: u64 = files.iter().map(|file| file.stats.rows).sum();
    Err(Error::Limit {
        subject: format!("the load into `{}`", ingest.table),
        reason: format!(
            "has {rows} rows in {} months, from {first} to {last}. Each month is a file, and a load may write at most {}. \
             Check that the event times are read in the right unit and format; if they are, allow more months with \
             `Ingest::months_at_most`",
            months.len(),
            ingest.months_at_most
        ),
    })
}

/// Stops the load if it has rows outside these months.
pub(crate) fn stop_on_outside_months(ingest: &Ingest, files: &[FileSummary], months: &[Month]) -> Result<()> {
    let all = files.iter().flat_map(|file| file.stats.months.iter().map(move |(month, rows)| (file, *month, *rows)));
    let outside: Vec<_> = all.filter(|(_, month, _)| !months.contains(month)).collect();
    let Some((file, month, rows)) = outside.first() else { return Ok(()) };
    let listed = |months: &mut dyn Iterator<Item = Month>| {
        let months: BTreeSet<_> = months.collect();
        months.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    Err(Error::Definition {
        subject: format!("the load into `{}`", ingest.table),
        reason: format!(
            "it replaces {}, and {} of its rows lie in other months ({}), which may hold rows of other sources. The first is in \
             {month}, `{}` line {}. Name these months in `LoadMode::ReplaceMonths`, or quarantine or append the rows with \
             `Ingest::on_outside_month`",
            listed(&mut months.iter().copied()),
            outside.iter().map(|(_, _, rows)| rows.rows).sum::<u64>(),
            listed(&mut outside.iter().map(|(_, month, _)| *month)),
            file.shown,
            rows.first_line,
        ),
    })
}
