use std::path::Path;

use pointsman::ipvsadm::{Columns, Invocation, Listing};

use crate::{
    case::{self, Step},
    interpret::{Action, Filter, Refusal, interpret},
    network::{Network, NetworkChange},
    shell::{Pipeline, parse},
};

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn plain(text: &str) -> Pipeline {
    Pipeline {
        commands: vec![words(text)],
        redirect: None,
    }
}

#[test]
fn lines_and_semicolons_separate_commands() {
    let parsed = parse("ipvsadm -C;  ipvsadm -Ln\n\n sleep 2 ;").unwrap();
    assert_eq!(
        parsed,
        [plain("ipvsadm -C"), plain("ipvsadm -Ln"), plain("sleep 2")]
    );
}

#[test]
fn quotes_keep_words_together_and_pipes_split() {
    let parsed = parse("grep -E '^(Ip|Icmp): x' /proc/net/snmp | tail -1").unwrap();
    let grep = ["grep", "-E", "^(Ip|Icmp): x", "/proc/net/snmp"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(
        parsed,
        [Pipeline {
            commands: vec![grep, words("tail -1")],
            redirect: None
        }]
    );
}

#[test]
fn redirect_is_apart_from_the_words() {
    let parsed = parse("echo 1 > /proc/x").unwrap();
    let redirect = Some("/proc/x".to_owned());
    assert_eq!(
        parsed,
        [Pipeline {
            commands: vec![words("echo 1")],
            redirect
        }]
    );
}

#[test]
fn loop_runs_its_body_for_each_word() {
    for text in [
        "for i in 15 16; do a 10.0.0.$i x:$i; b; done; c",
        "for i in 15 16; do\n a 10.0.0.$i \
          x:$i\n b\ndone\nc",
    ] {
        let expected = ["a 10.0.0.15 x:15", "b", "a 10.0.0.16 x:16", "b", "c"];
        assert_eq!(parse(text).unwrap(), expected.map(plain), "{text}");
    }
}

#[test]
fn unknown_syntax_is_refused() {
    for text in [
        "a && b",
        "a $(b)",
        "for x",
        "for i in 1; a; done",
        "for i in 1; do a",
        "a | | b",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

fn action(text: &str) -> Result<Action, Refusal> {
    interpret(parse(text).unwrap().first().unwrap())
}

#[test]
fn lines_become_actions() {
    let listing = Listing::Services {
        only: None,
        columns: Columns::Ordinary,
        exact: false,
        sorted: true,
    };
    let cases = [
        ("sleep 31", Action::SleepMs(31_000)),
        ("date +%s", Action::Date),
        ("cat /proc/net/ip_vs_conn", Action::ReadConnections),
        ("grep -E '^Ip:' /proc/net/snmp", Action::Look),
        ("echo 0 > /proc/sys/net/ipv4/ip_forward", Action::Nothing),
        (
            "echo 1000 > /proc/sys/net/ipv4/icmp_ratelimit",
            Action::IcmpInterval(1000),
        ),
        (
            "ipvsadm -Lcn | tail -n +3",
            Action::Ipvsadm(
                Invocation::List(Listing::Connections),
                vec![Filter::TailFrom(3)],
            ),
        ),
        (
            "ipvsadm -Ln | tail -1",
            Action::Ipvsadm(Invocation::List(listing), vec![Filter::TailLast(1)]),
        ),
        (
            "ipvsadm --set 0 30 60",
            Action::Ipvsadm(Invocation::SetTimeouts([0, 30, 60]), vec![]),
        ),
        (
            "/sbin/ip link set vec1 mtu 80",
            Action::Network(NetworkChange::SetMtu { port: 1, mtu: 80 }),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(action(text), Ok(expected), "{text}");
    }
    assert!(matches!(action("reboot"), Err(Refusal::NotUnderstood(_))));
    assert!(matches!(
        action("echo 1 > /proc/sys/net/ipv4/vs/drop_entry"),
        Err(Refusal::Unsupported(what)) if what == "the setting drop_entry"
    ));
}

#[test]
fn filters_work_on_lines() {
    let text = "c\na\nb\n";
    assert_eq!(Filter::Sort.apply(text), "a\nb\nc\n");
    assert_eq!(Filter::TailFrom(2).apply(text), "a\nb\n");
    assert_eq!(Filter::TailFrom(9).apply(text), "");
    assert_eq!(Filter::TailLast(1).apply(text), "b\n");
    assert_eq!(Filter::Grep("a".to_owned()).apply(text), "a\n");
}

fn recorded() -> Vec<case::Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/cases");
    case::read_folder(&folder).unwrap()
}

/// Every recorded line either means something or needs a feature that is
/// named; else a case could pass without having been replayed.
#[test]
fn every_recorded_line_is_understood() {
    let cases = recorded();
    assert_eq!(cases.len(), 119);
    for case in &cases {
        for step in &case.steps {
            let (Step::Config(step) | Step::Cmd(step)) = step else {
                continue;
            };
            for pipeline in parse(&step.cmd).unwrap() {
                if let Err(Refusal::NotUnderstood(line)) = interpret(&pipeline) {
                    panic!("{}: {line}", case.name);
                }
            }
        }
    }
}

#[test]
fn recorded_set_up_makes_the_lab() {
    let setup = recorded().remove(0).net_setup.join("\n");
    let mut network = Network::default();
    for pipeline in parse(&setup).unwrap() {
        match interpret(&pipeline).unwrap() {
            Action::Network(change) => network.change(&change).unwrap(),
            Action::Nothing | Action::IcmpInterval(0) => {}
            other => panic!("{other:?}"),
        }
    }
    let addresses = network.ports.map(|port| (port.addresses, port.mtu));
    let parse = |text: &str| text.parse().unwrap();
    let first = [
        "192.0.2.1/24",
        "198.51.100.10/32",
        "2001:db8:1::1/64",
        "2001:db8:ff::10/128",
    ];
    assert_eq!(addresses[0], (first.map(parse).to_vec(), 1500));
    let second = ["10.0.0.1/24", "2001:db8:2::1/64"];
    assert_eq!(addresses[1], (second.map(parse).to_vec(), 1500));
    assert_eq!(network.neighbors.len(), 10);
    let routes: Vec<String> = network
        .routes
        .iter()
        .map(|route| route.to.to_string())
        .collect();
    assert_eq!(routes, ["0.0.0.0/0", "10.1.0.0/16", "::/0"]);
}
