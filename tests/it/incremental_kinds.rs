//! Tiles of what is not a plain column: expressions, slopes, and what is not stored; and what never reads a tile.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use asof::{
    Aggregate, AsOf, Expression, FeatureSet, FeatureStore, StoreOptions, WindowLength,
    catalog::FactTable,
    feature_set::{EntitySetBuilder, Source},
    materialize::Incremental,
    parity::ParitySample,
};
use chrono::TimeDelta;
use datafusion::arrow::array::{ArrayRef, Decimal128Array, StringArray};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use crate::{
    support::{files_below, temp_dir, write_parquet},
    training::{floats, instants, integers, known_at_once},
};

const DAY_US: i64 = 86_400_000_000;
const FILES: i64 = 6;
/// A file holds the facts of so many days.
const DAYS: i64 = 10;

/// Files of facts, and a file of a timeless table.
fn write_tables(dir: &Path) {
    for file in 0..FILES {
        let mut rng = StdRng::seed_from_u64(file as u64);
        let count = 4_000;
        let n: Vec<Option<i64>> = (0..count).map(|_| rng.random_bool(0.9).then(|| rng.random_range(-20..20))).collect();
        let amounts = n.iter().map(|n| n.map(|n| i128::from(n) * 10_i128.pow(20) + 7)).collect::<Decimal128Array>();
        let text = (0..count).map(|_| Some(format!("t{}", rng.random_range(0..700)))).collect::<StringArray>();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("k", integers((0..count).map(|_| Some(rng.random_range(0..12))))),
            ("at", instants((0..count).map(|_| Some((file * DAYS * 24 + rng.random_range(0..DAYS * 24)) * (DAY_US / 24))))),
            ("v", floats((0..count).map(|_| rng.random_bool(0.9).then(|| rng.random_range(-1e6..1e6))))),
            ("n", integers(n)),
            ("amount", Arc::new(amounts.with_precision_and_scale(30, 3).unwrap())),
            ("text", Arc::new(text)),
        ];
        fs::create_dir_all(dir.join("facts")).unwrap();
        write_parquet(&dir.join(format!("facts/{file}.parquet")), &columns, None);
    }
    let zones: Vec<(&str, ArrayRef)> =
        vec![("k", integers((0..12).map(Some))), ("size", integers((0..12).map(|k| (k != 3).then_some(k * k))))];
    fs::create_dir_all(dir.join("zones")).unwrap();
    write_parquet(&dir.join("zones/0.parquet"), &zones, None);
}

struct Stores {
    _dirs: [TempDir; 2],
    root: TempDir,
    plain: FeatureStore,
    tiled: FeatureStore,
}

/// A store that reads all files, and one with tiles of all files of facts.
async fn stores(sets: &[FeatureSet]) -> Stores {
    let (data, plain_root, root) = (temp_dir(), temp_dir(), temp_dir());
    write_tables(data.path());
    let open = async |root: &Path, options: StoreOptions| {
        let store = FeatureStore::open_with(root.to_str().unwrap(), options.cache_in_memory()).await.unwrap();
        let place = |name: &str| data.path().join(name).to_str().unwrap().to_owned();
        store.register_table("facts", &place("facts"), known_at_once()).await.unwrap();
        store.register_table("zones", &place("zones"), FactTable::timeless(["k"])).await.unwrap();
        sets.iter().for_each(|set| store.register(set.clone()).unwrap());
        store
    };
    let plain = open(plain_root.path(), StoreOptions::default().not_incremental()).await;
    let tiled = open(root.path(), StoreOptions::default().incremental_from(1)).await;
    Stores { _dirs: [data, plain_root], root, plain, tiled }
}

/// So many quarters of a day after the first instant.
fn at(quarters: i64) -> AsOf {
    AsOf::from_micros(quarters * (DAY_US / 4))
}

impl Stores {
    fn tiles(&self) -> Vec<(String, Vec<u8>)> {
        let names = files_below(self.root.path()).into_iter().filter(|name| name.starts_with("partials/"));
        names.map(|name| (name.clone(), fs::read(self.root.path().join(name)).unwrap())).collect()
    }

    /// Compares a materialization with and without tiles: ids, counts, and files with their hashes.
    async fn compare(&self, set: &str, at: AsOf) {
        let (expected, found) = (self.plain.materialize(set, at).await.unwrap(), self.tiled.materialize(set, at).await.unwrap());
        assert_eq!(found.manifest(), expected.manifest(), "{set} as of {at}");
    }

