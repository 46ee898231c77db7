//! A link behind the director that takes less than its own port: a client's
//! path MTU discovery (RFC 1191, RFC 8201) has to come through every kind of
//! tunnel, whichever IP versions are inside and outside.

use std::{
    fs,
    net::{IpAddr, UdpSocket},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::sockopt::{Ipv4PathMtuDiscovery, ip_mtu, set_ip_mtu_discover},
};

use crate::support::{
    BEHIND_ROUTER, Director, IcmpSocket, Ipv6Servers, Lab, Namespace, Shape, VIP, VIP_OVER_IPV6,
    VIP6, VIP6_OVER_IPV4, receive,
};

/// What the narrow link takes.
const MTU: u16 = 1400;

const GRE: &str = "tunnel = \"gre\"\n";
const GRE_SUM: &str = "tunnel = \"gre\"\ntunnel_checksum = true\n";
const GUE: &str = "tunnel = \"gue\"\n";
const GUE_SUM: &str = "tunnel = \"gue\"\ntunnel_checksum = true\n";

/// A client, a director and the real server behind the narrow link.
struct NarrowPath {
    director: Director,
    // Stopped before its network goes.
    _ipv6_servers: Option<Ipv6Servers>,
    lab: Lab,
}

impl NarrowPath {
    fn build(test: &str, tunnel: &'static str, ipv6: bool) -> Option<Self> {
        let mut lab = Lab::build(test, Shape::TwoArms, 0)?;
        if !lab.add_server_behind_narrow_link(test, MTU) {
            return None;
        }
        let ipv6_servers = if ipv6 {
            Some(lab.add_ipv6_behind_narrow_link(test)?)
        } else {
            None
        };
        let mut configuration = lab.configuration();
        configuration.servers = vec![(BEHIND_ROUTER, 1)];
        configuration.tunnel = tunnel;
        configuration.ipv6 = ipv6;
        Some(Self {
            director: lab.start_director(&configuration),
            _ipv6_servers: ipv6_servers,
            lab,
        })
    }

    /// Uploads a megabyte to a VIP; the client has to find out that its packets
    /// may have `path_mtu` bytes.
    fn upload(&self, vip: IpAddr, path_mtu: u16) {
        assert_eq!(self.learnt_path_mtu(vip), None);
        let body: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        let answer = self.lab.connect_to(vip).unwrap().put(&body).unwrap();
        assert_eq!(
            (answer.server, answer.len, answer.is_intact),
            (BEHIND_ROUTER, 1_000_000, true)
        );
        assert_eq!(self.learnt_path_mtu(vip), Some(path_mtu));
    }

    /// What the client's kernel believes of the path to a VIP.
    fn learnt_path_mtu(&self, vip: IpAddr) -> Option<u16> {
        let route = self.lab.client.ip(&format!("route get {vip}"));
        let mut words = route.split_whitespace();
        words.find(|word| *word == "mtu")?;
        words.next().map(|mtu| mtu.parse().unwrap())
    }

    /// That the path taught the director its MTU `count` times, and that each
    /// error from there went on to the client.
    fn assert_taught(&self, count: u64) {
        for (counter, count) in [
            ("path_mtu_learned", count),
            ("tunnel_error_bad", 0),
            ("tunnel_error_foreign", 0),
            ("tunnel_error_not_relayed", 0),
            ("host_icmp_limited", 0),
        ] {
            assert_eq!(self.director.counter(counter), count, "{counter}");
        }
    }
}

/// An upload to a VIP through a tunnel whose outer packets have DF set, or are
/// of IPv6.
fn upload(test: &str, vip: impl Into<IpAddr>, tunnel: &'static str, path_mtu: u16) {
    let vip = vip.into();
    let Some(path) = NarrowPath::build(test, tunnel, vip != IpAddr::from(VIP)) else {
        return;
    };
    path.upload(vip, path_mtu);
    // The director said so of its own port, then the router of the next link.
    assert!(path.director.counter("fragmentation_needed") > 0);
    assert!(path.director.counter("tunnel_error") > 0);
    path.assert_taught(1);
}

