//! The API's Unix socket in the file system.
#![forbid(unsafe_code)]

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use socket2::{Domain, SockAddr, Socket, Type};

/// The place of a socket, which is removed when this is dropped.
#[derive(Debug)]
pub(super) struct SocketPath(PathBuf);

impl SocketPath {
    /// Listens at `path`, for the owner alone, and replaces a socket that
    /// nobody listens on any more.
    pub(super) fn listen(path: &Path) -> io::Result<(UnixListener, Self)> {
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Linux gives the file the mode of the unbound socket, so that it never
        // exists with a wider one.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        socket.bind(&SockAddr::unix(path)?)?;
        socket.listen(BACKLOG)?;
        Ok((socket.into(), Self(path.to_owned())))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

/// Gives a socket to the user that the director is to be, so that this one may
/// ask. What stands at the path is held fast meanwhile, as a former life of that
/// user could have put something else there.
pub(super) fn give_to(path: &Path, user: u32, group: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let mode = rustix::fs::fstat(&file)?.st_mode;
    if FileType::from_raw_mode(mode) != FileType::Socket {
        return Err(io::Error::new(
            ErrorKind::AlreadyExists,
            "something else stands there now",
        ));
    }
    let owner = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
    rustix::fs::chownat(&file, "", owner.0, owner.1, AtFlags::EMPTY_PATH)?;
    let parent = path.parent().unwrap_or_else(|| Path::new("/"));
    if fs::metadata(parent)?.uid() != user {
        log::warn!(
            "api: {}: its directory is not the director's user's; it stays behind when the \
             director stops",
            path.display()
        );
    }
    Ok(())
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            log::warn!("{}: cannot remove it: {error}", self.0.display());
        }
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(
                ErrorKind::AlreadyExists,
                "it exists and is no socket",
            ));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(ErrorKind::AddrInUse.into()),
    }
}

/// Clients that can wait to be accepted.
const BACKLOG: i32 = 64;
