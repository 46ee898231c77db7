//! Several changes of the services in one published generation.

use pointsman::{
    control::command::Command,
    scheduler::SchedulerKind,
    service::{Protocol, ServiceOptions},
};

use crate::{
    frames::{SYN, VIP, tcp, udp},
    lab::{Lab, server_key, service_key, web, weight},
};

/// Each of the two gets the slot that the other had.
#[test]
fn services_deleted_and_added_again_at_once_are_all_there() {
    let mut lab = Lab::start();
    let dns = service_key(VIP, Protocol::Udp, 53);
    let options = ServiceOptions::from(SchedulerKind::Rr);
    lab.add_udp_service(crate::frames::server(12));
    for order in [[web(), dns], [dns, web()]] {
        lab.command(&Command::Flush);
        for key in order {
            lab.command(&Command::AddService(key, options));
            lab.command(&Command::AddServer(key, server_key(11), weight(1)));
        }
        lab.settle();
        let client_port = 1000;
        let tcp = lab.answers(&tcp(client_port, SYN).frame());
        let udp = lab.answers(&udp(client_port, 53, b"?").frame());
        // Into the tunnel, by port 1.
        assert_eq!((tcp[0].0, udp[0].0), (1, 1), "{order:?}");
        lab.advance(1_000_000);
    }
}

/// The last octet of the real server that a UDP packet of this client's L4
/// port goes to.
fn server_of_udp(lab: &mut Lab, client_port: u16) -> u8 {
    let sent = lab.answers(&udp(client_port, 53, b"?").frame());
    assert_eq!(sent.len(), 1);
    // The outer destination.
    sent[0].1[33]
}

#[test]
fn one_packet_scheduling_goes_by_old_connections_and_makes_no_new_ones() {
    let mut lab = Lab::start();
    let dns = service_key(VIP, Protocol::Udp, 53);
    let whole = ServiceOptions::from(SchedulerKind::Rr);
    let one_packet = ServiceOptions {
        one_packet: true,
        ..whole
    };
    lab.add_udp_service(crate::frames::server(11));
    lab.apply(&Command::AddServer(dns, server_key(12), weight(1)));
    let old = server_of_udp(&mut lab, 1000);
    assert_eq!(lab.state_of(1000), Some("UDP"));

    lab.apply(&Command::EditService(dns, one_packet));
    assert_eq!([(); 3].map(|()| server_of_udp(&mut lab, 1000)), [old; 3]);
    // The cursor of the scheduler stays where it was.
    let other = 11 + 12 - old;
    let picked = [(); 4].map(|()| server_of_udp(&mut lab, 2000));
    assert_eq!(picked, [other, old, other, old]);
    assert_eq!(lab.state_of(2000), None);
    assert_eq!(lab.counter("connections_opened"), 1);

    let status = lab.director.management.services();
    let status = status.iter().find(|service| service.key == dns).unwrap();
    assert_eq!(status.statistics.connections, 5);
    assert_eq!(status.statistics.in_packets, 8);
    let active = |server: &pointsman::control::status::ServerStatus| {
        (server.active_connections, server.inactive_connections)
    };
    let loads: Vec<_> = status.servers.iter().map(active).collect();
    assert!(loads.iter().all(|(active, _)| *active == 0), "{loads:?}");
    assert_eq!(loads.iter().map(|(_, inactive)| inactive).sum::<u32>(), 1);

    lab.apply(&Command::EditService(dns, whole));
    let kept = server_of_udp(&mut lab, 2000);
    assert_eq!([(); 3].map(|()| server_of_udp(&mut lab, 2000)), [kept; 3]);
}

#[test]
fn one_packet_scheduling_is_of_no_effect_on_tcp() {
    let mut lab = Lab::start();
    let options = ServiceOptions {
        one_packet: true,
        ..ServiceOptions::from(SchedulerKind::Rr)
    };
    lab.apply(&Command::EditService(web(), options));
    lab.send(&tcp(1000, SYN).frame());
    assert_eq!(lab.state_of(1000), Some("SYN_RECV"));
}
