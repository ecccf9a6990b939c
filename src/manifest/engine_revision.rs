//! The versions of the code that a materialization's rows depend on, besides its definition and its facts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The revision of everything between facts and rows: scans, SQL functions, lookups, windows, encoders, their order.
///
/// **Raise it with every change that may move a bit of any result.** `tests/it/goldens.rs` fails when the rows of its fixed
/// materializations change under an unchanged revision, and says how to record the new ones.
pub const ENGINE_REVISION: u32 = 5;

/// The versions of the code that made a materialization. They are part of the id, since other code may produce other rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EngineVersions {
    /// [`ENGINE_REVISION`].
    pub revision: u32,
    /// The version of DataFusion, which plans and runs the SQL.
    pub datafusion: String,
    /// The version of IANA's time-zone tables: `2025b`.
    pub time_zones: String,
}

impl EngineVersions {
    /// The versions in this program.
    pub fn current() -> Self {
        Self {
            revision: ENGINE_REVISION,
            datafusion: datafusion::DATAFUSION_VERSION.into(),
            time_zones: chrono_tz::IANA_TZDB_VERSION.into(),
        }
    }
}

impl fmt::Display for EngineVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {}, DataFusion {}, time zones {}", self.revision, self.datafusion, self.time_zones)
    }
}
