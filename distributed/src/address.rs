//! Where a process listens: host and port.

use std::fmt;

use crate::ClusterError;

/// Host and port of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// Reads `df://host:port`, `http://host:port` or `host:port`.
    pub(crate) fn parse(url: &str) -> Result<Self, ClusterError> {
        let invalid = || ClusterError::InvalidUrl { url: url.to_owned() };
        let rest = url.strip_prefix("df://").or_else(|| url.strip_prefix("http://")).unwrap_or(url);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or_else(invalid)?;
        if host.is_empty() || host.contains(['/', '@', '?', '#']) {
            return Err(invalid());
        }
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| invalid())? })
    }

    /// As Ballista's clients take it.
    pub(crate) fn url(&self) -> String {
        format!("http://{self}")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_schedulers() {
        for url in ["df://h:50050", "http://h:50050/", "h:50050"] {
            assert_eq!(Address::parse(url).ok(), Some(Address { host: "h".into(), port: 50050 }), "{url}");
        }
        assert_eq!(Address::parse("df://[::1]:1").map(|a| a.url()).ok().as_deref(), Some("http://[::1]:1"));
        for url in ["", "h", "df://h", "https://h:1", "df://u:p@h:1", "df://h:1/x", "df://:1", "df://h:99999"] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }
}
