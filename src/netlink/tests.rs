//! Requests are those that Debian's `ipvsadm` 1.31 was seen to send, or made by
//! the crate `neli`, which reads the replies, too.

use std::{cell::RefCell, io::Cursor};

use neli::{
    FromBytes, ToBytes,
    consts::nl::NlmF,
    genl::{AttrTypeBuilder, Genlmsghdr, GenlmsghdrBuilder, Nlattr, NlattrBuilder},
    nl::{NlPayload, Nlmsghdr, NlmsghdrBuilder},
    types::{Buffer, GenlBuffer},
};
use proptest::prelude::*;

use super::*;
use crate::{
    control::status::{NextHopStatus, Rates, ServerStatus, SettingsStatus, Statistics},
    scheduler::{SchedulerFlags, SchedulerKind},
    service::{
        ClientMask, GueChecksum, Persistence, Protocol, ServerKey, ServerOptions, ServiceOptions,
        Timeouts, Tunables, TunnelKind,
    },
};

type Generic = Genlmsghdr<u8, u16>;
type Reply = Nlmsghdr<u16, Generic>;
type Attribute16 = Nlattr<u16, Buffer>;

const IPVS: u16 = 37;
const CONTROL: u16 = 16;
const ACK: NlmF = NlmF::ACK;
const DUMP: NlmF = NlmF::DUMP;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter(char::is_ascii_hexdigit).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn attribute(kind: u16, value: impl AsRef<[u8]>) -> Attribute16 {
    NlattrBuilder::default()
        .nla_type(AttrTypeBuilder::default().nla_type(kind).build().unwrap())
        .nla_payload(value.as_ref())
        .build()
        .unwrap()
}

fn nest(kind: u16, attributes: &[Attribute16]) -> Attribute16 {
    let kind = AttrTypeBuilder::default()
        .nla_type(kind)
        .nla_nested(true)
        .build()
        .unwrap();
    let empty = NlattrBuilder::default()
        .nla_type(kind)
        .nla_payload(Buffer::new())
        .build()
        .unwrap();
    attributes
        .iter()
        .fold(empty, |nest, inner| nest.nest(inner).unwrap())
}

/// A request as `neli` writes it.
fn request(kind: u16, command: u8, flags: NlmF, attributes: Vec<Attribute16>) -> Vec<u8> {
    let generic = GenlmsghdrBuilder::<u8, u16>::default()
        .cmd(command)
        .version(1)
        .attrs(attributes.into_iter().collect::<GenlBuffer<_, _>>())
        .build()
        .unwrap();
    let message = NlmsghdrBuilder::default()
        .nl_type(kind)
        .nl_flags(NlmF::REQUEST | flags)
        .nl_seq(7)
        .nl_pid(4711)
        .nl_payload(NlPayload::Payload(generic))
        .build()
        .unwrap();
    let mut buffer = Cursor::new(Vec::new());
    message.to_bytes(&mut buffer).unwrap();
    buffer.into_inner()
}

/// The messages of replies, as `neli` reads them.
fn read(replies: &[Vec<u8>]) -> Vec<Reply> {
    let mut messages = Vec::new();
    for datagram in replies {
        let mut cursor = Cursor::new(datagram);
        while cursor.position() < datagram.len() as u64 {
            messages.push(Reply::from_bytes(&mut cursor).unwrap());
        }
    }
    messages
}

fn generic(reply: &Reply) -> &Generic {
    match reply.nl_payload() {
        NlPayload::Payload(generic) => generic,
        other => panic!("{other:?}"),
    }
}

/// What became of a request: 0, or an error.
fn outcome(replies: &[Vec<u8>]) -> i32 {
    match read(replies).last().unwrap().nl_payload() {
        NlPayload::Ack(_) => 0,
        NlPayload::Err(error) => -*error.error(),
        other => panic!("{other:?}"),
    }
}

/// What the director is asked when it has one service, and what comes back.
fn asked(datagram: &[u8]) -> (Vec<Request>, Vec<Vec<u8>>) {
    let requests = RefCell::new(Vec::new());
    let replies = answer(datagram, true, &mut |request| {
        requests.borrow_mut().push(request.clone());
        Ok(match request {
            Request::Services => Response::Services(vec![service_status()]),
            Request::Service(key) => {
                let status = service_status();
                Response::Services((status.key == key).then_some(status).into_iter().collect())
            }
            Request::Settings | Request::SetTimeouts { .. } => Response::Settings(SettingsStatus {
                tunables: Tunables::default(),
                timeouts: Timeouts::default(),
                configured_tunables: Tunables::default(),
                configured_timeouts: Timeouts::default(),
            }),
            Request::Connections { .. } => Response::Connections {
                connections: Vec::new(),
                total: 0,
                truncated: false,
            },
            Request::Statistics => Response::Statistics {
                total: Statistics::default(),
                rates: Rates::default(),
            },
            _ => Response::Applied,
        })
    });
    (requests.into_inner(), replies)
}

