//! Windows of OpenMLDB's kind over card payments: by rows, by time with a maximum size, distinct counts, frequent values, and
//! last joins. See `docs/coming-from-openmldb.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    path::Path,
};

use asof::{
    Aggregate, FeatureSet, FeatureStore, Value, WindowLength,
    catalog::{FactTable, KnownAt},
    encoder::{Arithmetic, Impute},
    feature_set::Source,
    ingest::Ingest,
    temporal::Spine,
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::AsArray,
        datatypes::{Float64Type, TimestampMicrosecondType},
    },
    dataframe::DataFrameWriteOptions,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    check::{self, Row},
    facts::{DAY, Fact, as_of, seconds, visible, write_csv, written},
};

const CARDS: i64 = 25;
const DAYS: i64 = 40;
const PRODUCTS: [&str; 3] = ["debit", "credit", "prepaid"];

/// The windows `week` and `last20`, and both last joins.
fn card_v1() -> asof::Result<FeatureSet> {
    let week = WindowLength::facts_within(12, TimeDelta::days(7)); // ROWS_RANGE 7d PRECEDING, MAXSIZE 12
    let last20 = WindowLength::facts(20); // ROWS 20 PRECEDING
    FeatureSet::entities("card_v1", "payments")
        .key("card")
        .window(
            week,
            [
                Aggregate::count().named("payments_7d"),
                Aggregate::sum("amount").named("amount_7d"),
                Aggregate::count_distinct("merchant").named("merchants_7d"),
                Aggregate::top_k("category", 3).named("categories_7d"),
                Aggregate::count().filter("amount > 100").named("large_7d"), // count_where
            ],
        )
        .window(last20, [Aggregate::mean("amount").named("amount_20"), Aggregate::max("amount").named("largest_20")])
        .window(TimeDelta::days(30), [Aggregate::approx_count_distinct("merchant").named("merchants_30d")])
        .also(Source::of("limits").on("card").lookup("credit_limit", "credit_limit")) // LAST JOIN .. ORDER BY
        .also(Source::timeless("cards").on("card").lookup("product", "product")) // LAST JOIN without times
        .build()
}

/// As a deployment in request mode: the window's sum together with the payment that is asked about.
fn payment_v1(cards: &FeatureSet) -> asof::Result<FeatureSet> {
    FeatureSet::rows("payment_v1", "SELECT ts, card, amount FROM payments")
        .table("payments")
        .event_time("ts")
        .features_of(cards.by(["card"]).only(["amount_7d", "amount_20"]))
        .encode_fitted(Impute::constant("amount_7d", 0.0))
        .encode(Arithmetic::plus("amount", "amount_7d_imputed", "amount_7d_and_this"))
        .encode(Arithmetic::divided_by("amount", "amount_20", "amount_to_usual"))
        .intermediate(["amount_7d_imputed"])
        .build()
}

/// The windows of `card_v1` for each payment, as SQL.
const WINDOWS: &str = "
    SELECT * FROM trailing('payments', 'ts', 'payments', 'card',
        '12 facts within 7 days', 'count(*) AS payments_7d, sum(amount) AS amount_7d, count(DISTINCT merchant) AS merchants_7d,
                                   top_k(category, 3) AS categories_7d, count(*) FILTER (WHERE amount > 100) AS large_7d',
        '20 facts',               'avg(amount) AS amount_20, max(amount) AS largest_20')
    ORDER BY id";

/// The limit of each payment's card at the payment's instant.
const LAST_JOIN: &str = "
    SELECT p.id, l.credit_limit FROM payments AS p
    ASOF JOIN limits AS l MATCH_CONDITION (p.ts > l.since) ON p.card = l.card
    ORDER BY p.id";

/// What a payment says. The number is first: it decides which of two payments of one instant is the newer one.
#[derive(PartialEq, PartialOrd)]
struct Payment {
    id: i64,
    merchant: i64,
    category: &'static str,
    amount: f64,
}

