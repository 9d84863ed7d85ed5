//! The trace that this thread works for at the moment.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::{Pin, pin},
};

use crate::domain::trace::TraceContext;

thread_local! {
    static CURRENT: Cell<Option<TraceContext>> = const { Cell::new(None) };
}

/// Until it is dropped.
#[derive(Debug)]
pub struct Entered {
    before: Option<TraceContext>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// This thread works for `trace` from now on.
pub fn enter(trace: Option<TraceContext>) -> Entered {
    Entered { before: CURRENT.replace(trace) }
}

/// What this thread works for.
#[must_use]
pub fn trace() -> Option<TraceContext> {
    CURRENT.get()
}

/// The future, which works for `trace` whenever it goes on.
pub async fn within<F: Future>(trace: Option<TraceContext>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _entered = enter(trace);
        Pin::as_mut(&mut future).poll(context)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn futures_that_take_turns_each_have_their_own() {
        let trace = |id| Some(TraceContext { trace_id: [id; 16], span_id: [id; 8], is_sampled: true });
        let look = |id| {
            within(trace(id), async move {
                for _ in 0..3 {
                    assert_eq!(super::trace(), trace(id));
                    tokio::task::yield_now().await;
                }
            })
        };
        tokio::join!(look(1), look(2));
        assert_eq!(super::trace(), None);
    }
}
