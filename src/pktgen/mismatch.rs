//! What can be wrong with a packet that comes out of a tunnel.
use std::fmt;

/// Kinds of what is wrong. A packet counts for the first that is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MismatchKind {
    /// The frame is spread over several buffers.
    Scattered,
    /// It came in by the clients' port.
    WrongPort,
    /// The frame is not for us.
    DestinationMac,
    /// The frame is not from the director.
    SourceMac,
    /// It has another VLAN tag, or none, or one too many.
    VlanTag,
    /// It is longer than its IP packet.
    FrameLength,
    /// The outer IP header is malformed.
    OuterHeader,
    /// The outer IPv4 header checksum is wrong.
    OuterChecksum,
    /// The outer packet is a fragment.
    OuterFragment,
    /// The outer protocol is no tunnel's.
    OuterProtocol,
    /// The outer source address is not allowed, or not the one before.
    OuterSource,
    /// The outer TTL is not that of the inner header.
    OuterTtl,
    /// The outer TOS does not follow from the inner one.
    OuterTos,
    /// The outer DF flag does not follow from the inner one.
    OuterDf,
    /// The outer identification is not 0 with DF, or does not change without.
    OuterId,
    /// The outer IPv6 flow label is not 0.
    OuterFlowLabel,
    /// It is another tunnel than expected, or than before.
    TunnelKind,
    /// The GRE header is malformed.
    GreHeader,
    /// The GRE checksum is wrong.
    GreChecksum,
    /// The UDP or GUE header is malformed.
    GueHeader,
    /// The UDP checksum of GUE is wrong.
    GueChecksum,
    /// The UDP source port of GUE changed within a flow.
    GueSourcePort,
    /// The inner packet does not end where the outer one does.
    InnerLength,
    /// The inner packet is none that was sent.
    InnerUnknown,
    /// The inner TTL is not one less than was sent.
    InnerTtl,
    /// The inner IPv4 header checksum is not that of the header.
    InnerChecksum,
    /// Another field of the inner IP header changed.
    InnerHeader,
    /// Client or VIP changed.
    InnerAddresses,
    /// An L4 port changed.
    InnerPorts,
    /// Something else in the L4 header or the stamp changed.
    InnerL4,
    /// The payload changed.
    InnerPayload,
    /// A place in the flow that was not sent yet.
    NeverSent,
    /// The flow was with another real server before.
    FlowMoved,
}

/// How many kinds there are.
pub const KINDS: usize = MismatchKind::ALL.len();

impl MismatchKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 33] = [
        Self::Scattered,
        Self::WrongPort,
        Self::DestinationMac,
        Self::SourceMac,
        Self::VlanTag,
        Self::FrameLength,
        Self::OuterHeader,
        Self::OuterChecksum,
        Self::OuterFragment,
        Self::OuterProtocol,
        Self::OuterSource,
        Self::OuterTtl,
        Self::OuterTos,
        Self::OuterDf,
        Self::OuterId,
        Self::OuterFlowLabel,
        Self::TunnelKind,
        Self::GreHeader,
        Self::GreChecksum,
        Self::GueHeader,
        Self::GueChecksum,
        Self::GueSourcePort,
        Self::InnerLength,
        Self::InnerUnknown,
        Self::InnerTtl,
        Self::InnerChecksum,
        Self::InnerHeader,
        Self::InnerAddresses,
        Self::InnerPorts,
        Self::InnerL4,
        Self::InnerPayload,
        Self::NeverSent,
        Self::FlowMoved,
    ];

    /// How it is called in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scattered => "scattered",
            Self::WrongPort => "wrong_port",
            Self::DestinationMac => "destination_mac",
            Self::SourceMac => "source_mac",
            Self::VlanTag => "vlan_tag",
            Self::FrameLength => "frame_length",
            Self::OuterHeader => "outer_header",
            Self::OuterChecksum => "outer_checksum",
            Self::OuterFragment => "outer_fragment",
            Self::OuterProtocol => "outer_protocol",
            Self::OuterSource => "outer_source",
            Self::OuterTtl => "outer_ttl",
            Self::OuterTos => "outer_tos",
            Self::OuterDf => "outer_df",
            Self::OuterId => "outer_id",
            Self::OuterFlowLabel => "outer_flow_label",
            Self::TunnelKind => "tunnel_kind",
            Self::GreHeader => "gre_header",
            Self::GreChecksum => "gre_checksum",
            Self::GueHeader => "gue_header",
            Self::GueChecksum => "gue_checksum",
            Self::GueSourcePort => "gue_source_port",
            Self::InnerLength => "inner_length",
            Self::InnerUnknown => "inner_unknown",
            Self::InnerTtl => "inner_ttl",
            Self::InnerChecksum => "inner_checksum",
            Self::InnerHeader => "inner_header",
            Self::InnerAddresses => "inner_addresses",
            Self::InnerPorts => "inner_ports",
            Self::InnerL4 => "inner_l4",
            Self::InnerPayload => "inner_payload",
            Self::NeverSent => "never_sent",
            Self::FlowMoved => "flow_moved",
        }
    }
}

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Of which kind it is.
    pub kind: MismatchKind,
    /// What the packet has: a field's value, or a place in bytes.
    pub found: u64,
    /// What it should have.
    pub expected: u64,
}

