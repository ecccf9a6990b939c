//! The fingerprint of a definition: a hash of everything that was declared, and a hash of what the code returns on fixed inputs.
//! A closure cannot be hashed, so its output is. If the second hash changes and the first does not, code has changed without a new
//! revision.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
        new_null_array,
    },
    compute::{cast, take_record_batch},
    datatypes::{DataType, Field, Float64Type, Schema, TimeUnit},
    util::display::{ArrayFormatter, FormatOptions},
};
use serde::{Deserialize, Serialize};

use super::{Drawn, SetBody, View, select_inputs};
use crate::{
    encoder::{AsOfView, Batches, Replay, Spec, ViewParts, input_schema, learning_schema},
    error::{Error, Result},
    name::{ContentId, SetName, TableName},
    time::{AsOf, Cutoff},
};

/// The hashes of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Fingerprint {
    /// The hash of the other two, which identifies the definition.
    pub id: ContentId,
    /// The hash of what was declared: SQL text, encoder names, revisions and parameters, windows, cutoff.
    pub declared: ContentId,
    /// The hash of what encoders and row selections return on fixed inputs.
    pub behaviour: ContentId,
}

impl Fingerprint {
    /// The hashes, and what was declared. `behaviour` is what [`behaviour`] returned.
    pub(super) fn take(
        name: &SetName,
        tables: &[TableName],
        cutoff: Cutoff,
        body: &SetBody,
        behaviour: ContentId,
    ) -> Result<(Self, Arc<serde_json::Value>)> {
        let json = declared(name, tables, cutoff, body)?;
        let declared = ContentId::of_json(&json);
        let id = ContentId::of(format!("{declared}{behaviour}").as_bytes());
        Ok((Self { id, declared, behaviour }, Arc::new(json)))
    }
}

fn declared(name: &SetName, tables: &[TableName], cutoff: Cutoff, body: &SetBody) -> Result<serde_json::Value> {
    let json = match body {
        SetBody::Rows(set) => {
            let mut json = serde_json::json!({
                "set": name, "tables": tables, "cutoff": cutoff,
                "extract": set.query, "event_time": set.event_time, "labels": set.labels,
                "selections": canonical(name, set.selections.iter().map(|s| s.spec()))?,
                "encoders": canonical(name, set.encoders.iter().map(|e| e.spec()))?,
            });
            if !set.drawn.is_empty() || !set.ahead.is_empty() {
                json["query_tables"] = set.query_tables.into();
            }
            if set.own_views > 0 {
                json["views"] = views(set.views.iter().take(set.own_views));
            }
            if !set.intermediate.is_empty() {
                // Neither their order nor saying it twice makes another definition.
                json["intermediate"] = set.intermediate.iter().map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect();
            }
            if let Some(at) = &set.at {
                json["at"] = at.as_str().into();
            }
            if !set.drawn.is_empty() {
                json["drawn"] = set.drawn.iter().map(Drawn::canonical).collect();
            }
            if !set.ahead.is_empty() {
                json["ahead"] = serde_json::json!(set.ahead);
            }
            json
        }
        SetBody::Entities(set) => {
            let (own, others) = set.sources.split_first().ok_or_else(|| Error::Internal {
                subject: format!("the fingerprint of feature set `{name}`"),
                reason: "it has no table".into(),
            })?;
            let mut json = serde_json::json!({
                "set": name, "tables": tables, "cutoff": cutoff,
                "table": set.table, "keys": set.keys, "lookups": own.lookups, "windows": own.windows,
            });
            // Settings that a definition does not use are left out, so that a new kind of setting changes no published fingerprint.
            if let Some(age) = own.max_age_us {
                json["max_age_us"] = age.into();
            }
            if !others.is_empty() {
                json["sources"] = serde_json::json!(others);
            }
            if !set.views.is_empty() {
                json["views"] = views(set.views.iter());
            }
            json
        }
    };
    Ok(json)
}

/// Views by name: their order makes no other definition.
fn views<'a>(views: impl Iterator<Item = &'a View>) -> serde_json::Value {
    let declared = |view: &View| (view.name().to_owned(), serde_json::json!({ "query": view.query(), "tables": view.tables() }));
    views.map(declared).collect::<serde_json::Map<_, _>>().into()
}

