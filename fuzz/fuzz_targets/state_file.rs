//! The target [`pointsman_fuzz::state_file`].
#![cfg_attr(fuzzing, no_main)]

pointsman_fuzz::program!(state_file);
