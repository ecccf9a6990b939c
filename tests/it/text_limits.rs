//! Texts of unusual size or make: what is large is read within bounds or refused, and costs in proportion to its bytes.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use asof::{
    Error, FeatureStore,
    ingest::{CsvOptions, OnReject, ReadLimits},
};

use crate::{
    bad_input::says,
    real_data::shared,
    sources::{gzip, load, loaded, refused, zstd},
    support::{cells, instant, store, temp_dir, write_text},
};

async fn query(store: &FeatureStore, sql: &str) -> Vec<String> {
    cells(store, sql, instant("2100-01-01")).await
}

#[tokio::test]
async fn no_text_ends_a_file() {
    let data = temp_dir();
    let csv = "at,note\n2014-01-01,a\nasofEndOfInput\n2014-01-02,asofEndOfInput\n2014-01-03,\"asofEndOfInput\"\n2014-01-04,d\n";
    let file = write_text(data.path(), "end.csv", csv);
    let (_root, store, report) = loaded(&load(&file).on_reject(OnReject::Skip)).await;
    assert_eq!((report.rows, report.rejected), (4, 1));
    let notes = query(&store, "SELECT note FROM things ORDER BY at").await;
    assert_eq!(notes, ["a", "asofEndOfInput", "asofEndOfInput", "d"]);
    // A file of one column, whose last line it is.
    let file = write_text(data.path(), "one.csv", "at\n2014-01-01\nasofEndOfInput");
    says!(refused(&load(&file)).await, Error::RejectedRows { .. }, "line 3", "asofEndOfInput", "not a time");
}

#[tokio::test]
async fn lines_before_the_header_and_empty_fields_behind_the_last_column() {
    let data = temp_dir();
    let nyc =
        "vendor, at,fare\r\n\r\n1,2014-01-01 00:00:00,7.5,,\r\n2,2014-01-02 00:00:00,8.5\r\n3,2014-01-03 00:00:00,9.5,,x\r\n";
    let file = write_text(data.path(), "nyc.csv", nyc);
    says!(refused(&load(&file)).await, Error::RejectedRows { count: 2, .. }, "line 3", "5 fields, the header 3");
    let options = CsvOptions::default().ignore_empty_extra_fields();
    let (_root, store, report) = loaded(&load(&file).csv(options.clone()).on_reject(OnReject::Skip)).await;
    assert_eq!((report.rows, report.rejected), (2, 1));
    assert_eq!(query(&store, "SELECT fare FROM things ORDER BY at").await, ["7.5", "8.5"]);

    let titled = "Trips of 2014, \"all\r\nwritten by hand\r\nat,n,,\r\n2014-01-01,1,,\r\n2014-01-02,x,,\r\n";
    let file = write_text(data.path(), "titled.csv", titled);
    let options = options.skip_lines(2);
    let error = refused(&load(&file).csv(options.clone()).column_type("n", arrow_int())).await;
    says!(error, Error::RejectedRows { count: 1, .. }, "line 5, column `n`: `x`");
    // Without a header, the lines that are skipped come before the first row.
    let file = write_text(data.path(), "bare.csv", "title\n2014-01-01,1,\n");
    let bare = CsvOptions::default().skip_lines(1).columns(["at", "n"]).ignore_empty_extra_fields();
    assert_eq!(loaded(&load(&file).csv(bare)).await.2.rows, 1);
}

fn arrow_int() -> datafusion::arrow::datatypes::DataType {
    datafusion::arrow::datatypes::DataType::Int64
}

#[tokio::test]
async fn real_heads_with_extra_fields_load() {
    let Some(dir) = shared("green_2020_04") else { return };
    let Some(source) = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).find(|path| is_csv(path)) else {
        println!("skipped: {} holds no CSV file", dir.display());
        return;
    };
    // As the files of 2013 to 2016 are: two empty fields behind the last column of each row.
    let text = std::fs::read_to_string(source).unwrap();
    let mut lines = text.lines();
    let header = lines.next().unwrap();
    let rows: Vec<String> = lines.take(2_000).map(|line| format!("{line},,")).collect();
    let data = temp_dir();
    let file = write_text(data.path(), "green.csv", format!("{header}\r\n\r\n{}\r\n", rows.join("\r\n")));
    let at = if header.contains("lpep_pickup_datetime") { "lpep_pickup_datetime" } else { return };
    let options = CsvOptions::default().ignore_empty_extra_fields();
    let (_root, _, report) = loaded(&load(&file).rename(at, "at").csv(options)).await;
    assert_eq!((report.rows, report.rejected), (rows.len() as u64, 0));
}

