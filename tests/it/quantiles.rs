//! One definition of a quantile: the percentiles that an encoder learns have the bits of the quantiles of a window over the same
//! values.

use std::{path::Path, sync::Arc};

use asof::{
    Aggregate, FeatureSet, FeatureStore,
    encoder::{Number, OutlierFilter},
    temporal::{Facts, Spine, Window},
};
use datafusion::arrow::{
    array::{ArrayRef, AsArray, Float64Array, RecordBatch, TimestampMicrosecondArray},
    datatypes::Float64Type,
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    asking::{PLAIN, table},
    support::{instant, store, temp_dir, write_parquet},
    training::{SECOND_US, batch, collected, instants, integers, known_at_once, session},
};

/// Pairs of percentiles: the ends, the middle, and some whose product with a count is no float.
const PERCENTILES: [[f64; 2]; 5] = [[0.0, 100.0], [50.0, 98.0], [2.0, 99.9], [100.0 / 3.0, 200.0 / 3.0], [1e-300, 71.3]];
const ROWS: [usize; 8] = [1, 2, 3, 4, 11, 60, 101, 1_000];

/// Columns of finite floats: amounts, few different values, and numbers of any size and sign.
fn columns(rng: &mut StdRng, rows: usize) -> Vec<(String, Vec<f64>)> {
    let ties = [-2.5, -0.0, 0.0, 1.0, 1.0f64.next_up(), 1e17];
    let mut column = |name: &str, mut value: Box<dyn FnMut(&mut StdRng) -> f64>| {
        (name.to_owned(), (0..rows).map(|_| value(rng)).collect::<Vec<f64>>())
    };
    let sized = |low: i32, high: i32| -> Box<dyn FnMut(&mut StdRng) -> f64> {
        Box::new(move |rng| {
            let sign = if rng.random_bool(0.5) { -1.0 } else { 1.0 };
            sign * rng.random_range(1.0..10.0) * 10f64.powi(rng.random_range(low..high))
        })
    };
    vec![
        column("amount", Box::new(|rng| f64::from(rng.random_range(-1_000..100_000)) / 100.0)),
        column("ties", Box::new(move |rng| *ties.choose(rng).unwrap())),
        column("huge", sized(290, 308)),
        column("small", Box::new(|rng| rng.random_range(-1.0..1.0) * 1e-300 * 10f64.powi(-rng.random_range(0..24)))),
        column("negative", Box::new(|rng| -rng.random_range(0.0..1e9))),
        column("any", sized(-300, 308)),
    ]
}

type Columns = [(String, Vec<f64>)];

fn float(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

/// The instants of the facts, a second apart.
fn times_us(rows: usize) -> impl Iterator<Item = i64> {
    let first_us = instant("2014-01-10").micros();
    (0..rows as i64).map(move |i| first_us + i * SECOND_US)
}

async fn store_of(root: &Path, data: &Path, columns: &Columns) -> FeatureStore {
    let times = times_us(columns[0].1.len());
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"));
    let mut file = vec![("at", at)];
    file.extend(columns.iter().map(|(name, values)| (name.as_str(), float(values))));
    write_parquet(&data.join("month=1/facts.parquet"), &file, None);
    let store = store(root).await;
    store.register_table("t", data.to_str().unwrap(), known_at_once()).await.unwrap();
    store
}

/// What a filter between these percentiles learns of each column.
async fn learned(store: &FeatureStore, name: &str, [low, high]: [f64; 2], columns: &Columns) -> serde_json::Value {
    let filter = OutlierFilter::between_percentiles(low, high).of(columns.iter().map(|(name, _)| name));
    let set = FeatureSet::rows(name, "SELECT * FROM t").table("t").event_time("at").keep(filter);
    store.register(set.encode(Number::of("amount")).build().unwrap()).unwrap();
    let made = store.materialize(name, instant("2014-02-01")).await.unwrap();
    made.manifest().selections[0].state.clone()
}

/// The quantiles of each column in a window over all facts: `<column>_low` and `<column>_high`.
async fn of_window([low, high]: [f64; 2], columns: &Columns) -> RecordBatch {
    let (session, rows) = (session(PLAIN), columns[0].1.len());
    let mut facts = vec![("k", integers((0..rows).map(|_| Some(1)))), ("at", instants(times_us(rows).map(Some)))];
    facts.extend(columns.iter().map(|(name, values)| (name.as_str(), float(values))));
    let facts = session.read_table(table(batch(facts), PLAIN)).unwrap();
    let bound =
        |name: &str, bound: &str, percentile: f64| Aggregate::quantile(name, percentile / 100.0).named(format!("{name}_{bound}"));
    let quantiles = columns.iter().flat_map(|(name, _)| [bound(name, "low", low), bound(name, "high", high)]);
    let window = Window::of(Facts::new("facts", facts, known_at_once())).on("k").all_before(quantiles);
    let end = instant("2014-02-01").micros();
    let spine = batch(vec![("k", integers([Some(1)])), ("t", instants([Some(end)]))]);
    let spine = Spine::new(session.read_table(table(spine, PLAIN)).unwrap(), "t");
    collected(spine.window([window]).unwrap().into_rows()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outlier_filter_learns_the_bits_of_a_window() {
    for (seed, rows) in (0..).zip(ROWS) {
        let columns = columns(&mut StdRng::seed_from_u64(seed), rows);
        let (data, root) = (temp_dir(), temp_dir());
        let store = store_of(root.path(), data.path(), &columns).await;
        for (i, percentiles) in PERCENTILES.into_iter().enumerate() {
            let learned = learned(&store, &format!("bounds_{i}_v1"), percentiles, &columns).await;
            let of_window = of_window(percentiles, &columns).await;
            for (name, _) in &columns {
                for bound in ["low", "high"] {
                    let quantiles = of_window.column_by_name(&format!("{name}_{bound}")).unwrap();
                    let (x, y) = (learned[name][bound].as_f64().unwrap(), quantiles.as_primitive::<Float64Type>().value(0));
                    assert_eq!(x.to_bits(), y.to_bits(), "{bound} of {name}, {percentiles:?}, {rows} rows: {x:e} {y:e}");
                }
            }
        }
    }
}
