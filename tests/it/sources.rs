//! Sources: formats, dialects, types, and columns that differ from file to file. One data set is one table, however it
//! was written; what cannot be read is named and loses nothing.

use std::{fs, io::Write, path::Path, sync::Arc};

use asof::{
    Error, FeatureStore,
    catalog::{FactTable, KnownAt},
    ingest::{ColumnChange, CsvOptions, Format, Ingest, LoadOutcome, LoadReport, OnReject},
};
use chrono::TimeDelta;
use datafusion::arrow::{
    array::{
        ArrayRef, BooleanArray, Date32Array, Date64Array, Decimal128Array, DictionaryArray, Float64Array, Int8Array, Int32Array,
        Int64Array, LargeStringArray, RecordBatch, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
        TimestampNanosecondArray, UInt64Array,
    },
    compute::cast,
    datatypes::{DataType, Field, Int32Type, Schema, TimeUnit},
};
use tempfile::TempDir;

use crate::{
    bad_input::says,
    real_data::shared,
    support::{bits_of, cells, files_below, instant, store, temp_dir, write_parquet, write_text},
    times::utc_micros,
};

/// A table of things that happen at `at` and are known at once, by New York's clocks.
pub(crate) fn things() -> FactTable {
    FactTable::new("at", KnownAt::after(TimeDelta::zero())).zone("America/New_York".parse().unwrap())
}

pub(crate) fn load(from: impl AsRef<Path>) -> Ingest {
    Ingest::new("things", things()).unwrap().from(from.as_ref().to_str().unwrap())
}

pub(crate) fn gzip(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    writer.write_all(text.as_ref()).unwrap();
    writer.finish().unwrap()
}

pub(crate) fn zstd(text: impl AsRef<[u8]>) -> Vec<u8> {
    zstd::encode_all(text.as_ref(), 3).unwrap()
}

/// All rows of the table, bit for bit, without the folders that its files lie in.
pub(crate) async fn table_bits(store: &FeatureStore, order: &str) -> Vec<u8> {
    let columns: Vec<String> =
        store.describe("things").await.unwrap().columns().iter().map(|c| format!("\"{}\"", c.name)).collect();
    let sql = format!("SELECT {} FROM things ORDER BY {order}", columns.join(", "));
    bits_of(&store.sql(&sql, instant("2200-01-01")).await.unwrap().collect().await.unwrap())
}

/// A store that has done this load, and its report.
pub(crate) async fn loaded(load: &Ingest) -> (TempDir, FeatureStore, LoadReport) {
    let root = temp_dir();
    let store = store(root.path()).await;
    let report = store.ingest(load).await.unwrap();
    (root, store, report)
}

/// The error of a load into an empty store, which stays empty.
pub(crate) async fn refused(load: &Ingest) -> Error {
    let root = temp_dir();
    let store = store(root.path()).await;
    let error = store.ingest(load).await.unwrap_err();
    assert!(store.tables().await.unwrap().is_empty());
    assert!(files_below(root.path()).iter().all(|name| !name.starts_with("facts")), "{error}");
    error
}

async fn query(store: &FeatureStore, sql: &str) -> Vec<String> {
    cells(store, sql, instant("2100-01-01")).await
}

fn types(report: &LoadReport) -> Vec<String> {
    report.version.columns().iter().map(|c| format!("{} {}", c.name, c.data_type)).collect()
}

const CSV: &str = "at,id,fare,paid,note\n\
    2014-01-05 10:00:00,9007199254740993,11.5,true,\"a, \"\"b\"\"\nc\"\n\
    2014-01-06 11:00:00,-2,0.1,false,é\n\
    2014-02-01 09:00:00,,,,\n\
    2014-02-02 09:30:00,3,-7,true,x\n";

const JSON: &str = "{\"at\":\"2014-01-05 10:00:00\",\"id\":9007199254740993,\"fare\":11.5,\"paid\":true,\"note\":\"a, \\\"b\\\"\\nc\"}\n\
    {\"note\":\"\\u00e9\", \"paid\":false, \"id\":-2, \"fare\":1e-1, \"at\":\"2014-01-06 11:00:00\"}\n\
    \n\
    {\"at\":\"2014-02-01 09:00:00\",\"id\":null}\r\n\
    {\"at\":\"2014-02-02 09:30:00\",\"id\":3,\"fare\":-7,\"paid\":true,\"note\":\"x\"}";

fn rows() -> Vec<(&'static str, ArrayRef)> {
    let at = ["2014-01-05T15:00:00Z", "2014-01-06T16:00:00Z", "2014-02-01T14:00:00Z", "2014-02-02T14:30:00Z"];
    vec![
        ("at", utc_micros(at.map(|text| instant(text).micros()))),
        ("id", Arc::new(Int64Array::from(vec![Some(9_007_199_254_740_993), Some(-2), None, Some(3)]))),
        ("fare", Arc::new(Float64Array::from(vec![Some(11.5), Some(0.1), None, Some(-7.0)]))),
        ("paid", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)]))),
        ("note", Arc::new(StringArray::from(vec![Some("a, \"b\"\nc"), Some("é"), None, Some("x")]))),
    ]
}

