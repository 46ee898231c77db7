//! `realserver` between real network namespaces: a client's namespace, where
//! the test tunnels packets as a director would, and a real server's.
//!
//! The server runs in a thread that has moved into its namespace.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{
    fs::File,
    io::{ErrorKind, Read},
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsFd,
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use pointsman::realserver::{
    Options, RealServerError, Signals, Summary, decapsulate::DropReason, run,
};
use rustix::{
    net::RecvFlags,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 2);
const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
const OTHER_VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 11);
const NOT_A_VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 12);
const CLIENT_PORT: u16 = 5000;
const SERVICE_PORT: u16 = 7;
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn datagrams_through_the_tunnel_are_answered_from_the_vip() {
    let Some(lab) = Lab::build("datagrams_through_the_tunnel_are_answered_from_the_vip") else {
        return;
    };
    let server = lab.start_server();
    lab.echo(VIP);
    lab.echo(OTHER_VIP);
    let client = lab.in_client(|| UdpSocket::bind((CLIENT, CLIENT_PORT)).unwrap());
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // The longest ones go in several outer fragments.
    for (vip, len) in [
        (VIP, 1),
        (OTHER_VIP, 100),
        (VIP, 1452),
        (VIP, 4000),
        (OTHER_VIP, 60_000),
    ] {
        lab.tunnel(&datagram(vip, &vec![b'x'; len]));
        assert_eq!(
            receive(&client),
            (len, SocketAddrV4::new(vip, SERVICE_PORT))
        );
    }
    let summary = server.stop();
    assert_eq!((summary.received, summary.delivered), (5, 5), "{summary}");
    assert_eq!(
        summary.delivered_bytes,
        1 + 100 + 1452 + 4000 + 60_000 + 5 * 28
    );
    assert_eq!(summary.missed, 0);
}

#[test]
fn a_tunnelled_syn_is_answered_with_the_full_segment_size() {
    let Some(lab) = Lab::build("a_tunnelled_syn_is_answered_with_the_full_segment_size") else {
        return;
    };
    let server = lab.start_server();
    let listener = lab.in_server(|| std::net::TcpListener::bind((VIP, SERVICE_PORT)).unwrap());
    let answers = lab.in_client(|| raw_socket(6));
    lab.tunnel(&syn());
    let (packet, from) = receive_raw(&answers);
    assert_eq!(from, VIP);
    let header = &packet[20..];
    assert_eq!(header[0..4], [0, 7, 0x13, 0x88], "ports");
    assert_eq!(
        header[8..12],
        1001_u32.to_be_bytes(),
        "acknowledges the SYN"
    );
    assert_eq!(header[13], 0x12, "SYN and ACK");
    // The path MTU to the server is the director's business: 1460 it stays.
    assert_eq!(header[20..24], [2, 4, 0x05, 0xb4]);
    drop(listener);
    assert_eq!(server.stop().delivered, 1);
}

#[test]
fn a_checksum_left_to_hardware_is_finished() {
    let Some(lab) = Lab::build("a_checksum_left_to_hardware_is_finished") else {
        return;
    };
    let server = lab.start_server();
    lab.echo(VIP);
    let client = lab.in_client(|| UdpSocket::bind((CLIENT, CLIENT_PORT)).unwrap());
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut packet = datagram(VIP, b"hello");
    let pseudo = !checksum(&pseudo_header(VIP, 17, 13));
    packet[26..28].copy_from_slice(&pseudo.to_be_bytes());
    lab.tunnel(&packet);
    assert_eq!(receive(&client), (5, SocketAddrV4::new(VIP, SERVICE_PORT)));
    assert_eq!(server.stop().checksums_completed, 1);
}

#[test]
fn packets_for_no_vip_of_ours_are_counted_and_go_nowhere() {
    let Some(lab) = Lab::build("packets_for_no_vip_of_ours_are_counted_and_go_nowhere") else {
        return;
    };
    let server = lab.start_server();
    lab.echo(VIP);
    let client = lab.in_client(|| UdpSocket::bind((CLIENT, CLIENT_PORT)).unwrap());
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    lab.tunnel(&datagram(NOT_A_VIP, b"to nobody"));
    lab.tunnel(&datagram(VIP, b"to the VIP"));
    assert_eq!(receive(&client).0, 10);
    let summary = server.stop();
    assert_eq!(
        summary.dropped[DropReason::NotAVip as usize],
        1,
        "{summary}"
    );
    assert_eq!((summary.received, summary.delivered), (2, 1));
    assert!(
        summary.to_string().contains("dropped not_a_vip"),
        "{summary}"
    );
}

