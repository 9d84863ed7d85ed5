//! Who delivers to which sink, for those who have something for them. A reload changes it.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use actix::Addr;

use super::delivery::DeliveryActor;
use crate::{delivery::outcome::Order, sinks::Sink};

/// Every delivery, by sink. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Deliveries(Arc<RwLock<BTreeMap<String, Delivering>>>);

/// One of them.
#[derive(Clone, Debug)]
pub struct Delivering {
    /// Who delivers.
    pub actor: Addr<DeliveryActor>,
    /// The sink.
    pub sink: Arc<dyn Sink>,
    /// What it keeps in order, if not what is usual for the sink.
    pub order: Option<Order>,
    /// Records per second that it gets at most.
    pub rate_limit: Option<NonZeroU32>,
}

impl Deliveries {
    /// Who delivers to a sink; `None` if nobody does.
    #[must_use]
    pub fn get(&self, sink: &str) -> Option<Delivering> {
        self.read().get(sink).cloned()
    }

    /// Whether somebody delivers to it.
    #[must_use]
    pub fn has(&self, sink: &str) -> bool {
        self.read().contains_key(sink)
    }

    /// The sinks, sorted.
    #[must_use]
    pub fn sinks(&self) -> Vec<String> {
        self.read().keys().cloned().collect()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Addr<DeliveryActor>> {
        self.read().values().map(|delivering| delivering.actor.clone()).collect()
    }

    /// From now on this one delivers to the sink.
    pub fn set(&self, sink: &str, delivering: Delivering) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(sink.to_owned(), delivering);
    }

    /// Nobody delivers to the sink any more.
    pub fn remove(&self, sink: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(sink);
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Delivering>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}
