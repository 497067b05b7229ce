//! The way of commands from many waiting tasks of one thread to the writer.
//!
//! The counterpart of [`postbox`](super::postbox). The writer begins to sync as soon as nothing
//! more is there. If each task handed over its own command, the writer would take the first one
//! and be gone for a whole sync before the other tasks of the same turn have come to theirs. So
//! whoever runs many tasks on one thread runs a carrier there too: commands are left in the box,
//! the first of them wakes the carrier, and by the time it is his turn all tasks that were ready
//! have had theirs. He carries everything over in one go, for one wake-up of the writer and for
//! one sync. Without a carrier each command goes to the writer at once.

use std::collections::VecDeque;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::engine::pending::Durable;
use crate::limits::COMMANDS_MAX;

/// Commands, as `T`, that were not carried to the writer yet.
pub(super) struct Outbox<T> {
    inside: Mutex<Inside<T>>,
    filled: Notify,
}

/// Invariant: without a carrier there are no commands.
struct Inside<T> {
    commands: VecDeque<T>,
    has_carrier: bool,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// Too many wait already.
    Full,
    /// The writer has ended.
    Ended,
}

impl<T> Default for Outbox<T> {
    fn default() -> Outbox<T> {
        let inside = Inside { commands: VecDeque::new(), has_carrier: false };
        Outbox { inside: Mutex::new(inside), filled: Notify::new() }
    }
}

impl<T> Outbox<T> {
    /// Sends a command on its way to the writer.
    ///
    /// # Errors
    /// See [`NotTaken`]. The end of the writer may also show by the reply that never comes.
    pub(super) fn post(&self, writer: &SyncSender<T>, command: T) -> Result<(), NotTaken> {
        let mut inside = self.lock();
        if !inside.has_carrier {
            drop(inside);
            return writer.try_send(command).map_err(|error| match error {
                TrySendError::Full(_) => NotTaken::Full,
                TrySendError::Disconnected(_) => NotTaken::Ended,
            });
        }
        if inside.commands.len() >= COMMANDS_MAX {
            return Err(NotTaken::Full);
        }
        inside.commands.push_back(command);
        let is_first = inside.commands.len() == 1;
        drop(inside);
        if is_first {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Carries commands to the writer from the thread that polls it, until it is dropped.
    pub(super) async fn carry_forever(self: Arc<Self>, writer: SyncSender<T>, durable: Durable) {
        self.lock().has_carrier = true;
        let carrier = Carrier { outbox: self, writer };
        loop {
            carrier.outbox.filled.notified().await;
            loop {
                // Registered before the writer is found full: a commit in between is not missed.
                let advanced = durable.next_advance();
                if carrier.carry() == Carried::All {
                    break;
                }
                advanced.await;
            }
        }
    }

    /// Leaves all commands in the box from here on, for whoever fetches them.
    pub(super) fn keep(&self) {
        self.lock().has_carrier = true;
    }

    /// Completes when there is a command, unless it was fetched since.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// The first commands of those that were kept, at most so many.
    pub(super) fn fetch(&self, commands_max: usize) -> Vec<T> {
        let mut inside = self.lock();
        let count = commands_max.min(inside.commands.len());
        let fetched = inside.commands.drain(..count).collect();
        if !inside.commands.is_empty() {
            self.filled.notify_one();
        }
        fetched
    }

    fn lock(&self) -> MutexGuard<'_, Inside<T>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves no command behind when he goes.
struct Carrier<T> {
    outbox: Arc<Outbox<T>>,
    writer: SyncSender<T>,
}

/// How much was carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carried {
    All,
    /// As much as the writer has room for.
    Some,
}

impl<T> Carrier<T> {
    fn carry(&self) -> Carried {
        let mut inside = self.outbox.lock();
        while let Some(command) = inside.commands.pop_front() {
            match self.writer.try_send(command) {
                Ok(()) => {}
                Err(TrySendError::Full(command)) => {
                    inside.commands.push_front(command);
                    return Carried::Some;
                }
                // Dropped with its reply, which its sender reads as "outcome unknown".
                Err(TrySendError::Disconnected(command)) => drop(command),
            }
        }
        Carried::All
    }
}

impl<T> Drop for Carrier<T> {
    fn drop(&mut self) {
        self.outbox.lock().has_carrier = false;
        self.carry();
        self.outbox.lock().commands.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::sync::mpsc::sync_channel;
    use std::task::{Context, Waker};

    use super::*;
    use crate::ids::Lsn;

    fn poll(carrier: Pin<&mut impl Future<Output = ()>>) {
        assert!(carrier.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }

    #[test]
    fn without_a_carrier_commands_go_at_once() {
        let (writer, inbox) = sync_channel(1);
        let outbox = Outbox::default();
        assert_eq!(outbox.post(&writer, 1), Ok(()));
        assert_eq!(outbox.post(&writer, 2), Err(NotTaken::Full));
        assert_eq!(inbox.try_recv(), Ok(1));
        drop(inbox);
        assert_eq!(outbox.post(&writer, 3), Err(NotTaken::Ended));
    }

    #[test]
    fn a_carrier_takes_all_over_in_order_when_it_is_his_turn() {
        let (writer, inbox) = sync_channel(2);
        let (outbox, durable) = (Arc::new(Outbox::default()), Durable::default());
        let carrier = Arc::clone(&outbox).carry_forever(writer.clone(), durable.clone());
        let mut carrier = pin!(carrier);
        poll(carrier.as_mut());
        for command in 1..=3 {
            assert_eq!(outbox.post(&writer, command), Ok(()));
        }
        assert!(inbox.try_recv().is_err(), "he has not come by yet");
        poll(carrier.as_mut());
        assert_eq!(inbox.try_iter().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(outbox.post(&writer, 4), Ok(()), "behind the one that found no room");
        durable.advance(Lsn(1));
        poll(carrier.as_mut());
        assert_eq!(inbox.try_iter().collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn a_carrier_who_leaves_carries_over_what_there_is_and_commands_go_on_without() {
        let (writer, inbox) = sync_channel(2);
        let outbox = Arc::new(Outbox::default());
        let carrier = Arc::clone(&outbox).carry_forever(writer.clone(), Durable::default());
        let mut carrier = Box::pin(carrier);
        poll(carrier.as_mut());
        assert_eq!(outbox.post(&writer, 1), Ok(()));
        drop(carrier);
        assert_eq!(outbox.post(&writer, 2), Ok(()));
        assert_eq!(inbox.try_iter().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn kept_commands_are_fetched_in_order_and_the_rest_is_told_of_again() {
        let (writer, inbox) = sync_channel(1);
        let outbox = Outbox::default();
        outbox.keep();
        for command in 1..=3 {
            assert_eq!(outbox.post(&writer, command), Ok(()));
        }
        assert!(inbox.try_recv().is_err(), "nobody carries them");
        for expected in [vec![1, 2], vec![3]] {
            let mut filled = pin!(outbox.filled());
            assert!(filled.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
            assert_eq!(outbox.fetch(2), expected);
        }
        let mut filled = pin!(outbox.filled());
        assert!(filled.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }

    #[test]
    fn the_box_holds_so_many_and_no_more() {
        let (writer, _inbox) = sync_channel(1);
        let outbox = Arc::new(Outbox::default());
        let mut carrier =
            pin!(Arc::clone(&outbox).carry_forever(writer.clone(), Durable::default()));
        poll(carrier.as_mut());
        for command in 0..COMMANDS_MAX {
            assert_eq!(outbox.post(&writer, command), Ok(()));
        }
        assert_eq!(outbox.post(&writer, 0), Err(NotTaken::Full));
    }
}
