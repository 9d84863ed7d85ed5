//! A service of the tests' own, for what the emulator never says.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

/// What it answers.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Whole lines, such as `content-type: text/xml`.
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

/// Gives each request body to `answer` until the process ends; the endpoint's URL.
pub(crate) fn serve(answer: impl Fn(&str) -> Reply + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint_url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let reply = answer(&read_request(&stream));
            // a client that has gone away already has its answer
            let _ = (&stream).write_all(reply.to_text().as_bytes());
        }
    });
    endpoint_url
}

impl Reply {
    fn to_text(&self) -> String {
        let Self { status, headers, body } = self;
        let mut text =
            format!("HTTP/1.1 {status} Fake\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        for header in headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        text + "\r\n" + body
    }
}

/// The body of one request.
fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut body_bytes = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            body_bytes = value.trim().parse().unwrap();
        }
    }
    let mut body = String::new();
    let _ = reader.take(body_bytes).read_to_string(&mut body);
    body
}
