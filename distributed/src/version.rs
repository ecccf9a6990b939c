//! Which version of asof a process is, and which processes may work together.
//! Ballista compares its own versions; this compares those that rows depend on: asof, its engine's revision, DataFusion, time zones.

use std::sync::LazyLock;

use asof::materialize::EngineVersions;

/// Stands before the version in the `user-agent` of every request.
const AGENT: &str = "asof/";
/// tonic appends its own name to the agent.
const TRANSPORT: &str = " tonic/";

/// The version of this process: of asof, and of what rows depend on. Processes of one cluster must have the same.
#[must_use]
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| format!("{}, {}", env!("CARGO_PKG_VERSION"), EngineVersions::current()));
    &VERSION
}

/// The `user-agent` of this process.
pub(crate) fn user_agent() -> String {
    format!("{AGENT}{}", version())
}

/// The version that a `user-agent` tells.
pub(crate) fn version_of_agent(agent: &str) -> Option<&str> {
    let version = agent.strip_prefix(AGENT)?;
    Some(version.rsplit_once(TRANSPORT).map_or(version, |(version, _)| version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_survives_the_way_through_the_transport() {
        assert_eq!(version_of_agent(&user_agent()), Some(version()));
        assert_eq!(version_of_agent(&format!("{} tonic/0.14.9", user_agent())), Some(version()));
        assert_eq!(version_of_agent("tonic/0.14.9"), None);
    }
}
