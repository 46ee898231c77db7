use crate::{
    lists::Intended,
    output::{Compare, RecordedOutput},
};

const CONNECTIONS: &str = "\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 00:59  SYN_RECV    203.0.113.7:53004  198.51.100.10:80   10.0.0.13:80
TCP 14:59  ESTABLISHED 203.0.113.7:53001  198.51.100.10:80   10.0.0.12:80
";

const SERVICES: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  198.51.100.10:80 rr
  -> 10.0.0.11:80                 Tunnel  1      1          0         
";

#[test]
fn connections_are_alike_in_any_order_and_seconds_apart() {
    let ours = "\
IPVS connection entries
TCP 15:00  ESTABLISHED 203.0.113.7:53001  198.51.100.10:80   10.0.0.12:80
TCP 01:00  SYN_RECV    203.0.113.7:53004  198.51.100.10:80   10.0.0.13:80
";
    let mut recorded = RecordedOutput::new(CONNECTIONS, 0, 0);
    assert_eq!(recorded.take_connections(ours), Ok(()));
    assert_eq!(recorded.finish(), Ok(()));
}

#[test]
fn connection_with_another_state_time_or_server_differs() {
    for (from, to) in [
        ("SYN_RECV", "SYNACK"),
        ("00:59", "01:30"),
        ("00:59", "00:40"),
        ("10.0.0.13", "10.0.0.11"),
        ("203.0.113.7:53004", "203.0.113.7:53005"),
    ] {
        let mut recorded = RecordedOutput::new(CONNECTIONS, 0, 0);
        assert!(
            recorded
                .take_connections(&CONNECTIONS.replace(from, to))
                .is_err(),
            "{to}"
        );
    }
    let mut recorded = RecordedOutput::new(CONNECTIONS, 0, 0);
    let lines: Vec<&str> = CONNECTIONS.lines().take(3).collect();
    assert!(recorded.take_connections(&lines.join("\n")).is_err());
}

#[test]
fn a_wait_that_is_not_recorded_shows_in_what_all_connections_have_left() {
    let ours = |seconds: &str| CONNECTIONS.replace("00:59", seconds);
    let waited = |ours: &str| RecordedOutput::new(CONNECTIONS, 0, 0).seconds_waited(ours);
    assert_eq!(waited(&ours("01:09").replace("14:59", "15:09")), 9);
    assert_eq!(waited(&ours("01:09")), 0, "not of all");
    assert_eq!(waited(&ours("01:01").replace("14:59", "15:01")), 0);
    assert_eq!(waited(""), 0);
}

#[test]
fn outputs_of_several_commands_are_told_apart() {
    let text = format!("{SERVICES}{CONNECTIONS}{SERVICES}");
    let mut recorded = RecordedOutput::new(&text, 0, 0);
    assert_eq!(recorded.take_services(SERVICES, Compare::InOrder), Ok(()));
    assert_eq!(recorded.take_connections(CONNECTIONS), Ok(()));
    assert_eq!(recorded.take_services(SERVICES, Compare::InOrder), Ok(()));
    assert_eq!(recorded.finish(), Ok(()));

    let text = SERVICES.repeat(2);
    let mut recorded = RecordedOutput::new(&text, 0, 0);
    assert_eq!(recorded.take_services(SERVICES, Compare::InOrder), Ok(()));
    assert!(recorded.finish().is_err());
}

#[test]
fn connections_shown_in_two_ways_are_told_apart() {
    let proc = "\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP CB007107 BB81 C633640A 0050 0A00000B 0050 ESTABLISHED     893
";
    let text = format!("{proc}{CONNECTIONS}");
    let mut recorded = RecordedOutput::new(&text, 0, 0);
    assert_eq!(recorded.take_connections(proc), Ok(()));
    assert_eq!(recorded.take_connections(CONNECTIONS), Ok(()));
    assert_eq!(recorded.finish(), Ok(()));
}

#[test]
fn other_counts_of_connections_differ() {
    let mut recorded = RecordedOutput::new(SERVICES, 0, 0);
    let ours = SERVICES.replace("1      1          0", "1      0          1");
    assert!(recorded.take_services(&ours, Compare::InOrder).is_err());
}

#[test]
fn unknown_lines_may_stand_only_where_they_are_expected() {
    let text = format!("Ip: Forwarding DefaultTTL\n{SERVICES}");
    let mut recorded = RecordedOutput::new(&text, 0, 0);
    assert!(recorded.take_services(SERVICES, Compare::InOrder).is_err());
    let mut recorded = RecordedOutput::new(&text, 0, 0);
    recorded.expect_unknown();
    assert_eq!(recorded.take_services(SERVICES, Compare::InOrder), Ok(()));
    assert_eq!(recorded.finish(), Ok(()));
}

#[test]
fn exact_lines_must_be_equal() {
    let mut recorded = RecordedOutput::new("No such service\nrc=255\n", 0, 0);
    assert_eq!(recorded.take_lines("No such service"), Ok(()));
    assert!(recorded.take_lines("rc=0").is_err());
}

#[test]
fn intended_difference_names_frames_or_output() {
    let list = Intended::parse(
        "[[difference]]\ncase = \"c\"\nstep = 3\nreason = \"why\"\nframes = [\"1 0aff\"]\n",
    )
    .unwrap();
    let entry = list.of("c", 3).unwrap();
    let frames = entry.frames().unwrap().unwrap();
    assert_eq!(
        (frames[0].nic, frames[0].bytes.as_slice()),
        (1, [0x0a, 0xff].as_slice())
    );
    assert!(list.of("c", 4).is_none());
    assert_eq!(
        list.unknown(|_, step| step == 4).collect::<Vec<_>>(),
        ["c step 3"]
    );
    assert!(Intended::parse("[[difference]]\ncase = \"c\"\n").is_err());
}
