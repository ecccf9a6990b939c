//! What makes a load the same load: hashes of its sources and of everything that determines its rows.
//! The hashed texts are part of the format: a changed byte makes another load of the same files.

use serde::Serialize;

use crate::{
    catalog::{
        FactTable, Rename,
        expectation::{Expect, OnViolation},
    },
    error::{Error, Result},
    ingest::{load::Ingest, sources::SourceFile},
    name::ContentId,
};

/// The hash of how a load reads its sources: of all settings that can turn rejects into rows.
pub(crate) fn reading_id(ingest: &Ingest) -> ContentId {
    let types: Vec<_> = ingest.types.iter().map(|(column, data_type)| (column, data_type.to_string())).collect();
    let schema: Vec<_> = ingest.schema.iter().map(|field| (field.name(), field.data_type().to_string())).collect();
    let formats: Vec<_> = ingest.time_formats.iter().map(|(column, format)| (column, &format.text)).collect();
    let text = format!("{types:?} {schema:?} {formats:?} {:?} {:?} {:?}", ingest.format, ingest.csv, ingest.renames);
    ContentId::of(text.as_bytes())
}

/// The hash of everything that determines the rows of a load.
///
/// Settings that only decide whether the load stops, or that only count, are not part of it.
pub(crate) fn load_id(ingest: &Ingest, expectations: &[Expect], sources: &[SourceFile]) -> Result<ContentId> {
    #[derive(Serialize)]
    struct Identity<'a> {
        table: String,
        declared: &'a FactTable,
        renames: &'a [Rename],
        types: Vec<(&'a str, String)>,
        schema: Vec<(&'a str, String)>,
        time_formats: Vec<(&'a str, &'a str)>,
        reading: String,
        partition_columns: &'a [String],
        file_bytes: usize,
        sources: Vec<(&'a str, u64, String)>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        quarantine: Vec<&'a Expect>,
        #[serde(skip_serializing_if = "Option::is_none")]
        replaces: Option<String>,
    }
    let identity = Identity {
        table: ingest.table.to_string(),
        declared: &ingest.declared,
        renames: &ingest.renames,
        types: ingest.types.iter().map(|(c, t)| (c.as_str(), t.to_string())).collect(),
        schema: ingest.schema.iter().map(|f| (f.name().as_str(), f.data_type().to_string())).collect(),
        time_formats: ingest.time_formats.iter().map(|(c, f)| (c.as_str(), f.text.as_str())).collect(),
        reading: format!("{:?} {:?} {:?}", ingest.format, ingest.csv, ingest.names),
        partition_columns: &ingest.partition_columns,
        file_bytes: ingest.file_bytes,
        sources: sources.iter().map(|s| (s.name.as_str(), s.identity.size, s.content())).collect(),
        quarantine: expectations.iter().filter(|expect| expect.on_violation == OnViolation::Quarantine).collect(),
        replaces: ingest.mode.replaces_months().then(|| format!("{:?}, strays {:?}", ingest.mode, ingest.on_outside_month)),
    };
    let text = serde_json::to_vec(&identity)
        .map_err(|e| Error::Corrupt { path: "the load's identity".into(), reason: e.to_string() })?;
    Ok(ContentId::of(&text))
}
