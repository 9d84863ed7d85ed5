//! The page: `benches/RESULTS.md`.

use std::fmt::Write;

use turnstiled::app::housekeeping::SNAPSHOT_EVERY_RECORDS;

use crate::{
    cases::Run,
    figures::{Figure, Load, Peer, Samples, ratio, spread},
    options::Options,
    support::{
        page::finish,
        spread::{Spread, number},
    },
    targets::{Limit, targets},
};

const BARE: (Load, Peer) = (Load::One, Peer::BareGrowing);

const METHOD: &str = "\
Everything runs on this machine, on one disk, over loopback, and shares the cores with the load. Each round runs
every case once, one after the other; a figure is the median of the rounds with the smallest and the largest in
brackets, and a ratio is taken within each round before its median is. In every case an employee enters, then
leaves, then the next one does: every entry is granted and every answer is checked. Latencies are those of
entries; rates count entries and exits, each a durable event of its own. The load is one client for all servers:
one thread, prepared requests, one at a time on each connection. HTTP, RESP and PostgreSQL's extended protocol with
a prepared statement differ only in their bytes.

Only one server runs at a time. The others, turnstiled's daemons as well as Redis and PostgreSQL with its children, are
stopped by SIGSTOP, so that none scrubs, takes snapshots, checkpoints or expires on the cores and the disk of the one
that is measured. Before a case everything that anyone has written is written back (`sync`); then the server gets
SIGCONT and is left alone until it has taken no processor time to speak of for a second (20 s at most), so that what
fell due while it was stopped is done; then the load runs for 0.15 of the measured time without being counted. This is
the same for all. What a server does by itself during its own case is on its bill. Stopped rather than started for each
case, because a server keeps its caches, its files and its state that way, as one that has been up for days.

- turnstiled: the release executable as shipped, with API keys, hash chain, metrics and trace context; hard
  anti-passback. With the `file` sink on, \"behind\" is what the sink had still to take when the window closed.
- In memory: the same executable and store with its data directory on a tmpfs, where `fdatasync` does nothing. The
  sink's files stay on the disk.
- Redis: one `EVALSHA` a swipe (`benches/compare/decide.lua`), append-only file, no snapshots or rewriting.
- PostgreSQL: one function call a swipe (`benches/compare/decide.sql`), configuration as Debian ships it; a
  checkpoint after each of its cases, outside the measured time.
- Bare append: one thread, the bytes of one entry with its frame, one `write`, one `fdatasync`.
";

pub(crate) fn write(options: &Options, machine: &[(&str, String)], run: &Run) {
    let mut page = String::from(
        "# Results of `make bench`\n\nWritten by `benches/compare`; run it again rather than edit it.\n\n",
    );
    head(&mut page, options, machine, run);
    target_table(&mut page, run);
    case_table(&mut page, run, Load::One, "One connection");
    case_table(&mut page, run, Load::Many, "64 connections");
    case_table(&mut page, run, Load::Batches, "Exits in batches of 100, 8 connections");
    page.push_str("Latencies in this table are those of whole batches; the people are not inside, so each exit is an anomaly, too.\n");
    sizes(&mut page, run);
    finish(page, METHOD, &options.out);
}

fn head(page: &mut String, options: &Options, machine: &[(&str, String)], run: &Run) {
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(page, "| {name} | {value} |");
    };
    line("", "");
    line("---", "---");
    machine.iter().for_each(|(name, value)| line(name, value));
    run.versions.iter().for_each(|version| line("beside", version));
    let rounds = format!("{} of {} s a case, {:.0} s in all", options.rounds, options.seconds, run.seconds);
    line("rounds", &rounds);
    line("an entry", &format!("{} bytes in the log", run.event_bytes));
    run.missing.iter().for_each(|what| line("not measured", what));
}

fn target_table(page: &mut String, run: &Run) {
    page.push_str("\n## Targets\n\n| target | limit | measured | |\n|---|---|---|---|\n");
    for target in targets(run) {
        let limit = match target.limit {
            Limit::AtLeast(limit) => format!("at least {}{}", number(limit), target.unit),
            Limit::AtMost(limit) => format!("at most {}{}", number(limit), target.unit),
        };
        let measured = target.measured.map_or("-".to_owned(), |spread| format!("{spread}{}", target.unit));
        let _ = writeln!(page, "| {} | {limit} | {measured} | {} |", target.what, target.verdict());
    }
}

fn case_table(page: &mut String, run: &Run, load: Load, title: &str) {
    let (over_name, over) = match load {
        Load::One => ("p50 over bare, growing", BARE),
        Load::Many | Load::Batches => ("rate over `segments`", (load, Peer::Segments)),
    };
    let over_figure: Figure = if load == Load::One { |of| of.p50_micros } else { |of| of.per_second };
    let _ = write!(
        page,
        "\n## {title}\n\n| | p50, µs | p99, µs | durable events/s | {over_name} | behind |\n|---|---|---|---|---|---|\n"
    );
    for key in run.samples.keys().filter(|key| key.0 == load) {
        let cell = |figure: Figure| {
            spread(&run.samples, *key, figure).map_or("-".to_owned(), |spread| spread.to_string())
        };
        let ratio =
            ratio(&run.samples, *key, over, over_figure).map_or("-".to_owned(), |spread| spread.to_string());
        let (p50, p99, rate) = (cell(|of| of.p50_micros), cell(|of| of.p99_micros), cell(|of| of.per_second));
        let behind = behind(&run.samples, *key).map_or(String::new(), |spread| spread.to_string());
        let _ = writeln!(page, "| {} | {p50} | {p99} | {rate} | {ratio} | {behind} |", key.1);
    }
}

fn behind(samples: &Samples, key: (Load, Peer)) -> Option<Spread> {
    Spread::of(samples.get(&key)?.iter().filter_map(|of| of.behind))
}

fn sizes(page: &mut String, run: &Run) {
    let large = &run.large;
    let megabytes = |bytes: u64| number(bytes as f64 / 1e6);
    let _ = write!(
        page,
        "\n## Sizes and starts\n\n| | |\n|---|---|\n\
         | {} cards, {} people inside: resident once started | {} MB |\n\
         | the same after all rounds | {} MB |\n| its highest | {} MB |\n\
         | resident once started on its snapshot | {} MB |\n| its highest | {} MB |\n",
        large.cards,
        large.inside,
        megabytes(large.after_start_bytes),
        megabytes(large.after_load_bytes),
        megabytes(large.peak_bytes),
        megabytes(large.from_snapshot_bytes),
        megabytes(large.from_snapshot_peak_bytes)
    );
    for start in &run.starts {
        let after = SNAPSHOT_EVERY_RECORDS;
        let how = if start.with_snapshot {
            format!("with a snapshot {after} events old")
        } else {
            "without a snapshot".to_owned()
        };
        let seconds = start.seconds;
        let _ = writeln!(page, "| start on {} events, {how} | {seconds:.2} s |", start.events);
    }
}
