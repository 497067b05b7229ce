//! Log and state in one pair of hands: decide, append, apply, sync, release.
//!
//! [`Core`] is the engine without threads, channels or sockets. The writer thread drives it with
//! real clocks and disks; the simulation drives the same code from a seed.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::engine::decide::{self, Circumstances, Command, Policy, Refusal, Reply, Verdict};
use crate::engine::pending::Pending;
use crate::ids::{Lsn, QueueName};
use crate::limits::{CONNECTIONS_MAX, STATE_HASH_EVERY};
use crate::log::{Error, Kind, Log, Space};
use crate::record::{Fact, Record, codec};
use crate::state::State;
use crate::time::{Clock, Moment, Timeline};

/// The state as writer and readers share it: the writer alone changes it.
pub type SharedState = Arc<RwLock<State>>;

/// What a command led to, or why it changes nothing.
pub type Decided = Result<Reply, Refusal>;

/// Owner of log and state.
pub struct Core {
    log: Log,
    state: SharedState,
    clock: Arc<dyn Clock>,
    timeline: Timeline,
    policy: Policy,
    /// Random numbers for receipts.
    random: fastrand::Rng,
    /// Encoded records of the group at hand; kept, so that no command allocates for them.
    scratch: Scratch,
    arrivals: Arrivals,
}

/// Messages that became ready, by queue.
pub type Arrivals = BTreeMap<QueueName, usize>;

