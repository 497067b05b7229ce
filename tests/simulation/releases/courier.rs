//! Whoever calls the nodes, in virtual time, and whoever signs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sillage::engine::Engine;
use sillage::engine::releases::{NodeAnswer, Presence, Sight};
use sillage::ids::GroupId;
use sillage::limits::NODE_CONNECT_SHARE;
use sillage::outbound::authority::{CallOutcome, Failure};
use sillage::outbound::breaker::{Admission, Breaker, BreakerState, Outcome};
use sillage::time::Timestamp;
use sillage::workers::courier::{Answered, Courier, NodeCall, UnderWay};
use sillage::workers::signatory::{Calling, Signatory, Verdict};
use tokio::time::{Instant, sleep_until};

use super::fate::{Given, Weather};
use super::world::{Did, World};

/// Calls the nodes of a [`World`]. Like the real one it has breakers, which a crash takes.
pub struct SimulatedCourier {
    pub world: World,
    pub engine: Engine,
    pub breakers: Mutex<BTreeMap<Box<str>, Breaker>>,
    /// As long as a call may take.
    pub probe_ms: u64,
}

impl SimulatedCourier {
    fn on_breaker<T>(&self, node: &str, ask: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        ask(breakers.entry(node.into()).or_insert_with(|| Breaker::new(self.probe_ms)))
    }

    fn note(&self, node: &str, outcome: Outcome) {
        let now = self.engine.uptime();
        self.on_breaker(node, |breaker| breaker.note(outcome, now));
    }

    async fn look_at(&self, node: &str, group: &GroupId, deadline_ms: u64) -> Sight {
        let (weather, before_ms, after_ms) = {
            let mut world = self.world.lock();
            let weather = world.weather(node);
            let before_ms = world.random.u64(0..deadline_ms / 2);
            (weather, before_ms, world.random.u64(0..deadline_ms / 2))
        };
        let unseen = || Sight::Unseen { reason: "it does not tell".into(), again_ms: 0 };
        rest(before_ms).await;
        let failed = match weather {
            Weather::Slow => Some(deadline_ms - before_ms),
            Weather::Broken | Weather::Blind | Weather::Garbled => Some(after_ms),
            Weather::Down => Some(0),
            _ => None,
        };
        if let Some(ms) = failed {
            rest(ms).await;
            self.world.lock().tally.refused_looks += 1;
            self.note(node, Outcome::Failure);
            return unseen();
        }
        let seen: Presence = self.world.lock().nodes[node].has(group);
        rest(after_ms).await;
        self.note(node, Outcome::Success);
        Sight::Told(seen)
    }

    async fn make(&self, call: NodeCall<'_>) -> Answered {
        let fate = self.world.lock().fate(call.node, call.deadline_ms);
        let began = self.world.lock().now();
        rest(fate.sent_ms).await;
        let Some(sent) = self.world.lock().send(&call, &fate) else {
            return answered(NodeAnswer::Refused { status: 400 });
        };
        let last: Arc<Mutex<Option<Did>>> = Arc::default();
        for after_ms in fate.effects_ms.iter().copied() {
            // On its own: what is under way goes on without us.
            let (world, sent, last) = (self.world.clone(), sent.clone(), Arc::clone(&last));
            tokio::spawn(async move {
                rest(after_ms).await;
                let did = world.lock().arrive(&sent);
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(did);
            });
        }
        rest(fate.ends_ms).await;
        let did = *last.lock().unwrap_or_else(PoisonError::into_inner);
        let took_ms = self.world.lock().now() - began;
        let answer = match (fate.given, did) {
            (Given::Truth, Some(Did::Done)) => NodeAnswer::Done,
            (Given::Truth, Some(Did::Already)) => NodeAnswer::Already,
            (Given::Truth, _) => NodeAnswer::Refused { status: 409 },
            (Given::Refusal, _) => NodeAnswer::Refused { status: 403 },
            (Given::Unsent, _) => NodeAnswer::Unknown { settles_ms: 0 },
            (Given::Nothing, _) => {
                let sent_ms = took_ms.min(call.deadline_ms / NODE_CONNECT_SHARE);
                let settles_ms = (sent_ms + call.deadline_ms).saturating_sub(took_ms);
                NodeAnswer::Unknown { settles_ms }
            }
        };
        let is_definite = !matches!(answer, NodeAnswer::Unknown { settles_ms: 1.. });
        self.world.lock().ended(&sent, is_definite);
        let is_failure = matches!(answer, NodeAnswer::Unknown { .. });
        self.note(call.node, if is_failure { Outcome::Failure } else { Outcome::Success });
        answered(answer)
    }
}

impl Courier for SimulatedCourier {
    fn admit(&self, node: &str) -> Admission {
        let now = self.engine.uptime();
        let admission = self.on_breaker(node, |breaker| breaker.admit(now));
        let is_refused = matches!(admission, Admission::Refused { .. });
        self.world.lock().tally.shunned += u64::from(is_refused);
        admission
    }

    fn breaker(&self, node: &str) -> BreakerState {
        let now = self.engine.uptime();
        self.on_breaker(node, |breaker| breaker.state(now))
    }

    fn look<'a>(
        &'a self,
        node: &'a str,
        group: &'a GroupId,
        deadline_ms: u64,
    ) -> UnderWay<'a, Sight> {
        Box::pin(self.look_at(node, group, deadline_ms))
    }

    fn call<'a>(&'a self, call: NodeCall<'a>) -> UnderWay<'a, Answered> {
        Box::pin(self.make(call))
    }
}

/// Signs, mostly.
pub struct SimulatedSignatory(pub World);

impl Signatory for SimulatedSignatory {
    fn sign<'a>(&'a self, text: &'a str, _now: Timestamp) -> Calling<'a, String> {
        Box::pin(async move {
            let (ms, fails) = {
                let mut world = self.0.lock();
                let fails = !world.has_peace && world.random.u8(..4) == 0;
                (world.random.u64(1..300), fails)
            };
            rest(ms).await;
            match fails {
                true => CallOutcome::Failed { reason: Failure::Empty, retry_after_ms: None },
                false => CallOutcome::Done(format!("signed {text}")),
            }
        })
    }

    fn verify<'a>(&'a self, _: &'a str, _: &'a str, _: Timestamp) -> Calling<'a, bool> {
        Box::pin(async { CallOutcome::Unauthorised })
    }

    fn probe(&self, _now: Timestamp) -> Calling<'_, u16> {
        Box::pin(async { CallOutcome::Unauthorised })
    }

    fn verify_here(&self, _text: &str, _signature: &str) -> Option<Verdict> {
        None
    }
}

fn answered(answer: NodeAnswer) -> Answered {
    let reason = if answer == NodeAnswer::Done { "" } else { "it says no" };
    Answered { answer, reason: reason.into() }
}

pub(super) async fn rest(ms: u64) {
    sleep_until(Instant::now() + Duration::from_millis(ms)).await;
}
