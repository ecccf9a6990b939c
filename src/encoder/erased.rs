//! Encoders and row selections as trait objects, with states as JSON.
//! What they return is checked against what they declare.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, BooleanArray, RecordBatch},
    datatypes::{Schema, SchemaRef},
};
use serde_json::Value;

use super::{AsOfView, Encoder, FittedEncoder, Purpose, RowSelection, Spec, TrainingEncoder};
use crate::error::{Error, Result, panic_text};

/// An encoder with its learned state, for batches of exactly the declared inputs.
pub(crate) type Prepared = Box<dyn Fn(&RecordBatch) -> Result<Vec<ArrayRef>> + Send + Sync>;

/// A row selection with its learned state.
pub(crate) type PreparedSelection = Box<dyn Fn(&RecordBatch) -> Result<BooleanArray> + Send + Sync>;

/// Any encoder.
pub(crate) trait AnyEncoder: Send + Sync {
    fn spec(&self) -> Spec;
    /// Does it learn a state?
    fn is_fitted(&self) -> bool;
    fn fit(&self, view: &AsOfView<'_>) -> Result<Value>;
    fn prepare(self: Arc<Self>, state: &Value) -> Result<Prepared>;
    /// See [`FittedEncoder::training_encoder`].
    fn training_encoder(&self, state: &Value, view: &AsOfView<'_>) -> Result<Option<TrainingEncoder>>;
}

/// Any row selection.
pub(crate) trait AnySelection: Send + Sync {
    fn spec(&self) -> Spec;
    fn purpose(&self) -> Purpose;
    fn learns_in_any_order(&self) -> bool;
    fn fit(&self, view: &AsOfView<'_>) -> Result<Value>;
    fn prepare(self: Arc<Self>, state: &Value) -> Result<PreparedSelection>;
}

struct Pure<E>(E);
struct Fitted<E>(E);
struct Selection<S>(S);

/// Any encoder from a pure one.
pub(crate) fn pure<E: Encoder + 'static>(encoder: E) -> Arc<dyn AnyEncoder> {
    Arc::new(Pure(encoder))
}

/// Any encoder from a fitted one.
pub(crate) fn fitted<E: FittedEncoder + 'static>(encoder: E) -> Arc<dyn AnyEncoder> {
    Arc::new(Fitted(encoder))
}

/// Any selection.
pub(crate) fn selection<S: RowSelection + 'static>(step: S) -> Arc<dyn AnySelection> {
    Arc::new(Selection(step))
}

impl<E: Encoder + 'static> AnyEncoder for Pure<E> {
    fn spec(&self) -> Spec {
        self.0.spec()
    }

    fn is_fitted(&self) -> bool {
        false
    }

    fn fit(&self, _: &AsOfView<'_>) -> Result<Value> {
        Ok(Value::Null)
    }

    fn prepare(self: Arc<Self>, _: &Value) -> Result<Prepared> {
        let spec = self.spec();
        Ok(Box::new(move |input| checked(&spec, input, caught(&spec, || self.0.encode(input))?)))
    }

    fn training_encoder(&self, _: &Value, _: &AsOfView<'_>) -> Result<Option<TrainingEncoder>> {
        Ok(None)
    }
}

impl<E: FittedEncoder + 'static> AnyEncoder for Fitted<E> {
    fn spec(&self) -> Spec {
        self.0.spec()
    }

    fn is_fitted(&self) -> bool {
        true
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<Value> {
        let spec = self.0.spec();
        to_json(&spec, &caught(&spec, || self.0.fit(view))?)
    }

    fn prepare(self: Arc<Self>, state: &Value) -> Result<Prepared> {
        let spec = self.spec();
        let state = from_json::<E::State>(&spec, state)?;
        Ok(Box::new(move |input| checked(&spec, input, caught(&spec, || self.0.encode(&state, input))?)))
    }

    fn training_encoder(&self, state: &Value, view: &AsOfView<'_>) -> Result<Option<TrainingEncoder>> {
        let spec = self.spec();
        let state = from_json::<E::State>(&spec, state)?;
        let Some(mut encode) = caught(&spec, || self.0.training_encoder(&state, view))? else { return Ok(None) };
        Ok(Some(Box::new(move |rows| checked(&spec, rows, caught(&spec, || encode(rows))?))))
    }
}

impl<S: RowSelection + 'static> AnySelection for Selection<S> {
    fn spec(&self) -> Spec {
        self.0.spec()
    }

    fn purpose(&self) -> Purpose {
        self.0.purpose()
    }

    fn learns_in_any_order(&self) -> bool {
        self.0.learns_in_any_order()
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<Value> {
        let spec = self.0.spec();
        to_json(&spec, &caught(&spec, || self.0.fit(view))?)
    }

    fn prepare(self: Arc<Self>, state: &Value) -> Result<PreparedSelection> {
        let spec = self.spec();
        let state = from_json::<S::State>(&spec, state)?;
        Ok(Box::new(move |input| {
            let kept = caught(&spec, || self.0.keep(&state, input))?;
            if kept.len() != input.num_rows() {
                return Err(broken(&spec, format!("it returned {} decisions for {} rows", kept.len(), input.num_rows())));
            }
            Ok(kept)
        }))
    }
}

/// Turns a panic of the user's code into an error: a service must survive a request that its encoder did not expect.
fn caught<T>(spec: &Spec, run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|cause| Err(broken(spec, format!("it panicked: {}", panic_text(cause.as_ref())))))
}

fn broken(spec: &Spec, reason: String) -> Error {
    Error::Definition { subject: format!("`{}`", spec.name), reason }
}

fn to_json<T: serde::Serialize>(spec: &Spec, state: &T) -> Result<Value> {
    serde_json::to_value(state).map_err(|e| broken(spec, format!("its state cannot be written as JSON: {e}")))
}

fn from_json<T: serde::de::DeserializeOwned>(spec: &Spec, state: &Value) -> Result<T> {
    T::deserialize(state)
        .map_err(|e| broken(spec, format!("its state cannot be read back ({e}); JSON can hold only finite numbers")))
}

fn checked(spec: &Spec, input: &RecordBatch, columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
    if columns.len() != spec.outputs.len() {
        return Err(broken(spec, format!("it returned {} columns and declares {}", columns.len(), spec.outputs.len())));
    }
    for (column, declared) in columns.iter().zip(&spec.outputs) {
        if column.data_type() != declared.data_type() {
            let (found, name) = (column.data_type(), declared.name());
            return Err(broken(spec, format!("it returned `{name}` as {found} and declares {}", declared.data_type())));
        }
        if column.len() != input.num_rows() {
            let (found, name) = (column.len(), declared.name());
            return Err(broken(spec, format!("it returned {found} values of `{name}` for {} rows", input.num_rows())));
        }
    }
    Ok(columns)
}

/// The declared inputs of a spec, as a schema.
pub(crate) fn input_schema(spec: &Spec) -> SchemaRef {
    Arc::new(Schema::new(spec.inputs.clone()))
}

/// The columns of the view that a step learns from: its inputs, then what it only learns from.
pub(crate) fn learning_schema(spec: &Spec) -> SchemaRef {
    Arc::new(Schema::new(spec.inputs.iter().chain(&spec.learned_from).cloned().collect::<Vec<_>>()))
}
