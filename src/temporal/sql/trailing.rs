//! `trailing`: a table function that computes windows over a table of facts, at each row of another table or query.
//! Lengths and aggregates must be literal texts.

use std::{mem, ops::ControlFlow};

use chrono::TimeDelta;
use datafusion::{
    common::{Result as DfResult, TableReference},
    dataframe::DataFrame,
    datasource::provider_as_source,
    execution::SessionState,
    logical_expr::{
        LogicalPlan, LogicalPlanBuilder,
        planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning},
    },
    sql::sqlparser::{
        ast::{self, FunctionArg, FunctionArgExpr, Ident, SelectItem, TableFactor, VisitorMut},
        dialect::GenericDialect,
        parser::{Parser, ParserError},
        tokenizer::Token,
    },
};

use super::{
    super::{Aggregate, Facts, Spine, Window, aggregate::SqlForm},
    join_times::is_local,
    length::length_us,
    origin::reading,
};
use crate::{
    catalog::{FactTable, TimeColumn},
    error::{Error, Result},
    name::TableName,
    scan::Sources,
    time::Cutoff,
};

pub(super) const NAME: &str = "trailing";
/// DataFusion's own table functions. They read no tables.
const BUILT_IN: [&str; 2] = ["generate_series", "range"];
const USAGE: &str = "write trailing(spine, instant, facts, 'keys', 'length', 'aggregates' [, 'length', 'aggregates' ...] \
                     [, cutoff => 'inclusive'])";

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

fn is_named(name: &ast::ObjectName, wanted: &str) -> bool {
    matches!(name.0.as_slice(), [ast::ObjectNamePart::Identifier(ident)] if super::name(ident) == wanted)
}

/// Rewrites calls for the planner. DataFusion finds its own functions by their exact names, so these are written in lower case.
/// It loads only tables in a FROM clause, so the name of a spine becomes a subquery.
pub(super) struct CallNormalizer;

impl VisitorMut for CallNormalizer {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let (name, arguments) = match factor {
            TableFactor::Table { name, args: Some(args), .. } => (name, &mut args.args),
            TableFactor::Function { name, args, .. } => (name, args),
            _ => return ControlFlow::Continue(()),
        };
        if let Some(plain) = BUILT_IN.into_iter().find(|plain| is_named(name, plain)) {
            *name = ast::ObjectName::from(vec![Ident::new(plain)]);
        }
        if is_named(name, NAME)
            && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(spine))) = arguments.first_mut()
        {
            let all_of = |name: ast::ObjectName| {
                let sql = format!("SELECT * FROM {name}");
                parsed(&sql, "the spine", |parser| parser.parse_query())
            };
            match table_of(spine).and_then(|parts| parts.map(|parts| all_of(ast::ObjectName::from(parts))).transpose()) {
                Ok(Some(query)) => *spine = ast::Expr::Subquery(query),
                Ok(None) => {}
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }
}

/// Collects the fact tables that calls name, and replaces each call by the other rows that it reads.
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
        if BUILT_IN.into_iter().any(|plain| is_named(name, plain)) {
            let expressions = arguments.into_iter().filter_map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression),
                _ => None,
            });
            *factor = TableFactor::UNNEST {
                alias: None,
                array_exprs: expressions.collect(),
                with_offset: false,
                with_offset_alias: None,
                with_ordinality: false,
            };
            return Ok(());
        }
        if !is_named(name, NAME) {
            return Err(Error::Definition {
                subject: "the query".into(),
                reason: format!("there is no table function `{name}`; there are `{NAME}`, `generate_series` and `range`"),
            });
        }
        let Call { spine, facts, .. } = Call::of(arguments)?;
        if !self.found.contains(&facts) {
            self.found.push(facts);
        }
        *factor = spine;
        Ok(())
    }
}

impl VisitorMut for TableNames {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        // The spine of a call may be a call itself.
        loop {
            let is_call = call_in(factor).is_some();
            match self.take(factor) {
                Ok(()) if is_call => {}
                Ok(()) => return ControlFlow::Continue(()),
                Err(error) => return ControlFlow::Break(error),
            }
        }
    }
}

/// The arguments of a call.
struct Call {
    spine: TableFactor,
    at: String,
    facts: TableName,
    keys: String,
    /// Lengths and aggregates.
    windows: Vec<(String, String)>,
    cutoff: Cutoff,
}

