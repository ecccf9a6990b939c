//! What Chronon's quickstart is about: purchases, returns and users, for a model that is asked at checkout. See
//! `docs/coming-from-chronon.md`.

use std::{error::Error, path::Path};

use asof::{
    Aggregate, FeatureSet, FeatureStore, Value, WindowLength,
    catalog::{FactTable, KnownAt},
    feature_set::Source,
    ingest::Ingest,
    temporal::Spine,
    time::Zone,
};
use chrono::TimeDelta;
use datafusion::prelude::{col, date_trunc, lit};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    check::{self, Row},
    facts::{DAY, Fact, HOUR, MINUTE, as_of, seconds, visible, write_csv, written},
};

const USERS: i64 = 30;
const DAYS: i64 = 60;
/// Returns come to the store five minutes after they happened.
const RETURNS_DELAY: i64 = 5 * MINUTE;

/// The row of a day in `users` is the state at the end of the day, so that the midnight after it sees it.
const SNAPSHOT_DELAY: i64 = DAY - 1;

/// One set for what Chronon calls three `GroupBy`s and the `Join` of them.
fn shopper_v1() -> asof::Result<FeatureSet> {
    FeatureSet::entities("shopper_v1", "purchases")
        .key("user_id")
        .names("{column}_{aggregate}_{window}")
        .also(
            windowed("purchases", "purchase_price")
                .all_before([Aggregate::last_k("purchase_price", 10).named("purchase_price_last10")]),
        )
        .also(windowed("returns", "refund_amt").all_before([Aggregate::last_k("refund_amt", 2).named("refund_amt_last2")]))
        .also(Source::of("purchases").on("user_id").window(
            WindowLength::hopping(TimeDelta::days(14), TimeDelta::days(1), Zone::UTC),
            [Aggregate::sum("purchase_price").named("purchase_price_sum_14d_to_midnight")],
        ))
        .also(Source::of("users").on("user_id").lookup("plan", "plan").lookup("email_verified", "email_verified"))
        .build()
}

/// Sum, count and mean of a column over 3, 14 and 30 days.
fn windowed(table: &str, column: &str) -> Source {
    [3, 14, 30].into_iter().fold(Source::of(table).on("user_id"), |source, days| {
        source.window(TimeDelta::days(days), [Aggregate::sum(column), Aggregate::count_of(column), Aggregate::mean(column)])
    })
}

