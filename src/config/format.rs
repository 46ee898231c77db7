//! Every table and key of the file, each with a value as an operator would
//! write it.
//!
//! Unknown keys are found by this list, messages take their examples from it,
//! and a test holds docs/configuration.md against it.
#![forbid(unsafe_code)]

/// One table of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFormat {
    /// The table as the file writes it, such as `[[port]]`.
    pub header: &'static str,
    /// Its keys. Tables within it are keys whose example is a header.
    pub keys: &'static [KeyFormat],
}

/// One key of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFormat {
    /// Its name.
    pub name: &'static str,
    /// A value in the form that the file takes.
    pub example: &'static str,
}

impl TableFormat {
    /// The key of this name, when the table has it.
    pub fn key(&self, name: &str) -> Option<&'static KeyFormat> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const fn key(name: &'static str, example: &'static str) -> KeyFormat {
    KeyFormat { name, example }
}

/// All tables of the file.
pub const FORMAT: [&TableFormat; 12] = [
    &FILE,
    &DIRECTOR,
    &TIMEOUTS,
    &IPVS,
    &EAL,
    &API,
    &PORT,
    &ROUTE,
    &NEIGHBOR,
    &FWMARK,
    &SERVICE,
    &REAL_SERVER,
];

pub(super) static FILE: TableFormat = TableFormat {
    header: "the file",
    keys: &[
        key("director", "[director]"),
        key("eal", "[eal]"),
        key("api", "[api]"),
        key("port", "[[port]]"),
        key("route", "[[route]]"),
        key("neighbor", "[[neighbor]]"),
        key("fwmark", "[[fwmark]]"),
        key("service", "[[service]]"),
    ],
};

pub(super) static DIRECTOR: TableFormat = TableFormat {
    header: "[director]",
    keys: &[
        key("workers", "[1]"),
        key("management_core", "0"),
        key("idle", "\"poll\""),
        key("connections_max", "1_000_000"),
        key("templates_max", "131_072"),
        key("control_socket", "\"/run/pointsman/control.sock\""),
        key("netlink_socket", "\"/run/pointsman/ipvs.sock\""),
        key("netlink_group", "\"lvs\""),
        key("state_file", "\"/var/lib/pointsman/pointsman.json\""),
        key("control_group", "\"pointsman\""),
        key("user", "\"pointsman\""),
        key("group", "\"pointsman\""),
        key("icmp_rate_per_s", "1000"),
        key("services_file", "\"services.rules\""),
        key("timeouts", "[director.timeouts]"),
        key("ipvs", "[director.ipvs]"),
    ],
};

pub(super) static TIMEOUTS: TableFormat = TableFormat {
    header: "[director.timeouts]",
    keys: &[key("tcp", "900"), key("tcp_fin", "120"), key("udp", "300")],
};

pub(super) static IPVS: TableFormat = TableFormat {
    header: "[director.ipvs]",
    keys: &[
        key("conn_reuse_mode", "1"),
        key("expire_nodest_conn", "false"),
        key("expire_quiescent_template", "false"),
        key("pmtu_disc", "true"),
        key("schedule_icmp", "false"),
        key("secure_tcp", "0"),
        key("sloppy_sctp", "false"),
        key("sloppy_tcp", "false"),
    ],
};

pub(super) static EAL: TableFormat = TableFormat {
    header: "[eal]",
    keys: &[
        key("hugepages", "\"auto\""),
        key("memory_mib", "512"),
        key("memory_channels", "4"),
        key("file_prefix", "\"pointsman\""),
        key("extra_arguments", "[\"--log-level=lib.eal:debug\"]"),
    ],
};

pub(super) static API: TableFormat = TableFormat {
    header: "[api]",
    keys: &[
        key("listen", "\"127.0.0.1:9110\""),
        key("token_file", "\"/etc/pointsman/token\""),
        key("read_token_file", "\"/etc/pointsman/read-token\""),
        key("metrics_without_token", "true"),
    ],
};

pub(super) static PORT: TableFormat = TableFormat {
    header: "[[port]]",
    keys: &[
        key("name", "\"wan\""),
        key("device", "\"0000:01:00.0\""),
        key("addresses", "[\"192.0.2.1/24\"]"),
        key("mtu", "1500"),
        key("vlan", "100"),
        key("mac", "\"02:00:00:00:00:01\""),
        key("rx_descriptors", "1024"),
        key("tx_descriptors", "1024"),
    ],
};

pub(super) static ROUTE: TableFormat = TableFormat {
    header: "[[route]]",
    keys: &[
        key("to", "\"10.1.0.0/16\""),
        key("via", "\"192.0.2.254\""),
        key("port", "\"wan\""),
        key("source", "\"192.0.2.1\""),
        key("mtu", "1500"),
        key("type", "\"unicast\""),
    ],
};

