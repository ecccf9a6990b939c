//! Random small cases that crowd where the time rule is hard: ties, boundaries, changes of the clocks, NULL, odd floats.
//! It refuses to know any answer: `expected` is left empty.

#![allow(unreachable_pub)]

use std::ops::RangeInclusive;

use chrono::{DateTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::{Value, json};

use crate::cases::{Aggregate, Case, Columns, Cutoff, Facts, Lookup, Op, Span, Spine, Window};

const SECOND: i128 = 1_000_000_000;
const HOUR: i128 = 3_600 * SECOND;
const DAY: i128 = 24 * HOUR;

/// Zones, each as often as it should be drawn, with two changes of their clocks (UTC).
const ZONES: [(&str, [&str; 2]); 8] = [
    ("UTC", ["2014-06-15T12:00:00", "2014-12-31T00:00:00"]),
    ("UTC", ["2014-01-01T00:00:00", "2014-03-01T00:00:00"]),
    ("America/New_York", ["2014-03-09T07:00:00", "2014-11-02T06:00:00"]),
    ("America/New_York", ["2014-03-09T07:00:00", "2014-11-02T06:00:00"]),
    ("Europe/Berlin", ["2014-03-30T01:00:00", "2014-10-26T01:00:00"]),
    ("Europe/Berlin", ["2014-03-30T01:00:00", "2014-10-26T01:00:00"]),
    ("America/Sao_Paulo", ["2014-02-16T02:00:00", "2014-10-19T03:00:00"]),
    ("Australia/Lord_Howe", ["2014-04-05T15:00:00", "2014-10-04T15:30:00"]),
];
const FAR: [&str; 3] = ["1969-12-31T23:59:59.5", "1970-01-01T00:00:00", "2100-01-01T00:00:00"];

/// How far instants lie from an anchor and from each other, to either side: the durations below, and a hair.
const STEPS: [i128; 13] =
    [0, 1, 1_000, 1_000_000, SECOND, 60 * SECOND, HOUR / 2, HOUR, HOUR * 3 / 2, 2 * HOUR, DAY, 7 * DAY, 400 * DAY];
const SPANS: [Option<&str>; 12] = [
    Some("1us"),
    Some("1ms"),
    Some("1s"),
    Some("1m"),
    Some("30m"),
    Some("1h"),
    Some("2h"),
    Some("1d"),
    Some("7d"),
    Some("30d"),
    Some("400d"),
    None,
];
const DELAYS: [&str; 8] = ["0s", "0us", "1us", "1ms", "1s", "30m", "1h", "1d"];
const AGES: [&str; 9] = ["0us", "1us", "1s", "30m", "1h", "2h", "1d", "7d", "400d"];

const UNITS: [&str; 4] = ["s", "ms", "us", "ns"];
const INTS: [&str; 8] = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"];
const VALUE_TYPES: [&str; 22] = [
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
    "float64",
    "float64",
    "string",
    "date32",
    "timestamp[us, UTC]",
    "timestamp[ns]",
    "decimal(10,2)",
    "decimal(18,5)",
    "decimal(20,2)",
    "decimal(38,0)",
];
const TEXTS: [&str; 16] =
    ["", " ", "a", "ab", "b", "bc", "c", "A", "NULL", "null", "é", "e\u{301}", "日本", "🚕", "it's", "a,\"b\""];

const WILD: [f64; 12] = [f64::MAX, 1e308, -1e308, 5e-324, -5e-324, 1e-300, 1e16, -1e16, 9_007_199_254_740_992.0, 1.0, 0.1, -0.3];

/// A question to random facts, about anything a case can ask.
pub fn random_case(rng: &mut StdRng) -> Case {
    let clock = Clock::random(rng);
    let keys = random_keys(rng);
    let (facts, columns) = random_facts(rng, &clock, &keys);
    let spine = random_spine(rng, &clock, &keys, &facts);
    let mut on: Vec<(String, String)> = keys.iter().map(|key| (key.spine.name.clone(), key.fact.name.clone())).collect();
    on.shuffle(rng);
    let cutoff = if rng.random_bool(0.3) { Cutoff::Inclusive } else { Cutoff::Exclusive };
    let (mut lookup, mut window) = (None, None);
    if rng.random_bool(0.4) {
        lookup = Some(random_lookup(rng, on, cutoff, &facts, &spine, &columns));
    } else {
        window = Some(random_window(rng, on, cutoff, &columns, &clock));
    }
    Case { name: "random".into(), why: "random".into(), facts, spine, lookup, window, expected: Vec::new() }
}

fn pick<T: Clone>(rng: &mut StdRng, from: &[T]) -> T {
    from.choose(rng).expect("there is something to pick from").clone()
}

fn pick_some<T: Clone>(rng: &mut StdRng, from: &[T], count: RangeInclusive<usize>) -> Vec<T> {
    let count = rng.random_range(count);
    from.choose_multiple(rng, count).cloned().collect()
}

// Instants.

/// The few instants of a case and the zones in which it writes them.
struct Clock {
    fact_zone: &'static str,
    spine_zone: &'static str,
    instants: Vec<i128>,
}

impl Clock {
    fn random(rng: &mut StdRng) -> Self {
        let (facts, spine) = (pick(rng, &ZONES), pick(rng, &ZONES));
        let spine = if rng.random_bool(0.5) { facts } else { spine };
        let count = pick(rng, &[1, 1, 1, 2]);
        let mut anchors = pick_some(rng, &[facts.1, spine.1].concat(), count..=count);
        if rng.random_bool(0.05) {
            anchors.push(pick(rng, &FAR));
        }
        let count = rng.random_range(3..=9);
        let instants = (0..count).map(|_| random_instant(rng, &anchors, facts.0)).collect();
        Clock { fact_zone: facts.0, spine_zone: spine.0, instants }
    }

    fn instant(&self, rng: &mut StdRng) -> i128 {
        let instant = pick(rng, &self.instants);
        if rng.random_bool(0.3) { instant + random_step(rng) } else { instant }
    }

    fn early(&self, rng: &mut StdRng) -> i128 {
        self.instant(rng).min(self.instant(rng))
    }

    fn late(&self, rng: &mut StdRng) -> i128 {
        self.instant(rng).max(self.instant(rng))
    }
}

fn random_instant(rng: &mut StdRng, anchors: &[&str], zone: &str) -> i128 {
    let anchor = NaiveDateTime::parse_from_str(pick(rng, anchors), "%Y-%m-%dT%H:%M:%S%.f").unwrap().and_utc();
    let anchor = i128::from(anchor.timestamp_nanos_opt().unwrap());
    let instant = anchor + random_step(rng);
    match rng.random_range(0..10) {
        0..=3 => anchor,
        4 => instant - (instant + ahead(zone, instant)).rem_euclid(DAY),
        _ => instant,
    }
}

fn random_step(rng: &mut StdRng) -> i128 {
    let step = pick(rng, &STEPS);
    if rng.random_bool(0.5) { step } else { -step }
}

/// How far the clocks of a zone are ahead of UTC at an instant.
fn ahead(zone: &str, instant: i128) -> i128 {
    let zone: Tz = zone.parse().unwrap();
    i128::from(zone.offset_from_utc_datetime(&utc(instant)).fix().local_minus_utc()) * SECOND
}

fn utc(instant: i128) -> NaiveDateTime {
    DateTime::from_timestamp_nanos(i64::try_from(instant).unwrap()).naive_utc()
}

/// An instant in a column of some type, in whole units of it. What has no zone of its own is as a clock of the zone shows it,
/// or sometimes as a clock shows it that was not changed, so that the time may not exist.
fn write_instant(rng: &mut StdRng, instant: i128, data_type: &str, zone: &str) -> Value {
    let astray = if rng.random_bool(0.2) { pick(rng, &[-DAY, DAY]) } else { 0 };
    let shown = if data_type.ends_with(", UTC]") { instant } else { instant + ahead(zone, instant + astray) };
    let unit = match data_type {
        "date32" => return utc(shown).format("%Y-%m-%d").to_string().into(),
        _ if data_type.starts_with("timestamp[s") => SECOND,
        _ if data_type.starts_with("timestamp[ms") => 1_000_000,
        _ if data_type.starts_with("timestamp[us") => 1_000,
        _ => 1,
    };
    utc(shown.div_euclid(unit) * unit).format("%Y-%m-%dT%H:%M:%S%.f").to_string().into()
}

fn random_timestamp(rng: &mut StdRng) -> String {
    let unit = pick(rng, &UNITS);
    if rng.random_bool(0.5) { format!("timestamp[{unit}, UTC]") } else { format!("timestamp[{unit}]") }
}

fn has_no_zone(data_type: &str) -> bool {
    !data_type.ends_with(", UTC]")
}

// Columns.

/// A column that draws its values from a few.
#[derive(Clone)]
struct Column {
    name: String,
    data_type: String,
    pool: Vec<Value>,
    nulls: f64,
    /// What may be asked of it, if it holds numbers.
    numbers: Numbers,
}

#[derive(Clone, Copy, PartialEq)]
enum Numbers {
    None,
    /// Of alike magnitudes: every statistic of them is well-conditioned.
    Tame,
    /// Floats of magnitudes so different that only a sum and a mean of them are sure.
    Wild,
}

impl Column {
    fn new(name: String, data_type: &str, pool: Vec<Value>, nulls: f64) -> Self {
        Column { name, data_type: data_type.to_owned(), pool, nulls, numbers: Numbers::None }
    }

    fn draw(&self, rng: &mut StdRng) -> Value {
        if self.pool.is_empty() || rng.random_bool(self.nulls) { Value::Null } else { pick(rng, &self.pool) }
    }
}

fn random_nulls(rng: &mut StdRng) -> f64 {
    pick(rng, &[0.0, 0.05, 0.15, 0.15, 0.5])
}

fn random_column(rng: &mut StdRng, name: String, data_type: &str, clock: &Clock) -> Column {
    let mut column = Column::new(name, data_type, Vec::new(), random_nulls(rng));
    let distinct = pick(rng, &[1, 2, 3, 5, 12]);
    if data_type.starts_with("float") {
        (column.pool, column.numbers) = random_floats(rng, data_type, distinct);
    } else if data_type.contains("int") {
        (column.pool, column.numbers) = (random_ints(rng, data_type, distinct), Numbers::Tame);
    } else if data_type.starts_with("decimal") {
        (column.pool, column.numbers) = (random_decimals(rng, data_type, distinct), Numbers::Tame);
    } else {
        column.pool = (0..distinct).map(|_| random_plain(rng, data_type, clock)).collect();
    }
    column
}

fn random_plain(rng: &mut StdRng, data_type: &str, clock: &Clock) -> Value {
    match data_type {
        "bool" => rng.random_bool(0.5).into(),
        "string" => pick(rng, &TEXTS).into(),
        _ => {
            let instant = clock.instant(rng);
            write_instant(rng, instant, data_type, clock.fact_zone)
        }
    }
}

fn random_floats(rng: &mut StdRng, data_type: &str, count: usize) -> (Vec<Value>, Numbers) {
    let (special, wild, tenths) = (rng.random_bool(0.4), rng.random_bool(0.2), rng.random_bool(0.5));
    let mut floats: Vec<f64> = (0..count)
        .map(|_| match wild {
            true if data_type == "float32" => pick(rng, &[3.4e38, -3.4e38, 1e-45, 16_777_216.0, 1.0, 0.1, -0.1]),
            true => pick(rng, &WILD),
            _ if tenths => f64::from(rng.random_range(-40..=40)) / 10.0,
            _ => f64::from(rng.random_range(-40..=40)) / 4.0,
        })
        .collect();
    if special {
        let odd: [&[f64]; 4] = [&[-0.0, 0.0], &[f64::NAN], &[f64::INFINITY], &[f64::NEG_INFINITY, f64::INFINITY]];
        floats.extend(pick(rng, &odd));
    }
    let pool = floats.into_iter().map(|float| if data_type == "float32" { f64::from(float as f32) } else { float });
    (pool.map(json_of_float).collect(), if wild { Numbers::Wild } else { Numbers::Tame })
}

fn json_of_float(float: f64) -> Value {
    match float {
        _ if float.is_nan() => "NaN".into(),
        f64::INFINITY => "inf".into(),
        f64::NEG_INFINITY => "-inf".into(),
        _ => float.into(),
    }
}

/// The least and the largest value of an integer type.
fn int_range(data_type: &str) -> (i128, i128) {
    let bits = data_type.trim_start_matches(|c: char| c.is_ascii_alphabetic()).parse::<u32>().unwrap();
    if data_type.starts_with('u') { (0, (1 << bits) - 1) } else { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) }
}

