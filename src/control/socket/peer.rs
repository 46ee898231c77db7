//! Who may ask: root, the director's own user, and the members of its control
//! group.
//!
//! The mode of the socket keeps others out already. This holds also where
//! somebody has made the socket wider, or handed on a connection to it, and it
//! tells those whom it refuses why.
#![forbid(unsafe_code)]

use std::{fs, io, os::unix::net::UnixStream};

use rustix::{net::UCred, process::geteuid};

/// Who may ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admission {
    pub(super) group: Option<u32>,
}

impl Admission {
    /// Why the client at the other end may not ask, if it may not.
    ///
    /// # Errors
    /// When the kernel does not say who it is.
    pub(super) fn refusal(self, stream: &UnixStream) -> io::Result<Option<String>> {
        let peer = rustix::net::sockopt::socket_peercred(stream)?;
        Ok((!self.admits(peer, geteuid().as_raw(), &supplementary_groups)).then(|| {
            let group = match self.group {
                Some(group) => format!(" or be in the group {group}, its `control_group`"),
                None => "; `control_group` in [director] lets a group in".to_owned(),
            };
            format!(
                "user {} may not ask this director; ask as root or as the user {} who runs it{group}",
                peer.uid.as_raw(),
                geteuid().as_raw(),
            )
        }))
    }

    fn admits(self, peer: UCred, own_uid: u32, groups_of: &dyn Fn(UCred) -> Vec<u32>) -> bool {
        let uid = peer.uid.as_raw();
        uid == 0
            || uid == own_uid
            || self
                .group
                .is_some_and(|group| peer.gid.as_raw() == group || groups_of(peer).contains(&group))
    }
}

/// The groups of a process besides its own; none when it has gone or is out of
/// sight.
fn supplementary_groups(peer: UCred) -> Vec<u32> {
    let pid = peer.pid.as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("Groups:"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|group| group.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use rustix::process::{Gid, Uid, getpid};

    use super::*;

    fn peer(uid: u32, gid: u32) -> UCred {
        UCred {
            pid: getpid(),
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
        }
    }

    #[test]
    fn root_the_own_user_and_the_group_may_ask_and_nobody_else() {
        let with = |group| Admission { group };
        let none = |_: UCred| Vec::new();
        let admits = |group, uid, gid| with(group).admits(peer(uid, gid), 500, &none);
        assert!(admits(None, 0, 0));
        assert!(admits(None, 500, 9));
        assert!(!admits(None, 501, 0));
        assert!(admits(Some(7), 501, 7));
        assert!(!admits(Some(7), 501, 8));
        let more = |_: UCred| vec![6, 7];
        assert!(with(Some(7)).admits(peer(501, 8), 500, &more));
        assert!(!with(None).admits(peer(501, 8), 500, &more));
    }
}