/// The only command that a datagram gives.
fn command_of(datagram: &[u8]) -> Command {
    let (requests, replies) = asked(datagram);
    assert_eq!(outcome(&replies), 0, "{requests:?}");
    match requests.last() {
        Some(Request::Apply(command)) => command.clone(),
        other => panic!("{other:?}"),
    }
}

fn vip(protocol: Protocol, address: &str) -> ServiceKey {
    ServiceKey::at(protocol, address.parse().unwrap())
}

fn rip(address: &str) -> ServerKey {
    ServerKey {
        address: address.parse().unwrap(),
    }
}

fn service_status() -> ServiceStatus {
    let counts = |base: u64| Statistics {
        connections: base + 1,
        in_packets: base + 2,
        out_packets: base + 3,
        in_bytes: base + 4,
        out_bytes: base + 5,
    };
    let rates = Rates {
        connections_per_s: 6,
        in_packets_per_s: 7,
        out_packets_per_s: 8,
        in_bytes_per_s: 9,
        out_bytes_per_s: 10,
    };
    ServiceStatus {
        key: vip(Protocol::Tcp, "198.51.100.10:80"),
        options: ServiceOptions {
            flags: SchedulerFlags {
                fallback: true,
                port: false,
            },
            persistence: Some(Persistence {
                timeout_s: 300,
                mask: ClientMask::Netmask([255, 255, 255, 0].into()),
            }),
            outer_source: Some("10.99.0.0/24".parse().unwrap()),
            ..SchedulerKind::Mh.into()
        },
        servers: vec![ServerStatus {
            key: rip("2001:db8:2::11"),
            options: ServerOptions {
                weight: 3,
                upper_threshold: 10,
                lower_threshold: 5,
                tunnel: TunnelKind::Gue {
                    l4_port: 6080,
                    checksum: GueChecksum::Remote,
                },
            },
            active_connections: 11,
            inactive_connections: 12,
            templates: 13,
            overloaded: false,
            next_hop: NextHopStatus::NoRoute,
            path_mtu: 0,
            statistics: counts(0x1_0000_0000),
            rates,
        }],
        statistics: counts(0),
        rates,
    }
}

/// `ipvsadm -A -t 198.51.100.10:8080 -s mh -b mh-fallback -p 300
/// -M 255.255.255.0`
const ADD_SERVICE: &str = "680000002500050007510b6b9707403b01010000540001800600010002000000
     060002000600000014000300c633640a000000000000000000000000060004001f90000007000600
     6d6800000c00070009000000ffffffff080008002c01000008000900ffffff00";

/// `ipvsadm -a -t [2001:db8:ff::10]:80 -r 10.0.0.11 -i -w 3 -x 10 -y 5
/// --tun-type gue --tun-port 6080 --tun-csum`
const ADD_SERVER: &str = "c80000002500050007510b6b9807403b05010000540001800600
     01000a00000006000200060000001400030020010db800ff00000000000000000010060004000050
     000005000600000000000c00070000000000ffffffff080008000000000008000900800000006000
     028006000b0002000000140001000a00000b00ff0000000000000000001006000200005000000800
     030002000000080004000300000005000d000100000006000e0017c0000006000f00010000000800
     05000a0000000800060005000000";

/// `ipvsadm -d -f 5 -6 -r 2001:db8::1`
const DELETE_SERVER: &str = "ac0000002500050007510b6b9907403b07010000380001800600
     01000a000000080005000500000005000600000000000c00070000000000ffffffff080008000000
     000008000900800000006000028006000b000a0000001400010020010db800000000000000000000
     000106000200000000000800030003000000080004000100000005000d000000000006000e000000
     000006000f000000000008000500000000000800060000000000";

