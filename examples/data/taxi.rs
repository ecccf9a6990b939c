//! A seeded generator of trips that resemble those of New York's yellow taxis, with the errors of the published files.
//! No row is a real trip, and nothing is read or downloaded.
//!
//! Unless a comment says otherwise the numbers below were measured on `yellow_10k`: 360,000 real trips of 2017 to 2019
//! (NYC TLC). Tariffs are those of 2014. Some of the dirt is more frequent than there, so that a small year has it all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use chrono::{Datelike, Months, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Timelike};
use chrono_tz::America::New_York;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::StandardNormal;

/// What to generate; the same configuration always gives the same trips.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Seed of every random choice.
    pub seed: u64,
    /// Calendar year of the trips.
    pub year: i32,
    /// Rows in each month, the dirty ones among them.
    pub trips_per_month: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config { seed: 7, year: 2014, trips_per_month: 25_000 }
    }
}

/// One trip as the meter recorded it, rightly or not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trip {
    /// Maker of the meter, 1 or 2; meters of vendor 1 record tenths of a mile.
    pub vendor_id: i64,
    /// Start of the trip, New York local time in whole seconds.
    pub pickup_at: NaiveDateTime,
    /// End of the trip, New York local time in whole seconds.
    pub dropoff_at: NaiveDateTime,
    /// Passengers as the driver typed them in, 0 to 6.
    pub passenger_count: Option<i64>,
    /// Miles driven.
    pub trip_distance: f64,
    /// Taxi zone of the start, 1 to 263.
    pub pickup_zone: i64,
    /// Taxi zone of the end, 1 to 263.
    pub dropoff_zone: i64,
    /// Longitude of the start in degrees.
    pub pickup_longitude: f64,
    /// Latitude of the start in degrees.
    pub pickup_latitude: f64,
    /// 1 card, 2 cash, 3 no charge, 4 dispute.
    pub payment_type: i64,
    /// Dollars on the meter, without surcharges.
    pub fare_amount: f64,
    /// Dollars of tip; cash tips are not recorded.
    pub tip_amount: f64,
    /// Dollars of bridge and tunnel tolls.
    pub tolls_amount: f64,
    /// Dollars paid: fare, surcharges, tax, tip and tolls.
    pub total_amount: f64,
}

/// Part of the city: median miles of its trips and spread of their logarithm, shares of them with a toll and at the flat
/// fare, centre (longitude, latitude) and spread (miles along Manhattan, across it) of its pick-ups as in the real ones of
/// `taxifare`, zones from busy to quiet.
struct Area {
    miles: (f64, f64),
    tolled: f64,
    flat: f64,
    centre: (f64, f64),
    spread: (f64, f64),
    zones: &'static [i64],
}

