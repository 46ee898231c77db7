//! The director over HTTP: a JSON API for programs, and metrics for Prometheus.
//!
//! It asks the management thread as clients of the control socket do, and
//! knows nothing that they do not. It runs in a thread of its own, on a
//! current-thread `tokio`; whatever a client does costs one of [`CLIENTS_MAX`]
//! places for a bounded time and never reaches the management thread or a
//! worker.
//!
//! `docs/api.md` is for those who write clients.
#![forbid(unsafe_code)]

mod changes;
mod metrics;
mod problem;
mod questions;
mod router;
mod token;
mod unix;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use axum::Router;
use crossbeam::channel::Sender;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time,
};

pub use self::{router::ROUTES, token::TokenError};
use self::{token::Token, unix::SocketPath};
use crate::{
    config::{ApiConfig, ApiListen},
    control::socket::ControlRequest,
};

/// Clients served at the same time; others wait to be accepted.
pub const CLIENTS_MAX: usize = 32;

/// Bytes of a request's body at most.
pub const BODY_LEN_MAX: usize = 64 * 1024;

/// A request has to be there, and its answer to be made, within this time; a
/// connection may be idle for as long between requests.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection is closed after this time, when it has no request at work; a
/// client that does not read its answer has [`REQUEST_TIMEOUT`] more.
pub const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no API.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The token cannot be had.
    #[error("[api] {key} {}: {error}", path.display())]
    Token {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        error: TokenError,
    },
    /// The address is taken, or not of this host.
    #[error("[api] cannot listen on {address}: {error}; set `listen` to another address")]
    Tcp {
        /// Where it should listen.
        address: SocketAddr,
        /// Why it cannot.
        error: io::Error,
    },
    /// The socket cannot be given away.
    #[error("[api] cannot give {} to the director's user: {error}", path.display())]
    Give {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The socket cannot be made.
    #[error("[api] cannot listen on {}: {error}; set `listen` to another path", path.display())]
    Unix {
        /// Where it should be.
        path: PathBuf,
        /// Why it cannot.
        error: io::Error,
    },
}

/// An API that holds its place and serves nobody yet.
#[derive(Debug)]
pub struct Api {
    listener: Listener,
    token: Option<Token>,
    read_token: Option<Token>,
    metrics_without_token: bool,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketPath),
}

/// What all requests share.
#[derive(Debug)]
struct Shared {
    requests: Sender<ControlRequest>,
    token: Option<Token>,
    /// For reading alone; of no effect without the other one.
    read_token: Option<Token>,
    metrics_without_token: bool,
    /// Whether a web page could otherwise have a browser on this host ask.
    refuses_browsers: bool,
}

impl Api {
    /// Takes the place that the configuration names, and reads the token.
    ///
    /// # Errors
    /// When the place cannot be had, or the token.
    pub fn bind(config: &ApiConfig) -> Result<Self, ApiError> {
        let token = token_in("token_file", config.token_file.as_ref())?;
        let read_token = token_in("read_token_file", config.read_token_file.as_ref())?;
        let listener = match &config.listen {
            ApiListen::Tcp(address) => {
                let address = *address;
                let listener = TcpListener::bind(address);
                Listener::Tcp(listener.map_err(|error| ApiError::Tcp { address, error })?)
            }
            ApiListen::Unix(path) => {
                let failed = |error| ApiError::Unix {
                    path: path.clone(),
                    error,
                };
                let (listener, place) = SocketPath::listen(path).map_err(failed)?;
                Listener::Unix(listener, place)
            }
        };
        Ok(Self {
            listener,
            token,
            read_token,
            metrics_without_token: config.metrics_without_token,
        })
    }

    /// Serves clients, in a thread of its own, until the handle is dropped.
    ///
    /// # Errors
    /// When the system gives no thread, or nothing to wait with.
    pub fn spawn(self, requests: Sender<ControlRequest>) -> io::Result<ApiHandle> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(CLIENTS_MAX)
            .thread_keep_alive(REQUEST_TIMEOUT)
            .thread_name("api-client")
            .build()?;
        let shared = Shared {
            requests,
            refuses_browsers: self.token.is_none() && matches!(self.listener, Listener::Tcp(_)),
            token: self.token,
            read_token: self.read_token,
            metrics_without_token: self.metrics_without_token,
        };
        let router = router::router(Arc::new(shared));
        let (stop, stopped) = oneshot::channel();
        let unix_path = match &self.listener {
            Listener::Tcp(_) => None,
            Listener::Unix(_, place) => Some(place.path().to_owned()),
        };
        let listener = self.listener;
        let thread = thread::Builder::new()
            .name("api".to_owned())
            .spawn(move || {
                let served = runtime.block_on(async {
                    tokio::select! {
                        served = serve(listener, router) => served,
                        _ = stopped => Ok(()),
                    }
                });
                if let Err(error) = served {
                    log::error!("the API has ended: {error}");
                }
                // What still waits for the management thread waits for nothing.
                runtime.shutdown_background();
            })?;
        Ok(ApiHandle {
            stop: Some(stop),
            thread: Some(thread),
            unix_path,
        })
    }
}

/// An API that serves clients. Dropping it ends that.
#[derive(Debug)]
pub struct ApiHandle {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Where its socket is, when that has a path.
    unix_path: Option<PathBuf>,
}

impl ApiHandle {
    /// Gives a Unix socket to the user that the director is to be.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn give_to(&self, user: u32, group: u32) -> Result<(), ApiError> {
        let Some(path) = &self.unix_path else {
            return Ok(());
        };
        unix::give_to(path, user, group).map_err(|error| ApiError::Give {
            path: path.clone(),
            error,
        })
    }
}

impl Drop for ApiHandle {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the API's thread panicked");
        }
    }
}

fn token_in(key: &'static str, path: Option<&PathBuf>) -> Result<Option<Token>, ApiError> {
    let read = |path: &PathBuf| {
        Token::read(path).map_err(|error| ApiError::Token {
            key,
            path: path.clone(),
            error,
        })
    };
    path.map(read).transpose()
}

/// Accepts clients for ever; each has a place of its own.
async fn serve(listener: Listener, router: Router) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    let place = || async {
        Arc::clone(&places)
            .acquire_owned()
            .await
            .map_err(io::Error::other)
    };
    match listener {
        Listener::Tcp(listener) => {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                let place = place().await?;
                match listener.accept().await {
                    Ok((stream, _)) => admit(stream, router.clone(), place),
                    Err(error) => pause_after(&error).await,
                }
            }
        }
        Listener::Unix(listener, _place) => {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::UnixListener::from_std(listener)?;
            loop {
                let place = place().await?;
                match listener.accept().await {
                    Ok((stream, _)) => admit(stream, router.clone(), place),
                    Err(error) => pause_after(&error).await,
                }
            }
        }
    }
}

/// Out of file descriptors, most likely: it passes, and retrying at once would
/// burn a core until then.
async fn pause_after(error: &io::Error) {
    log::warn!("api: cannot accept a client: {error}");
    time::sleep(Duration::from_millis(100)).await;
}

fn admit<S>(stream: S, router: Router, place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(HEAD_LEN_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::spawn(async move {
        let _place = place;
        let mut connection = std::pin::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = time::sleep(CONNECTION_TIMEOUT) => {
                connection.as_mut().graceful_shutdown();
                time::timeout(REQUEST_TIMEOUT, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = served {
            log::debug!("api: a client went away: {error}");
        }
    });
}

/// Bytes of a request's head at most.
const HEAD_LEN_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests;
