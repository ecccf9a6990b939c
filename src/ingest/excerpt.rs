//! Shortens values for messages and lists of rejects.

use std::borrow::Cow;

/// The most characters of a value that are shown.
const SHOWN_CHARS: usize = 200;

/// A value for messages: of a long one, its beginning and its length.
pub(crate) fn excerpt(value: &str) -> Cow<'_, str> {
    match value.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}... ({} bytes)", &value[..end], value.len())),
        None => Cow::Borrowed(value),
    }
}

/// As [`excerpt`], of bytes that may not be UTF-8.
pub(crate) fn excerpt_of_bytes(value: &[u8]) -> Cow<'_, str> {
    // A character has at most four bytes.
    let Some(beginning) = value.get(..4 * SHOWN_CHARS + 4) else {
        return Cow::Owned(excerpt(&String::from_utf8_lossy(value)).into_owned());
    };
    let text: String = String::from_utf8_lossy(beginning).chars().take(SHOWN_CHARS).collect();
    Cow::Owned(format!("{text}... ({} bytes)", value.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_between_characters() {
        assert_eq!(excerpt("short"), "short");
        assert_eq!(excerpt(&"x".repeat(SHOWN_CHARS)), "x".repeat(SHOWN_CHARS));
        assert_eq!(excerpt(&"ü".repeat(300)), format!("{}... (600 bytes)", "ü".repeat(SHOWN_CHARS)));
        assert_eq!(excerpt_of_bytes("ü".repeat(5_000).as_bytes()), format!("{}... (10000 bytes)", "ü".repeat(SHOWN_CHARS)));
        assert_eq!(excerpt_of_bytes(b"a\xff"), "a\u{fffd}");
    }
}
