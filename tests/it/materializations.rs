//! What became of published materializations: they are listed, opened by id whatever happened since, and read as they were.

use std::{fs, path::Path, sync::atomic::Ordering};

use asof::{
    Aggregate, AsOf, Error, FeatureSet, FeatureStore, Materialization, StoreOptions,
    gc::Gc,
    ingest::CompactOptions,
    materialize::{DefinitionState, ENGINE_REVISION, Rewrite, StaleReason, Staleness},
    name::ContentId,
};
use chrono::TimeDelta;
use tempfile::TempDir;

use crate::{
    bad_input::says,
    drawn::{demand, drawing, pairs},
    opened_once::store_of_watched_files,
    support::{bits, copy_dir, files_below, instant, load_trips, reseal, store, store_of, temp_dir, trip, write_trips},
    taxi,
    training_sets::{COLUMNS, rides},
};

/// A handle that knows no set yet, with a cache of its own: as another process has it.
pub(crate) async fn handle(root: &Path) -> FeatureStore {
    FeatureStore::open_with(root.to_str().unwrap(), StoreOptions::default().cache_in_memory()).await.unwrap()
}

/// Rows with steps that learn, entities, entities with partial rows, rows that draw on both, and a set that sees its as-of.
fn sets() -> Vec<FeatureSet> {
    let inclusive = FeatureSet::entities("inclusive_v1", "nyc_taxi").key("pickup_zone").lookup("fare_amount", "last_fare");
    vec![
        rides("rides_v1", COLUMNS, true),
        demand("demand_v1", None),
        pairs(),
        drawing("drawn_v1", None).build().unwrap(),
        inclusive.inclusive().build().unwrap(),
    ]
}

fn register(store: &FeatureStore) {
    sets().into_iter().for_each(|set| store.register(set).unwrap());
}

/// The first instant of a month of 2014 by UTC; month 13 is the January after it.
fn first_of(month: u32) -> AsOf {
    if month == 13 { instant("2015-01-01") } else { instant(&format!("2014-{month:02}-01")) }
}

/// What is published of a set as of an instant: the manifest and the bits of the rows.
struct Pinned {
    set: String,
    as_of: AsOf,
    id: ContentId,
    manifest: String,
    rows: Vec<u8>,
}

impl Pinned {
    async fn of(made: &Materialization) -> Self {
        let (set, manifest) = (made.manifest().set.to_string(), serde_json::to_string(made.manifest()).unwrap());
        Self { set, as_of: made.as_of(), id: made.id(), manifest, rows: bits(made).await }
    }
}

/// Loads a month, and materializes all sets at its end.
async fn load_and_materialize(store: &FeatureStore, data: &Path, names: &[String], month: u32, pinned: &mut Vec<Pinned>) {
    load_trips(store, &data.join(format!("taxi_2014-{month:02}.csv"))).await;
    for set in names {
        pinned.push(Pinned::of(&store.materialize(set, first_of(month + 1)).await.unwrap()).await);
    }
}

/// Compares the ids that `plan` has for all as-ofs with what is called stale. Returns the stale as-ofs.
pub(crate) async fn stale_as_planned(store: &FeatureStore, set: &str) -> (Staleness, Vec<AsOf>) {
    let (staleness, published) = (store.stale(set).await.unwrap(), store.materializations(set).await.unwrap().published);
    assert!(staleness.damaged.is_empty());
    assert_eq!(staleness.stale.len() + staleness.current.len(), published.len());
    let ids: Vec<ContentId> = published.iter().map(|info| info.id).collect();
    for info in &published {
        let planned = store.plan(set, info.as_of).await.unwrap();
        match staleness.of(info.id) {
            None => assert!(planned.id == info.id && staleness.current.contains(&info.id), "{set} {}", info.as_of),
            Some(stale) => {
                assert!(planned.id != info.id && stale.id_now == Some(planned.id), "{set} {}: {stale}", info.as_of);
                assert_eq!((stale.as_of, stale.cutoff, stale.rows), (info.as_of, info.cutoff, info.rows));
                assert_eq!(stale.is_renewed, ids.contains(&planned.id));
                assert!(!stale.reasons.is_empty());
            }
        }
    }
    let as_ofs = staleness.stale.iter().map(|stale| stale.as_of).collect();
    (staleness, as_ofs)
}

