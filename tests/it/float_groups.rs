//! `min` and `max` of floats in groups, by SQL: those of a plain loop over the values in their total order, whatever the order of rows,
//! the number of files and of partitions. NaN is the largest, and -0.0 is smaller than 0.0.

use std::{collections::BTreeMap, sync::Arc};

use asof::{
    AsOf, FeatureStore, Resources, StoreOptions,
    catalog::{FactTable, KnownAt},
};
use chrono::TimeDelta;
use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, Float32Array, Float64Array, Int64Array, TimestampMicrosecondArray},
    datatypes::{Float32Type, Float64Type, Int64Type},
};
use rand::{
    Rng, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};

use crate::support::{temp_dir, write_parquet};

type Row = (i64, i64, Option<f64>);

fn rows(rng: &mut StdRng) -> Vec<Row> {
    let odd = [f64::NAN, 0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 1.5, -2.5];
    (0..600)
        .map(|_| {
            let value = match rng.random_range(0..10) {
                0 => None,
                1..5 => odd.choose(rng).copied(),
                _ => Some(rng.random_range(-40..40) as f64 / 4.0),
            };
            (rng.random_range(0..90), rng.random_range(0..3), value)
        })
        .collect()
}

/// The table `facts` of these rows, in so many files.
async fn store(rows: &[Row], files: usize, partitions: usize) -> (tempfile::TempDir, FeatureStore) {
    let dir = temp_dir();
    for (number, rows) in rows.chunks(rows.len().div_ceil(files)).enumerate() {
        let times = (0..rows.len()).map(|row| (number * 1_000 + row) as i64);
        let columns: [(&str, ArrayRef); 5] = [
            ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))),
            ("k", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)))),
            ("part", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)))),
            ("v", Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.2)))),
            ("w", Arc::new(Float32Array::from_iter(rows.iter().map(|row| row.2.map(|value| value as f32))))),
        ];
        write_parquet(&dir.path().join(format!("facts/{number}.parquet")), &columns, None);
    }
    let options = StoreOptions::default().cache_in_memory().resources(Resources { partitions, ..Resources::default() });
    let store = FeatureStore::open_with(dir.path().join("root").to_str().unwrap(), options).await.unwrap();
    let declared = FactTable::new("at", KnownAt::after(TimeDelta::zero()));
    store.register_table("facts", dir.path().join("facts").to_str().unwrap(), declared).await.unwrap();
    (dir, store)
}

fn extremes(values: impl Iterator<Item = f64> + Clone) -> (Option<u64>, Option<u64>) {
    let (least, most) = (values.clone().min_by(f64::total_cmp), values.max_by(f64::total_cmp));
    (least.map(f64::to_bits), most.map(f64::to_bits))
}

#[tokio::test]
async fn the_extremes_of_groups_do_not_depend_on_the_order_of_rows() {
    let mut rng = StdRng::seed_from_u64(41);
    for (files, partitions) in [(1, 1), (1, 3), (4, 1), (5, 2), (9, 4)] {
        let mut rows = rows(&mut rng);
        rows.shuffle(&mut rng);
        let mut groups: BTreeMap<i64, Vec<(i64, f64)>> = BTreeMap::new();
        for &(key, part, value) in &rows {
            groups.entry(key).or_default().extend(value.map(|value| (part, value)));
        }
        let (_dir, store) = store(&rows, files, partitions).await;
        let sql = "SELECT k, min(v), max(v) AS most, min(v) FILTER (WHERE part = 1), max(DISTINCT v), min(w), max(w), count(*) FROM facts \
                   GROUP BY k HAVING max(v) IS NOT NULL OR min(w) IS NULL ORDER BY k";
        let answered = store.sql(sql, AsOf::END_OF_TIME).await.unwrap().collect().await.unwrap();
        let mut seen = 0;
        for batch in &answered {
            let bits = |column: usize, row: usize| {
                let values = batch.column(column).as_primitive::<Float64Type>();
                values.is_valid(row).then(|| values.value(row).to_bits())
            };
            let short = |column: usize, row: usize| {
                let values = batch.column(column).as_primitive::<Float32Type>();
                values.is_valid(row).then(|| f64::from(values.value(row)).to_bits())
            };
            for row in 0..batch.num_rows() {
                let group = &groups[&batch.column(0).as_primitive::<Int64Type>().value(row)];
                let (least, most) = extremes(group.iter().map(|fact| fact.1));
                assert_eq!((bits(1, row), bits(2, row), bits(4, row)), (least, most, most), "{group:?}");
                assert_eq!(bits(3, row), extremes(group.iter().filter(|fact| fact.0 == 1).map(|fact| fact.1)).0, "{group:?}");
                let shorter = extremes(group.iter().map(|fact| f64::from(fact.1 as f32)));
                assert_eq!((short(5, row), short(6, row)), shorter, "{group:?}");
                seen += 1;
            }
        }
        assert_eq!(seen, groups.len());
    }
}

/// Names, types and plans around them stay as they are.
#[tokio::test]
async fn queries_around_the_extremes_of_groups_are_answered() {
    let rows: Vec<Row> =
        vec![(1, 0, Some(f64::NAN)), (1, 1, Some(-3.0)), (2, 0, None), (1, 2, Some(4.0)), (2, 1, Some(-0.0)), (2, 2, Some(0.0))];
    let (_dir, store) = store(&rows, 3, 2).await;
    let cases = [
        ("SELECT k, min(v) FROM facts GROUP BY k ORDER BY k", ["1 -3.0", "2 -0.0"].as_slice()),
        ("SELECT max(v) AS most FROM facts GROUP BY k ORDER BY k", &["NaN", "0.0"]),
        ("SELECT k, max(v) FROM facts GROUP BY ROLLUP (k) ORDER BY k NULLS LAST", &["1 NaN", "2 0.0", " NaN"]),
        ("SELECT k, min(v), count(DISTINCT part) FROM facts GROUP BY k ORDER BY k", &["1 -3.0 3", "2 -0.0 3"]),
        ("SELECT k FROM facts GROUP BY k HAVING min(v) < -1 ORDER BY k", &["1"]),
        ("SELECT k, max(v) m FROM facts GROUP BY k ORDER BY m DESC LIMIT 1", &["1 NaN"]),
        ("SELECT min(m) FROM (SELECT k, max(v) m FROM facts GROUP BY k)", &["0.0"]),
        ("SELECT k, min(v) OVER (PARTITION BY k) FROM facts WHERE part = 1 ORDER BY k", &["1 -3.0", "2 -0.0"]),
        ("SELECT k, min(v + 1) + max(v - 1) FROM facts WHERE v < 9 GROUP BY k ORDER BY k", &["1 1.0", "2 0.0"]),
    ];
    for (sql, expected) in cases {
        assert_eq!(crate::support::cells(&store, sql, AsOf::END_OF_TIME).await, expected, "{sql}");
    }
    let named = store.sql("SELECT k, min(v), max(w) FROM facts GROUP BY k", AsOf::END_OF_TIME).await.unwrap();
    let fields: Vec<_> = named.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(fields, ["k", "min(facts.v)", "max(facts.w)"]);
    let made = named.collect().await.unwrap();
    assert_eq!(made[0].schema().field(1).name(), "min(facts.v)");
}
