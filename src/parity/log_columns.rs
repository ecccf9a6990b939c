//! The columns and the metadata of a log of served rows. Nothing is read or written here.
//!
//! | column | holds |
//! |---|---|
//! | `materialization` | the id of the materialization that was served |
//! | `drawn_on` | those of the sets that it draws on, in the order of its definition, with commas between them |
//! | `instant` | the instant at which an entity was asked for; NULL for a request, whose instant is one of its columns |
//! | `key.<column>` or `request.<column>` | the key, or the columns of the request that are needed |
//! | `feature.<feature>` | the answer |

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::file::metadata::KeyValue;

use crate::{name::ContentId, time::instant_type};

pub(super) const MATERIALIZATION: &str = "materialization";
pub(super) const DRAWN_ON: &str = "drawn_on";
pub(super) const INSTANT: &str = "instant";
pub(super) const KEY: &str = "key.";
pub(super) const REQUEST: &str = "request.";
pub(super) const FEATURE: &str = "feature.";

/// The version of these columns.
pub(super) const FORMAT: u32 = 1;

const FORMAT_ENTRY: &str = "asof.served_log";
const SET_ENTRY: &str = "asof.set";
const DROPPED_ENTRY: &str = "asof.dropped";

/// The extension of a file of a log, and what a file is called until it is complete.
pub(super) const EXTENSION: &str = ".parquet";
pub(super) const OPEN: &str = ".open";

/// The name of a complete file: the first digits of its content's hash come last.
pub(super) fn log_file_name(stem: &str, hash: ContentId) -> String {
    format!("{stem}-{}{EXTENSION}", hash.short())
}

/// The digits of the hash in the name of a complete file; `None` for a file that was given another name.
pub(super) fn hash_in_name(name: &str) -> Option<&str> {
    let (_, digits) = name.strip_prefix("served-")?.strip_suffix(EXTENSION)?.rsplit_once('-')?;
    let is_hash = digits.len() == ContentId::SHORT_DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then_some(digits)
}

/// The columns of a log, of keys and of features.
pub(super) fn log_schema(prefix: &str, asked: &Schema, features: &Schema) -> SchemaRef {
    let mut fields = vec![
        Field::new(MATERIALIZATION, DataType::Utf8, true),
        Field::new(DRAWN_ON, DataType::Utf8, true),
        Field::new(INSTANT, instant_type(), true),
    ];
    let mut add = |prefix: &str, schema: &Schema| {
        fields.extend(schema.fields().iter().map(|f| Field::new(format!("{prefix}{}", f.name()), f.data_type().clone(), true)));
    };
    add(prefix, asked);
    add(FEATURE, features);
    Arc::new(Schema::new(fields))
}

/// What the footer of a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogEntries {
    pub(super) format: String,
    pub(super) set: String,
    /// Rows that were served and not logged while the file was written.
    pub(super) dropped: u64,
}

impl LogEntries {
    pub(super) fn written(set: &str, dropped: u64) -> Vec<KeyValue> {
        let entry = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
        vec![entry(FORMAT_ENTRY, FORMAT.to_string()), entry(SET_ENTRY, set.to_owned()), entry(DROPPED_ENTRY, dropped.to_string())]
    }

    /// `None` for a file that is no log of served rows.
    pub(super) fn read(entries: &[KeyValue]) -> Option<Self> {
        let value = |key: &str| entries.iter().find(|entry| entry.key == key).and_then(|entry| entry.value.clone());
        let dropped = value(DROPPED_ENTRY).and_then(|text| text.parse().ok()).unwrap_or(0);
        Some(Self { format: value(FORMAT_ENTRY)?, set: value(SET_ENTRY)?, dropped })
    }
}
