//! A TCP proxy of the tests' own between the daemon and the emulator, which takes AWS away and brings it back.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

const BUFFER_BYTES: usize = 64 * 1024;

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Both ways.
    Forward,
    /// Requests go through, every reply is lost: the connection is cut when it begins.
    LoseReplies,
    /// Nobody listens; connections that are open are cut.
    Refuse,
    /// Connections are taken, and reset at the first byte.
    Reset,
}

/// Lives as long as the test's runtime.
pub(crate) struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    lost_replies: Arc<AtomicUsize>,
}

impl Proxy {
    /// To `target`, a URL's host and port.
    pub(crate) async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, seen) = watch::channel(Mode::Forward);
        let lost_replies = Arc::new(AtomicUsize::new(0));
        let target: SocketAddr = target.trim_start_matches("http://").parse().unwrap();
        tokio::spawn(accept(listener, target, seen, Arc::clone(&lost_replies)));
        Self { address, mode, lost_replies }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on; connections of the former mode are cut.
    pub(crate) fn switch(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many requests were sent on and cut off before their answer was complete.
    pub(crate) fn lost_replies(&self) -> usize {
        self.lost_replies.load(Relaxed)
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    mut mode: watch::Receiver<Mode>,
    lost_replies: Arc<AtomicUsize>,
) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    loop {
        let now = *mode.borrow_and_update();
        if now == Mode::Refuse {
            listener = None;
            if mode.changed().await.is_err() {
                return;
            }
            continue;
        }
        let open = match listener.take() {
            Some(open) => open,
            None => TcpListener::bind(address).await.unwrap(),
        };
        tokio::select! {
            accepted = open.accept() => {
                let (client, _) = accepted.unwrap();
                let mode = mode.clone();
                match now {
                    Mode::Forward | Mode::LoseReplies => drop(tokio::spawn(forward(client, target, now, mode, Arc::clone(&lost_replies)))),
                    Mode::Refuse | Mode::Reset => drop(tokio::spawn(reset(client))),
                }
            }
            changed = mode.changed() => if changed.is_err() { return },
        }
        listener = Some(open);
    }
}

/// Closing a socket with unread bytes makes the system send a reset.
async fn reset(client: TcpStream) {
    let _ = client.readable().await;
}

async fn forward(
    mut client: TcpStream,
    target: SocketAddr,
    accepted_in: Mode,
    mut mode: watch::Receiver<Mode>,
    lost_replies: Arc<AtomicUsize>,
) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let loses_replies = accepted_in == Mode::LoseReplies;
    let (mut from_client, mut from_server) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    let mut is_waiting = false;
    loop {
        tokio::select! {
            // also what changed since it was accepted cuts it, before another byte goes through
            biased;
            _ = mode.changed() => break,
            read = client.read(&mut from_client) => match read {
                Ok(bytes) if bytes > 0 => {
                    is_waiting = true;
                    if server.write_all(&from_client[..bytes]).await.is_err() { break }
                }
                _ => break,
            },
            read = server.read(&mut from_server) => match read {
                Ok(bytes) if bytes > 0 && !loses_replies => {
                    if client.write_all(&from_server[..bytes]).await.is_err() { break }
                    is_waiting = false;
                }
                _ => break,
            },
        }
    }
    if is_waiting {
        lost_replies.fetch_add(1, Relaxed);
    }
}
