use std::{
    fs,
    io::BufRead,
    io::BufReader,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
};

use crossbeam::channel::{self, Receiver};

use super::*;
use crate::control::status::{CounterKind, CounterStatus};

/// A control socket in a directory of its own, and a management thread that
/// answers as told until the socket is gone.
struct Director {
    path: PathBuf,
    handle: Option<ControlSocketHandle>,
    management: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Director {
    fn start(manage: impl FnOnce(Receiver<ControlRequest>) + Send + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/control.sock");
        let (sender, receiver) = channel::bounded(4);
        let handle = ControlSocket::bind(&path).unwrap().spawn(sender).unwrap();
        let management = thread::spawn(move || manage(receiver));
        Self {
            path,
            handle: Some(handle),
            management: Some(management),
            _directory: directory,
        }
    }

    /// One that answers every request with `counters(len)`.
    fn with_counters(len: usize) -> Self {
        Self::start(move |requests| {
            for (_, reply) in requests.iter().filter_map(ControlRequest::begin) {
                let _ = reply.send(counters(len));
            }
        })
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
    }

    /// What the director answers to these bytes.
    fn answer_to(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        answer_on(stream)
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        drop(self.handle.take());
        // Ends when the last client thread has dropped its sender.
        if let Some(management) = self.management.take() {
            management.join().unwrap();
        }
    }
}

fn answer_on(stream: UnixStream) -> String {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

fn counters(len: usize) -> Response {
    let counter = CounterStatus {
        name: "not_ip".to_owned(),
        kind: CounterKind::Drop,
        count: 3,
        help: "neither IPv4 nor ARP".to_owned(),
    };
    Response::Counters(vec![counter; len])
}

#[test]
fn a_query_gets_its_answer() {
    let director = Director::with_counters(2);
    assert_eq!(
        query(&director.path, &Request::Counters).unwrap(),
        counters(2)
    );
}

#[test]
fn the_wire_form_is_one_line_each_way() {
    let director = Director::with_counters(1);
    assert_eq!(
        director.answer_to(b"{\"version\":1,\"request\":\"counters\"}\n"),
        "{\"version\":1,\"response\":{\"counters\":[{\"name\":\"not_ip\",\"kind\":\"drop\",\
         \"count\":3,\"help\":\"neither IPv4 nor ARP\"}]}}\n"
    );
}

#[test]
fn a_large_answer_arrives_whole() {
    let director = Director::with_counters(20_000);
    assert_eq!(
        query(&director.path, &Request::Counters).unwrap(),
        counters(20_000)
    );
}

#[test]
fn an_answer_beyond_the_bound_is_replaced() {
    let longest = Response::Error("x".repeat(RESPONSE_LEN_MAX - 100));
    assert!(response_line(longest).len() > RESPONSE_LEN_MAX - 100);
    let line = response_line(Response::Error("x".repeat(RESPONSE_LEN_MAX)));
    assert_eq!(
        str::from_utf8(&line).unwrap(),
        "{\"version\":1,\"response\":{\"error\":\"the answer is longer than 16777216 bytes; \
         ask for less of it\"}}\n"
    );
}

#[test]
fn an_answer_to_another_question_is_noticed() {
    let director = Director::with_counters(1);
    let error = query(&director.path, &Request::Workers).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("the answer is to another question"),
        "{error}"
    );
}

#[test]
fn an_error_of_the_director_is_passed_on() {
    let director = Director::start(|requests| {
        for (_, reply) in requests.iter().filter_map(ControlRequest::begin) {
            reply.send(Response::Error("no".to_owned())).unwrap();
        }
    });
    let error = query(&director.path, &Request::Routes).unwrap_err();
    assert_eq!(error.to_string(), "the director refused: no");
}

#[test]
fn an_excessive_limit_is_lowered() {
    let director = Director::start(|requests| {
        for (request, reply) in requests.iter().filter_map(ControlRequest::begin) {
            let response = Response::Error(format!("{request:?}"));
            reply.send(response).unwrap();
        }
    });
    let request = Request::Connections {
        limit: usize::MAX,
        service: None,
    };
    let error = query(&director.path, &request).unwrap_err();
    assert!(error.to_string().contains("limit: 50000"), "{error}");
}

#[test]
fn silent_clients_do_not_keep_another_one_waiting() {
    let director = Director::with_counters(1);
    let silent: Vec<_> = (0..CLIENTS_MAX - 1).map(|_| director.connect()).collect();
    let start = Instant::now();
    query(&director.path, &Request::Counters).unwrap();
    assert!(start.elapsed() < CLIENT_TIMEOUT, "{:?}", start.elapsed());
    drop(silent);
}

#[test]
fn a_silent_client_loses_its_place_after_a_while() {
    let director = Director::with_counters(1);
    let start = Instant::now();
    assert_eq!(answer_on(director.connect()), "");
    let elapsed = start.elapsed();
    assert!(
        elapsed >= CLIENT_TIMEOUT && elapsed < CLIENT_TIMEOUT * 3,
        "{elapsed:?}"
    );
}

#[test]
fn a_client_that_sends_byte_by_byte_loses_its_place_too() {
    let director = Director::with_counters(1);
    let mut stream = director.connect();
    let start = Instant::now();
    let refused = loop {
        thread::sleep(Duration::from_millis(100));
        if stream.write_all(b" ").is_err() {
            break true;
        }
        if start.elapsed() > CLIENT_TIMEOUT * 3 {
            break false;
        }
    };
    assert!(refused, "still served after {:?}", start.elapsed());
}

#[test]
fn one_client_too_many_is_told_so() {
    let director = Director::with_counters(1);
    let silent: Vec<_> = (0..CLIENTS_MAX).map(|_| director.connect()).collect();
    let error = query(&director.path, &Request::Counters).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("16 clients are being served already"),
        "{error}"
    );
    drop(silent);
}

