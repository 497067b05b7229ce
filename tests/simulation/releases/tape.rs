//! All facts about releases that are durable, in order, and the rules that they must keep: among
//! themselves, and with the nodes as they are.
//!
//! A second opinion: this knows nothing of `State` and is fed from the log alone.

use std::collections::{BTreeMap, BTreeSet};

use sillage::engine::core::Core;
use sillage::formula::Fingerprint;
use sillage::ids::{GroupId, Lsn};
use sillage::log::ReadError;
use sillage::record::releases::{BegunTransaction, Delayed, End, NodeSet, Origin, Presence, Step};
use sillage::record::{Fact, FlowStep, codec};
use sillage::workers::courier::NodeCall;

use super::world::Inside;

/// What the facts so far amount to.
#[derive(Default)]
pub struct Tape {
    read_to: Lsn,
    pub transactions: BTreeMap<Lsn, Told>,
    /// Groups that are held, by which transaction.
    pub held: BTreeMap<GroupId, Lsn>,
    /// How each group is on each node when nothing is under way.
    pub expected: BTreeMap<(Box<str>, GroupId), Presence>,
    /// What was accepted to be released, by the record, and whether it is withdrawn.
    pub formulas: BTreeMap<Lsn, (Fingerprint, Stored)>,
    /// Spent keys.
    pub keys: BTreeMap<[u8; 32], Lsn>,
}

/// A transaction, as the facts tell of it.
pub struct Told {
    pub begun: BegunTransaction,
    /// How its nodes were when it began.
    pub before: Vec<Presence>,
    pub end: Option<End>,
    pub answered: Option<(u16, Box<[u8]>)>,
    /// The latest calls that were intended, and their number.
    intent: Option<(Step, NodeSet)>,
    number: u32,
    /// Calls that were sent, by node and number.
    sent: BTreeSet<(usize, u32)>,
    /// Nodes that were to be called to carry the action out: whoever was cut off does not know
    /// whether they were.
    touched: BTreeSet<usize>,
    heals: u32,
}

/// Whether a formula is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    Still,
    Withdrawn,
}

impl Tape {
    /// A call is about to be sent: which way it goes, or the rule that forbids it.
    pub fn intend(
        &mut self,
        id: Lsn,
        place: usize,
        number: u32,
        call: &NodeCall<'_>,
    ) -> Result<Step, &'static str> {
        let told = self.transactions.get_mut(&id).ok_or("no such transaction is on record")?;
        let (step, nodes) = told.intent.ok_or("a call that is not on record")?;
        let bit = u8::try_from(place).map_err(|_| "no such node")?;
        let rules = [
            (told.begun.nodes.get(place).is_some_and(|url| **url == *call.node), "another node"),
            (*call.group == told.begun.group, "a foreign group"),
            (number == told.number && nodes.contains(bit), "a call that is not on record"),
            (told.sent.insert((place, number)), "one call is sent twice"),
            (told.begun.deadline_ms == call.deadline_ms, "another deadline"),
        ];
        if let Some((_, rule)) = rules.into_iter().find(|(holds, _)| !holds) {
            return Err(rule);
        }
        let action = match step {
            Step::Do => told.begun.action,
            Step::Undo => told.begun.action.inverse(),
        };
        match step {
            _ if action != call.action => Err("another action than is on record"),
            Step::Do => Ok(step),
            Step::Undo if !told.touched.contains(&place) => Err("an undo where nothing was done"),
            Step::Undo if told.before[place] == told.begun.action.aim() => {
                Err("an undo of what was there before")
            }
            Step::Undo => Ok(step),
        }
    }
}

impl Inside {
    /// Reads what has become durable.
    ///
    /// # Errors
    /// The disk's, when the power has gone off.
    pub fn read(&mut self, core: &Core) -> Result<(), ReadError> {
        let durable = core.log().durable().lsn;
        let (log, mut payload) = (core.log().reader(), Vec::new());
        while self.tape.read_to < durable {
            let lsn = self.tape.read_to.next();
            let kind = log.read(lsn, &mut payload)?;
            self.tape.read_to = lsn;
            if kind.is_delivered() {
                let record = codec::decode(&payload).expect("it was written by us");
                self.see(lsn, &record.fact);
            }
        }
        Ok(())
    }

    /// Whether the disk still answers.
    pub fn has_power(&self, core: &Core) -> bool {
        let read = core.log().reader().read(self.tape.read_to, &mut Vec::new());
        !matches!(read, Err(ReadError::Disk(_)))
    }

