//! `trailing`: windows over a table of facts at each row of another table, as a table function.
//! It refuses arguments that are no plain texts, and aggregates that `Aggregate` does not know.

use std::{mem, ops::ControlFlow, sync::Arc};

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use chrono::TimeDelta;
use datafusion::{
    catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider, view::ViewTable},
    common::{Result as DfResult, TableReference},
    dataframe::DataFrame,
    datasource::provider_as_source,
    execution::SessionState,
    logical_expr::{LogicalPlan, LogicalPlanBuilder},
    prelude::Expr,
    sql::sqlparser::{
        ast::{self, FunctionArg, FunctionArgExpr, SelectItem, TableFactor, VisitorMut},
        dialect::GenericDialect,
        parser::{Parser, ParserError},
        tokenizer::Token,
    },
};

use super::super::{Aggregate, Facts, Spine, Window};
use crate::{
    catalog::{FactTable, TimeColumn},
    error::{Error, Result},
    name::TableName,
    scan::Sources,
};

pub(super) const NAME: &str = "trailing";
const USAGE: &str = "write trailing('spine', 'instant', 'facts', 'keys', 'length', 'aggregates' [, 'length', 'aggregates' ...])";
const DAY_US: i64 = 86_400_000_000;

fn refused(reason: impl Into<String>) -> Error {
    Error::Definition { subject: format!("`{NAME}`"), reason: reason.into() }
}

/// A table function's name and arguments.
fn call_in(factor: &mut TableFactor) -> Option<(&mut ast::ObjectName, Vec<FunctionArg>)> {
    match factor {
        TableFactor::Table { name, args: Some(args), .. } => Some((name, args.args.clone())),
        TableFactor::Function { name, args, .. } => Some((name, args.clone())),
        _ => None,
    }
}

fn is_named(name: &ast::ObjectName) -> bool {
    matches!(name.0.as_slice(), [ast::ObjectNamePart::Identifier(ident)] if super::name(ident) == NAME)
}

/// DataFusion knows table functions by their name as it is written.
pub(super) struct LowerCase;

impl VisitorMut for LowerCase {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        if let Some((name, _)) = call_in(factor)
            && is_named(name)
        {
            *name = ast::ObjectName::from(vec![ast::Ident::new(NAME)]);
        }
        ControlFlow::Continue(())
    }
}

/// Collects the tables that calls name in their arguments, and puts a table in the place of each call.
#[derive(Default)]
pub(super) struct TableNames {
    found: Vec<TableName>,
}

impl TableNames {
    pub(super) fn into_names(self) -> Vec<TableName> {
        self.found
    }

    fn take(&mut self, factor: &mut TableFactor) -> Result<()> {
        let Some((name, arguments)) = call_in(factor) else { return Ok(()) };
        if !is_named(name) {
            return Err(Error::Definition {
                subject: "the query".into(),
                reason: format!("there is no table function `{name}`; there is `{NAME}`"),
            });
        }
        let table = |position: usize| match arguments.get(position) {
            Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Value(value)))) => match &value.value {
                ast::Value::SingleQuotedString(text) => text.parse::<TableName>(),
                other => Err(refused(format!("{other} is no name of a table; {USAGE}"))),
            },
            Some(other) => Err(refused(format!("{other} is no name of a table; {USAGE}"))),
            None => Err(refused(USAGE)),
        };
        let (spine, facts) = (table(0)?, table(2)?);
        let parts = [spine.database(), spine.table()].map(|part| ast::Ident::with_quote('"', part));
        *name = ast::ObjectName::from(parts.to_vec());
        for name in [spine, facts] {
            if !self.found.contains(&name) {
                self.found.push(name);
            }
        }
        if let TableFactor::Table { args, .. } = factor {
            *args = None;
        }
        Ok(())
    }
}

impl VisitorMut for TableNames {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        match self.take(factor) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// The function, over the tables that a query may name.
#[derive(Debug)]
pub(super) struct Trailing {
    sources: Sources,
}

impl TableFunctionImpl for Trailing {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> DfResult<Arc<dyn TableProvider>> {
        let Some(state) = args.session().as_any().downcast_ref::<SessionState>() else {
            return Err(refused("it was called outside of a store's session").into());
        };
        Ok(Arc::new(ViewTable::new(self.plan(state, args.exprs())?, None)))
    }
}

impl Trailing {
    pub(super) fn over(sources: Sources) -> Self {
        Self { sources }
    }

