//! Ports over capture files (pcap), for golden tests.
//!
//! What is received stands in one file and what is sent goes to another.
//! Times in the input are ignored: a frame is there when a burst has room for
//! it. The frames of the output are numbered by their times, one microsecond
//! apart, since there is no clock here.
#![forbid(unsafe_code)]

use std::{
    fmt,
    fs::File,
    io::{BufReader, BufWriter},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use pcap_file::{
    DataLink,
    pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter},
};

use super::{
    Burst, Driver, Link, Packet, Port, PortDescription, PortStatistics, RxQueue, TxQueue,
    mem::{MemPacket, MemPool},
};

/// Ports over capture files.
#[derive(Clone, Copy, Debug)]
pub struct PcapDriver;

impl Driver for PcapDriver {
    type Packet = MemPacket;
    type RxQueue = PcapRxQueue;
    type TxQueue = PcapTxQueue;
    type Pool = MemPool;
    type Port = PcapPort;
}

/// A capture file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// It cannot be opened or created.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its contents are not what pcap prescribes, or it cannot be written.
    #[error("{} is not a usable pcap file: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pcap_file::PcapError,
    },
    /// It holds frames of another kind than Ethernet.
    #[error("{} holds frames of type {found:?}; only Ethernet can be replayed", path.display())]
    NotEthernet {
        /// The file.
        path: PathBuf,
        /// The link type it says it has.
        found: DataLink,
    },
}

/// A port over a pair of capture files: opens them and counts.
#[derive(Debug)]
pub struct PcapPort {
    description: PortDescription,
    counters: Arc<Counters>,
}

impl PcapPort {
    /// A port that receives the frames of the file `input`, in packets of
    /// `pool`, and writes what is sent to the new file `output`.
    ///
    /// # Errors
    ///
    /// When a file cannot be opened or created, or when `input` is not a pcap
    /// file of Ethernet frames.
    pub fn open(
        description: PortDescription,
        input: &Path,
        output: &Path,
        pool: MemPool,
    ) -> Result<(Self, PcapRxQueue, PcapTxQueue), PcapError> {
        let counters = Arc::<Counters>::default();
        let rx = PcapRxQueue {
            reader: reader(input)?,
            pool,
            counters: Arc::clone(&counters),
        };
        let tx = PcapTxQueue {
            writer: writer(output)?,
            ipv4_checksum: description.capabilities.tx_ipv4_checksum,
            counters: Arc::clone(&counters),
        };
        Ok((
            Self {
                description,
                counters,
            },
            rx,
            tx,
        ))
    }
}

impl Port for PcapPort {
    fn description(&self) -> &PortDescription {
        &self.description
    }

    fn link(&self) -> Link {
        Link {
            up: true,
            speed_mbps: 0,
        }
    }

    fn statistics(&self) -> PortStatistics {
        PortStatistics {
            rx_packets: self.counters.rx_packets.load(Relaxed),
            rx_bytes: self.counters.rx_bytes.load(Relaxed),
            rx_errors: self.counters.rx_errors.load(Relaxed),
            tx_packets: self.counters.tx_packets.load(Relaxed),
            tx_bytes: self.counters.tx_bytes.load(Relaxed),
            tx_errors: self.counters.tx_errors.load(Relaxed),
            ..PortStatistics::default()
        }
    }
}

/// Receives the frames of a capture file in their order.
pub struct PcapRxQueue {
    /// `None` after the end of the file or an error in it.
    reader: Option<PcapReader<BufReader<File>>>,
    pool: MemPool,
    counters: Arc<Counters>,
}

impl PcapRxQueue {
    /// Whether the whole file has been received.
    pub fn is_exhausted(&self) -> bool {
        self.reader.is_none()
    }

