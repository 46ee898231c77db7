//! Packets of a capture file, to be explained.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::{Path, PathBuf},
};

use pcap_file::{
    DataLink, PcapError,
    pcap::PcapReader,
    pcapng::{Block, PcapNgReader},
};

use crate::{
    control::status::explanation::QuestionPacket,
    explain::FRAMES_MAX,
    wire::{
        ethernet::{EtherType, EthernetHeader},
        vlan::VlanTag,
    },
};

/// Why packets cannot be taken from a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum CaptureError {
    /// It cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is neither pcap nor pcapng, or damaged.
    #[error("{} is no usable pcap or pcapng file: {error}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        error: PcapError,
    },
    /// It has frames of another kind.
    #[error(
        "packet {number} of {} is of link type {link:?}; only Ethernet and raw IP can be explained",
        path.display()
    )]
    Link {
        /// The file.
        path: PathBuf,
        /// From 1 on.
        number: usize,
        /// Of which kind.
        link: DataLink,
    },
    /// There is nothing in it.
    #[error("{} has no packet", .0.display())]
    Empty(PathBuf),
    /// There is too much in it.
    #[error(
        "{} has more than {FRAMES_MAX} packets; write --count {FRAMES_MAX} to take the first ones",
        .0.display()
    )]
    TooMany(PathBuf),
    /// It was captured with a snap length.
    #[error("packet {number} of {} was cut when it was captured; capture whole packets", path.display())]
    Cut {
        /// The file.
        path: PathBuf,
        /// From 1 on.
        number: usize,
    },
    /// There is no IP packet in a frame that is to be readdressed.
    #[error("packet {number} of {} is no IP packet, and cannot be readdressed", path.display())]
    NotIp {
        /// The file.
        path: PathBuf,
        /// From 1 on.
        number: usize,
    },
}

/// A packet as it stands in a file.
struct Captured {
    link: DataLink,
    bytes: Vec<u8>,
    is_whole: bool,
}

/// The packets of a file: all of them, or the first `count`. With `readdress`
/// the IP packets without their frames.
pub(super) fn packets(
    path: &Path,
    count: Option<usize>,
    readdress: bool,
) -> Result<Vec<QuestionPacket>, CaptureError> {
    let limit = count.unwrap_or(usize::MAX).min(FRAMES_MAX + 1);
    let captured = read(path, limit)?;
    if captured.is_empty() {
        return Err(CaptureError::Empty(path.to_owned()));
    }
    if captured.len() > FRAMES_MAX {
        return Err(CaptureError::TooMany(path.to_owned()));
    }
    (1..)
        .zip(captured)
        .map(|(number, packet)| question(path, number, packet, readdress))
        .collect()
}

fn question(
    path: &Path,
    number: usize,
    packet: Captured,
    readdress: bool,
) -> Result<QuestionPacket, CaptureError> {
    let path = path.to_owned();
    if !packet.is_whole {
        return Err(CaptureError::Cut { path, number });
    }
    match packet.link {
        DataLink::ETHERNET if readdress => {
            let packet = ip_packet_of(&packet.bytes).map(<[u8]>::to_vec);
            let packet = packet.ok_or(CaptureError::NotIp { path, number })?;
            Ok(QuestionPacket::Ip(packet))
        }
        DataLink::ETHERNET => Ok(QuestionPacket::Frame(packet.bytes)),
        DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 => Ok(QuestionPacket::Ip(packet.bytes)),
        link => Err(CaptureError::Link { path, number, link }),
    }
}

/// What an Ethernet frame carries, behind a VLAN tag if it has one.
fn ip_packet_of(frame: &[u8]) -> Option<&[u8]> {
    let (header, payload) = EthernetHeader::parse(frame).ok()?;
    let (ether_type, packet) = if header.ether_type() == EtherType::VLAN {
        let (tag, packet) = VlanTag::parse(payload).ok()?;
        (tag.ether_type(), packet)
    } else {
        (header.ether_type(), payload)
    };
    matches!(ether_type, EtherType::IPV4 | EtherType::IPV6).then_some(packet)
}

fn read(path: &Path, limit: usize) -> Result<Vec<Captured>, CaptureError> {
    let io = |error| CaptureError::Io {
        path: path.to_owned(),
        error,
    };
    let mut file = File::open(path).map_err(io)?;
    let mut magic = [0; 4];
    let is_pcapng = file.read_exact(&mut magic).is_ok() && magic == PCAPNG_MAGIC;
    file.rewind().map_err(io)?;
    let file = BufReader::new(file);
    let packets = if is_pcapng {
        read_pcapng(file, limit)
    } else {
        read_pcap(file, limit)
    };
    packets.map_err(|error| CaptureError::Format {
        path: path.to_owned(),
        error,
    })
}

fn read_pcap(file: impl Read, limit: usize) -> Result<Vec<Captured>, PcapError> {
    let mut reader = PcapReader::new(file)?;
    let link = reader.header().datalink;
    let mut packets = Vec::new();
    while packets.len() < limit
        && let Some(packet) = reader.next_packet()
    {
        let packet = packet?;
        packets.push(Captured {
            link,
            is_whole: packet.orig_len as usize == packet.data.len(),
            bytes: packet.data.into_owned(),
        });
    }
    Ok(packets)
}

fn read_pcapng(file: impl Read, limit: usize) -> Result<Vec<Captured>, PcapError> {
    let mut reader = PcapNgReader::new(file)?;
    let mut packets = Vec::new();
    while packets.len() < limit {
        let (interface, bytes, original_len) = match reader.next_block() {
            None => break,
            Some(Err(error)) => return Err(error),
            Some(Ok(Block::EnhancedPacket(packet))) => (
                packet.interface_id as usize,
                packet.data.into_owned(),
                packet.original_len,
            ),
            Some(Ok(Block::SimplePacket(packet))) => {
                (0, packet.data.into_owned(), packet.original_len)
            }
            Some(Ok(_)) => continue,
        };
        let Some(interface) = reader.interfaces().get(interface) else {
            return Err(PcapError::InvalidInterfaceId(
                u32::try_from(interface).unwrap_or(u32::MAX),
            ));
        };
        packets.push(Captured {
            link: interface.linktype,
            is_whole: original_len as usize == bytes.len(),
            bytes,
        });
    }
    Ok(packets)
}

/// Type of a section header block (draft-ietf-opsawg-pcapng section 4.1).
const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
