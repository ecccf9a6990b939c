//! The values of a query's `$name` placeholders, which are put into the plan as typed values.
//! No value becomes part of the SQL text, so none can be parsed as SQL.

use std::{collections::BTreeSet, ops::ControlFlow};

use datafusion::{
    common::{ParamValues, ScalarValue},
    logical_expr::LogicalPlan,
    sql::{
        parser::Statement,
        sqlparser::{
            ast::{Expr, Value, ValueWithSpan, VisitorMut},
            dialect::GenericDialect,
            parser::Parser,
        },
    },
};

use super::statement::visit;
use crate::error::{Error, Result};

/// Values by the names of their placeholders.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters(Vec<(String, ScalarValue)>);

impl From<Vec<(String, ScalarValue)>> for Parameters {
    fn from(values: Vec<(String, ScalarValue)>) -> Self {
        Self(values)
    }
}

impl Parameters {
    /// Casts each placeholder in the statement to the type of its value: planning resolves functions by types, before the values
    /// are put in.
    ///
    /// # Errors
    /// [`Error::Definition`] for a placeholder without a value and for a value without a placeholder.
    pub(crate) fn declare(&self, subject: &str, statement: &mut Statement) -> Result<()> {
        let mut declaring = Declaring { subject, parameters: self, used: BTreeSet::new() };
        visit(statement, &mut declaring)?;
        match self.0.iter().find(|(name, _)| !declaring.used.contains(name)) {
            None => Ok(()),
            Some((name, _)) => Err(refused(subject, format!("a value is given for `${name}`, but it has no such placeholder"))),
        }
    }

    /// Puts the values into a plan.
    pub(crate) fn fill(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        if self.0.is_empty() {
            return Ok(plan);
        }
        Ok(plan.with_param_values(ParamValues::from(self.0.clone()))?)
    }
}

fn refused(subject: &str, reason: String) -> Error {
    Error::Definition { subject: subject.into(), reason }
}

struct Declaring<'a> {
    subject: &'a str,
    parameters: &'a Parameters,
    used: BTreeSet<String>,
}

impl Declaring<'_> {
    fn declared(&mut self, placeholder: &str) -> Result<Expr> {
        let name = placeholder.strip_prefix('$').unwrap_or(placeholder);
        let Some((name, value)) = self.parameters.0.iter().find(|(known, _)| known == name) else {
            let reason = format!("its placeholder `{placeholder}` has no value; give one under the name without `$`");
            return Err(refused(self.subject, reason));
        };
        self.used.insert(name.clone());
        // This text holds an identifier and the name of a type, and nothing of the value.
        let text = format!("arrow_cast(${name}, '{}')", value.data_type());
        let parser = Parser::new(&GenericDialect {}).try_with_sql(&text);
        parser.and_then(|mut parser| parser.parse_expr()).map_err(|e| Error::Internal {
            subject: format!("declaring `{placeholder}` of {}", self.subject),
            reason: e.to_string(),
        })
    }
}

impl VisitorMut for Declaring<'_> {
    type Break = Error;

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Error> {
        if let Expr::Value(ValueWithSpan { value: Value::Placeholder(placeholder), .. }) = expression {
            match self.declared(&placeholder.clone()) {
                Ok(declared) => *expression = declared,
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }
}