/// Midtown, Village, Upper East and West Side, Downtown, Harlem, elsewhere, then the airports JFK and LaGuardia.
#[rustfmt::skip]
const AREAS: [Area; 9] = [
    Area { miles: (1.44, 0.74), tolled: 0.013, flat: 0.001, centre: (-73.9827, 40.7543), spread: (0.42, 0.45),
           zones: &[161, 186, 162, 230, 48, 170, 163, 164, 100, 229, 233, 137, 50] },
    Area { miles: (1.52, 0.74), tolled: 0.013, flat: 0.001, centre: (-73.9937, 40.7354), spread: (0.37, 0.51),
           zones: &[234, 79, 68, 107, 249, 90, 113, 246, 114, 158, 224, 4] },
    Area { miles: (1.35, 0.74), tolled: 0.013, flat: 0.001, centre: (-73.9589, 40.7720), spread: (0.62, 0.26),
           zones: &[237, 236, 141, 263, 140, 262, 75] },
    Area { miles: (1.55, 0.74), tolled: 0.013, flat: 0.001, centre: (-73.9776, 40.7798), spread: (0.78, 0.26),
           zones: &[142, 239, 238, 43, 143, 151, 166, 24] },
    Area { miles: (2.32, 0.74), tolled: 0.013, flat: 0.001, centre: (-74.0041, 40.7170), spread: (0.54, 0.34),
           zones: &[231, 148, 144, 13, 211, 87, 125, 261, 88, 45, 209, 232, 12] },
    Area { miles: (1.61, 0.74), tolled: 0.013, flat: 0.001, centre: (-73.9493, 40.8121), spread: (0.80, 0.60),
           zones: &[74, 41, 42, 116, 244, 152, 243, 127, 69, 194, 153, 120, 128] },
    Area { miles: (2.42, 0.74), tolled: 0.013, flat: 0.001, centre: (-73.9505, 40.7230), spread: (3.20, 2.64),
           zones: &[226, 7, 65, 145, 33, 146, 181, 255, 25, 256, 97, 193, 260, 179, 223] },
    Area { miles: (17.2, 0.22), tolled: 0.520, flat: 0.650, centre: (-73.7845, 40.6455), spread: (0.22, 0.33),
           zones: &[132] },
    Area { miles: (9.60, 0.28), tolled: 0.680, flat: 0.000, centre: (-73.8702, 40.7721), spread: (0.13, 0.35),
           zones: &[138] },
];
/// Shares of the areas in pick-ups and drop-offs.
const PICKED: [f64; 9] = [0.336, 0.205, 0.159, 0.119, 0.089, 0.013, 0.025, 0.027, 0.027];
const DROPPED: [f64; 9] = [0.310, 0.189, 0.162, 0.118, 0.089, 0.030, 0.083, 0.008, 0.011];
/// The area that also has each zone up to the last that no area names, and the first of the airports.
const ELSEWHERE: usize = 6;
const AIRPORTS: usize = 7;
const LAST_ZONE: i64 = 263;
/// A zone has weight `1 / (rank + ZIPF_SHIFT)` in its area: Zipf with a flat head, as the real ones have.
const ZIPF_SHIFT: f64 = 5.0;
/// A trip of this many miles ends in the area of its start with probability 1/e, shorter ones more often (a guess).
const STAY_MILES: f64 = 2.0;
/// Sine and cosine of the 29 degrees by which Manhattan's avenues run east of north; miles in a degree there.
const TILT: (f64, f64) = (0.4848, 0.8746);
const DEGREE: (f64, f64) = (52.3, 69.0);

/// Trips by day, Monday first, and by hour of a weekday, a Saturday and a Sunday, in thousandths.
const DAYS: [f64; 7] = [132., 142., 148., 152., 153., 146., 127.];
#[rustfmt::skip]
const HOURS: [[f64; 24]; 3] = [
    [24., 14., 8., 6., 6., 11., 26., 44., 53., 50., 48., 49.,
     50., 50., 55., 54., 49., 55., 66., 65., 60., 59., 57., 43.],
    [49., 40., 32., 24., 16., 8., 11., 18., 24., 37., 44., 48.,
     53., 54., 52., 55., 51., 56., 61., 59., 50., 50., 55., 53.],
    [58., 52., 38., 28., 20., 9., 12., 15., 23., 36., 46., 55.,
     58., 58., 58., 56., 56., 55., 59., 52., 46., 43., 38., 30.],
];
/// Miles an hour over one mile by hour of a weekday and of a weekend day, the power of the miles with which speed grows,
/// and the spread of its logarithm (0.36 in the sample, where it has outliers; less here for the same fit of fares).
#[rustfmt::skip]
const SPEED: [[f64; 24]; 2] = [
    [11.2, 12.0, 12.1, 12.7, 13.3, 13.3, 11.5, 9.0, 7.4, 6.9, 6.9, 6.8,
     6.8, 7.0, 7.0, 6.9, 7.1, 7.1, 7.4, 8.2, 8.9, 9.2, 9.4, 9.9],
    [9.3, 10.0, 10.6, 11.3, 12.0, 13.3, 13.6, 12.9, 11.9, 11.0, 10.1, 9.3,
     8.7, 8.3, 8.2, 8.1, 8.1, 8.0, 8.0, 8.1, 8.8, 9.0, 9.2, 9.5],
];
const SPEED_POWER: f64 = 0.32;
const LOG_SPEED_SD: f64 = 0.30;

