//! Which packets a capture wants.
//!
//! What can be told from the received frame is asked before the packet is
//! forwarded ([`Filter::wants`]); the rest afterwards, of the packets that got
//! so far ([`Filter::keeps`]).

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    fate::{Fate, FateKind, Reason},
    program::Program,
    record::Frame,
    subject::{Carried, Ends, Subject},
};
use crate::io::PortIndex;

/// Whether a port received or sent a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// It received it.
    In,
    /// It was given it to send.
    Out,
}

impl Direction {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// What all packets of a capture have in common. The default wants all.
///
/// The client is the one who sent the packet, the service what it is for. An
/// ICMP error is of the client and the service of the packet that it quotes,
/// too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Client or VIP, or a network of them.
    pub host: Option<IpNet>,
    /// The client.
    pub client: Option<IpNet>,
    /// The VIP.
    pub vip: Option<IpNet>,
    /// The client's or the service's L4 port.
    pub l4_port: Option<u16>,
    /// The client's L4 port.
    pub client_port: Option<u16>,
    /// The service port.
    pub service_port: Option<u16>,
    /// What it carries.
    pub protocol: Option<Carried>,
    /// Whether the frame as received passes; of what was not received here, as
    /// it goes out.
    pub program: Option<Program>,
    /// What became of it.
    pub fate: Option<FateKind>,
    /// Why it was not forwarded: one of these.
    pub reasons: Vec<Reason>,
    /// The RIP that it was sent to.
    pub server: Option<IpAddr>,
    /// Frames by one way only.
    pub direction: Option<Direction>,
    /// Frames of one port only. On the control socket it has a name, which
    /// stands beside the filter.
    #[serde(skip)]
    pub port: Option<PortIndex>,
}

impl Filter {
    /// Whether a frame may belong to the capture, by its contents and, if it
    /// was received, the port that received it.
    pub fn wants(&self, received_by: Option<PortIndex>, subject: &Subject, frame: &[u8]) -> bool {
        if self.direction == Some(Direction::In) {
            match received_by {
                None => return false,
                Some(port) if self.port.is_some_and(|wanted| wanted != port) => return false,
                Some(_) => {}
            }
        }
        let ends = !self.is_about_ends() || subject.ends.iter().any(|ends| self.matches(ends));
        ends && self
            .program
            .as_ref()
            .is_none_or(|program| program.run(frame) != 0)
    }

    /// Whether a packet belongs to the capture by what became of it.
    pub fn keeps(&self, fate: Fate, server: Option<IpAddr>) -> bool {
        self.fate.is_none_or(|kind| fate.kind() == kind)
            && (self.reasons.is_empty()
                || fate
                    .reason()
                    .is_some_and(|reason| self.reasons.contains(&reason)))
            && self.server.is_none_or(|wanted| server == Some(wanted))
    }

    /// Whether one of its frames belongs to the capture.
    pub fn keeps_frame(&self, frame: &Frame) -> bool {
        self.direction.is_none_or(|way| way == frame.direction)
            && self.port.is_none_or(|port| port == frame.port)
    }

    fn is_about_ends(&self) -> bool {
        self.host.is_some()
            || self.client.is_some()
            || self.vip.is_some()
            || self.l4_port.is_some()
            || self.client_port.is_some()
            || self.service_port.is_some()
            || self.protocol.is_some()
    }

    fn matches(&self, ends: &Ends) -> bool {
        let is_in = |network: &Option<IpNet>, address: IpAddr| {
            network.is_none_or(|network| network.contains(&address))
        };
        let host = is_in(&self.host, ends.source) || is_in(&self.host, ends.destination);
        let addresses =
            host && is_in(&self.client, ends.source) && is_in(&self.vip, ends.destination);
        let protocol = self
            .protocol
            .is_none_or(|protocol| protocol == ends.carried);
        addresses && protocol && self.matches_ports(ends.l4_ports)
    }

