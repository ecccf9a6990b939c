//! A statement of SQL before it is planned: one query, shallow enough to be planned, that holds nothing which planning would
//! fold away or drop without a word. It resolves no names.

use std::ops::ControlFlow;

use datafusion::{
    error::DataFusionError,
    execution::SessionState,
    logical_expr::Volatility,
    sql::{
        parser::{DFParserBuilder, Statement},
        sqlparser::{
            ast::{
                self, Expr, FunctionArguments, GroupByExpr, OrderByKind, Query, Select, SetExpr, Statement as SqlStatement,
                TableAlias, TableFactor, TableWithJoins, Visit, Visitor, WindowType,
            },
            dialect::GenericDialect,
            keywords::Keyword,
            parser::ParserError,
            tokenizer::{Token, Tokenizer},
        },
    },
};

use super::show;
use crate::{
    error::{Error, Result},
    name::TableName,
    storage::redacted,
};

/// How many operators, joins or set operations may follow each other without a parenthesis or comma: each is a level of the
/// tree that planning walks through.
const LONGEST_CHAIN: usize = 128;
/// How deep parentheses may lie in each other.
const DEEPEST_NESTING: usize = 50;

const TOO_NESTED: &str = "is too deep: too many parentheses, queries or cases lie in each other; name parts of it with WITH";

/// A statement that can be planned.
pub(crate) struct Question {
    pub(crate) statement: Statement,
    /// The table whose columns are to be shown, which must exist.
    pub(crate) shown: Option<TableName>,
}

/// Reads one query, or what explains or shows something.
///
/// # Errors
/// [`Error::Query`] when the text is not one SQL statement, [`Error::Statement`] for one that is too deep, is no query, or holds
/// what would be dropped.
pub(crate) fn parse(sql: &str) -> Result<Question> {
    check_depth(sql)?;
    let parser = DFParserBuilder::new(sql).with_recursion_limit(2 * DEEPEST_NESTING).build();
    let mut statements = parser.and_then(|mut parser| parser.parse_statements()).map_err(|error| match error.find_root() {
        DataFusionError::SQL(cause, _) if matches!(cause.as_ref(), ParserError::RecursionLimitExceeded) => {
            refused(sql, TOO_NESTED)
        }
        _ => error.into(),
    })?;
    let (Some(statement), None) = (statements.pop_front(), statements.pop_front()) else {
        return Err(refused(sql, "is none or several; ask one query at a time"));
    };
    let (statement, shown) = show::rewritten(statement).map_err(|reason| refused(sql, reason))?;
    if let Some(inner) = query_in(sql, &statement)?
        && let ControlFlow::Break(dropped) = inner.visit(&mut Dropped)
    {
        return Err(refused(sql, format!("holds {dropped}")));
    }
    Ok(Question { statement, shown })
}

fn refused(sql: &str, reason: impl Into<String>) -> Error {
    // Locations may hold credentials.
    let words = redacted(sql).split_whitespace().collect::<Vec<_>>().join(" ");
    let mut begin: String = words.chars().take(80).collect();
    if begin.len() < words.len() {
        begin.push_str("...");
    }
    Error::Statement { statement: begin, reason: reason.into() }
}

/// The query that a statement asks, explained or not; `None` for one that describes a table.
fn query_in<'a>(sql: &str, statement: &'a Statement) -> Result<Option<&'a SqlStatement>> {
    match statement {
        Statement::Explain(explain) => query_in(sql, &explain.statement),
        Statement::Statement(inner) => match inner.as_ref() {
            SqlStatement::Query(_) => Ok(Some(inner)),
            SqlStatement::Explain { statement, .. } if matches!(statement.as_ref(), SqlStatement::Query(_)) => Ok(Some(inner)),
            SqlStatement::ExplainTable { .. } => Ok(None),
            _ => Err(no_query(sql)),
        },
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => Err(no_query(sql)),
    }
}

fn no_query(sql: &str) -> Error {
    refused(
        sql,
        "is no query; SQL asks and changes nothing: load with `FeatureStore::ingest`, declare with `FeatureStore::execute`",
    )
}

