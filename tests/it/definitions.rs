//! Definitions for people: descriptions, all mistakes at once, differences, and plans that read no data.

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
};

use asof::{
    Aggregate, Error, ErrorKind, FeatureSet,
    encoder::{Clip, NotNull, Number, Spec, Standardize, encoder_fn},
    feature_set::{Description, Source},
    materialize::StepKind,
};
use chrono::TimeDelta;
use datafusion::arrow::{
    array::{ArrayRef, AsArray, Float64Array, RecordBatch},
    datatypes::{DataType, Float64Type},
};

use crate::{
    bad_input::says,
    opened_once::store_of_watched_files,
    parity::whole,
    support::{files_below, instant, store, store_of, trip},
};

fn demand(name: &str) -> asof::feature_set::EntitySetBuilder {
    FeatureSet::entities(name, "nyc_taxi").key("pickup_zone").window(TimeDelta::hours(1), [Aggregate::count().named("trips")])
}

// --- names ---------------------------------------------------------------------------------------------------------------

/// Names by a pattern are the names of the definition: what was published under the written names is found, and has their values.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_with_a_pattern_of_names_is_published_as_the_set_with_these_names() {
    let trips = [trip("2014-01-05T15:00:00Z", 1.0), trip("2014-01-06T11:30:00Z", 2.5)];
    let (root, store) = store_of(&trips).await;
    let (hour, week) = (TimeDelta::hours(1), TimeDelta::days(7));
    let written = FeatureSet::entities("demand_v1", "nyc_taxi")
        .key("pickup_zone")
        .lookup("fare_amount", "zone_last_fare")
        .window(hour, [Aggregate::count().named("zone_count_1h")])
        .window(
            week,
            [Aggregate::count().named("zone_count_7d"), Aggregate::sum("fare_amount").named("zone_sum_fare_amount_7d")],
        );
    store.register(written.build().unwrap()).unwrap();
    let made = store.materialize("demand_v1", instant("2014-01-06T12:00:00Z")).await.unwrap();
    let before = files_below(root.path());
    let made_by_pattern = FeatureSet::entities("demand_v1", "nyc_taxi")
        .key("pickup_zone")
        .names("{aggregate}_{column}_{window}")
        .prefixed("zone_")
        .lookup("fare_amount", "last_fare")
        .window(hour, [Aggregate::count()])
        .window(week, [Aggregate::count(), Aggregate::sum("fare_amount")]);
    store.register(made_by_pattern.build().unwrap()).unwrap();
    assert_eq!(store.materialize("demand_v1", instant("2014-01-06T12:00:00Z")).await.unwrap().id(), made.id());
    assert_eq!(files_below(root.path()), before);
    let row = store.online("demand_v1").await.unwrap().get(&[1.into()]).unwrap();
    let found =
        ["zone_last_fare", "zone_count_1h", "zone_count_7d", "zone_sum_fare_amount_7d"].map(|name| row.number(name).unwrap());
    // The second trip takes ten minutes from half past eleven on.
    assert_eq!(found, [Some(2.5), Some(1.0), Some(2.0), Some(3.5)]);
}

// --- descriptions ----------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn editing_a_description_makes_no_new_version_and_moves_no_id() {
    let trips = [trip("2014-01-05T15:00:00Z", 1.0), trip("2014-01-06T11:30:00Z", 2.0)];
    let (root, store) = store_of(&trips).await;
    let plain = demand("demand_v1").build().unwrap();
    let told = demand("demand_v1")
        .owner("lab")
        .description("How busy a zone is")
        .describe("trips", Description::new().unit("trips").text("In the last hour").tag("demand"))
        .build()
        .unwrap();
    assert_eq!(plain.fingerprint(), told.fingerprint());
    assert_eq!((plain.owner(), plain.description()), (None, None));
    assert_eq!((told.owner(), told.description()), (Some("lab"), Some("How busy a zone is")));
    assert_eq!(plain.feature("trips").unwrap().description, Description::new());
    assert_eq!(told.feature("trips").unwrap().description.tags, ["demand"]);
    assert!(plain.diff(&told).is_empty());

    store.register(plain).unwrap();
    let made = store.materialize("demand_v1", instant("2014-02-01")).await.unwrap();
    let before = files_below(root.path());
    // The same definition with other texts: the store takes them over, and finds what was published.
    store.register(told).unwrap();
    assert_eq!(store.feature_set("demand_v1").unwrap().owner(), Some("lab"));
    assert_eq!(store.materialize("demand_v1", instant("2014-02-01")).await.unwrap().id(), made.id());
    assert_eq!(files_below(root.path()), before);
}

