//! Reading one table of the file: typed values, each with its place, and every
//! mistake reported rather than only the first.
#![forbid(unsafe_code)]

use std::{
    borrow::Cow,
    ops::{Range, RangeInclusive},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::{ConfigError, ConfigErrors, Problem},
    format::{FILE, KeyFormat, TableFormat, nearest, table_with},
    hint::KeyHint,
    source::{Line, Place, Source},
    warning::{ConfigWarning, Doubt},
};

/// Bytes of the file.
pub(super) type Span = Range<usize>;

/// What has been found wrong or doubtful so far, in all files that make up the
/// configuration. Their texts stand one behind the other, so that a [`Span`]
/// tells the file too.
#[derive(Debug)]
pub(super) struct Findings<'s> {
    /// In the order of their starts; the configuration itself is the first.
    files: Vec<File<'s>>,
    problems: Vec<(Mark, Problem)>,
    doubts: Vec<(Mark, Doubt)>,
}

#[derive(Debug)]
struct File<'s> {
    name: Cow<'s, str>,
    /// Where its text begins among those of all files.
    start: usize,
    source: Source<'s>,
}

/// What a finding is about.
#[derive(Debug)]
enum Mark {
    Bytes(Span),
    /// The file, by where it starts.
    WholeFile(usize),
}

impl Mark {
    fn start(&self) -> usize {
        match self {
            Self::Bytes(span) => span.start,
            Self::WholeFile(start) => *start,
        }
    }
}

impl<'s> Findings<'s> {
    pub(super) fn new(file: &'s str, text: &'s str) -> Self {
        let file = File {
            name: file.into(),
            start: 0,
            source: Source::new(text),
        };
        Self {
            files: vec![file],
            problems: Vec::new(),
            doubts: Vec::new(),
        }
    }

    /// Adds a file, and returns where its text begins.
    pub(super) fn add_file(&mut self, name: String, text: String) -> usize {
        let last = self.files.last();
        // A span may stand at the end of a text, which is not yet the next.
        let start = last.map_or(0, |file| file.start + file.source.len() + 1);
        self.files.push(File {
            name: name.into(),
            start,
            source: Source::new(text),
        });
        start
    }

    /// Something is wrong at `span`.
    pub(super) fn refuse(&mut self, span: Span, problem: Problem) {
        self.problems.push((Mark::Bytes(span), problem));
    }

    /// Something is wrong with the configuration as a whole.
    pub(super) fn refuse_file(&mut self, problem: Problem) {
        self.refuse_file_at(0, problem);
    }

    /// Something is wrong with the file that starts there as a whole.
    pub(super) fn refuse_file_at(&mut self, start: usize, problem: Problem) {
        self.problems.push((Mark::WholeFile(start), problem));
    }

    /// Something is doubtful at `span`.
    pub(super) fn doubt(&mut self, span: Span, doubt: Doubt) {
        self.doubts.push((Mark::Bytes(span), doubt));
    }

    /// How many problems there are, to see whether a step has added some.
    pub(super) fn problem_count(&self) -> usize {
        self.problems.len()
    }

    /// The line in which `span` begins, counted from 1 in its file.
    pub(super) fn line(&self, span: &Span) -> usize {
        let line = |file: &File<'_>| file.source.line(span.start - file.start);
        self.file_at(span.start).map_or(0, line)
    }

