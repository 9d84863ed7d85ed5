//! The summary on stdout: what happened, whether it is right, where the files are, what to try next.

use std::{
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use indicatif::HumanCount;

use super::{
    files::SinkFiles,
    http::base_url,
    load::Done,
    model::{Mismatches, Tally},
    people::{Character, Employee},
    setting::{ANNEX, HQ, Setting, is_in_memory},
    takings::Takings,
};
use crate::domain::reason::{Anomaly, Reason};

/// The width of the first column.
const LABEL_WIDTH: usize = 22;
/// The width of a number's column.
const NUMBER_WIDTH: usize = 10;

/// What the summary is about.
pub(super) struct Summary<'s> {
    pub(super) setting: &'s Setting,
    pub(super) done: &'s Done,
    pub(super) files: &'s [SinkFiles],
    pub(super) people: usize,
    pub(super) days: f64,
}

impl Summary<'_> {
    /// Whether everything is as it should be.
    pub(super) fn is_clean(&self) -> bool {
        let takings = &self.done.takings;
        takings.failures.count == 0
            && takings.retries_answered_differently == 0
            && self.done.audit.tally.mismatches.count == 0
    }

    /// Writes all of it.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let (takings, tally) = (&self.done.takings, &self.done.audit.tally);
        let (people, days) = (count(self.people), self.days);
        let seconds = self.done.elapsed.as_secs_f64();
        writeln!(out, "{people} people, two buildings, {days:.1} working days in {seconds:.1} s\n")?;
        write_entries(tally, out)?;
        self.write_exits(out)?;
        self.write_inside(out)?;
        self.write_requests(out)?;
        self.write_sinks(out)?;
        write_check(takings, tally, out)?;
        self.write_files(out)
    }

    fn write_exits(&self, out: &mut dyn Write) -> io::Result<()> {
        let tally = &self.done.audit.tally;
        writeln!(out, "Exits {:>width$}", number(tally.exits), width = LABEL_WIDTH + NUMBER_WIDTH - 6)?;
        for (anomaly, meaning) in [
            (Anomaly::NotInside, "never seen entering; let out and recorded"),
            (Anomaly::UnknownCard, "not a card of this company; let out and recorded"),
        ] {
            row(out, anomaly.as_str(), tally.anomalies_in_all(anomaly), meaning)?;
        }
        let batches = number(self.done.batches);
        writeln!(out, "  in the evening some gates stood open and reported in {batches} batches\n")
    }

    fn write_inside(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Inside at the end")?;
        for (place, inside) in self.setting.places.iter().zip(&self.done.audit.tally.inside) {
            let max = place.max_occupancy.map_or(String::new(), |max| format!("at most {}", count(max)));
            row(out, &place.id, u64::try_from(inside.len()).unwrap_or(u64::MAX), &max)?;
        }
        writeln!(out)
    }

    fn write_requests(&self, out: &mut dyn Write) -> io::Result<()> {
        let takings = &self.done.takings;
        let requests = takings.requests.saturating_add(self.done.batches);
        let rate = Duration::as_secs_f64(&self.done.elapsed).max(f64::MIN_POSITIVE);
        let rate = number_of_f64(requests) / rate;
        writeln!(out, "Requests {:>width$}", number(requests), width = LABEL_WIDTH + NUMBER_WIDTH - 9)?;
        writeln!(
            out,
            "  {rate:.0} a second on average: as many as people swiped, not as many as there could be"
        )?;
        row(
            out,
            "sent again",
            takings.retries,
            &format!("as after a lost answer; {} got another answer", takings.retries_answered_differently),
        )?;
        writeln!(out, "  how long a turnstile waited for an answer, which is on disk before it leaves:")?;
        let at = |quantile| micros(takings.latency.value_at_quantile(quantile));
        let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
        writeln!(out, "    p50 {p50}   p99 {p99}   p99.9 {p999}   max {}", micros(takings.latency.max()))?;
        if is_in_memory(self.setting.dir()) {
            writeln!(
                out,
                "    but {} is in memory: set TMPDIR to a directory on a disk for times that mean something",
                self.setting.dir().display()
            )?;
        }
        writeln!(out)
    }

    fn write_sinks(&self, out: &mut dyn Write) -> io::Result<()> {
        let (first, rest) = (LABEL_WIDTH, NUMBER_WIDTH);
        writeln!(
            out,
            "{:<first$}{:>rest$}{:>rest$}{:>rest$}{:>rest$}",
            "Sinks", "accepted", "delivered", "pending", "dead"
        )?;
        for sink in &self.done.audit.sinks {
            let [accepted, delivered, pending, dead] =
                [sink.accepted, sink.delivered, sink.pending, sink.dead].map(number);
            writeln!(
                out,
                "  {:<width$}{accepted:>rest$}{delivered:>rest$}{pending:>rest$}{dead:>rest$}",
                sink.name,
                width = first - 2
            )?;
        }
        writeln!(out)
    }

    fn write_files(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Files")?;
        writeln!(out, "  {}", self.setting.dir().display())?;
        for SinkFiles { dir, files, lines } in self.files {
            let dir = dir.strip_prefix(self.setting.dir()).unwrap_or(dir).display();
            let (lines, files) = (
                number(*lines),
                if *files == 1 { "1 file".to_owned() } else { format!("{} files", number(*files)) },
            );
            writeln!(out, "    {dir}/  {lines} events in {files}")?;
        }
        writeln!(out, "    data/log/  the log itself")?;
        writeln!(out, "    routes.toml  the configuration\n")
    }

    /// What can be done with the files, once the daemon has stopped.
    pub(super) fn write_next_offline(&self, out: &mut dyn Write) -> io::Result<()> {
        let config = self.setting.config_file.display();
        let dir = self.setting.dir().display();
        writeln!(out, "Try next")?;
        writeln!(out, "  head -n 1 {dir}/data/sinks/archive/*.ndjson")?;
        writeln!(out, "  turnstiled wal verify --config {config}")?;
        writeln!(out, "  turnstiled run --config {config}    # the same site, as it was left")?;
        writeln!(out, "  turnstiled demo --keep    # a site that stays, with a key and a token to try it")?;
        writeln!(out, "  rm -r {dir}    # nothing else is left on this machine")
    }

    /// How to talk to the daemon that was kept. The only place that shows a key and a token.
    pub(super) fn write_next_online(
        &self,
        address: SocketAddr,
        people: &[Employee],
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let url = base_url(address);
        let Some((place, gate)) =
            self.setting.places.get(HQ).and_then(|place| Some((place, place.gates.first()?)))
        else {
            return Ok(());
        };
        let card = self.card_of_someone_outside(people).unwrap_or("04A2B9C1");
        let (id, gate_id) = (&place.id, &gate.id);
        writeln!(out, "Serving at {url} until Ctrl-C. In another terminal:\n")?;
        writeln!(out, "  KEY={}    # of the turnstile {id}/{gate_id}", gate.key)?;
        writeln!(out, "  TOKEN={}\n", self.setting.token)?;
        let body = format!("{{\"card_id\": \"{card}\", \"gate_id\": \"{gate_id}\"}}");
        for (comment, what) in
            [("Someone comes in; a second time it is anti_passback.", "entries"), ("And leaves.", "exits")]
        {
            writeln!(out, "  # {comment}")?;
            writeln!(out, "  curl -s {url}/v1/buildings/{id}/{what} -H \"X-Api-Key: $KEY\" -d '{body}'")?;
        }
        for (comment, path) in [
            ("Who is inside?", format!("v1/buildings/{id}/presence")),
            ("What is known of that card?", format!("v1/cards/{card}")),
            ("Are the sinks up to date?", "v1/sinks".to_owned()),
        ] {
            writeln!(out, "  # {comment}")?;
            writeln!(out, "  curl -s {url}/{path} -H \"Authorization: Bearer $TOKEN\"")?;
        }
        writeln!(out)?;
        out.flush()
    }

    fn card_of_someone_outside<'p>(&self, people: &'p [Employee]) -> Option<&'p str> {
        let inside = |person: &Employee| {
            self.done.audit.tally.inside.iter().any(|inside| inside.contains(&person.number))
        };
        let someone = people.iter().find(|person| {
            person.character == Character::Regular && person.home != ANNEX && !inside(person)
        })?;
        someone.cards.first().map(String::as_str)
    }
}

