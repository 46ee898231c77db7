//! Addresses that no single host can have: RFC 6890 for IPv4, RFC 4291 for
//! IPv6.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is that no host can have, with an article; `None` when a
/// host can have it.
pub fn reserved(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => reserved_ipv4(address),
        IpAddr::V6(address) => reserved_ipv6(address),
    }
}

fn reserved_ipv4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("an address of 0.0.0.0/8"),
        [127, ..] => Some("a loopback address"),
        [224..=239, ..] => Some("a multicast address"),
        [255, 255, 255, 255] => Some("the broadcast address"),
        [240..=255, ..] => Some("a reserved address"),
        _ => None,
    }
}

fn reserved_ipv6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("the loopback address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if address.to_ipv4_mapped().is_some() {
        Some("an IPv4-mapped address")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_no_host_are_named() {
        for (address, kind) in [
            ("0.0.0.0", "an address of 0.0.0.0/8"),
            ("127.0.0.1", "a loopback address"),
            ("224.0.0.1", "a multicast address"),
            ("239.255.255.255", "a multicast address"),
            ("240.0.0.1", "a reserved address"),
            ("255.255.255.255", "the broadcast address"),
            ("::", "the unspecified address"),
            ("::1", "the loopback address"),
            ("ff02::1", "a multicast address"),
            ("::ffff:192.0.2.1", "an IPv4-mapped address"),
        ] {
            assert_eq!(reserved(address.parse().unwrap()), Some(kind), "{address}");
        }
    }

    #[test]
    fn addresses_of_hosts_are_not() {
        for address in ["1.0.0.1", "198.51.100.10", "223.255.255.255", "2001:db8::1"] {
            assert_eq!(reserved(address.parse().unwrap()), None, "{address}");
        }
    }
}
