//! The way of replies from the writer back to those who wait for them.
//!
//! Waking a task of another thread costs a system call, and a group commit answers dozens of
//! clients at once. So whoever runs many waiting tasks on one thread runs a postman there too:
//! the writer leaves the replies of a batch in the box and wakes the postman alone, who hands
//! them out on his own thread, where waking costs next to nothing. Without a postman the writer
//! hands them out itself.
//!
//! The postman is a task of its own and never one of those who wait: a waiter may be held up by
//! a client that does not read, and would hold up everybody else's replies with it.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::engine::core::Decided;

/// A reply that may go out, and to whom.
pub(super) type Letter = (Decided, oneshot::Sender<Decided>);

/// Replies of synced batches that have not been handed out yet.
#[derive(Default)]
pub(super) struct Postbox {
    inside: Mutex<Inside>,
    filled: Notify,
}

/// Invariant: without a postman there are no letters.
#[derive(Default)]
struct Inside {
    letters: Vec<Letter>,
    has_postman: bool,
}

impl Postbox {
    /// Sends replies on their way.
    pub(super) fn post(&self, letters: impl Iterator<Item = Letter>) {
        let mut inside = self.lock();
        if inside.has_postman {
            inside.letters.extend(letters);
            drop(inside);
            self.filled.notify_one();
        } else {
            drop(inside);
            hand_out(letters);
        }
    }

    /// Hands out replies on the thread that polls it, until it is dropped.
    pub(super) async fn hand_out_forever(self: Arc<Self>) {
        self.lock().has_postman = true;
        let postman = Postman(self);
        loop {
            postman.0.filled.notified().await;
            postman.hand_out();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves no letter behind when it goes.
struct Postman(Arc<Postbox>);

impl Postman {
    fn hand_out(&self) {
        let letters = mem::take(&mut self.0.lock().letters);
        hand_out(letters.into_iter());
    }
}

impl Drop for Postman {
    fn drop(&mut self) {
        self.0.lock().has_postman = false;
        self.hand_out();
    }
}

fn hand_out(letters: impl Iterator<Item = Letter>) {
    for (decided, recipient) in letters {
        // A client that has gone away needs no reply; its command stands.
        drop(recipient.send(decided));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::engine::decide::Reply;

    fn letter(count: u64) -> (Letter, oneshot::Receiver<Decided>) {
        let (sender, receiver) = oneshot::channel();
        ((Ok(Reply::Moved(count)), sender), receiver)
    }

    #[test]
    fn without_a_postman_replies_go_out_at_once() {
        let (letter, mut reply) = letter(1);
        Postbox::default().post(std::iter::once(letter));
        assert_eq!(reply.try_recv(), Ok(Ok(Reply::Moved(1))));
    }

    #[test]
    fn a_postman_hands_out_all_replies_of_a_batch_when_he_is_polled() {
        let postbox = Arc::new(Postbox::default());
        let mut postman = pin!(Arc::clone(&postbox).hand_out_forever());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(postman.as_mut().poll(&mut cx).is_pending());
        let (letters, mut replies): (Vec<_>, Vec<_>) = (0..3).map(letter).unzip();
        postbox.post(letters.into_iter());
        assert!(replies[0].try_recv().is_err(), "he has not come by yet");
        assert!(postman.as_mut().poll(&mut cx).is_pending());
        for (count, reply) in (0..3).zip(&mut replies) {
            assert_eq!(reply.try_recv(), Ok(Ok(Reply::Moved(count))));
        }
    }

    #[test]
    fn a_postman_who_leaves_hands_out_what_he_has_and_the_writer_goes_on_without() {
        let postbox = Arc::new(Postbox::default());
        let mut postman = Box::pin(Arc::clone(&postbox).hand_out_forever());
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(postman.as_mut().poll(&mut cx), Poll::Pending);
        let ((first, mut reply), (second, mut later)) = (letter(1), letter(2));
        postbox.post(std::iter::once(first));
        drop(postman);
        assert_eq!(reply.try_recv(), Ok(Ok(Reply::Moved(1))));
        postbox.post(std::iter::once(second));
        assert_eq!(later.try_recv(), Ok(Ok(Reply::Moved(2))));
    }
}
