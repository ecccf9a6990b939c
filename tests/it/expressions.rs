//! Aggregates over expressions have the bits of those over a column that holds what the expression computes: in training,
//! materialized and served, in drawn features and in labels.

use std::sync::Arc;

use asof::{
    Aggregate, Expression, FeatureSet, FeatureStore, Value,
    catalog::{FactTable, KnownAt},
    feature_set::{Ahead, EntitySetBuilder},
    temporal::{Facts, Spine, Window},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, Int8Array, StringArray},
        compute::cast,
        datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType},
    },
    prelude::SessionContext,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use crate::{
    any_key::{SECOND_US, both, second, table},
    parity::{bit_rows, whole},
    support::{store, temp_dir},
    training::{batch, collected, floats, instants, integers, known_at_once},
};

/// A sale; times in seconds.
#[derive(Debug, Clone, Copy)]
struct Sale {
    key: Option<i64>,
    at: Option<i64>,
    known: i64,
    price: Option<f64>,
    quantity: Option<i64>,
}

impl Sale {
    /// Prices are quarters, so that sums of a few are exact.
    fn some(rng: &mut StdRng, count: usize) -> Vec<Self> {
        let sale = |rng: &mut StdRng| {
            let at = rng.random_range(0..20);
            Self {
                key: (!rng.random_bool(0.1)).then(|| rng.random_range(0..5)),
                at: (!rng.random_bool(0.05)).then_some(at),
                known: at + rng.random_range(0..4),
                price: (!rng.random_bool(0.2)).then(|| f64::from(rng.random_range(-20..20)) / 4.0),
                quantity: (!rng.random_bool(0.2)).then(|| rng.random_range(0..4)),
            }
        };
        (0..count).map(|_| sale(rng)).collect()
    }

    fn revenue(&self) -> Option<f64> {
        Some(self.price? * self.quantity? as f64)
    }

    fn share(&self) -> Option<i64> {
        self.quantity.filter(|quantity| *quantity != 0).map(|quantity| 100 / quantity)
    }

    fn size(&self) -> Option<&'static str> {
        self.quantity.map(|quantity| if quantity > 1 { "many" } else { "few" })
    }
}

/// What the columns `revenue`, `share` and `size` hold, as SQL. The second fails for a quantity of zero.
fn computed(what: &str) -> Expression {
    Expression::sql(match what {
        "revenue" => "price * quantity",
        "share" => "100 / quantity",
        _ => "CASE WHEN quantity > 1 THEN 'many' WHEN quantity IS NOT NULL THEN 'few' END",
    })
}

fn sales_columns(sales: &[Sale]) -> Vec<(&'static str, ArrayRef)> {
    let seconds = |s: i64| s * SECOND_US;
    let sizes: ArrayRef = Arc::new(sales.iter().map(Sale::size).collect::<StringArray>());
    vec![
        ("k", integers(sales.iter().map(|sale| sale.key))),
        ("at", instants(sales.iter().map(|sale| sale.at.map(seconds)))),
        ("known", instants(sales.iter().map(|sale| Some(seconds(sale.known))))),
        ("id", integers((0..sales.len() as i64).map(|i| (i % 7 != 0).then_some(i % 11)))),
        ("price", floats(sales.iter().map(|sale| sale.price))),
        ("quantity", integers(sales.iter().map(|sale| sale.quantity))),
        ("revenue", floats(sales.iter().map(Sale::revenue))),
        ("share", integers(sales.iter().map(Sale::share))),
        ("size", sizes),
    ]
}

async fn sales_table(dir: &TempDir, store: &FeatureStore, sales: &[Sale], declared: FactTable) {
    table(dir, store, "sales", &sales_columns(sales), declared).await;
}

