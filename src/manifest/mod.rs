//! The manifest: what a materialization is, what it was made of, and which files hold its rows.
//! It holds no wall-clock time, so two processes that make the same materialization write the same manifest.

mod engine_revision;
mod model;
mod training;

use serde::{Deserialize, Serialize};

pub use engine_revision::{ENGINE_REVISION, EngineVersions};
pub use model::{ArtifactRecord, FittedOn};
pub(crate) use model::{ModelInput, ModelRecord, learned, model_content_id};
pub(crate) use training::training_set_content_id;
pub use training::{SplitRule, SplitSide, TrainingManifest, TrainingOrigin};

use crate::{
    catalog::{Column, FactTable},
    error::{Error, Result},
    feature_set::{Fingerprint, View},
    layout::is_materialization_folder,
    name::{ContentId, SetName, TableName},
    storage::{seal, unseal},
    time::{AsOf, Cutoff, Horizon},
    workspace::Part,
};

/// The version of the manifest's format, part of every materialization's identity.
pub(crate) const FORMAT: u32 = 2;

/// The manifest of a materialization: published once, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    pub(crate) format: u32,
    /// The hash of the definition, the inputs, the as-of, the engine and the format. Equal ids mean the same rows in the same order,
    /// bit for bit.
    pub id: ContentId,
    /// The feature set.
    pub set: SetName,
    /// The definition's hashes.
    pub fingerprint: Fingerprint,
    /// The instant, in microseconds UTC.
    pub as_of: AsOf,
    /// Whether facts at exactly the as-of are visible.
    pub cutoff: Cutoff,
    /// The versions of the code that made it.
    pub engine: EngineVersions,
    /// The tables it was made of, and their files that may hold visible rows.
    pub inputs: Vec<InputTable>,
    /// The key's columns, for a set of entities.
    pub keys: Vec<String>,
    /// The columns of the files: those of the rows, and for each source with a max age (counted from 0) `_event_time_<n>`, the
    /// event time of the fact that was looked up. Serving computes the fact's age at the instant of a request from it.
    pub columns: Vec<Column>,
    /// The names of the features.
    pub features: Vec<String>,
    /// The names of the labels.
    pub labels: Vec<String>,
    /// What row selections learned, in their order.
    pub selections: Vec<StepState>,
    /// What encoders learned, in their order.
    pub encoders: Vec<StepState>,
    /// Rows of the set's query, or entities.
    pub rows_seen: u64,
    /// Rows in the materialization.
    pub rows: u64,
    /// The files that hold the rows, in the order of the rows.
    pub parts: Vec<Part>,
    /// The views through which the set reads its tables, and those of the sets that it draws on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<View>,
    /// For a set of entities: features by some of its keys, for keys that have no row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partial: Vec<PartialRows>,
}

/// Rows of a set of entities by some of its keys: the features of the sources that find their facts by these keys. A key without a
/// row in the materialization gets these features from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PartialRows {
    /// The columns of the key, in the order of the set's.
    pub keys: Vec<String>,
    /// The columns of the rows: keys, then features.
    pub columns: Vec<Column>,
    /// How many there are.
    pub rows: u64,
    /// The files that hold them, in the order of the rows.
    pub parts: Vec<Part>,
}

/// A table that a materialization was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InputTable {
    /// The table.
    pub table: TableName,
    /// The version it was read at.
    pub version: u64,
    /// What was declared about it: its times, zone and keys.
    pub declared: FactTable,
    /// Its columns as queries see them: those of the files, then those of the partitions.
    pub columns: Vec<Column>,
    /// The files that may hold rows visible at the as-of; the others were not opened.
    pub files: Vec<InputFile>,
    /// Rows without an event time, which are never visible, according to the files' statistics.
    pub null_event_times: u64,
}

/// A file that a materialization was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InputFile {
    /// The path relative to the table.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Content hash, or the store's entity tag with its path.
    pub content: String,
    /// The values of the partition columns, in their order, as they are written; NULL is `None`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition: Vec<Option<String>>,
}

