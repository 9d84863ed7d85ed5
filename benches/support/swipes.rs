//! Who swipes: the same people in the same order for every server.

use std::ops::Range;

use super::load::{Request, Script};

/// Connections of the loaded case.
pub(crate) const CONNECTIONS: usize = 64;

/// Cards of the single connection; the others have the rest, each its own.
const CARDS_OF_ONE: usize = 360;

/// Makes a server's request of an entry (`true`) or an exit of card `C<number>`.
pub(crate) type MakeRequest<'a> = &'a dyn Fn(bool, usize) -> Request;

/// One connection: an employee enters and leaves, then the next one does.
pub(crate) fn alone(make: MakeRequest<'_>) -> Vec<Script> {
    vec![in_and_out(0..CARDS_OF_ONE, make)]
}

/// All connections, each with people of its own, so that every entry is granted.
pub(crate) fn crowd(cards: usize, make: MakeRequest<'_>) -> Vec<Script> {
    let each = (cards - CARDS_OF_ONE) / CONNECTIONS;
    let firsts = (0..CONNECTIONS).map(|connection| CARDS_OF_ONE + connection * each);
    firsts.map(|first| in_and_out(first..first + each, make)).collect()
}

fn in_and_out(cards: Range<usize>, make: MakeRequest<'_>) -> Script {
    Script::new(cards.flat_map(|card| [make(true, card), make(false, card)]).collect())
}

/// One connection that takes `cards` in and out.
pub(crate) fn alone_with(cards: impl Iterator<Item = usize>, make: MakeRequest<'_>) -> Vec<Script> {
    vec![Script::new(cards.flat_map(|card| [make(true, card), make(false, card)]).collect())]
}
