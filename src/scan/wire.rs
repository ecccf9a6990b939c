//! Scans as bytes, for plans that run in other processes.
//!
//! Two nodes of a scan travel. The guard carries the declaration and the horizon, from which the other side finds the thresholds again. The
//! scan of the files carries what DataFusion writes of it, where the files lie, and the entity tag of each: the engine's own form loses the
//! tags and the readers, and a file that has changed would be read as if it had not. No client and no credential travels: each process
//! opens locations by its own options and environment.

use std::{collections::HashMap, sync::Arc};

use datafusion::{
    common::Result as DfResult,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource},
        source::DataSourceExec,
    },
    physical_plan::ExecutionPlan,
};
use datafusion_proto::logical_plan::LogicalExtensionCodec;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::{
    Visibility,
    guard::{GuardExec, GuardRule, Pruned},
    pinned_reader::PinnedReaders,
};
use crate::{
    catalog::FactTable,
    error::{Error, Result},
    storage::{Locations, PinnedScan, pinned_source},
    time::{AsOf, Cutoff, Horizon},
};

/// How plans and functions travel, and how locations are opened at the other end.
pub(crate) trait Carrier {
    /// A plan as bytes.
    fn encode_plan(&self, plan: &Arc<dyn ExecutionPlan>) -> DfResult<Vec<u8>>;

    /// The plan that these bytes are.
    fn decode_plan(&self, bytes: &[u8]) -> DfResult<Arc<dyn ExecutionPlan>>;

    /// The functions in expressions.
    fn functions(&self) -> &dyn LogicalExtensionCodec;

    /// The locations of this process.
    fn locations(&self) -> &Locations;
}

/// One of the two nodes.
#[derive(Clone, PartialEq, Message)]
struct ScanNode {
    /// [`AskedGuard`] as JSON.
    #[prost(string, optional, tag = "1")]
    guard: Option<String>,
    #[prost(message, optional, tag = "2")]
    files: Option<Files>,
}

/// A scan of pinned files.
#[derive(Clone, PartialEq, Message)]
struct Files {
    /// DataFusion's own scan.
    #[prost(bytes = "vec", tag = "1")]
    plan: Vec<u8>,
    #[prost(string, tag = "2")]
    table: String,
    #[prost(string, tag = "3")]
    place: String,
    #[prost(message, repeated, tag = "4")]
    pins: Vec<Pin>,
}

/// A file as it was when it was pinned.
#[derive(Clone, PartialEq, Message)]
struct Pin {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(string, optional, tag = "2")]
    e_tag: Option<String>,
    #[prost(string, optional, tag = "3")]
    version: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct AskedGuard {
    table: String,
    version: u64,
    declared: FactTable,
    as_of_us: i64,
    cutoff: Cutoff,
    partitions_pruned: (usize, usize),
    files_pruned: (usize, usize),
}

/// The node as bytes; `None` for a node that is none of the two.
pub(crate) fn encode(node: &dyn ExecutionPlan, carrier: &dyn Carrier) -> DfResult<Option<Vec<u8>>> {
    let message = if let Some(guard) = node.downcast_ref::<GuardExec>() {
        ScanNode { guard: Some(encoded_guard(&guard.rule)?), files: None }
    } else if let Some(scan) = PinnedScan::of(node) {
        ScanNode { guard: None, files: Some(encoded_files(&scan, carrier)?) }
    } else {
        return Ok(None);
    };
    Ok(Some(message.encode_to_vec()))
}

/// The node that these bytes are, over these inputs.
pub(crate) fn decode(bytes: &[u8], inputs: &[Arc<dyn ExecutionPlan>], carrier: &dyn Carrier) -> DfResult<Arc<dyn ExecutionPlan>> {
    match (ScanNode::decode(bytes).map_err(|e| flawed(&e))?, inputs) {
        (ScanNode { files: Some(files), .. }, []) => decoded_files(files, carrier),
        (ScanNode { guard: Some(guard), files: None }, [rows]) => decoded_guard(&guard, rows),
        _ => Err(flawed(&"it has other inputs").into()),
    }
}

