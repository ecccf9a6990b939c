//! Views: SQL queries over facts with a name, as sources of a set. Whether a query can be one is checked by `sql`.
//! What a view reads is part of the set's definition; nothing is kept in the catalog.

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    name::TableName,
    sql::{ViewText, check_view},
};

/// A SQL query over facts with a name, which a set reads as if it were a fact table: filters, expressions, `UNION ALL` of several
/// tables, and joins to timeless tables ([`FactTable::timeless`](crate::catalog::FactTable::timeless)).
///
/// Each row of a view is made of one fact, and of rows of timeless tables at most. So it happens when its fact happens, and is
/// known when its fact is known: the query passes on the event time, the known-at column and the tie-breaks of its tables, under
/// any names, and says nothing else about time. What makes a row of several facts is refused when the set is used: aggregates,
/// `DISTINCT`, window functions, `LIMIT`, subqueries, and joins of facts with facts.
///
/// The SQL is part of the definition, as it is written. A source names the view
/// ([`EntitySetBuilder::view`](super::EntitySetBuilder::view)).
///
/// ```
/// use asof::{Aggregate, FeatureSet, feature_set::View};
/// use chrono::TimeDelta;
///
/// let paid = View::sql("paid", "
///     SELECT o.ordered_at, o.paid_at, o.shop, s.region, o.price * o.quantity AS revenue
///     FROM orders AS o JOIN shops AS s ON o.shop = s.shop
///     WHERE o.status = 'paid'");
/// assert_eq!(paid.tables().iter().map(ToString::to_string).collect::<Vec<_>>(), ["orders", "shops"]);
///
/// let regions = FeatureSet::entities("regions_v1", "paid")
///     .view(paid)
///     .key("region")
///     .window(TimeDelta::days(7), [Aggregate::sum("revenue")])
///     .build()?;
/// println!("{}", regions.describe());
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct View {
    name: String,
    query: String,
    tables: Vec<TableName>,
}

impl View {
    /// A view with this name and this query. What is wrong with them is reported by `build` of the set.
    pub fn sql(name: impl Into<String>, query: impl Into<String>) -> Self {
        let (name, query) = (name.into(), query.into().trim().to_owned());
        let tables = check_view(ViewText { name: &name, sql: &query }).unwrap_or_default();
        Self { name, query, tables }
    }

    /// The name by which sources name it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The SQL.
    pub fn query(&self) -> &str {
        &self.query
    }

    /// The tables that the query reads; none if it cannot be read.
    pub fn tables(&self) -> &[TableName] {
        &self.tables
    }

    /// The view for `sql`.
    pub(crate) fn text(&self) -> ViewText<'_> {
        ViewText { name: &self.name, sql: &self.query }
    }

    /// Its name as that of a table.
    pub(crate) fn table_name(&self) -> Result<TableName> {
        self.name.parse()
    }

    /// What is wrong with it, as far as can be told without tables.
    ///
    /// # Errors
    /// [`Error::InvalidName`], [`Error::Definition`] and [`Error::Volatile`].
    pub(crate) fn check(&self) -> Result<()> {
        let own: TableName = match self.name.parse() {
            Ok(own) => own,
            Err(Error::InvalidName { value, reason, .. }) => {
                return Err(Error::InvalidName { what: "view", value, reason });
            }
            Err(other) => return Err(other),
        };
        let refused = |reason: &str| Err(Error::Definition { subject: format!("view `{}`", self.name), reason: reason.into() });
        if self.name.contains('.') {
            return refused("it is in no database: give it a name without a dot");
        }
        if check_view(self.text())?.contains(&own) {
            return refused(
                "it reads a table of its own name, and a source could mean either of them: give the view another name",
            );
        }
        Ok(())
    }

    /// A line that names the view and its tables.
    pub(crate) fn shown(&self) -> String {
        format!("{} of {}", self.name, self.tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }
}

/// Where the facts of a source come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FactsOf {
    /// The table at this position of the set's tables.
    Table(usize),
    /// The view at this position of the set's views.
    View(usize),
}

/// The tables of a set and its views, while the set is built.
pub(super) struct TablesAndViews<'a> {
    pub(super) tables: Vec<TableName>,
    pub(super) views: &'a mut Vec<View>,
}

impl TablesAndViews<'_> {
    /// The position of a table, which is added unless it is there.
    pub(super) fn table(&mut self, name: &TableName) -> usize {
        self.tables.iter().position(|known| known == name).unwrap_or_else(|| {
            self.tables.push(name.clone());
            self.tables.len() - 1
        })
    }

    /// The position of a view, which is added unless it is there, with its tables.
    pub(super) fn view(&mut self, view: &View) -> FactsOf {
        for table in &view.tables {
            self.table(table);
        }
        FactsOf::View(self.views.iter().position(|known| known == view).unwrap_or_else(|| {
            self.views.push(view.clone());
            self.views.len() - 1
        }))
    }

    /// What a source means by a name: one of these views, which are of the set's own definition, or else a table.
    pub(super) fn named(&mut self, name: &str, own: &[View]) -> Result<FactsOf> {
        let name: TableName = name.parse()?;
        for view in own {
            if view.table_name()? == name {
                return Ok(self.view(view));
            }
        }
        Ok(FactsOf::Table(self.table(&name)))
    }
}

/// The mistakes of the views of a definition. `sources` are the names that its sources give, and whether each says that it is
/// timeless.
pub(super) fn mistakes(views: &[View], sources: &[(&str, bool)]) -> (Vec<Error>, Vec<String>) {
    let (mut errors, mut reasons) = (Vec::new(), Vec::new());
    let is = |source: &str, view: &View| {
        source.parse::<TableName>().is_ok_and(|source| view.table_name().is_ok_and(|view| view == source))
    };
    for (i, view) in views.iter().enumerate() {
        errors.extend(view.check().err());
        let name = &view.name;
        if views[..i].iter().any(|known| known.name == *name) {
            reasons.push(format!("two of its views are called `{name}`: give one of them another name"));
        }
        if !sources.iter().any(|(source, _)| is(source, view)) {
            reasons.push(format!("no source reads its view `{name}`: name the view in one, or leave it out"));
        }
        if sources.iter().any(|(source, timeless)| *timeless && is(source, view)) {
            reasons.push(format!("`{name}` is a view of facts, and not timeless: read it with `Source::of(\"{name}\")`"));
        }
        for read in
            views.iter().filter(|other| view.tables.iter().any(|table| other.table_name().is_ok_and(|name| name == *table)))
        {
            if read.name != *name {
                reasons.push(format!(
                    "its view `{name}` reads its view `{}`, and views read tables: write that query into this one",
                    read.name
                ));
            }
        }
    }
    (errors, reasons)
}
