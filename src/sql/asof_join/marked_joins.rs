//! The marked joins of a plan, which lookups replace.
//! Keys and instants that are not plain columns are refused, and so are facts for which nothing says when they could be known.

use std::sync::Arc;

use datafusion::{
    common::{
        Column, DFSchema,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    logical_expr::{BinaryExpr, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, utils::split_conjunction},
    prelude::{Expr, lit},
};

use super::{
    join_times::{FactTime, JoinTimes, KnownWhen},
    match_condition::{Known, MARK, Marked, is_mark},
    refused,
};
use crate::{
    error::{Error, Result},
    sql::origin,
    temporal::{AsOfNode, COMPUTED_PREFIX, Direction, FactInput, LookupColumn, LookupSpec},
    time::Cutoff,
};

/// The name of a key that is the same for all rows, for a join without keys.
const SAME_KEY: &str = "asof: same for all";

/// Replaces the marked joins of a plan by lookups.
pub(super) fn resolve(plan: LogicalPlan) -> Result<LogicalPlan> {
    let is_marked = |join: &Join| {
        let conditions = join.filter.iter().flat_map(split_conjunction);
        join.join_type == JoinType::Left && conditions.into_iter().any(is_mark)
    };
    let resolved = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) if is_marked(&join) => Ok(Transformed::yes(lookup(join)?)),
        other => Ok(Transformed::no(other)),
    })?;
    let mut left_over = false;
    resolved.data.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            left_over |= expression.exists(|e| Ok(is_mark(e)))?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    if left_over {
        return Err(refused(format!("`{MARK}` is internal and cannot be called in a query; write ASOF JOIN")));
    }
    Ok(resolved.data)
}

/// A column of one side of the join.
enum Operand {
    Left(Column),
    /// The position in the right side.
    Right(usize),
}

impl Operand {
    fn of(expression: &Expr, left: &DFSchema, right: &DFSchema) -> Option<Self> {
        let Expr::Column(column) = expression else { return None };
        match (left.maybe_index_of_column(column), right.maybe_index_of_column(column)) {
            (Some(_), None) => Some(Operand::Left(column.clone())),
            (None, Some(position)) => Some(Operand::Right(position)),
            _ => None,
        }
    }

    /// A column of each side, in either order. Also says whether the right one came first.
    fn pair(a: &Expr, b: &Expr, left: &DFSchema, right: &DFSchema) -> Option<(Column, usize, bool)> {
        match (Operand::of(a, left, right)?, Operand::of(b, left, right)?) {
            (Operand::Left(column), Operand::Right(position)) => Some((column, position, false)),
            (Operand::Right(position), Operand::Left(column)) => Some((column, position, true)),
            _ => None,
        }
    }
}

/// The conditions of a marked join.
struct Conditions {
    keys: Vec<(Column, usize)>,
    at: Column,
    fact: usize,
    known: Option<KnownWhen>,
    max_age_us: Option<i64>,
    direction: Direction,
    cutoff: Cutoff,
}

