//! Free ports on loopback for instances.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use parking_lot::Mutex;

/// The lowest port that is given to an agent; well-known services live below.
pub(crate) const LOWEST: u16 = 20_000;
/// Fewer ports than these below the ephemeral range are not worth looking at.
pub(crate) const FEWEST: u16 = 2_000;
const TRIES: usize = 64;

/// Hands out ports and remembers which are in use by instances.
pub(crate) struct Ports {
    range: Option<Range<u16>>,
    taken: Mutex<HashSet<u16>>,
}

/// Where agents' ports are taken from, if there is such a place. Outside the range from which the
/// kernel takes ports for outgoing connections nothing takes the port between our look and the
/// agent's bind, and a connection to a port where nobody listens yet cannot meet itself.
pub(crate) fn range() -> Option<Range<u16>> {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse::<u16>().ok())
        .filter(|&first| first >= LOWEST + FEWEST)
        .map(|first| LOWEST..first)
}

impl Ports {
    pub(crate) fn new() -> Self {
        Self {
            range: range(),
            taken: Mutex::default(),
        }
    }

    /// A port that is free now.
    pub(crate) fn take(&self) -> std::io::Result<u16> {
        let mut last = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        for attempt in 0..TRIES {
            let wanted = match &self.range {
                Some(range) if attempt < TRIES / 2 => fastrand::u16(range.clone()),
                _ => 0,
            };
            match TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).and_then(|l| l.local_addr()) {
                Ok(address) if self.taken.lock().insert(address.port()) => {
                    return Ok(address.port());
                }
                Ok(_) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Marks the port of an adopted instance.
    pub(crate) fn keep(&self, port: u16) {
        self.taken.lock().insert(port);
    }

    /// Gives a port back.
    pub(crate) fn release(&self, port: u16) {
        self.taken.lock().remove(&port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_out_each_port_once() {
        let ports = Ports::new();
        let mut seen: Vec<u16> = (0..200).map(|_| ports.take().unwrap()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 200);
        ports.release(seen[0]);
        assert_eq!(ports.taken.lock().len(), 199);
    }
}
