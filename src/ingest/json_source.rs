//! JSON lines: one object a line, its fields by name in any order, numbers with every digit they are written with.
//! A line that is no object of plain values is a reject; it takes no values out of nested ones.

use std::{borrow::Cow, collections::HashMap, io::BufRead};

use arrow::array::ArrayRef;
use serde::de::IgnoredAny;

use super::{cell::CellReader, columns::Reading, names::Names, open::unreadable, sources::Source, time_cell::Reason};
use crate::error::{Error, Result};

/// The longest line that is read; a file without line ends is no JSON lines.
const LINE_BYTES: u64 = 64 << 20;

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

/// The lines of a file that are not blank.
pub(crate) struct JsonLines<'a> {
    source: &'a Source,
    text: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    number: u64,
}

impl<'a> JsonLines<'a> {
    pub(crate) fn open(source: &'a Source, text: Box<dyn BufRead + Send>) -> Self {
        Self { source, text, line: Vec::new(), number: 0 }
    }

    /// The next line and its number, counting from 1; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(&[u8], u64)>> {
        loop {
            self.line.clear();
            let mut limited = std::io::Read::take(&mut self.text, LINE_BYTES);
            let count = limited.read_until(b'\n', &mut self.line).map_err(|e| unreadable(self.source, &e))?;
            self.number += 1;
            if count == 0 {
                return Ok(None);
            }
            let refused = |reason: String| Err(Error::UnreadableFile { path: self.source.shown(), reason });
            if count as u64 == LINE_BYTES && self.line.last() != Some(&b'\n') {
                return refused(format!("line {} is longer than {LINE_BYTES} bytes; write one object a line", self.number));
            }
            if self.number == 1 && self.line.starts_with(b"\xef\xbb\xbf") {
                self.line.drain(..3);
            }
            let used = self.line.trim_ascii();
            if self.number == 1 && used.first() == Some(&b'[') {
                return refused("it is a JSON array; write one object a line, without brackets or commas around them".into());
            }
            if !used.is_empty() {
                // The borrow of a value that is returned from a loop would last for all of it.
                break;
            }
        }
        Ok(Some((self.line.trim_ascii(), self.number)))
    }
}

/// The fields of one line, in its order.
///
/// # Errors
/// The field and the reason, when the line is no JSON object, names a field twice or holds a nested value.
pub(crate) fn fields(line: &[u8]) -> Result<Fields<'_>, (String, Reason)> {
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
        if found.iter().any(|(known, _)| *known == name) {
            return Err((name.into_owned(), "the line names the field twice".into()));
        }
        found.push((name, value));
        rest = rest.trim_start().trim_start_matches(',').trim_start();
    }
    Ok(found)
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

/// Reads one file of JSON lines into batches of the target's schema and the line of each row; `emit` returns false when nobody
/// wants more.
pub(crate) fn read_json(
    reading: &Reading<'_>,
    names: &Names,
    text: Box<dyn BufRead + Send>,
    mut emit: impl FnMut(&[u64], Vec<ArrayRef>) -> Result<bool>,
) -> Result<()> {
    let Reading { ingest, source, target, rejects, batch_rows } = *reading;
    let shown = source.shown();
    let mut lines = JsonLines::open(source, text);
    let mut readers: Vec<CellReader> =
        target.schema.fields().iter().map(|field| CellReader::new(field, ingest)).collect::<Result<_>>()?;
    // Which column of the target a field is; `None` for one that has no type.
    let mut places: HashMap<String, Option<usize>> = HashMap::new();
    let mut cells: Vec<Option<usize>> = vec![None; readers.len()];
    let mut taken = Vec::with_capacity(batch_rows);
    while let Some((line, number)) = lines.next()? {
        let parsed = fields(line).and_then(|found| {
            cells.fill(None);
            for (i, (name, value)) in found.iter().enumerate() {
                let trimmed = name.trim();
                let place = match places.get(trimmed) {
                    Some(place) => *place,
                    None => {
                        let place = target.schema.column_with_name(names.resolve(trimmed)).map(|(at, _)| at);
                        places.insert(trimmed.to_owned(), place);
                        place
                    }
                };
                match place {
                    None if *value == Value::Null => {}
                    None => {
                        let reason = "the column was empty where types were inferred; declare its type";
                        return Err((names.resolve(trimmed).to_owned(), reason.into()));
                    }
                    Some(place) if cells[place].is_some() => {
                        let reason = "two fields of the line would be this column; rename one of them with `Ingest::rename`";
                        return Err((readers[place].name.clone(), reason.into()));
                    }
                    Some(place) => cells[place] = Some(i),
                }
            }
            for (reader, cell) in readers.iter_mut().zip(&cells) {
                let cell = cell.and_then(|i| found[i].1.cell());
                reader.parse(cell).map_err(|reason| (reader.name.clone(), reason))?;
            }
            Ok(())
        });
        match parsed {
            Ok(()) => {
                readers.iter_mut().for_each(CellReader::append);
                taken.push(number);
            }
            Err((column, reason)) => {
                let value = shown_value(line, &column, names);
                rejects.add(&shown, number, &column, &value, &reason)?;
            }
        }
        if taken.len() == batch_rows {
            if !emit(&taken, finished(&mut readers)?)? {
                return Ok(());
            }
            taken.clear();
        }
    }
    if !taken.is_empty() {
        emit(&taken, finished(&mut readers)?)?;
    }
    Ok(())
}

fn finished(readers: &mut [CellReader]) -> Result<Vec<ArrayRef>> {
    readers.iter_mut().map(CellReader::finish).collect()
}

/// What the list of rejects shows of a line: the value of its column, or the beginning of the line.
fn shown_value(line: &[u8], column: &str, names: &Names) -> String {
    const SHOWN_CHARS: usize = 200;
    let found = fields(line).unwrap_or_default();
    let value = found.iter().find(|(name, _)| names.resolve(name.trim()) == column).map(|(_, value)| value);
    match value {
        Some(value) => value.cell().unwrap_or_default().to_owned(),
        None if fields(line).is_ok() => String::new(),
        None => String::from_utf8_lossy(line).chars().take(SHOWN_CHARS).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Vec<(String, Option<String>)>, String> {
        let found = fields(line.as_bytes()).map_err(|(field, reason)| format!("{field}: {reason}"))?;
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
        assert!(fields(b"{\"a\":\"\xff\"}").unwrap_err().1.contains("UTF-8"));
    }
}
