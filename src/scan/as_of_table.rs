//! A fact table as of a horizon, as a DataFusion table: the files of a pinned version, or the rows of a provider.
//! The source of the rows and the horizon are fixed when the table is opened.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::{
    catalog::{Session, TableProvider},
    common::{ColumnStatistics, DFSchema, Result as DfResult, ScalarValue, Statistics, stats::Precision},
    datasource::{
        empty::EmptyTable,
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileGroupPartitioner, FileScanConfigBuilder, ParquetSource},
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    logical_expr::{Expr, TableProviderFilterPushDown, TableType, utils::conjunction},
    physical_expr::expressions::Column as PhysicalColumn,
    physical_plan::{ExecutionPlan, empty::EmptyExec, filter::FilterExec, projection::ProjectionExec},
};
use futures::{StreamExt, TryStreamExt, future::BoxFuture};
use object_store::ObjectMeta;

use super::{
    Visibility, VisibleTable,
    guard::{GuardExec, GuardRule, Pruned},
    pinned_reader::PinnedReaders,
    visibility::time_literal,
};
use crate::{
    catalog::{Column, FactTable, FileEntry, TableVersion, typed_value},
    error::{Error, Result},
    name::TableName,
    storage::{DiskCache, Location, pinned_source},
    time::{AsOf, Horizon},
    workspace::PinnedTable,
};

/// Up to this many files are looked up one by one; for more, the folder is listed.
const HEADS_AT_MOST: usize = 64;
const HEADS_AT_ONCE: usize = 16;

/// A fact table as of a horizon.
#[derive(Debug, Clone)]
pub(crate) struct AsOfTable {
    name: TableName,
    declared: FactTable,
    visibility: Arc<Visibility>,
    schema: SchemaRef,
    rows: RowSource,
}

/// Where the rows come from.
#[derive(Debug, Clone)]
enum RowSource {
    Files(Box<Files>),
    Provider(Arc<dyn TableProvider>),
}

/// The files of a pinned version.
#[derive(Debug, Clone)]
struct Files {
    version: Arc<TableVersion>,
    location: Location,
    disk_cache: Option<DiskCache>,
    schema: SchemaRef,
    /// The files that may hold visible rows, as the object store has them now.
    open: Vec<(FileEntry, ObjectMeta)>,
    /// The byte range of each file to read, `None` for whole files. A row group belongs to the range in which it begins.
    ranges: Option<Vec<(u64, u64)>>,
    grouping: Grouping,
}

/// How files are divided among tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grouping {
    /// Into runs of about the same size.
    Shared,
    /// Each file, or range of one, is a partition of its own.
    Apart,
}

impl AsOfTable {
    /// Pins the files that may hold visible rows, and checks that they are what they were when they were registered.
    ///
    /// # Errors
    /// [`Error::FileChanged`] names the first file that has changed or vanished.
    pub(crate) async fn open(table: &VisibleTable) -> Result<Self> {
        let PinnedTable { version, location, disk_cache } = table.pinned().clone();
        let file_schema = version.file_schema()?;
        let partition_schema = Column::schema(version.partition_columns())?;
        let fields: Vec<_> = file_schema.fields().iter().chain(partition_schema.fields()).cloned().collect();
        let candidates: Vec<&FileEntry> = table.files().collect();
        let found = find(&location, &candidates).await?;
        let mut files = Vec::with_capacity(candidates.len());
        for (file, object) in candidates.into_iter().zip(found) {
            let changed = |change: &str| Error::FileChanged {
                table: version.table().to_string(),
                path: location.child(&file.path).to_string(),
                change: change.into(),
            };
            let object = object.ok_or_else(|| changed("has vanished"))?;
            if !location.is_unchanged(&object, &file.identity).await? {
                return Err(changed("has changed"));
            }
            files.push((file.clone(), object));
        }
        Ok(Self {
            name: version.table().clone(),
            declared: version.declared().clone(),
            schema: Arc::new(Schema::new(fields)),
            visibility: table.visibility().clone(),
            rows: RowSource::Files(Box::new(Files {
                version,
                location,
                disk_cache,
                schema: file_schema,
                open: files,
                ranges: None,
                grouping: Grouping::Shared,
            })),
        })
    }

    /// The same table with its newest files first. A search for the newest facts then finds them early and drops more of the
    /// others.
    pub(crate) fn newest_first(mut self) -> Self {
        if let RowSource::Files(files) = &mut self.rows {
            // A file with unknown times may hold the newest facts, so it comes first.
            let newest = |file: &FileEntry| (file.event.is_some(), Reverse(file.event.map(|bounds| bounds.max)));
            files.open.sort_by_key(|(file, _)| newest(file));
        }
        self
    }

