//! What an operator does with `ipvsadm`.

use std::fmt::Write as _;

use crate::{
    support::{Configuration, Director, Lab, Shape, wait_for},
    tools::Tools,
};

/// A lab with a director that has no service yet.
fn start(test: &str, servers: u8) -> Option<(Lab, Tools, Director)> {
    let lab = Lab::build(test, Shape::TwoArms, servers)?;
    let tools = Tools::find(test, &lab)?;
    let director = lab.start_director(&lab.configuration());
    tools.ipvsadm("-C").ok();
    assert_eq!(tools.ipvsadm("-Sn").ok(), "");
    Some((lab, tools, director))
}

const SERVICE: &str = "-t 198.51.100.10:80";

#[test]
fn services_and_servers_come_and_go_with_their_traffic() {
    const NAME: &str = "services_and_servers_come_and_go_with_their_traffic";
    let Some((lab, tools, director)) = start(NAME, 2) else {
        return;
    };
    // Commands that a director has taken are live a moment later.
    let adopted = || {
        wait_for("all workers have it", || {
            let status = director.show("director");
            status["workers_live"] == status["workers"]
        });
    };
    let run = |words: &str| tools.ipvsadm(words).ok();
    run(&format!("-A {SERVICE} -s rr"));
    run(&format!("-a {SERVICE} -r 10.0.0.11 -i"));
    run(&format!("-a {SERVICE} -r 10.0.0.12 -i"));
    let answered = |wanted: &[u8]| {
        wait_for("the servers answer that shall", || {
            adopted();
            let mut answers = lab.ask(4);
            answers.sort_unstable();
            answers.dedup();
            answers == wanted
        });
    };
    answered(&[1, 2]);
    run(&format!("-e {SERVICE} -r 10.0.0.11 -i -w 0"));
    answered(&[2]);
    run(&format!("-e {SERVICE} -r 10.0.0.11 -i -w 5"));
    run(&format!("-d {SERVICE} -r 10.0.0.12"));
    answered(&[1]);
    run(&format!("-E {SERVICE} -s wlc -p 60"));
    let listed = run("-Ln");
    assert!(
        listed.contains("TCP  198.51.100.10:80 wlc persistent 60\n"),
        "{listed}"
    );
    run(&format!("-D {SERVICE}"));
    wait_for("the service is gone", || lab.connect().is_err());
}

#[test]
fn what_is_saved_is_what_is_restored() {
    const NAME: &str = "what_is_saved_is_what_is_restored";
    let Some((_lab, tools, _director)) = start(NAME, 0) else {
        return;
    };
    let lines = "\
        -A -t 198.51.100.10:80 -s wlc\n\
        -a -t 198.51.100.10:80 -r 10.0.0.11:80 -i -w 3 --tun-type ipip\n\
        -a -t 198.51.100.10:80 -r 10.0.0.12:80 -i -w 0 --tun-type gre --tun-csum\n\
        -A -t 198.51.100.10:443 -s sh -b sh-fallback,sh-port\n\
        -a -t 198.51.100.10:443 -r 10.0.0.11:443 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum\n\
        -a -t 198.51.100.10:443 -r 10.0.0.12:443 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum\n\
        -A -t 198.51.100.10:8080 -s mh -p 300 -M 255.255.255.0 -b mh-fallback,mh-port\n\
        -A -u 198.51.100.10:53 -s rr -o\n\
        -A --sctp-service 198.51.100.10:132 -s lc\n\
        -A -t [2001:db8:ff::10]:80 -s rr -p 100 -M 64\n\
        -a -t [2001:db8:ff::10]:80 -r [2001:db8:2::11]:80 -i -w 1 --tun-type ipip\n\
        -A -f 5 -s twos\n\
        -a -f 5 -r 10.0.0.12:0 -i -w 7 --tun-type ipip\n\
        -A -f 6 -6 -s rr\n";
    tools.restore(lines).ok();
    assert_eq!(tools.ipvsadm("-Sn").ok(), lines);
    let said = tools.shell(
        "ipvsadm -Sn >\"$0.saved\"; ipvsadm -C; ipvsadm -Ln | wc -l; ipvsadm -R <\"$0.saved\"; \
         ipvsadm -Sn | cmp - \"$0.saved\" && echo same; rm \"$0.saved\""
            .replace("$0", &tools.socket.display().to_string())
            .as_str(),
    );
    assert_eq!(said, "3\nsame\n");
}

