//! A collector in small: takes OTLP over HTTP, answers 200 and counts. One thread a connection and no library between,
//! because it shares the cores with what is measured.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use crate::support::http;

/// Listens on a port of its own until the benchmark ends.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    bytes: Arc<AtomicU64>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let bytes = Arc::<AtomicU64>::default();
        let shared = Arc::clone(&bytes);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&mut stream.unwrap(), &shared));
            }
        });
        Self { address, bytes }
    }

    /// Of all bodies that came.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}

/// Answers one request after the other until the connection ends.
fn serve(stream: &mut TcpStream, bytes: &AtomicU64) {
    let (mut request, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        match stream.read(&mut chunk) {
            // the daemon has gone
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&chunk[..read]),
        }
        let Some(body) = http::body_of(&request).filter(|body| body.end <= request.len()) else { continue };
        assert!(request.starts_with(b"POST /v1/traces "), "{}", String::from_utf8_lossy(&request[..64]));
        bytes.fetch_add(body.len() as u64, Relaxed);
        request.drain(..body.end);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).unwrap();
    }
}
