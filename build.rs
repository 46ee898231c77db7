//! Stamps the details of the version: `pointsman 0.1.0 (commit 1a2b3c4d5e6f,
//! DPDK 22.11.11, dynamic)`, and how it was built. Works without git and in an
//! unpacked archive; what is not known is left out. Nothing in it depends on when or
//! where it is built.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DEP_DPDK_VERSION");
    println!("cargo::rerun-if-env-changed=DEP_DPDK_LINK");

    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let commit = commit().map(|commit| format!("commit {commit}"));
    // Set by dpdk-sys, which is built with the feature `dpdk` alone.
    let dpdk = env::var("DEP_DPDK_VERSION").map_or_else(
        |_| "without DPDK".to_owned(),
        |version| format!("DPDK {version}"),
    );
    let link = env::var("DEP_DPDK_LINK").ok();
    let details: Vec<String> = commit.into_iter().chain([dpdk]).chain(link).collect();
    println!(
        "cargo::rustc-env=POINTSMAN_VERSION_DETAILS={version} ({})",
        details.join(", ")
    );
    let of = |name| env::var(name).unwrap_or_default();
    let features = if env::var_os("CARGO_FEATURE_DPDK").is_some() {
        "dpdk"
    } else {
        "none"
    };
    // The name of the profile is "release" for all that derive from it.
    println!(
        "cargo::rustc-env=POINTSMAN_BUILD=profile {}, opt-level {}, features {features}, for {}",
        of("PROFILE"),
        of("OPT_LEVEL"),
        of("TARGET"),
    );
}

/// The commit that is built, when this is a git work tree of its own and not an
/// archive unpacked inside another one.
fn commit() -> Option<String> {
    let top_level = git(&["rev-parse", "--show-toplevel"])?;
    let manifest_dir = env::var("CARGO_MANIFEST_DIR").ok()?;
    if Path::new(&top_level).canonicalize().ok()? != Path::new(&manifest_dir).canonicalize().ok()? {
        return None;
    }
    // The log of HEAD gets a line with each commit and checkout. A file that
    // does not exist would have this script run with every build.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| text.trim().to_owned())
        .filter(|text| !text.is_empty())
}
