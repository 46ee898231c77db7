//! Which bytes of a frame may differ from the recording, and the comparison
//! of a frame apart from them.
//!
//! Where bytes may differ, what they must be by themselves is still checked:
//! IPv4 header and ICMP checksums must be right, and a GUE checksum is present
//! exactly where the recording has one.

use std::{collections::HashMap, ops::Range};

use super::case::RecordedFrame;

const ETHERNET_LEN: usize = 14;
const IPV6_LEN: usize = 40;
const GUE_PORT: u16 = 6080;
/// ICMP type, RFC 792.
const TIMESTAMP_REPLY: u8 = 14;

/// Whether a frame takes no part in the comparison: multicast that the
/// recording host sent on its own.
pub fn is_ignored(frame: &[u8]) -> bool {
    frame.starts_with(&[0x33, 0x33]) || frame.starts_with(&[0x01, 0x00, 0x5e])
}

/// Why a frame is not as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    Port { recorded: u8, ours: u8 },
    Byte { offset: usize },
    Length { recorded: usize, ours: usize },
    HeaderChecksum,
    IcmpChecksum,
    FragmentIdentification,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port { recorded, ours } => write!(f, "port {ours} instead of {recorded}"),
            Self::Byte { offset } => write!(f, "first difference at offset {offset}"),
            Self::Length { recorded, ours } => {
                write!(f, "{ours} bytes long instead of {recorded}")
            }
            Self::HeaderChecksum => f.write_str("the outer IPv4 header checksum is wrong"),
            Self::IcmpChecksum => f.write_str("the ICMP checksum is wrong"),
            Self::FragmentIdentification => {
                f.write_str("fragments do not share identifications as the recorded ones do")
            }
        }
    }
}

/// Compares frames of one step. Fragments that share an identification in the
/// recording must do so in ours.
#[derive(Debug)]
pub struct Comparison<'a> {
    gue_ports: &'a [u16],
    identifications: HashMap<u16, u16>,
}

impl<'a> Comparison<'a> {
    /// A comparison for one step of a case that speaks GUE on `gue_ports`
    /// besides 6080.
    pub fn new(gue_ports: &'a [u16]) -> Self {
        Self {
            gue_ports,
            identifications: HashMap::new(),
        }
    }

    /// Compares one of our frames with its recorded counterpart.
    pub fn compare(
        &mut self,
        recorded: &RecordedFrame,
        port: u8,
        ours: &[u8],
    ) -> Result<(), Difference> {
        if recorded.nic != port {
            return Err(Difference::Port {
                recorded: recorded.nic,
                ours: port,
            });
        }
        let masked_recorded = self.masked(&recorded.bytes);
        let masked_ours = self.masked(ours);
        let mut pairs = masked_recorded.iter().zip(&masked_ours);
        if let Some(offset) = pairs.position(|(recorded, ours)| recorded != ours) {
            return Err(Difference::Byte { offset });
        }
        if masked_recorded.len() != masked_ours.len() {
            return Err(Difference::Length {
                recorded: masked_recorded.len(),
                ours: masked_ours.len(),
            });
        }
        self.check_ipv4(&recorded.bytes, ours)
    }

    fn check_ipv4(&mut self, recorded: &[u8], ours: &[u8]) -> Result<(), Difference> {
        let (Some(recorded), Some(ours)) = (Ipv4::of(recorded), Ipv4::of(ours)) else {
            return Ok(());
        };
        if ones_complement_sum(ours.header) != 0xffff {
            return Err(Difference::HeaderChecksum);
        }
        if ours.protocol() == 1
            && !ours.is_fragment()
            && ones_complement_sum(ours.payload) != 0xffff
        {
            return Err(Difference::IcmpChecksum);
        }
        if recorded.is_fragment() {
            let expected = *self
                .identifications
                .entry(recorded.identification())
                .or_insert_with(|| ours.identification());
            if expected != ours.identification() {
                return Err(Difference::FragmentIdentification);
            }
        }
        Ok(())
    }

