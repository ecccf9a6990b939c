//! A spine with the features of a set of entities as they were at each row's own instant.
//! The operators of `temporal` compute the features; this file puts their specifications together.

use datafusion::{
    logical_expr::Expr,
    prelude::{DataFrame, ident},
};

use crate::{
    engine::Engine,
    error::Result,
    feature_set::{EntitySet, lookups_and_windows},
    materialize::SetFacts,
    name::SetName,
    scan::VisibleTable,
    temporal::Spine,
    time::Cutoff,
};

/// The spine's columns, then the features in the order of the definition. `tables` are those of the set, with all their facts:
/// the operators cut them at each row's instant. `name` names it in errors.
pub(crate) async fn with_features(
    engine: &Engine,
    name: &SetName,
    set: &EntitySet,
    tables: &[VisibleTable],
    cutoff: Cutoff,
    spine: Spine,
) -> Result<DataFrame> {
    let place = format!("feature set `{name}`");
    let facts = SetFacts::open(engine, &place, &set.views, &set.facts_of_source, tables).await?;
    let before: Vec<Expr> = spine.schema().columns().into_iter().map(Expr::Column).collect();
    let features = set.outputs().map(ident).collect::<Vec<_>>();
    let sources = set.sources.iter().zip(&set.facts_of_source);
    let sources: Vec<_> =
        sources.map(|(source, &of)| Ok((source, facts.of(of)?.clone(), cutoff, None))).collect::<Result<_>>()?;
    let rows = lookups_and_windows(spine, &sources)?.into_rows();
    // Features in the order of the definition, whatever operator made them.
    Ok(rows.select(before.into_iter().chain(features).collect::<Vec<_>>())?)
}
