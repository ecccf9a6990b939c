//! A seeded generator of pick-ups in Manhattan: along its streets and avenues, never in its parks or rivers.
//! It is no accurate map: the outline is a dozen corners and the grid a few lines. No pick-up is real.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use chrono::{NaiveDate, TimeDelta};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::StandardNormal;

/// Corners of Manhattan as far north as 96th Street, by longitude and latitude, counter-clockwise from the Battery.
const ISLAND: [(f64, f64); 27] = [
    (-74.0160, 40.7012),
    (-74.0120, 40.7010),
    (-74.0070, 40.7035),
    (-74.0020, 40.7065),
    (-73.9975, 40.7085),
    (-73.9915, 40.7097),
    (-73.9840, 40.7103),
    (-73.9775, 40.7112),
    (-73.9745, 40.7160),
    (-73.9722, 40.7235),
    (-73.9712, 40.7290),
    (-73.9738, 40.7350),
    (-73.9715, 40.7420),
    (-73.9680, 40.7490),
    (-73.9630, 40.7545),
    (-73.9585, 40.7595),
    (-73.9500, 40.7680),
    (-73.9440, 40.7750),
    (-73.9390, 40.7840),
    (-73.9780, 40.7950),
    (-73.9880, 40.7815),
    (-73.9960, 40.7710),
    (-74.0030, 40.7605),
    (-74.0085, 40.7500),
    (-74.0105, 40.7400),
    (-74.0125, 40.7260),
    (-74.0180, 40.7060),
];
/// Across the East River: Queens and Brooklyn, where fewer are picked up.
const EAST: [(f64, f64); 10] = [
    (-73.9980, 40.6990),
    (-73.9890, 40.7045),
    (-73.9700, 40.7065),
    (-73.9640, 40.7220),
    (-73.9600, 40.7400),
    (-73.9440, 40.7560),
    (-73.9360, 40.7690),
    (-73.9280, 40.7790),
    (-73.9190, 40.7790),
    (-73.9190, 40.6990),
];
/// Longitude and latitude in degrees.
type Place = (f64, f64);
/// Central Park, Bryant Park, Madison, Union, Washington and Tompkins Squares, by opposite ends and half a width in miles.
const PARKS: [(Place, Place, f64); 6] = [
    ((-73.9776, 40.7662), (-73.9537, 40.7989), 0.245),
    ((-73.9846, 40.7533), (-73.9822, 40.7543), 0.045),
    ((-73.9884, 40.7413), (-73.9872, 40.7430), 0.035),
    ((-73.9909, 40.7352), (-73.9898, 40.7369), 0.030),
    ((-73.9990, 40.7316), (-73.9955, 40.7300), 0.055),
    ((-73.9831, 40.7271), (-73.9802, 40.7259), 0.055),
];
/// Broadway, from the Battery to 96th Street.
const BROADWAY: [(f64, f64); 8] = [
    (-74.0140, 40.7045),
    (-74.0090, 40.7110),
    (-73.9990, 40.7225),
    (-73.9905, 40.7345),
    (-73.9890, 40.7415),
    (-73.9862, 40.7565),
    (-73.9819, 40.7681),
    (-73.9817, 40.7790),
];
/// Sine and cosine of the 29 degrees by which the avenues run east of north; miles in a degree of longitude and latitude.
const TILT: (f64, f64) = (0.4848, 0.8746);
const DEGREE: (f64, f64) = (52.3, 69.0);
/// Where Fifth Avenue meets 34th Street.
const CENTRE: (f64, f64) = (-73.9848, 40.7485);
/// Miles from Fifth Avenue to the others, eastward; and how busy they are.
const AVENUES: [(f64, f64); 14] = [
    (-0.85, 0.6),
    (-0.69, 1.0),
    (-0.53, 1.6),
    (-0.36, 1.8),
    (-0.18, 2.0),
    (0.0, 2.2),
    (0.09, 1.8),
    (0.17, 2.0),
    (0.26, 1.9),
    (0.42, 1.9),
    (0.57, 1.6),
    (0.71, 1.2),
    (0.85, 0.6),
    (1.0, 0.5),
];
/// Miles between two streets, and how wide a line of pick-ups is.
const STREET: f64 = 0.0497;
const WIDTH: f64 = 0.005;

/// Miles along the avenues and across them, from the centre.
fn turned((x, y): (f64, f64)) -> (f64, f64) {
    let (east, north) = ((x - CENTRE.0) * DEGREE.0, (y - CENTRE.1) * DEGREE.1);
    (east * TILT.0 + north * TILT.1, east * TILT.1 - north * TILT.0)
}

