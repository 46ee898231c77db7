//! What `check` says about a file, and what of it needs a restart.

use super::*;

#[test]
fn check_says_what_a_file_amounts_to() {
    assert_eq!(
        check_report(&parse(FULL)),
        "\
ports     2
  outside  net_af_packet0,iface=veth0,qpairs=2  192.0.2.10/24, 192.0.2.11/24, 203.0.113.1/31, \
MTU 9000, VLAN 100
  inside   net_tap1                             10.0.0.2/24, MTU 1500
workers   2 on cores 2, 3; management on core 1
routes    5, 2 of them unreachable or blackhole
neighbors 1 permanent
services  2, with 4 real servers
  UDP 198.51.100.10:53       lc   3 real servers
  TCP 198.51.100.10:53       wlc  1 real server
memory    1 MiB for 2048 connections on each of 2 workers
          149 MiB for packet buffers, of the 384 MiB that DPDK takes (ordinary pages)
"
    );
}

#[test]
fn check_counts_what_would_not_fit_a_screen() {
    let service = |port| format!("[[service]]\naddress = \"198.51.100.10:{port}\"\n");
    let services = (1..=25).map(service).collect::<Vec<_>>().concat();
    let report = check_report(&parse(&format!("{MINIMAL}{services}")));
    assert!(report.contains("\n  TCP 198.51.100.10:20 "), "{report}");
    assert!(report.contains("\n  and 5 more\n"), "{report}");
    assert!(!report.contains("198.51.100.10:21"), "{report}");
}

#[test]
fn connections_are_reckoned_for_every_worker() {
    // Slots of 64 and 128 bytes, 452 and 116 times seven of them, 16 bytes for
    // each seven, and 4 bytes a connection.
    let v4 = 452 * 7 * 64 + 452 * 16 + 2048 * 4;
    let v6 = 116 * 7 * 128 + 116 * 16 + 512 * 4;
    let tables = v4 + v6;
    let config = parse(FULL);
    let templates = u64::from(config.director.templates_max) * 84;
    assert_eq!(memory_need(&config).connections, 2 * tables + templates);
}

#[test]
fn unchanged_file_needs_no_restart() {
    assert!(needs_restart(&parse(FULL), &parse(FULL)).is_empty());
}

#[test]
fn what_control_can_change_needs_no_restart() {
    let changed = [
        ("tcp = 1\n", "tcp = 60\n"),
        ("conn_reuse_mode = 2", "conn_reuse_mode = 0"),
        ("icmp_rate_per_s = 0", "icmp_rate_per_s = 5"),
        ("[\"10.0.0.2/24\"]", "[\"10.0.0.2/24\", \"10.9.0.1/24\"]"),
        ("mtu = 1400", "mtu = 1300"),
        ("02:00:00:00:00:01", "02:00:00:00:00:02"),
        ("weight = 0", "weight = 9"),
        ("198.51.100.10", "198.51.100.99"),
    ];
    for (from, to) in changed {
        let text = FULL.replace(from, to);
        assert_ne!(text, FULL, "{from}");
        let (old, new) = (parse(FULL), parse(&text));
        assert_ne!(old, new, "{from}");
        assert_eq!(needs_restart(&old, &new), [""; 0], "{from}");
    }
}

#[test]
fn what_stands_at_start_needs_a_restart_and_is_named() {
    let changed = [
        ("workers = [2, 3]", "workers = [2]", "[director] workers"),
        (
            "management_core = 1",
            "management_core = 0",
            "[director] management_core",
        ),
        ("idle = \"adaptive\"", "idle = \"poll\"", "[director] idle"),
        (
            "connections_max = 2048",
            "connections_max = 4096",
            "[director] connections_max",
        ),
        ("/tmp/p.sock", "/tmp/q.sock", "[director] control_socket"),
        ("/tmp/n.sock", "/tmp/q.sock", "[director] netlink_socket"),
        ("\"lvs\"", "\"ops\"", "[director] netlink_group"),
        ("/tmp/p.json", "/tmp/q.json", "[director] state_file"),
        ("127.0.0.1:9110", "127.0.0.1:9111", "[api]"),
        ("\"ops\"", "\"dev\"", "[director] control_group"),
        (
            "user = \"pointsman\"",
            "user = \"nobody\"",
            "[director] user",
        ),
        ("group = \"990\"", "group = \"991\"", "[director] group"),
        (
            "hugepages = \"none\"",
            "hugepages = \"auto\"",
            "[eal] hugepages",
        ),
        ("memory_mib = 384", "memory_mib = 385", "[eal] memory_mib"),
        (
            "memory_channels = 4",
            "memory_channels = 2",
            "[eal] memory_channels",
        ),
        (
            "file_prefix = \"test\"",
            "file_prefix = \"best\"",
            "[eal] file_prefix",
        ),
        ("\"--no-pci\", ", "", "[eal] extra_arguments"),
        ("qpairs=2", "qpairs=1", "port \"outside\": device"),
        ("mtu = 9000", "mtu = 8000", "port \"outside\": mtu"),
        ("vlan = 100", "vlan = 101", "port \"outside\": vlan"),
        (
            "02:00:00:00:00:10",
            "02:00:00:00:00:20",
            "port \"outside\": mac",
        ),
        (
            "rx_descriptors = 512",
            "rx_descriptors = 1024",
            "port \"outside\": rx_descriptors",
        ),
        (
            "tx_descriptors = 256",
            "tx_descriptors = 512",
            "port \"outside\": tx_descriptors",
        ),
    ];
    for (from, to, key) in changed {
        let text = FULL.replace(from, to);
        assert_eq!(needs_restart(&parse(FULL), &parse(&text)), [key], "{from}");
    }
}

#[test]
fn ports_that_come_and_go_need_a_restart() {
    let port =
        |name: &str, device: &str| format!("[[port]]\nname = \"{name}\"\ndevice = \"{device}\"\n");
    let (a, b) = (port("a", "net_null0"), port("b", "net_null1"));
    let both = parse(&format!("{a}{b}"));
    assert_eq!(needs_restart(&parse(&a), &both), ["port \"b\": added"]);
    assert_eq!(needs_restart(&both, &parse(&a)), ["port \"b\": removed"]);
    assert_eq!(
        needs_restart(&both, &parse(&format!("{b}{a}"))),
        ["the order of [[port]]"]
    );
}