struct World {
    payments: Vec<Fact<Payment>>,
    limits: Vec<Fact<i64>>,
    requests: Vec<(i64, i64)>,
}

pub(crate) async fn run(store: &FeatureStore, dir: &Path) -> Result<(), Box<dyn Error>> {
    let first = seconds("2024-01-01T00:00:00Z")?;
    let world = generated(first);
    load(store, dir, &world).await?;
    let cards = card_v1()?;
    store.register(payment_v1(&cards)?)?;
    store.register(cards)?;

    // Offline: `FROM requests WINDOW week AS (UNION payments ... INSTANCE_NOT_IN_WINDOW EXCLUDE CURRENT_ROW)`.
    let lines = world.requests.iter().map(|(card, at)| format!("{card},{}", written(*at)));
    let requests = store.read_csv(&write_csv(dir, "requests", "card,ts", lines)?, &["ts"]).await?;
    let rows = store.training_set("card_v1", Spine::new(requests, "ts")).await?.dataframe().await?;
    let expected: Vec<Row> = world.requests.iter().map(|(card, at)| world.features(*card, *at)).collect();
    let mut compared = check::training("card_v1", rows, &expected).await?;
    let now = first + DAYS * DAY;
    compared += world.check_payments(store, now).await?;

    compared += world.check_sql(store, now).await?;

    // Online: by card, and by request.
    store.materialize("card_v1", as_of(now)).await?;
    store.materialize("payment_v1", as_of(now)).await?;
    let keys = (0..=CARDS).chain([1_000_000]);
    let expected_online: Vec<(i64, Row)> = keys.map(|card| (card, world.features(card, now))).collect();
    compared += check::online(&store.online("card_v1").await?, &expected_online)?;
    let online = store.online("payment_v1").await?;
    for card in 0..=CARDS {
        let row = online.encode_row(&[("card", card.into()), ("amount", 64.25.into())])?;
        let (with_this, to_usual) = world.with_payment(card, now, 64.25);
        check::same(&format!("a request of card {card}"), &row.value("amount_7d_and_this")?, &with_this)?;
        check::same(&format!("a request of card {card}"), &row.value("amount_to_usual")?, &to_usual)?;
        compared += 2;
    }

    println!("openmldb: {compared} values are those of the plain computation");
    let cut = world.requests.iter().filter(|(card, at)| world.is_cut(*card, *at)).count();
    println!("  {} of {} requests have more payments in a week than the maximum", check::shows("MAXSIZE", cut)?, expected.len());
    let same = world.requests.iter().filter(|(card, at)| world.payments.iter().any(|f| f.key == *card && f.at == *at)).count();
    println!("  {} have a payment at exactly their instant, which no window holds", check::shows("CURRENT_TIME", same)?);
    Ok(())
}

async fn load(store: &FeatureStore, dir: &Path, world: &World) -> Result<(), Box<dyn Error>> {
    let line = |f: &Fact<Payment>| {
        let Payment { id, merchant, category, amount } = &f.says;
        format!("{id},{},{},{merchant},{category},{amount:?}", f.key, written(f.at))
    };
    let path = write_csv(dir, "payments", "id,card,ts,merchant,category,amount", world.payments.iter().map(line))?;
    let table = FactTable::new("ts", KnownAt::after(TimeDelta::zero())).key("card").tie_break("id");
    store.ingest(&Ingest::new("payments", table)?.from(path)).await?;

    let lines = world.limits.iter().map(|f| format!("{},{},{}", f.key, written(f.at), f.says));
    let path = write_csv(dir, "limits", "card,since,credit_limit", lines)?;
    let table = FactTable::new("since", KnownAt::after(TimeDelta::zero())).key("card");
    store.ingest(&Ingest::new("limits", table)?.from(path)).await?;

    // Timeless tables are registered where they lie.
    let cards = dir.join("cards");
    std::fs::create_dir_all(&cards)?;
    let lines = (0..CARDS).map(|card| format!("{card},{}", product(card)));
    let rows = store.read_csv(&write_csv(dir, "cards", "card,product", lines)?, &[]).await?;
    let single = DataFrameWriteOptions::new().with_single_file_output(true);
    rows.write_parquet(&cards.join("cards.parquet").to_string_lossy(), single, None).await?;
    store.register_table("cards", &cards.to_string_lossy(), FactTable::timeless(["card"])).await?;
    Ok(())
}

