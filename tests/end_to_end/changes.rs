//! Changes lose nothing: `pointsman pktgen` sends to a director at work by 120
//! flows, and looks where each packet comes out, while services, real servers,
//! routes and neighbors change.
//!
//! The rules: a flow keeps its real server, whatever changes, unless that
//! server is deleted. Then, with `expire_nodest_conn`, its next packet opens
//! a connection anew (with `sloppy_tcp` also in the middle of a TCP connection),
//! and the flow goes on with a server that there still is, for good. Without
//! `expire_nodest_conn` it waits for its server, and loses what it sends
//! meanwhile. Nothing else loses a packet.

use std::collections::BTreeMap;

use pointsman::{
    control::command::Command,
    scheduler::SchedulerKind,
    service::{Protocol, ServerKey, ServerOptions, ServiceKey, ServiceOptions},
};
use serde_json::{Value, json};

use crate::support::{Configuration, Director, FLOWS, Lab, Pktgen, VIP, brief, rip, wait_for};

/// Of the routers that come and go, and of a server's second network card.
const MACS: [&str; 3] = [
    "02:00:00:00:bb:01",
    "02:00:00:00:bb:02",
    "02:00:00:00:bb:03",
];

/// Three real servers of which pktgen stands for all, and for a fourth one.
fn lab(test: &str, expire_nodest_conn: bool) -> Option<(Lab, Configuration)> {
    let lab = Lab::for_pktgen(test)?;
    let configuration = Configuration {
        servers: vec![(1, 1), (2, 1), (3, 1)],
        expire_nodest_conn,
        ..lab.configuration()
    };
    Some((lab, configuration))
}

fn services() -> [ServiceKey; 2] {
    [(Protocol::Tcp, 80), (Protocol::Udp, 7)]
        .map(|(protocol, l4_port)| ServiceKey::at(protocol, (VIP, l4_port).into()))
}

fn server(number: u8) -> ServerKey {
    let address = rip(number).into();
    ServerKey { address }
}

fn weighing(weight: u32) -> ServerOptions {
    ServerOptions {
        weight,
        ..ServerOptions::default()
    }
}

/// Changes both services.
fn both(director: &Director, command: impl Fn(ServiceKey) -> Command) {
    for service in services() {
        director.apply(&command(service));
    }
}

/// How many flows a real server had at the beginning.
fn flows_of(report: &Value, number: u8) -> u64 {
    let mut rows = report["servers"].as_array().unwrap().iter();
    let row = rows.find(|row| row["address"] == rip(number).to_string());
    row.unwrap()["flows"].as_u64().unwrap()
}

/// Where each flow that moved went, step by step.
fn ways(report: &Value) -> BTreeMap<u64, Vec<String>> {
    let mut ways: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for step in report["moves"]["list"].as_array().unwrap() {
        let way = ways.entry(step["flow"].as_u64().unwrap()).or_default();
        let text = |key: &str| step[key].as_str().unwrap().to_owned();
        if way.is_empty() {
            way.push(text("from"));
        }
        way.push(text("to"));
    }
    ways
}

/// Servers join, drain and leave, schedulers and other services change.
fn change_services(director: &Director) {
    both(director, |it| {
        Command::AddServer(it, server(4), weighing(1))
    });
    director.pass(1000);
    for weight in [0, 7, 1] {
        both(director, |it| {
            Command::EditServer(it, server(1), weighing(weight))
        });
        director.pass(500);
    }
    for scheduler in [SchedulerKind::Mh, SchedulerKind::Wlc, SchedulerKind::Rr] {
        let options = ServiceOptions::from(scheduler);
        both(director, |it| Command::EditService(it, options));
        director.pass(500);
    }
    // Many at once, as a health checker that has just started does it.
    let others = || {
        (1..=40)
            .map(|number| ServiceKey::at(Protocol::Tcp, ([198, 51, 100, 20 + number], 80).into()))
    };
    for service in others() {
        let options = ServiceOptions::from(SchedulerKind::Wrr);
        director.apply(&Command::AddService(service, options));
        director.apply(&Command::AddServer(service, server(2), weighing(1)));
    }
    director.pass(500);
    others().for_each(|it| director.apply(&Command::DeleteService(it)));
    director.pass(500);
}

