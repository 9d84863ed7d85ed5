//! Traces to a collector over TLS: who is trusted there is who is trusted elsewhere, with both protocols.

use crate::{
    certificates::Authority,
    collector::Collector,
    daemon::{Daemon, FILE_SINK, Site, TWO_BUILDINGS},
    wait::eventually,
};

#[tokio::test]
async fn grpc_over_tls() {
    over_tls("grpc").await;
}

#[tokio::test]
async fn http_over_tls() {
    over_tls("http/protobuf").await;
}

async fn over_tls(protocol: &str) {
    let authority = Authority::new("collectors");
    let collector = Collector::start_tls(&authority.issue("127.0.0.1"));
    let telemetry = collector.telemetry(&format!("otlp_protocol = \"{protocol}\""));
    let start = |trusts: &Authority| {
        let site = Site::new(&format!("{TWO_BUILDINGS}{FILE_SINK}{telemetry}"));
        let file = site.path("authorities.pem");
        std::fs::write(&file, &trusts.pem).unwrap();
        let site = site.with_variable("SSL_CERT_FILE", file.display().to_string());
        let daemon = site.start();
        (site, daemon)
    };

    // of the same name
    let (_site, daemon) = start(&Authority::new("collectors"));
    ask(&daemon).await;
    eventually("it is not trusted", async || {
        daemon.stderr().contains("the collector takes no traces").then_some(())
    })
    .await;
    drop(daemon);
    assert_eq!(collector.spans().len(), 0);

    let (_site, daemon) = start(&authority);
    let trace = ask(&daemon).await;
    eventually("the trace arrives", async || (!collector.trace(&trace).is_empty()).then_some(())).await;
    let (status, log) = daemon.stop();
    assert!(status.success() && !log.contains("the collector takes no traces"), "{log}");
}

/// The trace of a request that is refused, and so kept.
async fn ask(daemon: &Daemon) -> String {
    let answer = daemon.anyone().get("/v1/sinks").await;
    answer.expect(401);
    answer.header("traceparent").split('-').nth(1).unwrap().to_owned()
}
