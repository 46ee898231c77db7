//! The numbers of `linux/ip_vs.h` and `linux/genetlink.h`.
#![forbid(unsafe_code)]

/// `GENL_ID_CTRL`: who knows the families.
pub(super) const NLCTRL: u16 = 16;
/// The number of the family "IPVS" on this socket. The kernel gives them out
/// from 16 on; here there is one.
pub(super) const FAMILY: u16 = 37;
/// `IPVS_GENL_NAME`
pub(super) const FAMILY_NAME: &[u8] = b"IPVS\0";
/// `IPVS_GENL_VERSION`
pub(super) const FAMILY_VERSION: u8 = 1;

/// `CTRL_CMD_*` and `CTRL_ATTR_*`
pub(super) mod ctrl {
    pub(crate) const NEW_FAMILY: u8 = 1;
    pub(crate) const GET_FAMILY: u8 = 3;

    pub(crate) const FAMILY_ID: u16 = 1;
    pub(crate) const FAMILY_NAME: u16 = 2;
    pub(crate) const VERSION: u16 = 3;
    pub(crate) const HEADER_SIZE: u16 = 4;
    pub(crate) const MAX_ATTRIBUTE: u16 = 5;

    /// The version of nlctrl itself.
    pub(crate) const OWN_VERSION: u8 = 2;
}

/// `IPVS_CMD_*`
pub(super) mod command {
    pub(crate) const NEW_SERVICE: u8 = 1;
    pub(crate) const SET_SERVICE: u8 = 2;
    pub(crate) const DEL_SERVICE: u8 = 3;
    pub(crate) const GET_SERVICE: u8 = 4;
    pub(crate) const NEW_DEST: u8 = 5;
    pub(crate) const SET_DEST: u8 = 6;
    pub(crate) const DEL_DEST: u8 = 7;
    pub(crate) const GET_DEST: u8 = 8;
    pub(crate) const NEW_DAEMON: u8 = 9;
    pub(crate) const DEL_DAEMON: u8 = 10;
    pub(crate) const GET_DAEMON: u8 = 11;
    pub(crate) const SET_CONFIG: u8 = 12;
    pub(crate) const GET_CONFIG: u8 = 13;
    pub(crate) const SET_INFO: u8 = 14;
    pub(crate) const GET_INFO: u8 = 15;
    pub(crate) const ZERO: u8 = 16;
    pub(crate) const FLUSH: u8 = 17;
    /// Not the kernel's: a text as it stands in a file of `/proc/net`.
    pub(crate) const GET_TEXT: u8 = 128;
}

/// `IPVS_CMD_ATTR_*`
pub(super) mod top {
    pub(crate) const SERVICE: u16 = 1;
    pub(crate) const DEST: u16 = 2;
    pub(crate) const TIMEOUT_TCP: u16 = 4;
    pub(crate) const TIMEOUT_TCP_FIN: u16 = 5;
    pub(crate) const TIMEOUT_UDP: u16 = 6;
    /// `IPVS_CMD_ATTR_MAX`
    pub(crate) const MAX: u32 = 6;
    /// Of `GET_TEXT`: which one, and a piece of it.
    pub(crate) const TEXT: u16 = 1;
}

/// `IPVS_INFO_ATTR_*`
pub(super) mod info {
    pub(crate) const VERSION: u16 = 1;
    pub(crate) const CONN_TAB_SIZE: u16 = 2;
}

/// `IPVS_SVC_ATTR_*`
pub(super) mod service {
    pub(crate) const AF: u16 = 1;
    pub(crate) const PROTOCOL: u16 = 2;
    pub(crate) const ADDR: u16 = 3;
    pub(crate) const PORT: u16 = 4;
    pub(crate) const FWMARK: u16 = 5;
    pub(crate) const SCHED_NAME: u16 = 6;
    pub(crate) const FLAGS: u16 = 7;
    pub(crate) const TIMEOUT: u16 = 8;
    pub(crate) const NETMASK: u16 = 9;
    pub(crate) const STATS: u16 = 10;
    pub(crate) const PE_NAME: u16 = 11;
    pub(crate) const STATS64: u16 = 12;
}

/// `IP_VS_SVC_F_*`
pub(super) mod flag {
    pub(crate) const PERSISTENT: u32 = 1;
    /// The kernel sets it on what is in its table.
    pub(crate) const HASHED: u32 = 2;
    pub(crate) const ONE_PACKET: u32 = 4;
    pub(crate) const SCHED1: u32 = 8;
    pub(crate) const SCHED2: u32 = 16;
}

/// `IPVS_DEST_ATTR_*`
pub(super) mod dest {
    pub(crate) const ADDR: u16 = 1;
    pub(crate) const PORT: u16 = 2;
    pub(crate) const FWD_METHOD: u16 = 3;
    pub(crate) const WEIGHT: u16 = 4;
    pub(crate) const U_THRESH: u16 = 5;
    pub(crate) const L_THRESH: u16 = 6;
    pub(crate) const ACTIVE_CONNS: u16 = 7;
    pub(crate) const INACT_CONNS: u16 = 8;
    pub(crate) const PERSIST_CONNS: u16 = 9;
    pub(crate) const STATS: u16 = 10;
    pub(crate) const ADDR_FAMILY: u16 = 11;
    pub(crate) const STATS64: u16 = 12;
    pub(crate) const TUN_TYPE: u16 = 13;
    pub(crate) const TUN_PORT: u16 = 14;
    pub(crate) const TUN_FLAGS: u16 = 15;
}

/// `IP_VS_CONN_F_*`: forwarding methods, of which `MASK` has the bits.
pub(super) mod method {
    pub(crate) const MASK: u32 = 7;
    pub(crate) const MASQUERADE: u32 = 0;
    pub(crate) const LOCAL: u32 = 1;
    pub(crate) const TUNNEL: u32 = 2;
    pub(crate) const DIRECT: u32 = 3;
}

/// `IP_VS_CONN_F_TUNNEL_TYPE_*` and `IP_VS_TUNNEL_ENCAP_FLAG_*`
pub(super) mod tunnel {
    pub(crate) const IPIP: u8 = 0;
    pub(crate) const GUE: u8 = 1;
    pub(crate) const GRE: u8 = 2;

    pub(crate) const CHECKSUM: u16 = 1;
    pub(crate) const REMOTE_CHECKSUM: u16 = 2;
}

/// `AF_INET` and `AF_INET6`
pub(super) const INET: u16 = 2;
pub(super) const INET6: u16 = 10;

/// `IP_VS_VERSION_CODE` of 1.2.1.
pub(super) const VERSION_CODE: u32 = 0x01_02_01;
/// What the kernel has unless told otherwise, and lists show; nothing here is of
/// that size.
pub(super) const CONN_TAB_SIZE: u32 = 4096;
