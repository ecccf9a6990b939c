//! Calls for one id at the same time compute once in a process, whoever comes, fails or goes meanwhile.
//! An encoder counts how often it learns, and waits at a gate while it does.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use asof::{
    AsOf, AsOfView, Error, FeatureSet, FeatureStore, Materialization, Result,
    encoder::{FittedEncoder, Spec},
    parity::ParitySample,
};
use datafusion::arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::DataType,
};
use futures::future::join_all;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    support::instant,
    training_sets::{self, AS_OF, COLUMNS},
};

/// Learns nothing, counts how often it is asked to, and waits until its gate is open.
#[derive(Clone, Default)]
struct Gated {
    begun: Arc<AtomicUsize>,
    gate: Arc<(Mutex<bool>, Condvar)>,
    /// The first so many times it fails.
    failures: Arc<AtomicUsize>,
}

impl Gated {
    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    fn open(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }

    fn set(&self) -> FeatureSet {
        FeatureSet::rows("gated_v1", COLUMNS)
            .table("nyc_taxi")
            .event_time("pickup_at")
            .encode_fitted(self.clone())
            .label("total_amount")
            .build()
            .unwrap()
    }
}

impl FittedEncoder for Gated {
    type State = ();

    fn spec(&self) -> Spec {
        Spec::new("gated", 1).number("trip_distance").output("miles", DataType::Float64)
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<()> {
        let mut rows = 0;
        view.for_each_number("trip_distance", |_| rows += 1)?;
        // The fixed rows of a fingerprint.
        if rows <= 64 {
            return Ok(());
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let (is_open, changed) = (self.gate.0.lock().unwrap(), &self.gate.1);
        drop(changed.wait_while(is_open, |is_open| !*is_open).unwrap());
        match number <= self.failures.load(Ordering::SeqCst) {
            true => Err(Error::Definition { subject: "the miles".into(), reason: format!("attempt {number} fails") }),
            false => Ok(()),
        }
    }

    fn encode(&self, (): &(), input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        Ok(vec![input.column(0).clone()])
    }
}

async fn gated_store() -> (TempDir, FeatureStore, Gated) {
    let (root, store) = training_sets::store().await;
    let gated = Gated::default();
    store.register(gated.set()).unwrap();
    (root, store, gated)
}

fn as_of() -> AsOf {
    instant(AS_OF)
}

/// Polls a call that must not end yet, until this is so.
async fn drive<F: Future<Output: std::fmt::Debug> + Unpin>(call: &mut F, is_so: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        if let Ok(early) = timeout(Duration::from_millis(5), &mut *call).await {
            panic!("it ended early: {early:?}");
        }
    }
    panic!("it never happened");
}

/// Polls a call that must not end yet for so long that it waits for whoever computes.
async fn drive_a_while<F: Future<Output: std::fmt::Debug> + Unpin>(call: &mut F) {
    if let Ok(early) = timeout(Duration::from_millis(200), &mut *call).await {
        panic!("it ended early: {early:?}");
    }
}

async fn published(store: &FeatureStore) -> usize {
    store.materializations("gated_v1").await.unwrap().published.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_the_same_time_compute_once() {
    let (_root, store, gated) = gated_store().await;
    let calls: Vec<_> = (0..8)
        .map(|i| {
            let clone = store.clone();
            tokio::spawn(async move {
                // What goes another way to the same materialization.
                if i % 4 == 3 {
                    assert!(clone.verify_parity("gated_v1", as_of(), ParitySample::rows(10)).await.unwrap().is_equal());
                }
                clone.materialize("gated_v1", as_of()).await.unwrap()
            })
        })
        .collect();
    let mut all = Box::pin(join_all(calls));
    drive(&mut all, || gated.begun() == 1).await;
    drive_a_while(&mut all).await;
    assert_eq!((gated.begun(), published(&store).await), (1, 0));
    gated.open();
    let made: Vec<Materialization> = all.await.into_iter().map(Result::unwrap).collect();
    assert!(made.iter().all(|other| other.id() == made[0].id() && other.manifest() == made[0].manifest()));
    assert_eq!((gated.begun(), published(&store).await), (1, 1));
    made[0].verify().await.unwrap();
    // Later calls find it.
    store.materialize("gated_v1", as_of()).await.unwrap();
    assert_eq!(gated.begun(), 1);
    store.materialize("gated_v1", instant("2014-02-20")).await.unwrap();
    assert_eq!(gated.begun(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_ids_do_not_wait() {
    let (_root, store, gated) = gated_store().await;
    let mut waiting = Box::pin(store.materialize("gated_v1", as_of()));
    drive(&mut waiting, || gated.begun() == 1).await;
    store.materialize("zones_v1", as_of()).await.unwrap();
    store.materialize("rides_v1", as_of()).await.unwrap();
    // Another as-of of the same set learns at the same time.
    let mut other = Box::pin(store.materialize("gated_v1", instant("2014-02-20")));
    drive(&mut other, || gated.begun() == 2).await;
    gated.open();
    assert_ne!(waiting.await.unwrap().id(), other.await.unwrap().id());
    assert_eq!(gated.begun(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_fails_another_takes_over() {
    let (_root, store, gated) = gated_store().await;
    gated.failures.store(2, Ordering::SeqCst);
    let mut all = Box::pin(join_all((0..6).map(|_| store.materialize("gated_v1", as_of()))));
    drive(&mut all, || gated.begun() == 1).await;
    drive_a_while(&mut all).await;
    gated.open();
    let outcomes = all.await;
    let mut told: Vec<String> = outcomes.iter().filter_map(|made| made.as_ref().err()).map(ToString::to_string).collect();
    told.sort();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("attempt 1 fails") && told[1].contains("attempt 2 fails"), "{told:?}");
    assert!(matches!(outcomes.iter().find_map(|made| made.as_ref().err()), Some(Error::Step { .. })));
    let made: Vec<&Materialization> = outcomes.iter().flatten().collect();
    assert!(made.len() == 4 && made.iter().all(|other| other.id() == made[0].id()));
    assert_eq!((gated.begun(), published(&store).await), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_left_goes_on_when_the_first_one_is_dropped() {
    let (_root, store, gated) = gated_store().await;
    let mut first = Box::pin(store.materialize("gated_v1", as_of()));
    drive(&mut first, || gated.begun() == 1).await;
    let clone = store.clone();
    let mut second = Box::pin(clone.materialize("gated_v1", as_of()));
    drive_a_while(&mut second).await;
    drop(first);
    drive_a_while(&mut second).await;
    gated.open();
    second.await.unwrap().verify().await.unwrap();
    assert_eq!((gated.begun(), published(&store).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_published_by_calls_that_were_all_dropped_and_the_next_one_begins_anew() {
    let (_root, store, gated) = gated_store().await;
    let mut only = Box::pin(store.materialize("gated_v1", as_of()));
    drive(&mut only, || gated.begun() == 1).await;
    drop(only);
    // The thread that learns ends by itself, and nobody takes what it has learned.
    gated.open();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(published(&store).await, 0);
    let made = store.materialize("gated_v1", as_of()).await.unwrap();
    made.verify().await.unwrap();
    assert_eq!((gated.begun(), published(&store).await), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_polls_any_more_holds_up_nobody() {
    let (_root, store, gated) = gated_store().await;
    let mut sleeping = Box::pin(store.materialize("gated_v1", as_of()));
    drive(&mut sleeping, || gated.begun() == 1).await;
    gated.open();
    let made =
        timeout(Duration::from_secs(60), store.materialize("gated_v1", as_of())).await.expect("it waits for ever").unwrap();
    assert_eq!(sleeping.await.unwrap().id(), made.id());
    assert_eq!(gated.begun(), 1);
}
