//! Where captured packets go: lines on standard output, or pcapng there or in a
//! file.
#![forbid(unsafe_code)]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    CaptureArguments, CaptureError,
    pcapng::{self, PcapNg},
    text::Lines,
};
use crate::control::status::{CaptureBatch, DirectorStatus, PortStatus};

/// Where packets go.
pub(super) struct Output {
    format: Format,
    /// For errors.
    path: PathBuf,
    is_pipe: bool,
}

enum Format {
    Lines(Lines<Sink>),
    PcapNg(Box<PcapNg<Sink>>),
}

type Sink = BufWriter<Box<dyn Write>>;

/// Where they will go, as long as it is not known whether there are any.
pub(super) enum Target {
    Lines,
    Pipe,
    File {
        file: File,
        path: PathBuf,
        is_new: bool,
    },
}

impl Target {
    /// Opens it, and leaves what a file holds for now.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, CaptureError> {
        let Some(path) = path else {
            return Ok(Self::Lines);
        };
        if path.as_os_str() == "-" {
            return Ok(Self::Pipe);
        }
        // It holds what people sent.
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        let new = options.clone().create_new(true).open(path);
        let is_new = new.is_ok();
        let file = match new {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => options.open(path),
            other => other,
        };
        Ok(Self::File {
            file: file.map_err(|error| CaptureError::write(path, error))?,
            path: path.to_owned(),
            is_new,
        })
    }

    /// Leaves no file that was not there.
    pub(super) fn give_up(self) {
        if let Self::File {
            path, is_new: true, ..
        } = self
        {
            // An empty file does little harm.
            let _ = fs::remove_file(path);
        }
    }
}

impl Output {
    pub(super) fn start(
        target: Target,
        arguments: &CaptureArguments,
        ports: &[PortStatus],
        director: Option<&DirectorStatus>,
    ) -> Result<Self, CaptureError> {
        let stdout = || BufWriter::new(Box::new(io::stdout()) as Box<dyn Write>);
        let (sink, path, is_pipe) = match target {
            Target::Lines => {
                let names = ports.iter().map(|port| port.name.clone()).collect();
                return Ok(Self {
                    format: Format::Lines(Lines::new(stdout(), names)),
                    path: "standard output".into(),
                    is_pipe: true,
                });
            }
            Target::Pipe => (stdout(), "-".into(), true),
            Target::File { file, path, .. } => {
                let emptied = match file.metadata() {
                    Ok(metadata) if metadata.is_file() => file.set_len(0),
                    other => other.map(drop),
                };
                emptied.map_err(|error| CaptureError::write(&path, error))?;
                let sink = BufWriter::new(Box::new(file) as Box<dyn Write>);
                (sink, path, false)
            }
        };
        let description = pcapng::Description {
            ports,
            director,
            snaplen: arguments.snaplen,
            expression: &arguments.expression.join(" "),
        };
        let writer =
            PcapNg::start(sink, &description).map_err(|error| CaptureError::write(&path, error))?;
        Ok(Self {
            format: Format::PcapNg(Box::new(writer)),
            path,
            is_pipe,
        })
    }

    /// Writes packets, of which the first has this number, and all of them: the
    /// file is whole afterwards.
    pub(super) fn write(&mut self, batch: &CaptureBatch, first: u64) -> io::Result<()> {
        let packets = (first + 1..).zip(&batch.packets);
        match &mut self.format {
            Format::Lines(lines) => lines.write(packets),
            Format::PcapNg(file) => file.write(packets),
        }
    }

    /// Whether nobody reads any more what is written to standard output, which
    /// shows before the next packet is written.
    pub(super) fn is_reader_gone(&self) -> bool {
        let stdout = io::stdout();
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        self.is_pipe
            && poll(&mut fds, Some(&Timespec::default())).is_ok()
            && fds.iter().any(|fd| fd.revents().contains(PollFlags::ERR))
    }

    pub(super) fn error(&self, error: io::Error) -> CaptureError {
        CaptureError::write(&self.path, error)
    }
}
