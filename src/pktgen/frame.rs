//! Packets from templates: few bytes are written for each, and all others
//! follow from the plan.
//!
//! A packet says who it is in 18 bytes, the stamp: in UDP it is the front of
//! the payload, in TCP the fields that no director looks at and the front of
//! the payload, so that it fits into a frame of 60 bytes:
//!
//! ```text
//! UDP    header (8) | sequence (4) | slot (4) | generation (4) | time (6) | pattern
//! TCP    sequence number = sequence, acknowledgment number = slot,
//!        window and urgent pointer = generation, then time (6) | pattern
//! later fragments   the 18 bytes as in UDP, then pattern
//! ```
//!
//! "Slot" and "generation" name the flow, "sequence" is the packet's place in
//! it, "time" the lower 48 bits of the cycle counter when it was made. Given
//! these the whole packet is known, checksums included: there is no need for a
//! magic number. A flood's packets have the slot [`FLOOD_SLOT`] and their
//! number as generation.
mod draft;

use self::draft::Draft;
use super::{
    plan::{FlowAddresses, Plan},
    service::Transport,
};
use crate::wire::{IpVersion, ethernet::MacAddr, ipv6::FRAGMENT, tcp::TcpFlags};

/// The slot of packets that belong to no flow but to a flood.
pub const FLOOD_SLOT: u32 = u32::MAX;

/// Bits of the cycle counter that a stamp has: at 4 GHz it goes round in 19
/// hours.
pub(super) const TIME_MASK: u64 = (1 << 48) - 1;

/// Which packet it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Place of the flow in the table.
    pub slot: u32,
    /// How many flows had the slot before.
    pub generation: u32,
    /// Place of the packet in the flow.
    pub sequence: u32,
    /// Cycle counter when it was made, 48 bits.
    pub time: u64,
}

/// All there is of one kind of packet: version, protocol, length and part.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) version: IpVersion,
    pub(super) transport: Transport,
    pub(super) part: Part,
    /// Offset and "more fragments" as they stand in the IP header or fragment
    /// header; 0 of what is no fragment.
    pub(super) fragment_word: u16,
    /// The frame with zeros where something is filled in.
    frame: Vec<u8>,
    l2_len: usize,
    /// Length of IPv4 header, or IPv6 header and fragment header.
    l3_len: usize,
    /// Words of the IPv4 header without what is filled in.
    ip_sum: u32,
    /// Words of pseudo header and L4 message (of all parts) without what is
    /// filled in.
    l4_sum: u32,
    /// How many stamps the L4 message has.
    stamps: u32,
    has_identification: bool,
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// The fragment with the L4 header.
    First,
    /// Another fragment, with its place.
    Later(u8),
}

/// What goes into a template.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filling<'a> {
    pub(super) flow: FlowAddresses<'a>,
    pub(super) stamp: Stamp,
    /// Of TCP.
    pub(super) flags: TcpFlags,
    /// Of IPv4 packets without DF, and of fragments.
    pub(super) identification: u32,
}

/// Longest front part of a packet in which something is filled in: IPv6
/// header, fragment header, UDP header and stamp.
const HEAD_LEN_MAX: usize = 40 + 8 + L4_HEAD_LEN;
/// The same of IPv4: its header, and what follows.
const IPV4_HEAD_LEN: usize = 20 + L4_HEAD_LEN;
/// UDP header and stamp, or TCP header and time.
const L4_HEAD_LEN: usize = 26;
const STAMP_LEN: usize = 18;
/// The front of a fragment has to hold UDP header and stamp; fragments are
/// multiples of eight bytes long.
const FRAGMENT_LEN_MIN: usize = 32;

/// The front of a packet that is expected, and how long it is.
#[derive(Debug)]
pub(super) struct Head {
    bytes: [u8; HEAD_LEN_MAX],
    len: usize,
}

impl Head {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Where a packet goes on the link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) source: MacAddr,
    pub(super) destination: MacAddr,
}

impl Shape {
    /// Length of the frame.
    pub(super) fn frame_len(&self) -> usize {
        self.frame.len()
    }

    /// Writes the frame of a packet. `frame` has [`frame_len`](Self::frame_len)
    /// bytes.
    #[inline]
    pub(super) fn write(&self, frame: &mut [u8], filling: &Filling<'_>) -> Option<()> {
        if frame.len() != self.frame.len() {
            return None;
        }
        frame.copy_from_slice(&self.frame);
        self.fill(frame.get_mut(self.l2_len..)?, filling)
    }