impl Call {
    fn of(arguments: Vec<FunctionArg>) -> Result<Self> {
        let (mut unnamed, mut cutoff) = (Vec::new(), Cutoff::Exclusive);
        for argument in arguments {
            match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => unnamed.push(expression),
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
                    cutoff = cutoff_of(&name.to_string(), &value)?
                }
                FunctionArg::ExprNamed { name, arg: FunctionArgExpr::Expr(value), .. } => {
                    cutoff = cutoff_of(&name.to_string(), &value)?;
                }
                other => return Err(refused(format!("it cannot take `{other}`; {USAGE}"))),
            }
        }
        let mut unnamed = unnamed.into_iter();
        let (Some(spine), Some(at), Some(facts), Some(keys)) = (unnamed.next(), unnamed.next(), unnamed.next(), unnamed.next())
        else {
            return Err(refused(USAGE));
        };
        let text = |expression: ast::Expr| match expression {
            ast::Expr::Value(value) => value.value.into_string(),
            _ => None,
        };
        let rest: Option<Vec<String>> = unnamed.map(text).collect();
        let (Some(rest), Some(keys)) = (rest, text(keys)) else {
            return Err(refused(format!("its keys, lengths and aggregates are texts; {USAGE}")));
        };
        if rest.is_empty() || rest.len() % 2 != 0 {
            return Err(refused(format!("each length needs its aggregates; {USAGE}")));
        }
        Ok(Self {
            spine: spine_of(spine)?,
            at: match at {
                ast::Expr::Identifier(ident) => super::name(&ident),
                other => {
                    let at = text(other).ok_or_else(|| refused(format!("its instant is not a column of the spine; {USAGE}")))?;
                    parsed(&at, "the instant", |parser| parser.parse_identifier()).map(|ident| super::name(&ident))?
                }
            },
            facts: match table_of(&facts)? {
                Some(parts) => parts.iter().map(super::name).collect::<Vec<_>>().join(".").parse()?,
                None => return Err(refused(format!("`{facts}` is no name of a table; {USAGE}"))),
            },
            keys,
            windows: rest.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect(),
            cutoff,
        })
    }
}

fn cutoff_of(name: &str, value: &ast::Expr) -> Result<Cutoff> {
    let value = match value {
        ast::Expr::Value(value) => value.value.clone().into_string(),
        _ => None,
    };
    match (name.to_ascii_lowercase().as_str(), value.as_deref()) {
        ("cutoff", Some("inclusive")) => Ok(Cutoff::Inclusive),
        ("cutoff", Some("exclusive")) => Ok(Cutoff::Exclusive),
        _ => Err(refused(format!("its only named argument is cutoff => 'inclusive' or cutoff => 'exclusive'; {USAGE}"))),
    }
}

/// The parts of a table's name, which is an identifier or a text.
fn table_of(argument: &ast::Expr) -> Result<Option<Vec<Ident>>> {
    Ok(match argument {
        ast::Expr::Identifier(ident) => Some(vec![ident.clone()]),
        ast::Expr::CompoundIdentifier(parts) => Some(parts.clone()),
        ast::Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) => {
                let name: TableName = text.parse()?;
                let table = Ident::with_quote('"', name.table());
                // A name without a database may be that of a common table expression.
                Some(if text.contains('.') { vec![Ident::with_quote('"', name.database()), table] } else { vec![table] })
            }
            _ => None,
        },
        _ => None,
    })
}

/// The spine: a table, a common table expression or a subquery.
fn spine_of(argument: ast::Expr) -> Result<TableFactor> {
    if let ast::Expr::Subquery(subquery) = argument {
        return Ok(TableFactor::Derived { lateral: false, subquery, alias: None, sample: None });
    }
    let Some(parts) = table_of(&argument)? else {
        return Err(refused(format!("`{argument}` is no name of a table and no subquery, `(SELECT ...)`; {USAGE}")));
    };
    Ok(TableFactor::Table {
        name: ast::ObjectName::from(parts),
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    })
}

/// The planner of calls, with the tables that a query may name.
#[derive(Debug)]
pub(super) struct Trailing {
    sources: Sources,
    state: SessionState,
}

