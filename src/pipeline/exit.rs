//! The ways off the fast path.

use std::fmt;

/// What becomes of a packet that is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It ends here, counted.
    Drop(DropReason),
    /// The management thread gets it, counted.
    Punt(PuntReason),
    /// It goes on, but off the fast path, and ends there in one of the other
    /// ways or is forwarded.
    Detour(Detour),
}

/// Where a packet goes on that the fast path cannot decide about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detour {
    /// To the other fragments of its datagram.
    Fragment,
    /// To the worker that has its connection.
    Ask,
}

macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($variant:ident $text:literal $help:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = $help] $variant,)*
        }

        impl $name {
            /// All of them, in the order of their counters.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name of its counter.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// One line that says what happened.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

reasons! {
    /// Why a packet was dropped. `docs/counters.md` has the whole story of
    /// each.
    DropReason {
        NotContiguous "not_contiguous" "the NIC spread the frame over several buffers",
        FrameTooShort "frame_too_short" "the frame ends before its headers do",
        OtherVlan "other_vlan" "the frame's VLAN tag is not the port's, or it has none where the port has one",
        OtherMac "other_mac" "the frame is for another station",
        UnknownEtherType "unknown_ether_type" "neither IPv4, IPv6 nor ARP",
        BadIpv4Header "bad_ipv4_header" "version, header length or total length of the IPv4 header is wrong",
        BadIpv4Checksum "bad_ipv4_checksum" "the IPv4 header's checksum is wrong",
        BadIpv4Options "bad_ipv4_options" "an IPv4 option is malformed, or asks for source routing",
        BadIpv6Header "bad_ipv6_header" "version or payload length of the IPv6 header is wrong",
        BadIpv6Extensions "bad_ipv6_extensions" "IPv6 extension headers that are cut short, too many, or ask for source routing",
        MartianSource "martian_source" "the source address cannot be a sender: multicast, broadcast, loopback, 0/8 or the director's own",
        NotLocal "not_local" "the destination is neither a VIP nor an address of the director",
        TruncatedL4 "truncated_l4" "the TCP, UDP or ICMP header is cut short or malformed",
        ServerGone "server_gone" "the connection's real server was deleted; it comes back to life when the server does",
        TableFull "table_full" "no room for a new connection, and none could give way",
        MtuTooSmall "mtu_too_small" "less fits into the tunnel than every link of its IP version carries: 68 or 1280 bytes",
        NoHeadroom "no_headroom" "no room in front of the frame for the outer header",
        NoPacketBuffer "no_packet_buffer" "no packet buffer was free to fragment into",
        TtlExceededInError "ttl_exceeded_in_icmp_error" "the TTL of an ICMP error ran out; no error may be sent about an error",
        IcmpErrorUnrelated "icmp_error_unrelated" "an ICMP error that belongs to no connection, or of a kind that is not forwarded",
        IcmpErrorTooLong "icmp_error_too_long" "an ICMPv6 error that does not fit into the tunnel; no error may be sent about an error",
        BadIcmpChecksum "bad_icmp_checksum" "an ICMP message with a wrong checksum",
        PuntQueueFull "punt_queue_full" "the queue to the management thread was full",
        TransmitQueueFull "transmit_queue_full" "the port did not take the frame",
        FragmentForHost "fragment_for_host" "a fragment for the director itself, or for a VIP's port without a service",
        FragmentMalformed "fragment_malformed" "a fragment without payload, or of a length that is no multiple of 8",
        FragmentOversize "fragment_oversize" "a fragment that ends beyond the 65,535th byte of its datagram",
        FragmentTiny "fragment_tiny" "a fragment that splits the TCP, UDP or SCTP header",
        FragmentOverlap "fragment_overlap" "a fragment that covers part of another one, and the rest of its datagram",
        FragmentDuplicate "fragment_duplicate" "a fragment whose bytes have been there before",
        FragmentTooMany "fragment_too_many" "a datagram in more than 128 fragments, or with too many gaps",
        FragmentTimedOut "fragment_timed_out" "a fragment whose datagram's first one did not come within five seconds",
        FragmentCrowdedOut "fragment_crowded_out" "a waiting fragment that made room for younger ones",
        FragmentAfterRefused "fragment_after_refused" "a fragment of a datagram whose first one was not forwarded",
        FragmentUnanswered "fragment_unanswered" "a later fragment that cannot be sent; no ICMP error may be sent about it",
        HandoffQueueFull "handoff_queue_full" "the queue to the worker that has the connection was full",
    }
}

reasons! {
    /// Why a packet was handed to the management thread.
    PuntReason {
        Arp "arp" "an ARP packet",
        NeighborDiscovery "neighbor_discovery" "a message of IPv6 Neighbor Discovery, or another of ICMPv6 to a group",
        Local "local" "for an address of the director: answered as a host without listeners would",
        NoServer "no_server" "the service has no usable real server: ICMP destination unreachable to the client",
        TtlExceeded "ttl_exceeded" "the TTL ran out: ICMP time exceeded to the client",
        FragmentationNeeded "fragmentation_needed" "too long for the tunnel with DF set: ICMP fragmentation needed to the client",
        Unreachable "unreachable" "no route to the real server: ICMP host unreachable to the client",
        Unresolved "unresolved" "the next hop's MAC address is not known yet",
        TunnelError "tunnel_error" "an ICMP error about a tunnelled packet: path MTU to the real server, and the client is told",
    }
}