impl Conditions {
    fn of(join: &Join, subject: &str) -> Result<Self> {
        let (left, right) = (join.left.schema(), join.right.schema());
        let mut keys = Vec::new();
        let mut found = None;
        let unfit = |condition: &dyn std::fmt::Display| {
            refused(format!(
                "its ON has `{condition}`, and may only have `column = column`, one of each side; write other conditions on {subject} \
                 in a subquery, ASOF JOIN (SELECT * FROM ... WHERE ...)"
            ))
        };
        for (a, b) in &join.on {
            let (column, position, _) = Operand::pair(a, b, left, right).ok_or_else(|| unfit(&format!("{a} = {b}")))?;
            keys.push((column, position));
        }
        for condition in join.filter.iter().flat_map(split_conjunction) {
            match (condition, Marked::of(condition)) {
                (_, Some(marked)) if found.is_none() => found = Some(marked),
                (Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq, right: b }), None) => {
                    let (column, position, _) = Operand::pair(a, b, left, right).ok_or_else(|| unfit(condition))?;
                    keys.push((column, position));
                }
                _ => return Err(unfit(condition)),
            }
        }
        let Some(marked) = found else { return Err(refused("it has no MATCH_CONDITION")) };
        let Marked { operator, left: a, right: b, .. } = &marked;
        let (at, fact, swapped) = Operand::pair(a, b, left, right).ok_or_else(|| {
            refused(format!(
                "its MATCH_CONDITION is `{a} {operator} {b}`; compare a column of the left side with one of {subject}"
            ))
        })?;
        for name in &marked.using {
            let of_side = |schema: &DFSchema, subject: &str| match schema.qualified_fields_with_unqualified_name(name).as_slice()
            {
                [] => Err(Error::unknown_column(subject, name, schema.as_arrow())),
                [(qualifier, field)] => Ok(Column::new(qualifier.cloned(), field.name())),
                _ => Err(refused(format!(
                    "USING names `{name}`, and {subject} has several columns of that name; name one with ON"
                ))),
            };
            let position = right.maybe_index_of_column(&of_side(right, subject)?);
            keys.push((
                of_side(left, "the left side of the ASOF JOIN")?,
                position.ok_or_else(|| refused(format!("USING names `{name}`, which cannot be found; use ON")))?,
            ));
        }
        let direction = if operator.starts_with('>') != swapped { Direction::Backward } else { Direction::Forward };
        let known = match &marked.known {
            None => None,
            Some(_) if direction == Direction::Forward => {
                return Err(refused("it looks forward, and `known_at` applies only to looking back; leave it out"));
            }
            Some(Known::AfterMicros(delay)) => Some(KnownWhen::AfterMicros(*delay)),
            Some(Known::At(expression)) => match Operand::of(expression, left, right) {
                Some(Operand::Right(position)) => Some(KnownWhen::At(position)),
                _ => {
                    return Err(refused(format!("`known_at` names `{expression}`; name a column of {subject}, or an interval")));
                }
            },
        };
        let max_age_us = marked.bound.map(|(age_us, first, last)| {
            let (older, newer) = match direction {
                Direction::Backward => (first, last),
                Direction::Forward => (last, first),
            };
            match (Operand::of(older, left, right), Operand::of(newer, left, right)) {
                (Some(Operand::Right(position)), Some(Operand::Left(column))) if position == fact && column == at => Ok(age_us),
                _ => Err(refused(format!(
                    "the bound in its MATCH_CONDITION compares `{first}` and `{last}`; it must compare the two columns of the \
                     condition, `AND b.ts >= a.ts - INTERVAL '7 days'` for a look back and `AND b.ts <= a.ts + INTERVAL '7 days'` for \
                     a look forward"
                ))),
            }
        });
        Ok(Self {
            keys,
            at,
            fact,
            known,
            max_age_us: max_age_us.transpose()?,
            direction,
            cutoff: if operator.ends_with('=') { Cutoff::Inclusive } else { Cutoff::Exclusive },
        })
    }
}

/// The right side of a join as facts: the columns of the join under distinct names, followed by the other columns of their
/// table.
struct Right {
    facts: LogicalPlan,
    names: Vec<String>,
    traced: std::result::Result<origin::TableRows, origin::NotFactRows>,
}

