//! What a load reports of its rows, and what declared expectations do with those that are not as they should be.

use std::path::Path;

use asof::{
    Error, FeatureStore,
    catalog::{FactTable, KnownAt},
    ingest::{CompactOptions, Expect, Extreme, Ingest, LoadOutcome, OnChangedSource, OnReject, OnViolation},
};
use datafusion::arrow::{datatypes::DataType, util::pretty::pretty_format_batches};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::support::{cells, files_below, instant, store, store_with, temp_dir, write_text};

fn rides(file: impl AsRef<Path>) -> Ingest {
    let table = FactTable::new("at", KnownAt::column("ended")).zone("UTC".parse().unwrap());
    Ingest::new("rides", table).unwrap().from(file.as_ref().to_str().unwrap()).column_type("fare", DataType::Float64)
}

const HEADER: &str = "id,at,ended,fare,note\n";

async fn ids(store: &FeatureStore) -> Vec<String> {
    cells(store, "SELECT id FROM rides ORDER BY id, at", instant("2100-01-01")).await
}

#[tokio::test]
async fn the_report_counts_what_came_in() {
    let (data, root) = (temp_dir(), temp_dir());
    let november = "1,2014-11-01 10:00:00,2014-11-01 10:10:00,5.5,b\n\
                    1,2014-11-01 10:00:00,2014-11-01 10:10:00,5.5,b\n\
                    1,2014-11-01 10:00:00,2014-11-01 10:10:00,5.25,b\n\
                    1,2014-11-01 10:00:00,2014-11-01 10:10:00,5.5,b\n\
                    2,never,2014-11-01 10:10:00,5.5,b\n\
                    3,2014-11-02 10:00:00,2014-11-02 09:00:00,,\n\
                    4,2008-01-01 00:00:00,2014-11-02 09:00:00,-3,\n";
    write_text(data.path(), "rides_2014-11.csv", format!("{HEADER}{november}"));
    // No month in the name: its rows lie outside of none.
    let other = "5,2014-12-01 10:00:00,2014-12-01 10:10:00,1,c\n6,2014-12-02 10:00:00,2014-12-02 10:10:00,1,c\n\
                 7,2014-11-30 23:59:59,2014-12-02 10:10:00,1,a\n";
    write_text(data.path(), "more.csv", format!("{HEADER}{other}"));
    let store = store(root.path()).await;
    let load = rides(data.path()).on_reject(OnReject::Skip);
    let report = store.ingest(&load).await.unwrap();
    let quality = report.quality.clone().unwrap();
    assert_eq!((quality.rows, quality.rejected(), quality.quarantined), (9, 1, 0));
    assert_eq!(quality.rejects.iter().map(|(r, n)| format!("{r}: {n}")).collect::<Vec<_>>(), ["not a time: 1"]);
    assert_eq!((quality.duplicates, quality.duplicates_are_exact), (2, true));
    assert_eq!((quality.outside_month, quality.known_before_event), (1, Some(1)));
    let files: Vec<_> = quality.files.iter().map(|f| (f.name.as_str(), f.rows, f.rejected, f.outside_month)).collect();
    assert_eq!(files, [("more.csv", 3, 0, 0), ("rides_2014-11.csv", 6, 1, 1)]);
    assert_eq!(quality.files.iter().map(|f| f.month.unwrap().to_string()).collect::<Vec<_>>(), ["2014-12", "2014-11"]);
    let column = |name: &str| quality.columns.iter().find(|c| c.name == name).unwrap();
    assert_eq!((column("fare").nulls, column("note").nulls), (1, 2));
    assert_eq!((&column("fare").min, &column("fare").max), (&Some(Extreme::Float(-3.0)), &Some(Extreme::Float(5.5))));
    assert_eq!((&column("id").min, &column("id").max), (&Some(Extreme::Integer(1)), &Some(Extreme::Integer(7))));
    assert_eq!(column("note").min, Some(Extreme::Text("a".into())));
    assert_eq!(column("at").min, Some(Extreme::Time(instant("2008-01-01"))));
    let text = quality.to_string();
    assert!(text.contains("rows loaded") && text.contains("- not a time") && text.contains("2008-01-01"), "{text}");
    // Kept with the load; a second call tells the same.
    assert_eq!(store.quality("rides").await.unwrap().reports, std::slice::from_ref(&quality));
    let again = store.ingest(&load).await.unwrap();
    assert_eq!((again.outcome, again.quality), (LoadOutcome::AlreadyLoaded, Some(quality)));
    assert_eq!(files_below(&root.path().join("quality/default/rides")).len(), 1);
}