    /// The files that may hold visible rows; those of a provider are unknown.
    pub(crate) fn files(&self) -> impl Iterator<Item = &FileEntry> {
        let open = match &self.rows {
            RowSource::Files(files) => files.open.as_slice(),
            RowSource::Provider(_) => &[],
        };
        open.iter().map(|(file, _)| file)
    }

    /// The table with these pieces only: index of the file, first byte, byte after the last.
    pub(crate) fn pieces(&self, pieces: &[(usize, u64, u64)]) -> Self {
        let mut table = self.clone();
        if let RowSource::Files(files) = &mut table.rows {
            files.open = pieces.iter().filter_map(|(file, ..)| files.open.get(*file).cloned()).collect();
            files.ranges = Some(pieces.iter().map(|(_, start, end)| (*start, *end)).collect());
        }
        table
    }

    /// The table with these of its files only.
    pub(crate) fn only(&self, positions: &[usize]) -> Self {
        let mut table = self.clone();
        if let RowSource::Files(files) = &mut table.rows {
            files.open = positions.iter().filter_map(|&file| files.open.get(file).cloned()).collect();
        }
        table
    }

    /// As [`AsOfTable::pieces`], where each piece is a partition of its own, in their order.
    pub(crate) fn pieces_apart(&self, pieces: &[(usize, u64, u64)]) -> Self {
        let mut table = self.pieces(pieces);
        if let RowSource::Files(files) = &mut table.rows {
            files.grouping = Grouping::Apart;
        }
        table
    }

    /// A file as the object store knows it.
    pub(crate) fn object(&self, file: usize) -> Option<&object_store::path::Path> {
        match &self.rows {
            RowSource::Files(files) => files.open.get(file).map(|(_, object)| &object.location),
            RowSource::Provider(_) => None,
        }
    }

    /// The rows of a provider.
    pub(super) fn over(
        name: &TableName,
        provider: Arc<dyn TableProvider>,
        declared: FactTable,
        horizon: Horizon,
    ) -> Result<Self> {
        let schema = provider.schema();
        let visibility = Arc::new(Visibility::of(&format!("table `{name}`"), &declared, &schema, horizon)?);
        Ok(Self { name: name.clone(), declared, visibility, schema, rows: RowSource::Provider(provider) })
    }

    /// No rows of a table with these columns and this declaration, to plan queries against.
    pub(crate) fn without_rows(name: &TableName, columns: SchemaRef, declared: FactTable) -> Result<Self> {
        Self::over(name, Arc::new(EmptyTable::new(columns)), declared, Horizon::before(AsOf::END_OF_TIME))
    }

    pub(crate) fn name(&self) -> &TableName {
        &self.name
    }

    /// The location of the files; `None` for a provider.
    pub(crate) fn location(&self) -> Option<&Location> {
        match &self.rows {
            RowSource::Files(files) => Some(&files.location),
            RowSource::Provider(_) => None,
        }
    }

    /// The declaration of the table: how its times are read, and when its facts could be known.
    pub(crate) fn declared(&self) -> &FactTable {
        &self.declared
    }
}