fn product(card: i64) -> &'static str {
    PRODUCTS[card as usize % PRODUCTS.len()]
}

impl World {
    /// The features of a card at an instant, by the definition and no index.
    fn features(&self, card: i64, t: i64) -> Row {
        let payments = visible(&self.payments, card, t);
        let week: Vec<&Payment> = newest(payments.iter().filter(|f| f.at >= t - 7 * DAY).map(|f| &f.says), 12);
        let last20: Vec<f64> = newest(payments.iter().map(|f| f.says.amount), 20);
        let month = payments.iter().filter(|f| f.at >= t - 30 * DAY).map(|f| f.says.merchant).collect::<BTreeSet<_>>();
        let limit = visible(&self.limits, card, t).last().map(|f| f.says);
        let or_null = |is_empty: bool, value: f64| if is_empty { Value::Null } else { Value::Float(value) };
        let largest = last20.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        vec![
            ("payments_7d", count(week.len())),
            ("amount_7d", or_null(week.is_empty(), week.iter().map(|payment| payment.amount).sum())),
            ("merchants_7d", count(week.iter().map(|payment| payment.merchant).collect::<BTreeSet<_>>().len())),
            ("categories_7d", most_frequent(week.iter().map(|payment| payment.category), 3)),
            ("large_7d", count(week.iter().filter(|payment| payment.amount > 100.0).count())),
            ("amount_20", or_null(last20.is_empty(), last20.iter().sum::<f64>() / last20.len() as f64)),
            ("largest_20", or_null(last20.is_empty(), largest)),
            ("merchants_30d", count(month.len())),
            ("credit_limit", limit.map_or(Value::Null, Value::Int)),
            ("product", if (0..CARDS).contains(&card) { product(card).into() } else { Value::Null }),
        ]
    }

    /// The features of `payment_v1`, for a payment that is not among the facts.
    fn with_payment(&self, card: i64, t: i64, amount: f64) -> (Value, Value) {
        let features = self.features(card, t);
        let number = |name: &str| match features.iter().find(|(feature, _)| *feature == name) {
            Some((_, Value::Float(value))) => Some(*value),
            _ => None,
        };
        let to_usual = number("amount_20").map_or(Value::Null, |usual| Value::Float(amount / usual));
        (Value::Float(amount + number("amount_7d").unwrap_or(0.0)), to_usual)
    }

