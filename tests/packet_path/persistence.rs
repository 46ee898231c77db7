//! Persistent services: one client has one real server, whichever worker,
//! service port or protocol its packets come by.

use std::sync::Barrier;

use pointsman::{
    config::ServiceConfig,
    control::command::Command,
    scheduler::SchedulerKind,
    service::{
        ClientMask, Persistence, Protocol, ServerOptions, ServiceKey, ServiceOptions, Tunables,
    },
};

use crate::{
    frames::{ACK, Ip, SYN, VIP, tcp, udp},
    lab::{Checked, Lab, Setup, server_key, service_key, web, web_service, weight},
};

const SERVERS: [(u8, u32); 3] = [(11, 1), (12, 1), (13, 1)];

fn persistent(timeout_s: u32) -> ServiceOptions {
    ServiceOptions {
        persistence: Some(Persistence {
            timeout_s,
            mask: ClientMask::host(false),
        }),
        ..ServiceOptions::from(SchedulerKind::Rr)
    }
}

fn service(key: ServiceKey, options: ServiceOptions) -> ServiceConfig {
    ServiceConfig {
        key,
        options,
        ..web_service(SchedulerKind::Rr, &SERVERS)
    }
}

fn lab_with(workers: usize, services: Vec<ServiceConfig>) -> Lab {
    Lab::with(&Setup {
        workers,
        services,
        ..Setup::default()
    })
}

/// A SYN to a service port of the VIP.
fn syn(client: [u8; 4], client_port: u16, service_port: u16) -> Vec<u8> {
    let mut packet = Ip {
        source: client.into(),
        ..tcp(client_port, SYN)
    };
    packet.payload[2..4].copy_from_slice(&service_port.to_be_bytes());
    packet.frame()
}

/// The last byte of the real server that a frame for a worker goes to.
fn server_of(lab: &mut Lab, worker: usize, frame: &[u8]) -> u8 {
    lab.take_sent();
    lab.receive_at(0, worker, frame);
    lab.settle();
    let sent = lab.take_sent();
    assert_eq!(sent.len(), 1, "{sent:02x?}");
    assert_eq!((sent[0].0, sent[0].1[23]), (1, 4), "not into a tunnel");
    sent[0].1[33]
}

fn templates_of(lab: &Lab, key: ServiceKey) -> Vec<(u8, u32)> {
    let services = lab.director.management.services();
    let service = services.iter().find(|service| service.key == key).unwrap();
    let count = |server: &pointsman::control::status::ServerStatus| {
        let std::net::IpAddr::V4(rip) = server.key.address else {
            panic!("IPv4")
        };
        (rip.octets()[3], server.templates)
    };
    service.servers.iter().map(count).collect()
}

#[test]
fn all_connections_of_a_client_go_to_one_server_by_all_workers() {
    for workers in [2, 4] {
        let mut lab = lab_with(workers, vec![service(web(), persistent(360))]);
        let mut servers = Vec::new();
        for client in 0..20 {
            let picked: Vec<u8> = (0..3 * workers)
                .map(|number| {
                    let client_port = 1000 + u16::try_from(number).unwrap();
                    let frame = syn([203, 0, 113, client], client_port, 80);
                    server_of(&mut lab, number % workers, &frame)
                })
                .collect();
            assert!(
                picked.iter().all(|server| *server == picked[0]),
                "{picked:?}"
            );
            servers.push(picked[0]);
        }
        servers.sort_unstable();
        servers.dedup();
        assert_eq!(servers, [11, 12, 13]);
        assert_eq!(lab.counter("templates"), 20);
    }
}

