//! Windows of Kaskada's kind over page views and purchases: what happened since the last purchase, and lookups between entities.
//! See `docs/coming-from-kaskada.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    path::Path,
};

use asof::{
    Aggregate, FeatureSet, FeatureStore, Value, WindowLength,
    catalog::{FactTable, KnownAt},
    encoder::Arithmetic,
    ingest::Ingest,
    temporal::Spine,
    time::Zone,
};
use chrono::TimeDelta;
use datafusion::arrow::{
    array::AsArray,
    datatypes::{Float64Type, TimestampMicrosecondType},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    check::{self, Row},
    facts::{DAY, Fact, HOUR, MINUTE, as_of, seconds, visible, write_csv, written},
};

const CUSTOMERS: i64 = 20;
const ITEMS: i64 = 15;
const DAYS: i64 = 20;
const PURCHASE: &str = "event = 'purchase'";
const VIEW: &str = "event = 'view'";

/// What a customer has done, at any instant.
fn customer_v1() -> asof::Result<FeatureSet> {
    FeatureSet::entities("customer_v1", "events")
        .key("customer")
        .window(
            WindowLength::since(PURCHASE),
            [
                Aggregate::count().filter(VIEW).named("views_since_purchase"),
                Aggregate::count().named("events_since_purchase"),
                Aggregate::count_distinct("item").filter(VIEW).named("items_since_purchase"),
            ],
        )
        .window(
            WindowLength::since_within(PURCHASE, TimeDelta::days(2)),
            [Aggregate::count().filter(VIEW).named("views_since_purchase_2d")],
        )
        .window(WindowLength::this_day(Zone::UTC), [Aggregate::count().filter(VIEW).named("views_today")])
        .window(WindowLength::tumbling(TimeDelta::days(1), Zone::UTC), [Aggregate::count().filter(VIEW).named("views_yesterday")])
        .window(TimeDelta::days(7), [Aggregate::count().filter(VIEW).named("views_7d")])
        .all_before([
            Aggregate::count().filter(VIEW).named("views"),
            Aggregate::count().filter(PURCHASE).named("purchases"),
            Aggregate::sum("amount").filter(PURCHASE).named("spent"),
            Aggregate::last_k("item", 5).filter(VIEW).named("viewed"),
        ])
        .build()
}

/// What is thought of an item.
fn item_v1() -> asof::Result<FeatureSet> {
    FeatureSet::entities("item_v1", "reviews").key("item").all_before([Aggregate::mean("stars").named("stars")]).build()
}

/// Each purchase, with what was known of its customer and its item when it happened.
fn purchase_v1(customers: &FeatureSet, items: &FeatureSet) -> asof::Result<FeatureSet> {
    FeatureSet::rows("purchase_v1", "SELECT at, customer, item, amount FROM events WHERE event = 'purchase'")
        .table("events")
        .event_time("at")
        .features_of(customers.by(["customer"]).only(["views_since_purchase", "views", "purchases"]))
        .features_of(items.by(["item"]))
        .pass(["views_since_purchase", "stars"])
        .encode(Arithmetic::minus("views", "views_since_purchase", "views_before_purchase"))
        .encode(Arithmetic::divided_by("views_before_purchase", "purchases", "views_per_purchase"))
        .intermediate(["views_before_purchase"])
        .label("amount")
        .build()
}

/// What an event says. The number is first: it decides which of two events of one instant is the newer one.
#[derive(PartialEq, PartialOrd)]
struct Event {
    id: i64,
    is_purchase: bool,
    item: i64,
    amount: Option<i64>,
}

struct World {
    events: Vec<Fact<Event>>,
    reviews: Vec<Fact<i64>>,
    questions: Vec<(i64, i64)>,
}

pub(crate) async fn run(store: &FeatureStore, dir: &Path) -> Result<(), Box<dyn Error>> {
    let first = seconds("2024-03-01T00:00:00Z")?;
    let world = generated(first);
    load(store, dir, &world).await?;
    let (customers, items) = (customer_v1()?, item_v1()?);
    for set in [purchase_v1(&customers, &items)?, customers, items] {
        store.register(set)?;
    }

    // The history at chosen points: a spine for any instants, and a set of rows for the purchases.
    let lines = world.questions.iter().map(|(customer, at)| format!("{customer},{}", written(*at)));
    let questions = store.read_csv(&write_csv(dir, "questions", "customer,at", lines)?, &["at"]).await?;
    let rows = store.training_set("customer_v1", Spine::new(questions, "at")).await?.dataframe().await?;
    let expected: Vec<Row> = world.questions.iter().map(|(customer, at)| world.features(*customer, *at)).collect();
    let mut compared = check::training("customer_v1", rows, &expected).await?;
    let now = first + DAYS * DAY;
    compared += world.check_purchases(store, now).await?;

    // The snapshot, read by key and by request.
    for set in ["customer_v1", "item_v1", "purchase_v1"] {
        store.materialize(set, as_of(now)).await?;
    }
    let keys = (0..=CUSTOMERS).chain([1_000_000]);
    let snapshot: Vec<(i64, Row)> = keys.map(|customer| (customer, world.features(customer, now))).collect();
    compared += check::online(&store.online("customer_v1").await?, &snapshot)?;
    let online = store.online("purchase_v1").await?;
    for (customer, item) in (0..=CUSTOMERS).zip((0..=ITEMS).cycle()) {
        let row = online.encode_row(&[("customer", customer.into()), ("item", item.into())])?;
        for (feature, value) in world.of_purchase(customer, item, now) {
            check::same(&format!("a request of customer {customer} for item {item}, {feature}"), &row.value(feature)?, &value)?;
            compared += 1;
        }
    }

    println!("kaskada: {compared} values are those of the plain computation");
    let late = world.questions.iter().filter(|(customer, at)| world.misses_a_purchase(*customer, *at)).count();
    println!(
        "  {} of {} questions come before a purchase has arrived that would begin the window",
        check::shows("late purchases", late)?,
        expected.len()
    );
    let ties = world.events.iter().filter(|view| !view.says.is_purchase && world.is_at_a_purchase(view)).count();
    println!("  {} views are at the instant of a purchase of the same customer", check::shows("equal instants", ties)?);
    Ok(())
}

