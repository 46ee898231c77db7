//! What makes a flow unique, and how it is hashed.
//!
//! A flow is the full 5-tuple of a client's packet, so that no two flows can
//! ever share a connection. The hash is keyed with random numbers made at
//! start: clients choose the bytes that go into it, and must not be able to
//! choose where their connections end up in our table (`HashDoS`).
//!
//! This hash is for our own tables only. What schedulers and RSS compute over
//! the same bytes is fixed by others and lives with them.
#![forbid(unsafe_code)]

use std::{
    collections::hash_map::RandomState,
    fmt::{self, Debug},
    hash::BuildHasher,
    net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use bytemuck::Zeroable;

/// A key of the connection table: the identity of a flow of one IP version.
///
/// The key of zero bytes is what a free slot of the table holds; it need not be
/// different from every real key.
pub trait FlowKey: Copy + Eq + Zeroable + Debug + Send + Sync + 'static {
    /// The keyed hash of the flow. All 64 bits are usable.
    fn hash(&self, key: &HashKey) -> FlowHash;

    /// Whether it is the same flow.
    #[inline]
    fn is(&self, other: &Self) -> bool {
        self == other
    }

    /// The flow in a form that both IP versions share.
    fn endpoints(&self) -> Endpoints;

    /// The flow that the packets in the other direction seem to belong to.
    #[must_use]
    fn reversed(self) -> Self;
}

/// A flow of either IP version, for everything but the connection table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoints {
    /// Address and L4 port of the client.
    pub client: SocketAddr,
    /// VIP and service port.
    pub service: SocketAddr,
    /// The IP protocol number of the payload (IANA).
    pub protocol: u8,
}

/// A flow over IPv4, in two words that are compared and hashed as they are.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Zeroable)]
#[repr(C)]
pub struct FlowKeyV4 {
    /// The client's address in the upper half, the VIP in the lower one.
    addresses: u64,
    /// From bit 32 on the protocol, then the client's L4 port, and in the
    /// lowest 16 bits the service's.
    rest: u64,
}

impl FlowKeyV4 {
    /// The flow from `client` to `service` of IP protocol `protocol`.
    pub fn new(client: SocketAddrV4, service: SocketAddrV4, protocol: u8) -> Self {
        Self {
            addresses: u64::from(client.ip().to_bits()) << 32 | u64::from(service.ip().to_bits()),
            rest: u64::from(protocol) << 32
                | u64::from(client.port()) << 16
                | u64::from(service.port()),
        }
    }

    /// The flow of a packet of a client: source and destination address, source
    /// and destination port, each as they stand in the headers, and the number
    /// in the IP header's protocol field (IANA).
    #[inline]
    pub const fn of_headers(addresses: [u8; 8], l4_ports: [u8; 4], protocol: u8) -> Self {
        Self {
            addresses: u64::from_be_bytes(addresses),
            rest: u32::from_be_bytes(l4_ports) as u64 | (protocol as u64) << 32,
        }
    }

    /// Address and port of the client.
    pub fn client_address(&self) -> SocketAddrV4 {
        let [octets @ .., _, _, _, _] = self.addresses.to_be_bytes();
        let [_, _, _, _, high, low, _, _] = self.rest.to_be_bytes();
        SocketAddrV4::new(octets.into(), u16::from_be_bytes([high, low]))
    }

    /// VIP and service port.
    pub fn service_address(&self) -> SocketAddrV4 {
        let [_, _, _, _, octets @ ..] = self.addresses.to_be_bytes();
        let [.., high, low] = self.rest.to_be_bytes();
        SocketAddrV4::new(octets.into(), u16::from_be_bytes([high, low]))
    }

    /// VIP, protocol and service port in one number: from the highest byte to
    /// the lowest four, two and two bytes.
    #[inline]
    pub const fn service_word(&self) -> u64 {
        self.addresses << 32 | self.rest >> 16 & 0xffff_0000 | self.rest & 0xffff
    }

