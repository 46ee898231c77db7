//! scripts/install.sh: what it puts where, and that it takes that away again.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::machine::{Answer, Machine};

const FILES: [&str; 11] = [
    "etc/systemd/system/keepalived.service.d/pointsman.conf",
    "etc/systemd/system/pointsman.service",
    "opt/bin/pointsman",
    "opt/lib/pointsman/libpointsman_ipvs.so",
    "opt/lib/pointsman/libpointsman_ipvs_proc.so",
    "opt/sbin/ipvsadm",
    "opt/share/bash-completion/completions/pointsman",
    "opt/share/fish/vendor_completions.d/pointsman.fish",
    "opt/share/man/man1/pointsman-show.1",
    "opt/share/man/man1/pointsman.1",
    "opt/share/zsh/site-functions/_pointsman",
];

/// A program that only writes its documents.
const PROGRAM: &str = r#"#!/bin/sh
[ "$1" = generate ] || exit 9
mkdir -p "$3"
cd "$3"
case $2 in
man) touch pointsman.1 pointsman-show.1 ;;
completions) touch pointsman.bash _pointsman pointsman.fish ;;
esac
"#;

/// A machine with files as they were built.
fn built() -> Machine {
    let machine = Machine::new();
    for name in ["libpointsman_ipvs.so", "libpointsman_ipvs_proc.so"] {
        machine.write(&format!("built/{name}"), name);
    }
    machine.write("built/pointsman", PROGRAM);
    let program = machine.path("built/pointsman");
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    machine
}

fn install(machine: &Machine, options: &[&str]) -> Answer {
    let [from, prefix] = ["built", "opt"].map(|name| machine.path(name).display().to_string());
    let words = ["--from", &from, "--prefix", &prefix];
    machine.run("install.sh", &[&words, options].concat())
}

fn files_below(directory: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path.display().to_string());
        }
    }
    files
}

#[test]
fn install_puts_everything_in_its_place_and_takes_it_away() {
    let machine = built();
    for _ in 0..2 {
        install(&machine, &[]).ok();
        assert!(FILES.iter().all(|file| machine.exists(file)));
        assert_eq!(machine.read("opt/bin/pointsman"), PROGRAM.trim_end());
    }
    let lib = machine.path("opt/lib/pointsman");
    let both = format!(
        "LD_PRELOAD={lib}/libpointsman_ipvs.so:{lib}/libpointsman_ipvs_proc.so",
        lib = lib.display()
    );
    assert!(machine.read("opt/sbin/ipvsadm").contains(&both));
    let mode = fs::metadata(machine.path("opt/sbin/ipvsadm"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o755);
    let drop_in = machine.read(FILES[0]);
    let one = format!(
        "Environment=LD_PRELOAD={}/libpointsman_ipvs.so",
        lib.display()
    );
    assert!(drop_in.lines().any(|line| line == one), "{drop_in}");
    let program = machine.path("opt/bin/pointsman");
    let start = format!(
        "ExecStart={} run --config /etc/pointsman/director.toml",
        program.display()
    );
    assert!(machine.read(FILES[1]).contains(&start));
    for _ in 0..2 {
        install(&machine, &["--uninstall"]).ok();
        let left: Vec<_> = ["opt", "etc"]
            .iter()
            .flat_map(|name| files_below(&machine.path(name)))
            .collect();
        assert_eq!(left, [""; 0]);
    }
}

#[test]
fn install_for_a_package_names_the_final_places() {
    let machine = built();
    let [from, staging] = ["built", "staging"].map(|name| machine.path(name).display().to_string());
    let words = ["--from", &from, "--prefix", "/usr", "--destdir", &staging];
    machine.run("install.sh", &words).ok();
    let wrapper = machine.read("staging/usr/sbin/ipvsadm");
    assert!(wrapper.contains("LD_PRELOAD=/usr/lib/pointsman/libpointsman_ipvs.so:"));
    assert!(!wrapper.contains("staging"), "{wrapper}");
    machine
        .run("install.sh", &[&words[..], &["--uninstall"]].concat())
        .ok();
    assert_eq!(files_below(&machine.path("staging")), [""; 0]);
}

#[test]
fn install_leaves_what_is_not_its_own() {
    let machine = built();
    machine.write("opt/sbin/ipvsadm", "#!/bin/sh\n");
    install(&machine, &[]).refused("exists and is not of this script");
    assert!(!machine.exists("opt/bin/pointsman"));
    install(&machine, &["--no-tools"]).ok();
    assert!(machine.exists("opt/bin/pointsman"));
    assert!(!machine.exists(FILES[0]));
    install(&machine, &["--uninstall"]).ok();
    assert_eq!(machine.read("opt/sbin/ipvsadm"), "#!/bin/sh");
}

#[test]
fn install_says_what_is_missing_and_does_nothing_in_a_dry_run() {
    let machine = built();
    let out = install(&machine, &["--dry-run"]).ok();
    assert!(
        out.contains("would make: ") && out.contains("would run: cp "),
        "{out}"
    );
    assert!(FILES.iter().all(|file| !machine.exists(file)));
    fs::remove_file(machine.path("built/libpointsman_ipvs.so")).unwrap();
    install(&machine, &[]).refused("cargo build --release --workspace");
    for wrong in [["--prefix", "opt"], ["--prefix", "/o pt"], ["--what", ""]] {
        assert_eq!(machine.run("install.sh", &wrong).code, Some(2), "{wrong:?}");
    }
}
