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
    /// The log and everything else durable; locked by one process.
    pub data_dir: PathBuf,
    /// The names that requests may call the server by; `None`: any.
    pub hosts: Option<Vec<HostName>>,
    /// Requests per second of each device at most; `None`: no cap.
    pub rate_limit: Option<NonZeroU32>,
}

pub(super) fn read(mut table: TableReader<'_>) -> Option<ServerConfig> {
    let id = table.required("id").and_then(|value| value.id());
    let is_plain_allowed = table.optional("allow_plain_http").and_then(|value| value.boolean());
    let listen = match table.optional("listen") {
        Some(value) => read_listen(&value, is_plain_allowed.unwrap_or(false)),
        None => parse_listen(DEFAULT_LISTEN).ok(),
    };
    let data_dir = match table.optional("data_dir") {
        Some(value) => value.path(),
        None => Some(table.document.base_dir().join(DEFAULT_DATA_DIR)),
    };
    let hosts = table.optional("hosts").and_then(|value| read_hosts(&value));
    let rate = table.optional("rate_limit").and_then(|value| value.integer(DEVICE_RATE_PER_SECOND));
    table.finish();
    let rate_limit = rate.and_then(|rate| NonZeroU32::new(u32::try_from(rate).ok()?));
    Some(ServerConfig { id: id?, listen: listen?, data_dir: data_dir?, hosts, rate_limit })
}

/// Whether others than this machine can connect there.
#[must_use]
pub fn is_exposed(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

fn read_listen(value: &Value<'_>, is_plain_allowed: bool) -> Option<SocketAddr> {
    let hint = "write an address and a port, such as \"127.0.0.1:8080\"";
    let address = value.parsed(parse_listen, hint)?;
    if is_exposed(address) && !is_plain_allowed {
        let problem = format!(
            "{address} is not loopback, and with plain HTTP everyone on the way reads keys and tokens"
        );
        let hint = "say `allow_plain_http = true` if something in front of it does TLS";
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
