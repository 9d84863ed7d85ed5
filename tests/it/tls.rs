//! TLS, client certificates, and certificates that change while the daemon runs.

use std::{net::SocketAddr, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    certificates::{Authority, Pair},
    daemon::{Daemon, FILE_SINK, Site, TWO_BUILDINGS},
    wait::{LIMIT, eventually},
};

/// What the server calls itself in its certificates.
const NAME: &str = "gate.hq.example";
const LISTEN: &str = "listen = \"127.0.0.1:0\"";
const TLS: &str = r#"tls = { cert = "server.pem", key = "server.key" }"#;
const MUTUAL: &str = r#"tls = { cert = "server.pem", key = "server.key", client_ca = "clients.pem" }"#;
const EXIT: &str = r#"{"card_id": "C1", "gate_id": "north-1"}"#;

fn config(tls: &str) -> String {
    format!("{TWO_BUILDINGS}{FILE_SINK}").replace(LISTEN, &format!("{LISTEN}\n{tls}"))
}

/// A turnstile that trusts an authority, possibly with a certificate of its own.
struct Client {
    address: SocketAddr,
    connector: TlsConnector,
}

/// What came back, and whose certificate the server showed.
struct Answer {
    text: String,
    server: CertificateDer<'static>,
    protocol: Option<Vec<u8>>,
}

impl Answer {
    fn status(&self) -> u16 {
        self.text.split(' ').nth(1).unwrap_or_else(|| panic!("{}", self.text)).parse().unwrap()
    }
}

impl Client {
    fn new(daemon: &Daemon, trusts: &Authority, own: Option<&Pair>) -> Self {
        Self::with(daemon, trusts, own, &TLS13)
    }

    fn with(
        daemon: &Daemon,
        trusts: &Authority,
        own: Option<&Pair>,
        version: &'static SupportedProtocolVersion,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusts.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            Some(own) => builder.with_client_auth_cert(vec![own.certificate()], own.private_key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let address = daemon.base_url().trim_start_matches("http://").parse().unwrap();
        Self { address, connector: TlsConnector::from(Arc::new(config)) }
    }

    /// One request on a connection of its own; an error if the server does not talk to this client.
    async fn send(&self, request: &str, key: &str, body: &str) -> std::io::Result<Answer> {
        let request = format!(
            "{request} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\nX-Api-Key: {key}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let exchange = async {
            let stream = TcpStream::connect(self.address).await?;
            let name = ServerName::try_from(NAME).unwrap();
            let mut stream = self.connector.connect(name, stream).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            let connection = stream.get_ref().1;
            let server = connection.peer_certificates().unwrap()[0].clone().into_owned();
            let protocol = connection.alpn_protocol().map(<[u8]>::to_vec);
            Ok(Answer { text, server, protocol })
        };
        timeout(LIMIT, exchange).await.unwrap()
    }

    async fn leave(&self, key: &str) -> std::io::Result<Answer> {
        self.send("POST /v1/buildings/hq/exits", key, EXIT).await
    }
}

