//! Ten thousand hostile requests: no 5xx but a deliberate 503, no growing memory, and honest gates are answered all the
//! while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    daemon::{Daemon, Site},
    random::Random,
};

const REQUESTS: usize = 10_000;
/// Connections at once; each sends one request after the other.
const ATTACKERS: usize = 16;
/// After so many of them everything that is made once has been made.
const WARM_UP: usize = REQUESTS / 4;
/// Memory may differ by so much afterwards: some ten thousand honest passages are in the index of the log's active segment
/// by then, and the allocator keeps some. A tenth of the bodies kept would be more.
const MAX_GROWTH_BYTES: u64 = 64 << 20;
/// How long an answer may take; none at all is an answer, too.
const PATIENCE: Duration = Duration::from_secs(20);
const ENTRIES: &str = "/v1/buildings/hq/entries";

/// What a server made of a request: its status, or nothing but the end of the connection.
type Status = Option<u16>;

/// The bytes of one request. `key` is a good one.
fn request(random: &mut Random, key: &str) -> Vec<u8> {
    let key_line = if random.below(3) == 0 { String::new() } else { format!("X-Api-Key: {key}\r\n") };
    let post = |path: &str, headers: &str, body: &[u8]| {
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: h\r\n{key_line}{headers}Content-Length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    let plain =
        |line: &str, headers: &str| format!("{line}\r\nHost: h\r\n{key_line}{headers}\r\n").into_bytes();
    match random.below(16) {
        0 => plain(&format!("POST {ENTRIES} HTTP/1.1"), "Content-Length: 10485760\r\n"),
        1 => plain(&format!("POST {ENTRIES} HTTP/1.1"), "Content-Length: 99999999999999999999999\r\n"),
        2 => post(ENTRIES, "", "[".repeat(60_000).as_bytes()),
        3 => post(
            ENTRIES,
            "",
            format!("{{\"card_id\":{}1{}}}", "{\"a\":".repeat(9_000), "}".repeat(9_000)).as_bytes(),
        ),
        4 => post(ENTRIES, "", b"{\"card_id\": \"\xff\xfe\xc0\x80\", \"gate_id\": \"north-1\"}"),
        5 => plain(
            "GET /v1/cards HTTP/1.1",
            &"X-Flood: aaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(20 + random.below(400) as usize),
        ),
        6 => plain(&format!("GET /{} HTTP/1.1", "a".repeat(1 + random.below(100_000) as usize)), ""),
        7 => {
            let tricks = [
                "/v1/buildings/../../../etc/passwd/entries",
                "/v1/buildings/%2e%2e/entries",
                "/v1/buildings/hq%00/entries",
                "//v1//buildings//hq//entries",
                "/v1/buildings/hq%2fentries",
                "/v1/cards/%ff%fe",
                "/v1/cards/..%5c..",
                "/v1/events/stream?types=%zz",
                "/v1/cards?limit=99999999999999999999",
                "/v1/cards?cursor=%F0%9F%92%A3",
                "http://h/v1/cards",
                "*",
            ];
            let trick = tricks[random.below(tricks.len() as u64) as usize];
            if random.below(2) == 0 {
                plain(&format!("GET {trick} HTTP/1.1"), "")
            } else {
                post(trick, "", b"{}")
            }
        }
        8 => post(ENTRIES, "Transfer-Encoding: chunked\r\n", b"0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n"),
        9 => plain(
            &format!("POST {ENTRIES} HTTP/1.1"),
            "Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n{}",
        ),
        10 => {
            let methods = [
                "TRACE",
                "CONNECT",
                "OPTIONS",
                "PATCH",
                "X",
                "GET\t",
                "A-VERY-LONG-METHOD-NAME-THAT-NOBODY-KNOWS",
            ];
            plain(&format!("{} {ENTRIES} HTTP/1.1", methods[random.below(7) as usize]), "")
        }
        11 => (0..1 + random.below(5_000)).map(|_| random.below(256) as u8).collect(),
        12 => plain(
            "GET /v1/cards HTTP/1.1",
            &format!("Authorization: Bearer {}\r\n", "e".repeat(random.below(7_000) as usize)),
        ),
        13 => {
            // a good body with some bytes of it changed
            let mut body = json!({ "card_id": "04A2B9C1", "gate_id": "north-1", "swipe_id": "7f0c0a3e-5f2b-4d0e-9d83-0d6c8a3b6a11",
                "occurred_at": "2026-11-20T08:00:00Z" }).to_string().into_bytes();
            for _ in 0..1 + random.below(4) {
                let at = random.below(body.len() as u64) as usize;
                body[at] = random.below(256) as u8;
            }
            post(ENTRIES, "", &body)
        }
        14 => post(
            "/v1/buildings/hq/exits/batch",
            "Content-Encoding: gzip\r\n",
            &vec![0x1f; 1 + random.below(1 << 20) as usize],
        ),
        _ => post(
            ENTRIES,
            "",
            format!(
                "{{\"gate_id\": \"north-1\", \"card_id\": {}}}",
                "9".repeat(1 + random.below(50_000) as usize)
            )
            .as_bytes(),
        ),
    }
}

/// Sends it; some go away before they are answered, some are slow.
async fn attack(address: &str, request: &[u8], random: &mut Random) -> Status {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let cut = if random.below(10) == 0 { random.below(request.len() as u64) as usize } else { request.len() };
    // an error: it has been refused already
    let _ = timeout(PATIENCE, stream.write_all(&request[..cut])).await;
    if cut < request.len() {
        tokio::time::sleep(Duration::from_millis(random.below(50))).await;
        return None;
    }
    let mut answer = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.ok()?.ok()?;
    std::str::from_utf8(&answer).ok()?.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

/// Where a daemon listens, without its scheme.
fn address(daemon: &Daemon) -> String {
    daemon.base_url().trim_start_matches("http://").to_owned()
}

#[tokio::test]
async fn hostile_requests_harm_nobody() {
    let site = Site::with_files();
    let daemon = site.start();
    let (key, token) = (site.key("hq"), site.token("hr"));
    daemon.person(&token).put("/v1/cards/HONEST", &json!({ "employee_id": "E1001" })).await.expect(201);
    let mut seeds = Random::new();
    let (sent, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let attackers: Vec<_> = (0..ATTACKERS)
        .map(|_| {
            let mut random = Random::seeded(seeds.next());
            let (address, key, sent) = (address(&daemon), key.clone(), Arc::clone(&sent));
            tokio::spawn(async move {
                let mut answered = 0_usize;
                while sent.fetch_add(1, Relaxed) < REQUESTS {
                    let request = request(&mut random, &key);
                    let status = attack(&address, &request, &mut random).await;
                    let is_fine = status.is_none_or(|status| status < 500 || status == 503);
                    assert!(
                        is_fine,
                        "{status:?} for {}",
                        String::from_utf8_lossy(&request[..request.len().min(500)])
                    );
                    answered += usize::from(status.is_some());
                }
                answered
            })
        })
        .collect();
    let honest = {
        let (gate, is_over) = (daemon.device(&key), Arc::clone(&is_over));
        tokio::spawn(async move {
            let swipe = json!({ "card_id": "HONEST", "gate_id": "north-1" });
            let mut passages = 0_usize;
            while !is_over.load(Relaxed) {
                assert_eq!(gate.post(ENTRIES, &swipe).await.expect(200)["decision"], "granted");
                gate.post("/v1/buildings/hq/exits", &swipe).await.expect(202);
                passages += 1;
            }
            passages
        })
    };
    while sent.load(Relaxed) < WARM_UP && !attackers.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let warm = daemon.peak_bytes();
    let mut answered = 0;
    for attacker in attackers {
        answered += attacker.await.unwrap();
    }
    is_over.store(true, Relaxed);
    let passages = honest.await.unwrap();
    let peak = daemon.peak_bytes();
    println!(
        "{answered} of {REQUESTS} answered, {passages} honest passages, memory {warm} then {peak} bytes"
    );
    assert!(answered > REQUESTS / 2 && passages > 0);
    assert!(peak <= warm + MAX_GROWTH_BYTES, "memory grew from {warm} to {peak} bytes");
    let (status, stderr) = daemon.stop();
    assert!(status.success(), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}
