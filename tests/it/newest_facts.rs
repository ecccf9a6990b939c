//! Windows over a number of facts, and since the last fact of a kind, where there are many facts: what is dropped on the way changes no
//! answer and bounds the memory.
//! What the newest facts are, the conformance cases and the random cases say.

use std::{collections::BTreeMap, sync::Arc};

use asof::{
    Aggregate, WindowLength,
    catalog::{FactTable, KnownAt},
    temporal::{Facts, Spine, Window},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{Array, AsArray, RecordBatch},
        compute::concat_batches,
        datatypes::{Float64Type, Int64Type},
    },
    execution::{memory_pool::GreedyMemoryPool, runtime_env::RuntimeEnvBuilder},
    prelude::{SessionConfig, SessionContext},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::{
    asking::{Layout, table},
    training::{SECOND_US, batch, instants, integers, known_at_once},
};

const FACTS: usize = 400_000;
const ENTITIES: i64 = 40;
const INSTANTS: [i64; 5] = [10, 3_000, 3_001, 7_777, 20_000];

/// A fact: entity, second at which it happens, second at which it is known, a value.
type Fact = (i64, i64, i64, i64);

/// Facts in no order, many of one time, some known late.
fn facts() -> Vec<Fact> {
    let mut rng = StdRng::seed_from_u64(1);
    let fact = |i: usize| {
        let second = rng.random_range(0..10_000);
        (
            i as i64 % ENTITIES,
            second,
            second + if i.is_multiple_of(5) { rng.random_range(0..4_000) } else { 0 },
            rng.random_range(0..1_000),
        )
    };
    let mut facts: Vec<Fact> = (0..FACTS).map(fact).collect();
    facts.shuffle(&mut StdRng::seed_from_u64(2));
    facts
}

fn rows(facts: &[Fact]) -> RecordBatch {
    batch(vec![
        ("k", integers(facts.iter().map(|fact| Some(fact.0)))),
        ("at", instants(facts.iter().map(|fact| Some(fact.1 * SECOND_US)))),
        ("known", instants(facts.iter().map(|fact| Some(fact.2 * SECOND_US)))),
        ("v", integers(facts.iter().map(|fact| Some(fact.3)))),
    ])
}

/// The windows' lengths: how many facts, within how many seconds, and since the last fact with a larger value.
const LENGTHS: [(Option<u32>, Option<i64>, Option<i64>); 7] = [
    (Some(1), None, None),
    (Some(7), None, None),
    (Some(25), Some(30), None),
    (None, None, Some(990)),
    (None, Some(30), Some(900)),
    (Some(5), None, Some(600)),
    // It marks late and rarely, and is true of few facts that are held for other windows.
    (Some(40), Some(4_000), Some(997)),
];