    async fn planned(&self, set: &str, at: AsOf) -> Vec<Incremental> {
        self.tiled.plan(set, at).await.unwrap().tables.iter().map(|table| table.incremental).collect()
    }
}

/// Aggregates whose states are stored, over this expression and behind this filter.
fn over(expression: &str, filter: &str) -> Vec<Aggregate> {
    let named = |aggregate: Aggregate, name: &str| aggregate.named(name);
    vec![
        named(Aggregate::sum(Expression::sql(expression)), "sum"),
        named(Aggregate::count_of(Expression::sql(expression)).filter(filter), "count"),
        named(Aggregate::stddev(Expression::sql(expression)).filter(filter), "stddev"),
        named(Aggregate::max(Expression::sql("upper(text)")).filter(filter), "max_text"),
        named(Aggregate::last(Expression::sql(expression)), "last"),
        named(Aggregate::max_by("text", Expression::sql(expression)), "max_by"),
        named(Aggregate::min_by(Expression::sql("concat(text, 'ü')"), Expression::sql(expression)).filter(filter), "min_by"),
        // Facts that do not pass would make it fail.
        named(Aggregate::mean(Expression::sql("1000 / n")).filter("n <> 0"), "quotient"),
    ]
}

fn by_k(name: &str) -> EntitySetBuilder {
    FeatureSet::entities(name, "facts").key("k")
}

