use std::net::Ipv4Addr;

use super::*;

fn parse_line(line: &str) -> Result<Invocation, ArgumentError> {
    parse(&line.split_whitespace().collect::<Vec<_>>())
}

fn service(protocol: Protocol, address: &str) -> ServiceKey {
    ServiceKey::Vip {
        protocol,
        address: address.parse().unwrap(),
    }
}

fn server(address: &str) -> ServerKey {
    ServerKey {
        address: address.parse().unwrap(),
    }
}

fn invalid(message: &str, code: u8) -> ArgumentError {
    ArgumentError::Invalid {
        message: message.to_owned(),
        code,
    }
}

#[test]
fn service_commands_in_short_and_long_options() {
    let key = service(Protocol::Tcp, "198.51.100.10:80");
    let options = |scheduler| ServiceOptions::from(scheduler);
    let cases = [
        (
            "-A -t 198.51.100.10:80 -s rr",
            Command::AddService(key, options(SchedulerKind::Rr)),
        ),
        (
            "-At 198.51.100.10:80 -s lc",
            Command::AddService(key, options(SchedulerKind::Lc)),
        ),
        (
            "-A -t 198.51.100.10:80",
            Command::AddService(key, options(SchedulerKind::Wlc)),
        ),
        (
            "--edit-service --tcp-service=198.51.100.10:80 --scheduler wrr",
            Command::EditService(key, options(SchedulerKind::Wrr)),
        ),
        (
            "-A --sctp-service 198.51.100.10:132 -s lc",
            Command::AddService(
                service(Protocol::Sctp, "198.51.100.10:132"),
                options(SchedulerKind::Lc),
            ),
        ),
        ("-D -t 198.51.100.10:80", Command::DeleteService(key)),
        ("-C", Command::Flush),
        ("-Z", Command::Zero(None)),
        ("-Z -t 198.51.100.10:80", Command::Zero(Some(key))),
    ];
    for (line, command) in cases {
        assert_eq!(parse_line(line), Ok(Invocation::Change(command)), "{line}");
    }
}

#[test]
fn services_by_mark_are_of_one_ip_version_and_need_no_port() {
    let mark = |fwmark, ipv6| ServiceKey::Mark { fwmark, ipv6 };
    let rr = ServiceOptions::from(SchedulerKind::Rr);
    let persistent = ServiceOptions {
        persistence: Some(Persistence {
            timeout_s: 100,
            mask: ClientMask::PrefixLen(64),
        }),
        ..rr
    };
    let one_packet = ServiceOptions {
        one_packet: true,
        ..rr
    };
    for (line, command) in [
        ("-A -f 5 -s rr", Command::AddService(mark(5, false), rr)),
        (
            "-E -f 4294967295 -6 -s rr -p 100 -M 64",
            Command::EditService(mark(u32::MAX, true), persistent),
        ),
        (
            "-A --fwmark-service 5 -s rr -o",
            Command::AddService(mark(5, false), one_packet),
        ),
        ("-D -f 6 -6", Command::DeleteService(mark(6, true))),
        (
            "-d -f 5 -r 10.0.0.12",
            Command::DeleteServer(mark(5, false), server("10.0.0.12")),
        ),
    ] {
        assert_eq!(parse_line(line), Ok(Invocation::Change(command)), "{line}");
    }
}

#[test]
fn persistence_has_a_timeout_and_a_mask() {
    let host = ClientMask::Netmask(Ipv4Addr::BROADCAST);
    let network = ClientMask::Netmask([255, 255, 255, 0].into());
    for (line, key, timeout_s, mask) in [
        ("-A -t 198.51.100.10:80 -p", "198.51.100.10:80", 360, host),
        ("-A -t 198.51.100.10:0 -p 60", "198.51.100.10:0", 60, host),
        ("-A -t 198.51.100.10 -p 60", "198.51.100.10:0", 60, host),
        (
            "-A -t 198.51.100.10:80 -p 2678400 -M 255.255.255.0",
            "198.51.100.10:80",
            2_678_400,
            network,
        ),
    ] {
        let options = ServiceOptions {
            persistence: Some(Persistence { timeout_s, mask }),
            ..ServiceOptions::from(SchedulerKind::Wlc)
        };
        let command = Command::AddService(service(Protocol::Tcp, key), options);
        assert_eq!(parse_line(line), Ok(Invocation::Change(command)), "{line}");
    }
    let command = Command::AddService(
        service(Protocol::Tcp, "198.51.100.10:80"),
        ServiceOptions::from(SchedulerKind::Wlc),
    );
    assert_eq!(
        parse_line("-A -t 198.51.100.10:80 -M 255.255.255.0"),
        Ok(Invocation::Change(command)),
        "a mask alone is of no effect"
    );
}