    fn plan(&self, state: &SessionState, arguments: &[Expr]) -> Result<LogicalPlan> {
        let text = |argument: &Expr| match argument {
            Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
            _ => None,
        };
        let texts: Option<Vec<String>> = arguments.iter().map(text).collect();
        let texts = texts.ok_or_else(|| refused(format!("its arguments are texts; {USAGE}")))?;
        let [spine, at, facts, keys, windows @ ..] = texts.as_slice() else { return Err(refused(USAGE)) };
        if windows.is_empty() || windows.len() % 2 != 0 {
            return Err(refused(format!("each length needs its aggregates; {USAGE}")));
        }
        let at = parsed(at, "the instant", |parser| parser.parse_identifier()).map(|ident| super::name(&ident))?;

        let (rows, declared) = self.table(state, spine)?;
        // The spine's table may have declared how these instants are read.
        let known = declared.time_columns().find(|column| column.name() == at).cloned();
        let mut spine = Spine::new(rows, known.unwrap_or_else(|| TimeColumn::from(at.as_str())));
        if let Some(zone) = declared.zone {
            spine = spine.zone(zone);
        }

        let (rows, declared) = self.table(state, facts)?;
        let mut window = Window::of(Facts::new(facts, rows, declared));
        for (of_spine, of_facts) in key_pairs(keys)? {
            window = window.on_columns(of_spine, of_facts);
        }
        for pair in windows.chunks_exact(2) {
            let aggregates = aggregates(&pair[1])?;
            window = match pair[0].trim().eq_ignore_ascii_case("all") {
                true => window.all_before(aggregates),
                false => window.trailing(length(&pair[0])?, aggregates),
            };
        }
        Ok(spine.window([window])?.into_rows().into_unoptimized_plan())
    }

