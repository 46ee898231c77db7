//! The configuration files of the tests.

use std::net::Ipv4Addr;

use super::{
    ipv6::Ipv6Text,
    lab::{BEHIND_ROUTER, CLIENT_LAN, DIRECTOR_LAN, DIRECTOR_WAN, Lab, Shape, VIP, rip},
};

/// A configuration file, as far as tests differ in it.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    pub(crate) workers: Vec<usize>,
    pub(crate) hugepages: &'static str,
    /// Device of the port "wan"; not used on one arm.
    pub(crate) wan: String,
    /// Device of the port "lan".
    pub(crate) lan: String,
    /// Tag of the port "lan".
    pub(crate) vlan: Option<u16>,
    /// Real servers with their weights.
    pub(crate) servers: Vec<(u8, u32)>,
    pub(crate) expire_nodest_conn: bool,
    /// More keys of `[director]`, a line each.
    pub(crate) director_keys: &'static str,
    /// Services at VIPs of their own, in 198.18.0.0/16.
    pub(crate) more_services: u16,
    /// Keys of each real server about its tunnel, a line each.
    pub(crate) tunnel: &'static str,
    /// Whether the services stand in a file of ipvsadm.
    pub(crate) in_rules: bool,
    /// Whether ports have IPv6 addresses, and there are services with it.
    pub(crate) ipv6: bool,
    /// More tables, as they stand in the file.
    pub(crate) more: String,
}

impl Configuration {
    pub(super) fn to_toml(&self, lab: &Lab) -> String {
        let ipv6 = self.ipv6.then(|| Ipv6Text::of(&self.servers, self.tunnel));
        let mut parts = vec![self.director(lab)];
        if lab.shape == Shape::TwoArms {
            parts.push(port(
                "wan",
                &self.wan,
                DIRECTOR_WAN,
                ipv6.as_ref().map(|text| &text.wan),
            ));
        }
        parts.push(port(
            "lan",
            &self.lan,
            DIRECTOR_LAN,
            ipv6.as_ref().map(|text| &text.lan),
        ));
        if let Some(vlan) = self.vlan {
            parts.push(format!("vlan = {vlan}\n"));
        }
        if self
            .servers
            .iter()
            .any(|(number, _)| *number == BEHIND_ROUTER)
        {
            let rip = rip(BEHIND_ROUTER);
            parts.push(format!(
                "[[route]]\nto = \"{rip}/32\"\nvia = \"{CLIENT_LAN}\"\n"
            ));
            parts.extend(ipv6.as_ref().map(|text| text.route_behind_router.clone()));
        }
        parts.push(self.more.clone());
        if self.in_rules {
            return parts.concat();
        }
        parts.push(self.service(VIP, 80, "tcp"));
        parts.push(self.service(VIP, 7, "udp"));
        parts.extend((0..self.more_services).map(|number| {
            let [high, low] = number.to_be_bytes();
            self.service(Ipv4Addr::new(198, 18, high, low), 80, "tcp")
        }));
        parts.extend(ipv6.map(|text| text.services));
        parts.concat()
    }

    /// The same services as `ipvsadm -Sn` would save them.
    pub(super) fn rules(&self) -> String {
        let service = |option: &str, l4_port: u16| {
            let name = format!("{option} {VIP}:{l4_port}");
            let server = |&(number, weight): &(u8, u32)| {
                let rip = rip(number);
                format!("-a {name} -r {rip}:{l4_port} -i -w {weight} --tun-type ipip\n")
            };
            let servers: Vec<_> = self.servers.iter().map(server).collect();
            format!("-A {name} -s rr\n{}", servers.concat())
        };
        service("-t", 80) + &service("-u", 7)
    }

    fn director(&self, lab: &Lab) -> String {
        let services_file = if self.in_rules {
            "services_file = \"services.rules\"\n"
        } else {
            ""
        };
        let memory_mib = 128 * self.workers.len();
        format!(
            "[director]\n\
             workers = {:?}\n\
             connections_max = 16384\n\
             control_socket = \"{}\"\n\
             state_file = \"{}\"\n\
             {services_file}\
             {}\
             [director.ipvs]\n\
             expire_nodest_conn = {}\n\
             [eal]\n\
             hugepages = \"{}\"\n\
             memory_mib = {memory_mib}\n\
             file_prefix = \"{}\"\n",
            self.workers,
            lab.socket().display(),
            lab.state_file().display(),
            self.director_keys,
            self.expire_nodest_conn,
            self.hugepages,
            lab.prefix
        )
    }

    fn service(&self, vip: Ipv4Addr, l4_port: u16, protocol: &str) -> String {
        let servers: Vec<_> = self
            .servers
            .iter()
            .map(|&(number, weight)| {
                format!(
                    "[[service.real_server]]\naddress = \"{}\"\nweight = {weight}\n{}",
                    rip(number),
                    self.tunnel
                )
            })
            .collect();
        format!(
            "[[service]]\n\
             address = \"{vip}:{l4_port}\"\n\
             protocol = \"{protocol}\"\n\
             scheduler = \"rr\"\n\
             {}",
            servers.concat()
        )
    }
}

fn port(name: &str, device: &str, address: Ipv4Addr, ipv6: Option<&String>) -> String {
    let ipv6 = ipv6
        .map(|network| format!(", \"{network}\""))
        .unwrap_or_default();
    format!(
        "[[port]]\n\
         name = \"{name}\"\n\
         device = \"{device}\"\n\
         addresses = [\"{address}/24\"{ipv6}]\n\
         rx_descriptors = 512\n\
         tx_descriptors = 512\n"
    )
}