fn is_csv(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "csv")
}

#[tokio::test]
async fn messages_show_the_beginning_of_long_values() {
    let data = temp_dir();
    let long = "y".repeat(3 << 20);
    let csv = format!("at,n\n2014-01-01,1\n2014-01-02,{long}\n");
    let json = format!("{{\"at\":\"2014-01-01\",\"n\":1}}\n{{\"at\":\"2014-01-02\",\"n\":\"{long}\"}}\n{{\"{long}\":[]}}\n");
    for (name, content) in [("long.csv", csv), ("long.jsonl", json)] {
        let load = load(write_text(data.path(), name, content)).column_type("n", arrow_int());
        let text = refused(&load).await.to_string();
        assert!(text.len() < 2_000 && text.contains("yyy... (3145728 bytes)") && text.contains("not an integer"), "{text}");
        let (root, _, report) = loaded(&load.on_reject(OnReject::Skip)).await;
        let list = std::fs::metadata(root.path().join(report.reject_file.unwrap())).unwrap();
        assert!(list.len() < 5_000, "{}", list.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wide_and_long_rows_load_with_the_default_settings() {
    let data = temp_dir();
    let mut csv = "at,note\n".to_owned();
    let text = "z".repeat(4 << 10);
    for row in 0..20_000 {
        writeln!(csv, "2014-{:02}-01 00:00:00,{row}{text}", row % 12 + 1).unwrap();
    }
    let (_root, store, report) = loaded(&load(write_text(data.path(), "long.csv", csv))).await;
    assert_eq!(report.rows, 20_000);
    assert_eq!(query(&store, "SELECT sum(length(note)) FROM things").await, [(20_000 * 4_096 + 88_890).to_string()]);

    let names: Vec<String> = (0..10_000).map(|i| format!("c{i}")).collect();
    let values: Vec<String> = (0..10_000).map(|i| format!("{i}.5")).collect();
    let csv = format!("at,{}\n2014-01-01,{}\n", names.join(","), values.join(","));
    let (_root, store, report) = loaded(&load(write_text(data.path(), "wide.csv", csv))).await;
    assert_eq!(report.rows, 1);
    assert_eq!(query(&store, "SELECT c9999 FROM things").await, ["9999.5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_columns_are_read_where_the_limits_allow_them() {
    let data = temp_dir();
    let fields: Vec<String> = (0..60_000).map(|i| format!("\"c{i}\":{i}")).collect();
    let names: Vec<String> = (0..50_000).map(|i| format!("c{i}")).collect();
    let ones = vec!["1"; 50_000].join(",");
    let csv = format!("at,{}\n2014-01-01,{ones}\n2014-01-02,{ones}\n", names.join(","));
    let wide = ReadLimits { columns: 100_000, ..ReadLimits::default() };
    for (name, content, columns) in
        [("wide.csv", csv, 50_001), ("wide.jsonl", format!("{{\"at\":\"2014-01-01\",{}}}\n", fields.join(",")), 60_001)]
    {
        let file = write_text(data.path(), name, content);
        let error = refused(&load(&file)).await;
        says!(error, Error::UnreadableFile { .. }, name, "20000", "`ReadLimits::columns`");
        let (_root, _, report) = loaded(&load(&file).limits(wide)).await;
        assert_eq!(report.version.columns().len(), columns);
    }
}

/// Bytes of which gzip makes a thousandth, many times over: it knows files that follow each other in one.
fn bomb(begin: &str, part: &str, end: &str) -> Vec<u8> {
    const PARTS: usize = 1_500;
    let part = gzip(part.repeat((1 << 20) / part.len()));
    [gzip(begin), part.repeat(PARTS), gzip(end)].concat()
}

/// Files that unpack to 1.5 GB, or want to.
fn bombs() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let mut window = zstd(b"at,note\n2014-01-01,a\n".repeat(1_000));
    // The frame's descriptor of its window: 2 GiB.
    window[5] = 0xa8;
    let field = [zstd("at,note\n2014-01-01,"), zstd("x".repeat(1 << 20)).repeat(1_500), zstd("\n")].concat();
    vec![
        ("field.csv.gz", bomb("at,note\n2014-01-01,", "x", "\n"), "field 2 of the row at line 2 is longer than 16777216 bytes"),
        ("quoted.csv.gz", bomb("at,note\n2014-01-01,\"", "x\n", "\"\n"), "is its quote never closed?"),
        ("header.csv.gz", bomb("at,", "n", "\n"), "field 2 of the row at line 1 is longer than 16777216 bytes"),
        ("columns.csv.gz", bomb("at,", "n,", "\n"), "the row at line 1 is longer than 67108864 bytes"),
        ("cells.csv.gz", bomb("at,note\n2014-01-01,", "1,", "\n"), "the row at line 2 is longer than 67108864 bytes"),
        ("empty.csv.gz", bomb("at,note\n2014-01-01,a\n2014", ",", "\n"), "the row at line 3 is longer than 67108864 bytes"),
        ("line.jsonl.gz", bomb("{\"at\":\"2014-01-01\",\"note\":\"", "x", "\"}\n"), "line 1 is longer than 67108864 bytes"),
        ("nested.jsonl.gz", bomb("{\"at\":", "[", "\n"), "line 1 is longer than 67108864 bytes"),
        ("fields.jsonl.gz", bomb("{\"at\":1", ",\"a\":1", "}\n"), "line 1 is longer than 67108864 bytes"),
        ("field.csv.zst", field, "field 2 of the row at line 2 is longer than 16777216 bytes"),
        ("window.csv.zst", window, "truncated or damaged"),
    ]
}

const BOMB: &str = "ASOF_TEST_BOMB";

#[test]
fn a_bomb_takes_no_more_memory_than_ordinary_files() {
    let data = temp_dir();
    for (name, content, words) in bombs() {
        let file = write_text(data.path(), name, content);
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "text_limits::bomb_child", "--nocapture"])
            .env(BOMB, &file)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{name}: {told}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(told.contains(words), "{name}: {told}");
        let peak_kb = told.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        // Where the system does not tell, there is nothing to compare.
        assert!(peak_kb.is_none_or(|peak_kb| peak_kb < 300_000), "{name} took {peak_kb:?} kB");
    }
}

/// The other side: it loads one file, which is refused, and tells the peak of its memory.
#[tokio::test(flavor = "multi_thread")]
async fn bomb_child() {
    let Ok(file) = std::env::var(BOMB) else { return };
    let root = temp_dir();
    let store = store(root.path()).await;
    let error = store.ingest(&load(PathBuf::from(file))).await.unwrap_err();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    let mut out = std::io::stdout();
    writeln!(out, "\n{peak}\n{error}").unwrap();
}

#[tokio::test]
async fn one_column_of_short_lines_in_a_wide_table_is_read_in_small_parts() {
    let data = temp_dir();
    let names: Vec<String> = (0..1_000).map(|i| format!("c{i}")).collect();
    let csv = format!("at,{}\n2014-01-01{}\n", names.join(","), ",1.5".repeat(1_000));
    let (_root, store, _) = loaded(&load(write_text(data.path(), "a.csv", csv))).await;
    let narrow: String = (0..5_000).map(|i| format!("2014-01-02 00:00:0{}\n", i % 10)).collect();
    let narrow = write_text(data.path(), "b.csv", format!("at\n{narrow}"));
    let report = store.ingest(&load(&narrow)).await.unwrap();
    assert_eq!((report.rows, report.rejected), (5_000, 0));
    assert_eq!(query(&store, "SELECT count(*) FROM things WHERE c999 IS NULL").await, ["5000"]);
}
