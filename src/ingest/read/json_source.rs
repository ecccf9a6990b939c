//! Reads JSON lines: one object per line, with its fields in any order. Numbers keep every digit.
//! A line that is not an object of plain values is a reject. Nested values are not flattened.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
    io::BufRead,
};

use serde::{
    Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    column_parser::{ColumnParser, column_parsers},
    open::unreadable,
    parsed_rows::{ParsedRows, RowErrors},
};
use crate::{
    error::{Error, Result},
    ingest::{
        excerpt::{excerpt, excerpt_of_bytes},
        limits::ReadLimits,
        load::Ingest,
        names::ColumnNameMap,
        rejects::RejectReason,
        sources::SourceFile,
        target::Target,
    },
};

/// Bytes of text that are read at once. A longer line is read alone.
const BLOCK_BYTES: usize = 1 << 20;

/// A value of a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum JsonValue<'a> {
    Null,
    /// The text of a number or truth value.
    Plain(&'a str),
    Text(Cow<'a, str>),
}

impl JsonValue<'_> {
    /// The value as text; `None` for NULL.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            JsonValue::Null => None,
            JsonValue::Plain(text) => Some(text),
            JsonValue::Text(text) => Some(text),
        }
    }
}

/// The fields of a line, in their order.
pub(crate) type Fields<'a> = Vec<(Cow<'a, str>, JsonValue<'a>)>;

/// Lines of a file. Blank lines are left out.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    spans: Vec<LineSpan>,
}

#[derive(Debug, Clone, Copy)]
struct LineSpan {
    number: u64,
    start: usize,
    end: usize,
}

impl Lines {
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The size of the lines in bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The lines and their numbers, counting from 1.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], u64)> {
        self.spans.iter().map(|line| (self.bytes.get(line.start..line.end).unwrap_or_default(), line.number))
    }
}

/// A file of JSON lines.
pub(crate) struct JsonFile<'a> {
    source: &'a SourceFile,
    text: Box<dyn BufRead + Send>,
    line_bytes: usize,
    number: u64,
}

impl<'a> JsonFile<'a> {
    pub(crate) fn open(source: &'a SourceFile, text: Box<dyn BufRead + Send>, limits: ReadLimits) -> Self {
        Self { source, text, line_bytes: limits.bounded().row_bytes, number: 0 }
    }

    /// The next lines, at most `at_most`; `None` at the end.
    pub(crate) fn next(&mut self, at_most: usize) -> Result<Option<Lines>> {
        let mut lines = Lines::default();
        let refused = |reason: String| Err(Error::UnreadableFile { path: self.source.shown(), reason });
        while lines.bytes.len() < BLOCK_BYTES && lines.len() < at_most.max(1) {
            let start = lines.bytes.len();
            let mut limited = std::io::Read::take(&mut self.text, self.line_bytes as u64 + 1);
            let count = limited.read_until(b'\n', &mut lines.bytes).map_err(|e| unreadable(self.source, &e))?;
            if count == 0 {
                break;
            }
            self.number += 1;
            if count > self.line_bytes && lines.bytes.last() != Some(&b'\n') {
                return refused(format!(
                    "line {} is longer than {} bytes; write one object per line, or raise `ReadLimits::row_bytes`",
                    self.number, self.line_bytes
                ));
            }
            let mut line = lines.bytes.get(start..).unwrap_or_default();
            if self.number == 1 {
                line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
            }
            let used = line.trim_ascii_start();
            if self.number == 1 && used.first() == Some(&b'[') {
                return refused(
                    "it is a JSON array; write one object per line, without brackets and commas around the objects".into(),
                );
            }
            let (start, end) = (lines.bytes.len() - used.len(), lines.bytes.len() - used.len() + used.trim_ascii_end().len());
            if start == end {
                // Blank lines take no memory.
                lines.bytes.truncate(lines.spans.last().map_or(0, |line| line.end));
            } else {
                lines.spans.push(LineSpan { number: self.number, start, end });
            }
        }
        Ok((lines.len() > 0).then_some(lines))
    }
}

/// The field and the reason for which a line is refused; no field if the whole line is.
type Refused = (String, RejectReason);

/// The fields of one line, in their order.
///
/// # Errors
/// The field and the reason, if the line is not a JSON object, has a field twice, has a nested value, or exceeds the limits.
pub(crate) fn fields(line: &[u8], limits: ReadLimits) -> Result<Fields<'_>, Refused> {
    let refused = |reason: RejectReason| (String::new(), reason);
    let line = std::str::from_utf8(line).map_err(|_| refused("the line is not UTF-8".into()))?;
    if !line.starts_with('{') {
        // If it is not JSON at all, the reason says where.
        let reason = serde_json::from_str::<IgnoredAny>(line).err().map_or("the line is not a JSON object".into(), malformed);
        return Err(refused(reason));
    }
    let mut json = serde_json::Deserializer::from_str(line);
    let found = json.deserialize_map(FieldsVisitor { limits }).and_then(|found| json.end().map(|()| found));
    let found = found.map_err(|e| refused(malformed(e)))??;
    match repeated_name(&found) {
        Some(name) => Err((name, "the line has the field twice".into())),
        None => Ok(found),
    }
}

