//! The great-circle distance between two points, and the bearing from one to the other.
//! Invalid coordinates give NULL.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Float64Array, RecordBatch},
    datatypes::{DataType, Float64Type},
};

use super::{Encoder, Spec};
use crate::error::Result;

/// The mean radius of the earth in kilometres (IUGG).
const EARTH_RADIUS_KM: f64 = 6_371.008_8;

/// The great-circle distance in kilometres between two points given in degrees, by the haversine formula
/// (R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68, 1984).
///
/// NULL when a latitude is beyond ±90 or a longitude beyond ±180.
#[derive(Debug, Clone)]
#[must_use]
pub struct Haversine {
    columns: [String; 4],
    output: String,
}

impl Haversine {
    /// The feature `output`, from the columns `[latitude, longitude]` of both points.
    pub fn between(from: [&str; 2], to: [&str; 2], output: impl Into<String>) -> Self {
        Self { columns: [from[0], from[1], to[0], to[1]].map(str::to_owned), output: output.into() }
    }
}

impl Encoder for Haversine {
    fn spec(&self) -> Spec {
        let spec = self.columns.iter().fold(Spec::new("haversine", 1), Spec::number);
        spec.output(&self.output, DataType::Float64)
    }

    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        Ok(vec![of_two_points(input, haversine_km)])
    }
}

/// The initial bearing of the great circle from one point to another, both given in degrees: clockwise from north, from 0 to
/// below 360 degrees, on a sphere (J. P. Snyder, "Map Projections: A Working Manual", USGS 1987, equation 5-4b).
///
/// NULL when a latitude is beyond ±90 or a longitude beyond ±180, and when the points are the same or opposite, where no one
/// direction leads from one to the other. From a pole, the bearing is that from a point near it on the given longitude.
///
/// ```
/// use asof::encoder::Bearing;
/// let course = Bearing::between(["pickup_latitude", "pickup_longitude"], ["dropoff_latitude", "dropoff_longitude"], "course");
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Bearing {
    columns: [String; 4],
    output: String,
}

impl Bearing {
    /// The feature `output`, from the columns `[latitude, longitude]` of both points.
    pub fn between(from: [&str; 2], to: [&str; 2], output: impl Into<String>) -> Self {
        Self { columns: [from[0], from[1], to[0], to[1]].map(str::to_owned), output: output.into() }
    }
}

impl Encoder for Bearing {
    fn spec(&self) -> Spec {
        let spec = self.columns.iter().fold(Spec::new("bearing", 1), Spec::number);
        spec.output(&self.output, DataType::Float64)
    }

    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        Ok(vec![of_two_points(input, bearing_degrees)])
    }
}

fn of_two_points(input: &RecordBatch, feature: fn([f64; 2], [f64; 2]) -> Option<f64>) -> ArrayRef {
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| input.column(i).as_primitive::<Float64Type>().iter());
    let features: Float64Array = a.zip(b).zip(c.zip(d)).map(|((a, b), (c, d))| feature([a?, b?], [c?, d?])).collect();
    Arc::new(features)
}

/// Whether a latitude and a longitude in degrees are on the globe.
pub(super) fn is_point([latitude, longitude]: [f64; 2]) -> bool {
    latitude.abs() <= 90.0 && longitude.abs() <= 180.0
}

fn haversine_km(from: [f64; 2], to: [f64; 2]) -> Option<f64> {
    if !is_point(from) || !is_point(to) {
        return None;
    }
    let [(lat1, lon1), (lat2, lon2)] = [from, to].map(|[lat, lon]| (lat.to_radians(), lon.to_radians()));
    let (half_lat, half_lon) = (((lat2 - lat1) / 2.0).sin(), ((lon2 - lon1) / 2.0).sin());
    let h = half_lat * half_lat + lat1.cos() * lat2.cos() * half_lon * half_lon;
    // Rounding may lift h of antipodes above one, where the arcsine ends.
    Some(2.0 * EARTH_RADIUS_KM * h.sqrt().min(1.0).asin())
}