fn canonical(name: &SetName, specs: impl Iterator<Item = Spec>) -> Result<Vec<serde_json::Value>> {
    specs.map(|spec| serde_json::to_value(spec.canonical()).map_err(|e| unwritten(name, &spec, e))).collect()
}

fn unwritten(name: &SetName, spec: &Spec, cause: serde_json::Error) -> Error {
    let reason = format!("its parameters cannot be written as JSON: {cause}");
    Error::Step { set: name.to_string(), step: spec.name.clone(), reason, cause: None }
}

/// The hash of what every step returns on the fixed inputs, and the errors of the steps that fail. With an error there the hash
/// means nothing.
pub(super) fn behaviour(set: &str, body: &SetBody) -> (ContentId, Vec<Error>) {
    let SetBody::Rows(rows) = body else { return (ContentId::of(b"declared aggregates only"), Vec::new()) };
    let mut hasher = blake3::Hasher::new();
    let mut failed = Vec::new();
    for selection in &rows.selections {
        let spec = selection.spec();
        let run = |hasher: &mut blake3::Hasher| {
            let golden = Golden::of(&spec)?;
            let state = selection.fit(&golden.view(&spec))?;
            if selection.learns_in_any_order() && selection.fit(&golden.reversed()?.view(&spec))? != state {
                let reason = "it promises to learn the same in any order of the rows, and does not".into();
                return Err(Error::Definition { subject: format!("`{}`", spec.name), reason });
            }
            let keep = selection.clone().prepare(&state)?;
            take_in(hasher, &state, vec![Arc::new(keep(&golden.inputs(&spec)?)?) as ArrayRef])
        };
        failed.extend(run(&mut hasher).err().map(|e| failed_step(set, &spec, e)));
    }
    for encoder in &rows.encoders {
        let spec = encoder.spec();
        let run = |hasher: &mut blake3::Hasher| {
            let golden = Golden::of(&spec)?;
            let state = encoder.fit(&golden.view(&spec))?;
            let encode = encoder.clone().prepare(&state)?;
            let mut columns = encode(&golden.inputs(&spec)?)?;
            if let Some(mut encode) = encoder.training_encoder(&state, &golden.view(&spec))? {
                columns.extend(encode(&golden.0)?);
            }
            take_in(hasher, &state, columns)
        };
        failed.extend(run(&mut hasher).err().map(|e| failed_step(set, &spec, e)));
    }
    (ContentId::from_hash(hasher.finalize()), failed)
}

/// The error of a step, with the features that it makes and the columns that it reads: a set may have several steps of one name.
fn failed_step(set: &str, spec: &Spec, cause: Error) -> Error {
    let names = |fields: &[Field]| fields.iter().map(|f| format!("`{}`", f.name())).collect::<Vec<_>>().join(", ");
    let (features, columns) = (names(&spec.outputs), names(&spec.inputs));
    let of_columns = if columns.is_empty() { String::new() } else { format!(" of {columns}") };
    let place =
        if features.is_empty() { format!("the selection{of_columns}") } else { format!("feature {features}{of_columns}") };
    match Error::step(set, &spec.name, cause) {
        Error::Step { set, step, reason, cause } => {
            // An encoder may have named its feature itself.
            let reason = reason.strip_prefix(&format!("{features}: ")).map(str::to_owned).unwrap_or(reason);
            Error::Step { set, step, reason: format!("{place}: {reason}"), cause }
        }
        other => other,
    }
}

/// Hashes a state and the values of columns. Floats are hashed to ten digits, because the last digits of mathematical functions
/// differ between platforms.
fn take_in(hasher: &mut blake3::Hasher, state: &serde_json::Value, columns: Vec<ArrayRef>) -> Result<()> {
    hasher.update(ContentId::of_json(state).to_string().as_bytes());
    for column in columns {
        hasher.update(column.data_type().to_string().as_bytes());
        if let Some(floats) = column.as_primitive_opt::<Float64Type>() {
            for x in floats {
                hasher.update(x.map_or("null".to_owned(), |x| format!("{x:.9e}")).as_bytes());
                hasher.update(b"\n");
            }
        } else {
            let options = FormatOptions::default().with_null("null");
            let texts = ArrayFormatter::try_new(&column, &options)?;
            for row in 0..column.len() {
                hasher.update(texts.value(row).to_string().as_bytes());
                hasher.update(b"\n");
            }
        }
    }
    Ok(())
}

