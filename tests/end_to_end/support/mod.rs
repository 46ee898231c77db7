//! What the tests are made of: a network of namespaces, a director in it, and
//! clients that ask.

mod capture;
mod configuration;
mod director;
mod http;
mod icmp;
mod ipv6;
mod lab;
pub(crate) mod namespace;
mod pktgen;

pub(crate) use self::{
    capture::{Capture, Frame},
    configuration::Configuration,
    director::{Director, PROGRAM, run_to_its_end},
    http::{Connection, receive},
    icmp::IcmpSocket,
    ipv6::{DIRECTOR_WAN6, Ipv6Servers, VIP_OVER_IPV6, VIP6, VIP6_OVER_IPV4, ping6, rip6},
    lab::{BEHIND_ROUTER, CLIENT_WAN, DIRECTOR_LAN, DIRECTOR_WAN, Lab, Shape, VIP, rip, skipped},
    namespace::{Namespace, has_program, wait_for, wait_long_for},
    pktgen::{FLOWS, Pktgen, brief},
};
