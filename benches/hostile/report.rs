//! The page: `benches/HOSTILE.md`.

use std::{collections::BTreeMap, fmt::Write};

use crate::{
    Options, Others, Outcome, PACE_PER_SECOND, Site,
    attack::{ATTACKERS, Answers, SLOW, SLOW_EVERY},
    honest::{DEVICES, EVERY},
    support::{
        page::finish,
        spread::{Spread, number},
    },
};

/// The aim for honest devices' p99 while hostile clients are there.
const P99_MICROS: f64 = 5_000.0;

pub(crate) fn write(options: &Options, machine: &[(&str, String)], sites: &[Site]) {
    let mut page = String::from(
        "# Honest devices among hostile clients\n\nWritten by `benches/hostile`; run it again rather than edit it.\n\n| | |\n|---|---|\n",
    );
    for (name, value) in machine {
        let _ = writeln!(page, "| {name} | {value} |");
    }
    let _ = writeln!(page, "| rounds | {} of {} s a case |\n", options.rounds, options.seconds);
    page.push_str(
        "| store | hostile clients | honest p50, µs | honest p99, µs | aim | p99 over alone | honest answers/s | hostile requests/s | MB/s of them | cores: daemon | cores: clients | cores: stolen |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for site in sites {
        Others::ALL.iter().for_each(|others| line(&mut page, site, *others));
    }
    page.push_str("\n## What hostile clients were answered\n");
    for others in [Others::Paced, Others::Unbounded] {
        let mut all = Answers::default();
        sites.iter().for_each(|site| all.add(site.answers[others as usize].clone()));
        answers(&mut page, others, &all);
    }
    page.push_str("\n## Memory\n\n| store | highest before the first hostile client | highest of all |\n|---|---|---|\n");
    for site in sites {
        let megabytes = |bytes: u64| number(bytes as f64 / 1e6);
        let before = site.peak_before.map_or("?".to_owned(), megabytes);
        let all = megabytes(site.daemon.memory_bytes("VmHWM"));
        let _ = writeln!(page, "| `{}` | {before} MB | {all} MB |", site.store);
    }
    finish(page, &method(), &options.out);
}

fn line(page: &mut String, site: &Site, others: Others) {
    let outcomes = &site.outcomes[others as usize];
    let figure = |of: fn(&Outcome) -> f64| Spread::of(outcomes.iter().map(of)).unwrap();
    let p99 = figure(|of| of.honest.p99_micros);
    let alone = &site.outcomes[Others::Nobody as usize];
    let over_alone =
        outcomes.iter().zip(alone).map(|(this, alone)| this.honest.p99_micros / alone.honest.p99_micros);
    let aim = match others {
        Others::Nobody | Others::Unbounded => String::new(),
        Others::Paced if p99.median <= P99_MICROS => format!("{}: reached", number(P99_MICROS)),
        Others::Paced => format!("{}: **not reached**", number(P99_MICROS)),
    };
    let _ = writeln!(
        page,
        "| `{}` | {} | {} | {p99} | {aim} | {} × | {} | {} | {} | {} | {} | {} |",
        site.store,
        name(others),
        figure(|of| of.honest.p50_micros),
        Spread::of(over_alone).unwrap(),
        figure(|of| of.honest.per_second),
        figure(|of| of.hostile_per_second),
        figure(|of| of.bytes_per_second / 1e6),
        figure(|of| of.daemon_cores),
        figure(|of| of.load_cores),
        figure(|of| of.stolen_cores),
    );
}

fn name(others: Others) -> String {
    match others {
        Others::Nobody => "none".to_owned(),
        Others::Paced => format!("{} requests/s", number(PACE_PER_SECOND)),
        Others::Unbounded => "as many as they can".to_owned(),
    }
}

/// A line a kind, with what became of how many.
fn answers(page: &mut String, others: Others, all: &Answers) {
    let mut by_kind: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for ((kind, what), count) in &all.counts {
        by_kind.entry(kind).or_default().push(format!("{what}: {}", number(*count as f64)));
    }
    let _ = writeln!(
        page,
        "\nHostile clients: {}, all rounds and stores.\n\n| kind | answers |\n|---|---|",
        name(others)
    );
    for (kind, whats) in by_kind {
        let _ = writeln!(page, "| {kind} | {} |", whats.join(", "));
    }
}

fn method() -> String {
    format!(
        "\
The release executable as shipped, on one disk and over loopback, with hard anti-passback, API keys, hash chain, metrics
and no sink. {DEVICES} honest devices with a keep-alive connection each send an entry or an exit every {EVERY:?}: people
enter, then leave, each answer is durable before it is sent, and checked. An answer that takes longer than that counts also
for the swipes that it kept from being sent (HdrHistogram's correction for coordinated omission). That is some hundred
times what {DEVICES} gates ask, so that a p99 has enough answers behind it.

Hostile clients are {ATTACKERS} that send one request a connection, of eight kinds in turn (`benches/hostile/requests.rs`):
seven wait for the answer, one goes away in the middle. Most have a good key, so that they get past authentication and their
bodies are read; no `rate_limit` is set. {SLOW} more hold connections open, half of them within the headers, half within the
body, with a byte every {SLOW_EVERY:?}; a case is over before the daemon's patience with them (5 s for headers, 10 s for a
body). An answer of 500 or more but 503 stops the benchmark. Requests that are right in form and ask for entries without
a right are not among them: they are decided and recorded as any swipe is.

Daemon and clients, hostile and honest, share the cores, so a rate has to be stated: {} a second, which leaves the
cores idle time. The second case has no pace: there the clients take what they can get of the same cores, and the
honest devices' threads wait for one as the daemon's do. Figures are medians of the rounds with the smallest and the
largest in brackets, ratios are taken within each round. Cores are processor time a second, stolen what the host of the
virtual machine gave to others meanwhile. MB/s is what hostile clients had ready to send; of an oversized body less is
taken.
",
        number(PACE_PER_SECOND)
    )
}
