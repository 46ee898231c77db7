//! What this program was built from. The build script says what it knows.
#![forbid(unsafe_code)]

/// Version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version with its commit and DPDK, as far as they are known: "0.1.0
/// (commit 1a2b3c4d5e6f, DPDK 22.11.11, dynamic)".
pub const LONG_VERSION: &str = match option_env!("POINTSMAN_VERSION_DETAILS") {
    Some(details) => details,
    None => VERSION,
};

/// How the program was built: "profile release, opt-level 3, features dpdk, for
/// x86_64-unknown-linux-gnu".
pub const BUILD: &str = match option_env!("POINTSMAN_BUILD") {
    Some(build) => build,
    None => "unknown build",
};
