//! How hostile clients behave: one request a connection, at a pace or as fast as they can; and some that hold connections
//! open by sending a byte now and then.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::future::{join, join_all};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, sleep_until, timeout},
};

use crate::{
    requests::{self, Kind},
    support::measure::Window,
};

/// Clients that send one request after the other.
pub(crate) const ATTACKERS: usize = 32;
/// Connections that are held open, half of them before the end of the headers, half of them before that of the body.
pub(crate) const SLOW: usize = 64;
/// From one byte of a slow client to the next.
pub(crate) const SLOW_EVERY: Duration = Duration::from_millis(250);
/// How long an attacker waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// As far as its status.
const STATUS_LINE_BYTES: usize = 12;

/// The kind of slow clients.
const SLOW_CLIENTS: &str = "slow headers and bodies";

/// How many requests are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    PerSecond(f64),
    Unbounded,
}

/// What became of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    /// How often, by kind and by what the client saw.
    pub(crate) counts: BTreeMap<(&'static str, String), u64>,
    pub(crate) bytes: u64,
    /// From the first request to the last answer, without slow clients.
    pub(crate) seconds: f64,
}

impl Answers {
    /// Without slow ones, most of which are not over.
    pub(crate) fn requests(&self) -> u64 {
        self.counts.iter().filter(|((kind, _), _)| *kind != SLOW_CLIENTS).map(|(_, count)| count).sum()
    }

    /// Nothing, where nobody attacked.
    pub(crate) fn per_second(&self, what: u64) -> f64 {
        if self.seconds > 0.0 { what as f64 / self.seconds } else { 0.0 }
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (what, count) in other.counts {
            *self.counts.entry(what).or_default() += count;
        }
        self.bytes += other.bytes;
        self.seconds += other.seconds;
    }

    fn count(&mut self, kind: &'static str, what: String) {
        *self.counts.entry((kind, what)).or_default() += 1;
    }
}

/// Attacks until the window is over, on one thread.
pub(crate) fn run(
    address: SocketAddr,
    key_line: &str,
    kinds: &[Kind],
    pace: Pace,
    window: Window,
) -> Answers {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (begun, next, answers) = (Instant::now(), Cell::new(0), RefCell::default());
    let attack = Attack { address, kinds, pace, window, begun, next, answers };
    let slow_heads = requests::slow_heads(key_line);
    let attackers = async {
        join_all((0..ATTACKERS).map(|_| attack.one_after_the_other())).await;
        begun.elapsed().as_secs_f64()
    };
    let (seconds, _) = runtime.block_on(join(
        attackers,
        join_all(slow_heads.iter().cycle().take(SLOW).map(|head| attack.slowly(head))),
    ));
    Answers { seconds, ..attack.answers.into_inner() }
}

struct Attack<'a> {
    address: SocketAddr,
    kinds: &'a [Kind],
    pace: Pace,
    window: Window,
    begun: Instant,
    next: Cell<usize>,
    answers: RefCell<Answers>,
}

impl Attack<'_> {
    async fn one_after_the_other(&self) {
        loop {
            let number = self.next.replace(self.next.get() + 1);
            if let Pace::PerSecond(rate) = self.pace {
                sleep_until((self.begun + Duration::from_secs_f64(number as f64 / rate)).into()).await;
            }
            if self.window.is_over() {
                return;
            }
            let kind = &self.kinds[number % self.kinds.len()];
            let request = &kind.variants[number / self.kinds.len() % kind.variants.len()];
            let what = self.send(request, kind.leaves).await;
            let mut answers = self.answers.borrow_mut();
            answers.bytes += request.len() as u64;
            answers.count(kind.name, what);
        }
    }

    /// What the client sees of it.
    async fn send(&self, request: &[u8], leaves: bool) -> String {
        let mut stream = match timeout(PATIENCE, TcpStream::connect(self.address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return format!("not connected ({:?})", error.kind()),
            Err(_) => return format!("not connected in {PATIENCE:?}"),
        };
        // An error: it has been refused before all of it was sent.
        let _ = timeout(PATIENCE, stream.write_all(request)).await;
        if leaves {
            return "left".to_owned();
        }
        let mut answer = [0; STATUS_LINE_BYTES];
        match timeout(PATIENCE, stream.read_exact(&mut answer)).await {
            Ok(Ok(_)) => status(&answer),
            Ok(Err(_)) => "closed".to_owned(),
            Err(_) => format!("nothing in {PATIENCE:?}"),
        }
    }

    async fn slowly(&self, head: &[u8]) {
        while !self.window.is_over() {
            let what = self.dribble(head).await;
            self.answers.borrow_mut().count(SLOW_CLIENTS, what);
        }
    }

    /// Until there is an answer, or the window is over.
    async fn dribble(&self, head: &[u8]) -> String {
        let Ok(mut stream) = TcpStream::connect(self.address).await else {
            sleep(SLOW_EVERY).await;
            return "not connected".to_owned();
        };
        let mut is_open = stream.write_all(head).await.is_ok();
        let mut answer = [0; STATUS_LINE_BYTES];
        while is_open && !self.window.is_over() {
            match timeout(SLOW_EVERY, stream.read_exact(&mut answer)).await {
                Ok(Ok(_)) => return status(&answer),
                Ok(Err(_)) => is_open = false,
                Err(_) => is_open = stream.write_all(b"a").await.is_ok(),
            }
        }
        if is_open { "held open" } else { "closed" }.to_owned()
    }
}

/// No status but a deliberate 503 says that the server failed.
fn status(answer: &[u8]) -> String {
    let status = std::str::from_utf8(answer).ok().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status = status.expect("the answer begins like one of HTTP").to_owned();
    assert!(status.as_str() < "500" || status == "503", "answered {status}");
    status
}
