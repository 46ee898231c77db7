//! A process for each test, and what the tests set up.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use pointsman::{
    config::{Device, EalConfig, Hugepages},
    io::{
        Packet, PacketPool,
        dpdk::{
            DpdkPool, Eal, EalArguments, Mbuf, PoolSettings, PortSettings, RSS_KEY, data_room_len,
        },
    },
};

/// Set in the process that runs a test's body, to its name.
pub(crate) const CHILD: &str = "POINTSMAN_DPDK_TEST";
pub(crate) const CHILD_TIME_MAX: Duration = Duration::from_secs(60);

pub(crate) fn in_own_process(name: &str, body: fn()) {
    in_own_process_under(&[], name, body);
}

/// Runs `body` in a process that is started by the command `prefix`.
pub(crate) fn in_own_process_under(prefix: &[&str], name: &str, body: fn()) {
    if env::var_os(CHILD).is_some_and(|child| child.to_str() == Some(name)) {
        return body();
    }
    let executable = env::current_exe().unwrap();
    let mut words: Vec<&str> = prefix.to_vec();
    words.extend([executable.to_str().unwrap(), "--exact", name, "--nocapture"]);
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .env(CHILD, name)
        .stdin(Stdio::null())
        .stdout(log.reopen().unwrap())
        .stderr(
            fs::OpenOptions::new()
                .append(true)
                .open(log.path())
                .unwrap(),
        )
        .spawn()
        .unwrap();
    let deadline = Instant::now() + CHILD_TIME_MAX;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            break child.wait().unwrap();
        }
        thread::sleep(Duration::from_millis(10));
    };
    let text = String::from_utf8_lossy(&fs::read(log.path()).unwrap()).into_owned();
    assert!(status.success(), "{status}\n{text}");
    assert!(text.contains("1 passed"), "the test did not run:\n{text}");
    let left = Path::new("/var/run/dpdk").join(file_prefix(child.id()));
    assert!(!left.exists(), "{} is left behind", left.display());
}

fn file_prefix(process: u32) -> String {
    format!("pmdpdk{process}")
}

pub(crate) fn arguments(vdevs: &[&str]) -> EalArguments {
    EalArguments {
        config: EalConfig {
            hugepages: Hugepages::None,
            memory_mib: 128,
            memory_channels: None,
            file_prefix: file_prefix(std::process::id()),
            extra_arguments: Vec::new(),
        },
        devices: vdevs
            .iter()
            .map(|&vdev| Device::Vdev(vdev.to_owned()))
            .collect(),
        management_core: None,
        worker_cores: Vec::new(),
    }
}

pub(crate) fn start(vdevs: &[&str]) -> Eal {
    Eal::start(&arguments(vdevs)).unwrap()
}

pub(crate) fn settings(vdev: &str, queues: u16) -> PortSettings {
    PortSettings {
        name: "lan".to_owned(),
        device: Device::Vdev(vdev.to_owned()),
        mtu: 1500,
        vlan: false,
        mac: None,
        queues,
        rx_descriptors: 256,
        tx_descriptors: 256,
        rss_key: RSS_KEY,
        single_pool: false,
    }
}

pub(crate) fn pool(eal: &Eal, packets: u32) -> DpdkPool {
    let data_room = data_room_len(1500);
    DpdkPool::create(
        eal,
        PoolSettings {
            packets,
            data_room,
            numa_node: None,
        },
    )
    .unwrap()
}

pub(crate) fn packet(pool: &mut DpdkPool, bytes: &[u8]) -> Mbuf {
    let mut packet = pool.allocate().unwrap();
    packet.extend(bytes.len()).unwrap().copy_from_slice(bytes);
    packet
}

/// An Ethernet frame of 60 bytes that is told from others by `number`.
pub(crate) fn frame(number: u32) -> [u8; 60] {
    let mut frame = [0xee; 60];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame[14..18].copy_from_slice(&number.to_be_bytes());
    frame
}

pub(crate) fn number_of(packet: &Mbuf) -> u32 {
    u32::from_be_bytes(packet.bytes()[14..18].try_into().unwrap())
}

pub(crate) fn write_pcap(path: &Path, frames: &[&[u8]]) {
    let mut writer = PcapWriter::new(fs::File::create(path).unwrap()).unwrap();
    for frame in frames {
        let len = u32::try_from(frame.len()).unwrap();
        writer
            .write_packet(&PcapPacket::new(Duration::ZERO, len, frame))
            .unwrap();
    }
}

pub(crate) fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(fs::File::open(path).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet.unwrap().data.into_owned());
    }
    frames
}

pub(crate) fn pcap_vdev(dir: &Path) -> String {
    let (rx, tx) = (dir.join("rx.pcap"), dir.join("tx.pcap"));
    format!(
        "net_pcap0,rx_pcap={},tx_pcap={}",
        rx.display(),
        tx.display()
    )
}

/// A UDP packet over IPv4 from 192.0.2.1 with a source port of its own.
pub(crate) fn udp_frame(source_port: u16) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x08, 0x00];
    frame.extend([
        0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0xb6, 0xc9, 192, 0, 2, 1, 192, 0, 2, 2,
    ]);
    frame.extend(source_port.to_be_bytes());
    frame.extend([0, 53, 0, 12, 0, 0, 1, 2, 3, 4]);
    frame
}

pub(crate) fn may_make_network_namespaces() -> bool {
    Command::new("unshare")
        .args(["--net", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

pub(crate) fn run(command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    let status = Command::new(words[0]).args(&words[1..]).status().unwrap();
    assert!(status.success(), "{command}: {status}");
}

/// Hugepages of 2 MiB that nobody uses.
pub(crate) fn free_hugepages() -> u32 {
    fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_default()
}
