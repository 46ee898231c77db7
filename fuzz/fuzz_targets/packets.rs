//! The target [`pointsman_fuzz::packets`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| pointsman_fuzz::packets(input));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    pointsman_fuzz::replay(pointsman_fuzz::packets)
}
