//! `taxi_v2`: the price of a taxi ride in business hours, by its distance, by how busy its zone was and by the time of day.
//! It needs the table of `taxi_v1`, and draws on `zone_demand_v1`.

use asof::{
    FeatureSet, Result,
    encoder::{Clip, Cyclic, Impute, OutlierFilter, Sample, TargetMean},
    feature_set::Description,
    time::Zone,
};

use crate::zone_demand_v1;

/// Rows: those of [`taxi_v1`](fn@crate::taxi_v1), with the same row selections, so that both are fitted and scored on the same rows.
///
/// Features: the distance in miles, at most 30; the number of trips that began in the pick-up zone in the hour, day and week before,
/// and the mean of their fares over the day and the week, as far as they had ended, at most 200 dollars; sine and cosine of the time
/// of day and of the week by New York's clocks; and the mean amount of the zone, smoothed by 20 rows. Label: `total_amount` in dollars.
///
/// A request has `trip_distance`, `pickup_zone` and `pickup_at`.
///
/// # Errors
/// None in practice: the definition is fixed, and a test builds it.
///
/// ```
/// let set = asof_features::taxi_v2()?;
/// assert_eq!(set.drawn_on().next().unwrap().name().as_str(), "zone_demand_v1");
/// assert_eq!(set.features()[0], "clipped_trip_distance");
/// # Ok::<(), asof::Error>(())
/// ```
pub fn taxi_v2() -> Result<FeatureSet> {
    let new_york: Zone = "America/New_York".parse()?;
    let demand = ["trips_1h", "trips_24h", "trips_7d", "mean_fare_24h", "mean_fare_7d"];
    FeatureSet::rows("taxi_v2", include_str!("query.sql"))
        .description("The price of a ride, by distance, demand in its zone, and time")
        .table("nyc_taxi")
        .event_time("pickup_at")
        .features_of(zone_demand_v1()?.by(["pickup_zone"]).only(demand))
        .keep(OutlierFilter::between_percentiles(2.0, 98.0).of(["trip_distance", "total_amount"]))
        .keep(Sample::fraction(0.1, 7).of_instants(["pickup_at"]).of_numbers(["trip_distance", "total_amount"]))
        .encode(Clip::of("trip_distance", 0.0, 30.0))
        .pass(["trips_1h", "trips_24h", "trips_7d"])
        .encode(Clip::of("mean_fare_24h", 0.0, 200.0))
        .encode(Clip::of("mean_fare_7d", 0.0, 200.0))
        .encode_fitted(Impute::mean("clipped_mean_fare_24h").named("mean_fare_24h_or_mean"))
        .encode_fitted(Impute::mean("clipped_mean_fare_7d").named("mean_fare_7d_or_mean"))
        .intermediate(["clipped_mean_fare_24h", "clipped_mean_fare_7d"])
        .encode(Cyclic::hour_of_day("pickup_at", new_york))
        .encode(Cyclic::hour_of_week("pickup_at", new_york))
        .encode_fitted(TargetMean::of("total_amount").by("pickup_zone").prior(20.0))
        .label("total_amount")
        .describe("clipped_trip_distance", Description::new().unit("miles"))
        .describe("total_amount", Description::new().unit("USD"))
        .build()
}