/// TLC tariff of 2014 in dollars: flag drop, mile, slow minute, click of the meter, night (20 to 6), weekday peak (16 to
/// 20), tax; the flat fare between Manhattan and JFK; the toll of the MTA.
const FLAG: f64 = 2.50;
const PER_MILE: f64 = 2.50;
const PER_SLOW_MINUTE: f64 = 0.50;
const CLICK: f64 = 0.50;
const NIGHT: f64 = 0.50;
const PEAK: f64 = 1.00;
const TAX: f64 = 0.50;
const FLAT: f64 = 52.00;
const TOLL: f64 = 5.33;
/// Minutes beyond those needed at this many miles an hour count as slow: the value that explains the real fares best.
const FREE_SPEED: f64 = 19.0;
const FARE_NOISE_SD: f64 = 0.50;
/// An invented concept drift: from this month on metered fares are higher by this factor.
const RISE: (u32, f64) = (9, 1.05);

/// Shares of the values from the first one up: vendors from 1, passengers from 0, payment types from 1.
const VENDORS: [f64; 2] = [0.41, 0.59];
const PASSENGERS: [f64; 7] = [0.013, 0.707, 0.147, 0.042, 0.020, 0.044, 0.027];
const PAYMENTS: [f64; 4] = [0.695, 0.298, 0.005, 0.002];
const CARD: i64 = 1;
const DISPUTE: i64 = 4;
/// Tips of card payers as parts of what they pay besides, and their shares.
const TIPS: [f64; 6] = [0.00, 0.10, 0.15, 0.20, 0.25, 0.30];
const TIP_SHARES: [f64; 6] = [0.043, 0.11, 0.12, 0.53, 0.13, 0.067];

/// Shares of dirty rows. Besides these, trips across the hour that repeats in November seem to end early.
const ENDS_BEFORE_START: f64 = 0.000_4;
const OUTSIDE_MONTH: f64 = 0.000_03;
const NEGATIVE_FARE: f64 = 0.000_5;
const ZERO_DISTANCE: f64 = 0.006;
const NO_PASSENGER_COUNT: f64 = 0.005;
const ABSURD_TOTAL: f64 = 0.000_01;
const DUPLICATE: f64 = 0.000_2;
const ABSURD: f64 = 429_491.00;
/// Part of the rows outside the month whose meter had lost its clock and says 2008; the rest miss it by under an hour.
const LOST_CLOCK: f64 = 0.17;
/// How often the row that is kept for repeating is replaced by a newer one.
const KEEP: f64 = 0.01;

/// The trips of one month (1 to 12) in no order of time, the same ones whatever other months are asked for. A month or
/// year that no calendar has gives none.
pub fn trips(config: &Config, month: u32) -> impl Iterator<Item = Trip> + use<> {
    let mut generator = Generator::new(config, month);
    (0..config.trips_per_month).map_while(move |_| generator.as_mut().map(Generator::next_row))
}

/// Writes `taxi_YYYY-MM.csv` for each month of the year into `dir`, which is created if missing, and returns the paths
/// in order of the months. Times are local and without a zone; a missing passenger count is an empty field.
pub fn write_csv(config: &Config, dir: &Path) -> io::Result<Vec<PathBuf>> {
    (1..=12).map(|month| write_month(config, month, dir)).collect()
}

/// Writes one month (1 to 12) as [`write_csv`] does.
pub fn write_month(config: &Config, month: u32, dir: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(dir)?;
    let path = dir.join(format!("taxi_{:04}-{month:02}.csv", config.year));
    let mut file = BufWriter::with_capacity(1 << 18, File::create(&path)?);
    writeln!(file, "{HEADER}")?;
    let mut line = Vec::with_capacity(256);
    for trip in trips(config, month) {
        line.clear();
        trip.push_csv(&mut line);
        file.write_all(&line)?;
    }
    file.flush()?;
    Ok(path)
}