/// Decimals: small ones, or of all the digits that leave room for some sums.
fn random_decimals(rng: &mut StdRng, data_type: &str, count: usize) -> Vec<Value> {
    let (precision, scale) = crate::case_arrow::digits(data_type);
    let large = rng.random_bool(0.4);
    let top = 10i128.pow(u32::from(precision).min(34)) - 1;
    let units = (0..count).map(|_| match large {
        true => pick(rng, &[top, top - 1, -top, top / 2, 1, 0, -1]),
        false => rng.random_range(-400..=400),
    });
    let shown = |units: i128| {
        let (one, sign) = (10u128.pow(scale), if units < 0 { "-" } else { "" });
        let (whole, rest) = (units.unsigned_abs() / one, units.unsigned_abs() % one);
        if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{rest:0width$}", width = scale as usize) }
    };
    units.map(|units| shown(units).into()).collect()
}

fn random_ints(rng: &mut StdRng, data_type: &str, count: usize) -> Vec<Value> {
    let (least, largest) = int_range(data_type);
    let long = data_type.ends_with("64");
    let candidates = match rng.random_range(0..10) {
        1 if long => vec![1 << 54, (1 << 54) + 1, (1 << 53) + 1, 3, 1, -(1 << 54) - 1],
        2 if long => vec![(1 << 60) + 1, (1 << 60) + 2, (1 << 60) + 3],
        0..=2 => vec![least, least + 1, largest, largest - 1, 0, 1],
        _ => (-4..=7).collect(),
    };
    let fitting: Vec<i128> = candidates.into_iter().filter(|int| (least..=largest).contains(int)).collect();
    (0..count).map(|_| json_of_int(pick(rng, &fitting))).collect()
}