async fn load(store: &FeatureStore, dir: &Path, world: &World) -> Result<(), Box<dyn Error>> {
    let line = |f: &Fact<Event>| {
        let event = if f.says.is_purchase { "purchase" } else { "view" };
        let amount = f.says.amount.map_or(String::new(), |amount| amount.to_string());
        format!("{},{},{},{},{event},{},{amount}", f.says.id, f.key, written(f.at), written(f.known), f.says.item)
    };
    let path = write_csv(dir, "events", "id,customer,at,arrived_at,event,item,amount", world.events.iter().map(line))?;
    let table = FactTable::new("at", KnownAt::column("arrived_at")).key("customer").tie_break("id");
    store.ingest(&Ingest::new("events", table)?.from(path)).await?;

    let lines = world.reviews.iter().map(|f| format!("{},{},{}", f.key, written(f.at), f.says));
    let path = write_csv(dir, "reviews", "item,at,stars", lines)?;
    let table = FactTable::new("at", KnownAt::after(TimeDelta::zero())).key("item");
    store.ingest(&Ingest::new("reviews", table)?.from(path)).await?;
    Ok(())
}

impl World {
    /// The features of a customer at an instant, by the definition and no index.
    fn features(&self, customer: i64, t: i64) -> Row {
        let events = visible(&self.events, customer, t);
        let views =
            |events: &[&Fact<Event>]| events.iter().filter(|f| !f.says.is_purchase).map(|f| f.says.item).collect::<Vec<i64>>();
        let from = |start: i64| events.iter().copied().filter(|f| f.at >= start).collect::<Vec<_>>();
        let after_purchase = since_purchase(&events);
        let since = views(after_purchase);
        let midnight = t - t.rem_euclid(DAY);
        let (two_days, today, week) = (from(t - 2 * DAY), from(midnight), from(t - 7 * DAY));
        let yesterday: Vec<_> = events.iter().copied().filter(|f| (midnight - DAY..midnight).contains(&f.at)).collect();
        let all = views(&events);
        let amounts: Vec<i64> = events.iter().filter(|f| f.says.is_purchase).filter_map(|f| f.says.amount).collect();
        let viewed = all[all.len().saturating_sub(5)..].iter().map(|item| Value::Int(*item)).collect::<Vec<_>>();
        vec![
            ("views_since_purchase", count(since.len())),
            ("events_since_purchase", count(after_purchase.len())),
            ("items_since_purchase", count(since.iter().collect::<BTreeSet<_>>().len())),
            ("views_since_purchase_2d", count(views(since_purchase(&two_days)).len())),
            ("views_today", count(views(&today).len())),
            ("views_yesterday", count(views(&yesterday).len())),
            ("views_7d", count(views(&week).len())),
            ("views", count(all.len())),
            ("purchases", count(amounts.len())),
            ("spent", if amounts.is_empty() { Value::Null } else { Value::Float(amounts.iter().sum::<i64>() as f64) }),
            ("viewed", if viewed.is_empty() { Value::Null } else { Value::List(viewed) }),
        ]
    }

    /// The features of `purchase_v1`. The mean goes through the purchases one by one, as Kaskada's nested aggregation does.
    fn of_purchase(&self, customer: i64, item: i64, t: i64) -> Row {
        let (mut since, mut between) = (0, Vec::new());
        for event in visible(&self.events, customer, t) {
            since += 1;
            if event.says.is_purchase {
                between.push(since - 1);
                since = 0;
            }
        }
        let stars: Vec<i64> = visible(&self.reviews, item, t).iter().map(|f| f.says).collect();
        vec![
            ("views_since_purchase", Value::Float(f64::from(since))),
            ("stars", mean(stars.iter().sum::<i64>() as f64, stars.len())),
            ("views_per_purchase", mean(between.iter().map(|views| f64::from(*views)).sum(), between.len())),
        ]
    }

