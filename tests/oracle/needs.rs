//! Which features a case needs, and which of them this version lacks.

use super::{
    case::{Case, Step},
    interpret::{Refusal, interpret},
    shell,
};

/// Whether a packet is of a kind.
type Kind = fn(&Headers) -> bool;

/// Kinds of packets that this version does not forward yet, with their names.
const MISSING: &[(&str, Kind)] = &[("IPv6", |headers| headers.ether_type == 0x86dd)];

/// The first feature that a case needs and this version lacks.
pub fn missing_feature(case: &Case) -> Option<String> {
    case.steps.iter().find_map(|step| match step {
        Step::Config(step) | Step::Cmd(step) => missing_in_lines(&step.cmd),
        Step::Packet(step) => {
            let headers = Headers::of(&step.frame);
            let (name, _) = MISSING.iter().find(|(_, needs)| needs(&headers))?;
            Some((*name).to_owned())
        }
        Step::Note { .. } => None,
    })
}

fn missing_in_lines(text: &str) -> Option<String> {
    shell::parse(text)
        .ok()?
        .iter()
        .find_map(|pipeline| match interpret(pipeline) {
            Err(Refusal::Unsupported(what)) => Some(what),
            _ => None,
        })
}

/// What tells kinds of packets apart.
#[derive(Debug, Default)]
struct Headers {
    ether_type: u16,
}

impl Headers {
    fn of(frame: &[u8]) -> Self {
        let byte = |at: usize| frame.get(at).copied().unwrap_or_default();
        let ether_type = u16::from_be_bytes([byte(12), byte(13)]);
        Self { ether_type }
    }
}