fn json_of_int(int: i128) -> Value {
    i64::try_from(int).map(Value::from).unwrap_or_else(|_| u64::try_from(int).unwrap().into())
}

// Keys.

/// A column of a key on both sides, whose integer types may differ.
struct Key {
    fact: Column,
    spine: Column,
}

fn random_keys(rng: &mut StdRng) -> Vec<Key> {
    let count = pick(rng, &[1, 1, 1, 2, 2, 3]);
    let joinable = rng.random_bool(0.2);
    (0..count).map(|i| random_key(rng, i, joinable)).collect()
}

/// A key column. The texts of joinable ones are alike once joined, though they differ column by column.
fn random_key(rng: &mut StdRng, i: usize, joinable: bool) -> Key {
    let of_type = |data_type: &'static str, pool: Vec<Value>| ([data_type; 2], [pool.clone(), pool]);
    let distinct = pick(rng, &[1, 1, 2, 3]);
    let (types, pools) = match rng.random_range(0..10) {
        _ if joinable => of_type("string", vec!["".into(), "a".into(), "aa".into()]),
        0 => of_type("bool", vec![true.into(), false.into()]),
        1 => of_type("date32", vec!["1969-12-31".into(), "2014-03-09".into(), "2014-03-10".into()]),
        2..=4 => of_type("string", pick_some(rng, &TEXTS, distinct..=distinct).into_iter().map(Value::from).collect()),
        _ => random_int_pools(rng),
    };
    let nulls = pick(rng, &[0.0, 0.0, 0.1]);
    let fact = format!("k{i}");
    let spine = if rng.random_bool(0.5) { fact.clone() } else { format!("s{i}") };
    let [fact_pool, spine_pool] = pools;
    Key { fact: Column::new(fact, types[0], fact_pool, nulls), spine: Column::new(spine, types[1], spine_pool, nulls) }
}

