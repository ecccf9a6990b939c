//! Values as messages and lists of rejects show them: long ones are cut.

use std::borrow::Cow;

/// Characters of a value that messages and lists of rejects show.
const SHOWN_CHARS: usize = 200;

/// A value as people read it: the beginning of a long one, and how long it is.
pub(crate) fn excerpt(value: &str) -> Cow<'_, str> {
    match value.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}... ({} bytes)", &value[..end], value.len())),
        None => Cow::Borrowed(value),
    }
}

/// As [`excerpt`], of bytes that may be no text.
pub(crate) fn excerpt_of_bytes(value: &[u8]) -> Cow<'_, str> {
    // No character has more than four bytes.
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
