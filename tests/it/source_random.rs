//! Random tables: written as CSV, as JSON lines and as Parquet they are one table, bit for bit, whatever their texts hold
//! and however large or small their numbers are.

use std::sync::Arc;

use asof::ingest::{CsvOptions, Ingest};
use datafusion::arrow::{
    array::{ArrayRef, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int64Array, StringArray, UInt64Array},
    datatypes::{DataType, Field, Schema},
};
use proptest::prelude::*;

use crate::{
    sources::{gzip, load, loaded, table_bits, zstd},
    support::{temp_dir, write_parquet, write_text},
    times::utc_micros,
};

/// How NULL is written in CSV; no text is it.
const NULL: &str = r"\N";

#[derive(Debug, Clone)]
struct Row {
    at_us: i64,
    whole: Option<i64>,
    count: Option<u64>,
    real: Option<f64>,
    small: Option<f32>,
    cents: Option<i128>,
    flag: Option<bool>,
    text: Option<String>,
}

fn any_row() -> impl Strategy<Value = Row> {
    let year_us = 31_536_000_000_000_i64;
    let odd_text = prop::sample::select(vec![
        "",
        " ",
        "\"",
        "\"\"",
        ",",
        "\n",
        "\r\n",
        "\r",
        "null",
        "NULL",
        "a,\"b\"\nc",
        "\u{feff}",
        "7",
        "007",
        "é\u{1F600}",
        "\\",
        "\\n",
        "{}",
        "true",
        "\u{0}\u{1f}",
    ]);
    let text = prop_oneof![4 => ".{0,12}", 2 => odd_text.prop_map(str::to_owned), 1 => "[\",\r\n\\\\{}]{0,6}"];
    let edge = prop::sample::select(vec![i64::MIN, i64::MAX, 0, -1, (1 << 53) + 1, 1 << 53]);
    let odd_real = prop::sample::select(vec![
        0.0,
        -0.0,
        5e-324,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        1e22,
        9007199254740993.0,
        0.1,
    ]);
    let bits = any::<u64>().prop_map(f64::from_bits).prop_map(|x| if x.is_nan() { f64::NAN } else { x });
    let numbers = (
        prop::option::of(prop_oneof![any::<i64>(), edge, -9..9_i64]),
        prop::option::of(prop_oneof![any::<u64>(), Just(u64::MAX)]),
        prop::option::of(prop_oneof![bits, odd_real, -1e6..1e6_f64]),
        prop::option::of(any::<f32>().prop_map(|x| if x.is_nan() { f32::NAN } else { x })),
        prop::option::of(-(10_i128.pow(38) - 1)..10_i128.pow(38)),
    );
    let at = prop_oneof![-30 * year_us..60 * year_us, Just(0), Just(-1)];
    (at, numbers, any::<Option<bool>>(), prop::option::of(text)).prop_map(
        |(at_us, (whole, count, real, small, cents), flag, text)| Row {
            at_us,
            whole,
            count,
            real,
            small,
            cents,
            flag,
            text: text.filter(|text| text != NULL),
        },
    )
}

fn schema() -> Schema {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Schema::new(vec![
        field("whole", DataType::Int64),
        field("count", DataType::UInt64),
        field("real", DataType::Float64),
        field("small", DataType::Float32),
        field("cents", DataType::Decimal128(38, 2)),
        field("flag", DataType::Boolean),
        field("text", DataType::Utf8),
    ])
}

fn time(us: i64) -> String {
    chrono::DateTime::from_timestamp_micros(us).unwrap().to_rfc3339()
}

/// Hundredths as a decimal number.
fn decimal(cents: i128) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100)
}

fn csv(rows: &[Row]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["at", "whole", "count", "real", "small", "cents", "flag", "text"]).unwrap();
    let cell = |value: Option<String>| value.unwrap_or_else(|| NULL.into());
    for r in rows {
        let numbers = [
            r.whole.map(|n| n.to_string()),
            r.count.map(|n| n.to_string()),
            r.real.map(|x| format!("{x:e}")),
            r.small.map(|x| format!("{x:e}")),
            r.cents.map(decimal),
            r.flag.map(|flag| flag.to_string()),
            r.text.clone(),
        ];
        writer.write_record([time(r.at_us)].into_iter().chain(numbers.into_iter().map(cell))).unwrap();
    }
    writer.into_inner().unwrap()
}