    /// The number in the IP header's protocol field (IANA).
    pub const fn protocol(&self) -> u8 {
        self.rest.to_be_bytes()[3]
    }
}

impl FlowKey for FlowKeyV4 {
    #[inline]
    fn hash(&self, key: &HashKey) -> FlowHash {
        key.hash_two(self.addresses, self.rest)
    }

    /// One branch for the whole key, and only "all equal" is likely.
    #[inline]
    fn is(&self, other: &Self) -> bool {
        (self.addresses ^ other.addresses) | (self.rest ^ other.rest) == 0
    }

    fn endpoints(&self) -> Endpoints {
        Endpoints {
            client: self.client_address().into(),
            service: self.service_address().into(),
            protocol: self.protocol(),
        }
    }

    fn reversed(self) -> Self {
        Self::new(
            self.service_address(),
            self.client_address(),
            self.protocol(),
        )
    }
}

impl Debug for FlowKeyV4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (client, service) = (self.client_address(), self.service_address());
        write!(f, "{client} > {service} protocol {}", self.protocol())
    }
}

/// A flow over IPv6. Addresses are two halves in host byte order, the upper one
/// first; so are all other numbers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Zeroable)]
#[repr(C)]
pub struct FlowKeyV6 {
    /// The client's address (CIP).
    pub client: [u64; 2],
    /// The virtual address (VIP).
    pub vip: [u64; 2],
    /// The client's TCP, UDP or SCTP port.
    pub client_port: u16,
    /// The service's TCP, UDP or SCTP port.
    pub service_port: u16,
    /// The number of the protocol that follows the extension headers (IANA).
    pub protocol: u8,
}

impl FlowKeyV6 {
    /// The flow from `client` to `service` of IP protocol `protocol`.
    pub fn new(client: SocketAddrV6, service: SocketAddrV6, protocol: u8) -> Self {
        Self {
            client: halves(*client.ip()),
            vip: halves(*service.ip()),
            client_port: client.port(),
            service_port: service.port(),
            protocol,
        }
    }

    /// Address and port of the client.
    pub fn client_address(&self) -> SocketAddrV6 {
        SocketAddrV6::new(joined(self.client), self.client_port, 0, 0)
    }

    /// VIP and service port.
    pub fn service_address(&self) -> SocketAddrV6 {
        SocketAddrV6::new(joined(self.vip), self.service_port, 0, 0)
    }

    fn words(&self) -> [u64; 5] {
        let rest = u64::from(self.client_port)
            | u64::from(self.service_port) << 16
            | u64::from(self.protocol) << 32;
        let ([a, b], [c, d]) = (self.client, self.vip);
        [a, b, c, d, rest]
    }
}

/// The upper and the lower half of an address.
pub(crate) fn halves(address: Ipv6Addr) -> [u64; 2] {
    let octets = address.octets();
    let (halves, _) = octets.as_chunks::<8>();
    [0, 1].map(|half| {
        halves
            .get(half)
            .map_or(0, |octets| u64::from_be_bytes(*octets))
    })
}

fn joined([upper, lower]: [u64; 2]) -> Ipv6Addr {
    Ipv6Addr::from_bits(u128::from(upper) << 64 | u128::from(lower))
}

impl FlowKey for FlowKeyV6 {
    #[inline]
    fn hash(&self, key: &HashKey) -> FlowHash {
        key.hash_five(self.words())
    }

    #[inline]
    fn is(&self, other: &Self) -> bool {
        let pairs = self.words().into_iter().zip(other.words());
        pairs.fold(0, |differing, (one, other)| differing | (one ^ other)) == 0
    }

    fn endpoints(&self) -> Endpoints {
        Endpoints {
            client: self.client_address().into(),
            service: self.service_address().into(),
            protocol: self.protocol,
        }
    }

