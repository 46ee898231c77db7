use proptest::{collection::btree_map, prelude::*};

use super::*;
use crate::{
    control::status::{NextHopStatus, Rates, ServerStatus, ServiceStatus, Statistics},
    ipvsadm::listing::save,
    scheduler::{SchedulerFlags, SchedulerKind},
    service::{ClientMask, GueChecksum, PERSISTENCE_S_MAX, Persistence, Protocol, TunnelKind},
};

/// Recorded in `09_formats`.
const RECORDED: &str = "\
-A -t 198.51.100.10:0 -s rr -p 360
-a -t 198.51.100.10:0 -r 10.0.0.11:0 -i -w 1 --tun-type ipip
-A -t 198.51.100.10:80 -s wlc
-a -t 198.51.100.10:80 -r 10.0.0.11:80 -i -w 3 --tun-type ipip
-a -t 198.51.100.10:80 -r 10.0.0.12:80 -i -w 2 --tun-type ipip
-a -t 198.51.100.10:80 -r 10.0.0.13:80 -i -w 0 --tun-type ipip
-A -t 198.51.100.10:443 -s sh -b sh-fallback,sh-port
-a -t 198.51.100.10:443 -r 10.0.0.11:443 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum
-a -t 198.51.100.10:443 -r 10.0.0.12:443 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum
-a -t 198.51.100.10:443 -r 10.0.0.13:443 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum
-a -t 198.51.100.10:443 -r 10.0.0.14:443 -i -w 1 --tun-type gre --tun-csum
-A -t 198.51.100.10:8080 -s mh -p 300 -M 255.255.255.0 -b mh-fallback,mh-port
-a -t 198.51.100.10:8080 -r 10.0.0.11:8080 -i -w 1 --tun-type gre --tun-nocsum
-A -u 198.51.100.10:53 -s rr -o
-a -u 198.51.100.10:53 -r 10.0.0.12:53 -i -w 1 --tun-type ipip
-A --sctp-service 198.51.100.10:132 -s lc
-A -t [2001:db8:ff::10]:80 -s rr -p 100 -M 64
-a -t [2001:db8:ff::10]:80 -r [2001:db8:2::11]:80 -i -w 1 --tun-type ipip
-A -f 5 -s wrr
-a -f 5 -r 10.0.0.12:0 -i -w 7 --tun-type ipip
-A -f 6 -6 -s rr
-a -f 6 -6 -r [2001:db8:2::11]:0 -i -w 1 --tun-type ipip
";

/// The services as a director that was given them would tell: its lists have
/// the newest server first.
fn statuses(rules: &Rules) -> Vec<ServiceStatus> {
    assert_eq!(rules.problems, []);
    let server = |rule: &ServerRule| ServerStatus {
        key: rule.key,
        options: rule.options,
        active_connections: 0,
        inactive_connections: 0,
        templates: 0,
        overloaded: false,
        next_hop: NextHopStatus::NoRoute,
        path_mtu: 0,
        rates: Rates::default(),
        statistics: Statistics::default(),
    };
    let service = |rule: &ServiceRule| ServiceStatus {
        key: rule.key,
        options: rule.options,
        servers: rule.servers.iter().rev().map(server).collect(),
        rates: Rates::default(),
        statistics: Statistics::default(),
    };
    rules.services.iter().map(service).collect()
}

/// What is wrong with a text: the lines, the bytes that are meant, and why.
fn problems(text: &str) -> Vec<(usize, &str, String)> {
    parse(text)
        .problems
        .into_iter()
        .map(|(span, problem)| {
            let line = text[..span.start].matches('\n').count() + 1;
            (line, &text[span], problem.to_string())
        })
        .collect()
}

#[test]
fn a_saved_file_comes_back_as_it_was() {
    assert_eq!(save(&statuses(&parse(RECORDED))), RECORDED);
}

#[test]
fn real_servers_keep_the_order_of_their_lines() {
    let rules = parse(
        "-A -t 198.51.100.10:80 -s rr\n\
         -a -t 198.51.100.10:80 -r 10.0.0.13 -i\n\
         -A -u 198.51.100.10:80 -s rr\n\
         -a -t 198.51.100.10:80 -r 10.0.0.11 -i -x 20 -y 10\n",
    );
    assert_eq!(rules.problems, []);
    let servers: Vec<_> = rules.services[0]
        .servers
        .iter()
        .map(|server| (server.key.to_string(), server.options.upper_threshold))
        .collect();
    assert_eq!(
        servers,
        [("10.0.0.13".to_owned(), 0), ("10.0.0.11".to_owned(), 20)]
    );
    assert_eq!(rules.services[1].key.protocol(), Some(Protocol::Udp));
    assert_eq!(rules.services[1].servers, []);
}

