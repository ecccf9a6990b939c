//! Windows by a zone's calendar, over spans that have ended, over a number of facts and since the last fact of a kind: what is trained,
//! materialized at one instant or at many, and served is the same, around changes of the clocks and ends of months.

use asof::{
    Aggregate, AsOf, FeatureSet, FeatureStore, Value, WindowLength,
    catalog::{FactTable, KnownAt},
    feature_set::Source,
    temporal::Spine,
    time::Zone,
};
use chrono::TimeDelta;
use datafusion::prelude::SessionContext;
use rand::{SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    parity::{bit_rows, columns},
    support::{instant, store, temp_dir, write_parquet},
    training::{batch, collected, floats, instants, integers},
};

const HOUR_US: i64 = 3_600_000_000;
const ENTITIES: i64 = 4;

/// Instants at which something changes: months and days of New York, both changes of its clocks, and days that short months lack.
const ANCHORS: [&str; 9] = [
    "2014-02-28T18:00:00Z",
    "2014-03-01T05:00:00Z",
    "2014-03-09T07:00:00Z",
    "2014-03-30T12:00:00Z",
    "2014-04-01T04:00:00Z",
    "2014-10-02T06:00:00Z",
    "2014-11-01T04:00:00Z",
    "2014-11-02T06:00:00Z",
    "2014-11-03T05:00:00Z",
];

fn near(rng: &mut StdRng) -> i64 {
    let step = *[0, 1, -1, HOUR_US / 2, -HOUR_US, HOUR_US, 24 * HOUR_US, -24 * HOUR_US, 6 * 24 * HOUR_US].choose(rng).unwrap();
    instant(ANCHORS.choose(rng).unwrap()).micros() + step
}

fn sets() -> [FeatureSet; 2] {
    let zone: Zone = "America/New_York".parse().unwrap();
    let aggregates = |name: &str| {
        [
            Aggregate::count().named(format!("{name}_count")),
            Aggregate::sum("v").named(format!("{name}_sum")),
            Aggregate::median("v").named(format!("{name}_median")),
            Aggregate::last("v").filter("v > -2").named(format!("{name}_last")),
            Aggregate::count_distinct("v").named(format!("{name}_distinct")),
        ]
    };
    let corrected = Source::of("corrected").on("k").window(WindowLength::this_month(zone), aggregates("corrected"));
    let corrected = corrected.window(WindowLength::facts(2), aggregates("newest_corrected"));
    let corrected = corrected.window(WindowLength::since("v > 0.5"), aggregates("since_corrected"));
    let corrected = corrected.window(WindowLength::tumbling_months(1, zone), aggregates("last_month_corrected"));
    let newest = WindowLength::facts_within(2, WindowLength::hopping(TimeDelta::days(9), TimeDelta::days(1), zone));
    let corrected = corrected.window(newest, aggregates("newest_of_days_corrected"));
    let set = |name: &str| {
        FeatureSet::entities(name, "facts")
            .key("k")
            .window(WindowLength::this_month(zone), aggregates("month"))
            .window(WindowLength::this_week(zone), aggregates("week"))
            .window(WindowLength::this_day(zone), aggregates("day"))
            .window(WindowLength::months(1, zone), aggregates("one"))
            .window(WindowLength::months(8, "Europe/Berlin".parse().unwrap()), aggregates("eight"))
            .window(WindowLength::facts(3), aggregates("newest"))
            .window(WindowLength::facts_within(2, WindowLength::this_week(zone)), aggregates("newest_of_week"))
            .window(WindowLength::since("v > 0.5"), aggregates("since"))
            .window(WindowLength::since_within("v > 0.5", WindowLength::this_week(zone)), aggregates("since_in_week"))
            .window(WindowLength::facts_within(2, WindowLength::since("v < -0.5")), aggregates("newest_since"))
            .window(WindowLength::tumbling(TimeDelta::days(1), zone), aggregates("yesterday"))
            .window(WindowLength::hopping(TimeDelta::days(7), TimeDelta::days(1), zone), aggregates("full_days"))
            .window(WindowLength::tumbling(TimeDelta::hours(1), zone), aggregates("full_hour"))
            .window(WindowLength::tumbling_months(1, zone), aggregates("last_month"))
            .window(WindowLength::facts_within(2, WindowLength::hopping_months(2, 1, zone)), aggregates("newest_of_months"))
            .window(WindowLength::since_within("v > 0.5", WindowLength::tumbling_months(1, zone)), aggregates("since_in_month"))
            .window(TimeDelta::days(7), aggregates("fixed"))
            .all_before(aggregates("all"))
    };
    [set("plain_v1").build().unwrap(), set("corrected_v1").inclusive().also(corrected).build().unwrap()]
}

