//! SQL over the columns of a single fact: the filter of an aggregate, the condition of a window, and the expression that an aggregate
//! is over.
//! They are planned and checked here. `window` evaluates them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::{
    catalog::Session,
    common::{
        Column, DFSchema, Result as DfResult, ScalarValue,
        tree_node::{Transformed, TreeNode},
    },
    error::DataFusionError,
    logical_expr::{
        Expr, ExprSchemable, Operator,
        expr::ScalarFunction,
        simplify::{ExprSimplifyResult, SimplifyContext},
    },
    optimizer::simplify_expressions::ExprSimplifier,
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, NegativeExpr, cast, lit},
    },
};

use super::{
    Aggregate, Expression, Facts, WindowLength,
    entity_keys::plain,
    spec::{OperatorSpec, WindowInput},
};
use crate::{
    engine::too_deep,
    error::{Error, Result, in_one_line},
    scan::refuse_volatile_expression,
};

/// The mistakes of the expressions that an aggregate is to be over. Its columns are not checked.
pub(crate) fn expression_mistakes(facts: &Facts, aggregate: &Aggregate) -> Vec<Error> {
    let expressions = aggregate.arguments().filter(|argument| argument.sql_text().is_some());
    expressions.filter_map(|argument| FactColumns::default().input(facts, aggregate, argument).err()).collect()
}

/// Checks the filter of an aggregate against the facts that it is to be over.
///
/// # Errors
/// As [`Spine::window`](super::Spine::window).
pub(crate) fn check_filter(facts: &Facts, aggregate: &Aggregate) -> Result<()> {
    FactColumns::default().filter(facts, aggregate).map(drop)
}

/// Checks the condition of a window against the facts that it is to be over.
///
/// # Errors
/// As [`Spine::window`](super::Spine::window).
pub(crate) fn check_condition(facts: &Facts, length: &WindowLength) -> Result<()> {
    FactColumns::default().since(facts, length).map(drop)
}

/// The columns of the facts that aggregates read. A column of the table is read under its own name. One whose name alone is
/// ambiguous, as in a join, can only be named by an expression with its table; it is computed.
#[derive(Default)]
pub(super) struct FactColumns {
    pub(super) plain: Vec<String>,
    pub(super) computed: Vec<Expr>,
}

impl FactColumns {
    /// An argument of an aggregate, and the check of its type.
    pub(super) fn input(&mut self, facts: &Facts, aggregate: &Aggregate, argument: &Expression) -> Result<WindowInput> {
        match argument.column() {
            Some(column) => {
                let (subject, schema) = (facts.subject(), facts.rows().schema().as_arrow());
                let field = schema.field_with_name(column).map_err(|_| Error::unknown_column(subject, column, schema))?;
                aggregate.check(argument, field.data_type()).map_err(|needed| Error::ColumnType {
                    subject: subject.into(),
                    column: column.into(),
                    found: field.data_type().to_string(),
                    needed: needed.into(),
                })?;
                self.plain.push(column.to_owned());
                Ok(WindowInput::Column(column.to_owned()))
            }
            None => self.value(facts, aggregate, argument),
        }
    }

    /// The filter of an aggregate, over columns that are named without their table.
    pub(super) fn filter(&mut self, facts: &Facts, aggregate: &Aggregate) -> Result<Option<Expr>> {
        aggregate.condition().map(|text| self.condition(facts, text, "filter")).transpose()
    }

    /// The condition of a window, over columns that are named without their table.
    pub(super) fn since(&mut self, facts: &Facts, length: &WindowLength) -> Result<Option<Expr>> {
        length.condition().map(|text| self.condition(facts, text, "condition")).transpose()
    }

    /// A condition over the columns of a fact. `what` is what messages call it.
    fn condition(&mut self, facts: &Facts, text: &str, what: &str) -> Result<Expr> {
        let written = Written { facts, text, what: format!("the {what} `{text}`") };
        let condition = written.planned()?;
        if condition.exists(|e| Ok(reads_more_than_a_row(e)))? {
            let reason =
                format!("the {what} `{condition}` reads more than one fact; a {what} is over the columns of a single fact");
            return Err(written.refused(reason));
        }
        let condition = written.without_name(condition)?;
        if condition.exists(|e| Ok(is_no_value(e)))? {
            return Err(written.refused(format!("{} is no single value of a fact", written.what)));
        }
        let found = condition.get_type(facts.rows().schema()).map_err(|cause| written.unplanned(&cause))?;
        if found != DataType::Boolean {
            return Err(written.refused(format!("the {what} `{condition}` has the type {found}; a {what} is Boolean")));
        }
        self.by_name(condition, facts)
    }

