//! The file in which services and settings outlive the director.
//!
//! It is replaced as a whole: written beside itself, made durable, renamed. A
//! thread of its own does that, since a disk may take its time; the management
//! thread hands it what is to be saved and goes on. A lock beside the file
//! keeps two directors from sharing one.
//!
//! A file that cannot be used is never written over: it is put aside under the
//! name `FILE.refused`.
#![forbid(unsafe_code)]

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown, lchown},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags};

use super::saved::{Saved, SavedError, decode, encode};

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// Another director has it.
    #[error(
        "state file {}: another director uses it; give each a `state_file` of its own in \
         [director]. Nothing is restored, and what changes at run time ends with this director",
        .0.display()
    )]
    InUse(PathBuf),
    /// The system refused.
    #[error(
        "state file {}: cannot {action}: {error}; mend that, or set `state_file` in [director] to \
         another path or to \"none\". What changes at run time ends with this director",
        path.display()
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What could not be done.
        action: &'static str,
        /// Why.
        error: io::Error,
    },
    /// It is not what a director wrote; it stands elsewhere now.
    #[error(
        "state file {}: {reason}. Nothing is restored: services and settings are those of the \
         configuration. The file is kept as {}; to use it after all, stop the director and move \
         it back",
        path.display(),
        kept.display()
    )]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: SavedError,
        /// Where it is now.
        kept: PathBuf,
    },
    /// It is not what a director wrote, and there is one such file already.
    #[error(
        "state file {}: {reason}. Nothing is restored, and nothing is saved, since the place of \
         refused files, {}, is taken; look at both, remove what nobody needs, and start again",
        path.display(),
        kept.display()
    )]
    RefusedAgain {
        /// The file, which stays.
        path: PathBuf,
        /// What is wrong with it.
        reason: SavedError,
        /// What stands where it would go.
        kept: PathBuf,
    },
}

/// A state file that this process alone uses.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    lock: File,
    /// Whether its directory is the director's own.
    owns_directory: bool,
}

impl StateFile {
    /// Takes the place, and makes its directory when that is missing.
    ///
    /// # Errors
    /// When another director has it, or the system refuses.
    pub fn open(path: &Path) -> Result<Self, StateFileError> {
        let failed = |action| failed(path, action);
        let is_new = create_parent(path).map_err(failed("create its directory"))?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(NO_LINK)
            .open(beside(path, ".lock"))
            .map_err(failed("lock it"))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                lock,
                owns_directory: is_new || path.parent() == Some(Path::new(OWN_DIRECTORY)),
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateFileError::InUse(path.to_owned())),
            Err(error) => Err(failed("lock it")(error.into())),
        }
    }

    /// Gives the file, its lock and a directory that is the director's own to
    /// the user that the director is to be. Links are not followed, as a former
    /// life of that user could have made them.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn give_to(&self, user: u32, group: u32) -> Result<(), StateFileError> {
        let failed = |error| failed(&self.path, "give it to the director's user")(error);
        match lchown(&self.path, Some(user), Some(group)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        fchown(&self.lock, Some(user), Some(group)).map_err(failed)?;
        let parent = self.path.parent().unwrap_or_else(|| Path::new("/"));
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(parent, flags, Mode::empty());
        let directory = File::from(directory.map_err(|error| failed(error.into()))?);
        if self.owns_directory {
            return fchown(&directory, Some(user), Some(group)).map_err(failed);
        }
        let owner = directory.metadata().map_err(failed)?.uid();
        if owner != user {
            log::warn!(
                "state file {}: its directory is user {owner}'s and not that of the director's \
                 user {user}, who may not be able to save there; give it away (chown {user} {}), \
                 or set `state_file` in [director] to a path elsewhere",
                self.path.display(),
                parent.display()
            );
        }
        Ok(())
    }

    /// What is in it; `None` when there is no file.
    ///
    /// # Errors
    /// When it cannot be read, or is not what a director wrote. It is out of
    /// the way then, unless [`StateFileError::is_in_the_way`].
    pub fn load(&self) -> Result<Option<Saved>, StateFileError> {
        let path = &self.path;
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(path, "read it")(error)),
        };
        decode(&bytes)
            .map(Some)
            .map_err(|reason| self.put_aside(reason))
    }

    /// Replaces what is in it.
    ///
    /// # Errors
    /// When the system refuses; the file is as it was, then.
    pub fn save(&self, saved: &Saved) -> io::Result<()> {
        let bytes = encode(saved)?;
        let temporary = beside(&self.path, ".new");
        let written =
            write_durably(&temporary, &bytes).and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            // What there is of it would only take room.
            let _ = fs::remove_file(&temporary);
            return written;
        }
        // The name is durable when its directory is.
        let directory = self.path.parent().unwrap_or_else(|| Path::new("/"));
        File::open(directory)?.sync_all()
    }

    /// Saves from now on, in a thread of its own.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(self) -> io::Result<StateWriter> {
        let news = Arc::new(News::default());
        let path = self.path.clone();
        let (states, states_out) = bounded(1);
        let thread_news = Arc::clone(&news);
        let thread = thread::Builder::new()
            .name("state-file".to_owned())
            .spawn(move || write_states(&self, &states_out, &thread_news))?;
        Ok(StateWriter {
            path,
            states: Some(states),
            given: 0,
            thread: Some(thread),
            news,
        })
    }

    fn put_aside(&self, reason: SavedError) -> StateFileError {
        let path = self.path.clone();
        let kept = beside(&path, ".refused");
        match rustix::fs::renameat_with(CWD, &path, CWD, &kept, RenameFlags::NOREPLACE) {
            Ok(()) => StateFileError::Refused { path, reason, kept },
            Err(rustix::io::Errno::EXIST) => StateFileError::RefusedAgain { path, reason, kept },
            Err(error) => failed(
                &path,
                "put it aside, which is necessary since it is not usable",
            )(error.into()),
        }
    }
}

