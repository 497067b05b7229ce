//! What a transaction does next. Pure: it looks at the transaction and the clock, and at nothing
//! else, so that whoever replays goes on exactly where the log ends.
//!
//! ```text
//! forward    look at all ─► call all ─► settle what is unknown ─┬─► all as asked: succeeded
//!                                                               ├─► some changed: backward
//!                                                               └─► none: refused, or once more
//! backward   settle what is unknown ─► undo what was changed ─► look at it ─┬─► clean
//!                        ▲                                       │          └─► failed
//!                        └────────── not clean, not too often ◄──┘
//! ```
//!
//! **Judging.** A call that ended without telling what it did may have its effect until its
//! deadline has passed. Only a look after that settles it; until then nothing is undone, so no
//! effect comes after the undo that was meant for it.
//!
//! **Undo** is for nodes that this transaction has changed, or may have changed and that do not
//! tell. A node that is as it was, or that was as asked before, is never called: what was there
//! before is not ours to remove. As long as anything may be left on a node there is no end but
//! `failed`, and no other try either.

use crate::limits::{LOOKS_MAX, RELEASE_BACKOFF_BASE_MS, RELEASE_BACKOFF_CAP_MS, UNDO_ROUNDS_MAX};
use crate::record::releases::{Delayed, End, NodeSet, Origin, Step};
use crate::state::releases::{Heading, Node, Phase, Standing, Transaction};
use crate::time::Uptime;

/// What a transaction does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look at these nodes.
    Look(NodeSet),
    /// Call these nodes.
    Call(Step, NodeSet),
    /// Answers are still to come.
    Await,
    /// Nothing before then.
    Wait(Uptime),
    /// Wait for the next try.
    Delay(Delayed),
    /// End.
    End(End),
    /// It is at an end.
    Nothing,
}

/// What a transaction does at `now`.
#[must_use]
pub fn plan(transaction: &Transaction, now: Uptime) -> Next {
    let is_called = |node: &Node| matches!(node.standing, Standing::Called(_));
    if !transaction.phase.is_held() {
        return Next::Nothing;
    }
    if transaction.nodes.iter().any(is_called) {
        return Next::Await;
    }
    match transaction.heading {
        Heading::Forward => forward(transaction, now),
        Heading::Backward => backward(transaction, now),
    }
}

fn forward(transaction: &Transaction, now: Uptime) -> Next {
    let unknown = transaction.nodes_where(is_unknown);
    if !unknown.is_empty() {
        return match transaction.nodes.iter().any(is_given_up) {
            true => backward(transaction, now),
            false => settle(transaction, unknown, now),
        };
    }
    let has = |standing: Standing| transaction.nodes.iter().any(|it| it.standing == standing);
    let idle = transaction.nodes_where(|node| node.standing == Standing::Idle);
    if !idle.is_empty() {
        return Next::Look(idle);
    }
    if transaction.nodes.iter().any(is_untold) {
        return if has(Standing::Done) { backward(transaction, now) } else { again(transaction) };
    }
    let looked = transaction.nodes_where(|node| node.standing == Standing::Looked);
    if !looked.is_empty() {
        return Next::Call(Step::Do, looked);
    }
    let is_aim = |node: &Node| matches!(node.standing, Standing::Done | Standing::Already);
    if transaction.nodes.iter().all(is_aim) {
        Next::End(End::Succeeded)
    } else if has(Standing::Done) {
        backward(transaction, now)
    } else if has(Standing::Refused) {
        Next::End(End::RolledBack)
    } else {
        again(transaction)
    }
}

