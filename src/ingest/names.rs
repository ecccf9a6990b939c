//! What the columns of source files are called in the table: renamed as declared, and by names that differ in case alone.
//! It never lets two columns of a file become one.

use super::Ingest;
use crate::{
    catalog::{Rename, TableVersion},
    error::{Error, Result},
};

/// The names of a load's columns.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    renames: Vec<Rename>,
    known: Vec<String>,
}

impl Names {
    /// The names that are known before a file is read: those of the table, of its declaration and of the load.
    pub(crate) fn new(ingest: &Ingest, table: Option<&TableVersion>) -> Self {
        let of_table = table.into_iter().flat_map(|table| table.columns()).map(|column| &column.name);
        let declared = ingest.declared.named_columns();
        let typed = ingest.types.iter().map(|(name, _)| name).chain(ingest.schema.iter().map(|field| field.name()));
        let renamed = ingest.renames.iter().map(|rename| &rename.to);
        let mut known: Vec<String> = Vec::new();
        for name in of_table.chain(declared).chain(typed).chain(renamed) {
            if !known.contains(name) {
                known.push(name.clone());
            }
        }
        Self { renames: ingest.renames.clone(), known }
    }

    /// From here on this is a column's name.
    pub(crate) fn learn(&mut self, name: &str) {
        if self.known.iter().all(|known| known != name) {
            self.known.push(name.to_owned());
        }
    }

    /// What a column that a file calls so is called in the table.
    ///
    /// A declared renaming comes first, then a known name, then either of them in another case if there is only one.
    pub(crate) fn resolve<'a>(&'a self, found: &'a str) -> &'a str {
        self.exact(found).or_else(|| self.folded(found)).unwrap_or(found)
    }

    /// What the columns of one file are called in the table, in their order.
    ///
    /// # Errors
    /// [`Error::Definition`] when two of them would have one name.
    pub(crate) fn resolve_all(&self, place: &str, found: &[String]) -> Result<Vec<String>> {
        let exact: Vec<Option<&str>> = found.iter().map(|name| self.exact(name)).collect();
        let mut names: Vec<String> = Vec::with_capacity(found.len());
        for (column, exact_name) in found.iter().zip(&exact) {
            // `ID` beside `id` is a column of its own.
            let folded = || self.folded(column).filter(|name| !exact.contains(&Some(name)));
            let name = exact_name.or_else(folded).unwrap_or(column).to_owned();
            if let Some(other) = names.iter().position(|known| *known == name) {
                return Err(Error::Definition {
                    subject: format!("the load of `{place}`"),
                    reason: format!(
                        "two of its columns, `{}` and `{column}`, would be called `{name}`; rename one of them with \
                         `Ingest::rename`",
                        found[other]
                    ),
                });
            }
            names.push(name);
        }
        Ok(names)
    }

    fn exact<'a>(&'a self, found: &'a str) -> Option<&'a str> {
        let renamed = self.renames.iter().find(|rename| rename.from == found).map(|rename| rename.to.as_str());
        renamed.or_else(|| self.known.iter().find(|known| *known == found).map(String::as_str))
    }

    /// The one name that this is in another case.
    fn folded(&self, found: &str) -> Option<&str> {
        let folded = found.to_lowercase();
        let renamed = self.renames.iter().filter(|r| r.from.to_lowercase() == folded).map(|r| r.to.as_str());
        let known = self.known.iter().filter(|k| k.to_lowercase() == folded).map(String::as_str);
        only(renamed).or_else(|| only(known))
    }
}

/// The name that all of these are.
fn only<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let first = names.next()?;
    names.all(|other| other == first).then_some(first)
}

/// The renamings of a table and of a load into it.
///
/// # Errors
/// [`Error::Definition`] when they contradict each other: one source column would have two names.
pub(crate) fn merged(ingest: &Ingest, table: Option<&TableVersion>) -> Result<Vec<Rename>> {
    let mut all: Vec<Rename> = Vec::new();
    for rename in table.into_iter().flat_map(|table| &table.renames).chain(&ingest.renames) {
        match all.iter().find(|known| known.from == rename.from) {
            None => all.push(rename.clone()),
            Some(known) if known.to == rename.to => {}
            Some(known) => {
                return Err(Error::Definition {
                    subject: format!("the load into `{}`", ingest.table),
                    reason: format!(
                        "it renames `{}` to `{}`, which is `{}` in the table; a source column keeps its name in the table",
                        rename.from, rename.to, known.to
                    ),
                });
            }
        }
    }
    Ok(all)
}