    /// An expression that an aggregate is over.
    fn value(&mut self, facts: &Facts, aggregate: &Aggregate, argument: &Expression) -> Result<WindowInput> {
        let (text, feature) = (argument.text(), aggregate.output());
        let written = Written { facts, text, what: format!("the expression `{text}` of `{feature}`") };
        let what = &written.what;
        let value = written.planned()?;
        // The engine's plan of `count(*)` has a name of its own, so this comes first.
        if value.exists(|e| Ok(reads_more_than_a_row(e)))? {
            let reason = format!("{what} reads more than one fact; it is over the columns of a single fact");
            return Err(written.refused(reason));
        }
        let value = written.without_name(value)?;
        if value.exists(|e| Ok(is_no_value(e)))? {
            return Err(written.refused(format!("{what} is no single value of a fact")));
        }
        let schema = facts.rows().schema();
        let coercion = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build());
        let coerced = coercion.coerce(value.clone(), schema);
        let found = coerced.and_then(|value| value.get_type(schema)).map_err(|cause| written.unplanned(&cause))?;
        let data_type = plain(&found);
        if let Err(needed) = aggregate.check(argument, &data_type) {
            return Err(written.refused(format!("{what} is {found}, but {needed}")));
        }
        Ok(WindowInput::Expression { text: text.to_owned(), value: self.by_name(value, facts)?, data_type })
    }

    /// The expression over columns that are named without their table.
    pub(super) fn by_name(&mut self, expression: Expr, facts: &Facts) -> Result<Expr> {
        let schema = facts.rows().schema();
        let renamed = expression.transform(|e| match e {
            Expr::Column(column) => {
                let is_only_one = schema.fields().iter().filter(|field| *field.name() == column.name).count() == 1;
                let name = if is_only_one { column.name.clone() } else { column.flat_name() };
                if is_only_one {
                    self.plain.push(name.clone());
                } else {
                    let computing = Expr::Column(column).alias(&name);
                    if !self.computed.contains(&computing) {
                        self.computed.push(computing);
                    }
                }
                Ok(Transformed::yes(Expr::Column(Column::new_unqualified(name))))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(renamed.data)
    }
}

/// A filter or an expression as it was written.
struct Written<'a> {
    facts: &'a Facts,
    text: &'a str,
    /// It, in messages.
    what: String,
}

impl Written<'_> {
    /// The subject of errors.
    fn subject(&self) -> String {
        format!("the window over {}", self.facts.subject())
    }

    fn refused(&self, reason: String) -> Error {
        Error::Definition { subject: self.subject(), reason }
    }

    fn unplanned(&self, cause: &DataFusionError) -> Error {
        self.refused(format!("{} cannot be planned: {}", self.what, in_one_line(cause)))
    }

    /// Its plan. Functions that read the clock or random numbers are refused.
    fn planned(&self) -> Result<Expr> {
        if let Some(reason) = too_deep(self.text) {
            return Err(self.refused(format!("{} {reason}", self.what)));
        }
        let planned = self.facts.rows().parse_sql_expr(self.text).map_err(|cause| match Error::from(cause) {
            Error::UnknownColumn { column, known, .. } => {
                Error::UnknownColumn { subject: format!("{}, which {} reads,", self.facts.subject(), self.what), column, known }
            }
            Error::Query(cause) => self.unplanned(&cause),
            other => other,
        })?;
        refuse_volatile_expression(&self.subject(), &planned)?;
        Ok(planned)
    }

    /// The plan without the name that the engine gives to a call of a function by its second name, such as `pow`. A name that was
    /// written is refused: only there, the text is no expression within parentheses.
    fn without_name(&self, planned: Expr) -> Result<Expr> {
        let Expr::Alias(named) = planned else { return Ok(planned) };
        match self.facts.rows().parse_sql_expr(&format!("({}\n)", self.text)) {
            Ok(_) => Ok(*named.expr),
            Err(_) => {
                Err(self.refused(format!("{} names its value; leave the name out, and name the feature with `named`", self.what)))
            }
        }
    }
}

