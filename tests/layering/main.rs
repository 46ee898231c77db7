//! Keeps the direction of the modules: a pure core that decides, and a thin
//! shell around it that touches DPDK, sockets, time and files.
//!
//! It reads the sources as text, and says for each thing that is wrong where
//! it is and what to do. What only tests use is left out.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod checks;
mod layers;
mod lexer;
mod source;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use checks::{
    LINES_MAX, dpdk_violations, edge_violations, length_violations, purity_violations,
    unsafe_violations,
};
use layers::{LAYERS, Layer};
use source::{Source, node_of};

#[test]
fn module_edges_point_down() {
    assert_nothing_found(&tree(), edge_violations);
}

#[test]
fn the_core_touches_neither_time_nor_the_machine() {
    assert_nothing_found(&tree(), purity_violations);
}

#[test]
fn unsafe_stands_only_at_the_borders() {
    assert_nothing_found(&tree(), unsafe_violations);
}

#[test]
fn dpdk_is_called_only_from_its_io_module() {
    assert_nothing_found(&tree(), dpdk_violations);
}

#[test]
fn files_of_src_stay_below_the_limit() {
    assert_nothing_found(&tree(), length_violations);
}

#[test]
fn the_table_of_layers_has_no_cycle_and_no_dead_row() {
    let tree = tree();
    let present: BTreeSet<String> = tree.iter().filter_map(Source::node).collect();
    let mut above = BTreeSet::new();
    for Layer { module, uses, .. } in LAYERS {
        assert!(present.contains(*module), "{module} has no source any more");
        for used in *uses {
            let whole = node_of(&used.split("::").collect::<Vec<_>>()) == *used;
            assert!(
                !whole || above.contains(used),
                "{module} uses {used}, which must stand in a row above it; for one item that \
                 belongs to no layer write {used}::Item"
            );
        }
        assert!(above.insert(*module), "{module} stands twice");
    }
}

#[test]
fn an_upward_edge_is_found() {
    for text in [
        "use crate::control::Management;",
        "use crate::{clock::Ticks, control};",
        "use crate::{\n    clock::Ticks,\n    worker::{self, Worker},\n};",
        "fn f() { let x: Vec<crate::control::Command> = g(); }",
        "use super::super::control::Management;",
        "mod inner { use super::super::super::worker::Worker; }",
        "#[cfg(test)]\nuse std::fs;\nuse crate::control::Management;",
        "macro_rules! m { () => { $crate::control::f() } }",
        "use crate::brand_new::Thing;",
        "use crate::*;",
    ] {
        found(edge_violations, "src/wire/arp.rs", text, true);
    }
    found(
        edge_violations,
        "src/io/mod.rs",
        "use super::io::dpdk::Eal;",
        true,
    );
    found(
        edge_violations,
        "src/io/mem.rs",
        "use super::dpdk::Eal;",
        true,
    );
    found(
        edge_violations,
        "src/pipeline/parse.rs",
        "use crate::io::dpdk::Mbuf;",
        true,
    );
    found(
        edge_violations,
        "src/forwarding.rs",
        "use crate::scheduler::Schedulers;",
        true,
    );
    found(edge_violations, "src/brand_new.rs", "", true);
}

#[test]
fn a_downward_edge_passes() {
    for text in [
        "use super::{checksum, ethernet::MacAddr};",
        "use super::{super::wire::arp, *};",
        "// use crate::control::Management;\n/* crate::worker::X /* nested */ crate::run::Y */",
        "/// [`crate::control`]\npub(crate) fn f() -> &'static str { \"crate::control::x\" }",
        "fn f() -> char { r#\"\"crate::worker::x\"#; '\"' } // \"\npub(in crate::wire) fn g() {}",
        "#[cfg(test)]\nmod tests {\n    use crate::control::Management; fn f() {}\n}\nfn g() {}",
        "#[cfg(test)]\npub(crate) use crate::{control, worker};",
    ] {
        found(edge_violations, "src/wire/arp.rs", text, false);
    }
    found(
        edge_violations,
        "src/service.rs",
        "use crate::scheduler::SchedulerKind;",
        false,
    );
    found(
        edge_violations,
        "src/route.rs",
        "use crate::{io::PortIndex, route};",
        false,
    );
    found(
        edge_violations,
        "src/run.rs",
        "use crate::io::{Driver, dpdk::{Eal, EalError}};",
        false,
    );
}

#[test]
fn files_that_only_tests_have_are_left_out() {
    let table = "#[cfg(test)]\n#[path = \"table_tests.rs\"]\nmod tests;";
    let status = "#[cfg(test)]\nmod tests;";
    let tree = [
        Source::new("src/connection/table.rs", table),
        Source::new("src/connection/table_tests.rs", "use crate::control::f;"),
        Source::new("src/neighbor/mod.rs", status),
        Source::new("src/neighbor/tests.rs", "use crate::control::f;"),
        Source::new("src/route.rs", status),
        Source::new("src/route/tests.rs", "use crate::control::f;"),
    ];
    let mut left: Vec<String> = Vec::new();
    for source in without_test_files(tree.into()) {
        left.push(source.path().to_owned());
    }
    assert_eq!(
        left,
        [
            "src/connection/table.rs",
            "src/neighbor/mod.rs",
            "src/route.rs"
        ]
    );
}

