//! The addresses where requests are answered: `listen`, and `admin_listen` if there is one. Each is a server of its own
//! before the same services.

use std::{
    net::{SocketAddr, TcpListener},
    num::NonZero,
    sync::Arc,
    thread,
    time::Duration,
};

use actix_web::{App as HttpApp, HttpServer, dev::ServerHandle, middleware::from_fn, web::Data};
use tokio::task::JoinHandle;

use super::{StartError, listen};
use crate::{
    clock,
    config::server::{ServerConfig, is_exposed},
    domain::time::Timestamp,
    http::{
        Services, answers,
        routes::{self, Answers},
        tls::{Certificates, Looked, Tls, TlsError, TlsFiles},
    },
    metrics::Metrics,
};

/// How long an idle connection of a turnstile is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a client may take to send its headers.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to agree on a TLS connection.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stop waits for requests under way.
const SHUTDOWN_TIMEOUT_SECONDS: u64 = 5;
/// Connections at once, for each worker; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 10_000;
/// Connections at once at `admin_listen`; more wait in the kernel's queue.
const MAX_ADMIN_CONNECTIONS: usize = 256;
/// How often to look whether certificates were replaced. They are used when they have stayed the same for one look.
const LOOK_AT_CERTIFICATES_EVERY: Duration = Duration::from_secs(2);

/// Addresses that are taken, not answered yet.
#[derive(Debug)]
pub(super) struct Listeners {
    main: TcpListener,
    admin: Option<TcpListener>,
    pub(super) address: SocketAddr,
    pub(super) admin_address: Option<SocketAddr>,
}

/// What answers requests.
#[derive(Debug)]
pub(super) struct HttpSide {
    servers: Vec<ServerHandle>,
    certificates: Option<JoinHandle<()>>,
}

impl Listeners {
    pub(super) fn bind(server: &ServerConfig) -> Result<Self, StartError> {
        let bind = |listen: SocketAddr| {
            let failed = |source| StartError::Listen { listen, source };
            let listener = listen::bind(listen).map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            Ok::<_, StartError>((listener, address))
        };
        let (main, address) = bind(server.listen)?;
        let (admin, admin_address) = server.admin_listen.map(bind).transpose()?.unzip();
        Ok(Self { main, admin, address, admin_address })
    }
}

impl HttpSide {
    /// Answers from now on.
    pub(super) fn start(
        listeners: Listeners,
        services: &Data<Services>,
        tls: Option<Arc<Tls>>,
    ) -> Result<Self, StartError> {
        let Listeners { main, admin, address, admin_address } = listeners;
        let workers = thread::available_parallelism().map_or(2, NonZero::get);
        let everything = if admin.is_some() { Answers::Listen } else { Answers::Everything };
        let main =
            Address { answers: everything, workers, max_connections: MAX_CONNECTIONS, tls: tls.as_deref() }
                .serve(main, address, services)?;
        let mut servers = vec![main];
        if let Some((listener, address)) = admin.zip(admin_address) {
            // on loopback nobody listens in
            let tls = tls.as_deref().filter(|_| is_exposed(address));
            let admin = Address {
                answers: Answers::AdminListen,
                workers: 1,
                max_connections: MAX_ADMIN_CONNECTIONS,
                tls,
            };
            servers.push(admin.serve(listener, address, services)?);
        }
        let metrics = services.metrics.clone();
        let certificates = tls.map(|tls| actix::spawn(watch(tls, metrics)));
        Ok(Self { servers, certificates })
    }

    /// Stops accepting; returns when requests under way are answered.
    pub(super) async fn stop(self) {
        if let Some(watch) = self.certificates {
            watch.abort();
        }
        futures_util::future::join_all(self.servers.iter().map(|server| server.stop(true))).await;
    }
}

/// How one address is served.
struct Address<'a> {
    answers: Answers,
    workers: usize,
    max_connections: usize,
    tls: Option<&'a Tls>,
}

impl Address<'_> {
    fn serve(
        self,
        listener: TcpListener,
        listen: SocketAddr,
        services: &Data<Services>,
    ) -> Result<ServerHandle, StartError> {
        let (answers, services) = (self.answers, services.clone());
        let app = move || {
            HttpApp::new()
                .app_data(services.clone())
                .wrap(from_fn(answers::answer))
                .configure(|config| routes::configure(config, answers))
        };
        let server = HttpServer::new(app)
            .workers(self.workers)
            .max_connections(self.max_connections)
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(HEADERS_TIMEOUT)
            .tls_handshake_timeout(HANDSHAKE_TIMEOUT)
            .shutdown_timeout(SHUTDOWN_TIMEOUT_SECONDS)
            .disable_signals();
        let listening = match self.tls {
            Some(tls) => server.listen_rustls_0_23(listener, tls.server_config()?),
            None => server.listen(listener),
        };
        let server = listening.map_err(|source| StartError::Listen { listen, source })?.run();
        let handle = server.handle();
        actix::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the HTTP server ended; stopping, the service manager starts it again");
                std::process::exit(1);
            }
        });
        Ok(handle)
    }
}

/// The certificates that the configuration names.
pub(super) fn tls_files(server: &ServerConfig) -> Option<TlsFiles> {
    let tls = server.tls.clone()?;
    Some(TlsFiles { cert: tls.cert, key: tls.key, client_ca: tls.client_ca })
}

/// Whether the certificates that the configuration names can be used.
///
/// # Errors
/// Why not.
pub fn check_certificates(server: &ServerConfig) -> Result<(), TlsError> {
    tls_files(server).map_or(Ok(()), |files| Certificates::read(files).map(drop))
}

/// Says until when the server's certificate is good, and that it is no longer.
pub(super) fn note_certificate(tls: &Tls, metrics: &Metrics) {
    let Some(seconds) = tls.not_after_seconds() else { return };
    metrics.tls_not_after.with_label_values::<&str>(&[]).set(seconds);
    let end = Timestamp::from_millis(seconds.saturating_mul(1_000));
    if end < clock::wall() {
        tracing::error!(%end, "the server's certificate has ended: devices that check it cannot connect; replace it, the files are looked at by themselves");
    }
}

async fn watch(tls: Arc<Tls>, metrics: Metrics) {
    note_certificate(&tls, &metrics);
    loop {
        tokio::time::sleep(LOOK_AT_CERTIFICATES_EVERY).await;
        let looked = Arc::clone(&tls);
        // apart: it waits for a disk
        match tokio::task::spawn_blocking(move || looked.look()).await {
            Ok(Looked::Same) => {}
            Ok(Looked::Taken) => {
                note_certificate(&tls, &metrics);
                tracing::info!("the certificates have changed and are used");
            }
            Ok(Looked::Refused(error)) => {
                tracing::error!(%error, "the certificates have changed and cannot be used; the old ones stay");
            }
            Err(error) => tracing::error!(%error, "the certificates cannot be looked at"),
        }
    }
}
