//! Approximate counts where they are estimates: near the exact counts, with the same bits however the facts are read, served as
//! they are trained on, and in bounded memory. Where they are exact the conformance cases hold them.

use std::{collections::BTreeSet, sync::Arc};

use asof::{
    Aggregate, AsOf, Error, FeatureSet, Value,
    temporal::{Facts, Spine, Window},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array},
        compute::take_record_batch,
        datatypes::Int64Type,
    },
    execution::{memory_pool::GreedyMemoryPool, runtime_env::RuntimeEnvBuilder},
    prelude::{SessionConfig, SessionContext},
};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::{
    asking::{Layout, PLAIN, table},
    sql::memory,
    support::{temp_dir, write_batch},
    training::{SECOND_US, batch, collected, instants, integers, known_at_once, session},
};

const FACTS: i64 = 40_000;
/// Windows that end here hold from none to all of the facts. A fact happens every second, from second 0 on.
const ENDS: [i64; 8] = [0, 100, 700, 5_000, 5_001, 12_000, 30_000, FACTS];
const LENGTHS: [Option<i64>; 3] = [Some(600), Some(10_000), None];

/// The key, the text and the number of a fact: entity 1 has many different values, and entity 2 never more than 400.
fn fact(second: i64) -> (i64, String, i64) {
    match second % 8 {
        0 => (2, format!("item {}", second % 3_200), second / 8 % 400),
        _ => (1, format!("item {}", second * 7_919 % 15_000), second * 104_729 % 20_011),
    }
}

fn facts() -> RecordBatch {
    let all: Vec<(i64, String, i64)> = (0..FACTS).map(fact).collect();
    batch(vec![
        ("k", integers(all.iter().map(|fact| Some(fact.0)))),
        ("at", instants((0..FACTS).map(|second| Some(second * SECOND_US)))),
        ("word", Arc::new(StringArray::from_iter_values(all.iter().map(|fact| fact.1.as_str()))) as ArrayRef),
        ("number", integers(all.iter().map(|fact| Some(fact.2)))),
    ])
}

fn spine(ends: &[i64]) -> RecordBatch {
    let rows: Vec<(i64, i64)> = ends.iter().flat_map(|&end| [(1, end), (2, end)]).collect();
    batch(vec![
        ("k", integers(rows.iter().map(|row| Some(row.0)))),
        ("t", instants(rows.iter().map(|row| Some(row.1 * SECOND_US)))),
    ])
}

fn name(column: &str, length: Option<i64>) -> String {
    length.map_or_else(|| format!("{column}_all"), |seconds| format!("{column}_{seconds}s"))
}

fn aggregates(length: Option<i64>) -> [Aggregate; 2] {
    ["word", "number"].map(|column| Aggregate::approx_count_distinct(column).named(name(column, length)))
}

/// The exact counts at each row of the spine, in the order of lengths and columns.
fn exact(ends: &[i64]) -> Vec<Vec<i64>> {
    let of_row = |(key, end): (i64, i64)| {
        let of_length = |length: Option<i64>| {
            let (mut words, mut numbers) = (BTreeSet::new(), BTreeSet::new());
            for (found, word, number) in (length.map_or(0, |length| (end - length).max(0))..end).map(fact) {
                if found == key {
                    words.insert(word);
                    numbers.insert(number);
                }
            }
            [words.len() as i64, numbers.len() as i64]
        };
        LENGTHS.into_iter().flat_map(of_length).collect()
    };
    ends.iter().flat_map(|&end| [(1, end), (2, end)]).map(of_row).collect()
}

fn counts_of(rows: &RecordBatch) -> Vec<Vec<i64>> {
    let count = |row: usize, column: &ArrayRef| column.as_primitive::<Int64Type>().value(row);
    (0..rows.num_rows()).map(|row| rows.columns()[2..].iter().map(|column| count(row, column)).collect()).collect()
}

async fn counted(ends: &[i64], facts: RecordBatch, layout: Layout) -> Vec<Vec<i64>> {
    let session = session(layout);
    let facts = Facts::new("facts", session.read_table(table(facts, layout)).unwrap(), known_at_once());
    let window = LENGTHS.into_iter().fold(Window::of(facts).on("k"), |window, length| match length {
        Some(seconds) => window.trailing(TimeDelta::seconds(seconds), aggregates(length)),
        None => window.all_before(aggregates(length)),
    });
    let spine = session.read_table(table(spine(ends), layout)).unwrap();
    counts_of(&collected(Spine::new(spine, "t").window([window]).unwrap().into_rows()).await)
}

