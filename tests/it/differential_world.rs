//! Small tables for random queries: as the library has them, and cut by hand with the operators' results worked out naively.
//! What is asked of them is the business of `differential_queries`.

use std::sync::Arc;

use asof::{
    Aggregate, AsOf, FeatureSet, FeatureStore, Resources, StoreOptions,
    catalog::{FactTable, KnownAt},
    temporal::{AsOfDataFrame, Facts, Lookup, Spine, Window},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray},
        datatypes::DataType,
    },
    datasource::MemTable,
    prelude::{DataFrame, SessionContext},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    asking::{Layout, table},
    differential_queries::{Col, Kind, Rel},
    support::{store_with, write_batch},
    training::{batch, instants, integers, session},
};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// The start of 2024.
const START_US: i64 = 1_704_067_200_000_000;
/// The lengths of the windows, in days.
pub(crate) const DAYS: [i64; 2] = [3, 20];
pub(crate) const TASKS: [usize; 4] = [1, 2, 4, 8];

/// A fact, or a row of the spine, or a row of neither: all tables have these columns.
#[derive(Debug, Clone)]
struct Row {
    id: i64,
    k: Option<i64>,
    g: Option<&'static str>,
    at: i64,
    known: i64,
    v: Option<i64>,
    x: Option<f64>,
}

/// The rows of a table, spread over `months` from the start on; no two happen at one instant.
fn some_rows(rng: &mut StdRng, count: i64, months: i64) -> Vec<Row> {
    let step = months * 30 * DAY_US / count.max(1);
    let mut rows: Vec<Row> = (0..count)
        .map(|id| {
            let at = START_US + id * step + rng.random_range(0..step / HOUR_US) * HOUR_US;
            Row {
                id,
                k: rng.random_bool(0.93).then(|| rng.random_range(0..5)),
                g: rng.random_bool(0.9).then(|| ["a", "b", "ab"][rng.random_range(0..3)]),
                at,
                known: at + rng.random_range(0..8) * rng.random_range(0..3) * 6 * HOUR_US,
                v: rng.random_bool(0.85).then(|| rng.random_range(-9..10)),
                // Sums of these are exact in any order.
                x: rng.random_bool(0.85).then(|| rng.random_range(-40..40) as f64 / 4.0),
            }
        })
        .collect();
    // Keys and values do not follow time.
    for i in (1..rows.len()).rev() {
        let other = rng.random_range(0..=i);
        let (a, b) = (rows[i].id, rows[other].id);
        (rows[i].id, rows[other].id) = (b, a);
    }
    rows
}

fn columns(rows: &[Row]) -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("id", integers(rows.iter().map(|r| Some(r.id)))),
        ("k", integers(rows.iter().map(|r| r.k))),
        ("g", Arc::new(rows.iter().map(|r| r.g).collect::<StringArray>())),
        ("at", instants(rows.iter().map(|r| Some(r.at)))),
        ("known", instants(rows.iter().map(|r| Some(r.known)))),
        ("v", integers(rows.iter().map(|r| r.v))),
        ("x", Arc::new(rows.iter().map(|r| r.x).collect::<Float64Array>())),
    ]
}

const PLAIN_COLUMNS: [(&str, Kind); 6] =
    [("id", Kind::Int), ("k", Kind::Int), ("g", Kind::Text), ("at", Kind::Time), ("v", Kind::Int), ("x", Kind::Float)];

/// Which facts a row may see, and of which the newest (or the next) counts.
#[derive(Clone, Copy)]
struct Sees {
    keys: &'static [&'static str],
    operator: &'static str,
    is_known: bool,
}

impl Sees {
    fn fact(self, row: &Row, fact: &Row) -> bool {
        let same = |key: &&str| match *key {
            "k" => row.k.is_some() && row.k == fact.k,
            _ => row.g.is_some() && row.g == fact.g,
        };
        let compared = |time: i64| match self.operator {
            ">" => time < row.at,
            ">=" => time <= row.at,
            "<" => time > row.at,
            _ => time >= row.at,
        };
        self.keys.iter().all(same) && compared(fact.at) && (!self.is_known || compared(fact.known))
    }

    fn closest(self, row: &Row, facts: &[Row]) -> Option<Row> {
        let seen = facts.iter().filter(|fact| self.fact(row, fact));
        let closest = if self.operator.starts_with('>') { seen.max_by_key(|f| f.at) } else { seen.min_by_key(|f| f.at) };
        closest.cloned()
    }
}

