//! Memory that all requests share: what is gathered or kept for a client is charged to a budget.
//!
//! What can be refused is [taken](Charge::take) beforehand, and refused when there is no room.
//! What cannot, such as the answer to something that is stored already, is [held](Charge::hold)
//! even when that overdraws the budget; then nobody gets anything before it is given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::http::problem::Problem;
use crate::limits::OVERLOAD_RETRY_AFTER_S;

/// So many bytes for all.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Below zero when overdrawn.
    left: AtomicI64,
}

/// There is no room for so much now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// What one request has of a budget; given back when dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub(crate) fn new(bytes: usize) -> Budget {
        Budget { left: AtomicI64::new(signed(bytes)) }
    }

    /// Bytes that nobody has taken; below zero when overdrawn.
    #[cfg(test)]
    pub(crate) fn left(&self) -> i64 {
        self.left.load(Ordering::Relaxed)
    }

    /// A charge of nothing yet.
    pub(crate) fn open(self: &Arc<Budget>) -> Charge {
        Charge { budget: Arc::clone(self), bytes: 0 }
    }
}

impl Charge {
    /// Takes so many bytes more.
    ///
    /// # Errors
    /// `Exhausted`; nothing is taken then.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let wanted = signed(bytes);
        let enough = |left: i64| (left >= wanted).then(|| left - wanted);
        let taken = self.budget.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough);
        taken.map_err(|_| Exhausted)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Takes so many bytes more, whether they are there or not.
    pub(crate) fn hold(&mut self, bytes: usize) {
        self.budget.left.fetch_sub(signed(bytes), Ordering::Relaxed);
        self.bytes += bytes;
    }

    /// Makes it so many bytes in all.
    ///
    /// # Errors
    /// `Exhausted`, if that is more than before; it stays as it was then.
    pub(crate) fn level(&mut self, bytes: usize) -> Result<(), Exhausted> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.take(more),
            None => {
                self.shrink_to(bytes);
                Ok(())
            }
        }
    }

    /// Gives back what is above so many bytes.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.budget.left.fetch_add(signed(less), Ordering::Relaxed);
        self.bytes -= less;
    }

    /// A charge of nothing yet on the same budget.
    pub(crate) fn another(&self) -> Charge {
        self.budget.open()
    }

    /// What has been taken so far, as a charge of its own; this one begins again at nothing.
    pub(crate) fn split(&mut self) -> Charge {
        Charge { budget: Arc::clone(&self.budget), bytes: std::mem::take(&mut self.bytes) }
    }

    /// Bytes taken so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.left.fetch_add(signed(self.bytes), Ordering::Relaxed);
    }
}

/// Bodies and pages are far below 2^63 bytes.
fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl From<Exhausted> for Problem {
    fn from(_: Exhausted) -> Problem {
        let detail = "too many large requests and responses are under way";
        Problem::overloaded(detail, OVERLOAD_RETRY_AFTER_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_there_again_when_it_is_dropped() {
        let budget = Arc::new(Budget::new(10));
        let (mut first, mut second) = (budget.open(), budget.open());
        assert_eq!(first.take(7), Ok(()));
        assert_eq!(second.take(4), Err(Exhausted));
        assert_eq!(second.take(3), Ok(()));
        drop(first);
        assert_eq!(second.level(10), Ok(()));
        assert_eq!(second.level(11), Err(Exhausted));
        assert_eq!(second.level(2), Ok(()));
        let apart = second.split();
        assert_eq!((apart.bytes(), second.bytes()), (2, 0));
        assert_eq!(budget.open().take(9), Err(Exhausted));
        drop((apart, second));
        assert_eq!(budget.open().take(10), Ok(()));
    }

    #[test]
    fn what_is_held_beyond_the_budget_keeps_others_out() {
        let budget = Arc::new(Budget::new(10));
        let mut held = budget.open();
        held.hold(25);
        assert_eq!(budget.open().take(1), Err(Exhausted));
        assert_eq!(held.level(9), Ok(()));
        assert_eq!(budget.open().take(1), Ok(()));
    }
}