async fn asked(facts: RecordBatch, layout: Layout, pool_bytes: usize) -> asof::Result<Vec<Vec<i64>>> {
    let pool = Arc::new(GreedyMemoryPool::new(pool_bytes));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().unwrap();
    let config = SessionConfig::new().with_target_partitions(layout.tasks);
    let session = SessionContext::new_with_config_rt(config, runtime);
    let declared = FactTable::new("at", KnownAt::column("known"));
    let mut window = Window::of(Facts::new("facts", session.read_table(table(facts, layout)).unwrap(), declared)).on("k");
    for (i, (count, within, since)) in LENGTHS.into_iter().enumerate() {
        let seconds = |seconds: i64| WindowLength::from(TimeDelta::seconds(seconds));
        let length = match (since.map(|mark| format!("v > {mark}")), within) {
            (Some(mark), Some(within)) => WindowLength::since_within(mark, seconds(within)),
            (Some(mark), None) => WindowLength::since(mark),
            (None, within) => seconds(within.unwrap_or(1_000_000)),
        };
        let length = match count {
            Some(count) if within.is_none() && since.is_none() => WindowLength::facts(count),
            Some(count) => WindowLength::facts_within(count, length),
            None => length,
        };
        window = window.trailing(
            length.clone(),
            [Aggregate::count().named(format!("count_{i}")), Aggregate::last_k("v", 3).named(format!("last_{i}"))],
        );
        window = window.trailing(length, [Aggregate::sum("v").named(format!("sum_{i}"))]);
    }
    let pairs: Vec<(i64, i64)> = (0..ENTITIES).flat_map(|k| INSTANTS.map(|at| (k, at))).collect();
    let spine = batch(vec![
        ("k", integers(pairs.iter().map(|pair| Some(pair.0)))),
        ("t", instants(pairs.iter().map(|pair| Some(pair.1 * SECOND_US)))),
    ]);
    let rows = Spine::new(session.read_batch(spine).unwrap(), "t").window([window])?.into_rows().collect().await?;
    let rows = concat_batches(&rows[0].schema(), &rows).unwrap();
    let column = |name: &str| rows.column_by_name(name).unwrap().clone();
    let answer = |row: usize| {
        (0..LENGTHS.len()).flat_map(move |i| {
            let lists = column(&format!("last_{i}"));
            let list = lists.as_list::<i32>();
            let sum = column(&format!("sum_{i}"));
            let mut values = vec![column(&format!("count_{i}")).as_primitive::<Int64Type>().value(row)];
            values.push(if sum.is_null(row) { 0 } else { sum.as_primitive::<Float64Type>().value(row) as i64 });
            if !list.is_null(row) {
                values.extend(list.value(row).as_primitive::<Int64Type>().values().iter());
            }
            values
        })
    };
    Ok((0..rows.num_rows()).map(|row| answer(row).collect()).collect())
}

