//! Times of source files: one instant in every form, unit and zone is one instant, and one that a column cannot hold
//! exactly is refused. Nothing wraps, and no rounding moves a fact before a cutoff.

use std::{fs, path::Path, sync::Arc};

use asof::{
    Error, FeatureStore, Resources, StoreOptions,
    catalog::{FactTable, KnownAt, TimeColumn},
    ingest::{Ingest, OnReject},
    time::TimeUnit,
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{
            ArrayRef, Date32Array, Date64Array, Float64Array, Int32Array, Int64Array, LargeStringArray, StringArray,
            TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
        },
        datatypes::{DataType, Field, Schema, TimeUnit as ArrowUnit},
    },
    parquet::{
        arrow::add_encoded_arrow_schema_to_metadata,
        data_type::{Int64Type, Int96, Int96Type},
        file::{properties::WriterProperties, writer::SerializedFileWriter},
        schema::parser::parse_message_type,
    },
};

use crate::{
    bad_input::says,
    real_data::shared,
    sources::{load, loaded, refused, table_bits},
    support::{cells, instant, store_with, temp_dir, write_parquet, write_text},
    times::utc_micros,
};

const DAY_S: i64 = 86_400;

/// Whole seconds, and what New York's clocks and those of Greenwich show.
const INSTANTS: [(i64, &str, &str); 4] = [
    (-86_399, "1969-12-30 19:00:01", "1969-12-31 00:00:01"),
    (1_396_354_260, "2014-04-01 08:11:00", "2014-04-01 12:11:00"),
    (1_414_915_200, "2014-11-02 03:00:00", "2014-11-02 08:00:00"),
    (1_577_836_799, "2019-12-31 18:59:59", "2019-12-31 23:59:59"),
];

fn epoch(unit: TimeUnit) -> FactTable {
    let zone = "America/New_York".parse().unwrap();
    FactTable::new(TimeColumn::epoch("at", unit), KnownAt::after(TimeDelta::zero())).zone(zone)
}

/// The instants as INT96, with the nanoseconds that are added to each.
fn write_int96(file: &Path, instants: &[Option<i128>], rows_per_group: usize) {
    write_int96_as(file, instants, rows_per_group, WriterProperties::builder().build());
}

fn write_int96_as(file: &Path, instants: &[Option<i128>], rows_per_group: usize, properties: WriterProperties) {
    let schema = parse_message_type("message m { optional int96 at; required int64 id; optional int96 seen; }").unwrap();
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let mut writer = SerializedFileWriter::new(fs::File::create(file).unwrap(), Arc::new(schema), Arc::new(properties)).unwrap();
    for (group, chunk) in instants.chunks(rows_per_group).enumerate() {
        let values: Vec<Int96> = chunk
            .iter()
            .flatten()
            .map(|ns| {
                let day_ns = i128::from(DAY_S) * 1_000_000_000;
                let (day, nanos) = (ns.div_euclid(day_ns) + 2_440_588, ns.rem_euclid(day_ns) as u64);
                let mut value = Int96::new();
                value.set_data(nanos as u32, (nanos >> 32) as u32, i32::try_from(day).unwrap() as u32);
                value
            })
            .collect();
        let levels: Vec<i16> = chunk.iter().map(|ns| i16::from(ns.is_some())).collect();
        let mut rows = writer.next_row_group().unwrap();
        for column in 0..3 {
            let mut next = rows.next_column().unwrap().unwrap();
            if column == 1 {
                let ids: Vec<i64> = (0..chunk.len()).map(|i| (group * rows_per_group + i) as i64).collect();
                next.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
            } else {
                next.typed::<Int96Type>().write_batch(&values, Some(&levels), None).unwrap();
            }
            next.close().unwrap();
        }
        rows.close().unwrap();
    }
    writer.close().unwrap();
}

fn text_file(dir: &Path, name: &str, times: impl Iterator<Item = String>) -> String {
    let times: Vec<String> = times.collect();
    match name.ends_with(".csv") {
        true => write_text(dir, name, format!("at,id\n{}", lines(&times, |i, at| format!("{at},{i}")))),
        false => write_text(dir, name, lines(&times, |i, at| format!("{{\"at\":{at},\"id\":{i}}}"))),
    }
}