    /// Each payment as a row of training, with the features of its own instant, which do not hold the payment itself.
    async fn check_payments(&self, store: &FeatureStore, now: i64) -> Result<usize, Box<dyn Error>> {
        let rows = store.training_set("payment_v1", as_of(now)).await?.dataframe().await?.collect().await?;
        let mut answers = BTreeMap::new();
        for batch in &rows {
            let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("payment_v1 has no column `{name}`"));
            let instants = column("ts")?.as_primitive::<TimestampMicrosecondType>();
            let (with_this, to_usual) = (column("amount_7d_and_this")?, column("amount_to_usual")?);
            let (with_this, to_usual) = (with_this.as_primitive::<Float64Type>(), to_usual.as_primitive::<Float64Type>());
            let values = with_this
                .iter()
                .zip(to_usual)
                .map(|(a, b)| (a.map_or(Value::Null, Value::Float), b.map_or(Value::Null, Value::Float)));
            answers.extend(instants.values().iter().map(|micros| micros / 1_000_000).zip(values));
        }
        for payment in &self.payments {
            let (with_this, to_usual) = self.with_payment(payment.key, payment.at, payment.says.amount);
            let answer = answers.get(&payment.at).ok_or("a payment is no row of payment_v1")?;
            check::same(&format!("payment {}", payment.says.id), &answer.0, &with_this)?;
            check::same(&format!("payment {}", payment.says.id), &answer.1, &to_usual)?;
        }
        Ok(2 * self.payments.len())
    }

    /// The same windows and the last join as SQL.
    async fn check_sql(&self, store: &FeatureStore, now: i64) -> Result<usize, Box<dyn Error>> {
        let expected = |names: &[&str]| -> Vec<Row> {
            let of =
                |f: &Fact<Payment>| self.features(f.key, f.at).into_iter().filter(|(name, _)| names.contains(name)).collect();
            self.payments.iter().map(of).collect()
        };
        let windows = store.sql(WINDOWS, as_of(now)).await?;
        let names = ["payments_7d", "amount_7d", "merchants_7d", "categories_7d", "large_7d", "amount_20", "largest_20"];
        let compared = check::training("trailing", windows, &expected(&names)).await?;
        let limits = store.sql(LAST_JOIN, as_of(now)).await?;
        Ok(compared + check::training("ASOF JOIN", limits, &expected(&["credit_limit"])).await?)
    }

    /// Are there more than twelve payments in the week before `t`?
    fn is_cut(&self, card: i64, t: i64) -> bool {
        visible(&self.payments, card, t).iter().filter(|f| f.at >= t - 7 * DAY).count() > 12
    }
}

fn count(number: usize) -> Value {
    Value::Int(number as i64)
}

/// The last `n` of values that are in the order of time.
fn newest<T>(values: impl Iterator<Item = T>, n: usize) -> Vec<T> {
    let mut all: Vec<T> = values.collect();
    all.split_off(all.len().saturating_sub(n))
}

/// The `k` most frequent values, the most frequent first; of equally frequent ones the smaller first.
fn most_frequent<'a>(values: impl Iterator<Item = &'a str>, k: usize) -> Value {
    let mut counts = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_insert(0) += 1);
    let mut ranked: Vec<(&str, i32)> = counts.into_iter().collect();
    ranked.sort_by_key(|(_, count)| -count); // stable, so that the order of texts stays among equals
    if ranked.is_empty() {
        return Value::Null;
    }
    Value::List(ranked.into_iter().take(k).map(|(value, _)| value.into()).collect())
}

fn generated(first: i64) -> World {
    let mut rng = StdRng::seed_from_u64(2);
    // Each payment has an instant of its own, at which its row of training is found.
    let instants: BTreeSet<i64> = (0..1_500).map(|_| first + rng.random_range(0..DAYS * DAY)).collect();
    let payment = |(id, at): (usize, i64)| {
        // A few cards pay often.
        let card = if rng.random_bool(0.5) { rng.random_range(0..CARDS / 5) } else { rng.random_range(0..CARDS) };
        let category = ["books", "food", "fuel", "travel", "toys"][rng.random_range(0..5)];
        // Quarters, so that sums in any order are exact.
        let amount = f64::from(rng.random_range(4..800)) / 4.0;
        Fact { key: card, at, known: at, says: Payment { id: id as i64, merchant: rng.random_range(0..60), category, amount } }
    };
    let payments: Vec<Fact<Payment>> = instants.into_iter().enumerate().map(payment).collect();
    // Requests at any instant, at that of a payment, and when one is exactly a week old.
    let close = |f: &Fact<Payment>| (f.key, f.at + [0, 1, 7 * DAY][rng.random_range(0..3)]);
    let mut requests: Vec<(i64, i64)> = payments.iter().step_by(10).map(close).collect();
    requests.extend((0..200).map(|_| (rng.random_range(0..CARDS), first + rng.random_range(0..DAYS * DAY))));
    let limits = (0..CARDS * 4).map(|change| {
        let at = first + (change / CARDS) * 9 * DAY + rng.random_range(0..9 * DAY);
        Fact { key: change % CARDS, at, known: at, says: rng.random_range(1..20) * 500 }
    });
    World { limits: limits.collect(), payments, requests }
}
