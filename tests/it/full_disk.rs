//! A disk that takes nothing more: what was answered is there, what was refused is never half there, and the
//! server goes on from the disk when there is room again.

use crate::{daemon::Site, random::Random, sinks::settled, traffic::Crowd, wait::eventually};

/// What each file may grow to, in the shell's blocks of half a kilobyte: room for some thousand events.
const FILE_LIMIT_BLOCKS: u64 = 4_096;

#[tokio::test]
async fn a_log_that_cannot_commit_answers_503_and_stops() {
    let mut random = Random::new();
    let mut site = Site::with_files();
    let mut crowd = Crowd::new(&site, &mut random);
    site.limit_files(Some(FILE_LIMIT_BLOCKS));
    let mut daemon = site.start();
    crowd.register(&daemon).await;
    crowd
        .swipe(&mut daemon, async |daemon, _| {
            eventually("the server gives up", async || daemon.has_ended().then_some(())).await;
        })
        .await;
    assert!(!daemon.wait().success(), "{}", daemon.stderr());
    assert!(daemon.stderr().contains("could not commit"), "it says why: {}", daemon.stderr());
    drop(daemon);

    site.limit_files(None);
    let log = site.dump();
    crowd.check(&log);
    let daemon = site.start();
    crowd.check_presence(&daemon, &log).await;
    let (kept, lost) = crowd.retry(&daemon, &log).await;
    println!("{} answers; unanswered swipes: {kept} were in the log, {lost} were not", crowd.answers());
    let admin = daemon.person(&site.token("admin"));
    // one look at who is inside, and the swipes that were sent again
    settled(&admin, &[("files", (log.len() + 1 + lost) as u64)]).await;
}