fn lines(times: &[String], line: impl Fn(usize, &str) -> String) -> String {
    times.iter().enumerate().map(|(i, at)| line(i, at) + "\n").collect()
}

#[tokio::test]
async fn one_data_set_in_every_form_of_time_is_one_table_bit_for_bit() {
    let data = temp_dir();
    let dir = data.path();
    let ids = || Arc::new(Int64Array::from(vec![0, 1, 2, 3])) as ArrayRef;
    let seconds = || INSTANTS.iter().map(|(s, _, _)| *s);
    let locals = || INSTANTS.iter().map(|(_, local, _)| *local);
    let utcs = || INSTANTS.iter().map(|(_, _, utc)| *utc);
    let local_s: Vec<i64> =
        locals().map(|l| chrono::NaiveDateTime::parse_from_str(l, "%Y-%m-%d %H:%M:%S").unwrap().and_utc().timestamp()).collect();
    let scaled = |per_s: i64| seconds().map(|s| s * per_s).collect::<Vec<_>>();
    let local_scaled = |per_s: i64| local_s.iter().map(|s| s * per_s).collect::<Vec<_>>();

    let mut loads: Vec<(String, Ingest)> = Vec::new();
    let us = |path: String| (path.clone(), load(path));
    let american = |text: &str| {
        let (date, time) = text.split_once(' ').unwrap();
        let parts: Vec<i64> = date.split('-').map(|p| p.parse().unwrap()).collect();
        format!("{}/{}/{} {time}", parts[1], parts[2], parts[0])
    };
    type Form = Box<dyn Fn(&str) -> String>;
    let of_utc: [(&str, Form); 6] = [
        ("z.csv", Box::new(|t| t.replace(' ', "T") + "Z")),
        ("utc.csv", Box::new(|t| format!("{t} UTC"))),
        ("offset.csv", Box::new(|t| format!("{t}+00:00"))),
        ("fraction.csv", Box::new(|t| format!("{t}.000000000Z"))),
        ("quoted.jsonl", Box::new(|t| format!("\"{t}Z\""))),
        ("slashes.csv", Box::new(|t| t.replace('-', "/") + "-00")),
    ];
    loads.extend(of_utc.iter().map(|(name, form)| us(text_file(dir, name, utcs().map(form)))));
    loads.push(us(text_file(dir, "local.csv", locals().map(str::to_owned))));
    loads.push(us(text_file(dir, "local_slashes.csv", locals().map(|t| t.replace('-', "/").replace("/0", "/")))));
    let mixed =
        INSTANTS.iter().enumerate().map(|(i, (_, local, utc))| if i % 2 == 0 { (*local).to_owned() } else { format!("{utc}Z") });
    loads.push(us(text_file(dir, "mixed.csv", mixed)));
    let (name, from) = us(text_file(dir, "american.csv", locals().map(american)));
    loads.push((name, from.time_format("at", "%m/%d/%Y %H:%M:%S").unwrap()));
    let (name, from) = us(text_file(dir, "american_offset.jsonl", utcs().map(|t| format!("\"{} +0000\"", american(t)))));
    loads.push((name, from.time_format("at", "%m/%d/%Y %H:%M:%S %z").unwrap()));
    let units = [(TimeUnit::Second, 1), (TimeUnit::Millisecond, 1_000), (TimeUnit::Microsecond, 1_000_000)];
    for (unit, per_s) in units {
        let with = |path: String| (path.clone(), Ingest::new("things", epoch(unit)).unwrap().from(path));
        let numbers = || scaled(per_s).into_iter();
        loads.push(with(text_file(dir, &format!("epoch_{per_s}.csv"), numbers().map(|n| n.to_string()))));
        loads.push(with(text_file(dir, &format!("epoch_{per_s}.jsonl"), numbers().map(|n| n.to_string()))));
        loads.push(with(text_file(dir, &format!("texts_{per_s}.jsonl"), numbers().map(|n| format!("\"{n}\"")))));
        let some_text = INSTANTS.iter().map(|(s, _, utc)| if *s > 0 { (s * per_s).to_string() } else { format!("{utc}Z") });
        loads.push(with(text_file(dir, &format!("some_{per_s}.csv"), some_text)));
        let path = dir.join(format!("epoch_{per_s}.parquet"));
        write_parquet(&path, &[("at", Arc::new(Int64Array::from(scaled(per_s)))), ("id", ids())], None);
        loads.push(with(path.to_str().unwrap().to_owned()));
    }
    let small = seconds().map(|s| i32::try_from(s).unwrap()).collect::<Vec<_>>();
    let floats = seconds().map(|s| s as f64).collect::<Vec<_>>();
    let small: [(&str, ArrayRef); 2] =
        [("int32", Arc::new(Int32Array::from(small))), ("float", Arc::new(Float64Array::from(floats)))];
    for (name, array) in small {
        let path = dir.join(format!("epoch_{name}.parquet"));
        write_parquet(&path, &[("at", array), ("id", ids())], None);
        loads.push((name.into(), Ingest::new("things", epoch(TimeUnit::Second)).unwrap().from(path.to_str().unwrap())));
    }
    let arrays: [(&str, ArrayRef); 8] = [
        ("s_utc", Arc::new(TimestampSecondArray::from(scaled(1)).with_timezone("UTC"))),
        ("s", Arc::new(TimestampSecondArray::from(local_scaled(1)))),
        ("ms_utc", Arc::new(TimestampMillisecondArray::from(scaled(1_000)).with_timezone("Asia/Tokyo"))),
        ("ms", Arc::new(TimestampMillisecondArray::from(local_scaled(1_000)))),
        ("us_utc", Arc::new(TimestampMicrosecondArray::from(scaled(1_000_000)).with_timezone("+00:00"))),
        ("us", Arc::new(TimestampMicrosecondArray::from(local_scaled(1_000_000)))),
        ("text", Arc::new(LargeStringArray::from_iter_values(locals()))),
        ("date64", Arc::new(Date64Array::from(local_scaled(1_000)))),
    ];
    for (name, array) in arrays {
        let path = dir.join(format!("{name}.parquet"));
        write_parquet(&path, &[("at", array), ("id", ids())], None);
        loads.push(us(path.to_str().unwrap().to_owned()));
    }
    let (_root, store, _) = loaded(&loads[0].1).await;
    let expected = table_bits(&store, "id").await;
    let sql = "SELECT at FROM things ORDER BY id";
    let shown = cells(&store, sql, instant("2100-01-01")).await;
    assert_eq!(shown, INSTANTS.map(|(_, _, utc)| utc.replace(' ', "T") + "Z"));
    for (name, from) in &loads[1..] {
        let (_root, store, report) = loaded(from).await;
        assert_eq!((report.rows, report.rejected), (4, 0), "{name}");
        assert_eq!(table_bits(&store, "id").await, expected, "{name}");
    }

    // Nanoseconds stay nanoseconds, and are the same instants.
    let nanos: [(&str, ArrayRef); 2] = [
        ("ns_utc", Arc::new(TimestampNanosecondArray::from(scaled(1_000_000_000)).with_timezone("UTC"))),
        ("ns", Arc::new(TimestampNanosecondArray::from(local_scaled(1_000_000_000)))),
    ];
    let mut loads = Vec::new();
    for (name, array) in nanos {
        let path = dir.join(format!("{name}.parquet"));
        write_parquet(&path, &[("at", array), ("id", ids())], None);
        loads.push(us(path.to_str().unwrap().to_owned()));
    }
    let texts = text_file(dir, "epoch_ns.csv", scaled(1_000_000_000).into_iter().map(|n| n.to_string()));
    loads.push(("epoch_ns.csv".into(), Ingest::new("things", epoch(TimeUnit::Nanosecond)).unwrap().from(texts)));
    let typed = load(dir.join("z.csv")).column_type("at", DataType::Timestamp(ArrowUnit::Nanosecond, Some("UTC".into())));
    loads.push(("typed".into(), typed));
    for (name, from) in loads {
        let (_root, store, report) = loaded(&from).await;
        assert_eq!(report.version.columns()[0].data_type, "Timestamp(ns, \"UTC\")", "{name}");
        assert_eq!(cells(&store, sql, instant("2100-01-01")).await, shown, "{name}");
    }
}