/// Counts how deep the tree of a statement can be, without making it.
fn check_depth(sql: &str) -> Result<()> {
    /// One pair of parentheses, or one CASE.
    #[derive(Default)]
    struct Level {
        operators: usize,
        parts: usize,
    }
    // What cannot be read is the parser's to refuse.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return Ok(()) };
    let mut levels = vec![Level::default()];
    for token in tokens {
        let is_inside = levels.len() > 1;
        let Some(level) = levels.last_mut() else { return Ok(()) };
        match &token {
            Token::Whitespace(_) | Token::Period | Token::EOF => {}
            Token::Comma | Token::SemiColon => level.operators = 0,
            Token::LParen | Token::LBracket | Token::LBrace => {
                level.operators += 1;
                levels.push(Level::default());
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                levels.pop();
                if levels.is_empty() {
                    return Ok(());
                }
            }
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::CASE => levels.push(Level::default()),
                Keyword::END if is_inside => {
                    levels.pop();
                }
                Keyword::SELECT | Keyword::WHERE | Keyword::HAVING | Keyword::GROUP | Keyword::ORDER => level.operators = 0,
                Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT | Keyword::MINUS | Keyword::JOIN => level.parts += 1,
                Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::RLIKE
                | Keyword::REGEXP
                | Keyword::SIMILAR
                | Keyword::BETWEEN
                | Keyword::DIV
                | Keyword::COLLATE
                | Keyword::AT => level.operators += 1,
                _ => {}
            },
            Token::Word(_) | Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) => {}
            _ => level.operators += 1,
        }
        let Some(level) = levels.last() else { return Ok(()) };
        if level.operators > LONGEST_CHAIN || level.parts > LONGEST_CHAIN {
            return Err(refused(
                sql,
                format!(
                    "is too deep: more than {LONGEST_CHAIN} operators, joins or set operations follow each other. Write `x IN (...)` for a \
                     chain of OR, a table for many UNIONs, and split a long sum with parentheses"
                ),
            ));
        }
        if levels.len() > DEEPEST_NESTING {
            return Err(refused(sql, TOO_NESTED));
        }
    }
    Ok(())
}

/// Finds what the planner passes over: a query would be answered as if it were not written.
struct Dropped;

fn found(is_there: bool, what: impl Into<String>) -> ControlFlow<String> {
    if is_there { ControlFlow::Break(what.into()) } else { ControlFlow::Continue(()) }
}

impl Dropped {
    fn joins(tables: &TableWithJoins) -> ControlFlow<String> {
        found(tables.joins.iter().any(|join| join.global), "GLOBAL before JOIN, which means nothing here; leave it out")
    }

    fn alias(alias: Option<&TableAlias>) -> ControlFlow<String> {
        let Some(alias) = alias else { return ControlFlow::Continue(()) };
        let typed = alias.columns.iter().find(|column| column.data_type.is_some());
        found(
            typed.is_some(),
            format!("types of columns in the alias `{alias}`, which would not be applied; cast the columns instead"),
        )?;
        found(alias.at.is_some(), format!("AT in the alias `{alias}`, which would not be applied"))
    }
}

