//! `flights_v2`: whether a flight leaves at least fifteen minutes late. It needs the tables of `flights_v1`, on which it draws.

use asof::{
    FeatureSet, Result,
    encoder::{Cyclic, Impute, OneHot, TargetMean},
    feature_set::Description,
    time::Zone,
};

use crate::flights_v1;

/// Rows: flights that left. Features: the weather at the airport; the departures and delays of the carrier and of the aircraft over
/// the last day and week, as far as they were known at the scheduled departure; the time of day and of the week; the airport; and
/// the share of late flights of the carrier, in the order of time. Label: `late`, 1 if the flight left fifteen minutes late or more.
///
/// A request has `origin`, `carrier`, `tailnum` and `scheduled_at`.
///
/// # Errors
/// None in practice: the definition is fixed, and a test builds it.
///
/// ```
/// let set = asof_features::flights_v2()?;
/// assert!(set.features().contains(&"late_by_carrier".to_owned()));
/// # Ok::<(), asof::Error>(())
/// ```
pub fn flights_v2() -> Result<FeatureSet> {
    let new_york: Zone = "America/New_York".parse()?;
    let history = ["carrier_departures_1d", "carrier_departures_7d", "tailnum_departures_1d", "tailnum_departures_7d"];
    let delays = ["carrier_delay_1d", "carrier_delay_7d", "tailnum_delay_1d", "tailnum_delay_7d"];
    let weather = ["temp", "wind_speed", "precip", "visib"];
    let set = FeatureSet::rows("flights_v2", include_str!("query.sql"))
        .description("Whether a flight leaves late")
        .table("flights")
        .event_time("scheduled_at")
        .features_of(flights_v1()?.by(["origin", "carrier", "tailnum"]).only(weather.into_iter().chain(history).chain(delays)))
        .pass(history);
    let set = weather.into_iter().chain(delays).fold(set, |set, column| set.encode_fitted(Impute::mean(column)));
    // A fifth, about the share in all, before any flight has left.
    let late = TargetMean::of("late").by("carrier").prior(50.0).in_order_of("scheduled_at", "departed_at").otherwise(0.2);
    set.encode(Cyclic::hour_of_day("scheduled_at", new_york))
        .encode(Cyclic::hour_of_week("scheduled_at", new_york))
        .encode_fitted(OneHot::of("origin", ["EWR", "JFK"]))
        .encode_fitted(late)
        .label("late")
        .describe("late", Description::new().text("1 if the flight left fifteen minutes late or more, otherwise 0"))
        .build()
}
