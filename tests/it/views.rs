//! Views as sources: a set over a view is the set over a table that holds the view's rows, bit for bit, whoever asks. A view
//! whose rows are not made of one fact each is refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use asof::{
    Aggregate, AsOf, Error, Expression, FeatureSet, FeatureStore, StoreOptions, Value, WindowLength,
    catalog::{FactTable, KnownAt},
    encoder::Number,
    feature_set::{Ahead, EntitySetBuilder, Source, View},
    materialize::Incremental,
    parity::ParitySample,
    temporal::{Lookup, Spine, Window},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{ArrayRef, Float64Array, Int64Array, StringArray},
        util::pretty::pretty_format_batches,
    },
    prelude::{DataFrame, SessionContext},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tempfile::TempDir;

use crate::{
    any_key::{SECOND_US, both, second, table},
    bad_input::says,
    parity::{bit_rows, whole},
    support::{store, store_with, temp_dir, write_parquet},
    training::{batch, collected, floats, instants, integers, known_at_once},
    view_refusals::refusals_bench,
};

/// An order: shop, event time, known-at, price, quantity, status.
pub(crate) type Order = (Option<i64>, Option<i64>, Option<i64>, Option<f64>, Option<i64>, Option<&'static str>);
/// A refund: shop, event time, known-at, amount.
type Refund = (i64, i64, i64, Option<f64>);
/// Shops with a region and a factor.
pub(crate) type Shops = BTreeMap<i64, (Option<i64>, Option<f64>)>;
/// A row of the view: event time, known-at, shop, region, amount, kind.
type Move = (Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<f64>, &'static str);

pub(crate) struct World {
    pub(crate) orders: Vec<Order>,
    refunds: Vec<Refund>,
    pub(crate) shops: Shops,
}

/// Facts tie, come late, and lack keys, times and values. The table of refunds calls its event time `known` and its known-at
/// `at`.
fn world(seed: u64) -> World {
    let mut rng = StdRng::seed_from_u64(seed);
    let late = [0, 0, 1, 7, 30];
    let orders = (0..160).map(|_| {
        let at = (!rng.random_bool(0.04)).then(|| rng.random_range(0..40));
        let known = at.filter(|_| !rng.random_bool(0.04)).map(|at| at + late.choose(&mut rng).unwrap());
        let price = (!rng.random_bool(0.1)).then(|| f64::from(rng.random_range(-9..40)) / 3.0);
        let status = [Some("paid"), Some("paid"), Some("open"), None].choose(&mut rng).copied().unwrap();
        let shop = (!rng.random_bool(0.05)).then(|| rng.random_range(0..6));
        (shop, at, known, price, (!rng.random_bool(0.1)).then(|| rng.random_range(0..5)), status)
    });
    let orders = orders.collect();
    let refunds = (0..60).map(|_| {
        let at = rng.random_range(0..40);
        let amount = (!rng.random_bool(0.1)).then(|| f64::from(rng.random_range(1..50)) / 7.0);
        (rng.random_range(0..8), at, at + late.choose(&mut rng).unwrap(), amount)
    });
    let refunds = refunds.collect();
    let shop = |rng: &mut StdRng| {
        let factor = (!rng.random_bool(0.2)).then(|| f64::from(rng.random_range(1..9)) / 4.0);
        (rng.random_range(0..7), ((!rng.random_bool(0.3)).then(|| rng.random_range(0..3)), factor))
    };
    World { orders, refunds, shops: (0..6).map(|_| shop(&mut rng)).collect() }
}

/// The paid orders of all shops, and the refunds of shops in regions above zero.
const MOVES: &str = "
    WITH paid AS (
        SELECT ordered_at AS at, paid_at AS known, shop, price * quantity AS amount FROM orders WHERE status = 'paid' AND price > -2
    )
    SELECT p.known, p.at, p.shop, s.region, p.amount * coalesce(s.factor, 1) AS amount, 'order' AS kind
    FROM paid AS p LEFT JOIN shops AS s ON p.shop = s.shop
    UNION ALL
    SELECT at, known, r.shop, region, -amount, 'refund' FROM shops AS s JOIN refunds AS r USING (shop) WHERE s.region > 0";

/// The same, by hand.
fn moves(World { orders, refunds, shops }: &World) -> Vec<Move> {
    let mut moves = Vec::new();
    for &(shop, at, known, price, quantity, status) in orders {
        if status != Some("paid") || !price.is_some_and(|price| price > -2.0) {
            continue;
        }
        let (region, factor) = shop.and_then(|shop| shops.get(&shop)).copied().unwrap_or_default();
        let amount = price.zip(quantity).map(|(price, quantity)| price * quantity as f64 * factor.unwrap_or(1.0));
        moves.push((at, known, shop, region, amount, "order"));
    }
    for &(shop, at, known, amount) in refunds {
        if let Some((Some(region), _)) = shops.get(&shop)
            && *region > 0
        {
            moves.push((Some(at), Some(known), Some(shop), Some(*region), amount.map(|amount| -amount), "refund"));
        }
    }
    moves
}

pub(crate) fn seconds(times: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    instants(times.map(|s| s.map(|s| s * SECOND_US)))
}

fn orders_table() -> FactTable {
    FactTable::new("ordered_at", KnownAt::column("paid_at"))
}

fn shop_columns(shops: &Shops) -> [(&'static str, ArrayRef); 3] {
    [
        ("shop", integers(shops.keys().map(|shop| Some(*shop)))),
        ("region", integers(shops.values().map(|(region, _)| *region))),
        ("factor", floats(shops.values().map(|(_, factor)| *factor))),
    ]
}

/// Orders in two files, refunds, shops, and `moved`, a table with the rows of the view.
async fn tables(dir: &TempDir, store: &FeatureStore, world: &World) {
    let World { orders, refunds, shops } = world;
    let place = dir.path().join("orders");
    for (file, orders) in orders.chunks(orders.len().div_ceil(2)).enumerate() {
        let statuses: ArrayRef = Arc::new(orders.iter().map(|order| order.5).collect::<StringArray>());
        let columns = [
            ("shop", integers(orders.iter().map(|order| order.0))),
            ("ordered_at", seconds(orders.iter().map(|order| order.1))),
            ("paid_at", seconds(orders.iter().map(|order| order.2))),
            ("price", floats(orders.iter().map(|order| order.3))),
            ("quantity", integers(orders.iter().map(|order| order.4))),
            ("status", statuses),
        ];
        write_parquet(&place.join(format!("{file}.parquet")), &columns, None);
    }
    store.register_table("orders", place.to_str().unwrap(), orders_table()).await.unwrap();
    let columns = [
        ("shop", integers(refunds.iter().map(|refund| Some(refund.0)))),
        ("known", seconds(refunds.iter().map(|refund| Some(refund.1)))),
        ("at", seconds(refunds.iter().map(|refund| Some(refund.2)))),
        ("amount", floats(refunds.iter().map(|refund| refund.3))),
    ];
    table(dir, store, "refunds", &columns, FactTable::new("known", KnownAt::column("at"))).await;
    table(dir, store, "shops", &shop_columns(shops), FactTable::timeless(["shop"])).await;
    let rows = moves(world);
    let kinds: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.5)).collect::<StringArray>());
    let columns = [
        ("known", seconds(rows.iter().map(|row| row.1))),
        ("at", seconds(rows.iter().map(|row| row.0))),
        ("shop", integers(rows.iter().map(|row| row.2))),
        ("region", integers(rows.iter().map(|row| row.3))),
        ("amount", floats(rows.iter().map(|row| row.4))),
        ("kind", kinds),
    ];
    table(dir, store, "moved", &columns, moved_table()).await;
}