#[test]
fn connections_and_statistics_are_shown() {
    const NAME: &str = "connections_and_statistics_are_shown";
    let Some((lab, tools, director)) = start(NAME, 1) else {
        return;
    };
    tools.ipvsadm(&format!("-A {SERVICE} -s rr")).ok();
    tools.ipvsadm(&format!("-a {SERVICE} -r 10.0.0.11 -i")).ok();
    wait_for("the server answers", || lab.connect().is_ok());
    let mut connection = lab.connect().unwrap();
    connection.get().unwrap();
    director.settle();
    let listed = tools.ipvsadm("-Lcn").ok();
    let open: Vec<_> = listed
        .lines()
        .filter(|line| line.contains("ESTABLISHED"))
        .collect();
    let [line] = open[..] else { panic!("{listed}") };
    let words: Vec<_> = line.split_whitespace().collect();
    let port = connection.source_port();
    assert_eq!(words[0], "TCP");
    assert!(words[1].starts_with("14:5"), "{line}");
    assert_eq!(
        words[3..],
        [
            &format!("192.0.2.254:{port}"),
            "198.51.100.10:80",
            "10.0.0.11:80"
        ]
    );
    // It counts what the director's own list does.
    let counted = |words: &str| {
        let text = tools.ipvsadm(words).ok();
        let line = text.lines().find(|line| line.starts_with("TCP")).unwrap();
        let numbers = line.split_whitespace().skip(2);
        numbers.map(|word| word.parse().unwrap()).collect()
    };
    let own = director.show("services")[0]["statistics"].clone();
    let names = [
        "connections",
        "in_packets",
        "out_packets",
        "in_bytes",
        "out_bytes",
    ];
    let own: Vec<u64> = names
        .iter()
        .map(|name| own[*name].as_u64().unwrap())
        .collect();
    assert!(own[0] >= 1, "{own:?}");
    let stats: Vec<u64> = counted("-Ln --stats --exact");
    assert_eq!(stats, own);
    // Rates come with the next sample, and go again.
    let load = lab.load();
    wait_for("there is a rate", || {
        let rates: Vec<u64> = counted("-Ln --rate --exact");
        rates[0] > 0 && rates[1] > rates[0] && rates[3] > rates[1]
    });
    load.stop();
    director.settle();
    tools.ipvsadm("-Z").ok();
    let zero: Vec<u64> = counted("-Ln --stats --exact");
    assert_eq!(zero, [0; 5]);
    let zero: Vec<u64> = counted("-Ln --rate --exact");
    assert_eq!(zero, [0; 5]);
}

#[test]
fn timeouts_are_set_and_shown() {
    const NAME: &str = "timeouts_are_set_and_shown";
    let Some((_lab, tools, _director)) = start(NAME, 0) else {
        return;
    };
    let shown = || tools.ipvsadm("-L --timeout").ok();
    assert_eq!(shown(), "Timeout (tcp tcpfin udp): 900 120 300\n");
    tools.ipvsadm("--set 100 0 20").ok();
    assert_eq!(shown(), "Timeout (tcp tcpfin udp): 100 120 20\n");
}

