//! The groups on a node, and what it remembers of idempotency keys if it honours them.
//!
//! A key is `<store>/<transaction>/<node>/<number>`, also in quotes. The number grows with every
//! call of the transaction. A node that honours keys answers the same key the same, and refuses
//! with 409 a number below one that it has seen of the same transaction for the group: a late
//! call does nothing once another has undone it.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::cli::simulate::recent::Recent;
use crate::limits::{SIMULATE_GROUPS_MAX, SIMULATE_IDS_MAX};

/// What is to be done with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It is to be on the node.
    Create,
    /// It is not to be there any more.
    Delete,
}

/// A call, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// What is to be done.
    pub(super) action: Action,
    /// With which group.
    pub(super) group: String,
    /// Its idempotency key, as sent.
    pub(super) key: Option<String>,
}

/// What a request did to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Did {
    /// Nothing.
    Nothing,
    /// The group is there since.
    Created,
    /// The group is gone since.
    Deleted,
    /// Nothing yet.
    Pending,
}

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The status that says so: 201, 200, 400, 404, 409, or 507 when there is no room.
    pub(super) status: u16,
    /// What it did.
    pub(super) did: Did,
}

/// What a node makes of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// Nothing.
    Ignored,
    /// They are honoured.
    Honoured,
}

/// The groups on a node.
#[derive(Debug)]
pub(super) struct Groups {
    present: BTreeSet<String>,
    /// The latest call of each transaction about each group.
    seen: Recent<Option<Seen>>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    number: u64,
    status: u16,
}

impl Groups {
    /// These, at most `SIMULATE_GROUPS_MAX`.
    pub(super) fn new(present: BTreeSet<String>) -> Groups {
        Groups { present, seen: Recent::new(SIMULATE_IDS_MAX) }
    }

    /// Those that are there, sorted.
    pub(super) fn present(&self) -> &BTreeSet<String> {
        &self.present
    }

    /// Whether it is there.
    pub(super) fn has(&self, group: &str) -> bool {
        self.present.contains(group)
    }

    /// Carries a call out.
    pub(super) fn carry_out(&mut self, call: &Call, keys: Keys) -> Verdict {
        let key = call.key.as_deref().filter(|_| keys == Keys::Honoured);
        let Some((scope, number)) = key.map(|key| scope_and_number(key, &call.group)) else {
            return self.change(call.action, &call.group);
        };
        match *self.seen.of(&scope) {
            Some(seen) if seen.number == number => {
                Verdict { status: seen.status, did: Did::Nothing }
            }
            Some(seen) if seen.number > number => Verdict { status: 409, did: Did::Nothing },
            _ => {
                let verdict = self.change(call.action, &call.group);
                *self.seen.of(&scope) = Some(Seen { number, status: verdict.status });
                verdict
            }
        }
    }

    /// Creates or deletes a group without a key, as somebody else would.
    pub(super) fn change(&mut self, action: Action, group: &str) -> Verdict {
        let (status, did) = match action {
            Action::Create if self.present.contains(group) => (400, Did::Nothing),
            Action::Create if self.present.len() >= SIMULATE_GROUPS_MAX => (507, Did::Nothing),
            Action::Create => {
                self.present.insert(group.to_owned());
                (201, Did::Created)
            }
            Action::Delete if self.present.remove(group) => (200, Did::Deleted),
            Action::Delete => (404, Did::Nothing),
        };
        Verdict { status, did }
    }
}

/// What a key is about, and its number. One of another form is about itself only.
fn scope_and_number(key: &str, group: &str) -> (String, u64) {
    let inner = key.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let key = inner.unwrap_or(key);
    let parts = key.rsplit_once('/').and_then(|(scope, digits)| {
        let number = digits.parse().ok()?;
        Some((scope, number))
    });
    let (scope, number) = parts.unwrap_or((key, 0));
    (format!("{scope}\n{group}"), number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> Groups {
        Groups::new(BTreeSet::new())
    }

    fn call(action: Action, key: &str) -> Call {
        Call { action, group: "a".to_owned(), key: Some(key.to_owned()) }
    }

    fn verdict(status: u16, did: Did) -> Verdict {
        Verdict { status, did }
    }

    #[test]
    fn a_group_is_created_once_and_deleted_once() {
        let mut groups = groups();
        let mut change = |action| groups.change(action, "a");
        assert_eq!(change(Action::Delete), verdict(404, Did::Nothing));
        assert_eq!(change(Action::Create), verdict(201, Did::Created));
        assert_eq!(change(Action::Create), verdict(400, Did::Nothing));
        assert_eq!(change(Action::Delete), verdict(200, Did::Deleted));
        assert!(!groups.has("a"));
    }

    #[test]
    fn the_same_key_is_answered_the_same_and_does_nothing_more() {
        let mut groups = groups();
        let create = call(Action::Create, "s/1/0/1");
        assert_eq!(groups.carry_out(&create, Keys::Honoured), verdict(201, Did::Created));
        groups.change(Action::Delete, "a");
        assert_eq!(groups.carry_out(&create, Keys::Honoured), verdict(201, Did::Nothing));
        assert!(!groups.has("a"));
        assert_eq!(groups.carry_out(&create, Keys::Ignored), verdict(201, Did::Created));
    }

    #[test]
    fn a_call_that_is_later_than_its_undo_is_refused() {
        let mut groups = groups();
        let undo = call(Action::Delete, "\"s/1/0/2\"");
        assert_eq!(groups.carry_out(&undo, Keys::Honoured), verdict(404, Did::Nothing));
        let late = call(Action::Create, "s/1/0/1");
        assert_eq!(groups.carry_out(&late, Keys::Honoured), verdict(409, Did::Nothing));
        // Another transaction's number says nothing about this one's, nor another group's.
        let other = call(Action::Create, "s/2/0/1");
        assert_eq!(groups.carry_out(&other, Keys::Honoured), verdict(201, Did::Created));
        let elsewhere = Call { group: "b".to_owned(), ..late };
        assert_eq!(groups.carry_out(&elsewhere, Keys::Honoured), verdict(201, Did::Created));
    }

    #[test]
    fn keys_of_another_form_stand_for_one_call_each() {
        let mut groups = groups();
        for key in ["x", "", "x/", "x/-1", "\""] {
            let create = call(Action::Create, key);
            assert_eq!(groups.carry_out(&create, Keys::Honoured), verdict(201, Did::Created));
            groups.change(Action::Delete, "a");
            assert_eq!(groups.carry_out(&create, Keys::Honoured), verdict(201, Did::Nothing));
        }
    }

    #[test]
    fn groups_are_bounded() {
        let mut groups = groups();
        for number in 0..SIMULATE_GROUPS_MAX {
            assert_eq!(groups.change(Action::Create, &number.to_string()).status, 201);
        }
        assert_eq!(groups.change(Action::Create, "a"), verdict(507, Did::Nothing));
        assert_eq!(groups.change(Action::Create, "0").status, 400);
    }
}
