//! Groups on this server, when it plays a node: which are there, and who called last.
//!
//! A call under a key leaves its key behind, also one that changed nothing and also when the
//! group is gone. So a call that comes twice gets its answer again, and one that comes after a
//! later call of the same store is known as late. What is not remembered is absent.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bincode::{Decode, Encode};

use super::digest::{Digest, Tag, entry, fold};
use crate::ids::{GroupId, Lsn};
use crate::limits::{GROUP_CALLERS_MAX, GROUPS_GONE_MAX};
use crate::record::releases::{CallKey, ChangedGroup, Presence};

/// The groups that are there, and those of the absent ones that were called for last.
///
/// Invariant: `gone` names exactly those that are absent; they are at most `GROUPS_GONE_MAX`.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    pub(super) groups: BTreeMap<GroupId, Group>,
    /// By the record that was about them last.
    gone: BTreeSet<(Lsn, GroupId)>,
    digest: Digest,
}

/// What is known of a group.
///
/// Invariants: an absent one has a call; no two calls are of the same caller.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Group {
    /// Whether it is there.
    pub presence: Presence,
    /// The latest record about it.
    pub last: Lsn,
    /// The latest call of each caller that had a key, the latest last; at most
    /// `GROUP_CALLERS_MAX`.
    pub calls: Vec<Call>,
}

/// A call under a key that was answered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Call {
    /// Its key.
    pub key: CallKey,
    /// What it wanted.
    pub aim: Presence,
    /// What it did.
    pub effect: Effect,
}

/// What a call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Effect {
    /// The group was as was asked already.
    Nothing,
    /// What was asked.
    Changed,
}

/// How a call stands to those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn<'a> {
    /// It comes as it should.
    New,
    /// It came before, and was this one.
    Repeated(&'a Call),
    /// It was sent before this one, which was heard already.
    Late(&'a Call),
}

impl Group {
    /// How a call under this key stands to those that are remembered.
    #[must_use]
    pub fn turn(&self, key: &CallKey) -> Turn<'_> {
        for call in &self.calls {
            match key.order(&call.key) {
                Some(Ordering::Equal) => return Turn::Repeated(call),
                Some(Ordering::Less) => return Turn::Late(call),
                Some(Ordering::Greater) | None => {}
            }
        }
        Turn::New
    }

    /// Whether this can be: for one that was read.
    pub(super) fn is_sound(&self) -> bool {
        let callers: BTreeSet<&str> = self.calls.iter().map(|call| call.key.caller()).collect();
        let is_kept = self.presence == Presence::Present || !self.calls.is_empty();
        is_kept && callers.len() == self.calls.len() && callers.len() <= GROUP_CALLERS_MAX
    }
}

impl Groups {
    /// What is known of a group; `None`: it is absent.
    #[must_use]
    pub fn get(&self, group: &GroupId) -> Option<&Group> {
        self.groups.get(group)
    }

    /// Whether a group is there.
    #[must_use]
    pub fn presence(&self, group: &GroupId) -> Presence {
        self.get(group).map_or(Presence::Absent, |group| group.presence)
    }

    /// How many are there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len() - self.gone.len()
    }

    /// Whether none is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that are there, in order of their names, behind `after`.
    pub fn after(&self, after: Option<&GroupId>) -> impl Iterator<Item = &GroupId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let known = self.groups.range::<GroupId, _>((from, Bound::Unbounded));
        known.filter(|(_, group)| group.presence == Presence::Present).map(|(id, _)| id)
    }

    /// Whether nothing is known of any group: none is there, and no call for an absent one is
    /// remembered.
    pub(super) fn is_new(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn change(&mut self, lsn: Lsn, changed: &ChangedGroup) {
        let ChangedGroup { group: id, presence, by } = changed;
        let before = self.take(id);
        let was = before.as_ref().map_or(Presence::Absent, |group| group.presence);
        let mut calls = before.map(|group| group.calls).unwrap_or_default();
        if let Some(key) = by {
            let effect = if was == *presence { Effect::Nothing } else { Effect::Changed };
            calls.retain(|call| call.key.caller() != key.caller());
            calls.push(Call { key: key.clone(), aim: *presence, effect });
            let surplus = calls.len().saturating_sub(GROUP_CALLERS_MAX);
            calls.drain(..surplus);
        }
        if *presence == Presence::Present || !calls.is_empty() {
            self.put(id.clone(), Group { presence: *presence, last: lsn, calls });
        }
        if self.gone.len() > GROUPS_GONE_MAX
            && let Some((_, oldest)) = self.gone.first().cloned()
        {
            self.take(&oldest);
        }
    }

    /// Puts one in place that is not there.
    pub(super) fn put(&mut self, id: GroupId, group: Group) {
        self.digest.add(group_hash(&id, &group));
        if group.presence == Presence::Absent {
            self.gone.insert((group.last, id.clone()));
        }
        self.groups.insert(id, group);
    }

    fn take(&mut self, id: &GroupId) -> Option<Group> {
        let group = self.groups.remove(id)?;
        self.digest.remove(group_hash(id, &group));
        if group.presence == Presence::Absent {
            self.gone.remove(&(group.last, id.clone()));
        }
        Some(group)
    }

    pub(super) fn digest(&self) -> u128 {
        self.digest.value()
    }

    pub(super) fn check_invariants(&self) {
        let mut again = Groups::default();
        for (id, group) in &self.groups {
            assert!(group.is_sound(), "what is known of group {id} can be");
            again.put(id.clone(), group.clone());
        }
        assert_eq!(again.gone, self.gone, "the absent ones are known");
        assert!(self.gone.len() <= GROUPS_GONE_MAX, "only the latest are kept");
        assert_eq!(again.digest, self.digest, "the digest is the sum over the groups");
    }
}

fn group_hash(id: &GroupId, group: &Group) -> u128 {
    let Group { presence, last, calls } = group;
    let mut words = vec![fold(id.as_str().as_bytes()), *presence as u64, last.0];
    for Call { key, aim, effect } in calls {
        words.push(fold(key.transaction.as_bytes()));
        words.extend([u64::from(key.number), *aim as u64, *effect as u64]);
    }
    entry(Tag::Group, &words)
}

#[cfg(test)]
mod tests;
