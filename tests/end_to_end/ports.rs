//! The other kinds of ports that need no NIC, with and without hugepages.

use std::{
    fs,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::support::{Configuration, Director, Lab, Shape, skipped, wait_for};

const PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
/// 128 MiB for EAL, and some for its rounding up.
const PAGES_WANTED: u32 = 80;
const VLAN: u16 = 7;

/// Half of the requests go to each server.
fn assert_forwards(lab: &Lab, director: &Director) {
    let mut answers = lab.ask(20);
    answers.sort_unstable();
    assert_eq!(answers, [[1; 10], [2; 10]].concat(), "{}", director.log());
}

pub(crate) fn over_af_xdp(lab: &Lab) -> Configuration {
    Configuration {
        wan: "net_af_xdp0,iface=wan,busy_budget=0".to_owned(),
        lan: "net_af_xdp1,iface=lan,busy_budget=0".to_owned(),
        ..lab.configuration()
    }
}

pub(crate) fn over_tap(lab: &Lab) -> Configuration {
    Configuration {
        wan: "net_tap0,iface=tapwan".to_owned(),
        lan: "net_tap1,iface=taplan".to_owned(),
        ..lab.configuration()
    }
}

/// Bridges the director's TAP interfaces to its cables.
pub(crate) fn connect_taps(lab: &Lab) {
    for (name, mac) in [("wan", "02:00:00:00:01:01"), ("lan", "02:00:00:00:01:02")] {
        let director = &lab.director;
        director.ip(&format!("link add br{name} type bridge forward_delay 0"));
        // The kernel's end has the MAC address of the port at first, and a
        // bridge takes frames to an address of its own ports for itself.
        director.ip(&format!("link set tap{name} address {mac}"));
        director.ip(&format!("link set {name} master br{name}"));
        director.ip(&format!("link set tap{name} master br{name}"));
        for interface in [format!("tap{name}"), format!("br{name}")] {
            director.ip(&format!("link set {interface} up"));
        }
    }
}

#[test]
fn af_xdp_ports_forward_http() {
    let Some(lab) = Lab::build("af_xdp_ports_forward_http", Shape::TwoArms, 2) else {
        return;
    };
    let director = lab.start_director(&over_af_xdp(&lab));
    assert_eq!(director.show("ports")[0]["driver"], "net_af_xdp");
    assert_forwards(&lab, &director);
}

#[test]
fn tap_ports_forward_http() {
    let Some(lab) = Lab::build("tap_ports_forward_http", Shape::TwoArms, 2) else {
        return;
    };
    let director = lab.start_director(&over_tap(&lab));
    connect_taps(&lab);
    let ports = director.show("ports");
    assert_eq!(ports[0]["driver"], "net_tap");
    assert_eq!(ports[0]["capabilities"]["tx_ipv4_checksum"], true);
    assert_forwards(&lab, &director);
}

#[test]
fn a_lost_link_and_its_return_are_told_once_each() {
    const NAME: &str = "a_lost_link_and_its_return_are_told_once_each";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let director = lab.start_director(&over_tap(&lab));
    connect_taps(&lab);
    assert_eq!(lab.ask(2), [1, 1]);
    // The director looks once a second.
    let times = |line: &str| director.log().matches(line).count();
    for round in 1..=2 {
        lab.director.ip("link set taplan down");
        wait_for("the loss is told", || {
            times(" WARN  pointsman::control::network] port lan lost its link\n") == round
        });
        thread::sleep(Duration::from_secs(2));
        assert_eq!(director.show("ports")[1]["link_up"], false);
        lab.director.ip("link set taplan up");
        wait_for("the return is told", || {
            times(" INFO  pointsman::control::network] port lan has its link back\n") == round
        });
        thread::sleep(Duration::from_secs(2));
        assert_eq!(times("port lan lost its link"), round, "{}", director.log());
        assert_eq!(times("port lan has its link back"), round);
        assert_eq!(times("port wan lost its link"), 0, "{}", director.log());
        assert_eq!(lab.ask(2), [1, 1]);
    }
}

#[test]
fn af_packet_ports_forward_http_from_hugepages() {
    const NAME: &str = "af_packet_ports_forward_http_from_hugepages";
    with_hugepages(NAME, Lab::configuration, |_| {});
}

#[test]
fn af_xdp_ports_forward_http_from_hugepages() {
    const NAME: &str = "af_xdp_ports_forward_http_from_hugepages";
    with_hugepages(NAME, over_af_xdp, |_| {});
}

#[test]
fn tap_ports_forward_http_from_hugepages() {
    const NAME: &str = "tap_ports_forward_http_from_hugepages";
    with_hugepages(NAME, over_tap, connect_taps);
}

fn with_hugepages(test: &str, configuration: fn(&Lab) -> Configuration, connect: fn(&Lab)) {
    // One after the other, so that few pages do for all.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let Some(lab) = Lab::build(test, Shape::TwoArms, 2) else {
        return;
    };
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(_pages) = ReservedPages::reserve() else {
        return skipped(
            test,
            "the kernel has no 160 MiB of hugepages; run scripts/hugepages.sh set 256 before",
        );
    };
    let configuration = Configuration {
        hugepages: "required",
        ..configuration(&lab)
    };
    let director = lab.start_director(&configuration);
    let status = fs::read_to_string(format!("/proc/{}/status", director.id())).unwrap();
    let pages = status
        .lines()
        .find(|line| line.starts_with("HugetlbPages:"));
    let kib: u32 = pages
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert!(kib >= 128 * 1024, "{kib} KiB");
    connect(&lab);
    assert_forwards(&lab, &director);
}

