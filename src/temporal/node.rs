//! The operators as logical nodes: a spine, the fact tables asked at each of its rows, and what is asked of each.
//! A node knows names and types; positions and values are the business of `exec`.

use std::{
    cmp::Ordering,
    fmt::{self, Debug},
    hash::Hash,
    sync::Arc,
};

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::{
    common::{Column, DFSchema, DFSchemaRef, ExprSchema, Result as DfResult, TableReference},
    logical_expr::{Extension, LogicalPlan, UNNAMED_TABLE, UserDefinedLogicalNodeCore},
    prelude::Expr,
};

use super::{
    aggregate::AggregateKind,
    fact_input::{OperatorContext, TemporalOperator},
    full_rows::COMPUTED_PREFIX,
    keys,
    time_decoder::{TickUnit, TimeDecoder},
};
use crate::{
    catalog::{FactTable, TimeColumn},
    error::{Error, Result},
    time::{Cutoff, TimeScale, TimeUnit, Zone, shown_span},
};

/// What is asked of one fact table; there are two such questions, and so two operators.
pub(crate) trait OperatorSpec: Debug + Clone + PartialEq + Eq + Hash + Send + Sync + 'static {
    /// The operator's name in `EXPLAIN`.
    const NAME: &'static str;

    /// The columns it adds, given those of the facts.
    fn outputs(&self, facts: &Schema) -> Result<Vec<(Option<TableReference>, FieldRef)>>;

    /// The same question without the outputs whose column the facts no longer have.
    fn pruned(&self, facts: &Schema) -> Self;

    /// How far back from an instant a fact can lie that it is about; `None` is as far as facts go.
    fn look_back_us(&self) -> Option<i64>;

    /// The fact columns that each output needs.
    fn columns_read(&self) -> Vec<Vec<&str>>;

    /// The conditions under which facts count.
    fn conditions(&self) -> Vec<&Expr> {
        Vec::new()
    }

    /// How it is shown in `EXPLAIN`.
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// What answers it.
    fn operator(&self, context: &OperatorContext) -> Result<Arc<dyn TemporalOperator>>;
}

/// Columns of the newest visible fact.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LookupSpec {
    pub(crate) columns: Vec<LookupColumn>,
    pub(crate) max_age_us: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LookupColumn {
    pub(crate) fact: String,
    pub(crate) qualifier: Option<TableReference>,
    pub(crate) name: String,
}

/// Aggregates over trailing windows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WindowSpec {
    pub(crate) columns: Vec<WindowColumn>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WindowColumn {
    /// `None`: everything before the instant.
    pub(crate) length_us: Option<i64>,
    pub(crate) kind: AggregateKind,
    pub(crate) input: Option<String>,
    /// A condition over the facts' columns, which are named without their table.
    pub(crate) filter: Option<Expr>,
    pub(crate) name: String,
}

impl WindowSpec {
    /// The different conditions.
    pub(crate) fn conditions(&self) -> Vec<&Expr> {
        let mut conditions = Vec::new();
        for filter in self.columns.iter().filter_map(|column| column.filter.as_ref()) {
            if !conditions.contains(&filter) {
                conditions.push(filter);
            }
        }
        conditions
    }
}

impl WindowColumn {
    /// The fact columns that it reads.
    fn reads(&self) -> Vec<&str> {
        let of_filter = self.filter.iter().flat_map(Expr::column_refs).map(|column| column.name.as_str());
        self.input.as_deref().into_iter().chain(of_filter).collect()
    }
}

/// Which way a lookup looks from the instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// To the newest fact before it.
    Backward,
    /// To the next fact after it: only SQL's `ASOF JOIN` with `<` or `<=` asks for that.
    Forward,
}

/// The spine's instants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SpineTime {
    pub(crate) column: Column,
    pub(crate) unit: Option<TimeUnit>,
    pub(crate) zone: Option<Zone>,
}

impl SpineTime {
    pub(crate) fn scale(&self, field: &Field) -> Result<TimeScale> {
        let needs_zone = matches!(field.data_type(), DataType::Timestamp(_, None) | DataType::Date32);
        if needs_zone && self.zone.is_none() {
            return Err(Error::ColumnType {
                subject: "the spine".into(),
                column: field.name().clone(),
                found: field.data_type().to_string(),
                needed: "its times carry no zone: declare whose clock wrote them with `Spine::zone`".into(),
            });
        }
        let column = match self.unit {
            Some(unit) => TimeColumn::epoch(field.name(), unit),
            None => TimeColumn::from(field.name().as_str()),
        };
        let mut declared = FactTable::new(column.clone(), crate::catalog::KnownAt::DelayMicros(0));
        declared.zone = self.zone;
        declared.scale("the spine", &column, &Schema::new(vec![field.clone()]))
    }
}

