//! The conformance cases through the operators and the online side, and random cases against the naive oracle.
//! It knows how to put a case to the library; what the answer should be is the business of the cases and the oracle.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
    sync::Arc,
};

use asof::{
    Aggregate, AsOf, FeatureSet, FeatureStore, StoreOptions,
    catalog::{FactTable, KnownAt, TimeColumn},
    temporal::{Facts, Lookup, Spine, Window},
    time::Cutoff,
};
use chrono::{NaiveDate, NaiveDateTime, TimeDelta, TimeZone};
use datafusion::{
    arrow::{
        array::{
            Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float32Array, Float64Array, Int64Array, RecordBatch,
            StringArray, UInt64Array,
        },
        compute::{cast, concat_batches},
        datatypes::{DataType, Date32Type, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit, UInt64Type},
    },
    datasource::MemTable,
    prelude::{SessionConfig, SessionContext},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::{
    cases::{self, Case, Columns, Op, Theme},
    oracle, random_cases,
    support::{temp_dir, write_batch},
};

fn themes() -> Vec<Theme> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "json"));
    files.sort();
    let read = |path: &std::path::PathBuf| {
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    files.iter().map(read).collect()
}

fn data_type(text: &str) -> DataType {
    let unit = |text: &str| match text {
        "s" => TimeUnit::Second,
        "ms" => TimeUnit::Millisecond,
        "us" => TimeUnit::Microsecond,
        "ns" => TimeUnit::Nanosecond,
        other => panic!("no unit `{other}`"),
    };
    match text {
        "bool" => DataType::Boolean,
        "int8" => DataType::Int8,
        "int16" => DataType::Int16,
        "int32" => DataType::Int32,
        "int64" => DataType::Int64,
        "uint8" => DataType::UInt8,
        "uint16" => DataType::UInt16,
        "uint32" => DataType::UInt32,
        "uint64" => DataType::UInt64,
        "float32" => DataType::Float32,
        "float64" => DataType::Float64,
        "string" => DataType::Utf8,
        "date32" => DataType::Date32,
        timestamp => {
            let inner = timestamp.strip_prefix("timestamp[").and_then(|t| t.strip_suffix(']')).unwrap();
            match inner.split_once(", ") {
                Some((text, zone)) => DataType::Timestamp(unit(text), Some(zone.into())),
                None => DataType::Timestamp(unit(inner), None),
            }
        }
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.parse().unwrap()),
        number => Some(number.as_f64().unwrap()),
    }
}

/// Nanoseconds of the wall clock that a text shows.
fn nanos(text: &str) -> i128 {
    let time: NaiveDateTime = text.trim_end_matches('Z').parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    i128::from(time.and_utc().timestamp()) * 1_000_000_000 + i128::from(time.and_utc().timestamp_subsec_nanos())
}

fn array(data_type: &DataType, values: &[&Value]) -> ArrayRef {
    let plain: ArrayRef = match data_type {
        DataType::Boolean => Arc::new(values.iter().map(|v| v.as_bool()).collect::<BooleanArray>()),
        DataType::Utf8 => Arc::new(values.iter().map(|v| v.as_str()).collect::<StringArray>()),
        DataType::Float32 => Arc::new(values.iter().map(|v| float(v).map(|x| x as f32)).collect::<Float32Array>()),
        DataType::Float64 => Arc::new(values.iter().map(|v| float(v)).collect::<Float64Array>()),
        DataType::UInt64 => Arc::new(values.iter().map(|v| v.as_u64()).collect::<UInt64Array>()),
        DataType::Date32 => {
            let days = |v: &&Value| {
                v.as_str().map(|t| {
                    let day: NaiveDate = t.get(..10).unwrap().parse().unwrap();
                    (day - NaiveDate::default()).num_days() as i32
                })
            };
            Arc::new(values.iter().map(days).collect::<Date32Array>())
        }
        DataType::Timestamp(unit, _) => {
            let per_unit = match unit {
                TimeUnit::Second => 1_000_000_000,
                TimeUnit::Millisecond => 1_000_000,
                TimeUnit::Microsecond => 1_000,
                TimeUnit::Nanosecond => 1,
            };
            let ticks = |v: &&Value| v.as_str().map(|t| i64::try_from(nanos(t).div_euclid(per_unit)).unwrap());
            Arc::new(values.iter().map(ticks).collect::<Int64Array>())
        }
        _ => Arc::new(values.iter().map(|v| v.as_i64()).collect::<Int64Array>()),
    };
    cast(&plain, data_type).unwrap()
}