    /// Each purchase as a row of training. Its own instant does not see it.
    async fn check_purchases(&self, store: &FeatureStore, now: i64) -> Result<usize, Box<dyn Error>> {
        let names = ["views_since_purchase", "stars", "views_per_purchase"];
        let rows = store.training_set("purchase_v1", as_of(now)).await?.dataframe().await?.collect().await?;
        let mut answers: BTreeMap<i64, Vec<Value>> = BTreeMap::new();
        for batch in &rows {
            let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("purchase_v1 has no column `{name}`"));
            let instants = column("at")?.as_primitive::<TimestampMicrosecondType>();
            for name in names {
                let values = column(name)?.as_primitive::<Float64Type>();
                for (micros, value) in instants.values().iter().zip(values) {
                    answers.entry(micros / 1_000_000).or_default().push(value.map_or(Value::Null, Value::Float));
                }
            }
        }
        let purchases: Vec<_> = self.events.iter().filter(|f| f.says.is_purchase && f.known < now).collect();
        if purchases.len() != answers.len() {
            return Err(format!("purchase_v1: {} rows, expected {}", answers.len(), purchases.len()).into());
        }
        for purchase in &purchases {
            let answer = answers.get(&purchase.at).ok_or("a purchase is no row of purchase_v1")?;
            for (value, (feature, expected)) in answer.iter().zip(self.of_purchase(purchase.key, purchase.says.item, purchase.at))
            {
                check::same(&format!("purchase {}, {feature}", purchase.says.id), value, &expected)?;
            }
        }
        Ok(names.len() * purchases.len())
    }

    /// Had a purchase happened before `t` that came later, and is there a view before it that still counts?
    fn misses_a_purchase(&self, customer: i64, t: i64) -> bool {
        let events = visible(&self.events, customer, t);
        let counted = since_purchase(&events);
        self.events.iter().any(|f| {
            f.key == customer && f.says.is_purchase && f.at < t && f.known >= t && counted.iter().any(|view| view.at < f.at)
        })
    }

    fn is_at_a_purchase(&self, view: &Fact<Event>) -> bool {
        self.events.iter().any(|f| f.says.is_purchase && f.key == view.key && f.at == view.at)
    }
}

/// What comes after the last purchase in the order of time; everything if there is none.
fn since_purchase<'a, 'b>(events: &'a [&'b Fact<Event>]) -> &'a [&'b Fact<Event>] {
    &events[events.iter().rposition(|f| f.says.is_purchase).map_or(0, |last| last + 1)..]
}

fn count(number: usize) -> Value {
    Value::Int(number as i64)
}

fn mean(sum: f64, number: usize) -> Value {
    if number == 0 { Value::Null } else { Value::Float(sum / number as f64) }
}

fn generated(first: i64) -> World {
    let mut rng = StdRng::seed_from_u64(3);
    // Each purchase has an instant of its own, at which its row of training is found.
    let instants: BTreeSet<i64> = (0..2_000).map(|_| first + rng.random_range(0..DAYS * DAY)).collect();
    let mut events: Vec<Fact<Event>> = Vec::new();
    let mut add = |key: i64, at: i64, is_purchase: bool, rng: &mut StdRng| {
        // One event in ten arrives hours later.
        let delay = if rng.random_bool(0.1) { rng.random_range(HOUR..DAY) } else { rng.random_range(1..MINUTE) };
        let amount = is_purchase.then(|| rng.random_range(5..200));
        let says = Event { id: events.len() as i64, is_purchase, item: rng.random_range(0..ITEMS), amount };
        events.push(Fact { key, at, known: at + delay, says });
    };
    for at in instants {
        let (customer, is_purchase) = (rng.random_range(0..CUSTOMERS), rng.random_bool(0.12));
        // Sometimes a page is viewed at the instant of a purchase, before it or after it by its number.
        let (view_before, view_after) = (is_purchase && rng.random_bool(0.1), is_purchase && rng.random_bool(0.1));
        if view_before {
            add(customer, at, false, &mut rng);
        }
        add(customer, at, is_purchase, &mut rng);
        if view_after {
            add(customer, at, false, &mut rng);
        }
    }
    let review = |_| {
        let at = first + rng.random_range(0..DAYS * DAY);
        Fact { key: rng.random_range(0..ITEMS), at, known: at, says: rng.random_range(1..6) }
    };
    let reviews = (0..120).map(review).collect();
    // Questions at any instant, and at and right after those of purchases.
    let close = |f: &Fact<Event>| (f.key, f.at + [0, 1, MINUTE][rng.random_range(0..3)]);
    let mut questions: Vec<(i64, i64)> = events.iter().filter(|f| f.says.is_purchase).map(close).collect();
    questions.extend((0..200).map(|_| (rng.random_range(0..CUSTOMERS), first + rng.random_range(0..DAYS * DAY))));
    World { events, reviews, questions }
}
