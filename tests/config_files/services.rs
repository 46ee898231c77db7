//! Services and real servers: what a file says of them.

use super::*;

#[test]
fn services_in_the_language_of_ipvsadm_stand_behind_those_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (file, rules) = (
        folder.path().join("director.toml"),
        folder.path().join("www.rules"),
    );
    let text = FULL.replace(
        "icmp_rate_per_s = 0",
        "icmp_rate_per_s = 0\nservices_file = \"www.rules\"",
    );
    fs::write(&file, text).unwrap();
    fs::write(&rules, RULES).unwrap();
    let services = |files| {
        let loaded = config::load_files(files, &machine());
        let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(loaded.warnings, []);
        loaded.config.services
    };
    let named = services(Files::of(&file));
    let keys: Vec<_> = named
        .iter()
        .map(|service| service.key.to_string())
        .collect();
    assert_eq!(
        keys,
        [
            "UDP 198.51.100.10:53",
            "TCP 198.51.100.10:53",
            "TCP 198.51.100.10:80",
            "UDP 198.51.100.11:53"
        ]
    );
    assert_eq!(named[2].options.scheduler, SchedulerKind::Wlc);
    let servers: Vec<_> = named[2]
        .servers
        .iter()
        .map(|(key, options)| (key.to_string(), options.weight, options.tunnel))
        .collect();
    assert_eq!(
        servers,
        [
            ("10.2.0.12".to_owned(), 2, TunnelKind::Ipip),
            (
                "10.2.0.13".to_owned(),
                0,
                TunnelKind::Gre { checksum: true }
            )
        ]
    );
    assert!(named[3].options.one_packet);

    // On the command line, a file stands in place of the one named.
    let other = folder.path().join("other.rules");
    fs::write(
        &other,
        "-A -t 198.51.100.12:80 -s rr\n-a -t 198.51.100.12:80 -r 10.2.0.12 -i\n",
    )
    .unwrap();
    let given = services(Files {
        config: &file,
        services: Some(&other),
    });
    assert_eq!(given.len(), 3);
    assert_eq!(given[2].key.to_string(), "TCP 198.51.100.12:80");
}

#[test]
fn one_packet_scheduling_is_as_written_and_off_by_default() {
    let one_packet: Vec<bool> = parse(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:53"
protocol = "udp"
one_packet = true
[[service]]
address = "198.51.100.11:53"
protocol = "udp"
[[service]]
address = "198.51.100.11:80"
one_packet = false
"#,
    )
    .services
    .iter()
    .map(|service| service.options.one_packet)
    .collect();
    assert_eq!(one_packet, [true, false, false]);
}

#[test]
fn outer_sources_are_as_written_and_none_by_default() {
    let sources: Vec<_> = parse(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:80"
outer_source = "192.0.2.128/26"
[[service.real_server]]
address = "192.0.2.11"
[[service]]
address = "198.51.100.10:81"
outer_source = "2001:db8:9::/112"
[[service]]
address = "198.51.100.10:82"
"#,
    )
    .services
    .iter()
    .map(|service| {
        service
            .options
            .outer_source
            .map(|network| network.to_string())
    })
    .collect();
    let expected = [Some("192.0.2.128/26"), Some("2001:db8:9::/112"), None];
    assert_eq!(sources, expected.map(|network| network.map(str::to_owned)));
}

