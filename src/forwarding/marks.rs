//! Firewall marks: which packets have which.

use std::ops::RangeInclusive;

use hashbrown::HashMap;
use ipnet::IpNet;

use super::ServiceAddress;
use crate::{
    prefixes::PrefixLengths,
    service::{MarkGroup, Protocol},
};

/// Firewall marks by destination, at a cost that grows with the prefix lengths
/// in use and the logarithm of the port ranges, and not with the groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Ranges of ports of the VIPs of a network, or of all, in order.
    ranges: HashMap<(Option<IpNet>, Protocol), Vec<MarkedRange>>,
    lengths: PrefixLengths,
}

/// Ports with one mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MarkedRange {
    first: u16,
    last: u16,
    /// Place of the group that gives the mark.
    group: usize,
    fwmark: u32,
}

impl Marks {
    /// The marks that these groups give.
    pub fn new(groups: &[MarkGroup]) -> Self {
        let mut ranges: HashMap<_, Vec<MarkedRange>> = HashMap::new();
        for (number, group) in groups.iter().enumerate() {
            let networks: Vec<Option<IpNet>> = if group.vips.is_empty() {
                vec![None]
            } else {
                group.vips.iter().map(|vips| Some(vips.trunc())).collect()
            };
            let protocols = or_all(&group.protocols, &Protocol::ALL);
            let l4_ports = or_all(&group.l4_ports, &[ALL_PORTS]);
            for network in networks {
                for &protocol in protocols {
                    let marked = l4_ports.iter().map(|l4_ports| MarkedRange {
                        first: *l4_ports.start(),
                        last: *l4_ports.end(),
                        group: number,
                        fwmark: group.fwmark,
                    });
                    ranges
                        .entry((network, protocol))
                        .or_default()
                        .extend(marked);
                }
            }
        }
        let mut lengths = PrefixLengths::default();
        for ((network, _), marked) in &mut ranges {
            *marked = disjoint(marked);
            if let Some(network) = network {
                lengths.add(*network);
            }
        }
        Self { ranges, lengths }
    }

    /// The mark of a packet.
    pub fn of(&self, address: &ServiceAddress) -> Option<u32> {
        let networks = self.lengths.around(address.vip).map(Some);
        networks
            .chain([None])
            .filter_map(|network| {
                let marked = self.ranges.get(&(network, address.protocol))?;
                let after = marked.partition_point(|range| range.first <= address.l4_port);
                let range = marked.get(after.checked_sub(1)?)?;
                (address.l4_port <= range.last).then_some((range.group, range.fwmark))
            })
            .max_by_key(|(group, _)| *group)
            .map(|(_, fwmark)| fwmark)
    }
}

const ALL_PORTS: RangeInclusive<u16> = 0..=u16::MAX;

const fn or_all<'a, T>(some: &'a [T], all: &'a [T]) -> &'a [T] {
    if some.is_empty() { all } else { some }
}

/// Ranges that do not overlap, in order, with the marks of the last group at
/// each port.
fn disjoint(ranges: &[MarkedRange]) -> Vec<MarkedRange> {
    let mut starts: Vec<u32> = ranges
        .iter()
        .flat_map(|range| [u32::from(range.first), u32::from(range.last) + 1])
        .collect();
    starts.sort_unstable();
    starts.dedup();
    let ends = starts.iter().skip(1);
    starts
        .iter()
        .zip(ends)
        .filter_map(|(&start, &end)| {
            let (first, last) = (u16::try_from(start).ok()?, u16::try_from(end - 1).ok()?);
            let last_group = ranges
                .iter()
                .filter(|range| (range.first..=range.last).contains(&first))
                .max_by_key(|range| range.group)?;
            Some(MarkedRange {
                first,
                last,
                ..*last_group
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn network() -> impl Strategy<Value = IpNet> {
        (
            0..4_u8,
            0..4_u8,
            prop::sample::select(vec![0, 8, 24, 30, 32]),
        )
            .prop_map(|(third, fourth, len)| {
                let address = [10, 0, third, fourth].into();
                IpNet::new(address, len).unwrap().trunc()
            })
    }

    fn group() -> impl Strategy<Value = MarkGroup> {
        let range = (0..20_u16, 0..10_u16).prop_map(|(first, more)| first..=first + more);
        let protocol = prop::sample::select(Protocol::ALL.to_vec());
        let fields = (
            1..5_u32,
            vec(network(), 0..3),
            vec(protocol, 0..2),
            vec(range, 0..3),
        );
        fields.prop_map(|(fwmark, vips, protocols, l4_ports)| MarkGroup {
            fwmark,
            vips,
            protocols,
            l4_ports,
        })
    }

    proptest! {
        #[test]
        fn the_last_group_that_a_packet_fits_gives_its_mark(
            groups in vec(group(), 0..6),
            packets in vec((network(), prop::sample::select(Protocol::ALL.to_vec()), 0..32_u16), 30),
        ) {
            let marks = Marks::new(&groups);
            for (network, protocol, l4_port) in packets {
                let address = ServiceAddress { vip: network.addr(), l4_port, protocol };
                let fits = |group: &&MarkGroup| {
                    (group.vips.is_empty() || group.vips.iter().any(|n| n.contains(&address.vip)))
                        && (group.protocols.is_empty() || group.protocols.contains(&protocol))
                        && (group.l4_ports.is_empty()
                            || group.l4_ports.iter().any(|range| range.contains(&l4_port)))
                };
                let expected = groups.iter().rfind(fits).map(|group| group.fwmark);
                prop_assert_eq!(marks.of(&address), expected, "{:?}", address);
            }
        }
    }

    #[test]
    fn the_last_port_has_its_mark_too() {
        let group = MarkGroup {
            fwmark: 7,
            vips: Vec::new(),
            protocols: Vec::new(),
            l4_ports: vec![65_535..=65_535],
        };
        let address = |l4_port| ServiceAddress {
            vip: [10, 0, 0, 1].into(),
            l4_port,
            protocol: Protocol::Sctp,
        };
        let marks = Marks::new(&[group]);
        assert_eq!(marks.of(&address(65_535)), Some(7));
        assert_eq!(marks.of(&address(65_534)), None);
    }
}
