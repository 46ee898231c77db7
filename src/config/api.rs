//! `[api]`: where the director answers over HTTP, and to whom.
#![forbid(unsafe_code)]

use std::{net::SocketAddr, path::PathBuf};

use toml::Spanned;

use super::{
    ApiConfig, ApiListen,
    director::SOCKET_PATH_LEN_MAX,
    error::Problem,
    format::API,
    hint::WrongText,
    reader::{Findings, TableReader},
};

/// Reads `[api]`, when it is there.
pub(super) fn read_api(
    file: &TableReader<'_, '_>,
    findings: &mut Findings<'_>,
) -> Option<ApiConfig> {
    let table = file.table("api", &API, findings)?;
    let listen = table.parsed("listen", parse_listen, findings);
    let listen = table.require("listen", listen, findings);
    let token_file = table.parsed("token_file", path_of("token_file"), findings);
    let read_token_file = table.parsed("read_token_file", path_of("read_token_file"), findings);
    let metrics_without_token = table.switch("metrics_without_token", findings);
    let listen = listen?;
    if let ApiListen::Tcp(address) = listen.get_ref()
        && !address.ip().is_loopback()
        && !table.has("token_file")
    {
        let problem = WrongText {
            key: "listen",
            value: address.to_string(),
            expected: "a loopback address, such as \"127.0.0.1:9110\", or name a `token_file` \
                       besides: without one, whoever reaches this address could change services",
        };
        findings.refuse(listen.span(), problem.into());
    }
    if let Some(read_token_file) = &read_token_file
        && !table.has("token_file")
    {
        let problem = WrongText {
            key: "read_token_file",
            value: read_token_file.get_ref().display().to_string(),
            expected: "a `token_file` besides, or leave this one out: without that, whoever \
                       reaches the director may change services as well as read",
        };
        findings.refuse(read_token_file.span(), problem.into());
    }
    Some(ApiConfig {
        listen: listen.into_inner(),
        token_file: token_file.map(Spanned::into_inner),
        read_token_file: read_token_file.map(Spanned::into_inner),
        metrics_without_token: metrics_without_token.unwrap_or(false),
    })
}

fn parse_listen(text: &str) -> Result<ApiListen, Problem> {
    if text.starts_with('/') && text.len() <= SOCKET_PATH_LEN_MAX && !text.contains('\0') {
        return Ok(ApiListen::Unix(PathBuf::from(text)));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(ApiListen::Tcp(address)),
        _ => Err(WrongText {
            key: "listen",
            value: text.to_owned(),
            expected: "an address of this host with a port, such as \"127.0.0.1:9110\" or \
                       \"[::1]:9110\", or a path that begins with /, of 107 bytes at most",
        }
        .into()),
    }
}

fn path_of(key: &'static str) -> impl Fn(&str) -> Result<PathBuf, Problem> {
    move |text| {
        if text.starts_with('/') && !text.contains('\0') {
            return Ok(PathBuf::from(text));
        }
        let problem = WrongText {
            key,
            value: text.to_owned(),
            expected: "a path that begins with /",
        };
        Err(problem.into())
    }
}