/// What a row selection or encoder learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepState {
    /// The step's name.
    pub name: String,
    /// Its revision.
    pub revision: u32,
    /// Its state as JSON; null for steps that learn nothing.
    pub state: serde_json::Value,
    /// Rows that were left after a row selection; `None` for encoders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_left: Option<u64>,
}

impl Manifest {
    /// How far the materialization sees.
    pub(crate) fn horizon(&self) -> Horizon {
        Horizon::new(self.as_of, self.cutoff)
    }

    /// All files with rows.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().chain(self.partial.iter().flat_map(|rows| &rows.parts))
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        seal("a manifest", serde_json::to_vec_pretty(self))
    }

    /// A manifest as it was published; `path` names it in errors.
    pub(crate) fn parse(path: &str, bytes: &[u8]) -> Result<Self> {
        unseal(path, bytes, FORMAT, REMEDY)
    }

    /// The manifest at this path, which must belong to its folder.
    pub(crate) fn parse_at(path: &str, bytes: &[u8]) -> Result<Self> {
        let manifest = Self::parse(path, bytes)?;
        let mut folders = path.rsplit('/').skip(1);
        let is_of_folder = folders.next().is_some_and(|folder| is_materialization_folder(folder, manifest.id));
        match is_of_folder && folders.next() == Some(manifest.set.as_str()) {
            true => Ok(manifest),
            false => Err(Error::Corrupt {
                path: path.into(),
                reason: format!(
                    "it is the manifest of `{}` {}, and does not belong to its folder; {REMEDY}",
                    manifest.set, manifest.id
                ),
            }),
        }
    }
}

const REMEDY: &str = "restore it from a copy, or delete the folder it lies in and materialize again";

