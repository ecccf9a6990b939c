//! Recorded models: found again whole or not at all, kept with what they saw, and traced down to source files.

use std::{fs, path::Path, sync::Arc};

use asof::{
    Error, FeatureSet, FeatureStore, StoreOptions,
    catalog::Change,
    encoder::Number,
    gc::Gc,
    lineage::Origin,
    models::{FileState, FittedOn, NewModel, RecordedModel},
    name::ContentId,
    time::FixedClock,
    training::Split,
};
use bytes::Bytes;
use chrono::TimeDelta;
use futures::{FutureExt, future::BoxFuture};
use object_store::memory::InMemory;

use crate::{
    crash::{Job, RIDES_SEEN, Seen, fail_every_call, load_of, open, rides},
    failing_store::{ALL_FAULTS, BREAKS},
    support::{
        child, copy_dir, files_below, instant, load_trips, made_load, store_with, temp_dir, trip, trips_table, write_text,
        write_trips,
    },
    training_sets::{AS_OF, COLUMNS, MIDDLE, of_rows, of_spine, register, says, store},
};

/// Another handle of a root, in another year.
async fn in_year(root: &Path, year: u32) -> FeatureStore {
    let clock = FixedClock(instant(&format!("{year}-01-01T00:00:00Z")));
    let store = store_with(root, StoreOptions::default().cache_in_memory().clock(clock)).await;
    register(&store);
    store
}

fn folder(root: &Path, model: &RecordedModel) -> std::path::PathBuf {
    root.join(format!("models/{}/{}", model.name(), model.id()))
}