#[test]
fn long_options_comments_and_odd_spaces_are_understood() {
    let rules = parse(
        "# www\n\n  --add-service\t--tcp-service=198.51.100.10:80  # the site\r\n\
         --add-server --tcp-service 198.51.100.10:80 --real-server=10.0.0.11 --ipip --weight=7",
    );
    assert_eq!(rules.problems, []);
    assert_eq!(rules.services[0].options.scheduler, SchedulerKind::Wlc);
    assert_eq!(rules.services[0].servers[0].options.weight, 7);
}

#[test]
fn addresses_know_their_place() {
    for text in [
        "-A -t 198.51.100.10:80 -s rr\n-a -t 198.51.100.10:80 -r 10.0.0.11:80 -i",
        "-At 198.51.100.10:80\n--add-server --tcp-service=198.51.100.10:80 -i --real-server=10.0.0.11:80",
    ] {
        let rules = parse(text);
        let service = &rules.services[0];
        assert_eq!(&text[service.span.clone()], "198.51.100.10:80");
        assert_eq!(&text[service.servers[0].span.clone()], "10.0.0.11:80");
    }
}

#[test]
fn every_mistake_is_reported_with_its_bytes() {
    let text = "\
-A -t 198.51.100.10:80 -s rr
-A -t 198.51.100.10:80 -s wlc
-a -t 198.51.100.10:81 -r 10.0.0.11 -i
-a -t 198.51.100.10:81 -r 10.0.0.12 -i
-a -t 198.51.100.10:80 -r 10.0.0.11:80 -i
-a -t 198.51.100.10:80 -r 10.0.0.11 -i -w 2
-a -t 198.51.100.10:80 -r 10.0.0.12 -m
-a -t 198.51.100.10:80 -r 10.0.0.13 -i -w 2147483648
-a -t 198.51.100.10:80 -r 10.0.0.14 -i -x 5 -y 6
-D -t 198.51.100.10:80
ipvsadm -A -t 198.51.100.11:80
-a -t 198.51.100.10:80 -r web3:http -i
-a -t 198.51.100.10:80 -r 10.0.0.15 -i --mark 3
";
    let wrong = |line, bytes, why: &str| (line, bytes, why.to_owned());
    assert_eq!(
        problems(text),
        [
            wrong(
                2,
                "198.51.100.10:80",
                "service TCP 198.51.100.10:80 stands already in line 1; remove one of them"
            ),
            wrong(
                3,
                "-a -t 198.51.100.10:81 -r 10.0.0.11 -i",
                "no line above adds the service TCP 198.51.100.10:81; write its -A line first"
            ),
            wrong(
                6,
                "10.0.0.11",
                "TCP 198.51.100.10:80 has the real server 10.0.0.11 already from line 5; remove \
                 one of them, or give that one a higher weight"
            ),
            wrong(
                7,
                "-a -t 198.51.100.10:80 -r 10.0.0.12 -m",
                "this director only tunnels, and masquerading (-m) is something else; write -i, \
                 and have the real server take packets out of the tunnel"
            ),
            wrong(
                8,
                "-a -t 198.51.100.10:80 -r 10.0.0.13 -i -w 2147483648",
                "illegal weight specified; correct it, `ipvsadm -h` lists what can be written"
            ),
            wrong(
                9,
                "-a -t 198.51.100.10:80 -r 10.0.0.14 -i -x 5 -y 6",
                "the lower threshold 6 is above the upper one, 5; write -y below -x"
            ),
            wrong(
                10,
                "-D -t 198.51.100.10:80",
                "this file says what there shall be, and -D does not; write lines with -A and -a \
                 only, as `ipvsadm -Sn` does"
            ),
            wrong(
                11,
                "ipvsadm",
                "a line begins with its command; leave out the word \"ipvsadm\""
            ),
            wrong(
                12,
                "web3:http",
                "\"web3:http\" is not a numeric address and port; write numbers, as `ipvsadm -Sn` \
                 with its -n does"
            ),
            wrong(
                13,
                "--mark",
                "ipvsadm has no option \"--mark\"; correct it, `ipvsadm -h` lists what can be \
                 written"
            ),
        ]
    );
}

#[test]
fn real_servers_of_a_refused_service_are_not_complained_about() {
    let text = "-A -t 198.51.100.10:80 -s rrr\n-a -t 198.51.100.10:80 -r 10.0.0.11 -i\n";
    let why = "Scheduler or persistence engine not found; correct it, `ipvsadm -h` lists what can \
               be written";
    let line = "-A -t 198.51.100.10:80 -s rrr";
    assert_eq!(problems(text), [(1, line, why.to_owned())]);
}