impl Right {
    fn of(plan: &LogicalPlan) -> Result<Self> {
        let traced = origin::rows(plan)?;
        let own: Vec<String> = plan.schema().fields().iter().map(|field| field.name().clone()).collect();
        let mut facts = plan.clone();
        // The operator finds columns of facts by name, and tied facts are compared column by column in the order of names. So a
        // column has the name that the table gives it, whatever the query calls it.
        let mut names: Vec<String> = Vec::with_capacity(own.len());
        for (i, name) in own.iter().enumerate() {
            names.push(match traced.as_ref().map(|rows| rows.name_of(i)) {
                Ok(Some(of_table)) if !names.iter().any(|known| known == of_table) => of_table.to_owned(),
                Ok(_) => format!("{COMPUTED_PREFIX}{name}:{}", i + 1),
                Err(_) if own.iter().filter(|other| *other == name).count() > 1 => format!("{name}:{}", i + 1),
                Err(_) => name.clone(),
            });
        }
        if let Ok(rows) = &traced {
            facts = rows.plan.clone();
            let mut beside: Vec<(usize, &String)> =
                rows.columns.iter().filter(|(_, at)| *at >= names.len()).map(|(name, at)| (*at, name)).collect();
            beside.sort_unstable();
            names.extend(beside.into_iter().map(|(_, name)| name.clone()));
        }
        let is_renamed = facts.schema().fields().iter().map(|field| field.name()).ne(&names);
        if is_renamed {
            let renamed = facts.schema().columns().into_iter().zip(&names).map(|(column, name)| Expr::Column(column).alias(name));
            facts = LogicalPlanBuilder::from(facts).project(renamed.collect::<Vec<_>>())?.build()?;
        }
        Ok(Self { facts, names, traced })
    }
}

/// The lookup that replaces a marked join. It has the columns of the join.
fn lookup(join: Join) -> Result<LogicalPlan> {
    let subject = subject_of(&join.right);
    let Conditions { keys, at, fact, known, max_age_us, direction, cutoff } = Conditions::of(&join, &subject)?;
    let columns = join.right.schema().columns();
    let Right { facts, names, traced } = Right::of(&join.right)?;
    let written = join.right.schema().field(fact).name().clone();
    let fact = FactTime { subject: &subject, position: fact, written: &written, names: &names, traced: &traced, known };
    let (at, declared) = JoinTimes { join: &join, at, fact, direction }.read()?;
    let mut on: Vec<(Column, String)> = keys.into_iter().map(|(left, right)| (left, names[right].clone())).collect();

    let (mut spine, mut facts) = (Arc::unwrap_or_clone(join.left), facts);
    let has_key = !on.is_empty();
    if !has_key {
        let with_key = |plan: LogicalPlan| {
            let own = plan.schema().columns().into_iter().map(Expr::Column);
            let all: Vec<Expr> = own.chain([lit(1i64).alias(SAME_KEY)]).collect();
            LogicalPlanBuilder::from(plan).project(all)?.build()
        };
        (spine, facts) = (with_key(spine)?, with_key(facts)?);
        on.push((Column::new_unqualified(SAME_KEY), SAME_KEY.into()));
    }
    let looked_up = columns.into_iter().zip(names);
    let columns = looked_up.map(|(c, fact)| LookupColumn { fact, qualifier: c.relation, name: c.name }).collect();
    let spec = LookupSpec { columns, max_age_us };
    // All columns decide between tied facts, whichever the query selects.
    let full_rows = declared.identity.is_empty().then(|| Arc::new(facts.clone()));
    let plan =
        AsOfNode::try_new(spine, at, vec![(facts, FactInput { subject, on, declared, cutoff, direction, full_rows, spec })])?
            .into_plan();
    if has_key {
        return Ok(plan);
    }
    let wanted: Vec<Expr> = join.schema.columns().into_iter().map(Expr::Column).collect();
    Ok(LogicalPlanBuilder::from(plan).project(wanted)?.build()?)
}

/// The right side, for messages.
fn subject_of(plan: &LogicalPlan) -> String {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => match alias.input.as_ref() {
            LogicalPlan::TableScan(scan) => format!("table `{}`", scan.table_name.table()),
            _ => format!("table `{}`", alias.alias.table()),
        },
        LogicalPlan::TableScan(scan) => format!("table `{}`", scan.table_name.table()),
        _ => "the right side of the ASOF JOIN".into(),
    }
}
