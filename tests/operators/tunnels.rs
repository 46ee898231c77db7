//! What `keepalived` sets up is what traffic goes through: all kinds of tunnels,
//! over IPv4 and IPv6.

use std::{collections::BTreeSet, fmt::Write as _, net::IpAddr, process::Command};

use crate::{
    installed::Said,
    keepalived::{GLOBAL, Keepalived, Nginx, Site},
    support::{
        BEHIND_ROUTER, Capture, Configuration, Frame, VIP, VIP6, namespace::PATIENCE, rip, rip6,
        wait_for, wait_long_for,
    },
    tools::has,
};

/// A service at port 8080 with these real servers, each with a check of its
/// port.
fn virtual_server(vip: IpAddr, method: &str, servers: &[IpAddr]) -> String {
    let mut text = format!(
        "{GLOBAL}virtual_server {vip} 8080 {{\n delay_loop 1\n lvs_sched rr\n \
         lvs_method {method}\n protocol TCP\n"
    );
    for server in servers {
        write!(
            text,
            "real_server {server} 8080 {{\n weight 1\n TCP_CHECK {{\n connect_timeout 2\n \
             retry 0\n}}\n}}\n"
        )
        .unwrap();
    }
    text + "}\n"
}

fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

impl Site {
    /// Waits until this is what `ipvsadm` saves.
    fn wait_for_saved(&self, saved: &str) {
        let what = format!("these services are set up:\n{saved}");
        wait_long_for(3 * PATIENCE, &what, || {
            self.tools.ipvsadm("-Sn").ok() == saved
        });
    }

    /// Asks once by way of the VIP: what curl said.
    fn curl_at(&self, vip: IpAddr) -> Said {
        let url = format!("http://{}:8080/", host(vip));
        let words = [
            "--globoff",
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "10",
            &url,
        ];
        let curl = || Command::new("curl").args(words).output().unwrap();
        Said::from(self.lab.client.inside(curl))
    }
}

/// The protocol in an IP packet to this address, other than TCP and ICMP, which
/// are between hosts.
fn tunnel_to(frame: &Frame, address: IpAddr) -> Option<u8> {
    let bytes = &frame.0;
    let (protocol, destination) = match bytes[12..14] {
        [0x08, 0x00] => (bytes[23], IpAddr::from(frame.address_at(30))),
        [0x86, 0xdd] => {
            let octets: [u8; 16] = bytes[38..54].try_into().unwrap();
            (bytes[20], IpAddr::from(octets))
        }
        _ => return None,
    };
    (destination == address && ![1, 6, 58].contains(&protocol)).then_some(protocol)
}