/// A subquery would not follow the time rule, an aggregate has no window, and a window function depends on the order of rows.
fn reads_more_than_a_row(e: &Expr) -> bool {
    use Expr::{AggregateFunction, Exists, InSubquery, ScalarSubquery, SetComparison, WindowFunction};
    matches!(e, AggregateFunction(_) | WindowFunction(_) | ScalarSubquery(_) | InSubquery(_) | Exists(_) | SetComparison(_))
}

/// A list that becomes rows, several groups at once, and what is filled in only when a query runs.
fn is_no_value(e: &Expr) -> bool {
    use Expr::{GroupingSet, OuterReferenceColumn, Placeholder, ScalarVariable, Unnest};
    matches!(e, GroupingSet(_) | OuterReferenceColumn(..) | Placeholder(_) | ScalarVariable(..) | Unnest(_))
}

/// What a specification computes from the columns of a fact.
#[derive(Debug, Clone, Default)]
pub(crate) struct FactExpressions {
    /// The filters of aggregates and the conditions of windows, in the order of [`OperatorSpec::conditions`].
    pub(crate) conditions: Vec<Arc<dyn PhysicalExpr>>,
    /// The expressions that aggregates are over, in the order of [`OperatorSpec::values`].
    pub(crate) values: Vec<Arc<dyn PhysicalExpr>>,
}

impl FactExpressions {
    /// The expressions of a specification over facts with these columns.
    pub(super) fn plan(spec: &impl OperatorSpec, session: &dyn Session, facts: &DFSchema) -> DfResult<Self> {
        let context = SimplifyContext::builder()
            .with_config_options(session.config().options().clone())
            .with_query_execution_start_time(session.execution_props().query_execution_start_time);
        let context = context.with_schema(Arc::new(facts.clone())).build();
        let simplifier = ExprSimplifier::new(context.clone());
        let condition = |condition: &Expr| {
            let simple = simplifier.simplify(simplifier.coerce(condition.clone(), facts)?)?;
            session.create_physical_expr(simple, facts)
        };
        let value = |(value, data_type): (&Expr, &DataType)| {
            let implemented = implemented(simplifier.coerce(value.clone(), facts)?, &context)?;
            checked_value(session.create_physical_expr(implemented, facts)?, data_type, facts.as_arrow())
        };
        Ok(Self {
            conditions: spec.conditions().into_iter().map(condition).collect::<DfResult<_>>()?,
            values: spec.values().into_iter().map(value).collect::<DfResult<_>>()?,
        })
    }
}

/// How often an expression is rewritten at most. The engine's own simplifier stops after three times.
const REWRITES: usize = 4;

/// The expression with functions that have an implementation: `coalesce` becomes a case, `arrow_cast` a cast. The simplifier
/// does this too, but it also computes constants: there integers wrap around, and a cast may fail that no fact would need.
fn implemented(mut expression: Expr, context: &SimplifyContext) -> DfResult<Expr> {
    // `nvl` becomes `coalesce`, which becomes a case. Some functions, such as `concat_ws`, are rewritten again and again.
    for _ in 0..REWRITES {
        let rewritten = expression.transform_up(|e| match e {
            Expr::ScalarFunction(ScalarFunction { func, args }) => Ok(match func.simplify(args, context)? {
                ExprSimplifyResult::Simplified(e) => Transformed::yes(e),
                ExprSimplifyResult::Original(args) => Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args })),
            }),
            other => Ok(Transformed::no(other)),
        })?;
        expression = rewritten.data;
        if !rewritten.transformed {
            break;
        }
    }
    Ok(expression)
}

/// The value in its declared type. Integers that exceed their type are an error; the engine would let them wrap around.
fn checked_value(value: Arc<dyn PhysicalExpr>, data_type: &DataType, facts: &Schema) -> DfResult<Arc<dyn PhysicalExpr>> {
    let checked = value.transform_up(|e| {
        if let Some(binary) = e.downcast_ref::<BinaryExpr>() {
            return Ok(Transformed::yes(Arc::new(binary.clone().with_fail_on_overflow(true)) as _));
        }
        match e.downcast_ref::<NegativeExpr>().map(|negative| (negative.arg(), negative.arg().data_type(facts))) {
            Some((arg, Ok(integer))) if integer.is_integer() => {
                let zero = lit(ScalarValue::new_zero(&integer)?);
                Ok(Transformed::yes(
                    Arc::new(BinaryExpr::new(zero, Operator::Minus, Arc::clone(arg)).with_fail_on_overflow(true)) as _,
                ))
            }
            _ => Ok(Transformed::no(e)),
        }
    })?;
    cast(checked.data, facts, data_type.clone())
}
