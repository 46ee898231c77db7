//! A recorded case: what was done to a director in a Linux kernel and what it
//! answered.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// One file of recordings.
#[derive(Debug, Deserialize)]
pub struct Case {
    pub name: String,
    /// MAC addresses of the director's two ports.
    pub mac_director: [String; 2],
    /// Shell lines that set the lab's addresses up; the same in all cases.
    pub net_setup: Vec<String>,
    pub steps: Vec<Step>,
    /// UDP ports other than 6080 on which GUE is spoken.
    #[serde(default)]
    pub gue_ports: Vec<u16>,
}

/// One thing that was done.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Step {
    /// Shell lines that set the case up.
    Config(CommandStep),
    /// Shell lines in its course.
    Cmd(CommandStep),
    /// A frame sent to the director.
    Packet(PacketStep),
    /// A remark.
    Note {
        #[expect(dead_code, reason = "for the reader of a case")]
        text: String,
    },
}

/// Shell lines with what they printed.
#[derive(Debug, Deserialize)]
pub struct CommandStep {
    pub cmd: String,
    #[serde(default)]
    pub output: String,
    /// Frames that the director sent meanwhile.
    #[serde(default)]
    pub out: Vec<RecordedFrame>,
}

/// A frame sent to the director with what came out.
#[derive(Debug, Deserialize)]
pub struct PacketStep {
    /// The port it went to.
    pub nic: u8,
    #[serde(rename = "in", deserialize_with = "hex_bytes")]
    pub frame: Vec<u8>,
    #[serde(default)]
    pub note: String,
    pub out: Vec<RecordedFrame>,
}

/// A frame that the kernel sent.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct RecordedFrame {
    pub nic: u8,
    #[serde(rename = "hex", deserialize_with = "hex_bytes")]
    pub bytes: Vec<u8>,
}

/// Reads all cases of a folder, in the order of their names.
pub fn read_folder(folder: &Path) -> Result<Vec<Case>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<Case, String> {
    let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Bytes written as pairs of hexadecimal digits.
pub fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err(format!(
            "\"{text}\" is not made of pairs of hexadecimal digits"
        ));
    }
    (0..text.len())
        .step_by(2)
        .map(|at| {
            text.get(at..at + 2)
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or_else(|| format!("no hexadecimal digits at {at} of \"{text}\""))
        })
        .collect()
}

fn hex_bytes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_hex(&text).map_err(serde::de::Error::custom)
}
