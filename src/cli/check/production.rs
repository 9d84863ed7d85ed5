//! What is right on a desk and bites in a basement: `turnstiled check` says so before it does.

use std::net::SocketAddr;

use crate::{
    config::{Config, auth::JwtConfig, sinks::SinkKind},
    domain::hosts::HostName,
};

/// What to reconsider before gates depend on it. A server that listens on loopback only and sends nothing to AWS is
/// somebody's trial, and has nothing to hear.
pub(super) fn warnings(config: &Config) -> Vec<&'static str> {
    let is_on_the_lan = !config.server.listen.ip().is_loopback();
    let sends_to_aws = config.sinks.iter().any(|sink| is_aws(&sink.kind));
    let findings = [
        (
            is_on_the_lan && config.server.tls.is_none(),
            "[server] listen: plain HTTP beyond this machine: whoever listens on the LAN reads keys and cards; set tls, \
             unless something in front of it does TLS",
        ),
        (
            (is_on_the_lan || sends_to_aws) && config.auth.jwt == Some(JwtConfig::Local),
            "[auth] jwt = { local = true }: whoever may read data_dir can make tokens of every role, and nobody can end \
             one before its time; name an OpenID provider",
        ),
        (
            sends_to_aws && config.letter_queue.is_none(),
            "[dead_letters] queue_url is not set: what a service refuses is kept on this machine only, where nobody may \
             look",
        ),
        (
            config.server.admin_listen.is_some_and(|address| !accepts(&config.server.hosts, address)),
            "[server] hosts: requests to admin_listen by its address get 421, those of Prometheus and of the collector \
             above all; add the address to hosts, or let them ask by a name",
        ),
    ];
    findings.into_iter().filter(|(applies, _)| *applies).map(|(_, what)| what).collect()
}

/// Whether requests that call the server by this address are meant.
fn accepts(hosts: &Option<Vec<HostName>>, address: SocketAddr) -> bool {
    let Some(hosts) = hosts else { return true };
    let host = HostName::parse(&address.to_string());
    // of all addresses, some is told by no configuration
    address.ip().is_unspecified()
        || host.is_ok_and(|host| hosts.iter().any(|accepted| accepted.accepts(&host)))
}

fn is_aws(kind: &SinkKind) -> bool {
    !matches!(kind, SinkKind::File { .. } | SinkKind::Stdout | SinkKind::Http { .. })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::EMBEDDED;

    fn warned(edits: &[(&str, &str)]) -> Vec<&'static str> {
        let text = edits.iter().fold(EMBEDDED.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        });
        let config = Config::parse(&text, Path::new("routes.toml"), &|_| None).unwrap();
        warnings(&config).into_iter().map(|warning| warning.split([':', ' ']).next().unwrap()).collect()
    }

    #[test]
    fn what_bites_in_production_is_warned_of() {
        const LISTEN: &str = "listen = \"127.0.0.1:8080\"";
        const OPEN: &str = "listen = \"0.0.0.0:8080\"\nallow_plain_http = true\nhosts = [\"gate.example\"]";
        const PROVIDER: &str = "jwt = { issuer = \"https://id.example\", audience = \"turnstiled\" }";
        const SINK: &str = "[sinks.exits]";
        const QUEUE: &str = "[sinks.queue]\ntype = \"sqs\"\nqueue_url = \"https://sqs.eu-central-1.amazonaws.com/000000000000/q\"\n\n[sinks.exits]";
        const LETTERS: &str = "[dead_letters]\nqueue_url = \"https://sqs.eu-central-1.amazonaws.com/000000000000/dlq\"\n\n[[tests]]";
        assert_eq!(warned(&[]), [""; 0], "a trial");
        assert_eq!(warned(&[(LISTEN, OPEN), ("jwt = { local = true }", PROVIDER)]), ["[server]"]);
        const HOSTS: &str =
            "listen = \"127.0.0.1:8080\"\nadmin_listen = \"127.0.0.1:9090\"\nhosts = [\"gate.example\"]";
        assert_eq!(warned(&[(LISTEN, HOSTS)]), ["[server]"]);
        assert_eq!(warned(&[(LISTEN, &HOSTS.replace("example\"", "example\", \"127.0.0.1\""))]), [""; 0]);
        let queue = [(SINK, QUEUE)];
        assert_eq!(warned(&queue), ["[auth]", "[dead_letters]"]);
        let with_provider = [queue[0], ("jwt = { local = true }", PROVIDER)];
        assert_eq!(warned(&with_provider), ["[dead_letters]"]);
        assert_eq!(warned(&[with_provider[0], with_provider[1], ("[[tests]]", LETTERS)]), [""; 0]);
    }
}