fn batch(columns: &Columns, rows: &[Vec<Value>]) -> RecordBatch {
    let fields: Vec<Field> = columns.0.iter().map(|(name, text)| Field::new(name, data_type(text), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(i, field)| array(field.data_type(), &rows.iter().map(|row| &row[i]).collect::<Vec<_>>()));
    let options = datafusion::arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema.clone(), arrays.collect(), &options).unwrap()
}

/// A wall clock's text, with the digits it needs.
fn time_text(nanos: i128) -> String {
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap();
    let fraction = nanos.rem_euclid(1_000_000_000) as u32;
    let text = chrono::DateTime::from_timestamp(seconds, 0).unwrap().format("%Y-%m-%dT%H:%M:%S").to_string();
    if fraction == 0 { text } else { format!("{text}.{}", format!("{fraction:09}").trim_end_matches('0')) }
}

fn number(x: f64) -> Value {
    if x.is_nan() {
        json!("NaN")
    } else if x.is_infinite() {
        json!(if x > 0.0 { "inf" } else { "-inf" })
    } else {
        json!(x)
    }
}

fn json_of(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Boolean => json!(column.as_boolean().value(row)),
        DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
        DataType::UInt64 => json!(column.as_primitive::<UInt64Type>().value(row)),
        DataType::Float32 | DataType::Float64 => {
            number(cast(column, &DataType::Float64).unwrap().as_primitive::<Float64Type>().value(row))
        }
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>().value(row);
            json!((NaiveDate::default() + TimeDelta::days(i64::from(days))).to_string())
        }
        DataType::Timestamp(unit, _) => {
            let per_unit = match unit {
                TimeUnit::Second => 1_000_000_000,
                TimeUnit::Millisecond => 1_000_000,
                TimeUnit::Microsecond => 1_000,
                TimeUnit::Nanosecond => 1,
            };
            let ticks = cast(column, &DataType::Int64).unwrap().as_primitive::<Int64Type>().value(row);
            json!(time_text(i128::from(ticks) * per_unit))
        }
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            (0..items.len()).map(|i| json_of(&items, i)).collect()
        }
        _ => json!(cast(column, &DataType::Int64).unwrap().as_primitive::<Int64Type>().value(row)),
    }
}

fn declared(case: &Case) -> FactTable {
    let facts = &case.facts;
    let known = match (&facts.known_at, &facts.delay) {
        (Some(column), _) => KnownAt::Column(TimeColumn::from(column.as_str())),
        (None, Some(delay)) => KnownAt::after(TimeDelta::microseconds(cases::micros(delay))),
        (None, None) => panic!("`{}` declares neither known_at nor delay", case.name),
    };
    let mut declared = FactTable::new(facts.event_time.as_str(), known);
    if let Some(zone) = &facts.zone {
        declared = declared.zone(zone.parse().unwrap());
    }
    declared = facts.tie_break.iter().fold(declared, FactTable::tie_break);
    facts.identity.iter().fold(declared, FactTable::identity)
}

fn cutoff(cutoff: cases::Cutoff) -> Cutoff {
    match cutoff {
        cases::Cutoff::Exclusive => Cutoff::Exclusive,
        cases::Cutoff::Inclusive => Cutoff::Inclusive,
    }
}

