//! Each reason to drop, reached.

use pointsman::{
    io::{PacketPool, PortCapabilities, PortIndex},
    service::Tunables,
};

use crate::{
    frames::{
        ACK, CLIENT_SIDE, GATEWAY_MAC, Ip, PORT_MACS, SYN, ethernet, icmp_error, segment, server,
        tagged, tcp, tcp_of_len, udp,
    },
    lab::{Checked, Lab, Setup},
};
pub(crate) use crate::{
    ipv6::{
        a_source_route_over_ipv6_is_dropped, an_icmpv6_error_too_long_for_the_tunnel_is_dropped,
        an_ipv6_packet_longer_than_its_frame_is_dropped,
    },
    no_headroom::a_packet_without_headroom_is_dropped,
};

/// A director with one connection in ESTABLISHED, of L4 port 1000.
fn established() -> Lab {
    let mut lab = Lab::start();
    lab.send(&tcp(1000, SYN).frame());
    lab.send(&tcp(1000, ACK).frame());
    assert_eq!(lab.state_of(1000), Some("ESTABLISHED"));
    lab.take_sent();
    lab
}

/// Sends a frame that nothing comes of but a count.
fn dropped(lab: &mut Lab, counter: &str, frame: &[u8]) -> Checked {
    let checked = lab.counts_one(counter, |lab| lab.send(frame));
    assert_eq!(lab.take_sent(), []);
    checked
}

pub(crate) fn a_frame_spread_over_several_buffers_is_dropped(counter: &str) -> Checked {
    let mut lab = Lab::start();
    let frame = tcp(1000, SYN).frame();
    let checked = lab.counts_one(counter, |lab| {
        assert!(lab.network.send_scattered(PortIndex(0), 0, &frame));
    });
    assert_eq!(lab.take_sent(), []);
    checked
}

pub(crate) fn a_frame_that_ends_in_its_ethernet_header_is_dropped(counter: &str) -> Checked {
    let frame = tcp(1000, SYN).frame();
    // In its VLAN tag, too.
    let mut lab = Lab::start();
    let _ = dropped(&mut lab, counter, &tagged(&frame, 0)[..17]);
    dropped(&mut lab, counter, &frame[..13])
}

pub(crate) fn a_frame_with_the_tag_of_another_vlan_is_dropped(counter: &str) -> Checked {
    let mut untagged = Lab::start();
    let _ = dropped(&mut untagged, counter, &tagged(&tcp(1000, SYN).frame(), 7));
    let mut lab = Lab::with(&Setup {
        vlan: Some(7),
        ..Setup::default()
    });
    let _ = dropped(&mut lab, counter, &tcp(1000, SYN).frame());
    dropped(&mut lab, counter, &tagged(&tcp(1000, SYN).frame(), 8))
}

pub(crate) fn a_frame_for_another_station_is_dropped(counter: &str) -> Checked {
    let mut lab = Lab::start();
    let packet = tcp(1000, SYN).packet();
    // An IPv4 packet to all stations is for none.
    let broadcast = ethernet([0xff; 6], GATEWAY_MAC, 0x0800, &packet);
    let _ = dropped(&mut lab, counter, &broadcast);
    let other = ethernet([2, 0, 0, 0, 9, 9], GATEWAY_MAC, 0x0800, &packet);
    dropped(&mut lab, counter, &other)
}

pub(crate) fn lldp_is_dropped(counter: &str) -> Checked {
    let frame = ethernet(PORT_MACS[0], GATEWAY_MAC, 0x88cc, &[0; 40]);
    dropped(&mut Lab::start(), counter, &frame)
}

pub(crate) fn a_total_length_beyond_the_frame_is_dropped(counter: &str) -> Checked {
    let mut lab = Lab::start();
    let frame = tcp(1000, SYN).frame();
    let mut version_6 = frame.clone();
    version_6[14] = 0x65;
    let _ = dropped(&mut lab, counter, &version_6);
    let mut header_of_16_bytes = frame.clone();
    header_of_16_bytes[14] = 0x44;
    let _ = dropped(&mut lab, counter, &header_of_16_bytes);
    dropped(&mut lab, counter, &frame[..frame.len() - 1])
}

pub(crate) fn a_wrong_ipv4_header_checksum_is_dropped(counter: &str) -> Checked {
    let mut frame = tcp(1000, SYN).frame();
    frame[25] ^= 1;
    let mut checked_by_the_nic = Lab::with(&Setup {
        capabilities: PortCapabilities {
            rx_ipv4_checksum: true,
            ..PortCapabilities::default()
        },
        ..Setup::default()
    });
    let _ = dropped(&mut checked_by_the_nic, counter, &frame);
    dropped(&mut Lab::start(), counter, &frame)
}

pub(crate) fn a_source_route_is_dropped(counter: &str) -> Checked {
    let packet = Ip {
        options: vec![131, 7, 4, 10, 0, 0, 1, 0],
        ..tcp(1000, SYN)
    };
    dropped(&mut Lab::start(), counter, &packet.frame())
}

pub(crate) fn a_loopback_source_opens_no_connection(counter: &str) -> Checked {
    let mut lab = Lab::start();
    for source in [
        [224, 0, 0, 1].into(),
        [255, 255, 255, 255].into(),
        [0, 0, 0, 1].into(),
        CLIENT_SIDE,
    ] {
        let packet = Ip {
            source,
            ..tcp(1000, SYN)
        };
        let _ = dropped(&mut lab, counter, &packet.frame());
    }
    let packet = Ip {
        source: [127, 0, 0, 1].into(),
        ..tcp(1000, SYN)
    };
    dropped(&mut lab, counter, &packet.frame())
}

