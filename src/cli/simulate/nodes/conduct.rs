//! How a node behaves: its chances, its scripts, and what `POST /behave` changes of them.
//!
//! ```json
//! {"script": ["500", "500-after", "201"], "script_get": ["404"], "group": "A"}
//! {"down": true, "release_late": true, "honour_keys": true, "add": ["A"], "remove": ["B"]}
//! {"fail": 0.3, "fail_get": 0.1, "shares": {"late": 0.2}, "shares_get": {"503": 0.2}}
//! {"slow_ms": 300, "late_ms": 4000, "flap_ms": 2000}
//! ```
//!
//! All members may be left out and stay as they were then. `fail` and `shares` are of POST and
//! DELETE, `fail_get` and `shares_get` of GET; the first of each spreads over all faults. A step
//! of a script is for one request (`script`: POST and DELETE; `script_get`: GET); with `group`,
//! for one about this group, and comes before the others. Behind the last step chance decides.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::Deserialize;

use crate::cli::simulate::chance::Share;
use crate::cli::simulate::nodes::groups::Keys;
use crate::cli::simulate::nodes::manner::{BadManner, CALL_FAULTS, LOOK_FAULTS, Manner, Shares};
use crate::cli::simulate::nodes::request::Request;
use crate::cli::simulate::step::{BadStep, Step};
use crate::limits::{SIMULATE_DELAY_MS_MAX, SIMULATE_RULES_MAX};

/// How a node behaves.
#[derive(Clone, Debug)]
pub(super) struct Conduct {
    /// What calls meet.
    pub(super) calls: Shares,
    /// What looks meet.
    pub(super) looks: Shares,
    /// Milliseconds that a slow answer takes.
    pub(super) slow_ms: u64,
    /// The most milliseconds by which an effect is late.
    pub(super) late_ms: u64,
    /// How long the node is up and then down, in milliseconds; 0: it does not flap.
    pub(super) flap_ms: u64,
    /// How far into its first period it begins, in microseconds.
    pub(super) flap_phase_us: u64,
    /// Whether it is down, flapping or not.
    pub(super) is_down: bool,
    /// What it makes of idempotency keys.
    pub(super) keys: Keys,
    /// What requests meet that are not about one of the groups below.
    pub(super) scripts: Scripts,
    /// What requests about single groups meet.
    pub(super) of_groups: BTreeMap<String, Scripts>,
}

/// Steps that are still to come.
#[derive(Clone, Debug, Default)]
pub(super) struct Scripts {
    calls: VecDeque<Step<Manner>>,
    looks: VecDeque<Step<Manner>>,
}

/// What a request meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    /// What it is.
    pub(super) manner: Manner,
    /// Milliseconds before the answer, or before a late effect.
    pub(super) delay_ms: u64,
}

impl Conduct {
    /// A node that nothing befalls.
    pub(super) fn faultless() -> Conduct {
        let never = Share::default();
        Conduct {
            calls: Shares::even(&CALL_FAULTS, never),
            looks: Shares::even(&LOOK_FAULTS, never),
            slow_ms: 0,
            late_ms: 0,
            flap_ms: 0,
            flap_phase_us: 0,
            is_down: false,
            keys: Keys::Ignored,
            scripts: Scripts::default(),
            of_groups: BTreeMap::new(),
        }
    }

    /// What a request meets that came at this time.
    pub(super) fn next(
        &mut self,
        request: &Request,
        at_us: u64,
        random: &mut fastrand::Rng,
    ) -> Fate {
        if self.is_down_at(at_us) {
            return Fate { manner: Manner::Down, delay_ms: 0 };
        }
        // All is drawn, needed or not, so that one chance does not shift the others.
        let late_ms = random.u64(0..=self.late_ms);
        let (step, drawn) = match request {
            Request::Nothing(..) => (None, Manner::Right),
            Request::Call(call) => {
                (self.step(&call.group, |of| &mut of.calls), self.calls.draw(random))
            }
            Request::Look(group) => {
                (self.step(group, |of| &mut of.looks), self.looks.draw(random).of_look())
            }
        };
        let told = step.map_or(Manner::Usual, |step| step.answer);
        let manner = if told == Manner::Usual { drawn } else { told };
        let manner = if matches!(request, Request::Look(_)) { manner.of_look() } else { manner };
        let usual_ms = match manner {
            Manner::Slow => self.slow_ms,
            Manner::Late => late_ms,
            _ => 0,
        };
        Fate { manner, delay_ms: step.and_then(|step| step.delay_ms).unwrap_or(usual_ms) }
    }