/// The first packets of a client on several workers at the same time.
#[test]
fn workers_that_meet_a_client_at_once_agree_on_its_server() {
    const CLIENTS: u8 = 200;
    let mut lab = Lab::with(&Setup {
        workers: 4,
        packets: 8_000,
        services: vec![service(web(), persistent(360))],
        ..Setup::default()
    });
    let now = lab.now;
    for client in 0..CLIENTS {
        for worker in 0..4_u16 {
            let frame = syn([203, 0, 113, client], 1000 + worker, 80);
            lab.receive_at(0, worker.into(), &frame);
        }
    }
    let start = &Barrier::new(4);
    std::thread::scope(|scope| {
        for worker in &mut lab.director.workers {
            scope.spawn(move || {
                start.wait();
                while worker.turn(now) {}
            });
        }
    });
    lab.settle();
    let sent = lab.take_sent();
    assert_eq!(sent.len(), 4 * usize::from(CLIENTS));
    let mut server_of = [0; CLIENTS as usize];
    for (_, frame) in &sent {
        let (server, client) = (frame[33], usize::from(frame[49]));
        assert!(
            server_of[client] == 0 || server_of[client] == server,
            "{client}"
        );
        server_of[client] = server;
    }
    assert_eq!(lab.counter("templates"), u64::from(CLIENTS));
    let counted: u32 = templates_of(&lab, web())
        .iter()
        .map(|(_, count)| count)
        .sum();
    assert_eq!(counted, u32::from(CLIENTS));
}

#[test]
fn a_service_on_all_ports_keeps_the_port_and_gives_way_to_one_on_the_port() {
    let all = service_key(VIP, Protocol::Tcp, 0);
    let services = vec![
        service(all, persistent(360)),
        service(web(), persistent(360)),
    ];
    let mut lab = lab_with(1, services);
    let client = [203, 0, 113, 7];
    for (client_port, service_port) in [(1, 81), (2, 443), (3, 65_535), (4, 1)] {
        let frame = syn(client, client_port, service_port);
        assert_eq!(server_of(&mut lab, 0, &frame), 13, "{service_port}");
    }
    // The other service: its own turn, then this service's next client.
    assert_eq!(server_of(&mut lab, 0, &syn(client, 5, 80)), 13);
    assert_eq!(server_of(&mut lab, 0, &syn([203, 0, 113, 8], 6, 80)), 12);
    let total = |key| -> u32 { templates_of(&lab, key).iter().map(|(_, count)| count).sum() };
    assert_eq!((total(all), total(web())), (1, 2));
    // No other protocol.
    let answers = lab.answers(&udp(1, 80, b"").frame());
    assert_eq!((answers.len(), answers[0].0), (1, 0));
}

#[test]
fn clients_of_one_network_share_a_server_under_a_mask() {
    let options = ServiceOptions {
        persistence: Some(Persistence {
            timeout_s: 360,
            mask: ClientMask::Netmask([255, 255, 255, 0].into()),
        }),
        ..persistent(360)
    };
    let mut lab = lab_with(2, vec![service(web(), options)]);
    for host in 1..20 {
        let frame = syn([203, 0, 113, host], 1000, 80);
        assert_eq!(server_of(&mut lab, usize::from(host % 2), &frame), 13);
    }
    // Worker 0 has picked for nobody yet, worker 1 once.
    assert_eq!(server_of(&mut lab, 1, &syn([203, 0, 114, 1], 1000, 80)), 12);
    assert_eq!(lab.counter("templates"), 2);
}

#[test]
fn a_client_comes_back_to_its_server_until_its_time_is_over() {
    let mut lab = lab_with(1, vec![service(web(), persistent(100))]);
    let client = [203, 0, 113, 7];
    assert_eq!(server_of(&mut lab, 0, &syn(client, 1, 80)), 13);
    lab.advance(61_000);
    assert_eq!(lab.counter("connections"), 0);
    assert_eq!(server_of(&mut lab, 0, &syn(client, 2, 80)), 13);
    lab.advance(99_000);
    assert_eq!(server_of(&mut lab, 0, &syn(client, 3, 80)), 13);
    lab.advance(101_000);
    assert_eq!(lab.counter("templates"), 0);
    assert_eq!(templates_of(&lab, web()), [(13, 0), (12, 0), (11, 0)]);
    assert_eq!(server_of(&mut lab, 0, &syn(client, 4, 80)), 12);
}

