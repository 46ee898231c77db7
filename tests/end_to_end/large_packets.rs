//! Packets that the tunnel has no room for.

use std::{net::UdpSocket, time::Duration};

use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};

use crate::support::{Capture, Lab, Shape, VIP, has_program, receive, skipped};

#[test]
fn an_upload_finds_the_path_mtu_of_the_tunnel() {
    const NAME: &str = "an_upload_finds_the_path_mtu_of_the_tunnel";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    let before = lab.client.ip(&format!("route get {VIP}"));
    assert!(!before.contains("mtu"), "{before}");
    let body: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let answer = lab.connect().unwrap().put(&body).unwrap();
    assert_eq!(
        (answer.server, answer.len, answer.is_intact),
        (1, 1_000_000, true)
    );
    let after = lab.client.ip(&format!("route get {VIP}"));
    assert!(after.contains("mtu 1480"), "{after}");
    assert!(director.counter("fragmentation_needed") > 0);
}

#[test]
fn datagrams_without_df_go_in_outer_fragments() {
    const NAME: &str = "datagrams_without_df_go_in_outer_fragments";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    if !has_program("tcpdump") {
        return skipped(
            NAME,
            "tcpdump is missing; scripts/setup.sh --tests installs it",
        );
    }
    let director = lab.start_director(&lab.configuration());
    let capture = Capture::start(&lab, &lab.client, "lan");
    let client = lab.client.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    set_ip_mtu_discover(&client, Ipv4PathMtuDiscovery::DONT).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let payload: Vec<u8> = (0..1472_u32).map(|n| n.to_le_bytes()[0]).collect();
    for _ in 0..5 {
        client.send_to(&payload, (VIP, 7)).unwrap();
        let mut buffer = vec![0; 2048];
        let (len, from) = receive(&client, &mut buffer).unwrap();
        assert_eq!(from, (VIP, 7).into());
        assert_eq!(buffer[..len], payload);
    }
    director.settle();
    // 1500 bytes of the client in 1480 and 20, each after an outer header.
    let tunnelled: Vec<_> = capture
        .frames()
        .iter()
        .filter(|frame| frame.is_ipv4() && frame.protocol() == 4)
        .map(|frame| (frame.fragment(), frame.0.len()))
        .collect();
    let expected = [((true, 0), 14 + 1500), ((false, 185), 14 + 40)];
    assert_eq!(tunnelled, expected.repeat(5));
}