    /// The line in which `span` begins, for a message about `here`.
    pub(super) fn line_from(&self, span: &Span, here: &Span) -> Line {
        let file = self.file_at(span.start);
        let is_other = |file: &&File<'_>| {
            let start = self.file_at(here.start).map(|file| file.start);
            start != Some(file.start)
        };
        Line {
            number: self.line(span),
            file: file.filter(is_other).map(|file| file.name.to_string()),
        }
    }

    /// The warnings, or the errors when there are any; both in file order.
    pub(super) fn finish(mut self) -> Result<Vec<ConfigWarning>, ConfigErrors> {
        self.problems.sort_by_key(|(mark, _)| mark.start());
        self.doubts.sort_by_key(|(mark, _)| mark.start());
        if self.problems.is_empty() {
            let doubts = std::mem::take(&mut self.doubts);
            let warning = |(mark, doubt)| {
                let (file, place) = self.locate(&mark);
                ConfigWarning { file, place, doubt }
            };
            Ok(doubts.into_iter().map(warning).collect())
        } else {
            let problems = std::mem::take(&mut self.problems);
            let error = |(mark, problem)| {
                let (file, place) = self.locate(&mark);
                ConfigError {
                    file,
                    place,
                    problem,
                }
            };
            Err(ConfigErrors {
                errors: problems.into_iter().map(error).collect(),
            })
        }
    }

    fn locate(&self, mark: &Mark) -> (String, Option<Place>) {
        let Some(file) = self.file_at(mark.start()) else {
            return (String::new(), None);
        };
        let place = match mark {
            Mark::Bytes(span) => {
                let own = span.start - file.start..span.end.saturating_sub(file.start);
                Some(file.source.place(&own))
            }
            Mark::WholeFile(_) => None,
        };
        (file.name.to_string(), place)
    }

    /// The file in whose text a byte stands.
    fn file_at(&self, index: usize) -> Option<&File<'s>> {
        let behind = self.files.partition_point(|file| file.start <= index);
        self.files.get(behind.checked_sub(1)?)
    }
}

/// One table of the file.
#[derive(Clone, Debug)]
pub(super) struct TableReader<'t, 'i> {
    format: &'static TableFormat,
    /// The table's header, or the whole of an inline table.
    pub(super) span: Span,
    table: &'t DeTable<'i>,
    /// Keys that unknown ones were probably meant to be.
    meant: Vec<&'static str>,
}

