//! One Rust file, and what it names.

use crate::lexer::{Kind, Token, tokens};

/// Parts of modules that are layers of their own.
const PARTS: [(&str, &str); 10] = [
    ("control", "command"),
    ("control", "edit"),
    ("control", "merge"),
    ("control", "saved"),
    ("control", "snapshot"),
    ("control", "status"),
    ("io", "dpdk"),
    ("io", "mem"),
    ("io", "pcap"),
    ("pktgen", "run"),
];

pub(crate) struct Source {
    path: String,
    lines: usize,
    all: Vec<Token>,
    /// `all` without the items under `#[cfg(test)]`.
    kept: Vec<Token>,
    test_files: Vec<String>,
}

/// The row of the table that a path behind `crate::` falls into.
pub(crate) fn node_of(path: &[&str]) -> String {
    match path {
        [module, part, ..] if PARTS.contains(&(*module, *part)) => format!("{module}::{part}"),
        [module, ..] => (*module).to_owned(),
        [] => String::new(),
    }
}

impl Source {
    /// `path` is relative to the repository.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let all = tokens(text);
        let mut source = Self {
            path: path.to_owned(),
            lines: text.lines().count(),
            kept: Vec::with_capacity(all.len()),
            test_files: Vec::new(),
            all: Vec::new(),
        };
        source.drop_test_items(&all);
        source.all = all;
        source
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    /// Files of modules that this one has for tests alone.
    pub(crate) fn test_files(&self) -> Vec<String> {
        self.test_files.clone()
    }