/// Has keepalived go from tunnel to tunnel towards one server that takes them
/// all, and asks it through each.
fn each_tunnel_is_gone_through(test: &str, vip: IpAddr, rip: IpAddr) {
    if !has(test, "tcpdump") {
        return;
    }
    let Some(mut site) = Site::build(test, 0) else {
        return;
    };
    if !site.lab.add_server_behind_narrow_link(test, 1500) {
        return;
    }
    let mut ipv6_servers = None;
    if vip.is_ipv6() {
        ipv6_servers = site.lab.add_ipv6_behind_narrow_link(test);
        if ipv6_servers.is_none() {
            return;
        }
    }
    let server = site.lab.server(BEHIND_ROUTER);
    let _nginx = Nginx::start(site.lab.path("nginx"), server, BEHIND_ROUTER);
    let _director = site.lab.start_director(&Configuration {
        servers: vec![(BEHIND_ROUTER, 1)],
        ipv6: vip.is_ipv6(),
        ..site.lab.configuration()
    });
    site.tools.ipvsadm("-C").ok();
    let ip_in_ip = if vip.is_ipv6() { 41 } else { 4 };
    let mut keepalived = None;
    for (method, saved, protocol) in [
        (
            "TUN type gue port 6080",
            "gue --tun-port 6080 --tun-nocsum",
            17,
        ),
        ("TUN type gre", "gre --tun-nocsum", 47),
        (
            "TUN type gue port 6080 csum",
            "gue --tun-port 6080 --tun-csum",
            17,
        ),
        ("TUN", "ipip", ip_in_ip),
        (
            "TUN type gue port 6080 remcsum",
            "gue --tun-port 6080 --tun-remcsum",
            17,
        ),
        ("TUN type gre csum", "gre --tun-csum", 47),
    ] {
        let configuration = virtual_server(vip, method, &[rip]);
        match &keepalived {
            None => keepalived = Some(Keepalived::start(&site, &configuration)),
            Some(keepalived) => keepalived.reload(&configuration),
        }
        let (service, address) = (host(vip), host(rip));
        site.wait_for_saved(&format!(
            "-A -t {service}:8080 -s rr\n\
             -a -t {service}:8080 -r {address}:8080 -i -w 1 --tun-type {saved}\n"
        ));
        wait_for(&format!("requests go through {saved}"), || {
            let capture = Capture::start(&site.lab, server, "eth0");
            let answer = site.curl_at(vip);
            let tunnels = capture.frames();
            let tunnels: BTreeSet<_> = tunnels
                .iter()
                .filter_map(|frame| tunnel_to(frame, rip))
                .collect();
            answer.code == Some(0) && answer.out == "200" && tunnels == [protocol].into()
        });
    }
    drop(ipv6_servers);
}

#[test]
fn each_tunnel_of_keepalived_is_gone_through() {
    const NAME: &str = "each_tunnel_of_keepalived_is_gone_through";
    each_tunnel_is_gone_through(NAME, VIP.into(), rip(BEHIND_ROUTER).into());
}

#[test]
fn each_tunnel_of_keepalived_is_gone_through_over_ipv6() {
    const NAME: &str = "each_tunnel_of_keepalived_is_gone_through_over_ipv6";
    each_tunnel_is_gone_through(NAME, VIP6.into(), rip6(BEHIND_ROUTER).into());
}

#[test]
fn a_killed_server_is_taken_out_and_put_back_over_ipv6() {
    const NAME: &str = "a_killed_server_is_taken_out_and_put_back_over_ipv6";
    let Some(mut site) = Site::build(NAME, 2) else {
        return;
    };
    let Some(_ipv6_servers) = site.lab.add_ipv6(NAME, 2) else {
        return;
    };
    let vip = IpAddr::from(VIP6);
    let _director = site.lab.start_director(&Configuration {
        ipv6: true,
        ..site.lab.configuration()
    });
    site.tools.ipvsadm("-C").ok();
    let servers = [1, 2].map(|number| IpAddr::from(rip6(number)));
    let _keepalived = Keepalived::start(&site, &virtual_server(vip, "TUN", &servers));
    let wait_for_servers = |site: &Site, numbers: &[u8]| {
        let listed = numbers.iter().map(|&number| {
            let server = host(rip6(number).into());
            format!("-a -t [{VIP6}]:8080 -r {server}:8080 -i -w 1 --tun-type ipip\n")
        });
        let listed: Vec<_> = listed.collect();
        site.wait_for_saved(&format!("-A -t [{VIP6}]:8080 -s rr\n{}", listed.concat()));
    };
    let answers = |site: &Site| {
        let mut answers = [site.curl_at(vip).out, site.curl_at(vip).out];
        answers.sort();
        answers
    };
    wait_for_servers(&site, &[1, 2]);
    wait_for("both answer", || answers(&site) == ["1", "2"]);
    site.stop_nginx(1);
    wait_for_servers(&site, &[2]);
    wait_for("the workers have it", || answers(&site) == ["2", "2"]);
    for _ in 0..20 {
        assert_eq!(site.curl_at(vip).ok(), "2", "and no request fails");
    }
    site.start_nginx(1);
    wait_for_servers(&site, &[1, 2]);
    wait_for("both answer", || answers(&site) == ["1", "2"]);
}
