//! DataFusion's scan of Parquet files, with panics of the decoder turned into errors by [`contain`](super::contain): such a
//! file ends the query with an error that names it, whichever task reads it. Everything else is DataFusion's own source.

use std::{fmt, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{Result as DfResult, config::ConfigOptions, tree_node::TreeNodeRecursion},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{
            FileGroup, FileGroupPartitioner, FileOpener, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
        },
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    logical_expr::{Expr, TableType},
    physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr, projection::ProjectionExprs},
    physical_plan::{
        DisplayFormatType, ExecutionPlan, SortOrderPushdownResult, empty::EmptyExec, filter_pushdown::FilterPushdownPropagation,
        metrics::ExecutionPlanMetricsSet,
    },
};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use object_store::{ObjectMeta, ObjectStore};

use super::{
    Location,
    contain::{contained, contained_read, contained_rows},
};
use crate::error::Result;

/// DataFusion's source of Parquet, with panics of the decoder turned into errors.
pub(crate) fn contained_source(place: &Location, source: ParquetSource) -> Arc<dyn FileSource> {
    Arc::new(Contained { inner: Arc::new(source), place: place.clone(), table: None })
}

/// As [`contained_source`], of files of a table that are read as they were when they were pinned.
pub(crate) fn pinned_source(table: &str, place: &Location, source: ParquetSource) -> Arc<dyn FileSource> {
    Arc::new(Contained { inner: Arc::new(source), place: place.clone(), table: Some(table.into()) })
}

/// Does the node scan pinned files that other processes can open, too?
pub(crate) fn is_pinned_scan(node: &dyn ExecutionPlan) -> bool {
    pinned(node).is_some_and(|(_, scan)| scan.place.base().scheme() != "memory")
}

fn pinned(node: &dyn ExecutionPlan) -> Option<(&FileScanConfig, &Contained)> {
    let config = node.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()?;
    let contained = config.file_source().downcast_ref::<Contained>()?;
    contained.table.as_ref().map(|_| (config, contained))
}

/// A scan of pinned files.
#[cfg(feature = "cluster")]
pub(crate) struct PinnedScan<'a> {
    pub(crate) config: &'a FileScanConfig,
    pub(crate) table: &'a str,
    /// Below which the files lie.
    pub(crate) place: &'a Location,
    /// DataFusion's own source.
    pub(crate) source: &'a Arc<dyn FileSource>,
}

#[cfg(feature = "cluster")]
impl<'a> PinnedScan<'a> {
    /// The scan that a node is; `None` for another node.
    pub(crate) fn of(node: &'a dyn ExecutionPlan) -> Option<Self> {
        let (config, contained) = pinned(node)?;
        Some(Self { config, table: contained.table.as_deref()?, place: &contained.place, source: &contained.inner })
    }
}

struct Contained {
    inner: Arc<dyn FileSource>,
    place: Location,
    /// The table whose files are pinned.
    table: Option<Arc<str>>,
}

impl Contained {
    fn with(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { inner, place: self.place.clone(), table: self.table.clone() })
    }
}