#[test]
fn a_client_that_does_not_read_its_answer_does_not_block_others() {
    // More than a socket buffers.
    let director = Director::with_counters(5_000);
    let mut deaf = director.connect();
    deaf.write_all(b"{\"version\":1,\"request\":\"counters\"}\n")
        .unwrap();
    let start = Instant::now();
    query(&director.path, &Request::Counters).unwrap();
    assert!(start.elapsed() < CLIENT_TIMEOUT, "{:?}", start.elapsed());
}

#[test]
fn garbage_is_answered_with_what_is_wrong() {
    let director = Director::with_counters(1);
    let answer = director.answer_to(b"GET / HTTP/1.1\r\n\r\n");
    assert!(
        answer.contains("not a message of the control protocol"),
        "{answer}"
    );
    let answer = director.answer_to(b"\xff\x00\n");
    assert!(
        answer.contains("not a message of the control protocol"),
        "{answer}"
    );
    let answer = director.answer_to(b"{\"version\":1,\"request\":\"moon\"}\n");
    assert!(answer.contains("unknown variant `moon`"), "{answer}");
    let answer = director.answer_to(b"{\"version\":2,\"request\":{\"moon\":1}}\n");
    assert!(answer.contains("the client speaks version 2"), "{answer}");
    let deep = format!(
        "{{\"version\":1,\"request\":{}}}\n",
        ["[", "]"].map(|c| c.repeat(10_000)).concat()
    );
    let answer = director.answer_to(deep.as_bytes());
    assert!(answer.contains("\"error\":"), "{answer}");
}

#[test]
fn an_endless_request_is_cut_off() {
    let director = Director::with_counters(1);
    let mut stream = director.connect();
    // The director may close while we are still writing.
    let _ = stream.write_all(&vec![b'x'; REQUEST_LEN_MAX + 20_000]);
    let answer = answer_on(stream);
    assert!(answer.contains("longer than 1048576 bytes"), "{answer}");
}

#[test]
fn a_request_without_newline_is_refused() {
    let director = Director::with_counters(1);
    let mut stream = director.connect();
    stream
        .write_all(b"{\"version\":1,\"request\":\"counters\"}")
        .unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answer = answer_on(stream);
    assert!(answer.contains("does not end with a newline"), "{answer}");
}

#[test]
fn a_stuck_management_thread_is_reported() {
    let (release, released) = channel::bounded::<()>(0);
    let director = Director::start(move |requests| {
        let _ = released.recv();
        drop(requests);
    });
    // Dropped before the director, which waits for its thread, whatever fails.
    let release = release;
    let error = query(&director.path, &Request::Counters).unwrap_err();
    assert!(
        error.to_string().contains("did not answer within 2 s"),
        "{error}"
    );
    drop(release);
}

#[test]
fn a_request_that_the_management_thread_drops_is_reported() {
    let director = Director::start(|requests| requests.into_iter().for_each(drop));
    let error = query(&director.path, &Request::Counters).unwrap_err();
    assert!(
        error.to_string().contains("did not answer this request"),
        "{error}"
    );
}

