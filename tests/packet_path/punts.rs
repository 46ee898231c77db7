//! Each reason to hand a packet to the management thread, reached, with what
//! comes back.

use pointsman::control::command::Command;

pub(crate) use crate::ipv6::a_neighbor_solicitation_is_answered;
use crate::{
    frames::{
        ACK, CLIENT, GATEWAY, GATEWAY_MAC, Ip, PORT_MACS, SYN, VIP, arp, arp_reply, arp_request,
        ethernet, icmp, server, server_mac, tagged, tcp, tcp_of_len, udp,
    },
    lab::{Checked, Lab, server_key, web, weight},
};

/// Sends a frame that is answered by an ICMP error of the VIP to the client,
/// with this type, code and second word.
fn refused(lab: &mut Lab, counter: &str, frame: &[u8], error: (u8, u8, u32)) -> Checked {
    let checked = lab.counts_one(counter, |lab| lab.send(frame));
    let sent = lab.take_sent();
    assert_eq!(sent.len(), 1, "{sent:02x?}");
    let (port, answer) = &sent[0];
    assert_eq!(*port, 0);
    assert_eq!(
        answer[..14],
        *ethernet(GATEWAY_MAC, PORT_MACS[0], 0x0800, b"")
    );
    assert_eq!(answer[23], 1, "not ICMP");
    assert_eq!(answer[26..30], VIP.octets());
    assert_eq!(answer[30..34], CLIENT.octets());
    let (kind, code, rest) = error;
    assert_eq!(answer[34..36], [kind, code]);
    assert_eq!(answer[38..42], rest.to_be_bytes());
    checked
}

pub(crate) fn arp_goes_to_the_management_thread(counter: &str) -> Checked {
    let mut lab = Lab::start();
    let reply = ethernet(
        GATEWAY_MAC,
        PORT_MACS[0],
        0x0806,
        &arp(2, (PORT_MACS[0], VIP), (GATEWAY_MAC, GATEWAY)),
    );
    // With a priority tag, too.
    for frame in [arp_request(VIP), tagged(&arp_request(VIP), 0xe000)] {
        let _ = lab.counts_one(counter, |lab| lab.send(&frame));
        assert_eq!(lab.take_sent(), [(0, reply.clone())]);
    }
    // Nobody is told about the addresses of others.
    let checked = lab.counts_one(counter, |lab| lab.send(&arp_request(CLIENT)));
    assert_eq!(lab.take_sent(), []);
    checked
}

pub(crate) fn a_packet_for_no_service_is_answered_as_by_a_host(counter: &str) -> Checked {
    let mut lab = Lab::start();
    let port_unreachable = (3, 3, 0);
    let _ = refused(
        &mut lab,
        counter,
        &udp(1000, 9, b"").frame(),
        port_unreachable,
    );
    let other_protocol = Ip::new(47, vec![0; 8]);
    let _ = refused(&mut lab, counter, &other_protocol.frame(), (3, 2, 0));
    // A segment of no connection: reset.
    let checked = lab.counts_one(counter, |lab| lab.send(&tcp(1000, ACK).frame()));
    let sent = lab.take_sent();
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].1[23], sent[0].1[47]), (6, 0x04));
    checked
}

pub(crate) fn a_syn_without_a_usable_server_gets_port_unreachable(counter: &str) -> Checked {
    let mut lab = Lab::start();
    lab.apply(&Command::EditServer(web(), server_key(11), weight(0)));
    let _ = refused(&mut lab, counter, &tcp(1000, SYN).frame(), (3, 3, 0));
    lab.delete_server(11);
    refused(&mut lab, counter, &tcp(1000, SYN).frame(), (3, 3, 0))
}

pub(crate) fn ttl_1_gets_time_exceeded(counter: &str) -> Checked {
    let mut lab = Lab::start();
    for ttl in [0, 1] {
        let packet = Ip {
            ttl,
            ..tcp(1000, SYN)
        };
        let _ = refused(&mut lab, counter, &packet.frame(), (11, 0, 0));
    }
    assert_eq!(lab.state_of(1000), Some("SYN_RECV"));
    let packet = Ip {
        ttl: 1,
        ..tcp(1001, SYN)
    };
    refused(&mut lab, counter, &packet.frame(), (11, 0, 0))
}

pub(crate) fn a_packet_too_long_with_df_gets_fragmentation_needed(counter: &str) -> Checked {
    let mut lab = Lab::start();
    let mut send = |len| {
        let frame = tcp_of_len(1000, SYN, len, true).frame();
        refused(&mut lab, counter, &frame, (3, 4, 1480))
    };
    let _ = send(1481);
    send(1500)
}

pub(crate) fn a_server_without_a_route_gets_host_unreachable(counter: &str) -> Checked {
    let mut lab = Lab::start();
    lab.add_udp_service([10, 0, 2, 1].into());
    lab.take_sent();
    refused(&mut lab, counter, &udp(1000, 53, b"?").frame(), (3, 1, 0))
}

pub(crate) fn a_packet_waits_for_its_servers_mac_address(counter: &str) -> Checked {
    let mut lab = Lab::start();
    lab.add_udp_service(server(99));
    lab.take_sent();
    lab.counts_one_and(counter, &["arp"], |lab| {
        lab.send(&udp(1000, 53, b"?").frame());
        let request = ethernet(
            [0xff; 6],
            PORT_MACS[1],
            0x0806,
            &arp(
                1,
                (PORT_MACS[1], [10, 0, 0, 1].into()),
                ([0; 6], server(99)),
            ),
        );
        assert_eq!(lab.take_sent(), [(1, request)]);
        assert_eq!(lab.network.packets_in_use(), 1);
        lab.receive_at(1, 0, &arp_reply(server_mac(99), server(99)));
        lab.settle();
        let sent = lab.take_sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].1[..6], server_mac(99));
        assert_eq!(sent[0].1[30..34], server(99).octets());
    })
}

/// Timestamp requests are for the director as pings are.
#[test]
fn a_timestamp_request_is_answered() {
    let mut lab = Lab::start();
    let request = icmp(13, 0, &[0, 1, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
    let sent = lab.answers(&request.frame());
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1[34..36], [14, 0]);
    assert_eq!(sent[0].1[42..46], [0, 0, 0, 9]);
}