impl FileSource for Contained {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> DfResult<Arc<dyn FileOpener>> {
        self.inner.create_file_opener(store, config, partition)
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> DfResult<Box<dyn Morselizer>> {
        let inner = self.inner.create_morselizer(store, config, partition)?;
        Ok(Box::new(ContainedFiles { inner, place: self.place.clone() }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        self.with(self.inner.with_batch_size(batch_size))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_extra(format, f)
    }

    fn supports_repartitioning(&self) -> bool {
        self.inner.supports_repartitioning()
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> DfResult<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let pushed = self.inner.try_pushdown_filters(filters, config)?;
        Ok(FilterPushdownPropagation { filters: pushed.filters, updated_node: pushed.updated_node.map(|inner| self.with(inner)) })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> DfResult<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(match self.inner.try_pushdown_sort(order, properties)? {
            SortOrderPushdownResult::Exact { inner } => SortOrderPushdownResult::Exact { inner: self.with(inner) },
            SortOrderPushdownResult::Inexact { inner } => SortOrderPushdownResult::Inexact { inner: self.with(inner) },
            SortOrderPushdownResult::Unsupported => SortOrderPushdownResult::Unsupported,
        })
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> DfResult<Option<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_projection(projection)?.map(|inner| self.with(inner)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }
}

#[derive(Debug)]
struct ContainedFiles {
    inner: Box<dyn Morselizer>,
    place: Location,
}

impl Morselizer for ContainedFiles {
    fn plan_file(&self, file: PartitionedFile) -> DfResult<Box<dyn MorselPlanner>> {
        let shown: Arc<str> = self.place.child(&self.place.name_of(&file.object_meta.location)).to_string().into();
        let inner = contained(&shown, || self.inner.plan_file(file))?;
        Ok(Box::new(ContainedPlanner { inner, shown }))
    }
}

#[derive(Debug)]
struct ContainedPlanner {
    inner: Box<dyn MorselPlanner>,
    shown: Arc<str>,
}

impl MorselPlanner for ContainedPlanner {
    fn plan(self: Box<Self>) -> DfResult<Option<MorselPlan>> {
        let Self { inner, shown } = *self;
        let Some(mut plan) = contained(&shown, || inner.plan())? else { return Ok(None) };
        let planner = |inner, shown| Box::new(ContainedPlanner { inner, shown }) as Box<dyn MorselPlanner>;
        let morsels = plan.take_morsels().into_iter();
        let morsels = morsels.map(|inner| Box::new(ContainedMorsel { inner, shown: shown.clone() }) as Box<dyn Morsel>);
        let ready = plan.take_ready_planners().into_iter().map(|inner| planner(inner, shown.clone()));
        let mut wrapped = MorselPlan::new().with_morsels(morsels.collect()).with_planners(ready.collect());
        if let Some(pending) = plan.take_pending_planner() {
            wrapped.set_pending_planner(async move {
                let inner = contained_read(&shown, pending.into_future()).await?;
                Ok(planner(inner, shown))
            });
        }
        Ok(Some(wrapped))
    }
}

#[derive(Debug)]
struct ContainedMorsel {
    inner: Box<dyn Morsel>,
    shown: Arc<str>,
}

impl Morsel for ContainedMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, DfResult<RecordBatch>> {
        let Self { inner, shown } = *self;
        match contained(&shown, || DfResult::Ok(inner.into_stream())) {
            Ok(rows) => contained_rows(shown, rows).boxed(),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }
}

/// Parquet files with known columns as a table: all of their rows, in the order of the files.
#[derive(Debug)]
pub(crate) struct ParquetTable {
    place: Location,
    files: Vec<ObjectMeta>,
    schema: SchemaRef,
}

impl ParquetTable {
    /// These files below a location. A column that a file lacks is NULL in its rows.
    pub(crate) fn new(place: Location, files: Vec<ObjectMeta>, schema: SchemaRef) -> Self {
        Self { place, files, schema }
    }

    /// As [`ParquetTable::new`], with the columns of the files.
    ///
    /// # Errors
    /// [`Error::UnreadableFile`](crate::Error::UnreadableFile) for a file that is not Parquet,
    /// [`Error::Query`](crate::Error::Query) for files whose columns contradict each other.
    pub(crate) async fn with_own_columns(place: Location, files: Vec<ObjectMeta>) -> Result<Self> {
        let (mut schemas, mut with_rows) = (Vec::with_capacity(files.len()), Vec::with_capacity(files.len()));
        for file in files {
            let footer = super::read_footer(&place, &file).await?;
            schemas.push(footer.schema().as_ref().clone().with_metadata(Default::default()));
            if footer.metadata().file_metadata().num_rows() > 0 {
                with_rows.push(file);
            }
        }
        let schema = Arc::new(arrow::datatypes::Schema::try_merge(schemas)?);
        Ok(Self { place, files: with_rows, schema })
    }
}

#[async_trait]
impl TableProvider for ParquetTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        if self.files.is_empty() {
            let schema = projection.map_or(Ok(self.schema.clone()), |columns| self.schema.project(columns).map(Arc::new))?;
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        state.runtime_env().register_object_store(self.place.base(), self.place.store().clone());
        let mut options = state.default_table_options().parquet;
        options.global = state.config_options().execution.parquet.clone();
        let source = ParquetSource::new(TableSchema::from(self.schema.clone())).with_table_parquet_options(options);
        let whole = vec![FileGroup::new(self.files.iter().cloned().map(PartitionedFile::new_from_meta).collect())];
        let groups = state.config().target_partitions().max(1);
        let parts = FileGroupPartitioner::new().with_target_partitions(groups).repartition_file_groups(&whole);
        let config = FileScanConfigBuilder::new(self.place.datafusion_url()?, contained_source(&self.place, source))
            .with_file_groups(parts.unwrap_or(whole))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
