//! ICMP errors about the director's own outer packets.

use std::net::Ipv4Addr;

use pointsman::service::TunnelKind;

use crate::{
    frames::{
        ACK, CLIENT, CLIENT_SIDE, DF, GATEWAY_MAC, Ip, PORT_MACS, SERVER_SIDE, SYN, VIP, counting,
        ethernet, icmp, icmp_error, server, tcp_of_len, udp,
    },
    lab::{Checked, Lab, Setup},
    tunnels,
};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

/// An outer packet of the director that carries `inner`.
fn outer(inner: &Ip) -> Ip {
    Ip {
        source: SERVER_SIDE,
        destination: server(11),
        id: 0,
        ttl: 63,
        ..Ip::new(4, inner.packet())
    }
}

/// A client's packet of 1480 bytes as the tunnel carries it.
fn client_packet() -> Ip {
    Ip {
        ttl: 63,
        ..tcp_of_len(1000, ACK, 1480, true)
    }
}

/// The error of a router on the path to the real server.
fn error((kind, code, rest): (u8, u8, u32), quote: &[u8]) -> Ip {
    Ip {
        source: ROUTER,
        destination: SERVER_SIDE,
        flags: 0,
        ..icmp(kind, code, &[&rest.to_be_bytes(), quote].concat())
    }
}

/// "Fragmentation needed" about the client's packet, with this much quoted.
fn too_long(mtu: u32, quoted_len: usize) -> Ip {
    error((3, 4, mtu), &outer(&client_packet()).packet()[..quoted_len])
}

fn send(lab: &mut Lab, packet: &Ip) -> Vec<(u8, Vec<u8>)> {
    lab.take_sent();
    lab.receive_at(
        1,
        0,
        &ethernet(PORT_MACS[1], GATEWAY_MAC, 0x0800, &packet.packet()),
    );
    lab.settle();
    lab.take_sent()
}

/// What the director says is the path MTU to its only server.
fn path_mtu(lab: &Lab) -> u16 {
    lab.director.management.services()[0].servers[0].path_mtu
}

/// The frame to the client is an ICMP error of the VIP with this type, code
/// and second word that quotes `quoted`.
fn assert_tells_client(sent: &[(u8, Vec<u8>)], (kind, code, rest): (u8, u8, u32), quoted: &[u8]) {
    let [(0, frame)] = sent else {
        panic!("not one frame to the clients: {sent:02x?}");
    };
    assert_eq!(frame[15], 0xc0, "TOS");
    assert_eq!((frame[22], frame[23]), (64, 1), "TTL and protocol");
    assert_eq!(frame[26..30], VIP.octets());
    assert_eq!(frame[30..34], CLIENT.octets());
    assert_eq!(frame[34..36], [kind, code]);
    assert_eq!(frame[38..42], rest.to_be_bytes());
    assert_eq!(frame[42..], *quoted);
}

/// One packet counts by `counter`, and nothing is sent or learned.
fn ignored(lab: &mut Lab, counter: &str, packet: &Ip) -> Checked {
    lab.counts_one_and(counter, &["tunnel_error"], |lab| {
        assert_eq!(send(lab, packet), []);
        assert_eq!(path_mtu(lab), 1500);
    })
}

pub(crate) fn an_error_about_an_outer_packet_reaches_the_client(counter: &str) -> Checked {
    let mut lab = Lab::start();
    let inner = client_packet().packet();
    for cause in [(3, 1), (3, 2), (11, 0)] {
        let (kind, code) = cause;
        let packet = error((kind, code, 0), &outer(&client_packet()).packet()[..548]);
        let _ = lab.counts_one(counter, |lab| {
            let sent = send(lab, &packet);
            assert_tells_client(&sent, (kind, code, 0), &inner[..528]);
        });
    }
    let packet = error((4, 0, 0), &outer(&client_packet()).packet()[..48]);
    lab.counts_one(counter, |lab| {
        assert_tells_client(&send(lab, &packet), (4, 0, 0), &inner[..28]);
    })
}

