//! The naive oracle: what must come out of a case, found by looking at every fact for every spine row.
//! It refuses to be fast and to share code with the engine it judges.

#![allow(unreachable_pub)]

use std::cmp::{Ordering, Reverse};

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use datafusion::arrow::datatypes::i256;
use serde_json::{Number, Value};

use crate::case_arrow;
use crate::cases::{Aggregate, Case, Columns, Cutoff, Facts, Lookup, Op, Span, micros};

/// Nanoseconds.
const SECOND: i128 = 1_000_000_000;
const DAY: i128 = 86_400 * SECOND;

/// The answers to a case, one row per spine row.
pub fn answer(case: &Case) -> Vec<Vec<Value>> {
    let facts: Vec<Fact> = case.facts.rows.iter().map(|row| read_fact(&case.facts, row)).collect();
    case.spine.rows.iter().map(|row| answer_row(case, &facts, row)).collect()
}

fn answer_row(case: &Case, facts: &[Fact], row: &[Value]) -> Vec<Value> {
    let (on, cutoff) = match (&case.lookup, &case.window) {
        (Some(lookup), None) => (&lookup.on, lookup.cutoff),
        (None, Some(window)) => (&window.on, window.cutoff),
        _ => panic!("a case asks one question: a lookup or a window"),
    };
    let spine = &case.spine;
    let cells = read_row(&spine.columns, row);
    let at = instant(&spine.columns, &spine.at, spine.zone.as_deref(), &cells, earliest_of_local);
    let keys_match = |fact: &Fact| {
        on.iter().all(|(spine_column, fact_column)| {
            let asked = &cells[position(&spine.columns, spine_column)];
            let found = &fact.cells[position(&case.facts.columns, fact_column)];
            *asked != Cell::Null && *found != Cell::Null && asked == found
        })
    };
    let mut candidates = standing(facts, at, cutoff);
    candidates.retain(|fact| keys_match(fact));
    match (&case.lookup, &case.window) {
        (Some(lookup), _) => look_up(&case.facts.columns, lookup, at, &candidates),
        (_, Some(window)) => {
            window.spans.iter().flat_map(|span| answer_span(&case.facts.columns, span, at, &candidates)).collect()
        }
        _ => Vec::new(),
    }
}

// Which facts count.

/// A row of the facts. Only one that has both times can ever be visible.
struct Fact {
    event: Option<i128>,
    known: Option<i128>,
    tie_breaks: Vec<Cell>,
    identity: Vec<Cell>,
    /// What decides where times and tie-breaks do not: the other columns in the order of their names, and the times as written.
    whole: Vec<Cell>,
    cells: Vec<Cell>,
}

impl Fact {
    /// How new the fact is, as far as its times and the declared tie-breaks tell; larger is newer.
    fn newness(&self) -> (Option<i128>, Option<i128>, &[Cell]) {
        (self.event, self.known, &self.tie_breaks)
    }

    /// How new the fact is among the versions of one fact; larger is newer.
    fn version(&self) -> (Option<i128>, Option<i128>, &[Cell], &[Cell]) {
        (self.known, self.event, &self.tie_breaks, &self.whole)
    }

    fn is_version_of_the_same_as(&self, other: &Fact) -> bool {
        !self.identity.is_empty() && !self.identity.contains(&Cell::Null) && self.identity == other.identity
    }
}

fn is_visible(fact: &Fact, at: Option<i128>, cutoff: Cutoff) -> bool {
    let (Some(event), Some(known), Some(at)) = (fact.event, fact.known, at) else { return false };
    match cutoff {
        Cutoff::Exclusive => event < at && known < at,
        Cutoff::Inclusive => event <= at && known <= at,
    }
}

/// The facts visible at an instant without those that a visible version of the same fact replaces.
/// Of versions alike in everything, the last one stands for all.
fn standing(facts: &[Fact], at: Option<i128>, cutoff: Cutoff) -> Vec<&Fact> {
    let visible: Vec<&Fact> = facts.iter().filter(|fact| is_visible(fact, at, cutoff)).collect();
    let mut standing = Vec::new();
    for (i, fact) in visible.iter().enumerate() {
        let replaced = visible
            .iter()
            .enumerate()
            .any(|(j, other)| fact.is_version_of_the_same_as(other) && (other.version(), j) > (fact.version(), i));
        if !replaced {
            standing.push(*fact);
        }
    }
    standing
}

// The questions.

fn look_up(columns: &Columns, lookup: &Lookup, at: Option<i128>, facts: &[&Fact]) -> Vec<Value> {
    let selected: Vec<usize> = lookup.columns.iter().map(|name| position(columns, name)).collect();
    let newest = facts.iter().max_by(|a, b| (a.newness(), &a.whole).cmp(&(b.newness(), &b.whole)));
    let oldest_allowed = lookup.max_age.as_ref().and_then(|age| Some(at? - nanos(age)));
    match newest {
        Some(fact) if oldest_allowed.is_none() || fact.event >= oldest_allowed => {
            selected.iter().map(|&i| render(&fact.cells[i], &columns.0[i].1)).collect()
        }
        _ => vec![Value::Null; selected.len()],
    }
}

fn answer_span(columns: &Columns, span: &Span, at: Option<i128>, facts: &[&Fact]) -> Vec<Value> {
    let ended = at.and_then(|at| newest_that_ended(span, at));
    let start = ended.map(|(start, _)| start).or_else(|| start_of(span, at?));
    let is_inside = |fact: &&Fact| {
        (start.is_none() || fact.event >= start) && ended.is_none_or(|(_, end)| fact.event.is_some_and(|event| event < end))
    };
    let mut inside: Vec<&Fact> = facts.iter().copied().filter(is_inside).collect();
    inside.sort_by(|a, b| (b.newness(), &b.whole).cmp(&(a.newness(), &a.whole)));
    if let Some(condition) = &span.since {
        let newer = inside.iter().take_while(|fact| !passes(columns, condition, fact)).count();
        inside.truncate(newer);
    }
    if let Some(count) = span.facts {
        inside.truncate(count as usize);
    }
    span.aggregates.iter().map(|aggregate| answer_aggregate(columns, aggregate, &inside)).collect()
}

