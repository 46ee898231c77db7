//! Each counter of the management thread, reached.

use pointsman::io::PacketPool;

pub(crate) use crate::neighbor_discovery::a_solicitation_from_beyond_the_link_is_bad;

use crate::{
    frames::{
        CLIENT_SIDE, GATEWAY, GATEWAY_MAC, Ip, PORT_MACS, RST, VIP, arp, ethernet, icmp, server,
        tcp, udp,
    },
    lab::{Checked, Lab, Setup},
};

fn ping() -> Vec<u8> {
    icmp(8, 0, b"\0\x01\0\x01pointsman").frame()
}

/// A director with a UDP service whose server does not answer ARP.
fn with_silent_server() -> Lab {
    let mut lab = Lab::start();
    lab.add_udp_service(server(99));
    lab.take_sent();
    lab
}

pub(crate) fn a_ping_is_answered(counter: &str) -> Checked {
    let mut lab = Lab::start();
    let checked = lab.counts_one_and(counter, &["local"], |lab| lab.send(&ping()));
    let sent = lab.take_sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1[26..30], VIP.octets());
    assert_eq!(
        sent[0].1[34..],
        icmp(0, 0, b"\0\x01\0\x01pointsman").payload
    );
    checked
}

pub(crate) fn an_unused_l4_port_gets_an_icmp_error(counter: &str) -> Checked {
    let mut lab = Lab::start();
    let frame = udp(1000, 9, b"").frame();
    let checked = lab.counts_one_and(counter, &["local"], |lab| lab.send(&frame));
    assert_eq!(lab.take_sent().len(), 1);
    checked
}

pub(crate) fn an_icmp_error_beyond_the_rate_is_not_sent(counter: &str) -> Checked {
    let mut lab = Lab::with(&Setup {
        icmp_rate_per_s: 2,
        ..Setup::default()
    });
    let frame = udp(1000, 9, b"").frame();
    lab.send(&frame);
    lab.send(&frame);
    assert_eq!(lab.take_sent().len(), 2);
    let checked = lab.counts_one_and(counter, &["local"], |lab| lab.send(&frame));
    assert_eq!(lab.take_sent(), []);
    assert_eq!(lab.counter("host_icmp_errors"), 2);
    // After half a second there is one more.
    lab.advance(500);
    assert_eq!(lab.answers(&frame).len(), 1);
    checked
}

pub(crate) fn a_reset_is_not_answered(counter: &str) -> Checked {
    let mut lab = Lab::start();
    let frame = tcp(1000, RST).frame();
    let checked = lab.counts_one_and(counter, &["local"], |lab| lab.send(&frame));
    assert_eq!(lab.take_sent(), []);
    checked
}

pub(crate) fn the_65th_packet_that_waits_for_a_neighbor_is_dropped(counter: &str) -> Checked {
    let mut lab = with_silent_server();
    for client_port in 1001..=1064 {
        lab.send(&udp(client_port, 53, b"?").frame());
    }
    assert_eq!(lab.counter(counter), 0);
    assert_eq!(lab.network.packets_in_use(), 64);
    lab.counts_one_and(counter, &["unresolved"], |lab| {
        lab.send(&udp(1065, 53, b"?").frame());
        assert_eq!(lab.network.packets_in_use(), 64);
        // Until the neighbor is given up.
        for _ in 0..3 {
            lab.advance(1_000);
        }
        assert_eq!(lab.counter("neighbor_failed"), 64);
    })
}

pub(crate) fn a_packet_whose_server_does_not_answer_arp_is_dropped_after_three_requests(
    counter: &str,
) -> Checked {
    let mut lab = with_silent_server();
    lab.counts_one_and(counter, &["unresolved"], |lab| {
        lab.send(&udp(1000, 53, b"?").frame());
        for _ in 0..2 {
            lab.advance(1_000);
        }
        let requests = lab.take_sent();
        assert_eq!(requests.len(), 3);
        assert!(requests.iter().all(|(_, frame)| frame[12..14] == [8, 6]));
        assert_eq!(lab.counter("neighbor_failed"), 0);
        lab.advance(1_000);
        // The client is told: host unreachable.
        let sent = lab.take_sent();
        assert_eq!(sent.len(), 1);
        assert_eq!((sent[0].0, &sent[0].1[34..36]), (0, &[3, 1][..]));
    })
}

pub(crate) fn an_answer_without_a_packet_buffer_is_lost(counter: &str) -> Checked {
    let mut lab = Lab::start();
    lab.receive(&ping());
    let mut pool = lab.network.pool();
    let taken: Vec<_> = std::iter::from_fn(|| pool.allocate()).collect();
    let checked = lab.counts_one_and(counter, &["local"], |lab| {
        lab.turn_workers();
        lab.director.management.turn(lab.now);
        drop(taken);
    });
    assert_eq!(lab.take_sent(), []);
    checked
}

pub(crate) fn arp_of_another_kind_of_address_is_bad(counter: &str) -> Checked {
    let mut lab = Lab::start();
    let mut request = arp(1, (GATEWAY_MAC, GATEWAY), ([0; 6], VIP));
    request[5] = 16;
    let frame = ethernet(PORT_MACS[0], GATEWAY_MAC, 0x0806, &request);
    let _ = lab.counts_one_and(counter, &["arp"], |lab| lab.send(&frame));
    let short = &frame[..14 + 27];
    let checked = lab.counts_one_and(counter, &["arp"], |lab| lab.send(short));
    assert_eq!(lab.take_sent(), []);
    checked
}

pub(crate) fn a_station_that_claims_an_address_of_the_director_is_noticed(
    counter: &str,
) -> Checked {
    let mut lab = Lab::start();
    let mut claim = |address| {
        let claim = arp(1, (GATEWAY_MAC, address), ([0; 6], address));
        let frame = ethernet([0xff; 6], GATEWAY_MAC, 0x0806, &claim);
        lab.counts_one_and(counter, &["arp"], |lab| lab.send(&frame))
    };
    let _ = claim(VIP);
    claim(CLIENT_SIDE)
}

/// What "fragmentation needed" has a limit of its own for: ten times as high.
#[test]
fn fragmentation_needed_is_still_sent_when_other_icmp_errors_are_not() {
    let mut lab = Lab::with(&Setup {
        icmp_rate_per_s: 1,
        ..Setup::default()
    });
    let unused = udp(1000, 9, b"").frame();
    assert_eq!(lab.answers(&unused).len(), 1);
    assert_eq!(lab.answers(&unused).len(), 0);
    let too_long = crate::frames::tcp_of_len(1000, crate::frames::SYN, 1500, true).frame();
    for _ in 0..10 {
        assert_eq!(lab.answers(&too_long).len(), 1);
    }
    assert_eq!(lab.answers(&too_long).len(), 0);
    assert_eq!(lab.counter("host_icmp_limited"), 2);
}

/// RFC 1122 section 3.2.2: no error about an error.
#[test]
fn an_icmp_error_for_the_director_itself_is_not_answered() {
    let mut lab = Lab::start();
    let frame = Ip {
        destination: CLIENT_SIDE,
        ..icmp(3, 3, &[0; 32])
    };
    assert_eq!(lab.answers(&frame.frame()), []);
}