/// Takes the fields of an object as raw texts. A field that is refused does not end the reading: a line that is not JSON further on
/// is refused for that.
struct FieldsVisitor {
    limits: ReadLimits,
}

impl<'a> Visitor<'a> for FieldsVisitor {
    type Value = Result<Fields<'a>, Refused>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let (mut found, mut refused) = (Fields::new(), None);
        while let Some((name, value)) = object.next_entry::<&RawValue, &RawValue>()? {
            if refused.is_none() {
                match field(name.get(), value.get(), found.len(), self.limits) {
                    Ok(field) => found.push(field),
                    Err(reason) => refused = Some(reason),
                }
            }
        }
        Ok(refused.map_or(Ok(found), Err))
    }
}

/// A field from the JSON texts of its name and value. `before` counts the fields before it.
fn field<'a>(name: &'a str, value: &'a str, before: usize, limits: ReadLimits) -> Result<(Cow<'a, str>, JsonValue<'a>), Refused> {
    let name = unescaped(name).ok_or_else(|| (String::new(), "the name of a field is not valid text".into()))?;
    let value = match value.as_bytes().first() {
        Some(b'"') => JsonValue::Text(unescaped(value).ok_or_else(|| (name.to_string(), "the text is not valid".into()))?),
        Some(b'{' | b'[') => {
            let reason = "a nested value; flatten it before the load, or write it as text";
            return Err((name.into_owned(), reason.into()));
        }
        _ if value == "null" => JsonValue::Null,
        _ => JsonValue::Plain(value),
    };
    if before == limits.columns {
        let reason = format!("the line has more than {} fields; raise `ReadLimits::columns` to read it", limits.columns);
        return Err((String::new(), reason.into()));
    }
    if value.text().is_some_and(|text| text.len() > limits.field_bytes) || name.len() > limits.field_bytes {
        let reason = format!("longer than {} bytes; raise `ReadLimits::field_bytes` to read it", limits.field_bytes);
        return Err((excerpt(&name).into_owned(), reason.into()));
    }
    Ok((name, value))
}

/// The first field whose name an earlier field has.
fn repeated_name(found: &Fields<'_>) -> Option<String> {
    const FEW: usize = 16;
    let name = match found.len() {
        0..FEW => (1..found.len()).find(|&i| found[..i].iter().any(|(known, _)| *known == found[i].0)),
        _ => {
            let mut known = HashSet::with_capacity(found.len());
            found.iter().position(|(name, _)| !known.insert(name.as_ref()))
        }
    };
    name.map(|i| found[i].0.clone().into_owned())
}

fn malformed(error: serde_json::Error) -> RejectReason {
    // serde_json's line is always 1, and its column is a byte position in this line.
    let what = error.to_string();
    let what = what.split(" at line ").next().unwrap_or_default();
    format!("the line is not JSON at byte {}: {what}", error.column()).into()
}

/// The text that a JSON string stands for; `None` if an escape is half of a surrogate pair.
fn unescaped(quoted: &str) -> Option<Cow<'_, str>> {
    if quoted.contains('\\') {
        return serde_json::from_str(quoted).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(quoted.strip_prefix('"')?.strip_suffix('"')?))
}

/// Turns the fields of JSON lines into the table's columns.
pub(crate) struct JsonReader {
    parsers: Vec<ColumnParser>,
    /// The positions of the table's columns by name.
    positions: HashMap<String, usize>,
    names: ColumnNameMap,
    limits: ReadLimits,
}

/// The values of a column in some of the rows. The other rows are NULL.
type Sparse<'a> = Vec<(usize, JsonValue<'a>)>;

impl JsonReader {
    pub(crate) fn new(ingest: &Ingest, names: &ColumnNameMap, target: &Target) -> Self {
        let parsers = column_parsers(&target.schema, ingest);
        let positions = parsers.iter().enumerate().map(|(position, parser)| (parser.name.clone(), position)).collect();
        Self { parsers, positions, names: names.clone(), limits: ingest.limits }
    }

