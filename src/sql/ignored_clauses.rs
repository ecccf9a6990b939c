//! Clauses that DataFusion's planner ignores: with them, a query would be answered as if they were not written.
//! The statement is refused instead; what the planner itself refuses is left to it.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArguments, GroupByExpr, OrderByKind, Query, Select, SetExpr, TableAlias, TableFactor, TableWithJoins, Visitor,
    WindowType,
};

/// Finds the first clause that the planner would ignore. The text ends a sentence that begins with "the statement holds".
pub(super) struct IgnoredClauses;

fn refuse_if(is_there: bool, what: impl Into<String>) -> ControlFlow<String> {
    if is_there { ControlFlow::Break(what.into()) } else { ControlFlow::Continue(()) }
}

impl IgnoredClauses {
    fn joins(tables: &TableWithJoins) -> ControlFlow<String> {
        refuse_if(tables.joins.iter().any(|join| join.global), "GLOBAL before JOIN, which would be ignored; leave it out")
    }

    fn alias(alias: Option<&TableAlias>) -> ControlFlow<String> {
        let Some(alias) = alias else { return ControlFlow::Continue(()) };
        let typed = alias.columns.iter().find(|column| column.data_type.is_some());
        refuse_if(
            typed.is_some(),
            format!("types of columns in the alias `{alias}`, which would be ignored; cast the columns instead"),
        )?;
        refuse_if(alias.at.is_some(), format!("AT in the alias `{alias}`, which would be ignored; leave it out"))
    }
}

impl Visitor for IgnoredClauses {
    type Break = String;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<String> {
        refuse_if(
            !query.locks.is_empty(),
            "FOR UPDATE or FOR SHARE, which would be ignored, as facts are never locked; leave it out",
        )?;
        refuse_if(query.for_clause.is_some(), "FOR XML, JSON or BROWSE, which would be ignored; leave it out")?;
        refuse_if(query.settings.is_some(), "SETTINGS, which would be ignored; leave it out")?;
        refuse_if(query.format_clause.is_some(), "FORMAT, which would be ignored; leave it out")?;
        refuse_if(query.fetch.is_some(), "FETCH; write LIMIT")?;
        let orders_all = query.order_by.as_ref().is_some_and(|order| matches!(order.kind, OrderByKind::All(_)));
        let is_select = matches!(query.body.as_ref(), SetExpr::Select(_));
        refuse_if(orders_all && !is_select, "ORDER BY ALL after a set operation, which would be ignored; name the columns")?;
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            refuse_if(table.from.is_some(), "FROM after a common table expression, which would be ignored; leave it out")?;
            Self::alias(Some(&table.alias))?;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<String> {
        refuse_if(!select.optimizer_hints.is_empty(), "an optimizer hint, which would be ignored; leave it out")?;
        refuse_if(select.select_modifiers.is_some(), "MySQL modifiers after SELECT, which would be ignored; leave them out")?;
        refuse_if(select.top.is_some(), "TOP; write LIMIT")?;
        refuse_if(select.exclude.is_some(), "EXCLUDE after the list, which would be ignored; write `SELECT * EXCLUDE (...)`")?;
        refuse_if(!select.lateral_views.is_empty(), "LATERAL VIEW; write `unnest(...)`")?;
        refuse_if(select.prewhere.is_some(), "PREWHERE, which would be ignored; write WHERE")?;
        refuse_if(!select.connect_by.is_empty(), "CONNECT BY, which would be ignored; write WITH RECURSIVE")?;
        refuse_if(!select.cluster_by.is_empty() || !select.sort_by.is_empty(), "CLUSTER BY or SORT BY; write ORDER BY")?;
        refuse_if(select.value_table_mode.is_some(), "SELECT AS STRUCT or AS VALUE, which would be ignored; leave it out")?;
        let (GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers)) = &select.group_by;
        refuse_if(
            !modifiers.is_empty(),
            "WITH ROLLUP, CUBE or TOTALS after GROUP BY, which would be ignored; write `GROUP BY ROLLUP (...)`",
        )?;
        select.from.iter().try_for_each(Self::joins)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<String> {
        const SAMPLE: &str = "TABLESAMPLE, which would be ignored, and whose sample could not be reproduced; sample training rows with \
                              the row selection `Sample`, or keep rows by a hash of their key";
        const ORDINALITY: &str = "WITH ORDINALITY, which would be ignored; write `row_number() OVER (...)`";
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
                refuse_if(sample.is_some(), SAMPLE)?;
                refuse_if(
                    version.is_some(),
                    format!(
                        "a version of `{name}`, which would be ignored; use `FeatureStore::sql_at`, or query as of an instant"
                    ),
                )?;
                refuse_if(
                    !with_hints.is_empty() || !index_hints.is_empty(),
                    format!("hints for `{name}`, which would be ignored; leave them out"),
                )?;
                refuse_if(*with_ordinality, ORDINALITY)?;
                refuse_if(!partitions.is_empty(), format!("PARTITION of `{name}`, which would be ignored; write WHERE"))?;
                refuse_if(json_path.is_some(), format!("a path into `{name}`, which would be ignored; leave it out"))?;
                refuse_if(
                    args.as_ref().is_some_and(|args| args.settings.is_some()),
                    "SETTINGS of a table function; leave them out",
                )?;
                Self::alias(alias.as_ref())
            }
            TableFactor::Derived { alias, sample, .. } => {
                refuse_if(sample.is_some(), SAMPLE)?;
                Self::alias(alias.as_ref())
            }
            TableFactor::Function { with_ordinality, alias, .. } => {
                refuse_if(*with_ordinality, ORDINALITY)?;
                Self::alias(alias.as_ref())
            }
            TableFactor::UNNEST { alias, .. } => Self::alias(alias.as_ref()),
            TableFactor::NestedJoin { table_with_joins, alias } => {
                Self::joins(table_with_joins)?;
                Self::alias(alias.as_ref())
            }
            // The planner itself refuses the other kinds.
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<String> {
        let Expr::Function(call) = expression else { return ControlFlow::Continue(()) };
        refuse_if(
            call.parameters != FunctionArguments::None,
            format!("two lists of arguments in `{call}`, of which one would be ignored; leave one out"),
        )?;
        let based = match &call.over {
            Some(WindowType::WindowSpec(window)) => window.window_name.as_ref(),
            _ => None,
        };
        match based {
            Some(name) => refuse_if(
                true,
                format!("a window that is based on `{name}`, which would be ignored; write it out, or `OVER {name}` alone"),
            ),
            None => ControlFlow::Continue(()),
        }
    }
}
