//! Function calls that are refused before planning: those whose result depends on more than their arguments, and calls of
//! scalar functions with clauses of aggregates.

use std::ops::ControlFlow;

use datafusion::{
    execution::SessionState,
    logical_expr::Volatility,
    sql::{
        parser::Statement,
        sqlparser::ast::{self, Expr, FunctionArguments, Visit, Visitor},
    },
};

use super::statement::name_of;
use crate::error::{Error, Result};

/// Refuses volatile and stable calls, which planning would replace by today's result, and clauses of aggregates after scalar
/// functions, which planning would ignore.
///
/// # Errors
/// [`Error::Volatile`] and [`Error::Definition`].
pub(super) fn check_calls(subject: &str, statement: &Statement, state: &SessionState) -> Result<()> {
    match statement {
        Statement::Explain(explain) => check_calls(subject, &explain.statement, state),
        Statement::Statement(inner) => match inner.visit(&mut Calls { subject, state }) {
            ControlFlow::Break(error) => Err(*error),
            ControlFlow::Continue(()) => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Finds such calls.
pub(super) struct Calls<'a> {
    pub(super) subject: &'a str,
    pub(super) state: &'a SessionState,
}

impl Visitor for Calls<'_> {
    type Break = Box<Error>;

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<Box<Error>> {
        let Expr::Function(call) = expression else { return ControlFlow::Continue(()) };
        let name = function_name(call);
        let (state, subject) = (self.state, self.subject);
        let scalar = state.scalar_functions().get(&name);
        let volatilities = [
            scalar.map(|function| function.signature().volatility),
            state.aggregate_functions().get(&name).map(|function| function.signature().volatility),
            state.window_functions().get(&name).map(|function| function.signature().volatility),
        ];
        if volatilities.into_iter().flatten().any(|volatility| volatility != Volatility::Immutable) {
            let function = scalar.map_or(name, |function| function.name().to_owned());
            return ControlFlow::Break(Box::new(Error::Volatile { subject: subject.into(), function }));
        }
        if scalar.is_some() && has_clauses(call) {
            return ControlFlow::Break(Box::new(Error::Definition {
                subject: subject.into(),
                reason: format!(
                    "`{name}` works on one row, so DISTINCT, ORDER BY, FILTER, OVER, WITHIN GROUP or the NULL treatment in `{call}` would \
                     be ignored; leave it out"
                ),
            }));
        }
        ControlFlow::Continue(())
    }
}

/// The name by which a session knows the function of a call.
pub(super) fn function_name(call: &ast::Function) -> String {
    match call.name.0.as_slice() {
        [ast::ObjectNamePart::Identifier(ident)] => name_of(ident),
        _ => call.name.to_string(),
    }
}

fn has_clauses(call: &ast::Function) -> bool {
    let in_list = match &call.args {
        FunctionArguments::List(list) => list.duplicate_treatment.is_some() || !list.clauses.is_empty(),
        _ => false,
    };
    in_list || call.filter.is_some() || call.over.is_some() || call.null_treatment.is_some() || !call.within_group.is_empty()
}
