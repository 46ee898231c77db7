//! What the tools make of a director that is gone, stopped or started anew.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    keepalived::{Keepalived, Site},
    support::{Lab, Shape, wait_for},
    tools::{Said, Tools},
};

#[test]
fn without_a_director_the_kernel_is_asked() {
    const NAME: &str = "without_a_director_the_kernel_is_asked";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    let Some(tools) = Tools::find(NAME, &lab) else {
        return;
    };
    let mut director = lab.start_director(&lab.configuration());
    assert!(tools.ipvsadm("-Ln").ok().contains("198.51.100.10:80"));
    let stock = || {
        let mut command = Command::new("/sbin/ipvsadm");
        Said::from(lab.client.inside(|| command.arg("-Ln").output().unwrap()))
    };
    // Killed, it leaves its socket behind.
    director.signal(Signal::KILL);
    director.wait();
    assert!(tools.socket.exists());
    assert_eq!(lab.client.inside(|| tools.ipvsadm("-Ln")), stock());
    fs::remove_file(&tools.socket).unwrap();
    assert_eq!(lab.client.inside(|| tools.ipvsadm("-Ln")), stock());
}

#[test]
fn a_stopped_director_costs_an_error_and_no_more() {
    const NAME: &str = "a_stopped_director_costs_an_error_and_no_more";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    let Some(tools) = Tools::find(NAME, &lab) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    let before = tools.ipvsadm("-Sn").ok();
    director.signal(Signal::STOP);
    // More of them than can wait to be taken as clients.
    let said: Vec<Said> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| tools.ipvsadm("-D -t 198.51.100.10:80")))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    director.signal(Signal::CONT);
    for said in said {
        assert_ne!(said.code, Some(0), "{said:?}");
        assert_ne!(said.err, "", "{said:?}");
    }
    wait_for("it answers again", || tools.ipvsadm("-Sn").code == Some(0));
    assert_eq!(tools.ipvsadm("-Sn").ok(), before, "nothing was half done");
}

#[test]
fn with_a_slow_director_what_went_well_is_what_was_done() {
    const NAME: &str = "with_a_slow_director_what_went_well_is_what_was_done";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    let Some(tools) = Tools::find(NAME, &lab) else {
        return;
    };
    let director = lab.start_director(&lab.configuration());
    tools.ipvsadm("-C").ok();
    tools.ipvsadm("-A -t 198.51.100.10:80 -s rr").ok();
    let is_over = AtomicBool::new(false);
    let went_well: Vec<u8> = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                director.signal(Signal::STOP);
                thread::sleep(Duration::from_millis(100));
                director.signal(Signal::CONT);
                thread::sleep(Duration::from_millis(20));
            }
        });
        let add = |number: &u8| {
            let words = format!("-a -t 198.51.100.10:80 -r 10.0.0.{number} -i");
            tools.ipvsadm(&words).code == Some(0)
        };
        let went_well = (1..=40).filter(add).collect();
        is_over.store(true, Ordering::Relaxed);
        went_well
    });
    assert!(went_well.len() > 5, "{went_well:?}");
    let mut expected = "-A -t 198.51.100.10:80 -s rr\n".to_owned();
    for number in went_well {
        let server = format!("10.0.0.{number}:80 -i -w 1 --tun-type ipip");
        writeln!(expected, "-a -t 198.51.100.10:80 -r {server}").unwrap();
    }
    assert_eq!(tools.ipvsadm("-Sn").ok(), expected);
}