pub(super) static NEIGHBOR: TableFormat = TableFormat {
    header: "[[neighbor]]",
    keys: &[
        key("port", "\"wan\""),
        key("address", "\"192.0.2.254\""),
        key("mac", "\"02:00:00:00:00:fe\""),
    ],
};

pub(super) static FWMARK: TableFormat = TableFormat {
    header: "[[fwmark]]",
    keys: &[
        key("number", "5"),
        key("vips", "[\"198.51.100.10\", \"198.51.100.64/26\"]"),
        key("protocols", "[\"tcp\"]"),
        key("ports", "[\"80\", \"8000-8999\"]"),
    ],
};

pub(super) static SERVICE: TableFormat = TableFormat {
    header: "[[service]]",
    keys: &[
        key("address", "\"198.51.100.10:80\""),
        key("protocol", "\"tcp\""),
        key("fwmark", "5"),
        key("ipv6", "true"),
        key("scheduler", "\"wlc\""),
        key("scheduler_flags", "[\"sh-port\"]"),
        key("one_packet", "true"),
        key("persistence_s", "360"),
        key("persistence_prefix_len", "24"),
        key("outer_source", "\"10.9.0.0/24\""),
        key("real_server", "[[service.real_server]]"),
    ],
};

pub(super) static REAL_SERVER: TableFormat = TableFormat {
    header: "[[service.real_server]]",
    keys: &[
        key("address", "\"10.0.0.11\""),
        key("weight", "1"),
        key("upper_threshold", "20000"),
        key("lower_threshold", "15000"),
        key("tunnel", "\"gue\""),
        key("tunnel_port", "6080"),
        key("tunnel_checksum", "true"),
        key("tunnel_remote_checksum", "true"),
    ],
};

/// Words of other tools (ip, ipvsadm, keepalived) and the key that means the
/// same here. Only used for "did you mean".
const OTHER_WORDS: [(&str, &str); 18] = [
    ("gateway", "via"),
    ("nexthop", "via"),
    ("next_hop", "via"),
    ("dev", "port"),
    ("interface", "device"),
    ("pci", "device"),
    ("src", "source"),
    ("destination", "to"),
    ("dst", "to"),
    ("network", "to"),
    ("lladdr", "mac"),
    ("vip", "address"),
    ("rip", "address"),
    ("ip", "addresses"),
    ("ip", "address"),
    ("lb_algo", "scheduler"),
    ("cores", "workers"),
    ("lcores", "workers"),
];

/// What an operator who wrote `unknown` in `table` most likely meant: the key
/// of the table that is nearest, if any is near.
pub(super) fn nearest(table: &TableFormat, unknown: &str) -> Option<&'static str> {
    let folded = unknown.to_lowercase().replace('-', "_");
    let meant = OTHER_WORDS
        .iter()
        .filter(|(word, _)| *word == folded)
        .find_map(|(_, name)| table.key(name).map(|key| key.name));
    meant.or_else(|| nearest_of(table.keys.iter().map(|key| key.name), &folded))
}

/// The one of `names` that is nearest to `word`, if any is near: one letter in
/// three may differ.
pub(super) fn nearest_of(
    names: impl Iterator<Item = &'static str>,
    word: &str,
) -> Option<&'static str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    names
        .map(|name| (edit_distance(name, word), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The other table that has a key of this name.
pub(super) fn table_with(name: &str) -> Option<&'static str> {
    FORMAT
        .iter()
        .skip(1)
        .find(|table| table.key(name).is_some())
        .map(|table| table.header)
}

/// Levenshtein distance in characters, one row of the matrix at a time.
fn edit_distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (index, a) in from.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        let mut cells = row.iter_mut();
        if let Some(first) = cells.next() {
            *first = left;
        }
        for (cell, b) in cells.zip(to.chars()) {
            let substituted = diagonal + usize::from(a != b);
            diagonal = *cell;
            left = substituted.min(left + 1).min(diagonal + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances_are_those_of_the_textbook() {
        for (from, to, distance) in [
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("abc", "", 3),
            ("mtu", "mtu", 0),
            ("flaw", "lawn", 2),
        ] {
            assert_eq!(edit_distance(from, to), distance, "{from} {to}");
        }
    }

    #[test]
    fn every_setting_of_the_kernel_has_a_key() {
        let keys: Vec<_> = IPVS.keys.iter().map(|key| key.name).collect();
        let names = crate::service::TUNABLES.map(|tunable| tunable.name);
        assert_eq!(keys, names);
    }

    #[test]
    fn words_of_other_tools_lead_to_ours() {
        assert_eq!(nearest(&ROUTE, "gateway"), Some("via"));
        assert_eq!(nearest(&PORT, "ip"), Some("addresses"));
        assert_eq!(nearest(&SERVICE, "VIP"), Some("address"));
        assert_eq!(nearest(&PORT, "rx-descriptors"), Some("rx_descriptors"));
        assert_eq!(nearest(&PORT, "colour"), None);
    }
}