/// The start and the end of the newest span that has ended at an instant, of those that end at boundaries of a clock.
fn newest_that_ended(span: &Span, at: i128) -> Option<(i128, i128)> {
    if span.hop.is_none() && span.hop_months.is_none() {
        return None;
    }
    let zone: Tz = span.zone.as_ref().expect("a zone").parse().expect("a zone of the database");
    let shown = at + offset(zone, at.div_euclid(SECOND)) * SECOND;
    let midnight = |date: NaiveDate| i128::from(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp()) * SECOND;
    let month = |month: i32| {
        midnight(NaiveDate::from_ymd_opt(month.div_euclid(12), month.rem_euclid(12) as u32 + 1, 1).expect("a month"))
    };
    // Each boundary of the clock around the instant, with the local time that is the length before it.
    let boundaries: Vec<(i128, i128)> = match (&span.hop, span.hop_months) {
        (Some(hop), None) => {
            let (hop, length) = (nanos(hop), nanos(span.length.as_ref().expect("a length")));
            // The first Monday of 1970 is the fifth of January.
            let first = if hop % (7 * DAY) == 0 { 4 * DAY } else { 0 };
            let numbers = (shown - 3 * DAY - hop - first).div_euclid(hop)..=(shown + 3 * DAY - first).div_euclid(hop) + 1;
            numbers.map(|number| first + number * hop).map(|local| (local, local - length)).collect()
        }
        (None, Some(hop)) => {
            let (hop, length) = (hop as i32, span.months.expect("months") as i32);
            let date = utc(shown.div_euclid(SECOND)).date();
            let now = date.year() * 12 + date.month0() as i32;
            let is_boundary = |number: &i32| (number - 1970 * 12).rem_euclid(hop) == 0;
            (now - 2 * hop..=now + hop + 1).filter(is_boundary).map(|number| (month(number), month(number - length))).collect()
        }
        _ => panic!("{span:?} has two hops"),
    };
    let ends = boundaries.iter().map(|(local, start)| (instant_of_local(*local, zone), *local, *start));
    let ends: Vec<(i128, i128, i128)> = ends.collect();
    let end = ends.iter().map(|(end, ..)| *end).filter(|end| *end <= at).max().expect("a boundary");
    // Boundaries in a gap of the clock are one: the first of them.
    let (_, start) =
        ends.iter().filter(|(other, ..)| *other == end).map(|(_, local, start)| (local, start)).min().expect("a boundary");
    Some((instant_of_local(*start, zone), end))
}

/// Where the window that ends at an instant begins.
fn start_of(span: &Span, at: i128) -> Option<i128> {
    let zone = || -> Tz { span.zone.as_ref().expect("a zone").parse().expect("a zone of the database") };
    match (&span.this, span.months) {
        (Some(period), None) => Some(start_of_period(period, zone(), at)),
        (None, Some(count)) => Some(months_before(count, zone(), at)),
        _ => span.length.as_ref().map(|length| at - nanos(length)),
    }
}

/// The newest midnight that begins a period.
fn start_of_period(period: &str, zone: Tz, at: i128) -> i128 {
    let today = utc((at + 2 * DAY).div_euclid(SECOND)).date();
    let days = (0..40).map(|days| today - chrono::Days::new(days)).filter(|day| match period {
        "day" => true,
        "week" => day.weekday() == chrono::Weekday::Mon,
        "month" => day.day() == 1,
        _ => panic!("`{period}` is no period"),
    });
    let midnights = days.map(|day| i128::from(day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp()) * SECOND);
    midnights.map(|midnight| instant_of_local(midnight, zone)).filter(|&start| start <= at).max().expect("a period")
}

/// The same local time on the same day of an earlier month, or the end of a month that has no such day.
fn months_before(count: u32, zone: Tz, at: i128) -> i128 {
    let (second, fraction) = (at.div_euclid(SECOND), at.rem_euclid(SECOND));
    let shown = |second: i128| (second + offset(zone, second)) * SECOND;
    // What the clocks showed when they were put back less than a day ago: they had come to the end of that second.
    let goes_back = |from: &i128, seconds: i128| offset(zone, *from) > offset(zone, *from + seconds);
    let quarters = (1..=96).map(|quarter| second - quarter * 900).filter(|from| goes_back(from, 900));
    let put_back = quarters.flat_map(|from| from..from + 900).filter(|before| goes_back(before, 1));
    let local = put_back.map(|before| shown(before) + SECOND).chain([shown(second) + fraction]).max().expect("a time");
    let (date, time) = (utc(local.div_euclid(SECOND)).date(), local.rem_euclid(DAY));
    let month = date.year() * 12 + date.month0() as i32 - count as i32;
    let first = |month: i32| NaiveDate::from_ymd_opt(month.div_euclid(12), month.rem_euclid(12) as u32 + 1, 1).expect("a month");
    let midnight = |date: NaiveDate| i128::from(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp()) * SECOND;
    let same_day = first(month).with_day(date.day()).map(|day| midnight(day) + time);
    instant_of_local(same_day.unwrap_or_else(|| midnight(first(month + 1))), zone)
}

fn answer_aggregate(columns: &Columns, aggregate: &Aggregate, facts: &[&Fact]) -> Value {
    let mut facts = facts.to_vec();
    facts.retain(|fact| aggregate.filter.as_ref().is_none_or(|filter| passes(columns, filter, fact)));
    let Some(column) = &aggregate.column else {
        assert_eq!(aggregate.op, Op::Count, "only a count goes without a column");
        return facts.len().into();
    };
    let column = position(columns, column);
    facts.retain(|fact| fact.cells[column] != Cell::Null);
    if matches!(aggregate.op, Op::MaxBy | Op::MinBy) {
        let by = position(columns, aggregate.by.as_ref().expect("it goes by a column"));
        facts.retain(|fact| fact.cells[by] != Cell::Null);
        let extreme = facts.iter().map(|fact| &fact.cells[by]);
        let extreme = if aggregate.op == Op::MaxBy { extreme.max() } else { extreme.min() }.cloned();
        facts.retain(|fact| Some(&fact.cells[by]) == extreme.as_ref());
    }
    facts.sort_by(|a, b| (a.newness(), &a.cells[column]).cmp(&(b.newness(), &b.cells[column])));
    if aggregate.op == Op::Slope {
        let times: Vec<i128> = facts.iter().filter_map(|fact| fact.event).collect();
        let values: Vec<Cell> = facts.iter().map(|fact| fact.cells[column].clone()).collect();
        return slope_of(&times, &values).map_or(Value::Null, json_of_float);
    }
    let oldest_first: Vec<Cell> = facts.iter().map(|fact| fact.cells[column].clone()).collect();
    aggregate_values(aggregate, &oldest_first, &columns.0[column].1)
}

fn aggregate_values(aggregate: &Aggregate, oldest_first: &[Cell], data_type: &str) -> Value {
    let n = oldest_first.len();
    match aggregate.op {
        Op::Count => return n.into(),
        Op::CountDistinct => return count_distinct(oldest_first).into(),
        // Exact as long as there are few: a case has no more facts than that.
        Op::ApproxCountDistinct => {
            assert!(n <= 512, "an estimate has no oracle");
            return count_distinct(oldest_first).into();
        }
        _ if n == 0 => return Value::Null,
        _ => {}
    }
    let shown = |cell: Option<&Cell>| cell.map_or(Value::Null, |cell| render(cell, data_type));
    match aggregate.op {
        Op::Min => shown(oldest_first.iter().min()),
        Op::Max => shown(oldest_first.iter().max()),
        Op::First => shown(oldest_first.first()),
        // Of the facts with the extreme the newest.
        Op::Last | Op::MaxBy | Op::MinBy => shown(oldest_first.last()),
        Op::FirstK => {
            let k = aggregate.k.expect("first_k has a k");
            oldest_first[..n.min(k)].iter().map(|cell| render(cell, data_type)).collect()
        }
        Op::LastK => {
            let k = aggregate.k.expect("last_k has a k");
            oldest_first[n.saturating_sub(k)..].iter().map(|cell| render(cell, data_type)).collect()
        }
        Op::Sum => sum(oldest_first),
        Op::Mean => json_of_float(mean(oldest_first)),
        Op::Variance => variance_of(oldest_first).map_or(Value::Null, json_of_float),
        Op::Stddev => deviation_of(oldest_first).map_or(Value::Null, json_of_float),
        Op::Median => json_of_float(quantile_of(oldest_first, 0.5)),
        Op::Quantile => json_of_float(quantile_of(oldest_first, aggregate.q.expect("a quantile has a q"))),
        Op::Mode => render(&mode(oldest_first), data_type),
        Op::TopK => {
            let k = aggregate.k.expect("top_k has a k");
            by_frequency(oldest_first).iter().take(k).map(|(value, _)| render(value, data_type)).collect()
        }
        Op::TopShare => json_of_float(by_frequency(oldest_first)[0].1 as f64 / n as f64),
        Op::Entropy => json_of_float(entropy(oldest_first)),
        Op::Count | Op::CountDistinct | Op::ApproxCountDistinct | Op::Slope => unreachable!("answered above"),
    }
}

