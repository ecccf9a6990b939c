//! What the operators promise the optimizer: which order, which partitions, which filters. A promise that is not kept shows as
//! rows out of order, a plan that is refused, a filter among the facts, or a query that waits for ever.

use std::{sync::Arc, time::Duration};

use asof::{
    Aggregate, FeatureSet, Resources, StoreOptions,
    catalog::{FactTable, KnownAt},
    temporal::{AsOfDataFrame, Facts, Lookup, Spine, Window},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch, StructArray},
        compute::concat_batches,
        datatypes::{DataType, Field, Int64Type},
    },
    dataframe::DataFrameWriteOptions,
    datasource::MemTable,
    functions_window::expr_fn::row_number,
    logical_expr::ExprFunctionExt,
    physical_plan,
    prelude::{DataFrame, SessionConfig, SessionContext, col, lit, random},
};

use crate::{
    asking::{Layout, table},
    support::{cells, instant, store_with, temp_dir, write_parquet},
    training::{SECOND_US, batch, collected, instants, integers, known_at_once, session},
};

/// One fact for each key `0..keys`, at second `key`, with the value `10 * key`.
fn one_fact_each(keys: i64) -> RecordBatch {
    batch(vec![
        ("k", integers((0..keys).map(Some))),
        ("at", instants((0..keys).map(|k| Some(k * SECOND_US)))),
        ("v", integers((0..keys).map(|k| Some(10 * k)))),
    ])
}

/// A row for each key, an hour after the last fact.
fn one_row_each(keys: i64) -> RecordBatch {
    batch(vec![
        ("id", integers((0..keys).map(Some))),
        ("k", integers((0..keys).map(Some))),
        ("at", instants((0..keys).map(|k| Some((keys + 3_600 + k % 7) * SECOND_US)))),
    ])
}

fn numbers(rows: &RecordBatch, column: &str) -> Vec<Option<i64>> {
    rows.column_by_name(column).unwrap().as_primitive::<Int64Type>().iter().collect()
}