#[test]
fn what_ipvsadm_sends_is_understood() {
    let mark = ServiceKey::Mark {
        fwmark: 5,
        ipv6: true,
    };
    for (recorded, command) in [
        (
            ADD_SERVICE,
            Command::AddService(
                vip(Protocol::Tcp, "198.51.100.10:8080"),
                ServiceOptions {
                    outer_source: None,
                    ..service_status().options
                },
            ),
        ),
        (
            ADD_SERVER,
            Command::AddServer(
                vip(Protocol::Tcp, "[2001:db8:ff::10]:80"),
                rip("10.0.0.11"),
                ServerOptions {
                    weight: 3,
                    upper_threshold: 10,
                    lower_threshold: 5,
                    tunnel: TunnelKind::Gue {
                        l4_port: 6080,
                        checksum: GueChecksum::Outer,
                    },
                },
            ),
        ),
        (
            DELETE_SERVER,
            Command::DeleteServer(mark, rip("2001:db8::1")),
        ),
        // ipvsadm -Z
        (
            "140000002500050007510b6b9b07403b10010000",
            Command::Zero(None),
        ),
        // ipvsadm -C
        ("140000002500050007510b6b9c07403b11010000", Command::Flush),
        // ipvsadm -D -u 192.0.2.1:53
        (
            "680000002500050007510b6b9d07403b0301000054000180060001000200000006000200
             1100000014000300c0000201000000000000000000000000060004000035000005000600000000
             000c00070000000000ffffffff080008000000000008000900ffffffff",
            Command::DeleteService(vip(Protocol::Udp, "192.0.2.1:53")),
        ),
    ] {
        assert_eq!(command_of(&bytes(recorded)), command);
    }
    // ipvsadm --set 1 2 3
    let (requests, replies) = asked(&bytes(
        "2c0000002500050007510b6b9a07403b0c010000080004000100000008000500020000000800060003000000",
    ));
    let [tcp, tcp_fin, udp] = [1, 2, 3];
    assert_eq!(requests, [Request::SetTimeouts { tcp, tcp_fin, udp }]);
    assert_eq!(outcome(&replies), 0);
}

#[test]
fn the_family_is_told_and_acknowledged() {
    // What ipvsadm asks first.
    let (_, replies) = asked(&bytes(
        "200000001000050006510b6b9707c0dd03010000090002004950565300000000",
    ));
    let messages = read(&replies);
    assert_eq!((replies.len(), messages.len()), (2, 2));
    assert_eq!(
        (*messages[0].nl_seq(), *messages[0].nl_pid()),
        (0x6b0b_5106, 0xddc0_0797)
    );
    assert_eq!(*messages[0].nl_type(), CONTROL);
    let generic = generic(&messages[0]);
    assert_eq!(*generic.cmd(), 1);
    let attributes = generic.attrs().get_attr_handle();
    assert_eq!(attributes.get_attr_payload_as::<u16>(1).unwrap(), IPVS);
    let name = attributes.get_attribute(2).unwrap();
    assert_eq!(name.nla_payload().as_ref(), b"IPVS\0");
    assert_eq!(outcome(&replies), 0);
}

#[test]
fn an_acknowledgement_is_the_kernel_s() {
    let (_, replies) = asked(&bytes("140000002500050007510b6b9c07403b11010000"));
    assert_eq!(
        replies,
        [bytes(
            "240000000200000007510b6b9c07403b00000000140000002500050007510b6b9c07403b"
        )]
    );
}

fn key_attributes(family: u16, protocol: u16, address: &[u8], l4_port: u16) -> Vec<Attribute16> {
    vec![
        attribute(1, family.to_ne_bytes()),
        attribute(2, protocol.to_ne_bytes()),
        attribute(3, address),
        attribute(4, l4_port.to_be_bytes()),
    ]
}

const VIP: [u8; 4] = [198, 51, 100, 10];

fn service_attributes(scheduler: &[u8], flags: [u32; 2], timeout_s: u32) -> Vec<Attribute16> {
    let mut attributes = key_attributes(2, 6, &VIP, 80);
    attributes.extend([
        attribute(6, scheduler),
        attribute(7, flags.map(u32::to_ne_bytes).as_flattened()),
        attribute(8, timeout_s.to_ne_bytes()),
        attribute(9, [255; 4]),
    ]);
    attributes
}

fn server_attributes(method: u32) -> Vec<Attribute16> {
    vec![
        attribute(1, [10, 0, 0, 11]),
        attribute(2, 80_u16.to_be_bytes()),
        attribute(3, method.to_ne_bytes()),
        attribute(4, 1_u32.to_ne_bytes()),
        attribute(5, 0_u32.to_ne_bytes()),
        attribute(6, 0_u32.to_ne_bytes()),
    ]
}

