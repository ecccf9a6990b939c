//! The functions of this library's SQL as a list, for plans that travel to other processes: its own, and those over lists, which
//! DataFusion has in a package of their own.

use std::{any::Any, sync::Arc};

use datafusion::{
    execution::SessionStateDefaults,
    logical_expr::{AggregateUDF, ScalarUDF, WindowUDF},
};
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

/// The functions that every process has by name: those of DataFusion. Settings of a session change some of them, so types are compared.
pub(crate) struct NamedFunctions {
    scalars: Vec<Arc<ScalarUDF>>,
    aggregates: Vec<Arc<AggregateUDF>>,
    windows: Vec<Arc<WindowUDF>>,
}

impl NamedFunctions {
    pub(crate) fn all() -> Self {
        Self {
            scalars: SessionStateDefaults::default_scalar_functions(),
            aggregates: SessionStateDefaults::default_aggregate_functions(),
            windows: SessionStateDefaults::default_window_functions(),
        }
    }

    pub(crate) fn has_scalar(&self, function: &ScalarUDF) -> bool {
        let named = |known: &&Arc<ScalarUDF>| known.name() == function.name();
        self.scalars.iter().find(named).is_some_and(|known| same_type(known.inner().as_ref(), function.inner().as_ref()))
    }

    pub(crate) fn has_aggregate(&self, function: &AggregateUDF) -> bool {
        let named = |known: &&Arc<AggregateUDF>| known.name() == function.name();
        self.aggregates.iter().find(named).is_some_and(|known| same_type(known.inner().as_ref(), function.inner().as_ref()))
    }

    pub(crate) fn has_window(&self, function: &WindowUDF) -> bool {
        let named = |known: &&Arc<WindowUDF>| known.name() == function.name();
        self.windows.iter().find(named).is_some_and(|known| same_type(known.inner().as_ref(), function.inner().as_ref()))
    }
}

fn same_type(a: &dyn Any, b: &dyn Any) -> bool {
    a.type_id() == b.type_id()
}
