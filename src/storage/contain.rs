//! Turns panics of decoders into errors: a file whose bytes make a decoder panic cannot be read.
//! The program's panic hook still runs. Errors that a decoder returns pass through.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use futures::{FutureExt, Stream, StreamExt};
use parquet::{
    basic::{ConvertedType, LogicalType},
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaData},
        statistics::Statistics,
    },
};

use crate::error::{Error, panic_text};

/// Runs a decoder over the bytes of a file that is shown by this name.
///
/// The decoder's state is dropped when it panics, so that no one sees it half changed.
pub(crate) fn contained<T, E: From<Error>>(shown: &str, decode: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| Err(unreadable(shown, panic.as_ref()).into()))
}

/// As [`contained`], for an asynchronous decoder.
pub(crate) async fn contained_read<T, E: From<Error>>(shown: &str, read: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    AssertUnwindSafe(read).catch_unwind().await.unwrap_or_else(|panic| Err(unreadable(shown, panic.as_ref()).into()))
}

/// As [`contained`], for a stream of decoded parts, which ends where the decoder panics.
pub(crate) fn contained_rows<T, E: From<Error>>(
    shown: impl AsRef<str>,
    rows: impl Stream<Item = Result<T, E>>,
) -> impl Stream<Item = Result<T, E>> {
    let caught = move |rows: std::thread::Result<Result<T, E>>| {
        rows.unwrap_or_else(|panic| Err(unreadable(shown.as_ref(), panic.as_ref()).into()))
    };
    AssertUnwindSafe(rows).catch_unwind().map(caught)
}

fn unreadable(shown: &str, panic: &(dyn Any + Send)) -> Error {
    let first = panic_text(panic).lines().next().unwrap_or_default();
    Error::UnreadableFile {
        path: shown.into(),
        reason: format!("its bytes make the decoder fail ({first}); it is damaged: replace or remove it"),
    }
}

/// What a footer says that cannot be true: counts that do not add up, columns that lie outside the file.
pub(crate) fn contradiction(footer: &ParquetMetaData, size: u64) -> Option<String> {
    let mut rows = 0_i64;
    for (i, group) in footer.row_groups().iter().enumerate() {
        if group.num_rows() < 0 {
            return Some(format!("row group {i} has {} rows", group.num_rows()));
        }
        rows = rows.saturating_add(group.num_rows());
        for column in group.columns() {
            let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
            let signed = |value: i64| u64::try_from(value).ok();
            let end = signed(start).zip(signed(column.compressed_size())).and_then(|(start, bytes)| start.checked_add(bytes));
            if end.is_none_or(|end| end > size) || column.num_values() < 0 {
                let column = column.column_path().string();
                return Some(format!("column `{column}` of row group {i} lies outside the file"));
            }
            if is_upside_down(column) {
                let column = column.column_path().string();
                return Some(format!("the statistics of column `{column}` in row group {i} have a minimum beyond their maximum"));
            }
        }
    }
    let total = footer.file_metadata().num_rows();
    (total != rows).then(|| format!("it counts {total} rows, and its row groups {rows}"))
}

/// Is the minimum in the statistics of a column of signed integers, such as a time, larger than the maximum? Pruning by such
/// statistics would skip rows.
fn is_upside_down(column: &ColumnChunkMetaData) -> bool {
    let kind = column.column_descr();
    let is_unsigned = matches!(kind.logical_type_ref(), Some(LogicalType::Integer(kind)) if !kind.is_signed)
        || matches!(
            kind.converted_type(),
            ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64
        );
    match column.statistics() {
        _ if is_unsigned => false,
        Some(Statistics::Int32(bounds)) => bounds.min_opt().zip(bounds.max_opt()).is_some_and(|(min, max)| min > max),
        Some(Statistics::Int64(bounds)) => bounds.min_opt().zip(bounds.max_opt()).is_some_and(|(min, max)| min > max),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use futures::{TryStreamExt, stream};

    use super::*;
    use crate::error::Result;

    #[test]
    #[allow(clippy::panic)]
    fn a_panic_is_an_unreadable_file() {
        let text = contained::<(), Error>("a.parquet", || panic!("index {} out of bounds", 7)).unwrap_err().to_string();
        assert!(text.contains("a.parquet") && text.contains("index 7 out of bounds"), "{text}");
        assert_eq!(contained::<_, Error>("a.parquet", || Ok(1)).unwrap(), 1);
    }

    #[tokio::test]
    #[allow(clippy::panic)]
    async fn a_stream_ends_where_it_panics() {
        let rows = stream::iter(0..5).map(|i| if i == 3 { panic!("three") } else { Ok::<_, Error>(i) });
        let mut rows = Box::pin(contained_rows("b.parquet", rows));
        let mut seen = Vec::new();
        let end = loop {
            match rows.try_next().await {
                Ok(Some(i)) => seen.push(i),
                end => break end,
            }
        };
        assert_eq!(seen, [0, 1, 2]);
        assert!(matches!(end, Err(Error::UnreadableFile { .. })));
        assert!(rows.next().await.is_none());
        let waits: Result<()> = contained_read("c.parquet", async { panic!("late") }).await;
        assert!(waits.is_err());
    }
}
