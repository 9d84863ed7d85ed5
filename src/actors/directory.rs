//! Owns the cards. Building actors see them through [`DirectoryView`]: they share the thread, so a revoke
//! is seen by every gate from the moment it is decided, before its 200 leaves.

use std::{cell::RefCell, rc::Rc};

use actix::{Actor, Context, Handler, Message};
use thiserror::Error;
use tokio::sync::oneshot;

use super::recorder::{NoPlace, Origin, Recorder};
use crate::domain::{
    card::{Card, Status},
    directory::{CardCommand, CardRefusal, Directory},
    event::{Body, CardChange},
    ids::{CardId, EmployeeId},
};

/// Requests that may wait for the directory; at the limit they are answered 503.
pub const MAILBOX_MESSAGES: usize = 1_024;

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
        let mut group = match self.recorder.place() {
            Ok(group) => group,
            Err(error) => return drop(reply.send(Err(error.into()))),
        };
        let mut directory = self.directory.borrow_mut();
        let body = match directory.decide(&card_id, command, note) {
            Ok(body) => body,
            Err(refusal) => return drop(reply.send(Err(refusal.into()))),
        };
        let is_new = matches!(&body, Some(Body::Card(changed)) if changed.change == CardChange::Registered);
        if let Some(body) = body {
            directory.apply(&group.add(body, &origin, self.recorder.now()));
        }
        let card = directory.find(&card_id).cloned();
        group.send(move || {
            if let Some(card) = card {
                let _ = reply.send(Ok(Changed { card, is_new }));
            }
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
    pub reply: oneshot::Sender<Result<Vec<Card>, NoPlace>>,
}

/// Which cards to read.
#[derive(Clone, Debug, Default)]
pub struct CardQuery {
    /// This one only.
    pub card_id: Option<CardId>,
    /// This person's only.
    pub employee_id: Option<EmployeeId>,
    /// In this status only.
    pub status: Option<Status>,
    /// After this one.
    pub after: Option<CardId>,
    /// At most so many.
    pub limit: usize,
}

impl CardQuery {
    fn run(&self, directory: &Directory) -> Vec<Card> {
        let wanted = |card: &&Card| {
            self.status.is_none_or(|status| card.status == status)
                && self.after.as_ref().is_none_or(|after| card.card_id > *after)
        };
        let mut found: Vec<&Card> = match (&self.card_id, &self.employee_id) {
            (Some(card_id), _) => directory.find(card_id).into_iter().filter(wanted).collect(),
            (None, Some(employee)) => directory.cards_of(employee).filter(wanted).collect(),
            (None, None) => directory.cards().filter(wanted).collect(),
        };
        if found.len() > self.limit && self.limit > 0 {
            found.select_nth_unstable_by(self.limit - 1, |a, b| a.card_id.cmp(&b.card_id));
        }
        found.truncate(self.limit);
        found.sort_unstable_by(|a, b| a.card_id.cmp(&b.card_id));
        found.into_iter().cloned().collect()
    }
}

impl Handler<ReadCards> for DirectoryActor {
    type Result = ();

    fn handle(&mut self, read: ReadCards, _: &mut Self::Context) {
        let group = match self.recorder.place() {
            Ok(group) => group,
            Err(error) => return drop(read.reply.send(Err(error))),
        };
        let cards = read.query.run(&self.directory.borrow());
        group.send(move || drop(read.reply.send(Ok(cards))));
    }
}