#[tokio::test]
async fn duplicates_are_those_that_a_set_of_rows_finds_whatever_the_batches() {
    let (data, root) = (temp_dir(), temp_dir());
    let mut chance = StdRng::seed_from_u64(5);
    let rows: Vec<String> = (0..400)
        .map(|_| {
            let (second, fare) = (chance.random_range(0..6), chance.random_range(0..9));
            format!("1,2014-11-01 10:00:0{second},2014-11-01 11:00:00,{fare},x\n")
        })
        .collect();
    let distinct: std::collections::BTreeSet<&String> = rows.iter().collect();
    let file = write_text(data.path(), "rides.csv", format!("{HEADER}{}", rows.concat()));
    for batch_rows in [1, 7, 8_192] {
        let resources = asof::Resources { batch_rows, ..Default::default() };
        let options = asof::StoreOptions::default().cache_in_memory().resources(resources);
        let store = store_with(&root.path().join(batch_rows.to_string()), options).await;
        let quality = store.ingest(&rides(&file)).await.unwrap().quality.unwrap();
        assert_eq!((quality.rows, quality.duplicates), (400, 400 - distinct.len() as u64), "{batch_rows}");
    }
}

/// A row in each of five ways wrong, among good ones; `note` says which.
const MIXED: &str = "1,2014-11-01 10:00:00,2014-11-01 10:10:00,5.5,good\n\
                     2,2014-11-01 11:00:00,2014-11-01 10:10:00,5.5,early\n\
                     3,2014-11-01 12:00:00,2014-11-01 12:10:00,501,dear\n\
                     4,2014-11-01 13:00:00,2014-11-01 13:10:00,,free\n\
                     \n\
                     1,2014-11-01 14:00:00,2014-11-01 14:10:00,500,again\n\
                     ,2014-11-01 15:00:00,2014-11-01 15:10:00,0,nobody\n\
                     ,2014-11-01 16:00:00,2014-11-01 16:10:00,NaN,nobody\n";

fn expectations(what: OnViolation) -> [Expect; 4] {
    [
        Expect::not_null("fare").on_violation(what),
        Expect::range("fare", 0.0..=500.0).on_violation(what),
        Expect::order("at", "ended").on_violation(what),
        Expect::unique(["id"]).on_violation(what),
    ]
}

fn with(load: Ingest, expectations: &[Expect]) -> Ingest {
    expectations.iter().fold(load, |load, expect| load.expect(expect.clone()))
}

#[tokio::test]
async fn each_expectation_stops_a_load_and_names_the_row() {
    for (i, first) in [(0, "line 5"), (1, "line 4"), (2, "line 3"), (3, "line 7")] {
        let (data, root) = (temp_dir(), temp_dir());
        let file = write_text(data.path(), "rides.csv", format!("{HEADER}{MIXED}"));
        let store = store(root.path()).await;
        let expect = &expectations(OnViolation::Stop)[i];
        let refused = store.ingest(&rides(&file).expect(expect.clone())).await.unwrap_err();
        let text = refused.to_string();
        let Error::Unexpected { expectation, count, quarantine_file, .. } = refused else { panic!("{text}") };
        assert_eq!((expectation, count), (expect.to_string(), if i == 1 { 2 } else { 1 }), "{text}");
        assert!(text.contains(&format!("rides.csv` {first}")), "{text}");
        // Nothing is there but the list of the rows.
        let list = store.read_parquet(&quarantine_file).await.unwrap();
        assert_eq!(list.count().await.unwrap() as u64, count);
        assert!(store.tables().await.unwrap().is_empty());
        let left = files_below(root.path());
        assert!(left.iter().all(|name| name == "asof.json" || name.starts_with("quarantine/default/rides/")), "{left:?}");
    }
}

