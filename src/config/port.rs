//! `[[port]]`: NIC ports and their devices.
#![forbid(unsafe_code)]

use std::{collections::HashMap, str::FromStr};

use ipnet::IpNet;
use toml::Spanned;

use super::{
    Device, PortConfig,
    address::parse_interface,
    error::Problem,
    format::{PORT, nearest_of},
    hint::{DeviceHint, MacProblem},
    reader::{Findings, TableReader, parsed},
};
use crate::wire::{ethernet::MacAddr, ipv6};

/// A port as the file has it, with the places that later checks point at.
#[derive(Debug)]
pub(super) struct PortDraft {
    pub(super) name: Spanned<String>,
    pub(super) device: Spanned<Device>,
    pub(super) addresses: Vec<Spanned<IpNet>>,
    pub(super) mtu: u16,
    vlan: Option<u16>,
    mac: Option<MacAddr>,
    pub(super) rx_descriptors: u16,
    pub(super) tx_descriptors: u16,
}

impl PortDraft {
    pub(super) fn finish(self) -> PortConfig {
        PortConfig {
            name: self.name.into_inner(),
            device: self.device.into_inner(),
            addresses: self
                .addresses
                .into_iter()
                .map(Spanned::into_inner)
                .collect(),
            mtu: self.mtu,
            vlan: self.vlan,
            mac: self.mac,
            rx_descriptors: self.rx_descriptors,
            tx_descriptors: self.tx_descriptors,
        }
    }
}

/// Reads all ports; those without name or device are reported and left out.
pub(super) fn read_ports(
    file: &TableReader<'_, '_>,
    findings: &mut Findings<'_>,
) -> Vec<PortDraft> {
    let before = findings.problem_count();
    let tables = file.tables("port", &PORT, findings);
    if tables.is_empty() && findings.problem_count() == before && !file.is_meant("port") {
        findings.refuse_file(Problem::NoPort);
    }
    if tables.len() > PORTS_MAX {
        findings.refuse_file(Problem::TooManyPorts {
            count: tables.len(),
            max: PORTS_MAX,
        });
    }
    let ports: Vec<_> = tables
        .iter()
        .filter_map(|table| read_port(table, findings))
        .collect();
    check_unique(&ports, findings);
    ports
}

fn read_port(table: &TableReader<'_, '_>, findings: &mut Findings<'_>) -> Option<PortDraft> {
    let name = table.parsed("name", |text| parse_name(text, "port name"), findings);
    let name = table.require("name", name, findings);
    let device = table.parsed("device", parse_device, findings);
    let device = table.require("device", device, findings);
    let addresses: Vec<_> = table
        .texts("addresses", findings)
        .unwrap_or_default()
        .iter()
        .filter_map(|text| parsed(text, parse_interface, findings))
        .collect();
    let mut number = |key, range, unit| table.number(key, range, unit, findings);
    let mtu = number("mtu", MTU_MIN..=MTU_MAX, " bytes");
    let vlan = number("vlan", 1..=4094, "");
    let rx_descriptors = number("rx_descriptors", DESCRIPTORS_MIN..=DESCRIPTORS_MAX, "");
    let tx_descriptors = number("tx_descriptors", DESCRIPTORS_MIN..=DESCRIPTORS_MAX, "");
    let mac = table.parsed("mac", parse_mac, findings);
    let has_ipv6 = addresses
        .iter()
        .any(|network: &Spanned<IpNet>| matches!(network.get_ref(), IpNet::V6(_)));
    if has_ipv6
        && let Some(mtu) = &mtu
        && *mtu.get_ref() < ipv6::MTU_MIN
    {
        findings.refuse(mtu.span(), Problem::MtuBelowIpv6(*mtu.get_ref()));
    }
    Some(PortDraft {
        name: name?,
        device: device?,
        addresses,
        mtu: mtu.map_or(MTU_DEFAULT, Spanned::into_inner),
        vlan: vlan.map(Spanned::into_inner),
        mac: mac.map(Spanned::into_inner),
        rx_descriptors: rx_descriptors.map_or(DESCRIPTORS_DEFAULT, Spanned::into_inner),
        tx_descriptors: tx_descriptors.map_or(DESCRIPTORS_DEFAULT, Spanned::into_inner),
    })
}

fn check_unique(ports: &[PortDraft], findings: &mut Findings<'_>) {
    let mut names = HashMap::new();
    let mut devices = HashMap::new();
    for port in ports {
        let name = port.name.get_ref();
        if let Some(first) = names.insert(name, port.name.span()) {
            let line = findings.line(&first);
            let problem = Problem::PortNameTwice {
                name: name.clone(),
                line,
            };
            findings.refuse(port.name.span(), problem);
        }
        let device = match port.device.get_ref() {
            Device::Pci(address) => address.as_str(),
            Device::Vdev(text) => text.split(',').next().unwrap_or_default(),
        };
        if let Some(first) = devices.insert(device, port.device.span()) {
            let line = findings.line(&first);
            let problem = Problem::DeviceTwice {
                device: device.to_owned(),
                line,
            };
            findings.refuse(port.device.span(), problem);
        }
    }
}