fn random_int_pools(rng: &mut StdRng) -> ([&'static str; 2], [Vec<Value>; 2]) {
    let mut types = [pick(rng, &INTS), pick(rng, &INTS)];
    let mut ints = pick_some(rng, &[0, 1, 2, 7, 100], 1..=2);
    match rng.random_range(0..10) {
        0 => {
            // What a cast between 64 bits with and without a sign, or to a float, makes the same.
            (types, ints) = (["int64", "uint64"], vec![-1, (1 << 64) - 1, -(1 << 63), 1 << 63, 1 << 53, (1 << 53) + 1]);
            types.shuffle(rng);
        }
        1 | 2 => {
            let odd = [-1, 127, 128, 200, 255, 256, 65_535, (1 << 32) - 1, 1 << 32, (1 << 32) + 1];
            ints.extend(pick_some(rng, &odd, 1..=4));
        }
        _ => {}
    }
    let fitting = |data_type: &str| {
        let (least, largest) = int_range(data_type);
        ints.iter().filter(|&&int| (least..=largest).contains(&int)).map(|&int| json_of_int(int)).collect()
    };
    (types, types.map(fitting))
}

// Facts.

/// A row in the making: its values without the times, then what the times mean.
#[derive(Clone)]
struct Draft {
    values: Vec<Value>,
    event: i128,
    event_text: Value,
    known_text: Value,
}

/// The types of the time columns and the zone of those that have none.
struct Times {
    event: String,
    known: Option<String>,
    zone: &'static str,
}

/// Facts, and their columns with the values they are drawn from.
fn random_facts(rng: &mut StdRng, clock: &Clock, keys: &[Key]) -> (Facts, Vec<Column>) {
    let mut columns: Vec<Column> = keys.iter().map(|key| key.fact.clone()).collect();
    let values = rng.random_range(1..=4);
    let values = add_columns(rng, &mut columns, clock, "v", values, &VALUE_TYPES);
    let ties = pick(rng, &[0, 0, 1, 2]);
    let mut tie_break = add_columns(rng, &mut columns, clock, "b", ties, &VALUE_TYPES);
    if ties < 2 && rng.random_bool(0.1) {
        tie_break.push(pick(rng, &values));
    }
    let identity = random_identity(rng, &mut columns, clock);
    let times = random_times(rng, clock);
    let drafts = random_drafts(rng, clock, &columns, &times);
    let named_types = columns.iter().map(|column| (column.name.clone(), column.data_type.clone()));
    let mut layout: Vec<(String, String)> = named_types.collect();
    layout.push(("at".into(), times.event.clone()));
    layout.extend(times.known.iter().map(|known| ("known".to_owned(), known.clone())));
    let rows = drafts.into_iter().map(|draft| finish(draft, times.known.is_some())).collect();
    let (layout, rows) = shuffle_columns(rng, layout, rows);
    let zoneless = has_no_zone(&times.event) || times.known.as_deref().is_some_and(has_no_zone);
    let facts = Facts {
        event_time: "at".into(),
        known_at: times.known.as_ref().map(|_| "known".into()),
        delay: if times.known.is_none() { Some(pick(rng, &DELAYS).into()) } else { None },
        zone: zoneless.then(|| clock.fact_zone.into()),
        tie_break,
        identity,
        columns: Columns(layout),
        rows,
    };
    (facts, columns)
}

/// Adds columns of random types and returns their names.
fn add_columns(
    rng: &mut StdRng,
    columns: &mut Vec<Column>,
    clock: &Clock,
    prefix: &str,
    count: usize,
    types: &[&str],
) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|i| format!("{prefix}{i}")).collect();
    for name in &names {
        let data_type = pick(rng, types);
        columns.push(random_column(rng, name.clone(), data_type, clock));
    }
    names
}

