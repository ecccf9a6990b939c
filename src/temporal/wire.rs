//! The operators as bytes, for plans that run in other processes.
//!
//! What travels is what was asked: declarations, names of columns, lengths, expressions. The other side plans the operator anew from them,
//! by the same code. Its inputs travel as plans.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::{
    common::{Column, DFSchema, Result as DfResult, TableReference},
    error::DataFusionError,
    execution::{SessionState, SessionStateBuilder, TaskContext},
    logical_expr::Expr,
    physical_plan::ExecutionPlan,
};
use datafusion_proto::{
    logical_plan::{from_proto::parse_expr, to_proto::serialize_expr},
    protobuf,
};
use prost::Message;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    aggregate::AggregateKind,
    exec::{AsOfExec, Asked, Mode},
    fact_expression::FactExpressions,
    fact_input::{FactInput, PhysicalFactInput, SpineTime},
    full_rows::{AllColumns, FullRows},
    number_rows::NumberRowsExec,
    operator::CreateOperator,
    prune_facts::PruneFactsExec,
    pruner::Needed,
    resolve_versions::{AskedFacts, ResolveVersionsExec},
    restore_order::RestoreOrderExec,
    spec::{LookupColumn, LookupSpec, WindowColumn, WindowInput, WindowSpec},
    time_decoder::Direction,
    window_length::{Reach, WindowLength},
};
use crate::{
    catalog::FactTable,
    error::{Error, Result},
    scan::Carrier,
    time::{Cutoff, TimeUnit, Zone},
};

/// An operator. Exactly one field is set.
#[derive(Clone, PartialEq, Message)]
struct Operator {
    #[prost(message, optional, tag = "1")]
    lookup: Option<Question>,
    #[prost(message, optional, tag = "2")]
    window: Option<Question>,
    #[prost(bool, optional, tag = "3")]
    number_rows: Option<bool>,
    #[prost(message, optional, tag = "4")]
    versions: Option<Question>,
    #[prost(bool, optional, tag = "5")]
    restore_order: Option<bool>,
    #[prost(message, optional, tag = "6")]
    prune: Option<Question>,
}

/// A lookup or window, by partition.
#[derive(Clone, PartialEq, Message)]
struct Question {
    /// The columns of the spine.
    #[prost(message, optional, tag = "1")]
    spine: Option<protobuf::DfSchema>,
    /// [`At`] as JSON.
    #[prost(string, tag = "2")]
    at: String,
    #[prost(string, tag = "3")]
    explain: String,
    #[prost(message, repeated, tag = "4")]
    inputs: Vec<Input>,
}

