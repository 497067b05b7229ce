//! Facts about releases, each as it could have been decided on the state at hand, whatever nodes
//! might tell: sense in their answers is for the model of the protocol to look after.

use super::{History, touched};
use crate::formula::Fingerprint;
use crate::ids::{GroupId, Lsn, MessageId, QueueName};
use crate::record::Fact;
use crate::record::releases::{
    AboutRelease, Action, BegunTransaction, Delayed, End, EndedTransaction, NodeAnswer, NodeEnd,
    NodeOutcome, NodeSet, Origin, Presence, Seen, Sight, Step,
};
use crate::state::formulas::Whereabouts;
use crate::state::releases::{Node, Phase, Standing, Transaction};

/// Few, so that they are held.
const GROUPS: u8 = 5;

impl History {
    /// One group about releases; empty if what was drawn is not possible now.
    pub(super) fn releases(&mut self) -> Vec<Fact> {
        match self.random.u8(..20) {
            0..=2 => self.begin().into_iter().collect(),
            3..=6 => self.look().into_iter().collect(),
            7..=9 => self.call_nodes().into_iter().collect(),
            10..=13 => self.node_answer().into_iter().collect(),
            14 => self.lease(QueueName::RELEASES, 3).into_iter().collect(),
            15 => self.delay().into_iter().collect(),
            16 => self.end_transaction(),
            17 => self.answer_request().into_iter().collect(),
            18 => self.release_due().into_iter().collect(),
            _ => self.again().into_iter().collect(),
        }
    }

    fn begin(&mut self) -> Option<Fact> {
        let group: GroupId = format!("group {}", self.random.u8(..GROUPS)).parse().expect("a name");
        if self.state().releases().holder(&group).is_some() {
            return None;
        }
        let formula = self.stored();
        let origin = match (self.random.u8(..3), formula) {
            (0, Some((formula, fingerprint))) => Origin::Flow { formula, fingerprint },
            (1, Some((formula, fingerprint))) => Origin::Withdrawal { formula, fingerprint },
            _ => Origin::Client,
        };
        let key = match origin {
            Origin::Client if self.random.bool() => self.free_key(),
            _ => None,
        };
        let action = if self.random.bool() { Action::Create } else { Action::Delete };
        let nodes = (0..self.random.u8(1..5)).map(|node| format!("http://n{node}").into());
        Some(Fact::TransactionBegun(BegunTransaction {
            group,
            action,
            nodes: nodes.collect(),
            deadline_ms: self.random.u64(1..300),
            tries_max: 3,
            origin,
            key,
        }))
    }

    /// A transaction of which `is_meant` holds.
    fn transaction(
        &mut self,
        is_meant: impl Fn(&Transaction) -> bool,
    ) -> Option<(Lsn, Transaction)> {
        let all = self.state().releases().iter().filter(|(_, it)| is_meant(it));
        let all: Vec<(Lsn, Transaction)> = all.map(|(id, it)| (id, it.clone())).collect();
        self.random.choice(&all).cloned()
    }

    fn nodes(&mut self, it: &Transaction, is_meant: impl Fn(&Node) -> bool) -> Vec<u8> {
        let mut nodes: Vec<u8> = it.nodes_where(is_meant).iter().collect();
        nodes.retain(|_| self.random.u8(..4) > 0);
        nodes
    }

    fn look(&mut self) -> Option<Fact> {
        let (transaction, it) = self.transaction(|it| it.phase.is_held())?;
        let nodes = self.nodes(&it, |_| true);
        let sights = nodes.into_iter().map(|node| {
            let sight = match self.random.u8(..8) {
                0 => Sight::Unseen { reason: "timeout".into(), again_ms: self.random.u64(..90) },
                1 => Sight::Shunned { again_ms: self.random.u64(..90) },
                drawn if drawn % 2 == 0 => Sight::Told(Presence::Present),
                _ => Sight::Told(Presence::Absent),
            };
            Seen { node, sight }
        });
        let seen: Vec<Seen> = sights.collect();
        (!seen.is_empty()).then_some(Fact::NodesSeen { transaction, seen })
    }

