//! Peers on the command line: `ADDR` or `ADDR/BITS`.
//!
//! An IPv4 address also matches on an IPv6 socket, where the kernel reports it as ::ffff:ADDR.

#![forbid(unsafe_code)]

use std::net::IpAddr;

/// The length of the prefix ::ffff:, which marks an IPv4 address.
const MAPPED_BITS: u32 = 96;

/// A range of addresses with the same leading bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// Parses a network, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| "is not an IP address")?;
        let width = width(address);
        let bits: u32 = match bits {
            None => width,
            // Digits only: Rust's numbers may have a sign.
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().map_err(|_| "needs a number of bits after the `/`")?
            }
            Some(_) => return Err("needs a number of bits after the `/`"),
        };
        if bits > width {
            return Err("has more bits after the `/` than the address");
        }
        match address.to_canonical() {
            mapped if mapped.is_ipv4() && address.is_ipv6() => {
                // A shorter prefix would match every IPv4 address and more, which is certainly a
                // mistake.
                let bits = bits.checked_sub(MAPPED_BITS).ok_or("cuts the ::ffff: prefix short")?;
                Ok(Self { address: mapped, bits })
            }
            address => Ok(Self { address, bits }),
        }
    }

    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if address.is_ipv4() != self.address.is_ipv4() {
            return false;
        }
        let differing = number(address) ^ number(self.address);
        let rest = width(address) - self.bits;
        differing.checked_shr(rest).unwrap_or_default() == 0
    }
}

fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => u32::BITS,
        IpAddr::V6(_) => u128::BITS,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(network: &str, address: &str) -> bool {
        let network = Network::parse(network).expect(network);
        network.contains(address.parse().expect(address))
    }

    #[test]
    fn holds_the_addresses_that_begin_with_its_bits() {
        assert!(holds("10.1.2.3", "10.1.2.3"));
        assert!(!holds("10.1.2.3", "10.1.2.2"));
        assert!(holds("10.1.0.0/16", "10.1.255.3"));
        assert!(!holds("10.1.0.0/16", "10.2.0.3"));
        assert!(holds("10.1.2.3/31", "10.1.2.2"));
        assert!(holds("0.0.0.0/0", "1.2.3.4"));
        assert!(!holds("0.0.0.0/0", "::1"));
        assert!(holds("fd00::/8", "fd12::1"));
        assert!(!holds("fd00::/8", "fe80::1"));
        assert!(holds("::/0", "fe80::1"));
    }

    #[test]
    fn an_address_on_an_ipv6_socket_is_the_same_peer() {
        assert!(holds("10.1.0.0/16", "::ffff:10.1.2.3"));
        assert!(holds("::ffff:10.1.2.3", "10.1.2.3"));
        assert!(holds("::ffff:10.1.0.0/112", "10.1.2.3"));
        assert!(!holds("::/0", "::ffff:10.1.2.3"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "/", "10.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/8/8"] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
        for text in ["::/129", "fd00::/x", "::ffff:10.0.0.0/8", "host", "10.0.0.0/99999999999"] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
    }
}