/// How facts are read, which other rows are asked about and what other windows there are decide how facts are cut into slices: the
/// same values are kept as few hashes here, and as ranks there.
#[tokio::test(flavor = "multi_thread")]
async fn estimates_are_near_and_depend_on_the_values_alone() {
    let plain = counted(&ENDS, facts(), PLAIN).await;
    let mut estimates = 0;
    for (row, (found, exact)) in plain.iter().zip(exact(&ENDS)).enumerate() {
        for (&found, exact) in found.iter().zip(exact) {
            if exact <= 512 {
                assert_eq!(found, exact, "row {row}");
            } else {
                estimates += 1;
                // Four standard errors.
                assert!((found - exact).abs() as f64 <= 0.065 * exact as f64, "row {row}: {found} of {exact}");
            }
        }
    }
    assert!(estimates >= 20, "{estimates} estimates");

    let mut rng = StdRng::seed_from_u64(11);
    let mut order: Vec<u32> = (0..FACTS as u32).collect();
    order.shuffle(&mut rng);
    let shuffled = take_record_batch(&facts(), &UInt32Array::from(order)).unwrap();
    for layout in [Layout { batch_rows: 64, partitions: 3, tasks: 2 }, Layout { batch_rows: 8_192, partitions: 2, tasks: 4 }] {
        assert_eq!(counted(&ENDS, facts(), layout).await, plain, "{layout:?}");
        assert_eq!(counted(&ENDS, shuffled.clone(), layout).await, plain, "in another order, {layout:?}");
    }
    // Alone, and with an instant a minute, so that slices are long, and short.
    for (i, end) in ENDS.into_iter().enumerate() {
        assert_eq!(counted(&[end], facts(), PLAIN).await, plain[2 * i..2 * i + 2], "alone at {end}");
    }
    let minutes: Vec<i64> = (0..=FACTS).filter(|second| second % 60 == 0 || ENDS.contains(second)).collect();
    let crowded = counted(&minutes, facts(), PLAIN).await;
    for (i, end) in ENDS.into_iter().enumerate() {
        let at = minutes.iter().position(|&minute| minute == end).unwrap();
        assert_eq!(crowded[2 * at..2 * at + 2], plain[2 * i..2 * i + 2], "among others at {end}");
    }
}

#[tokio::test]
async fn an_estimate_is_served_as_it_is_trained_on() {
    let (dir, store) = (temp_dir(), memory().await);
    write_batch(&dir.path().join("facts"), "facts.parquet", &facts());
    store.register_table("facts", dir.path().join("facts").to_str().unwrap(), known_at_once()).await.unwrap();
    let set = LENGTHS.into_iter().fold(FeatureSet::entities("approx_v1", "facts").key("k"), |set, length| match length {
        Some(seconds) => set.window(TimeDelta::seconds(seconds), aggregates(length)),
        None => set.all_before(aggregates(length)),
    });
    store.register(set.build().unwrap()).unwrap();
    let end = 30_000;
    let expected = counted(&[end], facts(), PLAIN).await;
    let rows = SessionContext::new().read_batch(spine(&[end])).unwrap();
    let trained = store.training_set("approx_v1", Spine::new(rows, "t")).await.unwrap().dataframe().await.unwrap();
    assert_eq!(counts_of(&collected(trained).await), expected);
    let made = store.materialize("approx_v1", AsOf::from_micros(end * SECOND_US)).await.unwrap();
    let online = store.online_for(&made).await.unwrap();
    for (key, expected) in [(1, expected[0].clone()), (2, expected[1].clone()), (3, vec![0; 6])] {
        let row = online.get(&[Value::Int(key)]).unwrap();
        let names = LENGTHS.into_iter().flat_map(|length| ["word", "number"].map(|column| name(column, length)));
        let found: Vec<Option<f64>> = names.map(|name| row.number(&name).unwrap()).collect();
        assert_eq!(found, expected.iter().map(|&count| Some(count as f64)).collect::<Vec<_>>(), "key {key}");
    }
}

/// A million bytes hold the sketches of a window with any number of values, and no exact count of them.
#[tokio::test]
async fn memory_does_not_grow_with_the_values() {
    let rows = 200_000;
    let facts = batch(vec![
        ("k", integers((0..rows).map(|_| Some(1)))),
        ("at", instants((0..rows).map(|second| Some(second * SECOND_US)))),
        ("word", Arc::new(StringArray::from_iter_values((0..rows).map(|i| format!("word {i}")))) as ArrayRef),
    ]);
    let spine = batch(vec![("k", integers([Some(1)])), ("t", instants([Some(rows * SECOND_US)]))]);
    let pool = Arc::new(GreedyMemoryPool::new(1_000_000));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().unwrap();
    let session = SessionContext::new_with_config_rt(SessionConfig::new().with_target_partitions(2), runtime);
    let ask = async |aggregate: Aggregate| {
        let facts = Facts::new("facts", session.read_batch(facts.clone()).unwrap(), known_at_once());
        let window = Window::of(facts).on("k").all_before([aggregate.named("n")]);
        let spine = Spine::new(session.read_batch(spine.clone()).unwrap(), "t");
        spine.window([window]).unwrap().into_rows().collect().await.map_err(Error::from)
    };
    let told = ask(Aggregate::count_distinct("word")).await.unwrap_err();
    assert!(matches!(told, Error::Memory { .. }), "{told:?}");
    let found = ask(Aggregate::approx_count_distinct("word")).await.unwrap();
    let found = found[0].column_by_name("n").unwrap().as_primitive::<Int64Type>().value(0);
    assert!((found - rows).abs() as f64 <= 0.065 * rows as f64, "{found} of {rows}");
}
