//! Checks the columns, filters, conditions and expressions of a set of entities against its tables, and which of these are timeless. All mistakes
//! are reported before anything is planned.

use std::collections::BTreeSet;

use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::{
    catalog::{Column, TableVersion},
    engine::Engine,
    error::{Error, Result},
    feature_set::{EntitySet, FactsOf, FeatureSet, Source, View},
    name::TableName,
    sql::{no_facts, no_view_facts},
    temporal::{Aggregate, Facts, check_condition, check_filter, expression_mistakes},
    workspace::PinnedTable,
};

/// Refuses a set that names columns which its tables do not have, that aggregates values of an unsuitable type, or whose filters
/// and expressions cannot be planned.
///
/// # Errors
/// [`Error::UnknownColumn`], [`Error::ColumnType`], [`Error::Definition`], [`Error::Volatile`], or [`Error::Mistakes`] with several
/// of them.
pub(crate) async fn check_columns(engine: &Engine, set: &FeatureSet, entities: &EntitySet, tables: &[PinnedTable]) -> Result<()> {
    let mut mistakes = ColumnMistakes::default();
    let mut views = Vec::with_capacity(entities.views.len());
    for view in &entities.views {
        views.push(match no_facts_of_view(engine, view, tables).await {
            Ok(facts) => Some(facts),
            Err(mistake) => {
                mistakes.add(mistake, None);
                None
            }
        });
    }
    for (source, of) in entities.sources.iter().zip(&entities.facts_of_source) {
        if let FactsOf::View(view) = of {
            if let Some(Some(facts)) = views.get(*view) {
                source_mistakes(facts.subject(), source, facts.rows().schema().as_arrow(), &mut mistakes);
                sql_mistakes(facts, source, &mut mistakes);
            }
            continue;
        }
        let name: TableName = source.table.parse()?;
        let Some(pinned) = tables.iter().find(|pinned| *pinned.version.table() == name) else { continue };
        let (version, subject) = (&pinned.version, format!("table `{}`", pinned.version.table()));
        let schema = schema_of(version)?;
        if let Some(reason) = timeless_mistake(source, version) {
            mistakes.add(Error::Definition { subject: subject.clone(), reason }, None);
        }
        source_mistakes(&subject, source, &schema, &mut mistakes);
        if has_sql(source) {
            sql_mistakes(&no_facts(engine, version.table(), &schema, version.declared().clone())?, source, &mut mistakes);
        }
    }
    let subject = format!("feature set `{}`", set.name);
    let mistakes = mistakes.0.into_iter().map(|(mistake, features)| in_set(mistake, &subject, &features)).collect();
    Error::all(&subject, mistakes)
}

/// The columns of a table as queries see them.
fn schema_of(version: &TableVersion) -> Result<SchemaRef> {
    let columns: Vec<Column> = version.columns().iter().chain(version.partition_columns()).cloned().collect();
    Column::schema(&columns)
}

/// No rows of a view over these tables, which has the view's columns.
async fn no_facts_of_view(engine: &Engine, view: &View, tables: &[PinnedTable]) -> Result<Facts> {
    let mut read = Vec::with_capacity(view.tables().len());
    for pinned in tables.iter().filter(|pinned| view.tables().contains(pinned.version.table())) {
        let version = &pinned.version;
        read.push((version.table().clone(), schema_of(version)?, version.declared().clone()));
    }
    no_view_facts(engine, view.text(), read).await
}

/// Mistakes, each once, with the features for which it was made; a column of a key has none.
#[derive(Default)]
struct ColumnMistakes(Vec<(Error, Vec<String>)>);

impl ColumnMistakes {
    fn add(&mut self, mistake: Error, feature: Option<&str>) {
        let text = mistake.to_string();
        let feature = feature.map(str::to_owned);
        match self.0.iter_mut().find(|(known, _)| known.to_string() == text) {
            Some((_, features)) => features.extend(feature),
            None => self.0.push((mistake, feature.into_iter().collect())),
        }
    }
}

/// What is wrong with a source that does not say of its table whether it is timeless, or does not find its row by the table's key.
fn timeless_mistake(source: &Source, version: &TableVersion) -> Option<String> {
    let (table, declared) = (&source.table, version.declared());
    match (source.timeless, declared.is_timeless()) {
        (true, false) => Some(format!(
            "it is no timeless table, and its values change: read it with `Source::of(\"{table}\")`, or declare it with \
             `FactTable::timeless`"
        )),
        (false, true) => Some(format!(
            "it is declared timeless: its values are the same at every instant, also before they were known. Say so in the set, with \
             `also(Source::timeless(\"{table}\"))`; the set's own table is one of facts"
        )),
        (false, false) => None,
        (true, true) => {
            let own: BTreeSet<&String> = source.on.iter().map(|(_, column)| column).collect();
            let names = |columns: Vec<&str>| columns.join(", ");
            (own != declared.keys.iter().collect()).then(|| {
                format!(
                    "it has one row for each ({}), and is found by ({}): name all columns of its key with `on` or `on_columns`, and no others",
                    names(declared.keys.iter().map(String::as_str).collect()),
                    names(source.on.iter().map(|(_, column)| column.as_str()).collect())
                )
            })
        }
    }
}

