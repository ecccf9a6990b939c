//! Golden results: a few materializations over fixed files, with their ids and the hashes of their rows.
//! Rows that move under an unchanged `ENGINE_REVISION` would be other bits under an id that somebody holds already.
//!
//! ```text
//! ASOF_RECORD_GOLDENS=1 cargo test --test it goldens::      records what is found now, in tests/fixtures/goldens.json
//! ```

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use asof::{
    Aggregate, FeatureSet, WindowLength,
    catalog::{FactTable, KnownAt},
    encoder::{
        Arithmetic, Bearing, Bins, Calendar, Clip, Coalesce, Cyclic, DayOfWeek, Frequency, Geohash, GridCell, HashBucket,
        Haversine, Holidays, HourOfDay, Impute, ImputeCategory, Log, MinMax, NotNull, Number, OneHot, Ordinal, OutlierFilter,
        PercentileClip, QuantileBins, Ratio, RobustScale, Sample, Standardize, TargetMean, Unseen,
    },
    feature_set::Source,
    name::ContentId,
};
use chrono::TimeDelta;
use datafusion::arrow::{
    array::{
        Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    },
    datatypes::{DataType, Float64Type},
};
use serde::{Deserialize, Serialize};

use crate::{
    parity::{bit_rows, whole},
    support::{instant, store, temp_dir, write_parquet},
};

const RECORD: &str = "ASOF_RECORD_GOLDENS=1 cargo test --test it goldens::";
/// A fact happens and is known at this very instant.
const AS_OF: &str = "2014-03-19T18:00:00Z";
const HOUR_US: i64 = 3_600_000_000;
/// Made by functions of the platform's mathematical library, whose last bits differ from one to the next.
const NEARLY: [&str; 13] = [
    "log_v",
    "km",
    "bearing",
    "at_hour_sin",
    "at_hour_cos",
    "at_hour_of_week_sin",
    "at_hour_of_week_cos",
    "at_day_of_month_sin",
    "at_day_of_month_cos",
    "at_day_of_year_sin",
    "at_day_of_year_cos",
    "v_sin",
    "v_cos",
];

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Goldens {
    revision: u32,
    datafusion: String,
    time_zones: String,
    materializations: BTreeMap<String, Golden>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Golden {
    id: ContentId,
    rows: u64,
    content: ContentId,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Facts of three months of 2014, two at each instant, with NULLs, ties and corrections. The files are kept with the tests:
/// other versions of Parquet's writer would write other bytes, and so make other ids.
fn facts() -> PathBuf {
    let folder = fixtures().join("goldens");
    for (name, rows) in [("month=1/facts.parquet", 0..200_i64), ("month=2/facts.parquet", 200..400)] {
        if folder.join(name).exists() {
            continue;
        }
        let at = |i: i64| instant("2014-01-10").micros() + i / 2 * 11 * HOUR_US;
        let times = |of: &dyn Fn(i64) -> i64| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from_iter_values(rows.clone().map(of)).with_timezone("UTC"))
        };
        let integers = |of: &dyn Fn(i64) -> Option<i64>| -> ArrayRef { Arc::new(rows.clone().map(of).collect::<Int64Array>()) };
        let floats = |of: &dyn Fn(i64) -> Option<f64>| -> ArrayRef { Arc::new(rows.clone().map(of).collect::<Float64Array>()) };
        let amounts = Decimal128Array::from_iter_values(rows.clone().map(|i| i128::from(i * 991 % 5_000 - 1_000)));
        let texts =
            StringArray::from_iter(rows.clone().map(|i| (i % 11 != 3).then(|| ["Zürich", "", "N/A", "x y"][i as usize % 4])));
        let columns = [
            ("k", integers(&|i| (i % 31 != 0).then_some(i % 7))),
            ("at", times(&at)),
            ("known", times(&|i| at(i) + i % 5 * HOUR_US)),
            ("place", Arc::new(texts)),
            ("n", integers(&|i| (i % 17 != 0).then_some(i * 37 % 101 - 50))),
            ("v", floats(&|i| (i % 13 != 0).then_some((i * 7_919 % 1_000) as f64 / 7.0))),
            ("amount", Arc::new(amounts.with_precision_and_scale(10, 2).unwrap())),
            ("latitude", floats(&|i| Some((i * 13 % 120 - 60) as f64 + 0.25))),
            ("longitude", floats(&|i| Some((i * 29 % 340 - 170) as f64 + 0.125))),
        ];
        write_parquet(&folder.join(name), &columns, None);
    }
    folder
}

