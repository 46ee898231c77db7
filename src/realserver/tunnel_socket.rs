//! Sockets that receive what directors tunnel: a raw one for each protocol of
//! the outer header, and one over UDP for GUE.
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
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::RealServerError;
use crate::wire::IpProtocol;

/// Sockets for all protocols that are waited for together.
#[derive(Debug)]
pub(super) struct TunnelSockets {
    sockets: Vec<TunnelSocket>,
}

/// A socket for one protocol of the outer header; that for UDP is GUE's.
#[derive(Debug)]
pub(super) struct TunnelSocket {
    socket: Socket,
    protocol: IpProtocol,
    /// As the kernel names it in its tables.
    inode: u64,
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
}

impl TunnelSockets {
    /// Sockets that receive what directors send to `local` with these
    /// protocols, and to this port of it with GUE.
    pub(super) fn open(
        local: IpAddr,
        protocols: impl IntoIterator<Item = IpProtocol>,
        gue_l4_port: Option<u16>,
    ) -> Result<Self, RealServerError> {
        let raw = protocols.into_iter().map(|protocol| (protocol, 0));
        let gue = gue_l4_port.map(|l4_port| (IpProtocol::UDP, l4_port));
        let sockets: Result<_, _> = raw
            .chain(gue)
            .map(|(protocol, l4_port)| TunnelSocket::open(local, protocol, l4_port))
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
    fn open(local: IpAddr, protocol: IpProtocol, l4_port: u16) -> Result<Self, RealServerError> {
        let domain = Domain::for_address(SocketAddr::new(local, 0));
        let fail = |source| RealServerError::Socket {
            protocol: protocol.0,
            source,
        };
        let number = Protocol::from(i32::from(protocol.0));
        let kind = if protocol == IpProtocol::UDP {
            Type::DGRAM
        } else {
            Type::RAW
        };
        let socket = Socket::new(domain, kind, Some(number)).map_err(fail)?;
        if let Err(error) = set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_LEN) {
            log::warn!("the socket's receive buffer stays at its default length: {error}");
        }
        socket
            .bind(&SockAddr::from(SocketAddr::new(local, l4_port)))
            .map_err(|source| RealServerError::Bind { local, source })?;
        let inode = fstat(&socket).map_err(|error| fail(error.into()))?.st_ino;
        Ok(Self {
            socket,
            protocol,
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
        match from.map(SocketAddr::try_from) {
            Some(Ok(from)) if self.protocol == IpProtocol::UDP => Received::Gue(len, from.ip()),
            Some(Ok(SocketAddr::V6(from))) => Received::Ipv6(len, *from.ip(), self.protocol),
            _ => Received::Ipv4(len),
        }
    }

    /// Its number in the kernel's tables.
    pub(super) const fn inode(&self) -> u64 {
        self.inode
    }
}

/// Bytes that may wait in a socket: 20 ms of 1 Gbit/s, twice over since the
/// kernel counts its own overhead.
const RECEIVE_BUFFER_LEN: usize = 5_000_000;
