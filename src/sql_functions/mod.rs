//! Functions of Presto, Trino and Athena that DataFusion lacks or means otherwise, in every SQL of this library.
//! They have Trino's documented meaning, or they are an error; none reads a clock or a session's zone.
//!
//! PLACEHOLDER
mod aggregates;
mod scalar;
mod texts;
mod times;
mod values;

use datafusion::prelude::SessionContext;

/// Makes the functions known to a session; those that it has under the same names are replaced.
pub(crate) fn register(session: &SessionContext) {
    for function in times::functions().into_iter().chain(texts::functions()).chain(values::functions()) {
        session.register_udf(function);
    }
    for function in aggregates::functions() {
        session.register_udaf(function);
    }
}