/// The three tables in memory.
struct World {
    purchases: Vec<Fact<i64>>,
    returns: Vec<Fact<i64>>,
    users: Vec<Fact<(&'static str, bool)>>,
    checkouts: Vec<(i64, i64)>,
}

pub(crate) async fn run(store: &FeatureStore, dir: &Path) -> Result<(), Box<dyn Error>> {
    let first = seconds("2023-10-01T00:00:00Z")?;
    let world = generated(first);
    load(store, dir, &world).await?;
    store.register(shopper_v1()?)?;

    // Chronon's backfill with the accuracy TEMPORAL: each checkout with the features of its own instant.
    let lines = world.checkouts.iter().map(|(user, at)| format!("{user},{}", written(*at)));
    let checkouts = store.read_csv(&write_csv(dir, "checkouts", "user_id,ts", lines)?, &["ts"]).await?;
    let rows = store.training_set("shopper_v1", Spine::new(checkouts.clone(), "ts")).await?.dataframe().await?;
    let expected: Vec<Row> = world.checkouts.iter().map(|(user, at)| world.features(*user, *at)).collect();
    let mut compared = check::training("shopper_v1", rows, &expected).await?;

    // SNAPSHOT: with the features of the midnight before. The instant of the spine says so, and the set is the same.
    let midnights = checkouts.with_column("midnight", date_trunc(lit("day"), col("ts")))?;
    let rows = store.training_set("shopper_v1", Spine::new(midnights, "midnight")).await?.dataframe().await?;
    let snapshots: Vec<Row> = world.checkouts.iter().map(|(user, at)| world.features(*user, at - at.rem_euclid(DAY))).collect();
    compared += check::training("shopper_v1", rows, &snapshots).await?;

    // Upload and fetch: the newest values by key, also for a user that no table knows.
    let now = first + DAYS * DAY;
    store.materialize("shopper_v1", as_of(now)).await?;
    let online = store.online("shopper_v1").await?;
    let keys = (0..=USERS).chain([1_000_000]);
    let expected_online: Vec<(i64, Row)> = keys.map(|user| (user, world.features(user, now))).collect();
    compared += check::online(&online, &expected_online)?;

    println!("chronon: {compared} values are those of the plain computation");
    let differ = expected.iter().zip(&snapshots).filter(|(exact, midnight)| exact != midnight).count();
    println!(
        "  {} of {} checkouts have other features at the midnight before",
        check::shows("SNAPSHOT", differ)?,
        expected.len()
    );
    let late = world.checkouts.iter().filter(|(user, at)| world.sees_late_facts(*user, *at)).count();
    println!("  {} have a purchase that had happened and had not arrived", check::shows("late facts", late)?);
    let hops = world.checkouts.iter().filter(|(user, at)| world.is_moved_by_hops(*user, *at)).count();
    println!("  {} have other sums if windows begin at a whole hour or day", check::shows("tail hops", hops)?);
    Ok(())
}

async fn load(store: &FeatureStore, dir: &Path, world: &World) -> Result<(), Box<dyn Error>> {
    let lines = world.purchases.iter().map(|f| format!("{},{},{},{}", f.key, written(f.at), written(f.known), f.says));
    let path = write_csv(dir, "purchases", "user_id,ts,arrived_at,purchase_price", lines)?;
    let table = FactTable::new("ts", KnownAt::column("arrived_at")).key("user_id");
    store.ingest(&Ingest::new("purchases", table)?.from(path)).await?;

    let lines = world.returns.iter().map(|f| format!("{},{},{}", f.key, written(f.at), f.says));
    let path = write_csv(dir, "returns", "user_id,ts,refund_amt", lines)?;
    let table = FactTable::new("ts", KnownAt::after(TimeDelta::seconds(RETURNS_DELAY))).key("user_id");
    store.ingest(&Ingest::new("returns", table)?.from(path)).await?;

    let lines = world.users.iter().map(|f| format!("{},{},{},{}", f.key, written(f.at), f.says.0, f.says.1));
    let path = write_csv(dir, "users", "user_id,ds,plan,email_verified", lines)?;
    let table = FactTable::new("ds", KnownAt::after(TimeDelta::seconds(SNAPSHOT_DELAY))).key("user_id");
    store.ingest(&Ingest::new("users", table)?.from(path)).await?;
    Ok(())
}

impl World {
    /// The features of a user at an instant, by the definition and no index.
    fn features(&self, user: i64, t: i64) -> Row {
        let purchases: Vec<(i64, i64)> = visible(&self.purchases, user, t).iter().map(|f| (f.at, f.says)).collect();
        let returns: Vec<(i64, i64)> = visible(&self.returns, user, t).iter().map(|f| (f.at, f.says)).collect();
        let profile = visible(&self.users, user, t).last().map(|f| f.says);
        let mut row = Row::new();
        row.extend(statistics(
            &purchases,
            t,
            [
                ["purchase_price_sum_3d", "purchase_price_count_3d", "purchase_price_mean_3d"],
                ["purchase_price_sum_14d", "purchase_price_count_14d", "purchase_price_mean_14d"],
                ["purchase_price_sum_30d", "purchase_price_count_30d", "purchase_price_mean_30d"],
            ],
        ));
        row.push(("purchase_price_last10", newest(&purchases, 10)));
        row.extend(statistics(
            &returns,
            t,
            [
                ["refund_amt_sum_3d", "refund_amt_count_3d", "refund_amt_mean_3d"],
                ["refund_amt_sum_14d", "refund_amt_count_14d", "refund_amt_mean_14d"],
                ["refund_amt_sum_30d", "refund_amt_count_30d", "refund_amt_mean_30d"],
            ],
        ));
        let midnight = t - t.rem_euclid(DAY);
        let full_days = purchases.iter().filter(|(at, _)| (midnight - 14 * DAY..midnight).contains(at));
        let prices: Vec<i64> = full_days.map(|(_, price)| *price).collect();
        let sum = if prices.is_empty() { Value::Null } else { Value::Float(prices.iter().sum::<i64>() as f64) };
        row.push(("purchase_price_sum_14d_to_midnight", sum));
        row.push(("refund_amt_last2", newest(&returns, 2)));
        row.push(("plan", profile.map_or(Value::Null, |(plan, _)| plan.into())));
        row.push(("email_verified", profile.map_or(Value::Null, |(_, is_verified)| is_verified.into())));
        row
    }