#[test]
fn a_set_of_rows_tells_its_query_its_steps_and_its_labels() {
    let set = FeatureSet::rows("fares_v1", "SELECT at, fare, tip\nFROM rides")
        .owner("lab")
        .table("rides")
        .event_time("at")
        .keep(NotNull::of_numbers(["fare"]))
        .encode(Number::of("fare"))
        .encode_fitted(Standardize::of("fare"))
        .label("tip")
        .describe("tip", Description::new().unit("USD"))
        .build()
        .unwrap();
    let told = set.describe().to_string();
    let lines = [
        "fares_v1: a set of rows",
        "  owner          lab",
        "  event time     at",
        "    SELECT at, fare, tip",
        "    FROM rides",
        "    fare      number(fare)",
        "    fare_std  standardize(fare), fitted",
        "    tip  USD  a column of the query",
    ];
    for line in lines {
        assert!(told.lines().any(|told| told == line), "`{line}` is not in\n{told}");
    }
    assert!(told.contains("  keeps rows by  not_null(fare)\n"), "{told}");
    assert_eq!(set.feature("tip").unwrap().description.unit.as_deref(), Some("USD"));
    assert_eq!(set.feature("at"), None);
}

// --- mistakes --------------------------------------------------------------------------------------------------------

#[test]
fn mistakes_of_every_kind_are_told_at_once() {
    let bad_clip = |column| Clip::of(column, 1.0, 0.0);
    let panics = |_: &RecordBatch| -> asof::Result<Vec<ArrayRef>> { panic!("no such zone") };
    let zone = Spec::new("zone", 1).number("zone").output("zone", DataType::Float64);
    let error = FeatureSet::rows("fares", "SELECT at, fare, tip FROM rides")
        .table("Rides")
        .table("rides")
        .event_time("at")
        .encode(bad_clip("fare"))
        .encode(bad_clip("tip"))
        .encode(encoder_fn(zone, panics))
        .encode(Number::of("fare"))
        .label("at")
        .describe("fair", Description::new())
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let Error::Mistakes { mistakes, .. } = &error else { panic!("{error:?}") };
    let kinds: Vec<bool> = mistakes.iter().map(|mistake| matches!(mistake, Error::Step { .. })).collect();
    assert_eq!(kinds, [false, false, false, true, true, true], "{error}");
    says!(
        error,
        Error::Mistakes { .. },
        "feature set `fares` has 6 mistakes",
        "must end in a version",
        "table `Rides`",
        "`fares` reads it",
        "called `at` (a label and the event time)",
        "describes `fair`, which is neither a feature nor a label",
        "`clipped_fare`, `clipped_tip`, `zone`, `fare`, `at`",
        "clip of fares: feature `clipped_fare` of `fare`: it clips",
        "clip of fares: feature `clipped_tip` of `tip`: it clips",
        "zone of fares: feature `zone` of `zone`: it panicked"
    );
    let set = FeatureSet::rows("fares_v1", " ").table("rides").event_time("at").encode(Number::of("fare"));
    says!(set.build().unwrap_err(), Error::Definition { .. }, "`fares_v1`", "no query");
}

#[test]
fn mistakes_of_a_set_of_entities_name_their_features_and_columns() {
    let error = FeatureSet::entities("zones_v1", "rides")
        .lookup("fare * 2", "double")
        .window(TimeDelta::zero(), [Aggregate::count(), Aggregate::sum("fare")])
        .also(Source::of("weather").on("zone").max_age(TimeDelta::hours(-1)).lookup("temp", "double"))
        .describe("doubled", Description::new())
        .build()
        .unwrap_err();
    says!(
        error,
        Error::Definition { .. },
        "`zones_v1`",
        "no key",
        "feature `double` over `rides`: `fare * 2` is an expression",
        "a window of 0 seconds over `rides`, of `count`, `sum_fare`, is empty",
        "the max age of `weather` is -1 hour",
        "called `double` (a lookup of `fare * 2` in `rides` and a lookup of `temp` in `weather`)",
        "describes `doubled`"
    );
    let error = FeatureSet::entities("zones_v1", "Rides").key("zone").also(Source::of("Weather").on("zone")).build().unwrap_err();
    let words = ["has 3 mistakes", "table `Rides`", "table `Weather`", "no feature"];
    says!(error, Error::Mistakes { .. }, words[0], words[1], words[2], words[3]);
}