/// Every aggregate over revenues; some over shares, which the filter makes possible; some over texts.
fn aggregates(name: &str, of: impl Fn(&str) -> Expression) -> Vec<Aggregate> {
    let all = [
        (Aggregate::count_of(of("revenue")), "n"),
        (Aggregate::sum(of("revenue")), "total"),
        (Aggregate::mean(of("revenue")), "mean"),
        (Aggregate::variance(of("revenue")), "variance"),
        (Aggregate::stddev(of("revenue")), "stddev"),
        (Aggregate::min(of("revenue")), "min"),
        (Aggregate::max(of("revenue")), "max"),
        (Aggregate::first(of("revenue")), "first"),
        (Aggregate::last(of("revenue")), "last"),
        (Aggregate::first_k(of("revenue"), 2), "first_2"),
        (Aggregate::last_k(of("revenue"), 3), "last_3"),
        (Aggregate::median(of("revenue")), "median"),
        (Aggregate::quantile(of("revenue"), 0.9), "q90"),
        (Aggregate::mode(of("revenue")), "mode"),
        (Aggregate::top_k(of("revenue"), 2), "top_2"),
        (Aggregate::top_share(of("revenue")), "top_share"),
        (Aggregate::entropy(of("revenue")), "entropy"),
        (Aggregate::max_by("price", of("revenue")), "price_of_best"),
        (Aggregate::min_by(of("revenue"), "quantity"), "revenue_of_fewest"),
        (Aggregate::count_distinct(of("revenue")), "distinct"),
        (Aggregate::sum(of("revenue")).filter("quantity > 1"), "total_of_many"),
        (Aggregate::sum(of("share")).filter("quantity <> 0"), "shares"),
        (Aggregate::min(of("share")).filter("quantity <> 0"), "least_share"),
        (Aggregate::count_of(of("share")).filter("quantity > 1"), "shares_of_many"),
        (Aggregate::count_distinct(of("size")), "sizes"),
        (Aggregate::mode(of("size")), "size"),
        (Aggregate::max(of("size")), "last_size"),
        (Aggregate::last(of("size")).filter("price > 0"), "size_of_gain"),
        (Aggregate::top_k(of("size"), 1).filter("price > 0"), "most_frequent_size"),
        (Aggregate::first_k(of("size"), 2), "first_sizes"),
        (Aggregate::top_share(of("share")).filter("quantity <> 0"), "top_share_of_shares"),
        (Aggregate::entropy(of("size")), "entropy_of_sizes"),
        (Aggregate::max_by(of("size"), of("revenue")), "size_of_best"),
        (Aggregate::min_by(of("share"), of("size")).filter("quantity <> 0"), "share_of_few"),
        // One expression, with and without a filter, as what counts and as what decides.
        (Aggregate::max_by(of("revenue"), of("share")).filter("quantity <> 0"), "revenue_of_best_share"),
        (Aggregate::min_by(of("revenue"), of("revenue")), "least"),
    ];
    all.into_iter().map(|(aggregate, what)| aggregate.named(format!("{name}_{what}"))).collect()
}

