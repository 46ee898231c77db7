//! Finds libdpdk, binds the headers and compiles the shim.
//!
//! Hands `DEP_DPDK_VERSION` and `DEP_DPDK_LINK` to the build script of the crate
//! above.

mod link;

use std::{
    env,
    panic::{catch_unwind, set_hook, take_hook},
    path::PathBuf,
    process::{Command, exit},
};

use bindgen::callbacks::{ItemInfo, ParseCallbacks};

use link::Link;

/// The oldest release that has all that is bound here.
const OLDEST_VERSION: &str = "22.11";

const FUNCTIONS: &str = "dpdk_shim_.*|rte_eal_(init|cleanup|get_runtime_dir)|rte_strerror|rte_version\
    |rte_thread_(un)?register|rte_get_tsc_hz|rte_socket_id\
    |rte_pktmbuf_pool_create|rte_pktmbuf_free_bulk|rte_mempool_(free|avail_count|in_use_count)\
    |rte_ring_(create|free)|rte_eth_from_rings\
    |rte_eth_dev_(get_port_by_name|get_name_by_port|info_get|configure|adjust_nb_rx_tx_desc|start\
    |stop|close|default_mac_addr_set|get_mtu|set_mtu|socket_id|rss_reta_(update|query)\
    |rss_hash_conf_get|get_supported_ptypes|set_ptypes)|rte_eth_(rx|tx)_burst_mode_get\
    |rte_eth_(rx|tx)_queue_setup|rte_eth_macaddr_get|rte_eth_(promiscuous_(en|dis)able|allmulticast_enable)\
    |rte_eth_stats_(get|reset)|rte_eth_find_next_owned_by";

const VARIABLES: &str = "CONST_.*|rte_eth_fp_ops|RTE_MAX_ETHPORTS|RTE_MAX_LCORE\
    |RTE_PKTMBUF_HEADROOM|RTE_MEMPOOL_CACHE_MAX_SIZE|RTE_ETH_NAME_MAX_LEN|RTE_ETH_RETA_GROUP_SIZE\
    |RTE_MBUF_L[23]_LEN_BITS|RING_F_S[PC]_(ENQ|DEQ)";

const TYPES: &str = "rte_eth_rx_mq_mode|rte_eth_dev_info|rte_eth_conf|rte_eth_stats\
    |rte_eth_rss_conf|rte_eth_rss_reta_entry64|rte_eth_burst_mode";

/// Only ever behind a pointer, or, for the last three, structures whose packing
/// Rust cannot express (E0588).
const OPAQUE: &str = "rte_mbuf|rte_mempool|rte_ring|rte_device|rte_eth_dev\
    |rte_arp_ipv4|rte_arp_hdr|rte_l2tpv2_combined_msg_hdr";

fn main() {
    for file in [
        "build.rs",
        "link.rs",
        "src/wrapper.h",
        "src/shim.h",
        "src/shim.c",
    ] {
        println!("cargo::rerun-if-changed={file}");
    }
    let cflags = find_libdpdk();
    bind(&cflags);
    compile_shim(&cflags);
}

/// Has libdpdk linked, and returns the flags for compilers of its headers.
fn find_libdpdk() -> Vec<String> {
    let link = Link::wanted();
    let found = pkg_config::Config::new()
        .atleast_version(OLDEST_VERSION)
        .cargo_metadata(link == Link::Dynamic)
        .probe("libdpdk");
    let library = found.unwrap_or_else(|_| {
        // An older release is as good as none, but another thing to be told.
        match pkg_config::Config::new()
            .cargo_metadata(false)
            .probe("libdpdk")
        {
            Ok(old) => fail(&format!(
                "libdpdk {} is too old, {OLDEST_VERSION} or later is needed; run scripts/setup.sh \
                 to install it, or build with --no-default-features",
                old.version
            )),
            Err(_) => fail(
                "libdpdk was not found by pkg-config; run scripts/setup.sh to install it, or \
                 build with --no-default-features",
            ),
        }
    });
    link.add_libraries();
    println!("cargo::metadata=VERSION={}", library.version);
    println!("cargo::metadata=LINK={}", link.name());

    // The crate does not hand on everything: `-include rte_config.h` and
    // `-march`, without which the layouts come out different, are missing.
    pkg_config(&["--cflags", "libdpdk"])
}

/// The words that pkg-config answers.
fn pkg_config(arguments: &[&str]) -> Vec<String> {
    let executable = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    let output = Command::new(executable).args(arguments).output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        _ => fail(&format!(
            "pkg-config found libdpdk but fails at \"pkg-config {}\"; run that to see why",
            arguments.join(" ")
        )),
    }
}

fn bind(cflags: &[String]) {
    require_libclang();
    let generated = bindgen::Builder::default()
        .header("src/wrapper.h")
        .clang_args(cflags)
        .allowlist_function(FUNCTIONS)
        .allowlist_var(VARIABLES)
        .allowlist_type(TYPES)
        .opaque_type(OPAQUE)
        // Thread-local in C; a plain static to bindgen.
        .blocklist_item("per_lcore_.*")
        .derive_default(true)
        .derive_debug(false)
        .layout_tests(true)
        .prepend_enum_name(false)
        .generate_comments(false)
        .use_core()
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .parse_callbacks(Box::new(StripConst))
        .generate();
    match generated {
        Ok(bindings) => {
            let path = out_dir().join("bindings.rs");
            if let Err(error) = bindings.write_to_file(&path) {
                fail(&format!("could not write {}: {error}", path.display()));
            }
        }
        Err(error) => fail(&format!(
            "bindgen could not read the headers of libdpdk: {error}"
        )),
    }
}

/// bindgen panics where libclang is missing, at length.
fn require_libclang() {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let version = catch_unwind(bindgen::clang_version);
    set_hook(hook);
    if version.is_err() {
        fail(
            "libclang was not found; run scripts/setup.sh to install it, or build with \
             --no-default-features",
        );
    }
}

fn compile_shim(cflags: &[String]) {
    let mut build = cc::Build::new();
    build.file("src/shim.c").opt_level(3).warnings(true);
    for flag in cflags {
        build.flag(flag);
    }
    build.compile("dpdk_shim");
}

/// Gives `CONST_X` of wrapper.h the name `X`.
#[derive(Debug)]
struct StripConst;

impl ParseCallbacks for StripConst {
    fn item_name(&self, item: ItemInfo<'_>) -> Option<String> {
        item.name.strip_prefix("CONST_").map(str::to_owned)
    }
}

fn out_dir() -> PathBuf {
    env::var_os("OUT_DIR").map_or_else(|| fail("OUT_DIR is set by cargo alone"), PathBuf::from)
}

/// Says why in one sentence and stops the build, without a panic's trace.
fn fail(sentence: &str) -> ! {
    eprintln!("{sentence}");
    exit(1)
}