#[test]
fn weight_0_keeps_clients_unless_their_templates_shall_expire() {
    let mut lab = lab_with(1, vec![service(web(), persistent(360))]);
    let client = [203, 0, 113, 7];
    assert_eq!(server_of(&mut lab, 0, &syn(client, 1, 80)), 13);
    lab.apply(&Command::EditServer(web(), server_key(13), weight(0)));
    assert_eq!(server_of(&mut lab, 0, &syn(client, 2, 80)), 13);
    lab.apply(&Command::SetTunables(Tunables {
        expire_quiescent_template: true,
        ..Tunables::default()
    }));
    assert_eq!(server_of(&mut lab, 0, &syn(client, 3, 80)), 12);
    lab.apply(&Command::EditServer(web(), server_key(13), weight(1)));
    assert_eq!(server_of(&mut lab, 0, &syn(client, 4, 80)), 12);
    assert_eq!(templates_of(&lab, web()), [(13, 1), (12, 1), (11, 0)]);
}

#[test]
fn an_overloaded_server_keeps_its_clients() {
    let mut lab = lab_with(1, vec![service(web(), persistent(360))]);
    let options = ServerOptions {
        upper_threshold: 1,
        ..weight(1)
    };
    lab.apply(&Command::EditServer(web(), server_key(13), options));
    let client = [203, 0, 113, 7];
    for client_port in 1..=3 {
        assert_eq!(server_of(&mut lab, 0, &syn(client, client_port, 80)), 13);
    }
    for host in 8..12 {
        let frame = syn([203, 0, 113, host], 1, 80);
        assert_ne!(server_of(&mut lab, 0, &frame), 13);
    }
}

#[test]
fn a_deleted_servers_clients_go_elsewhere_and_its_slot_waits_for_their_templates() {
    let mut lab = lab_with(1, vec![service(web(), persistent(360))]);
    let client = [203, 0, 113, 7];
    assert_eq!(server_of(&mut lab, 0, &syn(client, 1, 80)), 13);
    lab.delete_server(13);
    assert_eq!(server_of(&mut lab, 0, &syn(client, 2, 80)), 12);
    assert_eq!(lab.counter("templates"), 2);
    // The connection is over, its template is not: the server comes back with
    // it, and the new template stays the client's.
    lab.advance(70_000);
    lab.add_server(13, 1);
    assert_eq!(templates_of(&lab, web()), [(13, 1), (12, 1), (11, 0)]);
    assert_eq!(server_of(&mut lab, 0, &syn(client, 3, 80)), 12);
}

#[test]
fn templates_of_a_deleted_server_end_with_its_connections_under_expire_nodest_conn() {
    let mut lab = Lab::with(&Setup {
        workers: 2,
        tunables: Tunables {
            expire_nodest_conn: true,
            ..Tunables::default()
        },
        services: vec![service(web(), persistent(360))],
        ..Setup::default()
    });
    for client in 0..30 {
        for worker in 0..2 {
            server_of(&mut lab, worker, &syn([203, 0, 113, client], 1, 80));
            lab.advance(100);
        }
    }
    assert_eq!(lab.counter("templates"), 30);
    let before: u32 = templates_of(&lab, web())[0].1;
    lab.delete_server(13);
    assert_eq!(lab.counter("templates"), 30 - u64::from(before));
    assert!(before > 0);
}

#[test]
fn one_packet_scheduling_goes_by_the_template() {
    let key = service_key(VIP, Protocol::Udp, 53);
    let options = ServiceOptions {
        one_packet: true,
        ..persistent(10)
    };
    let mut lab = lab_with(1, vec![service(key, options)]);
    let frame = udp(1000, 53, b"?").frame();
    for _ in 0..4 {
        assert_eq!(server_of(&mut lab, 0, &frame), 13);
    }
    assert_eq!(
        (lab.counter("connections"), lab.counter("templates")),
        (0, 1)
    );
    lab.advance(11_000);
    assert_eq!(lab.counter("templates"), 0, "no connection keeps it");
}

/// Passive FTP: the client opens the data connection to a port that the server
/// chose, which must be that of its control connection.
#[test]
fn ftp_data_goes_to_the_server_of_the_control_connection() {
    let ftp = service_key(VIP, Protocol::Tcp, 21);
    let mut lab = lab_with(1, vec![service(ftp, persistent(360))]);
    for (client, expected) in [(7, 13), (8, 12)] {
        let client = [203, 0, 113, client];
        for (client_port, service_port) in [(1, 21), (2, 40_000), (3, 1024), (4, 20)] {
            let frame = syn(client, client_port, service_port);
            assert_eq!(server_of(&mut lab, 0, &frame), expected, "{service_port}");
        }
    }
    assert_eq!(lab.counter("templates"), 2);
    // Ports below 1024 are no data ports.
    let answer = lab.answers(&syn([203, 0, 113, 7], 5, 1023));
    assert_eq!((answer.len(), answer[0].0), (1, 0));
}

