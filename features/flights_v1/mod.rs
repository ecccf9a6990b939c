//! `flights_v1`: what is known before a flight leaves: the weather at its airport, and the delays of its carrier and its aircraft. It needs the tables `flights` (`origin`, `carrier`, `tailnum`, `dep_delay` in minutes; happens at the scheduled
//! departure, known at the actual one) and `weather` (`origin`, `temp`, `wind_speed`, `precip`, `visib`).

use asof::{Aggregate, FeatureSet, Result, feature_set::Source};
use chrono::TimeDelta;

/// Entity: `origin`, `carrier`, `tailnum`.
///
/// Features: the newest reading of the weather at `origin`, not older than three hours (`temp` in degrees Fahrenheit,
/// `wind_speed` in miles per hour, `precip` in inches, `visib` in miles); and over the last day and week, for the carrier and
/// for the aircraft, the number of departures (`*_departures_*`) and the mean and largest departure delay in minutes
/// (`*_delay_*`, `*_worst_*`). A departure counts once it is known, so a flight that is still waiting, or that never
/// left, is in no delay.
///
/// # Errors
/// None in practice: the definition is fixed, and a test builds it.
///
/// ```
/// let set = asof_features::flights_v1()?;
/// assert_eq!(set.features()[..2], ["temp", "wind_speed"]);
/// # Ok::<(), asof::Error>(())
/// ```
pub fn flights_v1() -> Result<FeatureSet> {
    let weather = ["temp", "wind_speed", "precip", "visib"]
        .into_iter()
        .fold(Source::of("weather").on("origin"), |source, column| source.lookup(column, column))
        .max_age(TimeDelta::hours(3));
    FeatureSet::entities("flights_v1", "flights")
        .key("origin")
        .key("carrier")
        .key("tailnum")
        .also(weather)
        .also(delays("carrier"))
        .also(delays("tailnum"))
        .build()
}

/// The departures of all flights that share a key.
fn delays(key: &str) -> Source {
    [("1d", TimeDelta::days(1)), ("7d", TimeDelta::days(7))].into_iter().fold(Source::of("flights").on(key), |source, window| {
        let (name, length) = window;
        let departures = Aggregate::count_of("dep_delay").named(format!("{key}_departures_{name}"));
        let delay = Aggregate::mean("dep_delay").named(format!("{key}_delay_{name}"));
        let worst = Aggregate::max("dep_delay").named(format!("{key}_worst_{name}"));
        source.window(length, [departures, delay, worst])
    })
}