#[tokio::test]
async fn int96_is_exact_in_every_year_and_never_wraps() {
    let data = temp_dir();
    let ns = |text: &str| i128::from(instant(text).micros()) * 1_000;
    let years = ["0001-01-01", "1677-01-01", "1900-01-01T00:00:00.000001Z", "1969-12-31T23:59:59.999999Z"];
    let later =
        ["2014-11-02T05:30:00.5Z", "2262-04-11T23:47:16.854775Z", "2262-04-12", "2300-01-01", "9999-12-31T23:59:59.999999Z"];
    let all: Vec<&str> = years.into_iter().chain(later).collect();
    let instants: Vec<Option<i128>> = all.iter().map(|text| Some(ns(text))).collect();
    write_int96(&data.path().join("a/a.parquet"), &instants, 4);
    // A reading without a zone: by the clocks of Greenwich here.
    let utc = FactTable::new("at", KnownAt::after(TimeDelta::zero())).zone("UTC".parse().unwrap());
    let of = |folder: &str| Ingest::new("things", utc.clone()).unwrap().from(data.path().join(folder).to_str().unwrap());
    let (_root, store, report) = loaded(&of("a")).await;
    assert_eq!((report.rows, report.rejected), (9, 0));
    let types: Vec<&str> = report.version.columns().iter().map(|c| c.data_type.as_str()).collect();
    assert_eq!(types, ["Timestamp(µs, \"UTC\")", "Int64", "Timestamp(µs)"]);
    // What the time rule says about a fact of the year 2300.
    let count = async |as_of: &str| cells(&store, "SELECT count(*) FROM things", instant(as_of)).await[0].clone();
    assert_eq!(
        (count("2262-04-12").await, count("2300-01-01").await, count("2300-01-01T00:00:00.000001Z").await),
        ("6".into(), "7".into(), "8".into())
    );
    let same = "SELECT count(*) FROM things WHERE CAST(at AS BIGINT) = CAST(seen AS BIGINT)";
    assert_eq!(cells(&store, same, instant("9999-12-31T23:59:59.999999Z")).await, ["8"]);
    let found = cells(&store, "SELECT CAST(at AS BIGINT) FROM things ORDER BY id", asof::AsOf::from_micros(i64::MAX)).await;
    assert_eq!(found, all.iter().map(|text| instant(text).micros().to_string()).collect::<Vec<_>>());

    // Too fine, too far, or missing: each a reject of its own.
    let bad =
        [Some(ns("2014-01-01") + 1), Some(ns("2014-01-01")), Some(i128::from(i32::MAX - 2_440_588) * 86_400_000_000_000), None];
    write_int96(&data.path().join("b/b.parquet"), &bad, 3);
    let error = refused(&of("b")).await;
    says!(
        error,
        Error::RejectedRows { count: 3, .. },
        "b.parquet` line 1, column `at`",
        "finer than a microsecond",
        "Nanosecond"
    );
    let (root, _store, report) = loaded(&of("b").on_reject(OnReject::Skip)).await;
    assert_eq!((report.rows, report.rejected), (1, 3));
    let listed = fs::read_to_string(root.path().join(report.reject_file.unwrap())).unwrap();
    assert!(listed.contains("b.parquet,3,at,") && listed.contains("the time is out of range"), "{listed}");
    assert!(listed.contains("b.parquet,4,at,,the time is empty"), "{listed}");
    let nanos = DataType::Timestamp(ArrowUnit::Nanosecond, Some("UTC".into()));
    let (_root, store, report) =
        loaded(&of("b").column_type("at", nanos.clone()).column_type("seen", nanos).on_reject(OnReject::Skip)).await;
    assert_eq!((report.rows, report.rejected), (2, 2));
    let found = cells(&store, "SELECT at, seen FROM things ORDER BY at", instant("2100-01-01")).await;
    assert_eq!(found[1], "2014-01-01T00:00:00.000000001Z 2014-01-01T00:00:00.000000001Z");
    // Where a file lies is where its reader is not ours: registered, it is still refused.
    let error = store.register_table("found", data.path().join("a").to_str().unwrap(), utc).await.unwrap_err();
    says!(error, Error::ColumnType { .. }, "a.parquet", "INT96", "`ingest`");
}

