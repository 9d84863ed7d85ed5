//! The load: turnstiles that send prepared requests, one at a time on each connection, and check every answer.
//!
//! One client for all servers, so that it costs the same whoever is asked; only the bytes differ. It shares the
//! cores with the server, so it is small: one thread, no library between it and the socket, nothing formatted or
//! parsed beyond the end of the answer and its first bytes.

use std::{
    cell::RefCell,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::measure::{Measured, Tally, Window};

/// The longest answer, in bytes: that of a batch of exits has about 12 kB.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// A request and what its answer begins with.
pub(crate) struct Request {
    pub(crate) bytes: Vec<u8>,
    pub(crate) expects: Vec<u8>,
    /// Whether its latency is measured.
    pub(crate) is_timed: bool,
    /// How many swipes it is.
    pub(crate) swipes: u64,
}

/// How a server is spoken to.
#[derive(Clone, Copy)]
pub(crate) struct Protocol {
    /// What a new connection needs before the first request.
    pub(crate) greet: fn(&mut TcpStream),
    /// The part of a whole answer that is looked at; none while some of it is missing.
    pub(crate) answer: fn(&[u8]) -> Option<&[u8]>,
}

/// One turnstile's requests. A run goes on where the one before it stopped, so that whoever entered leaves.
pub(crate) struct Script {
    requests: Vec<Request>,
    next: usize,
}

impl Script {
    pub(crate) fn new(requests: Vec<Request>) -> Self {
        Self { requests, next: 0 }
    }

    fn next(&mut self) -> &Request {
        let at = self.next;
        self.next = (at + 1) % self.requests.len();
        &self.requests[at]
    }
}

/// Turnstiles of one server.
pub(crate) struct Crew {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) scripts: Vec<Script>,
}

impl Crew {
    /// Connects every turnstile and lets them work for the time of the window.
    pub(crate) fn run(&mut self, seconds: f64) -> Measured {
        let streams: Vec<TcpStream> = self.scripts.iter().map(|_| self.connect()).collect();
        let protocol = self.protocol;
        if let ([script], [stream]) = (&mut self.scripts[..], &streams[..]) {
            return work_alone(stream, script, protocol, Window::from_now(seconds));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let window = Window::from_now(seconds);
            let tally = RefCell::new(Tally::default());
            let workers = self.scripts.iter_mut().zip(streams);
            let workers = workers.map(|(script, stream)| work(stream, script, protocol, window, &tally));
            join_all(workers).await;
            tally.into_inner().measured(window)
        })
    }

    fn connect(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        (self.protocol.greet)(&mut stream);
        stream
    }
}

/// One connection needs no event loop: the thread waits in `read`.
fn work_alone(mut stream: &TcpStream, script: &mut Script, protocol: Protocol, window: Window) -> Measured {
    let mut tally = Tally::default();
    let mut buffer = vec![0; MAX_ANSWER_BYTES];
    loop {
        let request = script.next();
        let sent = Instant::now();
        stream.write_all(&request.bytes).unwrap();
        let mut read = 0;
        loop {
            read += received(stream.read(&mut buffer[read..]).unwrap());
            if is_answered(request, &buffer[..read], protocol) {
                break;
            }
        }
        if !tally.count(request, sent, window) {
            return tally.measured(window);
        }
    }
}

async fn work(
    stream: TcpStream,
    script: &mut Script,
    protocol: Protocol,
    window: Window,
    tally: &RefCell<Tally>,
) {
    stream.set_nonblocking(true).unwrap();
    let mut stream = tokio::net::TcpStream::from_std(stream).unwrap();
    let mut buffer = vec![0; MAX_ANSWER_BYTES];
    loop {
        let request = script.next();
        let sent = Instant::now();
        stream.write_all(&request.bytes).await.unwrap();
        let mut read = 0;
        loop {
            read += received(stream.read(&mut buffer[read..]).await.unwrap());
            if is_answered(request, &buffer[..read], protocol) {
                break;
            }
        }
        if !tally.borrow_mut().count(request, sent, window) {
            return;
        }
    }
}

fn received(bytes: usize) -> usize {
    assert!(
        bytes > 0,
        "the server closed the connection, or its answer is longer than {MAX_ANSWER_BYTES} bytes"
    );
    bytes
}

/// A server that answers something else is not doing the work: the benchmark stops.
fn is_answered(request: &Request, bytes: &[u8], protocol: Protocol) -> bool {
    let Some(answer) = (protocol.answer)(bytes) else { return false };
    assert!(
        answer.starts_with(&request.expects),
        "{} was answered with {}",
        String::from_utf8_lossy(&request.bytes),
        String::from_utf8_lossy(bytes)
    );
    true
}
