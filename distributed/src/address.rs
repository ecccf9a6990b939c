//! Where a process listens: host and port.

use std::{fmt, io::ErrorKind};

use tokio::net::TcpListener;

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

/// Listens at a port, which `flag` sets.
pub(crate) async fn listen(host: &str, port: u16, flag: &str) -> Result<TcpListener, ClusterError> {
    TcpListener::bind((host, port)).await.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => "end the process that listens there, or choose another port",
            ErrorKind::PermissionDenied => "choose a port above 1023, or run as a user who may listen there",
            _ => "choose an address of this machine with `--bind-host`",
        };
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        ClusterError::Listen { address, flag: flag.to_owned(), reason: format!("{error}; {advice}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_in_use_is_named_with_its_flag() {
        let Ok(first) = listen("127.0.0.1", 0, "--port").await else { unreachable!() };
        let Ok(address) = first.local_addr() else { unreachable!() };
        let error = listen("127.0.0.1", address.port(), "--task-port").await.err().map(|error| error.to_string());
        let error = error.unwrap_or_default();
        assert!(error.starts_with(&format!("cannot listen at {address} (`--task-port`): ")), "{error}");
        assert!(error.ends_with("choose another port"), "{error}");
        let error = listen("203.0.113.1", 0, "--port").await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("`--bind-host`"), "{error}");
    }

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
