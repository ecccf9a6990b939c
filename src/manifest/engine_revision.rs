//! What a materialization's rows depend on besides its definition and its facts: the code that makes them.
//! It knows no set and no table.

use serde::{Deserialize, Serialize};

/// The revision of everything between facts and rows: scans, SQL functions, lookups, windows, encoders, their order.
///
/// **Raise it with every change that may move a bit of any result.** `tests/it/goldens.rs` fails when the rows of its fixed
/// materializations move under an unchanged revision, and says how to record the new ones.
pub const ENGINE_REVISION: u32 = 3;

/// The code that made a materialization. Another one has another id, since its rows may be other ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineVersions {
    /// [`ENGINE_REVISION`].
    pub revision: u32,
    /// The version of DataFusion, which plans and runs the SQL.
    pub datafusion: String,
    /// The version of IANA's time-zone tables: `2025b`.
    pub time_zones: String,
}

impl EngineVersions {
    /// Those of this program.
    pub fn current() -> Self {
        Self {
            revision: ENGINE_REVISION,
            datafusion: datafusion::DATAFUSION_VERSION.into(),
            time_zones: chrono_tz::IANA_TZDB_VERSION.into(),
        }
    }
}
