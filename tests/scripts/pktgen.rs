//! The profiles for traffic generators, as far as they can be judged without a
//! generator and a NIC.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use serde_json::Value;
use tempfile::TempDir;

use crate::machine::script_path;

const DIRECTOR: [&str; 2] = ["--director-mac", "02:00:00:00:00:10"];
const KINDS: [&str; 4] = ["open", "tcp", "syn", "udp"];
const PYTHON: &str = "/usr/bin/python3";

/// The commands that the profiles use, as the tables of app/cli-functions.c of
/// Pktgen 24.10 have them: `%P` is a port, `%m` a MAC address, `%4` an IPv4
/// address, `%d` a number, `%s` any word.
const COMMANDS: [&str; 18] = [
    "stop %P",
    "set %P count|seq_cnt|ttl %d",
    "set %P rnd %d %d %s",
    "range %P dst mac %m %m %m %m",
    "range %P src mac %m %m %m %m",
    "range %P dst ip %4 %4 %4 %4",
    "range %P src ip %4 %4 %4 %4",
    "range %P proto tcp|udp",
    "range %P tcp flag set urg|ack|psh|rst|syn|fin|all",
    "range %P tcp flag clr urg|ack|psh|rst|syn|fin|all",
    "range %P dst port %d %d %d %d",
    "range %P src port %d %d %d %d",
    "range %P size %d %d %d %d",
    "range %P ttl %d %d %d %d",
    "enable %P range",
    "disable %P range",
    "disable %P random",
    "seq %d %P %m %m %4 %4 %d %d ipv4|ipv6 udp|tcp|icmp %d %d %d",
];

/// A Pktgen whose director forwards 37 % of the line rate: what `pktgen.*` does
/// as app/lpktgenlib.c has it.
const FAKE_PKTGEN: &str = r#"
local rate, sent, received, files = 0, 0, 0, {}
local running = false
local known = {
  screen = function(state) assert(state == "off") end,
  load = function(file) files[#files + 1] = file; print("load " .. file) end,
  set = function(port, what, value) assert(port == "0" and what == "rate"); rate = value end,
  clr = function() sent, received = 0, 0 end,
  start = function(port) assert(port == "0"); running = true end,
  stop = function() running = false end,
  sleep = function(seconds)
    if running then
      sent = sent + math.floor(rate * 10000 * seconds)
      received = received + math.floor(math.min(rate, 37) * 10000 * seconds)
    end
  end,
  portStats = function(port, what)
    assert(what == "port")
    return { [tonumber(port)] = { opackets = port == "0" and sent or 0,
                                  ipackets = port == "1" and received or 0 } }
  end,
}
pktgen = setmetatable({}, { __index = function(_, name)
  return known[name] or error("Pktgen has no " .. name)
end })
"#;

fn folder() -> PathBuf {
    script_path("pktgen")
}

/// What the profile for Pktgen consists of.
fn pktgen_profile(arguments: &[&str]) -> Vec<String> {
    let output = Command::new(PYTHON)
        .arg(folder().join("pktgen_profile.py"))
        .args(DIRECTOR)
        .args(arguments)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    said(&output).lines().map(str::to_owned).collect()
}

#[track_caller]
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn has(program: &str) -> bool {
    Command::new(program)
        .arg("-v")
        .output()
        .is_ok_and(|output| output.status.success())
}

fn is_like(word: &str, pattern: &str) -> bool {
    match pattern {
        "%P" | "%d" => word.parse::<u32>().is_ok(),
        "%m" => word.split(':').count() == 6,
        "%4" => word
            .split('/')
            .next()
            .is_some_and(|address| address.parse::<std::net::Ipv4Addr>().is_ok()),
        "%s" => true,
        words => words.split('|').any(|other| other == word),
    }
}

fn is_command(line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    COMMANDS.iter().any(|command| {
        let patterns: Vec<&str> = command.split(' ').collect();
        words.len() == patterns.len()
            && words
                .iter()
                .zip(patterns)
                .all(|(word, pattern)| is_like(word, pattern))
    })
}

#[test]
fn pktgen_knows_the_commands_of_its_profiles() {
    assert!(!is_command("range 0 proto sctp") && !is_command("set 0 rate"));
    let mut profiles = vec![pktgen_profile(&["--kind", "udp", "--size", "imix"])];
    for kind in KINDS {
        for flows in ["1", "1k", "64k", "1M"] {
            profiles.push(pktgen_profile(&["--kind", kind, "--flows", flows]));
        }
    }
    for line in profiles.iter().flatten() {
        assert!(is_command(line), "{line}");
    }
}

/// The words behind the beginning of a line.
fn words_of<'a>(profile: &'a [String], start: &str) -> Vec<&'a str> {
    let line = profile.iter().find_map(|line| line.strip_prefix(start));
    line.unwrap_or_else(|| panic!("no {start} in {profile:?}"))
        .split_whitespace()
        .collect()
}

