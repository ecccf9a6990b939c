//! The column types of Hive and Athena, and their Arrow types.
//! A type that the other side does not have is refused.

use std::{fmt, str::FromStr, sync::Arc};

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Fields, TimeUnit};

use crate::error::{Error, Result};

/// A column type of Hive's and Athena's DDL. The documentation of [`ddl`](crate::ddl) lists the types with their Arrow types.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum HiveType {
    /// `boolean`
    Boolean,
    /// `tinyint`: 8 bits
    TinyInt,
    /// `smallint`: 16 bits
    SmallInt,
    /// `int`: 32 bits
    Int,
    /// `bigint`: 64 bits
    BigInt,
    /// `float`: 32 bits
    Float,
    /// `double`: 64 bits
    Double,
    /// `decimal(precision, scale)`
    Decimal(u8, i8),
    /// `string`
    String,
    /// `varchar(n)`
    Varchar(u32),
    /// `char(n)`
    Char(u32),
    /// `binary`
    Binary,
    /// `date`
    Date,
    /// `timestamp`
    Timestamp,
    /// `array<t>`
    Array(Box<HiveType>),
    /// `map<k,v>`
    Map(Box<HiveType>, Box<HiveType>),
    /// `struct<name:t,...>`
    Struct(Vec<(String, HiveType)>),
}

impl HiveType {
    /// The Hive type that holds the values of this Arrow type; `None` when there is none.
    pub(crate) fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => HiveType::Boolean,
            DataType::Int8 => HiveType::TinyInt,
            DataType::Int16 => HiveType::SmallInt,
            DataType::Int32 => HiveType::Int,
            DataType::Int64 => HiveType::BigInt,
            DataType::Float32 => HiveType::Float,
            DataType::Float64 => HiveType::Double,
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) if *s >= 0 => {
                HiveType::Decimal(*p, *s)
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => HiveType::String,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => HiveType::Binary,
            DataType::Date32 => HiveType::Date,
            DataType::Timestamp(..) => HiveType::Timestamp,
            DataType::Dictionary(_, values) => HiveType::of(values)?,
            DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::FixedSizeList(item, _) => {
                HiveType::Array(Box::new(HiveType::of(item.data_type())?))
            }
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 => {
                    let [key, value] = [0, 1].map(|i| HiveType::of(fields[i].data_type()));
                    HiveType::Map(Box::new(key?), Box::new(value?))
                }
                _ => return None,
            },
            DataType::Struct(fields) if !fields.is_empty() => {
                let field = |f: &Arc<Field>| Some((f.name().clone(), HiveType::of(f.data_type())?));
                HiveType::Struct(fields.iter().map(field).collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }

    /// The Arrow type of a column of this type, as long as no file has the column.
    pub(crate) fn to_arrow(&self) -> DataType {
        let nullable = |name: &str, inner: &HiveType| Arc::new(Field::new(name, inner.to_arrow(), true));
        match self {
            HiveType::Boolean => DataType::Boolean,
            HiveType::TinyInt => DataType::Int8,
            HiveType::SmallInt => DataType::Int16,
            HiveType::Int => DataType::Int32,
            HiveType::BigInt => DataType::Int64,
            HiveType::Float => DataType::Float32,
            HiveType::Double => DataType::Float64,
            HiveType::Decimal(precision, scale) => DataType::Decimal128(*precision, *scale),
            HiveType::String | HiveType::Varchar(_) | HiveType::Char(_) => DataType::Utf8,
            HiveType::Binary => DataType::Binary,
            HiveType::Date => DataType::Date32,
            HiveType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            HiveType::Array(item) => DataType::List(nullable("item", item)),
            HiveType::Map(key, value) => {
                let key = Arc::new(Field::new("key", key.to_arrow(), false));
                let entries = DataType::Struct(Fields::from(vec![key, nullable("value", value)]));
                DataType::Map(Arc::new(Field::new("key_value", entries, false)), false)
            }
            HiveType::Struct(fields) => {
                DataType::Struct(fields.iter().map(|(name, inner)| nullable(name, inner)).collect::<Vec<_>>().into())
            }
        }
    }

    /// Can a column of this declared type have this Arrow type in a file?
    ///
    /// Integers and floats must have the same width, as in Hive and Athena. Any text type fits any other.
    pub(crate) fn accepts(&self, found: &DataType) -> bool {
        let Some(found) = HiveType::of(found) else { return false };
        self.holds(&found)
    }

    fn holds(&self, found: &HiveType) -> bool {
        use HiveType::{Array, Char, Map, String, Struct, Varchar};
        match (self, found) {
            (String | Varchar(_) | Char(_), String) => true,
            (Array(own), Array(other)) => own.holds(other),
            (Map(key, value), Map(other_key, other_value)) => key.holds(other_key) && value.holds(other_value),
            (Struct(own), Struct(other)) => {
                type Named = (std::string::String, HiveType);
                let same = |((a, own), (b, other)): (&Named, &Named)| same_name(a, b) && own.holds(other);
                own.len() == other.len() && own.iter().zip(other).all(same)
            }
            (own, other) => own == other,
        }
    }
}