pub(crate) fn moved_table() -> FactTable {
    FactTable::new("at", KnownAt::column("known"))
}

/// Features of shops from `source`, which is the view or the table with its rows.
fn by_shop(name: &str, source: &str) -> EntitySetBuilder {
    let amounts = |prefix: &str| {
        let named = |aggregate: Aggregate, name: &str| aggregate.named(format!("{prefix}_{name}"));
        [
            named(Aggregate::count(), "count"),
            named(Aggregate::sum("amount"), "sum"),
            named(Aggregate::mean(Expression::sql("amount * 3")), "mean"),
            named(Aggregate::median("amount").filter("kind = 'order'"), "median"),
            named(Aggregate::max_by("kind", "amount"), "kind"),
        ]
    };
    let of_source = FeatureSet::entities(name, source)
        .key("shop")
        .lookup("amount", "amount")
        .lookup("kind", "kind")
        .max_age(TimeDelta::seconds(25))
        .window(TimeDelta::seconds(8), amounts("short"))
        .window(WindowLength::facts(3), [Aggregate::sum("amount").named("of_three"), Aggregate::last_k("kind", 3).named("kinds")])
        .all_before(amounts("all"))
        .also(Source::of("orders").on("shop").all_before([Aggregate::count().named("orders")]))
        .also(Source::timeless("shops").on("shop").lookup("region", "region"));
    if source == "moves" { of_source.view(View::sql("moves", MOVES)) } else { of_source }
}

