//! The conformance cases as types: what `tests/conformance/README.md` describes, read from JSON or made by a generator.
//! Nothing here knows how a question is answered.

#![allow(unreachable_pub)]
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};
use serde_json::Value;

/// Columns and their types, written as a JSON object whose order counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns(pub Vec<(String, String)>);

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, data_type) in &self.0 {
            map.serialize_entry(name, data_type)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> de::Visitor<'de> for InOrder {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of column names and types")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    columns.push(entry);
                }
                Ok(Columns(columns))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct Theme {
    pub theme: String,
    pub cases: Vec<Case>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    pub why: String,
    pub facts: Facts,
    pub spine: Spine,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookup: Option<Lookup>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    pub expected: Vec<Vec<Value>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    pub event_time: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tie_break: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identity: Vec<String>,
    pub columns: Columns,
    pub rows: Vec<Vec<Value>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spine {
    pub at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    pub columns: Columns,
    pub rows: Vec<Vec<Value>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cutoff {
    #[default]
    Exclusive,
    Inclusive,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// Pairs (spine column, fact column).
    pub on: Vec<(String, String)>,
    pub columns: Vec<String>,
    #[serde(default)]
    pub cutoff: Cutoff,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    pub on: Vec<(String, String)>,
    #[serde(default)]
    pub cutoff: Cutoff,
    pub spans: Vec<Span>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// A duration. Without one, and without a span of a calendar, it is everything before the instant.
    pub length: Option<String>,
    /// `month`, `week` or `day` of the zone, so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub this: Option<String>,
    /// So many months by the zone's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub months: Option<u32>,
    /// The span ends at the newest boundary of the zone's clock; boundaries are this duration apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop: Option<String>,
    /// Or so many months.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop_months: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Of the facts in reach only so many of the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<u32>,
    /// Of the facts in reach only those newer than the newest one that passes this filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    pub aggregates: Vec<Aggregate>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    pub op: Op,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    Count,
    CountDistinct,
    ApproxCountDistinct,
    Sum,
    Mean,
    Variance,
    Stddev,
    Slope,
    Min,
    Max,
    First,
    Last,
    MaxBy,
    MinBy,
    FirstK,
    LastK,
    Median,
    Quantile,
    Mode,
    TopK,
    TopShare,
    Entropy,
}

/// A duration such as `90s` in microseconds.
pub fn micros(duration: &str) -> i64 {
    let digits = duration.len() - duration.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit()).len();
    let (number, unit) = duration.split_at(digits);
    let factor = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => panic!("`{duration}` has no unit of us, ms, s, m, h, d"),
    };
    number.parse::<i64>().unwrap() * factor
}