    fn table(&self, state: &SessionState, name: &str) -> Result<(DataFrame, FactTable)> {
        let wanted: TableName = name.parse()?;
        let Some((_, table)) = self.sources.iter().find(|(known, _)| *known == wanted) else {
            let known = self.sources.iter().map(|(known, _)| known.to_string()).collect();
            return Err(Error::UnknownTable { table: name.into(), known });
        };
        let declared = table.declared().clone();
        let source = provider_as_source(Arc::new(table.clone()));
        let plan = LogicalPlanBuilder::scan(TableReference::bare(wanted.table()), source, None)?.build()?;
        Ok((DataFrame::new(state.clone(), plan), declared))
    }
}

/// The whole text as one piece of SQL.
fn parsed<T>(text: &str, what: &str, parse: impl FnOnce(&mut Parser<'_>) -> std::result::Result<T, ParserError>) -> Result<T> {
    let read = || {
        let mut parser = Parser::new(&GenericDialect {}).try_with_sql(text)?;
        let found = parse(&mut parser)?;
        parser.expect_token(&Token::EOF)?;
        Ok(found)
    };
    read().map_err(|e: ParserError| refused(format!("{what} `{text}` cannot be read: {e}")))
}

/// Key columns of the spine and of the facts.
fn key_pairs(text: &str) -> Result<Vec<(String, String)>> {
    use ast::{BinaryOperator::Eq, Expr::BinaryOp, Expr::Identifier};
    let keys = parsed(text, "the list of keys", |parser| parser.parse_comma_separated(Parser::parse_expr))?;
    let pair = |key: ast::Expr| match &key {
        Identifier(both) => Ok((super::name(both), super::name(both))),
        BinaryOp { left, op: Eq, right } => match (left.as_ref(), right.as_ref()) {
            (Identifier(spine), Identifier(facts)) => Ok((super::name(spine), super::name(facts))),
            _ => Err(refused(format!("the key `{key}` must be a column, or `column of the spine = column of the facts`"))),
        },
        _ => Err(refused(format!("the key `{key}` must be a column, or `column of the spine = column of the facts`"))),
    };
    keys.into_iter().map(pair).collect()
}

/// The length of a window: an interval that is the same on every day of the calendar.
fn length(text: &str) -> Result<TimeDelta> {
    let unfit = |reason: String| refused(format!("the length `{text}` {reason}; write it as `7 days` or `90 minutes`, or `all`"));
    let interval = parse_interval_month_day_nano(text).map_err(|e| unfit(format!("cannot be read: {e}")))?;
    if interval.months != 0 {
        return Err(unfit("counts months, which are of different lengths".into()));
    }
    if interval.nanoseconds % 1_000 != 0 {
        return Err(unfit("is finer than a microsecond".into()));
    }
    let days_us = i64::from(interval.days).checked_mul(DAY_US);
    let whole_us = days_us.and_then(|us| us.checked_add(interval.nanoseconds / 1_000));
    whole_us.map(TimeDelta::microseconds).ok_or_else(|| unfit("is too long".into()))
}

fn aggregates(text: &str) -> Result<Vec<Aggregate>> {
    let items = parsed(text, "the list of aggregates", |parser| parser.parse_comma_separated(Parser::parse_select_item))?;
    items.into_iter().map(aggregate).collect()
}

/// One aggregate with its filter and name.
fn aggregate(item: SelectItem) -> Result<Aggregate> {
    let shown = item.to_string();
    let (expression, alias) = match item {
        SelectItem::UnnamedExpr(expression) => (expression, None),
        SelectItem::ExprWithAlias { expr, alias } => (expr, Some(super::name(&alias))),
        _ => return Err(refused(format!("`{shown}` is no aggregate; write one as `count(*) AS n`"))),
    };
    let ast::Expr::Function(mut call) = expression else {
        return Err(refused(format!("`{shown}` is no aggregate; write one as `avg(fare) AS mean_fare`, and compute outside")));
    };
    let filter = call.filter.take();
    let arguments = mem::replace(&mut call.args, ast::FunctionArguments::None);
    let ast::FunctionArguments::List(list) = arguments else {
        return Err(refused(format!("`{shown}` has no list of arguments; write an aggregate as `count(*)`")));
    };
    let is_plain = call.parameters == ast::FunctionArguments::None
        && call.null_treatment.is_none()
        && call.over.is_none()
        && call.within_group.is_empty()
        && list.clauses.is_empty();
    if !is_plain {
        return Err(refused(format!("`{shown}` holds more than an aggregate's arguments, FILTER and AS; leave the rest out")));
    }
    let mut found = known(&call.name, &list, &shown)?;
    if let Some(condition) = filter {
        found = found.filter(condition.to_string());
    }
    Ok(match alias {
        Some(alias) => found.named(alias),
        None => found,
    })
}

fn known(name: &ast::ObjectName, list: &ast::FunctionArgumentList, shown: &str) -> Result<Aggregate> {
    let is_distinct = list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct);
    let function = name.to_string().to_ascii_lowercase();
    let column = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Identifier(column))) => Ok(super::name(column)),
        other => Err(refused(format!("`{shown}` is over `{other}`; an aggregate is over a column of the facts"))),
    };
    let number = |argument: &FunctionArg| argument.to_string();
    let unfit = |what: &str, text: String| refused(format!("`{shown}` says {text}, and needs {what}"));
    if is_distinct {
        return match (function.as_str(), list.args.as_slice()) {
            ("count", [x]) => Ok(Aggregate::count_distinct(column(x)?)),
            _ => Err(refused(format!("`{shown}` is DISTINCT, which only `count` can be"))),
        };
    }
    match (function.as_str(), list.args.as_slice()) {
        ("count", [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]) => Ok(Aggregate::count()),
        ("count", [x]) => Ok(Aggregate::count_of(column(x)?)),
        ("sum", [x]) => Ok(Aggregate::sum(column(x)?)),
        ("avg" | "mean", [x]) => Ok(Aggregate::mean(column(x)?)),
        ("variance" | "var_samp", [x]) => Ok(Aggregate::variance(column(x)?)),
        ("stddev" | "stddev_samp", [x]) => Ok(Aggregate::stddev(column(x)?)),
        ("min", [x]) => Ok(Aggregate::min(column(x)?)),
        ("max", [x]) => Ok(Aggregate::max(column(x)?)),
        ("first" | "first_value", [x]) => Ok(Aggregate::first(column(x)?)),
        ("last" | "last_value", [x]) => Ok(Aggregate::last(column(x)?)),
        ("median", [x]) => Ok(Aggregate::median(column(x)?)),
        ("last_k", [x, k]) => {
            let count = number(k).parse().map_err(|_| unfit("how many, as in `last_k(x, 3)`", number(k)))?;
            Ok(Aggregate::last_k(column(x)?, count))
        }
        ("quantile", [x, q]) => {
            let fraction = number(q).parse().map_err(|_| unfit("a number, as in `quantile(x, 0.9)`", number(q)))?;
            Ok(Aggregate::quantile(column(x)?, fraction))
        }
        _ => Err(refused(format!(
            "`{shown}` is none of count(*), count(x), count(DISTINCT x), sum(x), avg(x), variance(x), stddev(x), min(x), max(x), \
             first(x), last(x), last_k(x, k), median(x), quantile(x, q)"
        ))),
    }
}