async fn not_after(daemon: &Daemon, client: &Client) -> i64 {
    let text = client.send("GET /metrics", "", "").await.unwrap().text;
    let line = text.lines().find_map(|line| line.strip_prefix("turnstiled_tls_not_after_timestamp_seconds "));
    assert!(line.is_some(), "{}", daemon.stderr());
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn devices_speak_tls_1_2_and_1_3_and_nothing_else() {
    let (authority, site) = (Authority::new("servers"), Site::new(&config(TLS)));
    authority.issue(NAME).write(&site);
    let key = site.key("hq");
    site.run_well(&["check"]);
    let daemon = site.start();
    for version in [&TLS13, &TLS12] {
        let answer = Client::with(&daemon, &authority, None, version).leave(&key).await.unwrap();
        assert_eq!(
            (answer.status(), answer.protocol.as_deref()),
            (202, Some(&b"http/1.1"[..])),
            "{}",
            answer.text
        );
    }
    assert!(Client::new(&daemon, &Authority::new("others"), None).leave(&key).await.is_err());
    assert_eq!(not_after(&daemon, &Client::new(&daemon, &authority, None)).await, 1_935_792_000);
    // whoever speaks plain HTTP there is not answered
    let plain = daemon.device(&key).try_post("/v1/buildings/hq/exits", &serde_json::json!({})).await;
    assert!(plain.is_err(), "{plain:?}");
    let (status, _) = daemon.stop();
    assert!(status.success());
    assert_eq!(site.dump().iter().filter(|event| event["type"] == "access.exit.recorded").count(), 2);
}

#[tokio::test]
async fn with_client_ca_a_certificate_and_a_key_are_needed() {
    let (authority, clients) = (Authority::new("servers"), Authority::new("turnstiles"));
    let site = Site::new(&config(MUTUAL));
    authority.issue(NAME).write(&site);
    std::fs::write(site.path("clients.pem"), &clients.pem).unwrap();
    let key = site.key("hq");
    let daemon = site.start();
    let own = clients.issue("north-1");
    for version in [&TLS13, &TLS12] {
        let with = |own| Client::with(&daemon, &authority, own, version);
        assert_eq!(with(Some(&own)).leave(&key).await.unwrap().status(), 202);
        assert_eq!(with(Some(&own)).leave("").await.unwrap().status(), 401);
        assert!(with(None).leave(&key).await.is_err(), "no certificate");
        let foreign = Authority::new("turnstiles").issue("north-1");
        assert!(with(Some(&foreign)).leave(&key).await.is_err(), "another authority of the same name");
        assert!(with(None).send("GET /healthz", "", "").await.is_err(), "every connection");
    }
}

#[tokio::test]
async fn certificates_change_while_the_daemon_runs() {
    let (authority, old_clients, new_clients) =
        (Authority::new("servers"), Authority::new("old"), Authority::new("new"));
    let site = Site::new(&config(MUTUAL));
    let first = authority.issue(NAME);
    first.write(&site);
    std::fs::write(site.path("clients.pem"), &old_clients.pem).unwrap();
    let key = site.key("hq");
    let daemon = site.start();
    let (old, new) = (old_clients.issue("north-1"), new_clients.issue("north-1"));
    let old_client = Client::new(&daemon, &authority, Some(&old));
    assert_eq!(old_client.leave(&key).await.unwrap().server, first.certificate());

    // the files are replaced: taken without being told
    let second = authority.issue(NAME);
    second.write(&site);
    let served =
        async || (old_client.leave(&key).await.unwrap().server == second.certificate()).then_some(());
    eventually("the second certificate", served).await;

    // a key that is another's: the pair before stays, by itself and by a signal
    std::fs::write(site.path("server.key"), &first.key).unwrap();
    let said =
        async || daemon.stderr().contains("certificates have changed and cannot be used").then_some(());
    eventually("the pair is refused", said).await;
    daemon.signal("HUP");
    let said = async || daemon.stderr().contains("the configuration is refused").then_some(());
    eventually("the reload is refused", said).await;
    assert_eq!(old_client.leave(&key).await.unwrap().server, second.certificate());

    // a new authority of clients, by a signal
    second.write(&site);
    std::fs::write(site.path("clients.pem"), &new_clients.pem).unwrap();
    daemon.signal("HUP");
    let new_client = Client::new(&daemon, &authority, Some(&new));
    eventually("the new authority", async || new_client.leave(&key).await.is_ok().then_some(())).await;
    assert!(old_client.leave(&key).await.is_err());
    let (status, log) = daemon.stop();
    assert!(status.success() && !log.contains("PRIVATE KEY"));
}

#[test]
fn certificates_that_cannot_be_used_are_refused_at_the_start_and_by_check() {
    let site = Site::new(&config(TLS));
    let checked = site.run(&["check"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8(checked.stderr).unwrap().contains("server.pem cannot be read"));
    let Err(refused) = site.try_start() else { panic!("it started") };
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("server.pem cannot be read"), "{}", refused.stderr);
}
