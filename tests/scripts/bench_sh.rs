//! scripts/bench.sh: what it wants of a machine, and what it makes of what
//! benches print.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::machine::{Answer, Machine};

const PAGES: &str = "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

/// A machine on which all is installed and nothing else runs.
fn machine() -> Machine {
    let machine = Machine::with_hugepages();
    machine.stub("dpkg-query", "printf installed");
    machine.stub("apt-get", "");
    machine.stub("cargo", "");
    machine.write(
        "proc/meminfo",
        "MemTotal: 9999999 kB\nMemAvailable: 9000000 kB\n",
    );
    machine.write("proc/stat", "cpu  100 0 100 5000 0 0 0 0 0 0\n");
    machine.write("proc/loadavg", "0.01 0.02 0.03 1/99 1234\n");
    machine
}

/// Has cargo print these lines for benches whose arguments match the pattern.
fn with_benches(machine: &Machine, cases: &str) {
    machine.stub("cargo", &format!("case \"$*\" in\n{cases}\nesac"));
}

#[test]
fn a_dry_run_of_the_benches_changes_nothing() {
    let machine = machine();
    let arguments = ["--dry-run", "--quick", "--runs", "2", "tcp"];
    let out = machine.run("bench.sh", &arguments).ok();
    for line in [
        "would write: 384 to",
        "would watch for 2 s",
        "== run 2 of 2",
        "would run: cargo bench --locked --bench packet_path -- --json --quick tcp",
        "would run: cargo bench --locked --bench throughput -- --json --quick tcp",
        "would run: cargo bench --locked --bench parts -- --quick tcp",
    ] {
        assert!(out.contains(line), "{line:?} is not in {out}");
    }
    assert_eq!(machine.read(PAGES), "3");
    assert!(!machine.calls().contains("cargo"), "{}", machine.calls());
}

#[test]
fn a_busy_machine_is_not_measured() {
    let machine = machine();
    machine.write("proc/77/stat", &process(0));
    let is_over = AtomicBool::new(false);
    let answer = thread::scope(|scope| {
        scope.spawn(|| {
            // A core and a half, of which one process has one.
            for time in (0_u32..).step_by(2) {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let all = 100 + time * 3 / 2;
                replace(&machine, "proc/stat", &format!("cpu  {all} 0 100 9 0 0\n"));
                replace(&machine, "proc/77/stat", &process(time));
                thread::sleep(Duration::from_millis(20));
            }
        });
        let answer = machine.run("bench.sh", &["--no-setup"]);
        is_over.store(true, Ordering::Relaxed);
        answer
    });
    assert!(answer.out.contains("process 77 (a_compiler)"), "{answer:?}");
    assert!(answer.out.contains("hugepages: 768, afterwards 3 again"));
    answer.refused("the machine is not idle");
    assert_eq!(machine.read(PAGES), "3");
    let calls = machine.calls();
    assert_eq!(calls.lines().count(), 1, "{calls}");
    assert!(calls.contains("--no-run"), "{calls}");
}

/// As the kernel has it, so many hundredths of a second old.
fn process(time: u32) -> String {
    format!("77 (a compiler) R 1 77 77 0 -1 4194304 1 0 0 0 {time} 0 0 0 20 0 1 0 1 1 1\n")
}

/// Never half written.
fn replace(machine: &Machine, name: &str, text: &str) {
    machine.write("new", text);
    fs::rename(machine.path("new"), machine.path(name)).unwrap();
}

fn run_of_three(machine: &Machine, arguments: &[&str]) -> Answer {
    let numbers = machine.path("numbers");
    fs::write(&numbers, "7\n900\n8\n").unwrap();
    with_benches(
        machine,
        &format!(
            r#"*--no-run*) ;;
*--machine*) echo '{{"bench":"machine","case":"tsc","tsc_hz":2000000000}}' ;;
*"--bench packet_path"*)
    echo noise
    n=$(head -n 1 '{0}'); sed -i 1d '{0}'
    lost=$((n / 900))
    echo '{{"bench":"packet_path","case":"tcp","flows":1000,"packet_bytes":60,"workers":1,"tsc_cycles_per_packet":'$n',"core_cycles_per_packet":null,"io_cycles_per_packet":2.5,"mpps":1.5,"loss":'$lost',"busy":false}}'
    ;;"#,
            numbers.display()
        ),
    );
    let options = ["--no-setup", "--only", "path", "--runs", "3"];
    machine.run("bench.sh", &[&options, arguments].concat())
}

#[test]
fn medians_of_several_runs_are_printed() {
    let machine = machine();
    let out = run_of_three(&machine, &["--json"]).ok();
    let row: serde_json::Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!(row["tsc_cycles_per_packet"], 8, "{row}");
    assert_eq!(row["core_cycles_per_packet"], serde_json::Value::Null);
    assert_eq!((&row["flows"], &row["runs"]), (&1000.into(), &3.into()));
    // A loss in one run stays.
    assert_eq!(row["loss"], 1, "{row}");

    let out = run_of_three(&machine, &[]).ok();
    assert!(out.contains("TSC 2000 MHz") && out.contains("medians of 3 runs"));
    let row = out.lines().last().unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["tcp", "60", "8.0", "2.5", "-", "1.50", "1"]);
}

#[test]
fn figures_of_criterion_become_cycles() {
    let machine = machine();
    with_benches(
        &machine,
        r#"*--no-run*) ;;
*--machine*) echo '{"bench":"machine","case":"tsc","tsc_hz":2000000000}' ;;
*"--bench parts"*)
    mkdir -p "$CRITERION_HOME/pick/rr/new"
    cd "$CRITERION_HOME/pick/rr/new"
    echo '{"full_id":"pick/rr","throughput":{"Elements":32}}' >benchmark.json
    echo '{"median":{"point_estimate":320.0}}' >estimates.json
    ;;"#,
    );
    let out = machine
        .run("bench.sh", &["--no-setup", "--only", "parts", "--json"])
        .ok();
    let row: serde_json::Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!(
        (&row["bench"], &row["case"]),
        (&"parts".into(), &"pick/rr".into())
    );
    assert_eq!(row["ns_per_packet"], 10.0, "{row}");
    assert_eq!(row["tsc_cycles_per_packet"], 20.0, "{row}");
    assert_eq!(row["mpps"], 100.0, "{row}");
}

#[test]
fn a_bench_that_fails_fails_the_script() {
    let machine = machine();
    with_benches(
        &machine,
        r#"*--no-run*) ;;
*"--bench throughput"*) echo '{"bench":"throughput","case":"wrong","mpps":1,"failures":["lost"]}'; exit 1 ;;"#,
    );
    let answer = machine.run("bench.sh", &["--no-setup", "--only", "throughput"]);
    assert!(answer.out.contains("WRONG"), "{answer:?}");
    answer.refused("failed: throughput");
    assert_eq!(machine.read(PAGES), "3");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let machine = machine();
    let wrong_lines: [&[&str]; 5] = [
        &["--runs", "0"],
        &["--runs"],
        &["--only", "all"],
        &["--cores", "1"],
        &["--cores", "1,x"],
    ];
    for wrong in wrong_lines {
        assert_eq!(machine.run("bench.sh", wrong).code, Some(2), "{wrong:?}");
    }
}
