//! What is counted about releases and the nodes that they are made on.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Transactions, and calls to nodes.
#[derive(Clone, Debug)]
pub struct ReleaseMetrics {
    calls: Family<CallLabel, Counter>,
    call_seconds: Family<NodeLabel, Histogram>,
    breakers: Family<NodeLabel, Gauge>,
    ends: Family<EndLabel, Counter>,
    /// Transactions that are being worked on.
    pub running: Gauge,
}

/// Bounds in seconds of what a call may take, up to the longest deadline.
const SECONDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];

/// What a node was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// Whether a group is there.
    Look,
    /// To create one.
    Create,
    /// To delete one.
    Delete,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeResult {
    /// An answer that the contract names.
    Well,
    /// Another answer below 500.
    Refused,
    /// 5xx.
    Broken,
    /// No answer in time.
    TimedOut,
    /// No connection, or none that held.
    Unreachable,
}

/// How a transaction ended, or came to stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionEnd {
    /// On all nodes.
    Succeeded,
    /// On none, or all as before.
    RolledBack,
    /// Neither, for now.
    Failed,
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerLevel {
    /// Calls are made.
    Closed,
    /// One at a time.
    HalfOpen,
    /// None.
    Open,
}

/// A node in labels. There are as many as may be configured, and one for all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct NodeLabel {
    node: String,
    host: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    node: String,
    host: String,
    call: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabel {
    state: &'static str,
}

impl NodeLabel {
    /// The label of the configured node at this place, from 0.
    #[must_use]
    pub fn new(index: usize, host: &str) -> NodeLabel {
        NodeLabel { node: index.to_string(), host: host.to_owned() }
    }

    /// The label of all nodes that are not configured any more.
    #[must_use]
    pub fn other() -> NodeLabel {
        NodeLabel { node: "other".to_owned(), host: String::new() }
    }
}

impl Default for ReleaseMetrics {
    fn default() -> ReleaseMetrics {
        ReleaseMetrics {
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            breakers: Family::default(),
            ends: Family::default(),
            running: Gauge::default(),
        }
    }
}

impl ReleaseMetrics {
    pub(super) fn register(&self, all: &mut Registry) {
        all.register("node_calls", "Calls to nodes by what came of them", self.calls.clone());
        all.register_with_unit(
            "node_call",
            "Time of one call to a node, also of one that failed",
            Unit::Seconds,
            self.call_seconds.clone(),
        );
        all.register(
            "node_breaker",
            "0 while calls are made to the node, 1 while one at a time, 2 while none",
            self.breakers.clone(),
        );
        all.register("transactions", "Transactions by how they ended", self.ends.clone());
        let running = self.running.clone();
        all.register("transactions_running", "Transactions that are being worked on", running);
    }

    /// Counts a call.
    pub fn note_call(&self, node: &NodeLabel, kind: CallKind, result: NodeResult, took_ms: u64) {
        let call = match kind {
            CallKind::Look => "look",
            CallKind::Create => "create",
            CallKind::Delete => "delete",
        };
        let outcome = match result {
            NodeResult::Well => "well",
            NodeResult::Refused => "refused",
            NodeResult::Broken => "broken",
            NodeResult::TimedOut => "timed_out",
            NodeResult::Unreachable => "unreachable",
        };
        let NodeLabel { node: place, host } = node.clone();
        self.calls.get_or_create(&CallLabel { node: place, host, call, outcome }).inc();
        let took = std::time::Duration::from_millis(took_ms);
        self.call_seconds.get_or_create(node).observe(took.as_secs_f64());
    }

    /// Shows how a node's breaker stands.
    pub fn set_breaker(&self, node: &NodeLabel, level: BreakerLevel) {
        // Of the others there may be many, and one number cannot tell of all.
        if *node == NodeLabel::other() {
            return;
        }
        self.breakers.get_or_create(node).set(match level {
            BreakerLevel::Closed => 0,
            BreakerLevel::HalfOpen => 1,
            BreakerLevel::Open => 2,
        });
    }

    /// Counts a transaction that has ended.
    pub fn note_end(&self, end: TransactionEnd) {
        let state = match end {
            TransactionEnd::Succeeded => "succeeded",
            TransactionEnd::RolledBack => "rolled_back",
            TransactionEnd::Failed => "failed",
        };
        self.ends.get_or_create(&EndLabel { state }).inc();
    }
}
