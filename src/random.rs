//! Random bytes for ids, fetched from the kernel many at a time: a call for each event and each trace took a fiftieth
//! of a busy processor. Secrets are fetched by themselves, so that none is left lying in memory.

use std::cell::RefCell;

/// How many to fetch at once, for each thread.
const FETCH_BYTES: usize = 4_000;

thread_local! {
    static FETCHED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that nobody else has got; `N` is at most a few dozen.
///
/// # Errors
/// The kernel has none to give.
pub fn bytes<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    FETCHED.with_borrow_mut(|fetched| {
        if fetched.len() < N {
            let mut fresh = vec![0; FETCH_BYTES.max(N)];
            getrandom::fill(&mut fresh)?;
            *fetched = fresh;
        }
        let rest = fetched.len().saturating_sub(N);
        let mut taken = [0; N];
        taken.iter_mut().zip(fetched.drain(rest..)).for_each(|(to, from)| *to = from);
        Ok(taken)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_bytes_are_given_twice() {
        let given: Vec<[u8; 24]> = (0..1_000).map(|_| bytes().unwrap()).collect();
        let different: HashSet<_> = given.iter().collect();
        assert_eq!(different.len(), given.len());
    }
}