impl Files {
    fn pruned(&self) -> Pruned {
        let folder = |file: &FileEntry| file.path.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.into());
        let all: BTreeSet<String> = self.version.files().iter().map(folder).collect();
        let kept: BTreeSet<String> = self.open.iter().map(|(file, _)| folder(file)).collect();
        let (files, kept_files) = (self.version.files().len(), self.open.len());
        Pruned { partitions: (all.len() - kept.len(), all.len()), files: (files - kept_files, files) }
    }

    fn partition_values(&self, file: &FileEntry) -> Result<Vec<ScalarValue>> {
        let columns = self.version.partition_columns().iter().zip(&file.partition);
        let value = |(column, value): (&Column, &Option<String>)| {
            let data_type = column.to_field()?.data_type().clone();
            typed_value(value.as_deref(), &data_type).ok_or_else(|| Error::Corrupt {
                path: self.location.child(&file.path).to_string(),
                reason: format!(
                    "the catalog has `{}` = `{}` for it, which is not a valid {data_type}; repair the table",
                    column.name,
                    value.as_deref().unwrap_or("NULL")
                ),
            })
        };
        columns.map(value).collect()
    }

    /// The catalog's bounds of a file's times, for filters that are not known before execution.
    fn times_of(&self, file: &FileEntry) -> Result<Statistics> {
        let partitions = self.version.partition_columns().len();
        let unknown = || ColumnStatistics::new_unknown();
        let mut columns: Vec<_> = (0..self.schema.fields().len() + partitions).map(|_| unknown()).collect();
        for (time, bounds) in self.version.declared().time_columns().zip([file.event, file.known]) {
            let bounds = bounds.filter(|bounds| !bounds.is_empty());
            let (Some(bounds), Ok(position)) = (bounds, self.schema.index_of(time.name())) else { continue };
            let data_type = self.schema.field(position).data_type();
            columns[position] = ColumnStatistics {
                min_value: Precision::Exact(time_literal(data_type, bounds.min)?),
                max_value: Precision::Exact(time_literal(data_type, bounds.max)?),
                ..unknown()
            };
        }
        Ok(Statistics { num_rows: Precision::Absent, total_byte_size: Precision::Absent, column_statistics: columns })
    }

    /// The files, divided among at most `groups` tasks into runs of about the same size. Tasks may share a large file.
    fn file_groups(&self, groups: usize) -> Result<Vec<FileGroup>> {
        let files = self.open.iter().enumerate().map(|(i, (file, object))| {
            let mut whole = PartitionedFile::new_from_meta(object.clone()).with_partition_values(self.partition_values(file)?);
            whole.statistics = Some(Arc::new(self.times_of(file)?));
            // No file is so long that this saturates.
            let signed = |byte: u64| i64::try_from(byte).unwrap_or(i64::MAX);
            Ok(match self.ranges.as_ref().and_then(|ranges| ranges.get(i)) {
                Some((start, end)) => whole.with_range(signed(*start), signed(*end)),
                None => whole,
            })
        });
        let files = files.collect::<Result<Vec<_>>>()?;
        if self.grouping == Grouping::Apart {
            return Ok(files.into_iter().map(|file| FileGroup::new(vec![file])).collect());
        }
        let whole = vec![FileGroup::new(files)];
        let parts = FileGroupPartitioner::new().with_target_partitions(groups.max(1)).repartition_file_groups(&whole);
        Ok(parts.unwrap_or(whole))
    }

    /// A scan of these columns of all rows, visible or not.
    fn scan(&self, state: &dyn Session, read: &[usize], read_schema: SchemaRef) -> DfResult<Arc<dyn ExecutionPlan>> {
        if self.open.is_empty() {
            return Ok(Arc::new(EmptyExec::new(read_schema)));
        }
        // The session may be another one than the table was made for, without the table's object store.
        state.runtime_env().register_object_store(self.location.base(), self.location.store().clone());
        let partition_fields: Vec<_> = Column::schema(self.version.partition_columns())?.fields().iter().cloned().collect();
        let table_schema = TableSchema::builder(self.schema.clone()).with_table_partition_cols(partition_fields).build();
        let mut options = state.default_table_options().parquet;
        options.global = state.config_options().execution.parquet.clone();
        let readers = PinnedReaders {
            table: self.version.table().to_string(),
            location: self.location.clone(),
            disk_cache: self.disk_cache.clone(),
        };
        let source = ParquetSource::new(table_schema)
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(readers));
        let config = FileScanConfigBuilder::new(
            self.location.datafusion_url()?,
            pinned_source(&self.version.table().to_string(), &self.location, source),
        )
        .with_file_groups(self.file_groups(state.config().target_partitions())?)
        .with_projection_indices(Some(read.to_vec()))?
        .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// What the object store has of these files now, in their order.
async fn find(location: &Location, files: &[&FileEntry]) -> Result<Vec<Option<ObjectMeta>>> {
    if files.len() <= HEADS_AT_MOST {
        let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        let heads = futures::stream::iter(paths.into_iter().map(|path| async move { location.head(&path).await }));
        return heads.buffered(HEADS_AT_ONCE).try_collect().await;
    }
    let listed = location.list().await?;
    let mut by_name: std::collections::HashMap<_, _> = listed.into_iter().map(|o| (location.name_of(&o.location), o)).collect();
    let mut found: Vec<Option<ObjectMeta>> = files.iter().map(|file| by_name.remove(&file.path)).collect();
    // Partitions may lie outside of the table's own location.
    for (file, object) in files.iter().zip(&mut found).filter(|(file, _)| file.path.starts_with('/')) {
        *object = location.head(&file.path).await?;
    }
    Ok(found)
}