#[test]
fn nobody_but_the_director_answers_for_the_vip_until_the_end() {
    let Some(lab) = Lab::build("nobody_but_the_director_answers_for_the_vip_until_the_end") else {
        return;
    };
    ip(&[
        "-n",
        &lab.client,
        "route",
        "add",
        "198.51.100.0/24",
        "dev",
        "eth0",
    ]);
    let settings = || lab.in_server(|| (read("arp_ignore"), read("arp_announce")));
    let before = settings();
    let server = lab.start_server();
    assert_eq!(settings(), ("1".to_owned(), "2".to_owned()));
    let client = lab.in_client(|| UdpSocket::bind((CLIENT, CLIENT_PORT)).unwrap());
    // Without the tunnel: the client has to ask for the VIP's MAC address.
    client.send_to(b"x", (SERVER, 9)).unwrap();
    client.send_to(b"x", (VIP, 9)).unwrap();
    wait_for("the server's own address is known", || {
        lab.neighbor(SERVER).contains("lladdr")
    });
    wait_for("nobody answered for the VIP", || {
        lab.neighbor(VIP).contains("FAILED")
    });
    server.stop();
    assert_eq!(settings(), before);
}

#[test]
fn a_host_that_cannot_be_a_real_server_is_left_as_it_was() {
    let Some(lab) = Lab::build("a_host_that_cannot_be_a_real_server_is_left_as_it_was") else {
        return;
    };
    let settings = || (read("arp_ignore"), read("arp_announce"));
    let before = lab.in_server(settings);
    let run_with = |options: Options| lab.in_server(move || run(&options, &Signals::default()));
    let wrong = Options {
        local: CLIENT.into(),
        ..options()
    };
    assert!(matches!(
        run_with(wrong),
        Err(RealServerError::Bind { local, .. }) if local == CLIENT
    ));
    let wrong = Options {
        vips: vec![VIP.into(), SERVER.into()],
        ..options()
    };
    assert!(matches!(
        run_with(wrong),
        Err(RealServerError::VipIsLocal(local)) if local == SERVER
    ));
    let wrong = Options {
        tun_name: "a name that is too long".to_owned(),
        ..options()
    };
    assert!(matches!(run_with(wrong), Err(RealServerError::Tun { .. })));
    let wrong = Options {
        vips: Vec::new(),
        ..options()
    };
    assert!(matches!(run_with(wrong), Err(RealServerError::NoVip)));
    assert_eq!(lab.in_server(settings), before);
}

/// Before anything of the host is touched, so that no rights are needed.
#[test]
fn addresses_that_no_host_can_have_are_refused() {
    for (vip, message) in [
        (
            "224.0.0.1",
            "224.0.0.1 is a multicast address; --vip and --local take addresses that a host can \
             have",
        ),
        (
            "255.255.255.255",
            "255.255.255.255 is the broadcast address; --vip and --local take addresses that a \
             host can have",
        ),
        (
            "127.0.0.1",
            "127.0.0.1 is a loopback address; --vip and --local take addresses that a host can \
             have",
        ),
        (
            "0.0.0.0",
            "0.0.0.0 is an address of 0.0.0.0/8; --vip and --local take addresses that a host \
             can have",
        ),
        (
            "ff02::1",
            "ff02::1 is a multicast address; --vip and --local take addresses that a host can have",
        ),
    ] {
        let wrong = Options {
            vips: vec![VIP.into(), vip.parse().unwrap()],
            ..options()
        };
        let error = run(&wrong, &Signals::default()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

fn options() -> Options {
    Options {
        vips: vec![VIP.into(), OTHER_VIP.into()],
        local: SERVER.into(),
        directors: vec![format!("{CLIENT}/32").parse().unwrap()],
        gre: false,
        gue_l4_port: None,
        tun_name: Options::TUN_NAME_DEFAULT.to_owned(),
    }
}

/// Labs made so far by this process.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Two namespaces joined by a cable.
struct Lab {
    client: String,
    server: String,
}

struct Server {
    thread: JoinHandle<Result<Summary, RealServerError>>,
    signals: Signals,
}

impl Lab {
    /// `None`, with the reason printed, where there can be no namespaces.
    fn build(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: {test}: network namespaces take root");
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |end| format!("pmreal{}-{number}{end}", process::id());
        let lab = Self {
            client: name("c"),
            server: name("s"),
        };
        for namespace in [&lab.client, &lab.server] {
            ip(&["netns", "add", namespace]);
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
        }
        if lab.in_server(|| File::open("/proc/sys/net/ipv4/conf/tunl0").is_ok()) {
            println!("skipped: {test}: this kernel has ipip, which takes the packets itself");
            return None;
        }
        ip(&[
            "link",
            "add",
            "eth0",
            "netns",
            &lab.client,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &lab.server,
        ]);
        for (namespace, address) in [(&lab.client, CLIENT), (&lab.server, SERVER)] {
            ip(&[
                "-n",
                namespace,
                "address",
                "add",
                &format!("{address}/24"),
                "dev",
                "eth0",
            ]);
            ip(&["-n", namespace, "link", "set", "eth0", "up"]);
        }
        Some(lab)
    }

    fn neighbor(&self, address: Ipv4Addr) -> String {
        let arguments = ["-n", &self.client, "neighbor", "show", &address.to_string()];
        let output = Command::new("ip").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn in_client<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        inside(&self.client, work)
    }

    fn in_server<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        inside(&self.server, work)
    }

    /// Starts a real server and waits until it has its VIPs.
    fn start_server(&self) -> Server {
        let signals = Signals::default();
        let (namespace, of_thread) = (self.server.clone(), signals.clone());
        let thread = thread::spawn(move || {
            move_to(&namespace);
            run(&options(), &of_thread)
        });
        let server = Server { thread, signals };
        wait_for("the real server runs", || {
            assert!(
                !server.thread.is_finished(),
                "the real server ended at once"
            );
            self.in_server(|| UdpSocket::bind((OTHER_VIP, 0)).is_ok())
        });
        server
    }

    /// Sends datagrams for the address back, until the namespace is gone.
    fn echo(&self, address: Ipv4Addr) {
        let socket = self.in_server(|| UdpSocket::bind((address, SERVICE_PORT)).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(&buffer[..len], from).unwrap();
            }
        });
    }

    /// Sends `inner` to the server behind an outer header.
    fn tunnel(&self, inner: &[u8]) {
        let socket = self.in_client(|| raw_socket(4));
        let to = SockAddr::from(SocketAddrV4::new(SERVER, 0));
        assert_eq!(socket.send_to(inner, &to).unwrap(), inner.len());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.client, &self.server] {
            // Nothing can be done about it here.
            let _ = Command::new("ip")
                .args(["netns", "delete", namespace])
                .output();
        }
    }
}

