//! The HTTP client of this program's own requests, with TLS by rustls and the system's certificates.

use std::{error::Error as _, sync::OnceLock};

use reqwest::{Client, ClientBuilder};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// A client to be built. Machines without certificates have one, too: for `http://`. The certificates are those of the
/// first call.
///
/// # Errors
/// rustls' own, if its cipher suites do not go together.
pub fn builder() -> Result<ClientBuilder, rustls::Error> {
    static TLS: OnceLock<Result<ClientConfig, rustls::Error>> = OnceLock::new();
    let tls = TLS.get_or_init(with_system_certificates).clone()?;
    Ok(Client::builder().tls_backend_preconfigured(tls))
}

fn with_system_certificates() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// An error and everything that led to it.
#[must_use]
pub fn with_cause(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