fn by_key(name: &str, of: fn(&str) -> Expression) -> EntitySetBuilder {
    let set = FeatureSet::entities(name, "sales").key("k");
    set.window(TimeDelta::seconds(6), aggregates("short", of)).all_before(aggregates("all", of))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feature_over_an_expression_is_that_over_a_column_of_its_values() {
    let mut found = 0;
    for seed in 0..3 {
        let mut rng = StdRng::seed_from_u64(seed);
        let delayed = FactTable::new("at", KnownAt::after(TimeDelta::seconds(2))).tie_break("price");
        let corrected = FactTable::new("at", KnownAt::column("known")).identity("id");
        for (declared, delay) in [(known_at_once(), Some(0)), (delayed, Some(2)), (corrected, None)] {
            let dir = temp_dir();
            let store = store(&dir.path().join("store")).await;
            let sales = Sale::some(&mut rng, 60);
            sales_table(&dir, &store, &sales, declared).await;
            store.register(by_key("by_sql_v1", computed).build().unwrap()).unwrap();
            store.register(by_key("by_column_v1", |what| what.into()).build().unwrap()).unwrap();
            let keys: Vec<Option<i64>> = (0..6).map(Some).chain([None]).collect();
            let asked: Vec<Vec<Value>> = keys.iter().map(|key| vec![key.map_or(Value::Null, Value::Int)]).collect();
            for at in [0, 3, 10, 21, 40] {
                let (trained, served, _) = both(&store, "by_sql_v1", &["k"], &asked, second(at)).await;
                assert_eq!(trained, served, "seed {seed} at {at} s");
                let (of_column, ..) = both(&store, "by_column_v1", &["k"], &asked, second(at)).await;
                assert_eq!(trained, of_column, "seed {seed} at {at} s");
                let Some(delay) = delay else { continue };
                for (key, trained) in keys.iter().zip(&trained) {
                    let is_seen = |sale: &&Sale| sale.at.is_some_and(|t| t + delay < at && t >= at - 6);
                    let of_key = sales.iter().filter(|sale| key.is_some() && sale.key == *key).filter(is_seen);
                    let revenues: Vec<f64> = of_key.filter_map(Sale::revenue).collect();
                    let total = match revenues.as_slice() {
                        [] => "NULL".to_owned(),
                        some => format!("{:016x}", some.iter().sum::<f64>().to_bits()),
                    };
                    let expected = format!("{} {total} ", revenues.len());
                    // Minus zero is a sum of minus zeros; the naive sum may begin with another zero.
                    let expected = expected.replace(" 8000000000000000 ", " 0000000000000000 ");
                    let trained = trained.replacen(" 8000000000000000 ", " 0000000000000000 ", 1);
                    assert!(trained.starts_with(&expected), "seed {seed}, {key:?} at {at} s: {trained}, not {expected}");
                    found += revenues.len();
                }
            }
        }
    }
    assert!(found > 100, "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn drawn_features_and_labels_may_be_over_expressions() {
    let mut rng = StdRng::seed_from_u64(11);
    let dir = temp_dir();
    let store = store(&dir.path().join("store")).await;
    let sales = Sale::some(&mut rng, 80);
    sales_table(&dir, &store, &sales, known_at_once()).await;
    let mut visits: Vec<(i64, i64)> = (0..40).map(|_| (rng.random_range(0..20), rng.random_range(0..5))).collect();
    // Nothing is sold under this key.
    visits.push((3, 5));
    let columns = [
        ("at", instants(visits.iter().map(|(at, _)| Some(at * SECOND_US)))),
        ("k", integers(visits.iter().map(|(_, key)| Some(*key)))),
    ];
    table(&dir, &store, "visits", &columns, known_at_once()).await;
    let of: [fn(&str) -> Expression; 2] = [computed, |what| what.into()];
    let mut made = Vec::new();
    for (i, of) in of.into_iter().enumerate() {
        let (entities, rows) = (format!("sums_{i}_v1"), format!("visits_{i}_v1"));
        let entities = by_key(&entities, of).build().unwrap();
        store.register(entities.clone()).unwrap();
        let labels = [
            Aggregate::sum(of("revenue")).named("ahead"),
            Aggregate::sum(of("share")).filter("quantity <> 0").named("shares_ahead"),
            Aggregate::max_by("price", of("revenue")).named("price_of_best_ahead"),
        ];
        let set = FeatureSet::rows(&rows, "SELECT at, k FROM visits")
            .table("visits")
            .event_time("at")
            .features_of(
                entities.by(["k"]).only(["short_total", "all_shares", "all_least_share", "all_price_of_best"]).prefixed("drawn_"),
            )
            .label_ahead(Ahead::of("sales").on("k").window(TimeDelta::seconds(6), labels))
            .pass(["k", "drawn_short_total", "drawn_all_shares", "drawn_all_least_share", "drawn_all_price_of_best"]);
        store.register(set.build().unwrap()).unwrap();
        let rows_made = store.materialize(&rows, second(18)).await.unwrap();
        store.materialize(entities.name().as_str(), second(18)).await.unwrap();
        let online = store.online(&rows).await.unwrap();
        let by_key = store.online(entities.name().as_str()).await.unwrap();
        let mut served = Vec::new();
        for key in 0..6 {
            let row = online.encode_row(&[("k", key.into())]).unwrap();
            let total = by_key.get(&[key.into()]).unwrap().number("short_total").unwrap();
            assert_eq!(row.number("drawn_short_total").unwrap().map(f64::to_bits), total.map(f64::to_bits), "{key}");
            served.extend(bit_rows(&row.batch().unwrap()));
        }
        made.push((whole(&rows_made).await, served));
    }
    let (rows, served) = &made[0];
    assert_eq!(bit_rows(rows), bit_rows(&made[1].0));
    assert_eq!(*served, made[1].1);

    // The windows of visits up to second 12 are closed at second 18.
    let mut expected: Vec<(i64, i64, Option<f64>)> = Vec::new();
    for &(at, key) in visits.iter().filter(|(at, _)| at + 6 <= 18) {
        let inside = sales.iter().filter(|sale| sale.key == Some(key) && sale.at.is_some_and(|t| t >= at && t < at + 6));
        expected.push((at, key, inside.filter_map(Sale::revenue).reduce(|a, b| a + b)));
    }
    expected.sort_by_key(|(at, key, _)| (*at, *key));
    let column = |name: &str| rows.column_by_name(name).unwrap().as_primitive::<Float64Type>().clone();
    let at = rows.column_by_name("at").unwrap().as_primitive::<TimestampMicrosecondType>();
    let (keys, labels) = (column("k"), column("ahead"));
    let found: Vec<(i64, i64, Option<f64>)> = (0..rows.num_rows())
        .map(|i| (at.value(i) / SECOND_US, keys.value(i) as i64, labels.is_valid(i).then(|| labels.value(i))))
        .collect();
    assert_eq!(found, expected);
    assert!(found.iter().any(|(.., label)| label.is_some()) && found.iter().any(|(.., label)| label.is_none()));
}

/// An expression decides which value counts, on the facts that pass the filter; against a naive oracle.
#[tokio::test]
async fn an_expression_decides_which_value_counts() {
    let session = SessionContext::new();
    let mut found = 0;
    for seed in 0..20 {
        let sales = Sale::some(&mut StdRng::seed_from_u64(seed), 40);
        let facts = Facts::new("sales", session.read_batch(batch(sales_columns(&sales))).unwrap(), known_at_once());
        let asked: Vec<(i64, i64)> = (0..5).flat_map(|key| (0..28).map(move |at| (key, at))).collect();
        let spine = batch(vec![
            ("k", integers(asked.iter().map(|(key, _)| Some(*key)))),
            ("t", instants(asked.iter().map(|(_, at)| Some(at * SECOND_US)))),
        ]);
        let aggregates = [
            Aggregate::max_by(computed("size"), computed("revenue")).named("size_of_best"),
            Aggregate::min_by("price", computed("share")).filter("quantity <> 0").named("price_of_least_share"),
        ];
        let window = Window::of(facts).on("k").trailing(TimeDelta::seconds(6), aggregates);
        let rows = Spine::new(session.read_batch(spine).unwrap(), "t").window([window]).unwrap().into_rows();
        let rows = collected(rows).await;
        let sizes = rows.column_by_name("size_of_best").unwrap().as_string::<i32>();
        let prices = rows.column_by_name("price_of_least_share").unwrap().as_primitive::<Float64Type>();
        for (row, &(key, at)) in asked.iter().enumerate() {
            let is_seen = |sale: &&Sale| sale.key == Some(key) && sale.at.is_some_and(|t| t < at && t >= at - 6);
            let of_key = || sales.iter().filter(is_seen);
            let best = of_key().filter_map(|sale| Some((sale.revenue()?, sale.at, sale.size()?)));
            let best = best.max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(b.2)));
            let size = sizes.is_valid(row).then(|| sizes.value(row));
            assert_eq!(size, best.map(|(.., size)| size), "seed {seed}, {key} at {at} s");
            // Of equal shares the newest counts, and then the larger price.
            let least = of_key().filter_map(|sale| Some((sale.share()?, sale.at, sale.price?)));
            let least = least.max_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.total_cmp(&b.2)));
            let price = prices.is_valid(row).then(|| prices.value(row).to_bits());
            assert_eq!(price, least.map(|(.., price)| price.to_bits()), "seed {seed}, {key} at {at} s");
            found += usize::from(best.is_some() && least.is_some());
        }
    }
    assert!(found > 500, "{found}");
}

