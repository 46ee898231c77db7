//! Rust taken apart into words and signs: enough to follow paths, without the
//! comments and texts that a search would trip over.

use std::mem;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Word(String),
    Text(String),
    /// `::`
    PathSeparator,
    Sign(char),
}

impl Token {
    pub(crate) fn word(&self) -> Option<(usize, &str)> {
        match &self.kind {
            Kind::Word(word) => Some((self.line, word)),
            _ => None,
        }
    }

    pub(crate) fn is(&self, text: &str) -> bool {
        match &self.kind {
            Kind::Word(word) => word == text,
            Kind::Sign(sign) => text.len() == 1 && text.starts_with(*sign),
            Kind::Text(_) | Kind::PathSeparator => false,
        }
    }
}

pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        rest: text,
        line: 1,
    };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next_token() {
        tokens.push(token);
    }
    tokens
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lexer<'a> {
    fn next_token(&mut self) -> Option<Token> {
        loop {
            let line = self.line;
            let first = self.rest.chars().next()?;
            let kind = if first.is_whitespace() {
                self.take(first.len_utf8());
                continue;
            } else if self.rest.starts_with("//") {
                self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
                continue;
            } else if self.rest.starts_with("/*") {
                self.skip_block_comment();
                continue;
            } else if let Some(text) = self.text() {
                Kind::Text(text)
            } else if self.rest.starts_with("::") {
                self.take(2);
                Kind::PathSeparator
            } else if first.is_alphanumeric() || first == '_' {
                let is_part = |c: char| c.is_alphanumeric() || c == '_';
                let len = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
                Kind::Word(self.take(len).to_owned())
            } else {
                self.take(first.len_utf8());
                Kind::Sign(first)
            };
            return Some(Token { line, kind });
        }
    }

    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(len);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    /// Block comments nest.
    fn skip_block_comment(&mut self) {
        let mut depth = 0_usize;
        loop {
            if self.rest.starts_with("/*") {
                depth += 1;
                self.take(2);
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.take(2);
            } else if let Some(first) = self.rest.chars().next() {
                self.take(first.len_utf8());
            } else {
                return;
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// A string or a character, without its quotes.
    fn text(&mut self) -> Option<String> {
        let body = self.rest.trim_start_matches(['b', 'c']);
        let prefix = self.rest.len() - body.len();
        let raw = body.strip_prefix('r').unwrap_or(body);
        let opened = raw.trim_start_matches('#');
        let hashes = raw.len() - opened.len();
        if prefix <= 1 && raw.len() < body.len() && opened.starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = prefix + 1 + hashes + 1;
            let len = self.rest.get(start..)?.find(&end)?;
            self.take(start);
            let text = self.take(len).to_owned();
            self.take(end.len());
            return Some(text);
        }
        let quote = body
            .chars()
            .next()
            .filter(|quote| matches!(quote, '"' | '\''))?;
        if prefix > 1 || quote == '\'' && !is_character(body) {
            return None;
        }
        let len = closing_quote(body.get(1..)?, quote)?;
        self.take(prefix + 1);
        let text = self.take(len).to_owned();
        self.take(1);
        Some(text)
    }
}

/// Whether an apostrophe begins a character, not a lifetime.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}

fn closing_quote(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    for (index, c) in text.char_indices() {
        if mem::take(&mut is_escaped) {
            continue;
        }
        match c {
            '\\' => is_escaped = true,
            _ if c == quote => return Some(index),
            _ => {}
        }
    }
    None
}
