//! Sockets that receive what directors tunnel: a raw one for each protocol of
//! the outer header, and one over UDP for GUE.
//!
//! GUE over IPv6 has a second one, which is raw. The kernel drops datagrams
//! over IPv6 without a checksum on their way to a UDP socket (RFC 8200 section
//! 8.1), but tunnels may send them (RFC 6935), and directors do. A raw socket
//! gets them before that, and a filter leaves it with these alone.
#![forbid(unsafe_code)]

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::fstat,
    io::Errno,
    net::{RecvFlags, SocketAddrAny, recvfrom, sockopt::set_socket_recv_buffer_size_force},
};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};

use super::RealServerError;
use crate::wire::IpProtocol;

/// Sockets for all protocols that are waited for together.
#[derive(Debug)]
pub(super) struct TunnelSockets {
    sockets: Vec<TunnelSocket>,
}

/// A socket, and what it is for.
#[derive(Debug)]
pub(super) struct TunnelSocket {
    socket: Socket,
    carrier: Carrier,
    /// As the kernel names it in its tables.
    inode: u64,
}

/// What follows the outer header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    /// All of a protocol.
    Protocol(IpProtocol),
    /// GUE to this port.
    Gue(u16),
    /// GUE to this port in datagrams over IPv6 that have no checksum.
    GueWithoutChecksum(u16),
}

impl Carrier {
    const fn protocol(self) -> IpProtocol {
        match self {
            Self::Protocol(protocol) => protocol,
            Self::Gue(_) | Self::GueWithoutChecksum(_) => IpProtocol::UDP,
        }
    }
}

/// What was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// So many bytes that begin with the outer IPv4 header.
    Ipv4(usize),
    /// So many bytes that followed an outer IPv6 header, whose source this is
    /// and which said that this follows.
    Ipv6(usize, Ipv6Addr, IpProtocol),
    /// So many bytes that followed an outer UDP header from this address.
    Gue(usize, IpAddr),
    /// So many bytes that begin with an outer UDP header without a checksum,
    /// from this address.
    GueWithoutChecksum(usize, IpAddr),
}

impl TunnelSockets {
    /// Sockets that receive what directors send to `local` with these
    /// protocols, and to this port of it with GUE.
    pub(super) fn open(
        local: IpAddr,
        protocols: impl IntoIterator<Item = IpProtocol>,
        gue_l4_port: Option<u16>,
    ) -> Result<Self, RealServerError> {
        let raw = protocols.into_iter().map(Carrier::Protocol);
        let gue = gue_l4_port.map(Carrier::Gue);
        let without_checksum = gue_l4_port
            .filter(|_| local.is_ipv6())
            .map(Carrier::GueWithoutChecksum);
        let sockets: Result<_, _> = raw
            .chain(gue)
            .chain(without_checksum)
            .map(|carrier| TunnelSocket::open(local, carrier))
            .collect();
        Ok(Self { sockets: sockets? })
    }

    /// Waits a bounded time for a packet.
    pub(super) fn wait(&self, timeout: Duration) -> Result<(), RealServerError> {
        let mut waits: Vec<_> = self
            .sockets
            .iter()
            .map(|socket| PollFd::new(&socket.socket, PollFlags::IN))
            .collect();
        let timeout = Timespec::try_from(timeout).unwrap_or_default();
        match poll(&mut waits, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(RealServerError::Receive(error.into())),
        }
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &TunnelSocket> {
        self.sockets.iter()
    }
}

impl TunnelSocket {
    fn open(local: IpAddr, carrier: Carrier) -> Result<Self, RealServerError> {
        let domain = Domain::for_address(SocketAddr::new(local, 0));
        let protocol = carrier.protocol();
        let fail = |source| RealServerError::Socket {
            protocol: protocol.0,
            source,
        };
        let (kind, l4_port) = match carrier {
            Carrier::Gue(l4_port) => (Type::DGRAM, l4_port),
            Carrier::Protocol(_) | Carrier::GueWithoutChecksum(_) => (Type::RAW, 0),
        };
        let number = Protocol::from(i32::from(protocol.0));
        let socket = Socket::new(domain, kind, Some(number)).map_err(fail)?;
        if let Carrier::GueWithoutChecksum(l4_port) = carrier {
            socket
                .attach_filter(&without_checksum_to(l4_port))
                .map_err(fail)?;
        }
        if let Err(error) = set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_LEN) {
            log::warn!("the socket's receive buffer stays at its default length: {error}");
        }
        socket
            .bind(&SockAddr::from(SocketAddr::new(local, l4_port)))
            .map_err(|source| RealServerError::Bind { local, source })?;
        let inode = fstat(&socket).map_err(|error| fail(error.into()))?.st_ino;
        Ok(Self {
            socket,
            carrier,
            inode,
        })
    }

    /// The next packet, if one is there.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        match recvfrom(&self.socket, buffer, RecvFlags::DONTWAIT) {
            Ok((_, len, from)) => Ok(Some(self.received(len, from))),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn received(&self, len: usize, from: Option<SocketAddrAny>) -> Received {
        let from = from.and_then(|from| SocketAddr::try_from(from).ok());
        match (self.carrier, from) {
            (Carrier::Gue(_), Some(from)) => Received::Gue(len, from.ip()),
            (Carrier::GueWithoutChecksum(_), Some(from)) => {
                Received::GueWithoutChecksum(len, from.ip())
            }
            (Carrier::Protocol(protocol), Some(SocketAddr::V6(from))) => {
                Received::Ipv6(len, *from.ip(), protocol)
            }
            _ => Received::Ipv4(len),
        }
    }

    /// Its number in the kernel's tables.
    pub(super) const fn inode(&self) -> u64 {
        self.inode
    }
}

/// Takes datagrams to this port whose checksum field is 0; a raw socket over
/// IPv6 shows a filter what follows the IPv6 header.
fn without_checksum_to(l4_port: u16) -> [SockFilter; 6] {
    // bpf_common.h: two bytes at an offset; a jump if they are a number; the end.
    const LOAD: u16 = 0x28;
    const JUMP_IF: u16 = 0x15;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(LOAD, 0, 0, 6),
        SockFilter::new(JUMP_IF, 0, 3, 0),
        SockFilter::new(LOAD, 0, 0, 2),
        SockFilter::new(JUMP_IF, 0, 1, u32::from(l4_port)),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// Bytes that may wait in a socket: 20 ms of 1 Gbit/s, twice over since the
/// kernel counts its own overhead.
const RECEIVE_BUFFER_LEN: usize = 5_000_000;
