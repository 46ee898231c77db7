//! `pointsman explain` asks a director at work.

use std::process::{Command, Output};

use crate::support::{CLIENT_WAN, Director, Lab, PROGRAM, Shape, VIP, rip};

fn explain(director: &Director, words: &str) -> Output {
    Command::new(PROGRAM)
        .arg("explain")
        .args(words.split(' '))
        .arg("--socket")
        .arg(&director.socket)
        .output()
        .unwrap()
}

#[test]
fn an_open_connection_is_explained_and_left_alone() {
    const NAME: &str = "an_open_connection_is_explained_and_left_alone";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    let mut connection = lab.connect().unwrap();
    let answer = connection.get().unwrap();
    director.settle();
    let before = (director.show("services"), director.counter("rx_packets"));
    let flow = format!(
        "tcp {CLIENT_WAN}:{} {VIP}:80 --flags ack,psh --length 100",
        connection.source_port()
    );
    let output = explain(&director, &flow);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let server = rip(answer.server);
    for line in [
        format!("   service     TCP {VIP}:80 by address and port; rr"),
        format!("   connection  ESTABLISHED to {server}, "),
        format!("   server      {server}"),
        "   result      forwarded".to_owned(),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
    assert!(!text.contains("scheduler"), "{text}");
    let after = (director.show("services"), director.counter("rx_packets"));
    assert_eq!(after, before);
    // It goes on.
    assert_eq!(connection.get().unwrap().server, answer.server);
}

#[test]
fn what_cannot_be_explained_is_said() {
    const NAME: &str = "what_cannot_be_explained_is_said";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    let not_a_capture = lab.configuration_file();
    let not_a_capture = not_a_capture.to_str().unwrap();
    for (words, why) in [
        (
            format!("tcp {CLIENT_WAN}:1 {VIP}:80 --port moon"),
            "there is no port \"moon\"; see pointsman show ports".to_owned(),
        ),
        (
            format!("tcp {CLIENT_WAN}:1 {VIP}:80 --worker 7"),
            "there is no worker 7; write 0 to 0".to_owned(),
        ),
        (
            format!("udp {CLIENT_WAN}:1 {VIP}:80 --length 20"),
            "a packet of 20 bytes has no room for its headers; write 28 or more".to_owned(),
        ),
        (
            format!("--pcap {not_a_capture}"),
            format!("{not_a_capture} is no usable pcap or pcapng file"),
        ),
    ] {
        let output = explain(&director, &words);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&why), "{words}: {said}");
    }
}