#[tokio::test]
async fn rows_in_quarantine_are_out_of_the_table_and_can_be_read_with_their_reasons() {
    let (data, root) = (temp_dir(), temp_dir());
    let file = write_text(data.path(), "rides.csv", format!("{HEADER}{MIXED}"));
    let store = store(root.path()).await;
    let report = store.ingest(&with(rides(&file), &expectations(OnViolation::Quarantine))).await.unwrap();
    assert_eq!((report.rows, report.quarantined), (2, 5));
    assert_eq!(ids(&store).await, ["1", ""]);
    let place = root.path().join(report.quarantine_file.unwrap());
    let rows = store.read_parquet(place.to_str().unwrap()).await.unwrap();
    let rows = rows.select_columns(&["note", "__asof_reason", "__asof_line"]).unwrap();
    let text = pretty_format_batches(&rows.collect().await.unwrap()).unwrap().to_string();
    for (note, reason, line) in [
        ("early", "order(at <= ended)", 3),
        ("dear", "range(fare, 0..=500)", 4),
        ("free", "not_null(fare)", 5),
        ("again", "unique(id)", 7),
        ("nobody", "range(fare, 0..=500)", 9),
    ] {
        let row = text.lines().find(|row| row.contains(&format!("| {line} "))).unwrap_or_else(|| panic!("{line}: {text}"));
        assert!(row.contains(note) && row.contains(reason), "{row}");
    }
    // Through the folder as well.
    let folder = root.path().join("quarantine/default/rides");
    assert_eq!(store.read_parquet(folder.to_str().unwrap()).await.unwrap().count().await.unwrap(), 5);
    let quality = report.quality.unwrap();
    let counts: Vec<u64> = quality.expectations.iter().map(|e| e.violations).collect();
    assert_eq!((counts, quality.quarantined, quality.files[0].quarantined), (vec![1, 2, 1, 1], 5, 5));
    assert_eq!(store.describe("rides").await.unwrap().loads()[0].quarantine_file.iter().count(), 1);
}

#[tokio::test]
async fn a_warning_loads_the_rows_and_counts_them() {
    let (data, root) = (temp_dir(), temp_dir());
    let file = write_text(data.path(), "rides.csv", format!("{HEADER}{MIXED}"));
    let store = store(root.path()).await;
    let report = store.ingest(&with(rides(&file), &expectations(OnViolation::Warn))).await.unwrap();
    assert_eq!((report.rows, report.quarantined, report.quarantine_file), (7, 0, None));
    let quality = report.quality.unwrap();
    assert_eq!(quality.expectations.iter().map(|e| e.violations).collect::<Vec<_>>(), [1, 2, 1, 1]);
    assert!(quality.expectations[3].first.as_ref().unwrap().ends_with("line 7"));
    assert!(quality.to_string().contains("order(at <= ended) (warn)"), "{quality}");
}

#[tokio::test]
async fn expectations_belong_to_the_table_and_are_not_contradicted() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let row = |id: i64, fare: &str| format!("{HEADER}{id},2014-11-0{id} 10:00:00,2014-11-0{id} 10:10:00,{fare},x\n");
    let file = |id: i64, fare: &str| write_text(data.path(), &format!("{id}.csv"), row(id, fare));
    let range = Expect::range("fare", 0.0..=f64::INFINITY);
    store.ingest(&rides(file(1, "5.5")).expect(range.clone())).await.unwrap();
    assert_eq!(store.describe("rides").await.unwrap().expectations(), std::slice::from_ref(&range));
    // Not repeated, and yet in force; repeated, and fine; another bound or another action, and refused.
    let refused = store.ingest(&rides(file(2, "-1.5"))).await.unwrap_err();
    assert!(matches!(&refused, Error::Unexpected { count: 1, .. }), "{refused}");
    store.ingest(&rides(file(3, "7.5")).expect(range.clone()).expect(Expect::not_null("id"))).await.unwrap();
    for other in [Expect::range("fare", 1.0..=2.0), range.clone().on_violation(OnViolation::Warn)] {
        let refused = store.ingest(&rides(file(4, "1.5")).expect(other)).await.unwrap_err();
        assert!(matches!(&refused, Error::Definition { reason, .. } if reason.contains("set_expectations")), "{refused}");
    }
    // Changed on purpose.
    let version = store.set_expectations("rides", &[range.on_violation(OnViolation::Warn)]).await.unwrap();
    assert_eq!((version.version(), version.expectations().len()), (3, 1));
    assert_eq!(store.ingest(&rides(file(2, "-1.5"))).await.unwrap().rows, 1);
    // What cannot be judged is refused before a row is read.
    for (expect, column) in [
        (Expect::not_null("nothing"), "nothing"),
        (Expect::range("note", 0.0..=1.0), "note"),
        (Expect::order("at", "fare"), "fare"),
        (Expect::unique(["id", "nothing"]), "nothing"),
    ] {
        let refused = store.ingest(&rides(file(5, "1.5")).expect(expect.clone())).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("`{column}`")), "{refused}");
        assert!(store.set_expectations("rides", &[expect]).await.is_err());
    }
    let twice = Expect::unique(["id", "id"]);
    assert!(matches!(store.set_expectations("rides", &[twice]).await, Err(Error::Definition { .. })));
    for empty in [Expect::range("fare", 2.0..=1.0), Expect::range("fare", f64::NAN..=1.0), Expect::unique(Vec::<String>::new())] {
        assert!(matches!(store.set_expectations("rides", &[empty]).await, Err(Error::Definition { .. })));
    }
    assert!(matches!(store.set_expectations("nobody", &[]).await, Err(Error::UnknownTable { .. })));
}

