//! `pointsman explain`: asks a running director what would become of a packet,
//! and why.
#![forbid(unsafe_code)]

mod capture_file;
mod packet;
mod text;

use std::{error::Error, net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};

use self::packet::{Draft, Transport};
use crate::{
    config::CONTROL_SOCKET_DEFAULT,
    control::{
        socket::query,
        status::{
            Request, Response,
            explanation::{Question, QuestionPacket},
        },
    },
    wire::tcp::TcpFlags,
};

/// Which packets, and whom to ask.
#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    /// The protocol of a packet of one flow
    #[arg(value_enum, value_name = "PROTOCOL", requires = "service")]
    #[arg(required_unless_present = "pcap")]
    transport: Option<Transport>,
    /// Address and port of the client, as 192.0.2.7:40000; of IPv6 the address in brackets
    #[arg(value_name = "CLIENT", requires = "transport")]
    client: Option<SocketAddr>,
    /// VIP and service port
    #[arg(value_name = "SERVICE", requires = "client")]
    service: Option<SocketAddr>,
    /// TCP's flags
    #[arg(long, value_enum, value_delimiter = ',', default_value = "syn")]
    flags: Vec<Flag>,
    /// Length of the IP packet [default: headers alone]
    #[arg(long, value_name = "BYTES")]
    length: Option<u16>,
    /// TTL or hop limit
    #[arg(long, default_value_t = 64)]
    ttl: u8,
    /// DSCP and ECN, or the traffic class
    #[arg(long, default_value_t = 0)]
    tos: u8,
    /// Leave DF away
    #[arg(long)]
    fragmentable: bool,
    /// The packets of a capture (pcap or pcapng) instead, as if they came one after the other; 256
    /// at most
    #[arg(long, value_name = "FILE", conflicts_with_all = ["transport", "client", "service", "flags", "length", "ttl", "tos", "fragmentable"])]
    pcap: Option<PathBuf>,
    /// Take only the first N packets of the capture
    #[arg(long, value_name = "N", requires = "pcap")]
    count: Option<usize>,
    /// Put the captured IP packets into frames to the port, whatever frames they were captured in
    #[arg(long, requires = "pcap")]
    readdress: bool,
    /// Name of the port that receives them [default: the first one]
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
    /// The worker that gets them [default: the one that has the connection, or the first one]
    #[arg(long, value_name = "N")]
    worker: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The control socket of the director
    #[arg(long, value_name = "PATH", default_value = CONTROL_SOCKET_DEFAULT)]
    socket: PathBuf,
}

/// One of TCP's flags (RFC 9293 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Flag {
    Syn,
    Ack,
    Fin,
    Rst,
    Psh,
    Urg,
    /// No flag at all
    None,
}

impl Flag {
    const fn bits(self) -> u8 {
        match self {
            Self::Syn => TcpFlags::SYN.0,
            Self::Ack => TcpFlags::ACK.0,
            Self::Fin => TcpFlags::FIN.0,
            Self::Rst => TcpFlags::RST.0,
            Self::Psh => TcpFlags::PSH.0,
            Self::Urg => TcpFlags::URG.0,
            Self::None => 0,
        }
    }
}

/// Asks, and gives what is to be printed.
///
/// # Errors
/// When the packets cannot be made or read, there is no director, or it
/// refuses.
pub(super) fn explain(arguments: &ExplainArguments) -> Result<String, Box<dyn Error>> {
    let question = Question {
        port: arguments.port.clone(),
        worker: arguments.worker,
        packets: packets(arguments)?,
    };
    let packets = question.packets.clone();
    let response = query(&arguments.socket, &Request::Explain(question))?;
    let Response::Explain(explanation) = response else {
        return Err("the answer is to another question".into());
    };
    Ok(if arguments.json {
        serde_json::to_string_pretty(&explanation)?
    } else {
        text::text(&explanation, &packets)
    })
}

fn packets(arguments: &ExplainArguments) -> Result<Vec<QuestionPacket>, Box<dyn Error>> {
    if let Some(file) = &arguments.pcap {
        return Ok(capture_file::packets(
            file,
            arguments.count,
            arguments.readdress,
        )?);
    }
    let (Some(transport), Some(client), Some(service)) =
        (arguments.transport, arguments.client, arguments.service)
    else {
        return Err("write a protocol, a client and a service, or --pcap with a file".into());
    };
    let draft = Draft {
        transport,
        client,
        service,
        flags: TcpFlags(arguments.flags.iter().fold(0, |all, it| all | it.bits())),
        len: arguments.length,
        ttl: arguments.ttl,
        tos: arguments.tos,
        dont_fragment: !arguments.fragmentable,
    };
    Ok(vec![QuestionPacket::Ip(draft.packet()?)])
}
