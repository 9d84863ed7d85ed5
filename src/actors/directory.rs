//! Owns the cards. Building actors see them through [`DirectoryView`]: they share the thread, so a revoke
//! is seen by every gate from the moment it is decided, before its 200 leaves.

pub mod import;
pub mod unknown_groups;

use std::{cell::RefCell, rc::Rc};

use actix::{Actor, Context, Handler, Message};
use thiserror::Error;
use tokio::sync::oneshot;

use super::{
    places::NoPlace,
    recorder::{Origin, Recorder},
};
use crate::{
    domain::{
        card::{Card, Status},
        card_search::CardSearch,
        card_sync::ForeignCard,
        directory::{CardCommand, CardRefusal, Directory},
        event::{Body, CardChange},
        ids::{CardId, EmployeeId},
        trace::TraceContext,
    },
    space::Need,
};

/// Requests that may wait for the directory; at the limit they are answered 503.
pub const MAILBOX_MESSAGES: usize = 1_024;

/// Cards that one read looks at, matching or not: the gates' decisions wait for it, so it is short.
pub const MAX_LOOKED_AT_CARDS: usize = 5_000;

/// The cards, to look at.
#[derive(Clone, Debug)]
pub struct DirectoryView(Rc<RefCell<Directory>>);

impl DirectoryView {
    /// Calls `look` with a card as it stands, `None` if it is unknown.
    pub fn with_card<T>(&self, card_id: &CardId, look: impl FnOnce(Option<&Card>) -> T) -> T {
        look(self.0.borrow().find(card_id))
    }
}

/// Owns the cards.
pub struct DirectoryActor {
    directory: Rc<RefCell<Directory>>,
    recorder: Recorder,
}

impl DirectoryActor {
    /// The owner of `directory`, and the view for everyone else on this thread.
    #[must_use]
    pub fn new(directory: Directory, recorder: Recorder) -> (Self, DirectoryView) {
        let directory = Rc::new(RefCell::new(directory));
        let view = DirectoryView(Rc::clone(&directory));
        (Self { directory, recorder }, view)
    }
}

impl Actor for DirectoryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MESSAGES);
    }
}

/// Why a card was not changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ChangeError {
    /// The rules say no.
    #[error(transparent)]
    Refused(#[from] CardRefusal),
    /// The log takes nothing; safe to try again.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
}

/// Change a card. The reply leaves when the change is durable.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ChangeCard {
    /// Which card.
    pub card_id: CardId,
    /// What to do with it.
    pub command: CardCommand,
    /// Why.
    pub note: Option<String>,
    /// Who asks.
    pub origin: Origin,
    /// The whole card afterwards, and whether it is new.
    pub reply: oneshot::Sender<Result<Changed, ChangeError>>,
}

/// The card after a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// The whole card.
    pub card: Card,
    /// Whether it was registered by this change.
    pub is_new: bool,
}

impl Handler<ChangeCard> for DirectoryActor {
    type Result = ();

    fn handle(&mut self, change: ChangeCard, _: &mut Self::Context) {
        let ChangeCard { card_id, command, note, origin, reply } = change;
        let takes_away =
            matches!(command, CardCommand::Suspend | CardCommand::Revoke | CardCommand::ReportLost);
        let mut group = match self.recorder.place(Need::card(takes_away)) {
            Ok(group) => group,
            Err(error) => return drop(reply.send(Err(error.into()))),
        };
        let mut directory = self.directory.borrow_mut();
        let body = match directory.decide(&card_id, command, note) {
            Ok(body) => body,
            // Not before what it is based on is durable.
            Err(refusal) => return group.send(move || drop(reply.send(Err(refusal.into())))),
        };
        let is_new = matches!(&body, Some(Body::Card(changed)) if changed.change == CardChange::Registered);
        if let Some(body) = body {
            directory.apply(&group.add(body, &origin));
        }
        let card = directory.find(&card_id).cloned();
        group.send(move || {
            if let Some(card) = card {
                let _ = reply.send(Ok(Changed { card, is_new }));
            }
        });
    }
}

/// Hear what another server says of a card. The reply leaves when what came of it is durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct HearOfCard {
    /// What it says.
    pub foreign: ForeignCard,
    /// The span there.
    pub trace: Option<TraceContext>,
    /// What came of it.
    pub reply: oneshot::Sender<Result<Heard, NoPlace>>,
}