#[tokio::test]
async fn what_is_intermediate_is_read_by_encoders_and_kept_nowhere() {
    let set = |name: &str| {
        FeatureSet::rows(name, "SELECT pickup_at, trip_distance, fare_amount FROM nyc_taxi")
            .table("nyc_taxi")
            .event_time("pickup_at")
            .encode(Clip::of("trip_distance", 0.0, 2.0))
            .encode_fitted(Standardize::of("clipped_trip_distance").named("distance"))
            .label("fare_amount")
    };
    let trips = [trip("2014-01-05T15:00:00Z", 1.0), trip("2014-01-06T11:30:00Z", 2.0), trip("2014-01-07T11:30:00Z", 9.0)];
    let (_root, store) = store_of(&trips).await;
    let (all, only) = (set("all_v1").build().unwrap(), set("only_v1").intermediate(["clipped_trip_distance"]).build().unwrap());
    assert_eq!(
        (all.features(), only.features()),
        (vec!["clipped_trip_distance".into(), "distance".into()], vec!["distance".into()])
    );
    let difference = all.diff(&only);
    assert!(difference.removed == ["clipped_trip_distance"] && difference.parts.iter().any(|p| p.part.contains("intermediate")));
    let mut made = Vec::new();
    for set in [all, only] {
        store.register(set.clone()).unwrap();
        made.push(store.materialize(set.name().as_str(), instant("2014-02-01")).await.unwrap());
    }
    let [all, only] = made.as_slice() else { panic!("{made:?}") };
    assert_eq!(only.manifest().features, ["distance"]);
    let (all, only_rows) = (whole(all).await, whole(only).await);
    assert!(only_rows.column_by_name("clipped_trip_distance").is_none());
    assert_eq!(only_rows.column_by_name("distance").unwrap(), all.column_by_name("distance").unwrap());
    let online = store.online_for(only).await.unwrap();
    let row = online.encode_row(&[("trip_distance", 9.0.into())]).unwrap();
    assert_eq!(
        row.number("distance").unwrap(),
        Some(only_rows.column_by_name("distance").unwrap().as_primitive::<Float64Type>().value(2))
    );
    assert!(row.number("clipped_trip_distance").is_err());

    let refused = set("bad_v1").intermediate(["distance", "nowhere"]).build().unwrap_err();
    says!(refused, Error::Definition { .. }, "bad_v1", "`distance`", "no encoder after it", "`nowhere`", "no encoder makes it");
    let described = set("bad_v1").intermediate(["clipped_trip_distance"]).describe("clipped_trip_distance", Description::new());
    says!(described.build().unwrap_err(), Error::Definition { .. }, "bad_v1", "describes `clipped_trip_distance`");
}

// --- differences -----------------------------------------------------------------------------------------------------

fn fares(name: &str) -> asof::feature_set::RowSetBuilder {
    FeatureSet::rows(name, "SELECT at, fare, tip FROM rides").table("rides").event_time("at").encode(Number::of("fare"))
}

/// An encoder whose declaration does not tell by how much it scales.
fn scaled(factor: f64) -> impl asof::encoder::Encoder + 'static {
    let spec = Spec::new("scaled", 1).number("fare").output("scaled", DataType::Float64);
    encoder_fn(spec, move |rows: &RecordBatch| {
        let scaled: Float64Array = rows.column(0).as_primitive::<Float64Type>().unary(|x| x * factor);
        Ok(vec![Arc::new(scaled) as ArrayRef])
    })
}

