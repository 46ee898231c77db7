//! As much HTTP as the tests need, and UDP echo.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use super::{
    lab::VIP,
    namespace::{Namespace, PATIENCE, enter, inside},
};

const HTTP_PORT: u16 = 80;
const ECHO_PORT: u16 = 7;

/// A web server and a UDP echo server in a namespace.
#[derive(Debug)]
pub(super) struct HttpServer {
    stop: Arc<AtomicBool>,
    vip: IpAddr,
    namespace: String,
    threads: Vec<JoinHandle<()>>,
}

impl HttpServer {
    /// Answers with its number and what it was sent.
    pub(super) fn start(namespace: &Namespace, number: u8, vip: IpAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let listener = namespace.inside(|| listen(vip)).unwrap();
        // Bound to the VIP, so that answers come from there.
        let echo = namespace.inside(|| UdpSocket::bind((vip, ECHO_PORT)).unwrap());
        echo.set_read_timeout(Some(POLL)).unwrap();
        let (of_tcp, of_udp) = (Arc::clone(&stop), Arc::clone(&stop));
        let threads = vec![
            thread::spawn(move || {
                for stream in listener.incoming() {
                    if of_tcp.load(Ordering::Relaxed) {
                        break;
                    }
                    // Ends with its client, whatever that does.
                    thread::spawn(move || serve(stream?, number));
                }
            }),
            thread::spawn(move || {
                let mut buffer = vec![0; 65_536];
                while !of_udp.load(Ordering::Relaxed) {
                    if let Ok((len, from)) = echo.recv_from(&mut buffer) {
                        // The client may be gone.
                        let _ = echo.send_to(&buffer[..len], from);
                    }
                }
            }),
        ];
        Self {
            stop,
            vip,
            namespace: namespace.name.clone(),
            threads,
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        inside(&self.namespace, || {
            // Wakes the listener.
            let _ = TcpStream::connect((self.vip, HTTP_PORT));
        });
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Listens on all addresses of the VIP's IP version.
fn listen(vip: IpAddr) -> io::Result<TcpListener> {
    let any: IpAddr = match vip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let any = SocketAddr::new(any, HTTP_PORT);
    let socket = Socket::new(Domain::for_address(any), Type::STREAM, None)?;
    if vip.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&any.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

fn serve(stream: TcpStream, number: u8) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(4 * PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    while let Some(len) = read_head(&mut reader)? {
        let mut body = vec![0; len];
        reader.read_exact(&mut body)?;
        let answer = format!("{number} {len} {}", sum(&body));
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}",
            answer.len()
        )?;
    }
    Ok(())
}

/// Length of the body that follows; `None` at the end.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<usize>> {
    let (mut len, mut lines) = (0, 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        lines += 1;
        let line = line.trim_end();
        if lines == 1 && line.starts_with("HTTP/1.1 ") && line != "HTTP/1.1 200 OK" {
            return Err(io::Error::new(ErrorKind::InvalidData, line.to_owned()));
        }
        if line.is_empty() {
            return Ok(Some(len));
        }
        if let Some(text) = line.strip_prefix("Content-Length: ") {
            len = text.parse().map_err(io::Error::other)?;
        }
    }
}

/// FNV-1a, so that a body is told from another one.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What a real server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Which one.
    pub(crate) server: u8,
    /// Bytes that it was sent.
    pub(crate) len: usize,
    /// Whether they arrived as they were.
    pub(crate) is_intact: bool,
}

/// A connection of the client to the VIP that stays open.
#[derive(Debug)]
pub(crate) struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    /// From the namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        Self::open_to(SocketAddr::from((VIP, HTTP_PORT)))
    }

    /// The same, to any address.
    pub(super) fn open_to(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            reader: BufReader::new(stream),
        })
    }

    /// The client's L4 port.
    pub(crate) fn source_port(&self) -> u16 {
        self.reader.get_ref().local_addr().unwrap().port()
    }

    pub(crate) fn get(&mut self) -> io::Result<Answer> {
        self.put(&[])
    }

    /// Sends a body and waits for the answer.
    pub(crate) fn put(&mut self, body: &[u8]) -> io::Result<Answer> {
        let head = format!(
            "PUT / HTTP/1.1\r\nHost: {VIP}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.reader.get_mut().write_all(head.as_bytes())?;
        self.reader.get_mut().write_all(body)?;
        let closed = || io::Error::from(ErrorKind::UnexpectedEof);
        let len = read_head(&mut self.reader)?.ok_or_else(closed)?;
        let mut answer = vec![0; len];
        self.reader.read_exact(&mut answer)?;
        let answer = String::from_utf8(answer).map_err(io::Error::other)?;
        let mut words = answer.split(' ').map(|word| word.parse::<u64>().unwrap());
        let mut word = || words.next().unwrap();
        Ok(Answer {
            server: u8::try_from(word()).unwrap(),
            len: usize::try_from(word()).unwrap(),
            is_intact: word() == sum(body),
        })
    }
}

/// Receives a datagram. The standard library takes an interruption, such as by
/// a machine that was suspended, for an error.
pub(crate) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Requests one after the other, each on a connection of its own.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Tally>>,
}

/// What became of the requests of a [`Load`].
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// By number of the real server that answered.
    pub(crate) answers: [usize; 8],
    /// Requests without an answer.
    pub(crate) failures: Vec<String>,
}

impl Tally {
    pub(crate) fn answered(&self) -> usize {
        self.answers.iter().sum()
    }
}

impl Load {
    pub(super) fn start(client: &Namespace) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let of_thread = Arc::clone(&stop);
        let name = client.name.clone();
        let thread = thread::spawn(move || {
            enter(&name);
            let mut tally = Tally::default();
            while !of_thread.load(Ordering::Relaxed) {
                match Connection::open().and_then(|mut connection| connection.get()) {
                    Ok(answer) => tally.answers[usize::from(answer.server)] += 1,
                    Err(error) => tally.failures.push(error.to_string()),
                }
            }
            tally
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Lets the last request end, and says how all went.
    pub(crate) fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// How long the echo server waits before it looks whether to stop.
const POLL: Duration = Duration::from_millis(100);
