//! Training sets: a spine with the features of a set of entities as they were at each row's own instant.
//! The operators of `temporal` compute the features; this file puts their specifications together.

use datafusion::{
    logical_expr::Expr,
    prelude::{DataFrame, ident},
};

use crate::{
    engine::Engine,
    error::{Error, Result},
    feature_set::{EntitySet, FeatureSet, SetBody},
    materialize::{check_binding, check_columns},
    scan::{AsOfTable, VisibleTable},
    sql,
    temporal::{Facts, Spine},
    time::{AsOf, Cutoff},
    workspace::Workspace,
};

/// The spine with the features of a set, over the newest versions of the set's tables.
///
/// # Errors
/// [`Error::Definition`] for a set of rows and for a name that the root holds for another definition,
/// [`Error::UnknownColumn`] and [`Error::ColumnType`] when the spine or a table does not fit the set.
pub(crate) async fn training_set(workspace: &Workspace, set: &FeatureSet, spine: Spine) -> Result<DataFrame> {
    let SetBody::Entities(entities) = &set.body else {
        let reason = "it has a training row per row of its query, and no keys to find features by; materialize it, or use a set \
                      of entities";
        return Err(Error::Definition { subject: format!("feature set `{}`", set.name), reason: reason.into() });
    };
    check_binding(workspace, set).await?;
    let tables = workspace.pin_all(&set.tables).await?;
    check_columns(set, entities, &tables)?;
    // The operators cut the facts at each row's instant, so all of them are opened.
    let tables = VisibleTable::all(&tables, set.horizon(AsOf::END_OF_TIME))?;
    with_features(&workspace.engine, entities, &tables, set.cutoff, spine).await
}

async fn with_features(
    engine: &Engine,
    set: &EntitySet,
    tables: &[VisibleTable],
    cutoff: Cutoff,
    spine: Spine,
) -> Result<DataFrame> {
    let mut facts = Vec::with_capacity(tables.len());
    for table in tables {
        facts.push(sql::facts(engine, AsOfTable::open(table).await?).await?);
    }
    let before: Vec<Expr> = spine.schema().columns().into_iter().map(Expr::Column).collect();
    let features = set.outputs().map(ident).collect::<Vec<_>>();
    let rows = add_features(spine, set, &facts, cutoff)?.into_rows();
    // Features in the order of the definition, whatever operator made them.
    Ok(rows.select(before.into_iter().chain(features).collect::<Vec<_>>())?)
}

/// Adds all lookups in one operator, and all windows in another. `facts` are those of the set's tables.
fn add_features(spine: Spine, set: &EntitySet, facts: &[Facts], cutoff: Cutoff) -> Result<Spine> {
    let (mut lookups, mut windows) = (Vec::new(), Vec::new());
    for (source, &table) in set.sources.iter().zip(&set.table_of_source) {
        if !source.lookups.is_empty() {
            lookups.push(source.lookup_in(facts[table].clone(), &source.on, None).cutoff(cutoff));
        }
        if !source.windows.is_empty() {
            windows.push(source.windows_over(facts[table].clone(), &source.on).cutoff(cutoff));
        }
    }
    let spine = if lookups.is_empty() { spine } else { spine.lookup(lookups)? };
    if windows.is_empty() { Ok(spine) } else { spine.window(windows) }
}