impl Visitor for Dropped {
    type Break = String;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<String> {
        found(!query.locks.is_empty(), "FOR UPDATE or FOR SHARE; facts are never locked: leave it out")?;
        found(query.for_clause.is_some(), "FOR XML, JSON or BROWSE, which would be passed over; leave it out")?;
        found(query.settings.is_some(), "SETTINGS, which would be passed over; leave it out")?;
        found(query.format_clause.is_some(), "FORMAT, which would be passed over; leave it out")?;
        found(query.fetch.is_some(), "FETCH; write LIMIT")?;
        let orders_all = query.order_by.as_ref().is_some_and(|order| matches!(order.kind, OrderByKind::All(_)));
        let is_select = matches!(query.body.as_ref(), SetExpr::Select(_));
        found(orders_all && !is_select, "ORDER BY ALL after a set operation, which would be passed over; name the columns")?;
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            found(table.from.is_some(), "FROM after a common table expression, which would be passed over")?;
            Self::alias(Some(&table.alias))?;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<String> {
        found(!select.optimizer_hints.is_empty(), "a hint to an optimizer, which would be passed over; leave it out")?;
        found(select.select_modifiers.is_some(), "modifiers of MySQL after SELECT, which would be passed over; leave them out")?;
        found(select.top.is_some(), "TOP; write LIMIT")?;
        found(select.exclude.is_some(), "EXCLUDE after the list, which would be passed over; write `SELECT * EXCLUDE (...)`")?;
        found(!select.lateral_views.is_empty(), "LATERAL VIEW; write `unnest(...)`")?;
        found(select.prewhere.is_some(), "PREWHERE, which would be passed over; write WHERE")?;
        found(!select.connect_by.is_empty(), "CONNECT BY, which would be passed over; write WITH RECURSIVE")?;
        found(!select.cluster_by.is_empty() || !select.sort_by.is_empty(), "CLUSTER BY or SORT BY; write ORDER BY")?;
        found(select.value_table_mode.is_some(), "SELECT AS STRUCT or AS VALUE, which would be passed over; leave it out")?;
        let (GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers)) = &select.group_by;
        found(
            !modifiers.is_empty(),
            "WITH ROLLUP, CUBE or TOTALS after GROUP BY, which would be passed over; write `GROUP BY ROLLUP (...)`",
        )?;
        select.from.iter().try_for_each(Self::joins)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<String> {
        const SAMPLE: &str = "TABLESAMPLE, which would be passed over, and whose rows nobody could draw again: thin training rows out \
                              with the selection `Sample`, or keep those whose key has a hash of your choice";
        const ORDINALITY: &str = "WITH ORDINALITY, which would be passed over; write `row_number() OVER (...)`";
        match factor {
            TableFactor::Table {
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
                name,
            } => {
                found(sample.is_some(), SAMPLE)?;
                found(
                    version.is_some(),
                    format!(
                        "a version of `{name}`, which would be passed over; ask with `FeatureStore::sql_at`, or as of an instant"
                    ),
                )?;
                found(
                    !with_hints.is_empty() || !index_hints.is_empty(),
                    format!("hints for `{name}`, which would be passed over"),
                )?;
                found(*with_ordinality, ORDINALITY)?;
                found(!partitions.is_empty(), format!("PARTITION of `{name}`, which would be passed over; write WHERE"))?;
                found(json_path.is_some(), format!("a path into `{name}`, which would be passed over"))?;
                found(args.as_ref().is_some_and(|args| args.settings.is_some()), "SETTINGS of a table function; leave them out")?;
                Self::alias(alias.as_ref())
            }
            TableFactor::Derived { alias, sample, .. } => {
                found(sample.is_some(), SAMPLE)?;
                Self::alias(alias.as_ref())
            }
            TableFactor::Function { with_ordinality, alias, .. } => {
                found(*with_ordinality, ORDINALITY)?;
                Self::alias(alias.as_ref())
            }
            TableFactor::UNNEST { alias, .. } => Self::alias(alias.as_ref()),
            TableFactor::NestedJoin { table_with_joins, alias } => {
                Self::joins(table_with_joins)?;
                Self::alias(alias.as_ref())
            }
            // The planner has none of the others, and says so.
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<String> {
        let Expr::Function(call) = expression else { return ControlFlow::Continue(()) };
        found(
            call.parameters != FunctionArguments::None,
            format!("two lists of arguments in `{call}`, of which one would be passed over"),
        )?;
        let based = match &call.over {
            Some(WindowType::WindowSpec(window)) => window.window_name.as_ref(),
            _ => None,
        };
        match based {
            Some(name) => found(
                true,
                format!("a window that is based on `{name}`, which would be passed over; write it out, or `OVER {name}` alone"),
            ),
            None => ControlFlow::Continue(()),
        }
    }
}

/// Refuses calls whose result depends on more than their arguments, before planning puts today's result into the plan; and
/// clauses of aggregates after functions of one row, which planning drops.
///
/// # Errors
/// [`Error::Volatile`] and [`Error::Definition`].
pub(crate) fn check_calls(subject: &str, statement: &Statement, state: &SessionState) -> Result<()> {
    match statement {
        Statement::Explain(explain) => check_calls(subject, &explain.statement, state),
        Statement::Statement(inner) => match inner.visit(&mut Calls { subject, state }) {
            ControlFlow::Break(error) => Err(*error),
            ControlFlow::Continue(()) => Ok(()),
        },
        _ => Ok(()),
    }
}

struct Calls<'a> {
    subject: &'a str,
    state: &'a SessionState,
}

impl Visitor for Calls<'_> {
    type Break = Box<Error>;

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<Box<Error>> {
        let Expr::Function(call) = expression else { return ControlFlow::Continue(()) };
        let name = match call.name.0.as_slice() {
            [ast::ObjectNamePart::Identifier(ident)] if ident.quote_style.is_none() => ident.value.to_ascii_lowercase(),
            [ast::ObjectNamePart::Identifier(ident)] => ident.value.clone(),
            _ => call.name.to_string(),
        };
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
                    "`{call}` has DISTINCT, ORDER BY, FILTER, OVER, WITHIN GROUP or a rule for NULLs, and `{name}` is about one row: it would \
                     be passed over; leave it out"
                ),
            }));
        }
        ControlFlow::Continue(())
    }
}

fn has_clauses(call: &ast::Function) -> bool {
    let in_list = match &call.args {
        FunctionArguments::List(list) => list.duplicate_treatment.is_some() || !list.clauses.is_empty(),
        _ => false,
    };
    in_list || call.filter.is_some() || call.over.is_some() || call.null_treatment.is_some() || !call.within_group.is_empty()
}
