//! JSON lines: one object a line, its fields by name in any order, numbers with every digit they are written with.
//! A line that is no object of plain values is a reject; it takes no values out of nested ones.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    io::BufRead,
};

use serde::de::IgnoredAny;

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
        names::Names,
        rejects::Reason,
        sources::Source,
        target::Target,
    },
};

/// Bytes of text that are read at once; a line that is longer is read alone.
const BLOCK_BYTES: usize = 1 << 20;

/// A value of a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    /// A number or truth value, as it is written.
    Plain(&'a str),
    Text(Cow<'a, str>),
}

impl Value<'_> {
    /// The value as a text, `None` for NULL.
    pub(crate) fn cell(&self) -> Option<&str> {
        match self {
            Value::Null => None,
            Value::Plain(text) => Some(text),
            Value::Text(text) => Some(text),
        }
    }
}

/// The fields of a line, in its order.
pub(crate) type Fields<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// Lines of a file that are not blank.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    places: Vec<Line>,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    number: u64,
    start: usize,
    end: usize,
}

impl Lines {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Their bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The lines and their numbers, counting from 1.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], u64)> {
        self.places.iter().map(|line| (self.bytes.get(line.start..line.end).unwrap_or_default(), line.number))
    }
}

/// A file of JSON lines.
pub(crate) struct JsonFile<'a> {
    source: &'a Source,
    text: Box<dyn BufRead + Send>,
    line_bytes: usize,
    number: u64,
}

impl<'a> JsonFile<'a> {
    pub(crate) fn open(source: &'a Source, text: Box<dyn BufRead + Send>, limits: ReadLimits) -> Self {
        Self { source, text, line_bytes: limits.bounded().row_bytes, number: 0 }
    }

    /// The next lines, at most so many; `None` at the end.
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
                    "line {} is longer than {} bytes; write one object a line, or allow it with `ReadLimits::row_bytes`",
                    self.number, self.line_bytes
                ));
            }
            let mut line = lines.bytes.get(start..).unwrap_or_default();
            if self.number == 1 {
                line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
            }
            let used = line.trim_ascii_start();
            if self.number == 1 && used.first() == Some(&b'[') {
                return refused("it is a JSON array; write one object a line, without brackets or commas around them".into());
            }
            let (start, end) = (lines.bytes.len() - used.len(), lines.bytes.len() - used.len() + used.trim_ascii_end().len());
            if start == end {
                // Blank lines take no memory, however many there are.
                lines.bytes.truncate(lines.places.last().map_or(0, |line| line.end));
            } else {
                lines.places.push(Line { number: self.number, start, end });
            }
        }
        Ok((lines.len() > 0).then_some(lines))
    }
}

/// The fields of one line, in its order.
///
/// # Errors
/// The field and the reason, when the line is no JSON object, names a field twice, holds a nested value, or more or longer
/// fields than the limits allow.
pub(crate) fn fields(line: &[u8], limits: ReadLimits) -> Result<Fields<'_>, (String, Reason)> {
    let refused = |reason: Reason| (String::new(), reason);
    let line = std::str::from_utf8(line).map_err(|_| refused("the line is not UTF-8".into()))?;
    let Some(inner) = line.strip_prefix('{') else {
        // What is wrong with it, if it is not JSON at all.
        let reason = serde_json::from_str::<IgnoredAny>(line).err().map_or("the line is no JSON object".into(), malformed);
        return Err(refused(reason));
    };
    serde_json::from_str::<IgnoredAny>(line).map_err(|e| refused(malformed(e)))?;
    // From here on the line is known to be well-formed: each token is where it should be.
    let mut rest = inner.trim_start();
    let mut found = Fields::new();
    while rest.starts_with('"') {
        let (name, after) = text(rest).ok_or_else(|| refused("a field's name is no valid text".into()))?;
        rest = after.trim_start().trim_start_matches(':').trim_start();
        let value = match rest.as_bytes().first() {
            Some(b'"') => {
                let (value, after) = text(rest).ok_or_else(|| (name.clone().into_owned(), "the text is not valid".into()))?;
                rest = after;
                Value::Text(value)
            }
            Some(b'{' | b'[') => {
                let reason = "a nested value; flatten it before the load, or write it as a text";
                return Err((name.into_owned(), reason.into()));
            }
            _ => {
                let end = rest.find([',', '}', ' ', '\t', '\r', '\n']).unwrap_or(rest.len());
                let (value, after) = rest.split_at(end);
                rest = after;
                if value == "null" { Value::Null } else { Value::Plain(value) }
            }
        };
        if found.len() == limits.columns {
            let reason = format!("the line has more than {} fields; `ReadLimits::columns` can allow them", limits.columns);
            return Err(refused(reason.into()));
        }
        if value.cell().is_some_and(|text| text.len() > limits.field_bytes) || name.len() > limits.field_bytes {
            let reason = format!("longer than {} bytes; `ReadLimits::field_bytes` can allow it", limits.field_bytes);
            return Err((excerpt(&name).into_owned(), reason.into()));
        }
        found.push((name, value));
        rest = rest.trim_start().trim_start_matches(',').trim_start();
    }
    match twice(&found) {
        Some(name) => Err((name, "the line names the field twice".into())),
        None => Ok(found),
    }
}

