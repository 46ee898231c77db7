//! What the director answers itself, as a host without listeners would.

use std::{io::ErrorKind, net::Ipv4Addr, net::TcpStream, net::UdpSocket, time::Duration};

use crate::support::{
    Capture, Configuration, DIRECTOR_LAN, DIRECTOR_WAN, IcmpSocket, Lab, Shape, VIP, has_program,
    receive, skipped, wait_for,
};

#[test]
fn pings_to_the_vip_and_to_own_addresses_are_answered() {
    const NAME: &str = "pings_to_the_vip_and_to_own_addresses_are_answered";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    let _director = lab.start_director(&lab.configuration());
    let icmp = IcmpSocket::open(&lab.client);
    for address in [VIP, DIRECTOR_WAN, DIRECTOR_LAN] {
        let data: Vec<u8> = (0..56).collect();
        assert_eq!(icmp.ping(address, &data), data, "{address}");
    }
}

#[test]
fn a_closed_tcp_port_of_the_vip_refuses_connections() {
    const NAME: &str = "a_closed_tcp_port_of_the_vip_refuses_connections";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    let error = lab
        .client
        .inside(|| TcpStream::connect_timeout(&(VIP, 81).into(), Duration::from_secs(5)))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    // By a reset, not by ICMP.
    assert_eq!(director.counter("host_icmp_errors"), 0);
}

#[test]
fn a_closed_udp_port_of_the_vip_is_unreachable() {
    const NAME: &str = "a_closed_udp_port_of_the_vip_is_unreachable";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let _director = lab.start_director(&lab.configuration());
    assert_udp_is_refused(&lab, 9999);
}

#[test]
fn services_without_servers_are_unreachable() {
    const NAME: &str = "services_without_servers_are_unreachable";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    let icmp = IcmpSocket::open(&lab.client);
    let error = lab.connect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    // Destination unreachable, port unreachable, about a packet to port 80.
    let (from, message) = icmp.expect("port unreachable", |_, icmp| icmp[..2] == [3, 3]);
    assert_eq!(from, VIP);
    assert_eq!(message[8 + 16..8 + 20], VIP.octets());
    assert_eq!(message[8 + 20 + 2..8 + 20 + 4], [0, 80]);
    assert_udp_is_refused(&lab, 7);
    assert!(director.counter("no_server") >= 2);
}

fn assert_udp_is_refused(lab: &Lab, port: u16) {
    let client = lab.client.inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((VIP, port)).unwrap();
        socket
    });
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    client.send(b"anybody?").unwrap();
    let error = receive(&client, &mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn vips_and_own_addresses_are_announced_on_start() {
    const NAME: &str = "vips_and_own_addresses_are_announced_on_start";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    if !has_program("tcpdump") {
        return skipped(
            NAME,
            "tcpdump is missing; scripts/setup.sh --tests installs it",
        );
    }
    let captures = ["wan", "lan"].map(|port| Capture::start(&lab, &lab.client, port));
    let director = lab.start_director(&lab.configuration());
    wait_for("the director has sent", || {
        director.counter("tx_packets") >= 4
    });
    director.settle();
    for (capture, (port, own)) in captures
        .into_iter()
        .zip([("wan", DIRECTOR_WAN), ("lan", DIRECTOR_LAN)])
    {
        let mac = lab.director.mac(port);
        let frames = capture.frames();
        let mut announced: Vec<Ipv4Addr> = frames
            .iter()
            .filter(|frame| frame.is_arp() && frame.source_mac() == mac)
            .map(|frame| {
                assert_eq!(frame.0[..6], [0xff; 6], "to all");
                assert_eq!(frame.0[22..28], mac, "the sender's MAC address");
                let (sender, target) = (frame.address_at(28), frame.address_at(38));
                assert_eq!(sender, target, "gratuitous");
                sender
            })
            .collect();
        announced.sort_unstable();
        let mut expected = vec![own, VIP];
        expected.sort_unstable();
        assert_eq!(announced, expected, "{port}");
    }
}

#[test]
fn thousands_of_vips_are_announced_without_a_loss() {
    const NAME: &str = "thousands_of_vips_are_announced_without_a_loss";
    const VIPS: u16 = 3000;
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    if !has_program("tcpdump") {
        return skipped(
            NAME,
            "tcpdump is missing; scripts/setup.sh --tests installs it",
        );
    }
    let capture = Capture::start(&lab, &lab.client, "wan");
    let configuration = Configuration {
        more_services: VIPS,
        ..lab.configuration()
    };
    let director = lab.start_director(&configuration);
    // Each VIP, and each port's own address.
    let expected = 2 * (u64::from(VIPS) + 1) + 2;
    wait_for("the director has sent", || {
        director.counter("tx_packets") >= expected || director.counter("inject_failed") > 0
    });
    director.settle();
    assert_eq!(director.counter("inject_failed"), 0);
    let mut announced: Vec<_> = capture
        .frames()
        .iter()
        .filter(|frame| frame.is_arp())
        .map(|frame| frame.address_at(28))
        .collect();
    announced.sort_unstable();
    announced.dedup();
    assert_eq!(announced.len(), usize::from(VIPS) + 2);
}
