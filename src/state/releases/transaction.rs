//! One transaction: what it is about, and what is known of each of its nodes.
//!
//! For each node three things are known: how it was before the first call, what the latest call
//! or look told, and whether something that this transaction did may be left on it. Facts change
//! them here; what is done next is decided elsewhere, by who looks at them.

use bincode::{Decode, Encode};

use crate::record::Fact;
use crate::record::releases::{
    BegunTransaction, Delayed, End, EndedTransaction, NodeAnswer, NodeOutcome, NodeSet, Presence,
    Seen, Sight, Step,
};
use crate::time::{Moment, Timestamp, Uptime};

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Transaction {
    /// What was begun.
    pub begun: BegunTransaction,
    /// When.
    pub begun_at: Timestamp,
    /// When the latest fact about it was recorded.
    pub changed_at: Timestamp,
    /// How it stands.
    pub phase: Phase,
    /// Which way it goes.
    pub heading: Heading,
    /// Tries that are over.
    pub tries: u32,
    /// Rounds of undo that were begun in this try.
    pub undos: u32,
    /// The next round of undo is not begun before this.
    pub undo_after: Uptime,
    /// Rounds of calls that were begun, over all tries: the number in the calls' keys.
    pub rounds: u32,
    /// Why it waits, or ended as it did; empty for none.
    pub reason: Box<str>,
    /// How its nodes stand, in the order of the record.
    pub nodes: Vec<Node>,
    /// What the request that began it was answered, if it came under a key.
    pub answered: Option<GivenAnswer>,
}

/// How a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Phase {
    /// It is being carried out, or undone.
    Running,
    /// It has changed nothing and waits for its next try.
    ToBeRetried,
    /// It is at an end; or failed, and then held until it is healed.
    Ended(End),
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 5] = [
        Phase::Running,
        Phase::ToBeRetried,
        Phase::Ended(End::Succeeded),
        Phase::Ended(End::RolledBack),
        Phase::Ended(End::Failed),
    ];

    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Running => "running",
            Phase::ToBeRetried => "to_be_retried",
            Phase::Ended(end) => end.name(),
        }
    }

    /// Whether the transaction holds its group: nobody else may change it.
    #[must_use]
    pub fn is_held(self) -> bool {
        !matches!(self, Phase::Ended(End::Succeeded | End::RolledBack))
    }
}

/// Which way a transaction goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Heading {
    /// To what was asked.
    Forward,
    /// Back to what was before.
    Backward,
}

/// One node of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Node {
    /// How it was before this transaction called it; `None`: not known yet, so it was not called.
    pub before: Option<Presence>,
    /// What is known of it.
    pub standing: Standing,
    /// Whether it was called to carry the action out: then it may be undone.
    pub is_touched: bool,
    /// Whether such a call has changed it, or may have, and it was not seen as before since.
    pub is_left: bool,
    /// How often it was called.
    pub calls: u32,
    /// Looks in a row that told nothing.
    pub unseen: u32,
    /// What was wrong with its latest answer that was no success.
    pub last_error: Option<Box<str>>,
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Standing {
    /// Not looked at in this try.
    #[default]
    Idle,
    /// Looked at, and to be called.
    Looked,
    /// A look told nothing.
    Unseen,
    /// It was left alone, because it has failed too often.
    Shunned {
        /// Until then.
        until: Uptime,
    },
    /// A call is intended and not answered.
    Called(Step),
    /// A call ended without telling what it did. A look from then on tells.
    Unknown {
        /// Which way the call went.
        step: Step,
        /// The call has no effect after this.
        settles_at: Uptime,
        /// What the node said of it.
        claim: Claim,
    },
    /// As was asked, by this transaction.
    Done,
    /// As was asked, and not by this transaction.
    Already,
    /// It refuses.
    Refused,
    /// A call has changed nothing.
    Unchanged,
    /// Seen as it was before.
    Clean,
}

/// What a node said of a call whose effect a look has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Claim {
    /// Nothing that says what became of it.
    None,
    /// That it was so already, although it had not been when it was looked at. If it is not, the
    /// node means something else, and will say so each time.
    Already,
}

/// What a request under a key was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct GivenAnswer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Box<[u8]>,
}

