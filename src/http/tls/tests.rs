use std::fs;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;

/// 2031-05-06.
const END_SECONDS: i64 = 1_935_792_000;

fn write_pair(dir: &TempDir, cert: &str, key: &str) -> String {
    let pair = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["gate.hq.example".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2031, 5, 6);
    fs::write(dir.path().join(cert), params.self_signed(&pair).unwrap().pem()).unwrap();
    fs::write(dir.path().join(key), pair.serialize_pem()).unwrap();
    pair.serialize_pem()
}

fn files(dir: &TempDir) -> TlsFiles {
    TlsFiles { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem"), client_ca: None }
}

#[test]
fn a_pair_is_used_and_says_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(&dir, "cert.pem", "key.pem");
    let tls = Tls::open(files(&dir)).unwrap();
    assert_eq!(tls.not_after_seconds(), Some(END_SECONDS));
    let config = tls.server_config().unwrap();
    assert!(!config.session_storage.can_cache() && config.send_tls13_tickets == 0);
    let with_clients = TlsFiles { client_ca: Some(dir.path().join("cert.pem")), ..files(&dir) };
    assert!(tls.in_use.get().clients.is_none());
    tls.take(Certificates::read(with_clients).unwrap());
    assert!(tls.in_use.get().clients.is_some());
}

#[test]
fn replaced_files_are_used_when_they_have_settled_and_fit_together() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(&dir, "cert.pem", "key.pem");
    let tls = Tls::open(files(&dir)).unwrap();
    let first = tls.in_use.get();
    assert!(matches!(tls.look(), Looked::Same));
    write_pair(&dir, "cert.pem", "other-key.pem");
    assert!(matches!(tls.look(), Looked::Same), "it may change again");
    let refused = tls.look();
    assert!(matches!(refused, Looked::Refused(TlsError::Pair { .. })), "{refused:?}");
    assert!(matches!(tls.look(), Looked::Same), "said once");
    assert!(Arc::ptr_eq(&tls.in_use.get(), &first));
    fs::rename(dir.path().join("other-key.pem"), dir.path().join("key.pem")).unwrap();
    assert!(matches!(tls.look(), Looked::Same));
    assert!(matches!(tls.look(), Looked::Taken));
    assert!(!Arc::ptr_eq(&tls.in_use.get(), &first));
    fs::remove_file(dir.path().join("cert.pem")).unwrap();
    assert!(matches!(tls.look(), Looked::Same));
    assert!(matches!(tls.look(), Looked::Refused(TlsError::File { .. })));
}

#[test]
fn what_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let key = write_pair(&dir, "cert.pem", "key.pem");
    let error = |file: &str, text: &str| {
        let before = fs::read(dir.path().join(file)).unwrap_or_default();
        fs::write(dir.path().join(file), text).unwrap();
        let ca = (file == "ca.pem").then(|| dir.path().join("ca.pem"));
        let error = Certificates::read(TlsFiles { client_ca: ca, ..files(&dir) }).unwrap_err().to_string();
        fs::write(dir.path().join(file), before).unwrap();
        assert!(error.contains(file), "{error}");
        error
    };
    assert!(error("cert.pem", "").contains("holds no certificate"));
    assert!(error("cert.pem", &key).contains("holds no certificate"));
    assert!(error("key.pem", "-----BEGIN").contains("holds no private key"));
    assert!(
        error("key.pem", &KeyPair::generate().unwrap().serialize_pem()).contains("cannot be used together")
    );
    assert!(error("ca.pem", "").contains("holds no certificate"));
    assert!(error("ca.pem", &"x".repeat(2 << 20)).contains("larger than"));
}
