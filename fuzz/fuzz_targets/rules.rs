//! The target [`pointsman_fuzz::rules`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| pointsman_fuzz::rules(input));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    pointsman_fuzz::replay(pointsman_fuzz::rules)
}
