//! The differences of two declared definitions, for error messages. Any difference makes another definition.

use serde_json::Value;

const SHOWN_AT_MOST: usize = 4;
const CHARACTERS_AT_MOST: usize = 120;

/// The parts of two definitions that differ, each with both of its values; `None` when they declare the same.
pub(crate) fn difference(known: &Value, own: &Value) -> Option<String> {
    let mut found = Vec::new();
    compare("", known, own, &mut found);
    let more = found.len().saturating_sub(SHOWN_AT_MOST);
    found.truncate(SHOWN_AT_MOST);
    let shown = found.join("; ");
    match (shown.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(shown),
        (false, more) => Some(format!("{shown}; and {more} more")),
    }
}

fn compare(path: &str, known: &Value, own: &Value, found: &mut Vec<String>) {
    let below = |name: &str| match (path, name) {
        // The key under which definitions have always been hashed.
        ("", "extract") => "query".to_owned(),
        ("", name) => name.to_owned(),
        (path, name) => format!("{path}.{name}"),
    };
    match (known, own) {
        (Value::Object(a), Value::Object(b)) => {
            let added = b.keys().filter(|name| !a.contains_key(*name));
            for name in a.keys().chain(added) {
                let of = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or(Value::Null);
                compare(&below(name), &of(a), &of(b), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&below(&i.to_string()), a, b, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(format!("`{path}` is {} there and {} here", shown(a), shown(b))),
    }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "not given".to_owned(),
        Value::String(text) => format!("`{text}`"),
        other => other.to_string(),
    };
    if text.chars().count() <= CHARACTERS_AT_MOST {
        return text;
    }
    let beginning: String = text.chars().take(CHARACTERS_AT_MOST).collect();
    format!("{beginning}...")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_part_is_named_with_both_values() {
        let a = json!({ "extract": "SELECT 1", "windows": [[3_600, ["count"]]], "labels": ["x"] });
        let b = json!({ "extract": "SELECT 2", "windows": [[7_200, ["count"]]], "labels": ["x"], "max_age_us": 5 });
        assert_eq!(
            difference(&a, &b).unwrap(),
            "`query` is `SELECT 1` there and `SELECT 2` here; `windows.0.0` is 3600 there and 7200 here; \
             `max_age_us` is not given there and 5 here"
        );
        assert_eq!(difference(&a, &a), None);
        let (many, others) = (json!((0..9).collect::<Vec<_>>()), json!((1..10).collect::<Vec<_>>()));
        assert!(difference(&many, &others).unwrap().ends_with("; and 5 more"));
        let long = difference(&json!({ "extract": "é".repeat(500) }), &json!({ "extract": "" })).unwrap();
        assert!(long.chars().count() < 200, "{long}");
    }
}
