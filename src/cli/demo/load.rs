//! The load: registers the cards, lets everyone walk for a while, then checks. Runs on a runtime of its own,
//! so that client and daemon meet over TCP only.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    audit::{self, Audit},
    clock::DayClock,
    http,
    office::Office,
    people::Employee,
    progress::{DRAW_EVERY, Progress},
    setting::{self, Place},
    takings::{Seen, Takings},
    turnstile::{Turnstile, open_gate},
    walk::{Gate, Walker, World, ended},
};
use crate::cli::{CommandError, client};

/// What people saw and nobody has counted yet.
const MAX_UNCOUNTED: usize = 1_024;
/// The same people have the same days in every demo.
const SEED: u64 = 1;

/// What has to be done.
pub(super) struct Job {
    pub(super) address: SocketAddr,
    pub(super) token: String,
    pub(super) places: Vec<Place>,
    pub(super) people: Vec<Employee>,
    pub(super) clock: DayClock,
    pub(super) length: Duration,
    /// Set to true it ends the load early.
    pub(super) stop: Arc<watch::Sender<bool>>,
}

/// What came of it.
pub(super) struct Done {
    pub(super) takings: Takings,
    /// Batches that open gates reported.
    pub(super) batches: u64,
    /// Until the last answer.
    pub(super) elapsed: Duration,
    pub(super) audit: Audit,
}

/// Does the job on the calling thread.
pub(super) fn run(job: Job) -> Result<Done, String> {
    let progress = Progress::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(job.run(&progress)).map_err(|error| error.to_string()),
        Err(error) => Err(format!("the load cannot start: {error}")),
    };
    progress.finish();
    done
}

impl Job {
    async fn run(self, progress: &Progress) -> Result<Done, CommandError> {
        let client = client::new()?;
        let base = http::base_url(self.address);
        let office = Office::new(client.clone(), base.clone(), self.token.clone());
        self.register(&office, progress).await?;

        let (gates, batches, mut open_gates) = self.open_gates(&client, &base);
        let world = World {
            places: self.places.clone(),
            gates,
            office: office.clone(),
            clock: self.clock,
            started: Instant::now(),
            seed: SEED,
        };
        progress.begin_days(self.length);
        let started = world.started;
        let takings = self.walk(world, progress).await?;
        while open_gates.join_next().await.is_some() {}
        let elapsed = started.elapsed();

        progress.settle();
        let audit = audit::audit(&office, &takings, &self.places).await?;
        Ok(Done { takings, batches: batches.load(Ordering::Relaxed), elapsed, audit })
    }

    async fn register(&self, office: &Office, progress: &Progress) -> Result<(), CommandError> {
        let known = self.people.iter().filter(|person| person.is_registered());
        let cards: usize = known.map(|person| person.cards.len()).sum();
        progress.begin_cards(u64::try_from(cards)?);
        let mut stop = self.stop.subscribe();
        tokio::select! {
            registered = office.register(&self.people, setting::now()?, || progress.card()) => {
                Ok(registered?)
            }
            () = ended(&mut stop) => Ok(()),
        }
    }

    /// The gates by building, a counter of their batches, and those who report the batches.
    fn open_gates(
        &self,
        client: &reqwest::Client,
        base: &str,
    ) -> (Vec<Vec<Gate>>, Arc<AtomicU64>, JoinSet<()>) {
        let (batches, mut reporters) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
        let mut open = |place: &Place, key| {
            let turnstile = Arc::new(Turnstile::new(client.clone(), base, place, key));
            let (open, leaving) = open_gate();
            reporters.spawn(Arc::clone(&turnstile).stand_open(leaving, Arc::clone(&batches)));
            Gate { turnstile, open }
        };
        let gates = (self.places.iter())
            .map(|place| place.gates.iter().map(|key| open(place, key)).collect())
            .collect();
        (gates, batches, reporters)
    }

    /// Lets everyone walk until the time is over, and counts what they see.
    async fn walk(&self, world: World, progress: &Progress) -> Result<Takings, CommandError> {
        let world = Arc::new(world);
        let started = world.started;
        let (seen, mut counting) = mpsc::channel::<Seen>(MAX_UNCOUNTED);
        let mut walkers = JoinSet::new();
        for person in &self.people {
            let walker = Walker {
                person: person.clone(),
                world: Arc::clone(&world),
                seen: seen.clone(),
                stop: self.stop.subscribe(),
                is_inside: vec![false; self.places.len()],
            };
            walkers.spawn(walker.walk());
        }
        // the last walker takes the last sender along, and the last way through an open gate
        drop((seen, world));

        let mut takings = Takings::new(self.places.len())?;
        let mut draw = tokio::time::interval(DRAW_EVERY);
        let over = tokio::time::sleep(self.length);
        tokio::pin!(over);
        let mut is_over = false;
        loop {
            tokio::select! {
                seen = counting.recv() => match seen {
                    Some(seen) => takings.take(seen),
                    None => break,
                },
                () = &mut over, if !is_over => is_over = true,
                _ = draw.tick() => {
                    let elapsed = started.elapsed();
                    progress.show_day(elapsed, self.clock.time(elapsed), &takings, &self.places);
                }
            }
            if is_over || takings.is_full() {
                self.stop.send_replace(true);
            }
        }
        while let Some(walked) = walkers.join_next().await {
            walked?;
        }
        Ok(takings)
    }
}