pub(crate) async fn bench(seed: u64) -> (TempDir, FeatureStore, World) {
    let dir = temp_dir();
    let store = store(&dir.path().join("store")).await;
    let world = world(seed);
    tables(&dir, &store, &world).await;
    (dir, store, world)
}

pub(crate) fn spine(keys: &[Option<i64>], times: &[i64]) -> DataFrame {
    let rows: Vec<(Option<i64>, i64)> = times.iter().flat_map(|time| keys.iter().map(move |key| (*key, *time))).collect();
    let columns = vec![("shop", integers(rows.iter().map(|row| row.0))), ("t", seconds(rows.iter().map(|row| Some(row.1))))];
    SessionContext::new().read_batch(batch(columns)).unwrap()
}

pub(crate) const KEYS: [Option<i64>; 10] =
    [Some(0), Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), Some(7), Some(99), None];

#[tokio::test(flavor = "multi_thread")]
async fn a_set_over_a_view_is_the_set_over_a_table_with_its_rows() {
    for seed in 0..4 {
        let (_dir, store, _) = bench(seed).await;
        for (set, source) in [("view_v1", "moves"), ("view_v2", "moves"), ("table_v1", "moved")] {
            store.register(by_shop(set, source).build().unwrap()).unwrap();
        }
        let times = [-5, 0, 1, 9, 20, 33, 41, 90];
        let instants = times.map(second);
        let many = store.materialize_many("view_v2", &instants).await.unwrap();
        let asked: Vec<Vec<Value>> = KEYS.iter().map(|key| vec![key.map_or(Value::Null, Value::Int)]).collect();
        let mut rows = 0;
        for (at, of_many) in instants.into_iter().zip(many) {
            let of_view = whole(&store.materialize("view_v1", at).await.unwrap()).await;
            let of_table = whole(&store.materialize("table_v1", at).await.unwrap()).await;
            assert_eq!(bit_rows(&of_view), bit_rows(&of_table), "seed {seed} at {at}");
            assert_eq!(bit_rows(&whole(&of_many).await), bit_rows(&of_table), "seed {seed} at {at}, many");
            rows += of_view.num_rows();
            // Training and serving, key by key.
            let (trained, served, known) = both(&store, "view_v1", &["shop"], &asked, at).await;
            let expected = both(&store, "table_v1", &["shop"], &asked, at).await;
            assert_eq!(trained, served, "seed {seed} at {at}");
            assert_eq!((trained, known), (expected.0, expected.2), "seed {seed} at {at}");
        }
        assert!(rows > 20);
        // One training set with all instants, whose facts are read with a filter on the spine's range.
        let mut trained = Vec::new();
        for set in ["view_v1", "table_v1"] {
            let spine = Spine::new(spine(&KEYS, &[3, 11, 12, 35]), "t");
            let made = store.training_set(set, spine).await.unwrap();
            trained.push(bit_rows(&collected(made.dataframe().await.unwrap()).await));
        }
        assert_eq!(trained[0], trained[1], "seed {seed}");
        let report = store.verify_parity("view_v1", second(30), ParitySample::all()).await.unwrap();
        assert!(report.is_equal(), "{report}");
    }
}