fn aggregate(asked: &cases::Aggregate) -> Aggregate {
    let column = asked.column.clone().unwrap_or_default();
    let aggregate = match asked.op {
        Op::Count if asked.column.is_none() => Aggregate::count(),
        Op::Count => Aggregate::count_of(column),
        Op::CountDistinct => Aggregate::count_distinct(column),
        Op::Sum => Aggregate::sum(column),
        Op::Mean => Aggregate::mean(column),
        Op::Variance => Aggregate::variance(column),
        Op::Stddev => Aggregate::stddev(column),
        Op::Min => Aggregate::min(column),
        Op::Max => Aggregate::max(column),
        Op::First => Aggregate::first(column),
        Op::Last => Aggregate::last(column),
        Op::LastK => Aggregate::last_k(column, asked.k.unwrap()),
        Op::Median => Aggregate::median(column),
        Op::Quantile => Aggregate::quantile(column, asked.q.unwrap()),
    };
    match &asked.filter {
        Some(filter) => aggregate.filter(filter),
        None => aggregate,
    }
}

/// How rows are cut and spread: nothing of it may matter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) batch_rows: usize,
    pub(crate) partitions: usize,
    pub(crate) tasks: usize,
}

pub(crate) const PLAIN: Layout = Layout { batch_rows: 1_000, partitions: 1, tasks: 1 };

pub(crate) fn table(rows: RecordBatch, layout: Layout) -> Arc<MemTable> {
    let pieces: Vec<RecordBatch> = (0..rows.num_rows())
        .step_by(layout.batch_rows)
        .map(|i| rows.slice(i, layout.batch_rows.min(rows.num_rows() - i)))
        .collect();
    let per_partition = pieces.len().div_ceil(layout.partitions).max(1);
    let mut partitions: Vec<Vec<RecordBatch>> = pieces.chunks(per_partition).map(<[_]>::to_vec).collect();
    if partitions.is_empty() {
        partitions.push(Vec::new());
    }
    Arc::new(MemTable::try_new(rows.schema(), partitions).unwrap())
}

/// The columns that a question adds, one row per spine row.
async fn ask(case: &Case, layout: Layout) -> asof::Result<RecordBatch> {
    let config = SessionConfig::new().with_target_partitions(layout.tasks).with_batch_size(layout.batch_rows);
    let session = SessionContext::new_with_config(config);
    let spine_rows = batch(&case.spine.columns, &case.spine.rows);
    let spine = session.read_table(table(spine_rows, layout))?;
    let facts = session.read_table(table(batch(&case.facts.columns, &case.facts.rows), layout))?;
    let facts = Facts::new("facts", facts, declared(case));
    let mut spine = Spine::new(spine, case.spine.at.as_str());
    if let Some(zone) = &case.spine.zone {
        spine = spine.zone(zone.parse()?);
    }
    let (asked, outputs) = match (&case.lookup, &case.window) {
        (Some(lookup), _) => {
            let mut question = Lookup::of(facts).cutoff(cutoff(lookup.cutoff));
            question = lookup.on.iter().fold(question, |q, (left, right)| q.on_columns(left, right));
            for (i, column) in lookup.columns.iter().enumerate() {
                question = question.column_as(column, format!("out_{i}"));
            }
            if let Some(age) = &lookup.max_age {
                question = question.max_age(TimeDelta::microseconds(cases::micros(age)));
            }
            (spine.lookup([question])?, lookup.columns.len())
        }
        (None, Some(window)) => {
            let mut question = Window::of(facts).cutoff(cutoff(window.cutoff));
            question = window.on.iter().fold(question, |q, (left, right)| q.on_columns(left, right));
            let mut outputs = 0;
            for span in &window.spans {
                let aggregates: Vec<Aggregate> = span
                    .aggregates
                    .iter()
                    .map(|asked| {
                        outputs += 1;
                        aggregate(asked).named(format!("out_{}", outputs - 1))
                    })
                    .collect();
                question = match &span.length {
                    Some(length) => question.trailing(TimeDelta::microseconds(cases::micros(length)), aggregates),
                    None => question.all_before(aggregates),
                };
            }
            (spine.window([question])?, outputs)
        }
        (None, None) => panic!("`{}` asks nothing", case.name),
    };
    let rows = asked.into_rows();
    let all: SchemaRef = Arc::new(rows.schema().as_arrow().clone());
    let batches = rows.collect().await?;
    let whole = concat_batches(&all, &batches)?;
    // The spine comes back as it was, row by row; rows that cannot be told apart prove nothing of their order.
    let spine_columns = case.spine.columns.0.len();
    let before = whole.project(&(0..spine_columns).collect::<Vec<_>>())?;
    assert_eq!(before.columns(), batch(&case.spine.columns, &case.spine.rows).columns(), "{}: the spine changed", case.name);
    Ok(whole.project(&(spine_columns..spine_columns + outputs).collect::<Vec<_>>())?)
}

