//! The target [`pointsman_fuzz::netlink`].
#![cfg_attr(fuzzing, no_main)]

pointsman_fuzz::program!(netlink);