    /// Whether an IP packet is exactly this one.
    #[inline]
    pub(super) fn is(&self, packet: &[u8], filling: &Filling<'_>) -> bool {
        let Some((head, body)) = packet.split_at_checked(self.head_len()) else {
            return false;
        };
        let own_body = self.body();
        // By far the most packets are of IPv4, and many have nothing more.
        let is_head = match head.first_chunk::<IPV4_HEAD_LEN>() {
            Some(head) if self.head_len() == IPV4_HEAD_LEN => self.has_head(head, filling),
            _ => self.head(filling).is_some_and(|own| own.bytes() == head),
        };
        is_head && body.len() == own_body.len() && (body.is_empty() || body == own_body)
    }

    #[inline]
    fn has_head(&self, head: &[u8; IPV4_HEAD_LEN], filling: &Filling<'_>) -> bool {
        let Some(mut own) = self.packet().first_chunk::<IPV4_HEAD_LEN>().copied() else {
            return false;
        };
        self.fill(&mut own, filling).is_some() && own == *head
    }

    /// The packet behind the Ethernet header, as far as it depends on what is
    /// filled in.
    pub(super) fn head(&self, filling: &Filling<'_>) -> Option<Head> {
        let len = self.head_len();
        let mut head = Head {
            bytes: [0; HEAD_LEN_MAX],
            len,
        };
        let bytes = head.bytes.get_mut(..len)?;
        bytes.copy_from_slice(self.packet().get(..len)?);
        self.fill(bytes, filling)?;
        Some(head)
    }

    /// What follows the head, the same in all packets.
    #[inline]
    pub(super) fn body(&self) -> &[u8] {
        self.packet().get(self.head_len()..).unwrap_or_default()
    }

    /// Length of the IP packet.
    #[inline]
    pub(super) fn packet_len(&self) -> usize {
        self.frame.len() - self.l2_len
    }

    fn set_link(&mut self, link: Link) {
        let macs = link.destination.0.iter().chain(&link.source.0);
        for (to, from) in self.frame.iter_mut().zip(macs) {
            *to = *from;
        }
    }

    #[inline]
    fn packet(&self) -> &[u8] {
        self.frame.get(self.l2_len..).unwrap_or_default()
    }

    #[inline]
    const fn head_len(&self) -> usize {
        match self.part {
            Part::Later(_) => self.l3_len + STAMP_LEN,
            Part::Whole | Part::First => self.l3_len + L4_HEAD_LEN,
        }
    }

    #[inline]
    fn fill(&self, packet: &mut [u8], filling: &Filling<'_>) -> Option<()> {
        let (header, message) = packet.split_at_mut_checked(self.l3_len)?;
        match self.version {
            IpVersion::V4 => self.fill_ipv4(header.first_chunk_mut()?, filling),
            IpVersion::V6 => fill_ipv6(header, filling)?,
        }
        if let Part::Later(_) = self.part {
            *message.first_chunk_mut()? = filling.stamp.to_bytes();
            return Some(());
        }
        let message = message.first_chunk_mut()?;
        match self.transport {
            Transport::Tcp => self.fill_tcp(message, filling),
            Transport::Udp => self.fill_udp(message, filling),
        }
        Some(())
    }

    #[inline]
    fn fill_ipv4(&self, header: &mut [u8; 20], filling: &Filling<'_>) {
        let flow = &filling.flow;
        let [.., id0, id1] = if self.has_identification {
            filling.identification.to_be_bytes()
        } else {
            [0; 4]
        };
        let [s0, s1, s2, s3] = flow.client_low.to_be_bytes();
        let [d0, d1, d2, d3] = flow.service.vip_v4();
        let sum = self.ip_sum
            + u32::from(u16::from_be_bytes([id0, id1]))
            + words_of(flow.client_low)
            + flow.service.vip_sum();
        let [c0, c1] = (!fold(sum)).to_be_bytes();
        [header[4], header[5]] = [id0, id1];
        [header[10], header[11]] = [c0, c1];
        [header[12], header[13], header[14], header[15]] = [s0, s1, s2, s3];
        [header[16], header[17], header[18], header[19]] = [d0, d1, d2, d3];
    }

    #[inline]
    fn fill_tcp(&self, message: &mut [u8; L4_HEAD_LEN], filling: &Filling<'_>) {
        let Filling { flow, stamp, .. } = filling;
        let [p0, p1] = flow.l4_port.to_be_bytes();
        let [s0, s1] = flow.service.l4_port.to_be_bytes();
        let [q0, q1, q2, q3] = stamp.sequence.to_be_bytes();
        let [a0, a1, a2, a3] = stamp.slot.to_be_bytes();
        let [g0, g1, g2, g3] = stamp.generation.to_be_bytes();
        let [_, _, t0, t1, t2, t3, t4, t5] = stamp.time.to_be_bytes();
        let sum = self.l4_sum + filling.sum(1) + u32::from(filling.flags.0);
        let [c0, c1] = (!fold(sum)).to_be_bytes();
        *message = [
            p0,
            p1,
            s0,
            s1,
            q0,
            q1,
            q2,
            q3,
            a0,
            a1,
            a2,
            a3, //
            TCP_HEADER_WORDS << 4,
            filling.flags.0,
            g0,
            g1,
            c0,
            c1,
            g2,
            g3,
            t0,
            t1,
            t2,
            t3,
            t4,
            t5,
        ];
    }

