//! Names of features by a pattern: those of the aggregates of a source that have no name of their own.
//! The names become part of the definition; the pattern does not.

use crate::temporal::{Aggregate, WindowLength};

/// A pattern, parsed.
pub(super) struct NamePattern(Vec<Part>);

enum Part {
    Text(String),
    Aggregate,
    Column,
    Window,
    Table,
}

impl NamePattern {
    /// # Errors
    /// What is wrong with the pattern.
    pub(super) fn parse(pattern: &str) -> Result<Self, String> {
        if pattern.is_empty() {
            return Err("it is empty".into());
        }
        let (mut parts, mut rest) = (Vec::new(), pattern);
        let text = |text: &str| {
            if text.contains('}') { Err("a `}` in it has no `{`") } else { Ok(Part::Text(text.into())) }
        };
        while let Some((before, after)) = rest.split_once('{') {
            parts.push(text(before)?);
            let Some((name, after)) = after.split_once('}') else { return Err("a `{` in it has no `}`".into()) };
            parts.push(match name {
                "aggregate" => Part::Aggregate,
                "column" => Part::Column,
                "window" => Part::Window,
                "table" => Part::Table,
                other => {
                    return Err(format!(
                        "`{{{other}}}` in it is none of `{{aggregate}}`, `{{column}}`, `{{window}}` and `{{table}}`"
                    ));
                }
            });
            rest = after;
        }
        parts.push(text(rest)?);
        Ok(Self(parts))
    }