fn random_identity(rng: &mut StdRng, columns: &mut Vec<Column>, clock: &Clock) -> Vec<String> {
    let key = columns[0].name.clone();
    let count = pick(rng, &[0, 0, 0, 1, 1, 2]);
    let mut identity = add_columns(rng, columns, clock, "id", count, &["int64", "uint8", "string", "date32", "bool"]);
    for column in columns.iter_mut().filter(|column| identity.contains(&column.name)) {
        column.nulls = pick(rng, &[0.0, 0.1]);
    }
    if !identity.is_empty() && rng.random_bool(0.3) {
        identity.pop();
        identity.push(key);
    }
    identity
}

fn random_times(rng: &mut StdRng, clock: &Clock) -> Times {
    let mut time = || if rng.random_bool(0.12) { "date32".to_owned() } else { random_timestamp(rng) };
    let (event, known) = (time(), time());
    Times { event, known: rng.random_bool(0.6).then_some(known), zone: clock.fact_zone }
}

fn random_drafts(rng: &mut StdRng, clock: &Clock, columns: &[Column], times: &Times) -> Vec<Draft> {
    let count = match rng.random_range(0..100) {
        0..=3 => 0,
        4..=6 => 200,
        _ => rng.random_range(1..=25),
    };
    let mut drafts: Vec<Draft> = Vec::new();
    for _ in 0..count {
        let draft = match drafts.choose(rng).cloned() {
            Some(earlier) if rng.random_bool(0.1) => earlier,
            Some(earlier) if rng.random_bool(0.25) => revise(rng, clock, columns, times, earlier),
            _ => {
                let values = columns.iter().map(|column| column.draw(rng)).collect();
                draft_at(rng, clock, times, values)
            }
        };
        drafts.push(draft);
    }
    drafts
}