    /// The frame with 0 in all bytes that may differ, and with 1 in a GUE
    /// checksum that is not 0.
    fn masked(&self, frame: &[u8]) -> Vec<u8> {
        let mut masked = frame.to_vec();
        let mut clear = |range: Range<usize>| {
            if let Some(bytes) = masked.get_mut(range) {
                bytes.fill(0);
            }
        };
        let mut gue_at = None;
        if let Some(ipv4) = Ipv4::of(frame) {
            if !ipv4.dont_fragment() {
                clear(ETHERNET_LEN + 4..ETHERNET_LEN + 6);
                clear(ETHERNET_LEN + 10..ETHERNET_LEN + 12);
            }
            let l4 = ETHERNET_LEN + ipv4.header.len();
            if ipv4.protocol() == 17 && ipv4.fragment_offset() == 0 {
                gue_at = Some(l4);
            }
            if ipv4.protocol() == 1 && frame.get(l4) == Some(&TIMESTAMP_REPLY) {
                // Checksum, time received and time sent.
                clear(l4 + 2..l4 + 4);
                clear(l4 + 12..l4 + 20);
            }
        } else if u16_at(frame, 12) == Some(0x86dd) {
            // Version and traffic class share bytes with the flow label.
            clear(ETHERNET_LEN + 2..ETHERNET_LEN + 4);
            let next_header = frame.get(ETHERNET_LEN + 6).copied();
            match next_header {
                Some(17) => gue_at = Some(ETHERNET_LEN + IPV6_LEN),
                Some(44) => clear(ETHERNET_LEN + IPV6_LEN + 4..ETHERNET_LEN + IPV6_LEN + 8),
                _ => {}
            }
            if let Some(byte) = masked.get_mut(ETHERNET_LEN + 1) {
                *byte &= 0xf0;
            }
        }
        if let Some(at) = gue_at
            && u16_at(frame, at + 2)
                .is_some_and(|port| port == GUE_PORT || self.gue_ports.contains(&port))
        {
            let has_checksum = u16_at(frame, at + 6) != Some(0);
            if let Some(source_port) = masked.get_mut(at..at + 2) {
                source_port.fill(0);
            }
            if let Some(checksum) = masked.get_mut(at + 6..at + 8) {
                checksum.fill(u8::from(has_checksum));
            }
        }
        masked
    }
}

/// The IPv4 packet in an Ethernet frame.
struct Ipv4<'a> {
    header: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    fn of(frame: &'a [u8]) -> Option<Self> {
        if u16_at(frame, 12) != Some(0x0800) {
            return None;
        }
        let packet = frame.get(ETHERNET_LEN..)?;
        let header_len = usize::from(packet.first()? & 0x0f) * 4;
        let header = packet
            .get(..header_len)
            .filter(|header| header.len() >= 20)?;
        let end = usize::from(u16_at(header, 2)?);
        Some(Self {
            header,
            payload: packet.get(header_len..end)?,
        })
    }

    fn identification(&self) -> u16 {
        u16_at(self.header, 4).unwrap_or_default()
    }

    fn flags_and_offset(&self) -> u16 {
        u16_at(self.header, 6).unwrap_or_default()
    }

    fn dont_fragment(&self) -> bool {
        self.flags_and_offset() & 0x4000 != 0
    }

    fn fragment_offset(&self) -> u16 {
        self.flags_and_offset() & 0x1fff
    }

    fn is_fragment(&self) -> bool {
        self.flags_and_offset() & 0x3fff != 0
    }

    fn protocol(&self) -> u8 {
        self.header.get(9).copied().unwrap_or_default()
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// RFC 1071; 0xffff over data with a right checksum.
fn ones_complement_sum(data: &[u8]) -> u16 {
    data.chunks(2).fold(0, |sum: u16, pair| {
        let high = pair.first().copied().unwrap_or_default();
        let low = pair.get(1).copied().unwrap_or_default();
        let (sum, carry) = sum.overflowing_add(u16::from_be_bytes([high, low]));
        sum + u16::from(carry)
    })
}