#[test]
fn marks_and_networks_of_vips_are_as_written() {
    let config = parse(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[fwmark]]
number = 5
vips = ["198.51.100.10", "198.51.100.64/26", "2001:db8:1::/48"]
protocols = ["tcp", "sctp"]
ports = ["80", "8000-8999"]
[[fwmark]]
number = 0xffff_ffff
[[service]]
fwmark = 5
[[service]]
fwmark = 5
ipv6 = true
one_packet = true
[[service]]
address = "198.51.100.0/24:443"
[[service]]
address = "[2001:db8::/64]:0"
persistence_s = 60
protocol = "udp"
[[service]]
address = "198.51.101.1/32:80"
"#,
    );
    let group = |fwmark, vips: &[&str], protocols, l4_ports| MarkGroup {
        fwmark,
        vips: vips.iter().map(|vips| vips.parse().unwrap()).collect(),
        protocols,
        l4_ports,
    };
    let vips = ["198.51.100.10/32", "198.51.100.64/26", "2001:db8:1::/48"];
    let protocols = vec![Protocol::Tcp, Protocol::Sctp];
    assert_eq!(
        config.mark_groups,
        [
            group(5, &vips, protocols, vec![80..=80, 8000..=8999]),
            group(u32::MAX, &[], Vec::new(), Vec::new()),
        ]
    );
    let keys: Vec<_> = config
        .services
        .iter()
        .map(|service| service.key.to_string())
        .collect();
    assert_eq!(
        keys,
        [
            "FWM 5",
            "FWM 5 IPv6",
            "TCP 198.51.100.0/24:443",
            "UDP [2001:db8::/64]:0",
            "TCP 198.51.101.1:80",
        ]
    );
    assert!(config.services[1].options.one_packet);
}

#[test]
fn persistence_is_as_written_and_off_by_default() {
    let persistence: Vec<_> = parse(
        r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.10/24"]
[[service]]
address = "198.51.100.10:0"
persistence_s = 360
[[service]]
address = "198.51.100.10:80"
persistence_s = 2_678_400
persistence_prefix_len = 20
[[service]]
address = "[2001:db8::1]:80"
persistence_s = 1
persistence_prefix_len = 64
[[service]]
address = "[2001:db8::1]:0"
persistence_s = 1
[[service]]
address = "198.51.100.10:81"
"#,
    )
    .services
    .iter()
    .map(|service| service.options.persistence)
    .collect();
    let expected = [
        (360, ClientMask::Netmask([255, 255, 255, 255].into())),
        (2_678_400, ClientMask::Netmask([255, 255, 240, 0].into())),
        (1, ClientMask::PrefixLen(64)),
        (1, ClientMask::PrefixLen(128)),
    ];
    let expected = expected.map(|(timeout_s, mask)| Some(Persistence { timeout_s, mask }));
    assert_eq!(persistence, [&expected[..], &[None]].concat());
}

#[test]
fn services_are_as_written_and_in_their_order() {
    let services = parse(FULL).services;
    let key = services[0].key;
    assert_eq!(key.to_string(), "UDP 198.51.100.10:53");
    assert_eq!(services[0].options.scheduler, SchedulerKind::Lc);
    let servers: Vec<_> = services[0]
        .servers
        .iter()
        .map(|(key, options)| (key.to_string(), *options))
        .collect();
    let expected = [
        (
            "10.0.0.11",
            ServerOptions {
                weight: 0,
                upper_threshold: 10,
                lower_threshold: 10,
                tunnel: TunnelKind::Gue {
                    l4_port: 6081,
                    checksum: GueChecksum::Outer,
                },
            },
        ),
        (
            "10.1.0.12",
            ServerOptions {
                weight: 65_535,
                upper_threshold: 0,
                lower_threshold: 0,
                tunnel: TunnelKind::Gre { checksum: false },
            },
        ),
        (
            "10.1.0.13",
            ServerOptions {
                tunnel: TunnelKind::Gue {
                    l4_port: 6080,
                    checksum: GueChecksum::Remote,
                },
                ..ServerOptions::default()
            },
        ),
    ];
    assert_eq!(
        servers,
        expected.map(|(rip, options)| (rip.to_owned(), options))
    );
    assert_eq!(services[1].key.protocol(), Some(Protocol::Tcp));
    assert_eq!(services[1].options.scheduler, SchedulerKind::Wlc);
    assert_eq!(services[1].servers[0].1, ServerOptions::default());
}
