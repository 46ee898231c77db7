//! What the unmodified `ipvsadm` printed about a kernel, it prints about a
//! director: the recorded case `09_formats`, without its packets.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    support::{Lab, Shape},
    tools::Tools,
};

/// Lines without what packets have to do with: in lists of services the numbers
/// at the end, as many as `columns`, and of connections there are none.
fn without_traffic(text: &str, columns: usize) -> Vec<String> {
    let cut = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let numbers = words.iter().rev().take(columns);
        let is_counted = numbers.clone().count() == columns
            && numbers
                .clone()
                .all(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
        if columns > 0 && is_counted {
            words[..words.len() - columns].join(" ")
        } else {
            line.to_owned()
        }
    };
    text.lines().map(cut).collect()
}

/// The columns at the end of lines that count packets or connections.
fn counted_columns(command: &str) -> usize {
    if command.contains("--stats") || command.contains("--rate") {
        5
    } else if command.contains("--persistent-conn") {
        3
    } else {
        2
    }
}

#[test]
fn ipvsadm_prints_of_a_director_what_it_printed_of_a_kernel() {
    const NAME: &str = "ipvsadm_prints_of_a_director_what_it_printed_of_a_kernel";
    let Some(lab) = Lab::build(NAME, Shape::TwoArms, 0) else {
        return;
    };
    let Some(tools) = Tools::find(NAME, &lab) else {
        return;
    };
    let _director = lab.start_director(&lab.configuration());
    tools.ipvsadm("-C").ok();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/cases/09_formats.json");
    let case: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let mut compared = 0;
    for step in case["steps"].as_array().unwrap() {
        let (Some(command), Some(recorded)) = (step["cmd"].as_str(), step["output"].as_str())
        else {
            continue;
        };
        // Without the order in which the kernel's hash table has services, and
        // the connections that packets have opened.
        let is_about_ipvsadm = command.starts_with("ipvsadm");
        if !is_about_ipvsadm || command.contains("--nosort") || command.contains("-c ") {
            continue;
        }
        // The kernel's machine knew no names for numbers; this one may.
        let numeric = match command {
            "ipvsadm" => "ipvsadm -Ln",
            "ipvsadm -S" => "ipvsadm -Sn",
            other => other,
        };
        let said = tools.shell(numeric);
        let columns = counted_columns(command);
        assert_eq!(
            without_traffic(said.trim_end(), columns),
            without_traffic(recorded.trim_end(), columns),
            "{command}"
        );
        compared += 1;
    }
    assert!(compared > 25, "{compared}");
    assert_eq!(
        tools.ipvsadm("-Lcn").ok(),
        "IPVS connection entries\n\
         pro expire state       source             virtual            destination\n"
    );
}
