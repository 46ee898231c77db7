//! Which fact reaches which counter. The tests are made from these tables,
//! and the tables are held to the counters that there are.

use std::collections::BTreeSet;

use pointsman::pipeline::{DropReason, PuntReason};

use crate::lab::{Checked, Lab};

/// Makes a table and one test for each line: the fact has to show that exactly
/// this counter counts.
macro_rules! facts {
    ($table:ident: $module:ident { $($counter:expr => $fact:ident,)* }) => {
        const $table: &[&str] = &[$($counter,)*];

        mod $module {
            use super::*;

            $(
                #[test]
                fn $fact() {
                    let Checked { .. } = crate::$module::$fact($counter);
                }
            )*
        }
    };
}

facts! { DROPS: drops {
    DropReason::NotContiguous.name() => a_frame_spread_over_several_buffers_is_dropped,
    DropReason::FrameTooShort.name() => a_frame_that_ends_in_its_ethernet_header_is_dropped,
    DropReason::OtherVlan.name() => a_frame_with_the_tag_of_another_vlan_is_dropped,
    DropReason::OtherMac.name() => a_frame_for_another_station_is_dropped,
    DropReason::UnknownEtherType.name() => lldp_is_dropped,
    DropReason::BadIpv4Header.name() => a_total_length_beyond_the_frame_is_dropped,
    DropReason::BadIpv4Checksum.name() => a_wrong_ipv4_header_checksum_is_dropped,
    DropReason::BadIpv4Options.name() => a_source_route_is_dropped,
    DropReason::BadIpv6Header.name() => an_ipv6_packet_longer_than_its_frame_is_dropped,
    DropReason::BadIpv6Extensions.name() => a_source_route_over_ipv6_is_dropped,
    DropReason::MartianSource.name() => a_loopback_source_opens_no_connection,
    DropReason::NotLocal.name() => a_packet_for_somebody_else_is_dropped,
    DropReason::TruncatedL4.name() => a_tcp_header_cut_short_is_dropped,
    DropReason::ServerGone.name() => a_packet_of_a_deleted_servers_connection_is_dropped,
    DropReason::TableFull.name() => a_full_table_of_established_connections_takes_no_new_one,
    DropReason::MtuTooSmall.name() => a_path_with_an_mtu_too_small_for_ipv4_drops,
    DropReason::NoHeadroom.name() => a_packet_without_headroom_is_dropped,
    DropReason::NoPacketBuffer.name() => outer_fragments_without_a_free_buffer_are_dropped,
    DropReason::TtlExceededInError.name() => an_icmp_error_whose_ttl_runs_out_ends_silently,
    DropReason::IcmpErrorUnrelated.name() => an_icmp_error_about_no_connection_is_dropped,
    DropReason::IcmpErrorTooLong.name() => an_icmpv6_error_too_long_for_the_tunnel_is_dropped,
    DropReason::BadIcmpChecksum.name() => an_icmp_error_with_a_wrong_checksum_is_dropped,
    DropReason::PuntQueueFull.name() => what_the_full_queue_to_the_management_thread_refuses_is_dropped,
    DropReason::TransmitQueueFull.name() => what_a_full_port_does_not_take_is_dropped_and_not_forwarded,
} }

facts! { FRAGMENTS: fragments {
    DropReason::FragmentForHost.name() => a_fragmented_ping_is_dropped,
    DropReason::FragmentMalformed.name() => a_fragment_that_is_no_multiple_of_8_long_is_dropped,
    DropReason::FragmentOversize.name() => a_ping_of_death_by_udp_is_dropped,
    DropReason::FragmentTiny.name() => a_fragment_that_splits_the_tcp_header_is_dropped,
    DropReason::FragmentOverlap.name() => an_overlapping_fragment_and_the_rest_are_dropped,
    DropReason::FragmentDuplicate.name() => a_fragment_that_came_before_is_dropped,
    DropReason::FragmentTooMany.name() => the_129th_fragment_of_a_datagram_is_dropped,
    DropReason::FragmentTimedOut.name() => a_fragment_without_its_first_is_dropped_after_five_seconds,
    DropReason::FragmentCrowdedOut.name() => the_513th_fragment_that_waits_takes_the_place_of_the_first,
    DropReason::FragmentAfterRefused.name() => a_fragment_whose_first_was_refused_is_dropped,
    DropReason::FragmentUnanswered.name() => a_later_fragment_whose_ttl_runs_out_ends_silently,
    DropReason::HandoffQueueFull.name() => a_fragment_for_a_worker_whose_queue_is_full_is_dropped,
    "fragments" => a_fragment_is_counted_once,
    "fragments_held" => a_fragment_that_comes_before_the_first_waits,
    "handed_over" => a_fragment_goes_to_where_its_datagrams_fragments_meet,
} }

