//! README.md and docs/: what they link to and name exists, the program knows
//! the commands they show, and their configurations are good.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pointsman::{
    config::{self, FORMAT, Machine},
    pipeline::{DropReason, PuntReason},
    service::TUNABLES,
};

/// A document and where it stands, from the root of the repository.
struct Document {
    path: PathBuf,
    text: String,
}

/// A block between fences: what stands behind the opening one, and the lines
/// without the indentation of the fence.
struct Block {
    language: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<Document> {
    let mut paths = vec![PathBuf::from("README.md")];
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let path = Path::new("docs").join(entry.unwrap().file_name());
        assert!(
            path.extension().is_some_and(|ext| ext == "md"),
            "{}",
            path.display()
        );
        paths.push(path);
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| Document {
            text: fs::read_to_string(root().join(&path)).unwrap(),
            path,
        })
        .collect()
}

impl Document {
    fn name(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// The blocks, and the text around them.
    fn split(&self) -> (Vec<Block>, String) {
        let (mut blocks, mut prose) = (Vec::new(), String::new());
        let mut open: Option<(usize, Block)> = None;
        for line in self.text.lines() {
            let content = line.trim_start();
            match (content.strip_prefix("```"), open.as_mut()) {
                (Some(language), None) => {
                    let block = Block {
                        language: language.to_owned(),
                        text: String::new(),
                    };
                    open = Some((line.len() - content.len(), block));
                }
                (Some(_), Some(_)) => blocks.extend(open.take().map(|(_, block)| block)),
                (None, Some((indent, block))) => {
                    block.text.push_str(line.get(*indent..).unwrap_or(""));
                    block.text.push('\n');
                }
                (None, None) => {
                    prose.push_str(line);
                    prose.push('\n');
                }
            }
        }
        assert!(open.is_none(), "{}: a fence is not closed", self.name());
        (blocks, prose)
    }

    /// What stands between backticks in the prose.
    fn code_spans(&self) -> Vec<String> {
        let (_, prose) = self.split();
        let pieces: Vec<_> = prose.split('`').collect();
        assert!(pieces.len() % 2 == 1, "{}: odd backticks", self.name());
        let spans = pieces.into_iter().skip(1).step_by(2);
        spans.map(|span| span.replace('\n', " ")).collect()
    }

    /// The targets of links: `](target)`.
    fn links(&self) -> Vec<String> {
        let (_, prose) = self.split();
        prose
            .split("](")
            .skip(1)
            .map(|rest| rest.split(')').next().unwrap().to_owned())
            .collect()
    }

    /// The anchors that its headings make.
    fn anchors(&self) -> BTreeSet<String> {
        let (_, prose) = self.split();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        headings
            .map(|line| anchor(line.trim_start_matches('#').trim()))
            .collect()
    }

    /// All command lines: in `sh` blocks, behind a prompt in `console` blocks,
    /// and between backticks.
    fn command_lines(&self) -> Vec<String> {
        let (blocks, _) = self.split();
        let in_blocks = blocks.iter().flat_map(|block| {
            block.text.lines().filter_map(|line| {
                let line = match block.language.as_str() {
                    "sh" => line,
                    "console" => line.strip_prefix("$ ")?,
                    _ => return None,
                };
                Some(line.to_owned())
            })
        });
        in_blocks
            .chain(self.code_spans())
            .flat_map(|line| line.split("&&").map(str::to_owned).collect::<Vec<_>>())
            .map(|line| line.trim().trim_start_matches("sudo ").to_owned())
            .collect()
    }
}

/// As GitHub makes them: lower case, spaces become hyphens, other punctuation
/// goes.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

/// Commands that begin with `program`: the words behind it.
fn commands<'a>(lines: &'a [String], program: &str) -> Vec<Vec<&'a str>> {
    lines
        .iter()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter_map(|words| match words.split_first() {
            Some((first, arguments)) if *first == program => Some(arguments.to_vec()),
            _ => None,
        })
        .collect()
}