/// Files of pandas and pyarrow say in an embedded Arrow schema which unit the times had before they were written as INT96.
#[tokio::test]
async fn int96_is_read_whatever_an_embedded_schema_says_of_its_unit() {
    let instants: Vec<Option<i128>> = [0, 1_000_000, 1_577_836_800_123_456_000].map(Some).to_vec();
    for (unit, zone) in [ArrowUnit::Second, ArrowUnit::Millisecond, ArrowUnit::Microsecond, ArrowUnit::Nanosecond]
        .into_iter()
        .flat_map(|unit| [(unit, None), (unit, Some("UTC".into()))])
    {
        let data = temp_dir();
        let time = |name: &str| Field::new(name, DataType::Timestamp(unit, zone.clone()), true);
        let schema = Schema::new(vec![time("at"), Field::new("id", DataType::Int64, false), time("seen")]);
        let mut properties = WriterProperties::builder().build();
        add_encoded_arrow_schema_to_metadata(&schema, &mut properties);
        write_int96_as(&data.path().join("x.parquet"), &instants, 2, properties);
        let utc = FactTable::new("at", KnownAt::after(TimeDelta::zero())).zone("UTC".parse().unwrap());
        let from = data.path().join("x.parquet");
        let load = Ingest::new("things", utc).unwrap().from(from.to_str().unwrap());
        let (_root, store, report) = loaded(&load).await;
        assert_eq!((report.rows, report.rejected), (3, 0), "{unit:?} {zone:?}");
        let found = cells(&store, "SELECT CAST(at AS BIGINT) FROM things ORDER BY id", instant("2100-01-01")).await;
        assert_eq!(found, ["0", "1000", "1577836800123456"], "{unit:?} {zone:?}");
    }
}

