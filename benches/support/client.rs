//! A turnstile in small: one keep-alive connection, one request at a time, no library in the way.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::http;

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    head: String,
    answer: Vec<u8>,
}

impl Client {
    /// Connects; every request has these headers, each ended by `\r\n`.
    pub(crate) fn connect(address: SocketAddr, headers: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, head: format!("Host: {address}\r\n{headers}"), answer: vec![0; 1 << 20] }
    }

    /// Sends a request and reads the whole answer: its status and its body.
    pub(crate) fn request(&mut self, method: &str, path: &str, body: &str) -> (u16, &[u8]) {
        let request =
            format!("{method} {path} HTTP/1.1\r\n{}Content-Length: {}\r\n\r\n{body}", self.head, body.len());
        self.stream.write_all(request.as_bytes()).unwrap();
        let mut read = 0;
        loop {
            let more = self.stream.read(&mut self.answer[read..]).unwrap();
            assert!(more > 0, "the daemon closed the connection");
            read += more;
            let Some(body) = http::body_of(&self.answer[..read]).filter(|body| body.end <= read) else {
                continue;
            };
            let status = std::str::from_utf8(&self.answer[9..12]).unwrap().parse().unwrap();
            return (status, &self.answer[body]);
        }
    }
}