pub(crate) fn fragmentation_needed_on_the_path_lowers_its_mtu(counter: &str) -> Checked {
    let mut lab = Lab::start();
    // Outer header and 8 bytes: nobody can be told, but the MTU is known.
    let allowed = ["tunnel_error"];
    let checked = lab.counts_one_and(counter, &allowed, |lab| {
        assert_eq!(send(lab, &too_long(1400, 28)), []);
    });
    assert_eq!(path_mtu(&lab), 1400);
    let frame = |len| tcp_of_len(1000, SYN, len, true).frame();
    assert_eq!(lab.answers(&frame(1380))[0].0, 1);
    let refused = lab.answers(&frame(1381));
    assert_eq!(
        (refused[0].0, &refused[0].1[34..42][4..]),
        (0, &[0, 0, 5, 0x64][..])
    );
    // Neither the same nor a larger one says anything new.
    assert_eq!(send(&mut lab, &too_long(1400, 28)), []);
    assert_eq!(send(&mut lab, &too_long(1450, 28)), []);
    assert_eq!((path_mtu(&lab), lab.counter(counter)), (1400, 1));
    checked
}

pub(crate) fn an_error_about_the_tunnel_with_a_wrong_checksum_is_bad(counter: &str) -> Checked {
    let mut lab = Lab::start();
    let mut packet = too_long(1400, 548);
    packet.payload[3] ^= 1;
    ignored(&mut lab, counter, &packet)
}

pub(crate) fn an_error_about_what_the_director_did_not_send_is_foreign(counter: &str) -> Checked {
    let mut lab = Lab::start();
    let about = |outer: Ip| error((3, 4, 1400), &outer.packet()[..548]);
    let ours = || outer(&client_packet());
    // No real server has this address.
    let _ = ignored(
        &mut lab,
        counter,
        &about(Ip {
            destination: server(12),
            ..ours()
        }),
    );
    // Not the address that outer packets to this server come from.
    for source in [CLIENT_SIDE, VIP] {
        let packet = about(Ip { source, ..ours() });
        let _ = ignored(&mut lab, counter, &packet);
        let packet = Ip {
            destination: source,
            ..packet
        };
        let _ = ignored(&mut lab, counter, &packet);
    }
    // The director does not hear of itself from a router.
    let own = Ip {
        source: VIP,
        ..about(ours())
    };
    let _ = ignored(&mut lab, counter, &own);
    // Without DF, no router needs to say that it is too long.
    let _ = ignored(&mut lab, counter, &about(Ip { flags: 0, ..ours() }));
    // It is not longer than what the router says it takes.
    ignored(&mut lab, counter, &too_long(1500, 548))
}

pub(crate) fn an_error_that_quotes_too_little_is_not_relayed(counter: &str) -> Checked {
    let mut lab = Lab::start();
    let quote = |inner: &Ip, len: usize| {
        let packet = outer(inner).packet();
        error((3, 1, 0), &packet[..len.min(packet.len())])
    };
    let _ = ignored(&mut lab, counter, &quote(&client_packet(), 47));
    // A later fragment of an outer packet begins with anything.
    let mut fragment = outer(&client_packet());
    fragment.flags = 66;
    let _ = ignored(
        &mut lab,
        counter,
        &error((11, 0, 0), &fragment.packet()[..548]),
    );
    // No error about an error (RFC 1122 section 3.2.2).
    let _ = ignored(&mut lab, counter, &quote(&icmp_error(3, 3, 1000), 548));
    // A VIP that is none, and a client that is the director.
    let strange = [
        Ip {
            destination: server(13),
            ..client_packet()
        },
        Ip {
            source: CLIENT_SIDE,
            ..client_packet()
        },
    ];
    let [first, second] = strange.map(|inner| quote(&inner, 548));
    let _ = ignored(&mut lab, counter, &first);
    ignored(&mut lab, counter, &second)
}

#[test]
fn the_client_is_told_the_new_mtu_at_once() {
    let mut lab = Lab::start();
    let sent = send(&mut lab, &too_long(1400, 548));
    let inner = client_packet().packet();
    assert_tells_client(&sent, (3, 4, 1380), &inner[..528]);
    // No router is believed below 552, one that says nothing included.
    for mtu in [551, 0] {
        let sent = send(&mut lab, &too_long(mtu, 48));
        assert_tells_client(&sent, (3, 4, 532), &inner[..28]);
        assert_eq!(path_mtu(&lab), 552);
    }
}

#[test]
fn a_learned_path_mtu_is_forgotten_after_ten_minutes() {
    let mut lab = Lab::start();
    send(&mut lab, &too_long(1400, 28));
    lab.advance(599_000);
    assert_eq!(path_mtu(&lab), 1400);
    lab.advance(1_000);
    assert_eq!(path_mtu(&lab), 1500);
    let sent = lab.answers(&tcp_of_len(1000, SYN, 1480, true).frame());
    assert_eq!(sent[0].0, 1);
}