#[tokio::test]
async fn int96_by_local_clocks_keeps_its_rows_over_many_batches_and_groups() {
    let (data, root) = (temp_dir(), temp_dir());
    let start = instant("2014-11-02T04:00:00Z").micros() - 4 * 3_600_000_000;
    let readings: Vec<i64> = (0..5_000).map(|i| start + i * 7_000_001).collect();
    let int96: Vec<Option<i128>> = readings.iter().map(|us| Some(i128::from(*us) * 1_000)).collect();
    write_int96(&data.path().join("a.parquet"), &int96, 1_777);
    let plain: [(&str, ArrayRef); 3] = [
        ("at", Arc::new(TimestampMicrosecondArray::from(readings.clone()))),
        ("id", Arc::new(Int64Array::from_iter_values(0..5_000))),
        ("seen", Arc::new(TimestampMicrosecondArray::from(readings))),
    ];
    write_parquet(&data.path().join("b.parquet"), &plain, None);
    let mut all = Vec::new();
    for (file, batch_rows) in [("a.parquet", 8_192), ("a.parquet", 100), ("b.parquet", 1_000)] {
        let root = root.path().join(format!("{file}_{batch_rows}"));
        let resources = Resources { batch_rows, ..Default::default() };
        let store = store_with(&root, StoreOptions::default().cache_in_memory().resources(resources)).await;
        assert_eq!(store.ingest(&load(data.path().join(file))).await.unwrap().rows, 5_000);
        all.push(table_bits(&store, "id").await);
    }
    assert!(all[0] == all[1] && all[1] == all[2]);
}

#[tokio::test]
async fn a_number_in_another_unit_is_refused_with_the_unit_it_is() {
    let data = temp_dir();
    let s = 1_414_915_200_i64;
    for (declared, value, words) in [
        (TimeUnit::Second, s * 1_000, "as seconds it lies in the year 46806, as milliseconds it would not"),
        (TimeUnit::Second, s * 1_000_000, "as microseconds it would not"),
        (TimeUnit::Second, s * 1_000_000_000, "as nanoseconds it would not"),
        (TimeUnit::Millisecond, s * 1_000_000, "as milliseconds it lies in the year 46806, as microseconds it would not"),
        (TimeUnit::Microsecond, s * 1_000_000_000, "as nanoseconds it would not"),
        (TimeUnit::Second, i64::MAX, "out of range"),
        (TimeUnit::Millisecond, i64::MIN, "out of range"),
    ] {
        let csv = text_file(data.path(), "a.csv", [value.to_string()].into_iter());
        let json = text_file(data.path(), "a.jsonl", [value.to_string()].into_iter());
        let path = data.path().join("a.parquet");
        write_parquet(&path, &[("at", Arc::new(Int64Array::from(vec![value])))], None);
        for file in [csv, json, path.to_str().unwrap().to_owned()] {
            let error = refused(&Ingest::new("things", epoch(declared)).unwrap().from(&file)).await;
            says!(error, Error::RejectedRows { .. }, &*value.to_string(), words);
        }
    }
    for (text, words) in
        [("99999999999999999999", "out of range"), ("12.5", "not an integer"), ("", "the time is empty"), ("soon", "not a time")]
    {
        let csv = text_file(data.path(), "b.csv", [text.to_owned()].into_iter());
        let error = refused(&Ingest::new("things", epoch(TimeUnit::Second)).unwrap().from(&csv)).await;
        says!(error, Error::RejectedRows { .. }, words);
    }
}

