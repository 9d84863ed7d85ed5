//! Certificates and keys from their files.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};

use super::{TlsError, TlsFiles, not_after::not_after_seconds, provider};

/// Larger files are not read: no chain of certificates and no list of authorities of a turnstile is.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// What the files hold.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) key: Arc<CertifiedKey>,
    /// Who says which clients are let in; `None`: everyone is.
    pub(super) clients: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) not_after_seconds: Option<i64>,
}

/// What tells a replaced file from the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identities(Vec<Option<(u64, u64, i64, i64)>>);

impl Loaded {
    pub(super) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let TlsFiles { cert, key, client_ca } = files;
        let chain = certificates(cert)?;
        let not_after_seconds = chain.first().and_then(|certificate| not_after_seconds(certificate));
        let private = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|error| content(key, format!("holds no private key in PEM: {error}")))?;
        let pair = CertifiedKey::from_der(chain, private, &provider());
        let pair = pair.map_err(|source| {
            let (cert, key) = (cert.clone(), key.clone());
            TlsError::Pair { cert, key, source }
        })?;
        let clients = client_ca.as_deref().map(verifier).transpose()?;
        Ok(Self { key: Arc::new(pair), clients, not_after_seconds })
    }
}

impl Identities {
    pub(super) fn of(files: &TlsFiles) -> Self {
        let paths = [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()];
        let identity = |path: &Path| {
            let found = fs::metadata(path).ok()?;
            Some((found.ino(), found.len(), found.ctime(), found.ctime_nsec()))
        };
        Self(paths.into_iter().flatten().map(|path| identity(path)).collect())
    }
}

/// Only clients with a certificate of these authorities.
fn verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| content(path, format!("holds no authority: {error}")))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| content(path, format!("cannot be asked who clients are: {error}")))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| content(path, format!("is no PEM: {error}")))?;
    if found.is_empty() {
        return Err(content(path, "holds no certificate in PEM".to_owned()));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_PEM_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_PEM_BYTES) {
        Ok(bytes)
    } else {
        Err(content(path, format!("is larger than {MAX_PEM_BYTES} bytes")))
    }
}

fn content(path: &Path, detail: String) -> TlsError {
    TlsError::Content { path: path.to_owned(), detail }
}
