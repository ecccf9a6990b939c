//! `zone_demand_v1`: the number of rides from a pick-up zone, and their fares.
//! It needs a table `nyc_taxi` with the columns `pickup_zone` and `fare_amount`, known at the drop-off.

use asof::{Aggregate, FeatureSet, Result, feature_set::Description};
use chrono::TimeDelta;

/// Entity: `pickup_zone`. Features over the last hour, day and week: `trips_*`, `mean_fare_*`; and `last_fare`, the fare of
/// the newest trip. Amounts are in dollars, and only trips that have ended count.
///
/// # Errors
/// None in practice: the definition is fixed, and a test builds it.
///
/// ```
/// let set = asof_features::zone_demand_v1()?;
/// assert_eq!(set.features()[0], "last_fare");
/// # Ok::<(), asof::Error>(())
/// ```
pub fn zone_demand_v1() -> Result<FeatureSet> {
    let windows = [("1h", TimeDelta::hours(1)), ("24h", TimeDelta::hours(24)), ("7d", TimeDelta::days(7))];
    let set = FeatureSet::entities("zone_demand_v1", "nyc_taxi").key("pickup_zone").lookup("fare_amount", "last_fare");
    let set = windows.into_iter().fold(set, |set, (name, length)| {
        let trips = Aggregate::count().named(format!("trips_{name}"));
        let fare = Aggregate::mean("fare_amount").named(format!("mean_fare_{name}"));
        let set = set.window(length, [trips, fare]);
        set.describe(format!("trips_{name}"), Description::new().unit("trips"))
            .describe(format!("mean_fare_{name}"), Description::new().unit("USD"))
    });
    set.description("The number of rides from a pick-up zone, and their fares")
        .describe("last_fare", Description::new().unit("USD").text("Of the newest trip that has ended"))
        .build()
}
