//! What an encoder or row selection declares about itself. Equal specs promise equal behaviour.

use arrow::datatypes::{DataType, Field};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::time::instant_type;

/// The declaration of an encoder or row selection: name, revision, parameters, inputs and outputs.
///
/// The **revision** stands for the code: raise it whenever the output may change. A change without a new revision is detected by
/// running the encoder on fixed inputs, and refused.
///
/// ```
/// use arrow::datatypes::DataType;
/// use asof::encoder::Spec;
/// let spec = Spec::new("tip_rate", 1).number("tip_amount").number("fare_amount").output("tip_rate", DataType::Float64);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Spec {
    pub(crate) name: String,
    pub(crate) revision: u32,
    pub(crate) parameters: Map<String, Value>,
    pub(crate) inputs: Vec<Field>,
    /// Columns that are read while it learns, and not when rows are encoded.
    pub(crate) learned_from: Vec<Field>,
    pub(crate) outputs: Vec<Field>,
}

impl Spec {
    /// A declaration without inputs and outputs.
    pub fn new(name: impl Into<String>, revision: u32) -> Self {
        Self {
            name: name.into(),
            revision,
            parameters: Map::new(),
            inputs: Vec::new(),
            learned_from: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Adds an input column of this type; a column of the set's query is widened to it if that changes no value.
    pub fn input(mut self, column: impl Into<String>, data_type: DataType) -> Self {
        self.inputs.push(Field::new(column, data_type, true));
        self
    }

    /// Adds an input column of numbers, read as `Float64`.
    pub fn number(self, column: impl Into<String>) -> Self {
        self.input(column, DataType::Float64)
    }

    /// Adds an input column of instants, read as microseconds UTC.
    pub fn instant(self, column: impl Into<String>) -> Self {
        self.input(column, instant_type())
    }

    /// Adds an input column of categories, read as text.
    ///
    /// A text is read as it is. An integer is written in decimal digits, a boolean as `true` or `false`, a date as `2014-11-01`, so
    /// that a category is the same text whatever the type of its column. Floats and instants are refused: write them as text in the
    /// query.
    pub fn category(self, column: impl Into<String>) -> Self {
        self.input(column, DataType::Utf8)
    }

    /// Adds a column that a fitted encoder learns from and that no request has, such as a label. The encoder sees it in
    /// [`FittedEncoder::fit`](super::FittedEncoder::fit) and
    /// [`FittedEncoder::training_encoder`](super::FittedEncoder::training_encoder), after its inputs, and never in `encode`.
    pub fn learned_from(mut self, column: impl Into<String>, data_type: DataType) -> Self {
        self.learned_from.push(Field::new(column, data_type, true));
        self
    }

    /// Adds an output column; it may hold NULL.
    pub fn output(mut self, column: impl Into<String>, data_type: DataType) -> Self {
        self.outputs.push(Field::new(column, data_type, true));
        self
    }

    /// Adds a parameter that changes the output. It is part of the fingerprint.
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// The spec as it enters the definition's hash.
    pub(crate) fn canonical(&self) -> impl Serialize {
        #[derive(Serialize)]
        struct Canonical {
            name: String,
            revision: u32,
            parameters: Map<String, Value>,
            inputs: Vec<(String, String)>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            learned_from: Vec<(String, String)>,
            outputs: Vec<(String, String)>,
        }
        let pairs = |fields: &[Field]| fields.iter().map(|f| (f.name().clone(), f.data_type().to_string())).collect();
        Canonical {
            name: self.name.clone(),
            revision: self.revision,
            parameters: self.parameters.clone(),
            inputs: pairs(&self.inputs),
            learned_from: pairs(&self.learned_from),
            outputs: pairs(&self.outputs),
        }
    }
}
