//! What an id stands for: whatever can change a row changes the id, so that equal ids always mean equal bytes.
//! Everything that a result can depend on is varied, one at a time.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use asof::{
    Aggregate, AsOf, Error, Expression, FeatureSet, FeatureStore, Resources, StoreOptions,
    catalog::{FactTable, KnownAt},
    encoder::{Number, OutlierFilter, Sample, Standardize},
    name::ContentId,
};
use chrono::TimeDelta;
use datafusion::{
    arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray},
    parquet::file::properties::WriterProperties,
};

use crate::{
    ddl::Bench,
    support::{bits, instant, store_with, temp_dir, write_parquet},
};

const AS_OF: &str = "2014-01-10T12:00:00Z";
const SECOND_US: i64 = 1_000_000;

fn rows_of_t(sql: &str, feature: &str) -> FeatureSet {
    FeatureSet::rows("t_v1", sql).table("t").event_time("at").encode(Number::of(feature)).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_under_another_value_is_another_materialization() {
    let bench = Bench::new().await;
    bench.facts("x/a.parquet", &[1, 2]);
    bench.facts("t/month=7/a.parquet", &[3]);
    bench.store.register_table("t", bench.path("t").to_str().unwrap(), at_once()).await.unwrap();
    bench.store.register(rows_of_t("SELECT at, n, month FROM t", "month")).unwrap();
    let mut found = Vec::new();
    for month in [1, 2] {
        bench.ok(&format!("ALTER TABLE t ADD PARTITION (month = {month}) LOCATION 'DIR/x'")).await;
        let made = bench.store.materialize("t_v1", instant("2015-01-01")).await.unwrap();
        let months: Vec<f64> = made.dataset("month").await.unwrap().targets.to_vec();
        assert_eq!(months, [f64::from(month), f64::from(month), 7.0]);
        found.push(made.id());
        bench.ok(&format!("ALTER TABLE t DROP PARTITION (month = {month})")).await;
    }
    assert_ne!(found[0], found[1]);
}

fn at_once() -> FactTable {
    FactTable::new("at", KnownAt::after(TimeDelta::zero()))
}

/// A file with one fact, long after every as-of of these tests, and perhaps a column that no other file has.
fn write_future(file: &Path, more: Option<&str>) {
    let at = TimestampMicrosecondArray::from(vec![instant("2090-01-01").micros()]).with_timezone("UTC");
    let mut columns = vec![("at", Arc::new(at) as ArrayRef), ("n", Arc::new(Int64Array::from(vec![9])) as ArrayRef)];
    if let Some(name) = more {
        columns.push((name, Arc::new(Int64Array::from(vec![9]))));
    }
    write_parquet(file, &columns, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_future_cannot_change_the_type_of_a_partition() {
    let bench = Bench::new().await;
    bench.facts("t/month=01/a.parquet", &[1]);
    let register = async || bench.store.register_table("t", bench.path("t").to_str().unwrap(), at_once()).await;
    register().await.unwrap();
    bench.store.register(rows_of_t("SELECT at, length(CAST(month AS VARCHAR)) AS x FROM t", "x")).unwrap();
    let made = async || {
        let made = bench.store.materialize("t_v1", instant("2015-01-01")).await.unwrap();
        (made.id(), made.dataset("x").await.unwrap().targets.to_vec())
    };
    let first = made().await;
    assert_eq!(first.1, [1.0]);
    write_future(&bench.path("t/month=x/b.parquet"), None);
    let told = bench.store.repair("t").await.unwrap_err();
    assert!(matches!(told, Error::ColumnType { .. }), "{told}");
    for word in ["month=x/b.parquet", "`month`", "`x`", "Int32", "rename the folder"] {
        assert!(told.to_string().contains(word), "{told}\n  has no {word}");
    }
    assert_eq!(made().await, first);
    // Registered anew months are texts, which is another table: `01` has two letters.
    bench.store.drop_table("t").await.unwrap();
    let registered = register().await.unwrap();
    assert_eq!(registered.partition_columns()[0].data_type, "Utf8");
    let second = made().await;
    assert_eq!(second.1, [2.0]);
    assert_ne!(second.0, first.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_column_of_the_future_is_in_the_id_and_in_no_row() {
    let bench = Bench::new().await;
    bench.facts("t/month=1/a.parquet", &[1, 2, 3]);
    bench.store.register_table("t", bench.path("t").to_str().unwrap(), at_once()).await.unwrap();
    bench.store.register(rows_of_t("SELECT * FROM t", "n")).unwrap();
    let made = async || {
        let made = bench.store.materialize("t_v1", instant("2015-01-01")).await.unwrap();
        (made.id(), bits(&made).await)
    };
    let first = made().await;
    write_future(&bench.path("t/month=2/b.parquet"), None);
    bench.store.repair("t").await.unwrap();
    assert!(made().await == first, "a file of the future without another column changes nothing");
    write_future(&bench.path("t/month=3/c.parquet"), Some("a"));
    bench.store.repair("t").await.unwrap();
    let second = made().await;
    assert_ne!(second.0, first.0, "`*` is another list of columns now");
    assert!(second.1 == first.1);
}

/// Key, seconds of the event, seconds of known-at, n, v.
type FileRow = (i64, i64, i64, i64, f64);

/// A table, a set of rows and one of entities over it, and how they are asked; each test changes one thing.
struct World {
    /// The rows of each file.
    files: Vec<(&'static str, Vec<FileRow>)>,
    order: [&'static str; 6],
    is_n_narrow: bool,
    more: bool,
    properties: Option<WriterProperties>,
    declared: FactTable,
    resources: Resources,
    as_of: AsOf,
    query: String,
    percentile: f64,
    seed: u64,
    is_standardized: bool,
    hours: i64,
    aggregate: Aggregate,
    max_age: Option<TimeDelta>,
    is_inclusive: bool,
}

/// Seconds before the as-of that all worlds but one have.
fn before(seconds: i64) -> i64 {
    instant(AS_OF).micros() / SECOND_US - seconds
}

impl World {
    fn new() -> Self {
        let row = |k, ago: i64, late: i64, n, v| (k, before(ago), before(ago) + late, n, v);
        let mut days: Vec<_> = (0..40).map(|i| row(i % 3, 90_000 + i * 3_000, 60, i % 7, 0.1 * i as f64)).collect();
        // Two of one instant and key, a fact at the as-of itself, one that is known then, a correction, facts of the last hours.
        days.extend([row(1, 5_000, 60, 1, 9.0), row(1, 5_000, 60, 2, 5.0)]);
        days.extend([row(2, 0, 0, 3, 70.0), row(2, 600, 600, 4, 80.0), row(0, 1_800, 60, 5, 90.0), row(0, 1_800, 120, 5, 91.0)]);
        let older = (0..10).map(|i| row(i % 3, 900_000 + i * 50_000, 60, i, -3.5 * i as f64)).collect();
        let query = r#"SELECT arrow_cast(at, 'Timestamp(Microsecond, Some("UTC"))') AS at, k, n, v, month, length(note) AS note,
                         date_part('hour', arrow_cast(at, 'Timestamp(Microsecond, Some("America/New_York"))')) AS hour FROM t"#;
        Self {
            files: vec![("month=12/a.parquet", older), ("month=1/b.parquet", days)],
            order: ["k", "at", "known", "n", "v", "note"],
            is_n_narrow: false,
            more: false,
            properties: None,
            declared: FactTable::new("at", KnownAt::column("known")).zone("UTC".parse().unwrap()),
            resources: Resources { partitions: 2, ..Resources::default() },
            as_of: instant(AS_OF),
            query: query.into(),
            percentile: 99.0,
            seed: 7,
            is_standardized: true,
            hours: 3,
            aggregate: Aggregate::sum("v").named("a"),
            max_age: None,
            is_inclusive: false,
        }
    }

    fn write(&self, dir: &Path) {
        for (name, rows) in &self.files {
            let times = |of: fn(&(i64, i64, i64, i64, f64)) -> i64| {
                Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| of(row) * SECOND_US))) as ArrayRef
            };
            let n = rows.iter().map(|row| row.3);
            let mut columns: Vec<(&str, ArrayRef)> = self
                .order
                .iter()
                .map(|name| {
                    let column: ArrayRef = match *name {
                        "k" => Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
                        "at" => times(|row| row.1),
                        "known" => times(|row| row.2),
                        "n" if self.is_n_narrow => Arc::new(Int32Array::from_iter_values(n.clone().map(|n| n as i32))),
                        "n" => Arc::new(Int64Array::from_iter_values(n.clone())),
                        "v" => Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.4))),
                        _ => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| "x".repeat(row.3 as usize)))),
                    };
                    (*name, column)
                })
                .collect();
            if self.more {
                columns.push(("more", Arc::new(Int64Array::from(vec![1; rows.len()]))));
            }
            write_parquet(&dir.join(name), &columns, self.properties.clone());
        }
    }

    fn sets(&self) -> [FeatureSet; 2] {
        let rows = FeatureSet::rows("rows_v1", &self.query).table("t").event_time("at");
        let rows = rows.keep(OutlierFilter::between_percentiles(0.0, self.percentile).of(["v"]));
        let rows = rows.keep(Sample::fraction(0.7, self.seed).of_integers(["n"]).of_numbers(["v"]));
        let rows = ["n", "month", "note", "hour"].into_iter().fold(rows, |rows, name| rows.encode(Number::of(name)));
        let rows = if self.is_standardized { rows.encode_fitted(Standardize::of("v")) } else { rows.encode(Number::of("v")) };
        let entities = FeatureSet::entities("entities_v1", "t").key("k").lookup("n", "last_n").lookup("v", "last_v");
        let entities = entities.window(TimeDelta::hours(self.hours), [Aggregate::count(), self.aggregate.clone()]);
        let entities = self.max_age.into_iter().fold(entities, |entities, age| entities.max_age(age));
        match self.is_inclusive {
            true => [rows.inclusive().build().unwrap(), entities.inclusive().build().unwrap()],
            false => [rows.build().unwrap(), entities.build().unwrap()],
        }
    }

    /// The id and the bytes of both sets.
    async fn made(&self) -> Vec<(ContentId, Vec<u8>)> {
        let (data, root) = (temp_dir(), temp_dir());
        self.write(data.path());
        let options = StoreOptions::default().cache_in_memory().resources(self.resources.clone());
        let store: FeatureStore = store_with(root.path(), options).await;
        store.register_table("t", data.path().to_str().unwrap(), self.declared.clone()).await.unwrap();
        let mut found = Vec::new();
        for set in self.sets() {
            let name = set.name().to_string();
            store.register(set).unwrap();
            let made = store.materialize(&name, self.as_of).await.unwrap();
            made.verify().await.unwrap();
            found.push((made.id(), bits(&made).await));
        }
        found
    }
}