#[test]
fn ftp_without_persistence_leaves_data_ports_to_the_host() {
    let ftp = service_key(VIP, Protocol::Tcp, 21);
    let options = ServiceOptions::from(SchedulerKind::Rr);
    let mut lab = lab_with(1, vec![service(ftp, options)]);
    assert_eq!(server_of(&mut lab, 0, &syn([203, 0, 113, 7], 1, 21)), 13);
    let answer = lab.answers(&syn([203, 0, 113, 7], 2, 40_000));
    // A reset.
    assert_eq!(
        (answer[0].0, answer[0].1[23], answer[0].1[47] & 4),
        (0, 6, 4)
    );
}

#[test]
fn a_client_port_of_ftp_data_opens_nothing() {
    let mut lab = Lab::start();
    let answer = lab.answers(&tcp(20, SYN).frame());
    assert_eq!((answer[0].0, answer[0].1[47] & 4), (0, 4));
    assert_eq!(lab.counter("connections_opened"), 0);
}

pub(crate) fn a_first_connection_makes_a_template(counter: &str) -> Checked {
    let mut lab = lab_with(1, vec![service(web(), persistent(360))]);
    let checked = lab.counts_one(counter, |lab| lab.send(&tcp(1, SYN).frame()));
    lab.send(&tcp(2, SYN).frame());
    assert_eq!(lab.counter(counter), 1);
    checked
}

/// A director for one template.
fn narrow() -> Lab {
    Lab::with(&Setup {
        templates_max: 1,
        services: vec![service(web(), persistent(360))],
        ..Setup::default()
    })
}

pub(crate) fn a_template_without_connections_gives_way_in_a_full_table(counter: &str) -> Checked {
    let mut lab = narrow();
    server_of(&mut lab, 0, &syn([203, 0, 113, 1], 1, 80));
    lab.advance(61_000);
    let frame = syn([203, 0, 113, 2], 1, 80);
    let checked = lab.counts_one(counter, |lab| lab.send(&frame));
    assert_eq!(lab.counter("templates"), 1);
    assert_eq!(templates_of(&lab, web()), [(13, 0), (12, 1), (11, 0)]);
    checked
}

pub(crate) fn without_room_for_a_template_the_connection_is_served_all_the_same(
    counter: &str,
) -> Checked {
    let mut lab = narrow();
    server_of(&mut lab, 0, &syn([203, 0, 113, 1], 1, 80));
    lab.send(&tcp(1, ACK).frame());
    let frame = syn([203, 0, 113, 2], 1, 80);
    let checked = lab.counts_one(counter, |lab| {
        assert_eq!(server_of(lab, 0, &frame), 12);
    });
    // Without a template the next one goes where the scheduler says.
    assert_eq!(server_of(&mut lab, 0, &syn([203, 0, 113, 2], 2, 80)), 11);
    checked
}

#[test]
fn a_flood_of_syns_does_not_take_templates_from_clients_in_use() {
    let mut lab = Lab::with(&Setup {
        connections_max: 64,
        templates_max: 32,
        services: vec![service(web(), persistent(360))],
        ..Setup::default()
    });
    let client = [203, 0, 113, 7];
    let server = server_of(&mut lab, 0, &syn(client, 1, 80));
    let ack = Ip {
        source: client.into(),
        ..tcp(1, ACK)
    };
    lab.send(&ack.frame());
    for number in 0..2_000_u16 {
        let [high, low] = number.to_be_bytes();
        lab.send(&syn([100, 64, high, low], 9, 80));
        lab.take_sent();
    }
    assert!(lab.counter("templates") <= 32);
    assert_eq!(server_of(&mut lab, 0, &syn(client, 2, 80)), server);
}