    fn call_nodes(&mut self) -> Option<Fact> {
        let (transaction, it) = self.transaction(|it| it.phase.is_held())?;
        let step = if self.random.u8(..3) == 0 { Step::Undo } else { Step::Do };
        // What was never looked at is not called, and what nothing is left on is not undone.
        let nodes = self.nodes(&it, |node| match step {
            Step::Do => node.before.is_some(),
            Step::Undo => node.is_left,
        });
        let nodes: NodeSet = nodes.into_iter().collect();
        let again_ms = self.random.u64(..200);
        (!nodes.is_empty()).then_some(Fact::NodesCalled { transaction, step, nodes, again_ms })
    }

    fn node_answer(&mut self) -> Option<Fact> {
        let is_called = |node: &Node| matches!(node.standing, Standing::Called(_));
        let (transaction, it) = self.transaction(|it| !it.nodes_where(is_called).is_empty())?;
        let node = it.nodes_where(is_called).iter().next()?;
        let (answer, reason) = match self.random.u8(..5) {
            0 => (NodeAnswer::Already, "400"),
            1 => (NodeAnswer::Refused { status: 403 }, "403"),
            2 => (NodeAnswer::Unknown { settles_ms: self.random.u64(..300) }, "timeout"),
            _ => (NodeAnswer::Done, ""),
        };
        Some(Fact::NodeAnswered { transaction, node, answer, reason: reason.into() })
    }

    fn delay(&mut self) -> Option<Fact> {
        let (transaction, _) = self.transaction(|it| it.phase == Phase::Running)?;
        let delayed = if self.random.bool() { Delayed::TryOver } else { Delayed::Shunned };
        let delay_ms = self.random.u64(..300);
        Some(Fact::TransactionDelayed { transaction, delayed, reason: "500".into(), delay_ms })
    }

    fn end_transaction(&mut self) -> Vec<Fact> {
        let Some((transaction, it)) = self.transaction(|it| it.phase.is_held()) else {
            return Vec::new();
        };
        let end = match (self.random.u8(..4), it.phase) {
            (0, Phase::Running | Phase::ToBeRetried) => End::Failed,
            (1, Phase::Running | Phase::ToBeRetried) => End::Succeeded,
            _ => End::RolledBack,
        };
        let reason = if end == End::Succeeded { "".into() } else { "n0: 403".into() };
        let about = match it.begun.origin {
            Origin::Client => None,
            Origin::Flow { formula, .. } | Origin::Withdrawal { formula, .. } => {
                let node = NodeEnd { url: "http://n0".into(), outcome: NodeOutcome::Done };
                let formula = touched(vec![MessageId(formula)])[0];
                Some(AboutRelease { formula, action: it.begun.action, nodes: vec![node] })
            }
        };
        vec![Fact::TransactionEnded(EndedTransaction { transaction, end, reason, about })]
    }

    fn answer_request(&mut self) -> Option<Fact> {
        let (transaction, _) = self.transaction(|it| it.answered.is_none())?;
        Some(Fact::TransactionAnswered { transaction, status: 200, body: Box::from(*b"{}") })
    }

    fn release_due(&mut self) -> Option<Fact> {
        let (formula, _) = self.stored()?;
        Some(Fact::ReleaseDue { formula: MessageId(formula) })
    }

    fn stored(&mut self) -> Option<(Lsn, Fingerprint)> {
        let all = self.fingerprints.iter().map(|(lsn, it)| (*lsn, *it));
        let all: Vec<_> = all.filter(|(lsn, it)| self.is_stored(*lsn, it)).collect();
        self.random.choice(&all).copied()
    }

    fn is_stored(&self, formula: Lsn, fingerprint: &Fingerprint) -> bool {
        self.state().formulas().find(fingerprint) == Whereabouts::Stored(formula)
    }

    fn again(&mut self) -> Option<Fact> {
        let failed = Phase::Ended(End::Failed);
        if self.random.bool() {
            let (transaction, _) = self.transaction(|it| it.phase == failed)?;
            return Some(Fact::HealBegun { transaction });
        }
        let is_waiting = |it: &Transaction| it.phase == failed || it.phase == Phase::ToBeRetried;
        let (transaction, it) = self.transaction(is_waiting)?;
        // A formula is not withdrawn while its release holds the group.
        let is_there = match &it.begun.origin {
            Origin::Flow { formula, fingerprint } => self.is_stored(*formula, fingerprint),
            Origin::Client | Origin::Withdrawal { .. } => true,
        };
        is_there.then_some(Fact::TransactionRetried { transaction })
    }
}
