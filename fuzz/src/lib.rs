//! Fuzz targets: functions that take what others may send, and panic when the
//! product does or when something about its answer is wrong.
//!
//! `scripts/fuzz.sh` has libFuzzer make inputs. The test replays those that are
//! kept, and without libFuzzer each target's program does so with files that
//! are named to it.
#![forbid(unsafe_code)]
#![expect(
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a fuzz target fails by panicking"
)]

mod director;

use std::{env, fs, io};

use pointsman::{
    config,
    control::{
        saved::{Saved, decode, encode},
        status::{Request, Response},
    },
    ipvsadm,
    netlink::{self, DATAGRAM_LEN_MAX, Errno},
    realserver::decapsulate::{
        self as decapsulation, Rules, complete_checksum, decapsulate_from_ipv6, decapsulate_gue,
        decapsulate_gue_without_checksum,
    },
    wire::{IpProtocol, IpVersion, ipv4::Ipv4Header},
};

use crate::director::Lab;

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by the names of their programs and corpora.
pub const TARGETS: [(&str, Target); 7] = [
    ("configuration", configuration),
    ("control", control),
    ("decapsulate", decapsulate),
    ("netlink", netlink),
    ("packets", packets),
    ("rules", rules),
    ("state_file", state_file),
];

/// The program of a target: libFuzzer's, or one that takes files.
#[macro_export]
macro_rules! program {
    ($target:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|input: &[u8]| $crate::$target(input));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            $crate::replay($crate::$target)
        }
    };
}

/// Runs a target on the files that the command line names.
///
/// # Errors
/// When one cannot be read.
pub fn replay(target: Target) -> io::Result<()> {
    for file in env::args_os().skip(1) {
        target(&fs::read(&file)?);
    }
    Ok(())
}

/// Frames and the passing of time, for a whole director with two workers over
/// ports in memory.
///
/// A step is a byte of bits, two bytes of a length (big-endian) and so much of
/// a frame: bit 0 is the port, bit 1 the queue, bit 2 lets the director work
/// before the next frame comes, bits 3 to 5 let as many seconds pass
/// afterwards.
pub fn packets(input: &[u8]) {
    let mut lab = Lab::new();
    let mut rest = input;
    while let Some(([bits, a, b], after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes([*a, *b])).min(after.len());
        let (frame, after) = after.split_at(len);
        rest = after;
        lab.receive(bits & 1, usize::from(bits >> 1 & 1), frame);
        if bits & 4 != 0 {
            lab.settle();
        }
        for _ in 0..bits >> 3 & 7 {
            lab.advance_by_a_second();
        }
    }
    lab.check();
}

/// Datagrams as `ipvsadm` and `keepalived` send them, each after two bytes of
/// its length (big-endian).
pub fn netlink(input: &[u8]) {
    let mut lab = Lab::new();
    let mut rest = input;
    while let Some(([a, b], after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes([*a, *b])).min(after.len());
        let (datagram, after) = after.split_at(len);
        rest = after;
        // It takes a thread of its own to wait in.
        let _ = netlink::asks_for_text(datagram);
        let replies = netlink::answer(datagram, true, &mut |request| {
            lab.ask(request).ok_or(Errno::TryAgain)
        });
        for reply in &replies {
            check_netlink(reply);
        }
        for reply in netlink::answer(datagram, false, &mut |_| {
            panic!("whoever may not ask had something asked")
        }) {
            check_netlink(&reply);
        }
    }
    lab.check();
}

/// A datagram is of whole messages, each of at least 16 bytes (`netlink(7)`).
fn check_netlink(datagram: &[u8]) {
    assert!(datagram.len() <= DATAGRAM_LEN_MAX);
    let mut rest = datagram;
    while !rest.is_empty() {
        let len = u32::from_ne_bytes(*rest.first_chunk().unwrap()) as usize;
        assert!((16..=rest.len()).contains(&len), "{datagram:02x?}");
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// Lines as the control socket and the API get them.
pub fn control(input: &[u8]) {
    let mut lab = Lab::new();
    for line in input.split(|&byte| byte == b'\n') {
        let Ok(request) = serde_json::from_slice::<Request>(line) else {
            continue;
        };
        let response = lab.ask(request).unwrap();
        let text = serde_json::to_vec(&response).unwrap();
        let read: Response = serde_json::from_slice(&text).unwrap();
        assert_eq!(read, response);
    }
    lab.check();
}

/// A configuration file.
pub fn configuration(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    if let Err(errors) = config::parse(text, "fuzz.toml") {
        assert!(!errors.to_string().is_empty());
    }
}

/// Services as `ipvsadm -R` takes them, and each line as arguments.
pub fn rules(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let rules = ipvsadm::rules::parse(text);
    assert!(!format!("{rules:?}").is_empty());
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if let Err(error) = ipvsadm::parse(&words) {
            assert!(!error.to_string().is_empty());
        }
    }
}

/// A state file, or the body of one with a head that fits it.
pub fn state_file(input: &[u8]) {
    let saved = [
        decode(input).ok(),
        serde_json::from_slice::<Saved>(input).ok(),
    ];
    for saved in saved.into_iter().flatten() {
        let bytes = encode(&saved).unwrap();
        if let Ok(again) = decode(&bytes) {
            assert_eq!(encode(&again).unwrap(), bytes);
        }
    }
}

/// What a real server's end of the tunnel gets: outer packets of IPv4, and what
/// outer ones of IPv6 and UDP datagrams carried.
pub fn decapsulate(input: &[u8]) {
    let local = "10.0.0.11".parse().unwrap();
    let director = "10.0.0.1".parse().unwrap();
    let rules = Rules {
        local,
        vips: ["198.51.100.10", "2001:db8:ff::10"]
            .map(|vip| vip.parse().unwrap())
            .into(),
        directors: vec![
            "10.0.0.0/24".parse().unwrap(),
            "2001:db8::/32".parse().unwrap(),
        ],
    };
    let from = "2001:db8:2::1".parse().unwrap();
    let check = |inner: Result<&mut [u8], _>| {
        let Ok(inner) = inner else { return };
        if IpVersion::of_packet(inner) == IpVersion::V4 {
            let (header, _) = Ipv4Header::validate(inner).unwrap();
            assert_eq!(usize::from(header.total_len()), inner.len());
        }
        complete_checksum(inner);
    };
    check(decapsulation::decapsulate(&mut input.to_vec(), &rules));
    for protocol in [IpProtocol::IPIP, IpProtocol::IPV6, IpProtocol::GRE] {
        check(decapsulate_from_ipv6(
            &mut input.to_vec(),
            from,
            protocol,
            &rules,
        ));
    }
    check(decapsulate_gue(&mut input.to_vec(), director, &rules));
    check(decapsulate_gue_without_checksum(
        &mut input.to_vec(),
        director,
        &rules,
    ));
}
