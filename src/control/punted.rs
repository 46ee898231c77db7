//! Packets that workers hand over: for the director itself, or such that
//! cannot be forwarded and whose sender is told.

use super::{
    Management,
    host::{self, Answer},
    host_ipv6,
    status::{CounterKind, CounterStatus},
};
use crate::{
    clock::Ticks,
    counters::Counter,
    forwarding::RealServerIndex,
    io::{Driver, Packet, PortIndex},
    pipeline::{PuntReason, Punted, is_martian},
    wire::{
        IpVersion,
        icmp::{IcmpCause, IcmpType},
        icmpv6::{Icmpv6Cause, Icmpv6Type},
        ipv4::Ipv4Header,
        ipv6::Ipv6Header,
    },
};

/// What the management thread counts of its own.
#[derive(Debug, Default)]
pub(super) struct HostCounters {
    pub(super) replies: Counter,
    pub(super) icmp_errors: Counter,
    pub(super) icmp_limited: Counter,
    pub(super) not_answered: Counter,
    pub(super) waiting_full: Counter,
    pub(super) neighbor_failed: Counter,
    pub(super) inject_failed: Counter,
    pub(super) arp_bad: Counter,
    pub(super) nd_bad: Counter,
    pub(super) address_conflict: Counter,
    pub(super) path_mtu_learned: Counter,
    pub(super) tunnel_error_bad: Counter,
    pub(super) tunnel_error_foreign: Counter,
    pub(super) tunnel_error_not_relayed: Counter,
}

impl HostCounters {
    pub(super) fn statuses(&self) -> Vec<CounterStatus> {
        let rows = [
            (
                "host_replies",
                CounterKind::Other,
                &self.replies,
                "answers of the director itself: ARP, Neighbor Discovery, ping, TCP reset",
            ),
            (
                "host_icmp_errors",
                CounterKind::Other,
                &self.icmp_errors,
                "ICMP errors sent to clients",
            ),
            (
                "host_icmp_limited",
                CounterKind::Other,
                &self.icmp_limited,
                "ICMP errors not sent because of icmp_rate_per_s",
            ),
            (
                "host_not_answered",
                CounterKind::Drop,
                &self.not_answered,
                "packets for the director that a host does not answer",
            ),
            (
                "neighbor_queue_full",
                CounterKind::Drop,
                &self.waiting_full,
                "packets dropped because too many waited for a MAC address",
            ),
            (
                "neighbor_failed",
                CounterKind::Drop,
                &self.neighbor_failed,
                "packets dropped because their next hop did not answer ARP or neighbor solicitations",
            ),
            (
                "inject_failed",
                CounterKind::Drop,
                &self.inject_failed,
                "packets of the director lost: no buffer, no route, or a full queue to the workers",
            ),
            (
                "arp_bad",
                CounterKind::Drop,
                &self.arp_bad,
                "malformed ARP packets",
            ),
            (
                "nd_bad",
                CounterKind::Drop,
                &self.nd_bad,
                "messages of Neighbor Discovery that are malformed or from beyond the link",
            ),
            (
                "address_conflict",
                CounterKind::Other,
                &self.address_conflict,
                "messages in which another station claims an address of the director",
            ),
            (
                "path_mtu_learned",
                CounterKind::Other,
                &self.path_mtu_learned,
                "ICMP errors that lowered the path MTU to a real server",
            ),
            (
                "tunnel_error_bad",
                CounterKind::Drop,
                &self.tunnel_error_bad,
                "ICMP errors about the tunnel with a wrong checksum or cut short",
            ),
            (
                "tunnel_error_foreign",
                CounterKind::Drop,
                &self.tunnel_error_foreign,
                "ICMP errors that quote a tunnelled packet which the director did not send",
            ),
            (
                "tunnel_error_not_relayed",
                CounterKind::Drop,
                &self.tunnel_error_not_relayed,
                "ICMP errors about the tunnel that no client can be told of",
            ),
        ];
        rows.into_iter()
            .map(|(name, kind, counter, help)| CounterStatus {
                name: name.to_owned(),
                kind,
                count: counter.value(),
                help: help.to_owned(),
            })
            .collect()
    }
}

