//! Clauses that DataFusion's planner ignores: with them, a query would be answered as if they were not written.
//! The statement is refused instead; what the planner itself refuses is left to it.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArguments, GroupByExpr, OrderByKind, Query, Select, SetExpr, TableAlias, TableFactor, TableWithJoins, Visitor,
    WindowType,
};

/// Finds the first clause that the planner would ignore. The text ends a sentence that begins with "the statement holds".
pub(super) struct IgnoredClauses;

fn found(is_there: bool, what: impl Into<String>) -> ControlFlow<String> {
    if is_there { ControlFlow::Break(what.into()) } else { ControlFlow::Continue(()) }
}

impl IgnoredClauses {
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

impl Visitor for IgnoredClauses {
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