async fn open(dir: &std::path::Path, root: &std::path::Path) -> FeatureStore {
    let store = store(root).await;
    let known = || FactTable::new("at", KnownAt::column("known"));
    for (name, declared) in [("facts", known()), ("corrected", known().identity("id"))] {
        store.register_table(name, dir.join(name).to_str().unwrap(), declared).await.unwrap();
    }
    for set in sets() {
        store.register(set).unwrap();
    }
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn trained_materialized_and_served_are_one() {
    for seed in 0..3 {
        let mut rng = StdRng::seed_from_u64(seed);
        let data = temp_dir();
        for name in ["facts", "corrected"] {
            let at: Vec<i64> = (0..150).map(|_| near(&mut rng)).collect();
            let known = at.iter().map(|at| Some(at + [0, 1, HOUR_US, 40 * 24 * HOUR_US].choose(&mut rng).unwrap()));
            let rows = [
                ("k", integers((0..150).map(|i| Some(i % ENTITIES)))),
                ("id", integers((0..150).map(|i| Some(i % 90)))),
                ("known", instants(known.collect::<Vec<_>>())),
                ("at", instants(at.iter().copied().map(Some))),
                ("v", floats((0..150).map(|i| (i % 9 != 0).then(|| f64::from(i % 7 - 3) / 3.0)))),
            ];
            write_parquet(&data.path().join(name).join("all.parquet"), &rows, None);
        }
        let (one, other) = (temp_dir(), temp_dir());
        let (single, many) = (open(data.path(), one.path()).await, open(data.path(), other.path()).await);
        let mut at: Vec<AsOf> = (0..12).map(|_| AsOf::from_micros(near(&mut rng))).collect();
        at.extend(ANCHORS.map(instant));
        for set in sets() {
            let name = set.name().to_string();
            let at_once = many.materialize_many(&name, &at).await.unwrap();
            for (&at, at_once) in at.iter().zip(&at_once) {
                let made = single.materialize(&name, at).await.unwrap();
                assert_eq!(made.manifest(), at_once.manifest(), "seed {seed}, {name} at {at}");
                let asked =
                    [("k", integers((0..=ENTITIES).map(Some))), ("t", instants((0..=ENTITIES).map(|_| Some(at.micros()))))];
                let spine = SessionContext::new().read_batch(batch(asked.to_vec())).unwrap();
                let trained = single.training_set(&name, Spine::new(spine, "t")).await.unwrap().dataframe().await.unwrap();
                let features = &made.manifest().features;
                let trained = bit_rows(&columns(&collected(trained).await, features));
                let online = single.online_for(&made).await.unwrap();
                for (key, trained) in (0..=ENTITIES).zip(trained) {
                    let served = online.get_at(&[Value::Int(key)], at).unwrap().batch().unwrap();
                    assert_eq!(bit_rows(&columns(&served, features)).concat(), trained, "seed {seed}, {name}, {key} at {at}");
                }
            }
        }
    }
}

#[test]
fn a_length_is_part_of_the_definition() {
    let zone: Zone = "America/New_York".parse().unwrap();
    let set = |length: WindowLength| {
        FeatureSet::entities("zones_v1", "trips").key("zone").window(length, [Aggregate::count()]).build().unwrap()
    };
    let lengths = [
        WindowLength::this_month(zone),
        WindowLength::this_month(Zone::UTC),
        WindowLength::this_week(zone),
        WindowLength::this_day(zone),
        WindowLength::months(1, zone),
        WindowLength::months(2, zone),
        TimeDelta::days(31).into(),
        WindowLength::facts(3),
        WindowLength::facts(4),
        WindowLength::facts_within(3, TimeDelta::days(31)),
        WindowLength::tumbling(TimeDelta::days(31), zone),
        WindowLength::tumbling(TimeDelta::days(31), Zone::UTC),
        WindowLength::hopping(TimeDelta::days(31), TimeDelta::days(1), zone),
        WindowLength::tumbling_months(1, zone),
        WindowLength::hopping_months(3, 1, zone),
        WindowLength::since("v > 0"),
        WindowLength::since("v > 1"),
        WindowLength::since_within("v > 0", TimeDelta::days(31)),
        WindowLength::facts_within(3, WindowLength::since("v > 0")),
    ];
    for (i, a) in lengths.iter().enumerate() {
        assert_eq!(set(a.clone()).fingerprint(), set(a.clone()).fingerprint());
        for b in &lengths[..i] {
            assert_ne!(set(a.clone()).fingerprint(), set(b.clone()).fingerprint(), "{a} and {b}");
        }
    }
    let difference = set(lengths[4].clone()).diff(&set(lengths[5].clone())).to_string();
    assert!(difference.contains("windows.0.0.months\n  - 1\n  + 2\n"), "{difference}");
    let made_of = set(lengths[0].clone()).describe().features[0].made_of.clone();
    assert_eq!(made_of, "count(*) of trips over this month in America/New_York");
}
