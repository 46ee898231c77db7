//! What is said about captures: what to capture, and what was.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::capture::{Direction, FateKind, Filter};

/// What to capture, and how much of it at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureRequest {
    /// Which packets.
    #[serde(default)]
    pub filter: Filter,
    /// Frames of this port only.
    #[serde(default)]
    pub port: Option<String>,
    /// Bytes of each frame that are kept.
    pub snaplen: u32,
    /// Ends after so many packets.
    pub packets_max: u64,
    /// Ends after so many bytes of frames.
    pub bytes_max: u64,
    /// Ends after so many milliseconds.
    pub duration_ms: u64,
    /// Packets a second that each worker captures.
    pub rate_per_s: u32,
}

/// What was captured since the batch before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureBatch {
    /// In the order of their times.
    pub packets: Vec<CapturedPacket>,
    /// Packets that were wanted while there was no room for them, since the
    /// capture began.
    pub missed: u64,
    /// Packets that were not looked at since a worker had captured as many as
    /// it may, since the capture began.
    pub unseen: u64,
    /// Why nothing more will come; `None` as long as something may.
    pub end: Option<CaptureEnd>,
}

/// Why a capture ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureEnd {
    /// As many packets as were asked for.
    Packets,
    /// As many bytes as were asked for.
    Bytes,
    /// The time is over.
    Duration,
    /// The client ended it.
    Asked,
}

/// A captured packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedPacket {
    /// Nanoseconds since 1970-01-01 UTC; the same for all packets of a burst.
    pub time_ns: u64,
    /// Index of the worker that saw it.
    pub worker: u32,
    /// What became of it.
    pub fate: FateKind,
    /// The name of the counter that counted it, if it was not forwarded.
    pub reason: Option<String>,
    /// What became of it, in words.
    pub text: String,
    /// The RIP that it was sent to.
    pub server: Option<IpAddr>,
    /// Frames that it became.
    pub frames_sent: u32,
    /// Those of its frames that were asked for: as it was received first, then
    /// as it was sent.
    pub frames: Vec<CapturedFrame>,
}

/// A frame of a captured packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedFrame {
    /// The port's place in the list of ports.
    pub port: u8,
    /// Whether the port received or sends it.
    pub direction: Direction,
    /// Its length on the wire, in bytes.
    pub len: u32,
    /// The first of them, in base64.
    #[serde(with = "base64_text")]
    pub bytes: Vec<u8>,
}

/// Bytes as text.
mod base64_text {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_travels_as_base64() {
        let frame = CapturedFrame {
            port: 1,
            direction: Direction::Out,
            len: 60,
            bytes: vec![0, 255, 16, 3],
        };
        let json = serde_json::to_string(&frame).unwrap();
        assert_eq!(
            json,
            r#"{"port":1,"direction":"out","len":60,"bytes":"AP8QAw=="}"#
        );
        assert_eq!(serde_json::from_str::<CapturedFrame>(&json).unwrap(), frame);
        let broken = json.replace("AP8QAw==", "AP8QA");
        assert!(serde_json::from_str::<CapturedFrame>(&broken).is_err());
    }

    #[test]
    fn a_condition_that_is_not_known_is_refused() {
        let request = r#"{"filter":{"clients":"192.0.2.0/24"},"snaplen":64,"packets_max":1,
            "bytes_max":1,"duration_ms":1,"rate_per_s":1}"#;
        let error = serde_json::from_str::<CaptureRequest>(request).unwrap_err();
        assert!(error.to_string().contains("clients"), "{error}");
    }
}
