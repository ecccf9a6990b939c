//! Times and numbers as points on a circle, so that the end of a day is as near to its start as it is on the clock.
//! Each is two features: the sine and the cosine of an angle.

use std::{f64::consts::TAU, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Float64Array, RecordBatch},
    datatypes::{DataType, Float64Type, TimestampMicrosecondType},
};
use chrono::{Datelike, NaiveDateTime, Timelike};

use super::{Encoder, Spec, unusable};
use crate::{
    error::Result,
    time::{DAY_US, Zone},
};

/// The sine and cosine of an angle that goes around once in a day, week, month or year of a zone's clock, or in the period of a
/// number: the features `<prefix>_sin` and `<prefix>_cos`.
///
/// The angle in radians is `2π · elapsed / length`. `elapsed` is how far the local clock has gone since the cycle began, to the
/// microsecond, so the angle grows continuously and has no steps at hours or days. `length` is the length of the cycle by the
/// calendar. On the days when clocks change, the angle follows the clock on the wall: it jumps when the clock is put forward, and
/// takes the same values twice when it is put back.
///
/// NULL stays NULL. An instant beyond the calendar (about 262,000 years from today) is NULL, and so is a number that is NaN or
/// infinite.
///
/// ```
/// use asof::encoder::Cyclic;
/// let new_york = "America/New_York".parse()?;
/// let hour = Cyclic::hour_of_day("pickup_at", new_york); // `pickup_at_hour_sin` and `pickup_at_hour_cos`
/// let wind = Cyclic::of_number("wind_degrees", 360.0).named("wind"); // `wind_sin` and `wind_cos`
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Cyclic {
    column: String,
    cycle: Cycle,
    prefix: String,
}

#[derive(Debug, Clone, Copy)]
enum Cycle {
    Instant(Turn, Zone),
    Number { period: f64 },
}

/// What an instant goes around once in.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Day,
    Week,
    Month,
    Year,
}

impl Cyclic {
    /// Around once a day, from midnight; the prefix is `<column>_hour`.
    pub fn hour_of_day(column: impl Into<String>, zone: Zone) -> Self {
        Self::of_instant(column, Turn::Day, zone)
    }

    /// Around once a week, from Monday's midnight; the prefix is `<column>_hour_of_week`.
    pub fn hour_of_week(column: impl Into<String>, zone: Zone) -> Self {
        Self::of_instant(column, Turn::Week, zone)
    }

    /// Around once a month of 28 to 31 days, from the first midnight; the prefix is `<column>_day_of_month`.
    pub fn day_of_month(column: impl Into<String>, zone: Zone) -> Self {
        Self::of_instant(column, Turn::Month, zone)
    }

    /// Around once a year of 365 or 366 days, from the midnight of 1 January; the prefix is `<column>_day_of_year`.
    pub fn day_of_year(column: impl Into<String>, zone: Zone) -> Self {
        Self::of_instant(column, Turn::Year, zone)
    }

    fn of_instant(column: impl Into<String>, turn: Turn, zone: Zone) -> Self {
        let column = column.into();
        let prefix = match turn {
            Turn::Day => format!("{column}_hour"),
            other => format!("{column}_{}", other.name()),
        };
        Self { column, cycle: Cycle::Instant(turn, zone), prefix }
    }

    /// Around once in a period of a number, from zero: the angle is `2π · number / period`. The prefix is the column's name. The
    /// period is finite and larger than zero; a set with another one is refused when it is built.
    pub fn of_number(column: impl Into<String>, period: f64) -> Self {
        let column = column.into();
        Self { prefix: column.clone(), column, cycle: Cycle::Number { period } }
    }

    /// What the features' names begin with.
    pub fn named(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Which parts of a whole turn the values of a column are.
    fn turns(&self, column: &ArrayRef) -> Result<Float64Array> {
        match self.cycle {
            Cycle::Instant(turn, zone) => {
                let instants = column.as_primitive::<TimestampMicrosecondType>();
                Ok(instants.iter().map(|us| Some(turn.part(zone.local(us?)?))).collect())
            }
            Cycle::Number { period } => {
                if period <= 0.0 || !period.is_finite() {
                    let reason = format!("its period is {period:?}; write a finite number above zero");
                    return Err(unusable(&self.prefix, reason));
                }
                // The remainder is exact, also of a number that is far larger than the period.
                let numbers = column.as_primitive::<Float64Type>();
                Ok(numbers.unary_opt(|x| x.is_finite().then(|| x % period / period)))
            }
        }
    }
}

impl Turn {
    fn name(self) -> &'static str {
        match self {
            Turn::Day => "hour_of_day",
            Turn::Week => "hour_of_week",
            Turn::Month => "day_of_month",
            Turn::Year => "day_of_year",
        }
    }

