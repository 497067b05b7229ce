//! What happened, so that a simulation that no longer reaches its corners is noticed.

use super::Service;
use super::tape::FactTally;

macro_rules! tally {
    ($($name:ident),* $(,)?) => {
        /// How often what happened.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Tally {
            $(pub(super) $name: u64,)*
        }

        impl Tally {
            fn numbers(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }

            pub fn add(&mut self, other: &Tally) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

tally!(
    requests,
    replayed,
    crashes,
    snapshots,
    refused_full,
    disk_full,
    limit_smaller,
    arrivals,
    arrive_alone,
    at_the_edge,
    late,
    closed,
    gone_before_call,
    settled_without_call,
    both_waited,
    others,
    others_refused,
    owed_after,
    left_late,
    unheard,
    settled_too_late,
    unmade,
    heard_twice,
    heard_again_after_crash,
    died_by_lapse,
    sealed,
    shared,
    inline,
    known_at_once,
    formulas_sealed,
    deferred,
    cut_off,
    condemned,
    announced,
    redelivered,
    told,
    gone,
);

impl Tally {
    /// Corners that chance reaches now and then.
    const RARE: [&str; 5] = ["unheard", "gone_before_call", "left_late", "owed_after", "disk_full"];

    pub fn assert_everything_happened(&self) {
        for (name, number) in self.numbers() {
            let least = if Tally::RARE.contains(&name) { 1 } else { 50 };
            assert!(number >= least, "{name} is hardly reached: {self:?}");
        }
    }
}

impl Service {
    pub(super) fn tally(&self) -> Tally {
        let FactTally {
            sealed,
            shared,
            inline,
            known_at_once,
            formulas_sealed,
            deferred,
            cut_off,
            condemned,
            announced,
            redelivered,
            told,
            gone,
        } = self.tape.tally;
        Tally {
            snapshots: self.machine.snapshots,
            arrivals: self.authority.arrivals() as u64,
            at_the_edge: self.authority.at_the_edge,
            heard_twice: self.receivers.twice,
            heard_again_after_crash: self.receivers.twice_over_a_crash,
            sealed,
            shared,
            inline,
            known_at_once,
            formulas_sealed,
            deferred,
            cut_off,
            condemned,
            announced,
            redelivered,
            told,
            gone,
            ..self.tally
        }
    }
}
