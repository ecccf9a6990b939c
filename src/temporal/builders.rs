//! The public builders: a spine, and lookups and windows over fact tables.
//! They check everything against the schemas, before anything is planned or read.

use std::sync::Arc;

use chrono::TimeDelta;
use datafusion::{
    common::{Column, ScalarValue},
    dataframe::DataFrame,
    logical_expr::{Expr, LogicalPlan},
    prelude::{ident, lit},
};

use super::{
    Aggregate,
    fact_expression::FactColumns,
    fact_input::{ALWAYS, FactInput, SpineTime},
    node::AsOfNode,
    planner,
    spec::{LookupColumn, LookupSpec, OperatorSpec, WindowColumn, WindowSpec},
    time_decoder::Direction,
    window_length::WindowLength,
};
use crate::{
    catalog::{FactTable, KnownAt, TimeColumn},
    engine::{Runner, runner_of},
    error::{Error, Result},
    time::{Cutoff, TimeScale, Zone, length_micros, shown_span},
};

/// Facts for lookups and windows: the rows of any DataFusion query, and the declaration of their times.
///
/// The facts of a registered table come from [`FeatureStore::facts`](crate::FeatureStore::facts).
#[derive(Debug, Clone)]
#[must_use]
pub struct Facts {
    subject: String,
    rows: DataFrame,
    declared: FactTable,
}

impl Facts {
    /// Facts from a query. Messages call them table `name`.
    pub fn new(name: &str, rows: DataFrame, declared: FactTable) -> Self {
        Self { subject: format!("table `{name}`"), rows, declared }
    }

    /// The rows of a timeless table, one for each key, as facts of the beginning of time.
    pub(crate) fn timeless(name: &str, rows: DataFrame, keys: &[String]) -> Result<Self> {
        let beginning = ScalarValue::TimestampMicrosecond(Some(i64::MIN), Some("UTC".into()));
        let declared = FactTable { keys: keys.to_vec(), ..FactTable::new(ALWAYS, KnownAt::DelayMicros(0)) };
        Ok(Self::new(name, rows.with_column(ALWAYS, lit(beginning))?, declared))
    }

    /// Are they the rows of a timeless table?
    pub(crate) fn is_timeless(&self) -> bool {
        self.declared.event_column() == Some(ALWAYS)
    }

    /// Facts that messages call `subject`.
    pub(crate) fn named(subject: &str, rows: DataFrame, declared: FactTable) -> Self {
        Self { subject: subject.into(), rows, declared }
    }

    pub(crate) fn declared(&self) -> &FactTable {
        &self.declared
    }

    pub(crate) fn rows(&self) -> &DataFrame {
        &self.rows
    }

    /// How event times are stored.
    ///
    /// # Errors
    /// As those of a declaration that does not fit the columns.
    pub(crate) fn event_scale(&self) -> Result<TimeScale> {
        let event = &self.declared.fact_times(&self.subject)?.event;
        self.declared.scale(&self.subject, event, self.rows.schema().as_arrow())
    }

    /// The table, as messages name it.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }
}

/// The rows to be predicted: entity keys and an instant, perhaps labels; any DataFusion query.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> asof::Result<()> {
/// use asof::{Aggregate, catalog::{FactTable, KnownAt}, temporal::{Facts, Lookup, Spine, Window}};
/// use chrono::TimeDelta;
/// use datafusion::prelude::SessionContext;
///
/// let session = SessionContext::new();
/// let trips = session.sql("SELECT * FROM (VALUES
///     (1, arrow_cast('2014-01-01T08:00:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))'), 7.5),
///     (1, arrow_cast('2014-01-01T09:00:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))'), 9.0)) AS t(zone, at, fare)").await?;
/// let spine = session.sql("SELECT 1 AS zone, arrow_cast('2014-01-01T09:00:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))') AS at").await?;
///
/// let trips = Facts::new("trips", trips, FactTable::new("at", KnownAt::after(TimeDelta::zero())));
/// let rows = Spine::new(spine, "at")
///     .lookup([Lookup::of(trips.clone()).on("zone").column_as("fare", "last_fare")])?
///     .window([Window::of(trips).on("zone").trailing(TimeDelta::hours(24), [Aggregate::count()])])?
///     .into_rows();
/// // The trip at nine sharp is not visible at nine.
/// let batches = rows.collect().await?;
/// let shown = datafusion::arrow::util::pretty::pretty_format_batches(&batches)?.to_string();
/// assert!(shown.contains("| 1    | 2014-01-01T09:00:00Z | 7.5       | 1     |"), "{shown}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Spine {
    rows: DataFrame,
    at: TimeColumn,
    zone: Option<Zone>,
    /// Where the facts come from a store whose queries run elsewhere: where.
    runner: Option<Arc<dyn Runner>>,
}