    fn see(&mut self, lsn: Lsn, fact: &Fact) {
        match fact {
            Fact::FormulaAccepted(accepted) if accepted.flow.contains(&FlowStep::Release) => {
                self.tape.formulas.insert(lsn, (accepted.fingerprint, Stored::Still));
            }
            Fact::FormulaWithdrawn { formula, .. } => {
                if let Some((_, stored)) = self.tape.formulas.get_mut(formula) {
                    *stored = Stored::Withdrawn;
                }
                self.tally.withdrawn += 1;
            }
            Fact::ReleaseDue { .. } => self.tally.sealed_then_due += 1,
            Fact::TransactionBegun(begun) => self.begun(lsn, begun),
            Fact::NodesCalled { transaction, step, nodes, .. } => {
                self.tally.undo_rounds += u64::from(*step == Step::Undo);
                let told = self.told(*transaction);
                told.intent = Some((*step, *nodes));
                told.number += 1;
                if *step == Step::Do {
                    told.touched.extend(nodes.iter().map(usize::from));
                }
            }
            Fact::TransactionDelayed { delayed, transaction, .. } => {
                match delayed {
                    Delayed::TryOver => self.tally.tries_over += 1,
                    Delayed::Shunned => self.tally.shunned_delays += 1,
                }
                self.all_are(*transaction, End::RolledBack);
            }
            Fact::TransactionRetried { transaction } => {
                self.tally.retried += 1;
                self.told(*transaction).end = None;
            }
            Fact::HealBegun { transaction } => {
                let told = self.told(*transaction);
                told.heals += 1;
                let is_again = told.heals > 1;
                self.tally.heals_failed += u64::from(is_again);
            }
            Fact::TransactionEnded(ended) => self.over(ended.transaction, ended.end),
            Fact::TransactionAnswered { transaction, status, body } => {
                let told = self.told(*transaction);
                let before = told.answered.replace((*status, body.clone()));
                self.demand(before.is_none(), || format!("{transaction} is answered twice"));
            }
            _ => {}
        }
    }

    fn told(&mut self, id: Lsn) -> &mut Told {
        self.tape.transactions.get_mut(&id).expect("what is told of has begun")
    }

    fn begun(&mut self, id: Lsn, begun: &BegunTransaction) {
        let before = self.tape.held.insert(begun.group.clone(), id);
        self.demand(before.is_none(), || format!("{id} and {before:?} are on one group"));
        match begun.origin {
            Origin::Client => self.tally.direct += 1,
            Origin::Flow { .. } => self.tally.releases += 1,
            Origin::Withdrawal { .. } => self.tally.withdrawals += 1,
        }
        if let Some(key) = &begun.key {
            let before = self.tape.keys.insert(key.key, id);
            self.demand(before.is_none(), || format!("the key of {before:?} is spent twice"));
        }
        let before = begun.nodes.iter().map(|url| self.nodes[url].has(&begun.group)).collect();
        let told = Told {
            begun: begun.clone(),
            before,
            end: None,
            answered: None,
            intent: None,
            number: 0,
            sent: BTreeSet::new(),
            touched: BTreeSet::new(),
            heals: 0,
        };
        self.tape.transactions.insert(id, told);
    }

    fn over(&mut self, id: Lsn, end: End) {
        let told = self.told(id);
        let (was, group, heals) = (told.end.replace(end), told.begun.group.clone(), told.heals);
        match end {
            End::Succeeded => self.tally.succeeded += 1,
            End::RolledBack if was == Some(End::Failed) => self.tally.healed += 1,
            End::RolledBack => self.tally.rolled_back += 1,
            End::Failed => self.tally.failed += 1,
        }
        self.demand(heals == 0 || was == Some(End::Failed) || was.is_none(), || {
            format!("{id} ends as {end:?} after {was:?}")
        });
        if end == End::Failed {
            return;
        }
        self.all_are(id, end);
        let holder = self.tape.held.remove(&group);
        self.demand(holder == Some(id), || format!("{id} ends and {holder:?} holds its group"));
        let urls = self.told(id).begun.nodes.clone();
        for url in urls {
            let has = self.nodes[&url].has(&group);
            self.tape.expected.insert((url, group.clone()), has);
        }
    }

    /// All nodes of a transaction are as such an end promises.
    fn all_are(&mut self, id: Lsn, end: End) {
        let told = &self.tape.transactions[&id];
        let aim = told.begun.action.aim();
        let wrong = told.begun.nodes.iter().zip(&told.before).find(|(url, before)| {
            let promised = if end == End::Succeeded { aim } else { **before };
            self.nodes[*url].has(&told.begun.group) != promised
        });
        if let Some((url, before)) = wrong {
            let rule = format!("{id} is told to be {end:?}, and {url}, {before:?} before, is not");
            self.demand(false, || rule);
        }
    }
}