/// What SIGHUP brings: nothing new, weights, and routes to 10.0.0.11 by one
/// router and then by another one.
fn change_configuration(lab: &Lab, director: &Director, configuration: &Configuration) {
    assert!(director.reload().contains("read again"));
    director.pass(500);
    let mut configuration = configuration.clone();
    configuration.servers = vec![(1, 3), (2, 1), (3, 2)];
    director.change_to(lab, &configuration);
    director.pass(500);
    for (router, mac) in [(253, MACS[0]), (252, MACS[1])] {
        configuration.more = format!(
            "[[neighbor]]\nport = \"lan\"\naddress = \"10.0.0.{router}\"\nmac = \"{mac}\"\n\
             [[route]]\nto = \"10.0.0.11/32\"\nvia = \"10.0.0.{router}\"\n"
        );
        director.change_to(lab, &configuration);
        director.pass(1000);
    }
    configuration.more = String::new();
    director.change_to(lab, &configuration);
    director.pass(500);
}

/// The network card of 10.0.0.12 gives way to another one, which says so.
fn change_mac(lab: &Lab, director: &Director) {
    let lan = &lab.client;
    lan.set("ipv4/conf/lan/arp_notify", "1");
    lan.ip("address add 10.0.0.12/32 dev lan");
    lan.ip(&format!("link set lan address {}", MACS[2]));
    wait_for("the director knows the new card", || {
        director.neighbor(rip(2)).1 == MACS[2]
    });
    director.pass(1000);
}

#[test]
fn no_change_loses_a_packet_or_moves_a_flow_but_those_of_a_deleted_server() {
    const NAME: &str = "no_change_loses_a_packet_or_moves_a_flow_but_those_of_a_deleted_server";
    let Some((lab, configuration)) = lab(NAME, true) else {
        return;
    };
    let director = lab.start_director(&configuration);
    director.set("sloppy_tcp 1");
    let macs = MACS.map(|mac| ["--server-mac", mac]).concat();
    let words = [&["--may-move", "10.0.0.13"], &macs[..]].concat();
    let pktgen = Pktgen::measure(&lab, &director, &words);
    change_services(&director);
    change_configuration(&lab, &director, &configuration);
    change_mac(&lab, &director);
    let opened = director.counter("connections_opened");
    both(&director, |it| Command::DeleteServer(it, server(3)));
    director.pass(4000);
    both(&director, |it| {
        Command::AddServer(it, server(3), weighing(1))
    });
    director.pass(1000);
    let (code, report) = pktgen.stop();

    assert_eq!(code, Some(0), "{}", brief(&report));
    assert_eq!(report["lost"], 0, "{}", brief(&report));
    assert_eq!(report["losses"]["flows"], 0, "{}", brief(&report));
    let ways = ways(&report);
    let moved = u64::try_from(ways.len()).unwrap();
    assert_eq!(moved, flows_of(&report, 3), "{}", brief(&report));
    assert!(moved > 0, "{}", brief(&report));
    for (flow, way) in ways {
        assert_eq!(way.len(), 2, "{flow}: {way:?}");
        assert_eq!(way[0], "10.0.0.13", "{flow}");
        assert_ne!(way[1], "10.0.0.13", "{flow}");
    }
    // Routers and the new card were in use.
    for mac in MACS {
        assert!(
            report["server_macs"][mac].as_u64() > Some(0),
            "{}",
            brief(&report)
        );
    }
    assert_eq!(opened, FLOWS);
    assert_eq!(director.counter("connections_opened"), FLOWS + moved);
}

