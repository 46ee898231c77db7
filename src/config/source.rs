//! Places in the text of a configuration file.
#![forbid(unsafe_code)]

use std::{fmt, ops::Range};

/// A place in the file, with the line as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// How many characters of the line are meant, at least 1.
    pub length: usize,
    /// The whole line without its end, control characters replaced.
    pub text: String,
}

impl Place {
    /// The place of the bytes `span` of `source`. A span that begins behind
    /// the end means the end; one over several lines means the first of them.
    pub(super) fn find(source: &str, span: &Range<usize>) -> Self {
        let start = floor_char_boundary(source, span.start);
        let end = floor_char_boundary(source, span.end).max(start);
        let before = source.get(..start).unwrap_or_default();
        let meant = source.get(start..end).unwrap_or_default();
        let rest = source.get(start..).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |index| index + 1);
        let line_before = before.get(line_start..).unwrap_or_default();
        let line_rest = rest.lines().next().unwrap_or_default();
        let length = meant.lines().next().unwrap_or_default().chars().count();
        Self {
            line: before.matches('\n').count() + 1,
            column: line_before.chars().count() + 1,
            length: length.max(1),
            text: line_before
                .chars()
                .chain(line_rest.chars())
                .map(printable)
                .collect(),
        }
    }
}

impl fmt::Display for Place {
    /// The line, and carets under what is meant. Nothing for a line too long
    /// to be looked at.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.trim().is_empty() || self.text.chars().count() > LINE_LEN_MAX {
            return Ok(());
        }
        let indent: String = self
            .text
            .chars()
            .take(self.column - 1)
            .map(|character| if character == '\t' { '\t' } else { ' ' })
            .collect();
        write!(
            f,
            "\n    {}\n    {indent}{}",
            self.text,
            "^".repeat(self.length)
        )
    }
}

/// What a message says, with the control characters of values in it replaced.
pub(super) struct Printable<T>(pub(super) T);

impl<T: fmt::Display> fmt::Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            &self
                .0
                .to_string()
                .chars()
                .map(printable)
                .collect::<String>(),
        )
    }
}

/// Terminals obey control characters, so none of the file's reaches them.
fn printable(character: char) -> char {
    if character.is_control() && character != '\t' {
        '\u{fffd}'
    } else {
        character
    }
}

fn floor_char_boundary(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

/// Longer lines are not repeated in messages.
const LINE_LEN_MAX: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        let source = "a = 1\r\n\tname = \"\u{e9}\u{e9}\", x\n";
        let start = source.find(", x").unwrap();
        let place = Place::find(source, &(start..start + 3));
        assert_eq!((place.line, place.column, place.length), (2, 13, 3));
        assert_eq!(
            place.to_string(),
            "\n    \tname = \"éé\", x\n    \t           ^^^"
        );
    }

    #[test]
    fn a_place_behind_the_end_is_the_end() {
        let place = Place::find("a = 1\nb =", &(100..200));
        assert_eq!((place.line, place.column, place.length), (2, 4, 1));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(
            Place::find("a = \u{1b}[2J", &(0..1)).text,
            "a = \u{fffd}[2J"
        );
    }

    #[test]
    fn control_characters_of_values_are_replaced() {
        assert_eq!(
            Printable("a\u{1b}[2J\n\tb").to_string(),
            "a\u{fffd}[2J\u{fffd}\tb"
        );
    }

    #[test]
    fn a_span_over_lines_means_the_first() {
        let place = Place::find("a = [\n1,\n2]", &(4..11));
        assert_eq!((place.line, place.length), (1, 1));
    }
}
