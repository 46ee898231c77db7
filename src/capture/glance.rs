//! A glance at a frame. Most packets of a busy director are TCP segments and UDP
//! datagrams over IPv4, and a few words of one tell that no capture wants it:
//! only what passes here is [looked at](super::Subject) thoroughly.

use ipnet::IpNet;

use super::{filter::Filter, subject::Carried};
use crate::wire::{IpProtocol, ethernet::EtherType};

/// The words of a frame that carries TCP or UDP over IPv4 without options.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    source: u32,
    destination: u32,
    /// Means nothing in a later fragment.
    l4_ports: [u16; 2],
    protocol: u8,
}

impl Words {
    /// `None` for any other frame.
    #[inline]
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let (ethernet, rest) = frame.split_first_chunk::<14>()?;
        let [.., t0, t1] = *ethernet;
        let (ether_type, packet) = if u16::from_be_bytes([t0, t1]) == EtherType::VLAN.0 {
            let ([_, _, t0, t1], packet) = rest.split_first_chunk()?;
            (u16::from_be_bytes([*t0, *t1]), packet)
        } else {
            (u16::from_be_bytes([t0, t1]), rest)
        };
        let start: &[u8; 24] = packet.first_chunk()?;
        let [first, .., s0, s1, s2, s3, d0, d1, d2, d3, p0, p1, q0, q1] = *start;
        let protocol = start[9];
        let is_plain = ether_type == EtherType::IPV4.0
            && first == VERSION_4_WITHOUT_OPTIONS
            && matches!(IpProtocol(protocol), IpProtocol::TCP | IpProtocol::UDP);
        is_plain.then_some(Self {
            source: u32::from_be_bytes([s0, s1, s2, s3]),
            destination: u32::from_be_bytes([d0, d1, d2, d3]),
            l4_ports: [u16::from_be_bytes([p0, p1]), u16::from_be_bytes([q0, q1])],
            protocol,
        })
    }
}

/// What a filter says about [`Words`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Glance {
    host: Masked,
    client: Masked,
    vip: Masked,
    l4_port: Option<u16>,
    client_port: Option<u16>,
    service_port: Option<u16>,
    protocol: Option<Carried>,
}

/// Addresses that are `value` where there are bits in `mask`.
#[derive(Clone, Copy, Debug)]
struct Masked {
    mask: u32,
    value: u32,
}

impl Masked {
    fn of(network: Option<IpNet>) -> Self {
        match network {
            None => Self { mask: 0, value: 0 },
            Some(IpNet::V4(network)) => Self {
                mask: network.netmask().to_bits(),
                value: network.network().to_bits(),
            },
            // Nothing is 1 where there are no bits.
            Some(IpNet::V6(_)) => Self { mask: 0, value: 1 },
        }
    }

    #[inline]
    const fn has(self, address: u32) -> bool {
        address & self.mask == self.value
    }
}

impl Glance {
    pub(super) fn of(filter: &Filter) -> Self {
        Self {
            host: Masked::of(filter.host),
            client: Masked::of(filter.client),
            vip: Masked::of(filter.vip),
            l4_port: filter.l4_port,
            client_port: filter.client_port,
            service_port: filter.service_port,
            protocol: filter.protocol,
        }
    }

    /// Whether a received frame with these words is certainly not wanted.
    #[inline]
    pub(super) fn rejects(&self, words: &Words) -> bool {
        let [client_port, service_port] = words.l4_ports;
        let is = |wanted: Option<u16>, found| wanted.is_none_or(|wanted| wanted == found);
        let may_be = (self.host.has(words.source) || self.host.has(words.destination))
            && self.client.has(words.source)
            && self.vip.has(words.destination)
            && (is(self.l4_port, client_port) || is(self.l4_port, service_port))
            && is(self.client_port, client_port)
            && is(self.service_port, service_port)
            && self
                .protocol
                .is_none_or(|wanted| wanted == Carried::Ip(words.protocol));
        !may_be
    }
}

