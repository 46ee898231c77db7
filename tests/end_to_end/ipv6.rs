//! IPv6 between the kernel's stack and the program: neighbors, and services in
//! all pairs of IP versions.

use std::net::IpAddr;

use crate::support::{
    Configuration, DIRECTOR_WAN6, Lab, Shape, VIP_OVER_IPV6, VIP6, VIP6_OVER_IPV4, ping6, rip6,
    wait_for, wait_long_for,
};

fn configuration(lab: &Lab) -> Configuration {
    Configuration {
        ipv6: true,
        ..lab.configuration()
    }
}

#[test]
fn http_passes_tunnels_of_all_pairs_of_ip_versions() {
    const NAME: &str = "http_passes_tunnels_of_all_pairs_of_ip_versions";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let Some(_servers) = lab.add_ipv6(NAME, 2) else {
        return;
    };
    let director = lab.start_director(&configuration(&lab));
    for vip in [
        IpAddr::from(VIP6),
        VIP6_OVER_IPV4.into(),
        VIP_OVER_IPV6.into(),
    ] {
        let mut answers = lab.ask_at(vip, 4);
        answers.sort_unstable();
        assert_eq!(answers, [1, 1, 2, 2], "{vip}");
    }
    // IPv4 goes on beside it.
    assert_eq!(lab.ask(2).len(), 2);
    assert_eq!(director.counter("unknown_ether_type"), 0);
}

#[test]
fn clients_over_ipv6_are_told_what_the_tunnel_takes() {
    const NAME: &str = "clients_over_ipv6_are_told_what_the_tunnel_takes";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let Some(_servers) = lab.add_ipv6(NAME, 1) else {
        return;
    };
    let director = lab.start_director(&configuration(&lab));
    let body = vec![b'x'; 300_000];
    for vip in [
        IpAddr::from(VIP6),
        VIP6_OVER_IPV4.into(),
        VIP_OVER_IPV6.into(),
    ] {
        let answer = lab.connect_to(vip).unwrap().put(&body).unwrap();
        assert_eq!((answer.len, answer.is_intact), (body.len(), true), "{vip}");
    }
    assert!(director.counter("fragmentation_needed") >= 3);
}

#[test]
fn the_kernel_and_the_director_are_each_others_neighbors() {
    const NAME: &str = "the_kernel_and_the_director_are_each_others_neighbors";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let Some(_servers) = lab.add_ipv6(NAME, 1) else {
        return;
    };
    let director = lab.start_director(&configuration(&lab));
    for address in [DIRECTOR_WAN6, VIP6] {
        let answer = ping6(&lab.client, address, b"pointsman");
        assert_eq!(answer.as_deref(), Some(&b"pointsman"[..]), "{address}");
    }
    let neighbors = lab.client.ip(&format!("-6 neighbor show {DIRECTOR_WAN6}"));
    let mac: Vec<String> = lab
        .director
        .mac("wan")
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    assert!(neighbors.contains(&mac.join(":")), "{neighbors}");

    assert_eq!(lab.ask_at(VIP6.into(), 1), [1]);
    let mac: Vec<String> = lab
        .server(1)
        .mac("eth0")
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    assert_eq!(director.neighbor(rip6(1)).1, mac.join(":"));
}

#[test]
fn the_kernel_is_told_that_an_address_is_taken() {
    const NAME: &str = "the_kernel_is_told_that_an_address_is_taken";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let Some(_servers) = lab.add_ipv6(NAME, 0) else {
        return;
    };
    let director = lab.start_director(&configuration(&lab));
    // The director's own probe is over when it answers.
    assert!(ping6(&lab.client, DIRECTOR_WAN6, b"").is_some());
    lab.client.set("ipv6/conf/wan/accept_dad", "1");
    lab.client
        .ip(&format!("address add {DIRECTOR_WAN6}/64 dev wan"));
    wait_for("the kernel gives the address up", || {
        lab.client
            .ip("-6 address show dev wan")
            .contains("dadfailed")
    });
    assert!(director.counter("address_conflict") >= 1);
    assert!(director.log().contains(&format!("claims {DIRECTOR_WAN6}")));
}

#[test]
fn an_address_that_the_kernel_has_is_left_to_it_until_it_is_free() {
    const NAME: &str = "an_address_that_the_kernel_has_is_left_to_it_until_it_is_free";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let Some(_servers) = lab.add_ipv6(NAME, 0) else {
        return;
    };
    lab.client
        .ip(&format!("address add {VIP6}/128 dev wan nodad"));
    let director = lab.start_director(&configuration(&lab));
    wait_for("the director is told", || {
        director
            .log()
            .contains(&format!("has {VIP6}, an address of this director"))
    });
    lab.client.ip(&format!("address del {VIP6}/128 dev wan"));
    lab.client
        .ip(&format!("-6 route replace {VIP6}/128 dev wan"));
    assert_eq!(director.counter("address_conflict"), 1);
    wait_long_for(
        std::time::Duration::from_secs(40),
        "the director takes it over",
        || ping6(&lab.client, VIP6, b"").is_some(),
    );
}