fn bearing_degrees(from: [f64; 2], to: [f64; 2]) -> Option<f64> {
    if !is_point(from) || !is_point(to) || are_same_or_opposite(from, to) {
        return None;
    }
    let [(lat1, lon1), (lat2, lon2)] = [from, to].map(|[lat, lon]| (lat.to_radians(), lon.to_radians()));
    let east = lat2.cos() * (lon2 - lon1).sin();
    let north = lat1.cos() * lat2.sin() - lat1.sin() * lat2.cos() * (lon2 - lon1).cos();
    let degrees = east.atan2(north).to_degrees();
    let degrees = if degrees < 0.0 { degrees + 360.0 } else { degrees };
    // A bearing just west of north is rounded to 360. The sum makes of -0.0 the one zero.
    Some(if degrees >= 360.0 { 0.0 } else { degrees + 0.0 })
}

fn are_same_or_opposite(from: [f64; 2], to: [f64; 2]) -> bool {
    let apart = (from[1] - to[1]).abs();
    let is_pole = from[0].abs() == 90.0;
    let are_same = from[0] == to[0] && (apart == 0.0 || apart == 360.0 || is_pole);
    let are_opposite = from[0] == -to[0] && (apart == 180.0 || is_pole);
    are_same || are_opposite
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_globe() {
        let near = |x: Option<f64>, km: f64| assert!((x.unwrap() - km).abs() < 0.05, "{x:?} is not {km}");
        // A quarter of a meridian, the length of the equator's half, and JFK to LaGuardia.
        near(haversine_km([0.0, 0.0], [90.0, 0.0]), 10_007.557);
        near(haversine_km([0.0, 0.0], [0.0, 180.0]), 20_015.115);
        near(haversine_km([40.6413, -73.7781], [40.7769, -73.8740]), 17.13);
        assert_eq!(haversine_km([40.0, -73.0], [40.0, -73.0]), Some(0.0));
        assert_eq!(haversine_km([91.0, 0.0], [0.0, 0.0]), None);
        assert_eq!(haversine_km([f64::NAN, 0.0], [0.0, 0.0]), None);
    }

    /// The first four are computed by numpy with vectors instead of the formula: the point `p` of the unit sphere is projected on
    /// the directions north and east of the other point, and the bearing is `np.degrees(np.arctan2(p @ east, p @ north)) % 360`.
    #[test]
    fn bearings_are_those_of_the_globe() {
        for (from, to, expected) in [
            ([40.6413, -73.7781], [40.7769, -73.8740], 331.83550713860103),
            ([51.5, 0.0], [48.85, 2.35], 149.49761066646693),
            ([35.0, 45.0], [35.0, 135.0], 60.16243352168621),
            ([-33.86, 151.21], [37.62, -122.38], 55.934557321239446),
            ([0.0, 0.0], [0.0, 1.0], 90.0),
            ([0.0, 0.0], [0.0, -1.0], 270.0),
            ([0.0, 0.0], [-1.0, 0.0], 180.0),
            // Across the meridian of 180 degrees, and from a pole.
            ([0.0, 179.5], [0.0, -179.5], 90.0),
            ([90.0, 0.0], [0.0, 0.0], 180.0),
        ] {
            let found = bearing_degrees(from, to).unwrap();
            assert!((found - expected).abs() < 1e-9, "{from:?} to {to:?} is {found}, not {expected}");
        }
        for to in [[1.0, 0.0], [1.0, -0.0], [1.0, -5e-324], [1.0, -1e-18]] {
            let north = bearing_degrees([0.0, 0.0], to).unwrap();
            assert_eq!(north.to_bits(), 0, "{north:?}");
        }
    }

    #[test]
    fn where_no_one_direction_leads_the_bearing_is_null() {
        for (from, to) in [
            ([40.0, -73.0], [40.0, -73.0]),
            ([10.0, 180.0], [10.0, -180.0]),
            ([90.0, 0.0], [90.0, 77.0]),
            ([-90.0, 0.0], [90.0, 12.0]),
            ([40.0, -73.0], [-40.0, 107.0]),
            ([0.0, 0.0], [-0.0, 180.0]),
            ([90.5, 0.0], [0.0, 0.0]),
            ([0.0, 0.0], [0.0, -180.5]),
            ([f64::NAN, 0.0], [0.0, 0.0]),
            ([0.0, 0.0], [0.0, f64::INFINITY]),
        ] {
            assert_eq!((bearing_degrees(from, to), bearing_degrees(to, from)), (None, None), "{from:?} {to:?}");
        }
    }
}