#[test]
fn flows_of_a_deleted_server_wait_for_it_and_no_other_flow_loses_a_packet() {
    const NAME: &str = "flows_of_a_deleted_server_wait_for_it_and_no_other_flow_loses_a_packet";
    let Some((lab, configuration)) = lab(NAME, false) else {
        return;
    };
    let director = lab.start_director(&configuration);
    let pktgen = Pktgen::measure(&lab, &director, &["--may-lose", "10.0.0.13"]);
    both(&director, |it| Command::DeleteServer(it, server(3)));
    wait_for("its packets are dropped", || {
        director.counter("server_gone") > 1000
    });
    both(&director, |it| {
        Command::AddServer(it, server(3), weighing(1))
    });
    director.pass(1000);
    let dropped = director.counter("server_gone");
    director.pass(1000);
    assert_eq!(director.counter("server_gone"), dropped);
    let (code, report) = pktgen.stop();

    assert_eq!(code, Some(0), "{}", brief(&report));
    assert_eq!(report["moves"]["total"], 0, "{}", brief(&report));
    assert_eq!(report["lost"], dropped, "{}", brief(&report));
    let losing = report["losses"]["list"].as_array().unwrap();
    assert_eq!(
        losing.len() as u64,
        flows_of(&report, 3),
        "{}",
        brief(&report)
    );
    for flow in losing {
        assert_eq!(flow["server"], "10.0.0.13", "{flow}");
        assert!(flow["lost"].as_u64() < flow["sent"].as_u64(), "{flow}");
    }
}

#[test]
fn flows_keep_their_servers_when_all_services_go_and_come_back() {
    const NAME: &str = "flows_keep_their_servers_when_all_services_go_and_come_back";
    let Some((lab, configuration)) = lab(NAME, false) else {
        return;
    };
    let director = lab.start_director(&configuration);
    let pktgen = Pktgen::measure(&lab, &director, &["--may-lose", "10.0.0.11-10.0.0.14"]);
    let before = not_forwarded(&director);
    // As `ipvsadm -C` and `ipvsadm -R`.
    director.apply(&Command::Flush);
    wait_for("packets are dropped", || {
        not_forwarded(&director) > before + 200
    });
    for service in services() {
        let options = ServiceOptions::from(SchedulerKind::Wlc);
        director.apply(&Command::AddService(service, options));
        for (number, weight) in [(4, 5), (3, 1), (2, 1), (1, 1)] {
            director.apply(&Command::AddServer(
                service,
                server(number),
                weighing(weight),
            ));
        }
    }
    director.pass(1000);
    let after = not_forwarded(&director);
    director.pass(1000);
    assert_eq!(not_forwarded(&director), after);
    let (code, report) = pktgen.stop();

    assert_eq!(code, Some(0), "{}", brief(&report));
    assert_eq!(report["moves"]["total"], 0, "{}", brief(&report));
    assert_eq!(report["lost"], after - before, "{}", brief(&report));
    assert_eq!(flows_of(&report, 4), 0, "{}", brief(&report));
    assert_eq!(director.counter("connections_opened"), FLOWS);
}

/// Packets that were dropped so far for whatever reason, or were for no service
/// at a VIP.
fn not_forwarded(director: &Director) -> u64 {
    let counters = director.show("counters");
    let rows = counters.as_array().unwrap().iter();
    rows.filter(|row| row["kind"] == "drop" || row["name"] == "local")
        .map(|row| row["count"].as_u64().unwrap())
        .sum()
}

#[test]
fn a_change_that_moves_flows_is_told_from_one_that_may() {
    const NAME: &str = "a_change_that_moves_flows_is_told_from_one_that_may";
    let Some((lab, configuration)) = lab(NAME, true) else {
        return;
    };
    let director = lab.start_director(&configuration);
    director.set("sloppy_tcp 1");
    let pktgen = Pktgen::measure(&lab, &director, &["--may-move", "10.0.0.13"]);
    both(&director, |it| Command::DeleteServer(it, server(2)));
    director.pass(4000);
    let (code, report) = pktgen.stop();
    assert_eq!(code, Some(1), "{}", brief(&report));
    assert_eq!(report["lost"], 0, "{}", brief(&report));
    let moved = flows_of(&report, 2);
    assert_eq!(report["moves"]["total"], moved, "{}", brief(&report));
    assert_eq!(report["moves"]["allowed"], 0, "{}", brief(&report));
    assert_eq!(report["mismatches"], json!({ "flow_moved": moved }));
}
