//! The `stdout` sink: one line an event, and nothing else on the daemon's standard output.

use serde_json::json;

use crate::{
    daemon::{Site, TWO_BUILDINGS, assert_gapless, events},
    sinks::settled,
};

const STDOUT_SINK: &str = r#"
[sinks.out]
type = "stdout"

[[routes]]
name = "everything"
types = ["**"]
to = ["out"]
"#;

#[tokio::test]
async fn every_event_is_a_line_on_stdout() {
    let site = Site::new(&format!("{TWO_BUILDINGS}{STDOUT_SINK}"));
    let (key, token) = (site.key("hq"), site.token("admin"));
    let daemon = site.start();
    for number in 0..3 {
        let exit = json!({ "card_id": format!("C{number}"), "gate_id": "north-1" });
        daemon.device(&key).post("/v1/buildings/hq/exits", &exit).await.expect(202);
    }
    settled(&daemon.person(&token), &[("out", 3)]).await;
    assert!(daemon.stop().0.success());
    let text = std::fs::read_to_string(site.path("stdout")).unwrap();
    let events = events(text.lines());
    assert_eq!(events.len(), 3, "{text}");
    assert_gapless(&events);
}
