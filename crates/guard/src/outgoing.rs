//! Which addresses Skep may ask: none that only its own machine or network can reach, unless somebody allowed
//! it. Against addresses of others that lead back inside (server-side request forgery).
//!
//! Pure. Who connects resolves a name once, asks here of each address that it got, and connects to one of
//! those that are permitted, not to the name again; and it asks anew of each redirect.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Special blocks of IPv4 that are not reached over the internet (IANA's registry of special-purpose
/// addresses, RFC 6890), and multicast.
const SPECIAL_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
/// Of IPv6 only this block is global unicast; and of it these are special.
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const SPECIAL_V6: [(Ipv6Addr, u8); 4] = [
    // Teredo, benchmarks, ORCHID.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // 6to4: leads to an address of IPv4 that stands in it.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];
/// The cloud's own services, by an address that looks like any: refused unless it is named itself.
const METADATA: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// A block of addresses: `10.1.0.0/16`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    first: IpAddr,
    bits: u8,
}

impl FromStr for Block {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no block of addresses such as 10.1.0.0/16 or fd00::/8");
        let (first, bits) = match text.trim().split_once('/') {
            Some((first, bits)) => (first, Some(bits.parse().map_err(|_| wrong())?)),
            None => (text.trim(), None),
        };
        let first: IpAddr = first.parse().map_err(|_| wrong())?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        let block = Self { first, bits };
        // One that begins in its middle was meant otherwise.
        let begins = bits <= most && block.start(first) == Some(number(first));
        begins.then_some(block).ok_or_else(wrong)
    }
}

/// An address as a number of 128 bits, whose lowest are those of IPv4.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl Block {
    /// Where a block of this size that has the address begins, when both are of one family.
    fn start(&self, address: IpAddr) -> Option<u128> {
        if address.is_ipv4() != self.first.is_ipv4() {
            return None;
        }
        let width = if address.is_ipv4() { 32 } else { 128 };
        let host = u32::from(width - self.bits);
        let mask = u128::MAX.checked_shl(host).unwrap_or_default();
        Some(number(address) & mask)
    }

    fn has(&self, address: IpAddr) -> bool {
        self.start(address) == Some(number(self.first))
    }
}

/// The address of IPv4 that is meant by one of IPv6, where it is.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else {
        return address;
    };
    // NAT64 (RFC 6052) is another way to write an address of IPv4.
    let segments = six.segments();
    if segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        let [.., a, b] = segments;
        let (high, low) = (a.to_be_bytes(), b.to_be_bytes());
        return IpAddr::from([high[0], high[1], low[0], low[1]]);
    }
    address.to_canonical()
}

/// Whether an address is one of the internet.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match plain(address) {
        IpAddr::V4(four) => !SPECIAL_V4.iter().any(|(first, bits)| {
            let block = Block {
                first: (*first).into(),
                bits: *bits,
            };
            block.has(four.into())
        }),
        IpAddr::V6(six) => {
            let within = |(first, bits): &(Ipv6Addr, u8)| {
                let block = Block {
                    first: (*first).into(),
                    bits: *bits,
                };
                block.has(six.into())
            };
            within(&GLOBAL_V6) && !SPECIAL_V6.iter().any(within)
        }
    }
}

/// What may be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    allowed: Vec<Block>,
}

impl Outgoing {
    /// The internet and these blocks.
    #[must_use]
    pub fn new(allowed: Vec<Block>) -> Self {
        Self { allowed }
    }

    /// Whether this address may be asked.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = plain(address);
        let named = |it: &Block| it.has(address) && it.first == address;
        if METADATA.contains(&address) {
            return self.allowed.iter().any(named);
        }
        is_public(address) || self.allowed.iter().any(|block| block.has(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:200::1",
            "2a00::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
        ] {
            assert!(is_public(ip(public)), "{public}");
        }
        for special in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            // The same by other ways of writing it.
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "2002:7f00:1::",
            "::127.0.0.1",
        ] {
            assert!(!is_public(ip(special)), "{special}");
        }
    }

    #[test]
    fn what_is_allowed_is_a_block_and_no_more() {
        let of = |blocks: &[&str]| {
            let blocks = blocks.iter().map(|text| text.parse().unwrap());
            Outgoing::new(blocks.collect())
        };
        let office = of(&["10.1.0.0/16", "fd12::/16"]);
        for (address, may) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd12::1", true),
            ("fd13::1", false),
            ("1.1.1.1", true),
            ("127.0.0.1", false),
        ] {
            assert_eq!(office.permits(ip(address)), may, "{address}");
        }
        assert!(!Outgoing::default().permits(ip("10.1.2.3")));
        // The cloud's own service is never a part of what was meant.
        let metadata = ip("169.254.169.254");
        assert!(!of(&["169.254.0.0/16"]).permits(metadata));
        assert!(!of(&["0.0.0.0/0"]).permits(metadata));
        assert!(!of(&["0.0.0.0/0"]).permits(ip("64:ff9b::a9fe:a9fe")));
        assert!(of(&["169.254.169.254"]).permits(metadata));
        assert!(of(&["0.0.0.0/0"]).permits(ip("127.0.0.1")));
        assert!(!of(&["0.0.0.0/0"]).permits(ip("::1")), "another family");
    }

    #[test]
    fn blocks_begin_where_they_say() {
        for wrong in [
            "",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "::/129",
            "10/8",
            "localhost",
            "10.0.0.0/x",
        ] {
            assert!(wrong.parse::<Block>().is_err(), "{wrong}");
        }
    }
}
