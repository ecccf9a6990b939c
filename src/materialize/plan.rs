//! The plan of a materialization: what would be read and computed, told from the catalog, the manifest and the definition.
//! No file of facts and no file with rows is opened, and nothing is written.

use std::{fmt, sync::Arc};

use super::{
    binding::check_binding,
    columns::check_columns,
    incremental::{Incremental, TableFiles, table_files},
    row_set::is_sorted_late,
    run::{Inputs, cached_manifest, location_of, read_manifest},
};
use crate::{
    catalog::Partition,
    encoder::Spec,
    error::Result,
    feature_set::{EntitySet, FeatureSet, RowSet, SetBody, Source, View},
    layout::MANIFEST,
    manifest::Manifest,
    name::{ContentId, SetName, TableName},
    scan::VisibleTable,
    storage::Location,
    temporal::{Aggregate, Expression},
    text_table::{lines, on_one_line},
    time::{AsOf, Cutoff, shown_span},
    workspace::Workspace,
};

/// What a materialization would read and compute; see [`FeatureStore::plan`](crate::FeatureStore::plan). It prints as text.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MaterializationPlan {
    /// The feature set.
    pub set: SetName,
    /// The instant at which the facts are cut.
    pub as_of: AsOf,
    /// Whether facts at exactly the as-of are visible.
    pub cutoff: Cutoff,
    /// The id that the materialization has, or would have over the tables as they are now.
    pub id: ContentId,
    /// The rows, if they are published already. Then nothing is read of the tables, and nothing is computed.
    pub published: Option<PublishedRows>,
    /// The tables, in the order of the definition.
    pub tables: Vec<PlannedTable>,
    /// The views through which tables are read.
    pub views: Vec<View>,
    /// What computes the rows, in this order, if they are not published yet.
    pub steps: Vec<PlannedStep>,
}

/// A table that a materialization is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedTable {
    /// The table.
    pub table: TableName,
    /// Its newest version.
    pub version: u64,
    /// Files that may hold visible rows; the others are not opened.
    pub files: usize,
    /// All files of the version.
    pub all_files: usize,
    /// Rows of the files that may hold visible rows. At most so many are visible.
    pub rows: u64,
    /// Rows of all files.
    pub all_rows: u64,
    /// The size of the files that may hold visible rows. At most so many bytes are read: columns and row groups that are not needed
    /// are left out.
    pub bytes: u64,
    /// The size of all files.
    pub all_bytes: u64,
    /// The partitions of the files that may hold visible rows, with these files alone. A table without partition columns has one,
    /// whose path is empty.
    pub partitions: Vec<Partition>,
    /// How many partitions the version has.
    pub all_partitions: usize,
    /// Is it timeless? Then all of its rows are visible, whatever the as-of.
    pub is_timeless: bool,
    /// Which files a set of entities need not read, because what they contribute is there already.
    pub incremental: Incremental,
}

/// Rows that are published already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishedRows {
    /// How many.
    pub rows: u64,
    /// Their files.
    pub files: usize,
    /// The size of the files.
    pub bytes: u64,
    /// Is the manifest in this store's cache?
    pub is_manifest_cached: bool,
    /// Are all rows by key in this store's cache? `None` for a set of rows, whose rows are not served by key.
    pub are_rows_cached: Option<bool>,
}

/// A step of the computation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedStep {
    /// What is done.
    pub kind: StepKind,
    /// What does it: the encoder or row selection, the lookup or window with its table.
    pub name: String,
    /// The columns that it reads. An expression of an aggregate is listed as it was written; columns that a filter of an aggregate
    /// reads are not listed.
    pub columns: Vec<String>,
    /// The features that it makes.
    pub features: Vec<String>,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepKind {
    /// Runs the query of a set of rows.
    Query,
    /// Computes labels that lie ahead of each row.
    Label,
    /// Sorts the rows.
    Sort,
    /// Learns a row selection, and selects rows by it.
    Select,
    /// Learns the state of an encoder, and encodes rows with it.
    Fit,
    /// Encodes rows with a pure encoder.
    Encode,
    /// Looks up the newest fact of each entity.
    Lookup,
    /// Aggregates the facts of each entity over windows.
    Window,
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            StepKind::Query => "query",
            StepKind::Label => "label",
            StepKind::Sort => "sort",
            StepKind::Select => "select",
            StepKind::Fit => "fit",
            StepKind::Encode => "encode",
            StepKind::Lookup => "lookup",
            StepKind::Window => "window",
        })
    }
}

