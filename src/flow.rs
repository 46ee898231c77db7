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
    net::{Ipv4Addr, SocketAddrV4},
};

use bytemuck::Zeroable;

/// A key of the connection table: the identity of a flow of one IP version.
///
/// The key of zero bytes is what a free slot of the table holds; it need not be
/// different from every real key.
pub trait FlowKey: Copy + Eq + Zeroable + Debug + Send + Sync + 'static {
    /// The keyed hash of the flow. All 64 bits are usable.
    fn hash(&self, key: &HashKey) -> FlowHash;
}

/// A flow over IPv4. All numbers are in host byte order.
#[derive(Clone, Copy, Default, Zeroable)]
#[repr(C)]
pub struct FlowKeyV4 {
    /// The client's address (CIP).
    pub client: u32,
    /// The virtual address (VIP).
    pub vip: u32,
    /// The client's TCP, UDP or SCTP port.
    pub client_port: u16,
    /// The service's TCP, UDP or SCTP port.
    pub service_port: u16,
    /// The number in the IP header's protocol field (IANA).
    pub protocol: u8,
}

impl FlowKeyV4 {
    /// The flow from `client` to `service` of IP protocol `protocol`.
    pub fn new(client: SocketAddrV4, service: SocketAddrV4, protocol: u8) -> Self {
        Self {
            client: u32::from(*client.ip()),
            vip: u32::from(*service.ip()),
            client_port: client.port(),
            service_port: service.port(),
            protocol,
        }
    }

    /// Address and port of the client.
    pub fn client_address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from(self.client), self.client_port)
    }

    /// VIP and service port.
    pub fn service_address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from(self.vip), self.service_port)
    }

    fn words(&self) -> (u64, u64) {
        let addresses = u64::from(self.client) | u64::from(self.vip) << 32;
        let rest = u64::from(self.client_port)
            | u64::from(self.service_port) << 16
            | u64::from(self.protocol) << 32;
        (addresses, rest)
    }
}

impl FlowKey for FlowKeyV4 {
    #[inline]
    fn hash(&self, key: &HashKey) -> FlowHash {
        let (addresses, rest) = self.words();
        key.hash_two(addresses, rest)
    }
}

// One branch for the whole key. The derived comparison takes one per field,
// and on the packet path only the outcome "all equal" is likely.
impl PartialEq for FlowKeyV4 {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let ((a, b), (c, d)) = (self.words(), other.words());
        (a ^ c) | (b ^ d) == 0
    }
}

impl Eq for FlowKeyV4 {}

impl std::hash::Hash for FlowKeyV4 {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.words().hash(state);
    }
}

impl Debug for FlowKeyV4 {
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
    use std::mem::size_of;

    use super::*;

    const KEY: HashKey = HashKey::from_seed([
        0x243f_6a88_85a3_08d3,
        0x1319_8a2e_0370_7344,
        0xa409_3822_299f_31d0,
    ]);

    fn flow(n: u32, pattern: usize) -> FlowKeyV4 {
        let base = FlowKeyV4 {
            client: 0xcb00_7107,
            vip: 0xc633_640a,
            client_port: 40_000,
            service_port: 80,
            protocol: 6,
        };
        let low = u16::try_from(n & 0xffff).unwrap();
        match pattern {
            0 => FlowKeyV4 {
                client_port: low,
                ..base
            },
            1 => FlowKeyV4 {
                client: 0x0a00_0000 + n,
                ..base
            },
            2 => FlowKeyV4 {
                client: n << 16,
                ..base
            },
            3 => FlowKeyV4 {
                vip: 0xc633_0000 + n,
                ..base
            },
            4 => FlowKeyV4 {
                client: 0x0a00_0000 + n,
                client_port: low,
                ..base
            },
            _ => FlowKeyV4 {
                service_port: low,
                ..base
            },
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
    fn every_bit_of_the_flow_changes_about_half_of_the_hash() {
        let base = flow(7, 4);
        let reference = base.hash(&KEY).as_u64();
        let mut variants = Vec::new();
        for bit in 0..32 {
            variants.push(FlowKeyV4 {
                client: base.client ^ 1 << bit,
                ..base
            });
            variants.push(FlowKeyV4 {
                vip: base.vip ^ 1 << bit,
                ..base
            });
        }
        for bit in 0..16 {
            variants.push(FlowKeyV4 {
                client_port: base.client_port ^ 1 << bit,
                ..base
            });
            variants.push(FlowKeyV4 {
                service_port: base.service_port ^ 1 << bit,
                ..base
            });
        }
        for bit in 0..8 {
            variants.push(FlowKeyV4 {
                protocol: base.protocol ^ 1 << bit,
                ..base
            });
        }
        for variant in variants {
            assert_ne!(variant, base);
            let changed = (variant.hash(&KEY).as_u64() ^ reference).count_ones();
            assert!(
                (12..=52).contains(&changed),
                "{variant:?} changed {changed} bits"
            );
        }
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
