//! The place of the director's sockets in the file system.
//!
//! A lock beside the socket says whether a director runs there. The socket
//! alone cannot: between "nobody answers" and "removed and made anew" another
//! director could have made it. The kernel drops the lock with the process,
//! however that ends.
#![forbid(unsafe_code)]

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, ErrorKind},
    os::{
        fd::AsRawFd,
        unix::{
            fs::{
                DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown,
                fchown, lchown,
            },
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use log::warn;
use rustix::fs::{FlockOperation, Gid, Mode, OFlags, Uid};
use socket2::{Domain, SockAddr, Socket, Type};

/// Why a control socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The lock is held.
    #[error(
        "another director is running on {}; stop it, or set `{key}` to another path",
        path.display()
    )]
    AlreadyRunning {
        /// The socket.
        path: PathBuf,
        /// The key that names it.
        key: &'static str,
    },
    /// Somebody listens there without holding the lock.
    #[error("another program listens on {}; set `{key}` to another path", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
        /// The key that names it.
        key: &'static str,
    },
    /// There is a file of another kind.
    #[error(
        "{} exists and is no socket; remove it, or set `{key}` to another path",
        path.display()
    )]
    NotASocket {
        /// The file.
        path: PathBuf,
        /// The key that names it.
        key: &'static str,
    },
    /// The system refused.
    #[error("socket {}: cannot {action}: {error}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What could not be done.
        action: &'static str,
        /// Why.
        error: io::Error,
    },
}

/// What kind of socket it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// The key of the configuration that names its path.
    pub(super) key: &'static str,
    /// Of its messages.
    pub(super) socket_type: Type,
    /// Who may connect.
    pub(super) mode: Mode,
    /// Whose it is besides.
    pub(super) group: Option<u32>,
}

/// The socket's file and its lock, removed when dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
    lock: Lock,
    /// Whether the socket's directory is the director's own.
    owns_directory: bool,
}

impl SocketFile {
    /// Makes the socket at `path` and listens on it.
    pub(super) fn create(path: &Path, kind: Kind) -> Result<(UnixListener, Self), BindError> {
        let failed = |action| {
            let path = path.to_owned();
            move |error: io::Error| BindError::Io {
                path,
                action,
                error,
            }
        };
        let is_new = create_parent(path).map_err(failed("create its directory"))?;
        let lock = Lock::take(path, kind.key)?;
        remove_stale(path, kind.key)?;
        let listener = listen(path, kind).map_err(failed("listen on it"))?;
        open_to_others(path, kind).map_err(failed("open it to others"))?;
        let identity = fs::symlink_metadata(path)
            .map(Identity::of)
            .map_err(failed("look at it"))?;
        Ok((
            listener,
            Self {
                path: path.to_owned(),
                identity,
                lock,
                owns_directory: is_new || path.parent() == Path::new(DEFAULT_PATH).parent(),
            },
        ))
    }

    /// Gives the socket, its lock and a directory that is the director's own
    /// to the user that the director is to be, so that it can remove them at
    /// its end. Links are not followed, as a former life of that user could
    /// have made them.
    pub(super) fn give_to(&self, user: u32, group: u32) -> Result<(), BindError> {
        let failed = |error: io::Error| BindError::Io {
            path: self.path.clone(),
            action: "give it to the director's user",
            error,
        };
        lchown(&self.path, Some(user), None).map_err(failed)?;
        fchown(&self.lock.file, Some(user), Some(group)).map_err(failed)?;
        let Some(parent) = self.path.parent() else {
            return Ok(());
        };
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(parent, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let metadata = rustix::fs::fstat(&directory).map_err(|error| failed(error.into()))?;
        if metadata.st_uid == user {
            return Ok(());
        }
        if self.owns_directory {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
            return rustix::fs::fchown(&directory, Some(user), Some(group))
                .map_err(|error| failed(error.into()));
        }
        warn!(
            "control socket {}: its directory is not the director's user's; it stays behind when \
             the director stops",
            self.path.display()
        );
        Ok(())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever removed our socket and put another one there keeps it.
        let ours = fs::symlink_metadata(&self.path).map(Identity::of).ok() == Some(self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            warn!("socket {}: cannot remove it: {error}", self.path.display());
        }
        self.lock.remove_file();
    }
}

/// Which file a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    #[expect(clippy::needless_pass_by_value, reason = "for use with Result::map")]
    fn of(metadata: fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// A locked file beside the socket.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    fn take(socket_path: &Path, key: &'static str) -> Result<Self, BindError> {
        let mut name = OsString::from(socket_path);
        name.push(".lock");
        let path = PathBuf::from(name);
        let failed = |error| BindError::Io {
            path: socket_path.to_owned(),
            action: "lock it",
            error,
        };
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .open(&path)
                .map_err(failed)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(BindError::AlreadyRunning {
                        path: socket_path.to_owned(),
                        key,
                    });
                }
                Err(error) => return Err(failed(error.into())),
            }
            // A director that ended just now may have removed the file that we
            // locked; then the lock means nothing.
            let locked = file.metadata().map(Identity::of).map_err(failed)?;
            if fs::symlink_metadata(&path).map(Identity::of).ok() == Some(locked) {
                return Ok(Self { path, file });
            }
        }
    }

    fn remove_file(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            warn!("{}: cannot remove it: {error}", self.path.display());
        }
    }
}

/// Creates the socket's directory, whatever the umask is, such that others can
/// see whether a director runs. Returns whether it was missing.
fn create_parent(path: &Path) -> io::Result<bool> {
    let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    else {
        return Ok(false);
    };
    if parent.is_dir() {
        return Ok(false);
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(parent)?;
    fs::set_permissions(parent, Permissions::from_mode(0o755))?;
    Ok(true)
}

/// Removes the socket of a director that is dead, which the lock has shown.
fn remove_stale(path: &Path, key: &'static str) -> Result<(), BindError> {
    let failed = |error| BindError::Io {
        path: path.to_owned(),
        action: "replace it",
        error,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket {
                path: path.to_owned(),
                key,
            });
        }
        Ok(_) => {}
    }
    if is_listened_on(path).map_err(failed)? {
        return Err(BindError::InUse {
            path: path.to_owned(),
            key,
        });
    }
    fs::remove_file(path).map_err(failed)
}

fn is_listened_on(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        // Its queue of clients is full: it lives, whether or not it is well.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(false),
        // A socket of another type (EPROTOTYPE) is somebody else's.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) => {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

fn listen(path: &Path, kind: Kind) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, kind.socket_type, None)?;
    // Linux gives the file the mode of the unbound socket, so it never exists
    // with a wider one, and the umask of the process need not change.
    rustix::fs::fchmod(&socket, kind.mode)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Gives the socket its group, and the mode of which the umask has taken
/// something away. What stands at `path` is held fast meanwhile: the directory
/// may be that of a user with fewer privileges than this process has.
fn open_to_others(path: &Path, kind: Kind) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let file = format!("/proc/self/fd/{}", file.as_raw_fd());
    if kind.group.is_some() {
        chown(&file, None, kind.group)?;
    }
    fs::set_permissions(&file, Permissions::from_mode(kind.mode.as_raw_mode()))
}

/// Where control sockets are unless the configuration says otherwise; its
/// directory is made for them.
const DEFAULT_PATH: &str = crate::config::CONTROL_SOCKET_DEFAULT;

/// Clients that can wait to be accepted, which takes no longer than starting a
/// thread.
const BACKLOG: i32 = 64;
