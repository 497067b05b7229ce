//! Callers who wait for their seal, and the worker that may have it for them in time.
//!
//! ```text
//!   wait ──► claimed ──► answered            200, and no hook is owed
//!    │          └─ left ─► the worker owes a hook after all
//!    └─ left, dismissed                      202, and a hook when there is one to be called
//! ```
//!
//! The worker claims the waiters of a text before it records the seal, and the record says whom
//! it claimed. So a caller is told by the answer or by a hook, also when the process ends in
//! between; and a request that is repeated under its key finds in the records which it was.
//!
//! Twins, requests under one key at the same time, wait until the first of them was answered:
//! only then is it known what that answer says.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot, watch};

use crate::ids::MessageId;

/// Everybody who waits.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    requests: Mutex<BTreeMap<MessageId, Entry>>,
    keys: Mutex<HashMap<[u8; 32], watch::Receiver<()>>>,
    /// Told whenever a call to the authority has ended.
    pub(super) call_ended: Notify,
}

#[derive(Debug)]
struct Entry {
    answer: oneshot::Sender<Arc<str>>,
    claim: Claim,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Free,
    Claimed,
}

/// One caller who waits for the seal of a request.
#[derive(Debug)]
pub struct SealWaiter {
    waiters: Arc<Waiters>,
    request: MessageId,
    answer: oneshot::Receiver<Arc<str>>,
}

/// How waiting ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The signature.
    Sealed(Arc<str>),
    /// There will be none in time.
    Dismissed,
}

/// Whether a caller may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leave {
    /// He has left: a hook tells him.
    Left,
    /// His seal is being recorded as given to him: he should wait a moment longer.
    Claimed,
    /// The signature came at this very moment.
    Answered(Arc<str>),
}

impl SealWaiter {
    /// Waits for the seal.
    pub async fn wait(&mut self) -> Waited {
        (&mut self.answer).await.map_or(Waited::Dismissed, Waited::Sealed)
    }

    /// Leaves, unless the seal is about to come.
    pub fn leave(&mut self) -> Leave {
        let mut requests = self.waiters.requests();
        match requests.get(&self.request) {
            Some(entry) if entry.claim == Claim::Claimed => Leave::Claimed,
            Some(_) => {
                requests.remove(&self.request);
                Leave::Left
            }
            None => self.answer.try_recv().map_or(Leave::Left, Leave::Answered),
        }
    }
}

impl Drop for SealWaiter {
    /// A claim stays: whoever claimed finds that nobody takes the answer.
    fn drop(&mut self) {
        let _ = self.leave();
    }
}

impl Waiters {
    /// Waits for the seal of this request.
    pub(super) fn register(self: &Arc<Self>, request: MessageId) -> SealWaiter {
        let (sender, answer) = oneshot::channel();
        let entry = Entry { answer: sender, claim: Claim::Free };
        self.requests().insert(request, entry);
        SealWaiter { waiters: Arc::clone(self), request, answer }
    }

    /// Claims the waiters of these requests: those that are claimed, and so wait, are given.
    pub(super) fn claim(&self, requests: impl Iterator<Item = MessageId>) -> Vec<MessageId> {
        let mut waiting = self.requests();
        let mut claimed = Vec::new();
        for request in requests {
            if let Some(entry) = waiting.get_mut(&request) {
                entry.claim = Claim::Claimed;
                claimed.push(request);
            }
        }
        claimed
    }

    /// Gives the claimed waiters of these requests the signature; those who have gone meanwhile
    /// are given back.
    pub(super) fn answer(&self, requests: &[MessageId], signature: &Arc<str>) -> Vec<MessageId> {
        let mut waiting = self.requests();
        let mut gone = Vec::new();
        for request in requests {
            let entry = waiting.remove(request);
            let sent = entry.map(|entry| entry.answer.send(Arc::clone(signature)));
            if !matches!(sent, Some(Ok(()))) {
                gone.push(*request);
            }
        }
        gone
    }

    /// Lets the waiters of these requests go.
    pub(super) fn dismiss(&self, requests: &[MessageId]) {
        let mut waiting = self.requests();
        requests.iter().for_each(|request| drop(waiting.remove(request)));
    }

    /// Takes the turn among requests under one key. Waits while another has it.
    pub(super) async fn take_turn(self: &Arc<Self>, key: [u8; 32]) -> Turn {
        loop {
            let mut other = {
                let mut keys = self.keys();
                match keys.get(&key) {
                    Some(other) => other.clone(),
                    None => {
                        let (ended, end) = watch::channel(());
                        keys.insert(key, end);
                        return Turn { waiters: Arc::clone(self), key, _ended: ended };
                    }
                }
            };
            // It never changes; it ends with the turn.
            while other.changed().await.is_ok() {}
        }
    }

    fn requests(&self) -> MutexGuard<'_, BTreeMap<MessageId, Entry>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<[u8; 32], watch::Receiver<()>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn among requests under one key; ends when it is dropped.
#[derive(Debug)]
pub struct Turn {
    waiters: Arc<Waiters>,
    key: [u8; 32],
    _ended: watch::Sender<()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.waiters.keys().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::ids::Lsn;

    const A: MessageId = MessageId(Lsn(7));
    const B: MessageId = MessageId(Lsn(8));

    #[test]
    fn who_is_claimed_is_answered_and_who_is_not_may_leave() {
        let waiters = Arc::new(Waiters::default());
        let (mut a, mut b) = (waiters.register(A), waiters.register(B));
        assert_eq!(waiters.claim([A].into_iter()), [A]);
        assert_eq!((a.leave(), b.leave()), (Leave::Claimed, Leave::Left));
        assert_eq!(waiters.claim([A, B].into_iter()), [A], "who has left is not claimed");
        assert_eq!(waiters.answer(&[A], &"s".into()), []);
        assert_eq!(a.answer.try_recv().as_deref(), Ok("s"));
    }

    #[test]
    fn who_goes_after_the_claim_is_named_when_the_answer_comes() {
        let waiters = Arc::new(Waiters::default());
        let a = waiters.register(A);
        assert_eq!(waiters.claim([A].into_iter()), [A]);
        drop(a);
        assert_eq!(waiters.answer(&[A, B], &"s".into()), [A, B]);
        assert!(waiters.requests().is_empty());
    }

    #[test]
    fn who_is_dismissed_waits_no_longer() {
        let waiters = Arc::new(Waiters::default());
        let mut a = waiters.register(A);
        waiters.dismiss(&[A, B]);
        let waited = pin!(a.wait());
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(waited.poll(&mut cx), Poll::Ready(Waited::Dismissed));
    }

    #[test]
    fn twins_take_turns_and_a_turn_ends_however_its_holder_goes() {
        let waiters = Arc::new(Waiters::default());
        let mut cx = Context::from_waker(Waker::noop());
        let first = match pin!(waiters.take_turn([1; 32])).poll(&mut cx) {
            Poll::Ready(turn) => turn,
            Poll::Pending => panic!("nobody has the turn"),
        };
        let mut second = pin!(waiters.take_turn([1; 32]));
        assert!(second.as_mut().poll(&mut cx).is_pending());
        assert!(pin!(waiters.take_turn([2; 32])).poll(&mut cx).is_ready(), "another key");
        drop(first);
        assert!(second.as_mut().poll(&mut cx).is_ready());
    }
}