fn json(rows: &[Row], reversed: bool) -> String {
    let number = |text: String, is_finite: bool| if is_finite { text } else { format!("\"{text}\"") };
    let lines = rows.iter().map(|r| {
        let mut fields = vec![
            ("at", Some(format!("\"{}\"", time(r.at_us)))),
            ("whole", r.whole.map(|n| n.to_string())),
            ("count", r.count.map(|n| n.to_string())),
            ("real", r.real.map(|x| number(format!("{x:?}"), x.is_finite()))),
            ("small", r.small.map(|x| number(format!("{x:?}"), x.is_finite()))),
            ("cents", r.cents.map(decimal)),
            ("flag", r.flag.map(|flag| flag.to_string())),
            ("text", r.text.as_ref().map(|text| serde_json::to_string(text).unwrap())),
        ];
        if reversed {
            // Other order, and NULL is a field that is not there.
            fields.reverse();
            fields.retain(|(_, value)| value.is_some());
        }
        let fields: Vec<String> =
            fields.into_iter().map(|(name, value)| format!("\"{name}\": {}", value.unwrap_or_else(|| "null".into()))).collect();
        format!("{{{}}}\n", fields.join(", "))
    });
    lines.collect()
}

fn columns(rows: &[Row]) -> Vec<(&'static str, ArrayRef)> {
    let cents: Decimal128Array = rows.iter().map(|r| r.cents).collect();
    vec![
        ("at", utc_micros(rows.iter().map(|r| r.at_us))),
        ("whole", Arc::new(rows.iter().map(|r| r.whole).collect::<Int64Array>())),
        ("count", Arc::new(rows.iter().map(|r| r.count).collect::<UInt64Array>())),
        ("real", Arc::new(rows.iter().map(|r| r.real).collect::<Float64Array>())),
        ("small", Arc::new(rows.iter().map(|r| r.small).collect::<Float32Array>())),
        ("cents", Arc::new(cents.with_precision_and_scale(38, 2).unwrap())),
        ("flag", Arc::new(rows.iter().map(|r| r.flag).collect::<BooleanArray>())),
        ("text", Arc::new(rows.iter().map(|r| r.text.as_deref()).collect::<StringArray>())),
    ]
}

#[test]
fn a_random_table_is_the_same_from_every_format() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ProptestConfig { cases: 40, max_shrink_iters: 200, failure_persistence: None, ..Default::default() };
    proptest!(config, |(rows in prop::collection::vec(any_row(), 1..40))| {
        // One order for all: rows of one instant keep that of their file, which is the same in all of them.
        let data = temp_dir();
        write_parquet(&data.path().join("a.parquet"), &columns(&rows), None);
        write_text(data.path(), "a.csv", csv(&rows));
        write_text(data.path(), "a.csv.gz", gzip(csv(&rows)));
        write_text(data.path(), "a.jsonl", json(&rows, false));
        write_text(data.path(), "b.jsonl.zst", zstd(json(&rows, true)));
        runtime.block_on(async {
            let mut all = Vec::new();
            for file in ["a.parquet", "a.csv", "a.csv.gz", "a.jsonl", "b.jsonl.zst"] {
                let from: Ingest = load(data.path().join(file)).schema(&schema());
                let (_root, store, report) = loaded(&from.csv(CsvOptions::default().null_texts([NULL]))).await;
                prop_assert_eq!((report.rows, report.rejected), (rows.len() as u64, 0), "{}", file);
                let order = "at, whole, count, real, small, cents, flag, text";
                all.push((file, table_bits(&store, order).await));
            }
            for (file, found) in &all[1..] {
                prop_assert!(*found == all[0].1, "{file} differs from Parquet");
            }
            Ok(())
        })?;
    });
}