impl<'t, 'i> TableReader<'t, 'i> {
    /// Opens a table and reports keys that it does not have.
    pub(super) fn open(
        format: &'static TableFormat,
        span: Span,
        table: &'t DeTable<'i>,
        findings: &mut Findings<'_>,
    ) -> Self {
        let mut meant = Vec::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            if format.key(name).is_none() {
                findings.refuse(key.span(), unknown(format, name, value.get_ref()));
                meant.extend(nearest(format, name));
            }
        }
        Self {
            format,
            span,
            table,
            meant,
        }
    }

    /// A text.
    pub(super) fn text(&self, name: &str, findings: &mut Findings<'_>) -> Option<Spanned<&'t str>> {
        let (key, value) = self.lookup(name)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            refuse_type(key, "a text in quotes", value, findings);
        }
        Some(Spanned::new(value.span(), text?))
    }

    /// A text, if it is one, without complaint: what it suggests about other
    /// keys.
    pub(super) fn hint(&self, name: &str) -> Option<&'t str> {
        self.lookup(name)?.1.get_ref().as_str()
    }

    /// A text that `parse` makes sense of.
    pub(super) fn parsed<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, Problem>,
        findings: &mut Findings<'_>,
    ) -> Option<Spanned<T>> {
        let text = self.text(name, findings)?;
        parsed(&text, parse, findings)
    }

    /// A whole number within `range`; `unit` says what it counts, with a space
    /// in front.
    pub(super) fn number<T: Copy + Into<u64> + TryFrom<u64>>(
        &self,
        name: &str,
        range: RangeInclusive<T>,
        unit: &'static str,
        findings: &mut Findings<'_>,
    ) -> Option<Spanned<T>> {
        let (key, value) = self.lookup(name)?;
        let Some(integer) = value.get_ref().as_integer() else {
            refuse_type(key, "a whole number", value, findings);
            return None;
        };
        let (min, max): (u64, u64) = ((*range.start()).into(), (*range.end()).into());
        let number = u64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|number| (min..=max).contains(number))
            .and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            let value_text = integer.to_string();
            let problem = Problem::OutOfRange {
                key: key.name,
                value: value_text,
                min,
                max,
                unit,
            };
            findings.refuse(value.span(), problem);
        }
        Some(Spanned::new(value.span(), number?))
    }

    /// `true` or `false`; 1 and 0 mean the same, as in `/proc/sys`.
    pub(super) fn switch(&self, name: &str, findings: &mut Findings<'_>) -> Option<bool> {
        let (key, value) = self.lookup(name)?;
        let number = value
            .get_ref()
            .as_integer()
            .map(toml::de::DeInteger::as_str);
        let switch = value.get_ref().as_bool().or(match number {
            Some("0") => Some(false),
            Some("1") => Some(true),
            _ => None,
        });
        if switch.is_none() {
            refuse_type(key, "true or false", value, findings);
        }
        switch
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &self,
        name: &str,
        choices: &[(&str, T)],
        findings: &mut Findings<'_>,
    ) -> Option<Spanned<T>> {
        let text = self.text(name, findings)?;
        let chosen = choices.iter().find(|(word, _)| word == text.get_ref());
        if chosen.is_none()
            && let Some(key) = self.format.key(name)
        {
            let words = choices.iter().map(|(word, _)| format!("\"{word}\""));
            let value = (*text.get_ref()).to_owned();
            let choices = or_list(words);
            findings.refuse(
                text.span(),
                Problem::NotAChoice {
                    key: key.name,
                    value,
                    choices,
                },
            );
        }
        chosen.map(|(_, value)| Spanned::new(text.span(), *value))
    }

    /// The elements of a list, each as `element` reads it; those that it
    /// refuses are left out.
    pub(super) fn list<T>(
        &self,
        name: &str,
        expected: &'static str,
        element: impl Fn(&'t DeValue<'i>) -> Option<T>,
        findings: &mut Findings<'_>,
    ) -> Option<Spanned<Vec<Spanned<T>>>> {
        let (key, value) = self.lookup(name)?;
        let Some(array) = value.get_ref().as_array() else {
            refuse_type(key, "a list in square brackets", value, findings);
            return None;
        };
        let mut elements = Vec::with_capacity(array.len());
        for value in array {
            if let Some(element) = element(value.get_ref()) {
                elements.push(Spanned::new(value.span(), element));
            } else {
                let problem = Problem::WrongElementType {
                    key: key.name,
                    found: type_name(value.get_ref()),
                    expected,
                    example: key.example,
                };
                findings.refuse(value.span(), problem);
            }
        }
        Some(Spanned::new(value.span(), elements))
    }

    /// A list of texts.
    pub(super) fn texts(
        &self,
        name: &str,
        findings: &mut Findings<'_>,
    ) -> Option<Vec<Spanned<&'t str>>> {
        let text = |value: &'t DeValue<'i>| value.as_str();
        Some(
            self.list(name, "a text in quotes", text, findings)?
                .into_inner(),
        )
    }

    /// A table within this one.
    pub(super) fn table(
        &self,
        name: &str,
        format: &'static TableFormat,
        findings: &mut Findings<'_>,
    ) -> Option<Self> {
        let (key, value) = self.lookup(name)?;
        let Some(table) = value.get_ref().as_table() else {
            let problem = Problem::NotATable {
                key: key.name,
                header: key.example,
            };
            findings.refuse(value.span(), problem);
            return None;
        };
        Some(Self::open(format, value.span(), table, findings))
    }

    /// The tables of a list of tables; none when the key is not there.
    pub(super) fn tables(
        &self,
        name: &str,
        format: &'static TableFormat,
        findings: &mut Findings<'_>,
    ) -> Vec<Self> {
        let Some((key, value)) = self.lookup(name) else {
            return Vec::new();
        };
        let mut tables = Vec::new();
        let refuse = |span, findings: &mut Findings<'_>| {
            let problem = Problem::NotATableList {
                key: key.name,
                header: key.example,
            };
            findings.refuse(span, problem);
        };
        let Some(array) = value.get_ref().as_array() else {
            refuse(value.span(), findings);
            return tables;
        };
        for value in array {
            match value.get_ref().as_table() {
                Some(table) => tables.push(Self::open(format, value.span(), table, findings)),
                None => refuse(value.span(), findings),
            }
        }
        tables
    }

    /// Reports that a required key is missing, unless it is there but wrong or
    /// misspelt, which has been reported.
    pub(super) fn require<T>(
        &self,
        name: &str,
        value: Option<T>,
        findings: &mut Findings<'_>,
    ) -> Option<T> {
        if value.is_none()
            && !self.has(name)
            && !self.is_meant(name)
            && let Some(key) = self.format.key(name)
        {
            let (table, example) = (self.format.header, key.example);
            let problem = Problem::MissingKey {
                table,
                key: key.name,
                example,
            };
            findings.refuse(self.span.clone(), problem);
        }
        value
    }

    /// Whether the file has this key.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.get(name).is_some()
    }

    /// Whether a misspelt key was probably meant to be this one.
    pub(super) fn is_meant(&self, name: &str) -> bool {
        self.meant.contains(&name)
    }

    /// The place of a key's value, when the file has the key.
    pub(super) fn value_span(&self, name: &str) -> Option<Span> {
        self.table.get(name).map(Spanned::span)
    }

    fn lookup(&self, name: &str) -> Option<(&'static KeyFormat, &'t Spanned<DeValue<'i>>)> {
        debug_assert!(
            self.format.key(name).is_some(),
            "{name} is missing in format.rs"
        );
        Some((self.format.key(name)?, self.table.get(name)?))
    }
}