/// One fact table's part in a question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FactInput<S> {
    /// The table, for messages.
    pub(crate) subject: String,
    /// Key columns of the spine and of the facts.
    pub(crate) on: Vec<(Column, String)>,
    pub(crate) declared: FactTable,
    pub(crate) cutoff: Cutoff,
    pub(crate) direction: Direction,
    /// The facts with all their columns, which decide where times and tie-breaks do not; without them those that are asked for
    /// decide.
    pub(crate) full_rows: Option<Arc<LogicalPlan>>,
    pub(crate) spec: S,
}

/// Questions of one kind to several fact tables at each row of one spine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AsOfNode<S> {
    pub(crate) spine: LogicalPlan,
    pub(crate) at: SpineTime,
    pub(crate) fact_inputs: Vec<(LogicalPlan, FactInput<S>)>,
    schema: DFSchemaRef,
}

impl<S: OperatorSpec> AsOfNode<S> {
    /// Checks types and names.
    pub(crate) fn try_new(spine: LogicalPlan, at: SpineTime, fact_inputs: Vec<(LogicalPlan, FactInput<S>)>) -> Result<Self> {
        let mut fields: Vec<(Option<TableReference>, FieldRef)> =
            spine.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), field.clone())).collect();
        for (facts, input) in &fact_inputs {
            input.key_types(spine.schema(), facts.schema())?;
            input.time_decoders(at.scale(spine_field(spine.schema(), &at.column)?)?, facts.schema().as_arrow())?;
            for (qualifier, field) in input.spec.outputs(facts.schema().as_arrow())? {
                if qualifier.is_none() && fields.iter().any(|(_, known)| known.name() == field.name()) {
                    let reason =
                        format!("it would add a column `{}`, and there is one already; give it another name", field.name());
                    return Err(Error::Definition { subject: format!("the question to {}", input.subject), reason });
                }
                fields.push((qualifier, field));
            }
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, spine.schema().as_arrow().metadata().clone())?);
        Ok(Self { spine, at, fact_inputs, schema })
    }

    pub(crate) fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }
}

pub(crate) fn spine_field<'a>(schema: &'a DFSchema, column: &Column) -> Result<&'a FieldRef> {
    schema.field_from_column(column).map_err(|_| Error::unknown_column("the spine", &column.name, schema.as_arrow()))
}

/// A filter above the operator is about its rows, and a fact must not be able to vanish by it. One that names no column is
/// pushed into every input; above the spine it means the same, and from the facts it is taken away again.
fn without_filter_from_above(facts: LogicalPlan, before: &LogicalPlan) -> LogicalPlan {
    match facts {
        LogicalPlan::Filter(filter) if filter.input.as_ref() == before => Arc::unwrap_or_clone(filter.input),
        other => other,
    }
}

impl<S> FactInput<S> {
    /// The columns of the facts that are read whatever is asked of them.
    fn required_columns(&self) -> impl Iterator<Item = &str> {
        let times = self.declared.time_columns().map(TimeColumn::name);
        let decide = self.declared.tie_break.iter().chain(&self.declared.identity).map(String::as_str);
        self.on.iter().map(|(_, right)| right.as_str()).chain(times).chain(decide)
    }

    /// The types in which keys are compared.
    pub(crate) fn key_types(&self, spine: &DFSchema, facts: &DFSchema) -> Result<Vec<DataType>> {
        let types = self.on.iter().map(|(left, right)| {
            let spine_type = spine_field(spine, left)?.data_type();
            let fact_type = fact_field(&self.subject, facts.as_arrow(), right)?.data_type();
            keys::comparable(spine_type, fact_type).map_err(|reason| Error::ColumnType {
                subject: self.subject.clone(),
                column: right.clone(),
                found: fact_type.to_string(),
                needed: format!("the spine's `{}` is {spine_type}: {reason}", left.name),
            })
        });
        types.collect()
    }

