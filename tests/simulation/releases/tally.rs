//! What happened, so that it can be seen whether everything did.

use super::fate::Weather;

macro_rules! tally {
    ($($name:ident),* $(,)?) => {
        /// How often what happened.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Tally {
            $(pub $name: u64,)*
        }

        impl Tally {
            pub fn add(&mut self, other: &Tally) {
                $(self.$name += other.$name;)*
            }

            fn numbers(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

tally! {
    crashes, closed, snapshots, disk_full, reconfigured,
    direct, releases, withdrawals, withdrawn, sealed_then_due,
    succeeded, rolled_back, failed, healed, heals_failed, retried, redriven,
    tries_over, shunned_delays, undo_rounds, blind_undos,
    late_effects, arrive_alone, cut_off, sorted_out, refused_looks, shunned,
    broken, slow, down, refusing, garbled, blind, flapping, doubling,
    held, replayed, waited, answered,
}

impl Tally {
    /// Corners that chance reaches now and then.
    const RARE: [&str; 1] = ["disk_full"];

    pub fn assert_everything_happened(&self) {
        for (name, number) in self.numbers() {
            let least = if Tally::RARE.contains(&name) { 1 } else { 50 };
            assert!(number >= least, "{name} is hardly reached: {self:?}");
        }
    }

    pub fn note_weather(&mut self, weather: Weather) {
        match weather {
            Weather::Well => {}
            Weather::Broken => self.broken += 1,
            Weather::Slow => self.slow += 1,
            Weather::Down => self.down += 1,
            Weather::Refusing => self.refusing += 1,
            Weather::Garbled => self.garbled += 1,
            Weather::Blind => self.blind += 1,
            Weather::Flapping => self.flapping += 1,
            Weather::Doubling => self.doubling += 1,
        }
    }
}
