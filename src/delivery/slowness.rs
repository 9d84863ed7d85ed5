//! When the log says that a sink has become slow: at the first send of a spell, and when it is quick again.

use std::time::Duration;

use super::notices::MIN_GAP;

/// A send that takes longer is slow, beside what its bytes may take.
pub const SLOW_SEND: Duration = Duration::from_secs(1);
/// What a line has to carry in a second for a large batch not to be slow: about 8 Mbit/s.
pub const EXPECTED_BYTES_PER_SECOND: u64 = 1 << 20;
/// So many sends in a row that are quick end a spell: of several at once some are quick all the while.
pub const QUICK_SENDS_IN_A_ROW: u32 = 10;

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// This send was slow, and those before were not.
    Slow,
    /// It has been quick for a while.
    QuickAgain {
        /// How long after the first slow send.
        after: Duration,
    },
}

/// One request to a sink's service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// How long it took.
    pub took: Duration,
    /// Of all its records.
    pub bytes: u64,
    /// The service has taken something of it. Where it refuses at once it is not quick.
    pub is_taken: bool,
}

impl Sending {
    /// Whether it took longer than it should.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        let bytes_take = Duration::from_millis(self.bytes.saturating_mul(1_000) / EXPECTED_BYTES_PER_SECOND);
        self.took > SLOW_SEND.saturating_add(bytes_take)
    }
}

/// Remembers how quick one sink was.
#[derive(Debug, Default)]
pub struct Slowness {
    spell: Option<Spell>,
    /// When a spell was last said. It is at most once in [`MIN_GAP`]; what lasts longer is said then.
    last_said: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Spell {
    since: Duration,
    is_said: bool,
    quick_in_a_row: u32,
}

impl Slowness {
    /// Looks at a send that has ended at `now`, by a clock that only runs forwards; what there is to say, if anything.
    pub fn look(&mut self, send: &Sending, now: Duration) -> Option<Notice> {
        if send.is_slow() {
            return self.slow(now);
        }
        let spell = self.spell.as_mut().filter(|_| send.is_taken)?;
        spell.quick_in_a_row = spell.quick_in_a_row.saturating_add(1);
        if spell.quick_in_a_row < QUICK_SENDS_IN_A_ROW {
            return None;
        }
        let Spell { since, is_said, .. } = self.spell.take()?;
        is_said.then(|| Notice::QuickAgain { after: now.saturating_sub(since) })
    }

    fn slow(&mut self, now: Duration) -> Option<Notice> {
        let spell = self.spell.get_or_insert(Spell { since: now, is_said: false, quick_in_a_row: 0 });
        spell.quick_in_a_row = 0;
        if spell.is_said || self.last_said.is_some_and(|last| now < last.saturating_add(MIN_GAP)) {
            return None;
        }
        spell.is_said = true;
        self.last_said = Some(now);
        Some(Notice::Slow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn send(millis: u64) -> Sending {
        Sending { took: Duration::from_millis(millis), bytes: 0, is_taken: true }
    }

    #[test]
    fn a_spell_is_said_once_and_its_end_once() {
        let mut sink = Slowness::default();
        assert_eq!(sink.look(&send(1_000), secs(1)), None);
        assert_eq!(sink.look(&send(1_001), secs(10)), Some(Notice::Slow));
        for second in 11..500 {
            assert_eq!(sink.look(&send(5_000), secs(second)), None, "{second}");
        }
        for second in 501..510 {
            assert_eq!(sink.look(&send(20), secs(second)), None, "{second}");
        }
        assert_eq!(sink.look(&send(20), secs(510)), Some(Notice::QuickAgain { after: secs(500) }));
        assert_eq!(sink.look(&send(20), secs(511)), None);
        assert_eq!(sink.look(&send(2_000), secs(512)), Some(Notice::Slow));
    }

    #[test]
    fn quick_ones_between_slow_ones_end_nothing_and_neither_do_refusals() {
        let mut sink = Slowness::default();
        assert_eq!(sink.look(&send(2_000), secs(1)), Some(Notice::Slow));
        for second in 2..400 {
            let millis = if second % 10 == 0 { 2_000 } else { 1 };
            assert_eq!(sink.look(&send(millis), secs(second)), None, "{second}");
        }
        let refused = Sending { is_taken: false, ..send(1) };
        for second in 400..500 {
            assert_eq!(sink.look(&refused, secs(second)), None, "{second}");
        }
    }

    #[test]
    fn one_that_comes_and_goes_is_said_once_a_minute_at_most() {
        let mut sink = Slowness::default();
        let mut said = Vec::new();
        for second in 1..=200 {
            let slow = sink.look(&send(2_000), secs(second));
            let quick = (0..QUICK_SENDS_IN_A_ROW).filter_map(|_| sink.look(&send(1), secs(second)));
            said.extend(slow.into_iter().chain(quick.collect::<Vec<_>>()).map(|notice| (second, notice)));
        }
        let at = |second| [(second, Notice::Slow), (second, Notice::QuickAgain { after: secs(0) })];
        assert_eq!(said, [at(1), at(61), at(121), at(181)].concat());
        // one that lasts is said when the minute is over
        let mut sink = Slowness { last_said: Some(secs(1)), ..Slowness::default() };
        let said: Vec<u64> =
            (2..=100).filter(|second| sink.look(&send(2_000), secs(*second)).is_some()).collect();
        assert_eq!(said, [61]);
    }

    #[test]
    fn a_large_batch_may_take_as_long_as_a_slow_line() {
        let upload = |millis| Sending { bytes: 64 << 20, ..send(millis) };
        assert!(!upload(65_000).is_slow() && upload(65_001).is_slow());
        assert!(!Sending { bytes: u64::MAX, ..send(1) }.is_slow());
    }
}