fn gue_checksum() -> impl Strategy<Value = GueChecksum> {
    prop_oneof![
        Just(GueChecksum::None),
        Just(GueChecksum::Outer),
        Just(GueChecksum::Remote),
    ]
}

fn tunnel() -> impl Strategy<Value = TunnelKind> {
    prop_oneof![
        Just(TunnelKind::Ipip),
        any::<bool>().prop_map(|checksum| TunnelKind::Gre { checksum }),
        (1..=u16::MAX, gue_checksum())
            .prop_map(|(l4_port, checksum)| TunnelKind::Gue { l4_port, checksum }),
    ]
}

/// Without thresholds, which `ipvsadm -S` does not save.
fn server_options() -> impl Strategy<Value = ServerOptions> {
    (0..=crate::service::WEIGHT_MAX, tunnel()).prop_map(|(weight, tunnel)| ServerOptions {
        weight,
        tunnel,
        ..ServerOptions::default()
    })
}

fn service_options(protocol: Protocol) -> impl Strategy<Value = ServiceOptions> {
    let kinds = proptest::sample::select(SchedulerKind::ALL.to_vec());
    let persistence = proptest::option::of((1..=PERSISTENCE_S_MAX, any::<[u8; 4]>()));
    let options = (kinds, any::<[bool; 3]>(), persistence);
    options.prop_map(
        move |(scheduler, [fallback, port, one_packet], persistence)| {
            let has_flags = matches!(scheduler, SchedulerKind::Sh | SchedulerKind::Mh);
            ServiceOptions {
                flags: SchedulerFlags {
                    fallback: fallback && has_flags,
                    port: port && has_flags,
                },
                one_packet: one_packet && protocol == Protocol::Udp,
                persistence: persistence.map(|(timeout_s, mask)| Persistence {
                    timeout_s,
                    mask: ClientMask::Netmask(mask.into()),
                }),
                ..ServiceOptions::from(scheduler)
            }
        },
    )
}

fn service() -> impl Strategy<Value = ((Protocol, [u8; 4], u16), ServiceStatus)> {
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let servers = btree_map(any::<[u8; 4]>(), server_options(), 0..5);
    (
        proptest::sample::select(protocols.to_vec()),
        any::<[u8; 4]>(),
        1..=u16::MAX,
        servers,
    )
        .prop_flat_map(|(protocol, vip, service_port, servers)| {
            service_options(protocol).prop_map(move |options| {
                let servers = servers.iter().map(|(&rip, &options)| ServerStatus {
                    key: ServerKey {
                        address: rip.into(),
                    },
                    options,
                    active_connections: 3,
                    inactive_connections: 4,
                    templates: 0,
                    overloaded: false,
                    next_hop: NextHopStatus::NoRoute,
                    path_mtu: 0,
                    rates: Rates::default(),
                    statistics: Statistics::default(),
                });
                let service = ServiceStatus {
                    key: ServiceKey::Vip {
                        protocol,
                        address: (vip, service_port).into(),
                    },
                    options,
                    servers: servers.collect(),
                    rates: Rates::default(),
                    statistics: Statistics::default(),
                };
                ((protocol, vip, service_port), service)
            })
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        services in proptest::collection::vec(service(), 0..8)
    ) {
        let unique: std::collections::BTreeMap<_, _> = services.into_iter().collect();
        let services: Vec<ServiceStatus> = unique.into_values().collect();
        let text = save(&services);
        let rules = parse(&text);
        prop_assert_eq!(&rules.problems, &[]);
        for service in &services {
            let rule = rules.services.iter().find(|rule| rule.key == service.key).unwrap();
            prop_assert_eq!(rule.options, service.options);
            let mut wanted: Vec<_> =
                service.servers.iter().map(|server| (server.key, server.options)).collect();
            wanted.sort_by_key(|(key, _)| *key);
            let read: Vec<_> =
                rule.servers.iter().map(|server| (server.key, server.options)).collect();
            prop_assert_eq!(read, wanted);
        }
        prop_assert_eq!(save(&statuses(&rules)), text);
    }

    #[test]
    fn no_text_makes_the_reader_fail(text in "(-[AaDtusrigwxyp]? ?|[0-9.:]{1,12}|[ \n#=]|\\PC)*") {
        for (span, _) in parse(&text).problems {
            prop_assert!(text.get(span).is_some());
        }
    }
}