fn draft_at(rng: &mut StdRng, clock: &Clock, times: &Times, values: Vec<Value>) -> Draft {
    let event = clock.early(rng);
    let mut draft = Draft { values, event, event_text: Value::Null, known_text: Value::Null };
    if rng.random_bool(0.96) {
        draft.event_text = write_instant(rng, event, &times.event, times.zone);
    }
    draft.known_text = random_known(rng, clock, times, event);
    draft
}

/// When a fact could be known: soon after it, or at an instant of the case, which may be long after it or before.
fn random_known(rng: &mut StdRng, clock: &Clock, times: &Times, event: i128) -> Value {
    let Some(data_type) = times.known.as_deref() else { return Value::Null };
    let known = if rng.random_bool(0.6) { event + random_step(rng).abs() } else { clock.instant(rng) };
    if rng.random_bool(0.05) { Value::Null } else { write_instant(rng, known, data_type, times.zone) }
}

/// Another version of a row: some values differ, mostly it was known at another time, sometimes it happened at another.
fn revise(rng: &mut StdRng, clock: &Clock, columns: &[Column], times: &Times, earlier: Draft) -> Draft {
    let mut draft = if rng.random_bool(0.2) { draft_at(rng, clock, times, earlier.values) } else { earlier };
    if rng.random_bool(0.7) {
        draft.known_text = random_known(rng, clock, times, draft.event);
    }
    for (value, column) in draft.values.iter_mut().zip(columns) {
        if !column.name.starts_with("id") && rng.random_bool(0.3) {
            *value = column.draw(rng);
        }
    }
    draft
}

fn finish(draft: Draft, has_known: bool) -> Vec<Value> {
    let mut row = draft.values;
    row.push(draft.event_text);
    row.extend(has_known.then_some(draft.known_text));
    row
}

/// A table's columns with their types, and its rows.
type Table = (Vec<(String, String)>, Vec<Vec<Value>>);

fn shuffle_columns(rng: &mut StdRng, layout: Vec<(String, String)>, rows: Vec<Vec<Value>>) -> Table {
    let mut order: Vec<usize> = (0..layout.len()).collect();
    order.shuffle(rng);
    let rows = rows.iter().map(|row| order.iter().map(|&i| row[i].clone()).collect()).collect();
    (order.iter().map(|&i| layout[i].clone()).collect(), rows)
}

// The spine.

