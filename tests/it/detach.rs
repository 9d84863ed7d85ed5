//! The log's limit comes first: sinks that are behind are let go of, unless they are required, and every event is
//! accounted for, also after a restart.

use serde_json::{Value, json};

use crate::{
    daemon::{Site, TWO_BUILDINGS},
    sinks::{conserves, sinks_by_name},
    wait::eventually,
};

/// The smallest limit there is.
const WAL: &str = "[wal]\nmax_bytes = \"16MiB\"\nstore = \"segments\"\nretention = \"0s\"\n";
const EXITS_A_BATCH: usize = 500;
const MAX_BATCHES: usize = 100;

fn snapshots(site: &Site) -> usize {
    let files = std::fs::read_dir(site.path("data/snapshots")).unwrap();
    files
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "snapshot"))
        .count()
}

/// Takes two minutes: two snapshots have to be past what is let go of, and then a sink has a minute.
#[tokio::test]
async fn a_sink_that_is_behind_is_let_go_of_unless_it_is_required() {
    let is_away = crate::fake_service::serve(|_| crate::fake_service::Reply {
        status: 503,
        headers: Vec::new(),
        body: String::new(),
    });
    let sink = |name: &str, required: bool| {
        format!(
            "[sinks.{name}]\ntype = \"sqs\"\nrequired = {required}\n\
             queue_url = \"https://sqs.eu-central-1.amazonaws.com/000000000000/{name}\"\n"
        )
    };
    let files = "[sinks.files]\ntype = \"file\"\ndir = \"sinks/files\"\n";
    let route = "[[routes]]\nname = \"all\"\ntypes = [\"**\"]\nto = [\"files\", \"kept\", \"optional\"]\n";
    let config =
        format!("{WAL}{TWO_BUILDINGS}{files}{}{}{route}", sink("kept", true), sink("optional", false));
    let site = Site::new(&config).with_aws_at(is_away);
    let daemon = site.start();
    let (admin, gate) = (daemon.person(&site.token("admin")), daemon.device(&site.key("hq")));
    let exits: Vec<Value> = (0..EXITS_A_BATCH)
        .map(|number| json!({ "card_id": format!("C{number}"), "gate_id": "north-1" }))
        .collect();
    let mut recorded = 0;
    for _ in 0..MAX_BATCHES {
        gate.post("/v1/buildings/hq/exits/batch", &json!({ "exits": exits })).await.expect(202);
        recorded += EXITS_A_BATCH as u64;
        sinks_by_name(&admin).await.values().for_each(conserves);
        if daemon.anyone().get("/readyz").await.expect(200)["disk"] == "full" {
            break;
        }
    }
    assert_eq!(
        sinks_by_name(&admin).await["optional"]["detached"],
        json!([]),
        "nothing could be trimmed yet"
    );
    // the second one needs something new; both come sooner while the disk fills up
    for count in [1, 2] {
        gate.post("/v1/buildings/hq/exits/batch", &json!({ "exits": exits[..1] })).await.expect(202);
        recorded += 1;
        eventually("a snapshot is taken", async || (snapshots(&site) >= count).then_some(())).await;
    }
    let detached = eventually("the optional sink is let go of", async || {
        let sinks = sinks_by_name(&admin).await;
        sinks.values().for_each(conserves);
        let is_empty = sinks["optional"]["detached"].as_array().unwrap().is_empty();
        (!is_empty).then(|| sinks["optional"]["detached"].clone())
    })
    .await;
    let entry = json!({ "card_id": "C1", "gate_id": "north-1" });
    assert_eq!(gate.post("/v1/buildings/hq/entries", &entry).await.status, 503, "the log is at its limit");
    eventually("the files have everything", async || {
        (sinks_by_name(&admin).await["files"]["delivered"] == recorded).then_some(())
    })
    .await;
    let sinks = sinks_by_name(&admin).await;
    assert_eq!(
        (&sinks["kept"]["detached"], &sinks["kept"]["dead"]),
        (&json!([]), &json!(0)),
        "{}",
        sinks["kept"]
    );
    assert_eq!(sinks["files"]["detached"], json!([]), "it had caught up");
    let events: u64 =
        detached.as_array().unwrap().iter().map(|range| range["events"].as_u64().unwrap()).sum();
    assert_eq!(sinks["optional"]["dead"], events, "{}", sinks["optional"]);
    assert!(events > 0 && detached[0]["first"] == format!("{:020}", 1), "{detached}");
    assert!(daemon.stderr().contains("was let go of"), "it is logged");

    let before = sinks["optional"].clone();
    let (status, _) = daemon.stop();
    assert!(status.success());
    let daemon = site.start();
    let admin = daemon.person(&site.token("admin"));
    let sinks = sinks_by_name(&admin).await;
    sinks.values().for_each(conserves);
    assert_eq!(sinks["optional"]["accepted"], before["accepted"]);
    assert_eq!(sinks["optional"]["detached"], before["detached"]);
    assert_eq!(sinks["kept"]["pending"], recorded);
}
