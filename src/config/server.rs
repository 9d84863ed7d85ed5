//! `[server]`: who this server is and where it listens and writes.

use std::{net::SocketAddr, path::PathBuf};

use super::{
    limits::{DEFAULT_DATA_DIR, DEFAULT_LISTEN},
    reader::TableReader,
};

/// The validated section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Unique among all servers; part of every event.
    pub id: String,
    /// Where turnstiles and people connect.
    pub listen: SocketAddr,
    /// The log and everything else durable; locked by one process.
    pub data_dir: PathBuf,
}

pub(super) fn read(mut table: TableReader<'_>) -> Option<ServerConfig> {
    let id = table.required("id").and_then(|value| value.id());
    let listen = match table.optional("listen") {
        Some(value) => value.parsed(parse_listen, "write an address and a port, such as \"127.0.0.1:8080\""),
        None => parse_listen(DEFAULT_LISTEN).ok(),
    };
    let data_dir = match table.optional("data_dir") {
        Some(value) => value.path(),
        None => Some(table.document.base_dir().join(DEFAULT_DATA_DIR)),
    };
    table.finish();
    Some(ServerConfig { id: id?, listen: listen?, data_dir: data_dir? })
}

fn parse_listen(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "is no address to listen on")
}
