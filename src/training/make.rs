//! Makes training sets: of a spine for a set of entities, and of the query's rows at an as-of for a set of rows.

use std::sync::Arc;

use arrow::datatypes::Schema;

use super::{
    rows_of_set::RowsOfSet,
    spine_features::with_features,
    training_set::{Rows, TrainingSet},
};
use crate::{
    error::{Error, Result},
    feature_set::{EntitySet, FeatureSet, RowSet, SetBody},
    manifest::{EngineVersions, TrainingOrigin},
    materialize::{QueriedRows, check_binding, check_columns, check_drawn, input_table},
    scan::VisibleTable,
    temporal::Spine,
    time::{AsOf, Clock, TimeScale, Zone},
    workspace::Workspace,
};

/// The rows that a training set is to have: a spine for a set of entities, an as-of for a set of rows.
#[derive(Debug, Clone)]
#[must_use]
pub struct TrainingRows(Asked);

#[derive(Debug, Clone)]
enum Asked {
    Spine(Box<Spine>),
    AsOf(AsOf),
}

impl From<Spine> for TrainingRows {
    /// The rows of the spine, each with the features of its entity at its own instant.
    fn from(spine: Spine) -> Self {
        Self(Asked::Spine(Box::new(spine)))
    }
}

impl From<AsOf> for TrainingRows {
    /// The rows of the set's query that are visible at this instant.
    fn from(as_of: AsOf) -> Self {
        Self(Asked::AsOf(as_of))
    }
}

/// The training set of a feature set over the newest versions of its tables.
///
/// # Errors
/// [`Error::Definition`] for rows that do not fit the kind of the set, [`Error::AlreadyExists`] for a name that the root holds
/// for another definition, [`Error::UnknownColumn`] and [`Error::ColumnType`] when the spine or a table does not fit the set.
pub(crate) async fn training_set(
    workspace: &Arc<Workspace>,
    clock: &Arc<dyn Clock>,
    set: &FeatureSet,
    rows: TrainingRows,
) -> Result<TrainingSet> {
    let refused =
        |reason: &str| Err(Error::Definition { subject: format!("the training set of `{}`", set.name), reason: reason.into() });
    let wanted = match (&set.body, rows.0) {
        (SetBody::Entities(entities), Asked::Spine(spine)) => Wanted::Spine(entities, spine),
        (SetBody::Rows(rows), Asked::AsOf(as_of)) => Wanted::Query(rows, as_of),
        (SetBody::Rows(_), Asked::Spine(_)) => {
            return refused(
                "it is a set of rows, whose query says which rows it has, and no keys to find features by; give the as-of \
                 instead of a spine, or use a set of entities",
            );
        }
        (SetBody::Entities(_), Asked::AsOf(_)) => {
            return refused(
                "it is a set of entities, which has a row for each row of a spine; give a `Spine` with keys and instants instead \
                 of the as-of, or materialize the set as of that instant",
            );
        }
    };
    check_binding(workspace, set).await?;
    let pinned = workspace.pin_all(&set.tables).await?;
    let engine = &workspace.engine;
    let mut origin = TrainingOrigin {
        set: set.name.clone(),
        fingerprint: set.fingerprint.clone(),
        definition: set.declared.clone(),
        as_of: None,
        cutoff: set.cutoff,
        engine: EngineVersions::current(),
        inputs: Vec::new(),
        instant: String::new(),
        scale: TimeScale::UTC_MICROS,
        features: set.features(),
        labels: Vec::new(),
        splits: Vec::new(),
    };
    let rows = match wanted {
        Wanted::Spine(entities, spine) => {
            check_columns(&workspace.engine, set, entities, &pinned).await?;
            // The operators cut the facts at each row's instant, so all of them are opened.
            let tables = VisibleTable::all(&pinned, set.horizon(AsOf::END_OF_TIME))?;
            origin.inputs = tables.iter().map(input_table).collect();
            (origin.instant, origin.scale) = spine.instants()?;
            Rows::Spine(with_features(engine, &set.name, entities, &tables, set.cutoff, *spine).await?)
        }
        Wanted::Query(rows, as_of) => {
            check_drawn(workspace, rows, &pinned).await?;
            let tables = VisibleTable::all(&pinned, set.horizon(as_of))?;
            let queried = RowsOfSet::all(QueriedRows::query(engine, &set.name, rows, &tables, as_of).await?);
            origin.inputs = tables.iter().map(input_table).collect();
            origin.as_of = Some(as_of);
            origin.instant = rows.event_time.clone();
            origin.scale = scale_of(&queried.queried_schema(), &rows.event_time);
            origin.labels = rows.labels.clone();
            Rows::OfSet(queried)
        }
    };
    Ok(TrainingSet { workspace: workspace.clone(), clock: clock.clone(), origin: Arc::new(origin), rows })
}

/// Rows that fit the kind of their set.
enum Wanted<'a> {
    Spine(&'a EntitySet, Box<Spine>),
    Query(&'a RowSet, AsOf),
}

/// The scale of a column of instants.
fn scale_of(rows: &Schema, column: &str) -> TimeScale {
    let field = rows.field_with_name(column).ok();
    field.and_then(|field| TimeScale::of_type(field.data_type(), Zone::UTC)).unwrap_or(TimeScale::UTC_MICROS)
}
