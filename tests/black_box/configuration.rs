//! The files of the director under test: TOML, and services as `ipvsadm` saves
//! them.

use std::fmt::Write as _;

use pointsman::{
    config::{RouteAction, RouteConfig},
    control::{
        command::{Command, CommandError},
        status::{NextHopStatus, Rates, ServerStatus, ServiceStatus, Statistics},
    },
    ipvsadm::listing,
    service::{
        MarkGroup, ServerKey, ServerOptions, ServiceKey, ServiceOptions, TUNABLES, Timeouts,
        Tunables,
    },
};

use crate::{network::Network, process::By};

/// What the commands of a case have made of the director so far.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// DPDK's driver of both ports.
    pub driver: &'static str,
    pub network: Network,
    pub services: Vec<Service>,
    pub tunables: Tunables,
    pub timeouts: Timeouts,
    pub icmp_rate_per_s: u32,
}

/// A service with its servers in the order in which they were added.
#[derive(Clone, Debug)]
pub struct Service {
    key: ServiceKey,
    options: ServiceOptions,
    servers: Vec<(ServerKey, ServerOptions)>,
}

impl Configuration {
    /// A director without services, whose ports have this driver.
    pub fn new(driver: &'static str, network: &Network) -> Self {
        Self {
            driver,
            network: network.clone(),
            services: Vec::new(),
            tunables: Tunables::default(),
            timeouts: Timeouts::default(),
            icmp_rate_per_s: 0,
        }
    }

    /// The effect of a command on the files. Those that the files cannot
    /// express are errors of the outer kind.
    pub fn apply(&mut self, command: &Command) -> Result<Result<(), CommandError>, String> {
        let effect = match command {
            Command::AddService(key, options) => self.add_service(*key, *options),
            Command::EditService(key, options) => {
                self.service(key).map(|service| service.options = *options)
            }
            Command::DeleteService(key) => {
                let found = self.service(key).map(drop);
                self.services.retain(|service| service.key != *key);
                found
            }
            Command::AddServer(service, key, options) => self
                .service(service)
                .and_then(|found| found.add(*key, *options)),
            Command::EditServer(service, key, options) => {
                let found = self.service(service).and_then(|found| found.server(key));
                match found {
                    // It sets the cursor of wrr back, which only a command can.
                    Ok(old) if *old == *options => {
                        return Err("an edit that changes nothing cannot be seen in a file".into());
                    }
                    found => found.map(|old| *old = *options),
                }
            }
            Command::DeleteServer(service, key) => self.service(service).and_then(|found| {
                found.server(key)?;
                found.servers.retain(|(server, _)| server != key);
                Ok(())
            }),
            Command::Flush => {
                self.services.clear();
                Ok(())
            }
            Command::Zero(_) => return Err("counters cannot be set back to 0".to_owned()),
            Command::SetTimeouts(timeouts) => {
                self.timeouts = *timeouts;
                Ok(())
            }
            Command::SetTunables(tunables) => {
                self.tunables = *tunables;
                Ok(())
            }
        };
        Ok(effect)
    }

    fn add_service(
        &mut self,
        key: ServiceKey,
        options: ServiceOptions,
    ) -> Result<(), CommandError> {
        if self.service(&key).is_ok() {
            return Err(CommandError::ServiceExists(key));
        }
        self.services.push(Service {
            key,
            options,
            servers: Vec::new(),
        });
        Ok(())
    }

    fn service(&mut self, key: &ServiceKey) -> Result<&mut Service, CommandError> {
        self.services
            .iter_mut()
            .find(|service| service.key == *key)
            .ok_or(CommandError::NoSuchService(*key))
    }

    /// The file of services.
    pub fn rules(&self) -> String {
        let mut text = String::new();
        for service in &self.services {
            text.push_str(&listing::save(&[service.status(&[])]));
            for server in &service.servers {
                let saved = listing::save(&[service.status(std::slice::from_ref(server))]);
                let line = saved.lines().last().unwrap_or_default();
                let options = &server.1;
                let _ = write!(text, "{line}");
                if options.upper_threshold > 0 {
                    let _ = write!(text, " -x {}", options.upper_threshold);
                }
                if options.lower_threshold > 0 {
                    let _ = write!(text, " -y {}", options.lower_threshold);
                }
                text.push('\n');
            }
        }
        text
    }

