//! Calls to the authority: which are under way, and when those before them ended.
//!
//! Whether another may begin is not decided here but in `engine::decide::gate`; this is the
//! history that it looks at. It runs on uptime, which stands still while nobody serves: a pause
//! of the process can only make the next call later. A call that was under way when a reign
//! ended may still arrive, so it counts as ending at the start of the next reign plus its own
//! deadline.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};

use super::digest::{Digest, Tag, entry};
use crate::ids::Lsn;
use crate::limits::CALLS_KEPT_MAX;
use crate::record::seals::CallPurpose;
use crate::time::Uptime;

/// The calls of one destination.
///
/// Invariants: `ended` holds at most `CALLS_KEPT_MAX` calls, the latest; no call is in both.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    pub(super) running: BTreeMap<Lsn, Running>,
    pub(super) ended: BTreeSet<Ended>,
    pub(super) pace: Pace,
    digest: Digest,
}

/// A call under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Running {
    /// What for.
    pub purpose: CallPurpose,
    /// It takes at most so many milliseconds.
    pub deadline_ms: u64,
}

/// A call that is over, by its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Ended {
    /// When it ended, or will have ended at the latest if nobody saw its end.
    pub at: Uptime,
    /// The record that began it.
    pub call: Lsn,
    /// Whose share of the calls it used.
    pub share: Share,
}

/// Whose share of the calls a call uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Share {
    /// Messages that were not tried before.
    Fresh,
    /// Messages that are tried again.
    Retried,
    /// Everything else.
    Other,
}

/// When calls may begin as far as the calls before them say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Pace {
    /// When the latest call began; `None`: there was none.
    pub last_begun: Option<Uptime>,
    /// The authority asked to be left alone until then, or a loss makes it necessary.
    pub paused_until: Uptime,
}

impl CallPurpose {
    /// Whose share of the calls it uses.
    #[must_use]
    pub fn share(self) -> Share {
        match self {
            CallPurpose::Fresh(_) => Share::Fresh,
            CallPurpose::Retried(_) => Share::Retried,
            CallPurpose::Verify | CallPurpose::Probe => Share::Other,
        }
    }
}

impl Calls {
    /// The calls under way, by the records that began them.
    pub fn running(&self) -> impl Iterator<Item = (Lsn, &Running)> {
        self.running.iter().map(|(lsn, running)| (*lsn, running))
    }

    /// Whether this call is under way.
    #[must_use]
    pub fn is_running(&self, call: Lsn) -> bool {
        self.running.contains_key(&call)
    }

    /// The calls that are over, latest end first.
    pub fn ended(&self) -> impl Iterator<Item = Ended> + '_ {
        self.ended.iter().rev().copied()
    }

    /// When calls may begin as far as the calls before them say.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Whether there never was one.
    pub(super) fn is_new(&self) -> bool {
        self.running.is_empty() && self.ended.is_empty() && self.pace == Pace::default()
    }

    pub(super) fn begin(&mut self, call: Lsn, running: Running, now: Uptime) {
        self.digest.add(running_hash(call, &running));
        self.running.insert(call, running);
        self.set_pace(Pace { last_begun: Some(now), ..self.pace });
    }

    /// Ends a call. One that is not under way ended with the reign that began it.
    pub(super) fn end(&mut self, call: Lsn, now: Uptime, pause_ms: u64) {
        if let Some(running) = self.running.remove(&call) {
            self.digest.remove(running_hash(call, &running));
            self.insert_ended(Ended { at: now, call, share: running.purpose.share() });
        }
        if pause_ms > 0 {
            self.pause(now.plus_ms(pause_ms));
        }
    }

    /// No call is to begin before `until`.
    pub(super) fn pause(&mut self, until: Uptime) {
        let paused_until = self.pace.paused_until.max(until);
        self.set_pace(Pace { paused_until, ..self.pace });
    }

    /// Another reign began: nobody will see the end of the calls under way.
    pub(super) fn abandon(&mut self, now: Uptime) {
        for (call, running) in std::mem::take(&mut self.running) {
            self.digest.remove(running_hash(call, &running));
            let at = now.plus_ms(running.deadline_ms);
            self.insert_ended(Ended { at, call, share: running.purpose.share() });
        }
    }

    fn insert_ended(&mut self, ended: Ended) {
        self.digest.add(ended_hash(&ended));
        self.ended.insert(ended);
        if self.ended.len() > CALLS_KEPT_MAX {
            let oldest = self.ended.pop_first();
            oldest.iter().for_each(|oldest| self.digest.remove(ended_hash(oldest)));
        }
    }

    fn set_pace(&mut self, pace: Pace) {
        self.digest.remove(pace_hash(self.pace));
        self.pace = pace;
        self.digest.add(pace_hash(pace));
    }

    pub(super) fn digest(&self) -> u128 {
        self.digest.value()
    }

    /// Sums up the digest of calls that were put in place one by one.
    pub(super) fn reckon(&mut self) {
        self.digest = self.sum();
    }

    fn sum(&self) -> Digest {
        let mut digest = Digest::default();
        self.running.iter().for_each(|(call, running)| digest.add(running_hash(*call, running)));
        self.ended.iter().for_each(|ended| digest.add(ended_hash(ended)));
        digest.add(pace_hash(self.pace));
        digest
    }

    pub(super) fn check_invariants(&self) {
        assert!(self.ended.len() <= CALLS_KEPT_MAX, "only the latest calls are kept");
        let is_both = self.ended.iter().any(|ended| self.running.contains_key(&ended.call));
        assert!(!is_both, "a call that ended is not under way");
        assert_eq!(self.sum(), self.digest, "the digest is the sum over the calls");
    }
}

fn running_hash(call: Lsn, running: &Running) -> u128 {
    let Running { purpose, deadline_ms } = *running;
    let message = match purpose {
        CallPurpose::Fresh(message) | CallPurpose::Retried(message) => message.0.0,
        CallPurpose::Verify => 0,
        CallPurpose::Probe => 1,
    };
    entry(Tag::Call, &[call.0, deadline_ms, purpose.share() as u64, message])
}

fn ended_hash(ended: &Ended) -> u128 {
    entry(Tag::CallEnd, &[ended.call.0, ended.at.0, ended.share as u64])
}

/// Nothing for the pace of no calls, so that it takes nothing from stores of before there were any.
fn pace_hash(pace: Pace) -> u128 {
    if pace == Pace::default() {
        return 0;
    }
    let begun = pace.last_begun.map_or(0, |at| at.0 + 1);
    entry(Tag::Pace, &[begun, pace.paused_until.0])
}
