//! Calls of `trailing` in the syntax tree: their arguments, the tables that they name, and how they are written for the planner.
//! The texts among the arguments are read in `text_arguments`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr, Ident, TableFactor, VisitorMut};

use super::{NAME, USAGE, refused, text_arguments::parsed};
use crate::{
    error::{Error, Result},
    name::TableName,
    sql::statement::name_of,
    time::Cutoff,
};

/// DataFusion's own table functions. They read no tables.
const BUILT_IN: [&str; 2] = ["generate_series", "range"];

/// A table function's name and arguments.
fn call_in(factor: &mut TableFactor) -> Option<(&mut ast::ObjectName, Vec<FunctionArg>)> {
    match factor {
        TableFactor::Table { name, args: Some(args), .. } => Some((name, args.args.clone())),
        TableFactor::Function { name, args, .. } => Some((name, args.clone())),
        _ => None,
    }
}

fn is_named(name: &ast::ObjectName, wanted: &str) -> bool {
    matches!(name.0.as_slice(), [ast::ObjectNamePart::Identifier(ident)] if name_of(ident) == wanted)
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
pub(super) struct Call {
    pub(super) spine: TableFactor,
    pub(super) at: String,
    pub(super) facts: TableName,
    pub(super) keys: String,
    /// Lengths and aggregates.
    pub(super) windows: Vec<(String, String)>,
    pub(super) cutoff: Cutoff,
}

impl Call {
    /// The call of `trailing` in a relation, if it is one.
    pub(super) fn in_relation(relation: &mut TableFactor) -> Result<Option<Self>> {
        match call_in(relation) {
            Some((name, arguments)) if is_named(name, NAME) => Self::of(arguments).map(Some),
            _ => Ok(None),
        }
    }

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
                ast::Expr::Identifier(ident) => name_of(&ident),
                other => {
                    let at = text(other).ok_or_else(|| refused(format!("its instant is not a column of the spine; {USAGE}")))?;
                    parsed(&at, "the instant", |parser| parser.parse_identifier()).map(|ident| name_of(&ident))?
                }
            },
            facts: match table_of(&facts)? {
                Some(parts) => parts.iter().map(name_of).collect::<Vec<_>>().join(".").parse()?,
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
