//! A Kinesis stream in small: takes what is put, throttles on demand, and counts which events came how often. One thread
//! a connection and no library between, because it shares the cores with what is measured.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    ops::Range,
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};
use memchr::memmem;
use serde::Deserialize;

use crate::support::http;

/// Enough that a shard's own limit, 1,000 records a second, is above what is measured.
const SHARDS: u128 = 128;
const HASHES_OF_A_SHARD: u128 = u128::MAX / SHARDS + 1;

/// With throttling, of this many requests one has every second record refused.
const THROTTLED_ONE_OF: u64 = 20;

/// An event in what was put, aggregated or not.
const SEQUENCE: &[u8] = b"\"sequence\":\"";

/// A stream that listens on a port of its own until the benchmark ends.
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Received>>,
}

/// What came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    /// Of each sequence whether it came.
    came: Vec<bool>,
    pub(crate) events: u64,
    pub(crate) repeats: u64,
    pub(crate) records: u64,
    pub(crate) requests: u64,
    pub(crate) refused: u64,
    pub(crate) last: Option<Instant>,
}

impl Stub {
    pub(crate) fn start(throttles: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Received>>::default();
        let shared = Arc::clone(&received);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&mut stream.unwrap(), &shared, throttles));
            }
        });
        Self { address, received }
    }

    /// How many events came, each counted once.
    pub(crate) fn events(&self) -> u64 {
        self.received.lock().unwrap().events
    }

    pub(crate) fn received(&self) -> Received {
        self.received.lock().unwrap().clone()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecords<'a> {
    #[serde(borrow)]
    records: Vec<Record<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record<'a> {
    data: &'a str,
    partition_key: &'a str,
    explicit_hash_key: Option<&'a str>,
}

impl Record<'_> {
    fn shard(&self) -> u128 {
        let hash = match self.explicit_hash_key {
            Some(key) => key.parse().unwrap(),
            None => u128::from_be_bytes(Md5::digest(self.partition_key).into()),
        };
        hash / HASHES_OF_A_SHARD
    }
}

impl Received {
    /// Takes the events of a record.
    fn take(&mut self, data: &[u8]) {
        self.records += 1;
        for at in memmem::find_iter(data, SEQUENCE) {
            let digits = &data[at + SEQUENCE.len()..][..20];
            let sequence: usize = std::str::from_utf8(digits).unwrap().parse().unwrap();
            if self.came.len() <= sequence {
                self.came.resize((sequence + 1).next_power_of_two(), false);
            }
            if std::mem::replace(&mut self.came[sequence], true) {
                self.repeats += 1;
            } else {
                self.events += 1;
            }
        }
    }
}

/// Answers one request after the other until the connection ends.
fn serve(stream: &mut TcpStream, received: &Mutex<Received>, throttles: bool) {
    stream.set_nodelay(true).unwrap();
    let mut request = Vec::new();
    while let Some(body_at) = read_request(stream, &mut request) {
        let (head, body) = request.split_at(body_at);
        let answer = if memmem::find(head, b"ListShards").is_some() {
            shards()
        } else {
            put(serde_json::from_slice(body).unwrap(), received, throttles)
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nx-amzn-RequestId: bench\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        if stream.write_all(&[head.as_bytes(), answer.as_bytes()].concat()).is_err() {
            return; // the daemon is gone
        }
    }
}

/// Where the body of the next request begins; `None` at the end of the connection.
fn read_request(stream: &mut TcpStream, request: &mut Vec<u8>) -> Option<usize> {
    let mut buffer = [0; 256 << 10];
    request.clear();
    let mut body: Option<Range<usize>> = None;
    while body.as_ref().is_none_or(|body| request.len() < body.end) {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
        body = body.or_else(|| http::body_of(request));
    }
    body.map(|body| body.start)
}

fn put(put: PutRecords<'_>, received: &Mutex<Received>, throttles: bool) -> String {
    let decoded: Vec<Vec<u8>> =
        put.records.iter().map(|record| STANDARD.decode(record.data).unwrap()).collect();
    let mut received = received.lock().unwrap();
    received.requests += 1;
    received.last = Some(Instant::now());
    let is_throttled = throttles && received.requests.is_multiple_of(THROTTLED_ONE_OF);
    let (mut answer, mut failed) = (String::from("{\"Records\":["), 0);
    for (index, (record, data)) in put.records.iter().zip(&decoded).enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let shard = record.shard();
        if is_throttled && index % 2 == 0 {
            failed += 1;
            let _ = write!(
                answer,
                "{comma}{{\"ErrorCode\":\"ProvisionedThroughputExceededException\",\
                 \"ErrorMessage\":\"Rate exceeded for shard shardId-{shard:012} in stream bench under account 1.\"}}"
            );
        } else {
            received.take(data);
            let _ = write!(
                answer,
                "{comma}{{\"SequenceNumber\":\"{}\",\"ShardId\":\"shardId-{shard:012}\"}}",
                received.records
            );
        }
    }
    received.refused += failed;
    let _ = write!(answer, "],\"FailedRecordCount\":{failed}}}");
    answer
}

fn shards() -> String {
    let shard = |number: u128| {
        let first = number * HASHES_OF_A_SHARD;
        format!(
            "{{\"ShardId\":\"shardId-{number:012}\",\"HashKeyRange\":{{\"StartingHashKey\":\"{first}\",\
             \"EndingHashKey\":\"{}\"}},\"SequenceNumberRange\":{{\"StartingSequenceNumber\":\"1\"}}}}",
            first + (HASHES_OF_A_SHARD - 1)
        )
    };
    format!("{{\"Shards\":[{}]}}", (0..SHARDS).map(shard).collect::<Vec<_>>().join(","))
}