/// A text names a column, and an expression is SQL, whatever the column is called.
#[tokio::test]
async fn a_column_that_is_called_like_an_expression_is_not_confused_with_it() {
    let session = SessionContext::new();
    let facts = batch(vec![
        ("k", integers([Some(1), Some(1)])),
        ("at", instants([Some(1), Some(2)])),
        ("a", integers([Some(2), Some(3)])),
        ("b", integers([Some(10), Some(10)])),
        ("a * b", integers([Some(7), Some(8)])),
    ]);
    let facts = Facts::new("facts", session.read_batch(facts).unwrap(), known_at_once());
    let spine = batch(vec![("k", integers([Some(1)])), ("t", instants([Some(9)]))]);
    let aggregates = [
        Aggregate::sum("a * b").named("of_column"),
        Aggregate::sum(Expression::sql("a * b")).named("of_sql"),
        Aggregate::sum(Expression::sql("\"a * b\" + a")).named("of_both"),
        Aggregate::sum(Expression::sql("1")).named("of_ones"),
        Aggregate::max_by(Expression::sql("a * b"), "a * b").named("of_sql_by_column"),
        Aggregate::min_by("a * b", Expression::sql("a * b")).named("of_column_by_sql"),
    ];
    let window = Window::of(facts).on("k").all_before(aggregates);
    let rows = Spine::new(session.read_batch(spine).unwrap(), "t").window([window]).unwrap().into_rows();
    let plan = rows.clone().explain(false, false).unwrap().collect().await.unwrap();
    let plan = datafusion::arrow::util::pretty::pretty_format_batches(&plan).unwrap().to_string();
    assert!(plan.contains("of_both=[Sum(\"a * b\" + a) over everything before]"), "{plan}");
    assert!(plan.contains("of_sql_by_column=[MaxBy(a * b, a * b) over everything before]"), "{plan}");
    let found = collected(rows).await;
    let value = |name: &str| found.column_by_name(name).unwrap().as_primitive::<Float64Type>().value(0);
    assert_eq!(["of_column", "of_sql", "of_both", "of_ones"].map(value), [15.0, 50.0, 20.0, 2.0]);
    let value = |name: &str| found.column_by_name(name).unwrap().as_primitive::<Int64Type>().value(0);
    assert_eq!(["of_sql_by_column", "of_column_by_sql"].map(value), [30, 7]);
}