impl Spine {
    /// A spine whose instants are in the column `at`.
    pub fn new(rows: DataFrame, at: impl Into<TimeColumn>) -> Self {
        Self { rows, at: at.into(), zone: None, runner: None }
    }

    /// The zone whose clocks wrote the instants, if they carry none.
    ///
    /// A local time that occurs twice means the first of the two instants here. A local time that was skipped means the instant
    /// by the clock that was already put forward. So a row never sees a fact that another reading of its time would hide.
    pub fn zone(mut self, zone: Zone) -> Self {
        self.zone = Some(zone);
        self
    }

    /// The rows, in their order, with the columns that were added so far.
    pub fn into_rows(self) -> DataFrame {
        self.rows
    }

    pub(crate) fn schema(&self) -> &datafusion::common::DFSchema {
        self.rows.schema()
    }

    /// The column with the instants, and how it is read.
    pub(crate) fn instants(&self) -> Result<(String, TimeScale)> {
        let (field, column) = spine_field(self.schema(), self.at.name())?;
        let time = SpineTime { column, unit: self.at.unit, zone: self.zone };
        Ok((self.at.name().to_owned(), time.scale(&field)?))
    }

    /// Adds columns of the newest visible fact of each table, at each row's own instant. The rows and their order stay.
    ///
    /// # Errors
    /// [`Error::UnknownColumn`] and [`Error::ColumnType`] for columns that are missing, cannot be compared or hold no times,
    /// [`Error::Definition`] for a negative max age, no key, no column or a name that is taken.
    pub fn lookup(mut self, lookups: impl IntoIterator<Item = Lookup>) -> Result<Self> {
        let mut fact_inputs = Vec::new();
        for lookup in lookups {
            self.runs_as(&lookup.join.facts);
            fact_inputs.push(lookup.input(&self)?);
        }
        self.with(fact_inputs)
    }

    /// Adds aggregates over trailing windows of each table, at each row's own instant. The rows and their order stay.
    ///
    /// # Errors
    /// As [`Spine::lookup`]; also [`Error::Definition`] for a window of zero or less or whose hop follows no zone's clock, and for a
    /// filter, a condition or an [`Expression`](super::Expression) that is no SQL, reads more than a fact or has an unsuitable type; and
    /// [`Error::Volatile`] for one that reads the clock or random numbers.
    pub fn window(mut self, windows: impl IntoIterator<Item = Window>) -> Result<Self> {
        let mut fact_inputs = Vec::new();
        for window in windows {
            self.runs_as(&window.join.facts);
            fact_inputs.push(window.input(&self)?);
        }
        self.with(fact_inputs)
    }

    fn with<S: OperatorSpec>(self, fact_inputs: Vec<(LogicalPlan, FactInput<S>)>) -> Result<Self> {
        let Self { rows, at, zone, runner } = self;
        let (state, plan) = rows.into_parts();
        let (field, column) = spine_field(plan.schema(), at.name())?;
        let time = SpineTime { column, unit: at.unit, zone };
        time.scale(&field)?;
        let node = AsOfNode::try_new(plan, time, fact_inputs)?;
        let rows = DataFrame::new(planner::with_operators(state, runner.clone()), node.into_plan());
        Ok(Self { rows, at, zone, runner })
    }

    /// The rows run where these facts would.
    fn runs_as(&mut self, facts: &Facts) {
        if self.runner.is_none() {
            self.runner = runner_of(facts.rows.task_ctx().session_config());
        }
    }
}

fn spine_field(schema: &datafusion::common::DFSchema, name: &str) -> Result<(arrow::datatypes::FieldRef, Column)> {
    match schema.qualified_field_with_unqualified_name(name) {
        Ok((qualifier, field)) => Ok((field.clone(), Column::new(qualifier.cloned(), field.name()))),
        Err(_) => Err(Error::unknown_column("the spine", name, schema.as_arrow())),
    }
}

/// An operator's input, and the columns of the facts that it reads: columns of the table, and expressions.
pub(super) struct Requirements<S> {
    pub(super) join: FactJoin,
    pub(super) values: Vec<String>,
    pub(super) computed: Vec<Expr>,
    pub(super) input: FactInput<S>,
}

