//! Frames as text, for whoever reads a failure.

use std::fmt::Write as _;

use etherparse::{
    ArpPacketSlice, EtherType, Ethernet2Slice, Icmpv4Slice, Icmpv6Slice, IpNumber, Ipv4Slice,
    Ipv6Slice, SingleVlanSlice, TcpSlice, UdpSlice,
};

/// Describes an Ethernet frame layer by layer.
pub fn describe(frame: &[u8]) -> String {
    let mut text = String::new();
    let Ok(ethernet) = Ethernet2Slice::from_slice_without_fcs(frame) else {
        return format!("{} bytes, no Ethernet frame", frame.len());
    };
    let _ = write!(
        text,
        "{}>{}",
        mac(ethernet.source()),
        mac(ethernet.destination())
    );
    let mut payload = ethernet.payload_slice();
    let mut ether_type = ethernet.ether_type();
    if ether_type == EtherType::VLAN_TAGGED_FRAME
        && let Ok(vlan) = SingleVlanSlice::from_slice(payload)
    {
        let _ = write!(text, " VLAN {}", vlan.vlan_identifier().value());
        ether_type = vlan.ether_type();
        payload = vlan.payload_slice();
    }
    match ether_type {
        EtherType::ARP => describe_arp(&mut text, payload),
        EtherType::IPV4 => describe_ipv4(&mut text, payload),
        EtherType::IPV6 => describe_ipv6(&mut text, payload),
        EtherType(other) => {
            let _ = write!(text, " ether type {other:04x}");
        }
    }
    text
}

fn describe_arp(text: &mut String, bytes: &[u8]) {
    let Ok(arp) = ArpPacketSlice::from_slice(bytes) else {
        text.push_str(" ARP, damaged");
        return;
    };
    let _ = write!(
        text,
        " ARP[op={} {} {}>{} {}]",
        arp.operation().0,
        dotted(arp.sender_hw_addr(), ':'),
        dotted(arp.sender_protocol_addr(), '.'),
        dotted(arp.target_hw_addr(), ':'),
        dotted(arp.target_protocol_addr(), '.'),
    );
}

fn describe_ipv4(text: &mut String, bytes: &[u8]) {
    let Ok(packet) = Ipv4Slice::from_slice(bytes) else {
        let _ = write!(text, " IPv4, damaged or cut off, {} bytes", bytes.len());
        return;
    };
    let header = packet.header();
    let _ = write!(
        text,
        " IPv4[{}>{} ihl={} tos={:02x} len={} id={:04x}{}{} offset={} ttl={} protocol={} {}]",
        header.source_addr(),
        header.destination_addr(),
        header.ihl(),
        header.dcp().value() << 2 | header.ecn().value(),
        header.total_len(),
        header.identification(),
        if header.dont_fragment() { " DF" } else { "" },
        if header.more_fragments() { " MF" } else { "" },
        header.fragments_offset().byte_offset(),
        header.ttl(),
        header.protocol().0,
        if header.to_header().calc_header_checksum() == header.header_checksum() {
            "checksum right"
        } else {
            "CHECKSUM WRONG"
        },
    );
    if header.fragments_offset().value() == 0 {
        describe_payload(text, header.protocol(), packet.payload().payload);
    }
}

fn describe_ipv6(text: &mut String, bytes: &[u8]) {
    let Ok(packet) = Ipv6Slice::from_slice(bytes) else {
        let _ = write!(text, " IPv6, damaged or cut off, {} bytes", bytes.len());
        return;
    };
    let header = packet.header();
    let _ = write!(
        text,
        " IPv6[{}>{} class={:02x} flow={:05x} len={} hops={}]",
        header.source_addr(),
        header.destination_addr(),
        header.traffic_class(),
        header.flow_label().value(),
        header.payload_length(),
        header.hop_limit(),
    );
    describe_payload(text, packet.payload().ip_number, packet.payload().payload);
}