/// The path of a deleted server still carries its connections once it is back.
#[test]
fn the_path_mtu_of_a_deleted_server_is_learned_while_it_has_connections() {
    let mut lab = Lab::start();
    lab.send(&tcp_of_len(1000, SYN, 40, true).frame());
    lab.delete_server(11);
    send(&mut lab, &too_long(1400, 28));
    lab.add_server(11, 1);
    assert_eq!(path_mtu(&lab), 1400);
}

#[test]
fn relayed_errors_are_limited_as_others_are() {
    let mut lab = Lab::with(&Setup {
        icmp_rate_per_s: 1,
        ..Setup::default()
    });
    let unreachable = error((3, 1, 0), &outer(&client_packet()).packet()[..548]);
    assert_eq!(send(&mut lab, &unreachable).len(), 1);
    assert_eq!(send(&mut lab, &unreachable), []);
    for _ in 0..10 {
        assert_eq!(send(&mut lab, &too_long(1400, 548)).len(), 1);
    }
    assert_eq!(send(&mut lab, &too_long(1400, 548)), []);
    assert_eq!(lab.counter("host_icmp_limited"), 2);
}

/// RFC 4884: the client is quoted its own packet and not what a router added.
#[test]
fn extensions_of_an_error_are_not_relayed() {
    let mut lab = Lab::start();
    let extension = counting(16);
    let quote = [&outer(&client_packet()).packet()[..128], &extension].concat();
    let sent = send(&mut lab, &error((11, 0, 32 << 16), &quote));
    assert_tells_client(&sent, (11, 0, 0), &client_packet().packet()[..108]);
}

/// What a client sends in a tunnel of its own is none of ours.
#[test]
fn an_error_about_a_tunnel_of_others_to_a_vip_is_ignored() {
    let mut lab = Lab::start();
    let foreign = Ip {
        source: VIP,
        destination: CLIENT,
        flags: DF,
        ..Ip::new(4, client_packet().packet())
    };
    let packet = Ip {
        destination: VIP,
        ..error((3, 4, 1400), &foreign.packet()[..548])
    };
    assert_eq!(lab.answers(&packet.frame()), []);
    assert_eq!(path_mtu(&lab), 1500);
    assert_eq!(lab.counter("tunnel_error_foreign"), 1);
}

/// What stands between outer and inner packet, written by hand, with the outer
/// protocol. The port of GUE is 6081; neither checksum is looked at.
const HEADERS: [(TunnelKind, u8, &[u8]); 4] = [
    (tunnels::GRE, 47, b"\x00\x00\x08\x00"),
    (tunnels::GRE_SUM, 47, b"\x80\x00\x08\x00\x12\x34\x00\x00"),
    (
        tunnels::GUE,
        17,
        b"\x9c\x40\x17\xc1\x05\xd4\x00\x00\x00\x04\x00\x00",
    ),
    (
        tunnels::GUE_SUM,
        17,
        b"\x9c\x40\x17\xc1\x05\xd4\x12\x34\x00\x04\x00\x00",
    ),
];

/// An outer packet with a header between it and `inner`.
fn outer_of(protocol: u8, header: &[u8], inner: &Ip) -> Ip {
    Ip {
        protocol,
        payload: [header, &inner.packet()].concat(),
        ..outer(inner)
    }
}

#[test]
fn a_client_is_told_the_new_mtu_less_all_that_its_tunnel_adds() {
    let inner = client_packet().packet();
    for ((tunnel, protocol, header), told) in HEADERS.into_iter().zip([1376, 1372, 1368, 1368]) {
        let quote = outer_of(protocol, header, &client_packet()).packet();
        let mut lab = tunnels::lab(tunnel);
        let sent = send(&mut lab, &error((3, 4, 1400), &quote[..548]));
        let quoted = 548 - 20 - header.len();
        assert_tells_client(&sent, (3, 4, told), &inner[..quoted]);
        assert_eq!(path_mtu(&lab), 1400);
        let sent = send(&mut lab, &error((3, 1, 0), &quote[..548]));
        assert_tells_client(&sent, (3, 1, 0), &inner[..quoted]);
        assert_eq!(lab.counter("tunnel_error"), 2);
    }
}

