//! The target [`pointsman_fuzz::packets`].
#![cfg_attr(fuzzing, no_main)]

pointsman_fuzz::program!(packets);
