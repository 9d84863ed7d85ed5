//! Cards in some order: one sorted list in pieces, so that a new card moves few others. Made for a million, where a
//! place costs a pointer and no key of its own.

use std::sync::Arc;

use super::{card::Card, ids::CardId};

/// The most cards of a piece; at the limit it becomes two halves, or at its end a new one begins.
const MAX_PIECE_CARDS: usize = 512;

/// Holds for the cards before some place, and for none after it.
pub(super) type IsBefore<'a> = &'a dyn Fn(&Card) -> bool;

/// Cards in the order that the closures of its callers tell: always the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct SortedCards {
    /// None is empty.
    pieces: Vec<Vec<Arc<Card>>>,
}

impl SortedCards {
    /// The cards from the first one on for which `is_before` no longer holds.
    pub(super) fn from<'a>(&'a self, is_before: IsBefore<'_>) -> impl Iterator<Item = &'a Card> + use<'a> {
        let (piece, place) = self.place(is_before);
        self.pieces.iter().skip(piece).flatten().skip(place).map(|card| &**card)
    }

    /// Puts a card behind those for which `is_before` holds, in place of what is known of it there.
    pub(super) fn put(&mut self, card: Arc<Card>, is_before: IsBefore<'_>) {
        let (at, place) = self.place(is_before);
        let Some(piece) = self.pieces.get_mut(at) else {
            return self.append(card);
        };
        match piece.get_mut(place) {
            Some(known) if known.card_id == card.card_id => *known = card,
            _ => {
                piece.insert(place, card);
                if piece.len() > MAX_PIECE_CARDS {
                    let half = piece.split_off(MAX_PIECE_CARDS / 2);
                    self.pieces.insert(at + 1, half);
                }
            }
        }
    }

    /// Takes a card away from behind those for which `is_before` holds, if it is there.
    pub(super) fn remove(&mut self, card_id: &CardId, is_before: IsBefore<'_>) {
        let (at, place) = self.place(is_before);
        let Some(piece) = self.pieces.get_mut(at) else { return };
        if piece.get(place).is_some_and(|card| card.card_id == *card_id) {
            piece.remove(place);
        }
        if piece.is_empty() {
            self.pieces.remove(at);
        }
    }

    /// Behind all others. Cards that come in order, as from a snapshot, fill every piece.
    fn append(&mut self, card: Arc<Card>) {
        match self.pieces.last_mut() {
            Some(last) if last.len() < MAX_PIECE_CARDS => last.push(card),
            _ => self.pieces.push(vec![card]),
        }
    }

    /// The piece with the first card for which `is_before` does not hold, and its place there; behind the last piece if
    /// there is none.
    fn place(&self, is_before: IsBefore<'_>) -> (usize, usize) {
        let is_before = |card: &Arc<Card>| is_before(card);
        let at = self.pieces.partition_point(|piece| piece.last().is_some_and(is_before));
        let place = self.pieces.get(at).map_or(0, |piece| piece.partition_point(is_before));
        (at, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(number: u64, version: u64) -> Arc<Card> {
        let card_id = format!("C{number:06}");
        Arc::new(
            serde_json::from_value(serde_json::json!({
                "card_id": card_id, "employee_id": "E1", "status": "active", "version": version
            }))
            .unwrap(),
        )
    }

    fn put(cards: &mut SortedCards, card: Arc<Card>) {
        let id = card.card_id.clone();
        cards.put(card, &|other| other.card_id < id);
    }

    /// Every number from 0 to `count` - 1, far from its neighbours.
    fn scattered(count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(move |number| number * 7_919 % count)
    }

    #[test]
    fn keeps_the_order_however_cards_come() {
        const COUNT: u64 = 5_000;
        let orders: [Box<dyn Iterator<Item = u64>>; 3] =
            [Box::new(0..COUNT), Box::new((0..COUNT).rev()), Box::new(scattered(COUNT))];
        for order in orders {
            let mut cards = SortedCards::default();
            order.for_each(|number| put(&mut cards, card(number, 1)));
            scattered(COUNT).for_each(|number| put(&mut cards, card(number, 2)));
            let expected: Vec<_> = (0..COUNT).map(|number| card(number, 2)).collect();
            assert!(cards.from(&|_| false).eq(expected.iter().map(|card| &**card)));
            assert!(cards.pieces.iter().all(|piece| (1..=MAX_PIECE_CARDS).contains(&piece.len())));
            let first = card(4_321, 1);
            let rest: Vec<_> = cards.from(&|other| other.card_id <= first.card_id).collect();
            assert!(rest.into_iter().eq(expected.iter().skip(4_322).map(|card| &**card)));
        }
    }

    #[test]
    fn what_is_removed_is_gone_and_nothing_else_is() {
        const COUNT: u64 = 2_000;
        let mut cards = SortedCards::default();
        scattered(COUNT).for_each(|number| put(&mut cards, card(number, 1)));
        let remove = |cards: &mut SortedCards, number| {
            let gone = card(number, 1);
            cards.remove(&gone.card_id, &|other| other.card_id < gone.card_id);
        };
        // the last one is not there
        scattered(COUNT + 1).filter(|number| number % 3 != 1).for_each(|number| remove(&mut cards, number));
        let expected: Vec<_> =
            (0..COUNT).filter(|number| number % 3 == 1).map(|number| card(number, 1)).collect();
        assert!(cards.from(&|_| false).eq(expected.iter().map(|card| &**card)));
        assert!(cards.pieces.iter().all(|piece| !piece.is_empty()));
    }

    #[test]
    fn cards_in_order_fill_their_pieces() {
        let mut cards = SortedCards::default();
        (0..MAX_PIECE_CARDS as u64 * 3).for_each(|number| put(&mut cards, card(number, 1)));
        assert_eq!(cards.pieces.len(), 3);
    }
}
