//! A Rust closure as an encoder.
//! A closure cannot be hashed; its spec's revision and its output on fixed inputs identify it.

use std::fmt;

use arrow::array::{ArrayRef, RecordBatch};

use super::{Encoder, Spec};
use crate::error::Result;

/// An [`Encoder`] made of a spec and a closure; see [`encoder_fn`].
#[must_use]
pub struct FnEncoder<F> {
    spec: Spec,
    encode: F,
}

/// A pure encoder from a closure.
///
/// ```
/// use std::sync::Arc;
/// use arrow::array::AsArray;
/// use arrow::datatypes::{DataType, Float64Type};
/// use asof::encoder::{Spec, encoder_fn};
///
/// let spec = Spec::new("squared", 1).number("trip_distance").output("distance_squared", DataType::Float64);
/// let squared = encoder_fn(spec, |input| {
///     let distance = input.column(0).as_primitive::<Float64Type>();
///     Ok(vec![Arc::new(distance.unary::<_, Float64Type>(|x| x * x))])
/// });
/// ```
pub fn encoder_fn<F>(spec: Spec, encode: F) -> FnEncoder<F>
where
    F: Fn(&RecordBatch) -> Result<Vec<ArrayRef>> + Send + Sync + 'static,
{
    FnEncoder { spec, encode }
}

impl<F> Encoder for FnEncoder<F>
where
    F: Fn(&RecordBatch) -> Result<Vec<ArrayRef>> + Send + Sync + 'static,
{
    fn spec(&self) -> Spec {
        self.spec.clone()
    }

    fn encode(&self, input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        (self.encode)(input)
    }
}

impl<F> fmt::Debug for FnEncoder<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FnEncoder({})", self.spec.name)
    }
}