/// The plan of the materialization of a set at an instant over the newest versions of its tables.
pub(crate) async fn plan(workspace: &Arc<Workspace>, set: &FeatureSet, as_of: AsOf) -> Result<MaterializationPlan> {
    let horizon = set.horizon(as_of);
    let pinned = workspace.pin_all(&set.tables).await?;
    let Inputs { tables, id, .. } = Inputs::of(set, horizon, &pinned)?;
    let published = published(workspace, &location_of(workspace, &set.name, as_of, id), id).await?;
    let mut steps = Vec::new();
    let mut incremental = vec![Incremental::Off; tables.len()];
    if published.is_none() {
        check_binding(workspace, set).await?;
        match &set.body {
            SetBody::Rows(rows) => steps = row_steps(rows),
            SetBody::Entities(entities) => {
                check_columns(&workspace.engine, set, entities, &pinned).await?;
                steps = entity_steps(entities);
                let files = table_files(workspace, entities, &tables, (horizon.as_of, horizon.cutoff)).await?;
                incremental = files.iter().map(TableFiles::shown).collect();
            }
        }
    }
    let tables = tables.iter().zip(incremental).map(|(table, incremental)| planned(table, incremental)).collect();
    let (views, name) = (set.views().to_vec(), set.name.clone());
    Ok(MaterializationPlan { set: name, as_of: horizon.as_of, cutoff: horizon.cutoff, id, published, tables, views, steps })
}

/// The published rows with this id; `None` if there is no manifest.
async fn published(workspace: &Workspace, location: &Location, id: ContentId) -> Result<Option<PublishedRows>> {
    if location.head(MANIFEST).await?.is_none() {
        return Ok(None);
    }
    let cached = cached_manifest(workspace, id)?;
    let is_manifest_cached = cached.is_some();
    let Some(manifest) = (match cached {
        Some(manifest) => Some(manifest),
        None => read_manifest(location).await?,
    }) else {
        return Ok(None);
    };
    Ok(Some(PublishedRows {
        rows: manifest.rows,
        files: manifest.files().count(),
        bytes: manifest.files().map(|part| part.size).sum(),
        is_manifest_cached,
        are_rows_cached: are_rows_cached(workspace, &manifest),
    }))
}

/// Is there a file from which the rows can be served by key?
fn are_rows_cached(workspace: &Workspace, manifest: &Manifest) -> Option<bool> {
    let is_by_key = !manifest.keys.is_empty();
    is_by_key.then(|| workspace.cache.served().has(&manifest.set, manifest.id))
}

fn planned(visible: &VisibleTable, incremental: Incremental) -> PlannedTable {
    let version = &visible.pinned().version;
    PlannedTable {
        table: version.table().clone(),
        version: version.version(),
        files: visible.files().count(),
        all_files: version.files().len(),
        rows: visible.files().map(|file| file.rows).sum(),
        all_rows: version.rows(),
        bytes: visible.files().map(|file| file.identity.size).sum(),
        all_bytes: version.files().iter().map(|file| file.identity.size).sum(),
        partitions: version.partitions_of(visible.files()),
        all_partitions: version.partitions().len(),
        is_timeless: version.declared().is_timeless(),
        incremental,
    }
}

