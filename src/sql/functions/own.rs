//! The functions of this library's SQL as a list, for plans that travel to other processes: its own, and those over lists, which
//! DataFusion has in a package of their own.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;
use datafusion_functions_nested::all_default_nested_functions;

use super::scalars;

/// All scalar functions that [`register`](super::register) registers. Its aggregates are rewritten to others before a plan is made.
pub(crate) struct OwnFunctions {
    scalars: Vec<Arc<ScalarUDF>>,
}

impl OwnFunctions {
    pub(crate) fn all() -> Self {
        Self { scalars: scalars().map(Arc::new).chain(all_default_nested_functions()).collect() }
    }

    /// The function of this name or second name.
    pub(crate) fn scalar(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalars.iter().find(|f| f.name() == name || f.aliases().iter().any(|alias| alias == name)).cloned()
    }

    /// Is it one of these, and not DataFusion's of the same name?
    pub(crate) fn is_scalar(&self, function: &ScalarUDF) -> bool {
        self.scalar(function.name()).is_some_and(|own| *own == *function)
    }
}