impl Server {
    fn stop(self) -> Summary {
        self.signals.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap()
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn inside<R: Send>(namespace: &str, work: impl FnOnce() -> R + Send) -> R {
    let there = || {
        move_to(namespace);
        work()
    };
    thread::scope(|scope| scope.spawn(there).join().unwrap())
}

/// Moves the calling thread, and no other.
fn move_to(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// A setting of all interfaces in the namespace of the calling thread.
fn read(name: &str) -> String {
    let mut text = String::new();
    let path = format!("/proc/sys/net/ipv4/conf/all/{name}");
    File::open(path).unwrap().read_to_string(&mut text).unwrap();
    text.trim().to_owned()
}

fn raw_socket(protocol: i32) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(protocol))).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> (usize, SocketAddrV4) {
    let mut buffer = vec![0; 65_536];
    match socket.recv_from(&mut buffer) {
        Ok((len, std::net::SocketAddr::V4(from))) => (len, from),
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no answer came"),
        other => panic!("{other:?}"),
    }
}

fn receive_raw(socket: &Socket) -> (Vec<u8>, Ipv4Addr) {
    let mut buffer = vec![0; 2048];
    let (len, _) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()).unwrap();
    buffer.truncate(len);
    let from: [u8; 4] = buffer[12..16].try_into().unwrap();
    (buffer, from.into())
}

/// A UDP datagram from the client, with right checksums.
fn datagram(to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap();
    let mut segment = Vec::new();
    for word in [CLIENT_PORT, SERVICE_PORT, len, 0] {
        segment.extend(word.to_be_bytes());
    }
    segment.extend(payload);
    let sum = checksum(&[&pseudo_header(to, 17, len)[..], &segment].concat());
    segment[6..8].copy_from_slice(&sum.to_be_bytes());
    packet(to, 17, &segment)
}

/// A SYN from the client with sequence number 1000 and without options.
fn syn() -> Vec<u8> {
    let mut segment = Vec::new();
    for word in [
        CLIENT_PORT,
        SERVICE_PORT,
        0,
        1000,
        0,
        0,
        0x5002,
        64_240,
        0,
        0,
    ] {
        segment.extend(word.to_be_bytes());
    }
    let sum = checksum(&[&pseudo_header(VIP, 6, 20)[..], &segment].concat());
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    packet(VIP, 6, &segment)
}

fn packet(to: Ipv4Addr, protocol: u8, segment: &[u8]) -> Vec<u8> {
    let total_len = u16::try_from(20 + segment.len()).unwrap().to_be_bytes();
    let mut header = vec![
        0x45,
        0,
        total_len[0],
        total_len[1],
        0,
        0,
        0x40,
        0,
        63,
        protocol,
        0,
        0,
    ];
    header.extend(CLIENT.octets());
    header.extend(to.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header.extend(segment);
    header
}

fn pseudo_header(to: Ipv4Addr, protocol: u8, len: u16) -> Vec<u8> {
    let len = len.to_be_bytes();
    [
        &CLIENT.octets()[..],
        &to.octets(),
        &[0, protocol, len[0], len[1]],
    ]
    .concat()
}

/// The Internet checksum, written apart from the code under test.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|word| u64::from(word[0]) * 256 + u64::from(word.get(1).copied().unwrap_or(0)));
    !u16::try_from((words.sum::<u64>() - 1) % 0xffff + 1).unwrap()
}