fn encoded_guard(rule: &GuardRule) -> Result<String> {
    let GuardRule { table, version, declared, visibility, pruned, .. } = rule;
    let Some(version) = *version else {
        let reason = "it is over a provider, whose rows are read in the process that has it".into();
        return Err(Error::Internal { subject: format!("a scan of `{table}` for another process"), reason });
    };
    let Horizon { as_of, cutoff } = visibility.horizon;
    let asked = AskedGuard {
        table: table.clone(),
        version,
        declared: declared.clone(),
        as_of_us: as_of.micros(),
        cutoff,
        partitions_pruned: pruned.partitions,
        files_pruned: pruned.files,
    };
    serde_json::to_string(&asked).map_err(|e| flawed(&e))
}

fn decoded_guard(guard: &str, rows: &Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
    let asked: AskedGuard = serde_json::from_str(guard).map_err(|e| flawed(&e))?;
    let (schema, horizon) = (rows.schema(), Horizon::new(AsOf::from_micros(asked.as_of_us), asked.cutoff));
    let visibility = Visibility::of(&format!("table `{}`", asked.table), &asked.declared, &schema, horizon)?;
    let rule = GuardRule {
        table: asked.table,
        version: Some(asked.version),
        declared: asked.declared,
        positions: visibility.positions(&schema)?,
        visibility: Arc::new(visibility),
        pruned: Pruned { partitions: asked.partitions_pruned, files: asked.files_pruned },
    };
    Ok(Arc::new(GuardExec::new(rows.clone(), Arc::new(rule))))
}

fn encoded_files(scan: &PinnedScan<'_>, carrier: &dyn Carrier) -> DfResult<Files> {
    let PinnedScan { config, table, place, source } = scan;
    let plain = FileScanConfigBuilder::from((*config).clone()).with_source(Arc::clone(source)).build();
    let mut pins: Vec<Pin> = Vec::new();
    for file in config.file_groups.iter().flat_map(FileGroup::iter) {
        let object = &file.object_meta;
        let pin = Pin { path: object.location.to_string(), e_tag: object.e_tag.clone(), version: object.version.clone() };
        if pins.last() != Some(&pin) {
            pins.push(pin);
        }
    }
    let plan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(plain);
    Ok(Files { plan: carrier.encode_plan(&plan)?, table: (*table).to_owned(), place: place.to_text(), pins })
}

fn decoded_files(files: Files, carrier: &dyn Carrier) -> DfResult<Arc<dyn ExecutionPlan>> {
    let plan = carrier.decode_plan(&files.plan)?;
    let config = plan.downcast_ref::<DataSourceExec>().and_then(|scan| scan.data_source().downcast_ref::<FileScanConfig>());
    let source = config.and_then(|config| config.file_source().downcast_ref::<ParquetSource>());
    // A task that reads none of the files has a scan of no rows.
    let (Some(config), Some(source)) = (config, source) else { return Ok(plan) };
    let place = carrier.locations().open(&files.place)?;
    let pins: HashMap<String, Pin> = files.pins.into_iter().map(|pin| (pin.path.clone(), pin)).collect();
    let pinned = |file: &PartitionedFile| {
        let mut file = file.clone();
        let pin = pins.get(file.object_meta.location.as_ref()).ok_or_else(|| flawed(&"a file has no pin"))?;
        (file.object_meta.e_tag, file.object_meta.version) = (pin.e_tag.clone(), pin.version.clone());
        Ok::<_, Error>(file)
    };
    let group = |group: &FileGroup| Ok::<_, Error>(FileGroup::new(group.iter().map(pinned).collect::<Result<_>>()?));
    let groups = config.file_groups.iter().map(group).collect::<Result<Vec<_>>>()?;
    let readers = PinnedReaders { table: files.table.clone(), location: place.clone(), disk_cache: None };
    let source = source.clone().with_parquet_file_reader_factory(Arc::new(readers));
    let config = FileScanConfigBuilder::from(config.clone())
        .with_source(pinned_source(&files.table, &place, source))
        .with_file_groups(groups)
        .build();
    Ok(DataSourceExec::from_data_source(config))
}

fn flawed(reason: &dyn std::fmt::Display) -> Error {
    Error::Internal { subject: "a scan from another process".into(), reason: reason.to_string() }
}
