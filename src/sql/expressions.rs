//! Checks of SQL expressions that need no table: their syntax, and which functions they call.
//! Columns and types are checked by `temporal`, when the table is known.

use std::ops::ControlFlow;

use datafusion::{
    execution::SessionState,
    prelude::SessionContext,
    sql::{
        parser::DFParserBuilder,
        sqlparser::ast::{Expr, Query, Visit, Visitor},
    },
};

use super::{
    calls::{Calls, function_name},
    functions,
    ignored_clauses::IgnoredClauses,
};
use crate::{
    engine::{DEEPEST_NESTING, too_deep},
    error::{Error, Result, in_one_line},
};

/// Checks expressions over the columns of a single fact, with the functions that queries have.
pub(crate) struct ExpressionCheck {
    state: SessionState,
}

impl ExpressionCheck {
    /// # Errors
    /// [`Error::Query`] when the functions cannot be registered.
    pub(crate) fn new() -> Result<Self> {
        let session = SessionContext::new();
        functions::register(&session)?;
        Ok(Self { state: session.state() })
    }

    /// What is wrong with an expression, as the rest of a sentence that begins with it.
    pub(crate) fn mistake(&self, text: &str) -> Option<String> {
        if let Some(reason) = too_deep(text) {
            return Some(reason);
        }
        let parser = DFParserBuilder::new(text).with_recursion_limit(2 * DEEPEST_NESTING).build();
        let parsed = match parser.and_then(|mut parser| parser.parse_into_expr()) {
            Ok(parsed) => parsed,
            Err(cause) => return Some(format!("is no SQL expression: {}", in_one_line(&cause))),
        };
        if parsed.alias.is_some() {
            return Some("names its value; leave the name out, and name the feature with `named`".into());
        }
        if let ControlFlow::Break(mistake) = parsed.expr.visit(&mut OneFact { state: &self.state }) {
            return Some(mistake);
        }
        if let ControlFlow::Break(clause) = parsed.expr.visit(&mut IgnoredClauses) {
            return Some(format!("holds {clause}"));
        }
        match parsed.expr.visit(&mut Calls { subject: "", state: &self.state }) {
            ControlFlow::Continue(()) => None,
            ControlFlow::Break(error) => Some(match *error {
                Error::Volatile { function, .. } => format!("calls `{function}`, whose result changes from run to run"),
                Error::Definition { reason, .. } => format!("cannot be used: {reason}"),
                other => format!("cannot be used: {other}"),
            }),
        }
    }
}

/// Finds what reads more than the columns of one fact.
struct OneFact<'a> {
    state: &'a SessionState,
}

impl Visitor for OneFact<'_> {
    type Break = String;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<String> {
        ControlFlow::Break("holds a subquery, and is over the columns of a single fact".into())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<String> {
        let Expr::Function(call) = expression else { return ControlFlow::Continue(()) };
        let name = function_name(call);
        let is_scalar = self.state.scalar_functions().contains_key(&name);
        let is_known = |is_there: bool, what: &str| match is_there && !is_scalar {
            true => ControlFlow::Break(format!("calls the {what} `{name}`, and is over the columns of a single fact")),
            false => ControlFlow::Continue(()),
        };
        is_known(call.over.is_some() || self.state.window_functions().contains_key(&name), "window function")?;
        is_known(self.state.aggregate_functions().contains_key(&name), "aggregate")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_told_without_a_table_is_told() {
        let check = ExpressionCheck::new().unwrap();
        for good in [
            "price * quantity",
            "\"Fare (USD)\" * 1.1",
            "CASE WHEN a > 1 THEN b ELSE 0 END",
            "date_diff('minute', pickup_at, dropoff_at)",
            "coalesce(a, 0)",
            "1",
            "rides.fare",
            "nosuch(fare)",
            "if(a > 0, b / a, 0)",
        ] {
            assert_eq!(check.mistake(good), None, "{good}");
        }
        let (deep, long) = (format!("{}a{}", "(".repeat(60), ")".repeat(60)), vec!["a"; 200].join(" + "));
        for (bad, told) in [
            ("", "is no SQL expression"),
            ("price *", "is no SQL expression"),
            ("price quantity again", "is no SQL expression"),
            ("price; DROP TABLE rides", "is no SQL expression"),
            ("price * quantity AS revenue", "`named`"),
            ("(SELECT 1)", "a subquery"),
            ("a IN (SELECT b FROM t)", "a subquery"),
            ("EXISTS (SELECT 1)", "a subquery"),
            ("sum(fare)", "the aggregate `sum`"),
            ("1 + max_by(a, b)", "the aggregate `max_by`"),
            ("row_number() OVER ()", "the window function `row_number`"),
            ("sum(fare) OVER (ORDER BY at)", "the window function `sum`"),
            ("random()", "calls `random`"),
            ("a + NOW()", "calls `now`"),
            ("current_timestamp", "calls `now`"),
            ("abs(DISTINCT a)", "DISTINCT"),
            (&deep, "nested too deeply"),
            (&long, "nested too deeply"),
        ] {
            let found = check.mistake(bad).unwrap_or_else(|| panic!("`{bad}` has no mistake"));
            assert!(found.contains(told), "{bad}: {found}");
        }
    }
}