fn backward(transaction: &Transaction, now: Uptime) -> Next {
    let is_healing = transaction.phase == Phase::Ended(End::Failed);
    let unsettled = transaction.nodes_where(|node| is_unknown(node) && !is_given_up(node));
    if !unsettled.is_empty() {
        return settle(transaction, unsettled, now);
    }
    let is_idle = |node: &Node| node.standing == Standing::Idle && (is_healing || node.is_left);
    let idle = transaction.nodes_where(is_idle);
    if !idle.is_empty() {
        return Next::Look(idle);
    }
    let is_changed =
        |node: &Node| node.standing == Standing::Done || is_given_up(node) && node.is_left;
    let changed = transaction.nodes_where(is_changed);
    if !changed.is_empty() {
        let rounds_max = if is_healing { 1 } else { UNDO_ROUNDS_MAX };
        let ready_at = latest(transaction, changed).max(transaction.undo_after);
        return match () {
            () if transaction.undos >= rounds_max => Next::End(End::Failed),
            () if ready_at > now => Next::Wait(ready_at),
            () => Next::Call(Step::Undo, changed),
        };
    }
    if is_healing {
        let is_untold = transaction.nodes.iter().any(is_untold);
        return Next::End(if is_untold { End::Failed } else { End::RolledBack });
    }
    if transaction.nodes.iter().any(|node| node.is_left) {
        return Next::End(End::Failed);
    }
    let is_refused = transaction.nodes.iter().any(|it| it.standing == Standing::Refused);
    let is_last = transaction.tries + 1 >= transaction.begun.tries_max;
    match transaction.begun.origin {
        Origin::Flow { .. } | Origin::Withdrawal { .. } if !is_refused && !is_last => {
            Next::Delay(Delayed::TryOver)
        }
        _ => Next::End(End::RolledBack),
    }
}

/// Looks at nodes whose calls told nothing, once those have no effect any more.
fn settle(transaction: &Transaction, unknown: NodeSet, now: Uptime) -> Next {
    let settles_at = latest(transaction, unknown);
    if settles_at > now { Next::Wait(settles_at) } else { Next::Look(unknown) }
}

fn latest(transaction: &Transaction, nodes: NodeSet) -> Uptime {
    let settles_at = |node: u8| match transaction.nodes[usize::from(node)].standing {
        Standing::Unknown { settles_at, .. } => settles_at,
        _ => Uptime(0),
    };
    nodes.iter().map(settles_at).max().unwrap_or_default()
}

/// A try is over that has changed nothing, or was not even begun. One that only finds nodes left
/// alone does not count, unless somebody waits for it.
fn again(transaction: &Transaction) -> Next {
    // Tried anew after a failure whose traces cannot be looked at: they are healed, not waited
    // for.
    if transaction.nodes.iter().any(|node| node.is_left) {
        return Next::End(End::Failed);
    }
    let is_client = transaction.begun.origin == Origin::Client;
    let is_unseen = transaction.nodes.iter().any(|it| it.standing == Standing::Unseen);
    let is_shunned = transaction.nodes.iter().any(is_untold) && !is_unseen;
    if is_shunned && !is_client {
        Next::Delay(Delayed::Shunned)
    } else if transaction.tries + 1 < transaction.begun.tries_max {
        Next::Delay(Delayed::TryOver)
    } else {
        Next::End(End::Failed)
    }
}

fn is_unknown(node: &Node) -> bool {
    matches!(node.standing, Standing::Unknown { .. })
}

/// Nobody knows what became of its call, and looking at it has told nothing too often.
fn is_given_up(node: &Node) -> bool {
    is_unknown(node) && node.unseen >= LOOKS_MAX
}

fn is_untold(node: &Node) -> bool {
    matches!(node.standing, Standing::Unseen | Standing::Shunned { .. })
}

/// The wait before something is done for the time after number `round`, counted from 1: doubles
/// up to a cap, and is spread by a tenth both ways by `random`, any number.
#[must_use]
pub fn backoff_ms(round: u32, random: u64) -> u64 {
    let factor = 1_u64.checked_shl(round.saturating_sub(1)).unwrap_or(u64::MAX);
    spread_ms(RELEASE_BACKOFF_BASE_MS.saturating_mul(factor).min(RELEASE_BACKOFF_CAP_MS), random)
}

/// A wait, spread by a tenth both ways, so that what failed together is not tried together again.
#[must_use]
pub fn spread_ms(even_ms: u64, random: u64) -> u64 {
    let spread_ms = even_ms / 10;
    even_ms - spread_ms + random % (2 * spread_ms + 1)
}