/// Both operators, one above the other.
fn asked(spine: DataFrame, facts: &Facts) -> DataFrame {
    let lookup = Lookup::of(facts.clone()).on("k").column_as("v", "newest");
    let window = Window::of(facts.clone()).on("k").all_before([Aggregate::count().named("n")]);
    spine.lookup_as_of("at", [lookup]).unwrap().window_as_of("at", [window]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_above_the_operators_is_kept_over_a_spine_of_many_parts() {
    let dir = temp_dir();
    let rows = 40;
    let columns = [
        ("k", integers((0..rows).map(|i| Some(i % 2)))),
        ("at", instants((0..rows).map(|i| Some(i * SECOND_US)))),
        ("v", integers((0..rows).map(|i| Some(i + 1)))),
    ];
    write_parquet(&dir.path().join("f/month=1/a.parquet"), &columns, None);
    for partitions in [1, 2, 4, 8] {
        let options = StoreOptions::default().cache_in_memory().resources(Resources { partitions, ..Default::default() });
        let store = store_with(&dir.path().join(format!("root-{partitions}")), options).await;
        store.register_table("f", dir.path().join("f").to_str().unwrap(), known_at_once()).await.unwrap();
        let halves = "(SELECT * FROM f WHERE k = 1 UNION ALL SELECT * FROM f WHERE k = 0) r";
        let join = format!("{halves} ASOF JOIN f x MATCH_CONDITION (r.at > x.at) ON r.k = x.k");
        let answered = async |sql: &str| cells(&store, sql, instant("2015-01-01")).await;

        let sorted = answered(&format!("SELECT r.v FROM {join} ORDER BY r.v")).await;
        assert_eq!(sorted, (1..=rows).map(|v| v.to_string()).collect::<Vec<_>>(), "over {partitions} partitions");
        let numbered = answered(&format!("SELECT r.v, row_number() OVER (ORDER BY r.at) FROM {join} ORDER BY r.v DESC")).await;
        assert_eq!(numbered, (1..=rows).rev().map(|v| format!("{v} {v}")).collect::<Vec<_>>());
        let running = answered(&format!("SELECT r.v, sum(x.v) OVER (ORDER BY r.at) FROM {join} ORDER BY r.at LIMIT 5")).await;
        assert_eq!(running, ["1 ", "2 ", "3 1", "4 3", "5 6"]);
        let listed =
            answered(&format!("SELECT x.k, array_agg(r.v ORDER BY r.at DESC) FROM {join} WHERE r.v < 9 GROUP BY x.k ORDER BY 1"))
                .await;
        assert_eq!(listed, ["0 [7, 5, 3]", "1 [8, 6, 4]", " [2, 1]"]);
        let trailing = "trailing('f', 'at', 'f', 'k', 'all', 'count(*) AS n')";
        let numbered =
            answered(&format!("SELECT v, n, row_number() OVER (ORDER BY at DESC) FROM {trailing} ORDER BY at LIMIT 3")).await;
        assert_eq!(numbered, ["1 0 40", "2 0 39", "3 1 38"]);
        let listed = answered(&format!("SELECT n, array_agg(v ORDER BY v) FROM {trailing} GROUP BY n ORDER BY n LIMIT 2")).await;
        assert_eq!(listed, ["0 [1, 2]", "1 [3, 4]"]);

        // An order that was asked for below stays, and one above that shares its beginning is another.
        let below = "(SELECT * FROM f ORDER BY k, at) r ASOF JOIN f x MATCH_CONDITION (r.at > x.at) ON r.k = x.k";
        let other = answered(&format!("SELECT r.v FROM {below} ORDER BY r.k, r.v DESC LIMIT 2")).await;
        assert_eq!(other, ["39", "37"]);
        let same = answered(&format!("SELECT r.v FROM {below} ORDER BY r.k, r.at LIMIT 2")).await;
        assert_eq!(same, ["1", "3"]);

        let set = FeatureSet::entities("ordered_v1", "f").key("k").lookup("v", "newest").build().unwrap();
        store.register(set).unwrap();
        let layout = Layout { batch_rows: 3, partitions: 4, tasks: partitions };
        let spine = session(layout).read_table(table(one_row_each(20), layout)).unwrap();
        let trained = store.training_set("ordered_v1", Spine::new(spine, "at")).await.unwrap().dataframe().await.unwrap();
        let backwards = collected(trained.clone().sort(vec![col("id").sort(false, true)]).unwrap()).await;
        assert_eq!(numbers(&backwards, "id"), (0..20).rev().map(Some).collect::<Vec<_>>());
        let numbered = row_number().order_by(vec![col("at").sort(true, true), col("id").sort(false, true)]).build().unwrap();
        let numbered = trained.with_column("place", numbered.alias("place")).unwrap();
        assert_eq!(collected(numbered).await.num_rows(), 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_in_the_spines_order_whatever_shares_them_out() {
    let dir = temp_dir();
    let ids = 20_000;
    let rows = one_row_each(ids);
    // Pieces of unlike sizes: a scan that is shared out would begin with the largest.
    let pieces = vec![rows.slice(0, 5_000), rows.slice(5_000, 9_000), rows.slice(14_000, 6_000)];
    let facts = one_fact_each(50);
    let in_order: Vec<Option<i64>> = (0..ids).map(Some).collect();
    for partitions in [1, 2, 3, 8] {
        let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
        let memory = MemTable::try_new(rows.schema(), vec![pieces.clone()]).unwrap();
        session.register_table("spine", Arc::new(memory)).unwrap();
        let facts = Facts::new("facts", session.read_batch(facts.clone()).unwrap(), known_at_once());
        let whole = async |rows: DataFrame| {
            let plan = rows.create_physical_plan().await.unwrap();
            let found = physical_plan::collect(plan.clone(), session.task_ctx()).await.unwrap();
            concat_batches(&plan.schema(), &found).unwrap()
        };
        for sql in [
            "SELECT * FROM spine",
            "SELECT id + 0 AS id, k, at FROM spine WHERE id >= 0 AND k IS NOT NULL",
            "SELECT * FROM (SELECT id, k % 50 AS k, at FROM spine) AS s WHERE k >= 0",
        ] {
            let rows = || async { asked(session.sql(sql).await.unwrap(), &facts) };
            assert_eq!(numbers(&collected(rows().await).await, "id"), in_order, "{sql}, {partitions} partitions");
            assert_eq!(numbers(&whole(rows().await).await, "id"), in_order, "{sql}, {partitions} partitions");
            let above = rows().await.filter(col("n").gt_eq(lit(0))).unwrap().select_columns(&["newest", "id"]).unwrap();
            assert_eq!(numbers(&collected(above).await, "id"), in_order, "{sql}, {partitions} partitions");
        }
        let file = dir.path().join(format!("{partitions}.parquet"));
        let one_file = DataFrameWriteOptions::new().with_single_file_output(true);
        let rows = asked(session.table("spine").await.unwrap(), &facts);
        rows.write_parquet(file.to_str().unwrap(), one_file, None).await.unwrap();
        let one = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        let written = collected(one.read_parquet(file.to_str().unwrap(), Default::default()).await.unwrap()).await;
        assert_eq!(numbers(&written, "id"), in_order);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_without_columns_is_asked_about_rows_and_not_about_facts() {
    let keys = 2_000;
    for layout in [Layout { batch_rows: 300, partitions: 1, tasks: 1 }, Layout { batch_rows: 90, partitions: 3, tasks: 4 }] {
        let session = session(layout);
        let facts = session.read_table(table(one_fact_each(keys), layout)).unwrap();
        let facts = Facts::new("facts", facts, known_at_once());
        let rows = || asked(session.read_table(table(one_row_each(keys), layout)).unwrap(), &facts);
        let half = || random().lt(lit(0.5));
        let plans = [
            rows().filter(half()).unwrap(),
            rows().select_columns(&["id", "n", "newest"]).unwrap().filter(half()).unwrap(),
            rows().filter(half().and(col("id").gt_eq(lit(0)))).unwrap().sort(vec![col("id").sort(true, true)]).unwrap(),
            rows().filter(lit(true).and(half())).unwrap().union(rows().limit(0, Some(0)).unwrap()).unwrap(),
        ];
        for plan in plans {
            let found = collected(plan).await;
            assert!((700..1_300).contains(&found.num_rows()), "{} of {keys} rows", found.num_rows());
            for ((id, newest), n) in numbers(&found, "id").into_iter().zip(numbers(&found, "newest")).zip(numbers(&found, "n")) {
                assert_eq!((newest, n), (id.map(|id| 10 * id), Some(1)), "row {id:?} lost its fact");
            }
        }
        let nothing = collected(rows().filter(lit(1).eq(lit(0))).unwrap()).await;
        assert_eq!(nothing.num_rows(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_whose_partitions_wait_for_each_other_are_read() {
    let dir = temp_dir();
    for (name, first) in [("f", 0), ("d", 1)] {
        for part in 0..6i64 {
            let rows = (part * 500)..((part + 1) * 500);
            let columns = [
                ("k", integers(rows.clone().map(|i| Some(i % 100)))),
                ("at", instants(rows.clone().map(|i| Some(i * SECOND_US)))),
                ("v", integers(rows.map(|i| Some(i + first)))),
            ];
            write_parquet(&dir.path().join(format!("{name}/{part}.parquet")), &columns, None);
        }
    }
    for partitions in [2, 4, 8] {
        let mut config = SessionConfig::new().with_target_partitions(partitions);
        // Joins of both sides' partitions, however small they are.
        config.options_mut().optimizer.hash_join_single_partition_threshold = 0;
        config.options_mut().optimizer.hash_join_single_partition_threshold_rows = 0;
        let session = SessionContext::new_with_config(config);
        for name in ["f", "d"] {
            session.register_parquet(name, dir.path().join(name).to_str().unwrap(), Default::default()).await.unwrap();
        }
        let joined = session.sql("SELECT f.k, f.at, f.v FROM f JOIN d ON f.v = d.v AND f.k <> d.k").await.unwrap();
        let other = session.sql("SELECT f.k, f.at, f.v + 1 AS w FROM f JOIN d ON f.v = d.v AND d.k >= 0").await.unwrap();
        let spine = session.read_batch(one_row_each(100)).unwrap();
        let lookups = [
            Lookup::of(Facts::new("joined", joined, known_at_once())).on("k").column("v"),
            Lookup::of(Facts::new("other", other.clone(), known_at_once())).on("k").column("w"),
        ];
        let window = Window::of(Facts::new("other", other, known_at_once())).on("k").all_before([Aggregate::count().named("n")]);
        let rows = spine.lookup_as_of("at", lookups).unwrap().window_as_of("at", [window]).unwrap();
        let rows = tokio::time::timeout(Duration::from_secs(60), collected(rows)).await;
        let rows = rows.unwrap_or_else(|_| panic!("no answer over {partitions} partitions"));
        assert!(numbers(&rows, "n").iter().flatten().sum::<i64>() > 0);
        assert_eq!(numbers(&rows, "v").len(), 100);
    }
}

#[tokio::test]
async fn a_part_of_a_nested_column_is_read_above_the_operators() {
    let nested = |first: i64, count: i64| -> ArrayRef {
        let inner: ArrayRef = integers((0..count).map(|i| Some(first + i)));
        Arc::new(StructArray::from(vec![(Arc::new(Field::new("x", DataType::Int64, true)), inner)]))
    };
    let mut facts = one_fact_each(5);
    facts = batch(vec![("k", facts.column(0).clone()), ("at", facts.column(1).clone()), ("s", nested(100, 5))]);
    let rows = one_row_each(5);
    let spine = batch(vec![("k", rows.column(1).clone()), ("at", rows.column(2).clone()), ("own", nested(7, 5))]);
    let session = SessionContext::new();
    let facts = Facts::new("facts", session.read_batch(facts).unwrap(), FactTable::new("at", KnownAt::after(TimeDelta::zero())));
    let rows = || {
        let spine = session.read_batch(spine.clone()).unwrap();
        let lookup = Lookup::of(facts.clone()).on("k").column("s");
        let window = Window::of(facts.clone()).on("k").all_before([Aggregate::count().named("n")]);
        spine.lookup_as_of("at", [lookup]).unwrap().window_as_of("at", [window]).unwrap()
    };
    let part = |column: &str| datafusion::functions::core::expr_fn::get_field(col(column), "x");
    for (column, first) in [("s", 100), ("own", 7)] {
        let expected: Vec<Option<i64>> = (0..5).map(|i| Some(first + i)).collect();
        let alone = collected(rows().select(vec![part(column).alias("x")]).unwrap()).await;
        assert_eq!(numbers(&alone, "x"), expected, "{column}");
        let beside = rows().filter(part(column).gt(lit(0))).unwrap().select(vec![col("n"), part(column).alias("x")]).unwrap();
        let beside = collected(beside).await;
        assert_eq!((numbers(&beside, "x"), beside.column(0).null_count()), (expected, 0), "{column}");
    }
}