#[test]
fn an_upload_passes_a_narrow_link_in_ipip() {
    upload("an_upload_passes_a_narrow_link_in_ipip", VIP, "", 1380);
}

#[test]
fn an_upload_passes_a_narrow_link_in_gre() {
    upload("an_upload_passes_a_narrow_link_in_gre", VIP, GRE, 1376);
}

#[test]
fn an_upload_passes_a_narrow_link_in_gre_with_a_checksum() {
    let test = "an_upload_passes_a_narrow_link_in_gre_with_a_checksum";
    upload(test, VIP, GRE_SUM, 1372);
}

#[test]
fn an_upload_passes_a_narrow_link_in_gue() {
    upload("an_upload_passes_a_narrow_link_in_gue", VIP, GUE, 1368);
}

#[test]
fn an_upload_passes_a_narrow_link_in_gue_with_a_checksum() {
    let test = "an_upload_passes_a_narrow_link_in_gue_with_a_checksum";
    upload(test, VIP, GUE_SUM, 1368);
}

#[test]
fn an_upload_over_ipv6_passes_a_narrow_link_in_ipv6() {
    let test = "an_upload_over_ipv6_passes_a_narrow_link_in_ipv6";
    upload(test, VIP6, "", 1360);
}

/// As of Linux IPVS, outer packets of IPv4 around IPv6 have DF clear: the router
/// fragments them, and nobody is told.
#[test]
fn an_upload_over_ipv6_passes_a_narrow_link_in_ipv4_in_fragments() {
    let test = "an_upload_over_ipv6_passes_a_narrow_link_in_ipv4_in_fragments";
    let Some(path) = NarrowPath::build(test, "", true) else {
        return;
    };
    path.upload(VIP6_OVER_IPV4.into(), 1480);
    assert!(path.director.counter("fragmentation_needed") > 0);
    assert_eq!(path.director.counter("tunnel_error"), 0);
    path.assert_taught(0);
    assert!(count_of_ip(&path.lab.client, "FragOKs") > 0);
    let server = path.lab.server(BEHIND_ROUTER);
    assert!(count_of_ip(server, "ReasmOKs") > 0);
}

