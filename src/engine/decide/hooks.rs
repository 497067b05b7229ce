//! Who is owed a call when something happens.

use crate::record::Fact;
use crate::record::hooks::{Event, Happening, OwedDelivery, Recipient};
use crate::state::State;

/// One fact for each hook that wants to be told; none, and no work, if nobody does.
///
/// `happening` is given its place in the group: how many facts of the group stand in front of
/// the one that it makes, counted from the fact that it is about.
pub fn owed(
    state: &State,
    event: Event,
    token: u64,
    happening: impl Fn(u32) -> Happening,
) -> Vec<Fact> {
    let hooks = (1..).zip(state.hooks().subscribers(event));
    let owe = |(place, hook)| OwedDelivery {
        to: Recipient::Hook(hook),
        happening: happening(place),
        token,
    };
    hooks.map(owe).map(Fact::HookOwed).collect()
}
