//! The far end of the tunnel, for a real server whose kernel has no ipip.
//!
//! It takes what a director sends (IP protocols 4 and 41, and where it is asked
//! to GRE and GUE) off sockets, strips the outer headers ([`mod@decapsulate`]) and hands the inner packet to
//! the kernel through a TUN device that has the VIPs. Outer and inner packets
//! may be of either IP version. The kernel's TCP answers from the
//! VIP by its ordinary routes: answers neither pass this program nor the
//! director. Where the kernel has ipip, `scripts/realserver.sh` is the better
//! way, since no packet has to leave the kernel.
//!
//! Fragmented outer packets come whole: the kernel reassembles what it
//! delivers to a socket. Over IPv6 and for GUE that does not show the outer IP
//! header, so that congestion signalled between director and real server is
//! not passed on there. The MTU of the TUN device limits nothing that is
//! written to it, and the MSS that this host announces follows from the route
//! by which it answers. So clients send full-sized segments, which the
//! director refuses with "fragmentation needed" as long as its own MTU has no
//! room for the outer header; that path MTU discovery is theirs, and works
//! without this end of the tunnel.
#![forbid(unsafe_code)]

pub mod decapsulate;
mod host;
mod tunnel_socket;

use std::{
    fmt, io,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ipnet::IpNet;
use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1},
    flag,
};
use tun_rs::{DeviceBuilder, SyncDevice};

use self::{
    decapsulate::{
        DropReason, Rules, complete_checksum, decapsulate, decapsulate_from_ipv6, decapsulate_gue,
        decapsulate_gue_without_checksum,
    },
    tunnel_socket::{Received, TunnelSockets},
};
use crate::wire::{IpProtocol, unicast};

/// What a real server is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The virtual addresses that this server answers for; at least one.
    pub vips: Vec<IpAddr>,
    /// The RIP: the address of this host to which directors send.
    pub local: IpAddr,
    /// The networks that directors send from; empty takes any. Without them
    /// anybody who can reach `local` can send packets to the VIPs with made-up
    /// sources, as with the kernel's tunl0.
    pub directors: Vec<IpNet>,
    /// Whether directors may wrap packets in GRE.
    pub gre: bool,
    /// The UDP port at which directors may send packets wrapped in GUE.
    pub gue_l4_port: Option<u16>,
    /// The name of the TUN device, at most 15 bytes.
    pub tun_name: String,
}

impl Options {
    /// The TUN device's name unless another is asked for.
    pub const TUN_NAME_DEFAULT: &'static str = "pointsman0";
}

/// Flags that other threads and signal handlers may raise at any time.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// End at the next turn.
    pub stop: Arc<AtomicBool>,
    /// Log the counters at the next turn; taken back then.
    pub report: Arc<AtomicBool>,
}

impl Signals {
    /// Flags that SIGINT and SIGTERM (stop) and SIGUSR1 (report) raise.
    ///
    /// # Errors
    /// The kernel's, when a handler cannot be installed.
    pub fn of_process() -> io::Result<Self> {
        let signals = Self::default();
        for signal in [SIGINT, SIGTERM] {
            flag::register(signal, Arc::clone(&signals.stop))?;
        }
        flag::register(SIGUSR1, Arc::clone(&signals.report))?;
        Ok(signals)
    }
}

