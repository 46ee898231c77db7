//! What has to hold for the sources. Each check returns a line for each thing
//! that is wrong: where it is, and what to do.

use std::collections::BTreeSet;

use crate::{
    layers::{LAYERS, OUTSIDE, SHELL_ITEMS},
    source::Source,
};

/// Lines of a file from which it has to be split.
pub(crate) const LINES_MAX: usize = 700;

/// Where `unsafe` may stand: the borders to C and to the kernel.
const UNSAFE_PLACES: [&str; 4] = [
    "dpdk-sys/",
    "ipvs-preload/",
    "src/io/dpdk/",
    "src/memory.rs",
];

/// The only place of `src` that may name the raw bindings.
const DPDK_PLACE: &str = "src/io/dpdk/";

/// Parents of modules that hold `unsafe`, which cannot forbid it for those.
const UNFORBIDDING: [&str; 2] = ["src/lib.rs", "src/io/mod.rs"];

/// Names of other modules that the table does not allow.
pub(crate) fn edge_violations(tree: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in tree {
        let Some(module) = source.node() else {
            continue;
        };
        let Some(layer) = LAYERS.iter().find(|layer| layer.module == module) else {
            if !OUTSIDE.contains(&source.path()) {
                violations.push(format!("{}: add {module} to LAYERS", source.path()));
            }
            continue;
        };
        for (line, path) in source.crate_paths() {
            if !layer.may_use(&path) {
                violations.push(format!(
                    "{}:{line}: {module} must not use {}: move what it needs down, or pass it in",
                    source.path(),
                    path.join("::")
                ));
            }
        }
    }
    violations
}

/// What the core must not name.
pub(crate) fn purity_violations(tree: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in tree {
        let pure = |node: String| {
            LAYERS
                .iter()
                .any(|layer| layer.module == node && layer.is_pure)
        };
        if !source.node().is_some_and(pure) {
            continue;
        }
        for (line, word) in source.words() {
            if SHELL_ITEMS.contains(&word) {
                violations.push(format!(
                    "{}:{line}: {word} in the pure core: let control, worker or run do that",
                    source.path()
                ));
            }
        }
    }
    violations
}

/// `unsafe` in the wrong place, and modules that do not forbid it.
pub(crate) fn unsafe_violations(tree: &[Source]) -> Vec<String> {
    let forbidding: BTreeSet<&str> = tree
        .iter()
        .filter(|source| source.forbids_unsafe())
        .map(Source::path)
        .collect();
    let mut violations = Vec::new();
    for source in tree {
        let path = source.path();
        if UNSAFE_PLACES.iter().any(|place| path.starts_with(place)) {
            continue;
        }
        for (line, _) in source.all_words().filter(|(_, word)| *word == "unsafe") {
            violations.push(format!(
                "{path}:{line}: unsafe belongs into {UNSAFE_PLACES:?}"
            ));
        }
        let forbids = source
            .ancestors()
            .iter()
            .any(|file| forbidding.contains(file.as_str()));
        if path.starts_with("src/") && !forbids && !UNFORBIDDING.contains(&path) {
            violations.push(format!("{path}: #![forbid(unsafe_code)] is missing"));
        }
    }
    violations
}

/// The raw bindings in the wrong place.
pub(crate) fn dpdk_violations(tree: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in tree {
        let path = source.path();
        if !path.starts_with("src/") || path.starts_with(DPDK_PLACE) {
            continue;
        }
        for (line, _) in source.all_words().filter(|(_, word)| *word == "dpdk_sys") {
            violations.push(format!("{path}:{line}: dpdk_sys belongs into {DPDK_PLACE}"));
        }
    }
    violations
}

/// Files of `src` that are too long.
pub(crate) fn length_violations(tree: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in tree {
        let lines = source.lines();
        if source.path().starts_with("src/") && lines > LINES_MAX {
            violations.push(format!("{}: {lines} lines: split it", source.path()));
        }
    }
    violations
}