facts! { PUNTS: punts {
    PuntReason::Arp.name() => arp_goes_to_the_management_thread,
    PuntReason::NeighborDiscovery.name() => a_neighbor_solicitation_is_answered,
    PuntReason::Local.name() => a_packet_for_no_service_is_answered_as_by_a_host,
    PuntReason::NoServer.name() => a_syn_without_a_usable_server_gets_port_unreachable,
    PuntReason::TtlExceeded.name() => ttl_1_gets_time_exceeded,
    PuntReason::FragmentationNeeded.name() => a_packet_too_long_with_df_gets_fragmentation_needed,
    PuntReason::Unreachable.name() => a_server_without_a_route_gets_host_unreachable,
    PuntReason::Unresolved.name() => a_packet_waits_for_its_servers_mac_address,
} }

facts! { HOST: host {
    "host_replies" => a_ping_is_answered,
    "host_icmp_errors" => an_unused_l4_port_gets_an_icmp_error,
    "host_icmp_limited" => an_icmp_error_beyond_the_rate_is_not_sent,
    "host_not_answered" => a_reset_is_not_answered,
    "neighbor_queue_full" => the_65th_packet_that_waits_for_a_neighbor_is_dropped,
    "neighbor_failed" => a_packet_whose_server_does_not_answer_arp_is_dropped_after_three_requests,
    "inject_failed" => an_answer_without_a_packet_buffer_is_lost,
    "arp_bad" => arp_of_another_kind_of_address_is_bad,
    "nd_bad" => a_solicitation_from_beyond_the_link_is_bad,
    "address_conflict" => a_station_that_claims_an_address_of_the_director_is_noticed,
} }

facts! { TUNNEL: tunnel_errors {
    PuntReason::TunnelError.name() => an_error_about_an_outer_packet_reaches_the_client,
    "path_mtu_learned" => fragmentation_needed_on_the_path_lowers_its_mtu,
    "tunnel_error_bad" => an_error_about_the_tunnel_with_a_wrong_checksum_is_bad,
    "tunnel_error_foreign" => an_error_about_what_the_director_did_not_send_is_foreign,
    "tunnel_error_not_relayed" => an_error_that_quotes_too_little_is_not_relayed,
} }

facts! { WORK: work {
    "rx_packets" => a_frame_is_received_once,
    "forwarded" => a_packet_in_three_outer_fragments_is_forwarded_once,
    "tx_packets" => a_frame_is_sent_once,
    "tx_refused" => an_answer_that_the_port_does_not_take_is_refused,
    "connections" => a_syn_is_a_connection,
    "connections_opened" => a_syn_opens_a_connection_and_its_next_packets_do_not,
    "connections_expired" => a_syn_alone_expires_after_a_minute,
    "connections_evicted" => a_syn_alone_gives_way_in_a_full_table,
    "untracked" => a_hashed_syn_needs_no_room,
} }

facts! { SPREAD: spread {
    "taken_over" => a_packet_of_another_workers_flow_is_taken_over,
    "tx_handed_over" => a_worker_without_a_transmit_queue_hands_frames_over,
} }

facts! { PERSISTENCE: persistence {
    "templates" => a_first_connection_makes_a_template,
    "templates_evicted" => a_template_without_connections_gives_way_in_a_full_table,
    "templates_full" => without_room_for_a_template_the_connection_is_served_all_the_same,
} }

/// A reason or counter without a fact fails here, and so does a fact that
/// stands for none.
#[test]
fn every_reason_and_every_counter_is_reached_by_one_fact() {
    let drops: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!([DROPS, &FRAGMENTS[..12]].concat(), drops);
    let punts: Vec<_> = PuntReason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!([PUNTS, &TUNNEL[..1]].concat(), punts);

    let all = Lab::start().director.management.counters();
    let names: Vec<_> = all.iter().map(|counter| counter.name.as_str()).collect();
    let reached = [
        DROPS,
        FRAGMENTS,
        PUNTS,
        HOST,
        TUNNEL,
        WORK,
        SPREAD,
        PERSISTENCE,
    ]
    .concat();
    let unique: BTreeSet<_> = names.iter().copied().collect();
    assert_eq!(unique.len(), names.len(), "a name twice: {names:?}");
    assert_eq!(reached.len(), names.len());
    assert_eq!(reached.into_iter().collect::<BTreeSet<_>>(), unique);
}