/// Why a real server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RealServerError {
    /// There is nothing to do.
    #[error("no virtual address is given; name at least one with --vip")]
    NoVip,
    /// An address that no host can have.
    #[error("{address} is {kind}; --vip and --local take addresses that a host can have")]
    NotUnicast {
        /// The address.
        address: IpAddr,
        /// What it is instead, with an article.
        kind: &'static str,
    },
    /// The two ends of a tunnel must differ from what goes through it.
    #[error(
        "{0} is both a VIP and the local address; --local takes the address that the director sends to"
    )]
    VipIsLocal(IpAddr),
    /// Every packet would arrive twice.
    #[error(
        "this kernel has {module} ({device} exists), so that each packet would arrive twice; \
         use that tunnel instead (scripts/realserver.sh does for ipip), or remove the module {module}"
    )]
    KernelHasTunnel {
        /// The kernel's module.
        module: &'static str,
        /// Its device.
        device: &'static str,
    },
    /// No raw socket.
    #[error(
        "cannot open a raw socket for IP protocol {protocol}: {source}; \
         run as root or with CAP_NET_RAW"
    )]
    Socket {
        /// What the outer header says that follows it.
        protocol: u8,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The address is not one of this host's.
    #[error("cannot bind to {local}: {source}; give --local an address of this host")]
    Bind {
        /// What was asked for.
        local: IpAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No TUN device.
    #[error(
        "cannot make the TUN device {name}: {source}; \
         run as root or with CAP_NET_ADMIN, with the module tun loaded and no device of that name"
    )]
    Tun {
        /// Its name.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The VIP did not get onto the device.
    #[error("cannot give {vip} to {tun}: {reason}")]
    Address {
        /// The VIP.
        vip: IpAddr,
        /// The device.
        tun: String,
        /// What "ip address add" said.
        reason: String,
    },
    /// A kernel setting could not be read or written.
    #[error("{path}: {source}; run as root where /proc/sys can be written")]
    Setting {
        /// The setting.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The raw socket failed while running.
    #[error("cannot receive: {0}")]
    Receive(#[source] io::Error),
}

/// What a real server has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Outer packets received.
    pub received: u64,
    /// Inner packets handed to the kernel.
    pub delivered: u64,
    /// Bytes of these inner packets.
    pub delivered_bytes: u64,
    /// Inner packets whose prepared L4 checksum was finished.
    pub checksums_completed: u64,
    /// Packets dropped, by [`DropReason`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Inner packets that the kernel did not take.
    pub refused: u64,
    /// Packets that the kernel dropped because this program was too slow.
    pub missed: u64,
}

impl fmt::Display for Summary {
    /// One `name count` a line; reasons that never occurred are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, count: u64| writeln!(f, "{name:<24} {count:>12}");
        line("received", self.received)?;
        line("delivered", self.delivered)?;
        line("delivered_bytes", self.delivered_bytes)?;
        line("checksums_completed", self.checksums_completed)?;
        let reasons = DropReason::ALL
            .iter()
            .map(|reason| reason.name())
            .zip(self.dropped);
        let others = [
            ("refused_by_kernel", self.refused),
            ("missed_by_socket", self.missed),
        ];
        for (name, count) in reasons.chain(others).filter(|(_, count)| *count > 0) {
            line(&format!("dropped {name}"), count)?;
        }
        Ok(())
    }
}

/// Decapsulates until `signals.stop` is raised, then takes back every change
/// to the host and returns the counters.
///
/// # Errors
/// Whatever keeps this host from being a real server. Changes made up to that
/// point are taken back.
pub fn run(options: &Options, signals: &Signals) -> Result<Summary, RealServerError> {
    let mut server = RealServer::start(options)?;
    log::info!(
        "{} takes tunnelled packets for {:?} and hands them to {}",
        options.local,
        options.vips,
        options.tun_name
    );
    let result = server.serve(signals);
    server.count_missed();
    result.map(|()| server.summary)
}

/// A running real server. Fields are dropped in this order: the device goes,
/// and with it the VIPs, before the host answers ARP requests as it used to.
struct RealServer {
    tun: SyncDevice,
    _settings: host::Settings,
    sockets: TunnelSockets,
    rules: Rules,
    summary: Summary,
}

impl RealServer {
    fn start(options: &Options) -> Result<Self, RealServerError> {
        if options.vips.is_empty() {
            return Err(RealServerError::NoVip);
        }
        for &address in options.vips.iter().chain([&options.local]) {
            if let Some(kind) = unicast::reserved(address) {
                return Err(RealServerError::NotUnicast { address, kind });
            }
        }
        if options.vips.contains(&options.local) {
            return Err(RealServerError::VipIsLocal(options.local));
        }
        let mut protocols: Vec<_> = options.vips.iter().map(protocol_of).collect();
        protocols.sort_unstable_by_key(|protocol| protocol.0);
        protocols.dedup();
        protocols.extend(options.gre.then_some(IpProtocol::GRE));
        for &protocol in &protocols {
            if let Some((module, device)) = host::kernel_tunnel(options.local, protocol) {
                return Err(RealServerError::KernelHasTunnel { module, device });
            }
        }
        let sockets = TunnelSockets::open(options.local, protocols, options.gue_l4_port)?;
        let settings = host::Settings::hide_vips()?;
        let name = &options.tun_name;
        let fail = |source| RealServerError::Tun {
            name: name.clone(),
            source,
        };
        let tun = DeviceBuilder::new()
            .name(name)
            .enable(false)
            .build_sync()
            .map_err(fail)?;
        tun.set_nonblocking(true).map_err(fail)?;
        host::set_ipv6(name, options.vips.iter().any(IpAddr::is_ipv6));
        host::accept_asymmetric(name)?;
        tun.enabled(true).map_err(fail)?;
        let mut vips = options.vips.clone();
        vips.sort_unstable();
        vips.dedup();
        for vip in &vips {
            host::add_vip(*vip, name)?;
        }
        let rules = Rules {
            local: options.local,
            vips,
            directors: options.directors.clone(),
        };
        let summary = Summary::default();
        Ok(Self {
            tun,
            _settings: settings,
            sockets,
            rules,
            summary,
        })
    }

