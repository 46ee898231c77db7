//! `pointsman capture`: what it shows, how it ends, and what others read of it.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Lab, Shape, has_program, skipped, wait_for};

/// What is asked of tshark about a frame.
const FIELDS: [&str; 3] = [
    "frame.interface_name",
    "frame.packet_flags_direction",
    "frame.comment",
];

/// `pointsman capture` at work, which ends with its test.
struct Capturing(Child);

impl Capturing {
    fn start(lab: &Lab, words: &[&str]) -> Self {
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .args([env!("CARGO_BIN_EXE_pointsman"), "capture"])
            .args(words)
            .arg("--socket")
            .arg(lab.socket())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.0), Signal::INT).unwrap();
    }

    /// How it ended, and what it said to stderr.
    fn end(mut self) -> (ExitStatus, String) {
        let patience = Instant::now() + Duration::from_secs(10);
        while self.0.try_wait().unwrap().is_none() {
            assert!(Instant::now() < patience, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut said = String::new();
        let mut stderr = self.0.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        (self.0.wait().unwrap(), said)
    }
}

impl Drop for Capturing {
    fn drop(&mut self) {
        // It has ended, or the test has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The fields of the frames in a file that pass a display filter, by tshark.
fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let output = Command::new("tshark")
        .arg("-r")
        .arg(file)
        .args(["-o", "ip.check_checksum:TRUE", "-Y", filter, "-T", "fields"])
        .args(fields.iter().flat_map(|field| ["-e", field]))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    // It says so when a file is cut or strange.
    let said = String::from_utf8(output.stderr).unwrap();
    let complaints = said
        .lines()
        .filter(|line| !line.contains("Running as user"));
    assert_eq!(complaints.collect::<Vec<_>>(), [""; 0]);
    let text = String::from_utf8(output.stdout).unwrap();
    let row = |line: &str| line.split('\t').map(ToOwned::to_owned).collect();
    text.lines().map(row).collect()
}

fn wait_for_traffic(lab: &Lab, file: &Path) {
    let len = |file| fs::metadata(file).map_or(0, |file| file.len());
    // Its head stands there before the capture begins.
    wait_for("the file has a head", || len(file) > 0);
    let head = len(file);
    wait_for("packets are captured", || {
        lab.ask(1);
        len(file) > head
    });
}

#[test]
fn tshark_reads_of_each_packet_what_became_of_it() {
    const NAME: &str = "tshark_reads_of_each_packet_what_became_of_it";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    if !has_program("tshark") {
        return skipped(
            NAME,
            "tshark is missing; scripts/setup.sh --tests installs it",
        );
    }
    let director = lab.start_director(&lab.configuration());
    let file = lab.path("capture.pcapng");
    let capturing = Capturing::start(&lab, &["-w", file.to_str().unwrap()]);
    wait_for_traffic(&lab, &file);
    lab.client.ip("route add 198.51.100.99/32 via 192.0.2.1");
    lab.client.inside(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"nobody", ("198.51.100.99", 9)).unwrap();
    });
    wait_for("it has arrived", || director.counter("not_local") == 1);
    director.settle();
    capturing.interrupt();
    let (status, said) = capturing.end();
    assert!(status.success(), "{said}");
    assert!(said.contains("packets captured: ended"), "{said}");

    let dropped = tshark(&file, "udp.dstport == 9", &FIELDS);
    assert_eq!(dropped.len(), 1);
    assert_eq!(dropped[0][0], "wan");
    assert!(
        dropped[0][2].contains("dropped, not_local: the destination is neither"),
        "{dropped:?}"
    );
    // The outer header of a tunnelled packet comes first.
    let forwarded = "frame.comment contains \"forwarded\"";
    let received = tshark(&file, &format!("!(ip.proto == 4) && {forwarded}"), &FIELDS);
    let became = "frame.comment contains \"what it became\"";
    let sent = tshark(&file, &format!("ip.proto == 4 && {became}"), &FIELDS);
    assert!(received.len() >= 4, "{received:?}");
    assert_eq!(received.len(), sent.len());
    for (received, sent) in received.iter().zip(&sent) {
        let number = |row: &[String]| row[2].split(',').next().unwrap().to_owned();
        assert_eq!(number(received), number(sent));
        assert_eq!((&*received[0], &*sent[0]), ("wan", "lan"));
        assert_eq!((&*received[1], &*sent[1]), ("0x00000001", "0x00000002"));
        assert!(
            received[2].ends_with(": forwarded to 10.0.0.11 by lan"),
            "{received:?}"
        );
        assert!(
            sent[2].ends_with("what it became for 10.0.0.11"),
            "{sent:?}"
        );
    }
    // The first ones may have had to wait for the server's MAC address.
    let waited = "frame.comment contains \"thread, unresolved\"";
    let late = "ip.proto == 4 && frame.comment contains \"itself to 10.0.0.11\"";
    assert_eq!(
        tshark(&file, late, &FIELDS).len(),
        tshark(&file, waited, &FIELDS).len()
    );
    // 0x800000 is the severity "error".
    let complaints = tshark(
        &file,
        "_ws.malformed || ip.checksum.status == 0 || _ws.expert.severity >= 0x800000",
        &["frame.number"],
    );
    assert_eq!(complaints, [[""; 1]; 0]);
}

