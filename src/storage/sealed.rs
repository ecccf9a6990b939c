//! Checksums of the root's JSON files: the last field of a file is the checksum of everything before it.
//! Whether the content belongs to the file's name is checked by the readers, with [`check_name`].
//!
//! ```json
//! { "format": 2, ...,
//!   "checksum": "<BLAKE3 of all bytes before this line's comma, in hexadecimal>"
//! }
//! ```
//!
//! The checksum is of bytes, not of values, so no canonical form is needed.

use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    error::{Error, Result},
    name::ContentId,
};

const HEAD: &[u8] = b",\n  \"checksum\": \"";
const TAIL: &[u8] = b"\"\n}\n";
const DIGITS: usize = 64;
const SEAL: usize = HEAD.len() + DIGITS + TAIL.len();

/// Adds the checksum to a JSON object that has at least one field; `what` names it in errors.
pub(crate) fn seal(what: &str, object: serde_json::Result<Vec<u8>>) -> Result<Vec<u8>> {
    let refused = |reason: String| Error::Corrupt { path: what.into(), reason };
    let mut text = object.map_err(|e| refused(format!("it cannot be written as JSON: {e}")))?;
    let without_end = text.strip_suffix(b"}").map(|text| text.trim_ascii_end().len());
    text.truncate(without_end.ok_or_else(|| refused("it is not a JSON object, and nothing else can be sealed".into()))?);
    let checksum = ContentId::of(&text).to_string();
    text.extend_from_slice(HEAD);
    text.extend_from_slice(checksum.as_bytes());
    text.extend_from_slice(TAIL);
    Ok(text)
}

/// Reads a sealed object of this format; `path` names it in errors, and `remedy` says what to do about a damaged one.
///
/// # Errors
/// [`Error::Format`] for another format, [`Error::Corrupt`] when the checksum is missing or wrong, or the content is not what
/// it should be.
pub(crate) fn unseal<T: DeserializeOwned>(path: &str, bytes: &[u8], format: u32, remedy: &str) -> Result<T> {
    /// The field that every file of every format has.
    #[derive(Deserialize)]
    struct FormatHead {
        #[serde(default)]
        format: serde_json::Value,
    }
    let damaged = |reason: String| Error::Corrupt { path: path.into(), reason: format!("{reason}; {remedy}") };
    // Another format may have another checksum, or none.
    let head = serde_json::from_slice::<FormatHead>(bytes);
    match &head {
        Ok(head) if head.format != format && !head.format.is_null() => {
            return Err(Error::Format { path: path.into(), found: head.format.to_string(), expected: format });
        }
        Ok(_) => {}
        Err(e) => return Err(damaged(e.to_string())),
    }
    check(bytes).map_err(|reason| damaged(reason.into()))?;
    serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))
}

fn check(bytes: &[u8]) -> Result<(), &'static str> {
    let (text, seal) = bytes.split_at(bytes.len().saturating_sub(SEAL));
    let checksum = seal.strip_prefix(HEAD).and_then(|rest| rest.strip_suffix(TAIL));
    match checksum {
        None => Err("it does not end in its checksum, so it was cut off or changed by hand"),
        Some(digits) if digits == ContentId::of(text).to_string().as_bytes() => Ok(()),
        Some(_) => Err("its checksum is not that of its content, so it was damaged or changed by hand"),
    }
}

/// Refuses a file whose content belongs to another name; `end` is what its path must end in.
pub(crate) fn check_name(path: &str, end: &str, remedy: &str) -> Result<()> {
    let is_own = path.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('/'));
    match is_own {
        true => Ok(()),
        false => Err(Error::Corrupt {
            path: path.into(),
            reason: format!("its content is that of `{end}`, so it was copied or renamed by hand; {remedy}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn open(bytes: &[u8]) -> Result<serde_json::Value> {
        unseal("root/x.json", bytes, 2, "restore it")
    }

    #[test]
    fn a_sealed_object_is_json_and_any_other_byte_is_noticed() {
        let content = json!({ "format": 2, "name": "ä", "files": [1, 2, { "deep": null }] });
        for text in [serde_json::to_vec(&content), serde_json::to_vec_pretty(&content)] {
            let sealed = seal("x", text).unwrap();
            let mut found = open(&sealed).unwrap();
            assert_eq!(found.as_object_mut().unwrap().remove("checksum").map(|c| c.as_str().unwrap().len()), Some(DIGITS));
            assert_eq!(found, content);
            for at in 0..sealed.len() {
                for bit in 0..8 {
                    let mut other = sealed.clone();
                    other[at] ^= 1 << bit;
                    assert!(open(&other).is_err(), "bit {bit} of byte {at}");
                }
                assert!(open(&sealed[..at]).is_err(), "cut off at {at}");
                let mut other = sealed.clone();
                other.remove(at);
                assert!(open(&other).is_err(), "without byte {at}");
            }
        }
    }

    #[test]
    fn another_format_is_told_from_damage() {
        let old = open(br#"{"format":1,"version":1}"#).unwrap_err();
        assert!(matches!(&old, Error::Format { found, expected: 2, .. } if found == "1"), "{old}");
        for text in ["", "{", "[]", "{}", r#"{"format":2}"#, "\u{0}"] {
            let error = open(text.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{text}: {error}");
            assert!(error.to_string().contains("restore it"), "{error}");
        }
        assert!(seal("x", serde_json::to_vec(&[1])).is_err());
    }

    #[test]
    fn a_name_is_whole_parts_of_a_path() {
        assert!(check_name("/root/a/v1.json", "a/v1.json", "").is_ok());
        assert!(check_name("a/v1.json", "a/v1.json", "").is_ok());
        assert!(check_name("/root/ba/v1.json", "a/v1.json", "").is_err());
        assert!(check_name("/root/a/v2.json", "a/v1.json", "").is_err());
    }
}
