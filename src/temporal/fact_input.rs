//! One fact table as an input of an operator: its keys, its declaration of times, and where its columns are.
//! It reads no facts; that is what `fact_chunk` does.

use std::{fmt, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
};
use datafusion::{
    common::{Column, DFSchema, ExprSchema},
    logical_expr::{LogicalPlan, UNNAMED_TABLE},
};

use super::{
    fact_expression::FactExpressions,
    full_rows::FullRows,
    keys,
    resolve_versions::REPLACED_FROM,
    spec::{OperatorSpec, fact_field, fact_position},
    time_decoder::{Direction, TickUnit, TimeDecoder},
};
use crate::{
    catalog::{FactTable, FactTimes, KnownAt, TimeColumn},
    error::{Error, Result},
    time::{Cutoff, TimeScale, TimeUnit, Zone, is_local, shown_span},
};

/// The column of event times that lookups in a timeless table have. They are the beginning of time, so that every instant sees them.
pub(crate) const ALWAYS: &str = "asof: always";

/// The column of the spine's instants, and how it is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SpineTime {
    pub(crate) column: Column,
    pub(crate) unit: Option<TimeUnit>,
    pub(crate) zone: Option<Zone>,
}

impl SpineTime {
    /// The unit and zone of the column.
    ///
    /// # Errors
    /// [`Error::ColumnType`] for times without a zone if none is declared.
    pub(crate) fn scale(&self, field: &Field) -> Result<TimeScale> {
        if is_local(field.data_type()) && self.zone.is_none() {
            return Err(Error::ColumnType {
                subject: "the spine".into(),
                column: field.name().clone(),
                found: field.data_type().to_string(),
                needed: "its times carry no zone; declare the zone with `Spine::zone`".into(),
            });
        }
        let column = match self.unit {
            Some(unit) => TimeColumn::epoch(field.name(), unit),
            None => TimeColumn::from(field.name().as_str()),
        };
        let mut declared = FactTable::new(column.clone(), KnownAt::DelayMicros(0));
        declared.zone = self.zone;
        declared.scale("the spine", &column, &Schema::new(vec![field.clone()]))
    }
}

/// The field of a column of the spine.
pub(crate) fn spine_field<'a>(schema: &'a DFSchema, column: &Column) -> Result<&'a FieldRef> {
    schema.field_from_column(column).map_err(|_| Error::unknown_column("the spine", &column.name, schema.as_arrow()))
}

/// One fact table as a logical input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FactInput<S> {
    /// The table, for messages.
    pub(crate) subject: String,
    /// Key columns of the spine and of the facts.
    pub(crate) on: Vec<(Column, String)>,
    pub(crate) declared: FactTable,
    pub(crate) cutoff: Cutoff,
    pub(crate) direction: Direction,
    /// The facts with all columns, to decide between facts that tie on the columns that are read. Without them the columns that
    /// are read decide.
    pub(crate) full_rows: Option<Arc<LogicalPlan>>,
    pub(crate) spec: S,
}

impl<S> FactInput<S> {
    /// The columns of the facts that are read whatever the specification is: keys, times, tie-breaks and identity.
    pub(super) fn required_columns(&self) -> impl Iterator<Item = &str> {
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

    /// The decoders of the spine's instants, and of the facts' event times and known-at times.
    pub(crate) fn time_decoders(&self, spine: TimeScale, facts: &Schema) -> Result<(TimeDecoder, Vec<TimeDecoder>)> {
        let mut scales = Vec::new();
        for column in self.declared.time_columns() {
            scales.push((column.name().to_owned(), self.declared.scale(&self.subject, column, facts)?));
        }
        let unit = TickUnit::of(spine);
        let decoder =
            |subject: &str, column: &str, scale| TimeDecoder { subject: subject.into(), column: column.into(), scale, unit };
        let time_decoders = scales.iter().map(|(column, scale)| decoder(&self.subject, column, *scale)).collect();
        Ok((decoder("the spine", "", spine), time_decoders))
    }
}

impl<S> FactInput<S> {
    /// The same input for another specification. It does not read facts again.
    pub(super) fn of_spec<T>(&self, spec: T) -> FactInput<T> {
        FactInput {
            subject: self.subject.clone(),
            on: self.on.clone(),
            declared: self.declared.clone(),
            cutoff: self.cutoff,
            direction: self.direction,
            full_rows: None,
            spec,
        }
    }
}

impl<S: OperatorSpec> FactInput<S> {
    /// Writes the rule of this input as `EXPLAIN` shows it.
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
        match &self.declared.times {
            Some(FactTimes { event, .. }) if event.name == ALWAYS => f.write_str("timeless")?,
            Some(FactTimes { event, known_at }) => match (known_at, own(event.name())) {
                (KnownAt::DelayMicros(0), event) => write!(f, "{event} {operator} {at}")?,
                (KnownAt::DelayMicros(delay), event) => {
                    write!(f, "{event} + {} {operator} {at}", shown_span(*delay))?;
                }
                (KnownAt::Column(known), event) => {
                    write!(f, "{event} {operator} {at} and {} {operator} {at}", own(known.name()))?;
                }
            },
            None => f.write_str("timeless")?,
        }
        f.write_str("], ")?;
        self.spec.show(f)
    }
}