    fn matches_ports(&self, l4_ports: Option<[u16; 2]>) -> bool {
        if self
            .l4_port
            .or(self.client_port)
            .or(self.service_port)
            .is_none()
        {
            return true;
        }
        let Some([client, service]) = l4_ports else {
            return false;
        };
        self.l4_port
            .is_none_or(|wanted| wanted == client || wanted == service)
            && self.client_port.is_none_or(|wanted| wanted == client)
            && self.service_port.is_none_or(|wanted| wanted == service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{DropReason, PuntReason};

    fn subject() -> Subject {
        let ends = Ends {
            source: "203.0.113.7".parse().unwrap(),
            destination: "198.51.100.10".parse().unwrap(),
            l4_ports: Some([40_001, 80]),
            carried: Carried::Ip(6),
            is_fragment: false,
            tcp_flags: Some(2),
        };
        Subject {
            ends: [ends].into_iter().collect(),
            is_tunnelled: false,
        }
    }

    fn wants(json: &str) -> bool {
        let filter: Filter = serde_json::from_str(json).unwrap();
        filter.wants(Some(PortIndex(0)), &subject(), &[])
    }

    #[test]
    fn each_condition_has_to_hold() {
        assert!(wants("{}"));
        for (condition, holds) in [
            (r#""host":"203.0.113.7/32""#, true),
            (r#""host":"198.51.100.0/24""#, true),
            (r#""host":"192.0.2.0/24""#, false),
            (r#""client":"203.0.113.0/24""#, true),
            (r#""client":"198.51.100.10/32""#, false),
            (r#""vip":"198.51.100.10/32""#, true),
            (r#""vip":"203.0.113.7/32""#, false),
            (r#""vip":"2001:db8::/32""#, false),
            (r#""l4_port":40001"#, true),
            (r#""l4_port":80"#, true),
            (r#""l4_port":81"#, false),
            (r#""client_port":40001"#, true),
            (r#""client_port":80"#, false),
            (r#""service_port":80"#, true),
            (r#""service_port":40001"#, false),
            (r#""protocol":"tcp""#, true),
            (r#""protocol":"udp""#, false),
            (r#""program":[[6,0,0,1]]"#, true),
            (r#""program":[[6,0,0,0]]"#, false),
        ] {
            assert_eq!(wants(&format!("{{{condition}}}")), holds, "{condition}");
            let both = format!(r#"{{"service_port":80,{condition}}}"#);
            if !condition.contains("service_port") {
                assert_eq!(wants(&both), holds, "{both}");
            }
        }
    }

    #[test]
    fn a_frame_without_ends_belongs_to_a_filter_without_them_alone() {
        let all = Filter::default();
        assert!(all.wants(None, &Subject::default(), &[]));
        let filter = Filter {
            protocol: Some(Carried::Ip(6)),
            ..Filter::default()
        };
        assert!(!filter.wants(None, &Subject::default(), &[]));
    }

    #[test]
    fn a_port_and_a_direction_are_about_frames() {
        let filter = Filter {
            port: Some(PortIndex(1)),
            direction: Some(Direction::In),
            ..Filter::default()
        };
        assert!(!filter.wants(Some(PortIndex(0)), &subject(), &[]));
        assert!(filter.wants(Some(PortIndex(1)), &subject(), &[]));
        assert!(!filter.wants(None, &subject(), &[]));
        // What one port receives, the other may send.
        let sent = Filter {
            direction: None,
            ..filter
        };
        assert!(sent.wants(Some(PortIndex(0)), &subject(), &[]));
        let frame = |port, direction| Frame::new(PortIndex(port), direction);
        assert!(!sent.keeps_frame(&frame(0, Direction::In)));
        assert!(sent.keeps_frame(&frame(1, Direction::Out)));
        let out = Filter {
            direction: Some(Direction::Out),
            ..Filter::default()
        };
        assert!(!out.keeps_frame(&frame(1, Direction::In)));
        assert!(out.keeps_frame(&frame(1, Direction::Out)));
    }

    #[test]
    fn a_fate_a_reason_and_a_server_are_seen_afterwards() {
        let arp = Fate::Punted(PuntReason::Arp);
        let not_local = Fate::Dropped(DropReason::NotLocal);
        let server: IpAddr = "10.0.0.11".parse().unwrap();
        let keeps = |json: &str, fate, server| {
            let filter: Filter = serde_json::from_str(json).unwrap();
            filter.keeps(fate, server)
        };
        assert!(keeps("{}", not_local, None));
        assert!(keeps(r#"{"fate":"dropped"}"#, not_local, None));
        assert!(!keeps(r#"{"fate":"dropped"}"#, arp, None));
        let reasons = r#"{"reasons":["not_local","local"]}"#;
        assert!(keeps(reasons, not_local, None));
        assert!(!keeps(reasons, arp, None));
        assert!(!keeps(reasons, Fate::Forwarded, Some(server)));
        let to_server = r#"{"server":"10.0.0.11"}"#;
        assert!(keeps(to_server, Fate::Forwarded, Some(server)));
        assert!(!keeps(to_server, Fate::Forwarded, None));
        assert!(!keeps(to_server, Fate::Forwarded, "10.0.0.12".parse().ok()));
    }
}
