//! Explanations as text.

use std::{fmt::Write, net::IpAddr};

use super::super::{
    format::duration,
    table::{Column, table},
};
use crate::{
    control::status::{
        NextHopStatus,
        explanation::{
            ExplainedPacket, Explanation, Fate, KnownConnection, QuestionPacket, Scheduling,
        },
    },
    service::Protocol,
};

/// All packets of an answer. `asked` are those of the question.
pub(super) fn text(explanation: &Explanation, asked: &[QuestionPacket]) -> String {
    let Explanation {
        port,
        worker,
        generation,
        packets,
    } = explanation;
    let mut text = format!("received by port {port}, worker {worker}, generation {generation}\n");
    for ((number, packet), asked) in (1..).zip(packets).zip(asked) {
        let len = match asked {
            QuestionPacket::Frame(bytes) => format!("frame of {} bytes", bytes.len()),
            QuestionPacket::Ip(bytes) => format!("packet of {} bytes", bytes.len()),
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n{number}. {len}");
        for (name, line) in lines(packet) {
            let _ = writeln!(text, "   {name:<11} {line}");
        }
        text.push_str(&frames(&packet.fate));
    }
    text
}

/// What there is to say, each with its name.
fn lines(packet: &ExplainedPacket) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    match &packet.flow {
        Some(flow) => {
            let protocol = Protocol::from_number(flow.protocol)
                .map_or_else(|| flow.protocol.to_string(), |it| it.to_string());
            let text = format!("{protocol} {} > {}", flow.client, flow.service);
            lines.push(("flow", text));
        }
        None => lines.push(("flow", "none: no connection decides about it".to_owned())),
    }
    if packet.flow.is_some() {
        let service = packet.service.map_or_else(
            || "none".to_owned(),
            |found| {
                let persistent = if found.persistent { ", persistent" } else { "" };
                let (rule, scheduler) = (found.rule.text(), found.scheduler);
                format!("{} by {rule}; {scheduler}{persistent}", found.key)
            },
        );
        lines.push(("service", service));
        let connection = packet.connection.as_ref();
        lines.push(("connection", connection.map_or_else(none, connection_text)));
    }
    if let Some(template) = &packet.template {
        let left = duration(template.expires_ms);
        let server = address(template.server);
        let text = format!("of {} to {server}, {left} left", template.client);
        lines.push(("template", text));
    }
    if let Some(scheduling) = &packet.scheduling {
        let slot = scheduling
            .slot
            .map_or_else(String::new, |slot| format!(", slot {slot} of its table"));
        lines.push(("scheduler", format!("{}{slot}", scheduling.scheduler)));
        let servers = candidates(scheduling, packet.server);
        lines.extend(servers.lines().map(|line| ("", line.to_owned())));
    }
    if let Some(server) = packet.server {
        lines.push(("server", server.to_string()));
    }
    if let Some(next_hop) = &packet.next_hop {
        lines.push(("next hop", next_hop_text(next_hop)));
    }
    if let Some(tunnel) = packet.tunnel {
        let learned = if tunnel.path_mtu_is_learned {
            " (learned)"
        } else {
            ""
        };
        let text = format!(
            "{}, path MTU {}{learned}: packets of up to {} bytes fit",
            tunnel.kind, tunnel.path_mtu, tunnel.inner_len_max
        );
        lines.push(("tunnel", text));
    }
    lines.push(("result", fate_text(&packet.fate)));
    if let Some(connection) = &packet.connection_after {
        lines.push(("then", connection_text(connection)));
    }
    lines
}

fn none() -> String {
    "none".to_owned()
}

fn address(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "a deleted server".to_owned(), |it| it.to_string())
}

fn connection_text(connection: &KnownConnection) -> String {
    let (server, left) = (address(connection.server), duration(connection.expires_ms));
    format!("{} to {server}, {left} left", connection.state)
}

fn candidates(scheduling: &Scheduling, picked: Option<IpAddr>) -> String {
    let columns = [
        Column::Left(""),
        Column::Left("Server"),
        Column::Right("Weight"),
        Column::Right("Active"),
        Column::Right("Inactive"),
        Column::Right("Cost"),
        Column::Left(""),
    ];
    let rows = scheduling.candidates.iter().take(CANDIDATES_SHOWN_MAX);
    let rows = rows.map(|candidate| {
        let is_picked = candidate.server.is_some() && candidate.server == picked;
        let cost = match (candidate.cost, candidate.cost_for_weight) {
            (None, _) => String::new(),
            (Some(cost), false) => cost.to_string(),
            (Some(cost), true) => format!("{cost}/{}", candidate.weight),
        };
        let remark = match (candidate.overloaded, candidate.weight) {
            (true, _) => "overloaded",
            (_, 0) => "quiesced",
            _ => "",
        };
        vec![
            if is_picked { ">" } else { "" }.to_owned(),
            address(candidate.server),
            candidate.weight.to_string(),
            candidate.active_connections.to_string(),
            candidate.inactive_connections.to_string(),
            cost,
            remark.to_owned(),
        ]
    });
    let mut text = table(&columns, rows);
    let hidden = scheduling
        .candidates
        .len()
        .saturating_sub(CANDIDATES_SHOWN_MAX);
    if hidden > 0 {
        let _ = write!(text, "\nand {hidden} more; --json has all of them");
    }
    text
}

fn next_hop_text(next_hop: &NextHopStatus) -> String {
    match next_hop {
        NextHopStatus::Resolved { port, address, mac } => {
            format!("{address} at {mac}, by port {port}")
        }
        NextHopStatus::Unresolved { port, address } => {
            format!("{address} by port {port}, which has not answered")
        }
        NextHopStatus::NoRoute => "no route".to_owned(),
        NextHopStatus::Local => "the director itself".to_owned(),
    }
}

fn fate_text(fate: &Fate) -> String {
    match fate {
        Fate::Forwarded { frames } if frames.len() == 1 => "forwarded".to_owned(),
        Fate::Forwarded { frames } => format!("forwarded in {} fragments", frames.len()),
        Fate::Dropped { reason, help } => format!("dropped, {reason}: {help}"),
        Fate::Punted { reason, help } => {
            format!("given to the management thread, {reason}: {help}")
        }
        Fate::Waits => "waits for the first fragment of its datagram".to_owned(),
        Fate::TooLong => "no port takes so long a frame".to_owned(),
    }
}

/// What goes out, as text2pcap reads it.
fn frames(fate: &Fate) -> String {
    let Fate::Forwarded { frames } = fate else {
        return String::new();
    };
    let mut text = String::new();
    for frame in frames {
        let _ = writeln!(
            text,
            "   by port {}, {} bytes:",
            frame.port,
            frame.bytes.len()
        );
        for (line, bytes) in frame.bytes.chunks(16).enumerate() {
            let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let _ = writeln!(text, "   {:04x}  {}", line * 16, bytes.join(" "));
        }
    }
    text
}

/// Servers in a text.
const CANDIDATES_SHOWN_MAX: usize = 20;
