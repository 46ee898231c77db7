//! The short way for most packets: a whole TCP segment or UDP datagram over
//! IPv4 without options, of a connection that it does not change, to a server
//! that can be sent to at once.
//!
//! What this way decides, it decides as the long one does: it looks for what
//! would make a difference, and leaves every packet of which it finds
//! something, as it came, to the long one. So there is nothing here that is
//! refused, scheduled, ended, counted as dropped or told to anybody.

use super::{
    DropReason, Outputs, Pipeline,
    parse::{Parsed, Payload},
    route::ipv4_header_mut,
    selection::Flow,
};
use crate::{
    connection::{CoarseTime, EntryGuess, state},
    flow::{FlowHash, FlowKeyV4},
    forwarding::{PortForwarding, RealServerIndex},
    io::{Driver, PortIndex},
    service::Protocol,
    tunnel::{self, Fragmentation, Inner},
    wire::{IpProtocol, IpVersion, checksum::Sum, ethernet::EtherType},
};

/// What the headers of a packet for the short way say.
///
/// All of it is whole words, as they stand in the packet where that will do: a
/// processor that has to take words to pieces, or to put pieces together again,
/// is busy with nothing else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Express {
    key: FlowKeyV4,
    hash: FlowHash,
    /// The first eight bytes of the IPv4 header, the first one lowest.
    head: u64,
    /// TTL, TCP's flags (0 for UDP), and where the IPv4 header stands in the
    /// frame; from the lowest byte to the highest.
    rest: u64,
    guess: EntryGuess,
}

impl Express {
    /// Where its connection seems to stand.
    #[inline]
    pub(super) const fn guess(&self) -> EntryGuess {
        self.guess
    }

    /// Notes where its connection seems to stand.
    #[inline]
    pub(super) const fn set_guess(&mut self, guess: EntryGuess) {
        self.guess = guess;
    }

    /// What the long way wants to know of the packet, without another look.
    pub(super) fn parsed(&self) -> (Parsed, FlowHash) {
        let flow = self.flow();
        let parsed = Parsed {
            inner: self.inner(),
            has_options: false,
            dont_fragment: self.dont_fragment(),
            payload: Payload::Flow(flow.key, flow.protocol, flow.signal),
        };
        (parsed, self.hash)
    }

    /// Its flow.
    #[inline]
    pub(super) fn flow(&self) -> Flow<FlowKeyV4> {
        let (protocol, signal) = match IpProtocol(self.key.protocol()) {
            IpProtocol::TCP => (Protocol::Tcp, self.signal()),
            _ => (Protocol::Udp, 0),
        };
        Flow {
            key: self.key,
            hash: self.hash,
            protocol,
            signal,
        }
    }

    /// The hash of its flow.
    #[inline]
    pub(super) const fn hash(&self) -> FlowHash {
        self.hash
    }

    #[inline]
    pub(super) const fn inner(&self) -> Inner {
        let [_, tos, len_high, len_low, ..] = self.head.to_le_bytes();
        let [ttl, _, l3_offset, ..] = self.rest.to_le_bytes();
        Inner {
            version: IpVersion::V4,
            l3_offset,
            total_len: u16::from_be_bytes([len_high, len_low]),
            tos,
            ttl,
        }
    }

    /// TCP's flags; 0 for UDP.
    #[inline]
    const fn signal(&self) -> u8 {
        let [_, signal, ..] = self.rest.to_le_bytes();
        signal
    }

    #[inline]
    const fn dont_fragment(&self) -> bool {
        self.head & DF_IN_HEAD != 0
    }
}

/// What frames for this station begin with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Station {
    /// The MAC address in the lower 48 bits, as it stands in memory.
    mac: u64,
    /// What follows both MAC addresses, and how long it is.
    l2_end: L2End,
}

#[derive(Clone, Copy, Debug)]
enum L2End {
    Untagged,
    Tagged(u16),
}

impl Station {
    pub(super) fn of(port: &PortForwarding) -> Self {
        let mut mac = [0; 8];
        for (to, from) in mac.iter_mut().zip(port.mac.0) {
            *to = from;
        }
        Self {
            mac: u64::from_ne_bytes(mac),
            l2_end: match port.vlan {
                None => L2End::Untagged,
                Some(id) => L2End::Tagged(id),
            },
        }
    }

    /// The packet in a frame for this station that carries IPv4, and where it
    /// begins.
    #[inline]
    fn packet_of<'f>(&self, frame: &'f [u8]) -> Option<(&'f [u8], u8)> {
        let start: &[u8; 8] = frame.first_chunk()?;
        if (u64::from_ne_bytes(*start) ^ self.mac) & MAC_MASK != 0 {
            return None;
        }
        match self.l2_end {
            L2End::Untagged => {
                let (header, packet) = frame.split_first_chunk::<14>()?;
                let [.., t0, t1] = *header;
                (u16::from_be_bytes([t0, t1]) == EtherType::IPV4.0).then_some((packet, 14))
            }
            L2End::Tagged(id) => {
                let (header, packet) = frame.split_first_chunk::<18>()?;
                let [.., p0, p1, c0, c1, t0, t1] = *header;
                let is_ours = u16::from_be_bytes([p0, p1]) == EtherType::VLAN.0
                    && u16::from_be_bytes([c0, c1]) & VLAN_ID_MASK == id
                    && u16::from_be_bytes([t0, t1]) == EtherType::IPV4.0;
                is_ours.then_some((packet, 18))
            }
        }
    }
}