const VERSION_4_WITHOUT_OPTIONS: u8 = 0x45;

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*, sample::select};

    use super::{
        super::{Carried, Filter, Subject},
        *,
    };
    use crate::{io::PortIndex, wire::test_support::hex};

    fn network() -> impl Strategy<Value = Option<IpNet>> {
        let networks = [
            "203.0.113.7/32",
            "203.0.113.0/24",
            "198.51.100.10/32",
            "0.0.0.0/0",
            "2001:db8::/32",
            "192.0.2.0/24",
        ];
        option::of(select(networks.map(|it| it.parse().unwrap()).to_vec()))
    }

    fn l4_port() -> impl Strategy<Value = Option<u16>> {
        option::weighted(0.3, select(vec![80, 40_001, 53]))
    }

    fn filter() -> impl Strategy<Value = Filter> {
        let protocols = [
            Carried::Ip(6),
            Carried::Ip(17),
            Carried::Ip(1),
            Carried::Arp,
        ];
        let protocol = option::weighted(0.3, select(protocols.to_vec()));
        let networks = (network(), network(), network());
        (networks, (l4_port(), l4_port(), l4_port()), protocol).prop_map(
            |((host, client, vip), (l4_port, client_port, service_port), protocol)| Filter {
                host,
                client,
                vip,
                l4_port,
                client_port,
                service_port,
                protocol,
                ..Filter::default()
            },
        )
    }

    /// TCP, UDP and ICMP, with and without a tag, options and an offset, some of
    /// them cut or with a total length that lies.
    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let types = select(vec!["0800", "810000070800", "86dd"]);
        let firsts = select(vec!["45", "45", "46", "65"]);
        let lens = select(vec!["0028", "0016", "ffff"]);
        let offsets = select(vec!["4000", "0000", "00b9"]);
        let protocols = select(vec!["06", "11", "01"]);
        let ends = select(vec![
            "cb007107c633640a",
            "cb007163c633640b",
            "c633640acb007107",
        ]);
        let l4_ports = select(vec!["9c410050", "00509c41", "9c420035"]);
        let parts = (types, firsts, lens, offsets, protocols, ends, l4_ports);
        (parts, option::weighted(0.1, 0..60_usize)).prop_map(|(parts, cut)| {
            let (ether_type, first, len, offset, protocol, ends, l4_ports) = parts;
            let header = format!("{first}00{len}1234{offset}40{protocol}0000{ends}");
            let text = format!("020000000001020000000002{ether_type}{header}{l4_ports}");
            let mut frame = hex(&(text + "000003e8000000005002faf0ae320000"));
            frame.truncate(cut.unwrap_or(frame.len()));
            frame
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        #[test]
        fn what_is_rejected_at_a_glance_is_not_wanted_after_a_look(
            filter in filter(), frame in frame(),
        ) {
            let Some(words) = Words::of(&frame) else { return Ok(()) };
            if Glance::of(&filter).rejects(&words) {
                let subject = Subject::of_received(&frame);
                prop_assert!(!filter.wants(Some(PortIndex(0)), &subject, &frame));
            }
        }

        /// Or else it would be of no use.
        #[test]
        fn what_is_not_wanted_of_whole_packets_is_rejected_at_a_glance(
            filter in filter(), client in any::<u8>(), l4_port in 40_000..40_003_u16,
        ) {
            let text = format!(
                "020000000001020000000002080045000028123440004006 0000cb0071{client:02x}c633640a\
                 {l4_port:04x}0050000003e8000000005002faf0ae320000"
            );
            let frame = hex(&text);
            let words = Words::of(&frame).unwrap();
            let subject = Subject::of_received(&frame);
            let is_wanted = filter.wants(Some(PortIndex(0)), &subject, &frame);
            prop_assert_eq!(Glance::of(&filter).rejects(&words), !is_wanted);
        }
    }
}
