//! What a call for a group leads to, when this server plays a node. Pure.

use super::{Draft, Refusal, Reply, Verdict};
use crate::engine::command::Answer;
use crate::ids::GroupId;
use crate::limits::GROUPS_MAX;
use crate::record::Fact;
use crate::record::releases::{Action, CallKey, ChangedGroup, Presence};
use crate::state::State;
use crate::state::groups::{Effect, Turn};

/// A call for a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCall {
    /// Which.
    pub group: GroupId,
    /// What is to become of it.
    pub action: Action,
    /// The call's key, if it has one.
    pub key: Option<CallKey>,
}

/// What a call for a group has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupReply {
    /// What.
    pub effect: Effect,
    /// Whether it is told for the first time.
    pub answer: Answer,
}

/// Decides a call.
///
/// One that changes nothing is recorded all the same when it has a key: an undo that finds
/// nothing to undo must be known when what it undoes arrives after it.
///
/// # Errors
/// `CallLate`, `KeyReused`, `GroupsFull`: nothing is changed.
pub(super) fn decide(state: &State, call: GroupCall) -> Result<Verdict, Refusal> {
    let GroupCall { group, action, key } = call;
    let (groups, aim) = (state.groups(), action.aim());
    let known = groups.get(&group);
    let turn = known.zip(key.as_ref()).map_or(Turn::New, |(known, key)| known.turn(key));
    match turn {
        Turn::New => {}
        Turn::Late(_) => return Err(Refusal::CallLate),
        Turn::Repeated(before) if before.aim != aim => return Err(Refusal::KeyReused),
        Turn::Repeated(before) => {
            let reply = GroupReply { effect: before.effect, answer: Answer::Replayed };
            return Ok(Verdict::Known(Reply::Group(reply)));
        }
    }
    let effect = match groups.presence(&group) == aim {
        true => Effect::Nothing,
        false => Effect::Changed,
    };
    let is_one_more = effect == Effect::Changed && aim == Presence::Present;
    if is_one_more && groups.len() >= GROUPS_MAX {
        return Err(Refusal::GroupsFull);
    }
    let reply = Reply::Group(GroupReply { effect, answer: Answer::First });
    if effect == Effect::Nothing && key.is_none() {
        return Ok(Verdict::Known(reply));
    }
    let fact = Fact::GroupChanged(ChangedGroup { group, presence: aim, by: key });
    Ok(Verdict::Record(vec![fact], Draft::Complete(reply)))
}

#[cfg(test)]
mod tests;