/// What must come out, by looking at all facts of an entity.
fn expected(facts: &[Fact]) -> Vec<Vec<i64>> {
    let mut of_entity: BTreeMap<i64, Vec<Fact>> = BTreeMap::new();
    facts.iter().for_each(|fact| of_entity.entry(fact.0).or_default().push(*fact));
    let mut answers = Vec::new();
    for mut facts in of_entity.into_values() {
        facts.sort_by_key(|&(_, at, known, v)| std::cmp::Reverse((at, known, v)));
        for instant in INSTANTS {
            let mut answer = Vec::new();
            for (count, within, since) in LENGTHS {
                let visible = facts.iter().filter(|fact| fact.1 < instant && fact.2 < instant);
                let newest: Vec<i64> = visible
                    .filter(|fact| within.is_none_or(|seconds| fact.1 >= instant - seconds))
                    .take_while(|fact| since.is_none_or(|mark| fact.3 <= mark))
                    .take(count.map_or(usize::MAX, |count| count as usize))
                    .map(|fact| fact.3)
                    .collect();
                answer.extend([newest.len() as i64, newest.iter().sum()]);
                answer.extend(newest.iter().take(3).rev());
            }
            answers.push(answer);
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_no_window_sees_are_dropped_and_change_no_answer() {
    let facts = facts();
    let expected = expected(&facts);
    // All facts would take more than 25 MB.
    for (layout, pool_bytes) in [
        (Layout { batch_rows: 8_192, partitions: 1, tasks: 1 }, 16 << 20),
        (Layout { batch_rows: 1_000, partitions: 3, tasks: 2 }, 64 << 20),
        (Layout { batch_rows: FACTS, partitions: 1, tasks: 4 }, 256 << 20),
    ] {
        let found = asked(rows(&facts), layout, pool_bytes).await.unwrap();
        for (row, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found, expected, "row {row}, {layout:?}");
        }
        assert_eq!(found.len(), expected.len());
    }
    // What is held does not fit: a typed error.
    let refused = asked(rows(&facts), Layout { batch_rows: 8_192, partitions: 1, tasks: 1 }, 1 << 20).await.unwrap_err();
    assert!(matches!(refused, asof::Error::Memory { .. }), "{refused:?}");
    assert!(refused.to_string().contains("table `facts`"), "{refused}");
}

/// Only a fact that some window holds can make a filter fail.
#[tokio::test]
async fn a_filter_that_fails_for_an_older_fact_does_not_matter() {
    let ask = async |count: u32| -> asof::Result<i64> {
        let session = SessionContext::new();
        let facts = batch(vec![
            ("k", integers([Some(1), Some(1), Some(1)])),
            ("at", instants([Some(0), Some(SECOND_US), Some(2 * SECOND_US)])),
            ("v", integers([Some(0), Some(2), Some(5)])),
        ]);
        let spine = batch(vec![("k", integers([Some(1)])), ("t", instants([Some(3 * SECOND_US)]))]);
        let facts = Facts::new("facts", session.read_batch(facts).unwrap(), known_at_once());
        let cheap = Aggregate::count().filter("10 / v > 1").named("n");
        let window = Window::of(facts).on("k").trailing(WindowLength::facts(count), [cheap]);
        let rows = Spine::new(session.read_batch(spine).unwrap(), "t").window([window])?.into_rows().collect().await?;
        Ok(rows[0].column_by_name("n").unwrap().as_primitive::<Int64Type>().value(0))
    };
    assert_eq!((ask(1).await.unwrap(), ask(2).await.unwrap()), (1, 2));
    let failed: asof::Error = ask(3).await.unwrap_err();
    assert!(failed.to_string().contains("it fails for a fact that a window sees"), "{failed}");
}

/// Only a fact that is visible at a row and within the window's length can make a condition fail.
#[tokio::test]
async fn a_condition_that_fails_for_a_fact_that_no_row_sees_does_not_matter() {
    let ask = async |length: WindowLength, at: i64| -> asof::Result<i64> {
        let session = SessionContext::new();
        let facts = batch(vec![
            ("k", integers([Some(1), Some(1), Some(1), Some(2)])),
            ("at", instants([Some(0), Some(SECOND_US), Some(4 * SECOND_US), Some(0)])),
            ("v", integers([Some(0), Some(2), Some(0), Some(0)])),
        ]);
        let spine = batch(vec![("k", integers([Some(1)])), ("t", instants([Some(at * SECOND_US)]))]);
        let facts = Facts::new("facts", session.read_batch(facts).unwrap(), known_at_once());
        let window = Window::of(facts).on("k").trailing(length, [Aggregate::count().named("n")]);
        let rows = Spine::new(session.read_batch(spine).unwrap(), "t").window([window])?.into_rows().collect().await?;
        Ok(rows[0].column_by_name("n").unwrap().as_primitive::<Int64Type>().value(0))
    };
    let within = |seconds| WindowLength::since_within("10 / v > 7", TimeDelta::seconds(seconds));
    assert_eq!(ask(within(2), 3).await.unwrap(), 1);
    assert_eq!(ask(within(2), 4).await.unwrap(), 0);
    // A fact that lies before the marking fact is visible, too.
    for (length, at) in [(within(3), 3), (WindowLength::since("10 / v > 4"), 3), (within(2), 5)] {
        let failed: asof::Error = ask(length, at).await.unwrap_err();
        let told = failed.to_string();
        assert!(told.contains("the condition `") && told.contains("it fails for a fact that a window sees"), "{told}");
    }
}

/// Whichever columns are asked for, all columns decide which of two facts is newer, also if an optimizer would leave them out.
#[tokio::test]
async fn columns_that_are_not_asked_for_decide() {
    let session = SessionContext::new();
    let facts = batch(vec![
        ("k", integers([Some(1), Some(1)])),
        ("at", instants([Some(0), Some(0)])),
        ("a", integers([Some(2), Some(1)])),
        ("v", integers([Some(10), Some(20)])),
        ("w", integers([Some(1), Some(3)])),
    ]);
    let spine = batch(vec![("k", integers([Some(1)])), ("t", instants([Some(SECOND_US)]))]);
    let facts = Facts::new("facts", session.read_batch(facts).unwrap(), known_at_once());
    let window = Window::of(facts).on("k").trailing(WindowLength::facts(1), [Aggregate::last("v"), Aggregate::last("w")]);
    let rows = Spine::new(session.read_batch(spine).unwrap(), "t").window([window]).unwrap().into_rows();
    for (column, expected) in [("last_v", 10), ("last_w", 1)] {
        let found = rows.clone().select_columns(&[column]).unwrap().collect().await.unwrap();
        assert_eq!(found[0].column(0).as_primitive::<Int64Type>().value(0), expected, "{column}");
    }
}
