//! A daemon that is told to trace in one way, and what its rounds came to.

use std::time::Duration;

use crate::{
    collector::Collector,
    support::{
        daemon::{CARDS, Daemon, FILE_SINK, Setup},
        load::Crew,
        measure::Measured,
        processor::{TICKS_PER_SECOND, ticks},
        rest, swipes,
        turnstiled::{crew, let_sink_catch_up},
    },
};

/// Nobody listens there.
const CLOSED: &str = "127.0.0.1:9";
/// After the last round a daemon may go on for so long, so that its collector has what was queued.
const LAST_EXPORT: Duration = Duration::from_secs(2);

/// What the daemon is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tracing {
    /// There is no `[telemetry]`.
    Off,
    /// With a collector.
    Ratio(f64),
    /// With the address of a collector that is down.
    Down(f64),
}

/// What one round came to: the mean of its two turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) per_second: f64,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
    /// Processor time of the daemon for an answer.
    pub(crate) daemon_micros: f64,
}

/// What tracing came to in all rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spans {
    pub(crate) answers: f64,
    pub(crate) exported: f64,
    pub(crate) dropped: f64,
    pub(crate) bytes: u64,
}

pub(crate) struct Site {
    pub(crate) tracing: Tracing,
    has_sink: bool,
    daemon: Daemon,
    collector: Collector,
    crew: Crew,
    answers: f64,
    turns: Vec<Outcome>,
}

impl Site {
    /// Rests until its turn.
    pub(crate) fn start(store: &str, has_sink: bool, tracing: Tracing) -> Self {
        let collector = Collector::start();
        let section = |address: &str, ratio: f64| {
            format!(
                "[telemetry]\notlp_endpoint = \"http://{address}\"\notlp_protocol = \"http/protobuf\"\nsample_ratio = {ratio:?}\n"
            )
        };
        let telemetry = match tracing {
            Tracing::Off => String::new(),
            Tracing::Ratio(ratio) => section(&collector.address.to_string(), ratio),
            Tracing::Down(ratio) => section(CLOSED, ratio),
        };
        let sink = if has_sink { FILE_SINK } else { "" };
        let daemon = Daemon::launch(&Setup {
            store,
            sink,
            telemetry: &telemetry,
            anti_passback: "hard",
            data_dir: None,
        });
        daemon.register(CARDS);
        let crew = crew(&daemon, |make| swipes::crowd(CARDS, make));
        rest::stop(daemon.pid());
        Self { tracing, has_sink, daemon, collector, crew, answers: 0.0, turns: Vec::new() }
    }

    /// Measures it while everyone else rests.
    pub(crate) fn take_turn(&mut self, seconds: f64) {
        let pid = self.daemon.pid();
        rest::go_on(pid);
        let now = || (self.daemon.metric("turnstiled_log_sequence").unwrap(), ticks(pid).unwrap());
        let before = now();
        let Measured { per_second, p50_micros, p99_micros, .. } = self.crew.run(seconds);
        if self.has_sink {
            let_sink_catch_up(&self.daemon);
        }
        let after = now();
        rest::stop(pid);
        let answers = after.0 - before.0;
        let daemon_micros = (after.1 - before.1) as f64 / TICKS_PER_SECOND * 1e6 / answers;
        self.answers += answers;
        self.turns.push(Outcome { per_second, p50_micros, p99_micros, daemon_micros });
    }

    /// By round.
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        let mean = |turns: &[Outcome], of: fn(&Outcome) -> f64| {
            turns.iter().map(of).sum::<f64>() / turns.len() as f64
        };
        let rounds = self.turns.chunks(2);
        let outcome = |turns: &[Outcome]| Outcome {
            per_second: mean(turns, |of| of.per_second),
            p50_micros: mean(turns, |of| of.p50_micros),
            p99_micros: mean(turns, |of| of.p99_micros),
            daemon_micros: mean(turns, |of| of.daemon_micros),
        };
        rounds.map(outcome).collect()
    }

    /// That the daemon has traced, or has not, as it was told.
    pub(crate) fn spans(&self) -> Spans {
        rest::go_on(self.daemon.pid());
        std::thread::sleep(LAST_EXPORT);
        let metric = |name: &str| self.daemon.metric(name).unwrap();
        let dropped =
            |reason| metric(&format!("turnstiled_trace_spans_dropped_total{{reason=\"{reason}\"}}"));
        let exported = metric("turnstiled_trace_spans_exported_total");
        let dropped = dropped("queue_full") + dropped("not_exported");
        rest::stop(self.daemon.pid());
        let spans = Spans { answers: self.answers, exported, dropped, bytes: self.collector.bytes() };
        let is_as_told = match self.tracing {
            Tracing::Off => exported + dropped == 0.0,
            Tracing::Ratio(_) => exported > 0.0 && spans.bytes > 0,
            Tracing::Down(_) => exported == 0.0,
        };
        assert!(is_as_told, "{:?}: {spans:?}", self.tracing);
        spans
    }
}
