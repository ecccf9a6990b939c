//! The facts that the sources of a set read: those of its tables, and those of its views. Each table is opened once.

use crate::{
    engine::Engine,
    error::{Error, Result},
    feature_set::{FactsOf, View},
    scan::{AsOfTable, VisibleTable},
    sql,
    temporal::Facts,
};

/// The facts of a set's tables and views, as far as they are used.
pub(crate) struct SetFacts {
    tables: Vec<Option<Facts>>,
    views: Vec<Option<Facts>>,
}

impl SetFacts {
    /// Opens what is used of the tables and views of a set, which `place` names in errors.
    ///
    /// # Errors
    /// Those of opening tables, and those of [`sql::facts`] and [`sql::view_facts`].
    pub(crate) async fn open(
        engine: &Engine,
        place: &str,
        views: &[View],
        used: &[FactsOf],
        tables: &[VisibleTable],
    ) -> Result<Self> {
        let mut opened = Vec::with_capacity(tables.len());
        for (position, table) in tables.iter().enumerate() {
            opened.push(match is_read(position, table, views, used) {
                true => Some(AsOfTable::open(table).await?),
                false => None,
            });
        }
        Self::of_opened(engine, place, views, used, &opened).await
    }

    /// As [`SetFacts::open`], of tables that are open already.
    pub(super) async fn of_opened(
        engine: &Engine,
        place: &str,
        views: &[View],
        used: &[FactsOf],
        opened: &[Option<AsOfTable>],
    ) -> Result<Self> {
        let mut found = Self { tables: Vec::with_capacity(opened.len()), views: Vec::with_capacity(views.len()) };
        for (position, table) in opened.iter().enumerate() {
            found.tables.push(match table {
                Some(table) if used.contains(&FactsOf::Table(position)) => {
                    Some(sql::facts(engine, table.clone()).await.map_err(|e| e.in_place(place))?)
                }
                _ => None,
            });
        }
        for (position, view) in views.iter().enumerate() {
            if !used.contains(&FactsOf::View(position)) {
                found.views.push(None);
                continue;
            }
            let of_view = opened.iter().flatten().filter(|table| view.tables().contains(table.name()));
            let sources = of_view.map(|table| (table.name().clone(), table.clone())).collect();
            let facts = sql::view_facts(engine, view.text(), sources).await.map_err(|e| e.in_place(place))?;
            found.views.push(Some(facts));
        }
        Ok(found)
    }

    /// The facts of a table or view.
    pub(crate) fn of(&self, of: FactsOf) -> Result<&Facts> {
        let found = match of {
            FactsOf::Table(position) => self.tables.get(position),
            FactsOf::View(position) => self.views.get(position),
        };
        found.and_then(Option::as_ref).ok_or_else(|| Error::Internal {
            subject: "the facts of a set".into(),
            reason: format!("{of:?} of the set was not opened"),
        })
    }
}

/// Is a table read, by itself or through a view?
fn is_read(position: usize, table: &VisibleTable, views: &[View], used: &[FactsOf]) -> bool {
    used.iter().any(|of| match of {
        FactsOf::Table(used) => *used == position,
        FactsOf::View(view) => views.get(*view).is_some_and(|view| view.tables().contains(table.pinned().version.table())),
    })
}
