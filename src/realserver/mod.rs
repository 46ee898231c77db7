//! The far end of the tunnel, for a real server whose kernel has no ipip.
//!
//! It takes what a director sends (IP protocol 4) off a raw socket, strips the
//! outer header ([`mod@decapsulate`]) and hands the inner packet to the kernel
//! through a TUN device that has the VIPs. The kernel's TCP answers from the
//! VIP by its ordinary routes: answers neither pass this program nor the
//! director. Where the kernel has ipip, `scripts/realserver.sh` is the better
//! way, since no packet has to leave the kernel.
//!
//! Fragmented outer packets come whole: the kernel reassembles what it
//! delivers to a raw socket. The MTU of the TUN device limits nothing that is
//! written to it, and the MSS that this host announces follows from the route
//! by which it answers. So clients send full-sized segments, which the
//! director refuses with "fragmentation needed" as long as its own MTU has no
//! room for the outer header; that path MTU discovery is theirs, and works
//! without this end of the tunnel.
#![forbid(unsafe_code)]

pub mod decapsulate;
mod host;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ipnet::Ipv4Net;
use rustix::{
    fs::fstat,
    io::Errno,
    net::{RecvFlags, recv, sockopt::set_socket_recv_buffer_size_force},
};
use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1},
    flag,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tun_rs::{DeviceBuilder, SyncDevice};

use decapsulate::{DropReason, Rules, complete_checksum, decapsulate};

/// What a real server is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The virtual addresses that this server answers for; at least one.
    pub vips: Vec<Ipv4Addr>,
    /// The RIP: the address of this host to which directors send.
    pub local: Ipv4Addr,
    /// The networks that directors send from; empty takes any. Without them
    /// anybody who can reach `local` can send packets to the VIPs with made-up
    /// sources, as with the kernel's tunl0.
    pub directors: Vec<Ipv4Net>,
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
    /// The two ends of a tunnel must differ from what goes through it.
    #[error(
        "{0} is both a VIP and the local address; --local takes the address that the director sends to"
    )]
    VipIsLocal(Ipv4Addr),
    /// Every packet would arrive twice.
    #[error(
        "this kernel has ipip (tunl0 exists), so that each packet would arrive twice; \
         use scripts/realserver.sh instead, or remove the module ipip"
    )]
    KernelHasIpip,
    /// No raw socket.
    #[error("cannot open a raw socket for IP protocol 4: {0}; run as root or with CAP_NET_RAW")]
    Socket(#[source] io::Error),
    /// The address is not one of this host's.
    #[error("cannot bind to {local}: {source}; give --local an address of this host")]
    Bind {
        /// What was asked for.
        local: Ipv4Addr,
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
        vip: Ipv4Addr,
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
    socket: Socket,
    socket_inode: u64,
    rules: Rules,
    summary: Summary,
}

impl RealServer {
    fn start(options: &Options) -> Result<Self, RealServerError> {
        if options.vips.is_empty() {
            return Err(RealServerError::NoVip);
        }
        if options.vips.contains(&options.local) {
            return Err(RealServerError::VipIsLocal(options.local));
        }
        if host::kernel_has_ipip() {
            return Err(RealServerError::KernelHasIpip);
        }
        let socket = open_socket(options.local)?;
        let socket_inode = fstat(&socket)
            .map_err(|e| RealServerError::Socket(e.into()))?
            .st_ino;
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
        host::disable_ipv6(name);
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
            socket,
            socket_inode,
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
        let mut flags = RecvFlags::empty();
        for _ in 0..BURST_LEN_MAX {
            let len = match recv(&self.socket, &mut *buffer, flags) {
                Ok((_, len)) => len,
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(error) => return Err(RealServerError::Receive(error.into())),
            };
            if let Some(packet) = buffer.get_mut(..len) {
                self.handle(packet);
            }
            flags = RecvFlags::DONTWAIT;
        }
        Ok(())
    }

    fn handle(&mut self, packet: &mut [u8]) {
        self.summary.received += 1;
        let inner = match decapsulate(packet, &self.rules) {
            Ok(inner) => inner,
            Err(reason) => {
                if let Some(count) = self.summary.dropped.get_mut(reason as usize) {
                    *count += 1;
                }
                return;
            }
        };
        self.summary.checksums_completed += u64::from(complete_checksum(inner));
        match self.tun.send(inner) {
            Ok(_) => {
                self.summary.delivered += 1;
                self.summary.delivered_bytes += inner.len() as u64;
            }
            Err(error) => {
                log::debug!(
                    "the kernel refused a packet of {} bytes: {error}",
                    inner.len()
                );
                self.summary.refused += 1;
            }
        }
    }

    fn count_missed(&mut self) {
        if let Some(missed) = host::dropped_by_socket(self.socket_inode) {
            self.summary.missed = missed;
        }
    }
}

/// A raw socket that receives what directors send to `local`.
fn open_socket(local: Ipv4Addr) -> Result<Socket, RealServerError> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(PROTOCOL_IPIP)))
        .map_err(RealServerError::Socket)?;
    socket
        .set_read_timeout(Some(TURN_TIME_MAX))
        .map_err(RealServerError::Socket)?;
    if let Err(error) = set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_LEN) {
        log::warn!("the socket's receive buffer stays at its default length: {error}");
    }
    socket
        .bind(&SockAddr::from(SocketAddrV4::new(local, 0)))
        .map_err(|source| RealServerError::Bind { local, source })?;
    Ok(socket)
}

/// IANA's number of IPv4 in IPv4.
const PROTOCOL_IPIP: i32 = 4;

/// The longest IPv4 packet, one byte more than its length field can say.
const PACKET_LEN_MAX: usize = 65_536;

/// Packets taken before the flags are looked at again.
const BURST_LEN_MAX: usize = 64;

/// How long a raised flag waits at most on an idle socket. A signal that this
/// thread handles itself ends the wait at once.
const TURN_TIME_MAX: Duration = Duration::from_millis(200);

/// Bytes that may wait in the socket: 20 ms of 1 Gbit/s, twice over since the
/// kernel counts its own overhead.
const RECEIVE_BUFFER_LEN: usize = 5_000_000;
