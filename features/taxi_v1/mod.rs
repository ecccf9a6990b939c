//! `taxi_v1`: the price of a taxi ride in business hours, by its distance.
//! It needs a table `nyc_taxi` whose known-at column is the drop-off: a fare is known when the trip ends.

use asof::{
    FeatureSet, Result,
    encoder::{Number, OutlierFilter, Sample},
    feature_set::Description,
};

/// Rows: trips from 9 to 17 o'clock. Outliers of distance and amount are removed (strictly between the 2nd and the 98th
/// percentile of each, learned from the trips visible at the as-of), and a tenth is drawn.
///
/// Feature: `trip_distance` in miles. Label: `total_amount` in dollars.
///
/// # Errors
/// None in practice: the definition is fixed, and a test builds it.
///
/// ```
/// let set = asof_features::taxi_v1()?;
/// assert_eq!(set.features(), ["trip_distance"]);
/// # Ok::<(), asof::Error>(())
/// ```
pub fn taxi_v1() -> Result<FeatureSet> {
    FeatureSet::rows("taxi_v1", include_str!("query.sql"))
        .table("nyc_taxi")
        .event_time("pickup_at")
        .keep(OutlierFilter::between_percentiles(2.0, 98.0).of(["trip_distance", "total_amount"]))
        .keep(Sample::fraction(0.1, 7).of_instants(["pickup_at"]).of_numbers(["trip_distance", "total_amount"]))
        .encode(Number::of("trip_distance"))
        .label("total_amount")
        .description("The price of a taxi ride in business hours, by its distance")
        .describe("trip_distance", Description::new().unit("miles").text("By the taximeter"))
        .describe("total_amount", Description::new().unit("USD").text("What the passenger paid in all"))
        .build()
}
