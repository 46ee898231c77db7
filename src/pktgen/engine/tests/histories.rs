//! What may become of single flows, and what is said of them.
use super::*;

/// IPIP to the real server at 10.0.0.(10 + number).
fn ipip_to(number: u8, frame: &[u8]) -> Vec<u8> {
    let mut frame = ipip(frame);
    frame[33] = 10 + number;
    fix_outer(&mut frame);
    frame
}

fn fix_outer(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum);
}

#[test]
fn flows_may_leave_the_servers_that_are_named_and_no_others() {
    let mut lab = Lab::new("198.51.100.10:80", |options| {
        options.may_move = vec!["10.0.0.11-10.0.0.12".parse().unwrap()];
    });
    // The flow is with one after the other; 10.0.0.13 it may not leave.
    let (mut sent, mut first_there) = (0, Vec::new());
    for (server, moved) in [(1, 0), (1, 0), (2, 0), (3, 0), (4, 1), (4, 1)] {
        first_there.push(sent);
        for frame in lab.sent() {
            lab.receive(&ipip_to(server, &frame));
            sent += 1;
        }
        let found = lab.mismatches().get("flow_moved").copied().unwrap_or(0);
        assert_eq!(found, moved, "at server {server}");
    }
    let report = Report::of(&lab.pktgen);
    assert_eq!((report.moves.total, report.moves.allowed), (3, 2));
    let list: Vec<_> = report
        .moves
        .list
        .iter()
        .map(|it| {
            let ends = format!("{} {}", it.client, it.service);
            assert_eq!(ends, "198.18.0.0:16384 198.51.100.10:80");
            (it.flow, it.packet, format!("{} {}", it.from, it.to))
        })
        .collect();
    let expected = [
        (first_there[2], "10.0.0.11 10.0.0.12"),
        (first_there[3], "10.0.0.12 10.0.0.13"),
        (first_there[4], "10.0.0.13 10.0.0.14"),
    ];
    assert_eq!(
        list,
        expected.map(|(packet, pair)| (0, packet, pair.to_owned()))
    );
    let text = report.to_string();
    assert!(
        text.contains("moved      3 times to another real server, 2 of them allowed\n"),
        "{text}"
    );
    assert!(text.contains("\n  10.0.0.13 to 10.0.0.14: 1\n"), "{text}");
}

/// Four flows of UDP with a real server each, of which a director loses every
/// tenth packet of the third flow.
fn losing(change: impl FnOnce(&mut Options)) -> Report {
    let mut lab = Lab::new("198.51.100.10:53/udp", |options| {
        options.flows = 4;
        options.count = Some(400);
        options.duration = Duration::from_secs(10);
        change(options);
    });
    let mut number = 0;
    lab.run(|frame| {
        // The last byte of the client's address.
        let flow = frame[29];
        let is_data = flow == 2;
        number += u32::from(is_data);
        if is_data && number % 10 == 0 {
            return Vec::new();
        }
        vec![ipip_to(flow + 1, &frame)]
    })
}

#[test]
fn the_flow_that_loses_packets_is_named() {
    let report = losing(|options| options.per_flow = true);
    assert!(!report.passed);
    assert!(report.lost >= 8, "{report}");
    let losses = report.losses.as_ref().unwrap();
    assert_eq!((losses.flows, losses.allowed), (1, 0), "{report}");
    assert_eq!(losses.packets, report.lost);
    let flow = &losses.list[0];
    assert_eq!(flow.flow, 2);
    assert_eq!(flow.client, "198.18.0.2:16384".parse().unwrap());
    assert_eq!(flow.server, Some("10.0.0.13".parse().unwrap()));
    assert_eq!(u64::from(flow.lost), report.lost);
    // A quarter of what was measured.
    assert!((60..140).contains(&flow.sent), "{report}");
    let line = format!(
        "\n  198.18.0.2:16384 to 198.51.100.10:53: {} of {}, with 10.0.0.13\n",
        flow.lost, flow.sent
    );
    assert!(report.to_string().contains(&line), "{report}");
}

#[test]
fn what_a_flow_may_lose_is_no_failure() {
    let allowed = |range: &str| losing(|options| options.may_lose = vec![range.parse().unwrap()]);
    let report = allowed("10.0.0.13");
    assert!(report.passed, "{report}");
    let losses = report.losses.as_ref().unwrap();
    assert_eq!((losses.packets, losses.allowed), (report.lost, report.lost));
    let other = allowed("10.0.0.11-10.0.0.12");
    assert!(!other.passed, "{other}");
    assert_eq!(other.losses.unwrap().allowed, 0);
}

#[test]
fn without_being_asked_flows_are_not_counted() {
    let report = losing(|_| {});
    assert!(!report.passed);
    assert!(report.losses.is_none());
    assert!(!report.to_string().contains("losing"), "{report}");
}

#[test]
fn real_servers_may_have_mac_addresses_of_their_own() {
    let mac = [2, 0, 0, 0, 0xbb, 7];
    let to = |mac: [u8; 6], frame: &[u8]| {
        let mut frame = ipip(frame);
        frame[..6].copy_from_slice(&mac);
        frame
    };
    let mut lab = Lab::new("198.51.100.10:80", |options| {
        options.server_macs = vec![MacAddr(mac)];
    });
    for mac in [mac, SERVERS_MAC, mac] {
        let sent = lab.sent();
        lab.receive(&to(mac, &sent[0]));
    }
    assert_eq!(lab.mismatches(), BTreeMap::new());
    let report = Report::of(&lab.pktgen);
    let macs = BTreeMap::from([("02:00:00:00:bb:07".to_owned(), 2)]);
    assert_eq!(report.server_macs, macs);
    let sent = lab.sent();
    lab.receive(&to([2, 0, 0, 0, 0xbb, 8], &sent[0]));
    assert_eq!(lab.mismatches(), BTreeMap::from([("destination_mac", 1)]));
}