#[tokio::test]
async fn keys_are_unique_over_the_whole_table() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let file = |name: &str, keys: &[(i64, &str)]| {
        let rows: String = keys.iter().map(|(id, day)| format!("{id},{day} 10:00:00,{day} 10:10:00,1.5,{name}\n")).collect();
        write_text(data.path(), name, format!("{HEADER}{rows}"))
    };
    let key = Expect::unique(["id", "note"]).on_violation(OnViolation::Quarantine);
    let first = file("a.csv", &[(1, "2014-11-01"), (2, "2014-11-02")]);
    assert_eq!(store.ingest(&rides(&first).expect(key)).await.unwrap().rows, 2);
    store.set_expectations("rides", &[Expect::unique(["id"]).on_violation(OnViolation::Quarantine)]).await.unwrap();
    // 1 was loaded in another month than it comes back in; 7 is there twice, the first of them stays.
    let second = file("b.csv", &[(7, "2014-12-24"), (1, "2014-12-01"), (3, "2014-12-02"), (7, "2014-12-03")]);
    let report = store.ingest(&rides(&second)).await.unwrap();
    assert_eq!((report.rows, report.quarantined), (2, 2));
    assert_eq!(ids(&store).await, ["1", "2", "3", "7"]);
    let kept = cells(&store, "SELECT date_part('day', at) FROM rides WHERE id = 7", instant("2100-01-01")).await;
    assert_eq!(kept, ["24"]);
    store.set_expectations("rides", &[Expect::unique(["id"])]).await.unwrap();
    let third = file("c.csv", &[(9, "2015-01-01"), (3, "2015-01-02")]);
    let refused = store.ingest(&rides(&third)).await.unwrap_err();
    assert!(matches!(&refused, Error::Unexpected { count: 1, first, .. } if first.ends_with("c.csv` line 3")), "{refused}");
    assert_eq!(ids(&store).await, ["1", "2", "3", "7"]);
}

#[tokio::test]
async fn unique_keys_of_many_rows_are_found_in_little_memory() {
    let (data, root) = (temp_dir(), temp_dir());
    let resources = asof::Resources { memory_bytes: 4 << 20, ..Default::default() };
    let options = asof::StoreOptions::default().cache_in_memory().resources(resources);
    let store = store_with(root.path(), options).await;
    let rows = |from: u64| -> String {
        let row = |id: u64| {
            format!("key number {id:08} of many that are long,2014-11-{:02} 10:00:00,2014-12-01 10:00:00,1,x\n", 1 + id % 28)
        };
        (from..from + 60_000).map(row).collect()
    };
    let one = write_text(data.path(), "one.csv", format!("{HEADER}{}", rows(0)));
    let two = write_text(data.path(), "two.csv", format!("{HEADER}{}", rows(59_000)));
    let unique = Expect::unique(["id"]).on_violation(OnViolation::Quarantine);
    assert_eq!(store.ingest(&rides(&one).expect(unique)).await.unwrap().quarantined, 0);
    let report = store.ingest(&rides(&two)).await.unwrap();
    assert_eq!((report.rows, report.quarantined), (59_000, 1_000));
}