#[tokio::test]
async fn one_data_set_in_every_format_is_one_table_bit_for_bit() {
    let data = temp_dir();
    write_parquet(&data.path().join("parquet/a.parquet"), &rows(), None);
    let (_root, store, _) = loaded(&load(data.path().join("parquet"))).await;
    let expected = table_bits(&store, "at").await;

    let other = CSV.replace("\"a, \"\"b\"\"\nc\"", "'a, \"b\"\nc'").replace("a, ", "a§ ").replace(',', ";").replace('§', ",");
    let hive = "2014-01-05 10:00:00\x019007199254740993\x0111.5\x01true\x01a, \"b\"\u{2028}c\n\
        2014-01-06 11:00:00\x01-2\x010.1\x01false\x01é\n2014-02-01 09:00:00\x01\\N\x01\\N\x01\\N\x01\\N\n\
        2014-02-02 09:30:00\x013\x01-7\x01true\x01x\n";
    // A frame that decoders skip (RFC 8878, 3.1.2), as parallel compressors write one before each of theirs.
    let skipped = |number: u8| [&[0x50 + number, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let files: [(&str, Vec<u8>); 15] = [
        ("a.csv", CSV.into()),
        ("a.csv.gz", gzip(CSV)),
        ("a.CSV.zst", zstd(CSV)),
        ("two.csv.gz", [gzip(&CSV[..60]), gzip(&CSV[60..])].concat()),
        ("two.csv.zst", [zstd(&CSV[..60]), zstd(&CSV[60..])].concat()),
        ("skips.csv.zst", [skipped(0), zstd(&CSV[..60]), skipped(15), zstd(&CSV[60..])].concat()),
        ("part-0001", [skipped(7), zstd(JSON)].concat()),
        ("crlf.csv", CSV.replace("\n2014", "\r\n2014").replace("note\n", "note\r\n").into()),
        ("a.jsonl", JSON.into()),
        ("a.ndjson.gz", gzip(JSON)),
        ("a.json.zst", zstd(JSON)),
        ("bom.json", format!("\u{feff}{JSON}\n\n").into()),
        ("semicolons.csv", other.clone().into()),
        ("hive.csv", hive.into()),
        ("part-0000", gzip(JSON)),
    ];
    for (name, content) in files {
        let file = write_text(data.path(), &format!("{name}.d/{name}"), content);
        let mut from = load(file);
        match name {
            "semicolons.csv" => from = from.csv(CsvOptions::default().delimiter(b';').quote(b'\'')),
            "hive.csv" => {
                let options = CsvOptions::default().delimiter(1).no_quotes().null_texts([r"\N"]);
                from = from.csv(options.columns(["at", "id", "fare", "paid", "note"]));
            }
            "part-0000" | "part-0001" => from = from.format(Format::JsonLines),
            _ => {}
        }
        let (_root, store, report) = loaded(&from).await;
        assert_eq!((report.rows, report.rejected), (4, 0), "{name}");
        let mut found = table_bits(&store, "at").await;
        if name == "hive.csv" {
            // A text without quotes cannot hold a newline; it holds another separator of lines here.
            let other = query(&store, "SELECT replace(note, '\u{2028}', '#') FROM things ORDER BY at LIMIT 1").await;
            assert_eq!(other, ["a, \"b\"#c"]);
            found = expected.clone();
        }
        assert_eq!(found, expected, "{name}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_what_its_name_says_is_named_with_what_it_is() {
    let data = temp_dir();
    write_parquet(&data.path().join("a.parquet"), &rows(), None);
    let parquet = fs::read(data.path().join("a.parquet")).unwrap();
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(CSV.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let cut = |bytes: &[u8]| bytes[..bytes.len() - 9].to_vec();
    let mut damaged = gzip(CSV.repeat(9));
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x55;
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("plain.csv.gz", CSV.into(), "its name says gzip, but it is text"),
        ("plain.csv.zst", CSV.into(), "its name says zstd, but it is text"),
        ("gzip.csv.zst", gzip(CSV), "gzip; name it `.gz`"),
        ("gzip.csv", gzip(CSV), "gzip; name it `.gz`"),
        ("zstd.jsonl", zstd(JSON), "zstd; name it `.zst`"),
        ("twice.csv.gz", gzip(gzip(CSV)), "it should be text, but it is compressed with gzip"),
        ("parquet.csv", parquet.clone(), "Parquet; name it `.parquet`"),
        ("zip.csv", b"PK\x03\x04xxxx".to_vec(), "a ZIP archive"),
        ("utf16.csv", utf16, "UTF-16"),
        ("csv.parquet", CSV.into(), "truncated or not a Parquet file"),
        ("csv.jsonl", CSV.into(), "none of its lines is a JSON object"),
        ("json.csv", JSON.into(), "no column `at`"),
        ("array.json", b"[{\"at\":\"2014-01-01\"}]".to_vec(), "a JSON array"),
        ("pretty.json", b"{\n  \"at\": \"2014-01-01\"\n}".to_vec(), "none of its lines is a JSON object"),
        ("cut.csv.gz", cut(&gzip(CSV)), "truncated or damaged"),
        ("damaged.csv.gz", damaged, "truncated or damaged"),
        ("cut.csv.zst", cut(&zstd(CSV)), "truncated or damaged"),
        ("cut.jsonl.zst", cut(&zstd(JSON)), "truncated or damaged"),
        ("cut.parquet", cut(&parquet), "truncated or not a Parquet file"),
        ("empty.csv", Vec::new(), "no header line"),
        ("empty.csv.gz", Vec::new(), "its name says gzip, but it is empty"),
        ("empty_inside.csv.gz", gzip(""), "no header line"),
        ("empty_inside.csv.zst", zstd(""), "no header line"),
        ("empty.jsonl", Vec::new(), "it is empty"),
        ("blank.jsonl", b"\n \n\r\n".to_vec(), "it is empty"),
        ("empty.parquet", Vec::new(), "truncated or not a Parquet file"),
        (
            "open_quote.csv",
            b"at,note\n2014-01-01,a\n2014-01-02,\"b\n2014-01-03,c\n".to_vec(),
            "a quote is opened in line 3 and never closed",
        ),
        ("open_header.csv", b"at,\"note\n2014-01-01,a\n".to_vec(), "a quote is opened in line 1 and never closed"),
    ];
    for (name, content, words) in cases {
        let file = write_text(data.path(), name, content);
        let skipping = load(&file).on_reject(OnReject::Skip);
        for load in [load(&file), skipping] {
            says!(refused(&load).await, Error::UnreadableFile { .. } | Error::UnknownColumn { .. }, name, words);
        }
    }
}

#[tokio::test]
async fn a_file_that_is_cut_off_late_loses_nothing_of_what_was_there() {
    // Longer than the sample that decides the types: the damage is met when rows have long been read.
    let data = temp_dir();
    let csv: String = (0..40_000).map(|i| format!("2014-01-01 00:00:00,{i},{}\n", i * 7919 % 1000)).collect();
    let csv = format!("at,id,x\n{csv}");
    let (_root, store, _) = loaded(&load(write_text(data.path(), "good.csv", "at,id,x\n2014-01-01,-1,0\n"))).await;
    for (name, whole) in [("cut.csv.gz", gzip(&csv)), ("cut.csv.zst", zstd(&csv))] {
        let file = write_text(data.path(), name, &whole[..whole.len() - 20]);
        let error = store.ingest(&load(&file).on_reject(OnReject::Skip)).await.unwrap_err();
        says!(error, Error::UnreadableFile { .. }, name, "truncated or damaged");
        assert_eq!(query(&store, "SELECT id FROM things").await, ["-1"]);
        // The whole file in its place is loaded.
        write_text(data.path(), name, whole);
    }
    assert_eq!(store.ingest(&load(data.path().join("cut.csv.gz"))).await.unwrap().rows, 40_000);
}

#[tokio::test]
async fn bad_lines_of_json_are_listed_with_line_column_and_reason() {
    let lines = [
        r#"{"at":"2014-01-01","n":1,"s":"a"}"#,
        r#"{"at":"2014-01-02","n":2.5,"s":"b"}"#,
        r#"{"at":"2014-01-03","n":{"deep":1},"s":"c"}"#,
        r#"{"at":"2014-01-04","n":4,"s":[1,2]}"#,
        r#"{"at":"2014-01-05","n":5,"s":"e""#,
        "not json",
        r#"{"n":7,"s":"g"}"#,
        r#"{"at":null,"n":8}"#,
        r#"{"at":"2014-01-09","n":9,"n":10}"#,
        "",
        r#"{"at":"2014-01-10","n":true}"#,
        r#"{"at":"2014-01-11","n":9223372036854775808}"#,
        r#"{"at":"2014-01-12","n":"12","s":null}"#,
        "[1]",
        r#"{"at":"2014-01-13","n":13.0,"s":true}"#,
        r#"{"at":"2014-01-14","N":14,"n":15}"#,
        r#"{"at":"2014-01-15","S":"other case"}"#,
    ];
    let data = temp_dir();
    let mut bytes = lines.join("\n").into_bytes();
    bytes.extend(b"\n{\"at\":\"2014-01-16\",\"s\":\"\xff\"}\n");
    let file = write_text(data.path(), "dirty.jsonl", bytes);
    let typed = || load(&file).column_type("n", DataType::Int64).column_type("s", DataType::Utf8);
    says!(
        refused(&typed()).await,
        Error::RejectedRows { count: 13, .. },
        "dirty.jsonl` line 2, column `n`: `2.5`: not an integer"
    );
    let (root, store, report) = loaded(&typed().on_reject(OnReject::Skip)).await;
    let listed = fs::read_to_string(root.path().join(report.reject_file.unwrap())).unwrap();
    let mut csv = csv::Reader::from_reader(listed.as_bytes());
    let listed: Vec<String> = csv.records().map(|r| r.unwrap().iter().skip(1).collect::<Vec<_>>().join("|")).collect();
    let expected = [
        "2|n|2.5|not an integer",
        "3|n||a nested value",
        "4|s||a nested value",
        "5||{\"at\":\"2014-01-05\",\"n\":5,\"s\":\"e\"|the line is not JSON at byte 32: EOF",
        "6||not json|the line is not JSON at byte",
        "7|at||the time is empty",
        "8|at||the time is empty",
        "9|n||the line has the field twice",
        "11|n|true|not an integer",
        "12|n|9223372036854775808|an integer beyond the range",
        "14||[1]|the line is not a JSON object",
        "16|n|14|two fields of the line have this name in the table",
        "18||",
    ];
    assert_eq!(listed.len(), expected.len(), "{listed:#?}");
    for (found, expected) in listed.iter().zip(expected) {
        let (place, reason) = expected.rsplit_once('|').unwrap();
        assert!(found.contains(reason) && found.starts_with(place.split('|').next().unwrap()), "{found}\n{expected}");
    }
    assert!(listed[12].contains("UTF-8"), "{}", listed[12]);
    assert_eq!(query(&store, "SELECT n, s FROM things ORDER BY at").await, ["1 a", "12 ", "13 true", " other case"]);
}

#[tokio::test]
async fn a_field_that_first_appears_late_is_never_lost_in_silence() {
    let data = temp_dir();
    let mut lines: Vec<String> = (0..10_001).map(|i| format!("{{\"at\":\"2014-01-01\",\"n\":{i}}}")).collect();
    lines.push(r#"{"at":"2014-01-02","n":null,"tip":1.5}"#.into());
    let file = write_text(data.path(), "late.jsonl", lines.join("\n"));
    says!(
        refused(&load(&file)).await,
        Error::RejectedRows { count: 1, .. },
        "line 10002, column `tip`: `1.5`",
        "declare its type"
    );
    let (_root, store, _) = loaded(&load(&file).column_type("tip", DataType::Float64)).await;
    assert_eq!(query(&store, "SELECT tip FROM things WHERE tip IS NOT NULL").await, ["1.5"]);
}

#[tokio::test]
async fn a_file_without_a_header_counts_its_lines_from_the_first_row() {
    for end in ["\n", "\r\n"] {
        let data = temp_dir();
        let rows =
            ["2014-01-01|1|\"two\nlines\"", "soon|2|b", "2014-01-03|3", "2014-01-04|4|d|e", "2014-01-05|five|f", "2014-01-06|6|"];
        let file = write_text(data.path(), "bare.txt", format!("\u{feff}{}", rows.join(end)));
        let options = CsvOptions::default().delimiter(b'|').columns(["at", "n", "note"]);
        let bare = load(&file).format(Format::Csv).csv(options).column_type("n", DataType::Int64);
        let (root, store, report) = loaded(&bare.on_reject(OnReject::Skip)).await;
        assert_eq!((report.rows, report.rejected), (2, 4), "{end:?}");
        let listed = fs::read_to_string(root.path().join(report.reject_file.unwrap())).unwrap();
        let listed: Vec<&str> = listed.lines().skip(1).map(|line| line.rsplit("bare.txt,").next().unwrap()).collect();
        let expected = [
            "3,at,soon,not a time",
            "4,,,\"the row has 2 fields, the declared columns 3\"",
            "5,,,\"the row has 4 fields, the declared columns 3\"",
            "6,n,five,not an integer",
        ];
        assert_eq!(listed, expected, "{end:?}");
        assert_eq!(query(&store, "SELECT n, length(note) FROM things ORDER BY at").await, ["1 9", "6 "]);
    }
}

#[tokio::test]
async fn null_texts_are_those_that_were_declared() {
    let data = temp_dir();
    let text = "at,n,s\n2014-01-01,NULL,NA\n2014-01-02,\\N,\n2014-01-03,3,NULL\n2014-01-04,NA,null\n";
    let file = write_text(data.path(), "nulls.csv", text);
    // Nothing is guessed: without a declaration they are texts.
    let (_root, store, report) = loaded(&load(&file)).await;
    assert_eq!(types(&report)[1..], ["n Utf8", "s Utf8"]);
    assert_eq!(query(&store, "SELECT n, s, s IS NULL FROM things ORDER BY at").await[1], "\\N  true");
    let some = CsvOptions::default().null_texts(["NULL", "NA", r"\N"]);
    let (_root, store, report) = loaded(&load(&file).csv(some)).await;
    assert_eq!(types(&report)[1..], ["n Int64", "s Utf8"]);
    let found = query(&store, "SELECT n, coalesce(s, '-') FROM things ORDER BY at").await;
    // An empty text is a text here, and `null` is not `NULL`.
    assert_eq!(found, [" -", " ", "3 -", " null"]);
}

/// Every type that may be declared, with texts that fit it and texts that do not.
fn typed_cells() -> Vec<(DataType, &'static [&'static str], &'static [&'static str])> {
    vec![
        (DataType::Int8, &["-128", "127", "5.0"], &["128", "1.5", "x"]),
        (DataType::Int16, &["-32768", "32767"], &["32768"]),
        (DataType::Int32, &["-2147483648", "2147483647", "1e3", "007"], &["2147483648", "1e-3"]),
        (DataType::Int64, &["-9223372036854775808", "9223372036854775807"], &["9223372036854775808", "0.5"]),
        (DataType::UInt8, &["0", "255"], &["-1", "256"]),
        (DataType::UInt16, &["65535"], &["65536"]),
        (DataType::UInt32, &["4294967295"], &["4294967296"]),
        (DataType::UInt64, &["18446744073709551615", "0"], &["18446744073709551616", "-1"]),
        (DataType::Float32, &["0.5", "16777216", "-1e30"], &["16777217", "1e39", "x"]),
        (DataType::Float64, &["0.1", "9007199254740992", "-1.7976931348623157e308"], &["9007199254740993", "1e309", "1,5"]),
        (DataType::Boolean, &["true", "FALSE", "Y", "no", "0"], &["2", "on"]),
        (DataType::Utf8, &["x", "007", "18446744073709551616"], &[]),
        (
            DataType::Date32,
            &["2014-04-01", "2014/4/1", "1969-12-31"],
            &["2014-02-30", "2014-04-01 10:00:00", "2014-04-01-05", "4/1/2014"],
        ),
        (DataType::Decimal128(10, 2), &["12.50", "-0.01", "12345678.9", "1e2"], &["0.001", "123456789", "x"]),
        (DataType::Decimal128(38, 0), &["99999999999999999999999999999999999999"], &["999999999999999999999999999999999999999"]),
        (
            DataType::Timestamp(TimeUnit::Second, None),
            &["2014-04-01 10:00:00"],
            &["2014-04-01 10:00:00.5", "2014-04-01T10:00:00Z"],
        ),
        (
            DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            &["2014-04-01 10:00:00.123"],
            &["2014-04-01 10:00:00.1234"],
        ),
        (DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), &["2014-04-01T10:00:00.123456789Z"], &["2500-01-01"]),
    ]
}

#[tokio::test]
async fn a_declared_type_is_kept_and_what_does_not_fit_is_a_reject() {
    for (data_type, good, bad) in typed_cells() {
        let data = temp_dir();
        let csv: String = good.iter().chain(bad).map(|cell| format!("2014-01-01,\"{cell}\"\n")).collect();
        let json: String = good.iter().chain(bad).map(|cell| format!("{{\"at\":\"2014-01-01\",\"v\":\"{cell}\"}}\n")).collect();
        let texts: Vec<&str> = good.iter().chain(bad).copied().collect();
        let at = StringArray::from(vec!["2014-01-01"; texts.len()]);
        let columns: [(&str, ArrayRef); 2] = [("at", Arc::new(at)), ("v", Arc::new(StringArray::from(texts)))];
        write_parquet(&data.path().join("a.parquet"), &columns, None);
        write_text(data.path(), "a.csv", format!("at,v\n{csv}"));
        write_text(data.path(), "a.jsonl", json);
        let mut all = Vec::new();
        for file in ["a.csv", "a.jsonl", "a.parquet"] {
            let typed = load(data.path().join(file)).column_type("v", data_type.clone()).on_reject(OnReject::Skip);
            let (_root, store, report) = loaded(&typed).await;
            assert_eq!((report.rows, report.rejected), (good.len() as u64, bad.len() as u64), "{data_type} in {file}");
            assert_eq!(types(&report)[1], format!("v {data_type}"), "{file}");
            all.push(table_bits(&store, "v").await);
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{data_type}");
    }
}

#[tokio::test]
async fn a_declared_schema_sets_types_order_and_columns_that_no_file_holds() {
    let data = temp_dir();
    let file = write_text(data.path(), "a.csv", "zip,extra,AT,n\n00501,x,2014-01-01,3\n");
    let schema = Schema::new(vec![
        Field::new("n", DataType::Int32, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("zip", DataType::Utf8, true),
        Field::new("tip", DataType::Decimal128(8, 2), true),
    ]);
    let (_root, store, report) = loaded(&load(&file).schema(&schema)).await;
    assert_eq!(types(&report), ["n Int32", "at Timestamp(µs, \"UTC\")", "zip Utf8", "tip Decimal128(8, 2)", "extra Utf8"]);
    assert_eq!(query(&store, "SELECT n, zip, tip IS NULL, extra FROM things").await, ["3 00501 true x"]);
    // The same declaration again fits the table; another one does not.
    let more = write_text(data.path(), "b.csv", "at,tip\n2014-01-02,1.25\n");
    store.ingest(&load(&more).schema(&schema)).await.unwrap();
    assert_eq!(query(&store, "SELECT tip FROM things WHERE tip IS NOT NULL").await, ["1.25"]);
    let other = write_text(data.path(), "c.csv", "at,n\n2014-01-03,1\n");
    let error = store.ingest(&load(&other).column_type("n", DataType::Int64)).await.unwrap_err();
    says!(error, Error::ColumnType { .. }, "`n`", "Int32", "Int64", "keeps its type");
    let error = store.ingest(&load(&other).column_type("x", DataType::Binary)).await.unwrap_err();
    says!(error, Error::ColumnType { .. }, "`x`", "Binary", "Decimal128 or Timestamp");
}

#[tokio::test]
async fn parquet_types_are_widened_exactly_or_row_by_row_refused() {
    let data = temp_dir();
    let at = || utc_micros([1, 2, 3]);
    let first: [(&str, ArrayRef); 7] = [
        ("at", at()),
        ("n", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("f", Arc::new(Float64Array::from(vec![0.5, 1.5, 2.5]))),
        ("s", Arc::new(LargeStringArray::from(vec!["a", "b", "c"]))),
        ("day", Arc::new(Date32Array::from(vec![1, 2, 3]))),
        ("seen", Arc::new(TimestampMicrosecondArray::from(vec![1_000, 2_000, 3_000]))),
        ("dec", Arc::new(Decimal128Array::from(vec![150, 250, 350]).with_precision_and_scale(6, 2).unwrap())),
    ];
    write_parquet(&data.path().join("1.parquet"), &first, None);
    let tags: DictionaryArray<Int32Type> = vec!["x", "y", "x"].into_iter().collect();
    let second: [(&str, ArrayRef); 7] = [
        ("at", at()),
        ("n", Arc::new(Float64Array::from(vec![Some(7.0), None, Some(-9e15)]))),
        ("f", Arc::new(Int32Array::from(vec![4, 5, 6]))),
        ("s", Arc::new(tags)),
        ("day", Arc::new(Date64Array::from(vec![86_400_000, 0, -86_400_000]))),
        ("seen", Arc::new(TimestampNanosecondArray::from(vec![5_000, 6_000, -7_000]))),
        ("dec", Arc::new(Int8Array::from(vec![1, 2, 3]))),
    ];
    write_parquet(&data.path().join("2.parquet"), &second, None);
    let (_root, store, report) = loaded(&load(data.path().join("1.parquet"))).await;
    assert_eq!(types(&report)[3], "s Utf8");
    let report = store.ingest(&load(data.path().join("2.parquet"))).await.unwrap();
    assert_eq!((report.rows, report.rejected), (3, 0));
    let found = query(&store, "SELECT n, f, s, day, dec FROM things WHERE s IN ('x', 'y') ORDER BY at").await;
    assert_eq!(found, ["7 4.0 x 1970-01-02 1.00", " 5.0 y 1970-01-01 2.00", "-9000000000000000 6.0 x 1969-12-31 3.00"]);

    // What would be rounded, cut off or wrapped is refused, each of them with its row.
    let third: [(&str, ArrayRef); 4] = [
        ("at", at()),
        ("n", Arc::new(Float64Array::from(vec![1.0, f64::NAN, 1e19]))),
        ("day", Arc::new(TimestampMillisecondArray::from(vec![86_400_001, 0, 0]))),
        ("dec", Arc::new(Float64Array::from(vec![1.5, 0.5, 0.25]))),
    ];
    write_parquet(&data.path().join("3.parquet"), &third, None);
    let error = store.ingest(&load(data.path().join("3.parquet"))).await.unwrap_err();
    let Error::RejectedRows { count: 3, reject_file, .. } = &error else { panic!("{error}") };
    let listed = fs::read_to_string(reject_file).unwrap();
    for words in [
        "parquet,1,day,1970-01-02T00:00:00.001,\"the value is not exact as Date32",
        "parquet,2,n,NaN,\"the value is not exact as Int64",
        "parquet,3,n,1e19,",
    ] {
        assert!(listed.contains(words), "{words}\n{listed}");
    }
    // Texts are not guessed to be numbers, unless the load says so.
    let fourth: [(&str, ArrayRef); 2] = [("at", at()), ("n", Arc::new(StringArray::from(vec!["1", "2", "3.0"])))];
    write_parquet(&data.path().join("4.parquet"), &fourth, None);
    let four = load(data.path().join("4.parquet"));
    says!(store.ingest(&four).await.unwrap_err(), Error::ColumnType { .. }, "4.parquet", "`n`", "Utf8", "Ingest::column_type");
    assert_eq!(store.ingest(&four.column_type("n", DataType::Int64)).await.unwrap().rows, 3);
}

#[tokio::test]
async fn unsigned_integers_beyond_64_bits_need_a_declared_type() {
    let data = temp_dir();
    let ids: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    write_parquet(&data.path().join("1.parquet"), &[("at", utc_micros([0])), ("id", ids)], None);
    write_text(data.path(), "2.csv", "at,id\n2014-01-01,18446744073709551614\n2014-01-02,7\n");
    write_text(data.path(), "3.jsonl", "{\"at\":\"2014-01-03\",\"id\":18446744073709551613}\n");
    let (_root, store, report) = loaded(&load(data.path().join("2.csv"))).await;
    assert_eq!(types(&report)[1], "id Utf8", "every digit is kept");
    assert_eq!(query(&store, "SELECT id FROM things ORDER BY at").await, ["18446744073709551614", "7"]);
    says!(refused(&load(data.path())).await, Error::ColumnType { .. }, "2.csv", "`id`", "UInt64", "Ingest::column_type");
    for data_type in [DataType::UInt64, DataType::Decimal128(20, 0)] {
        let (_root, store, _) = loaded(&load(data.path()).column_type("id", data_type)).await;
        let found = query(&store, "SELECT id FROM things ORDER BY id").await;
        assert_eq!(found, ["7", "18446744073709551613", "18446744073709551614", "18446744073709551615"]);
    }
}

type Change<'a> = (&'a str, &'a str, ColumnChange);

fn change<'a>(file: &'a str, column: &'a str, change: ColumnChange) -> Change<'a> {
    (file, column, change)
}

fn changes(report: &LoadReport) -> Vec<Change<'_>> {
    report.schema_changes.iter().map(|found| change(&found.file, &found.column, found.change.clone())).collect()
}

#[tokio::test]
async fn columns_that_differ_between_months_are_one_column_and_every_difference_is_reported() {
    let data = temp_dir();
    write_text(data.path(), "2014-01.csv", "Pickup_datetime,passengers, Fare ,note\n2014-01-01,1,2.5,a\n");
    write_text(data.path(), "2014-02.csv", "tpep_pickup_datetime,fare,passengers,tip\n2014-02-01,3,2.0,1.5\n");
    write_text(data.path(), "2014-03.jsonl", "{\"fare\":4,\"PICKUP_AT\":\"2014-03-01\",\"passengers\":3,\"tip\":0.5}\n");
    let pickups = FactTable::new("pickup_at", KnownAt::after(TimeDelta::zero())).zone("UTC".parse().unwrap());
    let of = |file: &str| Ingest::new("things", pickups.clone()).unwrap().from(data.path().join(file).to_str().unwrap());
    let renamed = of("2014-0[12].csv").rename("Pickup_datetime", "pickup_at").rename("tpep_pickup_datetime", "pickup_at");
    let (_root, store, report) = loaded(&renamed.rename("Fare", "fare").column_type("passengers", DataType::Int64)).await;
    let expected = [
        change(
            "2014-02.csv",
            "pickup_at",
            ColumnChange::Renamed { from: "Pickup_datetime".into(), to: "tpep_pickup_datetime".into() },
        ),
        change("2014-02.csv", "fare", ColumnChange::Renamed { from: "Fare".into(), to: "fare".into() }),
        change("2014-02.csv", "fare", ColumnChange::Type { from: "Float64".into(), to: "Int64".into() }),
        change("2014-02.csv", "passengers", ColumnChange::Type { from: "Int64".into(), to: "Float64".into() }),
        change("2014-02.csv", "tip", ColumnChange::Added { data_type: "Float64".into() }),
        change("2014-02.csv", "passengers", ColumnChange::Order { from: 2, to: 3 }),
        change("2014-02.csv", "note", ColumnChange::Missing { data_type: "Utf8".into() }),
    ];
    assert_eq!(changes(&report), expected);
    let renames = report.version.renames().iter().map(|kept| (kept.from.as_str(), kept.to.as_str()));
    let expected = [("Pickup_datetime", "pickup_at"), ("tpep_pickup_datetime", "pickup_at"), ("Fare", "fare")];
    assert_eq!(renames.collect::<Vec<_>>(), expected);
    let described = report.version.to_string();
    assert!(described.contains("event time, from `Pickup_datetime`, from `tpep_pickup_datetime`"), "{described}");

    // Another load need not say any of it again, and is compared with the last file of the one before.
    let further = store.ingest(&of("2014-03.jsonl")).await.unwrap();
    let expected = [
        change(
            "2014-03.jsonl",
            "pickup_at",
            ColumnChange::Renamed { from: "tpep_pickup_datetime".into(), to: "PICKUP_AT".into() },
        ),
        change("2014-03.jsonl", "passengers", ColumnChange::Type { from: "Float64".into(), to: "Int64".into() }),
    ];
    assert_eq!(changes(&further), expected);
    let found = query(&store, "SELECT pickup_at, passengers, fare, tip FROM things ORDER BY pickup_at").await;
    assert_eq!(found, ["2014-01-01T00:00:00Z 1 2.5 ", "2014-02-01T00:00:00Z 2 3.0 1.5", "2014-03-01T00:00:00Z 3 4.0 0.5"]);
    // The same files once more change nothing.
    assert!(store.ingest(&of("2014-03.jsonl")).await.unwrap().schema_changes.is_empty());
}

#[tokio::test]
async fn a_renaming_stays_with_its_table_and_is_not_contradicted() {
    let data = temp_dir();
    let one = write_text(data.path(), "1.csv", "when,Fare Amount,id\n2014-01-01,1,1\n");
    let two = write_text(data.path(), "2.csv", "WHEN,fare amount,Tip,ID\n2014-01-02,2,3,2\n");
    let first = load(&one).rename("when", "at").rename("Fare Amount", "fare");
    let (root, store, report) = loaded(&first).await;
    assert_eq!(report.schema_changes, []);
    // A new process finds the mapping in the catalog.
    let again = crate::support::store(root.path()).await;
    let report = again.ingest(&load(&two)).await.unwrap();
    assert_eq!(types(&report), ["at Timestamp(µs, \"UTC\")", "fare Int64", "id Int64", "Tip Int64"]);
    assert_eq!(query(&store, "SELECT fare, id, \"Tip\" FROM things ORDER BY at").await, ["1 1 ", "2 2 3"]);
    assert_eq!(again.ingest(&load(&one)).await.unwrap().outcome, LoadOutcome::AlreadyLoaded);
    let three = write_text(data.path(), "3.csv", "when,id\n2014-01-03,3\n");
    let error = again.ingest(&load(&three).rename("when", "pickup_at")).await.unwrap_err();
    says!(error, Error::Definition { .. }, "renames `when` to `pickup_at`", "already renamed to `at`");
    let error = refused(&load(&three).rename("when", "at").rename("when", "id")).await;
    says!(error, Error::Definition { .. }, "renames `when` to `id`", "`at`");
    assert_eq!(again.ingest(&load(&three).rename("when", "at")).await.unwrap().version.renames().len(), 2);
}

#[tokio::test]
async fn a_column_in_two_cases_stays_two_columns() {
    let data = temp_dir();
    let both = write_text(data.path(), "1.csv", "at,id,ID\n2014-01-01,1,2\n");
    let (_root, store, report) = loaded(&load(&both)).await;
    assert_eq!(types(&report)[1..], ["id Int64", "ID Int64"]);
    // Which of the two `Id` is cannot be told: it is a third one.
    let third = write_text(data.path(), "2.csv", "at,Id\n2014-01-02,3\n");
    let report = store.ingest(&load(&third)).await.unwrap();
    assert_eq!(types(&report)[1..], ["id Int64", "ID Int64", "Id Int64"]);
    // Where one is meant, two of it are refused.
    let clash = write_text(data.path(), "3.csv", "at,Note,NOTE\n2014-01-02,a,b\n");
    let error = refused(&load(&clash).column_type("note", DataType::Utf8)).await;
    says!(error, Error::Definition { .. }, "3.csv", "`Note` and `NOTE`", "`note`", "Ingest::rename");
}

#[tokio::test]
async fn a_batch_of_every_declared_type_survives_the_trip_through_parquet() {
    // What is written is what is read, whatever the type, when nothing is declared at all.
    let data = temp_dir();
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["1", "0"]));
    let mut columns: Vec<(String, ArrayRef)> = vec![("at".into(), utc_micros([1, 2]))];
    for (data_type, _, _) in typed_cells() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 0]));
        let from = if data_type == DataType::Date32 { cast(&numbers, &DataType::Int32).unwrap() } else { numbers };
        let column = cast(&from, &data_type).or_else(|_| cast(&texts, &data_type)).unwrap();
        columns.push((format!("c_{}", columns.len()), column));
    }
    let batch = RecordBatch::try_from_iter(columns.iter().map(|(n, c)| (n.as_str(), c.clone()))).unwrap();
    crate::support::write_batch(data.path(), "all.parquet", &batch);
    let (_root, _store, report) = loaded(&load(data.path())).await;
    let found: Vec<String> = report.version.columns().iter().map(|c| c.data_type.clone()).collect();
    let expected: Vec<String> = batch.schema().fields().iter().map(|f| f.data_type().to_string()).collect();
    assert_eq!((found, report.rows), (expected, 2));
}

