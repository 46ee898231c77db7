//! What tshark and scapy say to tunnelled packets over IPv6 that have extension
//! headers.

use std::process::Command;

use crate::{
    frames::{ACK, SYN, counting},
    frames_ipv6::{DESTINATION_OPTIONS, HOP_BY_HOP, Ip6, tcp, to, udp},
    witnesses::{GUE_PORT, capture, is_clean, is_there, look_with_tshark, script},
    witnesses_ipv6::{Sides, TUNNELS, VIP, lab},
};

const ROUTING: u8 = 43;

/// The option for routers that a packet for all of them has (RFC 2711), and
/// padding.
fn router_alert() -> (u8, Vec<u8>) {
    (HOP_BY_HOP, vec![0, 5, 2, 0, 0, 1, 0])
}

/// An option of 12 bytes that nobody knows and all skip, and padding.
fn unknown_option() -> (u8, Vec<u8>) {
    let mut rest = vec![1, 0x1e, 10];
    rest.extend([0x5a; 10]);
    rest.extend([1, 0]);
    (DESTINATION_OPTIONS, rest)
}

/// A route of this type by way of the VIP, which is at its end. `last_entry`
/// is 0 where there is such a field, and so are all flags.
fn routing_that_is_over(routing_type: u8) -> (u8, Vec<u8>) {
    let mut rest = vec![2, routing_type, 0, 0, 0, 0, 0];
    rest.extend(VIP.octets());
    (ROUTING, rest)
}

/// Packets of a client, and what tshark shall see from outside to inside.
fn packets() -> Vec<(Ip6, &'static str)> {
    let padding = || (DESTINATION_OPTIONS, vec![0, 1, 4, 0, 0, 0, 0]);
    let with = |extensions: Vec<(u8, Vec<u8>)>, packet: Ip6| {
        let packet = to(VIP, packet);
        Ip6 {
            extensions,
            ..packet
        }
    };
    vec![
        (
            with(vec![router_alert()], tcp(1000, SYN, b"")),
            "ipv6.hopopts:tcp",
        ),
        (
            with(vec![padding()], tcp(1000, ACK, &counting(1001))),
            "ipv6.dstopts:tcp:client",
        ),
        (
            with(vec![unknown_option()], udp(5000, 53, b"odd")),
            "ipv6.dstopts:udp:client",
        ),
        (
            with(vec![routing_that_is_over(0)], udp(5000, 53, b"even")),
            "ipv6.routing:udp:client",
        ),
        (
            with(vec![routing_that_is_over(4)], tcp(1001, SYN, b"")),
            "ipv6.routing:tcp",
        ),
        // In the order that RFC 8200 section 4.1 recommends, as long as every
        // tunnel takes.
        (
            with(
                vec![
                    router_alert(),
                    padding(),
                    routing_that_is_over(0),
                    unknown_option(),
                ],
                udp(5001, 53, &counting(1344)),
            ),
            "ipv6.hopopts:ipv6.dstopts:ipv6.routing:ipv6.dstopts:udp:client",
        ),
    ]
}

/// A frame that a packet became.
struct Sent {
    /// Of the pair of IP versions and the tunnel.
    name: String,
    frame: Vec<u8>,
    /// Where the inner packet begins.
    inner_at: usize,
    /// What tshark shall see of all of it.
    protocols: String,
}

/// What the packets become in each tunnel, with either IP version outside.
fn sent() -> Vec<Sent> {
    let mut all = Vec::new();
    for sides in [Sides::Ipv6InIpv6, Sides::Ipv6InIpv4] {
        for (tunnel_name, tunnel, headers) in TUNNELS {
            let (outer, inner) = sides.outer_and_inner();
            let name = format!("{}-{tunnel_name}", sides.name());
            let mut lab = lab(sides, tunnel);
            for (packet, protocols) in packets() {
                let mut sent = lab.answers(&packet.frame());
                assert_eq!(sent.len(), 1, "{name}");
                let (port, frame) = sent.remove(0);
                assert_eq!(port, 1, "{name}");
                let inner_packet = packet.one_hop_on();
                assert!(frame.ends_with(&inner_packet), "{name}");
                all.push(Sent {
                    name: name.clone(),
                    inner_at: frame.len() - inner_packet.len(),
                    frame,
                    protocols: format!("eth:ethertype:{outer}{headers}:{inner}:{protocols}"),
                });
            }
        }
    }
    all
}

fn frames(all: &[Sent]) -> Vec<Vec<u8>> {
    all.iter().map(|sent| sent.frame.clone()).collect()
}

/// Makes the first extension header longer than its packet.
fn spoil(sent: &mut Sent) {
    sent.frame[sent.inner_at + 41] = 0xff;
}

#[test]
fn tshark_reads_extension_headers_in_tunnels_without_a_complaint() {
    let mut probe = Command::new("tshark");
    let name = "tshark_reads_extension_headers_in_tunnels_without_a_complaint";
    if !is_there(name, "tshark", probe.arg("--version")) {
        return;
    }
    let all = sent();
    let seen = look_with_tshark(&capture("extensions", &frames(&all)));
    assert_eq!(seen.len(), all.len());
    for (seen, sent) in seen.iter().zip(&all) {
        assert_eq!(seen.protocols, sent.protocols, "{}", sent.name);
        assert!(is_clean(seen), "{}: {seen:?}", sent.name);
    }
}

/// Else the test above would show nothing.
#[test]
fn tshark_complains_about_a_wrong_extension_header() {
    let mut probe = Command::new("tshark");
    let name = "tshark_complains_about_a_wrong_extension_header";
    if !is_there(name, "tshark", probe.arg("--version")) {
        return;
    }
    let mut all = sent();
    all.iter_mut().for_each(spoil);
    let seen = look_with_tshark(&capture("extensions-spoilt", &frames(&all)));
    assert_eq!(seen.len(), all.len());
    for (seen, sent) in seen.iter().zip(&all) {
        assert!(!is_clean(seen), "{}: {seen:?}", sent.name);
    }
}

#[test]
fn scapy_makes_the_same_bytes_of_extension_headers_in_tunnels() {
    // That of Debian, for which the package is made.
    let python = || Command::new("/usr/bin/python3");
    let name = "scapy_makes_the_same_bytes_of_extension_headers_in_tunnels";
    if !is_there(
        name,
        "python3-scapy",
        python().args(["-c", "import scapy.all"]),
    ) {
        return;
    }
    let rebuild = |frames: &[Vec<u8>], name: &str| {
        let mut command = python();
        command
            .arg(script("rebuild.py"))
            .arg(capture(name, frames))
            .arg(GUE_PORT);
        command.output().unwrap()
    };
    let mut all = sent();
    let output = rebuild(&frames(&all), "extensions-scapy");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let whole = String::from_utf8(output.stdout).unwrap();
    assert_eq!(whole.trim(), all.len().to_string());
    // It notices a wrong one.
    spoil(&mut all[0]);
    let output = rebuild(&frames(&all[..1]), "extensions-scapy-spoilt");
    assert!(!output.status.success());
}