    /// Words outside of tests, with their lines.
    pub(crate) fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        self.kept.iter().filter_map(Token::word)
    }

    /// Words, with their lines.
    pub(crate) fn all_words(&self) -> impl Iterator<Item = (usize, &str)> {
        self.all.iter().filter_map(Token::word)
    }

    pub(crate) fn forbids_unsafe(&self) -> bool {
        let wanted = ["#", "!", "[", "forbid", "(", "unsafe_code", ")", "]"];
        self.all.windows(wanted.len()).any(|window| {
            window
                .iter()
                .zip(wanted)
                .all(|(token, text)| token.is(text))
        })
    }

    /// The row of the table for a file of `src`.
    pub(crate) fn node(&self) -> Option<String> {
        let module = self.module()?;
        Some(node_of(
            &module.iter().map(String::as_str).collect::<Vec<_>>(),
        ))
    }

    /// This file and those of the modules that it is in, whose lints it has.
    pub(crate) fn ancestors(&self) -> Vec<String> {
        let mut files = vec![self.path.clone()];
        let mut module = self.module().unwrap_or_default();
        while module.pop().is_some() && !module.is_empty() {
            let stem = format!("src/{}", module.join("/"));
            files.extend([format!("{stem}.rs"), format!("{stem}/mod.rs")]);
        }
        files
    }

    /// What this file names of its crate outside of tests, each with its line,
    /// from behind `crate::` on.
    pub(crate) fn crate_paths(&self) -> Vec<(usize, Vec<String>)> {
        let mut found = Vec::new();
        let mut here = self.module().unwrap_or_default();
        // For each brace that is open, whether it is that of a module.
        let mut braces = Vec::new();
        let mut index = 0;
        while let Some(token) = self.kept.get(index) {
            match &token.kind {
                Kind::Word(word) if word == "mod" && self.is(index + 2, "{") => {
                    here.extend(
                        self.kept
                            .get(index + 1)
                            .and_then(Token::word)
                            .map(|(_, name)| name.to_owned()),
                    );
                    braces.push(true);
                    index += 2;
                }
                Kind::Sign('{') => braces.push(false),
                Kind::Sign('}') if braces.pop() == Some(true) => {
                    here.pop();
                }
                Kind::Word(word)
                    if matches!(word.as_str(), "crate" | "self" | "super")
                        && self.is_separator(index + 1)
                        && (index == 0 || !self.is_separator(index - 1)) =>
                {
                    let mut prefix = here.clone();
                    match word.as_str() {
                        "crate" => prefix.clear(),
                        "super" => {
                            prefix.pop();
                        }
                        _ => {}
                    }
                    index = self.follow(index + 2, &prefix, &mut found);
                    continue;
                }
                _ => {}
            }
            index += 1;
        }
        found.retain(|(_, path)| !path.is_empty());
        found
    }

    /// Adds the path or the tree of paths that begins here, and returns where
    /// it ends. `prefix` is what was before it, from behind `crate::` on.
    fn follow(
        &self,
        start: usize,
        prefix: &[String],
        found: &mut Vec<(usize, Vec<String>)>,
    ) -> usize {
        let mut path = prefix.to_vec();
        let mut index = start;
        let Some(line) = self.kept.get(start).map(|token| token.line) else {
            return start;
        };
        while let Some(token) = self.kept.get(index) {
            match &token.kind {
                Kind::Word(word) => {
                    match word.as_str() {
                        "self" => {}
                        "super" => {
                            path.pop();
                        }
                        _ => path.push(word.clone()),
                    }
                    index += 1;
                }
                Kind::Sign('*') => {
                    path.push("*".to_owned());
                    index += 1;
                }
                Kind::Sign('{') => return self.follow_each(index + 1, &path, found),
                // The arguments of a type or a function: `path::<T>`.
                _ => break,
            }
            if !self.is_separator(index) {
                break;
            }
            index += 1;
        }
        found.push((line, path));
        index
    }

    /// The trees of a group, up to its closing brace.
    fn follow_each(
        &self,
        start: usize,
        prefix: &[String],
        found: &mut Vec<(usize, Vec<String>)>,
    ) -> usize {
        let mut index = start;
        while let Some(token) = self.kept.get(index) {
            match &token.kind {
                Kind::Sign('}') => return index + 1,
                Kind::Word(word) if word == "as" => index += 2,
                Kind::Word(_) | Kind::Sign('*' | '{') => {
                    index = self.follow(index, prefix, found);
                }
                _ => index += 1,
            }
        }
        index
    }

    fn is_separator(&self, index: usize) -> bool {
        self.kept
            .get(index)
            .is_some_and(|token| token.kind == Kind::PathSeparator)
    }

    fn is(&self, index: usize, text: &str) -> bool {
        self.kept.get(index).is_some_and(|token| token.is(text))
    }

    /// The module that a file of `src` is: `["io", "mem"]`.
    fn module(&self) -> Option<Vec<String>> {
        let name = self.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        let name = name.strip_suffix("/mod").unwrap_or(name);
        Some(name.split('/').map(str::to_owned).collect())
    }

    fn drop_test_items(&mut self, all: &[Token]) {
        let mut index = 0;
        while let Some(token) = all.get(index) {
            if starts_with(
                all.get(index..).unwrap_or_default(),
                &["#", "[", "cfg", "(", "test", ")", "]"],
            ) {
                let len = item_len(all.get(index..).unwrap_or_default());
                let item = all.get(index..index + len).unwrap_or_default();
                self.test_files.extend(self.file_of(item));
                index += len;
            } else {
                self.kept.push(token.clone());
                index += 1;
            }
        }
    }

    /// The file of `mod name;`, if this item is one.
    fn file_of(&self, item: &[Token]) -> Option<String> {
        let at = item.iter().position(|token| token.is("mod"))?;
        let (_, name) = item.get(at + 1)?.word()?;
        if !item.get(at + 2)?.is(";") {
            return None;
        }
        let (parent, file) = self.path.rsplit_once('/')?;
        let text = |token: &Token| match &token.kind {
            Kind::Text(text) => Some(text.clone()),
            _ => None,
        };
        if let Some(path) = item.iter().take(at).find_map(text) {
            return Some(format!("{parent}/{path}"));
        }
        match file {
            "mod.rs" | "lib.rs" | "main.rs" => Some(format!("{parent}/{name}.rs")),
            _ => Some(format!("{}/{name}.rs", self.path.strip_suffix(".rs")?)),
        }
    }
}

fn starts_with(tokens: &[Token], wanted: &[&str]) -> bool {
    tokens.len() >= wanted.len()
        && tokens
            .iter()
            .zip(wanted)
            .all(|(token, text)| token.is(text))
}

/// Tokens from an attribute to the end of its item: the semicolon or the brace
/// that closes it.
fn item_len(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    let mut is_use = false;
    for (index, token) in tokens.iter().enumerate() {
        match &token.kind {
            Kind::Word(word) if depth == 0 && word == "use" => is_use = true,
            Kind::Sign('(' | '[' | '{') => depth += 1,
            Kind::Sign(')' | ']' | '}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token.is("}") && !is_use {
                    return index + 1;
                }
            }
            Kind::Sign(';') if depth == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}