    /// The lines as columns of the table.
    pub(crate) fn read(&self, lines: &Lines) -> Result<ParsedRows> {
        let mut refused = RowErrors::default();
        let mut values: Vec<Sparse<'_>> = (0..self.parsers.len()).map(|_| Vec::new()).collect();
        for (row, (line, _)) in lines.iter().enumerate() {
            if let Err((column, reason)) = fields(line, self.limits).and_then(|found| self.add_row(row, found, &mut values)) {
                refused.add_shown(row, &column, || self.shown_value(line, &column), reason);
            }
        }
        let mut columns = Vec::with_capacity(self.parsers.len());
        for (parser, values) in self.parsers.iter().zip(&values) {
            let refuse = |row: usize, reason| {
                let value = values.binary_search_by_key(&row, |(row, _)| *row).ok().and_then(|at| values[at].1.text());
                refused.add(row, &parser.name, || value.unwrap_or_default().as_bytes(), reason);
            };
            let mut left = values.iter().peekable();
            let dense = (0..lines.len()).map(|row| {
                let (_, value) = left.next_if(|(at, _)| *at == row)?;
                value.text().map(str::as_bytes)
            });
            columns.push(parser.parse(dense, refuse)?);
        }
        refused.split(lines.iter().map(|(_, number)| number).collect(), columns)
    }

    /// Adds the fields of a row to their columns.
    fn add_row<'a>(&self, row: usize, found: Fields<'a>, values: &mut [Sparse<'a>]) -> Result<(), Refused> {
        for (name, value) in found {
            let name = self.names.resolve(name.trim());
            match self.positions.get(name) {
                None if value == JsonValue::Null => {}
                None => {
                    let reason = "the column was empty where types were inferred; declare its type";
                    return Err((name.to_owned(), reason.into()));
                }
                Some(&position) if values[position].last().is_some_and(|(last, _)| *last == row) => {
                    let reason = "two fields of the line have this name in the table; rename one of them with `Ingest::rename`";
                    return Err((name.to_owned(), reason.into()));
                }
                Some(&position) => values[position].push((row, value)),
            }
        }
        Ok(())
    }

    /// What the list of rejects shows of a line: the value of the column, or the beginning of the line.
    fn shown_value(&self, line: &[u8], column: &str) -> String {
        let Ok(found) = fields(line, self.limits) else { return excerpt_of_bytes(line).into_owned() };
        let value = found.iter().find(|(name, _)| self.names.resolve(name.trim()) == column).map(|(_, value)| value);
        excerpt(value.and_then(JsonValue::text).unwrap_or_default()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Vec<(String, Option<String>)>, String> {
        let found = fields(line.as_bytes(), ReadLimits::default()).map_err(|(field, reason)| format!("{field}: {reason}"))?;
        Ok(found.into_iter().map(|(name, value)| (name.into_owned(), value.text().map(Into::into))).collect())
    }

    #[test]
    fn a_line_is_split_into_its_fields_with_every_digit() {
        let found = read(
            r#"{"a" : 123456789012345678901234567890.50 ,"b\"c":"x\n\u00e9\"}","d":null , "e":true,"f":"",	"ü":-1e-7,"g":"\\"}"#,
        )
        .unwrap();
        let expected = [
            ("a", Some("123456789012345678901234567890.50")),
            ("b\"c", Some("x\né\"}")),
            ("d", None),
            ("e", Some("true")),
            ("f", Some("")),
            ("ü", Some("-1e-7")),
            ("g", Some("\\")),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))));
        assert_eq!(read("{}").unwrap(), []);
        assert_eq!(read("{ }").unwrap(), []);
    }

    #[test]
    fn what_is_no_object_of_plain_values_is_refused_with_its_place() {
        for (line, words) in [
            (r#"{"a":1"#, "not JSON at byte 6"),
            (r#"{"a":1}{"a":2}"#, "not JSON at byte 8"),
            (r#"{"a":01}"#, "not JSON at byte"),
            (r#"{'a':1}"#, "not JSON at byte 2"),
            (r#"{"a":NaN}"#, "not JSON at byte"),
            ("[1]", "not a JSON object"),
            ("7", "not a JSON object"),
            ("at,id", "not JSON at byte 1"),
            (r#"{"a":{"b":1}}"#, "a: a nested value"),
            (r#"{"x":1,"a":[]}"#, "a: a nested value"),
            (r#"{"a":1,"a":2}"#, "a: the line has the field twice"),
            (r#"{"a":"\ud800"}"#, "a: the text is not valid"),
            (r#"{"\ud800":1}"#, ": the name of a field is not valid text"),
            // What makes the line no JSON comes first, wherever it is.
            (r#"{"a":{"b":1},"c":nul}"#, "not JSON at byte"),
            (r#"{"a":1,"a":2,}"#, "not JSON at byte"),
            (r#"{"a":1} x"#, "not JSON at byte 9"),
            ("{\"a\":\"\0\"}", "not JSON at byte"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
        assert!(fields(b"{\"a\":\"\xff\"}", ReadLimits::default()).unwrap_err().1.contains("UTF-8"));
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(read(&deep).unwrap_err().contains("a: a nested value"));
    }
}