impl StateFileError {
    /// Whether saving would write over something, or could not.
    pub const fn is_in_the_way(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }
}

/// Saves what it is given, in a thread of its own.
#[derive(Debug)]
pub struct StateWriter {
    path: PathBuf,
    states: Option<Sender<(u64, Saved)>>,
    /// States given to the thread, numbered from 1.
    given: u64,
    thread: Option<JoinHandle<()>>,
    news: Arc<News>,
}

impl StateWriter {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it would take a state at once.
    pub fn is_ready(&self) -> bool {
        self.states.as_ref().is_some_and(Sender::is_empty)
    }

    /// Gives it a state to save. Nothing happens when it is not
    /// [ready](Self::is_ready).
    pub fn save(&mut self, saved: Saved) {
        if let Some(states) = &self.states
            && states.try_send((self.given + 1, saved)).is_ok()
        {
            self.given += 1;
        }
    }

    /// Saves a last state and ends, when the disk has it or has refused it.
    pub fn finish(mut self, last: Option<Saved>) {
        if let (Some(states), Some(last)) = (self.states.take(), last) {
            // The thread takes it when it is done with the one before.
            let _ = states.send((self.given + 1, last));
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("state file {}: its thread panicked", self.path.display());
        }
    }

    /// How often the file was written.
    pub fn saves(&self) -> u64 {
        self.news.saves.load(Ordering::Relaxed)
    }

    /// How often that failed.
    pub fn errors(&self) -> u64 {
        self.news.errors.load(Ordering::Relaxed)
    }

    /// How long writing took, the last time.
    pub fn took(&self) -> Duration {
        Duration::from_micros(self.news.took_us.load(Ordering::Relaxed))
    }

    /// Whether the file has the state that was given last.
    pub fn is_saved(&self) -> bool {
        self.news.saved.load(Ordering::Relaxed) == self.given
    }
}

#[derive(Debug, Default)]
struct News {
    saves: AtomicU64,
    errors: AtomicU64,
    /// Number of the state in the file.
    saved: AtomicU64,
    /// How long the last attempt took, in microseconds.
    took_us: AtomicU64,
}

/// Writes what comes, and again later what could not be written, until nobody
/// can send any more.
fn write_states(file: &StateFile, states: &Receiver<(u64, Saved)>, news: &News) {
    let mut failed: Option<(u64, Saved)> = None;
    let mut complaint = String::new();
    loop {
        let received = match &failed {
            None => states.recv().map_err(RecvTimeoutError::from),
            Some(_) => states.recv_timeout(RETRY_AFTER),
        };
        let saved = match (received, failed.take()) {
            (Ok(saved), _) | (Err(RecvTimeoutError::Timeout), Some(saved)) => saved,
            (Err(RecvTimeoutError::Timeout), None) => continue,
            (Err(RecvTimeoutError::Disconnected), None) => return,
            (Err(RecvTimeoutError::Disconnected), Some(saved)) => {
                // The last chance, and whatever comes of it.
                record(&saved, file, news, &mut complaint);
                return;
            }
        };
        if !record(&saved, file, news, &mut complaint) {
            failed = Some(saved);
        }
    }
}

/// Writes a state, counts, and logs what is new. Returns whether it was written.
fn record(
    (number, saved): &(u64, Saved),
    file: &StateFile,
    news: &News,
    complaint: &mut String,
) -> bool {
    let path = file.path.display();
    let start = Instant::now();
    let written = file.save(saved);
    let took_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    news.took_us.store(took_us, Ordering::Relaxed);
    match written {
        Ok(()) => {
            news.saves.fetch_add(1, Ordering::Relaxed);
            news.saved.store(*number, Ordering::Relaxed);
            if !complaint.is_empty() {
                log::info!("state file {path}: saved again");
                complaint.clear();
            }
            true
        }
        Err(error) => {
            news.errors.fetch_add(1, Ordering::Relaxed);
            let text = error.to_string();
            if *complaint != text {
                log::error!(
                    "state file {path}: cannot be written: {text}; what changes at run time is \
                     lost if the director ends now. It is tried again every {} s",
                    RETRY_AFTER.as_secs()
                );
                *complaint = text;
            }
            false
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is no regular file",
        ));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(LEN_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LEN_MAX {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            "it is larger than any state",
        ));
    }
    Ok(bytes)
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(NO_LINK)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Returns whether it had to be made.
fn create_parent(path: &Path) -> io::Result<bool> {
    match path.parent() {
        Some(parent) if !parent.is_dir() => {
            DirBuilder::new().mode(0o700).create(parent)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> StateFileError {
    let path = path.to_owned();
    move |error| StateFileError::Io {
        path,
        action,
        error,
    }
}

/// The directory may be that of a user with fewer privileges, who must not
/// choose what this process writes to or gives away.
const NO_LINK: i32 = OFlags::NOFOLLOW.bits().cast_signed();
/// Where the file is unless another place is configured.
const OWN_DIRECTORY: &str = "/var/lib/pointsman";

/// All services that a director can hold take less.
const LEN_MAX: u64 = 512 << 20;
/// How long until what could not be written is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
#[path = "state_file_tests.rs"]
mod tests;