/// Whether a fact passes `column operator literal`; a NULL passes nothing.
fn passes(columns: &Columns, filter: &str, fact: &Fact) -> bool {
    let parts: Vec<&str> = filter.splitn(3, ' ').collect();
    let [column, operator, literal] = parts[..] else { panic!("`{filter}` is not `column operator literal`") };
    let column = position(columns, column);
    let literal = read_literal(literal.trim(), &columns.0[column].1);
    let cell = &fact.cells[column];
    if *cell == Cell::Null || literal == Cell::Null {
        return false;
    }
    let order = cell.cmp(&literal);
    match operator {
        "=" => order.is_eq(),
        "<>" | "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        ">=" => order.is_ge(),
        _ => panic!("`{operator}` in `{filter}` is no operator"),
    }
}

// Arithmetic.

/// The values in order, with both zeros as 0.0.
fn with_one_zero(cells: &[Cell]) -> Vec<Cell> {
    let one_zero = |cell: &Cell| match cell {
        Cell::Float(float) if *float == 0.0 => Cell::Float(0.0),
        other => other.clone(),
    };
    let mut cells: Vec<Cell> = cells.iter().map(one_zero).collect();
    cells.sort();
    cells
}

fn count_distinct(cells: &[Cell]) -> usize {
    let mut distinct = with_one_zero(cells);
    distinct.dedup();
    distinct.len()
}

/// The value that most of the cells hold; of several the smallest.
fn mode(cells: &[Cell]) -> Cell {
    let cells = with_one_zero(cells);
    let frequency = |value: &Cell| cells.iter().filter(|cell| *cell == value).count();
    // The last of the largest is taken, so the cells are gone through from the largest to the smallest.
    cells.iter().rev().max_by_key(|value| frequency(value)).expect("there are cells").clone()
}

/// The different values with their counts, from the most frequent to the rarest, and of equally frequent ones from the smallest on.
fn by_frequency(cells: &[Cell]) -> Vec<(Cell, usize)> {
    let cells = with_one_zero(cells);
    let mut different = cells.clone();
    different.dedup();
    let count = |value: Cell| (value.clone(), cells.iter().filter(|cell| **cell == value).count());
    let mut counted: Vec<(Cell, usize)> = different.into_iter().map(count).collect();
    counted.sort_by_key(|(_, count)| Reverse(*count));
    counted
}

/// Shannon's entropy: what a value tells on average, in bits.
fn entropy(cells: &[Cell]) -> f64 {
    let share = |count: usize| count as f64 / cells.len() as f64;
    by_frequency(cells).into_iter().map(|(_, count)| -share(count) * share(count).log2()).sum::<f64>() + 0.0
}

fn floats(cells: &[Cell]) -> Vec<f64> {
    let float = |cell: &Cell| match cell {
        Cell::Int(int) => *int as f64,
        Cell::Float(float) => *float,
        Cell::Decimal(units, scale) => ratio(i256::from_i128(*units), power_of_ten(*scale)),
        other => panic!("{other:?} is no number"),
    };
    cells.iter().map(float).collect()
}

fn integer_sum(cells: &[Cell]) -> Option<i128> {
    cells.iter().map(|cell| if let Cell::Int(int) = cell { Some(*int) } else { None }).sum()
}

/// Whole numbers and the scale that they are counted in, if that is what the cells hold.
fn units(cells: &[Cell]) -> Option<(Vec<i256>, u32)> {
    let scale = cells.iter().find_map(|cell| if let Cell::Decimal(_, scale) = cell { Some(*scale) } else { None });
    let unit = |cell: &Cell| match cell {
        Cell::Int(units) | Cell::Decimal(units, _) => Some(i256::from_i128(*units)),
        _ => None,
    };
    Some((cells.iter().map(unit).collect::<Option<_>>()?, scale.unwrap_or(0)))
}

fn power_of_ten(exponent: u32) -> i256 {
    i256::from_i128(10).checked_pow(exponent).expect("a power of ten")
}

/// The float nearest to a quotient: its digits are written out, and a last one says whether anything is left.
fn ratio(numerator: i256, denominator: i256) -> f64 {
    let sign = if numerator.is_negative() { "-" } else { "" };
    let numerator = numerator.checked_abs().expect("a number that has an absolute value");
    let whole = numerator.checked_div(denominator).expect("a quotient");
    let mut rest = numerator.wrapping_sub(whole.wrapping_mul(denominator));
    let mut fraction = String::new();
    for _ in 0..160 {
        rest = rest.checked_mul(i256::from_i128(10)).expect("room for a digit");
        let digit = rest.wrapping_div(denominator);
        rest = rest.wrapping_sub(digit.wrapping_mul(denominator));
        fraction.push_str(&digit.to_string());
    }
    let last = u8::from(rest != i256::ZERO);
    format!("{sign}{whole}.{fraction}{last}").parse().expect("a float")
}

fn mean(cells: &[Cell]) -> f64 {
    match units(cells) {
        Some((units, scale)) if matches!(cells[0], Cell::Decimal(..)) => {
            let sum = units.iter().fold(i256::ZERO, |sum, unit| sum.checked_add(*unit).expect("a sum"));
            ratio(sum, power_of_ten(scale).wrapping_mul(i256::from_i128(units.len() as i128)))
        }
        _ => sum_as_float(cells) / cells.len() as f64,
    }
}

/// Of whole numbers and decimals as if with unlimited precision, rounded once.
fn variance_of(cells: &[Cell]) -> Option<f64> {
    let Some((units, scale)) = units(cells).filter(|(units, _)| units.len() > 1) else {
        return spread(&floats(cells)).map(|(variance, scale)| variance * scale * scale);
    };
    let n = i256::from_i128(units.len() as i128);
    // Nothing changes when all are moved alike, and the squares stay small.
    let moved: Vec<i256> = units.iter().map(|unit| unit.checked_sub(units[0]).expect("a difference")).collect();
    let add = |a: i256, b: i256| a.checked_add(b).expect("a sum");
    let times = |a: i256, b: i256| a.checked_mul(b).expect("a product");
    let (sum, squares) = moved.iter().fold((i256::ZERO, i256::ZERO), |(s, q), &x| (add(s, x), add(q, times(x, x))));
    let spread = times(n, squares).checked_sub(times(sum, sum)).expect("a difference");
    Some(ratio(spread, times(times(n, n.wrapping_sub(i256::ONE)), power_of_ten(2 * scale))))
}

