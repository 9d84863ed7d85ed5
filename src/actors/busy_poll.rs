//! Busy polling: while swipes come one at a time, the two threads that each of them passes look for what is due next
//! themselves for a moment, instead of sleeping. Waking a sleeping thread takes a third of the whole answer then; what it
//! costs is the processor's time, a moment for each swipe, and only when there is nothing else to do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// The longest that a thread stays awake for what is due next: about two syncs of a common disk.
pub const BUSY_POLL_FOR: Duration = Duration::from_micros(300);

/// After so many commits of one record each, swipes come one at a time.
pub const COMMITS_OF_ONE: u32 = 4;

/// Whether swipes come one at a time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BusyPoll {
    commits_of_one: Arc<AtomicU32>,
    /// With one processor a thread that stays awake keeps the other one from it.
    has_processors: bool,
}

impl Default for BusyPoll {
    fn default() -> Self {
        Self::with_processors(thread::available_parallelism().map_or(1, usize::from))
    }
}

impl BusyPoll {
    fn with_processors(processors: usize) -> Self {
        Self { commits_of_one: Arc::default(), has_processors: processors >= 2 }
    }

    /// So many records were committed at once.
    pub(super) fn committed(&self, records: usize) {
        let commits_of_one =
            if records == 1 { self.commits_of_one.load(Relaxed).saturating_add(1) } else { 0 };
        self.commits_of_one.store(commits_of_one, Relaxed);
    }

    /// Whether swipes come one at a time, and there are processors enough.
    #[must_use]
    pub fn is_worth_it(&self) -> bool {
        self.has_processors && self.commits_of_one.load(Relaxed) >= COMMITS_OF_ONE
    }

    /// Stays awake for a moment, if that is worth it; other work of this thread goes on meanwhile.
    pub async fn stay_awake(&self) {
        let until = Instant::now() + BUSY_POLL_FOR;
        while self.is_worth_it() && Instant::now() < until {
            tokio::task::yield_now().await;
        }
    }

    /// Waits for `answer`, awake at first if that is worth it.
    pub async fn wait_for<T>(&self, answer: impl Future<Output = T>) -> T {
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            () = self.stay_awake() => {}
        }
        answer.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_worth_it_while_commits_are_of_one_record_and_there_are_two_processors() {
        let worth_it = |processors, records: &[usize]| {
            let busy_poll = BusyPoll::with_processors(processors);
            records.iter().for_each(|&records| busy_poll.committed(records));
            busy_poll.is_worth_it()
        };
        assert!(!worth_it(2, &[1, 1, 1]));
        assert!(worth_it(2, &[9, 1, 1, 1, 1]));
        assert!(!worth_it(2, &[1, 1, 1, 1, 2]));
        assert!(!worth_it(1, &[1, 1, 1, 1]));
    }

    #[tokio::test]
    async fn an_answer_comes_awake_or_not() {
        for commits in [0, COMMITS_OF_ONE] {
            let busy_poll = BusyPoll::with_processors(2);
            (0..commits).for_each(|_| busy_poll.committed(1));
            let (reply, answer) = tokio::sync::oneshot::channel();
            // after the moment is over
            let later = tokio::spawn(async move {
                tokio::time::sleep(BUSY_POLL_FOR * 4).await;
                reply.send(7)
            });
            assert_eq!(busy_poll.wait_for(answer).await, Ok(7));
            later.await.unwrap().unwrap();
        }
    }
}