fn describe_payload(text: &mut String, protocol: IpNumber, bytes: &[u8]) {
    match protocol {
        IpNumber::IPV4 => describe_ipv4(text, bytes),
        IpNumber::IPV6 => describe_ipv6(text, bytes),
        IpNumber::TCP => describe_tcp(text, bytes),
        IpNumber::UDP => describe_udp(text, bytes),
        IpNumber::ICMP => describe_icmp(text, bytes),
        IpNumber::IPV6_ICMP => {
            if let Ok(icmp) = Icmpv6Slice::from_slice(bytes) {
                let _ = write!(
                    text,
                    " ICMPv6[type={} code={}]",
                    icmp.type_u8(),
                    icmp.code_u8()
                );
                describe_ipv6(text, icmp.payload());
            }
        }
        IpNumber::GRE => describe_gre(text, bytes),
        IpNumber(other) => {
            let _ = write!(text, " protocol {other}, {} bytes", bytes.len());
        }
    }
}

fn describe_tcp(text: &mut String, bytes: &[u8]) {
    let Ok(tcp) = TcpSlice::from_slice(bytes) else {
        let _ = write!(text, " TCP, cut off, {} bytes", bytes.len());
        return;
    };
    let flags = [
        (tcp.syn(), 'S'),
        (tcp.fin(), 'F'),
        (tcp.rst(), 'R'),
        (tcp.psh(), 'P'),
        (tcp.ack(), 'A'),
        (tcp.urg(), 'U'),
    ];
    let flags: String = flags
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, letter)| letter)
        .collect();
    let _ = write!(
        text,
        " TCP[{}>{} {flags} seq={} ack={} payload={}]",
        tcp.source_port(),
        tcp.destination_port(),
        tcp.sequence_number(),
        tcp.acknowledgment_number(),
        tcp.payload().len(),
    );
}

fn describe_udp(text: &mut String, bytes: &[u8]) {
    let Ok(udp) = UdpSlice::from_slice_lax(bytes) else {
        let _ = write!(text, " UDP, cut off, {} bytes", bytes.len());
        return;
    };
    let _ = write!(
        text,
        " UDP[{}>{} len={} checksum={:04x}]",
        udp.source_port(),
        udp.destination_port(),
        udp.length(),
        udp.checksum(),
    );
    // GUE without options: version 0, no control bit, then the protocol.
    if udp.destination_port() == 6080
        && let [0, protocol, 0, 0, inner @ ..] = udp.payload()
    {
        text.push_str(" GUE");
        describe_payload(text, IpNumber(*protocol), inner);
    }
}

fn describe_icmp(text: &mut String, bytes: &[u8]) {
    let Ok(icmp) = Icmpv4Slice::from_slice(bytes) else {
        let _ = write!(text, " ICMP, cut off, {} bytes", bytes.len());
        return;
    };
    let [.., high, low] = icmp.bytes5to8();
    let _ = write!(
        text,
        " ICMP[type={} code={}",
        icmp.type_u8(),
        icmp.code_u8()
    );
    if (icmp.type_u8(), icmp.code_u8()) == (3, 4) {
        let _ = write!(text, " mtu={}", u16::from_be_bytes([high, low]));
    }
    let _ = write!(text, " payload={}]", icmp.payload().len());
    if matches!(icmp.type_u8(), 3 | 4 | 5 | 11 | 12) {
        let quoted = icmp.payload();
        let words = quoted.get(..20).map(<[u8]>::as_chunks::<4>);
        if let Some(([.., from, to], _)) = words {
            let _ = write!(text, " quoting {}>{}", dotted(from, '.'), dotted(to, '.'));
        }
    }
}

fn describe_gre(text: &mut String, bytes: &[u8]) {
    let [flags, _, high, low, rest @ ..] = bytes else {
        text.push_str(" GRE, cut off");
        return;
    };
    let has_checksum = flags & 0x80 != 0;
    let _ = write!(
        text,
        " GRE[{}]",
        if has_checksum {
            "checksum"
        } else {
            "no checksum"
        }
    );
    let inner = rest
        .get(if has_checksum { 4 } else { 0 }..)
        .unwrap_or_default();
    match (high, low) {
        (0x08, 0x00) => describe_ipv4(text, inner),
        (0x86, 0xdd) => describe_ipv6(text, inner),
        _ => {}
    }
}

fn mac(address: [u8; 6]) -> String {
    dotted(&address, ':')
}

/// Bytes with a character between: decimal for '.', else hexadecimal.
fn dotted(bytes: &[u8], between: char) -> String {
    let parts: Vec<String> = bytes
        .iter()
        .map(|byte| {
            if between == '.' {
                byte.to_string()
            } else {
                format!("{byte:02x}")
            }
        })
        .collect();
    parts.join(&between.to_string())
}