fn random_spine(rng: &mut StdRng, clock: &Clock, keys: &[Key], facts: &Facts) -> Spine {
    let data_type = random_timestamp(rng);
    let mut layout: Vec<(String, String)> = vec![("t".into(), data_type.clone())];
    layout.extend(keys.iter().map(|key| (key.spine.name.clone(), key.spine.data_type.clone())));
    let carries_more = rng.random_bool(0.3);
    layout.extend(carries_more.then(|| ("x".to_owned(), "int64".to_owned())));
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for i in 0..rng.random_range(0..=12) {
        if let Some(earlier) = rows.choose(rng).cloned().filter(|_| rng.random_bool(0.1)) {
            rows.push(earlier);
            continue;
        }
        let at = clock.late(rng);
        let at = if rng.random_bool(0.05) { Value::Null } else { write_instant(rng, at, &data_type, clock.spine_zone) };
        let mut row = vec![at];
        row.extend(random_key_values(rng, keys, facts));
        row.extend(carries_more.then(|| json!(i)));
        rows.push(row);
    }
    let (layout, rows) = shuffle_columns(rng, layout, rows);
    let zone = has_no_zone(&data_type).then(|| clock.spine_zone.into());
    Spine { at: "t".into(), zone, columns: Columns(layout), rows }
}

/// The key of a fact, as far as the spine's types allow, or any key.
fn random_key_values(rng: &mut StdRng, keys: &[Key], facts: &Facts) -> Vec<Value> {
    let fact = facts.rows.choose(rng).filter(|_| rng.random_bool(0.6));
    let value_of = |fact: &Vec<Value>, key: &Key| {
        let column = facts.columns.0.iter().position(|(name, _)| *name == key.fact.name)?;
        Some(fact[column].clone()).filter(|value| key.spine.pool.contains(value))
    };
    let mut values = Vec::new();
    for key in keys {
        values.push(fact.and_then(|fact| value_of(fact, key)).unwrap_or_else(|| key.spine.draw(rng)));
    }
    values
}

// Questions.

fn random_lookup(
    rng: &mut StdRng,
    on: Vec<(String, String)>,
    cutoff: Cutoff,
    facts: &Facts,
    spine: &Spine,
    columns: &[Column],
) -> Lookup {
    let mut names: Vec<String> = columns.iter().map(|column| column.name.clone()).filter(|name| name.starts_with('v')).collect();
    if rng.random_bool(0.2) {
        names = facts.columns.0.iter().map(|(name, _)| name.clone()).collect();
        names.retain(|name| !spine.columns.0.iter().any(|(taken, _)| taken == name));
    }
    let max_age = rng.random_bool(0.35).then(|| pick(rng, &AGES).to_owned());
    Lookup { on, columns: pick_some(rng, &names, 1..=3), cutoff, max_age }
}

fn random_window(rng: &mut StdRng, on: Vec<(String, String)>, cutoff: Cutoff, columns: &[Column], clock: &Clock) -> Window {
    let mut lengths = pick_some(rng, &SPANS, 1..=3);
    if !lengths.contains(&None) && rng.random_bool(0.3) {
        lengths[0] = None;
    }
    let span = |length: Option<&str>| {
        let aggregates = random_aggregates(rng, columns);
        let length = length.map(str::to_owned);
        let mut span = Span {
            length,
            this: None,
            months: None,
            hop: None,
            hop_months: None,
            zone: None,
            facts: None,
            since: None,
            aggregates,
        };
        if rng.random_bool(0.3) {
            (span.length, span.zone) = (None, Some(pick(rng, &[clock.fact_zone, clock.spine_zone]).to_owned()));
            match rng.random_range(0..5) {
                0 => span.this = Some("month".into()),
                1 => span.this = Some("week".into()),
                2 => span.this = Some("day".into()),
                _ => span.months = Some(pick(rng, &[1, 1, 2, 6, 8, 12, 13])),
            }
        }
        if rng.random_bool(0.2) {
            let zone = pick(rng, &[clock.fact_zone, clock.spine_zone, "UTC"]);
            (span.length, span.this, span.months, span.zone) = (None, None, None, Some(zone.to_owned()));
            if rng.random_bool(0.25) {
                (span.months, span.hop_months) = (Some(pick(rng, &[1, 1, 2, 3, 12])), Some(pick(rng, &[1, 1, 3, 12])));
            } else {
                let hops = ["30m", "1h", "2h", "1d", "1d", "7d", "14d", "30d"];
                let hop = if zone == "UTC" { pick(rng, &["7h", "90m", "36h", "1h", "7d"]) } else { pick(rng, &hops) };
                let length = if rng.random_bool(0.5) { hop } else { pick(rng, &SPANS).unwrap_or(hop) };
                (span.length, span.hop) = (Some(length.to_owned()), Some(hop.to_owned()));
            }
        }
        span.since = if rng.random_bool(0.25) { random_filter(rng, columns) } else { None };
        span.facts = rng.random_bool(0.3).then(|| pick(rng, &[1, 1, 2, 3, 5, 100]));
        span
    };
    let spans = lengths.into_iter().map(span).collect();
    Window { on, cutoff, spans }
}

