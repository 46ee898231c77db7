use super::*;
use crate::{control::status::NextHopStatus, scheduler::SchedulerKind, service::ServerKey};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn service_key(protocol: Protocol, text: &str) -> ServiceKey {
    ServiceKey::Vip {
        protocol,
        address: address(text),
    }
}

fn server(
    rip: &str,
    (weight, upper_threshold, lower_threshold): (u32, u32, u32),
    (active, inactive): (u32, u32),
    [connections, in_packets, out_packets, in_bytes, out_bytes]: [u64; 5],
) -> ServerStatus {
    ServerStatus {
        key: ServerKey {
            address: rip.parse().unwrap(),
        },
        options: ServerOptions {
            weight,
            upper_threshold,
            lower_threshold,
            tunnel: TunnelKind::Ipip,
        },
        active_connections: active,
        inactive_connections: inactive,
        templates: 0,
        overloaded: false,
        next_hop: NextHopStatus::NoRoute,
        path_mtu: 0,
        rates: Rates::default(),
        statistics: Statistics {
            connections,
            in_packets,
            in_bytes,
            out_packets,
            out_bytes,
        },
    }
}

/// The IPv4 services by address of the recorded case `09_formats` that this
/// version can have, in its unsorted order.
fn recorded_services() -> Vec<ServiceStatus> {
    let statistics = |[connections, in_packets, in_bytes]: [u64; 3]| Statistics {
        connections,
        in_packets,
        in_bytes,
        ..Statistics::default()
    };
    vec![
        ServiceStatus {
            key: service_key(Protocol::Udp, "198.51.100.10:53"),
            options: ServiceOptions {
                one_packet: true,
                ..ServiceOptions::from(SchedulerKind::Rr)
            },
            rates: Rates::default(),
            statistics: statistics([3, 3, 180]),
            servers: vec![server("10.0.0.12", (1, 0, 0), (0, 0), [3, 3, 0, 180, 0])],
        },
        ServiceStatus {
            key: service_key(Protocol::Tcp, "198.51.100.10:80"),
            options: ServiceOptions::from(SchedulerKind::Wlc),
            rates: Rates::default(),
            statistics: statistics([6, 13, 2020]),
            servers: vec![
                server("10.0.0.13", (0, 0, 0), (0, 0), [0; 5]),
                server("10.0.0.12", (2, 1000, 800), (2, 1), [3, 7, 0, 1080, 0]),
                server("10.0.0.11", (3, 0, 0), (3, 0), [3, 6, 0, 940, 0]),
            ],
        },
    ]
}

#[test]
fn services_are_listed_as_recorded() {
    assert_eq!(
        services(&recorded_services(), Columns::Ordinary, true, true, false),
        "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  198.51.100.10:80 wlc
  -> 10.0.0.11:80                 Tunnel  3      3          0         
  -> 10.0.0.12:80                 Tunnel  2      2          1         
  -> 10.0.0.13:80                 Tunnel  0      0          0         
UDP  198.51.100.10:53 rr ops
  -> 10.0.0.12:53                 Tunnel  1      0          0         
"
    );
}

#[test]
fn unsorted_list_keeps_the_order() {
    assert_eq!(
        services(&recorded_services(), Columns::Ordinary, false, false, false),
        "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
UDP  198.51.100.10:53 rr ops
  -> 10.0.0.12:53                 Tunnel  1      0          0         
TCP  198.51.100.10:80 wlc
  -> 10.0.0.13:80                 Tunnel  0      0          0         
  -> 10.0.0.12:80                 Tunnel  2      2          1         
  -> 10.0.0.11:80                 Tunnel  3      3          0         
"
    );
}

#[test]
fn statistics_are_listed_as_recorded() {
    assert_eq!(
        services(&recorded_services(), Columns::Statistics, true, true, false),
        "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  198.51.100.10:80                    6       13        0     2020        0
  -> 10.0.0.11:80                        3        6        0      940        0
  -> 10.0.0.12:80                        3        7        0     1080        0
  -> 10.0.0.13:80                        0        0        0        0        0
UDP  198.51.100.10:53                    3        3        0      180        0
  -> 10.0.0.12:53                        3        3        0      180        0
"
    );
}