/// The slope of values over times in nanoseconds, per second, as if with unlimited precision and rounded once. Nothing changes
/// when all times are moved alike, or all values, and so the products stay small.
fn slope_of(times: &[i128], cells: &[Cell]) -> Option<f64> {
    let (values, scale, exponent) = match units(cells) {
        Some((values, scale)) => (values, scale, 0),
        None => {
            let floats = floats(cells);
            if floats.iter().any(|float| !float.is_finite()) {
                return times.iter().any(|time| *time != times[0]).then_some(f64::NAN);
            }
            let (values, exponent) = binary_units(&floats);
            (values, 0, exponent)
        }
    };
    let add = |a: i256, b: i256| a.checked_add(b).expect("a sum");
    let product_of = |a: i256, b: i256| a.checked_mul(b).expect("a product");
    let n = i256::from_i128(times.len() as i128);
    let (mut t, mut x, mut tt, mut tx) = (i256::ZERO, i256::ZERO, i256::ZERO, i256::ZERO);
    for (time, value) in times.iter().zip(&values) {
        let time = i256::from_i128(time - times[0]);
        let value = value.checked_sub(values[0]).expect("a difference");
        (t, x) = (add(t, time), add(x, value));
        (tt, tx) = (add(tt, product_of(time, time)), add(tx, product_of(time, value)));
    }
    let spread = add(product_of(n, tt), product_of(t, t).wrapping_neg());
    if spread == i256::ZERO {
        return None;
    }
    let products = add(product_of(n, tx), product_of(t, x).wrapping_neg());
    let per_second = product_of(products, i256::from_i128(SECOND));
    Some(ratio(per_second, product_of(spread, power_of_ten(scale))) * 2f64.powi(exponent))
}

/// Floats as whole numbers of a power of two, and its exponent.
fn binary_units(floats: &[f64]) -> (Vec<i256>, i32) {
    let parts = floats.iter().map(|float| {
        let exponent = (float.to_bits() >> 52 & 0x7ff) as i32;
        let fraction = i128::from(float.to_bits() & ((1 << 52) - 1));
        let mantissa = if exponent == 0 { fraction } else { fraction | 1 << 52 };
        (if *float < 0.0 { -mantissa } else { mantissa }, exponent.max(1) - 1_075)
    });
    let parts: Vec<(i128, i32)> = parts.collect();
    let exponent = parts.iter().filter(|(mantissa, _)| *mantissa != 0).map(|(_, exponent)| *exponent).min().unwrap_or(0);
    let unit = |(mantissa, own): (i128, i32)| {
        let shift = if mantissa == 0 { 0 } else { (own - exponent) as u32 };
        assert!(shift < 80, "floats of alike magnitudes");
        i256::from_i128(mantissa).checked_mul(i256::from_i128(1 << shift)).expect("a product")
    };
    (parts.into_iter().map(unit).collect(), exponent)
}

fn deviation_of(cells: &[Cell]) -> Option<f64> {
    match units(cells) {
        Some(_) => variance_of(cells).map(f64::sqrt),
        None => spread(&floats(cells)).map(|(variance, scale)| variance.sqrt() * scale),
    }
}

/// The variance of numbers divided by a power of two so that their squares are floats, and that power.
fn spread(values: &[f64]) -> Option<(f64, f64)> {
    let largest = values.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    let scale = if largest > 1e120 {
        2f64.powi(600)
    } else if largest < 1e-120 {
        2f64.powi(-600)
    } else {
        1.0
    };
    let scaled: Vec<f64> = values.iter().map(|x| if x.is_finite() { x / scale } else { *x }).collect();
    Some((variance(&scaled)?, scale))
}

fn sum(cells: &[Cell]) -> Value {
    if let (Some((units, scale)), Cell::Decimal(..)) = (units(cells), &cells[0]) {
        let sum = units.iter().fold(i256::ZERO, |sum, unit| sum.checked_add(*unit).expect("a sum"));
        return render_decimal(sum.to_i128().expect("a sum of 38 digits"), scale).into();
    }
    integer_sum(cells).map_or_else(|| json_of_float(exact_sum(&floats(cells))), json_of_int)
}

fn sum_as_float(cells: &[Cell]) -> f64 {
    integer_sum(cells).map_or_else(|| exact_sum(&floats(cells)), |sum| sum as f64)
}

/// The sum of all values as if with unlimited precision, rounded once, half to even. A sum of nothing but zeros is 0.0.
fn exact_sum(values: &[f64]) -> f64 {
    if values.iter().any(|value| !value.is_finite()) {
        return values.iter().filter(|value| !value.is_finite()).sum();
    }
    let (mut positive, mut negative) = (FixedPoint::zero(), FixedPoint::zero());
    for value in values {
        if *value < 0.0 { &mut negative } else { &mut positive }.add(value.abs());
    }
    if positive.is_smaller_than(&negative) { -negative.minus(&positive).to_float() } else { positive.minus(&negative).to_float() }
}

/// A whole number of 2^-1074, the smallest float: 32 bits to a limb, the least first. It holds the sum of any 2^64 floats.
struct FixedPoint([u32; 68]);

impl FixedPoint {
    fn zero() -> Self {
        FixedPoint([0; 68])
    }

    /// Adds a finite float without a sign.
    fn add(&mut self, value: f64) {
        let exponent = (value.to_bits() >> 52) as usize;
        let fraction = value.to_bits() & ((1 << 52) - 1);
        let (mantissa, shift) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        let mut carry = u128::from(mantissa) << (shift % 32);
        let mut limb = shift / 32;
        while carry > 0 {
            carry += u128::from(self.0[limb]);
            self.0[limb] = carry as u32;
            carry >>= 32;
            limb += 1;
        }
    }

    fn is_smaller_than(&self, other: &Self) -> bool {
        self.0.iter().rev().lt(other.0.iter().rev())
    }

    /// The difference to a number that is not larger.
    fn minus(&self, other: &Self) -> Self {
        let mut difference = Self::zero();
        let mut borrow = 0;
        for limb in 0..self.0.len() {
            let signed = i64::from(self.0[limb]) - i64::from(other.0[limb]) - borrow;
            difference.0[limb] = signed as u32;
            borrow = i64::from(signed < 0);
        }
        difference
    }

    fn bit(&self, index: usize) -> u64 {
        u64::from(self.0[index / 32] >> (index % 32) & 1)
    }

    /// The nearest float, half to even. The bits of a float are its 53 bit mantissa plus the shift of it times 2^52.
    fn to_float(&self) -> f64 {
        let length = (0..self.0.len() * 32).rev().find(|&index| self.bit(index) == 1).map_or(0, |top| top + 1);
        let shift = length.saturating_sub(53);
        let mantissa = (0..53).map(|index| self.bit(shift + index) << index).sum::<u64>();
        let half = shift > 0 && self.bit(shift - 1) == 1;
        let beyond_half = shift > 1 && (0..shift - 1).any(|index| self.bit(index) == 1);
        let rounds_up = half && (beyond_half || mantissa % 2 == 1);
        let bits = ((shift as u64) << 52) + mantissa + u64::from(rounds_up);
        f64::from_bits(bits.min(f64::INFINITY.to_bits()))
    }
}