fn row_steps(set: &RowSet) -> Vec<PlannedStep> {
    let step = |kind, spec: Spec| PlannedStep {
        kind,
        columns: spec.inputs.iter().map(|field| field.name().clone()).collect(),
        features: spec.outputs.iter().map(|field| field.name().clone()).collect(),
        name: spec.name,
    };
    let plain = |kind, name: &str| PlannedStep { kind, name: name.into(), columns: Vec::new(), features: Vec::new() };
    let mut steps = vec![plain(StepKind::Query, "the rows of the set's query")];
    for ahead in &set.ahead {
        let labels = |labels: Vec<String>, columns: Vec<String>, what: String| PlannedStep {
            kind: StepKind::Label,
            name: format!(
                "{} by {}, {what}",
                ahead.table,
                ahead.on.iter().map(|(_, c)| c.as_str()).collect::<Vec<_>>().join(", ")
            ),
            columns,
            features: labels,
        };
        for (length, aggregates) in &ahead.windows {
            let names = aggregates.iter().map(|aggregate| aggregate.output().to_owned()).collect();
            steps.push(labels(names, columns_of(aggregates), format!("over the next {}", shown_span(*length))));
        }
        if !ahead.next.is_empty() {
            let (columns, names) = ahead.next.iter().cloned().unzip();
            steps.push(labels(names, columns, "the next fact".into()));
        }
    }
    for drawn in &set.drawn {
        steps.extend(drawn.sources().iter().flat_map(|(_, source)| source_steps(source)));
    }
    let sort = plain(StepKind::Sort, &format!("by {}, then by all other columns", set.event_time));
    let selections = set.selections.iter().map(|selection| step(StepKind::Select, selection.spec()));
    match is_sorted_late(set) {
        true => steps.extend(selections.chain([sort])),
        false => steps.extend([sort].into_iter().chain(selections)),
    }
    let kind = |is_fitted| if is_fitted { StepKind::Fit } else { StepKind::Encode };
    steps.extend(set.encoders.iter().map(|encoder| step(kind(encoder.is_fitted()), encoder.spec())));
    steps
}

fn entity_steps(set: &EntitySet) -> Vec<PlannedStep> {
    set.sources.iter().flat_map(source_steps).collect()
}

/// The columns and expressions that aggregates are over, each once.
fn columns_of(aggregates: &[Aggregate]) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for column in aggregates.iter().flat_map(Aggregate::arguments).map(Expression::text) {
        if !columns.iter().any(|known| known == column) {
            columns.push(column.to_owned());
        }
    }
    columns
}

fn source_steps(source: &Source) -> Vec<PlannedStep> {
    let mut steps = Vec::new();
    let by = source.on.iter().map(|(_, column)| column.as_str()).collect::<Vec<_>>().join(", ");
    let table = format!("{} by {by}", source.table);
    if !source.lookups.is_empty() {
        let detail = match source.max_age_us {
            Some(age) => format!(", at most {} old", shown_span(age)),
            None if source.timeless => ", timeless".to_owned(),
            None => String::new(),
        };
        let (columns, features) = source.lookups.iter().cloned().unzip();
        steps.push(PlannedStep { kind: StepKind::Lookup, name: format!("{table}{detail}"), columns, features });
    }
    for (length, aggregates) in &source.windows {
        let columns = columns_of(aggregates);
        let features = aggregates.iter().map(|aggregate| aggregate.output().to_owned()).collect();
        let length = on_one_line(&length.to_string());
        steps.push(PlannedStep { kind: StepKind::Window, name: format!("{table} over {length}"), columns, features });
    }
    steps
}

impl MaterializationPlan {
    /// The size of the files of facts that may hold visible rows, whether or not they would be read again.
    pub fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.bytes).sum()
    }

    /// The rows of these files. At most so many facts are visible.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

const HEADER: [&str; 6] = ["table", "version", "files", "rows", "bytes", "partitions"];

