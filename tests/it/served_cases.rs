//! The conformance cases put to a service: the facts are materialized, and asked for each key of the spine.
//! What a service cannot be asked is counted by name, and stays rare.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
};

use asof::{Aggregate, AsOf, FeatureSet, FeatureStore, StoreOptions};
use chrono::{NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone};
use serde_json::{Value, json};

use crate::{
    asking::{aggregate, declared, difference, rows_of, themes, window_length},
    case_arrow::{batch, nanos},
    cases::{self, Case, Op},
    support::{temp_dir, write_batch},
};

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
        set = match window_length(span) {
            Some(length) => set.window(length, aggregates),
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
    // Twice there: the first one. Not there: what it is by the clock that shows the first second that is.
    let in_gap = || {
        let after = (1..=86_400).find_map(|s| zone.from_local_datetime(&(local + TimeDelta::seconds(s))).earliest()).unwrap();
        zone.from_utc_datetime(&(local - TimeDelta::seconds(i64::from(after.offset().fix().local_minus_utc()))))
    };
    let instant = zone.from_local_datetime(&local).earliest().unwrap_or_else(in_gap);
    Ok(AsOf::from_micros(instant.timestamp_micros()))
}

fn request_value(data_type: &str, value: &Value) -> asof::Value {
    match (data_type, value) {
        (_, Value::Null) => asof::Value::Null,
        ("bool", value) => value.as_bool().unwrap().into(),
        ("string", value) => value.as_str().unwrap().into(),
        ("uint64", value) => value.as_u64().unwrap().into(),
        (integer, value) if integer.contains("int") => value.as_i64().unwrap().into(),
        ("date32", value) => value.as_str().unwrap()[..10].parse::<NaiveDate>().unwrap().into(),
        (instant, value) if instant.ends_with(", UTC]") => {
            let nanos = nanos(value.as_str().unwrap());
            match nanos.rem_euclid(1_000) {
                0 => AsOf::from_micros(i64::try_from(nanos / 1_000).unwrap()).into(),
                _ => asof::Value::InstantNanos(i64::try_from(nanos).unwrap()),
            }
        }
        (local, value) if local.starts_with("timestamp[") => value.as_str().unwrap().parse::<NaiveDateTime>().unwrap().into(),
        (other, value) => panic!("no key is {other}: {value}"),
    }
}

/// What is found where nothing is.
fn nothing(case: &Case) -> Vec<Value> {
    let aggregates = case.window.iter().flat_map(|window| &window.spans).flat_map(|span| &span.aggregates);
    let aggregates = aggregates.map(|asked| match asked.op {
        Op::Count | Op::CountDistinct | Op::ApproxCountDistinct => json!(0),
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
        let asked = request_instant(case, data_type, at).map(|at| (at, keys.collect::<Vec<_>>()));
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
                Ok(found) => rows_of(&found.batch().unwrap()).remove(0),
                // Offline such a key matches nothing; a service is told that no entity can have it.
                Err(asof::Error::ColumnType { subject, .. }) if subject == "the key" && case.expected[row] == nothing(case) => {
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