/// The looked-up columns of each row of a spine.
fn looked_up(spine: &[Row], facts: &[Row], sees: Sees, prefix: &'static str) -> Vec<(String, ArrayRef)> {
    let found: Vec<Option<Row>> = spine.iter().map(|row| sees.closest(row, facts)).collect();
    let ints = |of: fn(&Row) -> Option<i64>| integers(found.iter().map(|f| f.as_ref().and_then(of)));
    vec![
        (format!("{prefix}_at"), instants(found.iter().map(|f| f.as_ref().map(|f| f.at)))),
        (format!("{prefix}_v"), ints(|f| f.v)),
        (format!("{prefix}_x"), Arc::new(found.iter().map(|f| f.as_ref().and_then(|f| f.x)).collect::<Float64Array>())),
        (format!("{prefix}_g"), Arc::new(found.iter().map(|f| f.as_ref().and_then(|f| f.g)).collect::<StringArray>())),
    ]
}

fn looked_up_columns(prefix: &str) -> Vec<Col> {
    let kinds = [("at", Kind::Time), ("v", Kind::Int), ("x", Kind::Float), ("g", Kind::Text)];
    kinds.into_iter().map(|(name, kind)| Col { name: format!("{prefix}_{name}"), kind }).collect()
}

/// Count, sum and largest `v`, over windows of some days and over everything before.
fn aggregated(spine: &[Row], facts: &[Row], sum_type: &DataType) -> Vec<(String, ArrayRef)> {
    let sees = Sees { keys: &["k"], operator: ">", is_known: true };
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for (i, days) in DAYS.map(Some).into_iter().chain([None]).enumerate() {
        let windows: Vec<Vec<i64>> = spine
            .iter()
            .map(|row| {
                let starts = days.map_or(i64::MIN, |days| row.at - days * DAY_US);
                facts.iter().filter(|f| sees.fact(row, f) && f.at >= starts).map(|f| f.v.unwrap_or(i64::MIN)).collect()
            })
            .collect();
        let values = |w: &[i64]| w.iter().copied().filter(|v| *v != i64::MIN).collect::<Vec<_>>();
        let sums: Vec<Option<i64>> = windows.iter().map(|w| values(w).into_iter().reduce(|a, b| a + b)).collect();
        let sums: ArrayRef = match sum_type {
            DataType::Int64 => Arc::new(Int64Array::from(sums)),
            _ => Arc::new(sums.into_iter().map(|s| s.map(|s| s as f64)).collect::<Float64Array>()),
        };
        columns.push((format!("n{i}"), integers(windows.iter().map(|w| Some(w.len() as i64)))));
        columns.push((format!("s{i}"), sums));
        columns.push((format!("m{i}"), integers(windows.iter().map(|w| values(w).into_iter().max()))));
    }
    columns
}

fn aggregated_columns() -> Vec<Col> {
    let of = |i: usize| [(format!("n{i}"), Kind::Int), (format!("s{i}"), Kind::Float), (format!("m{i}"), Kind::Int)];
    (0..3).flat_map(of).map(|(name, kind)| Col { name, kind }).collect()
}

fn aggregates(i: usize) -> [Aggregate; 3] {
    [
        Aggregate::count().named(format!("n{i}")),
        Aggregate::sum("v").named(format!("s{i}")),
        Aggregate::max("v").named(format!("m{i}")),
    ]
}

/// Tables, and everything that can be asked about them.
pub(crate) struct World {
    _dir: tempfile::TempDir,
    /// Stores of one root, each with its number of tasks.
    pub(crate) stores: Vec<FeatureStore>,
    /// Sessions in which views are made by the operators, each with its number of tasks.
    pub(crate) sessions: Vec<SessionContext>,
    /// Plain DataFusion over what was cut by hand.
    pub(crate) by_hand: SessionContext,
    pub(crate) in_store: Vec<Rel>,
    pub(crate) in_session: Vec<Rel>,
    pub(crate) as_of: AsOf,
}

fn own_columns() -> Vec<Col> {
    PLAIN_COLUMNS.map(|(name, kind)| Col { name: name.into(), kind }).into()
}

/// Columns `r.id, r.k, ...` and those looked up in `f`, by their names in both worlds.
fn joined_names(prefix: &str, right: &str) -> Vec<(String, String)> {
    let own = PLAIN_COLUMNS.map(|(name, _)| (name.to_owned(), format!("{{}}.{name}")));
    let found = ["at", "v", "x", "g"].map(|name| (format!("{prefix}_{name}"), format!("{right}.{name}")));
    own.into_iter().chain(found).collect()
}

