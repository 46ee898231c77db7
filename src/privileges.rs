//! Least privilege: from root to the user that the configuration names, once
//! everything that takes root has been done.
//!
//! Opening NICs, hugepages, packet sockets and the control socket takes
//! privileges; forwarding packets by what is open does not. A user and group
//! change for all threads of the process (setresuid(3) of the C library sees to
//! that); capabilities are per thread: those that were started before lose all
//! of them with the change, the calling thread keeps the few that closing the
//! ports takes, and workers give up even those.
#![forbid(unsafe_code)]

use std::{io, num::ParseIntError};

use nix::unistd::{Gid, Group, Uid, User, setgroups, setresgid, setresuid};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Who the process is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    name: String,
    uid: Uid,
    gid: Gid,
    /// The groups it is in besides.
    groups: Vec<Gid>,
}

/// Why privileges could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// There is no such user.
    #[error(
        "there is no user \"{0}\"; make one with `useradd --system --user-group \
         --no-create-home --shell /usr/sbin/nologin {0}`, or write another one as `user` in \
         [director]"
    )]
    NoSuchUser(String),
    /// There is no such group.
    #[error(
        "there is no group \"{name}\"; make one with `groupadd --system {name}`, or write \
             another one as `{key}` in [director]"
    )]
    NoSuchGroup {
        /// What was looked for.
        name: String,
        /// The key that names it.
        key: &'static str,
    },
    /// Only root can become another user.
    #[error(
        "only root can become user \"{0}\"; start the director as root or as that user, or take \
         `user` and `group` out of [director]"
    )]
    NotRoot(String),
    /// The system refused.
    #[error("cannot {action}: {error}")]
    System {
        /// What it refused.
        action: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl PrivilegeError {
    fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::System {
            action,
            error: error.into(),
        }
    }
}

/// From now on no program that this process starts, in whatever thread, gets
/// more privileges than it has itself. To be called while there is one thread.
///
/// # Errors
/// When the kernel does not know of that.
pub fn forbid_new() -> Result<(), PrivilegeError> {
    rustix::thread::set_no_new_privs(true)
        .map_err(PrivilegeError::system("forbid itself new privileges"))
}

/// The number of the group of this name, or with this number.
///
/// # Errors
/// When there is none.
pub fn group_id(name: &str, key: &'static str) -> Result<u32, PrivilegeError> {
    Ok(find_group(name, key)?.as_raw())
}

fn find_group(name: &str, key: &'static str) -> Result<Gid, PrivilegeError> {
    let found = Group::from_name(name)
        .map_err(PrivilegeError::system("read the database of groups"))?
        .map(|group| group.gid);
    let number: Result<u32, ParseIntError> = name.parse();
    let name = name.to_owned();
    found
        .or(number.ok().map(Gid::from_raw))
        .ok_or(PrivilegeError::NoSuchGroup { name, key })
}

impl Account {
    /// Who `[director]` says; none when it says nobody. A user that has a
    /// number and no name needs a group.
    ///
    /// # Errors
    /// When there is no such user or group, or this process could not become
    /// that user.
    pub fn find(user: Option<&str>, group: Option<&str>) -> Result<Option<Self>, PrivilegeError> {
        let group = group.map(|name| find_group(name, "group")).transpose()?;
        let Some(name) = user else {
            return Ok(None);
        };
        let named = User::from_name(name)
            .map_err(PrivilegeError::system("read the database of users"))?
            .map(|user| (user.uid, user.gid));
        let number = name.parse().ok().map(Uid::from_raw);
        let (uid, gid) = match (named, number, group) {
            (Some((uid, own)), _, group) => (uid, group.unwrap_or(own)),
            (None, Some(uid), Some(group)) => (uid, group),
            _ => return Err(PrivilegeError::NoSuchUser(name.to_owned())),
        };
        if !Uid::effective().is_root() && Uid::effective() != uid {
            return Err(PrivilegeError::NotRoot(name.to_owned()));
        }
        Ok(Some(Self {
            name: name.to_owned(),
            uid,
            gid,
            groups: Vec::new(),
        }))
    }

    /// As the configuration names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of the user.
    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// Number of its group.
    pub fn gid(&self) -> u32 {
        self.gid.as_raw()
    }

    /// With another group besides its own.
    #[must_use]
    pub fn with_group(mut self, gid: Option<u32>) -> Self {
        self.groups.extend(gid.map(Gid::from_raw));
        self
    }

    /// Makes the whole process this user's, with the capabilities `kept` in
    /// the calling thread alone, as far as it has them, and none elsewhere.
    ///
    /// # Errors
    /// When the kernel refuses; the process must not go on then.
    pub fn become_it(&self, kept: CapabilitySet) -> Result<(), PrivilegeError> {
        let keep_over_change = |on| {
            rustix::thread::set_keep_capabilities(on).map_err(PrivilegeError::system(
                "keep capabilities over a change of user",
            ))
        };
        keep_over_change(true)?;
        if Uid::effective().is_root() {
            setgroups(&self.groups).map_err(PrivilegeError::system("leave its groups"))?;
        }
        setresgid(self.gid, self.gid, self.gid)
            .map_err(PrivilegeError::system("change its group"))?;
        setresuid(self.uid, self.uid, self.uid)
            .map_err(PrivilegeError::system("change its user"))?;
        keep_over_change(false)?;
        keep_only(kept)
    }
}

/// Takes all capabilities but these from the calling thread.
///
/// # Errors
/// When the kernel refuses.
pub fn keep_only(kept: CapabilitySet) -> Result<(), PrivilegeError> {
    let failed = PrivilegeError::system("give up capabilities");
    let has = match rustix::thread::capabilities(None) {
        Ok(sets) => sets.permitted,
        Err(error) => return Err(failed(error)),
    };
    let sets = CapabilitySets {
        effective: kept & has,
        permitted: kept & has,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_does_not_exist_is_named_with_what_makes_one() {
        let error = Account::find(Some("no-such-user"), None).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("there is no user \"no-such-user\"; make one with `useradd "));
    }

    #[test]
    fn a_group_that_does_not_exist_is_named_with_its_key() {
        let error = group_id("no-such-group", "control_group").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("there is no group \"no-such-group\"; make one with"));
        assert!(text.contains("`control_group` in [director]"), "{text}");
    }

    #[test]
    fn users_and_groups_have_names_and_numbers() {
        assert_eq!(group_id("root", "group").unwrap(), 0);
        assert_eq!(group_id("12345", "group").unwrap(), 12345);
        assert_eq!(Account::find(None, None).unwrap(), None);
        let own = Uid::effective().to_string();
        let account = Account::find(Some(&own), Some("12345")).unwrap().unwrap();
        assert_eq!(account.uid(), Uid::effective().as_raw());
        assert_eq!(account.gid(), 12345);
    }

    #[test]
    fn a_number_without_a_user_needs_a_group() {
        let error = Account::find(Some("54321"), None).unwrap_err();
        assert!(matches!(error, PrivilegeError::NoSuchUser(_)), "{error}");
    }
}
