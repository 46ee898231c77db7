//! The programs of an operator as `scripts/install.sh` installs them, led to a
//! director.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");

/// `ipvsadm` for a director.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// Where `scripts/install.sh` has installed everything.
    prefix: PathBuf,
    /// Where the `ipvsadm` is that knows of the director.
    directory: PathBuf,
    pub(crate) socket: PathBuf,
}

/// What a command said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Said {
    /// What it printed, when it went well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(
            (self.code, self.err.as_str()),
            (Some(0), ""),
            "{}",
            self.out
        );
        self.out
    }
}

impl Tools {
    /// Installs everything below `directory`, for the director with this socket.
    pub(crate) fn install(directory: &Path, socket: PathBuf) -> Self {
        let prefix = directory.join("usr");
        let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install.sh"))
            .arg("--from")
            .arg(built())
            .arg("--prefix")
            .arg(&prefix)
            .env("POINTSMAN_ETC", directory.join("etc"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        Self {
            directory: prefix.join("sbin"),
            prefix,
            socket,
        }
    }

    /// The same for the director with another socket.
    pub(crate) fn of_director(&self, socket: PathBuf) -> Self {
        Self {
            socket,
            ..self.clone()
        }
    }

    /// `ipvsadm WORDS`
    pub(crate) fn ipvsadm(&self, words: &str) -> Said {
        self.command()
            .args(words.split_whitespace())
            .output()
            .unwrap()
            .into()
    }

    /// `ipvsadm -R` with these lines.
    pub(crate) fn restore(&self, lines: &str) -> Said {
        let file = self.directory.join("rules");
        fs::write(&file, lines).unwrap();
        let mut command = self.command();
        command.arg("-R").stdin(File::open(file).unwrap());
        command.output().unwrap().into()
    }

    /// Runs a program with these words, led to the director: all that it prints,
    /// and the code that it ends with.
    pub(crate) fn run(&self, words: &[&str]) -> (String, u8) {
        let quoted: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
        // The installed ipvsadm has it.
        let library = if words.first() == Some(&"ipvsadm") {
            String::new()
        } else {
            let library = self.library("libpointsman_ipvs_proc.so");
            format!("LD_PRELOAD={} ", library.display())
        };
        let said = self.shell(&format!("{library}{}; printf '\\n%s' $?", quoted.join(" ")));
        let (text, code) = said.rsplit_once('\n').unwrap();
        (text.to_owned(), code.parse().unwrap())
    }

    /// One of the installed libraries.
    pub(crate) fn library(&self, name: &str) -> PathBuf {
        self.prefix.join("lib/pointsman").join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.directory.join("ipvsadm"));
        command.env("POINTSMAN_IPVS_SOCKET", &self.socket);
        command
    }

    /// Lines of a shell that use `ipvsadm`: all that they print.
    pub(crate) fn shell(&self, lines: &str) -> String {
        let path = std::env::var("PATH").unwrap();
        let output = Command::new("sh")
            .args(["-c", &format!("exec 2>&1\n{lines}")])
            .env("PATH", format!("{}:{path}", self.directory.display()))
            .env("POINTSMAN_IPVS_SOCKET", &self.socket)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Words that run a program with the library for control in front.
    pub(crate) fn preloaded(&self) -> [String; 3] {
        [
            "env".to_owned(),
            format!("POINTSMAN_IPVS_SOCKET={}", self.socket.display()),
            format!(
                "LD_PRELOAD={}",
                self.library("libpointsman_ipvs.so").display()
            ),
        ]
    }
}

/// Where the program under test and the libraries are.
pub(crate) fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build)
}

/// Cargo builds them with the workspace, but not with this test alone.
fn build() -> PathBuf {
    let profile = Path::new(PROGRAM).parent().unwrap();
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "--quiet", "--locked", "--offline"])
        .args([
            "--package",
            "ipvs-preload",
            "--package",
            "ipvs-preload-proc",
        ])
        .arg("--target-dir")
        .arg(profile.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}");
    profile.to_owned()
}
