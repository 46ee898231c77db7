//! The program; everything in it stands in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    pointsman::cli::main()
}