#[test]
fn one_packet_scheduling_is_for_udp_alone() {
    let key = service(Protocol::Udp, "198.51.100.10:53");
    let options = ServiceOptions {
        one_packet: true,
        ..ServiceOptions::from(SchedulerKind::Rr)
    };
    for (line, command) in [
        (
            "-A -u 198.51.100.10:53 -s rr -o",
            Command::AddService(key, options),
        ),
        (
            "-E -u 198.51.100.10:53 -s rr --ops",
            Command::EditService(key, options),
        ),
    ] {
        assert_eq!(parse_line(line), Ok(Invocation::Change(command)), "{line}");
    }
    // Recorded in 08_ops.
    assert_eq!(
        parse_line("-A -t 198.51.100.10:80 -s rr -o"),
        Err(invalid(
            "One-Packet Scheduling is only for UDP virtual services",
            2
        ))
    );
}

#[test]
fn server_commands_take_weight_and_thresholds() {
    let key = service(Protocol::Udp, "198.51.100.10:53");
    let rip = server("10.0.0.12");
    let options = ServerOptions {
        weight: 3,
        upper_threshold: 1000,
        lower_threshold: 800,
        tunnel: TunnelKind::Ipip,
    };
    let cases = [
        (
            "-a -u 198.51.100.10:53 -r 10.0.0.12 -i -w 3 -x 1000 -y 800",
            Command::AddServer(key, rip, options),
        ),
        (
            "-e -u 198.51.100.10:53 -r 10.0.0.12:53 --ipip --weight=3 --u-threshold 1000 \
             --l-threshold 800 --tun-type ipip",
            Command::EditServer(key, rip, options),
        ),
        (
            "-a -u 198.51.100.10:53 -r 10.0.0.12 -i",
            Command::AddServer(key, rip, ServerOptions::default()),
        ),
        (
            "-d -u 198.51.100.10:53 -r 10.0.0.12",
            Command::DeleteServer(key, rip),
        ),
    ];
    for (line, command) in cases {
        assert_eq!(parse_line(line), Ok(Invocation::Change(command)), "{line}");
    }
}

/// Recorded: `-r 10.0.0.14:81` on a service on port 80 makes 10.0.0.14:80.
#[test]
fn port_of_a_tunnelled_server_is_of_no_effect() {
    let with_port = parse_line("-a -t 198.51.100.10:80 -r 10.0.0.14:81 -i -w 1");
    assert_eq!(
        with_port,
        parse_line("-a -t 198.51.100.10:80 -r 10.0.0.14 -i -w 1")
    );
    assert!(with_port.is_ok());
}

#[test]
fn lists_differ_by_columns() {
    let listing = |only, columns, exact, sorted| {
        Ok(Invocation::List(Listing::Services {
            only,
            columns,
            exact,
            sorted,
        }))
    };
    let key = service(Protocol::Tcp, "198.51.100.10:80");
    assert_eq!(
        parse_line(""),
        listing(None, Columns::Ordinary, false, true)
    );
    assert_eq!(
        parse_line("-Ln"),
        listing(None, Columns::Ordinary, false, true)
    );
    assert_eq!(
        parse_line("-ln --nosort"),
        listing(None, Columns::Ordinary, false, false)
    );
    assert_eq!(
        parse_line("-Ln --stats --exact"),
        listing(None, Columns::Statistics, true, true)
    );
    assert_eq!(
        parse_line("-Ln --rate"),
        listing(None, Columns::Rates, false, true)
    );
    assert_eq!(
        parse_line("-Ln --thresholds"),
        listing(None, Columns::Thresholds, false, true)
    );
    assert_eq!(
        parse_line("-Ln --persistent-conn"),
        listing(None, Columns::PersistentConnections, false, true)
    );
    assert_eq!(
        parse_line("-Ln --tun-info"),
        listing(None, Columns::TunnelInfo, false, true)
    );
    assert_eq!(
        parse_line("-L -n -t 198.51.100.10:80"),
        listing(Some(key), Columns::Ordinary, false, true)
    );
    assert_eq!(
        parse_line("-Lcn"),
        Ok(Invocation::List(Listing::Connections))
    );
    assert_eq!(
        parse_line("-L --timeout"),
        Ok(Invocation::List(Listing::Timeouts))
    );
    assert_eq!(
        parse_line("-L --daemon"),
        Ok(Invocation::List(Listing::Daemon))
    );
    assert_eq!(parse_line("-Sn"), Ok(Invocation::Save));
    assert_eq!(parse_line("-R"), Ok(Invocation::Restore));
    assert_eq!(parse_line("-h"), Ok(Invocation::Help));
    assert_eq!(
        parse_line("--set 0 30 60"),
        Ok(Invocation::SetTimeouts([0, 30, 60]))
    );
}

