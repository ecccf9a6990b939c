//! Functions of Presto, Trino and Athena that DataFusion lacks or defines differently. All SQL of this library knows them.
//! They do what Trino documents, or fail; none reads the machine's clock or a session's time zone.
//!
//! They work in [`FeatureStore::sql`](crate::FeatureStore::sql), in extracts and in the queries of feature sets. Every line of the
//! tables below is a test: `SELECT <query>` yields the result.
//!
//! The type of a time can name a zone, as that of `t AT TIME ZONE 'America/New_York'` or `t AT TIME ZONE '+02:00'` does. Parts,
//! formats, and sums and differences in days or longer units are then those of that zone's clock. Times without a zone are read as
//! UTC. Daylight saving time is known up to 2099; Trino continues with the last rule. A NULL argument makes the result NULL unless
//! a line says otherwise. What cannot be computed (a text that is not a time, an instant outside the years -262143 to 262142) is an
//! error, as in Trino. There is no `TRY`.
//!
//! # Parts of times
//!
//! Arguments are timestamps and dates; results are `bigint`.
//!
//! | signature | query | result |
//! |---|---|---|
//! | `year(t)` | `year(TIMESTAMP '2014-11-03 09:30:15')` | `2014` |
//! | `quarter(t)` | `quarter(DATE '2014-11-03')` | `4` |
//! | `month(t)` | `month(DATE '1969-12-31')` | `12` |
//! | `week(t)`, `week_of_year(t)`: ISO 8601, 1 to 53 | `week(DATE '2016-01-03')` | `53` |
//! | `year_of_week(t)`, `yow(t)`: the year of the ISO week | `yow(DATE '2016-01-03')` | `2015` |
//! | `day(t)`, `day_of_month(t)` | `day_of_month(DATE '2014-11-03')` | `3` |
//! | `day_of_week(t)`, `dow(t)`: 1 is Monday, 7 is Sunday | `dow(DATE '2014-11-02')` | `7` |
//! | `day_of_year(t)`, `doy(t)` | `doy(DATE '2012-12-31')` | `366` |
//! | `hour(t)` | `hour(TIMESTAMP '1969-12-31 23:59:59.5')` | `23` |
//! | `minute(t)` | `minute(TIMESTAMP '2014-11-03 09:30:15')` | `30` |
//! | `second(t)`: 0 to 59, without the fraction | `second(TIMESTAMP '1969-12-31 23:59:59.5')` | `59` |
//!
//! # Seconds since 1970
//!
//! | signature | query | result |
//! |---|---|---|
//! | `from_unixtime(bigint)`: an instant, to a microsecond | `from_unixtime(1414800000)` | `2014-11-01T00:00:00Z` |
//! | `from_unixtime(double)`: fractions are kept | `from_unixtime(-0.25)` | `1969-12-31T23:59:59.750Z` |
//! | `to_unixtime(t)`: a double | `to_unixtime(TIMESTAMP '1969-12-31 23:59:59.5')` | `-0.5` |
//!
//! # Differences and sums
//!
//! Units are `millisecond`, `second`, `minute`, `hour`, `day`, `week`, `month`, `quarter` and `year`. Units up to the hour have a
//! fixed length. Days and longer units are counted on the clock of `t`, or of `a` for both `a` and `b`: a day on which clocks change
//! has 23 or 25 hours.
//!
//! | signature | query | result |
//! |---|---|---|
//! | `date_diff(unit, a, b)`: whole units from a to b | `date_diff('hour', TIMESTAMP '2014-11-01 23:30:00', TIMESTAMP '2014-11-03 01:00:00')` | `25` |
//! | cut towards zero | `date_diff('minute', TIMESTAMP '1970-01-01 00:00:30', TIMESTAMP '1969-12-31 23:59:00')` | `-1` |
//! | full months; a month's last day completes it | `date_diff('month', DATE '2014-01-31', DATE '2014-02-28')` | `1` |
//! | | `date_diff('month', DATE '2014-01-15', DATE '2014-03-14')` | `1` |
//! | days and longer units by the clock of a | `date_diff('day', from_iso8601_timestamp('2014-11-01T04:00:00Z') AT TIME ZONE 'America/New_York', from_iso8601_timestamp('2014-11-03T04:59:59Z'))` | `1` |
//! | `date_add(unit, n, t)`: of the type of t, to a microsecond | `date_add('minute', -90, TIMESTAMP '1970-01-01 01:00:00')` | `1969-12-31T23:30:00` |
//! | a day that the month lacks is its last | `date_add('month', 1, DATE '2012-01-31')` | `2012-02-29` |
//! | days and longer units by the clock of t | `date_add('day', 1, from_iso8601_timestamp('2014-11-01T16:00:00Z') AT TIME ZONE 'America/New_York')` | `2014-11-02T12:00:00-05:00` |
//! | a time that the clock leaps over moves on by the leap, as in Trino | `date_add('day', 1, from_iso8601_timestamp('2014-03-08T07:30:00Z') AT TIME ZONE 'America/New_York')` | `2014-03-09T03:30:00-04:00` |
//! | of a time that occurs twice the one with the offset of t, as in Trino | `date_add('day', 1, from_iso8601_timestamp('2014-11-01T05:30:00Z') AT TIME ZONE 'America/New_York')` | `2014-11-02T01:30:00-04:00` |
//! | which may be the later; if neither has it, the earlier | `date_add('day', -1, from_iso8601_timestamp('2014-11-03T06:30:00Z') AT TIME ZONE 'America/New_York')` | `2014-11-02T01:30:00-05:00` |
//!
//! # Texts
//!
//! Formats are MySQL's: `%a %b %c %d %e %f %H %h %I %i %j %k %l %M %m %p %r %S %s %T %W %Y %y %%`, and `%v %x` (the ISO week
//! and its year) in `date_format`. `%D %U %u %V %w %X` are refused, as in Trino.
//!
//! | signature | query | result |
//! |---|---|---|
//! | `from_iso8601_timestamp(text)`: an instant; without an offset, UTC | `from_iso8601_timestamp('2014-11-01T09:30:00.25+01:00')` | `2014-11-01T08:30:00.250Z` |
//! | | `from_iso8601_timestamp('1969-12-31')` | `1969-12-31T00:00:00Z` |
//! | `date_parse(text, format)`: a timestamp without a zone | `date_parse('4/1/2014 1:05 PM', '%c/%e/%Y %l:%i %p')` | `2014-04-01T13:05:00` |
//! | years of two digits begin with 1970 | `date_parse('69-12-31', '%y-%m-%d')` | `2069-12-31T00:00:00` |
//! | `date_format(t, format)`: by the clock of t | `date_format(TIMESTAMP '2014-11-03 09:05:00', '%W, %e %M %Y %H:%i')` | `Monday, 3 November 2014 09:05` |
//! | `regexp_like(text, pattern)`: DataFusion's; anywhere in the text | `regexp_like('taxi_v12', 'v[0-9]+')` | `true` |
//! | `strpos(text, part)`: DataFusion's; counted from 1, 0 if absent | `strpos('nyc_taxi', 'taxi')` | `5` |
//!
//! # Values
//!
//! | signature | query | result |
//! |---|---|---|
//! | `if(condition, a [, b])`: NULL counts as false, and without b the result is NULL | `if(NULL, 'yes', 'no')` | `no` |
//! | only the side that is needed is computed | `if(1 > 0, 7, 1 / 0)` | `7` |
//! | `cardinality(list or map)` | `cardinality(array_agg(x)) FROM (VALUES (5), (6)) AS t(x)` | `2` |
//! | `element_at(list, n)`: counted from 1, from the end if negative, NULL beyond | `element_at(array_agg(x ORDER BY x), -1) FROM (VALUES (5), (6)) AS t(x)` | `6` |
//! | `element_at(map, key)`: NULL if absent | | |
//!
//! Lists are written as `[1, 2, 3]`. `l[1]` is an element, counted from 1, and `l[2:3]` a slice. DataFusion's list functions
//! (`array_sort`, `array_length`, `array_has`, ...) work too.
//!
//! # Numbers
//!
//! | signature | query | result |
//! |---|---|---|
//! | `width_bucket(x, low, high, n)`: which of n buckets of one width holds x; 0 below low | `width_bucket(3.14, 0, 4, 3)` | `3` |
//! | a bucket holds its lower end; n + 1 from high on | `width_bucket(4, 0, 4, 3)` | `4` |
//! | counted backwards if low > high | `width_bucket(3.14, 4, 0, 3)` | `1` |
//! | where 0 begins with low itself, as in Trino | `width_bucket(4, 4, 0, 3)` | `0` |
//!
//! # Aggregates
//!
//! They ignore NULL and cannot be used with `OVER`.
//!
//! | signature | query | result |
//! |---|---|---|
//! | `count_if(condition)` | `count_if(x > 5) FROM (VALUES (5), (6), (NULL)) AS t(x)` | `1` |
//! | `approx_percentile(x, fraction)`: DataFusion's t-digest; a double whatever x is | `approx_percentile(x, 0.5) FROM (VALUES (1), (2), (3)) AS t(x)` | `2.0` |
//! | `approx_percentile(x, weight, fraction)` | `round(approx_percentile(x, w, 0.5)) FROM (VALUES (1, 9), (2, 1), (3, 1)) AS t(x, w)` | `1.0` |
//! | `max_by(x, y)`: x where y is largest; of several the largest x | `max_by(x, y) FROM (VALUES ('a', 1), ('b', 2), ('c', 2), ('d', NULL)) AS t(x, y)` | `c` |
//! | `min_by(x, y)`: x where y is smallest; of several the smallest x | `min_by(x, y) FROM (VALUES ('b', 1), ('a', 1), ('d', NULL)) AS t(x, y)` | `a` |

