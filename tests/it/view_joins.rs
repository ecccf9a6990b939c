//! Views of joins whose sides have columns of the same names, asked by a spine of another session; and what a view says when it fails.

use asof::{
    Aggregate, FeatureSet,
    catalog::{FactTable, KnownAt},
    feature_set::View,
    temporal::{Facts, Lookup, Spine, Window},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{array::AsArray, datatypes::Int64Type},
    prelude::SessionContext,
};

use crate::{
    any_key::second,
    parity::bit_rows,
    training::{batch, collected, instants, integers},
    views::{bench, spine},
};

/// The filter is on a column of one side; the facts have a column of this name, too.
const OF_UNKNOWN_SHOPS: &str = "
    SELECT o.ordered_at AS at, o.paid_at AS known, q.shop AS quantity, o.price
    FROM orders o LEFT JOIN shops s ON s.shop = o.shop JOIN shops q ON o.quantity = q.shop WHERE s.shop IS NULL";

#[tokio::test(flavor = "multi_thread")]
async fn a_spine_of_another_session_reads_a_view_of_joins() {
    let mut with_shop = 0;
    for seed in 20..26 {
        let (_dir, store, world) = bench(seed).await;
        let facts = store.facts_of_view(&View::sql("unknown", OF_UNKNOWN_SHOPS), second(1_000)).await.unwrap();
        let spine = batch(vec![("quantity", integers((0..5).map(Some))), ("t", instants((0..5).map(|_| Some(1_000_000_000))))]);
        let spine = || Spine::new(SessionContext::new().read_batch(spine.clone()).unwrap(), "t");
        let window = Window::of(facts.clone()).on("quantity").all_before([Aggregate::count().named("n")]);
        let rows = spine().window([window]).unwrap().into_rows().collect().await.unwrap();
        let counts: Vec<i64> = rows.iter().flat_map(|rows| rows["n"].as_primitive::<Int64Type>().values().to_vec()).collect();
        let (orders, shops) = (&world.orders, &world.shops);
        let seen = |quantity: i64| {
            let is_known = move |shop: &i64| shops.contains_key(shop);
            orders.iter().filter(move |(shop, at, known, _, of_order, _)| {
                let is_seen = at.is_some() && known.is_some() && *of_order == Some(quantity);
                is_seen && is_known(&quantity) && !shop.as_ref().is_some_and(is_known)
            })
        };
        assert_eq!(counts, (0..5).map(|quantity| seen(quantity).count() as i64).collect::<Vec<_>>(), "seed {seed}");
        with_shop += (0..5).flat_map(seen).filter(|order| order.0.is_some()).count();
        let lookup = Lookup::of(facts).on("quantity").column("price");
        let rows = spine().lookup([lookup]).unwrap().into_rows().collect().await.unwrap();
        let found: usize = rows.iter().map(|rows| rows.num_rows() - rows["price"].null_count()).sum();
        assert!(found <= counts.iter().filter(|count| **count > 0).count(), "seed {seed}");
    }
    assert!(with_shop > 20, "{with_shop}");
}

const OF_THREE: &str = "
    SELECT o.ordered_at AS at, o.paid_at AS known, o.shop, o.quantity, o.price
    FROM orders o JOIN shops s ON s.shop = o.shop LEFT JOIN shops q ON q.shop = o.quantity
    WHERE s.region > 0 AND q.factor IS NULL OR o.status = 'paid'
    UNION ALL
    SELECT o.ordered_at, o.paid_at, o.shop, q.shop, CASE WHEN o.price > 5 THEN 'NaN'::double ELSE -o.price END
    FROM orders o LEFT JOIN shops s ON s.shop = o.shop JOIN shops q ON q.shop = o.quantity
    WHERE s.region IS NULL AND o.price > 0 OR o.status = 'open'
    UNION ALL
    SELECT r.known, r.at, r.shop, s.region, r.amount
    FROM refunds r LEFT JOIN shops s USING (shop) LEFT JOIN shops q ON q.shop = s.region WHERE s.factor > 1 OR q.region IS NULL";

/// The rows of the query, held in memory and declared alike, give what the view gives.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_the_rows_of_its_query() {
    let mut found = 0;
    for seed in 30..38 {
        let (_dir, store, _) = bench(seed).await;
        for query in [OF_UNKNOWN_SHOPS, OF_THREE] {
            let rows = collected(store.sql(query, second(1_000)).await.unwrap()).await;
            found += rows.num_rows();
            let rows = SessionContext::new().read_batch(rows).unwrap();
            let rows = Facts::new("rows", rows, FactTable::new("at", KnownAt::column("known")));
            let view = store.facts_of_view(&View::sql("view", query), second(1_000)).await.unwrap();
            let mut answers = Vec::new();
            for facts in [view, rows] {
                let keys: Vec<(i64, i64)> = (0..8).flat_map(|key| [3, 9, 17, 26, 41, 99].map(|t| (key, t * 1_000_000))).collect();
                let spine = batch(vec![
                    ("quantity", integers(keys.iter().map(|key| Some(key.0)))),
                    ("t", instants(keys.iter().map(|key| Some(key.1)))),
                ]);
                let spine = Spine::new(SessionContext::new().read_batch(spine).unwrap(), "t");
                let lookup = Lookup::of(facts.clone()).on("quantity").columns(["price", "at"]).max_age(TimeDelta::seconds(12));
                let amounts = [Aggregate::count().named("n"), Aggregate::last_k("price", 9).named("last")];
                let window = Window::of(facts).on("quantity").trailing(TimeDelta::seconds(7), amounts);
                let asked = spine.lookup([lookup]).unwrap().window([window]).unwrap();
                answers.push(bit_rows(&collected(asked.into_rows()).await));
            }
            assert_eq!(answers[0], answers[1], "seed {seed}: {query}");
        }
    }
    assert!(found > 1_000, "{found}");
}

/// The view is named, whether the facts are read for a spine or for all entities.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_fails_is_named() {
    let (_dir, store, _) = bench(3).await;
    let failing = || View::sql("shares", "SELECT ordered_at, paid_at, shop, 10 / (quantity - 2) AS share FROM orders");
    let set = FeatureSet::entities("shares_v1", "shares").key("shop").view(failing()).lookup("share", "share");
    store.register(set.build().unwrap()).unwrap();
    let told = store.materialize("shares_v1", second(40)).await.unwrap_err().to_string();
    assert!(told.contains("view `shares`") && told.contains("Divide by zero"), "{told}");
    let facts = store.facts_of_view(&failing(), second(40)).await.unwrap();
    let rows = Spine::new(spine(&[Some(1)], &[60]), "t").lookup([Lookup::of(facts).on("shop").column("share")]).unwrap();
    let told = rows.into_rows().collect().await.unwrap_err().to_string();
    assert!(told.contains("view `shares`") && told.contains("Divide by zero"), "{told}");
}
