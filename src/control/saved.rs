//! The bytes of a state file.
//!
//! ```text
//! {"format":"pointsman state","version":1,"length":431,"crc32":"8d1c0f3a"}
//! {"saved_by":"0.1.0","file":{...},"running":{...}}
//! ```
//!
//! The head tells a file of ours from any other, and a whole one from one that
//! was cut off or changed: `length` is that of the second line in bytes, with
//! its newline, and `crc32` is that of the same bytes (ISO 3309, as zlib and
//! gzip have it). `version` grows with every change of what may stand in the
//! second line, so that nothing is dropped in silence.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use super::snapshot::Snapshot;

/// What a director leaves to the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Version of the program that wrote it.
    pub saved_by: String,
    /// What the configuration said when it was read last.
    pub file: Snapshot,
    /// What held.
    pub running: Snapshot,
}

/// Why bytes are no state that can be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SavedError {
    /// The head is not ours.
    #[error("it is no state file of pointsman")]
    Foreign,
    /// The head is ours, and another version's.
    #[error(
        "it was written by another version of pointsman: its format is {0}, and this version \
         knows {VERSION}"
    )]
    OtherVersion(u32),
    /// The head is there in part.
    #[error("it is cut off after {0} bytes, within its head")]
    HeadCutOff(usize),
    /// There are more or fewer bytes than the head says.
    #[error("it is cut off or was changed: {len} bytes follow its head, which says {expected}")]
    WrongLength {
        /// How many there are.
        len: usize,
        /// How many there should be.
        expected: usize,
    },
    /// They are others than those that were written.
    #[error(
        "it is damaged or was changed: its checksum is {sum:08x}, and its head says {expected}"
    )]
    WrongChecksum {
        /// Of the bytes that are there.
        sum: u32,
        /// Of those that were written.
        expected: String,
    },
    /// They have the right checksum, and make no sense.
    #[error("what it says makes no sense: {0}")]
    Nonsense(String),
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
    length: usize,
    crc32: String,
}

/// What every version of the head has.
#[derive(Deserialize)]
struct Version {
    format: String,
    version: u32,
}

/// The bytes of a state file.
///
/// # Errors
/// None that is known: all of it can be written as JSON.
pub fn encode(saved: &Saved) -> serde_json::Result<Vec<u8>> {
    let mut body = serde_json::to_vec(saved)?;
    body.push(b'\n');
    let head = Head {
        format: FORMAT.to_owned(),
        version: VERSION,
        length: body.len(),
        crc32: format!("{:08x}", crc32fast::hash(&body)),
    };
    let mut bytes = serde_json::to_vec(&head)?;
    bytes.push(b'\n');
    bytes.append(&mut body);
    Ok(bytes)
}

/// The state in a file.
///
/// # Errors
/// When it is not all there and just as it was written.
pub fn decode(bytes: &[u8]) -> Result<Saved, SavedError> {
    let (head, body) = split_head(bytes)?;
    let len = body.len();
    let expected = head.length;
    if len != expected {
        return Err(SavedError::WrongLength { len, expected });
    }
    let sum = crc32fast::hash(body);
    if head.crc32 != format!("{sum:08x}") {
        let expected = head.crc32;
        return Err(SavedError::WrongChecksum { sum, expected });
    }
    let nonsense = |error: serde_json::Error| SavedError::Nonsense(error.to_string());
    let saved: Saved = serde_json::from_slice(body).map_err(nonsense)?;
    match saved.file.defect().or_else(|| saved.running.defect()) {
        Some(defect) => Err(SavedError::Nonsense(defect)),
        None => Ok(saved),
    }
}

fn split_head(bytes: &[u8]) -> Result<(Head, &[u8]), SavedError> {
    let is_ours = bytes.starts_with(START) || START.starts_with(bytes);
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        return Err(if is_ours {
            SavedError::HeadCutOff(bytes.len())
        } else {
            SavedError::Foreign
        });
    };
    let (head, body) = bytes.split_at(end);
    let version: Version = serde_json::from_slice(head).map_err(|_| SavedError::Foreign)?;
    if version.format != FORMAT {
        return Err(SavedError::Foreign);
    }
    if version.version != VERSION {
        return Err(SavedError::OtherVersion(version.version));
    }
    let head = serde_json::from_slice(head)
        .map_err(|error| SavedError::Nonsense(format!("in its head, {error}")))?;
    Ok((head, body.get(1..).unwrap_or_default()))
}