/// The total of an expression over facts whose `n` are these, or the error of its evaluation. Facts of more than 100 are
/// left out by the filter.
async fn total(text: &str, n: ArrayRef) -> Result<Option<f64>, String> {
    let session = SessionContext::new();
    let rows = n.len();
    let facts = batch(vec![("k", integers(vec![Some(1); rows])), ("at", instants(vec![Some(1); rows])), ("n", n)]);
    let facts = Facts::new("facts", session.read_batch(facts).unwrap(), known_at_once());
    let spine = batch(vec![("k", integers([Some(1)])), ("t", instants([Some(9)]))]);
    let sum = Aggregate::sum(Expression::sql(text)).filter("n <= 100 OR n IS NULL").named("total");
    let window = Window::of(facts).on("k").all_before([sum]);
    let rows = Spine::new(session.read_batch(spine).unwrap(), "t").window([window]).unwrap().into_rows();
    let rows = rows.collect().await.map_err(|e| e.to_string())?;
    let totals = cast(rows[0].column_by_name("total").unwrap(), &DataType::Float64).unwrap();
    let totals = totals.as_primitive::<Float64Type>();
    Ok(totals.is_valid(0).then(|| totals.value(0)))
}

/// Wherever in the expression they are, and whether a fact or a constant makes them exceed their type.
#[tokio::test]
async fn integers_that_exceed_their_type_are_an_error() {
    let least = || integers([Some(i64::MIN), Some(3)]);
    for text in [
        "-n",
        "-(n)",
        "- n + 1.5",
        "0 - n",
        "n - 1",
        "n * 2",
        "n / -1",
        "abs(n)",
        "CASE WHEN n < 5 THEN -n ELSE 0 END",
        "coalesce(NULL, -n)",
        "coalesce(NULL, n) - 1",
        "n + 0 * (9223372036854775807 + 1)",
        "0 * -(n - 0)",
        "arrow_cast(n, 'Int32')",
    ] {
        let error = total(text, least()).await.expect_err(text);
        assert!(error.contains(text) || error.contains(&text.replace("- n", "-n")), "{text}: {error}");
    }
    for (text, expected) in [("-n", -5.0), ("-(n) * 2", -10.0), ("- n + 1.5", -2.0), ("abs(-n)", 11.0), ("-(-n)", 5.0)] {
        let found = total(text, integers([Some(8), None, Some(-3)])).await.unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(found, Some(expected), "{text}");
    }
    let narrow: ArrayRef = Arc::new(Int8Array::from(vec![-128]));
    assert!(total("-n", Arc::clone(&narrow)).await.unwrap_err().contains("-n"));
    assert_eq!(total("-CAST(n AS bigint)", narrow).await, Ok(Some(128.0)));
}