/// How many facts are visible at an instant so many microseconds after this one.
async fn seen(store: &FeatureStore, at: &str, us: i64) -> String {
    let as_of = asof::AsOf::from_micros(instant(at).micros() + us);
    cells(store, "SELECT count(*) FROM things", as_of).await.remove(0)
}

#[tokio::test]
async fn texts_keep_nine_digits_and_a_nanosecond_decides() {
    let data = temp_dir();
    let t = "2014-06-01T12:00:00.000001Z";
    let times = ["000000999", "000001000", "000001001", "000001999"].map(|digits| format!("2014-06-01 12:00:00.{digits} UTC"));
    for name in ["fine.csv", "fine.jsonl"] {
        let quoted = times.iter().map(|t| if name.ends_with("l") { format!("\"{t}\"") } else { t.clone() });
        let (_root, store, report) = loaded(&load(text_file(data.path(), name, quoted))).await;
        assert_eq!(report.version.columns().iter().find(|c| c.name == "at").unwrap().data_type, "Timestamp(ns, \"UTC\")");
        assert_eq!((seen(&store, t, 0).await, seen(&store, t, 1).await), ("1".into(), "4".into()));
    }
    // A table of microseconds takes what it can hold, from texts and from Parquet, and refuses the rest.
    let coarse = text_file(data.path(), "coarse.csv", ["2014-06-01".to_owned()].into_iter());
    let (_root, store, _) = loaded(&load(coarse)).await;
    let ns: Vec<i64> = [999, 1_000, 1_001].map(|n| instant("2014-06-01T12:00:00Z").micros() * 1_000 + n).into();
    let at: ArrayRef = Arc::new(TimestampNanosecondArray::from(ns).with_timezone("UTC"));
    write_parquet(&data.path().join("fine.parquet"), &[("at", at)], None);
    for (file, count) in [("fine.csv", 3), ("fine.parquet", 2)] {
        let error = store.ingest(&load(data.path().join(file))).await.unwrap_err();
        let words = "declare the column `Timestamp(Nanosecond, Some(\"UTC\"))`";
        assert!(matches!(&error, Error::RejectedRows { count: found, .. } if *found == count), "{error}");
        says!(error, Error::RejectedRows { .. }, file, "finer than a microsecond", words);
        assert_eq!(store.ingest(&load(data.path().join(file)).on_reject(OnReject::Skip)).await.unwrap().rows, 1);
    }
    assert_eq!((seen(&store, t, 0).await, seen(&store, t, 1).await), ("1".into(), "3".into()));
    let nanos = DataType::Timestamp(ArrowUnit::Nanosecond, Some("UTC".into()));
    let more = text_file(data.path(), "more.csv", ["2014-06-02".to_owned()].into_iter());
    let error = store.ingest(&load(more).column_type("at", nanos)).await.unwrap_err();
    says!(error, Error::ColumnType { .. }, "`at`", "keeps its type");
}

