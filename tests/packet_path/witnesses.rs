//! What tshark and scapy say to the packets that the director sends: other
//! people's decoders, which know nothing of ours.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pointsman::service::TunnelKind;

use crate::{
    frames::{ACK, Ip, SYN, tcp, tcp_of_len, udp},
    lab::Lab,
    tunnels::{self, GRE, GRE_SUM, GUE, GUE_SUM},
};

/// A kind of tunnel with a director that uses it.
struct Case {
    /// Of the capture.
    name: &'static str,
    /// What tshark shall see from outside to inside, up to the inner protocol.
    protocols: &'static str,
    lab: fn() -> Lab,
}

const CASES: [Case; 5] = [
    Case {
        name: "ipip",
        protocols: "eth:ethertype:ip:ip",
        lab: || tunnels::lab(TunnelKind::Ipip),
    },
    Case {
        name: "gre",
        protocols: "eth:ethertype:ip:gre:ip",
        lab: || tunnels::lab(GRE),
    },
    Case {
        name: "gre-checksum",
        protocols: "eth:ethertype:ip:gre:ip",
        lab: || tunnels::lab(GRE_SUM),
    },
    Case {
        name: "gue",
        protocols: "eth:ethertype:ip:udp:gue:ip",
        lab: || tunnels::lab(GUE),
    },
    Case {
        name: "gue-checksum",
        protocols: "eth:ethertype:ip:udp:gue:ip",
        lab: || tunnels::lab(GUE_SUM),
    },
];

/// The port of GUE in these tests.
pub(crate) const GUE_PORT: &str = "6081";

/// TCP and UDP packets of a client: with and without data, DF and options, of
/// even and odd length, and too long for the tunnel where they may be
/// fragmented.
pub(crate) fn packets() -> Vec<Ip> {
    let marked = Ip {
        tos: 0xbb,
        ttl: 33,
        ..tcp(1001, ACK)
    };
    let with_options = Ip {
        options: vec![1, 1, 1, 0],
        ..tcp(1000, ACK)
    };
    vec![
        tcp(1000, SYN),
        tcp(1001, SYN),
        tcp_of_len(1000, ACK, 1001, true),
        tcp_of_len(1000, ACK, 1400, false),
        tcp_of_len(1000, ACK, 1500, false),
        tcp_of_len(1001, ACK, 1499, false),
        marked,
        with_options,
        udp(5000, 53, b"odd"),
        udp(5000, 53, b"even"),
        Ip {
            flags: 0,
            ..udp(5001, 53, &[0x55; 1470])
        },
    ]
}

/// The frames that packets of clients become.
pub(crate) fn sent(lab: &mut Lab) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for packet in packets() {
        for (port, frame) in lab.answers(&packet.frame()) {
            assert_eq!(port, 1, "{frame:02x?}");
            frames.push(frame);
        }
    }
    assert!(frames.len() > packets().len(), "none was fragmented");
    frames
}

/// Writes a capture file (pcap 2.4, Ethernet).
pub(crate) fn capture(name: &str, frames: &[Vec<u8>]) -> PathBuf {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for (second, frame) in (0_u32..).zip(frames) {
        let len = u32::try_from(frame.len()).unwrap();
        for word in [second, 0, len, len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("witness-{name}.pcap"));
    fs::write(&path, bytes).unwrap();
    path
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/packet_path/witnesses")
        .join(name)
}

/// Whether a witness is there; says so when it is not.
pub(crate) fn is_there(test: &str, package: &str, probe: &mut Command) -> bool {
    let is_there = probe.output().is_ok_and(|output| output.status.success());
    if !is_there {
        println!("skipped: {test}: needs {package}; scripts/setup.sh --tests installs it");
    }
    is_there
}

/// One frame as tshark sees it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) protocols: String,
    /// Severity and text of what it finds wrong.
    complaints: Vec<String>,
    /// All checksums from outside to inside: 0 is bad, 1 good, 2 not verified,
    /// 3 not there.
    statuses: String,
}

pub(crate) fn look_with_tshark(capture: &Path) -> Vec<Seen> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(capture);
    command
        .arg("-X")
        .arg(format!("lua_script:{}", script("tshark.lua").display()));
    command.args(["-X", &format!("lua_script1:{GUE_PORT}")]);
    for preference in [
        "ip.check_checksum:TRUE",
        "udp.check_checksum:TRUE",
        "tcp.check_checksum:TRUE",
        "ip.defragment:TRUE",
        "ipv6.defragment:TRUE",
        // RFC 6935 allows it for tunnels.
        "udp.ignore_ipv6_zero_checksum:TRUE",
        // A made-up conversation is no subject.
        "tcp.analyze_sequence_numbers:FALSE",
        "tcp.desegment_tcp_streams:FALSE",
    ] {
        command.args(["-o", preference]);
    }
    command.args(["-T", "fields", "-E", "separator=|", "-E", "aggregator=,"]);
    for field in [
        "frame.protocols",
        "_ws.expert.severity",
        "_ws.expert.message",
        "ip.checksum.status",
        "gre.checksum.status",
        "udp.checksum.status",
        "tcp.checksum.status",
    ] {
        command.args(["-e", field]);
    }
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(seen).collect()
}

