//! What becomes of submissions and withdrawals.

use std::collections::{HashMap, HashSet};

use super::{Circumstances, Draft, ItemDraft, ItemRaw, Original, Refusal, Reply, Verdict, hooks};
use crate::engine::command::{Batch, BatchMode, Item, RequestKey, Submission};
use crate::engine::findings::View;
use crate::formula::{CANON, Fingerprint};
use crate::record::hooks::{Event, Happening};
use crate::record::{AcceptedFormula, Fact, InGroup, ItemOutcome, SpentKey};
use crate::state::idempotency::Spent;
use crate::time::{Timestamp, Uptime};

/// Stores one formula: under a spent key the first answer again, else refused if its make-up is
/// stored already.
///
/// # Errors
/// `KeyReused`, `Duplicate`.
pub fn accept(
    view: View<'_>,
    submission: Submission,
    circumstances: &Circumstances,
) -> Result<Verdict, Refusal> {
    if let Some(reply) = foregone(view, &submission, circumstances.now.uptime)? {
        return Ok(Verdict::Known(reply));
    }
    let key = submission.key.map(|key| spend(key, circumstances));
    let mut facts = vec![accepted(submission, key, circumstances, None)];
    hooks::owe_acceptances(view.state, &mut facts, circumstances.token);
    Ok(Verdict::Record(facts, Draft::Accepted))
}

/// The reply or refusal of a submission that needs no record; `None` if it is new.
///
/// Asked by the reader of the request too, before it troubles the writer: a refusal is as good
/// there, since it changes nothing.
///
/// # Errors
/// `KeyReused`, `Duplicate`.
pub fn foregone(
    view: View<'_>,
    submission: &Submission,
    now: Uptime,
) -> Result<Option<Reply>, Refusal> {
    if let Some(spent) = first_use(view, submission.key.as_ref(), now)? {
        return Ok(Some(Reply::Replayed(spent.lsn)));
    }
    match view.formula(&submission.fingerprint) {
        Some(existing) => Err(Refusal::Duplicate(existing)),
        None => Ok(None),
    }
}

/// Stores the items of a batch as one durable group.
///
/// # Errors
/// `KeyReused`; `Culprits` if the batch is atomic and any item repeats another formula.
pub fn accept_batch(
    view: View<'_>,
    batch: Batch,
    circumstances: &Circumstances,
) -> Result<Verdict, Refusal> {
    let now = circumstances.now.uptime;
    if let Some(spent) = first_use(view, batch.key.as_ref(), now)? {
        return Ok(Verdict::Known(Reply::BatchReplayed(spent.lsn)));
    }
    let mut gathering = Gathering::new(view, circumstances);
    for item in batch.items {
        gathering.decide_item(item);
    }
    if batch.mode == BatchMode::Atomic && !gathering.repeats.is_empty() {
        return Err(Refusal::Culprits(gathering.repeats));
    }
    let Gathering { mut facts, items, .. } = gathering;
    if facts.is_empty() {
        return Ok(Verdict::Known(Reply::Batch(items.into_iter().map(known).collect())));
    }
    if let Some(key) = batch.key {
        let preceding = u32::try_from(facts.len()).expect("a batch is bounded");
        facts.push(Fact::BatchAnswered {
            key: spend(key, circumstances),
            outcomes: items.iter().map(outcome).collect(),
            preceding,
            request_id: batch.request_id,
        });
    }
    // Behind everything whose place in the group somebody counts.
    hooks::owe_acceptances(view.state, &mut facts, circumstances.token);
    Ok(Verdict::Record(facts, Draft::Batch(items)))
}

/// Withdraws a stored formula.
///
/// # Errors
/// `FormulaUnknown`.
pub fn withdraw(
    view: View<'_>,
    fingerprint: Fingerprint,
    circumstances: &Circumstances,
) -> Result<Verdict, Refusal> {
    let formula = view.formula(&fingerprint).ok_or(Refusal::FormulaUnknown)?;
    let mut facts = vec![Fact::FormulaWithdrawn { formula, fingerprint }];
    facts.extend(hooks::owed(view.state, Event::FormulaWithdrawn, circumstances.token, |_| {
        Happening::FormulaWithdrawn { formula: fingerprint, seq: formula }
    }));
    Ok(Verdict::Record(facts, Draft::Withdrawn))
}

/// What the items of a batch amount to, one after the other: each sees the ones before it.
struct Gathering<'a> {
    view: View<'a>,
    circumstances: &'a Circumstances,
    facts: Vec<Fact>,
    items: Vec<ItemDraft>,
    accepted: HashMap<Fingerprint, (usize, InGroup)>,
    keys: HashSet<[u8; 32]>,
    repeats: Vec<(usize, Original)>,
}

