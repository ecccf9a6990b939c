//! The Hive layout: `column=value` folders between a table and its files.
//! The name of a folder says where a file was put, not which times it has: those come from statistics.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

/// The value that Hive writes in folder names for NULL.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The partition columns and values of a file's name relative to its table, outermost first; NULL is `None`.
///
/// Values are URL-decoded. Folders that are not of the form `column=value` are not partitions.
pub(crate) fn partition_values(name: &str) -> Vec<(String, Option<String>)> {
    let folders = name.rsplit_once('/').map_or("", |(folders, _)| folders);
    let pairs = folders.split('/').filter_map(|folder| folder.split_once('='));
    pairs.map(|(column, value)| (decoded(column).to_lowercase(), (value != HIVE_NULL).then(|| decoded(value)))).collect()
}

/// The folders of a partition as Hive writes them: `year=2014/zone=a%2Fb`.
pub(crate) fn partition_name<'a>(columns: impl IntoIterator<Item = &'a str>, values: &[Option<String>]) -> String {
    let folder = |(column, value): (&str, &Option<String>)| match value.as_deref() {
        None | Some("") => format!("{}={HIVE_NULL}", encoded(column)),
        Some(value) => format!("{}={}", encoded(column), encoded(value)),
    };
    columns.into_iter().zip(values).map(folder).collect::<Vec<_>>().join("/")
}

/// Whether a file belongs to a Hive table, by its name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// A Parquet file, by its extension or by having none, as Hive and Athena write them.
    Parquet,
    /// A file whose name is that of a partition's folder.
    PartitionThatIsAFile,
    /// A marker, a log, an unfinished or an unrelated file.
    Other,
}

impl FileKind {
    /// The kind of a file with this name relative to the table.
    pub(crate) fn of(name: &str, size: u64) -> Self {
        let file = name.rsplit('/').next().unwrap_or(name);
        let lower = file.to_lowercase();
        if is_hidden(name) {
            FileKind::Other
        } else if [".parquet", ".parq", ".pq"].iter().any(|extension| lower.ends_with(extension)) {
            FileKind::Parquet
        } else if file.contains('.') || size == 0 {
            // Empty objects without an extension mark folders in object stores.
            FileKind::Other
        } else if file.contains('=') {
            FileKind::PartitionThatIsAFile
        } else {
            FileKind::Parquet
        }
    }
}

/// Is this file not part of the table's data? Other writers put markers, logs and unfinished files in files and folders
/// whose names start with `.` or `_`.
pub(crate) fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.') || part.starts_with('_') && !part.contains('='))
}

/// The type of these partition values: the first of `int`, `bigint`, `date` and text that fits all. It is `int` if all are
/// NULL.
pub(crate) fn inferred_type<'a>(values: impl Iterator<Item = &'a str> + Clone) -> DataType {
    let is_number = |v: &str| v.strip_prefix('-').unwrap_or(v).bytes().all(|b| b.is_ascii_digit());
    let is_date = |v: &str| v.len() == 10 && v.parse::<chrono::NaiveDate>().is_ok();
    if values.clone().all(|v| is_number(v) && v.parse::<i32>().is_ok()) {
        DataType::Int32
    } else if values.clone().all(|v| is_number(v) && v.parse::<i64>().is_ok()) {
        DataType::Int64
    } else if values.clone().all(is_date) {
        DataType::Date32
    } else {
        DataType::Utf8
    }
}

/// A partition value as a value of its column's type; `None` when it does not fit the type.
pub(crate) fn typed_value(value: Option<&str>, data_type: &DataType) -> Option<ScalarValue> {
    match (value, data_type) {
        (None, _) => ScalarValue::try_from(data_type).ok(),
        (Some(value), DataType::Utf8) => Some(ScalarValue::from(value)),
        (Some(value), _) => ScalarValue::try_from_string(value.into(), data_type).ok().filter(|typed| !typed.is_null()),
    }
}

/// Escapes the characters that Hive escapes in a folder's name.
fn encoded(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_ascii_control() || "\"#%'*/:=?\\{[]^".contains(c) {
            true => name += &format!("%{:02X}", u32::from(c)),
            false => name.push(c),
        }
    }
    name
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then(|| after.get(..2)).flatten();
        let byte = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The folder of a month: `year=2014/month=11`, or `month=11` alone.
pub(crate) fn partition_path(columns: &[String], year: i32, month: u32) -> String {
    match columns {
        [month_column] => format!("{month_column}={month}"),
        [year_column, month_column, ..] => format!("{year_column}={year}/{month_column}={month}"),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_decoded() {
        let values = partition_values("year=2014/Month=11/zone=a%20b%3Dc/odd/part=100%/x=__HIVE_DEFAULT_PARTITION__/f=1.parquet");
        let expected =
            [("year", Some("2014")), ("month", Some("11")), ("zone", Some("a b=c")), ("part", Some("100%")), ("x", None)];
        let expected: Vec<_> = expected.map(|(c, v)| (c.to_owned(), v.map(str::to_owned))).into();
        assert_eq!(values, expected);
        assert!(partition_values("file.parquet").is_empty());
    }

    #[test]
    fn a_partition_is_named_as_it_is_read() {
        let values = ["7", "a/b=c%20 \u{e9}", "'"].map(|v| Some(v.to_owned()));
        let name = partition_name(["year", "zone", "q"], &values);
        assert_eq!(name, "year=7/zone=a%2Fb%3Dc%2520 \u{e9}/q=%27");
        let read: Vec<_> = partition_values(&format!("{name}/f.parquet")).into_iter().map(|(_, value)| value).collect();
        assert_eq!(read, values);
        assert_eq!(partition_name(["x"], &[None]), "x=__HIVE_DEFAULT_PARTITION__");
    }

    #[test]
    fn types_are_inferred_from_all_values() {
        let of = |values: &[&str]| inferred_type(values.iter().copied());
        assert_eq!(of(&["01", "12", "-3"]), DataType::Int32);
        assert_eq!(of(&["20140101000000", "1"]), DataType::Int64);
        assert_eq!(of(&["2014-01-31", "2015-02-01"]), DataType::Date32);
        assert_eq!(of(&["2014-02-31"]), DataType::Utf8);
        assert_eq!(of(&["1", "x"]), DataType::Utf8);
        assert_eq!(of(&[""]), DataType::Utf8);
        assert_eq!(typed_value(Some("01"), &DataType::Int32), Some(ScalarValue::Int32(Some(1))));
        assert_eq!(typed_value(Some("x"), &DataType::Int32), None);
    }

    #[test]
    fn files_are_told_apart_by_their_names() {
        for (name, size, kind) in [
            ("month=1/a.parquet", 0, FileKind::Parquet),
            ("month=1/000000_0", 9, FileKind::Parquet),
            ("month=1/A.PARQUET", 9, FileKind::Parquet),
            ("month=1/a=b.parquet", 9, FileKind::Parquet),
            ("month=1", 9, FileKind::PartitionThatIsAFile),
            ("month=1", 0, FileKind::Other),
            ("month=1/_SUCCESS", 9, FileKind::Other),
            ("_temporary/a.parquet", 9, FileKind::Other),
            ("month=1/.a.parquet.crc", 9, FileKind::Other),
            ("month=1/readme.txt", 9, FileKind::Other),
        ] {
            assert_eq!(FileKind::of(name, size), kind, "{name}");
        }
    }
}
