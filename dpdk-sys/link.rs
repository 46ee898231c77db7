//! Which libraries of DPDK a program gets, and how.
//!
//! Dynamic is the default: the program needs the installed libdpdk, which finds
//! its drivers by itself. Static is for machines that have no libdpdk: DPDK and
//! the drivers named here become part of the program. What drivers need from
//! outside DPDK (libibverbs, libxdp, libpcap and so on) stays dynamic: libibverbs
//! loads its own drivers, and libpcap is there as an archive without what it
//! needs.
//!
//! An environment variable and no feature of cargo, because features add up:
//! `--all-features` would always be static, and a feature cannot name the
//! opposite.

use std::collections::BTreeSet;

use crate::{fail, pkg_config};

/// `static` or `dynamic`.
const VARIABLE: &str = "POINTSMAN_DPDK_LINK";

/// Drivers with calls of their own; `pkg-config --libs libdpdk` leaves them out.
const BOUND_DRIVERS: [&str; 2] = ["rte_net_ring", "rte_bus_vdev"];

/// Drivers that a static program has, if this DPDK was built with them: those of
/// NICs in servers and clouds, and software ports. None is referred to by name;
/// each registers itself from a constructor.
const STATIC_DRIVERS: [&str; 37] = [
    // Buses, pools, and what drivers share.
    "rte_bus_auxiliary",
    "rte_bus_pci",
    "rte_bus_vdev",
    "rte_bus_vmbus",
    "rte_common_iavf",
    "rte_common_ionic",
    "rte_common_mlx5",
    "rte_mempool_ring",
    "rte_mempool_stack",
    // NICs.
    "rte_net_bnxt",
    "rte_net_e1000",
    "rte_net_ena",
    "rte_net_enic",
    "rte_net_gve",
    "rte_net_i40e",
    "rte_net_iavf",
    "rte_net_ice",
    "rte_net_igc",
    "rte_net_ionic",
    "rte_net_ixgbe",
    "rte_net_mana",
    "rte_net_mlx4",
    "rte_net_mlx5",
    "rte_net_netvsc",
    "rte_net_qede",
    "rte_net_virtio",
    "rte_net_vmxnet3",
    // Software ports.
    "rte_net_af_packet",
    "rte_net_af_xdp",
    "rte_net_bond",
    "rte_net_failsafe",
    "rte_net_memif",
    "rte_net_null",
    "rte_net_pcap",
    "rte_net_ring",
    "rte_net_tap",
    "rte_net_vhost",
];

/// How the program is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Dynamic,
    Static,
}

impl Link {
    /// What the environment asks for.
    pub(crate) fn wanted() -> Self {
        println!("cargo::rerun-if-env-changed={VARIABLE}");
        match std::env::var(VARIABLE).as_deref() {
            Err(_) | Ok("" | "dynamic") => Self::Dynamic,
            Ok("static") => Self::Static,
            Ok(other) => fail(&format!(
                "{VARIABLE} is \"{other}\"; write static or dynamic"
            )),
        }
    }

    /// In a word, for `--version`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dynamic => "dynamic",
            Self::Static => "static",
        }
    }

    /// Has rustc link what pkg-config did not hand to cargo by itself.
    pub(crate) fn add_libraries(self) {
        match self {
            Self::Dynamic => {
                for name in BOUND_DRIVERS {
                    println!("cargo::rustc-link-lib={name}");
                }
            }
            Self::Static => add_static_libraries(),
        }
    }
}

fn add_static_libraries() {
    let words = pkg_config(&["--static", "--libs", "libdpdk"]);
    let (mut archives, mut core, mut foreign) = (BTreeSet::new(), Vec::new(), Vec::new());
    for word in &words {
        if let Some(directory) = word.strip_prefix("-L") {
            println!("cargo::rustc-link-search=native={directory}");
        } else if let Some(archive) = word.strip_prefix("-l:lib") {
            archives.insert(archive.trim_end_matches(".a"));
        } else if let Some(name) = word.strip_prefix("-l") {
            let list = if name.starts_with("rte_") {
                &mut core
            } else {
                &mut foreign
            };
            list.push(name);
        }
    }
    for name in BOUND_DRIVERS {
        if !archives.contains(name) {
            fail(&format!(
                "this libdpdk has no static library of {name}; install one that was built with \
                 its static libraries, or leave out {VARIABLE}=static"
            ));
        }
    }
    let directory = pkg_config(&["--variable=libdir", "libdpdk"]).join(" ");
    println!("cargo::rustc-link-search=native={directory}");
    // Those who need stand before those who are needed, as pkg-config has them.
    for name in STATIC_DRIVERS {
        if archives.contains(name) {
            println!("cargo::rustc-link-lib=static:+whole-archive,-bundle={name}");
        }
    }
    for name in core {
        // Its telemetry registers itself, too.
        let whole = if name == "rte_ethdev" {
            "+whole-archive,"
        } else {
            ""
        };
        println!("cargo::rustc-link-lib=static:{whole}-bundle={name}");
    }
    // For all drivers of DPDK and also for archives of these libraries; the
    // linker drops what nobody needs.
    for name in foreign.into_iter().filter(|name| is_installed(name)) {
        println!("cargo::rustc-link-lib=dylib={name}");
    }
}

/// Whether the linker would find this shared library.
fn is_installed(name: &str) -> bool {
    let file = format!("lib{name}.so");
    let compiler = cc::Build::new().get_compiler();
    let found = compiler
        .to_command()
        .arg(format!("-print-file-name={file}"))
        .output();
    // A compiler that does not find it answers the name alone.
    found.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() != file)
}