impl Mismatch {
    #[cold]
    pub(super) fn new(kind: MismatchKind, found: impl Into<u64>, expected: impl Into<u64>) -> Self {
        Self {
            kind,
            found: found.into(),
            expected: expected.into(),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            found,
            expected,
        } = self;
        write!(f, "{}: {found:#x} in place of {expected:#x}", kind.name())
    }
}

/// How often what was found, and the first packets.
#[derive(Clone, Debug)]
pub struct Mismatches {
    counts: [u64; KINDS],
    samples: Vec<Sample>,
}

/// A packet that had something wrong with it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What was wrong.
    pub mismatch: Mismatch,
    /// The frame, as far as it is kept.
    pub frame: Vec<u8>,
}

impl Default for Mismatches {
    fn default() -> Self {
        Self {
            counts: [0; KINDS],
            samples: Vec::new(),
        }
    }
}

impl Mismatches {
    /// Counts, and keeps the frame if it is one of the first.
    #[cold]
    pub(super) fn add(&mut self, mismatch: Mismatch, frame: &[u8]) {
        if let Some(count) = self.counts.get_mut(mismatch.kind as usize) {
            *count += 1;
            if *count <= SAMPLES_EACH && self.samples.len() < SAMPLES_MAX {
                self.samples.push(Sample {
                    mismatch,
                    frame: frame.iter().copied().take(SAMPLE_LEN_MAX).collect(),
                });
            }
        }
    }

    /// The kinds that occurred, with how often they did.
    pub fn counts(&self) -> impl Iterator<Item = (MismatchKind, u64)> + '_ {
        let counts = self.counts.iter().copied();
        MismatchKind::ALL
            .into_iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0)
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The first packets of each kind.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }
}

/// Packets of each kind that are kept.
const SAMPLES_EACH: u64 = 2;
/// Packets that are kept.
const SAMPLES_MAX: usize = 8;
/// Bytes of them that are kept.
const SAMPLE_LEN_MAX: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places_in_the_list() {
        for (place, kind) in MismatchKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "{kind:?}");
        }
    }

    #[test]
    fn the_first_packets_of_each_kind_are_kept() {
        let mut mismatches = Mismatches::default();
        for byte in 0..5 {
            let mismatch = Mismatch::new(MismatchKind::OuterTtl, byte, 63_u8);
            mismatches.add(mismatch, &[byte; 200]);
        }
        mismatches.add(Mismatch::new(MismatchKind::InnerTtl, 1_u8, 2_u8), &[9]);
        let counts: Vec<_> = mismatches.counts().collect();
        assert_eq!(
            counts,
            [(MismatchKind::OuterTtl, 5), (MismatchKind::InnerTtl, 1)]
        );
        assert_eq!(mismatches.total(), 6);
        let frames: Vec<_> = mismatches.samples().iter().map(|s| s.frame.len()).collect();
        assert_eq!(frames, [160, 160, 1]);
        assert_eq!(
            mismatches.samples()[1].mismatch.to_string(),
            "outer_ttl: 0x1 in place of 0x3f"
        );
    }
}
