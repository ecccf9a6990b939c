//! The differences of two declared definitions: in a short form for error messages, and part by part for people.
//! Any difference makes another definition.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::FeatureSet;
use crate::{name::SetName, time::shown_span};

const SHOWN_AT_MOST: usize = 4;
const CHARACTERS_AT_MOST: usize = 120;

/// How two definitions differ, as what must change in the first one to make the second; see [`FeatureSet::diff`]. It prints as
/// text.
///
/// The names of the sets do not count, nor do owners, descriptions, units and tags.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// The name of the first definition.
    pub from: SetName,
    /// The name of the second definition.
    pub to: SetName,
    /// Features that only the second one has, in its order.
    pub added: Vec<String>,
    /// Features that only the first one has, in its order.
    pub removed: Vec<String>,
    /// Every declared part that differs.
    pub parts: Vec<DifferentPart>,
    /// Do both declare the same steps, which then yield different values on fixed inputs? If so, code has changed and its revision
    /// has not.
    pub code_differs: bool,
}

/// A declared part that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DifferentPart {
    /// Which part: `query`, `encoders.0.revision`. Numbers count from 0, in the list of the first definition, and in that of the
    /// second one for an element that only this one has.
    pub part: String,
    /// Its value in the first definition; `None` when that does not declare it.
    pub from: Option<Value>,
    /// Its value in the second definition; `None` when that does not declare it.
    pub to: Option<Value>,
}

impl Difference {
    pub(super) fn between(from: &FeatureSet, to: &FeatureSet) -> Self {
        let mut parts = Vec::new();
        compare("", Some(&from.declared), Some(&to.declared), &mut parts);
        // The key under which definitions have always been hashed.
        parts.retain(|part| part.part != "set");
        let (own, others) = (from.features(), to.features());
        let without = |features: &[String], known: &[String]| features.iter().filter(|f| !known.contains(f)).cloned().collect();
        let steps = |set: &FeatureSet| ["selections", "encoders"].map(|steps| set.declared.get(steps).cloned());
        let code_differs = steps(from) == steps(to) && from.fingerprint.behaviour != to.fingerprint.behaviour;
        Self {
            from: from.name.clone(),
            to: to.name.clone(),
            added: without(&others, &own),
            removed: without(&own, &others),
            parts,
            code_differs,
        }
    }

    /// Do both declare the same, with code that does the same?
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && !self.code_differs
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, added, removed, parts, code_differs } = self;
        if self.is_empty() {
            return writeln!(f, "{from} and {to} are the same definition");
        }
        let count = parts.len();
        writeln!(f, "from {from} to {to}: {count} part{} differ{}", plural(count != 1), plural(count == 1))?;
        for (features, what) in [(added, "added"), (removed, "removed")] {
            if !features.is_empty() {
                writeln!(f, "features {what}: {}", features.join(", "))?;
            }
        }
        parts.iter().try_for_each(|part| write!(f, "{part}"))?;
        if *code_differs {
            writeln!(f, "the code of a step differs: with equal declarations they yield different values on fixed inputs")?;
        }
        Ok(())
    }
}

fn plural(is_plural: bool) -> &'static str {
    if is_plural { "s" } else { "" }
}

impl fmt::Display for DifferentPart {
    /// The part, and below it the first value with a minus and the second with a plus. Of texts with several lines the lines that
    /// both begin or end with are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.part)?;
        let text = |value: &Option<Value>| value.as_ref().map_or_else(String::new, |value| readable(&self.part, value));
        let (from, to) = (text(&self.from), text(&self.to));
        let (from, to): (Vec<&str>, Vec<&str>) = (from.lines().collect(), to.lines().collect());
        let (first, last) = common_ends(&from, &to);
        for line in &from[first..from.len() - last] {
            writeln!(f, "  - {line}")?;
        }
        for line in &to[first..to.len() - last] {
            writeln!(f, "  + {line}")?;
        }
        Ok(())
    }
}

/// A value as people read it: a text as it is, a length of time with its unit.
fn readable(part: &str, value: &Value) -> String {
    let (parent, last) = part.rsplit_once('.').unwrap_or(("", part));
    let is_window = last == "0" && parent.rsplit('.').nth(1) == Some("windows");
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if is_window || last == "max_age_us" => {
            number.as_i64().map_or_else(|| number.to_string(), shown_span)
        }
        Value::Null if is_window => "everything before".to_owned(),
        other => other.to_string(),
    }
}

/// The parts of two definitions that differ, each with both of its values; `None` when they declare the same.
pub(crate) fn difference(known: &Value, own: &Value) -> Option<String> {
    let mut found = Vec::new();
    compare("", Some(known), Some(own), &mut found);
    let more = found.len().saturating_sub(SHOWN_AT_MOST);
    found.truncate(SHOWN_AT_MOST);
    let part = |part: &DifferentPart| {
        let (there, here) = (shown(part.from.as_ref()), shown(part.to.as_ref()));
        format!("`{}` is {there} there and {here} here", part.part)
    };
    let shown = found.iter().map(part).collect::<Vec<_>>().join("; ");
    match (shown.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(shown),
        (false, more) => Some(format!("{shown}; and {more} more")),
    }
}

