//! How the nodes are doing: what the calls so far have told, and the breaker that follows from it.
//!
//! One entry per URL in its normal form. The configured nodes have theirs from the start; nodes of
//! transactions that began under another configuration get one when they are first called, and
//! the one of these that was not called for the longest makes room when there are too many.
//!
//! Only what shows that a node is not there or is broken is a failure: no answer in time, no
//! connection, 5xx. A refusal is an error that is shown, but it comes from a node that is well.
//!
//! All of it is in memory. After a start nothing is known, and five calls find out.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::limits::{NODE_LATENCY_CALLS, NODES_KNOWN_MAX, NODES_MAX};
use crate::metrics::releases::{BreakerLevel, NodeLabel, NodeResult, ReleaseMetrics};
use crate::outbound::breaker::{Admission, Breaker, BreakerState, Outcome};
use crate::outbound::fault::CallFault;
use crate::outbound::nodes::{NodeFault, Reply};
use crate::outbound::target::{Target, TargetHost};
use crate::time::{Moment, Timestamp, Uptime};

pub use crate::metrics::releases::CallKind;

/// How the nodes are doing. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Health {
    nodes: Arc<Mutex<Vec<Node>>>,
    metrics: ReleaseMetrics,
    /// How long a probe counts: as long as a call may take.
    deadline_ms: u64,
}

/// What came of a call, as far as it tells how the node is doing.
#[derive(Clone, Copy, Debug)]
pub enum Noted<'a> {
    /// An answer that the contract names.
    Well,
    /// Another answer, by which the node is there.
    Refused(&'a Reply),
    /// None, or 5xx.
    Failed(&'a NodeFault),
    /// There was no call.
    Nothing,
}

/// How one node is doing, as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// The URL in its normal form; a path of nothing but its slash is left out.
    pub url: String,
    /// Its place among the configured nodes, from 0; `None` if it is not among them any more.
    pub index: Option<usize>,
    /// How its breaker stands.
    pub breaker: BreakerState,
    /// Calls since the start, looks among them.
    pub calls: u64,
    /// Of these, how many failed.
    pub failures: u64,
    /// How many have failed since the last that did not.
    pub failures_in_row: u32,
    /// Milliseconds that the last answer took; `None` before the first.
    pub latency_ms: Option<u64>,
    /// Milliseconds that an answer takes of late; `None` before the first.
    pub latency_average_ms: Option<u64>,
    /// The last error.
    pub last_error: Option<LastError>,
    /// When it last answered what the contract names.
    pub last_success: Option<Timestamp>,
}

/// The last call that was not answered as the contract says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// What came of it; one line.
    pub text: String,
    /// When.
    pub at: Timestamp,
}

/// What is known of one node.
struct Node {
    url: Box<str>,
    index: Option<usize>,
    label: NodeLabel,
    breaker: Breaker,
    calls: u64,
    failures: u64,
    latency_ms: Option<u64>,
    /// The average, times `NODE_LATENCY_CALLS`.
    latency_sum_ms: u64,
    last_error: Option<LastError>,
    last_success: Option<Timestamp>,
    /// When it was last asked about or noted.
    touched: Uptime,
}

impl Health {
    /// Of these nodes, nothing yet. `deadline_ms` is what a call may take.
    ///
    /// # Panics
    /// With more than `NODES_MAX` nodes: the configuration has no more.
    #[must_use]
    pub fn new(configured: &[Target], deadline_ms: u64, metrics: ReleaseMetrics) -> Health {
        assert!(configured.len() <= NODES_MAX, "the configuration bounds the nodes");
        let nodes = configured.iter().enumerate();
        let nodes = nodes.map(|(index, target)| Node::new(target, Some(index), deadline_ms));
        let health = Health { nodes: Arc::new(Mutex::new(nodes.collect())), metrics, deadline_ms };
        for node in health.lock().iter() {
            health.metrics.set_breaker(&node.label, BreakerLevel::Closed);
        }
        health
    }

    /// Whether the breaker of this node lets a call through now.
    #[must_use]
    pub fn admit(&self, target: &Target, now: Uptime) -> Admission {
        let mut nodes = self.lock();
        let node = self.entry(&mut nodes, target, now);
        let admission = node.breaker.admit(now);
        self.metrics.set_breaker(&node.label, level(node.breaker.state(now)));
        admission
    }

    /// How the breaker of this node stands now; closed if nothing is known of it.
    #[must_use]
    pub fn breaker(&self, target: &Target, now: Uptime) -> BreakerState {
        let nodes = self.lock();
        let known = nodes.iter().find(|node| *node.url == *target.as_str());
        known.map_or(BreakerState::Closed, |node| node.breaker.state(now))
    }

    /// Counts a call that took so long and has ended now.
    pub fn note(
        &self,
        target: &Target,
        kind: CallKind,
        noted: Noted<'_>,
        took_ms: u64,
        now: Moment,
    ) {
        let Some(result) = noted.result() else { return };
        let mut nodes = self.lock();
        let node = self.entry(&mut nodes, target, now.uptime);
        node.note(noted, took_ms, now);
        self.metrics.note_call(&node.label, kind, result, took_ms);
        self.metrics.set_breaker(&node.label, level(node.breaker.state(now.uptime)));
    }

