//! `[[fwmark]]`: which packets have which firewall mark.
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;

use ipnet::IpNet;
use toml::{Spanned, de::DeValue};

use super::{
    address::parse_vips,
    error::Problem,
    format::FWMARK,
    reader::{Findings, TableReader, parsed},
};
use crate::service::{MarkGroup, Protocol};

/// A group that has been read, with the places of its VIPs.
#[derive(Debug)]
pub(super) struct MarkDraft {
    pub(super) fwmark: u32,
    pub(super) vips: Vec<Spanned<IpNet>>,
    protocols: Vec<Protocol>,
    l4_ports: Vec<RangeInclusive<u16>>,
}

impl MarkDraft {
    pub(super) fn finish(self) -> MarkGroup {
        MarkGroup {
            fwmark: self.fwmark,
            vips: self.vips.into_iter().map(Spanned::into_inner).collect(),
            protocols: self.protocols,
            l4_ports: self.l4_ports,
        }
    }
}

/// Reads all groups; those without a number are reported and left out.
pub(super) fn read_marks(
    file: &TableReader<'_, '_>,
    findings: &mut Findings<'_>,
) -> Vec<MarkDraft> {
    let tables = file.tables("fwmark", &FWMARK, findings);
    tables
        .iter()
        .filter_map(|table| read_mark(table, findings))
        .collect()
}

fn read_mark(table: &TableReader<'_, '_>, findings: &mut Findings<'_>) -> Option<MarkDraft> {
    let number = table.number("number", 1..=u32::MAX, "", findings);
    let number = table.require("number", number, findings);
    let mut texts = |name| table.texts(name, findings).unwrap_or_default();
    let (vips, ports) = (texts("vips"), texts("ports"));
    let vips = vips
        .iter()
        .filter_map(|text| parsed(text, parse_vips, findings))
        .collect();
    let l4_ports = ports
        .iter()
        .filter_map(|text| parsed(text, parse_ports, findings))
        .map(Spanned::into_inner)
        .collect();
    let protocol = |value: &DeValue<'_>| match value.as_str()? {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    };
    let expected = "\"tcp\", \"udp\" or \"sctp\"";
    let protocols = table.list("protocols", expected, protocol, findings);
    let protocols = protocols.map(Spanned::into_inner).unwrap_or_default();
    Some(MarkDraft {
        fwmark: number?.into_inner(),
        vips,
        protocols: protocols.into_iter().map(Spanned::into_inner).collect(),
        l4_ports,
    })
}

/// A port, or a range of them.
fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, Problem> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err(Problem::NotPorts(text.to_owned())),
    }
}
