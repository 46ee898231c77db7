//! Places in the text of a configuration file.
#![forbid(unsafe_code)]

use std::{borrow::Cow, fmt, ops::Range};

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

/// A line of the same file or, with its name, of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1.
    pub number: usize,
    /// The other file.
    pub file: Option<String>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            None => self.number.fmt(f),
            Some(file) => write!(f, "{} of {file}", self.number),
        }
    }
}

/// The text of a file, ready to be asked for lines.
#[derive(Debug)]
pub(super) struct Source<'s> {
    text: Cow<'s, str>,
    /// Where each line begins.
    line_starts: Vec<usize>,
}

impl<'s> Source<'s> {
    pub(super) fn new(text: impl Into<Cow<'s, str>>) -> Self {
        let text = text.into();
        let later = text.match_indices('\n').map(|(index, _)| index + 1);
        Self {
            line_starts: std::iter::once(0).chain(later).collect(),
            text,
        }
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// The line, counted from 1, in which a byte stands.
    pub(super) fn line(&self, index: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= index)
    }

    /// The place of some bytes. A span that begins behind the end means the
    /// end; one over several lines means the first of them.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let start = floor_char_boundary(&self.text, span.start);
        let end = floor_char_boundary(&self.text, span.end).max(start);
        let line = self.line(start);
        let line_start = line
            .checked_sub(1)
            .and_then(|index| self.line_starts.get(index));
        let before = self
            .text
            .get(line_start.copied().unwrap_or(0)..start)
            .unwrap_or_default();
        let rest = first_line(self.text.get(start..)).unwrap_or_default();
        let meant = first_line(self.text.get(start..end)).unwrap_or_default();
        Place {
            line,
            column: before.chars().count() + 1,
            length: meant.chars().count().max(1),
            text: before.chars().chain(rest.chars()).map(printable).collect(),
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

fn first_line(text: Option<&str>) -> Option<&str> {
    text.and_then(|text| text.lines().next())
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
        let place = Source::new(source).place(&(start..start + 3));
        assert_eq!((place.line, place.column, place.length), (2, 13, 3));
        assert_eq!(
            place.to_string(),
            "\n    \tname = \"éé\", x\n    \t           ^^^"
        );
    }

    #[test]
    fn a_place_behind_the_end_is_the_end() {
        let place = Source::new("a = 1\nb =").place(&(100..200));
        assert_eq!((place.line, place.column, place.length), (2, 4, 1));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(
            Source::new("a = \u{1b}[2J").place(&(0..1)).text,
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
        let place = Source::new("a = [\n1,\n2]").place(&(4..11));
        assert_eq!((place.line, place.length), (1, 1));
    }
}
