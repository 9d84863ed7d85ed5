//! Rows of an import, a few at a time: gates go on between one piece and the next, and the next piece begins when this one
//! is durable.

use std::vec::IntoIter;

use actix::{Handler, Message};
use tokio::sync::oneshot;

use super::DirectoryActor;
use crate::{
    actors::{places::NoPlace, recorder::Origin},
    domain::import::{ImportRow, Report},
    space::{MAX_CARD_BYTES, Need},
};

/// Rows of one piece: what a gate waits for, beside its own commit.
pub const MAX_PIECE_ROWS: usize = 128;

/// A piece takes no more rows once its events have so many bytes: a quarter of a commit.
const MAX_PIECE_BYTES: u64 = 256 << 10;

/// Look at some rows of an import, or carry them out. The reply leaves when all it tells is durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ImportRows {
    /// At most [`MAX_PIECE_ROWS`].
    pub rows: IntoIter<ImportRow>,
    /// Who asks; `None`: nothing is changed.
    pub apply_for: Option<Origin>,
    /// What became of the rows.
    pub reply: oneshot::Sender<Result<SomeImported, NoPlace>>,
}

/// What became of some rows.
#[derive(Debug)]
pub struct SomeImported {
    /// Of those that were taken.
    pub report: Report,
    /// Those that are left.
    pub left: IntoIter<ImportRow>,
}

impl Handler<ImportRows> for DirectoryActor {
    type Result = ();

    fn handle(&mut self, ImportRows { mut rows, apply_for, reply }: ImportRows, _: &mut Self::Context) {
        let need = match apply_for {
            // also a row that takes rights away: who revokes uses the reserve, who imports does not
            Some(_) => Need::Entry { bytes: MAX_PIECE_BYTES + MAX_CARD_BYTES },
            None => Need::Nothing,
        };
        let mut group = match self.recorder.place(need) {
            Ok(group) => group,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let mut directory = self.directory.borrow_mut();
        let mut report = Report::default();
        while group.log_bytes() < MAX_PIECE_BYTES {
            let Some(row) = rows.next() else { break };
            let decided = row.decide(&directory);
            report.take(&decided);
            if let (Ok(Some(body)), Some(origin)) = (decided, &apply_for) {
                directory.apply(&group.add(body, origin));
            }
        }
        let imported = SomeImported { report, left: rows };
        group.send(move || drop(reply.send(Ok(imported))));
    }
}
