//! Names of tables, feature sets and materializations, checked when they are parsed.
//! Text from outside is parsed here before it is used as a path or an identifier.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The database of tables whose name has no database.
pub const DEFAULT_DATABASE: &str = "default";

/// The name of a table: `database.table`, or `table` in the database `default`.
///
/// Both parts are lower-case ASCII letters, digits and underscores, and start with a letter or underscore, so that they
/// need no quotes in SQL and no escapes in a path.
///
/// ```
/// use asof::name::TableName;
/// let name: TableName = "nyc_taxi".parse()?;
/// assert_eq!((name.database(), name.table()), ("default", "nyc_taxi"));
/// assert!("NYC-Taxi".parse::<TableName>().is_err());
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName {
    database: String,
    table: String,
}

impl TableName {
    /// The database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The table's name inside its database.
    pub fn table(&self) -> &str {
        &self.table
    }
}

impl FromStr for TableName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (database, table) = text.split_once('.').unwrap_or((DEFAULT_DATABASE, text));
        check_identifier("table", text, database)?;
        check_identifier("table", text, table)?;
        if database == "information_schema" {
            let reason = "the database `information_schema` is reserved for the catalog".into();
            return Err(Error::InvalidName { what: "table", value: shown(text), reason });
        }
        Ok(Self { database: database.into(), table: table.into() })
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.database == DEFAULT_DATABASE { f.write_str(&self.table) } else { write!(f, "{}.{}", self.database, self.table) }
    }
}

/// The name of a feature set with its version: `taxi_v1`.
///
/// ```
/// use asof::name::SetName;
/// let name: SetName = "zone_demand_v12".parse()?;
/// assert_eq!((name.stem(), name.version()), ("zone_demand", 12));
/// assert!("zone_demand".parse::<SetName>().is_err()); // a set without a version cannot be published
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SetName {
    text: String,
    stem_len: usize,
    version: u32,
}

impl SetName {
    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name without its version.
    pub fn stem(&self) -> &str {
        &self.text[..self.stem_len]
    }

    /// The version: the number after `_v`.
    pub fn version(&self) -> u32 {
        self.version
    }
}

impl FromStr for SetName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        check_identifier("feature set", text, text)?;
        let refused = |reason: &str| Error::InvalidName { what: "feature set", value: shown(text), reason: reason.into() };
        let (stem, digits) = text.rsplit_once("_v").ok_or_else(|| refused("it must end in a version, as `taxi_v1` does"))?;
        if stem.is_empty() || digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refused("it must end in a version that counts from 1, as `taxi_v1` does"));
        }
        let version = digits.parse().map_err(|_| refused("it must end in a version, as `taxi_v1` does"))?;
        Ok(Self { stem_len: stem.len(), text: text.into(), version })
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A hash of content: 32 bytes of BLAKE3, written as 64 hexadecimal digits.
///
/// The id of a materialization is the hash of everything that determines its rows. Local files are checked by their hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentId([u8; 32]);

impl ContentId {
    /// The hash of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(blake3::hash(bytes))
    }

    /// A finished hash.
    pub(crate) fn from_hash(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }

    /// The hash of a JSON value in canonical form: keys sorted, no spaces.
    pub(crate) fn of_json(value: &serde_json::Value) -> Self {
        let mut text = String::new();
        write_canonical(value, &mut text);
        Self::of(text.as_bytes())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The digits of [`ContentId::short`].
    pub(crate) const SHORT_DIGITS: usize = 16;

    /// The first 16 hexadecimal digits, for file names and logs.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(Self::SHORT_DIGITS);
        text
    }
}

/// `serde_json` orders keys by flags that any crate of a program may set; an id must not depend on them.
fn write_canonical(value: &serde_json::Value, text: &mut String) {
    use serde_json::Value::{Array, Object};
    let mut separator = "";
    match value {
        Object(map) => {
            text.push('{');
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            for (key, value) in entries {
                text.push_str(separator);
                text.push_str(&serde_json::Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonical(value, text);
                separator = ",";
            }
            text.push('}');
        }
        Array(values) => {
            text.push('[');
            for value in values {
                text.push_str(separator);
                write_canonical(value, text);
                separator = ",";
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

impl FromStr for ContentId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        blake3::Hash::from_hex(text).map(Self::from_hash).map_err(|_| Error::InvalidName {
            what: "id",
            value: shown(text),
            reason: "it must be 64 hexadecimal digits".into(),
        })
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}

macro_rules! text_conversions {
    ($($name:ty),*) => {$(
        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.to_string()
            }
        }
    )*};
}
text_conversions!(TableName, SetName, ContentId);

/// Text that was given as a name, as messages show it: a URL is cut to its scheme, as it may hold credentials.
pub(crate) fn shown(text: &str) -> String {
    match text.find("://") {
        Some(at) => format!("{}://...", &text[..at]),
        None => text.into(),
    }
}

/// Refuses names that would need quotes in SQL or escapes in a path.
pub(crate) fn check_identifier(what: &'static str, whole: &str, part: &str) -> Result<()> {
    let starts_well = part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let is_plain = part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if starts_well && is_plain && part.len() <= 128 {
        return Ok(());
    }
    Err(Error::InvalidName {
        what,
        value: shown(whole),
        reason: "use lower-case ASCII letters, digits and underscores, a letter first, at most 128".into(),
    })
}