fn write_entries(tally: &Tally, out: &mut dyn Write) -> io::Result<()> {
    let denied = tally.denied_in_all();
    let all = tally.granted.saturating_add(denied);
    writeln!(out, "Entries {:>width$}", number(all), width = LABEL_WIDTH + NUMBER_WIDTH - 8)?;
    let flagged = format!("{} of them inside already: the annex only flags that", number(tally.violations));
    row(out, "granted", tally.granted, &flagged)?;
    row(out, "denied", denied, "")?;
    for reason in Reason::ALL {
        let name = reason.as_str();
        let count = tally.denied.get(name).copied().unwrap_or_default();
        row(out, &format!("  {name}"), count, meaning(reason))?;
    }
    writeln!(out)
}

fn write_check(takings: &Takings, tally: &Tally, out: &mut dyn Write) -> io::Result<()> {
    if tally.mismatches.count == 0 {
        writeln!(
            out,
            "Checked against a model of its own, with no mismatch:\n  every answer, who is inside at the end, and what the sinks have"
        )?;
    } else {
        write_list("MISMATCHES with the model", &tally.mismatches, out)?;
    }
    if takings.failures.count > 0 {
        write_list("FAILED requests", &takings.failures, out)?;
    }
    if takings.is_full() {
        writeln!(out, "The load ended early: more swipes than one demo keeps in memory")?;
    }
    if takings.left_standing > 0 {
        writeln!(
            out,
            "{} people still stood before a gate at the end: more than the gates could take;",
            number(takings.left_standing)
        )?;
        writeln!(out, "  fewer --employees or a longer --for show whole days")?;
    }
    writeln!(out)
}

