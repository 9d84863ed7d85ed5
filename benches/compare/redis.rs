//! Redis as a peer: every command is in the append-only file, synced, before its answer.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
};

use crate::{
    server::{Server, free_address},
    support::{
        first_line,
        load::{Crew, Protocol, Request, Script},
        swipes::MakeRequest,
    },
};

const SCRIPT: &str = include_str!("decide.lua");

const PROTOCOL: Protocol = Protocol { greet: |_| {}, answer: whole_bulk_string };

/// A running Redis with the script and the cards.
pub(crate) struct Redis {
    server: Server,
    script: String,
    pub(crate) version: String,
}

impl Redis {
    /// # Errors
    /// Why there is none.
    pub(crate) fn start(dir: &Path, cards: usize) -> Result<Self, String> {
        let version = first_line(Command::new("redis-server").arg("--version"))?;
        let dir = dir.join("redis");
        fs::create_dir(&dir).map_err(|error| error.to_string())?;
        let address = free_address();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
        command.arg("--dir").arg(&dir);
        // No snapshots and no rewriting of the file meanwhile: only what each command needs.
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
        command.args(["--auto-aof-rewrite-percentage", "0"]);
        let does_answer = |address| TcpStream::connect(address).is_ok();
        let server = Server::start(&mut command, address, "-TERM", &dir.join("output"), does_answer)?;
        let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        let loaded = ask(&mut stream, &["SCRIPT", "LOAD", SCRIPT])?;
        let script = loaded.lines().nth(1).unwrap_or_default().to_owned();
        for card in 0..cards {
            let (key, employee) = (format!("card:C{card}"), format!("E{card}"));
            ask(&mut stream, &["HSET", &key, "employee_id", &employee, "status", "active"])?;
        }
        Ok(Self { server, script, version })
    }

    pub(crate) fn crew(&self, scripts: impl FnOnce(MakeRequest<'_>) -> Vec<Script>) -> Crew {
        let make = |is_entry: bool, card: usize| {
            let (direction, expects) =
                if is_entry { ("entry", "$7\r\ngranted\r\n") } else { ("exit", "$8\r\nrecorded\r\n") };
            let (key, card) = (format!("card:C{card}"), format!("C{card}"));
            let words =
                ["EVALSHA", &self.script, "3", &key, "inside:hq", "events", direction, "hq", "g", &card];
            Request { bytes: command(&words), expects: expects.into(), is_timed: is_entry, swipes: 1 }
        };
        Crew { address: self.address(), protocol: PROTOCOL, scripts: scripts(&make) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }

    fn address(&self) -> SocketAddr {
        self.server.address
    }
}

/// RESP: an array of bulk strings.
fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

/// One answer of the script; an error is a line, too.
fn whole_bulk_string(bytes: &[u8]) -> Option<&[u8]> {
    let lines = if bytes.first() == Some(&b'$') { 2 } else { 1 };
    (bytes.iter().filter(|byte| **byte == b'\n').count() >= lines).then_some(bytes)
}

fn ask(stream: &mut TcpStream, words: &[&str]) -> Result<String, String> {
    stream.write_all(&command(words)).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    while whole_bulk_string(&answer).is_none() {
        match stream.read(&mut buffer).map_err(|error| error.to_string())? {
            0 => return Err("Redis closed the connection".to_owned()),
            read => answer.extend_from_slice(&buffer[..read]),
        }
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if answer.starts_with('-') { Err(answer) } else { Ok(answer) }
}
