//! What was on the wire, by tcpdump.

use std::{fs, net::Ipv4Addr, path::PathBuf};

use pcap_file::pcap::PcapReader;
use rustix::process::Signal;

use super::{
    lab::Lab,
    namespace::{Namespace, Process, wait_for},
};

/// A running capture.
#[derive(Debug)]
pub(crate) struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Captures on an interface, in both directions.
    pub(crate) fn start(lab: &Lab, namespace: &Namespace, interface: &str) -> Self {
        let name = format!("{}-{interface}", namespace.name);
        let (file, log) = (
            lab.path(&format!("{name}.pcap")),
            lab.path(&format!("{name}.log")),
        );
        // Not what an earlier one said.
        let _ = fs::remove_file(&log);
        let path = file.to_str().unwrap();
        // Without immediate mode the kernel keeps packets back for a second.
        let words = [
            "tcpdump",
            "--immediate-mode",
            "-U",
            "-Z",
            "root",
            "-i",
            interface,
            "-w",
            path,
        ];
        let process = namespace.spawn(&words, &log);
        wait_for("tcpdump listens", || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains("listening on"))
        });
        Self { process, file }
    }

    /// The capture's file, complete.
    pub(crate) fn stop(mut self) -> PathBuf {
        self.process.signal(Signal::TERM);
        self.process.wait();
        self.file.clone()
    }

    /// The frames captured.
    pub(crate) fn frames(self) -> Vec<Frame> {
        let mut reader = PcapReader::new(fs::File::open(self.stop()).unwrap()).unwrap();
        let mut frames = Vec::new();
        while let Some(packet) = reader.next_packet() {
            frames.push(Frame(packet.unwrap().data.into_owned()));
        }
        frames
    }
}

/// An Ethernet frame. Fields of the IPv4 header stand where they do without a
/// VLAN tag.
#[derive(Debug)]
pub(crate) struct Frame(pub(crate) Vec<u8>);

impl Frame {
    pub(crate) fn is_ipv4(&self) -> bool {
        self.0[12..14] == [0x08, 0x00]
    }

    pub(crate) fn is_arp(&self) -> bool {
        self.0[12..14] == [0x08, 0x06]
    }

    pub(crate) fn source_mac(&self) -> &[u8] {
        &self.0[6..12]
    }

    pub(crate) fn protocol(&self) -> u8 {
        self.0[23]
    }

    pub(crate) fn source(&self) -> Ipv4Addr {
        self.address_at(26)
    }

    pub(crate) fn destination(&self) -> Ipv4Addr {
        self.address_at(30)
    }

    /// "More fragments", and the offset in units of eight bytes.
    pub(crate) fn fragment(&self) -> (bool, u16) {
        let field = u16::from_be_bytes([self.0[20], self.0[21]]);
        (field & 0x2000 != 0, field & 0x1fff)
    }

    pub(crate) fn address_at(&self, offset: usize) -> Ipv4Addr {
        let octets: [u8; 4] = self.0[offset..offset + 4].try_into().unwrap();
        octets.into()
    }
}