fn table() -> FactTable {
    FactTable::new("at", KnownAt::column("known"))
}

/// Every encoder and selection, every aggregate, and the ways in which SQL can round and order.
fn sets() -> Vec<FeatureSet> {
    let rows = "SELECT at, k, place, n, v, amount, latitude, longitude, 47.5 AS own_latitude, 8.5 AS own_longitude, month FROM t";
    let zone = || "America/New_York".parse().unwrap();
    let (here, own) = (["latitude", "longitude"], ["own_latitude", "own_longitude"]);
    let encoded = FeatureSet::rows("encoded_v1", rows)
        .table("t")
        .event_time("at")
        .keep(NotNull::of_numbers(["v"]))
        .keep(OutlierFilter::between_percentiles(1.0, 97.5).of(["v", "latitude"]))
        .keep(Sample::fraction(0.8, 7).of_instants(["at"]).of_integers(["n"]).of_texts(["place"]).of_numbers(["v"]))
        .encode(Number::of("v"))
        .encode(Number::of("month"))
        .encode(Log::of("v"))
        .encode(Clip::of("n", -25.5, 20.0))
        .encode(Ratio::of("v", "n", "v_per_n"))
        .encode(HourOfDay::of("at", zone()))
        .encode(DayOfWeek::of("at", zone()))
        .encode(Calendar::month("at", zone()).named("local_month"))
        .encode(Calendar::day_of_month("at", zone()))
        .encode(Calendar::day_of_year("at", zone()))
        .encode(Calendar::iso_week("at", zone()))
        .encode(Calendar::minute_of_day("at", zone()))
        .encode(Calendar::hour_of_week("at", zone()))
        .encode(Calendar::is_weekend("at", zone()))
        .encode(Cyclic::hour_of_day("at", zone()))
        .encode(Cyclic::hour_of_week("at", zone()))
        .encode(Cyclic::day_of_month("at", zone()))
        .encode(Cyclic::day_of_year("at", zone()))
        .encode(Cyclic::of_number("v", 12.0))
        .encode(Holidays::from_csv("at", zone(), "date\n2014-01-20\n2014-02-17\n").with_days_since().with_days_until())
        .encode(Haversine::between(here, own, "km"))
        .encode(Bearing::between(here, own, "bearing"))
        .encode(GridCell::of(here, 2.5, "cell"))
        .encode(Geohash::of(here, 5, "geohash"))
        .encode(HashBucket::of("place", 10))
        .encode(HashBucket::of("k", 10))
        .encode(Bins::of("v", [20.0, 60.0, 100.0]))
        .encode(Bins::of("n", [-25.0, 0.0, 25.0]).null_beyond())
        .encode(Arithmetic::plus("v", "n", "v_plus_n"))
        .encode(Arithmetic::minus("v", "n", "v_minus_n"))
        .encode(Arithmetic::times("v", "n", "v_times_n"))
        .encode(Arithmetic::divided_by("n", "v", "n_per_v"))
        .encode(Coalesce::of_numbers(["n", "k"], "n_or_k"))
        .encode(Coalesce::of_texts(["place", "k"], "place_or_k"))
        .encode_fitted(Standardize::of("latitude"))
        .encode_fitted(MinMax::of("v"))
        .encode_fitted(MinMax::of("n").clipped())
        .encode_fitted(RobustScale::of("v"))
        .encode_fitted(PercentileClip::of("v", 5.0, 92.5))
        .encode_fitted(QuantileBins::of("latitude", 7).named("latitude_septile"))
        .encode_fitted(OneHot::top("place", 2).unseen(Unseen::Other))
        .encode_fitted(OneHot::of("k", ["0", "6"]).unseen(Unseen::Null))
        .encode_fitted(Ordinal::of("k"))
        .encode_fitted(Ordinal::in_order("place", ["x y", "N/A"]).unseen(Unseen::Zero))
        .encode_fitted(Frequency::of("place"))
        .encode_fitted(Impute::mean("n").named("n_or_mean").flagged())
        .encode_fitted(Impute::median("n").named("n_or_median"))
        .encode_fitted(Impute::most_frequent("n").named("n_or_mode"))
        .encode_fitted(Impute::constant("n", 0.5).named("n_or_half"))
        .encode_fitted(ImputeCategory::most_frequent("place").flagged())
        .encode_fitted(ImputeCategory::constant("k", "none"))
        .encode_fitted(TargetMean::of("v").by("place").prior(3.0))
        .label("amount");
    let joined = "SELECT a.at, a.v * 1.1 / b.mean AS x, b.mean, sum(a.v * 1.1) OVER (PARTITION BY a.k ORDER BY a.at, a.v, a.n) AS y, \
                  hour(a.at) AS hour FROM t AS a JOIN (SELECT k, avg(v * 1.1) AS mean FROM t GROUP BY k) AS b ON a.k = b.k";
    let joined = FeatureSet::rows("joined_v1", joined).table("t").event_time("at");
    let joined = ["x", "y", "mean", "hour"].into_iter().fold(joined, |set, column| set.encode(Number::of(column)));

    let kinds = |days: i64| {
        let named = |aggregate: Aggregate, name: &str| aggregate.named(format!("{name}_{days}d"));
        [
            named(Aggregate::count(), "count"),
            named(Aggregate::count_of("n"), "count_n"),
            named(Aggregate::count_distinct("place"), "places"),
            named(Aggregate::sum("v"), "sum_v"),
            named(Aggregate::sum("n"), "sum_n"),
            named(Aggregate::mean("v"), "mean_v"),
            named(Aggregate::variance("v"), "variance_v"),
            named(Aggregate::stddev("n"), "stddev_n"),
            named(Aggregate::min("v"), "min_v"),
            named(Aggregate::max("place"), "max_place"),
            named(Aggregate::first("n"), "first_n"),
            named(Aggregate::last("v"), "last_v"),
            named(Aggregate::last_k("n", 3), "last_3_n"),
            named(Aggregate::median("v"), "median_v"),
            named(Aggregate::quantile("n", 0.9), "q90_n"),
            named(Aggregate::mode("place"), "mode_place"),
            named(Aggregate::sum("v").filter("n > 0"), "sum_v_of_positive"),
            named(Aggregate::sum("amount"), "sum_amount"),
            named(Aggregate::mean("amount"), "mean_amount"),
        ]
    };
    let of_places = Source::of("t").on("place").lookup("v", "last_v_there").max_age(TimeDelta::days(2));
    let entities = |name: &str, table: &str| {
        let set = FeatureSet::entities(name, table).key("k").lookup("v", "last_v").lookup("place", "last_place");
        set.window(TimeDelta::days(20), kinds(20)).window(TimeDelta::hours(30), kinds(1)).all_before(kinds(0))
    };
    let pairs = FeatureSet::entities("pairs_v1", "t").key("k").key("place").lookup("n", "last_n");
    let windows = FeatureSet::entities("windows_v1", "t")
        .key("k")
        .window(WindowLength::this_month(zone()), kinds(31))
        .window(WindowLength::this_week(zone()), kinds(7))
        .window(WindowLength::this_day(zone()), kinds(1))
        .window(WindowLength::months(1, zone()), kinds(30))
        .window(WindowLength::facts(4), kinds(4))
        .window(WindowLength::facts_within(9, TimeDelta::days(10)), kinds(10));
    vec![
        windows.build().unwrap(),
        encoded.build().unwrap(),
        joined.build().unwrap(),
        entities("entities_v1", "t").build().unwrap(),
        entities("inclusive_v1", "t").inclusive().build().unwrap(),
        entities("corrected_v1", "corrected").build().unwrap(),
        pairs.also(of_places).also(Source::of("corrected").on("k").all_before([Aggregate::sum("v")])).build().unwrap(),
    ]
}