#[test]
fn large_statistics_are_abbreviated_unless_exact() {
    let mut listed = recorded_services();
    listed.truncate(1);
    listed[0].servers.clear();
    listed[0].statistics.in_bytes = 99_999_999;
    listed[0].statistics.out_bytes = 123_456_789_012;
    let line = |exact| {
        let text = services(&listed, Columns::Statistics, false, true, exact);
        text.lines().last().unwrap().to_owned()
    };
    let head = "UDP  198.51.100.10:53                    3        3        0 99999999";
    assert_eq!(line(false), format!("{head}  123456M"));
    assert_eq!(line(true), format!("{head} 123456789012"));
}

#[test]
fn thresholds_are_listed_as_recorded() {
    assert_eq!(
        services(&recorded_services(), Columns::Thresholds, true, true, false),
        "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn 
  -> RemoteAddress:Port
TCP  198.51.100.10:80 wlc
  -> 10.0.0.11:80                 0          0          3          0         
  -> 10.0.0.12:80                 1000       800        2          1         
  -> 10.0.0.13:80                 0          0          0          0         
UDP  198.51.100.10:53 rr ops
  -> 10.0.0.12:53                 0          0          0          0         
"
    );
}

#[test]
fn persistent_connections_and_tunnels_are_listed_as_recorded() {
    let mut listed = recorded_services();
    listed.remove(0);
    assert_eq!(
        services(&listed, Columns::PersistentConnections, false, true, false),
        "\
Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn 
  -> RemoteAddress:Port
TCP  198.51.100.10:80 wlc
  -> 10.0.0.11:80                 3         0           3          0         
  -> 10.0.0.12:80                 2         0           2          1         
  -> 10.0.0.13:80                 0         0           0          0         
"
    );
    assert_eq!(
        services(&listed, Columns::TunnelInfo, false, true, false),
        "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn
TCP  198.51.100.10:80 wlc
  -> 10.0.0.11:80                 Tunnel  ipip          3      3          0         
  -> 10.0.0.12:80                 Tunnel  ipip          2      2          1         
  -> 10.0.0.13:80                 Tunnel  ipip          0      0          0         
"
    );
}

#[test]
fn save_prints_command_lines_as_recorded() {
    assert_eq!(
        save(&recorded_services()),
        "\
-A -t 198.51.100.10:80 -s wlc
-a -t 198.51.100.10:80 -r 10.0.0.11:80 -i -w 3 --tun-type ipip
-a -t 198.51.100.10:80 -r 10.0.0.12:80 -i -w 2 --tun-type ipip
-a -t 198.51.100.10:80 -r 10.0.0.13:80 -i -w 0 --tun-type ipip
-A -u 198.51.100.10:53 -s rr -o
-a -u 198.51.100.10:53 -r 10.0.0.12:53 -i -w 1 --tun-type ipip
"
    );
}

/// Lines about 198.51.100.10:443 of the recorded case `09_formats`, under the
/// scheduler rr.
#[test]
fn tunnels_are_listed_and_saved_as_recorded() {
    let with = |rip, tunnel| {
        let mut listed = server(rip, (1, 0, 0), (0, 0), [0; 5]);
        listed.options.tunnel = tunnel;
        listed
    };
    let gue = |checksum| TunnelKind::Gue {
        l4_port: 6080,
        checksum,
    };
    let listed = ServiceStatus {
        key: service_key(Protocol::Tcp, "198.51.100.10:443"),
        options: ServiceOptions::from(SchedulerKind::Rr),
        rates: Rates::default(),
        statistics: Statistics::default(),
        servers: vec![
            with("10.0.0.13", gue(GueChecksum::Remote)),
            with("10.0.0.14", TunnelKind::Gre { checksum: true }),
            with("10.0.0.12", gue(GueChecksum::Outer)),
            with("10.0.0.11", gue(GueChecksum::None)),
        ],
    };
    let listed = [listed];
    assert_eq!(
        services(&listed, Columns::TunnelInfo, false, true, false),
        "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn
TCP  198.51.100.10:443 rr
  -> 10.0.0.11:443                Tunnel  gue:6080:-c   1      0          0         
  -> 10.0.0.12:443                Tunnel  gue:6080:+c   1      0          0         
  -> 10.0.0.13:443                Tunnel  gue:6080:r+c  1      0          0         
  -> 10.0.0.14:443                Tunnel  gre:+c        1      0          0         
"
    );
    assert_eq!(
        save(&listed),
        "\
-A -t 198.51.100.10:443 -s rr
-a -t 198.51.100.10:443 -r 10.0.0.11:443 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum
-a -t 198.51.100.10:443 -r 10.0.0.12:443 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum
-a -t 198.51.100.10:443 -r 10.0.0.13:443 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum
-a -t 198.51.100.10:443 -r 10.0.0.14:443 -i -w 1 --tun-type gre --tun-csum
"
    );
}

