//! `pointsman generate`: manual pages and shell completions, for packages and
//! scripts that install them. Made from the arguments themselves, so that they
//! say what the program does.
#![forbid(unsafe_code)]

use std::{fs, io, path::PathBuf};

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

use super::Arguments;

/// What to write where.
#[derive(Debug, Args)]
pub(super) struct GenerateArguments {
    /// What to write
    #[arg(value_enum)]
    what: What,
    /// The directory to write into; made when it is missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Manual pages, one for each subcommand: pointsman.1, pointsman-run.1, ...
    Man,
    /// Completions for bash (pointsman.bash), zsh (_pointsman) and fish (pointsman.fish)
    Completions,
}

impl GenerateArguments {
    /// Writes the files.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn write(&self) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        match self.what {
            // The version of one line: a page has no place for more.
            What::Man => clap_mangen::generate_to(
                Arguments::command().long_version(None::<&str>),
                &self.directory,
            ),
            What::Completions => {
                for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                    let mut command = Arguments::command();
                    clap_complete::generate_to(shell, &mut command, NAME, &self.directory)?;
                }
                Ok(())
            }
        }
    }
}

const NAME: &str = "pointsman";
