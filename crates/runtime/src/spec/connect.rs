//! What an agent may connect to: ports, and hosts with a port.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::parts::short;
use crate::RuntimeError;

/// Entries of the list.
const MOST: usize = 100;
/// Characters of a host's name.
const MOST_NAME: usize = 253;

/// Ports from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// A host, by its name or address, and a port of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostPort {
    /// The name, in small letters, or the address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What an agent may connect to besides the usual.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connect {
    /// Ports.
    pub ports: Vec<PortRange>,
    /// Hosts. Where only ports can be told apart, these are ports as well.
    pub hosts: Vec<HostPort>,
}

impl HostPort {
    /// Reads `host:port`; an IPv6 address stands in brackets.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.trim().rsplit_once(':')?;
        let port = port.parse().ok().filter(|&port| port > 0)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').filter(|rest| rest.contains(':'))?,
            // Of an address of version 6 nobody could tell where the port begins.
            None => Some(host).filter(|host| !host.contains(':'))?,
        };
        let fits = match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => {
                !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast()
            }
            Ok(IpAddr::V6(address)) => !address.is_unspecified() && !address.is_multicast(),
            Err(_) => is_name(host),
        };
        fits.then(|| Self {
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// Its address, when it is not a name.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Whether it is a name of a host. It is written into a file with one name a line, so nothing else
/// may stand in it.
fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    // What ends with a number is an address, and would be a wrong one.
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= MOST_NAME
        && text.split('.').all(part)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads the list.
pub(super) fn connect(given: &[String]) -> Result<Connect, RuntimeError> {
    if given.len() > MOST {
        let reason = format!("has over {MOST} entries; write ranges");
        return Err(RuntimeError::spec("connect", reason));
    }
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (0 < first && first <= last).then_some(PortRange { first, last })
    };
    let mut connect = Connect::default();
    for (index, text) in given.iter().enumerate() {
        if let Some(ports) = range(text) {
            connect.ports.push(ports);
        } else if let Some(host) = HostPort::parse(text) {
            connect.hosts.push(host);
        } else {
            let reason = format!(
                "`{}` is no port and no host with a port; write `27017`, `30000-30100`, \
                 `10.0.0.5:5432` or `db.example.com:5432`",
                short(text)
            );
            return Err(RuntimeError::spec(format!("connect[{index}]"), reason));
        }
    }
    Ok(connect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_a_port() {
        let parsed = |text: &str| HostPort::parse(text).map(|host| host.to_string());
        for (text, shown) in [
            ("db.Example.com:5432", "db.example.com:5432"),
            ("10.0.0.5:80", "10.0.0.5:80"),
            ("[fe80::1]:80", "[fe80::1]:80"),
            ("localhost:27017", "localhost:27017"),
        ] {
            assert_eq!(parsed(text).as_deref(), Some(shown));
        }
        for text in [
            "x",
            "x:0",
            "x:70000",
            ":80",
            "0.0.0.0:80",
            "[::]:80",
            "224.0.0.1:80",
            "1.2.3:80",
            "a b:80",
            "a\nb:80",
            "a..b:80",
            "fe80::1:80",
            "[x]:80",
            "http://x:80",
            "2001:db8::1",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