#[tokio::test]
async fn an_order_reads_a_time_without_a_zone_by_the_tables_clock() {
    let (data, root) = (temp_dir(), temp_dir());
    // In Tokyo the second of November begins at 15:00 UTC on the first.
    let rows = "2014-11-02,2014-11-02 00:00:00\n2014-11-03,2014-11-02 23:59:59\n,2014-11-02 12:00:00\n";
    let file = write_text(data.path(), "days.csv", format!("day,at\n{rows}"));
    let table = FactTable::new("at", KnownAt::after(chrono::TimeDelta::zero())).zone("Asia/Tokyo".parse().unwrap());
    let load = Ingest::new("days", table).unwrap().from(&file).column_type("day", DataType::Date32);
    let load = load.expect(Expect::order("day", "at").on_violation(OnViolation::Warn));
    let quality = store(root.path()).await.ingest(&load).await.unwrap().quality.unwrap();
    assert_eq!(quality.expectations[0].violations, 1, "{quality}");
    assert!(quality.expectations[0].first.as_ref().unwrap().ends_with("line 3"), "{quality}");
}

/// The files of quality reports, and what the store says of each load: its rows, or that its report is lost.
async fn reports(store: &asof::FeatureStore) -> (Vec<u64>, Vec<String>) {
    let quality = store.quality("rides").await.unwrap();
    (quality.reports.iter().map(|report| report.rows).collect(), quality.lost.into_iter().map(|lost| lost.reason).collect())
}

#[tokio::test]
async fn a_report_that_is_lost_or_damaged_stops_nothing_but_itself() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store(root.path()).await;
    let file = |name: &str, rows: &str| write_text(data.path(), name, format!("{HEADER}{rows}"));
    let first = file("one.csv", MIXED);
    store.ingest(&rides(&first)).await.unwrap();
    let path = root.path().join("quality").join(&files_below(&root.path().join("quality"))[0]);
    let whole = std::fs::read(&path).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    // The names on disk stay, whatever the fields are called.
    for name in ["suspicions", "moves", "history", "reversed", "habits", "usual"] {
        assert!(text.contains(&format!("\"{name}\": ")), "{name}: {text}");
    }
    let damages: [(&str, Option<Vec<u8>>); 4] = [
        ("vanished", None),
        ("restore", Some(whole[..whole.len() / 2].to_vec())),
        ("checksum", Some(text.replacen("\"rows\": ", "\"rows\": 1", 1).into())),
        ("format", Some(text.replacen("\"format\": 2", "\"format\": 9", 1).into())),
    ];
    for (i, (word, damaged)) in damages.into_iter().enumerate() {
        match damaged {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        // It is named ...
        let (seen, lost) = reports(&store).await;
        assert_eq!((seen.len(), lost.len()), (i, 1));
        assert!(lost[0].contains(path.file_name().unwrap().to_str().unwrap()) && lost[0].contains(word), "{lost:?}");
        // ... a load that is there is there ...
        let again = store.ingest(&rides(&first)).await.unwrap();
        assert_eq!((again.outcome, again.quality.is_some()), (LoadOutcome::AlreadyLoaded, i > 0));
        // ... and the next one is judged by what is left, and says what is missing.
        let next = file(&format!("next{i}.csv"), &format!("9{i},2014-11-05 10:00:00,2014-11-05 11:00:00,1,x\n"));
        let report = store.ingest(&rides(&next)).await.unwrap();
        let notes = report.quality.unwrap().notes;
        assert_eq!((report.rows, notes.len()), (1, usize::from(i == 0)), "{notes:?}");
        std::fs::write(&path, &whole).unwrap();
    }
    // All of them lost: replacing, compacting and collecting go on too.
    for name in files_below(&root.path().join("quality")) {
        std::fs::write(root.path().join("quality").join(name), "{").unwrap();
    }
    let changed = file("one.csv", "99,2014-11-06 10:00:00,2014-11-06 11:00:00,1,x\n");
    let replaced = store.ingest(&rides(&changed).on_changed_source(OnChangedSource::Replace)).await.unwrap();
    assert_eq!((replaced.rows, replaced.quality.unwrap().notes.len()), (1, 5));
    store.compact("rides", &CompactOptions::default()).await.unwrap();
    store.gc(&asof::gc::Gc::delete()).await.unwrap();
    assert_eq!(reports(&store).await.0, [1]);
    assert_eq!(store.describe("rides").await.unwrap().rows(), 5);
}