/// The facts of a lookup or window, and how they are joined to the spine.
#[derive(Debug, Clone)]
pub(super) struct FactJoin {
    facts: Facts,
    on: Vec<(String, String)>,
    cutoff: Cutoff,
    direction: Direction,
}

impl FactJoin {
    fn of(facts: Facts) -> Self {
        Self { facts, on: Vec::new(), cutoff: Cutoff::Exclusive, direction: Direction::Backward }
    }

    fn on(&self, spine: &Spine) -> Result<Vec<(Column, String)>> {
        if self.on.is_empty() {
            let reason = "it has no key; name the columns that join the facts to the spine with `on`".into();
            return Err(Error::Definition { subject: format!("the lookup or window over {}", self.facts.subject), reason });
        }
        self.on.iter().map(|(left, right)| Ok((spine_field(spine.schema(), left)?.1, right.clone()))).collect()
    }

    fn input<S>(&self, spine: &Spine, spec: S) -> Result<FactInput<S>> {
        let (on, Facts { subject, declared, .. }) = (self.on(spine)?, self.facts.clone());
        Ok(FactInput { subject, on, declared, cutoff: self.cutoff, direction: self.direction, full_rows: None, spec })
    }

    /// The facts with all columns, which decide between facts that tie; none if facts have an identity, where all columns are
    /// read anyway.
    fn full_rows(&self) -> Result<Option<Arc<LogicalPlan>>> {
        let Facts { rows, declared, .. } = &self.facts;
        if !declared.identity.is_empty() {
            return Ok(None);
        }
        let schema = rows.schema();
        let is_only_one = |name: &str| schema.fields().iter().filter(|field| field.name() == name).count() == 1;
        let columns = schema.columns().into_iter().map(|column| {
            let name = if is_only_one(&column.name) { column.name.clone() } else { column.flat_name() };
            Expr::Column(column).alias(name)
        });
        Ok(Some(Arc::new(rows.clone().select(columns.collect::<Vec<_>>())?.into_unoptimized_plan())))
    }

    /// As [`FactJoin::rows`], as a plan.
    fn plan(&self, values: &[String], computed: Vec<Expr>) -> Result<LogicalPlan> {
        Ok(self.rows(values, computed)?.into_unoptimized_plan())
    }

    /// The facts with the columns that are needed: keys, times, tie-breaks, identity, and these values and expressions.
    pub(super) fn rows(&self, values: &[String], computed: Vec<Expr>) -> Result<DataFrame> {
        let Facts { subject, rows, declared } = &self.facts;
        let schema = rows.schema().as_arrow().clone();
        declared.check(subject, &schema)?;
        if declared.is_timeless() {
            let reason = "it is declared timeless: take it from the store, with `FeatureStore::facts`".into();
            return Err(Error::Definition { subject: subject.clone(), reason });
        }
        let mut names: Vec<&str> = Vec::new();
        let times = declared.time_columns().map(|c| c.name());
        let declared_columns = declared.tie_break.iter().chain(&declared.identity).map(String::as_str);
        let keys = self.on.iter().map(|(_, right)| right.as_str());
        for name in keys.chain(times).chain(declared_columns).chain(values.iter().map(String::as_str)) {
            if schema.column_with_name(name).is_none() {
                return Err(Error::unknown_column(subject, name, &schema));
            }
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if !declared.identity.is_empty() {
            // All columns decide which version of a fact is the latest, whichever columns the caller selects.
            names = schema.fields().iter().map(|field| field.name().as_str()).collect();
        }
        let columns = names.into_iter().map(|name| ident(name).alias(name));
        Ok(rows.clone().select(columns.chain(computed).collect::<Vec<_>>())?)
    }
}

/// Columns of an entity's newest visible fact.
///
/// The newest fact is the one with the largest event time, then known-at, then tie-break columns. After that all other columns
/// decide, in the order of their names; the larger value wins. So neither the order of files and rows matters nor which columns
/// are selected. If facts tie on the selected columns, they are read a second time with all columns; a tie-break column avoids
/// that. If there is no visible fact, the columns are NULL.
#[derive(Debug, Clone)]
#[must_use]
pub struct Lookup {
    join: FactJoin,
    columns: Vec<(String, String)>,
    max_age_us: Option<i64>,
}

impl Lookup {
    /// A lookup in these facts.
    pub fn of(facts: Facts) -> Self {
        Self { join: FactJoin::of(facts), columns: Vec::new(), max_age_us: None }
    }