/// A set by a column that only the dimension has; inclusive.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_brings_the_keys_of_a_dimension() {
    let (_dir, store, world) = bench(12).await;
    let by_region = |name: &str, source: &str| {
        let set = FeatureSet::entities(name, source).key("region").inclusive().lookup("shop", "shop");
        set.window(TimeDelta::seconds(9), [Aggregate::sum("amount"), Aggregate::count_distinct("shop")])
    };
    store.register(by_region("view_v1", "moves").view(View::sql("moves", MOVES)).build().unwrap()).unwrap();
    store.register(by_region("table_v1", "moved").build().unwrap()).unwrap();
    let mut found = 0;
    for at in [5, 17, 40] {
        let of_view = whole(&store.materialize("view_v1", second(at)).await.unwrap()).await;
        let of_table = whole(&store.materialize("table_v1", second(at)).await.unwrap()).await;
        assert_eq!(bit_rows(&of_view), bit_rows(&of_table));
        let is_seen = |time: Option<i64>| time.is_some_and(|time| time <= at);
        let seen = moves(&world).into_iter().filter(|row| is_seen(row.0) && is_seen(row.1));
        let regions: BTreeSet<i64> = seen.filter_map(|row| row.3).collect();
        assert_eq!(of_view.num_rows(), regions.len(), "at {at} s");
        found += regions.len();
    }
    assert!(found > 0);
}

/// A set of rows draws on a set over a view, and its labels lie ahead in another view of the same name.
#[tokio::test(flavor = "multi_thread")]
async fn sets_of_rows_draw_on_views_and_look_ahead_in_them() {
    let large = "SELECT at, known, shop, amount FROM refunds WHERE amount > 2";
    for seed in [5, 6] {
        let (dir, store, world) = bench(seed).await;
        let kept: Vec<&Refund> = world.refunds.iter().filter(|refund| refund.3.is_some_and(|amount| amount > 2.0)).collect();
        let columns = [
            ("shop", integers(kept.iter().map(|refund| Some(refund.0)))),
            ("known", seconds(kept.iter().map(|refund| Some(refund.1)))),
            ("at", seconds(kept.iter().map(|refund| Some(refund.2)))),
            ("amount", floats(kept.iter().map(|refund| refund.3))),
        ];
        table(&dir, &store, "large", &columns, FactTable::new("known", KnownAt::column("at"))).await;
        let rows = |name: &str, drawn: &FeatureSet, ahead: &str| {
            let labels = [Aggregate::count().named("refunds_5s"), Aggregate::sum("amount").named("refunded_5s")];
            FeatureSet::rows(name, "SELECT ordered_at, shop, price FROM orders")
                .table("orders")
                .event_time("ordered_at")
                .features_of(drawn.by(["shop"]).only(["short_sum", "all_count", "amount"]))
                .pass(["short_sum", "all_count", "amount"])
                .encode(Number::of("price"))
                .label_ahead(
                    Ahead::of(ahead)
                        .on("shop")
                        .settle(TimeDelta::seconds(4))
                        .window(TimeDelta::seconds(5), labels)
                        .next("amount", "next_refund"),
                )
        };
        let (of_view, of_table) = (by_shop("shops_v1", "moves").build().unwrap(), by_shop("shops_v2", "moved").build().unwrap());
        let over_views = rows("orders_v1", &of_view, "moves").view(View::sql("moves", large)).build().unwrap();
        assert_eq!(over_views.views().iter().map(View::name).collect::<Vec<_>>(), ["moves", "moves"]);
        assert_eq!(over_views.tables().iter().map(ToString::to_string).collect::<Vec<_>>(), ["orders", "refunds", "shops"]);
        for set in [over_views, rows("orders_v2", &of_table, "large").build().unwrap(), of_view, of_table] {
            store.register(set).unwrap();
        }
        let at = second(60);
        let of_views = whole(&store.materialize("orders_v1", at).await.unwrap()).await;
        assert_eq!(bit_rows(&of_views), bit_rows(&whole(&store.materialize("orders_v2", at).await.unwrap()).await));
        assert!(of_views.num_rows() > 10);
        for set in ["shops_v1", "shops_v2"] {
            store.materialize(set, at).await.unwrap();
        }
        let request = [("shop", Value::Int(2)), ("price", Value::Float(1.5)), ("ordered_at", at.into())];
        let mut served = Vec::new();
        for set in ["orders_v1", "orders_v2"] {
            let row = store.online(set).await.unwrap().encode_row(&request).unwrap();
            served.push(bit_rows(&row.batch().unwrap()));
        }
        assert_eq!(served[0], served[1]);
    }
}