    #[inline]
    fn fill_udp(&self, message: &mut [u8; L4_HEAD_LEN], filling: &Filling<'_>) {
        let Filling { flow, stamp, .. } = filling;
        let [p0, p1] = flow.l4_port.to_be_bytes();
        let [s0, s1] = flow.service.l4_port.to_be_bytes();
        // A checksum of 0 would say that there is none.
        let [c0, c1] = match !fold(self.l4_sum + filling.sum(self.stamps)) {
            0 => [0xff, 0xff],
            checksum => checksum.to_be_bytes(),
        };
        [message[0], message[1], message[2], message[3]] = [p0, p1, s0, s1];
        [message[6], message[7]] = [c0, c1];
        if let Some(front) = message.last_chunk_mut() {
            *front = stamp.to_bytes();
        }
    }
}

impl Filling<'_> {
    /// The words that it adds to the sum of an L4 message with `stamps` stamps.
    #[inline]
    fn sum(&self, stamps: u32) -> u32 {
        let Stamp {
            slot,
            generation,
            sequence,
            time,
        } = self.stamp;
        let [_, _, t0, t1, t2, t3, t4, t5] = time.to_be_bytes();
        let stamp = words_of(slot)
            + words_of(generation)
            + words_of(sequence)
            + u32::from(u16::from_be_bytes([t0, t1]))
            + u32::from(u16::from_be_bytes([t2, t3]))
            + u32::from(u16::from_be_bytes([t4, t5]));
        words_of(self.flow.client_low)
            + self.flow.service.vip_sum()
            + u32::from(self.flow.l4_port)
            + u32::from(self.flow.service.l4_port)
            + stamps * stamp
    }
}

impl Stamp {
    /// The stamp as it stands in the payload of UDP.
    #[inline]
    const fn to_bytes(self) -> [u8; STAMP_LEN] {
        let [q0, q1, q2, q3] = self.sequence.to_be_bytes();
        let [a0, a1, a2, a3] = self.slot.to_be_bytes();
        let [g0, g1, g2, g3] = self.generation.to_be_bytes();
        let [_, _, t0, t1, t2, t3, t4, t5] = self.time.to_be_bytes();
        [
            q0, q1, q2, q3, a0, a1, a2, a3, g0, g1, g2, g3, t0, t1, t2, t3, t4, t5,
        ]
    }

    const fn from_bytes(bytes: &[u8; STAMP_LEN]) -> Self {
        let [
            q0,
            q1,
            q2,
            q3,
            a0,
            a1,
            a2,
            a3,
            g0,
            g1,
            g2,
            g3,
            t0,
            t1,
            t2,
            t3,
            t4,
            t5,
        ] = *bytes;
        Self {
            sequence: u32::from_be_bytes([q0, q1, q2, q3]),
            slot: u32::from_be_bytes([a0, a1, a2, a3]),
            generation: u32::from_be_bytes([g0, g1, g2, g3]),
            time: u64::from_be_bytes([0, 0, t0, t1, t2, t3, t4, t5]),
        }
    }

    /// Reads the stamp of what an IP packet of this shape carries.
    #[inline]
    pub(super) fn read(shape: &Shape, packet: &[u8]) -> Option<Self> {
        let message = packet.get(shape.l3_len..)?;
        match (shape.part, shape.transport) {
            (Part::Later(_), _) => message.first_chunk().map(Self::from_bytes),
            (_, Transport::Udp) => message.get(8..)?.first_chunk().map(Self::from_bytes),
            (_, Transport::Tcp) => {
                let [
                    _,
                    _,
                    _,
                    _,
                    q0,
                    q1,
                    q2,
                    q3,
                    a0,
                    a1,
                    a2,
                    a3,
                    _,
                    _,
                    g0,
                    g1,
                    _,
                    _,
                    g2,
                    g3,
                    time @ ..,
                ] = message.first_chunk::<L4_HEAD_LEN>()?;
                let [t0, t1, t2, t3, t4, t5] = *time;
                Some(Self {
                    sequence: u32::from_be_bytes([*q0, *q1, *q2, *q3]),
                    slot: u32::from_be_bytes([*a0, *a1, *a2, *a3]),
                    generation: u32::from_be_bytes([*g0, *g1, *g2, *g3]),
                    time: u64::from_be_bytes([0, 0, t0, t1, t2, t3, t4, t5]),
                })
            }
        }
    }
}