#[test]
fn only_the_owner_may_ask() {
    let director = Director::with_counters(1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&director.path), 0o600);
    assert_eq!(mode(director.path.parent().unwrap()), 0o755);
}

#[test]
fn a_group_may_ask_whatever_the_umask_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/control.sock");
    // A group that this process may give a file to: its own.
    let group = rustix::process::getegid().as_raw();
    let _socket = ControlSocket::bind_for(&path, Some(group)).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
    assert_eq!(metadata.gid(), group);
}

#[test]
fn a_directory_that_the_director_made_goes_with_its_socket_to_its_user() {
    if !rustix::process::geteuid().is_root() {
        println!(
            "skipped: a_directory_that_the_director_made_goes_with_its_socket_to_its_user: giving \
             files away takes root"
        );
        return;
    }
    let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
    let mut director = Director::with_counters(1);
    let handle = director.handle.as_ref().unwrap();
    handle.give_to(1234, 1235).unwrap();
    let parent = director.path.parent().unwrap().to_owned();
    for path in [&director.path, &parent.join("control.sock.lock"), &parent] {
        assert_eq!(owner(path), 1234, "{}", path.display());
    }
    drop(director.handle.take());
    // One that was there is left as it is.
    let handle = ControlSocket::bind(&parent.parent().unwrap().join("other.sock"));
    let (sender, _requests) = channel::bounded(1);
    let handle = handle.unwrap().spawn(sender).unwrap();
    handle.give_to(1234, 1235).unwrap();
    assert_eq!(owner(parent.parent().unwrap()), 0);
}

#[test]
fn a_link_in_the_place_of_the_lock_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let precious = directory.path().join("precious");
    std::os::unix::fs::symlink(&precious, directory.path().join("control.sock.lock")).unwrap();
    let error = ControlSocket::bind(&path).unwrap_err();
    assert!(error.to_string().contains("cannot lock it"), "{error}");
    assert!(!precious.exists());
}

#[test]
fn a_live_director_is_not_replaced() {
    let director = Director::with_counters(1);
    let error = ControlSocket::bind(&director.path).unwrap_err();
    assert!(matches!(error, BindError::AlreadyRunning { .. }), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("another director is running on "),
        "{error}"
    );
    query(&director.path, &Request::Counters).unwrap();
}

#[test]
fn what_a_dead_director_left_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    drop(UnixListener::bind(&path).unwrap());
    fs::write(directory.path().join("control.sock.lock"), "").unwrap();
    assert!(path.exists());
    let (sender, _requests) = channel::bounded(1);
    let handle = ControlSocket::bind(&path).unwrap().spawn(sender).unwrap();
    UnixStream::connect(&path).unwrap();
    drop(handle);
    assert!(fs::read_dir(directory.path()).unwrap().next().is_none());
}

#[test]
fn another_program_s_socket_or_file_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.sock");
    let _other = UnixListener::bind(&path).unwrap();
    assert!(matches!(
        ControlSocket::bind(&path),
        Err(BindError::InUse { .. })
    ));
    let path = directory.path().join("file");
    fs::write(&path, "precious").unwrap();
    assert!(matches!(
        ControlSocket::bind(&path),
        Err(BindError::NotASocket { .. })
    ));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_socket_that_was_never_served_is_removed_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    drop(ControlSocket::bind(&path).unwrap());
    assert!(fs::read_dir(directory.path()).unwrap().next().is_none());
}

#[test]
fn a_socket_that_somebody_else_put_in_our_place_is_kept() {
    let mut director = Director::with_counters(1);
    fs::remove_file(&director.path).unwrap();
    let _other = UnixListener::bind(&director.path).unwrap();
    drop(director.handle.take());
    assert!(director.path.exists());
}

#[test]
fn without_a_director_the_query_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let error = query(&path, &Request::Services).unwrap_err();
    assert!(
        error.to_string().starts_with("no director is running on "),
        "{error}"
    );
    drop(UnixListener::bind(&path).unwrap());
    let error = query(&path, &Request::Services).unwrap_err();
    assert!(matches!(error, QueryError::NotRunning(_)), "{error}");
}

#[test]
fn a_director_that_accepts_nobody_is_given_up_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let start = Instant::now();
    let error = query(&path, &Request::Services).unwrap_err();
    assert!(matches!(error, QueryError::Timeout(_)), "{error}");
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
}