/// Lookups and windows take a view from the store, with a spine of a session that knows nothing of this library.
#[tokio::test(flavor = "multi_thread")]
async fn the_operators_take_a_view_from_the_store() {
    let (_dir, store, _) = bench(21).await;
    let view = View::sql("moves", MOVES);
    let mut found = Vec::new();
    for facts in
        [store.facts_of_view(&view, AsOf::END_OF_TIME).await.unwrap(), store.facts("moved", AsOf::END_OF_TIME).await.unwrap()]
    {
        let rows = Spine::new(spine(&KEYS, &[2, 13, 14, 29]), "t")
            .lookup([Lookup::of(facts.clone()).on("shop").columns(["amount", "kind"])])
            .unwrap()
            .window([Window::of(facts).on("shop").trailing(TimeDelta::seconds(3), [Aggregate::sum("amount").named("sum")])])
            .unwrap();
        found.push(bit_rows(&collected(rows.into_rows()).await));
    }
    assert_eq!(found[0], found[1]);
    assert!(found[0].iter().any(|row| !row.ends_with("NULL")));
}

/// Filters, columns and the range of the spine reach the files, and the dimension is the side that is held.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_reads_its_own_columns_and_holds_the_dimension() {
    let (_dir, store, _) = bench(1).await;
    let view = View::sql(
        "sales",
        "SELECT o.ordered_at, o.paid_at, s.region, o.price FROM orders AS o JOIN shops AS s ON o.shop = s.shop WHERE o.quantity > 1",
    );
    let facts = store.facts_of_view(&view, second(30)).await.unwrap();
    let window = Window::of(facts).on_columns("shop", "region").trailing(TimeDelta::seconds(3), [Aggregate::sum("price")]);
    let session =
        store.sql("SELECT 1 AS shop, TIMESTAMP '1970-01-01 00:00:09' AT TIME ZONE 'UTC' AS t", second(30)).await.unwrap();
    let rows = Spine::new(session, "t").window([window]).unwrap().into_rows();
    let plan = rows.explain(false, false).unwrap().collect().await.unwrap();
    let plan = pretty_format_batches(&plan).unwrap().to_string();
    let physical = plan.split("physical_plan").nth(1).unwrap();
    let (join, scans) = physical.split_once("HashJoinExec").unwrap_or_else(|| panic!("{plan}"));
    assert!(join.contains("AsOfWindow"), "{plan}");
    // The first scan below the join is of the side that is held.
    let (shops, orders) = (scans.find("table=shops").unwrap(), scans.find("table=orders").unwrap());
    assert!(shops < orders, "{plan}");
    let of_orders = &scans[orders..];
    assert!(of_orders.contains("quantity@") && of_orders.contains("> 1"), "{plan}");
    assert!(of_orders.contains("DynamicFilter"), "the range of the spine does not reach the files: {plan}");
    assert!(!of_orders.contains("status"), "{plan}");
}