/// A column of the spine as `EXPLAIN` shows it.
pub(super) fn of_spine(column: &Column) -> String {
    match &column.relation {
        Some(relation) if relation.table() != UNNAMED_TABLE => column.flat_name(),
        _ => format!("spine.{}", column.name),
    }
}

/// The table's name in the subject of a message: `trips` in ``table `trips` ``.
fn name_in(subject: &str) -> &str {
    subject.split('`').nth(1).unwrap_or("facts")
}

/// A fact table as a physical input: a [`FactInput`] whose columns have been found.
#[derive(Debug, Clone)]
pub(crate) struct PhysicalFactInput<S> {
    pub(crate) logical: FactInput<S>,
    /// Positions of the keys in the spine and in the facts, and the types in which they are compared.
    pub(crate) spine_keys: Vec<usize>,
    pub(crate) fact_keys: Vec<usize>,
    pub(crate) key_types: Vec<DataType>,
    /// The decoder of the spine's instants; and the positions and decoders of event time and, if it is a column, known-at.
    pub(crate) spine_decoder: TimeDecoder,
    pub(crate) time_decoders: Vec<(usize, TimeDecoder)>,
    pub(crate) delay_us: i64,
    pub(crate) identity: Vec<usize>,
    /// The position of the ticks from which facts are replaced, if they have been found already.
    pub(crate) replaced_from: Option<usize>,
    /// The facts with all columns.
    pub(crate) full_rows: Option<Arc<FullRows>>,
    /// What is computed from the columns of a fact.
    pub(crate) expressions: FactExpressions,
    pub(crate) facts_schema: SchemaRef,
}

impl<S: Clone> PhysicalFactInput<S> {
    /// Finds the columns: those of the spine by `spine`, and those of the facts by the names that the logical plan gives them.
    pub(super) fn plan(
        spine: &DFSchema,
        at: &SpineTime,
        logical: &DFSchema,
        input: &FactInput<S>,
        facts_schema: SchemaRef,
    ) -> Result<Self> {
        let facts: Arc<Schema> = Arc::new(logical.as_arrow().clone());
        let find = |name: &str| fact_position(&input.subject, &facts, name);
        let (mut spine_decoder, time_decoders) = input.time_decoders(at.scale(spine_field(spine, &at.column)?)?, &facts)?;
        spine_decoder.column.clone_from(&at.column.name);
        let mut spine_keys = Vec::new();
        for (left, _) in &input.on {
            let found = spine.maybe_index_of_column(left);
            spine_keys.push(found.ok_or_else(|| Error::unknown_column("the spine", &left.name, spine.as_arrow()))?);
        }
        Ok(Self {
            spine_keys,
            fact_keys: input.on.iter().map(|(_, right)| find(right)).collect::<Result<_>>()?,
            key_types: input.key_types(spine, logical)?,
            time_decoders: time_decoders
                .into_iter()
                .map(|decoder| Ok((find(&decoder.column)?, decoder)))
                .collect::<Result<_>>()?,
            delay_us: input.declared.delay_us().unwrap_or(0),
            identity: input.declared.identity.iter().map(|name| find(name)).collect::<Result<_>>()?,
            replaced_from: facts_schema.index_of(REPLACED_FROM).ok(),
            full_rows: None,
            expressions: FactExpressions::default(),
            facts_schema,
            spine_decoder,
            logical: input.clone(),
        })
    }
}

impl<S> PhysicalFactInput<S> {
    /// After how many ticks each fact becomes visible, if that is the same for all and facts are never replaced.
    pub(super) fn constant_delay(&self) -> Option<i64> {
        match self.time_decoders.as_slice() {
            [(_, event)] if self.identity.is_empty() => event.constant_delay(self.logical.cutoff, self.delay_us),
            _ => None,
        }
    }

    /// The key columns of a batch of facts.
    pub(super) fn key_columns(&self, batch: &RecordBatch) -> Vec<ArrayRef> {
        self.fact_keys.iter().map(|&p| batch.column(p).clone()).collect()
    }

    /// The positions of the tie-break columns.
    pub(super) fn tie_columns(&self) -> Result<Vec<usize>> {
        let names = self.logical.declared.tie_break.iter();
        names.map(|name| fact_position(&self.logical.subject, &self.facts_schema, name)).collect()
    }
}