impl World {
    pub(crate) async fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let dir = crate::support::temp_dir();
        let months = 4;
        let as_of = AsOf::from_micros(START_US + 100 * DAY_US + 5 * HOUR_US);
        let mut spine = some_rows(&mut rng, 60, months);
        let facts = some_rows(&mut rng, 130, months);
        let plain = some_rows(&mut rng, 70, months);
        let dim = some_rows(&mut rng, 9, months);
        // Rows at the very instants of facts.
        for row in &mut spine {
            if rng.random_bool(0.2) {
                row.at = facts[rng.random_range(0..facts.len())].at;
            }
        }
        let names = ["r", "f", "p", "d"];
        let tables = [&spine, &facts, &plain, &dim];
        for (name, rows) in names.into_iter().zip(tables) {
            for (i, part) in parts(rows, if name == "d" { 1 } else { 5 }).into_iter().enumerate() {
                std::fs::create_dir_all(dir.path().join(name)).unwrap();
                write_batch(&dir.path().join(name), &format!("{i}.parquet"), &batch(columns(&part)));
            }
        }

        // What is visible, by hand.
        let visible = |rows: &[Row], is_known: bool| -> Vec<Row> {
            let cut = as_of.micros();
            rows.iter().filter(|row| row.at < cut && (!is_known || row.known < cut)).cloned().collect()
        };
        let (r, f, p, d) = (visible(&spine, false), visible(&facts, true), visible(&plain, false), visible(&dim, false));

        let root = dir.path().join("root");
        let mut stores = Vec::new();
        for partitions in TASKS {
            let options = StoreOptions::default().cache_in_memory();
            let options = options.resources(Resources { partitions, batch_rows: 64, ..Default::default() });
            let store = store_with(&root, options).await;
            if stores.is_empty() {
                for name in names {
                    let place = dir.path().join(name);
                    store.register_table(name, place.to_str().unwrap(), declared(name)).await.unwrap();
                }
            }
            store.register(trained_set()).unwrap();
            stores.push(store);
        }