/// Fixed inputs: ordinary values and special ones, such as NULL.
struct Golden(RecordBatch);

impl Golden {
    fn of(spec: &Spec) -> Result<Self> {
        let schema = learning_schema(spec);
        let columns = schema.fields().iter().enumerate().map(|(i, field)| golden_column(i, field.data_type()));
        let columns = columns.collect::<Vec<_>>();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(ROWS));
        Ok(Self(RecordBatch::try_new_with_options(schema, columns, &options)?))
    }

    /// The columns that are encoded.
    fn inputs(&self, spec: &Spec) -> Result<RecordBatch> {
        select_inputs("the fixed inputs", &self.0, &input_schema(spec))
    }

    /// The same rows in reverse order.
    fn reversed(&self) -> Result<Self> {
        let last_first: UInt64Array = (0..ROWS as u64).rev().collect::<Vec<_>>().into();
        Ok(Self(take_record_batch(&self.0, &last_first)?))
    }

    fn view(&self, spec: &Spec) -> AsOfView<'_> {
        ViewParts { as_of: AsOf::from_micros(GOLDEN_AS_OF_US), columns: learning_schema(spec), rows: self }.into()
    }
}

impl Replay for Golden {
    fn replay(&self, columns: &Schema) -> Result<Batches<'_>> {
        let batch = select_inputs("the fixed inputs", &self.0, &Arc::new(columns.clone()))?;
        Ok(Box::new(std::iter::once(Ok(batch))))
    }
}

const ROWS: usize = 64;
const GOLDEN_AS_OF_US: i64 = 1_414_800_000_000_000;

fn golden_column(position: usize, data_type: &DataType) -> ArrayRef {
    // A fixed pseudo-random sequence: multiples of the golden ratio, shifted by the column.
    let word = |row: usize| ((row + 1 + 97 * position) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let unit = |row: usize| (word(row) >> 11) as f64 * (-53_f64).exp2();
    match data_type {
        DataType::Float64 => {
            let odd = [
                None,
                Some(0.0),
                Some(-0.0),
                Some(f64::NAN),
                Some(f64::INFINITY),
                Some(f64::NEG_INFINITY),
                Some(1e300),
                Some(-1.0),
            ];
            let number = |row: usize| odd.get(row).copied().unwrap_or_else(|| Some(unit(row) * 100.0 - 20.0));
            Arc::new((0..ROWS).map(number).collect::<Float64Array>())
        }
        DataType::Int64 => {
            let odd = [None, Some(0), Some(i64::MIN), Some(i64::MAX), Some(-1)];
            let number = |row: usize| odd.get(row).copied().unwrap_or_else(|| Some((unit(row) * 1_000.0) as i64));
            Arc::new((0..ROWS).map(number).collect::<Int64Array>())
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let odd = [None, Some(0), Some(-1), Some(1_414_909_800_000_000), Some(1_394_348_400_000_000)];
            let year_us = 366.0 * 86_400e6;
            let time = |row: usize| odd.get(row).copied().unwrap_or_else(|| Some(GOLDEN_AS_OF_US - (unit(row) * year_us) as i64));
            Arc::new((0..ROWS).map(time).collect::<TimestampMicrosecondArray>().with_timezone_opt(zone.clone()))
        }
        DataType::Utf8 => {
            let odd = [None, Some(""), Some("N/A"), Some("a,b\"c"), Some("Zürich")];
            let text = |row: usize| odd.get(row).map_or_else(|| Some(format!("{:x}", word(row) >> 40)), |t| t.map(str::to_owned));
            Arc::new((0..ROWS).map(text).collect::<StringArray>())
        }
        // Other types are cast from small integers, if there is a cast.
        other => {
            let small: ArrayRef =
                Arc::new((0..ROWS).map(|row| (row > 0).then(|| (unit(row) * 100.0) as i64)).collect::<Int64Array>());
            cast(&small, other).unwrap_or_else(|_| new_null_array(other, ROWS))
        }
    }
}