const HEADER: &str = "vendor_id,pickup_at,dropoff_at,passenger_count,trip_distance,pickup_zone,dropoff_zone,\
    pickup_longitude,pickup_latitude,payment_type,fare_amount,tip_amount,tolls_amount,total_amount";

impl Trip {
    /// Appends the row. Formatting by hand is what lets a core write a million rows a second.
    fn push_csv(&self, line: &mut Vec<u8>) {
        push_fixed(line, self.vendor_id as f64, 0);
        push_time(line, self.pickup_at);
        push_time(line, self.dropoff_at);
        match self.passenger_count {
            Some(count) => push_fixed(line, count as f64, 0),
            None => line.push(b','),
        }
        push_fixed(line, self.trip_distance, 2);
        push_fixed(line, self.pickup_zone as f64, 0);
        push_fixed(line, self.dropoff_zone as f64, 0);
        push_fixed(line, self.pickup_longitude, 6);
        push_fixed(line, self.pickup_latitude, 6);
        push_fixed(line, self.payment_type as f64, 0);
        push_fixed(line, self.fare_amount, 2);
        push_fixed(line, self.tip_amount, 2);
        push_fixed(line, self.tolls_amount, 2);
        push_fixed(line, self.total_amount, 2);
        line.pop();
        line.push(b'\n');
    }
}

/// Appends `value` rounded to `decimals`, and a comma.
fn push_fixed(line: &mut Vec<u8>, value: f64, decimals: u32) {
    let unit = 10_u64.pow(decimals);
    let scaled = (value.abs() * unit as f64).round() as u64;
    if value < 0.0 && scaled > 0 {
        line.push(b'-');
    }
    push_digits(line, scaled / unit, 1);
    if decimals > 0 {
        line.push(b'.');
        push_digits(line, scaled % unit, decimals as usize);
    }
    line.push(b',');
}

/// Appends `2014-11-02 01:30:00,`.
fn push_time(line: &mut Vec<u8>, at: NaiveDateTime) {
    push_digits(line, u64::from(at.year().unsigned_abs()), 4);
    let parts = [at.month(), at.day(), at.hour(), at.minute(), at.second()];
    for (separator, part) in b"-- ::".iter().zip(parts) {
        line.push(*separator);
        push_digits(line, u64::from(part), 2);
    }
    line.push(b',');
}

/// Appends `number` with zeros in front up to `width` digits.
fn push_digits(line: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    while number > 0 || digits.len() - first < width {
        first -= 1;
        digits[first] += (number % 10) as u8;
        number /= 10;
    }
    line.extend_from_slice(&digits[first..]);
}

/// A month in the making.
struct Generator {
    rng: StdRng,
    month: u32,
    start: NaiveDateTime,
    end: NaiveDateTime,
    lost_clock: NaiveDateTime,
    /// What the clock says at the start of each hour that elapses in the month and on the day after it, and the running
    /// total of the demand. Going by elapsed hours leaves out the gap of March and has the hour of November twice.
    hours: Vec<NaiveDateTime>,
    demand: Vec<f64>,
    elsewhere: Vec<i64>,
    kept: Option<Trip>,
}

impl Generator {
    fn new(config: &Config, month: u32) -> Option<Self> {
        let start = NaiveDate::from_ymd_opt(config.year, month, 1)?.and_hms_opt(0, 0, 0)?;
        let end = start.checked_add_months(Months::new(1))?;
        let day_after = end.checked_add_signed(TimeDelta::days(1))?;
        let first = New_York.from_local_datetime(&start).earliest()?;
        let hours = (0..).map(|hour| (first + TimeDelta::hours(hour)).naive_local());
        let hours: Vec<_> = hours.take_while(|&clock| clock < day_after).collect();
        let running = |total: &mut f64, clock: &NaiveDateTime| {
            *total += if *clock < end { demand(*clock) } else { 0.0 };
            Some(*total)
        };
        let mut key = [0; 32];
        key[..8].copy_from_slice(&config.seed.to_le_bytes());
        key[8..12].copy_from_slice(&config.year.to_le_bytes());
        key[12..16].copy_from_slice(&month.to_le_bytes());
        let named = |zone: &i64| AREAS.iter().any(|area| area.zones.contains(zone));
        let unnamed = (1..=LAST_ZONE).filter(|zone| !named(zone));
        Some(Generator {
            rng: StdRng::from_seed(key),
            month,
            start,
            end,
            lost_clock: NaiveDate::from_ymd_opt(2008, 12, 31)?.and_hms_opt(23, 0, 0)?,
            demand: hours.iter().scan(0.0, running).collect(),
            hours,
            elsewhere: AREAS[ELSEWHERE].zones.iter().copied().chain(unnamed).collect(),
            kept: None,
        })
    }

