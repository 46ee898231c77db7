//! IPv6 beside IPv4 in a [`Lab`].
//!
//! ```text
//!  service                  real server          tunnel
//!  [2001:db8:ff::10]:80     2001:db8:2::1N       IPv6 in IPv6
//!  [2001:db8:ff::11]:80     10.0.0.1N            IPv6 in IPv4
//!  198.51.100.11:80         2001:db8:2::1N       IPv4 in IPv6
//! ```
//!
//! The real server behind the narrow link is `2001:db8:3::1`.

use std::{
    fmt::Write as _,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::Path,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{
    http::{Connection, HttpServer},
    lab::{BEHIND_ROUTER, DIRECTOR_LAN, Lab, rip, skipped},
    namespace::{Namespace, PATIENCE, Process, wait_for},
};

pub(crate) const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x10);
pub(crate) const VIP6_OVER_IPV4: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x11);
pub(crate) const VIP_OVER_IPV6: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 11);
pub(crate) const DIRECTOR_WAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const DIRECTOR_LAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
const CLIENT_WAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xfe);
const CLIENT_LAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0xfe);
/// The router's address towards the real server behind it.
const ROUTER_NARROW6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 0xfe);

/// What real servers have besides; everything goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Ipv6Servers {
    _http: Vec<HttpServer>,
    _decapsulation: Vec<Process>,
}

impl Lab {
    /// Gives a network of two arms IPv6 addresses, and its real servers the
    /// far ends of the tunnels. `None`, with the reason printed, where the
    /// kernel has no IPv6.
    pub(crate) fn add_ipv6(&self, test: &str, servers: u8) -> Option<Ipv6Servers> {
        if !self.add_ipv6_to_client(test) {
            return None;
        }
        let (http, decapsulation): (Vec<_>, Vec<_>) = (1..=servers)
            .map(|number| self.add_ipv6_to_server(number, CLIENT_LAN6, &[]))
            .unzip();
        Some(Ipv6Servers {
            _http: http,
            _decapsulation: decapsulation.into_flattened(),
        })
    }

    /// The same with the real server behind the narrow link alone, which takes
    /// what directors send to its IPv6 address in any tunnel, and IPv6 in IPv4.
    pub(crate) fn add_ipv6_behind_narrow_link(&self, test: &str) -> Option<Ipv6Servers> {
        for device in ["sit0", "ip6tnl0", "ip6gre0"] {
            let setting = format!("/proc/sys/net/ipv4/conf/{device}");
            let server = self.server(BEHIND_ROUTER);
            if server.inside(|| Path::new(&setting).exists()) {
                skipped(
                    test,
                    &format!("this kernel has {device}, which takes the packets itself"),
                );
                return None;
            }
        }
        if !self.add_ipv6_to_client(test) {
            return None;
        }
        let link = format!("server{BEHIND_ROUTER}");
        enable(&self.client, &link);
        self.client
            .ip(&format!("address add {ROUTER_NARROW6}/64 dev {link} nodad"));
        self.client.set("ipv6/conf/all/forwarding", "1");
        let options = ["--gre", "--gue-port", "6080"];
        let (http, decapsulation) =
            self.add_ipv6_to_server(BEHIND_ROUTER, ROUTER_NARROW6, &options);
        Some(Ipv6Servers {
            _http: vec![http],
            _decapsulation: decapsulation.into(),
        })
    }

    fn add_ipv6_to_client(&self, test: &str) -> bool {
        if !Path::new("/proc/sys/net/ipv6").exists() {
            skipped(test, "the kernel has no IPv6");
            return false;
        }
        for device in ["lo", "wan", "servers"] {
            enable(&self.client, device);
        }
        let client = &self.client;
        client.ip(&format!("address add {CLIENT_WAN6}/64 dev wan nodad"));
        client.ip(&format!("address add {CLIENT_LAN6}/64 dev servers nodad"));
        for vip in [VIP6, VIP6_OVER_IPV4] {
            client.ip(&format!("-6 route add {vip}/128 via {DIRECTOR_WAN6}"));
        }
        client.ip(&format!(
            "route add {VIP_OVER_IPV6}/32 via {}",
            super::DIRECTOR_WAN
        ));
        true
    }

    /// `options` are those of the end of its tunnels over IPv6.
    fn add_ipv6_to_server(
        &self,
        number: u8,
        router: Ipv6Addr,
        options: &[&str],
    ) -> (HttpServer, [Process; 2]) {
        let server = self.server(number);
        for device in ["lo", "eth0"] {
            enable(server, device);
        }
        let rip6 = rip6(number);
        server.ip(&format!("address add {rip6}/64 dev eth0 nodad"));
        server.ip(&format!("-6 route add default via {router}"));
        let over_ipv6 = [IpAddr::from(VIP6), VIP_OVER_IPV6.into()];
        let over_ipv4 = [IpAddr::from(VIP6_OVER_IPV4)];
        let lan = (IpAddr::from(DIRECTOR_LAN6), IpAddr::from(DIRECTOR_LAN));
        let over6 = [&["--tun", "over6"], options].concat();
        let over4 = ["--tun", "over4"];
        let processes = [
            self.decapsulate_with(server, &over_ipv6, (rip6.into(), lan.0), &over6),
            self.decapsulate_with(server, &over_ipv4, (rip(number).into(), lan.1), &over4),
        ];
        let vips = [
            IpAddr::from(VIP6),
            VIP6_OVER_IPV4.into(),
            VIP_OVER_IPV6.into(),
        ];
        for vip in vips {
            wait_for("the real server has the VIP", || {
                server.inside(|| TcpListener::bind((vip, 0)).is_ok())
            });
        }
        let http = HttpServer::start(server, number, VIP6.into());
        (http, processes)
    }