impl fmt::Display for MaterializationPlan {
    /// What there is already, a line per table, and a line per step. `2 of 12` files may hold visible rows, and so on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.cutoff == Cutoff::Inclusive { ", and at it" } else { "" };
        writeln!(f, "{} as of {}{at}", self.set, self.as_of)?;
        match &self.published {
            Some(PublishedRows { rows, files, bytes, is_manifest_cached, are_rows_cached }) => {
                writeln!(f, "published: {rows} rows in {files} file{} of {bytes} bytes", if *files == 1 { "" } else { "s" })?;
                let cached = |is_cached| if is_cached { "cached" } else { "not cached" };
                write!(f, "manifest {}", cached(*is_manifest_cached))?;
                match are_rows_cached {
                    Some(are_cached) => writeln!(f, ", rows by key {}", cached(*are_cached))?,
                    None => writeln!(f)?,
                }
            }
            None => writeln!(f, "not published")?,
        }
        writeln!(f, "id {}", self.id)?;
        let mut rows = vec![HEADER.map(str::to_owned).to_vec()];
        for table in &self.tables {
            rows.push(vec![
                if table.is_timeless { format!("{}, timeless", table.table) } else { table.table.to_string() },
                table.version.to_string(),
                format!("{} of {}", table.files, table.all_files),
                format!("{} of {}", table.rows, table.all_rows),
                format!("{} of {}", table.bytes, table.all_bytes),
                format!("{} of {}", table.partitions.len(), table.all_partitions),
            ]);
        }
        lines(&rows, 1).iter().try_for_each(|line| writeln!(f, "{line}"))?;
        self.views.iter().try_for_each(|view| writeln!(f, "view {}", view.shown()))?;
        for table in &self.tables {
            match table.incremental {
                // That a table is timeless stands in its line.
                Incremental::ByFile { from_tiles: 0, read_apart: 0 } | Incremental::Off | Incremental::Timeless => {}
                how => writeln!(f, "{}: {how}", table.table)?,
            }
        }
        if self.steps.is_empty() {
            return writeln!(f, "nothing to compute");
        }
        let row = |step: &PlannedStep| {
            let columns = if step.columns.is_empty() { String::new() } else { format!("({})", step.columns.join(", ")) };
            let features = if step.features.is_empty() { String::new() } else { format!("-> {}", step.features.join(", ")) };
            vec![step.kind.to_string(), step.name.clone(), columns, features]
        };
        let steps: Vec<Vec<String>> = self.steps.iter().map(row).collect();
        lines(&steps, 4).iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, RecordBatch};
    use chrono::TimeDelta;

    use super::*;
    use crate::{
        encoder::{AsOfView, Number, Purpose, RowSelection, Sample, Standardize},
        feature_set::{RowSetBuilder, Source},
        temporal::{Aggregate, Expression},
    };

    /// Keeps all rows, and wants them in their order.
    struct InOrder;

    impl RowSelection for InOrder {
        type State = ();

        fn spec(&self) -> Spec {
            Spec::new("in_order", 1).number("fare")
        }

        fn purpose(&self) -> Purpose {
            Purpose::Thinning
        }

        fn fit(&self, _: &AsOfView<'_>) -> Result<()> {
            Ok(())
        }

        fn keep(&self, (): &(), input: &RecordBatch) -> Result<BooleanArray> {
            Ok(BooleanArray::from(vec![true; input.num_rows()]))
        }
    }

    fn kinds(set: &FeatureSet) -> Vec<StepKind> {
        let steps = match &set.body {
            SetBody::Rows(rows) => row_steps(rows),
            SetBody::Entities(entities) => entity_steps(entities),
        };
        steps.iter().map(|step| step.kind).collect()
    }

    fn rows() -> RowSetBuilder {
        let set = FeatureSet::rows("rows_v1", "SELECT at, fare FROM trips").table("trips").event_time("at");
        set.encode(Number::of("fare")).encode_fitted(Standardize::of("fare"))
    }

    #[test]
    fn rows_are_sorted_before_selections_that_need_their_order_and_after_the_others() {
        use StepKind::{Encode, Fit, Query, Select, Sort};
        assert_eq!(kinds(&rows().build().unwrap()), [Query, Sort, Encode, Fit]);
        let sample = || Sample::fraction(0.1, 7).of_numbers(["fare"]);
        assert_eq!(kinds(&rows().keep(sample()).build().unwrap()), [Query, Select, Sort, Encode, Fit]);
        let in_order = rows().keep(sample()).keep(InOrder).build().unwrap();
        assert_eq!(kinds(&in_order), [Query, Sort, Select, Select, Encode, Fit]);
    }

    #[test]
    fn each_source_has_a_lookup_and_its_windows() {
        let weather = Source::of("weather").on_columns("zone", "area").lookup("temp", "temp").max_age(TimeDelta::hours(3));
        let set = FeatureSet::entities("zones_v1", "trips")
            .key("zone")
            .window(TimeDelta::hours(1), [Aggregate::count(), Aggregate::mean("fare"), Aggregate::sum("fare")])
            .all_before([Aggregate::max(Expression::sql("fare - tip")).named("most")])
            .also(weather)
            .build()
            .unwrap();
        assert_eq!(kinds(&set), [StepKind::Window, StepKind::Window, StepKind::Lookup]);
        let SetBody::Entities(entities) = &set.body else { panic!("a set of rows") };
        let steps = entity_steps(entities);
        assert_eq!(steps[0].name, "trips by zone over 1 hour");
        assert_eq!(steps[0].columns, ["fare"], "each column once");
        assert_eq!(steps[0].features, ["count", "mean_fare", "sum_fare"]);
        assert_eq!(steps[1].columns, ["fare - tip"]);
        assert_eq!(steps[2].name, "weather by area, at most 3 hours old");
    }
}
