//! The token that clients have to say.
#![forbid(unsafe_code)]

use std::{fmt, fs, io, os::unix::fs::PermissionsExt, path::Path, str::FromStr};

use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq;

/// A secret; what it is takes no part in messages.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(String);

/// Why a file holds no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// What is in it would be no secret, or no header.
    #[error(
        "write 16 to 512 printable ASCII characters without a space into it, such as `openssl \
         rand -hex 32` prints"
    )]
    Malformed,
}

impl Token {
    /// Reads a file, and doubts one that others can read.
    pub(super) fn read(path: &Path) -> Result<Self, TokenError> {
        let text = fs::read_to_string(path)?;
        if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
            log::warn!(
                "{}: other users can read the token; write for example: chmod 600 {0}",
                path.display()
            );
        }
        text.trim().parse()
    }

    /// Whether the client has said it.
    pub(super) fn is_said(&self, headers: &HeaderMap) -> bool {
        let said = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().split_first_chunk::<{ SCHEME.len() }>())
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME))
            .map(|(_, token)| token);
        // In a time that does not tell how much of it is right.
        said.is_some_and(|said| said.ct_eq(self.0.as_bytes()).into())
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_printable && LEN_RANGE.contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TokenError::Malformed)
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

const SCHEME: &[u8; 7] = b"Bearer ";
const LEN_RANGE: std::ops::RangeInclusive<usize> = 16..=512;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_token_itself_will_do() {
        let token: Token = "0123456789abcdef".parse().unwrap();
        assert!(token.is_said(&said("Bearer 0123456789abcdef")));
        assert!(token.is_said(&said("bearer 0123456789abcdef")));
        for wrong in [
            "Bearer 0123456789abcdee",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Bearer ",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
        ] {
            assert!(!token.is_said(&said(wrong)), "{wrong}");
        }
        assert!(!token.is_said(&HeaderMap::new()));
    }

    #[test]
    fn what_is_no_secret_or_no_header_is_refused() {
        for wrong in ["", "short", "with a space in it", "umlaut-ä-0123456789"] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
        assert!("x".repeat(513).parse::<Token>().is_err());
    }

    #[test]
    fn a_token_file_may_end_with_a_newline() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        assert!(matches!(Token::read(&path), Err(TokenError::Io(_))));
        fs::write(&path, "0123456789abcdef\n").unwrap();
        assert_eq!(
            Token::read(&path).unwrap(),
            Token("0123456789abcdef".to_owned())
        );
    }

    #[test]
    fn a_token_does_not_show() {
        let token: Token = "0123456789abcdef".parse().unwrap();
        assert_eq!(format!("{token:?}"), "Token");
    }
}