/// A constant is computed for a fact that is seen, not when the query is planned.
#[tokio::test]
async fn a_constant_that_fails_fails_only_for_facts_that_are_seen() {
    for text in
        ["CAST(1e300 AS bigint)", "CAST('x' AS bigint)", "9223372036854775807 + 1", "1 / 0", "coalesce(CAST('x' AS int), n)"]
    {
        assert_eq!(total(text, integers([Some(101), Some(102)])).await, Ok(None), "{text}");
        let error = total(text, integers([Some(101), Some(7)])).await.expect_err(text);
        assert!(error.contains(text), "{text}: {error}");
    }
    let guarded = "CASE WHEN n > 50 THEN CAST('x' AS bigint) ELSE n END";
    assert_eq!(total(guarded, integers([Some(7), Some(101)])).await, Ok(Some(7.0)));
}

/// The second names of functions are names of functions, not of the value.
#[tokio::test]
async fn functions_have_their_second_names() {
    let n = || integers([Some(3), Some(-2), None]);
    for (text, expected) in [
        ("pow(n, 2)", 13.0),
        ("pow(n, 2) -- squares", 13.0),
        ("power(n, 2)", 13.0),
        ("ifnull(n, 10)", 11.0),
        ("nvl(n, 10)", 11.0),
        ("length(CAST(n AS varchar))", 3.0),
        ("char_length(CAST(n AS varchar))", 3.0),
        ("1 + pow(n, 2)", 15.0),
    ] {
        assert_eq!(total(text, n()).await, Ok(Some(expected)), "{text}");
    }
}

/// Functions that the engine's simplifier rewrites without an end, and those that panic on some arguments.
#[tokio::test]
async fn functions_that_are_odd_in_the_engine_are_not_odd_here() {
    let n = || integers([Some(3), Some(-2), None]);
    for (text, expected) in [
        ("length(concat_ws('-', CAST(n AS varchar), 'x'))", 8.0),
        ("length(concat_ws('-', 'a', NULL, CAST(n AS varchar), 'b', 'c'))", 20.0),
        ("nvl2(n, 1, 5)", 7.0),
        ("coalesce(nullif(n, 3), ifnull(n, 7), 1)", 8.0),
    ] {
        assert_eq!(total(text, n()).await, Ok(Some(expected)), "{text}");
    }
    // The filter leaves out what is more than 100: the engine cannot make a text so long.
    let pad = "length(lpad(CAST(n AS varchar), CAST(CASE WHEN n > 100 THEN -2147483648 ELSE n END AS int), 'x'))";
    assert_eq!(total(pad, integers([Some(101), Some(7)])).await, Ok(Some(7.0)));
    let pad = "length(lpad('a', CAST(CASE WHEN n = 7 THEN -2147483648 ELSE n END AS int), 'x'))";
    assert_eq!(total(pad, integers([Some(3), Some(7), Some(4)])).await, Ok(Some(7.0)));
}

#[tokio::test]
async fn decimals_with_more_digits_than_their_type_are_an_error() {
    let large = "CAST('60000000000000000000000000000000000000' AS decimal(38, 0))";
    for text in [format!("{large} + {large} + n"), format!("{large} * (n + 1)"), format!("-(-{large} - {large}) + n")] {
        let error = total(&text, integers([Some(1)])).await.expect_err(&text);
        assert!(error.contains("precision 38") || error.contains("verflow"), "{text}: {error}");
        // It is left out by the filter.
        assert_eq!(total(&text, integers([Some(101)])).await, Ok(None), "{text}");
    }
}