/// A counter of the kernel's IPv4 (RFC 1213).
fn count_of_ip(namespace: &Namespace, name: &str) -> u64 {
    let text = namespace.inside(|| fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
    let names = lines.next().unwrap().split(' ');
    let counts = lines.next().unwrap().split(' ');
    let (_, count) = names.zip(counts).find(|(known, _)| *known == name).unwrap();
    count.parse().unwrap()
}

#[test]
fn an_upload_over_ipv4_passes_a_narrow_link_in_ipv6() {
    let test = "an_upload_over_ipv4_passes_a_narrow_link_in_ipv6";
    upload(test, VIP_OVER_IPV6, "", 1360);
}

#[test]
fn an_upload_over_ipv6_passes_a_narrow_link_in_gre_over_ipv6() {
    let test = "an_upload_over_ipv6_passes_a_narrow_link_in_gre_over_ipv6";
    upload(test, VIP6, GRE, 1356);
}

#[test]
fn an_upload_over_ipv6_passes_a_narrow_link_in_gre_with_a_checksum_over_ipv6() {
    let test = "an_upload_over_ipv6_passes_a_narrow_link_in_gre_with_a_checksum_over_ipv6";
    upload(test, VIP6, GRE_SUM, 1352);
}

#[test]
fn an_upload_over_ipv4_passes_a_narrow_link_in_gre_over_ipv6() {
    let test = "an_upload_over_ipv4_passes_a_narrow_link_in_gre_over_ipv6";
    upload(test, VIP_OVER_IPV6, GRE, 1356);
}

#[test]
fn an_upload_over_ipv6_passes_a_narrow_link_in_gue_over_ipv6() {
    let test = "an_upload_over_ipv6_passes_a_narrow_link_in_gue_over_ipv6";
    upload(test, VIP6, GUE, 1348);
}

#[test]
fn an_upload_over_ipv4_passes_a_narrow_link_in_gue_over_ipv6() {
    let test = "an_upload_over_ipv4_passes_a_narrow_link_in_gue_over_ipv6";
    upload(test, VIP_OVER_IPV6, GUE, 1348);
}

#[test]
fn an_upload_over_ipv6_passes_a_narrow_link_in_gue_with_a_checksum_over_ipv6() {
    let test = "an_upload_over_ipv6_passes_a_narrow_link_in_gue_with_a_checksum_over_ipv6";
    upload(test, VIP6, GUE_SUM, 1348);
}

#[test]
fn an_upload_over_ipv4_passes_a_narrow_link_in_gue_with_a_checksum_over_ipv6() {
    let test = "an_upload_over_ipv4_passes_a_narrow_link_in_gue_with_a_checksum_over_ipv6";
    upload(test, VIP_OVER_IPV6, GUE_SUM, 1348);
}

/// Sends datagrams with DF set to the echo service, each as long as the client
/// thinks that the path takes; one comes back when that is `path_mtu`.
fn datagrams(test: &str, tunnel: &'static str, path_mtu: u16) {
    /// Of IPv4 and UDP.
    const HEADERS: u32 = 28;
    let Some(path) = NarrowPath::build(test, tunnel, false) else {
        return;
    };
    let (lab, director) = (&path.lab, &path.director);
    let errors = IcmpSocket::open(&lab.client);
    let client = lab.client.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    client.connect((VIP, 7)).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    set_ip_mtu_discover(&client, Ipv4PathMtuDiscovery::DO).unwrap();
    let payload = |packet_len: u32| -> Vec<u8> {
        let len = (packet_len - HEADERS) as usize;
        (0_u32..).flat_map(u32::to_be_bytes).take(len).collect()
    };
    let own_limit = path_mtu + 1500 - MTU;
    for (believed, told) in [(1500, own_limit), (own_limit, path_mtu)] {
        assert_eq!(ip_mtu(&client).unwrap(), u32::from(believed));
        client.send(&payload(believed.into())).unwrap();
        let error = receive(&client, &mut [0; 2048]).unwrap_err();
        let errno = Errno::from_io_error(&error);
        assert_eq!(errno, Some(Errno::MSGSIZE), "{error}");
        let (from, icmp) = errors.expect("ICMP error", |_, icmp| icmp[..2] == [3, 4]);
        assert_eq!((from, &icmp[6..8]), (VIP, &told.to_be_bytes()[..]));
    }
    assert_eq!(ip_mtu(&client).unwrap(), u32::from(path_mtu));
    let payload_len_max = payload(path_mtu.into());
    client.send(&payload_len_max).unwrap();
    let mut buffer = [0; 2048];
    let (len, _) = receive(&client, &mut buffer).unwrap();
    assert!(buffer[..len] == payload_len_max, "{len} bytes came back");
    let error = client.send(&payload(u32::from(path_mtu) + 1)).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::MSGSIZE));
    // Of three datagrams one did not leave, one was lost on the way.
    assert_eq!(director.counter("fragmentation_needed"), 1);
    assert_eq!(director.tunnelled(), 2);
    assert_eq!(director.counter("tunnel_error"), 1);
    path.assert_taught(1);
}

#[test]
fn datagrams_with_df_find_the_path_mtu_through_ipip() {
    datagrams("datagrams_with_df_find_the_path_mtu_through_ipip", "", 1380);
}

#[test]
fn datagrams_with_df_find_the_path_mtu_through_gre_with_a_checksum() {
    let test = "datagrams_with_df_find_the_path_mtu_through_gre_with_a_checksum";
    datagrams(test, GRE_SUM, 1372);
}

#[test]
fn datagrams_with_df_find_the_path_mtu_through_gue() {
    datagrams("datagrams_with_df_find_the_path_mtu_through_gue", GUE, 1368);
}
