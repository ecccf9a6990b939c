//! Refuses expressions and plans whose result depends on the clock or on random numbers.
//! A function that is stable within one query, such as `now()`, still differs from one query to the next.

use datafusion::{
    common::{
        Result as DfResult,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    logical_expr::{Expr, LogicalPlan, Volatility},
};

use crate::error::{Error, Result};

/// Refuses a plan with such an expression, also in its subqueries; `subject` names it in the error.
///
/// # Errors
/// [`Error::Volatile`] names the first function.
pub(crate) fn refuse_volatile_plan(subject: &str, plan: &LogicalPlan) -> Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            found = found.take().or(volatile_call(expression)?);
            Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    refuse(subject, found)
}

/// As [`refuse_volatile_plan`], for one expression.
///
/// # Errors
/// [`Error::Volatile`] names the first function.
pub(crate) fn refuse_volatile_expression(subject: &str, expression: &Expr) -> Result<()> {
    refuse(subject, volatile_call(expression)?)
}

fn refuse(subject: &str, volatile: Option<String>) -> Result<()> {
    volatile.map_or(Ok(()), |function| Err(Error::Volatile { subject: subject.into(), function }))
}

/// The first function in an expression that is not immutable.
fn volatile_call(expression: &Expr) -> DfResult<Option<String>> {
    let mut found = None;
    expression.apply(|e| {
        if let Expr::ScalarFunction(call) = e {
            let name = call.func.name();
            if call.func.signature().volatility != Volatility::Immutable {
                found = Some(name.to_owned());
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}