/// Aggregates of which no two are the same.
fn random_aggregates(rng: &mut StdRng, columns: &[Column]) -> Vec<Aggregate> {
    let mut aggregates: Vec<Aggregate> = Vec::new();
    for _ in 0..rng.random_range(1..=5) {
        let aggregate = random_aggregate(rng, columns);
        if aggregates.iter().all(|other| json!(other) != json!(aggregate)) {
            aggregates.push(aggregate);
        }
    }
    aggregates
}

fn random_aggregate(rng: &mut StdRng, columns: &[Column]) -> Aggregate {
    let filter = if rng.random_bool(0.25) { random_filter(rng, columns) } else { None };
    if rng.random_bool(0.1) {
        return Aggregate { op: Op::Count, column: None, by: None, filter, k: None, q: None };
    }
    let values: Vec<&Column> = columns.iter().filter(|column| column.name.starts_with('v')).collect();
    let column = if rng.random_bool(0.9) { pick(rng, &values) } else { columns.choose(rng).expect("there is a column") };
    let op = pick(rng, &ops_of(column));
    let by = matches!(op, Op::MaxBy | Op::MinBy).then(|| pick(rng, columns).name);
    let k = matches!(op, Op::FirstK | Op::LastK | Op::TopK).then(|| rng.random_range(1..=4));
    let q = (op == Op::Quantile).then(|| pick(rng, &[0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0]));
    Aggregate { op, column: Some(column.name.clone()), by, filter, k, q }
}

fn ops_of(column: &Column) -> Vec<Op> {
    let mut ops = vec![
        Op::Count,
        Op::CountDistinct,
        Op::ApproxCountDistinct,
        Op::Min,
        Op::Max,
        Op::First,
        Op::Last,
        Op::MaxBy,
        Op::MinBy,
        Op::FirstK,
        Op::LastK,
        Op::Mode,
        Op::TopK,
        Op::TopShare,
        Op::Entropy,
    ];
    match column.numbers {
        Numbers::None => {}
        Numbers::Tame => ops.extend([Op::Sum, Op::Sum, Op::Mean, Op::Variance, Op::Stddev, Op::Slope, Op::Median, Op::Quantile]),
        Numbers::Wild => ops.extend([Op::Sum, Op::Sum, Op::Mean]),
    }
    ops
}

/// A comparison with a literal, if a column can have one. No float is compared with a zero, which has two signs.
fn random_filter(rng: &mut StdRng, columns: &[Column]) -> Option<String> {
    let column = columns.choose(rng)?;
    let literal = match column.data_type.as_str() {
        "bool" => pick(rng, &["true", "false"]).to_owned(),
        "string" => format!("'{}'", pick(rng, &TEXTS).replace('\'', "''")),
        "float32" | "float64" => pick(rng, &["1.5", "-2.25", "0.5", "3.0", "-100.5"]).to_owned(),
        "date32" => return None,
        _ if column.data_type.starts_with("timestamp") || column.data_type.starts_with("decimal") => return None,
        _ => pick(rng, &["0", "1", "2", "5", "100"]).to_owned(),
    };
    let operator = pick(rng, &["=", "<>", "<", "<=", ">", ">="]);
    Some(format!("{} {operator} {literal}", column.name))
}
