//! The network around a director.
//!
//! ```text
//!   two arms:   client == router ---- wan ---- director ---- lan
//!                      |                                      |
//!                      +--- bridge "servers" -----------------+
//!                              |        |       |
//!                           server1  server2   ...
//! ```
//!
//! The client is its own router: it sends to the VIP by way of the director,
//! and the answers of the real servers reach it on the bridge. On one arm the
//! director has only the port on the bridge.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    num::NonZero,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use tempfile::TempDir;

use super::{
    configuration::Configuration,
    director::Director,
    http::{Connection, HttpServer, Load},
    namespace::{Namespace, Process, has_program, run, wait_for},
};

pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
pub(crate) const DIRECTOR_WAN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const DIRECTOR_LAN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const CLIENT_WAN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
pub(crate) const CLIENT_LAN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
/// The router's address towards the real server behind it.
const ROUTER_NARROW: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 254);
/// The number of that real server.
pub(crate) const BEHIND_ROUTER: u8 = 200;

/// How the director is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    TwoArms,
    OneArm,
    /// One arm, whose interface in the director's namespace the test makes.
    OwnCable,
}

/// A network with real servers; everything goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Lab {
    // Stopped before their namespaces go.
    servers: Vec<RealServer>,
    pub(crate) client: Namespace,
    pub(crate) director: Namespace,
    pub(crate) prefix: String,
    pub(crate) shape: Shape,
    number: usize,
    directory: TempDir,
}

#[derive(Debug)]
struct RealServer {
    number: u8,
    _http: HttpServer,
    _decapsulation: Option<Process>,
    namespace: Namespace,
}

/// Labs made so far by this process.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Says why a test does not run.
pub(crate) fn skipped(test: &str, reason: &str) {
    println!("skipped: {test}: {reason}");
}

