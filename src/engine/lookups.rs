//! What handles find out beforehand, so that the writer need not ask the disk.

use std::sync::PoisonError;

use super::core::{Decided, Store};
use super::decide::{self, Refusal, Reply};
use super::findings::{Findings, View, Wanted};
use super::pending::Pending;
use crate::engine::Engine;
use crate::engine::command::{Batch, Rejection, Submission};
use crate::ids::Lsn;

impl Engine {
    /// What the snapshot holds of what somebody wants to know. Waits for the disk only if that
    /// is not in the page cache.
    pub(super) async fn findings(
        &self,
        wanted: impl FnOnce(&Store) -> Wanted,
    ) -> Result<Findings, Rejection> {
        let (base, wanted) = {
            let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
            let Some(base) = &store.base else { return Ok(Findings::default()) };
            let wanted = wanted(&store);
            if wanted.is_empty() {
                return Ok(Findings::none(base.lsn()));
            }
            (base.clone(), wanted)
        };
        self.bodies.findings(base, wanted).await
    }

    /// What is known of a submission without the writer, once it is durable.
    pub(super) fn foregone(
        &self,
        submission: &Submission,
        findings: &Findings,
    ) -> Option<Pending<Decided>> {
        let (store, now) = self.look();
        if !findings.are_of(store.state.base()) {
            return None;
        }
        let view = View::new(&store.state, findings);
        let reply = decide::formulas::foregone(view, submission, now.uptime);
        // Both answers rest on one record, and nothing after it could make them untrue but what
        // they do not deny: so they need not wait for the batch at hand.
        let basis = match &reply {
            Err(Refusal::Duplicate(lsn)) | Ok(Some(Reply::Replayed(lsn))) => *lsn,
            _ => store.state.lsn(),
        };
        reply.transpose().map(|decided| Pending::new(basis, decided))
    }

    /// The record that holds the answer to a batch, if its key was spent on it before.
    pub(super) fn replay_of(&self, batch: &Batch, findings: &Findings) -> Option<Pending<Lsn>> {
        let key = batch.key.as_ref()?;
        let (store, now) = self.look();
        if !findings.are_of(store.state.base()) {
            return None;
        }
        let spent = View::new(&store.state, findings).key(&key.key, now.uptime)?;
        (spent.request == key.request).then(|| Pending::new(spent.lsn, spent.lsn))
    }
}