#[tokio::test]
async fn a_declared_form_is_read_by_its_letter() {
    let data = temp_dir();
    let one = async |format: &str, text: &str| {
        let file = write_text(data.path(), "one.csv", format!("at\n\"{text}\"\n"));
        let root = temp_dir();
        let store = crate::support::store(root.path()).await;
        store.ingest(&load(file).time_format("at", format).unwrap()).await?;
        Ok::<_, Error>(cells(&store, "SELECT at FROM things", instant("2100-01-01")).await.remove(0))
    };
    for (format, text, expected) in [
        ("%m/%d/%Y %H:%M", "4/1/2014 0:11", "2014-04-01T04:11:00Z"),
        ("t%s", "t1396354260", "2014-04-01T12:11:00Z"),
        ("%d.%m.%Y", "01.04.2014", "2014-04-01T04:00:00Z"),
        ("%m/%d/%y %I:%M %p", "11/02/14 01:30 AM", "2014-11-02T06:30:00Z"),
        ("%Y%m%d%H%M%S", "20140309023000", "2014-03-09T07:00:00Z"),
        ("%d %b %Y %H:%M:%S %z", "01 Apr 2014 12:00:00 +0200", "2014-04-01T10:00:00Z"),
        ("%d/%m/%Y %H:%M:%S%.f", "1/4/2014 10:00:00.25", "2014-04-01T14:00:00.250Z"),
    ] {
        let found = one(format, text).await.unwrap();
        assert_eq!(found.replace(".250000", ".250"), expected, "{format}");
    }
    for (format, text, words) in [
        ("%m/%d/%Y %H:%M", "2014-04-01 00:11", "not a time in the declared format"),
        ("%m/%d/%Y %H:%M", "4/31/2014 0:11", "not a time in the declared format"),
        ("%m/%d/%Y %H:%M", "4/1/2014 0:11 PM", "not a time in the declared format"),
        ("%Y-%m-%d %H:%M:%S", "2014-04-01 23:59:60", "no such time of day"),
        ("%H:%M", "10:00", "not a time in the declared format"),
    ] {
        says!(one(format, text).await.unwrap_err(), Error::RejectedRows { .. }, text, words);
    }
    for bad in ["%Q", "", "noon", "%"] {
        says!(load("x").time_format("at", bad).unwrap_err(), Error::Definition { .. }, "time format of `at`");
    }
}

#[tokio::test]
async fn a_date_is_its_first_instant_by_the_declared_clocks_and_a_date64_too() {
    let data = temp_dir();
    let arrays: [ArrayRef; 3] = [
        Arc::new(Date32Array::from(vec![16_161])),
        Arc::new(Date64Array::from(vec![16_161 * 86_400_000])),
        Arc::new(StringArray::from(vec!["2014-04-01"])),
    ];
    for (i, array) in arrays.into_iter().enumerate() {
        let path = data.path().join(format!("{i}.parquet"));
        write_parquet(&path, &[("at", array)], None);
        let (_root, store, _) = loaded(&load(&path)).await;
        assert_eq!(cells(&store, "SELECT at FROM things", instant("2100-01-01")).await, ["2014-04-01T04:00:00Z"], "{i}");
    }
    // Without declared clocks nothing is guessed.
    let nowhere = FactTable::new("at", KnownAt::after(TimeDelta::zero()));
    for file in ["0.parquet", "1.parquet", "2.parquet"] {
        let error =
            refused(&Ingest::new("things", nowhere.clone()).unwrap().from(data.path().join(file).to_str().unwrap())).await;
        says!(error, Error::ColumnType { .. } | Error::RejectedRows { .. }, file, "zone");
    }
}

#[tokio::test]
async fn times_far_beyond_all_calendars_are_rejects() {
    let data = temp_dir();
    let path = data.path().join("far.parquet");
    write_parquet(&path, &[("at", utc_micros([0, i64::MAX, i64::MIN, 8_210_000_000_000_000_000]))], None);
    let (_root, _store, report) = loaded(&load(&path).on_reject(OnReject::Skip)).await;
    assert_eq!((report.rows, report.rejected), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn real_pickups_with_odd_times_are_all_read() {
    let Some(dir) = shared("uber_2014") else { return };
    let pickups = FactTable::new("picked_up_at", KnownAt::after(TimeDelta::zero())).zone("America/New_York".parse().unwrap());
    let from = Ingest::new("things", pickups).unwrap().from(dir.join("*-apr14.csv").to_str().unwrap());
    let (_root, store, report) = loaded(&from.rename("Date/Time", "picked_up_at")).await;
    let text = fs::read_to_string(dir.join("uber-raw-data-apr14.csv")).unwrap();
    assert_eq!((report.rows as usize, report.rejected), (text.lines().count() - 1, 0));
    let first = cells(&store, "SELECT min(picked_up_at), max(picked_up_at) FROM things", instant("2100-01-01")).await;
    assert!(first[0].starts_with("2014-04-01T04:0") && first[0].contains("2014-0"), "{first:?}");
}
