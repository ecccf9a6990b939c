//! Loads flights out of New York and the weather at their airports into a store, from files or generated.
//! Their features are in `features/flights_v1`.

use std::{fs, path::Path};

use asof::{
    AsOf, FeatureStore,
    catalog::{FactTable, KnownAt},
    ingest::Ingest,
};
use chrono::{DateTime, TimeDelta};
use datafusion::dataframe::DataFrameWriteOptions;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Loads `flights*.csv*` and `weather*.csv*` of a folder and registers the tables `flights` and `weather`.
///
/// A flight happens at its scheduled departure (`time_hour` in UTC plus `minute`) and is known when it departs; one that
/// never departed is never known. `work` keeps the flights as Parquet files with these two instants.
pub async fn load(store: &FeatureStore, dir: &Path, work: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let hourly = || FactTable::new("time_hour", KnownAt::after(TimeDelta::zero()));
    let files = |name: &str| format!("{}/{name}*.csv*", dir.display());
    // The files have columns `year` and `month` of their own.
    let folders = ["utc_year", "utc_month"];
    let weather = Ingest::new("weather", hourly().key("origin"))?.from(files("weather")).partition_columns(folders)?;
    store.ingest(&weather).await?;
    store.ingest(&Ingest::new("scheduled", hourly())?.from(files("flights")).partition_columns(folders)?).await?;
    let minutes = |minutes: &str| {
        format!(
            "arrow_cast(arrow_cast(time_hour, 'Int64') + CAST(({minutes}) * 60000000 AS BIGINT), \
             'Timestamp(Microsecond, Some(\"UTC\"))')"
        )
    };
    let sql = format!(
        "SELECT {} AS scheduled_at, {} AS departed_at, time_hour, origin, dest, carrier, flight, tailnum, dep_delay FROM scheduled",
        minutes("minute"),
        minutes("minute + dep_delay")
    );
    let end = AsOf::END_OF_TIME;
    let flights = work.join("flights");
    fs::create_dir_all(&flights)?;
    let file = flights.join("flights.parquet");
    let single = DataFrameWriteOptions::new().with_single_file_output(true);
    store.sql(&sql, end).await?.write_parquet(&file.to_string_lossy(), single, None).await?;
    let departures = FactTable::new("scheduled_at", KnownAt::column("departed_at")).key("origin").key("carrier").key("tailnum");
    store.register_table("flights", &flights.to_string_lossy(), departures).await?;
    Ok(())
}

/// Writes such files for some days of January 2013, from a seed: bad weather makes flights late, and lateness lingers.
pub fn write_csv(dir: &Path, days: i64, seed: u64) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut weather = String::from("origin,temp,wind_speed,precip,visib,time_hour\n");
    let mut flights = String::from("dep_delay,carrier,flight,tailnum,origin,dest,hour,minute,time_hour\n");
    let first = DateTime::from_timestamp(1_357_016_400, 0).unwrap_or_default();
    let mut lateness = [[0.0f64; 8]; 3];
    for hour in 0..days * 24 {
        let at = (first + TimeDelta::hours(hour)).format("%Y-%m-%dT%H:%M:%SZ");
        for (airport, origin) in ["EWR", "JFK", "LGA"].into_iter().enumerate() {
            let storm = f64::from(u8::from((hour / 24 + airport as i64) % 5 == 0));
            let wind = 5.0 + 20.0 * storm + rng.random_range(0.0..6.0);
            let rain = if storm > 0.0 { rng.random_range(0.0..0.3) } else { 0.0 };
            weather.push_str(&format!(
                "{origin},{:.2},{wind:.3},{rain:.2},{:.1},{at}\n",
                39.0 - 10.0 * storm,
                10.0 - 7.0 * storm
            ));
            for (plane, late) in lateness[airport].iter_mut().enumerate() {
                *late = 0.7 * *late + 12.0 * storm * rng.random_range(0.0..1.0) + rng.random_range(-3.0..3.0);
                let carrier = ["AA", "B6", "DL", "UA"][plane % 4];
                let (flight, minute) = (hour * 10 + plane as i64, rng.random_range(0..60));
                let delay = if rng.random_range(0..40) == 0 { "NA".to_owned() } else { format!("{:.0}", late.round()) };
                let delay = delay.replace("NA", "");
                flights.push_str(&format!(
                    "{delay},{carrier},{flight},N{airport}{plane},{origin},ORD,{},{minute},{at}\n",
                    hour % 24
                ));
            }
        }
    }
    fs::write(dir.join("weather.csv"), weather)?;
    fs::write(dir.join("flights.csv"), flights)
}
