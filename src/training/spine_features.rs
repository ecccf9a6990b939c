//! A spine with the features of a set of entities as they were at each row's own instant.
//! The operators of `temporal` compute the features; this file puts their specifications together.

use datafusion::{
    logical_expr::Expr,
    prelude::{DataFrame, ident},
};

use crate::{
    engine::Engine,
    error::Result,
    feature_set::EntitySet,
    scan::{AsOfTable, VisibleTable},
    sql,
    temporal::{Facts, Spine},
    time::Cutoff,
};

/// The spine's columns, then the features in the order of the definition. `tables` are those of the set, with all their facts:
/// the operators cut them at each row's instant.
pub(super) async fn with_features(
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
