use crate::{
    case::{Case, CommandStep, PacketStep, Step, parse_hex},
    needs::missing_feature,
};

fn case(step: Step) -> Case {
    Case {
        name: "case".to_owned(),
        mac_director: [String::new(), String::new()],
        net_setup: Vec::new(),
        steps: vec![step],
        gue_ports: Vec::new(),
    }
}

fn packet(hex: &str) -> Case {
    let frame = parse_hex(&format!("02000000d00002000000c000{hex}")).unwrap();
    case(Step::Packet(PacketStep {
        nic: 0,
        frame,
        note: String::new(),
        out: Vec::new(),
    }))
}

fn lines(cmd: &str) -> Case {
    case(Step::Cmd(CommandStep {
        cmd: cmd.to_owned(),
        output: String::new(),
        out: Vec::new(),
    }))
}

#[test]
fn packets_that_cannot_be_forwarded_yet_are_found() {
    let ipv4 = |fragment: &str, protocol: &str, l4: &str| {
        packet(&format!(
            "0800450000281234{fragment}40{protocol}0000cb007107c633640a{l4}"
        ))
    };
    let plain = ipv4("4000", "06", "d6d80051000003e8000000005002faf0739a0000");
    assert_eq!(missing_feature(&plain), None);
    let echo_request = ipv4("0000", "01", "0800f7ff00000000");
    assert_eq!(missing_feature(&echo_request), None);
    let quote = |protocol| {
        let header = format!("450000281234400040{protocol}00000a0000010a00000b");
        ipv4(
            "0000",
            "01",
            &format!("0301fcfe00000000{header}0102030405060708"),
        )
    };
    assert_eq!(missing_feature(&quote("06")), None);
    assert_eq!(missing_feature(&quote("04")), None);
    for fragment in ["2000", "0001"] {
        let fragment = ipv4(fragment, "11", "1388003500140000");
        assert_eq!(missing_feature(&fragment), None);
    }
    assert_eq!(missing_feature(&packet("86dd60000000")), None);
}

#[test]
fn lines_that_need_a_missing_feature_are_found() {
    assert_eq!(
        missing_feature(&lines("ipvsadm -A -t 198.51.100.10:80 -s rr")),
        None
    );
    let mixed = lines("ipvsadm -C; ipvsadm -A -t 198.51.100.10:80 -s rr -p 300 --pe sip");
    assert_eq!(
        missing_feature(&mixed).as_deref(),
        Some("a persistence engine (--pe)")
    );
    // A line that nobody understands must fail in the replay, not be skipped.
    assert_eq!(missing_feature(&lines("reboot")), None);
}