fn degrees((along, across): (f64, f64)) -> (f64, f64) {
    let (east, north) = (along * TILT.0 + across * TILT.1, along * TILT.1 - across * TILT.0);
    (CENTRE.0 + east / DEGREE.0, CENTRE.1 + north / DEGREE.1)
}

fn is_inside(polygon: &[(f64, f64)], (x, y): (f64, f64)) -> bool {
    let edges = polygon.iter().zip(polygon.iter().cycle().skip(1));
    edges.filter(|((ax, ay), (bx, by))| (*ay > y) != (*by > y) && x < (bx - ax) * (y - ay) / (by - ay) + ax).count() % 2 == 1
}

fn is_park(point: (f64, f64)) -> bool {
    let (along, across) = turned(point);
    PARKS.iter().any(|(from, to, half)| {
        let ((a, side_a), (b, side_b)) = (turned(*from), turned(*to));
        let (end, side) = (a.min(b) - half.min(0.03), (side_a + side_b) / 2.0);
        (end..a.max(b) + half.min(0.03)).contains(&along) && (across - side).abs() < half.max((side_a - side_b).abs() / 2.0)
    })
}

/// A pick-up: on an avenue, on a street, on Broadway, or across the river.
fn pickup(chance: &mut StdRng) -> (f64, f64) {
    let total: f64 = AVENUES.iter().map(|(_, weight)| weight).sum();
    loop {
        let blur = chance.sample::<f64, _>(StandardNormal) * WIDTH;
        // Midtown is busiest, the ends of the island less so.
        let along = chance.sample::<f64, _>(StandardNormal) * 2.1 - 0.2;
        let kind = chance.random_range(0.0..1.0);
        let point = if kind < 0.45 {
            let mut left = chance.random_range(0.0..total);
            let avenue = AVENUES.iter().find(|(_, weight)| {
                left -= weight;
                left <= 0.0
            });
            degrees((along, avenue.map_or(0.0, |(across, _)| *across) + blur))
        } else if kind < 0.88 {
            let across = chance.random_range(-1.1..1.5);
            degrees(((along / STREET).round() * STREET + blur, across))
        } else if kind < 0.93 {
            let leg = chance.random_range(0..BROADWAY.len() - 1);
            let (part, (a, b)) = (chance.random_range(0.0..1.0), (BROADWAY[leg], BROADWAY[leg + 1]));
            (
                a.0 + (b.0 - a.0) * part + blur / DEGREE.0,
                a.1 + (b.1 - a.1) * part + chance.sample::<f64, _>(StandardNormal) * WIDTH / DEGREE.1,
            )
        } else {
            let point: (f64, f64) = (chance.random_range(-74.0..-73.919), chance.random_range(40.699..40.779));
            // Two grids of streets, thinner the further from the river.
            let on_street = ((point.0 + point.1 * 0.35) * 420.0).fract().abs() < 0.16
                || ((point.1 - point.0 * 0.3) * 420.0).fract().abs() < 0.16;
            if on_street && is_inside(&EAST, point) {
                return point;
            }
            continue;
        };
        if is_inside(&ISLAND, point) && !is_park(point) {
            return point;
        }
    }
}

/// Writes `count` pick-ups of one month as CSV files in `dir`, a file for each ten days: when, passengers, longitude, latitude.
pub fn write_csv(count: u32, seed: u64, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut chance = StdRng::seed_from_u64(seed);
    let start = NaiveDate::from_ymd_opt(2014, 4, 1).unwrap_or_default().and_hms_opt(0, 0, 0).unwrap_or_default();
    let files = 3;
    for file in 0..files {
        let mut text = BufWriter::new(File::create(dir.join(format!("pickups_{file}.csv")))?);
        writeln!(text, "pickup_at,passenger_count,pickup_longitude,pickup_latitude")?;
        for _ in (file..count).step_by(files as usize) {
            let at = start + TimeDelta::seconds(i64::from(file) * 864_000 + chance.random_range(0..864_000));
            let passengers = if chance.random_bool(0.7) { 1 } else { chance.random_range(2..=6) };
            let (longitude, latitude) = pickup(&mut chance);
            writeln!(text, "{at},{passengers},{longitude:.6},{latitude:.6}")?;
        }
        text.flush()?;
    }
    Ok(())
}