impl<D: Driver> Management<D> {
    /// Takes some punted packets of each worker.
    pub(super) fn take_punts(&mut self, now: Ticks) -> bool {
        let mut busy = false;
        for worker in 0..self.workers.len() {
            for _ in 0..PUNTS_A_TURN {
                let Some(handle) = self.workers.get(worker) else {
                    break;
                };
                let Ok(punted) = handle.punts.try_recv() else {
                    break;
                };
                busy = true;
                self.take_punted(punted, now);
            }
        }
        busy
    }

    fn take_punted(&mut self, punted: Punted<D::Packet>, now: Ticks) {
        match punted.reason {
            PuntReason::Arp => self.take_arp(&punted, now),
            PuntReason::NeighborDiscovery => self.take_neighbor_discovery(&punted, now),
            PuntReason::Local => self.answer(&punted, now),
            PuntReason::TunnelError => self.take_tunnel_error(&punted, now),
            PuntReason::NoServer => self.refuse(&punted, Refusal::NoServer, now),
            PuntReason::TtlExceeded => self.refuse(&punted, Refusal::TtlExceeded, now),
            PuntReason::Unreachable => self.refuse(&punted, Refusal::Unreachable, now),
            PuntReason::FragmentationNeeded => {
                let server = punted.server.and_then(|index| self.state.server(index));
                let inner = IpVersion::of_packet(ip_bytes(&punted).unwrap_or_default());
                let mtu = server.map_or(0, |server| server.accepted_len_max(inner));
                self.refuse(&punted, Refusal::TooBig(mtu), now);
            }
            PuntReason::Unresolved => match punted.server {
                Some(server) => self.carry(punted, server, now),
                None => self.host.inject_failed.add(1),
            },
        }
    }

    /// Answers a packet for the director as a host without listeners would.
    fn answer(&mut self, punted: &Punted<D::Packet>, now: Ticks) {
        let Some(packet) = ip_bytes(punted) else {
            return;
        };
        if is_ipv6(packet) {
            return self.answer_ipv6(punted, packet, now);
        }
        let source = Ipv4Header::parse(packet).map(|(ip, _)| ip.source());
        if source.is_ok_and(|source| is_martian(source.into()) || self.is_own(source.into())) {
            self.host.not_answered.add(1);
            return;
        }
        self.identification = self.identification.wrapping_add(1);
        match host::answer(packet, self.identification, ms_since_midnight()) {
            Answer::Reply(reply) => {
                self.host.replies.add(1);
                self.count_sent(punted.server, reply.len());
                self.send_ip(&reply, now);
            }
            Answer::Error(cause) => {
                let sent = self.send_error(packet, cause, now);
                self.count_sent(punted.server, sent);
            }
            Answer::Nothing => self.host.not_answered.add(1),
        }
    }

    fn answer_ipv6(&mut self, punted: &Punted<D::Packet>, packet: &[u8], now: Ticks) {
        if host_ipv6::is_neighbor_discovery(packet) {
            return self.take_neighbor_discovery(punted, now);
        }
        let source = Ipv6Header::parse(packet).map(|(ip, _)| ip.source().into());
        if source.is_ok_and(|source| is_martian(source) || self.is_own(source)) {
            return self.host.not_answered.add(1);
        }
        match host_ipv6::answer(packet) {
            Answer::Reply(reply) => {
                self.host.replies.add(1);
                self.count_sent(punted.server, reply.len());
                self.send_ip_by(punted.port, &reply, now);
            }
            Answer::Error(cause) => {
                let sent = self.send_error_ipv6(punted.port, packet, cause, now);
                self.count_sent(punted.server, sent);
            }
            Answer::Nothing => self.host.not_answered.add(1),
        }
    }

    /// Tells the sender of a packet why it was not forwarded.
    pub(super) fn refuse(&mut self, punted: &Punted<D::Packet>, refusal: Refusal, now: Ticks) {
        let Some(packet) = ip_bytes(punted) else {
            return;
        };
        let sent = if is_ipv6(packet) {
            self.send_error_ipv6(punted.port, packet, refusal.icmpv6(), now)
        } else {
            self.send_error(packet, refusal.icmp(), now)
        };
        self.count_sent(punted.server, sent);
    }