/// Looks at a frame, of whose IPv4 header the NIC may have said that it
/// `has_good_checksum`; `None` when it is not for the short way.
#[inline]
pub(super) fn glance(
    frame: &[u8],
    has_good_checksum: bool,
    station: &Station,
    hash: impl FnOnce(&FlowKeyV4) -> FlowHash,
) -> Option<Express> {
    let (packet, l3_offset) = station.packet_of(frame)?;
    // An IPv4 header without options, and as much as UDP has at least.
    let start: &[u8; 28] = packet.first_chunk()?;
    let header: &[u8; 20] = start.first_chunk()?;
    let head = u64::from_le_bytes(*header.first_chunk()?);
    let [_, _, len_high, len_low, _, _, _, _, ttl, protocol, ..] = *header;
    let total_len = usize::from(u16::from_be_bytes([len_high, len_low]));
    let (len_min, signal) = match IpProtocol(protocol) {
        IpProtocol::TCP => (40, *packet.get(TCP_FLAGS_OFFSET)?),
        IpProtocol::UDP => (28, 0),
        _ => return None,
    };
    if head & PLAIN_MASK != PLAIN
        || total_len < len_min
        || total_len > packet.len()
        || !has_good_checksum && !Sum::of_ipv4_header(header).is_intact()
    {
        return None;
    }
    let [
        ..,
        s0,
        s1,
        s2,
        s3,
        d0,
        d1,
        d2,
        d3,
        p0,
        p1,
        q0,
        q1,
        _,
        _,
        _,
        _,
    ] = *start;
    let addresses = [s0, s1, s2, s3, d0, d1, d2, d3];
    let key = FlowKeyV4::of_headers(addresses, [p0, p1, q0, q1], protocol);
    Some(Express {
        hash: hash(&key),
        key,
        head,
        rest: u64::from(ttl) | u64::from(signal) << 8 | u64::from(l3_offset) << 16,
        guess: EntryGuess::default(),
    })
}

impl<D: Driver> Pipeline<D> {
    /// Sends a packet the short way, or gives it back unchanged.
    #[inline]
    pub(super) fn express(
        &mut self,
        port: PortIndex,
        packet: D::Packet,
        express: &Express,
        now: CoarseTime,
        outputs: &mut Outputs<D>,
    ) -> Result<(), D::Packet> {
        let connections = self.connections.of_mut::<FlowKeyV4>();
        let Some(entry) = connections.find_entry((express.hash, express.guess), &express.key)
        else {
            return self.open_express(port, packet, express, now, outputs);
        };
        let state = entry.state();
        let tunables = &self.state.tunables;
        // A SYN may replace the connection.
        let signal = express.signal();
        if signal & TCP_SYN != 0 || !state::stays(state, signal, tunables.secure_tcp != 0) {
            return Err(packet);
        }
        let number = RealServerIndex(entry.server());
        let Some(server) = self.state.server(number) else {
            return Err(packet);
        };
        let inner = express.inner();
        if inner.total_len > server.express_len_max
            || inner.ttl <= 1
            || !entry.prolong(self.state.timeouts.of(state), now)
        {
            return Err(packet);
        }
        entry.count_packet();
        let counters = self.counters.server(number.as_usize());
        counters.in_packets.add(1);
        counters.in_bytes.add(u64::from(inner.total_len));

        self.encapsulate_express(packet, express, number, outputs)
    }

    /// Encapsulates a packet that fits into the tunnel to a server, and sends
    /// it.
    #[inline]
    pub(super) fn encapsulate_express(
        &mut self,
        mut packet: D::Packet,
        express: &Express,
        server: RealServerIndex,
        outputs: &mut Outputs<D>,
    ) -> Result<(), D::Packet> {
        let Some(server) = self.state.server(server) else {
            return Err(packet);
        };
        let inner = express.inner();
        let dont_fragment = express.dont_fragment() && self.state.tunables.pmtu_disc;
        let identification = if dont_fragment {
            0
        } else {
            self.identifications.next_short()
        };
        let fragmentation = Fragmentation {
            identification,
            dont_fragment,
        };
        let result = if server.is_plain {
            tunnel::encapsulate_plain(&mut packet, inner, server, fragmentation)
        } else {
            match ipv4_header_mut(&mut packet, inner.l3_offset) {
                Ok(header) => tunnel::decrement_ttl(header),
                Err(_) => return Err(packet),
            }
            let inner = Inner {
                ttl: inner.ttl - 1,
                ..inner
            };
            tunnel::encapsulate(&mut packet, inner, server, fragmentation)
        };
        match result {
            Ok(()) => outputs.forward(server.port, packet),
            Err(tunnel::NoHeadroom) => outputs.discard(packet, DropReason::NoHeadroom),
        }
        Ok(())
    }
}

const MAC_MASK: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
const VLAN_ID_MASK: u16 = 0x0fff;
/// In the first eight bytes of an IPv4 header: version 4 and five words long,
/// and no fragment.
const PLAIN_MASK: u64 = u64::from_le_bytes([0xff, 0, 0, 0, 0, 0, 0x3f, 0xff]);
const PLAIN: u64 = 0x45;
const DF_IN_HEAD: u64 = u64::from_le_bytes([0, 0, 0, 0, 0, 0, 0x40, 0]);
/// Behind an IPv4 header without options.
const TCP_FLAGS_OFFSET: usize = 20 + 13;
const TCP_SYN: u8 = 0x02;
