//! Smallest and largest floats of groups, whatever the order of rows. DataFusion compares a group's floats so that NaN gives way to
//! whatever follows it, and of -0.0 and 0.0 the first one stays: `min` of `[1, NaN, 5]` is 5, and of the same rows in another order 1.
//! Without groups it compares them in their total order, in which NaN is the largest. The rule here makes groups do the same.

use datafusion::{
    arrow::datatypes::DataType,
    common::{Result, tree_node::Transformed},
    functions_aggregate::{
        first_last::first_value_udaf,
        min_max::{max_udaf, min_udaf},
    },
    logical_expr::{
        Aggregate, Expr, ExprSchemable, LogicalPlan,
        expr::{AggregateFunction, AggregateFunctionParams},
        expr_rewriter::NamePreserver,
    },
    optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule},
};

/// Replaces `min` and `max` of a group's floats by the first of them in their total order.
#[derive(Debug)]
pub(super) struct FloatExtremes;

impl OptimizerRule for FloatExtremes {
    fn name(&self) -> &str {
        "float_extremes"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let aggregate = match plan {
            LogicalPlan::Aggregate(aggregate) if !aggregate.group_expr.is_empty() => aggregate,
            other => return Ok(Transformed::no(other)),
        };
        let mut is_changed = false;
        let names = NamePreserver::new_for_projection();
        let rewritten = |expr: &Expr| -> Result<Expr> {
            let name = names.save(expr);
            let Some(first) = first_in_order(expr, &aggregate)? else { return Ok(expr.clone()) };
            is_changed = true;
            Ok(name.restore(first))
        };
        let exprs = aggregate.aggr_expr.iter().map(rewritten).collect::<Result<Vec<_>>>()?;
        if !is_changed {
            return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
        }
        let Aggregate { input, group_expr, schema, .. } = aggregate;
        Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new_with_schema(input, group_expr, exprs, schema)?)))
    }
}

/// The expression for `min` or `max` of floats; `None` for others.
fn first_in_order(expr: &Expr, aggregate: &Aggregate) -> Result<Option<Expr>> {
    let Expr::AggregateFunction(AggregateFunction { func, params }) = expr.clone().unalias() else { return Ok(None) };
    let (is_min, is_max) = (func == min_udaf(), func == max_udaf());
    let [value] = params.args.as_slice() else { return Ok(None) };
    let is_float = matches!(value.get_type(aggregate.input.schema())?, DataType::Float16 | DataType::Float32 | DataType::Float64);
    if !is_float || !is_min && !is_max {
        return Ok(None);
    }
    let order_by = vec![value.clone().sort(is_min, false)];
    let params = AggregateFunctionParams { distinct: false, order_by, ..params };
    Ok(Some(Expr::AggregateFunction(AggregateFunction { func: first_value_udaf(), params })))
}
