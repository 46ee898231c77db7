//! ICMP from and to the client's namespace.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use rustix::net::RecvFlags;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::namespace::{Namespace, PATIENCE};

/// Sees all ICMP that its namespace receives.
#[derive(Debug)]
pub(crate) struct IcmpSocket(Socket);

impl IcmpSocket {
    pub(crate) fn open(namespace: &Namespace) -> Self {
        let socket = namespace
            .inside(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap());
        socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        Self(socket)
    }

    /// Sends an echo request with these bytes, and returns those of the answer.
    pub(crate) fn ping(&self, address: Ipv4Addr, data: &[u8]) -> Vec<u8> {
        let mut message = vec![8, 0, 0, 0, 0x50, 0x4d, 0, 1];
        message.extend(data);
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let to = SockAddr::from(SocketAddrV4::new(address, 0));
        self.0.send_to(&message, &to).unwrap();
        let (_, answer) = self.expect("an echo reply", |from, icmp| {
            from == address && icmp[0] == 0 && icmp[4..8] == [0x50, 0x4d, 0, 1]
        });
        assert_eq!(checksum(&answer), 0, "{answer:?}");
        answer[8..].to_vec()
    }

    /// Waits for a message that `is_it` takes: its sender, and it.
    pub(crate) fn expect(
        &self,
        what: &str,
        is_it: impl Fn(Ipv4Addr, &[u8]) -> bool,
    ) -> (Ipv4Addr, Vec<u8>) {
        let start = Instant::now();
        let mut buffer = vec![0; 2048];
        while start.elapsed() < PATIENCE {
            let Ok((len, _)) = rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty())
            else {
                continue;
            };
            let source: [u8; 4] = buffer[12..16].try_into().unwrap();
            if is_it(source.into(), &buffer[20..len]) {
                return (source.into(), buffer[20..len].to_vec());
            }
        }
        panic!("no {what} came");
    }
}

/// The Internet checksum, written apart from the code under test.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) * 256 + word.get(1).map_or(0, |&byte| u32::from(byte)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}
