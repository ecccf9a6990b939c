//! Queries that are no views: refused by `build` where the text tells it, and else by a plan, with the set, the view, and the table
//! or column.

use asof::{
    Aggregate, Error, Expression, FeatureSet, FeatureStore, WindowLength,
    catalog::{FactTable, KnownAt, TimeColumn},
    encoder::Number,
    feature_set::{Ahead, Source, View},
    temporal::Spine,
    time::TimeUnit,
};
use chrono::TimeDelta;
use tempfile::TempDir;

use crate::{
    any_key::{second, table},
    bad_input::says,
    parity::{bit_rows, whole},
    training::{integers, known_at_once},
    views::{KEYS, bench, moved_table, sales, seconds, spine},
};

#[test]
fn what_can_be_told_of_a_view_without_tables_is_told_by_build() {
    let set = || FeatureSet::entities("sales_v1", "sales").key("shop").all_before([Aggregate::count().named("sales")]);
    let built = |query: &str| set().view(View::sql("sales", query)).build().unwrap_err();
    let place = "feature set `sales_v1`: ";
    says!(
        built("SELECT at, now() - at AS age FROM orders"),
        Error::Volatile { .. },
        place,
        "column `age` of view `sales`",
        "`now`"
    );
    says!(built("SELECT random() FROM orders"), Error::Volatile { .. }, "column `random()` of view `sales`");
    says!(built("SELECT at FROM a UNION ALL SELECT current_date AS day FROM b"), Error::Volatile { .. }, "column `day`");
    says!(built("SELECT at FROM orders WHERE at < now()"), Error::Volatile { .. }, place, "view `sales`", "`now`");
    says!(built("SELECT"), Error::Definition { .. }, place, "view `sales`", "cannot be read");
    says!(built("SELECT 1; SELECT 2"), Error::Definition { .. }, "view `sales`", "one statement");
    says!(
        built("SELECT * FROM a INTERSECT SELECT * FROM b"),
        Error::Definition { .. },
        place,
        "view `sales`",
        "its INTERSECT",
        "WHERE"
    );
    says!(
        built("SELECT * FROM (SELECT * FROM a EXCEPT ALL SELECT * FROM b) o"),
        Error::Definition { .. },
        "view `sales`",
        "EXCEPT"
    );
    says!(
        built("WITH w AS (SELECT * FROM a UNION ALL (SELECT * FROM a EXCEPT SELECT * FROM b)) SELECT * FROM w"),
        Error::Definition { .. },
        "EXCEPT"
    );
    says!(built("EXPLAIN SELECT at FROM orders"), Error::Definition { .. }, "view `sales`", "is no SELECT");
    says!(built("SHOW TABLES"), Error::Definition { .. }, "view `sales`", "reads no table");
    says!(built("SELECT 1 AS shop"), Error::Definition { .. }, "view `sales`", "reads no table");
    says!(built("SELECT * FROM sales WHERE price > 1"), Error::Definition { .. }, "view `sales`", "table of its own name");
    says!(built("SELECT * FROM \"No Table\""), Error::InvalidName { .. }, "No Table");
    let view = |name: &str| View::sql(name, "SELECT at, shop FROM orders");
    says!(
        set().view(view("sales")).view(view("sales")).build().unwrap_err(),
        Error::Definition { .. },
        "two of its views",
        "`sales`"
    );
    says!(set().view(view("other")).build().unwrap_err(), Error::Definition { .. }, "no source reads its view `other`");
    says!(set().view(view("a.sales")).build().unwrap_err(), Error::Mistakes { .. }, "`a.sales`", "without a dot");
    says!(set().view(view("Sales")).build().unwrap_err(), Error::Mistakes { .. }, "view `Sales` cannot be used");
    let timeless = set().view(view("sales")).also(Source::timeless("sales").on("shop").lookup("a", "b"));
    says!(timeless.build().unwrap_err(), Error::Definition { .. }, "`sales` is a view of facts, and not timeless");
    let nested =
        set().view(view("sales")).view(View::sql("x", "SELECT * FROM sales")).also(Source::of("x").on("shop").lookup("a", "b"));
    says!(nested.build().unwrap_err(), Error::Definition { .. }, "`x` reads its view `sales`");
    let rows = FeatureSet::rows("rows_v1", "SELECT at FROM sales").table("sales").event_time("at").encode(Number::of("price"));
    let rows = rows.view(view("sales")).label_ahead(Ahead::of("sales").on("shop").next("price", "next"));
    says!(rows.build().unwrap_err(), Error::Definition { .. }, "its view `sales` as a table of its query", "WITH sales AS");
}