/// What came of another server's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It counts here, too.
    Applied {
        /// Whether it took away, which a full disk does not hinder.
        takes_away: bool,
    },
    /// What is known here counts more, or is the same.
    Outdated,
}

impl Handler<HearOfCard> for DirectoryActor {
    type Result = ();

    fn handle(&mut self, HearOfCard { foreign, trace, reply }: HearOfCard, _: &mut Self::Context) {
        let server = &self.recorder.log_name().server;
        let mut directory = self.directory.borrow_mut();
        let takes_away = foreign.takes_away_from(directory.find(&foreign.card.card_id));
        let by = Origin { by: format!("server/{}", foreign.from_server()), trace };
        let heard = directory.hear(foreign, server);
        let need = if heard.is_some() { Need::card(takes_away) } else { Need::Nothing };
        let mut group = match self.recorder.place(need) {
            Ok(group) => group,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        let came_of_it = if heard.is_some() { Heard::Applied { takes_away } } else { Heard::Outdated };
        if let Some(body) = heard {
            directory.apply(&group.add(body, &by));
        }
        // of what is outdated: not before what it is held against is durable
        group.send(move || {
            let _ = reply.send(Ok(came_of_it));
        });
    }
}

/// Read some cards in the order of their ids. The reply leaves when all it shows is durable.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReadCards {
    /// Which ones.
    pub query: CardQuery,
    /// The cards.
    pub reply: oneshot::Sender<Result<CardPage, NoPlace>>,
}

/// Which cards to read.
#[derive(Clone, Debug, Default)]
pub struct CardQuery {
    /// This person's only.
    pub employee_id: Option<EmployeeId>,
    /// In this status only.
    pub status: Option<Status>,
    /// That this finds only.
    pub search: Option<CardSearch>,
    /// After this one.
    pub after: Option<CardId>,
    /// At most so many.
    pub limit: usize,
}

/// Some cards, and where to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CardPage {
    /// In the order of their ids. May be fewer than asked for, or none, and yet not the last.
    pub cards: Vec<Card>,
    /// The card to go on after; `None`: these were the last.
    pub next: Option<CardId>,
    /// They are so after this sequence, and before the next.
    pub as_of: u64,
}

impl CardQuery {
    fn run(&self, directory: &Directory) -> CardPage {
        match &self.employee_id {
            Some(employee) => {
                let after = |card: &&Card| self.after.as_ref().is_none_or(|after| card.card_id > *after);
                self.page(directory.cards_of(employee).filter(after))
            }
            None => self.page(directory.cards_after(self.after.as_ref())),
        }
    }

    fn page<'a>(&self, cards: impl Iterator<Item = &'a Card>) -> CardPage {
        let mut page = CardPage::default();
        let mut last = None;
        for (looked_at, card) in cards.enumerate() {
            if page.cards.len() >= self.limit || looked_at >= MAX_LOOKED_AT_CARDS {
                page.next = last;
                break;
            }
            let is_meant = self.status.is_none_or(|status| card.status == status)
                && self.search.as_ref().is_none_or(|search| search.matches(card));
            if is_meant {
                page.cards.push(card.clone());
            }
            last = Some(card.card_id.clone());
        }
        page
    }
}

impl Handler<ReadCards> for DirectoryActor {
    type Result = ();

    fn handle(&mut self, read: ReadCards, _: &mut Self::Context) {
        let group = match self.recorder.place(Need::Nothing) {
            Ok(group) => group,
            Err(error) => return drop(read.reply.send(Err(error))),
        };
        let page =
            CardPage { as_of: self.recorder.last_sequence(), ..read.query.run(&self.directory.borrow()) };
        group.send(move || drop(read.reply.send(Ok(page))));
    }
}

/// Read one card. The reply leaves when all it shows is durable.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FindCard {
    /// Which one.
    pub card_id: CardId,
    /// The card.
    pub reply: oneshot::Sender<Result<Option<Card>, NoPlace>>,
}

impl Handler<FindCard> for DirectoryActor {
    type Result = ();

    fn handle(&mut self, find: FindCard, _: &mut Self::Context) {
        let group = match self.recorder.place(Need::Nothing) {
            Ok(group) => group,
            Err(error) => return drop(find.reply.send(Err(error))),
        };
        let card = self.directory.borrow().find(&find.card_id).cloned();
        group.send(move || drop(find.reply.send(Ok(card))));
    }
}
