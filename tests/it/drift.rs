//! Drift from what the table has seen stands in the quality report, largest first: made-up and real trips, altered in ways that a
//! load cannot refuse, because each might be real.

use std::{fs, path::Path};

use asof::ingest::{Drift, Ingest, OnAnomaly};

use crate::{
    real_data::shared,
    support::{store, temp_dir, trips_table, write_text, write_trips},
};

type Change = Box<dyn Fn(usize, &mut Vec<String>) -> bool>;

fn scaled(cell: &str, by: f64) -> String {
    cell.parse::<f64>().map_or_else(|_| cell.to_owned(), |value| format!("{:.2}", value * by))
}

/// A time `YYYY-MM-DD HH:MM:SS`, five hours later on the same day's clock face.
fn five_hours_later(cell: &str) -> String {
    let hour: usize = cell[11..13].parse().unwrap();
    format!("{}{:02}{}", &cell[..11], (hour + 5) % 24, &cell[13..])
}

/// The alterations: what they are called, the columns or measures of which one must stand at the top, and what is done.
fn changes(
    header: &str,
    [pickup, dropoff, distance, fare, tip, from, to]: [&str; 7],
) -> Vec<(&'static str, Vec<String>, Change)> {
    let at = |name: &str| header.split(',').position(|column| column == name).unwrap();
    let (pickup_at, dropoff_at, distance_at) = (at(pickup), at(dropoff), at(distance));
    let (fare_at, tip_at, from_at, to_at) = (at(fare), at(tip), at(from), at(to));
    let column = |name: &str| format!("column `{name}`");
    let scale = move |place: usize, every: usize, by: f64| -> Change {
        Box::new(move |i, c| {
            if i.is_multiple_of(every) {
                c[place] = scaled(&c[place], by);
            }
            true
        })
    };
    vec![
        ("fares x100", vec![column(fare)], scale(fare_at, 1, 100.0)),
        ("a tenth of fares x100", vec![column(fare)], scale(fare_at, 10, 100.0)),
        (
            "30 % negative fares",
            vec![column(fare)],
            Box::new(move |i, c| {
                if i % 10 < 3 {
                    c[fare_at] = scaled(&c[fare_at], -1.0);
                }
                true
            }),
        ),
        (
            "every zone 0",
            vec![column(from)],
            Box::new(move |_, c| {
                c[from_at] = "0".into();
                true
            }),
        ),
        (
            "5 % of zone 9999",
            vec![column(from)],
            Box::new(move |i, c| {
                if i % 20 == 0 {
                    c[from_at] = "9999".into();
                }
                true
            }),
        ),
        ("half of the rows missing", vec![": rows ".into()], Box::new(|i, _| i % 2 == 0)),
        ("kilometres for miles", vec![column(distance)], scale(distance_at, 1, 1.609_344)),
        (
            "times shifted by 5 h",
            vec![
                column(pickup).replace("pickup_datetime", "pickup_at"),
                column(dropoff).replace("dropoff_datetime", "dropoff_at"),
            ],
            Box::new(move |_, c| {
                (c[pickup_at], c[dropoff_at]) = (five_hours_later(&c[pickup_at]), five_hours_later(&c[dropoff_at]));
                true
            }),
        ),
        (
            "fare and tip swapped in a fifth of the rows",
            vec![column(fare), column(tip)],
            Box::new(move |i, c| {
                if i % 5 == 0 {
                    c.swap(fare_at, tip_at);
                }
                true
            }),
        ),
        (
            "zones swapped",
            vec![column(from), column(to)],
            Box::new(move |_, c| {
                c.swap(from_at, to_at);
                true
            }),
        ),
    ]
}

fn altered(file: &Path, dir: &Path, change: &dyn Fn(usize, &mut Vec<String>) -> bool) {
    let text = fs::read_to_string(file).unwrap();
    let mut lines = text.lines();
    let mut out = lines.next().unwrap().to_owned() + "\n";
    for (i, line) in lines.enumerate() {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        if change(i, &mut cells) {
            out += &(cells.join(",") + "\n");
        }
    }
    write_text(dir, file.file_name().unwrap().to_str().unwrap(), out);
}