    /// How much of the turn has gone by, from zero to below one.
    fn part(self, local: NaiveDateTime) -> f64 {
        let (days_before, days) = match self {
            Turn::Day => (0, 1),
            Turn::Week => (local.weekday().num_days_from_monday(), 7),
            Turn::Month => (local.day0(), u32::from(local.num_days_in_month())),
            Turn::Year => (local.ordinal0(), if local.date().leap_year() { 366 } else { 365 }),
        };
        let time_us = i64::from(local.num_seconds_from_midnight()) * 1_000_000 + i64::from(local.nanosecond() / 1_000);
        let elapsed_us = i64::from(days_before) * DAY_US + time_us;
        elapsed_us as f64 / (i64::from(days) * DAY_US) as f64
    }
}

impl Encoder for Cyclic {
    fn spec(&self) -> Spec {
        let spec = Spec::new("cyclic", 1);
        let spec = match self.cycle {
            Cycle::Instant(turn, zone) => {
                spec.instant(&self.column).parameter("cycle", turn.name()).parameter("zone", zone.to_string())
            }
            Cycle::Number { period } => spec.number(&self.column).parameter("period", period),
        };
        let [sin, cos] = ["sin", "cos"].map(|function| format!("{}_{function}", self.prefix));
        spec.output(sin, DataType::Float64).output(cos, DataType::Float64)
    }

    /// It is called on fixed inputs when a set is built, so an unusable period is refused there.
    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let turns = self.turns(input.column(0))?;
        let of = |function: fn(f64) -> f64| Arc::new(turns.unary::<_, Float64Type>(|turn| function(TAU * turn))) as ArrayRef;
        Ok(vec![of(f64::sin), of(f64::cos)])
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::FRAC_1_SQRT_2;

    use arrow::array::TimestampMicrosecondArray;

    use super::*;
    use crate::{
        encoder::input_schema,
        error::Error,
        time::{AsOf, parse_time},
    };

    type Point = Option<[f64; 2]>;

    fn points(cyclic: &Cyclic, column: ArrayRef) -> Vec<Point> {
        let encoded = cyclic.encode(&RecordBatch::try_from_iter([("x", column)]).unwrap()).unwrap();
        let [sin, cos] = [0, 1].map(|i| encoded[i].as_primitive::<Float64Type>().clone());
        sin.iter().zip(cos.iter()).map(|(sin, cos)| Some([sin?, cos?])).collect()
    }

    fn at(cyclic: &Cyclic, instant_us: Option<i64>) -> Point {
        points(cyclic, Arc::new(TimestampMicrosecondArray::from(vec![instant_us]).with_timezone("UTC")))[0]
    }

    fn is_near(found: Point, expected: [f64; 2]) -> bool {
        found.is_some_and(|found| (0..2).all(|i| (found[i] - expected[i]).abs() < 1e-12))
    }

