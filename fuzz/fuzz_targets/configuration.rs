//! The target [`pointsman_fuzz::configuration`].
#![cfg_attr(fuzzing, no_main)]

pointsman_fuzz::program!(configuration);