/// Steps through a range as Pktgen does.
fn steps<F: Fn(&str) -> u32>(words: &[&str], number: F) -> impl Iterator<Item = u32> + use<F> {
    let numbers: Vec<u32> = words.iter().map(|word| number(word)).collect();
    let [start, min, max, step] = numbers[..] else {
        panic!("{words:?}")
    };
    std::iter::successors(Some(start), move |last| {
        let next = last + step;
        Some(if next > max { min } else { next })
    })
}

#[test]
fn ranges_of_pktgen_come_to_all_flows() {
    for (asked, flows, packets) in [
        ("1", 1, 10),
        ("1k", 1000, 1000),
        ("64k", 64_000, 64_000),
        ("1M", 1_001_000, 1_001_000),
    ] {
        let profile = pktgen_profile(&["--flows", asked]);
        let address = |word: &str| word.parse::<std::net::Ipv4Addr>().unwrap().to_bits();
        let addresses = steps(&words_of(&profile, "range 0 src ip"), address);
        let ports = steps(&words_of(&profile, "range 0 src port"), |word| {
            word.parse().unwrap()
        });
        let seen: HashSet<(u32, u32)> = addresses.zip(ports).take(packets).collect();
        assert_eq!(seen.len(), flows, "{asked}");
    }
}

#[test]
fn kinds_of_traffic_have_their_flags() {
    for (kind, flag) in [("open", "syn"), ("syn", "syn"), ("tcp", "ack")] {
        let profile = pktgen_profile(&["--kind", kind]);
        assert_eq!(words_of(&profile, "range 0 proto"), ["tcp"]);
        assert_eq!(words_of(&profile, "range 0 tcp flag set"), [flag]);
    }
    let profile = pktgen_profile(&["--kind", "udp", "--size", "1518"]);
    assert_eq!(words_of(&profile, "range 0 proto"), ["udp"]);
    assert_eq!(
        words_of(&profile, "range 0 size"),
        ["1518", "1518", "1518", "0"]
    );
}

#[test]
fn imix_of_pktgen_has_seven_small_frames_four_middle_ones_and_a_large_one() {
    let profile = pktgen_profile(&["--kind", "udp", "--size", "imix", "--flows", "1k"]);
    let mut sizes = BTreeMap::new();
    for line in profile.iter().filter(|line| line.starts_with("seq ")) {
        *sizes
            .entry(line.split(' ').rev().nth(1).unwrap())
            .or_insert(0) += 1;
    }
    assert_eq!(sizes, BTreeMap::from([("64", 7), ("594", 4), ("1518", 1)]));
    assert_eq!(words_of(&profile, "set 0 seq_cnt"), ["12"]);
    // 1024 source ports, the 16 bits at 34 of the frame.
    assert_eq!(
        words_of(&profile, "set 0 rnd"),
        ["0", "34", "......XXXXXXXXXX"]
    );
}

#[test]
fn what_is_no_traffic_is_refused() {
    for wrong in [
        &["--flows", "0"][..],
        &["--size", "63"],
        &["--kind", "icmp"],
        &["--director-mac", "02:00:00:00:00"],
        &["--size", "imix", "--kind", "tcp"],
    ] {
        let output = Command::new(PYTHON)
            .arg(folder().join("pktgen_profile.py"))
            .args(DIRECTOR)
            .args(wrong)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .unwrap();
        assert!(
            !output.status.success() && output.stdout.is_empty(),
            "{wrong:?}"
        );
    }
}

