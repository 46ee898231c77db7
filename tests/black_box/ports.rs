//! The outer ends of the director's two ports.
//!
//! Each port is a TAP interface in the director's namespace: the director opens
//! it with `AF_PACKET`, and the frames that it sends come out here.

use std::{
    io::ErrorKind,
    thread,
    time::{Duration, Instant},
};

use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::namespace::{Namespace, PATIENCE};

/// Both ports.
pub struct Ports {
    taps: [SyncDevice; 2],
    /// What was sent and not yet taken.
    sent: Vec<(u8, Vec<u8>)>,
}

impl Ports {
    /// Makes the interfaces `vec0` and `vec1`.
    pub fn create(namespace: &Namespace, macs: [&str; 2]) -> Result<Self, String> {
        let make = |name: &str| {
            let device = DeviceBuilder::new()
                .name(name)
                .layer(Layer::L2)
                .build_sync()?;
            device.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(device)
        };
        let taps = namespace.inside(|| Ok([make("vec0")?, make("vec1")?]));
        let taps = taps.map_err(|error: std::io::Error| format!("TAP interface: {error}"))?;
        for (index, mac) in macs.iter().enumerate() {
            // Down, so that the kernel takes the address.
            namespace.ip(&format!("link set vec{index} down"));
            namespace.ip(&format!("link set vec{index} address {mac} arp off up"));
        }
        Ok(Self {
            taps,
            sent: Vec::new(),
        })
    }

    /// Sends a frame to a port.
    pub fn send(&self, port: u8, frame: &[u8]) -> Result<(), String> {
        let tap = self.taps.get(usize::from(port));
        let tap = tap.ok_or_else(|| format!("there is no port {port}"))?;
        match tap.send(frame) {
            Ok(len) if len == frame.len() => Ok(()),
            other => Err(format!("port {port} did not receive the frame: {other:?}")),
        }
    }

    /// Sends an ARP request to each port and waits for the answers. The
    /// director takes up what comes to a port one by one, so that whatever it
    /// sends because of earlier frames has come out by then.
    pub fn fence(&mut self, own_addresses: [[u8; 4]; 2]) -> Result<(), String> {
        for (port, own) in (0..).zip(own_addresses) {
            self.send(port, &arp_request(port, own))?;
        }
        let start = Instant::now();
        let mut answered = [false; 2];
        while answered.contains(&false) {
            for (port, frame) in self.receive()? {
                match answered.get_mut(usize::from(port)) {
                    Some(answered) if frame.starts_with(&fence_mac(port)) => *answered = true,
                    _ => self.sent.push((port, frame)),
                }
            }
            if start.elapsed() > PATIENCE {
                return Err("the director does not answer ARP".to_owned());
            }
            thread::sleep(Duration::from_micros(100));
        }
        // The answer from one port does not hold up frames of the other.
        let frames = self.receive()?;
        self.sent.extend(frames);
        Ok(())
    }

    /// What has been sent so far.
    pub fn take_sent(&mut self) -> Result<Vec<(u8, Vec<u8>)>, String> {
        let mut sent = std::mem::take(&mut self.sent);
        sent.extend(self.receive()?);
        Ok(sent)
    }

    fn receive(&self) -> Result<Vec<(u8, Vec<u8>)>, String> {
        let mut frames = Vec::new();
        let mut buffer = vec![0; FRAME_LEN_MAX];
        for (port, tap) in (0..).zip(&self.taps) {
            loop {
                match tap.recv(&mut buffer) {
                    Ok(len) => {
                        frames.push((port, buffer.get(..len).unwrap_or_default().to_vec()));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(format!("port {port}: {error}")),
                }
            }
        }
        Ok(frames)
    }
}

/// A request (RFC 826) from a host that nobody else is, for the address of the
/// director on this port.
fn arp_request(port: u8, own: [u8; 4]) -> Vec<u8> {
    let mac = fence_mac(port);
    let [a, b, c, _] = own;
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend([a, b, c, 253]);
    frame.extend([0; 6]);
    frame.extend(own);
    frame.resize(60, 0);
    frame
}

const fn fence_mac(port: u8) -> [u8; 6] {
    [0x02, 0, 0, 0, 0xfe, port]
}

const FRAME_LEN_MAX: usize = 65_536;
