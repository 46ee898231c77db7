//! Where packets come from and go to, as the core sees it.
//!
//! The packet path is generic over [`Driver`], so that the same code runs on
//! DPDK ports (`dpdk`), in memory with a virtual clock ([`mem`]) and over
//! capture files ([`pcap`]). Ownership is strict: a packet has exactly one
//! owner, and dropping it gives its buffer back to the pool.
#![deny(unsafe_code)]

#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod handoff;
pub mod mem;
pub mod pcap;
pub mod sharing;

use std::fmt::Debug;

use crate::wire::ethernet::MacAddr;

/// The most packets handled in one go.
pub const BURST_LEN_MAX: usize = 64;

/// Bytes that every received or allocated packet has free in front of its
/// frame at least: an outer IPv6 header (40), GUE over UDP (8 + 4), a VLAN tag
/// and some to spare. `RTE_PKTMBUF_HEADROOM` is 128 in DPDK's default build.
pub const HEADROOM_LEN_MIN: usize = 96;

/// Up to [`BURST_LEN_MAX`] packets.
pub type Burst<P> = arrayvec::ArrayVec<P, BURST_LEN_MAX>;

/// A NIC port of the director: its place in the list of configured ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortIndex(pub u8);

impl PortIndex {
    /// As an index into a slice of ports.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// One Ethernet frame in a buffer that has free space in front of it.
pub trait Packet: Send + Debug {
    /// The whole frame, without FCS.
    fn bytes(&self) -> &[u8];

    /// The whole frame, without FCS.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Bytes that [`prepend`](Self::prepend) can still give.
    fn headroom(&self) -> usize;

    /// Makes the frame `len` bytes longer at its front and returns the whole
    /// frame. The new bytes have no defined content. `None`, and nothing changes, when the
    /// headroom is too small.
    fn prepend(&mut self, len: usize) -> Option<&mut [u8]>;

    /// Takes `len` bytes off the front of the frame. Takes all of it when
    /// there are fewer.
    fn trim_front(&mut self, len: usize);

    /// Cuts the frame to its first `len` bytes. Does nothing when it is
    /// already that short.
    fn truncate(&mut self, len: usize);

    /// Makes the frame `len` bytes longer at its end and returns the whole
    /// frame. The new bytes have no defined content. `None`, and nothing changes, when the
    /// buffer is too small.
    fn extend(&mut self, len: usize) -> Option<&mut [u8]>;

    /// Makes the frame `more` bytes longer at its front, cuts it to its first
    /// `len` bytes, and returns it. The new bytes have no defined content.
    /// `None`, and nothing changes, when the headroom is too small or the frame
    /// not that long.
    fn reshape(&mut self, more: usize, len: usize) -> Option<&mut [u8]> {
        if self.bytes().len() + more < len {
            return None;
        }
        self.prepend(more)?;
        self.truncate(len);
        Some(self.bytes_mut())
    }

    /// Whether the whole frame stands in [`bytes`](Self::bytes). A frame that
    /// a NIC spread over several buffers does not.
    fn is_contiguous(&self) -> bool {
        true
    }

    /// Whether the port that received this found the checksum of its IPv4
    /// header right. `false` says nothing: it may be wrong, or nobody looked.
    fn has_good_ipv4_checksum(&self) -> bool {
        false
    }

    /// Asks the NIC to fill in the checksum of the IPv4 header that stands
    /// `l2_len` bytes into the frame and is `l3_len` bytes long. Only called
    /// for ports with [`PortCapabilities::tx_ipv4_checksum`].
    fn offload_ipv4_checksum(&mut self, l2_len: u8, l3_len: u8);

    /// Hints the processor to load the frame's headers.
    fn prefetch(&self) {}
}

/// Packets not in use.
pub trait PacketPool: Send + Debug {
    /// What the pool holds.
    type Packet: Packet;

    /// An empty packet (length 0) with at least [`HEADROOM_LEN_MIN`] bytes of
    /// headroom, or `None` when all packets are in use.
    fn allocate(&mut self) -> Option<Self::Packet>;
}

/// One receive queue of a port, owned by one worker.
pub trait RxQueue: Send + Debug {
    /// What is received.
    type Packet: Packet;