/// A fact table.
#[derive(Clone, PartialEq, Message)]
struct Input {
    /// Its columns.
    #[prost(message, optional, tag = "1")]
    facts: Option<protobuf::DfSchema>,
    /// [`AskedOf`] as JSON.
    #[prost(string, tag = "2")]
    asked: String,
    /// The expressions that it numbers, and their types.
    #[prost(message, repeated, tag = "3")]
    expressions: Vec<protobuf::LogicalExprNode>,
    #[prost(message, repeated, tag = "4")]
    types: Vec<protobuf::ArrowType>,
    /// All facts with all columns: the columns, and a plan.
    #[prost(message, optional, tag = "5")]
    all_columns: Option<protobuf::DfSchema>,
    #[prost(bytes = "vec", tag = "6")]
    all_rows: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct At {
    column: (Vec<String>, String),
    unit: Option<TimeUnit>,
    zone: Option<Zone>,
}

/// A [`FactInput`] without its plan.
#[derive(Serialize, Deserialize)]
struct AskedOf<S> {
    subject: String,
    on: Vec<((Vec<String>, String), String)>,
    declared: FactTable,
    cutoff: Cutoff,
    forward: bool,
    spec: S,
}

#[derive(Serialize, Deserialize)]
struct AskedLookup {
    columns: Vec<(String, Vec<String>, String)>,
    max_age_us: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct AskedColumn {
    reach: Reach,
    since_text: Option<String>,
    newest: Option<u32>,
    /// Numbers of expressions.
    since: Option<usize>,
    filter: Option<usize>,
    kind: AggregateKind,
    input: Option<AskedValue>,
    by: Option<AskedValue>,
    name: String,
}

#[derive(Serialize, Deserialize)]
enum AskedValue {
    Column(String),
    /// SQL, and the numbers of the expression and of its type.
    Expression(String, usize, usize),
}

/// The operator as bytes; `None` for a node that is none of them.
pub(crate) fn encode(node: &dyn ExecutionPlan, carrier: &dyn Carrier) -> DfResult<Option<Vec<u8>>> {
    let operator = if let Some(lookup) = node.downcast_ref::<AsOfExec<LookupSpec>>() {
        Operator { lookup: Some(encoded(lookup, carrier)?), ..Operator::default() }
    } else if let Some(window) = node.downcast_ref::<AsOfExec<WindowSpec>>() {
        Operator { window: Some(encoded(window, carrier)?), ..Operator::default() }
    } else if let Some(versions) = node.downcast_ref::<ResolveVersionsExec>() {
        let asked = asked_of(&versions.input.logical, ())?;
        Operator { versions: Some(encoded_facts(&versions.asked, asked)?), ..Operator::default() }
    } else if let Some(prune) = node.downcast_ref::<PruneFactsExec>() {
        let asked = asked_of(&prune.input.logical, prune.needed)?;
        Operator { prune: Some(encoded_facts(&prune.asked, asked)?), ..Operator::default() }
    } else if node.is::<NumberRowsExec>() {
        Operator { number_rows: Some(true), ..Operator::default() }
    } else if node.is::<RestoreOrderExec>() {
        Operator { restore_order: Some(true), ..Operator::default() }
    } else {
        return Ok(None);
    };
    Ok(Some(operator.encode_to_vec()))
}

/// The operator that these bytes are, over these inputs.
pub(crate) fn decode(
    bytes: &[u8],
    inputs: &[Arc<dyn ExecutionPlan>],
    context: &TaskContext,
    carrier: &dyn Carrier,
) -> DfResult<Arc<dyn ExecutionPlan>> {
    let operator = Operator::decode(bytes).map_err(|e| flawed(&e))?;
    let Some((first, facts)) = inputs.split_first() else { return Err(flawed(&"an operator has no input").into()) };
    let decoder = Decoder { context, carrier };
    match operator {
        Operator { lookup: Some(lookup), .. } => decoder.operator::<LookupSpec>(lookup, first, facts),
        Operator { window: Some(window), .. } => decoder.operator::<WindowSpec>(window, first, facts),
        Operator { versions: Some(versions), .. } => {
            let (asked, input, ()) = decoded_facts(versions, first)?;
            Ok(Arc::new(ResolveVersionsExec::new(first.clone(), input, asked)))
        }
        Operator { prune: Some(prune), .. } => {
            let [facts] = facts else { return Err(flawed(&"the number of fact tables differs").into()) };
            let (asked, input, needed): (_, _, Needed) = decoded_facts(prune, facts)?;
            Ok(Arc::new(PruneFactsExec::new(first.clone(), facts.clone(), input, asked, needed)?))
        }
        Operator { number_rows: Some(_), .. } => Ok(Arc::new(NumberRowsExec::new(first.clone()))),
        Operator { restore_order: Some(_), .. } => Ok(Arc::new(RestoreOrderExec::new(first.clone()))),
        Operator { .. } => Err(flawed(&"it is of another version").into()),
    }
}

/// A specification that travels.
trait Travels: CreateOperator {
    type Asked: Serialize + DeserializeOwned;

    fn asked(&self, parts: &mut Parts) -> Self::Asked;

    fn of(asked: Self::Asked, parts: &Parts) -> Result<Self>;
}

/// Expressions and types, by number.
#[derive(Default)]
struct Parts {
    expressions: Vec<Expr>,
    types: Vec<DataType>,
}

impl Parts {
    fn add(&mut self, expression: &Expr) -> usize {
        self.expressions.push(expression.clone());
        self.expressions.len() - 1
    }

