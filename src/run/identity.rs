//! Whom the director runs as, and whom it lets ask.
#![forbid(unsafe_code)]

use std::fs::File;

use rustix::thread::CapabilitySet;

use crate::{
    config::{Config, Device, Files, PortConfig},
    privileges::{self, Account, PrivilegeError},
};

/// Whom the director is to become, and the number of the group that may ask it.
pub(super) fn identities(
    config: &Config,
) -> Result<(Option<Account>, Option<u32>), PrivilegeError> {
    let director = &config.director;
    let control_group = director.control_group.as_deref();
    let control_group = control_group
        .map(|name| privileges::group_id(name, "control_group"))
        .transpose()?;
    let account = Account::find(director.user.as_deref(), director.group.as_deref())?;
    Ok((
        account.map(|account| account.with_group(control_group)),
        control_group,
    ))
}

/// Everything that takes root has been done.
pub(super) fn become_user(
    account: &Account,
    config: &Config,
    files: Files<'_>,
) -> Result<(), PrivilegeError> {
    let kept = capabilities_kept(config);
    account.become_it(kept)?;
    log::info!(
        "user {} from now on, with {}",
        account.name(),
        if kept.is_empty() {
            "no capabilities"
        } else {
            "CAP_NET_ADMIN alone"
        }
    );
    for file in [Some(files.config), files.services].into_iter().flatten() {
        if let Err(error) = File::open(file) {
            log::warn!(
                "{}: user {} cannot read it, so that SIGHUP will change nothing: {error}",
                file.display(),
                account.name()
            );
        }
    }
    Ok(())
}

/// What the drivers of the ports still need when they stop: those that change
/// interfaces of the kernel set them back then. None needs any to send and
/// receive. Of DPDK 22.11, `net_af_xdp` takes its program off the interface,
/// and `net_tap` its rules off the one that `remote` names.
fn capabilities_kept(config: &Config) -> CapabilitySet {
    let changes_interfaces = |port: &PortConfig| match &port.device {
        Device::Vdev(device) => {
            device.starts_with("net_af_xdp")
                || device.starts_with("net_tap") && device.contains(",remote=")
        }
        Device::Pci(_) => false,
    };
    if config.ports.iter().any(changes_interfaces) {
        CapabilitySet::NET_ADMIN
    } else {
        CapabilitySet::empty()
    }
}
