//! Which address a container is given. Skep chooses it, and goes once round the whole network before
//! it gives one again: the engine would give a dead container's address to the very next one, and a
//! call on its way to the dead would reach another agent.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use bollard::models::NetworkInspect;

/// The longest prefix of a network in which there is something to choose.
const LONGEST_PREFIX: u32 = 29;

/// The addresses of a network, in turn.
#[derive(Debug)]
pub(crate) struct Addresses {
    network: u32,
    gateway: u32,
    /// Those between the network's own and the broadcast address.
    count: u32,
    next: u32,
}

impl Addresses {
    /// Of a network as the engine shows it; begins at `start`, whatever it is.
    pub(crate) fn of(found: &NetworkInspect, start: u32) -> Option<Self> {
        let configs = found.ipam.as_ref()?.config.as_ref()?;
        let config = configs.first()?;
        Self::parse(config.subnet.as_deref()?, config.gateway.as_deref(), start)
    }

    fn parse(subnet: &str, gateway: Option<&str>, start: u32) -> Option<Self> {
        let (address, prefix) = subnet.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let prefix: u32 = prefix.parse().ok()?;
        if !(1..=LONGEST_PREFIX).contains(&prefix) {
            return None;
        }
        let size = 1 << (32 - prefix);
        let network = u32::from(address) & !(size - 1);
        // Without a word of it, the engine takes the first.
        let gateway = gateway.and_then(|text| text.split('/').next()?.parse::<Ipv4Addr>().ok());
        Some(Self {
            network,
            gateway: gateway.map_or(network + 1, u32::from),
            count: size - 2,
            next: start,
        })
    }

    /// This machine's own address there.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.gateway.into()
    }

    /// Those of the network: its gateway's, and those of who is in it.
    pub(crate) fn all(&self) -> RangeInclusive<Ipv4Addr> {
        (self.network + 1).into()..=(self.network + self.count).into()
    }

    /// Whether both are of the same network.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (self.network, self.gateway, self.count) == (other.network, other.gateway, other.count)
    }

    /// The next address in turn; another container may have it still.
    pub(crate) fn next(&mut self) -> Ipv4Addr {
        loop {
            let turn = self.next % self.count;
            self.next = turn + 1;
            let address = self.network + 1 + turn;
            if address != self.gateway {
                return address.into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn none_comes_again_before_all_others_did() {
        let mut addresses = Addresses::parse("10.1.2.0/24", Some("10.1.2.1"), 250).unwrap();
        let round: Vec<_> = (0..253).map(|_| addresses.next()).collect();
        let different: HashSet<_> = round.iter().collect();
        assert_eq!(different.len(), 253);
        assert!(
            round
                .iter()
                .all(|address| address.octets()[..3] == [10, 1, 2])
        );
        for never in [0, 1, 255] {
            assert!(!round.contains(&Ipv4Addr::new(10, 1, 2, never)));
        }
        assert_eq!(addresses.next(), round[0]);
    }

    #[test]
    fn knows_what_it_cannot_choose_from() {
        for subnet in ["10.0.0.0/30", "10.0.0.0", "fd00::/64", "10.0.0.0/0"] {
            assert!(Addresses::parse(subnet, None, 0).is_none(), "{subnet}");
        }
        let mut small = Addresses::parse("10.0.0.8/29", None, 0).unwrap();
        assert_eq!(small.next(), Ipv4Addr::new(10, 0, 0, 10));
    }
}