/// The first field that a field before it has named.
fn twice(found: &Fields<'_>) -> Option<String> {
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

fn malformed(error: serde_json::Error) -> Reason {
    // Its own line count is always 1, and its column is in bytes of this line.
    let what = error.to_string();
    let what = what.split(" at line ").next().unwrap_or_default();
    format!("the line is no JSON at byte {}: {what}", error.column()).into()
}

/// The text at the beginning of a well-formed line's rest, and what follows it.
fn text(rest: &str) -> Option<(Cow<'_, str>, &str)> {
    let bytes = rest.as_bytes();
    let mut end = 1;
    let mut is_plain = true;
    while *bytes.get(end)? != b'"' {
        if bytes[end] == b'\\' {
            is_plain = false;
            end += 1;
        }
        end += 1;
    }
    let (quoted, after) = (rest.get(..=end)?, rest.get(end + 1..)?);
    let text = match is_plain {
        true => Cow::Borrowed(quoted.get(1..end)?),
        // An escape may still name half a character.
        false => Cow::Owned(serde_json::from_str(quoted).ok()?),
    };
    Some((text, after))
}

/// How the fields of JSON lines become the target's columns.
pub(crate) struct JsonReader {
    readers: Vec<ColumnParser>,
    /// The target's columns by their names.
    places: HashMap<String, usize>,
    names: Names,
    limits: ReadLimits,
}

/// A column's values in some of the rows; the others are NULL.
type Sparse<'a> = Vec<(usize, Value<'a>)>;

impl JsonReader {
    pub(crate) fn new(ingest: &Ingest, names: &Names, target: &Target) -> Self {
        let readers = column_parsers(&target.schema, ingest);
        let places = readers.iter().enumerate().map(|(place, reader)| (reader.name.clone(), place)).collect();
        Self { readers, places, names: names.clone(), limits: ingest.limits }
    }

    /// The lines as columns of the target.
    pub(crate) fn read(&self, lines: &Lines) -> Result<ParsedRows> {
        let mut refused = RowErrors::default();
        let mut cells: Vec<Sparse<'_>> = (0..self.readers.len()).map(|_| Vec::new()).collect();
        for (row, (line, _)) in lines.iter().enumerate() {
            if let Err((column, reason)) = fields(line, self.limits).and_then(|found| self.place(row, found, &mut cells)) {
                refused.add_shown(row, &column, || self.shown_value(line, &column), reason);
            }
        }
        let mut columns = Vec::with_capacity(self.readers.len());
        for (reader, cells) in self.readers.iter().zip(&cells) {
            let refuse = |row: usize, reason| {
                let value = cells.binary_search_by_key(&row, |(row, _)| *row).ok().and_then(|at| cells[at].1.cell());
                refused.add(row, &reader.name, || value.unwrap_or_default().as_bytes(), reason);
            };
            let mut left = cells.iter().peekable();
            let dense = (0..lines.len()).map(|row| {
                let (_, value) = left.next_if(|(at, _)| *at == row)?;
                value.cell().map(str::as_bytes)
            });
            columns.push(reader.read(dense, refuse)?);
        }
        refused.leave_out(lines.iter().map(|(_, number)| number).collect(), columns)
    }

    /// Puts the fields of a row to their columns.
    fn place<'a>(&self, row: usize, found: Fields<'a>, cells: &mut [Sparse<'a>]) -> Result<(), (String, Reason)> {
        for (name, value) in found {
            let name = self.names.resolve(name.trim());
            match self.places.get(name) {
                None if value == Value::Null => {}
                None => {
                    let reason = "the column was empty where types were inferred; declare its type";
                    return Err((name.to_owned(), reason.into()));
                }
                Some(&place) if cells[place].last().is_some_and(|(last, _)| *last == row) => {
                    let reason = "two fields of the line would be this column; rename one of them with `Ingest::rename`";
                    return Err((name.to_owned(), reason.into()));
                }
                Some(&place) => cells[place].push((row, value)),
            }
        }
        Ok(())
    }

    /// What the list of rejects shows of a line: the value of its column, or the beginning of the line.
    fn shown_value(&self, line: &[u8], column: &str) -> String {
        let Ok(found) = fields(line, self.limits) else { return excerpt_of_bytes(line).into_owned() };
        let value = found.iter().find(|(name, _)| self.names.resolve(name.trim()) == column).map(|(_, value)| value);
        excerpt(value.and_then(Value::cell).unwrap_or_default()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Vec<(String, Option<String>)>, String> {
        let found = fields(line.as_bytes(), ReadLimits::default()).map_err(|(field, reason)| format!("{field}: {reason}"))?;
        Ok(found.into_iter().map(|(name, value)| (name.into_owned(), value.cell().map(Into::into))).collect())
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
            (r#"{"a":1"#, "no JSON at byte 6"),
            (r#"{"a":1}{"a":2}"#, "no JSON at byte 8"),
            (r#"{"a":01}"#, "no JSON at byte"),
            (r#"{'a':1}"#, "no JSON at byte 2"),
            (r#"{"a":NaN}"#, "no JSON at byte"),
            ("[1]", "no JSON object"),
            ("7", "no JSON object"),
            ("at,id", "no JSON at byte 1"),
            (r#"{"a":{"b":1}}"#, "a: a nested value"),
            (r#"{"x":1,"a":[]}"#, "a: a nested value"),
            (r#"{"a":1,"a":2}"#, "a: the line names the field twice"),
            (r#"{"a":"\ud800"}"#, "a: the text is not valid"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
        assert!(fields(b"{\"a\":\"\xff\"}", ReadLimits::default()).unwrap_err().1.contains("UTF-8"));
    }
}