pub(crate) async fn refusals_bench() -> (TempDir, FeatureStore) {
    let (dir, store, _) = bench(4).await;
    let columns =
        || [("shop", integers([Some(1)])), ("at", seconds([Some(1)].into_iter())), ("known", seconds([Some(2)].into_iter()))];
    let delayed = |s: i64| FactTable::new("at", KnownAt::after(TimeDelta::seconds(s)));
    table(&dir, &store, "soon", &columns(), delayed(5)).await;
    table(&dir, &store, "later", &columns(), delayed(9)).await;
    table(&dir, &store, "berlin", &columns(), delayed(5).zone("Europe/Berlin".parse().unwrap())).await;
    table(&dir, &store, "corrected", &columns(), moved_table().identity("shop")).await;
    table(&dir, &store, "tied", &columns(), delayed(5).tie_break("known")).await;
    let numbers = [("shop", integers([Some(1)])), ("at", integers([Some(1)])), ("known", integers([Some(1)]))];
    table(
        &dir,
        &store,
        "numbers",
        &numbers,
        FactTable::new(TimeColumn::epoch("at", TimeUnit::Second), KnownAt::after(TimeDelta::seconds(5))),
    )
    .await;
    let twice = [("shop", integers([Some(1), Some(1)])), ("size", integers([Some(1), Some(2)]))];
    table(&dir, &store, "twice", &twice, FactTable::timeless(["shop"])).await;
    (dir, store)
}

