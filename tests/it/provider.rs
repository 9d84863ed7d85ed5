//! An OpenID provider as a child of the test (npm's `oauth2-mock-server`): discovery, keys that change, tokens of any kind.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

/// A provider that is told what to do line by line; it ends with its input.
pub(crate) struct Provider {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub(crate) issuer: String,
}

impl Provider {
    /// On a free port; `None`, with a word about it, if none is installed.
    pub(crate) fn start() -> Option<Self> {
        let program = program()?;
        let mut child = Command::new("node")
            .arg(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("node {program:?}: {error}"));
        let (orders, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut provider = Self { child, orders, answers, issuer: String::new() };
        provider.issuer = provider.ask(&json!({ "start": 0 }))["issuer"].as_str().unwrap().to_owned();
        Some(provider)
    }

    /// A token with the provider's key for `alg`, and these claims alone.
    pub(crate) fn sign(&mut self, alg: &str, claims: &Value) -> String {
        self.token(&json!({ "alg": alg, "claims": claims }))
    }

    /// The same, whose header names another key.
    pub(crate) fn sign_as(&mut self, kid: &str, claims: &Value) -> String {
        self.token(&json!({ "alg": "RS256", "kid": kid, "claims": claims }))
    }

    fn token(&mut self, order: &Value) -> String {
        self.ask(&json!({ "sign": order }))["token"].as_str().unwrap().to_owned()
    }

    /// Nobody answers any more.
    pub(crate) fn go_away(&mut self) {
        self.ask(&json!({ "stop": true }));
    }

    /// It is there again, where it was, with new keys.
    pub(crate) fn come_back(&mut self) {
        let port: u16 = self.issuer.rsplit_once(':').unwrap().1.parse().unwrap();
        assert_eq!(self.ask(&json!({ "start": port }))["issuer"], self.issuer.as_str());
    }

    fn ask(&mut self, order: &Value) -> Value {
        writeln!(self.orders, "{order}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("the provider on {order}: {error}"))
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // it may have ended by itself; either way it is to be reaped
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `make test` names it, and has installed what it needs.
fn program() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/provider");
    let is_installed = dir.join("node_modules/oauth2-mock-server").exists();
    if !is_installed && env::var_os("MUST_HAVE_PROVIDER").is_none() {
        eprintln!("skipped: nothing is installed in {}", dir.display());
        return None;
    }
    Some(dir.join("provider.mjs"))
}