/// With the messages and exit codes recorded from `ipvsadm` itself.
#[test]
fn command_lines_that_ipvsadm_refuses() {
    let cases = [
        (
            "-a -t 198.51.100.10:80 -r 10.0.0.14:80 -i -w -1",
            invalid("illegal weight specified", 2),
        ),
        (
            "-A -t 198.51.100.10:998 -s nosuch",
            invalid("Scheduler or persistence engine not found", 255),
        ),
        (
            "-A -u 198.51.100.10:0 -s rr",
            invalid("Zero port specified for non-persistent service", 2),
        ),
        (
            "-E -t 198.51.100.10 -s rr",
            invalid("Zero port specified for non-persistent service", 2),
        ),
        (
            "-A -f 0 -s rr",
            invalid("invalid fwmark value `0' specified", 2),
        ),
        (
            "-A -f 5 -t 198.51.100.10:80",
            invalid("multiple services specified", 2),
        ),
        (
            "-A -t 198.51.100.10:80 -p 0",
            invalid("invalid timeout value `0' specified", 2),
        ),
        (
            "-A -t 198.51.100.10:80 -p 2678401",
            invalid("invalid timeout value `2678401' specified", 2),
        ),
        (
            "-A -t 198.51.100.10:80 -p 60 -M 24",
            invalid("illegal virtual server persistent mask specified", 2),
        ),
    ];
    for (line, error) in cases {
        assert_eq!(parse_line(line), Err(error), "{line}");
    }
    let (message, code) = parse_line("--foo").unwrap_err().answer().unwrap();
    assert_eq!(
        message,
        "Try `ipvsadm -h' or 'ipvsadm --help' for more information."
    );
    assert_eq!(code, 255);
}

#[test]
fn wrong_options_are_named() {
    for (line, problem) in [
        ("--foo", "ipvsadm has no option \"--foo\""),
        ("-A www", "ipvsadm has no option \"www\""),
        ("-A -q", "ipvsadm has no option \"-q\""),
        ("-A -t", "--tcp-service lacks its value"),
        ("-A -A -t 192.0.2.1:80", "--add-service stands twice"),
        (
            "-a -t 192.0.2.1:80 -r 10.0.0.1 -i --tun-type gue --tun-port big",
            "\"big\" is no value for --tun-port",
        ),
        (
            "-A -t www.example.com:http",
            "\"www.example.com:http\" is not a numeric address and port",
        ),
        ("--set 1 2", "--set lacks its value"),
    ] {
        assert_eq!(parse_line(line).unwrap_err().to_string(), problem, "{line}");
    }
}

#[test]
fn server_commands_take_a_tunnel() {
    for (options, tunnel) in [
        ("--tun-type gre", TunnelKind::Gre { checksum: false }),
        (
            "--tun-type gre --tun-nocsum",
            TunnelKind::Gre { checksum: false },
        ),
        (
            "--tun-type gre --tun-csum",
            TunnelKind::Gre { checksum: true },
        ),
        (
            "--tun-type gue --tun-port 6080",
            TunnelKind::Gue {
                l4_port: 6080,
                checksum: GueChecksum::None,
            },
        ),
        (
            "--tun-type gue --tun-port 6081 --tun-csum",
            TunnelKind::Gue {
                l4_port: 6081,
                checksum: GueChecksum::Outer,
            },
        ),
        (
            "--tun-type gue --tun-port 6081 --tun-remcsum",
            TunnelKind::Gue {
                l4_port: 6081,
                checksum: GueChecksum::Remote,
            },
        ),
    ] {
        let key = service(Protocol::Tcp, "198.51.100.10:80");
        let options_parsed = ServerOptions {
            tunnel,
            ..ServerOptions::default()
        };
        let command = Command::AddServer(key, server("10.0.0.11"), options_parsed);
        let line = format!("-a -t 198.51.100.10:80 -r 10.0.0.11 -i {options}");
        assert_eq!(
            parse_line(&line),
            Ok(Invocation::Change(command)),
            "{options}"
        );
    }
}

