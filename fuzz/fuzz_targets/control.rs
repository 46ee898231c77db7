//! The target [`pointsman_fuzz::control`].
#![cfg_attr(fuzzing, no_main)]

pointsman_fuzz::program!(control);
