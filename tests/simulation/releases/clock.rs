//! The engine's clock, which shows the virtual time of the runtime.

use std::sync::{Mutex, PoisonError};

use sillage::time::Clock;
use tokio::time::Instant;

use crate::calls::machine::Movable;

/// Shows how much virtual time has passed; only its date can be set.
pub struct VirtualClock {
    began: Instant,
    /// The date at some moment, and that moment.
    wall_and_then: Mutex<(u64, u64)>,
}

impl VirtualClock {
    pub fn new() -> VirtualClock {
        VirtualClock { began: Instant::now(), wall_and_then: Mutex::new((1_795_000_000_000, 0)) }
    }
}

impl Clock for VirtualClock {
    fn wall_ms(&self) -> u64 {
        let (wall, then) = *self.wall_and_then.lock().unwrap_or_else(PoisonError::into_inner);
        wall + self.monotonic_ms() - then
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).expect("a life is short")
    }
}

impl Movable for VirtualClock {
    /// Time passes for everybody: whoever drives the runtime sees to it.
    fn pass_ms(&self, _ms: u64) {}

    fn set_wall(&self, wall_ms: u64) {
        let now = self.monotonic_ms();
        let mut both = self.wall_and_then.lock().unwrap_or_else(PoisonError::into_inner);
        *both = (wall_ms, now);
    }
}
