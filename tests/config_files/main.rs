//! Good configuration files: what they mean, what `check` says about them, what
//! a running director can take over, and that the document describes them all.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use pointsman::{
    config::{
        self, ApiConfig, ApiListen, Config, Device, FORMAT, Files, Hugepages, IdlePolicy, Machine,
        NeighborConfig, RouteAction, check_report, memory_need, needs_restart,
    },
    scheduler::SchedulerKind,
    service::{
        ClientMask, GueChecksum, MarkGroup, Persistence, Protocol, ServerOptions, Timeouts,
        Tunables, TunnelKind,
    },
    wire::ethernet::MacAddr,
};
use proptest::{collection::vec, prelude::*};

mod changes;
mod services;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn machine() -> Machine {
    Machine {
        cores: (0..8).collect(),
        ..Machine::default()
    }
}

fn samples() -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(root().join("dpdk-config"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    paths.sort();
    paths
}

fn parse(text: &str) -> Config {
    let loaded = config::parse_for(text, "director.toml", &machine());
    loaded.unwrap_or_else(|errors| panic!("{errors}")).config
}

const MINIMAL: &str = r#"
[[port]]
name = "wan"
device = "0000:0A:00.1"
"#;

const FULL: &str = r#"
[director]
workers = [2, 3]
management_core = 1
idle = "adaptive"
connections_max = 2048
templates_max = 4096
control_socket = "/tmp/p.sock"
netlink_socket = "/tmp/n.sock"
netlink_group = "lvs"
state_file = "/tmp/p.json"
control_group = "ops"
user = "pointsman"
group = "990"
icmp_rate_per_s = 0

[director.timeouts]
tcp = 1
tcp_fin = 2
udp = 2_678_400

[director.ipvs]
conn_reuse_mode = 2
expire_nodest_conn = 1
pmtu_disc = 0
expire_quiescent_template = true
schedule_icmp = true
sloppy_tcp = true
sloppy_sctp = 1
secure_tcp = 3

[eal]
hugepages = "none"
memory_mib = 384
memory_channels = 4
file_prefix = "test"
extra_arguments = ["--no-pci", "--log-level=lib.eal:debug"]

[api]
listen = "127.0.0.1:9110"
token_file = "/tmp/p.token"
read_token_file = "/tmp/p.read"
metrics_without_token = true

[[port]]
name = "outside"
device = "net_af_packet0,iface=veth0,qpairs=2"
addresses = ["192.0.2.10/24", "192.0.2.11/24", "203.0.113.1/31"]
mtu = 9000
vlan = 100
mac = "02:00:00:00:00:10"
rx_descriptors = 512
tx_descriptors = 256

[[port]]
name = "inside"
device = "net_tap1"
addresses = ["10.0.0.2/24"]

[[route]]
to = "default"
via = "192.0.2.1"
port = "outside"
source = "192.0.2.11"
mtu = 1400

[[route]]
to = "10.1.0.0/16"
via = "10.0.0.1"

[[route]]
to = "10.2.0.0/16"
port = "inside"
type = "unicast"

[[route]]
to = "10.3.0.0/16"
type = "unreachable"

[[route]]
to = "10.4.0.0/16"
type = "blackhole"

[[neighbor]]
port = "inside"
address = "10.0.0.1"
mac = "02:00:00:00:00:01"

[[service]]
address = "198.51.100.10:53"
protocol = "udp"
scheduler = "lc"

[[service.real_server]]
address = "10.0.0.11"
weight = 0
upper_threshold = 10
lower_threshold = 10
tunnel = "gue"
tunnel_port = 6081
tunnel_checksum = true

[[service.real_server]]
address = "10.1.0.12"
weight = 65535
tunnel = "gre"

[[service.real_server]]
address = "10.1.0.13"
tunnel = "gue"
tunnel_remote_checksum = true

[[service]]
address = "198.51.100.10:53"
protocol = "tcp"

[[service.real_server]]
address = "10.2.0.13"
"#;

/// As `ipvsadm -Sn` wrote it on a kernel director.
const RULES: &str = "\
-A -t 198.51.100.10:80 -s wlc
-a -t 198.51.100.10:80 -r 10.2.0.12:80 -i -w 2 --tun-type ipip
-a -t 198.51.100.10:80 -r 10.2.0.13:80 -i -w 0 --tun-type gre --tun-csum
-A -u 198.51.100.11:53 -s rr -o
-a -u 198.51.100.11:53 -r 10.2.0.12:53 -i -w 1 --tun-type ipip
";

#[test]
fn samples_are_accepted_without_a_warning() {
    let samples = samples();
    assert_eq!(samples.len(), 7, "{samples:?}");
    for path in samples {
        let loaded =
            config::load_for(&path, &machine()).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(loaded.warnings, [], "{}", path.display());
    }
}

#[test]
fn samples_say_what_they_are_for_and_what_to_do_before() {
    for path in samples() {
        let text = fs::read_to_string(&path).unwrap();
        let opening: String = text
            .lines()
            .take_while(|line| line.starts_with('#'))
            .collect();
        for part in [
            "Before, as root",
            "What to change:",
            "hugepages.sh",
            "bind-nic.sh",
        ] {
            assert!(
                opening.contains(part),
                "{} lacks \"{part}\"",
                path.display()
            );
        }
    }
}

#[test]
fn what_a_file_leaves_out_has_the_documented_default() {
    let config = parse(MINIMAL);
    let director = &config.director;
    assert_eq!(director.worker_cores, [7]);
    assert_eq!(director.management_core, None);
    assert_eq!(director.idle, None);
    assert_eq!(director.connections_max, 1_000_000);
    assert_eq!(
        director.control_socket,
        Path::new("/run/pointsman/control.sock")
    );
    let state_file = "/var/lib/pointsman/pointsman.json";
    assert_eq!(director.state_file.as_deref(), Some(Path::new(state_file)));
    assert_eq!(config.api, None);
    assert_eq!(
        director.netlink_socket,
        Path::new("/run/pointsman/ipvs.sock")
    );
    assert_eq!(director.netlink_group, None);
    assert_eq!(
        director.timeouts,
        Timeouts {
            tcp: 900,
            tcp_fin: 120,
            udp: 300
        }
    );
    assert_eq!(director.tunables, Tunables::default());
    assert_eq!(director.icmp_rate_per_s, 1000);
    assert_eq!(config.eal.hugepages, Hugepages::Auto);
    assert_eq!(config.eal.memory_mib, 512);
    assert_eq!(config.eal.memory_channels, None);
    assert_eq!(config.eal.file_prefix, "pointsman");
    assert!(config.eal.extra_arguments.is_empty());
    let port = &config.ports[0];
    assert_eq!(port.device, Device::Pci("0000:0a:00.1".to_owned()));
    assert!(port.addresses.is_empty());
    assert_eq!((port.mtu, port.vlan, port.mac), (1500, None, None));
    assert_eq!((port.rx_descriptors, port.tx_descriptors), (1024, 1024));
    assert!(config.routes.is_empty() && config.neighbors.is_empty() && config.services.is_empty());
}

#[test]
fn machine_with_one_core_or_unknown_cores_gets_a_worker() {
    for (cores, worker) in [(vec![0], 0), (vec![], 0), (vec![0, 1], 1)] {
        let machine = Machine {
            cores,
            ..Machine::default()
        };
        let loaded = config::parse_for(MINIMAL, "director.toml", &machine).unwrap();
        assert_eq!(loaded.config.director.worker_cores, [worker]);
        assert_eq!(loaded.warnings, []);
    }
}

#[test]
fn netlink_socket_stands_beside_the_control_socket() {
    for (control, netlink) in [
        ("/srv/a/control.sock", "/srv/a/ipvs.sock"),
        ("/tmp/pointsman.sock", "/tmp/pointsman-ipvs.sock"),
    ] {
        let config = parse(&format!(
            "[director]\ncontrol_socket = \"{control}\"\n{MINIMAL}"
        ));
        assert_eq!(config.director.netlink_socket, Path::new(netlink));
    }
}

#[test]
fn threads_and_tables_are_as_written() {
    let config = parse(FULL);
    let director = &config.director;
    assert_eq!(director.worker_cores, [2, 3]);
    assert_eq!(director.management_core, Some(1));
    assert_eq!(director.idle, Some(IdlePolicy::Adaptive));
    assert_eq!(director.connections_max, 2048);
    assert_eq!(director.templates_max, 4096);
    assert_eq!(director.control_socket, Path::new("/tmp/p.sock"));
    assert_eq!(director.netlink_socket, Path::new("/tmp/n.sock"));
    assert_eq!(director.netlink_group.as_deref(), Some("lvs"));
    assert_eq!(
        director.state_file.as_deref(),
        Some(Path::new("/tmp/p.json"))
    );
    let api = ApiConfig {
        listen: ApiListen::Tcp("127.0.0.1:9110".parse().unwrap()),
        token_file: Some("/tmp/p.token".into()),
        read_token_file: Some("/tmp/p.read".into()),
        metrics_without_token: true,
    };
    assert_eq!(config.api, Some(api));
    assert_eq!(director.control_group.as_deref(), Some("ops"));
    assert_eq!(director.user.as_deref(), Some("pointsman"));
    assert_eq!(director.group.as_deref(), Some("990"));
    assert_eq!(director.icmp_rate_per_s, 0);
    assert_eq!(
        director.timeouts,
        Timeouts {
            tcp: 1,
            tcp_fin: 2,
            udp: 2_678_400
        }
    );
    let tunables = Tunables {
        conn_reuse_mode: 2,
        expire_nodest_conn: true,
        pmtu_disc: false,
        expire_quiescent_template: true,
        schedule_icmp: true,
        sloppy_tcp: true,
        sloppy_sctp: true,
        secure_tcp: 3,
    };
    assert_eq!(director.tunables, tunables);
    assert_eq!(config.eal.hugepages, Hugepages::None);
    assert_eq!(config.eal.memory_mib, 384);
    assert_eq!(config.eal.memory_channels, Some(4));
    assert_eq!(config.eal.file_prefix, "test");
    assert_eq!(
        config.eal.extra_arguments,
        ["--no-pci", "--log-level=lib.eal:debug"]
    );
}

#[test]
fn ports_are_as_written() {
    let ports = parse(FULL).ports;
    let device = Device::Vdev("net_af_packet0,iface=veth0,qpairs=2".to_owned());
    assert_eq!(
        (ports[0].name.as_str(), &ports[0].device),
        ("outside", &device)
    );
    let addresses = ["192.0.2.10/24", "192.0.2.11/24", "203.0.113.1/31"];
    assert_eq!(
        ports[0].addresses,
        addresses.map(|address| address.parse().unwrap())
    );
    assert_eq!((ports[0].mtu, ports[0].vlan), (9000, Some(100)));
    assert_eq!(ports[0].mac, Some(MacAddr([2, 0, 0, 0, 0, 0x10])));
    assert_eq!(
        (ports[0].rx_descriptors, ports[0].tx_descriptors),
        (512, 256)
    );
    assert_eq!(ports[1].name, "inside");
    assert_eq!(ports.len(), 2);
}

#[test]
fn ipv6_is_read_wherever_ipv4_is() {
    let text = fs::read_to_string(root().join("dpdk-config/ipv4-and-ipv6.toml")).unwrap();
    let neighbor = "[[neighbor]]\nport = \"outside\"\naddress = \"fe80::1\"\n\
                    mac = \"02:00:00:00:00:fe\"\n";
    let config = parse(&format!("{text}{neighbor}"));
    let addresses: Vec<_> = config.ports[0]
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(addresses, ["192.0.2.10/24", "2001:db8:1::10/64"]);
    let route = &config.routes[1];
    assert_eq!(route.to.to_string(), "::/0");
    assert_eq!(
        route.action,
        RouteAction::Forward {
            via: Some("fe80::1".parse().unwrap()),
            port: 0,
            source: None,
            mtu: None,
        }
    );
    assert_eq!(config.neighbors[0].address.to_string(), "fe80::1");
    let services: Vec<_> = config
        .services
        .iter()
        .map(|service| service.key.to_string())
        .collect();
    assert_eq!(
        services,
        ["TCP [2001:db8:ff::10]:443", "TCP 198.51.100.10:443"]
    );
    for service in &config.services {
        let servers: Vec<_> = service
            .servers
            .iter()
            .map(|(key, _)| key.to_string())
            .collect();
        assert_eq!(servers, ["2001:db8:2::11", "10.0.0.12"]);
    }
}

#[test]
fn routes_and_neighbors_are_as_written() {
    let config = parse(FULL);
    let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    let expected = [
        (
            "0.0.0.0/0",
            RouteAction::Forward {
                via: address("192.0.2.1"),
                port: 0,
                source: Some(Ipv4Addr::new(192, 0, 2, 11).into()),
                mtu: Some(1400),
            },
        ),
        (
            "10.1.0.0/16",
            RouteAction::Forward {
                via: address("10.0.0.1"),
                port: 1,
                source: None,
                mtu: None,
            },
        ),
        (
            "10.2.0.0/16",
            RouteAction::Forward {
                via: None,
                port: 1,
                source: None,
                mtu: None,
            },
        ),
        ("10.3.0.0/16", RouteAction::Unreachable),
        ("10.4.0.0/16", RouteAction::Blackhole),
    ];
    let routes: Vec<_> = config
        .routes
        .iter()
        .map(|route| (route.to.to_string(), route.action.clone()))
        .collect();
    assert_eq!(routes, expected.map(|(to, action)| (to.to_owned(), action)));
    let neighbor = NeighborConfig {
        port: 1,
        address: Ipv4Addr::new(10, 0, 0, 1).into(),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
    };
    assert_eq!(config.neighbors, [neighbor]);
}

#[test]
fn document_describes_every_key_with_an_example_that_the_format_takes() {
    let document = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    for table in FORMAT.iter().skip(1) {
        let heading = format!("\n## `{}`\n", table.header);
        let (_, section) = document
            .split_once(&heading)
            .unwrap_or_else(|| panic!("no {heading}"));
        let section = section.split("\n## ").next().unwrap();
        for key in table.keys {
            let is_table = key.example.starts_with("[director.") || key.example.starts_with("[[");
            let row = format!("\n| `{}` |", key.name);
            assert!(
                is_table || section.contains(&row),
                "{heading} lacks {}",
                key.name
            );
        }
    }
}

#[test]
fn file_in_the_document_is_accepted() {
    let document = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let blocks: Vec<_> = document
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let loaded = config::parse_for(block, "configuration.md", &machine());
        assert_eq!(
            loaded.unwrap_or_else(|errors| panic!("{errors}")).warnings,
            [],
            "{block}"
        );
    }
}