    fn expression(&self, number: usize) -> Result<Expr> {
        self.expressions.get(number).cloned().ok_or_else(|| flawed(&"an expression is missing"))
    }
}

impl Travels for LookupSpec {
    type Asked = AskedLookup;

    fn asked(&self, _: &mut Parts) -> AskedLookup {
        let column = |column: &LookupColumn| {
            (column.fact.clone(), column.qualifier.as_ref().map_or_else(Vec::new, TableReference::to_vec), column.name.clone())
        };
        AskedLookup { columns: self.columns.iter().map(column).collect(), max_age_us: self.max_age_us }
    }

    fn of(asked: AskedLookup, _: &Parts) -> Result<Self> {
        let column = |(fact, qualifier, name): (String, Vec<String>, String)| {
            Ok(LookupColumn { fact, qualifier: table_reference(qualifier)?, name })
        };
        Ok(Self { columns: asked.columns.into_iter().map(column).collect::<Result<_>>()?, max_age_us: asked.max_age_us })
    }
}

impl Travels for WindowSpec {
    type Asked = Vec<AskedColumn>;

    fn asked(&self, parts: &mut Parts) -> Vec<AskedColumn> {
        let column = |column: &WindowColumn| {
            let value = |parts: &mut Parts, input: &WindowInput| match input {
                WindowInput::Column(name) => AskedValue::Column(name.clone()),
                WindowInput::Expression { text, value, data_type } => {
                    parts.types.push(data_type.clone());
                    AskedValue::Expression(text.clone(), parts.add(value), parts.types.len() - 1)
                }
            };
            AskedColumn {
                reach: column.length.reach,
                since_text: column.length.since.clone(),
                newest: column.length.newest,
                since: column.since.as_ref().map(|since| parts.add(since)),
                filter: column.filter.as_ref().map(|filter| parts.add(filter)),
                kind: column.kind,
                input: column.input.as_ref().map(|input| value(parts, input)),
                by: column.by.as_ref().map(|by| value(parts, by)),
                name: column.name.clone(),
            }
        };
        self.columns.iter().map(column).collect()
    }

