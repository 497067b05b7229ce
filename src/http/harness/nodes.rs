//! Partner nodes for tests of the calls: they are where the courier is, and do as they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

use crate::engine::releases::{Action, NodeAnswer, Presence, Sight};
use crate::ids::GroupId;
use crate::outbound::breaker::{Admission, BreakerState};
use crate::time::Uptime;
use crate::workers::courier::{Answered, Courier, NodeCall, UnderWay};

/// What a node does with what it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::http) enum Mood {
    /// It does it.
    #[default]
    Well,
    /// It refuses calls for good.
    Refuses,
    /// It answers 500 to calls, and does nothing.
    Fails,
    /// It does what it is called for when it is in another mood.
    Hangs,
    /// It does not answer looks.
    Mute,
    /// It has failed too often and is left alone.
    Shunned,
}

/// Nodes. All are well at first, and have no group.
#[derive(Debug, Default)]
pub(in crate::http) struct Nodes {
    groups: Mutex<BTreeMap<String, BTreeSet<String>>>,
    moods: watch::Sender<BTreeMap<String, Mood>>,
    calls: watch::Sender<usize>,
}

impl Nodes {
    /// Puts a node in a mood.
    pub(in crate::http) fn set(&self, node: &str, mood: Mood) {
        self.moods.send_modify(|moods| {
            moods.insert(node.to_owned(), mood);
        });
    }

    /// Puts a group on a node behind everybody's back.
    pub(in crate::http) fn put(&self, node: &str, group: &str) {
        self.groups().entry(node.to_owned()).or_default().insert(group.to_owned());
    }

    /// Whether a group is on a node.
    pub(in crate::http) fn has(&self, node: &str, group: &str) -> bool {
        self.groups().get(node).is_some_and(|groups| groups.contains(group))
    }

    /// Calls so far, looks not among them.
    pub(in crate::http) fn calls(&self) -> usize {
        *self.calls.borrow()
    }

    /// Completes when there were so many calls.
    pub(in crate::http) async fn called(&self, times: usize) {
        let mut calls = self.calls.subscribe();
        calls.wait_for(|calls| *calls >= times).await.expect("the sender is here");
    }

    fn mood(&self, node: &str) -> Mood {
        self.moods.borrow().get(node).copied().unwrap_or_default()
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<String>>> {
        self.groups.lock().expect("nobody panics that holds this lock")
    }

    fn carry_out(&self, call: &NodeCall<'_>) -> NodeAnswer {
        let (mut groups, group) = (self.groups(), call.group.to_string());
        let held = groups.entry(call.node.to_owned()).or_default();
        let is_changed = match call.action {
            Action::Create => held.insert(group),
            Action::Delete => held.remove(&group),
        };
        if is_changed { NodeAnswer::Done } else { NodeAnswer::Already }
    }
}

impl Courier for Nodes {
    fn admit(&self, node: &str) -> Admission {
        match self.mood(node) {
            Mood::Shunned => Admission::Refused { until: Uptime(u64::MAX) },
            _ => Admission::Call,
        }
    }

    fn breaker(&self, node: &str) -> BreakerState {
        match self.mood(node) {
            Mood::Shunned => BreakerState::Open { until: Uptime(u64::MAX) },
            _ => BreakerState::Closed,
        }
    }

    fn look<'a>(
        &'a self,
        node: &'a str,
        group: &'a GroupId,
        _deadline_ms: u64,
    ) -> UnderWay<'a, Sight> {
        let sight = match (self.mood(node), self.has(node, group.as_str())) {
            (Mood::Mute, _) => Sight::Unseen { reason: "answered 500".into(), again_ms: 0 },
            (_, true) => Sight::Told(Presence::Present),
            (_, false) => Sight::Told(Presence::Absent),
        };
        Box::pin(async { sight })
    }

    fn call<'a>(&'a self, call: NodeCall<'a>) -> UnderWay<'a, Answered> {
        self.calls.send_modify(|calls| *calls += 1);
        Box::pin(async move {
            let mut moods = self.moods.subscribe();
            let is_free = |moods: &BTreeMap<_, _>| moods.get(call.node) != Some(&Mood::Hangs);
            moods.wait_for(is_free).await.expect("the sender is here");
            match self.mood(call.node) {
                Mood::Refuses => Answered {
                    answer: NodeAnswer::Refused { status: 403 },
                    reason: "answered 403: \"no\"".into(),
                },
                Mood::Fails => Answered {
                    answer: NodeAnswer::Unknown { settles_ms: 0 },
                    reason: "answered 500".into(),
                },
                _ => Answered { answer: self.carry_out(&call), reason: Box::default() },
            }
        })
    }
}