    /// How the nodes are doing: the configured ones in their order, then others that were called.
    #[must_use]
    pub fn view(&self, now: Uptime) -> Vec<NodeView> {
        let nodes = self.lock();
        let view = |node: &Node| {
            let state = node.breaker.state(now);
            self.metrics.set_breaker(&node.label, level(state));
            node.view(state)
        };
        nodes.iter().map(view).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Node>> {
        self.nodes.lock().expect("nothing panics that holds this lock")
    }

    /// What is known of a node; it is not forgotten soon.
    fn entry<'a>(&self, nodes: &'a mut Vec<Node>, target: &Target, now: Uptime) -> &'a mut Node {
        let known = nodes.iter().position(|node| *node.url == *target.as_str());
        let place = known.unwrap_or_else(|| {
            if nodes.len() == NODES_KNOWN_MAX {
                let others = nodes.iter().enumerate().filter(|(_, node)| node.index.is_none());
                let oldest = others.min_by_key(|(_, node)| node.touched).map(|(place, _)| place);
                nodes.remove(oldest.expect("fewer are configured than may be known"));
            }
            nodes.push(Node::new(target, None, self.deadline_ms));
            nodes.len() - 1
        });
        let node = &mut nodes[place];
        node.touched = now;
        node
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.lock();
        f.debug_list().entries(nodes.iter().map(|node| (&node.label, &node.breaker))).finish()
    }
}

impl Node {
    fn new(target: &Target, index: Option<usize>, deadline_ms: u64) -> Node {
        Node {
            url: target.as_str().into(),
            index,
            label: index.map_or(NodeLabel::other(), |index| NodeLabel::new(index, &host(target))),
            breaker: Breaker::new(deadline_ms),
            calls: 0,
            failures: 0,
            latency_ms: None,
            latency_sum_ms: 0,
            last_error: None,
            last_success: None,
            touched: Uptime(0),
        }
    }

    fn note(&mut self, noted: Noted<'_>, took_ms: u64, now: Moment) {
        self.calls += 1;
        let fail = |text: String| Some(LastError { text, at: now.wall });
        match noted {
            Noted::Well => self.last_success = Some(now.wall),
            Noted::Refused(reply) => self.last_error = fail(reply.to_string()),
            Noted::Failed(fault) => {
                self.failures += 1;
                self.last_error = fail(fault.to_string());
            }
            Noted::Nothing => {}
        }
        let is_failure = matches!(noted, Noted::Failed(_));
        let outcome = if is_failure { Outcome::Failure } else { Outcome::Success };
        self.breaker.note(outcome, now.uptime);
        if noted.is_answered() {
            self.note_latency(took_ms);
        }
    }

    fn note_latency(&mut self, took_ms: u64) {
        self.latency_sum_ms = match self.latency_ms {
            None => took_ms.saturating_mul(NODE_LATENCY_CALLS),
            Some(_) => {
                let rest_ms = self.latency_sum_ms - self.latency_sum_ms / NODE_LATENCY_CALLS;
                rest_ms.saturating_add(took_ms)
            }
        };
        self.latency_ms = Some(took_ms);
    }

    fn view(&self, breaker: BreakerState) -> NodeView {
        NodeView {
            url: self.url.trim_end_matches('/').to_owned(),
            index: self.index,
            breaker,
            calls: self.calls,
            failures: self.failures,
            failures_in_row: self.breaker.failures_in_row(),
            latency_ms: self.latency_ms,
            latency_average_ms: self.latency_ms.map(|_| self.latency_sum_ms / NODE_LATENCY_CALLS),
            last_error: self.last_error.clone(),
            last_success: self.last_success,
        }
    }
}

impl Noted<'_> {
    fn is_answered(self) -> bool {
        match self {
            Noted::Well | Noted::Refused(_) => true,
            Noted::Failed(fault) => matches!(fault, NodeFault::Answered(_)),
            Noted::Nothing => false,
        }
    }

    /// What is counted; `None` if there was no call.
    fn result(self) -> Option<NodeResult> {
        Some(match self {
            Noted::Well => NodeResult::Well,
            Noted::Refused(_) => NodeResult::Refused,
            Noted::Failed(NodeFault::Call(CallFault::TimedOut { .. })) => NodeResult::TimedOut,
            Noted::Failed(NodeFault::Answered(_)) => NodeResult::Broken,
            Noted::Failed(_) => NodeResult::Unreachable,
            Noted::Nothing => return None,
        })
    }
}

fn level(state: BreakerState) -> BreakerLevel {
    match state {
        BreakerState::Closed => BreakerLevel::Closed,
        BreakerState::HalfOpen => BreakerLevel::HalfOpen,
        BreakerState::Open { .. } => BreakerLevel::Open,
    }
}

/// Host and port, which no secret can be in.
fn host(target: &Target) -> String {
    match target.host() {
        TargetHost::Address(ip) => std::net::SocketAddr::new(*ip, target.port()).to_string(),
        TargetHost::Name(name) => format!("{name}:{}", target.port()),
    }
}

#[cfg(test)]
mod tests;