// --- real files ------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn real_months_of_trips_report_what_changed_between_them() {
    let Some(dir) = shared("yellow_10k") else { return };
    let trips = FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone("America/New_York".parse().unwrap());
    let load = Ingest::new("things", trips).unwrap().from(dir.to_str().unwrap());
    let (_root, store, report) =
        loaded(&load.rename("pickup_datetime", "pickup_at").rename("dropoff_datetime", "dropoff_at")).await;
    assert_eq!((report.rows, report.rejected), (360_000, 0));
    println!("{:#?}", report.schema_changes);
    let of = |column: &str| report.schema_changes.iter().filter(|c| c.column == column).collect::<Vec<_>>();
    let surcharge = of("congestion_surcharge");
    assert!(
        surcharge[0].file.contains("2019") && matches!(&surcharge[0].change, ColumnChange::Type { from, .. } if from == "Null")
    );
    assert!(report.schema_changes.iter().all(|c| matches!(c.change, ColumnChange::Type { .. })), "one header for all");
    let kinds = query(&store, "SELECT count(*), count(passenger_count), count(congestion_surcharge) FROM things").await;
    println!("{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_codes_that_look_like_nothing_are_texts() {
    let Some(dir) = shared("zones") else { return };
    let zones = FactTable::new("at", KnownAt::after(TimeDelta::zero())).zone("UTC".parse().unwrap());
    // A lookup table has no time; it is given one here.
    let text = fs::read_to_string(dir.join("taxi_zone_lookup.csv")).unwrap();
    let dated: String = text
        .lines()
        .enumerate()
        .map(|(i, line)| format!("{}{}\n", line.trim_end(), if i == 0 { ",at" } else { ",2014-01-01" }))
        .collect();
    let data = temp_dir();
    let file = write_text(data.path(), "zones.csv", dated);
    let (_root, store, report) = loaded(&Ingest::new("things", zones).unwrap().from(file)).await;
    assert_eq!((report.rows, report.rejected), (265, 0));
    let odd = "SELECT count(*) FROM things WHERE \"Borough\" IN ('N/A', 'NA', 'NV') OR \"Zone\" IN ('N/A', 'NA', 'NV') \
               OR service_zone IN ('N/A', 'NA', 'NV')";
    let literal = text.lines().filter(|l| ["\"N/A\"", "\"NA\"", "\"NV\""].iter().any(|code| l.contains(code))).count();
    assert!(literal > 0);
    assert_eq!(query(&store, odd).await, [literal.to_string()]);
    let empty = "SELECT count(*) FROM things WHERE \"Borough\" IS NULL OR \"Zone\" IS NULL OR service_zone IS NULL";
    assert_eq!(query(&store, empty).await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn real_weather_and_green_trips_are_read_whole() {
    let (Some(weather), Some(green)) = (shared("weather"), shared("green_2020_04")) else { return };
    let days = FactTable::new("DATE", KnownAt::after(TimeDelta::days(1))).zone("America/New_York".parse().unwrap());
    let (_root, store, report) = loaded(&Ingest::new("things", days).unwrap().from(weather.to_str().unwrap())).await;
    assert_eq!((report.rows, report.rejected), (5_538, 0));
    assert_eq!(query(&store, "SELECT count(\"TMAX\") FROM things WHERE \"TMAX\" > 100").await.len(), 1);
    let trips = FactTable::new("pickup_at", KnownAt::column("dropoff_at")).zone("America/New_York".parse().unwrap());
    let load = Ingest::new("things", trips).unwrap().from(green.to_str().unwrap());
    let load = load.rename("lpep_pickup_datetime", "pickup_at").rename("lpep_dropoff_datetime", "dropoff_at");
    let (_root, store, report) = loaded(&load.column_type("VendorID", DataType::Int32)).await;
    assert_eq!((report.rows, report.rejected), (35_612, 0));
    // Integers that were written as 2.0 are integers again where they are declared so.
    assert_eq!(query(&store, "SELECT DISTINCT \"VendorID\" FROM things WHERE \"VendorID\" > 1").await, ["2"]);
}