fn same_name(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

impl fmt::Display for HiveType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HiveType::Boolean => f.write_str("boolean"),
            HiveType::TinyInt => f.write_str("tinyint"),
            HiveType::SmallInt => f.write_str("smallint"),
            HiveType::Int => f.write_str("int"),
            HiveType::BigInt => f.write_str("bigint"),
            HiveType::Float => f.write_str("float"),
            HiveType::Double => f.write_str("double"),
            HiveType::Decimal(precision, scale) => write!(f, "decimal({precision},{scale})"),
            HiveType::String => f.write_str("string"),
            HiveType::Varchar(length) => write!(f, "varchar({length})"),
            HiveType::Char(length) => write!(f, "char({length})"),
            HiveType::Binary => f.write_str("binary"),
            HiveType::Date => f.write_str("date"),
            HiveType::Timestamp => f.write_str("timestamp"),
            HiveType::Array(item) => write!(f, "array<{item}>"),
            HiveType::Map(key, value) => write!(f, "map<{key},{value}>"),
            HiveType::Struct(fields) => {
                f.write_str("struct<")?;
                for (i, (name, inner)) in fields.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    match is_plain(name) {
                        true => write!(f, "{comma}{name}:{inner}")?,
                        false => write!(f, "{comma}`{}`:{inner}", name.replace('`', "``"))?,
                    }
                }
                f.write_str(">")
            }
        }
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl FromStr for HiveType {
    type Err = Error;

    /// # Errors
    /// [`Error::InvalidName`] when the text is not one of the types above.
    fn from_str(text: &str) -> Result<Self> {
        let refused = |reason: String| Error::InvalidName { what: "Hive type", value: text.into(), reason };
        let mut rest = Rest { text, depth: 0 };
        let parsed = rest.hive_type().map_err(&refused)?;
        match rest.trimmed() {
            "" => Ok(parsed),
            more => Err(refused(format!("`{more}` does not belong to a type"))),
        }
    }
}

/// The deepest nesting of types that is accepted.
const DEPTH_AT_MOST: u32 = 64;

/// The rest of the text that is being parsed.
struct Rest<'a> {
    text: &'a str,
    depth: u32,
}

