//! A turnstile in small: one keep-alive connection, one request at a time, no library in the way.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

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
            let Some(head_end) = self.answer[..read].windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                continue;
            };
            let head = std::str::from_utf8(&self.answer[..head_end]).unwrap().to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap();
            let end = head_end + 4 + length.parse::<usize>().unwrap();
            if read >= end {
                let status = head[9..12].parse().unwrap();
                return (status, &self.answer[head_end + 4..end]);
            }
        }
    }
}