#[test]
fn what_ipvsadm_set_is_there_when_a_director_starts_again() {
    const NAME: &str = "what_ipvsadm_set_is_there_when_a_director_starts_again";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 2) else {
        return;
    };
    let Some(tools) = Tools::find(NAME, &lab) else {
        return;
    };
    let lines = "\
        -A -t 198.51.100.10:80 -s wlc -p 60\n\
        -a -t 198.51.100.10:80 -r 10.0.0.11:80 -i -w 0 --tun-type ipip\n\
        -a -t 198.51.100.10:80 -r 10.0.0.12:80 -i -w 3 --tun-type ipip\n\
        -A -t 198.51.100.10:443 -s mh -b mh-fallback\n\
        -a -t 198.51.100.10:443 -r 10.0.0.12:443 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum\n\
        -A -f 5 -s sh\n";
    let mut director = lab.start_director(&lab.configuration());
    tools.ipvsadm("-C").ok();
    tools.restore(lines).ok();
    tools.ipvsadm("--set 100 30 20").ok();
    // Stopped, it saves at its end; killed, it has saved a moment after the last
    // command.
    for signal in [Signal::TERM, Signal::KILL] {
        if signal == Signal::KILL {
            director.saved();
        }
        director.signal(signal);
        director.wait();
        director = lab.start_director(&lab.configuration());
        assert_eq!(tools.ipvsadm("-Sn").ok(), lines, "{signal:?}");
        let timeouts = "Timeout (tcp tcpfin udp): 100 30 20\n";
        assert_eq!(tools.ipvsadm("-L --timeout").ok(), timeouts, "{signal:?}");
        assert_eq!(lab.ask(3), [2; 3], "{signal:?}");
    }
}

/// Processor time of a process and its children that live, in ticks.
fn ticks(id: u32) -> u64 {
    let of = |id: &str| {
        let stat = fs::read_to_string(Path::new("/proc").join(id).join("stat")).unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default().to_owned();
        let mut numbers = fields
            .split_whitespace()
            .skip(11)
            .map(|word| word.parse().unwrap());
        numbers.next().unwrap_or(0) + numbers.next().unwrap_or(0)
    };
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    children.split_whitespace().map(of).sum::<u64>() + of(&id.to_string())
}

#[test]
fn keepalived_outlives_a_director_and_goes_on_with_the_next() {
    const NAME: &str = "keepalived_outlives_a_director_and_goes_on_with_the_next";
    let Some(mut site) = Site::build(NAME, 2) else {
        return;
    };
    let mut director = site.lab.start_director(&site.lab.configuration());
    site.tools.ipvsadm("-C").ok();
    let keepalived = Keepalived::start(&site, &site.configuration("", ""));
    site.wait_for_servers(&[(1, 1), (2, 1)]);
    director.saved();
    director.signal(Signal::KILL);
    director.wait();
    // It has something to tell, and nobody listens. Were it to wait for an answer
    // that cannot come, it would burn a core.
    site.stop_nginx(2);
    wait_for("it has noticed", || keepalived.log().contains("error"));
    let before = ticks(keepalived.id());
    thread::sleep(Duration::from_secs(2));
    let burnt = ticks(keepalived.id()) - before;
    assert!(burnt < 100, "{burnt} of 200 ticks\n{}", keepalived.log());
    drop(director);
    fs::remove_file(site.lab.path("director.log")).unwrap();
    let _director = site.lab.start_director(&site.lab.configuration());
    // It has what the one before had; keepalived tries again.
    site.wait_for_servers(&[(1, 1)]);
    site.start_nginx(2);
    site.wait_for_servers(&[(1, 1), (2, 1)]);
    site.stop_nginx(1);
    site.wait_for_servers(&[(2, 1)]);
}

#[test]
fn keepalived_sees_a_stopped_director_through() {
    const NAME: &str = "keepalived_sees_a_stopped_director_through";
    let Some(mut site) = Site::build(NAME, 2) else {
        return;
    };
    let director = site.lab.start_director(&site.lab.configuration());
    site.tools.ipvsadm("-C").ok();
    let keepalived = Keepalived::start(&site, &site.configuration("", ""));
    site.wait_for_servers(&[(1, 1), (2, 1)]);
    director.signal(Signal::STOP);
    site.stop_nginx(2);
    wait_for("it has noticed", || keepalived.log().contains("error"));
    director.signal(Signal::CONT);
    // What did not go well was not done later behind its back, so that both agree
    // when it tries again.
    site.wait_for_servers(&[(1, 1)]);
    site.start_nginx(2);
    site.wait_for_servers(&[(1, 1), (2, 1)]);
    site.stop_nginx(1);
    site.wait_for_servers(&[(2, 1)]);
}