    /// How the spine's instants, the event times and the known-at times are read.
    pub(crate) fn time_decoders(&self, spine: TimeScale, facts: &Schema) -> Result<(TimeDecoder, Vec<TimeDecoder>)> {
        let mut scales = Vec::new();
        for column in self.declared.time_columns() {
            scales.push((column.name().to_owned(), self.declared.scale(&self.subject, column, facts)?));
        }
        let unit = TickUnit::of(spine);
        let clock =
            |subject: &str, column: &str, scale| TimeDecoder { subject: subject.into(), column: column.into(), scale, unit };
        let time_decoders = scales.iter().map(|(column, scale)| clock(&self.subject, column, *scale)).collect();
        Ok((clock("the spine", "", spine), time_decoders))
    }
}

pub(crate) fn fact_position(subject: &str, facts: &Schema, name: &str) -> Result<usize> {
    facts.index_of(name).map_err(|_| Error::unknown_column(subject, name, facts))
}

pub(crate) fn fact_field<'a>(subject: &str, facts: &'a Schema, name: &str) -> Result<&'a Field> {
    facts.field_with_name(name).map_err(|_| Error::unknown_column(subject, name, facts))
}

impl OperatorSpec for LookupSpec {
    const NAME: &'static str = "AsOfLookup";

    fn outputs(&self, facts: &Schema) -> Result<Vec<(Option<TableReference>, FieldRef)>> {
        let output = |column: &LookupColumn| {
            let field = fact_field("the facts", facts, &column.fact)?;
            Ok((column.qualifier.clone(), Arc::new(field.clone().with_name(&column.name).with_nullable(true))))
        };
        self.columns.iter().map(output).collect()
    }

    fn pruned(&self, facts: &Schema) -> Self {
        let mut spec = self.clone();
        spec.columns.retain(|column| facts.column_with_name(&column.fact).is_some());
        spec
    }

    fn look_back_us(&self) -> Option<i64> {
        self.max_age_us
    }

    fn columns_read(&self) -> Vec<Vec<&str>> {
        self.columns.iter().map(|column| vec![column.fact.as_str()]).collect()
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |column: &'_ LookupColumn| match column.fact.starts_with(COMPUTED_PREFIX) {
            true => column.name.clone(),
            false => column.fact.clone(),
        };
        let names: Vec<String> = self.columns.iter().map(shown).collect();
        write!(f, "newest({})", names.join(", "))?;
        match self.max_age_us {
            Some(age) if age < i64::MAX => write!(f, ", max_age={}", shown_span(age)),
            _ => Ok(()),
        }
    }

    fn operator(&self, context: &OperatorContext) -> Result<Arc<dyn TemporalOperator>> {
        super::lookup::operator(self, context)
    }
}

impl OperatorSpec for WindowSpec {
    const NAME: &'static str = "AsOfWindow";

    fn outputs(&self, facts: &Schema) -> Result<Vec<(Option<TableReference>, FieldRef)>> {
        let output = |column: &WindowColumn| {
            let input = column.input.as_deref().map(|name| fact_field("the facts", facts, name)).transpose()?;
            let yields = column.kind.yields(input.map(|field| field.data_type()));
            let data_type = yields.map_err(|needed| Error::ColumnType {
                subject: "the facts".into(),
                column: column.input.clone().unwrap_or_default(),
                found: input.map_or_else(String::new, |field| field.data_type().to_string()),
                needed: needed.into(),
            })?;
            Ok((None, Arc::new(Field::new(&column.name, data_type, true))))
        };
        self.columns.iter().map(output).collect()
    }

    fn pruned(&self, facts: &Schema) -> Self {
        let mut spec = self.clone();
        spec.columns.retain(|column| column.reads().iter().all(|name| facts.column_with_name(name).is_some()));
        spec
    }

    fn look_back_us(&self) -> Option<i64> {
        self.columns.iter().map(|column| column.length_us).try_fold(0, |longest, length| Some(longest.max(length?)))
    }

    fn columns_read(&self) -> Vec<Vec<&str>> {
        self.columns.iter().map(WindowColumn::reads).collect()
    }

    fn conditions(&self) -> Vec<&Expr> {
        WindowSpec::conditions(self)
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.columns.iter().map(|column| {
            let length = column.length_us.filter(|length| *length < i64::MAX);
            let span = length.map_or_else(|| "everything before".to_owned(), shown_span);
            let filter = column.filter.as_ref().map_or_else(String::new, |filter| format!(" where {filter}"));
            format!("{}=[{:?}({}{filter}) over {span}]", column.name, column.kind, column.input.as_deref().unwrap_or(""))
        });
        f.write_str(&parts.collect::<Vec<_>>().join(", "))
    }