// --- a year ----------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_year_of_loads_leaves_what_was_published_as_it_was() {
    let (data, late, root) = (temp_dir(), temp_dir(), temp_dir());
    write_trips(data.path(), 20);
    // Facts of March that come in July.
    let march = taxi::write_month(&taxi::Config { seed: 8, trips_per_month: 20, ..Default::default() }, 3, late.path()).unwrap();
    let late = late.path().join("late.csv");
    fs::rename(march, &late).unwrap();

    let store = store(root.path()).await;
    register(&store);
    let names: Vec<String> = sets().iter().map(|set| set.name().to_string()).collect();
    let mut pinned = Vec::new();
    for month in 1..=6 {
        load_and_materialize(&store, data.path(), &names, month, &mut pinned).await;
    }
    // Loads of later months change nothing.
    for set in &names {
        assert!(store.stale(set).await.unwrap().stale.is_empty(), "{set}");
    }

    let had = store.describe("nyc_taxi").await.unwrap();
    let loaded = load_trips(&store, &late).await;
    let is_new = |path: &str| had.files().iter().all(|file| file.path != path);
    for set in &names {
        let (staleness, as_ofs) = stale_as_planned(&store, set).await;
        assert_eq!(as_ofs, [4, 5, 6, 7].map(first_of), "{set}");
        for stale in &staleness.stale {
            let [StaleReason::NewFiles { table, files, .. }] = &stale.reasons[..] else { panic!("{stale}") };
            assert!(table.to_string() == "nyc_taxi" && files.iter().all(|file| is_new(&file.path)), "{stale}");
            assert_eq!(files.iter().map(|file| file.rows.unwrap()).sum::<u64>(), loaded.rows, "{stale}");
            assert!(!stale.is_renewed);
        }
        let told = staleness.to_string();
        assert!(told.starts_with(&format!("{set}: 4 of 6 materializations would differ now\n")), "{told}");
        assert!(
            told.contains("late facts or corrections in `nyc_taxi`: 1 file with 20 rows came, `year=2014/month=3/"),
            "{told}"
        );
    }
    // Materializing again renews them; the old ones stay.
    let renewed = store.materialize("demand_v1", first_of(4)).await.unwrap();
    pinned.push(Pinned::of(&renewed).await);
    let (staleness, as_ofs) = stale_as_planned(&store, "demand_v1").await;
    assert_eq!(as_ofs, [4, 5, 6, 7].map(first_of));
    assert_eq!(
        staleness.stale.iter().filter(|stale| stale.is_renewed).map(|stale| stale.as_of).collect::<Vec<_>>(),
        [first_of(4)]
    );
    assert!(staleness.current.contains(&renewed.id()));

    for month in 7..=12 {
        load_and_materialize(&store, data.path(), &names, month, &mut pinned).await;
    }
    let report = store.compact("nyc_taxi", &CompactOptions::default()).await.unwrap();
    assert_eq!(report.partitions.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), ["year=2014/month=3"]);
    for set in &names {
        let (staleness, as_ofs) = stale_as_planned(&store, set).await;
        let expected: Vec<AsOf> = (4..=13).map(first_of).collect();
        assert!(expected.iter().all(|as_of| as_ofs.contains(as_of)) && as_ofs.iter().all(|as_of| expected.contains(as_of)));
        for stale in &staleness.stale {
            let [StaleReason::ReplacedFiles { partition, was, now, by, .. }] = &stale.reasons[..] else { panic!("{stale}") };
            assert_eq!((partition.as_str(), now.len(), now[0].rows), ("year=2014/month=3", 1, Some(40)), "{stale}");
            // What was made before the late facts came lacks them; what was made after has the same rows in two files.
            let has_late = stale.as_of >= first_of(8) || stale.id == renewed.id();
            let expected = if has_late { (2, Rewrite::Compacted) } else { (1, Rewrite::Replaced) };
            assert_eq!((was.len(), *by), expected, "{stale}");
        }
    }

    // Everything can be made again of what it was made of.
    for Pinned { id, .. } in pinned.iter().filter(|pinned| [5, 13].map(first_of).contains(&pinned.as_of)) {
        let replay = store.replay(&store.open_materialization(*id).await.unwrap()).await.unwrap();
        assert!(replay.is_equal() && replay.has_same_files(), "{replay}");
    }

    // A collection takes the old versions, and no file that something was made of.
    let collected = store.gc(&Gc::delete().keep_versions(1).grace(TimeDelta::zero())).await.unwrap();
    assert!(!collected.removed.is_empty());
    assert_eq!(store.versions("nyc_taxi").await.unwrap().len(), 1);

    // Another process finds everything as it was, by its id alone.
    let reader = handle(root.path()).await;
    for Pinned { set, id, manifest, rows, .. } in &pinned {
        let made = reader.open_materialization(*id).await.unwrap();
        assert_eq!(serde_json::to_string(made.manifest()).unwrap(), *manifest);
        assert!(bits(&made).await == *rows, "{set} {id}");
        made.verify().await.unwrap();
        assert_eq!(made.dataframe().await.unwrap().count().await.unwrap() as u64, made.rows());
        if !made.manifest().labels.is_empty() {
            assert_eq!(made.dataset("total_amount").await.unwrap().targets.len() as u64, made.rows());
        }
        says!(reader.online_for(&made).await.unwrap_err(), Error::UnknownFeatureSet { .. }, set);
        says!(reader.replay(&made).await.unwrap_err(), Error::UnknownFeatureSet { .. }, set);
    }
    for set in &names {
        let list = reader.materializations(set).await.unwrap();
        let ids: Vec<_> = pinned.iter().filter(|pinned| pinned.set == *set).map(|pinned| pinned.id).collect();
        assert_eq!(list.published.len(), ids.len());
        assert!(list.published.iter().all(|info| ids.contains(&info.id) && info.definition == DefinitionState::NotRegistered));
        assert!(list.published.is_sorted_by_key(|info| (info.as_of, info.id)));
    }
    // With the definitions it serves and replays them, also where only the manifest knows what the old version of the table had.
    register(&reader);
    for Pinned { id, .. } in pinned.iter().filter(|pinned| pinned.as_of == first_of(6)) {
        let made = reader.open_materialization(*id).await.unwrap();
        let replay = reader.replay(&made).await.unwrap();
        assert!(replay.is_equal() && replay.has_same_files(), "{replay}");
        reader.online_for(&made).await.unwrap();
    }
}

