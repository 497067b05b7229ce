//! Calls for groups on this server: with keys and without, and any of them again and again.

use super::History;
use crate::record::Fact;
use crate::record::releases::{Action, CallKey, ChangedGroup};

/// Few, so that they come and go, and are called for by several.
const GROUPS: u8 = 5;

impl History {
    /// A call that was carried out, whether it changed anything or not.
    pub(super) fn group_call(&mut self) -> Fact {
        let group = format!("group {}", self.random.u8(..GROUPS)).parse().expect("plain");
        let action = if self.random.bool() { Action::Create } else { Action::Delete };
        let (store, transaction) = (self.random.u8(..8), self.random.u8(..4));
        let key = format!("{store:032x}/{transaction}/0/{}", self.random.u8(..4));
        let by = (self.random.u8(..4) > 0).then(|| CallKey::of(&key));
        Fact::GroupChanged(ChangedGroup { group, presence: action.aim(), by })
    }
}