pub(crate) fn sales(query: &str) -> FeatureSet {
    let set = FeatureSet::entities("sales_v1", "sales").key("shop").all_before([Aggregate::count().named("sales")]);
    set.view(View::sql("sales", query)).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_descriptions_manifests_and_staleness_name_the_view_and_its_tables() {
    let dir = temp_dir();
    let store = store_with(&dir.path().join("store"), StoreOptions::default().cache_in_memory().incremental_from(1)).await;
    tables(&dir, &store, &world(2)).await;
    let set = sales("SELECT o.*, s.region FROM orders AS o JOIN shops AS s ON o.shop = s.shop");
    let described = set.describe();
    assert_eq!(described.views[0].name(), "sales");
    let told = described.to_string();
    for line in ["  tables  orders, shops\n", "  view sales of orders, shops\n    SELECT o.*, s.region", "count(*) of sales over"]
    {
        assert!(told.contains(line), "{line} is not in {told}");
    }
    store.register(set).unwrap();
    let plan = store.plan("sales_v1", second(30)).await.unwrap();
    assert_eq!(plan.tables.iter().map(|table| table.incremental).collect::<Vec<_>>(), [Incremental::View, Incremental::Timeless]);
    let told = plan.to_string();
    for line in ["view sales of orders, shops\n", "orders: read as a whole, since the set reads a view", "sales by shop over"] {
        assert!(told.contains(line), "{line} is not in {told}");
    }
    let made = store.materialize("sales_v1", second(30)).await.unwrap();
    assert_eq!(made.id(), plan.id);
    let manifest = made.manifest();
    assert_eq!(manifest.views[0].name(), "sales");
    assert_eq!(manifest.inputs.iter().map(|input| input.table.to_string()).collect::<Vec<_>>(), ["orders", "shops"]);
    assert!(store.replay(&made).await.unwrap().has_same_files());
    assert!(store.stale("sales_v1").await.unwrap().stale.is_empty());

    // Another row of the dimension is another view row, and so another id.
    let mut shops = world(2).shops;
    shops.values_mut().for_each(|(region, _)| *region = Some(77));
    write_parquet(&dir.path().join("shops/all.parquet"), &shop_columns(&shops), None);
    store.repair("shops").await.unwrap();
    let staleness = store.stale("sales_v1").await.unwrap();
    assert_eq!(staleness.stale.len(), 1);
    let told = staleness.to_string();
    assert!(told.contains("view sales of orders, shops\n") && told.contains("files of `shops` have changed"), "{told}");
    let again = store.materialize("sales_v1", second(30)).await.unwrap();
    assert_ne!(again.id(), made.id());
    assert!(store.replay(&again).await.unwrap().is_equal());
}

/// A file of facts beyond the as-of leaves the id alone; a late fact does not.
#[tokio::test(flavor = "multi_thread")]
async fn the_text_of_a_view_and_the_files_below_it_make_the_id() {
    let (dir, store, _) = bench(3).await;
    let query = "SELECT ordered_at, paid_at, shop FROM orders WHERE price > 1";
    store.register(sales(query)).unwrap();
    let made = store.materialize("sales_v1", second(30)).await.unwrap();
    let order = |at: i64| {
        let statuses: ArrayRef = Arc::new(StringArray::from(vec!["paid"]));
        [
            ("shop", integers([Some(1)])),
            ("ordered_at", seconds([Some(at)].into_iter())),
            ("paid_at", seconds([Some(at)].into_iter())),
            ("price", floats([Some(5.0)])),
            ("quantity", integers([Some(1)])),
            ("status", statuses),
        ]
    };
    write_parquet(&dir.path().join("orders/later.parquet"), &order(500), None);
    store.repair("orders").await.unwrap();
    assert_eq!(store.materialize("sales_v1", second(30)).await.unwrap().id(), made.id());
    write_parquet(&dir.path().join("orders/late.parquet"), &order(3), None);
    store.repair("orders").await.unwrap();
    assert_ne!(store.materialize("sales_v1", second(30)).await.unwrap().id(), made.id());

    let fingerprint = |query: &str| sales(query).fingerprint().clone();
    assert_eq!(fingerprint(query), fingerprint(&format!("\n  {query}\n")));
    let other = sales("SELECT ordered_at, paid_at, shop FROM orders WHERE price > 2");
    assert_ne!(fingerprint(query), *other.fingerprint());
    let difference = sales(query).diff(&other);
    assert_eq!(difference.parts.iter().map(|part| part.part.as_str()).collect::<Vec<_>>(), ["views.sales.query"]);
    says!(store.register(other).unwrap_err(), Error::AlreadyExists { .. }, "views.sales.query");
}

/// Inputs of a union are brought to common types, and local times keep their zone.
#[tokio::test(flavor = "multi_thread")]
async fn inputs_of_a_union_have_common_types_and_one_clock() {
    let dir = temp_dir();
    let store = store(&dir.path().join("store")).await;
    let local = |times: &[i64]| -> ArrayRef {
        Arc::new(times.iter().map(|s| Some(s * SECOND_US)).collect::<datafusion::arrow::array::TimestampMicrosecondArray>())
    };
    let berlin =
        || FactTable::new("at", KnownAt::after(TimeDelta::seconds(2))).zone("Europe/Berlin".parse().unwrap()).tie_break("n");
    let whole_numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let fractions: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 1.5]));
    let hour = 3_600;
    let a = [
        ("k", integers([Some(1), Some(1), Some(2)])),
        ("at", local(&[hour, hour + 5, hour + 9])),
        ("n", whole_numbers.clone()),
        ("v", whole_numbers),
    ];
    let b = [
        ("k", integers([Some(1), Some(2)])),
        ("at", local(&[hour + 5, hour + 6])),
        ("n", integers([Some(9), Some(0)])),
        ("v", fractions),
    ];
    table(&dir, &store, "a", &a, berlin()).await;
    table(&dir, &store, "b", &b, berlin()).await;
    let set = FeatureSet::entities("ks_v1", "both").key("k").lookup("v", "v").max_age(TimeDelta::seconds(60));
    let set =
        set.all_before([Aggregate::sum("v").named("sum")]).view(View::sql("both", "SELECT * FROM a UNION ALL SELECT * FROM b"));
    store.register(set.build().unwrap()).unwrap();
    // An hour after midnight in Berlin is midnight in UTC. The fact of second 5 is known two seconds later.
    for (at, expected) in [(3, ["1 1 1", "2 NULL NULL"]), (8, ["1 0.5 3.5", "2 NULL NULL"]), (30, ["1 0.5 3.5", "2 3 4.5"])] {
        let keys = [vec![Value::Int(1)], vec![Value::Int(2)]];
        let (trained, served, _) = both(&store, "ks_v1", &["k"], &keys, second(at)).await;
        assert_eq!(trained, served, "at {at} s");
        let cells: Vec<String> = trained.iter().zip([1, 2]).map(|(row, key)| format!("{key} {}", plain(row))).collect();
        assert_eq!(cells, expected, "at {at} s");
    }
}