mod aggregates;
mod clock;
mod numbers;
#[cfg(feature = "cluster")]
mod own;
mod scalar;
mod texts;
mod times;
mod values;

use std::sync::Arc;

use datafusion::{execution::registry::FunctionRegistry, logical_expr::ScalarUDF, prelude::SessionContext};
use datafusion_functions_nested::planner::{FieldAccessPlanner, NestedFunctionPlanner};

#[cfg(feature = "cluster")]
pub(crate) use own::{NamedFunctions, OwnFunctions};

use crate::error::Result;

fn scalars() -> impl Iterator<Item = ScalarUDF> {
    [times::functions(), texts::functions(), numbers::functions(), values::functions()].into_iter().flatten()
}

/// Registers the functions in a session, replacing those of the same names.
///
/// # Errors
/// [`Error::Query`](crate::Error::Query) when the session takes no functions.
pub(crate) fn register(session: &SessionContext) -> Result<()> {
    {
        let state = session.state_ref();
        let mut state = state.write();
        datafusion_functions_nested::register_all(&mut *state)?;
        state.register_expr_planner(Arc::new(NestedFunctionPlanner))?;
        state.register_expr_planner(Arc::new(FieldAccessPlanner))?;
    }
    for function in scalars() {
        session.register_udf(function);
    }
    for function in aggregates::functions() {
        session.register_udaf(function);
    }
    Ok(())
}
