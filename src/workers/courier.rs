//! Whoever calls the nodes: the client of nodes, or who plays it in tests.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::engine::Engine;
use crate::engine::releases::{Action, NodeAnswer, Partners, Sight};
use crate::ids::GroupId;
use crate::limits::{NODE_CONNECT_SHARE, NODE_CONNECTIONS_MAX, REASON_BYTES_MAX};
use crate::metrics::Metrics;
use crate::outbound::breaker::{Admission, BreakerState};
use crate::outbound::nodes::health::Health;
use crate::outbound::nodes::{self, NodeClient, Now};
use crate::outbound::target::Target;
use crate::outbound::tls::Tls;
use crate::time::Uptime;

/// A call or a look that is under way.
pub type UnderWay<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who can be sent to nodes. Each method makes exactly one call, or none.
pub trait Courier: Send + Sync {
    /// Whether the node may be called now, or is left alone.
    fn admit(&self, node: &str) -> Admission;

    /// How its breaker stands.
    fn breaker(&self, node: &str) -> BreakerState;

    /// Looks whether a group is on a node.
    fn look<'a>(
        &'a self,
        node: &'a str,
        group: &'a GroupId,
        deadline_ms: u64,
    ) -> UnderWay<'a, Sight>;

    /// Has a node carry out an action.
    fn call<'a>(&'a self, call: NodeCall<'a>) -> UnderWay<'a, Answered>;
}

/// A call to a node.
#[derive(Clone, Copy, Debug)]
pub struct NodeCall<'a> {
    /// Its URL.
    pub node: &'a str,
    /// What is to be done there.
    pub action: Action,
    /// Which group.
    pub group: &'a GroupId,
    /// Names this call among all that are ever made.
    pub key: &'a str,
    /// It takes at most so many milliseconds.
    pub deadline_ms: u64,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// How.
    pub answer: NodeAnswer,
    /// Why it is not done, at most `REASON_BYTES_MAX` bytes; empty if it is.
    pub reason: Box<str>,
}

/// All that is to be known of the partner nodes.
#[derive(Clone)]
pub struct Releasing {
    /// Who calls them.
    pub courier: Arc<dyn Courier>,
    /// Which they are; none: transactions of before are carried out, and none is begun.
    pub partners: Partners,
    /// What failed transactions have left is undone so often, in milliseconds.
    pub heal_every_ms: u64,
    /// Names this store in the keys of calls.
    pub store: Arc<str>,
}

/// The partner nodes as an operator names them.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Their URLs, at most `NODES_MAX`; maybe none.
    pub nodes: Vec<Target>,
    /// A call takes at most so many milliseconds.
    pub deadline_ms: u64,
    /// What failed transactions have left is undone so often, in milliseconds.
    pub heal_every_ms: u64,
}

impl Releasing {
    /// Calls these nodes over HTTP, on the clock of this engine; and how they are doing.
    #[must_use]
    pub fn over_http(
        settings: &NodeSettings,
        engine: &Engine,
        metrics: &Metrics,
    ) -> (Releasing, Health) {
        let NodeSettings { nodes, deadline_ms, heal_every_ms } = settings;
        let health = Health::new(nodes, *deadline_ms, metrics.releases.clone());
        let clock = engine.clone();
        let now: Now = Arc::new(move || clock.moment());
        let client = NodeClient::new(&Tls::public(), health.clone(), Arc::clone(&now));
        // As operators write them: a path of nothing but its slash is none.
        let urls = nodes.iter().map(|node| node.as_str().trim_end_matches('/').into()).collect();
        let releasing = Releasing {
            courier: Arc::new(NodeCourier::new(client, now)),
            partners: Partners { nodes: urls, deadline_ms: *deadline_ms },
            heal_every_ms: *heal_every_ms,
            store: engine.store_id().to_string().into(),
        };
        (releasing, health)
    }
}

impl fmt::Debug for Releasing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Releasing").field("partners", &self.partners).finish_non_exhaustive()
    }
}

/// The client of nodes, on the same clock as the records.
pub struct NodeCourier {
    client: NodeClient,
    now: Now,
    /// One for each connection that may be open.
    places: Semaphore,
}

impl NodeCourier {
    /// A courier that calls by way of `client`.
    #[must_use]
    pub fn new(client: NodeClient, now: Now) -> NodeCourier {
        NodeCourier { client, now, places: Semaphore::new(NODE_CONNECTIONS_MAX) }
    }

    /// For how long a call that told nothing may still have its effect. It was sent when its
    /// connection was there, so not later than that may take.
    fn settles_ms(began: Uptime, ended: Uptime, deadline_ms: u64) -> u64 {
        let took_ms = ended.since_ms(began);
        let sent_ms = took_ms.min(deadline_ms / NODE_CONNECT_SHARE);
        (sent_ms + deadline_ms).saturating_sub(took_ms)
    }
}

impl Courier for NodeCourier {
    fn admit(&self, node: &str) -> Admission {
        // A URL that is none is not called; the look says so.
        Target::parse(node).map_or(Admission::Call, |target| self.client.admit(&target))
    }

    fn breaker(&self, node: &str) -> BreakerState {
        Target::parse(node).map_or(BreakerState::Closed, |target| self.client.breaker(&target))
    }

    fn look<'a>(
        &'a self,
        node: &'a str,
        group: &'a GroupId,
        deadline_ms: u64,
    ) -> UnderWay<'a, Sight> {
        Box::pin(async move {
            let unseen = |why: &dyn fmt::Display| Sight::Unseen { reason: cut(why), again_ms: 0 };
            let target = match Target::parse(node) {
                Ok(target) => target,
                Err(fault) => return unseen(&fault),
            };
            let _place = self.places.acquire().await;
            match self.client.look(&target, group, deadline_ms).await {
                Ok(presence) => Sight::Told(presence),
                Err(fault) => unseen(&fault),
            }
        })
    }

    fn call<'a>(&'a self, call: NodeCall<'a>) -> UnderWay<'a, Answered> {
        Box::pin(async move {
            let NodeCall { node, action, group, key, deadline_ms } = call;
            let target = match Target::parse(node) {
                Ok(target) => target,
                Err(fault) => {
                    let answer = NodeAnswer::Unknown { settles_ms: 0 };
                    return Answered { answer, reason: cut(&fault) };
                }
            };
            // Before the clock starts: nothing is sent until there is a place.
            let _place = self.places.acquire().await;
            let began = (self.now)().uptime;
            let came = self.client.call(&target, action, group, key, deadline_ms).await;
            let reason = if came == nodes::NodeAnswer::Done { Box::default() } else { cut(&came) };
            let answer = match came {
                nodes::NodeAnswer::Done => NodeAnswer::Done,
                nodes::NodeAnswer::Already(_) => NodeAnswer::Already,
                nodes::NodeAnswer::Refused(reply) => {
                    NodeAnswer::Refused { status: reply.status.as_u16() }
                }
                // Nothing of it can have arrived.
                nodes::NodeAnswer::Unknown(fault) if fault.is_before_sending() => {
                    NodeAnswer::Unknown { settles_ms: 0 }
                }
                nodes::NodeAnswer::Unknown(_) => {
                    let settles_ms = Self::settles_ms(began, (self.now)().uptime, deadline_ms);
                    NodeAnswer::Unknown { settles_ms }
                }
            };
            Answered { answer, reason }
        })
    }
}

fn cut(why: &dyn fmt::Display) -> Box<str> {
    let mut text = why.to_string();
    text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
    text.into()
}