/// What a change must do to at least one of the sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Must {
    /// Leave ids and bytes alone.
    ChangeNothing,
    /// Change bytes, and so ids.
    ChangeBytes,
    /// Perhaps change an id; bytes only with it.
    KeepThePromise,
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_ids_mean_equal_bytes_whatever_is_changed() {
    use Must::{ChangeBytes, ChangeNothing, KeepThePromise};
    type Change = (&'static str, Must, fn(&mut World));
    let changes: Vec<Change> = vec![
        ("nothing", ChangeNothing, |_| {}),
        ("eight tasks", ChangeNothing, |w| w.resources.partitions = 8),
        ("small batches", ChangeNothing, |w| w.resources.batch_rows = 3),
        ("little memory", ChangeNothing, |w| w.resources.memory_bytes = 8 << 20),
        ("a value", ChangeBytes, |w| w.files[1].1[44].4 = 12.25),
        ("the order of rows", KeepThePromise, |w| w.files[1].1.reverse()),
        ("row groups", KeepThePromise, |w| {
            w.properties = Some(WriterProperties::builder().set_max_row_group_row_count(Some(5)).build());
        }),
        ("a file's name", KeepThePromise, |w| w.files[1].0 = "month=1/z.parquet"),
        ("a partition's value", ChangeBytes, |w| w.files[1].0 = "month=2/b.parquet"),
        ("a partition's value as it is written", KeepThePromise, |w| w.files[1].0 = "month=01/b.parquet"),
        ("a partition's type", KeepThePromise, |w| {
            w.files.push(("month=99999999999/c.parquet", vec![(0, before(-9), before(-9), 0, 0.0)]))
        }),
        ("a file of the future", ChangeNothing, |w| {
            w.files.push(("month=2/c.parquet", vec![(0, before(-9), before(-9), 0, 0.0)]))
        }),
        ("a column's type", KeepThePromise, |w| w.is_n_narrow = true),
        ("the order of columns", KeepThePromise, |w| w.order.reverse()),
        ("one more column", KeepThePromise, |w| w.more = true),
        ("the zone of the times", ChangeBytes, |w| w.declared = w.declared.clone().zone("Asia/Tokyo".parse().unwrap())),
        ("a delay instead of known-at", ChangeBytes, |w| {
            w.declared = FactTable::new("at", KnownAt::after(TimeDelta::minutes(5))).zone("UTC".parse().unwrap());
        }),
        ("another delay", ChangeBytes, |w| {
            w.declared = FactTable::new("at", KnownAt::after(TimeDelta::minutes(50))).zone("UTC".parse().unwrap());
        }),
        ("a tie-break", KeepThePromise, |w| w.declared = w.declared.clone().tie_break("v")),
        ("another tie-break", KeepThePromise, |w| w.declared = w.declared.clone().tie_break("n")),
        ("an identity", ChangeBytes, |w| w.declared = w.declared.clone().identity("k").identity("at").identity("n")),
        ("the as-of", ChangeBytes, |w| w.as_of = AsOf::from_micros(w.as_of.micros() + SECOND_US)),
        ("the cutoff", ChangeBytes, |w| w.is_inclusive = true),
        ("a space in the SQL", KeepThePromise, |w| w.query += " WHERE  true"),
        ("the SQL", ChangeBytes, |w| w.query += " WHERE n < 5"),
        ("an aggregating query", ChangeBytes, |w| {
            w.query = format!(
                "SELECT max(at) AS at, k, n, avg(v) AS v, month, note, hour FROM ({}) GROUP BY k, n, month, note, hour",
                w.query
            );
        }),
        ("a parameter of a selection", ChangeBytes, |w| w.percentile = 80.0),
        ("the seed of a sample", ChangeBytes, |w| w.seed = 8),
        ("an encoder", ChangeBytes, |w| w.is_standardized = false),
        ("the length of a window", ChangeBytes, |w| w.hours = 30),
        ("an aggregate", ChangeBytes, |w| w.aggregate = Aggregate::mean("v").named("a")),
        ("a filter of an aggregate", ChangeBytes, |w| w.aggregate = Aggregate::sum("v").filter("n > 3").named("a")),
        ("an expression of an aggregate", ChangeBytes, |w| w.aggregate = Aggregate::sum(Expression::sql("v * 2")).named("a")),
        ("another expression of an aggregate", ChangeBytes, |w| {
            w.aggregate = Aggregate::sum(Expression::sql("v * 3")).named("a");
        }),
        ("an expression that is a column", KeepThePromise, |w| {
            w.aggregate = Aggregate::sum(Expression::sql("v")).named("a");
        }),
        ("what decides which value counts", ChangeBytes, |w| w.aggregate = Aggregate::max_by("v", "n").named("a")),
        ("an expression that decides which value counts", ChangeBytes, |w| {
            w.aggregate = Aggregate::max_by("v", Expression::sql("-n")).named("a");
        }),
        ("an expression that decides as a column does", KeepThePromise, |w| {
            w.aggregate = Aggregate::max_by("v", Expression::sql("n")).named("a");
        }),
        ("the name of a feature", ChangeBytes, |w| w.aggregate = Aggregate::sum("v").named("b")),
        ("a max age", ChangeBytes, |w| w.max_age = Some(TimeDelta::minutes(40))),
    ];
    let original = World::new().made().await;
    let mut bytes_of: BTreeMap<ContentId, (Vec<u8>, &str)> = BTreeMap::new();
    for (what, must, change) in changes {
        let mut world = World::new();
        change(&mut world);
        let made = world.made().await;
        for (id, bytes) in &made {
            let (known, other) = bytes_of.entry(*id).or_insert_with(|| (bytes.clone(), what));
            assert!(known == bytes, "`{what}` has the id of `{other}`, and other bytes");
        }
        let is_other = original.iter().zip(&made).any(|(a, b)| a.1 != b.1);
        match must {
            ChangeNothing => assert!(original == made, "`{what}` changed an id"),
            ChangeBytes => assert!(is_other, "`{what}` changed no byte"),
            KeepThePromise => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_file_tells_the_code_that_made_it() {
    let bench = Bench::new().await;
    bench.facts("t/month=1/a.parquet", &[1]);
    bench.store.register_table("t", bench.path("t").to_str().unwrap(), at_once()).await.unwrap();
    bench.store.register(rows_of_t("SELECT * FROM t", "n")).unwrap();
    let made = bench.store.materialize("t_v1", instant("2015-01-01")).await.unwrap();
    let engine = &made.manifest().engine;
    assert_eq!(engine.revision, asof::materialize::ENGINE_REVISION);
    assert!(engine.datafusion.starts_with("55."), "{engine:?}");
    assert!(engine.time_zones.starts_with("20"), "{engine:?}");
    let file = fs::read_dir(bench.root.path().join("materialized/t_v1")).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(file.join("manifest.json")).unwrap();
    assert!(text.contains(&engine.time_zones), "{text}");
}
