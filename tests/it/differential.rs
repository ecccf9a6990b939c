//! Random queries above the operators and plain tables, over one to eight tasks, against plain DataFusion over tables that were
//! cut by hand. A plan that fails is a failure as much as a wrong row is.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::RecordBatch,
        util::display::{ArrayFormatter, FormatOptions},
    },
    prelude::DataFrame,
};
use futures::StreamExt;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    differential_queries::{Query, query},
    differential_world::{TASKS, World},
};

/// How many queries are asked; `ASOF_DIFFERENTIAL_QUERIES` asks for more, `ASOF_DIFFERENTIAL_SEED` for others.
const QUERIES: u64 = 2_000;
const WORLDS: u64 = 3;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The cells of each row, as text.
fn rows_of(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let options = FormatOptions::new().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>()));
    }
    rows
}

async fn collected(rows: DataFrame) -> Result<Vec<Vec<String>>, String> {
    rows.collect().await.map(|batches| rows_of(&batches)).map_err(|e| e.to_string())
}

/// What is wrong with an answer, if anything is.
fn flaw(query: &Query, ours: Result<Vec<Vec<String>>, String>, by_hand: Vec<Vec<String>>) -> Option<String> {
    let mut ours = match ours {
        Ok(rows) => rows,
        Err(error) => return Some(format!("it fails: {error}")),
    };
    let keys = |rows: &[Vec<String>]| -> Vec<Vec<String>> {
        rows.iter().map(|row| query.keys.iter().map(|&key| row[key].clone()).collect()).collect()
    };
    if keys(&ours) != keys(&by_hand) {
        return Some(format!("the keys {:?} come as\n{:?}\nand not as\n{:?}", query.keys, keys(&ours), keys(&by_hand)));
    }
    let mut expected = by_hand;
    ours.sort();
    expected.sort();
    (ours != expected).then(|| format!("the rows, sorted, are\n{ours:?}\nand not\n{expected:?}"))
}

enum Outcome {
    Same,
    /// Plain DataFusion cannot plan or run it, so there is nothing to compare with.
    Unanswered(String),
    Differs(String),
}

/// Asks the query of this number.
async fn ask(worlds: Arc<Vec<World>>, seed: u64) -> Outcome {
    let mut rng = StdRng::seed_from_u64(seed);
    let world = &worlds[rng.random_range(0..worlds.len())];
    let tasks = rng.random_range(0..TASKS.len());
    // A store makes a session for each query, which takes longer than the query.
    let in_store = rng.random_bool(0.25);
    let query = query(&mut rng, if in_store { &world.in_store } else { &world.in_session });
    // DataFusion may also panic; a panic of ours fails the test.
    let (session, sql) = (world.by_hand.clone(), query.by_hand.clone());
    let by_hand = tokio::spawn(async move {
        match session.sql(&sql).await {
            Ok(rows) => collected(rows).await,
            Err(error) => Err(error.to_string()),
        }
    });
    let by_hand = by_hand.await.unwrap_or_else(|panic| Err(panic.to_string()));
    let by_hand = match by_hand {
        Ok(rows) => rows,
        Err(error) => return Outcome::Unanswered(format!("seed {seed}:\n{}\n{error}\n", query.by_hand)),
    };
    let rows = match in_store {
        true => world.stores[tasks].sql(&query.ours, world.as_of).await.map_err(|e| e.to_string()),
        false => world.sessions[tasks].sql(&query.ours).await.map_err(|e| e.to_string()),
    };
    let ours = match rows {
        Ok(rows) => collected(rows).await,
        Err(error) => Err(error),
    };
    let Some(flaw) = flaw(&query, ours, by_hand) else { return Outcome::Same };
    let (ours, by_hand, tasks) = (&query.ours, &query.by_hand, TASKS[tasks]);
    let place = if in_store { "store" } else { "session" };
    Outcome::Differs(format!("seed {seed}, a {place} of {tasks} tasks:\n{ours}\nby hand:\n{by_hand}\n{flaw}\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_queries_answer_as_plain_ones_over_rows_that_were_cut_by_hand() {
    let first = number("ASOF_DIFFERENTIAL_SEED", 1);
    let count = number("ASOF_DIFFERENTIAL_QUERIES", QUERIES);
    let mut worlds = Vec::new();
    for world in 0..WORLDS {
        worlds.push(World::new(first * 1_000 + world).await);
    }
    let worlds = Arc::new(worlds);
    let asked = futures::stream::iter((0..count).map(|i| tokio::spawn(ask(worlds.clone(), first * 10_000_000 + i))));
    let outcomes: Vec<Outcome> = asked.buffer_unordered(8).map(Result::unwrap).collect().await;
    let (mut flaws, mut unanswered) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Outcome::Same => {}
            Outcome::Unanswered(query) => unanswered.push(query),
            Outcome::Differs(flaw) => flaws.push(flaw),
        }
    }
    let some = |texts: &[String]| texts.iter().take(8).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(flaws.is_empty(), "{} of {count} queries differ:\n\n{}", flaws.len(), some(&flaws));
    let few = unanswered.len() as u64 * 200 <= count;
    assert!(few, "{} of {count} queries have no answer by hand:\n\n{}", unanswered.len(), some(&unanswered));
}
