//! Real servers that die, come back and change their MAC address.

use std::{io::ErrorKind, net::Ipv4Addr, thread, time::Duration};

use serde_json::Value;

use crate::support::{Connection, Director, IcmpSocket, Lab, Shape, wait_for, wait_long_for};

const RIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);
const SECOND_MAC: &str = "02:00:00:00:0b:02";
const THIRD_MAC: &str = "02:00:00:00:0b:03";

/// Gives server 1 another MAC address, which it tells everybody.
fn change_mac(lab: &Lab, director: &Director) {
    lab.server(1).set("ipv4/conf/all/arp_notify", "1");
    lab.server(1)
        .ip(&format!("link set eth0 address {SECOND_MAC}"));
    wait_for("the director has the new MAC address", || {
        director.neighbor(RIP).1 == SECOND_MAC
    });
    lab.server(1).set("ipv4/conf/all/arp_notify", "0");
}

/// An open connection to each of two servers, in order.
fn connect_to_both(lab: &Lab) -> [Connection; 2] {
    let mut connections = [(); 2].map(|()| {
        let mut connection = lab.connect().unwrap();
        let server = connection.get().unwrap().server;
        (server, connection)
    });
    connections.sort_by_key(|(server, _)| *server);
    assert_eq!((connections[0].0, connections[1].0), (1, 2));
    connections.map(|(_, connection)| connection)
}

fn next_hop_of_first_server(director: &Director) -> Value {
    let services = director.show("services");
    let servers = services[0]["servers"].as_array().unwrap();
    let is_first = |server: &&Value| server.to_string().contains("\"10.0.0.11\"");
    servers.iter().find(is_first).unwrap()["next_hop"].clone()
}

#[test]
fn a_changed_mac_address_reaches_the_workers_as_a_new_generation() {
    const NAME: &str = "a_changed_mac_address_reaches_the_workers_as_a_new_generation";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    let mut connection = lab.connect().unwrap();
    connection.get().unwrap();
    let before = director.generation();
    change_mac(&lab, &director);
    assert!(director.generation() > before);
    assert_eq!(next_hop_of_first_server(&director)["mac"], SECOND_MAC);
    connection.get().unwrap();
    assert_eq!(lab.ask(3), [1, 1, 1]);
}

#[test]
fn a_dead_server_is_unreachable_for_its_clients_alone_until_it_is_back() {
    const NAME: &str = "a_dead_server_is_unreachable_for_its_clients_alone_until_it_is_back";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    let [mut first, mut second] = connect_to_both(&lab);
    // An address that was announced is probed after 5 seconds; one that was
    // answered with, after 35.
    change_mac(&lab, &director);
    lab.kill_server(1);
    wait_long_for(
        Duration::from_secs(20),
        "the dead server is noticed",
        || director.neighbor(RIP).0 == "FAILED",
    );
    assert_eq!(next_hop_of_first_server(&director)["state"], "unresolved");
    let dead = director.generation();

    let icmp = IcmpSocket::open(&lab.client);
    let port = first.source_port().to_be_bytes();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| first.get());
        icmp.expect("host unreachable about the open connection", |_, icmp| {
            icmp[..2] == [3, 1] && icmp[28..30] == port
        });
        assert_eq!(second.get().unwrap().server, 2);
        // One goes to each server.
        let mut new = [(); 2].map(|()| match lab.connect() {
            Ok(mut connection) => connection.get().unwrap().server,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
                0
            }
        });
        new.sort_unstable();
        assert_eq!(new, [0, 2]);
        lab.revive_server(1, THIRD_MAC);
        let answer = waiting.join().unwrap().unwrap();
        assert_eq!(answer.server, 1, "the open connection goes on");
    });
    assert_eq!(director.neighbor(RIP).1, THIRD_MAC);
    assert!(director.generation() > dead);
    assert_eq!(second.get().unwrap().server, 2);
    let mut answers = lab.ask(4);
    answers.sort_unstable();
    assert_eq!(answers, [1, 1, 2, 2]);
    let log = director.log();
    for line in [
        // Of the TCP and of the UDP service.
        "WARN  pointsman::control::neighbors] neighbor 10.0.0.11 does not answer ARP; real \
         servers that cannot be reached without it: 2\n",
        &format!(
            "INFO  pointsman::control::neighbors] neighbor 10.0.0.11 answers again, from {THIRD_MAC}\n"
        ),
    ] {
        assert_eq!(log.matches(line).count(), 1, "{line}{log}");
    }
}
