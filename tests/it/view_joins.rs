//! Views of joins whose sides have columns of the same names, asked by a spine of another session; and what a view says when it fails.

use asof::{
    Aggregate, FeatureSet,
    feature_set::View,
    temporal::{Lookup, Spine, Window},
};
use datafusion::{
    arrow::{array::AsArray, datatypes::Int64Type},
    prelude::SessionContext,
};

use crate::{
    any_key::second,
    training::{batch, instants, integers},
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
