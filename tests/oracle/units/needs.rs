use crate::{
    case::{Case, CommandStep, Step},
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

fn lines(cmd: &str) -> Case {
    case(Step::Cmd(CommandStep {
        cmd: cmd.to_owned(),
        output: String::new(),
        out: Vec::new(),
    }))
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
