//! pktgen over ports in memory, with a test in place of the director.
use std::{cell::Cell, collections::BTreeMap};

use super::*;
use crate::{
    io::{
        PortCapabilities, PortDescription, PortIndex,
        mem::{MemDriver, MemNetwork},
    },
    pktgen::{
        Report,
        plan::{Options, tests::options},
    },
};

mod histories;
mod mismatches;
mod phases;

/// Another sum than that of `wire`, over words.
pub(super) fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

pub(super) const CLIENTS_MAC: [u8; 6] = [2, 0, 0, 0, 0xaa, 1];
pub(super) const SERVERS_MAC: [u8; 6] = [2, 0, 0, 0, 0xaa, 2];
pub(super) const DIRECTOR_MAC: [u8; 6] = [2, 0, 0, 0, 0xd0, 1];
pub(super) const DIRECTOR_SERVERS_MAC: [u8; 6] = [2, 0, 0, 0, 0xd0, 2];

/// pktgen with a port for clients and one for real servers, and a clock that
/// advances by a cycle whenever it is read; a second has a million of them.
pub(super) struct Lab {
    pub(super) network: MemNetwork,
    pub(super) pktgen: Pktgen<MemDriver>,
    pub(super) now: Cell<u64>,
}

impl Lab {
    pub(super) fn new(service: &str, change: impl FnOnce(&mut Options)) -> Self {
        Self::with(service, Some(MacAddr(DIRECTOR_MAC)), change)
    }

    pub(super) fn with(
        service: &str,
        director_mac: Option<MacAddr>,
        change: impl FnOnce(&mut Options),
    ) -> Self {
        let mut options = options(service);
        options.window = Some(64);
        options.duration = Duration::from_millis(10);
        change(&mut options);
        let macs = [CLIENTS_MAC, SERVERS_MAC];
        let describe = |mac| PortDescription {
            name: String::new(),
            device: "memory".to_owned(),
            driver: "mem".to_owned(),
            mac: MacAddr(mac),
            mtu: 9702,
            numa_node: None,
            rx_queues: 1,
            tx_queues: 1,
            capabilities: PortCapabilities::default(),
        };
        let network = MemNetwork::new(macs.map(describe).to_vec(), 1, 1000);
        let (receive, transmit) = network.queues(0);
        let ports = macs
            .into_iter()
            .zip(receive.into_iter().zip(transmit))
            .map(|(mac, (receive, transmit))| PktgenPort {
                mac: MacAddr(mac),
                receive: receive.into_iter().collect(),
                transmit: transmit.into_iter().collect(),
            })
            .collect();
        let links = Links {
            director_mac,
            director: Some("192.0.2.10".parse().unwrap()),
            locals: vec!["192.0.2.1".parse().unwrap()],
        };
        let plan = Plan::new(options).unwrap();
        let pktgen = Pktgen::new(plan, links, ports, network.pool(), 1_000_000).unwrap();
        Self {
            network,
            pktgen,
            now: Cell::new(0),
        }
    }

    pub(super) fn turn(&mut self) -> Turn {
        self.pktgen.turn(&|| {
            self.now.set(self.now.get() + 1);
            self.now.get()
        })
    }

    /// Turns until something is sent, and returns that.
    pub(super) fn sent(&mut self) -> Vec<Vec<u8>> {
        for _ in 0..10_000 {
            self.turn();
            let sent = self.network.take_sent();
            if !sent.is_empty() {
                assert!(sent.iter().all(|(port, _)| *port == PortIndex(0)));
                return sent.into_iter().map(|(_, frame)| frame).collect();
            }
        }
        panic!("nothing is sent");
    }

    /// A frame comes in by the port of the real servers.
    pub(super) fn receive(&mut self, frame: &[u8]) {
        self.receive_at(1, frame);
    }

    pub(super) fn receive_at(&mut self, port: u8, frame: &[u8]) {
        assert!(self.network.send(PortIndex(port), 0, frame));
        self.turn();
    }

    /// Runs to the end, with all that is sent going through `director`.
    pub(super) fn run(&mut self, mut director: impl FnMut(Vec<u8>) -> Vec<Vec<u8>>) -> Report {
        for _ in 0..1_000_000 {
            if self.turn() == Turn::Finished {
                assert_eq!(self.network.packets_in_use(), 0, "packet buffers in use");
                return Report::of(&self.pktgen);
            }
            for (port, frame) in self.network.take_sent() {
                assert_eq!(port, PortIndex(0));
                for frame in director(frame) {
                    assert!(self.network.send(PortIndex(1), 0, &frame));
                }
            }
        }
        panic!("the run does not end");
    }

    pub(super) fn mismatches(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.pktgen.checker().mismatches().counts();
        counts.map(|(kind, count)| (kind.name(), count)).collect()
    }
}

/// An outer header as the tests write it.
#[derive(Clone, Copy)]
pub(super) enum Around {
    V4,
    V6,
}

/// What a good director makes of an IPv4 frame: TTL one less, and an outer
/// header of this version with what `between` puts there.
pub(super) fn tunnelled(frame: &[u8], around: Around, (protocol, between): (u8, &[u8])) -> Vec<u8> {
    let mut inner = frame[14..].to_vec();
    let is_v6 = inner[0] >> 4 == 6;
    if is_v6 {
        inner[7] -= 1;
    } else {
        inner[8] -= 1;
        inner[10..12].fill(0);
        let sum = checksum(&inner[..20]);
        inner[10..12].copy_from_slice(&sum);
    }
    let ttl = if is_v6 { inner[7] } else { inner[8] };
    let len = u16::try_from(between.len() + inner.len()).unwrap();
    let mut out = [SERVERS_MAC, DIRECTOR_SERVERS_MAC].concat();
    match around {
        Around::V4 => {
            let total_len = (len + 20).to_be_bytes();
            let dont_fragment = if is_v6 { 0 } else { inner[6] & 0x40 };
            let mut header = [
                0x45,
                0,
                total_len[0],
                total_len[1],
                0,
                0,
                dont_fragment,
                0,
                ttl,
                protocol,
                0,
                0,
                10,
                0,
                0,
                1,
                10,
                0,
                0,
                11,
            ];
            if dont_fragment == 0 {
                // Any number that changes.
                header[4..6].copy_from_slice(&inner[inner.len() - 2..]);
            }
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum);
            out.extend([0x08, 0x00]);
            out.extend(header);
        }
        Around::V6 => {
            out.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            out.extend(len.to_be_bytes());
            out.extend([protocol, ttl]);
            out.extend(
                "2001:db8:2::1"
                    .parse::<std::net::Ipv6Addr>()
                    .unwrap()
                    .octets(),
            );
            out.extend(
                "2001:db8:2::11"
                    .parse::<std::net::Ipv6Addr>()
                    .unwrap()
                    .octets(),
            );
        }
    }
    out.extend(between);
    out.extend(inner);
    out
}

/// IPIP to the first real server.
pub(super) fn ipip(frame: &[u8]) -> Vec<u8> {
    tunnelled(frame, Around::V4, (4, &[]))
}
