//! Which features a case needs and this version lacks. Its packets need none.

use super::{
    case::{Case, Step},
    interpret::{Action, Refusal, interpret},
    shell,
};

/// The first feature that a case needs and this version lacks.
pub fn missing_feature(case: &Case) -> Option<String> {
    case.steps.iter().find_map(|step| match step {
        Step::Config(step) | Step::Cmd(step) => missing_in_lines(&step.cmd),
        Step::Packet(_) | Step::Note { .. } => None,
    })
}

fn missing_in_lines(text: &str) -> Option<String> {
    shell::parse(text)
        .ok()?
        .iter()
        .find_map(|pipeline| match interpret(pipeline) {
            Err(Refusal::Unsupported(what)) => Some(what),
            Ok(Action::Synchronise) => Some("connection synchronisation".to_owned()),
            _ => None,
        })
}