#[inline]
fn fill_ipv6(header: &mut [u8], filling: &Filling<'_>) -> Option<()> {
    let flow = &filling.flow;
    let (fixed, fragment) = header.split_first_chunk_mut::<40>()?;
    let [s0, s1, s2, s3] = flow.client_low.to_be_bytes();
    [fixed[20], fixed[21], fixed[22], fixed[23]] = [s0, s1, s2, s3];
    if let Some(destination) = fixed.last_chunk_mut() {
        *destination = *flow.service.vip_v6();
    }
    if let Some(identification) = fragment.last_chunk_mut() {
        *identification = filling.identification.to_be_bytes();
    }
    Some(())
}

/// The two words of a number.
#[inline]
const fn words_of(number: u32) -> u32 {
    (number >> 16) + (number & 0xffff)
}

/// A sum of words as a 16-bit one's complement sum.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "two folds leave 16 bits")]
const fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + sum) as u16
}

/// All shapes of a run, as they are sent or as they are expected.
#[derive(Debug)]
pub(super) struct Shapes {
    all: Vec<Shape>,
    lens: usize,
    parts: usize,
}

impl Shapes {
    /// The shapes of packets with this TTL.
    pub(super) fn new(plan: &Plan, ttl: u8) -> Self {
        let options = &plan.options;
        let fragments = options.fragmentation.map_or(0, |f| f.parts);
        let mut shapes = Vec::new();
        for version in [IpVersion::V4, IpVersion::V6] {
            for transport in [Transport::Tcp, Transport::Udp] {
                for len in lens_of(plan) {
                    for part in (0..=fragments).map(Part::of) {
                        let draft = Draft {
                            version,
                            transport,
                            part,
                            parts: fragments,
                            len: usize::from(len),
                            ttl,
                        };
                        shapes.push(draft.shape(plan));
                    }
                }
            }
        }
        Self {
            all: shapes,
            lens: lens_of(plan).count(),
            parts: 1 + usize::from(fragments),
        }
    }

    /// The shape of a packet. `len` 0 is the shortest, others are places in the
    /// mix and 1.
    #[inline]
    pub(super) fn get(
        &self,
        version: IpVersion,
        transport: Transport,
        len: usize,
        part: usize,
    ) -> Option<&Shape> {
        let kind = kind_of(version, transport);
        self.all.get((kind * self.lens + len) * self.parts + part)
    }

    /// All shapes of a version and protocol.
    #[inline]
    pub(super) fn of(&self, version: IpVersion, transport: Transport) -> &[Shape] {
        let len = self.lens * self.parts;
        let start = kind_of(version, transport) * len;
        self.all.get(start..start + len).unwrap_or_default()
    }

    /// Gives all packets the way that they take on the link.
    pub(super) fn set_link(&mut self, link: Link) {
        for shape in &mut self.all {
            shape.set_link(link);
        }
    }
}

impl Part {
    const fn of(number: u8) -> Self {
        match number {
            0 => Self::Whole,
            1 => Self::First,
            number => Self::Later(number - 1),
        }
    }

    const fn place(self) -> usize {
        match self {
            Self::Whole | Self::First => 0,
            Self::Later(place) => place as usize,
        }
    }
}

#[inline]
const fn kind_of(version: IpVersion, transport: Transport) -> usize {
    let version = match version {
        IpVersion::V4 => 0,
        IpVersion::V6 => 2,
    };
    version
        + match transport {
            Transport::Tcp => 0,
            Transport::Udp => 1,
        }
}

/// The shortest length, of segments without data, and those of the mix.
fn lens_of(plan: &Plan) -> impl Iterator<Item = u16> {
    [super::size::FRAME_LEN_MIN]
        .into_iter()
        .chain(plan.options.sizes.lens().iter().copied())
}

/// What an IP header says about fragments: "more fragments" and offset of
/// IPv4, offset and M of the fragment header that follows one of IPv6.
#[inline]
pub(super) fn fragment_word(packet: &[u8]) -> Option<u16> {
    let (first, word) = match IpVersion::of_packet(packet) {
        IpVersion::V4 => (6, IPV4_FRAGMENT_MASK),
        IpVersion::V6 if packet.get(6) != Some(&FRAGMENT.0) => return Some(0),
        IpVersion::V6 => (42, u16::MAX),
    };
    let bytes = packet.get(first..)?.first_chunk()?;
    Some(u16::from_be_bytes(*bytes) & word)
}

/// All of the word but the reserved flag and DF.
const IPV4_FRAGMENT_MASK: u16 = 0x3fff;
/// Length of the TCP header in words of four bytes.
const TCP_HEADER_WORDS: u8 = 5;

#[cfg(test)]
mod tests;