impl<'a> Rest<'a> {
    fn trimmed(&mut self) -> &'a str {
        self.text = self.text.trim_start();
        self.text
    }

    fn eat(&mut self, c: char) -> bool {
        let after = self.trimmed().strip_prefix(c);
        self.text = after.unwrap_or(self.text);
        after.is_some()
    }

    fn expect(&mut self, c: char) -> std::result::Result<(), String> {
        if self.eat(c) { Ok(()) } else { Err(format!("`{c}` is missing before `{}`", self.text)) }
    }

    /// A word, or a name in backquotes.
    fn name(&mut self) -> std::result::Result<String, String> {
        if self.eat('`') {
            let mut name = String::new();
            loop {
                let (before, after) = self.text.split_once('`').ok_or("a backquote is not closed")?;
                name += before;
                self.text = after;
                if !after.starts_with('`') {
                    return Ok(name);
                }
                name.push('`');
                self.text = &after[1..];
            }
        }
        let text = self.trimmed();
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        self.text = &text[end..];
        if end == 0 { Err(format!("a name is missing before `{text}`")) } else { Ok(text[..end].into()) }
    }

    fn number<T: FromStr>(&mut self) -> std::result::Result<T, String> {
        let text = self.trimmed();
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        self.text = &text[end..];
        text[..end].parse().map_err(|_| format!("a number is missing before `{text}`"))
    }

    fn hive_type(&mut self) -> std::result::Result<HiveType, String> {
        self.depth += 1;
        if self.depth > DEPTH_AT_MOST {
            return Err(format!("it is nested more than {DEPTH_AT_MOST} deep"));
        }
        let word = self.name()?.to_lowercase();
        let parsed = match word.as_str() {
            "boolean" => HiveType::Boolean,
            "tinyint" => HiveType::TinyInt,
            "smallint" => HiveType::SmallInt,
            "int" | "integer" => HiveType::Int,
            "bigint" => HiveType::BigInt,
            "float" => HiveType::Float,
            "double" => {
                if self.trimmed().get(..9).is_some_and(|word| word.eq_ignore_ascii_case("precision")) {
                    self.text = &self.text[9..];
                }
                HiveType::Double
            }
            "decimal" | "numeric" | "dec" => self.decimal()?,
            "string" => HiveType::String,
            "varchar" => HiveType::Varchar(self.length(65_535)?),
            "char" => HiveType::Char(self.length(255)?),
            "binary" => HiveType::Binary,
            "date" => HiveType::Date,
            "timestamp" => HiveType::Timestamp,
            "array" => {
                self.expect('<')?;
                let item = self.hive_type()?;
                self.expect('>')?;
                HiveType::Array(Box::new(item))
            }
            "map" => {
                self.expect('<')?;
                let key = self.hive_type()?;
                self.expect(',')?;
                let value = self.hive_type()?;
                self.expect('>')?;
                HiveType::Map(Box::new(key), Box::new(value))
            }
            "struct" => {
                self.expect('<')?;
                let mut fields = Vec::new();
                loop {
                    let name = self.name()?;
                    self.expect(':')?;
                    fields.push((name, self.hive_type()?));
                    if !self.eat(',') {
                        break;
                    }
                }
                self.expect('>')?;
                HiveType::Struct(fields)
            }
            other => {
                return Err(format!(
                    "`{other}` is not a type; the types are boolean, tinyint, smallint, int, bigint, float, double, decimal, string, \
                     varchar, char, binary, date, timestamp, array, map and struct"
                ));
            }
        };
        self.depth -= 1;
        Ok(parsed)
    }

    fn decimal(&mut self) -> std::result::Result<HiveType, String> {
        if !self.eat('(') {
            return Ok(HiveType::Decimal(10, 0));
        }
        let precision: u8 = self.number()?;
        let scale: i8 = if self.eat(',') { self.number()? } else { 0 };
        self.expect(')')?;
        match (1..=DECIMAL128_MAX_PRECISION).contains(&precision) && u8::try_from(scale).is_ok_and(|s| s <= precision) {
            true => Ok(HiveType::Decimal(precision, scale)),
            false => Err("a decimal has 1 to 38 digits, and at most that many after the point".into()),
        }
    }

    fn length(&mut self, most: u32) -> std::result::Result<u32, String> {
        self.expect('(')?;
        let length = self.number()?;
        self.expect(')')?;
        if (1..=most).contains(&length) { Ok(length) } else { Err(format!("its length must be 1 to {most}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_written_as_they_are_read() {
        for text in [
            "boolean",
            "tinyint",
            "smallint",
            "int",
            "bigint",
            "float",
            "double",
            "decimal(38,9)",
            "string",
            "varchar(12)",
            "char(3)",
            "binary",
            "date",
            "timestamp",
            "array<array<int>>",
            "map<string,struct<a:int,`b c`:array<double>>>",
        ] {
            let parsed: HiveType = text.parse().unwrap();
            assert_eq!(parsed.to_string(), text);
            assert!(parsed.accepts(&parsed.to_arrow()), "{text}");
        }
        assert_eq!("DOUBLE  precision".parse::<HiveType>().unwrap(), HiveType::Double);
        assert_eq!("Decimal".parse::<HiveType>().unwrap(), HiveType::Decimal(10, 0));
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for text in
            ["", "text", "decimal(39,0)", "decimal(3,4)", "array<int", "map<int>", "struct<>", "int int", "varchar", "char(0)"]
        {
            assert!(text.parse::<HiveType>().is_err(), "{text}");
        }
        assert!("array<".repeat(10_000).parse::<HiveType>().is_err());
        for found in
            [DataType::UInt8, DataType::Null, DataType::Float16, DataType::Time64(TimeUnit::Microsecond), DataType::Date64]
        {
            assert_eq!(HiveType::of(&found), None, "{found}");
        }
    }

    #[test]
    fn widths_are_types_and_texts_are_one() {
        assert!(!HiveType::BigInt.accepts(&DataType::Int32));
        assert!(!HiveType::Double.accepts(&DataType::Float32));
        assert!(HiveType::Varchar(3).accepts(&DataType::Utf8View));
        assert!(HiveType::Timestamp.accepts(&DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))));
        assert!(!HiveType::BigInt.accepts(&DataType::Timestamp(TimeUnit::Microsecond, None)));
    }
}
