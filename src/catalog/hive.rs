//! The Hive layout: `column=value` folders between a table and its files.
//! A folder's name tells where a file was put, never which times it holds: that comes from statistics.

/// The name under which Hive files rows whose partition value is NULL.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The partition columns and values of a file's name relative to its table, outermost first; NULL is `None`.
///
/// Values are URL-decoded. Folders that are not of the form `column=value` are no partitions.
pub(crate) fn partition_values(name: &str) -> Vec<(String, Option<String>)> {
    let folders = name.rsplit_once('/').map_or("", |(folders, _)| folders);
    let pairs = folders.split('/').filter_map(|folder| folder.split_once('='));
    pairs.map(|(column, value)| (decoded(column).to_lowercase(), (value != HIVE_NULL).then(|| decoded(value)))).collect()
}

/// Is this file of a table none of its facts? Other writers keep markers, logs and unfinished files in files and folders
/// whose names start with `.` or `_`.
pub(crate) fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.') || part.starts_with('_') && !part.contains('='))
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
}
