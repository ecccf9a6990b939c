//! What kind of file each path below a store's root is. Paths of unknown kinds are never removed.

use crate::{
    extract::RunName,
    layout::{
        BINDING, CATALOG, DEFINITIONS, EXTRACT_RECORD, EXTRACTS, FACTS, MANIFEST, MARKER, MATERIALIZED, MODEL_ARTIFACT,
        MODEL_RECORD, MODELS, PARTIALS, QUALITY, QUARANTINE, REJECTS, TRAINING, is_fact_file, is_part_file, load_of, model_id,
        tile_of, training_set_id, version_number,
    },
    name::TableName,
};

/// The kind of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PathKind {
    /// Always kept: the root's marker, databases, bindings of definitions.
    Kept,
    /// A table version.
    Version(TableName, u64),
    /// A file of facts.
    Fact,
    /// A file about a load (rejects, quality, quarantine), with the first 16 digits of the load's id.
    OfLoad(String),
    /// The manifest of a materialization.
    Manifest,
    /// Another file of a materialization.
    Part,
    /// The record of an extract.
    ExtractRecord(RunName),
    /// Another file of an extract.
    ExtractPart(RunName),
    /// The manifest of a kept training set.
    TrainingManifest,
    /// Another file of a kept training set.
    TrainingPart,
    /// The record of a model.
    ModelRecord,
    /// The bytes of a model.
    ModelArtifact,
    /// A tile, with its table and the first digits of its file's key.
    Tile(TableName, String),
    /// Not written by this library.
    Unknown,
}

/// The kind of a path relative to the root.
pub(super) fn path_kind(path: &str) -> PathKind {
    let table = |database: &str, table: &str| format!("{database}.{table}").parse::<TableName>().ok();
    let run = |name: &str, run: &str| RunName { name: name.into(), run: run.into() };
    match path.split('/').collect::<Vec<_>>()[..] {
        [MARKER] | [DEFINITIONS, _, BINDING] => PathKind::Kept,
        [CATALOG, _, database_version] if version_number(database_version).is_some() => PathKind::Kept,
        [CATALOG, database, name, version] => match (table(database, name), version_number(version)) {
            (Some(table), Some(number)) => PathKind::Version(table, number),
            _ => PathKind::Unknown,
        },
        [FACTS, database, name, .., file] if is_fact_file(file) && table(database, name).is_some() => PathKind::Fact,
        [REJECTS | QUALITY | QUARANTINE, database, name, of_load, ..] if table(database, name).is_some() => {
            load_of(of_load).map_or(PathKind::Unknown, |load| PathKind::OfLoad(load.into()))
        }
        [PARTIALS, database, name, _, tile] => match (table(database, name), tile_of(tile)) {
            (Some(table), Some((file, _))) => PathKind::Tile(table, file.into()),
            _ => PathKind::Unknown,
        },
        [MATERIALIZED, _, _, MANIFEST] => PathKind::Manifest,
        [MATERIALIZED, _, _, part] if is_part_file(part) => PathKind::Part,
        [TRAINING, _, id, MANIFEST] if training_set_id(id).is_some() => PathKind::TrainingManifest,
        [TRAINING, _, id, part] if training_set_id(id).is_some() && is_part_file(part) => PathKind::TrainingPart,
        [MODELS, _, id, MODEL_RECORD] if model_id(id).is_some() => PathKind::ModelRecord,
        [MODELS, _, id, MODEL_ARTIFACT] if model_id(id).is_some() => PathKind::ModelArtifact,
        [EXTRACTS, name, run_name, EXTRACT_RECORD] => PathKind::ExtractRecord(run(name, run_name)),
        [EXTRACTS, name, run_name, part] if is_part_file(part) => PathKind::ExtractPart(run(name, run_name)),
        _ => PathKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ContentId;

    #[test]
    fn every_path_that_this_library_writes_is_known_and_no_other() {
        let run = || RunName { name: "zones".into(), run: "20141101t000000_0123abcd".into() };
        let taxi: TableName = "nyc_taxi".parse().unwrap();
        let kept = format!("training/rides/{}", ContentId::of(b"x"));
        let (kept_manifest, kept_part) = (format!("{kept}/manifest.json"), format!("{kept}/part-00000-01.parquet"));
        let model = format!("models/fare/{}", ContentId::of(b"x"));
        let (model_record, model_artifact) = (format!("{model}/model.json"), format!("{model}/artifact.bin"));
        let known = [
            (kept_manifest.as_str(), PathKind::TrainingManifest),
            (kept_part.as_str(), PathKind::TrainingPart),
            (model_record.as_str(), PathKind::ModelRecord),
            (model_artifact.as_str(), PathKind::ModelArtifact),
            ("asof.json", PathKind::Kept),
            ("definitions/taxi_v1/binding.json", PathKind::Kept),
            ("catalog/default/nyc_taxi/v0000000012.json", PathKind::Version(taxi.clone(), 12)),
            ("partials/default/nyc_taxi/01/0123456789abcdef-0.2.tile", PathKind::Tile(taxi, "0123456789abcdef".into())),
            ("catalog/sales/v0000000001.json", PathKind::Kept),
            ("facts/default/nyc_taxi/year=2014/month=1/0123-00000-4567.parquet", PathKind::Fact),
            ("rejects/default/nyc_taxi/0123456789abcdef-01.csv", PathKind::OfLoad("0123456789abcdef".into())),
            ("quality/default/nyc_taxi/0123456789abcdef.json", PathKind::OfLoad("0123456789abcdef".into())),
            ("quarantine/default/nyc_taxi/0123456789abcdef/part-0.parquet", PathKind::OfLoad("0123456789abcdef".into())),
            ("materialized/taxi_v1/20141101T000000.000000Z-01/manifest.json", PathKind::Manifest),
            ("materialized/taxi_v1/20141101T000000.000000Z-01/part-00000-01.parquet", PathKind::Part),
            ("materialized/taxi_v1/20141101T000000.000000Z-01/by-0-00000-01.parquet", PathKind::Part),
            ("extracts/zones/20141101t000000_0123abcd/extract.json", PathKind::ExtractRecord(run())),
            ("extracts/zones/20141101t000000_0123abcd/part-00000-01.parquet", PathKind::ExtractPart(run())),
        ];
        for (path, kind) in known {
            assert_eq!(path_kind(path), kind, "{path}");
        }
        for path in [
            "notes.txt",
            "facts/readme.md",
            "facts/default/nyc_taxi/readme.md",
            "facts/Default/x/a.parquet",
            "catalog/default/nyc_taxi/dropped.json",
            "quality/default/nyc_taxi/summary.json",
            "materialized/taxi_v1/a/extra.bin",
            "extracts/zones/run/deep/part-0.parquet",
            "training/rides/mine/part-0.parquet",
            "training/rides/manifest.json",
            "models/fare/mine/model.json",
            "models/fare/artifact.bin",
            "part-0.parquet",
            "partials/default/nyc_taxi/01/notes.tile",
            "partials/0123456789abcdef-0.tile",
        ] {
            assert_eq!(path_kind(path), PathKind::Unknown, "{path}");
        }
    }
}