    fn reversed(self) -> Self {
        Self {
            client: self.vip,
            vip: self.client,
            client_port: self.service_port,
            service_port: self.client_port,
            protocol: self.protocol,
        }
    }
}

impl Debug for FlowKeyV6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (client, service) = (self.client_address(), self.service_address());
        write!(f, "{client} > {service} protocol {}", self.protocol)
    }
}

/// The hash of a flow under one [`HashKey`].
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowHash(u64);

impl FlowHash {
    /// The hash as a number, for sharding and tests.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Maps the hash evenly to `0..range` by its upper half.
    #[inline]
    pub const fn reduce(self, range: u32) -> u32 {
        (((self.0 >> 32) * range as u64) >> 32) as u32
    }

    /// Maps the hash evenly to `0..range` by bits that neither
    /// [`reduce`](Self::reduce) nor the lowest 16 have part in: flows that this
    /// takes to the same place are spread by those as if nothing had chosen
    /// them.
    #[inline]
    pub const fn reduce_apart(self, range: u16) -> u32 {
        ((self.0 >> 16 & 0xffff) as u32 * range as u32) >> 16
    }
}

/// The secret of the hash: three random numbers made at start.
#[derive(Clone, Copy)]
pub struct HashKey([u64; 3]);

impl HashKey {
    /// A key from the operating system's random numbers.
    pub fn random() -> Self {
        let source = RandomState::new();
        Self([0_u64, 1, 2].map(|n| source.hash_one(n)))
    }

    /// A known key, for tests and benches that must repeat.
    pub const fn from_seed(seed: [u64; 3]) -> Self {
        Self(seed)
    }

    /// Hash of two words: two multiplications to 128 bits, each folded to 64
    /// by XOR of its halves.
    ///
    /// Each word of a flow meets a secret before it is multiplied. The second
    /// multiplication spreads what the first left in the middle bits over the
    /// upper half, which chooses the slot.
    #[inline]
    pub const fn hash_two(&self, first: u64, second: u64) -> FlowHash {
        let [k0, k1, k2] = self.0;
        let mixed = folded_multiply(first ^ k0, second ^ k1);
        FlowHash(folded_multiply(mixed ^ k2, SPREAD))
    }

    /// Hash of five words: as of two, with each further pair of words mixed
    /// into the sum of those before.
    #[inline]
    pub const fn hash_five(&self, words: [u64; 5]) -> FlowHash {
        let [k0, k1, k2] = self.0;
        let mixed = folded_multiply(words[0] ^ k0, words[1] ^ k1);
        let mixed = folded_multiply(words[2] ^ k2, words[3] ^ mixed.rotate_left(23) ^ k0);
        let mixed = folded_multiply(words[4] ^ k1, mixed ^ k2);
        FlowHash(folded_multiply(mixed ^ k0, SPREAD))
    }
}

// The secret must not reach a log.
impl Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