/// The rows by their types and values: floats by their bits, but for those that are equal to ten digits alone.
fn content(rows: &RecordBatch) -> ContentId {
    let mut text = String::new();
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        text += &format!("{}: {}\n", field.name(), field.data_type());
        if NEARLY.contains(&field.name().as_str()) && *field.data_type() == DataType::Float64 {
            let numbers = column.as_primitive::<Float64Type>();
            let ten_digits = (0..column.len()).map(|row| numbers.is_valid(row).then(|| format!("{:.9e}", numbers.value(row))));
            text += &format!("{:?}\n", ten_digits.collect::<Vec<_>>());
        } else {
            let alone = RecordBatch::try_from_iter_with_nullable([(field.name(), column.clone(), true)]).unwrap();
            text += &(bit_rows(&alone).join("\n") + "\n");
        }
    }
    ContentId::of(text.as_bytes())
}

async fn found() -> Goldens {
    let (facts, root) = (facts(), temp_dir());
    let store = store(root.path()).await;
    store.register_table("t", facts.to_str().unwrap(), table()).await.unwrap();
    let corrected = table().identity("n").tie_break("v");
    store.register_table("corrected", facts.to_str().unwrap(), corrected).await.unwrap();
    let mut materializations = BTreeMap::new();
    let mut engine = None;
    for set in sets() {
        let name = set.name().to_string();
        store.register(set).unwrap();
        let made = store.materialize(&name, instant(AS_OF)).await.unwrap();
        assert!(made.rows() > 0, "{name}");
        engine = Some(made.manifest().engine.clone());
        materializations.insert(name, Golden { id: made.id(), rows: made.rows(), content: content(&whole(&made).await) });
    }
    let engine = engine.unwrap();
    Goldens { revision: engine.revision, datafusion: engine.datafusion, time_zones: engine.time_zones, materializations }
}

