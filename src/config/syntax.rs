//! From text to a tree of TOML values with their places.
#![forbid(unsafe_code)]

use toml::{
    Spanned,
    de::{DeTable, Error},
};

use super::{
    error::{ConfigErrors, Problem},
    reader::Findings,
    source::{Place, Source},
};

/// Parses the text. Of several errors in one line only the first is reported,
/// since the others mostly follow from it.
///
/// # Errors
/// Everything in it that is not TOML.
pub(super) fn parse<'i>(
    text: &'i str,
    file_name: &str,
) -> Result<Spanned<DeTable<'i>>, ConfigErrors> {
    let mut findings = Findings::new(file_name, text);
    let source = Source::new(text);
    let (table, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    let mut line_before = 0;
    for error in errors {
        let span = error.span().unwrap_or_default();
        let place = source.place(&span);
        if place.line != line_before {
            line_before = place.line;
            let (explanation, meant) = explain(&error, text, &place);
            let wide = meant.and_then(|word| Some((word, text.get(..span.end)?.rfind(word)?)));
            let span = wide.map_or(span, |(word, start)| start..start + word.len());
            findings.refuse(span, Problem::Syntax(explanation));
        }
    }
    findings.finish().map(|_| table)
}

/// The parser's message, for the mistakes that people make most in words that
/// say what to write. With the value that is meant, when it is a bare word.
fn explain<'p>(error: &Error, text: &str, place: &'p Place) -> (String, Option<&'p str>) {
    let message = error.message();
    let meant = error
        .span()
        .and_then(|span| text.get(span))
        .unwrap_or_default();
    let value = place.text.split_once('=').map_or("", |(_, value)| value);
    let value = value.split('#').next().unwrap_or_default().trim();
    let is_bare = !value.is_empty() && !value.contains(['"', '\'', '[', ']', '{', '}', ',', '=']);
    let explanation = if message.starts_with("duplicate key") {
        if place.text.trim_start().starts_with('[') {
            format!("table {meant} stands twice; write each table once, lists as [[{meant}]]")
        } else {
            format!("`{meant}` stands twice; write each key once")
        }
    } else if message.starts_with("string values must be quoted") && value.is_empty() {
        "there is no value; write one behind the =".to_owned()
    } else if is_value_error(message) && is_bare {
        let lower = value.to_lowercase();
        let instead = match lower.as_str() {
            "true" | "false" => lower,
            _ => format!("texts in quotes, \"{value}\""),
        };
        let explanation = format!("{value} is neither a number nor true or false; write {instead}");
        return (explanation, Some(value));
    } else if message.starts_with("invalid basic string") {
        "the text does not end in this line; write \" at its end".to_owned()
    } else if message.starts_with("unclosed table") || message.starts_with("unclosed array table") {
        "the table's header is not closed; write as many ] as [".to_owned()
    } else if message.starts_with("unclosed array") {
        "the list is not closed; write ] at its end".to_owned()
    } else if message.starts_with("key with no value") || !place.text.contains('=') {
        "this is neither a key with its value nor a table; write `key = value`".to_owned()
    } else {
        format!("not TOML: {message}; see docs/configuration.md for the form of the file")
    };
    (explanation, None)
}

fn is_value_error(message: &str) -> bool {
    [
        "string values must be quoted",
        "invalid float",
        "invalid integer",
        "invalid boolean",
    ]
    .iter()
    .any(|known| message.starts_with(known))
}
