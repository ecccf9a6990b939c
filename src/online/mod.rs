//! Serving: features of a request, encoded with the states that training learned, and features of an entity by its key.
//! Nothing is learned or recomputed here: the answers are the bits that the materialization holds.
//!
//! | to | see |
//! |---|---|
//! | serve one materialization | [`Online`] |
//! | move to newer ones while serving | [`Live`], [`LiveGroup`], [`Watch`] |
//! | see what is served, and whether it is still followed | [`LiveStatus`] |

mod drawn;
mod entities;
mod feature_row;
mod live;
mod live_set;
mod live_status;
mod read_counts;
mod serve;
mod snapshot;
mod watch;

pub use feature_row::FeatureRow;
pub use live::LiveGroup;
pub use live_set::Live;
pub use live_status::{DrawnStatus, LiveStatus, Moved, Refresh};
pub use read_counts::Reads;
pub use serve::Online;
pub use snapshot::Snapshot;
pub use watch::Watch;
