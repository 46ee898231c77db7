//! What the kernel must be told so that a real server can have a VIP, and
//! how it gets back what it had.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

use ipnet::IpNet;

use super::RealServerError;
use crate::wire::IpProtocol;

/// Changed kernel settings; dropping it restores them, last change first.
#[derive(Debug, Default)]
pub(super) struct Settings {
    changed: Vec<(PathBuf, i64)>,
}

impl Settings {
    /// Keeps this host from answering ARP requests for the VIPs and from
    /// naming them in its own: the director must be the only one that does.
    ///
    /// The setting of an interface is the larger one of its own and that of
    /// "all", so that only "all" covers interfaces that appear later.
    pub(super) fn hide_vips() -> Result<Self, RealServerError> {
        let mut settings = Self::default();
        settings.change("all/arp_ignore", |old| {
            (!matches!(old, 1 | 2 | 8)).then_some(1)
        })?;
        settings.change("all/arp_announce", |old| (old != 2).then_some(2))?;
        Ok(settings)
    }

    /// Writes what `wanted` makes of the present value, if anything.
    fn change(
        &mut self,
        name: &str,
        wanted: impl Fn(i64) -> Option<i64>,
    ) -> Result<(), RealServerError> {
        let path = setting(name);
        let old = read_number(&path)?;
        if let Some(new) = wanted(old) {
            write_number(&path, new)?;
            log::info!("{} was {old} and is {new} until the end", path.display());
            self.changed.push((path, old));
        }
        Ok(())
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        for (path, old) in self.changed.drain(..).rev() {
            if let Err(error) = write_number(&path, old) {
                log::error!("cannot set it back to {old}: {error}");
            }
        }
    }
}

/// The module, and its device, by which the kernel of this network namespace
/// decapsulates by itself what is sent to `local` as `protocol`.
pub(super) fn kernel_tunnel(
    local: IpAddr,
    protocol: IpProtocol,
) -> Option<(&'static str, &'static str)> {
    let (module, device) = match (local, protocol) {
        (IpAddr::V4(_), IpProtocol::GRE) => ("ip_gre", "gre0"),
        (IpAddr::V6(_), IpProtocol::GRE) => ("ip6_gre", "ip6gre0"),
        (IpAddr::V6(_), _) => ("ip6_tunnel", "ip6tnl0"),
        (IpAddr::V4(_), IpProtocol::IPV6) => ("sit", "sit0"),
        (IpAddr::V4(_), _) => ("ipip", "tunl0"),
    };
    setting(device).exists().then_some((module, device))
}

/// Lets `tun` take packets from clients whose answers leave by another
/// interface.
///
/// The larger one of the interface's setting and "all" counts. Where "all" is
/// strict (1), loose (2) on this one interface does, and the others stay as
/// protected as they were. The setting ends with the device.
pub(super) fn accept_asymmetric(tun: &str) -> Result<(), RealServerError> {
    let is_strict = read_number(&setting("all/rp_filter"))? == 1;
    write_number(
        &setting(&format!("{tun}/rp_filter")),
        if is_strict { 2 } else { 0 },
    )
}

/// Makes `vip` an address of this host, on `tun`.
///
/// tun-rs sets one address only, so this goes through iproute2, which every
/// server that has a network configuration has.
pub(super) fn add_vip(vip: IpAddr, tun: &str) -> Result<(), RealServerError> {
    let fail = |reason| RealServerError::Address {
        vip,
        tun: tun.to_owned(),
        reason,
    };
    let network = IpNet::from(vip).to_string();
    let mut command = Command::new("ip");
    command.args(["address", "add", &network, "dev", tun]);
    if vip.is_ipv6() {
        // Nobody on the device could object, and waiting would lose packets.
        command.arg("nodad");
    }
    let output = command
        .output()
        .map_err(|error| fail(format!("cannot run \"ip\" of iproute2: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(fail(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

/// Keeps IPv6 off `tun`, or lets it there: without a VIP of it nothing but
/// decapsulated IPv4 belongs there. A kernel without IPv6 has no such setting,
/// which is as good.
pub(super) fn set_ipv6(tun: &str, enabled: bool) {
    let path = format!("/proc/sys/net/ipv6/conf/{tun}/disable_ipv6");
    if let Err(error) = fs::write(&path, if enabled { "0" } else { "1" }) {
        log::debug!("{path}: {error}");
    }
}

/// Packets that the kernel dropped because the raw socket with this inode was
/// full; `None` when the kernel does not say.
pub(super) fn dropped_by_socket(local: IpAddr, inode: u64) -> Option<u64> {
    let table = fs::read_to_string(match local {
        IpAddr::V4(_) => "/proc/thread-self/net/raw",
        IpAddr::V6(_) => "/proc/thread-self/net/raw6",
    })
    .ok()?;
    parse_dropped(&table, inode)
}

/// The last column of the line with `inode` in the tenth (`raw_seq_show`).
fn parse_dropped(table: &str, inode: u64) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace().skip(9);
        let is_ours = columns.next()?.parse() == Ok(inode);
        is_ours.then(|| columns.last()?.parse().ok())?
    })
}

fn setting(name: &str) -> PathBuf {
    Path::new("/proc/sys/net/ipv4/conf").join(name)
}

fn read_number(path: &Path) -> Result<i64, RealServerError> {
    let fail = |source| RealServerError::Setting {
        path: path.to_owned(),
        source,
    };
    let text = fs::read_to_string(path).map_err(fail)?;
    text.trim()
        .parse()
        .map_err(|error| fail(io::Error::new(io::ErrorKind::InvalidData, error)))
}

fn write_number(path: &Path, number: i64) -> Result<(), RealServerError> {
    fs::write(path, number.to_string()).map_err(|source| RealServerError::Setting {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Linux 6.18, with the last column of the second socket changed.
    const RAW: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
   1: 00000000:0001 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0
   4: 0B00000A:0004 00000000:0000 07 00000000:00000300 00:00000000 00000000     0        0 4712 2 0000000000000000 17
";

    #[test]
    fn drops_of_a_full_socket_are_found_by_inode() {
        assert_eq!(parse_dropped(RAW, 4711), Some(0));
        assert_eq!(parse_dropped(RAW, 4712), Some(17));
        assert_eq!(parse_dropped(RAW, 4713), None);
        assert_eq!(parse_dropped("", 4711), None);
    }
}
