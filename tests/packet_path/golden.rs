//! Golden cases: the frames of `tests/golden/*-in.pcap` give those of
//! `*-out.pcap`, byte for byte, over ports in memory, over capture files and
//! over DPDK's `net_pcap`.
//!
//! The files say what a director with one port sends from its start on, so
//! that its announcements come first.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use pointsman::{
    clock::Ticks,
    config::{Config, NeighborConfig, PortConfig, ServiceConfig},
    director::assemble,
    io::{
        Driver, PortCapabilities, PortIndex,
        mem::{MemNetwork, MemPool},
        pcap::{PcapDriver, PcapPort},
    },
    service::Protocol,
    wire::ethernet::MacAddr,
    worker::WorkerQueues,
};

use crate::{
    frames::{GATEWAY, GATEWAY_MAC, VIP, server, server_mac},
    lab::{
        Setup, assert_sum, config, counters, descriptions, materials, port, service_key, settle,
    },
};

/// The name of a pair of files and the VLAN of the port.
pub(crate) type Case = (&'static str, Option<u16>);
pub(crate) const PLAIN: Case = ("plain", None);
pub(crate) const VLAN: Case = ("vlan", Some(7));

/// A worker receives its first burst before it takes up its first generation:
/// these frames, too short for anything, stand in for it.
const WARM_UP: [&[u8]; 64] = [&[0; 13]; 64];

fn file(case: Case, direction: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    folder.join(format!("{}-{direction}.pcap", case.0))
}

pub(crate) fn read(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(fs::File::open(path).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet.unwrap().data.into_owned());
    }
    frames
}

/// What the director receives: the case's frames behind the warm-up.
fn received(case: Case) -> Vec<Vec<u8>> {
    let warm_up = WARM_UP.iter().map(|frame| frame.to_vec());
    warm_up.chain(read(&file(case, "in"))).collect()
}

/// Writes what the director receives to `folder`.
pub(crate) fn write_received(case: Case, folder: &Path) -> PathBuf {
    let path = folder.join("in.pcap");
    let mut writer = PcapWriter::new(fs::File::create(&path).unwrap()).unwrap();
    for frame in received(case) {
        let len = u32::try_from(frame.len()).unwrap();
        let packet = PcapPacket::new(Duration::ZERO, len, &frame);
        writer.write_packet(&packet).unwrap();
    }
    path
}

/// One port with two networks: the router and the real server stand behind it.
pub(crate) fn config_of(case: Case) -> Config {
    let web = Setup::default().services.remove(0);
    let dns = ServiceConfig {
        key: service_key(VIP, Protocol::Udp, 53),
        ..web.clone()
    };
    let mut config = config(&Setup {
        services: vec![web, dns],
        vlan: case.1,
        ..Setup::default()
    });
    config.ports = vec![PortConfig {
        addresses: vec![
            "192.0.2.1/24".parse().unwrap(),
            "10.0.0.1/24".parse().unwrap(),
        ],
        ..port("lan", "192.0.2.1/24", case.1)
    }];
    config.routes.truncate(1);
    config.neighbors = [(GATEWAY, GATEWAY_MAC), (server(11), server_mac(11))]
        .map(|(address, mac)| NeighborConfig {
            port: 0,
            address: address.into(),
            mac: MacAddr(mac),
        })
        .to_vec();
    config
}

/// Runs a director until it has nothing left to do, and checks its sums.
pub(crate) fn run<D: Driver>(
    case: Case,
    port: D::Port,
    queues: WorkerQueues<D>,
    pool: D::Pool,
) -> BTreeMap<String, u64> {
    let materials = materials(vec![port], vec![queues], pool);
    let mut director = assemble(config_of(case), materials, Ticks::ZERO).unwrap();
    settle(&mut director, Ticks::ZERO);
    let counters = counters(&director);
    assert_sum(&counters);
    assert_eq!(counters["frame_too_short"], 64, "{counters:?}");
    counters
}

/// Compares frame by frame, so that a difference shows as what it is.
#[track_caller]
pub(crate) fn assert_sent(case: Case, sent: &[Vec<u8>]) {
    let expected = read(&file(case, "out"));
    for (number, (sent, expected)) in sent.iter().zip(&expected).enumerate() {
        assert!(
            sent == expected,
            "frame {number} is {sent:02x?}\nand should be {expected:02x?}"
        );
    }
    assert_eq!(sent.len(), expected.len());
}

fn over_memory(case: Case, capabilities: PortCapabilities) {
    let descriptions = descriptions(&config_of(case), capabilities);
    let network = MemNetwork::new(descriptions, 1, 256);
    for frame in received(case) {
        assert!(network.send(PortIndex(0), 0, &frame));
    }
    let (receive, transmit) = network.queues(0);
    let pool = network.pool();
    let queues = WorkerQueues {
        receive,
        transmit,
        pool: pool.clone(),
    };
    run::<pointsman::io::mem::MemDriver>(case, network.ports().remove(0), queues, pool);
    let sent: Vec<_> = network
        .take_sent()
        .into_iter()
        .map(|(_, frame)| frame)
        .collect();
    assert_sent(case, &sent);
    assert_eq!(network.packets_in_use(), 0);
}

fn over_capture_files(case: Case) {
    let folder = tempfile::tempdir().unwrap();
    let input = write_received(case, folder.path());
    let output = folder.path().join("out.pcap");
    let pool = MemPool::new(256);
    let description = descriptions(&config_of(case), PortCapabilities::default()).remove(0);
    let (port, receive, transmit) =
        PcapPort::open(description, &input, &output, pool.clone()).unwrap();
    let queues = WorkerQueues {
        receive: vec![Some(receive)],
        transmit: vec![Some(transmit)],
        pool: pool.clone(),
    };
    run::<PcapDriver>(case, port, queues, pool.clone());
    assert_sent(case, &read(&output));
    assert_eq!(pool.packets_in_use(), 0);
}

#[test]
fn the_plain_case_over_ports_in_memory() {
    over_memory(PLAIN, PortCapabilities::default());
}

#[test]
fn the_plain_case_over_ports_in_memory_that_fill_in_checksums() {
    over_memory(
        PLAIN,
        PortCapabilities {
            tx_ipv4_checksum: true,
            rx_ipv4_checksum: true,
            ..PortCapabilities::default()
        },
    );
}

#[test]
fn the_vlan_case_over_ports_in_memory() {
    over_memory(VLAN, PortCapabilities::default());
}

#[test]
fn the_plain_case_over_capture_files() {
    over_capture_files(PLAIN);
}

#[test]
fn the_vlan_case_over_capture_files() {
    over_capture_files(VLAN);
}