impl Node {
    /// Whether what is known of it fits together: it is looked at before it is called, and only
    /// calls leave anything.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        (!self.is_touched || self.before.is_some()) && (!self.is_left || self.is_touched)
    }

    /// How it stands, as the API tells it.
    #[must_use]
    pub fn outcome(&self) -> NodeOutcome {
        match self.standing {
            Standing::Idle | Standing::Looked => NodeOutcome::Waiting,
            Standing::Unseen | Standing::Shunned { .. } => NodeOutcome::Unreachable,
            Standing::Called(_) => NodeOutcome::Calling,
            Standing::Unknown { .. } => NodeOutcome::Unknown,
            Standing::Done => NodeOutcome::Done,
            Standing::Already => NodeOutcome::Already,
            Standing::Refused => NodeOutcome::Refused,
            Standing::Unchanged => NodeOutcome::Unchanged,
            Standing::Clean => NodeOutcome::Undone,
        }
    }

    /// Behind a loss it may be called without having been looked at. Then nothing is undone that
    /// may have been there before; and whoever was to be undone has done something.
    fn note_call(&mut self, step: Step, aim: Presence) {
        self.standing = Standing::Called(step);
        self.is_touched = true;
        match step {
            // Where it is as asked already, a call to do it changes nothing.
            Step::Do => self.is_left |= *self.before.get_or_insert(aim) != aim,
            Step::Undo => {
                self.before.get_or_insert(opposite(aim));
                self.is_left = true;
            }
        }
    }

    fn note_answer(&mut self, answer: NodeAnswer, aim: Presence, now: Uptime) {
        let Standing::Called(step) = self.standing else { return };
        let unknown = |settles_at, claim| Standing::Unknown { step, settles_at, claim };
        self.standing = match (step, answer) {
            (Step::Do, NodeAnswer::Done) => {
                self.before = Some(opposite(aim));
                self.is_left = true;
                Standing::Done
            }
            (Step::Do, NodeAnswer::Already) if self.before == Some(aim) => Standing::Already,
            (Step::Do, NodeAnswer::Already) => unknown(now, Claim::Already),
            (Step::Do, NodeAnswer::Refused { .. }) => {
                self.is_left = false;
                Standing::Refused
            }
            (_, NodeAnswer::Unknown { settles_ms }) => {
                unknown(now.plus_ms(settles_ms), Claim::None)
            }
            // Undone or not, it is seen before it is believed; also where it refuses, since an
            // undo is made, too, where nobody knows whether there is something to undo.
            (Step::Undo, _) => unknown(now, Claim::None),
        };
    }

    fn note_sight(&mut self, sight: &Sight, aim: Presence, heading: Heading, now: Uptime) {
        match sight {
            Sight::Told(presence) => {
                self.unseen = 0;
                self.note_presence(*presence, aim, heading);
            }
            Sight::Unseen { reason, again_ms } => {
                self.last_error = Some(reason.clone());
                self.note_unseen(Standing::Unseen, now.plus_ms(*again_ms));
            }
            Sight::Shunned { again_ms } => {
                let until = now.plus_ms(*again_ms);
                self.note_unseen(Standing::Shunned { until }, until);
            }
        }
    }

    fn note_unseen(&mut self, untried: Standing, again_at: Uptime) {
        self.unseen += 1;
        self.standing = match self.standing {
            Standing::Unknown { step, claim, settles_at } => {
                Standing::Unknown { step, claim, settles_at: settles_at.max(again_at) }
            }
            Standing::Idle | Standing::Looked | Standing::Unseen | Standing::Shunned { .. } => {
                untried
            }
            other => other,
        };
    }

    fn note_presence(&mut self, seen: Presence, aim: Presence, heading: Heading) {
        let is_ours = self.is_touched && self.before.is_some_and(|before| before != seen);
        self.standing =
            match self.standing {
                // The effect came later than it should have.
                Standing::Idle | Standing::Unseen | Standing::Shunned { .. } | Standing::Looked
                    if is_ours && seen == aim =>
                {
                    Standing::Done
                }
                Standing::Idle | Standing::Unseen | Standing::Shunned { .. } | Standing::Looked => {
                    self.before = Some(seen);
                    match heading {
                        Heading::Forward => Standing::Looked,
                        Heading::Backward => Standing::Clean,
                    }
                }
                Standing::Unknown { step: Step::Do, .. } if seen == aim => {
                    if self.before == Some(aim) { Standing::Already } else { Standing::Done }
                }
                Standing::Unknown { step: Step::Do, claim, .. } => {
                    self.before = Some(seen);
                    match claim {
                        Claim::Already => Standing::Refused,
                        Claim::None => Standing::Unchanged,
                    }
                }
                Standing::Unknown { step: Step::Undo, .. } | Standing::Done => {
                    if self.before == Some(seen) { Standing::Clean } else { Standing::Done }
                }
                other => other,
            };
        // What a call under way leaves, no look tells.
        if !matches!(self.standing, Standing::Called(_)) {
            self.is_left = self.standing == Standing::Done;
        }
    }

    /// Before another try: it is looked at again, unless a call may still have an effect.
    fn begin_anew(&mut self, now: Uptime) {
        self.unseen = 0;
        match self.standing {
            Standing::Called(_) => {}
            Standing::Unknown { settles_at, .. } if settles_at > now => {}
            _ => self.standing = Standing::Idle,
        }
    }
}