    /// The numbers are those of pandas and numpy: `np.sin(2 * np.pi * part)` and `np.cos` of it, where `part` is the time since
    /// the midnight of the day, Monday, month and year that `pd.Timestamp(text).tz_convert("America/New_York").tz_localize(None)`
    /// lies in, divided by the length of that day, week, month and year.
    #[test]
    fn angles_are_those_of_the_clock_on_the_wall() {
        let zone = "America/New_York".parse().unwrap();
        let cycles: [fn(&'static str, Zone) -> Cyclic; 4] =
            [Cyclic::hour_of_day, Cyclic::hour_of_week, Cyclic::day_of_month, Cyclic::day_of_year];
        let put_back = [
            [0.3826834323650898, 0.9238795325112867],
            [-0.7456421648831655, 0.6663465779520041],
            [0.22069743502150108, 0.9753423205085127],
            [-0.858212207157547, 0.5132950491537706],
        ];
        let march = [
            [0.4999999999370208, 0.8660254038207997],
            [-0.7330518718368926, 0.6801727377633038],
            [0.9977186146802292, -0.06750974685602461],
            [0.9147086375995551, 0.4041139793434097],
        ];
        let put_forward = [
            [FRAC_1_SQRT_2, FRAC_1_SQRT_2],
            [-FRAC_1_SQRT_2, FRAC_1_SQRT_2],
            [0.9971129134476475, -0.07593311422524611],
            [0.9149982565100727, 0.40345779281546573],
        ];
        let leap = [
            [-0.9914448613738105, 0.13052619222005127],
            [0.6380001539330086, 0.7700362352392629],
            [-0.046431578699791816, 0.9989214726390884],
            [-0.003934133657289279, 0.9999922612662393],
        ];
        let before_1970 = [
            [-0.9659258263078904, 0.258819045032276],
            [0.5938201855818606, -0.8045977797604992],
            [-0.04221316068457052, 0.9991086272598284],
            [-0.0035862852962375794, 0.9999935692582098],
        ];
        for (text, expected) in [
            ("2014-11-02T05:30:00Z", put_back),
            ("2014-11-02T06:30:00Z", put_back),
            ("2014-03-09T06:59:59.999999Z", march),
            ("2014-03-09T07:00:00Z", put_forward),
            ("2012-12-31T23:30:00Z", leap),
            ("1969-12-31T23:59:59.999999Z", before_1970),
        ] {
            let instant_us = parse_time(text, None).unwrap();
            for (cycle, expected) in cycles.iter().zip(expected) {
                let found = at(&cycle("x", zone), Some(instant_us));
                assert!(is_near(found, expected), "{text} {cycle:?}: {found:?}, not {expected:?}");
            }
        }
        let midnight = "2013-01-01T05:00:00Z".parse::<AsOf>().unwrap().micros();
        for cycle in [cycles[0], cycles[2], cycles[3]] {
            assert_eq!(at(&cycle("x", zone), Some(midnight)), Some([0.0, 1.0]));
            let [sin, cos] = at(&cycle("x", zone), Some(midnight - 1)).unwrap();
            assert!((-1e-9..0.0).contains(&sin) && cos > 1.0 - 1e-9, "the microsecond before is as near as on the clock");
        }
        for unknown in [None, Some(i64::MIN), Some(i64::MAX)] {
            assert!(cycles.iter().all(|cycle| at(&cycle("x", zone), unknown).is_none()), "{unknown:?}");
        }
        for last in [NaiveDateTime::MIN, NaiveDateTime::MAX] {
            let last_us = last.and_utc().timestamp_micros();
            for cycle in &cycles {
                let [sin, cos] = at(&cycle("x", Zone::UTC), Some(last_us)).unwrap();
                assert!((sin * sin + cos * cos - 1.0).abs() < 1e-12);
                assert!(at(&cycle("x", zone), Some(last_us)).is_none_or(|point| point[0].is_finite()));
            }
        }
    }

    #[test]
    fn a_number_goes_around_in_its_period() {
        let numbers = vec![
            Some(0.0),
            Some(90.0),
            Some(-90.0),
            Some(405.0),
            Some(360.0 * 1e15),
            None,
            Some(f64::NAN),
            Some(f64::INFINITY),
            Some(100_f64.exp2()),
        ];
        let found = points(&Cyclic::of_number("x", 360.0), Arc::new(Float64Array::from(numbers)));
        for (found, expected) in
            found.iter().zip([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0], [FRAC_1_SQRT_2, FRAC_1_SQRT_2], [0.0, 1.0]])
        {
            assert!(is_near(*found, expected), "{found:?}, not {expected:?}");
        }
        assert_eq!(found[5..8], [None; 3]);
        // In integers, as Python has them: `2**100 % 360` is 16.
        assert!(is_near(found[8], [16_f64.to_radians().sin(), 16_f64.to_radians().cos()]));
        let tiny = points(&Cyclic::of_number("x", 5e-324), Arc::new(Float64Array::from(vec![f64::MAX])));
        assert_eq!(tiny, [Some([0.0, 1.0])]);
    }

    #[test]
    fn an_unusable_period_is_refused() {
        let input = RecordBatch::new_empty(input_schema(&Cyclic::of_number("x", 1.0).spec()));
        for period in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let refused = Cyclic::of_number("x", period).named("p").encode(&input).unwrap_err();
            assert!(matches!(&refused, Error::Definition { subject, .. } if subject == "`p`"), "{refused}");
            assert!(refused.to_string().contains(&format!("{period:?}")), "{refused}");
        }
        assert!(Cyclic::of_number("x", 5e-324).encode(&input).is_ok());
    }
}