fn about_server(command: u8, method: u32) -> Vec<u8> {
    let service = nest(1, &key_attributes(2, 6, &VIP, 80));
    let server = nest(2, &server_attributes(method));
    request(IPVS, command, ACK, vec![service, server])
}

#[test]
fn services_are_listed_as_the_kernel_lists_them() {
    let (requests, replies) = asked(&request(IPVS, 4, DUMP, Vec::new()));
    assert_eq!(requests, [Request::Services]);
    let messages = read(&replies);
    assert_eq!(messages.len(), 2);
    assert!(messages[0].nl_flags().contains(NlmF::MULTI));
    assert_eq!(*messages[1].nl_type(), 3, "done");
    let reply = generic(&messages[0]);
    assert_eq!(*reply.cmd(), 1);
    let top = reply.attrs().get_attr_handle();
    let service = top.get_nested_attributes::<u16>(1).unwrap();
    let raw = |kind| service.get_attribute(kind).unwrap().nla_payload().as_ref();
    assert_eq!(service.get_attr_payload_as::<u16>(1).unwrap(), 2);
    assert_eq!(service.get_attr_payload_as::<u16>(2).unwrap(), 6);
    assert_eq!(raw(3)[..4], VIP);
    assert_eq!(raw(3).len(), 16);
    assert_eq!(raw(4), [0, 80]);
    assert_eq!(raw(6), b"mh\0");
    // Persistent, hashed, and the first flag of the scheduler.
    assert_eq!(raw(7)[..4], 11_u32.to_ne_bytes());
    assert_eq!(service.get_attr_payload_as::<u32>(8).unwrap(), 300);
    assert_eq!(raw(9), [255, 255, 255, 0]);
    let old = service.get_nested_attributes::<u16>(10).unwrap();
    let new = service.get_nested_attributes::<u16>(12).unwrap();
    for kind in 1..=10 {
        let expected = u64::from(kind);
        assert_eq!(new.get_attr_payload_as::<u64>(kind).unwrap(), expected);
        if kind == 4 || kind == 5 {
            assert_eq!(old.get_attr_payload_as::<u64>(kind).unwrap(), expected);
        } else {
            assert_eq!(
                old.get_attr_payload_as::<u32>(kind).unwrap(),
                u32::from(kind)
            );
        }
    }
}

#[test]
fn servers_are_listed_as_the_kernel_lists_them() {
    let service = nest(1, &key_attributes(2, 6, &VIP, 80));
    let (requests, replies) = asked(&request(IPVS, 8, DUMP, vec![service]));
    assert_eq!(requests, [Request::Service(service_status().key)]);
    let messages = read(&replies);
    assert_eq!(messages.len(), 2);
    let reply = generic(&messages[0]);
    assert_eq!(*reply.cmd(), 5);
    let top = reply.attrs().get_attr_handle();
    let server = top.get_nested_attributes::<u16>(2).unwrap();
    let raw = |kind| server.get_attribute(kind).unwrap().nla_payload().as_ref();
    assert_eq!(
        raw(1),
        "2001:db8:2::11"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets()
    );
    assert_eq!(raw(2), [0, 80]);
    let numbers: Vec<_> = (3..=9)
        .map(|kind| server.get_attr_payload_as::<u32>(kind).unwrap())
        .collect();
    assert_eq!(numbers, [2, 3, 10, 5, 11, 12, 13]);
    assert_eq!(server.get_attr_payload_as::<u16>(11).unwrap(), 10);
    assert_eq!((raw(13), raw(14)), (&[1][..], &6080_u16.to_be_bytes()[..]));
    assert_eq!(server.get_attr_payload_as::<u16>(15).unwrap(), 2);
    let old = server.get_nested_attributes::<u16>(10).unwrap();
    assert_eq!(
        old.get_attr_payload_as::<u32>(1).unwrap(),
        1,
        "the lower half"
    );
    let new = server.get_nested_attributes::<u16>(12).unwrap();
    assert_eq!(new.get_attr_payload_as::<u64>(1).unwrap(), 0x1_0000_0001);
}