#[tokio::test(flavor = "multi_thread")]
async fn tiles_of_expressions_are_told_apart_by_their_text_and_their_filter() {
    let expressions = [("v * n", "n > 0"), ("v + n", "n > 0"), ("v * n", "n > 1"), ("n * v", "n > 0")];
    let set = |(i, (expression, filter)): (usize, &(&str, &str))| {
        let set = by_k(&format!("of_expressions_v{}", i + 1)).lookup("text", "text").all_before(over(expression, filter));
        set.window(TimeDelta::days(11), [Aggregate::median(Expression::sql(*expression)).named("median")]).build().unwrap()
    };
    let sets: Vec<FeatureSet> = expressions.iter().enumerate().map(set).collect();
    let stores = stores(&sets).await;
    for quarters in [1, 80, 199, 241, 242, 150] {
        for i in 1..=expressions.len() {
            stores.compare(&format!("of_expressions_v{i}"), at(quarters)).await;
        }
    }
    // The files behind the window of the median: four of them end before the 49th day.
    for i in 1..=expressions.len() {
        let found = stores.planned(&format!("of_expressions_v{i}"), at(243)).await;
        assert_eq!(found, [Incremental::ByFile { from_tiles: 4, read_apart: 0 }]);
    }
    let folders: BTreeSet<String> = stores.tiles().iter().map(|(name, _)| name.rsplit_once('/').unwrap().0.to_owned()).collect();
    assert_eq!(folders.len(), expressions.len(), "{folders:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slopes_are_stored_and_sketches_are_not() {
    let slopes = |prefix: &str| {
        let slope = |over: Expression, name: &str| Aggregate::slope(over).named(format!("{prefix}_{name}"));
        vec![
            slope("v".into(), "floats"),
            slope("n".into(), "integers"),
            slope("amount".into(), "decimals"),
            slope(Expression::sql("CASE WHEN n > 18 THEN v * 1e300 ELSE v END"), "wide"),
            // It is read from the state of the slope.
            Aggregate::count_of("v").named(format!("{prefix}_count")),
        ]
    };
    let different = || Aggregate::approx_count_distinct("text").named("different");
    let sets = [
        by_k("slopes_v1").all_before(slopes("all")).window(TimeDelta::days(25), slopes("some")).build().unwrap(),
        by_k("sketches_v1")
            .all_before([Aggregate::count_of("text").named("texts")])
            .window(TimeDelta::days(25), [different()])
            .build()
            .unwrap(),
        by_k("all_sketches_v1").all_before([different()]).build().unwrap(),
    ];
    let stores = stores(&sets).await;
    for quarters in [1, 120, 200, 241, 242, 90] {
        for set in ["slopes_v1", "sketches_v1", "all_sketches_v1"] {
            stores.compare(set, at(quarters)).await;
        }
    }
    // 25 days before the 61st lies in the fourth file.
    assert_eq!(stores.planned("slopes_v1", at(243)).await, [Incremental::ByFile { from_tiles: 5, read_apart: 0 }]);
    assert_eq!(stores.planned("sketches_v1", at(243)).await, [Incremental::ByFile { from_tiles: 3, read_apart: 0 }]);
    assert_eq!(stores.planned("all_sketches_v1", at(243)).await, [Incremental::EveryValueHeld]);
}

fn sums_with_sizes() -> FeatureSet {
    let sums = by_k("sums_v1").lookup("v", "v").all_before([Aggregate::sum("v").named("sum"), Aggregate::count().named("count")]);
    sums.also(Source::timeless("zones").on("k").lookup("size", "size")).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeless_table_beside_facts_has_no_tiles() {
    let stores = stores(&[sums_with_sizes()]).await;
    let by_file = |from_tiles: usize| Incremental::ByFile { from_tiles, read_apart: 6 - from_tiles };
    assert_eq!(stores.planned("sums_v1", at(241)).await, [by_file(0), Incremental::Timeless]);
    for quarters in [241, 242, 100] {
        stores.compare("sums_v1", at(quarters)).await;
    }
    let plan = stores.tiled.plan("sums_v1", at(243)).await.unwrap();
    assert_eq!(plan.tables.iter().map(|table| table.incremental).collect::<Vec<_>>(), [by_file(6), Incremental::Timeless]);
    assert!(plan.to_string().contains("facts: 6 files from their tiles, 0 read apart"), "{plan}");
    let tiles = stores.tiles();
    assert!(tiles.len() == 6 && tiles.iter().all(|(name, _)| name.starts_with("partials/default/facts/")), "{tiles:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_and_several_instants_read_facts_and_no_tiles() {
    let stores = stores(&[sums_with_sizes()]).await;
    stores.compare("sums_v1", at(241)).await;
    let made = stores.tiled.materialize("sums_v1", at(242)).await.unwrap();
    let good = stores.tiles();
    assert_eq!(good.len(), 6);
    // Whoever loads a tile replaces a damaged one.
    for (name, _) in &good {
        fs::write(stores.root.path().join(name), b"damaged").unwrap();
    }
    let damaged = stores.tiles();
    let replay = stores.tiled.replay(&made).await.unwrap();
    assert!(replay.is_equal() && replay.has_same_files(), "{replay}");
    let several = [at(244), at(245), at(120)];
    for (made, at) in stores.tiled.materialize_many("sums_v1", &several).await.unwrap().iter().zip(several) {
        assert_eq!(made.manifest(), stores.plain.materialize("sums_v1", at).await.unwrap().manifest());
    }
    assert_eq!(stores.tiles(), damaged);
    stores.compare("sums_v1", at(246)).await;
    let again = stores.tiles();
    // What is served of a materialization that was made of tiles is compared with training, which reads facts.
    let report = stores.tiled.verify_parity("sums_v1", at(246), ParitySample::rows(50).seed(7)).await.unwrap();
    assert!(report.is_equal(), "{report}");
    assert!(again.iter().zip(&good).all(|((name, bytes), (known, whole))| name == known && bytes.len() == whole.len()));
}

/// Where a file lies among such windows does not follow from the age of its facts alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_windows_of_another_kind_is_read_as_a_whole() {
    let berlin = "Europe/Berlin".parse().unwrap();
    let (day, week) = (TimeDelta::days(1), TimeDelta::days(7));
    let lengths = [
        WindowLength::since("n = 19"),
        WindowLength::since_within("n > 15", week),
        WindowLength::tumbling(day, berlin),
        WindowLength::hopping(week, day, berlin),
        WindowLength::facts_within(9, WindowLength::tumbling_months(1, berlin)),
        WindowLength::this_month(berlin),
    ];
    let set = |(i, length): (usize, WindowLength)| {
        let own = [Aggregate::count().named("n"), Aggregate::sum("v").named("sum"), Aggregate::median("n").named("median")];
        by_k(&format!("other_v{}", i + 1)).all_before([Aggregate::count().named("all")]).window(length, own).build().unwrap()
    };
    let sets: Vec<FeatureSet> = lengths.into_iter().enumerate().map(set).collect();
    let stores = stores(&sets).await;
    for set in &sets {
        for quarters in [1, 81, 160, 242] {
            stores.compare(set.name().as_str(), at(quarters)).await;
        }
        assert_eq!(stores.planned(set.name().as_str(), at(243)).await, [Incremental::OtherLengths], "{}", set.name());
    }
    assert_eq!(stores.tiles(), []);
}