/// The id of a materialization: a hash of all that determines its rows.
///
/// The names and types of all columns count, in their order, also of columns that only later files hold, because a query
/// may select `*`. Whether a column may hold NULL does not count: no visible row depends on it.
pub(crate) fn materialization_id(
    set: &SetName,
    fingerprint: &Fingerprint,
    horizon: Horizon,
    engine: &EngineVersions,
    inputs: &[InputTable],
) -> ContentId {
    let input = |t: &InputTable| {
        let columns: Vec<_> = t.columns.iter().map(|column| (&column.name, &column.data_type)).collect();
        serde_json::json!({ "table": t.table, "declared": t.declared, "columns": columns, "files": t.files })
    };
    let all = serde_json::json!({
        "format": FORMAT, "set": set, "definition": fingerprint.id, "as_of": horizon.as_of, "cutoff": horizon.cutoff,
        "engine": engine,
        "inputs": inputs.iter().map(input).collect::<Vec<_>>(),
    });
    ContentId::of_json(&all)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::catalog::KnownAt;

    /// Everything that an id is made of.
    #[derive(Clone)]
    struct IdInputs {
        set: &'static str,
        definition: &'static [u8],
        horizon: Horizon,
        engine: EngineVersions,
        inputs: Vec<InputTable>,
    }

    impl IdInputs {
        fn id(&self) -> ContentId {
            let hash = ContentId::of(self.definition);
            let fingerprint = Fingerprint { id: hash, declared: hash, behaviour: hash };
            materialization_id(&self.set.parse().unwrap(), &fingerprint, self.horizon, &self.engine, &self.inputs)
        }

        fn with(&self, change: impl FnOnce(&mut Self)) -> ContentId {
            let mut other = self.clone();
            change(&mut other);
            other.id()
        }
    }

    fn column(name: &str, data_type: &str) -> Column {
        Column { name: name.into(), data_type: data_type.into(), nullable: false }
    }

    fn inputs() -> IdInputs {
        let file =
            |path: &str| InputFile { path: path.into(), size: 10, content: "abc".into(), partition: vec![Some("1".into())] };
        let input = InputTable {
            table: "trips".parse().unwrap(),
            version: 3,
            declared: FactTable::new("at", KnownAt::column("known")).key("zone"),
            columns: vec![column("at", "Timestamp(µs)"), column("known", "Timestamp(µs)"), column("month", "Int32")],
            files: vec![file("month=1/a.parquet"), file("month=1/b.parquet")],
            null_event_times: 0,
        };
        let engine = EngineVersions { revision: 1, datafusion: "55.2.0".into(), time_zones: "2025b".into() };
        let horizon = Horizon::before(AsOf::from_micros(5));
        IdInputs { set: "trips_v1", definition: b"x", horizon, engine, inputs: vec![input] }
    }

    #[test]
    fn whatever_a_row_may_depend_on_makes_another_id() {
        let p = inputs();
        let columns = |change: fn(&mut Vec<Column>)| p.with(|p| change(&mut p.inputs[0].columns));
        let file = |change: fn(&mut InputFile)| p.with(|p| change(&mut p.inputs[0].files[1]));
        let declared = |declared: FactTable| p.with(|p| p.inputs[0].declared = declared);
        let as_declared = || p.inputs[0].declared.clone();
        let ids = [
            ("nothing", p.id()),
            ("the set's name", p.with(|p| p.set = "trips_v2")),
            ("the definition", p.with(|p| p.definition = b"y")),
            ("the as-of", p.with(|p| p.horizon.as_of = AsOf::from_micros(6))),
            ("the cutoff", p.with(|p| p.horizon.cutoff = Cutoff::Inclusive)),
            ("the revision of the library", p.with(|p| p.engine.revision = 2)),
            ("DataFusion", p.with(|p| p.engine.datafusion = "55.3.0".into())),
            ("the tables of time zones", p.with(|p| p.engine.time_zones = "2025c".into())),
            ("the table", p.with(|p| p.inputs[0].table = "rides".parse().unwrap())),
            ("a second table", p.with(|p| p.inputs.push(p.inputs[0].clone()))),
            ("known-at", declared(FactTable::new("at", KnownAt::after(chrono::TimeDelta::zero())).key("zone"))),
            ("a delay", declared(FactTable::new("at", KnownAt::after(chrono::TimeDelta::hours(1))).key("zone"))),
            ("a zone", declared(as_declared().zone("Asia/Tokyo".parse().unwrap()))),
            ("a key", declared(as_declared().key("other"))),
            ("a tie-break", declared(as_declared().tie_break("n"))),
            ("an identity", declared(as_declared().identity("n"))),
            ("a column's name", columns(|c| c[1].name = "ended".into())),
            ("a column's type", columns(|c| c[2].data_type = "Utf8".into())),
            ("the order of columns", columns(|c| c.swap(0, 1))),
            ("one more column", columns(|c| c.push(column("n", "Int64")))),
            ("one column less", columns(|c| drop(c.pop()))),
            ("a file's path", file(|f| f.path = "month=1/c.parquet".into())),
            ("a file's size", file(|f| f.size = 11)),
            ("a file's content", file(|f| f.content = "abd".into())),
            ("a partition's value", file(|f| f.partition = vec![Some("2".into())])),
            ("a partition without a value", file(|f| f.partition = vec![None])),
            ("one file less", p.with(|p| drop(p.inputs[0].files.pop()))),
        ];
        let mut known = BTreeMap::new();
        for (what, id) in ids {
            if let Some(other) = known.insert(id, what) {
                panic!("{what} has the id of {other}");
            }
        }
    }

    #[test]
    fn what_no_visible_row_can_tell_leaves_the_id_alone() {
        let p = inputs();
        assert_eq!(p.id(), p.with(|p| p.inputs[0].version = 9));
        assert_eq!(p.id(), p.with(|p| p.inputs[0].null_event_times = 9));
        assert_eq!(p.id(), p.with(|p| p.inputs[0].columns[0].nullable = true));
    }
}