/// One way to spoil a text at some place, the place given as a share of it.
#[derive(Clone, Debug)]
enum Edit {
    Delete(f64, usize),
    Insert(f64, String),
    Repeat(f64, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let token = prop::sample::select(vec![
        "\"",
        "[",
        "]",
        "[[",
        "=",
        "\n",
        "#",
        "'''",
        "\\",
        "{",
        "}",
        ",",
        ".",
        "-1",
        "0x",
        "1e9",
        "nan",
        "1979-05-27",
        "::1",
        "/0",
        "/33",
        "255.255.255.255",
        "é",
        "\u{0}",
        "\u{1b}",
        "\r\n",
        "\t",
        "99999999999999999999",
        "[[port]]\n",
        "[[service]]\n",
        "[director]\n",
        "true",
        "default",
    ]);
    prop_oneof![
        (0.0..1.0, 1usize..40).prop_map(|(at, len)| Edit::Delete(at, len)),
        (0.0..1.0, token).prop_map(|(at, text)| Edit::Insert(at, text.to_owned())),
        (0.0..1.0, ".{1,6}").prop_map(|(at, text)| Edit::Insert(at, text)),
        (0.0..1.0, 1usize..200).prop_map(|(at, len)| Edit::Repeat(at, len)),
    ]
}

/// What must not reach a terminal.
const TERMINAL_CONTROL: [char; 2] = ['\u{0}', '\u{1b}'];

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a short text"
)]
fn apply(text: &mut Vec<char>, edit: &Edit) {
    let place = |at: f64| ((text.len() as f64) * at) as usize;
    match edit {
        Edit::Delete(at, len) => {
            let start = place(*at);
            text.drain(start..(start + len).min(text.len()));
        }
        Edit::Insert(at, inserted) => {
            let start = place(*at);
            text.splice(start..start, inserted.chars());
        }
        Edit::Repeat(at, len) => {
            let start = place(*at);
            let again: Vec<char> = text[start..(start + len).min(text.len())].to_vec();
            text.splice(start..start, again);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn spoilt_files_are_accepted_or_refused_with_reason(
        sample in 0usize..6,
        edits in vec(edit(), 1..4),
    ) {
        let text = samples()
            .get(sample)
            .map_or_else(|| FULL.to_owned(), |path| fs::read_to_string(path).unwrap());
        let mut text: Vec<char> = text.chars().collect();
        for edit in &edits {
            apply(&mut text, edit);
        }
        let text: String = text.into_iter().collect();
        match config::parse_for(&text, "director.toml", &machine()) {
            Ok(loaded) => {
                prop_assert!(!loaded.config.ports.is_empty());
                prop_assert!(check_report(&loaded.config).contains("workers"));
                prop_assert!(needs_restart(&loaded.config, &loaded.config).is_empty());
            }
            Err(errors) => {
                prop_assert!(!errors.errors.is_empty());
                let lines = text.matches('\n').count() + 1;
                for error in &errors.errors {
                    prop_assert!(error.to_string().starts_with("director.toml:"));
                    prop_assert!(error.place.as_ref().is_none_or(|place| place.line <= lines));
                    let is_clean = !error.to_string().contains(TERMINAL_CONTROL);
                    prop_assert!(is_clean);
                }
            }
        }
    }
}

#[test]
fn a_state_file_has_the_name_of_the_file_prefix_unless_it_is_named_or_none() {
    let state_file = |text: &str| parse(&format!("{text}{MINIMAL}")).director.state_file;
    let path = |path: &str| Some(PathBuf::from(path));
    let second = "[eal]\nfile_prefix = \"second\"\n";
    assert_eq!(state_file(second), path("/var/lib/pointsman/second.json"));
    let named = format!("[director]\nstate_file = \"/a/b\"\n{second}");
    assert_eq!(state_file(&named), path("/a/b"));
    assert_eq!(state_file("[director]\nstate_file = \"none\"\n"), None);
}

#[test]
fn the_api_listens_on_a_socket_or_beyond_loopback_with_a_token() {
    let listen = |text: &str| {
        parse(&format!("[api]\n{text}\n{MINIMAL}"))
            .api
            .unwrap()
            .listen
    };
    assert_eq!(
        listen("listen = \"/run/p.sock\""),
        ApiListen::Unix("/run/p.sock".into())
    );
    assert_eq!(
        listen("listen = \"[::1]:9110\""),
        ApiListen::Tcp("[::1]:9110".parse().unwrap())
    );
    assert_eq!(
        listen("listen = \"0.0.0.0:9110\"\ntoken_file = \"/t\""),
        ApiListen::Tcp("0.0.0.0:9110".parse().unwrap())
    );
}
