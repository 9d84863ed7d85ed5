//! Which fault meets which request: every one that is wanted, once, in an order that the seed gives.

use crate::random::Random;

/// What may happen to a request on its way to a service and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The service asks for less. It is not asked itself.
    Throttle,
    /// A 500 with a page for people, from something before the service.
    ServerError,
    /// The connection is reset before the service has seen anything.
    Reset,
    /// The service does it, and nobody hears of it.
    LoseReply,
    /// The service does it, and its answer breaks off.
    CutReply,
    /// The service does it, and its answer comes after that of later requests.
    SlowReply,
    /// The rights to do it are missing.
    Forbid,
    /// It goes to a topic, bucket or table that is not there.
    Misdirect,
    /// The service takes all but so many entries of the batch.
    RefuseSome(usize),
    /// The service takes one entry of the batch.
    RefuseAllButOne,
}

/// Of every request, whatever it holds. Lost replies more often: they alone may repeat an event.
const OF_ANY_REQUEST: [Fault; 11] = [
    Fault::Throttle,
    Fault::ServerError,
    Fault::Reset,
    Fault::LoseReply,
    Fault::LoseReply,
    Fault::LoseReply,
    Fault::CutReply,
    Fault::SlowReply,
    Fault::SlowReply,
    Fault::Forbid,
    Fault::Misdirect,
];
/// After so many faults in a row a request is spared: an event that failed ten times waits for half a minute.
const MAX_IN_A_ROW: usize = 3;
/// Beside that, one in so many.
const SPARED_EVERY: u64 = 4;

/// The faults that are still to come.
pub(super) struct Deck {
    cards: Vec<Fault>,
    in_a_row: usize,
    random: Random,
}

impl Deck {
    /// So many entries of a batch are refused, once each; none for a service that takes no batches.
    pub(super) fn new(refused: &[usize], random: Random) -> Self {
        let mut cards = OF_ANY_REQUEST.to_vec();
        cards.extend(refused.iter().copied().map(Fault::RefuseSome));
        if !refused.is_empty() {
            cards.push(Fault::RefuseAllButOne);
        }
        Self { cards, in_a_row: 0, random }
    }

    /// What becomes of a request of so many entries; `None`: nothing bad.
    pub(super) fn draw(&mut self, entries: usize) -> Option<Fault> {
        let fits = |card: &Fault| match card {
            Fault::RefuseSome(refused) => *refused <= entries,
            Fault::RefuseAllButOne => entries > 2,
            _ => true,
        };
        let fitting: Vec<usize> = (0..self.cards.len()).filter(|place| fits(&self.cards[*place])).collect();
        if fitting.is_empty() || self.in_a_row == MAX_IN_A_ROW || self.random.one_in(SPARED_EVERY) {
            self.in_a_row = 0;
            return None;
        }
        self.in_a_row += 1;
        let place = fitting[self.random.below(fitting.len() as u64) as usize];
        Some(self.cards.swap_remove(place))
    }

    /// `taken` of `entries` are taken, at random places.
    pub(super) fn choose(&mut self, entries: usize, taken: usize) -> Vec<bool> {
        let mut chosen: Vec<bool> = (0..entries).map(|place| place < taken).collect();
        for place in (1..entries).rev() {
            let other = self.random.below(place as u64 + 1) as usize;
            chosen.swap(place, other);
        }
        chosen
    }

    pub(super) fn left(&self) -> &[Fault] {
        &self.cards
    }
}
