//! What the columns of source files are called in the table: renamed as declared, and by names that differ in case alone.
//! It never lets two columns of a file become one.

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
pub(crate) struct Names {
    renames: Lookup,
    known: Lookup,
}

/// Names that stand for other names, as they are written and in whatever case.
#[derive(Debug, Clone, Default)]
struct Lookup {
    exact: HashMap<String, String>,
    /// `None` where several differ in case alone.
    folded: HashMap<String, Option<String>>,
}

impl Lookup {
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

impl Names {
    /// The names that are known before a file is read: those of the table, of its declaration and of the load.
    pub(crate) fn new(ingest: &Ingest, table: Option<&TableVersion>) -> Self {
        let of_table = table.into_iter().flat_map(|table| table.columns()).map(|column| &column.name);
        let declared = ingest.declared.named_columns();
        let typed = ingest.types.iter().map(|(name, _)| name).chain(ingest.schema.iter().map(|field| field.name()));
        let renamed = ingest.renames.iter().map(|rename| &rename.to);
        let mut this = Self { renames: Lookup::default(), known: Lookup::default() };
        of_table.chain(declared).chain(typed).chain(renamed).for_each(|name| this.learn(name));
        ingest.renames.iter().for_each(|rename| this.renames.add(&rename.from, &rename.to));
        this
    }

    /// From here on this is a column's name.
    pub(crate) fn learn(&mut self, name: &str) {
        self.known.add(name, name);
    }

    /// Meets a column of a file: where names are to be in lower case, one that is not known by any becomes known by that.
    pub(crate) fn meet(&mut self, ingest: &Ingest, found: &str) {
        if ingest.names == ColumnNames::LowerCase && self.exact(found).is_none() && self.folded(found).is_none() {
            self.learn(&found.to_lowercase());
        }
    }

    /// As it is after it has met these columns.
    pub(crate) fn having_met(&self, ingest: &Ingest, found: &[String]) -> Self {
        let mut met = self.clone();
        found.iter().for_each(|found| met.meet(ingest, found));
        met
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
        let exact: HashSet<&str> = found.iter().filter_map(|name| self.exact(name)).collect();
        let mut names: Vec<String> = Vec::with_capacity(found.len());
        let mut places: HashMap<String, usize> = HashMap::with_capacity(found.len());
        for (at, column) in found.iter().enumerate() {
            // `ID` beside `id` is a column of its own.
            let folded = || self.folded(column).filter(|name| !exact.contains(name));
            let name = self.exact(column).or_else(folded).unwrap_or(column).to_owned();
            if let Some(other) = places.insert(name.clone(), at) {
                return Err(Error::Definition {
                    subject: format!("the load of `{place}`"),
                    reason: format!(
                        "two of its columns, `{}` and `{}`, would be called `{}`; rename one of them with `Ingest::rename`",
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

    /// The one name that this is in another case.
    fn folded(&self, found: &str) -> Option<&str> {
        let folded = found.to_lowercase();
        let renamed = self.renames.folded.get(&folded).and_then(Option::as_deref);
        renamed.or_else(|| self.known.folded.get(&folded).and_then(Option::as_deref))
    }
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
