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

/// What it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Method and target, such as `POST /hook?x=y`.
    pub(crate) line: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    /// A header, or `""`.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }
}

/// Gives each request body to `answer` until the process ends; the endpoint's URL.
pub(crate) fn serve(answer: impl Fn(&str) -> Reply + Send + 'static) -> String {
    serve_requests(move |request| answer(&request.body))
}

/// Gives each request to `answer`, one after the other, until the process ends; the endpoint's URL.
pub(crate) fn serve_requests(answer: impl Fn(&Request) -> Reply + Send + 'static) -> String {
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

fn read_request(stream: &TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let _ = reader.read_line(&mut line);
    let mut request = Request {
        line: line.trim_end_matches(" HTTP/1.1\r\n").to_owned(),
        headers: Vec::new(),
        body: String::new(),
    };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let body_bytes = request.header("content-length").parse().unwrap_or(0);
    let _ = reader.take(body_bytes).read_to_string(&mut request.body);
    request
}
