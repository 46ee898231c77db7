//! The target [`pointsman_fuzz::rules`].
#![cfg_attr(fuzzing, no_main)]

pointsman_fuzz::program!(rules);