    /// Had a purchase happened before `t` that came to the store later?
    fn sees_late_facts(&self, user: i64, t: i64) -> bool {
        self.purchases.iter().any(|f| f.key == user && f.at < t && f.known >= t && f.at >= t - 30 * DAY)
    }

    /// Would a sum differ if the start of its window were rounded down to a hop: an hour for 3 days, a day for 14 and 30?
    fn is_moved_by_hops(&self, user: i64, t: i64) -> bool {
        let purchases = visible(&self.purchases, user, t);
        [(3 * DAY, HOUR), (14 * DAY, DAY), (30 * DAY, DAY)].into_iter().any(|(length, hop)| {
            let start = t - length;
            let rounded = start - start.rem_euclid(hop);
            purchases.iter().any(|f| (rounded..start).contains(&f.at))
        })
    }
}

/// Sum, count and mean over 3, 14 and 30 days of values with their instants. Over nothing the count is 0, the others are NULL.
fn statistics(values: &[(i64, i64)], t: i64, names: [[&'static str; 3]; 3]) -> Row {
    let of_window = |(days, [sum, count, mean]): (i64, [&'static str; 3])| {
        let inside: Vec<i64> = values.iter().filter(|(at, _)| *at >= t - days * DAY).map(|(_, value)| *value).collect();
        let (total, number) = (inside.iter().sum::<i64>() as f64, inside.len());
        let or_null = |value: f64| if number == 0 { Value::Null } else { Value::Float(value) };
        [(sum, or_null(total)), (count, Value::Int(number as i64)), (mean, or_null(total / number as f64))]
    };
    [3, 14, 30].into_iter().zip(names).flat_map(of_window).collect()
}

/// The newest `k` values, the oldest of them first.
fn newest(values: &[(i64, i64)], k: usize) -> Value {
    if values.is_empty() {
        return Value::Null;
    }
    Value::List(values[values.len().saturating_sub(k)..].iter().map(|(_, value)| Value::Int(*value)).collect())
}

fn generated(first: i64) -> World {
    let mut rng = StdRng::seed_from_u64(1);
    let mut some = |count: usize| -> Vec<(i64, i64)> {
        (0..count).map(|_| (rng.random_range(0..USERS), first + rng.random_range(0..DAYS * DAY))).collect()
    };
    let (bought, returned, asked) = (some(900), some(250), some(300));
    // One purchase in ten arrives hours later.
    let purchase = |(key, at): (i64, i64)| {
        let delay = if rng.random_bool(0.1) { rng.random_range(HOUR..DAY) } else { rng.random_range(1..MINUTE) };
        Fact { key, at, known: at + delay, says: rng.random_range(5..500) }
    };
    let purchases: Vec<Fact<i64>> = bought.into_iter().map(purchase).collect();
    let refund = |(key, at)| Fact { key, at, known: at + RETURNS_DELAY, says: rng.random_range(5..500) };
    let returns: Vec<Fact<i64>> = returned.into_iter().map(refund).collect();
    // Checkouts at any instant, at that of a purchase, and when one is exactly 3 or 14 days old.
    let close = |purchase: &Fact<i64>| (purchase.key, purchase.at + [0, 1, 3 * DAY, 14 * DAY][rng.random_range(0..4)]);
    let mut checkouts: Vec<(i64, i64)> = purchases.iter().take(100).map(close).chain(asked).collect();
    checkouts.retain(|(_, at)| *at < first + DAYS * DAY);
    let mut users = Vec::new();
    for key in 0..USERS {
        let (mut plan, mut is_verified) = ("free", false);
        for day in 0..DAYS {
            if rng.random_bool(0.05) {
                (plan, is_verified) = (["free", "plus", "gold"][rng.random_range(0..3)], true);
            }
            let at = first + day * DAY;
            users.push(Fact { key, at, known: at + SNAPSHOT_DELAY, says: (plan, is_verified) });
        }
    }
    World { purchases, returns, users, checkouts }
}