/// 2^64 divided by the golden ratio, made odd: no pattern of bits.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "both halves of the product are used"
)]
const fn folded_multiply(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::{mem::size_of, net::Ipv4Addr};

    use super::*;

    const KEY: HashKey = HashKey::from_seed([
        0x243f_6a88_85a3_08d3,
        0x1319_8a2e_0370_7344,
        0xa409_3822_299f_31d0,
    ]);

    const CLIENT: u32 = 0xcb00_7107;
    const VIP: u32 = 0xc633_640a;

    fn key(client: u32, vip: u32, client_port: u16, service_port: u16) -> FlowKeyV4 {
        FlowKeyV4::new(
            SocketAddrV4::new(client.into(), client_port),
            SocketAddrV4::new(vip.into(), service_port),
            6,
        )
    }

    fn flow(n: u32, pattern: usize) -> FlowKeyV4 {
        let low = u16::try_from(n & 0xffff).unwrap();
        match pattern {
            0 => key(CLIENT, VIP, low, 80),
            1 => key(0x0a00_0000 + n, VIP, 40_000, 80),
            2 => key(n << 16, VIP, 40_000, 80),
            3 => key(CLIENT, 0xc633_0000 + n, 40_000, 80),
            4 => key(0x0a00_0000 + n, VIP, low, 80),
            _ => key(CLIENT, VIP, 40_000, low),
        }
    }

    /// Chi-square of `count` flows of one pattern over 1024 cells chosen by
    /// `cell`; 1023 degrees of freedom, so about 1023 with a standard deviation
    /// of 45 for a random function.
    fn chi_square(key: &HashKey, pattern: usize, cell: impl Fn(FlowHash) -> u32) -> f64 {
        let count = 65_536_u32;
        let mut cells = vec![0_u32; 1024];
        for n in 0..count {
            cells[cell(flow(n, pattern).hash(key)) as usize] += 1;
        }
        let expected = f64::from(count) / 1024.0;
        cells
            .iter()
            .map(|&seen| (f64::from(seen) - expected).powi(2) / expected)
            .sum()
    }

    #[test]
    fn sequential_flows_spread_evenly_over_slots() {
        for pattern in 0..6 {
            let chi = chi_square(&KEY, pattern, |hash| hash.reduce(1024));
            assert!(
                (700.0..1350.0).contains(&chi),
                "pattern {pattern}: chi-square {chi}"
            );
        }
    }

    #[test]
    fn low_bits_spread_evenly_too() {
        for pattern in 0..6 {
            let cell = |hash: FlowHash| u32::try_from(hash.as_u64() & 1023).unwrap();
            let chi = chi_square(&KEY, pattern, cell);
            assert!(
                (700.0..1350.0).contains(&chi),
                "pattern {pattern}: chi-square {chi}"
            );
        }
    }

    #[test]
    fn the_bits_between_spread_evenly_and_leave_the_others_to_spread() {
        for pattern in 0..6 {
            let chi = chi_square(&KEY, pattern, |hash| hash.reduce_apart(1024));
            assert!(
                (700.0..1350.0).contains(&chi),
                "pattern {pattern}: chi-square {chi}"
            );
            // Of those in one of four places.
            let cells = (0..65_536_u32).fold([0_u32; 16], |mut cells, n| {
                let hash = flow(n, pattern).hash(&KEY);
                if hash.reduce_apart(4) == 1 {
                    cells[hash.reduce(16) as usize] += 1;
                }
                cells
            });
            assert!(
                cells.iter().all(|count| (850..1200).contains(count)),
                "pattern {pattern}: {cells:?}"
            );
        }
    }

    #[test]
    fn every_bit_of_the_flow_changes_about_half_of_the_hash() {
        let base = flow(7, 4);
        let reference = base.hash(&KEY).as_u64();
        let variants = (0..40)
            .map(|bit| FlowKeyV4 {
                rest: base.rest ^ 1 << bit,
                ..base
            })
            .chain((0..64).map(|bit| FlowKeyV4 {
                addresses: base.addresses ^ 1 << bit,
                ..base
            }));
        for variant in variants {
            assert_ne!(variant, base);
            let changed = (variant.hash(&KEY).as_u64() ^ reference).count_ones();
            assert!(
                (12..=52).contains(&changed),
                "{variant:?} changed {changed} bits"
            );
        }
    }

    fn flow_v6(n: u32, pattern: usize) -> FlowKeyV6 {
        let base = FlowKeyV6 {
            client: [0x2001_0db8_000c_0000, 7],
            vip: [0x2001_0db8_00ff_0000, 0x10],
            client_port: 40_000,
            service_port: 443,
            protocol: 6,
        };
        match pattern {
            0 => FlowKeyV6 {
                client_port: u16::try_from(n & 0xffff).unwrap(),
                ..base
            },
            1 => FlowKeyV6 {
                client: [base.client[0], u64::from(n)],
                ..base
            },
            2 => FlowKeyV6 {
                client: [base.client[0] + u64::from(n), 7],
                ..base
            },
            _ => FlowKeyV6 {
                vip: [base.vip[0], u64::from(n)],
                ..base
            },
        }
    }

    #[test]
    fn sequential_flows_over_ipv6_spread_evenly() {
        for pattern in 0..4 {
            let count = 65_536_u32;
            let mut cells = vec![0_u32; 1024];
            for n in 0..count {
                cells[flow_v6(n, pattern).hash(&KEY).reduce(1024) as usize] += 1;
            }
            let expected = f64::from(count) / 1024.0;
            let chi: f64 = cells
                .iter()
                .map(|&seen| (f64::from(seen) - expected).powi(2) / expected)
                .sum();
            assert!(
                (700.0..1350.0).contains(&chi),
                "pattern {pattern}: chi-square {chi}"
            );
        }
    }

    #[test]
    fn every_bit_of_a_flow_over_ipv6_changes_about_half_of_the_hash() {
        let base = flow_v6(7, 1);
        let reference = base.hash(&KEY).as_u64();
        let words = base.words();
        // 16 + 16 bits of ports and 8 of the protocol in the last word.
        for (word, bits) in [(0, 64), (1, 64), (2, 64), (3, 64), (4, 40)] {
            for bit in 0..bits {
                let mut changed = words;
                changed[word] ^= 1 << bit;
                let hash = KEY.hash_five(changed).as_u64();
                let differing = (hash ^ reference).count_ones();
                assert!(
                    (12..=52).contains(&differing),
                    "bit {bit} of word {word} changed {differing} bits"
                );
            }
        }
    }

    #[test]
    fn a_flow_over_ipv6_prints_and_converts_its_addresses() {
        let client: SocketAddrV6 = "[2001:db8:c::7]:40001".parse().unwrap();
        let service: SocketAddrV6 = "[2001:db8:ff::10]:80".parse().unwrap();
        let flow = FlowKeyV6::new(client, service, 6);
        assert_eq!(
            format!("{flow:?}"),
            "[2001:db8:c::7]:40001 > [2001:db8:ff::10]:80 protocol 6"
        );
        assert_eq!(flow.vip, [0x2001_0db8_00ff_0000, 0x10]);
        let expected = Endpoints {
            client: client.into(),
            service: service.into(),
            protocol: 6,
        };
        assert_eq!(flow.endpoints(), expected);
    }

    #[test]
    fn random_keys_differ_and_give_different_hashes() {
        let (a, b) = (HashKey::random(), HashKey::random());
        assert_ne!(a.0, b.0);
        assert_ne!(flow(1, 0).hash(&a), flow(1, 0).hash(&b));
    }

    #[test]
    fn reduce_stays_in_range_and_reaches_both_ends() {
        assert_eq!(FlowHash(0).reduce(10), 0);
        assert_eq!(FlowHash(u64::MAX).reduce(10), 9);
        assert_eq!(FlowHash(u64::MAX).reduce(u32::MAX), u32::MAX - 1);
        assert_eq!(FlowHash(!0xffff_0000).reduce_apart(127), 0);
        assert_eq!(FlowHash(0xffff_0000).reduce_apart(127), 126);
    }

    #[test]
    fn a_flow_prints_and_converts_its_addresses() {
        let client = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 47000);
        let service = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 10), 80);
        let flow = FlowKeyV4::new(client, service, 6);
        assert_eq!(
            format!("{flow:?}"),
            "203.0.113.7:47000 > 198.51.100.10:80 protocol 6"
        );
        assert_eq!(
            (flow.client_address(), flow.service_address()),
            (client, service)
        );
    }

    #[test]
    fn the_key_is_sixteen_bytes_and_the_secret_is_not_printed() {
        assert_eq!(size_of::<FlowKeyV4>(), 16);
        assert_eq!(format!("{KEY:?}"), "HashKey(..)");
    }
}
