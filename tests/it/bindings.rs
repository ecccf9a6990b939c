//! I4: a published version never changes. A set's name is bound to its definition in the root, for every handle and process.

use std::{fs, path::Path};

use asof::{Aggregate, Error, FeatureSet, FeatureStore, StoreOptions, catalog::Change, encoder::Number, temporal::Spine};
use chrono::TimeDelta;

use crate::{
    support::{child, files_below, instant, made_load, store_of, temp_dir, trip},
    training::{batch, instants, integers, session},
};

const AS_OF: &str = "2014-09-15T12:00:00Z";

/// A handle that knows no set yet, with a cache of its own: as another process has it.
async fn handle(root: &Path) -> FeatureStore {
    FeatureStore::open_with(root.to_str().unwrap(), StoreOptions::default().cache_in_memory()).await.unwrap()
}

async fn handle_with(root: &Path, set: FeatureSet) -> FeatureStore {
    let store = handle(root).await;
    store.register(set).unwrap();
    store
}

/// Trips of a zone over so many hours.
fn demand(hours: i64) -> FeatureSet {
    let set = FeatureSet::entities("demand_v1", "nyc_taxi").key("pickup_zone");
    set.window(TimeDelta::hours(hours), [Aggregate::count().named("trips")]).build().unwrap()
}

fn is_refused(error: &Error, words: &[&str]) {
    let told = error.to_string();
    assert!(matches!(error, Error::AlreadyExists { .. } | Error::InUse { .. }), "{told}");
    for word in words {
        assert!(told.contains(word), "{told}\n  has no {word}");
    }
}

async fn facts() -> (tempfile::TempDir, FeatureStore) {
    store_of(&[trip("2014-01-05T15:00:00Z", 1.0), trip("2014-09-15T11:30:00Z", 2.0)]).await
}