// --- the list --------------------------------------------------------------------------------------------------------

/// Trips of a zone over so many hours.
fn edited(hours: i64) -> FeatureSet {
    let set = FeatureSet::entities("edited_v1", "nyc_taxi").key("pickup_zone");
    set.window(TimeDelta::hours(hours), [Aggregate::count().named("trips")]).build().unwrap()
}

async fn facts() -> (TempDir, FeatureStore) {
    let (root, store) = store_of(&[trip("2014-01-05T15:00:00Z", 1.0), trip("2014-09-15T11:30:00Z", 2.0)]).await;
    store.register(edited(1)).unwrap();
    (root, store)
}

/// The folders of what is published of a set, below the root.
fn folders(root: &Path, set: &str) -> Vec<String> {
    let manifests = files_below(root).into_iter().filter(|name| name.starts_with(&format!("materialized/{set}/")));
    manifests.filter_map(|name| Some(name.strip_suffix("/manifest.json")?.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_says_what_was_made_of_what_and_names_what_is_damaged() {
    let (root, store) = facts().await;
    assert!(store.materializations("edited_v1").await.unwrap().published.is_empty());
    assert!(store.materializations("nobody_v1").await.unwrap().published.is_empty());
    says!(store.materializations("edited").await.unwrap_err(), Error::InvalidName { .. }, "edited");
    let mut made = Vec::new();
    for as_of in ["2014-10-01", "2014-02-01", "2014-12-01"] {
        made.push(store.materialize("edited_v1", instant(as_of)).await.unwrap());
    }
    let list = store.materializations("edited_v1").await.unwrap();
    assert_eq!(list.published.iter().map(|info| info.id).collect::<Vec<_>>(), [made[1].id(), made[0].id(), made[2].id()]);
    for info in &list.published {
        let made = made.iter().find(|made| made.id() == info.id).unwrap();
        let manifest = made.manifest();
        assert_eq!((info.rows, info.bytes, info.as_of), (made.rows(), made.bytes(), made.as_of()));
        assert_eq!((&info.fingerprint, &info.engine), (&manifest.fingerprint, &manifest.engine));
        assert_eq!(info.tables, [("nyc_taxi".parse().unwrap(), 1)]);
        assert_eq!(info.definition, DefinitionState::Registered);
    }
    let told = list.to_string();
    assert!(told.starts_with("edited_v1: 3 materializations\nas of "), "{told}");
    assert!(told.contains(&format!("nyc_taxi 1  {} registered", made[0].manifest().fingerprint.id.short())), "{told}");

    // A manifest that was cut off, and one that was copied by hand, are named; the others are as before.
    let [first, second, third] = &folders(root.path(), "edited_v1")[..] else { panic!() };
    let path = |folder: &str| root.path().join(folder).join("manifest.json");
    let whole = fs::read(path(first)).unwrap();
    fs::write(path(first), &whole[..whole.len() / 2]).unwrap();
    fs::copy(path(third), path(second)).unwrap();
    let reader = handle(root.path()).await;
    reader.register(edited(1)).unwrap();
    let list = reader.materializations("edited_v1").await.unwrap();
    assert_eq!(list.published.iter().map(|info| info.as_of).collect::<Vec<_>>(), [instant("2014-12-01")]);
    assert_eq!(list.damaged.len(), 2);
    for (damaged, folder) in list.damaged.iter().zip([first, second]) {
        assert!(folder.ends_with(&damaged.folder) && matches!(damaged.error, Error::Corrupt { .. }), "{damaged}");
        assert!(list.to_string().contains(&format!("cannot be read: {damaged}\n")));
    }
    let staleness = reader.stale("edited_v1").await.unwrap();
    assert_eq!((staleness.stale.len(), staleness.current.len(), staleness.damaged.len()), (0, 1, 2));
    // One of them cannot be opened, an id that nobody has is not found.
    says!(
        reader.open_materialization(made[1].id()).await.unwrap_err(),
        Error::Corrupt { .. },
        "manifest.json",
        "materialize again"
    );
    assert_eq!(reader.open_materialization(made[2].id()).await.unwrap().as_of(), instant("2014-12-01"));
    let unknown = ContentId::of(b"nothing");
    says!(
        reader.open_materialization(unknown).await.unwrap_err(),
        Error::NotFound { .. },
        unknown.to_string(),
        "materializations"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_opening_and_comparing_read_no_fact() {
    let (_dir, store, seen) = store_of_watched_files(3).await;
    let set = FeatureSet::entities("watched_v1", "f").key("k").lookup("v", "last").build().unwrap();
    store.register(set).unwrap();
    let made = store.materialize("watched_v1", AsOf::from_micros(1_000)).await.unwrap();
    let before = seen.requests.load(Ordering::SeqCst);
    assert!(before > 0);
    assert_eq!(store.materializations("watched_v1").await.unwrap().published.len(), 1);
    assert_eq!(store.stale("watched_v1").await.unwrap().current, [made.id()]);
    assert_eq!(store.open_materialization(made.id()).await.unwrap().rows(), made.rows());
    assert_eq!(seen.requests.load(Ordering::SeqCst), before);
    // A replay does.
    assert!(store.replay(&made).await.unwrap().is_equal());
    assert!(seen.requests.load(Ordering::SeqCst) > before);
}

// --- definitions and engines -----------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_old_definition_are_read_without_it_and_served_with_it() {
    let (root, store) = facts().await;
    let made = store.materialize("edited_v1", instant("2014-10-01")).await.unwrap();
    let expected = bits(&made).await;

    // Somebody has edited the definition under the same name.
    let editor = handle(root.path()).await;
    editor.register(edited(2)).unwrap();
    assert_eq!(editor.materializations("edited_v1").await.unwrap().published[0].definition, DefinitionState::Other);
    let staleness = editor.stale("edited_v1").await.unwrap();
    let [StaleReason::Definition { was, now, differs, .. }] = &staleness.stale[0].reasons[..] else { panic!("{staleness}") };
    assert_eq!((*was, *now), (edited(1).fingerprint().id, edited(2).fingerprint().id));
    assert_eq!(differs.as_deref(), Some("`windows.0.0` is 3600000000 there and 7200000000 here"));
    let opened = editor.open_materialization(made.id()).await.unwrap();
    assert!(bits(&opened).await == expected);
    assert_eq!(opened.dataset("trips").await.unwrap().targets.len() as u64, made.rows());
    for error in [editor.online_for(&opened).await.unwrap_err(), editor.replay(&opened).await.unwrap_err()] {
        says!(
            error,
            Error::MadeOtherwise { .. },
            made.id().to_string(),
            "`edited_v1`",
            "`windows.0.0` is 3600000000",
            "can be read"
        );
    }

    // Nobody has registered anything.
    let reader = handle(root.path()).await;
    says!(reader.stale("edited_v1").await.unwrap_err(), Error::UnknownFeatureSet { .. }, "edited_v1");
    let opened = reader.open_materialization(made.id()).await.unwrap();
    assert!(bits(&opened).await == expected);
    says!(reader.online_for(&opened).await.unwrap_err(), Error::UnknownFeatureSet { .. }, "edited_v1");
    // The definition that made it brings everything back; a replay also for a handle that was opened before.
    reader.register(edited(1)).unwrap();
    assert!(reader.replay(&opened).await.unwrap().is_equal());
    let opened = reader.open_materialization(made.id()).await.unwrap();
    assert_eq!(
        reader.online_for(&opened).await.unwrap().get(&[1.into()]).unwrap(),
        store.online_for(&made).await.unwrap().get(&[1.into()]).unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_engine_made_is_stale_and_read_and_not_replayed() {
    let (root, store) = facts().await;
    let made = store.materialize("edited_v1", instant("2014-10-01")).await.unwrap();
    // As an older version of the library has left it: other versions make another id.
    let [folder] = &folders(root.path(), "edited_v1")[..] else { panic!() };
    let other = ContentId::of(b"of an older engine");
    let old = root.path().join(folder.replace(&made.id().to_string(), &other.to_string()));
    copy_dir(&root.path().join(folder), &old);
    reseal(&old.join("manifest.json"), |manifest| {
        manifest["id"] = other.to_string().into();
        manifest["engine"]["revision"] = 1.into();
    });
    let staleness = store.stale("edited_v1").await.unwrap();
    assert_eq!(staleness.current, [made.id()]);
    let [StaleReason::Engine { was, now, .. }] = &staleness.stale[0].reasons[..] else { panic!("{staleness}") };
    assert_eq!((was.revision, now), (1, &made.manifest().engine));
    assert!(staleness.stale[0].id == other && staleness.stale[0].is_renewed);
    let opened = store.open_materialization(other).await.unwrap();
    assert!(bits(&opened).await == bits(&made).await);
    says!(
        store.replay(&opened).await.unwrap_err(),
        Error::MadeOtherwise { .. },
        other.to_string(),
        "revision 1,",
        format!("revision {ENGINE_REVISION},")
    );
}
