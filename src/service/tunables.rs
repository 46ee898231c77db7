//! The settings of `/proc/sys/net/ipv4/vs` as a list: what they are called, what
//! they can be, and how to get at them by name.
#![forbid(unsafe_code)]

use super::Tunables;

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Tunable {
    /// Its name in `/proc/sys/net/ipv4/vs`.
    pub name: &'static str,
    /// One line: what it does.
    pub meaning: &'static str,
    /// The largest value; a switch has 1.
    pub max: u32,
    read: fn(&Tunables) -> u32,
    write: fn(&mut Tunables, u32),
}

/// All settings, in the order of their names.
pub const TUNABLES: [Tunable; 8] = [
    Tunable {
        name: "conn_reuse_mode",
        meaning: "a SYN on an old connection: 0 goes to its server, 1 is scheduled anew after \
                  CLOSE and TIME_WAIT, 2 and 3 after FIN_WAIT too",
        max: 3,
        read: |tunables| tunables.conn_reuse_mode,
        write: |tunables, value| tunables.conn_reuse_mode = value,
    },
    Tunable {
        name: "expire_nodest_conn",
        meaning: "connections of a deleted real server end at once",
        max: 1,
        read: |tunables| tunables.expire_nodest_conn.into(),
        write: |tunables, value| tunables.expire_nodest_conn = value != 0,
    },
    Tunable {
        name: "expire_quiescent_template",
        meaning: "clients of a persistent service leave a real server of weight 0",
        max: 1,
        read: |tunables| tunables.expire_quiescent_template.into(),
        write: |tunables, value| tunables.expire_quiescent_template = value != 0,
    },
    Tunable {
        name: "pmtu_disc",
        meaning: "the client's DF flag is honoured and copied outward",
        max: 1,
        read: |tunables| tunables.pmtu_disc.into(),
        write: |tunables, value| tunables.pmtu_disc = value != 0,
    },
    Tunable {
        name: "schedule_icmp",
        meaning: "an ICMP error about an answer from a VIP may open a connection",
        max: 1,
        read: |tunables| tunables.schedule_icmp.into(),
        write: |tunables, value| tunables.schedule_icmp = value != 0,
    },
    Tunable {
        name: "secure_tcp",
        meaning: "not 0: a SYN leads to SYNACK with its longer timeout",
        max: 3,
        read: |tunables| tunables.secure_tcp,
        write: |tunables, value| tunables.secure_tcp = value,
    },
    Tunable {
        name: "sloppy_sctp",
        meaning: "any SCTP packet but ABORT may open a connection, not only INIT",
        max: 1,
        read: |tunables| tunables.sloppy_sctp.into(),
        write: |tunables, value| tunables.sloppy_sctp = value != 0,
    },
    Tunable {
        name: "sloppy_tcp",
        meaning: "any TCP packet but RST may open a connection, not only SYN",
        max: 1,
        read: |tunables| tunables.sloppy_tcp.into(),
        write: |tunables, value| tunables.sloppy_tcp = value != 0,
    },
];

/// Why a setting stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TunableError {
    /// There is none of that name.
    #[error("there is no setting \"{name}\"; write {known}", known = known())]
    Unknown {
        /// As it was written.
        name: String,
    },
    /// It cannot have that value.
    #[error("{name} cannot be {value}; write 0 to {max}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// As it was written.
        value: u32,
        /// The largest value.
        max: u32,
    },
}

impl Tunable {
    /// The setting of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        TUNABLES.iter().find(|tunable| tunable.name == name)
    }

    /// Whether it is only on or off.
    pub const fn is_switch(&self) -> bool {
        self.max == 1
    }

    /// Its value in `tunables`.
    pub fn of(&self, tunables: &Tunables) -> u32 {
        (self.read)(tunables)
    }

    /// Gives it a value.
    ///
    /// # Errors
    /// When it cannot have that value.
    pub fn set(&self, tunables: &mut Tunables, value: u32) -> Result<(), TunableError> {
        let &Self { name, max, .. } = self;
        if value > max {
            return Err(TunableError::OutOfRange { name, value, max });
        }
        (self.write)(tunables, value);
        Ok(())
    }
}

impl Tunables {
    /// Gives the setting of this name a value.
    ///
    /// # Errors
    /// When there is none, or it cannot have that value.
    pub fn set(&mut self, name: &str, value: u32) -> Result<(), TunableError> {
        let unknown = || TunableError::Unknown {
            name: name.to_owned(),
        };
        Tunable::find(name).ok_or_else(unknown)?.set(self, value)
    }
}

/// "a, b or c"
fn known() -> String {
    let names: Vec<&str> = TUNABLES.iter().map(|tunable| tunable.name).collect();
    match names.split_last() {
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_reached_by_its_own_name_alone() {
        for tunable in &TUNABLES {
            let mut tunables = Tunables::default();
            let other = u32::from(tunable.of(&tunables) == 0);
            tunables.set(tunable.name, other).unwrap();
            for each in &TUNABLES {
                let expected = if each.name == tunable.name {
                    other
                } else {
                    each.of(&Tunables::default())
                };
                assert_eq!(each.of(&tunables), expected, "{}", each.name);
            }
            // Its name is that of the field which messages carry.
            let json = serde_json::to_value(tunables).unwrap();
            assert!(json.get(tunable.name).is_some(), "{}", tunable.name);
        }
        let json = serde_json::to_value(Tunables::default()).unwrap();
        assert_eq!(json.as_object().unwrap().len(), TUNABLES.len());
    }

    #[test]
    fn settings_stand_in_the_order_of_their_names() {
        assert!(TUNABLES.is_sorted_by_key(|tunable| tunable.name));
    }

    #[test]
    fn wrong_names_and_values_are_refused() {
        let mut tunables = Tunables::default();
        assert_eq!(
            tunables.set("conn_reuse", 0).unwrap_err().to_string(),
            "there is no setting \"conn_reuse\"; write conn_reuse_mode, expire_nodest_conn, expire_quiescent_template, \
             pmtu_disc, schedule_icmp, secure_tcp, sloppy_sctp or sloppy_tcp"
        );
        assert_eq!(
            tunables.set("pmtu_disc", 2).unwrap_err().to_string(),
            "pmtu_disc cannot be 2; write 0 to 1"
        );
        assert_eq!(tunables, Tunables::default());
    }
}