/// Floats of a row of bits.
fn plain(row: &str) -> String {
    let cell =
        |cell: &str| u64::from_str_radix(cell, 16).map_or_else(|_| cell.to_owned(), |bits| f64::from_bits(bits).to_string());
    row.split(' ').map(cell).collect::<Vec<_>>().join(" ")
}

/// A provider of this process serves a view for the operators; a set over it is refused, as over the provider itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_over_a_provider_is_for_the_operators_alone() {
    let (_dir, store) = refusals_bench().await;
    let rows = batch(vec![("at", seconds([Some(1), Some(50)].into_iter())), ("shop", integers([Some(1), Some(1)]))]);
    let clicks = datafusion::datasource::MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap();
    store.register_provider("clicks", Arc::new(clicks), known_at_once()).await.unwrap();
    let view = View::sql("sales", "SELECT at, shop, shop + 1 AS next FROM clicks");
    let facts = store.facts_of_view(&view, second(30)).await.unwrap();
    let rows = Spine::new(spine(&[Some(1)], &[60]), "t").lookup([Lookup::of(facts).on("shop").column("next")]).unwrap();
    assert_eq!(bit_rows(&collected(rows.into_rows()).await), ["1 1970-01-01T00:01:00Z 2"]);
    store.register(sales("SELECT at, shop FROM clicks")).unwrap();
    says!(store.materialize("sales_v1", second(30)).await.unwrap_err(), Error::Definition { .. }, "`clicks` is a provider");
}
