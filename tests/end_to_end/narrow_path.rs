//! A link behind the director that takes less than its own port: a client's
//! path MTU discovery (RFC 1191) has to come through every kind of tunnel.

use crate::support::{BEHIND_ROUTER, Lab, Shape, VIP};

/// What the narrow link takes.
const MTU: u16 = 1400;

/// Uploads a megabyte through a tunnel; the client has to find out that its
/// packets may have `path_mtu` bytes.
fn upload(test: &str, tunnel: &'static str, path_mtu: u16) {
    let Some(mut lab) = Lab::build(test, Shape::TwoArms, 0) else {
        return;
    };
    if !lab.add_server_behind_narrow_link(test, MTU) {
        return;
    }
    let mut configuration = lab.configuration();
    configuration.servers = vec![(BEHIND_ROUTER, 1)];
    configuration.tunnel = tunnel;
    let director = lab.start_director(&configuration);
    let body: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let answer = lab.connect().unwrap().put(&body).unwrap();
    assert_eq!(
        (answer.server, answer.len, answer.is_intact),
        (BEHIND_ROUTER, 1_000_000, true)
    );
    let route = lab.client.ip(&format!("route get {VIP}"));
    assert!(route.contains(&format!("mtu {path_mtu}")), "{route}");
    // The router on the way said so, and nobody else.
    assert_eq!(director.counter("path_mtu_learned"), 1);
    assert!(director.counter("tunnel_error") > 0);
}

#[test]
fn an_upload_passes_a_narrow_link_in_ipip() {
    upload("an_upload_passes_a_narrow_link_in_ipip", "", 1380);
}

#[test]
fn an_upload_passes_a_narrow_link_in_gre() {
    let tunnel = "tunnel = \"gre\"\n";
    upload("an_upload_passes_a_narrow_link_in_gre", tunnel, 1376);
}

#[test]
fn an_upload_passes_a_narrow_link_in_gre_with_a_checksum() {
    let tunnel = "tunnel = \"gre\"\ntunnel_checksum = true\n";
    let test = "an_upload_passes_a_narrow_link_in_gre_with_a_checksum";
    upload(test, tunnel, 1372);
}

#[test]
fn an_upload_passes_a_narrow_link_in_gue() {
    let tunnel = "tunnel = \"gue\"\n";
    upload("an_upload_passes_a_narrow_link_in_gue", tunnel, 1368);
}

#[test]
fn an_upload_passes_a_narrow_link_in_gue_with_a_checksum() {
    let tunnel = "tunnel = \"gue\"\ntunnel_checksum = true\n";
    let test = "an_upload_passes_a_narrow_link_in_gue_with_a_checksum";
    upload(test, tunnel, 1368);
}