fn refuse_type(
    key: &KeyFormat,
    expected: &'static str,
    value: &Spanned<DeValue<'_>>,
    findings: &mut Findings<'_>,
) {
    let found = type_name(value.get_ref());
    let problem = Problem::WrongType {
        key: key.name,
        found,
        expected,
        example: key.example,
    };
    findings.refuse(value.span(), problem);
}

/// What `parse` makes of a text, at the place of the text.
pub(super) fn parsed<T>(
    text: &Spanned<&str>,
    parse: impl Fn(&str) -> Result<T, Problem>,
    findings: &mut Findings<'_>,
) -> Option<Spanned<T>> {
    match parse(text.get_ref()) {
        Ok(value) => Some(Spanned::new(text.span(), value)),
        Err(problem) => {
            findings.refuse(text.span(), problem);
            None
        }
    }
}

/// "a, b or c"
pub(super) fn or_list(words: impl Iterator<Item = String>) -> String {
    let mut words: Vec<String> = words.collect();
    match words.pop() {
        Some(last) if words.is_empty() => last,
        Some(last) => format!("{} or {last}", words.join(", ")),
        None => String::new(),
    }
}

fn unknown(format: &'static TableFormat, name: &str, value: &DeValue<'_>) -> Problem {
    let is_file = format.header == FILE.header;
    let all = || {
        let word = |key: &KeyFormat| {
            if is_file {
                key.example.to_owned()
            } else {
                format!("`{}`", key.name)
            }
        };
        KeyHint::OneOf(or_list(format.keys.iter().map(word)))
    };
    let hint = match (nearest(format, name), table_with(name)) {
        (Some(near), _) if is_file => {
            KeyHint::DidYouMeanTable(format.key(near).map_or(near, |key| key.example))
        }
        (Some(near), _) => KeyHint::DidYouMean(near),
        (None, Some(header)) => KeyHint::BelongsTo(header),
        (None, None) => all(),
    };
    if is_file && (value.is_table() || value.is_array()) && !matches!(hint, KeyHint::BelongsTo(_)) {
        return Problem::UnknownTable {
            key: name.to_owned(),
            hint,
        };
    }
    Problem::UnknownKey {
        key: name.to_owned(),
        table: format.header,
        hint,
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