    /// The next frame. `None` at the end of the file, and when no packet is
    /// free to hold it; it is then lost, as on a NIC.
    fn next_packet(&mut self) -> Option<MemPacket> {
        let record = match self.reader.as_mut()?.next_packet() {
            Some(Ok(record)) => record,
            Some(Err(_)) => {
                count(&self.counters.rx_errors, 1);
                self.reader = None;
                return None;
            }
            None => {
                self.reader = None;
                return None;
            }
        };
        let packet = self.pool.packet_of(&record.data);
        if packet.is_some() {
            count(&self.counters.rx_packets, 1);
            count(&self.counters.rx_bytes, record.data.len());
        } else {
            count(&self.counters.rx_errors, 1);
        }
        packet
    }
}

impl RxQueue for PcapRxQueue {
    type Packet = MemPacket;

    fn receive(&mut self, burst: &mut Burst<MemPacket>) -> usize {
        let len_before = burst.len();
        while !burst.is_full()
            && let Some(packet) = self.next_packet()
        {
            burst.push(packet);
        }
        burst.len() - len_before
    }
}

impl fmt::Debug for PcapRxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PcapRxQueue")
            .field("exhausted", &self.is_exhausted())
            .finish()
    }
}

/// Writes what is sent to a capture file.
#[derive(Debug)]
pub struct PcapTxQueue {
    writer: PcapWriter<BufWriter<File>>,
    ipv4_checksum: bool,
    counters: Arc<Counters>,
}

impl TxQueue for PcapTxQueue {
    type Packet = MemPacket;

    fn transmit(&mut self, burst: &mut Burst<MemPacket>) -> usize {
        let accepted = burst.len();
        for mut packet in burst.drain(..) {
            if self.ipv4_checksum {
                packet.fill_in_checksum();
            }
            let frame = packet.bytes();
            let time = Duration::from_micros(self.counters.tx_packets.load(Relaxed));
            let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            if self
                .writer
                .write_packet(&PcapPacket::new(time, len, frame))
                .is_ok()
            {
                count(&self.counters.tx_packets, 1);
                count(&self.counters.tx_bytes, frame.len());
            } else {
                count(&self.counters.tx_errors, 1);
            }
        }
        accepted
    }
}

#[derive(Debug, Default)]
struct Counters {
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
    rx_errors: AtomicU64,
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
    tx_errors: AtomicU64,
}

fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(u64::try_from(by).unwrap_or(u64::MAX), Relaxed);
}

fn reader(path: &Path) -> Result<Option<PcapReader<BufReader<File>>>, PcapError> {
    let file = File::open(path).map_err(|source| PcapError::Open {
        path: path.to_owned(),
        source,
    })?;
    let reader = PcapReader::new(BufReader::new(file)).map_err(|source| PcapError::Format {
        path: path.to_owned(),
        source,
    })?;
    let found = reader.header().datalink;
    if found == DataLink::ETHERNET {
        Ok(Some(reader))
    } else {
        Err(PcapError::NotEthernet {
            path: path.to_owned(),
            found,
        })
    }
}