/// RFC 792 has 8 bytes behind the outer header quoted: GRE's header, or UDP's.
#[test]
fn eight_bytes_behind_the_outer_header_teach_the_path_mtu() {
    for (tunnel, protocol, header) in HEADERS {
        let quote = outer_of(protocol, header, &client_packet()).packet();
        let mut lab = tunnels::lab(tunnel);
        assert_eq!(send(&mut lab, &error((3, 4, 1400), &quote[..28])), []);
        assert_eq!(path_mtu(&lab), 1400);
        assert_eq!(lab.counter("tunnel_error_not_relayed"), 1);
    }
}

#[test]
fn an_error_about_another_kind_of_tunnel_is_foreign() {
    let ignored = |tunnel, protocol, header: &[u8], counter| {
        let quote = outer_of(protocol, header, &client_packet()).packet();
        let mut lab = tunnels::lab(tunnel);
        assert_eq!(send(&mut lab, &error((3, 4, 1400), &quote[..548])), []);
        assert_eq!(path_mtu(&lab), 1500, "{header:02x?} to {tunnel}");
        assert_eq!(lab.counter(counter), 1, "{header:02x?} to {tunnel}");
    };
    let foreign = "tunnel_error_foreign";
    ignored(tunnels::GRE, 4, b"", foreign);
    ignored(tunnels::GUE, 4, b"", foreign);
    ignored(tunnels::GRE, 47, HEADERS[1].2, foreign);
    ignored(tunnels::GRE_SUM, 47, HEADERS[0].2, foreign);
    ignored(tunnels::GRE, 47, b"\x00\x00\x86\xdd", foreign);
    // A key (RFC 2890).
    ignored(tunnels::GRE, 47, b"\x20\x00\x08\x00\0\0\0\x01", foreign);
    ignored(tunnels::GUE, 47, HEADERS[0].2, foreign);
    ignored(tunnels::GUE, 17, HEADERS[3].2, foreign);
    ignored(tunnels::GUE_SUM, 17, HEADERS[2].2, foreign);
    // IPv6 inside, extension fields, a control message.
    for word in [
        b"\x00\x29\x00\x00",
        b"\x01\x04\x00\x20",
        b"\x20\x04\x00\x00",
    ] {
        let header = [&HEADERS[2].2[..8], word].concat();
        ignored(tunnels::GUE, 17, &header, foreign);
    }
    // UDP to another port is nobody's tunnel: an error about a client's flow.
    let other = b"\x9c\x40\x17\xc2\x05\xd4\x00\x00\x00\x04\x00\x00";
    ignored(tunnels::GUE, 17, other, "icmp_error_unrelated");
    ignored(tunnels::GRE, 17, HEADERS[2].2, "icmp_error_unrelated");
}

/// A UDP client may have the port that GUE has on the real servers.
#[test]
fn an_error_about_an_answer_to_the_port_of_gue_goes_to_the_real_server() {
    let mut lab = tunnels::lab(tunnels::GUE);
    assert_eq!(lab.answers(&udp(6081, 53, b"?").frame())[0].0, 1);
    let answer = Ip {
        source: VIP,
        destination: CLIENT,
        ..Ip::new(17, [53_u16, 6081, 8, 0].map(u16::to_be_bytes).concat())
    };
    let unreachable = icmp(3, 3, &[&[0; 4][..], &answer.packet()].concat());
    let sent = lab.answers(&unreachable.frame());
    assert_eq!((sent.len(), sent[0].0), (1, 1));
    assert_eq!(lab.counter("tunnel_error"), 0);
}

/// Behind a later fragment's header stands no GRE or GUE header.
#[test]
fn an_error_about_a_later_fragment_of_gre_or_gue_is_not_relayed() {
    for ((tunnel, protocol, header), counter) in HEADERS.into_iter().zip([
        "tunnel_error_not_relayed",
        "tunnel_error_not_relayed",
        "icmp_error_unrelated",
        "icmp_error_unrelated",
    ]) {
        let fragment = Ip {
            flags: 66,
            ..outer_of(protocol, header, &client_packet())
        };
        let mut lab = tunnels::lab(tunnel);
        let packet = error((11, 1, 0), &fragment.packet()[..548]);
        assert_eq!(send(&mut lab, &packet), []);
        assert_eq!(lab.counter(counter), 1, "{tunnel}");
    }
}