    fn of(asked: Vec<AskedColumn>, parts: &Parts) -> Result<Self> {
        let value = |value: AskedValue| {
            Ok::<_, Error>(match value {
                AskedValue::Column(name) => WindowInput::Column(name),
                AskedValue::Expression(text, value, data_type) => WindowInput::Expression {
                    text,
                    value: parts.expression(value)?,
                    data_type: parts.types.get(data_type).cloned().ok_or_else(|| flawed(&"a type is missing"))?,
                },
            })
        };
        let column = |column: AskedColumn| {
            Ok::<_, Error>(WindowColumn {
                length: WindowLength { reach: column.reach, since: column.since_text, newest: column.newest },
                since: column.since.map(|since| parts.expression(since)).transpose()?,
                kind: column.kind,
                input: column.input.map(value).transpose()?,
                by: column.by.map(value).transpose()?,
                filter: column.filter.map(|filter| parts.expression(filter)).transpose()?,
                name: column.name,
            })
        };
        Ok(Self { columns: asked.into_iter().map(column).collect::<Result<_>>()? })
    }
}

fn encoded<S: Travels>(operator: &AsOfExec<S>, carrier: &dyn Carrier) -> DfResult<Question> {
    if operator.mode != Mode::ByPartition {
        let reason = format!("{} is planned for one process; plan the query on the runner's own store", S::NAME);
        return Err(Error::Internal { subject: "a plan for other processes".into(), reason }.into());
    }
    let Asked { spine, at, facts, explain } = operator.asked.as_ref();
    let mut inputs = Vec::with_capacity(facts.len());
    for (input, facts) in operator.fact_inputs.iter().zip(facts) {
        let mut parts = Parts::default();
        let asked = input.logical.spec.asked(&mut parts);
        let expressions = parts.expressions.iter().map(|e| serialize_expr(e, carrier.functions()));
        let (mut all_columns, mut all_rows) = (None, Vec::new());
        if let Some(FullRows { rows: AllColumns::Planned(plan), input: all, .. }) = input.full_rows.as_deref() {
            all_columns = Some((&DFSchema::try_from(all.facts_schema.clone())?).try_into()?);
            all_rows = carrier.encode_plan(plan)?;
        }
        inputs.push(Input {
            facts: Some(facts.as_ref().try_into()?),
            asked: asked_of(&input.logical, asked)?,
            expressions: expressions.collect::<Result<_, _>>()?,
            types: parts.types.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            all_columns,
            all_rows,
        });
    }
    Ok(Question { spine: Some(spine.as_ref().try_into()?), at: at_text(at)?, explain: explain.clone(), inputs })
}

/// A question about the facts of one table.
fn encoded_facts(names: &AskedFacts, asked: String) -> DfResult<Question> {
    let AskedFacts { spine, at, facts } = names;
    let input = Input { facts: Some(facts.as_ref().try_into()?), asked, ..Input::default() };
    Ok(Question { spine: Some(spine.as_ref().try_into()?), at: at_text(at)?, explain: String::new(), inputs: vec![input] })
}

fn at_text(at: &SpineTime) -> Result<String> {
    let at = At { column: named(&at.column), unit: at.unit, zone: at.zone };
    serde_json::to_string(&at).map_err(|e| flawed(&e))
}

/// An input with this specification, as JSON.
fn asked_of<S, A: Serialize>(input: &FactInput<S>, spec: A) -> Result<String> {
    let FactInput { subject, on, declared, cutoff, direction, .. } = input;
    let asked = AskedOf {
        subject: subject.clone(),
        on: on.iter().map(|(spine, facts)| (named(spine), facts.clone())).collect(),
        declared: declared.clone(),
        cutoff: *cutoff,
        forward: *direction == Direction::Forward,
        spec,
    };
    serde_json::to_string(&asked).map_err(|e| flawed(&e))
}

/// The input whose specification was asked for so.
fn input_of<S, A: DeserializeOwned>(asked: &str, spec: impl FnOnce(A) -> Result<S>) -> Result<FactInput<S>> {
    let asked: AskedOf<A> = serde_json::from_str(asked).map_err(|e| flawed(&e))?;
    let key =
        |((qualifier, name), facts): ((Vec<String>, String), String)| Ok((Column::new(table_reference(qualifier)?, name), facts));
    Ok(FactInput {
        subject: asked.subject,
        on: asked.on.into_iter().map(key).collect::<Result<_>>()?,
        declared: asked.declared,
        cutoff: asked.cutoff,
        direction: if asked.forward { Direction::Forward } else { Direction::Backward },
        full_rows: None,
        spec: spec(asked.spec)?,
    })
}

struct Decoder<'a> {
    context: &'a TaskContext,
    carrier: &'a dyn Carrier,
}

impl Decoder<'_> {
    fn operator<S: Travels>(
        &self,
        message: Question,
        spine: &Arc<dyn ExecutionPlan>,
        facts: &[Arc<dyn ExecutionPlan>],
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let (at, spine_schema) = (at_of(&message.at)?, Arc::new(columns(message.spine)?));
        let at_position = spine_schema.maybe_index_of_column(&at.column).ok_or_else(|| flawed(&"the spine has no instants"))?;
        let state = SessionStateBuilder::new()
            .with_config(self.context.session_config().clone())
            .with_runtime_env(self.context.runtime_env())
            .build();
        if facts.len() != message.inputs.len() {
            return Err(flawed(&"the number of fact tables differs").into());
        }
        let mut fields = spine.schema().fields().to_vec();
        let (mut fact_inputs, mut fact_schemas) = (Vec::new(), Vec::new());
        for (input, facts) in message.inputs.into_iter().zip(facts) {
            let schema = Arc::new(columns(input.facts.clone())?);
            let planned = self.input::<S>(input, (&spine_schema, &at), (&schema, facts), &state)?;
            fields.extend(planned.logical.spec.outputs(schema.as_arrow())?.into_iter().map(|(_, field)| field));
            fact_inputs.push(Arc::new(planned));
            fact_schemas.push(schema);
        }
        let schema = Arc::new(Schema::new_with_metadata(fields, spine.schema().metadata().clone()));
        let asked = Asked { spine: spine_schema, at, facts: fact_schemas, explain: message.explain };
        let (facts, asked) = (facts.to_vec(), Arc::new(asked));
        Ok(Arc::new(AsOfExec::new(spine.clone(), at_position, facts, fact_inputs, Mode::ByPartition, schema, asked)?))
    }