#[test]
fn the_search_of_pktgen_finds_what_a_director_can_do() {
    let test = "the_search_of_pktgen_finds_what_a_director_can_do";
    if !has("lua5.4") || !has("luac5.4") {
        println!("skipped: {test}: lua5.4 is missing; scripts/setup.sh --tests installs it");
        return;
    }
    let script = folder().join("rfc2544.lua");
    said(
        &Command::new("luac5.4")
            .arg("-p")
            .arg(&script)
            .output()
            .unwrap(),
    );
    let run = |variables: &[(&str, &str)]| {
        let output = Command::new("lua5.4")
            .args(["-e", FAKE_PKTGEN])
            .arg(&script)
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        said(&output)
    };
    // Halving from 100 down to half a percent: 36.72 is below 37, 37.11 above.
    let out = run(&[("PKTGEN_OPEN", "open.pkt"), ("PKTGEN_LINE_PPS", "1000000")]);
    assert!(
        out.starts_with("load open.pkt\nload trial.pkt\n 100.00 %  sent 60000000"),
        "{out}"
    );
    assert!(
        out.ends_with("throughput: 36.72 % of the line rate, 367188 frames/s\n"),
        "{out}"
    );
    // 0.5 % of loss, so that 37.11 is good, too.
    let out = run(&[("PKTGEN_LOSS", "5000")]);
    assert!(out.contains("throughput: 37.11 %"), "{out}");
    let out = run(&[("PKTGEN_MAX", "20")]);
    assert!(out.contains("throughput: 20.00 %"), "{out}");
}

/// What Python says about the modules of the profiles.
fn python(code: &str, path: &Path) -> Output {
    Command::new(PYTHON)
        .args(["-W", "ignore", "-c", code])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env(
            "PYTHONPATH",
            format!("{}:{}", folder().display(), path.display()),
        )
        .output()
        .unwrap()
}

#[test]
fn the_search_with_trex_finds_what_a_director_can_do() {
    let code = "
import trex_rfc2544 as t
def director(percent):
    sent = round(percent * 600000)
    return t.Trial(percent, sent, min(sent, 37 * 600000), 60)
print(t.search(director, 100, 0.5, 0).percent)
print(t.search(director, 100, 0.5, 5000).percent)
print(t.search(director, 20, 0.5, 0).percent)
print(t.search(lambda percent: t.Trial(percent, 0, 0, 60), 100, 0.5, 0))
";
    let out = said(&python(code, Path::new("")));
    assert_eq!(out, "36.71875\n37.109375\n20\nNone\n");
}

#[test]
fn scripts_in_python_compile() {
    let cache = TempDir::new().unwrap();
    let mut count = 0;
    for entry in folder().read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "py") {
            count += 1;
            let mut command = Command::new(PYTHON);
            command.args(["-m", "py_compile"]).arg(&path);
            said(
                &command
                    .env("PYTHONPYCACHEPREFIX", cache.path())
                    .output()
                    .unwrap(),
            );
        }
    }
    assert_eq!(count, 4);
}

/// Prints, as JSON, the streams that the generator's library makes of the profile,
/// for each list of options.
const STREAMS: &str = "
import base64, json, sys
import lbr_trex_client
from trex.stl.api import STLProfile
def streams(options):
    for stream in STLProfile.load_py(sys.argv[1], tunables=options).get_streams():
        stream = stream.to_json()
        frame = list(base64.b64decode(stream['packet']['binary']))
        yield {'frame': frame, 'mode': stream['mode'], 'vm': stream['vm']['instructions']}
print(json.dumps([list(streams(options)) for options in json.loads(sys.argv[2])]))
";

/// The streams that the profile comes to, for each list of options; `None`, with
/// the reason printed, where the library is not there.
fn trex_streams(test: &str, options: &[Vec<&str>]) -> Option<Vec<Vec<Value>>> {
    let state = std::env::var("POINTSMAN_STATE").unwrap_or("/var/lib/pointsman".to_owned());
    let library = Path::new(&state).join("trex-client");
    if !library.is_dir() {
        println!(
            "skipped: {test}: no TRex client library in {}; scripts/setup.sh --tests installs it",
            library.display()
        );
        return None;
    }
    let options: Vec<Vec<&str>> = options
        .iter()
        .map(|options| [&DIRECTOR, &options[..]].concat())
        .collect();
    let output = Command::new(PYTHON)
        .args(["-W", "ignore", "-c", STREAMS])
        .arg(folder().join("trex_profile.py"))
        .arg(serde_json::to_string(&options).unwrap())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONPATH", library)
        .output()
        .unwrap();
    Some(serde_json::from_str(&said(&output)).unwrap())
}