        let by_hand = session(Layout { batch_rows: 8_192, partitions: 1, tasks: 1 });
        let add = |name: &str, columns: Vec<(String, ArrayRef)>| {
            let rows = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
            by_hand.register_table(name, Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap())).unwrap();
        };
        let plain_columns = |rows: &[Row]| -> Vec<(String, ArrayRef)> {
            columns(rows).into_iter().filter(|(n, _)| *n != "known").map(|(n, c)| (n.to_owned(), c)).collect()
        };
        for (name, rows) in [("r", &r), ("f", &f), ("p", &p), ("d", &d)] {
            add(name, plain_columns(rows));
        }
        let mut in_store: Vec<Rel> = names.iter().map(|name| Rel::plain(name, name, own_columns())).collect();
        let asked: [(&str, &str, &[Row], Sees); 6] = [
            ("j0", "f", &f, Sees { keys: &["k"], operator: ">", is_known: true }),
            ("j1", "f", &f, Sees { keys: &["k", "g"], operator: ">=", is_known: true }),
            ("j2", "p", &p, Sees { keys: &["k"], operator: "<", is_known: false }),
            ("j3", "p", &p, Sees { keys: &["g"], operator: ">", is_known: false }),
            ("j4", "p", &p, Sees { keys: &[], operator: ">=", is_known: false }),
            ("j5", "p", &p, Sees { keys: &["g", "k"], operator: "<=", is_known: false }),
        ];
        for (name, right, facts, sees) in asked {
            add(name, plain_columns(&r).into_iter().chain(looked_up(&r, facts, sees, right)).collect());
            let on: Vec<String> = sees.keys.iter().map(|key| format!("{{}}.{key} = {right}.{key}")).collect();
            let on = if on.is_empty() { String::new() } else { format!(" ON {}", on.join(" AND ")) };
            let rest = format!(" ASOF JOIN {right} MATCH_CONDITION ({{}}.at {} {right}.at){on}", sees.operator);
            let cols = own_columns().into_iter().chain(looked_up_columns(right)).collect();
            in_store.push(Rel::joined(name, rest, cols, joined_names(right, right)));
        }
        // Two in a row.
        let first = looked_up(&r, &f, Sees { keys: &["k"], operator: ">", is_known: true }, "f");
        let second = looked_up(&r, &p, Sees { keys: &["k"], operator: ">", is_known: false }, "p");
        add("jj", plain_columns(&r).into_iter().chain(first).chain(second).collect());
        let rest = " ASOF JOIN f MATCH_CONDITION ({}.at > f.at) ON {}.k = f.k \
                    ASOF JOIN p MATCH_CONDITION ({}.at > p.at) ON {}.k = p.k";
        let cols = own_columns().into_iter().chain(looked_up_columns("f")).chain(looked_up_columns("p")).collect();
        let names = joined_names("f", "f").into_iter().chain(joined_names("p", "p").split_off(PLAIN_COLUMNS.len())).collect();
        in_store.push(Rel::joined("jj", rest.to_owned(), cols, names));

        let [first, second] = DAYS;
        let call = format!(
            "trailing('r', 'at', 'f', 'k', '{first} days', 'count(*) AS n0, sum(v) AS s0, max(v) AS m0', \
             '{second} days', 'count(*) AS n1, sum(v) AS s1, max(v) AS m1', 'all', 'count(*) AS n2, sum(v) AS s2, max(v) AS m2')"
        );
        let shown = stores[0].sql(&format!("SELECT s0 FROM {call}"), as_of).await.unwrap();
        let sum_type = shown.schema().field(0).data_type().clone();
        add("tr", plain_columns(&r).into_iter().chain(aggregated(&r, &f, &sum_type)).collect());
        let with_windows = || own_columns().into_iter().chain(aggregated_columns()).collect::<Vec<_>>();
        in_store.push(Rel::plain("tr", &call, with_windows()));

        // The same in sessions of the user's, over tables in memory of several partitions.
        let newest = looked_up(&r, &f, Sees { keys: &["k"], operator: ">", is_known: true }, "f");
        let both = || plain_columns(&r).into_iter().chain(newest.clone()).chain(aggregated(&r, &f, &sum_type));
        add("both", both().collect());
        let mut sessions = Vec::new();
        for (tasks, store) in TASKS.into_iter().zip(&stores) {
            let layout =
                |rng: &mut StdRng| Layout { batch_rows: rng.random_range(5..40), partitions: rng.random_range(1..5), tasks };
            let session = session(layout(&mut rng));
            for (name, rows) in [("r", &r), ("p", &p), ("d", &d)] {
                let rows = RecordBatch::try_from_iter_with_nullable(plain_columns(rows).into_iter().map(|(n, c)| (n, c, true)));
                session.register_table(name, table(rows.unwrap(), layout(&mut rng))).unwrap();
            }
            session.register_table("f", table(batch(columns(&f)), layout(&mut rng))).unwrap();
            let facts = || async { Facts::new("f", session.table("f").await.unwrap(), declared("f")) };
            let spine = session.table("r").await.unwrap();
            let trained =
                store.training_set("trained_v1", Spine::new(spine.clone(), "at")).await.unwrap().dataframe().await.unwrap();
            let session = SessionContext::new_with_state(trained.clone().into_parts().0);
            session.register_table("trained", trained.into_view()).unwrap();
            for (name, sql) in in_store.iter().filter_map(Rel::makes_view) {
                session.register_table(name.as_str(), store.sql(&sql, as_of).await.unwrap().into_view()).unwrap();
            }
            session.register_table("both", ask_both(spine, facts().await).into_view()).unwrap();
            sessions.push(session);
        }
        let both_columns =
            || own_columns().into_iter().chain(looked_up_columns("f")).chain(aggregated_columns()).collect::<Vec<_>>();
        let mut in_session: Vec<Rel> = ["r", "p", "d"].map(|name| Rel::plain(name, name, own_columns())).into();
        in_session.extend(in_store.iter().filter(|rel| rel.makes_view().is_some()).map(Rel::view));
        in_session.push(Rel::plain("both", "both", both_columns()));
        in_session.push(Rel::plain("both", "trained", both_columns()));
        Self { _dir: dir, stores, sessions, by_hand, in_store, in_session, as_of }
    }
}

/// The rows of each file: some, in any order.
fn parts(rows: &[Row], count: usize) -> Vec<Vec<Row>> {
    rows.chunks(rows.len().div_ceil(count)).map(<[Row]>::to_vec).collect()
}

fn declared(name: &str) -> FactTable {
    match name {
        "f" => FactTable::new("at", KnownAt::column("known")),
        _ => FactTable::new("at", KnownAt::after(TimeDelta::zero())),
    }
}

fn trained_set() -> FeatureSet {
    let mut set = FeatureSet::entities("trained_v1", "f").key("k");
    for column in ["at", "v", "x", "g"] {
        set = set.lookup(column, &format!("f_{column}"));
    }
    for (i, days) in DAYS.into_iter().enumerate() {
        set = set.window(TimeDelta::days(days), aggregates(i));
    }
    set.all_before(aggregates(2)).build().unwrap()
}

fn ask_both(spine: DataFrame, facts: Facts) -> DataFrame {
    let mut lookup = Lookup::of(facts.clone()).on("k");
    for column in ["at", "v", "x", "g"] {
        lookup = lookup.column_as(column, format!("f_{column}"));
    }
    let mut window = Window::of(facts).on("k");
    for (i, days) in DAYS.into_iter().enumerate() {
        window = window.trailing(TimeDelta::days(days), aggregates(i));
    }
    let rows = spine.lookup_as_of("at", [lookup]).unwrap();
    rows.window_as_of("at", [window.all_before(aggregates(2))]).unwrap()
}
