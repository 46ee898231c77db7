//! What a director puts around a packet: the outer IP header and the tunnel's
//! own.
use std::net::IpAddr;

use super::mismatch::{Mismatch, MismatchKind as Kind};
use crate::wire::{
    IpProtocol, IpVersion,
    checksum::Sum,
    ethernet::EtherType,
    gre::GreHeader,
    gue::GueHeader,
    ipv4::{self, Ipv4Error, Ipv4Header},
    ipv6::{self, Ipv6Error, Ipv6Header},
    udp::UdpHeader,
};

/// An outer IP header, checked by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outer<'a> {
    pub(super) version: IpVersion,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: IpProtocol,
    pub(super) ttl: u8,
    pub(super) tos: u8,
    /// Of IPv4.
    pub(super) dont_fragment: bool,
    /// Of IPv4.
    pub(super) id: u16,
    /// Bytes of header and payload.
    pub(super) len: usize,
    pub(super) payload: &'a [u8],
    defect: Option<Mismatch>,
    pseudo_header: Sum,
}

impl<'a> Outer<'a> {
    /// Reads the header of an IP packet. `None` when it cannot be told where
    /// it goes; whatever else is wrong says [`check`](Self::check).
    #[inline]
    pub(super) fn read(version: IpVersion, packet: &'a [u8]) -> Option<Self> {
        match version {
            IpVersion::V4 => Self::read_v4(packet),
            IpVersion::V6 => Self::read_v6(packet),
        }
    }

    /// What is wrong with the header, whatever is in the packet.
    #[inline]
    pub(super) fn check(&self) -> Result<(), Mismatch> {
        match self.defect {
            None => Ok(()),
            Some(defect) => Err(defect),
        }
    }

    #[inline]
    fn read_v4(packet: &'a [u8]) -> Option<Self> {
        let (header, payload, error) = match Ipv4Header::parse(packet) {
            Ok((header, payload)) => (header, payload, None),
            Err(error) => {
                let (header, payload) = Ipv4Header::parse_quoted(packet).ok()?;
                (header, payload, Some(defect_of(&error)))
            }
        };
        let defect = error.or_else(|| {
            if header.header_len() != ipv4::HEADER_LEN || header.reserved_flag() {
                let len = header.header_len() as u64;
                Some(Mismatch::new(Kind::OuterHeader, len, 20_u8))
            } else if !packet.first_chunk().is_some_and(is_intact) {
                Some(Mismatch::new(Kind::OuterChecksum, header.checksum(), 0_u8))
            } else if header.is_fragment() {
                let offset = header.fragment_offset();
                Some(Mismatch::new(Kind::OuterFragment, offset, 0_u8))
            } else {
                None
            }
        });
        Some(Self {
            version: IpVersion::V4,
            source: header.source().into(),
            destination: header.destination().into(),
            protocol: header.protocol(),
            ttl: header.ttl(),
            tos: header.tos(),
            dont_fragment: header.dont_fragment(),
            id: header.id(),
            len: usize::from(header.total_len()),
            payload,
            defect,
            pseudo_header: Sum::ipv4_pseudo_header(
                header.source(),
                header.destination(),
                IpProtocol::UDP,
                0,
            ),
        })
    }

    fn read_v6(packet: &'a [u8]) -> Option<Self> {
        let (header, payload, error) = match Ipv6Header::parse(packet) {
            Ok((header, payload)) => (header, payload, None),
            Err(Ipv6Error::Version(_)) => return None,
            Err(_) => {
                let (header, payload) = Ipv6Header::parse_quoted(packet).ok()?;
                let len = header.total_len() as u64;
                let defect = Mismatch::new(Kind::OuterHeader, len, packet.len() as u64);
                (header, payload, Some(defect))
            }
        };
        let defect = error.or_else(|| {
            if header.next_header() == ipv6::FRAGMENT {
                Some(Mismatch::new(Kind::OuterFragment, 0_u8, 0_u8))
            } else if header.flow_label() != 0 {
                let label = header.flow_label();
                Some(Mismatch::new(Kind::OuterFlowLabel, label, 0_u8))
            } else {
                None
            }
        });
        Some(Self {
            version: IpVersion::V6,
            source: header.source().into(),
            destination: header.destination().into(),
            protocol: header.next_header(),
            ttl: header.hop_limit(),
            tos: header.traffic_class(),
            dont_fragment: false,
            id: 0,
            len: header.total_len(),
            payload,
            defect,
            pseudo_header: header.pseudo_header(IpProtocol::UDP, 0),
        })
    }

    /// Whether it may be a tunnel's packet by its protocol.
    #[inline]
    pub(super) fn is_tunnel(&self, gue_l4_port: u16) -> bool {
        match self.protocol {
            IpProtocol::IPIP | IpProtocol::IPV6 | IpProtocol::GRE => true,
            IpProtocol::UDP => UdpHeader::parse_quoted(self.payload)
                .is_ok_and(|(udp, _)| udp.destination_port() == gue_l4_port),
            _ => false,
        }
    }

