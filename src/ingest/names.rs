//! Maps the names of source columns to names in the table: declared renames first, then known names, then either of them in
//! another case. Two columns of a file never get the same name.

use std::collections::{HashMap, HashSet};

use super::{
    excerpt::excerpt,
    load::{ColumnNames, Ingest},
};
use crate::{
    catalog::{Rename, TableVersion},
    error::{Error, Result},
};

/// The names of a load's columns.
#[derive(Debug, Clone)]
pub(crate) struct ColumnNameMap {
    renames: NameIndex,
    known: NameIndex,
}

/// A map from names to names, by exact text and by lower case.
#[derive(Debug, Clone, Default)]
struct NameIndex {
    exact: HashMap<String, String>,
    /// `None` if several names differ only in case.
    folded: HashMap<String, Option<String>>,
}

impl NameIndex {
    fn add(&mut self, from: &str, to: &str) {
        if !self.exact.contains_key(from) {
            self.exact.insert(from.to_owned(), to.to_owned());
        }
        let only = self.folded.entry(from.to_lowercase()).or_insert_with(|| Some(to.to_owned()));
        if only.as_deref() != Some(to) {
            *only = None;
        }
    }
}

impl ColumnNameMap {
    /// The names that are known before any file is read: those of the table, its declaration and the load.
    pub(crate) fn new(ingest: &Ingest, table: Option<&TableVersion>) -> Self {
        let of_table = table.into_iter().flat_map(|table| table.columns()).map(|column| &column.name);
        let declared = ingest.declared.named_columns();
        let typed = ingest.types.iter().map(|(name, _)| name).chain(ingest.schema.iter().map(|field| field.name()));
        let renamed = ingest.renames.iter().map(|rename| &rename.to);
        let mut this = Self { renames: NameIndex::default(), known: NameIndex::default() };
        of_table.chain(declared).chain(typed).chain(renamed).for_each(|name| this.add_known(name));
        ingest.renames.iter().for_each(|rename| this.renames.add(&rename.from, &rename.to));
        this
    }

    /// Adds a name of a column of the table.
    pub(crate) fn add_known(&mut self, name: &str) {
        self.known.add(name, name);
    }

    /// Adds a column of a file under its name in lower case, if the load wants that and no known name fits.
    pub(crate) fn add_found(&mut self, ingest: &Ingest, found: &str) {
        if ingest.names == ColumnNames::LowerCase && self.exact(found).is_none() && self.folded(found).is_none() {
            self.add_known(&found.to_lowercase());
        }
    }

    /// A copy with these columns of a file added.
    pub(crate) fn with_found(&self, ingest: &Ingest, found: &[String]) -> Self {
        let mut names = self.clone();
        found.iter().for_each(|found| names.add_found(ingest, found));
        names
    }

    /// The name in the table of a source column.
    ///
    /// A declared rename comes first, then a known name, then either of them in another case if exactly one fits.
    pub(crate) fn resolve<'a>(&'a self, found: &'a str) -> &'a str {
        self.exact(found).or_else(|| self.folded(found)).unwrap_or(found)
    }

    /// The names in the table of the columns of one file, in their order.
    ///
    /// # Errors
    /// [`Error::Definition`] if two of them would have the same name.
    pub(crate) fn resolve_all(&self, place: &str, found: &[String]) -> Result<Vec<String>> {
        let exact: HashSet<&str> = found.iter().filter_map(|name| self.exact(name)).collect();
        let mut names: Vec<String> = Vec::with_capacity(found.len());
        let mut positions: HashMap<String, usize> = HashMap::with_capacity(found.len());
        for (at, column) in found.iter().enumerate() {
            // In a file with `ID` and `id` these are two columns.
            let folded = || self.folded(column).filter(|name| !exact.contains(name));
            let name = self.exact(column).or_else(folded).unwrap_or(column).to_owned();
            if let Some(other) = positions.insert(name.clone(), at) {
                return Err(Error::Definition {
                    subject: format!("the load of `{place}`"),
                    reason: format!(
                        "two of its columns, `{}` and `{}`, would both have the name `{}`; rename one of them with `Ingest::rename`",
                        excerpt(&found[other]),
                        excerpt(column),
                        excerpt(&name)
                    ),
                });
            }
            names.push(name);
        }
        Ok(names)
    }

    fn exact(&self, found: &str) -> Option<&str> {
        self.renames.exact.get(found).or_else(|| self.known.exact.get(found)).map(String::as_str)
    }

    /// The only name that equals this one in another case.
    fn folded(&self, found: &str) -> Option<&str> {
        let folded = found.to_lowercase();
        let renamed = self.renames.folded.get(&folded).and_then(Option::as_deref);
        renamed.or_else(|| self.known.folded.get(&folded).and_then(Option::as_deref))
    }
}

/// The renames of a table and of a load into it.
///
/// # Errors
/// [`Error::Definition`] if a source column would have two names.
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
                        "it renames `{}` to `{}`, which is already renamed to `{}`; a source column keeps its name in the table",
                        rename.from, rename.to, known.to
                    ),
                });
            }
        }
    }
    Ok(all)
}
