//! How far the demo is, on stderr: a bar in a terminal, a line now and then elsewhere.

use std::{
    io::{self, IsTerminal, Write},
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{clock::TimeOfDay, setting::Place, takings::Takings};

/// How often the bar is drawn.
pub(super) const DRAW_EVERY: Duration = Duration::from_millis(100);
/// How often there is a line without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The two ways to show it.
pub(super) enum Progress {
    /// A terminal: a bar.
    Bar(ProgressBar),
    /// Anything else: lines, the last one then.
    Lines(Mutex<Instant>),
}

impl Progress {
    pub(super) fn new() -> Self {
        if io::stderr().is_terminal() {
            Self::Bar(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()))
        } else {
            Self::Lines(Mutex::new(Instant::now()))
        }
    }

    /// Begins to register so many cards.
    pub(super) fn begin_cards(&self, cards: u64) {
        match self {
            Self::Bar(bar) => {
                bar.set_style(style("{bar:12} {human_pos} of {human_len} cards registered over the API"));
                bar.set_length(cards);
            }
            Self::Lines(_) => line(&format!("registering {} cards over the API", HumanCount(cards))),
        }
    }

    /// One more card.
    pub(super) fn card(&self) {
        if let Self::Bar(bar) = self {
            bar.inc(1);
        }
    }

    /// Begins the days, which take so long.
    pub(super) fn begin_days(&self, length: Duration) {
        match self {
            Self::Bar(bar) => {
                bar.reset();
                bar.set_style(style("{bar:12} {wide_msg}"));
                bar.set_length(millis(length));
            }
            Self::Lines(_) => line(&format!("people come and go for {} s", length.as_secs_f64())),
        }
    }

    /// Shows how the day goes.
    pub(super) fn show_day(
        &self,
        elapsed: Duration,
        (day, time): (u32, TimeOfDay),
        takings: &Takings,
        places: &[Place],
    ) {
        let tell = || {
            let swipes = HumanCount(u64::try_from(takings.observed.len()).unwrap_or(u64::MAX));
            let inside: Vec<String> = (places.iter().zip(takings.people_inside()))
                .map(|(place, people)| format!("{} {people}", place.id))
                .collect();
            let (day, happening) = (u64::from(day) + 1, time.happening());
            format!("day {day} {time}  {happening}  {swipes} swipes  inside: {}", inside.join(", "))
        };
        match self {
            Self::Bar(bar) => {
                bar.set_position(millis(elapsed));
                bar.set_message(tell());
            }
            Self::Lines(last) => {
                let Ok(mut last) = last.lock() else { return };
                if last.elapsed() >= LINE_EVERY {
                    *last = Instant::now();
                    line(&tell());
                }
            }
        }
    }

    /// Says what is being waited for at the end.
    pub(super) fn settle(&self) {
        const TEXT: &str = "waiting until every sink has everything";
        match self {
            Self::Bar(bar) => bar.set_message(TEXT),
            Self::Lines(_) => line(TEXT),
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Progress that cannot be written is not worth failing for.
fn line(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}