#[test]
fn long_lists_come_in_several_datagrams() {
    let many = ServiceStatus {
        servers: vec![service_status().servers[0].clone(); 100],
        ..service_status()
    };
    let service = nest(1, &key_attributes(2, 6, &VIP, 80));
    let datagram = request(IPVS, 8, DUMP, vec![service]);
    let replies = answer(&datagram, true, &mut |_| {
        Ok(Response::Services(vec![many.clone()]))
    });
    assert!(replies.len() > 2);
    assert!(replies.iter().all(|reply| reply.len() <= DATAGRAM_LEN_MAX));
    assert_eq!(read(&replies).len(), 101);
}

#[test]
fn an_edit_keeps_what_it_does_not_speak_of() {
    // Flags are masked, so that persistence stays and the flag goes.
    let edit = nest(1, &service_attributes(b"sh\0", [0, 8], 120));
    let (requests, _) = asked(&request(IPVS, 2, ACK, vec![edit]));
    let before = service_status();
    let persistence = Some(Persistence {
        timeout_s: 120,
        mask: ClientMask::host(false),
    });
    let options = ServiceOptions {
        persistence,
        outer_source: before.options.outer_source,
        ..SchedulerKind::Sh.into()
    };
    assert_eq!(
        requests,
        [
            Request::Service(before.key),
            Request::Apply(Command::EditService(before.key, options)),
        ]
    );
}

/// Requests that are refused without a change: what is wrong, and the error.
fn assert_refused(cases: Vec<(&str, Vec<u8>, i32)>) {
    for (what, datagram, errno) in cases {
        let (requests, replies) = asked(&datagram);
        assert_eq!(outcome(&replies), errno, "{what}");
        let changes = requests.iter().any(|it| matches!(it, Request::Apply(_)));
        assert!(!changes, "{what}: {requests:?}");
    }
}

#[test]
fn what_is_no_command_gets_the_kernel_s_errors() {
    let name = vec![attribute(2, b"nope\0")];
    let service = vec![nest(1, &key_attributes(2, 6, &VIP, 80))];
    assert_refused(vec![
        (
            "no family of that number",
            request(40, 4, DUMP, Vec::new()),
            2,
        ),
        ("no family of that name", request(CONTROL, 3, ACK, name), 2),
        (
            "nothing that names a family",
            request(CONTROL, 3, ACK, Vec::new()),
            22,
        ),
        (
            "another command of nlctrl",
            request(CONTROL, 7, ACK, Vec::new()),
            95,
        ),
        ("an unknown command", request(IPVS, 18, ACK, service), 95),
        (
            "a dump of what has none",
            request(IPVS, 15, DUMP, Vec::new()),
            95,
        ),
        ("a daemon", request(IPVS, 9, ACK, Vec::new()), 95),
        (
            "the end of a daemon",
            request(IPVS, 10, ACK, Vec::new()),
            95,
        ),
        (
            "an unknown text",
            request(IPVS, 128, DUMP, vec![attribute(1, [9])]),
            22,
        ),
    ]);
}

#[test]
fn wrong_services_and_servers_get_the_kernel_s_errors() {
    let key = |family, protocol, address: &[u8], l4_port| {
        vec![nest(1, &key_attributes(family, protocol, address, l4_port))]
    };
    let add = |kind: u16, value: &[u8]| {
        let mut attributes = service_attributes(b"rr\0", [0, u32::MAX], 0);
        attributes.push(attribute(kind, value));
        request(IPVS, 1, ACK, vec![nest(1, &attributes)])
    };
    let delete = |attributes| request(IPVS, 3, ACK, attributes);
    let persistent = [1, 0, 0, 0, 255, 255, 255, 255];
    assert_refused(vec![
        ("without a service", request(IPVS, 1, ACK, Vec::new()), 22),
        (
            "without its options",
            request(IPVS, 1, ACK, key(2, 6, &VIP, 80)),
            22,
        ),
        ("another address family", delete(key(7, 6, &VIP, 80)), 97),
        ("another protocol", delete(key(2, 1, &VIP, 80)), 22),
        ("half an address", delete(key(2, 6, &VIP[..2], 80)), 22),
        (
            "a multicast VIP",
            delete(key(2, 6, &[224, 0, 0, 1], 80)),
            22,
        ),
        ("mark 0", add(5, &[0; 4]), 22),
        ("an unknown scheduler", add(6, b"nosuch\0"), 2),
        ("a persistence engine", add(11, b"sip\0"), 2),
        ("persistent for no time", add(7, &persistent), 22),
        ("half the flags", add(7, &persistent[..4]), 22),
        ("masquerading", about_server(5, 0), 22),
        ("local", about_server(5, 1), 22),
        ("direct routing", about_server(6, 3), 22),
        (
            "an unknown service",
            request(IPVS, 4, ACK, key(2, 6, &VIP, 81)),
            3,
        ),
    ]);
}

