//! Each counter of work done, reached.

use pointsman::{io::PortIndex, scheduler::SchedulerKind};

use crate::{
    frames::{ACK, SYN, icmp, tcp, udp},
    lab::{Checked, Lab, Setup, web_service},
};

pub(crate) fn a_frame_is_received_once(counter: &str) -> Checked {
    Lab::start().counts_one(counter, |lab| lab.send(&tcp(1000, SYN).frame()))
}

pub(crate) fn a_packet_in_three_outer_fragments_is_forwarded_once(counter: &str) -> Checked {
    let mut lab = Lab::start();
    lab.add_udp_service([10, 0, 3, 1].into());
    lab.take_sent();
    let mut packet = udp(1000, 53, &[7; 1200]);
    packet.flags = 0;
    let checked = lab.counts_one(counter, |lab| lab.send(&packet.frame()));
    // 1,228 bytes through an MTU of 576: 552 + 552 + 124.
    let sent = lab.take_sent();
    let lens: Vec<_> = sent.iter().map(|(_, frame)| frame.len() - 34).collect();
    assert_eq!(lens, [552, 552, 124]);
    checked
}

pub(crate) fn a_frame_is_sent_once(counter: &str) -> Checked {
    Lab::start().counts_one(counter, |lab| lab.send(&tcp(1000, SYN).frame()))
}

pub(crate) fn an_answer_that_the_port_does_not_take_is_refused(counter: &str) -> Checked {
    let mut lab = Lab::start();
    lab.network.set_tx_capacity(PortIndex(0), 0);
    let ping = icmp(8, 0, b"\0\x01\0\x01").frame();
    let checked = lab.counts_one_and(counter, &["local"], |lab| lab.send(&ping));
    assert_eq!(lab.take_sent(), []);
    checked
}

pub(crate) fn a_syn_is_a_connection(counter: &str) -> Checked {
    let mut lab = Lab::start();
    let checked = lab.counts_one(counter, |lab| lab.send(&tcp(1000, SYN).frame()));
    lab.advance(61_000);
    assert_eq!(lab.counter(counter), 0);
    checked
}

pub(crate) fn a_syn_opens_a_connection_and_its_next_packets_do_not(counter: &str) -> Checked {
    Lab::start().counts_one(counter, |lab| {
        for flags in [SYN, SYN, ACK, ACK] {
            lab.send(&tcp(1000, flags).frame());
        }
    })
}

pub(crate) fn a_syn_alone_expires_after_a_minute(counter: &str) -> Checked {
    let mut lab = Lab::start();
    lab.send(&tcp(1000, SYN).frame());
    lab.counts_one(counter, |lab| {
        lab.advance(59_000);
        assert_eq!(lab.state_of(1000), Some("SYN_RECV"));
        lab.advance(2_000);
        assert_eq!(lab.state_of(1000), None);
    })
}

pub(crate) fn a_syn_alone_gives_way_in_a_full_table(counter: &str) -> Checked {
    let mut lab = Lab::with(&Setup {
        connections_max: 4,
        ..Setup::default()
    });
    for client_port in 1..=4 {
        lab.send(&tcp(client_port, SYN).frame());
    }
    lab.send(&tcp(1, ACK).frame());
    let checked = lab.counts_one(counter, |lab| lab.send(&tcp(5, SYN).frame()));
    let states = [1, 2, 3, 4, 5].map(|client_port| lab.state_of(client_port));
    let syn = Some("SYN_RECV");
    assert_eq!(states, [Some("ESTABLISHED"), None, syn, syn, syn]);
    checked
}

pub(crate) fn a_hashed_syn_needs_no_room(counter: &str) -> Checked {
    let mut lab = Lab::with(&Setup {
        connections_max: 1,
        services: vec![web_service(SchedulerKind::Sh, &[(11, 1)])],
        ..Setup::default()
    });
    for flags in [SYN, ACK] {
        lab.send(&tcp(1, flags).frame());
    }
    lab.take_sent();
    let checked = lab.counts_one(counter, |lab| lab.send(&tcp(2, SYN).frame()));
    assert_eq!(lab.take_sent().len(), 1);
    checked
}