    /// A new trip, or now and then an exact copy of an earlier one.
    fn next_row(&mut self) -> Trip {
        if let Some(earlier) = self.kept
            && self.rng.random_bool(DUPLICATE)
        {
            return earlier;
        }
        let mut trip = self.next_trip();
        self.spoil(&mut trip);
        if self.kept.is_none() || self.rng.random_bool(KEEP) {
            self.kept = Some(trip);
        }
        trip
    }

    fn next_trip(&mut self) -> Trip {
        let demand = self.rng.random::<f64>() * self.demand.last().copied().unwrap_or_default();
        let hour = self.demand.partition_point(|&total| total <= demand);
        let second = 3600 * hour + self.rng.random_range(0..3600);
        let pickup_at = self.clock(second);
        let vendor_id = 1 + self.pick(&VENDORS) as i64;

        let (from, drawn) = (self.pick(&PICKED), self.pick(&DROPPED));
        let route = &AREAS[if drawn >= AIRPORTS { drawn } else { from }];
        let miles = route.miles.0 * (route.miles.1 * self.normal()).exp();
        let trip_distance = rounded(miles, if vendor_id == 1 { 10.0 } else { 100.0 });
        let stays = from.max(drawn) < AIRPORTS && self.rng.random_bool((-miles / STAY_MILES).exp());
        let to = if stays { from } else { drawn };

        let speed = SPEED[usize::from(weekend(pickup_at))][pickup_at.hour() as usize];
        let speed = speed * miles.powf(SPEED_POWER) * (LOG_SPEED_SD * self.normal()).exp();
        let minutes = 60.0 * miles / speed;
        let dropoff_at = self.clock(second + (60.0 * minutes).ceil() as usize);

        let slow_minutes = (minutes - 60.0 * miles / FREE_SPEED).max(0.0);
        let metered = FLAG + PER_MILE * miles + PER_SLOW_MINUTE * slow_minutes;
        let rise = if self.month >= RISE.0 { RISE.1 } else { 1.0 };
        let metered = rounded((metered + FARE_NOISE_SD * self.normal()) * rise, 1.0 / CLICK);
        let flat = self.rng.random_bool(route.flat);
        let fare_amount = if flat { FLAT } else { metered.max(FLAG) };
        let tolls_amount = if self.rng.random_bool(route.tolled) { TOLL } else { 0.0 };
        let before_tip = fare_amount + surcharge(pickup_at) + TAX + tolls_amount;
        let payment_type = 1 + self.pick(&PAYMENTS) as i64;
        let tip = if payment_type == CARD { TIPS[self.pick(&TIP_SHARES)] } else { 0.0 };
        let tip_amount = rounded(before_tip * tip, 100.0);
        let (pickup_longitude, pickup_latitude) = self.spot(&AREAS[from]);
        Trip {
            vendor_id,
            pickup_at,
            dropoff_at,
            passenger_count: Some(self.pick(&PASSENGERS) as i64),
            trip_distance,
            pickup_zone: self.zone(from),
            dropoff_zone: self.zone(to),
            pickup_longitude,
            pickup_latitude,
            payment_type,
            fare_amount,
            tip_amount,
            tolls_amount,
            total_amount: rounded(before_tip + tip_amount, 100.0),
        }
    }