fn write_list(title: &str, list: &Mismatches, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{title}: {}", number(list.count))?;
    for shown in &list.shown {
        writeln!(out, "  {shown}")?;
    }
    let left_off = list.count.saturating_sub(u64::try_from(list.shown.len()).unwrap_or(u64::MAX));
    if left_off > 0 { writeln!(out, "  and {} more", number(left_off)) } else { Ok(()) }
}

fn meaning(reason: Reason) -> &'static str {
    match reason {
        Reason::UnknownCard => "a visitor with a card of another company",
        Reason::GateNotAllowed => "no right to the annex",
        Reason::OutOfSchedule => "at a time that its groups do not open the gate",
        Reason::AntiPassback => "inside already: card handed back, or a second card lent",
        Reason::OccupancyFull => "a meeting that the annex is too small for",
        Reason::Lost => "reported lost at lunch, tried by whoever found it",
        Reason::NotYetValid => "the card's first day is to come",
        Reason::Expired => "the card's last day has been",
        Reason::Suspended => "out of use for a while",
        Reason::Revoked => "out of use for good",
        Reason::Lockdown => "lockdown",
        Reason::Evacuation => "evacuation",
    }
}

fn row(out: &mut dyn Write, label: &str, value: u64, meaning: &str) -> io::Result<()> {
    let line =
        format!("  {label:<width$}{:>NUMBER_WIDTH$}  {meaning}", number(value), width = LABEL_WIDTH - 2);
    writeln!(out, "{}", line.trim_end())
}

fn number(value: u64) -> String {
    HumanCount(value).to_string()
}

fn count(value: usize) -> String {
    number(u64::try_from(value).unwrap_or(u64::MAX))
}

/// Exact enough for a rate.
fn number_of_f64(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}

fn micros(value: u64) -> String {
    let duration = Duration::from_micros(value);
    format!("{:.2} ms", duration.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(takings: &Takings, tally: &Tally) -> String {
        let mut out = Vec::new();
        write_check(takings, tally, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn mismatches_and_failures_are_shown_and_the_rest_is_counted() {
        let (mut takings, mut tally) = (Takings::new(2).unwrap(), Tally::default());
        assert!(check(&takings, &tally).contains("no mismatch"));
        (0..12).for_each(|index| tally.mismatches.add(format!("wrong {index}")));
        takings.failures.add("/v1/sinks: 503".to_owned());
        let text = check(&takings, &tally);
        assert!(text.starts_with("MISMATCHES with the model: 12\n  wrong 0\n"), "{text}");
        assert!(text.contains("  and 2 more\nFAILED requests: 1\n  /v1/sinks: 503\n"), "{text}");
    }

    #[test]
    fn numbers_are_aligned_and_empty_meanings_leave_no_spaces() {
        let mut out = Vec::new();
        row(&mut out, "hq", 1_234, "").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("  {:<20}{:>10}\n", "hq", "1,234"));
    }
}