    /// Appends what has arrived, as far as `burst` has room, and returns how
    /// many packets that were.
    fn receive(&mut self, burst: &mut Burst<Self::Packet>) -> usize;
}

/// One transmit queue of a port, owned by one worker.
pub trait TxQueue: Send + Debug {
    /// What is sent.
    type Packet: Packet;

    /// Removes from the front of `burst` the packets that the port accepted,
    /// and returns how many those were. What is left still belongs to the
    /// caller, which drops and counts it.
    fn transmit(&mut self, burst: &mut Burst<Self::Packet>) -> usize;
}

/// A family of types that work together: one kind of ports.
pub trait Driver: Debug + 'static {
    /// The packets of these ports.
    type Packet: Packet + 'static;
    /// Their receive queues.
    type RxQueue: RxQueue<Packet = Self::Packet> + 'static;
    /// Their transmit queues.
    type TxQueue: TxQueue<Packet = Self::Packet> + 'static;
    /// Their packet pools.
    type Pool: PacketPool<Packet = Self::Packet> + 'static;
    /// What the management thread holds of a port.
    type Port: Port + 'static;
}

/// What the management thread can ask of a started port.
pub trait Port: Send + Debug {
    /// What does not change while the port runs.
    fn description(&self) -> &PortDescription;

    /// Whether the port has a link at present.
    fn link(&self) -> Link;

    /// Counters of the port since it was started.
    fn statistics(&self) -> PortStatistics;

    /// By which of its ways the driver receives and sends. Nothing where there
    /// is one way only.
    fn burst_modes(&self) -> BurstModes {
        BurstModes::default()
    }
}

/// How a driver receives and sends, as it says it: "Vector AVX2".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BurstModes {
    /// Of the first receive queue, if the driver tells.
    pub receive: Option<String>,
    /// Of the first transmit queue, if the driver tells.
    pub transmit: Option<String>,
}

/// What a started port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortDescription {
    /// The name from the configuration.
    pub name: String,
    /// The device behind it: PCI address or vdev string.
    pub device: String,
    /// The driver behind it, as it calls itself (`net_af_packet`).
    pub driver: String,
    /// The MAC address it sends from and receives for.
    pub mac: MacAddr,
    /// The largest IP packet it carries, in bytes.
    pub mtu: u16,
    /// NUMA node, when it has one.
    pub numa_node: Option<u32>,
    /// Receive queues in use.
    pub rx_queues: u16,
    /// Transmit queues in use.
    pub tx_queues: u16,
    /// What it can do.
    pub capabilities: PortCapabilities,
}

/// Which of the features that the director uses a port has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent hardware features, not a state"
)]
pub struct PortCapabilities {
    /// Fills in IPv4 header checksums on transmit.
    pub tx_ipv4_checksum: bool,
    /// Frees transmitted packets of one pool quickly (`MBUF_FAST_FREE`).
    pub tx_fast_free: bool,
    /// Says of received packets whether the checksum of their IPv4 header is
    /// right.
    pub rx_ipv4_checksum: bool,
    /// Spreads received flows over queues by address and L4 port.
    pub rss: bool,
    /// Entries of the table by which RSS finds the queue; 0 when there is none
    /// that could be set.
    pub redirection_len: u16,
    /// Could hand over the hash of each packet. Not used: connections are found
    /// by a hash with a key that nobody outside knows.
    pub rss_hash: bool,
    /// Could say what each packet is. Not used: the headers are read anyway.
    pub packet_types: bool,
}

/// State of the link of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether frames can be sent and received.
    pub up: bool,
    /// Speed in Mbit/s; 0 when unknown.
    pub speed_mbps: u32,
}

/// Counters of a port since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStatistics {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames that the port dropped because no receive descriptor was free.
    pub rx_missed: u64,
    /// Frames received with errors.
    pub rx_errors: u64,
    /// Frames that the port dropped because no packet buffer was free.
    pub rx_no_buffer: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
}