/// The variance of a sample, in two passes: deviations from about the mean, then the error of that mean taken out.
fn variance(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    if values.len() < 2 {
        return None;
    }
    if values.iter().any(|value| !value.is_finite()) {
        return Some(f64::NAN);
    }
    let center = exact_sum(&values.iter().map(|value| value / n).collect::<Vec<_>>());
    let deviations: Vec<f64> = values.iter().map(|value| value - center).collect();
    let squares: Vec<f64> = deviations.iter().map(|deviation| deviation * deviation).collect();
    let off = exact_sum(&deviations);
    Some(((exact_sum(&squares) - off * off / n) / (n - 1.0)).max(0.0))
}

/// Of whole numbers and decimals a quotient that is rounded once; of floats see [`quantile`].
fn quantile_of(cells: &[Cell], q: f64) -> f64 {
    let Some((mut units, scale)) = units(cells) else { return quantile(floats(cells), q) };
    units.sort();
    let exponent = (q.to_bits() >> 52) as u32;
    let mantissa = u128::from(q.to_bits() & ((1 << 52) - 1) | u64::from(exponent > 0) << 52);
    let down = 1_075 - exponent;
    let (mantissa, down) =
        if q == 0.0 { (0, 0) } else { (mantissa >> mantissa.trailing_zeros(), down - mantissa.trailing_zeros()) };
    let place = mantissa * (units.len() - 1) as u128;
    let (below, part) = ((place >> down) as usize, place & ((1 << down) - 1));
    let (low, high) = (units[below], units[(below + 1).min(units.len() - 1)]);
    let whole = i256::from_i128(1 << down);
    let way = high.wrapping_sub(low).wrapping_mul(i256::from_i128(part as i128));
    ratio(low.wrapping_mul(whole).wrapping_add(way), whole.wrapping_mul(power_of_ten(scale)))
}

/// The value at `q` of the way through the values in order, linear between two neighbours: all products exactly, and rounded once.
fn quantile(mut values: Vec<f64>, q: f64) -> f64 {
    // A product as the nearest float, and what is missing.
    let product = |a: f64, b: f64| [a * b, a.mul_add(b, -(a * b))];
    values.sort_by(f64::total_cmp);
    let [place, missing] = product(q, (values.len() - 1) as f64);
    let at = if place.fract() == 0.0 && missing < 0.0 { place - 1.0 } else { place.floor() };
    let (below, above) = (values[at as usize], values[(at as usize + 1).min(values.len() - 1)]);
    let shares = [place - at, missing];
    if shares == [0.0, 0.0] || below.to_bits() == above.to_bits() {
        return below;
    }
    if !below.is_finite() || !above.is_finite() {
        return below + above;
    }
    let parts = shares.iter().flat_map(|&share| [product(-below, share), product(above, share)].concat());
    exact_sum(&std::iter::once(below).chain(parts).collect::<Vec<_>>())
}

// Values.

/// A value of any column. Integers of all widths are one kind; dates are whole days and times are nanoseconds since 1970, both as
/// written, whatever the zone.
#[derive(Debug, Clone)]
enum Cell {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    /// Units of the last digit, and how many digits are behind the point.
    Decimal(i128, u32),
    Text(String),
}

impl Ord for Cell {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Cell::Null, Cell::Null) => Ordering::Equal,
            (Cell::Null, _) => Ordering::Less,
            (_, Cell::Null) => Ordering::Greater,
            (Cell::Bool(a), Cell::Bool(b)) => a.cmp(b),
            (Cell::Int(a), Cell::Int(b)) => a.cmp(b),
            (Cell::Float(a), Cell::Float(b)) => a.total_cmp(b),
            (Cell::Decimal(a, _), Cell::Decimal(b, _)) => a.cmp(b),
            (Cell::Text(a), Cell::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Cell::Int(a), Cell::Float(b)) => (*a as f64).total_cmp(b),
            _ => panic!("{self:?} and {other:?} cannot be compared"),
        }
    }
}

impl PartialOrd for Cell {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Cell {}

fn position(columns: &Columns, name: &str) -> usize {
    columns.0.iter().position(|(column, _)| column == name).unwrap_or_else(|| panic!("there is no column `{name}`"))
}

fn read_fact(facts: &Facts, row: &[Value]) -> Fact {
    let cells = read_row(&facts.columns, row);
    let pick = |names: &[String]| names.iter().map(|name| cells[position(&facts.columns, name)].clone()).collect();
    let time = |name: &str| instant(&facts.columns, name, facts.zone.as_deref(), &cells, instant_of_local);
    let event = time(&facts.event_time);
    let known = match (&facts.known_at, &facts.delay) {
        (Some(column), None) => time(column),
        (None, Some(delay)) => event.map(|event| event + nanos(delay)),
        _ => panic!("facts have a known-at or a delay"),
    };
    let times: Vec<String> = [Some(&facts.event_time), facts.known_at.as_ref()].into_iter().flatten().cloned().collect();
    let mut others: Vec<String> = facts.columns.0.iter().map(|(name, _)| name.clone()).collect();
    others.retain(|name| !times.contains(name) && !facts.tie_break.contains(name));
    others.sort();
    others.extend(times);
    let (tie_breaks, identity, whole) = (pick(&facts.tie_break), pick(&facts.identity), pick(&others));
    Fact { event, known, tie_breaks, identity, whole, cells }
}

fn read_row(columns: &Columns, row: &[Value]) -> Vec<Cell> {
    assert_eq!(columns.0.len(), row.len(), "a row has a value per column");
    columns.0.iter().zip(row).map(|((_, data_type), value)| read_cell(value, data_type)).collect()
}

fn read_cell(value: &Value, data_type: &str) -> Cell {
    if value.is_null() {
        return Cell::Null;
    }
    let text = || value.as_str().unwrap_or_else(|| panic!("{value} is no {data_type}"));
    match data_type {
        "bool" => Cell::Bool(value.as_bool().unwrap_or_else(|| panic!("{value} is no bool"))),
        "string" => Cell::Text(text().to_owned()),
        _ if data_type.starts_with("decimal(") => {
            let (_, scale) = case_arrow::digits(data_type);
            Cell::Decimal(case_arrow::units(text(), scale), scale)
        }
        "float32" => Cell::Float(f64::from(read_float(value) as f32)),
        "float64" => Cell::Float(read_float(value)),
        "date32" => Cell::Int(read_time(&format!("{}T00:00:00", text())) / DAY),
        _ if data_type.starts_with("timestamp[") => Cell::Int(read_time(text())),
        _ if data_type.contains("int") => Cell::Int(read_int(value).unwrap_or_else(|| panic!("{value} is no {data_type}"))),
        _ => panic!("`{data_type}` is no type"),
    }
}

fn read_int(value: &Value) -> Option<i128> {
    value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))
}

