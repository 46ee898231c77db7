use std::{os::fd::OwnedFd, sync::mpsc};

use crossbeam::channel::{Receiver, bounded};
use socket2::{Domain, SockAddr, Socket};
use tempfile::TempDir;

use super::*;
use crate::control::command::Command;

/// A socket that serves, and the requests that come of it.
struct Lab {
    requests: Receiver<ControlRequest>,
    _handle: NetlinkSocketHandle,
    directory: TempDir,
}

impl Lab {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let (requests_in, requests) = bounded(8);
        let socket = NetlinkSocket::bind(&directory.path().join("sock"), None).unwrap();
        Self {
            requests,
            _handle: socket.spawn(requests_in).unwrap(),
            directory,
        }
    }

    fn connect(&self) -> OwnedFd {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let path = self.directory.path().join("sock");
        socket.connect(&SockAddr::unix(path).unwrap()).unwrap();
        socket.into()
    }

    /// The next request, begun.
    fn next(&self) -> (Request, Sender<Response>) {
        self.requests
            .recv_timeout(PATIENCE)
            .unwrap()
            .begin()
            .unwrap()
    }

    /// Answers one request.
    fn answer(&self) -> Request {
        let (request, reply) = self.next();
        reply.send(Response::Applied).unwrap();
        request
    }
}

/// A message with a command of IPVS and no attributes.
fn message(command: u8, flags: u16) -> Vec<u8> {
    let mut message = vec![20, 0, 0, 0, 37, 0];
    message.extend(flags.to_ne_bytes());
    message.extend([9, 0, 0, 0, 0, 0, 0, 0, command, 1, 0, 0]);
    message
}

fn flush() -> Vec<u8> {
    message(17, 5)
}

fn tell(client: &OwnedFd, datagram: &[u8]) {
    send(client, datagram, SendFlags::NOSIGNAL).unwrap();
}

fn hear(client: &OwnedFd) -> Vec<u8> {
    let mut buffer = vec![0; DATAGRAM_LEN_MAX];
    let (len, _) = recv(client, &mut buffer[..], RecvFlags::empty()).unwrap();
    buffer.truncate(len);
    buffer
}

/// The number in an acknowledgement or error.
fn outcome(answer: &[u8]) -> i32 {
    assert_eq!(answer[4..6], [2, 0], "{answer:?}");
    i32::from_ne_bytes(answer[16..20].try_into().unwrap())
}

#[test]
fn a_command_reaches_the_management_and_is_acknowledged() {
    let lab = Lab::start();
    let client = lab.connect();
    for _ in 0..3 {
        tell(&client, &flush());
        assert_eq!(lab.answer(), Request::Apply(Command::Flush));
        assert_eq!(outcome(&hear(&client)), 0);
    }
}

#[test]
fn a_stuck_management_costs_an_error_and_not_the_connection() {
    let lab = Lab::start();
    let client = lab.connect();
    tell(&client, &flush());
    assert_eq!(outcome(&hear(&client)), -11, "EAGAIN");
    // The management can see that it is too late.
    let late = lab.requests.recv_timeout(PATIENCE).unwrap();
    assert!(late.begin().is_none());
    tell(&client, &flush());
    lab.answer();
    assert_eq!(outcome(&hear(&client)), 0);
}

#[test]
fn what_a_client_left_behind_is_not_done() {
    let lab = Lab::start();
    let client = lab.connect();
    tell(&client, &flush());
    // While the first one waits for the management, another gives up.
    let (_, waiting) = lab.next();
    let other = lab.connect();
    tell(&other, &message(16, 5));
    drop(other);
    waiting.send(Response::Applied).unwrap();
    assert_eq!(outcome(&hear(&client)), 0);
    tell(&client, &flush());
    assert_eq!(lab.answer(), Request::Apply(Command::Flush));
}

#[test]
fn a_long_message_ends_its_connection_alone() {
    let lab = Lab::start();
    let (client, other) = (lab.connect(), lab.connect());
    tell(&client, &vec![0; DATAGRAM_LEN_MAX + 1]);
    assert_eq!(hear(&client), [0; 0]);
    tell(&other, &flush());
    lab.answer();
    assert_eq!(outcome(&hear(&other)), 0);
}

#[test]
fn of_too_many_clients_the_most_silent_one_goes() {
    let lab = Lab::start();
    let clients: Vec<_> = (0..CLIENTS_MAX).map(|_| lab.connect()).collect();
    for client in &clients[1..] {
        tell(client, &message(15, 5));
        hear(client);
    }
    let one_more = lab.connect();
    tell(&one_more, &flush());
    lab.answer();
    assert_eq!(outcome(&hear(&one_more)), 0);
    assert_eq!(hear(&clients[0]), [0; 0]);
    tell(&clients[1], &flush());
    lab.answer();
}

#[test]
fn a_client_that_takes_no_answers_holds_up_nobody() {
    let lab = Lab::start();
    let (greedy, other) = (lab.connect(), lab.connect());
    let (done, is_done) = mpsc::channel();
    // More answers than its socket has room for.
    let sender = thread::spawn(move || {
        for _ in 0..10_000 {
            if send(
                &greedy,
                &message(15, 5),
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            )
            .is_err()
            {
                break;
            }
        }
        done.send(()).unwrap();
        greedy
    });
    is_done.recv_timeout(PATIENCE).unwrap();
    tell(&other, &flush());
    lab.answer();
    assert_eq!(outcome(&hear(&other)), 0);
    drop(sender.join().unwrap());
}

#[test]
fn groups_have_names_and_numbers() {
    assert_eq!(group_number("54321").unwrap(), 54321);
    assert_eq!(group_number("root").unwrap(), 0);
    let error = group_number("no-such-group").unwrap_err();
    assert_eq!(error.to_string(), "no group no-such-group");
}

#[test]
fn an_unknown_group_is_refused_before_the_socket_is_made() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sock");
    let error = NetlinkSocket::bind(&path, Some("no-such-group")).unwrap_err();
    assert!(
        error.to_string().contains("`netlink_group`: no group"),
        "{error}"
    );
    assert!(!path.exists());
}

const PATIENCE: Duration = Duration::from_secs(10);
