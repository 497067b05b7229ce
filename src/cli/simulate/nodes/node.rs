//! One node: what it does with a request, without waiting for anything.

use std::collections::BTreeMap;

use crate::cli::simulate::chance::random_of;
use crate::cli::simulate::nodes::conduct::{Conduct, Fate, Fault};
use crate::cli::simulate::nodes::groups::{Action, Call, Did, Groups, Verdict};
use crate::cli::simulate::nodes::manner::{Failing, Manner, When};
use crate::cli::simulate::nodes::request::Request;
use crate::cli::simulate::nodes::stats::{Choice, Counts, Shown, Stats, Ticket};
use crate::cli::simulate::outcome::Outcome;
use crate::cli::simulate::recent::Recent;
use crate::cli::simulate::server::Visit;
use crate::limits::{SIMULATE_IDS_MAX, SIMULATE_LATE_MAX};

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    /// Which one, from 0.
    place: usize,
    seed: u64,
    conduct: Conduct,
    groups: Groups,
    stats: Stats,
    /// Effects that are yet to take place, by the number of their request.
    late: BTreeMap<u64, Late>,
    /// How many requests of each kind about each group there were.
    drawn: Recent<u64>,
}

/// An effect that is yet to take place.
#[derive(Debug)]
struct Late {
    call: Call,
    ticket: Ticket,
}

/// What is to become of a request.
#[derive(Debug)]
pub(super) struct Plan {
    /// What it is known by.
    pub(super) ticket: Ticket,
    /// What it meets.
    pub(super) manner: Manner,
    /// What it did so far.
    pub(super) did: Did,
    /// How it ends, after a while.
    pub(super) ending: Ending,
    /// Milliseconds before it ends.
    pub(super) delay_ms: u64,
    /// Milliseconds before its effect takes place, if that is late.
    pub(super) late_ms: Option<u64>,
}

/// How a request ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With this status, and what is said of it.
    Answer(u16, &'static str),
    /// With 200 and a page.
    Page,
    /// Not at all, until the client leaves.
    Never,
    /// With a closed connection.
    Sever,
}

impl Node {
    /// A node that has seen nothing.
    pub(super) fn new(place: usize, seed: u64, conduct: Conduct, groups: Groups) -> Node {
        let (stats, drawn) = (Stats::default(), Recent::new(SIMULATE_IDS_MAX));
        Node { place, seed, conduct, groups, stats, late: BTreeMap::new(), drawn }
    }

    /// The groups on it.
    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// How many requests of each kind it has seen.
    pub(super) fn counts(&self) -> Counts {
        self.stats.counts()
    }

    /// How many effects are yet to take place.
    pub(super) fn late(&self) -> usize {
        self.late.len()
    }

    /// Takes a request: counts it, decides what it meets, and does what it does at once.
    pub(super) fn take(&mut self, visit: &Visit, request: &Request) -> Plan {
        let Fate { manner, delay_ms } = self.fate(visit, request);
        let ticket = self.stats.begin(visit, request, manner);
        let mut plan = Plan {
            ticket,
            manner,
            did: Did::Nothing,
            ending: Ending::Never,
            delay_ms,
            late_ms: None,
        };
        let fails = match manner {
            Manner::Late if self.late.len() < SIMULATE_LATE_MAX => {
                if let Request::Call(call) = request {
                    self.late.insert(visit.number, Late { call: call.clone(), ticket });
                    plan.did = Did::Pending;
                    plan.late_ms = Some(delay_ms);
                    self.stats.did(ticket, Did::Pending, visit.at_us);
                }
                return plan;
            }
            // There is no room for one more that waits.
            Manner::Late => Some(Failing::Timeout),
            Manner::Down => return Plan { ending: Ending::Sever, ..plan },
            Manner::Fails(When::Before, failing) => {
                return Plan { ending: ending_of(failing), ..plan };
            }
            Manner::Fails(When::After, failing) => Some(failing),
            Manner::Right | Manner::Slow | Manner::Usual => None,
        };
        let (verdict, words) = self.serve(request);
        self.stats.did(ticket, verdict.did, visit.at_us);
        let right = Ending::Answer(verdict.status, words);
        Plan { did: verdict.did, ending: fails.map_or(right, ending_of), ..plan }
    }

    /// A late effect takes place at this time, unless it has already.
    pub(super) fn take_effect(&mut self, number: u64, at_us: u64) -> Option<Did> {
        let Late { call, ticket } = self.late.remove(&number)?;
        let verdict = self.groups.carry_out(&call, self.conduct.keys);
        self.stats.did(ticket, verdict.did, at_us);
        Some(verdict.did)
    }

    /// Counts what became of a request.
    pub(super) fn end(&mut self, ticket: Ticket, outcome: Outcome) {
        self.stats.end(ticket, outcome);
    }

    /// Takes in what `POST /behave` brought.
    pub(super) fn tell(&mut self, visit: &Visit) -> Result<(), Fault> {
        let orders = self.conduct.tell(&visit.body)?;
        for (action, groups) in [(Action::Create, orders.add), (Action::Delete, orders.remove)] {
            for group in groups {
                self.groups.change(action, &group);
            }
        }
        while orders.release_late
            && let Some((&number, _)) = self.late.first_key_value()
        {
            self.take_effect(number, visit.at_us);
        }
        Ok(())
    }