impl RelationPlanner for Trailing {
    fn plan_relation(&self, mut relation: TableFactor, context: &mut dyn RelationPlannerContext) -> DfResult<RelationPlanning> {
        let call = match call_in(&mut relation) {
            Some((name, arguments)) if is_named(name, NAME) => Call::of(arguments)?,
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let spine = context.plan(call.spine.clone())?;
        let plan = self.plan(spine, call)?;
        let plan = LogicalPlanBuilder::from(plan).alias(NAME)?.build()?;
        let alias = match relation {
            TableFactor::Table { alias, .. } | TableFactor::Function { alias, .. } => alias,
            _ => None,
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

impl Trailing {
    pub(super) fn over(sources: Sources, state: SessionState) -> Self {
        Self { sources, state }
    }

    fn plan(&self, rows: LogicalPlan, call: Call) -> Result<LogicalPlan> {
        let Call { at, facts, keys, windows, cutoff, .. } = call;
        let subject = "the spine of `trailing`";
        let schema = rows.schema();
        let Ok((qualifier, field)) = schema.qualified_field_with_unqualified_name(&at) else {
            return Err(Error::unknown_column(subject, &at, schema.as_arrow()));
        };
        // The table that the instants come from declares how they are read.
        let known = schema.index_of_column_by_name(qualifier, &at).and_then(|position| reading(&rows, position));
        let zone = known.and_then(|known| known.zone);
        if is_local(field.data_type()) && zone.is_none() {
            return Err(Error::ColumnType {
                subject: subject.into(),
                column: at.clone(),
                found: field.data_type().to_string(),
                needed: format!(
                    "its times carry no zone, and no table of the catalog declares one; state the zone in a subquery, as in \
                     `{at} AT TIME ZONE 'Europe/Berlin' AS {at}`"
                ),
            });
        }
        let unit = known.and_then(|known| known.unit);
        let mut spine = Spine::new(DataFrame::new(self.state.clone(), rows), TimeColumn { name: at, unit });
        if let Some(zone) = zone {
            spine = spine.zone(zone);
        }

        let (rows, declared) = self.table(&facts)?;
        let mut window = Window::of(Facts::new(&facts.to_string(), rows, declared)).cutoff(cutoff);
        for (of_spine, of_facts) in key_pairs(&keys)? {
            window = window.on_columns(of_spine, of_facts);
        }
        for (span, text) in windows {
            let aggregates = aggregates(&text)?;
            window = match span.trim().eq_ignore_ascii_case("all") {
                true => window.all_before(aggregates),
                false => window.trailing(length(&span)?, aggregates),
            };
        }
        Ok(spine.window([window])?.into_rows().into_unoptimized_plan())
    }

    fn table(&self, wanted: &TableName) -> Result<(DataFrame, FactTable)> {
        let Some((_, table)) = self.sources.iter().find(|(known, _)| known == wanted) else {
            let known = self.sources.iter().map(|(known, _)| known.to_string()).collect();
            return Err(Error::UnknownTable { table: wanted.to_string(), known });
        };
        let declared = table.declared().clone();
        let source = provider_as_source(std::sync::Arc::new(table.clone()));
        let plan = LogicalPlanBuilder::scan(TableReference::bare(wanted.table()), source, None)?.build()?;
        Ok((DataFrame::new(self.state.clone(), plan), declared))
    }
}

/// Parses the whole text.
fn parsed<T>(text: &str, what: &str, parse: impl FnOnce(&mut Parser<'_>) -> std::result::Result<T, ParserError>) -> Result<T> {
    let read = || {
        let mut parser = Parser::new(&GenericDialect {}).try_with_sql(text)?;
        let found = parse(&mut parser)?;
        parser.expect_token(&Token::EOF)?;
        Ok(found)
    };
    read().map_err(|e: ParserError| refused(format!("{what} `{text}` cannot be read: {e}")))
}

/// Pairs of a key column of the spine and one of the facts.
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

/// The length of a window.
fn length(text: &str) -> Result<TimeDelta> {
    let found = length_us(text).map(TimeDelta::microseconds);
    found.map_err(|reason| refused(format!("the length `{text}` {reason}; write it as `7 days` or `90 minutes`, or `all`")))
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
        return Err(refused(format!(
            "`{shown}` is no aggregate; write one as `avg(fare) AS mean_fare`, and compute with it outside of `trailing`"
        )));
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
        return Err(refused(format!("`{shown}` has more than an aggregate's arguments, FILTER and AS; leave the rest out")));
    }
    let mut found = called(&call.name, &list, &shown)?;
    if let Some(condition) = filter {
        found = found.filter(condition.to_string());
    }
    Ok(match alias {
        Some(alias) => found.named(alias),
        None => found,
    })
}

/// The aggregate that a call names.
fn called(name: &ast::ObjectName, list: &ast::FunctionArgumentList, shown: &str) -> Result<Aggregate> {
    let is_distinct = list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct);
    let function = name.to_string().to_ascii_lowercase();
    let column = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Identifier(column))) => Ok(super::name(column)),
        other => Err(refused(format!("`{shown}` is over `{other}`; an aggregate is over a column of the facts"))),
    };
    let unfit =
        |what: &str, argument: &FunctionArg| refused(format!("`{shown}` has the argument {argument}; it must say {what}"));
    let unknown = || refused(format!("`{shown}` is none of {}", SqlForm::ALL));
    if is_distinct {
        return match (function.as_str(), list.args.as_slice()) {
            ("count", [x]) => Ok(Aggregate::count_distinct(column(x)?)),
            _ => Err(refused(format!("`{shown}` is DISTINCT; only `count` can be DISTINCT"))),
        };
    }
    if let ("count", [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]) = (function.as_str(), list.args.as_slice()) {
        return Ok(Aggregate::count());
    }
    let form = SqlForm::of(&function, list.args.len()).ok_or_else(unknown)?;
    match (form, list.args.as_slice()) {
        (SqlForm::Column(aggregate), [x]) => Ok(aggregate(column(x)?)),
        (SqlForm::WithCount(aggregate), [x, k]) => {
            let count = k.to_string().parse().map_err(|_| unfit("how many, as in `last_k(x, 3)`", k))?;
            Ok(aggregate(column(x)?, count))
        }
        (SqlForm::WithFraction(aggregate), [x, q]) => {
            let fraction = q.to_string().parse().map_err(|_| unfit("a number, as in `quantile(x, 0.9)`", q))?;
            Ok(aggregate(column(x)?, fraction))
        }
        (SqlForm::Column(_) | SqlForm::WithCount(_) | SqlForm::WithFraction(_), _) => Err(unknown()),
    }
}
