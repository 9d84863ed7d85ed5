//! Says loudly how many cards name groups that the configuration does not have.

use std::{collections::BTreeSet, sync::Arc};

use actix::Addr;
use tokio::sync::oneshot;

use crate::{
    actors::directory::{
        DirectoryActor,
        unknown_groups::{CountCardsOfUnknownGroups, SomeCounted},
    },
    domain::ids::GroupId,
    metrics::Metrics,
};

/// Counts them piece by piece, warns of them, and shows them in the metrics. Gives up if the server stops meanwhile.
pub(super) async fn report_cards_of_unknown_groups(
    directory: &Addr<DirectoryActor>,
    known: &BTreeSet<GroupId>,
    metrics: &Metrics,
) {
    let known = Arc::new(known.clone());
    let (mut cards, mut example, mut after) = (0, None, None);
    loop {
        let (reply, counted) = oneshot::channel();
        let count = CountCardsOfUnknownGroups { known: Arc::clone(&known), after, reply };
        if directory.send(count).await.is_err() {
            return;
        }
        let Ok(SomeCounted { cards: more, example: found, next }) = counted.await else { return };
        cards += more;
        example = example.or(found);
        after = next;
        if after.is_none() {
            break;
        }
    }
    metrics.cards_of_unknown_groups.set(i64::try_from(cards).unwrap_or(i64::MAX));
    if let Some(group) = example {
        tracing::warn!(
            cards,
            example = %group,
            "cards name groups that the configuration does not have: such a group opens nothing for them, and what it denied is not denied any more"
        );
    }
}
