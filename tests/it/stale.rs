//! Why a materialization is stale: each kind of change has its reason, and what is called stale is what `materialize` makes otherwise.

use std::{fs, path::Path};

use asof::{
    AsOf, FeatureSet, FeatureStore,
    catalog::{FactTable, KnownAt},
    encoder::Number,
    ingest::{CompactOptions, Ingest, LoadMode},
    materialize::StaleReason,
};
use chrono::TimeDelta;

use crate::{
    materializations::{handle, stale_as_planned},
    support::{bits, copy_dir, instant, made_load, store, temp_dir, trip, write_parquet, write_text},
    training::{floats, instants, integers, known_at_once},
    training_sets::COLUMNS,
};

/// A load of rides that are known at once.
fn rides_of(file: &str) -> Ingest {
    let declared = FactTable::new("at", KnownAt::after(TimeDelta::zero())).zone("UTC".parse().unwrap());
    Ingest::new("rides", declared).unwrap().from(file)
}

fn rides_load(dir: &Path, name: &str, rows: &[&str]) -> Ingest {
    rides_of(&write_text(dir, name, format!("at,zone,fare\n{}\n", rows.join("\n"))))
}

/// Rides of two months.
const RIDES: [&str; 2] = ["2014-01-05 10:00:00,1,11.5", "2014-02-06 11:00:00,2,7.25"];

#[tokio::test(flavor = "multi_thread")]
async fn a_fact_at_the_very_as_of_makes_only_an_inclusive_set_stale() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    store.ingest(&rides_load(data.path(), "a.csv", &RIDES)).await.unwrap();
    let zones = |name: &str| FeatureSet::entities(name, "rides").key("zone").lookup("fare", "last_fare");
    store.register(zones("before_v1").build().unwrap()).unwrap();
    store.register(zones("until_v1").inclusive().build().unwrap()).unwrap();
    let march = instant("2014-03-01");
    for set in ["before_v1", "until_v1"] {
        store.materialize(set, march).await.unwrap();
    }
    // A microsecond after the as-of, and then at it.
    store.ingest(&rides_load(data.path(), "b.csv", &["2014-03-01 00:00:00.000001,1,9.5"])).await.unwrap();
    for set in ["before_v1", "until_v1"] {
        assert!(stale_as_planned(&store, set).await.1.is_empty(), "{set}");
    }
    store.ingest(&rides_load(data.path(), "c.csv", &["2014-03-01 00:00:00,1,10.5"])).await.unwrap();
    assert!(stale_as_planned(&store, "before_v1").await.1.is_empty());
    let (staleness, as_ofs) = stale_as_planned(&store, "until_v1").await;
    assert_eq!(as_ofs, [march]);
    let told = staleness.to_string();
    assert!(told.contains("as of 2014-03-01T00:00:00Z, inclusive: "), "{told}");
    assert!(told.contains("late facts or corrections in `rides`: 1 file with 1 row came, `year=2014/month=3/"), "{told}");
    assert!(store.materializations("until_v1").await.unwrap().to_string().contains("2014-03-01T00:00:00Z, inclusive  rides 1"));
    let made = store.open_materialization(staleness.stale[0].id).await.unwrap();
    assert!(store.replay(&made).await.unwrap().is_equal());
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_rows_other_columns_and_a_dropped_table_are_reasons() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    store.ingest(&rides_load(data.path(), "a.csv", &RIDES)).await.unwrap();
    let zones = FeatureSet::entities("zones_v1", "rides").key("zone").lookup("fare", "last_fare").build().unwrap();
    store.register(zones).unwrap();
    let made = store.materialize("zones_v1", instant("2014-03-01")).await.unwrap();
    let expected = bits(&made).await;

    // A column that only a later month has: a query may select all columns.
    let wider = write_text(data.path(), "wider.csv", "at,zone,fare,surge\n2014-06-01 10:00:00,1,9.5,1.5\n");
    store.ingest(&rides_of(&wider)).await.unwrap();
    let (staleness, _) = stale_as_planned(&store, "zones_v1").await;
    let [StaleReason::Columns { added, removed, retyped, .. }] = &staleness.stale[0].reasons[..] else { panic!("{staleness}") };
    assert_eq!((added.as_slice(), removed.len(), retyped.len()), (["surge".to_owned()].as_slice(), 0, 0));

    // A load that replaces a month.
    let february = rides_load(data.path(), "february.csv", &["2014-02-07 10:00:00,1,8.25", "2014-02-08 11:00:00,2,8.5"]);
    store.ingest(&february.mode(LoadMode::ReplacePartitions)).await.unwrap();
    let (staleness, _) = stale_as_planned(&store, "zones_v1").await;
    let told = staleness.to_string();
    assert!(
        told.contains("files of year=2014/month=2 of `rides`: 1 file with 1 row replaced by 1 file with 2 rows, `year="),
        "{told}"
    );
    assert_eq!(staleness.stale[0].reasons.len(), 2, "{told}");

    // A dropped table. What was made of it stays, and can be made again.
    store.drop_table("rides").await.unwrap();
    let staleness = store.stale("zones_v1").await.unwrap();
    assert!(matches!(&staleness.stale[0].reasons[..], [StaleReason::Dropped { .. }]), "{staleness}");
    assert_eq!((staleness.stale[0].id_now, staleness.stale[0].is_renewed), (None, false));
    let opened = store.open_materialization(made.id()).await.unwrap();
    assert!(bits(&opened).await == expected);
    assert!(store.replay(&opened).await.unwrap().is_equal());
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_and_removed_files_and_another_declaration_of_a_registered_table_are_reasons() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let second = |s: i64| Some(s * 1_000_000);
    let write = |file: &str, values: &[(i64, i64, f64)]| {
        let columns = [
            ("k", integers(values.iter().map(|(k, ..)| Some(*k)))),
            ("at", instants(values.iter().map(|(_, at, _)| second(*at)))),
            ("v", floats(values.iter().map(|(.., v)| Some(*v)))),
        ];
        write_parquet(&data.path().join(file), &columns, None);
    };
    write("part=1/a.parquet", &[(1, 10, 1.0), (2, 20, 2.0)]);
    write("part=2/b.parquet", &[(1, 30, 3.0)]);
    write("part=3/c.parquet", &[(3, 40, 4.0)]);
    let place = data.path().to_str().unwrap();
    store.register_table("f", place, known_at_once()).await.unwrap();
    store.register(FeatureSet::entities("keys_v1", "f").key("k").lookup("v", "last").build().unwrap()).unwrap();
    let made = store.materialize("keys_v1", AsOf::from_micros(35_000_000)).await.unwrap();
    let whole = store.materialize("keys_v1", AsOf::from_micros(50_000_000)).await.unwrap();

    write("part=2/b.parquet", &[(1, 31, 3.5), (2, 32, 4.5)]);
    fs::remove_file(data.path().join("part=3/c.parquet")).unwrap();
    // The catalog still names what was there.
    assert!(store.stale("keys_v1").await.unwrap().stale.is_empty());
    store.repair("f").await.unwrap();
    let (staleness, as_ofs) = stale_as_planned(&store, "keys_v1").await;
    assert_eq!(as_ofs, [made.as_of(), whole.as_of()]);
    let [StaleReason::FilesChanged { files, .. }] = &staleness.of(made.id()).unwrap().reasons[..] else { panic!("{staleness}") };
    assert_eq!((files[0].path.as_str(), files[0].rows), ("part=2/b.parquet", Some(2)));
    let [StaleReason::FilesGone { files, .. }, StaleReason::FilesChanged { .. }] = &staleness.of(whole.id()).unwrap().reasons[..]
    else {
        panic!("{staleness}")
    };
    assert_eq!((files[0].path.as_str(), files[0].rows), ("part=3/c.parquet", Some(1)));

    // The table again, with facts that are known later.
    store.drop_table("f").await.unwrap();
    let later = FactTable::new("at", KnownAt::after(TimeDelta::seconds(1))).key("k");
    store.register_table("f", place, later).await.unwrap();
    let (staleness, _) = stale_as_planned(&store, "keys_v1").await;
    let reasons = &staleness.of(made.id()).unwrap().reasons;
    assert!(matches!(&reasons[..], [StaleReason::Declaration { .. }, StaleReason::FilesChanged { .. }]), "{staleness}");
    let told = staleness.to_string();
    assert!(
        told.contains("another declaration of `f`") && told.contains("`known_at.delay_micros` is 0 there and 1000000 here"),
        "{told}"
    );
    // What was published stays as it was.
    assert_eq!(bits(&store.open_materialization(made.id()).await.unwrap()).await, bits(&made).await);
}