    fn decapsulate_with(
        &self,
        server: &Namespace,
        vips: &[IpAddr],
        (local, director): (IpAddr, IpAddr),
        options: &[&str],
    ) -> Process {
        let mut words = vec![
            env!("CARGO_BIN_EXE_pointsman").to_owned(),
            "realserver".to_owned(),
        ];
        for vip in vips {
            words.extend(["--vip".to_owned(), vip.to_string()]);
        }
        let length = if director.is_ipv6() { 128 } else { 32 };
        words.extend([
            "--local".to_owned(),
            local.to_string(),
            "--director".to_owned(),
            format!("{director}/{length}"),
        ]);
        let words = words.iter().map(String::as_str);
        let words: Vec<&str> = words.chain(options.iter().copied()).collect();
        server.spawn(&words, &self.path(&format!("{}-{local}.log", server.name)))
    }

    /// The client's answers of `count` connections to port 80 of a VIP.
    pub(crate) fn ask_at(&self, vip: IpAddr, count: usize) -> Vec<u8> {
        let one = || {
            let mut connection = Connection::open_to(SocketAddr::new(vip, 80))?;
            connection.get().map(|answer| answer.server)
        };
        self.client.inside(|| {
            (0..count)
                .map(|number| one().unwrap_or_else(|error| panic!("{vip} {number}: {error}")))
                .collect()
        })
    }

    /// A new connection of the client to port 80 of a VIP.
    pub(crate) fn connect_to(&self, vip: IpAddr) -> io::Result<Connection> {
        self.client
            .inside(|| Connection::open_to(SocketAddr::new(vip, 80)))
    }
}

/// The IPv6 part of a configuration file.
pub(super) struct Ipv6Text {
    pub(super) wan: String,
    pub(super) lan: String,
    pub(super) services: String,
    /// To the real server behind the narrow link.
    pub(super) route_behind_router: String,
}

impl Ipv6Text {
    /// `tunnel` is what each real server says about its tunnel.
    pub(super) fn of(servers: &[(u8, u32)], tunnel: &str) -> Self {
        let mut services = String::new();
        for (vip, over_ipv6) in [
            (IpAddr::from(VIP6), true),
            (VIP6_OVER_IPV4.into(), false),
            (VIP_OVER_IPV6.into(), true),
        ] {
            let address = SocketAddr::new(vip, 80);
            write!(
                services,
                "[[service]]\naddress = \"{address}\"\nscheduler = \"rr\"\n"
            )
            .unwrap();
            for &(number, weight) in servers {
                let address = if over_ipv6 {
                    IpAddr::from(rip6(number))
                } else {
                    rip(number).into()
                };
                write!(
                    services,
                    "[[service.real_server]]\naddress = \"{address}\"\nweight = {weight}\n{tunnel}"
                )
                .unwrap();
            }
        }
        Self {
            wan: format!("{DIRECTOR_WAN6}/64"),
            lan: format!("{DIRECTOR_LAN6}/64"),
            services,
            route_behind_router: format!(
                "[[route]]\nto = \"{}/128\"\nvia = \"{CLIENT_LAN6}\"\n",
                rip6(BEHIND_ROUTER)
            ),
        }
    }
}

/// Address of a real server.
pub(crate) fn rip6(number: u8) -> Ipv6Addr {
    if number == BEHIND_ROUTER {
        Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 1)
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10 + u16::from(number))
    }
}

/// Sends echo requests until one is answered, and returns its data.
pub(crate) fn ping6(namespace: &Namespace, address: Ipv6Addr, data: &[u8]) -> Option<Vec<u8>> {
    let mut socket =
        namespace.inside(|| Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).unwrap());
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    // The kernel fills in the checksum.
    let message = [&[128, 0, 0, 0, 0x50, 0x4d, 0, 1], data].concat();
    let to = SockAddr::from(SocketAddr::new(address.into(), 0));
    let start = Instant::now();
    let mut buffer = vec![0; 2048];
    while start.elapsed() < PATIENCE / 2 {
        socket.send_to(&message, &to).unwrap();
        while let Ok(len) = socket.read(&mut buffer) {
            if buffer[0] == 129 && buffer[4..8] == [0x50, 0x4d, 0, 1] {
                return Some(buffer[8..len].to_vec());
            }
        }
    }
    None
}

/// Lets a device take part in IPv6, without waiting for objections.
fn enable(namespace: &Namespace, device: &str) {
    namespace.set(&format!("ipv6/conf/{device}/accept_dad"), "0");
    namespace.set(&format!("ipv6/conf/{device}/accept_ra"), "0");
    namespace.set(&format!("ipv6/conf/{device}/disable_ipv6"), "0");
}
