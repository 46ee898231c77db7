//! The links of ports.

use pointsman::io::PortIndex;

use crate::{
    frames::{SYN, tcp},
    lab::Lab,
};

#[test]
fn a_link_lost_right_after_the_start_makes_servers_behind_it_unreachable() {
    let mut lab = Lab::start();
    lab.network.set_link(PortIndex(1), false);
    lab.advance(1000);
    let sent = lab.answers(&tcp(1000, SYN).frame());
    // Host unreachable (RFC 792), to the client.
    assert_eq!(sent.len(), 1);
    let (port, frame) = &sent[0];
    assert_eq!((port, frame[23], &frame[34..36]), (&0, 1, &[3, 1][..]));

    lab.network.set_link(PortIndex(1), true);
    lab.advance(1000);
    let sent = lab.answers(&tcp(1001, SYN).frame());
    assert_eq!(sent.len(), 1);
    let (port, frame) = &sent[0];
    assert_eq!((port, &frame[30..34]), (&1, &[10, 0, 0, 11][..]));
}