/// Each query with words of its refusal. All are refused by a plan, which reads no file, and by whatever computes.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_whose_rows_are_not_made_of_one_fact_is_refused() {
    let (_dir, store) = refusals_bench().await;
    let refusals: &[(&str, &[&str])] = &[
        (
            "SELECT max(ordered_at) AS ordered_at, shop FROM orders GROUP BY shop",
            &["aggregates rows of `orders`", "max(orders.ordered_at)"],
        ),
        ("SELECT DISTINCT ordered_at, paid_at, shop FROM orders", &["DISTINCT", "`orders`"]),
        ("SELECT o.* FROM orders o LEFT SEMI JOIN shops s ON o.shop = s.shop", &["LeftSemi join", "write `orders` JOIN `shops`"]),
        (
            "SELECT o.* FROM orders o LEFT ANTI JOIN shops s ON o.shop = s.shop",
            &["LeftAnti join", "LEFT JOIN `shops`", "IS NULL"],
        ),
        (
            "SELECT ordered_at, paid_at, shop FROM orders UNION SELECT known, at, shop FROM refunds",
            &["UNION ALL", "`orders`, `refunds`"],
        ),
        (
            "SELECT ordered_at, paid_at, shop, row_number() OVER () AS n FROM orders",
            &["window function", "row_number", "`orders`"],
        ),
        ("SELECT ordered_at, paid_at, shop FROM orders ORDER BY shop", &["ORDER BY"]),
        ("SELECT ordered_at, paid_at, shop FROM orders LIMIT 5", &["LIMIT", "`orders`"]),
        (
            "SELECT ordered_at, paid_at, o.shop FROM orders AS o JOIN refunds AS r ON o.shop = r.shop",
            &["facts of `orders` with facts of `refunds`"],
        ),
        ("SELECT a.ordered_at, a.paid_at, a.shop FROM orders AS a, orders AS b", &["facts of `orders` with facts of `orders`"]),
        (
            "SELECT ordered_at, paid_at, o.shop FROM shops AS s LEFT JOIN orders AS o ON o.shop = s.shop",
            &["`orders` with `shops`", "LEFT JOIN"],
        ),
        (
            "SELECT ordered_at, paid_at, o.shop FROM orders AS o FULL JOIN shops AS s ON o.shop = s.shop",
            &["Full join of `orders` with `shops`"],
        ),
        ("SELECT ordered_at, paid_at, o.shop FROM orders AS o RIGHT JOIN shops AS s ON o.shop = s.shop", &["Right join"]),
        (
            "SELECT ordered_at, paid_at, shop FROM orders WHERE shop IN (SELECT shop FROM refunds)",
            &["its WHERE holds a subquery"],
        ),
        (
            "SELECT ordered_at, paid_at, shop, (SELECT max(factor) FROM shops) AS most FROM orders",
            &["column `most` holds a subquery"],
        ),
        ("SELECT ordered_at, paid_at, shop FROM orders WHERE EXISTS (SELECT 1 FROM shops)", &["its WHERE holds a subquery"]),
        (
            "SELECT ordered_at, paid_at, o.shop FROM orders AS o JOIN (SELECT shop, count(*) AS n FROM shops GROUP BY shop) AS s ON o.shop = s.shop",
            &["aggregates rows of `shops`"],
        ),
        (
            "SELECT o.* FROM orders AS o ASOF JOIN refunds AS r MATCH_CONDITION (o.ordered_at > r.known) ON o.shop = r.shop",
            &["ASOF JOIN"],
        ),
        ("SELECT ordered_at, paid_at, unnest([shop, 1]) AS shop FROM orders", &["`unnest`", "`orders`"]),
        ("SELECT shop FROM shops", &["timeless tables alone, `shops`", "Source::timeless"]),
        ("SELECT paid_at, shop FROM orders", &["`ordered_at`, the event time of `orders`", "any name"]),
        ("SELECT ordered_at AS at, shop FROM orders", &["`paid_at`, the known-at of `orders`", "any name"]),
        (
            "SELECT ordered_at + INTERVAL '1 second' AS moved, paid_at, shop FROM orders",
            &["column `moved` is computed from `ordered_at`, the event time of `orders`"],
        ),
        (
            "SELECT ordered_at, coalesce(paid_at, ordered_at) AS known, shop FROM orders",
            &["column `known` is computed from `paid_at`, the known-at of `orders`"],
        ),
        ("SELECT at, shop FROM tied", &["`known`, the tie-break of `tied`"]),
        ("SELECT at, known, shop FROM corrected", &["`corrected`", "its identity is `shop`"]),
        (
            "SELECT at, shop FROM soon UNION ALL SELECT known, shop FROM refunds",
            &["different known-at", "5 seconds after the event time in `soon`", "the column `at` in `refunds`"],
        ),
        ("SELECT at, shop FROM soon UNION ALL SELECT at, shop FROM later", &["different known-at", "5 seconds", "9 seconds"]),
        (
            "SELECT at, shop FROM soon UNION ALL SELECT at, shop FROM berlin",
            &["different zones", "no zone in `soon`", "Europe/Berlin in `berlin`"],
        ),
        ("SELECT at, shop FROM soon UNION ALL SELECT at, shop FROM numbers", &["different event times", "`soon`", "`numbers`"]),
        (
            "SELECT at, shop, known FROM soon UNION ALL SELECT at, shop, known FROM tied",
            &["different tie-breaks", "none in `soon`", "`known` in `tied`"],
        ),
        (
            "SELECT at, known, shop FROM soon UNION ALL SELECT known, at, shop FROM soon",
            &["the event time is another", "`at` for `soon` (`at`), `known` for `soon` (`at`)"],
        ),
        ("SELECT ordered_at, paid_at, shop FROM orders UNION ALL SELECT NULL, NULL, shop FROM shops", &["no table of facts"]),
        ("SELECT *, 1 AS shop FROM orders", &["shop"]),
        (
            "SELECT o.ordered_at, o.paid_at, o.shop, s.shop FROM orders AS o JOIN shops AS s ON o.shop = s.shop",
            &["two of its columns are called `shop`"],
        ),
        ("SELECT ordered_at, paid_at, shop FROM orders WHERE price > $1", &["view `sales`"]),
    ];
    for (query, words) in refusals {
        let set = sales(query);
        let other = store.clone();
        other.register(set).unwrap();
        for told in [
            other.plan("sales_v1", second(30)).await.map(drop).unwrap_err(),
            other.materialize("sales_v1", second(30)).await.map(drop).unwrap_err(),
            other.training_set("sales_v1", Spine::new(spine(&KEYS, &[1]), "t")).await.map(drop).unwrap_err(),
            other.materialize_many("sales_v1", &[second(20), second(30)]).await.map(drop).unwrap_err(),
        ] {
            assert!(matches!(told, Error::Definition { .. }), "{query}: {told:?}");
            let told = told.to_string();
            for word in words.iter().chain(&["feature set `sales_v1`", "view `sales`"]) {
                assert!(told.contains(word), "`{word}` is not in: {told}\n{query}");
            }
        }
        says!(
            store.facts_of_view(&View::sql("sales", *query), second(30)).await.unwrap_err(),
            Error::Definition { .. },
            "view `sales`"
        );
        other.forget_set("sales_v1").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_a_view_lacks_and_broken_dimensions_are_told_with_the_view() {
    let (dir, store) = refusals_bench().await;
    let of = |query: &str| FeatureSet::entities("sales_v1", "sales").key("shop").view(View::sql("sales", query));
    let paid = "SELECT ordered_at, paid_at, shop, price AS amount FROM orders";
    let set = of(paid).lookup("price", "last").all_before([Aggregate::sum(Expression::sql("price * 2")).named("twice")]);
    let set = set.window(WindowLength::since("price > 1"), [Aggregate::count().named("since_dear")]);
    store.register(set.build().unwrap()).unwrap();
    let told = store.plan("sales_v1", second(1)).await.unwrap_err();
    says!(
        told,
        Error::Mistakes { .. },
        "`last` of feature set `sales_v1`: view `sales` has no column `price`",
        "`twice`",
        "feature `since_dear` of feature set `sales_v1`: view `sales`, which the condition `price > 1` reads,",
        "amount"
    );
    store.forget_set("sales_v1").await.unwrap();

    let twice = "SELECT o.ordered_at, o.paid_at, o.shop, t.size FROM orders AS o LEFT JOIN twice AS t ON o.shop = t.shop";
    store.register(of(twice).lookup("size", "size").build().unwrap()).unwrap();
    let told = store.materialize("sales_v1", second(30)).await.unwrap_err();
    says!(told, Error::Definition { .. }, "feature set `sales_v1`", "view `sales`", "table `twice`", "2 rows for shop = 1");
    store.forget_set("sales_v1").await.unwrap();

    store.register(of("SELECT ordered_at, paid_at, shops FROM orders").lookup("size", "size").build().unwrap()).unwrap();
    let told = store.plan("sales_v1", second(30)).await.unwrap_err();
    says!(told, Error::UnknownColumn { .. }, "view `sales`", "no column `shops`");
    store.forget_set("sales_v1").await.unwrap();

    // An expression is never evaluated on a fact that is not visible.
    let halves = [
        ("shop", integers([Some(1), Some(1)])),
        ("at", seconds([Some(1), Some(50)].into_iter())),
        ("n", integers([Some(2), Some(0)])),
    ];
    table(&dir, &store, "halves", &halves, known_at_once()).await;
    store.register(of("SELECT at, shop, 4 / n AS x FROM halves").lookup("x", "x").build().unwrap()).unwrap();
    assert_eq!(bit_rows(&whole(&store.materialize("sales_v1", second(30)).await.unwrap()).await), ["1 2"]);
    assert!(store.materialize("sales_v1", second(60)).await.is_err());

    let nothing = store.facts_of_view(&View::sql("none", "SELECT * FROM nosuch"), second(1)).await.unwrap_err();
    says!(nothing, Error::UnknownTable { .. }, "nosuch");
}