/// `scan` is written without `async_trait`, whose lifetime bounds make the compiler prove anew, in this function's own environment,
/// that an expression is `Send`: a fifth of the time that it spends on this crate.
impl TableProvider for AsOfTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Every filter is applied together with the time rule, below the guard, or above it for a provider.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Exact; filters.len()])
    }

    fn scan<'t, 's, 'p, 'e, 'f>(
        &'t self,
        state: &'s dyn Session,
        projection: Option<&'p Vec<usize>>,
        filters: &'e [Expr],
        _: Option<usize>,
    ) -> BoxFuture<'f, DfResult<Arc<dyn ExecutionPlan>>>
    where
        't: 'f,
        's: 'f,
        'p: 'f,
        'e: 'f,
        Self: 'f,
    {
        self.visible_rows(state, projection, filters)
    }
}

impl AsOfTable {
    /// The visible rows that pass the filters.
    fn visible_rows<'f>(
        &'f self,
        state: &'f dyn Session,
        projection: Option<&'f Vec<usize>>,
        filters: &'f [Expr],
    ) -> BoxFuture<'f, DfResult<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            let wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
            let times = self.visibility.positions(&self.schema)?;

            // What is read: the wanted columns, then those that only filters and the guard need.
            let mut read = wanted.clone();
            let filter_columns = filters.iter().flat_map(|f| f.column_refs().into_iter().map(|c| self.schema.index_of(&c.name)));
            for position in filter_columns.collect::<Result<Vec<_>, _>>()?.into_iter().chain(times) {
                if !read.contains(&position) {
                    read.push(position);
                }
            }

            // A query that only counts the rows of a timeless table needs no column, and readers count those of one.
            if read.is_empty() && !self.schema.fields().is_empty() {
                read.push(0);
            }

            let read_schema = Arc::new(self.schema.project(&read)?);
            let visible = self.visibility.filter()?;
            let (rows, version, pruned) = match &self.rows {
                RowSource::Files(files) => {
                    (files.scan(state, &read, read_schema.clone())?, Some(files.version.version()), files.pruned())
                }
                RowSource::Provider(provider) => {
                    // A provider may apply the time rule itself. The user's filters must come after the time rule, so it gets none.
                    let rule = provider.supports_filters_pushdown(&visible.iter().collect::<Vec<_>>())?;
                    let takes_it = rule.first().is_some_and(|push| *push != TableProviderFilterPushDown::Unsupported);
                    let pushed: Vec<Expr> = visible.clone().into_iter().filter(|_| takes_it).collect();
                    let rows = provider.scan(state, Some(&read), &pushed, None).await?;
                    (rows, None, Pruned { partitions: (0, 0), files: (0, 0) })
                }
            };

            // The time rule comes first, so that the user's filters are never evaluated on hidden facts. The Parquet reader keeps
            // the order of a filter's conjuncts. For a provider the user's filters go above the guard, and stay there.
            let user = || filters.iter().map(unqualified);
            let (first, behind) = match version {
                Some(_) => (conjunction(visible.into_iter().chain(user())), None),
                None => (visible, conjunction(user())),
            };
            let read_fields = DFSchema::try_from(read_schema.clone())?;
            let filtered = |rows: Arc<dyn ExecutionPlan>, filter: Option<Expr>| -> DfResult<Arc<dyn ExecutionPlan>> {
                let Some(filter) = filter else { return Ok(rows) };
                let predicate = state.create_physical_expr(filter, &read_fields)?;
                Ok(Arc::new(FilterExec::try_new(predicate, rows)?))
            };
            let rows = filtered(rows, first)?;

            let rule = GuardRule {
                table: self.name.to_string(),
                version,
                declared: self.declared.clone(),
                positions: self.visibility.positions(&read_schema)?,
                visibility: self.visibility.clone(),
                pruned,
            };
            let guarded = filtered(Arc::new(GuardExec::new(rows, Arc::new(rule))), behind)?;
            let outputs = wanted.iter().enumerate().map(|(i, &position)| {
                let name = self.schema.field(position).name();
                (Arc::new(PhysicalColumn::new(name, i)) as _, name.clone())
            });
            let rows: Arc<dyn ExecutionPlan> = Arc::new(ProjectionExec::try_new(
                outputs.collect::<Vec<(Arc<dyn datafusion::physical_expr::PhysicalExpr>, String)>>(),
                guarded,
            )?);
            Ok(rows)
        })
    }
}

/// The filter without the table's alias: the scan's columns have no qualifier.
fn unqualified(filter: &Expr) -> Expr {
    use datafusion::common::{
        Column as NamedColumn,
        tree_node::{Transformed, TreeNode},
    };
    let renamed = filter.clone().transform(|e| {
        Ok(match e {
            Expr::Column(column) => Transformed::yes(Expr::Column(NamedColumn::new_unqualified(column.name))),
            other => Transformed::no(other),
        })
    });
    renamed.map_or_else(|_| filter.clone(), |t| t.data)
}