fn help(path: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pointsman"))
        .arg("help")
        .args(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "pointsman help {path:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The subcommands and options that a help text lists: first words of lines,
/// without commas, dots and values.
fn words_of_help(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| line.starts_with("  "));
    lines
        .flat_map(|line| line.split_whitespace().take(2))
        .map(|word| word.trim_end_matches([',', '.']).to_owned())
        .collect()
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let documents = documents();
    let mut count = 0;
    for document in &documents {
        for link in document.links() {
            if link.starts_with("https://") {
                continue;
            }
            count += 1;
            let (file, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let path = if file.is_empty() {
                root().join(&document.path)
            } else {
                root().join(document.path.parent().unwrap()).join(file)
            };
            let path = fs::canonicalize(&path)
                .unwrap_or_else(|error| panic!("{}: {link}: {error}", document.name()));
            if !fragment.is_empty() {
                let target = documents
                    .iter()
                    .find(|other| fs::canonicalize(root().join(&other.path)).unwrap() == path)
                    .unwrap_or_else(|| panic!("{}: {link} is no document", document.name()));
                assert!(
                    target.anchors().contains(fragment),
                    "{}: {link}: the headings are {:?}",
                    document.name(),
                    target.anchors()
                );
            }
        }
    }
    assert!(count > 10, "only {count} links");
}

#[test]
fn files_that_are_named_exist() {
    const FOLDERS: [&str; 7] = [
        "scripts/",
        "src/",
        "docs/",
        "tests/",
        "dpdk-config/",
        "dpdk-sys/",
        "benches/",
    ];
    let mut count = 0;
    for document in documents() {
        for line in document.command_lines() {
            for word in line.split_whitespace() {
                let is_file_of_ours = FOLDERS.iter().any(|folder| word.starts_with(folder));
                if is_file_of_ours {
                    count += 1;
                    let exists = root().join(word).exists();
                    assert!(exists, "{}: there is no {word}", document.name());
                }
            }
        }
    }
    assert!(count > 30, "only {count} files are named");
}

#[test]
fn program_knows_the_subcommands_and_options() {
    let mut count = 0;
    for document in documents() {
        let lines = document.command_lines();
        for arguments in commands(&lines, "pointsman") {
            let (mut path, mut known) = (Vec::new(), words_of_help(&help(&[])));
            for (place, word) in arguments.iter().enumerate() {
                if let Some(option) = word.strip_prefix('-') {
                    let name = option.split('=').next().unwrap();
                    let is_known = known.contains(&format!("-{name}"));
                    let line = arguments.join(" ");
                    assert!(is_known, "{}: {line}: no -{name}", document.name());
                } else if place == path.len() && has_subcommands(&path) {
                    let line = arguments.join(" ");
                    assert!(known.contains(*word), "{}: {line}", document.name());
                    path.push(*word);
                    known = words_of_help(&help(&path));
                }
            }
            count += 1;
        }
    }
    assert!(count > 15, "only {count} commands");
}

/// Whether a word behind this subcommand names another one.
fn has_subcommands(path: &[&str]) -> bool {
    help(path).contains("\nCommands:\n")
}

#[test]
fn scripts_know_the_options() {
    let mut helps = BTreeMap::new();
    let mut count = 0;
    for document in documents() {
        for line in document.command_lines() {
            let mut words = line.split_whitespace();
            let Some(script) = words.next().filter(|word| word.starts_with("scripts/")) else {
                continue;
            };
            let help: &String = helps.entry(script.to_owned()).or_insert_with(|| {
                let output = Command::new(root().join(script))
                    .arg("--help")
                    .output()
                    .unwrap();
                assert!(output.status.success(), "{script} --help");
                String::from_utf8(output.stdout).unwrap()
            });
            for word in words.filter(|word| !word.starts_with(|c: char| c.is_ascii_digit())) {
                count += 1;
                let is_known = help
                    .split(|c: char| c.is_whitespace() || "[]|\"".contains(c))
                    .any(|known| known == word);
                assert!(is_known, "{}: {line}: no {word}", document.name());
            }
        }
    }
    assert!(count > 8, "only {count} options and commands of scripts");
}

#[test]
fn configurations_are_good_and_without_doubts() {
    let machine = Machine {
        cores: (0..8).collect(),
        ..Machine::default()
    };
    let mut count = 0;
    for document in documents() {
        let (blocks, _) = document.split();
        // A whole configuration has a port; others are excerpts.
        let whole = |block: &&Block| block.language == "toml" && block.text.contains("[[port]]");
        for block in blocks.iter().filter(whole) {
            count += 1;
            let name = document.name().to_string();
            match config::parse_for(&block.text, &name, &machine) {
                Ok(loaded) => assert_eq!(loaded.warnings, [], "{name}"),
                Err(errors) => panic!("{errors}"),
            }
        }
    }
    assert!(count >= 2, "only {count} configurations");
}

/// `a_name` or `a_name = ...` between backticks is a key of the configuration or
/// a counter, whose names stand in the management thread's sources. Documents
/// that have tests of their own for that are left out.
#[test]
fn keys_and_counters_that_are_named_exist() {
    let management: String = fs::read_dir(root().join("src/control"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let keys = FORMAT.iter().flat_map(|table| table.keys);
    let drops = DropReason::ALL.iter().map(|reason| reason.name());
    let punts = PuntReason::ALL.iter().map(|reason| reason.name());
    let known: BTreeSet<&str> = keys.map(|key| key.name).chain(drops).chain(punts).collect();
    // Settings of the kernel.
    let of_linux = [
        "arp_ignore",
        "arp_announce",
        "rp_filter",
        "drop_entry",
        "drop_packet",
        "am_droprate",
        "backup_only",
        "cache_bypass",
        "nat_icmp_send",
        "snat_reroute",
        "ignore_tunneled",
        "sync_threshold",
    ];
    let mut count = 0;
    let documents = documents();
    let own = [
        "README.md",
        "docs/ipvs-compatibility.md",
        "docs/nutshell.md",
        "docs/packet-path.md",
    ];
    let own = own.map(Path::new);
    for document in documents
        .iter()
        .filter(|document| own.contains(&document.path.as_path()))
    {
        for span in document.code_spans() {
            let word = span.split(' ').next().unwrap();
            let is_name = word.contains('_')
                // As names of recorded cases do.
                && !word.starts_with(|c: char| c.is_ascii_digit())
                && word
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if !is_name || of_linux.contains(&word) {
                continue;
            }
            count += 1;
            assert!(
                known.contains(word) || management.contains(&format!("\"{word}\"")),
                "{}: {word} is neither a key nor a counter",
                document.name()
            );
        }
    }
    assert!(count > 40, "only {count} names");
}

fn comparison() -> Document {
    let name = Path::new("docs/ipvs-compatibility.md");
    let mut documents = documents().into_iter();
    documents.find(|document| document.path == name).unwrap()
}

#[test]
fn intended_differences_are_those_of_the_comparison_with_linux() {
    let list = fs::read_to_string(root().join("tests/oracle/intended.toml")).unwrap();
    let differing: BTreeSet<String> = list
        .lines()
        .filter_map(|line| line.strip_prefix("case = \"")?.strip_suffix('"'))
        .map(str::to_owned)
        .collect();
    assert!(!differing.is_empty());
    let is_case = |name: &String| {
        let case = format!("tests/oracle/cases/{name}.json");
        name.contains('_') && root().join(case).exists()
    };
    let named: BTreeSet<String> = comparison()
        .code_spans()
        .into_iter()
        .filter(is_case)
        .collect();
    assert_eq!(named, differing);
}

#[test]
fn settings_of_the_kernel_are_those_of_the_comparison_with_linux() {
    let text = comparison().text;
    let (_, table) = text.split_once("| setting | here |\n|---|---|\n").unwrap();
    let rows: Vec<&str> = table
        .lines()
        .map_while(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(rows, TUNABLES.map(|tunable| tunable.name));
}