    /// The name of an aggregate over a table and a window, unless it has one. A part that
    /// is empty is left out together with a `_` beside it.
    pub(super) fn name(&self, aggregate: &Aggregate, table: &str, length: &WindowLength) -> Option<String> {
        let (function, over) = aggregate.name_parts()?;
        let window = length.short();
        let (mut name, mut skips_underscore) = (String::new(), false);
        for part in &self.0 {
            let value: &str = match part {
                Part::Text(text) => {
                    let own = if skips_underscore { text.strip_prefix('_').unwrap_or(text) } else { text };
                    name.push_str(own);
                    skips_underscore = false;
                    continue;
                }
                Part::Aggregate => function,
                Part::Column => &over,
                Part::Window => &window,
                Part::Table => table.rsplit('.').next().unwrap_or(table),
            };
            if !value.is_empty() {
                name.push_str(value);
            } else if name.ends_with('_') {
                name.pop();
            } else {
                skips_underscore = true;
            }
        }
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::{
        feature_set::{EntitySetBuilder, FeatureSet, Source},
        temporal::Expression,
    };

    const HOUR_US: i64 = 3_600_000_000;

    #[test]
    fn an_empty_part_is_left_out_with_an_underscore() {
        let named = |pattern: &str, aggregate: &Aggregate, length: Option<i64>| {
            let length = length.map_or_else(WindowLength::everything, |us| TimeDelta::microseconds(us).into());
            NamePattern::parse(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}")).name(aggregate, "sales.trips", &length)
        };
        let (count, sum) = (Aggregate::count(), Aggregate::sum("fare"));
        for (pattern, of_count, of_sum) in [
            ("{aggregate}_{column}_{window}", "count_24h", "sum_fare_24h"),
            ("{column}_{aggregate}_{window}", "count_24h", "fare_sum_24h"),
            ("{aggregate}_{column}", "count", "sum_fare"),
            ("f_{column}_{aggregate}", "f_count", "f_fare_sum"),
            ("{table}.{aggregate}.{column}", "trips.count.", "trips.sum.fare"),
            ("{aggregate}{column}{window}", "count24h", "sumfare24h"),
            ("x", "x", "x"),
        ] {
            assert_eq!(named(pattern, &count, Some(24 * HOUR_US)).unwrap(), of_count);
            assert_eq!(named(pattern, &sum, Some(24 * HOUR_US)).unwrap(), of_sum);
        }
        let pattern = "{aggregate}_{column}_{window}";
        for (aggregate, length, name) in [
            (Aggregate::quantile("fare", 0.9), Some(HOUR_US / 2), "q0.9_fare_30m"),
            (Aggregate::median("fare"), Some(7 * 24 * HOUR_US), "median_fare_7d"),
            (Aggregate::last_k("fare", 3), None, "last_3_fare_all"),
            (Aggregate::count_of("fare"), Some(HOUR_US), "count_fare_1h"),
            (Aggregate::first_k("fare", 2), Some(HOUR_US), "first_2_fare_1h"),
            (Aggregate::top_k("vendor", 5), Some(HOUR_US), "top_5_vendor_1h"),
            (Aggregate::top_share("vendor"), Some(HOUR_US), "top_share_vendor_1h"),
            (Aggregate::entropy("vendor"), Some(HOUR_US), "entropy_vendor_1h"),
            (Aggregate::max_by("tip", "fare"), Some(HOUR_US), "max_by_tip_fare_1h"),
            (Aggregate::min_by("tip", Expression::sql("fare / miles")), Some(HOUR_US), "min_by_tip_fare_miles_1h"),
            (Aggregate::mean(Expression::sql("tip / fare")).filter("fare > 0"), Some(HOUR_US), "mean_tip_fare_1h"),
        ] {
            assert_eq!(named(pattern, &aggregate, length).unwrap(), name);
        }
        assert_eq!(named(pattern, &Aggregate::sum("fare").named("money"), None), None);
    }

    fn trips(name: &str) -> EntitySetBuilder {
        let day = TimeDelta::days(1);
        FeatureSet::entities(name, "trips")
            .key("zone")
            .lookup("fare", "last_fare")
            .window(day, [Aggregate::count(), Aggregate::sum("fare"), Aggregate::max("fare").named("most")])
    }

    /// The names are part of the definition, and how they were made is not.
    #[test]
    fn a_set_with_a_pattern_is_the_set_with_its_names() {
        let weather = || Source::of("weather").on("zone").lookup("temp", "temp").all_before([Aggregate::mean("rain")]);
        let set = trips("zones_v1")
            .names("{aggregate}_{column}_{window}")
            .also(weather().prefixed("here_"))
            .also(weather().names("{table}_{column}").prefixed("there_"))
            .also(weather().names("{column}_{aggregate}"))
            .describe("sum_fare_24h", crate::feature_set::Description::new().unit("USD"))
            .build();
        let set = match set {
            Ok(set) => set,
            Err(error) => panic!("{error}"),
        };
        let names = [
            "last_fare",
            "count_24h",
            "sum_fare_24h",
            "most",
            "here_temp",
            "here_mean_rain_all",
            "there_temp",
            "there_weather_rain",
            "temp",
            "rain_mean",
        ];
        assert_eq!(set.features(), names);
        let named = |prefix: &str, name: &str| {
            let rain = [Aggregate::mean("rain").named(name)];
            Source::of("weather").on("zone").lookup("temp", &format!("{prefix}temp")).all_before(rain)
        };
        let written = FeatureSet::entities("zones_v1", "trips")
            .key("zone")
            .lookup("fare", "last_fare")
            .window(
                TimeDelta::days(1),
                [
                    Aggregate::count().named("count_24h"),
                    Aggregate::sum("fare").named("sum_fare_24h"),
                    Aggregate::max("fare").named("most"),
                ],
            )
            .also(named("here_", "here_mean_rain_all"))
            .also(named("there_", "there_weather_rain"))
            .also(named("", "rain_mean"));
        assert_eq!(written.build().unwrap().fingerprint(), set.fingerprint());
        // The set's own table has a prefix of its own.
        let prefixed = trips("zones_v1").prefixed("trips_").build().unwrap();
        assert_eq!(prefixed.features(), ["trips_last_fare", "trips_count", "trips_sum_fare", "trips_most"]);
    }

    #[test]
    fn patterns_that_cannot_be_read_and_names_that_are_taken_are_mistakes() {
        let weather = || Source::of("weather").on("zone").all_before([Aggregate::mean("rain")]);
        for (pattern, told) in [
            ("", "it is empty"),
            ("{agg}_{column}", "`{agg}` in it is none of `{aggregate}`, `{column}`"),
            ("sum_{column", "a `{` in it has no `}`"),
            ("sum}_{column}", "a `}` in it has no `{`"),
            ("{aggregate}}_{column}", "a `}` in it has no `{`"),
        ] {
            let days = trips("zones_v1").window(TimeDelta::days(2), [Aggregate::sum("fare")]).names(pattern);
            let of_set =
                days.describe("sum_fare_2d", crate::feature_set::Description::new().unit("USD")).build().unwrap_err().to_string();
            assert!(of_set.contains("`zones_v1`") && of_set.contains("`trips`") && of_set.contains(told), "{of_set}");
            assert_eq!(of_set.matches(told).count(), 1, "{of_set}");
            // Names that the pattern would have told apart are no mistakes of their own.
            assert!(!of_set.contains("called") && !of_set.contains("described"), "{of_set}");
            let of_source = trips("zones_v1").also(weather().names(pattern)).build().unwrap_err().to_string();
            assert!(of_source.contains("`weather`") && of_source.contains(told), "{of_source}");
        }
        let both = trips("zones_v1").names("{aggregate}_{window}").window(TimeDelta::hours(24), [Aggregate::sum("tip")]);
        let told = both.build().unwrap_err().to_string();
        assert!(told.contains("two of its columns are called `sum_24h`"), "{told}");
    }
}