const FORMAT: &str = "pointsman state";
const START: &[u8] = br#"{"format":"pointsman state""#;
const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::snapshot::{ServerSnapshot, ServiceSnapshot},
        scheduler::SchedulerKind,
        service::{ServerKey, ServerOptions, ServiceKey},
    };

    fn saved() -> Saved {
        let key = ServerKey {
            address: "10.0.0.1".parse().unwrap(),
        };
        let service = ServiceSnapshot {
            key: ServiceKey::Mark {
                fwmark: 5,
                ipv6: false,
            },
            options: SchedulerKind::Mh.into(),
            servers: vec![ServerSnapshot::new(key, ServerOptions::default())],
        };
        Saved {
            saved_by: "0.1.0".to_owned(),
            file: Snapshot::default(),
            running: Snapshot {
                services: vec![service],
                ..Snapshot::default()
            },
        }
    }

    /// With a head as a program of that version would write it.
    fn with_head(version: u32, body: &str) -> Vec<u8> {
        let (len, sum) = (body.len(), crc32fast::hash(body.as_bytes()));
        format!(
            "{{\"format\":\"pointsman state\",\"version\":{version},\"length\":{len},\
             \"crc32\":\"{sum:08x}\"}}\n{body}"
        )
        .into_bytes()
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = encode(&saved()).unwrap();
        assert_eq!(decode(&bytes), Ok(saved()));
        assert_eq!(bytes.split(|byte| *byte == b'\n').count(), 3);
        assert!(bytes.starts_with(br#"{"format":"pointsman state","version":1,"length":"#));
    }

    /// The sum was made with Python's zlib.
    #[test]
    fn the_checksum_is_that_of_zlib() {
        let body = "{\"a\":1}\n";
        let bytes = with_head(1, body);
        assert!(
            String::from_utf8(bytes)
                .unwrap()
                .contains("\"crc32\":\"74e8a346\"")
        );
    }

    #[test]
    fn a_file_cut_off_at_any_place_is_refused() {
        let bytes = encode(&saved()).unwrap();
        let head_len = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for len in 0..bytes.len() {
            let expected = if len < head_len {
                SavedError::HeadCutOff(len)
            } else {
                SavedError::WrongLength {
                    len: len - head_len,
                    expected: bytes.len() - head_len,
                }
            };
            assert_eq!(decode(&bytes[..len]), Err(expected), "{len}");
        }
    }

    #[test]
    fn a_file_with_any_byte_changed_is_refused() {
        let bytes = encode(&saved()).unwrap();
        for at in 0..bytes.len() {
            for flipped in [1, 0x80] {
                let mut bytes = bytes.clone();
                bytes[at] ^= flipped;
                assert!(decode(&bytes).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn what_somebody_appended_is_refused() {
        let mut bytes = encode(&saved()).unwrap();
        bytes.push(b'\n');
        assert!(matches!(
            decode(&bytes),
            Err(SavedError::WrongLength { .. })
        ));
    }

    #[test]
    fn files_of_others_are_refused() {
        let texts: [&[u8]; 6] = [
            b"{}\n",
            b"{\"version\":1}\n",
            b"{\"format\":\"other\",\"version\":1}\n",
            b"[director]\n",
            b"nothing",
            b"\xff\xfe\n\n",
        ];
        for bytes in texts {
            assert_eq!(decode(bytes), Err(SavedError::Foreign), "{bytes:?}");
        }
    }

    #[test]
    fn a_later_version_is_refused_by_name() {
        let error = decode(&with_head(2, "what it will be\n")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "it was written by another version of pointsman: its format is 2, and this version \
             knows 1"
        );
    }

    #[test]
    fn contents_with_the_right_checksum_are_looked_at_too() {
        let refused = |body: &str| decode(&with_head(1, body)).unwrap_err().to_string();
        assert!(refused("{\"saved_by\":\"0.1.0\"}\n").contains("missing field `file`"));
        let mut twice = saved();
        let service = twice.running.services[0].clone();
        twice.running.services.push(service);
        let body = serde_json::to_string(&twice).unwrap();
        assert_eq!(
            refused(&body),
            "what it says makes no sense: service FWM 5 stands twice"
        );
        let body = serde_json::to_string(&saved()).unwrap();
        let more = body.replacen("\"saved_by\"", "\"health\":{},\"saved_by\"", 1);
        assert!(refused(&more).contains("unknown field `health`"));
    }

    #[test]
    fn a_head_without_a_length_is_refused() {
        let bytes = b"{\"format\":\"pointsman state\",\"version\":1}\n";
        assert!(matches!(decode(bytes), Err(SavedError::Nonsense(_))));
    }
}