    /// Adds a key column that has the same name in the spine and in the facts.
    pub fn on(self, column: impl Into<String>) -> Self {
        let column = column.into();
        self.on_columns(column.clone(), column)
    }

    /// Adds a key column of the spine and its counterpart in the facts.
    pub fn on_columns(mut self, spine: impl Into<String>, facts: impl Into<String>) -> Self {
        self.join.on.push((spine.into(), facts.into()));
        self
    }

    /// Adds a column of the facts to the result.
    pub fn column(self, column: impl Into<String>) -> Self {
        let column = column.into();
        self.column_as(column.clone(), column)
    }

    /// Adds a column of the facts to the result, under another name.
    pub fn column_as(mut self, column: impl Into<String>, output: impl Into<String>) -> Self {
        self.columns.push((column.into(), output.into()));
        self
    }

    /// Adds several columns of the facts to the result.
    pub fn columns<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        for column in columns {
            self = self.column(column);
        }
        self
    }

    /// If the newest fact happened before the instant minus `max_age`, the columns are NULL. A fact exactly as old counts. An age of
    /// more than 292,000 years is no limit.
    pub fn max_age(mut self, max_age: TimeDelta) -> Self {
        self.max_age_us = length_micros(max_age);
        self
    }

    /// Whether facts at the instant itself are visible. The default is [`Cutoff::Exclusive`]: they are not.
    pub fn cutoff(mut self, cutoff: Cutoff) -> Self {
        self.join.cutoff = cutoff;
        self
    }

    /// Looks for the first fact after the instant instead, for labels.
    pub(crate) fn forward(mut self) -> Self {
        self.join.direction = Direction::Forward;
        self
    }

    fn input(self, spine: &Spine) -> Result<(LogicalPlan, FactInput<LookupSpec>)> {
        let Requirements { join, values, computed, input } = self.requirements(spine)?;
        Ok((join.plan(&values, computed)?, input))
    }

    /// The input of the operator, and the columns that it reads.
    pub(super) fn requirements(self, spine: &Spine) -> Result<Requirements<LookupSpec>> {
        let Self { join, columns, max_age_us } = self;
        let refused = |reason: String| Error::Definition { subject: format!("the lookup in {}", join.facts.subject), reason };
        if let Some(age) = max_age_us.filter(|age| *age < 0) {
            return Err(refused(format!("its max age is {}; it must be zero or more", shown_span(age))));
        }
        if columns.is_empty() {
            return Err(refused("it has no column; name one with `column`".into()));
        }
        if join.facts.is_timeless() && (max_age_us.is_some() || join.direction == Direction::Forward) {
            return Err(refused("the table is timeless: its values have no age, and none of them comes next".into()));
        }
        let values = columns.iter().map(|(column, _)| column.clone()).collect();
        let columns = columns.into_iter().map(|(fact, name)| LookupColumn { fact, qualifier: None, name }).collect();
        let input = FactInput { full_rows: join.full_rows()?, ..join.input(spine, LookupSpec { columns, max_age_us })? };
        Ok(Requirements { join, values, computed: Vec::new(), input })
    }
}

/// Aggregates over trailing windows of an entity's visible facts.
#[derive(Debug, Clone)]
#[must_use]
pub struct Window {
    join: FactJoin,
    spans: Vec<(WindowLength, Vec<Aggregate>)>,
}

impl Window {
    /// Windows over these facts.
    pub fn of(facts: Facts) -> Self {
        Self { join: FactJoin::of(facts), spans: Vec::new() }
    }

    /// Adds a key column that has the same name in the spine and in the facts.
    pub fn on(self, column: impl Into<String>) -> Self {
        let column = column.into();
        self.on_columns(column.clone(), column)
    }

    /// Adds a key column of the spine and its counterpart in the facts.
    pub fn on_columns(mut self, spine: impl Into<String>, facts: impl Into<String>) -> Self {
        self.join.on.push((spine.into(), facts.into()));
        self
    }

    /// Adds aggregates over the visible facts with an event time in `[t - length, t)`, or in a span of a zone's calendar that ends
    /// at t, or over the newest facts, or those since the last fact of a kind: see [`WindowLength`].
    pub fn trailing(mut self, length: impl Into<WindowLength>, aggregates: impl IntoIterator<Item = Aggregate>) -> Self {
        self.spans.push((WindowLength::of_operator(length), aggregates.into_iter().collect()));
        self
    }