    fn input<S: Travels>(
        &self,
        message: Input,
        (spine, at): (&DFSchema, &SpineTime),
        (schema, facts): (&DFSchema, &Arc<dyn ExecutionPlan>),
        state: &SessionState,
    ) -> DfResult<PhysicalFactInput<S>> {
        let expressions = message.expressions.iter().map(|e| parse_expr(e, self.context, self.carrier.functions()));
        let parts = Parts {
            expressions: expressions.collect::<Result<_, _>>()?,
            types: message.types.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        };
        let input = input_of(&message.asked, |asked| S::of(asked, &parts))?;
        let mut planned = PhysicalFactInput::plan(spine, at, schema, &input, facts.schema())?;
        planned.expressions = FactExpressions::plan(&input.spec, state, schema)?;
        if let Some(all_columns) = message.all_columns {
            let rows = AllColumns::Planned(self.carrier.decode_plan(&message.all_rows)?);
            planned.full_rows = Some(Arc::new(FullRows::new(spine, at, &input, &columns(Some(all_columns))?, rows)?));
        }
        Ok(planned)
    }
}

/// The facts of one table that a question is about, and what it asks of them.
fn decoded_facts<A: DeserializeOwned>(
    message: Question,
    facts: &Arc<dyn ExecutionPlan>,
) -> DfResult<(Arc<AskedFacts>, Arc<PhysicalFactInput<()>>, A)> {
    let [input] = message.inputs.as_slice() else { return Err(flawed(&"the number of fact tables differs").into()) };
    let asked = AskedFacts {
        spine: Arc::new(columns(message.spine)?),
        at: at_of(&message.at)?,
        facts: Arc::new(columns(input.facts.clone())?),
    };
    let mut spec = None;
    let logical = input_of(&input.asked, |asked: A| {
        spec = Some(asked);
        Ok(())
    })?;
    let planned = PhysicalFactInput::plan(&asked.spine, &asked.at, &asked.facts, &logical, facts.schema())?;
    let spec = spec.ok_or_else(|| flawed(&"what is asked of the facts is missing"))?;
    Ok((Arc::new(asked), Arc::new(planned), spec))
}

fn at_of(text: &str) -> Result<SpineTime> {
    let At { column: (qualifier, name), unit, zone } = serde_json::from_str(text).map_err(|e| flawed(&e))?;
    Ok(SpineTime { column: Column::new(table_reference(qualifier)?, name), unit, zone })
}

fn named(column: &Column) -> (Vec<String>, String) {
    (column.relation.as_ref().map_or_else(Vec::new, TableReference::to_vec), column.name.clone())
}

fn table_reference(parts: Vec<String>) -> Result<Option<TableReference>> {
    let mut parts = parts.into_iter();
    Ok(match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (None, ..) => None,
        (Some(table), None, ..) => Some(TableReference::bare(table)),
        (Some(schema), Some(table), None, _) => Some(TableReference::partial(schema, table)),
        (Some(catalog), Some(schema), Some(table), None) => Some(TableReference::full(catalog, schema, table)),
        _ => return Err(flawed(&"a table's name has too many parts")),
    })
}

fn columns(schema: Option<protobuf::DfSchema>) -> DfResult<DFSchema> {
    let schema = schema.ok_or_else(|| flawed(&"the columns of an input are missing"))?;
    (&schema).try_into().map_err(|e| DataFusionError::External(Box::new(e)))
}

fn flawed(reason: &dyn std::fmt::Display) -> Error {
    Error::Internal { subject: "an operator from another process".into(), reason: reason.to_string() }
}