fn writer(path: &Path) -> Result<PcapWriter<BufWriter<File>>, PcapError> {
    let file = File::create(path).map_err(|source| PcapError::Open {
        path: path.to_owned(),
        source,
    })?;
    PcapWriter::with_header(BufWriter::new(file), PcapHeader::default()).map_err(|source| {
        PcapError::Format {
            path: path.to_owned(),
            source,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{io::PortCapabilities, wire::ethernet::MacAddr};

    /// A pcap file header: magic, version 2.4, zone and accuracy 0, longest
    /// frame 65535, link type Ethernet; all in little-endian byte order.
    const FILE_HEADER: [u8; 24] = [
        0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0,
    ];

    fn file_of(frames: &[&[u8]]) -> Vec<u8> {
        let mut file = FILE_HEADER.to_vec();
        for frame in frames {
            let len = u32::try_from(frame.len()).unwrap();
            for field in [1_700_000_000, 0, len, len] {
                file.extend(field.to_le_bytes());
            }
            file.extend(*frame);
        }
        file
    }

    fn open(
        folder: &Path,
        input: &[u8],
        pool: MemPool,
    ) -> Result<(PcapPort, PcapRxQueue, PcapTxQueue), PcapError> {
        let description = PortDescription {
            name: "port0".to_owned(),
            device: "pcap".to_owned(),
            driver: "pcap".to_owned(),
            mac: MacAddr([2, 0, 0, 0, 0, 0]),
            mtu: 1500,
            numa_node: None,
            rx_queues: 1,
            tx_queues: 1,
            capabilities: PortCapabilities::default(),
        };
        std::fs::write(folder.join("in.pcap"), input).unwrap();
        PcapPort::open(
            description,
            &folder.join("in.pcap"),
            &folder.join("out.pcap"),
            pool,
        )
    }

    #[test]
    fn frames_are_received_in_file_order_up_to_a_burst() {
        let folder = tempfile::tempdir().unwrap();
        let frames: Vec<Vec<u8>> = (0..70_u8).map(|index| vec![index; 60]).collect();
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let (port, mut rx, _) = open(folder.path(), &file_of(&frames), MemPool::new(64)).unwrap();
        let mut burst = Burst::new();
        assert_eq!(rx.receive(&mut burst), 64);
        assert!(!rx.is_exhausted());
        let first: Vec<u8> = burst.drain(..).map(|packet| packet.bytes()[59]).collect();
        assert_eq!(first, (0..64).collect::<Vec<u8>>());
        assert_eq!(rx.receive(&mut burst), 6);
        assert!(rx.is_exhausted());
        assert_eq!(rx.receive(&mut burst), 0);
        assert_eq!(port.statistics().rx_packets, 70);
        assert_eq!(port.statistics().rx_bytes, 70 * 60);
    }

    #[test]
    fn sent_frames_make_a_file_that_can_be_received() {
        let folder = tempfile::tempdir().unwrap();
        let input = file_of(&[b"first", b"second one"]);
        let (port, mut rx, mut tx) = open(folder.path(), &input, MemPool::new(2)).unwrap();
        let mut burst = Burst::new();
        rx.receive(&mut burst);
        assert_eq!(tx.transmit(&mut burst), 2);
        assert!(burst.is_empty());
        assert_eq!(port.statistics().tx_bytes, 15);
        drop(tx);
        let written = std::fs::read(folder.path().join("out.pcap")).unwrap();
        let (_, mut rx, _) = open(folder.path(), &written, MemPool::new(2)).unwrap();
        rx.receive(&mut burst);
        assert_eq!(burst[0].bytes(), b"first");
        assert_eq!(burst[1].bytes(), b"second one");
    }

    #[test]
    fn frame_without_a_free_packet_is_lost_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let pool = MemPool::new(1);
        let (port, mut rx, _) = open(folder.path(), &file_of(&[b"a", b"b"]), pool).unwrap();
        let mut burst = Burst::new();
        assert_eq!(rx.receive(&mut burst), 1);
        assert_eq!(port.statistics().rx_errors, 1);
    }

    #[test]
    fn file_cut_off_in_a_frame_ends_there_and_counts() {
        let folder = tempfile::tempdir().unwrap();
        let mut input = file_of(&[b"whole", b"cut off"]);
        input.truncate(input.len() - 3);
        let (port, mut rx, _) = open(folder.path(), &input, MemPool::new(4)).unwrap();
        let mut burst = Burst::new();
        assert_eq!(rx.receive(&mut burst), 1);
        assert_eq!(port.statistics().rx_errors, 1);
        assert!(rx.is_exhausted());
    }

    #[test]
    fn file_that_is_not_of_ethernet_frames_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut raw_ip = FILE_HEADER;
        raw_ip[20] = 101;
        let error = open(folder.path(), &raw_ip, MemPool::new(1)).unwrap_err();
        assert!(
            matches!(
                error,
                PcapError::NotEthernet {
                    found: DataLink::RAW,
                    ..
                }
            ),
            "{error}"
        );
        let error = open(
            folder.path(),
            b"no capture at all, but text",
            MemPool::new(1),
        );
        assert!(matches!(error.unwrap_err(), PcapError::Format { .. }));
        let missing = reader(&folder.path().join("missing.pcap")).unwrap_err();
        assert!(missing.to_string().contains("missing.pcap"), "{missing}");
    }
}