#[test]
fn impurity_in_the_core_is_found() {
    for text in [
        "use std::time::{Duration, Instant};",
        "fn f() { std::thread::sleep(PAUSE); }",
        "use std::{fmt, fs::File};",
        "use rustix::net::Shutdown;",
        "fn f() { println!(\"x\"); }",
    ] {
        found(purity_violations, "src/pipeline/parse.rs", text, true);
    }
    let time = "use std::time::Duration; // Instant::now()";
    found(purity_violations, "src/pipeline/parse.rs", time, false);
    let spawn = "use std::thread; fn f() { thread::spawn(g); }";
    found(purity_violations, "src/control/socket.rs", spawn, false);
}

#[test]
fn unsafe_in_the_core_is_found() {
    let forbid = "//! Doc.\n#![forbid(unsafe_code)]\n";
    for (path, text, expected) in [
        (
            "src/flow.rs",
            format!("{forbid}fn f() {{ unsafe {{ g() }} }}"),
            true,
        ),
        ("src/flow.rs", format!("{forbid}fn f() {{}}"), false),
        ("src/flow.rs", "fn f() {}".to_owned(), true),
        (
            "src/flow.rs",
            "// #![forbid(unsafe_code)]\nfn f() {}".to_owned(),
            true,
        ),
        ("src/flow.rs", "#![deny(unsafe_code)]".to_owned(), true),
        ("src/io/mem.rs", "fn f() {}".to_owned(), true),
        (
            "src/io/dpdk/port.rs",
            "fn f() { unsafe { g() } }".to_owned(),
            false,
        ),
        (
            "src/memory.rs",
            "unsafe impl Send for S {}".to_owned(),
            false,
        ),
        ("src/io/mod.rs", "unsafe trait T {}".to_owned(), true),
        ("src/io/mod.rs", "trait T {}".to_owned(), false),
        (
            "tests/cli.rs",
            "#[test] fn f() { unsafe { g() } }".to_owned(),
            true,
        ),
        ("tests/cli.rs", "fn f() {}".to_owned(), false),
        ("dpdk-sys/src/lib.rs", "unsafe { g() }".to_owned(), false),
    ] {
        found(unsafe_violations, path, &text, expected);
    }
    let family = [
        Source::new("src/wire/mod.rs", forbid),
        Source::new("src/wire/icmp.rs", ""),
        Source::new("src/wire/icmp/echo.rs", ""),
    ];
    assert_eq!(unsafe_violations(&family), Vec::<String>::new());
}

#[test]
fn dpdk_outside_its_module_is_found() {
    let text = "fn f() { dpdk_sys::rte_eal_init(0, g()); }";
    found(dpdk_violations, "src/run.rs", text, true);
    found(
        dpdk_violations,
        "src/io/mod.rs",
        "use ::dpdk_sys::rte_mbuf;",
        true,
    );
    found(dpdk_violations, "src/io/dpdk/eal.rs", text, false);
    found(dpdk_violations, "src/run.rs", "//! Not dpdk_sys.", false);
}

#[test]
fn a_file_that_grew_too_long_is_found() {
    found(
        length_violations,
        "src/flow.rs",
        &"\n".repeat(LINES_MAX),
        false,
    );
    found(
        length_violations,
        "src/flow.rs",
        &"\n".repeat(LINES_MAX + 1),
        true,
    );
}

/// One made-up file, of which a check must find something wrong or nothing.
#[track_caller]
fn found(check: fn(&[Source]) -> Vec<String>, path: &str, text: &str, expected: bool) {
    let violations = check(&[Source::new(path, text)]);
    assert_eq!(
        !violations.is_empty(),
        expected,
        "{path}: {text}\n{violations:?}"
    );
}

#[track_caller]
fn assert_nothing_found(tree: &[Source], check: fn(&[Source]) -> Vec<String>) {
    assert!(tree.len() > 80, "only {} files were found", tree.len());
    let violations = check(tree);
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// All Rust files of the repository that are part of a build.
fn tree() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join("build.rs")];
    for dir in [
        "src",
        "tests",
        "benches",
        "dpdk-sys",
        "ipvs-preload",
        "fuzz",
    ] {
        collect(&root.join(dir), &mut paths);
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        Source::new(name, &fs::read_to_string(path).unwrap())
    };
    without_test_files(paths.iter().map(read).collect())
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// Without the modules that other files declare under `#[cfg(test)]`.
fn without_test_files(tree: Vec<Source>) -> Vec<Source> {
    let tests: BTreeSet<String> = tree.iter().flat_map(Source::test_files).collect();
    tree.into_iter()
        .filter(|source| !tests.contains(source.path()))
        .collect()
}