    /// What `GET /stats` shows.
    pub(super) fn report(&self, changes: u64, choice: Choice<'_>) -> impl serde::Serialize {
        let (node, groups) = (self.place, self.groups.present());
        self.stats.report(Shown { changes, node, groups, late: self.late.len() }, choice)
    }

    /// What the request meets: the same for the same seed, node, method, group and number of such
    /// requests before, whatever else is going on.
    fn fate(&mut self, visit: &Visit, request: &Request) -> Fate {
        let group = request.group().unwrap_or_default();
        let subject = format!("{} {} {group}", self.place, visit.method);
        let count = self.drawn.of(&subject);
        *count += 1;
        let mut random = random_of(self.seed, &subject, *count);
        self.conduct.next(request, visit.at_us, &mut random)
    }

    /// Does what was asked, and says how that is answered.
    fn serve(&mut self, request: &Request) -> (Verdict, &'static str) {
        let looked = |status| Verdict { status, did: Did::Nothing };
        match request {
            Request::Call(call) => {
                let verdict = self.groups.carry_out(call, self.conduct.keys);
                let words = match verdict.status {
                    400 => "the group exists",
                    404 => "there is no such group",
                    409 => "a later call of this transaction came before",
                    507 => "there is no room for more groups",
                    _ => "",
                };
                (verdict, words)
            }
            Request::Look(group) if self.groups.has(group) => (looked(200), ""),
            Request::Look(_) => (looked(404), "there is no such group"),
            Request::Nothing(status, words) => (looked(*status), words),
        }
    }
}

fn ending_of(failing: Failing) -> Ending {
    match failing {
        Failing::Status(status) => Ending::Answer(status, "as told"),
        Failing::Garbage => Ending::Page,
        Failing::Timeout => Ending::Never,
        Failing::Sever => Ending::Sever,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hyper::{HeaderMap, Method};

    use super::*;
    use crate::limits::SIMULATE_REQUESTS_MAX;

    fn node() -> Node {
        Node::new(1, 7, Conduct::faultless(), Groups::new(BTreeSet::new()))
    }

    fn visit(number: u64, body: &str) -> Visit {
        Visit {
            place: 1,
            number,
            at_us: number * 1000,
            method: Method::POST,
            path: "/v1/group/".to_owned(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: body.to_owned().into(),
        }
    }

    fn create(node: &mut Node, number: u64) -> Plan {
        let visit = visit(number, &format!(r#"{{"groupId": "g{number}"}}"#));
        let request = Request::of(&visit);
        node.take(&visit, &request)
    }

    fn tell(node: &mut Node, told: &str) {
        node.tell(&visit(0, told)).expect("understood");
    }

    #[test]
    fn a_late_effect_takes_place_once() {
        let mut node = node();
        tell(&mut node, r#"{"script": ["late@3s"]}"#);
        let plan = create(&mut node, 1);
        assert_eq!(
            (plan.late_ms, plan.did, plan.ending),
            (Some(3000), Did::Pending, Ending::Never)
        );
        assert!(!node.groups().has("g1"));
        tell(&mut node, r#"{"release_late": true}"#);
        assert!(node.groups().has("g1"));
        tell(&mut node, r#"{"remove": ["g1"]}"#);
        assert_eq!(node.take_effect(1, 3_001_000), None);
        assert!(!node.groups().has("g1"));
    }

    #[test]
    fn late_effects_are_bounded_and_the_next_one_is_not_late() {
        let mut node = node();
        tell(&mut node, r#"{"shares": {"late": 1.0}}"#);
        for number in 1..=SIMULATE_LATE_MAX as u64 {
            assert_eq!(create(&mut node, number).did, Did::Pending);
        }
        let plan = create(&mut node, 0);
        assert_eq!((plan.late_ms, plan.did, plan.ending), (None, Did::Created, Ending::Never));
        assert_eq!(node.late(), SIMULATE_LATE_MAX);
    }

    #[test]
    fn requests_are_kept_up_to_a_bound_and_counted_beyond_it() {
        let mut node = node();
        for number in 0..SIMULATE_REQUESTS_MAX as u64 + 2 {
            let plan = create(&mut node, number);
            node.end(plan.ticket, Outcome::Status(201));
        }
        let counts = node.counts();
        assert_eq!((counts.not_kept, counts.under_way), (2, 0));
        let report = serde_json::to_value(node.report(5, Choice::default())).expect("JSON");
        assert_eq!(report["requests"].as_array().map(Vec::len), Some(SIMULATE_REQUESTS_MAX));
        assert_eq!((&report["changes"], &report["node"]), (&5.into(), &1.into()));
        assert_eq!(report["by_status"]["201"], SIMULATE_REQUESTS_MAX + 2);
    }

    #[test]
    fn a_script_does_not_shift_what_chance_has_in_store() {
        let met = |told: &str| {
            let mut node = node();
            tell(&mut node, r#"{"fail": 0.9}"#);
            tell(&mut node, told);
            let plans = (0..20).map(|_| create(&mut node, 3));
            plans.skip(2).map(|plan| plan.manner.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(met("{}"), met(r#"{"script": ["500", "late@1h"]}"#));
    }
}