    /// The configuration, which names `socket` and the file of services, if
    /// there is one.
    pub fn toml(&self, by: By, socket: &str, prefix: &str) -> String {
        let services_file = match by {
            By::File => format!("services_file = \"{RULES_FILE}\"\n"),
            By::Ipvsadm => String::new(),
        };
        let mut text = format!(
            "[director]\n\
             workers = [0]\n\
             connections_max = 4096\n\
             control_socket = \"{socket}\"\n\
             state_file = \"none\"\n\
             icmp_rate_per_s = {}\n\
             {services_file}",
            self.icmp_rate_per_s
        );
        let Timeouts { tcp, tcp_fin, udp } = self.timeouts;
        let _ = writeln!(
            text,
            "[director.timeouts]\ntcp = {tcp}\ntcp_fin = {tcp_fin}\nudp = {udp}\n[director.ipvs]"
        );
        for tunable in &TUNABLES {
            let _ = writeln!(text, "{} = {}", tunable.name, tunable.of(&self.tunables));
        }
        let _ = writeln!(
            text,
            "[eal]\nhugepages = \"none\"\nmemory_mib = 128\nfile_prefix = \"{prefix}\""
        );
        // Marks that no service has are of no effect.
        let has_mark = |group: &MarkGroup| {
            self.services.iter().any(|service| {
                matches!(service.key, ServiceKey::Mark { fwmark, .. } if fwmark == group.fwmark)
            })
        };
        let mut mark_groups = self.network.mark_groups();
        mark_groups.retain(|group| by == By::Ipvsadm || has_mark(group));
        for (index, port) in self.network.ports.iter().enumerate() {
            // A VIP with a service is local by that, and is not to be said twice.
            let addresses: Vec<_> = port
                .addresses
                .iter()
                .filter(|network| {
                    let has_address =
                        |service: &Service| service.key.vips() == Some(network.addr().into());
                    let is_marked = |group: &MarkGroup| group.vips.contains(&network.addr().into());
                    !self.services.iter().any(has_address) && !mark_groups.iter().any(is_marked)
                })
                .map(|network| format!("\"{network}\""))
                .collect();
            let _ = writeln!(
                text,
                "[[port]]\n\
                 name = \"vec{index}\"\n\
                 device = \"{}{index},iface=vec{index}\"\n\
                 addresses = [{}]\n\
                 mtu = {}\n\
                 rx_descriptors = 512\n\
                 tx_descriptors = 512",
                self.driver,
                addresses.join(", "),
                port.mtu
            );
        }
        for route in &self.network.routes {
            write_route(&mut text, route);
        }
        for group in &mark_groups {
            write_mark_group(&mut text, group);
        }
        for neighbor in &self.network.neighbors {
            let _ = writeln!(
                text,
                "[[neighbor]]\nport = \"vec{}\"\naddress = \"{}\"\nmac = \"{}\"",
                neighbor.port, neighbor.address, neighbor.mac
            );
        }
        text
    }
}

fn write_mark_group(text: &mut String, group: &MarkGroup) {
    let quoted = |words: Vec<String>| {
        let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
        words.join(", ")
    };
    let vips = group.vips.iter().map(ToString::to_string).collect();
    let ports = group.l4_ports.iter();
    let ports = ports.map(|range| format!("{}-{}", range.start(), range.end()));
    let protocols = group.protocols.iter();
    let protocols = protocols.map(|protocol| protocol.to_string().to_lowercase());
    let _ = writeln!(
        text,
        "[[fwmark]]\nnumber = {}\nvips = [{}]\nprotocols = [{}]\nports = [{}]",
        group.fwmark,
        quoted(vips),
        quoted(protocols.collect()),
        quoted(ports.collect())
    );
}

impl Service {
    fn add(&mut self, key: ServerKey, options: ServerOptions) -> Result<(), CommandError> {
        if self.server(&key).is_ok() {
            return Err(CommandError::ServerExists(self.key, key));
        }
        self.servers.push((key, options));
        Ok(())
    }

    fn server(&mut self, key: &ServerKey) -> Result<&mut ServerOptions, CommandError> {
        let servers = self.servers.iter_mut();
        servers
            .filter(|(server, _)| server == key)
            .map(|(_, options)| options)
            .next()
            .ok_or(CommandError::NoSuchServer(self.key, *key))
    }

    fn status(&self, servers: &[(ServerKey, ServerOptions)]) -> ServiceStatus {
        let server = |&(key, options): &(ServerKey, ServerOptions)| ServerStatus {
            key,
            options,
            active_connections: 0,
            inactive_connections: 0,
            templates: 0,
            overloaded: false,
            next_hop: NextHopStatus::NoRoute,
            path_mtu: 0,
            rates: Rates::default(),
            statistics: Statistics::default(),
        };
        ServiceStatus {
            key: self.key,
            options: self.options,
            servers: servers.iter().map(server).collect(),
            rates: Rates::default(),
            statistics: Statistics::default(),
        }
    }
}

fn write_route(text: &mut String, route: &RouteConfig) {
    let _ = writeln!(text, "[[route]]\nto = \"{}\"", route.to);
    let _ = match &route.action {
        RouteAction::Forward {
            via,
            port,
            source,
            mtu,
        } => {
            let via = via.map_or_else(String::new, |via| format!("via = \"{via}\"\n"));
            let source =
                source.map_or_else(String::new, |source| format!("source = \"{source}\"\n"));
            let mtu = mtu.map_or_else(String::new, |mtu| format!("mtu = {mtu}\n"));
            writeln!(text, "{via}port = \"vec{port}\"\n{source}{mtu}")
        }
        RouteAction::Unreachable => writeln!(text, "type = \"unreachable\""),
        RouteAction::Blackhole => writeln!(text, "type = \"blackhole\""),
    };
}

/// Beside the configuration.
pub const RULES_FILE: &str = "services.rules";
