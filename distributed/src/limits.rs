//! The values that options may have. Flags are checked when they are read, and the options of a program before anything starts.

use std::{fmt::Display, net::IpAddr, ops::RangeInclusive};

use crate::{ClusterError, address::is_host};

/// Seconds of a time-out or between two signs of life: up to eleven days.
pub const SECONDS: RangeInclusive<u64> = 1..=1_000_000;
/// Seconds that a scheduler waits for jobs when it stops.
pub const DRAIN_SECONDS: RangeInclusive<u64> = 0..=1_000_000;
/// Bytes of the largest message.
pub const MESSAGE_BYTES: RangeInclusive<u64> = 65_536..=u32::MAX as u64;
/// Failures of input or output that a task may have.
pub const ATTEMPTS: RangeInclusive<u64> = 1..=1_000;
/// Partitions that an executor works on at a time; 0 is one for each processor.
pub const VCORES: RangeInclusive<u64> = 0..=4_096;
/// The least memory of an executor for each partition that it works on at a time, in bytes.
pub const MEMORY_OF_VCORE: u64 = 1 << 20;

/// The most bytes of a name.
const NAME_BYTES: usize = 128;

/// Reads the name of an executor.
///
/// # Errors
/// What a name may be, if this is none.
pub fn name(text: &str) -> Result<String, String> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.is_empty() || text.len() > NAME_BYTES || !text.chars().all(is_of_name) {
        return Err(format!("{text:?} is no name: use up to {NAME_BYTES} letters, digits, dots, hyphens and underscores"));
    }
    Ok(text.to_owned())
}

/// Reads the name or address of a host.
///
/// # Errors
/// What a host may be, if this is none.
pub fn host(text: &str) -> Result<String, String> {
    if is_host(text) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no host: write a name or an address alone, without a scheme and without a port"))
}

/// Reads an address to listen at: an IP address.
///
/// # Errors
/// What an address may be, if this is none.
pub fn ip(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| format!("{text:?} is no IP address: write 0.0.0.0 for all addresses, or one of this machine"))
}

/// Whether a value is in its range.
pub(crate) fn within<T: Display + PartialOrd>(option: &str, value: T, range: &RangeInclusive<T>) -> Result<(), ClusterError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(invalid(option, format!("{value} is not possible: use {} to {}", range.start(), range.end())))
}

/// Whether a text is what this reads.
pub(crate) fn reads<T>(option: &str, text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<T, ClusterError> {
    read(text).map_err(|reason| invalid(option, reason))
}

pub(crate) fn invalid(option: &str, reason: String) -> ClusterError {
    ClusterError::InvalidOption { option: option.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hosts_and_addresses() {
        for text in ["e", "executor-1", "rack_2.node-7"] {
            assert!(name(text).is_ok(), "{text}");
        }
        for text in ["", " ", "a b", "a(b)", "a\nb", "\u{2045}asof", &"x".repeat(129)] {
            assert!(name(text).is_err(), "{text}");
        }
        for text in ["localhost", "host-a.local", "10.0.0.1", "[::1]", "under_score"] {
            assert!(host(text).is_ok(), "{text}");
        }
        for text in ["", "http://h", "h:1", "h/x", "u@h", "a b", "h\n"] {
            assert!(host(text).is_err(), "{text}");
        }
        assert!(ip("127.0.0.1").is_ok() && ip("::1").is_ok() && ip("[::1]").is_ok());
        assert!(ip("localhost").is_err() && ip("").is_err());
    }

    #[test]
    fn a_value_outside_of_its_range_is_told_with_the_range() {
        assert!(within("--heartbeat", 3, &SECONDS).is_ok());
        let error = within("--heartbeat", 0, &SECONDS).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("--heartbeat: 0 is not possible: use 1 to 1000000"));
    }
}
