//! The great-circle distance between two points.
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
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| input.column(i).as_primitive::<Float64Type>().iter());
        let distances: Float64Array = a.zip(b).zip(c.zip(d)).map(|((a, b), (c, d))| haversine_km([a?, b?], [c?, d?])).collect();
        Ok(vec![Arc::new(distances)])
    }
}

fn haversine_km(from: [f64; 2], to: [f64; 2]) -> Option<f64> {
    let is_point = |[latitude, longitude]: [f64; 2]| latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
    if !is_point(from) || !is_point(to) {
        return None;
    }
    let [(lat1, lon1), (lat2, lon2)] = [from, to].map(|[lat, lon]| (lat.to_radians(), lon.to_radians()));
    let (half_lat, half_lon) = (((lat2 - lat1) / 2.0).sin(), ((lon2 - lon1) / 2.0).sin());
    let h = half_lat * half_lat + lat1.cos() * lat2.cos() * half_lon * half_lon;
    // Rounding may lift h of antipodes above one, where the arcsine ends.
    Some(2.0 * EARTH_RADIUS_KM * h.sqrt().min(1.0).asin())
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
}
