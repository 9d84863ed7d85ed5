//! A proxy between one sink and its service, which keeps account of what the service took and what the daemon was told.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use reqwest::{Client, redirect::Policy};
use serde_json::Value;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::{
    deck::{Deck, Fault},
    message::{Reply, Request},
    service::Service,
};

/// Longer than the emulator takes, so that later requests overtake it.
const SLOW: Duration = Duration::from_millis(300);
/// Headers of one connection, which the other has of its own.
const OF_THE_CONNECTION: [&str; 5] = ["host", "connection", "content-length", "transfer-encoding", "expect"];

/// What the service took with one request.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) entries: Vec<Value>,
    /// Nobody heard of it.
    pub(super) is_reply_lost: bool,
}

/// Lives as long as the test's runtime.
#[derive(Clone)]
pub(super) struct FaultProxy {
    pub(super) service: Service,
    /// What is replaced to lead a request astray.
    name: String,
    target: String,
    address: SocketAddr,
    client: Client,
    state: Arc<Mutex<State>>,
}

struct State {
    deck: Deck,
    taken: Vec<Taken>,
    is_paused: bool,
    under_way: usize,
}

/// What the connection does next.
enum Next {
    Answer(Reply),
    /// So much of the answer, and the end.
    Break(Vec<u8>),
    Reset,
}

impl FaultProxy {
    /// To the service at `target`, a URL. Its topic, table and so on are known by `name`.
    pub(super) async fn start(service: Service, name: &str, target: &str, deck: Deck) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            service,
            name: name.to_owned(),
            target: target.to_owned(),
            address: listener.local_addr().unwrap(),
            client: turnstiled::https_client::builder()
                .unwrap()
                .no_proxy()
                .redirect(Policy::none())
                .build()
                .unwrap(),
            state: Arc::new(Mutex::new(State { deck, taken: Vec::new(), is_paused: false, under_way: 0 })),
        };
        let accepting = proxy.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(stream));
            }
        });
        proxy
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Nothing gets through until it is lifted.
    pub(super) fn pause(&self, is_paused: bool) {
        self.state.lock().unwrap().is_paused = is_paused;
    }

    /// Whether no request is on its way.
    pub(super) fn is_quiet(&self) -> bool {
        self.state.lock().unwrap().under_way == 0
    }

    /// The faults that are still to come.
    pub(super) fn faults_left(&self) -> Vec<Fault> {
        self.state.lock().unwrap().deck.left().to_vec()
    }

    pub(super) fn taken(&self) -> Vec<Taken> {
        self.state.lock().unwrap().taken.clone()
    }

    async fn serve(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        while let Some(request) = Request::read(&mut stream).await {
            self.state.lock().unwrap().under_way += 1;
            let (next, taken) = self.pass_on(&request).await;
            let (text, goes_on) = match next {
                Next::Answer(reply) => (reply.to_bytes(), true),
                Next::Break(text) => (text, false),
                Next::Reset => {
                    stream.get_ref().set_zero_linger().unwrap();
                    (Vec::new(), false)
                }
            };
            // a client that was killed hears of nothing
            let is_written = stream.write_all(&text).await.is_ok();
            let mut state = self.state.lock().unwrap();
            state
                .taken
                .extend(taken.map(|entries| Taken { entries, is_reply_lost: !goes_on || !is_written }));
            state.under_way -= 1;
            if !goes_on || !is_written {
                return;
            }
        }
    }

    /// What becomes of a request, and what the service took with it.
    async fn pass_on(&self, request: &Request) -> (Next, Option<Vec<Value>>) {
        let Some(entries) = self.service.entries(request) else {
            return (Next::Answer(self.forward(request).await), None);
        };
        let (fault, takes) = {
            let mut state = self.state.lock().unwrap();
            let fault = if state.is_paused { Some(Fault::Reset) } else { state.deck.draw(entries.len()) };
            let taken = match fault {
                Some(Fault::RefuseSome(refused)) => entries.len() - refused,
                Some(Fault::RefuseAllButOne) => 1,
                _ => entries.len(),
            };
            (fault, state.deck.choose(entries.len(), taken))
        };
        let instead = match fault {
            Some(Fault::Reset) => Some(Next::Reset),
            Some(Fault::Throttle) => Some(Next::Answer(self.service.throttled())),
            Some(Fault::Forbid) => Some(Next::Answer(self.service.forbidden())),
            Some(Fault::ServerError) => Some(Next::Answer(Reply::of(500, &[], "<html>oops</html>"))),
            Some(Fault::Misdirect) => Some(Next::Answer(self.misdirect(request).await)),
            _ => None,
        };
        if let Some(next) = instead {
            return (next, None);
        }
        let is_partial = takes.contains(&false);
        let answer = match (is_partial, takes.contains(&true)) {
            (false, _) => Some(self.forward(request).await),
            (true, true) => Some(self.forward(&self.service.keep(request, &takes)).await),
            (true, false) => None,
        };
        let is_taken = answer.as_ref().is_some_and(|answer| answer.status < 300);
        let taken = entries.into_iter().zip(&takes).filter(|(_, takes)| **takes).map(|(entry, _)| entry);
        let taken = is_taken.then(|| taken.collect());
        let answer = match answer {
            Some(answer) if !is_partial => answer,
            answer => self.service.refuse(request, &takes, answer),
        };
        (self.answer(fault, answer).await, taken)
    }

    async fn answer(&self, fault: Option<Fault>, answer: Reply) -> Next {
        match fault {
            Some(Fault::LoseReply) => Next::Break(Vec::new()),
            Some(Fault::CutReply) => {
                let mut text = answer.to_bytes();
                text.truncate(text.len() - answer.body.len().div_ceil(2).max(3));
                Next::Break(text)
            }
            Some(Fault::SlowReply) => {
                tokio::time::sleep(SLOW).await;
                Next::Answer(answer)
            }
            _ => Next::Answer(answer),
        }
    }

    /// To a place that is not there.
    async fn misdirect(&self, request: &Request) -> Reply {
        let mut astray = request.clone();
        astray.target = astray.target.replace(&self.name, "nowhere");
        if let Ok(body) = std::str::from_utf8(&request.body) {
            astray.body = body.replace(&self.name, "nowhere").into_bytes();
        }
        assert!(
            astray.target != request.target || astray.body != request.body,
            "{}: it is not named",
            self.name
        );
        self.forward(&astray).await
    }

    async fn forward(&self, request: &Request) -> Reply {
        let method = request.method.parse().unwrap();
        let mut call = self.client.request(method, format!("{}{}", self.target, request.target));
        for (name, value) in &request.headers {
            if !OF_THE_CONNECTION.contains(&name.as_str()) {
                call = call.header(name, value);
            }
        }
        let answer = call.body(request.body.clone()).send().await.unwrap();
        let status = answer.status().as_u16();
        let headers = (answer.headers().iter())
            .filter(|(name, _)| !OF_THE_CONNECTION.contains(&name.as_str()))
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        Reply { status, headers, body: answer.bytes().await.unwrap().to_vec() }
    }
}