// --- the same, naively -----------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_stale_is_what_a_copy_of_the_root_makes_otherwise() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let numbers = FeatureSet::rows("numbers_v1", COLUMNS).table("nyc_taxi").event_time("pickup_at");
    let numbers = numbers.encode(Number::of("trip_distance")).label("total_amount").build().unwrap();
    let until = FeatureSet::entities("until_v1", "nyc_taxi").key("pickup_zone").lookup("fare_amount", "last_fare");
    let sets = [numbers, until.inclusive().build().unwrap()];
    let register = |store: &FeatureStore| sets.iter().for_each(|set| store.register(set.clone()).unwrap());
    register(&store);
    let as_ofs = ["2014-01-10", "2014-02-10", "2014-03-10"].map(instant);
    let load = |name: &str, pickups: &[&str]| {
        let trips: Vec<_> = pickups.iter().enumerate().map(|(i, day)| trip(&format!("{day}T15:00:00Z"), i as f64)).collect();
        made_load(&data.path().join(name), &trips)
    };
    let steps: [&[&str]; 4] =
        [&["2014-01-05", "2014-02-05", "2014-03-05"], &["2014-03-06"], &["2014-02-06", "2014-02-20"], &["2014-01-04"]];
    for (step, pickups) in steps.into_iter().enumerate() {
        store.ingest(&load(&format!("{step}.csv"), pickups)).await.unwrap();
        if step == 3 {
            store.compact("nyc_taxi", &CompactOptions::default()).await.unwrap();
        }
        let copy = temp_dir();
        copy_dir(root.path(), copy.path());
        let naive = handle(copy.path()).await;
        register(&naive);
        for set in ["numbers_v1", "until_v1"] {
            let staleness = store.stale(set).await.unwrap();
            for info in store.materializations(set).await.unwrap().published {
                let made = naive.materialize(set, info.as_of).await.unwrap();
                assert_eq!(staleness.of(info.id).is_some(), made.id() != info.id, "step {step}, {set} as of {}", info.as_of);
            }
            for as_of in as_ofs {
                store.materialize(set, as_of).await.unwrap();
            }
        }
    }
}