#[test]
fn a_difference_names_features_parts_and_changed_code() {
    let first = fares("fares_v1").encode(Clip::of("tip", 0.0, 5.0)).label("price").build().unwrap();
    let second = fares("fares_v2").encode_fitted(Standardize::of("fare")).encode(Clip::of("tip", 0.0, 9.0)).label("price");
    let difference = first.diff(&second.inclusive().build().unwrap());
    assert_eq!((difference.from.as_str(), difference.to.as_str()), ("fares_v1", "fares_v2"));
    assert_eq!(difference.added, ["fare_std"]);
    assert!(difference.removed.is_empty() && !difference.code_differs && !difference.is_empty(), "{difference:?}");
    let cutoff = difference.parts.iter().find(|part| part.part == "cutoff").unwrap();
    assert_eq!((cutoff.from.as_ref().unwrap(), cutoff.to.as_ref().unwrap()), (&"exclusive".into(), &"inclusive".into()));
    // The second list is one longer, and has no end in common with the first: the clip is compared with the scale.
    assert!(difference.parts.iter().any(|part| part.part == "encoders.2" && part.from.is_none()), "{difference}");

    let (double, triple) = (fares("fares_v1").encode(scaled(2.0)), fares("fares_v1").encode(scaled(3.0)));
    let code = double.build().unwrap().diff(&triple.build().unwrap());
    assert!(code.code_differs && code.parts.is_empty() && !code.is_empty(), "{code:?}");
    assert!(code.to_string().contains("the code of a step differs"), "{code}");
    let same =
        fares("fares_v1").encode(scaled(2.0)).build().unwrap().diff(&fares("fares_v3").encode(scaled(2.0)).build().unwrap());
    assert!(same.is_empty(), "{same}");

    let entities = demand("demand_v1").build().unwrap();
    let kinds = first.diff(&entities);
    assert_eq!((kinds.added.len(), kinds.removed.len()), (1, 2), "{kinds}");
}

