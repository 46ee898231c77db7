//! Who may ask: root, the director's own user, and the members of its control
//! group.
//!
//! The mode of the socket keeps others out already. This holds also where
//! somebody has made the socket wider, or handed on a connection to it, and it
//! tells those whom it refuses why.
//!
//! Of the groups of a client the kernel tells the primary one with the
//! connection. The others stand in `/proc/PID/status`, which is that of another
//! process when the client has ended meanwhile and its number was given away
//! again. So the groups found there count only when user and primary group are
//! the client's as well, real, effective, saved and of the file system: at worst
//! a client is let in whose user has another process that would be.
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
                .is_some_and(|group| is_member(peer, group, groups_of))
    }
}

/// Whether a client is in a group, primarily or besides.
pub(super) fn is_in(peer: UCred, group: u32) -> bool {
    is_member(peer, group, &supplementary_groups)
}

fn is_member(peer: UCred, group: u32, groups_of: &dyn Fn(UCred) -> Vec<u32>) -> bool {
    peer.gid.as_raw() == group || groups_of(peer).contains(&group)
}

/// The groups of a client besides its own; none when it has gone or is out of
/// sight.
fn supplementary_groups(peer: UCred) -> Vec<u32> {
    let pid = peer.pid.as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    groups_in(&status, peer.uid.as_raw(), peer.gid.as_raw())
}

/// The groups in a text of `proc_pid_status(5)`, if it is about a process that is
/// wholly of this user and group.
fn groups_in(status: &str, uid: u32, gid: u32) -> Vec<u32> {
    let numbers = |name: &str| -> Vec<u32> {
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        let words = value.unwrap_or_default().split_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    };
    if numbers("Uid:") == [uid; 4] && numbers("Gid:") == [gid; 4] {
        numbers("Groups:")
    } else {
        Vec::new()
    }
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
    #[test]
    fn groups_of_a_process_of_other_ids_do_not_count() {
        let status = "Name:\tcat\nUid:\t501\t501\t501\t501\nGid:\t8\t8\t8\t8\n\
                      FDSize:\t64\nGroups:\t6 7 \nNStgid:\t9\n";
        assert_eq!(groups_in(status, 501, 8), [6, 7]);
        assert_eq!(groups_in(status, 502, 8), [0; 0]);
        assert_eq!(groups_in(status, 501, 9), [0; 0]);
        // One that runs with the rights of somebody else's file.
        let set_uid = status.replace("501\t501\t501\t501", "501\t0\t0\t0");
        assert_eq!(groups_in(&set_uid, 501, 8), [0; 0]);
        assert_eq!(groups_in("", 501, 8), [0; 0]);
    }

    #[test]
    fn the_kernel_shows_groups_as_they_are_read_here() {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let own = rustix::process::getgroups().unwrap();
        let own: Vec<_> = own.into_iter().map(Gid::as_raw).collect();
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        assert_eq!(groups_in(&status, uid.as_raw(), gid.as_raw()), own);
    }
}
