//! Errors as clients get them: problem documents (RFC 9457).
#![forbid(unsafe_code)]

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::control::{command::CommandError, socket::AskError};

/// Why a request was not carried out, or not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    error: Option<CommandError>,
}

/// The document. The meaning of a problem is that of its status, so that its
/// `type` is `about:blank` (RFC 9457 section 4.2.1).
#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    detail: String,
    /// What the director said, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<CommandError>,
}

impl Problem {
    /// A problem of a status, with a sentence about this occurrence.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "for use with Result::map_err"
    )]
    pub(super) fn new(status: StatusCode, detail: impl ToString) -> Self {
        Self {
            status,
            detail: detail.to_string(),
            error: None,
        }
    }

    /// What is asked for makes no sense.
    pub(super) fn unprocessable(detail: impl ToString) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// What the director said to a command; itself, when it said nothing.
    pub(super) fn into_command_error(self) -> Result<CommandError, Self> {
        match self.error {
            Some(error) => Ok(error),
            None => Err(self),
        }
    }

    /// There is no such thing.
    pub(super) fn not_found(detail: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let status = match error {
            CommandError::ServiceExists(_) | CommandError::ServerExists(..) => StatusCode::CONFLICT,
            CommandError::NoSuchService(_) | CommandError::NoSuchServer(..) => {
                StatusCode::NOT_FOUND
            }
            CommandError::WeightOutOfRange(_)
            | CommandError::ThresholdsCrossed { .. }
            | CommandError::NoTunnelPort => StatusCode::UNPROCESSABLE_ENTITY,
            CommandError::TooManyServices(_) | CommandError::TooManyServers(_) => {
                StatusCode::INSUFFICIENT_STORAGE
            }
        };
        Self {
            status,
            detail: error.to_string(),
            error: Some(error),
        }
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            kind: "about:blank".to_owned(),
            title: self
                .status
                .canonical_reason()
                .unwrap_or_default()
                .to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            error: self.error,
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"pointsman\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

const PROBLEM_JSON: &str = "application/problem+json";