fn rows_of(answer: &RecordBatch) -> Vec<Vec<Value>> {
    (0..answer.num_rows()).map(|row| answer.columns().iter().map(|column| json_of(column, row)).collect()).collect()
}

/// How far an output may be from the expected one, relative to it: only variances are not the last bit's matter.
fn tolerances(case: &Case) -> Vec<f64> {
    let Some(window) = &case.window else { return vec![0.0; case.lookup.as_ref().map_or(0, |l| l.columns.len())] };
    let asked = window.spans.iter().flat_map(|span| &span.aggregates);
    asked
        .map(|aggregate| match aggregate.op {
            Op::Variance | Op::Stddev => 1e-9,
            Op::Median | Op::Quantile => 1e-12,
            _ => 0.0,
        })
        .collect()
}

/// The first difference, as a sentence.
fn difference(case: &Case, expected: &[Vec<Value>], got: &[Vec<Value>]) -> Option<String> {
    if expected.len() != got.len() {
        return Some(format!("{} rows instead of {}", got.len(), expected.len()));
    }
    let tolerances = tolerances(case);
    for (row, (expected, got)) in expected.iter().zip(got).enumerate() {
        let same = expected.len() == got.len()
            && expected.iter().zip(got).zip(&tolerances).all(|((e, g), tolerance)| oracle::same(e, g, *tolerance));
        if !same {
            return Some(format!("row {row}: expected {}, got {}", json!(expected), json!(got)));
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_is_answered_by_the_operators() {
    let (mut count, mut failed) = (0, Vec::new());
    for theme in themes() {
        for case in &theme.cases {
            count += 1;
            for layout in [PLAIN, Layout { batch_rows: 1, partitions: 3, tasks: 2 }] {
                let told = match ask(case, layout).await {
                    Ok(answer) => difference(case, &case.expected, &rows_of(&answer)),
                    Err(error) => Some(error.to_string()),
                };
                if let Some(told) = told {
                    failed.push(format!("{}: {}: {told}", theme.theme, case.name));
                    break;
                }
            }
        }
    }
    assert!(count >= 150, "{count} cases");
    assert!(failed.is_empty(), "{} of {count} cases:\n{}", failed.len(), failed.join("\n"));
}

/// Why a case, or a row of its spine, is not put to the service.
type Unasked = &'static str;

/// The case's question about the entities of its own facts.
fn entity_set(case: &Case, name: &str, table: &str) -> Result<FeatureSet, Unasked> {
    let (on, cutoff) = match (&case.lookup, &case.window) {
        (Some(lookup), _) => (&lookup.on, lookup.cutoff),
        (None, Some(window)) => (&window.on, window.cutoff),
        (None, None) => panic!("`{}` asks nothing", case.name),
    };
    let mut keys = HashSet::new();
    if !on.iter().all(|(_, key)| keys.insert(key)) {
        return Err("a fact column is the counterpart of two keys");
    }
    let mut set = on.iter().fold(FeatureSet::entities(name, table), |set, (_, key)| set.key(key));
    let mut outputs = (0..).map(|i| format!("out_{i}"));
    if let Some(lookup) = &case.lookup {
        set = lookup.columns.iter().zip(&mut outputs).fold(set, |set, (column, output)| set.lookup(column, &output));
        if let Some(age) = &lookup.max_age {
            set = set.max_age(TimeDelta::microseconds(cases::micros(age)));
        }
    }
    for span in case.window.iter().flat_map(|window| &window.spans) {
        let aggregates: Vec<Aggregate> =
            span.aggregates.iter().zip(&mut outputs).map(|(asked, output)| aggregate(asked).named(output)).collect();
        set = match &span.length {
            Some(length) => set.window(TimeDelta::microseconds(cases::micros(length)), aggregates),
            None => set.all_before(aggregates),
        };
    }
    if cutoff == cases::Cutoff::Inclusive {
        set = set.inclusive();
    }
    Ok(set.build().unwrap_or_else(|e| panic!("{}: {e}", case.name)))
}

/// An instant of the spine as a service would be given it; the zone's rule is written here a second time.
fn request_instant(case: &Case, data_type: &str, value: &Value) -> Result<AsOf, Unasked> {
    let Some(text) = value.as_str() else { return Err("a row without an instant") };
    let nanos = match data_type {
        "date32" => nanos(&format!("{}T00:00:00", text.get(..10).unwrap())),
        _ => nanos(text),
    };
    let us = i64::try_from(nanos.div_euclid(1_000)).unwrap();
    if nanos.rem_euclid(1_000) != 0 {
        return Err("an instant finer than a microsecond");
    }
    if data_type.ends_with(", UTC]") {
        return Ok(AsOf::from_micros(us));
    }
    let zone: chrono_tz::Tz = case.spine.zone.as_ref().unwrap().parse().unwrap();
    let local = chrono::DateTime::from_timestamp_micros(us).unwrap().naive_utc();
    // Twice there: the later one. Not there: the first second that is.
    let after_gap = || {
        let whole = local - TimeDelta::microseconds(us.rem_euclid(1_000_000));
        (1..=86_400).find_map(|s| zone.from_local_datetime(&(whole + TimeDelta::seconds(s))).earliest()).unwrap()
    };
    let instant = zone.from_local_datetime(&local).latest().unwrap_or_else(after_gap);
    Ok(AsOf::from_micros(instant.timestamp_micros()))
}

fn request_value(data_type: &str, value: &Value) -> Result<asof::Value, Unasked> {
    Ok(match (data_type, value) {
        (_, Value::Null) => asof::Value::Null,
        ("bool", value) => value.as_bool().unwrap().into(),
        ("string", value) => value.as_str().unwrap().into(),
        (integer, value) if integer.contains("int") => value.as_i64().ok_or("an integer that a request cannot carry")?.into(),
        _ => return Err("a key that a request cannot carry"),
    })
}

/// What is found where nothing is.
fn nothing(case: &Case) -> Vec<Value> {
    let aggregates = case.window.iter().flat_map(|window| &window.spans).flat_map(|span| &span.aggregates);
    let aggregates = aggregates.map(|asked| match asked.op {
        Op::Count | Op::CountDistinct => json!(0),
        _ => Value::Null,
    });
    case.lookup.iter().flat_map(|lookup| lookup.columns.iter().map(|_| Value::Null)).chain(aggregates).collect()
}

/// What became of the cases.
#[derive(Debug, Default)]
struct Served {
    cases: usize,
    rows: usize,
    unasked: BTreeMap<Unasked, usize>,
    failed: Vec<String>,
}

/// Puts a case to a service: at each instant of its spine the facts are materialized as of then, and asked for each key.
async fn serve(case: &Case, number: usize, store: &FeatureStore, dir: &Path, served: &mut Served) {
    let (table, name) = (format!("facts_{number}"), format!("case_{number}_v1"));
    if case.facts.rows.is_empty() {
        *served.unasked.entry("no facts").or_default() += 1;
        return;
    }
    let set = match entity_set(case, &name, &table) {
        Ok(set) => set,
        Err(why) => return *served.unasked.entry(why).or_default() += 1,
    };
    fs::create_dir_all(dir.join(&table)).unwrap();
    write_batch(&dir.join(&table), "facts.parquet", &batch(&case.facts.columns, &case.facts.rows));
    store.register_table(&table, dir.join(&table).to_str().unwrap(), declared(case)).await.unwrap();
    store.register(set).unwrap();

    let on = case.lookup.as_ref().map_or_else(|| &case.window.as_ref().unwrap().on, |lookup| &lookup.on);
    let position = |name: &str| case.spine.columns.0.iter().position(|(column, _)| column == name).unwrap();
    let value = |row: usize, name: &str| (case.spine.columns.0[position(name)].1.as_str(), &case.spine.rows[row][position(name)]);
    let mut by_instant: BTreeMap<AsOf, Vec<(usize, Vec<asof::Value>)>> = BTreeMap::new();
    for row in 0..case.spine.rows.len() {
        let (data_type, at) = value(row, &case.spine.at);
        let keys = on.iter().map(|(column, _)| {
            let (data_type, key) = value(row, column);
            request_value(data_type, key)
        });
        let asked = request_instant(case, data_type, at).and_then(|at| Ok((at, keys.collect::<Result<Vec<_>, _>>()?)));
        match asked {
            Ok((at, key)) => by_instant.entry(at).or_default().push((row, key)),
            Err(why) => *served.unasked.entry(why).or_default() += 1,
        }
    }
    served.cases += usize::from(!by_instant.is_empty());
    for (at, asked) in by_instant {
        let online = store.online_for(&store.materialize(&name, at).await.unwrap()).await.unwrap();
        for (row, key) in asked {
            let found = match online.get_at(&key, at) {
                Ok(Some(found)) => rows_of(found.batch()).remove(0),
                Ok(None) => nothing(case),
                // Offline such a key matches nothing; a service is told that no entity can have it.
                Err(asof::Error::ColumnType { place, .. }) if place == "the key" && case.expected[row] == nothing(case) => {
                    *served.unasked.entry("a key that the type of the facts' keys cannot hold").or_default() += 1;
                    continue;
                }
                Err(error) => {
                    served.failed.push(format!("{}: row {row} at {at}: {error}", case.name));
                    continue;
                }
            };
            served.rows += 1;
            if let Some(told) = difference(case, &case.expected[row..=row], &[found]) {
                served.failed.push(format!("{}: spine row {row} at {at}: {told}", case.name));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_that_can_be_served_is_answered_online() {
    let dir = temp_dir();
    let mut all = Served::default();
    let themes = themes().into_iter().map(|theme| {
        let dir = dir.path().join(theme.theme.replace(|c: char| !c.is_alphanumeric(), "_"));
        tokio::spawn(async move {
            let options = StoreOptions::default().cache_in_memory();
            let store = FeatureStore::open_with(dir.join("store").to_str().unwrap(), options).await.unwrap();
            let mut served = Served::default();
            for (number, case) in theme.cases.iter().enumerate() {
                serve(case, number, &store, &dir, &mut served).await;
            }
            served
        })
    });
    for theme in themes.collect::<Vec<_>>() {
        let theme = theme.await.unwrap();
        all.cases += theme.cases;
        all.rows += theme.rows;
        all.failed.extend(theme.failed);
        theme.unasked.into_iter().for_each(|(why, count)| *all.unasked.entry(why).or_default() += count);
    }
    assert!(all.failed.is_empty(), "{} of {} cases:\n{}", all.failed.len(), all.cases, all.failed.join("\n"));
    let told = format!("{} cases with {} rows were served; not asked: {:?}", all.cases, all.rows, all.unasked);
    println!("{told}");
    // What cannot be asked is told by name and stays rare.
    assert!(all.cases >= 310 && all.rows >= 500 && all.unasked.values().sum::<usize>() < 30, "{told}");
}

/// The cases and the oracle were written apart from each other.
#[test]
fn the_oracle_agrees_with_every_case() {
    let mut failed = Vec::new();
    for theme in themes() {
        for case in &theme.cases {
            if let Some(told) = difference(case, &case.expected, &oracle::answer(case)) {
                failed.push(format!("{}: {}: {told}", theme.theme, case.name));
            }
        }
    }
    assert!(failed.is_empty(), "{} cases:\n{}", failed.len(), failed.join("\n"));
}

const RANDOM_CASES: u64 = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn random_cases_are_answered_as_the_oracle_answers_them() {
    let wanted = std::env::var("ASOF_RANDOM_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(RANDOM_CASES);
    let tasks = (0..8u64).map(|part| {
        tokio::spawn(async move {
            for seed in (part..wanted).step_by(8) {
                let mut rng = StdRng::seed_from_u64(seed);
                let case = random_cases::random_case(&mut rng);
                let layout = Layout {
                    batch_rows: [1, 2, 7, 64, 1_000][rng.random_range(0..5)],
                    partitions: rng.random_range(1..4),
                    tasks: rng.random_range(1..4),
                };
                let told = match ask(&case, layout).await {
                    Ok(answer) => difference(&case, &oracle::answer(&case), &rows_of(&answer)),
                    Err(error) => Some(error.to_string()),
                };
                if let Some(told) = told {
                    panic!("seed {seed}, {layout:?}: {told}\n{}", serde_json::to_string(&case).unwrap());
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// The fixtures of pandas' own tests of `merge_asof`, when they are there: expected rows made by somebody else.
///
/// pandas counts an exact match, and its tests drop duplicate quotes and keep the last: the line number as tie-break says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_fixtures_of_pandas_are_answered_as_pandas_answers_them() {
    let Some(dir) = crate::real_data::shared("merge_asof") else { return };
    let read = |name: &str| -> Vec<Vec<Value>> {
        let text = fs::read_to_string(dir.join(name)).unwrap();
        let cell = |(i, text): (usize, &str)| match i {
            0 => json!(format!("{}-{}-{}T{}", &text[..4], &text[4..6], &text[6..8], &text[9..])),
            1 | 4 if text.parse::<f64>().is_err() => json!(text),
            _ if text.is_empty() => Value::Null,
            _ => json!(text.parse::<f64>().unwrap()),
        };
        text.lines().skip(1).map(|line| line.split(',').enumerate().map(cell).collect()).collect()
    };
    let columns = |names: &[(&str, &str)]| Columns(names.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect());
    for (trades, quotes, expected, max_age) in [
        ("trades.csv", "quotes.csv", "asof.csv", None),
        ("trades.csv", "quotes.csv", "tolerance.csv", Some("1d".to_owned())),
        ("trades2.csv", "quotes2.csv", "asof2.csv", None),
    ] {
        let quotes = read(quotes).into_iter().enumerate().map(|(line, mut row)| {
            row.push(json!(line));
            row
        });
        let spine = read(trades).into_iter().map(|row| row[..3].to_vec());
        let case = Case {
            name: expected.into(),
            why: "pandas says so".into(),
            facts: cases::Facts {
                event_time: "time".into(),
                known_at: None,
                delay: Some("0s".into()),
                zone: None,
                tie_break: vec!["line".into()],
                identity: Vec::new(),
                columns: columns(&[
                    ("time", "timestamp[ms, UTC]"),
                    ("ticker", "string"),
                    ("bid", "float64"),
                    ("ask", "float64"),
                    ("line", "int64"),
                ]),
                rows: quotes.collect(),
            },
            spine: cases::Spine {
                at: "time".into(),
                zone: None,
                columns: columns(&[("time", "timestamp[ms, UTC]"), ("ticker", "string"), ("price", "float64")]),
                rows: spine.collect(),
            },
            lookup: Some(cases::Lookup {
                on: vec![("ticker".into(), "ticker".into())],
                columns: vec!["bid".into(), "ask".into()],
                cutoff: cases::Cutoff::Inclusive,
                max_age,
            }),
            window: None,
            expected: read(expected).into_iter().map(|row| row[5..7].to_vec()).collect(),
        };
        for layout in [PLAIN, Layout { batch_rows: 3, partitions: 3, tasks: 2 }] {
            let answer = rows_of(&ask(&case, layout).await.unwrap());
            assert_eq!(difference(&case, &case.expected, &answer), None, "{expected}");
        }
    }
}
