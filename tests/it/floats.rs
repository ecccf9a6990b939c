//! Floats: a window's value depends on the rows in the window alone, to the last bit.
//! Not on older history, nor on batches, order, partitions, or on which other rows are asked about at the same time.

use asof::{
    Aggregate,
    catalog::{FactTable, KnownAt},
    temporal::{Facts, Spine, Window},
};
use chrono::TimeDelta;
use datafusion::arrow::array::RecordBatch;
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::{
    asking::{Layout, PLAIN, table},
    parity::bit_rows,
    training::{SECOND_US, batch, collected, floats, instants, integers, session, some_layout},
};

/// A float of any magnitude, now and then none that can be added.
fn any_value() -> impl Strategy<Value = Option<f64>> {
    let signed = |x: f64, negative: bool| if negative { -x } else { x };
    let wide = (1.0..10.0f64, -300..300i32, any::<bool>()).prop_map(move |(x, e, n)| signed(x * 10f64.powi(e), n));
    let plain = (0..100_000i64, any::<bool>()).prop_map(move |(cents, n)| signed(cents as f64 / 100.0, n));
    let odd = prop::sample::select(vec![0.0, -0.0, 5e-324, f64::MAX, -f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]);
    prop_oneof![10 => plain.prop_map(Some), 6 => wide.prop_map(Some), 1 => odd.prop_map(Some), 1 => Just(None)]
}

/// A fact: key, event time and the delay until it is known, in seconds, and a value.
type FloatFact = (i64, i64, i64, Option<f64>);

const LONGEST_S: i64 = 60;
/// The first instant that is asked about; older history ends before the longest window at it begins.
const FIRST_S: i64 = 100;

fn float_facts(events: std::ops::Range<i64>, at_most: usize) -> impl Strategy<Value = Vec<FloatFact>> {
    prop::collection::vec((0..3i64, events, prop_oneof![Just(0), 0..40i64], any_value()), 0..at_most)
}

fn float_batch(facts: &[FloatFact]) -> RecordBatch {
    batch(vec![
        ("k", integers(facts.iter().map(|f| Some(f.0)))),
        ("at", instants(facts.iter().map(|f| Some(f.1 * SECOND_US)))),
        ("known", instants(facts.iter().map(|f| Some((f.1 + f.2) * SECOND_US)))),
        ("v", floats(facts.iter().map(|f| f.3))),
    ])
}

/// The bits of every aggregate over these facts, by spine row.
async fn float_answers(spine: &[(i64, i64)], facts: RecordBatch, known: KnownAt, layout: Layout) -> Vec<String> {
    let session = session(layout);
    let spine = batch(vec![
        ("k", integers(spine.iter().map(|row| Some(row.0)))),
        ("t", instants(spine.iter().map(|row| Some(row.1 * SECOND_US)))),
    ]);
    let facts = session.read_table(table(facts, layout)).unwrap();
    let facts = Facts::new("facts", facts, FactTable::new("at", known));
    let aggregates = |span: &str| {
        let all = [
            Aggregate::count_of("v"),
            Aggregate::sum("v"),
            Aggregate::mean("v"),
            Aggregate::variance("v"),
            Aggregate::stddev("v"),
            Aggregate::slope("v"),
            Aggregate::min("v"),
            Aggregate::max("v"),
            Aggregate::median("v"),
            Aggregate::quantile("v", 0.9),
            Aggregate::count_distinct("v"),
            Aggregate::approx_count_distinct("v"),
            Aggregate::mode("v"),
            Aggregate::top_k("v", 3),
            Aggregate::top_share("v"),
            Aggregate::entropy("v"),
            Aggregate::sum("v").filter("v > 0"),
            Aggregate::last("v"),
            Aggregate::first_k("v", 3),
            Aggregate::max_by("v", "v"),
            Aggregate::min_by("known", "v"),
            Aggregate::max_by("v", "known"),
        ];
        all.into_iter().enumerate().map(|(i, a)| a.named(format!("{span}_{i}"))).collect::<Vec<_>>()
    };
    let window = Window::of(facts).on("k");
    let window = window.trailing(TimeDelta::seconds(7), aggregates("short"));
    let window = window.trailing(TimeDelta::seconds(LONGEST_S), aggregates("long"));
    let spine = session.read_table(table(spine, layout)).unwrap();
    let answer = collected(Spine::new(spine, "t").window([window]).unwrap().into_rows()).await;
    bit_rows(&answer.project(&(2..answer.num_columns()).collect::<Vec<_>>()).unwrap())
}

#[test]
fn floats_depend_on_the_facts_in_the_window_alone() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ProptestConfig { cases: 32, max_shrink_iters: 100, failure_persistence: None, ..Default::default() };
    let in_reach = float_facts(FIRST_S - LONGEST_S..FIRST_S + 60, 90);
    let history = float_facts(-500..FIRST_S - LONGEST_S, 60);
    let spine = prop::collection::vec((0..3i64, FIRST_S..FIRST_S + 70), 1..20);
    proptest!(config, |(facts in in_reach, history in history, spine in spine, layout in some_layout(), seed in any::<u64>())| {
        runtime.block_on(async {
            let late = TimeDelta::seconds(5);
            for known in [KnownAt::after(TimeDelta::zero()), KnownAt::after(late), KnownAt::column("known")] {
                let mut facts = facts.clone();
                facts.sort_by_key(|fact| (fact.0, fact.1, fact.2, fact.3.map(f64::to_bits)));
                let plain = float_answers(&spine, float_batch(&facts), known.clone(), PLAIN).await;
                let mut rng = StdRng::seed_from_u64(seed);
                facts.shuffle(&mut rng);
                let found = float_answers(&spine, float_batch(&facts), known.clone(), layout).await;
                assert_eq!(found, plain, "in another order, {layout:?}, {known:?}");
                facts.extend(&history);
                facts.shuffle(&mut rng);
                let found = float_answers(&spine, float_batch(&facts), known.clone(), layout).await;
                assert_eq!(found, plain, "with older history, {layout:?}, {known:?}");
                // Nor does it matter which other rows are asked about at the same time.
                for (row, expected) in spine.iter().zip(&plain).take(4) {
                    let alone = float_answers(&[*row], float_batch(&facts), known.clone(), layout).await;
                    assert_eq!(alone.as_slice(), std::slice::from_ref(expected), "alone, {layout:?}, {known:?}");
                }
            }
        });
    });
}