#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Core {
    /// Puts a log that is open for appending and the state that it replayed to in one pair of
    /// hands.
    #[must_use]
    pub fn new(log: Log, state: State, setting: Setting) -> Core {
        let Setting { clock, policy, seed } = setting;
        Core {
            log,
            timeline: Timeline::resume(state.at(), clock.as_ref()),
            arrivals: state.queues().map(|(name, _)| (name.clone(), 0)).collect(),
            state: Arc::new(RwLock::new(state)),
            clock,
            policy,
            random: fastrand::Rng::with_seed(seed),
            scratch: Scratch::default(),
        }
    }

    /// The state, for readers.
    #[must_use]
    pub fn state(&self) -> SharedState {
        Arc::clone(&self.state)
    }

    /// The log, for questions about it.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What the operator configured.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// How moments are reckoned in this reign.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// Messages that became ready since whoever reads this set the numbers back to zero; every
    /// queue has its entry.
    pub fn arrivals(&mut self) -> &mut Arrivals {
        &mut self.arrivals
    }

    /// Whether the log has room for new formulas. What only moves messages along may go on
    /// without, in the rest of the segment at hand.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.log.space() == Space::Ample
    }

    /// Decides a command, appends what it amounts to and applies it. The next command already
    /// sees it; the outside does not before [`Core::sync`].
    ///
    /// # Errors
    /// The log's error, after which nothing more can be appended.
    pub fn execute(&mut self, command: Command) -> Result<Pending<Decided>, Error> {
        let has_room = !command.is_intake() || self.has_room();
        // Only this thread changes the state, so it is the same when the facts are applied. In
        // between whoever asks need not wait: neither for the decision nor for the log, which
        // may be turning to its next segment.
        let (verdict, now) = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            let circumstances = Circumstances {
                now: self.timeline.now(state.at(), self.clock.as_ref()),
                token: self.random.u64(..),
                policy: self.policy,
            };
            (decide::decide(&state, command, &circumstances), circumstances.now)
        };
        let decided = match verdict {
            // Only what would have to be recorded: a duplicate is one on a full disk, too.
            Ok(Verdict::Record(..)) if !has_room => Err(Refusal::DiskFull),
            Ok(Verdict::Record(facts, draft)) => match self.record(facts, now) {
                Ok((first, facts)) => Ok(draft.complete(facts, first, now.wall)),
                Err(Error::NoSpace) => Err(Refusal::DiskFull),
                Err(error) => return Err(error),
            },
            Ok(Verdict::Known(reply)) => Ok(reply),
            Err(refusal) => Err(refusal),
        };
        let lsn = self.state.read().unwrap_or_else(PoisonError::into_inner).lsn();
        Ok(Pending::new(lsn, decided))
    }

    /// Makes everything appended so far durable, and says how far that is.
    ///
    /// # Errors
    /// The log's error, after which nothing more can be appended.
    pub fn sync(&mut self) -> Result<Lsn, Error> {
        self.log.sync()
    }

    /// What a command led to, once it is durable.
    ///
    /// # Errors
    /// Gives the pending value back if it is not durable yet.
    pub fn release<T>(&self, pending: Pending<T>) -> Result<T, Pending<T>> {
        pending.open(self.log.durable().lsn)
    }

    /// Tries at once to get the room that the log lacks. Needed only where no thread does.
    pub fn retry_space(&mut self) {
        self.log.retry_space();
    }

    /// Lets the log note how far it is durable, in a quiet moment.
    ///
    /// # Errors
    /// The log's error, after which nothing more can be appended.
    pub fn mark(&mut self) -> Result<Lsn, Error> {
        self.log.mark()
    }

    /// Closes the log cleanly.
    ///
    /// # Errors
    /// The log's error. What was synced is durable all the same.
    pub fn close(self) -> Result<(), Error> {
        self.log.close()
    }

    /// Appends the facts as one group and applies them.
    fn record(&mut self, facts: Vec<Fact>, at: Moment) -> Result<(Lsn, Vec<Fact>), Error> {
        let records: Vec<Record> = facts.into_iter().map(|fact| Record { at, fact }).collect();
        let first = self.append(&records)?;
        let shared = Arc::clone(&self.state);
        let mut state = shared.write().unwrap_or_else(PoisonError::into_inner);
        for (lsn, record) in (first.0..).map(Lsn).zip(&records) {
            state.apply(lsn, record);
            note_arrivals(&mut self.arrivals, &record.fact);
        }
        self.state_hash(&mut state, at)?;
        Ok((first, records.into_iter().map(|record| record.fact).collect()))
    }

    /// States the digest in the log when it is time.
    fn state_hash(&mut self, state: &mut State, at: Moment) -> Result<(), Error> {
        if state.records_since_hash() < STATE_HASH_EVERY {
            return Ok(());
        }
        let hash = Record { at, fact: Fact::Digest { digest: state.digest() } };
        match self.append(std::slice::from_ref(&hash)) {
            Ok(lsn) => state.apply(lsn, &hash),
            // The next record tries again.
            Err(Error::NoSpace) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn append(&mut self, records: &[Record]) -> Result<Lsn, Error> {
        let Scratch { bytes, ends } = &mut self.scratch;
        bytes.clear();
        ends.clear();
        for record in records {
            codec::encode(record, bytes);
            ends.push(bytes.len());
        }
        if let [record] = records {
            return self.log.append(kind(&record.fact), bytes);
        }
        let payload = |at: usize| {
            let start = if at == 0 { 0 } else { ends[at - 1] };
            &bytes[start..ends[at]]
        };
        self.log.append_group((0..ends.len()).map(payload))
    }
}

/// What a core needs besides log and state.
pub struct Setting {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// What the operator configured.
    pub policy: Policy,
    /// Seed of the random part of receipts: unguessable when serving, chosen in simulation.
    pub seed: u64,
}

/// Counts the messages that a fact makes ready, now or once their delay has passed.
fn note_arrivals(arrivals: &mut Arrivals, fact: &Fact) {
    let (queue, count) = match fact {
        Fact::FormulaAccepted(_) | Fact::FormulaImported { .. } | Fact::FormulaWithdrawn { .. } => {
            (QueueName::FORMULAS, 1)
        }
        Fact::Nacked { queue, messages, .. } => (queue.as_str(), messages.len()),
        // Nothing arrives, but one of those who poll must learn when this lease lapses.
        Fact::Leased { queue, .. } | Fact::Extended { queue, .. } => (queue.as_str(), 1),
        // Whoever polls looks again and finds what there is.
        Fact::Redriven { queue, .. } => (queue.as_str(), CONNECTIONS_MAX),
        _ => return,
    };
    if let Some(total) = arrivals.get_mut(queue) {
        *total = total.saturating_add(count);
    }
}

/// The kind of frame that holds a fact.
fn kind(fact: &Fact) -> Kind {
    match fact {
        Fact::StateHash { .. } | Fact::Digest { .. } => Kind::StateHash,
        _ => Kind::Record,
    }
}