    /// What is in the tunnel.
    ///
    /// # Errors
    /// When a header of the tunnel is malformed or its checksum wrong.
    #[inline]
    pub(super) fn open(&self) -> Result<Opened<'a>, Mismatch> {
        match self.protocol {
            IpProtocol::IPIP => Ok(Opened::ipip(IpVersion::V4, self.payload)),
            IpProtocol::IPV6 => Ok(Opened::ipip(IpVersion::V6, self.payload)),
            IpProtocol::GRE => open_gre(self.payload),
            _ => self.open_gue(),
        }
    }

    fn open_gue(&self) -> Result<Opened<'a>, Mismatch> {
        let malformed = || Mismatch::new(Kind::GueHeader, self.payload.len() as u64, 0_u8);
        let (udp, payload) = UdpHeader::parse(self.payload).map_err(|_| malformed())?;
        if usize::from(udp.len()) != self.payload.len() {
            return Err(malformed());
        }
        let pseudo_header = self.pseudo_header.add_u16(udp.len());
        if !udp.is_checksum_correct(pseudo_header, payload) {
            return Err(Mismatch::new(Kind::GueChecksum, udp.checksum(), 0_u8));
        }
        let (gue, inner) = GueHeader::parse(payload).map_err(|_| malformed())?;
        let version = match gue.protocol() {
            IpProtocol::IPIP => IpVersion::V4,
            IpProtocol::IPV6 => IpVersion::V6,
            other => return Err(Mismatch::new(Kind::GueHeader, other.0, 4_u8)),
        };
        Ok(Opened {
            tunnel: if udp.checksum() == 0 {
                Tunnel::Gue
            } else {
                Tunnel::GueChecksum
            },
            version,
            inner,
            source_port: Some(udp.source_port()),
        })
    }
}

fn open_gre(payload: &[u8]) -> Result<Opened<'_>, Mismatch> {
    let (gre, inner) = GreHeader::parse(payload)
        .map_err(|_| Mismatch::new(Kind::GreHeader, payload.len() as u64, 0_u8))?;
    if !gre.is_checksum_correct(inner) {
        return Err(Mismatch::new(Kind::GreChecksum, 0_u8, 0_u8));
    }
    let version = match gre.protocol() {
        EtherType::IPV4 => IpVersion::V4,
        EtherType::IPV6 => IpVersion::V6,
        other => return Err(Mismatch::new(Kind::GreHeader, other.0, EtherType::IPV4.0)),
    };
    Ok(Opened {
        tunnel: if gre.has_checksum() {
            Tunnel::GreChecksum
        } else {
            Tunnel::Gre
        },
        version,
        inner,
        source_port: None,
    })
}

/// What a tunnel had in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened<'a> {
    pub(super) tunnel: Tunnel,
    /// As the tunnel's header says.
    pub(super) version: IpVersion,
    pub(super) inner: &'a [u8],
    /// Of GUE.
    pub(super) source_port: Option<u16>,
}

impl<'a> Opened<'a> {
    pub(super) const fn ipip(version: IpVersion, inner: &'a [u8]) -> Self {
        Self {
            tunnel: Tunnel::Ipip,
            version,
            inner,
            source_port: None,
        }
    }
}

/// A kind of tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// IP in IP.
    Ipip,
    /// GRE without a checksum.
    Gre,
    /// GRE with a checksum.
    GreChecksum,
    /// GUE without a UDP checksum.
    Gue,
    /// GUE with a UDP checksum.
    GueChecksum,
}

impl Tunnel {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Ipip,
        Self::Gre,
        Self::GreChecksum,
        Self::Gue,
        Self::GueChecksum,
    ];

    /// How it is called on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Gre => "gre",
            Self::GreChecksum => "gre-csum",
            Self::Gue => "gue",
            Self::GueChecksum => "gue-csum",
        }
    }
}

/// Whether the checksum of a header without options is right. In one's
/// complement the order of bytes does not matter for that, nor how many words
/// are added at once (RFC 1071 section 2).
#[inline]
fn is_intact(header: &[u8; ipv4::HEADER_LEN]) -> bool {
    let (words, _) = header.as_chunks();
    let words = words
        .iter()
        .map(|word| u64::from(u32::from_ne_bytes(*word)));
    let sum: u64 = words.sum();
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    (sum >> 16) + (sum & 0xffff) == 0xffff
}

#[cold]
fn defect_of(error: &Ipv4Error) -> Mismatch {
    let (found, expected) = match *error {
        Ipv4Error::TotalLenBelowHeader {
            total_len,
            header_len,
        } => (u64::from(total_len), header_len as u64),
        Ipv4Error::Truncated {
            total_len,
            available,
        } => (u64::from(total_len), available as u64),
        _ => (0, 0),
    };
    Mismatch::new(Kind::OuterHeader, found, expected)
}