pub(crate) fn a_packet_for_somebody_else_is_dropped(counter: &str) -> Checked {
    let packet = Ip {
        destination: [198, 51, 100, 11].into(),
        ..tcp(1000, SYN)
    };
    dropped(&mut Lab::start(), counter, &packet.frame())
}

pub(crate) fn a_tcp_header_cut_short_is_dropped(counter: &str) -> Checked {
    let mut lab = Lab::start();
    let udp = Ip::new(17, udp(1000, 53, b"").payload[..7].to_vec());
    let _ = dropped(&mut lab, counter, &udp.frame());
    let tcp = Ip::new(6, segment(1000, SYN, b"")[..19].to_vec());
    dropped(&mut lab, counter, &tcp.frame())
}

pub(crate) fn a_packet_of_a_deleted_servers_connection_is_dropped(counter: &str) -> Checked {
    let mut lab = established();
    lab.delete_server(11);
    let _ = dropped(&mut lab, counter, &tcp(1000, SYN).frame());
    let checked = dropped(&mut lab, counter, &tcp(1000, ACK).frame());
    // It is back when its server is.
    lab.add_server(11, 1);
    assert_eq!(lab.answers(&tcp(1000, ACK).frame()).len(), 1);
    checked
}

pub(crate) fn a_full_table_of_established_connections_takes_no_new_one(counter: &str) -> Checked {
    let mut lab = Lab::with(&Setup {
        connections_max: 4,
        ..Setup::default()
    });
    for client_port in 1..=4 {
        lab.send(&tcp(client_port, SYN).frame());
        lab.send(&tcp(client_port, ACK).frame());
    }
    lab.take_sent();
    let checked = dropped(&mut lab, counter, &tcp(5, SYN).frame());
    assert_eq!(lab.counter("connections"), 4);
    checked
}

pub(crate) fn a_path_with_an_mtu_too_small_for_ipv4_drops(counter: &str) -> Checked {
    let mut lab = Lab::start();
    lab.add_udp_service([10, 0, 1, 1].into());
    lab.take_sent();
    dropped(&mut lab, counter, &udp(1000, 53, b"?").frame())
}

pub(crate) fn outer_fragments_without_a_free_buffer_are_dropped(counter: &str) -> Checked {
    let mut lab = Lab::start();
    lab.receive(&tcp_of_len(1000, SYN, 1481, false).frame());
    let mut pool = lab.network.pool();
    let taken: Vec<_> = std::iter::from_fn(|| pool.allocate()).collect();
    let checked = lab.counts_one(counter, |lab| {
        lab.settle();
        drop(taken);
    });
    assert_eq!(lab.take_sent(), []);
    checked
}

pub(crate) fn an_icmp_error_whose_ttl_runs_out_ends_silently(counter: &str) -> Checked {
    let packet = Ip {
        ttl: 1,
        ..icmp_error(3, 3, 1000)
    };
    dropped(&mut established(), counter, &packet.frame())
}

pub(crate) fn an_icmp_error_about_no_connection_is_dropped(counter: &str) -> Checked {
    let mut lab = established();
    let _ = dropped(&mut lab, counter, &icmp_error(3, 3, 1001).frame());
    // Parameter problem: of a kind that is not forwarded.
    dropped(&mut lab, counter, &icmp_error(12, 0, 1000).frame())
}

pub(crate) fn an_icmp_error_with_a_wrong_checksum_is_dropped(counter: &str) -> Checked {
    let mut packet = icmp_error(3, 3, 1000);
    packet.payload[3] ^= 1;
    dropped(&mut established(), counter, &packet.frame())
}

pub(crate) fn what_the_full_queue_to_the_management_thread_refuses_is_dropped(
    counter: &str,
) -> Checked {
    let mut lab = Lab::with(&Setup {
        tunables: Tunables::default(),
        ..Setup::default()
    });
    let ping = crate::frames::icmp(8, 0, b"\0\x01\0\x01").frame();
    for _ in 0..1024 {
        lab.receive(&ping);
    }
    for _ in 0..16 {
        lab.turn_workers();
    }
    assert_eq!(lab.counter("local"), 1024);
    assert_eq!(lab.counter(counter), 0);
    let checked = lab.counts_one(counter, |lab| {
        lab.receive(&ping);
        lab.turn_workers();
    });
    assert_eq!(lab.take_sent().len(), 1024);
    checked
}

pub(crate) fn what_a_full_port_does_not_take_is_dropped_and_not_forwarded(
    counter: &str,
) -> Checked {
    let mut lab = Lab::start();
    lab.network.set_tx_capacity(PortIndex(1), 2);
    let forwarded = lab.counter("forwarded");
    let checked = lab.counts_one(counter, |lab| {
        for client_port in 1..=3 {
            lab.receive(&tcp(client_port, SYN).frame());
        }
    });
    assert_eq!(lab.counter("forwarded") - forwarded, 2);
    assert_eq!(lab.counter("tx_refused"), 1);
    let sent = lab.take_sent();
    assert_eq!(sent.len(), 2);
    assert!(
        sent.iter()
            .all(|(_, frame)| frame[30..34] == server(11).octets())
    );
    checked
}