fn names(root: &Path, part: &str) -> Vec<String> {
    files_below(root).into_iter().filter(|name| name.starts_with(part)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_found_again_and_the_same_one_is_recorded_once() {
    let (root, _store) = store().await;
    let (first, second) = (in_year(root.path(), 2030).await, in_year(root.path(), 2031).await);
    let made = first.materialize("rides_v1", instant(AS_OF)).await.unwrap();
    let new = NewModel::new("fare", &made).artifact(b"weights".to_vec()).metadata("rmse", "3.1").metadata("commit", "c0ffee");
    let model = first.record_model(new.clone()).await.unwrap();
    let files = files_below(root.path());

    let again = second.record_model(new.clone()).await.unwrap();
    assert_eq!((again.id(), again.recorded_at()), (model.id(), instant("2030-01-01T00:00:00Z")));
    assert_eq!(files_below(root.path()), files);
    // The bytes count, and not where they came from.
    let file = write_text(root.path(), "elsewhere/fare.bin", b"weights");
    assert_eq!(second.record_model(new.clone().artifact_file(&file)).await.unwrap().id(), model.id());

    let found = second.model("fare").await.unwrap();
    assert_eq!((found.name(), found.id(), found.metadata()["rmse"].as_str()), ("fare", model.id(), "3.1"));
    assert_eq!(found.artifact().await.unwrap(), Bytes::from_static(b"weights"));
    assert_eq!((found.artifact_record().size, found.artifact_record().hash), (7, ContentId::of(b"weights")));
    match found.fitted_on() {
        FittedOn::Materialization { set, as_of, id, fingerprint, .. } => {
            assert_eq!((set.as_str(), *as_of, *id), ("rides_v1", instant(AS_OF), made.id()));
            assert_eq!(*fingerprint, made.manifest().fingerprint);
        }
        other => panic!("{other:?}"),
    }

    // Each change of what is recorded is another model, and the newest is found.
    let kept = of_rows(&first, "rides_v1").await.keep("rides").await.unwrap();
    let others = [
        new.clone().metadata("rmse", "3.2"),
        new.clone().artifact(b"other".to_vec()),
        NewModel::new("fare", &kept).artifact(b"weights".to_vec()),
        new.clone().artifact_at("s3://user:secret@bucket/fare.onnx?token=secret", ContentId::of(b"weights"), 7),
    ];
    let mut ids = vec![model.id()];
    for (i, other) in others.into_iter().enumerate() {
        let store = in_year(root.path(), 2040 + i as u32).await;
        let recorded = store.record_model(other).await.unwrap();
        assert!(!ids.contains(&recorded.id()));
        assert_eq!(second.model("fare").await.unwrap().id(), recorded.id());
        ids.push(recorded.id());
    }
    let all: Vec<_> = second.models("fare").await.unwrap().iter().map(RecordedModel::id).collect();
    assert_eq!(all, ids);

    let elsewhere = second.model("fare").await.unwrap();
    assert_eq!(elsewhere.artifact_record().location.as_deref(), Some("s3://bucket/fare.onnx"));
    let error = elsewhere.artifact().await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    says(&error, &["s3://bucket/fare.onnx", &ContentId::of(b"weights").to_string(), "7 bytes"]);
    assert!(!fs::read_to_string(folder(root.path(), &elsewhere).join("model.json")).unwrap().contains("secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_record_at_once_record_one_model() {
    let (data, root) = (temp_dir(), temp_dir());
    write_trips(data.path(), 20);
    let store = store_with(root.path(), StoreOptions::default().cache_in_memory()).await;
    load_trips(&store, data.path()).await;
    let as_of = "2014-07-01T04:00:00Z";
    store.materialize("zone_demand_v1", instant(as_of)).await.unwrap();
    let children: Vec<_> = (0..4).map(|_| child("record_model", root.path(), Path::new(as_of))).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let models = store.models("demand").await.unwrap();
    assert_eq!(models.len(), 1);
    assert_eq!(models[0].artifact().await.unwrap(), Bytes::from_static(b"weights"));
    assert_eq!(names(root.path(), "models/").len(), 2, "{:?}", names(root.path(), "models/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_was_damaged_is_an_error_and_can_be_recorded_again() {
    let (root, store) = store().await;
    let made = store.materialize("zones_v1", instant(AS_OF)).await.unwrap();
    let new = NewModel::new("demand", &made).artifact(vec![7; 1_000]).metadata("k", "v");
    let model = store.record_model(new.clone()).await.unwrap();
    let (artifact, record) = (folder(root.path(), &model).join("artifact.bin"), folder(root.path(), &model).join("model.json"));
    for bad in [vec![7; 999], [vec![7; 999], vec![8]].concat(), Vec::new()] {
        fs::write(&artifact, bad).unwrap();
        let error = model.artifact().await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        says(&error, &["artifact.bin", "record the model again"]);
        // What the message advises.
        store.record_model(new.clone()).await.unwrap();
        assert_eq!(model.artifact().await.unwrap(), Bytes::from(vec![7; 1_000]));
    }
    fs::remove_file(&artifact).unwrap();
    says(&model.artifact().await.unwrap_err(), &["vanished"]);
    store.record_model(new.clone()).await.unwrap();
    model.artifact().await.unwrap();

    let text = fs::read_to_string(&record).unwrap();
    for bad in [text.replace("\"v\"", "\"w\""), text[..text.len() / 2].to_owned(), String::new()] {
        fs::write(&record, &bad).unwrap();
        for error in [
            store.model("demand").await.unwrap_err(),
            store.models("demand").await.unwrap_err(),
            store.why_model("demand").await.unwrap_err(),
            store.record_model(new.clone()).await.unwrap_err(),
            store.gc(&Gc::delete().grace(TimeDelta::zero())).await.unwrap_err(),
            store.forget_set("zones_v1").await.unwrap_err(),
        ] {
            assert!(matches!(&error, Error::Corrupt { path, .. } if path.ends_with("model.json")), "{error}");
        }
    }
    // A record under another name, copied by hand.
    fs::write(&record, &text).unwrap();
    let copy = root.path().join(format!("models/other/{}", model.id()));
    fs::create_dir_all(&copy).unwrap();
    fs::write(copy.join("model.json"), &text).unwrap();
    assert!(matches!(store.model("other").await.unwrap_err(), Error::Corrupt { .. }));
    // A damaged record can be removed, as its message advises.
    fs::write(&record, "{").unwrap();
    for name in ["demand", "other"] {
        assert_eq!(store.forget_model(name, model.id()).await.unwrap(), Change::Done);
        assert_eq!(store.forget_model(name, model.id()).await.unwrap(), Change::Nothing);
    }
    assert_eq!(store.record_model(new).await.unwrap().id(), model.id());
    model.artifact().await.unwrap();
}

// --- crashes ---------------------------------------------------------------------------------------------------------

/// Every model of the name, whole.
fn seen(store: FeatureStore) -> BoxFuture<'static, String> {
    async move {
        let mut said = String::new();
        for model in store.models("fare").await.unwrap() {
            let artifact = model.artifact().await.unwrap();
            said += &format!("{model:?} {:?} {}\n", model.metadata(), ContentId::of(&artifact));
        }
        said
    }
    .boxed()
}

async fn record_bytes(store: FeatureStore, bytes: Vec<u8>) -> asof::Result<()> {
    let made = store.materialize("zones_v1", RIDES_SEEN.parse()?).await?;
    store.record_model(NewModel::new("fare", &made).artifact(bytes).metadata("k", "v")).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_any_call_fails_is_recorded_whole_or_not_at_all() {
    let data = temp_dir();
    let [january, _] = rides(data.path());
    let base = InMemory::new();
    let store = open(Arc::new(base.clone())).await.unwrap();
    store.ingest(&load_of(&january)).await.unwrap();
    store.materialize("zones_v1", RIDES_SEEN.parse().unwrap()).await.unwrap();

    let small: Job = |store, _| record_bytes(store, b"weights".to_vec()).boxed();
    let look: Seen = seen;
    let calls = fail_every_call(&base, data.path(), small, look, ALL_FAULTS, |_| true).await;
    let puts: Vec<_> = calls.iter().filter(|call| call.starts_with("put root/models/")).collect();
    assert!(puts.len() == 2 && puts[0].ends_with("artifact.bin") && puts[1].ends_with("model.json"), "{calls:#?}");

    // An artifact that is uploaded in parts.
    let large: Job = |store, _| record_bytes(store, vec![7; 24 << 20]).boxed();
    let of_uploads = |call: &str| ["begin", "part", "complete"].contains(&call.split(' ').next().unwrap_or_default());
    let calls = fail_every_call(&base, data.path(), large, look, BREAKS, of_uploads).await;
    assert!(calls.iter().filter(|call| of_uploads(call)).count() >= 4, "{calls:#?}");

    // An artifact that is copied from within the failing store: a part is never taken for the whole.
    record_bytes(open(Arc::new(base.clone())).await.unwrap(), b"first".to_vec()).await.unwrap();
    {
        use object_store::ObjectStoreExt;
        base.put(&"data/fare.bin".into(), vec![9; 1_000].into()).await.unwrap();
    }
    let copied: Job = |store, _| {
        async move {
            let made = store.materialize("zones_v1", RIDES_SEEN.parse()?).await?;
            store.record_model(NewModel::new("fare", &made).artifact_file("memory://x/data/fare.bin")).await.map(drop)
        }
        .boxed()
    };
    let calls = fail_every_call(&base, data.path(), copied, look, ALL_FAULTS, |_| true).await;
    assert!(calls.iter().any(|call| call == "get data/fare.bin"), "{calls:#?}");

    let forget: Job = |store, _| {
        async move {
            for model in store.models("fare").await? {
                store.forget_model("fare", model.id()).await.map(drop)?;
            }
            Ok(())
        }
        .boxed()
    };
    fail_every_call(&base, data.path(), forget, look, ALL_FAULTS, |_| true).await;
}

// --- collections -----------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_saw_stays_until_the_model_is_forgotten() {
    let (root, store) = store().await;
    let kept = of_rows(&store, "rides_v1").await.keep("rides").await.unwrap();
    let model = store.record_model(NewModel::new("fare", &kept).artifact(b"weights".to_vec())).await.unwrap();
    let elsewhere = NewModel::new("fare", &kept).artifact_at("mlflow://models/fare/3", ContentId::of(b"x"), 1);
    let elsewhere = store.record_model(elsewhere).await.unwrap();
    store.drop_table("nyc_taxi").await.unwrap();
    // What unfinished recordings leave: bytes without a record, and bytes of a model whose bytes lie elsewhere.
    let strays =
        [format!("models/fare/{}/artifact.bin", "ab".repeat(32)), format!("models/fare/{}/artifact.bin", elsewhere.id())];
    for stray in &strays {
        fs::create_dir_all(root.path().join(stray).parent().unwrap()).unwrap();
        fs::write(root.path().join(stray), "x").unwrap();
    }
    fs::write(root.path().join("models/fare/notes.txt"), "mine").unwrap();

    let young = store.gc(&Gc::delete().keep_versions(1)).await.unwrap();
    assert!(young.removed.is_empty(), "{young}");
    let facts = names(root.path(), "facts/");
    let gc = Gc::delete().grace(TimeDelta::zero()).keep_versions(1);
    let report = store.gc(&gc).await.unwrap();
    let mut removed: Vec<_> = report.removed.iter().map(|garbage| garbage.path.clone()).collect();
    removed.sort();
    let mut expected = strays.to_vec();
    expected.sort();
    assert_eq!(removed, expected, "{report}");
    assert_eq!(report.unknown, ["models/fare/notes.txt"]);
    assert!(!facts.is_empty() && names(root.path(), "facts/") == facts);
    model.artifact().await.unwrap();
    let why = model.why().await.unwrap();
    assert!(why.tables[0].files.as_ref().unwrap().iter().all(|file| file.state == FileState::There), "{why}");
    assert!(why.to_string().contains("trips.csv"), "{why}");

    // One of two models still needs the facts.
    assert_eq!(store.forget_model("fare", elsewhere.id()).await.unwrap(), Change::Done);
    assert!(store.gc(&gc).await.unwrap().removed.is_empty());
    assert_eq!(store.forget_model("fare", model.id()).await.unwrap(), Change::Done);
    let report = store.gc(&gc).await.unwrap();
    let removed: Vec<_> = report.removed.iter().map(|garbage| garbage.path.as_str()).collect();
    assert!(removed.contains(&format!("models/fare/{}/artifact.bin", model.id()).as_str()), "{report}");
    assert!(removed.contains(&"catalog/default/nyc_taxi/v0000000001.json"), "{report}");
    assert!(names(root.path(), "facts/").is_empty(), "{report}");
    assert_eq!(names(root.path(), "models/"), ["models/fare/notes.txt"]);
    // The training set is its own.
    kept.verify().await.unwrap();
    assert!(matches!(store.model("fare").await.unwrap_err(), Error::NotFound { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_versions_of_a_model_stay_and_say_what_was_loaded() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store_with(root.path(), StoreOptions::default().cache_in_memory()).await;
    register(&store);
    for (month, fare) in [(1, 10.0), (2, 20.0)] {
        let trips: Vec<_> =
            (5..25).map(|day| trip(&format!("2014-0{month}-{day:02}T12:00:00Z"), fare + f64::from(day))).collect();
        store.ingest(&made_load(&data.path().join(format!("month{month}.csv")), &trips)).await.unwrap();
    }
    let made = store.materialize("zones_v1", instant("2014-02-01T00:00:00Z")).await.unwrap();
    assert_eq!(made.manifest().inputs[0].version, 2);
    let model =
        store.record_model(NewModel::new("demand", &made).artifact(b"w".to_vec()).metadata("note", "a\nb")).await.unwrap();
    let march = [trip("2014-03-10T12:00:00Z", 1.0)];
    store.ingest(&made_load(&data.path().join("month3.csv"), &march)).await.unwrap();

    // The first version goes, the one that the model saw does not.
    let gc = Gc::delete().grace(TimeDelta::zero()).keep_versions(1);
    let report = store.gc(&gc).await.unwrap();
    let removed: Vec<_> = report.removed.iter().map(|garbage| garbage.path.as_str()).collect();
    assert_eq!(removed, ["catalog/default/nyc_taxi/v0000000001.json"], "{report}");

    // Of the version's loads only the one whose facts were visible.
    let why = store.why_model("demand").await.unwrap();
    let text = why.to_string();
    let size = fs::metadata(data.path().join("month1.csv")).unwrap().len();
    for part in [
        "model demand, recorded ",
        &model.id().to_string(),
        "artifact: 1 bytes",
        "note = a\\nb",
        &made.id().to_string(),
        "nyc_taxi version 2: loaded from month1.csv (",
        &format!("{size} bytes, changed 2"),
        "month=1/",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("month2.csv") && !text.contains("month3.csv") && !text.contains("removed"), "{text}");
    assert_eq!((why.rows, why.tables.len(), why.artifact_state), (Some(made.rows()), 1, FileState::There));
    assert!(why.row_files.iter().all(|file| file.state == FileState::There) && !why.row_files.is_empty());
    let files = why.tables[0].files.clone().unwrap();
    assert_eq!(files.len(), made.manifest().inputs[0].files.len());
    match &why.tables[0].lineage.origin {
        Origin::Loaded(loads) => assert_eq!(loads.len(), 1),
        other => panic!("{other:?}"),
    }

    // What is gone is named, whoever removed it.
    let facts = root.path().join("facts/default/nyc_taxi").join(&files[0].path);
    fs::remove_file(&facts).unwrap();
    let why = store.why_model("demand").await.unwrap();
    assert_eq!(why.tables[0].files.as_ref().unwrap()[0].state, FileState::Gone);
    assert!(why.to_string().contains("): removed"), "{why}");
    fs::write(&facts, "x").unwrap();
    assert_eq!(model.why().await.unwrap().tables[0].files.as_ref().unwrap()[0].state, FileState::Changed);
    fs::remove_file(root.path().join("catalog/default/nyc_taxi/v0000000002.json")).unwrap();
    let why = model.why().await.unwrap();
    assert!(matches!(why.tables[0].lineage.origin, Origin::Removed), "{why}");
    assert!(why.to_string().contains("nyc_taxi version 2: removed"), "{why}");
    fs::remove_dir_all(root.path().join("materialized")).unwrap();
    fs::remove_file(folder(root.path(), &model).join("artifact.bin")).unwrap();
    let why = model.why().await.unwrap();
    assert_eq!((why.rows, why.artifact_state, why.tables[0].files.is_none()), (None, FileState::Gone, true));
    assert!(why.to_string().contains("removed: which rows"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_table_is_traced_to_its_place() {
    let (loaded, _store) = store().await;
    let (theirs, root) = (temp_dir(), temp_dir());
    copy_dir(&loaded.path().join("facts/default/nyc_taxi"), theirs.path());
    let store = store_with(root.path(), StoreOptions::default().cache_in_memory()).await;
    register(&store);
    let place = theirs.path().to_str().unwrap();
    store.register_table("nyc_taxi", place, trips_table()).await.unwrap();
    let made = store.materialize("rides_v1", instant(AS_OF)).await.unwrap();
    store.record_model(NewModel::new("fare", &made).artifact(b"w".to_vec())).await.unwrap();
    let why = store.why_model("fare").await.unwrap();
    assert!(matches!(why.tables[0].lineage.origin, Origin::Registered(_)), "{why}");
    assert!(why.tables[0].files.as_ref().unwrap().iter().all(|file| file.state == FileState::There), "{why}");
    assert!(why.to_string().contains(place), "{why}");
    fs::remove_file(theirs.path().join(&why.tables[0].files.as_ref().unwrap()[0].path)).unwrap();
    let why = store.why_model("fare").await.unwrap();
    assert_eq!(why.tables[0].files.as_ref().unwrap()[0].state, FileState::Gone, "{why}");
}

// --- what a service may give it --------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_served_what_it_was_fitted_on_and_nothing_else() {
    let (_root, store) = store().await;
    let pure = FeatureSet::rows("pure_v1", COLUMNS).table("nyc_taxi").event_time("pickup_at").encode(Number::of("trip_distance"));
    store.register(pure.label("total_amount").build().unwrap()).unwrap();
    let at = async |set: &str, as_of: &str| store.materialize(set, instant(as_of)).await.unwrap();
    let recorded = async |new: NewModel| store.record_model(new.artifact(b"w".to_vec())).await.unwrap();

    // Nothing is learned: any materialization of the definition will do.
    for set in ["zones_v1", "pure_v1"] {
        let (old, new) = (at(set, MIDDLE).await, at(set, AS_OF).await);
        assert_ne!(old.id(), new.id());
        let model = recorded(NewModel::new("any", &old)).await;
        model.check_serves(&old).unwrap();
        model.check_serves(&new).unwrap();
        model.check_serves(&store.online(set).await.unwrap()).unwrap();
    }
    let spine = of_spine(&store).await.keep("zones").await.unwrap();
    recorded(NewModel::new("any", &spine)).await.check_serves(&at("zones_v1", AS_OF).await).unwrap();

    // An encoder has learned something else.
    let (old, new) = (at("rides_v1", MIDDLE).await, at("rides_v1", AS_OF).await);
    let model = recorded(NewModel::new("fare", &old)).await;
    model.check_serves(&old).unwrap();
    model.check_serves(&store.online_for(&old).await.unwrap()).unwrap();
    for error in
        [model.check_serves(&new).unwrap_err(), model.check_serves(&store.online("rides_v1").await.unwrap()).unwrap_err()]
    {
        assert!(matches!(error, Error::Definition { .. }), "{error}");
        says(&error, &["`fare`", "learned something else", &old.id().to_string(), &new.id().to_string(), "online_for"]);
    }
    // A training set that was not split has learned what its materialization has; its train part has not.
    let whole = of_rows(&store, "rides_v1").await;
    let (train, _) = whole.split(Split::by_time(instant(MIDDLE))).await.unwrap();
    let (whole, train) = (whole.keep("whole").await.unwrap(), train.keep("train").await.unwrap());
    recorded(NewModel::new("fare", &whole)).await.check_serves(&new).unwrap();
    assert!(recorded(NewModel::new("fare", &whole)).await.check_serves(&old).is_err());
    says(
        &recorded(NewModel::new("fare", &train)).await.check_serves(&new).unwrap_err(),
        &["split", &train.id().unwrap().to_string()],
    );

    // Another definition.
    let other = at("plain_v1", AS_OF).await;
    let error = model.check_serves(&other).unwrap_err();
    let fingerprints = [&old, &other].map(|made| made.manifest().fingerprint.id.to_string());
    says(&error, &["another definition", "`rides_v1`", "`plain_v1`", &fingerprints[0], &fingerprints[1]]);
}

// --- refusals --------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_is_refused_and_leaves_nothing() {
    let (root, store) = store().await;
    let made = store.materialize("zones_v1", instant(AS_OF)).await.unwrap();
    let new = || NewModel::new("demand", &made).artifact(b"w".to_vec());
    let before = files_below(root.path());

    for name in ["", "Demand", "a/b", "../facts", "a b"] {
        let named = NewModel::new(name, &made).artifact(b"w".to_vec());
        assert!(matches!(store.record_model(named).await.unwrap_err(), Error::InvalidName { .. }), "{name}");
        assert!(matches!(store.model(name).await.unwrap_err(), Error::InvalidName { .. }), "{name}");
        assert!(matches!(store.models(name).await.unwrap_err(), Error::InvalidName { .. }), "{name}");
        let forgotten = store.forget_model(name, made.id()).await.unwrap_err();
        assert!(matches!(forgotten, Error::InvalidName { .. }), "{name}");
    }
    assert!(matches!(store.model("nothing").await.unwrap_err(), Error::NotFound { .. }));
    assert!(matches!(store.why_model("nothing").await.unwrap_err(), Error::NotFound { .. }));
    assert!(store.models("nothing").await.unwrap().is_empty());
    assert_eq!(store.forget_model("nothing", made.id()).await.unwrap(), Change::Nothing);

    let error = store.record_model(NewModel::new("demand", &made)).await.unwrap_err();
    assert!(matches!(error, Error::Definition { .. }), "{error}");
    says(&error, &["`demand`", "no artifact"]);
    let unkept = of_rows(&store, "rides_v1").await;
    let error = store.record_model(NewModel::new("demand", &unkept).artifact(b"w".to_vec())).await.unwrap_err();
    assert!(matches!(error, Error::Definition { .. }), "{error}");
    says(&error, &["`rides_v1`", "TrainingSet::keep"]);

    for name in ["".to_owned(), "a\nb".into(), "n".repeat(129)] {
        let error = store.record_model(new().metadata(&name, "1")).await.unwrap_err();
        assert!(matches!(error, Error::InvalidName { .. }), "{error}");
    }
    let error = store.record_model(new().metadata("long", "x".repeat((16 << 10) + 1))).await.unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
    let many = (0..129).fold(new(), |new, i| new.metadata(format!("k{i}"), "1"));
    assert!(matches!(store.record_model(many).await.unwrap_err(), Error::Limit { .. }));

    let missing = root.path().join("missing.bin");
    for (location, kind) in [(missing.to_str().unwrap(), "none"), (root.path().to_str().unwrap(), "folder")] {
        let error = store.record_model(new().artifact_file(location)).await.unwrap_err();
        assert!(matches!(error, Error::NoFiles { .. }), "{kind}: {error}");
    }
    for location in ["", " ", "a\nb", &"x".repeat(5_000)] {
        let error = store.record_model(new().artifact_at(location, ContentId::of(b"w"), 1)).await.unwrap_err();
        assert!(matches!(error, Error::InvalidLocation { .. }), "{error}");
    }

    // Rows of another root could not be kept here.
    let (_other_root, other) = crate::training_sets::store().await;
    let error = other.record_model(new()).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert_eq!(files_below(root.path()), before);

    // The largest that is taken; and the set is in use, even when its materializations are gone.
    let largest = (0..128).fold(new(), |new, i| new.metadata(format!("{i:0>128}"), "x".repeat(100)));
    let model = store.record_model(largest.metadata(format!("{:0>128}", 0), "x".repeat(16 << 10))).await.unwrap();
    assert_eq!(model.metadata().len(), 128);
    fs::remove_dir_all(root.path().join("materialized/zones_v1")).unwrap();
    let error = store.forget_set("zones_v1").await.unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    says(&error, &["`zones_v1`", "`demand`", "forget_model"]);
    store.forget_model("demand", model.id()).await.unwrap();
    assert_eq!(store.forget_set("zones_v1").await.unwrap(), Change::Done);
}