#[test]
fn what_a_tunnelling_director_cannot_do_is_refused() {
    const NAME: &str = "what_a_tunnelling_director_cannot_do_is_refused";
    let Some((_lab, tools, director)) = start(NAME, 0) else {
        return;
    };
    let run = |words: &str| tools.ipvsadm(words);
    run(&format!("-A {SERVICE} -s rr")).ok();
    for method in ["-m", "-g", ""] {
        let said = run(&format!("-a {SERVICE} -r 10.0.0.11 {method}"));
        assert_eq!(said.code, Some(255), "{said:?}");
        assert!(said.err.starts_with("Invalid operation."), "{said:?}");
    }
    let log = director.log();
    for method in ["masquerading", "direct routing"] {
        let line = format!("this director only tunnels, and it is to be reached by {method}");
        assert!(log.contains(&line), "{log}");
    }
    // The text is ipvsadm's for EOPNOTSUPP, whatever it is about.
    let said = run("--start-daemon master --mcast-interface lo");
    assert_eq!(
        (said.code, said.err.trim()),
        (Some(255), "Operation not supported with IPv6")
    );
    assert_eq!(run("-L --daemon").ok(), "");
    let said = run(&format!("-a {SERVICE} -r 10.0.0.11 -i -x 1 -y 2"));
    assert_eq!(
        (said.code, said.err.trim()),
        (Some(255), "Numerical result out of range")
    );
    assert_eq!(run("-Sn").ok(), "-A -t 198.51.100.10:80 -s rr\n");
}

#[test]
fn a_thousand_services_of_twenty_servers_are_restored() {
    const NAME: &str = "a_thousand_services_of_twenty_servers_are_restored";
    let Some((_lab, tools, _director)) = start(NAME, 0) else {
        return;
    };
    let mut lines = String::new();
    for number in 0..1000 {
        let service = format!("198.18.{}.{}:80", number / 250, number % 250 + 1);
        writeln!(lines, "-A -t {service} -s wlc").unwrap();
        for server in 1..=20 {
            let rip = format!("10.0.{}.{server}:80", number % 250);
            writeln!(lines, "-a -t {service} -r {rip} -i -w 1 --tun-type ipip").unwrap();
        }
    }
    let start = std::time::Instant::now();
    tools.restore(&lines).ok();
    println!(
        "{} lines restored in {:?}",
        lines.lines().count(),
        start.elapsed()
    );
    assert_eq!(tools.ipvsadm("-Sn").ok(), lines);
}

#[test]
fn a_group_may_be_let_in_and_nobody_else_is() {
    const NAME: &str = "a_group_may_be_let_in_and_nobody_else_is";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    let Some(tools) = Tools::find(NAME, &lab) else {
        return;
    };
    let _director = lab.start_director(&Configuration {
        director_keys: "netlink_group = \"54321\"\n",
        ..lab.configuration()
    });
    // As another user ipvsadm may not even ask the kernel; what the director
    // says shows with a program that asks nothing else.
    let proc_library = tools.library("libpointsman_ipvs_proc.so");
    std::fs::set_permissions(
        tools.socket.parent().unwrap(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let as_user = |ids: &str, command: &str| {
        tools.shell(&format!(
            "setpriv {ids} env POINTSMAN_IPVS_SOCKET={} LD_PRELOAD={} {command}",
            tools.socket.display(),
            proc_library.display()
        ))
    };
    for ids in [
        "--regid 54321 --clear-groups",
        "--regid 54320 --groups 54322,54321",
    ] {
        let of_group = as_user(&format!("--reuid 54320 {ids}"), "cat /proc/net/ip_vs");
        assert!(
            of_group.starts_with("IP Virtual Server version 1.2.1"),
            "{ids}: {of_group}"
        );
    }
    let ids = "--reuid 54320 --regid 54320 --groups 54322";
    let other = as_user(ids, "cat /proc/net/ip_vs");
    assert_eq!(other, "cat: /proc/net/ip_vs: Operation not permitted\n");
    let said = tools.shell("setpriv --reuid 54320 --regid 54320 --clear-groups ipvsadm -Ln");
    assert!(
        said.starts_with("Can't initialize ipvs: Permission denied (you must be root)"),
        "{said}"
    );
}
