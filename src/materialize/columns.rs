//! Checks the columns that a set of entities names against those of its tables, and reports all mistakes before anything is planned.
//! Filters of aggregates are SQL, and are checked when they are planned.

use arrow::datatypes::{Field, Schema};

use crate::{
    catalog::Column,
    error::{Error, Result},
    feature_set::{EntitySet, FeatureSet, Source},
    name::TableName,
    workspace::PinnedTable,
};

/// Refuses a set that names columns which its tables do not have, or that aggregates a column of an unsuitable type.
///
/// # Errors
/// [`Error::UnknownColumn`], [`Error::ColumnType`], or [`Error::Mistakes`] with several of them.
pub(crate) fn check_columns(set: &FeatureSet, entities: &EntitySet, tables: &[PinnedTable]) -> Result<()> {
    let mut mistakes = ColumnMistakes::default();
    for source in &entities.sources {
        let name: TableName = source.table.parse()?;
        let Some(pinned) = tables.iter().find(|pinned| *pinned.version.table() == name) else { continue };
        let (version, subject) = (&pinned.version, format!("table `{}`", pinned.version.table()));
        let columns: Vec<Column> = version.columns().iter().chain(version.partition_columns()).cloned().collect();
        source_mistakes(&subject, source, Column::schema(&columns)?.as_ref(), &mut mistakes);
    }
    let subject = format!("feature set `{}`", set.name);
    let mistakes = mistakes.0.into_iter().map(|(mistake, features)| in_set(mistake, &subject, &features)).collect();
    Error::all(&subject, mistakes)
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

/// The mistake with the set and the features that made it.
fn in_set(mistake: Error, set: &str, features: &[String]) -> Error {
    let names = features.iter().map(|feature| format!("`{feature}`")).collect::<Vec<_>>().join(", ");
    let place = match features.len() {
        0 => set.to_owned(),
        1 => format!("feature {names} of {set}"),
        _ => format!("features {names} of {set}"),
    };
    match mistake {
        Error::UnknownColumn { subject, column, known } => {
            Error::UnknownColumn { subject: format!("{place}: {subject}"), column, known }
        }
        Error::ColumnType { subject, column, found, needed } => {
            Error::ColumnType { subject, column, found, needed: format!("{needed} ({place})") }
        }
        other => other,
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
        for column in aggregate.columns() {
            let Some(field) = find(column, feature) else { continue };
            if let Err(needed) = aggregate.check(column, field.data_type()) {
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
    use crate::temporal::Aggregate;

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