impl Lab {
    /// `None`, with the reason printed, where there can be no such network.
    pub(crate) fn build(test: &str, shape: Shape, servers: u8) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skipped(test, "network namespaces take root");
            return None;
        }
        for program in ["ip", "ethtool", "setpriv"] {
            if !has_program(program) {
                skipped(
                    test,
                    &format!("{program} is missing; scripts/setup.sh --tests installs it"),
                );
                return None;
            }
        }
        if !Path::new("/dev/net/tun").exists() {
            skipped(test, "real servers need /dev/net/tun");
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("pme2e{}-{number}", process::id());
        let mut lab = Self {
            servers: Vec::new(),
            client: Namespace::create(format!("{prefix}c")),
            director: Namespace::create(format!("{prefix}d")),
            directory: TempDir::new().unwrap(),
            prefix,
            shape,
            number,
        };
        lab.connect_client();
        for server in 1..=servers {
            lab.add_server(server);
        }
        Some(lab)
    }

    fn connect_client(&self) {
        let client = &self.client;
        client.ip("link add servers type bridge forward_delay 0");
        client.ip("link set servers up");
        client.ip(&format!("address add {CLIENT_LAN}/24 dev servers"));
        if self.shape != Shape::OwnCable {
            self.director.connect("lan", client, "lan");
            self.director.ip("link set lan arp off");
            client.ip("link set lan master servers");
        }
        if self.shape == Shape::TwoArms {
            self.director.connect("wan", client, "wan");
            self.director.ip("link set wan arp off");
            client.ip(&format!("address add {CLIENT_WAN}/24 dev wan"));
            client.ip(&format!("route add {VIP}/32 via {DIRECTOR_WAN}"));
        } else {
            client.ip(&format!("route add {VIP}/32 via {DIRECTOR_LAN}"));
        }
    }

    /// Adds a real server at 10.0.0.(10 + number).
    fn add_server(&mut self, number: u8) {
        let namespace = Namespace::create(format!("{}s{number}", self.prefix));
        namespace.connect("eth0", &self.client, &format!("server{number}"));
        self.client
            .ip(&format!("link set server{number} master servers"));
        let rip = rip(number);
        namespace.ip(&format!("address add {rip}/24 dev eth0"));
        namespace.ip(&format!("route add default via {CLIENT_LAN}"));
        let decapsulation = self.decapsulate(&namespace, rip);
        self.start_server(namespace, number, decapsulation);
    }

    /// Adds the real server [`BEHIND_ROUTER`], at 10.0.1.1. The client is the
    /// router on the way to it, over a link that takes `mtu` bytes; the server
    /// does not know, and takes what directors send in any tunnel.
    ///
    /// `false`, with the reason printed, where a kernel tunnel is in the way.
    pub(crate) fn add_server_behind_narrow_link(&mut self, test: &str, mtu: u16) -> bool {
        let number = BEHIND_ROUTER;
        let namespace = Namespace::create(format!("{}s{number}", self.prefix));
        for device in ["tunl0", "gre0"] {
            let setting = format!("/proc/sys/net/ipv4/conf/{device}");
            if namespace.inside(|| Path::new(&setting).exists()) {
                skipped(
                    test,
                    &format!("this kernel has {device}, which takes the packets itself"),
                );
                return false;
            }
        }
        let link = format!("server{number}");
        namespace.connect("eth0", &self.client, &link);
        self.client.ip(&format!("link set {link} mtu {mtu}"));
        self.client
            .ip(&format!("address add {ROUTER_NARROW}/24 dev {link}"));
        self.client
            .inside(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        let rip = rip(number);
        namespace.ip(&format!("address add {rip}/24 dev eth0"));
        namespace.ip(&format!("route add default via {ROUTER_NARROW}"));
        let decapsulation = self.run_realserver(&namespace, rip, &["--gre", "--gue-port", "6080"]);
        self.start_server(namespace, number, Some(decapsulation));
        true
    }

    fn start_server(&mut self, namespace: Namespace, number: u8, decapsulation: Option<Process>) {
        wait_for("the real server has the VIP", || {
            namespace.inside(|| UdpSocket::bind((VIP, 0)).is_ok())
        });
        let http = HttpServer::start(&namespace, number, VIP.into());
        self.servers.push(RealServer {
            number,
            _http: http,
            _decapsulation: decapsulation,
            namespace,
        });
    }

    /// By the kernel where it can, else by our own program.
    fn decapsulate(&self, namespace: &Namespace, rip: Ipv4Addr) -> Option<Process> {
        let has_ipip = namespace.inside(|| Path::new("/proc/sys/net/ipv4/conf/tunl0").exists());
        if has_ipip {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/realserver.sh");
            let state = self.path(&namespace.name);
            namespace.inside(|| {
                run(&format!(
                    "env POINTSMAN_STATE={} {script} --vip {VIP}",
                    state.display()
                ))
            });
            return None;
        }
        Some(self.run_realserver(namespace, rip, &[]))
    }

    fn run_realserver(&self, namespace: &Namespace, rip: Ipv4Addr, options: &[&str]) -> Process {
        let (vip, local, director) = (
            VIP.to_string(),
            rip.to_string(),
            format!("{DIRECTOR_LAN}/32"),
        );
        let words = [
            env!("CARGO_BIN_EXE_pointsman"),
            "realserver",
            "--vip",
            &vip,
            "--local",
            &local,
            "--director",
            &director,
        ];
        let words = [&words[..], options].concat();
        namespace.spawn(&words, &self.path(&format!("{}.log", namespace.name)))
    }

    /// The namespace of a real server.
    pub(crate) fn server(&self, number: u8) -> &Namespace {
        let mut servers = self.servers.iter();
        let server = servers.find(|server| server.number == number);
        &server.unwrap().namespace
    }

    /// Takes a real server off the network, as a power failure does.
    pub(crate) fn kill_server(&self, number: u8) {
        self.server(number).ip("link set eth0 down");
    }

    /// Brings it back with this MAC address, and silently: the director has to
    /// find out.
    pub(crate) fn revive_server(&self, number: u8, mac: &str) {
        let server = self.server(number);
        server.ip(&format!("link set eth0 address {mac}"));
        server.ip("link set eth0 up");
        // The kernel forgets routes of an interface that is down.
        server.ip(&format!("route add default via {CLIENT_LAN}"));
    }

    /// A file of this test alone.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new connection of the client to the VIP.
    pub(crate) fn connect(&self) -> std::io::Result<Connection> {
        self.client.inside(Connection::open)
    }

    /// `count` requests, each on a connection of its own: which server answered
    /// each.
    pub(crate) fn ask(&self, count: usize) -> Vec<u8> {
        let one = || Connection::open()?.get().map(|answer| answer.server);
        self.client.inside(|| {
            (0..count)
                .map(|number| one().unwrap_or_else(|error| panic!("request {number}: {error}")))
                .collect()
        })
    }

    /// Requests without end in the background.
    pub(crate) fn load(&self) -> Load {
        Load::start(&self.client)
    }

    /// What most tests run: kernel interfaces, one worker, ordinary pages, all
    /// real servers with weight 1.
    pub(crate) fn configuration(&self) -> Configuration {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let numbers = 1..=u8::try_from(self.servers.len()).unwrap();
        Configuration {
            workers: vec![self.number % cores],
            hugepages: "none",
            wan: "net_af_packet0,iface=wan".to_owned(),
            lan: "net_af_packet1,iface=lan".to_owned(),
            vlan: None,
            servers: numbers.map(|number| (number, 1)).collect(),
            expire_nodest_conn: false,
            director_keys: "",
            more_services: 0,
            tunnel: "",
            in_rules: false,
            ipv6: false,
            more: String::new(),
        }
    }

    /// Starts a director and waits until its workers run.
    pub(crate) fn start_director(&self, configuration: &Configuration) -> Director {
        self.start_director_with(configuration, &[])
    }

    /// The same with variables in its environment: `["NAME=VALUE"]`.
    pub(crate) fn start_director_with(
        &self,
        configuration: &Configuration,
        environment: &[String],
    ) -> Director {
        self.write(configuration);
        Director::start(self, "director.log", environment)
    }

    /// With the configuration file as it stands.
    pub(crate) fn start_director_as_written(&self) -> Director {
        Director::start(self, "director.log", &[])
    }

    /// Gives the directory of the configuration and the control socket to a
    /// user, and lets everybody see it.
    pub(crate) fn give_directory_to(&self, user: u32) {
        let directory = self.directory.path();
        std::os::unix::fs::chown(directory, Some(user), None).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn configuration_file(&self) -> PathBuf {
        self.path("director.toml")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("control.sock")
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.path("state.json")
    }

    pub(crate) fn write(&self, configuration: &Configuration) {
        fs::write(self.configuration_file(), configuration.to_toml(self)).unwrap();
        if configuration.in_rules {
            fs::write(self.path("services.rules"), configuration.rules()).unwrap();
        }
    }
}

/// Address of a real server.
pub(crate) fn rip(number: u8) -> Ipv4Addr {
    if number == BEHIND_ROUTER {
        Ipv4Addr::new(10, 0, 1, 1)
    } else {
        Ipv4Addr::new(10, 0, 0, 10 + number)
    }
}