#[test]
fn timeouts_are_printed_as_recorded() {
    assert_eq!(
        timeouts(Timeouts::default()),
        "Timeout (tcp tcpfin udp): 900 120 300\n"
    );
}

fn recorded_connections() -> [ConnectionStatus; 2] {
    let connection =
        |protocol, client, service, server, state: &str, remaining_s: u64| ConnectionStatus {
            is_template: false,
            protocol,
            client: address(client),
            service: address(service),
            server: address(server).ip(),
            state: state.to_owned(),
            expires_ms: remaining_s * 1000,
            worker: 0,
            packets: 1,
        };
    [
        connection(
            Some(Protocol::Tcp),
            "203.0.113.7:48001",
            "198.51.100.10:80",
            "10.0.0.11:80",
            "ESTABLISHED",
            893,
        ),
        connection(
            Some(Protocol::Udp),
            "203.0.113.203:5378",
            "198.51.100.10:53",
            "10.0.0.12:53",
            "UDP",
            298,
        ),
    ]
}

#[test]
fn connections_are_listed_as_recorded() {
    assert_eq!(
        connections(&recorded_connections()),
        "\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 14:53  ESTABLISHED 203.0.113.7:48001  198.51.100.10:80   10.0.0.11:80
UDP 04:58  UDP         203.0.113.203:5378 198.51.100.10:53   10.0.0.12:53
"
    );
}

#[test]
fn proc_file_shows_connections_as_recorded() {
    assert_eq!(
        proc_connections(&recorded_connections()[..1]),
        "\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP CB007107 BB81 C633640A 0050 0A00000B 0050 ESTABLISHED     893
"
    );
}

/// Recorded in `09_formats`: services by mark stand last, in order of their
/// numbers.
#[test]
fn services_by_mark_are_named_as_recorded() {
    let mark = |fwmark, ipv6, scheduler, rip, weight| ServiceStatus {
        key: ServiceKey::Mark { fwmark, ipv6 },
        options: ServiceOptions::from(scheduler),
        servers: vec![server(rip, (weight, 0, 0), (0, 0), [0; 5])],
        rates: Rates::default(),
        statistics: Statistics::default(),
    };
    let network = ServiceStatus {
        key: ServiceKey::Network {
            protocol: Protocol::Udp,
            network: "192.0.2.0/24".parse().unwrap(),
            l4_port: 53,
        },
        ..mark(1, false, SchedulerKind::Rr, "10.0.0.11", 1)
    };
    let listed = [
        mark(6, true, SchedulerKind::Rr, "2001:db8:2::11", 1),
        mark(5, false, SchedulerKind::Wrr, "10.0.0.12", 7),
        network,
    ];
    assert_eq!(
        services(&listed, Columns::Ordinary, false, true, false),
        "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
UDP  192.0.2.0/24:53 rr
  -> 10.0.0.11:53                 Tunnel  1      0          0         
FWM  5 wrr
  -> 10.0.0.12:0                  Tunnel  7      0          0         
FWM  6 IPv6 rr
  -> [2001:db8:2::11]:0           Tunnel  1      0          0         
"
    );
    let statistics = services(&listed, Columns::Statistics, false, true, true);
    assert!(statistics.contains(
        "
FWM  6 IPv6                              0        0        0        0        0
  -> [2001:db8:2::11]:0                  0        0        0        0        0
"
    ));
    assert_eq!(
        save(&listed),
        "\
# UDP 192.0.2.0/24:53 cannot be written in this language
-A -f 5 -s wrr
-a -f 5 -r 10.0.0.12:0 -i -w 7 --tun-type ipip
-A -f 6 -6 -s rr
-a -f 6 -6 -r [2001:db8:2::11]:0 -i -w 1 --tun-type ipip
"
    );
}

#[test]
fn saved_services_say_that_their_outer_sources_are_left_out() {
    let service = ServiceStatus {
        key: service_key(Protocol::Tcp, "198.51.100.10:80"),
        options: ServiceOptions {
            outer_source: Some("10.9.0.0/26".parse().unwrap()),
            ..ServiceOptions::from(SchedulerKind::Rr)
        },
        rates: Rates::default(),
        statistics: Statistics::default(),
        servers: Vec::new(),
    };
    assert_eq!(
        save(&[service]),
        "# outer_source 10.9.0.0/26 of TCP 198.51.100.10:80 is left out
-A -t 198.51.100.10:80 -s rr
"
    );
}
