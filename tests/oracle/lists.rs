//! The answers that are meant to differ.

use serde::Deserialize;

use super::case::{RecordedFrame, parse_hex};

/// `intended.toml`: steps whose answers differ from the kernel's on purpose.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intended {
    #[serde(default)]
    difference: Vec<Difference>,
}

/// One step whose answers differ on purpose.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    case: String,
    step: usize,
    pub reason: String,
    /// What is sent instead, each "PORT HEX"; nothing when empty.
    frames: Option<Vec<String>>,
    /// What is printed instead.
    pub output: Option<String>,
}

impl Difference {
    /// The frames that are sent instead of the recorded ones; `None` when
    /// those stay.
    pub fn frames(&self) -> Result<Option<Vec<RecordedFrame>>, String> {
        let parse = |text: &String| {
            let (port, hex) = text
                .split_once(' ')
                .ok_or_else(|| format!("\"{text}\" is not \"PORT HEX\""))?;
            let nic = port
                .parse()
                .map_err(|_| format!("\"{port}\" is not a port"))?;
            Ok(RecordedFrame {
                nic,
                bytes: parse_hex(hex)?,
            })
        };
        self.frames
            .as_ref()
            .map(|frames| frames.iter().map(parse).collect())
            .transpose()
    }
}

impl Intended {
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// Whether anything is meant to differ in a case.
    pub fn names(&self, case: &str) -> bool {
        self.difference.iter().any(|entry| entry.case == case)
    }

    /// What is meant to differ in a step.
    pub fn of(&self, case: &str, step: usize) -> Option<&Difference> {
        self.difference
            .iter()
            .find(|entry| entry.case == case && entry.step == step)
    }

    /// Listed cases and steps that do not exist.
    pub fn unknown<'a>(
        &'a self,
        exists: impl Fn(&str, usize) -> bool + 'a,
    ) -> impl Iterator<Item = String> + 'a {
        self.difference
            .iter()
            .filter(move |entry| !exists(&entry.case, entry.step))
            .map(|entry| format!("{} step {}", entry.case, entry.step))
    }
}