// --- plans -----------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_tells_what_would_be_read_and_what_is_there_already() {
    let trips = [trip("2014-01-05T15:00:00Z", 1.0), trip("2014-01-06T11:30:00Z", 2.0), trip("2014-09-15T11:30:00Z", 2.0)];
    let (root, store) = store_of(&trips).await;
    store.register(demand("demand_v1").lookup("fare_amount", "last").build().unwrap()).unwrap();
    let (as_of, before) = (instant("2014-02-01"), files_below(root.path()));

    let plan = store.plan("demand_v1", as_of).await.unwrap();
    assert_eq!(files_below(root.path()), before, "a plan writes nothing");
    assert_eq!((plan.set.as_str(), plan.as_of, plan.published), ("demand_v1", as_of, None));
    let [table] = plan.tables.as_slice() else { panic!("{plan:?}") };
    assert_eq!((table.table.to_string().as_str(), table.version), ("nyc_taxi", 1));
    assert_eq!((table.files, table.all_files, table.rows, table.all_rows), (1, 2, 2, 3));
    assert_eq!((table.partitions.len(), table.all_partitions), (1, 2));
    assert!(table.partitions[0].path.contains("month=1"), "{table:?}");
    assert_eq!((table.partitions[0].rows, table.partitions[0].bytes), (2, table.bytes));
    assert!(table.bytes > 0 && table.bytes < table.all_bytes, "{table:?}");
    assert_eq!((plan.rows(), plan.bytes()), (2, table.bytes));
    assert_eq!(plan.steps.iter().map(|step| step.kind).collect::<Vec<_>>(), [StepKind::Lookup, StepKind::Window]);
    let told = plan.to_string();
    for words in ["not published", "1 of 2", "2 of 3", "nyc_taxi by pickup_zone over 1 hour", "-> trips"] {
        assert!(told.contains(words), "{told}");
    }

    // It has the id that the materialization gets.
    let made = store.materialize("demand_v1", as_of).await.unwrap();
    assert_eq!(plan.id, made.id());
    let found = store.plan("demand_v1", as_of).await.unwrap();
    let rows = found.published.unwrap();
    assert_eq!((found.id, rows.rows, rows.files), (made.id(), made.rows(), 1));
    assert_eq!((rows.is_manifest_cached, rows.are_rows_cached), (true, Some(false)));
    assert!(found.steps.is_empty() && found.to_string().contains("nothing to compute"), "{found}");
    let _online = store.online("demand_v1").await.unwrap();
    assert_eq!(store.plan("demand_v1", as_of).await.unwrap().published.unwrap().are_rows_cached, Some(true));
    let other = store.plan("demand_v1", instant("2014-10-01")).await.unwrap();
    assert_eq!((other.published, other.tables[0].files), (None, 2));

    // Another handle has a cache of its own, and a plan puts nothing there. It needs no file with rows.
    let parts: Vec<String> = files_below(root.path()).into_iter().filter(|name| name.contains("/part-")).collect();
    assert!(!parts.is_empty());
    parts.iter().for_each(|part| fs::remove_file(root.path().join(part)).unwrap());
    let second = self::store(root.path()).await;
    second.register(demand("demand_v1").lookup("fare_amount", "last").build().unwrap()).unwrap();
    for _ in 0..2 {
        let rows = second.plan("demand_v1", as_of).await.unwrap().published.unwrap();
        assert_eq!((rows.rows, rows.is_manifest_cached, rows.are_rows_cached), (made.rows(), false, Some(false)));
    }

    // A set of rows has no rows by key.
    let plan = store.plan("taxi_v1", as_of).await.unwrap();
    assert_eq!((plan.published, plan.steps[0].kind), (None, StepKind::Query));
    assert!(plan.steps.iter().any(|step| step.kind == StepKind::Sort), "{plan}");
    let made = store.materialize("taxi_v1", as_of).await.unwrap();
    let found = store.plan("taxi_v1", as_of).await.unwrap();
    assert_eq!((found.id, found.published.unwrap().are_rows_cached), (made.id(), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_sends_no_request_for_facts() {
    let (_dir, store, seen) = store_of_watched_files(3).await;
    let by_key =
        FeatureSet::entities("by_key_v1", "f").key("k").lookup("v", "last").window(TimeDelta::days(1), [Aggregate::sum("v")]);
    store.register(by_key.build().unwrap()).unwrap();
    let rows = FeatureSet::rows("rows_v1", "SELECT at, v FROM f").table("f").event_time("at").encode(Number::of("v"));
    store.register(rows.build().unwrap()).unwrap();

    let as_of = asof::AsOf::from_micros(105);
    for set in ["by_key_v1", "rows_v1"] {
        let so_far = seen.requests.load(Ordering::SeqCst);
        let plan = store.plan(set, as_of).await.unwrap();
        assert_eq!(seen.requests.load(Ordering::SeqCst), so_far, "{set}");
        // The second file may hold visible rows, and its last rows are not visible: rows of files are an upper bound.
        assert_eq!((plan.tables[0].files, plan.tables[0].all_files, plan.rows()), (2, 3, 20), "{set}");
        assert_eq!(store.materialize(set, as_of).await.unwrap().id(), plan.id, "{set}");
        let so_far_with_data = seen.requests.load(Ordering::SeqCst);
        assert!(so_far_with_data > so_far, "{set}: materializing does read facts");
        assert!(store.plan(set, as_of).await.unwrap().published.is_some());
        assert_eq!(seen.requests.load(Ordering::SeqCst), so_far_with_data, "{set}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_fails_as_the_materialization_would() {
    let (root, store) = store_of(&[trip("2014-01-05T15:00:00Z", 1.0)]).await;
    let as_of = instant("2014-02-01");
    says!(store.plan("gone_v1", as_of).await.unwrap_err(), Error::UnknownFeatureSet { .. }, "gone_v1");
    store.register(demand("wrong_v1").lookup("fair", "last").build().unwrap()).unwrap();
    says!(
        store.plan("wrong_v1", as_of).await.unwrap_err(),
        Error::UnknownColumn { .. },
        "feature `last` of feature set `wrong_v1`: table `nyc_taxi` has no column `fair`"
    );
    store.register(FeatureSet::entities("lost_v1", "lost").key("k").lookup("x", "y").build().unwrap()).unwrap();
    says!(store.plan("lost_v1", as_of).await.unwrap_err(), Error::UnknownTable { .. }, "`lost`");

    store.register(demand("demand_v1").build().unwrap()).unwrap();
    store.materialize("demand_v1", as_of).await.unwrap();
    let second = self::store(root.path()).await;
    second.register(demand("demand_v1").lookup("fare_amount", "last").build().unwrap()).unwrap();
    says!(second.plan("demand_v1", as_of).await.unwrap_err(), Error::AlreadyExists { .. }, "`demand_v1`", "there and");
}
