//! Captured packets as a pcapng file (draft-ietf-opsawg-pcapng): an interface
//! for each port of the director, a block for each frame, and in its comment
//! what became of the packet.

use std::{
    borrow::Cow,
    io::{self, Write},
    time::Duration,
};

use pcap_file::{
    DataLink, PcapError,
    pcapng::{
        PcapNgWriter,
        blocks::{
            enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
            section_header::{SectionHeaderBlock, SectionHeaderOption},
        },
    },
};

use super::story;
use crate::{
    capture::Direction,
    control::status::{CapturedFrame, CapturedPacket, DirectorStatus, PortStatus},
    version::VERSION,
};

/// What the head of a file says.
pub(super) struct Description<'a> {
    pub(super) ports: &'a [PortStatus],
    pub(super) director: Option<&'a DirectorStatus>,
    pub(super) snaplen: u32,
    pub(super) expression: &'a str,
}

/// Writes a file.
pub(super) struct PcapNg<W: Write> {
    writer: PcapNgWriter<W>,
    port_names: Vec<String>,
}

impl<W: Write> PcapNg<W> {
    pub(super) fn start(sink: W, description: &Description<'_>) -> io::Result<Self> {
        let header = SectionHeaderBlock {
            options: section_options(description),
            ..SectionHeaderBlock::default()
        };
        let mut writer = PcapNgWriter::with_section_header(sink, header).map_err(as_io)?;
        let mut port_names = Vec::new();
        for port in description.ports {
            let block = InterfaceDescriptionBlock {
                linktype: DataLink::ETHERNET,
                snaplen: description.snaplen,
                options: interface_options(port, description.expression),
            };
            writer.write_pcapng_block(block).map_err(as_io)?;
            port_names.push(port.name.clone());
        }
        writer.get_mut().flush()?;
        Ok(Self { writer, port_names })
    }

    pub(super) fn write<'p>(
        &mut self,
        packets: impl Iterator<Item = (u64, &'p CapturedPacket)>,
    ) -> io::Result<()> {
        for (number, packet) in packets {
            for (index, frame) in packet.frames.iter().enumerate() {
                let comment = self.comment(number, packet, (index, frame));
                let block = EnhancedPacketBlock {
                    interface_id: frame.port.into(),
                    timestamp: Duration::from_nanos(packet.time_ns),
                    original_len: frame.len,
                    data: Cow::Borrowed(&frame.bytes),
                    options: vec![
                        EnhancedPacketOption::Comment(Cow::Owned(comment)),
                        EnhancedPacketOption::Flags(flags(frame.direction)),
                    ],
                };
                self.writer.write_pcapng_block(block).map_err(as_io)?;
            }
        }
        self.writer.get_mut().flush()
    }

    /// The first frame of a packet tells the story, the others refer to it.
    fn comment(
        &self,
        number: u64,
        packet: &CapturedPacket,
        (index, frame): (usize, &CapturedFrame),
    ) -> String {
        let worker = packet.worker;
        if index == 0 || frame.direction == Direction::In {
            let story = story(packet, &self.port_names);
            return format!("packet {number}, worker {worker}: {story}");
        }
        let to = packet
            .server
            .map_or_else(String::new, |server| format!(" for {server}"));
        format!("packet {number}, worker {worker}: what it became{to}")
    }
}

/// Bits 0 and 1 of `epb_flags`: inbound is 1, outbound 2.
const fn flags(direction: Direction) -> u32 {
    match direction {
        Direction::In => 1,
        Direction::Out => 2,
    }
}

fn section_options(description: &Description<'_>) -> Vec<SectionHeaderOption<'static>> {
    let machine = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let (system, release) = (text(machine.sysname()), text(machine.release()));
    let mut options = vec![
        SectionHeaderOption::Hardware(text(machine.machine()).into()),
        SectionHeaderOption::OS(format!("{system} {release}").into()),
        SectionHeaderOption::UserApplication(format!("pointsman {VERSION}").into()),
    ];
    if let Some(director) = description.director {
        let comment = format!(
            "director pointsman {}, {}, generation {}, {} workers",
            director.version,
            director.config_file.display(),
            director.generation,
            director.workers
        );
        options.push(SectionHeaderOption::Comment(comment.into()));
    }
    options
}

fn interface_options(
    port: &PortStatus,
    expression: &str,
) -> Vec<InterfaceDescriptionOption<'static>> {
    let vlan = port
        .vlan
        .map_or_else(String::new, |vlan| format!(", VLAN {vlan}"));
    let description = format!("{} ({}){vlan}", port.device, port.driver);
    let mut options = vec![
        InterfaceDescriptionOption::IfName(port.name.clone().into()),
        InterfaceDescriptionOption::IfDescription(description.into()),
        InterfaceDescriptionOption::IfMacAddr(port.mac.0.to_vec().into()),
        // Nanoseconds: ten to the power of minus nine.
        InterfaceDescriptionOption::IfTsResol(9),
        InterfaceDescriptionOption::IfHardware(port.driver.clone().into()),
    ];
    // "Unknown" has no number of its own there.
    if ![0, u32::MAX].contains(&port.speed_mbps) {
        let speed = u64::from(port.speed_mbps) * 1_000_000;
        options.push(InterfaceDescriptionOption::IfSpeed(speed));
    }
    if !expression.is_empty() {
        // 0: the text of a libpcap filter follows.
        let filter = [&[0], expression.as_bytes()].concat();
        options.push(InterfaceDescriptionOption::IfFilter(filter.into()));
    }
    options
}

fn as_io(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        error => io::Error::other(error),
    }
}