/// The frame that a stream starts from.
fn frame(stream: &Value) -> Vec<u8> {
    serde_json::from_value(stream["frame"].clone()).unwrap()
}

#[test]
fn trex_takes_its_profile() {
    let test = "trex_takes_its_profile";
    let sizes = ["64", "512", "1518"];
    for (kind, flags) in [("open", 0x02), ("syn", 0x02), ("tcp", 0x10), ("udp", 0)] {
        let options = sizes.map(|size| vec!["--kind", kind, "--size", size]);
        let Some(profiles) = trex_streams(test, &options) else {
            return;
        };
        for (streams, size) in profiles.iter().zip(sizes) {
            assert_eq!(streams.len(), 1);
            let frame = frame(&streams[0]);
            // TRex leaves the checksum of the frame to the NIC.
            assert_eq!((frame.len() + 4).to_string(), size);
            let packet = SlicedPacket::from_ethernet(&frame).unwrap();
            assert_eq!(frame[..6], [2, 0, 0, 0, 0, 0x10]);
            let Some(NetSlice::Ipv4(ip)) = packet.net else {
                panic!("{frame:?}")
            };
            assert_eq!(ip.header().destination_addr().to_string(), "198.19.0.10");
            assert_eq!(usize::from(ip.header().total_len()), frame.len() - 14);
            match packet.transport {
                Some(TransportSlice::Tcp(tcp)) => {
                    assert_eq!((tcp.destination_port(), tcp.slice()[13]), (80, flags));
                }
                Some(TransportSlice::Udp(udp)) => {
                    assert_eq!((udp.destination_port(), udp.checksum()), (80, 0));
                    assert_eq!(kind, "udp");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn flows_of_trex_are_a_product_of_clients_and_ports() {
    let test = "flows_of_trex_are_a_product_of_clients_and_ports";
    for (flows, clients, ports) in [("1k", 31, 33), ("64k", 252, 254), ("1M", 1000, 1000)] {
        let options = ["tcp", "open"].map(|kind| vec!["--kind", kind, "--flows", flows]);
        let Some(profiles) = trex_streams(test, &options) else {
            return;
        };
        let [tcp, open] = [&profiles[0][0], &profiles[1][0]];
        let instructions = tcp["vm"].as_array().unwrap();
        let ranges: Vec<u64> = instructions
            .iter()
            .filter(|instruction| instruction["type"] == "flow_var")
            .map(|variable| {
                assert_eq!(variable["op"], "random");
                let limit = |name: &str| variable[name].as_u64().unwrap();
                limit("max_value") - limit("min_value") + 1
            })
            .collect();
        assert_eq!(ranges, [clients, ports]);
        // Source address and source port, and the sum of the header in the end.
        let places: Vec<u64> = instructions
            .iter()
            .filter(|instruction| instruction["type"] == "write_flow_var")
            .map(|write| write["pkt_offset"].as_u64().unwrap())
            .collect();
        assert_eq!(places, [26, 34]);
        assert_eq!(instructions.last().unwrap()["type"], "fix_checksum_ipv4");

        assert_eq!(open["mode"]["type"], "single_burst");
        assert_eq!(open["mode"]["total_pkts"], clients * ports);
        assert_eq!(open["vm"][0]["limit_flows"], clients * ports);
    }
}

#[test]
fn imix_of_trex_has_seven_small_frames_four_middle_ones_and_a_large_one() {
    let test = "imix_of_trex_has_seven_small_frames_four_middle_ones_and_a_large_one";
    let Some(profiles) = trex_streams(test, &[vec!["--kind", "udp", "--size", "imix"]]) else {
        return;
    };
    let rows: Vec<(usize, f64)> = profiles[0]
        .iter()
        .map(|stream| {
            let rate = stream["mode"]["rate"]["value"].as_f64().unwrap();
            (frame(stream).len() + 4, rate)
        })
        .collect();
    assert_eq!(rows, [(64, 7.0), (594, 4.0), (1518, 1.0)]);
}