#[test]
fn a_capture_ends_quietly_when_its_reader_has_seen_enough() {
    const NAME: &str = "a_capture_ends_quietly_when_its_reader_has_seen_enough";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    let words = ["--vip", "198.51.100.10", "--direction", "in"];
    let mut capturing = Capturing::start(&lab, &words);
    let load = lab.load();
    let mut lines = BufReader::new(capturing.0.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(line.contains(" worker 0 wan in tcp "), "{line}");
    assert!(line.contains(" > 198.51.100.10:80 ["), "{line}");
    load.stop();
    director.settle();
    // No packet comes that could not be written.
    drop(lines);
    let (status, said) = capturing.end();
    assert!(status.success(), "{said}");
    assert!(
        said.is_empty() || said.contains("packets captured"),
        "{said}"
    );
}

#[test]
fn a_capture_ends_with_its_count_and_others_are_refused_what_makes_no_sense() {
    const NAME: &str = "a_capture_ends_with_its_count_and_others_are_refused_what_makes_no_sense";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    let load = lab.load();
    let words = ["-c", "7", "tcp", "dst", "port", "80"];
    let mut capturing = Capturing::start(&lab, &words);
    let mut lines = String::new();
    let mut stdout = capturing.0.stdout.take().unwrap();
    stdout.read_to_string(&mut lines).unwrap();
    let (status, said) = capturing.end();
    assert!(status.success(), "{said}");
    assert!(
        said.contains("7 packets captured: as many as asked for"),
        "{said}"
    );
    assert_eq!(lines.lines().count(), 7, "{lines}");
    assert!(
        lines.lines().all(|line| line.contains("10:80 [")),
        "{lines}"
    );
    for (words, complaint) in [
        (&["--port", "eth7"][..], "there is no port \"eth7\""),
        (&["tcp", "prot", "80"], "is no filter: "),
        (&["-w", "/nowhere/file"], "cannot write /nowhere/file"),
    ] {
        let (status, said) = Capturing::start(&lab, words).end();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(complaint), "{said}");
    }
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0]);
    drop(director);
}

#[test]
fn a_refused_capture_leaves_files_as_they_were() {
    const NAME: &str = "a_refused_capture_leaves_files_as_they_were";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 1) else {
        return;
    };
    let _director = lab.start_director(&lab.configuration());
    let [old, new] = ["old.pcapng", "new.pcapng"].map(|name| lab.path(name));
    fs::write(&old, "of yesterday").unwrap();
    for file in [&old, &new] {
        let words = ["-w", file.to_str().unwrap(), "--port", "nowhere"];
        let (status, said) = Capturing::start(&lab, &words).end();
        assert!(!status.success());
        assert!(said.contains("nowhere"), "{said}");
    }
    assert_eq!(fs::read_to_string(&old).unwrap(), "of yesterday");
    assert!(!new.exists());
    // One that begins takes its place, all of it.
    fs::write(&old, "a".repeat(100_000)).unwrap();
    let words = ["-w", old.to_str().unwrap(), "--duration", "1"];
    let (status, said) = Capturing::start(&lab, &words).end();
    assert!(status.success(), "{said}");
    assert!(fs::metadata(&old).unwrap().len() < 100_000);
    assert!(
        fs::read(&old)
            .unwrap()
            .starts_with(&[0x0a, 0x0d, 0x0d, 0x0a])
    );
}
