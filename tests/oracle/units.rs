//! Tests of the parts that the replay of recorded cases is made of.
#![expect(dead_code, unreachable_pub, reason = "main.rs uses all of the modules")]

mod case;
mod frame;
mod interpret;
mod lists;
mod mask;
mod needs;
mod network;
mod output;
mod shell;

#[cfg(test)]
#[path = "units"]
mod units {
    mod frames;
    mod needs;
    mod output;
    mod shell;
}