/// Has it a condition, a filter or an expression?
fn has_sql(source: &Source) -> bool {
    let of_aggregate = |aggregate: &Aggregate| {
        aggregate.condition().is_some() || aggregate.arguments().any(|argument| argument.sql_text().is_some())
    };
    source.windows.iter().any(|(length, aggregates)| length.condition().is_some() || aggregates.iter().any(of_aggregate))
}

/// The mistakes of the conditions of a source's windows, and of the filters and expressions of its aggregates.
fn sql_mistakes(facts: &Facts, source: &Source, mistakes: &mut ColumnMistakes) {
    for (length, aggregates) in &source.windows {
        for aggregate in aggregates {
            let found = [check_filter(facts, aggregate), check_condition(facts, length)];
            found.into_iter().filter_map(Result::err).for_each(|mistake| mistakes.add(mistake, Some(aggregate.output())));
            // The mistake of an expression names its feature itself.
            expression_mistakes(facts, aggregate).into_iter().for_each(|mistake| mistakes.add(mistake, None));
        }
    }
}

/// The mistake with the set and the features that made it.
fn in_set(mistake: Error, set: &str, features: &[String]) -> Error {
    let names = features.iter().map(|feature| format!("`{feature}`")).collect::<Vec<_>>().join(", ");
    match features.len() {
        0 => mistake.in_place(set),
        1 => mistake.in_place(&format!("feature {names} of {set}")),
        _ => mistake.in_place(&format!("features {names} of {set}")),
    }
}

fn source_mistakes(subject: &str, source: &Source, schema: &Schema, mistakes: &mut ColumnMistakes) {
    let mut find = |column: &str, feature: Option<&str>| -> Option<Field> {
        let found = schema.field_with_name(column).ok().cloned();
        if found.is_none() {
            mistakes.add(Error::unknown_column(subject, column, schema), feature);
        }
        found
    };
    for (_, column) in &source.on {
        find(column, None);
    }
    for (column, output) in &source.lookups {
        find(column, Some(output));
    }
    let mut refused = Vec::new();
    for aggregate in source.windows.iter().flat_map(|(_, aggregates)| aggregates) {
        let feature = Some(aggregate.output());
        for argument in aggregate.arguments() {
            let Some(field) = argument.column().and_then(|column| find(column, feature)) else { continue };
            if let Err(needed) = aggregate.check(argument, field.data_type()) {
                let (column, found) = (field.name().clone(), field.data_type().to_string());
                let mistake = Error::ColumnType { subject: subject.into(), column, found, needed: needed.into() };
                refused.push((mistake, feature));
            }
        }
    }
    refused.into_iter().for_each(|(mistake, feature)| mistakes.add(mistake, feature));
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;

    #[test]
    fn a_mistake_is_told_once_with_all_features_that_make_it() {
        let schema = Schema::new(vec![Field::new("zone", DataType::Int64, true), Field::new("note", DataType::Utf8, true)]);
        let source = Source::of("rides").on("Zone").lookup("fair", "a").lookup("fair", "b");
        let source =
            source.all_before([Aggregate::mean("note"), Aggregate::max_by("zone", "size"), Aggregate::max_by("size", "zone")]);
        let mut found = ColumnMistakes::default();
        source_mistakes("table `rides`", &source, &schema, &mut found);
        let told: Vec<String> = found.0.into_iter().map(|(e, of)| in_set(e, "feature set `s_v1`", &of).to_string()).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told[0].starts_with("feature set `s_v1`: table `rides` has no column `Zone`"), "{told:?}");
        assert!(told[1].starts_with("features `a`, `b` of feature set `s_v1`: table `rides` has no column `fair`"), "{told:?}");
        let by = "features `max_by_zone_size`, `max_by_size_zone` of feature set `s_v1`: table `rides` has no column `size`";
        assert!(told[2].starts_with(by), "{told:?}");
        assert!(told[3].starts_with("column `note` of table `rides` is Utf8, but "), "{told:?}");
        assert!(told[3].ends_with("(feature `mean_note` of feature set `s_v1`)"), "{told:?}");
    }
}
