//! Cards that name groups which the configuration does not have: such a group allows nothing, and what it denied is no
//! longer known.

use std::{collections::BTreeSet, sync::Arc};

use actix::{Handler, Message};
use tokio::sync::oneshot;

use super::{DirectoryActor, MAX_LOOKED_AT_CARDS};
use crate::domain::ids::{CardId, GroupId};

/// Count some such cards, in the order of their ids. Of no personal data, so it waits for nothing.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CountCardsOfUnknownGroups {
    /// The groups that there are.
    pub known: Arc<BTreeSet<GroupId>>,
    /// After this one.
    pub after: Option<CardId>,
    /// What was found.
    pub reply: oneshot::Sender<SomeCounted>,
}

/// What was found in some cards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SomeCounted {
    /// Cards that name a group which is not known.
    pub cards: u64,
    /// One such group.
    pub example: Option<GroupId>,
    /// The card to go on after; `None`: these were the last.
    pub next: Option<CardId>,
}

impl Handler<CountCardsOfUnknownGroups> for DirectoryActor {
    type Result = ();

    fn handle(&mut self, count: CountCardsOfUnknownGroups, _: &mut Self::Context) {
        let CountCardsOfUnknownGroups { known, after, reply } = count;
        let directory = self.directory.borrow();
        let mut counted = SomeCounted::default();
        let mut last = None;
        let mut looked_at = 0;
        for card in directory.cards_after(after.as_ref()).take(MAX_LOOKED_AT_CARDS) {
            let mut named = card.details.groups.iter().flatten();
            if let Some(unknown) = named.find(|group| !known.contains(*group)) {
                counted.cards += 1;
                counted.example.get_or_insert_with(|| unknown.clone());
            }
            last = Some(&card.card_id);
            looked_at += 1;
        }
        counted.next = last.filter(|_| looked_at == MAX_LOOKED_AT_CARDS).cloned();
        let _ = reply.send(counted);
    }
}