    /// Adds aggregates over all facts visible before the instant.
    pub fn all_before(mut self, aggregates: impl IntoIterator<Item = Aggregate>) -> Self {
        self.spans.push((WindowLength::everything(), aggregates.into_iter().collect()));
        self
    }

    /// Whether facts at the instant itself are visible. The default is [`Cutoff::Exclusive`]: they are not.
    pub fn cutoff(mut self, cutoff: Cutoff) -> Self {
        self.join.cutoff = cutoff;
        self
    }

    /// The facts that the windows are over.
    pub(super) fn facts(&self) -> &Facts {
        &self.join.facts
    }

    fn input(self, spine: &Spine) -> Result<(LogicalPlan, FactInput<WindowSpec>)> {
        if self.spans.iter().all(|(_, aggregates)| aggregates.is_empty()) {
            let subject = format!("the window over {}", self.join.facts.subject);
            return Err(Error::Definition {
                subject,
                reason: "it has no aggregate; name one with `trailing` or `all_before`".into(),
            });
        }
        let Requirements { join, values, computed, input } = self.requirements(spine)?;
        Ok((join.plan(&values, computed)?, input))
    }

    /// The input of the operator, and the columns that it reads.
    pub(super) fn requirements(self, spine: &Spine) -> Result<Requirements<WindowSpec>> {
        let Self { join, spans } = self;
        let refused = |reason: String| Error::Definition { subject: format!("the window over {}", join.facts.subject), reason };
        let (mut read, mut columns) = (FactColumns::default(), Vec::new());
        for (length, aggregates) in spans {
            if let Some(flaw) = length.flaw() {
                return Err(refused(format!("a window of {length} {flaw}")));
            }
            let since = read.since(&join.facts, &length)?;
            for aggregate in aggregates {
                if let Some(flaw) = aggregate.flaw() {
                    return Err(refused(flaw));
                }
                if join.facts.is_timeless() {
                    let output = aggregate.output();
                    return Err(refused(format!(
                        "the table is timeless, and no window holds its rows: look up columns instead of `{output}`"
                    )));
                }
                columns.push(WindowColumn {
                    length: length.clone(),
                    since: since.clone(),
                    kind: aggregate.kind(),
                    input: aggregate.over().map(|over| read.input(&join.facts, &aggregate, over)).transpose()?,
                    by: aggregate.by().map(|by| read.input(&join.facts, &aggregate, by)).transpose()?,
                    filter: read.filter(&join.facts, &aggregate)?,
                    name: aggregate.output().into(),
                });
            }
        }
        let input = join.input(spine, WindowSpec { columns })?;
        if input.spec.needs_whole_rows() {
            for column in join.facts.rows.schema().columns() {
                read.by_name(Expr::Column(column), &join.facts)?;
            }
        }
        Ok(Requirements { join, values: read.plain, computed: read.computed, input })
    }
}

/// The operators as methods of a DataFrame, for a spine whose instants carry their zone.
///
/// ```no_run
/// # fn ask(spine: datafusion::prelude::DataFrame, trips: asof::temporal::Facts) -> asof::Result<()> {
/// use asof::temporal::{AsOfDataFrame, Lookup};
/// let rows = spine.lookup_as_of("at", [Lookup::of(trips).on("zone").column("fare")])?;
/// # Ok(())
/// # }
/// ```
pub trait AsOfDataFrame: Sized {
    /// As [`Spine::lookup`].
    ///
    /// # Errors
    /// As [`Spine::lookup`].
    fn lookup_as_of(self, at: &str, lookups: impl IntoIterator<Item = Lookup>) -> Result<Self>;

    /// As [`Spine::window`].
    ///
    /// # Errors
    /// As [`Spine::window`].
    fn window_as_of(self, at: &str, windows: impl IntoIterator<Item = Window>) -> Result<Self>;
}

impl AsOfDataFrame for DataFrame {
    fn lookup_as_of(self, at: &str, lookups: impl IntoIterator<Item = Lookup>) -> Result<Self> {
        Ok(Spine::new(self, at).lookup(lookups)?.into_rows())
    }

    fn window_as_of(self, at: &str, windows: impl IntoIterator<Item = Window>) -> Result<Self> {
        Ok(Spine::new(self, at).window(windows)?.into_rows())
    }
}