impl<'a> Gathering<'a> {
    fn new(view: View<'a>, circumstances: &'a Circumstances) -> Self {
        Gathering {
            view,
            circumstances,
            facts: Vec::new(),
            items: Vec::new(),
            accepted: HashMap::new(),
            keys: HashSet::new(),
            repeats: Vec::new(),
        }
    }

    fn decide_item(&mut self, item: Item) {
        let index = self.items.len();
        let draft = match item {
            Item::Invalid(problem) => ItemDraft::Known(ItemRaw::Invalid(problem)),
            Item::Valid(submission) => self.decide_submission(index, submission, None),
            Item::Imported(submission, date) => {
                self.decide_submission(index, submission, Some(date))
            }
        };
        self.items.push(draft);
    }

    fn decide_submission(
        &mut self,
        index: usize,
        submission: Submission,
        imported_of: Option<Timestamp>,
    ) -> ItemDraft {
        let now = self.circumstances.now.uptime;
        match foregone(self.view, &submission, now) {
            Ok(Some(Reply::Replayed(lsn))) => return ItemDraft::Known(ItemRaw::Replayed(lsn)),
            Err(Refusal::Duplicate(lsn)) => {
                self.repeats.push((index, Original::Stored(lsn)));
                return ItemDraft::Known(ItemRaw::Duplicate(lsn));
            }
            Err(_) => return ItemDraft::Known(ItemRaw::KeyReused),
            Ok(_) => {}
        }
        if let Some(&(earlier, place)) = self.accepted.get(&submission.fingerprint) {
            self.repeats.push((index, Original::Item(earlier)));
            return ItemDraft::Repeats(place);
        }
        if submission.key.is_some_and(|key| !self.keys.insert(key.key)) {
            return ItemDraft::Known(ItemRaw::KeyReused);
        }
        let place = InGroup(u32::try_from(self.facts.len()).expect("a batch is bounded"));
        self.accepted.insert(submission.fingerprint, (index, place));
        let key = submission.key.map(|key| spend(key, self.circumstances));
        self.facts.push(accepted(submission, key, self.circumstances, imported_of));
        ItemDraft::Accepted(place)
    }
}

/// What the key was spent on, if it was, and on the same request.
pub(super) fn first_use(
    view: View<'_>,
    key: Option<&RequestKey>,
    now: Uptime,
) -> Result<Option<Spent>, Refusal> {
    let Some(key) = key else { return Ok(None) };
    match view.key(&key.key, now) {
        Some(spent) if spent.request != key.request => Err(Refusal::KeyReused),
        found => Ok(found),
    }
}

pub(super) fn spend(key: RequestKey, circumstances: &Circumstances) -> SpentKey {
    let expires = circumstances.now.uptime.plus_ms(circumstances.policy.retention_ms);
    SpentKey { key: key.key, request: key.request, expires }
}

/// The fact of an acceptance; with the date of another store if one is given.
fn accepted(
    submission: Submission,
    key: Option<SpentKey>,
    circumstances: &Circumstances,
    imported_of: Option<Timestamp>,
) -> Fact {
    let Submission { formula, fingerprint, .. } = submission;
    let flow = circumstances.policy.flow.to_vec();
    let accepted = AcceptedFormula { canon: CANON, fingerprint, formula, key, flow };
    match imported_of {
        Some(accepted_at) => Fact::FormulaImported { accepted, accepted_at },
        None => Fact::FormulaAccepted(accepted),
    }
}

fn known(item: ItemDraft) -> ItemRaw {
    match item {
        ItemDraft::Known(raw) => raw,
        ItemDraft::Accepted(_) | ItemDraft::Repeats(_) => {
            unreachable!("without facts no item was accepted")
        }
    }
}

fn outcome(item: &ItemDraft) -> ItemOutcome {
    match item {
        ItemDraft::Accepted(place) => ItemOutcome::Accepted(*place),
        ItemDraft::Repeats(place) => ItemOutcome::Repeats(*place),
        ItemDraft::Known(ItemRaw::Duplicate(lsn)) => ItemOutcome::Duplicate(*lsn),
        ItemDraft::Known(ItemRaw::Invalid(problem)) => ItemOutcome::Invalid(problem.clone()),
        ItemDraft::Known(ItemRaw::Accepted(_) | ItemRaw::Replayed(_) | ItemRaw::KeyReused) => {
            unreachable!("a batch under a key of its own has no keyed items")
        }
    }
}