    fn serve(&mut self, signals: &Signals) -> Result<(), RealServerError> {
        let mut buffer = vec![0; PACKET_LEN_MAX];
        while !signals.stop.load(Ordering::Relaxed) {
            self.receive_burst(&mut buffer)?;
            if signals.report.swap(false, Ordering::Relaxed) {
                self.count_missed();
                log::info!("counters:\n{}", self.summary);
            }
        }
        Ok(())
    }

    /// Waits a bounded time for a packet, then takes what else is there, up to
    /// a limit, so that flags are looked at under any load.
    fn receive_burst(&mut self, buffer: &mut [u8]) -> Result<(), RealServerError> {
        let Self {
            tun,
            sockets,
            rules,
            summary,
            ..
        } = self;
        sockets.wait(TURN_TIME_MAX)?;
        for socket in sockets.iter() {
            for _ in 0..BURST_LEN_MAX {
                match socket.receive(buffer).map_err(RealServerError::Receive)? {
                    Some(received) => handle(received, buffer, tun, rules, summary),
                    None => break,
                }
            }
        }
        Ok(())
    }

    fn count_missed(&mut self) {
        let dropped = |inode| host::dropped_by_socket(self.rules.local, inode);
        let mut known = self
            .sockets
            .iter()
            .filter_map(|socket| dropped(socket.inode()))
            .peekable();
        if known.peek().is_some() {
            self.summary.missed = known.sum();
        }
    }
}

/// Hands the inner packet of what is at the front of `buffer` to the kernel.
fn handle(
    received: Received,
    buffer: &mut [u8],
    tun: &SyncDevice,
    rules: &Rules,
    summary: &mut Summary,
) {
    summary.received += 1;
    let (Received::Ipv4(len)
    | Received::Ipv6(len, ..)
    | Received::Gue(len, _)
    | Received::GueWithoutChecksum(len, _)) = received;
    let Some(packet) = buffer.get_mut(..len) else {
        return;
    };
    let result = match received {
        Received::Ipv4(_) => decapsulate(packet, rules),
        Received::Ipv6(_, source, protocol) => {
            decapsulate_from_ipv6(packet, source, protocol, rules)
        }
        Received::Gue(_, source) => decapsulate_gue(packet, source, rules),
        Received::GueWithoutChecksum(_, source) => {
            decapsulate_gue_without_checksum(packet, source, rules)
        }
    };
    let inner = match result {
        Ok(inner) => inner,
        Err(reason) => {
            if let Some(count) = summary.dropped.get_mut(reason as usize) {
                *count += 1;
            }
            return;
        }
    };
    summary.checksums_completed += u64::from(complete_checksum(inner));
    match tun.send(inner) {
        Ok(_) => {
            summary.delivered += 1;
            summary.delivered_bytes += inner.len() as u64;
        }
        Err(error) => {
            log::debug!(
                "the kernel refused a packet of {} bytes: {error}",
                inner.len()
            );
            summary.refused += 1;
        }
    }
}

/// What an outer header says that follows it, of a packet for this VIP.
const fn protocol_of(vip: &IpAddr) -> IpProtocol {
    match vip {
        IpAddr::V4(_) => IpProtocol::IPIP,
        IpAddr::V6(_) => IpProtocol::IPV6,
    }
}

/// The longest packet, one byte more than its length field can say.
const PACKET_LEN_MAX: usize = 65_536;

/// Packets taken before the flags are looked at again.
const BURST_LEN_MAX: usize = 64;

/// How long a raised flag waits at most on an idle socket. A signal that this
/// thread handles itself ends the wait at once.
const TURN_TIME_MAX: Duration = Duration::from_millis(200);