#[tokio::test(flavor = "multi_thread")]
async fn results_move_only_with_the_revision_of_the_engine() {
    let file = fixtures().join("goldens.json");
    let found = found().await;
    if std::env::var_os("ASOF_RECORD_GOLDENS").is_some() {
        fs::write(&file, serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
        return;
    }
    let known: Goldens = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let engine = |g: &Goldens| (g.revision, g.datafusion.clone(), g.time_zones.clone());
    let has_moved = |name: &&String| known.materializations[*name].content != found.materializations[*name].content;
    let both = found.materializations.keys().filter(|name| known.materializations.contains_key(*name));
    let moved: Vec<&String> = both.filter(has_moved).collect();
    assert!(
        moved.is_empty() || engine(&known) != engine(&found),
        "the rows of {moved:?} have moved, and ENGINE_REVISION is still {}: undo what moved them, or raise it in \
         src/manifest/engine_revision.rs and record the new ones:\n  {RECORD}",
        known.revision
    );
    let exclusive_and_inclusive = ["entities_v1", "inclusive_v1"].map(|name| found.materializations[name].content);
    assert_ne!(exclusive_and_inclusive[0], exclusive_and_inclusive[1], "the fact at the instant itself tells the rules apart");
    assert_eq!(known, found, "ids, or the engine, have moved; if that is meant, record the new ones:\n  {RECORD}");
}