/// Hugepages of 2 MiB beyond those that were there, given back when dropped.
struct ReservedPages {
    added: u32,
}

impl ReservedPages {
    /// As many as are missing.
    fn reserve() -> Option<Self> {
        fs::metadata(PAGES).ok()?;
        let missing = PAGES_WANTED.saturating_sub(read_number("free_hugepages"));
        let before = read_number("nr_hugepages");
        let mut reserved = Self { added: 0 };
        if missing > 0 {
            fs::write(
                format!("{PAGES}/nr_hugepages"),
                (before + missing).to_string(),
            )
            .ok()?;
            reserved.added = read_number("nr_hugepages").saturating_sub(before);
        }
        (read_number("free_hugepages") >= PAGES_WANTED).then_some(reserved)
    }
}

impl Drop for ReservedPages {
    fn drop(&mut self) {
        if self.added > 0 {
            let number = read_number("nr_hugepages").saturating_sub(self.added);
            // What is in use meanwhile, the kernel keeps as surplus.
            let _ = fs::write(format!("{PAGES}/nr_hugepages"), number.to_string());
        }
    }
}

fn read_number(name: &str) -> u32 {
    let text = fs::read_to_string(format!("{PAGES}/{name}")).unwrap();
    text.trim().parse().unwrap()
}

#[test]
fn a_port_with_a_vlan_forwards_http_in_tagged_frames() {
    const NAME: &str = "a_port_with_a_vlan_forwards_http_in_tagged_frames";
    let Some(lab) = Lab::build(NAME, Shape::OwnCable, 2) else {
        return;
    };
    VlanCable::plug_in(&lab);
    let configuration = Configuration {
        vlan: Some(VLAN),
        ..lab.configuration()
    };
    let director = lab.start_director(&configuration);
    assert_forwards(&lab, &director);
    assert_eq!(director.show("ports")[0]["vlan"], VLAN);
    assert_eq!(director.counter("other_vlan"), 0);
    let director_sent = director.show("ports")[0]["statistics"]["tx_packets"].as_u64();
    assert!(director_sent > Some(60), "{director_sent:?}");
}

#[test]
fn a_port_with_a_vlan_drops_frames_without_its_tag() {
    const NAME: &str = "a_port_with_a_vlan_drops_frames_without_its_tag";
    // The cable carries frames as they are.
    let Some(lab) = Lab::build(NAME, Shape::OneArm, 1) else {
        return;
    };
    let configuration = Configuration {
        vlan: Some(VLAN),
        ..lab.configuration()
    };
    let director = lab.start_director(&configuration);
    lab.connect().unwrap_err();
    assert!(director.counter("other_vlan") > 0);
    assert_eq!(director.counter("connections_opened"), 0);
}

/// A switch with an access port on the client's bridge and a trunk to the
/// director, made of two TAP interfaces: kernels without 802.1Q are common in
/// virtual machines.
struct VlanCable;

impl VlanCable {
    fn plug_in(lab: &Lab) {
        let tap = |name: &str| {
            DeviceBuilder::new()
                .name(name)
                .layer(Layer::L2)
                .build_sync()
                .unwrap()
        };
        let trunk = lab.director.inside(|| tap("lan"));
        let access = lab.client.inside(|| tap("access"));
        lab.director.ip("link set lan arp off up");
        lab.client.ip("link set access master servers up");
        let (trunk, access) = (std::sync::Arc::new(trunk), std::sync::Arc::new(access));
        let (trunk_too, access_too) = (trunk.clone(), access.clone());
        thread::spawn(move || carry(&trunk, &access_too, untagged));
        thread::spawn(move || carry(&access, &trunk_too, tagged));
    }
}

/// Until an interface goes with its namespace.
fn carry(from: &SyncDevice, to: &SyncDevice, change: fn(&[u8]) -> Option<Vec<u8>>) {
    let mut buffer = vec![0; 2048];
    while let Ok(len) = from.recv(&mut buffer) {
        if let Some(frame) = change(&buffer[..len])
            && to.send(&frame).is_err()
        {
            return;
        }
    }
}

/// Frames with another tag, or none, do not belong to the access port.
fn untagged(frame: &[u8]) -> Option<Vec<u8>> {
    let [a, b] = VLAN.to_be_bytes();
    let is_ours = frame.get(12..16)? == [0x81, 0x00, a, b];
    is_ours.then(|| [&frame[..12], &frame[16..]].concat())
}

fn tagged(frame: &[u8]) -> Option<Vec<u8>> {
    let [a, b] = VLAN.to_be_bytes();
    let (addresses, rest) = frame.split_at_checked(12)?;
    Some([addresses, &[0x81, 0x00, a, b], rest].concat())
}