fn manifests(root: &Path) -> Vec<String> {
    files_below(root).into_iter().filter(|name| name.ends_with("manifest.json")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_published_takes_no_other_definition() {
    let (root, _) = facts().await;
    let first = handle_with(root.path(), demand(1)).await;
    let made = first.materialize("demand_v1", instant(AS_OF)).await.unwrap();
    let before = files_below(root.path());

    let second = handle_with(root.path(), demand(2)).await;
    let both = ["`demand_v1`", "`windows.0.0` is 3600000000 there and 7200000000 here", "`demand_v2`", "forget_set"];
    for as_of in [AS_OF, "2014-10-01"] {
        is_refused(&second.materialize("demand_v1", instant(as_of)).await.unwrap_err(), &both);
    }
    is_refused(&second.online("demand_v1").await.unwrap_err(), &both);
    let spine = batch(vec![("pickup_zone", integers([Some(1)])), ("at", instants([Some(instant(AS_OF).micros())]))]);
    let spine = || Spine::new(session(crate::asking::PLAIN).read_batch(spine.clone()).unwrap(), "at");
    is_refused(&second.training_set("demand_v1", spine()).await.unwrap_err(), &both);
    is_refused(&second.register(demand(3)).unwrap_err(), &["`demand_v2`"]);
    assert_eq!(files_below(root.path()), before);

    // The definition that was published is as good as ever, after a restart too.
    let again = handle_with(root.path(), demand(1)).await;
    assert_eq!(again.materialize("demand_v1", instant(AS_OF)).await.unwrap().id(), made.id());
    again.training_set("demand_v1", spine()).await.unwrap();
    assert!(again.online("demand_v1").await.unwrap().contains(&[1.into()]).unwrap());
    again.materialize("demand_v1", instant("2014-10-01")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_is_refused_too() {
    let (root, _) = facts().await;
    let other = FeatureSet::rows("taxi_v1", "SELECT pickup_at, trip_distance FROM nyc_taxi").table("nyc_taxi");
    let other = other.event_time("pickup_at").encode(Number::of("trip_distance")).build().unwrap();
    handle_with(root.path(), other).await.materialize("taxi_v1", instant(AS_OF)).await.unwrap();
    let before = manifests(root.path());
    // It knows the published `taxi_v1` of the features.
    let status = child("materialize", root.path(), Path::new(AS_OF)).wait().unwrap();
    assert!(!status.success());
    assert_eq!(manifests(root.path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_definitions_at_once_one_gets_the_name() {
    let (root, _) = facts().await;
    let mut handles = Vec::new();
    for hours in 1..=8 {
        handles.push(handle_with(root.path(), demand(hours)).await);
    }
    let at_once = handles.iter().map(|store| store.materialize("demand_v1", instant(AS_OF)));
    let made = futures::future::join_all(at_once).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "{made:?}");
    for error in made.iter().filter_map(|made| made.as_ref().err()) {
        is_refused(error, &["`demand_v1`", "there and"]);
    }
    assert_eq!(manifests(root.path()).len(), 1);
    // Those who lost stay refused, and who won goes on.
    for (store, first) in handles.iter().zip(made) {
        assert_eq!(store.materialize("demand_v1", instant("2014-10-01")).await.is_ok(), first.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_may_be_edited_until_it_is_published() {
    let (root, _) = facts().await;
    let draft = |column: &str| {
        let set = FeatureSet::rows("draft_v1", &format!("SELECT pickup_at, {column} AS x FROM nyc_taxi")).table("nyc_taxi");
        set.event_time("pickup_at").encode(Number::of("x")).build().unwrap()
    };
    // A mistake that only the tables show does not take the name.
    let wrong = handle_with(root.path(), draft("distance")).await;
    wrong.materialize("draft_v1", instant(AS_OF)).await.unwrap_err();
    // In one handle another definition needs that the first is let go.
    is_refused(&wrong.register(draft("trip_distance")).unwrap_err(), &["`draft_v2`", "forget_set"]);
    assert_eq!(wrong.forget_set("draft_v1").await.unwrap(), Change::Done);
    wrong.register(draft("trip_distance")).unwrap();
    let made = wrong.materialize("draft_v1", instant(AS_OF)).await.unwrap();

    // What is published cannot be let go of by mistake.
    let edited = handle_with(root.path(), draft("fare_amount")).await;
    is_refused(&edited.forget_set("draft_v1").await.unwrap_err(), &["`draft_v1`", "1 materializations", "materialized/draft_v1"]);
    edited.materialize("draft_v1", instant(AS_OF)).await.unwrap_err();
    // Whoever deletes it wants to.
    fs::remove_dir_all(root.path().join("materialized/draft_v1")).unwrap();
    is_refused(&edited.materialize("draft_v1", instant(AS_OF)).await.unwrap_err(), &["trip_distance", "fare_amount"]);
    assert_eq!(edited.forget_set("draft_v1").await.unwrap(), Change::Done);
    assert_eq!(edited.forget_set("draft_v1").await.unwrap(), Change::Nothing);
    assert!(edited.materialize("draft_v1", instant(AS_OF)).await.is_err(), "this handle has let go of it too");
    edited.register(draft("fare_amount")).unwrap();
    assert_ne!(edited.materialize("draft_v1", instant(AS_OF)).await.unwrap().id(), made.id());
    assert!(matches!(edited.forget_set("draft").await, Err(Error::InvalidName { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_died_before_it_published_leaves_a_name_that_can_be_let_go() {
    let (root, _) = facts().await;
    let first = handle_with(root.path(), demand(1)).await;
    let made = first.materialize("demand_v1", instant(AS_OF)).await.unwrap();
    // As a crash between both writes leaves it.
    fs::remove_file(root.path().join(&manifests(root.path())[0])).unwrap();
    let second = handle_with(root.path(), demand(2)).await;
    is_refused(&second.materialize("demand_v1", instant(AS_OF)).await.unwrap_err(), &["`demand_v2`"]);
    assert_eq!(handle_with(root.path(), demand(1)).await.materialize("demand_v1", instant(AS_OF)).await.unwrap().id(), made.id());
    fs::remove_file(root.path().join(&manifests(root.path())[0])).unwrap();
    assert_eq!(second.forget_set("demand_v1").await.unwrap(), Change::Done);
    second.register(demand(2)).unwrap();
    second.materialize("demand_v1", instant(AS_OF)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_binding_says_what_to_do() {
    let (root, _) = facts().await;
    let first = handle_with(root.path(), demand(1)).await;
    first.materialize("demand_v1", instant(AS_OF)).await.unwrap();
    let file = root.path().join("definitions/demand_v1/binding.json");
    fs::write(&file, "{").unwrap();
    let damaged = first.materialize("demand_v1", instant("2014-10-01")).await.unwrap_err();
    assert!(matches!(damaged, Error::Corrupt { .. }) && damaged.to_string().contains("delete it"), "{damaged}");
    fs::remove_file(&file).unwrap();
    first.materialize("demand_v1", instant("2014-10-01")).await.unwrap();
    is_refused(
        &handle_with(root.path(), demand(2)).await.materialize("demand_v1", instant(AS_OF)).await.unwrap_err(),
        &["`demand_v2`"],
    );
    // More facts are no other definition.
    let data = temp_dir();
    first.ingest(&made_load(&data.path().join("more.csv"), &[trip("2014-02-05", 3.0)])).await.unwrap();
    first.materialize("demand_v1", instant(AS_OF)).await.unwrap();
}
