//! What tshark and scapy say to tunnels that have IPv6 outside, inside or on
//! both sides.

use std::process::Command;

use pointsman::{
    config::ServiceConfig,
    scheduler::SchedulerKind,
    service::{Protocol, ServerKey, ServerOptions, ServiceKey, ServiceOptions, TunnelKind},
};

use crate::{
    frames::{self, ACK, SYN, counting},
    frames_ipv6::{Ip6, server, tcp, udp},
    ipv6,
    lab::{Lab, Setup},
    tunnels::{GRE, GRE_SUM, GUE, GUE_SUM},
    witnesses::{self, GUE_PORT, capture, is_clean, is_there, look_with_tshark, script},
};

pub(crate) const TUNNELS: [(&str, TunnelKind, &str); 5] = [
    ("ipip", TunnelKind::Ipip, ""),
    ("gre", GRE, ":gre"),
    ("gre-checksum", GRE_SUM, ":gre"),
    ("gue", GUE, ":udp:gue"),
    ("gue-checksum", GUE_SUM, ":udp:gue"),
];

/// Which version is outside and which inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sides {
    Ipv6InIpv6,
    Ipv4InIpv6,
    Ipv6InIpv4,
}

const SIDES: [Sides; 3] = [Sides::Ipv6InIpv6, Sides::Ipv4InIpv6, Sides::Ipv6InIpv4];

impl Sides {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ipv6InIpv6 => "6in6",
            Self::Ipv4InIpv6 => "4in6",
            Self::Ipv6InIpv4 => "6in4",
        }
    }

    /// As tshark names the protocols.
    pub(crate) const fn outer_and_inner(self) -> (&'static str, &'static str) {
        match self {
            Self::Ipv6InIpv6 => ("ipv6", "ipv6"),
            Self::Ipv4InIpv6 => ("ipv6", "ip"),
            Self::Ipv6InIpv4 => ("ip", "ipv6"),
        }
    }
}

/// TCP VIP:80 and UDP VIP:53 of the inner version with one real server of the
/// outer one.
pub(crate) fn lab(sides: Sides, tunnel: TunnelKind) -> Lab {
    let address = match sides {
        Sides::Ipv6InIpv4 => frames::server(11).into(),
        Sides::Ipv6InIpv6 | Sides::Ipv4InIpv6 => server(0x12).into(),
    };
    let options = ServerOptions {
        tunnel,
        ..ServerOptions::default()
    };
    let service = |protocol, l4_port| ServiceConfig {
        key: ServiceKey::Vip {
            protocol,
            address: match sides {
                Sides::Ipv4InIpv6 => (frames::VIP, l4_port).into(),
                Sides::Ipv6InIpv6 | Sides::Ipv6InIpv4 => (VIP, l4_port).into(),
            },
        },
        options: ServiceOptions::from(SchedulerKind::Rr),
        servers: vec![(ServerKey { address }, options)],
    };
    ipv6::lab_of(Setup {
        services: vec![service(Protocol::Tcp, 80), service(Protocol::Udp, 53)],
        ..Setup::default()
    })
}

/// A VIP that the lab has no service of.
pub(crate) const VIP: std::net::Ipv6Addr =
    std::net::Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x20);

/// TCP and UDP packets over IPv6, of even and odd length, up to what each
/// tunnel takes.
fn packets_over_ipv6() -> Vec<Ip6> {
    let marked = Ip6 {
        tos: 0xbb,
        flow_label: 0x5_4321,
        hop_limit: 33,
        ..tcp(1001, ACK, b"")
    };
    let packets = vec![
        tcp(1000, SYN, b""),
        tcp(1001, SYN, b""),
        tcp(1000, ACK, &counting(1001)),
        tcp(1000, ACK, &counting(1380)),
        tcp(1001, ACK, &counting(1379)),
        marked,
        udp(5000, 53, b"odd"),
        udp(5000, 53, b"even"),
        udp(5001, 53, &counting(1392)),
    ];
    let to_vip = |packet| crate::frames_ipv6::to(VIP, packet);
    packets.into_iter().map(to_vip).collect()
}

