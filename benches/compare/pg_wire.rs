//! As much of PostgreSQL's protocol (version 3.0) as the load needs: a trusted login, a prepared call.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::support::load::Protocol;

const VERSION: u32 = 3 << 16;

/// Prepared once for each connection, then only bound and executed.
const CALL: &str = "select swipe($1, $2, $3, $4)";
const STATEMENT: &str = "swipe";

pub(crate) const PROTOCOL: Protocol = Protocol { greet: prepare, answer: up_to_ready };

/// Calls the prepared function and ends the transaction.
pub(crate) fn call(arguments: &[&str]) -> Vec<u8> {
    // Unnamed portal, all arguments as text, and so the result.
    let mut bind = format!("\0{STATEMENT}\0\0\0").into_bytes();
    bind.extend_from_slice(&count(arguments.len()));
    for argument in arguments {
        bind.extend_from_slice(&length(argument.len()));
        bind.extend_from_slice(argument.as_bytes());
    }
    bind.extend_from_slice(&count(0));
    [message(b'B', &bind), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")].concat()
}

/// What a call that returns `value` is answered with, up to the value.
pub(crate) fn one_value(value: &str) -> Vec<u8> {
    let row = [&count(1)[..], &length(value.len()), value.as_bytes()].concat();
    [message(b'2', b""), message(b'D', &row)].concat()
}

/// Logs in and runs some SQL.
///
/// # Errors
/// What the server says.
pub(crate) fn execute(address: SocketAddr, sql: &str) -> Result<(), String> {
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    log_in(&mut stream)?;
    exchange(&mut stream, &message(b'Q', format!("{sql}\0").as_bytes()))
}

fn prepare(stream: &mut TcpStream) {
    log_in(stream).unwrap();
    let parse = format!("{STATEMENT}\0{CALL}\0\0\0");
    exchange(stream, &[message(b'P', parse.as_bytes()), message(b'S', b"")].concat()).unwrap();
}

fn log_in(stream: &mut TcpStream) -> Result<(), String> {
    let mut body = VERSION.to_be_bytes().to_vec();
    body.extend_from_slice(b"user\0bench\0database\0postgres\0\0");
    // The first message has no kind.
    exchange(stream, &message(0, &body)[1..])
}

/// Sends something and reads until the server is ready for more.
fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> Result<(), String> {
    stream.write_all(bytes).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    while up_to_ready(&answer).is_none() {
        match stream.read(&mut buffer).map_err(|error| error.to_string())? {
            0 => return Err(format!("closed: {}", String::from_utf8_lossy(&answer))),
            read => answer.extend_from_slice(&buffer[..read]),
        }
    }
    match messages(&answer).find(|(kind, _)| *kind == b'E') {
        Some((_, body)) => Err(String::from_utf8_lossy(body).into_owned()),
        None => Ok(()),
    }
}

fn up_to_ready(bytes: &[u8]) -> Option<&[u8]> {
    messages(bytes).any(|(kind, _)| kind == b'Z').then_some(bytes)
}

/// The whole messages: kind and body.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (kind, rest) = bytes.split_first()?;
        let length = u32::from_be_bytes(*rest.first_chunk::<4>()?) as usize;
        let body = rest.get(4..length)?;
        bytes = &rest[length..];
        Some((*kind, body))
    })
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &length(body.len() + 4), body].concat()
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap().to_be_bytes()
}

fn count(items: usize) -> [u8; 2] {
    u16::try_from(items).unwrap().to_be_bytes()
}