fn seen(line: &str) -> Seen {
    let fields: Vec<&str> = line.split('|').collect();
    let [protocols, severities, messages, statuses @ ..] = fields.as_slice() else {
        panic!("not what tshark was asked for: {line}");
    };
    let is_complaint = |severity: &&str| {
        let severity: u32 = severity.parse().unwrap();
        severity >= EXPERT_WARNING
    };
    let severities = severities.split(',').filter(|text| !text.is_empty());
    let complaints = severities
        .filter(is_complaint)
        .map(|severity| format!("{severity}: {messages}"))
        .collect();
    Seen {
        protocols: (*protocols).to_owned(),
        complaints,
        statuses: statuses.join(" "),
    }
}

/// `PI_WARN` of Wireshark; chats and notes are below.
const EXPERT_WARNING: u32 = 0x0060_0000;

pub(crate) fn is_clean(seen: &Seen) -> bool {
    let mut statuses = seen.statuses.split([',', ' ']);
    seen.complaints.is_empty() && statuses.all(|status| status != "0")
}

#[test]
fn tshark_reads_what_is_sent_without_a_complaint() {
    let mut probe = Command::new("tshark");
    let name = "tshark_reads_what_is_sent_without_a_complaint";
    if !is_there(name, "tshark", probe.arg("--version")) {
        return;
    }
    for case in CASES {
        let frames = sent(&mut (case.lab)());
        let seen = look_with_tshark(&capture(case.name, &frames));
        assert_eq!(seen.len(), frames.len());
        for (seen, frame) in seen.iter().zip(&frames) {
            assert!(is_clean(seen), "{}: {seen:?}\n{frame:02x?}", case.name);
        }
        let reaching = |inner: &str| {
            let chain = format!("{}:{inner}", case.protocols);
            let is_whole = |seen: &&Seen| {
                let rest = seen.protocols.strip_prefix(&chain);
                rest.is_some_and(|rest| matches!(rest, "" | ":client"))
            };
            seen.iter().filter(is_whole).count()
        };
        assert_eq!(
            (reaching("tcp"), reaching("udp")),
            (8, 3),
            "{}: {seen:#?}",
            case.name
        );
    }
}

/// Else the test above would show nothing.
#[test]
fn tshark_complains_about_a_flipped_bit() {
    let mut probe = Command::new("tshark");
    let name = "tshark_complains_about_a_flipped_bit";
    if !is_there(name, "tshark", probe.arg("--version")) {
        return;
    }
    for case in CASES {
        let intact = (case.lab)().answers(&tcp(1000, SYN).frame()).remove(0).1;
        let mut flipped_bits = Vec::new();
        // The outer TTL, and the last byte of the client's segment.
        for at in [22, intact.len() - 1] {
            let mut frame = intact.clone();
            frame[at] ^= 1;
            flipped_bits.push(frame);
        }
        let file = capture(&format!("{}-flipped", case.name), &flipped_bits);
        for seen in look_with_tshark(&file) {
            assert!(!is_clean(&seen), "{}: {seen:?}", case.name);
        }
    }
}

#[test]
fn scapy_makes_the_same_bytes_of_what_it_reads() {
    // That of Debian, for which the package is made.
    let python = || Command::new("/usr/bin/python3");
    let name = "scapy_makes_the_same_bytes_of_what_it_reads";
    if !is_there(
        name,
        "python3-scapy",
        python().args(["-c", "import scapy.all"]),
    ) {
        return;
    }
    for case in CASES {
        let mut frames = sent(&mut (case.lab)());
        let rebuild = |frames: &[Vec<u8>], name: &str| {
            let mut command = python();
            command
                .arg(script("rebuild.py"))
                .arg(capture(name, frames))
                .arg(GUE_PORT);
            command.output().unwrap()
        };
        let output = rebuild(&frames, &format!("{}-scapy", case.name));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {errors}", case.name);
        let whole = String::from_utf8(output.stdout).unwrap();
        assert_eq!(whole.trim(), packets().len().to_string(), "{}", case.name);
        // It notices a flipped bit in the first frame's last byte.
        *frames[0].last_mut().unwrap() ^= 1;
        let output = rebuild(&frames, &format!("{}-scapy-flipped", case.name));
        assert!(!output.status.success(), "{}", case.name);
    }
}