    /// Takes in what `POST /behave` brought.
    pub(super) fn tell(&mut self, body: &[u8]) -> Result<Orders, Fault> {
        let told: Told = serde_json::from_slice(body).map_err(Fault::Malformed)?;
        // Changed as a whole or not at all.
        let mut changed = self.clone();
        changed.set_chances(&told)?;
        for (setting, told_ms) in [
            (&mut changed.slow_ms, told.slow_ms),
            (&mut changed.late_ms, told.late_ms),
            (&mut changed.flap_ms, told.flap_ms),
        ] {
            *setting = told_ms.unwrap_or(*setting);
            if *setting > SIMULATE_DELAY_MS_MAX {
                return Err(Fault::Delay);
            }
        }
        changed.is_down = told.down.unwrap_or(changed.is_down);
        changed.keys = match told.honour_keys {
            Some(true) => Keys::Honoured,
            Some(false) => Keys::Ignored,
            None => changed.keys,
        };
        let calls = told.script.as_deref().map(read_script).transpose()?;
        let looks = told.script_get.as_deref().map(read_script).transpose()?;
        changed.set_scripts(told.group, calls, looks)?;
        *self = changed;
        let release_late = told.release_late.unwrap_or_default();
        Ok(Orders { release_late, add: told.add, remove: told.remove })
    }

    fn is_down_at(&self, at_us: u64) -> bool {
        let flaps = (at_us + self.flap_phase_us).checked_div(self.flap_ms * 1000);
        self.is_down || flaps.is_some_and(|flaps| flaps % 2 == 1)
    }

    /// The step for a request about the group, if there is one.
    fn step(
        &mut self,
        group: &str,
        which: impl Fn(&mut Scripts) -> &mut VecDeque<Step<Manner>>,
    ) -> Option<Step<Manner>> {
        let own = self.of_groups.get_mut(group);
        let step = own.and_then(|scripts| which(scripts).pop_front());
        if self.of_groups.get(group).is_some_and(Scripts::is_over) {
            self.of_groups.remove(group);
        }
        step.or_else(|| which(&mut self.scripts).pop_front())
    }

    fn set_chances(&mut self, told: &Told) -> Result<(), Fault> {
        if let Some(all) = told.fail {
            self.calls = Shares::even(&CALL_FAULTS, all);
        }
        if let Some(all) = told.fail_get {
            self.looks = Shares::even(&LOOK_FAULTS, all);
        }
        set_shares(&mut self.calls, &told.shares)?;
        set_shares(&mut self.looks, &told.shares_get)
    }

    fn set_scripts(
        &mut self,
        group: Option<String>,
        calls: Option<VecDeque<Step<Manner>>>,
        looks: Option<VecDeque<Step<Manner>>>,
    ) -> Result<(), Fault> {
        let scripts = match group {
            Some(group) => self.of_groups.entry(group).or_default(),
            None => &mut self.scripts,
        };
        scripts.calls = calls.unwrap_or_else(|| std::mem::take(&mut scripts.calls));
        scripts.looks = looks.unwrap_or_else(|| std::mem::take(&mut scripts.looks));
        self.of_groups.retain(|_, scripts| !scripts.is_over());
        if self.of_groups.len() > SIMULATE_RULES_MAX { Err(Fault::TooMany) } else { Ok(()) }
    }
}

impl Scripts {
    fn is_over(&self) -> bool {
        self.calls.is_empty() && self.looks.is_empty()
    }
}

fn set_shares(shares: &mut Shares, told: &BTreeMap<String, Share>) -> Result<(), Fault> {
    for (word, share) in told {
        match word.parse().map_err(Fault::Share)? {
            Manner::Usual | Manner::Right => return Err(Fault::Share(BadManner)),
            fault => shares.set(fault, *share),
        }
    }
    if shares.is_possible() { Ok(()) } else { Err(Fault::TooOften) }
}

