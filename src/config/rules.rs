//! `services_file`: services in the language of `ipvsadm`.
#![forbid(unsafe_code)]

use std::{collections::HashMap, fs, io, path::Path};

use toml::Spanned;

use super::{
    address::check_host,
    error::Problem,
    reader::{Findings, Span},
    services::ServiceDraft,
};
use crate::{
    ipvsadm::rules::{self, Rules, ServiceRule},
    service::ServiceKey,
};

/// Reads the file and adds its services to those of the configuration.
pub(super) fn read_rules(
    path: &Path,
    services: &mut Vec<ServiceDraft>,
    findings: &mut Findings<'_>,
) {
    let name = path.display().to_string();
    let text = match read(path) {
        Ok(text) => text,
        Err(problem) => {
            let start = findings.add_file(name, String::new());
            findings.refuse_file_at(start, problem);
            return;
        }
    };
    let Rules {
        services: rules,
        problems,
    } = rules::parse(&text);
    let start = findings.add_file(name, text);
    for (span, problem) in problems {
        findings.refuse(shifted(&span, start), Problem::Rule(problem));
    }
    let mut seen: HashMap<_, Span> = services
        .iter()
        .map(|service| (*service.key.get_ref(), service.key.span()))
        .collect();
    for rule in rules {
        let Some(service) = draft(rule, start, findings) else {
            continue;
        };
        let key = *service.key.get_ref();
        let span = service.key.span();
        if let Some(first) = seen.get(&key) {
            let line = findings.line_from(first, &span);
            let problem = Problem::ServiceInBothFiles { service: key, line };
            findings.refuse(span, problem);
        } else {
            seen.insert(key, span);
        }
        services.push(service);
    }
}

fn read(path: &Path) -> Result<String, Problem> {
    fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Problem::NotUtf8,
        _ => Problem::ServicesUnreadable(error.to_string()),
    })
}

/// A service as those of the configuration are read, or what is wrong with its
/// addresses. Its text begins at `start`.
fn draft(rule: ServiceRule, start: usize, findings: &mut Findings<'_>) -> Option<ServiceDraft> {
    let ServiceRule {
        span,
        key,
        options,
        servers,
    } = rule;
    let span = shifted(&span, start);
    if let ServiceKey::Vip { address, .. } = key
        && let Err(problem) = check_host(address.ip(), "a VIP")
    {
        findings.refuse(span, problem);
        return None;
    }
    let mut drafts = Vec::with_capacity(servers.len());
    for server in servers {
        let span = shifted(&server.span, start);
        match check_host(server.key.address, "a real server") {
            Ok(rip) => drafts.push((Spanned::new(span, rip), server.options)),
            Err(problem) => findings.refuse(span, problem),
        }
    }
    let service = ServiceDraft {
        key: Spanned::new(span, key),
        servers: drafts,
        options,
        outer_source: None,
    };
    service.doubt_servers(findings);
    Some(service)
}

fn shifted(span: &Span, start: usize) -> Span {
    span.start + start..span.end + start
}