fn opposite(presence: Presence) -> Presence {
    match presence {
        Presence::Absent => Presence::Present,
        Presence::Present => Presence::Absent,
    }
}

impl Transaction {
    /// As it is when it has just begun.
    #[must_use]
    pub fn new(begun: BegunTransaction, at: Timestamp) -> Transaction {
        let nodes = vec![Node::default(); begun.nodes.len()];
        Transaction {
            begun,
            begun_at: at,
            changed_at: at,
            phase: Phase::Running,
            heading: Heading::Forward,
            tries: 0,
            undos: 0,
            undo_after: Uptime(0),
            rounds: 0,
            reason: Box::default(),
            nodes,
            answered: None,
        }
    }

    /// The nodes for which `is_meant` holds.
    pub fn nodes_where(&self, is_meant: impl Fn(&Node) -> bool) -> NodeSet {
        let all = (0..).zip(&self.nodes);
        all.filter(|(_, node)| is_meant(node)).map(|(place, _)| place).collect()
    }

    /// Changes it by a fact about it; other facts change nothing. One that was ended by a fact
    /// that is lost is not changed any more.
    pub fn apply(&mut self, at: Moment, fact: &Fact) {
        if !self.phase.is_held() && !matches!(fact, Fact::TransactionAnswered { .. }) {
            return;
        }
        let aim = self.begun.action.aim();
        if !matches!(fact, Fact::TransactionAnswered { .. }) {
            self.changed_at = at.wall;
        }
        match fact {
            Fact::NodesSeen { seen, .. } => {
                self.run();
                let heading = self.heading;
                for Seen { node, sight } in seen {
                    let node = self.nodes.get_mut(usize::from(*node));
                    node.into_iter().for_each(|it| it.note_sight(sight, aim, heading, at.uptime));
                }
            }
            Fact::NodesCalled { step, nodes, again_ms, .. } => {
                self.run();
                self.call(*step, *nodes, at.uptime.plus_ms(*again_ms));
            }
            Fact::NodeAnswered { node, answer, reason, .. } => {
                let node = self.nodes.get_mut(usize::from(*node));
                node.into_iter().for_each(|node| {
                    node.note_answer(*answer, aim, at.uptime);
                    if !reason.is_empty() {
                        node.last_error = Some(reason.clone());
                    }
                });
            }
            Fact::TransactionDelayed { delayed, reason, .. } => {
                self.phase = Phase::ToBeRetried;
                self.tries += u32::from(*delayed == Delayed::TryOver);
                self.reason = reason.clone();
                self.begin_anew(Heading::Forward, at.uptime);
            }
            Fact::TransactionRetried { .. } => {
                self.phase = Phase::Running;
                self.tries = 0;
                self.begin_anew(Heading::Forward, at.uptime);
            }
            Fact::HealBegun { .. } => self.begin_anew(Heading::Backward, at.uptime),
            Fact::TransactionEnded(EndedTransaction { end, reason, .. }) => {
                self.phase = Phase::Ended(*end);
                self.reason = reason.clone();
            }
            Fact::TransactionAnswered { status, body, .. } => {
                self.answered = Some(GivenAnswer { status: *status, body: body.clone() });
            }
            _ => {}
        }
    }

    /// Another reign began. A call without an answer was perhaps sent at its very end.
    pub fn abandon(&mut self, now: Uptime) {
        let settles_at = now.plus_ms(self.begun.deadline_ms);
        for node in &mut self.nodes {
            if let Standing::Called(step) = node.standing {
                node.standing = Standing::Unknown { step, settles_at, claim: Claim::None };
            }
        }
    }

    /// One that has failed stays so while it is healed.
    fn run(&mut self) {
        if self.phase == Phase::ToBeRetried {
            self.phase = Phase::Running;
        }
    }

    fn call(&mut self, step: Step, called: NodeSet, undo_after: Uptime) {
        let aim = self.begun.action.aim();
        self.rounds += 1;
        if step == Step::Undo {
            self.heading = Heading::Backward;
            self.undos += 1;
            self.undo_after = undo_after;
        }
        for (place, node) in (0..).zip(&mut self.nodes) {
            if called.contains(place) {
                node.note_call(step, aim);
                node.calls += 1;
                node.unseen = 0;
            }
        }
    }

    fn begin_anew(&mut self, heading: Heading, now: Uptime) {
        self.heading = heading;
        self.undos = 0;
        self.undo_after = now;
        self.nodes.iter_mut().for_each(|node| node.begin_anew(now));
    }
}