fn read_script(steps: &[String]) -> Result<VecDeque<Step<Manner>>, Fault> {
    if steps.len() > SIMULATE_RULES_MAX {
        return Err(Fault::TooMany);
    }
    steps.iter().map(|step| step.parse().map_err(Fault::Step)).collect()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    group: Option<String>,
    script: Option<Vec<String>>,
    script_get: Option<Vec<String>>,
    down: Option<bool>,
    honour_keys: Option<bool>,
    release_late: Option<bool>,
    fail: Option<Share>,
    fail_get: Option<Share>,
    #[serde(default)]
    shares: BTreeMap<String, Share>,
    #[serde(default)]
    shares_get: BTreeMap<String, Share>,
    slow_ms: Option<u64>,
    late_ms: Option<u64>,
    flap_ms: Option<u64>,
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
}

/// What is to be done at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Orders {
    /// Whether late effects are to take place now.
    pub(super) release_late: bool,
    /// Groups that somebody else creates.
    pub(super) add: Vec<String>,
    /// Groups that somebody else deletes.
    pub(super) remove: Vec<String>,
}

/// Why it was not understood. Nothing has changed then.
#[derive(Debug)]
pub(super) enum Fault {
    /// No JSON object, or a member that is not known or has no sane value.
    Malformed(serde_json::Error),
    /// A step of a script.
    Step(BadStep<BadManner>),
    /// A word in `shares` that is no fault.
    Share(BadManner),
    /// The shares are more than 1 together.
    TooOften,
    /// A time is above `SIMULATE_DELAY_MS_MAX`.
    Delay,
    /// More steps or groups than there is room for.
    TooMany,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Malformed(error) => error.fmt(f),
            Fault::Step(bad) => bad.fmt(f),
            Fault::Share(_) => f.write_str("shares are of faults such as 500-after or late"),
            Fault::TooOften => f.write_str("the shares of all faults are at most 1 together"),
            Fault::Delay => write!(f, "times are at most {SIMULATE_DELAY_MS_MAX} ms"),
            Fault::TooMany => write!(
                f,
                "at most {SIMULATE_RULES_MAX} steps and as many groups with scripts have room"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::simulate::nodes::groups::{Action, Call};

    fn conduct() -> Conduct {
        Conduct { slow_ms: 30, late_ms: 4000, ..Conduct::faultless() }
    }

    fn call(group: &str) -> Request {
        Request::Call(Call { action: Action::Create, group: group.to_owned(), key: None })
    }

    fn look(group: &str) -> Request {
        Request::Look(group.to_owned())
    }

    fn next(conduct: &mut Conduct, request: &Request) -> Fate {
        conduct.next(request, 0, &mut fastrand::Rng::with_seed(0))
    }

    fn met(conduct: &mut Conduct, request: &Request, times: usize) -> Vec<String> {
        (0..times).map(|_| next(conduct, request).manner.to_string()).collect()
    }

    #[test]
    fn scripts_are_used_up_in_order_and_those_of_a_group_come_first() {
        let mut conduct = conduct();
        conduct.tell(br#"{"script": ["500", "late@9s"], "script_get": ["404"]}"#).expect("told");
        conduct.tell(br#"{"group": "b", "script": ["403"]}"#).expect("told");
        assert_eq!(met(&mut conduct, &call("b"), 2), ["403", "500"]);
        assert!(conduct.of_groups.is_empty());
        assert_eq!(met(&mut conduct, &look("b"), 2), ["404", "right"]);
        let fate = next(&mut conduct, &call("a"));
        assert_eq!(fate, Fate { manner: Manner::Late, delay_ms: 9000 });
        assert_eq!(met(&mut conduct, &call("a"), 1), ["right"]);
    }

    #[test]
    fn a_node_that_is_down_keeps_its_script() {
        let mut conduct = conduct();
        conduct.tell(br#"{"script": ["500"], "down": true}"#).expect("told");
        assert_eq!(met(&mut conduct, &call("a"), 2), ["down", "down"]);
        assert_eq!(met(&mut conduct, &look("a"), 1), ["down"]);
        conduct.tell(br#"{"down": false}"#).expect("told");
        assert_eq!(met(&mut conduct, &call("a"), 2), ["500", "right"]);
    }

    #[test]
    fn a_flapping_node_is_down_every_other_period() {
        let mut conduct = Conduct { flap_ms: 2000, ..conduct() };
        let found = |conduct: &mut Conduct| {
            let times_ms = [0, 1999, 2000, 3999, 4000, 6000];
            times_ms.map(|at_ms| conduct.is_down_at(at_ms * 1000))
        };
        assert_eq!(found(&mut conduct), [false, false, true, true, false, true]);
        conduct.flap_phase_us = 2_000_000;
        assert_eq!(found(&mut conduct), [true, true, false, false, true, false]);
        conduct.flap_ms = 0;
        assert_eq!(found(&mut conduct), [false; 6]);
    }

    #[test]
    fn looks_have_no_effects_to_be_late_with() {
        let mut conduct = conduct();
        conduct.tell(br#"{"script_get": ["late", "500-after", "slow"]}"#).expect("told");
        assert_eq!(met(&mut conduct, &look("a"), 3), ["timeout", "500", "slow"]);
        conduct.tell(br#"{"fail": 0.0, "fail_get": 1.0}"#).expect("told");
        assert_eq!(met(&mut conduct, &call("a"), 1), ["right"]);
        assert_ne!(met(&mut conduct, &look("a"), 1), ["right"]);
        conduct.tell(br#"{"fail_get": 0, "shares_get": {"503-after": 1}}"#).expect("told");
        assert_eq!(met(&mut conduct, &look("a"), 2), ["503", "503"]);
        assert_eq!(met(&mut conduct, &call("a"), 1), ["right"]);
    }

    #[test]
    fn shares_decide_when_no_step_is_left_or_it_says_so() {
        let mut conduct = conduct();
        let told = br#"{"shares": {"slow": 1.0}, "script": ["201", "usual", "usual@1s"]}"#;
        conduct.tell(told).expect("told");
        assert_eq!(next(&mut conduct, &call("a")), Fate { manner: Manner::Right, delay_ms: 0 });
        for delay_ms in [30, 1000, 30] {
            assert_eq!(next(&mut conduct, &call("a")), Fate { manner: Manner::Slow, delay_ms });
        }
    }

    #[test]
    fn what_is_not_understood_changes_nothing() {
        let mut conduct = conduct();
        let bad = [
            "",
            "7",
            r#"{"down": true, "script": ["302"]}"#,
            r#"{"down": true, "script": [500]}"#,
            r#"{"down": true, "script_get": ["404@2h"]}"#,
            r#"{"down": true, "fail": 1.1}"#,
            r#"{"down": true, "fail": 0.9, "shares": {"500": 0.9}}"#,
            r#"{"down": true, "fail_get": 0.9, "shares_get": {"500": 0.9}}"#,
            r#"{"down": true, "shares": {"right": 0.5}}"#,
            r#"{"down": true, "shares": {"odd": 0.5}}"#,
            r#"{"down": true, "late_ms": 3600001}"#,
            r#"{"down": true, "downn": true}"#,
        ];
        for body in bad {
            assert!(conduct.tell(body.as_bytes()).is_err(), "{body}");
            assert_eq!(met(&mut conduct, &call("a"), 1), ["right"], "{body}");
        }
    }

    #[test]
    fn what_is_to_be_done_at_once_is_handed_on() {
        let told = br#"{"release_late": true, "add": ["a"], "remove": ["b"]}"#;
        let orders = conduct().tell(told).expect("told");
        let (add, remove) = (vec!["a".to_owned()], vec!["b".to_owned()]);
        assert_eq!(orders, Orders { release_late: true, add, remove });
        assert_eq!(conduct().tell(b"{}").expect("told"), Orders::default());
    }

    #[test]
    fn scripts_are_bounded() {
        let mut conduct = conduct();
        let script = |steps: usize| format!(r#"{{"script": {:?}}}"#, vec!["500"; steps]);
        conduct.tell(script(SIMULATE_RULES_MAX).as_bytes()).expect("there is room");
        let fault = conduct.tell(script(SIMULATE_RULES_MAX + 1).as_bytes());
        assert!(matches!(fault, Err(Fault::TooMany)));
    }
}
