//! Aggregates that are rewritten to aggregates of DataFusion before they run.
//! None has an accumulator of its own, so none can be used with `OVER`.

use std::hash::{Hash, Hasher};

use arrow::datatypes::DataType;
use datafusion::{
    common::{Result, not_impl_err, plan_err},
    functions_aggregate::{
        count::count_udaf,
        expr_fn::{approx_percentile_cont, approx_percentile_cont_with_weight},
        first_last::{first_value_udaf, last_value_udaf},
    },
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Case, Expr, Signature, Volatility,
        expr::{AggregateFunction, AggregateFunctionParams},
        function::{AccumulatorArgs, AggregateFunctionSimplification},
    },
    prelude::lit,
    scalar::ScalarValue,
};

pub(super) fn functions() -> Vec<AggregateUDF> {
    let all = [
        RewrittenAggregate::new("count_if", |types| (types.len() == 1).then(|| vec![DataType::Boolean]), count_if),
        RewrittenAggregate::new("approx_percentile", percentile_types, approx_percentile),
        RewrittenAggregate::new("max_by", |types| (types.len() == 2).then(|| types.to_vec()), max_by),
        RewrittenAggregate::new("min_by", |types| (types.len() == 2).then(|| types.to_vec()), min_by),
    ];
    all.into_iter().map(AggregateUDF::from).collect()
}

/// An aggregate that is rewritten to another one.
#[derive(Debug)]
struct RewrittenAggregate {
    name: &'static str,
    signature: Signature,
    arguments: fn(&[DataType]) -> Option<Vec<DataType>>,
    rewrite: fn(AggregateFunctionParams) -> Result<Expr>,
}

impl RewrittenAggregate {
    fn new(
        name: &'static str,
        arguments: fn(&[DataType]) -> Option<Vec<DataType>>,
        rewrite: fn(AggregateFunctionParams) -> Result<Expr>,
    ) -> Self {
        Self { name, signature: Signature::user_defined(Volatility::Immutable), arguments, rewrite }
    }
}

impl PartialEq for RewrittenAggregate {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for RewrittenAggregate {}

impl Hash for RewrittenAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl AggregateUDFImpl for RewrittenAggregate {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match (self.arguments)(types) {
            Some(types) => Ok(types),
            None => plan_err!("{}: cannot be called with the types {types:?}", self.name),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(if self.name == "count_if" { DataType::Int64 } else { types.first().cloned().unwrap_or(DataType::Null) })
    }

    fn is_nullable(&self) -> bool {
        self.name != "count_if"
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        if self.name == "count_if" { Ok(ScalarValue::Int64(Some(0))) } else { ScalarValue::try_from(data_type) }
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        let rewrite = self.rewrite;
        Some(Box::new(move |function, _| rewrite(function.params)))
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("{} cannot be used with OVER", self.name)
    }
}

fn percentile_types(types: &[DataType]) -> Option<Vec<DataType>> {
    match types {
        [value, at] if value.is_numeric() && at.is_numeric() => Some(vec![DataType::Float64, DataType::Float64]),
        [value, weight, at] if value.is_numeric() && weight.is_numeric() && at.is_numeric() => {
            Some(vec![DataType::Float64, DataType::Float64, DataType::Float64])
        }
        _ => None,
    }
}

fn count_if(mut params: AggregateFunctionParams) -> Result<Expr> {
    let counted = params
        .args
        .drain(..)
        .map(|condition| Expr::Case(Case::new(None, vec![(Box::new(condition), Box::new(lit(1_i64)))], None)));
    params.args = counted.collect();
    Ok(Expr::AggregateFunction(AggregateFunction { func: count_udaf(), params }))
}

fn approx_percentile(params: AggregateFunctionParams) -> Result<Expr> {
    let function = match params.args.as_slice() {
        [value, at] => approx_percentile_cont(value.clone().sort(true, false), at.clone(), None),
        [value, weight, at] => {
            approx_percentile_cont_with_weight(value.clone().sort(true, false), weight.clone(), at.clone(), None)
        }
        _ => return plan_err!("approx_percentile: needs a value, perhaps a weight, and a fraction"),
    };
    match function {
        Expr::AggregateFunction(mut function) => {
            (function.params.filter, function.params.distinct) = (params.filter, params.distinct);
            Ok(Expr::AggregateFunction(function))
        }
        other => Ok(other),
    }
}

/// Of several rows with the largest rank, the one with the largest value, whichever was read last.
fn max_by(params: AggregateFunctionParams) -> Result<Expr> {
    by(params, last_value_udaf)
}

fn min_by(params: AggregateFunctionParams) -> Result<Expr> {
    by(params, first_value_udaf)
}

fn by(mut params: AggregateFunctionParams, pick: fn() -> std::sync::Arc<AggregateUDF>) -> Result<Expr> {
    let (Some(rank), Some(value)) = (params.args.pop(), params.args.pop()) else {
        return plan_err!("max_by and min_by need a value and a column to rank it by");
    };
    let is_ranked = rank.clone().is_not_null();
    params.filter = Some(Box::new(match params.filter {
        Some(filter) => filter.and(is_ranked),
        None => is_ranked,
    }));
    params.order_by = vec![rank.sort(true, true), value.clone().sort(true, true)];
    params.args = vec![value];
    Ok(Expr::AggregateFunction(AggregateFunction { func: pick(), params }))
}