fn read_float(value: &Value) -> f64 {
    match value.as_str() {
        Some("NaN") => f64::NAN,
        Some("inf") => f64::INFINITY,
        Some("-inf") => f64::NEG_INFINITY,
        _ => value.as_f64().unwrap_or_else(|| panic!("{value} is no float")),
    }
}

/// Nanoseconds from 1970 to a time as written, as if of UTC.
fn read_time(text: &str) -> i128 {
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").unwrap_or_else(|e| panic!("`{text}`: {e}"));
    i128::from(time.and_utc().timestamp()) * SECOND + i128::from(time.and_utc().timestamp_subsec_nanos())
}

/// A literal of a filter: `2`, `1.5`, `true` or `'text'`, as a value of the column's type.
fn read_literal(literal: &str, data_type: &str) -> Cell {
    let value = match literal.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        Some(quoted) => Value::String(quoted.replace("''", "'")),
        None => serde_json::from_str(literal).unwrap_or_else(|e| panic!("literal `{literal}`: {e}")),
    };
    match data_type.contains("int") && value.is_f64() {
        true => Cell::Float(read_float(&value)),
        false => read_cell(&value, data_type),
    }
}

fn render(cell: &Cell, data_type: &str) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Bool(bool) => (*bool).into(),
        Cell::Int(days) if data_type == "date32" => Value::String(render_date(*days)),
        Cell::Int(time) if data_type.starts_with("timestamp[") => Value::String(render_time(*time)),
        Cell::Int(int) => json_of_int(*int),
        Cell::Float(float) => json_of_float(*float),
        Cell::Decimal(units, scale) => render_decimal(*units, *scale).into(),
        Cell::Text(text) => text.clone().into(),
    }
}

fn render_decimal(units: i128, scale: u32) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let one = 10u128.pow(scale);
    match scale {
        0 => units.to_string(),
        _ => format!("{sign}{}.{:0width$}", units.unsigned_abs() / one, units.unsigned_abs() % one, width = scale as usize),
    }
}

fn render_date(days: i128) -> String {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("1970 is a year");
    (epoch + chrono::TimeDelta::days(days as i64)).format("%Y-%m-%d").to_string()
}

/// A time with no more digits of the second than it needs.
fn render_time(nanos: i128) -> String {
    let seconds = utc(nanos.div_euclid(SECOND)).format("%Y-%m-%dT%H:%M:%S").to_string();
    match nanos.rem_euclid(SECOND) {
        0 => seconds,
        fraction => format!("{seconds}.{fraction:09}").trim_end_matches('0').to_owned(),
    }
}

/// An integer, or the nearest float to one that is beyond 64 bits.
fn json_of_int(int: i128) -> Value {
    let signed = i64::try_from(int).map(Value::from);
    signed.or_else(|_| u64::try_from(int).map(Value::from)).unwrap_or_else(|_| json_of_float(int as f64))
}

fn json_of_float(float: f64) -> Value {
    match Number::from_f64(float) {
        Some(number) => Value::Number(number),
        None if float.is_nan() => "NaN".into(),
        None if float > 0.0 => "inf".into(),
        None => "-inf".into(),
    }
}

// Instants.

fn nanos(duration: &str) -> i128 {
    i128::from(micros(duration)) * 1_000
}

/// The instant that a time column holds: a date is its first moment, and what has no zone of its own is of the declared one.
fn instant(columns: &Columns, name: &str, zone: Option<&str>, cells: &[Cell], read: fn(i128, Tz) -> i128) -> Option<i128> {
    let column = position(columns, name);
    let data_type = columns.0[column].1.as_str();
    let written = match &cells[column] {
        Cell::Null => return None,
        Cell::Int(days) if data_type == "date32" => days * DAY,
        Cell::Int(nanos) => *nanos,
        other => panic!("{other:?} is no time"),
    };
    if data_type.ends_with(", UTC]") {
        return Some(written);
    }
    let zone = zone.unwrap_or_else(|| panic!("`{name}` has no zone of its own and none is declared"));
    Some(read(written, zone.parse().unwrap_or_else(|e| panic!("zone `{zone}`: {e}"))))
}

/// The first instant at which the clocks of a zone show a time; of one that they jump over, what it is by the clocks after it.
fn earliest_of_local(local: i128, zone: Tz) -> i128 {
    let (second, fraction) = (local.div_euclid(SECOND), local.rem_euclid(SECOND));
    let shown_at = |instant: i128| instant + offset(zone, instant);
    let hours = || (-30..=30).map(|hour| second + hour * 3_600);
    let meant = hours().map(|near| second - offset(zone, near)).filter(|&instant| shown_at(instant) == second).min();
    let by_the_clocks_after = || second - offset(zone, instant_of_local(local, zone).div_euclid(SECOND));
    meant.unwrap_or_else(by_the_clocks_after) * SECOND + fraction
}

/// The last instant at which the clocks of a zone show a time, or the one at which they jump over it.
fn instant_of_local(local: i128, zone: Tz) -> i128 {
    let (second, fraction) = (local.div_euclid(SECOND), local.rem_euclid(SECOND));
    let shown_at = |instant: i128| instant + offset(zone, instant);
    // Every zone is less than 30 hours from UTC, and none changes its clocks twice within an hour.
    let hours = || (-30..=30).map(|hour| second + hour * 3_600);
    let meant = hours().map(|near| second - offset(zone, near)).filter(|&instant| shown_at(instant) == second).max();
    if let Some(meant) = meant {
        return meant * SECOND + fraction;
    }
    let after = hours().find(|&hour| shown_at(hour) > second).expect("the clocks go on");
    (after - 3_600..=after).find(|&instant| shown_at(instant) > second).expect("the clocks go on") * SECOND
}

/// How many seconds the clocks of a zone are ahead of UTC at an instant in seconds.
fn offset(zone: Tz, instant: i128) -> i128 {
    zone.offset_from_utc_datetime(&utc(instant)).fix().local_minus_utc().into()
}

fn utc(second: i128) -> NaiveDateTime {
    DateTime::from_timestamp(second as i64, 0).expect("a time of this age").naive_utc()
}

// Comparing.

/// Below this a number's error is measured against this instead of against the number: what should be 0 is never quite.
const SMALL: f64 = 1e-3;

/// Whether two values are the same but for a relative error of floats. Without tolerance even the sign of a zero counts. Integers
/// are always exact; an integer and a float are compared as floats.
pub fn same(expected: &Value, got: &Value, tolerance: f64) -> bool {
    match (expected, got) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, tolerance)),
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => {
            let (a, b) = (read_float(expected), read_float(got));
            if tolerance == 0.0 { a.to_bits() == b.to_bits() } else { is_near(a, b, tolerance) }
        }
        _ => expected == got,
    }
}

