//! What routes do to events on their way out, and how they are counted.

use serde_json::{Value, json};

use crate::{
    daemon::{Site, TWO_BUILDINGS},
    sinks::settled,
};

const ROUTES: &str = r#"
[sinks.hr]
type = "file"
dir = "sinks/hr"

[sinks.partner]
type = "file"
dir = "sinks/partner"

[[routes]]
name = "names"
types = ["card.*"]
to = ["hr"]
personal = true
drop = ["by", "nosuch"]

[[routes]]
name = "partner"
types = ["card.*", "access.exit.*"]
to = ["hr", "partner"]
drop = ["employee_id"]
add = { site = "north", gate = 7 }

[[routes]]
name = "nowhere"
types = ["**"]
to = []
"#;

/// The value of a counter that has one label.
fn counter(metrics: &str, series: &str) -> Option<u64> {
    metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[tokio::test]
async fn routes_edit_events_and_are_counted_by_name() {
    let site = Site::new(&format!("{TWO_BUILDINGS}{ROUTES}"));
    let daemon = site.start();
    let card = json!({ "employee_id": "E1", "holder_name": "Jane" });
    daemon.person(&site.token("hr")).put("/v1/cards/C1", &card).await.expect(201);
    let (gate, swipe) = (daemon.device(&site.key("hq")), json!({ "card_id": "C1", "gate_id": "north-1" }));
    gate.post("/v1/buildings/hq/entries", &swipe).await.expect(200);
    gate.post("/v1/buildings/hq/exits", &swipe).await.expect(202);
    gate.post("/v1/buildings/hq/exits", &swipe).await.expect(202);
    settled(&daemon.person(&site.token("security")), &[("hr", 3), ("partner", 3)]).await;

    let metrics = daemon.anyone().get("/metrics").await.body;
    for (route, events) in [("names", 1), ("partner", 3), ("nowhere", 4)] {
        let series = format!("turnstiled_route_events_total{{route=\"{route}\"}}");
        assert_eq!(counter(&metrics, &series), Some(events), "{route}: {metrics}");
    }
    assert!(daemon.stop().0.success());

    let (hr, partner) = (site.files("sinks/hr"), site.files("sinks/partner"));
    let data = |event: &Value, name: &str| event["data"].get(name).cloned();
    // the first route that leads to a sink decides the form
    assert_eq!(data(&hr[0], "holder_name"), Some(json!("Jane")));
    assert_eq!((data(&hr[0], "by"), data(&hr[0], "site")), (None, None));
    assert_eq!(data(&hr[0], "employee_id"), Some(json!("E1")));
    assert_eq!(data(&partner[0], "holder_name"), None);
    for event in partner.iter().chain(&hr[1..]) {
        assert_eq!(data(event, "employee_id"), None, "{event}");
        assert_eq!(data(event, "site"), Some(json!("north")), "{event}");
        assert_eq!(data(event, "gate"), Some(json!(7)), "replaced, or put in: {event}");
    }
    assert_eq!(hr[1..], partner[1..], "one form of a route");
    assert_eq!(hr[0]["id"], partner[0]["id"], "and the same event in both");
}