/// A name that can stand in tables, file names and EAL arguments.
pub(super) fn parse_name(text: &str, what: &'static str) -> Result<String, Problem> {
    let fits = (1..=NAME_LEN_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if fits {
        Ok(text.to_owned())
    } else {
        Err(Problem::BadName {
            value: text.to_owned(),
            what,
        })
    }
}

/// A MAC address that a host can have.
pub(super) fn parse_mac(text: &str) -> Result<MacAddr, Problem> {
    let mac: MacAddr = text.parse().map_err(MacProblem::from)?;
    if mac.is_multicast() {
        Err(MacProblem::Group(mac).into())
    } else if mac == MacAddr::default() {
        Err(MacProblem::Zero.into())
    } else {
        Ok(mac)
    }
}

fn parse_device(text: &str) -> Result<Device, Problem> {
    let refuse = |hint| {
        Err(Problem::NotADevice {
            value: text.to_owned(),
            hint,
        })
    };
    if is_pci_address(text) {
        return Ok(Device::Pci(text.to_ascii_lowercase()));
    }
    let with_domain = format!("0000:{text}");
    if is_pci_address(&with_domain) {
        return refuse(DeviceHint::FullPciAddress(with_domain.to_ascii_lowercase()));
    }
    let (name, arguments) = text
        .split_once(',')
        .map_or((text, None), |(n, a)| (n, Some(a)));
    let driver = name.trim_end_matches(|character: char| character.is_ascii_digit());
    let Some(known) = DRIVERS.iter().find(|known| known.name == driver) else {
        return refuse(if let Some(near) = nearest_driver(driver) {
            DeviceHint::DidYouMean(near)
        } else if !name.contains(':') && parse_name(text, "").is_ok() {
            DeviceHint::KernelInterface(text.to_owned())
        } else {
            DeviceHint::Forms
        });
    };
    if driver == name {
        return refuse(DeviceHint::InstanceNumber(known.name));
    }
    let mut has_argument = known.needs.is_empty();
    for argument in arguments.iter().flat_map(|arguments| arguments.split(',')) {
        let key = match argument.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => key,
            _ => return refuse(DeviceHint::BadArgument(argument.to_owned())),
        };
        has_argument |= known.needs.contains(&key);
    }
    if has_argument {
        Ok(Device::Vdev(text.to_owned()))
    } else {
        refuse(DeviceHint::MissingArgument(format!(
            "{name},{}",
            known.example
        )))
    }
}

impl FromStr for Device {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_device(text)
    }
}

fn nearest_driver(driver: &str) -> Option<&'static str> {
    let named = |driver: &str| nearest_of(DRIVERS.iter().map(|known| known.name), driver);
    named(driver).or_else(|| {
        let prefixed = format!("net_{driver}");
        DRIVERS
            .iter()
            .map(|known| known.name)
            .find(|name| *name == prefixed)
    })
}

/// "0000:01:00.0": domain, bus and device in hexadecimal, function 0 to 7.
fn is_pci_address(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == "0000:01:00.0".len()
        && bytes.iter().enumerate().all(|(index, byte)| match index {
            4 | 7 => *byte == b':',
            10 => *byte == b'.',
            11 => (b'0'..=b'7').contains(byte),
            _ => byte.is_ascii_hexdigit(),
        })
}

/// A driver of virtual devices.
struct Driver {
    name: &'static str,
    /// Arguments of which it needs at least one.
    needs: &'static [&'static str],
    /// The like of them, as an example.
    example: &'static str,
}

const fn driver(
    name: &'static str,
    needs: &'static [&'static str],
    example: &'static str,
) -> Driver {
    Driver {
        name,
        needs,
        example,
    }
}

/// The virtual devices of DPDK that carry Ethernet frames.
const DRIVERS: [Driver; 10] = [
    driver("net_af_packet", &["iface"], "iface=veth0"),
    driver("net_af_xdp", &["iface"], "iface=veth0"),
    driver("net_tap", &[], ""),
    driver("net_memif", &[], ""),
    driver(
        "net_pcap",
        PCAP_ARGUMENTS,
        "rx_pcap=in.pcap,tx_pcap=out.pcap",
    ),
    driver("net_ring", &[], ""),
    driver("net_null", &[], ""),
    driver("net_virtio_user", &["path"], "path=/run/vhost.sock"),
    driver("net_vhost", &["iface"], "iface=/run/vhost.sock"),
    driver("net_bonding", &["mode"], "mode=4,slave=0000:01:00.0"),
];

const PCAP_ARGUMENTS: &[&str] = &[
    "rx_pcap",
    "tx_pcap",
    "rx_iface",
    "rx_iface_in",
    "tx_iface",
    "iface",
];

/// RFC 791: every host forwards 68 bytes without fragmentation.
pub(super) const MTU_MIN: u16 = 68;
/// What jumbo frames of 9728 bytes leave, less Ethernet header, tag and FCS.
pub(super) const MTU_MAX: u16 = 9702;

const MTU_DEFAULT: u16 = 1500;
const DESCRIPTORS_DEFAULT: u16 = 1024;
const DESCRIPTORS_MIN: u16 = 64;
const DESCRIPTORS_MAX: u16 = 32_768;
const NAME_LEN_MAX: usize = 32;
/// `RTE_MAX_ETHPORTS` of DPDK's default build.
const PORTS_MAX: usize = 32;