fn is_near(a: f64, b: f64, tolerance: f64) -> bool {
    a == b || (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(SMALL)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn local(text: &str, zone: &str) -> String {
        render_time(instant_of_local(read_time(text), zone.parse().unwrap()))
    }

    #[test]
    fn a_local_time_of_a_spine_is_the_earliest_instant_that_it_can_be() {
        let earliest = |text: &str, zone: &str| render_time(earliest_of_local(read_time(text), zone.parse().unwrap()));
        let (new_york, berlin) = ("America/New_York", "Europe/Berlin");
        assert_eq!(earliest("2014-11-02T01:00:00", new_york), "2014-11-02T05:00:00");
        assert_eq!(earliest("2014-11-02T01:59:59.5", new_york), "2014-11-02T05:59:59.5");
        assert_eq!(earliest("2014-11-02T02:00:00", new_york), "2014-11-02T07:00:00");
        assert_eq!(earliest("2014-03-09T02:59:59.5", new_york), "2014-03-09T06:59:59.5");
        assert_eq!(earliest("2014-03-30T02:30:00.25", berlin), "2014-03-30T00:30:00.25");
    }

    #[test]
    fn a_local_time_is_the_later_instant_or_the_one_after_the_gap() {
        let (new_york, berlin) = ("America/New_York", "Europe/Berlin");
        assert_eq!(local("2014-11-02T00:59:59.999999999", new_york), "2014-11-02T04:59:59.999999999");
        assert_eq!(local("2014-11-02T01:00:00", new_york), "2014-11-02T06:00:00");
        assert_eq!(local("2014-11-02T01:59:59.5", new_york), "2014-11-02T06:59:59.5");
        assert_eq!(local("2014-11-02T02:00:00", new_york), "2014-11-02T07:00:00");
        assert_eq!(local("2014-03-09T01:59:59.5", new_york), "2014-03-09T06:59:59.5");
        assert_eq!(local("2014-03-09T02:00:00", new_york), "2014-03-09T07:00:00");
        assert_eq!(local("2014-03-09T02:59:59.999999999", new_york), "2014-03-09T07:00:00");
        assert_eq!(local("2014-03-09T03:00:00", new_york), "2014-03-09T07:00:00");
        assert_eq!(local("2014-03-30T02:30:00.25", berlin), "2014-03-30T01:00:00");
        assert_eq!(local("2014-10-26T02:00:00", berlin), "2014-10-26T01:00:00");
        assert_eq!(local("2014-10-26T01:59:59", berlin), "2014-10-25T23:59:59");
        assert_eq!(local("1969-12-31T23:59:59.999999999", "UTC"), "1969-12-31T23:59:59.999999999");
        // Clocks that jump at midnight, by half an hour, and over a whole day.
        assert_eq!(local("2014-10-19T00:00:00", "America/Sao_Paulo"), "2014-10-19T03:00:00");
        assert_eq!(local("2014-10-05T02:29:59.9", "Australia/Lord_Howe"), "2014-10-04T15:30:00");
        assert_eq!(local("2014-04-06T01:45:00", "Australia/Lord_Howe"), "2014-04-05T15:15:00");
        assert_eq!(local("2011-12-30T12:00:00", "Pacific/Apia"), "2011-12-30T10:00:00");
    }

    #[test]
    fn calendar_windows_begin_where_the_clocks_say() {
        let (new_york, at) = ("America/New_York".parse::<Tz>().unwrap(), read_time);
        let period = |period: &str, text: &str| render_time(start_of_period(period, new_york, at(text)));
        assert_eq!(period("day", "2014-03-10T03:59:59.999999999"), "2014-03-09T05:00:00");
        assert_eq!(period("day", "2014-03-10T04:00:00"), "2014-03-10T04:00:00");
        assert_eq!(period("week", "2014-03-16T12:00:00"), "2014-03-10T04:00:00");
        assert_eq!(period("month", "2014-04-01T03:59:59"), "2014-03-01T05:00:00");
        let month = |text: &str| render_time(months_before(1, new_york, at(text)));
        assert_eq!(month("2014-03-31T16:00:00.5"), "2014-03-01T05:00:00");
        assert_eq!(month("2014-01-31T17:00:00.5"), "2013-12-31T17:00:00.5");
        assert_eq!(month("2014-11-02T05:59:59"), "2014-10-02T05:59:59");
        assert_eq!(month("2014-11-02T06:30:00.5"), "2014-10-02T06:00:00");
        assert_eq!(month("2014-11-02T07:00:00.5"), "2014-10-02T06:00:00.5");
        assert_eq!(month("2014-04-09T06:30:00"), "2014-03-09T07:00:00");
    }

    #[test]
    fn a_sum_is_rounded_once() {
        let exact = |values: &[f64], sum: f64| assert_eq!(exact_sum(values).to_bits(), sum.to_bits(), "{values:?}");
        exact(&[0.1; 10], 1.0);
        exact(&[1e308, 1e308, -1e308], 1e308);
        exact(&[1e308, 1e308], f64::INFINITY);
        exact(&[1e16, 1.0, -1e16], 1.0);
        exact(&[1.0, f64::EPSILON / 2.0], 1.0);
        exact(&[1.0, f64::EPSILON / 2.0, 5e-324], 1.0 + f64::EPSILON);
        exact(&[f64::MIN_POSITIVE, -5e-324], f64::from_bits((1 << 52) - 1));
        exact(&[f64::MAX, f64::MAX, -f64::MAX, -f64::MAX, -5e-324], -5e-324);
        exact(&[f64::INFINITY, 1.0], f64::INFINITY);
        exact(&[-0.0], 0.0);
        assert!(exact_sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
        assert!(exact_sum(&[f64::NAN, f64::INFINITY]).is_nan());
    }

    #[test]
    fn spread_and_middle() {
        assert_eq!(count_distinct(&[0.0, -0.0, f64::NAN, f64::NAN, 1.0].map(Cell::Float)), 3);
        assert_eq!(mode(&[3.0, 1.0, 3.0, 1.0, 2.0].map(Cell::Float)), Cell::Float(1.0));
        assert_eq!(mode(&[f64::NAN, -0.0, 0.0, f64::NAN, -0.0].map(Cell::Float)), Cell::Float(0.0));
        let counted = by_frequency(&[2.0, -0.0, 3.0, f64::NAN, 3.0, 0.0, 2.0, 3.0].map(Cell::Float));
        assert_eq!(counted, [(3.0, 3), (0.0, 2), (2.0, 2), (f64::NAN, 1)].map(|(value, count)| (Cell::Float(value), count)));
        assert_eq!(entropy(&[2.0, -0.0, 3.0, f64::NAN, 3.0, 0.0, f64::NAN, 2.0].map(Cell::Float)), 2.0);
        let slope = |values: &[f64]| {
            let times: Vec<i128> = (0..values.len() as i128).map(|i| 1_700_000_000 * SECOND + i * SECOND / 2).collect();
            slope_of(&times, &values.iter().copied().map(Cell::Float).collect::<Vec<_>>())
        };
        assert_eq!((slope(&[1.0]), slope(&[0.5, 2.0]), slope(&[0.0, 1.0, 1.0, 4.0])), (None, Some(3.0), Some(2.4)));
        assert_eq!((slope(&[0.1, 0.1, 0.1]), slope(&[0.0, -0.0])), (Some(0.0), Some(0.0)));
        assert_eq!(slope_of(&[7, 7], &[Cell::Int(1), Cell::Int(2)]), None);
        assert_eq!(slope_of(&[0, 3 * SECOND], &[Cell::Decimal(10, 2), Cell::Decimal(20, 2)]), Some(0.1 / 3.0));
        assert!(slope(&[1.0, f64::INFINITY]).unwrap().is_nan());
        assert_eq!(variance(&[1.0]), None);
        assert_eq!(variance(&[1e15, 1e15 + 0.125]), Some(0.0078125));
        assert_eq!(variance(&[1.0, 2.0, 3.0, 4.0]), Some(5.0 / 3.0));
        assert_eq!(quantile(vec![4.0, 1.0, 3.0, 2.0], 0.5), 2.5);
        assert_eq!(quantile(vec![10.0, 20.0], 0.25), 12.5);
        assert_eq!(quantile(vec![1.0, 2.0, f64::NAN], 0.5), 2.0);
        assert_eq!(quantile(vec![f64::INFINITY, f64::INFINITY], 0.5), f64::INFINITY);
    }

    #[test]
    fn sameness() {
        assert!(same(&json!([1, 2.0, null, "inf"]), &json!([1.0, 2, null, "inf"]), 0.0));
        assert!(!same(&json!(0.0), &json!(-0.0), 0.0) && same(&json!(0.0), &json!(-0.0), 1e-9));
        assert!(!same(&json!(1.0), &json!(1.0 + f64::EPSILON), 0.0) && same(&json!(1.0), &json!(1.0 + f64::EPSILON), 1e-9));
        assert!(!same(&json!(1e308), &json!(-1e308), 1e-9) && !same(&json!(1e308), &json!("inf"), 1e-9));
        assert!(!same(&json!([1]), &json!([1, 1]), 1e-9) && !same(&json!(null), &json!(0), 1e-9));
        assert!(!same(&json!(u64::MAX), &json!(u64::MAX - 1), 1e-9));
    }

    /// Facts of key 1 with an `id`, asked at noon of 2014-06-02 unless the question says otherwise.
    fn ask(rows: Value, question: (&str, Value)) -> Value {
        let mut case = json!({
            "name": "", "why": "", "expected": [],
            "facts": {"event_time": "at", "known_at": "known", "identity": ["id"], "columns": {}, "rows": rows},
            "spine": {"at": "t", "columns": {}, "rows": [[1, "2014-06-02T12:00:00"]]}
        });
        case[question.0] = question.1;
        let mut case: Case = serde_json::from_value(case).unwrap();
        let times = [("at", "timestamp[ns, UTC]"), ("known", "timestamp[us, UTC]")];
        case.facts.columns = columns(&[("k", "int8"), ("id", "int8"), times[0], times[1], ("v", "float64")]);
        case.spine.columns = columns(&[("k", "uint64"), ("t", "timestamp[s, UTC]")]);
        json!(answer(&case)[0])
    }

    fn columns(columns: &[(&str, &str)]) -> Columns {
        Columns(columns.iter().map(|(name, data_type)| (name.to_string(), data_type.to_string())).collect())
    }

    fn lookup(cutoff: &str, max_age: &str) -> (&'static str, Value) {
        ("lookup", json!({"on": [["k", "k"]], "columns": ["v"], "cutoff": cutoff, "max_age": max_age}))
    }

    fn list(length: Value, cutoff: &str) -> (&'static str, Value) {
        let aggregates = json!([{"op": "last_k", "column": "v", "k": 9}]);
        ("window", json!({"on": [["k", "k"]], "cutoff": cutoff, "spans": [{"length": length, "aggregates": aggregates}]}))
    }

    #[test]
    fn a_cutoff_counts_for_both_times() {
        let rows = json!([
            [1, null, "2014-06-02T11:59:59.999999999", "2014-06-02T11:59:59.999999", 1.0],
            [1, null, "2014-06-02T11:59:59.999999999", "2014-06-02T12:00:00", 2.0],
            [1, null, "2014-06-02T12:00:00", "2014-06-02T11:00:00", 3.0],
            [1, null, "2014-06-02T12:00:00.000000001", "2014-06-02T12:00:00", 4.0],
            [1, null, "2014-06-02T11:00:00", null, 5.0],
            [1, null, null, "2014-06-02T11:00:00", 6.0]
        ]);
        assert_eq!(ask(rows.clone(), list(json!(null), "exclusive")), json!([[1.0]]));
        assert_eq!(ask(rows.clone(), list(json!(null), "inclusive")), json!([[1.0, 2.0, 3.0]]));
        assert_eq!(ask(rows.clone(), lookup("exclusive", "0us")), json!([null]));
        assert_eq!(ask(rows.clone(), lookup("exclusive", "1us")), json!([1.0]));
        assert_eq!(ask(rows, lookup("inclusive", "0us")), json!([3.0]));
    }

    #[test]
    fn a_window_starts_with_its_first_instant() {
        let rows = json!([
            [1, null, "2014-06-02T11:00:00", "2014-06-02T11:00:00", 1.0],
            [1, null, "2014-06-02T10:59:59.999999999", "2014-06-02T11:00:00", 2.0]
        ]);
        assert_eq!(ask(rows.clone(), list(json!("1h"), "exclusive")), json!([[1.0]]));
        assert_eq!(ask(rows.clone(), list(json!("1h"), "inclusive")), json!([[1.0]]));
        assert_eq!(ask(rows.clone(), list(json!("60m"), "exclusive")), json!([[1.0]]));
        assert_eq!(ask(rows.clone(), list(json!("1us"), "exclusive")), json!([null]));
        assert_eq!(ask(rows, list(json!(null), "exclusive")), json!([[2.0, 1.0]]));
    }

    #[test]
    fn a_replaced_fact_is_gone_once_its_replacement_is_visible() {
        let day = |hour: u32| format!("2014-06-02T{hour:02}:00:00");
        // Replaced by an older event under another key.
        let moved = json!([[1, 7, day(9), day(9), 1.0], [2, 7, day(1), day(10), 2.0], [1, 8, day(8), day(8), 3.0]]);
        assert_eq!(ask(moved, lookup("exclusive", "1d")), json!([3.0]));
        // Not yet replaced: the replacement is known, but happens at the instant.
        let pending = json!([[1, 7, day(9), day(9), 1.0], [1, 7, day(12), day(10), 2.0]]);
        assert_eq!(ask(pending.clone(), list(json!(null), "exclusive")), json!([[1.0]]));
        assert_eq!(ask(pending, list(json!(null), "inclusive")), json!([[2.0]]));
        // Known at once: the newest event stays, once.
        let tied = json!([[1, 7, day(9), day(9), 1.0], [1, 7, day(9), day(9), 2.0], [1, 7, day(9), day(9), 2.0]]);
        assert_eq!(ask(tied, list(json!(null), "exclusive")), json!([[2.0]]));
        // Replaced by what lies outside of the window.
        let left = json!([[1, 7, day(11), day(11), 1.0], [1, 7, day(1), "2014-06-02T11:30:00", 2.0]]);
        assert_eq!(ask(left, list(json!("1h"), "exclusive")), json!([null]));
        // Without an identity every row is its own.
        let own = json!([[1, null, day(9), day(9), 1.0], [1, null, day(9), day(9), 1.0], [1, null, day(9), day(10), null]]);
        assert_eq!(ask(own.clone(), list(json!(null), "exclusive")), json!([[1.0, 1.0]]));
        assert_eq!(ask(own, lookup("exclusive", "1d")), json!([null]));
    }
}
