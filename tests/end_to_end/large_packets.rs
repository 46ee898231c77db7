//! Packets that the tunnel has no room for.

use std::{net::UdpSocket, time::Duration};

use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};

use crate::{
    ports::{connect_taps, over_af_xdp, over_tap},
    support::{Capture, Director, Lab, Shape, VIP, has_program, receive, skipped},
};

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

/// Sends datagrams to the echo service, each in fragments of the client's, and
/// expects each back as it was.
fn assert_echoed(lab: &Lab, director: &Director, lens: &[usize]) {
    for &len in lens {
        let client = lab.client.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        set_ip_mtu_discover(&client, Ipv4PathMtuDiscovery::DONT).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let payload: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(len).collect();
        client.send_to(&payload, (VIP, 7)).unwrap();
        let mut buffer = vec![0; 65_536];
        let received = receive(&client, &mut buffer);
        assert!(
            received.is_ok(),
            "{len}: {}",
            director.show_text("counters")
        );
        let (received, from) = received.unwrap();
        assert_eq!(from, (VIP, 7).into());
        assert_eq!(received, len);
        assert!(buffer[..len] == payload, "{len} bytes came back changed");
    }
}

fn assert_nothing_was_lost(director: &Director) {
    for counter in [
        "fragment_after_refused",
        "fragment_crowded_out",
        "fragment_overlap",
        "fragment_timed_out",
        "handoff_queue_full",
        "inject_failed",
        "transmit_queue_full",
    ] {
        assert_eq!(director.counter(counter), 0, "{counter}");
    }
}

/// Not by `AF_PACKET`, whose sockets get what the kernel has put together.
#[test]
fn datagrams_in_fragments_reach_a_real_server_whole() {
    const NAME: &str = "datagrams_in_fragments_reach_a_real_server_whole";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let director = lab.start_director(&over_af_xdp(&lab));
    // Of 1,472 bytes each fits one packet; the largest takes 45 fragments.
    let lens = [1473, 2000, 4000, 9000, 40_000, 65_507];
    assert_echoed(&lab, &director, &lens);
    director.settle();
    let fragments: usize = lens.iter().map(|len| (len + 8).div_ceil(1480)).sum();
    assert_eq!(director.counter("fragments"), fragments as u64);
    assert_eq!(director.counter("connections_opened"), lens.len() as u64);
    assert_nothing_was_lost(&director);
}

#[test]
fn datagrams_in_fragments_reach_a_real_server_whole_by_way_of_two_workers() {
    const NAME: &str = "datagrams_in_fragments_reach_a_real_server_whole_by_way_of_two_workers";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    if std::thread::available_parallelism().map_or(1, std::num::NonZero::get) < 2 {
        return skipped(NAME, "two workers take two cores");
    }
    let mut configuration = over_tap(&lab);
    configuration.workers = vec![0, 1];
    let director = lab.start_director(&configuration);
    connect_taps(&lab);
    assert_echoed(&lab, &director, &[2000, 4000].repeat(20));
    director.settle();
    assert_eq!(director.counter("fragments"), 20 * (2 + 3));
    // The kernel puts all fragments of a client into one queue, and half of
    // them meet on the other worker.
    assert!(director.counter("handed_over") > 0);
    assert_nothing_was_lost(&director);
}