    /// Makes a trip dirty, rarely.
    fn spoil(&mut self, trip: &mut Trip) {
        if self.rng.random_bool(ZERO_DISTANCE) {
            trip.trip_distance = 0.0;
        }
        if self.rng.random_bool(NO_PASSENGER_COUNT) {
            trip.passenger_count = None;
        }
        if self.rng.random_bool(ENDS_BEFORE_START) {
            std::mem::swap(&mut trip.pickup_at, &mut trip.dropoff_at);
        }
        if self.rng.random_bool(OUTSIDE_MONTH) {
            let near = TimeDelta::seconds(self.rng.random_range(1..3600));
            let pickup_at = match (self.rng.random_bool(LOST_CLOCK), self.rng.random()) {
                (true, _) => self.lost_clock + near,
                (false, true) => self.start - near,
                (false, false) => self.end + near,
            };
            trip.dropoff_at = pickup_at + (trip.dropoff_at - trip.pickup_at);
            trip.pickup_at = pickup_at;
        }
        if self.rng.random_bool(NEGATIVE_FARE) {
            trip.total_amount = rounded(trip.tip_amount - trip.total_amount, 100.0);
            trip.fare_amount = -trip.fare_amount;
            trip.tolls_amount = -trip.tolls_amount;
            trip.tip_amount = 0.0;
            trip.payment_type = DISPUTE;
        }
        if self.rng.random_bool(ABSURD_TOTAL) {
            trip.fare_amount = rounded(trip.fare_amount + ABSURD - trip.total_amount, 100.0);
            trip.total_amount = ABSURD;
        }
    }

    /// What the clock says so many seconds after the month began.
    fn clock(&self, second: usize) -> NaiveDateTime {
        let hour = (second / 3600).min(self.hours.len() - 1);
        self.hours[hour] + TimeDelta::seconds((second - 3600 * hour) as i64)
    }

    fn pick(&mut self, shares: &[f64]) -> usize {
        let mut at: f64 = self.rng.random();
        let passed = shares.iter().take_while(|&&share| {
            at -= share;
            at >= 0.0
        });
        passed.count().min(shares.len() - 1)
    }

    fn zone(&mut self, area: usize) -> i64 {
        let zones = if area == ELSEWHERE { &self.elsewhere } else { AREAS[area].zones };
        let last = (zones.len() as f64 + ZIPF_SHIFT) / ZIPF_SHIFT;
        let rank = ZIPF_SHIFT * (last.powf(self.rng.random()) - 1.0);
        zones[(rank as usize).min(zones.len() - 1)]
    }

    /// A place in an area, as longitude and latitude.
    fn spot(&mut self, area: &Area) -> (f64, f64) {
        let along = area.spread.0 * self.normal();
        let across = area.spread.1 * self.normal();
        let east = along * TILT.0 + across * TILT.1;
        let north = along * TILT.1 - across * TILT.0;
        let (longitude, latitude) = (area.centre.0 + east / DEGREE.0, area.centre.1 + north / DEGREE.1);
        (rounded(longitude, 1e6), rounded(latitude, 1e6))
    }

    fn normal(&mut self) -> f64 {
        self.rng.sample(StandardNormal)
    }
}

/// How many trips start in an hour, relative to others.
fn demand(hour: NaiveDateTime) -> f64 {
    let day = hour.weekday().num_days_from_monday() as usize;
    DAYS[day] * HOURS[day.saturating_sub(4)][hour.hour() as usize]
}

fn weekend(at: NaiveDateTime) -> bool {
    at.weekday().num_days_from_monday() >= 5
}

/// Dollars on top of the fare for the time of day.
fn surcharge(at: NaiveDateTime) -> f64 {
    match at.hour() {
        20.. | 0..6 => NIGHT,
        16..20 if !weekend(at) => PEAK,
        _ => 0.0,
    }
}