fn compare(path: &str, from: Option<&Value>, to: Option<&Value>, found: &mut Vec<DifferentPart>) {
    let below = |name: &str| match (path, name) {
        // The key under which definitions have always been hashed.
        ("", "extract") => "query".to_owned(),
        ("", name) => name.to_owned(),
        (path, name) => format!("{path}.{name}"),
    };
    match (from, to) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let added = b.keys().filter(|name| !a.contains_key(*name));
            for name in a.keys().chain(added) {
                compare(&below(name), a.get(name), b.get(name), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            // In a list that has grown or shrunk, only the elements between equal ends differ.
            let (first, last) = if a.len() == b.len() { (0, 0) } else { common_ends(a, b) };
            for i in first..a.len().max(b.len()) - last {
                let of = |list: &[Value]| list.get(i).filter(|_| i < list.len() - last).cloned();
                compare(&below(&i.to_string()), of(a).as_ref(), of(b).as_ref(), found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(DifferentPart { part: path.to_owned(), from: a.cloned(), to: b.cloned() }),
    }
}

/// How many elements two lists have in common at their beginning, and after these at their end.
fn common_ends<T: PartialEq>(a: &[T], b: &[T]) -> (usize, usize) {
    let first = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let last = a[first..].iter().rev().zip(b[first..].iter().rev()).take_while(|(a, b)| a == b).count();
    (first, last)
}

fn shown(value: Option<&Value>) -> String {
    let text = match value {
        None => "not given".to_owned(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(other) => other.to_string(),
    };
    if text.chars().count() <= CHARACTERS_AT_MOST {
        return text;
    }
    let beginning: String = text.chars().take(CHARACTERS_AT_MOST).collect();
    format!("{beginning}...")
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::json;

    use super::*;
    use crate::{feature_set::Description, temporal::Aggregate};

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

    fn parts(from: &Value, to: &Value) -> Vec<(String, Option<Value>, Option<Value>)> {
        let mut found = Vec::new();
        compare("", Some(from), Some(to), &mut found);
        found.into_iter().map(|part| (part.part, part.from, part.to)).collect()
    }

    #[test]
    fn of_a_list_that_has_grown_or_shrunk_only_the_elements_in_between_differ() {
        let list = |elements: &[&str]| json!({ "l": elements });
        let at = |part: &str, from: Option<&str>, to: Option<&str>| (part.to_owned(), from.map(Value::from), to.map(Value::from));
        assert_eq!(parts(&list(&["a", "b"]), &list(&["a", "x", "b"])), [at("l.1", None, Some("x"))]);
        assert_eq!(parts(&list(&["a", "x", "b"]), &list(&["a", "b"])), [at("l.1", Some("x"), None)]);
        assert_eq!(parts(&list(&[]), &list(&["a"])), [at("l.0", None, Some("a"))]);
        assert_eq!(
            parts(&list(&["a", "b", "c"]), &list(&["a", "d", "e", "c"])),
            [at("l.1", Some("b"), Some("d")), at("l.2", None, Some("e"))]
        );
        assert_eq!(parts(&list(&["a", "a"]), &list(&["a", "a", "a"])), [at("l.2", None, Some("a"))]);
        // A window without a length is declared as null, which is not the same as no window.
        assert_eq!(parts(&json!({ "l": [null] }), &json!({ "l": [] })), [("l.0".to_owned(), Some(Value::Null), None)]);
    }

    fn zones(name: &str, hours: i64) -> crate::feature_set::EntitySetBuilder {
        FeatureSet::entities(name, "trips").key("zone").window(TimeDelta::hours(hours), [Aggregate::count().named("trips")])
    }

    #[test]
    fn sets_are_compared_part_by_part_and_their_names_and_texts_do_not_count() {
        let first = zones("zones_v1", 1).build().unwrap();
        let same = zones("zones_v2", 1).owner("lab").describe("trips", Description::new().unit("trips")).build().unwrap();
        let none = first.diff(&same);
        assert!(none.is_empty() && none.parts.is_empty(), "{none:?}");
        assert_eq!(none.to_string(), "zones_v1 and zones_v2 are the same definition\n");

        let other = zones("zones_v2", 24).lookup("fare", "last_fare").max_age(TimeDelta::days(7)).build().unwrap();
        let difference = first.diff(&other);
        assert!(!difference.is_empty() && !difference.code_differs);
        assert_eq!((difference.added.as_slice(), difference.removed.len()), (["last_fare".to_owned()].as_slice(), 0));
        let told = difference.to_string();
        assert!(told.starts_with("from zones_v1 to zones_v2: 3 parts differ\nfeatures added: last_fare\n"), "{told}");
        assert!(told.contains("windows.0.0\n  - 1 hour\n  + 1 day\n"), "{told}");
        assert!(told.contains("max_age_us\n  + 7 days\n"), "{told}");
        assert!(other.diff(&first).to_string().contains("max_age_us\n  - 7 days\n"));
    }

    #[test]
    fn of_long_texts_only_the_lines_that_differ_are_shown() {
        let (from, to) = (Some("SELECT a\nFROM t\nWHERE a > 1".into()), Some("SELECT a\nFROM t\nJOIN u\nWHERE a > 1".into()));
        let part = DifferentPart { part: "query".into(), from, to };
        assert_eq!(part.to_string(), "query\n  + JOIN u\n");
    }
}
