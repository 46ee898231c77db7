//! `pointsman pktgen`, which makes the packets and checks what comes back.

use std::{
    io::{BufRead, BufReader},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use crate::{
    Failure,
    case::{Case, Event, Forwarder},
    director::{ADDRESS, ROUTER, SERVERS, VIP_PORT},
    processes::{POINTSMAN, Running, Surroundings, file_prefix},
};

/// Sends what the case is about, and calls `tick` about once a second while it
/// is measured. Returns pktgen's report.
pub(crate) fn run(
    case: &Case,
    surroundings: &Surroundings,
    mut tick: impl FnMut() -> Result<(), Failure>,
) -> Result<Value, Failure> {
    let mut command = Command::new(POINTSMAN);
    command.arg("pktgen").args(words(case, surroundings));
    let (reader, writer) = std::io::pipe()?;
    let log = surroundings.path("pktgen.log");
    let mut process = Running::start("pointsman pktgen", &mut command, &log, Some(writer.into()))?;
    // The command has an end of the pipe, too, which must not keep it open.
    drop(command);
    let mut complaints = Vec::new();
    for line in BufReader::new(reader).lines() {
        let line = line?;
        if line.contains("measuring: ") {
            tick()?;
        } else if !line.contains(" INFO ") {
            complaints.push(line);
        }
    }
    let status = process.wait(Duration::from_secs(20))?;
    let said = process.said()?;
    let Some(json) = said.find('{').and_then(|at| said.get(at..)) else {
        let complaints = complaints.join("\n");
        return Err(format!("pointsman pktgen: {status}\n{complaints}").into());
    };
    // It exits with 1 when something was wrong, which the report says, too.
    Ok(serde_json::from_str(json)?)
}

fn words(case: &Case, surroundings: &Surroundings) -> Vec<String> {
    let mut words = Vec::new();
    let mut add = |option: &str, value: &str| {
        words.push(option.to_owned());
        words.push(value.to_owned());
    };
    add("--port", &surroundings.memif("client"));
    add("--service", &format!("{VIP_PORT}/{}", case.protocol));
    add("--flows", &case.flows.to_string());
    add("--size", &case.frame_len.to_string());
    // What memif can carry, not what the longest of all tunnels would need.
    add("--mtu", "1500");
    add("--core", &surroundings.generator_core.to_string());
    add("--hugepages", surroundings.hugepages);
    add("--memory-mib", "128");
    add("--file-prefix", &file_prefix("g"));
    add("--drain", "5");
    add("--link-wait", "30");
    add("--duration", &case.seconds.to_string());
    let warm_up = match case.event {
        // Until as many connections end as are opened.
        Event::Expiry(_) => "4",
        _ => "0.5",
    };
    add("--warm-up", warm_up);
    if let Some(rate) = case.rate {
        add("--rate", &rate.to_string());
        // What a forwarder that was held up for a moment has to catch up with
        // must not be more than its queues hold.
        add("--window", "900");
    }
    if let Some(count) = case.count {
        add("--count", &count.to_string());
    }
    if let Event::Expiry(new_flows) = case.event {
        add("--new-flows", &new_flows.to_string());
    }
    match case.forwarder {
        Forwarder::Director => {
            add("--server", SERVERS);
            add("--director", ADDRESS);
            add("--local", ROUTER);
            add("--tunnel", "ipip");
        }
        Forwarder::Testpmd => {
            add("--director-mac", "02:00:00:00:00:01");
            words.push("--reflected".to_owned());
        }
    }
    words.push("--json".to_owned());
    words
}