#[test]
fn incomplete_and_contradictory_command_lines_are_invalid() {
    for line in [
        "-A -s rr",
        "-a -t 198.51.100.10:80 -i",
        "-A -D -t 198.51.100.10:80",
        "-A -t 198.51.100.10:80 -u 198.51.100.10:80",
        "-A -t 198.51.100.10:80 -w 3",
        "-a -t 198.51.100.10:80 -r 10.0.0.11 -i -s rr",
        "-D -t 198.51.100.10:80 -r 10.0.0.11",
        "-A -t 198.51.100.10:80x",
        "-A -t 198.51.100:80",
        "-a -t 198.51.100.10:80 -r ten -i",
        "-a -t 198.51.100.10:80 -r 10.0.0.11 -i -x lots",
        "-a -t 198.51.100.10:80 -r 10.0.0.11 -i --tun-port 6080",
        "-a -t 198.51.100.10:80 -r 10.0.0.11 -i --tun-csum",
        "-a -t 198.51.100.10:80 -r 10.0.0.11 -i --tun-type gue",
        "-a -t 198.51.100.10:80 -r 10.0.0.11 -i --tun-type gue --tun-port 0",
        "-a -t 198.51.100.10:80 -r 10.0.0.11 -i --tun-type gre --tun-port 6080",
        "-a -t 198.51.100.10:80 -r 10.0.0.11 -i --tun-type vxlan",
        "-a -t 198.51.100.10:80 -r 10.0.0.11 -i --tun-type gre --tun-csum --tun-nocsum",
        "--set 1 2",
    ] {
        let error = parse_line(line).unwrap_err();
        assert!(error.answer().is_some(), "{line}: {error:?}");
    }
}

#[test]
fn what_this_version_cannot_do_is_named() {
    assert_eq!(
        parse_line("-A -u 198.51.100.10:5060 -s rr -p 60 --pe sip"),
        Err(ArgumentError::Unsupported(
            "a persistence engine (--pe)".to_owned()
        )),
    );
    for line in [
        "--start-daemon master --syncid 7 --mcast-interface vec1",
        "--stop-daemon master",
    ] {
        let error = parse_line(line).unwrap_err();
        assert_eq!(error, ArgumentError::Synchronisation, "{line}");
        let answer = ("Operation not supported with IPv6".to_owned(), 255);
        assert_eq!(error.answer(), Some(answer));
    }
}

#[test]
fn other_forwarding_methods_are_refused() {
    for (options, method) in [
        ("", "direct routing (-g, the default)"),
        ("-g", "direct routing (-g)"),
        ("--gatewaying -w 3", "direct routing (-g)"),
        ("-m", "masquerading (-m)"),
    ] {
        let line = format!("-a -t 198.51.100.10:80 -r 10.0.0.11 {options}");
        let error = ArgumentError::NotATunnel(method);
        assert_eq!(error.answer(), None);
        assert_eq!(parse_line(&line), Err(error), "{line}");
    }
}

/// Recorded, each with exit code 255.
#[test]
fn refused_commands_get_the_messages_of_ipvsadm() {
    let key = service(Protocol::Tcp, "198.51.100.10:80");
    let rip = server("10.0.0.11");
    let options = ServerOptions::default();
    let scheduler = ServiceOptions::from(SchedulerKind::Rr);
    let no_service = CommandError::NoSuchService(key);
    let cases = [
        (
            Command::AddService(key, scheduler),
            CommandError::ServiceExists(key),
        ),
        (
            Command::AddServer(key, rip, options),
            CommandError::ServerExists(key, rip),
        ),
        (
            Command::DeleteServer(key, rip),
            CommandError::NoSuchServer(key, rip),
        ),
        (
            Command::EditServer(key, rip, options),
            CommandError::NoSuchServer(key, rip),
        ),
        (Command::DeleteService(key), no_service.clone()),
        (Command::EditService(key, scheduler), no_service.clone()),
        (Command::AddServer(key, rip, options), no_service),
    ];
    let messages = [
        "Service already exists",
        "Destination already exists",
        "No such destination",
        "No such destination",
        "No such service",
        "No such service",
        "Service not defined",
    ];
    for ((command, error), message) in cases.iter().zip(messages) {
        assert_eq!(error_message(command, error), message, "{command:?}");
    }
}

#[test]
fn zero_leaves_a_timeout_as_it_is() {
    let timeouts = set_timeouts(Timeouts::default(), [0, 30, 0]);
    assert_eq!(
        timeouts,
        Timeouts {
            tcp: 900,
            tcp_fin: 30,
            udp: 300
        }
    );
}

#[test]
fn ipv6_addresses_stand_in_brackets() {
    let key = ServiceKey::Vip {
        protocol: Protocol::Tcp,
        address: "[2001:db8:ff::10]:80".parse().unwrap(),
    };
    let server = ServerKey {
        address: "2001:db8:2::11".parse().unwrap(),
    };
    for real_server in ["[2001:db8:2::11]:80", "[2001:db8:2::11]"] {
        let line = format!("-a -t [2001:db8:ff::10]:80 -r {real_server} -i -w 3");
        let words: Vec<&str> = line.split_whitespace().collect();
        let options = ServerOptions {
            weight: 3,
            ..ServerOptions::default()
        };
        assert_eq!(
            parse(&words),
            Ok(Invocation::Change(Command::AddServer(key, server, options)))
        );
    }
}