#[test]
fn refusals_have_the_kernel_s_numbers() {
    let key = service_status().key;
    let server = rip("10.0.0.11");
    for (error, errno) in [
        (CommandError::ServiceExists(key), 17),
        (CommandError::ServerExists(key, server), 17),
        (CommandError::NoSuchService(key), 3),
        (CommandError::NoSuchServer(key, server), 2),
        (CommandError::WeightOutOfRange(u32::MAX), 34),
        (CommandError::ThresholdsCrossed { lower: 2, upper: 1 }, 34),
        (CommandError::NoTunnelPort, 22),
        (CommandError::TooManyServices(1), 12),
        (CommandError::TooManyServers(1), 12),
    ] {
        let replies = answer(&about_server(5, 2), true, &mut |_| {
            Ok(Response::Refused(error.clone()))
        });
        assert_eq!(outcome(&replies), errno, "{error}");
    }
    let replies = answer(&about_server(5, 2), true, &mut |_| Err(Errno::TryAgain));
    assert_eq!(outcome(&replies), 11);
}

#[test]
fn an_error_comes_with_what_it_is_about() {
    let datagram = about_server(5, 0);
    let (_, replies) = asked(&datagram);
    assert_eq!(replies[0][20..], datagram);
}

#[test]
fn who_may_not_ask_is_told_so_about_everything() {
    for command in 1..=17 {
        let flags = if matches!(command, 8 | 11) { DUMP } else { ACK };
        let service = nest(1, &service_attributes(b"rr\0", [0, u32::MAX], 0));
        let server = nest(2, &server_attributes(2));
        let datagram = request(IPVS, command, flags, vec![service, server]);
        let replies = answer(&datagram, false, &mut |request| panic!("{request:?}"));
        // The kernel has no such command of this number.
        let errno = if command == 14 { 95 } else { 1 };
        assert_eq!(outcome(&replies), errno, "{command}");
    }
}

#[test]
fn empty_dumps_end_at_once() {
    let unknown = nest(1, &key_attributes(2, 6, &VIP, 81));
    for (command, attributes) in [(8, vec![unknown]), (8, Vec::new()), (11, Vec::new())] {
        let (_, replies) = asked(&request(IPVS, command, DUMP, attributes));
        assert_eq!(replies.len(), 1);
        // NLMSG_DONE with NLM_F_MULTI.
        assert_eq!(
            replies[0],
            bytes("140000000300020007000000671200000000 0000"),
            "{command}"
        );
    }
}

#[test]
fn texts_are_known_beforehand_and_come_in_pieces() {
    let datagram = request(IPVS, 128, DUMP, vec![attribute(1, [0])]);
    assert!(asks_for_text(&datagram));
    assert!(!asks_for_text(&about_server(5, 2)));
    let (_, replies) = asked(&datagram);
    let messages = read(&replies);
    let top = generic(&messages[0]).attrs().get_attr_handle();
    let piece = top.get_attribute(1).unwrap().nla_payload().as_ref();
    assert!(piece.starts_with(b"IP Virtual Server version 1.2.1"));
}

/// Requests that make sense, to be spoilt.
fn sensible() -> Vec<Vec<u8>> {
    vec![
        bytes(ADD_SERVICE),
        bytes(ADD_SERVER),
        bytes(DELETE_SERVER),
        request(IPVS, 4, DUMP, Vec::new()),
        about_server(6, 2),
        [
            about_server(5, 2),
            request(CONTROL, 3, ACK, vec![attribute(2, b"IPVS\0")]),
        ]
        .concat(),
    ]
}

proptest! {
    #[test]
    fn no_bytes_panic(datagram in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (_, replies) = asked(&datagram);
        prop_assert!(replies.iter().all(|reply| reply.len() <= DATAGRAM_LEN_MAX));
    }

    #[test]
    fn no_spoilt_request_panics(
        which in 0_usize..6,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        is_cut in any::<bool>(),
    ) {
        let mut datagram = sensible()[which].clone();
        let at = at.index(datagram.len());
        datagram[at] = byte;
        if is_cut {
            datagram.truncate(at);
        }
        let (_, replies) = asked(&datagram);
        for message in replies.iter().flat_map(|reply| messages(reply)) {
            prop_assert!(message.whole.len() <= DATAGRAM_LEN_MAX);
        }
    }
}