/// `value` to the nearest of so many steps in a unit.
fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn month(trips_per_month: u32, month: u32) -> Vec<Trip> {
        trips(&Config { trips_per_month, ..Config::default() }, month).collect()
    }

    /// Starts on a day of the month by hour of the clock.
    fn starts(trips: &[Trip], day: u32) -> [usize; 24] {
        let mut hours = [0; 24];
        for trip in trips.iter().filter(|trip| trip.pickup_at.day() == day) {
            hours[trip.pickup_at.hour() as usize] += 1;
        }
        hours
    }

    #[test]
    fn a_month_depends_on_seed_year_and_month_alone() {
        let config = Config { trips_per_month: 500, ..Config::default() };
        let year: Vec<Trip> = (1..=12).flat_map(|month| trips(&config, month)).collect();
        assert_eq!(year[2_000..2_500], month(500, 5));
        assert_eq!(month(2_000, 5)[..500], month(500, 5));
        let next = Config { year: 2015, ..config.clone() };
        let other = Config { seed: 8, ..config.clone() };
        for differs in [trips(&next, 5), trips(&other, 5), trips(&config, 6)] {
            assert_ne!(differs.collect::<Vec<_>>(), month(500, 5));
        }
        assert_eq!(month(10, 0).len() + month(10, 13).len(), 0);
    }

    #[test]
    fn daylight_saving() {
        let march = starts(&month(100_000, 3), 9);
        assert!(march[1] > 0 && march[2] == 0 && march[3] > 0, "{march:?}");
        let november = month(100_000, 11);
        let (twice, usual) = (starts(&november, 2), starts(&november, 9));
        assert!(2 * twice[1] > 3 * usual[1] && 2 * twice[2] < 3 * usual[2], "{twice:?} {usual:?}");
        let early = |trip: &&Trip| trip.dropoff_at < trip.pickup_at && trip.pickup_at.day() == 2;
        assert!(november.iter().filter(early).count() > 20);
    }

    #[test]
    fn every_kind_of_dirt_is_there_and_rare() {
        let months = (1..=12).flat_map(|month| trips(&Config::default(), month).map(move |trip| (month, trip)));
        let year: Vec<(u32, Trip)> = months.collect();
        let count = |dirty: fn(u32, &Trip) -> bool| year.iter().filter(|(month, trip)| dirty(*month, trip)).count();
        assert!((80..250).contains(&count(|_, trip| trip.dropoff_at < trip.pickup_at)));
        assert!((3..20).contains(&count(|month, trip| trip.pickup_at.month() != month)));
        assert!((1..4).contains(&count(|_, trip| trip.pickup_at.year() == 2008)));
        assert!((1..8).contains(&count(|_, trip| trip.total_amount == ABSURD)));
        assert!((80..250).contains(&count(|_, trip| trip.fare_amount < 0.0)));
        assert!((1_000..3_000).contains(&count(|_, trip| trip.trip_distance == 0.0)));
        assert!((1_000..3_000).contains(&count(|_, trip| trip.passenger_count.is_none())));
    }

    #[test]
    fn csv_is_what_the_standard_library_would_print() -> io::Result<()> {
        let dir = std::env::temp_dir().join(format!("taxi-{}", std::process::id()));
        let config = Config { trips_per_month: 400, ..Config::default() };
        let paths = write_csv(&config, &dir)?;
        assert_eq!((paths.len(), paths[10].file_name()), (12, Some("taxi_2014-11.csv".as_ref())));
        let text = fs::read_to_string(&paths[10])?;
        fs::remove_dir_all(&dir)?;
        assert_eq!((text.lines().count(), text.lines().next()), (401, Some(HEADER)));
        for (line, t) in text.lines().skip(1).zip(trips(&config, 11)) {
            let passengers = t.passenger_count.map(|count| count.to_string()).unwrap_or_default();
            let times = format!("{},{},{}", t.vendor_id, t.pickup_at, t.dropoff_at);
            let way = format!("{:.2},{},{}", t.trip_distance, t.pickup_zone, t.dropoff_zone);
            let place = format!("{:.6},{:.6}", t.pickup_longitude, t.pickup_latitude);
            let money = [t.fare_amount, t.tip_amount, t.tolls_amount, t.total_amount];
            let money = money.map(|sum| format!("{sum:.2}")).join(",");
            assert_eq!(line, format!("{times},{passengers},{way},{place},{},{money}", t.payment_type));
        }
        Ok(())
    }
}
