//! What an operator sees of a sink that waits for them, and of one that waits for its service: in the log, in the
//! metrics and in `/v1/sinks`.

use serde_json::json;

use crate::{
    aws::{location, s3_client},
    daemon::{Daemon, Site, TWO_BUILDINGS},
    http::Caller,
    moto::Moto,
    proxy::{Mode, Proxy},
    replay::leave,
    sinks::{settled, sinks_by_name},
    wait::eventually,
};

const ARCHIVE: &str = r#"
[sinks.archive]
type = "s3"
bucket = "later"
format = "ndjson"
max_age = "1s"

[[routes]]
name = "all"
types = ["**"]
to = ["archive"]
"#;

fn lines(daemon: &Daemon, level: &str, text: &str) -> Vec<String> {
    let stderr = daemon.stderr();
    stderr.lines().filter(|line| line.contains(level) && line.contains(text)).map(str::to_owned).collect()
}

async fn held_metric(daemon: &Daemon, held: u8) {
    let line = format!("turnstiled_sink_held{{sink=\"archive\"}} {held}");
    eventually("the metric says so", async || {
        daemon.anyone().get("/metrics").await.body.contains(&line).then_some(())
    })
    .await;
}

async fn until(admin: &Caller, state: &str, held: bool) -> String {
    eventually("the sink shows it", async || {
        let archive = sinks_by_name(admin).await["archive"].clone();
        let is_so = archive["state"] == state && archive["held"] == held;
        is_so.then(|| archive["last_error"]["code"].as_str().unwrap_or_default().to_owned())
    })
    .await
}

#[tokio::test]
async fn a_held_sink_and_an_outage_reach_the_log_and_are_told_apart() {
    let Some(moto) = Moto::start() else { return };
    let proxy = Proxy::start(&moto.endpoint_url()).await;
    let site = Site::new(&format!("{TWO_BUILDINGS}{ARCHIVE}")).with_aws_at(proxy.url());
    let daemon = site.start();
    let admin = daemon.person(&site.token("admin"));
    leave(&site, &daemon, 3).await;
    assert_eq!(until(&admin, "open", true).await, "NoSuchBucket");
    held_metric(&daemon, 1).await;
    let said = lines(&daemon, "ERROR", "the sink is held");
    assert_eq!(said.len(), 1, "{said:?}");
    for part in ["archive", "NoSuchBucket", "does not exist", "create it"] {
        assert!(said[0].contains(part), "{part}: {said:?}");
    }
    assert!(lines(&daemon, "WARN", "archive").is_empty(), "one line, not two");

    let client = s3_client(&moto.sdk_config());
    client.create_bucket().bucket("later").create_bucket_configuration(location()).send().await.unwrap();
    settled(&admin, &[("archive", 3)]).await;
    until(&admin, "healthy", false).await;
    held_metric(&daemon, 0).await;
    eventually("it is said that it delivers again", async || {
        (lines(&daemon, "INFO", "delivers again").len() == 1).then_some(())
    })
    .await;

    proxy.switch(Mode::Refuse);
    leave(&site, &daemon, 3).await;
    until(&admin, "open", false).await;
    held_metric(&daemon, 0).await;
    let said = lines(&daemon, "WARN", "cannot be reached");
    assert!(said.len() == 1 && said[0].contains("archive"), "{said:?}");
    proxy.switch(Mode::Forward);
    settled(&admin, &[("archive", 6)]).await;
    eventually("it is said again", async || {
        (lines(&daemon, "INFO", "delivers again").len() == 2).then_some(())
    })
    .await;
    assert_eq!(lines(&daemon, "ERROR", "").len(), 1, "{}", daemon.stderr());
    assert_eq!(sinks_by_name(&admin).await["archive"]["dead"], json!(0));
}
