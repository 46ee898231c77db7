//! The target [`pointsman_fuzz::decapsulate`].
#![cfg_attr(fuzzing, no_main)]

pointsman_fuzz::program!(decapsulate);
