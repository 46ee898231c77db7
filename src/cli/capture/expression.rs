//! Filters in the language of tcpdump, which libpcap compiles.

use crate::capture::{InstructionError, Program, ProgramError};

/// Why an expression is no filter.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ExpressionError {
    /// libpcap does not take it.
    #[cfg(feature = "bpf")]
    #[error("\"{expression}\" is no filter: {why}; pcap-filter(7) says how to write one")]
    Wrong {
        /// What was written.
        expression: String,
        /// What libpcap says.
        why: String,
    },
    /// There is no libpcap.
    #[cfg(not(feature = "bpf"))]
    #[error(
        "this pointsman was built without libpcap and knows no filter expressions; use the \
         options, or rebuild it with the feature \"bpf\""
    )]
    NoLibpcap,
    /// What libpcap made of it is too long.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// What libpcap made of it cannot be read.
    #[error(transparent)]
    Instruction(#[from] InstructionError),
}

/// The program that an expression stands for; none for an empty one.
///
/// # Errors
/// When it is none.
pub(super) fn compile(expression: &str) -> Result<Option<Program>, ExpressionError> {
    if expression.trim().is_empty() {
        return Ok(None);
    }
    compiled(expression).map(Some)
}

#[cfg(feature = "bpf")]
fn compiled(expression: &str) -> Result<Program, ExpressionError> {
    use pcap::{Capture, Linktype};

    let wrong = |error: pcap::Error| ExpressionError::Wrong {
        expression: expression.to_owned(),
        why: match error {
            pcap::Error::PcapError(why) => why,
            error => error.to_string(),
        },
    };
    let capture = Capture::dead(Linktype::ETHERNET).map_err(wrong)?;
    let program = capture.compile(expression, true).map_err(wrong)?;
    let instructions = program.get_instructions().iter();
    let instructions = instructions.map(|instruction| instruction.to_string().parse());
    Ok(Program::new(instructions.collect::<Result<_, _>>()?)?)
}

#[cfg(not(feature = "bpf"))]
fn compiled(_expression: &str) -> Result<Program, ExpressionError> {
    Err(ExpressionError::NoLibpcap)
}

#[cfg(all(test, feature = "bpf"))]
mod tests {
    use super::*;

    #[test]
    fn an_expression_becomes_what_tcpdump_makes_of_it() {
        // `tcpdump -y EN10MB -ddd arp` of libpcap 1.10.3.
        let program = compile("arp").unwrap().unwrap();
        assert_eq!(
            serde_json::to_string(&program).unwrap(),
            "[[40,0,0,12],[21,0,1,2054],[6,0,0,65535],[6,0,0,0]]"
        );
        assert_eq!(compile(" ").unwrap(), None);
    }

    #[test]
    fn nonsense_is_refused_as_libpcap_does() {
        let error = compile("tcp prot 80").unwrap_err().to_string();
        assert!(error.contains("\"tcp prot 80\" is no filter"), "{error}");
        assert!(error.contains("syntax error"), "{error}");
    }

    #[test]
    fn an_expression_that_is_too_long_for_a_worker_is_refused() {
        let hosts: Vec<_> = (0..200)
            .map(|host| format!("host 192.0.2.{host}"))
            .collect();
        let error = compile(&hosts.join(" or ")).unwrap_err().to_string();
        assert!(error.contains("1 to 512 instructions"), "{error}");
    }
}

#[cfg(all(test, not(feature = "bpf")))]
mod tests {
    use super::*;

    #[test]
    fn without_libpcap_an_expression_is_refused() {
        let error = compile("tcp").unwrap_err().to_string();
        assert!(error.contains("without libpcap"), "{error}");
        assert!(compile("").is_ok());
    }
}
