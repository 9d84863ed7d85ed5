//! The page: `benches/TRACES.md`.

use std::fmt::Write;

use crate::{
    Group, Options, RATIO,
    site::{Outcome, Site, Tracing},
    support::{
        page::finish,
        spread::{Spread, number},
        swipes::CONNECTIONS,
    },
};

/// What [`RATIO`] may cost, in percent of the answers a second.
const AIM_PERCENT: f64 = 5.0;
/// How sure the intervals are at least.
const CONFIDENCE: f64 = 0.95;

pub(crate) fn write(options: &Options, machine: &[(&str, String)], groups: &[Group]) {
    let mut page = String::from(
        "# What tracing costs the decision\n\nWritten by `benches/traces`; run it again rather than edit it.\n\n| | |\n|---|---|\n",
    );
    for (name, value) in machine {
        let _ = writeln!(page, "| {name} | {value} |");
    }
    let _ =
        writeln!(page, "| rounds | {} of two turns of {} s a daemon |\n", options.rounds, options.seconds);
    page.push_str(
        "| store | sink | tracing | answers/s | fewer than without, % | aim | p50, µs | more, % | p99, µs | more, % | daemon's processor time an answer, µs | more, % |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for group in groups {
        group.sites.iter().for_each(|site| line(&mut page, group, site));
    }
    page.push_str(
        "\n## What was traced\n\nIn all rounds, warm-ups counted.\n\n\
         | store | sink | tracing | answers | spans that the collector took | spans dropped | MB at the collector |\n|---|---|---|---|---|---|---|\n",
    );
    for group in groups {
        for site in &group.sites {
            let spans = site.spans();
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {} |",
                names(group, site),
                number(spans.answers),
                number(spans.exported),
                number(spans.dropped),
                number(spans.bytes as f64 / 1e6),
            );
        }
    }
    finish(page, &method(), &options.out);
}

fn line(page: &mut String, group: &Group, site: &Site) {
    let (outcomes, without) = (site.outcomes(), group.sites[0].outcomes());
    let spread = |of: fn(&Outcome) -> f64| Spread::of(outcomes.iter().map(of)).unwrap();
    let more = |of: fn(&Outcome) -> f64| {
        Percent::of(
            outcomes.iter().zip(&without).map(|(this, without)| of(this) / of(without) - 1.0).collect(),
        )
    };
    let fewer = outcomes
        .iter()
        .zip(&without)
        .map(|(this, without)| 1.0 - this.per_second / without.per_second)
        .collect();
    let fewer = Percent::of(fewer);
    let aim = match site.tracing {
        Tracing::Ratio(ratio) if ratio == RATIO => {
            format!("under {AIM_PERCENT}: {}", fewer.against(AIM_PERCENT))
        }
        _ => String::new(),
    };
    let show = |percent: Percent| match site.tracing {
        Tracing::Off => String::new(),
        _ => percent.to_string(),
    };
    let _ = writeln!(
        page,
        "| {} | {} | {} | {aim} | {} | {} | {} | {} | {} | {} |",
        names(group, site),
        spread(|of| of.per_second),
        show(fewer),
        spread(|of| of.p50_micros),
        show(more(|of| of.p50_micros)),
        spread(|of| of.p99_micros),
        show(more(|of| of.p99_micros)),
        spread(|of| of.daemon_micros),
        show(more(|of| of.daemon_micros)),
    );
}

fn names(group: &Group, site: &Site) -> String {
    let sink = if group.has_sink { "file" } else { "none" };
    let tracing = match site.tracing {
        Tracing::Off => "no `[telemetry]`".to_owned(),
        Tracing::Ratio(ratio) => format!("ratio {ratio}"),
        Tracing::Down(ratio) => format!("ratio {ratio}, collector down"),
    };
    format!("`{}` | {sink} | {tracing}", group.store)
}

/// A difference in percent: the median of the rounds, and where the true median is with [`CONFIDENCE`].
#[derive(Clone, Copy, Debug)]
struct Percent {
    median: f64,
    from: f64,
    to: f64,
}

impl Percent {
    fn of(mut ratios: Vec<f64>) -> Self {
        ratios.sort_by(f64::total_cmp);
        let outer = left_out(ratios.len());
        let percent = |ratio: f64| ratio * 100.0;
        Self {
            median: percent(Spread::of(ratios.iter().copied()).unwrap().median),
            from: percent(ratios[outer]),
            to: percent(ratios[ratios.len() - 1 - outer]),
        }
    }
}

impl Percent {
    /// Noise is not called a success.
    fn against(self, limit: f64) -> &'static str {
        match (self.median < limit, self.to < limit) {
            (true, true) => "reached",
            (true, false) => "reached by the median, not by the whole interval",
            _ => "**not reached**",
        }
    }
}

impl std::fmt::Display for Percent {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:+.1} ({:+.1} to {:+.1})", self.median, self.from, self.to)
    }
}

/// How many of the smallest, and as many of the largest, may be left out: each round is above the true median by one half,
/// whatever else is true of it. With few rounds none is, and the interval is less sure.
fn left_out(rounds: usize) -> usize {
    let (mut outside, mut choose) = (0.0, 1.0);
    let all = 2_f64.powi(i32::try_from(rounds).unwrap());
    for left_out in 0..rounds / 2 {
        outside += 2.0 * choose / all;
        if outside > 1.0 - CONFIDENCE {
            return left_out.saturating_sub(1);
        }
        choose = choose * (rounds - left_out) as f64 / (left_out + 1) as f64;
    }
    (rounds / 2).saturating_sub(1)
}

fn method() -> String {
    format!(
        "\
The release executable as shipped, on one disk and over loopback, with hard anti-passback, API keys, hash chain and
metrics. {CONNECTIONS} keep-alive connections, each of people of its own who enter and leave, one request after the other; every
entry is granted (the benchmark stops at an answer that says otherwise), so what is kept whatever the ratio says, denied
entries above all, is not in it: a denied entry costs what one costs at ratio 1. No request brings a trace of its own. Answers are
entries and exits; p50 and p99 are of entries.

Every daemon has the same load in turns: in a round each one of a group has a turn, and then once more in the opposite order
(A B B A), beginning with another one in each round, so that slow drift hits all alike. A daemon whose turn it is not is stopped by
SIGSTOP. A round's figure is the mean of the two turns; differences are taken from the daemon without `[telemetry]` of the same
round, before medians are. Figures are medians of the rounds with the smallest and the largest in brackets. Of differences the
brackets have an interval in which the true median is with {:.0} % (order statistics; narrower than all rounds), so one that
has zero in it is a difference that was not found.

The collector is a part of the benchmark: it takes OTLP over HTTP on loopback and counts. It, the load (one thread) and the
daemon share the cores, so its work and the exporter's are in the answers a second. The daemon's processor time is that of the whole
process, exporter included, over all answers of a turn; with a sink until the sink has everything. \"Collector down\" is a closed
port.
",
        CONFIDENCE * 100.0
    )
}
