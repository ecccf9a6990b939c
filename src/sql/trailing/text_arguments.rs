//! The arguments of `trailing` that are texts: keys, lengths and aggregates.
//! They must be literals, so that the columns of the result are known when a query is planned.

use std::mem;

use chrono::TimeDelta;
use datafusion::sql::sqlparser::{
    ast::{self, FunctionArg, FunctionArgExpr, SelectItem},
    dialect::GenericDialect,
    parser::{Parser, ParserError},
    tokenizer::Token,
};

use super::refused;
use crate::{
    error::{Result, parser_text},
    sql::statement::{check_depth, name_of},
    temporal::{Aggregate, AggregateForm, Expression, WindowLength},
    time::{Zone, parse_span},
};

/// Parses the whole text.
pub(super) fn parsed<T>(
    text: &str,
    what: &str,
    parse: impl FnOnce(&mut Parser<'_>) -> std::result::Result<T, ParserError>,
) -> Result<T> {
    check_depth(text)?;
    let read = || {
        let mut parser = Parser::new(&GenericDialect {}).try_with_sql(text)?;
        let found = parse(&mut parser)?;
        parser.expect_token(&Token::EOF)?;
        Ok(found)
    };
    read().map_err(|e: ParserError| refused(format!("{what} `{text}` cannot be read: {}", parser_text(&e))))
}

/// Pairs of a key column of the spine and one of the facts.
pub(super) fn key_pairs(text: &str) -> Result<Vec<(String, String)>> {
    use ast::{BinaryOperator::Eq, Expr::BinaryOp, Expr::Identifier};
    let keys = parsed(text, "the list of keys", |parser| parser.parse_comma_separated(Parser::parse_expr))?;
    let pair = |key: ast::Expr| match &key {
        Identifier(both) => Ok((name_of(both), name_of(both))),
        BinaryOp { left, op: Eq, right } => match (left.as_ref(), right.as_ref()) {
            (Identifier(spine), Identifier(facts)) => Ok((name_of(spine), name_of(facts))),
            _ => Err(refused(format!("the key `{key}` must be a column, or `column of the spine = column of the facts`"))),
        },
        _ => Err(refused(format!("the key `{key}` must be a column, or `column of the spine = column of the facts`"))),
    };
    keys.into_iter().map(pair).collect()
}

/// The length of a window: `7 days`; by a zone's calendar `this month in Europe/Berlin` and `3 months in Europe/Berlin`;
/// `tumbling 1 day in UTC` and `hopping 7 days every 1 day in UTC`; `10 facts` and `10 facts within 30 days`; or
/// `since event = 'purchase'` and `at most 30 days since event = 'purchase'`.
pub(super) fn length(text: &str) -> Result<WindowLength> {
    if let Some((before, condition)) = at_word(text, "since") {
        let usage = || {
            refused(format!(
                "the length `{text}` must be a condition, as in `since event = 'purchase'`, `at most 30 days since event = 'purchase'` or \
                 `at most 10 facts since event = 'purchase'`"
            ))
        };
        let words: Vec<String> = before.split_whitespace().map(str::to_ascii_lowercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        return match words.as_slice() {
            _ if condition.is_empty() => Err(usage()),
            [] | ["all" | "everything"] => Ok(WindowLength::since(condition)),
            // The names of zones are not lower case.
            ["at", "most", _, ..] => {
                let within: Vec<&str> = before.split_whitespace().skip(2).collect();
                Ok(WindowLength::since_within(condition, length(&within.join(" "))?))
            }
            _ => Err(usage()),
        };
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_facts = |word: &str| ["fact", "facts"].iter().any(|facts| word.eq_ignore_ascii_case(facts));
    match words.as_slice() {
        [count, facts, within @ ..] if is_facts(facts) => {
            let usage = || refused(format!("the length `{text}` must say how many facts, as in `10 facts` or `10 facts within 30 days`"));
            let count: u32 = count.parse().map_err(|_| usage())?;
            match within {
                [] => Ok(WindowLength::facts(count)),
                [within, rest @ ..] if within.eq_ignore_ascii_case("within") && !rest.is_empty() => {
                    Ok(WindowLength::facts_within(count, length(&rest.join(" "))?))
                }
                _ => Err(usage()),
            }
        }
        [span @ .., is_in, zone] if is_in.eq_ignore_ascii_case("in") => {
            let zone: Zone = zone.parse()?;
            calendar_length(span, zone).ok_or_else(|| {
                refused(format!(
                    "the length `{text}` is no span of a calendar; write `this month in {zone}`, `this week in {zone}`, `this day in {zone}`, \
                     `3 months in {zone}`, `tumbling 1 day in {zone}` or `hopping 7 days every 1 day in {zone}`"
                ))
            })
        }
        _ => parse_span(text).map(|us| TimeDelta::microseconds(us).into()).map_err(|reason| {
            refused(format!(
                "the length `{text}` {reason}, a span of a calendar such as `3 months in Europe/Berlin`, a number of facts such as `10 facts`, a condition such as \
                 `since event = 'purchase'`, or `all` for everything before"
            ))
        }),
    }
}

/// What stands before and after the first place where a word stands by itself; `None` if there is none.
fn at_word<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let is_by_itself = |at: &usize| {
        let (before, after) = (&text[..*at], &text[*at + word.len()..]);
        let is_end = |c: Option<char>| c.is_none_or(char::is_whitespace);
        is_end(before.chars().next_back()) && is_end(after.chars().next())
    };
    // Lower case letters of ASCII take as many bytes.
    let at = text.to_ascii_lowercase().match_indices(word).map(|(at, _)| at).find(is_by_itself)?;
    Some((text[..at].trim(), text[at + word.len()..].trim()))
}

/// The length that the words before the zone say.
fn calendar_length(words: &[&str], zone: Zone) -> Option<WindowLength> {
    if let [kind, length @ ..] = words
        && ["tumbling", "hopping"].iter().any(|known| kind.eq_ignore_ascii_case(known))
    {
        let mut parts = length.split(|word| word.eq_ignore_ascii_case("every"));
        let (length, hop, more) = (parts.next()?, parts.next(), parts.next());
        if more.is_some() || kind.eq_ignore_ascii_case("hopping") != hop.is_some() {
            return None;
        }
        let hop = hop.unwrap_or(length);
        return match (months(length), months(hop)) {
            (Some(length), Some(hop)) => Some(WindowLength::hopping_months(length, hop, zone)),
            _ => Some(WindowLength::hopping(fixed(length)?, fixed(hop)?, zone)),
        };
    }
    let [first, unit] = words else { return None };
    let unit = unit.to_ascii_lowercase();
    match (first.parse::<u32>(), unit.as_str()) {
        (Ok(count), "month" | "months") => Some(WindowLength::months(count, zone)),
        (Err(_), "month") if first.eq_ignore_ascii_case("this") => Some(WindowLength::this_month(zone)),
        (Err(_), "week") if first.eq_ignore_ascii_case("this") => Some(WindowLength::this_week(zone)),
        (Err(_), "day") if first.eq_ignore_ascii_case("this") => Some(WindowLength::this_day(zone)),
        _ => None,
    }
}

/// A number of months.
fn months(words: &[&str]) -> Option<u32> {
    let [count, unit] = words else { return None };
    ["month", "months"].iter().any(|known| unit.eq_ignore_ascii_case(known)).then(|| count.parse().ok()).flatten()
}

/// A fixed length of time.
fn fixed(words: &[&str]) -> Option<TimeDelta> {
    parse_span(&words.join(" ")).ok().map(TimeDelta::microseconds)
}

pub(super) fn aggregates(text: &str) -> Result<Vec<Aggregate>> {
    let items = parsed(text, "the list of aggregates", |parser| parser.parse_comma_separated(Parser::parse_select_item))?;
    items.into_iter().map(aggregate).collect()
}

/// One aggregate with its filter and name.
fn aggregate(item: SelectItem) -> Result<Aggregate> {
    let shown = item.to_string();
    let (expression, alias) = match item {
        SelectItem::UnnamedExpr(expression) => (expression, None),
        SelectItem::ExprWithAlias { expr, alias } => (expr, Some(name_of(&alias))),
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
    let over = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Identifier(column))) => Ok(Expression::from(name_of(column))),
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Ok(Expression::sql(expression.to_string())),
        other => {
            Err(refused(format!("`{shown}` is over `{other}`; an aggregate is over a column of the facts or an expression")))
        }
    };
    let unfit =
        |what: &str, argument: &FunctionArg| refused(format!("`{shown}` has the argument {argument}; it must say {what}"));
    let unknown = || refused(format!("`{shown}` is none of {}", AggregateForm::ALL));
    if is_distinct {
        return match (function.as_str(), list.args.as_slice()) {
            ("count", [x]) => Ok(Aggregate::count_distinct(over(x)?)),
            _ => Err(refused(format!("`{shown}` is DISTINCT; only `count` can be DISTINCT"))),
        };
    }
    if let ("count", [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]) = (function.as_str(), list.args.as_slice()) {
        return Ok(Aggregate::count());
    }
    let form = AggregateForm::of(&function, list.args.len()).ok_or_else(unknown)?;
    match (form, list.args.as_slice()) {
        (AggregateForm::Column(aggregate), [x]) => Ok(aggregate(over(x)?)),
        (AggregateForm::Columns(aggregate), [x, y]) => Ok(aggregate(over(x)?, over(y)?)),
        (AggregateForm::WithCount(aggregate), [x, k]) => {
            let count = k.to_string().parse().map_err(|_| unfit(&format!("how many, as in `{function}(x, 3)`"), k))?;
            Ok(aggregate(over(x)?, count))
        }
        (AggregateForm::WithFraction(aggregate), [x, q]) => {
            let fraction = q.to_string().parse().map_err(|_| unfit("a number, as in `quantile(x, 0.9)`", q))?;
            Ok(aggregate(over(x)?, fraction))
        }
        (
            AggregateForm::Column(_) | AggregateForm::Columns(_) | AggregateForm::WithCount(_) | AggregateForm::WithFraction(_),
            _,
        ) => Err(unknown()),
    }
}