/// The frames that packets of clients become, and how many packets.
fn sent(sides: Sides, tunnel: TunnelKind) -> (Vec<Vec<u8>>, usize) {
    let mut lab = lab(sides, tunnel);
    if sides == Sides::Ipv4InIpv6 {
        let packets = witnesses::packets();
        let frames = witnesses::sent(&mut lab);
        return (frames, packets.len());
    }
    let packets = packets_over_ipv6();
    let mut frames = Vec::new();
    for packet in &packets {
        let sent = lab.answers(&packet.frame());
        assert_eq!(sent.len(), 1, "nobody fragments IPv6 on its way");
        assert_eq!(sent[0].0, 1);
        frames.push(sent[0].1.clone());
    }
    (frames, packets.len())
}

fn each(test: impl Fn(&str, Sides, TunnelKind, &str)) {
    for sides in SIDES {
        for (name, tunnel, headers) in TUNNELS {
            let (outer, inner) = sides.outer_and_inner();
            let chain = format!("eth:ethertype:{outer}{headers}:{inner}");
            test(&format!("{}-{name}", sides.name()), sides, tunnel, &chain);
        }
    }
}

#[test]
fn tshark_reads_tunnels_with_ipv6_without_a_complaint() {
    let mut probe = Command::new("tshark");
    let name = "tshark_reads_tunnels_with_ipv6_without_a_complaint";
    if !is_there(name, "tshark", probe.arg("--version")) {
        return;
    }
    each(|name, sides, tunnel, chain| {
        let (frames, packets) = sent(sides, tunnel);
        let seen = look_with_tshark(&capture(name, &frames));
        assert_eq!(seen.len(), frames.len());
        for (seen, frame) in seen.iter().zip(&frames) {
            assert!(is_clean(seen), "{name}: {seen:?}\n{frame:02x?}");
        }
        let whole = seen.iter().filter(|seen| {
            // The last outer fragment shows what all of them hold.
            let protocols = seen.protocols.replace(":ipv6.fraghdr", "");
            ["tcp", "tcp:client", "udp", "udp:client"]
                .iter()
                .any(|inner| protocols == format!("{chain}:{inner}"))
        });
        assert_eq!(whole.count(), packets, "{name}: {seen:#?}");
    });
}

/// Else the test above would show nothing.
#[test]
fn tshark_complains_about_a_flipped_bit_with_ipv6() {
    let mut probe = Command::new("tshark");
    let name = "tshark_complains_about_a_flipped_bit_with_ipv6";
    if !is_there(name, "tshark", probe.arg("--version")) {
        return;
    }
    each(|name, sides, tunnel, _| {
        let intact = sent(sides, tunnel).0.remove(0);
        let mut flipped = intact.clone();
        *flipped.last_mut().unwrap() ^= 1;
        // An outer packet longer than its frame.
        let mut longer = intact;
        let at = if sides == Sides::Ipv6InIpv4 { 17 } else { 19 };
        longer[at] ^= 0x80;
        let file = capture(&format!("{name}-flipped"), &[flipped, longer]);
        for seen in look_with_tshark(&file) {
            assert!(!is_clean(&seen), "{name}: {seen:?}");
        }
    });
}

#[test]
fn scapy_makes_the_same_bytes_of_tunnels_with_ipv6() {
    // That of Debian, for which the package is made.
    let python = || Command::new("/usr/bin/python3");
    let name = "scapy_makes_the_same_bytes_of_tunnels_with_ipv6";
    if !is_there(
        name,
        "python3-scapy",
        python().args(["-c", "import scapy.all"]),
    ) {
        return;
    }
    each(|name, sides, tunnel, _| {
        let (mut frames, packets) = sent(sides, tunnel);
        let rebuild = |frames: &[Vec<u8>], name: &str| {
            let mut command = python();
            command
                .arg(script("rebuild.py"))
                .arg(capture(name, frames))
                .arg(GUE_PORT);
            command.output().unwrap()
        };
        let output = rebuild(&frames, &format!("{name}-scapy"));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {errors}");
        let whole = String::from_utf8(output.stdout).unwrap();
        assert_eq!(whole.trim(), packets.to_string(), "{name}");
        // It notices a flipped bit in the first frame's last byte.
        *frames[0].last_mut().unwrap() ^= 1;
        let output = rebuild(&frames, &format!("{name}-scapy-flipped"));
        assert!(!output.status.success(), "{name}");
    });
}
