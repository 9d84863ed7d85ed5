//! `[server]`: who this server is, where it listens and writes, and who may come in.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf};

use super::{
    limits::{DEFAULT_DATA_DIR, DEFAULT_LISTEN, DEVICE_RATE_PER_SECOND, MAX_HOSTS},
    reader::TableReader,
    value::Value,
};
use crate::domain::hosts::HostName;

/// The validated section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Unique among all servers; part of every event.
    pub id: String,
    /// Where turnstiles and people connect.
    pub listen: SocketAddr,
    /// Where `/metrics` and what only admins may ask for is answered, and nowhere else; `None`: at `listen`, too.
    pub admin_listen: Option<SocketAddr>,
    /// Certificates; `None`: plain HTTP.
    pub tls: Option<TlsConfig>,
    /// The log and everything else durable; locked by one process.
    pub data_dir: PathBuf,
    /// The names that requests may call the server by; `None`: any.
    pub hosts: Option<Vec<HostName>>,
    /// Requests per second of each device at most; `None`: no cap.
    pub rate_limit: Option<NonZeroU32>,
}

/// Files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The server's certificate, and those between it and its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of clients; without it clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

pub(super) fn read(mut table: TableReader<'_>) -> Option<ServerConfig> {
    let id = table.required("id").and_then(|value| value.id());
    let is_plain_allowed = table.optional("allow_plain_http").and_then(|value| value.boolean());
    let tls = table.optional("tls");
    let may_be_exposed = tls.is_some() || is_plain_allowed == Some(true);
    let tls = tls.map(|value| value.table().and_then(read_tls));
    let listen = match table.optional("listen") {
        Some(value) => read_listen(&value, may_be_exposed),
        None => parse_listen(DEFAULT_LISTEN).ok(),
    };
    let admin = table.optional("admin_listen");
    let admin_listen = admin.as_ref().and_then(|value| read_listen(value, may_be_exposed));
    if let Some((value, address)) = admin.zip(admin_listen)
        && Some(address) == listen
        && address.port() != 0
    {
        value.error(format!("{address} is `listen` already"), Some("give it another port".to_owned()));
    }
    let data_dir = match table.optional("data_dir") {
        Some(value) => value.path(),
        None => Some(table.document.base_dir().join(DEFAULT_DATA_DIR)),
    };
    let hosts = table.optional("hosts").and_then(|value| read_hosts(&value));
    let rate = table.optional("rate_limit").and_then(|value| value.integer(DEVICE_RATE_PER_SECOND));
    table.finish();
    let rate_limit = rate.and_then(|rate| NonZeroU32::new(u32::try_from(rate).ok()?));
    let tls = match tls {
        Some(tls) => Some(tls?),
        None => None,
    };
    Some(ServerConfig { id: id?, listen: listen?, admin_listen, tls, data_dir: data_dir?, hosts, rate_limit })
}

impl ServerConfig {
    /// The first address that others than this machine can connect to.
    #[must_use]
    pub fn exposed(&self) -> Option<SocketAddr> {
        [Some(self.listen), self.admin_listen].into_iter().flatten().find(|address| is_exposed(*address))
    }
}

/// Whether others than this machine can connect there.
#[must_use]
pub fn is_exposed(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

fn read_tls(mut table: TableReader<'_>) -> Option<TlsConfig> {
    let cert = table.required("cert").and_then(|value| value.path());
    let key = table.required("key").and_then(|value| value.path());
    let client_ca = table.optional("client_ca").map(|value| value.path());
    table.finish();
    let client_ca = match client_ca {
        Some(path) => Some(path?),
        None => None,
    };
    Some(TlsConfig { cert: cert?, key: key?, client_ca })
}

fn read_listen(value: &Value<'_>, may_be_exposed: bool) -> Option<SocketAddr> {
    let hint = "write an address and a port, such as \"127.0.0.1:8080\"";
    let address = value.parsed(parse_listen, hint)?;
    if is_exposed(address) && !may_be_exposed {
        let problem = format!(
            "{address} is not loopback, and with plain HTTP everyone on the way reads keys and tokens"
        );
        let hint = "set `tls`, or say `allow_plain_http = true` if something in front of it does TLS";
        value.error(problem, Some(hint.to_owned()));
    }
    Some(address)
}

fn parse_listen(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "is no address to listen on")
}

fn read_hosts(value: &Value<'_>) -> Option<Vec<HostName>> {
    let entries = value.list(MAX_HOSTS)?;
    if entries.is_empty() {
        value.error(
            "names no host: every request would be refused",
            Some("leave it out to accept any".to_owned()),
        );
    }
    let hint = "write names such as \"gate.hq.example\", possibly with a port";
    entries.iter().map(|entry| entry.parsed(HostName::parse, hint)).collect()
}