    fn operator(&self, context: &OperatorContext) -> Result<Arc<dyn TemporalOperator>> {
        super::window::operator(self, context)
    }
}

/// A column of the spine as `EXPLAIN` shows it.
fn of_spine(column: &Column) -> String {
    match &column.relation {
        Some(relation) if relation.table() != UNNAMED_TABLE => column.flat_name(),
        _ => format!("spine.{}", column.name),
    }
}

/// What a place calls its table: ``table `trips` `` calls it `trips`.
fn name_in(subject: &str) -> &str {
    subject.split('`').nth(1).unwrap_or("facts")
}

impl<S: OperatorSpec> FactInput<S> {
    /// The rule of this side, as `EXPLAIN` shows it.
    pub(crate) fn show(&self, at: &Column, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, own) = (of_spine(at), |column: &str| format!("{}.{column}", name_in(&self.subject)));
        let keys: Vec<String> = self.on.iter().map(|(left, right)| format!("{} = {}", of_spine(left), own(right))).collect();
        let operator = match (self.direction, self.cutoff) {
            (Direction::Backward, Cutoff::Exclusive) => "<",
            (Direction::Backward, Cutoff::Inclusive) => "<=",
            (Direction::Forward, Cutoff::Exclusive) => ">",
            (Direction::Forward, Cutoff::Inclusive) => ">=",
        };
        write!(f, "{} on [{}], visible=[", self.subject, keys.join(", "))?;
        match (&self.declared.known_at, own(self.declared.event_column())) {
            (crate::catalog::KnownAt::DelayMicros(0), event) => write!(f, "{event} {operator} {at}")?,
            (crate::catalog::KnownAt::DelayMicros(delay), event) => {
                write!(f, "{event} + {} {operator} {at}", shown_span(*delay))?;
            }
            (crate::catalog::KnownAt::Column(known), event) => {
                write!(f, "{event} {operator} {at} and {} {operator} {at}", own(known.name()))?;
            }
        }
        f.write_str("], ")?;
        self.spec.show(f)
    }
}

impl<S: OperatorSpec> PartialOrd for AsOfNode<S> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl<S: OperatorSpec> UserDefinedLogicalNodeCore for AsOfNode<S> {
    fn name(&self) -> &str {
        S::NAME
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        std::iter::once(&self.spine).chain(self.fact_inputs.iter().map(|(facts, _)| facts)).collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: at={}", S::NAME, of_spine(&self.at.column))?;
        for (_, input) in &self.fact_inputs {
            f.write_str(", ")?;
            input.show(&self.at.column, f)?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let mut inputs = inputs.into_iter();
        let spine = inputs.next().unwrap_or_else(|| self.spine.clone());
        let fact_inputs = inputs.zip(&self.fact_inputs).map(|(facts, (before, input))| {
            let facts = without_filter_from_above(facts, before);
            let spec = input.spec.pruned(facts.schema().as_arrow());
            (facts, FactInput { spec, ..input.clone() })
        });
        Ok(Self::try_new(spine, self.at.clone(), fact_inputs.collect())?)
    }

    /// What of each input the wanted outputs need: keys, times and tie-breaks always, values only if wanted.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let spine = self.spine.schema();
        let mut of_spine: Vec<usize> = output_columns.iter().copied().filter(|&i| i < spine.fields().len()).collect();
        let keys = self.fact_inputs.iter().flat_map(|(_, input)| input.on.iter().map(|(column, _)| column));
        for column in keys.chain([&self.at.column]) {
            of_spine.push(spine.maybe_index_of_column(column)?);
        }
        of_spine.sort_unstable();
        of_spine.dedup();
        let mut needed = vec![of_spine];
        let mut first = spine.fields().len();
        for (facts, input) in &self.fact_inputs {
            let schema = facts.schema().as_arrow();
            let inputs = input.spec.columns_read();
            let outputs = first..first + inputs.len();
            first = outputs.end;
            if !input.declared.identity.is_empty() {
                needed.push((0..schema.fields().len()).collect());
                continue;
            }
            let mut names: Vec<&str> = input.required_columns().collect();
            let wanted = outputs.zip(&inputs).filter(|(output, _)| output_columns.contains(output));
            names.extend(wanted.flat_map(|(_, inputs)| inputs));
            let mut positions = names.iter().map(|name| schema.index_of(name).ok()).collect::<Option<Vec<_>>>()?;
            positions.sort_unstable();
            positions.dedup();
            needed.push(positions);
        }
        Some(needed)
    }
}