    /// Counts a packet of this length to a client about its connection to
    /// `server`, if it was sent.
    pub(super) fn count_sent(&mut self, server: Option<RealServerIndex>, len: usize) {
        if let Some(server) = server
            && len > 0
        {
            self.services.count_sent(server, len);
        }
    }

    /// Tells the sender of a packet, whole or quoted, what became of it.
    /// Returns the length of the packet that says so, 0 when none does.
    pub(super) fn send_error(&mut self, packet: &[u8], cause: IcmpCause, now: Ticks) -> usize {
        // 3/4 has a limit of its own: without it, a client's path MTU discovery
        // hangs.
        let is_fragmentation_needed =
            cause.icmp_type == IcmpType::DESTINATION_UNREACHABLE && cause.code == 4;
        let limit = if is_fragmentation_needed {
            &mut self.fragmentation_needed_limit
        } else {
            &mut self.icmp_limit
        };
        self.identification = self.identification.wrapping_add(1);
        let Some(error) = host::error_about(packet, cause, self.identification) else {
            self.host.not_answered.add(1);
            return 0;
        };
        if !limit.take(now) {
            self.host.icmp_limited.add(1);
            return 0;
        }
        self.host.icmp_errors.add(1);
        self.send_ip(&error, now);
        error.len()
    }

    /// The same over IPv6. `port` is where the packet came in: the way back to
    /// a link-local address.
    pub(super) fn send_error_ipv6(
        &mut self,
        port: PortIndex,
        packet: &[u8],
        cause: Icmpv6Cause,
        now: Ticks,
    ) -> usize {
        let Some(error) = host_ipv6::error_about(packet, cause) else {
            self.host.not_answered.add(1);
            return 0;
        };
        let limit = if cause.icmp_type == Icmpv6Type::PACKET_TOO_BIG {
            &mut self.fragmentation_needed_limit
        } else {
            &mut self.icmp_limit
        };
        if !limit.take(now) {
            self.host.icmp_limited.add(1);
            return 0;
        }
        self.host.icmp_errors.add(1);
        self.send_ip_by(port, &error, now);
        error.len()
    }
}

/// Why a client's packet was not forwarded, whatever its IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no usable real server.
    NoServer,
    /// TTL or hop limit ran out.
    TtlExceeded,
    /// There is no way to the real server.
    Unreachable,
    /// It is longer than the tunnel takes.
    TooBig(u16),
}

impl Refusal {
    const fn icmp(self) -> IcmpCause {
        match self {
            Self::NoServer => IcmpCause::PORT_UNREACHABLE,
            Self::TtlExceeded => IcmpCause::TTL_EXCEEDED,
            Self::Unreachable => IcmpCause::HOST_UNREACHABLE,
            Self::TooBig(mtu) => IcmpCause::fragmentation_needed(mtu),
        }
    }

    const fn icmpv6(self) -> Icmpv6Cause {
        match self {
            Self::NoServer => Icmpv6Cause::PORT_UNREACHABLE,
            Self::TtlExceeded => Icmpv6Cause::HOP_LIMIT_EXCEEDED,
            Self::Unreachable => Icmpv6Cause::ADDRESS_UNREACHABLE,
            Self::TooBig(mtu) => Icmpv6Cause::packet_too_big(mtu as u32),
        }
    }
}

/// Whether this is an IPv6 packet: anything else is read as IPv4.
pub(super) fn is_ipv6(packet: &[u8]) -> bool {
    IpVersion::of_packet(packet) == IpVersion::V6
}

/// The packet from its IP header on.
pub(super) fn ip_bytes<P: Packet>(punted: &Punted<P>) -> Option<&[u8]> {
    punted.packet.bytes().get(usize::from(punted.l3_offset)..)
}

/// The time of day in UTC, for ICMP timestamp replies.
fn ms_since_midnight() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ms = now.map_or(0, |since| since.as_millis() % MS_PER_DAY);
    u32::try_from(ms).unwrap_or(0)
}

const MS_PER_DAY: u128 = 86_400_000;
/// Packets of one worker that are looked at in one turn.
const PUNTS_A_TURN: usize = 64;