fn load(from: &Path) -> Ingest {
    let load = Ingest::new("nyc_taxi", trips_table()).unwrap().from(from.to_str().unwrap());
    let load = load.rename("pickup_datetime", "pickup_at").rename("dropoff_datetime", "dropoff_at");
    load.on_anomaly(OnAnomaly::Accept)
}

fn shown(drift: &[Drift]) -> String {
    drift.iter().take(6).map(|drift| format!("\n    {drift}")).collect()
}

/// Loads `before` and then the file of `last`, altered in each way.
async fn each(before: &[std::path::PathBuf], last: &Path, columns: [&str; 7]) {
    let header = fs::read_to_string(last).unwrap().lines().next().unwrap().to_owned();
    let base = temp_dir();
    before.iter().for_each(|file| altered(file, base.path(), &|_, _| true));
    let root = temp_dir();
    store(root.path()).await.ingest(&load(base.path())).await.unwrap();
    let after = async |change: &dyn Fn(usize, &mut Vec<String>) -> bool| {
        let (data, copy) = (temp_dir(), temp_dir());
        crate::support::copy_dir(root.path(), copy.path());
        altered(last, data.path(), change);
        store(copy.path()).await.ingest(&load(data.path())).await.unwrap().quality.unwrap()
    };
    let as_it_is = after(&|_, _| true).await.drift;
    println!("as it is:{}", shown(&as_it_is));
    let worst = as_it_is.first().map_or(0.0, |drift| drift.times_usual);
    for (what, expected, change) in changes(&header, columns) {
        let quality = after(&*change).await;
        println!("{what}:{}", shown(&quality.drift));
        let first = quality.drift.first().unwrap_or_else(|| panic!("{what}: no drift"));
        assert!(expected.iter().any(|words| first.to_string().contains(words)), "{what}:{}", shown(&quality.drift));
        assert!(first.times_usual > worst, "{what} is no worse than an ordinary month:{}", shown(&quality.drift));
        assert!(quality.to_string().contains(&format!("drift: {first}")), "{quality}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alterations_of_made_up_trips_stand_at_the_top() {
    let data = temp_dir();
    write_trips(data.path(), 4_000);
    let mut files: Vec<_> = fs::read_dir(data.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let columns = ["pickup_at", "dropoff_at", "trip_distance", "fare_amount", "tip_amount", "pickup_zone", "dropoff_zone"];
    let header = fs::read_to_string(&files[0]).unwrap().lines().next().unwrap().to_owned();
    let renamed = |name: &'static str, other: &'static str| if header.split(',').any(|c| c == name) { name } else { other };
    let columns = [
        renamed(columns[0], "pickup_datetime"),
        renamed(columns[1], "dropoff_datetime"),
        columns[2],
        columns[3],
        columns[4],
        renamed(columns[5], "pickup_location_id"),
        renamed(columns[6], "dropoff_location_id"),
    ];
    // The generator draws both zones alike; real trips end further out than they start, and so do these.
    let outwards = temp_dir();
    let to = header.split(',').position(|column| column == columns[6]).unwrap();
    for file in &files[..7] {
        altered(file, outwards.path(), &|i, c| {
            if i % 3 == 0 {
                c[to] = (200 + c[to].parse::<i64>().unwrap() % 60).to_string();
            }
            true
        });
    }
    let files: Vec<_> = files.iter().map(|file| outwards.path().join(file.file_name().unwrap())).collect();
    each(&files[..6], &files[6], columns).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alterations_of_real_trips_stand_at_the_top() {
    let Some(dir) = shared("yellow_10k") else { return };
    let file = |month: &str| dir.join(format!("yellow_tripdata_sample_{month}.csv"));
    let before = ["2018-01", "2018-02", "2018-03", "2018-04", "2018-05"].map(file);
    let columns = [
        "pickup_datetime",
        "dropoff_datetime",
        "trip_distance",
        "fare_amount",
        "tip_amount",
        "pickup_location_id",
        "dropoff_location_id",
    ];
    each(&before, &file("2018-06"), columns).await;
}
