//! The language in which `ipvsadm` and `keepalived` talk to a kernel's IPVS:
//! generic netlink (`linux/netlink.h`, `linux/genetlink.h`, `linux/ip_vs.h`).
//!
//! A datagram of requests becomes datagrams of replies, by way of what the
//! director can be asked anyway ([`crate::control::status::Request`]), so that
//! both programs drive it unmodified. Nothing here is a socket; that is
//! `control::netlink_socket`.
//!
//! What the kernel does and this does not: connection synchronisation
//! (`NEW_DAEMON`, `DEL_DAEMON`) is refused, and so are forwarding methods other
//! than tunnelling. What this does besides: one more command gives the texts of
//! `/proc/net/ip_vs` and its like, which a process cannot put there.
#![forbid(unsafe_code)]

mod attributes;
mod codec;
mod reply;
mod request;
mod text;

use log::warn;

pub use self::codec::{DATAGRAM_LEN_MAX, Errno};
use self::{
    codec::{Message, messages},
    request::Ask,
};
use crate::{
    control::{
        command::{Command, CommandError},
        status::{Request, Response, ServiceStatus},
    },
    service::ServiceKey,
};

/// Puts a request to the director. An error says why there is no answer.
pub type AskDirector<'a> = &'a mut dyn FnMut(Request) -> Result<Response, Errno>;

/// The datagrams that answer one from a client, in their order.
///
/// Someone who may not ask gets [`Errno::NotPermitted`] for every command. What
/// is too short to be a message is not answered, as the kernel does not.
pub fn answer(datagram: &[u8], is_permitted: bool, ask: AskDirector<'_>) -> Vec<Vec<u8>> {
    let mut replies = Vec::new();
    for message in messages(datagram) {
        answer_message(&message, is_permitted, ask, &mut replies);
    }
    replies
}

/// Whether a datagram asks for one of the texts. Those may take longer than a
/// client waits for anything else.
pub fn asks_for_text(datagram: &[u8]) -> bool {
    messages(datagram).any(|message| matches!(request::parse(&message), Ok(Ask::Text(_))))
}

fn answer_message(
    message: &Message<'_>,
    is_permitted: bool,
    ask: AskDirector<'_>,
    replies: &mut Vec<Vec<u8>>,
) {
    let outcome = request::parse(message).and_then(|wanted| match wanted {
        // Which family it is, everyone may know.
        Ask::Family => Ok(vec![reply::family(message)]),
        _ if !is_permitted => Err(Errno::NotPermitted),
        wanted => carry_out(message, wanted, ask),
    });
    match outcome {
        Ok(mut answers) => {
            replies.append(&mut answers);
            if message.is_dump() {
                reply::end_dump(replies, message);
            } else if message.wants_acknowledgement() {
                replies.push(reply::error(message, None));
            }
        }
        Err(errno) => replies.push(reply::error(message, Some(errno))),
    }
}

fn carry_out(
    message: &Message<'_>,
    wanted: Ask<'_>,
    ask: AskDirector<'_>,
) -> Result<Vec<Vec<u8>>, Errno> {
    match wanted {
        Ask::Family => Ok(vec![reply::family(message)]),
        Ask::Information => Ok(vec![reply::information(message)]),
        Ask::Synchronisation => Err(Errno::NotSupported),
        Ask::Timeouts => match ask(Request::Settings)? {
            Response::Settings(settings) => Ok(vec![reply::timeouts(message, settings.timeouts)]),
            _ => Err(Errno::TryAgain),
        },
        Ask::SetTimeouts([tcp, tcp_fin, udp]) => {
            match ask(Request::SetTimeouts { tcp, tcp_fin, udp })? {
                Response::Settings(_) => Ok(Vec::new()),
                _ => Err(Errno::Invalid),
            }
        }
        Ask::Services => {
            let services = services(Request::Services, ask)?;
            Ok(reply::services(message, &services))
        }
        Ask::Service(key) => {
            let service = service(key, ask)?.ok_or(Errno::NoSuchService)?;
            Ok(reply::services(message, &[service]))
        }
        // There are no daemons, and the kernel lists no servers of a service that
        // is not there.
        Ask::Daemons | Ask::Servers(None) => Ok(Vec::new()),
        Ask::Servers(Some(key)) => Ok(service(key, ask)?
            .map(|service| reply::servers(message, &service))
            .unwrap_or_default()),
        Ask::EditService(key, options) => {
            let before = service(key, ask)?.ok_or(Errno::NoSuchService)?.options;
            change(Command::EditService(key, options.over(before)), ask)
        }
        Ask::OtherMethod { key, server, name } => {
            service(key, ask)?.ok_or(Errno::NoSuchService)?;
            warn!(
                "real server {server} of {key} is refused: this director only tunnels, and it is \
                 to be reached by {name}; use `-i` of ipvsadm, `lvs_method TUN` of keepalived"
            );
            Err(Errno::Invalid)
        }
        Ask::Change(command) => change(command, ask),
        Ask::Text(text) => text::replies(message, text, ask),
    }
}

fn change(command: Command, ask: AskDirector<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    match ask(Request::Apply(command))? {
        Response::Applied => Ok(Vec::new()),
        Response::Refused(error) => Err(errno_of(&error)),
        _ => Err(Errno::TryAgain),
    }
}

fn services(request: Request, ask: AskDirector<'_>) -> Result<Vec<ServiceStatus>, Errno> {
    match ask(request)? {
        Response::Services(services) => Ok(services),
        _ => Err(Errno::TryAgain),
    }
}

fn service(key: ServiceKey, ask: AskDirector<'_>) -> Result<Option<ServiceStatus>, Errno> {
    Ok(services(Request::Service(key), ask)?.pop())
}

/// What the kernel answers in the same case.
fn errno_of(error: &CommandError) -> Errno {
    match error {
        CommandError::ServiceExists(_) | CommandError::ServerExists(..) => Errno::Exists,
        CommandError::NoSuchService(_) => Errno::NoSuchService,
        CommandError::NoSuchServer(..) => Errno::NotFound,
        CommandError::WeightOutOfRange(_) | CommandError::ThresholdsCrossed { .. } => Errno::Range,
        CommandError::NoTunnelPort => Errno::Invalid,
        CommandError::TooManyServices(_) | CommandError::TooManyServers(_) => Errno::NoMemory,
    }
}

#[cfg(test)]
mod tests;
