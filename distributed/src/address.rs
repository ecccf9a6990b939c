//! Where a process listens: host and port.

use std::{fmt, io::ErrorKind, net::Ipv6Addr};

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
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(invalid)?;
        if !is_host(host) {
            return Err(invalid());
        }
        Ok(Self { host: host.to_owned(), port })
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

/// Whether a text is the name or address of a host; an IPv6 address stands in brackets.
pub(crate) fn is_host(text: &str) -> bool {
    let ipv6 = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match ipv6 {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)),
    }
}

/// Listens at a port, which `flag` sets.
pub(crate) async fn listen(host: impl ToString, port: u16, flag: &str) -> Result<TcpListener, ClusterError> {
    let host = host.to_string();
    let bare = host.trim_matches(['[', ']']);
    TcpListener::bind((bare, port)).await.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => "end the process that listens there, or choose another port",
            ErrorKind::PermissionDenied => "choose a port above 1023, or run as a user who may listen there",
            _ => "choose an address of this machine with `--bind-host`",
        };
        let address = if bare.contains(':') { format!("[{bare}]:{port}") } else { format!("{bare}:{port}") };
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
        for url in
            ["", "h", "df://h", "https://h:1", "df://u:p@h:1", "df://h:1/x", "df://:1", "df://h:99999", "df://h:0", "df://a b:1"]
        {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }
}
